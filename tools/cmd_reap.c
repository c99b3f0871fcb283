// SPDX-License-Identifier: MIT
/* foundation reap: free what the dead have left. Nothing needs it: whoever suffers does the same. */
#include "foundation.h"

#include <stdio.h>

#include <foundation/registry.h>

#define PROG "foundation reap"

static const struct argp_option options[] = { LOOK_OPTION_SEGMENT, LOOK_OPTION_JSON, { 0 } };

static const struct argp argp = {
	options, look_parse, NULL,
	"Free the slots of dead participants and threads, and remove the names they had registered.\v"
	"Participants do the same themselves whenever they are held up by somebody dead.", NULL, NULL, NULL
};

/* Names first: reaping them reaps their owners too. */
int reap_dead(struct fnd_segment *seg, unsigned int *ret_processes, unsigned int *ret_names)
{
	const uint64_t before = fnd_counter_read(seg, FND_COUNTER_REAPED);
	struct fnd_registry *registry;
	struct fnd_table *table;
	unsigned int more = 0;
	int err;

	*ret_names = 0;
	err = fnd_table_open(seg, FND_REGISTRY_TABLE, NULL, &table); /* opening a registry would make one */
	if (!err) {
		fnd_table_close(table);
		err = fnd_registry_open(seg, 0, &registry);
		if (err)
			return err;
		err = fnd_registry_reap(registry, ret_names);
		fnd_registry_close(registry);
	}
	if (err && err != -ENOENT)
		return err;
	err = fnd_segment_reap(seg, &more);
	*ret_processes = (unsigned int)(fnd_counter_read(seg, FND_COUNTER_REAPED) - before);
	return err;
}

int cmd_reap(int argc, char **argv)
{
	struct look_options opt = { 0 };
	struct fnd_segment *seg;
	unsigned int processes, names;
	const char *name;
	int status = TOOL_FINE, err = tool_parse(&argp, PROG, argc, argv, &opt);

	if (err)
		return err;
	name = tool_segment(opt.segment);
	if (!name)
		return tool_usage(PROG, "which segment? Give --segment or set FOUNDATION_SEGMENT");
	err = fnd_segment_attach(name, NULL, &seg);
	if (err)
		return tool_fail(PROG, name, err);
	err = reap_dead(seg, &processes, &names);
	if (err)
		status = tool_fail(PROG, name, err);
	tool_leave(PROG, name, seg);
	if (err)
		return status;
	if (opt.json)
		return tool_print_json(PROG, json_pack("{s:s, s:s, s:i, s:i}", "schema", "foundation.reap/1",
						       "segment", name, "processes", (int)processes,
						       "names", (int)names));
	printf("%u dead participants reaped, %u names removed\n", processes, names);
	return tool_finish(PROG, TOOL_FINE);
}
