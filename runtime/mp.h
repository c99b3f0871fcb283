/* SPDX-License-Identifier: MIT */
/* A little msgpack: single objects written and read without allocating, safe on hostile bytes. */
#ifndef FOUNDATION_RUNTIME_MP_H
#define FOUNDATION_RUNTIME_MP_H

#include <foundation/context.h>

/* Writes into @buf; when something does not fit, `full` stays set and nothing more is written. */
struct fnd_mp_writer {
	unsigned char *buf;
	size_t size, used;
	int full;
};

/* Bytes of the first object, 0: the bytes do not begin with a whole one. */
size_t fnd_mp_skip(const unsigned char *p, size_t n);
/* Bytes of the first object and what it is; 0 as above. Containers and extensions are FND_VALUE_RAW. */
size_t fnd_mp_read(const unsigned char *p, size_t n, struct fnd_value *ret_value);
/* The head of a map: bytes it takes and pairs that follow; 0: not a map. */
size_t fnd_mp_map(const unsigned char *p, size_t n, uint32_t *ret_pairs);

void fnd_mp_put(struct fnd_mp_writer *w, const void *bytes, size_t n);
void fnd_mp_put_map(struct fnd_mp_writer *w, uint32_t pairs);
void fnd_mp_put_array(struct fnd_mp_writer *w, uint32_t n);
void fnd_mp_put_str(struct fnd_mp_writer *w, const char *text, size_t n);
void fnd_mp_put_uint(struct fnd_mp_writer *w, uint64_t v);
/* -EINVAL: no such type, or raw bytes that are not one object. */
int fnd_mp_put_value(struct fnd_mp_writer *w, const struct fnd_value *v);

#endif
