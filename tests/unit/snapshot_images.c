// SPDX-License-Identifier: MIT
/* Making snapshots in memory, and reading them in two ways. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "snapshot_images.h"

unsigned int failures;
unsigned long checks;

const struct fnd_snapshot_info head = {
	.created_ns = 1700000000123456789ull,
	.segment = "1000/orders",
	.uuid = { 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16 },
	.creator = "0.1.0",
	.default_capacity = 16384,
	.max_bytes = 1ull << 30,
	.processes = 256,
	.threads = 1024,
	.sample_every = 1024,
};
const struct fnd_snapshot_table plain = { "plain", 0, 255, 65536, 1000 };
const struct fnd_snapshot_table owned = { "agents", FND_TABLE_OWNED, 64, 528, 300 };
const struct fnd_snapshot_table empty = { "empty", FND_TABLE_FIXED, 8, 0, 5000000000ull };

int memory_file(void)
{
	int fd = memfd_create("snapshot", MFD_CLOEXEC);

	if (fd < 0) {
		perror("memfd_create");
		exit(1);
	}
	return fd;
}

static struct image take_image(int fd)
{
	struct image im = { .bytes = (size_t)lseek(fd, 0, SEEK_END) };

	im.p = malloc(im.bytes ? im.bytes : 1);
	if (!im.p || pread(fd, im.p, im.bytes, 0) != (ssize_t)im.bytes) {
		perror("reading back");
		exit(1);
	}
	close(fd);
	return im;
}

void begin(struct fnd_snapshot_writer *w)
{
	CHECK(!fnd_snapshot_writer_start(w, memory_file(), &head), "start");
}

struct image end(struct fnd_snapshot_writer *w)
{
	CHECK(!fnd_snapshot_writer_finish(w, 0, NULL), "finish");
	fnd_snapshot_writer_free(w);
	return take_image(w->fd);
}

void put(struct fnd_snapshot_writer *w, const void *key, size_t key_bytes, const void *value,
	 size_t value_bytes, const struct fnd_owner *owner)
{
	struct fnd_snapshot_record r = { key, key_bytes, value, value_bytes, owner, 0, 0 };

	CHECK(!fnd_snapshot_writer_record(w, &r), "record of %zu + %zu", key_bytes, value_bytes);
}

/* Small, and with one of everything: header, definitions, two blocks of records, footer. */
struct image small_image(void)
{
	struct fnd_owner o = { 4242, 7, 300, 0 };
	struct fnd_snapshot_writer w;

	begin(&w);
	fnd_snapshot_writer_table(&w, &plain);
	put(&w, "alpha", 5, "one", 3, NULL);
	put(&w, "beta", 4, NULL, 0, NULL);
	fnd_snapshot_writer_table(&w, &empty);
	fnd_snapshot_writer_table(&w, &owned);
	put(&w, "db/primary", 10, "\0\1\2", 3, &o);
	return end(&w);
}

int parse(const struct image *im, const struct fnd_snapshot_visitor *v, struct fnd_snapshot_info *ret_info,
	  size_t *ret_peak)
{
	struct fnd_snapshot_source src = { .fd = -1, .mem = im->p, .size = im->bytes };
	int err = fnd_snapshot_parse(&src, v, ret_info);

	if (ret_peak)
		*ret_peak = src.peak;
	return err;
}

/* Feeds an image through a pipe, in pieces of an odd size. */
int through_pipe(const struct image *im, struct fnd_snapshot_info *ret_info)
{
	int p[2], status, err;
	pid_t pid;

	if (pipe(p) || (pid = fork()) < 0)
		return -errno;
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		close(p[0]);
		for (size_t off = 0; off < im->bytes;) {
			size_t n = im->bytes - off < 777 ? im->bytes - off : 777;

			if (write(p[1], im->p + off, n) != (ssize_t)n)
				_exit(1);
			off += n;
		}
		_exit(0);
	}
	close(p[1]);
	err = fnd_snapshot_verify(p[0], ret_info);
	close(p[0]);
	waitpid(pid, &status, 0);
	return err;
}

bool starts(const char *with)
{
	return !strncmp(fnd_error_detail(), with, strlen(with));
}
