// SPDX-License-Identifier: MIT
/*
 * A worker of the kill test: writes its own keys, reads everybody's, attaches and leaves, until killed.
 *
 * It checks what it does: a write of its own key can have one result only, and what it reads lies between
 * what was committed before the lookup began and what was intended when it ended.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "kills.h"

static unsigned int self;
static uint64_t rnd;
static struct fnd_segment *seg;
static struct fnd_table *table[TABLES];
static uint64_t seen[TABLES][KEYS]; /* highest sequence this reader has met */

static void begin(void)
{
	struct worker_journal *w = &journal->worker[self];

	__atomic_store_n(&w->beat, w->beat + 1, __ATOMIC_RELAXED);
	__atomic_store_n(&w->phase, w->phase | 1, __ATOMIC_SEQ_CST);
}

static void end(void)
{
	struct worker_journal *w = &journal->worker[self];

	__atomic_store_n(&w->phase, (w->phase | 1) + 1, __ATOMIC_SEQ_CST);
}

/* Operations that are rare, so that the killer can wait for one. */
static void begin_rare(void)
{
	struct worker_journal *w = &journal->worker[self];

	begin();
	__atomic_store_n(&w->rare, w->rare | 1, __ATOMIC_SEQ_CST);
}

static void end_rare(void)
{
	struct worker_journal *w = &journal->worker[self];

	__atomic_store_n(&w->rare, (w->rare | 1) + 1, __ATOMIC_SEQ_CST);
	end();
}

/* --- coming and going ----------------------------------------------------------------------------- */

static void join(void)
{
	struct fnd_attach_options opt = { .size = sizeof(opt), .lock_timeout_ms = LOCK_MS };
	int err;

	begin_rare();
	err = fnd_segment_attach(journal->segment, &opt, &seg);
	if (err)
		fail("attach: %s", fnd_strerror(err));
	for (unsigned int t = 0; t < TABLES; t++) {
		err = fnd_table_open(seg, table_names[t], &table_options[t], &table[t]);
		if (err)
			fail("open of %s: %s", table_names[t], fnd_strerror(err));
	}
	end_rare();
	journal->worker[self].attaches++;
}

static void leave(void)
{
	int err;

	begin_rare();
	for (unsigned int t = 0; t < TABLES; t++)
		fnd_table_close(table[t]);
	err = fnd_segment_detach(seg);
	if (err)
		fail("detach: %s", fnd_strerror(err));
	end_rare();
}

/* A table that is there or not, perhaps half made by somebody killed; filled until it grows. */
static void grow_spare(uint32_t number)
{
	struct fnd_table_options opt = {
		.size = sizeof(opt), .key_max = 8, .value_max = 64, .capacity = 8
	};
	struct fnd_table *spare;
	char name[32];
	int err;

	snprintf(name, sizeof(name), "spare-%u", number);
	begin_rare();
	err = fnd_table_open(seg, name, &opt, &spare);
	if (err)
		fail("open of %s: %s", name, fnd_strerror(err));
	for (int i = 0; i < 300; i++) {
		uint64_t key = draw(&rnd) % 2048;

		err = fnd_table_upsert(spare, &key, sizeof(key), &rnd, sizeof(rnd));
		if (err)
			fail("upsert in %s: %s", name, fnd_strerror(err));
	}
	fnd_table_close(spare);
	end_rare();
}

/* --- writing --------------------------------------------------------------------------------------- */

static void inherit_one(uint32_t t, uint32_t k)
{
	struct value v;
	uint64_t seq = 0;
	char key[32];
	size_t bytes, n = key_make(t, k, key);
	int err = fnd_table_lookup(table[t], key, n, &v, sizeof(v), &bytes);

	if (err && err != -ENOENT)
		fail("lookup of key %u in %s: %s", k, table_names[t], fnd_strerror(err));
	if (!err && !value_sound(t, k, &v, bytes, &seq))
		fail("key %u in %s: torn value of %zu bytes, sequence %llu", k, table_names[t], bytes,
		     (unsigned long long)v.seq);
	inherit_key(&journal->key[t][k], table_names[t], k, err, seq);
}

static void inherit(void)
{
	for (uint32_t t = 0; t < TABLES; t++)
		for (uint32_t k = self; k < KEYS; k += WORKERS)
			inherit_one(t, k);
}

/* Calls that must be refused, or change nothing. */
static void write_in_vain(uint32_t t, const char *key, size_t n, bool present, const struct value *v)
{
	struct wish keep = { .keep = true, .present = present };
	int err, want;

	switch (draw(&rnd) % 3) {
	case 0:
		want = present ? -EEXIST : -ENOENT;
		err = present ? fnd_table_insert(table[t], key, n, v, sizeof(*v)) :
				fnd_table_replace(table[t], key, n, v, sizeof(*v));
		break;
	case 1:
		if (present)
			return;
		want = -ENOENT;
		err = fnd_table_delete(table[t], key, n);
		break;
	default:
		want = FND_MODIFY_KEEP;
		err = fnd_table_modify(table[t], key, n, answer, &keep);
	}
	if (err != want || keep.mistaken)
		fail("a write in vain gave %d (%s) instead of %d", err, fnd_strerror(err), want);
}

static void write_key(uint32_t t, uint32_t k)
{
	struct key_journal *j = &journal->key[t][k];
	bool was = j->done & 1, will = draw(&rnd) % 4 != 0;
	uint64_t seq = j->issued + 1;
	struct wish wish = { .present = was };
	struct value v;
	char key[32];
	size_t n = key_make(t, k, key), bytes = value_make(t, k, seq, &v);
	int err;

	if (draw(&rnd) % 16 == 0) {
		begin();
		write_in_vain(t, key, n, was, &v);
		end();
		return;
	}
	if (!was)
		will = true;
	store(&j->issued, seq);
	store(&j->intent, state_of(seq, will));
	begin();
	wish.value = will ? &v : NULL;
	wish.bytes = bytes;
	err = change(table[t], key, n, &wish, (unsigned int)(draw(&rnd) % 3));
	end();
	if (err || wish.mistaken)
		fail("write of key %u in %s (%d -> %d): %d, %s", k, table_names[t], was, will, err,
		     fnd_strerror(err));
	store(&j->done, state_of(seq, will));
	journal->worker[self].writes++;
}

/* --- reading --------------------------------------------------------------------------------------- */

/* @before: committed when the lookup began; the intent now is an upper bound. */
static void judge(uint32_t t, uint32_t k, uint64_t before, bool there, uint64_t seq, const char *how)
{
	uint64_t after = load(&journal->key[t][k].intent), issued = load(&journal->key[t][k].issued);
	bool still = after == before;

	if (there ? seq < before >> 1 || seq > issued || seq < seen[t][k] ||
			    (still && state_of(seq, true) != before) :
		    still && (before & 1))
		fail("%s of key %u in %s: %s, sequence %llu, seen %llu; committed %llx, intended %llx, "
		     "issued %llu",
		     how, k, table_names[t], there ? "there" : "absent", (unsigned long long)seq,
		     (unsigned long long)seen[t][k], (unsigned long long)before, (unsigned long long)after,
		     (unsigned long long)issued);
	if (there)
		seen[t][k] = seq;
}

static void read_copy(uint32_t t, uint32_t k)
{
	uint64_t before = load(&journal->key[t][k].done), seq = 0;
	struct value v;
	char key[32];
	size_t bytes, n = key_make(t, k, key);
	int err;

	begin();
	err = fnd_table_lookup(table[t], key, n, &v, sizeof(v), &bytes);
	end();
	if (err && err != -ENOENT)
		fail("lookup of key %u in %s: %s", k, table_names[t], fnd_strerror(err));
	if (!err && !value_sound(t, k, &v, bytes, &seq))
		fail("lookup of key %u in %s: torn value of %zu bytes", k, table_names[t], bytes);
	judge(t, k, before, !err, seq, "lookup");
}

/* A view must not change while the section lasts, whatever the others do with its memory. */
static void read_in_place(uint32_t t, uint32_t k)
{
	uint64_t before, seq = 0, again = 0;
	struct fnd_view v;
	char key[32];
	size_t n = key_make(t, k, key);
	int err;

	begin();
	err = fnd_read_begin(seg);
	if (err)
		fail("begin: %s", fnd_strerror(err));
	before = load(&journal->key[t][k].done);
	err = fnd_table_get(table[t], key, n, &v);
	if (err && err != -ENOENT)
		fail("get of key %u in %s: %s", k, table_names[t], fnd_strerror(err));
	if (!err && !value_sound(t, k, v.value, v.value_bytes, &seq))
		fail("get of key %u in %s: torn view of %zu bytes", k, table_names[t], v.value_bytes);
	judge(t, k, before, !err, seq, "get");
	spin(draw(&rnd) % 4096);
	if (!err && (!value_sound(t, k, v.value, v.value_bytes, &again) || again != seq))
		fail("key %u in %s: the view changed inside its section", k, table_names[t]);
	fnd_read_end(seg);
	end();
}

struct walk {
	uint32_t t;
	uint64_t before[KEYS];
	unsigned char times[KEYS];
};

static int walk_record(const struct fnd_record *r, void *arg)
{
	struct walk *w = arg;
	uint32_t k = key_number(w->t, r->key, r->key_bytes);
	uint64_t seq;

	if (k == KEYS)
		fail("walk of %s: a key of %zu bytes that is none", table_names[w->t], r->key_bytes);
	if (!value_sound(w->t, k, r->value, r->value_bytes, &seq))
		fail("walk of %s: torn value of key %u", table_names[w->t], k);
	if (seq < w->before[k] >> 1)
		fail("walk of %s: key %u has an old value", table_names[w->t], k);
	if (++w->times[k] > 1)
		fail("walk of %s: key %u twice", table_names[w->t], k);
	return 0;
}

static void walk(uint32_t t)
{
	static struct walk w;
	int err;

	memset(&w, 0, sizeof(w));
	w.t = t;
	for (uint32_t k = 0; k < KEYS; k++)
		w.before[k] = load(&journal->key[t][k].done);
	begin();
	err = fnd_table_iterate(table[t], draw(&rnd) & FND_ITERATE_EXACT, walk_record, &w);
	end();
	if (err)
		fail("walk of %s: %s", table_names[t], fnd_strerror(err));
	for (uint32_t k = 0; k < KEYS; k++)
		if (w.before[k] & 1 && load(&journal->key[t][k].intent) == w.before[k] && !w.times[k])
			fail("walk of %s: key %u was there all the time and not seen", table_names[t], k);
}

/* --- a life ---------------------------------------------------------------------------------------- */

static uint32_t own_key(void)
{
	uint32_t k = (uint32_t)(draw(&rnd) % 4 ? draw(&rnd) % 32 : draw(&rnd) % KEYS);

	return k / WORKERS * WORKERS + self;
}

static void seldom(void)
{
	int err = 0;

	switch (draw(&rnd) % 6) {
	case 0:
		err = fnd_segment_reap(seg, NULL);
		break;
	case 1:
		err = fnd_synchronize(seg, LOCK_MS);
		break;
	case 2:
		err = fnd_table_check(table[draw(&rnd) % TABLES]);
		break;
	case 3:
		leave();
		join();
		return;
	default:
		walk((uint32_t)(draw(&rnd) % TABLES));
	}
	if (err)
		fail("reap, synchronize or check: %s", fnd_strerror(err));
}

_Noreturn void worker_run(unsigned int id, uint64_t life)
{
	self = id;
	failure_text = journal->worker[id].failure;
	rnd = mix(journal->seed ^ (uint64_t)journal->round << 40 ^ life << 8 ^ id);
	join();
	inherit();
	while (!__atomic_load_n(&journal->stop, __ATOMIC_RELAXED)) {
		uint32_t order = __atomic_exchange_n(&journal->worker[self].order, 0, __ATOMIC_SEQ_CST);
		uint32_t t = (uint32_t)(draw(&rnd) % 3 == 0);
		uint64_t what = draw(&rnd) % 64;

		if (order)
			grow_spare(order - 1);
		if (what < 36)
			write_key(t, own_key());
		else if (what < 50)
			read_copy(t, (uint32_t)(draw(&rnd) % KEYS));
		else if (what < 63)
			read_in_place(t, (uint32_t)(draw(&rnd) % 32));
		else if (draw(&rnd) % 2)
			seldom();
		if (draw(&rnd) % 8 == 0)
			spin(draw(&rnd) % 2000);
	}
	if (draw(&rnd) % 2)
		leave();
	_exit(0);
}
