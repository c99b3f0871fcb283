// SPDX-License-Identifier: MIT
/*
 * What the facade says about itself: clashes, refusals, and each worker's figures.
 *
 * Both tables are for people and tools; where they cannot be made or are full, the facade goes on and the
 * events still say it.
 */
#define _GNU_SOURCE
#include "facade.h"

#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#define CLASHES_TABLE "registry.clashes"
#define WORKERS_TABLE "registry.workers"
/* The crash tests, which look at all of a table in every state, have smaller ones. */
#ifndef FND_FACADE_RECORDS
#define CLASHES 1024u
#define WORKERS 256u
#else
#define CLASHES FND_FACADE_RECORDS
#define WORKERS FND_FACADE_RECORDS
#endif

struct clash_key {
	uint64_t name[2]; /* XXH3-128 */
	uint32_t slot, generation;
};

/* Begins with its owner: the records of the dead can be told. */
struct clash_record {
	struct fnd_owner loser;
	struct fnd_owner holder;
	uint64_t at_ns;
	uint32_t name_bytes;
	uint32_t reserved;
	char name[FND_AGENT_NAME_MAX + 1];
};

_Static_assert(sizeof(struct clash_record) == 304, "part of the segment's format");
_Static_assert(sizeof(struct fnd_worker_state) == 88, "part of the segment's format");

uint64_t fnd_facade_now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_REALTIME, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

/* --- events --------------------------------------------------------------------------------------- */

struct map {
	unsigned char bytes[FND_EVENT_BYTES_MAX];
	size_t used;
};

/* Everything that is written here is shorter than the map by construction: see the callers. */
static void put_text(struct map *m, const char *text)
{
	size_t n = strlen(text) < 255 ? strlen(text) : 255;

	m->bytes[m->used++] = 0xd9; /* str 8 */
	m->bytes[m->used++] = (unsigned char)n;
	memcpy(m->bytes + m->used, text, n);
	m->used += n;
}

static void put_u32(struct map *m, const char *key, uint32_t v)
{
	put_text(m, key);
	m->bytes[m->used++] = 0xce;
	for (int shift = 24; shift >= 0; shift -= 8)
		m->bytes[m->used++] = (unsigned char)(v >> shift);
}

static void put_owner(struct map *m, const char *key, const struct fnd_owner *o)
{
	put_text(m, key);
	m->bytes[m->used++] = 0x83;
	put_u32(m, "pid", o->pid);
	put_u32(m, "slot", o->slot);
	put_u32(m, "generation", o->generation);
}

/* --- clashes -------------------------------------------------------------------------------------- */

static void clash_key(const struct fnd_runtime *rt, const char *name, struct clash_key *k)
{
	XXH128_hash_t h = XXH3_128bits(name, strlen(name));

	k->name[0] = h.low64;
	k->name[1] = h.high64;
	k->slot = rt->self.slot;
	k->generation = rt->self.generation;
}

static int clashes_open(struct fnd_runtime *rt, bool make, struct fnd_table **ret)
{
	struct fnd_table_options opt = { .size = sizeof(opt),
					 .flags = FND_TABLE_OWNED,
					 .key_max = sizeof(struct clash_key),
					 .value_max = sizeof(struct clash_record),
					 .capacity = CLASHES };

	return fnd_table_open(rt->seg, CLASHES_TABLE, make ? &opt : NULL, ret);
}

void fnd_facade_clash(struct fnd_runtime *rt, const char *name, const struct fnd_owner *holder)
{
	struct clash_record r = { .loser = rt->self, .holder = *holder, .at_ns = fnd_facade_now() };
	struct map m = { .bytes = { 0x83 }, .used = 1 };
	struct fnd_table *t;
	struct clash_key k;

	fnd_facade_count(rt, FND_FACADE_CLASHES, 1);
	r.name_bytes = (uint32_t)strlen(name);
	memcpy(r.name, name, r.name_bytes);
	clash_key(rt, name, &k);
#ifndef FND_MUTANT_CLASH_TOLD_FIRST
	if (clashes_open(rt, true, &t) == 0) {
		fnd_table_upsert(t, &k, sizeof(k), &r, sizeof(r));
		fnd_table_close(t);
	}
#endif
	put_text(&m, "name");
	put_text(&m, name);
	put_owner(&m, "loser", &r.loser);
	put_owner(&m, "holder", &r.holder);
	if (rt->events)
		fnd_event_publish(rt->events, "registry.conflict", m.bytes, m.used, NULL);
#ifdef FND_MUTANT_CLASH_TOLD_FIRST
	if (clashes_open(rt, true, &t) == 0) {
		fnd_table_upsert(t, &k, sizeof(k), &r, sizeof(r));
		fnd_table_close(t);
	}
#endif
}

void fnd_facade_clash_over(struct fnd_runtime *rt, const char *name)
{
	struct fnd_table *t;
	struct clash_key k;

	clash_key(rt, name, &k);
	if (clashes_open(rt, false, &t) == 0) {
		fnd_table_delete(t, &k, sizeof(k));
		fnd_table_close(t);
	}
}

struct clash_walk {
	struct fnd_runtime *rt;
	struct fnd_table *table;
	int (*fn)(const struct fnd_clash *c, void *arg);
	void *arg;
};

/* The kernel is asked: a record of the dead is nobody's clash any more. */
static bool gone(struct fnd_runtime *rt, const struct fnd_owner *o)
{
	struct fnd_participant p = { .pid = o->pid, .slot = o->slot, .generation = o->generation };

	return fnd_participant_dead(rt->seg, &p);
}

static int clash_one(const struct fnd_record *rec, void *arg)
{
	struct clash_walk *w = arg;
	struct clash_record r;
	struct fnd_clash c;

	if (rec->value_bytes != sizeof(r))
		return 0;
	memcpy(&r, rec->value, sizeof(r));
	if (r.name_bytes > FND_AGENT_NAME_MAX)
		return 0;
	if (gone(w->rt, &r.loser)) {
		fnd_table_delete(w->table, rec->key, rec->key_bytes);
		return 0;
	}
	r.name[r.name_bytes] = '\0';
	c = (struct fnd_clash){ .name = r.name, .loser = r.loser, .holder = r.holder, .at_ns = r.at_ns };
	return w->fn(&c, w->arg);
}

int fnd_runtime_clashes(struct fnd_runtime *rt, int (*fn)(const struct fnd_clash *c, void *arg), void *arg)
{
	struct clash_walk w = { .rt = rt, .fn = fn, .arg = arg };
	int err = clashes_open(rt, false, &w.table);

	if (err)
		return err == -ENOENT ? 0 : err;
	err = fnd_table_iterate(w.table, 0, clash_one, &w);
	fnd_table_close(w.table);
	return err;
}

/* --- refusals ------------------------------------------------------------------------------------- */

/* Is this the first refusal at this call site? With all places taken: no. */
static bool first_at(struct fnd_runtime *rt, uintptr_t site)
{
	for (unsigned int i = 0; i < FND_CALL_SITES; i++) {
		uintptr_t seen = __atomic_load_n(&rt->site[i], __ATOMIC_RELAXED); /* relaxed: a set, no memory behind */

		if (seen == 0 && __atomic_compare_exchange_n(&rt->site[i], &seen, site, 0, __ATOMIC_RELAXED,
							     __ATOMIC_RELAXED)) /* relaxed: as above */
			return true;
		if (seen == site)
			return false;
	}
	return false;
}

int fnd_facade_refuse(struct fnd_runtime *rt, const char *call, const char *name, const void *site)
{
	struct map m = { .bytes = { 0x84 }, .used = 1 };
	char where[200];
	Dl_info info;

	fnd_facade_count(rt, FND_FACADE_REFUSED, 1);
	fnd_counter_add(rt->seg, FND_COUNTER_REFUSED, 1);
	if (first_at(rt, (uintptr_t)site)) {
		if (dladdr(site, &info) && info.dli_fname)
			snprintf(where, sizeof(where), "%s+%#zx", info.dli_fname,
				 (size_t)((const char *)site - (const char *)info.dli_fbase));
		else
			snprintf(where, sizeof(where), "%p", site);
		put_text(&m, "call");
		put_text(&m, call);
		put_text(&m, "name");
		put_text(&m, name);
		put_text(&m, "site");
		put_text(&m, where);
		put_u32(&m, "pid", rt->self.pid);
		if (rt->events)
			fnd_event_publish(rt->events, "state.refused", m.bytes, m.used, NULL);
	}
	return fnd_error_set(EPERM, "%s of %.100s: enforce_shared_state is on and shared_registry off", call, name);
}

/* --- figures -------------------------------------------------------------------------------------- */

int fnd_runtime_state(struct fnd_runtime *rt, struct fnd_worker_state *ret_state)
{
	struct fnd_worker_state s = { .owner = rt->self, .at_ns = fnd_facade_now() };
	uint64_t *const to[FND_FACADE_COUNTERS] = {
		[FND_FACADE_UNCOMMON] = &s.uncommon, [FND_FACADE_CLASHES] = &s.clashes,
		[FND_FACADE_REFUSED] = &s.refused,   [FND_FACADE_CARRIED] = &s.carried,
		[FND_FACADE_STALE] = &s.stale,	     [FND_FACADE_RECONCILED] = &s.reconciled,
	};
	uint64_t all[2];

	for (unsigned int i = 0; i < FND_FACADE_COUNTERS; i++)
		*to[i] = __atomic_load_n(&rt->counter[i], __ATOMIC_RELAXED); /* relaxed: figures */
	fnd_private_count(rt->priv, all);
	s.names = all[0];
	s.published = all[1];
	*ret_state = s;
	return 0;
}

static int workers_open(struct fnd_runtime *rt, bool make, struct fnd_table **ret)
{
	struct fnd_table_options opt = { .size = sizeof(opt),
					 .flags = FND_TABLE_OWNED,
					 .key_max = sizeof(uint32_t),
					 .value_max = sizeof(struct fnd_worker_state),
					 .capacity = WORKERS };

	return fnd_table_open(rt->seg, WORKERS_TABLE, make ? &opt : NULL, ret);
}

/* One record a participant slot: the next in the slot writes over what a dead one left. */
void fnd_facade_report(struct fnd_runtime *rt)
{
	struct fnd_worker_state s;

	if (!rt->workers && workers_open(rt, true, &rt->workers) != 0)
		rt->workers = NULL;
	if (rt->workers && fnd_runtime_state(rt, &s) == 0)
		fnd_table_upsert(rt->workers, &rt->self.slot, sizeof(rt->self.slot), &s, sizeof(s));
}

struct worker_walk {
	struct fnd_runtime *rt;
	int (*fn)(const struct fnd_worker_state *s, void *arg);
	void *arg;
};

static int worker_one(const struct fnd_record *rec, void *arg)
{
	struct worker_walk *w = arg;
	struct fnd_worker_state s;

	if (rec->value_bytes != sizeof(s))
		return 0;
	memcpy(&s, rec->value, sizeof(s));
	return gone(w->rt, &s.owner) ? 0 : w->fn(&s, w->arg);
}

int fnd_runtime_workers(struct fnd_runtime *rt, int (*fn)(const struct fnd_worker_state *w, void *arg), void *arg)
{
	struct worker_walk w = { .rt = rt, .fn = fn, .arg = arg };
	struct fnd_table *t;
	int err = workers_open(rt, false, &t);

	if (err)
		return err == -ENOENT ? 0 : err;
	err = fnd_table_iterate(t, 0, worker_one, &w);
	fnd_table_close(t);
	return err;
}
