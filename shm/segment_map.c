// SPDX-License-Identifier: MIT
/*
 * This process's view of a segment: mapping it, becoming a participant, leaving.
 *
 * Attachments of one process to one segment share a handle. A child of fork() has none: the page that
 * marks the handle as this process's is wiped in it, also after a raw clone().
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "header.h"
#include "internal.h"
#include "name.h"
#include "probe.h"
#include "segment_map.h"

#define HUGE_BYTES (2u << 20) /* a huge page of x86-64 */

/* One thread of a process attaches at a time: a second claim would take the first one's slot for that of a
 * dead process with our pid. Taken before the other mutex. */
static pthread_mutex_t attaching_mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_mutex_t attachments_mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_once_t fork_once = PTHREAD_ONCE_INIT;
static struct fnd_segment *attachments;
static uint64_t last_id;

static void before_fork(void)
{
	pthread_mutex_lock(&attaching_mutex);
	pthread_mutex_lock(&attachments_mutex);
}

static void after_fork(void)
{
	pthread_mutex_unlock(&attachments_mutex);
	pthread_mutex_unlock(&attaching_mutex);
}

/* fork() must not leave a mutex locked in the child by a thread that is not there. */
static void fork_handlers(void)
{
	pthread_atfork(before_fork, after_fork, after_fork);
}

void fnd_attachments_lock(void)
{
	pthread_mutex_lock(&attachments_mutex);
}

void fnd_attachments_unlock(void)
{
	pthread_mutex_unlock(&attachments_mutex);
}

/* Cancellation waits meanwhile: a thread cancelled in an open() or a nap would keep the mutex for ever. */
static __thread int cancel_state;

void fnd_attaching_begin(void)
{
	pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &cancel_state);
	pthread_once(&fork_once, fork_handlers);
	pthread_mutex_lock(&attaching_mutex);
}

void fnd_attaching_end(void)
{
	pthread_mutex_unlock(&attaching_mutex);
	pthread_setcancelstate(cancel_state, NULL);
}

struct fnd_segment *fnd_attachment_find(uint64_t id)
{
	for (struct fnd_segment *s = attachments; s; s = s->next)
		if (s->id == id)
			return s;
	return NULL;
}

struct fnd_segment *fnd_attachment_share(uint64_t dev, uint64_t ino)
{
	for (struct fnd_segment *s = attachments; s; s = s->next) {
		if (s->dev == dev && s->ino == ino && !fnd_forked(s)) {
			s->handles++;
			return s;
		}
	}
	return NULL;
}

/* The mutable words a header check cannot vouch for. */
static int check_running(const struct fnd_shm_header *h, uint64_t file_bytes)
{
	if (h->brk < h->span_off || h->brk > file_bytes)
		return fnd_fail(FND_E_CORRUPT, "brk is %llu, the file has %llu bytes: it was truncated",
				(unsigned long long)h->brk, (unsigned long long)file_bytes);
	if (h->epoch == 0 || h->safe == 0 || h->safe > h->epoch || h->epoch >> 48)
		return fnd_fail(FND_E_CORRUPT, "epoch is %llu, safe is %llu",
				(unsigned long long)h->epoch, (unsigned long long)h->safe);
	return 0;
}

static int look_once(int fd, struct fnd_shm_header *ret_h)
{
	int err = fnd_header_read(fd, ret_h);
	struct stat st;

	if (err)
		return err;
	if (fstat(fd, &st) != 0) /* after the header: the file only grows, and brk with it */
		return -errno;
	err = fnd_header_check_fixed(ret_h, (uint64_t)st.st_size);
	return err ? err : check_running(ret_h, (uint64_t)st.st_size);
}

int fnd_segment_look(int fd, struct fnd_shm_header *ret_h)
{
	int err = -FND_E_CORRUPT;

	/* A copy made while others write may have an old epoch beside a new safe: damage stays. */
	for (int tries = 0; tries < 3 && err == -FND_E_CORRUPT; tries++)
		err = look_once(fd, ret_h);
	return err;
}

static int map_fork_mark(struct fnd_segment *seg)
{
	void *p = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED)
		return -ENOMEM;
	if (madvise(p, 4096, MADV_WIPEONFORK) != 0) {
		munmap(p, 4096);
		return fnd_fail(ENOSYS, "madvise(MADV_WIPEONFORK) is refused here");
	}
	seg->fork_mark = p;
	seg->fork_mark->mine = 1;
	return 0;
}

/* Where huge pages can be mapped at all: address and offset in the file must agree in their low 21 bits. */
static char *map_aligned(int fd, uint64_t bytes)
{
	char *room = mmap(NULL, bytes + HUGE_BYTES, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
	char *base, *end;

	if (room == MAP_FAILED)
		return mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, fd, 0);
	base = (char *)(((uintptr_t)room + HUGE_BYTES - 1) & ~(uintptr_t)(HUGE_BYTES - 1));
	end = mmap(base, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE | MAP_FIXED, fd, 0);
	if (end == MAP_FAILED) {
		munmap(room, bytes + HUGE_BYTES);
		return end;
	}
	if (base > room)
		munmap(room, (size_t)(base - room));
	end = (char *)(((uintptr_t)base + bytes + page - 1) & ~(page - 1));
	if (room + bytes + HUGE_BYTES > end)
		munmap(end, (size_t)(room + bytes + HUGE_BYTES - end));
	return base;
}

static void copy_header(struct fnd_segment *seg, const struct fnd_shm_header *h, const struct stat *st)
{
	seg->max_bytes = h->max_bytes;
	seg->hash_seed = h->hash_seed;
	seg->span_off = h->span_off;
	seg->default_capacity = h->default_capacity;
	memcpy(&seg->uuid_low, h->uuid, sizeof(seg->uuid_low));
	seg->processes = h->processes;
	seg->threads = h->threads;
	seg->dev = st->st_dev;
	seg->ino = st->st_ino;
	seg->limit = (uint64_t)st->st_size < h->max_bytes ? (uint64_t)st->st_size : h->max_bytes;
	seg->lock_timeout_ms = 5000;
	seg->clock_offset_ns = fnd_clock_offset_ns();
	seg->id = __atomic_add_fetch(&last_id, 1, __ATOMIC_RELAXED);
}

int fnd_segment_map(int fd, const struct fnd_shm_header *h, const char *name, uint32_t uid,
		    struct fnd_segment **ret_seg)
{
	struct fnd_segment *seg = calloc(1, sizeof(*seg));
	struct stat st;
	int err = -ENOMEM;

	if (!seg)
		return err;
	if (fstat(fd, &st) != 0 || map_fork_mark(seg)) {
		free(seg);
		return err;
	}
	copy_header(seg, h, &st);
	seg->fd = fd;
	seg->uid = uid;
	seg->handles = 1;
	snprintf(seg->name, sizeof(seg->name), "%s", name);
	seg->base = map_aligned(fd, seg->max_bytes);
	if (seg->base == MAP_FAILED) {
		err = fnd_fail(ENOMEM, "no room for %llu bytes of address space",
			       (unsigned long long)seg->max_bytes);
		goto fail;
	}
	seg->hdr = (struct fnd_shm_header *)seg->base;
	seg->process = (struct fnd_shm_process *)(seg->base + h->process_off);
	seg->thread = (struct fnd_shm_thread *)(seg->base + h->thread_off);
	seg->cell = (struct fnd_shm_cell *)(seg->base + h->cell_off);
	seg->area = (struct fnd_shm_area *)(seg->base + h->area_off);
	seg->remains = (struct fnd_shm_remains *)(seg->base + h->remains_off);
	seg->table = (struct fnd_shm_table *)(seg->base + h->table_off);
	/* what was checked is a copy: is the mapping the same? */
	if (memcmp(seg->hdr, h, offsetof(struct fnd_shm_header, boot_id)) != 0) {
		err = fnd_fail(FND_E_CORRUPT, "the header changed while it was read");
		goto fail_map;
	}
	err = fnd_identity_self(&seg->identity);
	if (err)
		goto fail_map;
	*ret_seg = seg;
	return 0;
fail_map:
	munmap(seg->base, seg->max_bytes);
fail:
	munmap(seg->fork_mark, 4096);
	free(seg);
	return err;
}

void fnd_segment_unmap(struct fnd_segment *seg)
{
	munmap(seg->base, seg->max_bytes);
	munmap(seg->fork_mark, 4096);
	close(seg->fd);
	free(seg);
}

int fnd_segment_join(struct fnd_segment *seg)
{
	bool fenced = seg->hdr->feature_incompat & FND_INCOMPAT_FENCED;
	int err;

	fnd_probe_init();
	/* before a slot is claimed: a reader that membarrier does not reach breaks RCU silently */
	err = fnd_membarrier_register();
	seg->fenced = fenced || err;
	seg->read_only = err && !fenced;
	err = fnd_process_claim(seg);
	if (err)
		return err;
	fnd_attachments_lock();
	seg->next = attachments;
	attachments = seg;
	fnd_attachments_unlock();
	return 0;
}

int fnd_segment_name(const struct fnd_segment *seg, char *buf, size_t size)
{
	int n = seg->uid == (uint32_t)geteuid() ? snprintf(buf, size, "%s", seg->name) :
						  snprintf(buf, size, "%u/%s", seg->uid, seg->name);

	return n >= 0 && (size_t)n < size ? 0 : -ENOBUFS;
}

/* Under the attachments' mutex. */
static void unlink_attachment(struct fnd_segment *seg)
{
	for (struct fnd_segment **pp = &attachments; *pp; pp = &(*pp)->next) {
		if (*pp == seg) {
			*pp = seg->next;
			return;
		}
	}
}

int fnd_segment_detach(struct fnd_segment *seg)
{
	if (!seg)
		return 0;
	fnd_attachments_lock();
	if (!fnd_forked(seg)) {
		struct fnd_thread *th = fnd_thread_first();

		while (th && th->seg_id != seg->id)
			th = th->next;
		if (th && fnd_in_section(th)) {
			fnd_attachments_unlock();
			return fnd_fail(EBUSY, "the calling thread is inside a read section");
		}
		if (--seg->handles > 0) {
			fnd_attachments_unlock();
			return 0;
		}
		fnd_threads_release(seg);
		fnd_process_release(seg);
	}
	unlink_attachment(seg);
	fnd_attachments_unlock();
	fnd_segment_unmap(seg);
	return 0;
}
