// SPDX-License-Identifier: MIT
/* foundation agents: the names in a segment's registry. Looks only; asks the kernel who is alive. */
#include "foundation.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <foundation/registry.h>

#define PROG "foundation agents"

static const struct argp_option options[] = {
	LOOK_OPTION_SEGMENT,
	{ "all", LOOK_KEY_ALL, NULL, 0, "Also names whose owner is dead, and orphans", 0 },
	LOOK_OPTION_JSON,
	{ 0 }
};

static const struct argp argp = {
	options, look_parse, NULL,
	"List the registered names of a segment, their owners and their metadata.\v"
	"A name whose owner is dead is not listed: the next who is in its way removes it. The state is unknown "
	"when the owners live in another pid namespace.", NULL, NULL, NULL
};

/* The bytes of a record of the registry: a fixed part, then the metadata. */
struct stored_agent {
	struct fnd_owner owner;
	uint64_t registered_ns;
	uint64_t generation;
	uint32_t metadata_bytes;
	uint32_t reserved;
};
_Static_assert(sizeof(struct stored_agent) == 40, "as the registry writes it");

struct agent {
	struct stored_agent fixed;
	uint32_t liveness;
	size_t name_bytes;
	unsigned char metadata[FND_METADATA_MAX];
	char name[FND_AGENT_NAME_MAX + 1];
};

struct owner_state {
	uint32_t generation;
	uint32_t liveness; /* of the slot's owner; DEAD where there is none */
};

struct agents {
	struct agent *list;
	size_t count;
	size_t room;
	size_t damaged;
	struct owner_state *owner; /* by slot */
	uint32_t slots;
	uint32_t dead;
	uint32_t orphans;
	bool all;
};

static int note_owner(const struct fnd_observed_participant *p, void *arg)
{
	struct agents *a = arg;

	if (p->slot < a->slots) {
		a->owner[p->slot].generation = p->generation;
		a->owner[p->slot].liveness = p->liveness;
	}
	return 0;
}

static uint32_t liveness_of(const struct agents *a, const struct fnd_owner *owner)
{
	if (owner->slot == 0 || owner->slot >= a->slots ||
	    a->owner[owner->slot].generation != owner->generation)
		return FND_LIVENESS_DEAD; /* that participant has left, or was reaped */
	return a->owner[owner->slot].liveness;
}

static struct agent *next_agent(struct agents *a)
{
	if (a->count == a->room) {
		size_t room = a->room ? a->room * 2 : 64;
		struct agent *more = reallocarray(a->list, room, sizeof(*more));

		if (!more)
			return NULL;
		a->list = more;
		a->room = room;
	}
	return &a->list[a->count];
}

static int note_agent(const struct fnd_record *r, void *arg)
{
	struct agents *a = arg;
	struct agent *agent = next_agent(a);
	struct stored_agent *f;

	if (!agent)
		return -ENOMEM;
	f = &agent->fixed;
	if (r->value_bytes < sizeof(*f) || r->key_bytes > FND_AGENT_NAME_MAX) {
		a->damaged++;
		return 0;
	}
	memcpy(f, r->value, sizeof(*f));
	if (f->metadata_bytes > FND_METADATA_MAX || f->metadata_bytes > r->value_bytes - sizeof(*f)) {
		a->damaged++;
		return 0;
	}
	memcpy(agent->metadata, (const char *)r->value + sizeof(*f), f->metadata_bytes);
	memcpy(agent->name, r->key, r->key_bytes);
	agent->name[r->key_bytes] = '\0';
	agent->name_bytes = r->key_bytes;
	a->count++;
	return 0;
}

/* Finds out who is alive, and drops the names of the others unless all are wanted. */
static void judge_agents(struct agents *a)
{
	size_t kept = 0;

	for (size_t i = 0; i < a->count; i++) {
		struct agent *agent = &a->list[i];

		agent->liveness = liveness_of(a, &agent->fixed.owner);
		if (agent->fixed.owner.slot == 0)
			a->orphans++;
		else if (agent->liveness == FND_LIVENESS_DEAD)
			a->dead++;
		if (a->all || agent->liveness != FND_LIVENESS_DEAD)
			a->list[kept++] = *agent;
	}
	a->count = kept;
}

static int by_name(const void *x, const void *y)
{
	const struct agent *a = x;
	const struct agent *b = y;

	return strcmp(a->name, b->name);
}

/* Names first, then participants: the owner of a name that was read was there before it. */
static int read_agents(struct fnd_observer *o, struct agents *a)
{
	struct fnd_segment_status s;
	int err = fnd_observer_status(o, &s);
	int read;

	if (err)
		return err;
	a->slots = s.process_slots + 1;
	a->owner = calloc(a->slots, sizeof(*a->owner));
	if (!a->owner)
		return -ENOMEM;
	for (uint32_t i = 0; i < a->slots; i++)
		a->owner[i].liveness = FND_LIVENESS_DEAD;
	read = fnd_observer_records(o, FND_REGISTRY_TABLE, note_agent, a);
	if (read == -ENOENT) /* no registry: no names */
		read = 0;
	err = fnd_observer_participants(o, note_owner, a);
	judge_agents(a);
	if (a->count)
		qsort(a->list, a->count, sizeof(*a->list), by_name);
	return err ? err : read;
}

static json_t *metadata_json(const struct agent *agent)
{
	json_t *j;

	if (fnd_metadata_check(agent->metadata, agent->fixed.metadata_bytes))
		return json_null(); /* damaged */
	if (agent->fixed.metadata_bytes == 0)
		return json_object(); /* how the registry keeps the empty map */
	j = tool_json_msgpack(agent->metadata, agent->fixed.metadata_bytes);
	return j ? j : json_null();
}

static json_t *agent_json(const struct agent *agent)
{
	const struct stored_agent *f = &agent->fixed;
	char when[32];

	return json_pack("{s:o, s:I, s:{s:I, s:I}, s:o, s:b, s:s, s:I, s:I, s:o}",
			 "name", tool_json_text(agent->name, agent->name_bytes),
			 "pid", (json_int_t)f->owner.pid,
			 "owner", "slot", (json_int_t)f->owner.slot,
			 "generation", (json_int_t)f->owner.generation,
			 "alive", look_liveness_json(agent->liveness),
			 "orphan", f->owner.slot == 0,
			 "registered_at", tool_time(f->registered_ns, when),
			 "registered_ns", (json_int_t)f->registered_ns,
			 "generation", (json_int_t)f->generation,
			 "metadata", metadata_json(agent));
}

static int print_json(const char *segment, const struct agents *a)
{
	json_t *list = json_array();

	for (size_t i = 0; i < a->count; i++)
		json_array_append_new(list, agent_json(&a->list[i]));
	return tool_print_json(PROG, json_pack("{s:s, s:s, s:I, s:I, s:o}", "schema", "foundation.agents/1",
					       "segment", segment, "dead", (json_int_t)a->dead, "orphans",
					       (json_int_t)a->orphans, "agents", list));
}

static void print_text(const struct agents *a)
{
	int width = 4;

	for (size_t i = 0; i < a->count; i++)
		if ((int)a->list[i].name_bytes > width)
			width = (int)a->list[i].name_bytes;
	if (width > 48)
		width = 48;
	if (a->count)
		printf("%-*s %8s  %-7s  %-24s  %s\n", width, "NAME", "PID", "OWNER", "REGISTERED", "METADATA");
	for (size_t i = 0; i < a->count; i++) {
		const struct agent *agent = &a->list[i];
		json_t *j = metadata_json(agent);
		char *metadata = json_dumps(j, JSON_COMPACT | JSON_ENCODE_ANY | JSON_ENSURE_ASCII);
		char name[FND_AGENT_NAME_MAX + 1];
		char when[32];

		printf("%-*s %8" PRIu32 "  %-7s  %-24s  %s\n", width,
		       tool_printable(agent->name, name, sizeof(name)), agent->fixed.owner.pid,
		       agent->fixed.owner.slot ? look_liveness(agent->liveness) : "orphan",
		       tool_time(agent->fixed.registered_ns, when), metadata ? metadata : "?");
		free(metadata);
		json_decref(j);
	}
	fflush(stdout);
	if (a->count == 0)
		fprintf(stderr, "%s: no names\n", PROG);
	if (!a->all && (a->dead || a->orphans))
		fprintf(stderr, "%s: %" PRIu32 " names of dead owners and %" PRIu32
			" orphans not listed: --all\n", PROG, a->dead, a->orphans);
}

int cmd_agents(int argc, char **argv)
{
	struct look_options opt = { 0 };
	struct agents a = { 0 };
	struct fnd_observer *o;
	const char *name;
	int status;
	int err = tool_parse(&argp, PROG, argc, argv, &opt);

	if (!err)
		err = look_open(PROG, &opt, &name, &o);
	if (err)
		return err;
	a.all = opt.all;
	err = read_agents(o, &a);
	fnd_observer_close(o);
	status = TOOL_FINE;
	if (err)
		status = tool_fail(PROG, name, err);
	else if (a.damaged) {
		fprintf(stderr, "%s: %s: %zu records are not what a registry writes\n", PROG, name, a.damaged);
		status = TOOL_CORRUPT;
	}
	/* after damage: what could be read is worth printing */
	if (status == TOOL_FINE || status == TOOL_CORRUPT) {
		int printed = TOOL_FINE;

		if (opt.json)
			printed = print_json(name, &a);
		else
			print_text(&a);
		status = tool_finish(PROG, status ? status : printed);
	}
	free(a.owner);
	free(a.list);
	return status;
}
