// SPDX-License-Identifier: MIT
/*
 * Changing flags.
 *
 * Guarantees.
 *  A. A set of known flags, with the stage, changes by one compare-and-swap of the word: whole, or not at all.
 *  B. A set of application flags changes by one store of the root, which names the block they were written
 *     to. Changers exclude each other by the lock of the record that stands for all: a dead one leaves a
 *     half-written block that no root names.
 *  C. What only switches on is on disk before it is stored; everything else is stored first, waits for
 *     nobody, and says when it could not be made durable.
 */
#include "flags_internal.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The key whose record's lock all changers of application flags take. No flag has this name. */
static const char everyone[] = "*";

/* --- known flags ---------------------------------------------------------------------------------- */

static int check(struct fnd_flags *f, const struct fnd_flag_change *change, unsigned int count, int stage,
		 bool *ret_known)
{
	unsigned int known = 0;

	if (count > FND_FLAG_MAX || (count && !change) || (count == 0 && stage < 0) || stage >= FND_STAGE_MAX)
		return fnd_error_set(EINVAL, "no flag and no stage to change");
	for (unsigned int i = 0; i < count; i++) {
		unsigned int id = change[i].id, percent = change[i].percent;

		if (percent > 100)
			return fnd_error_set(EINVAL, "%u %%: a percentage is 0 to 100", percent);
		if (fnd_flag_percent(f, id) < 0)
			return fnd_error_set(ENOENT, "no flag has the number %u", id);
		if (id < FND_FLAG_KNOWN && FND_FLAG_BITS(id) == 1 && percent != 0 && percent != 100)
			return fnd_error_set(EINVAL, "%s takes 0 and 100 only: its state is common to all workers",
					     fnd_flag_name(id));
		known += id < FND_FLAG_KNOWN;
	}
	if (known != 0 ? known != count : count != 0 && stage >= 0)
		return fnd_error_set(EINVAL, "migration flags and application flags change in two steps");
	*ret_known = known != 0 || count == 0;
	return 0;
}

static uint64_t apply(uint64_t word, const struct fnd_flag_change *change, unsigned int count, int stage)
{
	for (unsigned int i = 0; i < count; i++)
		word = fnd_word_with(word, change[i].id, change[i].percent);
	if (stage >= 0)
		word = fnd_word_with_stage(word, (unsigned int)stage);
	return fnd_word_counted(word);
}

/* Does no flag go down, and the stage neither? Then it may wait for the disk. */
static bool only_enables(uint64_t before, uint64_t after)
{
	if (fnd_word_stage(after) < fnd_word_stage(before))
		return false;
	for (unsigned int i = 0; i < FND_FLAG_KNOWN; i++)
		if (fnd_word_percent(after, i) < fnd_word_percent(before, i))
			return false;
	return true;
}

static int change_known(struct fnd_flags *f, const struct fnd_flag_change *change, unsigned int count, int stage,
			const char *type, const struct fnd_change_info *info)
{
	struct fnd_flags_changed c = { .type = type, .info = info };
	int durable = -EAGAIN;

	do {
		c.before = fnd_load_acquire(&f->area->flags); /* [FL-1] */
		c.after = apply(c.before, change, count, stage);
		if (only_enables(c.before, c.after))
			durable = fnd_flags_write(f, f->journal, f->area, &c);
	} while (!fnd_cas(&f->area->flags, c.before, c.after)); /* [FL-1] this swap is the change */
	fnd_flags_wake(f->area);
	if (!only_enables(c.before, c.after))
		durable = fnd_flags_write(f, f->journal, f->area, &c);
	fnd_flags_tell(f, &c);
	return durable ? FND_NOT_DURABLE : 0;
}

int fnd_flags_stage_set(struct fnd_flags *f, unsigned int stage, const struct fnd_change_info *info)
{
	struct fnd_flag_change change[FND_FLAG_KNOWN];

	if (stage >= FND_STAGE_MAX)
		return fnd_error_set(EINVAL, "no stage has the number %u", stage);
	for (unsigned int i = 0; i < FND_FLAG_KNOWN; i++)
		change[i] = (struct fnd_flag_change){ i, fnd_stage_percent(stage, i) };
	return change_known(f, change, FND_FLAG_KNOWN, (int)stage, "stage.changed", info);
}

/* --- rollback ------------------------------------------------------------------------------------- */

static const struct component {
	const char *name;
	unsigned int bit, flags; /* bits by enum fnd_flag_id */
} components[] = {
	{ "registry", FND_COMPONENT_REGISTRY, 1u << FND_FLAG_SHARED_REGISTRY },
	{ "error-context", FND_COMPONENT_ERROR_CONTEXT, 1u << FND_FLAG_SHARED_ERROR_CONTEXT },
	{ "spans", FND_COMPONENT_SPANS, 1u << FND_FLAG_SHARED_SPANS },
	{ "sampled-events", FND_COMPONENT_SAMPLED_EVENTS, 1u << FND_FLAG_SHARED_SAMPLED_EVENTS },
	{ "telemetry", FND_COMPONENT_TELEMETRY,
	  1u << FND_FLAG_SHARED_TELEMETRY | 1u << FND_FLAG_SHARED_SPANS | 1u << FND_FLAG_SHARED_SAMPLED_EVENTS },
	{ "enforcement", FND_COMPONENT_ENFORCEMENT, 1u << FND_FLAG_ENFORCE_SHARED_STATE },
};

#define COMPONENTS (sizeof(components) / sizeof(components[0]))

int fnd_component_parse(const char *name)
{
	for (unsigned int i = 0; name && i < COMPONENTS; i++)
		if (strcmp(name, components[i].name) == 0)
			return (int)components[i].bit;
	return fnd_error_set(EINVAL, "a component is registry, error-context, spans, sampled-events, telemetry "
				     "or enforcement");
}

/* The highest stage, not above the one recorded, whose flags are all on. */
static unsigned int complete_stage(uint64_t word)
{
	unsigned int stage = fnd_word_stage(word);

	if (stage >= FND_STAGE_MAX)
		stage = FND_STAGE_MAX - 1;
	for (; stage > 0; stage--) {
		bool whole = true;

		for (unsigned int i = 0; i < FND_FLAG_KNOWN; i++)
			whole = whole && fnd_word_percent(word, i) >= fnd_stage_percent(stage, i);
		if (whole)
			return stage;
	}
	return 0;
}

int fnd_flags_rollback(struct fnd_flags *f, unsigned int bits, const struct fnd_change_info *info)
{
	struct fnd_flags_changed c = { .type = "rollback", .info = info };
	unsigned int flags = 0, all = 0;
	int durable;

	for (unsigned int i = 0; i < COMPONENTS; i++) {
		all |= components[i].bit;
		if (bits & components[i].bit)
			flags |= components[i].flags;
	}
	if (bits == 0 || bits & ~all)
		return fnd_error_set(EINVAL, "no such component: %#x", bits);
	do {
		c.before = fnd_load_acquire(&f->area->flags); /* [FL-1] */
		c.after = c.before;
		for (unsigned int i = 0; i < FND_FLAG_KNOWN; i++)
			if (flags >> i & 1)
				c.after = fnd_word_with(c.after, i, 0);
		c.after = fnd_word_counted(fnd_word_with_stage(c.after, complete_stage(c.after)));
	} while (!fnd_cas(&f->area->flags, c.before, c.after)); /* [FL-1] this swap is the rollback */
	fnd_flags_wake(f->area);
	durable = fnd_flags_write(f, f->journal, f->area, &c);
	fnd_flags_tell(f, &c);
	return durable ? FND_NOT_DURABLE : 0;
}

/* --- application flags ---------------------------------------------------------------------------- */

struct app_change {
	struct fnd_shm_runtime *area;
	const struct fnd_flag_change *change;
	unsigned int *before; /* [count] */
	unsigned int count;
	bool define; /* the one change is a definition: its id is looked for */
	unsigned int id;
	int result;
};

/* Under the lock of `everyone`: nobody else writes root or blocks. */
static enum fnd_modify app_change(void *arg, const void *old, size_t old_bytes, const void **new_value,
				  size_t *new_bytes)
{
	struct app_change *a = arg;
	uint64_t root = fnd_load_relaxed(&a->area->app_root); /* relaxed: under the lock */
	uint8_t *from = a->area->app_flag[root & 1], *to = a->area->app_flag[~root & 1];

	(void)old, (void)old_bytes, (void)new_value, (void)new_bytes;
	for (unsigned int i = 0; i < FND_APP_FLAGS; i++) /* relaxed: no root names it yet */
		fnd_store_relaxed(&to[i], root ? from[i] : (uint8_t)FND_APP_FLAG_UNDEFINED);
	if (a->define) {
		for (a->id = 0; a->id < FND_APP_FLAGS && to[a->id] != FND_APP_FLAG_UNDEFINED;)
			a->id++;
		a->result = a->id < FND_APP_FLAGS ? 0 : -ENOSPC;
		if (a->result)
			return FND_MODIFY_KEEP;
		fnd_store_relaxed(&to[a->id], (uint8_t)a->change[0].percent);
	}
	for (unsigned int i = 0; i < a->count && !a->define; i++) {
		unsigned int place = a->change[i].id - FND_FLAG_KNOWN;

		a->before[i] = to[place];
		fnd_store_relaxed(&to[place], (uint8_t)a->change[i].percent);
	}
	/* [FL-2] this store is the change; generation and block move together */
	fnd_store_release(&a->area->app_root, ((root >> 1) + 1) << 1 | (~root & 1));
	return FND_MODIFY_KEEP;
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
	fnd_flags_wake(f->area);
	return 0;
}

static int change_application(struct fnd_flags *f, const struct fnd_flag_change *change, unsigned int count,
			      const struct fnd_change_info *info)
{
	unsigned int before[FND_APP_FLAGS] = { 0 };
	struct app_change a = { .change = change, .before = before, .count = count };
	uint64_t word = fnd_load_acquire(&f->area->flags); /* [FL-1] */
	struct fnd_flags_changed c = { .type = "flag.changed", .before = word, .after = word, .application = change,
				       .application_before = before, .count = count, .info = info };
	int err, durable;
	bool enables = true;

	if (count > FND_APP_FLAGS)
		return fnd_error_set(EINVAL, "%u changes, at most %u", count, FND_APP_FLAGS);
	for (unsigned int i = 0; i < count; i++) {
		before[i] = (unsigned int)fnd_flag_percent(f, change[i].id);
		enables = enables && change[i].percent >= before[i];
	}
	durable = enables ? fnd_flags_write(f, f->journal, f->area, &c) : 0;
	err = app_run(f, &a);
	if (err)
		return err;
	if (!enables)
		durable = fnd_flags_write(f, f->journal, f->area, &c);
	fnd_flags_tell(f, &c);
	return durable ? FND_NOT_DURABLE : 0;
}

int fnd_flags_change(struct fnd_flags *f, const struct fnd_flag_change *change, unsigned int count, int stage,
		     const struct fnd_change_info *info)
{
	bool known = false;
	int err = check(f, change, count, stage, &known);

	if (err)
		return err;
	return known ? change_known(f, change, count, stage, stage >= 0 ? "stage.changed" : "flag.changed", info) :
		       change_application(f, change, count, info);
}

/* --- definitions ---------------------------------------------------------------------------------- */

int fnd_app_define(struct fnd_flags *f, const char *name, const char *description, unsigned int fallback,
		   unsigned int percent)
{
	struct fnd_flag_change change = { .percent = percent };
	struct app_change a = { .change = &change, .count = 1, .define = true };
	struct fnd_stored_flag s = { .fallback = fallback };
	int err = app_run(f, &a);

	if (err)
		return err == -ENOSPC ? fnd_error_set(ENOSPC, "%u application flags exist", FND_APP_FLAGS) : err;
	s.id = FND_FLAG_KNOWN + a.id;
	snprintf(s.description, sizeof(s.description), "%s", description ? description : "");
	err = fnd_table_insert(f->table, name, strlen(name), &s, sizeof(s));
	if (err == -EEXIST) { /* somebody else defined it meanwhile: give the place back */
		change = (struct fnd_flag_change){ s.id, FND_APP_FLAG_UNDEFINED };
		a = (struct app_change){ .change = &change, .count = 1, .before = &(unsigned int){ 0 } };
		app_run(f, &a);
		return fnd_flag_find(f, name);
	}
	return err ? err : (int)s.id;
}

static int define_journalled(struct fnd_flags *f, const char *name, const char *description, unsigned int percent)
{
	uint64_t word = fnd_load_acquire(&f->area->flags); /* [FL-1] */
	struct fnd_flag_record r = { .fallback = percent };
	struct fnd_flags_changed c = { .type = "flag.defined", .before = word, .after = word, .defined = &r };
	int id = fnd_app_define(f, name, description, percent, percent);

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
