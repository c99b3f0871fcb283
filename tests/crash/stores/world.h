/* SPDX-License-Identifier: MIT */
/*
 * A small segment, and the people in it.
 *
 * All of them are this one process: each has a handle on the same mapping, a pid of its own, and is alive
 * or dead as the harness says; the functions that ask the kernel are replaced. Time is a counter, waiting
 * takes none, so every run with the same seed makes the same stores.
 */
#ifndef FND_TESTS_STORES_WORLD_H
#define FND_TESTS_STORES_WORLD_H

#include "internal.h"

#define TABLES_MAX 8
#define KEYS_MAX 160
#define HELD_MAX 512

enum who {
	FOUNDER, /* made the segment, lives on, does nothing */
	READER,  /* may stay in a read section throughout */
	RESCUER, /* repairs after the victim's death … */
	SECOND,  /* … and after the rescuer's */
	VICTIM,
	COMER,   /* who comes when nobody is left, or to see who may … */
	COMER_2, /* … and after him */
	DEAD_1, /* died before it all began; up to DEAD_MAX of them */
	DEAD_MAX = 6,
	WHO_MAX = DEAD_1 + DEAD_MAX
};

struct actor {
	struct fnd_segment *seg;
	struct fnd_thread *th; /* NULL: has no thread slot */
	struct fnd_segment seg_kept;
	struct fnd_thread th_kept;
	bool here, dead;
};

/* Memory that an open read section may look at: it must stay what it is. */
struct held {
	uint32_t off, bytes;
	unsigned char copy[96];
};

/* How a world is laid out; a state fills it in before anything is made. */
struct shape {
	uint32_t processes, threads;
	uint64_t max_bytes;
	struct fnd_table_options table;
	bool backed; /* all of max_bytes from the start */
};

struct world {
	char name[FND_NAME_MAX + 1];
	uint64_t seed, random;
	struct shape shape;
	struct actor actor[WHO_MAX];
	struct fnd_table *table;   /* the founder's handle on the main table */
	struct fnd_table *victims; /* the victim's */
	struct fnd_registry *registry;
	struct fnd_dedup *dedup;
	uint32_t next_key;
	uint32_t live[KEYS_MAX]; /* keys that are in the main table */
	uint32_t nlive;
	uint32_t key; /* what the operation is about */
	const char *passing; /* keys that it changes more than once, blanks between them; NULL: none */
	const char *passing_begin; /* … and all that begin so; NULL: none */
	bool reader_open;
	bool name_gone; /* in the state that is in place */
	bool strangers; /* pids in the segment are of somebody else here, who lives */
	struct held held[HELD_MAX];
	uint32_t nheld;
	char dead_name[32]; /* a name in the registry that a dead one owned */
};

extern struct world w;

/* Makes the segment with its founder, reader and rescuers; the victim joins by world_join(). */
void world_make(uint64_t seed, const struct shape *shape);
void world_end(void);
void world_table(void);
uint64_t world_draw(void);

/* The actor becomes a participant, with a thread slot when @thread. */
void world_join(enum who who, bool thread);
/* Whose turn it is: getpid(), gettid() and the thread's own variable. */
void world_act(enum who who);
void world_die(enum who who);
void world_keep(enum who who);  /* remember the private state … */
void world_reset(enum who who); /* … and bring it back */
/* Nobody's handle may be shared by an attach of the victim. */
void world_hide(void);
void world_time_pass(uint64_t ns);
uint64_t world_time(void);
/* Attaches by name, as a process of its own would; gives it all up. 0, or the result of the call refused. */
int world_arrive(enum who who);
void world_depart(enum who who);
/*
 * unlink() of the name is only noted while stores are: hooks_mark() then, SIZE_MAX when there was none.
 * world_name() makes the file come and go in its place.
 */
extern size_t world_unlinked;
void world_name(bool there);
uint32_t world_pid(enum who who);
bool world_pid_dead(uint32_t pid);

/* Corruption found since the last call: a repair after a mere death must meet none. */
unsigned int world_corruptions(void);

/* Keys and values. Each value says whose it is and which. */
size_t key_of(uint32_t k, char buf[16]);
size_t value_of(uint32_t k, uint32_t version, char buf[32]);

#endif
