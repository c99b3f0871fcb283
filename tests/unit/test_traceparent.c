// SPDX-License-Identifier: MIT
/* traceparent in and out: the examples of the W3C recommendation, and what it calls malformed. */
#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include <foundation/context.h>

#define EXAMPLE "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
#define EXAMPLE_2 "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00"

static int parse(const char *text, struct fnd_trace *t)
{
	return fnd_traceparent_parse(text, strlen(text), t);
}

Test(traceparent, examples)
{
	struct fnd_trace t;
	char buf[64];

	cr_assert(parse(EXAMPLE, &t) == 0);
	cr_assert_str_eq(t.trace_id, "4bf92f3577b34da6a3ce929d0e0e4736");
	cr_assert_str_eq(t.span_id, "00f067aa0ba902b7");
	cr_assert(t.flags == 1 && t.version == 0);
	cr_assert(fnd_traceparent_format(&t, buf, sizeof(buf)) == FND_TRACEPARENT_MAX);
	cr_assert_str_eq(buf, EXAMPLE);
	cr_assert(parse(EXAMPLE_2, &t) == 0 && t.flags == 0);
	cr_assert(fnd_traceparent_format(&t, buf, sizeof(buf)) == FND_TRACEPARENT_MAX);
	cr_assert_str_eq(buf, EXAMPLE_2);
}

Test(traceparent, later_versions)
{
	struct fnd_trace t;
	char buf[64];

	cr_assert(parse("cc-12345678901234567890123456789012-1234567890123456-01", &t) == 0);
	cr_assert(parse("cc-12345678901234567890123456789012-1234567890123456-01-what-the-future-will-be-like", &t) == 0);
	cr_assert(t.version == 0xcc);
	cr_assert(parse("cc-12345678901234567890123456789012-1234567890123456-01.what", &t) == -EINVAL);
	/* goes out as version 00, with the flags that version knows */
	cr_assert(parse("cc-12345678901234567890123456789012-1234567890123456-ff", &t) == 0);
	cr_assert(fnd_traceparent_format(&t, buf, sizeof(buf)) == FND_TRACEPARENT_MAX);
	cr_assert_str_eq(buf, "00-12345678901234567890123456789012-1234567890123456-03");
}

Test(traceparent, malformed)
{
	static const char *const bad[] = {
		"", "00", "not a traceparent",
		"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-0",   /* short */
		"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-", /* version 00 has no more */
		"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-what",
		"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-011",
		"ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
		"0-4bf92f3577b34da6a3ce929d0e0e47360-00f067aa0ba902b7-01",
		".0-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
		"00-00000000000000000000000000000000-00f067aa0ba902b7-01",
		"00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
		"00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01", /* upper case */
		"00-4bf92f3577b34da6a3ce929d0e0e4736-00F067AA0BA902B7-01",
		"00-4bf92f3577b34da6a3ce929d0e0e473.-00f067aa0ba902b7-01",
		"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b.-01",
		"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-.1",
		"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-0X",
		"00_4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
		"00-4bf92f3577b34da6a3ce929d0e0e4736_00f067aa0ba902b7-01",
		"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7_01",
		" 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
	};
	struct fnd_trace t = { .flags = 77 };

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		cr_assert(parse(bad[i], &t) == -EINVAL, "%s", bad[i]);
	cr_assert(t.flags == 77, "untouched");
	cr_assert(fnd_traceparent_parse(NULL, 55, &t) == -EINVAL);
}

Test(traceparent, format_refuses)
{
	struct fnd_trace t = { .trace_id = "00000000000000000000000000000000", .span_id = "00f067aa0ba902b7" };
	char buf[64];

	cr_assert(fnd_traceparent_format(&t, buf, sizeof(buf)) == -EINVAL);
	cr_assert(parse(EXAMPLE, &t) == 0);
	cr_assert(fnd_traceparent_format(&t, buf, 55) == -ENOBUFS);
	t.span_id[3] = 'X';
	cr_assert(fnd_traceparent_format(&t, buf, sizeof(buf)) == -EINVAL);
}

Test(traceparent, through_a_context)
{
	struct fnd_context *ctx;
	struct fnd_scope scope;
	struct fnd_value v;
	char buf[64], state[600];

	cr_assert(fnd_context_open(NULL, NULL, NULL, &ctx) == 0);
	cr_assert(fnd_context_traceparent(ctx, buf, sizeof(buf)) == -ENOENT);
	cr_assert(fnd_context_begin(ctx, &scope, NULL, 0) == 0);
	cr_assert(fnd_context_trace_set(ctx, EXAMPLE, "rojo=00f067aa0ba902b7,congo=t61rcWkgMzE") == 0);
	cr_assert(fnd_context_traceparent(ctx, buf, sizeof(buf)) == 55);
	cr_assert_str_eq(buf, EXAMPLE);
	cr_assert(fnd_context_get_str(ctx, "tracestate", state, sizeof(state)) == (int)strlen("rojo=00f067aa0ba902b7,congo=t61rcWkgMzE"));
	cr_assert_str_eq(state, "rojo=00f067aa0ba902b7,congo=t61rcWkgMzE");
	cr_assert(fnd_context_trace_set(ctx, "00-junk", NULL) == -EINVAL);
	cr_assert(fnd_context_trace_set(ctx, NULL, NULL) == -EINVAL);
	cr_assert(fnd_context_traceparent(ctx, buf, sizeof(buf)) == 55);
	cr_assert_str_eq(buf, EXAMPLE, "a malformed one changes nothing");
	cr_assert(fnd_context_end(&scope) == 0);
	cr_assert(fnd_context_get(ctx, "trace_id", &v) == -ENOENT);

	/* a tracestate without room is left out, the trace is not */
	memset(state, 'x', sizeof(state) - 1);
	state[sizeof(state) - 1] = 0;
	cr_assert(fnd_context_trace_set(ctx, EXAMPLE_2, state) == 0);
	cr_assert(fnd_context_get(ctx, "tracestate", &v) == -ENOENT);
	cr_assert(fnd_context_traceparent(ctx, buf, sizeof(buf)) == 55);
	cr_assert_str_eq(buf, EXAMPLE_2);
	fnd_context_close(ctx);
}
