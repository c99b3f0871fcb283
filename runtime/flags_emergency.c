// SPDX-License-Identifier: MIT
/*
 * The emergency rollback: every migration flag off and stage 0, by one store into the header.
 *
 * It stands on nothing else: not on a slot, a table, a lock or a living process. First the store, then the
 * journal; whoever waits for a change is woken, who reads sees it with the next read.
 */
#include "flags_internal.h"

#include <errno.h>

int fnd_flags_emergency(const char *segment, const struct fnd_change_info *info, uint64_t *ret_before)
{
	struct fnd_flags_changed c = { .type = "rollback", .info = info };
	struct fnd_shm_runtime *area;
	struct fnd_journal *journal = NULL;
	void *mapped;
	int err = fnd_area_open(segment, &mapped);

	if (err)
		return err;
	area = mapped;
	do {
		c.before = fnd_load_acquire(&area->flags); /* [FL-1] */
		c.after = fnd_word_counted(c.before) & FND_FLAGS_COUNT_MASK;
	} while (!fnd_cas(&area->flags, c.before, c.after)); /* [FL-1] this swap is the rollback */
	fnd_flags_wake(area);
	err = fnd_journal_open(segment, NULL, &journal);
	if (!err)
		err = fnd_flags_write(NULL, journal, area, &c);
	fnd_journal_close(journal);
	fnd_area_close(mapped);
	if (ret_before)
		*ret_before = c.before;
	return err ? FND_NOT_DURABLE : 0;
}
