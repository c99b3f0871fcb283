/* SPDX-License-Identifier: MIT */
/*
 * The private registry: names in this process's memory, on liburcu's rculfhash.
 *
 * Entries never change once they are in: a change puts another in the place. What was taken out is freed
 * after a grace period of urcu-bp, in fnd_private_tidy(). Writers of one name are ordered by the facade.
 * With FND_NO_PRIVATE_BACKENDS the handle is always NULL, which every call here takes.
 */
#ifndef FOUNDATION_RUNTIME_REGISTRY_PRIVATE_H
#define FOUNDATION_RUNTIME_REGISTRY_PRIVATE_H

#include <stdbool.h>

#include <foundation/registry.h>

#define FND_FACADE_HIDDEN __attribute__((visibility("hidden")))

struct fnd_private;

/* What a name is privately; a copy may be kept. */
struct fnd_private_name {
	struct fnd_agent agent;
	bool published; /* agent is a copy of the name's shared record … */
	bool dirty;	/* … but for its metadata, which the shared one could not take */
	bool clash;	/* somebody else owns the shared record, and that has been said */
	char name[FND_AGENT_NAME_MAX + 1];
};

#ifndef FND_NO_PRIVATE_BACKENDS

/* 0 or -ENOMEM. */
FND_FACADE_HIDDEN int fnd_private_open(struct fnd_private **ret_p);
FND_FACADE_HIDDEN void fnd_private_close(struct fnd_private *p); /* nobody is in a section */

/* A read section of urcu-bp; they nest. */
FND_FACADE_HIDDEN void fnd_private_begin(struct fnd_private *p);
FND_FACADE_HIDDEN void fnd_private_end(struct fnd_private *p);
/* Waits for the sections that are open now; not inside one. */
FND_FACADE_HIDDEN void fnd_private_synchronize(struct fnd_private *p);

/* Inside a section, and valid until its end; NULL: not there. */
FND_FACADE_HIDDEN const struct fnd_private_name *fnd_private_find(struct fnd_private *p, const char *name);
/* Inside a section; 0 or -ENOMEM. */
FND_FACADE_HIDDEN int fnd_private_put(struct fnd_private *p, const struct fnd_private_name *n);
FND_FACADE_HIDDEN bool fnd_private_drop(struct fnd_private *p, const char *name);

/* Copies of all names, or of those only that are not published, ending in one whose name is empty; to be freed.
 * NULL: no memory. Not in a section. */
FND_FACADE_HIDDEN struct fnd_private_name *fnd_private_copy(struct fnd_private *p, bool unpublished, size_t *ret_n);

/* How many names there are, and how many of them are published; not in a section. */
FND_FACADE_HIDDEN void fnd_private_count(struct fnd_private *p, uint64_t ret[2]);

/* Frees what nobody can see any more and resizes, when it is time; not in a section. */
FND_FACADE_HIDDEN void fnd_private_tidy(struct fnd_private *p);

/* Grows in every child of fork(). */
FND_FACADE_HIDDEN unsigned int fnd_private_forks(void);

#else

static inline int fnd_private_open(struct fnd_private **ret_p)
{
	*ret_p = NULL;
	return 0;
}

static inline const struct fnd_private_name *fnd_private_find(struct fnd_private *p, const char *name)
{
	(void)p;
	(void)name;
	return NULL;
}

static inline int fnd_private_put(struct fnd_private *p, const struct fnd_private_name *n)
{
	(void)p;
	(void)n;
	return 0;
}

static inline bool fnd_private_drop(struct fnd_private *p, const char *name)
{
	(void)p;
	(void)name;
	return false;
}

static inline struct fnd_private_name *fnd_private_copy(struct fnd_private *p, bool unpublished, size_t *ret_n)
{
	(void)p;
	(void)unpublished;
	*ret_n = 0;
	return NULL;
}

static inline void fnd_private_count(struct fnd_private *p, uint64_t ret[2])
{
	(void)p;
	ret[0] = ret[1] = 0;
}

#define fnd_private_close(p) ((void)(p))
#define fnd_private_begin(p) ((void)(p))
#define fnd_private_end(p) ((void)(p))
#define fnd_private_synchronize(p) ((void)(p))
#define fnd_private_tidy(p) ((void)(p))
#define fnd_private_forks() 0u

#endif
#endif
