// SPDX-License-Identifier: MIT
/*
 * litmus [--long] [--times N] [--only NAME] [--seed N] [--report FILE] - the smallest programs that could
 * see a barrier missing, over two processes on two processors, with the core's own code at the place in
 * question. litmus --list names them.
 *
 * No stress test catches a missing membarrier: the reader's store has to wait in its buffer through a whole
 * grace period. Here both sides meet at that point in every round, after a random delay of a few cycles, and
 * the side whose buffer matters first fills it with stores to lines that are in no cache.
 *
 * Each shape has an outcome that must never be seen. A control is the same shape without the barrier: there
 * the outcome has to be seen, or the shape could not have shown anything. Two shapes (publish, and the end
 * of a section in reuse) cannot fail on x86, which keeps stores in order and loads before later stores; they
 * are for other processors, and for compilers.
 *
 * Exit: 0 as it must be, 1 not, 2 usage, 77 fewer than two processors.
 */
#define _GNU_SOURCE
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "index.h"
#include "report.h"

#define COLD_BYTES (64u << 20)
#define FILL_MAX 24       /* stores that wait before the one that matters */
#define DELAY_LEFT 1000   /* steps of about a cycle */
#define DELAY_RIGHT 100
#define RECORD_WORDS 8
#define POISON 0xdeaddeaddeaddeadULL
#define SIGHTINGS 100 /* a control has shown enough */
#define CAP_SECONDS 60.0

/* Shared by the two processes. Every word that they exchange has a line of its own. */
struct line {
	uint64_t v;
	uint64_t pad[7];
};

struct board {
	struct fnd_shm_header hdr;
	struct fnd_shm_thread thread[3];
	struct line go, ready, middle, ended; /* rounds, of the left and of the right side */
	struct line idx;  /* which record is reachable */
	struct line lock; /* a lock word */
	struct line mark, slot;
	struct line got, epoch, poisoned; /* what the right side saw */
	uint64_t record[2][RECORD_WORDS] __attribute__((aligned(64)));
};

struct side {
	struct board *b;
	struct fnd_segment seg;
	struct fnd_thread th;
	uint64_t random;
	char *cold;
	bool control;
	pid_t peer; /* of the left side: the right one */
};

/* left: one round of the parent's side; true when the forbidden outcome was seen. right: of the child's. */
struct shape {
	const char *name;
	bool control;
	bool registered, fenced; /* the right side, for membarrier */
	uint64_t rounds;
	void (*prepare)(struct side *s, uint64_t round);
	bool (*left)(struct side *s, uint64_t round);
	void (*right)(struct side *s, uint64_t round);
	const char *forbidden;
};

static uint64_t draw(struct side *s)
{
	s->random ^= s->random << 13;
	s->random ^= s->random >> 7;
	s->random ^= s->random << 17;
	return s->random;
}

static void delay(struct side *s)
{
	for (uint64_t n = draw(s) % (s->peer ? DELAY_LEFT : DELAY_RIGHT); n; n--)
		fnd_compiler_barrier();
}

/*
 * The next store of this processor waits behind these: each lies across the border of two cold pages, which
 * is the slowest store there is. It makes the controls fail a thousand times as often as plain ones do.
 */
static void fill_buffer(struct side *s)
{
	for (uint64_t n = draw(s) % FILL_MAX; n; n--)
		memcpy(s->cold + 4096 * (1 + draw(s) % (COLD_BYTES / 4096 - 1)) - 4, &n, sizeof(n));
}

static void await(struct side *s, struct line *l, uint64_t value)
{
	int status;

	for (uint64_t spins = 1; fnd_load_acquire(&l->v) != value; spins++) {
		fnd_pause();
		if (spins % 20000)
			continue;
		sched_yield();
		if (s->peer && waitpid(s->peer, &status, WNOHANG) == s->peer) {
			fprintf(stderr, "the other process has gone\n");
			exit(WIFEXITED(status) && WEXITSTATUS(status) == 77 ? 77 : 1);
		}
	}
}

/* --- section: [GP-1] ------------------------------------------------------------------------------- */

static void section_prepare(struct side *s, uint64_t round)
{
	fnd_store_relaxed(&s->b->idx.v, round * 2); /* even: the old record */
	s->seg.stall_checked_at = fnd_cycles(); /* the reader lives: no need to look */
}

/* Unlink, stamp, advance: may the record be given out again although the section has reached it? */
static bool section_left(struct side *s, uint64_t round)
{
	uint64_t stamp, safe;

	fnd_store_relaxed(&s->b->idx.v, round * 2 + 1);
	stamp = fnd_load_acquire(&s->b->hdr.epoch);
	if (fnd_epoch_advance(&s->seg)) {
		fprintf(stderr, "membarrier is not allowed here\n");
		exit(77);
	}
	safe = fnd_load_acquire(&s->b->hdr.safe);
	fnd_store_release(&s->b->middle.v, round);
	await(s, &s->b->ended, round);
	return stamp < safe && fnd_load_relaxed(&s->b->got.v) == round * 2;
}

static void section_right(struct side *s, uint64_t round)
{
	fill_buffer(s);
	fnd_section_begin(&s->seg, &s->th);
	fnd_store_relaxed(&s->b->got.v, fnd_load_relaxed(&s->b->idx.v));
	await(s, &s->b->middle, round); /* in the section until the scan is over */
	fnd_section_end(&s->th);
}

/* --- stamp: [GP-6], [LK-1] ------------------------------------------------------------------------- */

static void stamp_prepare(struct side *s, uint64_t round)
{
	fnd_store_relaxed(&s->b->idx.v, round * 2);
	fnd_trylock(&s->th, (uint32_t *)&s->b->lock.v);
}

/* Unlink; stamp in the next critical section: is a section younger than the stamp that has reached it? */
static bool stamp_left(struct side *s, uint64_t round)
{
	uint32_t *lock = (uint32_t *)&s->b->lock.v;
	uint64_t stamp;

	fill_buffer(s);
	fnd_store_relaxed(&s->b->idx.v, round * 2 + 1);
	fnd_compiler_barrier();
	if (s->control) {
		stamp = fnd_load_acquire(&s->b->hdr.epoch); /* in the same critical section */
		fnd_unlock(&s->th, lock);
	} else {
		fnd_unlock(&s->th, lock);
		fnd_trylock(&s->th, lock);
		stamp = fnd_load_acquire(&s->b->hdr.epoch);
		fnd_unlock(&s->th, lock);
	}
	await(s, &s->b->ended, round);
	return stamp < fnd_load_relaxed(&s->b->epoch.v) && fnd_load_relaxed(&s->b->got.v) == round * 2;
}

static void stamp_right(struct side *s, uint64_t round)
{
	(void)round;
	fnd_fetch_add(&s->b->hdr.epoch, 1); /* somebody advances; then a section begins */
	fnd_section_begin(&s->seg, &s->th);
	fnd_store_relaxed(&s->b->epoch.v, fnd_load_relaxed(&s->th.slot->epoch) >> 16);
	fnd_store_relaxed(&s->b->got.v, fnd_load_relaxed(&s->b->idx.v));
	fnd_section_end(&s->th);
}

/* --- reuse: [GP-2], [GP-5] ------------------------------------------------------------------------- */

static void reuse_prepare(struct side *s, uint64_t round)
{
	for (int i = 0; i < RECORD_WORDS; i++)
		fnd_store_relaxed(&s->b->record[0][i], round);
	fnd_store_relaxed(&s->b->idx.v, 0);
	s->seg.stall_checked_at = fnd_cycles();
}

/* Unlink, wait for the grace period, overwrite. */
static bool reuse_left(struct side *s, uint64_t round)
{
	uint64_t stamp;

	fnd_store_relaxed(&s->b->idx.v, 1);
	stamp = fnd_load_acquire(&s->b->hdr.epoch);
	while (!s->control && fnd_load_acquire(&s->b->hdr.safe) <= stamp) {
		if (fnd_epoch_advance(&s->seg)) {
			fprintf(stderr, "membarrier is not allowed here\n");
			exit(77);
		}
	}
	for (int i = 0; i < RECORD_WORDS; i++)
		fnd_store_relaxed(&s->b->record[0][i], POISON);
	await(s, &s->b->ended, round);
	return fnd_load_relaxed(&s->b->poisoned.v);
}

static void reuse_right(struct side *s, uint64_t round)
{
	uint64_t bad = 0, which;

	(void)round;
	fill_buffer(s);
	fnd_section_begin(&s->seg, &s->th);
	which = fnd_load_relaxed(&s->b->idx.v) & 1;
	for (int i = RECORD_WORDS - 1; i >= 0; i--)
		bad |= fnd_load_relaxed(&s->b->record[which][i]) == POISON;
	fnd_section_end(&s->th);
	fnd_store_relaxed(&s->b->poisoned.v, bad);
}

/* --- publish: [TB-1] ------------------------------------------------------------------------------- */

static void publish_prepare(struct side *s, uint64_t round)
{
	(void)round;
	fnd_store_relaxed(&s->b->idx.v, 0);
}

static bool publish_left(struct side *s, uint64_t round)
{
	fill_buffer(s);
	for (int i = 0; i < RECORD_WORDS; i++)
		fnd_store_relaxed(&s->b->record[0][i], round);
	fnd_publish(&s->b->idx.v, round);
	await(s, &s->b->ended, round);
	return fnd_load_relaxed(&s->b->poisoned.v);
}

static void publish_right(struct side *s, uint64_t round)
{
	uint64_t bad = 0;

	while (fnd_load_acquire(&s->b->idx.v) != round) /* as fnd_bucket_find */
		;
	for (int i = RECORD_WORDS - 1; i >= 0; i--)
		bad |= fnd_load_relaxed(&s->b->record[0][i]) != round;
	fnd_store_relaxed(&s->b->poisoned.v, bad);
}

/* --- attach: [SG-2] -------------------------------------------------------------------------------- */

static void attach_prepare(struct side *s, uint64_t round)
{
	(void)round;
	fnd_store_relaxed(&s->b->mark.v, 0);
	fnd_store_relaxed(&s->b->slot.v, 0);
}

/* The destroyer marks, then looks; who attaches claims, then looks: one of them sees the other. */
static bool attach_left(struct side *s, uint64_t round)
{
	uint64_t seen;

	fill_buffer(s);
	if (s->control)
		fnd_store_relaxed(&s->b->mark.v, 1);
	else
		fnd_cas(&s->b->mark.v, 0, 1);
	fnd_compiler_barrier();
	seen = fnd_load_seq_cst(&s->b->slot.v);
	await(s, &s->b->ended, round);
	return seen == 0 && fnd_load_relaxed(&s->b->got.v) == 0;
}

static void attach_right(struct side *s, uint64_t round)
{
	(void)round;
	fill_buffer(s);
	if (s->control)
		fnd_store_relaxed(&s->b->slot.v, 1);
	else
		fnd_cas(&s->b->slot.v, 0, 1);
	fnd_compiler_barrier();
	fnd_store_relaxed(&s->b->got.v, fnd_load_seq_cst(&s->b->mark.v));
}

static const struct shape shapes[] = {
	{ "section", false, true, false, 100000, section_prepare, section_left, section_right,
	  "a record may be reused that an open section has reached" },
	{ "section-fenced", false, false, true, 200000, section_prepare, section_left, section_right,
	  "the same, reader not registered, with a fence in begin" },
	{ "section-unregistered", true, false, false, 0, section_prepare, section_left, section_right,
	  "the same, reader not registered, no fence" },
	{ "stamp", false, true, false, 300000, stamp_prepare, stamp_left, stamp_right,
	  "a section younger than the stamp has reached the record" },
	{ "stamp-early", true, true, false, 0, stamp_prepare, stamp_left, stamp_right,
	  "the same, stamped in the section that unlinks" },
	{ "reuse", false, true, false, 50000, reuse_prepare, reuse_left, reuse_right,
	  "a section reads what was written after its grace period" },
	{ "reuse-hasty", true, true, false, 0, reuse_prepare, reuse_left, reuse_right,
	  "the same, without a grace period" },
	{ "publish", false, true, false, 200000, publish_prepare, publish_left, publish_right,
	  "a record is reachable and not whole" },
	{ "attach", false, true, false, 300000, attach_prepare, attach_left, attach_right,
	  "destroyer and attacher do not see each other" },
	{ "attach-relaxed", true, true, false, 0, attach_prepare, attach_left, attach_right,
	  "the same, with plain stores" },
};

/* --- two processes --------------------------------------------------------------------------------- */

static int cpus[2];

static bool two_cpus(void)
{
	cpu_set_t set;
	int n = 0;

	if (sched_getaffinity(0, sizeof(set), &set) != 0)
		return false;
	for (int i = 0; i < CPU_SETSIZE && n < 2; i++)
		if (CPU_ISSET(i, &set))
			cpus[n++] = i;
	return n == 2;
}

static bool pin(int cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	return sched_setaffinity(0, sizeof(set), &set) == 0;
}

static void side_init(struct side *s, struct board *b, const struct shape *shape, unsigned int who,
		      uint64_t seed)
{
	memset(s, 0, sizeof(*s));
	s->b = b;
	s->control = shape->control;
	s->random = seed * 2654435761u + who + 1;
	s->cold = mmap(NULL, COLD_BYTES, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
	if (s->cold == MAP_FAILED) {
		perror("mmap");
		exit(1);
	}
	s->seg.hdr = &b->hdr;
	s->seg.thread = b->thread;
	s->seg.threads = 2;
	s->th.slot = &b->thread[1 + who];
	s->th.index = 1 + who;
	s->th.lock_self = s->th.index << 20 | 1 << 2;
}

static void right_side(struct side *s, const struct shape *shape)
{
	for (uint64_t round = 1;; round++) {
		fnd_load_relaxed(&s->b->idx.v); /* the old value is in this processor's cache */
		fnd_store_release(&s->b->ready.v, round);
		await(s, &s->b->go, round);
		delay(s);
		shape->right(s, round);
		fnd_store_release(&s->b->ended.v, round);
	}
}

static pid_t start_right(struct board *b, const struct shape *shape, uint64_t seed)
{
	pid_t parent = getpid(), pid = fork();
	struct side s;

	if (pid != 0)
		return pid;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent || !pin(cpus[1]))
		_exit(1);
	if (shape->registered && fnd_membarrier_register() != 0)
		_exit(77);
	side_init(&s, b, shape, 1, seed);
	s.seg.fenced = shape->fenced;
	right_side(&s, shape);
	_exit(0);
}

static struct board *board_make(void)
{
	struct board *b = mmap(NULL, sizeof(*b), PROT_READ | PROT_WRITE,
			       MAP_SHARED | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);

	if (b == MAP_FAILED) {
		perror("mmap");
		exit(1);
	}
	b->hdr.epoch = b->hdr.safe = 1;
	b->hdr.thread_high = 2;
	for (uint32_t i = 1; i <= 2; i++)
		b->thread[i].word = fnd_slot_word(FND_SLOT_ACTIVE, 1, (uint32_t)getpid());
	return b;
}

static double seconds_now(void)
{
	return (double)fnd_now_ns() / 1e9;
}

/* True when everything was as it must be. */
static bool shape_run(const struct shape *shape, uint64_t seed, unsigned int times, const char *file)
{
	struct board *b = board_make();
	double begin = seconds_now(), cap = CAP_SECONDS * times;
	struct suite_result r = { .seed = seed };
	uint64_t round = 0, seen = 0, goal = shape->rounds * times;
	struct side s;
	char name[64];

	side_init(&s, b, shape, 0, seed);
	s.peer = start_right(b, shape, seed);
	if (s.peer < 0) {
		perror("fork");
		exit(1);
	}
	while (shape->control ? seen < SIGHTINGS : round < goal) {
		if (++round % 1024 == 0 && seconds_now() - begin > (shape->control ? CAP_SECONDS : cap))
			break;
		await(&s, &b->ready, round);
		shape->prepare(&s, round);
		fnd_store_release(&b->go.v, round);
		delay(&s);
		seen += shape->left(&s, round);
	}
	kill(s.peer, SIGKILL);
	waitpid(s.peer, NULL, 0);
	munmap(s.cold, COLD_BYTES);
	munmap(b, sizeof(*b));

	snprintf(name, sizeof(name), "litmus-%s", shape->name);
	r.suite = name;
	r.goal = shape->control ? SIGHTINGS : goal;
	r.count = shape->control ? seen : round;
	r.violations = shape->control ? 0 : seen;
	r.seconds = seconds_now() - begin;
	report_suite(&r, file);
	if (r.violations)
		printf("CHECK %s FAILED\n", shape->name);
	printf("  %s%s: %llu times in %llu rounds\n", shape->control ? "has to be seen: " : "",
	       shape->forbidden, (unsigned long long)seen, (unsigned long long)round);
	fflush(stdout);
	return shape->control ? seen > 0 : seen == 0;
}

static int list(void)
{
	for (size_t i = 0; i < sizeof(shapes) / sizeof(shapes[0]); i++)
		puts(shapes[i].name);
	return 0;
}

static int usage(void)
{
	fprintf(stderr, "usage: litmus [--long] [--times N] [--only NAME] [--seed N] [--report FILE]\n");
	return 2;
}

int main(int argc, char **argv)
{
	const char *only = NULL, *file = NULL;
	uint64_t seed = fnd_cycles() & 0xffffffff;
	unsigned int times = 1, ran = 0;
	bool good = true;

	for (int i = 1; i < argc; i++) {
		if (strcmp(argv[i], "--long") == 0)
			times = 60;
		else if (strcmp(argv[i], "--list") == 0)
			return list();
		else if (i + 1 < argc && strcmp(argv[i], "--times") == 0)
			times = (unsigned int)strtoul(argv[++i], NULL, 0);
		else if (i + 1 < argc && strcmp(argv[i], "--only") == 0)
			only = argv[++i];
		else if (i + 1 < argc && strcmp(argv[i], "--seed") == 0)
			seed = strtoull(argv[++i], NULL, 0);
		else if (i + 1 < argc && strcmp(argv[i], "--report") == 0)
			file = argv[++i];
		else
			return usage();
	}
	if (!two_cpus() || !pin(cpus[0])) {
		printf("two processors are needed; skipped\n");
		return 77;
	}
	for (size_t i = 0; i < sizeof(shapes) / sizeof(shapes[0]); i++) {
		if (only && strcmp(only, shapes[i].name) != 0)
			continue;
		good &= shape_run(&shapes[i], seed, times, file);
		ran++;
	}
	if (!ran)
		return usage();
	return good ? 0 : 1;
}
