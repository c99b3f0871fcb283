// SPDX-License-Identifier: MIT
/*
 * Where a thread's context lies: in its own memory or in the segment, and what becomes of it when the thread
 * forks, ends, or the flag changes.
 *
 * A context is in one place. Moving copies it, publishes the copy, then takes the old one back: a death in
 * between leaves the copy in the segment, whole, or none.
 */
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "context_internal.h"

__thread struct fnd_context_local *fnd_context_self __attribute__((tls_model("initial-exec")));

static pthread_mutex_t handles_mutex = PTHREAD_MUTEX_INITIALIZER;
static struct fnd_context *handles;
static uint64_t handles_made;
static pthread_once_t once = PTHREAD_ONCE_INIT;
static pthread_key_t key;
static int key_error;

/* --- this process and its children ------------------------------------------------------------------ */

/* The child gets the context as it is now: what is in the segment is the parent's. */
static void before_fork(void)
{
	pthread_mutex_lock(&handles_mutex);
	if (fnd_context_self && fnd_context_self->at != &fnd_context_self->own)
		memcpy(&fnd_context_self->own, fnd_context_self->at, sizeof(fnd_context_self->own));
}

static void after_fork_parent(void)
{
	pthread_mutex_unlock(&handles_mutex);
}

static void after_fork_child(void)
{
	for (struct fnd_context *c = handles; c; c = c->next)
		c->forked = true;
	if (fnd_context_self) {
		fnd_context_self->at = &fnd_context_self->own;
		fnd_context_self->place = 0;
	}
	pthread_mutex_unlock(&handles_mutex);
}

static void thread_ends(void *arg)
{
	fnd_context_self = NULL;
	free(arg);
}

static void set_up(void)
{
	key_error = pthread_key_create(&key, thread_ends);
	if (!key_error)
		key_error = pthread_atfork(before_fork, after_fork_parent, after_fork_child);
}

int fnd_context_open(struct fnd_segment *seg, struct fnd_flags *flags, const struct fnd_context_options *opt,
		     struct fnd_context **ret_ctx)
{
	struct fnd_context *ctx;

	if (opt && opt->size != sizeof(*opt))
		return fnd_error_set(EINVAL, "struct fnd_context_options has another size");
#ifdef FND_NO_PRIVATE_BACKENDS
	if (!seg)
		return fnd_error_set(EPERM, "this library was built without private backends");
#endif
	pthread_once(&once, set_up);
	ctx = key_error ? NULL : calloc(1, sizeof(*ctx));
	if (!ctx)
		return -ENOMEM;
	ctx->seg = seg;
	ctx->flags = flags;
	if (opt)
		ctx->opt = *opt;
	pthread_mutex_lock(&handles_mutex);
	ctx->id = ++handles_made;
	ctx->next = handles;
	handles = ctx;
	pthread_mutex_unlock(&handles_mutex);
	*ret_ctx = ctx;
	return 0;
}

void fnd_context_stats_read(const struct fnd_context *ctx, struct fnd_context_stats *ret_stats)
{
	/* relaxed, all: counts for people */
	*ret_stats = (struct fnd_context_stats){ .refused = fnd_load_relaxed(&ctx->refused),
						 .dropped = fnd_load_relaxed(&ctx->dropped),
						 .flips = fnd_load_relaxed(&ctx->flips),
						 .fallbacks = fnd_load_relaxed(&ctx->fallbacks) };
}

/* --- where a thread's context is -------------------------------------------------------------------- */

static void begin_empty(struct fnd_context_local *l)
{
	l->word = l->word >> 32 << 32; /* the version goes on */
	l->crumbs = l->dropped = 0;
	l->start = l->hidden = 0;
}

struct fnd_context_local *fnd_context_local_new(void)
{
	struct fnd_context_local *l = aligned_alloc(64, (sizeof(*l) + 63) & ~(size_t)63);
	struct timespec ts;

	if (!l)
		return NULL;
	memset(l, 0, sizeof(*l));
	l->at = &l->own;
	/* two owners of a slot do not write the same words */
	clock_gettime(CLOCK_MONOTONIC, &ts);
	l->word = (uint64_t)((uint32_t)ts.tv_nsec * 2654435761u) << 32;
	if (pthread_setspecific(key, l)) {
		free(l);
		return NULL;
	}
	fnd_context_self = l;
	return l;
}

static bool handle_open(uint64_t id)
{
	const struct fnd_context *c;

	pthread_mutex_lock(&handles_mutex);
	for (c = handles; c && (c->id != id || c->forked); c = c->next)
		;
	pthread_mutex_unlock(&handles_mutex);
	return c != NULL;
}

void fnd_context_move(struct fnd_context_local *l, struct fnd_shm_context *to, uint64_t place)
{
	struct fnd_shm_context *from = l->at;
	struct fnd_context_state s;

	if ((l->place && !handle_open(l->place)) || from == to) {
		begin_empty(l); /* what it was in is gone */
		from = NULL;
	}
	s = fnd_context_now(l);
	fnd_store_release(&to->word, 0); /* [CX-1] nothing counts while it changes */
	fnd_compiler_barrier();
	to->crumbs = l->crumbs;
	to->dropped = l->dropped;
	if (from) {
		memcpy(to->crumb, from->crumb, sizeof(to->crumb));
		memcpy(to->fields[s.half], from->fields[s.half], s.used);
	}
	l->at = to;
	l->place = place;
	fnd_context_word_store(l);
	if (from)
		fnd_store_release(&from->word, 0); /* [CX-1] */
}

void fnd_context_close(struct fnd_context *ctx)
{
	struct fnd_context **pp = &handles;

	if (!ctx)
		return;
	if (fnd_context_self && fnd_context_self->place == ctx->id && !ctx->forked)
		fnd_context_move(fnd_context_self, &fnd_context_self->own, 0);
	pthread_mutex_lock(&handles_mutex);
	while (*pp && *pp != ctx)
		pp = &(*pp)->next;
	if (*pp)
		*pp = ctx->next;
	pthread_mutex_unlock(&handles_mutex);
	free(ctx);
}

void fnd_context_fallback(struct fnd_context *ctx, int err)
{
	if (err == -FND_E_FORKED) /* a child that no handler of fork() has told */
		ctx->forked = true;
	fnd_fetch_add(&ctx->fallbacks, 1);
}
