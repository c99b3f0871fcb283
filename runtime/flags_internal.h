/* SPDX-License-Identifier: MIT */
/* What the files of the flags share. */
#ifndef FOUNDATION_RUNTIME_FLAGS_INTERNAL_H
#define FOUNDATION_RUNTIME_FLAGS_INTERNAL_H

#include <stdbool.h>

#include <foundation/atomic.h>
#include <foundation/events.h>
#include <foundation/flags.h>
#include <foundation/journal.h>

#include "area_layout.h"

#define FND_FLAGS_HIDDEN __attribute__((visibility("hidden")))
#define FND_FLAGS_TABLE "flags"
#define FND_FLAGS_COUNT_MASK ((1u << FND_FLAGS_COUNT_BITS) - 1)

struct fnd_flags {
	struct fnd_flags_head head; /* first: fnd_flag_enabled() */
	struct fnd_segment *seg;
	struct fnd_shm_runtime *area;
	/* What a read can do without; NULL when it could not be opened. */
	struct fnd_table *table;
	struct fnd_events *events;
	struct fnd_journal *journal;
	char identity[FND_FLAG_IDENTITY_MAX + 1];
};

/* A record of the table: a definition, and the last change. */
struct fnd_stored_flag {
	uint32_t id;
	uint32_t fallback;
	uint64_t changed_ns;
	uint32_t uid, pid;
	uint32_t before, after;
	char command[16];
	char description[FND_FLAG_TEXT_MAX + 1];
	char reason[FND_FLAG_TEXT_MAX + 1];
};

_Static_assert(sizeof(struct fnd_stored_flag) == 560, "part of the segment's format");

/* --- the word ------------------------------------------------------------------------------------- */

static inline uint32_t fnd_word_count(uint64_t w)
{
	return (uint32_t)w & FND_FLAGS_COUNT_MASK;
}

static inline unsigned int fnd_word_stage(uint64_t w)
{
	return (unsigned int)(w >> FND_FLAGS_STAGE_SHIFT) & 7;
}

FND_FLAGS_HIDDEN unsigned int fnd_word_percent(uint64_t w, unsigned int id);
FND_FLAGS_HIDDEN uint64_t fnd_word_with(uint64_t w, unsigned int id, unsigned int percent);
FND_FLAGS_HIDDEN uint64_t fnd_word_with_stage(uint64_t w, unsigned int stage);
/* The next count; never a word of 0. */
FND_FLAGS_HIDDEN uint64_t fnd_word_counted(uint64_t w);

/* --- files to each other -------------------------------------------------------------------------- */

FND_FLAGS_HIDDEN void fnd_flags_wake(struct fnd_shm_runtime *area);
FND_FLAGS_HIDDEN bool fnd_flag_name_valid(const char *name);
FND_FLAGS_HIDDEN int fnd_flag_stored(struct fnd_flags *f, const char *name, struct fnd_stored_flag *ret);
/* Puts an application flag into the block in force, as the one under the lock; 0 or an error. */
FND_FLAGS_HIDDEN int fnd_app_define(struct fnd_flags *f, const char *name, const char *description,
				    unsigned int fallback, unsigned int percent);

/* flags_journal.c */
struct fnd_flags_changed {
	const char *type; /* of the record */
	uint64_t before, after; /* words; the same for a change of application flags */
	const struct fnd_flag_change *application; /* with @count, what they are now */
	const unsigned int *application_before;
	unsigned int count;
	const struct fnd_flag_record *defined; /* NULL, or a definition */
	const struct fnd_change_info *info;
};

FND_FLAGS_HIDDEN int fnd_flags_write(struct fnd_flags *f, struct fnd_journal *journal,
				     struct fnd_shm_runtime *area, const struct fnd_flags_changed *c);
FND_FLAGS_HIDDEN void fnd_flags_restore(struct fnd_flags *f);
/* Event and record for every flag that really changed: as far as the tables allow. */
FND_FLAGS_HIDDEN void fnd_flags_tell(struct fnd_flags *f, const struct fnd_flags_changed *c);
FND_FLAGS_HIDDEN bool fnd_app_name(struct fnd_flags *f, unsigned int id, char ret_name[FND_FLAG_NAME_MAX + 1]);

#endif
