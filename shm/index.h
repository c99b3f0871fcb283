/* SPDX-License-Identifier: MIT */
/* The part of the index that every lookup runs through: inline, and shared by readers and writers. */
#ifndef FOUNDATION_SHM_INDEX_H
#define FOUNDATION_SHM_INDEX_H

#include <errno.h>
#if defined(__SSE2__)
#include <emmintrin.h>
#endif

#include "internal.h"

FND_HIDDEN struct fnd_shm_bucket *fnd_bucket_next(const struct fnd_index *ix,
						  const struct fnd_shm_bucket *b);

/* Makes a record reachable. The one store a mutant of the tests weakens. */
static inline void fnd_publish(uint64_t *slot, uint64_t word)
{
#ifdef FND_MUTANT_PUBLISH_RELAXED
	fnd_store_relaxed(slot, word);
#else
	fnd_store_release(slot, word); /* [TB-1] */
#endif
	fnd_compiler_barrier(); /* what it displaced is retired after this store, never before */
}

static inline struct fnd_shm_bucket *fnd_bucket_of(struct fnd_shm_bucket *bucket, uint32_t log2,
						   uint32_t shard_bits, uint64_t hash)
{
	return &bucket[((uint32_t)hash >> shard_bits) & ((1u << log2) - 1)];
}

/* Bit i: slot i may hold this tag. A hint: the slot is loaded again before it is believed. */
#if defined(__SSE2__) && !defined(__SANITIZE_THREAD__)
static inline unsigned int fnd_bucket_match(const struct fnd_shm_bucket *b, uint64_t hash)
{
	const __m128i *p = (const __m128i *)b;
	__m128i tag = _mm_set1_epi16((short)(hash >> 48));
	__m128i lo = _mm_packs_epi16(_mm_cmpeq_epi16(_mm_load_si128(p), tag),
				     _mm_cmpeq_epi16(_mm_load_si128(p + 1), tag));
	__m128i hi = _mm_packs_epi16(_mm_cmpeq_epi16(_mm_load_si128(p + 2), tag),
				     _mm_cmpeq_epi16(_mm_load_si128(p + 3), tag));
	/* a slot's tag is its fourth 16-bit part: bytes 3, 7, 11, 15 of each half */
	unsigned int m = (unsigned int)_mm_movemask_epi8(lo) | (unsigned int)_mm_movemask_epi8(hi) << 16;

	return m & 0x08888888u; /* without the link, the eighth */
}
#define FND_MATCH_SLOT(m) ((unsigned int)__builtin_ctz(m) >> 2)
#else
static inline unsigned int fnd_bucket_match(const struct fnd_shm_bucket *b, uint64_t hash)
{
	unsigned int m = 0;

	for (unsigned int i = 0; i < FND_BUCKET_SLOTS; i++)
		m |= (unsigned int)((fnd_load_relaxed(&b->slot[i]) >> 48) == hash >> 48) << i;
	return m;
}
#define FND_MATCH_SLOT(m) ((unsigned int)__builtin_ctz(m))
#endif

/* memcmp() == 0 for 1 to 255 bytes, without the call: keys are short. */
static inline bool fnd_key_equal(const void *a, const void *b, size_t n)
{
	const char *p = a, *q = b;
	uint64_t x, y;
	uint32_t v, w;

	if (fnd_likely(n >= 8)) {
		for (; n > 8; n -= 8, p += 8, q += 8) {
			memcpy(&x, p, 8);
			memcpy(&y, q, 8);
			if (x != y)
				return false;
			if (n < 16) { /* the last eight overlap */
				p += n - 16;
				q += n - 16;
				n = 16;
			}
		}
		memcpy(&x, p, 8);
		memcpy(&y, q, 8);
		return x == y;
	}
	if (n >= 4) {
		memcpy(&v, p, 4);
		memcpy(&w, q, 4);
		if (v != w)
			return false;
		memcpy(&v, p + n - 4, 4);
		memcpy(&w, q + n - 4, 4);
		return v == w;
	}
	return p[0] == q[0] && p[n / 2] == q[n / 2] && p[n - 1] == q[n - 1];
}

/* What fnd_bucket_find() returns for a slot that points nowhere. */
#define FND_RECORD_DAMAGED ((struct fnd_shm_record *)1)

/*
 * The record of a key in this bucket, NULL, or FND_RECORD_DAMAGED. Always inline, and the result a value:
 * a local whose address is taken would cost every lookup a stack canary.
 */
static inline __attribute__((always_inline)) struct fnd_shm_record *
fnd_bucket_find(struct fnd_table *t, struct fnd_shm_bucket *b, uint64_t hash, const void *key,
		size_t key_bytes, uint64_t **ret_slot)
{
	for (unsigned int m = fnd_bucket_match(b, hash); m; m &= m - 1) {
		uint64_t *slot = &b->slot[FND_MATCH_SLOT(m)];
		/* [TB-1] pairs with fnd_publish */
		uint64_t w = fnd_load_acquire(slot);
		struct fnd_shm_record *r;
		uint32_t lens;

		if (w == 0 || w >> 48 != hash >> 48)
			continue;
		r = fnd_at(t->seg, w & FND_OFF_MASK, t->record_bytes);
		if (fnd_unlikely(!r))
			return FND_RECORD_DAMAGED;
		lens = fnd_load_relaxed(&r->lens); /* relaxed: after [TB-1], immutable */
		if (fnd_load_relaxed(&r->hash) != (uint32_t)hash || (lens & 0xff) != key_bytes ||
		    !fnd_key_equal(r + 1, key, key_bytes))
			continue;
		if (fnd_unlikely((lens >> 8) > t->value_max))
			return FND_RECORD_DAMAGED;
		if (ret_slot)
			*ret_slot = slot;
		return r;
	}
	return NULL;
}

#endif
