/* SPDX-License-Identifier: MIT */
/* From a segment's name to an open file that is, by owner, type and mode, one of ours. */
#ifndef FOUNDATION_SHM_NAME_H
#define FOUNDATION_SHM_NAME_H

#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>

#include <foundation/segment.h>

#include "layout.h"

#define FND_SHM_DIRECTORY "/dev/shm"
#define FND_FILE_PREFIX "foundation."
#define FND_PATH_BYTES 112 /* directory, prefix, ten digits, a dot, 64 bytes, NUL */

#define FND_NAME_HIDDEN __attribute__((visibility("hidden")))

/**
 * fnd_name_parse - take NAME or UID/NAME apart.
 * @ret_uid: whose name space: the effective user's for a plain NAME.
 *
 * Returns: 0, -EINVAL (the detail says what is wrong with it).
 */
FND_NAME_HIDDEN int fnd_name_parse(const char *name, uint32_t *ret_uid,
				   char ret_name[FND_NAME_MAX + 1]);

/* "/dev/shm/foundation.UID.NAME". 0, or -ENAMETOOLONG. @name is the part without UID. */
FND_NAME_HIDDEN int fnd_name_path(uint32_t uid, const char *name, char *buf, size_t buf_bytes);

/**
 * fnd_segment_open_file - open the file of a segment and look at it from outside.
 * @flags: O_RDONLY or O_RDWR.
 * @ret_st: receives what fstat(2) said of the open file.
 *
 * Opening waits for nobody (a FIFO has no reader, a device its own mind), but for up to 2 s for a lease:
 * somebody is taking the segment over and nearly done.
 *
 * Returns: 0; -EINVAL (name), -ENOENT, -EACCES, -FND_E_FOREIGN (symbolic link, no regular file, another
 * owner, writable for everybody), -EBUSY (the lease stays), -EMFILE, -ENFILE, -ENOMEM.
 * The detail names the path and what is wrong with it.
 */
FND_NAME_HIDDEN int fnd_segment_open_file(const char *name, int flags, int *ret_fd, struct stat *ret_st);

/* A private copy of the header of a file. What the file lacks of it is 0: fnd_header_check() knows how long
 * the file is. 0 or a negative errno. */
FND_NAME_HIDDEN int fnd_header_read(int fd, struct fnd_shm_header *ret_header);

#endif
