/* SPDX-License-Identifier: MIT */
/*
 * The reading half of snapshots. Everything read is hostile until its checksum holds, and its sizes are
 * hostile even then: whoever can write a file can compute a checksum.
 */
#include <endian.h>
#include <errno.h>
#include <poll.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <xxhash.h>

#include "error.h"
#include "snapshot.h"

#define READ_STEP 65536u /* a pipe's block is believed, and allocated, in steps of what has arrived */

#define corrupt(r, off, fmt, ...)                                                                 \
	fnd_fail(FND_E_CORRUPT, "block %llu, offset %llu: " fmt, (unsigned long long)(r)->blocks, \
		 (unsigned long long)(off), ##__VA_ARGS__)

struct reader {
	struct fnd_snapshot_source *src;
	const struct fnd_snapshot_visitor *visitor;
	XXH3_state_t *hash;
	unsigned char *buf; /* the payload of one block */
	size_t cap;
	uint64_t pos; /* bytes read so far */
	uint64_t blocks, tables, records;
	struct fnd_snapshot_table table; /* the one defined last */
	char names[FND_SNAPSHOT_TABLES_MAX][FND_TABLE_NAME_MAX + 1];
	struct fnd_snapshot_info info;
};

/* ---- bytes from the source ---- */

int fnd_snapshot_source_fd(int fd, struct fnd_snapshot_source *ret_src)
{
	struct fnd_snapshot_source src = { .fd = fd, .size = UINT64_MAX };
	struct stat st;
	off_t at;

	if (fstat(fd, &st))
		return fnd_fail(errno, "the snapshot's descriptor");
	if (S_ISDIR(st.st_mode))
		return fnd_fail(EISDIR, "the snapshot's descriptor");
	at = S_ISREG(st.st_mode) ? lseek(fd, 0, SEEK_CUR) : -1;
	if (at >= 0)
		src.size = at < st.st_size ? (uint64_t)(st.st_size - at) : 0;
	*ret_src = src;
	return 0;
}

ssize_t fnd_snapshot_read_some(int fd, void *buf, size_t bytes)
{
	for (;;) {
		ssize_t n = read(fd, buf, bytes);

		if (n >= 0)
			return n;
		if (errno == EAGAIN) {
			struct pollfd pfd = { .fd = fd, .events = POLLIN };

			poll(&pfd, 1, -1);
		} else if (errno != EINTR) {
			return -errno;
		}
	}
}

/* Up to @bytes; less only at the end. Returns how many, or a negative errno. */
static ssize_t fill(struct reader *r, void *buf, size_t bytes)
{
	struct fnd_snapshot_source *src = r->src;
	size_t got = 0;

	if (src->mem) {
		got = bytes < src->size - r->pos ? bytes : src->size - r->pos;
		memcpy(buf, src->mem + r->pos, got);
		r->pos += got;
		return (ssize_t)got;
	}
	while (got < bytes) {
		ssize_t n = fnd_snapshot_read_some(src->fd, (char *)buf + got, bytes - got);

		if (n < 0)
			return fnd_fail((int)-n, "reading the snapshot at offset %llu",
					(unsigned long long)(r->pos + got));
		if (n == 0)
			break;
		got += (size_t)n;
	}
	r->pos += got;
	return (ssize_t)got;
}

/* Exactly @bytes, or the stream was cut. */
static int need(struct reader *r, void *buf, size_t bytes, const char *what)
{
	uint64_t at = r->pos;
	ssize_t n = fill(r, buf, bytes);

	if (n < 0)
		return (int)n;
	if ((size_t)n < bytes)
		return corrupt(r, at, "the file ends inside %s: %zd of %zu bytes", what, n, bytes);
	return 0;
}

static int hash_more(struct reader *r, const void *p, size_t bytes)
{
	if (XXH3_128bits_update(r->hash, p, bytes) != XXH_OK)
		return fnd_fail(ENOMEM, "hashing the snapshot");
	return 0;
}

static int reserve(struct reader *r, size_t bytes)
{
	unsigned char *p;

	if (bytes <= r->cap)
		return 0;
	p = realloc(r->buf, bytes);
	if (!p)
		return fnd_fail(ENOMEM, "a block of %zu bytes", bytes);
	r->buf = p;
	r->cap = bytes;
	if (bytes > r->src->peak)
		r->src->peak = bytes;
	return 0;
}

static bool all_zero(const void *p, size_t bytes)
{
	const unsigned char *c = p;

	while (bytes && !*c) {
		c++;
		bytes--;
	}
	return !bytes;
}

/* A text field is what comes before its first NUL, and only NULs follow. */
static bool sound_text(const char *p, size_t bytes)
{
	size_t len = strnlen(p, bytes);

	return len < bytes && all_zero(p + len, bytes - len);
}

/* ---- what is in blocks ---- */

static int table_block(struct reader *r, const struct fnd_snap_block *b, uint64_t at)
{
	struct fnd_snapshot_cursor c = { r->buf, le32toh(b->payload_bytes) };
	const char *why = fnd_snapshot_decode_table(&c, &r->table);

	if (!why && le32toh(b->records) != 1)
		why = "more than one definition declared";
	if (!why && r->tables == FND_SNAPSHOT_TABLES_MAX)
		why = "more tables than a segment holds";
	for (uint64_t i = 0; !why && i < r->tables; i++)
		if (!strcmp(r->names[i], r->table.name))
			why = "the table was defined before";
	if (why)
		return corrupt(r, at, "table definition: %s", why);
	memcpy(r->names[r->tables++], r->table.name, sizeof(r->table.name));
	if (r->visitor && r->visitor->table)
		return r->visitor->table(&r->table, r->visitor->arg);
	return 0;
}

static int records_block(struct reader *r, const struct fnd_snap_block *b, uint64_t at)
{
	struct fnd_snapshot_cursor c = { r->buf, le32toh(b->payload_bytes) };
	uint32_t declared = le32toh(b->records), met = 0;
	int err = 0;

	if (!r->tables)
		return corrupt(r, at, "records before the first table definition");
	while (c.left && !err) {
		struct fnd_snapshot_record rec = {
			.block = r->blocks,
			.offset = at + (uint64_t)(c.p - r->buf),
		};
		struct fnd_owner owner;
		const char *why = fnd_snapshot_decode_record(&c, &r->table, &rec, &owner);

		if (!why && met == declared)
			why = "more records than the block declares";
		if (why)
			return corrupt(r, rec.offset, "table %s: %s", r->table.name, why);
		met++;
		if (r->visitor && r->visitor->record)
			err = r->visitor->record(&r->table, &rec, r->visitor->arg);
	}
	if (err)
		return err;
	if (met != declared || !met)
		return corrupt(r, at, "%u records declared, %u there", declared, met);
	r->records += met;
	return 0;
}

/* ---- header, blocks, footer ---- */

/* @h: the first FND_SNAP_HEADER_MIN bytes are there, and say a length this version does not know. */
static int other_version(struct reader *r, struct fnd_snap_header *h)
{
	uint32_t bytes = le32toh(h->header_bytes), crc;
	int err;

	if (bytes < FND_SNAP_HEADER_MIN + 4 || bytes > FND_SNAP_HEADER_MAX)
		return fnd_fail(FND_E_CORRUPT, "header, offset 12: a length of %u bytes", bytes);
	if (bytes > r->src->size)
		return fnd_fail(FND_E_CORRUPT, "header, offset 12: %u bytes declared, the file has %llu",
				bytes, (unsigned long long)r->src->size);
	err = reserve(r, bytes);
	if (err)
		return err;
	memcpy(r->buf, h, FND_SNAP_HEADER_MIN);
	err = need(r, r->buf + FND_SNAP_HEADER_MIN, bytes - FND_SNAP_HEADER_MIN, "the header");
	if (err)
		return err;
	memcpy(&crc, r->buf + bytes - 4, 4);
	if (le32toh(crc) != fnd_crc32c(0, r->buf, bytes - 4))
		return fnd_fail(FND_E_CORRUPT, "header, offset %u: the checksum does not match", bytes - 4);
	if (le32toh(h->version) <= FND_SNAPSHOT_VERSION)
		return fnd_fail(FND_E_CORRUPT, "header, offset 8: version %u with %u bytes of header",
				le32toh(h->version), bytes);
	return fnd_fail(FND_E_TOO_NEW, "the file is of format version %u, this library reads %u",
			le32toh(h->version), FND_SNAPSHOT_VERSION);
}

static void keep_header(struct fnd_snapshot_info *info, const struct fnd_snap_header *h)
{
	info->version = le32toh(h->version);
	info->flags = le32toh(h->flags);
	info->created_ns = le64toh(h->created_ns);
	memcpy(info->segment, h->segment, sizeof(info->segment));
	memcpy(info->uuid, h->uuid, sizeof(info->uuid));
	memcpy(info->creator, h->creator, sizeof(info->creator));
	info->default_capacity = le64toh(h->default_capacity);
	info->max_bytes = le64toh(h->max_bytes);
	info->processes = le32toh(h->processes);
	info->threads = le32toh(h->threads);
	info->segment_flags = le32toh(h->segment_flags);
	info->sample_every = le32toh(h->sample_every);
}

static int read_header(struct reader *r)
{
	struct fnd_snap_header h;
	size_t rest = sizeof(h) - FND_SNAP_HEADER_MIN;
	ssize_t n = fill(r, &h, FND_SNAP_HEADER_MIN);

	if (n < 0)
		return (int)n;
	if ((size_t)n < sizeof(h.magic) || memcmp(h.magic, FND_SNAP_MAGIC, sizeof(h.magic)))
		return fnd_fail(FND_E_CORRUPT, "header, offset 0: this is not a Foundation snapshot");
	if ((size_t)n < FND_SNAP_HEADER_MIN)
		return fnd_fail(FND_E_CORRUPT, "header, offset %zd: the file ends inside the header", n);
	if (le32toh(h.version) != FND_SNAPSHOT_VERSION || le32toh(h.header_bytes) != sizeof(h))
		return other_version(r, &h);
	n = fill(r, (char *)&h + FND_SNAP_HEADER_MIN, rest);
	if (n < 0)
		return (int)n;
	if ((size_t)n < rest)
		return fnd_fail(FND_E_CORRUPT, "header, offset %llu: the file ends inside the header",
				(unsigned long long)r->pos);
	if (le32toh(h.crc) != fnd_crc32c(0, &h, offsetof(struct fnd_snap_header, crc)))
		return fnd_fail(FND_E_CORRUPT, "header, offset 252: the checksum does not match");
	if (h.reserved0 || !all_zero(h.reserved1, sizeof(h.reserved1)) ||
	    !sound_text(h.segment, sizeof(h.segment)) || !sound_text(h.creator, sizeof(h.creator)) ||
	    le32toh(h.flags) & ~FND_SNAPSHOT_SHARD_EXACT)
		return fnd_fail(FND_E_CORRUPT, "header: a field says what version 1 does not know");
	keep_header(&r->info, &h);
	return hash_more(r, &h, sizeof(h));
}

static int read_payload(struct reader *r, uint32_t bytes)
{
	uint32_t got = 0;
	int err = 0;

	if (r->src->size != UINT64_MAX && bytes > r->src->size - r->pos)
		return corrupt(r, r->pos, "%u bytes declared, the file has %llu more", bytes,
			       (unsigned long long)(r->src->size - r->pos));
	while (got < bytes && !err) {
		uint32_t step = bytes - got;

		/* Of a pipe nobody knows what will come: allocate as it comes. */
		if (r->src->size == UINT64_MAX && step > READ_STEP)
			step = READ_STEP;
		err = reserve(r, (size_t)got + step);
		if (!err)
			err = need(r, r->buf + got, step, "a block");
		got += step;
	}
	return err;
}

static int read_block(struct reader *r, uint32_t magic)
{
	struct fnd_snap_block b = { .magic = magic };
	uint64_t at = r->pos - sizeof(b.magic);
	uint32_t bytes, crc;
	int err = need(r, (char *)&b + sizeof(b.magic), sizeof(b) - sizeof(b.magic), "a block's header");

	if (err)
		return err;
	bytes = le32toh(b.payload_bytes);
	if (bytes > FND_SNAP_PAYLOAD_MAX)
		return corrupt(r, at, "a payload of %u bytes, at most %u are allowed", bytes,
			       FND_SNAP_PAYLOAD_MAX);
	err = read_payload(r, bytes);
	if (err)
		return err;
	crc = fnd_crc32c(0, &b, offsetof(struct fnd_snap_block, crc));
	if (le32toh(b.crc) != fnd_crc32c(crc, r->buf, bytes))
		return corrupt(r, at, "the checksum does not match");
	if (le64toh(b.sequence) != r->blocks)
		return corrupt(r, at, "block number %llu is here",
			       (unsigned long long)le64toh(b.sequence));
	if (b.reserved0)
		return corrupt(r, at, "a reserved field is not 0");
	err = hash_more(r, &b, sizeof(b));
	if (!err)
		err = hash_more(r, r->buf, bytes);
	if (err)
		return err;
	if (le32toh(b.type) == FND_SNAP_TABLE)
		err = table_block(r, &b, at + sizeof(b));
	else if (le32toh(b.type) == FND_SNAP_RECORDS)
		err = records_block(r, &b, at + sizeof(b));
	else
		err = corrupt(r, at, "block type %u is not known", le32toh(b.type));
	r->blocks++;
	return err;
}

static const char *check_footer(const struct reader *r, const struct fnd_snap_footer *f, uint64_t at)
{
	if (memcmp(f->end_magic, FND_SNAP_END_MAGIC, sizeof(f->end_magic)))
		return "the end mark is not there";
	if (le32toh(f->crc) != fnd_crc32c(0, f, offsetof(struct fnd_snap_footer, crc)))
		return "the checksum does not match";
	if (le32toh(f->footer_bytes) != sizeof(*f) || f->reserved0 || f->reserved1 ||
	    le32toh(f->flags) & ~FND_SNAPSHOT_WRITES_SEEN)
		return "a field says what version 1 does not know";
	if (le64toh(f->offset) != at)
		return "it names another offset";
	if (le64toh(f->blocks) != r->blocks || le64toh(f->tables) != r->tables ||
	    le64toh(f->records) != r->records)
		return "it counts other blocks, tables or records than were there";
	return NULL;
}

static int read_footer(struct reader *r, uint32_t magic)
{
	struct fnd_snap_footer f = { .magic = magic };
	uint64_t at = r->pos - sizeof(f.magic);
	XXH128_canonical_t hash;
	const char *why;
	char extra;
	ssize_t n;
	int err = need(r, (char *)&f + sizeof(f.magic), sizeof(f) - sizeof(f.magic), "the footer");

	if (!err)
		err = hash_more(r, &f, offsetof(struct fnd_snap_footer, hash));
	if (err)
		return err;
	XXH128_canonicalFromHash(&hash, XXH3_128bits_digest(r->hash));
	why = check_footer(r, &f, at);
	if (!why && memcmp(hash.digest, f.hash, sizeof(f.hash)))
		why = "the hash of the whole file does not match";
	if (why)
		return fnd_fail(FND_E_CORRUPT, "footer, offset %llu: %s", (unsigned long long)at, why);
	r->info.flags |= le32toh(f.flags);
	r->info.tables = r->tables;
	r->info.blocks = r->blocks;
	r->info.records = r->records;
	r->info.bytes = r->pos;
	memcpy(r->info.hash, f.hash, sizeof(r->info.hash));
	n = fill(r, &extra, 1);
	if (n > 0)
		return fnd_fail(FND_E_CORRUPT, "offset %llu: bytes after the footer",
				(unsigned long long)r->info.bytes);
	return n < 0 ? (int)n : 0;
}

static int read_all(struct reader *r)
{
	uint32_t magic;
	int err = read_header(r);

	while (!err) {
		uint64_t at = r->pos;

		err = need(r, &magic, sizeof(magic), "a block's header");
		if (err)
			break;
		if (le32toh(magic) == FND_SNAP_FOOTER_MAGIC)
			return read_footer(r, magic);
		if (le32toh(magic) != FND_SNAP_BLOCK_MAGIC)
			return corrupt(r, at, "neither a block nor the footer begins here");
		err = read_block(r, magic);
	}
	return err;
}

int fnd_snapshot_parse(struct fnd_snapshot_source *src, const struct fnd_snapshot_visitor *visitor,
		       struct fnd_snapshot_info *ret_info)
{
	struct reader *r;
	int err;

	if (visitor && visitor->size < sizeof(*visitor))
		return fnd_fail(EINVAL, "fnd_snapshot_visitor.size is %zu", visitor->size);
	r = calloc(1, sizeof(*r));
	if (!r)
		return fnd_fail(ENOMEM, "the snapshot's reader");
	r->src = src;
	r->visitor = visitor;
	r->hash = XXH3_createState();
	if (r->hash && XXH3_128bits_reset(r->hash) == XXH_OK)
		err = read_all(r);
	else
		err = fnd_fail(ENOMEM, "the snapshot's hash");
	if (!err && ret_info)
		*ret_info = r->info;
	XXH3_freeState(r->hash);
	free(r->buf);
	free(r);
	return err;
}

int fnd_snapshot_read(int fd, const struct fnd_snapshot_visitor *visitor,
		      struct fnd_snapshot_info *ret_info)
{
	struct fnd_snapshot_source src;
	int err = fnd_snapshot_source_fd(fd, &src);

	return err ? err : fnd_snapshot_parse(&src, visitor, ret_info);
}

int fnd_snapshot_verify(int fd, struct fnd_snapshot_info *ret_info)
{
	return fnd_snapshot_read(fd, NULL, ret_info);
}
