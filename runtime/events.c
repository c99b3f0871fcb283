// SPDX-License-Identifier: MIT
/*
 * Events: a table whose keys are consecutive numbers.
 *
 * Publishing inserts under the number after the last; where somebody else has just taken it, under the next.
 * So the insert itself hands out the number: no counter can run ahead of it, and a kill leaves no gap. The
 * head in the area is a hint where to begin. It is raised after the insert, and before anything old is
 * deleted; so whoever was stopped so long that the number he had in mind has come and gone sees, under the
 * lock, that the hint has passed it.
 */
#include <foundation/events.h>

#include <endian.h>
#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <xxhash.h>

#include <foundation/atomic.h>

#include "area_layout.h"
#include "mp.h"

/* How many are kept; the crash tests, which look at every record in every state, have fewer. */
#ifndef FND_EVENTS_KEPT
#define FND_EVENTS_KEPT FND_EVENTS_MAX
#define ROOM 24 /* places beyond: for publishers between insert and delete */
#else
#define ROOM 4
#endif
#define SLICE_MS 100
#define SEEN 1024 /* numbers whose repeats are known: more than there can be */
#define TRIES 10000
#define GARBAGE_WAITS 100 /* of 1 ms, for a reader that was interrupted inside a section */
#define GARBAGE_PAUSE_NS 1000000000u /* after waiting in vain */

struct fnd_events {
	struct fnd_segment *seg;
	struct fnd_table *table;
	struct fnd_shm_runtime *area;
	uint64_t in_vain_ns; /* when waiting for a reader last did not help */
	pthread_mutex_t reading;
	uint64_t scanned; /* up to here `seen` says what there was */
	uint64_t seen[SEEN]; /* by number: what an event is about, 0 when it cannot be a repeat */
};

/* The value of a record; the map follows. */
struct stored {
	uint64_t at_ns;
	uint32_t pid;
	uint16_t map_bytes;
	uint8_t name_bytes;
	uint8_t reserved;
	char name[FND_EVENT_NAME_MAX + 1];
};

_Static_assert(sizeof(struct stored) == 80, "part of the segment's format");

struct stored_max {
	struct stored s;
	unsigned char map[FND_EVENT_BYTES_MAX];
};

static uint64_t wall_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_REALTIME, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

int fnd_events_open(struct fnd_segment *seg, struct fnd_events **ret_events)
{
	struct fnd_table_options opt = { .size = sizeof(opt),
					 .flags = FND_TABLE_FIXED,
					 .key_max = sizeof(uint64_t),
					 .value_max = sizeof(struct stored_max),
					 .capacity = FND_EVENTS_KEPT + ROOM };
	struct fnd_events *ev = calloc(1, sizeof(*ev));
	int err;

	if (!ev)
		return -ENOMEM;
	ev->seg = seg;
	pthread_mutex_init(&ev->reading, NULL);
	ev->area = fnd_segment_area(seg);
	err = fnd_table_open(seg, FND_EVENTS_TABLE, &opt, &ev->table);
	if (err) {
		free(ev);
		return err;
	}
	*ret_events = ev;
	return 0;
}

void fnd_events_close(struct fnd_events *ev)
{
	if (!ev)
		return;
	fnd_table_close(ev->table);
	free(ev);
}

static bool there(struct fnd_events *ev, uint64_t number)
{
	uint64_t key = htobe64(number);
	int err = fnd_table_lookup(ev->table, &key, sizeof(key), NULL, 0, NULL);

	return err == 0 || err == -ENOBUFS;
}

static int highest(const struct fnd_record *r, void *arg)
{
	uint64_t *max = arg, key;

	if (r->key_bytes == sizeof(key)) {
		memcpy(&key, r->key, sizeof(key));
		if (be64toh(key) > *max)
			*max = be64toh(key);
	}
	return 0;
}

/*
 * The hint, or beyond it as far as there are events. The event it names is there unless a thousand more came
 * meanwhile, or the hint or the table was damaged: then the records say, and the hint is put right. An empty
 * table goes on where the hint is.
 */
static uint64_t head_look(struct fnd_events *ev)
{
	uint64_t head = fnd_load_acquire(&ev->area->event_head), max = 0; /* [EV-1] pairs with wake */

	if (!there(ev, head ? head : 1)) {
		if (fnd_table_iterate(ev->table, 0, highest, &max) == 0 && max) {
			fnd_cas(&ev->area->event_head, head, max); /* [EV-1] as wake */
			head = max;
		}
	}
	while (there(ev, head + 1))
		head++;
	return head;
}

uint64_t fnd_events_head(struct fnd_events *ev)
{
	return head_look(ev);
}

/* --- publishing ------------------------------------------------------------------------------------ */

static void wake(struct fnd_events *ev)
{
	fnd_fetch_add(&ev->area->event_wake, 1); /* [EV-2] pairs with fnd_events_wait */
	fnd_area_wake(&ev->area->event_wake);
}

static int drop_one(struct fnd_events *ev, uint64_t number)
{
	uint64_t key = htobe64(number);

	return fnd_table_delete(ev->table, &key, sizeof(key));
}

/* Each number is deleted by the publisher of the one FND_EVENTS_KEPT later, or, when that one died first, by the
 * next. */
static void drop_old(struct fnd_events *ev, uint64_t number)
{
	for (uint64_t old = number > FND_EVENTS_KEPT ? number - FND_EVENTS_KEPT : 0; old > 0; old--)
		if (drop_one(ev, old) != 0)
			break;
}

struct sweep {
	struct fnd_events *ev;
	uint64_t head;
};

static int sweep_one(const struct fnd_record *r, void *arg)
{
	struct sweep *s = arg;
	uint64_t key;

	if (r->key_bytes != sizeof(key))
		return 0;
	memcpy(&key, r->key, sizeof(key));
	key = be64toh(key);
	if (key > s->head || s->head - key >= FND_EVENTS_KEPT)
		drop_one(s->ev, key);
	return 0;
}

/* The table is full: publishers that died left old ones behind, or somebody wrote numbers that cannot be. */
static void sweep(struct fnd_events *ev)
{
	struct sweep s = { ev, head_look(ev) };

	fnd_raise_u64(&ev->area->event_head, s.head); /* [EV-1] before anything goes */
	fnd_table_iterate(ev->table, 0, sweep_one, &s);
}

static bool name_valid(const char *name)
{
	size_t n = name ? strlen(name) : 0;

	return n >= 1 && n <= FND_EVENT_NAME_MAX && strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789._") == n;
}

struct put {
	struct fnd_events *ev;
	uint64_t number;
	size_t bytes;
	bool stale;
	struct stored_max v;
};

static enum fnd_modify put_number(void *arg, const void *old, size_t old_bytes, const void **new_value,
				  size_t *new_bytes)
{
	struct put *p = arg;

	(void)old_bytes;
	p->stale = !old && fnd_load_acquire(&p->ev->area->event_head) >= p->number; /* [EV-1] */
	if (old || p->stale)
		return FND_MODIFY_KEEP;
	*new_value = &p->v;
	*new_bytes = p->bytes;
	return FND_MODIFY_PUT;
}

static uint64_t monotonic_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

/* The table turns over in a millisecond when all publish, and a reader that lost its processor comes back in
 * some. One that is stopped does not: that is tried once a second. */
static bool garbage_wait(struct fnd_events *ev, unsigned int *waits)
{
	struct timespec ts = { 0, 1000000 };
	uint64_t now = monotonic_ns(); /* relaxed, both: a stale one waits, or does not, once more */

	if (now - fnd_load_relaxed(&ev->in_vain_ns) < GARBAGE_PAUSE_NS)
		return false;
	if (++*waits > GARBAGE_WAITS) {
		fnd_store_relaxed(&ev->in_vain_ns, now);
		return false;
	}
	nanosleep(&ts, NULL);
	return true;
}

/* Under the first number that is free. */
static int append(struct put *p)
{
	unsigned int waits = 0;
	bool swept = false;

	p->number = head_look(p->ev) + 1;
	for (int tries = 0; tries < TRIES; tries++) {
		uint64_t key = htobe64(p->number);
		int r = fnd_table_modify(p->ev->table, &key, sizeof(key), put_number, p);

		if (r == FND_MODIFY_PUT)
			return 0;
		if (r == -ENOSPC && !swept) {
			sweep(p->ev);
			swept = true;
		} else if (r < 0 && (r != -FND_E_GARBAGE || !garbage_wait(p->ev, &waits))) {
			return r;
		}
		p->number = p->stale || r < 0 ? head_look(p->ev) + 1 : p->number + 1;
	}
	return fnd_error_set(FND_E_CORRUPT, "the events' head moves while nothing is published");
}

int fnd_event_publish(struct fnd_events *ev, const char *name, const void *map, size_t map_bytes,
		      uint64_t *ret_number)
{
	static const unsigned char empty = 0x80;
	struct put p = { .ev = ev };
	uint32_t pairs;
	int err;

	if (!name_valid(name))
		return fnd_error_set(EINVAL, "an event's name is [a-z0-9._]{1,%d}", FND_EVENT_NAME_MAX);
	if (map_bytes > FND_EVENT_BYTES_MAX)
		return fnd_error_set(E2BIG, "event %s: %zu bytes, at most %u", name, map_bytes, FND_EVENT_BYTES_MAX);
	if (map_bytes == 0)
		map = &empty, map_bytes = 1;
	if (!map || fnd_mp_skip(map, map_bytes) != map_bytes || fnd_mp_map(map, map_bytes, &pairs) == 0)
		return fnd_error_set(EINVAL, "event %s: not one msgpack map", name);
	p.v.s = (struct stored){ .at_ns = wall_ns(), .pid = (uint32_t)getpid(),
				 .map_bytes = (uint16_t)map_bytes, .name_bytes = (uint8_t)strlen(name) };
	memcpy(p.v.s.name, name, p.v.s.name_bytes);
	memcpy(p.v.map, map, map_bytes);
	p.bytes = sizeof(p.v.s) + map_bytes;
	err = append(&p);
	if (err)
		return err;
	fnd_raise_u64(&ev->area->event_head, p.number); /* [EV-1] the record is there before the hint says so */
	wake(ev);
	drop_old(ev, p.number);
	if (ret_number)
		*ret_number = p.number;
	return 0;
}

/* --- reading --------------------------------------------------------------------------------------- */

/* 0, -ENOENT, -FND_E_CORRUPT */
static int event_get(struct fnd_events *ev, uint64_t number, struct fnd_published *e)
{
	uint64_t key = htobe64(number);
	struct stored_max v;
	size_t bytes;
	int err = fnd_table_lookup(ev->table, &key, sizeof(key), &v, sizeof(v), &bytes);

	if (err)
		return err;
	if (bytes < sizeof(v.s) || v.s.map_bytes != bytes - sizeof(v.s) || v.s.name_bytes > FND_EVENT_NAME_MAX)
		return fnd_error_set(FND_E_CORRUPT, "event %llu", (unsigned long long)number);
	memset(e, 0, offsetof(struct fnd_published, map));
	e->number = number;
	e->at_ns = v.s.at_ns;
	e->pid = v.s.pid;
	memcpy(e->name, v.s.name, v.s.name_bytes);
	e->map_bytes = v.s.map_bytes;
	memcpy(e->map, v.map, v.s.map_bytes);
	return 0;
}

struct subject {
	XXH64_hash_t h;
	bool change;
};

static int identify(const struct fnd_field *f, void *arg)
{
	struct subject *s = arg;

	if (f->key_bytes == 4 && memcmp(f->key, "name", 4) == 0 && f->value.type == FND_VALUE_STR)
		s->h = XXH3_64bits_withSeed(f->value.v.text, f->value.bytes, s->h);
	if (f->key_bytes == 6 && memcmp(f->key, "change", 6) == 0 && f->value.type == FND_VALUE_UINT) {
		s->h ^= f->value.v.u * 0x9e3779b97f4a7c15u;
		s->change = true;
	}
	return 0;
}

/* What an event of an agent is about: one change of one name is told once, and so is its end, by whichever
 * word. 0: it cannot be a repeat. */
static uint64_t subject(const struct fnd_published *e)
{
	static const char *const what[] = { "agent.up", "agent.updated", "agent.gone", "agent.down" };
	struct subject s = { 0, false };

	for (unsigned int i = 0; i < 4; i++) {
		if (strcmp(e->name, what[i]) != 0)
			continue;
		s.h = i < 2 ? i + 1 : 3;
		if (fnd_map_iterate(e->map, e->map_bytes, identify, &s) == 0 && s.change)
			return s.h ? s.h : 1;
	}
	return 0;
}

/* Has the same been said already? Looks back as far as there are events; @e is the event after `scanned`. */
static bool repeated(struct fnd_events *ev, const struct fnd_published *e)
{
	uint64_t s = subject(e);

	ev->scanned = e->number;
	ev->seen[e->number % SEEN] = s;
	for (uint64_t n = e->number - 1; s && n && e->number - n <= FND_EVENTS_KEPT; n--)
		if (ev->seen[n % SEEN] == s)
			return true;
	return false;
}

/* Makes `seen` hold what came before @number. */
static void look_back(struct fnd_events *ev, uint64_t number, struct fnd_published *e)
{
	uint64_t first = number > FND_EVENTS_KEPT ? number - FND_EVENTS_KEPT : 1;

	if (ev->scanned >= number || ev->scanned + 1 < first) {
		memset(ev->seen, 0, sizeof(ev->seen));
		ev->scanned = first - 1;
	}
	while (ev->scanned + 1 < number) {
		uint64_t n = ev->scanned + 1;

		ev->seen[n % SEEN] = event_get(ev, n, e) == 0 ? subject(e) : 0;
		ev->scanned = n;
	}
}

/* The event after the cursor: 1, or 0 when it is not to be handed out, or an error. */
static int next(struct fnd_events *ev, uint64_t *cursor, struct fnd_published *e, uint64_t *missed)
{
	bool again;
	int err;

	pthread_mutex_lock(&ev->reading);
	look_back(ev, *cursor + 1, e);
	err = event_get(ev, *cursor + 1, e);
	++*cursor;
	again = err == 0 && repeated(ev, e);
	pthread_mutex_unlock(&ev->reading);
	if (err == -ENOENT) { /* gone meanwhile */
		++*missed;
		return 0;
	}
	return err ? err : !again;
}

int fnd_events_read(struct fnd_events *ev, uint64_t *cursor, int (*fn)(const struct fnd_published *e, void *arg),
		    void *arg, uint64_t *ret_missed)
{
	uint64_t head = head_look(ev), missed = 0, first;
	struct fnd_published *e = malloc(sizeof(*e));
	int err = e ? 0 : -ENOMEM;

	first = head > FND_EVENTS_KEPT ? head - FND_EVENTS_KEPT : 0;
	if (*cursor < first) {
		missed = first - *cursor;
		*cursor = first;
	}
	if (*cursor > head)
		*cursor = head; /* of a table that is gone */
	while (!err && *cursor < head) {
		err = next(ev, cursor, e, &missed);
		if (err == 1)
			err = fn(e, arg);
	}
	free(e);
	if (ret_missed)
		*ret_missed = missed;
	return err;
}

int fnd_events_wait(struct fnd_events *ev, uint64_t cursor, unsigned int timeout_ms)
{
	struct timespec ts;
	uint64_t now, until;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	until = (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000 + timeout_ms;
	for (;;) {
		/* [EV-2] before the look, so that none is slept through */
		uint32_t word = fnd_load_acquire(&ev->area->event_wake);

		if (there(ev, cursor + 1) || head_look(ev) > cursor)
			return 0;
		clock_gettime(CLOCK_MONOTONIC, &ts);
		now = (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
		if (now >= until)
			return -ETIMEDOUT;
		fnd_area_wait(&ev->area->event_wake, word,
			      (unsigned int)(until - now < SLICE_MS ? until - now : SLICE_MS));
	}
}
