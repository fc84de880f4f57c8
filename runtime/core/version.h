/* What this build is: for --version, versions.json and the first line of a log. */
#ifndef CROCUTA_CORE_VERSION_H
#define CROCUTA_CORE_VERSION_H

const char *version_number(void); /* "0.1.0" */
const char *
version_commit(void); /* git's name of the commit, "-dirty" where the tree differed; or "unknown" */

#endif
