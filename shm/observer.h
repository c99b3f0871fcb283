/* SPDX-License-Identifier: MIT */
/* What the files of the observer share. Nothing here maps the segment. */
#ifndef FOUNDATION_SHM_OBSERVER_H
#define FOUNDATION_SHM_OBSERVER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <foundation/observer.h>

#include "layout.h"

#define FND_OBSERVER_HIDDEN __attribute__((visibility("hidden")))

struct fnd_observer {
	struct fnd_shm_header header; /* checked; only its first part is used after the check */
	char name[FND_NAME_MAX + 16];
	uint32_t uid;
	uint32_t mode;
	int fd;
	bool same_boot;
	bool same_pidns;
	int64_t clock_offset_ns; /* of this process's time namespace */
};

/* The members of the header that move, as they were at one read. */
struct fnd_observed_hot {
	uint64_t epoch, safe, brk, destroying, snapshot_generation;
	uint32_t process_high, thread_high; /* at most as many as there are slots */
	uint32_t sample_every, sample_always;
};

/* One table: checked copies. */
struct fnd_observed_table {
	struct fnd_shm_table d;
	uint32_t number;
	uint64_t index_off; /* of index[shards] */
	uint64_t shard_off; /* of shard[shards] */
};

/* Exactly @bytes from @off. 0, -FND_E_CORRUPT (not backed), -EIO or another errno of pread(2). */
FND_OBSERVER_HIDDEN int fnd_observer_read(const struct fnd_observer *o, uint64_t off, void *buf,
					  size_t bytes);
/* The bytes that are backed now and belong to the segment. */
FND_OBSERVER_HIDDEN int fnd_observer_backed(const struct fnd_observer *o, uint64_t *ret_bytes);
FND_OBSERVER_HIDDEN int fnd_observer_hot(const struct fnd_observer *o, struct fnd_observed_hot *ret_hot);
/* A span's header at @off, checked: kind, table and size. */
FND_OBSERVER_HIDDEN int fnd_observer_span(const struct fnd_observer *o, uint64_t off, uint32_t kind,
					  uint32_t table, struct fnd_shm_span *ret_span);
/* Table @number. 0, -ENOENT (none there), -FND_E_CORRUPT */
FND_OBSERVER_HIDDEN int fnd_observer_table(const struct fnd_observer *o, uint32_t number,
					   struct fnd_observed_table *ret_table);

#endif
