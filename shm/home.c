// SPDX-License-Identifier: MIT
/*
 * Whether the pids in a segment mean anything here: same boot, same pid namespace.
 *
 * If not, the segment can still be taken over when nobody at all has it open: the kernel grants a write
 * lease on a fresh descriptor only then, whatever namespace others may live in.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <time.h>
#include <unistd.h>

#include "header.h"
#include "segment_map.h"

#ifndef F_SETSIG
#define F_SETSIG 10
#endif
#ifndef F_SETLEASE
#define F_SETLEASE 1024
#endif

static void boot_id(uint8_t id[16])
{
	char text[37] = "";
	int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
	unsigned int n = 0, high = 0;

	memset(id, 0, 16);
	if (fd < 0)
		return;
	if (read(fd, text, 36) != 36)
		text[0] = '\0';
	close(fd);
	for (const char *c = text; *c && n < 32; c++) {
		unsigned int v = *c >= '0' && *c <= '9' ? (unsigned int)(*c - '0') :
				 *c >= 'a' && *c <= 'f' ? (unsigned int)(*c - 'a') + 10 :
							  16;

		if (v == 16)
			continue;
		if (n++ % 2 == 0)
			high = v << 4;
		else
			id[n / 2 - 1] = (uint8_t)(high | v);
	}
}

int fnd_home_fill(struct fnd_shm_header *h)
{
	struct fnd_identity me;
	int err = fnd_identity_self(&me);

	if (err)
		return err;
	boot_id(h->boot_id);
	h->pidns_ino = me.pidns;
	h->timens_ino = me.timens;
	h->home_checksum = fnd_home_checksum(h);
	return 0;
}

int fnd_home_compare(const struct fnd_shm_header *h)
{
	static const uint8_t unknown[16];
	struct fnd_identity me;
	uint8_t boot[16];
	int err = fnd_identity_self(&me);

	if (err)
		return err;
	/* [SG-1] pairs with take_over: a home that is not whole has no matching checksum */
	if (fnd_home_check(h))
		return fnd_fail(FND_E_DIRTY,
				"a takeover was cut short and somebody still has the segment open");
	boot_id(boot);
	if (memcmp(boot, unknown, 16) != 0 && memcmp(h->boot_id, unknown, 16) != 0 &&
	    memcmp(boot, h->boot_id, 16) != 0)
		return fnd_fail(FND_E_DIRTY, "it was made in another boot and somebody has it open");
	if (h->pidns_ino != me.pidns)
		return fnd_fail(FND_E_PIDNS,
				"its pid namespace is %llu, here it is %u: run in the same one, or wait until "
				"nobody there has it open",
				(unsigned long long)h->pidns_ino, me.pidns);
	return 0;
}

bool fnd_lease_take(int fd)
{
	/* Who opens the file now sends a signal to the holder: one that is ignored by default. */
	fcntl(fd, F_SETSIG, SIGURG);
	if (fcntl(fd, F_SETLEASE, F_WRLCK) != 0)
		return false;
	fcntl(fd, F_SETOWN, 0);
	return true;
}

void fnd_lease_drop(int fd)
{
	fcntl(fd, F_SETLEASE, F_UNLCK);
}

void fnd_lease_nap(void)
{
	struct timespec ts = { 0, 1000000 + (long)((fnd_cycles() >> 4) % 8000000) };

	nanosleep(&ts, NULL);
}
