/* ranks: 2 3   on: gpu   links: train
 * Sequences shared by workers with GPUs: what the model computes and learns of them is what it does
 * with whole sequences on one, by both backends; exchanges overlap with the transforms, so that the
 * order of the streams must not matter; fp32 and mixed. */
#include "tests/hostcuda/group_fixture.h"

#include "tests/context_fixture.h"

static device *dev;

static void shared_by(comm_backend backend)
{
    static const context_case cases[] = {
        {1, 70, 8, 2, 1, 0.3, KEEP_INPUT, true, false},
        {2, 36, 5, 3, 1, 0, KEEP_SELECTED, false, false},
        {1, 36, 8, 2, 1, 0, KEEP_SELECTED, false, true},
    };
    comm_device *gpus = NULL;
    OK(comm_device_open(world, gpu, dev->stream, &(comm_device_options){.backend = backend},
                        &gpus));
    const context_group g = {.group = world, .gpus = gpus, .size = world->size};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        compare(&cases[i], dev, &g);
    comm_device_close(&gpus);
}

static void by_auto(void **state)
{
    (void)state;
    shared_by(COMM_AUTO);
}

static void by_mpi(void **state)
{
    (void)state;
    shared_by(COMM_MPI);
}

int main(int argc, char **argv)
{
    start(&argc, &argv);
    if (device_open_cuda(gpu, 1, &dev) != STATUS_OK)
        return 1;
    dev->checked = getenv("CHECKED") != NULL;
    const struct CMUnitTest tests[] = {cmocka_unit_test(by_auto), cmocka_unit_test(by_mpi)};
    const int failed = cmocka_run_group_tests(tests, NULL, NULL);
    device_close_cuda(dev);
    free(dev);
    finish();
    return failed != 0;
}
