// SPDX-License-Identifier: MIT
/*
 * The registry's facade: calls that write to both backends, and the flip.
 *
 * What is private dies with its process; here the segment's side of each call is looked at. There is one
 * thread, so liburcu's grace periods are over at once: that calls in flight are waited for is shown by
 * tests/multiproc/test_flip.c and tests/models/flip.pml.
 */
#include <foundation/events.h>
#include <foundation/runtime.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "stores.h"

#define WRONG(...) (snprintf(wrong, sizeof(wrong), __VA_ARGS__), wrong)

static struct fnd_runtime *rt;
static uint64_t events_from;
static char wrong[300];
static const unsigned char map[] = "\x81\xa6health\xa2h1", other_map[] = "\x81\xa6health\xa2h2";

static void must(int err, const char *what)
{
	if (err < 0) {
		fprintf(stderr, "stores: seed %llu: preparing: %s: %s [%s]\n", (unsigned long long)w.seed, what,
			fnd_strerror(err), fnd_error_detail());
		exit(2);
	}
}

/* --- states --------------------------------------------------------------------------------------- */

/* What the flags say, and the victim has met. */
static void flags_to(unsigned int monitoring, unsigned int shared, unsigned int enforce)
{
	const struct fnd_flag_change to[] = { { FND_FLAG_MIGRATION_MONITORING, monitoring },
					      { FND_FLAG_SHARED_REGISTRY, shared },
					      { FND_FLAG_ENFORCE_SHARED_STATE, enforce } };

	must(fnd_flags_change(fnd_runtime_flags(rt), to, 3, -1, NULL), "flags");
}

static void met(void)
{
	fnd_agent_lookup(rt, "nobody", NULL, NULL);
}

static void registered(const char *name)
{
	must(fnd_agent_register(rt, name, 0, map, sizeof(map) - 1, 0), name);
}

/* Whoever it is holds the name in the shared registry. */
static void held_by(enum who who, const char *name)
{
	struct fnd_registry *reg;

	world_act(who);
	must(fnd_registry_open(w.actor[who].seg, 8, &reg), "registry");
	must(fnd_registry_register(reg, name, 0, map, sizeof(map) - 1, 0), name);
	fnd_registry_close(reg);
}

static int runtime_opened(void)
{
	const struct fnd_runtime_options o = { .size = sizeof(o), .registry_capacity = 8 };

	setenv("FOUNDATION_STATE_DIR", "/proc/no-such-place", 1);
	world_act(VICTIM);
	return fnd_runtime_open(w.actor[VICTIM].seg, &o, &rt);
}

static void worker(unsigned int monitoring, unsigned int shared)
{
	must(runtime_opened(), "runtime");
	if (monitoring || shared)
		flags_to(monitoring, shared, 0);
	registered("mine");
}

static void facade_private(void)
{
	worker(0, 0);
	world_act(FOUNDER);
}

static void facade_dual(void)
{
	worker(100, 0);
	world_act(FOUNDER);
}

static void facade_shared(void)
{
	worker(world_draw() % 2 ? 100 : 0, 100);
	world_act(FOUNDER);
}

static void facade_dead_holder(void)
{
	worker(100, 0);
	world_join(DEAD_1, true);
	held_by(DEAD_1, "agent");
	held_by(DEAD_1, "other");
	world_die(DEAD_1);
	world_act(FOUNDER);
}

static void facade_clash(void)
{
	worker(100, 0);
	held_by(FOUNDER, "agent");
	held_by(FOUNDER, "other");
	world_act(VICTIM);
	registered("other"); /* this one has clashed already */
	world_act(FOUNDER);
}

const struct state facade_states[FACADE_STATES] = {
	{ "private", NULL, facade_private }, { "dual", NULL, facade_dual },   { "shared", NULL, facade_shared },
	{ "dead-holder", NULL, facade_dead_holder }, { "clash", NULL, facade_clash },
};

/* --- the last step before -------------------------------------------------------------------------- */

/* The world as the operation finds it. */
static void looked(void)
{
	w.registry = fnd_runtime_registry(rt);
	about_agents();
	world_act(FOUNDER);
	events_from = fnd_events_head(fnd_runtime_events(rt));
}

/* A call that writes to both: where nothing is shared yet, it meets the new flags first. */
void about_facade(void)
{
	world_act(VICTIM);
	if (fnd_flag_percent(fnd_runtime_flags(rt), FND_FLAG_SHARED_REGISTRY) == 0)
		flags_to(100, 0, 0);
	looked();
}

/* One that changes what is shared already: a name that came and went would be in no state before or after. */
void about_common(void)
{
	about_facade();
	world_act(VICTIM);
	met();
	looked();
}

/* Names that nobody else knows: one that was common once, and one that never was. */
void about_publish(void)
{
	world_act(VICTIM);
	flags_to(0, 0, 0);
	met();
	must(fnd_agent_update(rt, "mine", other_map, sizeof(other_map) - 1), "update");
	registered("agent");
	flags_to(world_draw() % 2 ? 100 : 0, 100, 0);
	looked();
}

/* Names that somebody registered for the victim, and that it has no copy of. */
void about_pull(void)
{
	struct fnd_registry *reg;

	world_act(VICTIM);
	flags_to(100, 100, 0);
	met();
	world_act(FOUNDER);
	must(fnd_registry_open(w.actor[FOUNDER].seg, 8, &reg), "registry");
	fnd_registry_register(reg, "agent", world_pid(VICTIM), map, sizeof(map) - 1, 0);
	fnd_registry_register(reg, "founder", world_pid(VICTIM), map, sizeof(map) - 1, 0);
	must(fnd_registry_reap(reg, NULL), "reap");
	fnd_registry_close(reg);
	world_act(VICTIM);
	flags_to(0, 0, 0);
	looked();
}

void about_refusal(void)
{
	world_act(VICTIM);
	flags_to(100, 0, 100);
	met();
	looked();
}

/* --- operations ------------------------------------------------------------------------------------ */

int run_facade_register(void)
{
	return fnd_agent_register(rt, "agent", 0, other_map, sizeof(other_map) - 1, 0);
}

int run_facade_unregister(void)
{
	return fnd_agent_unregister(rt, w.random % 2 ? "mine" : "other", 0);
}

int run_facade_update(void)
{
	return fnd_agent_update(rt, "mine", other_map, sizeof(other_map) - 1);
}

int run_meet(void)
{
	return fnd_agent_lookup(rt, "mine", NULL, NULL);
}

int run_refused(void)
{
	return fnd_agent_register(rt, "agent", 0, map, sizeof(map) - 1, 0) == -EPERM ? 0 : -EIO;
}

int run_runtime_close(void)
{
	fnd_runtime_close(rt);
	rt = NULL;
	w.registry = NULL;
	return 0;
}

int run_runtime_open(void)
{
	return runtime_opened();
}

void facade_done(void)
{
	run_runtime_close();
}

/* --- what must hold -------------------------------------------------------------------------------- */

#define CLASHES_MAX 4

struct clashes {
	struct fnd_table *table;
	unsigned int raised;
	char name[CLASHES_MAX][16];
	const char *err;
};

/* As far as it matters here: the record of a clash begins with its loser, its name is at a fixed place. */
struct clash_record {
	struct fnd_owner loser, holder;
	uint64_t at_ns;
	uint32_t name_bytes, reserved;
	char name[];
};

static int clash_is(const struct fnd_record *r, void *arg)
{
	const struct clash_record *c = r->value;
	const char *name = arg;

	return r->value_bytes > sizeof(*c) && c->loser.pid == world_pid(VICTIM) && c->name_bytes == strlen(name) &&
	       memcmp(c->name, name, c->name_bytes) == 0;
}

static int name_of(const struct fnd_field *f, void *arg)
{
	char *name = arg;

	if (f->key_bytes == 4 && memcmp(f->key, "name", 4) == 0 && f->value.bytes < 16)
		memcpy(name, f->value.v.text, f->value.bytes);
	return 0;
}

/* A clash is raised once, and is in the list by then. */
static int clash_told(const struct fnd_published *e, void *arg)
{
	struct clashes *c = arg;
	char *name = c->name[c->raised % CLASHES_MAX];

	if (strcmp(e->name, "registry.conflict") != 0)
		return 0;
	fnd_map_iterate(e->map, e->map_bytes, name_of, name);
	for (unsigned int i = 0; i < c->raised; i++)
		if (strcmp(c->name[i], name) == 0)
			c->err = "a clash was raised twice";
	if (++c->raised > 2 || !c->table || fnd_table_iterate(c->table, 0, clash_is, name) != 1)
		c->err = "a clash was raised that is not in the list";
	return c->err != NULL;
}

static const char *check_clashes(struct fnd_segment *seg)
{
	struct clashes c = { 0 };
	uint64_t cursor = events_from, missed;
	struct fnd_events *ev;

	if (fnd_events_open(seg, &ev))
		return "the events cannot be opened";
	if (fnd_table_open(seg, "registry.clashes", NULL, &c.table))
		c.table = NULL;
	if (fnd_events_read(ev, &cursor, clash_told, &c, &missed) < 0)
		c.err = "the events cannot be read";
	fnd_table_close(c.table);
	fnd_events_close(ev);
	return c.err;
}

struct owned {
	unsigned int n;
};

static int victims(const struct fnd_record *r, void *arg)
{
	const struct fnd_owner *o = r->value;

	((struct owned *)arg)->n += r->value_bytes >= sizeof(*o) && o->pid == world_pid(VICTIM);
	return 0;
}

/* What a worker says is published is: its report comes last. */
static const char *check_report(struct fnd_segment *seg)
{
	const uint32_t slot = w.actor[VICTIM].seg->self_slot;
	struct fnd_table *workers, *agents;
	struct fnd_worker_state s = { 0 };
	struct owned has = { 0 };
	size_t bytes;

	if (fnd_table_open(seg, FND_REGISTRY_TABLE, NULL, &agents))
		return "no registry";
	fnd_table_iterate(agents, 0, victims, &has);
	fnd_table_close(agents);
	if (fnd_table_open(seg, "registry.workers", NULL, &workers))
		return NULL;
	fnd_table_lookup(workers, &slot, sizeof(slot), &s, sizeof(s), &bytes);
	fnd_table_close(workers);
	if (s.owner.pid == world_pid(VICTIM) && s.published > has.n)
		return WRONG("%llu names are said to be published, %u are", (unsigned long long)s.published, has.n);
	return NULL;
}

const char *check_facade(const struct trial *t)
{
	const char *err = check_clashes(w.actor[t->rescuer].seg);

	return err ? err : check_agents(t);
}

const char *check_flip(const struct trial *t)
{
	const char *err = check_report(w.actor[t->rescuer].seg);

	return err ? err : check_facade(t);
}

/* Whoever opens after a death in opening has everything. */
const char *check_opened(const struct trial *t)
{
	const struct fnd_runtime_options o = { .size = sizeof(o), .registry_capacity = 8 };
	struct fnd_runtime *mine;
	int err = fnd_runtime_open(w.actor[t->rescuer].seg, &o, &mine);

	if (err)
		return WRONG("opening: %s [%s]", fnd_strerror(err), fnd_error_detail());
	if (!fnd_runtime_events(mine) || !fnd_runtime_registry(mine))
		err = -1;
	if (!err)
		err = fnd_agent_register(mine, "agent", 0, map, sizeof(map) - 1, 0);
	fnd_runtime_close(mine);
	return err ? WRONG("what was opened does not work: %d [%s]", err, fnd_error_detail()) : NULL;
}
