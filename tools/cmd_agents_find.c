// SPDX-License-Identifier: MIT
/* foundation agents get, find, query: what a worker would be told. */
#include "cmd_agents.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* --- get ------------------------------------------------------------------------------------------ */

static int print_one(const struct agents_session *s, const struct agents_row *row)
{
	json_t *j = agents_row_json(row);
	char name[FND_AGENT_NAME_MAX + 1], when[32];
	char *metadata;

	if (s->opt->look.json) {
		json_object_update_new(j, json_pack("{s:s, s:s}", "schema", "foundation.agent/1", "segment", s->name));
		return tool_print_json(AGENTS_PROG, j);
	}
	metadata = json_dumps(json_object_get(j, "metadata"), JSON_COMPACT | JSON_ENCODE_ANY | JSON_ENSURE_ASCII);
	printf("name        %s\n", tool_printable(row->name, name, sizeof(name)));
	printf("owner       pid %" PRIu32 ", slot %" PRIu32 ", generation %" PRIu32 "%s%s\n", row->agent.owner.pid,
	       row->agent.owner.slot, row->agent.owner.generation, s->opt->check ? ", " : "",
	       s->opt->check ? look_liveness(row->liveness) : "");
	printf("backend     shared\n");
	printf("registered  %s\n", tool_time(row->agent.registered_ns, when));
	printf("generation  %" PRIu64 "\n", row->agent.generation);
	printf("metadata    %s\n", metadata ? metadata : "?");
	free(metadata);
	json_decref(j);
	return tool_finish(AGENTS_PROG, TOOL_FINE);
}

/* Only --check asks the kernel: a lookup finds the name of a dead owner until somebody has reaped that one. */
static int get(struct agents_session *s, const char *name)
{
	struct agents_row row = { .liveness = FND_LIVENESS_UNKNOWN };
	enum fnd_backend backend;
	struct fnd_participant p;
	int status, err = fnd_agent_lookup(s->rt, name, &row.agent, &backend);

	if (err == -ENOENT) {
		fprintf(stderr, AGENTS_PROG ": %s: no agent is called \"%s\"\n", s->name, name);
		return TOOL_FOUND;
	}
	if (err)
		return tool_fail(AGENTS_PROG, name, err);
	row.name_bytes = strlen(name); /* what lookup took is no longer than a name */
	memcpy(row.name, name, row.name_bytes + 1);
	p = (struct fnd_participant){ .pid = row.agent.owner.pid, .slot = row.agent.owner.slot,
				      .generation = row.agent.owner.generation };
	if (s->opt->check)
		row.liveness = fnd_participant_dead(s->seg, &p) ? FND_LIVENESS_DEAD : FND_LIVENESS_ALIVE;
	status = print_one(s, &row);
	if (!status && row.liveness == FND_LIVENESS_DEAD) {
		fprintf(stderr, AGENTS_PROG ": %s: the owner of %s is dead; who meets the name removes it\n", s->name,
			name);
		return TOOL_FOUND;
	}
	return status;
}

int agents_cmd_get(const struct agents_options *opt)
{
	struct agents_session s;
	int status = agents_attach(opt, false, &s);

	if (status)
		return status;
	status = get(&s, opt->word[1]);
	agents_detach(&s);
	return status;
}

/* --- find, query ---------------------------------------------------------------------------------- */

static int take(const char *name, const struct fnd_agent *a, void *arg)
{
	struct agents_list *l = arg;
	struct agents_row *row = agents_list_next(l);

	if (!row)
		return -ENOMEM;
	row->agent = *a;
	row->liveness = FND_LIVENESS_ALIVE; /* the kernel was asked */
	row->name_bytes = strlen(name);
	memcpy(row->name, name, row->name_bytes + 1);
	l->count++;
	return 0;
}

static int show(const struct agents_session *s, struct agents_list *l)
{
	int status = l->count ? TOOL_FINE : TOOL_FOUND;

	agents_list_sort(l);
	if (s->opt->look.json) {
		int printed = tool_print_json(AGENTS_PROG, json_pack("{s:s, s:s, s:s, s:o}", "schema",
								     "foundation.agents/1", "segment", s->name,
								     "backend", "shared", "agents",
								     agents_list_json(l)));

		return printed ? printed : status;
	}
	agents_list_print(l);
	if (l->count == 0)
		fprintf(stderr, AGENTS_PROG ": %s: no such agent\n", s->name);
	return tool_finish(AGENTS_PROG, status);
}

/* Appends to @text; what does not fit is left out, and the parser says what is missing. */
static void append(char *text, size_t room, const char *more)
{
	size_t used = strlen(text);

	snprintf(text + used, room - used, "%s", more);
}

static void append_quoted(char *text, size_t room, const char *word)
{
	char one[3];

	append(text, room, "\"");
	for (; *word; word++) {
		snprintf(one, sizeof(one), "%s%c", *word == '"' || *word == '\\' ? "\\" : "", *word);
		append(text, room, one);
	}
	append(text, room, "\"");
}

/* A number, a constant, or in quotes already: as it is. Anything else is a string, whatever it is made of. */
static bool plain_value(const char *value)
{
	size_t n = strlen(value);
	char *end;

	if (strcmp(value, "true") == 0 || strcmp(value, "false") == 0 || strcmp(value, "nil") == 0)
		return true;
	if (n >= 2 && (value[0] == '"' || value[0] == '\'') && value[n - 1] == value[0])
		return true;
	if (strspn(value, "0123456789+-.eE") != n || n == 0)
		return false;
	strtod(value, &end);
	return *end == '\0';
}

static int parse_find(const char *attribute, const char *value, struct fnd_query **ret)
{
	size_t room = 2 * (strlen(attribute) + strlen(value)) + 32;
	char *text = calloc(1, room);
	int err;

	if (!text)
		return -ENOMEM;
	append_quoted(text, room, attribute);
	append(text, room, " == ");
	if (plain_value(value))
		append(text, room, value);
	else
		append_quoted(text, room, value);
	err = fnd_query_parse(text, ret);
	free(text);
	return err;
}

/* Each word a criterion; or, when one alone is none, all words together one text. */
static int parse_query(const struct agents_options *opt, struct fnd_query **ret)
{
	const char *between = " and ";
	size_t room = 1;
	char *text;
	int err;

	for (unsigned int i = 1; i < opt->words; i++) {
		struct fnd_query *one = NULL;

		room += strlen(opt->word[i]) + 8;
		if (fnd_query_parse(opt->word[i], &one))
			between = " ";
		fnd_query_free(one);
	}
	text = calloc(1, room);
	if (!text)
		return -ENOMEM;
	for (unsigned int i = 1; i < opt->words; i++) {
		append(text, room, i > 1 ? between : "");
		append(text, room, opt->word[i]);
	}
	err = fnd_query_parse(text, ret);
	free(text);
	return err;
}

static int answer(const struct agents_options *opt, const struct fnd_query *q, bool find)
{
	struct agents_list l = { 0 };
	struct agents_session s;
	size_t n;
	const struct fnd_criterion *c = fnd_query_criteria(q, &n);
	int err, status = agents_attach(opt, false, &s);

	if (status)
		return status;
	if (find)
		err = fnd_agent_find(s.rt, c->attribute, c->values, take, &l);
	else
		err = fnd_agent_query(s.rt, c, n, take, &l);
	status = err ? tool_fail(AGENTS_PROG, s.name, err) : show(&s, &l);
	agents_detach(&s);
	free(l.row);
	return status;
}

int agents_cmd_find(const struct agents_options *opt)
{
	struct fnd_query *q;
	int err = parse_find(opt->word[1], opt->word[2], &q);

	if (err)
		return tool_fail(AGENTS_PROG, "find", err);
	err = answer(opt, q, true);
	fnd_query_free(q);
	return err;
}

int agents_cmd_query(const struct agents_options *opt)
{
	struct fnd_query *q;
	int err = parse_query(opt, &q);

	if (err)
		return tool_fail(AGENTS_PROG, "query", err);
	err = answer(opt, q, false);
	fnd_query_free(q);
	return err;
}
