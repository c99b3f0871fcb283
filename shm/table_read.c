// SPDX-License-Identifier: MIT
/*
 * Reading a table: by copy, in place, record by record.
 *
 * No lock and no system call. A lookup is two dependent cache misses: the bucket, then the record; what
 * it costs beyond them is hashing, one compare of seven tags and the two stores of the read section.
 */
#include <errno.h>
#include <stdlib.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "index.h"
#include "probe.h"

/* What find_near() says when it is not the one to answer: a chain, a file that has grown, or damage. */
#define FAR ((const char *)1)

/*
 * Inside a section: the record of a key, NULL, or FAR. It calls nothing, so that what calls it keeps its
 * arguments in registers; whoever gets FAR asks find_far().
 */
static inline __attribute__((always_inline)) const char *find_near(const struct fnd_table *t, const void *key,
								    size_t key_bytes, uint64_t hash)
{
	/* [IX-1] pairs with the publication of an index */
	uint64_t word = fnd_load_acquire(&t->index[fnd_shard_of(t, hash)]);
	uint64_t off = (word & ~63ULL) + sizeof(struct fnd_shm_span);
	uint64_t limit = fnd_load_relaxed(&t->seg->limit); /* relaxed: it only grows */
	uint32_t log2 = (uint32_t)(word & 63);
	uint64_t bytes = sizeof(struct fnd_shm_bucket) << log2;
	struct fnd_shm_bucket *b;
	const char *r;

	if (fnd_unlikely(word - 64 >= limit || off + bytes > limit || log2 > FND_INDEX_LOG2_MAX))
		return FAR;
	/* fnd_bucket_of(), with what the check has computed already */
	b = (struct fnd_shm_bucket *)(t->base + off +
				      (((uint64_t)((uint32_t)hash >> t->shard_bits) * sizeof(*b)) &
				       (bytes - sizeof(*b))));
	r = (const char *)fnd_bucket_find(t, b, hash, key, key_bytes, NULL);
	if (fnd_likely(r) || fnd_load_relaxed(&b->link) == 0) /* relaxed: the walk loads it again */
		return r;
	return FAR;
}

/* The whole answer, at leisure: the record, NULL, or FND_RECORD_DAMAGED. */
static __attribute__((noinline)) struct fnd_shm_record *find_far(struct fnd_table *t, const void *key,
								 size_t key_bytes, uint64_t hash)
{
	uint32_t shard = fnd_shard_of(t, hash);
	struct fnd_index ix;

	if (fnd_index_open(t, shard, fnd_load_acquire(&t->index[shard]), &ix)) /* [IX-1] */
		return FND_RECORD_DAMAGED;
	return fnd_index_find(t, &ix, hash, key, key_bytes, NULL);
}

static inline __attribute__((always_inline)) uint64_t hash_of(const struct fnd_table *t, const void *key,
							       size_t key_bytes)
{
	return XXH3_64bits_withSeed(key, key_bytes, t->hash_seed);
}

static __attribute__((noinline)) uint64_t hash_any(const struct fnd_table *t, const void *key,
						   size_t key_bytes)
{
	return hash_of(t, key, key_bytes);
}

static inline bool key_valid(const struct fnd_table *t, const void *key, size_t key_bytes)
{
	return fnd_likely(key && key_bytes - 1 < t->key_max);
}

static int key_refuse(const struct fnd_table *t)
{
	return fnd_fail(EINVAL, "table %s: a key has 1 to %u bytes", t->name, t->key_max);
}

static inline uint32_t value_bytes_of(const char *r)
{
	uint32_t lens;

	memcpy(&lens, r + offsetof(struct fnd_shm_record, lens), sizeof(lens));
	return lens >> 8;
}

static inline const char *value_of(const char *r, size_t key_bytes)
{
	return r + sizeof(struct fnd_shm_record) + fnd_value_off((uint32_t)key_bytes);
}

/* The value of the record that was found, or -ENOENT, or what is wrong. */
static int copy_out(struct fnd_table *t, const char *r, size_t key_bytes, uint64_t hash, void *buf,
		    size_t buf_bytes, size_t *ret_bytes)
{
	uint32_t bytes;

	if ((uintptr_t)r <= (uintptr_t)FND_RECORD_DAMAGED)
		return r ? fnd_record_damaged(t, hash) : -ENOENT;
	bytes = value_bytes_of(r);
	if (bytes > t->value_max)
		return fnd_record_damaged(t, hash);
	if (ret_bytes)
		*ret_bytes = bytes;
	if (bytes > buf_bytes)
		return -ENOBUFS;
	memcpy(buf, value_of(r, key_bytes), bytes);
	return 0;
}

/* Everything a lookup may meet: the thread's first call, a bad key, a nested section, a chain of buckets, a
 * file that has grown, a value of unusual size, and somebody who wants to know how long it takes. */
static __attribute__((noinline)) int lookup_rare(struct fnd_table *t, const void *key, size_t key_bytes,
						 void *buf, size_t buf_bytes, size_t *ret_bytes)
{
	struct fnd_thread *th;
	int err = fnd_thread_self(t->seg, &th);
	uint64_t hash, from = 0;
	bool due;

	if (err)
		return err;
	if (!key_valid(t, key, key_bytes))
		return key_refuse(t);
	due = fnd_sampling(t->seg) && fnd_sample_due(t->seg, th);
	if (due)
		from = fnd_sample_begin();
	fnd_section_begin(t->seg, th);
	hash = hash_any(t, key, key_bytes);
	err = copy_out(t, (const char *)find_far(t, key, key_bytes, hash), key_bytes, hash, buf, buf_bytes,
		       ret_bytes);
	fnd_section_end(th);
	if (due)
		fnd_sample_end(t->seg, th, t->number, FND_OP_LOOKUP, from);
	return err;
}

/*
 * What nearly every lookup is, without a call, in as few instructions as it takes: a processor looks some 300
 * instructions ahead, so that fewer than 150 a lookup let the misses of two overlap. flatten: the hash too.
 */
__attribute__((flatten)) int fnd_table_lookup(struct fnd_table *t, const void *key, size_t key_bytes, void *buf,
					      size_t buf_bytes, size_t *ret_bytes)
{
	struct fnd_reader *me = fnd_reader_quick(t->seg);
	const char *r, *value;
	uint64_t hash;
	uint32_t bytes;

	/* relaxed: only this thread writes its slot */
	if (fnd_unlikely(!me || (fnd_load_relaxed(me->slot) & 0xffff) || !key_valid(t, key, key_bytes) ||
			 fnd_sampling(t->seg)))
		return lookup_rare(t, key, key_bytes, buf, buf_bytes, ret_bytes);
	/* fnd_section_begin() and fnd_section_end(), of a section that does not nest: [GP-1], [GP-2] */
	fnd_store_relaxed(me->slot, fnd_load_relaxed(me->epoch) << 16 | 1);
	fnd_compiler_barrier();
	hash = fnd_likely(key_bytes - 17 < 16) ? hash_of(t, key, key_bytes) : hash_any(t, key, key_bytes);
	r = find_near(t, key, key_bytes, hash);
	if (fnd_unlikely((uintptr_t)r <= (uintptr_t)FAR))
		goto not_near;
	bytes = value_bytes_of(r);
	if (fnd_unlikely(bytes > buf_bytes || bytes > t->value_max || bytes - 16 > 64 - 16))
		goto rare;
	value = value_of(r, key_bytes);
	/* memcpy() of 16 to 64 bytes; the pieces may overlap */
	memcpy(buf, value, 16);
	if (bytes > 32) {
		memcpy((char *)buf + 16, value + 16, 16);
		memcpy((char *)buf + bytes - 32, value + bytes - 32, 16);
	}
	memcpy((char *)buf + bytes - 16, value + bytes - 16, 16);
	fnd_compiler_barrier();
	fnd_store_release(me->slot, 0); /* [GP-2] */
	if (ret_bytes)
		*ret_bytes = bytes;
	return 0;
not_near:
	if (!r) {
		fnd_compiler_barrier();
		fnd_store_release(me->slot, 0); /* [GP-2] */
		return -ENOENT;
	}
rare:
	fnd_compiler_barrier();
	fnd_store_release(me->slot, 0); /* [GP-2] */
	return lookup_rare(t, key, key_bytes, buf, buf_bytes, ret_bytes);
}

/* The record of a key by the short way or the long one; inside a section. */
static inline const char *find_record(struct fnd_table *t, const void *key, size_t key_bytes, uint64_t hash)
{
	const char *r = find_near(t, key, key_bytes, hash);

	return fnd_unlikely(r == FAR) ? (const char *)find_far(t, key, key_bytes, hash) : r;
}

/* --- batches -------------------------------------------------------------------------------------- */

#define BATCH 16u

/* The first bucket of a hash, NULL when the index word is damaged: the lookup itself will say so. */
static inline struct fnd_shm_bucket *bucket_ahead(struct fnd_table *t, uint64_t hash)
{
	uint64_t word = fnd_load_acquire(&t->index[fnd_shard_of(t, hash)]); /* [IX-1] */
	uint64_t off = (word & ~63ULL) + sizeof(struct fnd_shm_span);
	uint32_t log2 = (uint32_t)(word & 63);

	if (log2 > FND_INDEX_LOG2_MAX || !fnd_backed(t->seg, off, sizeof(struct fnd_shm_bucket) << log2))
		return NULL;
	return fnd_bucket_of((struct fnd_shm_bucket *)(t->seg->base + off), log2, t->shard_bits, hash);
}

/* Fetch the record that is probably meant. A prefetch of a wild address does nothing. */
static inline void record_ahead(const struct fnd_table *t, const struct fnd_shm_bucket *b, uint64_t hash)
{
	unsigned int m = fnd_bucket_match(b, hash);

	if (m) {
		/* relaxed: a hint */
		uint64_t w = fnd_load_relaxed(&b->slot[FND_MATCH_SLOT(m)]) & FND_OFF_MASK;

		__builtin_prefetch(t->seg->base + w);
		__builtin_prefetch(t->seg->base + w + FND_LINE);
	}
}

static int lookup_some(struct fnd_table *t, struct fnd_thread *th, struct fnd_lookup *l, size_t n)
{
	struct fnd_shm_bucket *bucket[BATCH];
	uint64_t hash[BATCH];
	int found = 0;

	fnd_section_begin(t->seg, th);
	for (size_t i = 0; i < n; i++) {
		bucket[i] = NULL;
		if (!key_valid(t, l[i].key, l[i].key_bytes))
			continue;
		hash[i] = hash_of(t, l[i].key, l[i].key_bytes);
		bucket[i] = bucket_ahead(t, hash[i]);
		__builtin_prefetch(bucket[i]);
	}
	for (size_t i = 0; i < n; i++)
		if (bucket[i])
			record_ahead(t, bucket[i], hash[i]);
	for (size_t i = 0; i < n; i++) {
		if (!key_valid(t, l[i].key, l[i].key_bytes))
			l[i].result = key_refuse(t);
		else
			l[i].result = copy_out(t, find_record(t, l[i].key, l[i].key_bytes, hash[i]),
					       l[i].key_bytes, hash[i], l[i].buf, l[i].buf_bytes,
					       &l[i].value_bytes);
		found += l[i].result == 0;
	}
	fnd_section_end(th);
	return found;
}

int fnd_table_lookup_batch(struct fnd_table *t, struct fnd_lookup *batch, size_t n)
{
	struct fnd_thread *th;
	int found = 0, err = fnd_thread_self(t->seg, &th);

	if (err)
		return err;
	for (size_t at = 0; at < n; at += BATCH)
		found += lookup_some(t, th, batch + at, n - at < BATCH ? n - at : BATCH);
	return found;
}

int fnd_table_get(struct fnd_table *t, const void *key, size_t key_bytes, struct fnd_view *ret_view)
{
	struct fnd_thread *th = fnd_thread_known(t->seg);
	const char *r;
	bool due = false;
	uint64_t from = 0, hash;

	if (fnd_unlikely(!th)) {
		int err = fnd_thread_self(t->seg, &th);

		if (err)
			return err;
	}
	if (fnd_unlikely(!fnd_in_section(th)))
		return fnd_fail(EPERM, "fnd_table_get outside a read section");
	if (!key_valid(t, key, key_bytes))
		return key_refuse(t);
	if (fnd_unlikely(fnd_sampling(t->seg)) && fnd_sample_due(t->seg, th)) {
		due = true;
		from = fnd_sample_begin();
	}
	hash = hash_of(t, key, key_bytes);
	r = find_record(t, key, key_bytes, hash);
	if (fnd_unlikely(due))
		fnd_sample_end(t->seg, th, t->number, FND_OP_LOOKUP, from);
	if (fnd_unlikely((uintptr_t)r <= (uintptr_t)FND_RECORD_DAMAGED))
		return r ? fnd_record_damaged(t, hash) : -ENOENT;
	ret_view->value_bytes = value_bytes_of(r);
	ret_view->value = value_of(r, key_bytes);
	if (ret_view->value_bytes > t->value_max || (uintptr_t)r & 7)
		return fnd_record_damaged(t, hash);
	return 0;
}

uint64_t fnd_view_add(const struct fnd_view *v, size_t offset, uint64_t n)
{
	if (v->value_bytes < sizeof(uint64_t) || offset > v->value_bytes - sizeof(uint64_t) || offset % 8)
		return 0;
	/* [TB-2] pairs with itself in other threads: the sum is exact; it orders nothing else */
	return fnd_fetch_add((uint64_t *)((uintptr_t)v->value + offset), n) + n;
}

/* --- iteration ------------------------------------------------------------------------------------ */

/* Private copies of a shard's records: {u32 key bytes, u32 value bytes, key, value} one by one. */
struct copies {
	char *buf;
	size_t used, size;
	int damaged; /* -FND_E_CORRUPT once something was passed over */
};

static int copies_add(struct copies *c, const struct fnd_shm_record *r, uint32_t lens)
{
	uint32_t head[2] = { lens & 0xff, lens >> 8 };
	size_t need = sizeof(head) + head[0] + head[1];

	if (need > c->size - c->used) {
		size_t size = (c->size + need) * 2;
		char *buf = realloc(c->buf, size);

		if (!buf)
			return -ENOMEM;
		c->buf = buf;
		c->size = size;
	}
	memcpy(c->buf + c->used, head, sizeof(head));
	memcpy(c->buf + c->used + sizeof(head), r + 1, head[0]);
	memcpy(c->buf + c->used + sizeof(head) + head[0], (const char *)(r + 1) + fnd_value_off(head[0]),
	       head[1]);
	c->used += need;
	return 0;
}

/* Was this key seen in this chain already? It may be, deleted and inserted again while we copied. */
static bool seen_in_chain(const struct copies *c, size_t from, const void *key, uint32_t key_bytes)
{
	while (from < c->used) {
		uint32_t head[2];

		memcpy(head, c->buf + from, sizeof(head));
		if (head[0] == key_bytes && memcmp(c->buf + from + sizeof(head), key, key_bytes) == 0)
			return true;
		from += sizeof(head) + head[0] + head[1];
	}
	return false;
}

static int copy_slot(struct fnd_table *t, const struct fnd_index *ix, uint64_t bucket, uint64_t w,
		     size_t chain, struct copies *c)
{
	struct fnd_shm_record *r = fnd_record_at(t, w & FND_OFF_MASK);
	uint32_t lens = r ? fnd_load_relaxed(&r->lens) : 0; /* relaxed: after [TB-1], immutable */

	if (!r || (lens & 0xff) == 0 || (lens & 0xff) > t->key_max || lens >> 8 > t->value_max) {
		c->damaged = fnd_fail(FND_E_CORRUPT, "table %s: slot word %#llx", t->name,
				      (unsigned long long)w);
		return 0;
	}
	/* an overflow bucket may have been linked elsewhere while we stood in it */
	if (fnd_bucket_of(ix->bucket, ix->log2, t->shard_bits, r->hash) != &ix->bucket[bucket] ||
	    seen_in_chain(c, chain, r + 1, lens & 0xff))
		return 0;
	return copies_add(c, r, lens);
}

static int copy_chains(struct fnd_table *t, const struct fnd_index *ix, struct copies *c)
{
	for (uint64_t i = 0; i < 1ULL << ix->log2; i++) {
		const struct fnd_shm_bucket *b = &ix->bucket[i];
		size_t chain = c->used;

		for (uint32_t hops = 0; b && hops <= 2 * ix->overflow; hops++) {
			for (unsigned int k = 0; k < FND_BUCKET_SLOTS; k++) {
				uint64_t w = fnd_load_acquire(&b->slot[k]); /* [TB-1] */
				int err = w ? copy_slot(t, ix, i, w, chain, c) : 0;

				if (err)
					return err;
			}
			b = fnd_bucket_next(ix, b);
		}
		if (b)
			c->damaged = fnd_fail(FND_E_CORRUPT, "table %s: a chain of buckets has no end",
					      t->name);
	}
	return 0;
}

/* A private copy of the index's words, so that the lock is held no longer than the copy takes. */
static int copy_index(struct fnd_index *ix, struct fnd_shm_bucket **ret_copy)
{
	uint64_t n = (1ULL << ix->log2) + ix->overflow;
	struct fnd_shm_bucket *copy = malloc(n * sizeof(*copy));

	if (!copy)
		return -ENOMEM;
	memcpy(copy, ix->bucket, n * sizeof(*copy)); /* under the shard's lock nothing moves */
	ix->bucket = copy;
	*ret_copy = copy;
	return 0;
}

static int copy_shard(struct fnd_table *t, struct fnd_thread *th, uint32_t shard, unsigned int flags,
		      struct copies *c)
{
	struct fnd_shm_bucket *copy = NULL;
	struct fnd_index ix;
	int err = 0;

	if (flags & FND_ITERATE_EXACT) {
		err = fnd_shard_lock(t, th, shard);
		if (err)
			return err;
	}
	fnd_section_begin(t->seg, th);
	err = fnd_index_open(t, shard, fnd_load_acquire(&t->index[shard]), &ix); /* [IX-1] */
	if (flags & FND_ITERATE_EXACT) {
		if (!err)
			err = copy_index(&ix, &copy);
		fnd_unlock(th, &t->shard[shard].lock);
	}
	if (!err)
		err = copy_chains(t, &ix, c);
	fnd_section_end(th);
	free(copy);
	return err;
}

static int hand_out(const struct copies *c, int (*fn)(const struct fnd_record *r, void *arg), void *arg)
{
	for (size_t at = 0; at < c->used;) {
		uint32_t head[2];
		struct fnd_record r;
		int err;

		memcpy(head, c->buf + at, sizeof(head));
		r.key = c->buf + at + sizeof(head);
		r.key_bytes = head[0];
		r.value = c->buf + at + sizeof(head) + head[0];
		r.value_bytes = head[1];
		err = fn(&r, arg);
		if (err)
			return err;
		at += sizeof(head) + head[0] + head[1];
	}
	return 0;
}

int fnd_table_iterate(struct fnd_table *t, unsigned int flags,
		      int (*fn)(const struct fnd_record *r, void *arg), void *arg)
{
	struct copies c = { 0 };
	struct fnd_thread *th;
	int err = fnd_thread_self(t->seg, &th);

	if (err)
		return err;
	if ((flags & FND_ITERATE_EXACT) && t->seg->read_only)
		return fnd_fenced_error();
	for (uint32_t i = 0; !err && i < t->shards; i++) {
		c.used = 0;
		err = copy_shard(t, th, i, flags, &c);
		if (err == -FND_E_CORRUPT) {
			c.damaged = err;
			err = 0;
		}
		if (!err)
			err = hand_out(&c, fn, arg);
	}
	free(c.buf);
	return err ? err : c.damaged;
}
