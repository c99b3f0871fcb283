// SPDX-License-Identifier: MIT
/*
 * bench_recovery: how soon a dead writer's shard serves again, and whether the other shards notice.
 *
 * A victim is killed while it holds a shard's lock, inside the callback of fnd_table_modify(). Measured from
 * just before the kill to the end of a write to that shard by another process, which
 *   blocked       sleeps for the lock when the kill comes, as it does a moment after the victim took it;
 *   blocked-long  has slept for it for up to 40 ms, its naps having become longer;
 *   after         begins its write when the kill has been sent.
 * Meanwhile a third process writes to the other shards without pause: its longest gap between two writes,
 * beside its longest gap in as long a stretch without any kill. Figures are printed, never judged.
 */
#define _GNU_SOURCE
#include <argp.h>
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "internal.h"

#define TRIALS_MAX 100000
#define LONG_MAX_US 40000
#define GUARD_NS 20000000000ULL /* against hanging */
#define LOCK_WAITERS 2u		/* lock.c */

enum mode { BLOCKED, BLOCKED_LONG, AFTER, MODES };
static const char *const mode_names[MODES] = { "blocked", "blocked-long", "after" };

struct board {
	uint32_t held;    /* trial whose lock the victim has */
	uint32_t begin;   /* trial the waiting writer may begin */
	uint32_t written; /* trial it has written */
	uint32_t pad;
	uint64_t written_ns;
	uint64_t last_ns; /* the other shards' writer: when it wrote last */
	uint64_t gap_ns;  /* … and its longest gap since this was set to 0 */
};

struct run {
	struct fnd_segment *seg;
	struct fnd_table *table;
	char name[64];
	uint64_t capacity, key[2]; /* of shard 0: the victim's and the writer's */
	pid_t writer, other;
};

static volatile struct board *board;
static uint64_t trials = 1000;
static bool json;

static _Noreturn void die(const char *what, int err)
{
	fprintf(stderr, "bench_recovery: %s: %s\n", what, fnd_strerror(err));
	exit(1);
}

static void nap_us(long us)
{
	struct timespec ts = { 0, us * 1000 };

	nanosleep(&ts, NULL);
}

/* Waits until *word is @value. */
static void await(volatile uint32_t *word, uint32_t value)
{
	uint64_t until = fnd_now_ns() + GUARD_NS;

	while (__atomic_load_n(word, __ATOMIC_ACQUIRE) != value) {
		sched_yield();
		if (fnd_now_ns() > until)
			die("a process does not answer", -ETIMEDOUT);
	}
}

/* The last processor is for the writer of the other shards, so that a gap is not the scheduler's. */
static void pin(bool other)
{
	static cpu_set_t all; /* of the first call, in the parent */
	cpu_set_t set;
	int last = CPU_SETSIZE - 1;

	if (CPU_COUNT(&all) == 0 && sched_getaffinity(0, sizeof(all), &all) != 0)
		return;
	while (last >= 0 && !CPU_ISSET(last, &all))
		last--;
	if (CPU_COUNT(&all) < 2)
		return;
	CPU_ZERO(&set);
	CPU_SET(last, &set);
	if (!other)
		CPU_XOR(&set, &all, &set);
	sched_setaffinity(0, sizeof(set), &set);
}

static void open_table(struct run *r)
{
	struct fnd_table_options opt = {
		.size = sizeof(opt), .key_max = 8, .value_max = 32, .capacity = r->capacity
	};
	int err = fnd_table_open(r->seg, "records", &opt, &r->table);

	if (err)
		die("open", err);
}

static void child(struct run *r, pid_t parent)
{
	int err;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent)
		_exit(1);
	err = fnd_segment_attach(r->name, NULL, &r->seg);
	if (err)
		die("attach", err);
	open_table(r);
}

static void write_record(struct run *r, uint64_t key)
{
	uint64_t value[4] = { key, fnd_now_ns() };
	int err = fnd_table_upsert(r->table, &key, sizeof(key), value, sizeof(value));

	if (err)
		die("write", err);
}

/* --- the processes --------------------------------------------------------------------------------- */

/* Never returns: killed in here. */
static enum fnd_modify park(void *arg, const void *old, size_t bytes, const void **value,
			    size_t *value_bytes)
{
	(void)old, (void)bytes, (void)value, (void)value_bytes;
	__atomic_store_n(&board->held, *(uint32_t *)arg, __ATOMIC_RELEASE);
	for (;;)
		pause();
	return FND_MODIFY_KEEP;
}

static pid_t start_victim(struct run *r, uint32_t trial)
{
	pid_t parent = getpid(), pid = fork();

	if (pid < 0)
		die("fork", -errno);
	if (pid == 0) {
		child(r, parent);
		fnd_table_modify(r->table, &r->key[0], sizeof(r->key[0]), park, &trial);
		_exit(1);
	}
	return pid;
}

static pid_t start_writer(struct run *r)
{
	pid_t parent = getpid(), pid = fork();

	if (pid != 0)
		return pid;
	child(r, parent);
	for (uint32_t trial = 1;; trial++) {
		while (__atomic_load_n(&board->begin, __ATOMIC_ACQUIRE) != trial)
			sched_yield();
		write_record(r, r->key[1]);
		board->written_ns = fnd_now_ns();
		__atomic_store_n(&board->written, trial, __ATOMIC_RELEASE);
	}
}

/* Any record but those of the shard in question. */
static pid_t start_other(struct run *r)
{
	pid_t parent = getpid(), pid = fork();
	uint64_t now;

	if (pid != 0)
		return pid;
	pin(true);
	child(r, parent);
	board->last_ns = fnd_now_ns();
	for (uint64_t key = 0;; key = (key + 1) % r->capacity) {
		if (fnd_shard_of(r->table, fnd_table_hash(r->table, &key, sizeof(key))) == 0)
			continue;
		write_record(r, key);
		now = fnd_now_ns();
		if (now - board->last_ns > board->gap_ns)
			board->gap_ns = now - board->last_ns;
		board->last_ns = now;
	}
}

/* The longest gap since @from, with the one that lasts still. */
static uint64_t gap_since(uint64_t from)
{
	uint64_t last = board->last_ns, now = fnd_now_ns(), gap = board->gap_ns;

	last = last > from ? last : from;
	return now > last && now - last > gap ? now - last : gap;
}

/* --- trials ---------------------------------------------------------------------------------------- */

struct figures {
	uint64_t served[TRIALS_MAX], gap[TRIALS_MAX], calm[TRIALS_MAX];
};

static void one_trial(struct run *r, enum mode mode, uint32_t trial, uint64_t n, struct figures *f)
{
	pid_t victim = start_victim(r, trial);
	uint64_t from, took;

	await(&board->held, trial);
	if (mode != AFTER) {
		__atomic_store_n(&board->begin, trial, __ATOMIC_RELEASE);
		while (!(__atomic_load_n(&r->table->shard[0].lock, __ATOMIC_RELAXED) & LOCK_WAITERS))
			sched_yield();
	}
	if (mode == BLOCKED_LONG)
		nap_us(random() % LONG_MAX_US);
	board->gap_ns = 0;
	from = fnd_now_ns();
	kill(victim, SIGKILL);
	if (mode == AFTER)
		__atomic_store_n(&board->begin, trial, __ATOMIC_RELEASE);
	waitpid(victim, NULL, 0);
	await(&board->written, trial);
	took = board->written_ns - from;
	f->served[n] = took;
	f->gap[n] = gap_since(from);
	from = fnd_now_ns();
	board->gap_ns = 0;
	nap_us((long)(took / 1000 < 100000 ? took / 1000 : 100000));
	f->calm[n] = gap_since(from);
}

static int ascending(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

static uint64_t at(const uint64_t *sorted, double q)
{
	return sorted[(size_t)(q * (double)(trials - 1) + 0.5)];
}

static void show(const char *bench, const char *mode, uint64_t records, uint64_t *ns)
{
	qsort(ns, trials, sizeof(*ns), ascending);
	printf(json ? "{\"bench\":\"%s\",\"mode\":\"%s\",\"records_per_shard\":%llu,\"trials\":%llu,"
		      "\"p50_ns\":%llu,\"p99_ns\":%llu,\"max_ns\":%llu}\n" :
		      "%-20s %-13s %6llu records a shard  %5llu trials  p50 %9llu  p99 %9llu  max %9llu ns\n",
	       bench, mode, (unsigned long long)records, (unsigned long long)trials,
	       (unsigned long long)at(ns, 0.5), (unsigned long long)at(ns, 0.99),
	       (unsigned long long)ns[trials - 1]);
	fflush(stdout);
}

static void prepare(struct run *r, uint64_t records)
{
	struct fnd_segment_options opt = { .size = sizeof(opt), .processes = 16, .threads = 16 };
	unsigned int found = 0;
	int err;

	r->capacity = records * FND_SHARDS_MAX;
	snprintf(r->name, sizeof(r->name), "bench-recovery-%d", (int)getpid());
	err = fnd_segment_create(r->name, &opt, &r->seg);
	if (err)
		die("create", err);
	open_table(r);
	for (uint64_t key = 0; key < r->capacity; key++) {
		write_record(r, key);
		if (found < 2 && fnd_shard_of(r->table, fnd_table_hash(r->table, &key, sizeof(key))) == 0)
			r->key[found++] = key;
	}
	memset((void *)board, 0, sizeof(*board));
	r->writer = start_writer(r);
	r->other = start_other(r);
	if (r->writer < 0 || r->other < 0)
		die("fork", -errno);
}

static void finish(struct run *r)
{
	kill(r->writer, SIGKILL);
	kill(r->other, SIGKILL);
	waitpid(r->writer, NULL, 0);
	waitpid(r->other, NULL, 0);
	fnd_table_close(r->table);
	fnd_segment_detach(r->seg);
	fnd_segment_destroy(r->name, FND_DESTROY_FORCE);
}

static void measure(uint64_t records, struct figures *f)
{
	uint32_t trial = 0;
	struct run r;

	prepare(&r, records);
	for (enum mode mode = 0; mode < MODES; mode++) {
		for (uint64_t n = 0; n < trials; n++)
			one_trial(&r, mode, ++trial, n, f);
		show("recovery", mode_names[mode], records, f->served);
		show("recovery-others", mode_names[mode], records, f->gap);
		show("recovery-others-calm", mode_names[mode], records, f->calm);
	}
	finish(&r);
}

/* --- the command line ------------------------------------------------------------------------------ */

static error_t parse(int key, char *arg, struct argp_state *state)
{
	char *end;

	switch (key) {
	case 'j':
		json = true;
		return 0;
	case 't':
		trials = strtoull(arg, &end, 10);
		if (*end || trials < 1 || trials > TRIALS_MAX)
			argp_error(state, "%s: 1 to %d trials", arg, TRIALS_MAX);
		return 0;
	default:
		return ARGP_ERR_UNKNOWN;
	}
}

int main(int argc, char **argv)
{
	static const struct argp_option options[] = {
		{ "trials", 't', "N", 0, "kills for each line (1000)", 0 },
		{ "json", 'j', NULL, 0, "one JSON object a line", 0 },
		{ 0 },
	};
	static const struct argp argp = { options, parse, NULL,
					  "How soon the shard of a killed writer serves again.", NULL, NULL,
					  NULL };
	struct figures *f = calloc(1, sizeof(*f));

	argp_err_exit_status = 2;
	argp_parse(&argp, argc, argv, 0, NULL, NULL);
	board = mmap(NULL, sizeof(*board), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (!f || board == MAP_FAILED)
		die("memory", -ENOMEM);
	pin(false);
	measure(1000, f);
	measure(8000, f);
	free(f);
	return 0;
}
