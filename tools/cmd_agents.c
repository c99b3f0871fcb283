// SPDX-License-Identifier: MIT
/* foundation agents: the names in a segment's registry. Its words and options, and how a name is shown. */
#include "cmd_agents.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
	KEY_ORPHANS = 'o',
	KEY_CHECK = 'k',
	KEY_PID = 'p',
	KEY_METADATA = 'm',
	KEY_TAKE = 't',
	KEY_FORCE = 'f',
	KEY_COUNT = 'n',
	KEY_TIMEOUT = 'w',
	KEY_FROM = 'F',
};

static const struct argp_option options[] = {
	LOOK_OPTION_SEGMENT,
	LOOK_OPTION_JSON,
	{ "all", LOOK_KEY_ALL, NULL, 0, "list: also names whose owner is dead, and those of nobody", 0 },
	{ "orphans", KEY_ORPHANS, NULL, 0, "list: only names without a living owner", 0 },
	{ "check", KEY_CHECK, NULL, 0, "get: also ask the kernel whether the owner lives", 0 },
	{ "pid", KEY_PID, "PID", 0, "register: the participant that shall own the name", 0 },
	{ "metadata", KEY_METADATA, "JSON", 0, "register: an object", 0 },
	{ "take", KEY_TAKE, NULL, 0, "register: take the name from a living owner", 0 },
	{ "force", KEY_FORCE, NULL, 0, "unregister: also the name of a living owner", 0 },
	{ "count", KEY_COUNT, "N", 0, "watch: end after N changes", 0 },
	{ "timeout", KEY_TIMEOUT, "SECONDS", 0, "watch: end after that time", 0 },
	{ "from", KEY_FROM, "NUMBER", 0, "watch: begin after this event; 0: with the oldest there is", 0 },
	{ 0 }
};

static error_t parse_number(char *arg, const char *what, uint64_t max, uint64_t *ret,
			    struct argp_state *state)
{
	if (!tool_number(arg, max, ret))
		argp_error(state, "'%s' is no %s", arg, what);
	return 0;
}

static error_t parse_timeout(struct agents_options *opt, char *arg, struct argp_state *state)
{
	char *end;
	double s = strtod(arg, &end);

	if (end == arg || *end || !(s >= 0 && s <= 1e9))
		argp_error(state, "'%s' is no number of seconds", arg);
	opt->timeout_ms = (uint64_t)(s * 1000);
	opt->have_timeout = true;
	return 0;
}

static error_t parse_pid(struct agents_options *opt, char *arg, struct argp_state *state)
{
	uint64_t n = 0;

	parse_number(arg, "process", INT32_MAX, &n, state);
	if (n == 0)
		argp_error(state, "'%s' is no process", arg);
	opt->pid = (uint32_t)n;
	return 0;
}

static error_t parse(int key, char *arg, struct argp_state *state)
{
	struct agents_options *opt = state->input;

	switch (key) {
	case KEY_ORPHANS:
		opt->orphans = true;
		return 0;
	case KEY_CHECK:
		opt->check = true;
		return 0;
	case KEY_PID:
		return parse_pid(opt, arg, state);
	case KEY_METADATA:
		opt->metadata = arg;
		return 0;
	case KEY_TAKE:
		opt->take = true;
		return 0;
	case KEY_FORCE:
		opt->force = true;
		return 0;
	case KEY_COUNT:
		return parse_number(arg, "number of changes", INT64_MAX, &opt->count, state);
	case KEY_TIMEOUT:
		return parse_timeout(opt, arg, state);
	case KEY_FROM:
		opt->have_from = true;
		return parse_number(arg, "number of an event", INT64_MAX, &opt->from, state);
	case ARGP_KEY_ARG:
		if (opt->words == AGENTS_WORDS_MAX)
			argp_error(state, "one word too many: %s", arg);
		opt->word[opt->words++] = arg;
		return 0;
	case LOOK_KEY_SEGMENT:
		opt->look.segment = arg;
		return 0;
	case LOOK_KEY_JSON:
		opt->look.json = true;
		return 0;
	case LOOK_KEY_ALL:
		opt->look.all = true;
		return 0;
	default:
		return ARGP_ERR_UNKNOWN;
	}
}

static const struct argp argp = {
	options, parse,
	"[list]\nget NAME\nfind ATTRIBUTE VALUE\nquery CRITERION...\nregister NAME --pid PID\nunregister NAME\n"
	"watch\nstats\nclashes\nworkers",
	"Show and change the names in a segment's registry, with owners and metadata.\v"
	"list looks without attaching, the others take part for as long as they run. Each name is shown with the "
	"backend that answered: the shared one, as what a worker holds privately is its own. Exit status 1: no such "
	"name, nothing found, or list --orphans and clashes have something to show.",
	NULL, NULL, NULL
};

/* --- words ---------------------------------------------------------------------------------------- */

static const struct verb {
	const char *name;
	int (*run)(const struct agents_options *opt);
	unsigned int least, most; /* words that follow */
	const char *usage;
} verbs[] = {
	{ "list", agents_cmd_list, 0, 0, "list [--all|--orphans]" },
	{ "get", agents_cmd_get, 1, 1, "get NAME [--check]" },
	{ "find", agents_cmd_find, 2, 2, "find ATTRIBUTE VALUE" },
	{ "query", agents_cmd_query, 1, AGENTS_WORDS_MAX - 1, "query CRITERION..." },
	{ "register", agents_cmd_register, 1, 1, "register NAME --pid PID [--metadata JSON] [--take]" },
	{ "unregister", agents_cmd_unregister, 1, 1, "unregister NAME [--force]" },
	{ "watch", agents_cmd_watch, 0, 0, "watch [--count N] [--timeout SECONDS] [--from NUMBER]" },
	{ "stats", agents_cmd_stats, 0, 0, "stats" },
	{ "clashes", agents_cmd_clashes, 0, 0, "clashes" },
	{ "workers", agents_cmd_workers, 0, 0, "workers" },
};

#define VERBS (sizeof(verbs) / sizeof(verbs[0]))

/* An option that the verb does not have is a mistake, not to be passed over. */
static const char *stray_option(const struct agents_options *opt, const struct verb *v)
{
	const bool list = v->run == agents_cmd_list, watch = v->run == agents_cmd_watch;
	const bool registers = v->run == agents_cmd_register;

	if (opt->look.all && !list)
		return "--all";
	if (opt->orphans && !list)
		return "--orphans";
	if (opt->check && v->run != agents_cmd_get)
		return "--check";
	if (opt->force && v->run != agents_cmd_unregister)
		return "--force";
	if ((opt->pid || opt->metadata || opt->take) && !registers)
		return opt->pid ? "--pid" : opt->metadata ? "--metadata" : "--take";
	if ((opt->count || opt->have_timeout || opt->have_from) && !watch)
		return opt->count ? "--count" : opt->have_timeout ? "--timeout" : "--from";
	return NULL;
}

static int unknown_verb(const char *word)
{
	char all[512] = "";
	size_t used = 0;

	for (size_t i = 0; i < VERBS && used < sizeof(all); i++)
		used += (size_t)snprintf(all + used, sizeof(all) - used, "%s%s", i ? ", " : "", verbs[i].name);
	return tool_usage(AGENTS_PROG, "no such word: %s; there are %s", word, all);
}

int cmd_agents(int argc, char **argv)
{
	struct agents_options opt = { 0 };
	const struct verb *v = NULL;
	const char *stray;
	int err = tool_parse(&argp, AGENTS_PROG, argc, argv, &opt);

	if (err)
		return err;
	for (size_t i = 0; i < VERBS && !v; i++)
		if (strcmp(opt.words ? opt.word[0] : "list", verbs[i].name) == 0)
			v = &verbs[i];
	if (!v)
		return unknown_verb(opt.word[0]);
	if (opt.words && (opt.words - 1 < v->least || opt.words - 1 > v->most))
		return tool_usage(AGENTS_PROG, "%s", v->usage);
	stray = stray_option(&opt, v);
	if (stray)
		return tool_usage(AGENTS_PROG, "%s has no %s: %s", v->name, stray, v->usage);
	return v->run(&opt);
}

/* --- taking part ---------------------------------------------------------------------------------- */

static bool registry_there(struct fnd_segment *seg)
{
	struct fnd_table *table;
	int err = fnd_table_open(seg, FND_REGISTRY_TABLE, NULL, &table);

	if (!err)
		fnd_table_close(table);
	return err != -ENOENT;
}

int agents_attach(const struct agents_options *opt, bool make, struct agents_session *s)
{
	const struct fnd_runtime_options how = { .size = sizeof(how), .flags = FND_RUNTIME_SHARED };
	int err;

	memset(s, 0, sizeof(*s));
	s->opt = opt;
	s->name = tool_segment(opt->look.segment);
	if (!s->name)
		return tool_usage(AGENTS_PROG, "which segment? Give --segment or set FOUNDATION_SEGMENT");
	err = fnd_segment_attach(s->name, NULL, &s->seg);
	if (err)
		return tool_fail(AGENTS_PROG, s->name, err);
	if (!make && !registry_there(s->seg)) {
		fprintf(stderr, AGENTS_PROG ": %s: the segment has no registry\n", s->name);
		fnd_segment_detach(s->seg);
		return TOOL_FOUND;
	}
	err = fnd_runtime_open(s->seg, &how, &s->rt);
	if (!err)
		return 0;
	err = tool_fail(AGENTS_PROG, s->name, err);
	fnd_segment_detach(s->seg);
	return err;
}

void agents_detach(struct agents_session *s)
{
	fnd_runtime_close(s->rt);
	tool_leave(AGENTS_PROG, s->name, s->seg);
}

/* --- names, as they are shown --------------------------------------------------------------------- */

struct agents_row *agents_list_next(struct agents_list *l)
{
	if (l->count == l->room) {
		size_t room = l->room ? l->room * 2 : 64;
		struct agents_row *more = reallocarray(l->row, room, sizeof(*more));

		if (!more)
			return NULL;
		l->row = more;
		l->room = room;
	}
	return &l->row[l->count];
}

static int by_name(const void *x, const void *y)
{
	const struct agents_row *a = x;
	const struct agents_row *b = y;

	return strcmp(a->name, b->name);
}

void agents_list_sort(struct agents_list *l)
{
	if (l->count)
		qsort(l->row, l->count, sizeof(*l->row), by_name);
}

static json_t *metadata_json(const struct fnd_agent *a)
{
	json_t *j;

	if (fnd_metadata_check(a->metadata, a->metadata_bytes))
		return json_null(); /* damaged */
	if (a->metadata_bytes == 0)
		return json_object(); /* how the registry keeps the empty map */
	j = tool_json_msgpack(a->metadata, a->metadata_bytes);
	return j ? j : json_null();
}

json_t *agents_owner_json(const struct fnd_owner *owner)
{
	return json_pack("{s:I, s:I, s:I}", "pid", (json_int_t)owner->pid, "slot", (json_int_t)owner->slot,
			 "generation", (json_int_t)owner->generation);
}

json_t *agents_row_json(const struct agents_row *row)
{
	const struct fnd_agent *a = &row->agent;
	char when[32];

	return json_pack("{s:o, s:I, s:{s:I, s:I}, s:o, s:b, s:s, s:s, s:I, s:I, s:o}",
			 "name", tool_json_text(row->name, row->name_bytes),
			 "pid", (json_int_t)a->owner.pid,
			 "owner", "slot", (json_int_t)a->owner.slot,
			 "generation", (json_int_t)a->owner.generation,
			 "alive", look_liveness_json(row->liveness),
			 "orphan", row->liveness == FND_LIVENESS_DEAD,
			 "backend", "shared",
			 "registered_at", tool_time(a->registered_ns, when),
			 "registered_ns", (json_int_t)a->registered_ns,
			 "generation", (json_int_t)a->generation,
			 "metadata", metadata_json(a));
}

json_t *agents_list_json(const struct agents_list *l)
{
	json_t *rows = json_array();

	for (size_t i = 0; i < l->count; i++)
		json_array_append_new(rows, agents_row_json(&l->row[i]));
	return rows;
}

void agents_list_print(const struct agents_list *l)
{
	int width = 4;

	for (size_t i = 0; i < l->count; i++)
		if ((int)l->row[i].name_bytes > width)
			width = (int)l->row[i].name_bytes;
	if (width > 48)
		width = 48;
	if (l->count)
		printf("%-*s %8s  %-7s  %-7s  %-24s  %s\n", width, "NAME", "PID", "OWNER", "BACKEND",
		       "REGISTERED", "METADATA");
	for (size_t i = 0; i < l->count; i++) {
		const struct agents_row *row = &l->row[i];
		json_t *j = metadata_json(&row->agent);
		char *metadata = json_dumps(j, JSON_COMPACT | JSON_ENCODE_ANY | JSON_ENSURE_ASCII);
		char name[FND_AGENT_NAME_MAX + 1];
		char when[32];

		printf("%-*s %8" PRIu32 "  %-7s  %-7s  %-24s  %s\n", width,
		       tool_printable(row->name, name, sizeof(name)), row->agent.owner.pid,
		       row->agent.owner.slot ? look_liveness(row->liveness) : "nobody", "shared",
		       tool_time(row->agent.registered_ns, when), metadata ? metadata : "?");
		free(metadata);
		json_decref(j);
	}
	fflush(stdout);
}
