/* SPDX-License-Identifier: MIT */
/*
 * Every store to the segment, seen one by one.
 *
 * The core is compiled with -fsanitize=thread and linked with our own __tsan_* functions: the compiler
 * calls one of them before each store. A killed process leaves a prefix of its stores, so the log of one
 * run of an operation is the list of all its crash states: undo it and play it forward, one entry at a
 * time. Undoing is exact because nothing else writes to the segment; the harness checks that, too.
 */
#ifndef FND_TESTS_STORES_HOOKS_H
#define FND_TESTS_STORES_HOOKS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum hook_mode {
	HOOKS_OFF,   /* stores happen, nobody looks */
	HOOKS_LOG,   /* … and are written down */
	HOOKS_COUNT, /* … and are counted */
};

/* Eight bytes or less; a wider store is several entries of which the first alone has `begins`. */
struct store {
	uint64_t before, after;
	uint32_t off; /* in the segment */
	uint8_t bytes;
	uint8_t begins; /* a crash can happen just before it */
	uint16_t pad;
	void *where; /* return address of the hook: for addr2line */
};

extern char *hooks_base; /* the segment's mapping; NULL: none */
extern uint64_t hooks_bytes;
extern enum hook_mode hooks_mode;
extern uint64_t hooks_counted;
extern uint64_t hooks_loads; /* of any memory, since the program began */

/* The log. Marks are positions in it. */
size_t hooks_mark(void);
/* Entry @i; what a plain store wrote is known once this has been called. */
const struct store *hooks_entry(size_t i);
/* Takes back everything since @mark, newest first, and forgets it. */
void hooks_undo(size_t mark);
/* Forgets everything since @mark; the memory stays as it is. */
void hooks_forget(size_t mark);

/* A single entry of a copied log, forwards or backwards. */
void store_apply(const struct store *s);
void store_revert(const struct store *s);

/*
 * The control: counts what the processor does. The segment is read-only; each write faults, is let
 * through for one instruction, and counted.
 */
void hooks_watch_begin(void);
uint64_t hooks_watch_end(void);

#endif
