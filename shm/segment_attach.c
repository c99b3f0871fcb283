// SPDX-License-Identifier: MIT
/*
 * Attaching: a state machine with an answer of its own for each case.
 *
 *   open     absent, not ours (link, FIFO, owner, mode), no permission      fnd_segment_open_file
 *   header   not ours (magic), too old, too new, other layout, damaged      fnd_header_check_fixed
 *   home     another boot or pid namespace: nobody has it open -> take over, else dirty / pid namespace
 *   map      no address space, header changed meanwhile                     fnd_segment_map
 *   join     no slot                                                        fnd_segment_join
 *   settle   being destroyed, name gone meanwhile                           settle
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include "header.h"
#include "name.h"
#include "segment_map.h"

/* Naps of 5 ms on average: a crowd that comes to an abandoned segment keeps each other from the lease, and
 * those behind the first wait for its takeover. */
#define LEASE_TRIES 80

/* Nobody is there: every slot is a dead one's. A death in here leaves the old home or a torn one, and the
 * next comer takes over again. */
static int take_over(struct fnd_segment *seg)
{
	struct fnd_shm_header home;
	int err = fnd_home_fill(&home);

	if (err)
		return err;
	for (uint32_t i = 1; i <= seg->processes; i++) {
		uint64_t w = fnd_load_relaxed(&seg->process[i].word); /* relaxed, all: we are alone */

		fnd_store_relaxed(&seg->process[i].word,
				  fnd_slot_word(FND_SLOT_FREE, fnd_slot_gen(w) + 1, 0));
	}
	for (uint32_t i = 1; i <= seg->threads; i++) {
		uint64_t w = fnd_load_relaxed(&seg->thread[i].word);

		fnd_store_relaxed(&seg->thread[i].epoch, 0);
		fnd_store_relaxed(&seg->thread[i].word,
				  fnd_slot_word(FND_SLOT_FREE, fnd_slot_gen(w) + 1, 0));
	}
	fnd_store_relaxed(&seg->hdr->destroying, 0);
	memcpy(seg->hdr->boot_id, home.boot_id, sizeof(home.boot_id));
	fnd_store_relaxed(&seg->hdr->pidns_ino, home.pidns_ino);
	fnd_store_relaxed(&seg->hdr->timens_ino, home.timens_ino);
	fnd_store_release(&seg->hdr->home_checksum, home.home_checksum); /* [SG-1] with fnd_home_compare */
	return 0;
}

/* After the slot is claimed: is the segment still there to be attached to? */
static int settle(struct fnd_segment *seg)
{
	char path[FND_PATH_BYTES];
	struct stat st;
	uint64_t mark;

	/* [SG-2] pairs with fnd_segment_destroy: it marks, then looks for participants; we claimed, then
	 * look for the mark. One of the two sees the other. */
	mark = fnd_load_seq_cst(&seg->hdr->destroying);
	if (mark && fnd_pid_gone((uint32_t)mark)) {
		fnd_cas(&seg->hdr->destroying, mark, 0); /* [SG-2] */
		mark = fnd_load_seq_cst(&seg->hdr->destroying); /* [SG-2] somebody else's by now? */
	}
	if (mark)
		return fnd_fail(ENOENT, "segment %s is being destroyed by pid %u", seg->name,
				(uint32_t)mark);
	fnd_name_path(seg->uid, seg->name, path, sizeof(path));
	if (lstat(path, &st) != 0 || st.st_ino != seg->ino || st.st_dev != seg->dev)
		return fnd_fail(ENOENT, "segment %s was destroyed meanwhile", seg->name);
	return 0;
}

static int map_and_join(int fd, const struct fnd_shm_header *h, const char *name, uint32_t uid,
			bool takeover, struct fnd_segment **ret_seg)
{
	struct fnd_segment *seg;
	int err = fnd_segment_map(fd, h, name, uid, &seg);

	if (err) {
		close(fd);
		return err;
	}
	if (takeover)
		err = take_over(seg);
	if (!err)
		err = fnd_segment_join(seg);
	if (takeover)
		fnd_lease_drop(fd);
	if (err) {
		fnd_segment_unmap(seg);
		return err;
	}
	err = settle(seg);
	if (err) {
		fnd_segment_detach(seg);
		return err;
	}
	*ret_seg = seg;
	return 0;
}

static int check_file(int fd, struct fnd_shm_header *h, bool *ret_takeover)
{
	int err = fnd_segment_look(fd, h);

	if (err)
		return err;
	err = fnd_home_compare(h);
	*ret_takeover = false;
	if ((err == -FND_E_PIDNS || err == -FND_E_DIRTY) && fnd_lease_take(fd)) {
		*ret_takeover = true;
		err = fnd_segment_look(fd, h); /* once more, now that nobody can change it */
	}
	return err;
}

/* One attempt. -FND_E_PIDNS and -FND_E_DIRTY may pass: somebody else may have it open to take it over. */
static int attach_once(const char *name, const char *base, uint32_t uid, struct fnd_segment **ret_seg)
{
	struct fnd_shm_header h;
	struct stat st;
	bool takeover;
	int fd, err = fnd_segment_open_file(name, O_RDWR, &fd, &st);

	if (err)
		return err;
	fnd_attachments_lock();
	*ret_seg = fnd_attachment_share(st.st_dev, st.st_ino);
	fnd_attachments_unlock();
	if (*ret_seg) {
		close(fd);
		return 0;
	}
	err = check_file(fd, &h, &takeover);
	if (err) {
		close(fd);
		return err;
	}
	return map_and_join(fd, &h, base, uid, takeover, ret_seg);
}

static int attach(const char *name, const struct fnd_attach_options *opt, struct fnd_segment **ret_seg)
{
	char base[FND_NAME_MAX + 1];
	struct fnd_segment *seg;
	uint32_t uid;
	int err = fnd_name_parse(name, &uid, base);

	for (int tries = 0; !err; tries++) {
		err = attach_once(name, base, uid, &seg);
		if ((err != -FND_E_PIDNS && err != -FND_E_DIRTY) || tries == LEASE_TRIES)
			break;
		err = 0;
		fnd_lease_nap();
	}
	if (err)
		return err;
	if (opt && opt->lock_timeout_ms)
		seg->lock_timeout_ms = opt->lock_timeout_ms;
	if (opt && opt->stall) {
		seg->stall_arg = opt->stall_arg;
		seg->stall = opt->stall;
	}
	*ret_seg = seg;
	return 0;
}

int fnd_segment_attach(const char *name, const struct fnd_attach_options *opt,
		       struct fnd_segment **ret_seg)
{
	int err;

	if (opt && (opt->size != sizeof(*opt) || opt->flags))
		return fnd_fail(EINVAL, "attach options of another version");
	fnd_attaching_begin();
	err = attach(name, opt, ret_seg);
	fnd_attaching_end();
	return err;
}
