// SPDX-License-Identifier: MIT
/*
 * Changing a table: one shard lock, one committing store.
 *
 * Memory is backed and grace periods are waited for with the lock dropped; then the change starts anew. The
 * one thing that may sleep under it is hdr->lock, for the moment an index takes its span.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "index.h"
#include "probe.h"

enum mode { MODE_INSERT, MODE_REPLACE, MODE_UPSERT, MODE_DELETE, MODE_MODIFY };

/* No sound table makes one change start anew so often: a bound for what damage may do. */
#define ATTEMPTS_MAX 1000
#define EPOCH_TRIES 24 /* naps of 50 µs, doubling to 3 ms: about 50 ms before memory is given up on */

/* One change, and what has been fetched for it so far. */
struct change {
	enum mode mode;
	uint64_t hash;
	uint32_t shard;
	const void *key;
	size_t key_bytes;
	const void *value;
	size_t value_bytes;
	fnd_modify_fn fn;
	void *arg;
	/* wanted, from an attempt that returned -EAGAIN */
	uint64_t need_bytes; /* back so many bytes of the file */
	bool need_epoch;
	/* tried */
	bool last; /* take fresh memory rather than wait for a grace period */
	bool no_growth, no_region, trimmed;
	bool index_full; /* it was the index that had no room, not the record memory */
	bool retired; /* as of the attempt, under the lock: something will come back */
	unsigned int epoch_tries;
};

int fnd_shard_lock(struct fnd_table *t, struct fnd_thread *th, uint32_t shard)
{
	uint32_t *word = &t->shard[shard].lock;
	uint64_t from;
	char what[64];
	int r = fnd_trylock(th, word);

	if (fnd_likely(r == 0))
		return 0;
	snprintf(what, sizeof(what), "table %s, shard %u", t->name, shard);
	r = fnd_lock(t->seg, th, word, what);
	if (r != FND_LOCK_STOLEN)
		return r;
	from = fnd_now_ns();
#ifndef FND_MUTANT_STEAL_NO_REPAIR
	r = fnd_shard_repair(t, shard);
#else
	r = 0;
#endif
	if (r) {
		fnd_lock_abandon(word);
		return r;
	}
	fnd_lock_repaired(th, word);
	fnd_cell_count(th, FND_COUNTER_RECOVERIES, 1);
	fnd_probe_recovery(t->seg, th, t->number, fnd_now_ns() - from);
	return 0;
}

/* --- under the lock ------------------------------------------------------------------------------- */

static bool full(const struct fnd_table *t, const struct fnd_shm_shard *sh)
{
	uint64_t share = t->capacity / t->shards, live = 0;

	if (!(t->flags & FND_TABLE_FIXED))
		return false;
	/* Counting all shards costs a line each. With a uniform hash a table can only be full when each
	 * shard is near its share, and half of it is eight deviations away at 256 records a shard. */
	if (t->shards > 1 && sh->live < share / 2)
		return false;
	for (uint32_t i = 0; i < t->shards; i++)
		live += fnd_load_relaxed(&t->shard[i].live); /* relaxed: others may insert meanwhile */
	return live >= t->capacity;
}

static void fill(struct fnd_table *t, uint64_t off, const struct change *c)
{
	struct fnd_shm_record *r = fnd_record_at(t, off);

	r->hash = (uint32_t)c->hash;
	r->lens = (uint32_t)(c->value_bytes << 8 | c->key_bytes);
	r->birth = (uint32_t)fnd_load_relaxed(&t->seg->hdr->snapshot_generation); /* nobody raises it yet */
	r->next = 0;
	memcpy(r + 1, c->key, c->key_bytes);
	if (c->value_bytes)
		memcpy((char *)(r + 1) + fnd_value_off((uint32_t)c->key_bytes), c->value, c->value_bytes);
}

static int grow(struct fnd_table *t, struct fnd_thread *th, struct change *c, struct fnd_index *ix)
{
	int err;

	if (c->no_growth)
		return -ENOSPC;
	err = fnd_index_grow(t, th, c->shard, &c->need_bytes);
	if (err == 0)
		err = fnd_index_open(t, c->shard, fnd_load_relaxed(&t->index[c->shard]), ix);
	else if (err != -EAGAIN)
		c->no_growth = true;
	return err;
}

static int put_new(struct fnd_table *t, struct fnd_thread *th, struct change *c, struct fnd_index *ix)
{
	struct fnd_shm_shard *sh = &t->shard[c->shard];
	uint64_t off;
	int err;

	if (full(t, sh))
		return -ENOSPC;
	/* Five of seven slots taken on average: chains begin to show. Failing to grow is no failure yet. */
	if (sh->live >= 5ULL << ix->log2 && grow(t, th, c, ix) == -EAGAIN)
		return -EAGAIN;
	err = fnd_record_alloc(t, c->shard, c->last, &off);
	if (err)
		return err;
	fill(t, off, c);
	err = fnd_index_put(ix, t->shard_bits, c->hash, off);
	if (err == -ENOSPC) {
		err = grow(t, th, c, ix);
		if (!err)
			err = fnd_index_put(ix, t->shard_bits, c->hash, off);
		c->index_full = err == -ENOSPC;
	}
	if (err) {
		fnd_record_unalloc(t, sh, off);
		return err;
	}
	fnd_store_relaxed(&sh->live, sh->live + 1);
	return 0;
}

static int put_over(struct fnd_table *t, struct fnd_thread *th, struct change *c, uint64_t *slot)
{
	struct fnd_shm_shard *sh = &t->shard[c->shard];
	uint64_t old = fnd_load_relaxed(slot) & FND_OFF_MASK, off; /* relaxed: under the lock */
	int err = fnd_record_alloc(t, c->shard, c->last, &off);

	if (err)
		return err;
#ifndef FND_MUTANT_PUBLISH_EARLY
	fill(t, off, c);
#endif
	fnd_publish(slot, (c->hash >> 48) << 48 | off); /* [TB-1] */
#ifdef FND_MUTANT_PUBLISH_EARLY
	fill(t, off, c);
#endif
	fnd_record_retire(t, sh, old);
	th->retired++;
	return 0;
}

static void remove_record(struct fnd_table *t, struct fnd_thread *th, struct change *c, uint64_t *slot)
{
	struct fnd_shm_shard *sh = &t->shard[c->shard];
	uint64_t old = fnd_load_relaxed(slot) & FND_OFF_MASK; /* relaxed: under the lock */

#ifdef FND_MUTANT_RETIRE_BEFORE_UNLINK
	fnd_record_retire(t, sh, old);
	fnd_publish(slot, 0);
#else
	fnd_publish(slot, 0); /* [TB-1] this store is the delete */
	fnd_record_retire(t, sh, old);
#endif
	fnd_store_relaxed(&sh->live, sh->live - 1);
	th->retired++;
}

/* What to do with the key, given its record or NULL: an enum fnd_modify, or a negative result. */
static int decide(struct fnd_table *t, struct change *c, const struct fnd_shm_record *rec)
{
	uint32_t bytes = rec ? fnd_load_relaxed(&rec->lens) >> 8 : 0; /* relaxed: immutable */
	int action;

	if (bytes > t->value_max)
		return fnd_record_damaged(t, c->hash);

	switch (c->mode) {
	case MODE_INSERT:
		return rec ? -EEXIST : FND_MODIFY_PUT;
	case MODE_REPLACE:
		return rec ? FND_MODIFY_PUT : -ENOENT;
	case MODE_UPSERT:
		return FND_MODIFY_PUT;
	case MODE_DELETE:
		return rec ? FND_MODIFY_DELETE : -ENOENT;
	default:
		break;
	}
	action = rec ? c->fn(c->arg, (const char *)(rec + 1) + fnd_value_off((uint32_t)c->key_bytes),
			     bytes, &c->value, &c->value_bytes) :
		       c->fn(c->arg, NULL, 0, &c->value, &c->value_bytes);
	if (action == FND_MODIFY_PUT && c->value_bytes > t->value_max)
		return -E2BIG;
	if (action == FND_MODIFY_DELETE && !rec)
		return FND_MODIFY_KEEP;
	return action;
}

static int attempt(struct fnd_table *t, struct fnd_thread *th, struct change *c)
{
	uint64_t word = fnd_load_relaxed(&t->index[c->shard]), *slot = NULL; /* relaxed: under the lock */
	struct fnd_shm_record *rec;
	struct fnd_index ix;
	int action, err = fnd_index_open(t, c->shard, word, &ix);

	if (err)
		return err;
	rec = fnd_index_find(t, &ix, c->hash, c->key, c->key_bytes, &slot);
	if (rec == FND_RECORD_DAMAGED)
		return fnd_record_damaged(t, c->hash);
	action = decide(t, c, rec);
	if (action == FND_MODIFY_DELETE)
		remove_record(t, th, c, slot);
	if (action != FND_MODIFY_PUT)
		return action;
	err = rec ? put_over(t, th, c, slot) : put_new(t, th, c, &ix);
	return err ? err : FND_MODIFY_PUT;
}

/* --- between attempts: what was lacking, fetched with no lock held -------------------------------- */

static int garbage(struct fnd_table *t)
{
	uint32_t index = fnd_epoch_oldest(t->seg);
	char who[96];

	fnd_thread_describe(t->seg, index, who, sizeof(who));
	return fnd_fail(FND_E_GARBAGE, "table %s: memory waits for the read section of %s", t->name, who);
}

static int wait_epoch(struct fnd_table *t, struct fnd_thread *th, struct change *c, int why)
{
	struct timespec ts = { 0, 50000L << (c->epoch_tries < 7 ? c->epoch_tries : 6) };
	int err;

	/* The first time at once; then the readers need time. My own section would wait for itself. */
	if (c->epoch_tries > 0) {
		if (why == -EAGAIN)
			c->last = true;
		else if (c->epoch_tries > EPOCH_TRIES || fnd_in_section(th))
			return why == -FND_E_GARBAGE ? garbage(t) : why;
		else
			nanosleep(&ts, NULL);
	}
	c->epoch_tries++;
	th->retired = 0;
	th->advanced_at = fnd_cycles();
	err = fnd_epoch_advance(t->seg);
	return err == -FND_E_FENCED ? err : 0;
}

static int fetch(struct fnd_table *t, struct fnd_thread *th, struct change *c, int why)
{
	int err;

	if (c->need_bytes) {
		if (fnd_space_back(t->seg, c->need_bytes))
			c->no_growth = true;
		c->need_bytes = 0;
		return 0;
	}
	if (why == -ENOSPC && c->index_full)
		return why;
	if (why == -ENOSPC && c->last && !c->no_region && !(t->flags & FND_TABLE_FIXED)) {
		err = fnd_region_add(t, th);
		c->no_region = err != 0;
		return err == -ENOSPC || err == -ENOMEM ? 0 : err;
	}
	if (why == -ENOSPC && !c->last) {
		c->last = true;
		return 0;
	}
	if (why == -ENOSPC && !c->trimmed) {
		c->trimmed = true;
		if (fnd_table_trim(t, th) > 0)
			return 0;
	}
	if (why == -ENOSPC && !c->retired)
		return why;
	return wait_epoch(t, th, c, why);
}

static void no_space(struct fnd_table *t, const struct change *c)
{
	char why[128] = "none is left of what was reserved";

	if (c->no_region || c->no_growth) /* the detail says why there is no more */
		snprintf(why, sizeof(why), "%s", fnd_error_detail());
	fnd_fail(ENOSPC, "table %s: no memory for one more record: %s", t->name, why);
}

static int change(struct fnd_table *t, struct fnd_thread *th, struct change *c)
{
	struct fnd_shm_shard *sh = &t->shard[c->shard];
	int r, err;

	for (unsigned int tries = 0; tries < ATTEMPTS_MAX; tries++) {
		r = fnd_shard_lock(t, th, c->shard);
		if (r)
			return r;
		fnd_shard_stamp(t, c->shard, c->epoch_tries > 0);
		r = attempt(t, th, c);
		c->retired = sh->retired != 0;
		if (r == -ENOSPC && full(t, sh)) {
			fnd_store_relaxed(&sh->full, sh->full + 1);
			fnd_unlock(th, &sh->lock);
			fnd_cell_count(th, FND_COUNTER_FULL, 1);
			return fnd_fail(ENOSPC, "table %s is full: %llu records", t->name,
					(unsigned long long)t->capacity);
		}
		fnd_unlock(th, &sh->lock);
		if (r != -EAGAIN && r != -ENOSPC && r != -FND_E_GARBAGE)
			return r;
		err = fetch(t, th, c, r);
		if (!err)
			continue;
		if (err == -ENOSPC) {
			fnd_cell_count(th, FND_COUNTER_FULL, 1);
			no_space(t, c);
		}
		return err;
	}
	return fnd_fail(FND_E_CORRUPT, "table %s, shard %u: a change started anew %d times", t->name,
			c->shard, ATTEMPTS_MAX);
}

/*
 * The lines a change will want, asked for before the lock is: their misses then lie side by side. Nothing here
 * is believed: a prefetch of a wild address does nothing.
 */
static void fetch_ahead(const struct fnd_table *t, const struct change *c)
{
	const struct fnd_shm_shard *sh = &t->shard[c->shard];
	uint64_t word = fnd_load_relaxed(&t->index[c->shard]); /* relaxed, both: hints */
	const char *fresh = t->base + (fnd_load_relaxed(&sh->free_head) & FND_OFF_MASK);
	uint64_t bucket = (uint32_t)c->hash >> t->shard_bits & ((1ULL << (word & 31)) - 1);

	__builtin_prefetch(t->base + (word & FND_OFF_MASK & ~63ULL) + sizeof(struct fnd_shm_span) +
				   bucket * sizeof(struct fnd_shm_bucket), 1);
	__builtin_prefetch(fresh, 1);
	__builtin_prefetch(fresh + FND_LINE, 1);
}

static int run(struct fnd_table *t, struct change *c)
{
	struct fnd_thread *th;
	int r = fnd_thread_self(t->seg, &th);

	if (r)
		return r;
	if (!c->key || c->key_bytes < 1 || c->key_bytes > t->key_max)
		return fnd_fail(EINVAL, "table %s: a key has 1 to %u bytes", t->name, t->key_max);
	if (c->value_bytes > t->value_max)
		return fnd_fail(E2BIG, "table %s: a value has at most %u bytes", t->name, t->value_max);
	if (t->seg->read_only)
		return fnd_fenced_error();
	if (th->writing)
		return fnd_fail(EDEADLK, "a write from a signal handler that interrupted a write");
	th->writing = 1;
	fnd_compiler_barrier(); /* for the handler */
	c->hash = fnd_table_hash(t, c->key, c->key_bytes);
	c->shard = fnd_shard_of(t, c->hash);
	fetch_ahead(t, c);
	r = change(t, th, c);
	fnd_epoch_tick(t->seg, th);
	fnd_compiler_barrier();
	th->writing = 0;
	return r;
}

/* --- public --------------------------------------------------------------------------------------- */

static int simple(struct fnd_table *t, enum mode mode, const void *key, size_t key_bytes,
		  const void *value, size_t value_bytes)
{
	struct change c = { .mode = mode,
			    .key = key,
			    .key_bytes = key_bytes,
			    .value = value,
			    .value_bytes = value_bytes };
	int r;

	if (value_bytes && !value)
		return -EINVAL;
	r = run(t, &c);
	return r > 0 ? 0 : r;
}

int fnd_table_insert(struct fnd_table *t, const void *key, size_t key_bytes, const void *value,
		     size_t value_bytes)
{
	return simple(t, MODE_INSERT, key, key_bytes, value, value_bytes);
}

int fnd_table_replace(struct fnd_table *t, const void *key, size_t key_bytes, const void *value,
		      size_t value_bytes)
{
	return simple(t, MODE_REPLACE, key, key_bytes, value, value_bytes);
}

int fnd_table_upsert(struct fnd_table *t, const void *key, size_t key_bytes, const void *value,
		     size_t value_bytes)
{
	return simple(t, MODE_UPSERT, key, key_bytes, value, value_bytes);
}

int fnd_table_delete(struct fnd_table *t, const void *key, size_t key_bytes)
{
	return simple(t, MODE_DELETE, key, key_bytes, NULL, 0);
}

int fnd_table_modify(struct fnd_table *t, const void *key, size_t key_bytes, fnd_modify_fn fn, void *arg)
{
	struct change c = {
		.mode = MODE_MODIFY, .key = key, .key_bytes = key_bytes, .fn = fn, .arg = arg
	};

	return fn ? run(t, &c) : -EINVAL;
}
