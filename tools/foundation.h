/* SPDX-License-Identifier: MIT */
/* The sub-commands of foundation(1), and the options that several of them have. */
#ifndef FOUNDATION_TOOLS_FOUNDATION_H
#define FOUNDATION_TOOLS_FOUNDATION_H

#include <foundation/observer.h>

#include "common.h"

/* Each gets its own name as argv[0] and returns the exit status. */
int cmd_agents(int argc, char **argv);
int cmd_config(int argc, char **argv);
int cmd_context(int argc, char **argv);
int cmd_create(int argc, char **argv);
int cmd_destroy(int argc, char **argv);
int cmd_flags(int argc, char **argv);
int cmd_journal(int argc, char **argv);
int cmd_ls(int argc, char **argv);
int cmd_reap(int argc, char **argv);
int cmd_rollback(int argc, char **argv);
int cmd_status(int argc, char **argv);
int cmd_tables(int argc, char **argv);
int cmd_verify(int argc, char **argv);

/* cmd_reap.c: frees the slots of the dead and removes their names. 0, or a library error. */
int reap_dead(struct fnd_segment *seg, unsigned int *ret_processes, unsigned int *ret_names);

/* cmd_journal.c: what happened among the agents goes from the segment to the journal, as far as that works;
 * says nothing. */
void journal_take(const char *segment);

/* Options of the commands that look at one segment. */
struct look_options {
	const char *segment;
	bool json;
	bool all;
	bool threads;
};

enum { LOOK_KEY_SEGMENT = 's', LOOK_KEY_JSON = 'j', LOOK_KEY_ALL = 'a', LOOK_KEY_THREADS = 't' };

#define LOOK_OPTION_SEGMENT                                                                       \
	{ "segment", LOOK_KEY_SEGMENT, "NAME", 0,                                                 \
	  "Segment: NAME, or UID/NAME for another user's (default: $FOUNDATION_SEGMENT)", 0 }
#define LOOK_OPTION_JSON { "json", LOOK_KEY_JSON, NULL, 0, "Print JSON", 0 }

/* An argp parser for them; input: struct look_options. Takes no arguments. */
error_t look_parse(int key, char *arg, struct argp_state *state);

/* Opens the segment the options or the environment name. 0, or an exit status after a message. */
int look_open(const char *prog, const struct look_options *opt, const char **ret_name,
	      struct fnd_observer **ret_observer);

const char *look_liveness(uint32_t liveness); /* "alive", "dead", "unknown" */
json_t *look_liveness_json(uint32_t liveness); /* true, false, null */

#endif
