// SPDX-License-Identifier: MIT
/* A whole snapshot in memory, sorted: what cat prints and diff compares. */
#include "shmdump.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define CHUNK_BYTES (1u << 20)

struct chunk {
	struct chunk *next;
	size_t used;
	unsigned char bytes[CHUNK_BYTES];
};

static unsigned char *keep(struct set *s, const void *p, size_t bytes)
{
	unsigned char *at;

	if (!s->chunk || bytes > CHUNK_BYTES - s->chunk->used) {
		struct chunk *c = malloc(sizeof(*c));

		if (!c)
			return NULL;
		c->next = s->chunk;
		c->used = 0;
		s->chunk = c;
	}
	at = s->chunk->bytes + s->chunk->used;
	if (bytes)
		memcpy(at, p, bytes);
	s->chunk->used += bytes;
	return at;
}

static int add_table(const struct fnd_snapshot_table *t, void *arg)
{
	struct set *s = arg;

	s->table[s->tables++] = *t; /* the reader allows no more than there is room for */
	return 0;
}

static int add_record(const struct fnd_snapshot_table *t, const struct fnd_snapshot_record *r, void *arg)
{
	struct set *s = arg;
	struct entry *e;

	(void)t;
	if (s->entries == s->room) {
		size_t room = s->room ? 2 * s->room : 256;

		e = reallocarray(s->entry, room, sizeof(*e));
		if (!e)
			return -ENOMEM;
		s->entry = e;
		s->room = room;
	}
	e = &s->entry[s->entries];
	*e = (struct entry){
		.table = &s->table[s->tables - 1],
		.key = keep(s, r->key, r->key_bytes),
		.value = keep(s, r->value, r->value_bytes),
		.key_bytes = (uint32_t)r->key_bytes,
		.value_bytes = (uint32_t)r->value_bytes,
		.owned = r->owner,
	};
	if (!e->key || !e->value)
		return -ENOMEM;
	if (r->owner)
		e->owner = *r->owner;
	s->entries++;
	return 0;
}

int entry_compare(const struct entry *a, const struct entry *b)
{
	uint32_t least = a->key_bytes < b->key_bytes ? a->key_bytes : b->key_bytes;
	int c = strcmp(a->table->name, b->table->name);

	if (!c)
		c = memcmp(a->key, b->key, least);
	if (!c)
		c = (a->key_bytes > b->key_bytes) - (a->key_bytes < b->key_bytes);
	return c;
}

static int by_table_and_key(const void *a, const void *b)
{
	return entry_compare(a, b);
}

int set_load(const char *path, struct set *ret_set)
{
	struct fnd_snapshot_visitor v = { sizeof(v), add_table, add_record, ret_set };
	int fd = input_open(path), err;

	memset(ret_set, 0, sizeof(*ret_set));
	if (fd < 0)
		return tool_fail_errno(PROG, path, -fd);
	err = fnd_snapshot_read(fd, &v, &ret_set->info);
	close(fd);
	if (err) {
		set_free(ret_set);
		return tool_fail(PROG, path, err);
	}
	if (ret_set->entries)
		qsort(ret_set->entry, ret_set->entries, sizeof(*ret_set->entry), by_table_and_key);
	return 0;
}

void set_free(struct set *s)
{
	while (s->chunk) {
		struct chunk *c = s->chunk;

		s->chunk = c->next;
		free(c);
	}
	free(s->entry);
	s->entry = NULL;
	s->entries = 0;
}

static void base64(const unsigned char *p, size_t bytes, char *out)
{
	static const char digit[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

	for (size_t i = 0; i < bytes; i += 3) {
		uint32_t v = (uint32_t)p[i] << 16;

		if (i + 1 < bytes)
			v |= (uint32_t)p[i + 1] << 8;
		if (i + 2 < bytes)
			v |= p[i + 2];
		*out++ = digit[v >> 18];
		*out++ = digit[v >> 12 & 63];
		*out++ = i + 1 < bytes ? digit[v >> 6 & 63] : '=';
		*out++ = i + 2 < bytes ? digit[v & 63] : '=';
	}
	*out = '\0';
}

json_t *json_bytes(const void *p, size_t bytes)
{
	json_t *text = json_stringn(bytes ? p : "", bytes); /* NULL: not UTF-8 */
	char *coded;

	if (text)
		return text;
	coded = malloc(bytes / 3 * 4 + 5);
	if (!coded)
		return NULL;
	base64(p, bytes, coded);
	text = json_pack("{s:s}", "base64", coded);
	free(coded);
	return text;
}
