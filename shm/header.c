// SPDX-License-Identifier: MIT
#include "header.h"

#include <inttypes.h>
#include <string.h>
#include <unistd.h>

#ifndef XXH_INLINE_ALL
#define XXH_INLINE_ALL
#endif
#include <xxhash.h>

#include "error.h"

uint64_t fnd_layout_hash(void)
{
	XXH3_state_t state;

	XXH3_64bits_reset(&state);
	for (uint32_t i = 0; i < fnd_layout_member_count; i++) {
		const struct fnd_layout_member *m = &fnd_layout_members[i];
		const uint32_t place[2] = { m->offset, m->bytes };

		/* With their final NULs, so that no two tables spell the same bytes. */
		XXH3_64bits_update(&state, m->structure, strlen(m->structure) + 1);
		XXH3_64bits_update(&state, m->member, strlen(m->member) + 1);
		XXH3_64bits_update(&state, place, sizeof(place));
	}
	return XXH3_64bits_digest(&state);
}

uint64_t fnd_header_checksum(const struct fnd_shm_header *h)
{
	return XXH3_64bits(h, offsetof(struct fnd_shm_header, checksum));
}

uint64_t fnd_home_checksum(const struct fnd_shm_header *h)
{
	const size_t from = offsetof(struct fnd_shm_header, boot_id);

	return XXH3_64bits((const char *)h + from,
			   offsetof(struct fnd_shm_header, home_checksum) - from);
}

static int check_version(const struct fnd_shm_header *h)
{
	if (h->layout_major < FND_LAYOUT_MAJOR)
		return fnd_fail(FND_E_TOO_OLD, "layout_major is %" PRIu32 ", this library reads %u",
				h->layout_major, FND_LAYOUT_MAJOR);
	if (h->layout_major > FND_LAYOUT_MAJOR)
		return fnd_fail(FND_E_TOO_NEW, "layout_major is %" PRIu32 ", this library reads %u",
				h->layout_major, FND_LAYOUT_MAJOR);
	if (h->feature_incompat & ~FND_INCOMPAT_KNOWN)
		return fnd_fail(FND_E_TOO_NEW, "feature_incompat has the unknown bits 0x%" PRIx32,
				h->feature_incompat & ~FND_INCOMPAT_KNOWN);
	if (h->feature_ro_compat & ~FND_RO_COMPAT_KNOWN)
		return fnd_fail(FND_E_TOO_NEW, "feature_ro_compat has the unknown bits 0x%" PRIx32,
				h->feature_ro_compat & ~FND_RO_COMPAT_KNOWN);
	return 0;
}

static int check_layout(const struct fnd_shm_header *h)
{
	const long page = sysconf(_SC_PAGESIZE);
	const uint64_t hash = fnd_layout_hash();

	if (h->endian != FND_ENDIAN)
		return fnd_fail(FND_E_LAYOUT, "endian is 0x%08" PRIx32 ", here it is 0x%08x", h->endian,
				FND_ENDIAN);
	if (h->page_bytes != (uint64_t)page)
		return fnd_fail(FND_E_LAYOUT, "page_bytes is %" PRIu32 ", here it is %ld", h->page_bytes, page);
	if (h->line_bytes != FND_LINE)
		return fnd_fail(FND_E_LAYOUT, "line_bytes is %" PRIu32 ", here it is %u", h->line_bytes,
				FND_LINE);
	if (h->header_bytes != FND_HEADER_BYTES)
		return fnd_fail(FND_E_LAYOUT, "header_bytes is %" PRIu32 ", here it is %u", h->header_bytes,
				FND_HEADER_BYTES);
	if (h->layout_hash == hash)
		return 0;
	/* A later minor version that changed no member this library knows has our hash. */
	if (h->layout_minor > FND_LAYOUT_MINOR)
		return fnd_fail(FND_E_TOO_NEW, "layout_minor is %" PRIu32 ", this library reads %u",
				h->layout_minor, FND_LAYOUT_MINOR);
	if (h->layout_minor != FND_LAYOUT_MINOR)
		return fnd_fail(FND_E_TOO_OLD, "layout_minor is %" PRIu32 ", this library reads %u",
				h->layout_minor, FND_LAYOUT_MINOR);
	return fnd_fail(FND_E_LAYOUT, "layout_hash is 0x%016" PRIx64 ", here it is 0x%016" PRIx64,
			h->layout_hash, hash);
}

/* One part after the other, each aligned to lines, none over the next: where the last ends. */
static int check_ranges(const struct fnd_shm_header *h, uint64_t file_bytes)
{
	const struct {
		const char *member;
		uint64_t off;
		uint64_t bytes;
	} part[] = {
		{ "process_off", h->process_off, (h->processes + 1ULL) * sizeof(struct fnd_shm_process) },
		{ "thread_off", h->thread_off, (h->threads + 1ULL) * sizeof(struct fnd_shm_thread) },
		{ "cell_off", h->cell_off, (h->threads + 1ULL) * sizeof(struct fnd_shm_cell) },
		{ "area_off", h->area_off, (h->threads + 1ULL) * sizeof(struct fnd_shm_area) },
		{ "remains_off", h->remains_off, FND_SHM_REMAINS * sizeof(struct fnd_shm_remains) },
		{ "table_off", h->table_off, (uint64_t)FND_TABLES * sizeof(struct fnd_shm_table) },
		{ "span_off", h->span_off, 0 },
	};
	uint64_t end = FND_HEADER_BYTES;

	for (size_t i = 0; i < sizeof(part) / sizeof(part[0]); i++) {
		uint64_t off = part[i].off;

		if (off % FND_LINE || off < end || off > h->max_bytes ||
		    part[i].bytes > h->max_bytes - off)
			return fnd_fail(FND_E_CORRUPT, "%s is %" PRIu64 ": it does not fit behind %" PRIu64,
					part[i].member, off, end);
		end = off + part[i].bytes;
	}
	if (end > file_bytes)
		return fnd_fail(FND_E_CORRUPT, "span_off is %" PRIu64 ", the file has %" PRIu64
				" bytes: it was truncated", end, file_bytes);
	return 0;
}

static int check_sizes(const struct fnd_shm_header *h)
{
	if (h->processes == 0 || h->processes > FND_PROCESSES_MAX)
		return fnd_fail(FND_E_CORRUPT, "processes is %" PRIu32 ", not 1 to %u", h->processes,
				FND_PROCESSES_MAX);
	if (h->threads == 0 || h->threads > FND_THREADS_MAX)
		return fnd_fail(FND_E_CORRUPT, "threads is %" PRIu32 ", not 1 to %u", h->threads,
				FND_THREADS_MAX);
	if (h->tables != FND_TABLES)
		return fnd_fail(FND_E_CORRUPT, "tables is %" PRIu32 ", not %u", h->tables, FND_TABLES);
	if (h->max_bytes > FND_MAX_BYTES_LIMIT)
		return fnd_fail(FND_E_CORRUPT, "max_bytes is %" PRIu64 ", more than %llu", h->max_bytes,
				(unsigned long long)FND_MAX_BYTES_LIMIT);
	return 0;
}

int fnd_header_check_fixed(const struct fnd_shm_header *h, uint64_t file_bytes)
{
	int err;

	if (file_bytes < FND_HEADER_BYTES)
		return h->magic == FND_MAGIC && file_bytes >= sizeof(h->magic) ?
			fnd_fail(FND_E_CORRUPT, "the file has %" PRIu64 " bytes, its header alone has %u",
				 file_bytes, FND_HEADER_BYTES) :
			fnd_fail(FND_E_FOREIGN, "the file has %" PRIu64 " bytes and no magic", file_bytes);
	if (h->magic == __builtin_bswap64(FND_MAGIC))
		return fnd_fail(FND_E_LAYOUT, "magic is byte-swapped: made with the other byte order");
	if (h->magic != FND_MAGIC)
		return fnd_fail(FND_E_FOREIGN, "magic is 0x%016" PRIx64 ", a segment's is 0x%016llx",
				h->magic, FND_MAGIC);
	err = check_version(h);
	if (!err)
		err = check_layout(h);
	if (err)
		return err;
	if (h->checksum != fnd_header_checksum(h))
		return fnd_fail(FND_E_CORRUPT, "checksum is 0x%016" PRIx64 ", the header's bytes give 0x%016"
				PRIx64, h->checksum, fnd_header_checksum(h));
	err = check_sizes(h);
	return err ? err : check_ranges(h, file_bytes);
}

int fnd_home_check(const struct fnd_shm_header *h)
{
	if (h->home_checksum == fnd_home_checksum(h))
		return 0;
	return fnd_fail(FND_E_CORRUPT, "home_checksum is 0x%016" PRIx64 ", boot_id, pidns_ino and timens_ino "
			"give 0x%016" PRIx64 ": damaged, or a takeover was cut short", h->home_checksum,
			fnd_home_checksum(h));
}

int fnd_header_check(const struct fnd_shm_header *h, uint64_t file_bytes)
{
	int err = fnd_header_check_fixed(h, file_bytes);

	return err ? err : fnd_home_check(h);
}
