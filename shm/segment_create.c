// SPDX-License-Identifier: MIT
/*
 * Creating: the segment is finished before it has a name, so it exists whole or not at all.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/random.h>
#include <unistd.h>

#include "header.h"
#include "name.h"
#include "segment_map.h"

static const struct fnd_segment_options defaults = {
	.size = sizeof(struct fnd_segment_options),
	.processes = 256,
	.threads = 1024,
	.sample_every = 1024,
	.max_bytes = 1ULL << 30,
	.default_capacity = 4096,
	.mode = 0600,
};

static int complete(const struct fnd_segment_options *opt, struct fnd_segment_options *o)
{
	*o = defaults;
	if (!opt)
		return 0;
	if (opt->size != sizeof(*opt) || opt->flags & ~FND_SEGMENT_FENCED)
		return fnd_fail(EINVAL, "segment options of another version");
	*o = *opt;
	o->processes = o->processes ? o->processes : defaults.processes;
	o->threads = o->threads ? o->threads : defaults.threads;
	o->sample_every = o->sample_every ? o->sample_every : defaults.sample_every;
	o->max_bytes = o->max_bytes ? o->max_bytes : defaults.max_bytes;
	o->default_capacity = o->default_capacity ? o->default_capacity : defaults.default_capacity;
	o->mode = o->mode ? o->mode : defaults.mode;
	if (o->processes > FND_PROCESSES_MAX || o->threads > FND_THREADS_MAX)
		return fnd_fail(EINVAL, "at most %u participant and %u thread slots", FND_PROCESSES_MAX,
				FND_THREADS_MAX);
	if (o->max_bytes > FND_MAX_BYTES_LIMIT)
		return fnd_fail(EINVAL, "max_bytes is at most %llu",
				(unsigned long long)FND_MAX_BYTES_LIMIT);
	if (o->mode & ~0660u || (o->mode & 0600) != 0600)
		return fnd_fail(EINVAL, "mode is 0600, 0640 or 0660");
	return 0;
}

static uint64_t place(uint64_t *end, uint64_t bytes)
{
	uint64_t at = *end;

	*end = at + bytes;
	return at;
}

static int fill_header(struct fnd_shm_header *h, const struct fnd_segment_options *o)
{
	uint64_t end = FND_HEADER_BYTES;

	memset(h, 0, sizeof(*h));
	h->magic = FND_MAGIC;
	h->layout_major = FND_LAYOUT_MAJOR;
	h->layout_minor = FND_LAYOUT_MINOR;
	h->layout_hash = fnd_layout_hash();
	h->endian = FND_ENDIAN;
	h->page_bytes = (uint32_t)sysconf(_SC_PAGESIZE);
	h->line_bytes = FND_LINE;
	h->header_bytes = FND_HEADER_BYTES;
	h->feature_incompat = o->flags & FND_SEGMENT_FENCED ? FND_INCOMPAT_FENCED : 0;
	h->processes = o->processes;
	h->threads = o->threads;
	h->tables = FND_TABLES;
	if (getrandom(h->uuid, sizeof(h->uuid), 0) != sizeof(h->uuid) ||
	    getrandom(&h->hash_seed, sizeof(h->hash_seed), 0) != sizeof(h->hash_seed))
		return fnd_fail(EIO, "getrandom");
	h->created_ns = fnd_wall_ns();
	h->process_off = place(&end, (h->processes + 1ULL) * sizeof(struct fnd_shm_process));
	h->thread_off = place(&end, (h->threads + 1ULL) * sizeof(struct fnd_shm_thread));
	h->cell_off = place(&end, (h->threads + 1ULL) * sizeof(struct fnd_shm_cell));
	h->area_off = place(&end, (h->threads + 1ULL) * sizeof(struct fnd_shm_area));
	h->remains_off = place(&end, FND_SHM_REMAINS * sizeof(struct fnd_shm_remains));
	h->table_off = place(&end, FND_TABLES * sizeof(struct fnd_shm_table));
	h->span_off = end;
	h->max_bytes = (o->max_bytes + h->page_bytes - 1) & ~(uint64_t)(h->page_bytes - 1);
	if (h->span_off >= h->max_bytes)
		return fnd_fail(EINVAL, "max_bytes must be above %llu for so many slots",
				(unsigned long long)h->span_off);
	h->default_capacity = o->default_capacity;
	snprintf(h->creator_version, sizeof(h->creator_version), "%s", fnd_version());
	h->checksum = fnd_header_checksum(h);
	h->epoch = 1;
	h->safe = 1;
	h->brk = h->span_off;
	h->sample_every = o->sample_every;
	return fnd_home_fill(h);
}

/* What already has the name? */
static int name_taken(const char *name)
{
	struct fnd_shm_header h;
	struct stat st;
	int fd, err = fnd_segment_open_file(name, O_RDONLY, &fd, &st);

	if (err)
		return err;
	err = fnd_header_read(fd, &h);
	close(fd);
	if (!err && h.magic != FND_MAGIC)
		err = fnd_header_check_fixed(&h, (uint64_t)st.st_size);
	return err ? err : fnd_fail(EEXIST, "segment %s exists", name);
}

static int give_name(int fd, uint32_t uid, const char *name)
{
	char path[FND_PATH_BYTES], self[32];
	int err;

	fnd_name_path(uid, name, path, sizeof(path));
	snprintf(self, sizeof(self), "/proc/self/fd/%d", fd);
	if (linkat(AT_FDCWD, self, AT_FDCWD, path, AT_SYMLINK_FOLLOW) == 0)
		return 0;
	if (errno == ENOENT && linkat(fd, "", AT_FDCWD, path, AT_EMPTY_PATH) == 0)
		return 0; /* no /proc here, but the right to do it without */
	if (errno != EEXIST)
		return fnd_fail(errno, "linking %s", path);
	err = name_taken(name); /* somebody else won */
	return err == -ENOENT ? -EEXIST : err;
}

static int open_nameless(const struct fnd_segment_options *o, const struct fnd_shm_header *h)
{
	int fd = open(FND_SHM_DIRECTORY, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600), err;

	if (fd < 0)
		return errno == ENOSPC ? fnd_fail(ENOSPC, "%s has no inode left", FND_SHM_DIRECTORY) :
					 fnd_fail(errno, "opening a nameless file in %s", FND_SHM_DIRECTORY);
	err = fnd_space_commit(fd, 0, (h->span_off + 4095) & ~4095ULL);
	if (!err && o->gid && fchown(fd, (uid_t)-1, o->gid) != 0)
		err = fnd_fail(errno, "giving the segment to group %u", o->gid);
	if (!err && fchmod(fd, o->mode) != 0)
		err = -errno;
	if (!err && pwrite(fd, h, sizeof(*h), 0) != (ssize_t)sizeof(*h))
		err = fnd_fail(EIO, "writing the header");
	if (err) {
		close(fd);
		return err;
	}
	return fd;
}

static int create(const char *name, const struct fnd_segment_options *opt, struct fnd_segment **ret_seg)
{
	struct fnd_segment_options o;
	char base[FND_NAME_MAX + 1];
	struct fnd_segment *seg;
	struct fnd_shm_header h;
	uint32_t uid;
	int fd, err = complete(opt, &o);

	if (!err)
		err = fnd_name_parse(name, &uid, base);
	if (!err && uid != geteuid())
		err = fnd_fail(EINVAL, "a segment is created in one's own name space only");
	if (err)
		return err;
	err = name_taken(name);
	if (err != -ENOENT)
		return err;
	err = fill_header(&h, &o);
	if (err)
		return err;
	fd = open_nameless(&o, &h);
	if (fd < 0)
		return fd;
	err = fnd_segment_map(fd, &h, base, uid, &seg);
	if (err) {
		close(fd);
		return err;
	}
	fnd_attaching_begin();
	err = fnd_segment_join(seg);
	fnd_attaching_end();
	if (err) {
		fnd_segment_unmap(seg);
		return err;
	}
	if (seg->read_only)
		err = fnd_fail(FND_E_FENCED, "membarrier is refused here: create it fenced");
	if (!err && o.init)
		err = o.init(seg, o.init_arg);
	if (!err)
		err = give_name(fd, uid, base);
	if (err || !ret_seg)
		fnd_segment_detach(seg);
	else
		*ret_seg = seg;
	return err;
}

int fnd_segment_create(const char *name, const struct fnd_segment_options *opt,
		       struct fnd_segment **ret_seg)
{
	int state, err;

	/* cancelled half way the thread would leave a descriptor and a mapping behind */
	pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &state);
	err = create(name, opt, ret_seg);
	pthread_setcancelstate(state, NULL);
	return err;
}
