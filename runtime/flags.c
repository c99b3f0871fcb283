// SPDX-License-Identifier: MIT
/*
 * Reading flags.
 *
 * Guarantees.
 *  A. A known flag, or all seven with the stage, is one load. Nothing but the mapped header is needed.
 *  B. An application flag is two loads of the root and one byte between; the block that the root names does
 *     not change while it is named, so equal roots make the byte one of that generation.
 *  C. Which identities a percentage covers depends on flag and identity alone, and grows with it:
 *     XXH3-64 of the identity, seeded with the XXH3-64 of the flag's name, upper half times 100 by 2^32.
 */
#include "flags_internal.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#define SLICE_MS 100

static const char *const names[FND_FLAG_KNOWN][2] = {
	[FND_FLAG_MIGRATION_MONITORING] = { "migration_monitoring", "enable_migration_monitoring" },
	[FND_FLAG_SHARED_REGISTRY] = { "shared_registry", "use_ets_agent_registry" },
	[FND_FLAG_SHARED_ERROR_CONTEXT] = { "shared_error_context", "use_logger_error_context" },
	[FND_FLAG_SHARED_TELEMETRY] = { "shared_telemetry", "use_genserver_telemetry" },
	[FND_FLAG_SHARED_SPANS] = { "shared_spans", "use_genserver_span_management" },
	[FND_FLAG_SHARED_SAMPLED_EVENTS] = { "shared_sampled_events", "use_ets_sampled_events" },
	[FND_FLAG_ENFORCE_SHARED_STATE] = { "enforce_shared_state", "enforce_no_process_dict" },
};

/* Which stage turns a flag on. */
static const unsigned char stage_of[FND_FLAG_KNOWN] = {
	[FND_FLAG_MIGRATION_MONITORING] = FND_STAGE_1,	[FND_FLAG_SHARED_REGISTRY] = FND_STAGE_2,
	[FND_FLAG_SHARED_ERROR_CONTEXT] = FND_STAGE_3,	[FND_FLAG_SHARED_TELEMETRY] = FND_STAGE_4A,
	[FND_FLAG_SHARED_SPANS] = FND_STAGE_4A,		[FND_FLAG_SHARED_SAMPLED_EVENTS] = FND_STAGE_4B,
	[FND_FLAG_ENFORCE_SHARED_STATE] = FND_STAGE_5,
};

static const char *const stages[FND_STAGE_MAX] = { "0", "1", "2", "3", "4a", "4b", "5" };

const char *fnd_flag_name(unsigned int id)
{
	return id < FND_FLAG_KNOWN ? names[id][0] : NULL;
}

const char *fnd_flag_alias(unsigned int id)
{
	return id < FND_FLAG_KNOWN ? names[id][1] : NULL;
}

const char *fnd_stage_name(unsigned int stage)
{
	return stage < FND_STAGE_MAX ? stages[stage] : NULL;
}

int fnd_stage_parse(const char *name)
{
	for (int i = 0; name && i < FND_STAGE_MAX; i++)
		if (strcmp(name, stages[i]) == 0)
			return i;
	return fnd_error_set(EINVAL, "a stage is 0, 1, 2, 3, 4a, 4b or 5");
}

unsigned int fnd_stage_percent(unsigned int stage, unsigned int id)
{
	return id < FND_FLAG_KNOWN && stage < FND_STAGE_MAX && stage_of[id] <= stage ? 100 : 0;
}

/* --- the word ------------------------------------------------------------------------------------- */

unsigned int fnd_word_percent(uint64_t w, unsigned int id)
{
	uint64_t v = w >> FND_FLAG_SHIFT(id);

	if (FND_FLAG_BITS(id) == 1)
		return v & 1 ? 100 : 0;
	v &= 127;
	return v <= 100 ? (unsigned int)v : 0; /* damaged: off */
}

uint64_t fnd_word_with(uint64_t w, unsigned int id, unsigned int percent)
{
	uint64_t mask = FND_FLAG_BITS(id) == 1 ? 1 : 127;
	uint64_t v = FND_FLAG_BITS(id) == 1 ? percent != 0 : percent;

	return (w & ~(mask << FND_FLAG_SHIFT(id))) | v << FND_FLAG_SHIFT(id);
}

uint64_t fnd_word_with_stage(uint64_t w, unsigned int stage)
{
	return (w & ~(7ULL << FND_FLAGS_STAGE_SHIFT)) | (uint64_t)stage << FND_FLAGS_STAGE_SHIFT;
}

uint64_t fnd_word_counted(uint64_t w)
{
	uint64_t count = (w + 1) & FND_FLAGS_COUNT_MASK;

	return (w & ~(uint64_t)FND_FLAGS_COUNT_MASK) | (count ? count : 1);
}

static uint64_t word_of(const struct fnd_flags *f)
{
	return fnd_load_acquire(f->head.word); /* [FL-1] pairs with every change of the word */
}

/* --- application flags ---------------------------------------------------------------------------- */

/* A percentage, or FND_APP_FLAG_UNDEFINED. */
static unsigned int app_percent(const struct fnd_shm_runtime *area, unsigned int place)
{
	uint64_t root = fnd_load_acquire(&area->app_root), again; /* [FL-2] pairs with the change of the root */
	unsigned int v;

	for (;;) {
		v = fnd_load_acquire(&area->app_flag[root & 1][place]); /* [FL-2] before the second look */
		again = fnd_load_acquire(&area->app_root); /* [FL-2] */
		if (again == root)
			break;
		root = again;
	}
	if (root == 0) /* nothing was ever defined, and the bytes are 0 */
		return FND_APP_FLAG_UNDEFINED;
	return v <= 100 ? v : FND_APP_FLAG_UNDEFINED;
}

int fnd_flag_percent(const struct fnd_flags *f, unsigned int id)
{
	unsigned int v;

	if (id < FND_FLAG_KNOWN)
		return (int)fnd_word_percent(word_of(f), id);
	if (id >= FND_FLAG_MAX)
		return -ENOENT;
	v = app_percent(f->area, id - FND_FLAG_KNOWN);
	return v == FND_APP_FLAG_UNDEFINED ? -ENOENT : (int)v;
}

bool fnd_flag_name_valid(const char *name)
{
	size_t n = name ? strlen(name) : 0;

	return n >= 1 && n <= FND_FLAG_NAME_MAX && strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789_.-") == n;
}

int fnd_flag_stored(struct fnd_flags *f, const char *name, struct fnd_stored_flag *ret)
{
	size_t bytes;
	int err;

	if (!f->table || !fnd_flag_name_valid(name))
		return -ENOENT;
	err = fnd_table_lookup(f->table, name, strlen(name), ret, sizeof(*ret), &bytes);
	if (err)
		return err == -ENOBUFS ? -FND_E_CORRUPT : err;
	if (bytes != sizeof(*ret) || ret->id >= FND_FLAG_MAX)
		return fnd_error_set(FND_E_CORRUPT, "the record of flag %s", name);
	ret->description[FND_FLAG_TEXT_MAX] = '\0';
	ret->reason[FND_FLAG_TEXT_MAX] = '\0';
	return 0;
}

int fnd_flag_find(struct fnd_flags *f, const char *name)
{
	struct fnd_stored_flag s;
	int err;

	for (int i = 0; name && i < FND_FLAG_KNOWN; i++)
		if (strcmp(name, names[i][0]) == 0 || strcmp(name, names[i][1]) == 0)
			return i;
	err = fnd_flag_stored(f, name ? name : "", &s);
	if (!err && s.id >= FND_FLAG_KNOWN)
		return (int)s.id;
	if (err && err != -ENOENT)
		return err;
	return fnd_error_set(ENOENT, "no flag is called \"%.64s\"", name ? name : "");
}

/* --- percentages ---------------------------------------------------------------------------------- */

/* Where in 0 to 99 an identity stands: below the percentage it is in. */
static unsigned int share(uint64_t seed, const char *identity)
{
	return (unsigned int)((XXH3_64bits_withSeed(identity, strlen(identity), seed) >> 32) * 100 >> 32);
}

/* 0: the flag's name cannot be found. */
static uint64_t seed_of(const struct fnd_flags *f, unsigned int id)
{
	struct fnd_flags *own = (struct fnd_flags *)(uintptr_t)f;
	char name[FND_FLAG_NAME_MAX + 1];
	uint64_t seed;

	if (id < FND_FLAG_KNOWN)
		return XXH3_64bits(names[id][0], strlen(names[id][0]));
	/* relaxed: a flag keeps its name, so every thread finds the same */
	seed = fnd_load_relaxed(&own->seed[id - FND_FLAG_KNOWN]);
	if (seed == 0 && fnd_app_name(own, id, name)) {
		seed = XXH3_64bits(name, strlen(name));
		fnd_store_relaxed(&own->seed[id - FND_FLAG_KNOWN], seed); /* relaxed: as above */
	}
	return seed;
}

static bool covered(const struct fnd_flags *f, unsigned int id, int percent, const char *identity)
{
	uint64_t seed;

	if (percent <= 0 || percent >= 100)
		return percent >= 100;
	seed = seed_of(f, id);
	return seed != 0 && share(seed, identity ? identity : f->identity) < (unsigned int)percent;
}

int fnd_flag_for(const struct fnd_flags *f, unsigned int id, const char *identity)
{
	return covered(f, id, fnd_flag_percent(f, id), identity);
}

int fnd_flags_identity_set(struct fnd_flags *f, const char *identity)
{
	struct fnd_participant self = { 0 };

	if (identity && strlen(identity) > FND_FLAG_IDENTITY_MAX)
		return fnd_error_set(EINVAL, "an identity has at most %d bytes", FND_FLAG_IDENTITY_MAX);
	if (!identity && fnd_segment_self(f->seg, &self) == 0)
		snprintf(f->identity, sizeof(f->identity), "%u", self.slot);
	else
		snprintf(f->identity, sizeof(f->identity), "%s", identity ? identity : "");
	return 0;
}

int fnd_flag_evaluate(struct fnd_flags *f, const char *name, const char *identity, int fallback,
		      struct fnd_flag_details *ret_details)
{
	struct fnd_flag_details d = { .value = !!fallback, .reason = "ERROR", .percent = -1 };
	int id = f ? fnd_flag_find(f, name) : -ENOENT;

	d.error_code = !f ? "PROVIDER_NOT_READY" : id == -ENOENT ? "FLAG_NOT_FOUND" : id < 0 ? "GENERAL" : NULL;
	if (f)
		d.generation = fnd_flags_generation(f);
	if (id >= 0) {
		d.percent = fnd_flag_percent(f, (unsigned int)id);
		if (d.percent < 0)
			d.error_code = "FLAG_NOT_FOUND";
	}
	if (!d.error_code) {
		d.value = covered(f, (unsigned int)id, d.percent, identity);
		d.reason = d.percent > 0 && d.percent < 100 ? "SPLIT" : "STATIC";
	}
	d.variant = d.value ? "on" : "off";
	if (ret_details)
		*ret_details = d;
	return d.value;
}

/* --- all at once ---------------------------------------------------------------------------------- */

/* Both generations in one number: each change moves it by one until 2^24 changes of known flags. */
static uint64_t generation_of(uint64_t word, uint64_t root)
{
	return fnd_word_count(word) + (root >> 1);
}

static void view_word(uint64_t word, struct fnd_flags_view *v)
{
	v->stage = fnd_word_stage(word);
	v->deviates = 0;
	for (unsigned int i = 0; i < FND_FLAG_KNOWN; i++) {
		v->percent[i] = (uint8_t)fnd_word_percent(word, i);
		if (v->percent[i] != fnd_stage_percent(v->stage, i))
			v->deviates |= 1u << i;
	}
}

static void view_block(uint64_t root, const uint8_t *block, struct fnd_flags_view *v)
{
	for (unsigned int i = 0; i < FND_APP_FLAGS; i++) {
		uint8_t p = fnd_load_relaxed(&block[i]); /* relaxed: the caller compares the roots */

		v->percent[FND_FLAG_KNOWN + i] = root && p <= 100 ? p : FND_APP_FLAG_UNDEFINED;
	}
}

void fnd_flags_view(const struct fnd_flags *f, struct fnd_flags_view *ret_view)
{
	const struct fnd_shm_runtime *area = f->area;
	uint64_t word, root;

	do {
		word = word_of(f);
		root = fnd_load_acquire(&area->app_root); /* [FL-2] */
		view_block(root, area->app_flag[root & 1], ret_view);
		fnd_fence_full(); /* [FL-2] the copy is before the second look */
	} while (fnd_load_acquire(&area->app_root) != root || word_of(f) != word); /* [FL-2] */
	view_word(word, ret_view);
	ret_view->generation = generation_of(word, root);
}

void fnd_flags_view_of_area(const unsigned char area[FND_AREA_BYTES], struct fnd_flags_view *ret_view)
{
	struct fnd_shm_runtime copy;

	memcpy(&copy, area, sizeof(copy));
	view_block(copy.app_root, copy.app_flag[copy.app_root & 1], ret_view);
	view_word(copy.flags, ret_view);
	ret_view->generation = generation_of(copy.flags, copy.app_root);
}

uint64_t fnd_flags_generation(const struct fnd_flags *f)
{
	return generation_of(word_of(f), fnd_load_acquire(&f->area->app_root)); /* [FL-2] */
}

void fnd_flags_wake(struct fnd_shm_runtime *area)
{
	fnd_fetch_add(&area->flags_wake, 1); /* [FL-3] after the change, pairs with fnd_flags_wait */
	fnd_area_wake(&area->flags_wake);
}

int fnd_flags_wait(struct fnd_flags *f, uint64_t generation, unsigned int timeout_ms)
{
	struct timespec ts;
	uint64_t now, until;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	until = (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000 + timeout_ms;
	for (;;) {
		uint32_t seen = fnd_load_acquire(&f->area->flags_wake); /* [FL-3] before the look */

		if (fnd_flags_generation(f) != generation)
			return 0;
		clock_gettime(CLOCK_MONOTONIC, &ts);
		now = (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
		if (now >= until)
			return -ETIMEDOUT;
		fnd_area_wait(&f->area->flags_wake, seen,
			      (unsigned int)(until - now < SLICE_MS ? until - now : SLICE_MS));
	}
}

/* --- the handle ----------------------------------------------------------------------------------- */

int fnd_flags_open(struct fnd_segment *seg, struct fnd_flags **ret_flags)
{
	struct fnd_table_options opt = { .size = sizeof(opt),
					 .key_max = FND_FLAG_NAME_MAX,
					 .value_max = sizeof(struct fnd_stored_places),
					 .capacity = FND_FLAG_MAX + 1 };
	struct fnd_participant self;
	char name[FND_NAME_MAX + 16];
	struct fnd_flags *f;
	int err = fnd_segment_self(seg, &self);

	if (err)
		return err;
	f = calloc(1, sizeof(*f));
	if (!f)
		return -ENOMEM;
	f->seg = seg;
	f->area = fnd_segment_area(seg);
	f->head.word = &f->area->flags;
	fnd_flags_identity_set(f, NULL);
	if (fnd_table_open(seg, FND_FLAGS_TABLE, &opt, &f->table))
		f->table = NULL; /* the seven work without */
	if (fnd_events_open(seg, &f->events))
		f->events = NULL;
	fnd_segment_name(seg, name, sizeof(name));
	if (fnd_journal_open(name, NULL, &f->journal))
		f->journal = NULL;
	if (fnd_word_count(word_of(f)) == 0)
		fnd_flags_restore(f);
	*ret_flags = f;
	return 0;
}

void fnd_flags_close(struct fnd_flags *f)
{
	if (!f)
		return;
	fnd_table_close(f->table);
	fnd_events_close(f->events);
	fnd_journal_close(f->journal);
	free(f);
}

int fnd_flags_durable(struct fnd_flags *f)
{
	int err = fnd_flags_journal_here(f->journal, f->area);

	return err ? err : fnd_journal_writable(f->journal);
}
