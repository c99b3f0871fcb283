// SPDX-License-Identifier: MIT
/*
 * Flags that applications define for themselves.
 *
 * Guarantees.
 *  A. A set of them changes by one store of the root, which names the block they were written to.
 *  B. Changers exclude each other by the lock of one record, `everyone`: a dead one leaves a half-written
 *     block that no root names.
 *  C. A definition takes a place, then a record of its name, and ends: while it is under way `everyone` says
 *     so, and whoever defines next ends what a dead one began. No place is lost, none has two names.
 */
#include "flags_internal.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

/* No flag has this name. */
static const char everyone[] = "*";

struct app_change {
	struct fnd_shm_runtime *area;
	enum { APP_SET, APP_TAKE, APP_END } what;
	/* APP_SET: what changes, and receives what it was. */
	const struct fnd_flag_change *change;
	unsigned int *before;
	unsigned int count;
	/* APP_TAKE: what is to be defined. APP_END: what was, and whether its place is given back. */
	struct fnd_stored_pending pending;
	bool give_back;
	struct fnd_stored_places places;
	uint64_t generation; /* of the change that was made */
	int result;
};

typedef uint64_t eight __attribute__((may_alias)); /* percentages at once */

/* Under the lock of `everyone`: nobody else writes root or blocks. */
static uint8_t *block_begin(struct fnd_shm_runtime *area)
{
	uint64_t root = fnd_load_relaxed(&area->app_root); /* relaxed: under the lock */
	uint8_t *from = area->app_flag[root & 1], *to = area->app_flag[~root & 1];

	fnd_fence_full(); /* [FL-2] who sees a byte from here on sees the root that left this block */
	for (unsigned int i = 0; i < FND_APP_FLAGS; i += sizeof(eight)) /* relaxed: no root names it yet */
		fnd_store_relaxed((eight *)(to + i), root ? *(const eight *)(from + i) : UINT64_MAX);
	return to;
}

static uint64_t block_end(struct fnd_shm_runtime *area)
{
	uint64_t root = fnd_load_relaxed(&area->app_root); /* relaxed: under the lock */

	/* [FL-2] this store is the change; generation and block move together */
	fnd_store_release(&area->app_root, ((root >> 1) + 1) << 1 | (~root & 1));
	return (root >> 1) + 1;
}

static void places_read(struct app_change *a, const void *old, size_t old_bytes)
{
	uint64_t root = fnd_load_relaxed(&a->area->app_root); /* relaxed: under the lock */

	memset(&a->places, 0, sizeof(a->places));
	if (old && old_bytes == sizeof(a->places)) {
		memcpy(&a->places, old, sizeof(a->places));
		return;
	}
	for (unsigned int i = 0; root && i < FND_APP_FLAGS; i++)
		if (a->area->app_flag[root & 1][i] != FND_APP_FLAG_UNDEFINED)
			a->places.used[i / 8] |= (uint8_t)(1u << i % 8);
}

_Static_assert(FND_APP_FLAG_UNDEFINED == UINT8_MAX, "block_begin: all bits set");

static bool take_place(struct app_change *a)
{
	unsigned int place = 0;

	if (a->places.pending.name[0]) { /* somebody is at it, or died at it */
		a->result = -EAGAIN;
		return false;
	}
	while (place < FND_APP_FLAGS && a->places.used[place / 8] >> place % 8 & 1)
		place++;
	a->result = place < FND_APP_FLAGS ? 0 : -ENOSPC;
	if (a->result)
		return false;
	a->pending.flag.id = FND_FLAG_KNOWN + place;
	a->places.used[place / 8] |= (uint8_t)(1u << place % 8);
	a->places.pending = a->pending;
	fnd_store_relaxed(&block_begin(a->area)[place], (uint8_t)a->pending.flag.after); /* relaxed: as above */
	a->generation = block_end(a->area);
	return true;
}

static bool end_definition(struct app_change *a)
{
	unsigned int place = (a->pending.flag.id - FND_FLAG_KNOWN) % FND_APP_FLAGS;

	if (strcmp(a->places.pending.name, a->pending.name) != 0 ||
	    a->places.pending.flag.id != a->pending.flag.id)
		return false; /* somebody else has ended it */
	memset(&a->places.pending, 0, sizeof(a->places.pending));
	if (!a->give_back)
		return true;
	a->places.used[place / 8] ^= (uint8_t)(1u << place % 8);
	fnd_store_relaxed(&block_begin(a->area)[place], (uint8_t)FND_APP_FLAG_UNDEFINED); /* relaxed: as above */
	a->generation = block_end(a->area);
	return true;
}

static enum fnd_modify app_change(void *arg, const void *old, size_t old_bytes, const void **new_value,
				  size_t *new_bytes)
{
	struct app_change *a = arg;
	uint8_t *to;

	places_read(a, old, old_bytes);
	if (a->what == APP_SET) {
		to = block_begin(a->area);
#ifdef FND_MUTANT_APP_FLIPPED_FIRST
		a->generation = block_end(a->area);
#endif
		for (unsigned int i = 0; i < a->count; i++) {
			unsigned int place = a->change[i].id - FND_FLAG_KNOWN;

			a->before[i] = to[place];
			fnd_store_relaxed(&to[place], (uint8_t)a->change[i].percent); /* relaxed: as above */
		}
#ifndef FND_MUTANT_APP_FLIPPED_FIRST
		a->generation = block_end(a->area);
#endif
		return FND_MODIFY_KEEP;
	}
	if (!(a->what == APP_TAKE ? take_place(a) : end_definition(a)))
		return FND_MODIFY_KEEP;
	*new_value = &a->places;
	*new_bytes = sizeof(a->places);
	return FND_MODIFY_PUT;
}

static int app_run(struct fnd_flags *f, struct app_change *a)
{
	int err;

	if (!f->table)
		return fnd_error_set(FND_E_CORRUPT, "the table of application flags cannot be opened");
	a->area = f->area;
	err = fnd_table_modify(f->table, everyone, sizeof(everyone) - 1, app_change, a);
	if (err < 0 || a->result)
		return err < 0 ? err : a->result;
	if (a->generation)
		fnd_flags_wake(f->area);
	return 0;
}

int fnd_app_change(struct fnd_flags *f, const struct fnd_flag_change *change, unsigned int *ret_before,
		   unsigned int count, uint64_t *ret_generation)
{
	struct app_change a = { .what = APP_SET, .change = change, .before = ret_before, .count = count };
	int err = app_run(f, &a);

	if (!err)
		*ret_generation = a.generation;
	return err;
}

/* --- definitions ---------------------------------------------------------------------------------- */

/* The second half: by who began it, or by who found it begun. */
static int define_end(struct fnd_flags *f, const struct fnd_stored_pending *p)
{
	struct app_change a = { .what = APP_END, .pending = *p };
	struct fnd_stored_flag flag = p->flag, s;
	int err;

	flag.after = 0; /* was the percentage to begin with */
	err = fnd_table_insert(f->table, p->name, strnlen(p->name, FND_FLAG_NAME_MAX), &flag, sizeof(flag));
	if (err == -EEXIST) {
		err = fnd_flag_stored(f, p->name, &s);
		a.give_back = !err && s.id != p->flag.id; /* two have defined one name: the first counts */
	}
	if (!err)
		err = app_run(f, &a);
	return err;
}

int fnd_app_define(struct fnd_flags *f, const char *name, const char *description, unsigned int fallback,
		   unsigned int percent, uint64_t *ret_generation)
{
	struct app_change a = { .what = APP_TAKE };
	struct fnd_stored_flag s;
	uint64_t generation;
	int err;

	snprintf(a.pending.name, sizeof(a.pending.name), "%s", name);
	snprintf(a.pending.flag.description, sizeof(a.pending.flag.description), "%s",
		 description ? description : "");
	a.pending.flag.fallback = fallback;
	a.pending.flag.after = percent;
	while ((err = app_run(f, &a)) == -EAGAIN) {
		struct fnd_stored_pending begun = a.places.pending;

		begun.name[FND_FLAG_NAME_MAX] = '\0';
		err = define_end(f, &begun);
		if (err)
			return err;
		a.result = 0;
	}
	if (err)
		return err == -ENOSPC && a.result ?
			       fnd_error_set(ENOSPC, "%u application flags exist", FND_APP_FLAGS) :
			       err;
	generation = a.generation;
	err = define_end(f, &a.pending);
	if (!err)
		err = fnd_flag_stored(f, name, &s);
	if (err)
		return err;
	*ret_generation = generation;
	return (int)s.id;
}

static int define_journalled(struct fnd_flags *f, const char *name, const char *description, unsigned int percent)
{
	uint64_t word = fnd_load_acquire(&f->area->flags); /* [FL-1] */
	struct fnd_flag_record r = { .fallback = percent };
	struct fnd_flags_changed c = { .type = "flag.defined", .before = word, .after = word, .defined = &r };
	int id = fnd_app_define(f, name, description, percent, percent, &c.generation);

	r.id = id >= 0 ? (unsigned int)id : 0;
	snprintf(r.name, sizeof(r.name), "%s", name);
	snprintf(r.description, sizeof(r.description), "%s", description ? description : "");
	/* not durable is no failure of a definition: the program that makes it makes it again */
	if (id >= 0)
		fnd_flags_write(f, f->journal, f->area, &c);
	return id;
}

int fnd_flag_define(struct fnd_flags *f, const char *name, const char *description, unsigned int percent)
{
	struct fnd_stored_flag s;
	int id;

	if (!fnd_flag_name_valid(name) || percent > 100)
		return fnd_error_set(EINVAL, "a flag is [a-z0-9_.-]{1,%d}, its default 0 to 100", FND_FLAG_NAME_MAX);
	id = fnd_flag_find(f, name);
	if (id == -ENOENT)
		return define_journalled(f, name, description, percent);
	if (id < 0)
		return id;
	if (id < FND_FLAG_KNOWN)
		return fnd_error_set(EINVAL, "%s is a migration flag", name);
	if (fnd_flag_stored(f, name, &s) == 0 && s.fallback != percent)
		return fnd_error_set(FND_E_LIMITS, "flag %s was defined with a default of %u %%", name, s.fallback);
	return id;
}

/* --- the list ------------------------------------------------------------------------------------- */

static void record_fill(struct fnd_flag_record *r, const char *name, size_t name_bytes,
			const struct fnd_stored_flag *s)
{
	memset(r, 0, sizeof(*r));
	memcpy(r->name, name, name_bytes);
	r->id = s->id;
	r->fallback = s->fallback;
	r->changed_ns = s->changed_ns;
	r->uid = s->uid;
	r->pid = s->pid;
	r->before = s->before;
	r->after = s->after;
	memcpy(r->command, s->command, sizeof(s->command));
	memcpy(r->description, s->description, FND_FLAG_TEXT_MAX);
	memcpy(r->reason, s->reason, FND_FLAG_TEXT_MAX);
}

struct list_walk {
	int (*fn)(const struct fnd_flag_record *r, void *arg);
	void *arg;
};

static int list_one(const struct fnd_record *rec, void *arg)
{
	struct list_walk *w = arg;
	struct fnd_stored_flag s;
	struct fnd_flag_record r;

	if (rec->value_bytes != sizeof(s) || rec->key_bytes > FND_FLAG_NAME_MAX)
		return 0;
	memcpy(&s, rec->value, sizeof(s));
	if (s.id < FND_FLAG_KNOWN || s.id >= FND_FLAG_MAX)
		return 0;
	record_fill(&r, rec->key, rec->key_bytes, &s);
	return w->fn(&r, w->arg);
}

int fnd_flags_list(struct fnd_flags *f, int (*fn)(const struct fnd_flag_record *r, void *arg), void *arg)
{
	struct list_walk w = { fn, arg };

	for (unsigned int i = 0; i < FND_FLAG_KNOWN; i++) {
		const char *name = fnd_flag_name(i);
		struct fnd_stored_flag s;
		struct fnd_flag_record r;
		int err;

		if (fnd_flag_stored(f, name, &s))
			memset(&s, 0, sizeof(s));
		s.id = i;
		record_fill(&r, name, strlen(name), &s);
		err = fn(&r, arg);
		if (err)
			return err;
	}
	return f->table ? fnd_table_iterate(f->table, 0, list_one, &w) : 0;
}

struct name_wanted {
	unsigned int id;
	char *name;
};

static int name_found(const struct fnd_flag_record *r, void *arg)
{
	struct name_wanted *w = arg;

	if (r->id != w->id)
		return 0;
	memcpy(w->name, r->name, sizeof(r->name));
	return 1;
}

bool fnd_app_name(struct fnd_flags *f, unsigned int id, char ret_name[FND_FLAG_NAME_MAX + 1])
{
	struct name_wanted w = { id, ret_name };

	return fnd_flags_list(f, name_found, &w) == 1;
}
