// SPDX-License-Identifier: MIT
/* Preloaded into shmdump: the fsync whose number is in FAIL_FSYNC fails with EIO. */
#define _GNU_SOURCE
#include <errno.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

int fsync(int fd)
{
	static int calls;
	const char *which = getenv("FAIL_FSYNC");

	if (which && ++calls == atoi(which)) {
		errno = EIO;
		return -1;
	}
	return (int)syscall(SYS_fsync, fd);
}
