// SPDX-License-Identifier: MIT
#include "error.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static __thread char detail[256];

int fnd_error_set(int err, const char *fmt, ...)
{
	va_list ap;
	int saved = errno;

	va_start(ap, fmt);
	vsnprintf(detail, sizeof(detail), fmt, ap);
	va_end(ap);
	errno = saved;
	return err > 0 ? -err : err;
}

const char *fnd_error_detail(void)
{
	return detail;
}

static const struct {
	int err;
	const char *sentence;
} sentences[] = {
	{ FND_E_CORRUPT, "damaged: the bytes are not what the format says" },
	{ FND_E_FOREIGN, "the name is taken by something that is not a segment of ours" },
	{ FND_E_TOO_OLD, "the layout is older than this version reads" },
	{ FND_E_TOO_NEW, "the layout is newer than this version reads" },
	{ FND_E_LAYOUT, "the layout is of another build: word size, byte order or structure differ" },
	{ FND_E_DIRTY, "left from another boot or a takeover that was cut short, and still open somewhere" },
	{ FND_E_PIDNS, "its participants live in another pid namespace" },
	{ FND_E_NOSLOT, "every slot is taken by a living owner" },
	{ FND_E_FORKED, "the handle belongs to the parent process: attach again in the child" },
	{ FND_E_GARBAGE, "a stopped reader holds back too much memory" },
	{ FND_E_FENCED, "this process may not call membarrier: it may read here, not write" },
	{ FND_E_LIMITS, "the table exists with other limits" },
	{ FND_E_GONE, "the segment was destroyed" },
	{ ENOENT, "no such entry" },
	{ EEXIST, "exists already" },
	{ EINVAL, "invalid argument" },
	{ ENOSPC, "no space left" },
	{ ETIMEDOUT, "timed out" },
	{ EDEADLK, "would wait for itself" },
	{ EBUSY, "in use" },
	{ EACCES, "permission denied" },
	{ EPERM, "not permitted" },
	{ ENOMEM, "out of memory" },
	{ E2BIG, "too large" },
	{ ENOBUFS, "the buffer is too small" },
	{ ESRCH, "no such participant" },
	{ EMFILE, "too many" },
	{ EIO, "input or output error" },
};

const char *fnd_strerror(int err)
{
	unsigned int code = err < 0 ? 0u - (unsigned int)err : (unsigned int)err;
	static __thread char unknown[32];

	if (code == 0)
		return "fine";
	for (size_t i = 0; i < sizeof(sentences) / sizeof(sentences[0]); i++)
		if ((unsigned int)sentences[i].err == code)
			return sentences[i].sentence;
	/* GNU's: a constant string for what it knows */
	return code < 4096 ? strerror_r((int)code, unknown, sizeof(unknown)) : "unknown error";
}

const char *fnd_version(void)
{
	return FND_VERSION_STRING;
}
