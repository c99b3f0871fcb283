// SPDX-License-Identifier: MIT
/*
 * Flags: the word that a killed changer leaves is the one before or the one after, stage and all.
 *
 * The journal is out of reach, so that a child makes the same system calls each time; who kills those that
 * write one is tests/multiproc/test_flags.c.
 */
#include <stdio.h>
#include <stdlib.h>

#include <foundation/flags.h>

#include "../../../runtime/area_layout.h"
#include "instructions.h"

static struct fnd_flags *flags;
static struct fnd_flags_view before, after;
static char wrong[200];

/* The table is made here: what a child makes before it stops is no part of its operation. */
void flags_prepare(void)
{
	setenv("FOUNDATION_STATE_DIR", "/proc/no-such-place", 1);
	must(fnd_flags_open(w.actor[RESCUER].seg, &flags), "flags");
	must(fnd_flags_stage_set(flags, FND_STAGE_4A, NULL), "stage");
	fnd_flags_close(flags);
}

void flags_first(void)
{
	must(fnd_flags_open(seg, &flags), "child: flags");
}

int run_flags_change(void)
{
	static const struct fnd_flag_change to[] = { { FND_FLAG_MIGRATION_MONITORING, 40 },
						     { FND_FLAG_SHARED_REGISTRY, 0 } };

	return fnd_flags_change(flags, to, 2, -1, NULL);
}

int run_flags_rollback(void)
{
	return fnd_flags_rollback(flags, FND_COMPONENT_TELEMETRY, NULL);
}

int run_flags_emergency(void)
{
	return fnd_flags_emergency(w.name, NULL, NULL);
}

void flags_note(pid_t pid, bool is_after)
{
	(void)pid;
	fnd_flags_view_of_area(fnd_segment_area(w.actor[RESCUER].seg), is_after ? &after : &before);
}

static bool alike(const struct fnd_flags_view *a, const struct fnd_flags_view *b)
{
	return a->stage == b->stage && a->generation == b->generation &&
	       memcmp(a->percent, b->percent, FND_FLAG_KNOWN) == 0;
}

const char *flags_check(void)
{
	struct fnd_flags_view now;

	fnd_flags_view_of_area(fnd_segment_area(w.actor[RESCUER].seg), &now);
	if (alike(&before, &after))
		return "nothing changes at all";
	if (alike(&now, &before) || alike(&now, &after))
		return NULL;
	snprintf(wrong, sizeof(wrong), "stage %u of generation %llu: neither as before nor as after", now.stage,
		 (unsigned long long)now.generation);
	return wrong;
}
