// SPDX-License-Identifier: MIT
/* foundation tables ensure: make what the runtime keeps in tables, repair what can be. Takes part in the segment. */
#include "cmd_tables.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include <foundation/config.h>
#include <foundation/dedup.h>
#include <foundation/events.h>
#include <foundation/flags.h>
#include <foundation/registry.h>

#define PROG TABLES_PROG

/* --- what the runtime keeps in tables -------------------------------------------------------------- */

static int ensure_agents(struct fnd_segment *seg, struct fnd_registry_repair *done)
{
	return fnd_registry_ensure(seg, 0, done);
}

static int ensure_dedup(struct fnd_segment *seg, struct fnd_registry_repair *done)
{
	struct fnd_dedup *d;
	int err = fnd_dedup_open(seg, 0, &d);

	(void)done;
	if (!err)
		fnd_dedup_close(d);
	return err;
}

static int ensure_events(struct fnd_segment *seg, struct fnd_registry_repair *done)
{
	struct fnd_events *ev;
	int err = fnd_events_open(seg, &ev);

	(void)done;
	if (!err)
		fnd_events_close(ev);
	return err;
}

static int ensure_flags(struct fnd_segment *seg, struct fnd_registry_repair *done)
{
	struct fnd_flags *f;
	int err = fnd_flags_open(seg, &f);

	(void)done;
	if (!err)
		fnd_flags_close(f);
	return err;
}

static int ensure_config(struct fnd_segment *seg, struct fnd_registry_repair *done)
{
	struct fnd_config *c;
	int err = fnd_config_open(seg, &c);

	(void)done;
	if (!err)
		fnd_config_close(c);
	return err;
}

static const struct known {
	const char *name;
	int (*ensure)(struct fnd_segment *seg, struct fnd_registry_repair *done); /* NULL: made when it is needed */
	const char *what;
} known[] = {
	{ FND_REGISTRY_TABLE, ensure_agents, "the registry: names, owners, metadata" },
	{ FND_DEDUP_TABLE, ensure_dedup, "keys of events that went out" },
	{ FND_EVENTS_TABLE, ensure_events, "what happened, the last 1000" },
	{ "flags", ensure_flags, "who changed which flag, and the application's flags" },
	{ FND_CONFIG_TABLE, ensure_config, "settings" },
	{ "agents.index", NULL, "names by the values of indexed attributes" },
	{ "registry.clashes", NULL, "names that two workers own privately" },
	{ "registry.workers", NULL, "each worker's private side" },
};

#define KNOWN (sizeof(known) / sizeof(known[0]))

static const struct known *find_known(const char *name)
{
	for (size_t i = 0; i < KNOWN; i++)
		if (strcmp(known[i].name, name) == 0)
			return &known[i];
	return NULL;
}

const char *tables_what(const char *name)
{
	const struct known *k = find_known(name);

	return k ? k->what : NULL;
}

/* --- ensure --------------------------------------------------------------------------------------- */

static int unknown(const char *name)
{
	char all[256] = "";
	size_t used = 0;

	for (size_t i = 0; i < KNOWN; i++)
		if (known[i].ensure)
			used += (size_t)snprintf(all + used, sizeof(all) - used, "%s%s", i ? ", " : "", known[i].name);
	return tool_usage(PROG, "%s is no table of the runtime's; ensure knows %s", name, all);
}

static int check_table(struct fnd_segment *seg, const char *name)
{
	struct fnd_table *t;
	int err = fnd_table_open(seg, name, NULL, &t);

	if (err)
		return err;
	err = fnd_table_check(t);
	fnd_table_close(t);
	return err;
}

static int report_damage(const char *segment, const char *name)
{
	tool_fail(PROG, name, -FND_E_CORRUPT);
	fprintf(stderr,
		PROG ": %s: the structure of table %s is damaged, and nothing that is sound says what it was. "
		"Save what can be read (shmdump backup), restore it or an older backup into a new segment (shmdump "
		"restore), or begin anew (foundation destroy --force, foundation create). Until then roll the registry "
		"back to the private one: foundation rollback --component registry\n", segment, name);
	return TOOL_CORRUPT;
}

static int ensured(const struct tables_options *opt, const char *segment, const struct known *k, bool made,
		   const struct fnd_registry_repair *r)
{
	json_t *j;

	if (!opt->look.json) {
		printf("%s: %s", k->name, made ? "made" : "was there");
		if (r->mended)
			printf(", mended in %" PRIu32 " places", r->mended);
		if (k->ensure == ensure_agents)
			printf("; %" PRIu32 " damaged records removed, %" PRIu32 " names of the dead, %" PRIu32
			       " entries of the index added, %" PRIu32 " dropped, %" PRIu32 " events",
			       r->damaged, r->reaped, r->indexed, r->index_dropped, r->events);
		putchar('\n');
		return tool_finish(PROG, TOOL_FINE);
	}
	j = json_pack("{s:s, s:s, s:s, s:b, s:I}", "schema", "foundation.tables.ensure/1", "segment", segment,
		      "name", k->name, "made", (int)made, "mended", (json_int_t)r->mended);
	if (k->ensure == ensure_agents)
		json_object_update_new(j, json_pack("{s:I, s:I, s:I, s:I, s:I}", "damaged", (json_int_t)r->damaged,
						    "reaped", (json_int_t)r->reaped, "indexed",
						    (json_int_t)r->indexed, "index_dropped",
						    (json_int_t)r->index_dropped, "events", (json_int_t)r->events));
	return tool_print_json(PROG, j);
}

int tables_cmd_ensure(const struct tables_options *opt, const char *name)
{
	const struct known *k = find_known(strcmp(name, "registry") == 0 ? FND_REGISTRY_TABLE : name);
	const char *segment = tool_segment(opt->look.segment);
	struct fnd_registry_repair done = { 0 };
	struct fnd_segment *seg;
	unsigned int mended = 0;
	int err, status;
	bool made;

	if (!k || !k->ensure)
		return unknown(name);
	if (!segment)
		return tool_usage(PROG, "which segment? Give --segment or set FOUNDATION_SEGMENT");
	err = fnd_segment_attach(segment, NULL, &seg);
	if (err)
		return tool_fail(PROG, segment, err);
	made = check_table(seg, k->name) == -ENOENT;
	err = fnd_table_mend(seg, k->name, NULL, &mended);
	if (err == -ENOENT || (err == -FND_E_CORRUPT && k->ensure == ensure_agents))
		err = 0; /* made next; and the registry knows more of its tables */
	if (!err)
		err = k->ensure(seg, &done);
	done.mended += mended;
	if (!err)
		err = check_table(seg, k->name);
	if (err == -FND_E_CORRUPT)
		status = report_damage(segment, k->name);
	else
		status = err ? tool_fail(PROG, k->name, err) : ensured(opt, segment, k, made, &done);
	tool_leave(PROG, segment, seg);
	return status;
}
