// SPDX-License-Identifier: MIT
/*
 * Who is dead: every state of a slot's word, with the word moving between the look and the verdict too; and what
 * becomes of the extents of a shard that does not need them any more.
 */
#include "recovery_world.h"

#include <errno.h>
#include <sys/syscall.h>
#include <unistd.h>

#define WORD(state, gen, id) fnd_slot_word(FND_SLOT_##state, gen, id)
#define PID_BIT 0x80000000u
#define PID_NONE ((1u << 22) + 5) /* above every pid there can be */
#define OTHER 4u /* a slot nobody has */

static struct fnd_shm_process *process(void) { return &w.seg->process[OTHER]; }
static struct fnd_shm_thread *thread(void) { return &w.seg->thread[OTHER]; }

static bool process_dead(uint64_t word)
{
	process()->word = word;
	return fnd_process_slot_dead(w.seg, OTHER, word, true);
}

static uint32_t dead_process(void)
{
	return (uint32_t)(w.seg->thread[w.dead].process >> 32);
}

/* A slot that is being freed, and by whom. */
static void reapers(void)
{
	const uint32_t mine = w.seg->self_slot << 19 | w.seg->self_gen, other = dead_process();
	const uint32_t gen = fnd_slot_gen(w.seg->process[other].word);
	const struct {
		uint32_t who;
		bool dead;
	} r[] = {
		{ PID_BIT | (uint32_t)getpid(), false },
		{ PID_BIT, true },
		{ PID_BIT | PID_NONE, true },
		{ PID_BIT | (uint32_t)getppid(), false },
		{ 5, true }, /* slot 0 */
		{ 4000u << 19, true },
		{ mine, false },
		{ mine ^ 1, true },
		{ other << 19 | gen, true },
		{ other << 19 | (gen ^ 1), true },
		{ (OTHER + 1) << 19, true }, /* free */
	};

	for (size_t i = 0; i < sizeof(r) / sizeof(*r); i++) {
		CHECK(process_dead(WORD(REAPING, 3, r[i].who)) == r[i].dead, "reaper %x", r[i].who);
		thread()->word = WORD(REAPING, 3, r[i].who);
		w.seg->hdr->thread_high = OTHER;
		CHECK(fnd_thread_reap_dead(w.seg, OTHER, true) == r[i].dead, "reaper %x of a thread", r[i].who);
		CHECK(fnd_slot_state(thread()->word) == (r[i].dead ? FND_SLOT_FREE : FND_SLOT_REAPING),
		      "reaper %x of a thread", r[i].who);
	}
	world_restore();
}

static void word_moves(void)
{
	process()->word += 1ULL << 32;
	thread()->word += 1ULL << 32;
}

static void processes(void)
{
	const uint32_t me = (uint32_t)getpid();

	CHECK(!process_dead(WORD(FREE, 3, 0)), "free");
	CHECK(!process_dead(WORD(CLAIMING, 3, me)), "I claim");
	CHECK(process_dead(WORD(CLAIMING, 3, PID_NONE)), "claimed by nobody");
	CHECK(!process_dead(WORD(CLAIMING, 3, (uint32_t)getppid())), "claimed by somebody");
	CHECK(process_dead(WORD(ACTIVE, 3, me)), "who had my pid before");
	w.seg->self_slot = 0;
	*process() = w.seg->process[1];
	CHECK(!process_dead(WORD(ACTIVE, 3, me)), "me, before I have a slot");
	w.seg->self_slot = 1;
	CHECK(!fnd_process_slot_dead(w.seg, 1, w.seg->process[1].word, true), "me");
	CHECK(fnd_process_slot_dead(w.seg, 1, w.seg->process[1].word + (1ULL << 32), true) == false, "moved");
	CHECK(fnd_process_slot_dead(w.seg, dead_process(), w.seg->process[dead_process()].word, false), "dead");
	process()->word = WORD(ACTIVE, 3, me);
	CHECK(!fnd_process_slot_dead(w.seg, OTHER, WORD(ACTIVE, 2, me), true), "of another life");
	CHECK(!fnd_reap_process(w.seg, OTHER, WORD(ACTIVE, 2, me)), "of another life");
	world_restore();
}

static bool thread_dead(uint64_t of, uint64_t word)
{
	thread()->process = of;
	thread()->word = word;
	return fnd_thread_slot_dead(w.seg, OTHER, fnd_slot_gen(word), true);
}

static void threads(void)
{
	const uint64_t mine = w.me->slot->process, word = WORD(ACTIVE, 3, (uint32_t)syscall(SYS_gettid));

	CHECK(!thread_dead(mine, word), "me");
	CHECK(thread_dead(mine, WORD(ACTIVE, 3, PID_NONE)), "no such thread");
	CHECK(thread_dead(mine ^ 1, word), "of another life");
	CHECK(thread_dead(3ULL << 32, word), "of nobody");
	CHECK(thread_dead(0, WORD(ACTIVE, 3, PID_NONE)) && !thread_dead(0, word), "damaged: slot 0");
	CHECK(thread_dead(99ULL << 32, WORD(ACTIVE, 3, PID_NONE)), "damaged: slot 99");
	CHECK(!thread_dead(mine, WORD(CLAIMING, 3, (uint32_t)getppid())), "being claimed");
	CHECK(thread_dead(mine, WORD(CLAIMING, 3, PID_NONE)), "was being claimed");
	CHECK(thread_dead(mine, WORD(REAPING, 3, PID_BIT | (uint32_t)getpid())), "being reaped");
	CHECK(thread_dead(mine, WORD(FREE, 3, 0)), "free");
	CHECK(fnd_thread_slot_dead(w.seg, OTHER, 4, true), "another life");
	CHECK(!fnd_thread_reap_dead(w.seg, OTHER, true), "free");
	process()->word = WORD(REAPING, 3, 1u << 19);
	CHECK(thread_dead((uint64_t)OTHER << 32 | 3, word), "its process is being reaped");

	/* the word moves while the kernel is asked: that verdict is about nobody */
	act = word_moves;
	thread()->word = WORD(CLAIMING, 3, PID_NONE - 5);
	act_at_evidence = 1;
	CHECK(fnd_thread_reap_dead(w.seg, OTHER, false), "the look");
	CHECK(thread()->word == WORD(CLAIMING, 4, PID_NONE - 5), "the slot of the next one is left alone");
	world_restore();
}

static void namesakes(void)
{
	const uint32_t me = (uint32_t)getpid();
	const uint64_t word[] = { WORD(ACTIVE, 3, me), WORD(CLAIMING, 3, me), WORD(REAPING, 3, PID_BIT | me) };
	uint32_t slot = w.seg->self_slot, gen = w.seg->self_gen;

	for (unsigned int i = 0; i < 3; i++) {
		w.seg->process[1].word = WORD(FREE, gen, 0);
		process()->word = word[i];
		thread()->word = WORD(ACTIVE, 3, me);
		thread()->process = (uint64_t)OTHER << 32 | 3;
		w.seg->hdr->process_high = i ? 5 : 1000;
		w.seg->hdr->thread_high = i ? OTHER : 1000;
		w.seg->process[3].word = i == 0 ? WORD(REAPING, 3, 5) : i == 1 ? WORD(ACTIVE, 3, me + 1) :
						  WORD(FREE, 3, PID_BIT | me);
		if (i == 2)
			w.seg->process[5].word = WORD(FREE, 3, me);
		w.seg->self_slot = 0;
		CHECK(fnd_process_claim(w.seg) == 0, "a slot");
		CHECK(process()->word == WORD(FREE, 3, 0), "namesake %u: %lx", i, (unsigned long)process()->word);
		CHECK(fnd_slot_state(thread()->word) == FND_SLOT_FREE, "its thread");
		world_restore();
		w.seg->self_slot = slot;
		w.seg->self_gen = gen;
	}
}

static void reap(void)
{
	unsigned int n = 0;

	CHECK(fnd_segment_reap(w.seg, &n) == 0 && n == 1, "the one that is dead");
	CHECK(fnd_segment_reap(w.seg, NULL) == 0 && fnd_segment_reap(w.seg, &n) == 0 && n == 0, "no more");
	w.seg->hdr->process_high = w.seg->hdr->thread_high = 4000;
	CHECK(fnd_segment_reap(w.seg, &n) == 0 && n == 0, "damaged bounds");
	CHECK(verify_says("process_high is 4000"), "damaged bounds");
	world_restore();
}

/* --- a lock that comes free while its holder is looked at ------------------------------------------ */

static void comes_free(void)
{
	w.sh->lock = 0;
}

static void lock_comes_free(void)
{
	thread()->process = w.me->slot->process;
	thread()->word = WORD(ACTIVE, 9, (uint32_t)getpid());
	w.sh->lock = lock_word_of(OTHER);
	act = comes_free;
	act_at_evidence = 1;
	CHECK(fnd_table_upsert(w.t, "new", 3, "new", 3) == 0, "the lock");
	CHECK(w.sh->lock == 0 && w.sh->repairs == 0, "nothing was taken from anybody");
	world_restore();
}

/* --- extents -------------------------------------------------------------------------------------- */

static void all_free(unsigned int kept)
{
	for (unsigned int i = kept; i < KEYS; i++)
		CHECK(fnd_table_delete(w.t, w.key[i], strlen(w.key[i])) == 0, "delete");
	CHECK(fnd_table_quiesce(w.t) == 0, "quiesce");
	CHECK(w.sh->free_head && !w.sh->open_head, "a free list");
}

static void trim(void)
{
	uint64_t extents = w.sh->extents;
	unsigned int given;

	all_free(1);
	given = fnd_table_trim(w.t, w.me);
	CHECK(given > 1 && w.sh->extents == extents - given, "%u extents", given);
	CHECK(fnd_table_check(w.t) == 0 && verify_says(""), "after it");
	CHECK(fnd_table_trim(w.t, w.me) == 0, "once more");
	world_restore();

	all_free(0);
	listed(w.sh->free_head, 1)->next = 1;
	CHECK(fnd_table_trim(w.t, w.me) == 0 && w.sh->extents == extents, "a damaged list");
	listed(w.sh->free_head, 1)->next = (uint32_t)(w.sh->free_head >> 3);
	CHECK(fnd_table_trim(w.t, w.me) == 0 && w.sh->extents == extents, "a list without end");
	w.sh->free_head = 0;
	CHECK(fnd_table_trim(w.t, w.me) == 0, "no list");
	refuse_memory = 1;
	CHECK(fnd_table_trim(w.t, w.me) == 0, "no memory");
	world_restore();
}

int main(void)
{
	world_make();
	reapers();
	processes();
	threads();
	namesakes();
	reap();
	lock_comes_free();
	trim();
	return world_end();
}
