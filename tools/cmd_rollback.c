// SPDX-License-Identifier: MIT
/* foundation rollback: back to process-private state, at once. */
#include "foundation.h"

#include <stdio.h>
#include <string.h>

#include <foundation/area.h>
#include <foundation/flags.h>

#define PROG "foundation rollback"
#define LOCK_MS 500 /* a rollback waits for nobody: who holds a lock that long is stopped */

struct rollback_options {
	struct look_options look;
	bool emergency;
	unsigned int components;
	struct fnd_change_info info;
};

enum { KEY_EMERGENCY = 'e', KEY_COMPONENT = 'c', KEY_REASON = 'r', KEY_APPROVED = 'b' };

static const struct argp_option options[] = {
	LOOK_OPTION_SEGMENT,
	LOOK_OPTION_JSON,
	{ "emergency", KEY_EMERGENCY, NULL, 0, "Every migration flag off and stage 0", 0 },
	{ "component", KEY_COMPONENT, "NAME", 0,
	  "registry, error-context, spans, sampled-events, telemetry or enforcement; may be given again", 0 },
	{ "reason", KEY_REASON, "TEXT", 0, "Why; goes into the journal", 0 },
	{ "approved-by", KEY_APPROVED, "WHO", 0, "Who approved it; goes into the journal", 0 },
	{ 0 }
};

static error_t parse(int key, char *arg, struct argp_state *state)
{
	struct rollback_options *opt = state->input;
	int bit;

	switch (key) {
	case KEY_EMERGENCY:
		opt->emergency = true;
		return 0;
	case KEY_COMPONENT:
		bit = fnd_component_parse(arg);
		if (bit < 0)
			argp_error(state, "%s", fnd_error_detail());
		else
			opt->components |= (unsigned int)bit;
		return 0;
	case KEY_REASON:
		opt->info.reason = arg;
		return 0;
	case KEY_APPROVED:
		opt->info.approved_by = arg;
		return 0;
	case LOOK_KEY_SEGMENT:
		opt->look.segment = arg;
		return 0;
	case LOOK_KEY_JSON:
		opt->look.json = true;
		return 0;
	default:
		return ARGP_ERR_UNKNOWN;
	}
}

static const struct argp argp = {
	options, parse, NULL,
	"Switch migration flags off in one step, and read back that they are.\v"
	"--emergency needs nothing but the segment's header: no table, no free slot, no other process. Workers see "
	"it at their next read. Exit status: 0 done, 1 done, but switched on again meanwhile, 3 cannot, 7 done, but "
	"the state journal could not be written.",
	NULL, NULL, NULL
};

/* By the header alone, whatever else is wrong. */
static int read_back(const char *segment, struct fnd_flags_view *v)
{
	void *area;
	int err = fnd_area_open(segment, &area);

	if (err)
		return err;
	fnd_flags_view_of_area(area, v);
	fnd_area_close(area);
	return 0;
}

static int selective(const char *segment, const struct rollback_options *opt)
{
	const struct fnd_attach_options attach = { .size = sizeof(attach), .lock_timeout_ms = LOCK_MS };
	struct fnd_segment *seg;
	struct fnd_flags *f;
	int err = fnd_segment_attach(segment, &attach, &seg);

	if (err)
		return err;
	err = fnd_flags_open(seg, &f);
	if (!err) {
		err = fnd_flags_rollback(f, opt->components, &opt->info);
		fnd_flags_close(f);
	}
	fnd_segment_detach(seg); /* what workers did is for others to write: no time for it here */
	return err;
}

/* For those who wait for events: what an emergency rollback, which needs no table, could not tell. */
static void announce(const char *segment, uint64_t before, const struct fnd_change_info *info)
{
	const struct fnd_attach_options attach = { .size = sizeof(attach), .lock_timeout_ms = LOCK_MS };
	struct fnd_segment *seg;
	struct fnd_flags *f;

	if (fnd_segment_attach(segment, &attach, &seg))
		return;
	if (fnd_flags_open(seg, &f) == 0) {
		fnd_flags_announce(f, before, info);
		fnd_flags_close(f);
	}
	fnd_segment_detach(seg);
}

static int show(const char *segment, const struct fnd_flags_view *v, bool json, bool durable)
{
	const char *stage = fnd_stage_name(v->stage);
	json_t *flags = json_object();

	for (unsigned int i = 0; i < FND_FLAG_KNOWN; i++) {
		json_object_set_new(flags, fnd_flag_name(i), json_integer(v->percent[i]));
		if (!json)
			printf("%-24s %u%%\n", fnd_flag_name(i), v->percent[i]);
	}
	if (json)
		return tool_print_json(PROG, json_pack("{s:s, s:s, s:s, s:o, s:b}", "schema", "foundation.rollback/1",
						       "segment", segment, "stage", stage ? stage : "?", "flags", flags,
						       "durable", durable));
	json_decref(flags);
	printf("stage %s\n", stage ? stage : "?");
	return tool_finish(PROG, TOOL_FINE);
}

/* Somebody may have been quick. */
static int still_on(const char *segment, const struct fnd_flags_view *v, unsigned int flags)
{
	int status = TOOL_FINE;

	for (unsigned int i = 0; i < FND_FLAG_KNOWN; i++) {
		if (!(flags >> i & 1) || v->percent[i] == 0)
			continue;
		fprintf(stderr, "%s: %s: %s was switched on again meanwhile\n", PROG, segment, fnd_flag_name(i));
		status = TOOL_FOUND;
	}
	return status;
}

int cmd_rollback(int argc, char **argv)
{
	struct rollback_options opt = { 0 };
	struct fnd_flags_view v;
	const char *segment;
	char why[512] = "";
	uint64_t before = 0;
	int status, err = tool_parse(&argp, PROG, argc, argv, &opt);

	if (err)
		return err;
	segment = tool_segment(opt.look.segment);
	if (!segment)
		return tool_usage(PROG, "which segment? Give --segment or set FOUNDATION_SEGMENT");
	if (opt.emergency == (opt.components != 0))
		return tool_usage(PROG, "either --emergency or --component");
	err = opt.emergency ? fnd_flags_emergency(segment, &opt.info, &before) : selective(segment, &opt);
	if (err < 0)
		return tool_fail(PROG, segment, err);
	if (err == FND_NOT_DURABLE)
		snprintf(why, sizeof(why), "%s", fnd_error_detail());
	status = read_back(segment, &v);
	if (status)
		return tool_fail(PROG, segment, status);
	status = show(segment, &v, opt.look.json, err == 0);
	if (status)
		return status;
	status = still_on(segment, &v, opt.emergency ? ~0u : fnd_component_flags(opt.components));
	if (opt.emergency)
		announce(segment, before, &opt.info);
	if (err == FND_NOT_DURABLE) {
		fprintf(stderr, "%s: %s: done, but not durable: %s\n", PROG, segment, why);
		return TOOL_NOT_DURABLE;
	}
	return status;
}
