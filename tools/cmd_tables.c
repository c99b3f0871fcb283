// SPDX-License-Identifier: MIT
/* foundation tables: what the memory of a segment went into. list and show only look. */
#include "cmd_tables.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <foundation/verify.h>

#define PROG TABLES_PROG

enum { KEY_SORT = 'S' };

static const struct argp_option options[] = {
	LOOK_OPTION_SEGMENT,
	LOOK_OPTION_JSON,
	{ "sort", KEY_SORT, "COLUMN", 0, "list: by bytes or records, the largest first, or by name", 0 },
	{ 0 }
};

static error_t parse(int key, char *arg, struct argp_state *state)
{
	struct tables_options *opt = state->input;

	switch (key) {
	case KEY_SORT:
		if (strcmp(arg, "bytes") != 0 && strcmp(arg, "records") != 0 && strcmp(arg, "name") != 0)
			argp_error(state, "sort by bytes, records or name, not by '%s'", arg);
		opt->sort = arg;
		return 0;
	case LOOK_KEY_SEGMENT:
		opt->look.segment = arg;
		return 0;
	case LOOK_KEY_JSON:
		opt->look.json = true;
		return 0;
	case ARGP_KEY_ARG:
		if (opt->words == TABLES_WORDS_MAX)
			argp_error(state, "one word too many: %s", arg);
		opt->word[opt->words++] = arg;
		return 0;
	default:
		return ARGP_ERR_UNKNOWN;
	}
}

static const struct argp argp = {
	options, parse, "[list]\nshow NAME\nensure NAME",
	"Show the tables of a segment; make or repair one of the runtime's: agents, dedup, events, flags, config.\v"
	"list and show look without attaching. Exit status 1: no such table; 4: damaged.",
	NULL, NULL, NULL
};

/* --- list ----------------------------------------------------------------------------------------- */

struct listing {
	const char *segment;
	struct fnd_table_stats *table;
	size_t count;
	int damaged; /* a table's description cannot be read */
	char detail[256];
};

static int note_table(const struct fnd_table_stats *t, void *arg)
{
	struct listing *l = arg;
	struct fnd_table_stats *more = reallocarray(l->table, l->count + 1, sizeof(*more));

	if (!more)
		return -ENOMEM;
	l->table = more;
	l->table[l->count++] = *t;
	return 0;
}

static int by_name(const void *x, const void *y)
{
	return strcmp(((const struct fnd_table_stats *)x)->name, ((const struct fnd_table_stats *)y)->name);
}

static int larger_first(uint64_t x, uint64_t y)
{
	return x < y ? 1 : x > y ? -1 : 0;
}

static int by_bytes(const void *x, const void *y)
{
	const struct fnd_table_stats *a = x, *b = y;

	return a->bytes == b->bytes ? by_name(x, y) : larger_first(a->bytes, b->bytes);
}

static int by_records(const void *x, const void *y)
{
	const struct fnd_table_stats *a = x, *b = y;

	return a->live == b->live ? by_name(x, y) : larger_first(a->live, b->live);
}

/* From the figures alone; whether the records are sound is what show and verify look at. */
static const char *health(const struct fnd_table_stats *t)
{
	if (t->full)
		return "refused-writes";
	if (t->capacity && t->live >= t->capacity)
		return "at-capacity";
	return "fine";
}

static json_t *table_json(const struct fnd_table_stats *t, const char *state)
{
	json_t *j = json_pack("{s:s, s:I, s:I, s:f, s:I, s:I, s:I, s:I, s:s, s:s?}", "name", t->name, "records",
			      (json_int_t)t->live, "capacity", (json_int_t)t->capacity, "load",
			      t->capacity ? (double)t->live / (double)t->capacity : 0.0, "bytes",
			      (json_int_t)t->bytes, "shards", (json_int_t)t->shards, "key_max",
			      (json_int_t)t->key_max, "value_max", (json_int_t)t->value_max, "health", state,
			      "description", tables_what(t->name));

	json_object_update_new(j, json_pack("{s:b, s:b, s:I, s:I, s:I, s:I, s:I, s:I, s:I}", "fixed",
					    (t->flags & FND_TABLE_FIXED) != 0, "owned",
					    (t->flags & FND_TABLE_OWNED) != 0, "record_bytes",
					    (json_int_t)t->record_bytes, "retired", (json_int_t)t->retired, "free",
					    (json_int_t)t->free_records, "allocated", (json_int_t)t->allocated,
					    "reserved", (json_int_t)t->reserved, "growths", (json_int_t)t->growths,
					    "refused", (json_int_t)t->full));
	return j;
}

static int list_json(const struct listing *l)
{
	json_t *tables = json_array();
	uint64_t bytes = 0;

	for (size_t i = 0; i < l->count; i++) {
		json_array_append_new(tables, table_json(&l->table[i], health(&l->table[i])));
		bytes += l->table[i].bytes;
	}
	return tool_print_json(PROG, json_pack("{s:s, s:s, s:I, s:b, s:o}", "schema", "foundation.tables/1", "segment",
					       l->segment, "bytes", (json_int_t)bytes, "damaged", l->damaged != 0,
					       "tables", tables));
}

static int list_print(const struct listing *l)
{
	if (l->count)
		printf("%-20s %10s %10s %10s %6s %4s %6s  %s\n", "TABLE", "RECORDS", "CAPACITY", "MEMORY", "SHARDS",
		       "KEY", "VALUE", "HEALTH");
	for (size_t i = 0; i < l->count; i++) {
		const struct fnd_table_stats *t = &l->table[i];
		char name[FND_TABLE_NAME_MAX + 1], bytes[24];

		printf("%-20s %10" PRIu64 " %10" PRIu64 " %10s %6" PRIu32 " %4" PRIu32 " %6" PRIu32 "  %s\n",
		       tool_printable(t->name, name, sizeof(name)), t->live, t->capacity, tool_bytes(t->bytes, bytes),
		       t->shards, t->key_max, t->value_max, health(t));
	}
	return tool_finish(PROG, TOOL_FINE);
}

/* 0, or an exit status after a message. Damage is noted: the other tables are worth showing. */
static int read_tables(const struct tables_options *opt, struct listing *l)
{
	struct fnd_observer *o;
	int err = look_open(PROG, &opt->look, &l->segment, &o);

	if (err)
		return err;
	err = fnd_observer_tables(o, note_table, l);
	if (err == -FND_E_CORRUPT) {
		l->damaged = err;
		snprintf(l->detail, sizeof(l->detail), "%s", fnd_error_detail());
		err = 0;
	}
	fnd_observer_close(o);
	return err ? tool_fail(PROG, l->segment, err) : 0;
}

static int list(const struct tables_options *opt)
{
	struct listing l = { 0 };
	int status = read_tables(opt, &l);

	if (!status) {
		if (l.count)
			qsort(l.table, l.count, sizeof(*l.table),
			      !opt->sort || opt->sort[0] == 'n' ? by_name :
			      opt->sort[0] == 'b'		? by_bytes :
								  by_records);
		status = opt->look.json ? list_json(&l) : list_print(&l);
		if (l.damaged) {
			fprintf(stderr, PROG ": %s: a table is damaged and not listed (%s); see foundation verify\n",
				l.segment, l.detail);
			status = TOOL_CORRUPT;
		}
	}
	free(l.table);
	return status;
}

/* --- show ----------------------------------------------------------------------------------------- */

struct soundness {
	const char *table;
	json_t *defects;
};

/* "table NAME", or that and ", shard N" */
static int note_defect(const struct fnd_defect *d, void *arg)
{
	struct soundness *s = arg;
	size_t n = strlen(s->table);

	if (strncmp(d->where, "table ", 6) != 0 || strncmp(d->where + 6, s->table, n) != 0 ||
	    (d->where[6 + n] != '\0' && d->where[6 + n] != ','))
		return 0;
	json_array_append_new(s->defects, json_pack("{s:s, s:o, s:s, s:I}", "where", d->where, "what",
						    tool_json_text(d->what, strlen(d->what)), "remedy", d->remedy,
						    "offset", (json_int_t)d->offset));
	return 0;
}

static void show_print(const struct fnd_table_stats *t, const char *state, json_t *defects)
{
	const char *what = tables_what(t->name);
	char bytes[24];
	json_t *d;
	size_t i;

	printf("table         %s%s%s\n", t->name, what ? ": " : "", what ? what : "");
	printf("health        %s\n", state);
	printf("records       %" PRIu64 " of %" PRIu64 " (%.1f%%)%s%s\n", t->live, t->capacity,
	       t->capacity ? 100.0 * (double)t->live / (double)t->capacity : 0.0,
	       t->flags & FND_TABLE_FIXED ? ", fixed" : "", t->flags & FND_TABLE_OWNED ? ", owned" : "");
	printf("memory        %s in %" PRIu32 " shards, %" PRIu32 " bytes a record\n", tool_bytes(t->bytes, bytes),
	       t->shards, t->record_bytes);
	printf("limits        key %" PRIu32 " bytes, value %" PRIu32 " bytes\n", t->key_max, t->value_max);
	printf("places        %" PRIu64 " reserved, %" PRIu64 " allocated, %" PRIu64 " free, %" PRIu64
	       " wait for readers\n", t->reserved, t->allocated, t->free_records, t->retired);
	printf("growths       %" PRIu64 "; writes refused %" PRIu64 "\n", t->growths, t->full);
	json_array_foreach(defects, i, d) {
		char text[256];

		printf("defect        %s: %s (%s)\n", json_string_value(json_object_get(d, "where")),
		       tool_printable(json_string_value(json_object_get(d, "what")), text, sizeof(text)),
		       json_string_value(json_object_get(d, "remedy")));
	}
}

static int show_table(const struct tables_options *opt, const struct listing *l, const struct fnd_table_stats *t)
{
	struct soundness s = { .table = t->name, .defects = json_array() };
	int status, err = fnd_verify(l->segment, note_defect, &s, NULL);
	const char *state = json_array_size(s.defects) ? "damaged" : health(t);
	json_t *j;

	if (err && err != -FND_E_CORRUPT) {
		json_decref(s.defects);
		return tool_fail(PROG, l->segment, err);
	}
	status = json_array_size(s.defects) ? TOOL_CORRUPT : TOOL_FINE;
	if (opt->look.json) {
		j = table_json(t, state);
		json_object_update_new(j, json_pack("{s:s, s:s, s:O}", "schema", "foundation.table/1", "segment",
						    l->segment, "defects", s.defects));
		err = tool_print_json(PROG, j);
	} else {
		show_print(t, state, s.defects);
		err = tool_finish(PROG, TOOL_FINE);
	}
	json_decref(s.defects);
	if (status)
		fprintf(stderr, PROG ": %s: table %s is damaged\n", l->segment, t->name);
	return status ? status : err;
}

static int show(const struct tables_options *opt, const char *name)
{
	struct listing l = { 0 };
	int status = read_tables(opt, &l);
	bool found = false;

	for (size_t i = 0; i < l.count && !found && !status; i++) {
		found = strcmp(l.table[i].name, name) == 0;
		if (found)
			status = show_table(opt, &l, &l.table[i]);
	}
	if (!found && !status && l.damaged) {
		fprintf(stderr, PROG ": %s: no sound table is called %s, and one is damaged (%s)\n", l.segment, name,
			l.detail);
		status = TOOL_CORRUPT;
	} else if (!found && !status) {
		fprintf(stderr, PROG ": %s: no table is called %s\n", l.segment, name);
		status = TOOL_FOUND;
	}
	free(l.table);
	return status;
}

int cmd_tables(int argc, char **argv)
{
	struct tables_options opt = { 0 };
	int err = tool_parse(&argp, PROG, argc, argv, &opt);
	const char *const *w = opt.word;

	if (err)
		return err;
	if (opt.words == 0 || (strcmp(w[0], "list") == 0 && opt.words == 1))
		return list(&opt);
	if (opt.sort)
		return tool_usage(PROG, "--sort is for list");
	if (strcmp(w[0], "show") == 0 && opt.words == 2)
		return show(&opt, w[1]);
	if (strcmp(w[0], "ensure") == 0 && opt.words == 2)
		return tables_cmd_ensure(&opt, w[1]);
	return tool_usage(PROG, "list, show NAME, or ensure NAME");
}
