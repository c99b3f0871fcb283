/* SPDX-License-Identifier: MIT */
/* What the files of shmdump share. */
#ifndef FOUNDATION_TOOLS_SHMDUMP_H
#define FOUNDATION_TOOLS_SHMDUMP_H

#include <string.h>

#include <foundation/snapshot.h>

#include "common.h"

#define PROG "shmdump"

struct arguments {
	const char *segment; /* --segment or the environment */
	bool segment_given;
	const char *owners; /* NULL: not given */
	bool json;
	const char *command;
	const char *file[2];
	unsigned int files;
};

/* shmdump_transfer.c, shmdump.c, shmdump_compare.c: each returns the exit status. */
int shmdump_backup(const struct arguments *a);
int shmdump_restore(const struct arguments *a);
int shmdump_verify(const struct arguments *a);
int shmdump_info(const struct arguments *a);
int shmdump_cat(const struct arguments *a);
int shmdump_diff(const struct arguments *a);

/* ---- shmdump_file.c: files that appear whole or not at all ---- */

struct output {
	int fd;
	int dir_fd;    /* -1: a stream somebody else has opened */
	char *base;    /* name in dir_fd */
	char temp[64]; /* "": the file has no name yet */
};

/* A file to read, or standard input for "-". Returns the descriptor or a negative errno. */
int input_open(const char *path);

/* 0 or a negative errno, with *@ret_why set to a sentence where errno would not explain it. */
int output_open(const char *path, struct output *ret_out, const char **ret_why);

enum output_result {
	OUTPUT_DURABLE = 0,
	OUTPUT_NOT_DURABLE = 1
};
/* Everything written to out->fd is on the medium and has its name: OUTPUT_DURABLE. It has its name but the
 * directory could not be synced: OUTPUT_NOT_DURABLE. Otherwise a negative errno, and what was there before
 * is untouched. Closes @out. */
int output_commit(struct output *out);
void output_abort(struct output *out);

/* ---- shmdump_set.c: a whole snapshot in memory, sorted by table and key ---- */

struct entry {
	const struct fnd_snapshot_table *table;
	const unsigned char *key, *value;
	uint32_t key_bytes, value_bytes;
	struct fnd_owner owner;
	bool owned;
};

struct chunk;

struct set {
	struct fnd_snapshot_table table[FND_SNAPSHOT_TABLES_MAX]; /* as in the file */
	unsigned int tables;
	struct entry *entry;
	size_t entries, room;
	struct chunk *chunk; /* where the bytes are */
	struct fnd_snapshot_info info;
};

/* Reads and verifies @path whole. Prints what is wrong and returns an exit status. */
int set_load(const char *path, struct set *ret_set);
void set_free(struct set *s);
int entry_compare(const struct entry *a, const struct entry *b); /* by table's name and key */

static inline void json_count(json_t *o, const char *name, uint64_t v)
{
	json_object_set_new(o, name, json_integer((json_int_t)v));
}

static inline void json_flag(json_t *o, const char *name, bool v)
{
	json_object_set_new(o, name, json_boolean(v));
}

static inline json_t *json_line(const char *text)
{
	return tool_json_text(text, strlen(text));
}

/* Bytes as JSON, without loss: a string when they are UTF-8, else {"base64": "…"}. NULL: out of memory. */
json_t *json_bytes(const void *p, size_t bytes);

#endif
