/* SPDX-License-Identifier: MIT */
/* msgpack as JSON, for the journal. */
#ifndef FOUNDATION_RUNTIME_JSON_VALUE_H
#define FOUNDATION_RUNTIME_JSON_VALUE_H

#include "json.h"

/* `"key":` and the first value of [@msgpack, + @bytes): null when there is none; binary is {"$bin": hex}. */
FND_JSON_HIDDEN void fnd_json_value(struct fnd_json *j, const char *key, const void *msgpack, size_t bytes);

#endif
