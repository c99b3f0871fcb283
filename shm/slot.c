// SPDX-License-Identifier: MIT
/*
 * Participant and thread slots: claiming, releasing, reaping.
 *
 * A slot is its word: {state, generation, pid}, changed by compare-and-swap alone. The generation grows
 * at each claim, so a word once seen names one life of the slot for ever (up to 2^30 lives).
 *
 *   FREE -> CLAIMING -> (fields filled) -> ACTIVE -> REAPING -> FREE
 *
 * While CLAIMING the fields mean nothing yet: only "no such pid" proves death. REAPING carries the reaper,
 * and may be taken over only when that reaper is dead itself.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <foundation/area.h>

#include "internal.h"

/* A reaper in the low half of a REAPING word: slot 12 | generation 19, or, without a slot, bit 31 | pid. */
/* A slot is left to the memory of its dead for so long while there is another. */
#define DEATH_KEPT_NS 60000000000u

#define REAPER_PID_BIT 0x80000000u
#define REAPER_GEN_MASK 0x7ffffu

__thread struct fnd_reader *fnd_reader_self __attribute__((tls_model("initial-exec")));

static pthread_key_t exit_key;
static pthread_once_t exit_once = PTHREAD_ONCE_INIT;
static int exit_key_err;

static uint32_t reaper_self(const struct fnd_segment *seg)
{
	if (seg->self_slot)
		return seg->self_slot << 19 | (seg->self_gen & REAPER_GEN_MASK);
	return REAPER_PID_BIT | (uint32_t)getpid();
}

/* No process has this pid, or none can: the kernel's PID_MAX_LIMIT is 2^22. */
bool fnd_pid_gone(uint32_t pid)
{
	return pid == 0 || pid > 1u << 22 || fnd_evidence_claiming(pid) == FND_PROVEN_DEAD;
}

static bool reaper_dead(struct fnd_segment *seg, uint32_t reaper)
{
	uint32_t slot = reaper >> 19;
	uint64_t w;

	if (reaper & REAPER_PID_BIT)
		return (reaper & ~REAPER_PID_BIT) != (uint32_t)getpid() &&
		       fnd_pid_gone(reaper & ~REAPER_PID_BIT);
	if (slot == 0 || slot > seg->processes)
		return true; /* no reaper has such a number: the word is damaged */
	if (slot == seg->self_slot && (seg->self_gen & REAPER_GEN_MASK) == (reaper & REAPER_GEN_MASK))
		return false;
	w = fnd_load_acquire(&seg->process[slot].word); /* [SL-2] pairs with the claim */
	if ((fnd_slot_gen(w) & REAPER_GEN_MASK) != (reaper & REAPER_GEN_MASK) ||
	    fnd_slot_state(w) != FND_SLOT_ACTIVE)
		return true; /* reaped, or left: a leaver finishes what it reaps first */
	return fnd_process_slot_dead(seg, slot, w, false);
}

/* The fields of a slot; the caller compares the word afterwards, and these loads stay before that one. */
static void identity_of(struct fnd_shm_process *p, struct fnd_identity *id)
{
	id->flags = fnd_load_acquire(&p->identity_flags); /* [SL-4] pairs with claim_fill */
	id->pidfd_ino = fnd_load_acquire(&p->pidfd_ino); /* [SL-4], as the next three */
	id->start_time = fnd_load_acquire(&p->start_time);
	id->pidns = fnd_load_acquire(&p->pidns);
	id->timens = fnd_load_acquire(&p->timens);
}

/* --- processes ------------------------------------------------------------------------------------ */

bool fnd_process_slot_dead(struct fnd_segment *seg, uint32_t slot, uint64_t word, bool deep)
{
	struct fnd_shm_process *p = &seg->process[slot];
	struct fnd_identity id;

	switch (fnd_slot_state(word)) {
	case FND_SLOT_CLAIMING:
		return fnd_slot_id(word) != seg->identity.pid &&
		       fnd_pid_gone(fnd_slot_id(word));
	case FND_SLOT_REAPING:
#ifdef FND_MUTANT_REAPING_FOREVER
		return false;
#endif
		return reaper_dead(seg, fnd_slot_id(word));
	case FND_SLOT_ACTIVE:
		break;
	default:
		return false;
	}
	if (slot == seg->self_slot && fnd_slot_gen(word) == seg->self_gen)
		return false;
	id.pid = fnd_slot_id(word);
	identity_of(p, &id);
	/* [SL-2] pairs with the claim: the fields are of this life, or the word has moved */
	if (fnd_load_acquire(&p->word) != word)
		return false;
	if (id.pid == seg->identity.pid && seg->self_slot)
		return true; /* my pid, not my slot: somebody who had the pid before me */
	return fnd_evidence_process(&id, seg->dev, seg->ino, deep ? FND_EVIDENCE_DEEP : 0) ==
	       FND_PROVEN_DEAD;
}

static void claim_fill(struct fnd_segment *seg, struct fnd_shm_process *p)
{
	char comm[17] = "";

	prctl(PR_GET_NAME, comm, 0, 0, 0);
	/* [SL-4] pairs with identity_of: who reads a new field finds a moved word; [SL-1] publishes them */
	fnd_store_release(&p->pidfd_ino, seg->identity.pidfd_ino);
	fnd_store_release(&p->start_time, seg->identity.start_time);
	fnd_store_release(&p->identity_flags, seg->identity.flags);
	fnd_store_release(&p->pidns, seg->identity.pidns);
	fnd_store_release(&p->timens, seg->identity.timens);
	fnd_store_relaxed(&p->attached_ns, fnd_wall_ns());
	fnd_store_relaxed(&p->flags, seg->read_only ? FND_PROCESS_READ_ONLY : 0);
	memcpy(p->comm, comm, sizeof(p->comm));
}

static bool process_try(struct fnd_segment *seg, uint32_t slot)
{
	struct fnd_shm_process *p = &seg->process[slot];
	uint64_t w = fnd_load_acquire(&p->word); /* [SL-2] */
	uint32_t gen = (fnd_slot_gen(w) + 1) & FND_SLOT_GEN_MASK;
	uint64_t mine = fnd_slot_word(FND_SLOT_CLAIMING, gen, seg->identity.pid);

	if (fnd_slot_state(w) != FND_SLOT_FREE)
		return false;
	fnd_raise_u32(&seg->hdr->process_high, slot);
	if (!fnd_cas(&p->word, w, mine)) /* [SL-1] */
		return false;
	claim_fill(seg, p);
	/* [SL-1] pairs with every look at the slot: the fields are there before ACTIVE is */
	if (!fnd_cas(&p->word, mine, fnd_slot_word(FND_SLOT_ACTIVE, gen, seg->identity.pid)))
		return false; /* only damage can do that */
	seg->self_slot = slot;
	seg->self_gen = gen;
	return true;
}

/* Before the caller has a slot: its pid in a slot is somebody's who had the pid before. */
static void reap_namesakes(struct fnd_segment *seg)
{
	uint32_t high = fnd_load_acquire(&seg->hdr->process_high); /* [SL-2] */

	for (uint32_t i = 1; i <= high && i <= seg->processes; i++) {
		uint64_t w = fnd_load_acquire(&seg->process[i].word); /* [SL-2] */

		if ((fnd_slot_id(w) == seg->identity.pid && (fnd_slot_state(w) == FND_SLOT_ACTIVE ||
							     fnd_slot_state(w) == FND_SLOT_CLAIMING)) ||
		    (fnd_slot_id(w) == (REAPER_PID_BIT | seg->identity.pid) &&
		     fnd_slot_state(w) == FND_SLOT_REAPING)) /* it died reaping, before it had a slot */
			fnd_reap_process(seg, i, w);
	}
}

/* How its last owner ended is still of interest to who tells of its names. */
static bool died_lately(const struct fnd_shm_process *p)
{
	uint64_t w = fnd_load_acquire(&p->word); /* [SL-2] */

	return fnd_load_acquire(&p->death_generation) == fnd_slot_gen(w) && /* [SL-5] */
	       fnd_wall_ns() - fnd_load_relaxed(&p->death_ns) < DEATH_KEPT_NS; /* relaxed: only a preference */
}

int fnd_process_claim(struct fnd_segment *seg)
{
	reap_namesakes(seg);
	for (int pass = 0; pass < 3; pass++) {
		for (uint32_t i = 1; i <= seg->processes; i++)
			if ((pass > 0 || !died_lately(&seg->process[i])) && process_try(seg, i))
				return 0;
		if (pass > 0)
			fnd_reap_all(seg, true);
	}
	return fnd_fail(FND_E_NOSLOT,
			"all %u participant slots are taken by living processes; create the segment with "
			"more",
			seg->processes);
}

void fnd_process_release(struct fnd_segment *seg)
{
	struct fnd_shm_process *p = &seg->process[seg->self_slot];

	/* [SL-1] what I did is before FREE */
	fnd_cas(&p->word, fnd_slot_word(FND_SLOT_ACTIVE, seg->self_gen, seg->identity.pid),
		fnd_slot_word(FND_SLOT_FREE, seg->self_gen, 0));
	seg->self_slot = 0;
}

/* --- threads -------------------------------------------------------------------------------------- */

/* The owner is proven dead: end its section, free the slot. */
static void thread_reap(struct fnd_segment *seg, uint32_t index, uint64_t word)
{
	struct fnd_shm_thread *t = &seg->thread[index];
	uint64_t mine = fnd_slot_word(FND_SLOT_REAPING, fnd_slot_gen(word), reaper_self(seg));

	if (!fnd_cas(&t->word, word, mine)) /* [SL-3] one reaper only */
		return;
#ifdef FND_MUTANT_REMAINS_FORGOTTEN
	if (fnd_slot_state(word) == FND_SLOT_ACTIVE)
#endif
		fnd_remains_keep(seg, index);
#ifndef FND_MUTANT_REAP_LEAVES_SECTION
	fnd_store_release(&t->epoch, 0); /* [GP-2] its section is over */
#endif
	fnd_cas(&t->word, mine, fnd_slot_word(FND_SLOT_FREE, fnd_slot_gen(word), 0)); /* [SL-1] */
}

static bool process_of_thread_dead(struct fnd_segment *seg, struct fnd_shm_thread *t, uint64_t word,
				   bool deep)
{
	uint64_t of = fnd_load_acquire(&t->process); /* [SL-4] the word is compared again below */
	uint32_t slot = (uint32_t)(of >> 32);
	struct fnd_shm_process *p;
	struct fnd_identity id;
	uint64_t pw;

	if (slot == 0 || slot > seg->processes) /* damaged: there is only the thread's own number to go by */
		return fnd_pid_gone(fnd_slot_id(word));
	p = &seg->process[slot];
	pw = fnd_load_acquire(&p->word); /* [SL-2] */
	id.pid = fnd_slot_id(pw);
	identity_of(p, &id);
	if (fnd_load_acquire(&t->word) != word) /* [SL-2] of another life now */
		return false;
	if (fnd_slot_gen(pw) != (uint32_t)of || fnd_slot_state(pw) == FND_SLOT_FREE ||
	    fnd_slot_state(pw) == FND_SLOT_REAPING)
		return true; /* its process is proven dead, or has detached */
	if (fnd_load_acquire(&p->word) != pw) /* [SL-2] */
		return false;
	return fnd_evidence_thread(&id, fnd_slot_id(word), seg->dev, seg->ino,
				   deep ? FND_EVIDENCE_DEEP : 0) == FND_PROVEN_DEAD;
}

static bool thread_word_dead(struct fnd_segment *seg, uint32_t index, uint64_t w, bool deep)
{
	switch (fnd_slot_state(w)) {
	case FND_SLOT_ACTIVE:
		return process_of_thread_dead(seg, &seg->thread[index], w, deep);
	case FND_SLOT_CLAIMING:
		return fnd_pid_gone(fnd_slot_id(w));
	case FND_SLOT_REAPING:
		return reaper_dead(seg, fnd_slot_id(w));
	default:
		return false;
	}
}

bool fnd_thread_slot_dead(struct fnd_segment *seg, uint32_t index, uint32_t gen18, bool deep)
{
	uint64_t w = fnd_load_acquire(&seg->thread[index].word); /* [SL-2] */

	/* A slot of another life, free, or being reaped: the owner that wrote the lock word is gone. */
	if ((fnd_slot_gen(w) & 0x3ffff) != gen18 || fnd_slot_state(w) == FND_SLOT_FREE ||
	    fnd_slot_state(w) == FND_SLOT_REAPING)
		return true;
	return thread_word_dead(seg, index, w, deep);
}

static uint32_t thread_claim(struct fnd_segment *seg, uint32_t tid, uint32_t *ret_gen)
{
	for (uint32_t i = 1; i <= seg->threads; i++) {
		struct fnd_shm_thread *t = &seg->thread[i];
		uint64_t w = fnd_load_acquire(&t->word); /* [SL-2] */
		uint32_t gen = (fnd_slot_gen(w) + 1) & FND_SLOT_GEN_MASK;
		uint64_t mine = fnd_slot_word(FND_SLOT_CLAIMING, gen, tid);

		if (fnd_slot_state(w) != FND_SLOT_FREE)
			continue;
		/* [GP-4] pairs with scan_readers: the bound covers the slot before a section is in it */
		fnd_raise_u32(&seg->hdr->thread_high, i);
		if (!fnd_cas(&t->word, w, mine)) /* [SL-1] */
			continue;
		fnd_store_release(&t->process, (uint64_t)seg->self_slot << 32 | seg->self_gen); /* [SL-4] */
		fnd_store_relaxed(&t->epoch, 0); /* relaxed: [SL-1] below publishes, as the next three */
		fnd_store_relaxed(&t->pid, seg->identity.pid);
		fnd_store_relaxed(&t->tid, tid);
		fnd_store_relaxed(&seg->area[i].word, 0);
		if (!fnd_cas(&t->word, mine, fnd_slot_word(FND_SLOT_ACTIVE, gen, tid))) /* [SL-1] */
			continue;
		*ret_gen = gen;
		return i;
	}
	return 0;
}

/* True when it was dead. One that a living reaper is at is left to it: "the owner is gone" is not enough. */
bool fnd_thread_reap_dead(struct fnd_segment *seg, uint32_t index, bool deep)
{
	uint64_t w = fnd_load_acquire(&seg->thread[index].word); /* [SL-2] */

	if (fnd_slot_state(w) == FND_SLOT_FREE || !thread_word_dead(seg, index, w, deep))
		return false;
	thread_reap(seg, index, w);
	return true;
}

static void reap_dead_threads(struct fnd_segment *seg, bool deep)
{
	uint32_t high = fnd_load_acquire(&seg->hdr->thread_high); /* [SL-2] */

	for (uint32_t i = 1; i <= high && i <= seg->threads; i++)
		fnd_thread_reap_dead(seg, i, deep);
}

/* Gives the slot back; the caller holds the attachments' mutex. */
static void thread_release(struct fnd_segment *seg, struct fnd_thread *th)
{
	uint64_t w = fnd_load_relaxed(&th->slot->word); /* relaxed: mine */

	for (struct fnd_thread **pp = &seg->thread_list; *pp; pp = &(*pp)->list_next) {
		if (*pp == th) {
			*pp = th->list_next;
			break;
		}
	}
	/* not mine any more if the thread left without its destructor and the slot was reaped */
	if (fnd_slot_state(w) == FND_SLOT_ACTIVE && fnd_slot_gen(w) == th->gen &&
	    fnd_load_relaxed(&th->slot->process) == ((uint64_t)seg->self_slot << 32 | seg->self_gen)) {
		fnd_store_release(&th->slot->epoch, 0); /* [GP-2] */
		fnd_store_relaxed(&seg->area[th->index].word, 0); /* it left in order: nothing to keep */
		fnd_cas(&th->slot->word, w, fnd_slot_word(FND_SLOT_FREE, th->gen, 0)); /* [SL-1] */
	}
	th->seg = NULL;
	th->seg_id = 0;
	th->reader.quick_id = 0;
}

static void on_thread_exit(void *arg)
{
	struct fnd_thread *th = fnd_thread_first();

	(void)arg;
	fnd_reader_self = NULL;
	while (th) {
		struct fnd_thread *next = th->next;
		struct fnd_segment *seg;

		fnd_attachments_lock();
		seg = th->seg_id ? fnd_attachment_find(th->seg_id) : NULL;
		if (seg && !fnd_forked(seg))
			thread_release(seg, th);
		fnd_attachments_unlock();
		free(th);
		th = next;
	}
}

static void exit_key_make(void)
{
	exit_key_err = pthread_key_create(&exit_key, on_thread_exit);
}

int fnd_thread_enter(struct fnd_segment *seg, struct fnd_thread **ret_th)
{
	struct fnd_thread *th;
	uint32_t tid;

	for (th = fnd_thread_first(); th; th = th->next) {
		if (th->seg_id == seg->id) {
			*ret_th = th;
			return 0;
		}
	}
	tid = (uint32_t)syscall(SYS_gettid);
	pthread_once(&exit_once, exit_key_make);
	if (exit_key_err)
		return fnd_fail(ENOMEM, "no thread-specific key is left in this process");
	th = calloc(1, sizeof(*th));
	if (!th)
		return fnd_fail(ENOMEM, "no memory for a thread's state");
	th->index = thread_claim(seg, tid, &th->gen);
	if (!th->index) {
		reap_dead_threads(seg, true);
		th->index = thread_claim(seg, tid, &th->gen);
	}
	if (!th->index) {
		free(th);
		return fnd_fail(FND_E_NOSLOT,
				"all %u thread slots are taken by living threads; create the segment with more",
				seg->threads);
	}
	th->seg = seg;
	th->seg_id = seg->id;
	th->slot = &seg->thread[th->index];
	th->cell = &seg->cell[th->index];
	th->lock_self = th->index << 20 | (th->gen & 0x3ffff) << 2;
	th->random = (fnd_cycles() ^ (uint64_t)tid << 32) | 1;
	th->advanced_at = fnd_cycles();
	fnd_attachments_lock();
	th->list_next = seg->thread_list;
	seg->thread_list = th;
	fnd_attachments_unlock();
	th->reader.slot = &th->slot->epoch;
	th->reader.epoch = &seg->hdr->epoch;
	th->reader.mine = &seg->fork_mark->mine;
	th->reader.quick_id = seg->fenced ? 0 : seg->id;
	th->next = fnd_thread_first();
	fnd_compiler_barrier(); /* a signal handler of this thread sees it whole or not at all */
	fnd_reader_self = &th->reader;
	pthread_setspecific(exit_key, th);
	*ret_th = th;
	return 0;
}

/* All threads of this process; under the attachments' mutex. The others find out by seg_id. */
void fnd_threads_release(struct fnd_segment *seg)
{
	struct fnd_thread *th, *next, *kept = NULL;

	while (seg->thread_list)
		thread_release(seg, seg->thread_list);
	for (th = fnd_thread_first(); th; th = next) {
		next = th->next;
		if (th->seg_id == 0) {
			if (kept)
				kept->next = next;
			else
				fnd_reader_self = next ? &next->reader : NULL;
			free(th);
		} else {
			kept = th;
		}
	}
}

/* --- reaping -------------------------------------------------------------------------------------- */

/* Only by who has the slot in REAPING. */
static void death_write(struct fnd_shm_process *p, uint64_t word, bool known, int status)
{
	fnd_store_relaxed(&p->death_known, known); /* relaxed, all: published by the last */
	fnd_store_relaxed(&p->death_status, (uint32_t)status);
	fnd_store_relaxed(&p->death_ns, fnd_wall_ns());
	fnd_store_relaxed(&p->death_pid, fnd_slot_id(word));
	fnd_store_release(&p->death_generation, fnd_slot_gen(word)); /* [SL-5] pairs with fnd_participant_death */
}

/* How it ended, if its zombie is still there to tell; a parent that has waited for it knows better. */
static void note_death(struct fnd_shm_process *p, uint64_t word, const int *parents_word)
{
	int status = parents_word ? *parents_word : 0;
	bool known = parents_word != NULL;

	if (fnd_slot_state(word) != FND_SLOT_ACTIVE ||
	    (p->death_generation == fnd_slot_gen(word) && p->death_pid == fnd_slot_id(word)))
		return; /* another reaper's work, taken over; or its parent's */
	if (!known) /* relaxed: of this life */
		known = fnd_evidence_status(fnd_slot_id(word), fnd_load_relaxed(&p->start_time), &status);
	death_write(p, word, known, status);
}

static bool reap_process(struct fnd_segment *seg, uint32_t slot, uint64_t word, const int *parents_word)
{
	struct fnd_shm_process *p = &seg->process[slot];
	uint64_t of = (uint64_t)slot << 32 | fnd_slot_gen(word);
	uint64_t mine = fnd_slot_word(FND_SLOT_REAPING, fnd_slot_gen(word), reaper_self(seg));
	uint32_t high;

	if (!fnd_cas(&p->word, word, mine)) /* [SL-3] one reaper only */
		return false;
	note_death(p, word, parents_word);
	high = fnd_load_acquire(&seg->hdr->thread_high); /* [SL-2] */
	for (uint32_t i = 1; i <= high && i <= seg->threads; i++) {
		struct fnd_shm_thread *t = &seg->thread[i];
		uint64_t w = fnd_load_acquire(&t->word); /* [SL-2] */

		if (fnd_slot_state(w) == FND_SLOT_ACTIVE && fnd_load_acquire(&t->process) == of && /* [SL-4] */
		    fnd_load_acquire(&t->word) == w) /* [SL-2] `process` was of this life */
			thread_reap(seg, i, w);
	}
	return fnd_cas(&p->word, mine, fnd_slot_word(FND_SLOT_FREE, fnd_slot_gen(word), 0)); /* [SL-1] */
}

/* The life @word of process slot @slot is proven dead. True when this call freed it. */
bool fnd_reap_process(struct fnd_segment *seg, uint32_t slot, uint64_t word)
{
	return reap_process(seg, slot, word, NULL);
}

unsigned int fnd_reap_all(struct fnd_segment *seg, bool deep)
{
	uint32_t high = fnd_load_acquire(&seg->hdr->process_high); /* [SL-2] */
	unsigned int n = 0;

	for (uint32_t i = 1; i <= high && i <= seg->processes; i++) {
		uint64_t w = fnd_load_acquire(&seg->process[i].word); /* [SL-2] */

		if (fnd_slot_state(w) != FND_SLOT_FREE && fnd_process_slot_dead(seg, i, w, deep))
			n += fnd_reap_process(seg, i, w);
	}
	reap_dead_threads(seg, deep);
	return n;
}

int fnd_segment_reap(struct fnd_segment *seg, unsigned int *ret_reaped)
{
	struct fnd_thread *th;
	unsigned int n;
	int err = fnd_thread_self(seg, &th);

	if (err)
		return err;
	n = fnd_reap_all(seg, true);
	if (n)
		fnd_cell_count(th, FND_COUNTER_REAPED, n);
	if (ret_reaped)
		*ret_reaped = n;
	return 0;
}

int fnd_segment_child_died(struct fnd_segment *seg, uint32_t pid, int status)
{
	uint32_t high = fnd_load_acquire(&seg->hdr->process_high); /* [SL-2] */
	struct fnd_thread *th;
	int err = fnd_thread_self(seg, &th);

	if (err)
		return err;
	for (uint32_t i = 1; i <= high && i <= seg->processes; i++) {
		struct fnd_shm_process *p = &seg->process[i];
		uint64_t w = fnd_load_acquire(&p->word); /* [SL-2] */

		if (fnd_slot_state(w) == FND_SLOT_ACTIVE && fnd_slot_id(w) == pid &&
		    fnd_process_slot_dead(seg, i, w, false) && reap_process(seg, i, w, &status)) {
			fnd_cell_count(th, FND_COUNTER_REAPED, 1);
			return 0;
		}
		/* somebody was quicker, and could not know how it ended */
		if (fnd_slot_state(w) == FND_SLOT_FREE && fnd_load_acquire(&p->death_generation) == fnd_slot_gen(w) &&
		    fnd_load_relaxed(&p->death_pid) == pid && fnd_load_relaxed(&p->death_known) == 0) { /* [SL-5] */
			fnd_store_relaxed(&p->death_status, (uint32_t)status);
			fnd_store_release(&p->death_known, 1); /* [SL-5] */
			return 0;
		}
	}
	return fnd_fail(ESRCH, "no dead participant has pid %u", pid);
}

int fnd_forked_error(void)
{
	return fnd_fail(FND_E_FORKED, "a handle of the parent process: call fnd_segment_attach in the child");
}

int fnd_fenced_error(void)
{
	return fnd_fail(FND_E_FENCED,
			"membarrier(2) is refused here, and the segment was made without FND_SEGMENT_FENCED");
}

/* Another process's bytes, for a message. */
void fnd_printable(char *text)
{
	for (char *c = text; *c; c++)
		if (*c < ' ' || *c > '~')
			*c = '?';
}

/* --- who is who ----------------------------------------------------------------------------------- */

int fnd_segment_self(struct fnd_segment *seg, struct fnd_participant *ret_self)
{
	if (fnd_forked(seg))
		return fnd_forked_error();
	ret_self->pid = seg->identity.pid;
	ret_self->slot = seg->self_slot;
	ret_self->generation = seg->self_gen;
	return 0;
}

int fnd_segment_participant(struct fnd_segment *seg, uint32_t pid, struct fnd_participant *ret_who)
{
	uint32_t high;

	if (fnd_forked(seg))
		return fnd_forked_error();
	if (pid == seg->identity.pid)
		return fnd_segment_self(seg, ret_who);
	high = fnd_load_acquire(&seg->hdr->process_high); /* [SL-2] */
	for (uint32_t i = 1; i <= high && i <= seg->processes; i++) {
		uint64_t w = fnd_load_acquire(&seg->process[i].word); /* [SL-2] */

		if (fnd_slot_state(w) != FND_SLOT_ACTIVE || fnd_slot_id(w) != pid ||
		    fnd_process_slot_dead(seg, i, w, false))
			continue;
		ret_who->pid = pid;
		ret_who->slot = i;
		ret_who->generation = fnd_slot_gen(w);
		return 0;
	}
	return fnd_fail(ESRCH, "no live participant has pid %u", pid);
}

int fnd_participant_active(const struct fnd_segment *seg, const struct fnd_participant *who)
{
	if (who->slot == 0 || who->slot > seg->processes)
		return 0;
	/* [SL-2] pairs with the reaper's change of the word */
	return fnd_load_acquire(&seg->process[who->slot].word) ==
	       fnd_slot_word(FND_SLOT_ACTIVE, who->generation, who->pid);
}

int fnd_participant_dead(const struct fnd_segment *seg, const struct fnd_participant *who)
{
	uint64_t w = fnd_slot_word(FND_SLOT_ACTIVE, who->generation, who->pid);

	if (!fnd_participant_active(seg, who))
		return 1;
	return fnd_process_slot_dead((struct fnd_segment *)seg, who->slot, w, true) ||
	       !fnd_participant_active(seg, who);
}

/* "pid 12 (worker), thread 13", for messages. */
void fnd_thread_describe(struct fnd_segment *seg, uint32_t index, char *buf, size_t len)
{
	uint64_t w = index <= seg->threads ? fnd_load_acquire(&seg->thread[index].word) : 0; /* [SL-2] */
	uint64_t of = index <= seg->threads ? fnd_load_relaxed(&seg->thread[index].process) : 0;
	uint32_t slot = (uint32_t)(of >> 32);
	char comm[17] = "";

	if (slot == 0 || slot > seg->processes || fnd_slot_state(w) == FND_SLOT_FREE) {
		snprintf(buf, len, "nobody (thread slot %u)", index);
		return;
	}
	memcpy(comm, seg->process[slot].comm, 16);
	fnd_printable(comm);
	snprintf(buf, len, "pid %u (%s), thread %u",
		 fnd_slot_id(fnd_load_relaxed(&seg->process[slot].word)), comm, fnd_slot_id(w));
}
