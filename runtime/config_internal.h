/* SPDX-License-Identifier: MIT */
#ifndef FOUNDATION_RUNTIME_CONFIG_INTERNAL_H
#define FOUNDATION_RUNTIME_CONFIG_INTERNAL_H

#include <foundation/config.h>

#include "json.h"

#define FND_CONFIG_HIDDEN __attribute__((visibility("hidden")))

#define FND_CONFIG_SAMPLING "lookup.sampling"

/* @text as it is stored: numbers in decimal and in their unit. 0, -EINVAL, -ERANGE or -E2BIG with a detail. */
FND_CONFIG_HIDDEN int fnd_config_canonical(const struct fnd_config_definition *d, const char *text,
					   char ret_value[FND_CONFIG_TEXT_MAX + 1]);

/* For who appends to the journal of a segment: gives @j the limits that are set, and writes all that is set, for a
 * file that begins with it. As far as there is a journal, and room for the table. */
FND_CONFIG_HIDDEN void fnd_config_carry(struct fnd_segment *seg, struct fnd_journal *j, struct fnd_json *to);

#endif
