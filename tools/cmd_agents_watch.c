// SPDX-License-Identifier: MIT
/* foundation agents watch: each change of the registry as it happens. */
#include "cmd_agents.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define SLICE_MS 200u /* how late an interrupt may be noticed */

static volatile sig_atomic_t interrupted;

static void interrupt(int signal)
{
	(void)signal;
	interrupted = 1;
}

struct watch {
	const struct agents_options *opt;
	uint64_t seen;
	uint64_t missed;
	bool done;
};

/* What a reader of agents wants to know: their own events, and the clashes over their names. */
static bool of_agents(const struct fnd_published *e)
{
	return strncmp(e->name, "agent.", 6) == 0 || strcmp(e->name, "registry.conflict") == 0;
}

static void print_line(const struct fnd_published *e, json_t *data)
{
	const char *name = json_string_value(json_object_get(data, "name"));
	const char *reason = json_string_value(json_object_get(data, "reason"));
	json_t *pid = json_object_get(data, "pid"), *metadata = json_object_get(data, "metadata");
	char safe[FND_AGENT_NAME_MAX + 1], when[32];

	printf("%" PRIu64 "  %s  %-17s %s", e->number, tool_time(e->at_ns, when), e->name,
	       tool_printable(name ? name : "?", safe, sizeof(safe)));
	if (json_is_integer(pid))
		printf("  pid %lld", (long long)json_integer_value(pid));
	if (reason)
		printf("  %s", tool_printable(reason, safe, sizeof(safe)));
	if (reason && json_is_integer(json_object_get(data, "status")))
		printf(" %lld", (long long)json_integer_value(json_object_get(data, "status")));
	if (json_object_size(metadata)) {
		char *text = json_dumps(metadata, JSON_COMPACT | JSON_ENSURE_ASCII);

		printf("  %s", text ? text : "?");
		free(text);
	}
	putchar('\n');
}

static void print_json_line(const struct fnd_published *e, json_t *data)
{
	char when[32];
	json_t *j = json_pack("{s:s, s:I, s:s, s:I, s:s, s:I, s:s, s:O?}", "schema", "foundation.event/1", "number",
			      (json_int_t)e->number, "at", tool_time(e->at_ns, when), "at_ns", (json_int_t)e->at_ns,
			      "event", e->name, "publisher", (json_int_t)e->pid, "backend", "shared", "data", data);

	json_dumpf(j, stdout, JSON_COMPACT | JSON_PRESERVE_ORDER);
	putchar('\n');
	json_decref(j);
}

static int show(const struct fnd_published *e, void *arg)
{
	struct watch *w = arg;
	json_t *data;

	if (!of_agents(e))
		return 0;
	data = tool_json_msgpack(e->map, e->map_bytes);
	if (w->opt->look.json)
		print_json_line(e, data);
	else
		print_line(e, data);
	json_decref(data);
	w->seen++;
	w->done = w->opt->count && w->seen >= w->opt->count;
	return w->done;
}

static uint64_t now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000u + (uint64_t)ts.tv_nsec / 1000000u;
}

/* Until the next event, an interrupt or the end of the time. False: the time is over. */
static bool wait_for_more(struct fnd_events *ev, uint64_t cursor, bool limited, uint64_t end_ms)
{
	uint64_t now = now_ms();
	unsigned int slice = SLICE_MS;

	if (limited && now >= end_ms)
		return false;
	if (limited && end_ms - now < slice)
		slice = (unsigned int)(end_ms - now);
	fnd_events_wait(ev, cursor, slice);
	return true;
}

static void tell_missed(struct watch *w, uint64_t missed, const char *segment)
{
	if (missed && w->opt->look.json)
		printf("{\"schema\":\"foundation.event/1\",\"event\":\"missed\",\"missed\":%" PRIu64 "}\n", missed);
	else if (missed)
		fprintf(stderr, AGENTS_PROG ": %s: %" PRIu64 " events came and went before they could be read\n",
			segment, missed);
}

static int watch(const struct agents_session *s)
{
	struct fnd_events *ev = fnd_runtime_events(s->rt);
	struct watch w = { .opt = s->opt };
	uint64_t cursor = s->opt->from, missed, end_ms = now_ms() + s->opt->timeout_ms;
	bool tell = !s->opt->have_from || s->opt->from; /* from 0: whatever there is */

	if (!ev) {
		fprintf(stderr, AGENTS_PROG ": %s: the segment has no events\n", s->name);
		return TOOL_CANNOT;
	}
	if (!s->opt->have_from)
		cursor = fnd_events_head(ev);
	while (!interrupted && !w.done) {
		int err = fnd_events_read(ev, &cursor, show, &w, &missed);

		if (err < 0)
			return tool_fail(AGENTS_PROG, s->name, err);
		if (tell)
			tell_missed(&w, missed, s->name);
		tell = true;
		fflush(stdout);
		if (ferror(stdout))
			return tool_finish(AGENTS_PROG, TOOL_FINE);
		if (!w.done && !wait_for_more(ev, cursor, s->opt->have_timeout, end_ms))
			break;
	}
	if (s->opt->count && !w.done && !interrupted) {
		fprintf(stderr, AGENTS_PROG ": %s: %" PRIu64 " of %" PRIu64 " changes within the time\n", s->name,
			w.seen, s->opt->count);
		return TOOL_TIMEOUT;
	}
	return tool_finish(AGENTS_PROG, TOOL_FINE);
}

int agents_cmd_watch(const struct agents_options *opt)
{
	struct sigaction action = { .sa_handler = interrupt };
	struct agents_session s;
	int status = agents_attach(opt, true, &s);

	if (status)
		return status;
	sigaction(SIGINT, &action, NULL);
	sigaction(SIGTERM, &action, NULL);
	signal(SIGPIPE, SIG_IGN); /* whoever read this has left: leave in order */
	status = watch(&s);
	agents_detach(&s);
	return status;
}
