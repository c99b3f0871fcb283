// SPDX-License-Identifier: MIT
/* foundation - make, list, look at and remove segments. */
#include "foundation.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PROG "foundation"

static int cmd_help(int argc, char **argv);

static const struct command {
	const char *name;
	int (*run)(int argc, char **argv);
	const char *help;
} commands[] = {
	{ "create", cmd_create, "make a segment with a registry and a deduplication table" },
	{ "destroy", cmd_destroy, "remove a segment nobody is attached to" },
	{ "ls", cmd_ls, "list the segments of this machine" },
	{ "status", cmd_status, "figures, participants, tables and warnings of a segment" },
	{ "verify", cmd_verify, "walk a whole segment and name every structural defect" },
	{ "agents", cmd_agents, "the names in a segment's registry, and who owns them" },
	{ "tables", cmd_tables, "the tables of a segment; make or repair the runtime's own" },
	{ "context", cmd_context, "what threads are doing, and what the dead were doing" },
	{ "flags", cmd_flags, "show and change feature flags and the stage" },
	{ "rollback", cmd_rollback, "switch migration flags off, all or by component" },
	{ "config", cmd_config, "limits, thresholds, watch times, whom to call" },
	{ "journal", cmd_journal, "what happened to a segment's flags and stages" },
	{ "reap", cmd_reap, "free the slots and names of dead participants now" },
	{ "help", cmd_help, "explain a command" },
};

#define COMMANDS (sizeof(commands) / sizeof(commands[0]))

static const struct command *find_command(const char *name)
{
	for (size_t i = 0; i < COMMANDS; i++)
		if (strcmp(commands[i].name, name) == 0)
			return &commands[i];
	return NULL;
}

static void print_usage(FILE *to)
{
	fputs("Usage: " PROG " COMMAND [OPTION...] [ARGUMENT...]\n"
	      "Make, list, look at and remove shared-memory segments.\n\n", to);
	for (size_t i = 0; i < COMMANDS; i++)
		fprintf(to, "  %-10s %s\n", commands[i].name, commands[i].help);
	fputs("\n"
	      "  --help     this text; after a command: its options\n"
	      "  --version  the version\n\n"
	      "A segment is NAME, or UID/NAME for another user's; FOUNDATION_SEGMENT names the default.\n"
	      "Exit status: 0 fine, 1 found something, 2 usage, 3 cannot open or make, 4 damaged,\n"
	      "5 timeout, 6 permission, 7 done but not durable. See foundation(1).\n", to);
}

static int cmd_help(int argc, char **argv)
{
	const struct command *c;
	char option[] = "--help";

	if (argc < 2 || strcmp(argv[1], "--help") == 0) {
		print_usage(stdout);
		return tool_finish(PROG, TOOL_FINE);
	}
	c = find_command(argv[1]);
	if (!c)
		return tool_usage(PROG, "no such command: %s", argv[1]);
	if (c->run == cmd_help) {
		puts("Usage: " PROG " help [COMMAND]\nExplain a command.");
		return tool_finish(PROG, TOOL_FINE);
	}
	char *help_argv[] = { argv[1], option, NULL };

	return c->run(2, help_argv);
}

int main(int argc, char **argv)
{
	const struct command *c;

	argp_program_version = PROG " " FOUNDATION_VERSION;
	if (argc < 2) {
		print_usage(stderr);
		return TOOL_USAGE;
	}
	if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-?") == 0) {
		print_usage(stdout);
		return tool_finish(PROG, TOOL_FINE);
	}
	if (strcmp(argv[1], "--version") == 0 || strcmp(argv[1], "-V") == 0) {
		puts(argp_program_version);
		return tool_finish(PROG, TOOL_FINE);
	}
	c = find_command(argv[1]);
	if (!c)
		return tool_usage(PROG, argv[1][0] == '-' ? "unknown option: %s" : "no such command: %s",
				  argv[1]);
	return c->run(argc - 1, argv + 1);
}

/* --- what the commands that look at a segment share ----------------------------------------------- */

error_t look_parse(int key, char *arg, struct argp_state *state)
{
	struct look_options *opt = state->input;

	switch (key) {
	case LOOK_KEY_SEGMENT:
		opt->segment = arg;
		return 0;
	case LOOK_KEY_JSON:
		opt->json = true;
		return 0;
	case LOOK_KEY_ALL:
		opt->all = true;
		return 0;
	case LOOK_KEY_THREADS:
		opt->threads = true;
		return 0;
	case ARGP_KEY_ARG:
		argp_error(state, "unexpected argument: %s", arg);
		return EINVAL;
	default:
		return ARGP_ERR_UNKNOWN;
	}
}

int look_open(const char *prog, const struct look_options *opt, const char **ret_name,
	      struct fnd_observer **ret_observer)
{
	const char *name = tool_segment(opt->segment);
	int err;

	if (!name)
		return tool_usage(prog, "which segment? Give --segment or set FOUNDATION_SEGMENT");
	err = fnd_observer_open(name, ret_observer);
	if (err)
		return tool_fail(prog, name, err);
	*ret_name = name;
	return 0;
}

const char *look_liveness(uint32_t liveness)
{
	switch (liveness) {
	case FND_LIVENESS_ALIVE:
		return "alive";
	case FND_LIVENESS_DEAD:
		return "dead";
	default:
		return "unknown";
	}
}

json_t *look_liveness_json(uint32_t liveness)
{
	if (liveness == FND_LIVENESS_UNKNOWN)
		return json_null();
	return json_boolean(liveness == FND_LIVENESS_ALIVE);
}
