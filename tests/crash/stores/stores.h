/* SPDX-License-Identifier: MIT */
/* Operations, and the states they start from. */
#ifndef FND_TESTS_STORES_H
#define FND_TESTS_STORES_H

#include <foundation/dedup.h>
#include <foundation/registry.h>

#include "check.h"

/* Where an operation starts. `shape` comes before the segment is made, `prepare` after. */
struct state {
	const char *name;
	void (*shape)(struct shape *s);
	void (*prepare)(void);
};

/* What a victim is killed in. A new one is a line in operations[]. */
struct operation {
	const char *name; /* the suite is stores-<name> */
	const struct state *states;
	unsigned int nstates;
	bool outside; /* the victim has no slots yet */
	void (*shape)(struct shape *s);
	void (*prepare)(void); /* after the state: the last step before the operation */
	int (*run)(void);
	void (*tidy)(void); /* the victim's private memory, once the stores are known */
};

extern const struct operation operations[];
extern const unsigned int noperations;

extern const struct state table_states[], slot_states[], registry_states[], dedup_states[];
extern const unsigned int ntable_states, nslot_states, nregistry_states, ndedup_states;

/* For operations: inserts into the main table until one would make @happens true; that one is w.key. */
void until(bool (*happens)(void));
bool index_grows(void);
bool region_grows(void);
void put(uint32_t k, uint32_t version);
void take_out(uint32_t k);
void reader_opens(void);

#endif
