/* SPDX-License-Identifier: MIT */
/* A thread's context in its process: the handle, the thread's own memory, and which of two places counts. */
#ifndef FOUNDATION_RUNTIME_CONTEXT_INTERNAL_H
#define FOUNDATION_RUNTIME_CONTEXT_INTERNAL_H

#include <stdbool.h>

#include <foundation/atomic.h>
#include <foundation/context.h>
#include <foundation/flags.h>

#include "context_layout.h"

#define FND_CONTEXT_SITES 64u /* call sites that were refused and reported; further ones are counted only */

struct fnd_context {
	struct fnd_segment *seg;
	struct fnd_flags *flags;
	struct fnd_context_options opt;
	struct fnd_context *next;
	uint64_t id;
	bool forked; /* its segment handle is the parent's */
	uint64_t refused, dropped, flips, fallbacks;
	const void *site[FND_CONTEXT_SITES];
};

/* A thread's own memory. */
struct fnd_context_local {
	struct fnd_shm_context own;
	struct fnd_shm_context *at; /* where the context is: own, or the thread's area */
	uint64_t place;		    /* 0, or the number of the handle whose segment has that area */
	/* As at->word, which others might have damaged; where that is 0 it still has the version. One word, so that
	 * the next call's load meets one store: a struct of five is copied by loads that wait for several. */
	uint64_t word;
	uint64_t crumbs, dropped;
	uint32_t start; /* used when the innermost scope began */
	uint32_t hidden; /* entries of that scope which later ones hide */
	/* Where each entry of a half begins, those behind the count not yet or no longer: from one entry to the next
	 * leads its length only, which is slow to follow, and backwards nothing. */
	uint16_t entry[2][FND_CONTEXT_FIELDS_MAX];
};

extern __thread struct fnd_context_local *fnd_context_self __attribute__((tls_model("initial-exec")));

struct fnd_context_local *fnd_context_local_new(void);
/* Takes the context to another place; to->word is what counts last. */
void fnd_context_move(struct fnd_context_local *l, struct fnd_shm_context *to, uint64_t place);
/* No area to be had: counts, and notices a child of clone(2). */
void fnd_context_fallback(struct fnd_context *ctx, int err);

static inline bool fnd_context_wants_shared(const struct fnd_context *ctx)
{
	if (!ctx->seg || ctx->forked)
		return false;
#ifdef FND_NO_PRIVATE_BACKENDS
	return true;
#else
	return !ctx->flags || fnd_flag_enabled(ctx->flags, FND_FLAG_SHARED_ERROR_CONTEXT);
#endif
}

static inline struct fnd_context_state fnd_context_now(const struct fnd_context_local *l)
{
	return fnd_context_state(l->word);
}

/* Is there nothing to keep? Then the word is 0. */
static inline bool fnd_context_is_empty(const struct fnd_context_local *l)
{
	return (l->word & FND_CONTEXT_USED_DEPTH) == 0 && (l->crumbs & 255) == 0;
}

/* [CX-1] pairs with fnd_context_observe, and with who reaps the thread: what the word covers is there. */
static inline void fnd_context_word_store(struct fnd_context_local *l)
{
	uint64_t w = 0;

	if (!fnd_context_is_empty(l)) {
		l->word += 1ULL << 32;
		if (l->word >> 32 == 0)
			l->word |= 1ULL << 32;
		w = l->word;
	}
	fnd_store_release(&l->at->word, w); /* [CX-1] */
}

/* The calling thread's context, in the place where it has to be now; NULL: no handle, or no memory. */
static inline struct fnd_context_local *fnd_context_here(struct fnd_context *ctx)
{
	struct fnd_context_local *l = fnd_context_self;
	uint64_t place = 0;
	void *to;

	if (__builtin_expect(!ctx, 0))
		return NULL;
	if (__builtin_expect(!l, 0)) {
		l = fnd_context_local_new();
		if (!l)
			return NULL;
	}
	to = &l->own;
	if (fnd_context_wants_shared(ctx)) {
		int err = fnd_thread_area(ctx->seg, &to);

		if (__builtin_expect(err == 0, 1))
			place = ctx->id;
		else
			fnd_context_fallback(ctx, err);
	}
	if (__builtin_expect(to != (void *)l->at || place != l->place, 0)) {
		fnd_fetch_add(&ctx->flips, 1);
		fnd_context_move(l, to, place);
	}
	return l;
}

#endif
