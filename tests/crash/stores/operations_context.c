// SPDX-License-Identifier: MIT
/*
 * Error contexts: the victim's area, as its reaper has kept it, is the one before the operation or the one
 * after it.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "../../../runtime/context_internal.h"
#include "hooks.h"
#include "stores.h"

static struct fnd_context *shared_ctx, *private_ctx;
static struct fnd_scope scope;
static struct fnd_context_view before, after;
static char wrong[300];

static void must(int err, const char *what)
{
	if (err < 0) {
		fprintf(stderr, "stores: seed %llu: %s: %s [%s]\n", (unsigned long long)w.seed, what,
			fnd_strerror(err), fnd_error_detail());
		exit(2);
	}
}

/* No context is an empty one. */
static const char *view_of(const void *area, struct fnd_context_view *ret)
{
	int err;

	memset(ret, 0, sizeof(*ret));
	err = fnd_context_decode_area(area, FND_THREAD_AREA_BYTES, ret);
	if (err == -ENOENT) {
		ret->map_bytes = 1;
		ret->map[0] = 0x80;
		err = 0;
	}
	return err ? fnd_error_detail() : NULL;
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

static const struct fnd_shm_area *area_of_victim(void)
{
	return &w.actor[VICTIM].seg->area[w.actor[VICTIM].th->index];
}

/* --- states ---------------------------------------------------------------------------------------- */

static void open_both(void)
{
	world_act(VICTIM);
	must(fnd_context_open(w.actor[VICTIM].seg, NULL, NULL, &shared_ctx), "context");
	must(fnd_context_open(NULL, NULL, NULL, &private_ctx), "private context");
	scope.ctx = NULL;
}

static void set(const char *key, unsigned int bytes)
{
	static const char text[] = "................................................................................";

	must(fnd_context_set(shared_ctx, (struct fnd_field){ .key = key, .value = { .type = FND_VALUE_STR,
			     .bytes = bytes, .v.text = text } }), key);
}

static void begun(const char *key)
{
	struct fnd_field f = fnd_uint(key, world_draw() % 1000);

	must(fnd_context_begin(shared_ctx, &scope, &f, 1), "begin");
}

static void no_context(void)
{
	open_both();
	world_act(FOUNDER);
}

static void some_context(void)
{
	open_both();
	set("request", 20);
	begun("step");
	world_act(FOUNDER);
}

static void some_crumbs(void)
{
	open_both();
	for (unsigned int i = 0; i < 5 + world_draw() % 12; i++)
		must(fnd_context_crumb(shared_ctx, i % 2 ? "odd" : "even"), "breadcrumb");
	begun("step");
	set("request", 10);
	world_act(FOUNDER);
}

/* The next field has everything packed anew. */
static void nearly_full(void)
{
	char key[8];

	open_both();
	set("base", (unsigned int)(20 + world_draw() % 50));
	begun("step");
	for (unsigned int i = 0; fnd_context_now(fnd_context_self).used < FND_CONTEXT_BYTES - 60; i++) {
		snprintf(key, sizeof(key), "k%u", i - i / 4); /* every fourth hides another */
		set(key, (unsigned int)(world_draw() % 40));
	}
	set("tail", FND_CONTEXT_BYTES - fnd_context_now(fnd_context_self).used - 10);
	world_act(FOUNDER);
}

static void nothing_fits(void)
{
	char key[8];

	open_both();
	for (unsigned int i = 0; i < FND_CONTEXT_FIELDS_MAX; i++) {
		snprintf(key, sizeof(key), "k%u", i);
		set(key, (unsigned int)(world_draw() % 5));
	}
	world_act(FOUNDER);
}

const struct state context_states[CONTEXT_STATES] = {
	{ "empty", NULL, no_context },	   { "typical", NULL, some_context },
	{ "breadcrumbs", NULL, some_crumbs }, { "nearly-full", NULL, nearly_full },
	{ "full", NULL, nothing_fits },
};

/* --- operations ------------------------------------------------------------------------------------ */

void about_context(void)
{
	view_of(area_of_victim(), &before);
}

/* The context goes to the victim's own memory first. */
void about_private(void)
{
	world_act(VICTIM);
	fnd_context_depth(private_ctx);
	world_act(FOUNDER);
	about_context();
}

static int done(int err)
{
	view_of(area_of_victim(), &after);
	return err == -ENOSPC ? 0 : err;
}

int run_context_set(void)
{
	return done(fnd_context_set(shared_ctx, fnd_str("request", "another request than before")));
}

int run_context_begin(void)
{
	struct fnd_field f[] = { fnd_str("step", "inner"), fnd_int("line", -17), fnd_str("request", "theirs") };

	return done(fnd_context_begin(shared_ctx, &scope, f, 3));
}

int run_context_end(void)
{
	return done(fnd_context_end(&scope));
}

int run_context_attach(void)
{
	return done(fnd_context_attach(shared_ctx, &scope, "\x82\xa1" "a\x01\xa1" "b\xa1" "c", 8));
}

int run_context_crumb(void)
{
	return done(fnd_context_crumb(shared_ctx, "a new breadcrumb of some length"));
}

int run_context_share(void)
{
	return done((int)(fnd_context_depth(shared_ctx) & 0));
}

int run_context_unshare(void)
{
	return done((int)(fnd_context_depth(private_ctx) & 0));
}

void context_done(void)
{
	free(fnd_context_self);
	fnd_context_self = NULL;
	fnd_context_close(shared_ctx);
	fnd_context_close(private_ctx);
}

struct kept {
	struct fnd_context_view view;
	const char *err;
	bool found;
};

static int take_kept(const struct fnd_remains *r, void *arg)
{
	struct kept *k = arg;

	if (r->pid == world_pid(VICTIM)) {
		k->found = true;
		k->err = view_of(r->area, &k->view);
	}
	return 0;
}

const char *check_context(const struct trial *t)
{
	struct kept k = { .view = { .map_bytes = 1, .map = { 0x80 } } };
	int err = fnd_remains_iterate(w.actor[t->rescuer].seg, take_kept, &k, NULL);

	if (err || k.err) {
		snprintf(wrong, sizeof(wrong), "what is kept of the victim: %s", err ? fnd_strerror(err) : k.err);
		return wrong;
	}
	if (same(&k.view, &before) || same(&k.view, &after))
		return NULL;
	snprintf(wrong, sizeof(wrong),
		 "the context kept is neither: depth %u, %u fields, %u breadcrumbs; before %u %u %u, after %u %u %u",
		 k.view.depth, k.view.fields, k.view.crumbs, before.depth, before.fields, before.crumbs, after.depth,
		 after.fields, after.crumbs);
	return wrong;
}
