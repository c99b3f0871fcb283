// SPDX-License-Identifier: MIT
/*
 * A little msgpack, by the specification at msgpack.org.
 *
 * Objects still owed are counted rather than nested: nothing is allocated or recursed into for a size that is
 * only declared. Numbers are written in their shortest form, so equal values are equal bytes.
 */
#include "mp.h"

#include <errno.h>
#include <string.h>

static uint64_t big_endian(const unsigned char *p, unsigned int n)
{
	uint64_t v = 0;

	while (n--)
		v = v << 8 | *p++;
	return v;
}

/* --- reading --------------------------------------------------------------------------------------- */

/* What follows a first byte: a length field, then `bytes` of payload, then `objects`. */
struct shape {
	unsigned int field;
	uint64_t bytes, objects;
};

static struct shape shape_of(unsigned int c, const unsigned char *rest, size_t n)
{
	static const unsigned char fixed[] = { 4, 8, 1, 2, 4, 8, 1, 2, 4, 8, 2, 3, 5, 9, 17 }; /* 0xca on */
	struct shape s = { 0, 0, 0 };
	uint64_t len;

	if (c >= 0x80 && c <= 0x8f)
		s.objects = 2 * (c & 15u);
	else if (c >= 0x90 && c <= 0x9f)
		s.objects = c & 15u;
	else if (c >= 0xa0 && c <= 0xbf)
		s.bytes = c & 31u;
	else if (c >= 0xca && c <= 0xd8)
		s.bytes = fixed[c - 0xca];
	if (c >= 0xc4 && c <= 0xc9)
		s.field = 1u << (c - 0xc4) % 3;
	else if (c >= 0xd9 && c <= 0xdb)
		s.field = 1u << (c - 0xd9);
	else if (c >= 0xdc && c <= 0xdf)
		s.field = 2u << (c & 1);
	if (s.field == 0 || s.field > n)
		return s;
	len = big_endian(rest, s.field);
	if (c >= 0xde)
		s.objects = 2 * len;
	else if (c >= 0xdc)
		s.objects = len;
	else
		s.bytes = len + (c >= 0xc7 && c <= 0xc9);
	return s;
}

size_t fnd_mp_skip(const unsigned char *p, size_t n)
{
	uint64_t owed = 1;
	size_t at = 0;

	while (owed) {
		struct shape s;
		unsigned int c;

		if (at == n || p[at] == 0xc1)
			return 0;
		c = p[at++];
		s = shape_of(c, p + at, n - at);
		if (s.field > n - at)
			return 0;
		at += s.field;
		if (s.bytes > n - at || owed - 1 + s.objects > n - at - s.bytes)
			return 0; /* an object has a byte at least */
		at += s.bytes;
		owed += s.objects - 1;
	}
	return at;
}

static void number(struct fnd_value *v, int64_t i)
{
	v->type = i < 0 ? FND_VALUE_INT : FND_VALUE_UINT;
	v->v.i = i;
}

static void floating(struct fnd_value *v, unsigned int c, const unsigned char *p)
{
	uint64_t bits = big_endian(p, c == 0xca ? 4 : 8);
	uint32_t low = (uint32_t)bits;
	float f;

	v->type = FND_VALUE_DOUBLE;
	if (c == 0xcb) {
		memcpy(&v->v.d, &bits, sizeof(bits));
	} else {
		memcpy(&f, &low, sizeof(f));
		v->v.d = (double)f;
	}
}

size_t fnd_mp_read(const unsigned char *p, size_t n, struct fnd_value *ret_value)
{
	struct fnd_value v = { .type = FND_VALUE_RAW };
	size_t bytes = fnd_mp_skip(p, n);
	unsigned int c;

	if (bytes == 0)
		return 0;
	c = p[0];
	v.v.text = (const char *)p;
	v.bytes = (uint32_t)bytes;
	if (c <= 0x7f || c >= 0xe0) {
		number(&v, (int8_t)c);
	} else if (c == 0xc0) {
		v.type = FND_VALUE_NIL;
	} else if (c == 0xc2 || c == 0xc3) {
		v.type = FND_VALUE_BOOL;
		v.v.u = c & 1;
	} else if (c >= 0xcc && c <= 0xcf) {
		v.type = FND_VALUE_UINT;
		v.v.u = big_endian(p + 1, 1u << (c - 0xcc));
	} else if (c >= 0xd0 && c <= 0xd3) {
		unsigned int unused = 64 - (8u << (c - 0xd0)); /* shifted out and in again: the sign */

		number(&v, (int64_t)(big_endian(p + 1, 1u << (c - 0xd0)) << unused) >> unused);
	} else if (c == 0xca || c == 0xcb) {
		floating(&v, c, p + 1);
	} else if ((c >= 0xa0 && c <= 0xbf) || (c >= 0xd9 && c <= 0xdb) || (c >= 0xc4 && c <= 0xc6)) {
		unsigned int head = 1 + shape_of(c, p + 1, bytes - 1).field;

		v.type = c <= 0xc6 && c >= 0xc4 ? FND_VALUE_BIN : FND_VALUE_STR;
		v.v.text += head;
		v.bytes = (uint32_t)(bytes - head);
	}
	*ret_value = v;
	return bytes;
}

size_t fnd_mp_map(const unsigned char *p, size_t n, uint32_t *ret_pairs)
{
	struct shape s;

	if (n == 0 || !((p[0] & 0xf0) == 0x80 || p[0] == 0xde || p[0] == 0xdf))
		return 0;
	s = shape_of(p[0], p + 1, n - 1);
	if (s.field > n - 1 || s.objects / 2 > UINT32_MAX)
		return 0;
	*ret_pairs = (uint32_t)(s.objects / 2);
	return 1 + s.field;
}

int fnd_map_iterate(const void *map, size_t map_bytes,
		    int (*fn)(const struct fnd_field *field, void *arg), void *arg)
{
	const unsigned char *p = map;
	uint32_t pairs;
	size_t at;

	if (!p || fnd_mp_skip(p, map_bytes) != map_bytes)
		return -EINVAL;
	at = fnd_mp_map(p, map_bytes, &pairs);
	if (at == 0)
		return -EINVAL;
	for (; pairs; pairs--) {
		struct fnd_field f;
		struct fnd_value key;
		int err;

		at += fnd_mp_read(p + at, map_bytes - at, &key);
		if (key.type != FND_VALUE_STR)
			return -EINVAL;
		f.key = key.bytes ? key.v.text : ""; /* without a length the bytes up to a NUL count */
		f.key_bytes = key.bytes;
		at += fnd_mp_read(p + at, map_bytes - at, &f.value);
		err = fn(&f, arg);
		if (err)
			return err;
	}
	return 0;
}

/* --- writing --------------------------------------------------------------------------------------- */

void fnd_mp_put(struct fnd_mp_writer *w, const void *bytes, size_t n)
{
	if (w->full || n > w->size - w->used) {
		w->full = 1;
		return;
	}
	if (n)
		memcpy(w->buf + w->used, bytes, n);
	w->used += n;
}

/* A first byte with @bytes of a big-endian number behind it. */
static void put_head(struct fnd_mp_writer *w, unsigned int c, uint64_t v, unsigned int bytes)
{
	unsigned char head[9] = { (unsigned char)c };

	for (unsigned int i = 0; i < bytes; i++)
		head[1 + i] = (unsigned char)(v >> 8 * (bytes - 1 - i));
	fnd_mp_put(w, head, 1 + bytes);
}

void fnd_mp_put_map(struct fnd_mp_writer *w, uint32_t pairs)
{
	if (pairs <= 15)
		put_head(w, 0x80 | pairs, 0, 0);
	else
		put_head(w, pairs <= 0xffff ? 0xde : 0xdf, pairs, pairs <= 0xffff ? 2 : 4);
}

void fnd_mp_put_array(struct fnd_mp_writer *w, uint32_t n)
{
	if (n <= 15)
		put_head(w, 0x90 | n, 0, 0);
	else
		put_head(w, n <= 0xffff ? 0xdc : 0xdd, n, n <= 0xffff ? 2 : 4);
}

void fnd_mp_put_str(struct fnd_mp_writer *w, const char *text, size_t n)
{
	if (n <= 31)
		put_head(w, 0xa0 | (unsigned int)n, 0, 0);
	else if (n <= 0xff)
		put_head(w, 0xd9, n, 1);
	else
		put_head(w, n <= 0xffff ? 0xda : 0xdb, n, n <= 0xffff ? 2 : 4);
	fnd_mp_put(w, text, n);
}

static void put_bin(struct fnd_mp_writer *w, const char *bytes, size_t n)
{
	if (n <= 0xff)
		put_head(w, 0xc4, n, 1);
	else
		put_head(w, n <= 0xffff ? 0xc5 : 0xc6, n, n <= 0xffff ? 2 : 4);
	fnd_mp_put(w, bytes, n);
}

void fnd_mp_put_uint(struct fnd_mp_writer *w, uint64_t v)
{
	if (v <= 0x7f)
		put_head(w, (unsigned int)v, 0, 0);
	else if (v <= 0xff)
		put_head(w, 0xcc, v, 1);
	else if (v <= 0xffff)
		put_head(w, 0xcd, v, 2);
	else
		put_head(w, v <= 0xffffffff ? 0xce : 0xcf, v, v <= 0xffffffff ? 4 : 8);
}

static void put_int(struct fnd_mp_writer *w, int64_t v)
{
	if (v >= 0)
		fnd_mp_put_uint(w, (uint64_t)v);
	else if (v >= -32)
		put_head(w, (unsigned int)(uint8_t)v, 0, 0);
	else if (v >= INT8_MIN)
		put_head(w, 0xd0, (uint64_t)v, 1);
	else if (v >= INT16_MIN)
		put_head(w, 0xd1, (uint64_t)v, 2);
	else
		put_head(w, v >= INT32_MIN ? 0xd2 : 0xd3, (uint64_t)v, v >= INT32_MIN ? 4 : 8);
}

int fnd_mp_put_value(struct fnd_mp_writer *w, const struct fnd_value *v)
{
	uint64_t bits;

	if (v->type >= FND_VALUE_STR && !v->v.text && v->bytes)
		return -EINVAL;
	switch (v->type) {
	case FND_VALUE_NIL:
		put_head(w, 0xc0, 0, 0);
		return 0;
	case FND_VALUE_BOOL:
		put_head(w, v->v.u ? 0xc3 : 0xc2, 0, 0);
		return 0;
	case FND_VALUE_INT:
		put_int(w, v->v.i);
		return 0;
	case FND_VALUE_UINT:
		fnd_mp_put_uint(w, v->v.u);
		return 0;
	case FND_VALUE_DOUBLE:
		memcpy(&bits, &v->v.d, sizeof(bits));
		put_head(w, 0xcb, bits, 8);
		return 0;
	case FND_VALUE_STR:
		fnd_mp_put_str(w, v->v.text, v->bytes);
		return 0;
	case FND_VALUE_BIN:
		put_bin(w, v->v.text, v->bytes);
		return 0;
	case FND_VALUE_RAW:
		if (v->bytes == 0 || fnd_mp_skip((const unsigned char *)v->v.text, v->bytes) != v->bytes)
			return -EINVAL;
		fnd_mp_put(w, v->v.text, v->bytes);
		return 0;
	default:
		return -EINVAL;
	}
}

/* --- fields ---------------------------------------------------------------------------------------- */

struct fnd_field fnd_str(const char *k, const char *text)
{
	struct fnd_field f = { .key = k, .value = { .type = text ? FND_VALUE_STR : FND_VALUE_NIL } };

	if (text) {
		f.value.bytes = (uint32_t)strnlen(text, UINT32_MAX);
		f.value.v.text = text;
	}
	return f;
}

struct fnd_field fnd_int(const char *k, int64_t value)
{
	return (struct fnd_field){ .key = k, .value = { .type = FND_VALUE_INT, .v.i = value } };
}

struct fnd_field fnd_uint(const char *k, uint64_t value)
{
	return (struct fnd_field){ .key = k, .value = { .type = FND_VALUE_UINT, .v.u = value } };
}

struct fnd_field fnd_double(const char *k, double value)
{
	return (struct fnd_field){ .key = k, .value = { .type = FND_VALUE_DOUBLE, .v.d = value } };
}

struct fnd_field fnd_bool(const char *k, int value)
{
	return (struct fnd_field){ .key = k, .value = { .type = FND_VALUE_BOOL, .v.u = value != 0 } };
}
