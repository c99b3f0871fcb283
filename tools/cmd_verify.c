// SPDX-License-Identifier: MIT
/* foundation verify: every structural defect of a segment. Looks only. */
#include "foundation.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include <foundation/verify.h>

#define PROG "foundation verify"

static const struct argp_option options[] = { LOOK_OPTION_SEGMENT, LOOK_OPTION_JSON, { 0 } };

static const struct argp argp = {
	options, look_parse, NULL,
	"Walk a whole segment and name every structural defect.\v"
	"It reads the segment's file without attaching. Exact while nobody writes; beside writers it reports "
	"what stays. Exit status 0: sound, 4: damaged, 5: a shard was never seen at rest.", NULL, NULL, NULL
};

static int note_defect(const struct fnd_defect *d, void *arg)
{
	json_array_append_new(arg, json_pack("{s:s, s:o, s:s, s:I}", "where", d->where, "what",
					     tool_json_text(d->what, strlen(d->what)), "remedy", d->remedy,
					     "offset", (json_int_t)d->offset));
	return 0;
}

static int print_defect(const struct fnd_defect *d, void *arg)
{
	char what[256];

	(void)arg;
	printf("offset %" PRIu64 ": %s: %s (%s)\n", d->offset, d->where,
	       tool_printable(d->what, what, sizeof(what)), d->remedy);
	return 0;
}

static int print_json(const char *name, json_t *defects, const struct fnd_verify_result *r)
{
	json_t *sound = r->defects ? json_false() : r->unsettled ? json_null() : json_true();

	return tool_print_json(PROG, json_pack("{s:s, s:s, s:o, s:I, s:I, s:I, s:I, s:I, s:O}",
		"schema", "foundation.verify/1", "segment", name, "sound", sound,
		"tables", (json_int_t)r->tables, "shards", (json_int_t)r->shards,
		"records", (json_int_t)r->records, "unsettled", (json_int_t)r->unsettled,
		"defects_total", (json_int_t)r->defects, "defects", defects));
}

static int print_verdict(const char *name, const struct fnd_verify_result *r)
{
	if (r->defects)
		printf("%s: %" PRIu64 " defect%s\n", name, r->defects, r->defects == 1 ? "" : "s");
	else
		printf("%s: sound: %" PRIu32 " tables, %" PRIu32 " shards, %" PRIu64 " records\n", name,
		       r->tables, r->shards, r->records);
	return tool_finish(PROG, TOOL_FINE);
}

int cmd_verify(int argc, char **argv)
{
	struct fnd_verify_result r = { 0 };
	struct look_options opt = { 0 };
	json_t *defects;
	const char *name;
	int status, printed;
	int err = tool_parse(&argp, PROG, argc, argv, &opt);

	if (err)
		return err;
	name = tool_segment(opt.segment);
	if (!name)
		return tool_usage(PROG, "which segment? Give --segment or set FOUNDATION_SEGMENT");
	defects = json_array();
	err = fnd_verify(name, opt.json ? note_defect : print_defect, defects, &r);
	if (err && tool_exit_status(err) != TOOL_CORRUPT) {
		json_decref(defects);
		return tool_fail(PROG, name, err);
	}
	printed = opt.json ? print_json(name, defects, &r) : print_verdict(name, &r);
	json_decref(defects);
	status = err ? tool_fail(PROG, name, err) : TOOL_FINE;
	if (!status && r.unsettled) {
		fprintf(stderr, PROG ": %s: no defect, but %" PRIu32 " shards changed at every look\n", name,
			r.unsettled);
		status = TOOL_TIMEOUT;
	}
	return status ? status : printed;
}
