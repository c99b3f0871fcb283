// SPDX-License-Identifier: MIT
/* foundation destroy: remove a segment's name. */
#include "foundation.h"

#include <foundation/journal.h>

#define PROG "foundation destroy"

struct destroy_options {
	const char *name;
	unsigned int flags;
	bool purge;
};

static const struct argp_option options[] = {
	{ "force", 'f', NULL, 0, "Also while participants live, and when the segment is damaged", 0 },
	{ "purge", 'p', NULL, 0, "Also remove the state journal: a new segment of this name has all flags off", 0 },
	{ 0 }
};

static error_t parse(int key, char *arg, struct argp_state *state)
{
	struct destroy_options *opt = state->input;

	switch (key) {
	case 'f':
		opt->flags |= FND_DESTROY_FORCE;
		return 0;
	case 'p':
		opt->purge = true;
		return 0;
	case ARGP_KEY_ARG:
		if (opt->name)
			argp_error(state, "one name, please: %s", arg);
		opt->name = arg;
		return 0;
	case ARGP_KEY_NO_ARGS:
		argp_error(state, "which name?");
		return EINVAL;
	default:
		return ARGP_ERR_UNKNOWN;
	}
}

static const struct argp argp = {
	options, parse, "NAME",
	"Remove a segment. Refused while a participant lives.\v"
	"With --force participants go on with the memory they have mapped, and nobody finds it any more.\n"
	"Exit status: 0 removed, 3 absent, in use or not a segment of ours.", NULL, NULL, NULL
};

static int purge(const char *name)
{
	struct fnd_journal *j;
	int err = fnd_journal_open(name, NULL, &j);

	if (err)
		return err;
	err = fnd_journal_purge(j);
	fnd_journal_close(j);
	return err;
}

int cmd_destroy(int argc, char **argv)
{
	struct destroy_options opt = { 0 };
	int err = tool_parse(&argp, PROG, argc, argv, &opt);

	if (err)
		return err;
	if (!opt.purge)
		journal_take(opt.name); /* it goes with the segment */
	err = fnd_segment_destroy(opt.name, opt.flags);
	if (opt.purge && (!err || err == -ENOENT))
		err = purge(opt.name); /* the journal may be all that is left */
	return err ? tool_fail(PROG, opt.name, err) : TOOL_FINE;
}
