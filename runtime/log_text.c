// SPDX-License-Identifier: MIT
/* Text that is cut rather than overrun, and escaped so that no value can begin a line or a field. */
#include "log_internal.h"
#include "utf8.h"

#include <stdio.h>
#include <string.h>

#define MARK "\xe2\x80\xa6" /* … */
#define REPLACEMENT "\xef\xbf\xbd"

/* The digits of @n, at least @width of them; returns how many. */
static size_t digits(char to[20], uint64_t n, size_t width)
{
	char text[20];
	size_t at = sizeof(text);

	do {
		text[--at] = (char)('0' + n % 10);
		n /= 10;
	} while (n);
	while (sizeof(text) - at < width)
		text[--at] = '0';
	memcpy(to, text + at, sizeof(text) - at);
	return sizeof(text) - at;
}

bool fnd_log_put_u64(struct fnd_log_out *o, uint64_t n)
{
	char text[20];

	return fnd_log_put(o, text, digits(text, n, 1));
}

bool fnd_log_put_i64(struct fnd_log_out *o, int64_t n)
{
	char text[21] = "-";

	if (n >= 0)
		return fnd_log_put_u64(o, (uint64_t)n);
	return fnd_log_put(o, text, 1 + digits(text + 1, 0 - (uint64_t)n, 1));
}

bool fnd_log_is_finite(double d)
{
	return d - d == 0;
}

/* Enough digits to read the same number back; the point is a point in every locale. */
bool fnd_log_put_double(struct fnd_log_out *o, double d)
{
	char text[40];

	if (d != d)
		return fnd_log_put_text(o, "NaN");
	if (!fnd_log_is_finite(d))
		return fnd_log_put_text(o, d > 0 ? "Infinity" : "-Infinity");
	for (int precision = 15; precision <= 17; precision++) {
		double again = 0;

		snprintf(text, sizeof(text), "%.*g", precision, d);
		if (sscanf(text, "%lf", &again) == 1 && memcmp(&again, &d, sizeof(d)) == 0)
			break;
	}
	for (char *p = text; *p; p++)
		if (!(*p >= '0' && *p <= '9') && *p != '-' && *p != '+' && *p != 'e')
			*p = '.';
	return fnd_log_put_text(o, text);
}

/* --- escaping ------------------------------------------------------------------------------------- */

/*
 * What stands for the sequence at @p in escaped text. Escaped are quotes, and whatever a terminal or a reader
 * of lines takes for more than text: C0, DEL, C1, and the separators U+2028 and U+2029.
 */
static size_t escape(const unsigned char *p, size_t len, char to[8])
{
	static const char hex[] = "0123456789abcdef";
	unsigned int c = p[0];

	if (len == 2 && p[0] == 0xc2 && p[1] < 0xa0)
		c = p[1];
	else if (len == 3 && p[0] == 0xe2 && p[1] == 0x80 && (p[2] == 0xa8 || p[2] == 0xa9))
		c = 0x2000u | (p[2] & 0x3fu);
	else if (len > 1 || (c >= ' ' && c != '"' && c != '\\' && c != 0x7f))
		return 0;
	to[0] = '\\';
	to[1] = c == '\n' ? 'n' : c == '\r' ? 'r' : c == '\t' ? 't' : c == '"' || c == '\\' ? (char)c : 'u';
	if (to[1] != 'u')
		return 2;
	for (int i = 0; i < 4; i++)
		to[2 + i] = hex[(c >> (12 - 4 * i)) & 15];
	return 6;
}

/* How many bytes from @p on can be copied as they are. */
static size_t plain(const unsigned char *p, size_t n)
{
	size_t i = 0;

	while (i < n && p[i] >= ' ' && p[i] < 0x7f && p[i] != '"' && p[i] != '\\')
		i++;
	return i;
}

static bool cut_here(struct fnd_log_out *o)
{
	o->cut++;
	return fnd_log_put(o, MARK, sizeof(MARK) - 1);
}

bool fnd_log_put_value(struct fnd_log_out *o, const char *s, size_t n, enum fnd_log_quoting quoting,
		       size_t budget)
{
	const unsigned char *p = (const unsigned char *)s;
	size_t room = o->limit - o->used < budget ? o->limit - o->used : budget, end;

	if (room < sizeof(MARK) - 1)
		return n == 0;
	end = o->used + room - (sizeof(MARK) - 1); /* the mark has its place kept */
	for (size_t i = 0; i < n;) {
		size_t run = plain(p + i, n - i), len;
		char to[8];

		if (run > 0) {
			size_t fits = run < end - o->used ? run : end - o->used;

			fnd_log_put(o, s + i, fits);
			if (fits < run)
				return cut_here(o);
			i += run;
			continue;
		}
		len = fnd_utf8_length(p + i, n - i);
		run = len && quoting == FND_QUOTE_ESCAPED ? escape(p + i, len, to) : 0;
		if ((run ? run : len ? len : sizeof(REPLACEMENT) - 1) > end - o->used)
			return cut_here(o);
		if (run)
			fnd_log_put(o, to, run);
		else
			fnd_log_put(o, len ? s + i : REPLACEMENT, len ? len : sizeof(REPLACEMENT) - 1);
		i += len ? len : 1;
	}
	return true;
}

/* --- time ----------------------------------------------------------------------------------------- */

/*
 * Own arithmetic: gmtime_r() takes the lock of the time zone, which a fork may have left taken for ever.
 * After Howard Hinnant, "chrono-compatible low-level date algorithms": civil_from_days.
 */
bool fnd_log_put_time(struct fnd_log_out *o, uint64_t time_ns)
{
	uint64_t seconds = time_ns / 1000000000u, of_day = seconds % 86400, z = seconds / 86400 + 719468;
	uint64_t era = z / 146097, doe = z % 146097;
	uint64_t yoe = (doe - doe / 1460 + doe / 36524 - doe / 146096) / 365;
	uint64_t doy = doe - (365 * yoe + yoe / 4 - yoe / 100), mp = (5 * doy + 2) / 153;
	uint64_t day = doy - (153 * mp + 2) / 5 + 1, month = mp < 10 ? mp + 3 : mp - 9;
	char text[40];
	size_t n = digits(text, yoe + era * 400 + (month <= 2), 4);

	text[n++] = '-';
	n += digits(text + n, month, 2);
	text[n++] = '-';
	n += digits(text + n, day, 2);
	text[n++] = 'T';
	n += digits(text + n, of_day / 3600, 2);
	text[n++] = ':';
	n += digits(text + n, of_day / 60 % 60, 2);
	text[n++] = ':';
	n += digits(text + n, of_day % 60, 2);
	text[n++] = '.';
	n += digits(text + n, time_ns % 1000000000u, 9);
	text[n++] = 'Z';
	return fnd_log_put(o, text, n);
}
