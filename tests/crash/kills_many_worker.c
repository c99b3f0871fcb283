// SPDX-License-Identifier: MIT
/*
 * A victim: checks what its predecessor left, then writes, reads, registers and claims until killed.
 *
 * All eight meet in the same shards; a write of an own key can have one result only.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "kills_many.h"

static unsigned int self;
static uint64_t rnd, author;
static struct fnd_segment *seg;
static struct fnd_table *table[FIXED + 1]; /* the last: the spare of the hour */
static uint32_t spare;                     /* its number, 0: none is open */
static struct fnd_registry *registry;
static struct fnd_dedup *dedup;
static struct fnd_participant me;

static void doing(enum doing what)
{
	__atomic_store_n(&journal->worker[self].doing, what, __ATOMIC_SEQ_CST);
}

static void must(int err, const char *what)
{
	if (err)
		fail("%s: %s", what, fnd_strerror(err));
}

/* --- coming and going ------------------------------------------------------------------------------ */

static void table_join(uint32_t number, struct fnd_table **ret)
{
	struct fnd_table_options opt;
	char name[32];

	table_describe(number, &opt, name);
	must(fnd_table_open(seg, name, &opt, ret), name);
}

static void join(void)
{
	struct fnd_attach_options opt = { .size = sizeof(opt), .lock_timeout_ms = LOCK_MS };

	doing(IN_ATTACH);
	must(fnd_segment_attach(journal->segment, &opt, &seg), "attach");
	for (uint32_t t = 0; t < FIXED; t++)
		table_join(t, &table[t]);
	must(fnd_registry_open(seg, 64, &registry), "open of the registry");
	must(fnd_dedup_open(seg, CLAIMS, &dedup), "open of the claims");
	must(fnd_segment_self(seg, &me), "self");
	doing(BETWEEN);
}

static void leave(void)
{
	doing(IN_CARE);
	for (uint32_t t = 0; t < FIXED + (spare > 0); t++)
		fnd_table_close(table[t]);
	spare = 0;
	fnd_registry_close(registry);
	fnd_dedup_close(dedup);
	must(fnd_segment_detach(seg), "detach");
}

/* --- keys ------------------------------------------------------------------------------------------ */

static void inherit_one(uint32_t number, struct fnd_table *t, uint32_t k)
{
	uint64_t seq = 0, key = key_of(number, k);
	struct value v;
	char what[24];
	size_t bytes;
	int err = fnd_table_lookup(t, &key, sizeof(key), &v, sizeof(v), &bytes);

	if (err && err != -ENOENT)
		fail("lookup of key %u in table %u: %s", k, number, fnd_strerror(err));
	if (!err && !value_sound(key, &v, bytes, &seq))
		fail("key %u in table %u: torn value", k, number);
	snprintf(what, sizeof(what), "table %u", number);
	inherit_key(&journal->key[number][k], what, k, err, seq);
}

static void inherit_table(uint32_t number, struct fnd_table *t)
{
	for (uint32_t k = self; k < KEYS; k += WORKERS)
		inherit_one(number, t, k);
}

/* The table of the hour, perhaps half made by somebody killed. */
static void spare_of_the_hour(void)
{
	uint32_t hour = 1 + journal->tick / (KILLS_A_ROUND / SPARES);

	if (hour > SPARES)
		hour = SPARES;
	if (hour == spare)
		return;
	if (spare)
		fnd_table_close(table[FIXED]);
	spare = 0;
	doing(IN_WRITE);
	table_join(FIXED + hour - 1, &table[FIXED]);
	spare = hour;
	inherit_table(FIXED + hour - 1, table[FIXED]);
}

static void write_key(uint32_t number, struct fnd_table *t, uint32_t k)
{
	struct key_journal *j = &journal->key[number][k];
	bool was = j->done & 1, will = !was || draw(&rnd) % 4;
	uint64_t seq = j->issued + 1, key = key_of(number, k);
	struct wish w = { .present = was };
	struct value v;
	int err;

	w.bytes = value_make(key, seq, &v);
	w.value = will ? &v : NULL;
	store(&j->issued, seq);
	store(&j->intent, state_of(seq, will));
	doing(IN_WRITE);
	err = change(t, &key, sizeof(key), &w, (unsigned int)(draw(&rnd) % 3));
	doing(BETWEEN);
	if (err || w.mistaken)
		fail("write of key %u in table %u (%d -> %d): %d, %s", k, number, was, will, err,
		     fnd_strerror(err));
	store(&j->done, state_of(seq, will));
}

/* Somebody's key: no older than what was committed before, no newer than what was ever intended. */
static void read_key(uint32_t number, uint32_t k)
{
	struct key_journal *j = &journal->key[number][k];
	uint64_t before, after, seq = 0, again, key = key_of(number, k);
	struct fnd_view v;
	int err;

	doing(IN_READ);
	must(fnd_read_begin(seg), "begin");
	before = load(&j->done);
	err = fnd_table_get(table[number], &key, sizeof(key), &v);
	after = load(&j->intent);
	if (err && err != -ENOENT)
		fail("get of key %u in table %u: %s", k, number, fnd_strerror(err));
	if (!err && (!value_sound(key, v.value, v.value_bytes, &seq) || seq < before >> 1 ||
		     seq > load(&j->issued)))
		fail("get of key %u in table %u: torn, stale or never written", k, number);
	if (after == before && (before & 1) == (err != 0))
		fail("get of key %u in table %u: committed %llx, %s", k, number,
		     (unsigned long long)before, err ? "absent" : "there");
	spin(draw(&rnd) % 1024);
	if (!err && (!value_sound(key, v.value, v.value_bytes, &again) || again != seq))
		fail("key %u in table %u: the view changed inside its section", k, number);
	fnd_read_end(seg);
	doing(BETWEEN);
}

/* --- names ----------------------------------------------------------------------------------------- */

static uint64_t name_make(unsigned int worker, unsigned int n, char name[32])
{
	snprintf(name, 32, "worker-%u.%u", worker, n);
	return key_of(1000 + worker, n);
}

static bool same(const struct fnd_owner *o, const struct fnd_participant *p)
{
	return o->pid == p->pid && o->slot == p->slot && o->generation == p->generation;
}

/* A name of mine: one of two states, or gone because it was taken from the dead. */
static void inherit_name(unsigned int n)
{
	struct name_journal *j = &journal->name[self][n];
	struct fnd_agent a;
	uint64_t seq = 0, key;
	char name[32];
	bool dead;
	int err;

	key = name_make(self, n, name);
	err = fnd_registry_lookup(registry, name, &a);
	if (err && err != -ENOENT)
		fail("lookup of %s: %s", name, fnd_strerror(err));
	if (err) {
		dead = fnd_participant_dead(seg, &j->owns) || fnd_participant_dead(seg, &j->intends);
		if ((j->intent & 1) && (j->done & 1) && !dead)
			fail("%s is gone, and its owner lives", name);
		store(&j->done, state_of(j->issued, false));
		store(&j->intent, state_of(j->issued, false));
		return;
	}
	if (!metadata_sound(key, &a, &seq))
		fail("%s: torn metadata", name);
	if (state_of(seq, true) == j->intent && same(&a.owner, &j->intends)) {
		j->owns = j->intends; /* killed after this line the name still is as intended */
		store(&j->done, j->intent);
	} else if (state_of(seq, true) == j->done && same(&a.owner, &j->owns)) {
		store(&j->intent, j->done);
		j->intends = j->owns;
	} else {
		fail("%s: sequence %llu of pid %u; committed %llx by %u, intended %llx by %u", name,
		     (unsigned long long)seq, a.owner.pid, (unsigned long long)j->done, j->owns.pid,
		     (unsigned long long)j->intent, j->intends.pid);
	}
}

/* @will: own it, with new metadata; otherwise give it up. */
static void write_name(unsigned int n, bool will)
{
	struct name_journal *j = &journal->name[self][n];
	bool mine = (j->done & 1) && j->done == j->intent && j->owns.generation == me.generation &&
		    j->owns.slot == me.slot;
	uint64_t seq = j->issued + 1, key;
	unsigned char metadata[METADATA_BYTES];
	char name[32];
	int err;

	key = name_make(self, n, name);
	metadata_make(key, seq, metadata);
	store(&j->issued, seq);
	j->intends = me;
	store(&j->intent, state_of(seq, will));
	doing(IN_NAME);
	if (!will)
		err = fnd_registry_unregister(registry, name, 0);
	else if (mine && draw(&rnd) % 2)
		err = fnd_registry_update(registry, name, metadata, sizeof(metadata));
	else
		err = fnd_registry_register(registry, name, 0, metadata, sizeof(metadata), 0);
	doing(BETWEEN);
	if (err)
		fail("%s (%s, %s): %s", name, mine ? "mine" : "not mine", will ? "write" : "give up",
		     fnd_strerror(err));
	j->owns = me;
	store(&j->done, state_of(seq, will));
}

static void name_something(void)
{
	unsigned int n = (unsigned int)(draw(&rnd) % NAMES), w = (unsigned int)(draw(&rnd) % WORKERS);
	struct name_journal *j = &journal->name[self][n];
	struct fnd_agent a;
	uint64_t seq, key;
	char name[32];
	int err;

	if (draw(&rnd) % 4) {
		write_name(n, !(j->done & 1) || draw(&rnd) % 4);
		return;
	}
	doing(IN_NAME);
	key = name_make(w, n, name);
	err = fnd_registry_lookup(registry, name, &a);
	if (err ? err != -ENOENT : !metadata_sound(key, &a, &seq))
		fail("lookup of %s: %s", name, err ? fnd_strerror(err) : "torn metadata");
	if (w == self && (err ? j->done & 1 : state_of(seq, true) != j->done || !same(&a.owner, &me)))
		fail("my own %s is %s; committed %llx", name, err ? "gone" : "another's",
		     (unsigned long long)j->done);
	doing(BETWEEN);
}

/* --- claims ---------------------------------------------------------------------------------------- */

/* Never again after a death in it: then this note says for good that the claim may be the dead one's. */
static void claim_something(void)
{
	uint32_t k = journal->tick / (KILLS_A_ROUND / (CLAIMS - 24)) + (uint32_t)(draw(&rnd) % 8);
	struct claim_journal *j = &journal->claim[k % CLAIMS];
	uint64_t key = key_of(2000, k % CLAIMS), nobody = 0;
	struct value event;
	size_t bytes = value_make(key, author, &event);
	int got;

	if (load(&j->intent[self]))
		return;
	store(&j->intent[self], author);
	doing(IN_CLAIM);
	got = fnd_dedup_claim(dedup, &key, sizeof(key), &event, bytes, FND_WINDOW_FOREVER);
	doing(BETWEEN);
	if (got != FND_CLAIM_EMITTED && got != FND_CLAIM_SUPPRESSED)
		fail("claim %u: %d, %s", k, got, fnd_strerror(got));
	if (got == FND_CLAIM_EMITTED && !__atomic_compare_exchange_n(&j->author, &nobody, author, false,
								     __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST))
		fail("claim %u was emitted twice", k);
	__atomic_store_n(&j->settled, 1, __ATOMIC_SEQ_CST);
	store(&j->intent[self], 0);
}

/* --- a life ---------------------------------------------------------------------------------------- */

static void seldom(void)
{
	doing(IN_CARE);
	switch (draw(&rnd) % 5) {
	case 0:
		must(fnd_segment_reap(seg, NULL), "reap");
		break;
	case 1:
		must(fnd_synchronize(seg, LOCK_MS), "synchronize");
		break;
	case 2:
		must(fnd_table_check(table[draw(&rnd) % FIXED]), "check");
		break;
	case 3:
		must(fnd_registry_reap(registry, NULL), "reap of names");
		break;
	default:
		leave();
		join();
		for (unsigned int n = 0; n < NAMES; n++) {
			inherit_name(n);
			write_name(n, true);
		}
	}
	doing(BETWEEN);
}

static void inherit(void)
{
	doing(IN_CHECK);
	for (uint32_t t = 0; t < FIXED; t++)
		inherit_table(t, table[t]);
	for (unsigned int n = 0; n < NAMES; n++) {
		inherit_name(n);
		write_name(n, true); /* mine from the first moment, whoever owned it */
	}
}

static void one_thing(void)
{
	uint32_t k = (uint32_t)(draw(&rnd) % (KEYS / WORKERS)) * WORKERS + self;
	uint64_t what = draw(&rnd) % 1024;

	if (what < 450)
		write_key((uint32_t)(what & 1), table[what & 1], k);
	else if (what < 578)
		write_key(FIXED + spare - 1, table[FIXED], k);
	else if (what < 770)
		read_key((uint32_t)(what & 1), (uint32_t)(draw(&rnd) % KEYS));
	else if (what < 898)
		name_something();
	else if (what < 1020)
		claim_something();
	else
		seldom();
}

_Noreturn void worker_run(unsigned int id, uint64_t life)
{
	self = id;
	failure_text = journal->worker[id].failure;
	author = (uint64_t)(id + 1) << 48 | (life + 1);
	rnd = mix(journal->seed ^ (life << 8 | id));
	join();
	inherit();
	while (!__atomic_load_n(&journal->stop, __ATOMIC_RELAXED)) {
		spare_of_the_hour();
		one_thing();
		if (draw(&rnd) % 256 == 0)
			sched_yield(); /* eight on few processors: the young one gets its turn */
		__atomic_store_n(&journal->worker[self].done, journal->worker[self].done + 1,
				 __ATOMIC_RELAXED);
	}
	leave();
	_exit(0);
}
