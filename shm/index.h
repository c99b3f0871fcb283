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
	/* straight from register to register: the top 16 bits, eight times */
	__m128i tag = _mm_shuffle_epi32(_mm_shufflelo_epi16(_mm_cvtsi64_si128((long long)hash), 0xff), 0);
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

/* memcmp() == 0 for exactly eight bytes. */
static inline bool fnd_equal_8(const char *p, const char *q)
{
	uint64_t x, y;

	memcpy(&x, p, 8);
	memcpy(&y, q, 8);
	return x == y;
}

/* 0 when they are equal, so that two answers make one branch. */
static inline unsigned int fnd_unequal_16(const char *p, const char *q)
{
#if defined(__SSE2__)
	return (unsigned int)_mm_movemask_epi8(_mm_cmpeq_epi8(_mm_loadu_si128((const __m128i *)p),
							      _mm_loadu_si128((const __m128i *)q))) ^ 0xffff;
#else
	return !(fnd_equal_8(p, q) && fnd_equal_8(p + 8, q + 8));
#endif
}

/* memcmp() == 0 for 1 to 255 bytes, without the call: keys are short. First and last bytes may overlap. */
static inline __attribute__((always_inline)) bool fnd_key_equal(const void *a, const void *b, size_t n)
{
	const char *p = a, *q = b;
	uint32_t v, w;

	if (fnd_likely(n >= 16)) {
		for (size_t at = 16; fnd_unlikely(at + 16 < n); at += 16)
			if (fnd_unequal_16(p + at, q + at))
				return false;
		return (fnd_unequal_16(p, q) | fnd_unequal_16(p + n - 16, q + n - 16)) == 0;
	}
	if (n >= 8)
		return fnd_equal_8(p, q) && fnd_equal_8(p + n - 8, q + n - 8);
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

/* Are hash and key length those? Both in one load: after [TB-1] they never change. */
static inline bool fnd_record_is(const char *r, uint64_t hash, size_t key_bytes)
{
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
	uint64_t head;

	memcpy(&head, r, sizeof(head)); /* hash 32 | key bytes 8 | value bytes 24 */
	return (head ^ ((uint64_t)key_bytes << 32 | (uint32_t)hash)) << 24 == 0;
#else
	uint32_t head[2];

	memcpy(head, r, sizeof(head));
	return head[0] == (uint32_t)hash && (head[1] & 0xff) == key_bytes;
#endif
}

/* What fnd_bucket_find() returns for a slot that points nowhere. */
#define FND_RECORD_DAMAGED ((struct fnd_shm_record *)1)

/*
 * The record of a key in this bucket, NULL, or FND_RECORD_DAMAGED; its value's length is not checked. Always
 * inline, and the result a value: a local whose address is taken would cost every lookup a stack canary. It
 * calls nothing: a slot beyond what this process knows to be backed is damaged to it, and its caller looks
 * again with fnd_index_find().
 */
static inline __attribute__((always_inline)) struct fnd_shm_record *
fnd_bucket_find(const struct fnd_table *t, struct fnd_shm_bucket *b, uint64_t hash, const void *key,
		size_t key_bytes, uint64_t **ret_slot)
{
	for (unsigned int m = fnd_bucket_match(b, hash); m; m &= m - 1) {
		uint64_t *slot = &b->slot[FND_MATCH_SLOT(m)];
		/* [TB-1] pairs with fnd_publish */
		uint64_t off = fnd_load_acquire(slot) & FND_OFF_MASK;
		const char *r = t->base + off;

		/* relaxed: it only grows. The sum cannot wrap. An empty slot, whose tag has gone since it was
		 * compared, names the header of the segment: no record, as its "value" is too long for one. */
		if (fnd_unlikely(off + t->record_bytes > fnd_load_relaxed(&t->seg->limit)))
			return FND_RECORD_DAMAGED;
		if (fnd_unlikely(!fnd_record_is(r, hash, key_bytes) ||
				 !fnd_key_equal(r + sizeof(struct fnd_shm_record), key, key_bytes)))
			continue;
		if (ret_slot)
			*ret_slot = slot;
		return (struct fnd_shm_record *)(uintptr_t)r;
	}
	return NULL;
}

#endif
