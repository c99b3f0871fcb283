/* SPDX-License-Identifier: MIT */
/*
 * As much JSON as the journal needs: one object of scalars and flat objects a line, written by us and read
 * again, perhaps damaged. Tools use jansson; the library stays without it.
 */
#ifndef FOUNDATION_RUNTIME_JSON_H
#define FOUNDATION_RUNTIME_JSON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define FND_JSON_HIDDEN __attribute__((visibility("hidden")))

/* Text that grows up to a bound; `full` once something did not fit. */
struct fnd_json {
	char *buf;
	size_t size, used;
	bool full;
};

/* Appends `"key":` with a comma before it when it is not the first; key NULL: the comma alone. */
FND_JSON_HIDDEN void fnd_json_key(struct fnd_json *j, const char *key);
FND_JSON_HIDDEN void fnd_json_text(struct fnd_json *j, const char *key, const char *text);
FND_JSON_HIDDEN void fnd_json_text_n(struct fnd_json *j, const char *key, const char *text, size_t bytes);
FND_JSON_HIDDEN void fnd_json_number(struct fnd_json *j, const char *key, uint64_t n);
/* A string, by itself. */
FND_JSON_HIDDEN void fnd_json_quoted(struct fnd_json *j, const char *text, size_t bytes);
FND_JSON_HIDDEN void fnd_json_raw(struct fnd_json *j, const char *raw);

/*
 * The value of @key in the object at @json, of its top level: *ret_at and *ret_bytes are the value's text
 * (a string with its quotes). False: not there, or no object.
 */
FND_JSON_HIDDEN bool fnd_json_find(const char *json, size_t bytes, const char *key, const char **ret_at,
				   size_t *ret_bytes);
FND_JSON_HIDDEN bool fnd_json_get_number(const char *json, size_t bytes, const char *key, uint64_t *ret_n);
/* Without escapes, as UTF-8, cut between characters to @size - 1 bytes. */
FND_JSON_HIDDEN bool fnd_json_get_text(const char *json, size_t bytes, const char *key, char *ret_text,
				       size_t size);
/* Member @index of an object: key (cut) and value text. False: no such member. */
FND_JSON_HIDDEN bool fnd_json_member(const char *json, size_t bytes, unsigned int index, char *ret_key,
				     size_t key_size, const char **ret_at, size_t *ret_bytes);
/* One whole value, and nothing but blanks behind it? */
FND_JSON_HIDDEN bool fnd_json_valid(const char *json, size_t bytes);

#endif
