// SPDX-License-Identifier: MIT
/*
 * Flags change under workers that register, look up, update, unregister and die; a checker knows what each
 * lookup has to say.
 *
 * usage: test_flip [--flips N] [--seed N] [--second] [--mutant]
 *
 * Each name has a word that is odd while somebody changes it, and beside it what the name must be: a lookup
 * between two equal even words has to agree. Half of the flips change shared_registry alone, with
 * migration_monitoring on: every name must be found by everybody, and be changed by others too. The other
 * half change both: own names must be found at every instant, others' as soon as their owner has made a call
 * under flags that publish, and whatever is found must be true.
 *
 * --second: that half alone. --mutant: succeed only when something was wrong.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <foundation/area.h>
#include <foundation/journal.h>
#include <foundation/runtime.h>

#define WORKERS 4u
#define THREADS 2u
#define NAMES 24u	/* of each worker */
#define CONTESTED 4u	/* names that everybody wants */
#define KILL_EVERY 100u /* flips */
#define MEET_EVERY 500u
#define HANG_SECONDS 240u

struct name_state {
	uint64_t seq; /* odd: somebody is at it */
	uint64_t value; /* 0: not registered */
	uint32_t locker; /* pid */
};

struct world {
	struct name_state name[WORKERS][NAMES];
	uint64_t life[WORKERS]; /* odd: dying, or not yet begun */
	uint64_t met[WORKERS];	/* count of the last flags it has made a whole call under */
	uint32_t owner[WORKERS][CONTESTED]; /* whom it sees, at a meeting */
	uint32_t meeting, arrived, stop;
	uint32_t wrong;
	uint64_t calls, checked, skipped, others, kills;
};

static struct world *world;
static char segment[64];
static int both_flip; /* the second half */
static int first_half;
static uint64_t seed;

#define LOAD(p) __atomic_load_n((p), __ATOMIC_SEQ_CST)
#define STORE(p, v) __atomic_store_n((p), (v), __ATOMIC_SEQ_CST)
#define ADD(p, v) __atomic_add_fetch((p), (v), __ATOMIC_SEQ_CST)

/* --- a worker --------------------------------------------------------------------------------------- */

struct worker {
	struct fnd_runtime *rt;
	const uint64_t *flags;
	unsigned int number;
	uint64_t random;
	bool have[CONTESTED]; /* of this thread's */
	unsigned int thread;
};

static void wrong(const struct worker *w, const char *what, unsigned int owner, unsigned int i, int err)
{
	if (ADD(&world->wrong, 1) > 20)
		return;
	fprintf(stderr, "worker %u: %s: name %u.%u, result %d, flags %#llx, value %llu\n", w->number, what, owner, i,
		err, (unsigned long long)*w->flags, (unsigned long long)world->name[owner][i].value);
}

static uint64_t draw(uint64_t *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	*state ^= *state << 17;
	return *state;
}

/* Called by the library's copy that is built for this test, inside its sections. */
void fnd_facade_pause(void);
void fnd_facade_pause(void)
{
	static __thread uint64_t r;

	if (!r)
		r = seed ^ (uint64_t)(uintptr_t)&r ^ ((uint64_t)getpid() << 32);
	if (draw(&r) % 16 == 0)
		nanosleep(&(struct timespec){ .tv_nsec = (long)(draw(&r) % 100000) }, NULL);
}

static void text(char name[32], unsigned int owner, unsigned int i)
{
	snprintf(name, 32, "w%u.%u", owner, i);
}

static size_t encode(unsigned char map[12], uint64_t value)
{
	memcpy(map, "\x81\xa1v\xcf", 4);
	memcpy(map + 4, &value, 8);
	return 12;
}

static uint64_t decode(const struct fnd_agent *a)
{
	uint64_t v = ~0ULL;

	if (a->metadata_bytes == 12)
		memcpy(&v, a->metadata + 4, 8);
	return v;
}

static bool publishes(uint64_t flags)
{
	return (flags >> FND_FLAG_SHIFT(FND_FLAG_SHARED_REGISTRY) & 1) ||
	       (flags >> FND_FLAG_SHIFT(FND_FLAG_MIGRATION_MONITORING) & 127);
}

static uint64_t count_of(uint64_t flags)
{
	return flags & ((1u << FND_FLAGS_COUNT_BITS) - 1);
}

/* A whole call has been made since @flags were seen. */
static void met(const struct worker *w, uint64_t flags)
{
	uint64_t seen = LOAD(&world->met[w->number]), count = count_of(flags);

	while (seen < count && !__atomic_compare_exchange_n(&world->met[w->number], &seen, count, 0,
							    __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST))
		;
	__atomic_fetch_add(&world->calls, 1, __ATOMIC_RELAXED);
}

static void check_lookup(struct worker *w, unsigned int owner, unsigned int i)
{
	struct name_state *n = &world->name[owner][i];
	uint64_t life = LOAD(&world->life[owner]), seq = LOAD(&n->seq), value = LOAD(&n->value);
	uint64_t flags = LOAD(w->flags), done = LOAD(&world->met[owner]);
	struct fnd_agent a = { 0 };
	char name[32];
	int err;

	text(name, owner, i);
	err = fnd_agent_lookup(w->rt, name, &a, NULL);
	met(w, flags);
	if ((seq & 1) || (life & 1) || LOAD(&n->seq) != seq || LOAD(&world->life[owner]) != life) {
		__atomic_fetch_add(&world->skipped, 1, __ATOMIC_RELAXED);
		return;
	}
	__atomic_fetch_add(&world->checked, 1, __ATOMIC_RELAXED);
	__atomic_fetch_add(&world->others, owner != w->number, __ATOMIC_RELAXED);
	if (err && err != -ENOENT)
		wrong(w, "lookup failed", owner, i, err);
	else if (err == 0 && value == 0)
		wrong(w, "stale: found what was given up", owner, i, (int)decode(&a));
	else if (err == 0 && decode(&a) != value)
		wrong(w, "stale: an older value", owner, i, (int)decode(&a));
	else if (err && value && (owner == w->number || !both_flip))
		wrong(w, owner == w->number ? "own name not found" : "published name not found", owner, i, err);
	else if (err && value && LOAD(w->flags) == flags && publishes(flags) && done >= count_of(flags))
		wrong(w, "name not found after its owner met the flags", owner, i, err);
}

static void change(struct worker *w, unsigned int owner, unsigned int i, unsigned int what)
{
	struct name_state *n = &world->name[owner][i];
	uint64_t seq = LOAD(&n->seq), flags = LOAD(w->flags), life = LOAD(&world->life[owner]), value;
	int err, expected;
	unsigned char map[12];
	char name[32];

	if ((seq & 1) || !__atomic_compare_exchange_n(&n->seq, &seq, seq + 1, 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST))
		return;
	STORE(&n->locker, (uint32_t)getpid());
	text(name, owner, i);
	value = (draw(&w->random) & 0x3fffffff) + 1;
	encode(map, value);
	expected = what == 0 || n->value ? 0 : -ENOENT;
	if (what == 0)
		err = fnd_agent_register(w->rt, name, 0, map, sizeof(map), 0);
	else if (what == 1)
		err = fnd_agent_update(w->rt, name, map, sizeof(map));
	else
		err = fnd_agent_unregister(w->rt, name, owner == w->number ? 0 : FND_UNREGISTER_FORCE);
	met(w, flags);
	if (err != expected && (owner == w->number || (!(life & 1) && LOAD(&world->life[owner]) == life)))
		wrong(w, what == 0 ? "register" : what == 1 ? "update" : "unregister", owner, i, err);
	if (err == 0)
		STORE(&n->value, what == 2 ? 0 : value);
	STORE(&n->locker, 0);
	STORE(&n->seq, seq + 2);
}

/* Names that everybody wants: each thread has its own, in each process the same. */
static void contest(struct worker *w)
{
	unsigned int c = (unsigned int)(draw(&w->random) % (CONTESTED / THREADS)) * THREADS + w->thread;
	char name[32];
	int err;

	snprintf(name, sizeof(name), "contested.%u", c);
	if (w->have[c]) {
		err = fnd_agent_lookup(w->rt, name, NULL, NULL);
		if (err)
			wrong(w, "a contested name of mine is not found", 0, c, err);
		if (draw(&w->random) % 8 == 0) {
			err = fnd_agent_unregister(w->rt, name, 0);
			if (err)
				wrong(w, "a contested name of mine is not given up", 0, c, err);
			w->have[c] = false;
		}
		return;
	}
	err = fnd_agent_register(w->rt, name, 0, NULL, 0, 0);
	if (err && err != -EEXIST)
		wrong(w, "registering a contested name", 0, c, err);
	w->have[c] = err == 0;
}

struct seen {
	unsigned int number;
	unsigned int times[NAMES];
};

static int seen_one(const char *name, const struct fnd_agent *a, void *arg)
{
	struct seen *s = arg;
	unsigned int owner, i;

	(void)a;
	if (sscanf(name, "w%u.%u", &owner, &i) == 2 && owner == s->number && i < NAMES)
		s->times[i]++;
	return 0;
}

/* Own names that did not change meanwhile are listed exactly once, or not at all. */
static void check_list(struct worker *w)
{
	struct seen s = { .number = w->number };
	uint64_t seq[NAMES], value[NAMES];
	int err;

	for (unsigned int i = 0; i < NAMES; i++) {
		seq[i] = LOAD(&world->name[w->number][i].seq);
		value[i] = LOAD(&world->name[w->number][i].value);
	}
	err = fnd_agent_list(w->rt, seen_one, &s);
	if (err)
		wrong(w, "list", w->number, 0, err);
	for (unsigned int i = 0; i < NAMES; i++)
		if (!(seq[i] & 1) && LOAD(&world->name[w->number][i].seq) == seq[i] && s.times[i] != !!value[i])
			wrong(w, "list: how often", w->number, i, (int)s.times[i]);
}

static void *work(void *arg)
{
	struct worker *w = arg;

	while (!LOAD(&world->stop) && !LOAD(&world->meeting)) {
		uint64_t r = draw(&w->random);
		unsigned int i = (unsigned int)(r >> 8) % NAMES, owner = (unsigned int)(r >> 16) % WORKERS;

		r = (r >> 32) % 100;
		if (r < 35)
			check_lookup(w, w->number, i);
		else if (r < 60)
			check_lookup(w, owner, i);
		else if (r < 90)
			change(w, w->number, i, (unsigned int)(draw(&w->random) % 3));
		else if (r < 94 && !both_flip && owner != w->number)
			change(w, owner, i, 1 + (unsigned int)(draw(&w->random) % 2));
		else if (r < 99)
			contest(w);
		else
			check_list(w);
	}
	return NULL;
}

/* Everybody stands still under one word: what is published has one owner for all. */
static void meet_all(struct worker *w)
{
	for (uint32_t round = 1; round <= 3; round++) {
		for (unsigned int c = 0; c < CONTESTED; c++) {
			struct fnd_agent a = { 0 };
			char name[32];

			snprintf(name, sizeof(name), "contested.%u", c);
			world->owner[w->number][c] = fnd_agent_lookup(w->rt, name, &a, NULL) == 0 ? a.owner.pid : 0;
		}
		ADD(&world->arrived, 1);
		while (LOAD(&world->meeting) == round && !LOAD(&world->stop))
			usleep(500);
	}
	while (LOAD(&world->meeting) && !LOAD(&world->stop))
		usleep(1000);
}

static int worker_run(unsigned int number)
{
	struct worker w[THREADS] = { { .number = number } };
	struct fnd_segment *seg;
	pthread_t thread[THREADS];

	if (fnd_segment_attach(segment, NULL, &seg) || fnd_runtime_open(seg, NULL, &w[0].rt))
		return 1;
	for (unsigned int t = 0; t < THREADS; t++) {
		if (t)
			w[t] = w[0];
		w[t].flags = fnd_segment_area(seg);
		w[t].thread = t;
		w[t].random = seed + (uint64_t)getpid() * 2654435761u + t + 1;
	}
	ADD(&world->life[number], 1);
	while (!LOAD(&world->stop)) {
		for (unsigned int t = 0; t < THREADS; t++)
			pthread_create(&thread[t], NULL, work, &w[t]);
		for (unsigned int t = 0; t < THREADS; t++)
			pthread_join(thread[t], NULL);
		if (LOAD(&world->meeting))
			meet_all(&w[0]);
	}
	ADD(&world->life[number], 1); /* its names go with it */
	fnd_runtime_close(w[0].rt);
	return fnd_segment_detach(seg) != 0;
}

/* --- the flipper -------------------------------------------------------------------------------------- */

static pid_t worker_start(unsigned int number)
{
	pid_t parent = getpid(), pid = fork();

	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (getppid() != parent)
			_exit(1);
		_exit(worker_run(number));
	}
	for (unsigned int ms = 0; (LOAD(&world->life[number]) & 1) && ms < 20000; ms++)
		usleep(1000);
	return pid;
}

/* Waits until nobody but the dead one is at the name; then it is what the shared registry says. */
static void name_settle(struct fnd_registry *reg, unsigned int owner, unsigned int i, uint32_t dead)
{
	struct name_state *n = &world->name[owner][i];
	struct fnd_agent a;
	uint64_t seq;
	char name[32];

	for (;;) {
		seq = LOAD(&n->seq);
		if (!(seq & 1)) {
			if (__atomic_compare_exchange_n(&n->seq, &seq, seq + 1, 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST))
				break;
		} else if (LOAD(&n->locker) == dead) {
			seq--;
			break;
		}
		usleep(100);
	}
	text(name, owner, i);
	STORE(&n->value, fnd_registry_lookup(reg, name, &a) == 0 ? decode(&a) : 0);
	STORE(&n->locker, 0);
	STORE(&n->seq, seq + 2);
}

/* Between the compare-and-swap and the pid there is an instant in which nobody's name stands there. */
static void locks_of_nobody(uint32_t dead)
{
	usleep(2000);
	for (unsigned int o = 0; o < WORKERS; o++)
		for (unsigned int i = 0; i < NAMES; i++)
			if ((LOAD(&world->name[o][i].seq) & 1) && LOAD(&world->name[o][i].locker) == 0)
				STORE(&world->name[o][i].locker, dead);
}

static int worker_kill(struct fnd_segment *seg, struct fnd_registry *reg, unsigned int number, pid_t *pid)
{
	uint32_t dead = (uint32_t)*pid;
	int status = 0;

	ADD(&world->life[number], 1);
	kill(*pid, SIGKILL);
	if (waitpid(*pid, &status, 0) != *pid || !WIFSIGNALED(status)) {
		fprintf(stderr, "worker %u ended by itself: status %#x\n", number, (unsigned int)status);
		return 1;
	}
	fnd_segment_child_died(seg, dead, status);
	if (fnd_registry_reap(reg, NULL))
		return 1;
	locks_of_nobody(dead);
	for (unsigned int o = 0; o < WORKERS; o++)
		for (unsigned int i = 0; i < NAMES; i++)
			if (o == number || ((LOAD(&world->name[o][i].seq) & 1) && LOAD(&world->name[o][i].locker) == dead))
				name_settle(reg, o, i, dead);
	world->met[number] = 0;
	world->kills++;
	*pid = worker_start(number);
	return *pid < 0;
}

static int clash_seen(const struct fnd_clash *c, void *arg)
{
	++*(unsigned int *)arg;
	return c->loser.pid == c->holder.pid ? 1 : 0;
}

/* Everybody stops; flags that publish; one look each at the contested names. */
static int meeting(struct fnd_runtime *rt, unsigned int *ret_clashes)
{
	struct fnd_flag_change on = { FND_FLAG_SHARED_REGISTRY, 100 };
	uint64_t until = 20000;

	if (fnd_flags_change(fnd_runtime_flags(rt), &on, 1, -1, NULL) < 0)
		return 1;
	STORE(&world->arrived, 0);
	STORE(&world->meeting, 1);
	/* Round 1: all stand still. 2: whoever lost a clash to one who gave the name up since has published. */
	for (uint32_t round = 1; round <= 3; round++) {
		while (LOAD(&world->arrived) < round * WORKERS && --until)
			usleep(1000);
		STORE(&world->meeting, round + 1);
	}
	for (unsigned int c = 0; c < CONTESTED; c++)
		for (unsigned int w = 1; w < WORKERS; w++)
			if (world->owner[w][c] != world->owner[0][c]) {
				fprintf(stderr, "contested.%u: worker 0 sees pid %u, worker %u pid %u\n", c,
					world->owner[0][c], w, world->owner[w][c]);
				ADD(&world->wrong, 1);
			}
	if (fnd_runtime_clashes(rt, clash_seen, ret_clashes) != 0) {
		fprintf(stderr, "clashes: an error, or one with oneself\n");
		ADD(&world->wrong, 1);
	}
	STORE(&world->meeting, 0);
	return until == 0;
}

static int flip(struct fnd_runtime *rt, uint64_t *random)
{
	uint64_t r = draw(random);
	struct fnd_flag_change c[2] = { { FND_FLAG_SHARED_REGISTRY, 0 }, { FND_FLAG_MIGRATION_MONITORING, 100 } };
	int on = fnd_flag_enabled(fnd_runtime_flags(rt), FND_FLAG_SHARED_REGISTRY);

	c[0].percent = on ? 0 : 100;
	if (both_flip) {
		c[0].percent = r & 1 ? 100 : 0;
		c[1].percent = r & 2 ? 100 : 0;
	}
	return fnd_flags_change(fnd_runtime_flags(rt), c, 2, -1, NULL) < 0;
}

/* A name that somebody registered for this process, while it made no call: it is there when both flags go off. */
static int given(struct fnd_runtime *rt)
{
	struct fnd_flag_change off[2] = { { FND_FLAG_SHARED_REGISTRY, 0 }, { FND_FLAG_MIGRATION_MONITORING, 0 } };
	struct fnd_flag_change on[2] = { { FND_FLAG_SHARED_REGISTRY, 100 }, { FND_FLAG_MIGRATION_MONITORING, 100 } };
	struct fnd_registry *reg = fnd_runtime_registry(rt);

	for (unsigned int i = 0; i < 3; i++) {
		if (fnd_flags_change(fnd_runtime_flags(rt), on, 2, -1, NULL) < 0 ||
		    fnd_agent_lookup(rt, "nobody", NULL, NULL) != -ENOENT ||
		    fnd_registry_register(reg, "given", (uint32_t)getpid(), NULL, 0, 0) != 0 ||
		    fnd_flags_change(fnd_runtime_flags(rt), off, 2, -1, NULL) < 0)
			return 1;
		if (fnd_agent_lookup(rt, "given", NULL, NULL) != 0) {
			fprintf(stderr, "a name that was given is not found\n");
			ADD(&world->wrong, 1);
		}
		if (fnd_agent_unregister(rt, "given", 0) != 0 && !world->wrong)
			return 1;
	}
	return 0;
}

static int half(struct fnd_segment *seg, struct fnd_runtime *rt, unsigned int flips, bool mutant)
{
	struct fnd_registry *reg = fnd_runtime_registry(rt);
	uint64_t random = seed | 1, pauses = 0;
	unsigned int clashes = 0;
	pid_t pid[WORKERS];
	int err = flip(rt, &random);

	if (!err)
		err = fnd_registry_reap(reg, NULL); /* of the half before */
	STORE(&world->stop, 0);
	for (unsigned int w = 0; w < WORKERS; w++) {
		STORE(&world->life[w], LOAD(&world->life[w]) | 1);
		for (unsigned int i = 0; i < NAMES; i++)
			STORE(&world->name[w][i].value, 0);
		pid[w] = worker_start(w);
	}
	for (unsigned int i = 0; !err && i < flips; i++) {
		err = flip(rt, &random);
		pauses = draw(&random) % 400;
		if (pauses > 200)
			usleep((unsigned int)pauses);
		if (!err && i % KILL_EVERY == KILL_EVERY - 1)
			err = worker_kill(seg, reg, (unsigned int)(pauses % WORKERS), &pid[pauses % WORKERS]);
		if (!err && i % MEET_EVERY == MEET_EVERY - 1)
			err = meeting(rt, &clashes);
		if (mutant && LOAD(&world->wrong))
			break;
	}
	STORE(&world->stop, 1);
	for (unsigned int w = 0; w < WORKERS; w++) {
		int status;

		if (waitpid(pid[w], &status, 0) != pid[w] || status != 0) {
			fprintf(stderr, "worker %u: status %#x\n", w, (unsigned int)status);
			err = 1;
		}
	}
	printf("%s: %u flips, %llu calls, %llu lookups judged (%llu of others' names, %llu not judged), %llu kills, "
	       "%u clashes listed, %u wrong\n", both_flip ? "both flags" : "shared_registry", flips,
	       (unsigned long long)world->calls, (unsigned long long)world->checked,
	       (unsigned long long)world->others, (unsigned long long)world->skipped,
	       (unsigned long long)world->kills, clashes, world->wrong);
	fflush(stdout);
	if (!mutant && both_flip && flips >= 1000 && clashes == 0) {
		fprintf(stderr, "no clash was ever listed\n");
		err = 1;
	}
	return err;
}

static int run(unsigned int flips, bool mutant)
{
	struct fnd_segment_options o = { .size = sizeof(o), .processes = 16, .threads = 64, .max_bytes = 256u << 20 };
	struct fnd_flag_change on = { FND_FLAG_MIGRATION_MONITORING, 100 };
	struct fnd_segment *seg = NULL;
	struct fnd_runtime *rt = NULL;
	int err;

	snprintf(segment, sizeof(segment), "flip-%d", (int)getpid());
	err = fnd_segment_create(segment, &o, &seg);
	if (!err)
		err = fnd_runtime_open(seg, NULL, &rt);
	if (!err)
		err = given(rt);
	if (!err)
		err = fnd_flags_change(fnd_runtime_flags(rt), &on, 1, -1, NULL) < 0;
	for (both_flip = first_half; !err && both_flip < 2 && !(mutant && world->wrong); both_flip++)
		err = half(seg, rt, flips / 2, mutant);
	fnd_runtime_close(rt);
	fnd_segment_detach(seg);
	fnd_segment_destroy(segment, FND_DESTROY_FORCE);
	return err;
}

int main(int argc, char **argv)
{
	unsigned int flips = 10000;
	char dir[] = "/dev/shm/flip.XXXXXX";
	struct fnd_journal *j;
	bool mutant = false;
	int err;

	seed = (uint64_t)time(NULL) * 1000003u ^ (uint64_t)getpid();
	for (int i = 1; i < argc; i++) {
		if (strcmp(argv[i], "--mutant") == 0)
			mutant = true;
		else if (strcmp(argv[i], "--second") == 0)
			first_half = 1;
		else if (strcmp(argv[i], "--flips") == 0 && i + 1 < argc)
			flips = (unsigned int)strtoul(argv[++i], NULL, 0);
		else if (strcmp(argv[i], "--seed") == 0 && i + 1 < argc)
			seed = strtoull(argv[++i], NULL, 0);
	}
	printf("seed %llu\n", (unsigned long long)seed);
	fflush(stdout);
	alarm(HANG_SECONDS + flips / 50);
	world = mmap(NULL, sizeof(*world), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (world == MAP_FAILED || !mkdtemp(dir) || setenv("FOUNDATION_STATE_DIR", dir, 1))
		return 1;
	err = run(flips, mutant);
	if (fnd_journal_open(segment, NULL, &j) == 0) {
		fnd_journal_purge(j);
		fnd_journal_close(j);
	}
	rmdir(dir);
	if (err)
		fprintf(stderr, "failed: %s\n", fnd_error_detail());
	return err || (mutant ? world->wrong == 0 : world->wrong != 0);
}
