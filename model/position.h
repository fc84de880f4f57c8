/* Factorized Positional Embeddings: E(p) = A[row(p)] B with row(p) = floor((p-1)/alpha) for 1-based
 * p, A sparse. Only touched rows exist: an index from row to slot, and slots of k values with their
 * two moments and the last step that was applied to them (exact-lazy Adam). B, being dense, lives
 * in the model's parameters. Other encodings (sinusoidal) are a fixed tensor added at the input. */
#ifndef CROCUTA_MODEL_POSITION_H
#define CROCUTA_MODEL_POSITION_H

#include "kernels/ops.h"
#include "runtime/core/config.h"

typedef struct position_encoding position_encoding;

/* The row tables of a model, in this order: those of carried tokens by level, those of the absent
 * sites that a token skipped by level (data.absent: sums), and one by site for the site heads (G,
 * run and bias of kernels/ops.h, one after the other). At most 4 + 4 + 1. */
#define ROW_TABLES 9

/* One table of rows. Multi-resolution sums several. Arrays grow; pointers are valid until the next
 * touch. */
typedef struct {
    int64_t alpha, k, rows; /* rows: P_eff, all that could exist (shared: of the longest chromosome;
                               chromosome and site: of all together) */
    int64_t slots;          /* touched so far */
    int64_t room;           /* slots that fit; what is behind `slots` is not anybody's */
    int64_t *row;           /* (slots) row of a slot; the host's */
    float *p, *m, *v;       /* (slots, k); these three and last are the device's */
    int64_t *last;          /* (slots) last step applied, -1: none */
} row_table;

/* What the encoding must know of the data: chromosome lengths (rows: shared, chromosome) and site
 * positions (site). */
typedef struct {
    int64_t n_chromosomes;
    const int64_t *length; /* bp */
    const int64_t *site0;  /* first site of each chromosome, n_chromosomes + 1 */
    const int32_t *site_position;
} position_space;

/* Tables of any row number, for rows that are carried from file to file or come with shared
 * positions: only rows: shared can look positions up in it. */
extern const position_space position_unbounded;

/* Levels of a configuration: 0 without rows, 1 for fpe, 4 (alpha 1, 10, 100, 1000) for fpe-multi.
 */
int position_levels(const config *c);
/* Refuses what does not exist (STATUS_USAGE, naming the key). */
status position_check(const config *c);

/* Columns of numbers in the memory of `dev`. space NULL: enough for rows: shared with a
 * position.length. head_classes: of the site head, 0: none. */
status position_open(device *dev, const config *c, int head_classes, const position_space *space,
                     uint64_t seed, position_encoding **out);
void position_close(position_encoding **x);
int position_tables(position_encoding *x, row_table **tables); /* their number */

/* Row of a site in any table; -1: none. */
int64_t position_row_of_site(const position_encoding *x, int table, int32_t chromosome,
                             int32_t site);

/* Makes the site head's rows of all sites, with the given biases (sites, classes): class-wise
 * log-odds of carrying the site, or NULL for zeros. taught (sites) 0: no training window will hold
 * the site, its row is the bias alone (what was drawn for it would be noise); NULL: all will. */
status position_site_biases(position_encoding *x, const float *log_odds, const uint8_t *taught);

/* Row of a token, or -1 (beyond the table, no site). */
int64_t position_row(const position_encoding *x, int level, int32_t chromosome, int64_t position,
                     int32_t site);

/* Rows to slots for n tokens; `create`: untouched rows get a slot with their initial value (init),
 * otherwise an untouched row is -1 (init: zero) or lives in a scratch slot (from `slots` on) until
 * the next call (init: normal). */
status position_slots(position_encoding *x, int level, int64_t n, const int64_t *row, bool create,
                      int32_t *slot);
/* Scratch slots of the last call: they follow the table's own. */
int64_t position_scratch(const position_encoding *x, int level);

/* Replaces a table by rows that the host has, for checkpoints: see row_table. They must be distinct
 * and within the table (STATUS_DATA). m, v, last may be NULL: moments zero, as if never updated. */
status position_restore(position_encoding *x, int level, int64_t slots, const int64_t *row,
                        const float *p, const float *m, const float *v, const int64_t *last);

/* Room for so many touched rows of a table, before the first of them comes; it grows where there
 * are more. */
status position_reserve(position_encoding *x, int table, int64_t slots);

/* Bytes of a table with room for so many of `rows`, and what the encoding keeps of every site. */
int64_t position_table_bytes(int64_t slots, int64_t rows, int64_t k);
int64_t position_site_bytes(const config *c, int head_classes, int64_t n_sites);

/* Bytes the tables take now, and what a dense fp32 table with gradient and two moments would take.
 */
int64_t position_bytes(const position_encoding *x);
int64_t position_dense_bytes(const position_encoding *x);

/* sinusoidal: added[c, b, t] for positions (B, Lp); 0: no encoding (pads). Channels 2i and 2i + 1
 * are sine and cosine of position / 10000^(2i/d) (Vaswani et al. 2017, section 3.5), arguments
 * reduced in double. */
void position_sinusoid(int64_t d, int64_t columns, const int64_t *position, float *added);

#endif
