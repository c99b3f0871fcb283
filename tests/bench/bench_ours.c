// SPDX-License-Identifier: MIT
/*
 * Foundation's own table, through the public headers and the shared library, as any program uses it.
 *
 * The table is made with a capacity of exactly its entries. Workers are processes that attach anew.
 * Two more contenders reach the library through pointers: the one we are linked with, and another build
 * of it loaded beside it, so that two builds can be compared within one run.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
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
		.max_bytes = (UINT64_C(1) << 30) + data->entries * 1024,
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

static int ours_run(void *self, const struct bench_work *work, uint64_t *ret_sum)
{
	struct fnd_table *t = ((struct ours *)self)->table;
	struct bench_value value;
	uint64_t sum = 0;
	int err;

	for (size_t i = 0; i < work->count; i++) {
		const struct bench_key *key = &work->keys[i];

		if (work->coins[i] < work->write_percent) {
			bench_value_of(key, work->generation, &value);
			err = fnd_table_replace(t, key, sizeof(*key), &value, sizeof(value));
		} else {
			err = fnd_table_lookup(t, key, sizeof(*key), &value, sizeof(value), NULL);
			sum += bench_consume(&value);
		}
		if (err)
			return note_failure(((struct ours *)self)->lib, err);
	}
	*ret_sum = sum;
	return 0;
}

/* The same loop, through pointers. */
static int run_by_pointer(void *self, const struct bench_work *work, uint64_t *ret_sum)
{
	const struct ours *mine = self;
	struct bench_value value;
	uint64_t sum = 0;
	int err;

	for (size_t i = 0; i < work->count; i++) {
		const struct bench_key *key = &work->keys[i];

		if (work->coins[i] < work->write_percent) {
			bench_value_of(key, work->generation, &value);
			err = mine->lib->table_replace(mine->table, key, sizeof(*key), &value,
						       sizeof(value));
		} else {
			err = mine->lib->table_lookup(mine->table, key, sizeof(*key), &value,
						      sizeof(value), NULL);
			sum += bench_consume(&value);
		}
		if (err)
			return note_failure(((struct ours *)self)->lib, err);
	}
	*ret_sum = sum;
	return 0;
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

static int ours_sections(void *self, uint64_t count)
{
	struct fnd_segment *seg = ((struct ours *)self)->seg;

	for (uint64_t i = 0; i < count; i++) {
		if (fnd_read_begin(seg) != 0 || fnd_read_end(seg) != 0)
			return -EPERM;
	}
	return 0;
}

static int sections_by_pointer(void *self, uint64_t count)
{
	const struct ours *mine = self;

	for (uint64_t i = 0; i < count; i++) {
		if (mine->lib->read_begin(mine->seg) != 0 || mine->lib->read_end(mine->seg) != 0)
			return -EPERM;
	}
	return 0;
}

static int ours_grace(void *table)
{
	const struct ours *o = table;
	int err = o->lib->synchronize(o->seg, GRACE_TIMEOUT_MS);

	return err ? note_failure(o->lib, err) : 0;
}

#define OURS(variable, label, maker, runner, sectioner) \
	const struct bench_contender variable = {       \
		.name = label,                          \
		.processes = true,                      \
		.create = maker,                        \
		.destroy = ours_destroy,                \
		.join = ours_join,                      \
		.leave = ours_leave,                    \
		.run = runner,                          \
		.lookup = ours_lookup,                  \
		.sections = sectioner,                  \
		.grace = ours_grace,                    \
	}

OURS(bench_ours, "ours", create_linked, ours_run, ours_sections);
OURS(bench_linked, "linked", create_linked, run_by_pointer, sections_by_pointer);
OURS(bench_variant, "variant", create_variant, run_by_pointer, sections_by_pointer);

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
