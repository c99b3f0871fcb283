// SPDX-License-Identifier: MIT
/* What a hostile writer could make, with every checksum right: refused, with the place, without allocating. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "snapshot_images.h"

static void refuse_block(const char *why, const struct fnd_snapshot_table *t, uint32_t type,
			 uint32_t records, const void *payload, uint32_t bytes)
{
	struct fnd_snapshot_writer w;
	struct image im;
	size_t peak;

	begin(&w);
	if (t)
		fnd_snapshot_writer_table(&w, t);
	fnd_snapshot_writer_block(&w, type, payload, bytes, records);
	w.records += type == FND_SNAP_RECORDS ? records : 0;
	w.tables += type == FND_SNAP_TABLE;
	im = end(&w);
	CHECK(parse(&im, NULL, NULL, &peak) == -FND_E_CORRUPT, "%s", why);
	CHECK(starts("block ") && strstr(fnd_error_detail(), "offset"), "%s", why);
	CHECK(peak <= im.bytes, "%s: %zu of %zu allocated", why, peak, im.bytes);
	free(im.p);
}

#define RECORDS(why, t, n, ...)                                                      \
	do {                                                                         \
		static const unsigned char p_[] = { __VA_ARGS__ };                   \
		refuse_block(why, t, FND_SNAP_RECORDS, n, p_, (uint32_t)sizeof(p_)); \
	} while (0)
#define TABLE(why, ...)                                                               \
	do {                                                                          \
		static const unsigned char p_[] = { __VA_ARGS__ };                    \
		refuse_block(why, NULL, FND_SNAP_TABLE, 1, p_, (uint32_t)sizeof(p_)); \
	} while (0)

static void test_hostile_records(void)
{
	static unsigned char deep[100000];

	RECORDS("no table yet", NULL, 1, 0x93, 0xc4, 1, 'a', 0xc4, 1, 'v', 0xc0);
	RECORDS("array of 4 billion", &plain, 1, 0xdd, 0xff, 0xff, 0xff, 0xff);
	RECORDS("key of 4 GB", &plain, 1, 0x93, 0xc6, 0xff, 0xff, 0xff, 0xff, 'a');
	RECORDS("value of 4 GB", &plain, 1, 0x93, 0xc4, 1, 'a', 0xc6, 0xff, 0xff, 0xff, 0xff);
	RECORDS("value longer than its block", &plain, 1, 0x93, 0xc4, 1, 'a', 0xc4, 200, 'v', 0xc0);
	RECORDS("key of no bytes", &plain, 1, 0x93, 0xc4, 0, 0xc4, 1, 'v', 0xc0);
	RECORDS("key above its limit", &empty, 1, 0x93, 0xc4, 9, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0xc4, 0, 0xc0);
	RECORDS("value above its limit", &empty, 1, 0x93, 0xc4, 1, 'a', 0xc4, 1, 'v', 0xc0);
	RECORDS("key as text", &plain, 1, 0x93, 0xa1, 'a', 0xc4, 1, 'v', 0xc0);
	RECORDS("key as a number", &plain, 1, 0x93, 7, 0xc4, 1, 'v', 0xc0);
	RECORDS("a longer encoding", &plain, 1, 0x93, 0xc5, 0, 1, 'a', 0xc4, 1, 'v', 0xc0);
	RECORDS("owner where there is none", &plain, 1, 0x93, 0xc4, 1, 'a', 0xc4, 1, 'v', 0x93, 1, 2, 3);
	RECORDS("no owner", &owned, 1, 0x93, 0xc4, 1, 'a', 0xc4, 1, 'v', 0xc0);
	RECORDS("half an owner", &owned, 1, 0x93, 0xc4, 1, 'a', 0xc4, 1, 'v', 0x93, 1);
	RECORDS("owner too large", &owned, 1, 0x93, 0xc4, 1, 'a', 0xc4, 0, 0x93, 0xcf, 0, 0, 0, 1, 0, 0, 0, 0,
		2, 3);
	RECORDS("owner negative", &owned, 1, 0x93, 0xc4, 1, 'a', 0xc4, 0, 0x93, 0xff, 2, 3);
	RECORDS("owner in a longer encoding", &owned, 1, 0x93, 0xc4, 1, 'a', 0xc4, 0, 0x93, 0xcc, 1, 2, 3);
	RECORDS("one declared, two there", &plain, 1, 0x93, 0xc4, 1, 'a', 0xc4, 0, 0xc0, 0x93, 0xc4, 1, 'b',
		0xc4, 0, 0xc0);
	RECORDS("two declared, one there", &plain, 2, 0x93, 0xc4, 1, 'a', 0xc4, 0, 0xc0);
	RECORDS("4 billion declared", &plain, UINT32_MAX, 0x93, 0xc4, 1, 'a', 0xc4, 0, 0xc0);
	RECORDS("bytes left over", &plain, 1, 0x93, 0xc4, 1, 'a', 0xc4, 0, 0xc0, 0);
	refuse_block("no records", &plain, FND_SNAP_RECORDS, 0, "", 0);
	refuse_block("unknown type", &plain, 3, 1, "x", 1);
	memset(deep, 0x91, sizeof(deep));
	refuse_block("deep nesting", &plain, FND_SNAP_RECORDS, 1, deep, sizeof(deep));
	memset(deep, 0x93, sizeof(deep));
	refuse_block("deep nesting", &plain, FND_SNAP_RECORDS, 1, deep, sizeof(deep));
	memset(deep, 0x81, sizeof(deep));
	refuse_block("deep nesting", NULL, FND_SNAP_TABLE, 1, deep, sizeof(deep));
}

static void test_hostile_tables(void)
{
	struct fnd_snapshot_table many = plain;
	struct fnd_snapshot_writer w;
	struct image im;

	TABLE("nothing", 0xc0);
	TABLE("name of no bytes", 0x95, 0xa0, 0, 8, 8, 8);
	TABLE("name with a slash", 0x95, 0xa3, 'a', '/', 'b', 0, 8, 8, 8);
	TABLE("name with a NUL", 0x95, 0xa3, 'a', 0, 'b', 0, 8, 8, 8);
	TABLE("name cut off", 0x95, 0xbf, 'a');
	TABLE("name as a long string", 0x95, 0xd9, 1, 'a', 0, 8, 8, 8);
	TABLE("unknown flag", 0x95, 0xa1, 'a', 4, 8, 8, 8);
	TABLE("no key", 0x95, 0xa1, 'a', 0, 0, 8, 8);
	TABLE("key limit of 256", 0x95, 0xa1, 'a', 0, 0xcd, 1, 0, 8, 8);
	TABLE("value limit of 65537", 0x95, 0xa1, 'a', 0, 8, 0xce, 0, 1, 0, 1, 8);
	TABLE("no room for an owner", 0x95, 0xa1, 'a', 2, 8, 15, 8);
	TABLE("capacity missing", 0x95, 0xa1, 'a', 0, 8, 8);
	TABLE("bytes left over", 0x95, 0xa1, 'a', 0, 8, 8, 8, 8);
	refuse_block("twice", &plain, FND_SNAP_TABLE, 1, "\x95\xa5plain\x00\x08\x08\x08", 11);
	refuse_block("two declared", NULL, FND_SNAP_TABLE, 2, "\x95\xa5plain\x00\x08\x08\x08", 11);

	for (unsigned int n = 64; n <= 65; n++) {
		begin(&w);
		for (unsigned int i = 0; i < n; i++) {
			snprintf(many.name, sizeof(many.name), "t%u", i);
			fnd_snapshot_writer_table(&w, &many);
		}
		im = end(&w);
		CHECK(parse(&im, NULL, NULL, NULL) == (n == 64 ? 0 : -FND_E_CORRUPT), "%u tables", n);
		free(im.p);
	}
}

/* Changes a member at @off of a struct at @base and puts its checksum right. */
static void forge(struct image *im, size_t base, size_t off, const void *bytes, size_t n, size_t crc_off,
		  size_t tail)
{
	uint32_t crc;

	memcpy(im->p + base + off, bytes, n);
	crc = fnd_crc32c(0, im->p + base, crc_off);
	if (tail)
		crc = fnd_crc32c(crc, im->p + base + crc_off + 4, tail);
	memcpy(im->p + base + crc_off, &crc, 4);
}

#define FORGE_HEADER(im, member, v)                                                 \
	forge(im, 0, offsetof(struct fnd_snap_header, member), &(uint32_t){ v }, 4, \
	      offsetof(struct fnd_snap_header, crc), 0)

static void test_hostile_header(void)
{
	static const uint32_t lengths[] = { 0, 15, 16, 20, 255, 257, 4096, 4097, UINT32_MAX };
	struct image im;

	for (size_t i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++) {
		im = small_image();
		FORGE_HEADER(&im, header_bytes, lengths[i]);
		CHECK(parse(&im, NULL, NULL, NULL) == -FND_E_CORRUPT, "header of %u bytes", lengths[i]);
		free(im.p);
	}
	im = small_image();
	FORGE_HEADER(&im, reserved0, 1);
	CHECK(parse(&im, NULL, NULL, NULL) == -FND_E_CORRUPT, "reserved");
	FORGE_HEADER(&im, reserved0, 0);
	FORGE_HEADER(&im, flags, 0x80000001u);
	CHECK(parse(&im, NULL, NULL, NULL) == -FND_E_CORRUPT, "flags");
	FORGE_HEADER(&im, flags, 1);
	forge(&im, 0, offsetof(struct fnd_snap_header, segment) + 79, "x", 1, 252, 0);
	CHECK(parse(&im, NULL, NULL, NULL) == -FND_E_CORRUPT, "bytes behind the name");
	forge(&im, 0, offsetof(struct fnd_snap_header, segment) + 79, "", 1, 252, 0);
	CHECK(!parse(&im, NULL, NULL, NULL), "whole again");
	FORGE_HEADER(&im, version, 2);
	CHECK(parse(&im, NULL, NULL, NULL) == -FND_E_TOO_NEW, "later version");
	FORGE_HEADER(&im, version, 0);
	CHECK(parse(&im, NULL, NULL, NULL) == -FND_E_CORRUPT, "version 0");
	free(im.p);
}

static void test_hostile_block(void)
{
	static const uint32_t sizes[] = { 0, 1, 1u << 20, FND_SNAP_PAYLOAD_MAX, INT32_MAX, UINT32_MAX };
	size_t off = offsetof(struct fnd_snap_block, payload_bytes), peak;
	size_t base = sizeof(struct fnd_snap_header);
	struct image im = small_image();
	uint32_t payload;

	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		forge(&im, base, off, &sizes[i], 4, offsetof(struct fnd_snap_block, crc), 0);
		CHECK(parse(&im, NULL, NULL, &peak) == -FND_E_CORRUPT, "payload of %u", sizes[i]);
		CHECK(peak <= im.bytes, "payload of %u: %zu allocated", sizes[i], peak);
		CHECK(through_pipe(&im, NULL) == -FND_E_CORRUPT, "payload of %u", sizes[i]);
	}
	free(im.p);
	im = small_image();
	memcpy(&payload, im.p + base + off, 4);
	forge(&im, base, offsetof(struct fnd_snap_block, reserved0), &(uint32_t){ 1 }, 4,
	      offsetof(struct fnd_snap_block, crc), payload);
	CHECK(parse(&im, NULL, NULL, NULL) == -FND_E_CORRUPT, "reserved");
	CHECK(strstr(fnd_error_detail(), "reserved"), "place");
	free(im.p);
}

static void test_hostile_footer(void)
{
	static const struct {
		const char *what;
		size_t off;
	} members[] = {
		{ "size", offsetof(struct fnd_snap_footer, footer_bytes) },
		{ "blocks", offsetof(struct fnd_snap_footer, blocks) },
		{ "tables", offsetof(struct fnd_snap_footer, tables) },
		{ "records", offsetof(struct fnd_snap_footer, records) },
		{ "records", offsetof(struct fnd_snap_footer, records) + 4 },
		{ "offset", offsetof(struct fnd_snap_footer, offset) },
		{ "flags", offsetof(struct fnd_snap_footer, flags) },
		{ "reserved0", offsetof(struct fnd_snap_footer, reserved0) },
		{ "hash", offsetof(struct fnd_snap_footer, hash) },
		{ "reserved1", offsetof(struct fnd_snap_footer, reserved1) },
	};

	for (size_t i = 0; i < sizeof(members) / sizeof(members[0]); i++) {
		struct image im = small_image();
		size_t base = im.bytes - sizeof(struct fnd_snap_footer);

		forge(&im, base, members[i].off, &(uint32_t){ 0x7f }, 4,
		      offsetof(struct fnd_snap_footer, crc), 0);
		CHECK(parse(&im, NULL, NULL, NULL) == -FND_E_CORRUPT, "%s", members[i].what);
		CHECK(strstr(fnd_error_detail(), "footer"), "%s", members[i].what);
		free(im.p);
	}
}

void test_hostile(void)
{
	test_hostile_records();
	test_hostile_tables();
	test_hostile_header();
	test_hostile_block();
	test_hostile_footer();
}
