/* SPDX-License-Identifier: MIT */
/* What the files of `foundation tables` share. */
#ifndef FOUNDATION_TOOLS_CMD_TABLES_H
#define FOUNDATION_TOOLS_CMD_TABLES_H

#include "foundation.h"

#define TABLES_PROG "foundation tables"
#define TABLES_WORDS_MAX 2

struct tables_options {
	struct look_options look;
	const char *sort; /* NULL: by name */
	const char *word[TABLES_WORDS_MAX];
	unsigned int words;
};

/* What the runtime keeps in the table of that name; NULL: it is the application's. */
const char *tables_what(const char *name);

/* Makes or repairs it. An exit status. */
int tables_cmd_ensure(const struct tables_options *opt, const char *name);

#endif
