/* ranks: 1
 * Chromosomes and sites as row tables want them: first sites, positions, and lengths that reach to
 * the last site where the header's is too short, so that its row is inside the table. */
#include "runtime/train/space.h"
#include "tests/must.h"
#include "tests/small_dataset.h"

static void lengths_reach_the_last_site(void **state)
{
    (void)state;
    small_dataset *s = small_dataset_make();
    const int32_t last = s->sites[199].position;
    position_space space;
    must(space_of_dataset(&s->d, &space));
    assert_int_equal(space.length[0], 249250621);
    space_free(&space);
    s->chromosomes[0].length = last - 5;
    must(space_of_dataset(&s->d, &space));
    assert_int_equal(space.length[0], last);
    assert_int_equal(space.length[1], 243199373);
    assert_int_equal(space.site0[1], 200);
    assert_int_equal(space.site0[2], SMALL_SITES);
    for (int i = 0; i < SMALL_SITES; i++)
        assert_int_equal(space.site_position[i], s->sites[i].position);
    space_free(&space);
    assert_null(space.length);
    free(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(lengths_reach_the_last_site)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
