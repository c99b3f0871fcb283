/* SPDX-License-Identifier: MIT */
/* What the files of the facade share. */
#ifndef FOUNDATION_RUNTIME_FACADE_H
#define FOUNDATION_RUNTIME_FACADE_H

#include <pthread.h>
#include <stdbool.h>

#include <foundation/atomic.h>
#include <foundation/runtime.h>

#include "area_layout.h"
#include "registry_private.h"

/* What the flags say to this worker: bits of fnd_runtime.mode. */
#define FND_MODE_SHARED 1u
#define FND_MODE_BOTH 2u /* migration_monitoring */
#define FND_MODE_ENFORCE 4u
#define FND_MODE_NONE 8u /* no word was ever met */

#define FND_WRITE_LOCKS 64u
#define FND_CALL_SITES 64u

enum fnd_facade_counter {
	FND_FACADE_UNCOMMON,
	FND_FACADE_CLASHES,
	FND_FACADE_REFUSED,
	FND_FACADE_CARRIED,
	FND_FACADE_STALE,
	FND_FACADE_RECONCILED,
	FND_FACADE_COUNTERS
};

struct fnd_runtime {
	uint64_t reconciled; /* the flags word that mode is for */
	uint32_t mode;	     /* changes only while nobody is in a call */
	uint32_t forks;	     /* fnd_private_forks() when it was opened */
	uint32_t dirty;	     /* 1: some private name is newer than its shared record, or was once */
	struct fnd_shm_runtime *area;
	struct fnd_private *priv;  /* NULL: none is wanted, or built in */
	struct fnd_registry *reg;  /* NULL: it could not be opened */
	struct fnd_segment *seg;
	struct fnd_flags *flags;
	struct fnd_events *events;
	struct fnd_table *workers; /* opened at the first report; under flip */
	struct fnd_owner self;
	pthread_mutex_t flip; /* whoever reconciles; never taken inside a section */
	pthread_mutex_t write[FND_WRITE_LOCKS]; /* writes of one name, in both backends; inside a section */
	uint64_t counter[FND_FACADE_COUNTERS];
	uintptr_t site[FND_CALL_SITES]; /* that were refused and reported */
};

/* The test of the flip stops here now and then: it is built with a copy of the facade that asks it. */
#ifdef FND_FACADE_PAUSES
void fnd_facade_pause(void);
#else
#define fnd_facade_pause() ((void)0)
#endif

static inline bool fnd_same_owner(const struct fnd_owner *a, const struct fnd_owner *b)
{
	return a->slot == b->slot && a->generation == b->generation && a->pid == b->pid;
}

static inline void fnd_facade_count(struct fnd_runtime *rt, enum fnd_facade_counter c, uint64_t n)
{
	__atomic_fetch_add(&rt->counter[c], n, __ATOMIC_RELAXED); /* relaxed: a figure, orders nothing */
}

/* facade_flip.c: into a section, under a mode that stays until fnd_facade_leave(); 0 or an error. */
FND_FACADE_HIDDEN int fnd_facade_enter(struct fnd_runtime *rt, unsigned int *ret_mode);
FND_FACADE_HIDDEN void fnd_facade_leave(struct fnd_runtime *rt);

FND_FACADE_HIDDEN pthread_mutex_t *fnd_facade_lock(struct fnd_runtime *rt, const char *name);
/* Shared lookup; -FND_E_CORRUPT without a registry. */
FND_FACADE_HIDDEN int fnd_facade_shared(struct fnd_runtime *rt, const char *name, struct fnd_agent *ret);
/* Is @a the record that the private entry is a copy of? */
FND_FACADE_HIDDEN bool fnd_facade_agree(const struct fnd_runtime *rt, const struct fnd_private_name *n,
					const struct fnd_agent *a);
/* The private entry becomes what the shared record is: after a write of this process. Under the lock. */
FND_FACADE_HIDDEN int fnd_facade_mirror(struct fnd_runtime *rt, const char *name);
/* Brings private entry and shared record together, publishing if @publish; then what the name is: 0 or an
 * error, in @ret. settle takes the lock, settle_locked needs it. */
FND_FACADE_HIDDEN int fnd_facade_settle(struct fnd_runtime *rt, const char *name, bool publish,
					struct fnd_agent *ret, enum fnd_backend *ret_backend);
FND_FACADE_HIDDEN int fnd_facade_settle_locked(struct fnd_runtime *rt, const char *name, bool publish,
					       struct fnd_agent *ret, enum fnd_backend *ret_backend);

/* facade_report.c */
FND_FACADE_HIDDEN void fnd_facade_clash(struct fnd_runtime *rt, const char *name, const struct fnd_owner *holder);
FND_FACADE_HIDDEN void fnd_facade_clash_over(struct fnd_runtime *rt, const char *name);
FND_FACADE_HIDDEN int fnd_facade_refuse(struct fnd_runtime *rt, const char *call, const char *name,
					const void *site);
FND_FACADE_HIDDEN void fnd_facade_report(struct fnd_runtime *rt); /* this worker's record, as of now */
FND_FACADE_HIDDEN uint64_t fnd_facade_now(void);

#endif
