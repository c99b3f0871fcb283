// SPDX-License-Identifier: MIT
/* Failures: plain structs whose fields are msgpack, one key and value behind the other. */
#include <foundation/failure.h>

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "context_internal.h"
#include "mp.h"

static const char *const categories[FND_CATEGORY_MAX] = {
	"internal", "validation", "not_found", "conflict", "permission", "resource", "timeout", "unavailable",
};
static const char *const severities[] = { [2] = "critical", "error", "warning", "notice", "info" };
static const char *const retries[] = { "never", "now", "later" };

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

const char *fnd_category_name(unsigned int category)
{
	return category < COUNT(categories) ? categories[category] : "unknown";
}

const char *fnd_severity_name(unsigned int severity)
{
	return severity < COUNT(severities) && severities[severity] ? severities[severity] : "unknown";
}

const char *fnd_retry_name(unsigned int retry)
{
	return retry < COUNT(retries) ? retries[retry] : "unknown";
}

/* --- making ---------------------------------------------------------------------------------------- */

static int code_fits(const char *code)
{
	size_t n = code ? strnlen(code, FND_FAILURE_CODE_MAX + 1) : 0;

	for (size_t i = 0; i < n; i++) {
		char c = code[i];

		if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
		      c == '.' || c == '-'))
			return 0;
	}
	return n >= 1 && n <= FND_FAILURE_CODE_MAX;
}

static void count_once(struct fnd_failure *f, struct fnd_context *ctx)
{
	if (f->counted || !ctx || !ctx->seg || ctx->forked)
		return;
	f->counted = fnd_counter_add(ctx->seg, FND_COUNTER_FAILURES, 1) == 0;
}

static void begin(struct fnd_failure *f, struct fnd_context *ctx, const char *code, unsigned int category)
{
	struct timespec ts;

	memset(f, 0, sizeof(*f));
	snprintf(f->code, sizeof(f->code), "%s", code);
	f->category = category;
	f->severity = FND_SEVERITY_ERROR;
	f->pid = (uint32_t)getpid();
	f->tid = (uint32_t)syscall(SYS_gettid);
	clock_gettime(CLOCK_REALTIME, &ts);
	f->at_ns = (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
	count_once(f, ctx);
}

int fnd_failure_make(struct fnd_failure *f, struct fnd_context *ctx, const char *code, enum fnd_category category,
		     const char *fmt, ...)
{
	va_list ap;

	if (!code_fits(code) || (unsigned int)category >= FND_CATEGORY_MAX)
		return fnd_error_set(EINVAL, "a failure has a code of 1 to %u of [A-Za-z0-9_.-] and a category",
				     FND_FAILURE_CODE_MAX);
	begin(f, ctx, code, category);
	va_start(ap, fmt);
	vsnprintf(f->message, sizeof(f->message), fmt, ap);
	va_end(ap);
	return 0;
}

static const struct meaning {
	int err;
	uint8_t category, retry;
	const char *code; /* NULL: errno's own name */
} meanings[] = {
	{ EINVAL, FND_CATEGORY_VALIDATION, FND_RETRY_NEVER, NULL },
	{ E2BIG, FND_CATEGORY_VALIDATION, FND_RETRY_NEVER, NULL },
	{ ENOENT, FND_CATEGORY_NOT_FOUND, FND_RETRY_NEVER, NULL },
	{ ESRCH, FND_CATEGORY_NOT_FOUND, FND_RETRY_NEVER, NULL },
	{ EEXIST, FND_CATEGORY_CONFLICT, FND_RETRY_NEVER, NULL },
	{ EBUSY, FND_CATEGORY_CONFLICT, FND_RETRY_LATER, NULL },
	{ EPERM, FND_CATEGORY_PERMISSION, FND_RETRY_NEVER, NULL },
	{ EACCES, FND_CATEGORY_PERMISSION, FND_RETRY_NEVER, NULL },
	{ ENOMEM, FND_CATEGORY_RESOURCE, FND_RETRY_LATER, NULL },
	{ ENOSPC, FND_CATEGORY_RESOURCE, FND_RETRY_LATER, NULL },
	{ EMFILE, FND_CATEGORY_RESOURCE, FND_RETRY_LATER, NULL },
	{ ETIMEDOUT, FND_CATEGORY_TIMEOUT, FND_RETRY_LATER, NULL },
	{ EAGAIN, FND_CATEGORY_UNAVAILABLE, FND_RETRY_NOW, NULL },
	{ EINTR, FND_CATEGORY_UNAVAILABLE, FND_RETRY_NOW, NULL },
	{ EIO, FND_CATEGORY_UNAVAILABLE, FND_RETRY_LATER, NULL },
	{ FND_E_CORRUPT, FND_CATEGORY_INTERNAL, FND_RETRY_NEVER, "FND_E_CORRUPT" },
	{ FND_E_FOREIGN, FND_CATEGORY_CONFLICT, FND_RETRY_NEVER, "FND_E_FOREIGN" },
	{ FND_E_TOO_OLD, FND_CATEGORY_UNAVAILABLE, FND_RETRY_NEVER, "FND_E_TOO_OLD" },
	{ FND_E_TOO_NEW, FND_CATEGORY_UNAVAILABLE, FND_RETRY_NEVER, "FND_E_TOO_NEW" },
	{ FND_E_LAYOUT, FND_CATEGORY_UNAVAILABLE, FND_RETRY_NEVER, "FND_E_LAYOUT" },
	{ FND_E_DIRTY, FND_CATEGORY_UNAVAILABLE, FND_RETRY_LATER, "FND_E_DIRTY" },
	{ FND_E_PIDNS, FND_CATEGORY_UNAVAILABLE, FND_RETRY_NEVER, "FND_E_PIDNS" },
	{ FND_E_NOSLOT, FND_CATEGORY_RESOURCE, FND_RETRY_LATER, "FND_E_NOSLOT" },
	{ FND_E_FORKED, FND_CATEGORY_INTERNAL, FND_RETRY_NEVER, "FND_E_FORKED" },
	{ FND_E_GARBAGE, FND_CATEGORY_RESOURCE, FND_RETRY_LATER, "FND_E_GARBAGE" },
	{ FND_E_FENCED, FND_CATEGORY_PERMISSION, FND_RETRY_NEVER, "FND_E_FENCED" },
	{ FND_E_LIMITS, FND_CATEGORY_CONFLICT, FND_RETRY_NEVER, "FND_E_LIMITS" },
	{ FND_E_GONE, FND_CATEGORY_UNAVAILABLE, FND_RETRY_NEVER, "FND_E_GONE" },
};

int fnd_failure_make_errno(struct fnd_failure *f, struct fnd_context *ctx, int err)
{
	static const struct meaning other = { 0, FND_CATEGORY_INTERNAL, FND_RETRY_NEVER, NULL };
	const struct meaning *m = &other;
	const char *code, *detail = fnd_error_detail();

	err = err < 0 ? -err : err;
	for (size_t i = 0; i < COUNT(meanings); i++)
		if (meanings[i].err == err)
			m = &meanings[i];
	code = m->code ? m->code : strerrorname_np(err);
	begin(f, ctx, code ? code : "unknown", m->category);
	f->retry = m->retry;
	f->error = err;
	if (err == FND_E_CORRUPT)
		f->severity = FND_SEVERITY_CRITICAL;
	snprintf(f->message, sizeof(f->message), *detail ? "%s (%s)" : "%s", fnd_strerror(err), detail);
	return 0;
}

/* --- fields ---------------------------------------------------------------------------------------- */

/* The next key and value; false: there is none. */
static int next_field(const struct fnd_failure *f, size_t *at, struct fnd_field *ret)
{
	size_t bytes = f->bytes <= sizeof(f->fields) ? f->bytes : 0, n, m;
	struct fnd_value k;

	if (*at >= bytes)
		return 0;
	n = fnd_mp_read(f->fields + *at, bytes - *at, &k);
	if (n == 0 || k.type != FND_VALUE_STR)
		return 0;
	m = fnd_mp_read(f->fields + *at + n, bytes - *at - n, &ret->value);
	if (m == 0)
		return 0;
	ret->key = k.v.text;
	ret->key_bytes = k.bytes;
	*at += n + m;
	return 1;
}

/* Where a key's field begins and ends; false: it is not there. */
static int find(const struct fnd_failure *f, const char *key, size_t n, struct fnd_field *ret, size_t *ret_from,
		size_t *ret_to)
{
	size_t at = 0, from = 0;

	for (; next_field(f, &at, ret); from = at) {
		if (ret->key_bytes == n && memcmp(ret->key, key, n) == 0) {
			*ret_from = from;
			*ret_to = at;
			return 1;
		}
	}
	return 0;
}

static size_t key_length(const struct fnd_field *field)
{
	size_t n = 0;

	if (field->key)
		n = field->key_bytes ? field->key_bytes : strnlen(field->key, FND_CONTEXT_KEY_MAX + 1);
	return n <= FND_CONTEXT_KEY_MAX ? n : 0;
}

int fnd_failure_set(struct fnd_failure *f, struct fnd_field field)
{
	struct fnd_mp_writer w;
	unsigned char bytes[FND_FAILURE_FIELDS_BYTES];
	size_t n = key_length(&field), from = 0, to = 0;
	struct fnd_field old;

	if (n == 0 || f->bytes > sizeof(f->fields))
		return fnd_error_set(EINVAL, "a key has 1 to %u bytes", FND_CONTEXT_KEY_MAX);
	w = (struct fnd_mp_writer){ .buf = bytes, .size = sizeof(bytes) };
	fnd_mp_put_str(&w, field.key, n);
	if (fnd_mp_put_value(&w, &field.value))
		return fnd_error_set(EINVAL, "the value is not one msgpack object");
	if (find(f, field.key, n, &old, &from, &to) == 0)
		from = to = 0;
	if (w.full || w.used > sizeof(f->fields) - (f->bytes - (to - from))) {
		f->dropped++;
		return -ENOSPC;
	}
	memmove(f->fields + from, f->fields + to, f->bytes - to);
	f->bytes -= (uint32_t)(to - from);
	memcpy(f->fields + f->bytes, bytes, w.used);
	f->bytes += (uint32_t)w.used;
	f->count += to == from;
	return 0;
}

int fnd_failure_get(const struct fnd_failure *f, const char *key, struct fnd_value *ret_value)
{
	struct fnd_field field;
	size_t from, to;

	if (!key || !find(f, key, strlen(key), &field, &from, &to))
		return -ENOENT;
	*ret_value = field.value;
	return 0;
}

int fnd_failure_iterate(const struct fnd_failure *f, int (*fn)(const struct fnd_field *field, void *arg),
			void *arg)
{
	struct fnd_field field;
	size_t at = 0;
	int err;

	while (next_field(f, &at, &field)) {
		err = fn(&field, arg);
		if (err)
			return err;
	}
	return at == f->bytes ? 0 : -EINVAL;
}

struct enriching {
	struct fnd_failure *f;
	int err;
};

static int enrich_one(const struct fnd_field *field, void *arg)
{
	struct enriching *e = arg;
	struct fnd_field own;
	size_t from, to;
	int err;

	if (find(e->f, field->key, field->key_bytes, &own, &from, &to))
		return 0;
	err = fnd_failure_set(e->f, *field);
	if (err)
		e->err = err;
	return 0;
}

int fnd_failure_enrich(struct fnd_failure *f, struct fnd_context *ctx)
{
	struct enriching e = { .f = f };

	if (!ctx)
		return -EINVAL;
	fnd_context_iterate(ctx, enrich_one, &e);
	count_once(f, ctx);
	return e.err;
}

/* --- between processes ----------------------------------------------------------------------------- */

static void put_text(struct fnd_mp_writer *w, const char *key, const char *text, size_t max)
{
	fnd_mp_put_str(w, key, strlen(key));
	fnd_mp_put_str(w, text, strnlen(text, max));
}

static void put_number(struct fnd_mp_writer *w, const char *key, uint64_t v)
{
	fnd_mp_put_str(w, key, strlen(key));
	fnd_mp_put_uint(w, v);
}

static int count_field(const struct fnd_field *field, void *arg)
{
	(void)field;
	++*(uint32_t *)arg;
	return 0;
}

int fnd_failure_encode(const struct fnd_failure *f, void *buf, size_t size)
{
	struct fnd_mp_writer w = { .buf = buf, .size = size };
	uint32_t n = 0;

	if (fnd_failure_iterate(f, count_field, &n))
		return -EINVAL;
	fnd_mp_put_map(&w, 12);
	put_text(&w, "code", f->code, FND_FAILURE_CODE_MAX);
	put_text(&w, "category", fnd_category_name(f->category), 16);
	put_text(&w, "severity", fnd_severity_name(f->severity), 16);
	put_text(&w, "retry", fnd_retry_name(f->retry), 16);
	put_number(&w, "retry_after_ms", f->retry_after_ms);
	put_number(&w, "errno", (uint64_t)(f->error < 0 ? -(int64_t)f->error : f->error));
	put_number(&w, "pid", f->pid);
	put_number(&w, "tid", f->tid);
	put_number(&w, "at_ns", f->at_ns);
	put_number(&w, "dropped", f->dropped);
	put_text(&w, "message", f->message, FND_FAILURE_MESSAGE_MAX);
	fnd_mp_put_str(&w, "fields", 6);
	fnd_mp_put_map(&w, n);
	fnd_mp_put(&w, f->fields, f->bytes);
	return w.full ? -ENOBUFS : (int)w.used;
}

static int is(const struct fnd_field *f, const char *key)
{
	return f->key_bytes == strlen(key) && memcmp(f->key, key, f->key_bytes) == 0;
}

static unsigned int word_of(const struct fnd_value *v, const char *const *words, size_t count, unsigned int other)
{
	for (unsigned int i = 0; i < count; i++)
		if (words[i] && strlen(words[i]) == v->bytes && memcmp(words[i], v->v.text, v->bytes) == 0)
			return i;
	return other;
}

static void take_text(char *to, size_t max, const struct fnd_value *v)
{
	size_t n = v->bytes < max ? v->bytes : max;

	memcpy(to, v->v.text, n);
	to[n] = 0;
}

static int take_field(const struct fnd_field *field, void *arg)
{
	return fnd_failure_set(arg, *field);
}

static void member_str(struct fnd_failure *f, const struct fnd_field *m)
{
	if (is(m, "code"))
		take_text(f->code, FND_FAILURE_CODE_MAX, &m->value);
	else if (is(m, "message"))
		take_text(f->message, FND_FAILURE_MESSAGE_MAX, &m->value);
	else if (is(m, "category"))
		f->category = word_of(&m->value, categories, COUNT(categories), FND_CATEGORY_INTERNAL);
	else if (is(m, "severity"))
		f->severity = word_of(&m->value, severities, COUNT(severities), FND_SEVERITY_ERROR);
	else if (is(m, "retry"))
		f->retry = word_of(&m->value, retries, COUNT(retries), FND_RETRY_NEVER);
}

static void member_uint(struct fnd_failure *f, const struct fnd_field *m)
{
	uint32_t v = m->value.v.u > UINT32_MAX ? UINT32_MAX : (uint32_t)m->value.v.u;

	if (is(m, "retry_after_ms"))
		f->retry_after_ms = v;
	else if (is(m, "errno"))
		f->error = v > INT32_MAX ? INT32_MAX : (int32_t)v;
	else if (is(m, "pid"))
		f->pid = v;
	else if (is(m, "tid"))
		f->tid = v;
	else if (is(m, "dropped"))
		f->dropped = v;
	else if (is(m, "at_ns"))
		f->at_ns = m->value.v.u;
}

static int member(const struct fnd_field *m, void *arg)
{
	struct fnd_failure *f = arg;

	if (m->value.type == FND_VALUE_STR)
		member_str(f, m);
	else if (m->value.type == FND_VALUE_UINT)
		member_uint(f, m);
	else if (m->value.type == FND_VALUE_RAW && is(m, "fields"))
		return fnd_map_iterate(m->value.v.text, m->value.bytes, take_field, f) ? -EINVAL : 0;
	return 0;
}

int fnd_failure_decode(const void *bytes, size_t size, struct fnd_failure *ret_failure)
{
	struct fnd_failure f;

	memset(&f, 0, sizeof(f));
	f.severity = FND_SEVERITY_ERROR;
	if (fnd_map_iterate(bytes, size, member, &f) || !code_fits(f.code))
		return fnd_error_set(EINVAL, "not a whole failure");
	f.counted = 1; /* by its maker */
	*ret_failure = f;
	return 0;
}
