// SPDX-License-Identifier: MIT
/* W3C Trace Context: the traceparent header in and out. https://www.w3.org/TR/trace-context/ */
#include <foundation/context.h>

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define KNOWN_FLAGS 3u /* sampled; random trace id */
#define TRACESTATE_MAX 512u

/* @n lower-case hexadecimal digits. */
static int hex_only(const char *p, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (!((p[i] >= '0' && p[i] <= '9') || (p[i] >= 'a' && p[i] <= 'f')))
			return 0;
	return 1;
}

static int all_zero(const char *p, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (p[i] != '0')
			return 0;
	return 1;
}

static unsigned int digit(char c)
{
	return (unsigned int)(c <= '9' ? c - '0' : c - 'a' + 10);
}

static int id_fits(const char *p, size_t n)
{
	return hex_only(p, n) && !all_zero(p, n);
}

/* version 2 - trace id 32 - parent id 16 - flags 2; later versions may go on behind another dash. */
int fnd_traceparent_parse(const char *p, size_t n, struct fnd_trace *ret_trace)
{
	struct fnd_trace t;
	unsigned int version;

	if (!p || n < FND_TRACEPARENT_MAX || !hex_only(p, 2) || p[2] != '-' || p[35] != '-' || p[52] != '-')
		return -EINVAL;
	version = digit(p[0]) << 4 | digit(p[1]);
	if (version == 0xff || (version == 0 && n != FND_TRACEPARENT_MAX) ||
	    (n > FND_TRACEPARENT_MAX && p[FND_TRACEPARENT_MAX] != '-'))
		return -EINVAL;
	if (!id_fits(p + 3, 32) || !id_fits(p + 36, 16) || !hex_only(p + 53, 2))
		return -EINVAL;
	memset(&t, 0, sizeof(t));
	memcpy(t.trace_id, p + 3, 32);
	memcpy(t.span_id, p + 36, 16);
	t.flags = (uint8_t)(digit(p[53]) << 4 | digit(p[54]));
	t.version = (uint8_t)version;
	*ret_trace = t;
	return 0;
}

int fnd_traceparent_format(const struct fnd_trace *t, char *buf, size_t size)
{
	if (strnlen(t->trace_id, 33) != 32 || strnlen(t->span_id, 17) != 16 || !id_fits(t->trace_id, 32) ||
	    !id_fits(t->span_id, 16))
		return -EINVAL;
	if (size <= FND_TRACEPARENT_MAX)
		return -ENOBUFS;
	return snprintf(buf, size, "00-%s-%s-%02x", t->trace_id, t->span_id, t->flags & KNOWN_FLAGS);
}

static int state_fits(const char *state)
{
	size_t n = strnlen(state, TRACESTATE_MAX + 1);

	for (size_t i = 0; i < n; i++)
		if (state[i] < ' ' || state[i] > '~')
			return 0;
	return n <= TRACESTATE_MAX;
}

int fnd_context_trace_set(struct fnd_context *ctx, const char *traceparent, const char *tracestate)
{
	struct fnd_field f[4];
	struct fnd_trace t;
	int err = traceparent ? fnd_traceparent_parse(traceparent, strlen(traceparent), &t) : -EINVAL;

	if (err)
		return fnd_error_set(EINVAL, "not a traceparent");
	f[0] = fnd_str("trace_id", t.trace_id);
	f[1] = fnd_str("span_id", t.span_id);
	f[2] = fnd_uint("trace_flags", t.flags & KNOWN_FLAGS);
	if (!tracestate || !*tracestate)
		return fnd_context_set_all(ctx, f, 3);
	f[3] = fnd_str("tracestate", tracestate);
	err = state_fits(tracestate) ? fnd_context_set_all(ctx, f, 4) : -ENOSPC;
	return err == -ENOSPC ? fnd_context_set_all(ctx, f, 3) : err;
}

int fnd_context_traceparent(struct fnd_context *ctx, char *buf, size_t size)
{
	struct fnd_trace t = { .flags = 0 };
	struct fnd_value flags;

	if (fnd_context_get_str(ctx, "trace_id", t.trace_id, sizeof(t.trace_id)) != 32 ||
	    fnd_context_get_str(ctx, "span_id", t.span_id, sizeof(t.span_id)) != 16)
		return -ENOENT;
	if (fnd_context_get(ctx, "trace_flags", &flags) == 0 && flags.type == FND_VALUE_UINT)
		t.flags = (uint8_t)(flags.v.u & KNOWN_FLAGS);
	if (!id_fits(t.trace_id, 32) || !id_fits(t.span_id, 16))
		return -ENOENT;
	return fnd_traceparent_format(&t, buf, size);
}
