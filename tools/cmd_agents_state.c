// SPDX-License-Identifier: MIT
/* foundation agents stats, clashes, workers: how the registry does, and the facade in front of it. */
#include "cmd_agents.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/* --- stats ---------------------------------------------------------------------------------------- */

struct chain {
	struct fnd_observed_chain longest;
	bool known;
};

/* By looking, beside the participant that this process is: no lock, nobody waits. */
static struct chain longest_chain(const char *segment)
{
	struct chain c = { .known = false };
	struct fnd_observer *o;

	if (fnd_observer_open(segment, &o))
		return c;
	c.known = fnd_observer_chain(o, FND_REGISTRY_TABLE, &c.longest) == 0;
	fnd_observer_close(o);
	return c;
}

static int stats_json(const char *segment, const struct fnd_registry_stats *s, const struct chain *c, int64_t live)
{
	json_t *attributes = json_array();
	char when[32];
	json_t *j;

	for (uint32_t i = 0; i < s->nattributes; i++)
		json_array_append_new(attributes, tool_json_text(s->attribute[i], strlen(s->attribute[i])));
	j = json_pack("{s:s, s:s, s:s, s:I, s:I, s:I, s:f, s:I}", "schema", "foundation.agents.stats/1", "segment",
		      segment, "backend", "shared", "agents", (json_int_t)live, "records", (json_int_t)s->entries,
		      "capacity", (json_int_t)s->capacity, "load", s->load, "bytes", (json_int_t)s->bytes);
	json_object_update_new(j, json_pack("{s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I}", "registered",
					    (json_int_t)s->registered, "updated", (json_int_t)s->updated,
					    "unregistered", (json_int_t)s->unregistered, "reaped",
					    (json_int_t)s->reaped, "refused", (json_int_t)s->refused, "lookups",
					    (json_int_t)s->lookups, "misses", (json_int_t)s->misses, "events",
					    (json_int_t)s->events));
	json_object_update_new(j, json_pack("{s:o, s:I, s:I, s:o, s:o, s:I, s:o}", "indexed", attributes,
					    "index_records", (json_int_t)s->index_records, "index_bytes",
					    (json_int_t)s->index_bytes, "longest_chain",
					    c->known ? json_integer((json_int_t)c->longest.records) : json_null(),
					    "longest_chain_buckets",
					    c->known ? json_integer((json_int_t)c->longest.buckets) : json_null(),
					    "last_repair_ns", (json_int_t)s->last_repair_ns, "last_repair_at",
					    s->last_repair_ns ? json_string(tool_time(s->last_repair_ns, when)) :
								json_null()));
	return tool_print_json(AGENTS_PROG, j);
}

static int stats_print(const struct fnd_registry_stats *s, const struct chain *c, int64_t live)
{
	char attribute[FND_ATTRIBUTE_NAME_MAX + 1], bytes[24], when[32];

	printf("agents        %" PRId64 " with a living owner, %" PRIu64 " records\n", live, s->entries);
	printf("capacity      %" PRIu64 ", load %.1f%%, %s\n", s->capacity, 100 * s->load,
	       tool_bytes(s->bytes, bytes));
	printf("writes        %" PRIu64 " registered, %" PRIu64 " updated, %" PRIu64 " unregistered, %" PRIu64
	       " reaped, %" PRIu64 " refused\n", s->registered, s->updated, s->unregistered, s->reaped, s->refused);
	printf("lookups       %" PRIu64 ", %" PRIu64 " found, %" PRIu64 " missed\n", s->lookups,
	       s->lookups > s->misses ? s->lookups - s->misses : 0, s->misses);
	printf("index         ");
	for (uint32_t i = 0; i < s->nattributes; i++)
		printf("%s%s", i ? ", " : "", tool_printable(s->attribute[i], attribute, sizeof(attribute)));
	printf("%s%" PRIu64 " records, %s\n", s->nattributes ? ": " : "of nothing: ", s->index_records,
	       tool_bytes(s->index_bytes, bytes));
	if (c->known)
		printf("longest chain %" PRIu64 " records, %" PRIu64 " buckets\n", c->longest.records,
		       c->longest.buckets);
	printf("events        %" PRIu64 "\n", s->events);
	printf("last repair   %s\n", s->last_repair_ns ? tool_time(s->last_repair_ns, when) : "never");
	return tool_finish(AGENTS_PROG, TOOL_FINE);
}

int agents_cmd_stats(const struct agents_options *opt)
{
	struct fnd_registry_stats stats;
	struct agents_session s;
	struct chain c;
	int64_t live = 0;
	int err, status = agents_attach(opt, false, &s);

	if (status)
		return status;
	err = fnd_registry_stats_read(fnd_runtime_registry(s.rt), &stats);
	if (!err) {
		live = fnd_agent_count(s.rt);
		err = live < 0 ? (int)live : 0;
	}
	if (err) {
		status = tool_fail(AGENTS_PROG, s.name, err);
	} else {
		c = longest_chain(s.name);
		status = opt->look.json ? stats_json(s.name, &stats, &c, live) : stats_print(&stats, &c, live);
	}
	agents_detach(&s);
	return status;
}

/* --- clashes, workers ------------------------------------------------------------------------------ */

/* Lines are printed as they come, JSON is collected. */
struct output {
	json_t *list; /* NULL: text */
	unsigned int count;
};

static int clash_one(const struct fnd_clash *c, void *arg)
{
	struct output *out = arg;
	char name[FND_AGENT_NAME_MAX + 1], when[32];

	if (out->list)
		json_array_append_new(out->list, json_pack("{s:o, s:o, s:o, s:s, s:I}", "name",
							   tool_json_text(c->name, strlen(c->name)), "private_to",
							   agents_owner_json(&c->loser), "published_by",
							   agents_owner_json(&c->holder), "at",
							   tool_time(c->at_ns, when), "at_ns", (json_int_t)c->at_ns));
	else
		printf("%s%-24s  private to pid %" PRIu32 ", published by pid %" PRIu32 "  %s\n",
		       out->count ? "" : "CLASHES\n", tool_printable(c->name, name, sizeof(name)), c->loser.pid,
		       c->holder.pid, tool_time(c->at_ns, when));
	out->count++;
	return 0;
}

static int worker_one(const struct fnd_worker_state *w, void *arg)
{
	struct output *out = arg;
	char when[32];
	json_t *j;

	if (out->list) {
		j = agents_owner_json(&w->owner);
		json_object_update_new(j, json_pack("{s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:s, s:I}", "names",
						    (json_int_t)w->names, "published", (json_int_t)w->published,
						    "uncommon", (json_int_t)w->uncommon, "clashes",
						    (json_int_t)w->clashes, "refused", (json_int_t)w->refused,
						    "carried", (json_int_t)w->carried, "stale", (json_int_t)w->stale,
						    "reconciled", (json_int_t)w->reconciled, "at",
						    tool_time(w->at_ns, when), "at_ns", (json_int_t)w->at_ns));
		json_array_append_new(out->list, j);
	} else {
		if (out->count == 0)
			printf("%8s %8s %9s %8s %7s %7s %7s %7s %10s  %s\n", "PID", "NAMES", "PUBLISHED", "UNCOMMON",
			       "CLASHES", "REFUSED", "CARRIED", "STALE", "RECONCILED", "AS OF");
		printf("%8" PRIu32 " %8" PRIu64 " %9" PRIu64 " %8" PRIu64 " %7" PRIu64 " %7" PRIu64 " %7" PRIu64
		       " %7" PRIu64 " %10" PRIu64 "  %s\n", w->owner.pid, w->names, w->published, w->uncommon,
		       w->clashes, w->refused, w->carried, w->stale, w->reconciled, tool_time(w->at_ns, when));
	}
	out->count++;
	return 0;
}

int agents_cmd_clashes(const struct agents_options *opt)
{
	struct output out = { .list = opt->look.json ? json_array() : NULL };
	struct agents_session s;
	int err, status = agents_attach(opt, false, &s);

	if (!status) {
		err = fnd_runtime_clashes(s.rt, clash_one, &out);
		agents_detach(&s);
		if (err)
			status = tool_fail(AGENTS_PROG, s.name, err);
		else if (out.list)
			status = tool_print_json(AGENTS_PROG, json_pack("{s:s, s:s, s:O}", "schema",
									"foundation.agents.clashes/1", "segment",
									s.name, "clashes", out.list));
		else
			status = tool_finish(AGENTS_PROG, TOOL_FINE);
		if (!status && !out.list && out.count == 0)
			fprintf(stderr, AGENTS_PROG ": %s: no clashes\n", s.name);
		if (!status && out.count)
			status = TOOL_FOUND;
	}
	json_decref(out.list);
	return status;
}

int agents_cmd_workers(const struct agents_options *opt)
{
	struct output out = { .list = opt->look.json ? json_array() : NULL };
	struct agents_session s;
	int err, status = agents_attach(opt, false, &s);

	if (!status) {
		err = fnd_runtime_workers(s.rt, worker_one, &out);
		agents_detach(&s);
		if (err)
			status = tool_fail(AGENTS_PROG, s.name, err);
		else if (out.list)
			status = tool_print_json(AGENTS_PROG, json_pack("{s:s, s:s, s:O}", "schema",
									"foundation.agents.workers/1", "segment",
									s.name, "workers", out.list));
		else
			status = tool_finish(AGENTS_PROG, TOOL_FINE);
		if (!status && !out.list && out.count == 0)
			fprintf(stderr, AGENTS_PROG ": %s: no worker has met a change of flags\n", s.name);
	}
	json_decref(out.list);
	return status;
}
