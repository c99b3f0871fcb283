/* SPDX-License-Identifier: MIT */
/* What the files of `foundation status` share. */
#ifndef FOUNDATION_TOOLS_CMD_STATUS_H
#define FOUNDATION_TOOLS_CMD_STATUS_H

#include "foundation.h"

/* Adds to an array of warnings: {"id": @id, "message": …}. */
__attribute__((format(printf, 3, 4))) void status_warn(json_t *warnings, const char *id, const char *fmt,
						       ...);

/* "active", "attaching", "reaping" */
const char *status_state(uint32_t state);

/*
 * Reads every thread slot that is taken into @threads, and adds a warning for each that holds writers'
 * memory back for long. @participants: as read before; names the commands. @held_bytes: records retired, in
 * all tables. 0 or an error of the observer.
 */
int status_threads_read(struct fnd_observer *o, const struct fnd_segment_status *s, json_t *participants,
			uint64_t held_bytes, json_t *threads, json_t *warnings);
void status_threads_print(json_t *threads);

#endif
