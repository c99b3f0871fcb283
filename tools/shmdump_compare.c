// SPDX-License-Identifier: MIT
/* shmdump cat and diff. */
#include "shmdump.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static json_t *json_owner(const struct entry *e)
{
	if (!e->owned)
		return json_null();
	return json_pack("{s:I, s:I, s:I}", "pid", (json_int_t)e->owner.pid, "slot", (json_int_t)e->owner.slot,
			 "generation", (json_int_t)e->owner.generation);
}

static int print_record(const struct entry *e)
{
	json_t *o = json_pack("{s:s, s:o, s:o, s:o}", "table", e->table->name, "key",
			      json_bytes(e->key, e->key_bytes), "value", json_bytes(e->value, e->value_bytes),
			      "owner", json_owner(e));
	int err;

	if (!o)
		return -ENOMEM;
	err = json_dumpf(o, stdout, JSON_COMPACT);
	putchar('\n');
	json_decref(o);
	return err ? -EIO : 0;
}

int shmdump_cat(const struct arguments *a)
{
	struct set s;
	int status = set_load(a->file[0], &s);

	if (status)
		return status;
	for (size_t i = 0; i < s.entries && !status && !ferror(stdout); i++)
		if (print_record(&s.entry[i]) == -ENOMEM)
			status = tool_fail_errno(PROG, a->file[0], ENOMEM);
	set_free(&s);
	return tool_finish(PROG, status);
}

/* ---- diff ---- */

enum difference {
	ONLY_A,
	ONLY_B,
	CHANGED,
	DIFFERENCES
};

struct diff {
	const struct arguments *args;
	uint64_t count[DIFFERENCES];
	uint64_t equal, owners_differ, tables_differ;
	json_t *list[DIFFERENCES]; /* NULL: for people */
	json_t *tables[2];
	bool failed;
};

static void tell(struct diff *d, enum difference what, const struct entry *e)
{
	json_t *key = json_bytes(e->key, e->key_bytes);
	char *text = key ? json_dumps(key, JSON_COMPACT | JSON_ENCODE_ANY) : NULL;

	if (text && what == CHANGED)
		printf("changed: %s %s\n", e->table->name, text);
	else if (text)
		printf("only in %s: %s %s\n", d->args->file[what], e->table->name, text);
	else
		d->failed = true;
	free(text);
	json_decref(key);
}

static void note(struct diff *d, enum difference what, const struct entry *a, const struct entry *b)
{
	const struct entry *e = a ? a : b;
	json_t *o;

	d->count[what]++;
	if (!d->args->json) {
		tell(d, what, e);
		return;
	}
	o = json_pack("{s:s, s:o}", "table", e->table->name, "key", json_bytes(e->key, e->key_bytes));
	if (o && what == CHANGED)
		d->failed |= json_object_set_new(o, "a", json_bytes(a->value, a->value_bytes)) ||
			     json_object_set_new(o, "b", json_bytes(b->value, b->value_bytes));
	d->failed |= json_array_append_new(d->list[what], o);
}

static bool same_owner(const struct entry *a, const struct entry *b)
{
	return a->owned == b->owned && a->owner.pid == b->owner.pid && a->owner.slot == b->owner.slot &&
	       a->owner.generation == b->owner.generation;
}

static void compare_pair(struct diff *d, const struct entry *a, const struct entry *b)
{
	if (a->value_bytes != b->value_bytes || memcmp(a->value, b->value, a->value_bytes))
		note(d, CHANGED, a, b);
	else
		d->equal++;
	if (!same_owner(a, b))
		d->owners_differ++;
}

static void compare_records(struct diff *d, const struct set *a, const struct set *b)
{
	size_t i = 0, j = 0;

	while ((i < a->entries || j < b->entries) && !d->failed) {
		int c = i == a->entries ? 1 : j == b->entries ? -1
							      : entry_compare(&a->entry[i], &b->entry[j]);

		if (c < 0)
			note(d, ONLY_A, &a->entry[i++], NULL);
		else if (c > 0)
			note(d, ONLY_B, NULL, &b->entry[j++]);
		else
			compare_pair(d, &a->entry[i++], &b->entry[j++]);
	}
}

/* A table without a record is worth a difference too: without it "the same" would not be true. */
static void compare_tables(struct diff *d, const struct set *mine, const struct set *other, int side)
{
	for (unsigned int i = 0; i < mine->tables; i++) {
		unsigned int j = 0;

		while (j < other->tables && strcmp(mine->table[i].name, other->table[j].name))
			j++;
		if (j < other->tables)
			continue;
		d->tables_differ++;
		if (d->args->json)
			d->failed |= json_array_append_new(d->tables[side],
							   json_string(mine->table[i].name));
		else
			printf("only in %s: table %s\n", d->args->file[side], mine->table[i].name);
	}
}

static bool differs(const struct diff *d)
{
	return d->count[ONLY_A] || d->count[ONLY_B] || d->count[CHANGED] || d->tables_differ;
}

static void summarise(const struct diff *d, const struct set *a)
{
	if (differs(d))
		printf("%llu only in %s, %llu only in %s, %llu changed, %llu equal",
		       (unsigned long long)d->count[ONLY_A], d->args->file[0],
		       (unsigned long long)d->count[ONLY_B], d->args->file[1],
		       (unsigned long long)d->count[CHANGED], (unsigned long long)d->equal);
	else
		printf("the same: %llu records of %u tables", (unsigned long long)d->equal, a->tables);
	if (d->owners_differ)
		printf("; %llu have another owner (not compared)", (unsigned long long)d->owners_differ);
	putchar('\n');
}

static json_t *diff_json(struct diff *d)
{
	return json_pack("{s:s, s:o, s:o, s:b, s:I, s:I, s:O, s:O, s:O, s:O, s:O}", "schema",
			 "foundation.shmdump-diff/1", "a", json_line(d->args->file[0]), "b",
			 json_line(d->args->file[1]), "same",
			 !differs(d), "equal", (json_int_t)d->equal, "owners_differ",
			 (json_int_t)d->owners_differ, "only_in_a", d->list[ONLY_A], "only_in_b",
			 d->list[ONLY_B], "changed", d->list[CHANGED], "tables_only_in_a", d->tables[0],
			 "tables_only_in_b", d->tables[1]);
}

static int compare_sets(const struct arguments *args, const struct set *a, const struct set *b)
{
	struct diff d = { .args = args };
	int status = TOOL_FINE;

	for (unsigned int i = 0; args->json && i < DIFFERENCES; i++)
		d.list[i] = json_array();
	for (unsigned int i = 0; args->json && i < 2; i++)
		d.tables[i] = json_array();
	compare_tables(&d, a, b, 0);
	compare_tables(&d, b, a, 1);
	compare_records(&d, a, b);
	if (d.failed)
		status = tool_fail_errno(PROG, "diff", ENOMEM);
	else if (args->json)
		status = tool_print_json(PROG, diff_json(&d));
	else
		summarise(&d, a);
	for (unsigned int i = 0; i < DIFFERENCES; i++)
		json_decref(d.list[i]);
	json_decref(d.tables[0]);
	json_decref(d.tables[1]);
	if (!status && differs(&d))
		status = TOOL_FOUND;
	return tool_finish(PROG, status);
}

int shmdump_diff(const struct arguments *args)
{
	struct set a, b;
	int status;

	if (!strcmp(args->file[0], "-") && !strcmp(args->file[1], "-"))
		return tool_usage(PROG, "diff: only one of the two can be standard input");
	status = set_load(args->file[0], &a);
	if (status)
		return status;
	status = set_load(args->file[1], &b);
	if (!status) {
		status = compare_sets(args, &a, &b);
		set_free(&b);
	}
	set_free(&a);
	return status;
}
