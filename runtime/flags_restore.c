// SPDX-License-Identifier: MIT
/*
 * What a segment made anew takes from the journal.
 *
 * Records are of a life: the first segment of a name has number 1, the next 2, … Of two records of one life the
 * one with the greater number (change count, generation of the application flags) is the later, wherever it
 * stands; a later life is later altogether. A record written ahead of its store gives way to one of the same
 * number that was stored, and to one that takes it back. Only one is ahead at a time: of two with one number the
 * first was never stored.
 */
#include "flags_internal.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "json.h"

struct restored_flag {
	char name[FND_FLAG_NAME_MAX + 1];
	char description[FND_FLAG_TEXT_MAX + 1];
	unsigned int fallback, percent;
	uint64_t generation; /* of the step that left it so, in this life */
	bool ahead;
};

struct restored {
	uint64_t life; /* of the newest record */
	uint64_t word; /* 0: nothing was found */
	bool ahead; /* … by a record ahead of its store */
	struct restored_flag *app;
	unsigned int apps;
};

static uint64_t word_from(const char *json, size_t bytes)
{
	char stage[8] = "";
	const char *flags;
	uint64_t n, word = 0;
	size_t len;
	int s;

	if (!fnd_json_find(json, bytes, "flags", &flags, &len) || !fnd_json_get_number(json, bytes, "count", &n) ||
	    !fnd_json_get_text(json, bytes, "stage", stage, sizeof(stage)))
		return 0;
	word = n & FND_FLAGS_COUNT_MASK;
	if (word == 0)
		return 0;
	s = fnd_stage_parse(stage);
	word = fnd_word_with_stage(word, s >= 0 ? (unsigned int)s : 0);
	for (unsigned int i = 0; i < FND_FLAG_KNOWN; i++)
		if (fnd_json_get_number(flags, len, fnd_flag_name(i), &n) &&
		    (FND_FLAG_BITS(i) == 1 ? n == 100 : n <= 100))
			word = fnd_word_with(word, i, (unsigned int)n);
	return word;
}

static struct restored_flag *restored_find(struct restored *r, const char *name, bool make)
{
	for (unsigned int i = 0; i < r->apps; i++)
		if (strcmp(r->app[i].name, name) == 0)
			return &r->app[i];
	if (!make || r->apps == FND_APP_FLAGS || !fnd_flag_name_valid(name))
		return NULL;
	memset(&r->app[r->apps], 0, sizeof(*r->app));
	snprintf(r->app[r->apps].name, sizeof(r->app->name), "%s", name);
	return &r->app[r->apps++];
}

/* What a record says about when. */
struct when {
	uint64_t generation;
	bool ahead, takes_back;
};

/* Does a step @now undo what @was left? */
static bool later(struct when now, struct when was)
{
	if (now.takes_back && was.ahead && now.generation + 1 == was.generation)
		return true;
	return now.generation > was.generation ||
	       (now.generation == was.generation && !(now.ahead && !was.ahead));
}

/* "application": {NAME: {percent, default, description} …}: definitions, whole. */
static void take_definitions(struct restored *r, const char *json, size_t bytes, struct when now)
{
	char name[FND_FLAG_NAME_MAX + 1];
	const char *at, *value;
	size_t len, n;

	if (!fnd_json_find(json, bytes, "application", &at, &len))
		return;
	for (unsigned int i = 0; fnd_json_member(at, len, i, name, sizeof(name), &value, &n); i++) {
		struct restored_flag *a = restored_find(r, name, true);
		uint64_t v;

		if (!a)
			continue;
		if (fnd_json_get_number(value, n, "percent", &v) && v <= 100 &&
		    later(now, (struct when){ a->generation, a->ahead, false })) {
			a->percent = (unsigned int)v;
			a->generation = now.generation;
			a->ahead = now.ahead;
		}
		if (fnd_json_get_number(value, n, "default", &v) && v <= 100)
			a->fallback = (unsigned int)v;
		fnd_json_get_text(value, n, "description", a->description, sizeof(a->description));
	}
}

/* "changed": {NAME: [before, after] …}, of application flags. */
static void take_changes(struct restored *r, const char *json, size_t bytes, struct when now)
{
	char name[FND_FLAG_NAME_MAX + 1];
	const char *at, *value, *comma;
	size_t len, n;

	if (!fnd_json_find(json, bytes, "changed", &at, &len))
		return;
	for (unsigned int i = 0; fnd_json_member(at, len, i, name, sizeof(name), &value, &n); i++) {
		struct restored_flag *a = restored_find(r, name, false);
		unsigned long v;

		comma = a ? memchr(value, ',', n) : NULL;
		v = comma ? strtoul(comma + 1, NULL, 10) : 101;
		if (v > 100 || !later(now, (struct when){ a->generation, a->ahead, false }))
			continue;
		a->percent = (unsigned int)v;
		a->generation = now.generation;
		a->ahead = now.ahead;
	}
}

static void take_word(struct restored *r, uint64_t word, struct when now)
{
	uint32_t further = (fnd_word_count(word) - fnd_word_count(r->word)) & FND_FLAGS_COUNT_MASK;

	if (now.takes_back && r->ahead && further == FND_FLAGS_COUNT_MASK)
		further = 0; /* one less than what it takes back */
	if (r->word && (further > FND_FLAGS_COUNT_MASK / 2 || (further == 0 && now.ahead && !r->ahead)))
		return;
	r->word = word;
	r->ahead = now.ahead;
}

static int take_record(const struct fnd_journal_record *rec, void *arg)
{
	struct restored *r = arg;
	uint64_t word = word_from(rec->json, rec->json_bytes), life = 0, n = 0;
	struct when now = { 0 };

	fnd_json_get_number(rec->json, rec->json_bytes, "life", &life);
	if (!word || life < r->life)
		return 0; /* no record of ours, or somebody goes on with a segment that has lost its name */
	if (life > r->life) {
		r->life = life;
		r->word = 0;
		for (unsigned int i = 0; i < r->apps; i++)
			r->app[i].generation = 0, r->app[i].ahead = false;
	}
	now.ahead = fnd_json_get_number(rec->json, rec->json_bytes, "ahead", &n) && n;
	fnd_json_get_number(rec->json, rec->json_bytes, "generation", &now.generation);
	n = 0;
	now.takes_back = fnd_json_get_number(rec->json, rec->json_bytes, "takes_back", &n) && n;
	take_word(r, word, now);
	take_definitions(r, rec->json, rec->json_bytes, now);
	if (now.generation)
		take_changes(r, rec->json, rec->json_bytes, now);
	return 0;
}

/* --- a segment's life ----------------------------------------------------------------------------- */

static void settle(struct fnd_shm_runtime *area, struct fnd_journal *journal, uint64_t life)
{
	const char *dir = journal ? fnd_journal_directory(journal) : "";

	if (!fnd_load_acquire(&area->flags_life)) /* [FL-5] */
		fnd_cas(&area->flags_life, 0, life); /* [FL-5] one of those that come first */
	/* The first byte last: where it is 0, nobody has come so far, or has died on the way. */
	if (!fnd_load_acquire(&area->journal_dir[0]) && dir[0]) { /* [FL-5] */
		char rest[FND_JOURNAL_DIR - 1] = ""; /* apart: what printf stores in between is nobody's business */

		snprintf(rest, sizeof(rest), "%s", dir + 1);
		memcpy(area->journal_dir + 1, rest, strlen(rest) + 1);
		fnd_store_release(&area->journal_dir[0], dir[0]); /* [FL-5] */
	}
}

/* The next after the last one on disk. When that cannot be told, a number no count comes to. */
static uint64_t next_life(const struct restored *r, int err)
{
	struct timespec ts;

	if (!err)
		return r->life + 1;
	clock_gettime(CLOCK_REALTIME, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

void fnd_flags_settle(struct fnd_journal *journal, struct fnd_shm_runtime *area)
{
	struct restored r = { .app = NULL };
	int err = -ENOMEM;

	if (fnd_load_acquire(&area->flags_life) && fnd_load_acquire(&area->journal_dir[0])) /* [FL-5] */
		return;
	r.app = calloc(FND_APP_FLAGS, sizeof(*r.app));
	if (r.app)
		err = fnd_journal_read(journal, take_record, &r, NULL);
	free(r.app);
	settle(area, journal, next_life(&r, err));
}

void fnd_flags_restore(struct fnd_flags *f)
{
	struct restored r = { .app = calloc(FND_APP_FLAGS, sizeof(*r.app)) };
	uint64_t before = fnd_load_acquire(&f->area->flags), generation; /* [FL-1] */
	int err = -ENOENT;

	if (r.app && f->journal)
		err = fnd_journal_read(f->journal, take_record, &r, NULL);
	settle(f->area, f->journal, next_life(&r, err));
	for (unsigned int i = 0; i < r.apps; i++)
		if (fnd_flag_find(f, r.app[i].name) == -ENOENT)
			fnd_app_define(f, r.app[i].name, r.app[i].description, r.app[i].fallback, r.app[i].percent,
				       &generation);
	free(r.app);
	/* the journal says so already */
	fnd_raise_u64(&f->area->app_journalled, fnd_load_acquire(&f->area->app_root) >> 1); /* [FL-2] */
	if (!r.word)
		r.word = fnd_word_counted(0);
	if (fnd_word_count(before) != 0)
		return;
	fnd_flags_journalled(f->area, fnd_word_count(r.word)); /* the same, or there is nothing to say */
	if (fnd_cas(&f->area->flags, before, r.word)) /* [FL-1] one of those that open restores */
		fnd_flags_wake(f->area);
}
