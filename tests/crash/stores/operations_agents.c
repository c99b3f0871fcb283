// SPDX-License-Identifier: MIT
/* The registry with its events and its index: states with room for both, operations, and what must hold. */
#include <foundation/events.h>
#include <foundation/query.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../../runtime/registry_internal.h"
#include "stores.h"

#define AGENTS 4
#define WRONG(...) (snprintf(wrong, sizeof(wrong), __VA_ARGS__), wrong)

static char wrong[256];
static const char *const agent[AGENTS] = { "agent", "other", "mine", "founder" };

static void must(int err, const char *what)
{
	if (err < 0) {
		fprintf(stderr, "stores: seed %llu: preparing: %s: %s [%s]\n", (unsigned long long)w.seed, what,
			fnd_strerror(err), fnd_error_detail());
		exit(2);
	}
}

/* {"health": "h<n>"} */
static void register_as(struct fnd_registry *reg, const char *name, unsigned int n)
{
	unsigned char map[] = { 0x81, 0xa6, 'h', 'e', 'a', 'l', 't', 'h', 0xa2, 'h', (unsigned char)('0' + n) };

	must(fnd_registry_register(reg, name, 0, map, sizeof(map), 0), name);
}

static struct fnd_registry *open_as(enum who who, bool indexed)
{
	static const char *const attributes[] = { "health" };
	struct fnd_registry_options o = { .size = sizeof(o), .capacity = 8, .attributes = attributes,
					  .nattributes = indexed };
	struct fnd_registry *reg;

	world_act(who);
	must(fnd_registry_open_with(w.actor[who].seg, &o, &reg), "registry");
	return reg;
}

static void others(bool indexed)
{
	struct fnd_registry *reg = open_as(FOUNDER, indexed);

	register_as(reg, "founder", 1);
	fnd_registry_close(reg);
}

static void victims_own(bool indexed)
{
	w.registry = open_as(VICTIM, indexed);
	register_as(w.registry, "mine", 1);
	world_act(FOUNDER);
}

static void agents_plain(void)
{
	others(false);
	victims_own(false);
}

static void agents_indexed(void)
{
	others(true);
	victims_own(true);
}

static void agents_of_dead(void)
{
	struct fnd_registry *reg;

	agents_indexed();
	world_join(DEAD_1, true);
	reg = open_as(DEAD_1, true);
	register_as(reg, "agent", 1);
	register_as(reg, "other", 2);
	fnd_registry_close(reg);
	world_die(DEAD_1);
	world_act(FOUNDER);
}

const struct state agents_states[AGENTS_STATES] = {
	{ "plain", NULL, agents_plain },
	{ "indexed", NULL, agents_indexed },
	{ "dead-owner", NULL, agents_of_dead },
};

void roomy(struct shape *s)
{
	s->max_bytes = 8u << 20;
}

static bool there[AGENTS]; /* before the operation */
static bool for_founder; /* the name lives on with its owner, or dies with who registers it */
static uint64_t events_before;

void nobody_registered(void)
{
	w.passing = "agent other mine";
	events_before = 0;
	memset(there, 0, sizeof(there));
}

void about_agents(void)
{
	w.passing = "agent other mine";
	world_act(FOUNDER);
	for_founder = world_draw() % 2;
	events_before = fnd_events_head(fnd_registry_events(w.registry));
	for (unsigned int i = 0; i < AGENTS; i++) {
		struct fnd_agent a;

		there[i] = fnd_registry_lookup(w.registry, agent[i], &a) == 0;
	}
}

int run_event_publish(void)
{
	return fnd_event_publish(fnd_registry_events(w.registry), "test.tick", NULL, 0, NULL);
}

int run_register_indexed(void)
{
	static const unsigned char map[] = "\x81\xa6health\xa2h1";

	return fnd_registry_register(w.registry, "agent", for_founder ? world_pid(FOUNDER) : 0, map, sizeof(map) - 1, 0);
}

int run_unregister_indexed(void)
{
	return fnd_registry_unregister(w.registry, "mine", 0);
}

int run_name_reap(void)
{
	return fnd_registry_reap(w.registry, NULL);
}

void agents_done(void)
{
	fnd_registry_close(w.registry);
	w.registry = NULL;
}

/* --- what must hold -------------------------------------------------------------------------------- */

struct tally {
	uint64_t last;
	unsigned int ends[AGENTS], ups[AGENTS];
	bool gap;
};

static int name_field(const struct fnd_field *f, void *arg)
{
	const char **name = arg;

	if (f->key_bytes == 4 && memcmp(f->key, "name", 4) == 0)
		for (unsigned int i = 0; i < AGENTS; i++)
			if (f->value.bytes == strlen(agent[i]) && memcmp(f->value.v.text, agent[i], f->value.bytes) == 0)
				*name = agent[i];
	return 0;
}

static int tally(const struct fnd_published *e, void *arg)
{
	const char *name = NULL;
	struct tally *t = arg;

	t->gap |= e->number <= t->last;
	t->last = e->number;
	fnd_map_iterate(e->map, e->map_bytes, name_field, &name);
	for (unsigned int i = 0; i < AGENTS && name; i++) {
		if (name != agent[i])
			continue;
		t->ends[i] += strcmp(e->name, "agent.down") == 0 || strcmp(e->name, "agent.gone") == 0;
		t->ups[i] += strcmp(e->name, "agent.up") == 0;
	}
	return 0;
}

static int unmarked(const struct fnd_record *r, void *arg)
{
	struct fnd_shm_agent_max v;

	(void)arg;
	return fnd_agent_read(r->value, r->value_bytes, &v) || v.e.owner.reserved || v.e.reserved ? 1 : 0;
}

static int count_one(const char *name, const struct fnd_agent *a, void *arg)
{
	(void)name, (void)a;
	++*(int *)arg;
	return 0;
}

/* By somebody who opens, reaps and looks: all is told, nothing is half done, the index says what a scan says. */
static const char *check_reaped(struct fnd_registry *reg)
{
	static const struct fnd_value h1 = { .type = FND_VALUE_STR, .bytes = 2, .v.text = "h1" };
	const struct fnd_criterion c = { .attribute = "health", .nvalues = 1, .values = &h1 };
	struct tally t = { 0 };
	uint64_t cursor = events_before, missed;
	int found = 0, scanned = 0;

	t.last = events_before;
	if (fnd_registry_reap(reg, NULL))
		return WRONG("reap: %s", fnd_error_detail());
	if (fnd_table_iterate(reg->table, 0, unmarked, NULL))
		return WRONG("a record is marked, or damaged, after all have been reaped");
	if (fnd_events_read(reg->events, &cursor, tally, &t, &missed) || missed || t.gap)
		return WRONG("events: %s", fnd_error_detail());
	for (unsigned int i = 0; i < AGENTS; i++) {
		struct fnd_agent a;
		bool now = fnd_registry_lookup(reg, agent[i], &a) == 0;

		if (there[i] + t.ups[i] != now + t.ends[i])
			return WRONG("%s: there before %d, ups %u, ends %u, there now %d", agent[i], there[i], t.ups[i],
				     t.ends[i], now);
	}
	fnd_registry_find(reg, "health", &h1, count_one, &found);
	reg->nindexed = 0; /* this handle scans from here on */
	fnd_registry_query(reg, &c, 1, count_one, &scanned);
	return found == scanned ? NULL : WRONG("found %d, there are %d", found, scanned);
}

const char *check_agents(const struct trial *t)
{
	struct fnd_registry *reg;
	const char *err;

	if (fnd_registry_open(w.actor[t->rescuer].seg, 0, &reg))
		return WRONG("open: %s", fnd_error_detail());
	err = reg->events ? check_reaped(reg) : WRONG("no events");
	fnd_registry_close(reg);
	return err;
}
