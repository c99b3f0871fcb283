// SPDX-License-Identifier: MIT
/*
 * Flags on disk: what a change writes, and what a segment made anew reads.
 *
 * Every record of a change carries all seven flags, the stage and the change count, so that the newest one
 * is the state; application flags are carried one by one, and whole in the `state` record that a rotated file
 * begins with. Two changers may append in another order than they stored: the greater count is the later.
 */
#include "flags_internal.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

#include <msgpack.h>

#include "json.h"

#define STATE_BYTES (FND_JOURNAL_RECORD_MAX - 1024)

/* --- writing -------------------------------------------------------------------------------------- */

static void put_word(struct fnd_json *j, uint64_t word)
{
	const char *stage = fnd_stage_name(fnd_word_stage(word));

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

static void put_who(struct fnd_json *j, const struct fnd_change_info *info)
{
	char command[17] = "";

	prctl(PR_GET_NAME, command, 0, 0, 0);
	fnd_json_number(j, "uid", geteuid());
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

/* All there is, for a file that begins. */
static void keep_state(struct fnd_flags *f, struct fnd_journal *journal, uint64_t word)
{
	struct fnd_json j = { .buf = malloc(STATE_BYTES), .size = STATE_BYTES };
	struct app_put p = { &j, f };

	if (!j.buf)
		return;
	put_word(&j, word);
	if (f && f->table) {
		fnd_json_key(&j, "application");
		fnd_json_raw(&j, "{");
		fnd_flags_list(f, put_app, &p);
		fnd_json_raw(&j, "}");
	}
	if (!j.full)
		fnd_journal_keep_state(journal, j.buf);
	free(j.buf);
}

/* @count lies after the one journalled so far, in a circle of 2^24. */
static void journalled(struct fnd_shm_runtime *area, uint32_t count)
{
	uint64_t was = fnd_load_acquire(&area->flags_journalled); /* [FL-4] */

	while (((count - (uint32_t)was) & FND_FLAGS_COUNT_MASK) - 1 < FND_FLAGS_COUNT_MASK / 2) {
		if (fnd_cas(&area->flags_journalled, was, count)) /* [FL-4] after the record is on disk */
			return;
		was = fnd_load_acquire(&area->flags_journalled); /* [FL-4] */
	}
}

int fnd_flags_write(struct fnd_flags *f, struct fnd_journal *journal, struct fnd_shm_runtime *area,
		    const struct fnd_flags_changed *c)
{
	struct fnd_json j = { .buf = malloc(STATE_BYTES), .size = STATE_BYTES };
	int err = -ENOMEM;

	if (j.buf && journal) {
		keep_state(f, journal, c->after);
		put_word(&j, c->after);
		put_changes(&j, f, c);
		if (c->defined) {
			struct app_put p = { &j, f };

			fnd_json_key(&j, "application");
			fnd_json_raw(&j, "{");
			put_app(c->defined, &p);
			fnd_json_raw(&j, "}");
		}
		put_who(&j, c->info);
		err = j.full ? -E2BIG : fnd_journal_append(journal, c->type, j.buf, NULL);
	}
	free(j.buf);
	if (!err)
		journalled(area, fnd_word_count(c->after));
	return err;
}

int fnd_flags_catch_up(struct fnd_flags *f)
{
	static const struct fnd_change_info info = { .reason = "found changed, and not in the journal" };
	uint64_t word = fnd_load_acquire(&f->area->flags); /* [FL-1] */
	struct fnd_flags_changed c = { .type = "flag.changed", .before = word, .after = word, .info = &info };

	if (fnd_word_count(word) == (fnd_load_acquire(&f->area->flags_journalled) & FND_FLAGS_COUNT_MASK)) /* [FL-4] */
		return 0;
	return fnd_flags_write(f, f->journal, f->area, &c) ? FND_NOT_DURABLE : 0;
}

/* --- telling -------------------------------------------------------------------------------------- */

static void pack_text(msgpack_packer *pk, const char *key, const char *text)
{
	msgpack_pack_str_with_body(pk, key, strlen(key));
	msgpack_pack_str_with_body(pk, text, strlen(text));
}

static void pack_number(msgpack_packer *pk, const char *key, uint64_t n)
{
	msgpack_pack_str_with_body(pk, key, strlen(key));
	msgpack_pack_uint64(pk, n);
}

static void publish(struct fnd_flags *f, const char *name, unsigned int before, unsigned int after,
		    const struct fnd_flags_changed *c)
{
	const char *stage = fnd_stage_name(fnd_word_stage(c->after));
	msgpack_sbuffer buf;
	msgpack_packer pk;

	msgpack_sbuffer_init(&buf);
	msgpack_packer_init(&pk, &buf, msgpack_sbuffer_write);
	msgpack_pack_map(&pk, 6);
	pack_text(&pk, "flag", name);
	pack_number(&pk, "before", before);
	pack_number(&pk, "after", after);
	pack_text(&pk, "stage", stage ? stage : "0");
	pack_number(&pk, "generation", fnd_flags_generation(f));
	pack_text(&pk, "reason", c->info && c->info->reason ? c->info->reason : "");
	fnd_event_publish(f->events, "flag.changed", buf.data, buf.size, NULL);
	msgpack_sbuffer_destroy(&buf);
}

static void note(struct fnd_flags *f, const char *name, unsigned int id, unsigned int before, unsigned int after,
		 const struct fnd_flags_changed *c)
{
	struct fnd_stored_flag s = { .fallback = 0 };
	char command[17] = "";
	struct timespec ts;

	if (f->events)
		publish(f, name, before, after, c);
	if (!f->table)
		return;
	if (fnd_flag_stored(f, name, &s))
		memset(&s, 0, sizeof(s));
	prctl(PR_GET_NAME, command, 0, 0, 0);
	clock_gettime(CLOCK_REALTIME, &ts);
	s.id = id;
	s.changed_ns = (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
	s.uid = (uint32_t)geteuid();
	s.pid = (uint32_t)getpid();
	s.before = before;
	s.after = after;
	memcpy(s.command, command, sizeof(s.command));
	snprintf(s.reason, sizeof(s.reason), "%s", c->info && c->info->reason ? c->info->reason : "");
	fnd_table_upsert(f->table, name, strlen(name), &s, sizeof(s));
}

void fnd_flags_tell(struct fnd_flags *f, const struct fnd_flags_changed *c)
{
	char name[FND_FLAG_NAME_MAX + 1];

	for (unsigned int i = 0; i < FND_FLAG_KNOWN; i++)
		if (fnd_word_percent(c->before, i) != fnd_word_percent(c->after, i))
			note(f, fnd_flag_name(i), i, fnd_word_percent(c->before, i), fnd_word_percent(c->after, i), c);
	for (unsigned int i = 0; i < c->count; i++)
		if (c->application_before[i] != c->application[i].percent &&
		    fnd_app_name(f, c->application[i].id, name))
			note(f, name, c->application[i].id, c->application_before[i], c->application[i].percent, c);
}

/* --- restoring ------------------------------------------------------------------------------------ */

struct restored_flag {
	char name[FND_FLAG_NAME_MAX + 1];
	char description[FND_FLAG_TEXT_MAX + 1];
	unsigned int fallback, percent;
};

struct restored {
	uint64_t word; /* 0: nothing was found */
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
		if (fnd_json_get_number(flags, len, fnd_flag_name(i), &n) && n <= 100)
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

/* "application": {NAME: {percent, default, description} …}: definitions, whole. */
static void take_definitions(struct restored *r, const char *json, size_t bytes)
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
		if (fnd_json_get_number(value, n, "percent", &v) && v <= 100)
			a->percent = (unsigned int)v;
		if (fnd_json_get_number(value, n, "default", &v) && v <= 100)
			a->fallback = (unsigned int)v;
		fnd_json_get_text(value, n, "description", a->description, sizeof(a->description));
	}
}

/* "changed": {NAME: [before, after] …}, of application flags. */
static void take_changes(struct restored *r, const char *json, size_t bytes)
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
		if (v <= 100)
			a->percent = (unsigned int)v;
	}
}

static int take_record(const struct fnd_journal_record *rec, void *arg)
{
	struct restored *r = arg;
	uint64_t word = word_from(rec->json, rec->json_bytes);

	/* of two changers that appended in the other order, the one that stored last */
	if (word && (!r->word || strcmp(rec->type, "state") == 0 ||
		     ((fnd_word_count(word) - fnd_word_count(r->word)) & FND_FLAGS_COUNT_MASK) <
			     FND_FLAGS_COUNT_MASK / 2))
		r->word = word;
	take_definitions(r, rec->json, rec->json_bytes);
	take_changes(r, rec->json, rec->json_bytes);
	return 0;
}

void fnd_flags_restore(struct fnd_flags *f)
{
	struct restored r = { .app = calloc(FND_APP_FLAGS, sizeof(*r.app)) };
	uint64_t before = fnd_load_acquire(&f->area->flags); /* [FL-1] */

	if (r.app && f->journal)
		fnd_journal_read(f->journal, take_record, &r, NULL);
	for (unsigned int i = 0; i < r.apps; i++)
		fnd_app_define(f, r.app[i].name, r.app[i].description, r.app[i].fallback, r.app[i].percent);
	free(r.app);
	if (!r.word)
		r.word = fnd_word_counted(0);
	if (fnd_word_count(before) != 0)
		return;
	journalled(f->area, fnd_word_count(r.word)); /* it says so already, or there is nothing to say */
	if (fnd_cas(&f->area->flags, before, r.word)) /* [FL-1] one of those that open restores */
		fnd_flags_wake(f->area);
}
