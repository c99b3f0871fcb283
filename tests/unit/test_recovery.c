// SPDX-License-Identifier: MIT
/*
 * Repair, in process: every state a death can leave a shard or the directory in, and every damage a repair cuts
 * off. Each is found by the check and by the verifier, repaired by the next write, and gone after it.
 */
#include "recovery_world.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

/* --- states of a shard ---------------------------------------------------------------------------- */

static struct fnd_shm_bucket *overflow(unsigned int number)
{
	return &w.ix.bucket[(1ULL << w.ix.log2) + number - 1];
}

/* In the middle of an insert: handed out, not published. */
static void record_leaked(void)
{
	uint64_t off;

	CHECK(fnd_record_alloc(w.t, 0, true, &off) == 0, "no record");
}

/* A record out of the newest extent, and one out of an extent of its own. */
static void extent_begun(void)
{
	uint64_t off;

	w.sh->free_head = 0;
	do
		CHECK(fnd_record_alloc(w.t, 0, true, &off) == 0, "no record");
	while ((uint32_t)w.sh->bump != 1);
}

static void extent_used_up(void)
{
	uint64_t off;

	w.sh->free_head = 0;
	do
		CHECK(fnd_record_alloc(w.t, 0, true, &off) == 0, "no record");
	while ((uint32_t)w.sh->bump != w.t->extent_records);
}

static void stamp_half(void)
{
	w.sh->batch[1] = (struct fnd_shm_batch){ w.sh->open_head, w.seg->hdr->epoch, w.sh->open_count };
}

static void take_half(void)
{
	w.sh->free_head = w.sh->batch[0].head;
	w.sh->free_count = w.sh->batch[0].count;
}

static void collect_half(void)
{
	struct fnd_shm_record *last = listed(w.sh->batch[0].head, (unsigned int)w.sh->batch[0].count - 1);

	last->next = (uint32_t)(w.sh->free_head >> 3);
}

static void collect_done_half(void)
{
	collect_half();
	w.sh->free_head = w.sh->batch[0].head;
}

static void overflow_filled(void)
{
	overflow(5)->slot[0] = w.ix.bucket[0].slot[0];
	w.ix.span->overflow_used = 5;
}

static void index_left(void)
{
	uint64_t word, need;

	CHECK(fnd_index_make(w.seg, w.t->number, 0, 5, fnd_index_overflow(5), &word, &need) == 0, "no index");
}

static void index_waits(void)
{
	uint64_t word, need;

	CHECK(fnd_index_make(w.seg, w.t->number, 0, 5, fnd_index_overflow(5), &word, &need) == 0, "no index");
	fnd_index_retire(w.t, 0, word & ~63ULL);
	((struct fnd_shm_span *)at(word & ~63ULL))->stamp = w.seg->hdr->epoch;
}

/* The one left is not in the chain of those that wait; the chain is walked for it. */
static void index_left_and_waits(void)
{
	index_waits();
	index_left();
}

static void chain_lost(void)
{
	index_left();
	w.sh->old_index = w.ix.off + 64; /* no span header there */
}

static void chain_outside(void)
{
	index_left();
	w.sh->old_index = 1ULL << 50;
}

static void chain_endless(void)
{
	index_waits();
	((struct fnd_shm_span *)at(w.sh->old_index))->next = w.sh->old_index;
	index_left();
}

/* --- damage --------------------------------------------------------------------------------------- */

static void slot_outside(void) { w.ix.bucket[0].slot[0] = 1ULL << 40; }
static void slot_between(void) { w.ix.bucket[0].slot[0] += 8; }
static void slot_twice(void) { w.ix.bucket[0].slot[1] = w.ix.bucket[0].slot[0]; }
static void link_outside(void) { w.ix.bucket[0].link = w.ix.overflow + 1; }
static void link_loop(void) { overflow(2)->link = 1; }
static void used_low(void) { w.ix.span->overflow_used = 1; }
static void free_head_wild(void) { w.sh->free_head = 1ULL << 40; }
static void free_link_wild(void) { listed(w.sh->free_head, 0)->next = 1; }
static void free_loop(void) { listed(w.sh->free_head, 1)->next = (uint32_t)(w.sh->free_head >> 3); }
static void batch_wild(void) { listed(w.sh->batch[0].head, 1)->next = 1; }
static void open_wild(void) { w.sh->open_head = 8; }
static void bump_outside(void) { w.sh->bump = 5000ULL << 32; }
static void live_wrong(void) { w.sh->live++; }
static void retired_wrong(void) { w.sh->retired++; }
static void free_wrong(void) { w.sh->free_count++; }
static void extents_wrong(void) { w.sh->extents++; }

/* An extent that no shard owns: the last one. */
static void bump_foreign(void)
{
	uint32_t *owner, last = fnd_extents(w.t) - 1;

	fnd_extent_off(w.t, last, &owner);
	CHECK(*owner == 0, "the last extent is owned");
	w.sh->bump = (uint64_t)(last + 1) << 32;
}

static void slot_unowned(void)
{
	uint32_t *owner;

	w.ix.bucket[0].slot[0] = fnd_extent_off(w.t, fnd_extents(w.t) - 1, &owner);
}

struct state {
	const char *name;
	void (*make)(void);
	const char *check;  /* what fnd_table_check() says; NULL: nothing */
	const char *verify; /* what fnd_verify() says; "": nothing */
	unsigned int lost;  /* keys damage may take */
};

static const struct state states[] = {
	{ "record leaked", record_leaked, "record place in no list", "no index, list or batch", 0 },
	{ "extent begun", extent_begun, "record place in no list", "no index, list or batch", 0 },
	{ "extent used up", extent_used_up, "record place in no list", "no index, list or batch", 0 },
	{ "stamped, still open", stamp_half, "open batch", "in a batch already", 0 },
	{ "batch taken, still there", take_half, "retire batch", "in the free list already", 0 },
	{ "batch runs into the free list", collect_half, "retire batch", "in the free list already", 0 },
	{ "batch collected, still there", collect_done_half, "retire batch", "in the free list already", 0 },
	{ "overflow filled, not linked", overflow_filled, NULL, "", 0 },
	{ "index left over", index_left, NULL, "nothing refers to it", 0 },
	{ "index waits", index_waits, NULL, "", 0 },
	{ "index left over, one waits", index_left_and_waits, NULL, "nothing refers to it", 0 },
	{ "chain of indexes lost", chain_lost, NULL, "no span is there", 0 },
	{ "chain of indexes outside", chain_outside, NULL, "no span is there", 0 },
	{ "chain of indexes without end", chain_endless, NULL, "something else refers to that span", 0 },
	{ "slot outside", slot_outside, "index slot", "no record can be there", 1 },
	{ "slot between records", slot_between, "index slot", "no record can be there", 1 },
	{ "slot in nobody's extent", slot_unowned, "index slot", "another shard's", 1 },
	{ "slot twice", slot_twice, "index slot", "in the index already", 1 },
	{ "link outside", link_outside, "bucket link", "there is none such", CHAINED - 7 },
	{ "link loop", link_loop, "bucket link", "in a chain already", CHAINED - 21 },
	{ "too few overflow buckets used", used_low, "count of overflow buckets", "are said to be used", 0 },
	{ "free list outside", free_head_wild, "free list", "head of a list", 0 },
	{ "free link outside", free_link_wild, "free list", "link of a list", 0 },
	{ "free list loops", free_loop, "free list", "in the free list already", 0 },
	{ "batch outside", batch_wild, "retire batch", "link of a list", 0 },
	{ "open batch outside", open_wild, "open batch", "head of a list", 0 },
	{ "bump outside", bump_outside, "newest extent", "it is not this shard's", 0 },
	{ "bump in nobody's extent", bump_foreign, "newest extent", "it is not this shard's", 0 },
	{ "live", live_wrong, "count of live records", "the count of live records", 0 },
	{ "retired", retired_wrong, "count of retired records", "the count of retired records", 0 },
	{ "free", free_wrong, "count of free records", "the count of free records", 0 },
	{ "extents", extents_wrong, "count of extents", "the count of extents", 0 },
};

static void check_says(const struct state *s)
{
	int err = fnd_shard_check(w.t, 0);

	CHECK(err == (s->check ? -FND_E_CORRUPT : 0), "%s: check gives %d", s->name, err);
	CHECK(!s->check || strstr(fnd_error_detail(), s->check), "%s: check", s->name);
}

static void one_state(const struct state *s)
{
	uint64_t repairs = w.sh->repairs;
	unsigned int present;

	s->make();
	CHECK(verify_says(s->verify), "%s: verify", s->name);
	check_says(s);
	w.sh->lock = lock_word_of(w.dead);
	CHECK(fnd_table_upsert(w.t, "new", 3, "new", 3) == 0, "%s: write", s->name);
	CHECK(w.sh->repairs == repairs + 1, "%s: repairs", s->name);
	CHECK(fnd_table_check(w.t) == 0, "%s: check afterwards", s->name);
	present = world_present();
	CHECK(present >= KEYS - s->lost, "%s: %u keys of %u", s->name, present, KEYS);
	CHECK(w.sh->live == present + 1, "%s: live %lu", s->name, (unsigned long)w.sh->live);
	CHECK(fnd_table_quiesce(w.t) == 0 && fnd_table_quiesce(w.t) == 0, "%s: quiesce", s->name);
	CHECK(fnd_table_check(w.t) == 0, "%s: check at last", s->name);
	CHECK(verify_says(""), "%s: verify at last", s->name);
	world_restore();
}

/* --- a repair that cannot be done now ------------------------------------------------------------- */

/* No memory at its @n-th request: the write fails, nothing is lost, the next one repairs. True: it failed. */
static bool repair_without_memory(int n)
{
	int err;

	record_leaked();
	w.sh->lock = lock_word_of(w.dead);
	refuse_memory = n;
	err = fnd_table_upsert(w.t, w.key[0], strlen(w.key[0]), w.key[0], strlen(w.key[0]));
	refuse_memory = 0;
	CHECK(err == 0 || err == -ENOMEM, "request %d: %d", n, err);
	CHECK(fnd_table_upsert(w.t, "new", 3, "new", 3) == 0, "request %d: next", n);
	CHECK(fnd_table_quiesce(w.t) == 0 && fnd_table_check(w.t) == 0, "request %d: check", n);
	CHECK(world_present() == KEYS, "request %d: %u keys", n, world_present());
	world_restore();
	return err != 0;
}

static void repair_refused(void)
{
	uint64_t word = w.t->index[0];
	int n = 1;

	while (repair_without_memory(n))
		n++;
	CHECK(n == 3, "a repair asks for memory %d times", n - 1);

	/* nowhere, in the header, another shard's */
	for (n = 0; n < 3; n++) {
		w.t->index[0] = n == 0 ? 1ULL << 50 : n == 1 ? 64 : w.two->index[0];
		w.sh->lock = lock_word_of(w.dead);
		CHECK(fnd_table_upsert(w.t, "new", 3, "new", 3) == -FND_E_CORRUPT, "index word %d", n);
		CHECK(w.sh->lock == 1, "left to the next: %x", w.sh->lock);
		CHECK(fnd_shard_check(w.t, 0) == -FND_E_CORRUPT, "index word %d", n);
	}
	w.t->index[0] = word;
	CHECK(fnd_table_upsert(w.t, "new", 3, "new", 3) == 0, "index word is back");
	CHECK(fnd_table_check(w.t) == 0, "index word is back");
	world_restore();

	for (n = 1; n <= 2; n++) {
		refuse_memory = n;
		CHECK(fnd_shard_check(w.t, 0) == -ENOMEM, "check without memory");
	}
	world_restore();
}

/* --- the lock ------------------------------------------------------------------------------------- */

static void lock_words(void)
{
	const uint32_t dead[] = {
		lock_word_of(w.dead), lock_word_of(w.dead) | 3, lock_word_of(w.dead) ^ 4, 1, 3, 0x400,
		(w.seg->threads + 1) << 20, lock_word_of(w.me->index) ^ 4, 0xffffffff,
		(w.dead + 1) << 20 /* a slot nobody has */
	};
	uint32_t other;

	for (size_t i = 0; i < sizeof(dead) / sizeof(*dead); i++) {
		w.sh->lock = dead[i];
		CHECK(fnd_table_upsert(w.t, "new", 3, "new", 3) == 0, "lock word %x", dead[i]);
		CHECK(w.sh->lock == 0, "lock word %x stays %x", dead[i], w.sh->lock);
	}
	w.two->shard[0].live++;
	CHECK(fnd_table_check(w.two) == -FND_E_CORRUPT, "the first of two shards");
	w.two->shard[0].live--;
	w.sh->lock = w.me->lock_self;
	CHECK(fnd_table_upsert(w.t, "new", 3, "new", 3) == -EDEADLK, "my own lock");
	/* somebody alive: another thread slot of mine, which seems to be this thread's too */
	other = w.dead + 1;
	w.seg->thread[other].process = w.me->slot->process;
	w.seg->thread[other].word = fnd_slot_word(FND_SLOT_ACTIVE, 9, (uint32_t)getpid());
	w.sh->lock = lock_word_of(other);
	CHECK(fnd_table_upsert(w.t, "new", 3, "new", 3) == -ETIMEDOUT, "a living owner");
	CHECK(fnd_table_check(w.t) == -ETIMEDOUT, "a living owner");
	CHECK(fnd_table_quiesce(w.t) == 0, "a busy shard is passed over");
	CHECK(fnd_table_trim(w.t, w.me) == 0, "a busy shard is passed over");
	world_restore();
}

static void refused_callers(void)
{
	struct fnd_fork_mark gone = { 0 }, *mark = w.seg->fork_mark;

	w.seg->fork_mark = &gone;
	CHECK(fnd_table_check(w.t) == -FND_E_FORKED, "a parent's handle");
	CHECK(fnd_table_quiesce(w.t) == -FND_E_FORKED, "a parent's handle");
	CHECK(fnd_segment_reap(w.seg, NULL) == -FND_E_FORKED, "a parent's handle");
	w.seg->fork_mark = mark;
	w.seg->read_only = true;
	CHECK(fnd_table_check(w.t) == -FND_E_FENCED, "read only");
	CHECK(fnd_table_quiesce(w.t) == -FND_E_FENCED, "read only");
	w.seg->read_only = false;
}

/* --- the directory -------------------------------------------------------------------------------- */

static void make_table(const char *name)
{
	struct fnd_table_options o = { sizeof(o), 0, 8, 8, 4 };
	struct fnd_table *t;

	CHECK(fnd_table_open(w.seg, name, &o, &t) == 0, "a table");
	fnd_table_close(t);
}

static void directory_states(void)
{
	const uint32_t use[] = { 5, 70, w.t->number, w.t->number };
	const unsigned int kind[] = { FND_SPAN_ROOT, FND_SPAN_INDEX, FND_SPAN_REGION, FND_SPAN_ROOT };
	uint64_t off[4], need;

	make_table("half");
	CHECK(fnd_span_alloc(w.seg, 320, FND_SPAN_FREE, 0, 0, &off[0], &need) == 0, "a free span");
	w.seg->table[2].state = FND_TABLE_MAKING;
	for (unsigned int i = 0; i < 4; i++)
		CHECK(fnd_span_alloc(w.seg, 1024, kind[i], use[i], 3, &off[i], &need) == 0, "a span");
	CHECK(verify_says("being made, and nobody holds the lock"), "MAKING");
	CHECK(verify_says("nothing refers to it"), "spans");
	w.seg->hdr->lock = lock_word_of(w.dead);
	make_table("next");
	CHECK(w.seg->hdr->lock == 0, "the lock");
	CHECK(w.seg->table[2].state == FND_TABLE_READY && !strcmp(w.seg->table[2].name, "next"), "the place");
	CHECK(verify_says(""), "the directory");
	CHECK(world_present() == KEYS && fnd_table_check(w.t) == 0 && fnd_table_check(w.two) == 0, "tables");
	world_restore();

	/* more regions than there can be, and a span that is none of them */
	CHECK(fnd_span_alloc(w.seg, 1024, FND_SPAN_REGION, w.t->number, 3, &off[0], &need) == 0, "a span");
	w.seg->table[w.t->number].regions = 1000;
	w.seg->hdr->lock = lock_word_of(w.dead);
	CHECK(fnd_space_lock(w.seg, w.me) == 0, "the lock");
	fnd_unlock(w.me, &w.seg->hdr->lock);
	CHECK(((struct fnd_shm_span *)at(off[0]))->use == FND_SPAN_FREE, "not listed");
	world_restore();

	/* half of the spans cannot be walked, and the listed regions are more than there is room for */
	((struct fnd_shm_span *)at(w.ix.off))->bytes = 8;
	w.seg->table[0].regions = 1000;
	w.seg->hdr->lock = lock_word_of(w.dead);
	CHECK(fnd_space_lock(w.seg, w.me) == 0, "the lock");
	fnd_unlock(w.me, &w.seg->hdr->lock);
	world_restore();
}

/* --- indexes and overflow buckets that serve again ------------------------------------------------ */

static void index_chain(void)
{
	struct fnd_shm_span *span;
	uint64_t off;

	for (unsigned int damage = 0; damage < 4; damage++) {
		index_waits();
		off = w.sh->old_index;
		span = at(off);
		if (damage == 0)
			span->magic = 0;
		else if (damage == 1)
			span->use++;
		else
			w.sh->old_index = damage == 2 ? 1ULL << 50 : w.ix.off;
		fnd_index_reclaim(w.t, 0);
		CHECK(w.sh->old_index == 0, "damage %u", damage);
		world_restore();
	}
	index_waits();
	off = w.sh->old_index;
	span = at(off);
	span->stamp = 0;
	fnd_index_reclaim(w.t, 0);
	CHECK(span->stamp == w.seg->hdr->epoch && w.sh->old_index == off, "stamped");
	w.seg->hdr->safe = span->stamp;
	fnd_index_reclaim(w.t, 0);
	CHECK(w.sh->old_index == off, "a reader may be in it");
	w.seg->hdr->safe = span->stamp + 1;
	fnd_index_reclaim(w.t, 0);
	CHECK(w.sh->old_index == 0 && span->use == FND_SPAN_FREE, "free again");
	fnd_index_retire(w.t, 0, 1ULL << 50);
	CHECK(w.sh->old_index == 0, "an index outside");
	world_restore();

	/* a step gives back one; a chain is never walked for more than 64 */
	for (unsigned int i = 0; i < 66; i++) {
		uint64_t word, need;

		CHECK(fnd_index_make(w.seg, w.t->number, 0, 0, 4, &word, &need) == 0, "no index");
		fnd_index_retire(w.t, 0, word & ~63ULL);
		((struct fnd_shm_span *)at(word & ~63ULL))->stamp = 1;
	}
	w.seg->hdr->safe = 2;
	fnd_index_reclaim(w.t, 0);
	CHECK(w.sh->old_index != 0, "all at once");
	fnd_index_reclaim(w.t, 0);
	CHECK(w.sh->old_index == 0, "the rest");
	world_restore();
}

/* Another record with the hash of key @i goes into the index. */
static int put_again(unsigned int i)
{
	uint64_t hash = fnd_table_hash(w.t, w.key[i], strlen(w.key[i]));

	return fnd_index_put(&w.ix, w.t->shard_bits, hash, w.ix.bucket[0].slot[0] & FND_OFF_MASK);
}

static void overflow_again(void)
{
	w.ix.bucket[0].slot[0] |= 1; /* full */
	for (unsigned int k = 0; k < FND_BUCKET_SLOTS; k++)
		for (unsigned int b = 1; b <= w.ix.overflow; b++)
			overflow(b)->slot[k] = 8;
	w.ix.span->overflow_used = w.ix.overflow;
	/* one is in no chain */
	CHECK(put_again(0) == 0 && overflow(3)->link == 4 && overflow(4)->slot[0], "one that is not linked");
	/* all are: three chains, a damaged link, an empty bucket at an end */
	for (unsigned int b = 5; b <= w.ix.overflow; b++)
		w.ix.bucket[b].link = b;
	w.ix.bucket[1].link = w.ix.overflow + 1;
	memset(overflow(4)->slot, 8, sizeof(overflow(4)->slot));
	CHECK(put_again(0) == -ENOSPC, "none is left");
	memset(overflow(7)->slot, 0, sizeof(overflow(7)->slot));
	overflow(6)->link = 0;
	refuse_memory = 1;
	CHECK(put_again(0) == -ENOSPC, "no memory to look for one");
	CHECK(put_again(0) == 0 && overflow(4)->link == 7 && w.ix.bucket[7].link == 0, "an empty one at an end");
	memset(overflow(7)->slot, 8, sizeof(overflow(7)->slot));
	overflow(7)->link = 1; /* a loop: no end, and no way to lengthen it */
	CHECK(put_again(0) == -ENOSPC, "a loop");
	/* from another bucket: the loop is walked for a while */
	for (uint64_t i = 0; i < 1ULL << w.ix.log2; i++)
		memset(w.ix.bucket[i].slot, 8, sizeof(w.ix.bucket[i].slot));
	CHECK(put_again(CHAINED) == -ENOSPC, "a loop elsewhere");
	world_restore();
}

int main(void)
{
	world_make();
	CHECK(verify_says(""), "the segment as it is made");
	CHECK(fnd_table_check(w.t) == 0 && world_present() == KEYS, "the table as it is made");
	for (size_t i = 0; i < sizeof(states) / sizeof(*states); i++)
		one_state(&states[i]);
	repair_refused();
	lock_words();
	refused_callers();
	directory_states();
	index_chain();
	overflow_again();
	return world_end();
}
