// SPDX-License-Identifier: MIT
/* foundation create: a segment with its registry and its deduplication table, whole or not at all. */
#include "foundation.h"

#include <stdio.h>

#include <foundation/dedup.h>
#include <foundation/flags.h>
#include <foundation/registry.h>

#define PROG "foundation create"

#define CAPACITY_MAX (1ULL << 32)

struct create_options {
	const char *name;
	struct fnd_segment_options segment;
	uint64_t agents;
	uint64_t dedup;
};

enum {
	KEY_CAPACITY = 'c',
	KEY_AGENTS = 'a',
	KEY_DEDUP = 'd',
	KEY_THREADS = 't',
	KEY_PROCESSES = 'p',
	KEY_MAX_BYTES = 'm',
	KEY_FENCED = 'f',
};

static const struct argp_option options[] = {
	{ "capacity", KEY_CAPACITY, "N", 0,
	  "Records of a table that is opened without a capacity (default 4096)", 0 },
	{ "agents", KEY_AGENTS, "N", 0, "Names the registry holds for sure (default: --capacity)", 0 },
	{ "dedup", KEY_DEDUP, "N", 0,
	  "Keys deduplication remembers for sure within one window (default: --capacity)", 0 },
	{ "processes", KEY_PROCESSES, "N", 0, "Processes that may be attached at once (default 256)", 0 },
	{ "threads", KEY_THREADS, "N", 0, "Threads of all of them together (default 1024)", 0 },
	{ "max-bytes", KEY_MAX_BYTES, "BYTES", 0,
	  "Address space the segment may grow into, with K, M or G (default 1G, at most 32G)", 0 },
	{ "fenced", KEY_FENCED, NULL, 0,
	  "Every reader pays a fence, so that processes without membarrier(2) may write", 0 },
	{ 0 }
};

static uint64_t number(struct argp_state *state, const char *option, const char *arg, uint64_t max)
{
	uint64_t v = 0;

	if (!tool_number(arg, max, &v) || v == 0)
		argp_error(state, "--%s: '%s' is not a number from 1 to %llu", option, arg,
			   (unsigned long long)max);
	return v;
}

static error_t parse(int key, char *arg, struct argp_state *state)
{
	struct create_options *opt = state->input;

	switch (key) {
	case KEY_CAPACITY:
		opt->segment.default_capacity = number(state, "capacity", arg, CAPACITY_MAX);
		return 0;
	case KEY_AGENTS:
		opt->agents = number(state, "agents", arg, CAPACITY_MAX);
		return 0;
	case KEY_DEDUP:
		opt->dedup = number(state, "dedup", arg, CAPACITY_MAX);
		return 0;
	case KEY_THREADS:
		opt->segment.threads = (uint32_t)number(state, "threads", arg, 4095);
		return 0;
	case KEY_PROCESSES:
		opt->segment.processes = (uint32_t)number(state, "processes", arg, 4095);
		return 0;
	case KEY_MAX_BYTES:
		opt->segment.max_bytes = number(state, "max-bytes", arg, 32ULL << 30);
		return 0;
	case KEY_FENCED:
		opt->segment.flags |= FND_SEGMENT_FENCED;
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
	"Make a segment with a registry, a deduplication table and flags. Numbers may have the suffix K, M or G.\v"
	"A name has 1 to 64 of the bytes a-z 0-9 . _ -\n"
	"Exit status: 0 made, 3 the name is taken or there is no room.", NULL, NULL, NULL
};

/* Runs on the segment before it has a name. */
static int open_tables(struct fnd_segment *seg, void *arg)
{
	const struct create_options *opt = arg;
	struct fnd_registry *registry;
	struct fnd_dedup *dedup;
	struct fnd_flags *flags;
	int err;

	err = fnd_registry_open(seg, opt->agents, &registry);
	if (err)
		return err;
	err = fnd_dedup_open(seg, opt->dedup, &dedup);
	if (!err)
		fnd_dedup_close(dedup);
	fnd_registry_close(registry);
	if (err)
		return err;
	err = fnd_flags_open(seg, &flags); /* flags and stage as the journal has them, before anybody is there */
	if (!err)
		fnd_flags_close(flags);
	return err;
}

int cmd_create(int argc, char **argv)
{
	struct create_options opt = { .segment = { .size = sizeof(opt.segment) } };
	int err = tool_parse(&argp, PROG, argc, argv, &opt);

	if (err)
		return err;
	opt.segment.init = open_tables;
	opt.segment.init_arg = &opt;
	err = fnd_segment_create(opt.name, &opt.segment, NULL);
	return err ? tool_fail(PROG, opt.name, err) : TOOL_FINE;
}
