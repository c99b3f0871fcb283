// SPDX-License-Identifier: MIT
/* Keys and values, and damage that the library has met: the same in a made-up world and in the real one. */
#include <stdarg.h>
#include <stdio.h>

#include "world.h"

static unsigned int corruptions;

int __real_fnd_error_set(int err, const char *fmt, ...);
int __wrap_fnd_error_set(int err, const char *fmt, ...);

int __wrap_fnd_error_set(int err, const char *fmt, ...)
{
	char text[200];
	va_list ap;

	corruptions += err == FND_E_CORRUPT || err == -FND_E_CORRUPT;
	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	return __real_fnd_error_set(err, "%s", text);
}

unsigned int world_corruptions(void)
{
	unsigned int n = corruptions;

	corruptions = 0;
	return n;
}

size_t key_of(uint32_t k, char buf[16])
{
	return (size_t)snprintf(buf, 16, "k%07u", k);
}

size_t value_of(uint32_t k, uint32_t version, char buf[32])
{
	return (size_t)snprintf(buf, 32, "%05u.%u", k, version); /* of differing lengths */
}
