// SPDX-License-Identifier: MIT
/*
 * One emergency rollback, seen by many.
 *
 * Each worker reads in a loop, takes the time before each read and after it, and notes two of them: when its last
 * old read began, and when its first new one had ended. The store was before every one of the second, so a read
 * that began later than any of them, by more than a step of the clock, must be new.
 */
#define _GNU_SOURCE
#include "multiproc.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include <foundation/area.h>
#include <foundation/flags.h>

#include "flags_test.h"

#define WORKERS 200
#define ALL 0x7fu

struct seen {
	uint64_t last_old_ns; /* when it began */
	uint64_t first_new_ns; /* when it had ended */
	uint64_t reads, wrong;
};

struct crowd {
	const char *name;
	struct seen *seen; /* shared, [WORKERS] */
	unsigned int workers, number;
};

static uint64_t clock_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* No load on the other side of a look at the clock. */
static void fence(void)
{
#if defined(__x86_64__)
	__builtin_ia32_lfence();
#else
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
#endif
}

/* The smallest step the clock makes, as two looks side by side show it. */
static uint64_t clock_step(void)
{
	uint64_t least = UINT64_MAX;

	for (unsigned int i = 0; i < 10000; i++) {
		uint64_t a = clock_ns(), b = clock_ns();

		if (b > a && b - a < least)
			least = b - a;
	}
	return least;
}

static unsigned int on_now(const struct fnd_flags_view *v)
{
	unsigned int on = 0;

	for (unsigned int i = 0; i < FND_FLAG_KNOWN; i++)
		on |= v->percent[i] == 100 ? 1u << i : 0;
	return on;
}

/* Word 0: how many have begun; word 1: they may end. */
static int worker(void *arg)
{
	struct crowd *c = arg;
	struct seen *s = &c->seen[c->number];
	struct fnd_flags_view v;
	struct fnd_segment *seg;
	struct fnd_flags *f;

	NEED(fnd_segment_attach(c->name, NULL, &seg) == 0);
	NEED(fnd_flags_open(seg, &f) == 0);
	word_add(&shared->word[0], 1);
	while (!word_get(&shared->word[1]) || s->first_new_ns == 0) {
		uint64_t before = clock_ns(), after;
		int old;

		fence();
		old = fnd_flag_enabled(f, FND_FLAG_SHARED_REGISTRY);
		fence();
		after = clock_ns();
		s->reads++;
		if (old)
			s->last_old_ns = before;
		else if (s->first_new_ns == 0)
			s->first_new_ns = after;
		fnd_flags_view(f, &v);
		if (!((v.stage == FND_STAGE_5 && on_now(&v) == ALL) || (v.stage == 0 && on_now(&v) == 0)))
			s->wrong++; /* a mixture */
		if (s->first_new_ns && (v.stage || s->last_old_ns > s->first_new_ns))
			s->wrong++; /* back again */
		if (s->reads % 64 == 0)
			sched_yield_some();
	}
	_exit(s->wrong ? 1 : 0); /* not detached: the tables may be gone */
}

static int judge(const struct crowd *c)
{
	uint64_t last_old = 0, first_new = UINT64_MAX, reads = 0, step = clock_step();
	unsigned int olds = 0;

	for (unsigned int i = 0; i < c->workers; i++) {
		const struct seen *s = &c->seen[i];

		NEED(s->wrong == 0);
		NEED(s->first_new_ns != 0);
		reads += s->reads;
		olds += s->last_old_ns != 0;
		if (s->last_old_ns > last_old)
			last_old = s->last_old_ns;
		if (s->first_new_ns < first_new)
			first_new = s->first_new_ns;
	}
	printf("%u workers, %llu reads; the last old one began %lld ns before the first new one had ended; "
	       "clock step %llu ns\n",
	       c->workers, (unsigned long long)reads, (long long)(first_new - last_old), (unsigned long long)step);
	fflush(stdout);
	NEED(olds == c->workers);
	NEED(last_old <= first_new + step);
	return 0;
}

/* Everything behind the header: slots, directory, tables. */
static int destroy_tables(const char *name)
{
	static unsigned char bytes[1 << 16];
	int fd = open(path_of(name), O_RDWR | O_CLOEXEC);
	struct stat st;

	memset(bytes, 0xa5, sizeof(bytes));
	NEED(fd >= 0 && fstat(fd, &st) == 0);
	for (off_t at = 4096; at < st.st_size; at += (off_t)sizeof(bytes)) {
		size_t n = sizeof(bytes) < (size_t)(st.st_size - at) ? sizeof(bytes) : (size_t)(st.st_size - at);

		NEED(pwrite(fd, bytes, n, at) == (ssize_t)n);
	}
	close(fd);
	return 0;
}

static int crowd_run(unsigned int workers, bool damage, int want)
{
	struct fnd_segment_options opt = small_options();
	struct crowd c = { .name = name_new(), .workers = workers };
	static pid_t pid[WORKERS];
	struct fnd_segment *seg;
	struct fnd_flags *f;

	opt.processes = WORKERS + 8;
	opt.threads = WORKERS + 8;
	c.seen = mmap(NULL, sizeof(*c.seen) * WORKERS, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	NEED(c.seen != MAP_FAILED);
	NEED(fnd_segment_create(c.name, &opt, &seg) == 0);
	NEED(fnd_flags_open(seg, &f) == 0);
	NEED(fnd_flags_stage_set(f, FND_STAGE_5, NULL) == (want ? FND_NOT_DURABLE : 0));
	for (c.number = 0; c.number < workers; c.number++)
		pid[c.number] = child_start(worker, &c);
	TRY(word_wait(&shared->word[0], workers));
	nap_us(300000); /* old reads by all of them */
	if (damage)
		TRY(destroy_tables(c.name));
	NEED(fnd_flags_emergency(c.name, NULL, NULL) == want);
	nap_us(100000);
	NEED(fnd_flags_emergency(c.name, NULL, NULL) == want); /* twice in a row */
	NEED(fnd_flag_enabled(f, FND_FLAG_SHARED_REGISTRY) == 0);
	word_set(&shared->word[1], 1);
	for (unsigned int i = 0; i < workers; i++)
		NEED(child_wait(pid[i]) == 0);
	TRY(judge(&c));
	munmap(c.seen, sizeof(*c.seen) * WORKERS);
	fnd_flags_close(f);
	if (!damage)
		NEED(fnd_segment_detach(seg) == 0);
	NEED(fnd_segment_destroy(c.name, FND_DESTROY_FORCE) == 0);
	return flags_purge(c.name);
}

static int two_hundred(void)
{
	return crowd_run(WORKERS, false, 0);
}

static int tables_destroyed(void)
{
	return crowd_run(20, true, 0);
}

static int journal_refused(void)
{
	setenv("FOUNDATION_STATE_DIR", "/proc/no-such-place", 1);
	return crowd_run(20, false, FND_NOT_DURABLE);
}

static int hold_slot(void *arg)
{
	struct fnd_segment *seg;

	NEED(fnd_segment_attach(arg, NULL, &seg) == 0);
	word_add(&shared->word[0], 1);
	for (;;)
		pause();
}

/* Nobody has a slot to spare. */
static int no_slot_left(void)
{
	const char *name = name_new();
	struct fnd_segment *seg, *more;
	struct fnd_flags *f;
	pid_t pid[8];

	TRY(create_small(name, &seg));
	NEED(fnd_flags_open(seg, &f) == 0);
	NEED(fnd_flags_stage_set(f, FND_STAGE_5, NULL) == 0);
	for (unsigned int i = 0; i < 7; i++)
		pid[i] = child_start(hold_slot, (void *)(uintptr_t)name);
	TRY(word_wait(&shared->word[0], 7));
	pid[7] = fork();
	if (pid[7] == 0)
		_exit(fnd_segment_attach(name, NULL, &more) == -FND_E_NOSLOT &&
				      fnd_flags_emergency(name, NULL, NULL) == 0 ?
			      0 :
			      1);
	NEED(child_wait(pid[7]) == 0);
	NEED(fnd_flag_enabled(f, FND_FLAG_ENFORCE_SHARED_STATE) == 0);
	for (unsigned int i = 0; i < 7; i++)
		child_kill(pid[i]);
	return flags_end(seg, f, name);
}

const struct test_case visible_cases[] = {
	{ "two_hundred_workers_see_one_store", two_hundred },
	{ "also_with_every_table_destroyed", tables_destroyed },
	{ "also_without_a_journal", journal_refused },
	{ "also_without_a_slot", no_slot_left },
	{ NULL, NULL },
};
