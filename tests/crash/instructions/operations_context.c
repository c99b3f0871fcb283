// SPDX-License-Identifier: MIT
/* Error contexts: what the reaper keeps of the child is its context before the operation or after it. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "../../../runtime/context_internal.h"
#include "instructions.h"

static struct fnd_context *shared_ctx, *private_ctx;
static struct fnd_scope scope;
static struct fnd_context_view before, after;
static char wrong[200];

/* --- in the child ---------------------------------------------------------------------------------- */

static void set(const char *key, uint32_t bytes)
{
	static char text[FND_CONTEXT_BYTES];
	struct fnd_field f = { .key = key, .value = { .type = FND_VALUE_STR, .bytes = bytes, .v.text = text } };

	memset(text, '.', sizeof(text));
	must(fnd_context_set(shared_ctx, f), key);
}

void context_first(void)
{
	struct fnd_field f = fnd_uint("step", 300);

	must(fnd_context_open(seg, NULL, NULL, &shared_ctx), "child: context");
	must(fnd_context_open(NULL, NULL, NULL, &private_ctx), "child: context");
	set("request", 20);
	for (int i = 0; i < 10; i++)
		must(fnd_context_crumb(shared_ctx, i % 2 ? "odd" : "even"), "child: breadcrumb");
	must(fnd_context_begin(shared_ctx, &scope, &f, 1), "child: scope");
}

void context_first_full(void)
{
	char key[8];

	context_first();
	for (uint32_t i = 0; fnd_context_now(fnd_context_self).used < FND_CONTEXT_BYTES - 60; i++) {
		snprintf(key, sizeof(key), "k%u", i - i / 4); /* every fourth hides another */
		set(key, 20 + i % 30);
	}
	set("tail", FND_CONTEXT_BYTES - fnd_context_now(fnd_context_self).used - 10);
}

void context_first_private(void)
{
	context_first();
	fnd_context_depth(private_ctx);
}

int run_context_set(void)
{
	return fnd_context_set(shared_ctx, fnd_str("request", "another request than before"));
}

int run_context_begin(void)
{
	struct fnd_field f[] = { fnd_str("step", "inner"), fnd_int("line", -17) };

	return fnd_context_begin(shared_ctx, &scope, f, 2);
}

int run_context_end(void)
{
	return fnd_context_end(&scope);
}

int run_context_crumb(void)
{
	return fnd_context_crumb(shared_ctx, "a new breadcrumb of some length");
}

int run_context_share(void)
{
	return (int)fnd_context_depth(shared_ctx);
}

int run_context_unshare(void)
{
	return (int)fnd_context_depth(private_ctx);
}

/* --- in the parent --------------------------------------------------------------------------------- */

static int view_of(const void *area, struct fnd_context_view *ret)
{
	int err;

	memset(ret, 0, sizeof(*ret));
	err = fnd_context_decode_area(area, FND_THREAD_AREA_BYTES, ret);
	return err == -ENOENT ? 0 : err;
}

void context_note(pid_t pid, bool is_after)
{
	struct fnd_segment *s = w.actor[RESCUER].seg;

	for (uint32_t i = 1; i <= s->threads; i++)
		if (fnd_slot_state(s->thread[i].word) == FND_SLOT_ACTIVE &&
		    fnd_slot_id(s->thread[i].word) == (uint32_t)pid)
			must(view_of(&s->area[i], is_after ? &after : &before), "the child's area");
}

static bool same(const struct fnd_context_view *a, const struct fnd_context_view *b)
{
	if (a->depth != b->depth || a->crumbs != b->crumbs || a->map_bytes != b->map_bytes ||
	    memcmp(a->map, b->map, a->map_bytes) != 0)
		return false;
	for (uint32_t i = 0; i < a->crumbs; i++)
		if (strcmp(a->crumb[i].text, b->crumb[i].text) != 0)
			return false;
	return true;
}

static int last(const struct fnd_remains *r, void *arg)
{
	return view_of(r->area, arg);
}

const char *context_check(void)
{
	struct fnd_context_view kept;
	int err;

	memset(&kept, 0, sizeof(kept));
	err = fnd_remains_iterate(w.actor[RESCUER].seg, last, &kept, NULL);
	if (!err && (same(&kept, &before) || same(&kept, &after)))
		return NULL;
	snprintf(wrong, sizeof(wrong), "what is kept of it (%s) is neither: depth %u, %u fields, %u breadcrumbs",
		 fnd_strerror(err), kept.depth, kept.fields, kept.crumbs);
	return wrong;
}
