/* SPDX-License-Identifier: MIT */
/* What the cases of test_stall share: a table, a reader that is stopped in its section, writers, checks. */
#ifndef FND_TESTS_STALL_H
#define FND_TESTS_STALL_H

#include "multiproc.h"

#define KEYS 500
#define WRITERS 2
#define COMM "stuck reader"

/* 64 bytes that vouch for each other. */
struct value {
	uint64_t key, seq, sum[6];
};

/* What the processes of a case tell each other. */
struct board {
	const char *name;
	struct fnd_stall said[8];
	uint64_t said_at[8];
	uint32_t said_count;
	uint32_t reader_pid, reader_tid; /* of the one whose section is the oldest */
	uint32_t readers, go, pause, paused, stop;
	uint64_t writes, refused;
	uint64_t ended_at, went_on_at;
};

extern struct board *board;

struct value value_make(uint64_t key, uint64_t seq);
/* Makes the board, a segment, and a table with every key in it. */
int table_make(const char *name, uint32_t flags, struct fnd_segment **ret_seg, struct fnd_table **ret_t);
int table_end(struct fnd_segment *seg, struct fnd_table *t); /* and removes the segment */

/* A reader, stopped in its section; its pid, or -1. It goes on until board->go. */
pid_t reader_stop(void);
/* Attaches with a callback that notes each stall on the board. */
int attach_writer(struct fnd_segment **ret_seg, struct fnd_table **ret_t);
/* One replace: done, or refused with the reader's name. */
int write_one(struct fnd_table *t, uint64_t seq);
int read_one(struct fnd_table *t);
int writer(void *arg); /* a child: writes until board->stop */

/* The garbage now, checked against the limit; @most keeps the highest. */
int under_limit(struct fnd_table *t, uint64_t *most);
uint64_t limit_bytes(const struct fnd_table_stats *s);
/* Until the @n-th report is there. */
int wait_told(struct fnd_table *t, unsigned int n, uint64_t *most);
/* The callback, the call and the observer say the same, and it is the truth. */
int told(struct fnd_segment *seg, pid_t pid, const struct fnd_stall *said);
/* Every record that waited for the reader is free again. */
int all_back(struct fnd_segment *seg, struct fnd_table *t);

#endif
