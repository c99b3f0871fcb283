// SPDX-License-Identifier: MIT
/* foundation journal: what happened in a segment, from disk; and what workers could not write there themselves. */
#include "foundation.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <foundation/facts.h>
#include <foundation/journal.h>
#include <foundation/segment.h>

#define PROG "foundation journal"
#define LOCK_MS 500 /* who looks only waits for nobody */

struct journal_options {
	struct look_options look;
	const char *type;
	uint64_t since_ns;
	bool follow;
	const char *word;
};

enum { KEY_TYPE = 'y', KEY_SINCE = 'S', KEY_FOLLOW = 'f' };

static const struct argp_option options[] = {
	LOOK_OPTION_SEGMENT,
	{ "json", LOOK_KEY_JSON, NULL, 0, "Print the records as they are: a JSON object a line", 0 },
	{ "type", KEY_TYPE, "TYPE", 0, "Only records of this type, or whose type begins with it and a dot", 0 },
	{ "since", KEY_SINCE, "DATE", 0, "Only from this date on: YYYY-MM-DD or YYYY-MM-DDTHH:MM:SS, UTC", 0 },
	{ "follow", KEY_FOLLOW, NULL, 0, "Go on with what is appended", 0 },
	{ 0 }
};

static bool date_parse(const char *text, uint64_t *ret_ns)
{
	struct tm tm = { 0 };
	const char *end = strptime(text, "%Y-%m-%d", &tm);

	if (end && *end == 'T')
		end = strptime(end, "T%H:%M:%S", &tm);
	if (!end || (*end && strcmp(end, "Z") != 0))
		return false;
	*ret_ns = (uint64_t)timegm(&tm) * 1000000000u;
	return true;
}

static error_t parse(int key, char *arg, struct argp_state *state)
{
	struct journal_options *opt = state->input;

	switch (key) {
	case KEY_TYPE:
		opt->type = arg;
		return 0;
	case KEY_SINCE:
		if (!date_parse(arg, &opt->since_ns))
			argp_error(state, "not a date: %s", arg);
		return 0;
	case KEY_FOLLOW:
		opt->follow = true;
		return 0;
	case LOOK_KEY_SEGMENT:
		opt->look.segment = arg;
		return 0;
	case LOOK_KEY_JSON:
		opt->look.json = true;
		return 0;
	case ARGP_KEY_ARG:
		if (opt->word)
			argp_error(state, "unexpected argument: %s", arg);
		opt->word = arg;
		return 0;
	default:
		return ARGP_ERR_UNKNOWN;
	}
}

static const struct argp argp = {
	options, parse, "[sync]",
	"Print the state journal of a segment, oldest first; the segment need not exist any more.\v"
	"What happened to agents waits in the segment until somebody writes it to the journal: this command does so "
	"first, where it may; 'sync' does that alone, and fails when it cannot.\n"
	"Exit status: 0 fine, 1 lines with a wrong checksum were passed over, 3 cannot read or write.", NULL, NULL,
	NULL
};

struct walk {
	const struct journal_options *opt;
	uint64_t after; /* record numbers shown already */
};

static bool wanted(const struct walk *w, const struct fnd_journal_record *r)
{
	size_t n = w->opt->type ? strlen(w->opt->type) : 0;

	return r->n > w->after && r->at_ns >= w->opt->since_ns &&
	       (!n || (strncmp(r->type, w->opt->type, n) == 0 && (r->type[n] == '\0' || r->type[n] == '.')));
}

/* What is not shown in columns already. */
static void print_rest(json_t *root)
{
	static const char *const shown[] = { "n", "at", "boot", "type", "pid" };
	char *text;

	for (size_t i = 0; i < sizeof(shown) / sizeof(shown[0]); i++)
		json_object_del(root, shown[i]);
	text = json_dumps(root, JSON_COMPACT | JSON_ENSURE_ASCII);
	fputs(text ? text : "?", stdout);
	free(text);
}

static int show(const struct fnd_journal_record *r, void *arg)
{
	struct walk *w = arg;
	char when[32];
	json_t *root;

	if (!wanted(w, r))
		return 0;
	w->after = r->n;
	if (w->opt->look.json) {
		puts(r->json);
		return 0;
	}
	root = json_loadb(r->json, r->json_bytes, 0, NULL);
	printf("%6" PRIu64 "  %s  %-16s ", r->n, tool_time(r->at_ns, when), r->type);
	if (root)
		print_rest(root);
	putchar('\n');
	json_decref(root);
	return 0;
}

/* --- taking what waits in the segment --------------------------------------------------------------- */

static int take(struct fnd_segment *seg, uint32_t lock_ms, unsigned int *ret_names, struct fnd_facts *ret_facts)
{
	unsigned int processes;
	int err = reap_dead(seg, &processes, ret_names), written = fnd_facts_sync(seg, lock_ms, ret_facts);

	return written ? written : err;
}

void journal_take(const char *segment)
{
	const struct fnd_attach_options attach = { .size = sizeof(attach), .lock_timeout_ms = LOCK_MS };
	struct fnd_facts done;
	struct fnd_segment *seg;
	unsigned int names;

	if (fnd_segment_attach(segment, &attach, &seg))
		return;
	take(seg, LOCK_MS, &names, &done);
	fnd_segment_detach(seg);
}

static int sync_facts(const char *segment, bool json)
{
	struct fnd_facts done = { 0 };
	struct fnd_segment *seg;
	unsigned int names = 0;
	int status = TOOL_FINE, err = fnd_segment_attach(segment, NULL, &seg);

	if (err)
		return tool_fail(PROG, segment, err);
	err = take(seg, 0, &names, &done);
	if (err)
		status = tool_fail(PROG, segment, err);
	fnd_segment_detach(seg);
	if (err)
		return status;
	if (json)
		return tool_print_json(PROG, json_pack("{s:s, s:s, s:i, s:i, s:I}", "schema",
						       "foundation.journal-sync/1", "segment", segment, "names",
						       (int)names, "written", (int)done.written, "missed",
						       (json_int_t)done.missed));
	printf("%u names removed, %u records written", names, done.written);
	if (done.missed)
		printf(", %" PRIu64 " events were gone before", done.missed);
	putchar('\n');
	return tool_finish(PROG, TOOL_FINE);
}

int cmd_journal(int argc, char **argv)
{
	struct journal_options opt = { 0 };
	struct walk w = { .opt = &opt };
	unsigned int damaged = 0;
	struct fnd_journal *j;
	const char *segment;
	int err = tool_parse(&argp, PROG, argc, argv, &opt);

	if (err)
		return err;
	segment = tool_segment(opt.look.segment);
	if (!segment)
		return tool_usage(PROG, "which segment? Give --segment or set FOUNDATION_SEGMENT");
	if (opt.word && strcmp(opt.word, "sync") != 0)
		return tool_usage(PROG, "sync, or nothing, please: %s", opt.word);
	if (opt.word)
		return sync_facts(segment, opt.look.json);
	err = fnd_journal_open(segment, NULL, &j);
	if (err)
		return tool_fail(PROG, segment, err);
	journal_take(segment);
	do {
		err = fnd_journal_read(j, show, &w, &damaged);
		fflush(stdout);
		if (opt.follow && !err)
			usleep(200000);
	} while (opt.follow && !err && !ferror(stdout));
	if (err)
		err = tool_fail(PROG, fnd_journal_directory(j), err);
	fnd_journal_close(j);
	if (err)
		return err;
	if (damaged)
		fprintf(stderr, "%s: %s: %u lines have a wrong checksum and were passed over\n", PROG, segment,
			damaged);
	return tool_finish(PROG, damaged ? TOOL_FOUND : TOOL_FINE);
}
