// SPDX-License-Identifier: MIT
/*
 * From the events to the journal.
 *
 * The journal itself says how far it is: a record carries the number of its event and whose number that is.
 * Under the journal's lock whoever syncs looks for the highest one, and goes on after it; so two that sync, or
 * one that dies between the disk and the note in the area, write nothing twice. That note only spares the
 * look when nothing has come: it is raised past events that do not belong in the journal too.
 */
#include <foundation/facts.h>

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include <foundation/atomic.h>
#include <foundation/events.h>

#include "flags_internal.h"
#include "journal_internal.h"
#include "json_value.h"

#define MEMBERS 16384 /* an event's map of 1024 bytes is less in JSON, whatever is in it */
#define AT_ONCE 2048 /* more events than there are */

static const char *const kept[] = { "agent.down", "registry.conflict" };

struct fact {
	struct fnd_published *event; /* NULL: some that are gone */
	uint64_t number; /* of the event, or of the last that is gone */
	uint64_t count; /* … of how many */
};

struct facts {
	struct fact fact[AT_ONCE];
	unsigned int used;
	uint64_t cursor;
};

static bool belongs(const char *name)
{
	for (size_t i = 0; i < sizeof(kept) / sizeof(kept[0]); i++)
		if (strcmp(name, kept[i]) == 0)
			return true;
	return false;
}

/* --- from the events ------------------------------------------------------------------------------- */

struct take {
	struct fnd_published *copy;
	int err;
};

/* Ends the walk, so that what was missed before this event is known apart from what is missed after it. */
static int take(const struct fnd_published *e, void *arg)
{
	struct take *t = arg;

	if (!belongs(e->name))
		return 0;
	t->copy = malloc(sizeof(*e));
	t->err = t->copy ? 0 : -ENOMEM;
	if (t->copy)
		memcpy(t->copy, e, sizeof(*e));
	return 1;
}

static void gone(struct facts *f, uint64_t last, uint64_t count)
{
	struct fact *before = f->used ? &f->fact[f->used - 1] : NULL;

	if (before && !before->event) {
		before->number = last;
		before->count += count;
	} else if (f->used < AT_ONCE) {
		f->fact[f->used++] = (struct fact){ NULL, last, count };
	}
}

static int collect(struct fnd_events *ev, struct facts *f)
{
	uint64_t before;
	int r;

	do {
		struct take t = { NULL, 0 };
		uint64_t missed = 0;

		before = f->cursor;
		r = fnd_events_read(ev, &f->cursor, take, &t, &missed);
		if (r == -FND_E_CORRUPT && f->cursor > before) {
			gone(f, f->cursor, missed + 1); /* that one cannot be read */
			continue;
		}
		if (r < 0)
			return r;
		if (missed)
			gone(f, r ? f->cursor - 1 : f->cursor, missed);
		if (t.err)
			return t.err;
		if (r && f->used < AT_ONCE)
			f->fact[f->used++] = (struct fact){ t.copy, t.copy->number, 1 };
		else
			free(t.copy);
	} while (r && f->used < AT_ONCE - 1);
	return 0;
}

static void facts_free(struct facts *f)
{
	for (unsigned int i = 0; f && i < f->used; i++)
		free(f->fact[i].event);
	free(f);
}

/* --- to the journal -------------------------------------------------------------------------------- */

struct search {
	char source[20];
	uint64_t highest;
	bool found;
};

static int search_line(const char *line, size_t bytes, void *arg)
{
	const char *json = line + FND_JOURNAL_CRC;
	struct search *s = arg;
	char source[20] = "";
	uint64_t n = 0;

	bytes -= FND_JOURNAL_CRC;
	if (!fnd_json_get_text(json, bytes, "source", source, sizeof(source)) || strcmp(source, s->source) != 0 ||
	    !fnd_json_get_number(json, bytes, "event", &n))
		return 0;
	s->found = true;
	if (n > s->highest)
		s->highest = n;
	return 0;
}

static uint64_t source_of(struct fnd_shm_runtime *area)
{
	uint64_t source = fnd_load_acquire(&area->events_source), fresh = 0; /* [EV-3] */

	while (source == 0) {
		while (fresh == 0)
			if (getrandom(&fresh, sizeof(fresh), GRND_NONBLOCK) != (ssize_t)sizeof(fresh))
				fresh = fnd_load_relaxed(&area->event_head) + 1; /* relaxed: any number */
		fnd_cas(&area->events_source, 0, fresh); /* [EV-3] the first one's stays */
		source = fnd_load_acquire(&area->events_source); /* [EV-3] */
	}
	return source;
}

static int add(struct fnd_journal_writing *w, const struct fact *f, const char *source)
{
	char members[MEMBERS];
	struct fnd_json j = { .buf = members, .size = sizeof(members) };
	const struct fnd_published *e = f->event;

	fnd_json_text(&j, "source", source);
	fnd_json_number(&j, "event", f->number);
	if (e) {
		fnd_json_number(&j, "event_at", e->at_ns);
		fnd_json_number(&j, "event_pid", e->pid);
		fnd_json_value(&j, "data", e->map, e->map_bytes);
	} else {
		fnd_json_number(&j, "count", f->count);
	}
	return j.full ? -E2BIG : fnd_journal_add(w, e ? e->name : "events.missed", members);
}

static void note(struct fnd_shm_runtime *area, uint64_t number)
{
	if (fnd_load_acquire(&area->events_journalled) < number) /* [EV-3] */
		fnd_raise_u64(&area->events_journalled, number); /* [EV-3] once it is on disk */
}

/* Under the journal's lock. */
static int add_all(struct fnd_journal_writing *w, struct fnd_shm_runtime *area, const struct facts *f,
		   struct fnd_facts *done)
{
	uint64_t after = fnd_load_acquire(&area->events_journalled); /* [EV-3] somebody else may have been here */
	struct search s = { .highest = 0 };
	int err;

	snprintf(s.source, sizeof(s.source), "%016llx", (unsigned long long)source_of(area));
	err = fnd_journal_search(w->j, search_line, &s, &s.found);
	if (after > f->cursor)
		after = f->cursor;
	if (s.highest > after)
		after = s.highest;
	for (unsigned int i = 0; i < f->used && !err; i++) {
		struct fact one = f->fact[i];

		if (one.number <= after)
			continue;
		if (!one.event && one.count > one.number - after)
			one.count = one.number - after;
		err = add(w, &one, s.source);
		done->written++;
		done->missed += one.event ? 0 : one.count;
	}
	if (!err)
		err = fnd_journal_flush(w);
	if (!err)
		note(area, f->cursor);
	return err;
}

static int journal_of(struct fnd_segment *seg, uint32_t lock_timeout_ms, struct fnd_journal **ret_journal)
{
	struct fnd_journal_options opt = { .size = sizeof(opt), .lock_timeout_ms = lock_timeout_ms };
	struct fnd_shm_runtime *area = fnd_segment_area(seg);
	struct fnd_journal *j;
	char name[128];
	int err;

	fnd_segment_name(seg, name, sizeof(name));
	if (strchr(name, '/') && !fnd_load_acquire(&area->journal_dir[0])) /* [FL-5] its owner says where */
		return fnd_error_set(EXDEV, "where the journal of %s is, its owner has not settled yet", name);
	err = fnd_journal_open(name, &opt, &j);
	if (err)
		return err;
	err = fnd_flags_journal_here(j, area);
	if (err) {
		fnd_journal_close(j);
		return err;
	}
	fnd_flags_settle(j, area);
	*ret_journal = j;
	return 0;
}

static int write_facts(struct fnd_segment *seg, uint32_t lock_timeout_ms, const struct facts *f,
		       struct fnd_facts *done)
{
	struct fnd_journal_writing w;
	struct fnd_journal *j;
	int err = journal_of(seg, lock_timeout_ms, &j);

	if (err)
		return err;
	err = fnd_journal_begin(j, &w);
	if (!err) {
		err = add_all(&w, fnd_segment_area(seg), f, done);
		fnd_journal_end(&w);
	}
	fnd_journal_close(j);
	return err;
}

/* --- both ------------------------------------------------------------------------------------------ */

/* A note that is ahead of all events is damaged: the journal says what is in it. */
static void put_back(struct fnd_shm_runtime *area, uint64_t noted)
{
	fnd_cas(&area->events_journalled, noted, 0); /* [EV-3] whoever finds it does the same */
}

static int sync_from(struct fnd_segment *seg, struct fnd_events *ev, uint32_t lock_timeout_ms,
		     struct fnd_facts *done)
{
	struct fnd_shm_runtime *area = fnd_segment_area(seg);
	uint64_t noted = fnd_load_acquire(&area->events_journalled); /* [EV-3] */
	uint64_t head = fnd_events_head(ev);
	struct facts *f;
	int err;

	if (noted == head)
		return 0;
	f = calloc(1, sizeof(*f));
	if (!f)
		return -ENOMEM;
	if (noted > head)
		put_back(area, noted);
	f->cursor = noted > head ? 0 : noted;
	err = collect(ev, f);
	if (!err && f->used)
		err = write_facts(seg, lock_timeout_ms, f, done);
	else if (!err)
		note(area, f->cursor);
	facts_free(f);
	return err;
}

int fnd_facts_sync(struct fnd_segment *seg, uint32_t lock_timeout_ms, struct fnd_facts *ret_facts)
{
	struct fnd_facts done = { 0 };
	struct fnd_events *ev;
	struct fnd_table *t;
	int err = fnd_table_open(seg, FND_EVENTS_TABLE, NULL, &t); /* fnd_events_open would make one */

	if (err)
		return err == -ENOENT ? 0 : err;
	fnd_table_close(t);
	err = fnd_events_open(seg, &ev);
	if (err)
		return err;
	err = sync_from(seg, ev, lock_timeout_ms, &done);
	fnd_events_close(ev);
	if (!err && ret_facts)
		*ret_facts = done;
	return err;
}

int fnd_fact_append(struct fnd_segment *seg, const char *type, const char *members)
{
	struct fnd_journal *j;
	int err = journal_of(seg, 0, &j);

	if (err)
		return err;
	err = fnd_journal_append(j, type, members, NULL);
	fnd_journal_close(j);
	return err;
}
