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
FND_JOURNAL_HIDDEN uint64_t fnd_journal_line_number(const char *line, size_t bytes);

#endif
