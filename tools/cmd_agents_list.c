// SPDX-License-Identifier: MIT
/* foundation agents list: every name, by looking alone; asks the kernel who is alive. */
#include "cmd_agents.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The bytes of a record of the registry: a fixed part, then the metadata. */
struct stored_agent {
	struct fnd_owner owner; /* its last word is not 0 while the name is leaving */
	uint64_t registered_ns;
	uint64_t generation;
	uint32_t metadata_bytes;
	uint32_t reserved;
};
_Static_assert(sizeof(struct stored_agent) == 40, "as the registry writes it");

struct owner_state {
	uint32_t generation;
	uint32_t liveness; /* of the slot's owner; DEAD where there is none */
};

struct listing {
	struct agents_list names;
	size_t damaged;
	struct owner_state *owner; /* by slot */
	uint32_t slots;
	uint32_t dead;	 /* names of the dead */
	uint32_t nobody; /* names that were restored and have no owner yet */
};

static int note_owner(const struct fnd_observed_participant *p, void *arg)
{
	struct listing *l = arg;

	if (p->slot < l->slots) {
		l->owner[p->slot].generation = p->generation;
		l->owner[p->slot].liveness = p->liveness;
	}
	return 0;
}

static uint32_t liveness_of(const struct listing *l, const struct fnd_owner *owner)
{
	if (owner->slot == 0 || owner->slot >= l->slots ||
	    l->owner[owner->slot].generation != owner->generation)
		return FND_LIVENESS_DEAD; /* that participant has left, or was reaped */
	return l->owner[owner->slot].liveness;
}

static int note_agent(const struct fnd_record *r, void *arg)
{
	struct listing *l = arg;
	struct agents_row *row = agents_list_next(&l->names);
	struct stored_agent f;

	if (!row)
		return -ENOMEM;
	if (r->value_bytes < sizeof(f) || r->key_bytes > FND_AGENT_NAME_MAX) {
		l->damaged++;
		return 0;
	}
	memcpy(&f, r->value, sizeof(f));
	if (f.metadata_bytes > FND_METADATA_MAX || f.metadata_bytes != r->value_bytes - sizeof(f)) {
		l->damaged++;
		return 0;
	}
	if (f.owner.reserved) /* no lookup finds it any more */
		return 0;
	memset(row, 0, sizeof(*row));
	row->agent.owner = f.owner;
	row->agent.registered_ns = f.registered_ns;
	row->agent.generation = f.generation;
	row->agent.metadata_bytes = f.metadata_bytes;
	memcpy(row->agent.metadata, (const char *)r->value + sizeof(f), f.metadata_bytes);
	memcpy(row->name, r->key, r->key_bytes);
	row->name_bytes = r->key_bytes;
	l->names.count++;
	return 0;
}

/* Finds out who is alive, and drops what is not asked for. */
static void judge(struct listing *l, const struct agents_options *opt)
{
	size_t kept = 0;

	for (size_t i = 0; i < l->names.count; i++) {
		struct agents_row *row = &l->names.row[i];
		bool orphan;

		row->liveness = liveness_of(l, &row->agent.owner);
		orphan = row->liveness == FND_LIVENESS_DEAD;
		l->nobody += row->agent.owner.slot == 0;
		l->dead += orphan && row->agent.owner.slot != 0;
		if (opt->orphans ? orphan : opt->look.all || !orphan)
			l->names.row[kept++] = *row;
	}
	l->names.count = kept;
}

/* Names first, then participants: the owner of a name that was read was there before it. */
static int read_names(struct fnd_observer *o, const struct agents_options *opt, struct listing *l)
{
	struct fnd_segment_status s;
	int err = fnd_observer_status(o, &s);
	int read;

	if (err)
		return err;
	l->slots = s.process_slots + 1;
	l->owner = calloc(l->slots, sizeof(*l->owner));
	if (!l->owner)
		return -ENOMEM;
	for (uint32_t i = 0; i < l->slots; i++)
		l->owner[i].liveness = FND_LIVENESS_DEAD;
	read = fnd_observer_records(o, FND_REGISTRY_TABLE, note_agent, l);
	if (read == -ENOENT) /* no registry: no names */
		read = 0;
	err = fnd_observer_participants(o, note_owner, l);
	judge(l, opt);
	agents_list_sort(&l->names);
	return err ? err : read;
}

static int show(const struct agents_options *opt, const char *segment, const struct listing *l)
{
	if (opt->look.json)
		return tool_print_json(AGENTS_PROG,
				       json_pack("{s:s, s:s, s:s, s:I, s:I, s:o}", "schema", "foundation.agents/1",
						 "segment", segment, "backend", "shared", "dead",
						 (json_int_t)l->dead, "orphans", (json_int_t)l->dead + l->nobody,
						 "agents", agents_list_json(&l->names)));
	agents_list_print(&l->names);
	if (l->names.count == 0)
		fprintf(stderr, AGENTS_PROG ": no names%s\n", opt->orphans ? " without a living owner" : "");
	if (!opt->look.all && !opt->orphans && (l->dead || l->nobody))
		fprintf(stderr, AGENTS_PROG ": %" PRIu32 " names of dead owners and %" PRIu32
			" of nobody not listed: --all, or --orphans\n", l->dead, l->nobody);
	return TOOL_FINE;
}

int agents_cmd_list(const struct agents_options *opt)
{
	struct listing l = { 0 };
	struct fnd_observer *o;
	const char *name;
	int status = TOOL_FINE;
	int err = look_open(AGENTS_PROG, &opt->look, &name, &o);

	if (err)
		return err;
	err = read_names(o, opt, &l);
	fnd_observer_close(o);
	if (err) {
		status = tool_fail(AGENTS_PROG, name, err);
	} else if (l.damaged) {
		fprintf(stderr, AGENTS_PROG ": %s: %zu records are not what a registry writes\n", name, l.damaged);
		status = TOOL_CORRUPT;
	} else if (opt->orphans && l.names.count) {
		status = TOOL_FOUND;
	}
	/* after damage: what could be read is worth printing */
	if (!err || status == TOOL_CORRUPT) {
		int printed = show(opt, name, &l);

		status = tool_finish(AGENTS_PROG, status ? status : printed);
	}
	free(l.owner);
	free(l.names.row);
	return status;
}
