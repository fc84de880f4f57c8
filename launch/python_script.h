/* Pictures are made by scripts of experiments/ with the Python environment that the set-up made;
 * nothing else of the program needs Python. */
#ifndef CROCUTA_LAUNCH_PYTHON_SCRIPT_H
#define CROCUTA_LAUNCH_PYTHON_SCRIPT_H

#include "runtime/core/status.h"

#include <stdbool.h>

#define SCRIPT_ARGUMENTS 80

/* Is there a Python environment (build/venv beside the script, or CROCUTA_PYTHON)? */
bool python_there(const char *script);

/* Runs experiments/SCRIPT with arguments (ending with NULL, at most SCRIPT_ARGUMENTS). Its one line
 * of error becomes ours, with its status; what else it says on stderr is passed on. */
status python_run(const char *script, const char *const *arguments);

#endif
