/* SPDX-License-Identifier: MIT */
/*
 * Masking: a message becomes its template.
 *
 * The three substitutions are regular expressions, and a regex library run on every line would cost more
 * than all the rest of the program. They are simple enough to be scanned by hand in linear time:
 *
 *   - An address has a group of digits before each dot, which must be the whole run of digits, as what
 *     follows it is a dot. Only its last group may end inside a run. So there is never a choice between
 *     two matches from one start.
 *   - Both forms of a hexadecimal number consist of word characters alone, and \b stands at both ends:
 *     a match is always a whole word, the longest run of [A-Za-z0-9_]. A word that is a number is
 *     replaced whole, and any other keeps its letters and loses its runs of digits to the third
 *     substitution. Digits occur in words only, so the second and the third take one walk.
 *
 * The second works on the output of the first, where the tag's angle brackets end a word:
 * "deadbeef10.0.0.1" is "deadbeef<ip>", then "<hex><ip>".
 */
#include "lines.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define DIGIT 1
#define HEX 2
#define WORD 4

/* The C locale: bytes above 127 belong to no class. */
static const unsigned char class_of[256] = {
	['0' ... '9'] = DIGIT | HEX | WORD,
	['a' ... 'f'] = HEX | WORD,
	['g' ... 'z'] = WORD,
	['A' ... 'F'] = HEX | WORD,
	['G' ... 'Z'] = WORD,
	['_'] = WORD,
};

static int is(char c, unsigned char class)
{
	return class_of[(unsigned char)c] & class;
}

/* How many bytes from @p on are of the class, at most @max. */
static size_t run(const char *p, const char *end, unsigned char class, size_t max)
{
	size_t n = 0;

	while (n < max && p + n < end && is(p[n], class))
		n++;
	return n;
}

/* The length of the address that starts exactly at @p, 0: none does. */
static size_t address(const char *p, const char *end)
{
	const char *q = p;

	for (int group = 0; group < 3; group++) {
		size_t n = run(q, end, DIGIT, 3);

		if (!n || q + n == end || q[n] != '.')
			return 0;
		q += n + 1;
	}

	size_t last = run(q, end, DIGIT, 3);

	if (!last)
		return 0;
	q += last;

	size_t port = q < end && *q == ':' ? run(q + 1, end, DIGIT, SIZE_MAX) : 0;

	return (size_t)(q - p) + (port ? port + 1 : 0);
}

static char *put(char *out, const char *bytes, size_t len)
{
	memcpy(out, bytes, len);
	return out + len;
}

/* First substitution. The output is never longer than the input. */
static size_t mask_addresses(struct text in, char *out)
{
	const char *p = in.at, *end = in.at + in.len;
	char *o = out;

	while (p < end) {
		size_t n = is(*p, DIGIT) ? address(p, end) : 0;

		if (n) {
			o = put(o, "<ip>", 4);
			p += n;
		} else {
			*o++ = *p++;
		}
	}
	return (size_t)(o - out);
}

static int is_number(const char *word, size_t len)
{
	const char *end = word + len;

	if (len > 2 && word[0] == '0' && word[1] == 'x')
		return run(word + 2, end, HEX, len) == len - 2;
	return len >= 8 && run(word, end, HEX, len) == len;
}

static char *mask_digits(const char *p, const char *end, char *o)
{
	while (p < end) {
		size_t n = run(p, end, DIGIT, SIZE_MAX);

		if (n) {
			o = put(o, "<n>", 3);
			p += n;
		} else {
			*o++ = *p++;
		}
	}
	return o;
}

/* Second and third substitution. The output is at most three times as long as the input. */
static size_t mask_words(struct text in, char *out)
{
	const char *p = in.at, *end = in.at + in.len;
	char *o = out;

	while (p < end) {
		size_t n = run(p, end, WORD, SIZE_MAX);

		if (!n)
			*o++ = *p++;
		else if (is_number(p, n))
			o = put(o, "<hex>", 5);
		else
			o = mask_digits(p, p + n, o);
		p += n;
	}
	return (size_t)(o - out);
}

int mask_message(struct text message, struct mask_buffer *buffer, struct text *ret_template)
{
	size_t need = message.len * 4 + 1; /* the first pass's output, then the second's */

	if (buffer->room < need) {
		char *p = realloc(buffer->bytes, need);

		if (!p)
			return -ENOMEM;
		buffer->bytes = p;
		buffer->room = need;
	}

	struct text between = { buffer->bytes, mask_addresses(message, buffer->bytes) };
	char *out = buffer->bytes + message.len;

	*ret_template = (struct text){ out, mask_words(between, out) };
	return 0;
}

void mask_free(struct mask_buffer *buffer)
{
	free(buffer->bytes);
	*buffer = (struct mask_buffer){ 0 };
}
