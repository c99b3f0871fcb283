// SPDX-License-Identifier: MIT
/* foundation ls: which segments there are. */
#include "foundation.h"

#include <inttypes.h>
#include <stdio.h>

#define PROG "foundation ls"

static const struct argp_option options[] = { LOOK_OPTION_JSON, { 0 } };

static const struct argp argp = {
	options, look_parse, NULL,
	"List the segments under /dev/shm that this user can see.\v"
	"Another user's segment is listed as UID/NAME.", NULL, NULL, NULL
};

struct listing {
	json_t *segments; /* NULL: print for people */
	unsigned int count;
};

/* What can be said of a segment that may be looked at; false: it may not, after all. */
static bool look(const char *name, struct fnd_segment_status *ret_status, int *ret_err)
{
	struct fnd_observer *o;
	int err = fnd_observer_open(name, &o);

	if (!err) {
		err = fnd_observer_status(o, ret_status);
		fnd_observer_close(o);
	}
	*ret_err = err;
	return !err;
}

static void list_json(struct listing *l, const struct fnd_segment_entry *e,
		      const struct fnd_segment_status *s, int status)
{
	char created[32];
	json_t *j = json_pack("{s:s, s:I, s:I, s:s, s:i}", "name", e->name, "uid", (json_int_t)e->uid,
			      "bytes", (json_int_t)e->bytes, "state", fnd_strerror(status), "error",
			      status < 0 ? -status : status);

	if (s) {
		json_object_set_new(j, "max_bytes", json_integer((json_int_t)s->max_bytes));
		json_object_set_new(j, "participants_live", json_integer(s->participants_live));
		json_object_set_new(j, "participants_dead", json_integer(s->participants_dead));
		json_object_set_new(j, "participants_unknown", json_integer(s->participants_unknown));
		json_object_set_new(j, "tables", json_integer(s->tables));
		json_object_set_new(j, "created_ns", json_integer((json_int_t)s->created_ns));
		json_object_set_new(j, "created_at", json_string(tool_time(s->created_ns, created)));
	}
	json_array_append_new(l->segments, j);
}

static void list_text(struct listing *l, const struct fnd_segment_entry *e,
		      const struct fnd_segment_status *s, int status)
{
	char created[32] = "-";
	char people[32] = "-";
	char bytes[24];

	if (s) {
		tool_time(s->created_ns, created);
		snprintf(people, sizeof(people), "%" PRIu32, s->participants_live + s->participants_unknown);
	}
	if (l->count == 0)
		printf("%-24s %12s %12s  %-24s  %s\n", "NAME", "BACKED", "PARTICIPANTS", "CREATED", "STATE");
	printf("%-24s %12s %12s  %-24s  %s\n", e->name, tool_bytes(e->bytes, bytes), people, created,
	       fnd_strerror(status));
}

static int list_one(const struct fnd_segment_entry *e, void *arg)
{
	struct listing *l = arg;
	struct fnd_segment_status s;
	int status = e->status;
	bool known = status == 0 && look(e->name, &s, &status);

	if (l->segments)
		list_json(l, e, known ? &s : NULL, status);
	else
		list_text(l, e, known ? &s : NULL, status);
	l->count++;
	return 0;
}

int cmd_ls(int argc, char **argv)
{
	struct look_options opt = { 0 };
	struct listing l = { 0 };
	int err = tool_parse(&argp, PROG, argc, argv, &opt);

	if (err)
		return err;
	if (opt.json)
		l.segments = json_array();
	err = fnd_segment_list(list_one, &l);
	if (err) {
		json_decref(l.segments);
		return tool_fail(PROG, "/dev/shm", err);
	}
	if (opt.json)
		return tool_print_json(PROG, json_pack("{s:s, s:o}", "schema", "foundation.ls/1", "segments",
						       l.segments));
	if (l.count == 0)
		fprintf(stderr, "%s: no segments\n", PROG);
	return tool_finish(PROG, TOOL_FINE);
}
