// SPDX-License-Identifier: MIT
/*
 * The journal on hostile files: reading, then appending, which cuts tails and rotates.
 *
 * The first byte chooses. Bit 0: the rest is a list of {length 8 bits, JSON} that get their checksums right;
 * without that nothing gets past them. Bit 1: a limit so small that appending rotates.
 */
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "journal_internal.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

static char state[64], file[128];

static void clean(void)
{
	struct fnd_journal *j;

	if (fnd_journal_open("f", NULL, &j) == 0) {
		fnd_journal_purge(j);
		fnd_journal_close(j);
	}
	rmdir(state);
}

static void make(void)
{
	snprintf(state, sizeof(state), "/dev/shm/fuzz-journal-XXXXXX"); /* where a sync costs nothing */
	if (!mkdtemp(state) || setenv("FOUNDATION_STATE_DIR", state, 1) || atexit(clean))
		__builtin_trap();
	snprintf(file, sizeof(file), "%s/f/journal", state);
}

static void put_wrapped(int fd, const uint8_t *p, size_t bytes)
{
	while (bytes > 1) {
		size_t n = p[0] < bytes - 1 ? p[0] : bytes - 1;
		char crc[16];

		snprintf(crc, sizeof(crc), "%08x ", fnd_journal_crc((const char *)p + 1, n));
		if (write(fd, crc, 9) != 9 || write(fd, p + 1, n) != (ssize_t)n || write(fd, "\n", 1) != 1)
			__builtin_trap();
		p += n + 1;
		bytes -= n + 1;
	}
}

struct seen {
	unsigned int count;
	size_t touched;
};

static int touch(const struct fnd_journal_record *r, void *arg)
{
	struct seen *s = arg;

	if (strlen(r->json) != r->json_bytes || strlen(r->type) > 63 || r->json_bytes > FND_JOURNAL_RECORD_MAX)
		__builtin_trap();
	s->count++;
	s->touched += r->json_bytes + r->n + r->at_ns;
	return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
	struct fnd_journal_options opt = { .size = sizeof(opt), .keep = 2 };
	struct seen before = { 0 }, after = { 0 };
	char dir[96];
	struct fnd_journal *j;
	uint64_t n = 0;
	int fd;

	if (!bytes)
		return 0;
	if (!state[0])
		make();
	snprintf(dir, sizeof(dir), "%s/f", state);
	mkdir(dir, 0700);
	fd = open(file, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	if (fd < 0)
		__builtin_trap();
	if (data[0] & 1)
		put_wrapped(fd, data + 1, bytes - 1);
	else if (write(fd, data + 1, bytes - 1) != (ssize_t)bytes - 1)
		__builtin_trap();
	close(fd);
	opt.max_bytes = data[0] & 2 ? 16 : 0;
	if (fnd_journal_open("f", &opt, &j))
		__builtin_trap();
	if (fnd_journal_read(j, touch, &before, NULL) || fnd_journal_append(j, "fuzz", "\"a\":1", &n) ||
	    fnd_journal_read(j, touch, &after, NULL))
		__builtin_trap();
	if (after.count < before.count + 1 && n > 1 && n != UINT64_MAX) /* numbers that fit were there: nothing is lost */
		__builtin_trap();
	fnd_journal_purge(j);
	fnd_journal_close(j);
	return 0;
}
