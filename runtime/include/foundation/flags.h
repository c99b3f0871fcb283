/* SPDX-License-Identifier: MIT */
/*
 * Feature flags: seven that steer a migration, and up to 256 of the application's own.
 *
 * The seven live with the stage and a change count in one 64-bit word of the segment's header: reading one is
 * a load and two operations, and any set of changes to them - a stage, a rollback - is one store that no
 * reader sees half of. Application flags lie in one of two blocks; a change writes the other block and then
 * one word that says which counts.
 *
 * A flag is off, on, or on for a percentage of identities. Which identities is a fixed function of flag and
 * identity: the same in every process, segment and boot; raising a percentage never drops one.
 *
 * Reading needs nothing but the mapped header: it works in a segment that has lost its name or whose tables
 * are damaged. A damaged percentage reads as off.
 */
#ifndef FOUNDATION_FLAGS_H
#define FOUNDATION_FLAGS_H

#include <foundation/atomic.h>
#include <foundation/segment.h>

#ifdef __cplusplus
extern "C" {
#endif

enum fnd_flag_id {
	FND_FLAG_MIGRATION_MONITORING = 0,
	FND_FLAG_SHARED_REGISTRY = 1, /* 0 or 100 only: its state is common to all workers */
	FND_FLAG_SHARED_ERROR_CONTEXT = 2,
	FND_FLAG_SHARED_TELEMETRY = 3,
	FND_FLAG_SHARED_SPANS = 4,
	FND_FLAG_SHARED_SAMPLED_EVENTS = 5, /* 0 or 100 only */
	FND_FLAG_ENFORCE_SHARED_STATE = 6,
	FND_FLAG_KNOWN = 7,
	/* From FND_FLAG_KNOWN on: FND_FLAG_KNOWN + the place of an application flag. */
	FND_FLAG_MAX = 7 + 256
};

#define FND_FLAG_NAME_MAX 63    /* bytes of [a-z0-9_.-] */
#define FND_FLAG_TEXT_MAX 255   /* bytes of a description, reason, or name of a person */
#define FND_FLAG_IDENTITY_MAX 255

/*
 * The word: change count 24 bits (lowest) | stage 3 | then the percentages, in the order of enum fnd_flag_id:
 * 7 bits each, 1 bit (0: 0 %, 1: 100 %) for the two that are common to all workers. 0: never set.
 */
#define FND_FLAGS_COUNT_BITS 24u
#define FND_FLAGS_STAGE_SHIFT 24u
#define FND_FLAG_SHIFT(id)                                                                        \
	((id) == FND_FLAG_MIGRATION_MONITORING  ? 27u :                                           \
	 (id) == FND_FLAG_SHARED_REGISTRY       ? 34u :                                           \
	 (id) == FND_FLAG_SHARED_ERROR_CONTEXT  ? 35u :                                           \
	 (id) == FND_FLAG_SHARED_TELEMETRY      ? 42u :                                           \
	 (id) == FND_FLAG_SHARED_SPANS          ? 49u :                                           \
	 (id) == FND_FLAG_SHARED_SAMPLED_EVENTS ? 56u :                                           \
						  57u)
#define FND_FLAG_BITS(id) ((id) == FND_FLAG_SHARED_REGISTRY || (id) == FND_FLAG_SHARED_SAMPLED_EVENTS ? 1u : 7u)

enum fnd_stage {
	FND_STAGE_0 = 0, /* none */
	FND_STAGE_1 = 1, /* monitoring */
	FND_STAGE_2 = 2, /* registry */
	FND_STAGE_3 = 3, /* error context */
	FND_STAGE_4A = 4, /* spans */
	FND_STAGE_4B = 5, /* sampled events */
	FND_STAGE_5 = 6, /* enforcement */
	FND_STAGE_MAX = 7
};

struct fnd_flags; /* this process's handle */

/* The part of the handle that an inlined read uses; filled by the library alone. */
struct fnd_flags_head {
	const uint64_t *word;
};

/**
 * fnd_flags_open - the flags of a segment; the first who opens them after its creation restores flags, stage
 * and application flags from the state journal.
 *
 * A journal that cannot be read leaves every flag off: fnd_flags_durable() says why.
 * Returns: 0, -ENOMEM, -FND_E_FORKED, -FND_E_CORRUPT. Context: any thread, not in a signal handler.
 * Progress and cost: blocking; 1 µs, or a pass over the journal. Ordering: acquire.
 * If I die: the next who opens restores.
 */
FND_API int fnd_flags_open(struct fnd_segment *seg, struct fnd_flags **ret_flags);

/** fnd_flags_close - free the handle. NULL is allowed. */
FND_API void fnd_flags_close(struct fnd_flags *f);

/** fnd_flag_name, fnd_flag_alias - names of a known flag. Returns: the name, NULL: no such flag. Any context. */
FND_API const char *fnd_flag_name(unsigned int id);
FND_API const char *fnd_flag_alias(unsigned int id);

/** fnd_stage_name, fnd_stage_parse - "0" … "4a" …. Returns: the name or NULL; the stage or -EINVAL. Any context. */
FND_API const char *fnd_stage_name(unsigned int stage);
FND_API int fnd_stage_parse(const char *name);

/** fnd_stage_percent - what stage @stage asks of a known flag. Returns: 0 or 100. Any context. */
FND_API unsigned int fnd_stage_percent(unsigned int stage, unsigned int id);

/**
 * fnd_flag_find - a flag's number by name: known, alias, or an application's.
 * Returns: the number, or -ENOENT (the detail says which there are), -FND_E_CORRUPT.
 * Context: any thread. Progress and cost: wait-free; one lookup for an application's. If I die: nothing.
 */
FND_API int fnd_flag_find(struct fnd_flags *f, const char *name);

/** fnd_flag_percent - as it is now. Returns: 0 to 100, -ENOENT: no such flag. Wait-free, any context, 1 ns. */
FND_API int fnd_flag_percent(const struct fnd_flags *f, unsigned int id);

/** fnd_flag_for - is it on for this identity (NULL: this worker)? Returns: 1 or 0; never fails. Any context. */
FND_API int fnd_flag_for(const struct fnd_flags *f, unsigned int id, const char *identity);

/**
 * fnd_flag_enabled - is a known flag on for this worker?
 *
 * Inline: one load, a mask and a comparison or two unless the flag stands at a percentage between.
 * Returns: 1 or 0. Context: any, also a signal handler. Ordering: none: what the one who set it did before
 * is seen by whoever loads with more than this. If I die: nothing to repair.
 */
static inline int fnd_flag_enabled(const struct fnd_flags *f, enum fnd_flag_id id)
{
	const uint64_t on = (FND_FLAG_BITS(id) == 1 ? 1ULL : 100ULL) << FND_FLAG_SHIFT(id);
	const uint64_t all = (FND_FLAG_BITS(id) == 1 ? 1ULL : 127ULL) << FND_FLAG_SHIFT(id);
	/* relaxed: one word, and no other memory is reached through it */
	uint64_t v = fnd_load_relaxed(((const struct fnd_flags_head *)(const void *)f)->word) & all;

	if (v == 0)
		return 0;
	if (__builtin_expect(v == on, 1))
		return 1;
	return fnd_flag_for(f, id, (const char *)0); /* a percentage between, or damaged: off */
}

/**
 * fnd_flags_identity_set - who this worker is to percentages: its agent's name, say.
 * @identity: NULL: its participant number.
 * Returns: 0, -EINVAL (too long). Context: before other threads read flags. If I die: nothing.
 */
FND_API int fnd_flags_identity_set(struct fnd_flags *f, const char *identity);

/* An evaluation in OpenFeature's words. */
struct fnd_flag_details {
	int value;		/* the boolean, or the caller's default */
	const char *variant;	/* "on" or "off" */
	const char *reason;	/* STATIC, DEFAULT, SPLIT, ERROR */
	const char *error_code; /* NULL, FLAG_NOT_FOUND, PROVIDER_NOT_READY, GENERAL */
	int percent;		/* 0 to 100, -1: unknown */
	uint64_t generation;
};

/**
 * fnd_flag_evaluate - a flag by name, for an identity, with a default; never fails.
 * @identity: NULL: this worker. @ret_details: NULL, or filled.
 * Returns: the value: the flag's, or @fallback when there is no such flag or no handle.
 * Context: any thread. Progress and cost: wait-free. Ordering: none. If I die: nothing to repair.
 */
FND_API int fnd_flag_evaluate(struct fnd_flags *f, const char *name, const char *identity, int fallback,
			      struct fnd_flag_details *ret_details);

/* All flags as they were at one instant each word; known flags and stage agree with each other. */
struct fnd_flags_view {
	uint64_t generation;
	uint32_t stage;
	uint32_t deviates; /* bit id: that known flag is not what the stage asks */
	uint8_t percent[FND_FLAG_MAX]; /* 255: not defined */
};

/** fnd_flags_view - copy them. Wait-free but for changes that race; any thread. */
FND_API void fnd_flags_view(const struct fnd_flags *f, struct fnd_flags_view *ret_view);

/** fnd_flags_view_of_area - the same from an observer's copy of the area (fnd_observer_area()). */
FND_API void fnd_flags_view_of_area(const unsigned char area[2048], struct fnd_flags_view *ret_view);

/** fnd_flags_generation - Returns: a number that grows with every change, by one a set. Wait-free, any context. */
FND_API uint64_t fnd_flags_generation(const struct fnd_flags *f);

/**
 * fnd_flags_wait - wait until the generation is not @generation.
 * Returns: 0, -ETIMEDOUT. Context: any thread. Progress and cost: blocking, bounded; a changer that was killed
 * before it woke anybody costs 100 ms. Ordering: acquire. If I die: nothing to repair.
 */
FND_API int fnd_flags_wait(struct fnd_flags *f, uint64_t generation, unsigned int timeout_ms);

struct fnd_flag_change {
	unsigned int id;
	unsigned int percent; /* 0 to 100 */
};

struct fnd_change_info {
	const char *reason;	 /* NULL: none given */
	const char *approved_by; /* NULL */
};

#define FND_NOT_DURABLE 1 /* done, but the journal could not be written: the detail says why */

/**
 * fnd_flags_change - change any set of known flags, or of application flags, in one step.
 * @stage: a stage to record with them (known flags only), or -1: it stays.
 *
 * What only switches on is journalled before it is stored, everything else is stored first. A change to what
 * is there already is one all the same: it is counted and journalled.
 * Returns: 0; FND_NOT_DURABLE; -EINVAL (a percentage above 100, one between for a flag that takes 0 and 100
 * only, both kinds at once, none), -ENOENT (no such flag), and for application flags the errors of
 * fnd_table_modify. Nothing has changed when it is negative.
 * Context: any thread, not in a signal handler. Progress and cost: lock-free for known flags; the journal
 * costs an fdatasync. Ordering: release. If I die: changed whole or not at all; the next tool that looks
 * writes what the journal lacks.
 */
FND_API int fnd_flags_change(struct fnd_flags *f, const struct fnd_flag_change *change, unsigned int count,
			     int stage, const struct fnd_change_info *info);

/** fnd_flags_stage_set - a stage and what it asks of all seven, in one store. Returns, death: as fnd_flags_change. */
FND_API int fnd_flags_stage_set(struct fnd_flags *f, unsigned int stage, const struct fnd_change_info *info);

/* Components of a selective rollback, as bits. */
#define FND_COMPONENT_REGISTRY 1u
#define FND_COMPONENT_ERROR_CONTEXT 2u
#define FND_COMPONENT_SPANS 4u
#define FND_COMPONENT_SAMPLED_EVENTS 8u
#define FND_COMPONENT_TELEMETRY 16u /* all three telemetry flags */
#define FND_COMPONENT_ENFORCEMENT 32u

/** fnd_component_parse - "registry", "error-context" …. Returns: its bit, or -EINVAL. Any context. */
FND_API int fnd_component_parse(const char *name);

/** fnd_component_flags - what components stand for. Returns: known flags as bits by enum fnd_flag_id. Any context. */
FND_API unsigned int fnd_component_flags(unsigned int components);

/**
 * fnd_flags_rollback - switch components off and lower the stage to the last complete one, in one store.
 * Returns, context, ordering, death: as fnd_flags_change.
 */
FND_API int fnd_flags_rollback(struct fnd_flags *f, unsigned int components, const struct fnd_change_info *info);

/**
 * fnd_flags_emergency - every migration flag off and stage 0, in one store.
 * @segment: NAME or UID/NAME. Needs its header and nothing else: no slot, no table, no lock, no other process.
 * @ret_before: NULL, or receives the word as it was.
 *
 * Returns: 0; FND_NOT_DURABLE; -ENOENT, -EACCES, -FND_E_FOREIGN and the refusals of a header that is not
 * ours to read; then nothing was done. Context: any thread, any process, not in a signal handler.
 * Progress and cost: lock-free store; then the journal. Ordering: seq_cst. If I die: done or not.
 */
FND_API int fnd_flags_emergency(const char *segment, const struct fnd_change_info *info, uint64_t *ret_before);

/**
 * fnd_flags_announce - events and last change for what an emergency rollback has switched off; its reason and
 * who approved it are kept for the journal when that could not be written.
 * @before: as fnd_flags_emergency() gave it.
 *
 * Apart from it because it needs tables. Returns: nothing; as far as the tables allow. Context: any thread, not
 * in a signal handler. Progress and cost: bounded by the lock timeout, each flag. If I die: some are told.
 */
FND_API void fnd_flags_announce(struct fnd_flags *f, uint64_t before, const struct fnd_change_info *info);

/**
 * fnd_flag_define - make an application flag, or find it by the same definition.
 * @percent: where it stands until somebody changes it.
 * Returns: the number; FND_E_LIMITS (it has another default), -EINVAL (name, percent), -ENOSPC (256 exist),
 * and the errors of fnd_table_modify. Context, death: as fnd_flags_change.
 */
FND_API int fnd_flag_define(struct fnd_flags *f, const char *name, const char *description,
			    unsigned int percent);

struct fnd_flag_record {
	char name[FND_FLAG_NAME_MAX + 1];
	char description[FND_FLAG_TEXT_MAX + 1];
	unsigned int id;
	unsigned int fallback; /* percentage it was defined with */
	/* The last change; changed_ns 0: none is known. */
	uint64_t changed_ns; /* wall clock */
	uint32_t uid, pid;
	unsigned int before, after;
	char command[17];
	char reason[FND_FLAG_TEXT_MAX + 1];
};

/**
 * fnd_flags_list - call @fn for every flag, known ones first: definition and last change.
 * Returns: 0, what @fn returned, the errors of fnd_table_iterate. If the table is damaged the known flags
 * are handed out without their last change. Context, cost: as fnd_table_iterate.
 */
FND_API int fnd_flags_list(struct fnd_flags *f, int (*fn)(const struct fnd_flag_record *r, void *arg), void *arg);

/**
 * fnd_flags_durable - can the journal be written?
 * Returns: 0, or what appending would say. Context: any thread. Cost: some system calls.
 */
FND_API int fnd_flags_durable(struct fnd_flags *f);

/**
 * fnd_flags_catch_up - append to the journal what a killed changer, or one without a journal, could not.
 *
 * Of the last eight changes of migration flags that were not durable it says what kind they were, who made them,
 * when ("changed_at") and why; of one whose maker was killed before that was noted, "unknown".
 * Returns: 0 (nothing was missing, or it is there now), FND_NOT_DURABLE. As fnd_flags_change.
 */
FND_API int fnd_flags_catch_up(struct fnd_flags *f);

#ifdef __cplusplus
}
#endif
#endif
