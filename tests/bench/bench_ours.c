// SPDX-License-Identifier: MIT
/*
 * Foundation's own table, through the public headers and the shared library, as any program uses it.
 *
 * The table is made with a capacity of exactly its entries, from which it may have to grow. Workers are processes that attach anew.
 * Two more contenders reach the library through pointers: the one we are linked with, and another build
 * of it loaded beside it, so that two builds can be compared within one run.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <foundation/read.h>
#include <foundation/segment.h>
#include <foundation/table.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bench_util.h"

#define NAME_PREFIX "bench-table-"
#define GRACE_TIMEOUT_MS 10000

struct library {
	__typeof__(fnd_segment_create) *segment_create;
	__typeof__(fnd_segment_attach) *segment_attach;
	__typeof__(fnd_segment_detach) *segment_detach;
	__typeof__(fnd_segment_destroy) *segment_destroy;
	__typeof__(fnd_table_open) *table_open;
	__typeof__(fnd_table_close) *table_close;
	__typeof__(fnd_table_insert) *table_insert;
	__typeof__(fnd_table_replace) *table_replace;
	__typeof__(fnd_table_lookup) *table_lookup;
	__typeof__(fnd_read_begin) *read_begin;
	__typeof__(fnd_read_end) *read_end;
	__typeof__(fnd_synchronize) *synchronize;
	__typeof__(fnd_error_detail) *error_detail;
};

/* X-macro: member, function. */
#define LIBRARY_FUNCTIONS(X)                      \
	X(segment_create, fnd_segment_create)     \
	X(segment_attach, fnd_segment_attach)     \
	X(segment_detach, fnd_segment_detach)     \
	X(segment_destroy, fnd_segment_destroy)   \
	X(table_open, fnd_table_open)             \
	X(table_close, fnd_table_close)           \
	X(table_insert, fnd_table_insert)         \
	X(table_replace, fnd_table_replace)       \
	X(table_lookup, fnd_table_lookup)         \
	X(read_begin, fnd_read_begin)             \
	X(read_end, fnd_read_end)                 \
	X(synchronize, fnd_synchronize)           \
	X(error_detail, fnd_error_detail)

#define LINKED(member, function) .member = function,
static const struct library linked = { LIBRARY_FUNCTIONS(LINKED) };
static struct library variant;

struct ours {
	const struct library *lib;
	char name[FND_NAME_MAX + 1];
	struct fnd_segment *seg;
	struct fnd_table *table;
};

/* What the failing call said, kept before clean-up overwrites it. */
static char failure_detail[256];

void bench_library_note(const char *detail)
{
	snprintf(failure_detail, sizeof(failure_detail), "%s", detail);
}

static int note_failure(const struct library *lib, int err)
{
	bench_library_note(lib->error_detail());
	return err;
}

const char *bench_library_detail(void)
{
	return failure_detail;
}

const char *bench_library_version(void)
{
	return fnd_version();
}

static void ours_destroy(void *table)
{
	struct ours *o = table;

	o->lib->table_close(o->table);
	o->lib->segment_detach(o->seg);
	o->lib->segment_destroy(o->name, FND_DESTROY_FORCE);
	free(o);
}

static int fill(struct ours *o, uint64_t entries)
{
	int err = 0;

	for (uint64_t i = 0; i < entries && !err && !bench_interrupted; i++) {
		struct bench_key key = bench_key_of(i);
		struct bench_value value;

		bench_value_of(&key, 0, &value);
		err = o->lib->table_insert(o->table, &key, sizeof(key), &value, sizeof(value));
	}
	return err;
}

static int create(const struct library *lib, const struct bench_data *data, void **ret_table)
{
	static unsigned int counter;
	struct fnd_segment_options segment = {
		.size = sizeof(segment),
		.max_bytes = (UINT64_C(1) << 30) + (data->entries + data->grows_to) * 1024,
	};
	struct fnd_table_options table = {
		.size = sizeof(table),
		.key_max = sizeof(struct bench_key),
		.value_max = sizeof(struct bench_value),
		.capacity = data->entries,
	};
	struct ours *o = calloc(1, sizeof(*o));
	int err;

	if (!o)
		return -ENOMEM;
	o->lib = lib;
	snprintf(o->name, sizeof(o->name), NAME_PREFIX "%d-%u", (int)getpid(), counter++);
	err = lib->segment_create(o->name, &segment, &o->seg);
	if (err) {
		free(o);
		return note_failure(lib, err);
	}
	err = lib->table_open(o->seg, "bench", &table, &o->table);
	if (!err)
		err = fill(o, data->entries);
	if (err) {
		note_failure(lib, err);
		ours_destroy(o);
		return err;
	}
	*ret_table = o;
	return 0;
}

static int create_linked(const struct bench_data *data, void **ret_table)
{
	return create(&linked, data, ret_table);
}

static int create_variant(const struct bench_data *data, void **ret_table)
{
	return create(&variant, data, ret_table);
}

static void ours_leave(void *self)
{
	struct ours *mine = self;

	mine->lib->table_close(mine->table);
	mine->lib->segment_detach(mine->seg);
	free(mine);
}

static int ours_join(void *table, void **ret_self)
{
	const struct ours *o = table;
	struct ours *mine = calloc(1, sizeof(*mine));
	int err;

	if (!mine)
		return -ENOMEM;
	mine->lib = o->lib;
	err = o->lib->segment_attach(o->name, NULL, &mine->seg);
	if (!err)
		err = o->lib->table_open(mine->seg, "bench", NULL, &mine->table);
	if (err) {
		note_failure(o->lib, err);
		ours_leave(mine);
		return err;
	}
	*ret_self = mine;
	return 0;
}

/*
 * Loops are written once. Where the library is the one we are linked with, the compiler sees through the
 * constant table of pointers and makes plain calls of it.
 */
#define LOOP static inline __attribute__((always_inline)) int

LOOP run_with(const struct library *lib, const struct ours *mine, const struct bench_work *work,
	      uint64_t *ret_sum)
{
	struct bench_value value;
	uint64_t sum = 0;
	int err;

	for (size_t i = 0; i < work->count; i++) {
		const struct bench_key *key = &work->keys[i];

		if (work->coins[i] < work->write_percent) {
			bench_value_of(key, work->generation, &value);
			err = lib->table_replace(mine->table, key, sizeof(*key), &value, sizeof(value));
		} else {
			err = lib->table_lookup(mine->table, key, sizeof(*key), &value, sizeof(value),
						NULL);
			sum += bench_consume(&value);
		}
		if (err)
			return note_failure(lib, err);
	}
	*ret_sum = sum;
	return 0;
}

LOOP sections_with(const struct library *lib, const struct ours *mine, uint64_t count)
{
	for (uint64_t i = 0; i < count; i++) {
		if (lib->read_begin(mine->seg) != 0 || lib->read_end(mine->seg) != 0)
			return -EPERM;
	}
	return 0;
}

static int ours_run(void *self, const struct bench_work *work, uint64_t *ret_sum)
{
	return run_with(&linked, self, work, ret_sum);
}

static int run_by_pointer(void *self, const struct bench_work *work, uint64_t *ret_sum)
{
	const struct ours *mine = self;

	return run_with(mine->lib, mine, work, ret_sum);
}

/* The read side that <foundation/read.h> inlines. */
static int ours_sections(void *self, uint64_t count)
{
	struct fnd_segment *seg = ((struct ours *)self)->seg;

	for (uint64_t i = 0; i < count; i++) {
		if (fnd_read_begin(seg) != 0 || fnd_read_end(seg) != 0)
			return -EPERM;
	}
	return 0;
}

static int sections_by_call(void *self, uint64_t count)
{
	return sections_with(&linked, self, count);
}

static int sections_by_pointer(void *self, uint64_t count)
{
	const struct ours *mine = self;

	return sections_with(mine->lib, mine, count);
}

static int ours_batch(void *self, const struct bench_work *work, uint64_t *ret_sum)
{
	const struct ours *mine = self;
	struct bench_value value[BENCH_BATCH];
	struct fnd_lookup batch[BENCH_BATCH];
	uint64_t sum = 0;
	int err;

	for (size_t k = 0; k < BENCH_BATCH; k++)
		batch[k] = (struct fnd_lookup){
			.key_bytes = sizeof(struct bench_key), .buf = &value[k], .buf_bytes = sizeof(value[k]),
		};
	for (size_t i = 0; i < work->count; i += BENCH_BATCH) {
		size_t n = work->count - i < BENCH_BATCH ? work->count - i : BENCH_BATCH;

		for (size_t k = 0; k < n; k++)
			batch[k].key = &work->keys[i + k];
		err = fnd_table_lookup_batch(mine->table, batch, n);
		if (err < 0)
			return note_failure(mine->lib, err);
		for (size_t k = 0; k < n; k++) {
			if (batch[k].result)
				return note_failure(mine->lib, batch[k].result);
			sum += bench_consume(&value[k]);
		}
	}
	*ret_sum = sum;
	return 0;
}

static int ours_insert(void *self, const struct bench_key *keys, size_t count, uint64_t generation)
{
	const struct ours *mine = self;
	struct bench_value value;
	int err = 0;

	for (size_t i = 0; i < count && !err; i++) {
		bench_value_of(&keys[i], generation, &value);
		err = fnd_table_insert(mine->table, &keys[i], sizeof(keys[i]), &value, sizeof(value));
	}
	return err ? note_failure(mine->lib, err) : 0;
}

static int ours_remove(void *self, const struct bench_key *keys, size_t count)
{
	const struct ours *mine = self;
	int err = 0;

	for (size_t i = 0; i < count && !err; i++)
		err = fnd_table_delete(mine->table, &keys[i], sizeof(keys[i]));
	return err ? note_failure(mine->lib, err) : 0;
}

static int ours_lookup(void *self, const struct bench_key *key, struct bench_value *ret_value)
{
	const struct ours *mine = self;
	size_t bytes = 0;
	int err = mine->lib->table_lookup(mine->table, key, sizeof(*key), ret_value,
					  sizeof(*ret_value), &bytes);

	if (err)
		return err;
	return bytes == sizeof(*ret_value) ? 0 : -EBADMSG;
}

static int ours_grace(void *table)
{
	const struct ours *o = table;
	int err = o->lib->synchronize(o->seg, GRACE_TIMEOUT_MS);

	return err ? note_failure(o->lib, err) : 0;
}

static int ours_bytes(void *table, uint64_t *ret_bytes, uint64_t *ret_records)
{
	const struct ours *o = table;
	struct fnd_table_stats stats;
	int err = fnd_table_stats_read(o->table, &stats);

	if (err)
		return note_failure(o->lib, err);
	*ret_bytes = stats.bytes;
	*ret_records = stats.live;
	return 0;
}

#define OURS(variable, label, maker, runner, sectioner, ...) \
	const struct bench_contender variable = {            \
		.name = label,                               \
		.scheme = label,                             \
		.processes = true,                           \
		.create = maker,                             \
		.destroy = ours_destroy,                     \
		.join = ours_join,                           \
		.leave = ours_leave,                         \
		.run = runner,                               \
		.lookup = ours_lookup,                       \
		.sections = sectioner,                       \
		.grace = ours_grace,                         \
		__VA_ARGS__                                  \
	}

OURS(bench_ours, "ours", create_linked, ours_run, ours_sections, .batch = ours_batch,
	.insert = ours_insert, .remove = ours_remove, .bytes = ours_bytes);
OURS(bench_ours_calls, "ours-calls", create_linked, ours_run, sections_by_call, .batch = ours_batch);
OURS(bench_linked, "linked", create_linked, run_by_pointer, sections_by_pointer, .batch = NULL);
OURS(bench_variant, "variant", create_variant, run_by_pointer, sections_by_pointer, .batch = NULL);

/*
 * Another build of the library, beside the one we are linked with. RTLD_DEEPBIND: its calls to itself
 * stay with itself. Returns 0, -ENOENT (detail: why it cannot be loaded, or what it lacks).
 */
int bench_variant_load(const char *path)
{
	void *handle = dlopen(path, RTLD_NOW | RTLD_LOCAL | RTLD_DEEPBIND);

	if (!handle) {
		snprintf(failure_detail, sizeof(failure_detail), "%s", dlerror());
		return -ENOENT;
	}
#define LOAD(member, function)                                                              \
	do {                                                                                \
		*(void **)&variant.member = dlsym(handle, #function);                       \
		if (!variant.member) {                                                      \
			snprintf(failure_detail, sizeof(failure_detail), "%s lacks %s", path, \
				 #function);                                                \
			return -ENOENT;                                                     \
		}                                                                           \
	} while (0);
	LIBRARY_FUNCTIONS(LOAD)
#undef LOAD
	if ((void *)variant.table_lookup == (void *)linked.table_lookup) {
		snprintf(failure_detail, sizeof(failure_detail),
			 "%s is the library this program is linked with", path);
		return -ENOENT;
	}
	return 0;
}

static int remove_if_stale(const struct fnd_segment_entry *e, void *arg)
{
	(void)arg;
	/* Without force: while a bench that made it still runs, it stays. */
	if (strncmp(e->name, NAME_PREFIX, strlen(NAME_PREFIX)) == 0)
		fnd_segment_destroy(e->name, 0);
	return 0;
}

/* Segments of earlier runs that were killed. */
void bench_remove_stale(void)
{
	fnd_segment_list(remove_if_stale, NULL);
}
