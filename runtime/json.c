// SPDX-License-Identifier: MIT
/* A writer that escapes, and a scanner that trusts no byte: bounded in depth and by the text's end. */
#include "json.h"

#include <stdio.h>
#include <stdlib.h>
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

/* Length of the UTF-8 sequence at @p, 0: none that is well-formed. */
static size_t utf8_length(const unsigned char *p, size_t n)
{
	size_t len = p[0] >= 0xc2 && p[0] <= 0xdf ? 2 : (p[0] & 0xf0) == 0xe0 ? 3 :
		     p[0] >= 0xf0 && p[0] <= 0xf4 ? 4 : 0;

	if (len == 0 || len > n)
		return 0;
	for (size_t i = 1; i < len; i++)
		if ((p[i] & 0xc0) != 0x80)
			return 0;
	if ((p[0] == 0xe0 && p[1] < 0xa0) || (p[0] == 0xed && p[1] > 0x9f) || (p[0] == 0xf0 && p[1] < 0x90) ||
	    (p[0] == 0xf4 && p[1] > 0x8f))
		return 0;
	return len;
}

static void add_quoted(struct fnd_json *j, const char *text, size_t n)
{
	const unsigned char *p = (const unsigned char *)text;
	char escape[8];

	add(j, "\"", 1);
	for (size_t i = 0; i < n;) {
		size_t len = p[i] < 0x80 ? 1 : utf8_length(p + i, n - i);

		if (p[i] == '"' || p[i] == '\\') {
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

static bool string(struct scan *s)
{
	if (!take(s, '"'))
		return false;
	while (s->at < s->end && *s->at != '"') {
		if ((unsigned char)*s->at < ' ')
			return false;
		s->at += *s->at == '\\' ? 2 : 1;
	}
	if (s->at >= s->end)
		return false;
	s->at++;
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
	const char *from;

	blanks(s);
	if (depth > DEPTH_MAX || s->at == s->end)
		return false;
	if (*s->at == '"')
		return string(s);
	if (*s->at == '{' || *s->at == '[') {
		char close = *s->at++ == '{' ? '}' : ']';

		return members(s, close, depth);
	}
	from = s->at;
	while (s->at < s->end && strchr("+-.0123456789abcdefghijklmnopqrstuvwxyzE", *s->at) && *s->at)
		s->at++;
	return s->at > from;
}

bool fnd_json_valid(const char *json, size_t bytes)
{
	struct scan s = { json, json + bytes };

	if (!value(&s, 0))
		return false;
	blanks(&s);
	return s.at == s.end;
}

/* The text between two quotes without its escapes; \u above 0xff becomes a question mark. */
static void unescape(const char *from, const char *end, char *to, size_t size)
{
	size_t n = 0;

	while (from < end && n + 1 < size) {
		char c = *from++;

		if (c == '\\' && from < end) {
			c = *from++;
			if (c == 'u' && end - from >= 4) {
				char hex[5] = { from[0], from[1], from[2], from[3], '\0' };
				unsigned long v = strtoul(hex, NULL, 16);

				c = v && v < 0x80 ? (char)v : '?';
				from += 4;
			} else if (c == 'n' || c == 't' || c == 'r') {
				c = c == 'n' ? '\n' : c == 't' ? '\t' : '\r';
			}
		}
		to[n++] = c;
	}
	to[n] = '\0';
}

bool fnd_json_member(const char *json, size_t bytes, unsigned int index, char *ret_key, size_t key_size,
		     const char **ret_at, size_t *ret_bytes)
{
	struct scan s = { json, json + bytes };

	if (!take(&s, '{'))
		return false;
	for (unsigned int i = 0;; i++) {
		const char *key, *key_end;

		blanks(&s);
		key = s.at + 1;
		if (!string(&s))
			return false;
		key_end = s.at - 1;
		if (!take(&s, ':'))
			return false;
		blanks(&s);
		*ret_at = s.at;
		if (!value(&s, 1))
			return false;
		*ret_bytes = (size_t)(s.at - *ret_at);
		if (i == index) {
			unescape(key, key_end, ret_key, key_size);
			return true;
		}
		if (!take(&s, ','))
			return false;
	}
}

bool fnd_json_find(const char *json, size_t bytes, const char *key, const char **ret_at, size_t *ret_bytes)
{
	char name[64];

	for (unsigned int i = 0; i < 1024 && fnd_json_member(json, bytes, i, name, sizeof(name), ret_at, ret_bytes);
	     i++)
		if (strcmp(name, key) == 0)
			return true;
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
