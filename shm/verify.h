/* SPDX-License-Identifier: MIT */
/* What the files of the verifier share. Nothing here maps the segment. */
#ifndef FOUNDATION_SHM_VERIFY_H
#define FOUNDATION_SHM_VERIFY_H

#include <foundation/verify.h>

#include "observer.h"

#define FND_VERIFY_HIDDEN __attribute__((visibility("hidden")))

#define FND_VERIFY_PAGE 4096u
#define FND_VERIFY_PAGES 64u /* a power of two */
#define FND_VERIFY_NOTES 4096u

/* What to do about a defect. */
#define FND_REMEDY_RESTORE                                                                        \
	"look for who wrote there; 'shmdump restore' the last backup into a new segment"
#define FND_REMEDY_HEADER                                                                         \
	"nobody can attach: 'foundation destroy --force', then 'shmdump restore' from the last backup"
#define FND_REMEDY_SLOT "'foundation reap'; if it stays, restart the participants in a new segment"
#define FND_REMEDY_LOCK "the next writer takes the lock and repairs what it protects"
#define FND_REMEDY_FIGURE "records are whole, figures are wrong: a repair or a restored backup derives them"
#define FND_REMEDY_UNUSED "nothing reads it: something wrote where it should not; look for who did"

/* A defect of this pass. */
struct fnd_note {
	uint64_t offset;
	char where[72];
	char what[184];
	const char *remedy;
};

/* A page of the file, as it was when the shard in hand was first looked at. */
struct fnd_verify_page {
	uint64_t at; /* UINT64_MAX: none */
	uint32_t have;
	char bytes[FND_VERIFY_PAGE];
};

/* A span as the walk met it. */
struct fnd_met_span {
	uint64_t off;
	uint64_t bytes;
	uint64_t use;
	bool claimed; /* something refers to it */
};

enum fnd_lock_state {
	FND_LOCK_FREE,
	FND_LOCK_HELD,    /* by somebody not proven dead */
	FND_LOCK_LEFT,    /* by the dead, or given up for the next to repair */
	FND_LOCK_DAMAGED, /* no thread ever wrote such a word */
};

struct fnd_verifier {
	struct fnd_observer o;
	uint64_t backed;
	uint64_t epoch; /* as last read: it only grows */
	struct fnd_shm_header hot; /* the header at the start of this pass */
	char where[72];
	struct fnd_note *note;
	size_t notes, room;
	uint64_t unlisted; /* defects past FND_VERIFY_NOTES */
	int err;           /* -ENOMEM, -EIO: the pass is void */
	struct fnd_met_span *span;
	size_t spans;
	uint64_t walked; /* to where the walk of the spans got */
	bool spans_exact; /* nobody holds the segment's lock, alive or dead */
	struct fnd_verify_result result;
	struct fnd_verify_page page[FND_VERIFY_PAGES];
};

/* One table in hand. */
struct fnd_verify_table {
	struct fnd_observed_table t;
	uint32_t *owner; /* of every extent of every region, in order */
	uint32_t extents;
	uint64_t base[FND_REGIONS]; /* first extent */
};

FND_VERIFY_HIDDEN void fnd_verify_where(struct fnd_verifier *v, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));
FND_VERIFY_HIDDEN void fnd_verify_note(struct fnd_verifier *v, uint64_t offset, const char *remedy,
				       const char *fmt, ...) __attribute__((format(printf, 4, 5)));
/* Reads past the pages kept. False, and a note or v->err: not there. */
FND_VERIFY_HIDDEN bool fnd_verify_read(struct fnd_verifier *v, uint64_t off, void *buf, size_t bytes);
/* The same through the pages kept. */
FND_VERIFY_HIDDEN bool fnd_verify_peek(struct fnd_verifier *v, uint64_t off, void *buf, size_t bytes);
FND_VERIFY_HIDDEN void fnd_verify_forget(struct fnd_verifier *v);
/* Notes when one of these bytes is not 0. */
FND_VERIFY_HIDDEN void fnd_verify_zero(struct fnd_verifier *v, const void *bytes, size_t n, uint64_t off,
				       const char *what);
/* Is @epoch one that has not come yet? */
FND_VERIFY_HIDDEN bool fnd_verify_future(struct fnd_verifier *v, uint64_t epoch);
FND_VERIFY_HIDDEN enum fnd_lock_state fnd_verify_lock(struct fnd_verifier *v, uint32_t word);

FND_VERIFY_HIDDEN void fnd_verify_header(struct fnd_verifier *v);
FND_VERIFY_HIDDEN void fnd_verify_slots(struct fnd_verifier *v);
FND_VERIFY_HIDDEN void fnd_verify_space(struct fnd_verifier *v);
/* Says that the span at @off is @use. False: there is no such span. */
FND_VERIFY_HIDDEN bool fnd_verify_claim(struct fnd_verifier *v, uint64_t off, uint64_t use, uint64_t from,
					const char *what);
/* Nobody shall say of the spans of this use that nothing refers to them. */
FND_VERIFY_HIDDEN void fnd_verify_excuse(struct fnd_verifier *v, uint64_t use);
FND_VERIFY_HIDDEN void fnd_verify_shard(struct fnd_verifier *v, struct fnd_verify_table *t, uint32_t shard);

#endif
