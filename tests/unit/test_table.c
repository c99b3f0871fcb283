// SPDX-License-Identifier: MIT
/* Tables, by one process: results, limits, capacity, growth, walks, figures. */
#define _GNU_SOURCE
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <criterion/criterion.h>

#include "internal.h"

static struct fnd_segment *seg;

static void make_segment(uint64_t max_bytes)
{
	char segment[64];
	struct fnd_segment_options opt = { .size = sizeof(opt), .processes = 8, .threads = 8,
					   .max_bytes = max_bytes };
	static unsigned int births;
	int err;

	snprintf(segment, sizeof(segment), "test-table-%d-%u", (int)getpid(), births++);
	err = fnd_segment_create(segment, &opt, &seg);
	cr_assert_eq(err, 0, "create: %s [%s]", fnd_strerror(err), fnd_error_detail());
	/* The name goes at once: a failed assertion leaves without any clean-up. */
	cr_assert_eq(fnd_segment_destroy(segment, FND_DESTROY_FORCE), 0);
}

static void remove_segment(void)
{
	cr_assert_eq(fnd_segment_detach(seg), 0);
	seg = NULL;
}

static void setup(void)
{
	make_segment(256u << 20);
}

TestSuite(table, .init = setup, .timeout = 60);

static struct fnd_table *open_table(const char *name, uint64_t capacity, uint32_t flags, uint32_t key_max,
				    uint32_t value_max)
{
	struct fnd_table_options opt = { .size = sizeof(opt), .flags = flags, .key_max = key_max,
					 .value_max = value_max, .capacity = capacity };
	struct fnd_table *t = NULL;
	int err = fnd_table_open(seg, name, &opt, &t);

	cr_assert_eq(err, 0, "open of %s: %s [%s]", name, fnd_strerror(err), fnd_error_detail());
	return t;
}

static uint64_t number_at(struct fnd_table *t, uint64_t key)
{
	uint64_t v = 0;
	int err = fnd_table_lookup(t, &key, sizeof(key), &v, sizeof(v), NULL);

	return err ? (uint64_t)(int64_t)err : v;
}

#define NUMBER(err) ((uint64_t)(int64_t)(err))

/* Everything adds up, and the table is as large as it should be. */
static void sound(struct fnd_table *t, uint64_t live)
{
	struct fnd_table_stats s;

	cr_assert_eq(fnd_table_check(t), 0, "check: %s", fnd_error_detail());
	cr_assert_eq(fnd_table_stats_read(t, &s), 0);
	cr_assert_eq(s.live, live, "%lu live instead of %lu", s.live, live);
	cr_assert_eq(s.allocated, s.live + s.retired + s.free_records);
	cr_assert_leq(s.allocated, s.reserved);
}

/* --- results ---------------------------------------------------------------------------------------- */

Test(table, insert_replace_upsert_delete)
{
	struct fnd_table *t = open_table("t", 100, 0, 8, 8);
	uint64_t key = 1, v = 10;

	cr_assert_eq(number_at(t, key), NUMBER(-ENOENT));
	cr_assert_eq(fnd_table_replace(t, &key, 8, &v, 8), -ENOENT);
	cr_assert_eq(fnd_table_delete(t, &key, 8), -ENOENT);
	cr_assert_eq(fnd_table_insert(t, &key, 8, &v, 8), 0);
	cr_assert_eq(number_at(t, key), 10);
	v = 11;
	cr_assert_eq(fnd_table_insert(t, &key, 8, &v, 8), -EEXIST);
	cr_assert_eq(number_at(t, key), 10);
	cr_assert_eq(fnd_table_replace(t, &key, 8, &v, 8), 0);
	cr_assert_eq(number_at(t, key), 11);
	v = 12;
	cr_assert_eq(fnd_table_upsert(t, &key, 8, &v, 8), 0);
	cr_assert_eq(number_at(t, key), 12);
	cr_assert_eq(fnd_table_delete(t, &key, 8), 0);
	cr_assert_eq(number_at(t, key), NUMBER(-ENOENT));
	cr_assert_eq(fnd_table_upsert(t, &key, 8, &v, 8), 0);
	cr_assert_eq(number_at(t, key), 12);
	sound(t, 1);
	fnd_table_close(t);
	remove_segment();
}

struct answer {
	enum fnd_modify action;
	uint64_t old, put;
	size_t bytes;
	bool there;
	int calls;
};

static enum fnd_modify modify(void *arg, const void *old, size_t old_bytes, const void **value, size_t *bytes)
{
	struct answer *a = arg;

	a->calls++;
	a->there = old != NULL;
	a->old = 0;
	if (old)
		memcpy(&a->old, old, old_bytes < 8 ? old_bytes : 8);
	*value = &a->put;
	*bytes = a->bytes;
	return a->action;
}

Test(table, modify)
{
	struct fnd_table *t = open_table("t", 100, 0, 8, 8);
	struct answer a = { .action = FND_MODIFY_KEEP, .bytes = 8 };
	uint64_t key = 5;

	cr_assert_eq(fnd_table_modify(t, &key, 8, NULL, NULL), -EINVAL);
	cr_assert_eq(fnd_table_modify(t, &key, 8, modify, &a), FND_MODIFY_KEEP);
	cr_assert(!a.there && a.calls == 1);
	a.action = FND_MODIFY_DELETE; /* of nothing: kept */
	cr_assert_eq(fnd_table_modify(t, &key, 8, modify, &a), FND_MODIFY_KEEP);
	a.action = FND_MODIFY_PUT;
	a.put = 77;
	cr_assert_eq(fnd_table_modify(t, &key, 8, modify, &a), FND_MODIFY_PUT);
	cr_assert_eq(number_at(t, key), 77);
	a.put = 78;
	cr_assert_eq(fnd_table_modify(t, &key, 8, modify, &a), FND_MODIFY_PUT);
	cr_assert(a.there && a.old == 77);
	a.bytes = 9;
	cr_assert_eq(fnd_table_modify(t, &key, 8, modify, &a), -E2BIG);
	cr_assert_eq(number_at(t, key), 78);
	a.action = FND_MODIFY_DELETE;
	cr_assert_eq(fnd_table_modify(t, &key, 8, modify, &a), FND_MODIFY_DELETE);
	cr_assert_eq(number_at(t, key), NUMBER(-ENOENT));
	sound(t, 0);
	fnd_table_close(t);
	remove_segment();
}

Test(table, lookup_and_get)
{
	struct fnd_table *t = open_table("t", 100, 0, 16, 100);
	char buf[100], value[100];
	struct fnd_view view;
	size_t bytes = 12345;

	memset(value, 'x', sizeof(value));
	cr_assert_eq(fnd_table_insert(t, "key", 3, value, 100), 0);
	cr_assert_eq(fnd_table_insert(t, "empty", 5, NULL, 0), 0);
	cr_assert_eq(fnd_table_lookup(t, "key", 3, buf, 99, &bytes), -ENOBUFS);
	cr_assert_eq(bytes, 100);
	cr_assert_eq(fnd_table_lookup(t, "key", 3, buf, 100, NULL), 0);
	cr_assert_eq(memcmp(buf, value, 100), 0);
	cr_assert_eq(fnd_table_lookup(t, "empty", 5, buf, 0, &bytes), 0);
	cr_assert_eq(bytes, 0);
	bytes = 12345;
	cr_assert_eq(fnd_table_lookup(t, "ke", 2, buf, 100, &bytes), -ENOENT);
	cr_assert_eq(fnd_table_lookup(t, "key\0", 4, buf, 100, &bytes), -ENOENT);
	cr_assert_eq(bytes, 12345, "touched on failure");
	cr_assert_eq(fnd_table_get(t, "key", 3, &view), -EPERM);
	cr_assert_eq(fnd_read_begin(seg), 0);
	cr_assert_eq(fnd_table_get(t, "key", 3, &view), 0);
	cr_assert_eq(view.value_bytes, 100);
	cr_assert_eq((uintptr_t)view.value % 8, 0);
	cr_assert_eq(fnd_segment_detach(seg), -EBUSY);
	cr_assert_eq(fnd_synchronize(seg, 10), -EDEADLK);
	/* The view stays, although the record is gone. */
	cr_assert_eq(fnd_table_delete(t, "key", 3), 0);
	cr_assert_eq(fnd_table_get(t, "nokey", 5, &view), -ENOENT);
	cr_assert_eq(memcmp(view.value, value, 100), 0);
	cr_assert_eq(fnd_read_end(seg), 0);
	cr_assert_eq(fnd_table_get(t, "empty", 5, &view), -EPERM);
	fnd_table_close(t);
	remove_segment();
}

Test(table, cells)
{
	struct fnd_table *t = open_table("t", 10, 0, 8, 24);
	uint64_t value[3] = { 1, 2, 3 };
	struct fnd_view view;

	cr_assert_eq(fnd_table_insert(t, "k", 1, value, 24), 0);
	fnd_read_begin(seg);
	cr_assert_eq(fnd_table_get(t, "k", 1, &view), 0);
	cr_assert_eq(fnd_view_add(&view, 8, 40), 42);
	cr_assert_eq(fnd_view_add(&view, 8, 0), 42);
	cr_assert_eq(fnd_view_add(&view, 4, 1), 0);
	cr_assert_eq(fnd_view_add(&view, 24, 1), 0);
	cr_assert_eq(fnd_view_add(&view, SIZE_MAX - 7, 1), 0);
	fnd_read_end(seg);
	cr_assert_eq(fnd_table_lookup(t, "k", 1, value, 24, NULL), 0);
	cr_assert(value[0] == 1 && value[1] == 42 && value[2] == 3);
	fnd_table_close(t);
	remove_segment();
}

Test(table, limits_of_keys_and_values)
{
	struct fnd_table *t = open_table("t", 10, 0, 16, 32);
	char big[64] = { 0 };

	cr_assert_eq(fnd_table_insert(t, big, 0, big, 1), -EINVAL);
	cr_assert_eq(fnd_table_insert(t, NULL, 1, big, 1), -EINVAL);
	cr_assert_eq(fnd_table_insert(t, big, 17, big, 1), -EINVAL);
	cr_assert_eq(fnd_table_insert(t, big, 16, big, 33), -E2BIG);
	cr_assert_eq(fnd_table_insert(t, big, 16, NULL, 1), -EINVAL);
	cr_assert_eq(fnd_table_insert(t, big, 16, big, 32), 0);
	cr_assert_eq(fnd_table_lookup(t, big, 0, big, 1, NULL), -EINVAL);
	cr_assert_eq(fnd_table_lookup(t, big, 17, big, 1, NULL), -EINVAL);
	cr_assert_eq(fnd_table_delete(t, big, 17), -EINVAL);
	sound(t, 1);
	fnd_table_close(t);
	remove_segment();
}

/* Lookups have ways of their own for common lengths: each length must give the same bytes back. */
Test(table, every_length)
{
	struct fnd_table *t = open_table("lengths", 2000, 0, 40, 140);
	unsigned char key[40], value[140], out[160];

	for (unsigned int k = 1; k <= sizeof(key); k++) {
		for (unsigned int v = 0; v <= sizeof(value); v += k % 8 == 0 ? 1 : 13) {
			size_t bytes = 1000;

			memset(key, (int)k, sizeof(key));
			for (unsigned int i = 0; i < sizeof(value); i++)
				value[i] = (unsigned char)(i * 7 + k + v);
			cr_assert_eq(fnd_table_upsert(t, key, k, value, v), 0);
			memset(out, 0xee, sizeof(out));
			cr_assert_eq(fnd_table_lookup(t, key, k, out, v, &bytes), 0, "key %u, value %u", k, v);
			cr_assert_eq(bytes, v);
			cr_assert_eq(memcmp(out, value, v), 0, "key %u, value %u", k, v);
			cr_assert_eq(out[v], 0xee, "a byte behind a value of %u", v);
			if (v > 0)
				cr_assert_eq(fnd_table_lookup(t, key, k, out, v - 1, &bytes), -ENOBUFS);
			key[k - 1] ^= 0x80; /* the last byte counts … */
			cr_assert_eq(fnd_table_lookup(t, key, k, out, sizeof(out), NULL), -ENOENT);
			key[k - 1] ^= 0x80;
			key[0] ^= 0x80; /* … and the first */
			cr_assert_eq(fnd_table_lookup(t, key, k, out, sizeof(out), NULL), -ENOENT);
		}
	}
	fnd_table_close(t);
	remove_segment();
}

/* The inline read side and the functions are one thing: they nest in each other, and in each order. */
Test(table, inline_sections)
{
	struct fnd_table *t = open_table("inline", 10, 0, 8, 8);
	uint64_t key = 1;
	struct fnd_view view;

	cr_assert_eq(fnd_table_insert(t, &key, sizeof(key), &key, sizeof(key)), 0);
	cr_assert_eq(fnd_table_get(t, &key, sizeof(key), &view), -EPERM);
	for (unsigned int order = 0; order < 16; order++) {
		cr_assert_eq(order & 1 ? fnd_read_begin_inline(seg) : fnd_read_begin(seg), 0);
		cr_assert_eq(order & 2 ? fnd_read_begin_inline(seg) : fnd_read_begin(seg), 0);
		cr_assert_eq(number_at(t, key), 1); /* nests once more */
		cr_assert_eq(order & 4 ? fnd_read_end_inline(seg) : fnd_read_end(seg), 0);
		cr_assert_eq(fnd_table_get(t, &key, sizeof(key), &view), 0, "order %u", order);
		cr_assert_eq(order & 8 ? fnd_read_end_inline(seg) : fnd_read_end(seg), 0);
		cr_assert_eq(fnd_table_get(t, &key, sizeof(key), &view), -EPERM, "order %u", order);
		cr_assert_eq(fnd_read_end_inline(seg), 0, "an end too many does nothing");
	}
	fnd_table_close(t);
	remove_segment();
}

Test(table, largest_key_and_value)
{
	struct fnd_table *t = open_table("t", 20, 0, FND_KEY_MAX, FND_VALUE_MAX);
	char *value = malloc(FND_VALUE_MAX), *buf = malloc(FND_VALUE_MAX), key[FND_KEY_MAX];
	size_t bytes;

	for (int i = 0; i < 20; i++) {
		memset(key, i, sizeof(key));
		memset(value, i + 1, FND_VALUE_MAX);
		cr_assert_eq(fnd_table_insert(t, key, sizeof(key), value, FND_VALUE_MAX), 0, "number %d: %s", i,
			     fnd_error_detail());
	}
	for (int round = 0; round < 20; round++) {
		memset(key, round % 20, sizeof(key));
		memset(value, round + 100, FND_VALUE_MAX);
		cr_assert_eq(fnd_table_replace(t, key, sizeof(key), value, FND_VALUE_MAX), 0);
		cr_assert_eq(fnd_table_lookup(t, key, sizeof(key), buf, FND_VALUE_MAX, &bytes), 0);
		cr_assert(bytes == FND_VALUE_MAX && memcmp(buf, value, bytes) == 0);
	}
	sound(t, 20);
	free(value);
	free(buf);
	fnd_table_close(t);
	remove_segment();
}

/* --- opening ---------------------------------------------------------------------------------------- */

Test(table, open)
{
	struct fnd_table_options opt = { .size = sizeof(opt), .key_max = 8, .value_max = 8, .capacity = 50 };
	struct fnd_table *a = NULL, *b = NULL, *none = NULL;
	uint64_t key = 3, v = 4;

	cr_assert_eq(fnd_table_open(seg, "t", NULL, &none), -ENOENT);
	cr_assert_eq(fnd_table_open(seg, "", &opt, &none), -EINVAL);
	cr_assert_eq(fnd_table_open(seg, "with/slash", &opt, &none), -EINVAL);
	cr_assert_eq(fnd_table_open(seg, "a-name-that-is-longer-than-31-by1", &opt, &none), -EINVAL);
	cr_assert_eq(fnd_table_open(seg, "t", &opt, &a), 0);
	cr_assert_eq(fnd_table_insert(a, &key, 8, &v, 8), 0);
	cr_assert_eq(fnd_table_open(seg, "t", &opt, &b), 0);
	cr_assert_eq(number_at(b, key), 4, "the same table");
	fnd_table_close(b);
	cr_assert_eq(fnd_table_open(seg, "t", NULL, &b), 0);
	fnd_table_close(b);
	opt.capacity = 0; /* whatever it has */
	cr_assert_eq(fnd_table_open(seg, "t", &opt, &b), 0);
	fnd_table_close(b);
	opt.capacity = 51;
	cr_assert_eq(fnd_table_open(seg, "t", &opt, &none), -FND_E_LIMITS);
	cr_assert(strstr(fnd_error_detail(), "capacity"));
	opt.capacity = 50;
	opt.key_max = 9;
	cr_assert_eq(fnd_table_open(seg, "t", &opt, &none), -FND_E_LIMITS);
	opt.key_max = 8;
	opt.value_max = 9;
	cr_assert_eq(fnd_table_open(seg, "t", &opt, &none), -FND_E_LIMITS);
	opt.value_max = 8;
	opt.flags = FND_TABLE_FIXED;
	cr_assert_eq(fnd_table_open(seg, "t", &opt, &none), -FND_E_LIMITS);
	opt.flags = 128;
	cr_assert_eq(fnd_table_open(seg, "u", &opt, &none), -EINVAL);
	opt.flags = 0;
	opt.key_max = FND_KEY_MAX + 1;
	cr_assert_eq(fnd_table_open(seg, "u", &opt, &none), -EINVAL);
	opt.key_max = 8;
	opt.value_max = FND_VALUE_MAX + 1;
	cr_assert_eq(fnd_table_open(seg, "u", &opt, &none), -EINVAL);
	opt.value_max = 8;
	opt.capacity = UINT64_MAX;
	cr_assert_eq(fnd_table_open(seg, "u", &opt, &none), -ENOSPC);
	opt.capacity = 1u << 30;
	cr_assert_eq(fnd_table_open(seg, "u", &opt, &none), -ENOSPC);
	cr_assert_null(none, "touched on failure");
	fnd_table_close(NULL);
	fnd_table_close(a);
	remove_segment();
}

Test(table, sixty_four_tables)
{
	struct fnd_table_options opt = { .size = sizeof(opt), .key_max = 8, .value_max = 8, .capacity = 5 };
	char name[FND_TABLE_NAME_MAX + 1], want[32];
	struct fnd_table *t, *one_more;
	uint64_t key = 1;

	for (unsigned int i = 0; i < FND_TABLES; i++) {
		snprintf(want, sizeof(want), "table.%u", i);
		t = open_table(want, 5, 0, 8, 8);
		cr_assert_eq(fnd_table_insert(t, &key, 8, &key, 8), 0);
		cr_assert_eq(fnd_table_name(seg, i, name), 0);
		cr_assert_str_eq(name, want);
		sound(t, 1);
		fnd_table_close(t);
	}
	cr_assert_eq(fnd_table_open(seg, "one-more", &opt, &one_more), -EMFILE);
	cr_assert_eq(fnd_table_open(seg, "table.63", &opt, &t), 0);
	fnd_table_close(t);
	cr_assert_eq(fnd_table_name(seg, FND_TABLES, name), -EINVAL);
	remove_segment();
}

/* --- capacity ---------------------------------------------------------------------------------------- */

/* From here on the segment gives not a byte more to anybody: what is promised must be there already. */
static uint64_t tighten(void)
{
	uint64_t was = seg->max_bytes;

	seg->max_bytes = seg->hdr->brk;
	return was;
}

static void generations(uint64_t n, uint32_t flags, uint32_t value_max)
{
	char value[256] = "value of the declared size";
	uint64_t key, next = 0, max_bytes;
	struct fnd_table *t;
	int err;

	remove_segment();
	make_segment(1u << 30);
	t = open_table("t", n, flags, 8, value_max);
	max_bytes = tighten();

	for (int generation = 0; generation < 10; generation++) {
		for (uint64_t i = 0; i < n; i++) {
			key = next + i;
			err = fnd_table_insert(t, &key, 8, value, value_max);
			cr_assert_eq(err, 0, "capacity %lu, flags %u, generation %d, record %lu: %s [%s]", n, flags,
				     generation, i, fnd_strerror(err), fnd_error_detail());
		}
		key = next + n;
		if (flags & FND_TABLE_FIXED)
			cr_assert_eq(fnd_table_insert(t, &key, 8, value, value_max), -ENOSPC);
		key = next;
		cr_assert_eq(fnd_table_replace(t, &key, 8, value, value_max), 0, "replace in a full table: %s",
			     fnd_error_detail());
		sound(t, n);
		for (uint64_t i = 0; i < n; i++) {
			key = next + i;
			cr_assert_eq(fnd_table_delete(t, &key, 8), 0);
		}
		next += n;
	}
	sound(t, 0);
	fnd_table_close(t);
	seg->max_bytes = max_bytes;
}

static void promise(uint64_t n)
{
	for (int seed = 0; seed < 3; seed++) { /* each segment hashes otherwise */
		generations(n, 0, 24);
		generations(n, FND_TABLE_FIXED, 24);
		generations(n, FND_TABLE_FIXED, 200);
	}
	remove_segment();
}

Test(table, capacity_1)
{
	promise(1);
}

Test(table, capacity_7)
{
	promise(7);
}

Test(table, capacity_100)
{
	promise(100);
}

Test(table, capacity_1000)
{
	promise(1000);
}

Test(table, capacity_10000)
{
	promise(10000);
}

Test(table, full_refuses_that_entry_alone)
{
	struct fnd_table *t = open_table("t", 3, FND_TABLE_FIXED, 8, 8);
	struct fnd_table_stats s;

	for (uint64_t key = 0; key < 3; key++)
		cr_assert_eq(fnd_table_insert(t, &key, 8, &key, 8), 0);
	for (uint64_t key = 3; key < 10; key++) {
		cr_assert_eq(fnd_table_insert(t, &key, 8, &key, 8), -ENOSPC);
		cr_assert_eq(fnd_table_upsert(t, &key, 8, &key, 8), -ENOSPC);
	}
	for (uint64_t key = 0, v = 50; key < 3; key++, v++) {
		cr_assert_eq(fnd_table_upsert(t, &key, 8, &v, 8), 0);
		cr_assert_eq(number_at(t, key), v);
	}
	cr_assert_eq(fnd_table_stats_read(t, &s), 0);
	cr_assert_eq(s.full, 14);
	cr_assert_eq(fnd_counter_read(seg, FND_COUNTER_FULL), 14);
	fnd_table_close(t);
	remove_segment();
}

/* --- growth, walks, figures ---------------------------------------------------------------------------- */

Test(table, growth_far_past_capacity)
{
	const uint64_t n = 30000;
	struct fnd_table *t = open_table("t", 16, 0, 8, 8);
	struct fnd_table_stats s;

	for (uint64_t key = 0; key < n; key++) {
		int err = fnd_table_insert(t, &key, 8, &key, 8);

		cr_assert_eq(err, 0, "record %lu: %s [%s]", key, fnd_strerror(err), fnd_error_detail());
	}
	for (uint64_t key = 0; key < n; key++)
		cr_assert_eq(number_at(t, key), key);
	cr_assert_eq(number_at(t, n), NUMBER(-ENOENT));
	sound(t, n);
	cr_assert_eq(fnd_table_stats_read(t, &s), 0);
	cr_assert_gt(s.growths, 5);
	cr_assert_geq(s.reserved, n);
	for (uint64_t key = 0; key < n; key += 2)
		cr_assert_eq(fnd_table_delete(t, &key, 8), 0);
	for (uint64_t key = 0; key < n; key++)
		cr_assert_eq(number_at(t, key), key % 2 ? key : NUMBER(-ENOENT));
	cr_assert_eq(fnd_table_quiesce(t), 0);
	sound(t, n / 2);
	fnd_table_close(t);
	remove_segment();
}

struct walk {
	unsigned char times[5000];
	uint64_t total;
	uint64_t stop_after;
	struct fnd_table *t;
};

static int walk_record(const struct fnd_record *r, void *arg)
{
	struct walk *w = arg;
	uint64_t key, v;

	if (r->key_bytes != 8 || r->value_bytes != 8)
		return -EPROTO;
	memcpy(&key, r->key, 8);
	memcpy(&v, r->value, 8);
	if (key >= 5000 || v != key * 3)
		return -EPROTO;
	w->times[key]++;
	if (w->t) /* the walk may call this library, and change what it walks */
		fnd_table_delete(w->t, &key, 8);
	return ++w->total == w->stop_after ? 42 : 0;
}

Test(table, iterate)
{
	struct fnd_table *t = open_table("t", 5000, 0, 8, 8);
	static struct walk w;

	cr_assert_eq(fnd_table_iterate(t, 0, walk_record, &w), 0);
	cr_assert_eq(w.total, 0);
	for (uint64_t key = 0, v = 0; key < 5000; key++, v += 3)
		cr_assert_eq(fnd_table_insert(t, &key, 8, &v, 8), 0);
	for (unsigned int flags = 0; flags <= FND_ITERATE_EXACT; flags++) {
		memset(&w, 0, sizeof(w));
		cr_assert_eq(fnd_table_iterate(t, flags, walk_record, &w), 0);
		cr_assert_eq(w.total, 5000);
		for (unsigned int i = 0; i < 5000; i++)
			cr_assert_eq(w.times[i], 1, "key %u came %u times", i, w.times[i]);
	}
	memset(&w, 0, sizeof(w));
	w.stop_after = 10;
	cr_assert_eq(fnd_table_iterate(t, 0, walk_record, &w), 42);
	cr_assert_eq(w.total, 10);
	memset(&w, 0, sizeof(w));
	w.t = t;
	cr_assert_eq(fnd_table_iterate(t, FND_ITERATE_EXACT, walk_record, &w), 0);
	cr_assert_eq(w.total, 5000);
	sound(t, 0);
	fnd_table_close(t);
	remove_segment();
}

Test(table, figures)
{
	struct fnd_table *t = open_table("t", 1000, FND_TABLE_FIXED, 20, 100);
	struct fnd_table_stats s;
	uint64_t key;

	for (key = 0; key < 300; key++)
		cr_assert_eq(fnd_table_insert(t, &key, 8, &key, 8), 0);
	for (key = 0; key < 100; key++)
		cr_assert_eq(fnd_table_delete(t, &key, 8), 0);
	cr_assert_eq(fnd_table_stats_read(t, &s), 0);
	cr_assert_str_eq(s.name, "t");
	cr_assert(s.flags == FND_TABLE_FIXED && s.key_max == 20 && s.value_max == 100 && s.capacity == 1000);
	cr_assert(s.live == 200 && s.allocated == s.live + s.retired + s.free_records);
	cr_assert_geq(s.record_bytes, 16 + 20 + 100);
	cr_assert_geq(s.reserved, 1000);
	cr_assert_gt(s.bytes, s.reserved * s.record_bytes);
	cr_assert_eq(s.shards & (s.shards - 1), 0);
	fnd_table_close(t);
	remove_segment();
}
