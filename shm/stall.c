// SPDX-License-Identifier: MIT
/*
 * Stalled readers: said, never acted on.
 *
 * A stopped reader cannot be reaped, and what writers retire meanwhile waits for it. Whoever finds a section
 * in the way of a grace period notes in its slot since when; from FND_STALL_NS on it is reported, once a
 * process and section. Begin stays one store: it reads no clock.
 */
#include <errno.h>
#include <stdio.h>

#include "internal.h"

static uint64_t held_bytes(struct fnd_segment *seg)
{
	uint64_t bytes = 0;
	struct fnd_table t;

	for (uint32_t i = 0; i < FND_TABLES; i++) {
		if (fnd_table_bind(seg, i, &t))
			continue;
		for (uint32_t k = 0; k < t.shards; k++) /* relaxed: a figure */
			bytes += fnd_load_relaxed(&t.shard[k].retired) * t.record_bytes;
	}
	return bytes;
}

static void describe(struct fnd_segment *seg, uint32_t index, uint64_t epoch, uint64_t age_ns,
		     struct fnd_stall *s)
{
	struct fnd_shm_thread *t = &seg->thread[index];
	uint32_t slot = (uint32_t)(fnd_load_acquire(&t->process) >> 32); /* [SL-4] for people only */

	memset(s, 0, sizeof(*s));
	s->tid = fnd_slot_id(fnd_load_acquire(&t->word)); /* [SL-2] */
	if (slot >= 1 && slot <= seg->processes) {
		s->pid = fnd_slot_id(fnd_load_acquire(&seg->process[slot].word)); /* [SL-2] */
		memcpy(s->comm, seg->process[slot].comm, 16);
		fnd_printable(s->comm);
	}
	s->epoch = epoch;
	s->age_ns = age_ns;
	s->held_bytes = held_bytes(seg);
}

/* The section in thread slot @index is behind, and its owner lives. */
void fnd_stall_found(struct fnd_segment *seg, uint32_t index)
{
	struct fnd_shm_thread *t = &seg->thread[index];
	/* relaxed, all: notes for people; two finders may both write the same */
	uint64_t epoch = fnd_load_relaxed(&t->epoch) >> 16, since;
	uint64_t now = fnd_now_ns() - (uint64_t)seg->clock_offset_ns;
	uint64_t mark = (uint64_t)index << 48 | (epoch & 0xffffffffffffULL);
	struct fnd_stall s;

	if (epoch == 0)
		return;
	since = fnd_load_relaxed(&t->behind_ns);
	if (fnd_load_relaxed(&t->behind_epoch) != epoch || since > now) {
		fnd_store_relaxed(&t->behind_ns, now);
		fnd_store_relaxed(&t->behind_epoch, epoch);
		return;
	}
	if (now - since < FND_STALL_NS || fnd_load_relaxed(&seg->stall_reported) == mark ||
	    fnd_exchange(&seg->stall_reported, mark) == mark) /* private memory: one thread reports */
		return;
	if (fnd_thread_first() && fnd_thread_first()->seg_id == seg->id)
		fnd_cell_count(fnd_thread_first(), FND_COUNTER_STALLS, 1);
	if (!seg->stall)
		return;
	describe(seg, index, epoch, now - since, &s);
	seg->stall(&s, seg->stall_arg);
}

int fnd_segment_stall(struct fnd_segment *seg, struct fnd_stall *ret_stall)
{
	uint32_t index;
	uint64_t now = fnd_now_ns() - (uint64_t)seg->clock_offset_ns;
	uint64_t epoch, since;

	if (fnd_forked(seg))
		return fnd_forked_error();
	index = fnd_epoch_oldest(seg);
	epoch = fnd_load_relaxed(&seg->thread[index].epoch) >> 16; /* relaxed: as above */
	since = fnd_load_relaxed(&seg->thread[index].behind_ns);
	if (index == 0 || epoch == 0 || fnd_load_relaxed(&seg->thread[index].behind_epoch) != epoch ||
	    since > now)
		return -ENOENT;
	describe(seg, index, epoch, now - since, ret_stall);
	return 0;
}
