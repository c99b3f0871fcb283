/* SPDX-License-Identifier: MIT */
/*
 * Error codes and their sentences.
 *
 * Every function of the library that can fail returns a negative errno, or the negative of one of the
 * codes below where errno would lie. The library never prints, exits or aborts on what it finds in
 * shared memory, in a file or in an argument.
 */
#ifndef FOUNDATION_ERROR_H
#define FOUNDATION_ERROR_H

#ifdef __cplusplus
extern "C" {
#endif

#define FND_API __attribute__((visibility("default")))

#define FND_E_CORRUPT 5000  /* bytes that cannot be what the format says; the detail names the place */
#define FND_E_FOREIGN 5001  /* the name is taken by something that is not a segment of ours */
#define FND_E_TOO_OLD 5002  /* the segment's layout is older than this library reads */
#define FND_E_TOO_NEW 5003  /* the segment's layout, or a feature it needs, is newer than this library */
#define FND_E_LAYOUT 5004   /* same version, other layout (word size, endianness, struct hash) */
#define FND_E_DIRTY 5005    /* from another boot or left half taken over, and somebody still has it open */
#define FND_E_PIDNS 5006    /* its participants live in another pid namespace */
#define FND_E_NOSLOT 5007   /* every participant or thread slot is taken by a living owner */
#define FND_E_FORKED 5008   /* the handle belongs to the parent process: attach again in the child */
#define FND_E_GARBAGE 5009  /* a stopped reader holds back so much memory that writing stopped */
#define FND_E_FENCED 5010   /* this process may not call membarrier(2): it may read here, not write */
#define FND_E_LIMITS 5011   /* the table exists with other limits */
#define FND_E_GONE 5012     /* the segment was destroyed while this process was attached */

/**
 * fnd_strerror - the sentence for a result code.
 * @err: a result of this library, negative or positive.
 *
 * Returns: a constant string, never NULL; valid for ever.
 * Context: any thread, any signal handler, any child. Progress and cost: wait-free, no system call.
 * Ordering: none. If I die: nothing to repair.
 */
FND_API const char *fnd_strerror(int err);

/**
 * fnd_error_detail - what exactly was wrong with the last failed call of this thread.
 *
 * Names the place (field, offset, shard), the holder of a lock that timed out, and the remedy.
 * Overwritten by the next failing call of the same thread.
 *
 * Returns: a string in thread-local memory, "" when there is nothing to add.
 * Context: any thread; not from a signal handler. Progress and cost: wait-free. Ordering: none.
 * If I die: nothing to repair.
 */
FND_API const char *fnd_error_detail(void);

/**
 * fnd_error_set - store a detail for the calling thread: for layers and bindings on top of this library.
 * @err: the code, positive or negative. @fmt: as printf's; the text is cut at 255 bytes. "": no detail.
 *
 * Returns: -|@err|. Context: any thread; not from a signal handler. Ordering: none.
 * If I die: nothing to repair.
 */
FND_API int fnd_error_set(int err, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/** fnd_version - the library's version as "major.minor.patch". Returns a constant string. */
FND_API const char *fnd_version(void);

#ifdef __cplusplus
}
#endif
#endif
