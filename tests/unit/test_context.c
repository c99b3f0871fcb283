// SPDX-License-Identifier: MIT
/* A thread's context, in its own memory and in a segment: the same results. */
#include <criterion/criterion.h>
#include <criterion/parameterized.h>
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <foundation/context.h>

#include "../../runtime/context_layout.h"

static struct fnd_segment *seg;
static struct fnd_context *ctx;
static char name[64];

/* 0: private, 1: shared */
static void open_it(int shared)
{
	struct fnd_segment_options opt = { .size = sizeof(opt), .processes = 4, .threads = 8,
					   .max_bytes = 1 << 20 };

	if (shared) {
		snprintf(name, sizeof(name), "t-context-%d-%d", (int)getpid(), shared);
		cr_assert(fnd_segment_create(name, &opt, &seg) == 0, "%s", fnd_error_detail());
	}
	cr_assert(fnd_context_open(seg, NULL, NULL, &ctx) == 0);
}

static void close_it(void)
{
	fnd_context_close(ctx);
	if (seg) {
		fnd_segment_detach(seg);
		fnd_segment_destroy(name, FND_DESTROY_FORCE);
	}
	seg = NULL;
}

#define BOTH(test)                                                             \
	static void test##_case(void);                                         \
	ParameterizedTestParameters(context, test)                             \
	{                                                                      \
		static int places[] = { 0, 1 };                                \
		return cr_make_param_array(int, places, 2);                    \
	}                                                                      \
	ParameterizedTest(int *shared, context, test)                          \
	{                                                                      \
		open_it(*shared);                                              \
		test##_case();                                                 \
		close_it();                                                    \
	}                                                                      \
	static void test##_case(void)

static const char *str(const char *key)
{
	static char buf[4][800];
	static int at;
	char *b = buf[at++ % 4];

	return fnd_context_get_str(ctx, key, b, sizeof(buf[0])) < 0 ? "(none)" : b;
}

static int collect(const struct fnd_field *f, void *arg)
{
	char *out = (char *)arg + strlen(arg);

	if (f->value.type == FND_VALUE_STR)
		sprintf(out, "%.*s=%.*s ", (int)f->key_bytes, f->key, (int)f->value.bytes, f->value.v.text);
	else
		sprintf(out, "%.*s=%lld ", (int)f->key_bytes, f->key, (long long)f->value.v.i);
	return 0;
}

static const char *all(void)
{
	static char buf[2048];

	buf[0] = 0;
	fnd_context_iterate(ctx, collect, buf);
	return buf;
}

BOTH(empty)
{
	unsigned char map[FND_CONTEXT_MAP_MAX];
	struct fnd_value v;

	cr_assert(fnd_context_get(ctx, "request", &v) == -ENOENT);
	cr_assert(fnd_context_capture(ctx, map, sizeof(map)) == 1 && map[0] == 0x80, "the empty map");
	cr_assert(fnd_context_depth(ctx) == 0);
	cr_assert_str_eq(all(), "");
}

BOTH(inner_wins)
{
	struct fnd_field outer[] = { fnd_str("request", "r-1"), fnd_str("step", "outer") };
	struct fnd_scope a, b;

	cr_assert(fnd_context_set(ctx, fnd_str("worker", "w")) == 0);
	cr_assert(fnd_context_begin(ctx, &a, outer, 2) == 0);
	cr_assert_str_eq(all(), "worker=w request=r-1 step=outer ");
	cr_assert(fnd_context_begin(ctx, &b, NULL, 0) == 0);
	cr_assert(fnd_context_set(ctx, fnd_str("step", "inner")) == 0);
	cr_assert(fnd_context_set(ctx, fnd_int("n", -7)) == 0);
	cr_assert_str_eq(all(), "worker=w request=r-1 step=inner n=-7 ");
	cr_assert(fnd_context_unset(ctx, "request") == 0);
	cr_assert_str_eq(str("request"), "(none)");
	cr_assert_str_eq(all(), "worker=w step=inner n=-7 ");
	cr_assert(fnd_context_depth(ctx) == 2);
	cr_assert(fnd_context_end(&b) == 0 && fnd_context_end(&b) == 0, "a second end does nothing");
	cr_assert_str_eq(all(), "worker=w request=r-1 step=outer ");
	cr_assert(fnd_context_end(&a) == 0);
	cr_assert_str_eq(all(), "worker=w ");
}

static int leaves_early(int depth, int at)
{
	char text[16];

	snprintf(text, sizeof(text), "d%d", depth);
	FND_CONTEXT_SCOPE(ctx, fnd_str("depth", text), fnd_int("n", depth));
	cr_assert_str_eq(str("depth"), text);
	if (depth == at)
		return depth;
	return leaves_early(depth + 1, at);
}

BOTH(every_way_out)
{
	cr_assert(fnd_context_set(ctx, fnd_str("base", "b")) == 0);
	for (int at = 0; at < 10; at++) {
		cr_assert(leaves_early(0, at) == at);
		cr_assert_str_eq(all(), "base=b ");
	}
	for (int i = 0; i < 3; i++) {
		FND_CONTEXT_SCOPE(ctx);
		fnd_context_set(ctx, fnd_int("i", i));
		if (i == 1)
			continue;
		if (i == 2)
			break;
	}
	cr_assert_str_eq(all(), "base=b ");
}

static jmp_buf out;

static void jumps(void)
{
	FND_CONTEXT_SCOPE(ctx, fnd_str("lost", "yes"));
	longjmp(out, 1);
}

BOTH(skipped_ends)
{
	struct fnd_scope a, b, c;

	cr_assert(fnd_context_begin(ctx, &a, NULL, 0) == 0);
	cr_assert(fnd_context_set(ctx, fnd_str("a", "1")) == 0);
	if (!setjmp(out))
		jumps();
	cr_assert(fnd_context_begin(ctx, &b, NULL, 0) == 0);
	cr_assert(fnd_context_begin(ctx, &c, NULL, 0) == 0);
	cr_assert(fnd_context_set(ctx, fnd_str("c", "1")) == 0);
	cr_assert(fnd_context_end(&a) == 0, "the outermost first");
	cr_assert_str_eq(all(), "");
	cr_assert(fnd_context_end(&c) == 0 && fnd_context_end(&b) == 0);
	cr_assert_str_eq(all(), "");
	cr_assert(fnd_context_depth(ctx) == 0);
}

/* Set again and again: what is hidden makes room. */
BOTH(set_again)
{
	struct fnd_context_stats s;
	struct fnd_scope scope;
	struct fnd_value v;
	char big[400];

	cr_assert(fnd_context_set(ctx, fnd_str("base", "b")) == 0);
	cr_assert(fnd_context_begin(ctx, &scope, NULL, 0) == 0);
	for (int i = 0; i < 5000; i++) {
		cr_assert(fnd_context_set(ctx, fnd_int("i", i)) == 0);
		cr_assert(fnd_context_set(ctx, fnd_int("other", -i)) == 0);
		cr_assert(fnd_context_get(ctx, "i", &v) == 0 && v.v.i == i);
	}
	cr_assert_str_eq(str("base"), "b");
	/* large ones take each other's place */
	for (int i = 0; i < 20; i++) {
		memset(big, 'a' + i, sizeof(big) - 1);
		big[sizeof(big) - 1] = 0;
		cr_assert(fnd_context_set(ctx, fnd_str("big", big)) == 0);
		cr_assert_str_eq(str("big"), big);
	}
	cr_assert(fnd_context_end(&scope) == 0);
	cr_assert_str_eq(all(), "base=b ");
	fnd_context_stats_read(ctx, &s);
	cr_assert(s.dropped == 0);
}

BOTH(full)
{
	struct fnd_context_stats s;
	struct fnd_scope scope;
	char key[16], big[800];
	struct fnd_field two[2];
	unsigned int n = 0;

	memset(big, 'x', sizeof(big) - 1);
	big[sizeof(big) - 1] = 0;
	two[0] = fnd_str("fits", "yes");
	two[1] = fnd_str("large", big);
	cr_assert(fnd_context_set(ctx, fnd_str("big", big)) == -ENOSPC);
	cr_assert(fnd_context_begin(ctx, &scope, two, 2) == -ENOSPC, "open all the same");
	cr_assert_str_eq(all(), "fits=yes ");
	cr_assert(fnd_context_end(&scope) == 0);
	for (;; n++) {
		snprintf(key, sizeof(key), "k%u", n);
		if (fnd_context_set(ctx, fnd_uint(key, n)))
			break;
	}
	cr_assert(n == FND_CONTEXT_FIELDS_MAX);
	cr_assert(fnd_context_set(ctx, fnd_uint("k0", 7)) == 0, "a field that is there may change");
	cr_assert(fnd_context_begin(ctx, &scope, two, 1) == -ENOSPC);
	cr_assert(fnd_context_depth(ctx) == 1);
	cr_assert(fnd_context_end(&scope) == 0 && fnd_context_depth(ctx) == 0);
	fnd_context_stats_read(ctx, &s);
	cr_assert(s.dropped == 4, "%d", (int)s.dropped);
}

BOTH(refuses)
{
	static const unsigned char half[] = { 0x82, 0xa1, 'a', 1 };
	struct fnd_field f = { .key = "raw", .value = { .type = FND_VALUE_RAW, .bytes = 4, .v.text = (const char *)half } };
	struct fnd_scope scope;
	char key[100];

	memset(key, 'k', sizeof(key) - 1);
	key[sizeof(key) - 1] = 0;
	cr_assert(fnd_context_set(ctx, fnd_int(key, 1)) == -EINVAL);
	cr_assert(fnd_context_set(ctx, fnd_int("", 1)) == -EINVAL);
	cr_assert(fnd_context_set(ctx, fnd_int(NULL, 1)) == -EINVAL);
	cr_assert(fnd_context_set(ctx, f) == -EINVAL);
	f = fnd_int("", 1);
	cr_assert(fnd_context_begin(ctx, &scope, &f, 1) == -EINVAL && fnd_context_end(&scope) == 0);
	cr_assert(fnd_context_begin(NULL, &scope, NULL, 0) == -EINVAL && fnd_context_end(&scope) == 0);
	cr_assert(fnd_context_set(NULL, fnd_int("a", 1)) == -EINVAL);
	cr_assert_str_eq(all(), "");
}

BOTH(values)
{
	static const int64_t ints[] = { 0, 1, 127, 128, 255, 256, 65535, 65536, 4294967295, 4294967296, INT64_MAX,
					-1, -32, -33, -128, -129, -32768, -32769, -2147483648LL, -2147483649LL, INT64_MIN };
	struct fnd_value v;

	for (size_t i = 0; i < sizeof(ints) / sizeof(ints[0]); i++) {
		cr_assert(fnd_context_set(ctx, fnd_int("i", ints[i])) == 0);
		cr_assert(fnd_context_get(ctx, "i", &v) == 0 && v.v.i == ints[i], "%lld", (long long)ints[i]);
		cr_assert(v.type == (ints[i] < 0 ? FND_VALUE_INT : FND_VALUE_UINT));
	}
	cr_assert(fnd_context_set(ctx, fnd_double("d", -1.5)) == 0);
	cr_assert(fnd_context_get(ctx, "d", &v) == 0 && v.type == FND_VALUE_DOUBLE && v.v.d == -1.5);
	cr_assert(fnd_context_set(ctx, fnd_bool("b", 2)) == 0);
	cr_assert(fnd_context_get(ctx, "b", &v) == 0 && v.type == FND_VALUE_BOOL && v.v.u == 1);
	cr_assert(fnd_context_set(ctx, fnd_str("nil", NULL)) == 0);
	cr_assert(fnd_context_get(ctx, "nil", &v) == 0 && v.type == FND_VALUE_NIL);
}

/* --- across threads --------------------------------------------------------------------------------- */

static unsigned char carried[FND_CONTEXT_MAP_MAX];
static size_t carried_bytes;

static void *elsewhere(void *arg)
{
	struct fnd_scope scope;

	(void)arg;
	if (strcmp(all(), "") != 0 || fnd_context_set(ctx, fnd_str("mine", "m")))
		return "not empty at first";
	if (fnd_context_attach(ctx, &scope, carried, carried_bytes) || strcmp(all(), "request=r-1 n=5 ") != 0)
		return "attached, but not the same";
	fnd_context_set(ctx, fnd_str("request", "changed"));
	if (fnd_context_end(&scope) || strcmp(all(), "mine=m ") != 0)
		return "not what it was before";
	return NULL;
}

BOTH(carried_to_a_thread)
{
	pthread_t thread;
	struct fnd_scope scope, others;
	void *said;
	int n;

	cr_assert(fnd_context_set(ctx, fnd_str("request", "r-0")) == 0);
	cr_assert(fnd_context_begin(ctx, &scope, NULL, 0) == 0);
	cr_assert(fnd_context_set(ctx, fnd_str("request", "r-1")) == 0);
	cr_assert(fnd_context_set(ctx, fnd_int("n", 5)) == 0);
	n = fnd_context_capture(ctx, carried, sizeof(carried));
	cr_assert(n > 0);
	carried_bytes = (size_t)n;
	cr_assert(pthread_create(&thread, NULL, elsewhere, NULL) == 0);
	pthread_join(thread, &said);
	cr_assert_null(said, "%s", (const char *)said);
	cr_assert_str_eq(all(), "request=r-1 n=5 ");
	others = scope;
	others.thread = &others;
	cr_assert(fnd_context_end(&others) == -EINVAL, "another thread's");
	cr_assert(fnd_context_capture(ctx, carried, 3) == -ENOBUFS);
}

BOTH(attach_hostile)
{
	static const unsigned char bad[][8] = { { 0xc0 }, { 0x81, 0xa1, 'a' }, { 0x81, 1, 2 }, { 0xdf, 0xff, 0xff, 0xff, 0xff },
						{ 0x80, 0x80 }, { 0x91, 1 } };
	static const size_t bytes[] = { 1, 3, 3, 5, 2, 2 };
	struct fnd_scope scope;

	cr_assert(fnd_context_set(ctx, fnd_str("a", "1")) == 0);
	for (size_t i = 0; i < sizeof(bytes) / sizeof(bytes[0]); i++) {
		cr_assert(fnd_context_attach(ctx, &scope, bad[i], bytes[i]) == -EINVAL, "%zu", i);
		cr_assert(fnd_context_end(&scope) == 0);
	}
	cr_assert(fnd_context_attach(ctx, &scope, NULL, 0) == -EINVAL);
	cr_assert_str_eq(all(), "a=1 ");
	/* a key without bytes is left out, and what lies behind the map is none */
	cr_assert(fnd_context_attach(ctx, &scope, "\x81\xa0\x01 behind", 3) == -ENOSPC);
	cr_assert_str_eq(all(), "");
	cr_assert(fnd_context_end(&scope) == 0);
	cr_assert(fnd_context_attach(ctx, &scope, "\x80", 1) == 0);
	cr_assert_str_eq(all(), "", "the empty map hides everything");
	cr_assert(fnd_context_end(&scope) == 0);
	cr_assert_str_eq(all(), "a=1 ");
}

/* --- areas ----------------------------------------------------------------------------------------- */

static struct fnd_context_view view_now(void)
{
	struct fnd_context_view v;
	void *area;

	memset(&v, 0, sizeof(v));
	cr_assert(fnd_thread_area(seg, &area) == 0);
	cr_assert(fnd_context_decode_area(area, FND_THREAD_AREA_BYTES, &v) == 0, "%s", fnd_error_detail());
	return v;
}

Test(context, breadcrumbs)
{
	struct fnd_context_view v;
	char text[100];
	void *area;

	open_it(1);
	for (int i = 0; i < 20; i++) {
		snprintf(text, sizeof(text), "step %d", i);
		cr_assert(fnd_context_crumb(ctx, text) == 0);
		v = view_now();
		cr_assert(v.crumbs_total == (uint64_t)i + 1 && v.crumbs == (i < 8 ? (uint32_t)i + 1 : 8));
		cr_assert_str_eq(v.crumb[v.crumbs - 1].text, text);
		cr_assert(v.crumb[0].at_ns > 0);
	}
	cr_assert_str_eq(v.crumb[0].text, "step 12");
	/* cut before a character of several bytes */
	memset(text, 'x', 54);
	strcpy(text + 54, "\xc3\xa4\xc3\xa4");
	cr_assert(fnd_context_crumb(ctx, text) == 0);
	v = view_now();
	cr_assert(strlen(v.crumb[7].text) == 54);
	cr_assert(fnd_context_crumbs_clear(ctx) == 0);
	cr_assert(fnd_thread_area(seg, &area) == 0);
	cr_assert(fnd_context_decode_area(area, FND_THREAD_AREA_BYTES, &v) == -ENOENT, "nothing to keep");
	close_it();
}

static void decoded(void)
{
	unsigned char packed[1024];
	struct fnd_context_view v;
	int n;

	FND_CONTEXT_SCOPE(ctx, fnd_str("a", "1"), fnd_int("n", 3));
	FND_CONTEXT_SCOPE(ctx, fnd_str("a", "2"));
	fnd_context_crumb(ctx, "one");
	fnd_context_crumb(ctx, "two");
	v = view_now();
	cr_assert(v.depth == 2 && v.fields == 2 && v.crumbs == 2);
	cr_assert(v.map_bytes == 8 && memcmp(v.map, "\x82\xa1" "a\xa1" "2\xa1n\x03", 8) == 0);
	n = fnd_context_pack(&v, packed, sizeof(packed));
	cr_assert(n == 8 + 12 + 1 + 8 && packed[0] == 0x83);
	cr_assert(fnd_context_pack(&v, packed, 8 + 12 + 1 + 4) == 8 + 12 + 1 + 4, "the newer breadcrumb alone");
	cr_assert(memcmp(packed + 21, "\xa3two", 4) == 0);
	cr_assert(fnd_context_pack(&v, packed, 8) == 8 && packed[0] == 0x82);
	cr_assert(fnd_context_pack(&v, packed, 7) == -ENOBUFS);
}

Test(context, decoded)
{
	open_it(1);
	decoded();
	close_it();
}

/* Damage is told, and read within bounds; the thread whose area it is goes on. */
Test(context, damaged)
{
	struct fnd_shm_context good, bad;
	struct fnd_context_view v;
	unsigned int seed = 1;
	void *area;

	open_it(1);
	for (int i = 0; i < 12; i++) {
		char key[8];

		snprintf(key, sizeof(key), "k%d", i);
		fnd_context_set(ctx, fnd_str(key, "some text"));
		fnd_context_crumb(ctx, key);
	}
	cr_assert(fnd_thread_area(seg, &area) == 0);
	memcpy(&good, area, sizeof(good));
	for (int i = 0; i < 200000; i++) {
		unsigned char *p = (unsigned char *)&bad;

		memcpy(&bad, &good, sizeof(bad));
		for (int k = rand_r(&seed) % 4; k >= 0; k--)
			p[(unsigned int)rand_r(&seed) % (k % 2 ? 24 : sizeof(bad))] = (unsigned char)rand_r(&seed);
		if (fnd_context_decode_area(&bad, sizeof(bad), &v) == 0)
			cr_assert(v.map_bytes <= sizeof(v.map) && v.crumbs <= FND_CRUMBS_MAX);
	}
	cr_assert(fnd_context_decode_area(&good, 100, &v) == -EINVAL);
	memset(area, 0xff, FND_THREAD_AREA_BYTES);
	str("k3");
	fnd_context_set(ctx, fnd_int("x", 1));
	all();
	close_it();
}

Test(context, two_handles_and_closing)
{
	struct fnd_context *private;

	open_it(1);
	cr_assert(fnd_context_open(NULL, NULL, NULL, &private) == 0);
	cr_assert(fnd_context_set(ctx, fnd_str("a", "1")) == 0);
	cr_assert(view_now().fields == 1);
	fnd_context_close(ctx);
	ctx = private;
	cr_assert_str_eq(all(), "a=1 ", "goes on in the thread's memory");
	close_it();
}
