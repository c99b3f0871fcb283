// SPDX-License-Identifier: MIT
/* Failures: own fields, what a context adds, and the way to another process and back. */
#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <foundation/failure.h>

static const char *text_of(const struct fnd_failure *f, const char *key, char buf[256])
{
	struct fnd_value v;

	if (fnd_failure_get(f, key, &v) || v.type != FND_VALUE_STR || v.bytes > 255)
		return "(none)";
	memcpy(buf, v.v.text, v.bytes);
	buf[v.bytes] = 0;
	return buf;
}

Test(failure, made)
{
	struct fnd_failure f;

	cr_assert(fnd_failure_make(&f, NULL, "db.timeout", FND_CATEGORY_TIMEOUT, "no answer in %d ms", 250) == 0);
	cr_assert_str_eq(f.code, "db.timeout");
	cr_assert_str_eq(f.message, "no answer in 250 ms");
	cr_assert(f.category == FND_CATEGORY_TIMEOUT && f.severity == FND_SEVERITY_ERROR &&
		  f.retry == FND_RETRY_NEVER && f.pid == (uint32_t)getpid() && f.at_ns && !f.counted);
	cr_assert(fnd_failure_make(&f, NULL, "", FND_CATEGORY_TIMEOUT, "x") == -EINVAL);
	cr_assert(fnd_failure_make(&f, NULL, "a b", FND_CATEGORY_TIMEOUT, "x") == -EINVAL);
	cr_assert(fnd_failure_make(&f, NULL, NULL, FND_CATEGORY_TIMEOUT, "x") == -EINVAL);
	cr_assert(fnd_failure_make(&f, NULL, "ok", FND_CATEGORY_MAX, "x") == -EINVAL);
	cr_assert_str_eq(fnd_category_name(FND_CATEGORY_NOT_FOUND), "not_found");
	cr_assert_str_eq(fnd_severity_name(FND_SEVERITY_INFO), "info");
	cr_assert_str_eq(fnd_severity_name(0), "unknown");
	cr_assert_str_eq(fnd_retry_name(9), "unknown");
}

Test(failure, from_a_result)
{
	struct fnd_failure f;

	fnd_error_set(ETIMEDOUT, "held by pid %d", 42);
	cr_assert(fnd_failure_make_errno(&f, NULL, -ETIMEDOUT) == 0);
	cr_assert_str_eq(f.code, "ETIMEDOUT");
	cr_assert(f.category == FND_CATEGORY_TIMEOUT && f.retry == FND_RETRY_LATER && f.error == ETIMEDOUT);
	cr_assert(strstr(f.message, "held by pid 42"), "%s", f.message);
	cr_assert(fnd_failure_make_errno(&f, NULL, -FND_E_CORRUPT) == 0);
	cr_assert_str_eq(f.code, "FND_E_CORRUPT");
	cr_assert(f.severity == FND_SEVERITY_CRITICAL);
	cr_assert(fnd_failure_make_errno(&f, NULL, 99999) == 0);
	cr_assert_str_eq(f.code, "unknown");
}

static void enrich(struct fnd_context *ctx)
{
	struct fnd_failure f;
	char buf[256];

	FND_CONTEXT_SCOPE(ctx, fnd_str("request", "r-1"), fnd_str("step", "outer"), fnd_int("attempt", -3));
	cr_assert(fnd_failure_make(&f, ctx, "x", FND_CATEGORY_INTERNAL, "x") == 0);
	cr_assert(fnd_failure_set(&f, fnd_str("step", "mine")) == 0);
	cr_assert(fnd_failure_set(&f, fnd_str("table", "agents")) == 0);
	cr_assert(fnd_failure_enrich(&f, ctx) == 0);
	cr_assert(fnd_failure_enrich(&f, ctx) == 0, "idempotent");
	cr_assert(f.count == 4);
	cr_assert_str_eq(text_of(&f, "step", buf), "mine");
	cr_assert_str_eq(text_of(&f, "request", buf), "r-1");
	cr_assert_str_eq(text_of(&f, "table", buf), "agents");
	cr_assert(fnd_failure_set(&f, fnd_str("step", "again")) == 0 && f.count == 4);
	cr_assert_str_eq(text_of(&f, "step", buf), "again");
	cr_assert(fnd_failure_enrich(&f, NULL) == -EINVAL);
}

Test(failure, own_fields_win)
{
	struct fnd_context *ctx;

	cr_assert(fnd_context_open(NULL, NULL, NULL, &ctx) == 0);
	enrich(ctx);
	fnd_context_close(ctx);
}

Test(failure, there_and_back)
{
	unsigned char bytes[FND_FAILURE_BYTES_MAX], again[FND_FAILURE_BYTES_MAX];
	struct fnd_failure f, g;
	struct fnd_value v;
	char buf[256];
	int n;

	cr_assert(fnd_failure_make(&f, NULL, "a.b", FND_CATEGORY_RESOURCE, "full: %s", "disk") == 0);
	f.severity = FND_SEVERITY_CRITICAL;
	f.retry = FND_RETRY_LATER;
	f.retry_after_ms = 1500;
	f.error = ENOSPC;
	cr_assert(fnd_failure_set(&f, fnd_str("s", "text")) == 0);
	cr_assert(fnd_failure_set(&f, fnd_int("i", -5000000000)) == 0);
	cr_assert(fnd_failure_set(&f, fnd_uint("u", UINT64_MAX)) == 0);
	cr_assert(fnd_failure_set(&f, fnd_double("d", 0.1)) == 0);
	cr_assert(fnd_failure_set(&f, fnd_bool("b", 1)) == 0);
	cr_assert(fnd_failure_set(&f, fnd_str("nil", NULL)) == 0);
	n = fnd_failure_encode(&f, bytes, sizeof(bytes));
	cr_assert(n > 0);
	cr_assert(fnd_failure_decode(bytes, (size_t)n, &g) == 0, "%s", fnd_error_detail());
	cr_assert(g.category == f.category && g.severity == f.severity && g.retry == f.retry &&
		  g.retry_after_ms == 1500 && g.error == ENOSPC && g.pid == f.pid && g.tid == f.tid &&
		  g.at_ns == f.at_ns && g.count == 6);
	cr_assert_str_eq(g.code, f.code);
	cr_assert_str_eq(g.message, f.message);
	cr_assert_str_eq(text_of(&g, "s", buf), "text");
	cr_assert(fnd_failure_get(&g, "i", &v) == 0 && v.type == FND_VALUE_INT && v.v.i == -5000000000);
	cr_assert(fnd_failure_get(&g, "u", &v) == 0 && v.type == FND_VALUE_UINT && v.v.u == UINT64_MAX);
	cr_assert(fnd_failure_get(&g, "d", &v) == 0 && v.type == FND_VALUE_DOUBLE && v.v.d == 0.1);
	cr_assert(fnd_failure_get(&g, "b", &v) == 0 && v.type == FND_VALUE_BOOL && v.v.u == 1);
	cr_assert(fnd_failure_get(&g, "nil", &v) == 0 && v.type == FND_VALUE_NIL);
	cr_assert(fnd_failure_encode(&g, again, sizeof(again)) == n && memcmp(bytes, again, (size_t)n) == 0);
	cr_assert(fnd_failure_encode(&f, bytes, 20) == -ENOBUFS);
}

Test(failure, the_largest_fits)
{
	static char code[FND_FAILURE_CODE_MAX + 1], message[FND_FAILURE_MESSAGE_MAX + 1], value[500];
	unsigned char bytes[FND_FAILURE_BYTES_MAX];
	struct fnd_failure f, g;
	char key[16];
	int i, n;

	memset(code, 'c', sizeof(code) - 1);
	memset(message, 'm', sizeof(message) - 1);
	memset(value, 'v', sizeof(value) - 1);
	cr_assert(fnd_failure_make(&f, NULL, code, FND_CATEGORY_UNAVAILABLE, "%s", message) == 0);
	f.severity = FND_SEVERITY_CRITICAL;
	f.retry_after_ms = f.pid = f.tid = f.dropped = UINT32_MAX;
	f.at_ns = UINT64_MAX;
	f.error = INT32_MAX;
	for (i = 0; i < 3; i++) {
		snprintf(key, sizeof(key), "k%d", i);
		cr_assert(fnd_failure_set(&f, fnd_str(key, value)) == 0);
	}
	while (fnd_failure_set(&f, fnd_uint((snprintf(key, sizeof(key), "n%d", i++), key), 1)) == 0)
		;
	n = fnd_failure_encode(&f, bytes, sizeof(bytes));
	cr_assert(n > 0);
	cr_assert(fnd_failure_decode(bytes, (size_t)n, &g) == 0 && g.count == f.count);
}

Test(failure, hostile_bytes)
{
	unsigned char bytes[FND_FAILURE_BYTES_MAX], bad[FND_FAILURE_BYTES_MAX];
	struct fnd_failure f, g;
	int n;

	cr_assert(fnd_failure_make(&f, NULL, "a.b", FND_CATEGORY_RESOURCE, "full") == 0);
	cr_assert(fnd_failure_set(&f, fnd_str("s", "text")) == 0);
	n = fnd_failure_encode(&f, bytes, sizeof(bytes));
	for (int i = 0; i < n; i++)
		cr_assert(fnd_failure_decode(bytes, (size_t)i, &g) == -EINVAL, "cut to %d", i);
	for (int i = 0; i < n; i++) {
		for (int v = 0; v < 256; v++) {
			memcpy(bad, bytes, (size_t)n);
			bad[i] = (unsigned char)v;
			if (fnd_failure_decode(bad, (size_t)n, &g) == 0)
				cr_assert(g.bytes <= sizeof(g.fields) && strlen(g.message) <= FND_FAILURE_MESSAGE_MAX);
		}
	}
	cr_assert(fnd_failure_decode(NULL, 0, &g) == -EINVAL);
}

/* Instead of a map of fields anything else: what a number says is not an address. */
Test(failure, fields_of_another_kind)
{
	static const struct {
		const char *bytes;
		size_t n;
	} kind[] = {
		{ "\xcb\x3f\xf8\0\0\0\0\0\0", 9 }, { "\xff", 1 }, { "\xd3\x80\0\0\0\0\0\0\x01", 9 },
		{ "\xc3", 1 }, { "\xc0", 1 }, { "\xc4\x01\x80", 3 }, { "\x91\x01", 2 },
		{ "\xca\x41\x41\x41\x41", 5 },
	};
	unsigned char bytes[64] = "\x82\xa4" "code\xa1" "a\xa6" "fields";
	struct fnd_failure f;

	for (size_t i = 0; i < sizeof(kind) / sizeof(kind[0]); i++) {
		int err;

		memcpy(bytes + 15, kind[i].bytes, kind[i].n);
		err = fnd_failure_decode(bytes, 15 + kind[i].n, &f);
		cr_assert(err == -EINVAL || (err == 0 && f.bytes == 0), "kind %zu: %d", i, err);
	}
}

/* A key without bytes is one without bytes, whatever lies behind the map. */
Test(failure, empty_key)
{
	static const char fields[] = "\x82\xa4" "code\xa1" "a\xa6" "fields\x81\xa0\x01";
	char behind[64];
	struct fnd_failure f;

	memset(behind, 'S', sizeof(behind) - 1);
	behind[sizeof(behind) - 1] = '\0';
	memcpy(behind, fields, sizeof(fields) - 1);
	cr_assert(fnd_failure_decode(behind, sizeof(fields) - 1, &f) == -EINVAL ||
		  memchr(f.fields, 'S', f.bytes) == NULL);
}
