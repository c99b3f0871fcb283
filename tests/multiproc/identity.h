/* SPDX-License-Identifier: MIT */
/* What the cases of test_identity share: a segment, and a victim that holds whatever can be held in it. */
#ifndef FND_TESTS_IDENTITY_H
#define FND_TESTS_IDENTITY_H

#include <foundation/registry.h>

#include "evidence.h"
#include "multiproc.h"

extern const struct test_case slot_cases[];    /* deaths of processes, and who comes after them */
extern const struct test_case thread_cases[];  /* ends of threads, cancellation, signal handlers */
extern const struct test_case sandbox_cases[]; /* time namespaces, no membarrier */

/* The same case under the rule of kernels before 6.9: NAME_old. */
#define OLD_RULE(name)                          \
	static int name##_old(void)             \
	{                                       \
		fnd_evidence_force_old_rule(1); \
		return name();                  \
	}
#define BOTH(name) { #name, name }, { #name "_old", name##_old }

#define TICK_US 25000 /* more than two clock ticks: start times differ */
#define KEYS 8u

/* Words of shared memory. */
enum {
	READY, /* the victim holds it all */
	GO,    /* … lets go */
	STOP,
	COUNT,
	FAILED,
	OTHER,
};

struct world {
	const char *name;
	struct fnd_segment *seg;
	struct fnd_table *t; /* one shard: whoever holds its lock is in everybody's way */
	struct fnd_registry *reg;
};

/* Creates it with a table of KEYS records and a registry. Waits for locks end after 300 ms. */
int world_make(struct world *w);
/* A child's own view of it. */
int world_attach(struct world *w, const char *name);
int world_leave(struct world *w);
/* Checks the table and removes the segment. */
int world_end(struct world *w);

/* Replaces key @i with the value it has. 0 or a negative result. */
int rewrite(struct fnd_table *t, unsigned int i);

/*
 * Holds all there is: registers the name "one" unless it is taken, opens a read section, and stays in
 * fnd_table_modify() with the shard locked until GO.
 */
int hold_all(struct world *w);
/* A child that attaches and does that; returns when it holds, and who it is. -1: it did not start. */
pid_t victim_start(struct world *w, struct fnd_participant *ret_who);

/* The victim lives: nothing of it is given to anybody. */
int nothing_taken(struct world *w, const struct fnd_participant *who);
/* The victim is dead: lock, section, slot and name go to whoever wants them. */
int all_taken(struct world *w, const struct fnd_participant *who);

#endif
