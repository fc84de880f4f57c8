/* The spellings of one parameter in published files, for the files of this room only. */
#ifndef CROCUTA_MODEL_WEIGHTS_NAMES_H
#define CROCUTA_MODEL_WEIGHTS_NAMES_H

#include "io/safetensors.h"

#include <stdbool.h>
#include <stddef.h>

/* Name without prefix (`backbone.`, `model.backbone.`, `hyena.backbone.`) and without `.layer`
 * after mixer or mlp. False where the name does not fit. */
bool weights_plain_name(const char *name, char *plain, size_t size);

/* The tensor of a plain name under any spelling, NULL where there is none. */
const safetensor *weights_find(const safetensors *s, const char *plain);

#endif
