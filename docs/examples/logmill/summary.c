/* SPDX-License-Identifier: MIT */
/*
 * The figures at the end. They are read from the segment: what workers counted there, they counted for
 * good, whoever has been killed since.
 */
#include "mill.h"

#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>

struct figures {
	struct progress sum;
	uint64_t agents, emitted, suppressed, overflowed, recoveries;
	uint64_t lookups_per_s;
	struct fnd_latency lookup, recovery;
};

/* What the counters say before we begin: the segment may have a past, or other users. */
int summary_start(struct mill *mill)
{
	struct fnd_segment *s = mill->segment;

	mill->emitted_before = fnd_counter_read(s, FND_COUNTER_EMITTED);
	mill->suppressed_before = fnd_counter_read(s, FND_COUNTER_SUPPRESSED);
	mill->overflowed_before = fnd_counter_read(s, FND_COUNTER_OVERFLOWED);
	mill->recoveries_before = fnd_counter_read(s, FND_COUNTER_RECOVERIES);
	return events_count(mill->dedup, &mill->events_before);
}

struct own_agents {
	struct fnd_participant self;
	const char *service;
	uint64_t count;
};

static int count_own(const char *name, const struct fnd_agent *a, void *arg)
{
	struct own_agents *own = arg;

	if (a->owner.pid == own->self.pid && a->owner.slot == own->self.slot &&
	    a->owner.generation == own->self.generation && strcmp(name, own->service) != 0)
		own->count++;
	return 0;
}

static int add_up(struct mill *mill, struct progress *ret_sum)
{
	for (unsigned int i = 0; i < mill->options.workers; i++) {
		struct progress p;
		int err = progress_read(mill->progress, mill->pid, i, &p);

		if (err)
			return err;
		ret_sum->lines += p.lines;
		ret_sum->lookups += p.lookups;
		ret_sum->refused += p.refused;
	}
	return 0;
}

static int collect(struct mill *mill, struct figures *f)
{
	struct own_agents own = { .service = mill->service };
	struct fnd_segment *s = mill->segment;
	uint64_t events = 0;
	int err = add_up(mill, &f->sum);

	if (!err)
		err = fnd_segment_self(s, &own.self);
	if (!err)
		err = fnd_registry_list(mill->registry, 0, count_own, &own);
	if (!err)
		err = events_count(mill->dedup, &events);
	if (!err)
		err = fnd_latency_read(s, FND_OP_LOOKUP, &f->lookup);
	if (!err)
		err = fnd_latency_read(s, FND_OP_RECOVERY, &f->recovery);
	if (err)
		return err;

	f->agents = own.count;
	f->overflowed = fnd_counter_read(s, FND_COUNTER_OVERFLOWED) - mill->overflowed_before;
	f->emitted = fnd_counter_read(s, FND_COUNTER_EMITTED) - mill->emitted_before;
	f->suppressed = fnd_counter_read(s, FND_COUNTER_SUPPRESSED) - mill->suppressed_before;
	f->recoveries = fnd_counter_read(s, FND_COUNTER_RECOVERIES) - mill->recoveries_before;
	if (mill->busy_ns)
		f->lookups_per_s =
			(uint64_t)((double)f->sum.lookups * 1e9 / (double)mill->busy_ns);

	/* A worker killed between its claim and its count leaves the event, which is what counts. */
	if (events > mill->events_before && events - mill->events_before > f->emitted)
		f->emitted = events - mill->events_before;
	f->emitted += f->overflowed;
	return 0;
}

static int print_json(const struct mill *mill, const struct figures *f)
{
	json_t *o = json_pack(
		"{s:s, s:I, s:I, s:I, s:I, s:I, s:{s:I, s:I, s:I, s:I}, s:I, s:I, s:{s:I, s:I}}",
		"schema", "foundation.logmill/1",
		"lines", (json_int_t)f->sum.lines,
		"agents", (json_int_t)f->agents,
		"emitted", (json_int_t)f->emitted,
		"suppressed", (json_int_t)f->suppressed,
		"lookups_per_s", (json_int_t)f->lookups_per_s,
		"lookup_ns",
		"p50", (json_int_t)f->lookup.p50_ns,
		"p95", (json_int_t)f->lookup.p95_ns,
		"p99", (json_int_t)f->lookup.p99_ns,
		"p999", (json_int_t)f->lookup.p999_ns,
		"kills", (json_int_t)mill->kills,
		"recoveries", (json_int_t)f->recoveries,
		"recovery_ns",
		"p50", (json_int_t)f->recovery.p50_ns,
		"max", (json_int_t)f->recovery.max_ns);

	if (!o)
		return -ENOMEM;
	/* Only when it happened: something found no room. */
	if (f->overflowed || f->sum.refused) {
		json_object_set_new(o, "overflowed", json_integer((json_int_t)f->overflowed));
		json_object_set_new(o, "refused", json_integer((json_int_t)f->sum.refused));
	}

	int err = json_dumpf(o, stdout, 0) ? -EIO : 0;

	putchar('\n');
	json_decref(o);
	return err;
}

static void row(const char *name, uint64_t value, const char *what)
{
	printf("%-12s %12" PRIu64 "  %s\n", name, value, what);
}

static void print_table(const struct mill *mill, const struct figures *f)
{
	printf("%-12s %12s  segment %s, workers %u, passes %" PRIu64 "\n", "logmill", "",
	       mill->segment_name, mill->options.workers, mill->pass);
	row("lines", f->sum.lines, "log lines served, each line of each pass once");
	row("agents", f->agents, "sources of lines, registered as agents of this service");
	row("emitted", f->emitted, "templates that went out as events");
	row("suppressed", f->suppressed, "lines whose template had gone out within the window");
	row("lookups", f->lookups_per_s, "agent lookups a second, all workers together");
	row("  p50", f->lookup.p50_ns, "ns: half of the lookups took no longer");
	row("  p95", f->lookup.p95_ns, "ns: 19 of 20");
	row("  p99", f->lookup.p99_ns, "ns: 99 of 100");
	row("  p99.9", f->lookup.p999_ns, "ns: 999 of 1,000");
	row("kills", mill->kills, "workers killed with SIGKILL and replaced");
	row("recoveries", f->recoveries, "locks taken from the dead and put right by a survivor");
	row("  p50", f->recovery.p50_ns, "ns: half of the recoveries took no longer");
	row("  max", f->recovery.max_ns, "ns: the longest");
	if (f->overflowed)
		row("overflowed", f->overflowed, "of these emissions found no room: raise --dedup");
	if (f->sum.refused)
		row("refused", f->sum.refused, "lines whose source found no room: raise --agents");
}

/* Returns 0 or a negative error. */
int summary_print(struct mill *mill)
{
	struct figures f = { 0 };
	int err = collect(mill, &f);

	if (err)
		return err;
	if (mill->options.json)
		err = print_json(mill, &f);
	else
		print_table(mill, &f);
	if (mill->events_unread)
		fprintf(stderr,
			"logmill: %" PRIu64 " long templates of an earlier run are not in %s: "
			"their logs have changed\n",
			mill->events_unread, mill->options.events);
	return fflush(stdout) ? -EIO : err;
}
