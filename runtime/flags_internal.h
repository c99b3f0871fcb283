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
#include "json.h"

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
	uint64_t seed[FND_APP_FLAGS]; /* of an application flag's choice of identities; 0: its name is not known yet */
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

/* A definition that is under way: name[0] 0: none is. */
struct fnd_stored_pending {
	char name[FND_FLAG_NAME_MAX + 1];
	struct fnd_stored_flag flag; /* `after` is the percentage to begin with */
};

/* The record that stands for all application flags. */
struct fnd_stored_places {
	uint8_t used[FND_APP_FLAGS / 8];
	struct fnd_stored_pending pending;
};

/* A change of the known flags that the journal could not take; its key is none of a flag. */
struct fnd_stored_change {
	uint64_t before, after; /* words */
	uint64_t at_ns;
	uint32_t uid, pid;
	uint32_t kind; /* 0 flag.changed, 1 stage.changed, 2 rollback */
	uint32_t reserved;
	char command[16];
	char reason[FND_FLAG_TEXT_MAX + 1];
	char approved_by[FND_FLAG_TEXT_MAX + 1];
};

_Static_assert(sizeof(struct fnd_stored_change) == 568, "part of the segment's format");
_Static_assert(sizeof(struct fnd_stored_flag) == 560, "part of the segment's format");
_Static_assert(sizeof(struct fnd_stored_places) == 656, "part of the segment's format");

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

/* flags_application.c */
/* One step, under the lock; what they were goes to @ret_before. */
FND_FLAGS_HIDDEN int fnd_app_change(struct fnd_flags *f, const struct fnd_flag_change *change,
				    unsigned int *ret_before, unsigned int count, uint64_t *ret_generation);
/* The number of the new flag, or of the one that has the name by now. */
FND_FLAGS_HIDDEN int fnd_app_define(struct fnd_flags *f, const char *name, const char *description,
				    unsigned int fallback, unsigned int percent, uint64_t *ret_generation);
FND_FLAGS_HIDDEN bool fnd_app_name(struct fnd_flags *f, unsigned int id, char ret_name[FND_FLAG_NAME_MAX + 1]);

/* flags_journal.c */
struct fnd_flags_changed {
	const char *type; /* of the record */
	uint64_t before, after; /* words; the same for a change of application flags */
	const struct fnd_flag_change *application; /* with @count, what they are now */
	const unsigned int *application_before;
	unsigned int count;
	const struct fnd_flag_record *defined; /* NULL, or a definition */
	uint64_t generation; /* of the application flags, with one of the two */
	bool ahead; /* it is written before it is stored */
	bool takes_back; /* what was written ahead under the next numbers was never stored */
	const struct fnd_change_info *info;
	const struct fnd_stored_change *by; /* whose it was, when it is written later; NULL: this process's, now */
	bool found; /* nobody knows whose it was */
};

/* 0: on disk, and noted as such unless it was ahead. */
FND_FLAGS_HIDDEN int fnd_flags_write(struct fnd_flags *f, struct fnd_journal *journal,
				     struct fnd_shm_runtime *area, const struct fnd_flags_changed *c);
/* The members of its record; @f: NULL, or for the names of application flags; @all: all of them. */
FND_FLAGS_HIDDEN void fnd_flags_members(struct fnd_json *j, struct fnd_flags *f, const struct fnd_shm_runtime *area,
					const struct fnd_flags_changed *c, bool all);
/* What a file begins with when @journal is rotated now. */
FND_FLAGS_HIDDEN void fnd_flags_keep_state(struct fnd_flags *f, struct fnd_journal *journal,
					   struct fnd_shm_runtime *area, uint64_t word);
/* What is on disk is stored too. */
FND_FLAGS_HIDDEN void fnd_flags_journalled(struct fnd_shm_runtime *area, uint32_t count);
FND_FLAGS_HIDDEN void fnd_app_journalled(struct fnd_flags *f, uint64_t generation);
/* Is @journal the one that this segment's flags are in? 0, or an error that says where that is. */
FND_FLAGS_HIDDEN int fnd_flags_journal_here(struct fnd_journal *journal, struct fnd_shm_runtime *area);

/* flags_remember.c */
/* So that whoever can write the journal later knows kind, reason and person; as far as the table allows. */
FND_FLAGS_HIDDEN void fnd_flags_remember(struct fnd_flags *f, const struct fnd_flags_changed *c);
/* Writes what is remembered, oldest first, each once. *@ret_count: that of the newest, when there was one. */
FND_FLAGS_HIDDEN int fnd_flags_recall(struct fnd_flags *f, uint32_t *ret_count);

/* flags_ahead.c */
/* From begin to end nobody else writes ahead. A descriptor for the end, or what keeps the journal from it. */
FND_FLAGS_HIDDEN int fnd_flags_ahead_begin(struct fnd_flags *f);
FND_FLAGS_HIDDEN void fnd_flags_ahead_end(struct fnd_flags *f, int fd);
/* What one that died in between has announced is taken back. */
FND_FLAGS_HIDDEN int fnd_flags_ahead_finish(struct fnd_flags *f);

/* flags_restore.c */
FND_FLAGS_HIDDEN void fnd_flags_restore(struct fnd_flags *f);
/* Which segment of this name this is, and where its journal is, noted if they are not. */
FND_FLAGS_HIDDEN void fnd_flags_settle(struct fnd_journal *journal, struct fnd_shm_runtime *area);

/* flags_tell.c */
/* Event and record for every flag that really changed: as far as the tables allow. */
FND_FLAGS_HIDDEN void fnd_flags_tell(struct fnd_flags *f, const struct fnd_flags_changed *c);

#endif
