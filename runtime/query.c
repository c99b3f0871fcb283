// SPDX-License-Identifier: MIT
/*
 * Queries: what a criterion says of a metadata map.
 *
 * Metadata comes from a segment: every length in it is checked against the bytes that are there, nothing is
 * allocated, and recursion is bounded by the length of an attribute's name.
 */
#include <foundation/query.h>

#include <errno.h>
#include <math.h>
#include <string.h>

#include "mp.h"
#include "registry_internal.h"

bool fnd_attribute_valid(const char *name)
{
	size_t n = name ? strnlen(name, FND_ATTRIBUTE_NAME_MAX + 1) : 0;

	return n >= 1 && n <= FND_ATTRIBUTE_NAME_MAX;
}

/* --- finding an attribute -------------------------------------------------------------------------- */

static bool key_is(const struct fnd_value *key, const char *text, size_t n)
{
	return key->type == FND_VALUE_STR && key->bytes == n && memcmp(key->v.text, text, n) == 0;
}

/* The first pair whose key is @n bytes at @path. */
static int pair_find(const unsigned char *p, size_t bytes, const char *path, size_t n, struct fnd_value *ret)
{
	uint32_t pairs;
	size_t at = fnd_mp_map(p, bytes, &pairs);

	if (at == 0)
		return 0;
	for (; pairs; pairs--) {
		struct fnd_value key, value;
		size_t k = fnd_mp_read(p + at, bytes - at, &key), v;

		v = k ? fnd_mp_read(p + at + k, bytes - at - k, &value) : 0;
		if (v == 0)
			return 0;
		at += k + v;
		if (key_is(&key, path, n)) {
			*ret = value;
			return 1;
		}
	}
	return 0;
}

int fnd_attribute_get(const void *map, size_t bytes, const char *path, struct fnd_value *ret)
{
	struct fnd_value inner;

	if (bytes == 0)
		return 0;
	if (pair_find(map, bytes, path, strlen(path), ret))
		return 1;
	for (const char *dot = strchr(path, '.'); dot; dot = strchr(dot + 1, '.')) {
		if (pair_find(map, bytes, path, (size_t)(dot - path), &inner) && inner.type == FND_VALUE_RAW &&
		    fnd_attribute_get(inner.v.text, inner.bytes, dot + 1, ret))
			return 1;
	}
	return 0;
}

/* Bytes of an array's head and how many elements follow; 0: not an array. */
static size_t array_head(const struct fnd_value *v, uint32_t *ret_n)
{
	const unsigned char *p = (const unsigned char *)v->v.text;

	if (v->type != FND_VALUE_RAW)
		return 0;
	if ((p[0] & 0xf0) == 0x90) {
		*ret_n = p[0] & 15u;
		return 1;
	}
	if (p[0] == 0xdc && v->bytes >= 3) {
		*ret_n = (uint32_t)p[1] << 8 | p[2];
		return 3;
	}
	if (p[0] == 0xdd && v->bytes >= 5) {
		*ret_n = (uint32_t)p[1] << 24 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 8 | p[4];
		return 5;
	}
	return 0;
}

int fnd_attribute_each(const struct fnd_value *v, int (*fn)(const struct fnd_value *v, void *arg), void *arg)
{
	const unsigned char *p = (const unsigned char *)v->v.text;
	uint32_t n = 0;
	size_t at = array_head(v, &n), one;
	int r = 0;

	if (at == 0)
		return fn(v, arg);
	for (; n && r == 0; n--) {
		struct fnd_value element;

		one = fnd_mp_read(p + at, v->bytes - at, &element);
		if (one == 0)
			return 0;
		at += one;
		r = fn(&element, arg);
	}
	return r;
}

/* --- comparing ------------------------------------------------------------------------------------- */

static bool is_number(const struct fnd_value *v)
{
	return v->type == FND_VALUE_INT || v->type == FND_VALUE_UINT || v->type == FND_VALUE_DOUBLE;
}

/* 64 bits of mantissa: every integer is itself. Where long double has less, huge ones may look equal. */
static long double real(const struct fnd_value *v)
{
	if (v->type == FND_VALUE_INT)
		return (long double)v->v.i;
	return v->type == FND_VALUE_UINT ? (long double)v->v.u : (long double)v->v.d;
}

static bool is_text(const struct fnd_value *v)
{
	return v->type == FND_VALUE_STR || v->type == FND_VALUE_BIN;
}

/* True when they can be compared; *@ret_order is below, at or above 0. */
static bool compare(const struct fnd_value *a, const struct fnd_value *b, int *ret_order)
{
	if (is_number(a) && is_number(b)) {
		long double x = real(a), y = real(b);

		*ret_order = (x > y) - (x < y);
		return !isnan(x) && !isnan(y);
	}
	if (a->type != b->type)
		return false;
	if (is_text(a)) {
		size_t n = a->bytes < b->bytes ? a->bytes : b->bytes;
		int order = n ? memcmp(a->v.text, b->v.text, n) : 0;

		*ret_order = order ? order : (a->bytes > b->bytes) - (a->bytes < b->bytes);
		return true;
	}
	if (a->type == FND_VALUE_BOOL)
		*ret_order = (int)(a->v.u & 1) - (int)(b->v.u & 1);
	else
		*ret_order = 0;
	return a->type == FND_VALUE_BOOL || a->type == FND_VALUE_NIL;
}

static int equals_any(const struct fnd_value *v, void *arg)
{
	const struct fnd_criterion *c = arg;
	int order;

	for (uint32_t i = 0; i < c->nvalues; i++)
		if (compare(v, &c->values[i], &order) && order == 0)
			return 1;
	return 0;
}

static bool ordered(const struct fnd_value *v, const struct fnd_criterion *c)
{
	int order;

	if ((!is_number(v) && v->type != FND_VALUE_STR) || !compare(v, c->values, &order))
		return false;
	switch (c->op) {
	case FND_CRITERION_GT:
		return order > 0;
	case FND_CRITERION_GE:
		return order >= 0;
	case FND_CRITERION_LT:
		return order < 0;
	default:
		return order <= 0;
	}
}

static bool holds(struct fnd_criterion *c, const void *map, size_t bytes)
{
	struct fnd_value v;

	if (!fnd_attribute_get(map, bytes, c->attribute, &v))
		return c->op == FND_CRITERION_MISSING;
	switch (c->op) {
	case FND_CRITERION_MISSING:
		return false;
	case FND_CRITERION_EQ:
	case FND_CRITERION_IN:
		return fnd_attribute_each(&v, equals_any, c) == 1;
	case FND_CRITERION_NE:
	case FND_CRITERION_NOT_IN:
		return fnd_attribute_each(&v, equals_any, c) == 0;
	default:
		return ordered(&v, c);
	}
}

int fnd_query_match(const struct fnd_criterion *criteria, size_t n, const void *metadata, size_t metadata_bytes)
{
	uint32_t pairs;

	if (metadata_bytes && (fnd_mp_skip(metadata, metadata_bytes) != metadata_bytes ||
			       fnd_mp_map(metadata, metadata_bytes, &pairs) == 0))
		return 0;
	for (size_t i = 0; i < n; i++) {
		struct fnd_criterion c = criteria[i];

		if (!holds(&c, metadata, metadata_bytes))
			return 0;
	}
	return 1;
}

/* --- well formed? ---------------------------------------------------------------------------------- */

static const char *value_wrong(const struct fnd_value *v, enum fnd_criterion_op op)
{
	bool order = op >= FND_CRITERION_GT && op <= FND_CRITERION_LE;

	if (v->type > FND_VALUE_BIN)
		return "a value of no simple type";
	if (is_text(v) && v->bytes && !v->v.text)
		return "a text at no address";
	if (v->type == FND_VALUE_DOUBLE && isnan(v->v.d))
		return "not a number";
	if (order && !is_number(v) && v->type != FND_VALUE_STR)
		return "a value that has no order";
	return NULL;
}

static const char *criterion_wrong(const struct fnd_criterion *c)
{
	uint32_t least = 1, most = 1;

	if (!fnd_attribute_valid(c->attribute))
		return "an attribute's name has 1 to 63 bytes";
	if ((unsigned int)c->op > FND_CRITERION_MISSING)
		return "no such comparison";
	if (c->op == FND_CRITERION_MISSING)
		least = most = 0;
	else if (c->op == FND_CRITERION_IN || c->op == FND_CRITERION_NOT_IN)
		most = FND_CRITERION_VALUES_MAX;
	if (c->nvalues < least)
		return "a value is wanting";
	if (c->nvalues > most)
		return "too many values";
	if (c->nvalues && !c->values)
		return "values at no address";
	for (uint32_t i = 0; i < c->nvalues; i++) {
		const char *wrong = value_wrong(&c->values[i], c->op);

		if (wrong)
			return wrong;
	}
	return NULL;
}

int fnd_query_check(const struct fnd_criterion *criteria, size_t n)
{
	if (n > FND_CRITERIA_MAX)
		return fnd_error_set(EINVAL, "%zu criteria, at most %d", n, FND_CRITERIA_MAX);
	if (n && !criteria)
		return fnd_error_set(EINVAL, "criteria at no address");
	for (size_t i = 0; i < n; i++) {
		const char *wrong = criterion_wrong(&criteria[i]);

		if (wrong)
			return fnd_error_set(EINVAL, "criterion %zu (%.63s): %s", i + 1,
					     criteria[i].attribute ? criteria[i].attribute : "", wrong);
	}
	return 0;
}
