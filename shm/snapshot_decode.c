/* SPDX-License-Identifier: MIT */
/*
 * The msgpack inside a snapshot's blocks, read by a cursor that knows its two shapes and nothing else.
 *
 * The general decoder of msgpack-c allocates for as many elements as an array says it has before it looks
 * whether they are there; here no declared size is believed before the bytes are, and nothing is
 * allocated or copied. Only the shortest encoding is accepted, so a record has one encoding.
 */
#include <stdbool.h>
#include <string.h>

#include "snapshot.h"

static bool take_byte(struct fnd_snapshot_cursor *c, unsigned char want)
{
	if (!c->left || *c->p != want)
		return false;
	c->p++;
	c->left--;
	return true;
}

static bool take_be(struct fnd_snapshot_cursor *c, size_t bytes, uint64_t *ret_v)
{
	uint64_t v = 0;

	if (c->left < bytes)
		return false;
	for (size_t i = 0; i < bytes; i++)
		v = v << 8 | c->p[i];
	c->p += bytes;
	c->left -= bytes;
	*ret_v = v;
	return true;
}

static bool take_uint(struct fnd_snapshot_cursor *c, uint64_t max, uint64_t *ret_v)
{
	uint64_t v = 0, least = 0;

	if (!c->left)
		return false;
	if (*c->p < 0x80) {
		take_be(c, 1, &v);
	} else {
		unsigned int width = *c->p - 0xccu; /* 0xcc to 0xcf: 1, 2, 4, 8 bytes */

		if (width > 3)
			return false;
		c->p++;
		c->left--;
		if (!take_be(c, (size_t)1 << width, &v))
			return false;
		least = width ? (uint64_t)1 << (4u << width) : 0x80;
	}
	if (v < least || v > max)
		return false;
	*ret_v = v;
	return true;
}

static bool take_bytes(struct fnd_snapshot_cursor *c, uint64_t len, const unsigned char **ret_p)
{
	if (len > c->left)
		return false;
	*ret_p = c->p;
	c->p += len;
	c->left -= len;
	return true;
}

static bool take_bin(struct fnd_snapshot_cursor *c, const unsigned char **ret_p, size_t *ret_len)
{
	static const uint64_t least[3] = { 0, 0x100, 0x10000 };
	unsigned int width;
	uint64_t len;

	if (!c->left)
		return false;
	width = *c->p - 0xc4u; /* 0xc4 to 0xc6: a length of 1, 2, 4 bytes */
	if (width > 2)
		return false;
	c->p++;
	c->left--;
	if (!take_be(c, (size_t)1 << width, &len) || len < least[width] ||
	    !take_bytes(c, len, ret_p))
		return false;
	*ret_len = (size_t)len;
	return true;
}

static bool sound_name(const unsigned char *p, size_t len)
{
	static const char ok[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-";

	for (size_t i = 0; i < len; i++)
		if (!p[i] || !strchr(ok, p[i]))
			return false;
	return len > 0;
}

const char *fnd_snapshot_decode_table(struct fnd_snapshot_cursor *c, struct fnd_snapshot_table *t)
{
	const unsigned char *name;
	uint64_t flags, key_max, value_max;
	size_t len;

	if (!take_byte(c, 0x95))
		return "not an array of five";
	if (!c->left || (*c->p & 0xe0) != 0xa0)
		return "the name is no short string";
	len = *c->p & 0x1f;
	take_byte(c, *c->p);
	if (!take_bytes(c, len, &name) || !sound_name(name, len))
		return "not a table's name";
	if (!take_uint(c, FND_TABLE_FIXED | FND_TABLE_OWNED, &flags))
		return "flags that no table has";
	if (!take_uint(c, FND_KEY_MAX, &key_max) || !key_max)
		return "a key limit that no table has";
	if (!take_uint(c, FND_VALUE_MAX, &value_max) ||
	    (flags & FND_TABLE_OWNED && value_max < sizeof(struct fnd_owner)))
		return "a value limit that no table has";
	if (!take_uint(c, INT64_MAX, &t->capacity))
		return "a capacity that no table has";
	if (c->left)
		return "bytes after the definition";
	memset(t->name, 0, sizeof(t->name));
	memcpy(t->name, name, len);
	t->flags = (uint32_t)flags;
	t->key_max = (uint32_t)key_max;
	t->value_max = (uint32_t)value_max;
	return NULL;
}

static bool take_owner(struct fnd_snapshot_cursor *c, struct fnd_owner *o)
{
	uint64_t pid, slot, generation;

	if (!take_byte(c, 0x93) || !take_uint(c, UINT32_MAX, &pid) ||
	    !take_uint(c, UINT32_MAX, &slot) || !take_uint(c, UINT32_MAX, &generation))
		return false;
	*o = (struct fnd_owner){ (uint32_t)pid, (uint32_t)slot, (uint32_t)generation, 0 };
	return true;
}

const char *fnd_snapshot_decode_record(struct fnd_snapshot_cursor *c, const struct fnd_snapshot_table *t,
				       struct fnd_snapshot_record *r, struct fnd_owner *owner)
{
	size_t room = t->value_max;
	const unsigned char *key, *value;

	if (!take_byte(c, 0x93))
		return "a record is no array of three";
	if (!take_bin(c, &key, &r->key_bytes))
		return "a record's key is no byte string";
	if (!r->key_bytes || r->key_bytes > t->key_max)
		return "a key outside its table's limits";
	if (!take_bin(c, &value, &r->value_bytes))
		return "a record's value is no byte string";
	if (t->flags & FND_TABLE_OWNED)
		room -= sizeof(struct fnd_owner);
	if (r->value_bytes > room)
		return "a value outside its table's limits";
	r->key = key;
	r->value = value;
	r->owner = NULL;
	if (!(t->flags & FND_TABLE_OWNED))
		return take_byte(c, 0xc0) ? NULL : "an owner where the table has none";
	r->owner = owner;
	return take_owner(c, owner) ? NULL : "a record's owner is no array of three numbers";
}
