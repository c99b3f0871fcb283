// SPDX-License-Identifier: MIT
/* Areas: what is in them at first, what is kept of the dead and how often, how they ended, waiting. */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <foundation/area.h>
#include <foundation/atomic.h>

#include "../multiproc/multiproc.h"

enum { READY = 0, GO = 1 }; /* words */

static char segment[80];

static int segment_new(struct fnd_segment **ret_seg)
{
	struct fnd_segment_options opt = { .size = sizeof(opt), .processes = 16, .threads = 32,
					   .max_bytes = 1 << 20 };

	snprintf(segment, sizeof(segment), "%s", name_new());
	return fnd_segment_create(segment, &opt, ret_seg);
}

static int segment_end(struct fnd_segment *seg)
{
	NEED(fnd_segment_detach(seg) == 0);
	NEED(fnd_segment_destroy(segment, FND_DESTROY_FORCE) == 0);
	return 0;
}

static bool zero(const void *p, size_t n)
{
	const unsigned char *b = p;

	for (size_t i = 0; i < n; i++)
		if (b[i])
			return false;
	return true;
}

/* --- at first -------------------------------------------------------------------------------------- */

static void *area_of_thread(void *seg)
{
	void *area;

	if (fnd_thread_area(seg, &area) || (uintptr_t)area % 64 || !zero(area, 8))
		return NULL;
	memset(area, 0xab, FND_THREAD_AREA_BYTES);
	return area;
}

static int zero_at_first(void)
{
	unsigned char copy[FND_AREA_BYTES];
	struct fnd_segment *seg;
	struct fnd_observer *o;
	void *mine, *again, *theirs, *area;
	pthread_t thread;

	NEED(segment_new(&seg) == 0 && fnd_observer_open(segment, &o) == 0);
	area = fnd_segment_area(seg);
	NEED((uintptr_t)area % 64 == 0 && zero(area, FND_AREA_BYTES));
	memset(area, 0x5c, FND_AREA_BYTES);
	NEED(fnd_observer_area(o, copy) == 0 && memcmp(copy, area, sizeof(copy)) == 0);
	memset(area, 0, FND_AREA_BYTES);
	NEED(fnd_thread_area(seg, &mine) == 0 && fnd_thread_area(seg, &again) == 0 && mine == again);
	NEED(zero(mine, FND_THREAD_AREA_BYTES));
	/* a thread after another in the same slot: the first 8 bytes are 0 again */
	for (int i = 0; i < 3; i++) {
		NEED(pthread_create(&thread, NULL, area_of_thread, seg) == 0);
		NEED(pthread_join(thread, &theirs) == 0 && theirs && theirs != mine);
	}
	NEED(fnd_observer_thread_area(o, 0, copy) == -EINVAL && fnd_observer_thread_area(o, 999, copy) == -EINVAL);
	fnd_observer_close(o);
	return segment_end(seg);
}

/* --- remains --------------------------------------------------------------------------------------- */

static int mark_area(uintptr_t number, struct fnd_segment **ret_seg)
{
	void *area;

	NEED(fnd_segment_attach(segment, NULL, ret_seg) == 0 && fnd_thread_area(*ret_seg, &area) == 0);
	memset((char *)area + 8, (int)number, FND_THREAD_AREA_BYTES - 8);
	fnd_store_relaxed((uint64_t *)area, number); /* relaxed: looked at after its death */
	return 0;
}

static int dies(void *number)
{
	struct fnd_segment *seg;

	TRY(mark_area((uintptr_t)number, &seg));
	raise(SIGKILL);
	return 1;
}

static int leaves(void *number)
{
	struct fnd_segment *seg;

	TRY(mark_area((uintptr_t)number, &seg));
	NEED(fnd_segment_detach(seg) == 0);
	return 0;
}

static void *thread_leaves(void *seg)
{
	uint64_t *area;
	void *p;

	if (fnd_thread_area(seg, &p))
		return "no area";
	area = p;
	*area = 1;
	return NULL;
}

struct found {
	uint64_t first, last, count;
	uint32_t pid;
	bool wrong;
};

static int find(const struct fnd_remains *r, void *arg)
{
	struct found *f = arg;
	uint64_t word;

	memcpy(&word, r->area, 8);
	f->count++;
	f->first = f->first ? f->first : word;
	f->last = word;
	f->pid = r->pid;
	f->wrong |= r->pid == 0 || r->tid == 0 || r->found_ns == 0 || !r->comm[0];
	for (unsigned int i = 8; i < FND_THREAD_AREA_BYTES; i++)
		f->wrong |= r->area[i] != (unsigned char)word;
	return 0;
}

static int reaps(void *arg)
{
	struct fnd_segment *seg;

	(void)arg;
	NEED(fnd_segment_attach(segment, NULL, &seg) == 0);
	word_add(&shared->word[READY], 1);
	TRY(word_wait(&shared->word[GO], 1));
	NEED(fnd_segment_reap(seg, NULL) == 0);
	NEED(fnd_segment_detach(seg) == 0);
	return 0;
}

/* Several reapers at once: what is kept is kept once. */
static int kept_once(void)
{
	struct fnd_segment *seg;
	uint64_t dropped;

	NEED(segment_new(&seg) == 0);
	for (uintptr_t round = 1; round <= 20; round++) {
		struct found f = { 0 };
		pid_t victim, reaper[4];

		word_set(&shared->word[READY], 0);
		word_set(&shared->word[GO], 0);
		for (int i = 0; i < 4; i++)
			reaper[i] = child_start(reaps, NULL);
		TRY(word_wait(&shared->word[READY], 4));
		victim = child_start(dies, (void *)round);
		NEED(child_wait(victim) == 128 + SIGKILL);
		word_set(&shared->word[GO], 1);
		for (int i = 0; i < 4; i++)
			NEED(child_wait(reaper[i]) == 0);
		NEED(fnd_remains_iterate(seg, find, &f, &dropped) == 0);
		NEED(f.count == round && f.last == round && f.pid == (uint32_t)victim && !f.wrong && dropped == 0);
	}
	return segment_end(seg);
}

static int orderly_keeps_nothing(void)
{
	struct fnd_segment *seg;
	struct found f = { 0 };
	pthread_t thread;
	void *said;

	NEED(segment_new(&seg) == 0);
	NEED(child_run(leaves, (void *)7) == 0);
	NEED(pthread_create(&thread, NULL, thread_leaves, seg) == 0 && pthread_join(thread, &said) == 0 && !said);
	NEED(fnd_segment_reap(seg, NULL) == 0);
	NEED(fnd_remains_iterate(seg, find, &f, NULL) == 0 && f.count == 0);
	NEED(child_run(dies, (void *)0) == 128 + SIGKILL); /* first 8 bytes 0 */
	NEED(fnd_segment_reap(seg, NULL) == 0);
	NEED(fnd_remains_iterate(seg, find, &f, NULL) == 0 && f.count == 0);
	return segment_end(seg);
}

static int ring(void)
{
	struct fnd_segment *seg;
	struct fnd_observer *o;
	uint64_t dropped = 9;

	NEED(segment_new(&seg) == 0 && fnd_observer_open(segment, &o) == 0);
	for (uintptr_t i = 1; i <= FND_REMAINS_MAX + 10; i++) {
		struct found f = { 0 }, g = { 0 };
		uint64_t want = i > FND_REMAINS_MAX ? FND_REMAINS_MAX : i;

		NEED(child_run(dies, (void *)i) == 128 + SIGKILL && fnd_segment_reap(seg, NULL) == 0);
		NEED(fnd_remains_iterate(seg, find, &f, &dropped) == 0);
		NEED(f.count == want && f.last == i && f.first == i - want + 1 && dropped == i - want && !f.wrong);
		NEED(fnd_observer_remains(o, find, &g, &dropped) == 0);
		NEED(memcmp(&f, &g, sizeof(f)) == 0 && dropped == i - want);
	}
	fnd_observer_close(o);
	return segment_end(seg);
}

/* --- how it ended ---------------------------------------------------------------------------------- */

static int comes_and_goes(void *how)
{
	struct fnd_segment *seg;

	NEED(fnd_segment_attach(segment, NULL, &seg) == 0);
	word_set(&shared->word[READY], 1);
	TRY(word_wait(&shared->word[GO], 1));
	if (how)
		raise((int)(uintptr_t)how);
	_exit(3);
}

/* A participant, found while it lives, that will end like this. */
static int participant(struct fnd_segment *seg, int signal, pid_t *ret_pid, struct fnd_participant *ret_who)
{
	struct fnd_death d;

	word_set(&shared->word[READY], 0);
	word_set(&shared->word[GO], 0);
	*ret_pid = child_start(comes_and_goes, (void *)(uintptr_t)signal);
	TRY(word_wait(&shared->word[READY], 1));
	NEED(fnd_segment_participant(seg, (uint32_t)*ret_pid, ret_who) == 0);
	NEED(fnd_participant_death(seg, ret_who, &d) == -ENOENT);
	word_set(&shared->word[GO], 1);
	return 0;
}

/* A reaper that meets the zombie reads how it ended. */
static int zombie_tells(void)
{
	static const int signals[] = { 0, SIGKILL, SIGTERM };
	struct fnd_participant who;
	struct fnd_segment *seg;
	struct fnd_death d;
	siginfo_t info;
	pid_t pid;
	int status;

	NEED(segment_new(&seg) == 0);
	for (int i = 0; i < 3; i++) {
		TRY(participant(seg, signals[i], &pid, &who));
		NEED(waitid(P_PID, (id_t)pid, &info, WEXITED | WNOWAIT) == 0);
		NEED(fnd_segment_reap(seg, NULL) == 0);
		NEED(fnd_participant_death(seg, &who, &d) == 0);
		NEED(waitpid(pid, &status, 0) == pid);
		SKIP_UNLESS(d.known, "the kernel does not say how a zombie ended");
		NEED(d.status == status && d.found_ns > 0 && d.comm[0]);
		NEED(signals[i] ? WTERMSIG(d.status) == signals[i] : WEXITSTATUS(d.status) == 3);
	}
	return segment_end(seg);
}

/* Whoever comes next, and there is another slot, does not take the place of what is known of the dead. */
static int kept_from_the_next(void)
{
	struct fnd_participant first, next;
	struct fnd_segment *seg;
	struct fnd_death d;
	pid_t pid[2];
	int status;

	NEED(segment_new(&seg) == 0);
	TRY(participant(seg, SIGKILL, &pid[0], &first));
	NEED(waitpid(pid[0], &status, 0) == pid[0]);
	NEED(fnd_segment_child_died(seg, (uint32_t)pid[0], status) == 0);
	TRY(participant(seg, SIGKILL, &pid[1], &next));
	NEED(waitpid(pid[1], &status, 0) == pid[1]);
	NEED(next.slot != first.slot);
	NEED(fnd_participant_death(seg, &first, &d) == 0 && d.known && WTERMSIG(d.status) == SIGKILL);
	return segment_end(seg);
}

static int parent_tells(void)
{
	struct fnd_participant who;
	struct fnd_segment *seg;
	struct fnd_death d;
	pid_t pid;
	int status;

	NEED(segment_new(&seg) == 0);
	for (int i = 0; i < 2; i++) {
		TRY(participant(seg, SIGKILL, &pid, &who));
		NEED(waitpid(pid, &status, 0) == pid);
		if (i == 1) { /* somebody reaped before, and could not know */
			NEED(fnd_segment_reap(seg, NULL) == 0);
			NEED(fnd_participant_death(seg, &who, &d) == 0 && !d.known);
		}
		NEED(fnd_segment_child_died(seg, (uint32_t)pid, status) == 0);
		NEED(fnd_participant_death(seg, &who, &d) == 0);
		NEED(d.known && d.status == status && d.found_ns > 0);
		NEED(fnd_segment_child_died(seg, (uint32_t)pid, status) == -ESRCH);
	}
	NEED(fnd_segment_child_died(seg, (uint32_t)getpid(), 0) == -ESRCH); /* it lives */
	return segment_end(seg);
}

/* --- waiting --------------------------------------------------------------------------------------- */

static uint32_t *word_of(struct fnd_segment *seg)
{
	return (uint32_t *)((char *)fnd_segment_area(seg) + 1024);
}

static int sleeps(void *arg)
{
	struct fnd_segment *seg;
	int err;

	(void)arg;
	NEED(fnd_segment_attach(segment, NULL, &seg) == 0);
	word_add(&shared->word[READY], 1);
	do {
		err = fnd_area_wait(word_of(seg), 0, 20000);
	} while ((err == 0 || err == -EINTR) && fnd_load_acquire(word_of(seg)) == 0);
	NEED(err == 0 && fnd_load_acquire(word_of(seg)) == 5);
	NEED(fnd_segment_detach(seg) == 0);
	return 0;
}

static int waits_and_wakes(void)
{
	struct fnd_segment *seg;
	pid_t pid[4];

	NEED(segment_new(&seg) == 0);
	NEED(fnd_area_wait(word_of(seg), 1, 20000) == 0); /* another value: at once */
	NEED(fnd_area_wait(word_of(seg), 0, 1) == -ETIMEDOUT);
	for (int i = 0; i < 4; i++)
		pid[i] = child_start(sleeps, NULL);
	TRY(word_wait(&shared->word[READY], 4));
	nap_us(10000);
	fnd_store_release(word_of(seg), 5);
	fnd_area_wake(word_of(seg));
	for (int i = 0; i < 4; i++)
		NEED(child_wait(pid[i]) == 0);
	return segment_end(seg);
}

/* A child of fork() gets no area from its parent's handle. */
static struct fnd_segment *parents;

static int asks(void *arg)
{
	void *area;

	(void)arg;
	NEED(refused(fnd_thread_area(parents, &area), FND_E_FORKED, "parent"));
	NEED(fnd_remains_iterate(parents, find, &(struct found){ 0 }, NULL) == -FND_E_FORKED);
	NEED(fnd_segment_child_died(parents, 1, 0) == -FND_E_FORKED);
	return 0;
}

static int forked(void)
{
	NEED(segment_new(&parents) == 0);
	NEED(child_run(asks, NULL) == 0);
	return segment_end(parents);
}

static const struct test_case cases[] = {
	{ "zero_at_first", zero_at_first },
	{ "kept_once", kept_once },
	{ "orderly_keeps_nothing", orderly_keeps_nothing },
	{ "ring", ring },
	{ "zombie_tells", zombie_tells },
	{ "kept_from_the_next", kept_from_the_next },
	{ "parent_tells", parent_tells },
	{ "waits_and_wakes", waits_and_wakes },
	{ "forked", forked },
	{ NULL, NULL },
};

int main(int argc, char **argv)
{
	const struct test_case *const tables[] = { cases, NULL };

	return cases_main(argc, argv, "area", tables);
}
