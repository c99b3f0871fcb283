/* SPDX-License-Identifier: MIT */
/*
 * Configuration of a segment: limits, thresholds, watch times, whom to call.
 *
 * Every setting has a definition: type, unit, default, range. What is set is in the segment, where every worker
 * sees it at its next read, and in the state journal, from which a segment made anew takes it.
 */
#ifndef FOUNDATION_CONFIG_H
#define FOUNDATION_CONFIG_H

#include <foundation/flags.h>
#include <foundation/journal.h>
#include <foundation/segment.h>

#ifdef __cplusplus
extern "C" {
#endif

#define FND_CONFIG_TABLE "config"
#define FND_CONFIG_TEXT_MAX 255 /* bytes of a value */

enum fnd_config_type {
	FND_CONFIG_NUMBER = 0,
	FND_CONFIG_BYTES = 1,	 /* K, M, G: powers of 1024 */
	FND_CONFIG_DURATION = 2, /* nanoseconds; ns us ms s m h d */
	FND_CONFIG_PERCENT = 3,	 /* may end in % */
	FND_CONFIG_CHOICE = 4,	 /* one of a few words */
	FND_CONFIG_TEXT = 5	 /* UTF-8 without control characters */
};

struct fnd_config_definition {
	const char *name;
	enum fnd_config_type type;
	const char *unit;	/* "ns", "bytes", "%", "" */
	const char *fallback;	/* the default, as it would be stored */
	uint64_t min, max;	/* of a number in its unit; of a text: bytes */
	const char *choices;	/* "off|warn|rollback", NULL */
	const char *what;
};

/**
 * fnd_config_definition - the @index-th setting there is, by name in order.
 * Returns: it, valid for ever, or NULL: no more. Wait-free, any context.
 */
FND_API const struct fnd_config_definition *fnd_config_definition(unsigned int index);

/** fnd_config_find - the definition of a name. Returns: it, or NULL: no such setting. Wait-free, any context. */
FND_API const struct fnd_config_definition *fnd_config_find(const char *name);

struct fnd_config; /* this process's handle; one may be used by several threads */

/**
 * fnd_config_open - the settings of a segment; the first who opens them after its creation takes from the journal
 * what was set before.
 *
 * A journal that cannot be read leaves the defaults.
 * Returns: 0, -ENOMEM, the errors of fnd_table_open(). Context: any thread, not in a signal handler, not in a read
 * section. Progress and cost: blocking; 1 µs, or a pass over the journal. Ordering: acquire.
 * If I die: the next who opens takes what I did not.
 */
FND_API int fnd_config_open(struct fnd_segment *seg, struct fnd_config **ret_config);

/** fnd_config_close - free the handle. NULL is allowed. */
FND_API void fnd_config_close(struct fnd_config *c);

#define FND_CONFIG_DEFAULT 1 /* a result: nobody has set it */

/**
 * fnd_config_get - a setting as text, as it would be given to fnd_config_set().
 * @buf: FND_CONFIG_TEXT_MAX + 1 bytes are always enough.
 *
 * Returns: 0; FND_CONFIG_DEFAULT; -ENOENT (no such setting), -ENOBUFS, -FND_E_CORRUPT (what is stored cannot be a
 * value of it), and the errors of fnd_table_lookup(). Context, progress, ordering, death: as fnd_table_lookup().
 */
FND_API int fnd_config_get(struct fnd_config *c, const char *name, char *buf, size_t size);

/**
 * fnd_config_number - a setting of a numeric type, in its unit; never fails.
 * Returns: its value; the default if nobody has set it or what is stored is damaged; 0: no such number.
 * @c may be NULL: the default. Context, progress, ordering, death: as fnd_table_lookup().
 */
FND_API uint64_t fnd_config_number(struct fnd_config *c, const char *name);

/**
 * fnd_config_set - set one. fnd_config_unset - back to its default.
 * @text: "5ms", "64M", "20%", "warn", … as the type has it.
 * @info: NULL, or why and approved by whom, for the journal.
 *
 * Stored first, then journalled.
 * Returns: 0; FND_NOT_DURABLE (done, but the journal could not be written: the detail says why); -ENOENT (no such
 * setting: the detail says which are like it), -EINVAL (type), -ERANGE (the detail says what is allowed), -E2BIG,
 * and the errors of fnd_table_upsert(); nothing has changed when it is negative.
 * Context: any thread, not in a signal handler. Progress and cost: blocking; an fdatasync. Ordering: release.
 * If I die: set or not; if it was not journalled yet, the next who sets anything does it.
 */
FND_API int fnd_config_set(struct fnd_config *c, const char *name, const char *text,
			   const struct fnd_change_info *info);
FND_API int fnd_config_unset(struct fnd_config *c, const char *name, const struct fnd_change_info *info);

/**
 * fnd_config_journal - give a journal the limits that are configured, journal.max_bytes and journal.keep.
 * Returns: 0, -EINVAL. Context, progress, ordering, death: as fnd_table_lookup().
 */
FND_API int fnd_config_journal(struct fnd_config *c, struct fnd_journal *j);

#ifdef __cplusplus
}
#endif
#endif
