// SPDX-License-Identifier: MIT
/*
 * shmdump: back a segment up, look into backups, and make a segment of one.
 */
#include "shmdump.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const struct command {
	const char *name;
	int (*run)(const struct arguments *a);
	unsigned int files;
	bool of_segment; /* takes --segment */
} commands[] = {
	{ "backup", shmdump_backup, 1, true },
	{ "restore", shmdump_restore, 1, true },
	{ "verify", shmdump_verify, 1, false },
	{ "info", shmdump_info, 1, false },
	{ "cat", shmdump_cat, 1, false },
	{ "diff", shmdump_diff, 2, false },
};

static const char doc[] =
	"Back a segment up, look into backups, and make a segment of one.\n"
	"\n"
	"  backup FILE     write every table to FILE, whole or not at all\n"
	"  restore FILE    make a new segment of FILE, once every byte is verified\n"
	"  verify FILE     check every byte\n"
	"  info FILE       what is in it, when it was taken, how exact it is\n"
	"  cat FILE        one JSON object a record, sorted by table and key\n"
	"  diff A B        compare keys and values of two backups\n"
	"\n"
	"FILE may be '-': standard output for backup, standard input for the others."
	"\v"
	"Examples:\n"
	"  shmdump backup --segment orders /var/backups/orders.snap\n"
	"  shmdump backup --segment orders - | ssh vault 'cat > orders.snap'\n"
	"  shmdump restore --segment orders-copy --owners all orders.snap\n"
	"  shmdump cat orders.snap | jq 'select(.table == \"agents\").key'\n"
	"\n"
	"Exit status: 0 fine, 1 diff found differences, 2 usage, 3 cannot open, attach, create or write, "
	"4 the file or the segment is damaged, 5 timeout, 6 permission, 7 the backup is complete but its "
	"directory could not be synced.";

static const struct argp_option options[] = {
	{ "segment", 's', "NAME", 0, "the segment to back up or to make; else $FOUNDATION_SEGMENT", 0 },
	{ "owners", 'o', "live|all", 0,
	  "restore: drop records whose owner is no live participant of the new segment (live, the default), "
	  "or keep them as orphans (all)",
	  0 },
	{ "json", 'j', NULL, 0, "print one JSON object; cat prints JSON anyway", 0 },
	{ NULL, 'h', NULL, OPTION_HIDDEN, NULL, 0 },
	{ 0 },
};

static error_t parse_option(int key, char *arg, struct argp_state *state)
{
	struct arguments *a = state->input;

	switch (key) {
	case 's':
		a->segment = arg;
		a->segment_given = true;
		return 0;
	case 'o':
		a->owners = arg;
		return 0;
	case 'j':
		a->json = true;
		return 0;
	case 'h':
		argp_state_help(state, stdout, ARGP_HELP_STD_HELP);
		return 0;
	case ARGP_KEY_ARG:
		if (!a->command)
			a->command = arg;
		else if (a->files < 2)
			a->file[a->files++] = arg;
		else
			argp_error(state, "too many arguments: '%s'", arg);
		return 0;
	default:
		return ARGP_ERR_UNKNOWN;
	}
}

/* What every answer begins with. */
static json_t *head(const struct arguments *a, const char *schema, bool sound)
{
	json_t *o = json_object();

	json_object_set_new(o, "schema", json_string(schema));
	json_object_set_new(o, "file", json_line(a->file[0]));
	json_flag(o, "sound", sound);
	return o;
}

static json_t *contents(json_t *o, const struct fnd_snapshot_info *i, const char *hash)
{
	json_count(o, "records", i->records);
	json_count(o, "blocks", i->blocks);
	json_count(o, "bytes", i->bytes);
	json_object_set_new(o, "hash", json_string(hash));
	return o;
}

/* Reads @a->file[0] whole. With --json a refusal is told on standard output too. */
static int read_all(const struct arguments *a, const char *schema, const struct fnd_snapshot_visitor *v,
		    struct fnd_snapshot_info *ret_info)
{
	int fd = input_open(a->file[0]), err, status;

	if (fd < 0)
		return tool_fail_errno(PROG, a->file[0], -fd);
	err = fnd_snapshot_read(fd, v, ret_info);
	close(fd);
	if (!err)
		return 0;
	status = tool_fail(PROG, a->file[0], err);
	if (a->json) {
		json_t *o = head(a, schema, false);

		json_object_set_new(o, "error", json_line(fnd_strerror(err)));
		json_object_set_new(o, "detail", json_line(fnd_error_detail()));
		tool_print_json(PROG, o);
	}
	return status;
}

int shmdump_verify(const struct arguments *a)
{
	static const char schema[] = "foundation.shmdump-verify/1";
	struct fnd_snapshot_info i;
	char hash[33];
	int status = read_all(a, schema, NULL, &i);

	if (status)
		return status;
	tool_hex(i.hash, sizeof(i.hash), hash);
	if (a->json) {
		json_t *o = head(a, schema, true);

		json_count(o, "tables", i.tables);
		return tool_print_json(PROG, contents(o, &i, hash));
	}
	printf("%s: sound: %llu records of %llu tables in %llu blocks, %llu bytes, hash %s\n", a->file[0],
	       (unsigned long long)i.records, (unsigned long long)i.tables, (unsigned long long)i.blocks,
	       (unsigned long long)i.bytes, hash);
	return tool_finish(PROG, TOOL_FINE);
}

/* ---- info ---- */

struct census {
	struct fnd_snapshot_table table[FND_SNAPSHOT_TABLES_MAX];
	uint64_t records[FND_SNAPSHOT_TABLES_MAX];
	uint64_t bytes[FND_SNAPSHOT_TABLES_MAX]; /* of keys and values */
	unsigned int tables;
};

static int count_table(const struct fnd_snapshot_table *t, void *arg)
{
	struct census *c = arg;

	c->table[c->tables++] = *t;
	return 0;
}

static int count_record(const struct fnd_snapshot_table *t, const struct fnd_snapshot_record *r, void *arg)
{
	struct census *c = arg;

	(void)t;
	c->records[c->tables - 1]++;
	c->bytes[c->tables - 1] += r->key_bytes + r->value_bytes;
	return 0;
}

static json_t *tables_json(const struct census *c)
{
	json_t *list = json_array();

	for (unsigned int i = 0; i < c->tables; i++) {
		const struct fnd_snapshot_table *t = &c->table[i];
		json_t *o = json_object();

		json_object_set_new(o, "name", json_string(t->name));
		json_count(o, "records", c->records[i]);
		json_count(o, "bytes", c->bytes[i]);
		json_count(o, "capacity", t->capacity);
		json_count(o, "key_max", t->key_max);
		json_count(o, "value_max", t->value_max);
		json_flag(o, "owned", t->flags & FND_TABLE_OWNED);
		json_flag(o, "fixed", t->flags & FND_TABLE_FIXED);
		json_array_append_new(list, o);
	}
	return list;
}

/* "exact" is what holds for certain; the whole is one instant only if no writer was active. */
static json_t *info_json(const struct arguments *a, const struct fnd_snapshot_info *i,
			 const struct census *c)
{
	json_t *o = head(a, "foundation.shmdump-info/1", true);
	char hash[33], uuid[33];

	tool_hex(i->hash, sizeof(i->hash), hash);
	tool_hex(i->uuid, sizeof(i->uuid), uuid);
	json_count(o, "version", i->version);
	json_count(o, "created_ns", i->created_ns);
	json_object_set_new(o, "segment", json_line(i->segment));
	json_object_set_new(o, "uuid", json_string(uuid));
	json_object_set_new(o, "creator", json_line(i->creator));
	json_object_set_new(o, "exact", json_string("shard"));
	json_flag(o, "writes_seen", i->flags & FND_SNAPSHOT_WRITES_SEEN);
	json_count(o, "default_capacity", i->default_capacity);
	json_count(o, "max_bytes", i->max_bytes);
	json_count(o, "processes", i->processes);
	json_count(o, "threads", i->threads);
	contents(o, i, hash);
	json_object_set_new(o, "tables", tables_json(c));
	return o;
}

static void info_text(const struct arguments *a, const struct fnd_snapshot_info *i, const struct census *c)
{
	char when[32], size[24], segment[128], creator[64];

	printf("file      %s, sound, %s in %llu blocks, format version %u\n", a->file[0],
	       tool_bytes(i->bytes, size), (unsigned long long)i->blocks, i->version);
	printf("segment   %s, by Foundation %s\n",
	       tool_printable(i->segment, segment, sizeof(segment)),
	       tool_printable(i->creator, creator, sizeof(creator)));
	printf("taken     %s\n", tool_time(i->created_ns, when));
	if (i->flags & FND_SNAPSHOT_WRITES_SEEN)
		puts("exact     each shard by itself; tables changed meanwhile: the whole is no one instant");
	else
		puts("exact     each shard by itself, and the whole if no writer was active: "
		     "no change was noticed");
	printf("\n%-31s %12s %12s %12s  %s\n", "table", "records", "capacity", "bytes", "limits");
	for (unsigned int t = 0; t < c->tables; t++)
		printf("%-31s %12llu %12llu %12llu  key %u, value %u%s%s\n", c->table[t].name,
		       (unsigned long long)c->records[t], (unsigned long long)c->table[t].capacity,
		       (unsigned long long)c->bytes[t], c->table[t].key_max, c->table[t].value_max,
		       c->table[t].flags & FND_TABLE_OWNED ? ", owned" : "",
		       c->table[t].flags & FND_TABLE_FIXED ? ", fixed" : "");
}

int shmdump_info(const struct arguments *a)
{
	struct census c = { .tables = 0 };
	struct fnd_snapshot_visitor v = { sizeof(v), count_table, count_record, &c };
	struct fnd_snapshot_info i;
	int status = read_all(a, "foundation.shmdump-info/1", &v, &i);

	if (status)
		return status;
	if (a->json)
		return tool_print_json(PROG, info_json(a, &i, &c));
	info_text(a, &i, &c);
	return tool_finish(PROG, TOOL_FINE);
}

static int run(const struct command *c, const struct arguments *a)
{
	if (a->files != c->files)
		return tool_usage(PROG, "%s takes %s, not %u", c->name,
				  c->files == 1 ? "one file" : "two files", a->files);
	if (a->segment_given && !c->of_segment)
		return tool_usage(PROG, "%s looks at files only: --segment does not belong here", c->name);
	if (a->owners && c->run != shmdump_restore)
		return tool_usage(PROG, "--owners belongs to restore");
	return c->run(a);
}

int main(int argc, char **argv)
{
	static const struct argp argp = { options, parse_option, "COMMAND FILE [FILE]", doc, NULL, NULL, NULL };
	struct arguments a = { .segment = NULL };
	int status;

	argp_program_version = PROG " " FOUNDATION_VERSION;
	signal(SIGPIPE, SIG_IGN); /* a broken pipe is an error with a message, not a silent death */
	status = tool_parse(&argp, PROG, argc, argv, &a);
	if (status)
		return status;
	if (!a.command)
		return tool_usage(PROG, "a command is missing");
	a.segment = tool_segment(a.segment);
	for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++)
		if (!strcmp(commands[i].name, a.command))
			return run(&commands[i], &a);
	return tool_usage(PROG, "'%s' is no command", a.command);
}
