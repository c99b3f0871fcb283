// SPDX-License-Identifier: MIT
/* msgpack as JSON: whatever the bytes are, what comes out is one JSON value, or nothing that counts. */
#include "json_value.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "mp.h"

#define DEPTH_MAX 12 /* deeper is null: the scanner of json.c goes to 16 */

/* The head of an array: bytes it takes and elements that follow; 0: not an array. */
static size_t array_head(const unsigned char *p, size_t n, uint32_t *ret_count)
{
	if (n >= 1 && (p[0] & 0xf0) == 0x90) {
		*ret_count = p[0] & 15u;
		return 1;
	}
	if (n >= 3 && p[0] == 0xdc) {
		*ret_count = (uint32_t)p[1] << 8 | p[2];
		return 3;
	}
	if (n >= 5 && p[0] == 0xdd) {
		*ret_count = (uint32_t)p[1] << 24 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 8 | p[4];
		return 5;
	}
	return 0;
}

static void put_binary(struct fnd_json *j, const struct fnd_value *v)
{
	char digits[3];

	fnd_json_raw(j, "{\"$bin\":\"");
	for (uint32_t i = 0; i < v->bytes; i++) {
		snprintf(digits, sizeof(digits), "%02x", (unsigned char)v->v.text[i]);
		fnd_json_raw(j, digits);
	}
	fnd_json_raw(j, "\"}");
}

static void put_double(struct fnd_json *j, double d)
{
	char text[40];

	if (d - d != 0) { /* JSON knows no infinity */
		fnd_json_raw(j, "null");
		return;
	}
	snprintf(text, sizeof(text), "%.17g", d);
	for (char *p = text; *p; p++)
		if (*p == ',') /* the locale's point */
			*p = '.';
	fnd_json_raw(j, text);
}

static void put_scalar(struct fnd_json *j, const struct fnd_value *v)
{
	char text[24];

	switch (v->type) {
	case FND_VALUE_BOOL:
		fnd_json_raw(j, v->v.u ? "true" : "false");
		break;
	case FND_VALUE_INT:
	case FND_VALUE_UINT:
		snprintf(text, sizeof(text), v->type == FND_VALUE_INT ? "%" PRId64 : "%" PRIu64, v->v.i);
		fnd_json_raw(j, text);
		break;
	case FND_VALUE_DOUBLE:
		put_double(j, v->v.d);
		break;
	case FND_VALUE_STR:
		fnd_json_quoted(j, v->v.text, v->bytes);
		break;
	case FND_VALUE_BIN:
		put_binary(j, v);
		break;
	default:
		fnd_json_raw(j, "null");
	}
}

static void put_key(struct fnd_json *j, const struct fnd_value *v, uint32_t index)
{
	char text[24];

	fnd_json_key(j, NULL);
	if (v->type == FND_VALUE_STR) {
		fnd_json_quoted(j, v->v.text, v->bytes);
	} else {
		if (v->type == FND_VALUE_UINT || v->type == FND_VALUE_INT)
			snprintf(text, sizeof(text), "%" PRId64, v->v.i);
		else
			snprintf(text, sizeof(text), "?%u", index);
		fnd_json_quoted(j, text, strlen(text));
	}
	fnd_json_raw(j, ":");
}

static size_t put(struct fnd_json *j, const unsigned char *p, size_t n, unsigned int depth);

/* Members or elements; what is not whole ends it. */
static void put_inside(struct fnd_json *j, const unsigned char *p, size_t n, uint32_t count, bool map,
		       unsigned int depth)
{
	struct fnd_value key;
	size_t used;

	fnd_json_raw(j, map ? "{" : "[");
	for (uint32_t i = 0; i < count && !j->full; i++) {
		used = map ? fnd_mp_read(p, n, &key) : 0;
		if ((map && used == 0) || fnd_mp_skip(p + used, n - used) == 0)
			break;
		if (map)
			put_key(j, &key, i);
		else
			fnd_json_key(j, NULL);
		used += put(j, p + used, n - used, depth + 1);
		p += used;
		n -= used;
	}
	fnd_json_raw(j, map ? "}" : "]");
}

static size_t put(struct fnd_json *j, const unsigned char *p, size_t n, unsigned int depth)
{
	struct fnd_value v = { .type = FND_VALUE_NIL };
	size_t bytes = fnd_mp_read(p, n, &v), head;
	uint32_t count = 0;
	bool map = true;

	if (bytes == 0 || v.type != FND_VALUE_RAW || depth >= DEPTH_MAX) {
		put_scalar(j, &v);
		return bytes;
	}
	head = fnd_mp_map(p, bytes, &count);
	if (head == 0) {
		map = false;
		head = array_head(p, bytes, &count);
	}
	if (head == 0)
		fnd_json_raw(j, "null"); /* an extension */
	else
		put_inside(j, p + head, bytes - head, count, map, depth);
	return bytes;
}

void fnd_json_value(struct fnd_json *j, const char *key, const void *msgpack, size_t bytes)
{
	fnd_json_key(j, key);
	put(j, msgpack, bytes, 0);
}
