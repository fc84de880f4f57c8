/* Steps that would do harm: see steady.h. */
#include "runtime/train/steady.h"

#include <math.h>

#define NORMS 100 /* of which a mean says something; as many weigh most in it */
#define EASE 0.05 /* what a good step takes from the strain */

double steady_limit(const steady *x, double factor)
{
    return factor > 0 && x->norms >= NORMS ? factor * exp(x->norm) : 0;
}

void steady_good(steady *x, double norm)
{
    if (norm > 0) {
        const double weight = x->norms < NORMS ? 1.0 / (double)(x->norms + 1) : 1.0 / NORMS;
        x->norm += weight * (log(norm) - x->norm);
        x->norms++;
    }
    x->strain = fmax(0, x->strain - EASE);
}

bool steady_bad(steady *x, int64_t most)
{
    x->skipped++;
    x->strain += 1;
    return x->strain > (double)most - 0.5;
}
