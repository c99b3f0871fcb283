// SPDX-License-Identifier: MIT
/*
 * Backing and spans: where the memory of tables comes from.
 *
 * The file's size is what is backed, and the kernel is the one who says so. Memory is reserved by
 * fallocate() before anything refers to it: a full /dev/shm is an error there, never a SIGBUS later.
 *
 * A span is a run of lines with a header, one behind the other from span_off to brk, so that every span
 * is found by walking, also one whose maker died before it was linked. They are handed out under
 * hdr->lock; a free one is reused whole.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "internal.h"

#define COMMIT_CHUNK (16u << 20)

bool fnd_limit_refresh(struct fnd_segment *seg, uint64_t end)
{
	struct stat st;
	uint64_t size;

	if (fstat(seg->fd, &st) != 0 || st.st_size < 0)
		return false;
	size = (uint64_t)st.st_size < seg->max_bytes ? (uint64_t)st.st_size : seg->max_bytes;
	fnd_raise_u64(&seg->limit, size);
	return end <= size;
}

/* --- the memory cgroup ---------------------------------------------------------------------------- */

/* First number of a file; UINT64_MAX when it says "max" or cannot be read. */
static uint64_t read_number(const char *path)
{
	char buf[32] = "";
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	uint64_t v = UINT64_MAX;

	if (fd < 0)
		return v;
	if (read(fd, buf, sizeof(buf) - 1) > 0 && buf[0] >= '0' && buf[0] <= '9')
		v = strtoull(buf, NULL, 10);
	close(fd);
	return v;
}

/* Bytes the cgroups of this process still allow (version 2), UINT64_MAX: no limit known. */
static uint64_t cgroup_room(void)
{
	char line[512], path[768];
	uint64_t room = UINT64_MAX;
	FILE *f = fopen("/proc/self/cgroup", "re");
	char *own = NULL;

	if (!f)
		return room;
	while (fgets(line, sizeof(line), f))
		if (strncmp(line, "0::/", 4) == 0)
			own = line + 3;
	fclose(f);
	if (!own)
		return room;
	own[strcspn(own, "\n")] = '\0';
	for (;;) {
		uint64_t max, now;

		snprintf(path, sizeof(path), "/sys/fs/cgroup%s/memory.max", own);
		max = read_number(path);
		snprintf(path, sizeof(path), "/sys/fs/cgroup%s/memory.current", own);
		now = max == UINT64_MAX ? 0 : read_number(path);
		if (max != UINT64_MAX && now != UINT64_MAX && room > (max > now ? max - now : 0))
			room = max > now ? max - now : 0;
		if (!*own || !strrchr(own, '/'))
			return room;
		*strrchr(own, '/') = '\0';
	}
}

/* Back the file's bytes [from, to). A limit of the cgroup would kill instead of refusing: ask first. */
int fnd_space_commit(int fd, uint64_t from, uint64_t to)
{
	uint64_t room = cgroup_room();

	if (to > from && to - from > room)
		return fnd_fail(ENOMEM,
				"the memory cgroup has %llu bytes left, %llu are wanted: raise memory.max",
				(unsigned long long)room, (unsigned long long)(to - from));
	for (unsigned int tries = 0; from < to;) {
		uint64_t n = to - from;

		/* Whole at first: a refusal then leaves nothing behind. A signal starts it again, so a
		 * process under many signals goes on in pieces. */
		if (tries > 3 && n > COMMIT_CHUNK)
			n = COMMIT_CHUNK;
		if (fallocate(fd, 0, (off_t)from, (off_t)n) == 0) {
			from += n;
			continue;
		}
		if (errno == EINTR) {
			tries++;
			continue;
		}
		if (errno == ENOSPC)
			return fnd_fail(ENOSPC, "/dev/shm has no room for %llu more bytes",
					(unsigned long long)(to - from));
		return fnd_fail(errno, "fallocate on the segment's file");
	}
	return 0;
}

int fnd_space_back(struct fnd_segment *seg, uint64_t need)
{
	struct stat st;
	int err;

	if (fstat(seg->fd, &st) != 0)
		return -errno;
	need = (need + 4095) & ~4095ULL;
	if (need > seg->max_bytes)
		return fnd_fail(ENOSPC, "the segment's virtual size of %llu bytes is used up",
				(unsigned long long)seg->max_bytes);
	if ((uint64_t)st.st_size < need) {
		err = fnd_space_commit(seg->fd, (uint64_t)st.st_size, need);
		if (err)
			return err;
	}
	return fnd_limit_refresh(seg, need) ? 0 : fnd_fail(EIO, "the segment's file shrank");
}

/* --- spans ---------------------------------------------------------------------------------------- */

int fnd_span_next(struct fnd_segment *seg, uint64_t *off)
{
	uint64_t brk = fnd_load_acquire(&seg->hdr->brk); /* [SP-1] pairs with span_extend */
	uint64_t at = *off;
	struct fnd_shm_span *span;
	uint64_t bytes;

	if (at == 0) {
		at = seg->span_off;
	} else {
		span = fnd_at(seg, at, sizeof(*span));
		bytes = span ? fnd_load_relaxed(&span->bytes) : 0; /* relaxed: [SP-1] came before */
		if (bytes < sizeof(*span) || bytes % FND_LINE || at > brk || bytes > brk - at)
			return fnd_fail(FND_E_CORRUPT, "span at %llu: impossible size %llu",
					(unsigned long long)at, (unsigned long long)bytes);
		at += bytes;
	}
	if (at >= brk)
		return -ENOENT;
	span = fnd_at(seg, at, sizeof(*span));
	if (!span || fnd_load_relaxed(&span->magic) != FND_SPAN_MAGIC)
		return fnd_fail(FND_E_CORRUPT, "span at %llu: no span header", (unsigned long long)at);
	*off = at;
	return 0;
}

static void span_clear(struct fnd_shm_span *span)
{
	fnd_store_relaxed(&span->stamp, 0); /* relaxed, all: the use or brk publishes them */
	fnd_store_relaxed(&span->next, 0);
	fnd_store_relaxed(&span->buckets_log2, 0);
	fnd_store_relaxed(&span->overflow, 0);
	fnd_store_relaxed(&span->overflow_used, 0);
}

/* The smallest free span that fits and is not twice as large. */
static uint64_t span_reuse(struct fnd_segment *seg, uint64_t bytes)
{
	uint64_t off = 0, best = 0, best_bytes = bytes * 2;

	while (fnd_span_next(seg, &off) == 0) {
		struct fnd_shm_span *span = fnd_at(seg, off, sizeof(*span));
		uint64_t b;

		if (!span)
			break;
		b = fnd_load_relaxed(&span->bytes);
		/* [SP-2] pairs with the release of a reclaimed index: nobody uses it any more */
		if (fnd_load_acquire(&span->use) == FND_SPAN_FREE && b >= bytes && b < best_bytes &&
		    fnd_backed(seg, off, b)) {
			best = off;
			best_bytes = b;
		}
	}
	return best;
}

static int span_extend(struct fnd_segment *seg, uint64_t bytes, uint32_t kind, uint32_t table,
		       uint32_t shard, uint64_t *ret_off, uint64_t *ret_need)
{
	uint64_t at = fnd_load_relaxed(&seg->hdr->brk); /* relaxed: only under the lock it moves */
	struct fnd_shm_span *span;

	if (at % FND_LINE || at < seg->span_off || at > seg->max_bytes)
		return fnd_fail(FND_E_CORRUPT, "header: brk %llu", (unsigned long long)at);
	if (bytes > seg->max_bytes - at)
		return fnd_fail(ENOSPC, "the segment's virtual size of %llu bytes is used up",
				(unsigned long long)seg->max_bytes);
	if (!fnd_backed(seg, at, bytes)) {
		*ret_need = at + bytes;
		return -EAGAIN;
	}
	span = fnd_at(seg, at, bytes);
#ifdef FND_MUTANT_BRK_FIRST
	fnd_store_release(&seg->hdr->brk, at + bytes);
#endif
	fnd_store_relaxed(&span->magic, FND_SPAN_MAGIC);
	fnd_store_relaxed(&span->bytes, bytes);
	fnd_store_relaxed(&span->use, fnd_span_use(kind, table, shard));
	span_clear(span);
	fnd_store_release(&seg->hdr->brk, at + bytes); /* [SP-1] the header is there before brk covers it */
	*ret_off = at;
	return 0;
}

int fnd_span_alloc(struct fnd_segment *seg, uint64_t bytes, uint32_t kind, uint32_t table, uint32_t shard,
		   uint64_t *ret_off, uint64_t *ret_need)
{
	struct fnd_shm_span *span;
	uint64_t off;

	bytes = (bytes + FND_LINE - 1) & ~(uint64_t)(FND_LINE - 1);
	if (bytes / FND_LINE % 2 == 0)
		bytes += FND_LINE; /* odd: the same line of equal spans lies in different cache sets */
	off = span_reuse(seg, bytes);
	if (!off)
		return span_extend(seg, bytes, kind, table, shard, ret_off, ret_need);
	span = fnd_at(seg, off, sizeof(*span));
	span_clear(span);
	fnd_store_release(&span->use, fnd_span_use(kind, table, shard)); /* [SP-2] */
	*ret_off = off;
	return 0;
}

int fnd_space_lock(struct fnd_segment *seg, struct fnd_thread *th)
{
	int r = fnd_lock(seg, th, &seg->hdr->lock, "segment");

	if (r != FND_LOCK_STOLEN)
		return r;
#ifndef FND_MUTANT_DIRECTORY_UNREPAIRED
	fnd_directory_repair(seg);
#endif
	fnd_cell_count(th, FND_COUNTER_RECOVERIES, 1);
	fnd_lock_repaired(th, &seg->hdr->lock);
	return 0;
}
