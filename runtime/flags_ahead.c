// SPDX-License-Identifier: MIT
/*
 * Changes that are journalled before they are stored.
 *
 * One at a time, by flock(2) on the journal's directory: the kernel frees it when its holder dies, and then the
 * journal may tell of a change that nobody has made. `flags_ahead` says that it may; the next who gets the lock
 * writes what is in force, and the number that is taken back. A rollback never waits here.
 */
#include "flags_internal.h"
#include "journal_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define NAP_NS 2000000
#define NAPS 2500 /* 5 s */
#define PATH_BYTES 4096

static int make_directory(const char *dir)
{
	char path[PATH_BYTES];

	if ((size_t)snprintf(path, sizeof(path), "%s", dir) >= sizeof(path))
		return fnd_error_set(ENAMETOOLONG, "journal: the state directory's path");
	for (char *c = path + 1;; c++) {
		char end = *c;

		if (end && end != '/')
			continue;
		*c = '\0';
		if (mkdir(path, 0700) != 0 && errno != EEXIST)
			return fnd_error_set(errno, "journal: making %.200s: %s", path, strerror(errno));
		*c = end;
		if (!end)
			return 0;
	}
}

static int open_directory(const char *dir)
{
	int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC), err;

	if (fd >= 0)
		return fd;
	if (errno == ENOENT) {
		err = make_directory(dir);
		if (err)
			return err;
		fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	}
	return fd >= 0 ? fd : fnd_error_set(errno, "journal: opening %.200s: %s", dir, strerror(errno));
}

/* The descriptor that holds the lock, or an error. */
static int lock(struct fnd_journal *journal, unsigned int naps)
{
	const struct timespec nap = { 0, NAP_NS };
	int fd = open_directory(fnd_journal_directory(journal));

	while (fd >= 0) {
		int err = -fnd_journal_lock_take(fd);

		if (err == 0)
			break;
		if ((err == EWOULDBLOCK || err == EINTR) && naps-- > 0) {
			nanosleep(&nap, NULL);
			continue;
		}
		close(fd);
		if (err == EWOULDBLOCK)
			return fnd_error_set(ETIMEDOUT, "journal: another process is changing flags (fuser %.200s)",
					     fnd_journal_directory(journal));
		return fnd_error_set(err, "journal: locking its directory: %s", strerror(err));
	}
	return fd;
}

/* Under the lock: what a dead one has announced and not done. */
static int take_back(struct fnd_flags *f)
{
	static const struct fnd_change_info info = { .reason = "a change was announced, and never made" };
	uint64_t word = fnd_load_acquire(&f->area->flags); /* [FL-1] */
	struct fnd_flags_changed c = { .type = "flag.changed", .before = word, .after = word, .info = &info,
				       .takes_back = true };
	int err = 0;

	/* relaxed: under the lock */
	if (fnd_load_relaxed(&f->area->flags_ahead))
		err = fnd_flags_write(f, f->journal, f->area, &c);
	if (!err)
		fnd_store_relaxed(&f->area->flags_ahead, 0); /* relaxed: under the lock */
	return err;
}

int fnd_flags_ahead_begin(struct fnd_flags *f)
{
	int err = fnd_flags_journal_here(f->journal, f->area), fd;

	if (err)
		return err;
	fd = lock(f->journal, NAPS);
	if (fd < 0)
		return fd;
	err = take_back(f);
	if (err) {
		fnd_journal_lock_drop(fd);
		return err;
	}
	fnd_store_relaxed(&f->area->flags_ahead, 1); /* relaxed: under the lock */
	return fd;
}

void fnd_flags_ahead_end(struct fnd_flags *f, int fd)
{
	if (fd < 0)
		return;
	fnd_store_relaxed(&f->area->flags_ahead, 0); /* relaxed: under the lock */
	fnd_journal_lock_drop(fd);
}

int fnd_flags_ahead_finish(struct fnd_flags *f)
{
	int err, fd;

	/* relaxed: who sets it now is under way, and alive */
	if (!fnd_load_relaxed(&f->area->flags_ahead))
		return 0;
	fd = lock(f->journal, 0);
	if (fd < 0)
		return fd == -ETIMEDOUT ? 0 : fd;
	err = take_back(f);
	fnd_journal_lock_drop(fd);
	return err;
}
