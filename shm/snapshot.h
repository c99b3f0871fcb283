/* SPDX-License-Identifier: MIT */
/*
 * The bytes of a snapshot, and the stream writer and reader inside the library.
 *
 * Every integer is little-endian, every reserved byte is 0 and checked. docs/snapshot-format.md has a row
 * for each member of the three structs below; a test compares them with offsetof.
 */
#ifndef FND_SNAPSHOT_INTERNAL_H
#define FND_SNAPSHOT_INTERNAL_H

#include <stdint.h>
#include <sys/types.h>
#include <foundation/snapshot.h>

/* The first byte is no ASCII and the last a line feed: a transfer as text changes one or the other. */
#define FND_SNAP_MAGIC "\x89" \
		       "FNDSNP\n"
#define FND_SNAP_END_MAGIC "\nPNSDNF\x89"
#define FND_SNAP_BLOCK_MAGIC 0x4b4c4246u  /* "FBLK" */
#define FND_SNAP_FOOTER_MAGIC 0x444e4546u /* "FEND" */

#define FND_SNAP_HEADER_MIN 16u
#define FND_SNAP_HEADER_MAX 4096u
#define FND_SNAP_BLOCK_MAX (1u << 20) /* header and payload */
#define FND_SNAP_TABLE 1u             /* payload: one msgpack array that defines a table */
#define FND_SNAP_RECORDS 2u           /* payload: records of the table defined last */

struct fnd_snap_header {
	uint8_t magic[8];
	uint32_t version;
	uint32_t header_bytes;
	uint64_t created_ns;
	uint32_t flags;
	uint32_t reserved0;
	uint8_t uuid[16];
	char segment[80];
	char creator[32];
	uint64_t default_capacity;
	uint64_t max_bytes;
	uint32_t processes;
	uint32_t threads;
	uint32_t segment_flags;
	uint32_t sample_every;
	uint8_t reserved1[60];
	uint32_t crc; /* of all before it */
};

struct fnd_snap_block {
	uint32_t magic;
	uint32_t type;
	uint64_t sequence;
	uint32_t payload_bytes;
	uint32_t records;
	uint32_t reserved0;
	uint32_t crc; /* of all before it and of the payload */
};

struct fnd_snap_footer {
	uint32_t magic;
	uint32_t footer_bytes;
	uint64_t blocks;
	uint64_t tables;
	uint64_t records;
	uint64_t offset; /* of the footer itself: bytes before it */
	uint32_t flags;
	uint32_t reserved0;
	uint8_t hash[16]; /* XXH3-128, canonical, of every byte of the file before it */
	uint32_t reserved1;
	uint32_t crc; /* of all before it in the footer */
	uint8_t end_magic[8];
};

_Static_assert(sizeof(struct fnd_snap_header) == 256, "header is 256 bytes");
_Static_assert(sizeof(struct fnd_snap_block) == 32, "block header is 32 bytes");
_Static_assert(sizeof(struct fnd_snap_footer) == 80, "footer is 80 bytes");
_Static_assert(sizeof(((struct fnd_snapshot_info *)0)->segment) == 80, "segment name");

#define FND_SNAP_PAYLOAD_MAX (FND_SNAP_BLOCK_MAX - (uint32_t)sizeof(struct fnd_snap_block))
/* An encoded record's upper bound: array, bin8 key, bin32 value, array of three uint32. */
#define FND_SNAP_RECORD_MAX (1u + 2u + FND_KEY_MAX + 5u + FND_VALUE_MAX + 16u)

/* Over short counts, interruptions and descriptors that do not block. 0, bytes, or a negative errno. */
int fnd_snapshot_write_all(int fd, const void *buf, size_t bytes);
ssize_t fnd_snapshot_read_some(int fd, void *buf, size_t bytes); /* 0: the end */

uint32_t fnd_crc32c(uint32_t crc, const void *buf, size_t bytes);

/* Owned by one thread. Fields are for the writer alone, but for the totals. */
struct fnd_snapshot_writer {
	int fd;
	void *hash;           /* XXH3_state_t */
	unsigned char *block; /* FND_SNAP_BLOCK_MAX bytes: room for the block header, then the payload */
	uint32_t used;        /* payload bytes in it */
	uint32_t count;       /* records in it */
	uint32_t table_flags;
	uint32_t header_flags;
	uint64_t tables, blocks, records, offset;
};

/*
 * start, then table, record…, table, record…, finish; free always. All but free return 0 or a negative
 * errno; after a failure only free may follow. @info: the header's part of it.
 */
int fnd_snapshot_writer_start(struct fnd_snapshot_writer *w, int fd,
			      const struct fnd_snapshot_info *info);
int fnd_snapshot_writer_table(struct fnd_snapshot_writer *w, const struct fnd_snapshot_table *t);
int fnd_snapshot_writer_record(struct fnd_snapshot_writer *w, const struct fnd_snapshot_record *r);
/* A block with any payload: what a hostile writer would make. For tests. */
int fnd_snapshot_writer_block(struct fnd_snapshot_writer *w, uint32_t type, const void *payload,
			      uint32_t bytes, uint32_t records);
int fnd_snapshot_writer_finish(struct fnd_snapshot_writer *w, uint32_t flags,
			       struct fnd_snapshot_info *ret_info);
void fnd_snapshot_writer_free(struct fnd_snapshot_writer *w);

/* The bytes not yet looked at of a block's payload. */
struct fnd_snapshot_cursor {
	const unsigned char *p;
	size_t left;
};

/* NULL, or what is wrong. The record points into the cursor's bytes and to @owner. */
const char *fnd_snapshot_decode_table(struct fnd_snapshot_cursor *c, struct fnd_snapshot_table *t);
const char *fnd_snapshot_decode_record(struct fnd_snapshot_cursor *c, const struct fnd_snapshot_table *t,
				       struct fnd_snapshot_record *r, struct fnd_owner *owner);

/* Where bytes come from: a descriptor, or memory when @mem is not NULL. */
struct fnd_snapshot_source {
	int fd;
	const unsigned char *mem;
	uint64_t size; /* bytes that there are; UINT64_MAX: not known, it is a pipe */
	size_t peak;   /* most bytes allocated for a block: for tests */
};

int fnd_snapshot_source_fd(int fd, struct fnd_snapshot_source *ret_src);
int fnd_snapshot_parse(struct fnd_snapshot_source *src, const struct fnd_snapshot_visitor *visitor,
		       struct fnd_snapshot_info *ret_info);

#endif
