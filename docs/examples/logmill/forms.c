/* SPDX-License-Identifier: MIT */
/*
 * The forms a log line comes in: who speaks, and what is said.
 *
 * Dates are recognised by a table of shapes, since "a date and a time at the beginning" has as many
 * spellings as there are programs. What matches no shape stays part of the line.
 */
#include "lines.h"

#include <stdio.h>
#include <string.h>
#include <xxhash.h>

/*
 * Shapes. '#' is a digit, 'd' one or two digits, 'M' a month's and 'W' a weekday's English name in three
 * letters, ' ' one or more blanks; anything else is itself. Where one shape begins another the longer
 * comes first.
 */
static const char *const dates[] = {
	"####-d-d",
	"####/d/d",
	"####.d.d",
	"########",
	"d/d/####",
	"d-d-####",
	"d.d.####",
	"d/d/##",
	"d-d-##",
	"d.d.##",
	"d/M/####",
	"d-M-####",
	"d M ####",
	"M d ####",
	"M d, ####",
	"M d",
	"d-d",
	"d/d",
	"d.d",
};

static const char *const times[] = { "d:##:##", "d:##" };

static const char *const zones[] = {
	"Z",
	"+##:##",
	"-##:##",
	"+####",
	"-####",
	"+##",
	"-##",
	" +####",
	" -####",
	" +##:##",
	" -##:##",
	" UTC",
	" GMT",
	" AM",
	" PM",
};

static const char months[] = "JanFebMarAprMayJunJulAugSepOctNovDec";
static const char weekdays[] = "MonTueWedThuFriSatSun";

#define LENGTH(a) (sizeof(a) / sizeof((a)[0]))

static int digit(const char *p, const char *end)
{
	return p < end && *p >= '0' && *p <= '9';
}

static int blank(const char *p, const char *end)
{
	return p < end && (*p == ' ' || *p == '\t');
}

static const char *blanks(const char *p, const char *end)
{
	while (blank(p, end))
		p++;
	return p;
}

static const char *word(const char *p, const char *end)
{
	while (p < end && !blank(p, end))
		p++;
	return p;
}

/* A name of three letters out of a list of them put end to end. */
static size_t name(const char *p, const char *end, const char *names)
{
	if (end - p < 3)
		return 0;
	for (; *names; names += 3) {
		if (memcmp(p, names, 3) == 0)
			return 3;
	}
	return 0;
}

static size_t shape_char(char c, const char *p, const char *end)
{
	switch (c) {
	case '#':
		return (size_t)digit(p, end);
	case 'd':
		return digit(p, end) ? 1 + (size_t)digit(p + 1, end) : 0;
	case 'M':
		return name(p, end, months);
	case 'W':
		return name(p, end, weekdays);
	case ' ':
		return (size_t)(blanks(p, end) - p);
	default:
		return p < end && *p == c;
	}
}

/* Where shape @s ends that begins at @p, or NULL. */
static const char *shape(const char *s, const char *p, const char *end)
{
	for (; *s; s++) {
		size_t n = shape_char(*s, p, end);

		if (!n)
			return NULL;
		p += n;
	}
	return p;
}

static int at_boundary(const char *p, const char *end)
{
	return p == end || blank(p, end) || *p == ']' || *p == ',' || *p == ':' || *p == '|';
}

/* A fraction of a second, a zone, and the year where asctime(3) puts it: all optional. */
static const char *time_tail(const char *p, const char *end, int year_may_follow)
{
	if (p < end && (*p == '.' || *p == ',' || *p == ':') && digit(p + 1, end)) {
		for (p++; digit(p, end);)
			p++;
	}
	for (size_t i = 0; i < LENGTH(zones); i++) {
		const char *q = shape(zones[i], p, end);

		if (q && at_boundary(q, end)) {
			p = q;
			break;
		}
	}
	if (year_may_follow) {
		const char *q = shape(" ####", p, end);

		if (q && at_boundary(q, end))
			p = q;
	}
	return p;
}

static const char *time_of_day(const char *p, const char *end, int year_may_follow)
{
	for (size_t i = 0; i < LENGTH(times); i++) {
		const char *q = shape(times[i], p, end);

		if (!q)
			continue;
		q = time_tail(q, end, year_may_follow);
		if (at_boundary(q, end))
			return q;
	}
	return NULL;
}

/* Where the date and time end that begin at @p, or NULL. */
static const char *date_and_time(const char *p, const char *end)
{
	const char *day = shape("W ", p, end);

	if (!day)
		day = shape("W, ", p, end);
	for (size_t i = 0; i < LENGTH(dates); i++) {
		const char *q = shape(dates[i], day ? day : p, end);

		if (!q)
			continue;
		if (blank(q, end))
			q = blanks(q, end);
		else if (q < end && memchr("T:-_", *q, 4))
			q++;
		else
			continue;
		q = time_of_day(q, end, day != NULL);
		if (q)
			return q;
	}
	return NULL;
}

/* Behind a leading date and time, in brackets or not, and the comma or colon some put behind it. */
static const char *skip_date_and_time(const char *p, const char *end)
{
	int bracket = p < end && *p == '[';
	const char *q = date_and_time(p + bracket, end);

	if (!q)
		return p;
	if (bracket) {
		if (q == end || *q != ']')
			return p;
		return q + 1;
	}
	if (q < end && (*q == ',' || *q == ':') && (q + 1 == end || blank(q + 1, end)))
		q++;
	return q == end || blank(q, end) ? q : p;
}

static void name_source(struct text first, struct text second, char source[SOURCE_MAX + 1])
{
	size_t len = first.len + 1 + second.len, n = first.len < SOURCE_MAX ? first.len : SOURCE_MAX;

	memcpy(source, first.at, n);
	if (n < SOURCE_MAX)
		source[n++] = '/';

	size_t rest = second.len < SOURCE_MAX - n ? second.len : SOURCE_MAX - n;

	memcpy(source + n, second.at, rest);
	n += rest;
	source[n] = '\0';
	if (len <= SOURCE_MAX && strlen(source) == len)
		return;

	/* Two long sources with one beginning must stay two: the digest is of the whole. */
	const XXH128_hash_t h =
		XXH3_128bits_withSeed(first.at, first.len, XXH3_64bits(second.at, second.len));
	const size_t keep = SOURCE_MAX - 33;

	n = n < keep ? n : keep;
	for (size_t i = 0; i < n; i++) {
		if (!source[i])
			source[i] = '?';
	}
	snprintf(source + n, 34, "#%016llx%016llx", (unsigned long long)h.high64,
		 (unsigned long long)h.low64);
}

static struct text between(const char *from, const char *to)
{
	return (struct text){ from, (size_t)(to - from) };
}

static int parse_syslog(struct text line, char *source, struct text *ret_message)
{
	const char *end = line.at + line.len;
	const char *host = shape("M d ##:##:## ", line.at, end);

	if (!host)
		return 0;

	const char *host_end = word(host, end), *tag = blanks(host_end, end), *tag_end = word(tag, end);

	/* The tag is PROGRAM[PID] or PROGRAM, and its colon is the last thing of its word. */
	if (host_end == host || tag_end - tag < 2 || tag_end[-1] != ':')
		return 0;
	name_source(between(host, host_end), between(tag, tag_end - 1), source);
	*ret_message = between(tag_end + blank(tag_end, end), end);
	return 1;
}

/* The first "@LINE] -" of @p: a thread's name may hold brackets, colons and digits, a message anything. */
static const char *line_number(const char *p, const char *end, const char **ret_message)
{
	for (const char *at = p; at < end && (at = memchr(at, '@', (size_t)(end - at))); at++) {
		const char *q = at + 1;

		if (q < end && *q == '?') /* what the logger prints when it does not know */
			q++;
		else
			while (digit(q, end))
				q++;
		if (q == at + 1 || end - q < 3 || memcmp(q, "] -", 3) != 0)
			continue;
		q += 3;
		if (q == end || blank(q, end)) {
			*ret_message = q + blank(q, end);
			return at;
		}
	}
	return NULL;
}

static int parse_zookeeper(const char *file, struct text line, char *source, struct text *ret_message)
{
	const char *end = line.at + line.len, *message;
	const char *p = date_and_time(line.at, end);

	if (!p || !(p = shape(" - ", p, end)))
		return 0;

	const char *level = p;

	while (p < end && *p >= 'A' && *p <= 'Z')
		p++;
	if (p == level || !blank(p, end))
		return 0;
	p = blanks(p, end);
	if (p == end || *p != '[')
		return 0;

	const char *at = line_number(p + 1, end, &message);

	if (!at)
		return 0;

	const char *colon = memrchr(p + 1, ':', (size_t)(at - p - 1));

	if (!colon || colon + 1 == at)
		return 0;
	name_source((struct text){ file, strlen(file) }, between(colon + 1, at), source);
	*ret_message = between(message, end);
	return 1;
}

static void parse_other(const char *file, struct text line, char *source, struct text *ret_message)
{
	const char *end = line.at + line.len;
	const char *p = skip_date_and_time(blanks(line.at, end), end);
	const char *first = blanks(p, end), *first_end = word(first, end);

	name_source((struct text){ file, strlen(file) }, between(first, first_end), source);
	*ret_message = between(blanks(first_end, end), end);
}

void line_parse(const char *file, struct text line, char source[SOURCE_MAX + 1],
		struct text *ret_message)
{
	if (parse_syslog(line, source, ret_message))
		return;
	if (parse_zookeeper(file, line, source, ret_message))
		return;
	parse_other(file, line, source, ret_message);
}
