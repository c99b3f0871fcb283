// SPDX-License-Identifier: MIT
/*
 * Rows of the registry, through the facade with the shared backend. Beside the facade with the private one
 * (liburcu's rculfhash, in another segment whose flags are off), the shared registry without the facade, and
 * the table under it without the registry. Found by attribute: beside a query that no index helps.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench_runtime.h"

#define KINDS 100u /* values of the attribute */
#define ORDER (1u << 16)
#define NAME_BYTES 24

struct agents {
	struct runtime_world shared, own;
	struct fnd_table *table; /* the shared registry's */
	struct fnd_table *plain; /* like it, and nobody's registry */
	unsigned int count;
	char (*name)[NAME_BYTES];
	uint32_t *order;
};

static struct agents agents;

/* {"kind": "k07", "number": @i} as msgpack */
static size_t metadata_of(unsigned int i, unsigned char buf[32])
{
	static const char head[] = "\x82\xa4kind\xa3", middle[] = "\xa6number\xcd";
	unsigned char *p = buf;

	memcpy(p, head, sizeof(head) - 1);
	p += sizeof(head) - 1;
	*p++ = 'k';
	*p++ = (unsigned char)('0' + i % KINDS / 10);
	*p++ = (unsigned char)('0' + i % 10);
	memcpy(p, middle, sizeof(middle) - 1);
	p += sizeof(middle) - 1;
	*p++ = (unsigned char)(i >> 8);
	*p++ = (unsigned char)i;
	return (size_t)(p - buf);
}

static const char *next_name(struct runtime_side *side)
{
	return agents.name[agents.order[side->at++ % ORDER]];
}

/* --- lookup ------------------------------------------------------------------------------------------- */

static int lookup(struct runtime_side *side, uint64_t count)
{
	struct fnd_runtime *rt = side->arg;
	struct fnd_agent a;
	int err = 0;

	for (uint64_t i = 0; i < count; i++)
		err |= fnd_agent_lookup(rt, next_name(side), &a, NULL);
	return err ? -EBADMSG : 0;
}

static int lookup_registry(struct runtime_side *side, uint64_t count)
{
	struct fnd_registry *reg = side->arg;
	struct fnd_agent a;
	int err = 0;

	for (uint64_t i = 0; i < count; i++)
		err |= fnd_registry_lookup(reg, next_name(side), &a);
	return err ? -EBADMSG : 0;
}

static int lookup_table(struct runtime_side *side, uint64_t count)
{
	struct fnd_table *t = side->arg;
	char value[1024];
	int err = 0;

	for (uint64_t i = 0; i < count; i++) {
		const char *name = next_name(side);

		err |= fnd_table_lookup(t, name, strlen(name), value, sizeof(value), NULL);
	}
	return err ? -EBADMSG : 0;
}

static int lookup_row(const struct runtime_plan *plan)
{
	struct runtime_side sides[] = {
		{ "ours", lookup, agents.shared.rt, 0, 0 },
		{ "private", lookup, agents.own.rt, 0, 0 },
		{ "registry", lookup_registry, fnd_runtime_registry(agents.shared.rt), 0, 0 },
		{ "table", lookup_table, agents.table, 0, 0 },
	};
	struct bench_row row = { .bench = "agent_lookup", .dist = "uniform", .entries = agents.count };

	return runtime_row(plan, &row, sides, 4);
}

/* --- register and unregister -------------------------------------------------------------------------- */

static int cycle(struct runtime_side *side, uint64_t count)
{
	struct fnd_runtime *rt = side->arg;
	unsigned char m[32];
	size_t bytes = metadata_of(7, m);
	int err = 0;

	for (uint64_t i = 0; i < count; i++) {
		err |= fnd_agent_register(rt, "agent-passing", 0, m, bytes, 0);
		err |= fnd_agent_unregister(rt, "agent-passing", 0);
	}
	return err ? -EBADMSG : 0;
}

static int cycle_registry(struct runtime_side *side, uint64_t count)
{
	struct fnd_registry *reg = side->arg;
	unsigned char m[32];
	size_t bytes = metadata_of(7, m);
	int err = 0;

	for (uint64_t i = 0; i < count; i++) {
		err |= fnd_registry_register(reg, "agent-passing", 0, m, bytes, 0);
		err |= fnd_registry_unregister(reg, "agent-passing", 0);
	}
	return err ? -EBADMSG : 0;
}

static int cycle_table(struct runtime_side *side, uint64_t count)
{
	struct fnd_table *t = side->arg;
	static const char name[] = "agent-passing";
	char value[80] = { 0 };
	int err = 0;

	for (uint64_t i = 0; i < count; i++) {
		err |= fnd_table_insert(t, name, sizeof(name) - 1, value, sizeof(value));
		err |= fnd_table_delete(t, name, sizeof(name) - 1);
	}
	return err ? -EBADMSG : 0;
}

static int cycle_row(const struct runtime_plan *plan)
{
	struct runtime_side sides[] = {
		{ "ours", cycle, agents.shared.rt, 0, 0 },
		{ "private", cycle, agents.own.rt, 0, 0 },
		{ "registry", cycle_registry, fnd_runtime_registry(agents.shared.rt), 0, 0 },
		{ "table", cycle_table, agents.plain, 0, 0 },
	};
	struct bench_row row = { .bench = "agent_register", .entries = agents.count };

	return runtime_row(plan, &row, sides, 4);
}

/* --- find ---------------------------------------------------------------------------------------------- */

static int count_one(const char *name, const struct fnd_agent *a, void *arg)
{
	(void)name, (void)a;
	++*(uint64_t *)arg;
	return 0;
}

static struct fnd_value kind_of(struct runtime_side *side, char text[8])
{
	snprintf(text, 8, "k%02u", (unsigned int)(side->at++ % KINDS));
	return (struct fnd_value){ .type = FND_VALUE_STR, .bytes = 3, .v.text = text };
}

static int find(struct runtime_side *side, uint64_t count)
{
	struct fnd_runtime *rt = side->arg;
	uint64_t found = 0;
	char text[8];
	int err = 0;

	for (uint64_t i = 0; i < count; i++) {
		struct fnd_value v = kind_of(side, text);

		err |= fnd_agent_find(rt, "kind", &v, count_one, &found);
	}
	return err || found != count * (agents.count / KINDS) ? -EBADMSG : 0;
}

static int find_registry(struct runtime_side *side, uint64_t count)
{
	struct fnd_registry *reg = side->arg;
	uint64_t found = 0;
	char text[8];
	int err = 0;

	for (uint64_t i = 0; i < count; i++) {
		struct fnd_value v = kind_of(side, text);

		err |= fnd_registry_find(reg, "kind", &v, count_one, &found);
	}
	return err || found != count * (agents.count / KINDS) ? -EBADMSG : 0;
}

/* The same answer by a question that no index helps: every agent is looked at. */
static int scan(struct runtime_side *side, uint64_t count)
{
	struct fnd_runtime *rt = side->arg;
	uint64_t found = 0;
	char text[8];
	int err = 0;

	for (uint64_t i = 0; i < count; i++) {
		struct fnd_value v = kind_of(side, text);
		struct fnd_criterion c = { .attribute = "kind", .op = FND_CRITERION_LE, .nvalues = 1, .values = &v };
		struct fnd_criterion both[2] = { c, c };

		both[1].op = FND_CRITERION_GE;
		err |= fnd_agent_query(rt, both, 2, count_one, &found);
	}
	return err || found != count * (agents.count / KINDS) ? -EBADMSG : 0;
}

static int find_row(const struct runtime_plan *plan)
{
	struct runtime_side sides[] = {
		{ "ours", find, agents.shared.rt, 0, 0 },
		{ "private", find, agents.own.rt, 0, 0 },
		{ "registry", find_registry, fnd_runtime_registry(agents.shared.rt), 0, 0 },
		{ "scan", scan, agents.shared.rt, 0, 0 },
	};
	struct bench_row row = { .bench = "agent_find", .dist = "1 %", .entries = agents.count };

	return runtime_row(plan, &row, sides, 4);
}

/* --- all of them ---------------------------------------------------------------------------------------- */

static int fill(struct fnd_runtime *rt)
{
	unsigned char m[32];
	int err = 0;

	for (unsigned int i = 0; i < agents.count && !err; i++) {
		size_t bytes = metadata_of(i, m);

		err = bench_interrupted ? -EINTR : fnd_agent_register(rt, agents.name[i], 0, m, bytes, 0);
	}
	return err && err != -EINTR ? runtime_complain("registry", "fill", err) : err;
}

static int name_all(unsigned int count)
{
	agents.count = count;
	agents.name = calloc(count, sizeof(*agents.name));
	agents.order = calloc(ORDER, sizeof(*agents.order));
	if (!agents.name || !agents.order)
		return runtime_complain("registry", "prepare the names", -ENOMEM);
	for (unsigned int i = 0; i < count; i++)
		snprintf(agents.name[i], NAME_BYTES, "agent-%05u", i);
	for (unsigned int i = 0; i < ORDER; i++)
		agents.order[i] = (uint32_t)(bench_mix(i + 1) % count);
	return 0;
}

static int open_tables(void)
{
	struct fnd_table_options opt = { .size = sizeof(opt), .key_max = FND_AGENT_NAME_MAX, .value_max = 600,
					 .capacity = 1024 };
	int err = fnd_table_open(agents.shared.seg, FND_REGISTRY_TABLE, NULL, &agents.table);

	if (!err)
		err = fnd_table_open(agents.shared.seg, "plain", &opt, &agents.plain);
	return err ? runtime_complain("registry", "open its table", err) : 0;
}

int runtime_registry_rows(const struct runtime_plan *plan)
{
	static const struct fnd_flag_change on[] = { { FND_FLAG_SHARED_REGISTRY, 100 } };
	int err = name_all(plan->agents);

	if (!err)
		err = runtime_world_make(&agents.shared, "registry", on, 1, plan->agents);
	if (!err)
		err = runtime_world_make(&agents.own, "private", NULL, 0, 64);
	if (!err)
		err = open_tables();
	if (!err)
		err = fill(agents.shared.rt);
	if (!err)
		err = fill(agents.own.rt);
	if (!err && runtime_has(plan, "agent_lookup"))
		err = lookup_row(plan);
	if (!err && runtime_has(plan, "agent_register"))
		err = cycle_row(plan);
	if (!err && runtime_has(plan, "agent_find"))
		err = find_row(plan);
	fnd_table_close(agents.table);
	fnd_table_close(agents.plain);
	runtime_world_end(&agents.own);
	runtime_world_end(&agents.shared);
	free(agents.name);
	free(agents.order);
	return err;
}
