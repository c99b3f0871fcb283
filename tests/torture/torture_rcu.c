// SPDX-License-Identifier: MIT
/*
 * Torture of readers: what a read section has reached stays what it is.
 *
 * Part "parked": a reader sits in a section while a writer recycles all the memory it can get: certain, not
 * likely, to catch a record that is reused too early. Part "stress": everybody does everything, on keys that
 * are always there and on keys that come and go, while the table grows far past its capacity.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "internal.h"
#include "torture.h"

#define PINNED 64 /* keys that are there from the first moment to the last */
#define LOOSE 4096
#define PARKED_ROUNDS 4
#define PARKED_WRITES 1500

/* --- parked ---------------------------------------------------------------------------------------- */

static void parked_reader(struct member *m)
{
	for (uint32_t round = 1; round <= PARKED_ROUNDS; round++) {
		uint64_t key = round % 2, seq = 0, again = 0;
		struct fnd_view v;
		int err;

		step_wait(0, round * 2 - 1); /* the records are there */
		fnd_read_begin(m->seg);
		err = fnd_table_get(m->table, &key, sizeof(key), &v);
		CHECK("key_stays", err == 0, "get of key %llu: %s", (unsigned long long)key,
		      fnd_strerror(err));
		if (!err)
			CHECK("value_whole", value_sound(key, v.value, v.value_bytes, &seq), "first look");
		step_set(1, round * 2 - 1); /* in the section */
		step_wait(0, round * 2);    /* the writer has done what it could */
		if (!err)
			CHECK("view_stable",
			      value_sound(key, v.value, v.value_bytes, &again) && again == seq,
			      "the record changed inside the section that holds it, round %u", round);
		fnd_read_end(m->seg);
		step_set(1, round * 2);
	}
}

static void parked_writer(struct member *m)
{
	uint64_t key = 0, seq = 1;
	struct value v;
	int err;

	for (uint32_t round = 1; round <= PARKED_ROUNDS; round++) {
		for (key = 0; key < 2; key++) {
			err = fnd_table_upsert(m->table, &key, sizeof(key), &v, value_make(key, seq++, &v));
			CHECK("write", err == 0, "upsert: %s", fnd_strerror(err));
		}
		step_set(0, round * 2 - 1);
		step_wait(1, round * 2 - 1);
		for (int i = 0; i < PARKED_WRITES; i++) {
			key = (uint64_t)i % 2;
			if (i % 7 == 0) {
				err = fnd_table_delete(m->table, &key, sizeof(key));
				CHECK("write", err == 0, "delete: %s", fnd_strerror(err));
			}
			err = fnd_table_upsert(m->table, &key, sizeof(key), &v, value_make(key, seq++, &v));
			CHECK("write", err == 0, "upsert: %s", fnd_strerror(err));
		}
		step_set(0, round * 2);
		step_wait(1, round * 2);
	}
}

static void parked_member(struct member *m)
{
	if (m->id == 0)
		parked_reader(m);
	else
		parked_writer(m);
}

static void parked(void)
{
	struct fnd_table_options opt = { .size = sizeof(opt), .key_max = 8,
					 .value_max = sizeof(struct value), .capacity = 16 };

	crew_run(2, "parked", &opt, parked_member);
}

/* --- stress ---------------------------------------------------------------------------------------- */

static uint64_t next_seq(void)
{
	return __atomic_add_fetch(&board->issued, 1, __ATOMIC_RELAXED);
}

static void write_loose(struct member *m)
{
	uint64_t key = PINNED + draw(&m->random) % LOOSE;
	struct value v;
	size_t bytes = value_make(key, next_seq(), &v);
	int err;

	switch (draw(&m->random) % 3) {
	case 0:
		err = fnd_table_delete(m->table, &key, sizeof(key));
		CHECK("write", err == 0 || err == -ENOENT, "delete: %s", fnd_strerror(err));
		if (err == 0)
			__atomic_fetch_sub(&board->balance, 1, __ATOMIC_RELAXED);
		break;
	case 1:
		err = fnd_table_replace(m->table, &key, sizeof(key), &v, bytes);
		CHECK("write", err == 0 || err == -ENOENT, "replace: %s", fnd_strerror(err));
		break;
	default:
		err = fnd_table_insert(m->table, &key, sizeof(key), &v, bytes);
		CHECK("write", err == 0 || err == -EEXIST, "insert: %s", fnd_strerror(err));
		if (err == 0)
			__atomic_fetch_add(&board->balance, 1, __ATOMIC_RELAXED);
	}
}

static void write_pinned(struct member *m)
{
	uint64_t key = draw(&m->random) % PINNED;
	struct value v;
	size_t bytes = value_make(key, next_seq(), &v);
	int err = fnd_table_replace(m->table, &key, sizeof(key), &v, bytes);

	CHECK("write", err == 0, "replace of key %llu: %s", (unsigned long long)key, fnd_strerror(err));
}

static void read_copy(struct member *m)
{
	uint64_t key = draw(&m->random) % (PINNED * 2), seq;
	struct value v;
	size_t bytes = 0;
	int err = fnd_table_lookup(m->table, &key, sizeof(key), &v, sizeof(v), &bytes);

	CHECK("key_stays", err == 0 || (err == -ENOENT && key >= PINNED), "lookup of key %llu: %s",
	      (unsigned long long)key, fnd_strerror(err));
	if (!err)
		CHECK("value_whole", value_sound(key, &v, bytes, &seq), "lookup of key %llu, %zu bytes",
		      (unsigned long long)key, bytes);
}

static void read_in_place(struct member *m)
{
	uint64_t key = draw(&m->random) % PINNED, seq = 0, again = 0;
	struct fnd_view v;
	int err;

	fnd_read_begin(m->seg);
	if (draw(&m->random) % 4 == 0) { /* nested */
		fnd_read_begin(m->seg);
		fnd_read_end(m->seg);
	}
	err = fnd_table_get(m->table, &key, sizeof(key), &v);
	CHECK("key_stays", err == 0, "get of key %llu: %s", (unsigned long long)key, fnd_strerror(err));
	if (!err) {
		CHECK("value_whole", value_sound(key, v.value, v.value_bytes, &seq), "get of key %llu",
		      (unsigned long long)key);
		spin(draw(&m->random) % 3000);
		CHECK("view_stable", value_sound(key, v.value, v.value_bytes, &again) && again == seq,
		      "key %llu changed inside a section", (unsigned long long)key);
	}
	fnd_read_end(m->seg);
}

static int count_record(const struct fnd_record *r, void *arg)
{
	unsigned char *times = arg;
	uint64_t key = 0, seq;

	memcpy(&key, r->key, r->key_bytes < sizeof(key) ? r->key_bytes : sizeof(key));
	CHECK("walk_once", r->key_bytes == 8 && key < PINNED + LOOSE && ++times[key] == 1,
	      "key %llu of %zu bytes came twice, or is none", (unsigned long long)key, r->key_bytes);
	CHECK("value_whole", value_sound(key, r->value, r->value_bytes, &seq), "walk, key %llu",
	      (unsigned long long)key);
	return 0;
}

static void walk(struct member *m)
{
	unsigned char times[PINNED + LOOSE] = { 0 };
	unsigned int flags = draw(&m->random) & FND_ITERATE_EXACT;
	int err = fnd_table_iterate(m->table, flags, count_record, times);

	CHECK("walk_once", err == 0, "iterate: %s", fnd_strerror(err));
	for (unsigned int k = 0; k < PINNED; k++)
		CHECK("walk_once", times[k] == 1, "key %u was there throughout and came %u times", k,
		      times[k]);
}

static void seldom(struct member *m)
{
	struct fnd_table_stats s;
	int err = 0;

	switch (draw(&m->random) % 5) {
	case 0:
		err = fnd_synchronize(m->seg, 20000);
		break;
	case 1:
		err = fnd_table_check(m->table);
		break;
	case 2:
		err = fnd_table_stats_read(m->table, &s);
		break;
	case 3:
		err = fnd_segment_reap(m->seg, NULL);
		break;
	default:
		walk(m);
	}
	CHECK("adds_up", err == 0, "synchronize, check, stats or reap: %s", fnd_strerror(err));
}

static void stress_member(struct member *m)
{
	uint64_t until = now_ms() + torture.seconds * 1000, ops = 0;

	while (!stopped() && ((++ops & 63) || now_ms() < until)) {
		uint64_t what = draw(&m->random) % 256;

		if (what < 90)
			write_loose(m);
		else if (what < 130)
			write_pinned(m);
		else if (what < 190)
			read_copy(m);
		else if (what < 255)
			read_in_place(m);
		else
			seldom(m);
	}
	__atomic_fetch_add(&board->ops, ops, __ATOMIC_RELAXED);
}

static void stress_table(const char *name, uint64_t capacity)
{
	struct fnd_table_options opt = { .size = sizeof(opt), .key_max = 8,
					 .value_max = sizeof(struct value), .capacity = capacity };
	struct fnd_table_stats s = { 0 };
	struct fnd_table *t;
	struct value v;
	int err = fnd_table_open(torture.seg, name, &opt, &t);

	CHECK("open", err == 0, "%s: %s", name, fnd_strerror(err));
	if (err)
		return;
	board->balance = 0;
	for (uint64_t key = 0; key < PINNED; key++)
		fnd_table_insert(t, &key, sizeof(key), &v, value_make(key, next_seq(), &v));
	crew_run(4, name, &opt, stress_member);
	err = fnd_table_check(t);
	CHECK("adds_up", err == 0, "check: %s", fnd_strerror(err));
	err = fnd_table_quiesce(t);
	CHECK("adds_up", err == 0, "quiesce: %s", fnd_strerror(err));
	fnd_table_stats_read(t, &s);
	CHECK("adds_up", (int64_t)s.live == board->balance + PINNED, "%llu live, %lld inserted less deleted",
	      (unsigned long long)s.live, (long long)board->balance + PINNED);
	CHECK("adds_up", s.allocated == s.live + s.retired + s.free_records,
	      "allocated %llu, live %llu, retired %llu, free %llu", (unsigned long long)s.allocated,
	      (unsigned long long)s.live, (unsigned long long)s.retired,
	      (unsigned long long)s.free_records);
	fnd_table_close(t);
}

int main(int argc, char **argv)
{
	torture_begin(argc, argv, "torture_rcu");
	if (torture_part("parked"))
		parked();
	if (torture_part("stress")) {
		stress_table("stress-one", 16);
		stress_table("stress-many", 8192);
	}
	return torture_end();
}
