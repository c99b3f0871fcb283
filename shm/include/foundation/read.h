/* SPDX-License-Identifier: MIT */
/*
 * The read side inline: fnd_read_begin() and fnd_read_end() without a call.
 *
 * Include it instead of, or after, <foundation/segment.h>; the names stay the same. What is here is part
 * of the library's binary interface: a program built with it runs with every library of the same major
 * version. `struct fnd_reader` is filled by the library alone.
 */
#ifndef FOUNDATION_READ_H
#define FOUNDATION_READ_H

#include <foundation/segment.h>

#ifdef __cplusplus
extern "C" {
#endif

/* The calling thread's place in a segment. */
struct fnd_reader {
	uint64_t quick_id;     /* the attachment it serves; 0: the function is to be called */
	uint64_t *slot;	       /* this thread's epoch << 16 | nesting */
	const uint64_t *epoch; /* the segment's */
	const uint64_t *mine;  /* 0 in a child of fork() */
};

/* Of the segment this thread used first; NULL before. */
extern FND_API __thread struct fnd_reader *fnd_reader_self
	__attribute__((tls_model("initial-exec")));

/* An attachment's number, never used again in this process, leads its handle. */
static inline uint64_t fnd_attachment_id(const struct fnd_segment *seg)
{
	return *(const uint64_t *)(const void *)seg;
}

/* This thread's reader if begin and end are one store each, else NULL. */
static inline struct fnd_reader *fnd_reader_quick(const struct fnd_segment *seg)
{
	struct fnd_reader *r = fnd_reader_self;

	if (__builtin_expect(r && r->quick_id == fnd_attachment_id(seg) &&
			     __atomic_load_n(r->mine, __ATOMIC_RELAXED) != 0, 1)) /* never 0 but in a child */
		return r;
	return (struct fnd_reader *)0;
}

static inline int fnd_read_begin_inline(struct fnd_segment *seg)
{
	struct fnd_reader *r = fnd_reader_quick(seg);

	/* relaxed: only this thread writes it */
	if (__builtin_expect(!r || (__atomic_load_n(r->slot, __ATOMIC_RELAXED) & 0xffff), 0))
		return fnd_read_begin(seg);
	/* relaxed: [GP-3] an old epoch only holds back more. [GP-1] pairs with advance: its membarrier
	 * stands for the fence that is not here */
	__atomic_store_n(r->slot, __atomic_load_n(r->epoch, __ATOMIC_RELAXED) << 16 | 1, __ATOMIC_RELAXED);
	__atomic_signal_fence(__ATOMIC_SEQ_CST);
	return 0;
}

static inline int fnd_read_end_inline(struct fnd_segment *seg)
{
	struct fnd_reader *r = fnd_reader_quick(seg);

	/* relaxed: only this thread writes it */
	if (__builtin_expect(!r || (__atomic_load_n(r->slot, __ATOMIC_RELAXED) & 0xffff) != 1, 0))
		return fnd_read_end(seg);
	__atomic_signal_fence(__ATOMIC_SEQ_CST);
	/* [GP-2] pairs with scan_readers: what was read in the section stays before its end */
	__atomic_store_n(r->slot, 0, __ATOMIC_RELEASE);
	return 0;
}

#ifndef FND_READ_NO_MACROS /* for whoever wants the functions by their names */
#define fnd_read_begin(seg) fnd_read_begin_inline(seg)
#define fnd_read_end(seg) fnd_read_end_inline(seg)
#endif

#ifdef __cplusplus
}
#endif
#endif
