/* SPDX-License-Identifier: MIT */
/* Operations to be killed in at every instruction, and walking a child to one of them. */
#ifndef FND_TESTS_INSTRUCTIONS_H
#define FND_TESTS_INSTRUCTIONS_H

#include <sys/types.h>

#include <foundation/dedup.h>
#include <foundation/registry.h>

#include "check.h"

struct operation {
	const char *name;
	void (*prepare)(void); /* in the parent, before the image is taken */
	void (*first)(void);   /* in the child, before it stops */
	int (*run)(void);
	void (*note)(pid_t pid, bool after); /* in the parent: the child has stopped before, or after it */
	const char *(*check)(void);	     /* in the parent, after a repair: what must hold beside the rest */
	uint64_t stride; /* of a long one only every so many instructions; 0: all */
};

extern const struct operation operations[];
extern const unsigned int noperations;
extern pid_t parent;

/* The child's own. */
extern struct fnd_segment *seg;
extern struct fnd_table *table;
extern struct fnd_registry *registry;
extern struct fnd_dedup *dedup;

void put(uint32_t k, uint32_t version);
/* Ends the program, in the parent and in a child, when a step of the test itself failed. */
void must(int err, const char *what);

/* Where an operation ends. */
void finished(void);
/* Steps a child through its operation and writes down its way. Returns the number of instructions. */
uint64_t trace(pid_t pid);
/* Walks a child, that has stopped before its operation, before instruction @k; false: it went another way. */
bool walk(pid_t pid, uint64_t k);

/* Error contexts. */
void context_first(void);
void context_first_full(void);
void context_first_private(void);
int run_context_set(void);
int run_context_begin(void);
int run_context_end(void);
int run_context_crumb(void);
int run_context_share(void);
int run_context_unshare(void);
void context_note(pid_t pid, bool is_after);
const char *context_check(void);

/* Flags. */
void flags_prepare(void);
void flags_first(void);
int run_flags_change(void);
int run_flags_rollback(void);
int run_flags_emergency(void);
void flags_note(pid_t pid, bool is_after);
const char *flags_check(void);

#endif
