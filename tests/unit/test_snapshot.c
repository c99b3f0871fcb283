// SPDX-License-Identifier: MIT
/*
 * The snapshot format: what is written comes back; whatever is not exactly what was written is refused,
 * with the place, and without allocating more than there is.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <msgpack.h>

#include "snapshot_images.h"

/* ---- one file, there and back ---- */

struct seen {
	unsigned int tables, records;
	size_t bytes;
	int stop_with;
};

static int see_table(const struct fnd_snapshot_table *t, void *arg)
{
	static const struct fnd_snapshot_table *const want[] = { &plain, &owned, &empty };
	struct seen *s = arg;

	CHECK(s->tables < 3, "%u tables", s->tables);
	if (s->tables < 3) {
		const struct fnd_snapshot_table *w = want[s->tables];

		CHECK(!strcmp(t->name, w->name) && t->flags == w->flags && t->key_max == w->key_max &&
			      t->value_max == w->value_max && t->capacity == w->capacity,
		      "%s", t->name);
	}
	s->tables++;
	return 0;
}

/* Record @i of the round trip: lengths that use every width of the encoding. */
static void make_record(unsigned int i, unsigned char *key, size_t *key_bytes, unsigned char *value,
			size_t *value_bytes, struct fnd_owner *o)
{
	static const size_t value_sizes[] = { 0, 1, 31, 32, 255, 256, 65535, 65536 };

	*key_bytes = 4 + i % 252;
	*value_bytes = value_sizes[i % 8];
	memset(key, 'k', *key_bytes);
	memcpy(key, &i, 4);
	memset(value, (int)(i * 7), *value_bytes);
	*o = (struct fnd_owner){ i * 70001u, i % 200, 0xffffffffu - i, 0 };
}

static int see_record(const struct fnd_snapshot_table *t, const struct fnd_snapshot_record *r, void *arg)
{
	static unsigned char key[256], value[65536];
	size_t key_bytes, value_bytes;
	struct fnd_owner o;
	struct seen *s = arg;
	unsigned int i = s->records++;

	make_record(i, key, &key_bytes, value, &value_bytes, &o);
	if (t->flags & FND_TABLE_OWNED) {
		key_bytes = 4;
		value_bytes = value_bytes < 512 ? value_bytes : 512;
		CHECK(r->owner && !memcmp(r->owner, &o, sizeof(o)), "owner of record %u", i);
	} else {
		CHECK(!r->owner, "owner of record %u", i);
	}
	CHECK(r->key_bytes == key_bytes && !memcmp(r->key, key, key_bytes), "key of record %u", i);
	CHECK(r->value_bytes == value_bytes && !memcmp(r->value, value, value_bytes), "value of record %u",
	      i);
	return s->stop_with;
}

#define PLAIN_RECORDS 400u
#define OWNED_RECORDS 300u

static struct image large_image(void)
{
	static unsigned char key[256], value[65536];
	struct fnd_snapshot_writer w;
	size_t key_bytes, value_bytes;
	struct fnd_owner o;

	begin(&w);
	fnd_snapshot_writer_table(&w, &plain);
	for (unsigned int i = 0; i < PLAIN_RECORDS; i++) {
		make_record(i, key, &key_bytes, value, &value_bytes, &o);
		put(&w, key, key_bytes, value, value_bytes, NULL);
	}
	fnd_snapshot_writer_table(&w, &owned);
	for (unsigned int i = PLAIN_RECORDS; i < PLAIN_RECORDS + OWNED_RECORDS; i++) {
		make_record(i, key, &key_bytes, value, &value_bytes, &o);
		put(&w, key, 4, value, value_bytes < 512 ? value_bytes : 512, &o);
	}
	fnd_snapshot_writer_table(&w, &empty);
	return end(&w);
}

static void check_info(const struct fnd_snapshot_info *got, const struct image *im)
{
	CHECK(got->version == 1 && got->flags == FND_SNAPSHOT_SHARD_EXACT, "%u %u", got->version, got->flags);
	CHECK(got->created_ns == head.created_ns && got->max_bytes == head.max_bytes &&
		      got->default_capacity == head.default_capacity && got->processes == 256 &&
		      got->threads == 1024 && got->sample_every == 1024,
	      "header");
	CHECK(!strcmp(got->segment, head.segment) && !strcmp(got->creator, head.creator) &&
		      !memcmp(got->uuid, head.uuid, 16),
	      "header");
	CHECK(got->tables == 3 && got->records == PLAIN_RECORDS + OWNED_RECORDS && got->bytes == im->bytes,
	      "footer");
}

static void test_round_trip(void)
{
	struct image im = large_image();
	struct seen s = { 0 };
	struct fnd_snapshot_visitor v = { sizeof(v), see_table, see_record, &s };
	struct fnd_snapshot_info info;
	int fd = memory_file();

	CHECK(!parse(&im, &v, &info, NULL), "memory");
	CHECK(s.tables == 3 && s.records == PLAIN_RECORDS + OWNED_RECORDS, "%u %u", s.tables, s.records);
	check_info(&info, &im);

	/* The same through a descriptor, from a place that is not its start. */
	CHECK(write(fd, "before", 6) == 6 && write(fd, im.p, im.bytes) == (ssize_t)im.bytes, "write");
	lseek(fd, 6, SEEK_SET);
	s = (struct seen){ 0 };
	CHECK(!fnd_snapshot_read(fd, &v, &info), "file");
	check_info(&info, &im);

	/* What a callback says ends the walk and is the result; the out-parameter stays as it was. */
	memset(&info, 0x5a, sizeof(info));
	s = (struct seen){ .stop_with = 77 };
	CHECK(parse(&im, &v, &info, NULL) == 77 && s.records == 1, "stop");
	CHECK(info.version == 0x5a5a5a5a, "touched");
	close(fd);
	free(im.p);
}

static void test_pipe(void)
{
	struct image im = small_image();
	struct fnd_snapshot_info info;

	CHECK(!through_pipe(&im, &info) && info.records == 3, "pipe");
	im.bytes--;
	CHECK(through_pipe(&im, &info) == -FND_E_CORRUPT, "cut pipe");
	im.bytes = 300;
	CHECK(through_pipe(&im, &info) == -FND_E_CORRUPT, "cut pipe");
	free(im.p);
}

/* ---- damage ---- */

/* Damage is found where it is, and not only by the hash at the end. */
static const char *place_of(const struct image *im, size_t byte)
{
	if (byte < sizeof(struct fnd_snap_header))
		return "header";
	/* A footer whose mark is damaged looks like a block that does not begin. */
	if (byte < im->bytes - sizeof(struct fnd_snap_footer) + 4)
		return "block ";
	return "footer";
}

static void test_every_bit(void)
{
	struct image im = small_image();

	CHECK(!parse(&im, NULL, NULL, NULL), "whole");
	for (size_t i = 0; i < im.bytes; i++) {
		for (unsigned int bit = 0; bit < 8; bit++) {
			size_t peak;

			im.p[i] ^= (unsigned char)(1u << bit);
			CHECK(parse(&im, NULL, NULL, &peak) == -FND_E_CORRUPT, "byte %zu, bit %u", i, bit);
			CHECK(starts(place_of(&im, i)), "byte %zu, bit %u: wrong place", i, bit);
			CHECK(peak <= im.bytes, "byte %zu, bit %u: %zu allocated", i, bit, peak);
			im.p[i] ^= (unsigned char)(1u << bit);
		}
		im.p[i] ^= 0xff;
		CHECK(parse(&im, NULL, NULL, NULL) == -FND_E_CORRUPT, "byte %zu", i);
		im.p[i] ^= 0xff;
	}
	free(im.p);
}

static void test_every_length(void)
{
	struct image im = small_image();
	size_t whole = im.bytes, peak;

	for (im.bytes = 0; im.bytes < whole; im.bytes++) {
		CHECK(parse(&im, NULL, NULL, &peak) == -FND_E_CORRUPT, "cut at %zu", im.bytes);
		CHECK(peak <= im.bytes, "cut at %zu: %zu allocated", im.bytes, peak);
	}
	im.p = realloc(im.p, whole + 1);
	im.p[whole] = 0;
	im.bytes = whole + 1;
	CHECK(parse(&im, NULL, NULL, NULL) == -FND_E_CORRUPT, "a byte more");
	free(im.p);
}

/* Three blocks of the same size that differ in content only. */
static void test_blocks_moved(void)
{
	struct fnd_snapshot_writer w;
	unsigned char payload[] = { 0x93, 0xc4, 1, 'a', 0xc4, 1, 'v', 0xc0 };
	size_t each = sizeof(struct fnd_snap_block) + sizeof(payload), first, rest;
	unsigned char swap[64];
	struct image im, cut;

	begin(&w);
	fnd_snapshot_writer_table(&w, &plain);
	first = w.offset;
	for (unsigned int i = 0; i < 3; i++) {
		payload[3] = (unsigned char)('a' + i);
		fnd_snapshot_writer_block(&w, FND_SNAP_RECORDS, payload, sizeof(payload), 1);
		w.records++;
	}
	im = end(&w);
	CHECK(!parse(&im, NULL, NULL, NULL), "whole");
	memcpy(swap, im.p + first, each);
	memcpy(im.p + first, im.p + first + each, each);
	memcpy(im.p + first + each, swap, each);
	CHECK(parse(&im, NULL, NULL, NULL) == -FND_E_CORRUPT, "swapped");
	CHECK(strstr(fnd_error_detail(), "block 1"), "place");
	memcpy(im.p + first + each, im.p + first, each);
	CHECK(parse(&im, NULL, NULL, NULL) == -FND_E_CORRUPT, "twice");

	cut = im;
	rest = im.bytes - first - each;
	memmove(cut.p + first, cut.p + first + each, rest);
	cut.bytes -= each;
	CHECK(parse(&cut, NULL, NULL, NULL) == -FND_E_CORRUPT, "left out");
	free(im.p);
}

/* ---- agreement with others ---- */

static void test_crc(void)
{
	uint32_t half = fnd_crc32c(0, "1234", 4);

	CHECK(fnd_crc32c(0, "123456789", 9) == 0xe3069283u, "the standard's check value");
	CHECK(fnd_crc32c(half, "56789", 5) == 0xe3069283u, "in two pieces");
}

/* The payloads are msgpack as msgpack-c's own decoder understands it. */
static void test_msgpack(void)
{
	struct image im = small_image();
	size_t off = sizeof(struct fnd_snap_header), objects = 0;
	struct fnd_snap_block b;

	for (;;) {
		msgpack_unpacked u;
		size_t pos = 0;

		memcpy(&b, im.p + off, sizeof(b));
		if (b.magic != FND_SNAP_BLOCK_MAGIC)
			break;
		off += sizeof(b);
		msgpack_unpacked_init(&u);
		while (pos < b.payload_bytes &&
		       msgpack_unpack_next(&u, (char *)im.p + off, b.payload_bytes, &pos) ==
			       MSGPACK_UNPACK_SUCCESS) {
			objects++;
			CHECK(u.data.type == MSGPACK_OBJECT_ARRAY &&
				      u.data.via.array.size == (b.type == FND_SNAP_TABLE ? 5 : 3),
			      "object %zu", objects);
		}
		CHECK(pos == b.payload_bytes, "block at %zu", off);
		msgpack_unpacked_destroy(&u);
		off += b.payload_bytes;
	}
	CHECK(objects == 6, "%zu objects", objects);
	free(im.p);
}

#define ROW(s, m)                                                                               \
	{                                                                                       \
#s, #m, offsetof(struct fnd_snap_##s, m), sizeof(((struct fnd_snap_##s *)0)->m) \
	}

static const struct {
	const char *object, *member;
	size_t off, bytes;
} rows[] = {
	ROW(header, magic),
	ROW(header, version),
	ROW(header, header_bytes),
	ROW(header, created_ns),
	ROW(header, flags),
	ROW(header, reserved0),
	ROW(header, uuid),
	ROW(header, segment),
	ROW(header, creator),
	ROW(header, default_capacity),
	ROW(header, max_bytes),
	ROW(header, processes),
	ROW(header, threads),
	ROW(header, segment_flags),
	ROW(header, sample_every),
	ROW(header, reserved1),
	ROW(header, crc),
	ROW(block, magic),
	ROW(block, type),
	ROW(block, sequence),
	ROW(block, payload_bytes),
	ROW(block, records),
	ROW(block, reserved0),
	ROW(block, crc),
	ROW(footer, magic),
	ROW(footer, footer_bytes),
	ROW(footer, blocks),
	ROW(footer, tables),
	ROW(footer, records),
	ROW(footer, offset),
	ROW(footer, flags),
	ROW(footer, reserved0),
	ROW(footer, hash),
	ROW(footer, reserved1),
	ROW(footer, crc),
	ROW(footer, end_magic),
};

/* docs/snapshot-format.md: every row "| offset | bytes | `object.member` | …" is what the compiler says. */
static void test_document(void)
{
	const char *source = getenv("FOUNDATION_SOURCE");
	size_t found = 0, n = sizeof(rows) / sizeof(rows[0]);
	char path[4096], line[1024];
	FILE *f;

	snprintf(path, sizeof(path), "%s/docs/snapshot-format.md", source ? source : ".");
	f = fopen(path, "re");
	CHECK(f, "%s", path);
	while (f && fgets(line, sizeof(line), f)) {
		char object[32], member[32];
		size_t off, bytes;

		if (sscanf(line, "| %zu | %zu | `%31[a-z].%31[a-z_0-9]` |", &off, &bytes, object, member) != 4)
			continue;
		CHECK(found < n && !strcmp(rows[found].object, object) && !strcmp(rows[found].member, member),
		      "row %zu is %s.%s", found, object, member);
		if (found < n)
			CHECK(rows[found].off == off && rows[found].bytes == bytes, "%s.%s at %zu, %zu bytes",
			      object, member, rows[found].off, rows[found].bytes);
		found++;
	}
	CHECK(found == n, "%zu rows of %zu", found, n);
	if (f)
		fclose(f);
}

int main(void)
{
	test_crc();
	test_round_trip();
	test_pipe();
	test_every_bit();
	test_every_length();
	test_blocks_moved();
	test_hostile();
	test_msgpack();
	test_document();
	printf("%lu checks, %u failed\n", checks, failures);
	return failures != 0;
}
