/* SPDX-License-Identifier: MIT */
/*
 * What the files of logmill share.
 *
 *   logmill.c   options, the segment, the order of things
 *   service.c   the parent: starts workers, replaces the dead, starts passes
 *   worker.c    a worker: attaches, and serves its share of the lines
 *   progress.c  how far everybody is, in a table of our own
 *   events.c    what a template looks like in the segment, and the events file
 *   summary.c   the figures at the end
 *   lines.c, forms.c, mask.c   log lines; nothing of Foundation in there
 */
#ifndef LOGMILL_MILL_H
#define LOGMILL_MILL_H

#include "lines.h"

#include <foundation/dedup.h>
#include <foundation/registry.h>
#include <stdbool.h>
#include <sys/types.h>

#define WORKERS_MAX 64

struct mill_options {
	unsigned int workers;
	const char *segment; /* NULL: a private one */
	bool keep, hold, json;
	uint64_t window_ns;
	uint64_t passes; /* 0: no bound */
	uint64_t run_ns; /* 0: no bound */
	uint64_t kill_every_ns;
	uint64_t kills; /* go on until so many; 0: kill as long as the run lasts */
	bool killing;
	const char *events; /* NULL: write none */
	uint64_t agents, dedup;
};

struct mill_worker {
	pid_t pid;             /* 0: none */
	bool shot;             /* we have sent it a SIGKILL */
	unsigned int unlucky;  /* deaths in a row that were not our doing and brought no line forward */
	uint64_t lines_before; /* what it had done when it died last */
};

struct mill {
	struct mill_options options;
	struct logs logs;

	char segment_name[FND_NAME_MAX + 16];
	bool ours; /* we created the segment */
	struct fnd_segment *segment;
	struct fnd_registry *registry;
	struct fnd_dedup *dedup;
	struct fnd_table *progress;
	char service[32]; /* the parent's own agent name */

	pid_t pid; /* the parent's */
	struct mill_worker workers[WORKERS_MAX];
	int gates[2]; /* eventfds: readable while passes of that parity may be begun */
	int done_fd;  /* eventfd: a worker is there, or has come to the end of its share */
	int signal_fd;
	bool stop;  /* told to end, by a signal */
	int status; /* exit status of a worker that gave up, 0: none did */

	uint64_t pass; /* the one under way, from 1 on */
	uint64_t started_ns, next_kill_ns;
	uint64_t busy_ns; /* sum of the passes' durations */
	uint64_t kills, kills_under_way;

	uint64_t emitted_before, suppressed_before, overflowed_before, recoveries_before;
	uint64_t events_before; /* keys that were in the table when we came */
	uint64_t events_unread; /* long templates whose log cannot be read any more */
};

/* logmill.c: the sentence for an error, of the library or of the system; returns the exit status. */
int complain(const char *what, int err);
int complain_system(const char *what, int err);
uint64_t now_ns(void);

/* service.c: all return an exit status but the last. */
int service_prepare(struct mill *mill);
int service_run(struct mill *mill);
void service_hold(struct mill *mill);

/* worker.c: the child's whole life. */
void worker_main(struct mill *mill, unsigned int index) __attribute__((noreturn));

/*
 * progress.c. A worker's record is replaced once a line, by one store: a line is counted exactly once,
 * whenever the worker is killed, and its successor knows where to go on.
 */
struct progress {
	uint64_t pass;  /* the last one begun */
	uint64_t next;  /* the line to serve next in it */
	uint64_t lines; /* served, in all passes */
	uint64_t lookups;
	uint64_t refused; /* lines whose source found no room in the registry */
};

struct progress_pass {
	uint64_t pass; /* the one to work on, 0: none yet */
	uint64_t stop; /* non-zero: go home */
};

int progress_open(struct fnd_segment *segment, struct fnd_table **ret_table);
int progress_sweep(struct fnd_segment *segment, struct fnd_table *table, pid_t own);
int progress_set_pass(struct fnd_table *table, pid_t service, struct progress_pass pass);
int progress_get_pass(struct fnd_table *table, pid_t service, struct progress_pass *ret_pass);
int progress_begin(struct fnd_table *table, pid_t service, unsigned int worker);
int progress_commit(struct fnd_table *table, pid_t service, unsigned int worker,
		    const struct progress *p);
int progress_read(struct fnd_table *table, pid_t service, unsigned int worker,
		  struct progress *ret_progress);

/* events.c */
int events_claim(struct fnd_dedup *dedup, const struct logs *logs, const struct log_line *line,
		 struct text template, uint64_t window_ns);
int events_count(struct fnd_dedup *dedup, uint64_t *ret_count);
int events_check_target(const char *path);
int events_write(struct mill *mill); /* returns an exit status */

/* summary.c */
int summary_start(struct mill *mill);
int summary_print(struct mill *mill);

#endif
