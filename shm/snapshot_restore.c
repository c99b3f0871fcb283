/* SPDX-License-Identifier: MIT */
/*
 * A snapshot into a new segment.
 *
 * Verify everything, then fill a segment that has no name yet, then let it have its name: whoever looks
 * sees all of it or nothing. The stream is read twice, so what cannot be seeked goes to a nameless file
 * first; and the second reading checks as much as the first, because a file may change in between.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "internal.h"
#include "snapshot.h"

#define MIN_BYTES (1ULL << 30) /* address space, not memory: only what is used is backed */
#define SLACK_BYTES (256ULL << 20)

struct restore {
	int fd;
	uint32_t owners;
	struct fnd_snapshot_info info; /* of the first reading */
	uint64_t need_bytes;
	uint64_t table_records; /* of the table being counted */
	struct fnd_snapshot_table last;
	struct fnd_segment *seg;
	struct fnd_table *table;
	unsigned char *value; /* owner and value of one record */
	struct fnd_snapshot_report report;
};

/* ---- first reading: is it sound, and how much room does it want? ---- */

static void add_need(struct restore *r)
{
	uint64_t records = r->last.capacity, each;

	if (!r->last.name[0])
		return;
	if (records < r->table_records)
		records = r->table_records;
	/* Record, its share of an index at low load, and as much again for growth and retired records. */
	each = 4 * ((uint64_t)sizeof(struct fnd_shm_record) + r->last.key_max + r->last.value_max + 64);
	if (records > FND_MAX_BYTES_LIMIT / each)
		r->need_bytes = FND_MAX_BYTES_LIMIT;
	else if (r->need_bytes < FND_MAX_BYTES_LIMIT)
		r->need_bytes += records * each;
}

static int count_table(const struct fnd_snapshot_table *t, void *arg)
{
	struct restore *r = arg;

	add_need(r);
	r->last = *t;
	r->table_records = 0;
	return 0;
}

static int count_record(const struct fnd_snapshot_table *t, const struct fnd_snapshot_record *rec,
			void *arg)
{
	struct restore *r = arg;

	(void)t;
	(void)rec;
	r->table_records++;
	return 0;
}

static uint64_t segment_bytes(const struct restore *r)
{
	uint64_t bytes = r->need_bytes + SLACK_BYTES;

	if (bytes < r->info.max_bytes)
		bytes = r->info.max_bytes;
	if (bytes < MIN_BYTES)
		bytes = MIN_BYTES;
	return bytes < FND_MAX_BYTES_LIMIT ? bytes & ~0xfffffULL : FND_MAX_BYTES_LIMIT;
}

/* ---- second reading: into the nameless segment ---- */

static int make_table(const struct fnd_snapshot_table *t, void *arg)
{
	struct restore *r = arg;
	struct fnd_table_options opt = {
		.size = sizeof(opt),
		.flags = t->flags,
		.key_max = t->key_max,
		.value_max = t->value_max,
		.capacity = t->capacity,
	};

	fnd_table_close(r->table);
	r->table = NULL;
	r->report.tables++;
	return fnd_table_open(r->seg, t->name, &opt, &r->table);
}

/* In a segment that is being made nobody but its maker participates, and the maker owns no record. */
static bool keep_owned(struct restore *r, const struct fnd_snapshot_record *rec)
{
	struct fnd_owner orphan = { .pid = rec->owner->pid };

	if (r->owners != FND_SNAPSHOT_OWNERS_ALL) {
		r->report.dropped++;
		return false;
	}
	memcpy(r->value, &orphan, sizeof(orphan));
	if (rec->value_bytes)
		memcpy(r->value + sizeof(orphan), rec->value, rec->value_bytes);
	r->report.orphans++;
	return true;
}

static int put_record(const struct fnd_snapshot_table *t, const struct fnd_snapshot_record *rec, void *arg)
{
	struct restore *r = arg;
	const void *value = rec->value;
	size_t bytes = rec->value_bytes;
	int err;

	if (rec->owner) {
		if (!keep_owned(r, rec))
			return 0;
		value = r->value;
		bytes += sizeof(struct fnd_owner);
	}
	err = fnd_table_insert(r->table, rec->key, rec->key_bytes, value, bytes);
	if (err == -EEXIST)
		return fnd_fail(FND_E_CORRUPT, "block %llu, offset %llu: table %s has this key twice",
				(unsigned long long)rec->block, (unsigned long long)rec->offset, t->name);
	if (!err)
		r->report.records++;
	return err;
}

static int fill_segment(struct fnd_segment *seg, void *arg)
{
	struct restore *r = arg;
	struct fnd_snapshot_visitor v = { sizeof(v), make_table, put_record, r };
	struct fnd_snapshot_info again;
	int err;

	r->seg = seg;
	err = fnd_snapshot_read(r->fd, &v, &again);
	fnd_table_close(r->table);
	r->table = NULL;
	if (!err && memcmp(again.hash, r->info.hash, sizeof(again.hash)))
		err = fnd_fail(FND_E_CORRUPT, "the file changed between its two readings");
	return err;
}

static int create_filled(struct restore *r, const char *name)
{
	struct fnd_segment_options opt = {
		.size = sizeof(opt),
		.flags = r->info.segment_flags & FND_SEGMENT_FENCED,
		.processes = r->info.processes,
		.threads = r->info.threads,
		.sample_every = r->info.sample_every,
		.max_bytes = segment_bytes(r),
		.default_capacity = r->info.default_capacity,
		.init = fill_segment,
		.init_arg = r,
	};

	return fnd_segment_create(name, &opt, NULL);
}

/* ---- what cannot be seeked ---- */

static int nameless_file(const char *dir)
{
	char path[4096];
	int fd = open(dir, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);

	if (fd >= 0 || (errno != EOPNOTSUPP && errno != EISDIR))
		return fd;
	/* A file system without O_TMPFILE: a name for the shortest time there can be. */
	if (strlen(dir) > sizeof(path) - 32)
		return -1;
	strcpy(path, dir);
	strcat(path, "/foundation-XXXXXX");
	fd = mkostemp(path, O_CLOEXEC);
	if (fd >= 0)
		unlink(path);
	return fd;
}

static int open_spool(const char *dir)
{
	static const char *const usual[] = { "/var/tmp", "/tmp" };
	int fd = -1;

	if (dir) {
		fd = nameless_file(dir);
	} else {
		for (size_t i = 0; i < sizeof(usual) / sizeof(usual[0]) && fd < 0; i++) {
			dir = usual[i];
			fd = nameless_file(dir);
		}
	}
	return fd >= 0 ? fd : fnd_fail(errno, "a temporary file in %s", dir);
}

/* A stream that does not even begin as a snapshot is not worth a copy, and may have no end. */
static int copy_start(int from, int to)
{
	char magic[sizeof(((struct fnd_snap_header *)0)->magic)];
	size_t got = 0;
	ssize_t n;

	while (got < sizeof(magic)) {
		n = fnd_snapshot_read_some(from, magic + got, sizeof(magic) - got);
		if (n < 0)
			return fnd_fail((int)-n, "reading the stream");
		if (n == 0)
			break;
		got += (size_t)n;
	}
	if (got < sizeof(magic) || memcmp(magic, FND_SNAP_MAGIC, sizeof(magic)))
		return fnd_fail(FND_E_CORRUPT, "header, offset 0: this is not a Foundation snapshot");
	n = fnd_snapshot_write_all(to, magic, sizeof(magic));
	return n ? fnd_fail((int)-n, "copying the stream to a temporary file") : 0;
}

static int copy_rest(int from, int to, char *buf, size_t step)
{
	for (;;) {
		ssize_t n = fnd_snapshot_read_some(from, buf, step);
		int err;

		if (n == 0)
			return 0;
		if (n < 0)
			return fnd_fail((int)-n, "reading the stream");
		err = fnd_snapshot_write_all(to, buf, (size_t)n);
		if (err)
			return fnd_fail(-err, "copying the stream to a temporary file");
	}
}

/* Returns the descriptor of a copy, at its start; or a negative error. */
static int spool(int from, const char *dir)
{
	enum {
		STEP = 1 << 16
	};
	int to = open_spool(dir), err;
	char *buf;

	if (to < 0)
		return to;
	buf = malloc(STEP);
	err = buf ? copy_start(from, to) : fnd_fail(ENOMEM, "the copy of the stream");
	if (!err)
		err = copy_rest(from, to, buf, STEP);
	free(buf);
	if (!err && lseek(to, 0, SEEK_SET) < 0)
		err = fnd_fail(errno, "the temporary file");
	if (err)
		close(to);
	return err ? err : to;
}

static int restore_file(struct restore *r, const char *name)
{
	struct fnd_snapshot_visitor v = { sizeof(v), count_table, count_record, r };
	off_t start = lseek(r->fd, 0, SEEK_CUR);
	int err;

	if (start < 0)
		return fnd_fail(errno, "the snapshot's position");
	err = fnd_snapshot_read(r->fd, &v, &r->info);
	if (err)
		return err;
	add_need(r);
	if (lseek(r->fd, start, SEEK_SET) < 0)
		return fnd_fail(errno, "the snapshot's position");
	return create_filled(r, name);
}

static int check_options(const struct fnd_snapshot_restore_options *opt)
{
	if (!opt)
		return 0;
	if (opt->size < sizeof(*opt))
		return fnd_fail(EINVAL, "fnd_snapshot_restore_options.size is %zu", opt->size);
	if (opt->flags)
		return fnd_fail(EINVAL, "fnd_snapshot_restore_options.flags is %#x", opt->flags);
	if (opt->owners > FND_SNAPSHOT_OWNERS_ALL)
		return fnd_fail(EINVAL, "fnd_snapshot_restore_options.owners is %u", opt->owners);
	return 0;
}

int fnd_snapshot_restore(int fd, const char *segment_name,
			 const struct fnd_snapshot_restore_options *opt,
			 struct fnd_snapshot_report *ret_report, struct fnd_snapshot_info *ret_info)
{
	struct restore r = { .fd = fd, .owners = opt ? opt->owners : FND_SNAPSHOT_OWNERS_LIVE };
	struct stat st;
	int err = check_options(opt);

	if (err)
		return err;
	if (fstat(fd, &st))
		return fnd_fail(errno, "the snapshot's descriptor");
	if (!S_ISREG(st.st_mode)) {
		r.fd = spool(fd, opt ? opt->spool_directory : NULL);
		if (r.fd < 0)
			return r.fd;
	}
	r.value = malloc(FND_VALUE_MAX);
	err = r.value ? restore_file(&r, segment_name) : fnd_fail(ENOMEM, "one record");
	free(r.value);
	if (r.fd != fd)
		close(r.fd);
	if (!err && ret_report)
		*ret_report = r.report;
	if (!err && ret_info)
		*ret_info = r.info;
	return err;
}
