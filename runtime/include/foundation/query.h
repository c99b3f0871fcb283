/* SPDX-License-Identifier: MIT */
/*
 * Queries: agents by what their metadata says.
 *
 * An attribute is a key of the metadata map, or a path into maps within it, with dots: resources.memory. A
 * key that has the dots itself goes first. Values are compared by type: numbers with numbers whatever their
 * encoding, strings with strings byte by byte, true and false and nil with themselves; values of different
 * types are never equal and have no order. Where the attribute is an array it has each of its elements: eq and
 * in hold when any element does, ne and not_in when none is equal. An attribute that is missing matches nothing
 * but `missing`.
 */
#ifndef FOUNDATION_QUERY_H
#define FOUNDATION_QUERY_H

#include <foundation/context.h> /* struct fnd_value */
#include <foundation/registry.h>

#ifdef __cplusplus
extern "C" {
#endif

enum fnd_criterion_op {
	FND_CRITERION_EQ = 0,
	FND_CRITERION_NE = 1,
	FND_CRITERION_GT = 2, /* gt, ge, lt, le: numbers and strings */
	FND_CRITERION_GE = 3,
	FND_CRITERION_LT = 4,
	FND_CRITERION_LE = 5,
	FND_CRITERION_IN = 6,
	FND_CRITERION_NOT_IN = 7,
	FND_CRITERION_MISSING = 8,
};

#define FND_CRITERIA_MAX 32 /* of a query */
#define FND_CRITERION_VALUES_MAX 64

struct fnd_criterion {
	const char *attribute;
	enum fnd_criterion_op op;
	uint32_t nvalues; /* in, not_in: 1 or more; missing: 0; else 1 */
	const struct fnd_value *values; /* any type but FND_VALUE_RAW */
};

/**
 * fnd_query_check - are these criteria well formed?
 *
 * Returns: 0; -EINVAL with a detail that says which one and why. No criteria: 0, every agent matches.
 * Context: any thread. Progress and cost: one pass. Ordering: none. If I die: nothing to repair.
 */
FND_API int fnd_query_check(const struct fnd_criterion *criteria, size_t n);

/**
 * fnd_query_match - do all criteria hold for this metadata?
 * @metadata: untrusted bytes.
 *
 * Returns: 1, 0 (also: not a msgpack map). Context: any thread. Progress and cost: a pass over the metadata a
 * criterion. Ordering: none. If I die: nothing to repair.
 */
FND_API int fnd_query_match(const struct fnd_criterion *criteria, size_t n, const void *metadata,
			    size_t metadata_bytes);

struct fnd_query; /* criteria that were read from a text */

/**
 * fnd_query_parse - criteria from a text; fnd_query_free - free them, NULL is allowed.
 * @text: criteria with "and" or ";" between them. ATTRIBUTE then one of
 *          = == != < <= > >= VALUE     in V,V,...     not_in V,V,...     missing
 *        (also as words: eq ne gt ge lt le). VALUE: true, false, nil, a number, else a string; "..." or
 *        '...' is always a string, \\ before a character takes it as it is. An attribute may be quoted too.
 *
 * Returns: 0; -EINVAL (the detail says what and where); -ENOMEM. Context: any thread. Ordering: none.
 * If I die: nothing to repair.
 */
FND_API int fnd_query_parse(const char *text, struct fnd_query **ret_query);
FND_API void fnd_query_free(struct fnd_query *q);

/** fnd_query_criteria - what it says. Returns: the criteria, *@ret_n of them, valid until it is freed. Any thread. */
FND_API const struct fnd_criterion *fnd_query_criteria(const struct fnd_query *q, size_t *ret_n);

/**
 * fnd_registry_find - call @fn for every agent with a living owner whose attribute has this value.
 * fnd_registry_query - … for which all criteria hold. No criteria: all.
 * @fn: returns 0 to go on; anything else ends it and becomes the result. May call this library.
 *
 * An agent that has matched throughout is handed out once, any other at most once.
 *
 * Returns: 0, what @fn returned, -EINVAL, and the errors of fnd_table_iterate.
 * Context: any thread, not in a signal handler, not inside a read section.
 * Progress and cost: with an indexed attribute (eq or in) proportional to the number of names that have the
 * value - or had it at once, at most, since the index was made: a 16th of a lookup for each of those -
 * else a pass over the table; and 2 µs an owner. Ordering: acquire. If I die: nothing to repair.
 */
FND_API int fnd_registry_find(struct fnd_registry *reg, const char *attribute, const struct fnd_value *value,
			      int (*fn)(const char *name, const struct fnd_agent *a, void *arg), void *arg);
FND_API int fnd_registry_query(struct fnd_registry *reg, const struct fnd_criterion *criteria, size_t n,
			       int (*fn)(const char *name, const struct fnd_agent *a, void *arg), void *arg);

#ifdef __cplusplus
}
#endif
#endif
