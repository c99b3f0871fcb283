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

/* A killed destroyer whose pid has a new owner looks alive: force goes over it. */
static int mark(struct fnd_segment *seg, unsigned int flags)
{
	uint64_t me = seg->identity.pid, other = fnd_load_relaxed(&seg->hdr->destroying);

	if (other && other != me && other <= UINT32_MAX && !(flags & FND_DESTROY_FORCE) &&
	    fnd_evidence_claiming((uint32_t)other) != FND_PROVEN_DEAD)
		return fnd_fail(EBUSY, "pid %llu is destroying it", (unsigned long long)other);
	fnd_exchange(&seg->hdr->destroying, me); /* [SG-2] pairs with settle() */
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
	err = mark(seg, flags);
	if (!err) {
		busy = look_for_participants(seg);
		err = busy && !(flags & FND_DESTROY_FORCE) ? busy : remove_name(uid, name, st);
		if (err)
			fnd_exchange(&seg->hdr->destroying, 0); /* [SG-2] */
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
