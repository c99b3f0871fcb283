/* SPDX-License-Identifier: MIT */
/*
 * What the cases of test_evidence share: a segment, a victim, and checks that print what they
 * expected.
 */
#ifndef FND_TESTS_EVIDENCE_TEST_H
#define FND_TESTS_EVIDENCE_TEST_H

#include <stdint.h>
#include <stdio.h>
#include <sys/types.h>

#include "evidence.h"

#define SKIP 77
#define NOBODY 65534

/* The shared page. The victim writes, the observer reads. */
struct page {
	struct fnd_identity id;     /* of the victim */
	struct fnd_identity second; /* of a further process, where a case has one */
	uint32_t tid;               /* of a thread of the victim */
	uint32_t ready;             /* the victim has reached the state it is to be looked at in */
	uint32_t go;                /* the observer lets it go on */
	uint32_t leaving;           /* the last store before an exec or a thread's end */
	uint32_t status;
	uint64_t beat; /* counted up by a victim that runs */
};

extern struct page *page;
extern uint64_t seg_dev, seg_ino;
extern int seg_fd;
extern int old_rule; /* the case runs under the start time rule */

typedef void (*victim_fn)(void);

/*
 * Forks a child that records its identity in page->id and runs fn; returns once page->ready is set.
 */
pid_t victim_start(victim_fn fn);
/* Like victim_start() without waiting; 0 in set_tid means any pid. -1 where the kernel refuses. */
pid_t victim_fork(victim_fn fn, pid_t set_tid);
void victim_wait_for_go(void); /* sets ready, then waits for go */
void victim_beat(void);        /* sets ready, then counts until killed */
void kill_unreaped(pid_t pid); /* SIGKILL and wait for the zombie, without reaping */
void wait_unreaped(pid_t pid);
void reap(pid_t pid);
int wait_word(const uint32_t *word, uint32_t value); /* 0, or -1 after 10 s */
void set_word(uint32_t *word, uint32_t value);
uint32_t get_word(const uint32_t *word);
void nap_us(unsigned us);
void spin_us(unsigned us);

enum kind {
	PLAIN = 1,
	DEEP = 2,
	THREAD = 4,
	ALL = 7
};

/*
 * Each kind of look has to give this answer; says so on stderr otherwise. errno must come back
 * unchanged.
 */
int expect(const char *where, const struct fnd_identity *id, unsigned kinds,
	   enum fnd_evidence wanted);
int expect_soon(const char *where, const struct fnd_identity *id, unsigned kinds);
int verdict(const struct fnd_identity *id, enum kind kind);

#define ALIVE(where, id, kinds) (expect(where, id, kinds, FND_ALIVE_OR_UNKNOWN))
#define DEAD(where, id, kinds) (expect(where, id, kinds, FND_PROVEN_DEAD))
#define TRY(x)                     \
	do {                       \
		int r_ = (x);      \
		if (r_ != 0)       \
			return r_; \
	} while (0)
#define NEED(cond)                                                                 \
	do {                                                                       \
		if (!(cond)) {                                                     \
			fprintf(stderr, "%s:%d: %s\n", __func__, __LINE__, #cond); \
			return 1;                                                  \
		}                                                                  \
	} while (0)
#define SKIP_UNLESS(cond, why)                              \
	do {                                                \
		if (!(cond)) {                              \
			fprintf(stderr, "skip: %s\n", why); \
			return SKIP;                        \
		}                                           \
	} while (0)

struct test_case {
	const char *name;
	int (*run)(void);
};

extern const struct test_case life_cases[], exec_cases[], space_cases[];

#endif
