/* Optimal string alignment distance, and the choice of the nearest name by it. */
#include "runtime/core/nearest.h"

#include <string.h>

#define LONGEST 63

static int least(int a, int b)
{
    return a < b ? a : b;
}

int nearest_distance(const char *a, const char *b)
{
    int n = (int)strnlen(a, LONGEST), m = (int)strnlen(b, LONGEST);
    int cost[3][LONGEST + 1]; /* rows i - 2, i - 1, i, in turns */
    for (int j = 0; j <= m; j++)
        cost[0][j] = j;
    for (int i = 1; i <= n; i++) {
        int *now = cost[i % 3], *up = cost[(i + 2) % 3], *upup = cost[(i + 1) % 3];
        now[0] = i;
        for (int j = 1; j <= m; j++) {
            int same = a[i - 1] == b[j - 1];
            now[j] = least(up[j - 1] + !same, least(up[j], now[j - 1]) + 1);
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
                now[j] = least(now[j], upup[j - 2] + 1);
        }
    }
    return cost[n % 3][m];
}

void nearest_offer(nearest *n, const char *known)
{
    int limit = (int)strlen(n->name) / 3; /* beyond a third of its letters it was another word */
    int distance = nearest_distance(n->name, known);
    if (distance > (limit > 2 ? limit : 2) || (n->best && distance >= n->distance))
        return;
    n->best = known;
    n->distance = distance;
}
