// SPDX-License-Identifier: MIT
/*
 * Changes that the journal could not take: what kind, whose, why.
 *
 * The word says what is in force, and needs nothing else. Kind, reason and who approved it are kept apart, in
 * records of the flags' table whose keys are no flags' names, until somebody can write the journal. There are
 * PLACES of them, one a change count; of more changes the older are forgotten, and so is one whose changer was
 * killed before it came here: the journal then says "unknown". Whoever writes them does so under the journal's
 * lock, after looking whether they are there; then he takes them out of the table.
 */
#include "flags_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

#include "journal_internal.h"

#define PLACES 8u
#define STATE_BYTES (FND_JOURNAL_RECORD_MAX - 1024)

static const char *const kinds[] = { "flag.changed", "stage.changed", "rollback" };

static void key_of(unsigned int place, char key[2])
{
	key[0] = '!'; /* in no flag's name */
	key[1] = (char)('0' + place);
}

static void text_keep(char to[FND_FLAG_TEXT_MAX + 1], const char *text)
{
	size_t n = text ? strlen(text) : 0;

	memcpy(to, text ? text : "", n < FND_FLAG_TEXT_MAX ? n : FND_FLAG_TEXT_MAX);
}

void fnd_flags_remember(struct fnd_flags *f, const struct fnd_flags_changed *c)
{
	struct fnd_stored_change s = { .before = c->before, .after = c->after };
	char key[2], command[17] = "";
	struct timespec ts;

	if (!f->table)
		return;
	for (uint32_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++)
		if (strcmp(c->type, kinds[i]) == 0)
			s.kind = i;
	clock_gettime(CLOCK_REALTIME, &ts);
	s.at_ns = (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
	s.uid = (uint32_t)geteuid();
	s.pid = (uint32_t)getpid();
	prctl(PR_GET_NAME, command, 0, 0, 0);
	memcpy(s.command, command, sizeof(s.command));
	text_keep(s.reason, c->info ? c->info->reason : NULL);
	text_keep(s.approved_by, c->info ? c->info->approved_by : NULL);
	key_of(fnd_word_count(c->after) % PLACES, key);
	fnd_table_upsert(f->table, key, sizeof(key), &s, sizeof(s));
}

/* --- later ---------------------------------------------------------------------------------------- */

struct recalled {
	struct fnd_stored_change change[PLACES];
	unsigned int count;
};

static int by_count(const void *a, const void *b)
{
	const struct fnd_stored_change *x = a, *y = b;
	uint32_t further = (fnd_word_count(x->after) - fnd_word_count(y->after)) & FND_FLAGS_COUNT_MASK;

	return further == 0 ? 0 : further < FND_FLAGS_COUNT_MASK / 2 ? 1 : -1; /* in a circle of 2^24 */
}

static void recall(struct fnd_flags *f, struct recalled *r)
{
	r->count = 0;
	for (unsigned int i = 0; f->table && i < PLACES; i++) {
		struct fnd_stored_change *s = &r->change[r->count];
		size_t bytes = 0;
		char key[2];

		key_of(i, key);
		if (fnd_table_lookup(f->table, key, sizeof(key), s, sizeof(*s), &bytes) || bytes != sizeof(*s))
			continue;
		s->reason[FND_FLAG_TEXT_MAX] = '\0';
		s->approved_by[FND_FLAG_TEXT_MAX] = '\0';
		r->count++;
	}
	qsort(r->change, r->count, sizeof(r->change[0]), by_count);
}

struct search {
	uint64_t life;
	const struct fnd_stored_change *change;
	bool found;
};

static int search_line(const char *line, size_t bytes, void *arg)
{
	const char *json = line + FND_JOURNAL_CRC;
	struct search *s = arg;
	uint64_t life = 0, count = 0, at = 0;

	bytes -= FND_JOURNAL_CRC;
	s->found = s->found || (fnd_json_get_number(json, bytes, "changed_at", &at) && at == s->change->at_ns &&
				fnd_json_get_number(json, bytes, "life", &life) && life == s->life &&
				fnd_json_get_number(json, bytes, "count", &count) &&
				count == fnd_word_count(s->change->after));
	return 0;
}

static int write_one(struct fnd_flags *f, struct fnd_journal_writing *w, const struct fnd_stored_change *s)
{
	struct fnd_change_info info = { .reason = s->reason[0] ? s->reason : NULL,
					.approved_by = s->approved_by[0] ? s->approved_by : NULL };
	struct fnd_flags_changed c = { .type = kinds[s->kind < 3 ? s->kind : 0], .before = s->before,
				       .after = s->after, .info = &info, .by = s };
	struct search search = { .life = fnd_load_acquire(&f->area->flags_life), .change = s }; /* [FL-5] */
	struct fnd_json j = { .buf = malloc(STATE_BYTES), .size = STATE_BYTES };
	int err = j.buf ? fnd_journal_search(w->j, search_line, &search, &search.found) : -ENOMEM;

	if (!err && !search.found) {
		fnd_flags_members(&j, f, f->area, &c, false);
		err = fnd_journal_add(w, c.type, j.buf);
	}
	free(j.buf);
	return err;
}

/* The very change that was written, and no later one in its place. */
static enum fnd_modify forget(void *arg, const void *old, size_t old_bytes, const void **new_value,
			      size_t *new_bytes)
{
	const struct fnd_stored_change *s = arg;
	struct fnd_stored_change there;

	(void)new_value, (void)new_bytes;
	if (!old || old_bytes != sizeof(there))
		return FND_MODIFY_KEEP;
	memcpy(&there, old, sizeof(there));
	return there.after == s->after && there.at_ns == s->at_ns ? FND_MODIFY_DELETE : FND_MODIFY_KEEP;
}

static int write_all(struct fnd_flags *f, struct recalled *r)
{
	struct fnd_journal_writing w;
	int err;

	fnd_flags_settle(f->journal, f->area);
	fnd_flags_keep_state(f, f->journal, f->area, r->change[0].before);
	err = fnd_journal_begin(f->journal, &w);
	if (err)
		return err;
	for (unsigned int i = 0; i < r->count && !err; i++)
		err = write_one(f, &w, &r->change[i]);
	if (!err)
		err = fnd_journal_flush(&w);
	fnd_journal_end(&w);
	return err;
}

int fnd_flags_recall(struct fnd_flags *f, uint32_t *ret_count)
{
	struct recalled *r = malloc(sizeof(*r));
	int err = -ENOMEM;
	char key[2];

	if (!r)
		return err;
	recall(f, r);
	err = r->count ? write_all(f, r) : 0;
	for (unsigned int i = 0; i < r->count && !err; i++) {
		key_of(fnd_word_count(r->change[i].after) % PLACES, key);
		fnd_table_modify(f->table, key, sizeof(key), forget, &r->change[i]);
	}
	if (!err && r->count && ret_count)
		*ret_count = fnd_word_count(r->change[r->count - 1].after);
	free(r);
	return err;
}
