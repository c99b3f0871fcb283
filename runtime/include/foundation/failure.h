/* SPDX-License-Identifier: MIT */
/*
 * Failures: errors with a code, what to do about them, and fields, that travel between processes whole.
 *
 * A failure is a plain struct of the caller's: making one allocates nothing. Enriching adds the fields of the
 * thread's context; a field that the failure has already stays as it is.
 *
 * All functions: any thread; they touch nothing but the failure, but for make and enrich, which look at the
 * calling thread's context and count. If I die: nothing to repair.
 */
#ifndef FOUNDATION_FAILURE_H
#define FOUNDATION_FAILURE_H

#include <foundation/context.h>

#ifdef __cplusplus
extern "C" {
#endif

#define FND_FAILURE_CODE_MAX 47u	/* bytes of [A-Za-z0-9_.-]: "db.timeout" */
#define FND_FAILURE_MESSAGE_MAX 255u	/* bytes; what is longer is cut */
#define FND_FAILURE_FIELDS_BYTES 1536u	/* of fields, as msgpack */
#define FND_FAILURE_BYTES_MAX 2048u	/* of an encoded failure */

enum fnd_category {
	FND_CATEGORY_INTERNAL = 0,   /* a defect */
	FND_CATEGORY_VALIDATION = 1, /* what was asked for makes no sense */
	FND_CATEGORY_NOT_FOUND = 2,
	FND_CATEGORY_CONFLICT = 3,
	FND_CATEGORY_PERMISSION = 4,
	FND_CATEGORY_RESOURCE = 5,   /* something is used up */
	FND_CATEGORY_TIMEOUT = 6,
	FND_CATEGORY_UNAVAILABLE = 7, /* another service, or a part of this one */
	FND_CATEGORY_MAX = 8
};

enum fnd_severity { /* as syslog's, the worst first */
	FND_SEVERITY_CRITICAL = 2,
	FND_SEVERITY_ERROR = 3,
	FND_SEVERITY_WARNING = 4,
	FND_SEVERITY_NOTICE = 5,
	FND_SEVERITY_INFO = 6,
};

enum fnd_retry {
	FND_RETRY_NEVER = 0,
	FND_RETRY_NOW = 1,
	FND_RETRY_LATER = 2, /* after retry_after_ms */
};

struct fnd_failure {
	char code[FND_FAILURE_CODE_MAX + 1];
	uint32_t category, severity, retry;
	uint32_t retry_after_ms;
	int32_t error;	/* errno or a code of the library, 0: none */
	uint32_t pid, tid; /* who made it */
	uint32_t dropped;  /* fields that found no room */
	uint32_t counted;  /* 1: it is in the segment's counter */
	uint32_t reserved;
	uint64_t at_ns;	   /* wall clock, when it was made */
	char message[FND_FAILURE_MESSAGE_MAX + 1];
	uint32_t count; /* fields */
	uint32_t bytes; /* of them */
	unsigned char fields[FND_FAILURE_FIELDS_BYTES]; /* keys and values, msgpack, one behind the other */
};

/** fnd_category_name, fnd_severity_name, fnd_retry_name - Returns: a word, "unknown" for any other number. */
FND_API const char *fnd_category_name(unsigned int category);
FND_API const char *fnd_severity_name(unsigned int severity);
FND_API const char *fnd_retry_name(unsigned int retry);

/**
 * fnd_failure_make - begin a failure.
 * @ctx: counts it in the segment (FND_COUNTER_FAILURES); NULL: it is not counted.
 * @code: a stable word for programs. @fmt: as printf's, a sentence for people.
 *
 * Severity is error, retry never; set the members afterwards. Returns: 0, -EINVAL (@code, @category).
 */
FND_API int fnd_failure_make(struct fnd_failure *f, struct fnd_context *ctx, const char *code,
			     enum fnd_category category, const char *fmt, ...)
	__attribute__((format(printf, 5, 6)));

/**
 * fnd_failure_make_errno - the same from a result of the library: code, category, retry and message follow.
 * Returns: 0.
 */
FND_API int fnd_failure_make_errno(struct fnd_failure *f, struct fnd_context *ctx, int err);

/** fnd_failure_set - set an own field. Returns: 0, -EINVAL (key), -ENOSPC (counted in @f). */
FND_API int fnd_failure_set(struct fnd_failure *f, struct fnd_field field);

/** fnd_failure_get - a field. @ret_value: valid until @f changes. Returns: 0, -ENOENT. */
FND_API int fnd_failure_get(const struct fnd_failure *f, const char *key, struct fnd_value *ret_value);

/** fnd_failure_iterate - call @fn for each field. Returns: 0, what @fn returned, -EINVAL (@f is damaged). */
FND_API int fnd_failure_iterate(const struct fnd_failure *f,
				int (*fn)(const struct fnd_field *field, void *arg), void *arg);

/**
 * fnd_failure_enrich - add the fields of the thread's context that the failure does not have; count it.
 *
 * Idempotent. Returns: 0, -ENOSPC (some found no room: counted in @f), -EINVAL (@ctx is NULL).
 */
FND_API int fnd_failure_enrich(struct fnd_failure *f, struct fnd_context *ctx);

/** fnd_failure_encode - as msgpack. FND_FAILURE_BYTES_MAX are enough. Returns: the bytes, -ENOBUFS. */
FND_API int fnd_failure_encode(const struct fnd_failure *f, void *buf, size_t size);

/**
 * fnd_failure_decode - from msgpack; members it does not know are left out.
 * Returns: 0, -EINVAL (not one whole failure; hostile bytes do no harm). @ret_failure is untouched then.
 */
FND_API int fnd_failure_decode(const void *bytes, size_t size, struct fnd_failure *ret_failure);

#ifdef __cplusplus
}
#endif
#endif
