/* ranks: 1 3
 * Draws: pure functions, the same whoever wrote and reads the set; every level uniform (chi-square
 * against an enumeration); no window beyond a gap, a chromosome or a person; pieces shorter than,
 * equal to and longer than a window; virtual shards; tiles as a direct cut gives them; haplotypes
 * and unphased calls. */
#include "io/draws.h"
#include "tests/dataset_fixture.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <unistd.h>

#include <cmocka.h>

#define MAX_GAP 200000

static comm *world;

static void must(status st, const char *what)
{
    if (st != STATUS_OK)
        fail_msg("%s: %s", what, failure_last()->text);
}

/* Writes and opens the fixture's set with the ranks of c. */
static dataset *set_of(fixture *f, comm *c, const char *path)
{
    dataset *d = NULL;
    dataset_part p = fixture_part(f, comm_rank(c), comm_size(c));
    must(dataset_write(path, c, &p, NULL), "write");
    must(dataset_open(path, c, &d), "open");
    must(dataset_block(d, MAX_GAP), "block");
    must(comm_barrier(c), "barrier");
    if (comm_rank(c) == 0)
        unlink(path);
    return d;
}

static config_data setting(alleles_kind alleles, sharding_kind sharding, int64_t seq_len)
{
    return (config_data){.alleles = alleles,
                         .sharding = sharding,
                         .seq_len = seq_len,
                         .max_gap = MAX_GAP,
                         .sampling = SAMPLING_STRATIFIED,
                         .unphased = UNPHASED_DROP};
}

static draws *draws_of(const dataset *d, config_data c, uint64_t seed)
{
    draws *x = NULL;
    must(draws_open(d, &c, seed, &x), "draws_open");
    return x;
}

static bool carries(const entry *e, int hap)
{
    return hap == 0 || (e->mask & hap);
}

/* Carried entries of a person, chromosome and haplotype in one block, by a plain walk: *first is
 * the entry index of number `skip` among them. */
static int64_t naive_piece(const dataset *d, int64_t person, int64_t c, int hap, int32_t block,
                           int64_t skip, int64_t *first)
{
    int64_t run = person * d->n_chromosomes + c, n = 0;
    for (int64_t e = d->run[run]; e < d->run[run + 1]; e++)
        if (d->block[d->entries[e].site] == block && carries(&d->entries[e], hap)) {
            if (n == skip)
                *first = e;
            n++;
        }
    return n;
}

/* A window's tokens are consecutive carried entries of one person in one block. */
static void is_sound(const dataset *d, const draws *x, window w, int64_t length)
{
    uint8_t ids[64];
    int32_t position[64], at_site[64];
    assert_true(w.count == length && length <= 64);
    draws_fill(x, &w, ids, position, at_site);
    int64_t e = draws_entry(x, w.first), run = (int64_t)w.person * d->n_chromosomes + w.chromosome;
    for (int64_t i = 0; i < length; i++, e++) {
        while (!carries(&d->entries[e], w.hap))
            e++;
        assert_true(e >= d->run[run] && e < d->run[run + 1]);
        assert_int_equal(draws_entry(x, w.first + i), e);
        assert_int_equal(at_site[i], d->entries[e].site);
        assert_int_equal(ids[i], 7 + d->entries[e].allele);
        assert_int_equal(position[i], d->sites[at_site[i]].position);
        assert_int_equal(d->block[at_site[i]], d->block[at_site[0]]);
    }
}

static bool equal(window a, window b)
{
    return a.person == b.person && a.chromosome == b.chromosome && a.hap == b.hap &&
           a.first == b.first && a.count == b.count;
}

static const fixture_shape several = {30, 3, 400, 400, 50, 300, 20, 90};

static void pure_and_sound(void **state)
{
    (void)state;
    fixture f;
    fixture_make(&f, &several, 11);
    dataset *d = set_of(&f, world, "draws.h5");
    for (int alleles = ALLELES_UNION; alleles <= ALLELES_HAPLOTYPE; alleles++) {
        config_data c = setting((alleles_kind)alleles, SHARDING_VIRTUAL, 8);
        draws *x = draws_of(d, c, 5), *y = draws_of(d, c, 5), *z = draws_of(d, c, 6);
        int differ = 0;
        for (int64_t i = 0; i < 600; i++) {
            int64_t length = 1 + i % 30;
            window w = draws_train(x, i / 7, i, length);
            is_sound(d, x, w, length);
            assert_int_equal(d->people[w.person].split, SPLIT_TRAIN);
            assert_int_equal(d->people[w.person].shard, i % d->n_shards);
            assert_true(alleles == ALLELES_UNION ? w.hap == 0 : w.hap == 1 || w.hap == 2);
            differ += !equal(w, draws_train(z, i / 7, i, length));
            window v = draws_valid(x, i, length);
            is_sound(d, x, v, length);
            assert_int_equal(d->people[v.person].split, SPLIT_VALID);
            assert_true(equal(v, draws_valid(y, i, length)));
        }
        assert_true(differ > 500); /* another seed, other windows */
        for (int64_t i = 599; i >= 0;
             i--) /* backwards, from another index: history does not matter */
            assert_true(
                equal(draws_train(x, i / 7, i, 1 + i % 30), draws_train(y, i / 7, i, 1 + i % 30)));
        draws_close(&x);
        draws_close(&y);
        draws_close(&z);
    }
    dataset_close(&d);
    fixture_free(&f);
}

/* A number of a thousand draws, for comparing runs. */
static int64_t fingerprint(const dataset *d)
{
    draws *x = draws_of(d, setting(ALLELES_UNION, SHARDING_VIRTUAL, 8), 5);
    uint64_t sum = 0;
    for (int64_t i = 0; i < 1000; i++) {
        window w = draws_train(x, i, i * 3, 8);
        sum = sum * 1000003 + (uint64_t)w.first * 31 + (uint64_t)w.person;
    }
    draws_close(&x);
    return (int64_t)(sum >> 2);
}

static void same_on_any_ranks(void **state)
{
    (void)state;
    fixture f;
    comm *alone = NULL;
    char path[64];
    fixture_make(&f, &several, 12);
    dataset *together = set_of(&f, world, "draws.h5");
    int64_t most = fingerprint(together), least = -most;
    must(comm_split(world, comm_rank(world), 0, &alone), "split");
    snprintf(path, sizeof path, "draws_%d.h5", comm_rank(world));
    dataset *own = set_of(&f, alone, path);
    assert_true(fingerprint(own) == most);
    must(comm_max_i64(world, &most, 1), "max");
    must(comm_max_i64(world, &least, 1), "max");
    assert_true(most == -least);
    dataset_close(&own);
    dataset_close(&together);
    comm_free(&alone);
    fixture_free(&f);
}

/* ---- uniformity ---- */

/* Probability that the contract gives to every start of every piece of the training people. */
static double *expected(const dataset *d, int64_t length, const piece *pieces, int64_t n,
                        int64_t *cells)
{
    int64_t people[3] = {0};
    int classes = 0;
    *cells = 0;
    int64_t *chromosomes = calloc((size_t)d->n_people, sizeof *chromosomes);
    int64_t *starts = calloc((size_t)(d->n_people * d->n_chromosomes), sizeof *starts);
    for (int64_t i = 0; i < n; i++)
        if (pieces[i].count >= length) {
            int64_t *s = &starts[pieces[i].person * d->n_chromosomes + pieces[i].chromosome];
            chromosomes[pieces[i].person] += *s == 0;
            *s += pieces[i].count - length + 1;
        }
    for (int64_t p = 0; p < d->n_people; p++)
        if (d->people[p].split == SPLIT_TRAIN && chromosomes[p])
            people[d->people[p].label]++;
    for (int k = 0; k < 3; k++)
        classes += people[k] > 0;
    double *share = calloc((size_t)d->n_entries + 1, sizeof *share);
    for (int64_t i = 0; i < n; i++) {
        int64_t p = pieces[i].person;
        if (d->people[p].split != SPLIT_TRAIN)
            continue;
        for (int64_t s = 0; s + length <= pieces[i].count; s++) {
            share[pieces[i].first + s] =
                1.0 / classes / (double)people[d->people[p].label] / (double)chromosomes[p] /
                (double)starts[p * d->n_chromosomes + pieces[i].chromosome];
            ++*cells;
        }
    }
    free(chromosomes);
    free(starts);
    return share;
}

static void uniform_at_every_level(void **state)
{
    (void)state;
    const int64_t n = 200000, length = 8;
    fixture f;
    fixture_make(&f, &(fixture_shape){20, 3, 60, 400, 0, 0, 0, 25}, 13);
    dataset *d = set_of(&f, world, "draws.h5");
    draws *x = draws_of(d, setting(ALLELES_UNION, SHARDING_REPLICATED, length), 3);
    const piece *pieces;
    int64_t n_pieces = draws_pieces(x, &pieces), cells;
    double *share = expected(d, length, pieces, n_pieces, &cells), total = 0, chi = 0;
    int64_t *seen = calloc((size_t)d->n_entries + 1, sizeof *seen);
    for (int64_t i = 0; i < n; i++)
        seen[draws_train(x, i / 64, i % 64, length).first]++;
    for (int64_t e = 0; e < d->n_entries; e++) {
        double want = share[e] * (double)n;
        total += share[e];
        if (want == 0)
            assert_true(seen[e] == 0);
        else
            chi += ((double)seen[e] - want) * ((double)seen[e] - want) / want;
    }
    assert_true(fabs(total - 1) < 1e-9);
    assert_true(cells > 100);
    double df = (double)(cells - 1), spread = 5 * sqrt(2 * df);
    assert_true(chi > df - spread && chi < df + spread);
    free(seen);
    free(share);
    draws_close(&x);
    dataset_close(&d);
    fixture_free(&f);
}

/* ---- pieces about a window long ---- */

/* People who carry the first 7, 8, 9 and 0 of nine sites on one chromosome, all training. */
static void runs_about_a_window(fixture *f)
{
    static const int64_t length[] = {7, 8, 9, 0};
    fixture_make(f, &(fixture_shape){4, 1, 9, 0, 0, 0, 0, 0}, 1);
    int64_t e = 0;
    for (int64_t p = 0; p < 4; p++) {
        f->run[p] = e;
        for (int64_t i = 0; i < length[p]; i++) {
            f->sites[i].alts = (uint8_t)(1 << ((f->sites[i].ref + 1) % 4));
            f->entries[e++] = (entry){(int32_t)i, (uint8_t)((f->sites[i].ref + 1) % 4), 2};
        }
        f->people[p].split = SPLIT_TRAIN;
        f->people[p].shard = 0;
    }
    f->run[4] = e;
    f->whole.n_shards = 1;
}

static void shorter_equal_longer(void **state)
{
    (void)state;
    fixture f;
    runs_about_a_window(&f);
    dataset *d = set_of(&f, world, "draws.h5");
    draws *x = draws_of(d, setting(ALLELES_UNION, SHARDING_VIRTUAL, 8), 2), *none = NULL;
    int count[4] = {0}, second = 0;
    for (int64_t i = 0; i < 4000; i++) {
        window w = draws_train(x, i, 0, 8);
        is_sound(d, x, w, 8);
        count[w.person]++;
        second += w.person == 2 && w.first == d->run[2] + 1;
    }
    assert_true(count[0] == 0 && count[3] == 0);
    assert_in_range(count[1], 1800, 2200);
    assert_in_range(second, 850, 1150);
    assert_int_equal(draws_train(x, 0, 0, 9).person, 2);
    assert_int_equal(draws_train(x, 0, 0, 10).count, 0);
    assert_int_equal(draws_valid(x, 0, 1).count, 0); /* nobody validates here */
    assert_int_equal(draws_longest(x, SPLIT_TRAIN), 9);
    draws_close(&x);
    config_data c = setting(ALLELES_UNION, SHARDING_VIRTUAL, 10);
    assert_int_equal(draws_open(d, &c, 2, &none), STATUS_DATA);
    assert_null(none);
    assert_non_null(strstr(failure_last()->text, "window of 10 "));
    assert_non_null(strstr(failure_last()->text, "longest 9;"));
    /* haplotype 1 carries nothing: all windows lie on the second */
    x = draws_of(d, setting(ALLELES_HAPLOTYPE, SHARDING_VIRTUAL, 8), 2);
    for (int64_t i = 0; i < 200; i++)
        assert_int_equal(draws_train(x, i, 0, 8).hap, 2);
    draws_close(&x);
    dataset_close(&d);
    fixture_free(&f);
}

/* A shard without a class, and one in which nobody fits. */
static void poor_shards(void **state)
{
    (void)state;
    fixture f;
    runs_about_a_window(&f);
    f.whole.n_shards = 3; /* person 2 alone in shard 1, person 3 (who carries nothing) in shard 2 */
    f.people[2].shard = 1;
    f.people[3].shard = 2;
    dataset *d = set_of(&f, world, "draws.h5");
    draws *x = draws_of(d, setting(ALLELES_UNION, SHARDING_VIRTUAL, 8), 2);
    for (int64_t slot = 0; slot < 300; slot++) {
        window w = draws_train(x, 1, slot, 8);
        assert_int_equal(w.person, slot % 3 == 1 ? 2 : 1); /* shard 2 gives way to shard 0 */
    }
    draws_close(&x);
    dataset_close(&d);
    fixture_free(&f);
}

/* ---- tiles and haplotypes ---- */

static void tiles_as_cut(void **state)
{
    (void)state;
    fixture f;
    fixture_make(&f, &several, 14);
    dataset *d = set_of(&f, world, "draws.h5");
    for (int alleles = ALLELES_UNION; alleles <= ALLELES_HAPLOTYPE; alleles++) {
        draws *x = draws_of(d, setting((alleles_kind)alleles, SHARDING_VIRTUAL, 0), 1);
        for (int64_t length = 5; length <= 20; length += 15) {
            int64_t stride = length == 5 ? 5 : 10, n, at = 0;
            window *list;
            must(draws_tile(x, SPLIT_TEST, length, stride, &list, &n), "tile");
            int first_hap = alleles == ALLELES_UNION ? 0 : 1, last_hap = 2 * first_hap;
            for (int64_t p = 0; p < d->n_people; p++)
                for (int64_t c = 0; c < d->n_chromosomes; c++)
                    for (int hap = first_hap; hap <= last_hap; hap++)
                        for (int32_t b = 0; b < d->n_blocks; b++) {
                            int64_t e = -1, carried = naive_piece(d, p, c, hap, b, 0, &e);
                            if (d->people[p].split != SPLIT_TEST)
                                continue;
                            for (int64_t s = 0; s + length <= carried; s += stride, at++) {
                                naive_piece(d, p, c, hap, b, s, &e);
                                assert_true(at < n);
                                assert_true(list[at].person == p && list[at].chromosome == c);
                                assert_true(list[at].hap == hap && list[at].count == length);
                                assert_int_equal(draws_entry(x, list[at].first), e);
                                is_sound(d, x, list[at], length);
                            }
                        }
            assert_int_equal(at, n);
            assert_true(n > 20);
            free(list);
        }
        draws_close(&x);
    }
    dataset_close(&d);
    fixture_free(&f);
}

static void unphased_refused_or_dropped(void **state)
{
    (void)state;
    fixture f;
    fixture_make(&f, &several, 15);
    dataset *d = set_of(&f, world, "draws.h5");
    config_data c = setting(ALLELES_HAPLOTYPE, SHARDING_VIRTUAL, 4);
    draws *x = NULL;
    c.unphased = UNPHASED_REFUSE;
    assert_int_equal(draws_open(d, &c, 1, &x), STATUS_DATA);
    assert_non_null(strstr(failure_last()->text, "of person0 cannot be put on haplotypes"));
    c.alleles = ALLELES_UNION; /* no haplotypes asked for: nothing to refuse */
    must(draws_open(d, &c, 1, &x), "union");
    draws_close(&x);
    c = setting(ALLELES_HAPLOTYPE, SHARDING_VIRTUAL, 4);
    must(draws_open(d, &c, 1, &x), "drop");
    const piece *pieces;
    int64_t n = draws_pieces(x, &pieces), carried = 0, want = 0;
    for (int64_t i = 0; i < n; i++)
        carried += pieces[i].count;
    for (int64_t e = 0; e < d->n_entries; e++)
        want += (d->entries[e].mask & 1) + (d->entries[e].mask >> 1 & 1);
    assert_int_equal(carried, want);
    draws_close(&x);
    dataset_close(&d);
    fixture_free(&f);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pure_and_sound),
        cmocka_unit_test(same_on_any_ranks),
        cmocka_unit_test(uniform_at_every_level),
        cmocka_unit_test(shorter_equal_longer),
        cmocka_unit_test(poor_shards),
        cmocka_unit_test(tiles_as_cut),
        cmocka_unit_test(unphased_refused_or_dropped),
    };
    if (comm_start(&argc, &argv, &world) != STATUS_OK)
        return 1;
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    if (failed && comm_size(world) > 1)
        comm_abort(world, 1);
    comm_end(&world);
    return failed;
}
