/* ranks: 1 2 3
 * A data set read back equals what was written, on any number of ranks: tiny sets (fewer people
 * than ranks, empty runs), sets of several chunks, missing calls, unphased and multi-allelic ones.
 */
#include "io/dataset.h"
#include "tests/dataset_fixture.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <unistd.h>

#include <cmocka.h>

static comm *world;

#define OK(call)                                                                                   \
    do {                                                                                           \
        if ((call) != STATUS_OK)                                                                   \
            fail_msg("%s: %s", #call, failure_last()->text);                                       \
    } while (0)

static void holds(const dataset *d, const fixture *f)
{
    const dataset_part *w = &f->whole;
    int64_t runs = w->n_people * w->n_chromosomes;
    assert_string_equal(d->assembly, w->assembly);
    assert_string_equal(d->split_hash, w->split_hash);
    assert_int_equal(d->phased, w->phased);
    assert_true(d->seed == w->seed);
    assert_true(d->n_people == w->n_people && d->n_chromosomes == w->n_chromosomes);
    assert_true(d->n_sites == w->n_sites && d->n_labels == w->n_labels);
    assert_true(d->n_entries == w->run[runs] && d->n_shards == w->n_shards);
    for (int64_t i = 0; i < d->n_people; i++) {
        const individual *a = &d->people[i], *b = &w->people[i];
        assert_string_equal(a->id, b->id);
        assert_string_equal(a->population, b->population);
        assert_string_equal(a->superpopulation, b->superpopulation);
        assert_string_equal(a->family, b->family);
        assert_true(a->sex == b->sex && a->split == b->split);
        assert_true(a->label == b->label && a->shard == b->shard);
    }
    for (int64_t i = 0; i < d->n_chromosomes; i++) {
        assert_string_equal(d->chromosomes[i].name, w->chromosomes[i].name);
        assert_true(d->chromosomes[i].length == w->chromosomes[i].length);
        assert_true(d->chromosomes[i].site0 == w->chromosomes[i].site0);
        assert_true(d->chromosomes[i].sites == w->chromosomes[i].sites);
    }
    for (int64_t i = 0; i < d->n_labels; i++)
        assert_string_equal(d->labels[i], w->labels[i]);
    for (int64_t i = 0; i < d->n_sites; i++)
        assert_true(d->sites[i].position == w->sites[i].position &&
                    d->sites[i].ref == w->sites[i].ref && d->sites[i].alts == w->sites[i].alts);
    for (int64_t i = 0; i <= runs; i++)
        assert_true(d->run[i] == w->run[i] && d->missing_run_of[i] == w->missing_run_of[i]);
    for (int64_t i = 0; i < w->missing_run_of[runs]; i++)
        assert_true(d->missing[i].first == w->missing[i].first &&
                    d->missing[i].count == w->missing[i].count);
    for (int64_t i = 0; i < d->n_entries; i++)
        if (d->entries[i].site != w->entries[i].site ||
            d->entries[i].allele != w->entries[i].allele ||
            d->entries[i].mask != w->entries[i].mask)
            fail_msg("entry %lld differs", (long long)i);
}

static void roundtrip(const fixture_shape *s, uint64_t seed, double most_bytes_an_entry)
{
    const char *path = "roundtrip.h5";
    fixture f;
    dataset *d = NULL;
    int64_t bytes = 0;
    fixture_make(&f, s, seed);
    dataset_part p = fixture_part(&f, comm_rank(world), comm_size(world));
    OK(dataset_write(path, world, &p, &bytes));
    assert_int_not_equal(access("roundtrip.h5.tmp", F_OK), 0);
    OK(dataset_open(path, world, &d));
    holds(d, &f);
    if (most_bytes_an_entry > 0)
        assert_true((double)bytes / (double)d->n_entries < most_bytes_an_entry);
    OK(comm_barrier(world));
    dataset_close(&d);
    fixture_free(&f);
    if (comm_rank(world) == 0)
        assert_int_equal(unlink(path), 0);
    OK(comm_barrier(world));
}

static void tiny(void **state)
{
    (void)state;
    for (int64_t people = 1; people < 5; people++)
        roundtrip(&(fixture_shape){people, 1, 3, 500, 100, 0, 100, 0}, 5 + (uint64_t)people, 0);
}

/* Tables of people by chromosomes that are chunked, with one chromosome alone. */
static void many_people_one_chromosome(void **state)
{
    (void)state;
    roundtrip(&(fixture_shape){700, 1, 3, 500, 100, 0, 100, 0}, 6, 0);
}

static void nothing_carried(void **state)
{
    (void)state;
    roundtrip(&(fixture_shape){3, 2, 4, 0, 0, 0, 0, 0}, 1, 0);
}

static void every_kind_of_call(void **state)
{
    (void)state;
    roundtrip(&(fixture_shape){20, 4, 900, 350, 50, 500, 20, 300}, 2, 0);
}

/* 2.2 million entries: three chunks, shared by the ranks unevenly */
static void several_chunks(void **state)
{
    (void)state;
    roundtrip(&(fixture_shape){12, 4, 50000, 900, 5, 100, 1, 0}, 3, 2.7);
}

static void older_file_and_leftover(void **state)
{
    (void)state;
    if (comm_rank(world) == 0) {
        FILE *f = fopen("roundtrip.h5.tmp", "w");
        assert_non_null(f);
        fputs("what a killed import left", f);
        fclose(f);
    }
    OK(comm_barrier(world));
    roundtrip(&(fixture_shape){4, 2, 100, 300, 0, 0, 0, 0}, 4, 0);
}

static void no_such_folder(void **state)
{
    (void)state;
    fixture f;
    fixture_make(&f, &(fixture_shape){3, 1, 10, 500, 0, 0, 0, 0}, 1);
    dataset_part p = fixture_part(&f, comm_rank(world), comm_size(world));
    assert_int_equal(dataset_write("no/such/folder.h5", world, &p, NULL), STATUS_RESOURCE);
    assert_non_null(strstr(failure_last()->text, "No such file"));
    fixture_free(&f);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tiny),
        cmocka_unit_test(many_people_one_chromosome),
        cmocka_unit_test(nothing_carried),
        cmocka_unit_test(every_kind_of_call),
        cmocka_unit_test(several_chunks),
        cmocka_unit_test(older_file_and_leftover),
        cmocka_unit_test(no_such_folder),
    };
    if (comm_start(&argc, &argv, &world) != STATUS_OK)
        return 1;
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    if (failed && comm_size(world) > 1)
        comm_abort(world, 1);
    comm_end(&world);
    return failed;
}
