/* SPDX-License-Identifier: MIT */
/*
 * The writing half of snapshots: a strictly sequential stream of checksummed blocks.
 *
 * Nothing is ever written twice and nothing is seeked, so the stream may be a pipe. What is known only at
 * the end (counts, the hash, whether writers were seen) is in the footer.
 */
#include <endian.h>
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <isa-l/crc.h>
#include <msgpack.h>
#include <xxhash.h>

#include "error.h"
#include "snapshot.h"

uint32_t fnd_crc32c(uint32_t crc, const void *buf, size_t bytes)
{
	/* ISA-L leaves both inversions of the standard checksum to its caller, and counts in int. */
	return ~crc32_iscsi((unsigned char *)(uintptr_t)buf, (int)bytes, ~crc);
}

int fnd_snapshot_write_all(int fd, const void *buf, size_t left)
{
	const unsigned char *p = buf;

	while (left) {
		ssize_t n = write(fd, p, left);

		if (n >= 0) {
			p += n;
			left -= (size_t)n;
			continue;
		}
		if (errno == EAGAIN) {
			struct pollfd pfd = { .fd = fd, .events = POLLOUT };

			poll(&pfd, 1, -1);
		} else if (errno != EINTR) {
			return -errno;
		}
	}
	return 0;
}

static int emit(struct fnd_snapshot_writer *w, const void *p, size_t bytes)
{
	int err = fnd_snapshot_write_all(w->fd, p, bytes);

	if (err)
		return fnd_fail(-err, "writing the snapshot at offset %llu",
				(unsigned long long)w->offset);
	if (XXH3_128bits_update(w->hash, p, bytes) != XXH_OK)
		return fnd_fail(ENOMEM, "hashing the snapshot");
	w->offset += bytes;
	return 0;
}

int fnd_snapshot_writer_start(struct fnd_snapshot_writer *w, int fd,
			      const struct fnd_snapshot_info *info)
{
	struct fnd_snap_header h = {
		.version = htole32(FND_SNAPSHOT_VERSION),
		.header_bytes = htole32((uint32_t)sizeof(h)),
		.created_ns = htole64(info->created_ns),
		.flags = htole32(FND_SNAPSHOT_SHARD_EXACT),
		.default_capacity = htole64(info->default_capacity),
		.max_bytes = htole64(info->max_bytes),
		.processes = htole32(info->processes),
		.threads = htole32(info->threads),
		.segment_flags = htole32(info->segment_flags),
		.sample_every = htole32(info->sample_every),
	};

	memset(w, 0, sizeof(*w));
	w->fd = fd;
	w->header_flags = FND_SNAPSHOT_SHARD_EXACT;
	w->hash = XXH3_createState();
	w->block = malloc(FND_SNAP_BLOCK_MAX);
	if (!w->hash || !w->block || XXH3_128bits_reset(w->hash) != XXH_OK)
		return fnd_fail(ENOMEM, "the snapshot's block buffer");
	memcpy(h.magic, FND_SNAP_MAGIC, sizeof(h.magic));
	memcpy(h.uuid, info->uuid, sizeof(h.uuid));
	memcpy(h.segment, info->segment, strnlen(info->segment, sizeof(h.segment) - 1));
	memcpy(h.creator, info->creator, strnlen(info->creator, sizeof(h.creator) - 1));
	h.crc = htole32(fnd_crc32c(0, &h, offsetof(struct fnd_snap_header, crc)));
	return emit(w, &h, sizeof(h));
}

/* The payload is already in w->block, behind the room for this header. */
static int emit_block(struct fnd_snapshot_writer *w, uint32_t type, uint32_t bytes, uint32_t records)
{
	struct fnd_snap_block b = {
		.magic = htole32(FND_SNAP_BLOCK_MAGIC),
		.type = htole32(type),
		.sequence = htole64(w->blocks),
		.payload_bytes = htole32(bytes),
		.records = htole32(records),
	};
	uint32_t crc = fnd_crc32c(0, &b, offsetof(struct fnd_snap_block, crc));

	b.crc = htole32(fnd_crc32c(crc, w->block + sizeof(b), bytes));
	memcpy(w->block, &b, sizeof(b));
	w->blocks++;
	return emit(w, w->block, sizeof(b) + bytes);
}

static int flush(struct fnd_snapshot_writer *w)
{
	uint32_t bytes = w->used, count = w->count;

	if (!count)
		return 0;
	w->used = 0;
	w->count = 0;
	return emit_block(w, FND_SNAP_RECORDS, bytes, count);
}

int fnd_snapshot_writer_block(struct fnd_snapshot_writer *w, uint32_t type, const void *payload,
			      uint32_t bytes, uint32_t records)
{
	int err = flush(w);

	if (err)
		return err;
	if (bytes > FND_SNAP_PAYLOAD_MAX)
		return fnd_fail(EINVAL, "a block's payload is at most %u bytes", FND_SNAP_PAYLOAD_MAX);
	memcpy(w->block + sizeof(struct fnd_snap_block), payload, bytes);
	return emit_block(w, type, bytes, records);
}

/* msgpack's sink. The bound is the caller's: see FND_SNAP_RECORD_MAX. */
static int append(void *data, const char *buf, size_t bytes)
{
	struct fnd_snapshot_writer *w = data;

	if (bytes > FND_SNAP_PAYLOAD_MAX - w->used)
		return -1;
	if (bytes) /* an empty value may have no address */
		memcpy(w->block + sizeof(struct fnd_snap_block) + w->used, buf, bytes);
	w->used += (uint32_t)bytes;
	return 0;
}

int fnd_snapshot_writer_table(struct fnd_snapshot_writer *w, const struct fnd_snapshot_table *t)
{
	size_t len = strnlen(t->name, sizeof(t->name));
	msgpack_packer pk;
	uint32_t bytes;
	int err = flush(w);

	if (err)
		return err;
	msgpack_packer_init(&pk, w, append);
	msgpack_pack_array(&pk, 5);
	msgpack_pack_str(&pk, len);
	msgpack_pack_str_body(&pk, t->name, len);
	msgpack_pack_uint32(&pk, t->flags);
	msgpack_pack_uint32(&pk, t->key_max);
	msgpack_pack_uint32(&pk, t->value_max);
	msgpack_pack_uint64(&pk, t->capacity);
	bytes = w->used;
	w->used = 0;
	w->tables++;
	w->table_flags = t->flags;
	return emit_block(w, FND_SNAP_TABLE, bytes, 1);
}

int fnd_snapshot_writer_record(struct fnd_snapshot_writer *w, const struct fnd_snapshot_record *r)
{
	msgpack_packer pk;
	int err;

	if (!r->key_bytes || r->key_bytes > FND_KEY_MAX || r->value_bytes > FND_VALUE_MAX)
		return fnd_fail(EINVAL, "a record of %zu + %zu bytes", r->key_bytes, r->value_bytes);
	if (!r->owner != !(w->table_flags & FND_TABLE_OWNED))
		return fnd_fail(EINVAL, "a record's owner and its table do not agree");
	if (w->used > FND_SNAP_PAYLOAD_MAX - FND_SNAP_RECORD_MAX) {
		err = flush(w);
		if (err)
			return err;
	}
	msgpack_packer_init(&pk, w, append);
	msgpack_pack_array(&pk, 3);
	msgpack_pack_bin(&pk, r->key_bytes);
	msgpack_pack_bin_body(&pk, r->key, r->key_bytes);
	msgpack_pack_bin(&pk, r->value_bytes);
	msgpack_pack_bin_body(&pk, r->value, r->value_bytes);
	if (r->owner) {
		msgpack_pack_array(&pk, 3);
		msgpack_pack_uint32(&pk, r->owner->pid);
		msgpack_pack_uint32(&pk, r->owner->slot);
		msgpack_pack_uint32(&pk, r->owner->generation);
	} else {
		msgpack_pack_nil(&pk);
	}
	w->count++;
	w->records++;
	return 0;
}

int fnd_snapshot_writer_finish(struct fnd_snapshot_writer *w, uint32_t flags,
			       struct fnd_snapshot_info *ret_info)
{
	struct fnd_snap_footer f = {
		.magic = htole32(FND_SNAP_FOOTER_MAGIC),
		.footer_bytes = htole32((uint32_t)sizeof(f)),
		.flags = htole32(flags),
	};
	XXH128_canonical_t hash;
	int err = flush(w);

	if (err)
		return err;
	f.blocks = htole64(w->blocks);
	f.tables = htole64(w->tables);
	f.records = htole64(w->records);
	f.offset = htole64(w->offset);
	if (XXH3_128bits_update(w->hash, &f, offsetof(struct fnd_snap_footer, hash)) != XXH_OK)
		return fnd_fail(ENOMEM, "hashing the snapshot");
	XXH128_canonicalFromHash(&hash, XXH3_128bits_digest(w->hash));
	memcpy(f.hash, hash.digest, sizeof(f.hash));
	f.crc = htole32(fnd_crc32c(0, &f, offsetof(struct fnd_snap_footer, crc)));
	memcpy(f.end_magic, FND_SNAP_END_MAGIC, sizeof(f.end_magic));
	err = emit(w, &f, sizeof(f));
	if (err)
		return err;
	if (ret_info) {
		ret_info->version = FND_SNAPSHOT_VERSION;
		ret_info->flags = w->header_flags | flags;
		ret_info->tables = w->tables;
		ret_info->blocks = w->blocks;
		ret_info->records = w->records;
		ret_info->bytes = w->offset;
		memcpy(ret_info->hash, f.hash, sizeof(ret_info->hash));
	}
	return 0;
}

void fnd_snapshot_writer_free(struct fnd_snapshot_writer *w)
{
	XXH3_freeState(w->hash);
	free(w->block);
	w->hash = NULL;
	w->block = NULL;
}
