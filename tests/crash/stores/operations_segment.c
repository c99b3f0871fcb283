// SPDX-License-Identifier: MIT
/* Operations on the segment as a whole: coming to an abandoned one, destroying it, noting who stands still. */
#include <errno.h>
#include <stdio.h>

#include "header.h"
#include "hooks.h"
#include "segment_map.h"
#include "stores.h"

static char wrong[300];

#define WRONG(...) (snprintf(wrong, sizeof(wrong), __VA_ARGS__), wrong)

/* --- nobody is left ------------------------------------------------------------------------------- */

void nobody_left(void)
{
	for (enum who i = FOUNDER; i < WHO_MAX; i++)
		if (w.actor[i].here)
			world_die(i);
	world_hide();
}

/* The pids in the slots mean nothing here: the segment is from before a restart, … */
void other_boot(void)
{
	struct fnd_shm_header *h = w.actor[FOUNDER].seg->hdr;

	nobody_left();
	w.strangers = true;
	h->boot_id[world_draw() % sizeof(h->boot_id)] ^= 0xff;
	h->home_checksum = fnd_home_checksum(h);
}

/* … or from another container. */
void other_pidns(void)
{
	struct fnd_shm_header *h = w.actor[FOUNDER].seg->hdr;

	nobody_left();
	w.strangers = true;
	h->pidns_ino += 7;
	h->home_checksum = fnd_home_checksum(h);
}

int run_arrive(void)
{
	return world_arrive(VICTIM);
}

void arrived(void)
{
	world_depart(VICTIM);
}

const char *check_home(const struct trial *t)
{
	int err = fnd_home_compare(w.actor[t->rescuer].seg->hdr);

	return err ? WRONG("the segment's home is not here: %s", fnd_strerror(err)) : NULL;
}

/* --- destroying ----------------------------------------------------------------------------------- */

int run_destroy(void)
{
	return fnd_segment_destroy(w.name, 0);
}

int run_destroy_forced(void)
{
	return fnd_segment_destroy(w.name, FND_DESTROY_FORCE);
}

/* As long as the name is there it can be attached to, whatever mark a dead destroyer has left; then never. */
const char *check_name(const struct trial *t)
{
	int err, want = w.name_gone ? -ENOENT : 0;

	world_act(COMER);
	err = world_arrive(COMER);
	world_depart(COMER);
	world_act(t->rescuer);
	return err == want ? NULL : WRONG("attaching by name: %s [%s]", fnd_strerror(err), fnd_error_detail());
}

/* --- a reader that stands still ------------------------------------------------------------------- */

static uint64_t open_since;

void stands_still(void)
{
	reader_opens();
	open_since = world_time();
	world_time_pass(1000000);
}

/* Found in the way, and found again when it is a stall. */
int run_stall(void)
{
	uint32_t index = w.actor[READER].th->index;

	fnd_stall_found(w.actor[VICTIM].seg, index);
	world_time_pass(2 * FND_STALL_NS);
	fnd_stall_found(w.actor[VICTIM].seg, index);
	return 0;
}

/* What is noted is of the section that is open, and not older than it. */
const char *check_stall(const struct trial *t)
{
	struct fnd_stall s;
	int err = fnd_segment_stall(w.actor[t->rescuer].seg, &s);

	if (err == -ENOENT)
		return NULL;
	if (err)
		return WRONG("asking for a stall: %s", fnd_strerror(err));
	if (s.pid != world_pid(READER) || s.age_ns > world_time() - open_since)
		return WRONG("pid %u is said to stand still for %llu ns, pid %u has for %llu", s.pid,
			     (unsigned long long)s.age_ns, world_pid(READER),
			     (unsigned long long)(world_time() - open_since));
	return NULL;
}
