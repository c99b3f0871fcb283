// SPDX-License-Identifier: MIT
/* foundation context: what threads are doing, and what the dead were doing. Looks from outside. */
#include "foundation.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <foundation/context.h>

#define PROG "foundation context"

enum { KEY_TID = 'T' };

struct options {
	struct look_options look;
	const char *word[2];
	unsigned int words;
	uint32_t tid; /* 0: any */
};

struct participant {
	uint32_t slot, generation, liveness;
	char comm[17];
};

/* One context, alive or dead. */
struct row {
	uint32_t pid, tid, slot, generation;
	uint32_t liveness;
	uint64_t found_ns; /* when its death was found, 0: it is in its slot */
	char comm[17];
	struct fnd_context_view view;
};

struct listing {
	const struct options *opt;
	struct fnd_observer *observer;
	struct participant *participant;
	size_t participants;
	struct row *row;
	size_t rows, room;
	uint32_t pid;	 /* 0: all */
	uint64_t busy;	 /* threads whose context changes too fast */
	uint64_t damaged;
	uint64_t older; /* contexts of the dead that were written over */
	int err;
};

static const struct argp_option options[] = {
	LOOK_OPTION_SEGMENT,
	LOOK_OPTION_JSON,
	{ "thread", KEY_TID, "TID", 0, "show: this thread alone", 0 },
	{ 0 },
};

static error_t parse(int key, char *arg, struct argp_state *state)
{
	struct options *opt = state->input;
	uint64_t n;

	switch (key) {
	case KEY_TID:
		if (!tool_number(arg, UINT32_MAX, &n) || n == 0)
			argp_error(state, "'%s' is no thread", arg);
		opt->tid = (uint32_t)n;
		return 0;
	case ARGP_KEY_ARG:
		if (opt->words == 2)
			argp_error(state, "too many words");
		opt->word[opt->words++] = arg;
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
	options, parse, "[list]\nshow PID",
	"Show the error contexts of threads: of the living as they are now, of the last 64 that died as they were."
	"\vExit status 1: no context of that process is known.", NULL, NULL, NULL
};

/* --- collecting ------------------------------------------------------------------------------------ */

static struct row *row_new(struct listing *l)
{
	if (l->rows == l->room) {
		size_t room = l->room ? 2 * l->room : 32;
		struct row *row = realloc(l->row, room * sizeof(*row));

		if (!row) {
			l->err = -ENOMEM;
			return NULL;
		}
		l->row = row;
		l->room = room;
	}
	memset(&l->row[l->rows], 0, sizeof(*l->row));
	return &l->row[l->rows++];
}

static int take_participant(const struct fnd_observed_participant *p, void *arg)
{
	struct listing *l = arg;
	struct participant *more = realloc(l->participant, (l->participants + 1) * sizeof(*more));

	if (!more)
		return -ENOMEM;
	l->participant = more;
	more += l->participants++;
	*more = (struct participant){ .slot = p->slot, .generation = p->generation, .liveness = p->liveness };
	snprintf(more->comm, sizeof(more->comm), "%s", p->comm);
	return 0;
}

static const struct participant *participant_of(const struct listing *l, const struct fnd_observed_thread *t)
{
	for (size_t i = 0; i < l->participants; i++)
		if (l->participant[i].slot == t->process && l->participant[i].generation == t->process_generation)
			return &l->participant[i];
	return NULL;
}

static bool wanted(const struct listing *l, uint32_t pid, uint32_t tid)
{
	return (l->pid == 0 || pid == l->pid) && (l->opt->tid == 0 || tid == l->opt->tid);
}

static int take_thread(const struct fnd_observed_thread *t, void *arg)
{
	struct listing *l = arg;
	const struct participant *p = participant_of(l, t);
	struct fnd_context_view view;
	struct row *row;
	int err;

	if (!p || !wanted(l, t->pid, t->tid))
		return 0;
	err = fnd_context_observe(l->observer, t->slot, &view);
	if (err == -ENOENT)
		return 0;
	l->busy += err == -EAGAIN;
	l->damaged += err == -FND_E_CORRUPT;
	if (err == -EAGAIN || err == -FND_E_CORRUPT)
		return 0;
	if (err)
		return err;
	row = row_new(l);
	if (!row)
		return l->err;
	row->pid = t->pid;
	row->tid = t->tid;
	row->slot = p->slot;
	row->generation = p->generation;
	row->liveness = p->liveness;
	memcpy(row->comm, p->comm, sizeof(row->comm));
	row->view = view;
	return 0;
}

static int take_remains(const struct fnd_remains *r, void *arg)
{
	struct listing *l = arg;
	struct fnd_context_view view;
	struct row *row;

	if (!wanted(l, r->pid, r->tid))
		return 0;
	for (size_t i = 0; i < l->rows; i++) { /* a reaper that died may have left them twice */
		row = &l->row[i];
		if (row->pid == r->pid && row->tid == r->tid && row->slot == r->slot &&
		    row->generation == r->generation)
			return 0;
	}
	if (fnd_context_decode_area(r->area, sizeof(r->area), &view)) {
		l->damaged++;
		return 0;
	}
	row = row_new(l);
	if (!row)
		return l->err;
	row->pid = r->pid;
	row->tid = r->tid;
	row->slot = r->slot;
	row->generation = r->generation;
	row->liveness = FND_LIVENESS_DEAD;
	row->found_ns = r->found_ns;
	memcpy(row->comm, r->comm, sizeof(row->comm));
	row->view = view;
	return 0;
}

static int collect(struct listing *l)
{
	int err = fnd_observer_participants(l->observer, take_participant, l);

	if (!err)
		err = fnd_observer_threads(l->observer, take_thread, l);
	if (!err)
		err = fnd_observer_remains(l->observer, take_remains, l, &l->older);
	return err;
}

/* --- showing --------------------------------------------------------------------------------------- */

static const char *state_of(const struct row *row)
{
	return look_liveness(row->liveness);
}

static void print_value(const struct fnd_value *v)
{
	char text[FND_CONTEXT_BYTES + 1], safe[FND_CONTEXT_BYTES + 1];
	size_t n = v->bytes < FND_CONTEXT_BYTES ? v->bytes : FND_CONTEXT_BYTES;

	switch (v->type) {
	case FND_VALUE_NIL:
		printf("null");
		break;
	case FND_VALUE_BOOL:
		printf("%s", v->v.u ? "true" : "false");
		break;
	case FND_VALUE_INT:
		printf("%lld", (long long)v->v.i);
		break;
	case FND_VALUE_UINT:
		printf("%llu", (unsigned long long)v->v.u);
		break;
	case FND_VALUE_DOUBLE:
		printf("%.17g", v->v.d);
		break;
	case FND_VALUE_STR:
		memcpy(text, v->v.text, n);
		text[n] = 0;
		printf("%s", tool_printable(text, safe, sizeof(safe)));
		break;
	default:
		printf("(%u bytes)", v->bytes);
	}
}

static void print_key(const struct fnd_field *f)
{
	char text[256], safe[256];
	size_t n = f->key_bytes < sizeof(text) ? f->key_bytes : sizeof(text) - 1;

	memcpy(text, f->key, n);
	text[n] = 0;
	printf("%s", tool_printable(text, safe, sizeof(safe)));
}

static int print_short(const struct fnd_field *f, void *arg)
{
	(void)arg;
	putchar(' ');
	print_key(f);
	putchar('=');
	print_value(&f->value);
	return 0;
}

static int print_line(const struct fnd_field *f, void *arg)
{
	(void)arg;
	printf("  ");
	print_key(f);
	printf(": ");
	print_value(&f->value);
	putchar('\n');
	return 0;
}

static void print_list(const struct listing *l)
{
	char comm[17];

	if (l->rows)
		printf("%-8s %-8s %-16s %-8s %5s  %s\n", "PID", "THREAD", "COMMAND", "STATE", "DEPTH", "CONTEXT");
	for (size_t i = 0; i < l->rows; i++) {
		const struct row *row = &l->row[i];

		printf("%-8u %-8u %-16s %-8s %5u ", row->pid, row->tid,
		       tool_printable(row->comm, comm, sizeof(comm)), state_of(row), row->view.depth);
		fnd_map_iterate(row->view.map, row->view.map_bytes, print_short, NULL);
		putchar('\n');
	}
}

static void print_row(const struct row *row)
{
	char comm[17], time[32], text[FND_CRUMB_TEXT_MAX + 1];

	printf("pid %u, thread %u, %s: %s", row->pid, row->tid, tool_printable(row->comm, comm, sizeof(comm)),
	       state_of(row));
	if (row->found_ns)
		printf(", found dead at %s", tool_time(row->found_ns, time));
	printf("\n  (%u scopes, %u fields)\n", row->view.depth, row->view.fields);
	fnd_map_iterate(row->view.map, row->view.map_bytes, print_line, NULL);
	if (row->view.crumbs)
		printf("breadcrumbs, %llu in all:\n", (unsigned long long)row->view.crumbs_total);
	for (uint32_t i = 0; i < row->view.crumbs; i++)
		printf("  %s  %s\n", tool_time(row->view.crumb[i].at_ns, time),
		       tool_printable(row->view.crumb[i].text, text, sizeof(text)));
}

static json_t *row_json(const struct row *row)
{
	json_t *crumbs = json_array(), *map = tool_json_msgpack(row->view.map, row->view.map_bytes);
	char time[32];

	for (uint32_t i = 0; i < row->view.crumbs; i++)
		json_array_append_new(crumbs, json_pack("{s:s, s:o}", "at", tool_time(row->view.crumb[i].at_ns, time),
							"text", tool_json_text(row->view.crumb[i].text,
									       strlen(row->view.crumb[i].text))));
	return json_pack("{s:I, s:I, s:o, s:o, s:o, s:I, s:o, s:o, s:I, s:I}", "pid", (json_int_t)row->pid, "thread",
			 (json_int_t)row->tid, "command", tool_json_text(row->comm, strlen(row->comm)), "alive",
			 look_liveness_json(row->liveness), "found_dead",
			 row->found_ns ? json_string(tool_time(row->found_ns, time)) : json_null(), "depth",
			 (json_int_t)row->view.depth, "context", map ? map : json_null(), "breadcrumbs", crumbs,
			 "breadcrumbs_total", (json_int_t)row->view.crumbs_total, "dropped",
			 (json_int_t)row->view.dropped);
}

static int print_json(const struct listing *l, const char *name)
{
	json_t *rows = json_array();

	for (size_t i = 0; i < l->rows; i++)
		json_array_append_new(rows, row_json(&l->row[i]));
	return tool_print_json(PROG, json_pack("{s:s, s:s, s:o, s:I, s:I, s:I}", "schema", "foundation.context/1",
						"segment", name, "contexts", rows, "written_over",
						(json_int_t)l->older, "changing", (json_int_t)l->busy, "damaged",
						(json_int_t)l->damaged));
}

static int show(struct listing *l, const char *name, bool one)
{
	int status = one && l->rows == 0 ? TOOL_FOUND : TOOL_FINE;

	if (l->opt->look.json) {
		int err = print_json(l, name);

		return err ? err : status;
	}
	if (one)
		for (size_t i = 0; i < l->rows; i++)
			print_row(&l->row[i]);
	else
		print_list(l);
	if (l->rows == 0)
		fprintf(stderr, "%s: %s: no contexts%s\n", PROG, name, one ? " of this process" : "");
	if (l->busy)
		fprintf(stderr, "%s: %llu contexts change faster than they can be read\n", PROG,
			(unsigned long long)l->busy);
	if (l->damaged)
		fprintf(stderr, "%s: %llu contexts are damaged\n", PROG, (unsigned long long)l->damaged);
	return tool_finish(PROG, l->damaged ? TOOL_CORRUPT : status);
}

/* The words: [list], or show PID. */
static int read_words(const struct options *opt, uint32_t *ret_pid)
{
	const char *verb = opt->words ? opt->word[0] : "list";
	uint64_t n;

	*ret_pid = 0;
	if (strcmp(verb, "list") == 0 && opt->words <= 1 && opt->tid == 0)
		return 0;
	if (strcmp(verb, "show") != 0)
		return tool_usage(PROG, "list, or show PID [--thread TID]");
	if (opt->words != 2 || !tool_number(opt->word[1], UINT32_MAX, &n) || n == 0)
		return tool_usage(PROG, "show wants the PID of a process");
	*ret_pid = (uint32_t)n;
	return 0;
}

int cmd_context(int argc, char **argv)
{
	struct options opt = { .words = 0 };
	struct listing l = { .opt = &opt };
	const char *name;
	int err = tool_parse(&argp, PROG, argc, argv, &opt);

	if (!err)
		err = read_words(&opt, &l.pid);
	if (!err)
		err = look_open(PROG, &opt.look, &name, &l.observer);
	if (err)
		return err;
	err = collect(&l);
	err = err ? tool_fail(PROG, name, err) : show(&l, name, l.pid != 0);
	fnd_observer_close(l.observer);
	free(l.participant);
	free(l.row);
	return err;
}
