/* SPDX-License-Identifier: MIT */
/*
 * What the files of shmlat share.
 *
 *   shmlat.c         options, loading the BPF program, the loop, the sentences of each refusal
 *   shmlat_cover.c   which processes work on the segment, and which files their probes are in
 *   shmlat_tally.c   the histograms, read from the kernel and added up
 *   shmlat_report.c  for people and for programs
 */
#ifndef FOUNDATION_TOOLS_SHMLAT_H
#define FOUNDATION_TOOLS_SHMLAT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <bpf/libbpf.h>
#include <foundation/observer.h>

#include "../bpf/shmlat.h"

#define PROG "shmlat"

/* --- shmlat_cover.c ------------------------------------------------------------------------------- */

struct worker {
	uint32_t pid;
	uint64_t start_time; /* another one is another process */
	bool present;        /* at the last scan */
	bool covered;
	int err;          /* why not, as a positive errno; 0: no file of it has the probe */
	char reason[200]; /* for people; "" when covered */
};

/* A file that some worker maps for execution. */
struct mapped_file {
	uint64_t dev, ino, bytes, changed_s, changed_ns;
	struct bpf_link *link; /* NULL: no probe in it, or attaching failed with err */
	int err;
};

struct cover {
	struct fnd_observer *observer;
	struct bpf_program *program;
	bool other_namespace; /* the recorded pids mean nothing here */
	struct worker *worker;
	size_t workers;
	struct mapped_file *file;
	size_t files;
};

/* Looks for new workers and new files. 0 or a library's error. */
int cover_scan(struct cover *c);
void cover_detach(struct cover *c);
void cover_free(struct cover *c);

/* --- shmlat_tally.c ------------------------------------------------------------------------------- */

struct series {
	uint32_t table, op;
	uint64_t samples;
	struct shmlat_hist hist;
};

struct pid_samples {
	uint32_t pid;
	uint64_t samples;
};

struct tally {
	struct series *series;
	size_t nseries;
	struct pid_samples *pid;
	size_t npids;
};

/* Adds what the kernel has counted. @gone, unless NULL: receives what is of dead processes instead, and
 * the kernel's map forgets it, so that it never fills up. 0 or a negative errno. */
int tally_read(struct tally *t, const struct bpf_map *map, struct tally *gone);
int tally_add(struct tally *t, const struct tally *more);
/* @t becomes what came since @before. */
void tally_subtract(struct tally *t, const struct tally *before);
uint64_t tally_pid(const struct tally *t, uint32_t pid);
void tally_free(struct tally *t);
/* Upper edge of the bucket that @per_mille of the samples do not exceed. */
uint64_t series_percentile(const struct series *s, uint32_t per_mille);

/* --- shmlat_report.c ------------------------------------------------------------------------------ */

struct report {
	const char *segment;
	const struct cover *cover;
	const struct tally *tally;
	double seconds;
	uint32_t sample_every; /* one operation in so many */
	uint64_t lost;         /* samples the kernel had no room for */
};

/* Return an exit status. */
int report_json(const struct report *r);
int report_text(const struct report *r);

#endif
