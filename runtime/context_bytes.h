/* SPDX-License-Identifier: MIT */
/*
 * The short keys and values that contexts are made of, without a call for each: the bytes are those that
 * mp.c writes and reads.
 */
#ifndef FOUNDATION_RUNTIME_CONTEXT_BYTES_H
#define FOUNDATION_RUNTIME_CONTEXT_BYTES_H

#include <endian.h>
#include <stdbool.h>
#include <string.h>

#include "mp.h"

/* Keys are short: two loads that overlap instead of a call. */
static inline bool fnd_same_bytes(const uint8_t *a, const uint8_t *b, size_t n)
{
	uint64_t a8, b8, a8_end, b8_end;
	uint32_t a4, b4, a4_end, b4_end;

	if (n > 16)
		return memcmp(a, b, n) == 0;
	if (n >= 8) {
		memcpy(&a8, a, 8), memcpy(&b8, b, 8);
		memcpy(&a8_end, a + n - 8, 8), memcpy(&b8_end, b + n - 8, 8);
		return ((a8 ^ b8) | (a8_end ^ b8_end)) == 0;
	}
	if (n >= 4) {
		memcpy(&a4, a, 4), memcpy(&b4, b, 4);
		memcpy(&a4_end, a + n - 4, 4), memcpy(&b4_end, b + n - 4, 4);
		return ((a4 ^ b4) | (a4_end ^ b4_end)) == 0;
	}
	while (n && a[n - 1] == b[n - 1])
		n--;
	return n == 0;
}

static inline void fnd_copy_bytes(uint8_t *to, const void *from, size_t n)
{
	const uint8_t *p = from;
	uint64_t first8, last8;
	uint32_t first4, last4;

	if (n > 16) {
		memcpy(to, p, n);
	} else if (n >= 8) {
		memcpy(&first8, p, 8), memcpy(&last8, p + n - 8, 8);
		memcpy(to, &first8, 8), memcpy(to + n - 8, &last8, 8);
	} else if (n >= 4) {
		memcpy(&first4, p, 4), memcpy(&last4, p + n - 4, 4);
		memcpy(to, &first4, 4), memcpy(to + n - 4, &last4, 4);
	} else {
		while (n--)
			to[n] = p[n];
	}
}

/*
 * The values met most, as fnd_mp_put_value() writes them, but straight to where they go. Returns: the bytes,
 * 0: not one of those, or @room is scarce.
 */
static inline uint32_t fnd_put_quick(uint8_t *p, size_t room, const struct fnd_value *v)
{
	uint32_t big = htobe32((uint32_t)v->v.u);

	if (v->type == FND_VALUE_STR && v->bytes <= 31 && v->bytes < room && v->v.text) {
		p[0] = (uint8_t)(0xa0 | v->bytes);
		fnd_copy_bytes(p + 1, v->v.text, v->bytes);
		return 1 + v->bytes;
	}
	if ((v->type != FND_VALUE_UINT && (v->type != FND_VALUE_INT || v->v.i < 0)) || room < 5)
		return 0;
	if (v->v.u <= 0x7f) {
		p[0] = (uint8_t)v->v.u;
		return 1;
	}
	if (v->v.u <= 0xffff || v->v.u > 0xffffffff)
		return 0;
	p[0] = 0xce;
	memcpy(p + 1, &big, 4);
	return 5;
}

/* The same the other way; what fnd_mp_read() would say. */
static inline bool fnd_value_read(const uint8_t *p, uint32_t n, struct fnd_value *ret_value)
{
	unsigned int c = n ? p[0] : 0xc1;
	uint32_t big;

	if (n == 1 && c <= 0x7f) {
		*ret_value = (struct fnd_value){ .type = FND_VALUE_UINT, .bytes = 1, .v.u = c };
		return true;
	}
	if (n == 5 && c == 0xce) {
		memcpy(&big, p + 1, 4);
		*ret_value = (struct fnd_value){ .type = FND_VALUE_UINT, .bytes = 5, .v.u = be32toh(big) };
		return true;
	}
	if (c >= 0xa0 && c <= 0xbf && n == 1 + (c & 31u)) {
		*ret_value = (struct fnd_value){ .type = FND_VALUE_STR, .bytes = n - 1,
						 .v.text = (const char *)p + 1 };
		return true;
	}
	return n && fnd_mp_read(p, n, ret_value) != 0;
}

#endif
