// SPDX-License-Identifier: MIT
/*
 * The verifier, in process: each defect once, with what is said about it; what is none, for which nothing is said;
 * and every refusal of memory and of a read on the way.
 */
#include "recovery_world.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "header.h"

#define LARGE (1ULL << 50)
#define OTHER (w.dead + 1) /* a thread slot nobody has */
#define LOCK(slot, gen) ((uint32_t)(slot) << 20 | (uint32_t)(gen) << 2)

#define H (w.seg->hdr)
#define P(i) (w.seg->process[i])
#define T(i) (w.seg->thread[i])
#define D(i) (w.seg->table[i])
#define B(i) (w.ix.bucket[i])
#define OV(i) (w.ix.bucket[(1ULL << w.ix.log2) - 1 + (i)])
#define WORD(state, gen, id) fnd_slot_word(FND_SLOT_##state, gen, id)

static struct fnd_shm_span *span_at(uint64_t off)
{
	return at(off);
}

static struct fnd_shm_record *live(void)
{
	return at(B(0).slot[0] & FND_OFF_MASK);
}

static uint64_t new_span(unsigned int kind, uint32_t table, uint32_t part, uint64_t bytes)
{
	uint64_t off = 0, need;

	CHECK(fnd_span_alloc(w.seg, bytes, kind, table, part, &off, &need) == 0, "a span");
	return off;
}

static void retire_index(void)
{
	uint64_t word = 0, need;

	CHECK(fnd_index_make(w.seg, w.t->number, 0, 2, fnd_index_overflow(2), &word, &need) == 0, "an index");
	fnd_index_retire(w.t, 0, word & ~63ULL);
	span_at(word & ~63ULL)->stamp = 1;
}

static void link_thread(uint32_t slot, uint32_t process, uint64_t word)
{
	T(slot).process = (uint64_t)process << 32 | fnd_slot_gen(P(process).word);
	T(slot).word = word;
	if (H->thread_high < slot)
		H->thread_high = slot;
}

/* A record of shard @from once more, in shard @to. */
static uint64_t copy_live(struct fnd_table *ft, uint32_t from, struct fnd_table *tt, uint32_t to)
{
	struct fnd_index a, b;
	uint64_t off = 0, old = 0, hash;
	struct fnd_shm_record *r;

	CHECK(fnd_index_open(ft, from, ft->index[from], &a) == 0, "an index");
	CHECK(fnd_index_open(tt, to, tt->index[to], &b) == 0, "an index");
	for (uint64_t i = 0; !old; i++)
		old = a.bucket[i].slot[0] & FND_OFF_MASK;
	CHECK(fnd_record_alloc(tt, to, true, &off) == 0, "a record");
	r = at(off);
	memcpy(r, at(old), tt->record_bytes);
	hash = fnd_table_hash(tt, r + 1, r->lens & 0xff);
	CHECK(fnd_index_put(&b, tt->shard_bits, hash, off) == 0, "a slot");
	tt->shard[to].live++;
	return off;
}

/* The same key twice, the later record first. */
static void copy_swapped(void)
{
	uint64_t old = B(0).slot[0], off = copy_live(w.t, 0, w.t, 0);

	for (uint64_t i = 0; i < (1ULL << w.ix.log2) + w.ix.overflow; i++)
		for (unsigned int k = 0; k < FND_BUCKET_SLOTS; k++)
			if ((B(i).slot[k] & FND_OFF_MASK) == off) {
				B(0).slot[0] = B(i).slot[k];
				B(i).slot[k] = old;
				return;
			}
}

/* One damage a line: number, what is stored, what is said. */
#define DEFECTS                                                                                          \
	/* header */                                                                                     \
	X(epoch_0, H->epoch = 0; H->safe = 1, "epoch is 0")                                              \
	X(epoch_high, H->epoch = 1ULL << 48, "epoch is 281474976710656")                                 \
	X(safe_0, H->safe = 0, "safe is 0")                                                              \
	X(safe_later, H->safe = H->epoch + 1, "safe is")                                                 \
	X(brk_low, H->brk = 64, "brk is 64")                                                             \
	X(brk_high, H->brk = LARGE, "brk is")                                                            \
	X(brk_odd, H->brk += 8, "brk is")                                                                \
	X(brk_line, H->brk += 32, "the walk of the spans ends")                                          \
	X(destroying_pid, H->destroying = 1u << 22, "no process has such a number")                      \
	X(destroying_0, H->destroying = 1ULL << 32, "no process has such a number")                      \
	X(destroying_now, H->destroying = 1ULL << 32 | 1, "")                                            \
	X(sample_0, H->sample_every = 0, "sample_every is 0")                                            \
	X(home, H->home_checksum++, "home_checksum is")                                                  \
	X(elsewhere, H->pidns_ino++; H->home_checksum = fnd_home_checksum(H), "pid namespace")           \
	X(pad, H->pad2[3] = 7, "byte 3 is 0x07, not 0")                                                  \
	X(checksum, H->hash_seed++, "checksum is")                                                       \
	/* the segment's lock */                                                                         \
	X(lock_generation, H->lock = LOCK(0, 5), "no thread can have written it")                        \
	X(lock_waiters, H->lock = 2, "no thread can have written it")                                    \
	X(lock_given_up, H->lock = 1, "")                                                                \
	X(lock_beyond, H->lock = LOCK(w.seg->threads + 1, 1), "no thread can have written it")           \
	X(lock_later, H->lock = lock_word_of(w.dead) + 4, "no thread can have written it")               \
	X(lock_life_0, H->lock = LOCK(w.dead, 0), "no thread can have written it")                       \
	X(lock_before_first, T(OTHER).word = WORD(FREE, 1, 0); H->lock = LOCK(OTHER, 0x3fffe),           \
	  "no thread can have written it")                                                               \
	X(lock_wrapped, T(OTHER).word = WORD(FREE, 1 << 18, 0); H->lock = LOCK(OTHER, 0), "")            \
	X(lock_older, T(OTHER).word = WORD(FREE, 9, 0); H->lock = LOCK(OTHER, 8), "")                    \
	X(lock_free, T(OTHER).word = WORD(FREE, 9, 0); H->lock = LOCK(OTHER, 9), "")                     \
	X(lock_reaping, link_thread(OTHER, 1, WORD(REAPING, 9, 1u << 19)); H->lock = LOCK(OTHER, 9), "") \
	X(lock_claiming, link_thread(OTHER, 1, WORD(CLAIMING, 9, 5)); H->lock = LOCK(OTHER, 9),          \
	  "no thread can have written it")                                                               \
	X(lock_held, H->lock = w.me->lock_self, "")                                                      \
	X(lock_dead, H->lock = lock_word_of(w.dead), "")                                                 \
	X(lock_of_slot_0, T(w.dead).process = 0; H->lock = lock_word_of(w.dead), "of process slot 0")    \
	X(lock_of_beyond, T(w.dead).process = LARGE; H->lock = lock_word_of(w.dead), "of process slot")  \
	X(lock_of_generation, T(w.dead).process++; H->lock = lock_word_of(w.dead), "whose word is")      \
	X(lock_of_leaver, P(2).word = WORD(REAPING, fnd_slot_gen(P(2).word), 1u << 19);                  \
	  H->lock = lock_word_of(w.dead), "")                                                            \
	X(lock_elsewhere, H->pidns_ino++; H->home_checksum = fnd_home_checksum(H);                       \
	  H->lock = lock_word_of(w.dead), "pid namespace")                                               \
	/* slots */                                                                                      \
	X(process_free, P(3).word = WORD(FREE, 1, 9), "free, and has the number 9")                      \
	X(reaper_pid_0, P(2).word = WORD(REAPING, 1, 1u << 31), "who cannot be")                         \
	X(reaper_pid_large, P(2).word = WORD(REAPING, 1, 1u << 31 | 1 << 22), "who cannot be")           \
	X(reaper_pid, P(2).word = WORD(REAPING, 1, 1u << 31 | 77), "")                                   \
	X(reaper_slot_0, P(2).word = WORD(REAPING, 1, 1), "who cannot be")                               \
	X(reaper_slot_beyond, P(2).word = WORD(REAPING, 1, 9u << 19), "who cannot be")                   \
	X(active_0, P(2).word = WORD(ACTIVE, 1, 0), "taken by number 0")                                 \
	X(active_large, P(2).word = WORD(ACTIVE, 1, 1 << 22), "taken by number")                         \
	X(active_life_0, P(2).word = WORD(ACTIVE, 0, 5), "generation 0")                                 \
	X(process_0, P(0).word = 1, "a slot that is never used")                                         \
	X(thread_0, T(0).epoch = 1, "a slot that is never used")                                         \
	X(process_flags, P(1).flags = 8, "flags 0x8")                                                    \
	X(identity_flags, P(1).identity_flags |= 64, "identity flags")                                   \
	X(process_pidns, P(1).pidns++, "pid namespace")                                                  \
	X(thread_of_free, P(2).word = WORD(FREE, fnd_slot_gen(P(2).word), 0), "whose word is")           \
	X(thread_of_claiming, P(2).word = WORD(CLAIMING, fnd_slot_gen(P(2).word), 5), "whose word is")   \
	X(epoch_free, T(OTHER).epoch = 1 << 16 | 1, "free, and in a section")                            \
	X(epoch_depth, T(w.dead).epoch = 1 << 16, "section of depth 0")                                  \
	X(epoch_none, T(w.dead).epoch = 1, "of epoch 0")                                                 \
	X(epoch_later, T(w.dead).epoch = (H->epoch + 1) << 16 | 1, "in a section")                       \
	X(epoch_sound, T(w.dead).epoch = H->epoch << 16 | 1, "")                                         \
	X(process_high, H->process_high = 1, "process_high is 1")                                        \
	X(thread_high, H->thread_high = 4000, "thread_high is 4000")                                     \
	/* spans */                                                                                      \
	X(span_pad, span_at(w.ix.off)->pad0 = 1, "unused bytes")                                         \
	X(span_even, new_span(FND_SPAN_ROOT, 9, 0, 1024); span_at(w.ix.off)->bytes += 64, "an odd number") \
	X(span_magic, span_at(w.ix.off)->magic++, "the walk of the spans ends")                          \
	X(span_small, span_at(w.ix.off)->bytes = 0, "the walk of the spans ends")                        \
	X(span_odd, span_at(w.ix.off)->bytes += 8, "the walk of the spans ends")                         \
	X(span_large, span_at(w.ix.off)->bytes = 64 * ((1ULL << 40) + 1), "the walk of the spans ends")  \
	X(span_kind, span_at(w.ix.off)->use = 9ULL << 56, "no such kind, table or part")                 \
	X(span_kind_0, span_at(w.ix.off)->use = 5, "no such kind, table or part")                        \
	X(span_table, span_at(w.ix.off)->use |= 0x40ULL << 32, "no such kind, table or part")            \
	X(span_shard, span_at(w.ix.off)->use |= 128, "no such kind, table or part")                      \
	X(span_region, span_at(D(0).region_off[0])->use |= 16, "no such kind, table or part")            \
	X(span_root, span_at(D(0).root_off)->use |= 1, "no such kind, table or part")                    \
	X(span_members, span_at(D(0).root_off)->buckets_log2 = 1, "has members of one")                  \
	X(span_members_2, span_at(D(0).root_off)->overflow = 1, "has members of one")                    \
	X(span_members_3, span_at(D(0).root_off)->overflow_used = 1, "has members of one")               \
	X(span_members_4, span_at(D(0).root_off)->stamp = 1, "has members of one")                       \
	X(span_members_5, span_at(D(0).root_off)->next = 1, "has members of one")                        \
	X(span_left, new_span(FND_SPAN_REGION, 9, 0, 640), "nothing refers to it")                       \
	X(span_free, new_span(FND_SPAN_FREE, 0, 0, 640), "")                                             \
	X(growth_left, new_span(FND_SPAN_INDEX, 0, 0, 640); w.sh->lock = lock_word_of(w.dead), "")       \
	X(growth_not_locked, new_span(FND_SPAN_INDEX, 0, 0, 640), "nothing refers to it")                \
	X(growth_of_none, new_span(FND_SPAN_INDEX, 9, 0, 640), "nothing refers to it")                   \
	X(growth_of_beyond, new_span(FND_SPAN_INDEX, 0, 9, 640), "nothing refers to it")                 \
	X(spans_many, for (int i = 0; i < 70; i++) new_span(FND_SPAN_ROOT, 9, 0, 64), "nothing refers")  \
	/* directory */                                                                                  \
	X(table_state, D(5).state = 7, "there is none such")                                             \
	X(table_making, D(5).state = FND_TABLE_MAKING, "nobody holds the lock")                          \
	X(table_being_made, D(5).state = FND_TABLE_MAKING; H->lock = w.me->lock_self, "")                \
	X(table_names, D(5) = D(0), "has the name of entry 0")                                           \
	X(table_checksum, D(0).capacity++, "checksum")                                                   \
	X(table_pad, D(0).pad1[0] = 1, "unused bytes")                                                   \
	X(table_regions, D(0).regions = 0, "0 regions")                                                  \
	X(table_growths, D(0).growths = 9, "grown 9 times")                                              \
	X(region_size, D(0).region_extents[0] *= 4, "its span has")                                      \
	X(region_small, D(0).region_extents[0] = 2, "its span has")                                      \
	X(region_lost, D(0).region_off[0] += 64, "no span is there")                                     \
	X(region_far, D(0).region_off[0] = H->brk - H->brk % 4096 + 4096, "no record can be there")    \
	X(regions_over, D(0).regions = 16; for (int i = 1; i < 16; i++) {                                \
		D(0).region_off[i] = D(0).region_off[0]; D(0).region_extents[i] = 4000; }, "that span is used as") \
	X(owner, *(uint32_t *)at(D(0).region_off[0] + 64) = 9, "owner of extent 0 is 9")                 \
	X(root_twice, D(5) = D(0); D(5).name[0] = 'z', "checksum")                                       \
	/* index */                                                                                      \
	X(index_log2, w.t->index[0] |= 32, "no index of this shard")                                     \
	X(index_place, w.t->index[0] += 64, "no index of this shard")                                    \
	X(index_shard, w.two->index[0] = w.two->index[1], "no index of this shard")                      \
	X(index_0, w.t->index[0] = 0, "no index of this shard")                                          \
	X(index_size, w.ix.span->buckets_log2 = 3, "its word says")                                      \
	X(index_overflow, w.ix.span->overflow = 9, "its word says")                                      \
	X(index_used, w.ix.span->overflow_used = 9, "its word says")                                     \
	X(index_large, w.ix.span->buckets_log2 = 20; w.ix.span->overflow = fnd_index_overflow(20);       \
	  w.t->index[0] += 20 - w.ix.log2, "its word says")                                              \
	X(index_stamp, w.ix.span->stamp = 1, "a stamp or a link of a retired one")                       \
	X(index_next, w.ix.span->next = 64, "a stamp or a link of a retired one")                        \
	X(old_sound, retire_index(); retire_index(), "")                                                 \
	X(old_endless, retire_index(); span_at(w.sh->old_index)->next = w.sh->old_index, "does not end") \
	X(old_stamp, retire_index(); span_at(w.sh->old_index)->stamp = LARGE, "a retired index with")    \
	X(old_log2, retire_index(); span_at(w.sh->old_index)->buckets_log2 = 40, "a retired index of")   \
	X(old_over, retire_index(); span_at(w.sh->old_index)->overflow++, "a retired index of")          \
	X(old_used, retire_index(); span_at(w.sh->old_index)->overflow_used = 99, "a retired index of")  \
	X(old_bytes, retire_index(); span_at(w.sh->old_index)->buckets_log2 = 12;                        \
	  span_at(w.sh->old_index)->overflow = fnd_index_overflow(12), "a retired index of")             \
	X(old_lost, w.sh->old_index = 64, "no span is there")                                            \
	X(old_past_brk, w.sh->old_index = H->brk, "a retired index of")                                                    \
	X(link_outside, B(0).link = 99, "there is none such")                                            \
	X(link_loop, OV(1).link = 1, "in a chain already")                                               \
	X(used_low, w.ix.span->overflow_used = 0, "are said to be used")                                 \
	X(slot_wild, B(0).slot[0] = 8, "no record can be there")                                         \
	X(slot_between, B(0).slot[0] += 8, "no record can be there")                                     \
	X(slot_twice, B(0).slot[1] = B(0).slot[0], "in the index already")                               \
	X(tag, B(0).slot[0] ^= 1ULL << 60, "the slot's tag")                                             \
	X(other_bucket, B(9).slot[6] = B(0).slot[0]; B(0).slot[0] = 0, "another bucket")                 \
	/* records */                                                                                    \
	X(key_0, live()->lens &= ~0xffu, "record with a key of 0 bytes")                                 \
	X(key_large, live()->lens |= 0xff, "record with a key of 255 bytes")                             \
	X(value_large, live()->lens |= 0xff << 8, "and a value of 255")                                  \
	X(hash, live()->hash++, "hash is not that of its key")                                           \
	X(birth, live()->birth = 9, "a snapshot generation that has not come")                           \
	/* lists */                                                                                      \
	X(batch_stamp_0, w.sh->batch[0].stamp = 0, "a batch with the stamp 0")                           \
	X(batch_stamp, w.sh->batch[0].stamp = LARGE, "a batch with the stamp")                           \
	X(batch_count, w.sh->batch[0].count++, "the count of a batch")                                   \
	X(open_count, w.sh->open_count++, "the count of the open batch")                                 \
	X(bump_record, w.sh->bump--, "was not handed out yet")                                           \
	X(bump_0, w.sh->bump &= 0xffffffff, "newest extent")                                             \
	X(bump_beyond, w.sh->bump += 5000ULL << 32, "newest extent")                                     \
	X(bump_used, w.sh->bump |= 0xffff, "newest extent")                                              \
	X(live_count, w.sh->live++, "the count of live records")                                         \
	/* a shard's lock: counts and places in no list are its holder's matter */                       \
	X(shard_lock, w.sh->lock = 2, "no thread can have written it")                                   \
	X(shard_dead, w.sh->lock = lock_word_of(w.dead); w.sh->live++, "")                               \
	X(shard_moving, w.sh->lock = lock_word_of(w.dead); w.sh->batch[1] = w.sh->batch[0], "")          \
	X(shard_leak, w.sh->lock = lock_word_of(w.dead); w.sh->open_head = 0, "")                        \
	X(shard_list_twice, w.sh->lock = lock_word_of(w.dead); w.sh->batch[1].head = w.sh->open_head;    \
	  w.sh->batch[1].stamp = 1, "")                                                                  \
	X(shard_live_listed, w.sh->lock = lock_word_of(w.dead);                                          \
	  w.sh->free_head = B(0).slot[0] & FND_OFF_MASK, "in the index already")                         \
	X(key_twice, copy_live(w.t, 0, w.t, 0), "the key of this record is that of the one")             \
	X(key_swapped, copy_swapped(), "the key of this record is that of the one")                      \
	X(chain_long, for (int i = 0; i < 70; i++) copy_live(w.two, 0, w.two, 0), "the key of this")     \
	X(slot_padding, B(0).slot[0] = D(0).region_off[0] + fnd_region_bytes(D(0).region_extents[0], 0) + \
	  D(0).extent_records * D(0).record_bytes, "no record can be there")                             \
	X(extents_many, D(0).region_off[1] = new_span(FND_SPAN_REGION, 0, 1, 640); D(0).regions = 2;     \
	  D(0).region_extents[0] = D(0).region_extents[1] = 8000, "extents are more than there is room") \
	X(defects_many, for (int i = 0; i < 4200; i++) new_span(FND_SPAN_ROOT, 9, 0, 64), "nothing refers") \
	X(key_elsewhere, copy_live(w.two, 0, w.two, 1), "the key belongs to another shard")              \
	X(shard_pad, w.sh->pad1[1] = 1, "unused bytes")

#define X(name, store, said)                                                                             \
	static void name(void)                                                                           \
	{                                                                                                \
		store;                                                                                   \
	}
DEFECTS
#undef X

static const struct {
	const char *name;
	void (*make)(void);
	const char *said;
} defects[] = {
#define X(name, store, said) { #name, name, said },
	DEFECTS
#undef X
};

/* --- refusals on the way -------------------------------------------------------------------------- */

/* Something of everything: chains of indexes and buckets, what a dead growth left, many spans, many defects. */
static void rich(void)
{
	retire_index();
	spans_many();
	growth_left();
	link_loop();
	w.two->shard[0].lock = lock_word_of(w.dead);
	w.two->shard[1].lock = 2;
	H->lock = lock_word_of(w.dead);
	for (uint32_t i = 1; i <= w.seg->threads; i++)
		T(i).pad1[5] = 1;
	for (uint32_t i = 1; i <= w.seg->processes; i++)
		P(i).pad[5] = 1;
	for (unsigned int i = 0; i < 16; i++)
		B(i).slot[6] = 8;
}

static int verify_now(void)
{
	struct fnd_verify_result r;

	return fnd_verify(w.name, NULL, NULL, &r);
}

/* Refuses each request for memory of a verification of that state, one after the other. */
static void refuse_each_memory(void (*state)(void))
{
	bool more = true;

	for (int n = 1; more; n++) {
		int err;

		state();
		refuse_memory = n;
		err = verify_now();
		more = refuse_memory < 0;
		/* the fingerprint of the passes is done without */
		CHECK(err == -FND_E_CORRUPT || err == 0 || (more && err == -ENOMEM), "request %d: %d", n, err);
		world_restore();
	}
}

/* The same for reads: one, or it and all that follow. */
static void refuse_each_read(void (*state)(void), bool lasting)
{
	bool more = true;

	for (int n = 1; more; n++) {
		int err;

		state();
		refuse_on = lasting;
		refuse_pread = n;
		err = verify_now();
		more = refuse_pread < 0;
		CHECK(err == -FND_E_CORRUPT || err == 0 || (more && err == -EIO), "read %d: %d", n, err);
		world_restore();
	}
}

static void refusals(void)
{
	void (*const state[])(void) = { rich, growth_left, checksum, safe_later, key_twice, chain_long };

	for (size_t i = 0; i < sizeof(state) / sizeof(*state); i++) {
		refuse_each_memory(state[i]);
		refuse_each_read(state[i], false);
		refuse_each_read(state[i], true);
	}
}

/* --- what changes meanwhile ----------------------------------------------------------------------- */

static void truncate_now(void)
{
	CHECK(ftruncate(w.seg->fd, 8192) == 0, "ftruncate");
}

static void header_changes(void)
{
	H->hash_seed++;
	H->checksum = fnd_header_checksum(H);
}

static void keeps_moving(void)
{
	w.sh->live++;
	act_at_pread = 1;
}

static void goes_sound(void)
{
	memcpy(w.seg->base, w.saved, w.bytes);
}

static void index_moves(void)
{
	w.t->index[0] += 64;
}

/* The file ends in front of most records; it grows when the pass has begun. */
static void ends_early(void)
{
	off_t end = (off_t)D(0).region_off[0] + 100;

	CHECK(ftruncate(w.seg->fd, end) == 0, "ftruncate");
}

static void grows(void)
{
	CHECK(ftruncate(w.seg->fd, (off_t)w.bytes) == 0, "ftruncate");
	memcpy(w.seg->base, w.saved, w.bytes);
}

static void moving(void)
{
	act = keeps_moving;
	act_at_pread = 1;
	w.sh->live++;
}

static void moves_at_each(void (*how)(void), void (*before)(void))
{
	bool more = true;

	for (int n = 1; more; n++) {
		int err;

		if (before)
			before();
		act = how;
		act_at_pread = n;
		err = verify_now();
		more = act_at_pread < 0;
		CHECK(err == 0 || err == -FND_E_CORRUPT || err == -FND_E_FOREIGN, "read %d: %d", n, err);
		CHECK(ftruncate(w.seg->fd, (off_t)w.bytes) == 0, "ftruncate");
		world_restore();
	}
}

static void changes(void)
{
	struct fnd_verify_result r;

	moves_at_each(truncate_now, NULL);
	moves_at_each(truncate_now, rich);
	moves_at_each(header_changes, NULL);
	moves_at_each(goes_sound, rich);
	moves_at_each(index_moves, NULL);
	moves_at_each(grows, ends_early);
	refuse_each_read(moving, true);
	moving();
	CHECK(fnd_verify(w.name, NULL, NULL, &r) == 0 && r.unsettled == 1, "a shard that never settles");
	world_restore();
}

/* --- around it ------------------------------------------------------------------------------------ */

static int stop(const struct fnd_defect *d, void *arg)
{
	(void)d, (void)arg;
	return 77;
}

static void around(void)
{
	uint64_t extents = w.two->desc->region_extents[0];
	struct fnd_verify_result r;

	live_count();
	CHECK(fnd_verify(w.name, stop, NULL, NULL) == 77, "what the callback returns");
	CHECK(fnd_verify(w.name, NULL, NULL, NULL) == -FND_E_CORRUPT, "no callback, no figures");
	world_restore();
	CHECK(fnd_verify("t-recovery-none", NULL, NULL, NULL) < 0, "no such segment");
	H->magic = 0;
	CHECK(verify_now() == -FND_E_FOREIGN, "not a segment");
	world_restore();
	H->layout_minor++;
	H->checksum = fnd_header_checksum(H);
	H->pad2[3] = 7;
	CHECK(verify_says(""), "a later minor version may use what is unused here");
	world_restore();
	for (uint64_t i = 0; i < extents; i++)
		((uint32_t *)at(w.two->desc->region_off[0] + 64))[i] = 1;
	for (uint64_t i = 0; i < (1ULL << w.ix.log2) + w.ix.overflow; i++)
		memset(&w.ix.bucket[i], 8, sizeof(*w.ix.bucket));
	CHECK(fnd_verify(w.name, NULL, NULL, &r) == -FND_E_CORRUPT && r.defects > 10, "many");
	world_restore();
	CHECK(verify_says(""), "as it was");
}

int main(void)
{
	world_make();
	for (size_t i = 0; i < sizeof(defects) / sizeof(*defects); i++) {
		defects[i].make();
		CHECK(verify_says(defects[i].said), "%s", defects[i].name);
		world_restore();
	}
	refusals();
	changes();
	around();
	return world_end();
}
