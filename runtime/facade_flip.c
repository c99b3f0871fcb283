// SPDX-License-Identifier: MIT
/*
 * How a process follows the flags: docs/decisions/0017-the-flip.md says why each step is there, and
 * tests/models/flip.pml what breaks without it.
 *
 * Terms. *Word*: the flags as one 64-bit value; no two changes give the same. *Mode*: what a word says to this
 * worker. *Met*: a word is met when every private name has been brought together with its shared record.
 *
 * Guarantees.
 *  A. A call runs under one mode from its first step to its last, and under a word that was in force after
 *     the call began.
 *  B. While a word is being met no call of this process is under way: those under the old word have ended
 *     (a grace period of liburcu), those that come wait for the mutex.
 *  C. A name with a shared record is what the record says; a private copy is believed only as far as it is
 *     of that very record.
 */
#include "facade.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "flags_internal.h"

/* --- one name, in both backends ------------------------------------------------------------------- */

pthread_mutex_t *fnd_facade_lock(struct fnd_runtime *rt, const char *name)
{
	uint32_t h = 2166136261u; /* FNV-1a: which of 64 locks, nothing more */

	for (; *name; name++)
		h = (h ^ (unsigned char)*name) * 16777619u;
	return &rt->write[h % FND_WRITE_LOCKS];
}

int fnd_facade_shared(struct fnd_runtime *rt, const char *name, struct fnd_agent *ret)
{
	if (!rt->reg)
		return fnd_error_set(FND_E_CORRUPT, "the shared registry could not be opened");
	return fnd_registry_lookup(rt->reg, name, ret);
}

/* A name given up and taken again begins its generations anew: the time tells the two apart. */
bool fnd_facade_agree(const struct fnd_runtime *rt, const struct fnd_private_name *n, const struct fnd_agent *a)
{
	return n->published && n->agent.generation == a->generation &&
	       n->agent.registered_ns == a->registered_ns && fnd_same_owner(&a->owner, &rt->self);
}

static int put_copy(struct fnd_runtime *rt, const char *name, const struct fnd_agent *a)
{
	struct fnd_private_name n = { .agent = *a, .published = true };

	strcpy(n.name, name);
	return fnd_private_put(rt->priv, &n);
}

/* The entry has lost: its record is gone, or another's. */
static void lose(struct fnd_runtime *rt, const char *name)
{
	if (fnd_private_drop(rt->priv, name))
		fnd_facade_count(rt, FND_FACADE_STALE, 1);
}

int fnd_facade_mirror(struct fnd_runtime *rt, const char *name)
{
	const struct fnd_private_name *n = fnd_private_find(rt->priv, name);
	struct fnd_agent a;
	int err;

	if (!rt->priv)
		return 0;
	err = fnd_facade_shared(rt, name, &a);
	if (n && n->clash)
		fnd_facade_clash_over(rt, name);
	if (err == 0 && fnd_same_owner(&a.owner, &rt->self))
		return put_copy(rt, name, &a);
	if (n)
		fnd_private_drop(rt->priv, name);
	return 0;
}

/* The shared record is another's: a copy loses, a name of our own is a clash. */
static void lost_to(struct fnd_runtime *rt, const struct fnd_private_name *n, const struct fnd_agent *a)
{
	struct fnd_private_name marked;

	if (n->published) {
		lose(rt, n->name);
		return;
	}
	if (n->clash)
		return;
	marked = *n;
	marked.clash = true;
	if (fnd_private_put(rt->priv, &marked) == 0)
		fnd_facade_clash(rt, marked.name, &a->owner);
}

/* 0: it is published now, or somebody else's record is there; else it stays private. */
static int publish_one(struct fnd_runtime *rt, const struct fnd_private_name *n)
{
	struct fnd_agent a;
	int err;

	err = fnd_registry_register(rt->reg, n->name, 0, n->agent.metadata, n->agent.metadata_bytes, 0);
	if (err == 0) {
		fnd_facade_count(rt, FND_FACADE_CARRIED, 1);
		return fnd_facade_mirror(rt, n->name);
	}
	if (err == -EEXIST && fnd_facade_shared(rt, n->name, &a) == 0)
		lost_to(rt, n, &a);
	return err == -EEXIST ? 0 : err;
}

static bool holder_dead(const struct fnd_runtime *rt, const struct fnd_agent *a)
{
	struct fnd_participant p = { .pid = a->owner.pid, .slot = a->owner.slot, .generation = a->owner.generation };

	return p.slot == 0 || fnd_participant_dead(rt->seg, &p);
}

/* What the private entry says, if it may be believed: @err is what the shared lookup gave. */
static int answer_private(struct fnd_runtime *rt, const char *name, int err, struct fnd_agent *ret,
			  enum fnd_backend *ret_backend)
{
	const struct fnd_private_name *n = fnd_private_find(rt->priv, name);

	if (!n || (err == -ENOENT && n->published))
		return err;
	if (ret)
		*ret = n->agent;
	if (ret_backend)
		*ret_backend = FND_BACKEND_PRIVATE;
	return 0;
}

int fnd_facade_settle_locked(struct fnd_runtime *rt, const char *name, bool publish, struct fnd_agent *ret,
			     enum fnd_backend *ret_backend)
{
	const struct fnd_private_name *n = fnd_private_find(rt->priv, name);
	struct fnd_agent a;
	int err = fnd_facade_shared(rt, name, &a);

	if (err == -ENOENT && n && n->published) {
		lose(rt, name);
	} else if (err == -ENOENT && n && publish && rt->reg) {
		publish_one(rt, n);
		err = fnd_facade_shared(rt, name, &a);
	} else if (err == 0 && !fnd_same_owner(&a.owner, &rt->self)) {
		if (n && publish && !n->published && holder_dead(rt, &a)) {
			publish_one(rt, n);
			err = fnd_facade_shared(rt, name, &a);
		} else if (n) {
			lost_to(rt, n, &a);
		}
	} else if (err == 0 && n && n->dirty && publish && fnd_facade_agree(rt, n, &a)) {
		err = fnd_registry_update(rt->reg, name, n->agent.metadata, n->agent.metadata_bytes);
		if (err == 0) {
			fnd_facade_mirror(rt, name);
			err = fnd_facade_shared(rt, name, &a);
		} /* else the private copy is the newer one */
	} else if (err == 0 && rt->priv && !(n && fnd_facade_agree(rt, n, &a))) {
		if (n && n->clash)
			fnd_facade_clash_over(rt, name);
		put_copy(rt, name, &a);
	}
	if (err)
		return answer_private(rt, name, err, ret, ret_backend);
	if (ret)
		*ret = a;
	if (ret_backend)
		*ret_backend = FND_BACKEND_SHARED;
	return 0;
}

int fnd_facade_settle(struct fnd_runtime *rt, const char *name, bool publish, struct fnd_agent *ret,
		      enum fnd_backend *ret_backend)
{
	pthread_mutex_t *lock = fnd_facade_lock(rt, name);
	int err;

	pthread_mutex_lock(lock);
	err = fnd_facade_settle_locked(rt, name, publish, ret, ret_backend);
	pthread_mutex_unlock(lock);
	return err;
}

/* --- all names, under a new word ------------------------------------------------------------------ */

/* What a word says; of a percentage between, what the flag says while the word has not moved. */
static unsigned int mode_of(struct fnd_runtime *rt, uint64_t *word)
{
	unsigned int mode, m, e;
	uint64_t w;

	for (;;) {
		w = fnd_load_acquire(&rt->area->flags); /* [FL-1] */
		m = fnd_word_percent(w, FND_FLAG_MIGRATION_MONITORING);
		e = fnd_word_percent(w, FND_FLAG_ENFORCE_SHARED_STATE);
		if (m > 0 && m < 100)
			m = (unsigned int)fnd_flag_for(rt->flags, FND_FLAG_MIGRATION_MONITORING, NULL);
		if (e > 0 && e < 100)
			e = (unsigned int)fnd_flag_for(rt->flags, FND_FLAG_ENFORCE_SHARED_STATE, NULL);
		if (fnd_load_acquire(&rt->area->flags) == w) /* [FL-1] */
			break;
	}
	mode = fnd_word_percent(w, FND_FLAG_SHARED_REGISTRY) ? FND_MODE_SHARED : 0;
	mode |= (m ? FND_MODE_BOTH : 0) | (e ? FND_MODE_ENFORCE : 0);
	if (!rt->priv) /* nothing private is there: the flags have nothing to decide */
		mode |= FND_MODE_SHARED;
	*word = w;
	return mode;
}

struct pull {
	struct fnd_runtime *rt;
	uint64_t others;
};

static int pull_one(const char *name, const struct fnd_agent *a, void *arg)
{
	struct pull *p = arg;

	if (!fnd_same_owner(&a->owner, &p->rt->self)) {
		p->others++;
		return 0;
	}
	fnd_private_begin(p->rt->priv);
	fnd_facade_settle(p->rt, name, false, NULL, NULL);
	fnd_private_end(p->rt->priv);
	return 0;
}

/* Names of ours that only the shared registry knows: somebody registered them for us. */
static void pull(struct fnd_runtime *rt, unsigned int old)
{
	struct pull p = { .rt = rt };

	if (!rt->reg || fnd_registry_list(rt->reg, 0, pull_one, &p) != 0 || old == FND_MODE_NONE)
		return;
	/* relaxed: a figure */
	__atomic_store_n(&rt->counter[FND_FACADE_UNCOMMON], p.others, __ATOMIC_RELAXED);
}

/* Every private name is brought together with its shared record. */
static void meet(struct fnd_runtime *rt, unsigned int old, unsigned int mode)
{
	bool publish = mode & (FND_MODE_SHARED | FND_MODE_BOTH);
	struct fnd_private_name *all;
	size_t n = 0;

	if (!rt->priv)
		return;
	all = fnd_private_copy(rt->priv, false, &n);
	for (size_t i = 0; all && i < n; i++) {
		fnd_private_begin(rt->priv);
		fnd_facade_settle(rt, all[i].name, publish, NULL, NULL);
		fnd_private_end(rt->priv);
	}
	free(all);
#ifdef FND_MUTANT_FLIP_NO_PULL
	publish = true;
#endif
	if (!publish)
		pull(rt, old);
	fnd_private_tidy(rt->priv);
}

static void reconcile(struct fnd_runtime *rt)
{
	unsigned int mode;
	uint64_t word;

	pthread_mutex_lock(&rt->flip);
	mode = mode_of(rt, &word);
	/* relaxed: written under this mutex alone */
	if (word != fnd_load_relaxed(&rt->reconciled) || rt->mode == FND_MODE_NONE) {
#ifdef FND_MUTANT_FLIP_EARLY
		fnd_store_release(&rt->mode, mode);
		fnd_store_release(&rt->reconciled, word);
#endif
#ifndef FND_MUTANT_FLIP_NO_SYNCHRONIZE
		fnd_private_synchronize(rt->priv); /* calls under the old word end; new ones see the new word */
#endif
		meet(rt, rt->mode, mode);
		fnd_store_release(&rt->mode, mode); /* [FA-1] before the word that it is for */
		fnd_store_release(&rt->reconciled, word); /* [FA-1] pairs with fnd_facade_enter */
		fnd_facade_count(rt, FND_FACADE_RECONCILED, 1);
		if (rt->priv)
			fnd_facade_report(rt);
	}
	pthread_mutex_unlock(&rt->flip);
}

int fnd_facade_enter(struct fnd_runtime *rt, unsigned int *ret_mode)
{
	if (rt->forks != fnd_private_forks())
		return fnd_error_set(FND_E_FORKED, "the runtime belongs to the parent process");
	for (;;) {
		uint64_t word;
		unsigned int mode;

		fnd_private_begin(rt->priv);
		word = fnd_load_acquire(&rt->area->flags); /* [FL-1] */
		if (word == fnd_load_acquire(&rt->reconciled)) { /* [FA-1] */
			mode = fnd_load_acquire(&rt->mode); /* [FA-1] stays until the section's end */
			if (mode != FND_MODE_NONE) {
				*ret_mode = mode;
				fnd_facade_pause();
				return 0;
			}
		}
		fnd_private_end(rt->priv);
		reconcile(rt);
	}
}

void fnd_facade_leave(struct fnd_runtime *rt)
{
	fnd_private_end(rt->priv);
	fnd_private_tidy(rt->priv);
}
