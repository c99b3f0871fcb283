/* SPDX-License-Identifier: MIT */
/*
 * logmill: several workers read log lines and share what they know in one segment.
 *
 * Every source of lines becomes an agent in the registry, every kind of line is emitted once by whoever
 * meets it first, and a worker may be killed at any time. See README.md beside this file.
 */
#include "mill.h"

#include <argp.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/* What a new segment has room for, unless asked for: as many as there are lines, between these. */
#define CAPACITY_MAX 65536
#define CAPACITY_MIN 1024
#define DEFAULT_KILL_EVERY_MS 10

/* One lookup in so many is timed: often enough that a short log gives samples too. */
#define SAMPLE_SHORT 16
#define SAMPLE_LONG 256
#define LONG_LOG 200000

uint64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

static int exit_status(int err)
{
	switch (-err) {
	case 0:
		return 0;
	case EINVAL:
		return 2;
	case FND_E_CORRUPT:
		return 4;
	case ETIMEDOUT:
		return 5;
	case EACCES:
	case EPERM:
	case FND_E_FENCED:
		return 6;
	default:
		return 3;
	}
}

int complain(const char *what, int err)
{
	const char *detail = fnd_error_detail();

	fprintf(stderr, "logmill: %s: %s%s%s%s\n", what, fnd_strerror(err), *detail ? " (" : "",
		detail, *detail ? ")" : "");
	return exit_status(err);
}

int complain_system(const char *what, int err)
{
	fprintf(stderr, "logmill: %s: %s\n", what, strerror(-err));
	return err == -EACCES || err == -EPERM ? 6 : 3;
}

enum {
	OPT_SEGMENT = 256,
	OPT_KEEP,
	OPT_HOLD,
	OPT_WINDOW,
	OPT_REPEAT,
	OPT_SECONDS,
	OPT_KILL_EVERY,
	OPT_KILLS,
	OPT_EVENTS,
	OPT_JSON,
	OPT_AGENTS,
	OPT_DEDUP,
};

static const struct argp_option options[] = {
	{ "workers", 'w', "N", 0, "worker processes, 1 to 64 (default 4)", 0 },
	{ "segment", OPT_SEGMENT, "NAME", 0, "create this segment, or attach to it if it is there", 0 },
	{ "keep", OPT_KEEP, NULL, 0, "leave the segment there at the end", 0 },
	{ "hold", OPT_HOLD, NULL, 0, "after the summary stay until SIGTERM or SIGINT", 0 },
	{ "window", OPT_WINDOW, "SECONDS|forever", 0,
	  "a template goes out again after so long (default 5)", 0 },
	{ "repeat", OPT_REPEAT, "N", 0, "go through the logs N times, 0: until told to stop", 0 },
	{ "seconds", OPT_SECONDS, "S", 0, "begin no pass after S seconds", 0 },
	{ "kill-every", OPT_KILL_EVERY, "MS", 0, "kill a random worker every MS milliseconds", 0 },
	{ "kills", OPT_KILLS, "N", 0, "go on until N workers have been killed", 0 },
	{ "events", OPT_EVENTS, "FILE", 0, "write the templates there, one a line", 0 },
	{ "json", OPT_JSON, NULL, 0, "print the summary as one JSON object", 0 },
	{ "agents", OPT_AGENTS, "N", 0,
	  "sources a new segment has room for (default: as many as lines, at most 65536)", 0 },
	{ "dedup", OPT_DEDUP, "N", 0, "templates a new segment has room for (default likewise)", 0 },
	{ 0 },
};

static uint64_t number(struct argp_state *state, const char *arg, const char *what, uint64_t min,
		       uint64_t max)
{
	char *end;

	errno = 0;

	unsigned long long n = strtoull(arg, &end, 10);

	if (arg[0] < '0' || arg[0] > '9' || *end || errno || n < min || n > max)
		argp_error(state, "%s: '%s' is not a number from %llu to %llu", what, arg,
			   (unsigned long long)min, (unsigned long long)max);
	return n;
}

static uint64_t seconds(struct argp_state *state, const char *arg, const char *what)
{
	char *end;
	double s = strtod(arg, &end);

	if (end == arg || *end || !(s >= 0) || s > 1e9)
		argp_error(state, "%s: '%s' is not a number of seconds", what, arg);
	return (uint64_t)(s * 1e9 + 0.5);
}

struct command_line {
	struct mill *mill;
	bool repeat_given;
};

static void add_log(struct argp_state *state, const char *path)
{
	struct command_line *line = state->input;
	int err = logs_add(&line->mill->logs, path);

	if (err) {
		fprintf(stderr, "logmill: cannot read %s: %s\n", path, strerror(-err));
		exit(3);
	}
}

static void check_command_line(struct argp_state *state)
{
	struct command_line *line = state->input;
	struct mill_options *o = &line->mill->options;

	if (!line->mill->logs.nfiles)
		argp_error(state, "no log file given");
	if (!line->repeat_given)
		o->passes = o->run_ns ? 0 : 1;
	o->killing = o->kills || o->kill_every_ns;
	if (!o->kill_every_ns)
		o->kill_every_ns = DEFAULT_KILL_EVERY_MS * 1000000ull;
}

static error_t parse_option(int key, char *arg, struct argp_state *state)
{
	struct command_line *line = state->input;
	struct mill_options *o = &line->mill->options;

	switch (key) {
	case 'w':
		o->workers = (unsigned int)number(state, arg, "--workers", 1, WORKERS_MAX);
		break;
	case OPT_SEGMENT:
		o->segment = arg;
		break;
	case OPT_KEEP:
		o->keep = true;
		break;
	case OPT_HOLD:
		o->hold = true;
		break;
	case OPT_WINDOW:
		o->window_ns = FND_WINDOW_FOREVER;
		if (strcmp(arg, "forever") != 0)
			o->window_ns = seconds(state, arg, "--window");
		break;
	case OPT_REPEAT:
		o->passes = number(state, arg, "--repeat", 0, UINT32_MAX);
		line->repeat_given = true;
		break;
	case OPT_SECONDS:
		o->run_ns = seconds(state, arg, "--seconds");
		break;
	case OPT_KILL_EVERY:
		o->kill_every_ns = number(state, arg, "--kill-every", 1, 86400000) * 1000000;
		break;
	case OPT_KILLS:
		o->kills = number(state, arg, "--kills", 0, UINT32_MAX);
		break;
	case OPT_EVENTS:
		o->events = arg;
		break;
	case OPT_JSON:
		o->json = true;
		break;
	case OPT_AGENTS:
		o->agents = number(state, arg, "--agents", 1, 10000000);
		break;
	case OPT_DEDUP:
		o->dedup = number(state, arg, "--dedup", 1, 10000000);
		break;
	case ARGP_KEY_ARG:
		add_log(state, arg);
		break;
	case ARGP_KEY_END:
		check_command_line(state);
		break;
	default:
		return ARGP_ERR_UNKNOWN;
	}
	return 0;
}

struct mill_room {
	uint64_t agents, dedup;
};

/* Called on the new segment before it has a name: whoever finds it finds it with its tables. */
static int make_tables(struct fnd_segment *segment, void *arg)
{
	const struct mill_room *room = arg;
	struct fnd_registry *registry = NULL;
	struct fnd_dedup *dedup = NULL;
	struct fnd_table *progress = NULL;
	int err = fnd_registry_open(segment, room->agents, &registry);

	if (!err)
		err = fnd_dedup_open(segment, room->dedup, &dedup);
	if (!err)
		err = progress_open(segment, &progress);
	fnd_table_close(progress);
	fnd_dedup_close(dedup);
	fnd_registry_close(registry);
	return err;
}

static int create_with_room(struct mill *mill, uint64_t room)
{
	const struct mill_options *o = &mill->options;
	struct mill_room m = { room + o->workers + 1, room };

	if (o->agents)
		m.agents = o->agents;
	if (o->dedup)
		m.dedup = o->dedup;

	const struct fnd_segment_options limits = {
		.size = sizeof(limits),
		.max_bytes = (1ull << 30) + (m.agents + m.dedup) * 4096,
		.init = make_tables,
		.init_arg = &m,
	};

	return fnd_segment_create(mill->segment_name, &limits, &mill->segment);
}

/* The room is reserved here and now: where /dev/shm is small, less of it has to do. */
static int create_segment(struct mill *mill)
{
	uint64_t room = mill->logs.nlines;
	int err;

	if (room > CAPACITY_MAX)
		room = CAPACITY_MAX;
	if (room < CAPACITY_MIN)
		room = CAPACITY_MIN;
	do {
		err = create_with_room(mill, room);
		room /= 2;
	} while (err == -ENOSPC && room >= CAPACITY_MIN);
	return err;
}

static int open_segment(struct mill *mill)
{
	const char *name = mill->options.segment;

	if (name && strlen(name) >= sizeof(mill->segment_name))
		return -EINVAL;
	if (name)
		strcpy(mill->segment_name, name);
	else
		snprintf(mill->segment_name, sizeof(mill->segment_name), "logmill-%d", (int)mill->pid);

	int err = -ENOENT;

	/* Two who start at once both end up attached: one creates, the other finds it made. */
	if (name)
		err = fnd_segment_attach(name, NULL, &mill->segment);
	if (err == -ENOENT) {
		err = create_segment(mill);
		mill->ours = !err;
		if (err == -EEXIST && name) {
			err = fnd_segment_attach(name, NULL, &mill->segment);
		} else if (err == -EEXIST && !fnd_segment_destroy(mill->segment_name, 0)) {
			/* The private segment of a mill that was killed and had the pid we have. */
			err = create_segment(mill);
			mill->ours = !err;
		}
	}
	return err;
}

/* "logmill", or with the pid when another mill on this segment has that name. */
static int register_service(struct mill *mill)
{
	strcpy(mill->service, "logmill");

	int err = fnd_registry_register(mill->registry, mill->service, 0, NULL, 0, 0);

	if (err != -EEXIST)
		return err;
	snprintf(mill->service, sizeof(mill->service), "logmill-%d", (int)mill->pid);
	return fnd_registry_register(mill->registry, mill->service, 0, NULL, 0, 0);
}

static int open_all(struct mill *mill)
{
	int err = open_segment(mill);

	if (!err)
		err = fnd_registry_open(mill->segment, 0, &mill->registry);
	if (!err)
		err = fnd_dedup_open(mill->segment, 0, &mill->dedup);
	if (!err)
		err = progress_open(mill->segment, &mill->progress);
	if (!err)
		err = fnd_registry_reap(mill->registry, NULL);
	if (!err)
		err = progress_sweep(mill->segment, mill->progress, mill->pid);
	if (!err)
		err = register_service(mill);
	if (!err)
		err = fnd_sampling_set(mill->segment,
				       mill->logs.nlines < LONG_LOG ? SAMPLE_SHORT : SAMPLE_LONG);
	return err ? err : summary_start(mill);
}

static int close_all(struct mill *mill)
{
	int err = 0;

	if (mill->progress && !mill->ours) {
		fnd_sampling_set(mill->segment, 0);
		progress_sweep(mill->segment, mill->progress, mill->pid);
	}
	fnd_table_close(mill->progress);
	fnd_dedup_close(mill->dedup);
	fnd_registry_close(mill->registry);
	fnd_segment_detach(mill->segment);
	if (mill->ours && !mill->options.keep) {
		err = fnd_segment_destroy(mill->segment_name, 0);
		/* Somebody looks on, with a tool perhaps: what he has mapped stays his. */
		if (err == -EBUSY)
			err = fnd_segment_destroy(mill->segment_name, FND_DESTROY_FORCE);
	}
	return err;
}

int main(int argc, char **argv)
{
	static struct mill mill = { .options = { .workers = 4, .window_ns = 5000000000u } };
	static const struct argp argp = {
		options, parse_option, "LOG...",
		"Serve log lines with several workers on one shared-memory segment: every source of "
		"lines becomes an agent, every kind of line is emitted once.\v"
		"Exit status: 0 fine, 2 usage, 3 cannot open or attach, 4 corrupt, 5 timeout, "
		"6 permission, 7 done but the events file is not durable.",
		NULL, NULL, NULL
	};
	struct command_line line = { .mill = &mill };
	int status, err;

	argp_err_exit_status = 2;
	argp_program_version = fnd_version();
	mill.pid = getpid();
	argp_parse(&argp, argc, argv, 0, NULL, &line);
	if (mill.options.events && (err = events_check_target(mill.options.events))) {
		status = complain_system(mill.options.events, err);
		logs_free(&mill.logs);
		return status;
	}

	status = service_prepare(&mill);
	if (status)
		return status;
	err = open_all(&mill);
	if (err) {
		status = complain(mill.segment_name, err);
	} else {
		status = service_run(&mill);
		err = summary_print(&mill);
		if (err && !status)
			status = complain("no summary", err);
		if (mill.options.hold && !status)
			service_hold(&mill);
	}
	err = close_all(&mill);
	if (err && !status)
		status = complain(mill.segment_name, err);
	logs_free(&mill.logs);
	return status;
}
