// SPDX-License-Identifier: MIT
/* The verifier: the header's running words, slots, lock words. */
#include "verify.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "error.h"
#include "evidence.h"
#include "header.h"

#define PID_LIMIT (1u << 22) /* the kernel's largest pid is below it */
#define WAITERS 2u
#define RECOVERING 1u
#define GEN18 0x3ffffu

#define AT(member) offsetof(struct fnd_shm_header, member)

/* --- header --------------------------------------------------------------------------------------- */

static void running_words(struct fnd_verifier *v, const struct fnd_shm_header *h)
{
	if (h->epoch == 0 || h->epoch >> 48)
		fnd_verify_note(v, AT(epoch), FND_REMEDY_HEADER, "epoch is %" PRIu64 ", not 1 to 2^48",
				h->epoch);
	/* `safe` follows `epoch`: a look that took them apart sees the older epoch */
	if (h->safe == 0 || fnd_verify_future(v, h->safe))
		fnd_verify_note(v, AT(safe), FND_REMEDY_HEADER, "safe is %" PRIu64 ", epoch %" PRIu64,
				h->safe, v->epoch);
	if (h->brk < h->span_off || h->brk > v->backed || h->brk % FND_LINE)
		fnd_verify_note(v, AT(brk), FND_REMEDY_HEADER, "brk is %" PRIu64 ": spans begin at %" PRIu64
				", the file has %" PRIu64 " bytes", h->brk, h->span_off, v->backed);
	/* number of the attempt << 32 | pid */
	if ((uint32_t)h->destroying >= PID_LIMIT || (h->destroying && (uint32_t)h->destroying == 0))
		fnd_verify_note(v, AT(destroying), FND_REMEDY_UNUSED, "destroying is 0x%" PRIx64
				": no process has such a number", h->destroying);
	if (h->sample_every == 0)
		fnd_verify_note(v, AT(sample_every), FND_REMEDY_FIGURE, "sample_every is 0");
}

void fnd_verify_header(struct fnd_verifier *v)
{
	const struct fnd_shm_header *h = &v->hot;

	if (memcmp(h, &v->o.header, AT(boot_id)) != 0)
		fnd_verify_note(v, 0, FND_REMEDY_HEADER, "the header changed while it was read");
	if (fnd_home_check(h))
		fnd_verify_note(v, AT(home_checksum), "nobody attached: the next to attach writes it anew; "
				"otherwise restart the participants in a new segment", "%s",
				fnd_error_detail());
	running_words(v, h);
	fnd_verify_zero(v, h->pad0, sizeof(h->pad0), AT(pad0), "unused bytes");
	fnd_verify_zero(v, h->pad1, sizeof(h->pad1), AT(pad1), "unused bytes");
	fnd_verify_zero(v, h->pad2, sizeof(h->pad2), AT(pad2), "unused bytes");
	fnd_verify_zero(v, &h->pad3, sizeof(h->pad3), AT(pad3), "unused bytes");
	fnd_verify_zero(v, h->pad4, sizeof(h->pad4), AT(pad4), "unused bytes");
	fnd_verify_zero(v, h->pad5, sizeof(h->pad5), AT(pad5), "unused bytes");
	fnd_verify_zero(v, h->reserved, sizeof(h->reserved), AT(reserved), "unused bytes");
	v->spans_exact = false;
	switch (fnd_verify_lock(v, h->lock)) {
	case FND_LOCK_FREE:
		v->spans_exact = true;
		break;
	case FND_LOCK_DAMAGED:
		fnd_verify_note(v, AT(lock), FND_REMEDY_LOCK, "lock word 0x%08" PRIx32
				": no thread can have written it", h->lock);
		break;
	default:
		break;
	}
}

/* --- slots ---------------------------------------------------------------------------------------- */

/* What a slot's word may be, whoever has it. False: it says nothing that can be followed. */
static bool word_sound(struct fnd_verifier *v, uint64_t w, uint64_t off)
{
	uint32_t id = fnd_slot_id(w);

	switch (fnd_slot_state(w)) {
	case FND_SLOT_FREE:
		if (id)
			fnd_verify_note(v, off, FND_REMEDY_SLOT, "free, and has the number %" PRIu32, id);
		return false;
	case FND_SLOT_REAPING:
		/* bit 31 | pid, or slot 12 | generation 19 */
		if (id >> 31 ? (id & 0x7fffffff) == 0 || (id & 0x7fffffff) >= PID_LIMIT :
			       id >> 19 == 0 || id >> 19 > v->o.header.processes)
			fnd_verify_note(v, off, FND_REMEDY_SLOT, "being freed by 0x%08" PRIx32
					", who cannot be", id);
		return true;
	default:
		if (id == 0 || id >= PID_LIMIT || fnd_slot_gen(w) == 0)
			fnd_verify_note(v, off, FND_REMEDY_SLOT, "taken by number %" PRIu32
					", generation %" PRIu32, id, fnd_slot_gen(w));
		return true;
	}
}

static bool process_slot(struct fnd_verifier *v, uint32_t i, const struct fnd_shm_process *p)
{
	const uint64_t off = v->o.header.process_off + (uint64_t)i * sizeof(*p);
	bool taken;

	fnd_verify_where(v, "process slot %" PRIu32, i);
	fnd_verify_zero(v, p->pad, sizeof(p->pad), off + offsetof(struct fnd_shm_process, pad), "unused bytes");
	if (i == 0) {
		fnd_verify_zero(v, p, sizeof(*p), off, "a slot that is never used");
		return false;
	}
	taken = word_sound(v, p->word, off);
	if (fnd_slot_state(p->word) != FND_SLOT_ACTIVE)
		return taken;
	if (p->flags & ~FND_PROCESS_READ_ONLY || p->identity_flags & ~FND_IDENTITY_EXACT)
		fnd_verify_note(v, off + offsetof(struct fnd_shm_process, identity_flags), FND_REMEDY_SLOT,
				"flags 0x%" PRIx32 ", identity flags 0x%" PRIx32, p->flags, p->identity_flags);
	if (p->pidns != v->hot.pidns_ino)
		fnd_verify_note(v, off + offsetof(struct fnd_shm_process, pidns), FND_REMEDY_SLOT,
				"pid namespace %" PRIu32 ", the segment's is %" PRIu64, p->pidns,
				v->hot.pidns_ino);
	return taken;
}

static void thread_link(struct fnd_verifier *v, const struct fnd_shm_thread *t, uint64_t off,
			const struct fnd_shm_process *process)
{
	uint32_t slot = (uint32_t)(t->process >> 32), gen = (uint32_t)t->process;
	uint64_t w;

	if (slot == 0 || slot > v->o.header.processes) {
		fnd_verify_note(v, off + offsetof(struct fnd_shm_thread, process), FND_REMEDY_SLOT,
				"of process slot %" PRIu32 ", there are 1 to %" PRIu32, slot,
				v->o.header.processes);
		return;
	}
	w = process[slot].word;
	if (fnd_slot_gen(w) != gen || fnd_slot_state(w) == FND_SLOT_FREE ||
	    fnd_slot_state(w) == FND_SLOT_CLAIMING)
		fnd_verify_note(v, off + offsetof(struct fnd_shm_thread, process), FND_REMEDY_SLOT,
				"of process slot %" PRIu32 ", generation %" PRIu32 ", whose word is 0x%016" PRIx64,
				slot, gen, w);
}

static bool thread_slot(struct fnd_verifier *v, uint32_t i, const struct fnd_shm_thread *t,
			const struct fnd_shm_process *process)
{
	const uint64_t off = v->o.header.thread_off + (uint64_t)i * sizeof(*t);
	bool taken;

	fnd_verify_where(v, "thread slot %" PRIu32, i);
	fnd_verify_zero(v, t->pad0, sizeof(t->pad0), off + offsetof(struct fnd_shm_thread, pad0),
			"unused bytes");
	fnd_verify_zero(v, t->pad1, sizeof(t->pad1), off + offsetof(struct fnd_shm_thread, pad1),
			"unused bytes");
	if (i == 0) {
		fnd_verify_zero(v, t, sizeof(*t), off, "a slot that is never used");
		return false;
	}
	taken = word_sound(v, t->word, off);
	if (fnd_slot_state(t->word) == FND_SLOT_ACTIVE)
		thread_link(v, t, off, process);
	if (t->epoch && (!taken || t->epoch >> 16 == 0 || (t->epoch & 0xffff) == 0 ||
			 fnd_verify_future(v, t->epoch >> 16)))
		fnd_verify_note(v, off + offsetof(struct fnd_shm_thread, epoch), FND_REMEDY_SLOT,
				"%s section of depth %" PRIu64 " of epoch %" PRIu64 ", now is %" PRIu64,
				taken ? "in a" : "free, and in a", t->epoch & 0xffff, t->epoch >> 16, v->epoch);
	return taken;
}

static void high_water(struct fnd_verifier *v, size_t at, const char *what, uint32_t taken, uint32_t max)
{
	uint32_t high;

	fnd_verify_where(v, "header");
	/* after the slots: it is raised before one is taken */
	if (fnd_verify_read(v, at, &high, sizeof(high)) && (high < taken || high > max))
		fnd_verify_note(v, at, FND_REMEDY_SLOT, "%s is %" PRIu32 ", slot %" PRIu32 " is taken, there are %"
				PRIu32, what, high, taken, max);
}

void fnd_verify_slots(struct fnd_verifier *v)
{
	const struct fnd_shm_header *h = &v->o.header;
	struct fnd_shm_process *process = malloc((h->processes + 1ULL) * sizeof(*process));
	struct fnd_shm_thread *thread = malloc((h->threads + 1ULL) * sizeof(*thread));
	uint32_t high = 0;

	if (!process || !thread)
		v->err = fnd_fail(ENOMEM, "no memory for %" PRIu32 " slots", h->processes + h->threads);
	/* threads before processes: a process takes its slot before its threads do */
	if (!v->err && fnd_verify_read(v, h->thread_off, thread, (h->threads + 1ULL) * sizeof(*thread)) &&
	    fnd_verify_read(v, h->process_off, process, (h->processes + 1ULL) * sizeof(*process))) {
		for (uint32_t i = 0; i <= h->processes; i++)
			if (process_slot(v, i, &process[i]))
				high = i;
		high_water(v, AT(process_high), "process_high", high, h->processes);
		high = 0;
		for (uint32_t i = 0; i <= h->threads; i++)
			if (thread_slot(v, i, &thread[i], process))
				high = i;
		high_water(v, AT(thread_high), "thread_high", high, h->threads);
	}
	free(process);
	free(thread);
}

/* --- locks ---------------------------------------------------------------------------------------- */

static bool owner_dead(struct fnd_verifier *v, uint64_t word, uint64_t of)
{
	const struct fnd_shm_header *h = &v->o.header;
	uint32_t slot = (uint32_t)(of >> 32);
	struct fnd_shm_process p;
	struct fnd_identity id;

	if (slot == 0 || slot > h->processes ||
	    !fnd_verify_read(v, h->process_off + (uint64_t)slot * sizeof(p), &p, sizeof(p)))
		return false;
	if (fnd_slot_gen(p.word) != (uint32_t)of || fnd_slot_state(p.word) != FND_SLOT_ACTIVE)
		return true;
	if (!v->o.same_pidns)
		return false;
	id.pid = fnd_slot_id(p.word);
	id.flags = p.identity_flags;
	id.pidfd_ino = p.pidfd_ino;
	id.start_time = p.start_time;
	id.pidns = p.pidns;
	id.timens = p.timens;
	return fnd_evidence_thread(&id, fnd_slot_id(word), 0, 0, 0) == FND_PROVEN_DEAD;
}

enum fnd_lock_state fnd_verify_lock(struct fnd_verifier *v, uint32_t word)
{
	uint32_t index = word >> 20, gen = word >> 2 & GEN18, later;
	struct fnd_shm_thread t;

	if (word == 0)
		return FND_LOCK_FREE;
	if (index == 0) /* given up by a repair that failed */
		return gen == 0 && word & RECOVERING ? FND_LOCK_LEFT : FND_LOCK_DAMAGED;
	if (index > v->o.header.threads)
		return FND_LOCK_DAMAGED;
	if (!fnd_verify_read(v, v->o.header.thread_off + (uint64_t)index * sizeof(t), &t, sizeof(t)))
		return FND_LOCK_LEFT;
	/* slots count their lives from 1, a lock word has the low 18 bits of it */
	later = (fnd_slot_gen(t.word) - gen) & GEN18;
	if (later > GEN18 / 2 || later > fnd_slot_gen(t.word) || (gen == 0 && fnd_slot_gen(t.word) <= GEN18))
		return FND_LOCK_DAMAGED;
	if (later || fnd_slot_state(t.word) == FND_SLOT_FREE || fnd_slot_state(t.word) == FND_SLOT_REAPING)
		return FND_LOCK_LEFT;
	if (fnd_slot_state(t.word) == FND_SLOT_CLAIMING)
		return FND_LOCK_DAMAGED; /* it has not come to locking anything yet */
	return owner_dead(v, t.word, t.process) ? FND_LOCK_LEFT : FND_LOCK_HELD;
}
