/* SPDX-License-Identifier: MIT */
/* The journal's own: the handle, and what journal_file.c does for journal.c. */
#ifndef FOUNDATION_RUNTIME_JOURNAL_INTERNAL_H
#define FOUNDATION_RUNTIME_JOURNAL_INTERNAL_H

#include <foundation/journal.h>

#include <stdbool.h>
#include <sys/types.h>

#define FND_JOURNAL_HIDDEN __attribute__((visibility("hidden")))
#define FND_JOURNAL_FILE "journal"
#define FND_JOURNAL_PATH 4096
#define FND_JOURNAL_CRC 9 /* eight digits and a blank */

struct fnd_journal {
	char dir[FND_JOURNAL_PATH - 64];
	char *state; /* members of the state record, NULL: none */
	uint64_t max_bytes;
	uint32_t keep, lock_timeout_ms;
	char boot[37];
};

/* The end of a file, under the lock. */
struct fnd_journal_tail {
	int fd;
	off_t bytes;	 /* of the file */
	off_t sound;	 /* end of its last sound line */
	uint64_t last_n; /* its number, 0: none */
};

#define FND_JOURNAL_LINES (4 * FND_JOURNAL_RECORD_MAX)

/* Records that are appended under one lock. */
struct fnd_journal_writing {
	struct fnd_journal *j;
	struct fnd_journal_tail tail;
	int lock;
	char *line;
	char *lines; /* not written yet */
	size_t bytes; /* of them */
};

/* 0: the lock is held until the end. What is added is on disk after a flush, and only then. */
FND_JOURNAL_HIDDEN int fnd_journal_begin(struct fnd_journal *j, struct fnd_journal_writing *w);
FND_JOURNAL_HIDDEN int fnd_journal_add(struct fnd_journal_writing *w, const char *type, const char *members);
FND_JOURNAL_HIDDEN int fnd_journal_flush(struct fnd_journal_writing *w);
FND_JOURNAL_HIDDEN void fnd_journal_end(struct fnd_journal_writing *w);

/* Keeps the detail; returns -@err. */
FND_JOURNAL_HIDDEN int fnd_journal_fail(int err, const char *what, const char *path);
FND_JOURNAL_HIDDEN void fnd_journal_path(const struct fnd_journal *j, const char *what, unsigned int number,
					 char path[FND_JOURNAL_PATH]);
/* A descriptor of a regular file, or -errno. */
FND_JOURNAL_HIDDEN int fnd_journal_open_file(const struct fnd_journal *j, const char *what, unsigned int number,
					     int flags);
FND_JOURNAL_HIDDEN uint32_t fnd_journal_crc(const char *json, size_t bytes);
/* Fills all but fd. */
FND_JOURNAL_HIDDEN int fnd_journal_tail_look(struct fnd_journal_tail *t);

/* A sound line, with its newline replaced by a NUL; @bytes without it. */
typedef int (*fnd_journal_line_fn)(const char *line, size_t bytes, void *arg);
FND_JOURNAL_HIDDEN int fnd_journal_lines(int fd, fnd_journal_line_fn fn, void *arg, unsigned int *damaged);
/* Under the lock: file by file, the newest first, until one has made *@enough true. */
FND_JOURNAL_HIDDEN int fnd_journal_search(const struct fnd_journal *j, fnd_journal_line_fn fn, void *arg,
					  const bool *enough);
FND_JOURNAL_HIDDEN uint64_t fnd_journal_line_number(const char *line, size_t bytes);

/* journal_lock.c: 0, or -EWOULDBLOCK, -EINTR …; the other gives the lock back and closes @fd, unless negative. */
FND_JOURNAL_HIDDEN int fnd_journal_lock_take(int fd);
FND_JOURNAL_HIDDEN void fnd_journal_lock_drop(int fd);

#endif
