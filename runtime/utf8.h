/* SPDX-License-Identifier: MIT */
/* What is well-formed UTF-8: for text that goes into JSON, into log lines, into settings. */
#ifndef FOUNDATION_RUNTIME_UTF8_H
#define FOUNDATION_RUNTIME_UTF8_H

#include <stddef.h>

/* Length of the well-formed sequence at @p, of @n bytes: 1 to 4, 0: there is none. */
static inline size_t fnd_utf8_length(const unsigned char *p, size_t n)
{
	size_t len = p[0] < 0x80 ? 1 : p[0] >= 0xc2 && p[0] <= 0xdf ? 2 : (p[0] & 0xf0) == 0xe0 ? 3 :
		     p[0] >= 0xf0 && p[0] <= 0xf4 ? 4 : 0;

	if (len > n)
		return 0;
	for (size_t i = 1; i < len; i++)
		if ((p[i] & 0xc0) != 0x80)
			return 0;
	if ((p[0] == 0xe0 && p[1] < 0xa0) || (p[0] == 0xed && p[1] > 0x9f) || /* too long, surrogates */
	    (p[0] == 0xf0 && p[1] < 0x90) || (p[0] == 0xf4 && p[1] > 0x8f))
		return 0;
	return len;
}

#endif
