// SPDX-License-Identifier: MIT
/*
 * Destroying the name. Memory goes with its last mapping.
 */
#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "header.h"
#include "name.h"
#include "segment_map.h"

/* Somebody alive in the slots? 0, or -EBUSY naming one. */
static int look_for_participants(struct fnd_segment *seg)
{
	for (uint32_t i = 1; i <= seg->processes; i++) {
		/* [SG-2] after the mark: pairs with settle() */
		uint64_t w = fnd_load_seq_cst(&seg->process[i].word);
		char comm[17] = "";

		if (fnd_slot_state(w) == FND_SLOT_FREE || fnd_process_slot_dead(seg, i, w, true))
			continue;
		memcpy(comm, seg->process[i].comm, 16);
		fnd_printable(comm);
		return fnd_fail(EBUSY, "pid %u (%s) is attached", fnd_slot_id(w), comm);
	}
	return 0;
}

/* Another's namespace or boot: pids mean nothing here. The lease says whether anybody is there. */
static int look_from_outside(int fd)
{
	if (!fnd_lease_take(fd))
		return fnd_fail(EBUSY, "somebody in another pid namespace has it open");
	fnd_lease_drop(fd);
	return 0;
}

/*
 * Mark the segment as being destroyed: my pid, and above it a number of this attempt, so that nobody takes my
 * mark for another's with the same pid. One destroyer at a time; a dead one's mark is taken over, and by force
 * anybody's: a killed destroyer's pid may belong to somebody else by now.
 */
static int mark(struct fnd_segment *seg, unsigned int flags, uint64_t *ret_mine)
{
	uint64_t other = fnd_load_acquire(&seg->hdr->destroying); /* [SG-2] */

	*ret_mine = (fnd_cycles() ^ seg->id) << 32 | seg->identity.pid;
	if (other && !(flags & FND_DESTROY_FORCE) && !fnd_pid_gone((uint32_t)other))
		return fnd_fail(EBUSY, "pid %u is destroying it", (uint32_t)other);
	if (!fnd_cas(&seg->hdr->destroying, other, *ret_mine)) /* [SG-2] pairs with settle() */
		return fnd_fail(EBUSY, "somebody else is destroying it");
	return 0;
}

static int remove_name(uint32_t uid, const char *name, const struct stat *st)
{
	char path[FND_PATH_BYTES];
	struct stat now;

	fnd_name_path(uid, name, path, sizeof(path));
	if (lstat(path, &now) != 0 || now.st_ino != st->st_ino || now.st_dev != st->st_dev)
		return fnd_fail(ENOENT, "the name %s belongs to another segment now", name);
	return unlink(path) == 0 ? 0 : fnd_fail(errno, "unlink %s", path);
}

static int destroy_sound(int fd, const struct fnd_shm_header *h, const char *name, uint32_t uid,
			 const struct stat *st, unsigned int flags)
{
	struct fnd_segment *seg;
	int err = fnd_home_compare(h), busy = 0;
	uint64_t mine;

	if (err == -FND_E_PIDNS || err == -FND_E_DIRTY) {
		busy = look_from_outside(fd);
		err = busy && !(flags & FND_DESTROY_FORCE) ? busy : remove_name(uid, name, st);
		close(fd);
		return err;
	}
	if (!err)
		err = fnd_segment_map(fd, h, name, uid, &seg);
	if (err) {
		close(fd);
		return err;
	}
	err = mark(seg, flags, &mine);
	if (!err) {
		busy = look_for_participants(seg);
		err = busy && !(flags & FND_DESTROY_FORCE) ? busy : remove_name(uid, name, st);
		if (err)
			fnd_cas(&seg->hdr->destroying, mine, 0); /* [SG-2] */
	}
	fnd_segment_unmap(seg);
	return err;
}

int fnd_segment_destroy(const char *name, unsigned int flags)
{
	char base[FND_NAME_MAX + 1];
	struct fnd_shm_header h;
	struct stat st;
	uint32_t uid;
	int fd, err;

	if (flags & ~FND_DESTROY_FORCE)
		return fnd_fail(EINVAL, "unknown flags %#x", flags);
	err = fnd_name_parse(name, &uid, base);
	if (!err)
		err = fnd_segment_open_file(name, O_RDWR, &fd, &st);
	if (err)
		return err;
	err = fnd_segment_look(fd, &h);
	if (!err)
		return destroy_sound(fd, &h, base, uid, &st, flags);
	close(fd);
	/* Damaged, or of another version: nobody can be looked at. Only what bears our magic goes by force. */
	if ((flags & FND_DESTROY_FORCE) && err != -FND_E_FOREIGN)
		return remove_name(uid, base, &st);
	return err;
}
