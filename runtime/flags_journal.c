// SPDX-License-Identifier: MIT
/*
 * Flags on disk: what a change writes.
 *
 * Every record of a change carries all seven flags, the stage and the change count, so that the newest one
 * is the state; application flags are carried one by one, with the generation of the step, and whole in the
 * `state` record that a rotated file begins with. Two changers may append in another order than they stored:
 * within a segment's life the greater number is the later. flags_restore.c reads them.
 */
#include "flags_internal.h"

#include "config_internal.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "json.h"

#define STATE_BYTES (FND_JOURNAL_RECORD_MAX - 1024)

static const struct fnd_change_info found = { .reason = "unknown: found changed, and not in the journal" };

/* --- writing -------------------------------------------------------------------------------------- */

static void put_word(struct fnd_json *j, const struct fnd_shm_runtime *area, uint64_t word)
{
	const char *stage = fnd_stage_name(fnd_word_stage(word));

	fnd_json_number(j, "life", fnd_load_acquire(&area->flags_life)); /* [FL-5] */
	fnd_json_number(j, "count", fnd_word_count(word));
	fnd_json_text(j, "stage", stage ? stage : "0");
	fnd_json_key(j, "flags");
	fnd_json_raw(j, "{");
	for (unsigned int i = 0; i < FND_FLAG_KNOWN; i++)
		fnd_json_number(j, fnd_flag_name(i), fnd_word_percent(word, i));
	fnd_json_raw(j, "}");
}

static void put_pair(struct fnd_json *j, const char *name, unsigned int before, unsigned int after)
{
	char pair[32];

	fnd_json_key(j, name);
	snprintf(pair, sizeof(pair), "[%u,%u]", before, after);
	fnd_json_raw(j, pair);
}

static void put_changes(struct fnd_json *j, struct fnd_flags *f, const struct fnd_flags_changed *c)
{
	char name[FND_FLAG_NAME_MAX + 1];

	fnd_json_key(j, "changed");
	fnd_json_raw(j, "{");
	for (unsigned int i = 0; i < FND_FLAG_KNOWN; i++)
		if (fnd_word_percent(c->before, i) != fnd_word_percent(c->after, i))
			put_pair(j, fnd_flag_name(i), fnd_word_percent(c->before, i), fnd_word_percent(c->after, i));
	for (unsigned int i = 0; i < c->count; i++)
		if (f && fnd_app_name(f, c->application[i].id, name))
			put_pair(j, name, c->application_before[i], c->application[i].percent);
	fnd_json_raw(j, "}");
}

/* Who and why: this process, or whoever it was then. */
static void put_who(struct fnd_json *j, const struct fnd_flags_changed *c)
{
	const struct fnd_change_info *info = c->info;
	char command[17] = "unknown";

	if (c->by) {
		memcpy(command, c->by->command, 16);
		fnd_json_number(j, "changed_at", c->by->at_ns);
		fnd_json_number(j, "changed_pid", c->by->pid);
	} else if (!c->found) {
		prctl(PR_GET_NAME, command, 0, 0, 0);
	}
	command[16] = '\0';
	if (!c->found)
		fnd_json_number(j, "uid", c->by ? c->by->uid : geteuid());
	fnd_json_text(j, "command", command);
	if (info && info->reason)
		fnd_json_text(j, "reason", info->reason);
	if (info && info->approved_by)
		fnd_json_text(j, "approved_by", info->approved_by);
}

struct app_put {
	struct fnd_json *j;
	struct fnd_flags *f;
};

static int put_app(const struct fnd_flag_record *r, void *arg)
{
	struct app_put *p = arg;
	int percent = r->id >= FND_FLAG_KNOWN ? fnd_flag_percent(p->f, r->id) : -1;

	if (percent < 0)
		return 0;
	fnd_json_key(p->j, r->name);
	fnd_json_raw(p->j, "{");
	fnd_json_number(p->j, "percent", (uint64_t)percent);
	fnd_json_number(p->j, "default", r->fallback);
	fnd_json_text(p->j, "description", r->description);
	fnd_json_raw(p->j, "}");
	return 0;
}

static void put_applications(struct fnd_json *j, struct fnd_flags *f)
{
	struct app_put p = { j, f };

	fnd_json_number(j, "generation", fnd_load_acquire(&f->area->app_root) >> 1); /* [FL-2] before the bytes */
	fnd_json_key(j, "application");
	fnd_json_raw(j, "{");
	fnd_flags_list(f, put_app, &p);
	fnd_json_raw(j, "}");
}

/* All there is, for a file that begins: as it was before what comes next. */
void fnd_flags_keep_state(struct fnd_flags *f, struct fnd_journal *journal, struct fnd_shm_runtime *area,
			  uint64_t word)
{
	struct fnd_json j = { .buf = malloc(STATE_BYTES), .size = STATE_BYTES };

	if (!j.buf)
		return;
	put_word(&j, area, word);
	if (f && f->table)
		put_applications(&j, f);
	if (f && !j.full)
		fnd_config_carry(f->seg, journal, &j);
	else if (!f) /* it has no table at hand, and so no state to begin a file with */
		fnd_journal_limits_set(journal, UINT64_MAX, FND_JOURNAL_KEEP_MAX);
	if (!j.full)
		fnd_journal_keep_state(journal, j.buf);
	free(j.buf);
}

void fnd_flags_journalled(struct fnd_shm_runtime *area, uint32_t count)
{
	uint64_t was = fnd_load_acquire(&area->flags_journalled); /* [FL-4] */

	/* where it lies after the one noted so far, in a circle of 2^24 */
	while (((count - (uint32_t)was) & FND_FLAGS_COUNT_MASK) - 1 < FND_FLAGS_COUNT_MASK / 2) {
		if (fnd_cas(&area->flags_journalled, was, count)) /* [FL-4] after the record is on disk */
			return;
		was = fnd_load_acquire(&area->flags_journalled); /* [FL-4] */
	}
}

void fnd_flags_members(struct fnd_json *j, struct fnd_flags *f, const struct fnd_shm_runtime *area,
		       const struct fnd_flags_changed *c, bool all)
{
	struct app_put p = { j, f };

	put_word(j, area, c->after);
	if (c->ahead)
		fnd_json_number(j, "ahead", 1);
	if (c->takes_back)
		fnd_json_number(j, "takes_back", 1);
	if (all || c->takes_back) {
		if (f->table)
			put_applications(j, f);
	} else if (c->defined) {
		fnd_json_number(j, "generation", c->generation);
		fnd_json_key(j, "application");
		fnd_json_raw(j, "{");
		put_app(c->defined, &p);
		fnd_json_raw(j, "}");
	} else if (c->count) {
		fnd_json_number(j, "generation", c->generation);
	}
	put_changes(j, f, c);
	put_who(j, c);
}

static int append(struct fnd_flags *f, struct fnd_journal *journal, struct fnd_shm_runtime *area,
		  const struct fnd_flags_changed *c, bool all)
{
	struct fnd_json j = { .buf = malloc(STATE_BYTES), .size = STATE_BYTES };
	int err = -ENOMEM;

	if (j.buf) {
		fnd_flags_keep_state(f, journal, area, c->before);
		fnd_flags_members(&j, f, area, c, all);
		err = j.full ? fnd_error_set(E2BIG, "the flags do not fit in a record of the journal") :
			       fnd_journal_append(journal, c->type, j.buf, NULL);
	}
	free(j.buf);
	return err;
}

/* Between the last step noted and this one lies another that nobody has written: all of them are, then. */
void fnd_app_journalled(struct fnd_flags *f, uint64_t generation)
{
	uint64_t noted = fnd_load_acquire(&f->area->app_journalled), now, word; /* [FL-4] */
	struct fnd_flags_changed c = { .type = "flag.changed", .info = &found, .found = true };

	if (noted >= generation || (noted == generation - 1 && fnd_cas(&f->area->app_journalled, noted, generation)))
		return; /* [FL-4] after the record is on disk */
	now = fnd_load_acquire(&f->area->app_root) >> 1; /* [FL-2] */
	word = fnd_load_acquire(&f->area->flags); /* [FL-1] */
	c.before = c.after = word;
	if (append(f, f->journal, f->area, &c, true) == 0)
		fnd_raise_u64(&f->area->app_journalled, now); /* [FL-4] the same */
}

int fnd_flags_journal_here(struct fnd_journal *journal, struct fnd_shm_runtime *area)
{
	char there[FND_JOURNAL_DIR];

	if (!journal)
		return fnd_error_set(ENOENT, "the state journal's directory cannot be told");
	memcpy(there, area->journal_dir, sizeof(there));
	there[FND_JOURNAL_DIR - 1] = '\0';
	if (there[0] == '\0' || strncmp(there, fnd_journal_directory(journal), FND_JOURNAL_DIR - 1) == 0)
		return 0;
	return fnd_error_set(EXDEV, "this segment's journal is %s, here it would be %s (FOUNDATION_STATE_DIR)", there,
			     fnd_journal_directory(journal));
}

int fnd_flags_write(struct fnd_flags *f, struct fnd_journal *journal, struct fnd_shm_runtime *area,
		    const struct fnd_flags_changed *c)
{
	int err = fnd_flags_journal_here(journal, area);

	if (err)
		return err;
	fnd_flags_settle(journal, area);
	if (f)
		err = fnd_flags_recall(f, NULL); /* in order, as far as that goes */
	if (err != -ETIMEDOUT) /* who holds the lock that long is stopped: once is enough */
		err = append(f, journal, area, c, false);
	if (err || c->ahead)
		return err;
	fnd_flags_journalled(area, fnd_word_count(c->after));
	if (f && c->generation)
		fnd_app_journalled(f, c->generation);
	return 0;
}

int fnd_flags_catch_up(struct fnd_flags *f)
{
	uint64_t word = fnd_load_acquire(&f->area->flags); /* [FL-1] */
	uint64_t root = fnd_load_acquire(&f->area->app_root); /* [FL-2] */
	struct fnd_flags_changed c = { .type = "flag.changed", .before = word, .after = word, .info = &found,
				       .found = true };
	bool apps = root >> 1 > fnd_load_acquire(&f->area->app_journalled); /* [FL-4] */
	int err = fnd_flags_journal_here(f->journal, f->area);
	uint32_t recalled = 0;

	if (!err)
		err = fnd_flags_recall(f, &recalled);
	if (recalled)
		fnd_flags_journalled(f->area, recalled);
	if (!err)
		err = fnd_flags_ahead_finish(f);
	if (!apps &&
	    fnd_word_count(word) == (fnd_load_acquire(&f->area->flags_journalled) & FND_FLAGS_COUNT_MASK)) /* [FL-4] */
		return fnd_load_relaxed(&f->area->flags_ahead) && err ? FND_NOT_DURABLE : 0; /* relaxed: a hint */
	if (!err)
		err = append(f, f->journal, f->area, &c, apps && f->table);
	if (err)
		return FND_NOT_DURABLE;
	fnd_flags_journalled(f->area, fnd_word_count(word));
	if (apps)
		fnd_raise_u64(&f->area->app_journalled, root >> 1); /* [FL-4] after the record is on disk */
	return 0;
}
