// SPDX-License-Identifier: MIT
/* foundation status: one segment, its participants and tables, and what is wrong with it. Looks only. */
#include "cmd_status.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <foundation/dedup.h>
#include <foundation/registry.h>

#define PROG "foundation status"

static const struct argp_option options[] = {
	LOOK_OPTION_SEGMENT,
	LOOK_OPTION_JSON,
	{ "threads", LOOK_KEY_THREADS, NULL, 0,
	  "Also the threads, and what their read sections hold back", 0 },
	{ 0 }
};

static const struct argp argp = {
	options, look_parse, NULL,
	"Show a segment's figures, participants, tables and warnings.\v"
	"It reads the segment's file without attaching: it disturbs nobody, and answers when everybody else "
	"hangs.", NULL, NULL, NULL
};

struct view {
	const char *name;
	struct fnd_segment_status s;
	struct fnd_latency lookup, recovery;
	json_t *participants;
	json_t *tables;
	json_t *threads;
	json_t *warnings;
	uint64_t agents;
	uint64_t held_bytes; /* records that wait for readers, in all tables */
	bool known;
	bool show_threads;
};

static const struct {
	enum fnd_counter id;
	const char *name;
} counters[] = {
	{ FND_COUNTER_RECOVERIES, "recoveries" },
	{ FND_COUNTER_REAPED, "reaped" },
	{ FND_COUNTER_FULL, "full" },
	{ FND_COUNTER_CORRUPT, "corrupt" },
	{ FND_COUNTER_EMITTED, "emitted" },
	{ FND_COUNTER_SUPPRESSED, "suppressed" },
	{ FND_COUNTER_OVERFLOWED, "overflowed" },
	{ FND_COUNTER_REGISTERED, "registered" },
	{ FND_COUNTER_UNREGISTERED, "unregistered" },
	{ FND_COUNTER_NAMES_REAPED, "names_reaped" },
	{ FND_COUNTER_LOCK_TIMEOUTS, "lock_timeouts" },
	{ FND_COUNTER_STALLS, "stalls" },
	{ FND_COUNTER_FAILURES, "failures" },
	{ FND_COUNTER_REFUSED, "refused" },
};

#define COUNTERS (sizeof(counters) / sizeof(counters[0]))

/* --- warnings ------------------------------------------------------------------------------------- */

void status_warn(json_t *warnings, const char *id, const char *fmt, ...)
{
	char text[512];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	json_array_append_new(warnings, json_pack("{s:s, s:s}", "id", id, "message", text));
}

#define warn(v, ...) status_warn((v)->warnings, __VA_ARGS__)

static void warn_table(struct view *v, const struct fnd_table_stats *t)
{
	if (t->capacity && t->live >= t->capacity)
		warn(v, "at-capacity", "table %s holds %" PRIu64 " records, its capacity is %" PRIu64
		     ": past it writes may be refused", t->name, t->live, t->capacity);
	if (t->full)
		warn(v, "table-full", "table %s refused %" PRIu64 " writes for want of room", t->name, t->full);
}

static void warn_counters(struct view *v)
{
	const uint64_t *c = v->s.counter;

	if (c[FND_COUNTER_OVERFLOWED])
		warn(v, "overflowed", "%" PRIu64 " events went out that deduplication had no room to remember: "
		     "make the segment with a larger --dedup", c[FND_COUNTER_OVERFLOWED]);
	if (c[FND_COUNTER_CORRUPT])
		warn(v, "damage-met", "participants met damaged bytes %" PRIu64 " times",
		     c[FND_COUNTER_CORRUPT]);
	if (c[FND_COUNTER_LOCK_TIMEOUTS])
		warn(v, "lock-timeouts", "%" PRIu64 " waits for a lock timed out: somebody holding one is "
		     "stopped", c[FND_COUNTER_LOCK_TIMEOUTS]);
}

static void warn_home(struct view *v)
{
	const struct fnd_segment_status *s = &v->s;

	if (s->participants_dead)
		warn(v, "dead-participants", "%" PRIu32 " dead participants are not reaped yet: 'foundation "
		     "reap', or the next who needs a slot, does it", s->participants_dead);
	if (!s->same_boot)
		warn(v, "other-boot", "its participants lived in another boot, or this one cannot be told: the "
		     "next to attach takes it over");
	else if (!s->same_pid_namespace)
		warn(v, "pid-namespace", "its participants live in another pid namespace: who is alive cannot "
		     "be told from here, and attaching is refused while one is");
	if (s->identity_rule == FND_IDENTITY_RULE_START_TIME)
		warn(v, "identity-rule", "processes are told apart by start time (Linux before 6.9): a pid taken "
		     "again within the same 10 ms goes unseen");
	else if (s->identity_rule == FND_IDENTITY_RULE_NONE)
		warn(v, "identity-rule", "pidfd_open(2) does not work here: no death is ever proven");
	if (s->destroying)
		warn(v, "destroying", "process %" PRIu32 " is destroying it", s->destroying);
}

/* --- reading -------------------------------------------------------------------------------------- */

const char *status_state(uint32_t state)
{
	switch (state) {
	case FND_PARTICIPANT_CLAIMING:
		return "attaching";
	case FND_PARTICIPANT_REAPING:
		return "reaping";
	default:
		return "active";
	}
}

static int note_participant(const struct fnd_observed_participant *p, void *arg)
{
	struct view *v = arg;
	char when[32];

	json_array_append_new(v->participants,
		json_pack("{s:I, s:o, s:I, s:I, s:s, s:o, s:s, s:b, s:I, s:s, s:I}",
			  "pid", (json_int_t)p->pid,
			  "comm", tool_json_text(p->comm, strlen(p->comm)),
			  "slot", (json_int_t)p->slot,
			  "generation", (json_int_t)p->generation,
			  "state", status_state(p->state),
			  "alive", look_liveness_json(p->liveness),
			  "liveness", look_liveness(p->liveness),
			  "read_only", (int)p->read_only,
			  "threads", (json_int_t)p->threads,
			  "attached_at", tool_time(p->attached_ns, when),
			  "attached_ns", (json_int_t)p->attached_ns));
	return 0;
}

static int note_table(const struct fnd_table_stats *t, void *arg)
{
	struct view *v = arg;

	if (strcmp(t->name, FND_REGISTRY_TABLE) == 0)
		v->agents = t->live;
	v->held_bytes += t->retired * t->record_bytes;
	json_array_append_new(v->tables,
		json_pack("{s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I}",
			  "name", t->name,
			  "flags", (json_int_t)t->flags,
			  "key_max", (json_int_t)t->key_max,
			  "value_max", (json_int_t)t->value_max,
			  "shards", (json_int_t)t->shards,
			  "record_bytes", (json_int_t)t->record_bytes,
			  "capacity", (json_int_t)t->capacity,
			  "live", (json_int_t)t->live,
			  "retired", (json_int_t)t->retired,
			  "free", (json_int_t)t->free_records,
			  "allocated", (json_int_t)t->allocated,
			  "reserved", (json_int_t)t->reserved,
			  "bytes", (json_int_t)t->bytes,
			  "growths", (json_int_t)t->growths,
			  "full", (json_int_t)t->full));
	warn_table(v, t);
	return 0;
}

/* 0; -FND_E_CORRUPT, with @v->known and all that could be read when the figures could; another error. */
static int read_view(struct fnd_observer *o, struct view *v)
{
	int err = fnd_observer_status(o, &v->s);
	int damaged = 0, threads = 0;

	v->known = !err;
	if (!err)
		err = fnd_observer_participants(o, note_participant, v);
	if (!err)
		err = fnd_observer_latency(o, FND_OP_LOOKUP, &v->lookup);
	if (!err)
		err = fnd_observer_latency(o, FND_OP_RECOVERY, &v->recovery);
	if (!err)
		err = fnd_observer_tables(o, note_table, v);
	if (!err || (v->known && err == -FND_E_CORRUPT))
		threads = status_threads_read(o, &v->s, v->participants, v->held_bytes, v->threads,
					      v->warnings);
	if (!err)
		err = threads;
	if (v->known && err == -FND_E_CORRUPT) {
		damaged = err;
		warn(v, "damaged", "%s", fnd_error_detail());
	} else if (err) {
		return err;
	}
	warn_counters(v);
	warn_home(v);
	return damaged;
}

/* --- JSON ----------------------------------------------------------------------------------------- */

static json_t *latency_json(const struct fnd_latency *l)
{
	return json_pack("{s:I, s:I, s:I, s:I, s:I, s:I}", "samples", (json_int_t)l->samples,
			 "p50", (json_int_t)l->p50_ns, "p95", (json_int_t)l->p95_ns,
			 "p99", (json_int_t)l->p99_ns, "p999", (json_int_t)l->p999_ns,
			 "max", (json_int_t)l->max_ns);
}

static json_t *counters_json(const struct fnd_segment_status *s)
{
	json_t *j = json_object();

	for (size_t i = 0; i < COUNTERS; i++)
		json_object_set_new(j, counters[i].name, json_integer((json_int_t)s->counter[counters[i].id]));
	return j;
}

static const char *rule_name(uint32_t rule)
{
	switch (rule) {
	case FND_IDENTITY_RULE_PIDFD:
		return "pidfd";
	case FND_IDENTITY_RULE_START_TIME:
		return "start-time";
	default:
		return "none";
	}
}

static void uuid_text(const unsigned char uuid[16], char buf[37])
{
	char hex[33];

	tool_hex(uuid, 16, hex);
	snprintf(buf, 37, "%.8s-%.4s-%.4s-%.4s-%.12s", hex, hex + 8, hex + 12, hex + 16, hex + 20);
}

static int print_json(struct view *v)
{
	const struct fnd_segment_status *s = &v->s;
	char uuid[37], when[32], mode[8], layout[24];
	json_t *j;

	uuid_text(s->uuid, uuid);
	snprintf(mode, sizeof(mode), "%04" PRIo32, s->mode & 07777);
	snprintf(layout, sizeof(layout), "%" PRIu32 ".%" PRIu32, s->layout_major, s->layout_minor);
	j = json_pack("{s:s, s:s, s:I, s:s, s:s, s:s, s:o, s:s, s:I}", "schema", "foundation.status/1",
		      "segment", v->name, "uid", (json_int_t)s->uid, "mode", mode, "uuid", uuid,
		      "layout", layout, "creator_version",
		      tool_json_text(s->creator_version, strlen(s->creator_version)), "created_at",
		      tool_time(s->created_ns, when), "created_ns", (json_int_t)s->created_ns);
	json_object_update_new(j, json_pack("{s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I}",
		"bytes", (json_int_t)s->bytes, "max_bytes", (json_int_t)s->max_bytes,
		"brk", (json_int_t)s->brk, "free_bytes", (json_int_t)s->free_bytes,
		"default_capacity", (json_int_t)s->default_capacity,
		"process_slots", (json_int_t)s->process_slots, "thread_slots", (json_int_t)s->thread_slots,
		"threads_taken", (json_int_t)s->threads, "agents", (json_int_t)v->agents));
	json_object_update_new(j, json_pack("{s:I, s:I, s:I, s:I, s:I, s:I, s:I}",
		"participants_live", (json_int_t)s->participants_live,
		"participants_dead", (json_int_t)s->participants_dead,
		"participants_unknown", (json_int_t)s->participants_unknown,
		"participants_attaching", (json_int_t)s->participants_claiming,
		"epoch", (json_int_t)s->epoch, "safe", (json_int_t)s->safe,
		"snapshot_generation", (json_int_t)s->snapshot_generation));
	json_object_update_new(j, json_pack("{s:b, s:b, s:b, s:s, s:{s:I, s:I, s:I}, s:I, s:I}",
		"fenced", (int)s->fenced, "same_boot", (int)s->same_boot,
		"same_pid_namespace", (int)s->same_pid_namespace,
		"identity_rule", rule_name(s->identity_rule),
		"features", "compat", (json_int_t)s->feature_compat,
		"ro_compat", (json_int_t)s->feature_ro_compat,
		"incompat", (json_int_t)s->feature_incompat,
		"sample_every", (json_int_t)s->sample_every, "sample_always", (json_int_t)s->sample_always));
	json_object_update_new(j, json_pack("{s:o, s:o, s:o, s:I, s:O, s:O, s:O}",
		"counters", counters_json(s), "lookup_ns", latency_json(&v->lookup),
		"recovery_ns", latency_json(&v->recovery), "held_bytes", (json_int_t)v->held_bytes,
		"tables", v->tables, "participants", v->participants, "warnings", v->warnings));
	if (v->show_threads)
		json_object_set(j, "threads", v->threads);
	return tool_print_json(PROG, j);
}

/* --- text ----------------------------------------------------------------------------------------- */

static void print_head(const struct view *v)
{
	const struct fnd_segment_status *s = &v->s;
	char uuid[37], when[32], creator[32], a[24], b[24], c[24];

	uuid_text(s->uuid, uuid);
	printf("segment       %s   owner %" PRIu32 ", mode %04" PRIo32 "%s\n", v->name, s->uid, s->mode,
	       s->fenced ? ", fenced" : "");
	printf("uuid          %s\n", uuid);
	printf("created       %s by version %s, layout %" PRIu32 ".%" PRIu32 "\n",
	       tool_time(s->created_ns, when), tool_printable(s->creator_version, creator, sizeof(creator)),
	       s->layout_major, s->layout_minor);
	printf("memory        %s backed, %s of it free, may grow to %s\n", tool_bytes(s->bytes, a),
	       tool_bytes(s->free_bytes, b), tool_bytes(s->max_bytes, c));
	printf("participants  %" PRIu32 " live, %" PRIu32 " dead, %" PRIu32 " unknown, %" PRIu32
	       " attaching; %" PRIu32 " slots\n", s->participants_live, s->participants_dead,
	       s->participants_unknown, s->participants_claiming, s->process_slots);
	printf("threads       %" PRIu32 "; %" PRIu32 " slots\n", s->threads, s->thread_slots);
	printf("agents        %" PRIu64 "\n", v->agents);
	printf("epoch         %" PRIu64 ", reusable below %" PRIu64 "\n", s->epoch, s->safe);
	printf("identity      by %s%s\n", rule_name(s->identity_rule),
	       s->same_pid_namespace ? "" : "; participants in another pid namespace");
	printf("sampling      one lookup in %" PRIu32 " while traced", s->sample_every);
	if (s->sample_always)
		printf(", one in %" PRIu32 " always", s->sample_always);
	putchar('\n');
}

static void print_latency(const char *name, const struct fnd_latency *l)
{
	if (l->samples)
		printf("%-13s p50 %" PRIu64 " ns, p95 %" PRIu64 " ns, p99 %" PRIu64 " ns, p999 %" PRIu64
		       " ns, max %" PRIu64 " ns; %" PRIu64 " samples\n", name, l->p50_ns, l->p95_ns,
		       l->p99_ns, l->p999_ns, l->max_ns, l->samples);
}

static json_int_t number_of(json_t *j, const char *key)
{
	return json_integer_value(json_object_get(j, key));
}

static void print_tables(const struct view *v)
{
	size_t i;
	json_t *t;

	if (json_array_size(v->tables))
		printf("\n%-20s %10s %10s %6s %8s %9s %8s %6s %10s\n", "TABLE", "LIVE", "CAPACITY", "LOAD",
		       "RETIRED", "FREE", "GROWTHS", "FULL", "MEMORY");
	json_array_foreach(v->tables, i, t) {
		char bytes[24];
		json_int_t capacity = number_of(t, "capacity");

		printf("%-20s %10lld %10lld %5.1f%% %8lld %9lld %8lld %6lld %10s\n",
		       json_string_value(json_object_get(t, "name")), (long long)number_of(t, "live"),
		       (long long)capacity,
		       capacity ? 100.0 * (double)number_of(t, "live") / (double)capacity : 0.0,
		       (long long)number_of(t, "retired"), (long long)number_of(t, "free"),
		       (long long)number_of(t, "growths"), (long long)number_of(t, "full"),
		       tool_bytes((uint64_t)number_of(t, "bytes"), bytes));
	}
}

static void print_participants(const struct view *v)
{
	size_t i;
	json_t *p;

	if (json_array_size(v->participants))
		printf("\n%8s  %-16s %5s %10s  %-9s  %-8s %7s  %s\n", "PID", "COMMAND", "SLOT", "GENERATION",
		       "STATE", "LIVENESS", "THREADS", "ATTACHED");
	json_array_foreach(v->participants, i, p) {
		char comm[64];

		printf("%8lld  %-16s %5lld %10lld  %-9s  %-8s %7lld  %s\n", (long long)number_of(p, "pid"),
		       tool_printable(json_string_value(json_object_get(p, "comm")), comm, sizeof(comm)),
		       (long long)number_of(p, "slot"), (long long)number_of(p, "generation"),
		       json_string_value(json_object_get(p, "state")),
		       json_string_value(json_object_get(p, "liveness")),
		       (long long)number_of(p, "threads"),
		       json_string_value(json_object_get(p, "attached_at")));
	}
}

static int print_text(const struct view *v)
{
	bool head = true;
	size_t i;
	json_t *w;

	print_head(v);
	print_latency("lookup", &v->lookup);
	print_latency("recovery", &v->recovery);
	for (i = 0; i < COUNTERS; i++) {
		uint64_t n = v->s.counter[counters[i].id];

		if (!n)
			continue;
		printf("%s%s %" PRIu64, head ? "counters      " : ", ", counters[i].name, n);
		head = false;
	}
	if (!head)
		putchar('\n');
	print_tables(v);
	print_participants(v);
	if (v->show_threads)
		status_threads_print(v->threads);
	if (json_array_size(v->warnings))
		putchar('\n');
	json_array_foreach(v->warnings, i, w)
		printf("warning: %s\n", json_string_value(json_object_get(w, "message")));
	return tool_finish(PROG, TOOL_FINE);
}

int cmd_status(int argc, char **argv)
{
	struct look_options opt = { 0 };
	struct view v = { 0 };
	struct fnd_observer *o;
	int printed = TOOL_FINE;
	int err = tool_parse(&argp, PROG, argc, argv, &opt);

	if (!err)
		err = look_open(PROG, &opt, &v.name, &o);
	if (err)
		return err;
	v.participants = json_array();
	v.tables = json_array();
	v.threads = json_array();
	v.warnings = json_array();
	v.show_threads = opt.threads;
	err = read_view(o, &v);
	fnd_observer_close(o);
	if (!err || (v.known && err == -FND_E_CORRUPT))
		printed = opt.json ? print_json(&v) : print_text(&v);
	if (err)
		printed = tool_fail(PROG, v.name, err);
	json_decref(v.participants);
	json_decref(v.tables);
	json_decref(v.threads);
	json_decref(v.warnings);
	return printed;
}
