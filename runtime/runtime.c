// SPDX-License-Identifier: MIT
/* The handle a worker holds: flags, events and registry of a segment, and the private registry beside. */
#include "facade.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

void fnd_shared_only_set(struct fnd_segment *seg, int on)
{
	struct fnd_shm_runtime *area = fnd_segment_area(seg);

	fnd_store_release(&area->shared_only, on ? 1u : 0u); /* [FA-2] what the one who marks did before */
}

int fnd_shared_only(struct fnd_segment *seg)
{
	const struct fnd_shm_runtime *area = fnd_segment_area(seg);

	return fnd_load_acquire(&area->shared_only) != 0; /* [FA-2] pairs with fnd_shared_only_set */
}

static int private_open(struct fnd_runtime *rt, unsigned int flags)
{
	if (flags & FND_RUNTIME_SHARED)
		return 0;
#ifndef FND_NO_PRIVATE_BACKENDS
	if (fnd_shared_only(rt->seg))
		return fnd_error_set(EPERM, "the segment is shared only, and this worker has private backends: "
					    "open with FND_RUNTIME_SHARED, or build without them");
#endif
	return fnd_private_open(&rt->priv);
}

static int registry_open(struct fnd_runtime *rt, const struct fnd_runtime_options *opt)
{
	struct fnd_registry_options r = { .size = sizeof(r),
					  .capacity = opt->registry_capacity,
					  .attributes = opt->indexed,
					  .nattributes = opt->nindexed };
	int err;

	if (opt->nindexed)
		err = fnd_registry_open_with(rt->seg, &r, &rt->reg);
	else
		err = fnd_registry_open(rt->seg, opt->registry_capacity, &rt->reg);
	if (err != -FND_E_CORRUPT)
		return err;
	rt->reg = NULL; /* what is private goes on without */
	return rt->priv ? 0 : err;
}

static int parts_open(struct fnd_runtime *rt, const struct fnd_runtime_options *opt)
{
	struct fnd_participant self;
	int err = fnd_segment_self(rt->seg, &self);

	if (err)
		return err;
	rt->self = (struct fnd_owner){ .pid = self.pid, .slot = self.slot, .generation = self.generation };
	err = private_open(rt, opt->flags);
	if (!err)
		err = fnd_flags_open(rt->seg, &rt->flags);
	if (!err && opt->identity)
		err = fnd_flags_identity_set(rt->flags, opt->identity);
	if (!err && fnd_events_open(rt->seg, &rt->events) != 0)
		rt->events = NULL; /* nothing depends on it */
	return err ? err : registry_open(rt, opt);
}

int fnd_runtime_open(struct fnd_segment *seg, const struct fnd_runtime_options *opt, struct fnd_runtime **ret_rt)
{
	struct fnd_runtime_options none = { .size = sizeof(none) };
	struct fnd_runtime *rt;
	int err;

	if (!opt)
		opt = &none;
	if (opt->size != sizeof(*opt) || opt->flags & ~FND_RUNTIME_SHARED)
		return fnd_error_set(EINVAL, "size or flags of the runtime's options");
	rt = calloc(1, sizeof(*rt));
	if (!rt)
		return -ENOMEM;
	rt->seg = seg;
	rt->area = fnd_segment_area(seg);
	rt->mode = FND_MODE_NONE;
	rt->forks = fnd_private_forks();
	pthread_mutex_init(&rt->flip, NULL);
	for (unsigned int i = 0; i < FND_WRITE_LOCKS; i++)
		pthread_mutex_init(&rt->write[i], NULL);
	err = parts_open(rt, opt);
	if (err) {
		fnd_runtime_close(rt);
		return err;
	}
	*ret_rt = rt;
	return 0;
}

void fnd_runtime_close(struct fnd_runtime *rt)
{
	if (!rt)
		return;
	if (rt->workers && rt->forks == fnd_private_forks())
		fnd_table_delete(rt->workers, &rt->self.slot, sizeof(rt->self.slot));
	fnd_table_close(rt->workers);
	fnd_registry_close(rt->reg);
	fnd_events_close(rt->events);
	fnd_flags_close(rt->flags);
	fnd_private_close(rt->priv);
	for (unsigned int i = 0; i < FND_WRITE_LOCKS; i++)
		pthread_mutex_destroy(&rt->write[i]);
	pthread_mutex_destroy(&rt->flip);
	free(rt);
}

struct fnd_segment *fnd_runtime_segment(struct fnd_runtime *rt)
{
	return rt->seg;
}

struct fnd_flags *fnd_runtime_flags(struct fnd_runtime *rt)
{
	return rt->flags;
}

struct fnd_events *fnd_runtime_events(struct fnd_runtime *rt)
{
	return rt->events;
}

struct fnd_registry *fnd_runtime_registry(struct fnd_runtime *rt)
{
	return rt->reg;
}

int fnd_runtime_private(const struct fnd_runtime *rt)
{
	return rt->priv != NULL;
}

enum fnd_backend fnd_agent_backend(struct fnd_runtime *rt)
{
	if (!rt->priv || fnd_flag_enabled(rt->flags, FND_FLAG_SHARED_REGISTRY))
		return FND_BACKEND_SHARED;
	return FND_BACKEND_PRIVATE;
}
