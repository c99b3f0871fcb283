// SPDX-License-Identifier: MIT
/*
 * A line as logfmt or JSON.
 *
 * The message has half of the line, each other value a quarter. A field that does not fit is left out whole,
 * so that what is written can always be parsed; log_cut at the end says how many were cut or left out.
 */
#include "log_internal.h"

#include <errno.h>
#include <string.h>

#define TAIL 32 /* ,"log_cut":4294967295}\n */
#define KEY_MAX 128
#define SIZE_MIN 512

struct writer {
	struct fnd_log_out o;
	bool json, first;
	size_t value_max;
};

static bool is_ours(const char *key, size_t n)
{
	static const char *const names[] = { "time", "level", "message", "pid", "tid", "generation", "trace_id",
					     "span_id", "error_context", "log_dropped", "log_cut" };
	static const char context[] = "error_context.";

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (strlen(names[i]) == n && memcmp(names[i], key, n) == 0)
			return true;
	return n >= sizeof(context) - 1 && memcmp(key, context, sizeof(context) - 1) == 0;
}

/* --- keys and values ------------------------------------------------------------------------------ */

/* A key of logfmt ends at a blank or '=': whatever could be taken for one becomes '_'. */
static bool bare_key(struct writer *w, const char *key, size_t n)
{
	size_t len = n < KEY_MAX ? n : KEY_MAX;
	char *to = w->o.at + w->o.used;

	if (n == 0)
		return fnd_log_put(&w->o, "_", 1);
	if (!fnd_log_put(&w->o, key, len))
		return false;
	for (size_t i = 0; i < len; i++) {
		unsigned char c = (unsigned char)to[i];

		if (c <= ' ' || c >= 0x7f || c == '=' || c == '"' || c == '\\')
			to[i] = '_';
	}
	return true;
}

static bool key_begin(struct writer *w, const char *prefix, const char *key, size_t n)
{
	bool ok = w->first || fnd_log_put(&w->o, w->json ? "," : " ", 1);

	w->first = false;
	if (!w->json)
		return ok && fnd_log_put_text(&w->o, prefix) && bare_key(w, key, n) &&
		       fnd_log_put(&w->o, "=", 1);
	return ok && fnd_log_put(&w->o, "\"", 1) && fnd_log_put_text(&w->o, prefix) &&
	       fnd_log_put_value(&w->o, key, n, FND_QUOTE_ESCAPED, KEY_MAX) && fnd_log_put(&w->o, "\":", 2);
}

/* Can logfmt do without quotes? */
static bool is_bare(const char *s, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		unsigned char c = (unsigned char)s[i];

		if (c <= ' ' || c >= 0x7f || c == '=' || c == '"' || c == '\\')
			return false;
	}
	return n > 0;
}

static bool text_value(struct writer *w, const char *s, size_t n, size_t max)
{
	if (!w->json && n <= max && is_bare(s, n) && fnd_log_put(&w->o, s, n))
		return true;
	if (!fnd_log_put(&w->o, "\"", 1) || w->o.limit == w->o.used)
		return false;
	w->o.limit--; /* the quote behind it has its place kept */
	if (w->o.limit - w->o.used < max)
		max = w->o.limit - w->o.used;
	n = fnd_log_put_value(&w->o, s, n, FND_QUOTE_ESCAPED, max);
	w->o.limit++;
	return n && fnd_log_put(&w->o, "\"", 1);
}

/* Anything but text. In logfmt what JSON would put between quotes needs none. */
static bool other_value(struct writer *w, const struct fnd_value *v)
{
	struct fnd_log_out inside;
	char text[1024];

	if (w->json)
		return fnd_log_put_json(&w->o, v, w->value_max);
	inside = (struct fnd_log_out){ text, sizeof(text), 0, 0 };
	if (!fnd_log_put_json(&inside, v, sizeof(text) / 2))
		return false;
	w->o.cut += inside.cut;
	if (text[0] == '"')
		return text_value(w, text + 1, inside.used - 2, w->value_max);
	return text_value(w, text, inside.used, w->value_max);
}

static bool add_field(struct writer *w, const char *prefix, const struct fnd_field *f, size_t key_bytes)
{
	const struct fnd_value *v = &f->value;

	if (!key_begin(w, prefix, f->key, key_bytes))
		return false;
	if (v->type == FND_VALUE_STR && v->v.text)
		return text_value(w, v->v.text, v->bytes, w->value_max);
	return other_value(w, v);
}

/* Adds it whole or not at all. */
static void member(struct writer *w, const char *prefix, const struct fnd_field *f, size_t key_bytes)
{
	struct writer before = *w;

	if (add_field(w, prefix, f, key_bytes))
		return;
	*w = before;
	w->o.cut++;
}

/* --- the error context ---------------------------------------------------------------------------- */

static int pair(const struct fnd_field *f, void *arg)
{
	struct writer *w = arg;

	member(w, w->json ? "" : "error_context.", f, f->key_bytes);
	return 0;
}

static void context(struct writer *w, const struct fnd_log_line *line)
{
	struct writer before = *w;

	if (w->json) {
		if (!key_begin(w, "", "error_context", 13) || !fnd_log_put(&w->o, "{", 1) ||
		    w->o.limit == w->o.used) {
			*w = before;
			w->o.cut++;
			return;
		}
		w->first = true;
		w->o.limit--; /* the brace behind it has its place kept */
	}
	if (fnd_map_iterate(line->context, line->context_bytes, pair, w) != 0)
		w->o.cut++; /* damaged: what could be read is there */
	if (!w->json)
		return;
	w->o.limit++;
	w->first = false;
	fnd_log_put(&w->o, "}", 1);
}

/* The empty map is no context: such lines are not what a search for error_context wants. */
static bool has_context(const struct fnd_log_line *line)
{
	return line->context_bytes > 1 ||
	       (line->context_bytes == 1 && *(const unsigned char *)line->context != 0x80);
}

/* --- a line --------------------------------------------------------------------------------------- */

static void number(struct writer *w, const char *key, uint64_t n)
{
	if (!key_begin(w, "", key, strlen(key)) || !fnd_log_put_u64(&w->o, n))
		w->o.cut++; /* not reached: the smallest line has room for all of these */
}

static void word(struct writer *w, const char *key, const char *text)
{
	if (!key_begin(w, "", key, strlen(key)) || !text_value(w, text, strlen(text), 64))
		w->o.cut++;
}

static void beginning(struct writer *w, const struct fnd_log_line *line)
{
	const char *level = fnd_log_level_name(line->level);

	key_begin(w, "", "time", 4);
	if (w->json)
		fnd_log_put(&w->o, "\"", 1);
	fnd_log_put_time(&w->o, line->time_ns);
	if (w->json)
		fnd_log_put(&w->o, "\"", 1);
	word(w, "level", level ? level : "debug");
}

static void identity(struct writer *w, const struct fnd_log_line *line)
{
	number(w, "pid", line->pid);
	number(w, "tid", line->tid);
	if (line->has_generation)
		number(w, "generation", line->generation);
	if (line->trace_id && line->trace_id[0])
		word(w, "trace_id", line->trace_id);
	if (line->span_id && line->span_id[0])
		word(w, "span_id", line->span_id);
	if (line->dropped)
		number(w, "log_dropped", line->dropped);
}

static void own_fields(struct writer *w, const struct fnd_log_line *line)
{
	for (size_t i = 0; i < line->fields_count; i++) {
		const struct fnd_field *f = &line->fields[i];
		size_t n = !f->key ? 0 : f->key_bytes ? f->key_bytes : strlen(f->key);

		if (f->key)
			member(w, is_ours(f->key, n) ? "field." : "", f, n);
		else
			w->o.cut++;
	}
}

size_t fnd_log_format_line(const struct fnd_log_line *line, enum fnd_log_form form, char *buf, size_t size,
			   unsigned int *ret_cut)
{
	struct writer w = { { buf, size - TAIL, 0, 0 }, form == FND_LOG_JSON, true, size / 4 };

	if (w.json)
		fnd_log_put(&w.o, "{", 1);
	beginning(&w, line);
	/* Who says it comes after the message for people, and has its place kept for programs. */
	w.o.limit = size / 2 + 64;
	if (!key_begin(&w, "", "message", 7) ||
	    !text_value(&w, line->message, line->message_bytes, size / 2 - 128))
		w.o.cut++;
	w.o.limit = size - TAIL;
	identity(&w, line);
	if (has_context(line))
		context(&w, line);
	own_fields(&w, line);
	w.o.limit = size - 2;
	if (w.o.cut)
		number(&w, "log_cut", w.o.cut);
	w.o.limit = size;
	fnd_log_put_text(&w.o, w.json ? "}\n" : "\n");
	*ret_cut = w.o.cut;
	return w.o.used;
}

int64_t fnd_log_format(const struct fnd_log_line *line, enum fnd_log_form form, char *buf, size_t size)
{
	unsigned int cut;

	if (!line || !line->message || !buf || size < SIZE_MIN || (form != FND_LOG_LOGFMT && form != FND_LOG_JSON) ||
	    (line->context_bytes && !line->context) || (line->fields_count && !line->fields))
		return -EINVAL;
	return (int64_t)fnd_log_format_line(line, form, buf, size < FND_LOG_LINE_MAX ? size : FND_LOG_LINE_MAX, &cut);
}
