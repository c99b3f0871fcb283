/* SPDX-License-Identifier: MIT */
/*
 * Error context: what each thread is doing, as fields that errors, log lines and tools show.
 *
 * A thread has one context: a map of fields. Scopes nest; inside one the thread sees the fields of all scopes
 * around it, the inner ones win. The end of a scope brings back exactly what was before it, also when the
 * ends of scopes inside it were skipped.
 *
 * With the flag shared_error_context on for this worker the context lies in the thread's area of the segment:
 * tools read it while the thread lives, and after it was killed, in the state of its last completed call. With
 * the flag off it lies in the thread's own memory. When the flag changes, the next call moves it, whole.
 *
 * Caps. A thread holds FND_CONTEXT_BYTES bytes of fields (3 bytes, key and value each) and
 * FND_CONTEXT_FIELDS_MAX fields, those hidden by inner scopes included: a field that finds no room is refused
 * and counted. It holds FND_CRUMBS_MAX breadcrumbs: then the oldest goes, counted.
 *
 * All functions: the calling thread's context only; not in a signal handler; after fork() the child has a copy
 * of its own, whichever place it was in. Cost: some 20 ns; the first call of a thread allocates.
 * If I die: the context is the one before or after the call, never a mixture.
 */
#ifndef FOUNDATION_CONTEXT_H
#define FOUNDATION_CONTEXT_H

#include <stddef.h>

#include <foundation/area.h>

#ifdef __cplusplus
extern "C" {
#endif

#define FND_CONTEXT_BYTES 704u
#define FND_CONTEXT_FIELDS_MAX 64u
#define FND_CONTEXT_KEY_MAX 63u  /* bytes, at least 1 */
#define FND_CONTEXT_MAP_MAX 720u /* bytes of a whole context as a msgpack map */
#define FND_CRUMBS_MAX 8u
#define FND_CRUMB_TEXT_MAX 55u /* bytes; what is longer is cut */

struct fnd_context; /* this process's handle */
struct fnd_flags;

/* --- values and maps ------------------------------------------------------------------------------- */

enum fnd_value_type {
	FND_VALUE_NIL = 0,
	FND_VALUE_BOOL = 1,
	FND_VALUE_INT = 2,  /* below 0 when read; any when written */
	FND_VALUE_UINT = 3,
	FND_VALUE_DOUBLE = 4,
	FND_VALUE_STR = 5,  /* text, bytes */
	FND_VALUE_BIN = 6,  /* text, bytes */
	FND_VALUE_RAW = 7,  /* text, bytes: one msgpack object of another kind */
};

struct fnd_value {
	uint32_t type; /* enum fnd_value_type */
	uint32_t bytes;
	union {
		int64_t i;
		uint64_t u; /* BOOL: 0 or 1 */
		double d;
		const char *text; /* not ended by a NUL */
	} v;
};

struct fnd_field {
	const char *key;
	size_t key_bytes; /* 0: @key ends with a NUL */
	struct fnd_value value;
};

/**
 * fnd_str, fnd_int, fnd_uint, fnd_double, fnd_bool - a field, for begin and set. NULL text is nil.
 * Returns: the field; it refers to @key and @text. Context: any.
 */
FND_API struct fnd_field fnd_str(const char *key, const char *text);
FND_API struct fnd_field fnd_int(const char *key, int64_t value);
FND_API struct fnd_field fnd_uint(const char *key, uint64_t value);
FND_API struct fnd_field fnd_double(const char *key, double value);
FND_API struct fnd_field fnd_bool(const char *key, int value);

/**
 * fnd_map_iterate - call @fn for the fields of one msgpack map whose keys are strings.
 * @fn: returns 0 to go on; anything else ends the walk and becomes the result.
 *
 * Safe on hostile bytes: nothing outside them is read, nothing is allocated.
 * Returns: 0, what @fn returned, -EINVAL (not one whole map with string keys). Context: any.
 */
FND_API int fnd_map_iterate(const void *map, size_t map_bytes,
			    int (*fn)(const struct fnd_field *field, void *arg), void *arg);

/* --- the handle ------------------------------------------------------------------------------------ */

struct fnd_context_options {
	size_t size; /* sizeof(struct fnd_context_options) */
	/* Called once a call site (@site: a code address) when enforcement refused a scope there; or NULL. It
	 * may not use the context. */
	void (*refused)(const void *site, void *arg);
	void *refused_arg;
};

/**
 * fnd_context_open - a handle for all threads of this process.
 * @seg: NULL: contexts stay in the threads' own memory.
 * @flags: say where contexts lie; must outlive the handle. NULL: in the segment, when there is one.
 * @opt: NULL: no reports.
 *
 * A thread has one context, whichever handle it uses; use one handle. A library built without private backends
 * ignores the flag.
 * Returns: 0, -ENOMEM, -EINVAL (@opt), -EPERM (no @seg, and the library has no private backends).
 * Context: any thread.
 */
FND_API int fnd_context_open(struct fnd_segment *seg, struct fnd_flags *flags,
			     const struct fnd_context_options *opt, struct fnd_context **ret_ctx);

/**
 * fnd_context_close - free the handle. NULL is allowed. Before the segment is detached, when no other thread
 * uses it and no scope of it is open.
 *
 * The calling thread's context goes on in its own memory; other threads' are empty when they next use a
 * handle. Returns: nothing. Context: any thread.
 */
FND_API void fnd_context_close(struct fnd_context *ctx);

struct fnd_context_stats {
	uint64_t refused;  /* scopes refused by enforcement */
	uint64_t dropped;  /* fields that found no room */
	uint64_t flips;    /* contexts moved from one place to the other */
	uint64_t fallbacks; /* calls served in the thread's memory for want of a slot */
};

/** fnd_context_stats_read - what was counted through this handle, in this process. Returns: nothing. Any thread. */
FND_API void fnd_context_stats_read(const struct fnd_context *ctx, struct fnd_context_stats *ret_stats);

/* --- scopes ---------------------------------------------------------------------------------------- */

/* What begin fills and end needs; in the caller's frame. Not to be copied or handed to another thread. */
struct fnd_scope {
	struct fnd_context *ctx; /* NULL: not begun */
	const void *thread;
	uint32_t used, count, depth, start, hidden;
	int result; /* of begin */
};

/**
 * fnd_context_begin - open a scope with some fields, in one step.
 * @fields: NULL when @count is 0.
 *
 * Returns: 0; -ENOSPC (the scope is open; fields that found no room were left out and counted);
 * -EPERM (enforce_shared_state is on and shared_error_context is off for this worker: counted, the scope is
 * not open), -EINVAL (a key; not open), -EOVERFLOW (4,095 deep; not open), -ENOMEM (not open).
 * Whatever it returned, fnd_context_end() may be called. Ordering: release.
 */
FND_API int fnd_context_begin(struct fnd_context *ctx, struct fnd_scope *scope,
			      const struct fnd_field *fields, size_t count);

/**
 * fnd_context_end - bring back what was before the scope. A second end, or one of a scope that was not opened,
 * does nothing.
 * Returns: 0, -EINVAL (another thread's).
 */
FND_API int fnd_context_end(struct fnd_scope *scope);

/**
 * fnd_scope_enter, fnd_scope_leave - what FND_CONTEXT_SCOPE is made of. @fields[0] is not looked at.
 * Returns: a scope; its `result` is what begin returns.
 */
FND_API struct fnd_scope fnd_scope_enter(struct fnd_context *ctx, const struct fnd_field *fields, size_t count);
FND_API void fnd_scope_leave(struct fnd_scope *scope);

#define FND_CONTEXT_GLUE_(a, b) a##b
#define FND_CONTEXT_NAME_(line) FND_CONTEXT_GLUE_(fnd_scope_at_, line)
#define FND_CONTEXT_FIELDS_(...) ((const struct fnd_field[]){ fnd_int("", 0), ##__VA_ARGS__ })

/*
 * A scope that lasts to the end of the block, on every way out of it:
 *
 *	FND_CONTEXT_SCOPE(ctx, fnd_str("request", id), fnd_int("step", 3));
 *
 * pthread_cancel() and pthread_exit() are ways out in code compiled with -fexceptions only. Elsewhere, and
 * after longjmp(), the end of a scope around puts things right.
 */
#define FND_CONTEXT_SCOPE(ctx, ...)                                                               \
	__attribute__((cleanup(fnd_scope_leave), unused)) struct fnd_scope FND_CONTEXT_NAME_(__LINE__) = \
		fnd_scope_enter((ctx), FND_CONTEXT_FIELDS_(__VA_ARGS__),                          \
				sizeof(FND_CONTEXT_FIELDS_(__VA_ARGS__)) / sizeof(struct fnd_field))

/* --- fields ---------------------------------------------------------------------------------------- */

/**
 * fnd_context_set - set a field in the innermost scope. fnd_context_unset - hide it until that scope ends.
 *
 * Returns: 0; -ENOSPC (counted; nothing changed), -EINVAL (key, or a raw value that is not one object),
 * -ENOMEM. Ordering: release.
 */
FND_API int fnd_context_set(struct fnd_context *ctx, struct fnd_field field);
FND_API int fnd_context_unset(struct fnd_context *ctx, const char *key);

/** fnd_context_set_all - set several fields in one step, all or none. Returns: as set; -ENOSPC counts one. */
FND_API int fnd_context_set_all(struct fnd_context *ctx, const struct fnd_field *fields, size_t count);

/**
 * fnd_context_get - the innermost value of a field.
 * @ret_value: its text is valid until the thread's next call that changes its context.
 * Returns: 0, -ENOENT.
 */
FND_API int fnd_context_get(struct fnd_context *ctx, const char *key, struct fnd_value *ret_value);

/**
 * fnd_context_get_str - a string field with a NUL, cut to @size.
 * Returns: its bytes, uncut; -ENOENT, -EINVAL (no string).
 */
FND_API int fnd_context_get_str(struct fnd_context *ctx, const char *key, char *buf, size_t size);

/**
 * fnd_context_iterate - call @fn for each field of the merged map, in the order of their first setting.
 * @fn: may not change the context.
 * Returns: 0, what @fn returned.
 */
FND_API int fnd_context_iterate(struct fnd_context *ctx,
				int (*fn)(const struct fnd_field *field, void *arg), void *arg);

/** fnd_context_depth - Returns: how many scopes of the calling thread are open. */
FND_API unsigned int fnd_context_depth(struct fnd_context *ctx);

/* --- breadcrumbs ----------------------------------------------------------------------------------- */

/** fnd_context_crumb - leave a breadcrumb: it belongs to the thread, not to a scope. Returns: 0, -ENOMEM. */
FND_API int fnd_context_crumb(struct fnd_context *ctx, const char *text);

/** fnd_context_crumbs_clear - begin a new trail. Returns: 0, -ENOMEM. */
FND_API int fnd_context_crumbs_clear(struct fnd_context *ctx);

/* --- across threads, fork and processes ------------------------------------------------------------ */

/**
 * fnd_context_capture - the merged map as msgpack bytes, to be carried anywhere.
 * @buf: FND_CONTEXT_MAP_MAX bytes are always enough.
 * Returns: the number of bytes, at least 1 (the empty map); -ENOBUFS (@size).
 */
FND_API int fnd_context_capture(struct fnd_context *ctx, void *buf, size_t size);

/**
 * fnd_context_attach - open a scope in which the context is what was captured, and nothing else.
 *
 * Returns: as begin; -EINVAL: also bytes that are not one map with string keys.
 */
FND_API int fnd_context_attach(struct fnd_context *ctx, struct fnd_scope *scope, const void *map,
			       size_t map_bytes);

/* W3C Trace Context. In a context it is the fields trace_id, span_id, trace_flags and tracestate. */
#define FND_TRACEPARENT_MAX 55 /* bytes of what is printed, without the NUL */

struct fnd_trace {
	char trace_id[33]; /* 32 hexadecimal digits, lower case */
	char span_id[17];
	uint8_t flags; /* 1: sampled */
	uint8_t version;
};

/**
 * fnd_traceparent_parse - read a traceparent header, of this or a later version.
 * Returns: 0, -EINVAL (malformed; version ff; an id of zeroes). Context: any.
 */
FND_API int fnd_traceparent_parse(const char *text, size_t bytes, struct fnd_trace *ret_trace);

/** fnd_traceparent_format - write one, version 00. Returns: 55, -EINVAL (ids), -ENOBUFS. Context: any. */
FND_API int fnd_traceparent_format(const struct fnd_trace *trace, char *buf, size_t size);

/**
 * fnd_context_trace_set - put an incoming trace into the innermost scope.
 * @traceparent: the header. @tracestate: the other header, or NULL; carried as it is.
 *
 * Both in one step. Returns: 0, -EINVAL (nothing is set; a new trace is the caller's to begin), -ENOSPC. A
 * tracestate that finds no room, or is no printable text, is left out and counted, which the standard allows.
 */
FND_API int fnd_context_trace_set(struct fnd_context *ctx, const char *traceparent, const char *tracestate);

/** fnd_context_traceparent - the outgoing header. Returns: 55, -ENOENT (no trace), -ENOBUFS. */
FND_API int fnd_context_traceparent(struct fnd_context *ctx, char *buf, size_t size);

/* --- for whoever looks from outside ---------------------------------------------------------------- */

struct fnd_crumb {
	uint64_t at_ns; /* wall clock */
	char text[FND_CRUMB_TEXT_MAX + 1];
};

struct fnd_context_view {
	uint32_t depth;	 /* open scopes */
	uint32_t fields; /* of the merged map */
	uint64_t dropped;	/* fields that found no room */
	uint64_t crumbs_total;	/* breadcrumbs left so far; the last @crumbs are here */
	uint32_t crumbs;
	uint32_t map_bytes;
	struct fnd_crumb crumb[FND_CRUMBS_MAX]; /* oldest first */
	unsigned char map[FND_CONTEXT_MAP_MAX]; /* the merged map, msgpack, map_bytes of it */
};

/**
 * fnd_context_decode_area - read a thread's area: what a struct fnd_remains holds, or a copy that agrees.
 * @bytes: FND_THREAD_AREA_BYTES.
 *
 * Returns: 0; -ENOENT (the thread has no context); -EINVAL (@bytes); -FND_E_CORRUPT (hostile bytes do no
 * harm). Context: any.
 */
FND_API int fnd_context_decode_area(const void *area, size_t bytes, struct fnd_context_view *ret_view);

/**
 * fnd_context_observe - the context of a living thread, as it was at one instant.
 * @slot: as fnd_observer_threads() gives it.
 *
 * Returns: 0, -ENOENT, -EAGAIN (it changes faster than it can be read, for 100 ms), -FND_E_CORRUPT, -EIO.
 */
FND_API int fnd_context_observe(struct fnd_observer *o, uint32_t slot, struct fnd_context_view *ret_view);

/**
 * fnd_context_pack - a view as one msgpack map: the fields, and "breadcrumbs": their texts, oldest first.
 * Breadcrumbs that find no room in @size are left out, oldest first.
 * Returns: the number of bytes, -ENOBUFS (the fields alone do not fit). Context: any.
 */
FND_API int fnd_context_pack(const struct fnd_context_view *view, void *buf, size_t size);

#ifdef __cplusplus
}
#endif
#endif
