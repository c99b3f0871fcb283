// SPDX-License-Identifier: MIT
/*
 * Names that leave, and what is said of changes.
 *
 * Removing: mark, tell, delete. A mark is added in place under the shard's lock, so of all who want to remove a
 * record one goes on; the others leave it to that one for as long as it lives. Telling comes before deleting, so
 * a kill in between is made good by the next reaper, who finds the mark; what it says again is dropped by readers
 * of events. Who cannot wait, as it wants the name for itself, does the same beside a living remover.
 */
#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>

#include "mp.h"
#include "registry_internal.h"

#define REAPER_WAIT_US 200
#define REAPER_WAITS 250 /* in one walk: 50 ms for reapers that are between proof and note */

bool fnd_agent_process_gone(struct fnd_registry *reg, uint32_t pid)
{
	struct fnd_participant p;

	return pid == 0 || fnd_segment_participant(reg->seg, pid, &p) == -ESRCH;
}

/* Changes one of the two marks of the value at hand, under the shard's lock. */
static void mark_set(const void *value, size_t bytes, size_t word, uint32_t from, uint32_t to)
{
	struct fnd_view v = { value, bytes };

	/* the upper half of a cell: what is added carries nowhere. [TB-2] */
	fnd_view_add(&v, word & ~(size_t)7, (uint64_t)(uint32_t)(to - from) << 32);
}

#define LEAVING_WORD offsetof(struct fnd_shm_agent, owner.reserved)
#define PENDING_WORD offsetof(struct fnd_shm_agent, reserved)
_Static_assert(LEAVING_WORD % 8 == 4 && PENDING_WORD % 8 == 4, "upper halves of cells");

/* --- how an owner ended ---------------------------------------------------------------------------- */

static int note_context(const struct fnd_remains *r, void *arg)
{
	struct fnd_ending *e = arg;
	struct fnd_context_view *view;
	struct fnd_mp_writer w;
	int err;

	if (r->pid != e->owner.pid || r->slot != e->owner.slot || r->generation != e->owner.generation)
		return 0;
	if (e->contexts == FND_DEATH_CONTEXTS)
		return 1;
	view = malloc(sizeof(*view));
	if (!view)
		return 1;
	err = fnd_context_decode_area(r->area, sizeof(r->area), view);
	w = (struct fnd_mp_writer){ e->context[e->contexts].map, FND_DEATH_CONTEXT_BYTES, 0, 0 };
	fnd_mp_put_map(&w, !err && view->map_bytes <= FND_DEATH_CONTEXT_BYTES - 64 ? 3 : 2);
	fnd_mp_put_str(&w, "remains", 7);
	fnd_mp_put_uint(&w, r->number);
	fnd_mp_put_str(&w, "tid", 3);
	fnd_mp_put_uint(&w, r->tid);
	if (!err && view->map_bytes <= FND_DEATH_CONTEXT_BYTES - 64) {
		fnd_mp_put_str(&w, "context", 7);
		fnd_mp_put(&w, view->map, view->map_bytes);
	}
	free(view);
	e->context[e->contexts].bytes = w.used;
	e->contexts += !w.full;
	return 0;
}

/* A reaper that has proven the death, and not noted it yet, is waited for; @waits is what is left of that. */
static int death_look(struct fnd_registry *reg, const struct fnd_owner *o, struct fnd_death *d, unsigned int *waits)
{
	struct fnd_participant p = { .pid = o->pid, .slot = o->slot, .generation = o->generation };
	struct timespec ts = { 0, REAPER_WAIT_US * 1000 };
	int err;

	for (;;) {
		if (fnd_participant_active(reg->seg, &p))
			fnd_segment_reap(reg->seg, NULL);
		err = fnd_participant_death(reg->seg, &p, d);
		if (err || d->found_ns || *waits == 0)
			return err;
		nanosleep(&ts, NULL);
		fnd_segment_reap(reg->seg, NULL);
		--*waits;
	}
}

static void ending_look(struct fnd_registry *reg, const struct fnd_owner *o, struct fnd_ending *e, unsigned int *waits)
{
	struct fnd_death d;

	e->owner = *o;
	e->owner.reserved = 0;
	e->reason = "unknown";
	e->status = -1;
	e->contexts = 0;
	if (death_look(reg, o, &d, waits) == 0 && d.known) {
		if (WIFEXITED(d.status)) {
			e->reason = "exit";
			e->status = WEXITSTATUS(d.status);
		} else if (WIFSIGNALED(d.status)) {
			e->reason = "signal";
			e->status = WTERMSIG(d.status);
		}
	}
	fnd_remains_iterate(reg->seg, note_context, e, NULL);
}

/* --- telling --------------------------------------------------------------------------------------- */

static void put_number(struct fnd_mp_writer *w, const char *key, uint64_t v)
{
	fnd_mp_put_str(w, key, strlen(key));
	fnd_mp_put_uint(w, v);
}

/* What every event of an agent says: 7 pairs. */
static void put_agent(struct fnd_mp_writer *w, const void *name, size_t n, const struct fnd_shm_agent_max *v)
{
	static const unsigned char empty = 0x80;

	fnd_mp_put_str(w, "name", 4);
	fnd_mp_put_str(w, name, n);
	put_number(w, "pid", v->e.owner.pid);
	put_number(w, "slot", v->e.owner.slot);
	put_number(w, "generation", v->e.owner.generation);
	put_number(w, "registered", v->e.registered_ns);
	put_number(w, "change", v->e.generation);
	fnd_mp_put_str(w, "metadata", 8);
	if (v->e.metadata_bytes && fnd_mp_skip(v->metadata, v->e.metadata_bytes) == v->e.metadata_bytes)
		fnd_mp_put(w, v->metadata, v->e.metadata_bytes);
	else
		fnd_mp_put(w, &empty, 1);
}

static void put_ending(struct fnd_mp_writer *w, const struct fnd_ending *e)
{
	unsigned int fit = 0;
	size_t room = w->size - w->used - 64; /* what else is written here is less */

	for (size_t sum = 0; fit < e->contexts && sum + e->context[fit].bytes <= room; fit++)
		sum += e->context[fit].bytes;
	fnd_mp_put_str(w, "reason", 6);
	fnd_mp_put_str(w, e->reason, strlen(e->reason));
	if (e->status >= 0)
		put_number(w, "status", (uint64_t)e->status);
	fnd_mp_put_str(w, "contexts", 8);
	fnd_mp_put_array(w, fit);
	for (unsigned int i = 0; i < fit; i++)
		fnd_mp_put(w, e->context[i].map, e->context[i].bytes);
}

static int tell(struct fnd_registry *reg, const char *event, const struct fnd_mp_writer *w)
{
	if (w->full)
		return -E2BIG;
	return fnd_event_publish(reg->events, event, w->buf, w->used, NULL);
}

static int tell_leaving(struct fnd_registry *reg, const void *name, size_t n, const struct fnd_shm_agent_max *v,
			const struct fnd_ending *e)
{
	unsigned char buf[FND_EVENT_BYTES_MAX];
	struct fnd_mp_writer w = { buf, sizeof(buf), 0, 0 };

	if (!reg->events)
		return 0;
	fnd_mp_put_map(&w, e ? 9 + (e->status >= 0) : 7);
	put_agent(&w, name, n, v);
	if (e)
		put_ending(&w, e);
	return tell(reg, e ? "agent.down" : "agent.gone", &w);
}

/* Another mark for the one that is there, in one of the two words. */
struct remark {
	uint64_t generation;
	uint32_t from, to;
	size_t word;
};

static enum fnd_modify remark(void *arg, const void *old, size_t old_bytes, const void **new_value,
			      size_t *new_bytes)
{
	const struct remark *m = arg;
	struct fnd_shm_agent_max v;
	uint32_t now;

	(void)new_value, (void)new_bytes;
	if (!old || fnd_agent_read(old, old_bytes, &v) || v.e.generation != m->generation)
		return FND_MODIFY_KEEP;
	now = m->word == PENDING_WORD ? v.e.reserved : v.e.owner.reserved;
	if (now == m->from)
		mark_set(old, old_bytes, m->word, m->from, m->to);
	return FND_MODIFY_KEEP;
}

/* When it cannot be told now, the mark becomes nobody's: the next reap tells. */
void fnd_agent_announce(struct fnd_registry *reg, const void *name, size_t n, const struct fnd_shm_agent_max *v,
			uint32_t taken_from)
{
	struct remark m = { .generation = v->e.generation, .from = v->e.reserved, .word = PENDING_WORD };
	unsigned char buf[FND_EVENT_BYTES_MAX];
	struct fnd_mp_writer w = { buf, sizeof(buf), 0, 0 };
	int err;

	if (!reg->events || !m.from)
		return;
	fnd_mp_put_map(&w, taken_from ? 8 : 7);
	put_agent(&w, name, n, v);
	if (taken_from)
		put_number(&w, "taken_from", taken_from);
	err = tell(reg, FND_MARK_KIND(m.from) == FND_PENDING_UP ? "agent.up" : "agent.updated", &w);
	if (err)
		m.to = FND_MARK(FND_MARK_KIND(m.from), 0);
	fnd_table_modify(reg->table, name, n, remark, &m);
}

/* --- removing -------------------------------------------------------------------------------------- */

struct marking {
	struct fnd_removal *r;
	uint32_t self;
	struct fnd_shm_agent_max v; /* out */
	int result;
};

/* What stands against removing this record. */
static int objection(const struct marking *m)
{
	const struct fnd_shm_agent *e = &m->v.e;
	struct fnd_removal *r = m->r;
	uint32_t pid = FND_MARK_PID(e->owner.reserved);

	if (r->generation && e->generation != r->generation)
		return -EAGAIN;
	if (e->owner.reserved) {
		r->kind = FND_MARK_KIND(e->owner.reserved) == FND_LEAVING_DOWN ? FND_LEAVING_DOWN : FND_LEAVING_GONE;
		if (pid == m->self || pid == r->leaver || r->help)
			return 0;
		r->leaver = pid;
		return -EBUSY;
	}
	if (r->by && !fnd_agent_same_owner(&e->owner, r->by)) {
		r->holder = e->owner;
		return -EPERM;
	}
	return 0;
}

static enum fnd_modify mark_leaving(void *arg, const void *old, size_t old_bytes, const void **new_value,
				    size_t *new_bytes)
{
	struct marking *m = arg;

	(void)new_value, (void)new_bytes;
	m->result = -ENOENT;
	if (!old)
		return FND_MODIFY_KEEP;
	m->result = 0;
	if (fnd_agent_read(old, old_bytes, &m->v))
		return FND_MODIFY_DELETE; /* damaged: nobody's */
	m->result = objection(m);
	m->r->begun = !m->v.e.owner.reserved;
	if (m->result == 0)
		mark_set(old, old_bytes, LEAVING_WORD, m->v.e.owner.reserved, FND_MARK(m->r->kind, m->self));
	return FND_MODIFY_KEEP;
}

static enum fnd_modify delete_marked(void *arg, const void *old, size_t old_bytes, const void **new_value,
				     size_t *new_bytes)
{
	const struct marking *m = arg;
	struct fnd_shm_agent_max v;

	(void)new_value, (void)new_bytes;
	if (!old || fnd_agent_read(old, old_bytes, &v) || v.e.generation != m->v.e.generation || !v.e.owner.reserved)
		return FND_MODIFY_KEEP;
	return FND_MODIFY_DELETE;
}

static int tell_removal(struct fnd_registry *reg, const void *name, size_t n, const struct marking *m)
{
	struct fnd_ending here, *e = m->r->ending ? m->r->ending : &here;
	unsigned int waits = REAPER_WAITS;

	if (m->v.e.reserved && fnd_agent_process_gone(reg, FND_MARK_PID(m->v.e.reserved)))
		fnd_agent_announce(reg, name, n, &m->v, 0); /* nobody has said that it came */
	if (m->r->kind == FND_LEAVING_GONE)
		return tell_leaving(reg, name, n, &m->v, NULL);
	here.owner.slot = 0;
	if (!fnd_agent_same_owner(&e->owner, &m->v.e.owner))
		ending_look(reg, &m->v.e.owner, e, &waits);
	return tell_leaving(reg, name, n, &m->v, e);
}

/* Nobody's now: the next reap tells, then deletes. */
static int put_off(struct fnd_registry *reg, const void *name, size_t n, const struct marking *m)
{
	struct remark r = { .generation = m->v.e.generation, .from = FND_MARK(m->r->kind, m->self),
			    .to = FND_MARK(m->r->kind, 0), .word = LEAVING_WORD };
	int err = fnd_table_modify(reg->table, name, n, remark, &r);

	return err < 0 ? err : -EBUSY;
}

int fnd_agent_remove(struct fnd_registry *reg, const void *name, size_t n, struct fnd_removal *r)
{
	struct marking m = { .r = r, .self = reg->self.pid };
	int err = fnd_index_refresh(reg);

	if (!err)
		err = fnd_table_modify(reg->table, name, n, mark_leaving, &m);
	if (err == FND_MODIFY_KEEP && m.result == -EBUSY && fnd_agent_process_gone(reg, r->leaver))
		err = fnd_table_modify(reg->table, name, n, mark_leaving, &m); /* once more: that one has died */
	if (err < 0 || m.result || err == FND_MODIFY_DELETE)
		return err < 0 ? err : m.result;
#ifdef FND_MUTANT_TOLD_LAST
	if (!r->leave)
		fnd_table_delete(reg->table, name, n);
#endif
	err = tell_removal(reg, name, n, &m);
	if (r->leave)
		return 0;
	if (err == -FND_E_GARBAGE || err == -ETIMEDOUT)
		return put_off(reg, name, n, &m);
	err = fnd_table_modify(reg->table, name, n, delete_marked, &m);
	if (err != FND_MODIFY_DELETE) /* who has put another over it relies on the entries of values they share */
		return err < 0 ? err : -ENOENT;
	fnd_index_drop(reg, name, n, &m.v, NULL);
	return 0;
}

/* --- the names of the dead ------------------------------------------------------------------------- */

#define VERDICTS 64 /* owners whose death was looked up, remembered within one walk */

struct reaping {
	struct fnd_registry *reg;
	struct fnd_owner owner[VERDICTS];
	bool dead[VERDICTS];
	unsigned int used;
	struct fnd_ending ending;
	unsigned int removed;
};

static bool dead_once(struct reaping *w, const struct fnd_owner *o)
{
	unsigned int i;

	for (i = 0; i < w->used && i < VERDICTS; i++)
		if (fnd_agent_same_owner(&w->owner[i], o))
			return w->dead[i];
	i = w->used++ % VERDICTS;
	w->owner[i] = *o;
	w->dead[i] = fnd_agent_owner_dead(w->reg, o);
	return w->dead[i];
}

static int reap_one(const struct fnd_record *rec, void *arg)
{
	struct reaping *w = arg;
	struct fnd_removal r = { .kind = FND_LEAVING_DOWN, .ending = &w->ending };
	struct fnd_shm_agent_max v;
	int err;

	if (fnd_agent_read(rec->value, rec->value_bytes, &v))
		return 0;
	if (!v.e.owner.reserved && (v.e.owner.slot == 0 || !dead_once(w, &v.e.owner))) {
		uint32_t pid = FND_MARK_PID(v.e.reserved);

		if (v.e.reserved && pid != w->reg->self.pid && fnd_agent_process_gone(w->reg, pid))
			fnd_agent_announce(w->reg, rec->key, rec->key_bytes, &v, 0);
		return 0;
	}
	r.generation = v.e.generation; /* this record or none: a new owner's is not touched */
	err = fnd_agent_remove(w->reg, rec->key, rec->key_bytes, &r);
	w->removed += err == 0 && r.kind == FND_LEAVING_DOWN;
	return err == -ENOENT || err == -EAGAIN || err == -EBUSY ? 0 : err;
}

int fnd_registry_reap(struct fnd_registry *reg, unsigned int *ret_names)
{
	struct reaping *w = calloc(1, sizeof(*w));
	unsigned int removed;
	int err = w ? fnd_segment_reap(reg->seg, NULL) : -ENOMEM;

	if (!err) {
		w->reg = reg;
		err = fnd_index_refresh(reg);
	}
	if (!err)
		err = fnd_table_iterate(reg->table, 0, reap_one, w);
	removed = w ? w->removed : 0;
	free(w);
	if (removed)
		fnd_counter_add(reg->seg, FND_COUNTER_NAMES_REAPED, removed);
	if (!err && ret_names)
		*ret_names = removed;
	return err;
}
