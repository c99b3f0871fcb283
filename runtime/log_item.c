// SPDX-License-Identifier: MIT
/* A field's value as JSON. Nested msgpack is read without trusting a byte: it may come from another process. */
#include "log_internal.h"
#include "mp.h"

#define DEPTH_MAX 8

static bool put_value(struct fnd_log_out *o, const struct fnd_value *v, size_t budget, int depth);

static bool quoted(struct fnd_log_out *o, const char *s, size_t n, size_t budget)
{
	return fnd_log_put(o, "\"", 1) && fnd_log_put_value(o, s, n, FND_QUOTE_ESCAPED, budget) &&
	       fnd_log_put(o, "\"", 1);
}

static bool binary(struct fnd_log_out *o, const char *s, size_t n, size_t budget)
{
	static const char hex[] = "0123456789abcdef";
	char text[2048];
	size_t used = 0;

	for (size_t i = 0; i < n && used + 2 <= sizeof(text); i++) {
		text[used++] = hex[(unsigned char)s[i] >> 4];
		text[used++] = hex[(unsigned char)s[i] & 15];
	}
	if (n > sizeof(text) / 2)
		o->cut++;
	return quoted(o, text, used, budget);
}

/* The head of an array: bytes it takes and elements that follow; 0: not an array. */
static size_t array_head(const unsigned char *p, size_t n, uint32_t *ret_elements)
{
	size_t bytes = n == 0 ? 0 : (p[0] & 0xf0) == 0x90 ? 1 : p[0] == 0xdc ? 3 : p[0] == 0xdd ? 5 : 0;

	if (bytes == 0 || bytes > n)
		return 0;
	*ret_elements = bytes == 1 ? p[0] & 15u : 0;
	for (size_t i = 1; i < bytes; i++)
		*ret_elements = *ret_elements << 8 | p[i];
	return bytes;
}

/* JSON has text keys only: a number, say, becomes one. */
static bool put_key(struct fnd_log_out *o, const struct fnd_value *v, size_t budget)
{
	if (v->type == FND_VALUE_STR)
		return put_value(o, v, budget, DEPTH_MAX);
	return v->type <= FND_VALUE_UINT && fnd_log_put(o, "\"", 1) && put_value(o, v, budget, DEPTH_MAX) &&
	       fnd_log_put(o, "\"", 1);
}

/* Arrays, maps and extensions. */
static bool nested(struct fnd_log_out *o, const unsigned char *p, size_t n, size_t budget, int depth)
{
	uint32_t elements;
	struct fnd_value v;
	size_t at = fnd_mp_map(p, n, &elements), taken;
	bool map = at > 0;

	if (!map)
		at = array_head(p, n, &elements);
	if (at == 0)
		return binary(o, (const char *)p, n, budget);
	if (depth == DEPTH_MAX || !fnd_log_put(o, map ? "{" : "[", 1))
		return false;
	for (uint32_t i = 0; i < elements; i++) {
		if (i > 0 && !fnd_log_put(o, ",", 1))
			return false;
		for (int part = map ? 0 : 1; part < 2; part++) {
			taken = fnd_mp_read(p + at, n - at, &v);
			at += taken;
			if (!taken || !(part ? put_value(o, &v, budget, depth + 1) :
					       put_key(o, &v, budget) && fnd_log_put(o, ":", 1)))
				return false;
		}
	}
	return fnd_log_put(o, map ? "}" : "]", 1);
}

static bool put_double(struct fnd_log_out *o, double d)
{
	bool quote = !fnd_log_is_finite(d);

	return (!quote || fnd_log_put(o, "\"", 1)) && fnd_log_put_double(o, d) &&
	       (!quote || fnd_log_put(o, "\"", 1));
}

static bool put_value(struct fnd_log_out *o, const struct fnd_value *v, size_t budget, int depth)
{
	switch (v->type) {
	case FND_VALUE_NIL:
		return fnd_log_put_text(o, "null");
	case FND_VALUE_BOOL:
		return fnd_log_put_text(o, v->v.u ? "true" : "false");
	case FND_VALUE_INT:
		return fnd_log_put_i64(o, v->v.i);
	case FND_VALUE_UINT:
		return fnd_log_put_u64(o, v->v.u);
	case FND_VALUE_DOUBLE:
		return put_double(o, v->v.d);
	case FND_VALUE_STR:
		return v->v.text ? quoted(o, v->v.text, v->bytes, budget) : fnd_log_put_text(o, "null");
	case FND_VALUE_BIN:
		return binary(o, v->v.text, v->bytes, budget);
	case FND_VALUE_RAW:
		return nested(o, (const unsigned char *)v->v.text, v->bytes, budget, depth);
	}
	return false;
}

bool fnd_log_put_json(struct fnd_log_out *o, const struct fnd_value *v, size_t budget)
{
	return put_value(o, v, budget, 0);
}
