// SPDX-License-Identifier: MIT
/* Every member of the header that can refuse a segment does so with its own code and by its own name. */
#include <criterion/criterion.h>
#include <string.h>
#include <unistd.h>

#include "error.h"
#include "header.h"

#define FILE_BYTES (64u << 20)

static void seal(struct fnd_shm_header *h)
{
	h->checksum = fnd_header_checksum(h);
	h->home_checksum = fnd_home_checksum(h);
}

static void make(struct fnd_shm_header *h)
{
	memset(h, 0, sizeof(*h));
	h->magic = FND_MAGIC;
	h->layout_major = FND_LAYOUT_MAJOR;
	h->layout_minor = FND_LAYOUT_MINOR;
	h->layout_hash = fnd_layout_hash();
	h->endian = FND_ENDIAN;
	h->page_bytes = (uint32_t)sysconf(_SC_PAGESIZE);
	h->line_bytes = FND_LINE;
	h->header_bytes = FND_HEADER_BYTES;
	h->processes = 16;
	h->threads = 32;
	h->tables = FND_TABLES;
	memset(h->uuid, 0x5a, sizeof(h->uuid));
	h->hash_seed = 0x1234567890abcdefULL;
	h->created_ns = 1700000000000000000ULL;
	h->max_bytes = 1ULL << 30;
	h->default_capacity = 16384;
	h->process_off = FND_HEADER_BYTES;
	h->thread_off = h->process_off + (h->processes + 1) * sizeof(struct fnd_shm_process);
	h->cell_off = h->thread_off + (h->threads + 1) * sizeof(struct fnd_shm_thread);
	h->area_off = h->cell_off + (h->threads + 1) * sizeof(struct fnd_shm_cell);
	h->remains_off = h->area_off + (h->threads + 1) * sizeof(struct fnd_shm_area);
	h->table_off = h->remains_off + FND_SHM_REMAINS * sizeof(struct fnd_shm_remains);
	h->span_off = h->table_off + h->tables * sizeof(struct fnd_shm_table);
	memcpy(h->creator_version, "0.1.0", 6);
	memset(h->boot_id, 0x77, sizeof(h->boot_id));
	h->pidns_ino = 4026531836u;
	h->timens_ino = 4026531834u;
	seal(h);
}

/* The refusal is @code, and its detail names @member. */
static void refused(const struct fnd_shm_header *h, uint64_t file_bytes, int code, const char *member)
{
	int err = fnd_header_check(h, file_bytes);

	cr_expect_eq(err, -code, "%s: result %d (%s), expected %d", member, err, fnd_error_detail(), -code);
	cr_expect(strstr(fnd_error_detail(), member), "'%s' does not name %s", fnd_error_detail(), member);
}

Test(header, sound)
{
	struct fnd_shm_header h;

	make(&h);
	cr_assert_eq(fnd_header_check(&h, FILE_BYTES), 0, "%s", fnd_error_detail());
	cr_assert_eq(fnd_header_check(&h, h.span_off), 0, "%s", fnd_error_detail());
}

#define REFUSED(member, value, code)                                                              \
	do {                                                                                      \
		struct fnd_shm_header h_;                                                         \
		make(&h_);                                                                        \
		h_.member = (value);                                                              \
		seal(&h_);                                                                        \
		refused(&h_, FILE_BYTES, code, #member);                                          \
	} while (0)

Test(header, version_and_features)
{
	REFUSED(magic, 0, FND_E_FOREIGN);
	REFUSED(magic, FND_MAGIC + 1, FND_E_FOREIGN);
	REFUSED(magic, __builtin_bswap64(FND_MAGIC), FND_E_LAYOUT);
	REFUSED(layout_major, FND_LAYOUT_MAJOR - 1, FND_E_TOO_OLD);
	REFUSED(layout_major, FND_LAYOUT_MAJOR + 1, FND_E_TOO_NEW);
	REFUSED(layout_major, UINT32_MAX, FND_E_TOO_NEW);
	REFUSED(feature_incompat, 1u << 31, FND_E_TOO_NEW);
	REFUSED(feature_incompat, ~FND_INCOMPAT_KNOWN, FND_E_TOO_NEW);
	REFUSED(feature_ro_compat, 1u << 7, FND_E_TOO_NEW);
}

Test(header, layout)
{
	REFUSED(layout_hash, 0, FND_E_LAYOUT);
	REFUSED(layout_hash, fnd_layout_hash() ^ 1, FND_E_LAYOUT);
	REFUSED(endian, __builtin_bswap32(FND_ENDIAN), FND_E_LAYOUT);
	REFUSED(page_bytes, 65536, FND_E_LAYOUT);
	REFUSED(line_bytes, 128, FND_E_LAYOUT);
	REFUSED(header_bytes, 8192, FND_E_LAYOUT);
}

/* A later minor version may add what nobody needs to know: its hash tells whether it has moved anything. */
Test(header, minor_version)
{
	struct fnd_shm_header h;

	make(&h);
	h.layout_minor = FND_LAYOUT_MINOR + 1;
	seal(&h);
	cr_assert_eq(fnd_header_check(&h, FILE_BYTES), 0, "%s", fnd_error_detail());
	h.layout_hash ^= 1;
	seal(&h);
	refused(&h, FILE_BYTES, FND_E_TOO_NEW, "layout_minor");
}

Test(header, known_and_compatible_features)
{
	struct fnd_shm_header h;

	make(&h);
	h.feature_incompat = FND_INCOMPAT_FENCED;
	h.feature_compat = UINT32_MAX;
	seal(&h);
	cr_assert_eq(fnd_header_check(&h, FILE_BYTES), 0, "%s", fnd_error_detail());
}

/* What a later version says of itself comes before what this one finds wrong with it. */
Test(header, order)
{
	struct fnd_shm_header h;

	make(&h);
	h.layout_major++;
	h.layout_hash = 0;
	h.checksum = 0;
	h.span_off = UINT64_MAX;
	refused(&h, FILE_BYTES, FND_E_TOO_NEW, "layout_major");
	h.layout_major--;
	refused(&h, FILE_BYTES, FND_E_LAYOUT, "layout_hash");
	h.layout_hash = fnd_layout_hash();
	refused(&h, FILE_BYTES, FND_E_CORRUPT, "checksum");
	seal(&h);
	refused(&h, FILE_BYTES, FND_E_CORRUPT, "span_off");
}

Test(header, checksums)
{
	struct fnd_shm_header h;

	make(&h);
	h.checksum ^= 1;
	refused(&h, FILE_BYTES, FND_E_CORRUPT, "checksum");
	make(&h);
	h.home_checksum ^= 1ULL << 63;
	refused(&h, FILE_BYTES, FND_E_CORRUPT, "home_checksum");
	cr_expect_eq(fnd_header_check_fixed(&h, FILE_BYTES), 0);
	cr_expect_eq(fnd_home_check(&h), -FND_E_CORRUPT);
}

/* Sealed with a right checksum: what a hostile creator could write. */
Test(header, ranges)
{
	REFUSED(processes, 0, FND_E_CORRUPT);
	REFUSED(processes, FND_PROCESSES_MAX + 1, FND_E_CORRUPT);
	REFUSED(processes, UINT32_MAX, FND_E_CORRUPT);
	REFUSED(threads, 0, FND_E_CORRUPT);
	REFUSED(threads, FND_THREADS_MAX + 1, FND_E_CORRUPT);
	REFUSED(tables, 0, FND_E_CORRUPT);
	REFUSED(tables, FND_TABLES + 1, FND_E_CORRUPT);
	REFUSED(max_bytes, FND_MAX_BYTES_LIMIT + 4096, FND_E_CORRUPT);
	REFUSED(max_bytes, UINT64_MAX, FND_E_CORRUPT);
	REFUSED(process_off, 0, FND_E_CORRUPT);
	REFUSED(process_off, FND_HEADER_BYTES + 8, FND_E_CORRUPT);
	REFUSED(process_off, UINT64_MAX - 63, FND_E_CORRUPT);
	REFUSED(thread_off, FND_HEADER_BYTES, FND_E_CORRUPT);
	REFUSED(thread_off, UINT64_MAX - 63, FND_E_CORRUPT);
	REFUSED(cell_off, UINT64_MAX - 63, FND_E_CORRUPT);
	REFUSED(cell_off, 0, FND_E_CORRUPT);
	REFUSED(table_off, UINT64_MAX - 63, FND_E_CORRUPT);
	REFUSED(table_off, FND_HEADER_BYTES, FND_E_CORRUPT);
	REFUSED(span_off, FND_HEADER_BYTES, FND_E_CORRUPT);
	REFUSED(span_off, FILE_BYTES + 64, FND_E_CORRUPT);
	REFUSED(span_off, UINT64_MAX - 63, FND_E_CORRUPT);
}

Test(header, truncated)
{
	struct fnd_shm_header h;

	make(&h);
	refused(&h, h.span_off - 1, FND_E_CORRUPT, "truncated");
	refused(&h, FND_HEADER_BYTES, FND_E_CORRUPT, "truncated");
	refused(&h, FND_HEADER_BYTES - 1, FND_E_CORRUPT, "header alone");
	refused(&h, 8, FND_E_CORRUPT, "header alone");
	h.magic = 0;
	refused(&h, 7, FND_E_FOREIGN, "no magic");
	refused(&h, 0, FND_E_FOREIGN, "no magic");
}

static int flip(struct fnd_shm_header *h, size_t bit)
{
	unsigned char *bytes = (unsigned char *)h;
	int err;

	bytes[bit / 8] ^= (unsigned char)(1u << bit % 8);
	err = fnd_header_check(h, FILE_BYTES);
	bytes[bit / 8] ^= (unsigned char)(1u << bit % 8);
	return err;
}

Test(header, every_bit_of_what_is_written_once)
{
	struct fnd_shm_header h;
	const size_t end = offsetof(struct fnd_shm_header, pad0) * 8;
	size_t passed = 0;

	make(&h);
	for (size_t bit = 0; bit < end; bit++)
		passed += flip(&h, bit) == 0;
	cr_expect_eq(passed, 0, "%zu of %zu flipped bits were not noticed", passed, end);
	cr_assert_eq(fnd_header_check(&h, FILE_BYTES), 0);
}

Test(header, running_members_are_not_covered)
{
	struct fnd_shm_header h;

	make(&h);
	h.epoch = 77;
	h.safe = 76;
	h.brk = h.span_off + 4096;
	h.process_high = 3;
	cr_assert_eq(fnd_header_check(&h, FILE_BYTES), 0, "%s", fnd_error_detail());
}

Test(header, layout_hash_is_stable)
{
	cr_assert_eq(fnd_layout_hash(), fnd_layout_hash());
	cr_assert_neq(fnd_layout_hash(), 0);
}
