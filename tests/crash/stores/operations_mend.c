// SPDX-License-Identifier: MIT
/*
 * Mending a table. The victim damages a word of it, by one store, and mends it; whoever comes after it mends what it
 * left, before anybody looks. Killed at any store, it leaves a table that the next one puts right.
 */
#include <stdio.h>
#include <string.h>

#include "stores.h"

#define WRONG(...) (snprintf(wrong, sizeof(wrong), __VA_ARGS__), wrong)

static char wrong[256];
static unsigned int which;

/* Before the operation, so that a state is the same each time it is run. */
void about_damage(void)
{
	which = (unsigned int)(world_draw() % 6);
}

/* By a function that is wrapped, so that this store too is one of the operation's. */
static void put_word(uint64_t *word, uint64_t value)
{
	memcpy(word, &value, sizeof(value));
}

static void damage(struct fnd_segment *seg, const struct fnd_table *t)
{
	struct fnd_shm_table *d = &seg->table[t->number];

	switch (which) {
	case 0:
		put_word(&d->checksum, d->checksum ^ 4);
		break;
	case 1:
		put_word(&d->root_off, d->root_off ^ 64);
		break;
	case 2:
		put_word(&d->root_off, 0);
		break;
	case 3:
		put_word(&d->region_off[0], d->region_off[0] + 64);
		break;
	case 4:
		put_word(&t->index[0], 0);
		break;
	default:
		put_word(&t->index[t->shards - 1], t->index[t->shards - 1] ^ 1);
	}
}

int run_mend(void)
{
	struct fnd_segment *seg = w.actor[VICTIM].seg;

	damage(seg, w.victims);
	return fnd_table_mend(seg, w.victims->name, NULL, NULL);
}

const char *mend_first(const struct trial *t)
{
	int err = fnd_table_mend(w.actor[t->rescuer].seg, w.victims->name, NULL, NULL);

	return err ? WRONG("mending, damage %u: %s [%s]", which, fnd_strerror(err), fnd_error_detail()) : NULL;
}
