// SPDX-License-Identifier: MIT
/* Events within one process: numbers, cursors, what is missed, repeats, damage. */
#include <foundation/events.h>

#include <criterion/criterion.h>
#include <endian.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <foundation/area.h>
#include <foundation/registry.h>

#include "../../runtime/area_layout.h"

static char name[FND_NAME_MAX];
static struct fnd_segment *seg;
static struct fnd_events *ev;

static void begin(void)
{
	static unsigned int count;
	struct fnd_segment_options o = { .size = sizeof(o), .processes = 4, .threads = 8, .max_bytes = 64u << 20,
					 .default_capacity = 64 };

	snprintf(name, sizeof(name), "test-events-%d-%u", (int)getpid(), count++);
	cr_assert_eq(fnd_segment_create(name, &o, &seg), 0);
	cr_assert_eq(fnd_events_open(seg, &ev), 0);
}

static void end(void)
{
	fnd_events_close(ev);
	cr_assert_eq(fnd_segment_detach(seg), 0);
	cr_assert_eq(fnd_segment_destroy(name, 0), 0);
}

struct seen {
	uint64_t count, first, last;
	char name[FND_EVENT_NAME_MAX + 1];
	size_t bytes;
	int stop_at;
};

static int see(const struct fnd_published *e, void *arg)
{
	struct seen *s = arg;

	cr_assert(s->count == 0 || e->number == s->last + 1 || s->stop_at < 0);
	if (s->count++ == 0)
		s->first = e->number;
	s->last = e->number;
	s->bytes = e->map_bytes;
	memcpy(s->name, e->name, sizeof(s->name));
	cr_assert_eq(e->pid, (uint32_t)getpid());
	cr_assert(e->at_ns > 0);
	return s->stop_at > 0 && s->count == (uint64_t)s->stop_at ? 7 : 0;
}

static void publish(uint64_t n)
{
	for (uint64_t i = 0; i < n; i++)
		cr_assert_eq(fnd_event_publish(ev, "test.tick", NULL, 0, NULL), 0);
}

Test(events, numbers_and_cursor)
{
	struct seen s = { 0 };
	uint64_t cursor = 0, missed = 9, number = 0;

	begin();
	cr_assert_eq(fnd_events_head(ev), 0);
	cr_assert_eq(fnd_events_read(ev, &cursor, see, &s, &missed), 0);
	cr_assert(s.count == 0 && cursor == 0 && missed == 0);
	cr_assert_eq(fnd_event_publish(ev, "flag.changed", "\x81\xa1k\x07", 4, &number), 0);
	cr_assert(number == 1 && fnd_events_head(ev) == 1);
	publish(4);
	s.stop_at = 2;
	cr_assert_eq(fnd_events_read(ev, &cursor, see, &s, &missed), 7);
	cr_assert(s.count == 2 && cursor == 2 && missed == 0);
	cr_assert_eq(fnd_events_read(ev, &cursor, see, &s, NULL), 0);
	cr_assert(s.count == 5 && s.first == 1 && s.last == 5 && cursor == 5);
	cr_assert(strcmp(s.name, "test.tick") == 0 && s.bytes == 1); /* the empty map */
	end();
}

/* Whoever is late is told how many he missed, exactly, from wherever he was. */
Test(events, missed_exactly)
{
	static const uint64_t at[] = { 0, 1, 2, 499, 500, 1499, 1500, 1501, 2500, 9999 };

	begin();
	publish(2500);
	for (size_t i = 0; i < sizeof(at) / sizeof(at[0]); i++) {
		uint64_t cursor = at[i], missed = 77, expected = at[i] < 1500 ? 1500 - at[i] : 0;
		struct seen s = { 0 };

		cr_assert_eq(fnd_events_read(ev, &cursor, see, &s, &missed), 0);
		cr_assert_eq(missed, expected, "from %llu: %llu", (unsigned long long)at[i], (unsigned long long)missed);
		cr_assert_eq(s.count, at[i] >= 2500 ? 0 : 2500 - (at[i] < 1500 ? 1500 : at[i]));
		cr_assert_eq(cursor, 2500);
	}
	end();
}

Test(events, refused)
{
	static const unsigned char large[FND_EVENT_BYTES_MAX + 1] = { 0x80 };
	char longest[FND_EVENT_NAME_MAX + 2];

	begin();
	memset(longest, 'a', sizeof(longest));
	longest[FND_EVENT_NAME_MAX + 1] = '\0';
	cr_assert_eq(fnd_event_publish(ev, longest, NULL, 0, NULL), -EINVAL);
	cr_assert_eq(fnd_event_publish(ev, "", NULL, 0, NULL), -EINVAL);
	cr_assert_eq(fnd_event_publish(ev, NULL, NULL, 0, NULL), -EINVAL);
	cr_assert_eq(fnd_event_publish(ev, "Agent.down", NULL, 0, NULL), -EINVAL);
	cr_assert_eq(fnd_event_publish(ev, "a b", NULL, 0, NULL), -EINVAL);
	cr_assert_eq(fnd_event_publish(ev, "a.b", large, sizeof(large), NULL), -E2BIG);
	cr_assert_eq(fnd_event_publish(ev, "a.b", "\x90", 1, NULL), -EINVAL);
	cr_assert_eq(fnd_event_publish(ev, "a.b", "\x81\xa1k", 3, NULL), -EINVAL);
	cr_assert_eq(fnd_event_publish(ev, "a.b", "\x80\x80", 2, NULL), -EINVAL);
	cr_assert_eq(fnd_event_publish(ev, "a.b", NULL, 3, NULL), -EINVAL);
	cr_assert_eq(fnd_events_head(ev), 0);
	longest[FND_EVENT_NAME_MAX] = '\0';
	cr_assert_eq(fnd_event_publish(ev, longest, NULL, 0, NULL), 0);
	end();
}

Test(events, waiting)
{
	begin();
	cr_assert_eq(fnd_events_wait(ev, 0, 0), -ETIMEDOUT);
	cr_assert_eq(fnd_events_wait(ev, 0, 30), -ETIMEDOUT);
	publish(1);
	cr_assert_eq(fnd_events_wait(ev, 0, 0), 0);
	cr_assert_eq(fnd_events_wait(ev, 1, 0), -ETIMEDOUT);
	end();
}

/* The hint may say anything; the records know. */
Test(events, damaged_hint)
{
	static const uint64_t hints[] = { 0, 1, 7, 1234, 5000, UINT64_MAX / 2, UINT64_MAX - 1 };
	struct fnd_shm_runtime *area;

	begin();
	area = fnd_segment_area(seg);
	publish(1200);
	for (size_t i = 0; i < sizeof(hints) / sizeof(hints[0]); i++) {
		struct seen s = { 0 };
		uint64_t cursor = 1190 + i, number = 0;

		area->event_head = hints[i];
		cr_assert_eq(fnd_event_publish(ev, "test.tick", NULL, 0, &number), 0);
		cr_assert_eq(number, 1201 + i, "hint %llu: %llu", (unsigned long long)hints[i],
			     (unsigned long long)number);
		cr_assert_eq(fnd_events_read(ev, &cursor, see, &s, NULL), 0);
		cr_assert(s.count == 11 && s.last == number);
	}
	end();
}

/* Publishers that died before they deleted what was old: the table never fills up. */
Test(events, room_is_found)
{
	uint64_t cursor, missed;
	struct fnd_table *t;
	struct seen s = { 0 };

	begin();
	publish(1500);
	cr_assert_eq(fnd_table_open(seg, FND_EVENTS_TABLE, NULL, &t), 0);
	for (uint64_t old = 1; old <= 200; old += 3) {
		uint64_t key = htobe64(old);

		fnd_table_upsert(t, &key, sizeof(key), "left behind", 11); /* not more than there is room for */
	}
	publish(300);
	cursor = 800;
	cr_assert_eq(fnd_events_read(ev, &cursor, see, &s, &missed), 0);
	cr_assert(s.count == 1000 && missed == 0);
	fnd_table_close(t);
	end();
}

static int ends(const struct fnd_published *e, void *arg)
{
	*(unsigned int *)arg += strcmp(e->name, "agent.down") == 0 || strcmp(e->name, "agent.gone") == 0;
	return 0;
}

/* The end of one name is handed out once, wherever the reader begins. */
Test(events, repeats_are_dropped)
{
	unsigned char map[] = { 0x83, 0xa4, 'n', 'a', 'm', 'e', 0xa1, 'x', 0xa3, 'p', 'i', 'd', 5,
				0xa6, 'c', 'h', 'a', 'n', 'g', 'e', 9 };
	unsigned int count = 0;
	uint64_t cursor = 0;

	begin();
	cr_assert_eq(fnd_event_publish(ev, "agent.down", map, sizeof(map), NULL), 0);
	publish(3);
	cr_assert_eq(fnd_event_publish(ev, "agent.down", map, sizeof(map), NULL), 0);
	map[sizeof(map) - 1] = 10; /* registered again since */
	cr_assert_eq(fnd_event_publish(ev, "agent.down", map, sizeof(map), NULL), 0);
	cr_assert_eq(fnd_events_read(ev, &cursor, ends, &count, NULL), 0);
	cr_assert_eq(count, 2);
	for (cursor = 1, count = 0; cursor < 4;) /* after the first: the second is a repeat all the same */
		cr_assert_eq(fnd_events_read(ev, &cursor, ends, &count, NULL), 0);
	cr_assert_eq(count, 1);
	cursor = 0; /* and back */
	count = 0;
	cr_assert_eq(fnd_events_read(ev, &cursor, ends, &count, NULL), 0);
	cr_assert_eq(count, 2);
	end();
}

/* A record nobody could have written. */
Test(events, hostile_record)
{
	uint64_t key = htobe64(1), cursor = 0;
	unsigned char bytes[96];
	struct fnd_table *t;
	struct seen s = { 0 };

	begin();
	cr_assert_eq(fnd_table_open(seg, FND_EVENTS_TABLE, NULL, &t), 0);
	memset(bytes, 0xff, sizeof(bytes));
	cr_assert_eq(fnd_table_insert(t, &key, sizeof(key), bytes, sizeof(bytes)), 0);
	cr_assert_eq(fnd_events_read(ev, &cursor, see, &s, NULL), -FND_E_CORRUPT);
	cr_assert_eq(cursor, 1); /* behind it: the next read goes on */
	publish(1);
	cr_assert_eq(fnd_events_read(ev, &cursor, see, &s, NULL), 0);
	cr_assert(s.count == 1 && s.last == 2);
	fnd_table_close(t);
	end();
}
