# Writes version_commit.h where the commit has changed. Run at every build: `cmake -DSOURCE=.. -DTO=.. -P version.cmake`.
execute_process(COMMAND git -C ${SOURCE} describe --always --dirty --abbrev=12 --exclude=*
                OUTPUT_VARIABLE commit OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET RESULT_VARIABLE failed)
if(failed OR NOT commit)
  set(commit unknown)
endif()
set(text "#define CROCUTA_VERSION \"${VERSION}\"\n#define CROCUTA_COMMIT \"${commit}\"\n")
set(before "")
if(EXISTS ${TO})
  file(READ ${TO} before)
endif()
if(NOT before STREQUAL text)
  file(WRITE ${TO} "${text}")
endif()
