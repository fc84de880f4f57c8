/* ranks: 1 2 3 4
 * Every collective of comm.h at lengths 0, 1, odd, of several pieces and large; agreement; buckets
 * in flight; messages that are polled for. Expected values are computed locally from (rank, index).
 */
#include "comm/comm_device.h"
#include "comm/mpi/group.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

static comm *world;

static const int64_t lengths[] = {0, 1, 7, 64, 1001, 300007};
#define N_LENGTHS ((int)(sizeof lengths / sizeof *lengths))
static const int64_t chunks[] = {13, COMM_CHUNK};

/* A small whole number of (rank, index): sums of them are exact in fp32. */
static int value(int rank, int64_t i)
{
    return (int)((i * 31 + rank * 17) % 101) - 50;
}

static unsigned char byte_of(int from, int to, int64_t i)
{
    return (unsigned char)(i * 7 + from * 37 + to * 101 + 1);
}

/* Room for n elements, one more so that it is never NULL. */
static void *room(int64_t n, size_t width)
{
    void *p = malloc((size_t)(n + 1) * width);
    assert_non_null(p);
    memset(p, 0xA5, (size_t)(n + 1) * width);
    return p;
}

/* Runs a body for all lengths and chunk sizes; small chunks only where they make few enough pieces.
 */
#define FOR_LENGTHS(n)                                                                             \
    for (int chunk_ = 0; chunk_ < 2; chunk_++)                                                     \
        for (int l_ = 0; l_ < N_LENGTHS; l_++)                                                     \
            for (int64_t n = (world->chunk = chunks[chunk_], lengths[l_]), once_ = 1;              \
                 once_ && (chunk_ == 1 || n <= 1001); once_ = 0)

static void sums(void **state)
{
    (void)state;
    FOR_LENGTHS(n)
    {
        float *f = room(n, sizeof *f);
        double *d = room(n, sizeof *d);
        int64_t *k = room(n, sizeof *k);
        for (int64_t i = 0; i < n; i++) {
            f[i] = (float)value(world->rank, i);
            d[i] = value(world->rank, i) * 0.5;
            k[i] = value(world->rank, i) * ((int64_t)1 << 40);
        }
        f[n] = 3;
        assert_int_equal(comm_sum_f32(world, f, n), STATUS_OK);
        assert_int_equal(comm_sum_f64(world, d, n), STATUS_OK);
        assert_int_equal(comm_sum_i64(world, k, n), STATUS_OK);
        for (int64_t i = 0; i < n; i++) {
            int64_t want = 0;
            for (int r = 0; r < world->size; r++)
                want += value(r, i);
            assert_true(f[i] == (float)want && d[i] == (double)want * 0.5 &&
                        k[i] == want * ((int64_t)1 << 40));
        }
        assert_true(f[n] == 3);
        free(f);
        free(d);
        free(k);
    }
}

static void maxima(void **state)
{
    (void)state;
    FOR_LENGTHS(n)
    {
        double *d = room(n, sizeof *d);
        int64_t *k = room(n, sizeof *k);
        for (int64_t i = 0; i < n; i++) {
            d[i] = value(world->rank, i);
            k[i] = value(world->rank, i);
        }
        assert_int_equal(comm_max_f64(world, d, n), STATUS_OK);
        assert_int_equal(comm_max_i64(world, k, n), STATUS_OK);
        for (int64_t i = 0; i < n; i++) {
            int want = value(0, i);
            for (int r = 1; r < world->size; r++)
                want = value(r, i) > want ? value(r, i) : want;
            assert_true(d[i] == want && k[i] == want);
        }
        free(d);
        free(k);
    }
}

/* Sums of numbers that round: what one rank gets, all get, bit for bit. */
static void same_bits(void **state)
{
    (void)state;
    world->chunk = COMM_CHUNK;
    const int64_t n = 300007;
    float *f = room(n, sizeof *f), *first = room(n, sizeof *first);
    for (int64_t i = 0; i < n; i++)
        f[i] = 1.0f / (float)(1 + value(world->rank, i) + 60 * (1 + world->rank));
    assert_int_equal(comm_sum_f32(world, f, n), STATUS_OK);
    memcpy(first, f, (size_t)n * sizeof *f);
    assert_int_equal(comm_bcast(world, first, (size_t)n * sizeof *f, 0), STATUS_OK);
    assert_memory_equal(first, f, (size_t)n * sizeof *f);
    free(f);
    free(first);
}

static void broadcasts(void **state)
{
    (void)state;
    FOR_LENGTHS(n) for (int root = 0; root < world->size; root++)
    {
        unsigned char *p = room(n, 1);
        for (int64_t i = 0; i < n && world->rank == root; i++)
            p[i] = byte_of(root, 0, i);
        assert_int_equal(comm_bcast(world, p, (size_t)n, root), STATUS_OK);
        for (int64_t i = 0; i < n; i++)
            assert_int_equal(p[i], byte_of(root, 0, i));
        assert_int_equal(p[n], 0xA5);
        free(p);
    }
}

/* Rank r contributes n + r bytes, or nothing where that is a multiple of three. */
static size_t share(int64_t n, int r)
{
    return (n + r) % 3 == 0 ? 0 : (size_t)(n + r);
}

static void gathers(void **state)
{
    (void)state;
    FOR_LENGTHS(n) for (int root = 0; root < world->size; root++)
    {
        size_t *counts = room(world->size, sizeof *counts), all = 0, mine = share(n, world->rank);
        for (int r = 0; r < world->size; r++)
            all += counts[r] = share(n, r);
        unsigned char *send = room((int64_t)mine, 1), *one = room((int64_t)all, 1),
                      *every = room((int64_t)all, 1);
        for (size_t i = 0; i < mine; i++)
            send[i] = byte_of(world->rank, 0, (int64_t)i);
        assert_int_equal(comm_gatherv(world, send, mine, one, counts, root), STATUS_OK);
        assert_int_equal(comm_allgatherv(world, send, mine, every, counts), STATUS_OK);
        size_t at = 0;
        for (int r = 0; r < world->size; r++)
            for (size_t i = 0; i < counts[r]; i++, at++) {
                assert_int_equal(every[at], byte_of(r, 0, (int64_t)i));
                if (world->rank == root)
                    assert_int_equal(one[at], byte_of(r, 0, (int64_t)i));
            }
        assert_int_equal(every[all], 0xA5);
        free(counts);
        free(send);
        free(one);
        free(every);
    }
}

static void allgathers(void **state)
{
    (void)state;
    FOR_LENGTHS(n)
    {
        unsigned char *send = room(n, 1), *all = room(n * world->size, 1);
        for (int64_t i = 0; i < n; i++)
            send[i] = byte_of(world->rank, 1, i);
        assert_int_equal(comm_allgather(world, send, (size_t)n, all), STATUS_OK);
        for (int r = 0; r < world->size; r++)
            for (int64_t i = 0; i < n; i++)
                assert_int_equal(all[r * n + i], byte_of(r, 1, i));
        free(send);
        free(all);
    }
}

/* Bytes from a to b: uneven, some pairs nothing; gaps of one byte between parts on both sides. */
static size_t parcel(int64_t n, int a, int b)
{
    return (a + 2 * b) % 3 == 1 ? 0 : (size_t)(n + 2 * a + b);
}

static void alltoalls(void **state)
{
    (void)state;
    FOR_LENGTHS(n)
    {
        const int P = world->size, me = world->rank;
        size_t *b = room(4 * P, sizeof *b), *sb = b, *sa = b + P, *rb = b + 2 * P, *ra = b + 3 * P,
               s = 0, t = 0;
        for (int r = 0; r < P; r++) {
            sb[r] = parcel(n, me, r);
            rb[r] = parcel(n, r, me);
            sa[r] = s;
            ra[r] = t;
            s += sb[r] + 1;
            t += rb[r] + 1;
        }
        unsigned char *send = room((int64_t)s, 1), *recv = room((int64_t)t, 1);
        for (int r = 0; r < P; r++)
            for (size_t i = 0; i < sb[r]; i++)
                send[sa[r] + i] = byte_of(me, r, (int64_t)i);
        assert_int_equal(comm_alltoallv(world, send, sb, sa, recv, rb, ra), STATUS_OK);
        for (int r = 0; r < P; r++) {
            for (size_t i = 0; i < rb[r]; i++)
                assert_int_equal(recv[ra[r] + i], byte_of(r, me, (int64_t)i));
            assert_int_equal(recv[ra[r] + rb[r]], 0xA5);
        }
        free(b);
        free(send);
        free(recv);
    }
}

static void buckets(void **state)
{
    (void)state;
    FOR_LENGTHS(n)
    {
        float *x[3];
        comm_request *request[4] = {0}; /* the last stays NULL */
        for (int k = 0; k < 3; k++) {
            x[k] = room(n, sizeof **x);
            for (int64_t i = 0; i < n; i++)
                x[k][i] = (float)(value(world->rank, i) + k);
            assert_int_equal(comm_sum_start(world, x[k], n, &request[k]), STATUS_OK);
        }
        assert_int_equal(comm_wait(world, request, 4, "gradients"), STATUS_OK);
        for (int k = 0; k < 3; k++) {
            assert_null(request[k]);
            for (int64_t i = 0; i < n; i++) {
                int want = world->size * k;
                for (int r = 0; r < world->size; r++)
                    want += value(r, i);
                assert_true(x[k][i] == (float)want);
            }
            free(x[k]);
        }
    }
}

/* A rank that comes late: the others give up at the deadline and say what they waited for. */
static void deadline(void **state)
{
    (void)state;
    if (world->size == 1)
        return;
    float x = 1;
    comm_request *request;
    comm_set_timeout(world, 0.2);
    if (world->rank == 0) {
        struct timespec late = {1, 0};
        nanosleep(&late, NULL);
    }
    assert_int_equal(comm_sum_start(world, &x, 1, &request), STATUS_OK);
    if (world->rank != 0) {
        assert_int_equal(comm_wait(world, &request, 1, "buckets of step 3"), STATUS_RANK);
        assert_non_null(strstr(failure_last()->text, "buckets of step 3"));
    }
    comm_set_timeout(world, 60);
    assert_int_equal(comm_wait(world, &request, 1, "buckets"), STATUS_OK);
    assert_true(x == (float)world->size);
}

static void agreement(void **state)
{
    (void)state;
    assert_int_equal(comm_agree(world, STATUS_OK), STATUS_OK);
    for (int who = 0; who < world->size; who++) {
        /* `who` and every higher rank fail: the lowest one's message and code win. */
        status st = STATUS_OK;
        if (world->rank >= who)
            st = fail_at(__FILE__, __LINE__, world->rank == who ? STATUS_DATA : STATUS_RESOURCE,
                         "x.vcf:%d: rank %d; mend it", 12, world->rank);
        assert_int_equal(comm_agree(world, st), STATUS_DATA);
        const failure *f = failure_last();
        char want[64];
        snprintf(want, sizeof want, "x.vcf:12: rank %d; mend it", who);
        assert_string_equal(f->text, want);
        assert_int_equal(f->code, STATUS_DATA);
        assert_true(f->agreed);
        assert_non_null(f->source);
    }
    /* A status that left no record still gets a message of the right form. */
    fail_at(__FILE__, __LINE__, STATUS_USAGE, "old: old; old");
    assert_int_equal(comm_agree(world, world->rank == 0 ? STATUS_DATA : STATUS_OK), STATUS_DATA);
    assert_non_null(strstr(failure_last()->text, "; "));
    assert_null(strstr(failure_last()->text, "old"));
}

/* The end of a program: one rank's failure reaches all; one that is alone with it does not wait for
 * ever, and the others' collective goes on undisturbed. */
static void conclusion(void **state)
{
    (void)state;
    bool together;
    assert_int_equal(comm_conclude(world, STATUS_OK, 1, &together), STATUS_OK);
    assert_true(together);
    const int last = world->size - 1;
    status st = STATUS_OK;
    if (world->rank == last)
        st = fail_at(__FILE__, __LINE__, STATUS_RESOURCE, "disk: full; make room");
    assert_int_equal(comm_conclude(world, st, 5, &together), STATUS_RESOURCE);
    assert_true(together);
    assert_string_equal(failure_last()->text, "disk: full; make room");
    assert_true(failure_last()->agreed);
    if (world->size == 1)
        return;
    /* A group of its own: what is left under way in it is left for good. */
    comm *own;
    assert_int_equal(comm_split(world, 0, world->rank, &own), STATUS_OK);
    if (own->rank == last) {
        st = fail_at(__FILE__, __LINE__, STATUS_DATA, "x: torn; mend it");
        assert_int_equal(comm_conclude(own, st, 0.3, &together), STATUS_DATA);
        assert_false(together);
        assert_false(failure_last()->agreed);
    }
    assert_int_equal(comm_barrier(own), STATUS_OK);
    if (own->rank != last) /* meets the one that was given up: nothing is left open */
        assert_int_equal(comm_conclude(own, STATUS_OK, 0.3, &together), STATUS_DATA);
    else
        assert_int_equal(MPI_Bcast(&(int){STATUS_DATA}, 1, MPI_INT, last, own->mail), MPI_SUCCESS);
    char text[FAILURE_TEXT] = "x: torn; mend it";
    if (own->rank == last)
        assert_int_equal(MPI_Bcast(text, sizeof text, MPI_CHAR, last, own->mail), MPI_SUCCESS);
    assert_int_equal(comm_barrier(own), STATUS_OK);
    comm_free(&own);
}

static void splits(void **state)
{
    (void)state;
    comm *part, *node;
    /* Even ranks together in reverse order, odd ones in no group. */
    int color = world->rank % 2 == 0 ? 0 : -1;
    assert_int_equal(comm_split(world, color, -world->rank, &part), STATUS_OK);
    if (color < 0)
        assert_null(part);
    else {
        assert_int_equal(comm_size(part), (world->size + 1) / 2);
        assert_int_equal(comm_rank(part), (world->size - 1 - world->rank) / 2);
        int64_t n = 1;
        assert_int_equal(comm_sum_i64(part, &n, 1), STATUS_OK);
        assert_int_equal(n, (world->size + 1) / 2);
    }
    comm_free(&part);
    assert_null(part);
    assert_int_equal(comm_split_node(world, &node), STATUS_OK);
    assert_int_equal(comm_size(node), comm_local_size(world));
    assert_int_equal(comm_rank(node), comm_local_rank(world));
    assert_true(comm_host(node)[0] != '\0');
    comm_free(&node);
    assert_int_equal(comm_barrier(world), STATUS_OK);
}

/* Every rank posts 50 messages to every rank, itself too; all arrive, in order from each, none
 * under another tag. */
static void messages(void **state)
{
    (void)state;
    enum { PER_PAIR = 50, TAG = 7 };
    struct {
        int from, serial;
        char fill[500];
    } m, got;
    int *seen = calloc((size_t)world->size, sizeof *seen), from, total = 0;
    size_t bytes;
    assert_int_equal(comm_poll(world, &from, TAG + 1, &got, sizeof got, &bytes), STATUS_OK);
    assert_int_equal(bytes, 0);
    memset(&m, 'x', sizeof m);
    for (int k = 0; k < PER_PAIR; k++)
        for (int r = 0; r < world->size; r++) {
            m.from = world->rank;
            m.serial = k;
            assert_int_equal(comm_post(world, r, TAG, &m, sizeof m), STATUS_OK);
            m.serial = -1; /* the copy is comm's: changing ours must not show */
        }
    while (total < PER_PAIR * world->size) {
        assert_int_equal(comm_poll(world, &from, TAG, &got, sizeof got, &bytes), STATUS_OK);
        if (bytes == 0)
            continue;
        assert_int_equal(bytes, sizeof got);
        assert_int_equal(got.from, from);
        assert_int_equal(got.serial, seen[from]++);
        total++;
    }
    assert_int_equal(comm_post(world, 0, TAG, &m, 0), STATUS_INTERNAL);
    free(seen);
    assert_int_equal(comm_barrier(world), STATUS_OK);
    /* Sent copies are used again: the lists do not grow with the number of messages. */
    assert_int_equal(comm_poll(world, &from, TAG, &got, sizeof got, &bytes), STATUS_OK);
    assert_null(world->sent);
}

static void message_too_long(void **state)
{
    (void)state;
    char text[100] = "hello", little[10];
    int from;
    size_t bytes = 0;
    status st;
    assert_int_equal(comm_post(world, world->rank, 9, text, sizeof text), STATUS_OK);
    do
        st = comm_poll(world, &from, 9, little, sizeof little, &bytes);
    while (st == STATUS_OK && bytes == 0);
    assert_int_equal(st, STATUS_INTERNAL);
    assert_non_null(strstr(failure_last()->text, "100 bytes"));
}

/* A message that nobody reads must not hang the end of the program. */
static void message_unread(void **state)
{
    (void)state;
    const size_t large = 1 << 20; /* beyond MPI's eager limit */
    char *text = calloc(1, large);
    comm *own;
    assert_int_equal(comm_split(world, 0, 0, &own), STATUS_OK);
    assert_int_equal(comm_post(own, (own->rank + 1) % own->size, 3, text, large), STATUS_OK);
    free(text);
    /* comm_free gives up by itself after two seconds where it is a rendezvous. */
    comm_free(&own);
}

/* A wrong call comes back as a status that names the call. */
static void mpi_errors(void **state)
{
    (void)state;
    world->chunk = COMM_CHUNK;
    char c = 'x';
    assert_int_equal(comm_post(world, world->size + 5, 1, &c, 1), STATUS_RANK);
    assert_non_null(strstr(failure_last()->text, "MPI_Isend"));
    assert_non_null(strstr(failure_last()->text, "; "));
}

/* Where there is no such GPU, or no CUDA at all, every rank hears why. */
static void no_such_gpu(void **state)
{
    (void)state;
    comm_device *c = NULL;
    const comm_device_options o = {.backend = COMM_AUTO};
    assert_int_not_equal(comm_device_open(world, 99, NULL, &o, &c), STATUS_OK);
    assert_null(c);
    assert_non_null(strstr(failure_last()->text, "; "));
    assert_null(strstr(failure_last()->text, "undefined symbol")); /* of the module, if it is one */
    comm_device_close(&c);
}

int main(int argc, char **argv)
{
    if (comm_start(&argc, &argv, &world) != STATUS_OK) {
        fprintf(stderr, "%s\n", failure_last()->text);
        return 1;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sums),        cmocka_unit_test(maxima),
        cmocka_unit_test(same_bits),   cmocka_unit_test(broadcasts),
        cmocka_unit_test(gathers),     cmocka_unit_test(allgathers),
        cmocka_unit_test(alltoalls),   cmocka_unit_test(buckets),
        cmocka_unit_test(deadline),    cmocka_unit_test(agreement),
        cmocka_unit_test(conclusion),  cmocka_unit_test(splits),
        cmocka_unit_test(messages),    cmocka_unit_test(message_too_long),
        cmocka_unit_test(mpi_errors),  cmocka_unit_test(message_unread),
        cmocka_unit_test(no_such_gpu),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    comm_end(&world);
    return failed != 0;
}
