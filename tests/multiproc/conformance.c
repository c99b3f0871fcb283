// SPDX-License-Identifier: MIT
/*
 * One registry, whatever the flags say: each case is run over the private backend, the shared one, both with
 * either asked first, and with the flags changing after every step. Answers and errors are the same.
 *
 * usage: conformance [NUMBER]...
 *
 * A case is steps with ';' between them, CALL NAME [METADATA] = RESULT:
 *   r register   R take   p register, own pid given   u update   d unregister   D by force   x unknown flag
 *   l lookup: METADATA that it has, or an error     g lookup without a buffer
 *   c count   n how often a list shows NAME   f find ATTRIBUTE VALUE   q query (the rest is its text)
 * NAME: %max has 255 bytes, %long 256, %empty none, %bytes some that are no text.
 * METADATA: - none, N {"v":N}, h:TEXT {"health":TEXT}, c:A,B {"capability":[A,B]}, max, big, bad, cut, array,
 * two, tail. What only one of the backends can do is in conformance_differences.c.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <foundation/context.h>
#include <foundation/runtime.h>

#include "conformance.h"

const struct setting settings[SETTINGS] = {
	{ "private", { { 0, 0 }, { 0, 0 } } },
	{ "shared", { { 1, 0 }, { 1, 0 } } },
	{ "both, private first", { { 0, 1 }, { 0, 1 } } },
	{ "both, shared first", { { 1, 1 }, { 1, 1 } } },
	{ "shared_registry changing", { { 0, 1 }, { 1, 1 } } },
	{ "both flags changing", { { 0, 0 }, { 1, 1 } } },
	{ "shared_registry changing, unmonitored", { { 1, 0 }, { 0, 0 } } },
};

static const char *const cases[] = {
	/* register */
	"r a - = 0",
	"r a 1 = 0; l a = 1",
	"r a - = 0; l a = -",
	"r a 1 = 0; r a 2 = 0; l a = 2",
	"r a 1 = 0; r a - = 0; l a = -",
	"r a 1 = 0; r a 1 = 0; c = 1",
	"r a 1 = 0; r b 2 = 0; l a = 1; l b = 2",
	"p a 1 = 0; l a = 1",
	"p a 1 = 0; p a 2 = 0; l a = 2",
	"R a 1 = 0; l a = 1",
	"r a 1 = 0; R a 2 = 0; l a = 2",
	"R a 1 = 0; R a 1 = 0; c = 1",
	"r a h:healthy = 0; l a = h:healthy",
	"r a c:x,y = 0; l a = c:x,y",
	"r a max = 0; l a = max",
	"r %max 1 = 0; l %max = 1",
	"r %bytes 1 = 0; l %bytes = 1",
	"r %max max = 0; l %max = max",
	"r a 1 = 0; r b 1 = 0; r c 1 = 0; c = 3",
	"r A 1 = 0; r a 2 = 0; l A = 1; l a = 2",
	"r a 1 = 0; r a. 2 = 0; l a = 1; l a. = 2",
	/* refused */
	"r %empty 1 = EINVAL; c = 0",
	"r %long 1 = EINVAL; c = 0",
	"r %empty - = EINVAL",
	"r a bad = EINVAL; c = 0",
	"r a cut = EINVAL; c = 0",
	"r a array = EINVAL; c = 0",
	"r a two = EINVAL; c = 0",
	"r a tail = EINVAL; c = 0",
	"r a big = E2BIG; c = 0",
	"r a bad = EINVAL; l a = ENOENT",
	"r a big = E2BIG; l a = ENOENT",
	"r a 1 = 0; r a bad = EINVAL; l a = 1",
	"r a 1 = 0; r a big = E2BIG; l a = 1",
	"r a 1 = 0; r a cut = EINVAL; c = 1",
	"x a 1 = EINVAL; l a = ENOENT",
	"r a 1 = 0; x a 2 = EINVAL; l a = 1",
	"x %empty 1 = EINVAL",
	"x a big = E2BIG",
	"p %long 1 = EINVAL",
	"p a bad = EINVAL; l a = ENOENT",
	"R a two = EINVAL; l a = ENOENT",
	"R %long 1 = EINVAL",
	"R a big = E2BIG; c = 0",
	/* lookup */
	"l a = ENOENT",
	"g a = ENOENT",
	"r a 1 = 0; g a = 0",
	"l %empty = EINVAL",
	"l %long = EINVAL",
	"g %long = EINVAL",
	"l %max = ENOENT",
	"l %bytes = ENOENT",
	"r a 1 = 0; l b = ENOENT; l a = 1",
	"r a 1 = 0; l a = 1; l a = 1; l a = 1",
	"r ab 1 = 0; l a = ENOENT; l abc = ENOENT",
	"r %max 1 = 0; l a = ENOENT; l %max = 1",
	/* update */
	"u a 1 = ENOENT; c = 0",
	"r a 1 = 0; u a 2 = 0; l a = 2",
	"r a 1 = 0; u a - = 0; l a = -",
	"r a - = 0; u a max = 0; l a = max",
	"r a max = 0; u a 1 = 0; l a = 1",
	"r a 1 = 0; u a 2 = 0; u a 3 = 0; u a 4 = 0; l a = 4; c = 1",
	"r a 1 = 0; u b 2 = ENOENT; l a = 1; l b = ENOENT",
	"r a 1 = 0; u a bad = EINVAL; l a = 1",
	"r a 1 = 0; u a cut = EINVAL; l a = 1",
	"r a 1 = 0; u a array = EINVAL; l a = 1",
	"r a 1 = 0; u a two = EINVAL; l a = 1",
	"r a 1 = 0; u a big = E2BIG; l a = 1",
	"u %empty 1 = EINVAL",
	"u %long 1 = EINVAL",
	"u a bad = EINVAL",
	"u a big = E2BIG",
	"r %bytes 1 = 0; u %bytes 2 = 0; l %bytes = 2",
	"r %max 1 = 0; u %max 2 = 0; l %max = 2",
	"r a 1 = 0; u a h:degraded = 0; l a = h:degraded",
	"r a 1 = 0; d a = 0; u a 2 = ENOENT; l a = ENOENT",
	"r a 1 = 0; u a 1 = 0; l a = 1",
	"r a 1 = 0; u a 2 = 0; r a 3 = 0; l a = 3",
	/* unregister */
	"d a = ENOENT",
	"D a = ENOENT",
	"r a 1 = 0; d a = 0; l a = ENOENT",
	"r a 1 = 0; D a = 0; l a = ENOENT",
	"r a 1 = 0; d a = 0; d a = ENOENT",
	"r a 1 = 0; d a = 0; D a = ENOENT",
	"r a 1 = 0; d a = 0; r a 2 = 0; l a = 2",
	"r a 1 = 0; d a = 0; r a 2 = 0; d a = 0; l a = ENOENT; c = 0",
	"r a 1 = 0; d b = ENOENT; l a = 1",
	"r a 1 = 0; r b 2 = 0; d a = 0; l a = ENOENT; l b = 2; c = 1",
	"d %empty = EINVAL",
	"d %long = EINVAL",
	"D %long = EINVAL",
	"d %max = ENOENT",
	"r %max 1 = 0; d %max = 0; l %max = ENOENT",
	"r %bytes 1 = 0; d %bytes = 0; l %bytes = ENOENT",
	"r a 1 = 0; u a 2 = 0; d a = 0; l a = ENOENT; c = 0",
	"p a 1 = 0; d a = 0; l a = ENOENT",
	"R a 1 = 0; d a = 0; l a = ENOENT",
	"r a max = 0; d a = 0; r a - = 0; l a = -",
	/* count and list */
	"c = 0",
	"n a = 0",
	"r a 1 = 0; n a = 1",
	"r a 1 = 0; r a 2 = 0; n a = 1",
	"r a 1 = 0; u a 2 = 0; n a = 1; c = 1",
	"r a 1 = 0; d a = 0; n a = 0; c = 0",
	"r a 1 = 0; r b 1 = 0; n a = 1; n b = 1; n c = 0",
	"r a 1 = 0; r b 1 = 0; d a = 0; n a = 0; n b = 1; c = 1",
	"r a 1 = 0; c = 1; r b 1 = 0; c = 2; d a = 0; c = 1; d b = 0; c = 0",
	"r %max 1 = 0; n %max = 1",
	"r %bytes 1 = 0; n %bytes = 1",
	"r a 1 = 0; d a = 0; r a 1 = 0; n a = 1",
	/* find */
	"f health healthy = 0",
	"r a h:healthy = 0; f health healthy = 1",
	"r a h:healthy = 0; f health degraded = 0",
	"r a h:healthy = 0; r b h:healthy = 0; f health healthy = 2",
	"r a h:healthy = 0; r b h:degraded = 0; f health degraded = 1",
	"r a h:healthy = 0; u a h:degraded = 0; f health healthy = 0; f health degraded = 1",
	"r a h:healthy = 0; d a = 0; f health healthy = 0",
	"r a h:healthy = 0; r a 1 = 0; f health healthy = 0",
	"r a c:x,y = 0; f capability x = 1; f capability y = 1; f capability z = 0",
	"r a c:x,y = 0; r b c:y,z = 0; f capability y = 2; f capability x = 1",
	"r a - = 0; f health healthy = 0",
	"r a h:healthy = 0; d a = 0; r a h:healthy = 0; f health healthy = 1",
	/* query */
	"r a 1 = 0; q v = 1 = 1",
	"r a 1 = 0; q v != 1 = 0",
	"r a 1 = 0; r b 2 = 0; r c 3 = 0; q v > 1 = 2",
	"r a 1 = 0; r b 2 = 0; r c 3 = 0; q v >= 2 = 2",
	"r a 1 = 0; r b 2 = 0; r c 3 = 0; q v < 2 = 1",
	"r a 1 = 0; r b 2 = 0; r c 3 = 0; q v <= 2 = 2",
	"r a 1 = 0; r b 2 = 0; r c 3 = 0; q v in 1,3 = 2",
	"r a 1 = 0; r b 2 = 0; r c 3 = 0; q v not_in 1,3 = 1",
	"r a 1 = 0; r b 2 = 0; r c 3 = 0; q v > 1 and v < 3 = 1",
	"r a 1 = 0; r b h:healthy = 0; q v missing = 1",
	"r a 1 = 0; r b h:healthy = 0; q v != 5 = 1",
	"r a h:healthy = 0; q health = degraded = 0",
	"r a 1 = 0; u a 2 = 0; q v = 1 = 0; q v = 2 = 1",
	"r a 1 = 0; d a = 0; q v = 1 = 0",
	"q v = 1 = 0",
	/* long stories */
	"r a 1 = 0; r b 2 = 0; u a 3 = 0; d b = 0; r c 4 = 0; u c 5 = 0; l a = 3; l b = ENOENT; l c = 5; c = 2",
	"r a 1 = 0; d a = 0; r a 2 = 0; d a = 0; r a 3 = 0; u a 4 = 0; l a = 4; n a = 1",
	"r a 1 = 0; u a bad = EINVAL; r a 2 = 0; r a big = E2BIG; u a 3 = 0; l a = 3; d a = 0; l a = ENOENT",
	"r a 1 = 0; l a = 1; u a 2 = 0; l a = 2; u a 3 = 0; l a = 3; r a 4 = 0; l a = 4; d a = 0; l a = ENOENT; d a = ENOENT",
	"r a 1 = 0; r b 2 = 0; r c 3 = 0; d a = 0; d b = 0; d c = 0; c = 0; l a = ENOENT; l b = ENOENT; l c = ENOENT",
};

#define CASES (sizeof(cases) / sizeof(*cases))

/* --- steps ------------------------------------------------------------------------------------------ */

static const struct {
	const char *name;
	int err;
} errors[] = { { "EINVAL", EINVAL }, { "E2BIG", E2BIG }, { "ENOENT", ENOENT } };

static const char *name_of(const char *token)
{
	static char text[300];

	memset(text, 'x', sizeof(text));
	if (strcmp(token, "%max") == 0)
		text[255] = '\0';
	else if (strcmp(token, "%long") == 0)
		text[256] = '\0';
	else if (strcmp(token, "%empty") == 0)
		text[0] = '\0';
	else if (strcmp(token, "%bytes") == 0)
		strcpy(text, "\x01\xff /\x7f");
	else
		snprintf(text, sizeof(text), "%s", token);
	return text;
}

static size_t put_str(unsigned char *to, const char *text, size_t n)
{
	to[0] = (unsigned char)(0xa0 | n);
	memcpy(to + 1, text, n);
	return n + 1;
}

static size_t metadata_of(const char *token, unsigned char to[600])
{
	size_t n = 0;

	memset(to, 0, 600);
	if (strcmp(token, "-") == 0)
		return 0;
	if (strcmp(token, "max") == 0 || strcmp(token, "big") == 0) {
		n = *token == 'm' ? 512 : 513;
		memcpy(to, "\x81\xa1v\xc5", 4); /* bin 16 */
		to[4] = (unsigned char)((n - 6) >> 8);
		to[5] = (unsigned char)((n - 6) & 255);
		return n;
	}
	if (strcmp(token, "bad") == 0)
		return to[0] = 0xc1, 1;
	if (strcmp(token, "cut") == 0)
		return memcpy(to, "\x82\xa1v\x01", 4), 4;
	if (strcmp(token, "array") == 0)
		return memcpy(to, "\x91\x01", 2), 2;
	if (strcmp(token, "two") == 0)
		return memcpy(to, "\x80\x80", 2), 2;
	if (strcmp(token, "tail") == 0)
		return memcpy(to, "\x81\xa1v\x01\x02", 5), 5;
	to[n++] = 0x81;
	if (strncmp(token, "h:", 2) == 0) {
		n += put_str(to + n, "health", 6);
		return n + put_str(to + n, token + 2, strlen(token + 2));
	}
	if (strncmp(token, "c:", 2) == 0) {
		n += put_str(to + n, "capability", 10);
		to[n++] = 0x92;
		n += put_str(to + n, token + 2, 1);
		return n + put_str(to + n, token + 4, 1);
	}
	n += put_str(to + n, "v", 1);
	to[n++] = (unsigned char)atoi(token);
	return n;
}

struct counting {
	const char *name; /* NULL: all */
	int times;
};

static int count_one(const char *name, const struct fnd_agent *a, void *arg)
{
	struct counting *c = arg;

	(void)a;
	c->times += !c->name || strcmp(c->name, name) == 0;
	return 0;
}

static int query(struct fnd_runtime *rt, const char *text)
{
	const struct fnd_criterion *criteria;
	struct counting all = { .name = NULL };
	struct fnd_query *q;
	size_t n;
	int err = fnd_query_parse(text, &q);

	if (err)
		return err;
	criteria = fnd_query_criteria(q, &n);
	err = fnd_agent_query(rt, criteria, n, count_one, &all);
	fnd_query_free(q);
	return err ? err : all.times;
}

/* What a call says: an error, or a number. */
static int call(struct fnd_runtime *rt, char what, const char *token, const char *more)
{
	struct counting c = { .name = name_of(token) };
	unsigned char map[600];
	size_t n = metadata_of(more, map);
	struct fnd_value value;
	int err;

	switch (what) {
	case 'r': return fnd_agent_register(rt, c.name, 0, n ? map : NULL, n, 0);
	case 'R': return fnd_agent_register(rt, c.name, 0, map, n, FND_REGISTER_TAKE);
	case 'p': return fnd_agent_register(rt, c.name, (uint32_t)getpid(), map, n, 0);
	case 'x': return fnd_agent_register(rt, c.name, 0, map, n, 1u << 20);
	case 'u': return fnd_agent_update(rt, c.name, map, n);
	case 'd': return fnd_agent_unregister(rt, c.name, 0);
	case 'D': return fnd_agent_unregister(rt, c.name, FND_UNREGISTER_FORCE);
	case 'g': return fnd_agent_lookup(rt, c.name, NULL, NULL);
	case 'c': return (int)fnd_agent_count(rt);
	case 'n':
		err = fnd_agent_list(rt, count_one, &c);
		return err ? err : c.times;
	case 'f':
		value = fnd_str("value", more).value;
		c.name = NULL;
		err = fnd_agent_find(rt, token, &value, count_one, &c);
		return err ? err : c.times;
	default: return -ENOSYS;
	}
}

static int expected(const char *token)
{
	for (unsigned int i = 0; i < sizeof(errors) / sizeof(*errors); i++)
		if (strcmp(token, errors[i].name) == 0)
			return -errors[i].err;
	return atoi(token);
}

static int lookup_step(struct fnd_runtime *rt, const char *token, const char *want)
{
	int err = expected(want) < 0 ? expected(want) : 0, got;
	struct fnd_agent a = { .generation = 0 };
	unsigned char map[600];
	size_t n;

	got = fnd_agent_lookup(rt, name_of(token), &a, NULL);
	if (got || err)
		return got == err ? 0 : 1;
	n = metadata_of(want, map);
	return a.metadata_bytes == n && memcmp(a.metadata, map, n) == 0 && a.owner.pid == (uint32_t)getpid() &&
			       a.registered_ns && a.generation ?
		       0 :
		       1;
}

static int step(struct fnd_runtime *rt, char *text)
{
	char what = text[strspn(text, " ")], name[300] = "", more[300] = "-", want[300];
	char *equals = strrchr(text, '=');
	int got;

	snprintf(want, sizeof(want), "%s", equals + 2);
	*equals = '\0';
	text += strspn(text, " ") + 1;
	if (what == 'q') {
		got = query(rt, text);
		return got == expected(want) ? 0 : 1;
	}
	sscanf(text, "%299s %299s", name, more);
	if (what == 'l')
		return lookup_step(rt, name, want);
	got = call(rt, what, name, more);
	if (got != expected(want))
		fprintf(stderr, "%c %s %s: %d, not %s (%s)\n", what, name, more, got, want, fnd_error_detail());
	return got == expected(want) ? 0 : 1;
}

int flags_set(struct fnd_flags *f, const int to[2])
{
	struct fnd_flag_change c[2] = { { FND_FLAG_SHARED_REGISTRY, to[0] ? 100 : 0 },
					{ FND_FLAG_MIGRATION_MONITORING, to[1] ? 100 : 0 } };

	return fnd_flags_change(f, c, 2, -1, NULL) < 0;
}

static int forget(const char *name, const struct fnd_agent *a, void *arg)
{
	(void)a;
	return fnd_registry_unregister(arg, name, FND_UNREGISTER_FORCE);
}

static int case_run(struct fnd_segment *seg, unsigned int number, const struct setting *s)
{
	char text[1000], *at = NULL, *one;
	struct fnd_runtime *rt;
	int err, n = 0;

	if (fnd_runtime_open(seg, NULL, &rt) || flags_set(fnd_runtime_flags(rt), s->flags[0]))
		return 1;
	snprintf(text, sizeof(text), "%s", cases[number]);
	for (one = strtok_r(text, ";", &at); one; one = strtok_r(NULL, ";", &at)) {
		if (n++ && memcmp(s->flags[0], s->flags[1], sizeof(s->flags[0])))
			flags_set(fnd_runtime_flags(rt), s->flags[n % 2 ? 0 : 1]);
		err = step(rt, one);
		if (err) {
			fprintf(stderr, "case %u, %s: step %d of \"%s\"\n", number + 1, s->name, n, cases[number]);
			break;
		}
	}
	if (fnd_registry_list(fnd_runtime_registry(rt), 0, forget, fnd_runtime_registry(rt)))
		err = 1;
	fnd_runtime_close(rt);
	return err;
}

int main(int argc, char **argv)
{
	unsigned int failed = 0, ran = 0, differences;
	struct fnd_segment *seg;

	if (world_begin(&seg))
		return 1;
	for (unsigned int i = 0; i < CASES; i++) {
		bool wanted = argc < 2;

		for (int k = 1; k < argc; k++)
			wanted |= (unsigned int)atoi(argv[k]) == i + 1;
		for (unsigned int s = 0; wanted && s < SETTINGS; s++, ran++)
			failed += case_run(seg, i, &settings[s]) != 0;
	}
	differences = argc < 2 ? differences_run(seg, &failed) : 0;
	printf("%zu cases, %u runs of them over %u settings, %u differences, %u failed\n", CASES, ran, SETTINGS,
	       differences, failed);
	return world_end(seg) || failed;
}
