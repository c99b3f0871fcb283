// SPDX-License-Identifier: MIT
/*
 * Settings: a record each in the table "config", name -> text.
 *
 * An empty record is "unset": it is written over, never deleted, so that somebody who still restores what the
 * journal had (by inserts) cannot bring it back. A text that was set to "" is stored as unset too: no text is
 * every text's default. The record "." says that the journal has been taken over; it comes last.
 *
 * Every journal record of a change carries all that is set, so that the newest one is the state. Of two setters
 * that store and append in different orders, the one that appended last compares what it wrote with what is
 * stored, and appends again where they differ.
 */
#include "config_internal.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <foundation/table.h>

#define RESTORED "."
#define STATE_BYTES 32768 /* of all values together, escaped */
#define ATTEMPTS 16
#define NAME_BYTES 63

struct fnd_config {
	struct fnd_segment *seg;
	struct fnd_table *table;
	char name[FND_NAME_MAX + 16];
};

/* --- reading -------------------------------------------------------------------------------------- */

/* 0, FND_CONFIG_DEFAULT or an error; nothing of a damaged record gets out. */
static int stored(struct fnd_config *c, const struct fnd_config_definition *d, char value[FND_CONFIG_TEXT_MAX + 1])
{
	char raw[FND_CONFIG_TEXT_MAX + 1];
	size_t bytes;
	int err = c ? fnd_table_lookup(c->table, d->name, strlen(d->name), raw, sizeof(raw) - 1, &bytes) : -ENOENT;

	if (err && err != -ENOENT)
		return err;
	if (err || bytes == 0) {
		snprintf(value, FND_CONFIG_TEXT_MAX + 1, "%s", d->fallback);
		return FND_CONFIG_DEFAULT;
	}
	raw[bytes] = '\0';
	if (strlen(raw) != bytes || fnd_config_canonical(d, raw, value))
		return fnd_error_set(FND_E_CORRUPT, "config: what is stored cannot be a value of %s", d->name);
	return 0;
}

int fnd_config_get(struct fnd_config *c, const char *name, char *buf, size_t size)
{
	const struct fnd_config_definition *d = fnd_config_find(name);
	char value[FND_CONFIG_TEXT_MAX + 1];
	int err;

	if (!d)
		return fnd_error_set(ENOENT, "config: no setting has the name \"%.63s\"", name);
	err = stored(c, d, value);
	if (err < 0)
		return err;
	if (strlen(value) >= size)
		return -ENOBUFS;
	memcpy(buf, value, strlen(value) + 1);
	return err;
}

uint64_t fnd_config_number(struct fnd_config *c, const char *name)
{
	const struct fnd_config_definition *d = fnd_config_find(name);
	char value[FND_CONFIG_TEXT_MAX + 1];

	if (!d || d->type == FND_CONFIG_CHOICE || d->type == FND_CONFIG_TEXT)
		return 0;
	return strtoull(stored(c, d, value) < 0 ? d->fallback : value, NULL, 10);
}

int fnd_config_journal(struct fnd_config *c, struct fnd_journal *j)
{
	return fnd_journal_limits_set(j, fnd_config_number(c, "journal.max_bytes"),
				      (uint32_t)fnd_config_number(c, "journal.keep"));
}

/* --- the journal ---------------------------------------------------------------------------------- */

/* "config":{NAME:VALUE …} with all that is set. */
static int put_all(struct fnd_config *c, struct fnd_json *j)
{
	char value[FND_CONFIG_TEXT_MAX + 1];
	const struct fnd_config_definition *d;

	fnd_json_key(j, "config");
	fnd_json_raw(j, "{");
	for (unsigned int i = 0; (d = fnd_config_definition(i)); i++)
		if (stored(c, d, value) == 0)
			fnd_json_text(j, d->name, value);
	fnd_json_raw(j, "}");
	return j->full ? fnd_error_set(E2BIG, "config: all values together are too long") : 0;
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

struct change {
	const char *type, *name, *before, *after;
	const struct fnd_change_info *info;
};

/* What is set, as text, to be compared; NULL: no memory, or too much. */
static char *all_of(struct fnd_config *c)
{
	struct fnd_json j = { .buf = malloc(STATE_BYTES), .size = STATE_BYTES };

	if (j.buf && put_all(c, &j)) {
		free(j.buf);
		return NULL;
	}
	return j.buf;
}

static int append_one(struct fnd_journal *journal, const struct change *ch, const char *all)
{
	struct fnd_json j = { .buf = malloc(FND_JOURNAL_RECORD_MAX), .size = FND_JOURNAL_RECORD_MAX - 512 };
	int err;

	if (!j.buf)
		return -ENOMEM;
	fnd_json_raw(&j, all);
	fnd_json_text(&j, "key", ch->name);
	fnd_json_text(&j, "before", ch->before);
	fnd_json_text(&j, "after", ch->after);
	put_who(&j, ch->info);
	err = j.full ? -E2BIG : fnd_journal_append(journal, ch->type, j.buf, NULL);
	free(j.buf);
	return err;
}

static int append_all(struct fnd_config *c, struct fnd_journal *journal, const struct change *ch)
{
	int err = 0;

	for (int i = 0; i < ATTEMPTS && !err; i++) {
		char *all = all_of(c), *now;
		bool same;

		if (!all)
			return -E2BIG;
		err = append_one(journal, ch, all);
		now = all_of(c);
		same = now && strcmp(all, now) == 0;
		free(all);
		free(now);
		if (same)
			break;
	}
	return err;
}

static int journal_change(struct fnd_config *c, const struct change *ch)
{
	struct fnd_journal *journal;
	int err = fnd_journal_open(c->name, NULL, &journal);

	if (err)
		return err;
	fnd_config_journal(c, journal);
	err = append_all(c, journal, ch);
	fnd_journal_close(journal);
	return err;
}

/* --- restoring ------------------------------------------------------------------------------------ */

static int newest(const struct fnd_journal_record *r, void *arg)
{
	char **keep = arg;
	const char *at;
	char *copy;
	size_t len;

	if ((strncmp(r->type, "config.", 7) != 0 && strcmp(r->type, "state") != 0) ||
	    !fnd_json_find(r->json, r->json_bytes, "config", &at, &len))
		return 0;
	copy = strndup(at, len);
	if (!copy)
		return -ENOMEM;
	free(*keep);
	*keep = copy;
	return 0;
}

/* Of settings that somebody below reads: it is told. */
static void apply(struct fnd_config *c)
{
	fnd_sampling_set(c->seg, (uint32_t)fnd_config_number(c, FND_CONFIG_SAMPLING));
}

static int restore_one(struct fnd_config *c, const struct fnd_config_definition *d, const char *all)
{
	char text[FND_CONFIG_TEXT_MAX + 2], value[FND_CONFIG_TEXT_MAX + 1];
	int err;

	if (!fnd_json_get_text(all, strlen(all), d->name, text, sizeof(text)) || !*text ||
	    fnd_config_canonical(d, text, value))
		return 0; /* not set, or no value of this version */
	err = fnd_table_insert(c->table, d->name, strlen(d->name), value, strlen(value));
	return err == -EEXIST ? 0 : err;
}

/* By inserts alone: what somebody has set by now stays. */
static int restore(struct fnd_config *c)
{
	const struct fnd_config_definition *d;
	struct fnd_journal *journal;
	char *all = NULL;
	int err = 0;

	if (fnd_journal_open(c->name, NULL, &journal))
		return 0;
#ifdef FND_MUTANT_RESTORED_FIRST
	fnd_table_insert(c->table, RESTORED, 1, "1", 1);
#endif
	if (fnd_journal_read(journal, newest, &all, NULL) == 0 && all)
		for (unsigned int i = 0; !err && (d = fnd_config_definition(i)); i++)
			err = restore_one(c, d, all);
	if (all)
		apply(c);
	free(all);
	fnd_journal_close(journal);
	if (!err)
		err = fnd_table_insert(c->table, RESTORED, 1, "1", 1);
	return err == -EEXIST ? 0 : err;
}

int fnd_config_open(struct fnd_segment *seg, struct fnd_config **ret_config)
{
	const struct fnd_table_options opt = { .size = sizeof(opt),
					       .key_max = NAME_BYTES,
					       .value_max = FND_CONFIG_TEXT_MAX,
					       .capacity = 128 };
	struct fnd_config *c = calloc(1, sizeof(*c));
	int err;

	if (!c)
		return -ENOMEM;
	c->seg = seg;
	err = fnd_segment_name(seg, c->name, sizeof(c->name));
	if (!err)
		err = fnd_table_open(seg, FND_CONFIG_TABLE, &opt, &c->table);
	if (!err) {
		char one;

		err = fnd_table_lookup(c->table, RESTORED, 1, &one, 1, NULL);
		if (err == -ENOENT)
			err = restore(c);
	}
	if (err) {
		fnd_config_close(c);
		return err;
	}
	*ret_config = c;
	return 0;
}

void fnd_config_close(struct fnd_config *c)
{
	if (!c)
		return;
	fnd_table_close(c->table);
	free(c);
}

void fnd_config_carry(struct fnd_segment *seg, struct fnd_journal *j, struct fnd_json *to)
{
	struct fnd_json was = *to;
	struct fnd_config *c;

	if (fnd_journal_writable(j) || fnd_config_open(seg, &c))
		return;
	fnd_config_journal(c, j);
	if (put_all(c, to)) {
		*to = was;
		to->buf[to->used] = '\0';
	}
	fnd_config_close(c);
}

/* --- changing ------------------------------------------------------------------------------------- */

static int unknown(const char *name)
{
	const char *dot = strrchr(name, '.');
	const struct fnd_config_definition *d;
	char like[160] = "";
	size_t used = 0;

	for (unsigned int i = 0; dot && (d = fnd_config_definition(i)); i++)
		if (strncmp(d->name, name, (size_t)(dot - name) + 1) == 0 && used + strlen(d->name) + 3 < sizeof(like))
			used += (size_t)snprintf(like + used, sizeof(like) - used, " %s", d->name);
	return fnd_error_set(ENOENT, "config: no setting has the name \"%.63s\"%s%s", name, used ? "; there are" : "",
			     like);
}

static int change(struct fnd_config *c, const char *name, const char *text, const struct fnd_change_info *info)
{
	const struct fnd_config_definition *d = fnd_config_find(name);
	char before[FND_CONFIG_TEXT_MAX + 1], value[FND_CONFIG_TEXT_MAX + 1] = "";
	struct change ch = { .type = text ? "config.set" : "config.unset", .before = before, .info = info };
	int err;

	if (!d)
		return unknown(name);
	err = text ? fnd_config_canonical(d, text, value) : 0;
	if (err)
		return err;
	if (stored(c, d, before) < 0)
		before[0] = '\0'; /* damaged: it is written over */
	err = fnd_table_upsert(c->table, d->name, strlen(d->name), value, strlen(value));
	if (err)
		return err;
	if (strcmp(d->name, FND_CONFIG_SAMPLING) == 0)
		apply(c);
	ch.name = d->name;
	ch.after = *value ? value : d->fallback;
	return journal_change(c, &ch) ? FND_NOT_DURABLE : 0;
}

int fnd_config_set(struct fnd_config *c, const char *name, const char *text, const struct fnd_change_info *info)
{
	return text ? change(c, name, text, info) : -EINVAL;
}

int fnd_config_unset(struct fnd_config *c, const char *name, const struct fnd_change_info *info)
{
	return change(c, name, NULL, info);
}
