// SPDX-License-Identifier: MIT
/*
 * Areas: shared bytes for the layer above, and what is kept of them when their owner has died.
 *
 * Remains are a ring that reapers write: a place is taken by an increment, marked as being written by number
 * 0, filled, and published by its number. A reaper that dies leaves a place without a number, or the same
 * remains twice, as the next reaper of the slot begins anew; nothing waits for it.
 */
#include <foundation/area.h>

#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "header.h"
#include "internal.h"
#include "name.h"
#include "observer.h"

_Static_assert(sizeof(struct fnd_shm_area) == FND_THREAD_AREA_BYTES, "as published");
_Static_assert(sizeof(((struct fnd_shm_header *)0)->area) == FND_AREA_BYTES, "as published");
_Static_assert(FND_SHM_REMAINS == FND_REMAINS_MAX, "as published");

void *fnd_segment_area(struct fnd_segment *seg)
{
	return seg->hdr->area;
}

int fnd_area_open(const char *name, void **ret_area)
{
	struct fnd_shm_header h;
	struct stat st;
	void *page;
	int fd, err = fnd_segment_open_file(name, O_RDWR, &fd, &st);

	if (err)
		return err;
	err = fnd_header_read(fd, &h);
	if (!err)
		err = fnd_header_check_fixed(&h, (uint64_t)st.st_size);
	if (err == -FND_E_CORRUPT && h.magic == FND_MAGIC && h.layout_hash == fnd_layout_hash() &&
	    st.st_size >= (off_t)FND_HEADER_BYTES)
		err = 0;
	if (!err) {
		page = mmap(NULL, FND_HEADER_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
		if (page == MAP_FAILED)
			err = fnd_fail(errno, "mapping the header of %s", name);
		else
			*ret_area = ((struct fnd_shm_header *)page)->area;
	}
	close(fd);
	return err;
}

void fnd_area_close(void *area)
{
	if (area)
		munmap((char *)area - offsetof(struct fnd_shm_header, area), FND_HEADER_BYTES);
}

int fnd_thread_area(struct fnd_segment *seg, void **ret_area)
{
	struct fnd_thread *th;
	int err = fnd_thread_self(seg, &th);

	if (!err)
		*ret_area = &seg->area[th->index];
	return err;
}

int fnd_area_wait(const uint32_t *word, uint32_t value, unsigned int timeout_ms)
{
	struct timespec ts = { timeout_ms / 1000, (long)(timeout_ms % 1000) * 1000000 };

	if (fnd_load_acquire(word) != value) /* [AE-1] pairs with whoever changes it, then wakes */
		return 0;
	if (syscall(SYS_futex, word, FUTEX_WAIT, value, &ts, NULL, 0) == 0 || errno == EAGAIN)
		return 0;
	return errno == ETIMEDOUT || errno == EINTR ? -errno : -EINVAL;
}

void fnd_area_wake(uint32_t *word)
{
	fnd_fence_full(); /* [AE-1] whoever goes to sleep from here on sees what the caller stored */
	syscall(SYS_futex, word, FUTEX_WAKE, INT32_MAX, NULL, NULL, 0);
}

/* --- remains --------------------------------------------------------------------------------------- */

void fnd_remains_keep(struct fnd_segment *seg, uint32_t index)
{
	struct fnd_shm_thread *t = &seg->thread[index];
	struct fnd_shm_area *area = &seg->area[index];
	uint64_t of = fnd_load_acquire(&t->process), number; /* [SL-4] */
	uint32_t slot = (uint32_t)(of >> 32);
	struct fnd_shm_remains *r;

	/* relaxed: its owner is dead. Whoever was claiming the slot has found 0. */
	if (fnd_load_relaxed(&area->word) == 0)
		return;
	number = fnd_fetch_add(&seg->hdr->remains_head, 1) + 1;
	r = &seg->remains[(number - 1) % FND_SHM_REMAINS];
	fnd_exchange(&r->number, 0); /* [AE-2] nobody takes for whole what changes from here on */
	fnd_store_relaxed(&r->process, of); /* relaxed, all: published by the number */
	fnd_store_relaxed(&r->pid, fnd_load_relaxed(&t->pid));
	fnd_store_relaxed(&r->tid, fnd_load_relaxed(&t->tid));
	fnd_store_relaxed(&r->found_ns, fnd_wall_ns());
	if (slot > 0 && slot <= seg->processes)
		memcpy(r->comm, seg->process[slot].comm, sizeof(r->comm));
	else
		memset(r->comm, 0, sizeof(r->comm));
	memcpy(&r->area, area, sizeof(r->area));
	fnd_store_release(&r->number, number); /* [AE-2] pairs with remains_copy */
	fnd_compiler_barrier(); /* kept before it is gone from the slot */
	fnd_store_relaxed(&area->word, 0);
}

static void remains_fill(const struct fnd_shm_remains *from, struct fnd_remains *to)
{
	*to = (struct fnd_remains){ .number = from->number, .pid = from->pid, .tid = from->tid,
				    .slot = (uint32_t)(from->process >> 32),
				    .generation = (uint32_t)from->process & FND_SLOT_GEN_MASK,
				    .found_ns = from->found_ns };
	memcpy(to->comm, from->comm, sizeof(from->comm));
	fnd_printable(to->comm);
	memcpy(to->area, &from->area, sizeof(to->area));
}

/* A private copy of number @n, if it is (still) there whole. */
static bool remains_copy(const struct fnd_shm_remains *place, uint64_t n, struct fnd_shm_remains *ret)
{
	if (fnd_load_acquire(&place->number) != n) /* [AE-2] pairs with fnd_remains_keep */
		return false;
	memcpy(ret, place, sizeof(*ret));
	fnd_fence_full(); /* [AE-2] the copy is before the second look */
	return fnd_load_acquire(&place->number) == n; /* [AE-2] */
}

int fnd_remains_iterate(struct fnd_segment *seg, int (*fn)(const struct fnd_remains *r, void *arg),
			void *arg, uint64_t *ret_dropped)
{
	uint64_t head = fnd_load_acquire(&seg->hdr->remains_head), first; /* [AE-2] */
	struct fnd_shm_remains *copy = malloc(sizeof(*copy));
	struct fnd_remains *r = malloc(sizeof(*r));
	int err = copy && r ? 0 : -ENOMEM;

	first = head > FND_SHM_REMAINS ? head - FND_SHM_REMAINS : 0;
	if (fnd_forked(seg))
		err = fnd_forked_error();
	for (uint64_t n = first + 1; n <= head && !err; n++) {
		if (!remains_copy(&seg->remains[(n - 1) % FND_SHM_REMAINS], n, copy))
			continue;
		remains_fill(copy, r);
		err = fn(r, arg);
	}
	free(copy);
	free(r);
	if (!err && ret_dropped)
		*ret_dropped = first;
	return err;
}

/* --- how it ended ---------------------------------------------------------------------------------- */

int fnd_participant_death(const struct fnd_segment *seg, const struct fnd_participant *who,
			  struct fnd_death *ret_death)
{
	const struct fnd_shm_process *p;
	struct fnd_death d = { 0 };
	uint64_t w;

	if (who->slot == 0 || who->slot > seg->processes)
		return -ENOENT;
	p = &seg->process[who->slot];
	w = fnd_load_acquire(&p->word); /* [SL-2] */
	if (fnd_slot_gen(w) != who->generation || fnd_slot_state(w) == FND_SLOT_ACTIVE)
		return -ENOENT;
	if (fnd_load_acquire(&p->death_generation) == who->generation && /* [SL-5] pairs with death_write */
	    fnd_load_relaxed(&p->death_pid) == who->pid) { /* relaxed: the word is compared below */
		d.known = fnd_load_relaxed(&p->death_known) == 1;
		d.status = d.known ? (int32_t)fnd_load_relaxed(&p->death_status) : 0;
		d.found_ns = fnd_load_relaxed(&p->death_ns);
	} else if (fnd_evidence_status(who->pid, fnd_load_relaxed(&p->start_time), &d.status)) {
		/* relaxed: of this life, the word is compared below. Its reaper died, or has not come so far. */
		d.known = 1;
		d.found_ns = fnd_wall_ns();
	}
	memcpy(d.comm, p->comm, sizeof(p->comm));
	fnd_printable(d.comm);
	if (fnd_slot_gen(fnd_load_acquire(&p->word)) != who->generation) /* [SL-2] */
		return -ENOENT;
	*ret_death = d;
	return 0;
}

/* --- for observers --------------------------------------------------------------------------------- */

int fnd_observer_area(struct fnd_observer *o, unsigned char ret_area[FND_AREA_BYTES])
{
	return fnd_observer_read(o, offsetof(struct fnd_shm_header, area), ret_area, FND_AREA_BYTES);
}

int fnd_observer_thread_area(struct fnd_observer *o, uint32_t slot,
			     unsigned char ret_area[FND_THREAD_AREA_BYTES])
{
	if (slot == 0 || slot > o->header.threads)
		return -EINVAL;
	return fnd_observer_read(o, o->header.area_off + (uint64_t)slot * sizeof(struct fnd_shm_area), ret_area,
				 FND_THREAD_AREA_BYTES);
}

int fnd_observer_remains(struct fnd_observer *o, int (*fn)(const struct fnd_remains *r, void *arg), void *arg,
			 uint64_t *ret_dropped)
{
	struct fnd_shm_remains *copy = malloc(sizeof(*copy));
	struct fnd_remains *r = malloc(sizeof(*r));
	uint64_t head = 0, first, again;
	int err = copy && r ? 0 : -ENOMEM;

	if (!err)
		err = fnd_observer_read(o, offsetof(struct fnd_shm_header, remains_head), &head, sizeof(head));
	first = head > FND_SHM_REMAINS ? head - FND_SHM_REMAINS : 0;
	for (uint64_t n = first + 1; n <= head && !err; n++) {
		uint64_t off = o->header.remains_off + (n - 1) % FND_SHM_REMAINS * sizeof(*copy);

		err = fnd_observer_read(o, off, copy, sizeof(*copy));
		if (!err)
			err = fnd_observer_read(o, off, &again, sizeof(again));
		if (err || copy->number != n || again != n)
			continue;
		remains_fill(copy, r);
		err = fn(r, arg);
	}
	free(copy);
	free(r);
	if (!err && ret_dropped)
		*ret_dropped = first;
	return err;
}
