// SPDX-License-Identifier: MIT
/*
 * Deduplication: of all who claim a key within its window exactly one emits, also when claimants are
 * killed.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <foundation/dedup.h>

#include "multiproc.h"

#define PROCESSES 8u
#define MS 1000000ull

extern const struct test_case dedup_cases[];

struct peer {
	const char *name;
	struct fnd_segment *seg;
	struct fnd_dedup *d;
};

static uint64_t capacity;

static int peer_open(struct peer *p, const char *name)
{
	p->name = name;
	NEED(fnd_segment_attach(name, NULL, &p->seg) == 0);
	NEED(fnd_dedup_open(p->seg, capacity, &p->d) == 0);
	return 0;
}

static int peer_close(struct peer *p)
{
	fnd_dedup_close(p->d);
	return fnd_segment_detach(p->seg) == 0 ? 0 : 1;
}

static int begin(struct peer *p, uint64_t keys)
{
	struct fnd_segment_options o = small_options();
	const char *name = name_new();

	capacity = keys;
	o.processes = 32;
	o.threads = 32;
	NEED(fnd_segment_create(name, &o, NULL) == 0);
	return peer_open(p, name);
}

static int end(struct peer *p)
{
	struct fnd_table *t;

	NEED(fnd_table_open(p->seg, FND_DEDUP_TABLE, NULL, &t) == 0);
	NEED(fnd_table_check(t) == 0);
	fnd_table_close(t);
	TRY(peer_close(p));
	return fnd_segment_destroy(p->name, 0) == 0 ? 0 : 1;
}

static int claim(struct peer *p, unsigned int key, uint64_t event, uint64_t window_ns)
{
	char text[32];

	return fnd_dedup_claim(p->d, text, key_text(text, key), &event, sizeof(event), window_ns);
}

/* The number of an event's key, which has no NUL behind it; UINT32_MAX: it is none of ours. */
static unsigned int key_of(const struct fnd_event *e)
{
	unsigned int key = UINT32_MAX;
	char text[32] = "";

	if (e->key_bytes < sizeof(text))
		memcpy(text, e->key, e->key_bytes);
	return sscanf(text, "key number %u", &key) == 1 ? key : UINT32_MAX;
}

/* Memory for one number a key, shared with the children that follow. */
static uint64_t *journal_make(size_t numbers)
{
	void *p = mmap(NULL, numbers * sizeof(uint64_t), PROT_READ | PROT_WRITE,
		       MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	return p == MAP_FAILED ? NULL : p;
}

/* --- all at once ---------------------------------------------------------------------------------- */

#define KEYS 1000u

static uint64_t *journal;

static int claim_all(void *name)
{
	struct peer p;

	TRY(peer_open(&p, name));
	for (unsigned int key = 0; key < KEYS; key++) {
		int r;

		if (key % 10 == 0) { /* together again */
			word_add(&shared->word[0], 1);
			while (word_get(&shared->word[0]) < PROCESSES * (key / 10 + 1))
				sched_yield();
		}
		r = claim(&p, key, (uint64_t)getpid(), FND_WINDOW_FOREVER);
		NEED(r == FND_CLAIM_EMITTED || r == FND_CLAIM_SUPPRESSED);
		__atomic_add_fetch(&journal[2 * key + (r == FND_CLAIM_EMITTED)], 1, __ATOMIC_SEQ_CST);
		if (r == FND_CLAIM_EMITTED)
			__atomic_store_n(&journal[2 * KEYS + key], (uint64_t)getpid(), __ATOMIC_SEQ_CST);
	}
	return peer_close(&p);
}

/* word[1]: how many events there are, and each is the winner's and says how often it was suppressed. */
static int winners_event(const struct fnd_event *e, void *arg)
{
	unsigned int key = key_of(e);
	uint64_t who;

	(void)arg;
	NEED(key < KEYS);
	NEED(e->event_bytes == sizeof(who));
	memcpy(&who, e->event, sizeof(who));
	NEED(who == journal[2 * KEYS + key]);
	NEED(e->suppressed + 1 <= PROCESSES);
	word_add(&shared->word[1], 1);
	word_add(&shared->word[2], (uint32_t)e->suppressed);
	return 0;
}

static int one_of_eight(void)
{
	pid_t pid[PROCESSES];
	int failed = 0;
	struct peer p;

	journal = journal_make(3 * KEYS);
	NEED(journal);
	TRY(begin(&p, KEYS));
	for (unsigned int i = 0; i < PROCESSES; i++)
		pid[i] = child_start(claim_all, (void *)(uintptr_t)p.name);
	for (unsigned int i = 0; i < PROCESSES; i++)
		failed |= child_wait(pid[i]);
	NEED(!failed);
	for (unsigned int key = 0; key < KEYS; key++)
		NEED(journal[2 * key + 1] == 1 && journal[2 * key] == PROCESSES - 1);
	NEED(fnd_counter_read(p.seg, FND_COUNTER_EMITTED) == KEYS);
	NEED(fnd_counter_read(p.seg, FND_COUNTER_SUPPRESSED) == KEYS * (PROCESSES - 1));
	NEED(fnd_counter_read(p.seg, FND_COUNTER_OVERFLOWED) == 0);
	NEED(fnd_dedup_iterate(p.d, winners_event, NULL) == 0);
	NEED(word_get(&shared->word[1]) == KEYS);
	NEED(word_get(&shared->word[2]) == KEYS * (PROCESSES - 1));
	return end(&p);
}

/* --- windows -------------------------------------------------------------------------------------- */

#define WINDOW (20 * MS)
#define EMISSIONS 4000u

struct emission {
	uint64_t before, after; /* the claim was made in between */
};

static int claim_on(void *name)
{
	struct emission *e = (struct emission *)journal;
	struct peer p;

	TRY(peer_open(&p, name));
	while (!word_get(&shared->word[1])) {
		struct emission mine = { .before = now_ns() };
		int r = claim(&p, 1, 1, WINDOW);

		mine.after = now_ns();
		NEED(r == FND_CLAIM_EMITTED || r == FND_CLAIM_SUPPRESSED);
		if (r == FND_CLAIM_EMITTED) {
			uint32_t n = word_add(&shared->word[0], 1);

			NEED(n <= EMISSIONS);
			e[n - 1] = mine;
		}
	}
	return peer_close(&p);
}

/* Emission i was made at some time between before and after: can any two be too close? */
static int far_apart(const struct emission *e, uint32_t n)
{
	uint64_t first = UINT64_MAX, last = 0;

	for (uint32_t i = 0; i < n; i++) {
		for (uint32_t k = 0; k < i; k++) {
			uint64_t from = e[i].before < e[k].before ? e[i].before : e[k].before;
			uint64_t to = e[i].after > e[k].after ? e[i].after : e[k].after;

			NEED(to - from >= WINDOW);
		}
		first = e[i].before < first ? e[i].before : first;
		last = e[i].after > last ? e[i].after : last;
	}
	NEED(last - first >= (n - 1) * WINDOW);
	return 0;
}

/* Eight who never stop: a window is one emission long, and suppressed calls do not prolong it. */
static int window_turns(void)
{
	pid_t pid[PROCESSES];
	int failed = 0;
	struct peer p;
	uint32_t n;

	journal = journal_make(2 * EMISSIONS);
	NEED(journal);
	TRY(begin(&p, 16));
	for (unsigned int i = 0; i < PROCESSES; i++)
		pid[i] = child_start(claim_on, (void *)(uintptr_t)p.name);
	NEED(word_wait(&shared->word[0], 40) == 0); /* it goes on in spite of the suppressed */
	word_set(&shared->word[1], 1);
	for (unsigned int i = 0; i < PROCESSES; i++)
		failed |= child_wait(pid[i]);
	NEED(!failed);
	n = word_get(&shared->word[0]);
	TRY(far_apart((struct emission *)journal, n));
	NEED(fnd_counter_read(p.seg, FND_COUNTER_EMITTED) == n);
	return end(&p);
}

static int claim_without_window(void *name)
{
	struct peer p;

	TRY(peer_open(&p, name));
	for (int i = 0; i < 500; i++)
		NEED(claim(&p, 1, 1, 0) == FND_CLAIM_EMITTED);
	return peer_close(&p);
}

/* A window of 0 suppresses nothing, also when another process's clock was read a moment later. */
static int window_zero(void)
{
	pid_t pid[PROCESSES];
	int failed = 0;
	struct peer p;

	TRY(begin(&p, 16));
	for (unsigned int i = 0; i < PROCESSES; i++)
		pid[i] = child_start(claim_without_window, (void *)(uintptr_t)p.name);
	for (unsigned int i = 0; i < PROCESSES; i++)
		failed |= child_wait(pid[i]);
	NEED(!failed);
	NEED(fnd_counter_read(p.seg, FND_COUNTER_EMITTED) == 500 * PROCESSES);
	return end(&p);
}

static int window_values(void)
{
	struct peer p;

	TRY(begin(&p, 16));
	NEED(claim(&p, 1, 1, FND_WINDOW_FOREVER) == FND_CLAIM_EMITTED);
	NEED(claim(&p, 1, 1, FND_WINDOW_FOREVER) == FND_CLAIM_SUPPRESSED);
	NEED(claim(&p, 1, 1, 3600 * 1000 * MS) == FND_CLAIM_SUPPRESSED);
	NEED(claim(&p, 1, 1, 0) == FND_CLAIM_EMITTED); /* any age is old enough */
	nap_us(3000);
	NEED(claim(&p, 1, 1, 2 * MS) == FND_CLAIM_EMITTED);
	NEED(claim(&p, 1, 1, 3600 * 1000 * MS) == FND_CLAIM_SUPPRESSED);
	return end(&p);
}

/* --- capacity ------------------------------------------------------------------------------------- */

static int capacity_exact(void)
{
	struct peer p;

	TRY(begin(&p, 500));
	for (unsigned int key = 0; key < 500; key++)
		NEED(claim(&p, key, key, 50 * MS) == FND_CLAIM_EMITTED);
	NEED(claim(&p, 500, 1, FND_WINDOW_FOREVER) == FND_CLAIM_OVERFLOWED);
	NEED(claim(&p, 500, 1, FND_WINDOW_FOREVER) == FND_CLAIM_OVERFLOWED);
	for (unsigned int key = 0; key < 500; key++) /* nobody was evicted for them */
		NEED(claim(&p, key, key, FND_WINDOW_FOREVER) == FND_CLAIM_SUPPRESSED);
	NEED(fnd_counter_read(p.seg, FND_COUNTER_EMITTED) == 500);
	NEED(fnd_counter_read(p.seg, FND_COUNTER_OVERFLOWED) == 2);
	nap_us(60000);
	for (unsigned int key = 1000; key < 1500; key++) /* the expired make room */
		NEED(claim(&p, key, key, 50 * MS) == FND_CLAIM_EMITTED);
	NEED(fnd_counter_read(p.seg, FND_COUNTER_OVERFLOWED) == 2);
	return end(&p);
}

static int claim_many(void *name)
{
	struct peer p;

	TRY(peer_open(&p, name));
	word_add(&shared->word[0], 1);
	while (word_get(&shared->word[0]) < PROCESSES)
		sched_yield();
	for (unsigned int key = 0; key < 1200; key++) {
		int r = claim(&p, key, key, FND_WINDOW_FOREVER);

		NEED(r >= 0);
		word_add(&shared->word[1 + r], 1);
	}
	return peer_close(&p);
}

/* The promise holds when eight fill it, and each key that is in was emitted once. */
static int capacity_shared(void)
{
	pid_t pid[PROCESSES];
	int failed = 0;
	struct peer p;

	TRY(begin(&p, 1000));
	for (unsigned int i = 0; i < PROCESSES; i++)
		pid[i] = child_start(claim_many, (void *)(uintptr_t)p.name);
	for (unsigned int i = 0; i < PROCESSES; i++)
		failed |= child_wait(pid[i]);
	NEED(!failed);
	NEED(word_get(&shared->word[1 + FND_CLAIM_EMITTED]) >= 1000);
	NEED(word_get(&shared->word[1 + FND_CLAIM_EMITTED]) < 1000 + PROCESSES);
	NEED(fnd_counter_read(p.seg, FND_COUNTER_EMITTED) == word_get(&shared->word[2]));
	NEED(fnd_counter_read(p.seg, FND_COUNTER_SUPPRESSED) == word_get(&shared->word[1]));
	NEED(fnd_counter_read(p.seg, FND_COUNTER_OVERFLOWED) == word_get(&shared->word[3]));
	return end(&p);
}

/* --- killed claimants ----------------------------------------------------------------------------- */

#define CLAIMANTS 4u
#define KILLS 500u
#define KEYS_A_KILL 32u
#define KILL_KEYS (KEYS_A_KILL * (KILLS + 1))

/* journal[key]: times emitted; ticket[key]: event of who did; doing[i]: what claimant i is at. */
static uint64_t *ticket, *doing;

struct claimant {
	const char *name;
	unsigned int number;
	uint64_t id;
};

static int claim_until_killed(void *arg)
{
	const struct claimant *c = arg;
	struct peer p;

	TRY(peer_open(&p, c->name));
	for (;;) {
		/* all are at the same few keys, which are fresh shortly before somebody is killed */
		uint64_t first = __atomic_load_n(&shared->number[0], __ATOMIC_SEQ_CST);
		uint64_t key = first + random_u64() % KEYS_A_KILL;
		int r;

		__atomic_store_n(&doing[c->number], key, __ATOMIC_SEQ_CST);
		r = claim(&p, (unsigned int)key, c->id, FND_WINDOW_FOREVER);
		NEED(r == FND_CLAIM_EMITTED || r == FND_CLAIM_SUPPRESSED);
		if (r == FND_CLAIM_EMITTED) {
			__atomic_add_fetch(&journal[key], 1, __ATOMIC_SEQ_CST);
			__atomic_store_n(&ticket[key], c->id, __ATOMIC_SEQ_CST);
		}
	}
}

static pid_t claimant_start(struct claimant *c)
{
	static uint64_t ids;

	c->id = ++ids;
	return child_start(claim_until_killed, c);
}

/* What the killed one was at: there with its event, or anybody's to claim. */
static int after_kill(struct peer *p, const struct claimant *c)
{
	uint64_t key = __atomic_load_n(&doing[c->number], __ATOMIC_SEQ_CST), me = 1ull << 40;
	struct fnd_table *t;
	char text[32], value[64];
	size_t n = key_text(text, (unsigned int)key), bytes;
	int r;

	r = claim(p, (unsigned int)key, me, FND_WINDOW_FOREVER);
	NEED(r == FND_CLAIM_EMITTED || r == FND_CLAIM_SUPPRESSED);
	if (r == FND_CLAIM_EMITTED) {
		NEED(__atomic_add_fetch(&journal[key], 1, __ATOMIC_SEQ_CST) == 1);
		ticket[key] = me;
		word_add(&shared->word[1], 1);
		return 0;
	}
	NEED(fnd_table_open(p->seg, FND_DEDUP_TABLE, NULL, &t) == 0);
	NEED(fnd_table_lookup(t, text, n, value, sizeof(value), &bytes) == 0);
	fnd_table_close(t);
	NEED(bytes > sizeof(uint64_t));
	return 0;
}

struct audit {
	uint64_t events, unrecorded;
};

/* An event is that of who recorded it, or of somebody who was killed before recording it. */
static int audit_event(const struct fnd_event *e, void *arg)
{
	struct audit *a = arg;
	unsigned int key = key_of(e);
	uint64_t who;

	NEED(key < KILL_KEYS);
	NEED(e->event_bytes == sizeof(who));
	memcpy(&who, e->event, sizeof(who));
	a->events++;
	if (journal[key] && ticket[key])
		NEED(ticket[key] == who);
	else
		a->unrecorded++;
	return 0;
}

static int claimants_killed(void)
{
	struct claimant c[CLAIMANTS];
	struct audit a = { 0, 0 };
	pid_t pid[CLAIMANTS];
	unsigned int kills;
	struct peer p;

	journal = journal_make(KILL_KEYS);
	ticket = journal_make(KILL_KEYS);
	doing = journal_make(CLAIMANTS);
	NEED(journal && ticket && doing);
	TRY(begin(&p, KILL_KEYS));
	for (unsigned int i = 0; i < CLAIMANTS; i++) {
		c[i] = (struct claimant){ .name = p.name, .number = i };
		pid[i] = claimant_start(&c[i]);
	}
	for (kills = 0; kills < KILLS; kills++) {
		unsigned int i = (unsigned int)(random_u64() % CLAIMANTS);

		nap_us(1000);
		__atomic_add_fetch(&shared->number[0], KEYS_A_KILL, __ATOMIC_SEQ_CST);
		spin(random_u64() % 50000);
		child_kill(pid[i]);
		TRY(after_kill(&p, &c[i]));
		pid[i] = claimant_start(&c[i]);
	}
	for (unsigned int i = 0; i < CLAIMANTS; i++)
		child_kill(pid[i]);
	for (unsigned int key = 0; key < KILL_KEYS; key++)
		NEED(journal[key] <= 1);
	NEED(fnd_dedup_iterate(p.d, audit_event, &a) == 0);
	for (unsigned int key = 0; key < KILL_KEYS; key++) /* what was emitted is still there */
		NEED(!journal[key] || claim(&p, key, 0, FND_WINDOW_FOREVER) == FND_CLAIM_SUPPRESSED);
	fprintf(stderr, "%u kills, %llu events, %llu of them not recorded by their killed claimants\n",
		kills, (unsigned long long)a.events, (unsigned long long)a.unrecorded);
	NEED(kills == KILLS && a.events > KILLS && a.unrecorded <= KILLS + CLAIMANTS);
	return end(&p);
}

/* --- refused -------------------------------------------------------------------------------------- */

static int refused_claims(void)
{
	char large[FND_DEDUP_EVENT_MAX + 1] = "";
	struct peer p;

	TRY(begin(&p, 16));
	NEED(fnd_dedup_claim(p.d, NULL, 1, NULL, 0, 1) == -EINVAL);
	NEED(fnd_dedup_claim(p.d, "k", 0, NULL, 0, 1) == -EINVAL);
	NEED(fnd_dedup_claim(p.d, large, FND_DEDUP_KEY_MAX + 1, NULL, 0, 1) == -EINVAL);
	NEED(fnd_dedup_claim(p.d, "k", 1, NULL, 3, 1) == -EINVAL);
	NEED(fnd_dedup_claim(p.d, "k", 1, large, sizeof(large), 1) == -E2BIG);
	NEED(fnd_counter_read(p.seg, FND_COUNTER_EMITTED) == 0);
	NEED(fnd_dedup_claim(p.d, "k", 1, large, FND_DEDUP_EVENT_MAX, FND_WINDOW_FOREVER) ==
	     FND_CLAIM_EMITTED);
	NEED(fnd_dedup_claim(p.d, large, FND_DEDUP_KEY_MAX, NULL, 0, FND_WINDOW_FOREVER) ==
	     FND_CLAIM_EMITTED);
	return end(&p);
}

const struct test_case dedup_cases[] = {
	{ "one_of_eight", one_of_eight },
	{ "window_turns", window_turns },
	{ "window_values", window_values },
	{ "window_zero", window_zero },
	{ "capacity_exact", capacity_exact },
	{ "capacity_shared", capacity_shared },
	{ "claimants_killed", claimants_killed },
	{ "refused_claims", refused_claims },
	{ NULL, NULL },
};
