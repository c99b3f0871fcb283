// SPDX-License-Identifier: MIT
/* foundation config: limits, thresholds, watch times, whom to call. */
#include "foundation.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <foundation/config.h>

#define PROG "foundation config"
#define WORDS_MAX 3

struct config_options {
	struct look_options look;
	struct fnd_change_info info;
	const char *word[WORDS_MAX];
	unsigned int words;
};

enum { KEY_REASON = 'r', KEY_APPROVED = 'b' };

static const struct argp_option options[] = {
	LOOK_OPTION_SEGMENT,
	LOOK_OPTION_JSON,
	{ "reason", KEY_REASON, "TEXT", 0, "Why; goes into the journal", 0 },
	{ "approved-by", KEY_APPROVED, "WHO", 0, "Who approved it; goes into the journal", 0 },
	{ 0 }
};

static error_t parse(int key, char *arg, struct argp_state *state)
{
	struct config_options *opt = state->input;

	switch (key) {
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
	options, parse, "list\nget NAME\nset NAME VALUE\nunset NAME",
	"Show and change the settings of a segment: limits, thresholds, watch times, whom to call.\v"
	"Sizes take K, M or G (powers of 1024), durations ns us ms s m h or d, percentages %. A change is seen by "
	"every worker at its next read. Exit status: 0 fine, 1 no such setting, 2 not a value it takes, 7 changed, "
	"but the state journal could not be written.",
	NULL, NULL, NULL
};

/* --- showing -------------------------------------------------------------------------------------- */

static bool is_number(const struct fnd_config_definition *d)
{
	return d->type != FND_CONFIG_CHOICE && d->type != FND_CONFIG_TEXT;
}

static json_t *value_json(const struct fnd_config_definition *d, const char *value)
{
	if (is_number(d))
		return json_integer((json_int_t)strtoull(value, NULL, 10));
	return tool_json_text(value, strlen(value));
}

static json_t *setting_json(const struct fnd_config_definition *d, const char *value, bool set)
{
	json_t *j = json_pack("{s:s, s:o, s:o, s:b, s:s, s:s}", "name", d->name, "value", value_json(d, value),
			      "default", value_json(d, d->fallback), "set", set, "unit", d->unit, "description",
			      d->what);

	if (is_number(d)) {
		json_object_set_new(j, "min", json_integer((json_int_t)d->min));
		json_object_set_new(j, "max", json_integer((json_int_t)d->max));
	} else if (d->choices) {
		json_object_set_new(j, "choices", json_string(d->choices));
	}
	return j;
}

/* In the largest unit that says it exactly, so that it can be given to `set` again. */
static const char *for_people(const struct fnd_config_definition *d, const char *value,
			      char buf[FND_CONFIG_TEXT_MAX + 8])
{
	static const struct {
		const char *unit;
		uint64_t factor;
	} times[] = { { "d", 86400000000000 }, { "h", 3600000000000 }, { "m", 60000000000 }, { "s", 1000000000 },
		      { "ms", 1000000 }, { "us", 1000 }, { "ns", 1 } },
	  sizes[] = { { "G", 1u << 30 }, { "M", 1u << 20 }, { "K", 1u << 10 }, { "", 1 } };
	uint64_t n = strtoull(value, NULL, 10);
	size_t i = 0;

	snprintf(buf, FND_CONFIG_TEXT_MAX + 8, "%s%s", value, d->type == FND_CONFIG_PERCENT ? "%" : "");
	if (d->type == FND_CONFIG_DURATION) {
		while (times[i].factor > 1 && (n == 0 || n % times[i].factor))
			i++;
		snprintf(buf, FND_CONFIG_TEXT_MAX + 8, "%" PRIu64 "%s", n / times[i].factor, times[i].unit);
	} else if (d->type == FND_CONFIG_BYTES) {
		while (sizes[i].factor > 1 && (n == 0 || n % sizes[i].factor))
			i++;
		snprintf(buf, FND_CONFIG_TEXT_MAX + 8, "%" PRIu64 "%s", n / sizes[i].factor, sizes[i].unit);
	}
	return buf;
}

/* Settings of which what is stored is damaged are named and left out; the exit status says so. */
static int list(struct fnd_config *c, const char *segment, bool json)
{
	char value[FND_CONFIG_TEXT_MAX + 1], text[FND_CONFIG_TEXT_MAX + 8];
	json_t *settings = json ? json_array() : NULL;
	const struct fnd_config_definition *d;
	int worst = TOOL_FINE, status;

	for (unsigned int i = 0; (d = fnd_config_definition(i)); i++) {
		int err = fnd_config_get(c, d->name, value, sizeof(value));

		if (err < 0)
			worst = tool_fail(PROG, d->name, err);
		else if (json)
			json_array_append_new(settings, setting_json(d, value, err == 0));
		else
			printf("%-24s %-12s %-3s %s\n", d->name, for_people(d, value, text), err == 0 ? "set" : "",
			       d->what);
	}
	status = json ? tool_print_json(PROG, json_pack("{s:s, s:s, s:o}", "schema", "foundation.config/1", "segment",
							segment, "settings", settings)) :
			tool_finish(PROG, TOOL_FINE);
	return status ? status : worst;
}

static int get(struct fnd_config *c, const char *name, bool json)
{
	const struct fnd_config_definition *d = fnd_config_find(name);
	char value[FND_CONFIG_TEXT_MAX + 1], text[FND_CONFIG_TEXT_MAX + 8];
	int err = fnd_config_get(c, name, value, sizeof(value));
	json_t *j;

	if (err < 0)
		return err == -ENOENT ? (tool_fail(PROG, name, err), TOOL_FOUND) : tool_fail(PROG, name, err);
	if (!json) {
		puts(for_people(d, value, text));
		return tool_finish(PROG, TOOL_FINE);
	}
	j = setting_json(d, value, err == 0);
	json_object_set_new(j, "schema", json_string("foundation.setting/1"));
	return tool_print_json(PROG, j);
}

/* --- changing ------------------------------------------------------------------------------------- */

static int change(struct fnd_config *c, const struct config_options *opt)
{
	const char *name = opt->word[1];
	int err = strcmp(opt->word[0], "set") == 0 ? fnd_config_set(c, name, opt->word[2], &opt->info) :
						     fnd_config_unset(c, name, &opt->info);

	if (err == FND_NOT_DURABLE)
		fprintf(stderr, "%s: %s: done, but not durable: %s\n", PROG, name, fnd_error_detail());
	else if (err == -ERANGE)
		return tool_fail(PROG, name, err), TOOL_USAGE;
	else if (err < 0)
		return err == -ENOENT ? (tool_fail(PROG, name, err), TOOL_FOUND) : tool_fail(PROG, name, err);
	if (opt->look.json) {
		int status = get(c, name, true);

		return status ? status : err ? TOOL_NOT_DURABLE : TOOL_FINE;
	}
	return err ? TOOL_NOT_DURABLE : TOOL_FINE;
}

static bool words_fit(const struct config_options *opt)
{
	static const struct {
		const char *word;
		unsigned int words;
	} forms[] = { { "list", 1 }, { "get", 2 }, { "set", 3 }, { "unset", 2 } };

	for (size_t i = 0; i < sizeof(forms) / sizeof(forms[0]); i++)
		if (strcmp(opt->word[0], forms[i].word) == 0)
			return opt->words == forms[i].words;
	return false;
}

int cmd_config(int argc, char **argv)
{
	struct config_options opt = { 0 };
	struct fnd_segment *seg;
	struct fnd_config *c;
	const char *segment;
	int err = tool_parse(&argp, PROG, argc, argv, &opt);

	if (err)
		return err;
	if (opt.words == 0)
		opt.word[opt.words++] = "list";
	if (!words_fit(&opt))
		return tool_usage(PROG, "list, get NAME, set NAME VALUE or unset NAME, please");
	segment = tool_segment(opt.look.segment);
	if (!segment)
		return tool_usage(PROG, "which segment? Give --segment or set FOUNDATION_SEGMENT");
	err = fnd_segment_attach(segment, NULL, &seg);
	if (err)
		return tool_fail(PROG, segment, err);
	err = fnd_config_open(seg, &c);
	if (err) {
		err = tool_fail(PROG, segment, err);
		fnd_segment_detach(seg);
		return err;
	}
	if (strcmp(opt.word[0], "list") == 0)
		err = list(c, segment, opt.look.json);
	else if (strcmp(opt.word[0], "get") == 0)
		err = get(c, opt.word[1], opt.look.json);
	else
		err = change(c, &opt);
	fnd_config_close(c);
	tool_leave(PROG, segment, seg);
	return err;
}
