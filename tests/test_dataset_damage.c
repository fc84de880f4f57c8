/* ranks: 1 2
 * A damaged data set is refused in one line that names it: every kind of change to the bytes (flips
 * anywhere, cuts, padding, zeros), foreign and unfinished files, and sealed files whose tables lie
 * about types, lengths, ranges and links. No changed byte is ever used. */
#include "io/dataset.h"
#include "io/h5.h"
#include "io/seal.h"
#include "tests/dataset_fixture.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <unistd.h>

#include <cmocka.h>

#define GOOD "damage_good.h5"
#define BAD "damage_bad.h5"

static comm *world;
static uint8_t *good;
static long good_bytes;

static void must(bool ok, const char *what)
{
    if (!ok)
        fail_msg("%s: %s", what, failure_last()->text);
}

static void make_good(void)
{
    fixture f;
    fixture_make(&f, &(fixture_shape){9, 2, 600, 300, 30, 200, 5, 200}, 7);
    dataset_part p = fixture_part(&f, comm_rank(world), comm_size(world));
    must(dataset_write(GOOD, world, &p, NULL) == STATUS_OK, "write");
    fixture_free(&f);
    FILE *in = fopen(GOOD, "rb");
    must(in && fseek(in, 0, SEEK_END) == 0, "read");
    good_bytes = ftell(in);
    good = malloc((size_t)good_bytes);
    rewind(in);
    must(good && fread(good, 1, (size_t)good_bytes, in) == (size_t)good_bytes, "read");
    fclose(in);
}

static void put(const char *path, const uint8_t *bytes, long n)
{
    must(comm_barrier(world) == STATUS_OK, "barrier");
    if (comm_rank(world) == 0) {
        FILE *out = fopen(path, "wb");
        must(out && fwrite(bytes, 1, (size_t)n, out) == (size_t)n && fclose(out) == 0, "put");
    }
    must(comm_barrier(world) == STATUS_OK, "barrier");
}

static void refused(const char *what)
{
    dataset *d = NULL;
    if (dataset_open(BAD, world, &d) != STATUS_DATA)
        fail_msg("%s: not refused as damaged data", what);
    assert_null(d);
    assert_non_null(strstr(failure_last()->text, BAD ": "));
    assert_non_null(strstr(failure_last()->text, "; "));
}

static void every_bit_counts(void **state)
{
    (void)state;
    rng r = rng_at(1, RNG_TEST, 9, 9);
    char what[64];
    int flips = comm_size(world) == 1 ? 400 : 150;
    for (int i = 0; i < flips; i++) {
        /* the ends, where signature and seal stand, and anywhere */
        long at = i < 80    ? good_bytes - 1 - i
                  : i < 120 ? i - 80
                            : (long)rng_below(&r, (uint64_t)good_bytes);
        uint8_t bit = (uint8_t)(1u << rng_below(&r, 8));
        good[at] ^= bit;
        put(BAD, good, good_bytes);
        good[at] ^= bit;
        snprintf(what, sizeof what, "byte %ld of %ld", at, good_bytes);
        refused(what);
    }
}

static void cut_padded_zeroed(void **state)
{
    (void)state;
    static const int percent[] = {0, 10, 30, 50, 70, 90, 99};
    uint8_t *copy = calloc(1, (size_t)good_bytes + 4096);
    for (size_t i = 0; i < sizeof percent / sizeof *percent; i++) {
        long n = good_bytes * percent[i] / 100;
        put(BAD, good, n);
        refused("cut");
        memset(copy, 0, (size_t)good_bytes);
        memcpy(copy, good, (size_t)n);
        put(BAD, copy, good_bytes);
        refused("zeros");
    }
    put(BAD, good, good_bytes - 1);
    refused("one byte less");
    put(BAD, good, good_bytes - SEAL_BYTES);
    refused("without its seal");
    memcpy(copy, good, (size_t)good_bytes);
    memset(copy + good_bytes, 0, 4096);
    put(BAD, copy, good_bytes + 1);
    refused("one byte more");
    put(BAD, copy, good_bytes + 4096);
    refused("a page more");
    memcpy(copy + good_bytes, good + good_bytes - SEAL_BYTES, SEAL_BYTES);
    put(BAD, copy, good_bytes + SEAL_BYTES);
    refused("sealed twice");
    free(copy);
}

/* ---- files that are sealed but lie ---- */

/* Changes a copy of the good file through HDF5, then seals it anew: only our own checks are left.
 */
static void lie(const char *what, void (*change)(hid_t file), const char *says)
{
    put(BAD, good, good_bytes - SEAL_BYTES);
    if (comm_rank(world) == 0) {
        h5_quiet();
        hid_t file = H5Fopen(BAD, H5F_ACC_RDWR, H5P_DEFAULT);
        must(file >= 0, "open");
        change(file);
        must(H5Fclose(file) >= 0, "close");
    }
    must(comm_barrier(world) == STATUS_OK, "barrier");
    must(seal_write(BAD, world, DATASET_VERSION) == STATUS_OK, "seal");
    refused(what);
    if (!strstr(failure_last()->text, says))
        fail_msg("%s: \"%s\" does not say \"%s\"", what, failure_last()->text, says);
}

static void column(hid_t file, const char *name, hid_t type, int ndim, const hsize_t *dims)
{
    H5Ldelete(file, name, H5P_DEFAULT);
    hid_t space = H5Screate_simple(ndim, dims, NULL);
    hid_t set = H5Dcreate2(file, name, type, space, H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT);
    must(set >= 0, name);
    H5Dclose(set);
    H5Sclose(space);
}

static void number(hid_t file, const char *name, int64_t value)
{
    H5Adelete(file, name);
    must(h5_put_i64(file, BAD, name, value) == STATUS_OK, name);
}

/* Adds to element `at` of a table. */
static void add(hid_t file, const char *name, int64_t at, int32_t more)
{
    hid_t set = H5Dopen2(file, name, H5P_DEFAULT), space = H5Dget_space(set);
    int64_t n = H5Sget_simple_extent_npoints(space);
    int64_t *all = calloc((size_t)n + 1, 8); /* wide enough for any type */
    must(H5Dread(set, H5T_NATIVE_INT64, H5S_ALL, H5S_ALL, H5P_DEFAULT, all) >= 0, name);
    all[at] += more;
    must(H5Dwrite(set, H5T_NATIVE_INT64, H5S_ALL, H5S_ALL, H5P_DEFAULT, all) >= 0, name);
    free(all);
    H5Sclose(space);
    H5Dclose(set);
}

static void other_program(hid_t file)
{
    H5Adelete(file, "program");
    h5_put_text(file, BAD, "program", "another");
}

static void other_kind(hid_t file)
{
    H5Adelete(file, "kind");
    h5_put_text(file, BAD, "kind", "checkpoint");
}

static void no_attribute(hid_t file)
{
    H5Adelete(file, "assembly");
}

static void huge_counts(hid_t file)
{
    number(file, "people", INT64_MAX / 2);
}

static void negative_counts(hid_t file)
{
    number(file, "sites", -1);
}

static void other_version(hid_t file)
{
    number(file, "version", DATASET_VERSION + 1);
}

static void wrong_type(hid_t file)
{
    column(file, "/site/position", H5T_IEEE_F32LE, 1, (hsize_t[]){1200});
}

static void wrong_length(hid_t file)
{
    column(file, "/individual/sex", H5T_STD_U8LE, 1, (hsize_t[]){8});
}

static void wrong_rank(hid_t file)
{
    column(file, "/individual/sex", H5T_STD_U8LE, 2, (hsize_t[]){9, 1});
}

static void no_chunks(hid_t file)
{
    hid_t set = H5Dopen2(file, "/position", H5P_DEFAULT), space = H5Dget_space(set);
    hsize_t n = 0;
    H5Sget_simple_extent_dims(space, &n, NULL);
    H5Sclose(space);
    H5Dclose(set);
    column(file, "/position", H5T_STD_I32LE, 1, &n);
}

static void soft_link(hid_t file)
{
    H5Ldelete(file, "/allele", H5P_DEFAULT);
    H5Lcreate_soft("/site/ref", file, "/allele", H5P_DEFAULT, H5P_DEFAULT);
}

static void external_link(hid_t file)
{
    H5Ldelete(file, "/individual", H5P_DEFAULT);
    H5Lcreate_external(GOOD, "/individual", file, "/individual", H5P_DEFAULT, H5P_DEFAULT);
}

static void group_for_column(hid_t file)
{
    H5Ldelete(file, "/allele", H5P_DEFAULT);
    H5Gclose(H5Gcreate2(file, "/allele", H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT));
}

static void column_gone(hid_t file)
{
    H5Ldelete(file, "/missing/first", H5P_DEFAULT);
}

static void split_out_of_range(hid_t file)
{
    add(file, "/individual/split", 0, 9);
}

static void label_out_of_range(hid_t file)
{
    add(file, "/individual/label", 0, 1000);
}

static void sites_out_of_order(hid_t file)
{
    add(file, "/site/position", 5, 1000000);
}

static void index_with_hole(hid_t file)
{
    add(file, "/run/count", 2, 1);
}

static void missing_beyond(hid_t file)
{
    add(file, "/missing/count", 0, 1000000);
}

static void entry_off_site(hid_t file)
{
    add(file, "/position", 100, -1);
}

static void entry_with_spare_bits(hid_t file)
{
    add(file, "/allele", 100, 64);
}

static void sealed_lies(void **state)
{
    (void)state;
    dataset *d = NULL;
    put(BAD, good, good_bytes - SEAL_BYTES);
    must(seal_write(BAD, world, DATASET_VERSION) == STATUS_OK, "seal");
    must(dataset_open(BAD, world, &d) == STATUS_OK, "sealed again, it is the same");
    dataset_close(&d);
    lie("program", other_program, "another program");
    lie("kind", other_kind, "another kind");
    lie("version", other_version, "version 2, this program reads 1");
    lie("attribute gone", no_attribute, "no attribute `assembly`");
    lie("huge counts", huge_counts, "impossible counts");
    lie("negative counts", negative_counts, "impossible counts");
    lie("type", wrong_type, "/site/position has another type");
    lie("length", wrong_length, "/individual/sex has length 8, must be 9");
    lie("rank", wrong_rank, "must have 1 dimension");
    lie("no chunks", no_chunks, "other chunks");
    lie("soft link", soft_link, "/allele is a link to elsewhere");
    lie("external link", external_link, "/individual is a link to elsewhere");
    lie("group", group_for_column, "/allele is no data set");
    lie("column gone", column_gone, "no /missing/first");
    lie("split", split_out_of_range, "impossible sex, split, label or shard");
    lie("label", label_out_of_range, "impossible sex, split, label or shard");
    lie("site order", sites_out_of_order, "out of order");
    lie("index", index_with_hole, "holes");
    lie("missing", missing_beyond, "beyond a chromosome");
    lie("entry", entry_off_site, "not in its table of sites");
    lie("spare bits", entry_with_spare_bits, "not in its table of sites");
}

static void sealed_for_another_version(void **state)
{
    (void)state;
    put(BAD, good, good_bytes - SEAL_BYTES);
    must(seal_write(BAD, world, DATASET_VERSION + 1) == STATUS_OK, "seal");
    refused("version");
    assert_non_null(strstr(failure_last()->text, "version 2, this program reads version 1"));
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_bit_counts),
        cmocka_unit_test(cut_padded_zeroed),
        cmocka_unit_test(sealed_lies),
        cmocka_unit_test(sealed_for_another_version),
    };
    if (comm_start(&argc, &argv, &world) != STATUS_OK)
        return 1;
    make_good();
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    free(good);
    if (failed && comm_size(world) > 1)
        comm_abort(world, 1);
    if (comm_rank(world) == 0) {
        unlink(GOOD);
        unlink(BAD);
    }
    comm_end(&world);
    return failed;
}
