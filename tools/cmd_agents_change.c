// SPDX-License-Identifier: MIT
/* foundation agents register, unregister: names of other processes, which outlive this one. */
#include "cmd_agents.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <msgpack.h>

#define DEPTH_MAX 32u

/* --- metadata from JSON --------------------------------------------------------------------------- */

static bool pack(msgpack_packer *p, const json_t *j, unsigned int depth);

static void pack_text(msgpack_packer *p, const char *text, size_t n)
{
	msgpack_pack_str(p, n);
	msgpack_pack_str_body(p, text, n);
}

static bool pack_object(msgpack_packer *p, json_t *j, unsigned int depth)
{
	const char *key;
	json_t *value;

	msgpack_pack_map(p, json_object_size(j));
	json_object_foreach(j, key, value) {
		pack_text(p, key, strlen(key));
		if (!pack(p, value, depth + 1))
			return false;
	}
	return true;
}

static bool pack_array(msgpack_packer *p, const json_t *j, unsigned int depth)
{
	json_t *value;
	size_t i;

	msgpack_pack_array(p, json_array_size(j));
	json_array_foreach(j, i, value)
		if (!pack(p, value, depth + 1))
			return false;
	return true;
}

static bool pack(msgpack_packer *p, const json_t *j, unsigned int depth)
{
	if (depth > DEPTH_MAX)
		return false;
	switch (json_typeof(j)) {
	case JSON_OBJECT:
		return pack_object(p, (json_t *)(uintptr_t)j, depth);
	case JSON_ARRAY:
		return pack_array(p, j, depth);
	case JSON_STRING:
		pack_text(p, json_string_value(j), json_string_length(j));
		return true;
	case JSON_INTEGER:
		msgpack_pack_int64(p, json_integer_value(j));
		return true;
	case JSON_REAL:
		msgpack_pack_double(p, json_real_value(j));
		return true;
	case JSON_TRUE:
		msgpack_pack_true(p);
		return true;
	case JSON_FALSE:
		msgpack_pack_false(p);
		return true;
	default:
		msgpack_pack_nil(p);
		return true;
	}
}

/* 0, or an exit status after a message. */
static int metadata_parse(const char *text, msgpack_sbuffer *buf)
{
	json_error_t wrong;
	json_t *j = json_loads(text, JSON_REJECT_DUPLICATES, &wrong);
	msgpack_packer p;
	bool packed;

	if (!j)
		return tool_usage(AGENTS_PROG, "--metadata: %s, at byte %d", wrong.text, wrong.position);
	if (!json_is_object(j)) {
		json_decref(j);
		return tool_usage(AGENTS_PROG, "--metadata: not a JSON object");
	}
	msgpack_packer_init(&p, buf, msgpack_sbuffer_write);
	packed = pack(&p, j, 0);
	json_decref(j);
	if (!packed)
		return tool_usage(AGENTS_PROG, "--metadata: nested deeper than %u", DEPTH_MAX);
	if (buf->size > FND_METADATA_MAX)
		return tool_usage(AGENTS_PROG, "--metadata: %zu bytes as msgpack, at most %d", buf->size,
				  FND_METADATA_MAX);
	return 0;
}

/* --- register ------------------------------------------------------------------------------------- */

/* Workers that ask their own tables alone do not see what was published. */
static void warn_of_stage(const struct agents_session *s)
{
	const struct fnd_flags *f = fnd_runtime_flags(s->rt);
	struct fnd_flags_view v;

	fnd_flags_view(f, &v);
	if (!v.percent[FND_FLAG_SHARED_REGISTRY] && !v.percent[FND_FLAG_MIGRATION_MONITORING])
		fprintf(stderr, AGENTS_PROG ": %s: shared_registry and migration_monitoring are off: workers with "
			"private registries do not ask the shared one now\n", s->name);
}

static int no_participant(const struct agents_session *s, uint32_t pid)
{
	if (kill((pid_t)pid, 0) != 0 && errno == ESRCH)
		fprintf(stderr, AGENTS_PROG ": %s: there is no process %" PRIu32 "\n", s->name, pid);
	else
		fprintf(stderr, AGENTS_PROG ": %s: process %" PRIu32 " is not attached to this segment\n", s->name,
			pid);
	return TOOL_CANNOT;
}

static int registered(struct agents_session *s, const char *name)
{
	struct agents_row row = { .liveness = FND_LIVENESS_ALIVE, .name_bytes = strlen(name) };
	json_t *j;

	warn_of_stage(s);
	if (!s->opt->look.json)
		return TOOL_FINE;
	memcpy(row.name, name, row.name_bytes + 1);
	if (fnd_agent_lookup(s->rt, name, &row.agent, NULL))
		row.liveness = FND_LIVENESS_DEAD; /* gone again already */
	j = agents_row_json(&row);
	json_object_update_new(j, json_pack("{s:s, s:s}", "schema", "foundation.agent/1", "segment", s->name));
	return tool_print_json(AGENTS_PROG, j);
}

int agents_cmd_register(const struct agents_options *opt)
{
	const char *name = opt->word[1];
	struct agents_session s;
	msgpack_sbuffer metadata;
	int err, status;

	if (!opt->pid)
		return tool_usage(AGENTS_PROG, "register wants --pid: a name of this command's own would go with it");
	msgpack_sbuffer_init(&metadata);
	status = opt->metadata ? metadata_parse(opt->metadata, &metadata) : 0;
	if (!status)
		status = agents_attach(opt, true, &s);
	if (status) {
		msgpack_sbuffer_destroy(&metadata);
		return status;
	}
	err = fnd_agent_register(s.rt, name, opt->pid, metadata.data, metadata.size,
				 opt->take ? FND_REGISTER_TAKE : 0);
	if (err == -ESRCH)
		status = no_participant(&s, opt->pid);
	else
		status = err ? tool_fail(AGENTS_PROG, name, err) : registered(&s, name);
	agents_detach(&s);
	msgpack_sbuffer_destroy(&metadata);
	return status;
}

/* --- unregister ----------------------------------------------------------------------------------- */

int agents_cmd_unregister(const struct agents_options *opt)
{
	const char *name = opt->word[1];
	struct agents_session s;
	int err, status = agents_attach(opt, false, &s);

	if (status)
		return status;
	err = fnd_agent_unregister(s.rt, name, opt->force ? FND_UNREGISTER_FORCE : 0);
	if (err == -ENOENT) {
		fprintf(stderr, AGENTS_PROG ": %s: no agent is called \"%s\"\n", s.name, name);
		status = TOOL_FOUND;
	} else if (err == -EPERM) {
		fprintf(stderr, AGENTS_PROG ": %s: %s: --force takes the name from a living owner\n", s.name,
			fnd_error_detail());
		status = TOOL_PERMISSION;
	} else if (err) {
		status = tool_fail(AGENTS_PROG, name, err);
	} else if (opt->look.json) {
		status = tool_print_json(AGENTS_PROG, json_pack("{s:s, s:s, s:o, s:s, s:b}", "schema",
								"foundation.agents.unregister/1", "segment", s.name,
								"name", tool_json_text(name, strlen(name)), "backend",
								"shared", "unregistered", 1));
	}
	agents_detach(&s);
	return status;
}
