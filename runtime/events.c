// SPDX-License-Identifier: MIT
/*
 * Events: a table whose keys are consecutive numbers.
 *
 * Publishing inserts under the number after the last; where somebody else has just taken it, under the next.
 * So the insert itself hands out the number: no counter can run ahead of it, and a kill leaves no gap. The
 * head in the area is a hint where to begin, raised afterwards by whoever notices.
 */
#include <foundation/events.h>

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <foundation/atomic.h>
#include <foundation/registry.h>

#include "area_layout.h"

#define ROOM 24 /* places beyond FND_EVENTS_MAX: for publishers between insert and delete */
#define SLICE_MS 100

struct fnd_events {
	struct fnd_segment *seg;
	struct fnd_table *table;
	struct fnd_shm_runtime *area;
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
					 .capacity = FND_EVENTS_MAX + ROOM };
	struct fnd_events *ev = calloc(1, sizeof(*ev));
	int err;

	if (!ev)
		return -ENOMEM;
	ev->seg = seg;
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
	int err = fnd_table_lookup(ev->table, &number, sizeof(number), NULL, 0, NULL);

	return err == 0 || err == -ENOBUFS;
}

/* The hint, or beyond it as far as there are events; a damaged one begins anew at what can be found. */
static uint64_t head_look(struct fnd_events *ev)
{
	uint64_t head = fnd_load_acquire(&ev->area->event_head); /* [EV-1] pairs with fnd_event_publish */

	while (there(ev, head + 1))
		head++;
	return head;
}

uint64_t fnd_events_head(struct fnd_events *ev)
{
	return head_look(ev);
}

static void wake(struct fnd_events *ev, uint64_t number)
{
	fnd_raise_u64(&ev->area->event_head, number); /* [EV-1] the record is there before the hint says so */
	fnd_fetch_add(&ev->area->event_wake, 1); /* [EV-2] pairs with fnd_events_wait */
	fnd_area_wake(&ev->area->event_wake);
}

/* Old events make room; each number is deleted by the publisher of the one FND_EVENTS_MAX later, or, when
 * that one died first, by a later one. */
static void drop_old(struct fnd_events *ev, uint64_t number)
{
	for (uint64_t old = number > FND_EVENTS_MAX ? number - FND_EVENTS_MAX : 0; old > 0; old--)
		if (fnd_table_delete(ev->table, &old, sizeof(old)) != 0)
			break;
}

static bool name_valid(const char *name)
{
	size_t n = name ? strlen(name) : 0;

	return n >= 1 && n <= FND_EVENT_NAME_MAX && strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789._") == n;
}

int fnd_event_publish(struct fnd_events *ev, const char *name, const void *map, size_t map_bytes,
		      uint64_t *ret_number)
{
	static const unsigned char empty = 0x80;
	struct stored_max v = { .s = { .at_ns = wall_ns(), .pid = (uint32_t)getpid() } };
	uint64_t number;
	int err;

	if (!name_valid(name))
		return fnd_error_set(EINVAL, "an event's name is [a-z0-9._]{1,%d}", FND_EVENT_NAME_MAX);
	if (map_bytes > FND_EVENT_BYTES_MAX)
		return fnd_error_set(E2BIG, "event %s: %zu bytes, at most %u", name, map_bytes,
				     FND_EVENT_BYTES_MAX);
	if (map_bytes == 0)
		map = &empty, map_bytes = 1;
	v.s.name_bytes = (uint8_t)strlen(name);
	v.s.map_bytes = (uint16_t)map_bytes;
	memcpy(v.s.name, name, v.s.name_bytes);
	memcpy(v.map, map, map_bytes);
	for (number = head_look(ev) + 1;; number++) {
		err = fnd_table_insert(ev->table, &number, sizeof(number), &v, sizeof(v.s) + map_bytes);
		if (err == -ENOSPC) { /* publishers that died left old ones behind */
			drop_old(ev, number);
			err = fnd_table_insert(ev->table, &number, sizeof(number), &v, sizeof(v.s) + map_bytes);
		}
		if (err != -EEXIST)
			break;
	}
	if (err)
		return err;
	wake(ev, number);
	drop_old(ev, number);
	if (ret_number)
		*ret_number = number;
	return 0;
}

/* 0, -ENOENT, -FND_E_CORRUPT */
static int event_get(struct fnd_events *ev, uint64_t number, struct fnd_published *e)
{
	struct stored_max v;
	size_t bytes;
	int err = fnd_table_lookup(ev->table, &number, sizeof(number), &v, sizeof(v), &bytes);

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

int fnd_events_read(struct fnd_events *ev, uint64_t *cursor, int (*fn)(const struct fnd_published *e, void *arg),
		    void *arg, uint64_t *ret_missed)
{
	uint64_t head = head_look(ev), missed = 0, first;
	struct fnd_published *e = malloc(sizeof(*e));
	int err = e ? 0 : -ENOMEM;

	first = head > FND_EVENTS_MAX ? head - FND_EVENTS_MAX : 0;
	if (*cursor < first) {
		missed = *cursor ? first - *cursor : 0;
		*cursor = first;
	}
	while (!err && *cursor < head) {
		err = event_get(ev, *cursor + 1, e);
		++*cursor;
		if (err == -ENOENT) { /* gone meanwhile */
			missed++;
			err = 0;
			continue;
		}
		if (!err)
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
