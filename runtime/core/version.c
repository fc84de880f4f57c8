/* The version number comes from CMakeLists.txt, the commit from git at every build. */
#include "runtime/core/version.h"

#include "version_commit.h"

const char *version_number(void)
{
    return CROCUTA_VERSION;
}

const char *version_commit(void)
{
    return CROCUTA_COMMIT;
}
