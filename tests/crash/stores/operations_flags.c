// SPDX-License-Identifier: MIT
/*
 * Flags: states, operations, and what must hold of them after a death.
 *
 * There is no journal here: it is no memory, and tests/multiproc/test_flags.c kills those who write it.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <foundation/flags.h>

#include "../../../runtime/area_layout.h"
#include "stores.h"

#define APPS 2 /* application flags that always change together */

static struct fnd_flags *flags;
static struct fnd_flags_view before, after; /* of the seven; the operation is one step between them */
static char wrong[200];

#define WRONG(...) (snprintf(wrong, sizeof(wrong), __VA_ARGS__), wrong)

static void must(int err, const char *what)
{
	if (err < 0) {
		fprintf(stderr, "stores: seed %llu: preparing: %s: %s [%s]\n", (unsigned long long)w.seed, what,
			fnd_strerror(err), fnd_error_detail());
		exit(2);
	}
}

/* --- states --------------------------------------------------------------------------------------- */

static void flags_at(unsigned int stage, unsigned int apps)
{
	char name[16];

	setenv("FOUNDATION_STATE_DIR", "/proc/no-such-place", 1);
	world_act(VICTIM);
	must(fnd_flags_open(w.actor[VICTIM].seg, &flags), "flags");
	if (stage)
		must(fnd_flags_stage_set(flags, stage, NULL), "stage");
	for (unsigned int i = 0; i < apps; i++) {
		snprintf(name, sizeof(name), "app.%u", i);
		must(fnd_flag_define(flags, name, "what it is for", 10), name);
	}
	world_act(FOUNDER);
	fnd_flags_view(flags, &before);
	after = before;
}

static void flags_new(void)
{
	flags_at(FND_STAGE_0, 0);
}

static void flags_typical(void)
{
	flags_at(FND_STAGE_2, APPS);
}

static void flags_all(void)
{
	flags_at(FND_STAGE_5, APPS);
}

static void flags_read(void)
{
	flags_at(FND_STAGE_4A, APPS);
	reader_opens();
}

/* A changer has died over the block that does not count. */
static void flags_half(void)
{
	struct fnd_shm_runtime *area;

	flags_at(FND_STAGE_3, APPS + world_draw() % 3);
	area = fnd_segment_area(w.actor[VICTIM].seg);
	area->app_flag[~area->app_root & 1][1] = 77;
	area->app_flag[~area->app_root & 1][200] = 77;
}

const struct state flags_states[FLAGS_STATES] = {
	{ "new", NULL, flags_new },
	{ "typical", NULL, flags_typical },
	{ "all-on", NULL, flags_all },
	{ "reader", NULL, flags_read },
	{ "half-written", NULL, flags_half },
};

/* --- operations ----------------------------------------------------------------------------------- */

static const struct fnd_flag_change change_to[] = { { FND_FLAG_MIGRATION_MONITORING, 40 },
						    { FND_FLAG_SHARED_REGISTRY, 100 } };

void about_change(void)
{
	for (unsigned int i = 0; i < 2; i++)
		after.percent[change_to[i].id] = (uint8_t)change_to[i].percent;
}

void about_rollback(void)
{
	after.percent[FND_FLAG_SHARED_TELEMETRY] = 0;
	after.percent[FND_FLAG_SHARED_SPANS] = 0;
	after.percent[FND_FLAG_SHARED_SAMPLED_EVENTS] = 0;
	if (after.stage > FND_STAGE_3)
		after.stage = FND_STAGE_3;
}

void about_emergency(void)
{
	memset(after.percent, 0, FND_FLAG_KNOWN);
	after.stage = 0;
}

static int done(int err)
{
	return err == FND_NOT_DURABLE ? 0 : err;
}

int run_flags_change(void)
{
	static const struct fnd_change_info info = { "a reason", "somebody" };

	return done(fnd_flags_change(flags, change_to, 2, -1, &info));
}

int run_flags_application(void)
{
	struct fnd_flag_change change[APPS];

	for (unsigned int i = 0; i < APPS; i++)
		change[i] = (struct fnd_flag_change){ FND_FLAG_KNOWN + i, 90 };
	if (fnd_flag_percent(flags, FND_FLAG_KNOWN) < 0) /* none is defined yet */
		return fnd_flag_define(flags, "app.0", "what it is for", 10) < 0;
	return done(fnd_flags_change(flags, change, APPS, -1, NULL));
}

int run_flags_define(void)
{
	int id = fnd_flag_define(flags, "another", "what it is for", 50);

	return id < 0 ? id : 0;
}

int run_rollback(void)
{
	return done(fnd_flags_rollback(flags, FND_COMPONENT_TELEMETRY, NULL));
}

int run_emergency(void)
{
	return done(fnd_flags_emergency(w.name, NULL, NULL));
}

/* While a definition is under way the record of all places says so. */
void about_definition(void)
{
	w.passing = "*";
}

void flags_done(void)
{
	fnd_flags_close(flags);
	flags = NULL;
}

/* --- checks --------------------------------------------------------------------------------------- */

static bool alike(const struct fnd_flags_view *a, const struct fnd_flags_view *b)
{
	return a->stage == b->stage && memcmp(a->percent, b->percent, FND_FLAG_KNOWN) == 0;
}

/* The seven with the stage as they were, or one step on; application flags that change together, alike. */
const char *check_flags(const struct trial *t)
{
	struct fnd_flags_view now;

	fnd_flags_view_of_area(fnd_segment_area(w.actor[t->rescuer].seg), &now);
	if (!alike(&now, &before) && !(alike(&now, &after) && now.generation > before.generation))
		return WRONG("stage %u of generation %llu after %u of %llu: neither as before nor as after", now.stage,
			     (unsigned long long)now.generation, before.stage, (unsigned long long)before.generation);
	for (unsigned int i = 1; before.percent[FND_FLAG_KNOWN] <= 100 && i < APPS; i++)
		if (now.percent[FND_FLAG_KNOWN + i] != now.percent[FND_FLAG_KNOWN])
			return WRONG("application flags 0 and %u stand at %u and %u", i, now.percent[FND_FLAG_KNOWN],
				     now.percent[FND_FLAG_KNOWN + i]);
	return NULL;
}
