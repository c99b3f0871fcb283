// SPDX-License-Identifier: MIT
/* The registry put right, and a ring of events with no room left: what others have left behind. */
#include <endian.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../../runtime/registry_internal.h"
#include "stores.h"

#define WRONG(...) (snprintf(wrong, sizeof(wrong), __VA_ARGS__), wrong)
#define KEPT 20u /* FND_EVENTS_KEPT of the library under test, and the places beyond */
#define BEYOND 4u
#define HEAD_LOST UINT64_C(1000000)

static char wrong[256];

static void must(int err, const char *what)
{
	if (err < 0) {
		fprintf(stderr, "stores: seed %llu: preparing: %s: %s [%s]\n", (unsigned long long)w.seed, what,
			fnd_strerror(err), fnd_error_detail());
		exit(2);
	}
}

/* --- the registry as somebody left it --------------------------------------------------------------- */

static void ensure_nothing(void)
{
}

static void ensure_dead(void)
{
	agents_states[AGENTS_STATES - 1].prepare();
}

static void indexed(void)
{
	agents_states[1].prepare();
	world_act(VICTIM);
}

/* A record that cannot be one. */
static void ensure_damaged(void)
{
	unsigned char bytes[60];

	indexed();
	memset(bytes, 0x5a, sizeof(bytes));
	must(fnd_table_upsert(w.registry->table, "agent", 5, bytes, sizeof(bytes)), "damage");
	world_act(FOUNDER);
}

static int drop_chunk(const struct fnd_record *r, void *arg)
{
	if (r->key_bytes > 6 && memcmp(r->key, "health", 6) == 0)
		must(fnd_table_delete(arg, r->key, r->key_bytes), "index");
	return 0;
}

/* The index has lost what it said. */
static void ensure_unindexed(void)
{
	indexed();
	must(fnd_table_iterate(w.registry->index, 0, drop_chunk, w.registry->index), "index");
	world_act(FOUNDER);
}

/* The index names what is not there any more. */
static void ensure_dangling(void)
{
	static const unsigned char map[] = "\x81\xa6health\xa2h3";

	indexed();
	for (unsigned int i = 0; i < 2; i++) {
		const char *name = i ? "other" : "agent";

		must(fnd_registry_register(w.registry, name, 0, map, sizeof(map) - 1, 0), name);
		must(fnd_table_delete(w.registry->table, name, 5), name);
	}
	world_time_pass(100000000000);
	world_act(FOUNDER);
}

const struct state ensure_states[ENSURE_STATES] = {
	{ "nothing", NULL, ensure_nothing },	 { "dead-owner", NULL, ensure_dead },
	{ "damaged", NULL, ensure_damaged },	 { "unindexed", NULL, ensure_unindexed },
	{ "dangling", NULL, ensure_dangling },
};

void about_ensure(void)
{
	if (w.registry)
		about_agents();
	else
		nobody_registered();
	w.passing_begin = "health"; /* a chunk of the index gets its names one by one */
}

int run_ensure(void)
{
	return fnd_registry_ensure(w.actor[VICTIM].seg, 8, NULL);
}

const char *check_ensured(const struct trial *t)
{
	struct fnd_registry_repair done;
	int err = fnd_registry_ensure(w.actor[t->rescuer].seg, 8, &done);

	if (err)
		return WRONG("a second one: %s [%s]", fnd_strerror(err), fnd_error_detail());
	return check_agents(t);
}

/* --- the ring --------------------------------------------------------------------------------------- */

static uint64_t head;

static struct fnd_table *ring(void)
{
	struct fnd_table *t;

	must(fnd_table_open(w.actor[VICTIM].seg, FND_EVENTS_TABLE, NULL, &t), "events");
	return t;
}

static void place(struct fnd_table *t, uint64_t number)
{
	unsigned char bytes[81] = { [12] = 1, [14] = 1, [16] = 'x', [80] = 0x80 }; /* "x", of an empty map */
	uint64_t key = htobe64(number);

	must(fnd_table_insert(t, &key, sizeof(key), bytes, sizeof(bytes)), "a stray event");
}

static void published(unsigned int n)
{
	agents_states[0].prepare();
	world_act(VICTIM);
	for (unsigned int i = 0; i < n; i++)
		must(fnd_event_publish(fnd_registry_events(w.registry), "test.before", NULL, 0, NULL), "publish");
	world_act(FOUNDER);
}

/* Publishers died before they took out the old ones. */
static void ring_behind(void)
{
	struct fnd_table *t;

	published(KEPT + 20);
	t = ring();
	for (uint64_t i = 1; i <= BEYOND; i++)
		place(t, i);
	fnd_table_close(t);
}

/* Numbers that cannot be. */
static void ring_ahead(void)
{
	struct fnd_table *t;

	published(KEPT);
	t = ring();
	for (uint64_t i = 1; i <= BEYOND; i++)
		place(t, HEAD_LOST + 2 * i);
	fnd_table_close(t);
}

/* The hint where to begin is lost. */
static void ring_lost(void)
{
	struct fnd_shm_runtime *area = fnd_segment_area(w.actor[VICTIM].seg);

	published(KEPT + 20);
	area->event_head = 0;
}

static void ring_read(void)
{
	ring_behind();
	reader_opens();
}

const struct state ring_states[RING_STATES] = {
	{ "behind", NULL, ring_behind },
	{ "ahead", NULL, ring_ahead },
	{ "hint-lost", NULL, ring_lost },
	{ "reader", NULL, ring_read },
};

void about_ring(void)
{
	struct fnd_shm_runtime *area = fnd_segment_area(w.actor[VICTIM].seg);
	uint64_t hint = area->event_head;

	head = fnd_events_head(fnd_registry_events(w.registry));
	area->event_head = hint;
	about_agents();
	area->event_head = hint;
}

int run_event_swept(void)
{
	return fnd_event_publish(fnd_registry_events(w.registry), "test.tick", NULL, 0, NULL);
}

struct heard {
	unsigned int before, ticks;
	uint64_t last;
	bool disorder;
};

static int hear(const struct fnd_published *e, void *arg)
{
	struct heard *h = arg;

	h->disorder |= e->number <= h->last;
	h->last = e->number;
	h->before += e->number <= head;
	h->ticks += strcmp(e->name, "test.tick") == 0;
	return 0;
}

/* The next one is published behind the last, once, and of those before only the oldest went. */
const char *check_ring(const struct trial *t)
{
	struct heard h = { 0 };
	uint64_t cursor = 0, missed, number = 0;
	struct fnd_events *ev;
	int err = fnd_events_open(w.actor[t->rescuer].seg, &ev);

	if (err)
		return WRONG("opening: %s [%s]", fnd_strerror(err), fnd_error_detail());
	err = fnd_event_publish(ev, "test.next", NULL, 0, &number);
	if (err == -FND_E_GARBAGE && w.reader_open)
		number = fnd_events_head(ev), err = 0;
	if (!err)
		err = fnd_events_read(ev, &cursor, hear, &h, &missed);
	fnd_events_close(ev);
	if (err)
		return WRONG("%s [%s]", fnd_strerror(err), fnd_error_detail());
	if (h.disorder || h.ticks > 1 || h.last != number || number < head || number > head + 2)
		return WRONG("%u ticks, the last is %llu after %llu%s", h.ticks, (unsigned long long)number,
			     (unsigned long long)head, h.disorder ? ", out of order" : "");
	return h.before + (unsigned int)(number - head) < KEPT ? WRONG("of %u events only %u are left", KEPT, h.before) :
								  NULL;
}
