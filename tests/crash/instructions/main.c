// SPDX-License-Identifier: MIT
/*
 * instructions - a real SIGKILL at every instruction of an operation, in the library as it is installed.
 *
 * For each instruction a child attaches, stops before the operation, is stepped so far by ptrace, and
 * killed. The parent, another participant, goes by the kernel's evidence, repairs, and checks what the
 * suites named stores- check. Then the segment's bytes are put back for the next child.
 *
 *   instructions [--suite NAME] [--part I/N] [--report FILE] [--stride K]
 *   instructions --list
 */
#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "hooks.h"
#include "instructions.h"
#include "report.h"

#define SEGMENT_BYTES (512u << 10)
#define WALL_NS 1700000000000000000ULL

char *hooks_base;
struct world w;

static char *image;
static uint64_t image_bytes;
static struct suite_result total;
pid_t parent;

static _Noreturn void fatal(const char *what, int err)
{
	fprintf(stderr, "instructions: %s: %s [%s]\n", what, fnd_strerror(err), fnd_error_detail());
	if (parent == getpid())
		fnd_segment_destroy(w.name, FND_DESTROY_FORCE);
	_exit(2);
}

void must(int err, const char *what)
{
	if (err < 0)
		fatal(what, err);
}

/* --- what check.c asks of a world: here it is the real one ---------------------------------------- */

int __real_clock_gettime(clockid_t clock, struct timespec *ts);
int __wrap_clock_gettime(clockid_t clock, struct timespec *ts);

/* Wall time stands still and the other is a counter: every child goes the same way, writes the same bytes. */
int __wrap_clock_gettime(clockid_t clock, struct timespec *ts)
{
	static uint64_t calls;

	ts->tv_sec = WALL_NS / 1000000000u;
	ts->tv_nsec = clock == CLOCK_REALTIME ? 0 : (long)(++calls * 100 % 1000000000u);
	return 0;
}

void world_act(enum who who)
{
	(void)who; /* there is but one */
}

void world_reset(enum who who)
{
	*w.actor[who].seg = w.actor[who].seg_kept;
	*w.actor[who].th = w.actor[who].th_kept;
}

bool world_pid_dead(uint32_t pid)
{
	return pid != (uint32_t)parent;
}

uint32_t world_pid(enum who who)
{
	return who == RESCUER ? (uint32_t)parent : 0x3ffffff0u + who;
}

/* --- children ------------------------------------------------------------------------------------- */

static _Noreturn void child(const struct operation *o)
{
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent || ptrace(PTRACE_TRACEME, 0, NULL, NULL) != 0)
		_exit(3);
	must(fnd_segment_attach(w.name, NULL, &seg), "child: attach");
	must(fnd_table_open(seg, "main", NULL, &table), "child: table");
	must(fnd_registry_open(seg, 0, &registry), "child: registry");
	must(fnd_dedup_open(seg, 0, &dedup), "child: dedup");
	if (o->first)
		o->first();
	raise(SIGSTOP);
	o->run();
	finished();
	_exit(0);
}

/* A child that has stopped before its operation. */
static pid_t spawn(const struct operation *o)
{
	pid_t pid = fork();
	int status;

	if (pid == 0)
		child(o);
	if (pid < 0 || waitpid(pid, &status, 0) != pid || !WIFSTOPPED(status))
		fatal("a child did not come so far", -ECHILD);
	return pid;
}

static void bury(pid_t pid)
{
	kill(pid, SIGKILL);
	while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
		;
}

static void restore(void)
{
	memcpy(hooks_base, image, image_bytes);
	world_reset(RESCUER);
	world_corruptions();
}

static void check(const struct operation *o, uint64_t at, uint64_t of)
{
	struct trial t = { .rescuer = RESCUER, .order = (unsigned int)(at % 3), .thorough = true };
	const char *err = check_readers(&t);

	if (!err)
		err = recover(&t);
	if (!err)
		err = check_all(&t);
	if (!err)
		err = check_new_work(&t);
	if (!err && o->check)
		err = o->check();
	total.count++;
	if (!err)
		return;
	if (total.violations++ < 3)
		fprintf(stderr, "instructions-%s: killed after %llu of %llu instructions:\n  %s\n", o->name,
			(unsigned long long)at, (unsigned long long)of, err);
}

/* --- suites --------------------------------------------------------------------------------------- */

static double now_s(void)
{
	struct timespec ts;

	__real_clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

static void segment_make(const struct operation *o)
{
	struct fnd_segment_options opt = {
		.size = sizeof(opt), .processes = 8, .threads = 8, .max_bytes = SEGMENT_BYTES
	};
	struct fnd_table_options topt = {
		.size = sizeof(topt), .key_max = 8, .value_max = 16, .capacity = 16
	};
	struct actor *a = &w.actor[RESCUER];

	memset(&w, 0, sizeof(w));
	snprintf(w.name, sizeof(w.name), "instructions-%d", (int)parent);
	must(fnd_segment_create(w.name, &opt, &a->seg), "create");
	must(fnd_space_back(a->seg, SEGMENT_BYTES), "backing");
	must(fnd_table_open(a->seg, "main", &topt, &w.table), "table");
	must(fnd_registry_open(a->seg, 4, &registry), "registry");
	must(fnd_registry_register(registry, "ours", 0, NULL, 0, 0), "name");
	must(fnd_dedup_open(a->seg, 4, &dedup), "dedup");
	hooks_base = a->seg->base;
	for (uint32_t k = 0; k < 6; k++)
		put(k, 0);
	put(0, 1);
	if (o->prepare)
		o->prepare();
	must(fnd_thread_self(a->seg, &a->th), "thread");
	a->here = true;
	a->seg_kept = *a->seg;
	a->th_kept = *a->th;
	image_bytes = SEGMENT_BYTES;
	image = malloc(image_bytes);
	memcpy(image, hooks_base, image_bytes);
}

static void segment_end(void)
{
	fnd_dedup_close(dedup);
	fnd_registry_close(registry);
	fnd_table_close(w.table);
	fnd_segment_detach(w.actor[RESCUER].seg);
	fnd_segment_destroy(w.name, FND_DESTROY_FORCE);
	free(image);
}

/* Kills a child before instruction @at; false when none of a few went the way that was written down. */
static bool kill_at(const struct operation *o, uint64_t at)
{
	for (int tries = 0; tries < 4; tries++) {
		pid_t pid;
		bool there;

		restore();
		pid = spawn(o);
		there = walk(pid, at);
		bury(pid);
		if (there)
			return true;
	}
	return false;
}

static void suite_run(const struct operation *o, uint64_t stride, const char *report)
{
	double start = now_s();
	char name[64];
	uint64_t n, strayed = 0;
	pid_t pid;

	snprintf(name, sizeof(name), "instructions-%s", o->name);
	total = (struct suite_result){ .suite = name };
	segment_make(o);
	model_before();
	pid = spawn(o);
	if (o->note)
		o->note(pid, false);
	n = trace(pid);
	if (o->note)
		o->note(pid, true);
	model_after();
	bury(pid);
	if (o->stride)
		stride *= o->stride;
	total.goal = n / stride + 1;
	for (uint64_t at = 0; at <= n; at += stride) {
		strayed += !kill_at(o, at);
		check(o, at, n);
	}
	total.count -= strayed; /* killed somewhere, but not where it says */
	if (o->stride)
		total.goal -= total.goal / 4;
	model_free();
	segment_end();
	total.seconds = now_s() - start;
	report_suite(&total, report);
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{ "suite", required_argument, NULL, 's' },
		{ "part", required_argument, NULL, 'p' },
		{ "report", required_argument, NULL, 'r' },
		{ "stride", required_argument, NULL, 't' },
		{ "list", no_argument, NULL, 'l' },
		{ NULL, 0, NULL, 0 },
	};
	const char *suite = NULL, *report = NULL;
	uint64_t stride = 1, violations = 0, count = 0;
	unsigned int part = 0, parts = 1;
	int c;

	while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
		switch (c) {
		case 's':
			suite = optarg;
			break;
		case 'p':
			sscanf(optarg, "%u/%u", &part, &parts);
			break;
		case 'r':
			report = optarg;
			break;
		case 't':
			stride = strtoull(optarg, NULL, 10);
			break;
		case 'l':
			for (unsigned int i = 0; i < noperations; i++)
				puts(operations[i].name);
			return 0;
		default:
			return 2;
		}
	}
	parent = getpid();
	for (unsigned int i = 0; i < noperations; i++) {
		if (suite ? strcmp(suite, operations[i].name) != 0 : i % parts != part)
			continue;
		suite_run(&operations[i], stride ? stride : 1, report);
		violations += total.violations;
		count += total.count;
	}
	return violations != 0 || count == 0;
}
