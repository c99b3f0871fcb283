// SPDX-License-Identifier: MIT
/*
 * The private registry, on rculfhash in its urcu-bp flavour: threads register by themselves.
 *
 * No thread of its own: neither call_rcu nor automatic resizing is used, both of which start one in whatever
 * process the library is loaded into. Entries that were taken out wait in a list until FREE_AT of them have
 * come together; then whoever tidies waits for one grace period and frees them all.
 */
#include "registry_private.h"

#ifndef FND_NO_PRIVATE_BACKENDS

#include <errno.h>
#include <pthread.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <urcu/urcu-bp.h>
#include <urcu/rculfhash.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#define BUCKETS 64u /* at first */
#define FREE_AT 64u

struct entry {
	struct cds_lfht_node node;
	struct entry *next; /* of those taken out */
	struct fnd_private_name n;
};

struct fnd_private {
	struct cds_lfht *table;
	pthread_mutex_t lock; /* of what follows */
	struct entry *out;
	unsigned int nout;
	unsigned long buckets;
	unsigned long names; /* changed under the lock, read without */
};

/* --- fork ----------------------------------------------------------------------------------------- */

static unsigned int forks;

unsigned int fnd_private_forks(void)
{
	return forks;
}

static void after_fork_child(void)
{
	forks++;
	urcu_bp_after_fork_child();
}

static void fork_handlers(void)
{
	pthread_atfork(urcu_bp_before_fork, urcu_bp_after_fork_parent, after_fork_child);
}

/* --- the handle ----------------------------------------------------------------------------------- */

int fnd_private_open(struct fnd_private **ret_p)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;
	struct fnd_private *p = calloc(1, sizeof(*p));

	if (!p)
		return -ENOMEM;
	pthread_once(&once, fork_handlers);
	p->table = cds_lfht_new_flavor(BUCKETS, 1, 0, 0, &urcu_bp_flavor, NULL);
	if (!p->table) {
		free(p);
		return -ENOMEM;
	}
	p->buckets = BUCKETS;
	pthread_mutex_init(&p->lock, NULL);
	*ret_p = p;
	return 0;
}

static void free_all(struct entry *e)
{
	while (e) {
		struct entry *next = e->next;

		free(e);
		e = next;
	}
}

void fnd_private_close(struct fnd_private *p)
{
	struct cds_lfht_iter iter;
	struct entry *e;

	if (!p)
		return;
	urcu_bp_read_lock();
	cds_lfht_for_each_entry(p->table, &iter, e, node) {
		cds_lfht_del(p->table, &e->node);
		e->next = p->out;
		p->out = e;
	}
	urcu_bp_read_unlock();
	cds_lfht_destroy(p->table, NULL);
	free_all(p->out);
	pthread_mutex_destroy(&p->lock);
	free(p);
}

void fnd_private_begin(struct fnd_private *p)
{
	if (p)
		urcu_bp_read_lock();
}

void fnd_private_end(struct fnd_private *p)
{
	if (p)
		urcu_bp_read_unlock();
}

void fnd_private_synchronize(struct fnd_private *p)
{
	if (p)
		urcu_bp_synchronize_rcu();
}

/* --- names ---------------------------------------------------------------------------------------- */

static unsigned long hash_of(const char *name)
{
	return (unsigned long)XXH3_64bits(name, strlen(name));
}

static int is_name(struct cds_lfht_node *node, const void *key)
{
	return strcmp(caa_container_of(node, struct entry, node)->n.name, key) == 0;
}

const struct fnd_private_name *fnd_private_find(struct fnd_private *p, const char *name)
{
	struct cds_lfht_node *node;
	struct cds_lfht_iter iter;

	if (!p)
		return NULL;
	cds_lfht_lookup(p->table, hash_of(name), is_name, name, &iter);
	node = cds_lfht_iter_get_node(&iter);
	return node ? &caa_container_of(node, struct entry, node)->n : NULL;
}

static void taken_out(struct fnd_private *p, struct entry *e, bool replaced)
{
	pthread_mutex_lock(&p->lock);
	e->next = p->out;
	p->out = e;
	p->nout++;
	p->names -= !replaced;
	pthread_mutex_unlock(&p->lock);
}

int fnd_private_put(struct fnd_private *p, const struct fnd_private_name *n)
{
	struct entry *e;
	struct cds_lfht_node *old;

	if (!p)
		return 0;
	e = malloc(sizeof(*e));
	if (!e)
		return -ENOMEM;
	memset(e, 0, offsetof(struct entry, n));
	e->n = *n;
	cds_lfht_node_init(&e->node);
	old = cds_lfht_add_replace(p->table, hash_of(n->name), is_name, n->name, &e->node);
	if (old) {
		taken_out(p, caa_container_of(old, struct entry, node), true);
		return 0;
	}
	pthread_mutex_lock(&p->lock);
	p->names++;
	pthread_mutex_unlock(&p->lock);
	return 0;
}

bool fnd_private_drop(struct fnd_private *p, const char *name)
{
	struct cds_lfht_node *node;
	struct cds_lfht_iter iter;

	if (!p)
		return false;
	cds_lfht_lookup(p->table, hash_of(name), is_name, name, &iter);
	node = cds_lfht_iter_get_node(&iter);
	if (!node || cds_lfht_del(p->table, node) != 0)
		return false;
	taken_out(p, caa_container_of(node, struct entry, node), false);
	return true;
}

struct fnd_private_name *fnd_private_copy(struct fnd_private *p, bool unpublished, size_t *ret_n)
{
	struct fnd_private_name *all = calloc(1, sizeof(*all));
	size_t n = 0, room = 1;
	struct cds_lfht_iter iter;
	struct entry *e;

	if (!p)
		goto out;
	urcu_bp_read_lock();
	cds_lfht_for_each_entry(p->table, &iter, e, node) {
		if (unpublished && e->n.published)
			continue;
		if (n + 1 >= room && all) {
			struct fnd_private_name *more = realloc(all, (room * 2) * sizeof(*all));

			if (!more)
				free(all);
			all = more;
			room *= 2;
		}
		if (!all)
			break;
		all[n++] = e->n;
	}
	urcu_bp_read_unlock();
out:
	if (all)
		all[n].name[0] = '\0';
	*ret_n = n;
	return all;
}

void fnd_private_count(struct fnd_private *p, uint64_t ret[2])
{
	struct cds_lfht_iter iter;
	struct entry *e;

	ret[0] = ret[1] = 0;
	if (!p)
		return;
	urcu_bp_read_lock();
	cds_lfht_for_each_entry(p->table, &iter, e, node) {
		ret[0]++;
		ret[1] += e->n.published;
	}
	urcu_bp_read_unlock();
}

void fnd_private_tidy(struct fnd_private *p)
{
	struct entry *out = NULL;
	unsigned long buckets = 0;

	if (!p)
		return;
	/* racy looks: whoever is late does it at its next call */
	if (__atomic_load_n(&p->nout, __ATOMIC_RELAXED) < FREE_AT && /* relaxed: a hint */
	    __atomic_load_n(&p->names, __ATOMIC_RELAXED) <= __atomic_load_n(&p->buckets, __ATOMIC_RELAXED))
		return;
	pthread_mutex_lock(&p->lock);
	if (p->nout >= FREE_AT) {
		out = p->out;
		p->out = NULL;
		p->nout = 0;
	}
	while (p->names > p->buckets)
		buckets = p->buckets *= 2;
	pthread_mutex_unlock(&p->lock);
	if (out) {
		urcu_bp_synchronize_rcu();
		free_all(out);
	}
	if (buckets)
		cds_lfht_resize(p->table, buckets);
}

#endif
