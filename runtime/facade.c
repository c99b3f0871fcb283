// SPDX-License-Identifier: MIT
/*
 * The registry's facade: one name in two backends, and the flags that say which is asked.
 *
 * A write holds the name's lock of this process over both backends, shared first: until it has returned
 * nobody was promised anything, and a reader that meets the two between finds them to differ and takes the
 * shared one. Readers take no lock unless they do.
 */
#include "facade.h"

#include <errno.h>
#include <string.h>

/* The same refusals, in the same order, as the shared registry's. */
static int arguments(const char *name, const void *metadata, size_t bytes, unsigned int flags,
		     unsigned int known)
{
	size_t n = name ? strnlen(name, FND_AGENT_NAME_MAX + 1) : 0;
	int err;

	if (n < 1 || n > FND_AGENT_NAME_MAX)
		return fnd_error_set(EINVAL, "an agent's name has 1 to %d bytes", FND_AGENT_NAME_MAX);
	err = fnd_metadata_check(metadata, bytes);
	if (err)
		return err;
	return flags & ~known ? fnd_error_set(EINVAL, "unknown flags %#x", flags) : 0;
}

/* The entry as it is after a write of this process that the shared registry has not got. */
static int put_own(struct fnd_runtime *rt, const char *name, const struct fnd_private_name *old,
		   const void *metadata, size_t bytes, bool again)
{
	struct fnd_private_name n = { .agent = { .owner = rt->self } };

	if (old)
		n = *old;
	else
		strcpy(n.name, name);
	/* A dirty copy keeps generation and time: they say of which record it is one. */
	n.dirty = n.published;
	if (n.dirty)
		fnd_store_relaxed(&rt->dirty, 1); /* relaxed: whoever wrote sees it, others come later */
	if (!n.published) {
		n.agent.generation++;
		n.agent.registered_ns = again || !old ? fnd_facade_now() : n.agent.registered_ns;
	}
	n.agent.metadata_bytes = bytes;
	if (bytes)
		memcpy(n.agent.metadata, metadata, bytes);
	return fnd_private_put(rt->priv, &n);
}

/* Errors that say nothing about the name, but that the registry is of no use. */
static bool broken(int err)
{
	return err == -FND_E_CORRUPT || err == -FND_E_FENCED;
}

/* The copy is of no record any more: what it says is this process's own. */
static void disown(struct fnd_runtime *rt, const struct fnd_private_name *n)
{
	struct fnd_private_name own = *n;

	own.published = own.dirty = false;
	fnd_private_put(rt->priv, &own);
}

/* --- lookup --------------------------------------------------------------------------------------- */

static int lookup_private_first(struct fnd_runtime *rt, const char *name, unsigned int mode,
				struct fnd_agent *ret, enum fnd_backend *ret_backend)
{
	const struct fnd_private_name *n = fnd_private_find(rt->priv, name);
	struct fnd_agent a;
	int err;

	if (n) {
		*ret = n->agent;
		*ret_backend = FND_BACKEND_PRIVATE;
		if (!(mode & FND_MODE_BOTH))
			return 0;
#ifdef FND_MUTANT_FLIP_NO_GENERATION
		return 0;
#endif
	} else if (!(mode & FND_MODE_BOTH)) {
		return -ENOENT;
	}
	err = fnd_facade_shared(rt, name, &a);
	if (n && err == 0 && fnd_facade_agree(rt, n, &a))
		return 0;
	if (n)
		return fnd_facade_settle(rt, name, true, ret, ret_backend);
	if (err)
		return err;
	*ret = a;
	*ret_backend = FND_BACKEND_SHARED;
	return 0;
}

static int lookup_shared_first(struct fnd_runtime *rt, const char *name, struct fnd_agent *ret,
			       enum fnd_backend *ret_backend)
{
	int err = fnd_facade_shared(rt, name, ret);
	const struct fnd_private_name *n;

	*ret_backend = FND_BACKEND_SHARED;
	if (err == 0 && !fnd_load_relaxed(&rt->dirty)) /* relaxed: see where it is set */
		return 0;
	n = fnd_private_find(rt->priv, name);
	if (!n || (err == 0 && !n->dirty))
		return err;
#ifdef FND_MUTANT_FLIP_NO_GENERATION
	*ret = n->agent;
	return 0;
#endif
	return fnd_facade_settle(rt, name, true, ret, ret_backend);
}

int fnd_agent_lookup(struct fnd_runtime *rt, const char *name, struct fnd_agent *ret_agent,
		     enum fnd_backend *ret_backend)
{
	enum fnd_backend backend = FND_BACKEND_NONE;
	struct fnd_agent a;
	unsigned int mode;
	int err = arguments(name, NULL, 0, 0, 0);

	if (!err)
		err = fnd_facade_enter(rt, &mode);
	if (err)
		return err;
	if (mode & FND_MODE_SHARED)
		err = lookup_shared_first(rt, name, &a, &backend);
	else
		err = lookup_private_first(rt, name, mode, &a, &backend);
	fnd_facade_leave(rt);
	if (err)
		return err;
	if (ret_agent)
		*ret_agent = a;
	if (ret_backend)
		*ret_backend = backend;
	return 0;
}

/* --- register ------------------------------------------------------------------------------------- */

/* The private registry has taken the name; the shared one gets it too, if it will. */
static int register_private_first(struct fnd_runtime *rt, const char *name, unsigned int mode,
				  const void *metadata, size_t bytes, unsigned int flags)
{
	const struct fnd_private_name *n = fnd_private_find(rt->priv, name);
	int err;

	if (!(mode & FND_MODE_BOTH) && !(n && n->published))
		return put_own(rt, name, n, metadata, bytes, true);
	err = rt->reg ? fnd_registry_register(rt->reg, name, 0, metadata, bytes, flags) : -FND_E_CORRUPT;
	if (err == 0)
		return fnd_facade_mirror(rt, name);
	if (err == -FND_E_FORKED)
		return err;
	if (n && n->published && (err == -EEXIST || broken(err))) {
		disown(rt, n);
		n = fnd_private_find(rt->priv, name);
	}
	err = put_own(rt, name, n, metadata, bytes, true);
	if (!err)
		fnd_facade_settle_locked(rt, name, false, NULL, NULL); /* a clash is noticed there */
	return err;
}

int fnd_agent_register(struct fnd_runtime *rt, const char *name, uint32_t owner_pid, const void *metadata,
		       size_t metadata_bytes, unsigned int flags)
{
	int err = arguments(name, metadata, metadata_bytes, flags, FND_REGISTER_TAKE);
	pthread_mutex_t *lock;
	unsigned int mode;

	if (!err)
		err = fnd_facade_enter(rt, &mode);
	if (err)
		return err;
	lock = fnd_facade_lock(rt, name);
	pthread_mutex_lock(lock);
	if (mode & FND_MODE_SHARED) {
		err = rt->reg ? fnd_registry_register(rt->reg, name, owner_pid, metadata, metadata_bytes, flags) :
				fnd_facade_shared(rt, name, NULL);
		if (!err)
			err = fnd_facade_mirror(rt, name);
	} else if (owner_pid && owner_pid != rt->self.pid) {
		err = fnd_error_set(EOPNOTSUPP, "the private registry knows this process alone, not pid %u",
				    owner_pid);
	} else if (mode & FND_MODE_ENFORCE) {
		err = fnd_facade_refuse(rt, "register", name, __builtin_return_address(0));
	} else {
		err = register_private_first(rt, name, mode, metadata, metadata_bytes, flags);
	}
	pthread_mutex_unlock(lock);
	fnd_facade_leave(rt);
	return err;
}

/* --- unregister ----------------------------------------------------------------------------------- */

static int give_up(struct fnd_runtime *rt, const struct fnd_private_name *n)
{
	char name[FND_AGENT_NAME_MAX + 1];

	strcpy(name, n->name);
	if (n->clash)
		fnd_facade_clash_over(rt, name);
	fnd_private_drop(rt->priv, name);
	return 0;
}

static int unregister_shared(struct fnd_runtime *rt, const char *name, unsigned int flags)
{
	return rt->reg ? fnd_registry_unregister(rt->reg, name, flags) : fnd_facade_shared(rt, name, NULL);
}

static int unregister_shared_first(struct fnd_runtime *rt, const char *name, unsigned int flags)
{
	const struct fnd_private_name *n = fnd_private_find(rt->priv, name);
	int err = unregister_shared(rt, name, flags);

	if (!n)
		return err;
	if (err == 0)
		return give_up(rt, n);
	if (err != -ENOENT && err != -EPERM)
		return err;
	/* A name that is ours and was never published is given up all the same. */
	return give_up(rt, n) == 0 && !n->published ? 0 : err;
}

static int unregister_private_first(struct fnd_runtime *rt, const char *name, unsigned int mode,
				    unsigned int flags)
{
	const struct fnd_private_name *n = fnd_private_find(rt->priv, name);
	int err;

	if (!n)
		return mode & FND_MODE_BOTH ? unregister_shared(rt, name, flags) : -ENOENT;
	if (!n->published)
		return give_up(rt, n);
	/* It has a shared record: that goes with it, else it would come back with the next flag. */
	err = unregister_shared(rt, name, 0);
	if (err && err != -ENOENT && err != -EPERM && !broken(err))
		return err;
	give_up(rt, n);
	return (mode & FND_MODE_BOTH) && !broken(err) ? err : 0;
}

int fnd_agent_unregister(struct fnd_runtime *rt, const char *name, unsigned int flags)
{
	int err = arguments(name, NULL, 0, flags, FND_UNREGISTER_FORCE);
	pthread_mutex_t *lock;
	unsigned int mode;

	if (!err)
		err = fnd_facade_enter(rt, &mode);
	if (err)
		return err;
	lock = fnd_facade_lock(rt, name);
	pthread_mutex_lock(lock);
	if (mode & FND_MODE_SHARED)
		err = unregister_shared_first(rt, name, flags);
	else
		err = unregister_private_first(rt, name, mode, flags);
	pthread_mutex_unlock(lock);
	fnd_facade_leave(rt);
	return err;
}

/* --- update --------------------------------------------------------------------------------------- */

static int update_shared(struct fnd_runtime *rt, const char *name, const void *metadata, size_t bytes)
{
	int err = rt->reg ? fnd_registry_update(rt->reg, name, metadata, bytes) : fnd_facade_shared(rt, name, NULL);
	struct fnd_agent a;

	if (err == 0 && rt->priv && fnd_facade_shared(rt, name, &a) == 0 && fnd_same_owner(&a.owner, &rt->self))
		err = fnd_facade_mirror(rt, name);
	return err;
}

static int update_shared_first(struct fnd_runtime *rt, const char *name, const void *metadata, size_t bytes)
{
	int err = update_shared(rt, name, metadata, bytes);

	if (err == -ENOENT && fnd_private_find(rt->priv, name) &&
	    fnd_facade_settle_locked(rt, name, true, NULL, NULL) == 0) {
		err = update_shared(rt, name, metadata, bytes);
		if (err)
			err = put_own(rt, name, fnd_private_find(rt->priv, name), metadata, bytes, false);
	}
	return err;
}

static int update_private_first(struct fnd_runtime *rt, const char *name, unsigned int mode,
				const void *metadata, size_t bytes)
{
	const struct fnd_private_name *n = fnd_private_find(rt->priv, name);
	struct fnd_agent a;
	int err;

	if (!n)
		return mode & FND_MODE_BOTH ? update_shared(rt, name, metadata, bytes) : -ENOENT;
	if (!(mode & FND_MODE_BOTH) && !n->published)
		return put_own(rt, name, n, metadata, bytes, false);
	err = fnd_facade_shared(rt, name, &a);
	if (err == 0 && fnd_facade_agree(rt, n, &a)) {
		err = update_shared(rt, name, metadata, bytes);
		return err ? put_own(rt, name, n, metadata, bytes, false) : 0;
	}
	if (mode & FND_MODE_BOTH) {
		err = fnd_facade_settle_locked(rt, name, true, &a, NULL);
		if (err)
			return err;
		err = update_shared(rt, name, metadata, bytes);
		n = fnd_private_find(rt->priv, name);
		return err && n ? put_own(rt, name, n, metadata, bytes, false) : err;
	}
	disown(rt, n); /* private answers alone, whatever has become of the record */
	return put_own(rt, name, fnd_private_find(rt->priv, name), metadata, bytes, false);
}

int fnd_agent_update(struct fnd_runtime *rt, const char *name, const void *metadata, size_t metadata_bytes)
{
	int err = arguments(name, metadata, metadata_bytes, 0, 0);
	pthread_mutex_t *lock;
	unsigned int mode;

	if (!err)
		err = fnd_facade_enter(rt, &mode);
	if (err)
		return err;
	lock = fnd_facade_lock(rt, name);
	pthread_mutex_lock(lock);
	if (mode & FND_MODE_SHARED)
		err = update_shared_first(rt, name, metadata, metadata_bytes);
	else if (mode & FND_MODE_ENFORCE)
		err = fnd_facade_refuse(rt, "update", name, __builtin_return_address(0));
	else
		err = update_private_first(rt, name, mode, metadata, metadata_bytes);
	pthread_mutex_unlock(lock);
	fnd_facade_leave(rt);
	return err;
}
