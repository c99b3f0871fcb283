/* SPDX-License-Identifier: MIT */
/*
 * What a thread's area means: its error context. The same layout lies in the thread's own memory when its
 * context is private.
 *
 * docs/segment-format.md has a row for each member; a test compares them with this file.
 */
#ifndef FOUNDATION_RUNTIME_CONTEXT_LAYOUT_H
#define FOUNDATION_RUNTIME_CONTEXT_LAYOUT_H

#include <foundation/context.h>

#define FND_CRUMB_PLACES (FND_CRUMBS_MAX + 1) /* one is written while the others are looked at */
#define FND_CONTEXT_DEPTH_MAX 4095u
#define FND_ENTRY_HEAD 3u /* key bytes, then value bytes, low half first */

struct fnd_shm_crumb {
	uint64_t at_ns;
	uint8_t bytes;
	char text[FND_CRUMB_TEXT_MAX];
};

struct fnd_shm_context {
	uint64_t word;	 /* version 32 | half 1 | entries 7 | bytes 12 | depth 12; 0: no context */
	uint64_t crumbs; /* left so far << 8 | how many of them count */
	uint64_t dropped;
	uint8_t pad[40];
	struct fnd_shm_crumb crumb[FND_CRUMB_PLACES];
	/* Entries, one behind the other: head, key, value as msgpack. No key: what is before does not count. No
	 * value: the key is hidden. One half counts; the other is where they are packed anew. */
	uint8_t fields[2][FND_CONTEXT_BYTES];
};

_Static_assert(sizeof(struct fnd_shm_crumb) == 64, "a line");
_Static_assert(sizeof(struct fnd_shm_context) == FND_THREAD_AREA_BYTES, "the whole area");
_Static_assert(offsetof(struct fnd_shm_context, crumb) == 64, "whole lines");
_Static_assert(offsetof(struct fnd_shm_context, fields) == 640, "whole lines");

/* The word, taken apart. */
struct fnd_context_state {
	uint32_t version, half, count, used, depth;
};

static inline uint64_t fnd_context_word(const struct fnd_context_state *s)
{
	return (uint64_t)s->version << 32 | (uint64_t)(s->half & 1) << 31 | (uint64_t)(s->count & 127) << 24 |
	       (uint64_t)(s->used & 4095) << 12 | (s->depth & 4095);
}

#define FND_CONTEXT_USED_DEPTH UINT64_C(0xffffff) /* the bits of both */

static inline struct fnd_context_state fnd_context_state(uint64_t w)
{
	return (struct fnd_context_state){ .version = (uint32_t)(w >> 32),
					   .half = (uint32_t)(w >> 31) & 1,
					   .count = (uint32_t)(w >> 24) & 127,
					   .used = (uint32_t)(w >> 12) & 4095,
					   .depth = (uint32_t)w & 4095 };
}

struct fnd_entry {
	const uint8_t *key, *value;
	uint32_t key_bytes, value_bytes, end; /* offset of the next one */
};

/* The entry at @at; false: there is none, or it does not end before @used. */
static inline int fnd_entry_at(const uint8_t *fields, uint32_t used, uint32_t at, struct fnd_entry *ret_e)
{
	const uint8_t *p = fields + at;
	uint32_t key, value;

	if (used < FND_ENTRY_HEAD || at > used - FND_ENTRY_HEAD)
		return 0;
	key = p[0];
	value = (uint32_t)p[1] | (uint32_t)p[2] << 8;
	if (key + value > used - FND_ENTRY_HEAD - at)
		return 0;
	ret_e->key = p + FND_ENTRY_HEAD;
	ret_e->value = ret_e->key + key;
	ret_e->key_bytes = key;
	ret_e->value_bytes = value;
	ret_e->end = at + FND_ENTRY_HEAD + key + value;
	return 1;
}

/* Calls @fn for each field of the merged map, in the order of their first setting. context_area.c */
int fnd_context_merge(const uint8_t *fields, uint32_t used,
		      int (*fn)(const struct fnd_entry *e, void *arg), void *arg);
/* The merged map as msgpack. Returns the bytes or -ENOBUFS. */
int fnd_context_merged_map(const uint8_t *fields, uint32_t used, void *buf, size_t size, uint32_t *ret_fields);

#endif
