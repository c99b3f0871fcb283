// SPDX-License-Identifier: MIT
/*
 * Changing flags.
 *
 * Guarantees.
 *  A. A set of known flags, with the stage, changes by one compare-and-swap of the word: whole, or not at all.
 *  B. What only switches on is on disk before it is stored; everything else is stored first, waits for
 *     nobody, and says when it could not be made durable.
 *  C. What was journalled ahead says so: it may never be stored, when its changer dies or somebody else is
 *     quicker, and then gives way to what was stored under the same number.
 */
#include "flags_internal.h"
#include "journal_internal.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

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
	int durable = 0, lock = -EAGAIN;

	for (;;) {
		c.before = fnd_load_acquire(&f->area->flags); /* [FL-1] */
		c.after = apply(c.before, change, count, stage);
		c.ahead = only_enables(c.before, c.after);
		if (c.ahead && lock == -EAGAIN) {
			lock = durable = fnd_flags_ahead_begin(f);
			continue; /* look again: it may have waited */
		}
		if (c.ahead && lock >= 0)
			durable = fnd_flags_write(f, f->journal, f->area, &c);
		if (fnd_cas(&f->area->flags, c.before, c.after)) /* [FL-1] this swap is the change */
			break;
	}
	fnd_flags_wake(f->area);
	if (c.ahead && durable == 0)
		fnd_flags_journalled(f->area, fnd_word_count(c.after));
	fnd_flags_ahead_end(f, lock);
	if (!c.ahead)
		durable = fnd_flags_write(f, f->journal, f->area, &c);
	if (durable)
		fnd_flags_remember(f, &c);
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

unsigned int fnd_component_flags(unsigned int bits)
{
	unsigned int flags = 0;

	for (unsigned int i = 0; i < COMPONENTS; i++)
		if (bits & components[i].bit)
			flags |= components[i].flags;
	return flags;
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
	unsigned int flags = fnd_component_flags(bits), all = 0;
	int durable;

	for (unsigned int i = 0; i < COMPONENTS; i++)
		all |= components[i].bit;
	if (bits == 0 || bits & ~all)
		return fnd_error_set(EINVAL, "no such component: %#x", bits);
#ifdef FND_MUTANT_ROLLBACK_IN_STEPS
	c.before = fnd_load_acquire(&f->area->flags);
	fnd_cas(&f->area->flags, c.before, fnd_word_counted(fnd_word_with_stage(c.before, FND_STAGE_0)));
#endif
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
	if (durable)
		fnd_flags_remember(f, &c);
	fnd_flags_tell(f, &c);
	return durable ? FND_NOT_DURABLE : 0;
}

/* --- application flags ---------------------------------------------------------------------------- */

static int change_application(struct fnd_flags *f, const struct fnd_flag_change *change, unsigned int count,
			      const struct fnd_change_info *info)
{
	unsigned int before[FND_APP_FLAGS] = { 0 };
	uint64_t word = fnd_load_acquire(&f->area->flags), generation; /* [FL-1] */
	struct fnd_flags_changed c = { .type = "flag.changed", .before = word, .after = word, .application = change,
				       .application_before = before, .count = count, .info = info, .ahead = true };
	int err, durable = -EAGAIN, lock = -EAGAIN;

	if (count > FND_APP_FLAGS)
		return fnd_error_set(EINVAL, "%u changes, at most %u", count, FND_APP_FLAGS);
	for (unsigned int i = 0; i < count; i++) {
		before[i] = (unsigned int)fnd_flag_percent(f, change[i].id);
		c.ahead = c.ahead && change[i].percent >= before[i];
	}
	if (c.ahead)
		lock = durable = fnd_flags_ahead_begin(f);
	/* the number it will have if nobody else is quicker */
	c.generation = (fnd_load_acquire(&f->area->app_root) >> 1) + 1; /* [FL-2] */
	if (lock >= 0)
		durable = fnd_flags_write(f, f->journal, f->area, &c);
	err = fnd_app_change(f, change, before, count, &generation);
	if (!err)
		fnd_flags_ahead_end(f, lock);
	else
		fnd_journal_lock_drop(lock); /* announced, and not made: the next takes it back */
	if (err)
		return err;
	if (!c.ahead || generation != c.generation) {
		c.ahead = false;
		c.generation = generation;
		durable = fnd_flags_write(f, f->journal, f->area, &c);
	} else if (!durable) {
		fnd_app_journalled(f, generation);
	}
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
