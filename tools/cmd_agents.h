/* SPDX-License-Identifier: MIT */
/* What the files of `foundation agents` share. */
#ifndef FOUNDATION_TOOLS_CMD_AGENTS_H
#define FOUNDATION_TOOLS_CMD_AGENTS_H

#include <foundation/runtime.h>

#include "foundation.h"

#define AGENTS_PROG "foundation agents"
#define AGENTS_WORDS_MAX (FND_CRITERIA_MAX + 1)

struct agents_options {
	struct look_options look;
	bool orphans, check, take, force, have_timeout, have_from;
	uint32_t pid;	     /* 0: not given */
	const char *metadata; /* JSON; NULL: not given */
	uint64_t count;	     /* 0: without end */
	uint64_t timeout_ms;
	uint64_t from;
	const char *word[AGENTS_WORDS_MAX];
	unsigned int words;
};

/* One name, as it is shown. */
struct agents_row {
	struct fnd_agent agent;
	uint32_t liveness; /* of the owner; DEAD where there is none */
	size_t name_bytes;
	char name[FND_AGENT_NAME_MAX + 1];
};

struct agents_list {
	struct agents_row *row;
	size_t count, room;
};

/* A place at the end, which counts when the caller adds to @count; NULL: no memory. */
struct agents_row *agents_list_next(struct agents_list *l);
void agents_list_sort(struct agents_list *l);
json_t *agents_row_json(const struct agents_row *row);
json_t *agents_list_json(const struct agents_list *l);
void agents_list_print(const struct agents_list *l);
/* An owner without its name. */
json_t *agents_owner_json(const struct fnd_owner *owner);

/* The tool as a participant. It has no names of its own, so the shared registry alone answers. */
struct agents_session {
	const struct agents_options *opt;
	const char *name;
	struct fnd_segment *seg;
	struct fnd_runtime *rt;
};

/*
 * Takes part in the segment. @make: also where it has no registry yet, which is made then. 0; or an exit
 * status after a message: TOOL_FOUND is that it has none.
 */
int agents_attach(const struct agents_options *opt, bool make, struct agents_session *ret_session);
void agents_detach(struct agents_session *s);

/* The verbs. Each returns an exit status. */
int agents_cmd_list(const struct agents_options *opt);
int agents_cmd_get(const struct agents_options *opt);
int agents_cmd_find(const struct agents_options *opt);
int agents_cmd_query(const struct agents_options *opt);
int agents_cmd_register(const struct agents_options *opt);
int agents_cmd_unregister(const struct agents_options *opt);
int agents_cmd_watch(const struct agents_options *opt);
int agents_cmd_stats(const struct agents_options *opt);
int agents_cmd_clashes(const struct agents_options *opt);
int agents_cmd_workers(const struct agents_options *opt);

#endif
