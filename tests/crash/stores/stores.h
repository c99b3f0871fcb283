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

/* What a victim is killed in. A new one is a line in operations[], and the function it runs. */
struct operation {
	const char *name; /* the suite is stores-<name> */
	const struct state *states;
	unsigned int nstates;
	bool outside;   /* the victim has no slots yet */
	bool abandoned; /* … and everybody else is dead: who rescues has to attach before */
	bool costly;    /* its states are, as each has somebody open and map the file, or open all there is */
	void (*shape)(struct shape *s);
	void (*prepare)(void); /* after the state: the last step before the operation */
	int (*run)(void);
	/* by whoever comes next, before anybody looks: NULL, or what is wrong */
	const char *(*first)(const struct trial *t);
	void (*tidy)(void); /* the victim's private memory, once the stores are known */
	/* by the one who repaired: what must hold beside what always must; NULL, or what is wrong */
	const char *(*check)(const struct trial *t);
};

extern const struct operation operations[];
extern const unsigned int noperations;

enum {
	TABLE_STATES = 14, SLOT_STATES = 8, REGISTRY_STATES = 5, AGENTS_STATES = 3, ENSURE_STATES = 5,
	RING_STATES = 4, FACADE_STATES = 5, CONFIG_STATES = 5, DEDUP_STATES = 6, FLAGS_STATES = 5, CONTEXT_STATES = 5
};
extern const struct state table_states[TABLE_STATES], slot_states[SLOT_STATES],
	registry_states[REGISTRY_STATES], dedup_states[DEDUP_STATES], flags_states[FLAGS_STATES],
	context_states[CONTEXT_STATES], agents_states[AGENTS_STATES], ensure_states[ENSURE_STATES],
	ring_states[RING_STATES], facade_states[FACADE_STATES], config_states[CONFIG_STATES];

/* For operations: inserts into the main table until one would make @happens true; that one is w.key. */
void until(bool (*happens)(void));
bool index_grows(void);
bool region_grows(void);
void put(uint32_t k, uint32_t version);
void take_out(uint32_t k);
void reader_opens(void);

/* The segment as a whole: who comes to it, who destroys it, what is noted about a reader that stands still. */
void nobody_left(void);
void other_boot(void);
void other_pidns(void);
void stands_still(void);
int run_arrive(void);
void arrived(void);
int run_destroy(void);
int run_destroy_forced(void);
int run_stall(void);
const char *check_home(const struct trial *t);
const char *check_name(const struct trial *t);
const char *check_stall(const struct trial *t);

/* The registry with its events and its index. */
void roomy(struct shape *s);
void about_agents(void);
void nobody_registered(void);
int run_event_publish(void);
int run_register_indexed(void);
int run_unregister_indexed(void);
int run_name_reap(void);
void agents_done(void);
const char *check_agents(const struct trial *t);
void about_ensure(void);
int run_ensure(void);
const char *check_ensured(const struct trial *t);
void about_ring(void);
int run_event_swept(void);
const char *check_ring(const struct trial *t);

/* Tables whose structure is damaged. */
void about_damage(void);
int run_mend(void);
const char *mend_first(const struct trial *t);

/* The registry's facade. */
void about_facade(void);
void about_common(void);
void about_publish(void);
void about_pull(void);
void about_refusal(void);
int run_facade_register(void);
int run_facade_unregister(void);
int run_facade_update(void);
int run_meet(void);
int run_refused(void);
int run_runtime_open(void);
int run_runtime_close(void);
void facade_done(void);
const char *check_facade(const struct trial *t);
const char *check_flip(const struct trial *t);
const char *check_opened(const struct trial *t);

/* Settings. */
int run_config_open(void);
int run_config_set(void);
int run_config_unset(void);
void config_done(void);
const char *check_config(const struct trial *t);

/* Flags. */
void about_change(void);
void about_rollback(void);
void about_emergency(void);
void about_definition(void);
int run_flags_change(void);
int run_flags_application(void);
int run_flags_define(void);
int run_rollback(void);
int run_emergency(void);
void flags_done(void);
const char *check_flags(const struct trial *t);

/* Error contexts. */
void about_context(void);
void about_private(void);
int run_context_set(void);
int run_context_begin(void);
int run_context_end(void);
int run_context_attach(void);
int run_context_crumb(void);
int run_context_share(void);
int run_context_unshare(void);
void context_done(void);
const char *check_context(const struct trial *t);

#endif
