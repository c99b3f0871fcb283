// SPDX-License-Identifier: MIT
/*
 * A writer stands still between two of its stores, alive: nobody may repair behind its back.
 *
 * Readers finish, store nothing but in their own slot and cell - so they took no lock -, and see old or
 * new. Writers elsewhere finish. Writers that need what it holds are refused, and change nothing.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "hooks.h"
#include "stopped.h"

#define BYSTANDER RESCUER
#define OTHERS 12
#define NAMES 5
#define BATCH 8
/* Loads of a read, by far: the longest chain is some ten buckets of seven slots, a key some ten words. */
#define LOADS_MAX 4000

uint64_t stopped_refused;

static char wrong[512];

#define WRONG(...) (snprintf(wrong, sizeof(wrong), __VA_ARGS__), wrong)

static const char *const names[NAMES] = { "founder", "reader", "mine", "agent", "other" };
static struct fnd_table *other, *main_table;
static struct fnd_registry *registry;
static struct fnd_dedup *dedup;
/* What a name is answered, and how many events there are: [0] before, [1] after. */
static int name_result[2][NAMES], events[2];

static struct fnd_segment *seg(void)
{
	return w.actor[BYSTANDER].seg;
}

static void must(int err, const char *what)
{
	if (err < 0) {
		fprintf(stderr, "stores: stopped: %s: %s [%s]\n", what, fnd_strerror(err),
			fnd_error_detail());
		exit(2);
	}
}

/* --- the bystander -------------------------------------------------------------------------------- */

static int put_in(struct fnd_table *t, uint32_t k, uint32_t version)
{
	char key[16], value[32];
	size_t n = key_of(k, key), m = value_of(k, version, value);

	return fnd_table_upsert(t, key, n, value, m);
}

void stopped_begin(void)
{
	struct fnd_table_options opt = { .size = sizeof(opt), .key_max = 8, .value_max = 16, .capacity = 32 };

	must(fnd_table_open(w.actor[FOUNDER].seg, "elsewhere", &opt, &other), "table");
	for (uint32_t k = 0; k < OTHERS; k++)
		must(put_in(other, k, 0), "upsert");
	must(fnd_table_quiesce(other), "quiesce");
	fnd_table_close(other);
}

void stopped_open(const struct operation *o)
{
	world_act(BYSTANDER);
	must(fnd_table_open(seg(), "elsewhere", NULL, &other), "table");
	if (w.table)
		must(fnd_table_open(seg(), "main", NULL, &main_table), "table");
	if (o->states == registry_states)
		must(fnd_registry_open(seg(), 0, &registry), "registry");
	if (o->states == dedup_states)
		must(fnd_dedup_open(seg(), 0, &dedup), "dedup");
	world_act(FOUNDER);
}

void stopped_end(void)
{
	fnd_table_close(other);
	fnd_table_close(main_table);
	fnd_registry_close(registry);
	fnd_dedup_close(dedup);
	other = main_table = NULL;
	registry = NULL;
	dedup = NULL;
}

/* --- readers -------------------------------------------------------------------------------------- */

static int count_event(const struct fnd_event *e, void *arg)
{
	(void)e;
	++*(int *)arg;
	return 0;
}

static int name_ask(unsigned int i)
{
	struct fnd_agent agent;

	return fnd_registry_lookup(registry, names[i], &agent);
}

static int events_count(void)
{
	int n = 0, err = fnd_dedup_iterate(dedup, count_event, &n);

	return err ? err : n;
}

static void ask(int when)
{
	size_t mark = hooks_mark();

	world_reset(BYSTANDER);
	world_act(BYSTANDER);
	hooks_mode = HOOKS_LOG; /* looking counts */
	for (unsigned int i = 0; registry && i < NAMES; i++)
		name_result[when][i] = name_ask(i);
	if (dedup)
		events[when] = events_count();
	hooks_mode = HOOKS_OFF;
	hooks_undo(mark);
	world_act(FOUNDER);
}

void stopped_before(void)
{
	ask(0);
}

void stopped_after(void)
{
	ask(1);
}

static bool holds(const struct model_entry *e, int err, const void *value, size_t bytes)
{
	if (err)
		return err == -ENOENT && (e->before_bytes < 0 || e->after_bytes < 0);
	return (e->before_bytes == (int)bytes && memcmp(e->before, value, bytes) == 0) ||
	       (e->after_bytes == (int)bytes && memcmp(e->after, value, bytes) == 0) || entry_passing(e);
}

static int record_known(const struct fnd_record *r, void *arg)
{
	uint32_t table = *(uint32_t *)arg;

	for (uint32_t i = 0; i < model.nentries; i++) {
		const struct model_entry *e = &model.entry[i];

		if (e->table == table && e->key_bytes == r->key_bytes &&
		    memcmp(e->key, r->key, r->key_bytes) == 0)
			return holds(e, 0, r->value, r->value_bytes) ? 0 : 1;
	}
	return 1;
}

static const char *read_view(struct fnd_table *t, const struct model_entry *e)
{
	struct fnd_view view = { 0 };
	int err = fnd_read_begin(seg());
	bool ok;

	if (err)
		return WRONG("read section: %s", fnd_strerror(err));
	err = fnd_table_get(t, e->key, e->key_bytes, &view);
	ok = holds(e, err, view.value, view.value_bytes);
	fnd_read_end(seg());
	return ok ? NULL : WRONG("view of %.*s: neither old nor new", (int)e->key_bytes, (const char *)e->key);
}

static const char *read_batch(struct fnd_table *t, const struct model_entry *e, unsigned int n)
{
	static unsigned char buf[BATCH][VALUE_MAX];
	struct fnd_lookup batch[BATCH] = { 0 };

	for (unsigned int i = 0; i < n; i++)
		batch[i] = (struct fnd_lookup){
			.key = e[i].key, .key_bytes = e[i].key_bytes, .buf = buf[i], .buf_bytes = VALUE_MAX
		};
	if (fnd_table_lookup_batch(t, batch, n) < 0)
		return WRONG("batch: %s", fnd_error_detail());
	for (unsigned int i = 0; i < n; i++)
		if (!holds(&e[i], batch[i].result, buf[i], batch[i].value_bytes))
			return WRONG("batch, key %.*s: neither old nor new", (int)e[i].key_bytes,
				     (const char *)e[i].key);
	return NULL;
}

static const char *read_table(uint32_t number)
{
	uint32_t first = 0, end;
	const char *err = NULL;
	struct fnd_table t;

	if (fnd_table_bind(seg(), number, &t))
		return NULL;
	while (first < model.nentries && model.entry[first].table != number)
		first++;
	for (end = first; !err && end < model.nentries && model.entry[end].table == number; end++)
		err = read_view(&t, &model.entry[end]);
	for (uint32_t at = first; !err && at < end; at += BATCH)
		err = read_batch(&t, &model.entry[at], end - at < BATCH ? end - at : BATCH);
	if (!err && fnd_table_iterate(&t, 0, record_known, &number) != 0)
		err = WRONG("iterating %s: %s", t.name, fnd_error_detail());
	return err;
}

static const char *read_runtime(void)
{
	for (unsigned int i = 0; registry && i < NAMES; i++) {
		int r = name_ask(i);

		if (r == -ENOENT && strcmp(names[i], w.dead_name) == 0)
			continue; /* a dead one's name is nobody's before it is another's */
		if (r != name_result[0][i] && r != name_result[1][i])
			return WRONG("name %s: %s, neither as before nor as after", names[i], fnd_strerror(r));
	}
	if (dedup) {
		int n = events_count(), before = events[0], after = events[1];

		/* a sweep takes old ones out one by one, before the new one is put in */
		if (n < (before < after ? before : after) - 1 || n < 0 || n > (before > after ? before : after))
			return WRONG("%d events, before %d, after %d", n, before, after);
	}
	return NULL;
}

/* Since @mark, only in the bystander's own slot and cell; and at @but, if that is not 0. */
static const char *only_own(size_t mark, uint64_t but)
{
	const struct fnd_thread *th = w.actor[BYSTANDER].th;
	uint64_t slot = fnd_off(seg(), th->slot), cell = fnd_off(seg(), th->cell);

	for (size_t i = mark; i < hooks_mark(); i++) {
		const struct store *s = hooks_entry(i);

		if (s->off - slot >= sizeof(*th->slot) && s->off - cell >= sizeof(*th->cell) &&
		    (but == 0 || s->off != but))
			return WRONG("a store at %u, not the bystander's own (%p)", s->off, s->where);
	}
	return NULL;
}

static const char *read_all(void)
{
	struct trial t = { .rescuer = BYSTANDER };
	uint64_t loads = hooks_loads, reads = 4ULL * (model.nentries + 1) + NAMES;
	size_t mark = hooks_mark();
	const char *err = check_readers(&t);

	for (uint32_t i = 0; !err && i < TABLES_MAX; i++)
		err = read_table(i);
	if (!err)
		err = read_runtime();
	if (!err)
		err = only_own(mark, 0);
	if (!err && hooks_loads - loads > reads * LOADS_MAX)
		err = WRONG("%llu reads took %llu loads", (unsigned long long)reads,
			    (unsigned long long)(hooks_loads - loads));
	return err;
}

/* --- writers -------------------------------------------------------------------------------------- */

static bool victims(uint32_t word)
{
	uint32_t index = word >> 20;

	return index && index <= seg()->threads &&
	       fnd_slot_id(seg()->thread[index].word) == world_pid(VICTIM);
}

static const char *write_elsewhere(void)
{
	char key[16];

	for (uint32_t k = 0; k < 3; k++)
		if (put_in(other, k, 1))
			return WRONG("replace in another table: %s", fnd_error_detail());
	if (put_in(other, OTHERS, 0) || fnd_table_delete(other, key, key_of(OTHERS, key)))
		return WRONG("insert and delete in another table: %s", fnd_error_detail());
	return NULL;
}

/* A change of a key in each shard: refused where the victim holds the lock, done where there are others. */
static const char *write_shard(uint32_t shard)
{
	struct fnd_shm_shard *sh = &main_table->shard[shard];
	bool held = victims(sh->lock);
	size_t mark = hooks_mark();
	uint32_t k = 0;
	char key[16];
	int err;

	if (!held && main_table->shards == 1)
		return NULL;
	for (;; k++) {
		size_t n = key_of(k, key);

		if (fnd_shard_of(main_table, fnd_table_hash(main_table, key, n)) == shard)
			break;
	}
	if (held) /* what it retired before may be due for an epoch by now: that goes by the real clock */
		w.actor[BYSTANDER].th->retired = 0;
	err = put_in(main_table, k, 55555);
	if (!held)
		return err ? WRONG("upsert in shard %u: %s [%s]", shard, fnd_strerror(err), fnd_error_detail()) : NULL;
	if (err != -ETIMEDOUT)
		return WRONG("upsert in the shard of the stopped writer: %s", fnd_strerror(err));
	stopped_refused++;
	if (sh->lock >> 20 == w.actor[BYSTANDER].th->index)
		return WRONG("the lock of the living was stolen");
	return only_own(mark, fnd_off(seg(), &sh->lock)); /* there, the mark of who waits */
}

static const char *write_space(void)
{
	size_t mark = hooks_mark();
	int err;

	if (!victims(seg()->hdr->lock))
		return NULL;
	err = fnd_space_lock(seg(), w.actor[BYSTANDER].th);
	if (err != -ETIMEDOUT)
		return WRONG("the segment's lock, held by the stopped writer: %s", fnd_strerror(err));
	stopped_refused++;
	return only_own(mark, fnd_off(seg(), &seg()->hdr->lock));
}

const char *check_stopped(void)
{
	const char *err;

	seg()->lock_timeout_ms = 1;
	world_corruptions();
	err = read_all();
	for (uint32_t s = 0; !err && main_table && s < main_table->shards; s++)
		err = write_shard(s);
	if (!err)
		err = write_space();
	if (!err)
		err = write_elsewhere();
	if (!err && world_corruptions())
		err = WRONG("damage was met: %s", fnd_error_detail());
	return err;
}
