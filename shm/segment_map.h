/* SPDX-License-Identifier: MIT */
/* What creating, attaching and destroying share. */
#ifndef FOUNDATION_SHM_SEGMENT_MAP_H
#define FOUNDATION_SHM_SEGMENT_MAP_H

#include <sys/stat.h>

#include "internal.h"

/* A handle on an open segment file whose header @h was checked. Takes no slot. Owns @fd on success. */
FND_HIDDEN int fnd_segment_map(int fd, const struct fnd_shm_header *h, const char *name, uint32_t uid,
			       struct fnd_segment **ret_seg);
/* A private copy of the header, checked, the words that change while running included. */
FND_HIDDEN int fnd_segment_look(int fd, struct fnd_shm_header *ret_h);
/* Frees the handle, closes the file; gives no slot back. */
FND_HIDDEN void fnd_segment_unmap(struct fnd_segment *seg);
/* Registers for membarrier, claims a participant slot, enters the list of attachments. */
FND_HIDDEN int fnd_segment_join(struct fnd_segment *seg);
/* Around attaching and creating: one thread of a process at a time. */
FND_HIDDEN void fnd_attaching_begin(void);
FND_HIDDEN void fnd_attaching_end(void);
/* An attachment of this process to that file, one handle more; under the attachments' mutex. */
FND_HIDDEN struct fnd_segment *fnd_attachment_share(uint64_t dev, uint64_t ino);

/* home.c: where participants live */

/* Fills boot id and namespaces of @h with the caller's, and their checksum. */
FND_HIDDEN int fnd_home_fill(struct fnd_shm_header *h);
/* 0: the caller's own boot and namespace; -FND_E_PIDNS, -FND_E_DIRTY: another's */
FND_HIDDEN int fnd_home_compare(const struct fnd_shm_header *h);
/* Granted only if no process of any namespace has the file open or mapped but through @fd. */
FND_HIDDEN bool fnd_lease_take(int fd);
FND_HIDDEN void fnd_lease_drop(int fd);
/* 1 to 9 ms, at random, with the descriptor closed: let the others have the lease. */
FND_HIDDEN void fnd_lease_nap(void);

#endif
