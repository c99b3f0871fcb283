// SPDX-License-Identifier: MIT
/*
 * Walks over the facade's names.
 *
 * Private names without a shared record are noted first, then the shared registry is walked, then those noted
 * that it did not show are looked up once more: a name that is published meanwhile is shown once, by the one
 * or by the other. No callback is called inside a section.
 */
#include "facade.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

typedef int (*agent_fn)(const char *name, const struct fnd_agent *a, void *arg);

struct walk {
	const struct fnd_criterion *criteria;
	size_t ncriteria;
	agent_fn fn;
	void *arg;
	struct fnd_private_name *noted; /* sorted by name */
	size_t nnoted;
	int64_t count;
};

static int by_name(const void *a, const void *b)
{
	return strcmp(((const struct fnd_private_name *)a)->name, ((const struct fnd_private_name *)b)->name);
}

static bool wanted(const struct walk *w, const struct fnd_agent *a)
{
	return !w->ncriteria || fnd_query_match(w->criteria, w->ncriteria, a->metadata, a->metadata_bytes);
}

static int hand_out(struct walk *w, const char *name, const struct fnd_agent *a)
{
	w->count++;
	return w->fn ? w->fn(name, a, w->arg) : 0;
}

static int shared_one(const char *name, const struct fnd_agent *a, void *arg)
{
	struct walk *w = arg;

	if (w->nnoted) {
		struct fnd_private_name key, *n;

		strcpy(key.name, name);
		n = bsearch(&key, w->noted, w->nnoted, sizeof(key), by_name);
		if (n)
			n->published = true; /* shown: not once more */
	}
	return hand_out(w, name, a);
}

static void note(struct fnd_runtime *rt, struct walk *w, bool unpublished)
{
	w->noted = fnd_private_copy(rt->priv, unpublished, &w->nnoted);
	if (w->noted && w->nnoted)
		qsort(w->noted, w->nnoted, sizeof(*w->noted), by_name);
}

static int walk_private(struct walk *w)
{
	int err = 0;

	for (size_t i = 0; !err && i < w->nnoted; i++)
		if (wanted(w, &w->noted[i].agent))
			err = hand_out(w, w->noted[i].name, &w->noted[i].agent);
	return err;
}

static int walk_both(struct fnd_runtime *rt, struct walk *w)
{
	int err = rt->reg ? 0 : fnd_facade_shared(rt, "", NULL);

	if (!err && w->ncriteria)
		err = fnd_registry_query(rt->reg, w->criteria, w->ncriteria, shared_one, w);
	else if (!err)
		err = fnd_registry_list(rt->reg, 0, shared_one, w);
	for (size_t i = 0; !err && i < w->nnoted; i++) {
		struct fnd_agent a;

		if (!w->noted[i].published && fnd_agent_lookup(rt, w->noted[i].name, &a, NULL) == 0 &&
		    fnd_same_owner(&a.owner, &rt->self) && wanted(w, &a))
			err = hand_out(w, w->noted[i].name, &a);
	}
	return err;
}

static int walk(struct fnd_runtime *rt, struct walk *w)
{
	unsigned int mode;
	int err = w->ncriteria ? fnd_query_check(w->criteria, w->ncriteria) : 0;

	if (!err)
		err = fnd_facade_enter(rt, &mode);
	if (err)
		return err;
	fnd_facade_leave(rt);
	note(rt, w, mode & (FND_MODE_SHARED | FND_MODE_BOTH));
	if (rt->priv && !w->noted)
		return -ENOMEM;
	err = mode & (FND_MODE_SHARED | FND_MODE_BOTH) ? walk_both(rt, w) : walk_private(w);
	free(w->noted);
	return err;
}

int fnd_agent_list(struct fnd_runtime *rt, agent_fn fn, void *arg)
{
	struct walk w = { .fn = fn, .arg = arg };

	return walk(rt, &w);
}

int64_t fnd_agent_count(struct fnd_runtime *rt)
{
	struct walk w = { .fn = NULL };
	int err = walk(rt, &w);

	return err ? err : w.count;
}

int fnd_agent_query(struct fnd_runtime *rt, const struct fnd_criterion *criteria, size_t n, agent_fn fn, void *arg)
{
	struct walk w = { .criteria = criteria, .ncriteria = n, .fn = fn, .arg = arg };

	return walk(rt, &w);
}

int fnd_agent_find(struct fnd_runtime *rt, const char *attribute, const struct fnd_value *value, agent_fn fn,
		   void *arg)
{
	struct fnd_criterion c = { .attribute = attribute, .op = FND_CRITERION_EQ, .nvalues = 1, .values = value };

	return fnd_agent_query(rt, &c, 1, fn, arg);
}
