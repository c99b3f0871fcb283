// SPDX-License-Identifier: MIT
/* foundation flags: what steers a service, and who changed it last. */
#include "foundation.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <foundation/flags.h>

#define PROG "foundation flags"
#define WORDS_MAX 4

struct flags_options {
	struct look_options look; /* first: look_parse() */
	const char *identity, *reason, *approved_by, *description;
	const char *word[WORDS_MAX];
	unsigned int words;
};

enum { KEY_IDENTITY = 'i', KEY_REASON = 'r', KEY_APPROVED = 'b', KEY_DESCRIPTION = 'd' };

static const struct argp_option options[] = {
	LOOK_OPTION_SEGMENT,
	LOOK_OPTION_JSON,
	{ "identity", KEY_IDENTITY, "ID", 0, "get: for whom a percentage is to be decided", 0 },
	{ "reason", KEY_REASON, "TEXT", 0, "Why; goes into the journal", 0 },
	{ "approved-by", KEY_APPROVED, "WHO", 0, "Who approved it; goes into the journal", 0 },
	{ "description", KEY_DESCRIPTION, "TEXT", 0, "define: what the flag is for", 0 },
	{ 0 }
};

static error_t parse(int key, char *arg, struct argp_state *state)
{
	struct flags_options *opt = state->input;

	switch (key) {
	case KEY_IDENTITY:
		opt->identity = arg;
		return 0;
	case KEY_REASON:
		opt->reason = arg;
		return 0;
	case KEY_APPROVED:
		opt->approved_by = arg;
		return 0;
	case KEY_DESCRIPTION:
		opt->description = arg;
		return 0;
	case LOOK_KEY_SEGMENT:
		opt->look.segment = arg;
		return 0;
	case LOOK_KEY_JSON:
		opt->look.json = true;
		return 0;
	case ARGP_KEY_ARG:
		if (opt->words == WORDS_MAX)
			argp_error(state, "one word too many: %s", arg);
		opt->word[opt->words++] = arg;
		return 0;
	default:
		return ARGP_ERR_UNKNOWN;
	}
}

static const struct argp argp = {
	options, parse,
	"list\nget NAME\nset NAME on|off|N%\nenable NAME\ndisable NAME\npercent NAME N\nstage STAGE\nwatch\n"
	"define NAME [N%]",
	"Show and change the feature flags of a segment.\v"
	"A flag goes by its name or by the one it had in the old runbook. A change is seen by every worker "
	"at its next read. Exit status: 0 fine, 1 no such flag, 7 changed, but the state journal could not be written.",
	NULL, NULL, NULL
};

struct run {
	const struct flags_options *opt;
	const char *segment;
	struct fnd_segment *seg;
	struct fnd_flags *f;
	struct fnd_flags_view view;
	json_t *list;
};

static int not_durable(const char *segment)
{
	fprintf(stderr, "%s: %s: done, but not durable: %s\n", PROG, segment, fnd_error_detail());
	return TOOL_NOT_DURABLE;
}

/* --- list, get ------------------------------------------------------------------------------------ */

static json_t *flag_json(const struct run *r, const struct fnd_flag_record *rec, unsigned int percent)
{
	char when[32];
	const char *alias = fnd_flag_alias(rec->id);
	json_t *j = json_pack("{s:o, s:i, s:b, s:i}", "name", tool_json_text(rec->name, strlen(rec->name)), "percent",
			      (int)percent, "value", fnd_flag_for(r->f, rec->id, r->opt->identity), "default",
			      (int)rec->fallback);

	if (alias)
		json_object_set_new(j, "alias", json_string(alias));
	else
		json_object_set_new(j, "description", tool_json_text(rec->description, strlen(rec->description)));
	if (rec->id < FND_FLAG_KNOWN)
		json_object_set_new(j, "deviates", json_boolean(r->view.deviates >> rec->id & 1));
	if (rec->changed_ns)
		json_object_set_new(j, "changed",
				    json_pack("{s:s, s:I, s:I, s:o, s:i, s:i, s:o}", "at",
					      tool_time(rec->changed_ns, when), "uid", (json_int_t)rec->uid, "pid",
					      (json_int_t)rec->pid, "command",
					      tool_json_text(rec->command, strlen(rec->command)), "before",
					      (int)rec->before, "after", (int)rec->after, "reason",
					      tool_json_text(rec->reason, strlen(rec->reason))));
	return j;
}

static void print_flag(const struct run *r, const struct fnd_flag_record *rec, unsigned int percent)
{
	char when[32], text[16], command[32], reason[FND_FLAG_TEXT_MAX + 1];
	bool deviates = rec->id < FND_FLAG_KNOWN && r->view.deviates >> rec->id & 1;

	snprintf(text, sizeof(text), percent == 0 ? "off" : percent == 100 ? "on" : "%u%%", percent);
	printf("%-24s %-5s", rec->name, text);
	if (rec->changed_ns)
		printf(" %s by %s (pid %" PRIu32 ", uid %" PRIu32 ")%s%s", tool_time(rec->changed_ns, when),
		       tool_printable(rec->command, command, sizeof(command)), rec->pid, rec->uid,
		       *rec->reason ? ": " : "", tool_printable(rec->reason, reason, sizeof(reason)));
	printf("%s\n", deviates ? "  (deviates from the stage)" : "");
}

static int list_one(const struct fnd_flag_record *rec, void *arg)
{
	struct run *r = arg;
	unsigned int percent = r->view.percent[rec->id];

	if (percent > 100) /* a definition that was cut short */
		return 0;
	if (r->opt->look.json)
		json_array_append_new(r->list, flag_json(r, rec, percent));
	else
		print_flag(r, rec, percent);
	return 0;
}

static int list(struct run *r)
{
	const char *stage = fnd_stage_name(r->view.stage);
	int err;

	r->list = json_array();
	if (!r->opt->look.json)
		printf("%sstage %s, generation %" PRIu64 "\n", r->view.deviates ? "deviating from " : "",
		       stage ? stage : "?", r->view.generation);
	err = fnd_flags_list(r->f, list_one, r);
	if (err && !r->opt->look.json)
		fprintf(stderr, "%s: %s: the application's flags cannot be read: %s\n", PROG, r->segment,
			fnd_strerror(err));
	if (r->opt->look.json)
		return tool_print_json(PROG, json_pack("{s:s, s:s, s:I, s:s, s:b, s:o}", "schema", "foundation.flags/1",
						       "segment", r->segment, "generation",
						       (json_int_t)r->view.generation, "stage", stage ? stage : "?",
						       "deviates", r->view.deviates != 0, "flags", r->list));
	json_decref(r->list);
	return tool_finish(PROG, TOOL_FINE);
}

static int get(struct run *r, const char *name)
{
	struct fnd_flag_details d;

	fnd_flag_evaluate(r->f, name, r->opt->identity, 0, &d);
	if (d.error_code) {
		fprintf(stderr, "%s: %s: no flag is called \"%s\"\n", PROG, r->segment, name);
		return TOOL_FOUND;
	}
	if (!r->opt->look.json) {
		puts(d.variant);
		return tool_finish(PROG, TOOL_FINE);
	}
	return tool_print_json(PROG, json_pack("{s:s, s:s, s:b, s:s, s:s, s:i, s:I}", "schema", "foundation.flag/1",
					       "name", name, "value", d.value, "variant", d.variant, "reason", d.reason,
					       "percent", d.percent, "generation", (json_int_t)d.generation));
}

/* --- changes -------------------------------------------------------------------------------------- */

/* "on", "off", "N%", or N where that is meant. */
static bool percent_parse(const char *text, bool bare, unsigned int *ret_percent)
{
	char *end;
	long n;

	if (strcmp(text, "on") == 0 || strcmp(text, "off") == 0) {
		*ret_percent = text[1] == 'n' ? 100 : 0;
		return true;
	}
	n = strtol(text, &end, 10);
	if (end == text || n < 0 || n > 100 || (*end == '%' ? end[1] : bare ? *end : 1))
		return false;
	*ret_percent = (unsigned int)n;
	return true;
}

static int changed(struct run *r, int err, const char *what)
{
	if (err < 0)
		return tool_fail(PROG, what, err);
	if (r->opt->look.json) {
		fnd_flags_view(r->f, &r->view);
		if (list(r) != TOOL_FINE)
			return TOOL_CANNOT;
	}
	return err == FND_NOT_DURABLE ? not_durable(r->segment) : TOOL_FINE;
}

static int set(struct run *r, const char *name, unsigned int percent)
{
	const struct fnd_change_info info = { r->opt->reason, r->opt->approved_by };
	struct fnd_flag_change change = { .percent = percent };
	int id = fnd_flag_find(r->f, name);

	if (id == -ENOENT) {
		fprintf(stderr, "%s: %s: no flag is called \"%s\"\n", PROG, r->segment, name);
		return TOOL_FOUND;
	}
	if (id < 0)
		return tool_fail(PROG, name, id);
	change.id = (unsigned int)id;
	id = fnd_flags_change(r->f, &change, 1, -1, &info);
	if (id == -EINVAL)
		return tool_usage(PROG, "%s", fnd_error_detail());
	return changed(r, id, name);
}

static int stage(struct run *r, const char *name)
{
	const struct fnd_change_info info = { r->opt->reason, r->opt->approved_by };
	int s = fnd_stage_parse(name);

	if (s < 0)
		return tool_usage(PROG, "%s", fnd_error_detail());
	return changed(r, fnd_flags_stage_set(r->f, (unsigned int)s, &info), name);
}

static int define(struct run *r, const char *name, const char *percent)
{
	unsigned int n = 0;
	int id;

	if (percent && !percent_parse(percent, false, &n))
		return tool_usage(PROG, "not on, off or N%%: %s", percent);
	id = fnd_flag_define(r->f, name, r->opt->description, n);
	if (id == -EINVAL)
		return tool_usage(PROG, "%s", fnd_error_detail());
	return id < 0 ? tool_fail(PROG, name, id) : TOOL_FINE;
}

/* One line, or one JSON object, a change; until somebody ends it. */
static int watch(struct run *r)
{
	struct run now = *r;

	for (;;) {
		fnd_flags_view(r->f, &now.view);
		if (now.view.generation != r->view.generation || now.view.stage != r->view.stage) {
			if (list(&now) != TOOL_FINE)
				return TOOL_CANNOT;
			fflush(stdout);
		}
		r->view = now.view;
		fnd_flags_wait(r->f, now.view.generation, 1000);
	}
}

static int run_words(struct run *r)
{
	const char *const *w = r->opt->word;
	unsigned int n = r->opt->words, percent;

	if (n == 0 || (strcmp(w[0], "list") == 0 && n == 1))
		return list(r);
	if (strcmp(w[0], "get") == 0 && n == 2)
		return get(r, w[1]);
	if (strcmp(w[0], "enable") == 0 && n == 2)
		return set(r, w[1], 100);
	if (strcmp(w[0], "disable") == 0 && n == 2)
		return set(r, w[1], 0);
	if ((strcmp(w[0], "set") == 0 || strcmp(w[0], "percent") == 0) && n == 3) {
		if (!percent_parse(w[2], w[0][0] == 'p', &percent))
			return tool_usage(PROG, "not on, off or N%%, N from 0 to 100: %s", w[2]);
		return set(r, w[1], percent);
	}
	if (strcmp(w[0], "stage") == 0 && n == 2)
		return stage(r, w[1]);
	if (strcmp(w[0], "watch") == 0 && n == 1)
		return watch(r);
	if (strcmp(w[0], "define") == 0 && (n == 2 || n == 3))
		return define(r, w[1], n == 3 ? w[2] : NULL);
	return tool_usage(PROG, "list, get NAME, set NAME on|off|N%%, enable NAME, disable NAME, percent NAME N, "
				"stage STAGE, watch, or define NAME [N%%]");
}

int cmd_flags(int argc, char **argv)
{
	struct flags_options opt = { 0 };
	struct run r = { .opt = &opt };
	int status, err = tool_parse(&argp, PROG, argc, argv, &opt);

	if (err)
		return err;
	r.segment = tool_segment(opt.look.segment);
	if (!r.segment)
		return tool_usage(PROG, "which segment? Give --segment or set FOUNDATION_SEGMENT");
	err = fnd_segment_attach(r.segment, NULL, &r.seg);
	if (!err) {
		err = fnd_flags_open(r.seg, &r.f);
		if (err)
			fnd_segment_detach(r.seg);
	}
	if (err)
		return tool_fail(PROG, r.segment, err);
	if (fnd_flags_catch_up(r.f) == FND_NOT_DURABLE)
		fprintf(stderr, "%s: %s: the last change is not in the journal: %s\n", PROG, r.segment,
			fnd_error_detail());
	fnd_flags_view(r.f, &r.view);
	status = run_words(&r);
	fnd_flags_close(r.f);
	tool_leave(PROG, r.segment, r.seg);
	return status;
}
