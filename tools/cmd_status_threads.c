// SPDX-License-Identifier: MIT
/*
 * The threads of `foundation status`: who is in a read section, how far behind, who holds memory back.
 *
 * A section is stamped with the epoch it began in, not with a time. Its age is known from when a writer
 * first found it in its way: before that it holds nothing anybody wants.
 */
#include "cmd_status.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

struct reading {
	const struct fnd_segment_status *s;
	json_t *participants;
	json_t *threads;
	json_t *warnings;
	uint64_t held_bytes;
};

static json_int_t number_of(json_t *j, const char *key)
{
	return json_integer_value(json_object_get(j, key));
}

static const char *text_of(json_t *j, const char *key)
{
	const char *text = json_string_value(json_object_get(j, key));

	return text ? text : "";
}

static json_t *participant_of(const struct reading *r, const struct fnd_observed_thread *t)
{
	size_t i;
	json_t *p;

	if (!t->pid)
		return NULL;
	json_array_foreach(r->participants, i, p)
		if (number_of(p, "slot") == t->process && number_of(p, "generation") == t->process_generation)
			return p;
	return NULL;
}

/* "340 ms", "2.5 s", "11 min", "3.2 h" */
static char *duration(uint64_t ns, char buf[24])
{
	double s = (double)ns / 1e9;

	if (s < 1)
		snprintf(buf, 24, "%.0f ms", s * 1e3);
	else if (s < 100)
		snprintf(buf, 24, "%.1f s", s);
	else if (s < 6000)
		snprintf(buf, 24, "%.0f min", s / 60);
	else
		snprintf(buf, 24, "%.1f h", s / 3600);
	return buf;
}

/* What a stopped reader keeps from being used again. One that is dead keeps nothing: the next writer that
 * wants the memory ends its section. */
static void warn_stalled(const struct reading *r, const struct fnd_observed_thread *t, json_t *participant)
{
	char comm[64], age[24], held[24];

	if (t->behind_ns < FND_STALL_NS || !participant ||
	    strcmp(text_of(participant, "liveness"), "dead") == 0)
		return;
	status_warn(r->warnings, "stalled-reader",
		    "process %" PRIu32 " (%s), thread %" PRIu32 " has been in a read section in the way of "
		    "writers for %s or longer, since epoch %" PRIu64 ": %s wait for it. Let it go on, or end it",
		    t->pid, tool_printable(text_of(participant, "comm"), comm, sizeof(comm)), t->tid,
		    duration(t->behind_ns, age), t->epoch, tool_bytes(r->held_bytes, held));
}

static int note_thread(const struct fnd_observed_thread *t, void *arg)
{
	struct reading *r = arg;
	json_t *participant = participant_of(r, t);
	struct fnd_observed_thread seen = *t;

	if (!r->s->same_boot)
		seen.behind_ns = 0; /* counted by the clock of a boot that is over */
	warn_stalled(r, &seen, participant);
	json_array_append_new(r->threads,
		json_pack("{s:I, s:I, s:s, s:o, s:I, s:I, s:s, s:I, s:I, s:I, s:I, s:I}",
			  "pid", (json_int_t)t->pid,
			  "tid", (json_int_t)t->tid,
			  "comm", text_of(participant, "comm"),
			  "alive", participant ? json_incref(json_object_get(participant, "alive")) :
						 json_null(),
			  "slot", (json_int_t)t->slot,
			  "generation", (json_int_t)t->generation,
			  "state", status_state(t->state),
			  "nesting", (json_int_t)t->nesting,
			  "epoch", (json_int_t)t->epoch,
			  "epochs_behind",
			  (json_int_t)(t->nesting && r->s->epoch > t->epoch ? r->s->epoch - t->epoch : 0),
			  "age_ns", (json_int_t)seen.behind_ns,
			  "held_bytes", (json_int_t)(seen.behind_ns ? r->held_bytes : 0)));
	return 0;
}

int status_threads_read(struct fnd_observer *o, const struct fnd_segment_status *s, json_t *participants,
			uint64_t held_bytes, json_t *threads, json_t *warnings)
{
	struct reading r = {
		.s = s,
		.participants = participants,
		.threads = threads,
		.warnings = warnings,
		.held_bytes = held_bytes,
	};

	return fnd_observer_threads(o, note_thread, &r);
}

void status_threads_print(json_t *threads)
{
	size_t i;
	json_t *t;

	if (json_array_size(threads))
		printf("\n%8s %8s  %-16s %5s  %-9s %7s %12s %8s %8s %10s\n", "TID", "PID", "COMMAND", "SLOT",
		       "STATE", "NESTING", "EPOCH", "BEHIND", "AGE", "HELD");
	json_array_foreach(threads, i, t) {
		char comm[64], epoch[24] = "-", behind[24] = "-", age[24] = "-", held[24] = "-";

		if (number_of(t, "nesting")) {
			snprintf(epoch, sizeof(epoch), "%lld", (long long)number_of(t, "epoch"));
			snprintf(behind, sizeof(behind), "%lld", (long long)number_of(t, "epochs_behind"));
		}
		if (number_of(t, "age_ns")) {
			duration((uint64_t)number_of(t, "age_ns"), age);
			tool_bytes((uint64_t)number_of(t, "held_bytes"), held);
		}
		printf("%8lld %8lld  %-16s %5lld  %-9s %7lld %12s %8s %8s %10s\n",
		       (long long)number_of(t, "tid"), (long long)number_of(t, "pid"),
		       tool_printable(text_of(t, "comm"), comm, sizeof(comm)),
		       (long long)number_of(t, "slot"), text_of(t, "state"),
		       (long long)number_of(t, "nesting"), epoch, behind, age, held);
	}
}
