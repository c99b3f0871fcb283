// SPDX-License-Identifier: MIT
/* The index of attributes: what it finds is what a full scan finds, whoever is killed; and at what cost. */
#define _GNU_SOURCE
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <foundation/events.h>
#include <foundation/query.h>
#include <foundation/registry.h>

#include "multiproc.h"

#define VALUES 5u

extern const struct test_case agents_index_cases[];

static uint64_t lookups; /* of tables, by this process */

int __real_fnd_table_lookup(struct fnd_table *t, const void *key, size_t key_bytes, void *buf, size_t buf_bytes,
			    size_t *ret_bytes);
int __wrap_fnd_table_lookup(struct fnd_table *t, const void *key, size_t key_bytes, void *buf, size_t buf_bytes,
			    size_t *ret_bytes);

int __wrap_fnd_table_lookup(struct fnd_table *t, const void *key, size_t key_bytes, void *buf, size_t buf_bytes,
			    size_t *ret_bytes)
{
	lookups++;
	return __real_fnd_table_lookup(t, key, key_bytes, buf, buf_bytes, ret_bytes);
}

/* What is done while somebody's removal is being told. */
static int (*meanwhile)(void);

int __real_fnd_event_publish(struct fnd_events *ev, const char *name, const void *map, size_t map_bytes,
			     uint64_t *ret_number);
int __wrap_fnd_event_publish(struct fnd_events *ev, const char *name, const void *map, size_t map_bytes,
			     uint64_t *ret_number);

int __wrap_fnd_event_publish(struct fnd_events *ev, const char *name, const void *map, size_t map_bytes,
			     uint64_t *ret_number)
{
	int (*then)(void) = meanwhile;

	meanwhile = NULL;
	if (then && then() != 0)
		return -EIO;
	return __real_fnd_event_publish(ev, name, map, map_bytes, ret_number);
}

struct world {
	struct fnd_segment *seg;
	struct fnd_registry *reg;
};

static int enter(const char *name, struct world *w, bool indexed)
{
	static const char *const attributes[] = { "health", "capability", "resources.memory" };
	struct fnd_registry_options o = { .size = sizeof(o), .attributes = attributes,
					  .nattributes = indexed ? 3 : 0 };

	NEED(fnd_segment_attach(name, NULL, &w->seg) == 0);
	NEED(fnd_registry_open_with(w->seg, &o, &w->reg) == 0);
	return 0;
}

static int leave(struct world *w)
{
	fnd_registry_close(w->reg);
	return fnd_segment_detach(w->seg) == 0 ? 0 : 1;
}

static int segment_new(const char **ret_name, uint64_t capacity)
{
	struct fnd_segment_options o = small_options();

	o.processes = 64;
	o.threads = 64;
	o.max_bytes = 256u << 20;
	o.default_capacity = capacity;
	*ret_name = name_new();
	return fnd_segment_create(*ret_name, &o, NULL);
}

/* {"health": "hH", "capability": ["c0"?, "c1"?, …], "resources": {"memory": m}} */
static size_t metadata(unsigned char *p, unsigned int health, unsigned int capabilities, unsigned int memory)
{
	size_t n = 0;
	unsigned int count = 0;

	for (unsigned int i = 0; i < VALUES; i++)
		count += capabilities >> i & 1;
	memcpy(p + n, "\x83\xa6health\xa2h", 10);
	n += 10;
	p[n++] = (unsigned char)('0' + health);
	memcpy(p + n, "\xaa" "capability", 11);
	n += 11;
	p[n++] = (unsigned char)(0x90 | count);
	for (unsigned int i = 0; i < VALUES; i++) {
		if (!(capabilities >> i & 1))
			continue;
		p[n++] = 0xa2;
		p[n++] = 'c';
		p[n++] = (unsigned char)('0' + i);
	}
	memcpy(p + n, "\xa9resources\x81\xa6memory", 18);
	n += 18;
	p[n++] = (unsigned char)memory;
	return n;
}

static size_t random_metadata(unsigned char *p)
{
	return metadata(p, (unsigned int)(random_u64() % VALUES), (unsigned int)(random_u64() % (1u << VALUES)),
			(unsigned int)(random_u64() % 100));
}

struct names {
	uint64_t sum;
	unsigned int count;
};

static int add(const char *name, const struct fnd_agent *a, void *arg)
{
	struct names *n = arg;
	uint64_t h = 14695981039346656037u;

	(void)a;
	for (; *name; name++)
		h = (h ^ (unsigned char)*name) * 1099511628211u;
	n->sum += h;
	n->count++;
	return 0;
}

struct scan {
	const struct fnd_criterion *c;
	struct names *names;
};

static int scan_one(const char *name, const struct fnd_agent *a, void *arg)
{
	struct scan *s = arg;

	return fnd_query_match(s->c, 1, a->metadata, a->metadata_bytes) ? add(name, a, s->names) : 0;
}

/* Every value of every attribute: the index beside a full scan. */
static int same_as_a_scan(struct world *w)
{
	static const char *const attribute[] = { "health", "capability", "resources.memory" };

	for (unsigned int a = 0; a < 3; a++) {
		for (unsigned int v = 0; v < (a == 2 ? 100 : VALUES); v++) {
			struct names found = { 0 }, scanned = { 0 };
			char text[3] = { a ? 'c' : 'h', (char)('0' + v), '\0' };
			struct fnd_value value = { .type = a == 2 ? FND_VALUE_UINT : FND_VALUE_STR,
						   .bytes = 2, .v.u = v };
			struct fnd_criterion c = { .attribute = attribute[a], .nvalues = 1, .values = &value };
			struct scan s = { &c, &scanned };

			if (a < 2)
				value.v.text = text;
			NEED(fnd_registry_find(w->reg, attribute[a], &value, add, &found) == 0);
			NEED(fnd_registry_list(w->reg, 0, scan_one, &s) == 0);
			if (found.count != scanned.count)
				fprintf(stderr, "%s %u: %u found, %u there\n", attribute[a], v, found.count,
					scanned.count);
			NEED(found.count == scanned.count && found.sum == scanned.sum);
		}
	}
	return 0;
}

static int churn(void *name)
{
	uint32_t owner = (uint32_t)getppid();
	struct world w;

	TRY(enter(name, &w, random_u64() % 2));
	word_add(&shared->word[0], 1);
	for (;;) {
		unsigned char map[128];
		size_t bytes = random_metadata(map);
		char agent[32];
		int err;

		snprintf(agent, sizeof(agent), "agent %u", (unsigned int)(random_u64() % 120));
		switch (random_u64() % 4) {
		case 0:
			err = fnd_registry_unregister(w.reg, agent, FND_UNREGISTER_FORCE);
			break;
		case 1:
			err = fnd_registry_update(w.reg, agent, map, bytes);
			break;
		default: /* for the parent, who lives */
			err = fnd_registry_register(w.reg, agent, random_u64() % 4 ? owner : 0, map, bytes,
						    FND_REGISTER_TAKE);
		}
		NEED(err == 0 || err == -ENOENT);
		word_add(&shared->word[1], 1);
	}
}

static int killed_writers(void)
{
	struct fnd_registry_repair done;
	const char *name;
	struct world w;
	pid_t pid[4];

	NEED(segment_new(&name, 512) == 0);
	TRY(enter(name, &w, true));
	for (unsigned int round = 0; round < 8; round++) {
		for (unsigned int i = 0; i < 4; i++)
			pid[i] = child_start(churn, (void *)(uintptr_t)name);
		for (unsigned int k = 0; k < 25; k++) {
			unsigned int i = k % 4;

			nap_us((unsigned int)(random_u64() % 3000));
			child_kill(pid[i]);
			pid[i] = child_start(churn, (void *)(uintptr_t)name);
		}
		for (unsigned int i = 0; i < 4; i++)
			child_kill(pid[i]);
		TRY(same_as_a_scan(&w)); /* as it was left */
		NEED(fnd_registry_reap(w.reg, NULL) == 0);
		TRY(same_as_a_scan(&w));
	}
	NEED(word_get(&shared->word[1]) > 1000);
	NEED(fnd_registry_ensure(w.seg, 0, &done) == 0 && done.indexed == 0);
	TRY(same_as_a_scan(&w));
	TRY(leave(&w));
	return fnd_segment_destroy(name, 0) == 0 ? 0 : 1;
}

/* Those who are not indexed yet, by those who do not know of the index: all are found once it is there. */
static int indexed_later(void)
{
	static const struct fnd_value h1 = { .type = FND_VALUE_STR, .bytes = 2, .v.text = "h1" };
	struct world plain, w;
	struct names n = { 0 };
	unsigned char map[128];
	const char *name;
	char agent[32];

	NEED(segment_new(&name, 512) == 0);
	TRY(enter(name, &plain, false));
	for (unsigned int i = 0; i < 100; i++) {
		snprintf(agent, sizeof(agent), "before %u", i);
		NEED(fnd_registry_register(plain.reg, agent, 0, map, metadata(map, i % VALUES, 3, i), 0) == 0);
	}
	NEED(fnd_registry_find(plain.reg, "health", &h1, add, &n) == 0 && n.count == 20); /* by a scan */
	TRY(enter(name, &w, true));
	for (unsigned int i = 0; i < 100; i++) {
		snprintf(agent, sizeof(agent), "after %u", i);
		NEED(fnd_registry_register(plain.reg, agent, 0, map, metadata(map, i % VALUES, 5, i), 0) == 0);
	}
	n.count = 0;
	lookups = 0;
	NEED(fnd_registry_find(w.reg, "health", &h1, add, &n) == 0 && n.count == 40);
	NEED(lookups >= 40 && lookups < 80);
	TRY(same_as_a_scan(&w));
	fnd_registry_close(plain.reg); /* two handles of one process */
	NEED(fnd_segment_detach(plain.seg) == 0);
	TRY(leave(&w));
	return fnd_segment_destroy(name, 0) == 0 ? 0 : 1;
}

static struct world other;

static int register_again(void)
{
	unsigned char map[128];

	return fnd_registry_register(other.reg, "a", 0, map, metadata(map, 1, 3, 8), 0);
}

/* A name that is taken while its removal is under way: what both have in common stays in the index. */
static int taken_while_leaving(void)
{
	unsigned char map[128];
	const char *name;
	struct world w;

	NEED(segment_new(&name, 512) == 0);
	TRY(enter(name, &w, true));
	TRY(enter(name, &other, true));
	NEED(fnd_registry_register(w.reg, "a", 0, map, metadata(map, 1, 1, 7), 0) == 0);
	meanwhile = register_again;
	NEED(fnd_registry_unregister(w.reg, "a", 0) == 0 && meanwhile == NULL);
	NEED(fnd_registry_count(w.reg) == 1);
	TRY(same_as_a_scan(&w));
	fnd_registry_close(other.reg); /* two handles of one process */
	NEED(fnd_segment_detach(other.seg) == 0);
	TRY(leave(&w));
	return fnd_segment_destroy(name, 0) == 0 ? 0 : 1;
}

/* The cost of a find is that of its answer, however many others there are. */
static int cost_of_a_find(void)
{
	static const struct fnd_value rare = { .type = FND_VALUE_STR, .bytes = 2, .v.text = "h1" },
				      common = { .type = FND_VALUE_STR, .bytes = 2, .v.text = "h0" },
				      none = { .type = FND_VALUE_STR, .bytes = 2, .v.text = "h4" };
	struct fnd_registry_stats stats;
	unsigned char map[128];
	const char *name;
	struct names n;
	struct world w;

	NEED(segment_new(&name, 8192) == 0);
	TRY(enter(name, &w, true));
	for (unsigned int i = 0; i < 4000; i++) {
		char agent[32];

		snprintf(agent, sizeof(agent), "agent %u", i);
		NEED(fnd_registry_register(w.reg, agent, 0, map, metadata(map, i % 400 == 7, 1, i % 100), 0) == 0);
		if (i % 1000 != 999)
			continue;
		n.count = 0;
		lookups = 0;
		NEED(fnd_registry_find(w.reg, "health", &rare, add, &n) == 0);
		NEED(n.count == (i + 1 + 392) / 400 && lookups <= 2 * n.count + 2);
		lookups = n.count = 0;
		NEED(fnd_registry_find(w.reg, "health", &none, add, &n) == 0);
		NEED(n.count == 0 && lookups <= 1);
	}
	lookups = n.count = 0;
	NEED(fnd_registry_find(w.reg, "health", &common, add, &n) == 0);
	NEED(n.count == 3990 && lookups >= 3990 && lookups < 3990 * 5 / 4);
	NEED(fnd_registry_stats_read(w.reg, &stats) == 0 && stats.nattributes == 3 && stats.index_records > 0);
	NEED(strcmp(stats.attribute[0], "health") == 0 && stats.entries == 4000);
	TRY(leave(&w));
	return fnd_segment_destroy(name, 0) == 0 ? 0 : 1;
}

const struct test_case agents_index_cases[] = {
	{ "killed_writers", killed_writers },
	{ "indexed_later", indexed_later },
	{ "taken_while_leaving", taken_while_leaving },
	{ "cost_of_a_find", cost_of_a_find },
	{ NULL, NULL },
};
