// SPDX-License-Identifier: MIT
/* A writer that escapes, and a scanner that trusts no byte: bounded in depth and by the text's end. */
#include "json.h"
#include "utf8.h"

#include <stdio.h>
#include <string.h>

#define DEPTH_MAX 16

/* --- writing -------------------------------------------------------------------------------------- */

static void add(struct fnd_json *j, const char *bytes, size_t n)
{
	if (j->full || n >= j->size - j->used) {
		j->full = true;
		return;
	}
	memcpy(j->buf + j->used, bytes, n);
	j->used += n;
	j->buf[j->used] = '\0';
}

void fnd_json_raw(struct fnd_json *j, const char *raw)
{
	add(j, raw, strlen(raw));
}

static void add_quoted(struct fnd_json *j, const char *text, size_t n)
{
	const unsigned char *p = (const unsigned char *)text;
	char escape[8];

	add(j, "\"", 1);
	for (size_t i = 0; i < n;) {
		size_t len = p[i] < 0x80 ? 1 : fnd_utf8_length(p + i, n - i);

		if (p[i] == '\0') { /* readers of JSON refuse it */
			add(j, "\xef\xbf\xbd", 3);
			i++;
		} else if (p[i] == '"' || p[i] == '\\') {
			snprintf(escape, sizeof(escape), "\\%c", p[i]);
			add(j, escape, 2);
			i++;
		} else if (p[i] < ' ' || p[i] == 0x7f) {
			snprintf(escape, sizeof(escape), "\\u%04x", p[i]);
			add(j, escape, 6);
			i++;
		} else if (len == 0) { /* not UTF-8: the replacement character */
			add(j, "\xef\xbf\xbd", 3);
			i++;
		} else {
			add(j, text + i, len);
			i += len;
		}
	}
	add(j, "\"", 1);
}

void fnd_json_quoted(struct fnd_json *j, const char *text, size_t bytes)
{
	add_quoted(j, text, bytes);
}

void fnd_json_key(struct fnd_json *j, const char *key)
{
	char last = j->used ? j->buf[j->used - 1] : '{';

	if (last != '{' && last != '[' && last != ':')
		add(j, ",", 1);
	if (!key)
		return;
	add_quoted(j, key, strlen(key));
	add(j, ":", 1);
}

void fnd_json_text_n(struct fnd_json *j, const char *key, const char *text, size_t bytes)
{
	fnd_json_key(j, key);
	add_quoted(j, text, bytes);
}

void fnd_json_text(struct fnd_json *j, const char *key, const char *text)
{
	fnd_json_text_n(j, key, text, strlen(text));
}

void fnd_json_number(struct fnd_json *j, const char *key, uint64_t n)
{
	char digits[24];

	fnd_json_key(j, key);
	snprintf(digits, sizeof(digits), "%llu", (unsigned long long)n);
	fnd_json_raw(j, digits);
}

/* --- reading -------------------------------------------------------------------------------------- */

struct scan {
	const char *at, *end;
};

static void blanks(struct scan *s)
{
	while (s->at < s->end && (*s->at == ' ' || *s->at == '\t'))
		s->at++;
}

static bool take(struct scan *s, char c)
{
	blanks(s);
	if (s->at == s->end || *s->at != c)
		return false;
	s->at++;
	return true;
}

static int hex_digit(char c)
{
	return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 :
	       c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/* Four hexadecimal digits, or -1. */
static int hex4(const char *at, const char *end)
{
	int v = 0;

	if (end - at < 4)
		return -1;
	for (int i = 0; i < 4; i++) {
		int d = hex_digit(at[i]);

		if (d < 0)
			return -1;
		v = v << 4 | d;
	}
	return v;
}

/* What follows a backslash: its length, 0: none that JSON has. */
static size_t escape_length(const char *at, const char *end)
{
	int unit;

	if (at == end)
		return 0;
	if (*at != 'u')
		return *at && strchr("\"\\/bfnrt", *at) ? 1 : 0;
	unit = hex4(at + 1, end);
	if (unit <= 0 || (unit >= 0xdc00 && unit <= 0xdfff))
		return 0;
	if (unit < 0xd800 || unit > 0xdbff)
		return 5;
	if (end - at < 11 || at[5] != '\\' || at[6] != 'u')
		return 0;
	unit = hex4(at + 7, end);
	return unit >= 0xdc00 && unit <= 0xdfff ? 11 : 0;
}

static bool string(struct scan *s)
{
	if (!take(s, '"'))
		return false;
	while (s->at < s->end && *s->at != '"') {
		const unsigned char c = (unsigned char)*s->at;
		size_t n = c == '\\' ? escape_length(s->at + 1, s->end) :
			   c < 0x80 ? c >= ' ' : fnd_utf8_length((const uint8_t *)s->at, (size_t)(s->end - s->at));

		if (n == 0)
			return false;
		s->at += n + (c == '\\');
	}
	return take(s, '"');
}

static bool digits(struct scan *s)
{
	const char *from = s->at;

	while (s->at < s->end && *s->at >= '0' && *s->at <= '9')
		s->at++;
	return s->at > from;
}

static bool number(struct scan *s)
{
	const char *from;

	s->at += s->at < s->end && *s->at == '-';
	from = s->at;
	if (!digits(s) || (*from == '0' && s->at - from > 1))
		return false;
	if (s->at < s->end && *s->at == '.') {
		s->at++;
		if (!digits(s))
			return false;
	}
	if (s->at < s->end && (*s->at == 'e' || *s->at == 'E')) {
		s->at++;
		s->at += s->at < s->end && (*s->at == '+' || *s->at == '-');
		return digits(s);
	}
	return true;
}

static bool word(struct scan *s, const char *text)
{
	size_t n = strlen(text);

	if ((size_t)(s->end - s->at) < n || memcmp(s->at, text, n) != 0)
		return false;
	s->at += n;
	return true;
}

static bool value(struct scan *s, int depth);

static bool members(struct scan *s, char close, int depth)
{
	if (take(s, close))
		return true;
	do {
		if (close == '}' && (!string(s) || !take(s, ':')))
			return false;
		if (!value(s, depth + 1))
			return false;
	} while (take(s, ','));
	return take(s, close);
}

static bool value(struct scan *s, int depth)
{
	blanks(s);
	if (depth > DEPTH_MAX || s->at == s->end)
		return false;
	if (*s->at == '"')
		return string(s);
	if (*s->at == '{' || *s->at == '[') {
		char close = *s->at++ == '{' ? '}' : ']';

		return members(s, close, depth);
	}
	return word(s, "true") || word(s, "false") || word(s, "null") || number(s);
}

bool fnd_json_valid(const char *json, size_t bytes)
{
	struct scan s = { json, json + bytes };

	if (!value(&s, 0))
		return false;
	blanks(&s);
	return s.at == s.end;
}

static size_t put_utf8(unsigned int c, char out[4])
{
	if (c < 0x80) {
		out[0] = (char)c;
		return 1;
	}
	if (c < 0x800) {
		out[0] = (char)(0xc0 | c >> 6);
		out[1] = (char)(0x80 | (c & 0x3f));
		return 2;
	}
	if (c < 0x10000) {
		out[0] = (char)(0xe0 | c >> 12);
		out[1] = (char)(0x80 | (c >> 6 & 0x3f));
		out[2] = (char)(0x80 | (c & 0x3f));
		return 3;
	}
	out[0] = (char)(0xf0 | c >> 18);
	out[1] = (char)(0x80 | (c >> 12 & 0x3f));
	out[2] = (char)(0x80 | (c >> 6 & 0x3f));
	out[3] = (char)(0x80 | (c & 0x3f));
	return 4;
}

/* One escape, of @n bytes after its backslash (escape_length()), as UTF-8. */
static size_t put_escape(const char *at, size_t n, char out[4])
{
	static const char from[] = "bfnrt", to[] = "\b\f\n\r\t";
	const char *which;
	unsigned int c;

	if (n == 1) {
		which = strchr(from, *at);
		out[0] = which ? to[which - from] : *at;
		return 1;
	}
	c = (unsigned int)hex4(at + 1, at + n);
	if (n == 11)
		c = 0x10000 + ((c & 0x3ff) << 10 | ((unsigned int)hex4(at + 7, at + n) & 0x3ff));
	return put_utf8(c, out);
}

/* The text between two quotes without its escapes; what does not fit is cut between characters. */
static void unescape(const char *from, const char *end, char *to, size_t size)
{
	size_t used = 0;

	while (from < end) {
		size_t n = *from == '\\' ? escape_length(from + 1, end) : 0, put = 1;
		char out[4] = { *from };

		if (n)
			put = put_escape(from + 1, n, out);
		else if ((unsigned char)*from >= 0x80)
			put = fnd_utf8_length((const unsigned char *)from, (size_t)(end - from));
		if (put == 0 || used + put >= size)
			break;
		memcpy(to + used, n ? out : from, put);
		used += put;
		from += n ? n + 1 : put;
	}
	if (size)
		to[used] = '\0';
}

/* A member, and the comma behind it if there is one; s stands at its key. */
static bool member(struct scan *s, struct scan *ret_key, struct scan *ret_value)
{
	blanks(s);
	ret_key->at = s->at + 1;
	if (!string(s))
		return false;
	ret_key->end = s->at - 1;
	if (!take(s, ':'))
		return false;
	blanks(s);
	ret_value->at = s->at;
	if (!value(s, 1))
		return false;
	ret_value->end = s->at;
	return true;
}

bool fnd_json_member(const char *json, size_t bytes, unsigned int index, char *ret_key, size_t key_size,
		     const char **ret_at, size_t *ret_bytes)
{
	struct scan s = { json, json + bytes }, key, v;

	if (!take(&s, '{'))
		return false;
	for (unsigned int i = 0; member(&s, &key, &v); i++) {
		if (i == index) {
			unescape(key.at, key.end, ret_key, key_size);
			*ret_at = v.at;
			*ret_bytes = (size_t)(v.end - v.at);
			return true;
		}
		if (!take(&s, ','))
			return false;
	}
	return false;
}

static bool key_is(const struct scan *key, const char *name)
{
	size_t n = (size_t)(key->end - key->at);
	char text[256];

	if (!memchr(key->at, '\\', n))
		return n == strlen(name) && memcmp(key->at, name, n) == 0;
	if (n >= sizeof(text))
		return false;
	unescape(key->at, key->end, text, sizeof(text));
	return strcmp(text, name) == 0;
}

bool fnd_json_find(const char *json, size_t bytes, const char *key, const char **ret_at, size_t *ret_bytes)
{
	struct scan s = { json, json + bytes }, name, v;

	if (!take(&s, '{'))
		return false;
	do {
		if (!member(&s, &name, &v))
			return false;
		if (key_is(&name, key)) {
			*ret_at = v.at;
			*ret_bytes = (size_t)(v.end - v.at);
			return true;
		}
	} while (take(&s, ','));
	return false;
}

bool fnd_json_get_number(const char *json, size_t bytes, const char *key, uint64_t *ret_n)
{
	uint64_t n = 0;
	const char *at;
	size_t len;

	if (!fnd_json_find(json, bytes, key, &at, &len) || len == 0 || len > 20)
		return false;
	for (size_t i = 0; i < len; i++) {
		if (at[i] < '0' || at[i] > '9' || n > (UINT64_MAX - (uint64_t)(at[i] - '0')) / 10)
			return false;
		n = n * 10 + (uint64_t)(at[i] - '0');
	}
	*ret_n = n;
	return true;
}

bool fnd_json_get_text(const char *json, size_t bytes, const char *key, char *ret_text, size_t size)
{
	const char *at;
	size_t len;

	if (!fnd_json_find(json, bytes, key, &at, &len) || len < 2 || *at != '"')
		return false;
	unescape(at + 1, at + len - 1, ret_text, size);
	return true;
}
