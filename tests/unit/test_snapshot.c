// SPDX-License-Identifier: MIT
/*
 * The snapshot format: what is written comes back; whatever is not exactly what was written is refused,
 * with the place, and without allocating more than there is.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <msgpack.h>

#include "snapshot.h"

static unsigned int failures;
static unsigned long checks;

#define CHECK(cond, ...)                                                           \
	do {                                                                       \
		checks++;                                                          \
		if (!(cond)) {                                                     \
			failures++;                                                \
			fprintf(stderr, "%s:%d: %s: ", __FILE__, __LINE__, #cond); \
			fprintf(stderr, __VA_ARGS__);                              \
			fprintf(stderr, " (%s)\n", fnd_error_detail());            \
		}                                                                  \
	} while (0)

struct image {
	unsigned char *p;
	size_t bytes;
};

static const struct fnd_snapshot_info head = {
	.created_ns = 1700000000123456789ull,
	.segment = "1000/orders",
	.uuid = { 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16 },
	.creator = "0.1.0",
	.default_capacity = 16384,
	.max_bytes = 1ull << 30,
	.processes = 256,
	.threads = 1024,
	.sample_every = 1024,
};
static const struct fnd_snapshot_table plain = { "plain", 0, 255, 65536, 1000 };
static const struct fnd_snapshot_table owned = { "agents", FND_TABLE_OWNED, 64, 528, 300 };
static const struct fnd_snapshot_table empty = { "empty", FND_TABLE_FIXED, 8, 0, 5000000000ull };

/* ---- making files ---- */

static int memory_file(void)
{
	int fd = memfd_create("snapshot", MFD_CLOEXEC);

	if (fd < 0) {
		perror("memfd_create");
		exit(1);
	}
	return fd;
}

static struct image take_image(int fd)
{
	struct image im = { .bytes = (size_t)lseek(fd, 0, SEEK_END) };

	im.p = malloc(im.bytes ? im.bytes : 1);
	if (!im.p || pread(fd, im.p, im.bytes, 0) != (ssize_t)im.bytes) {
		perror("reading back");
		exit(1);
	}
	close(fd);
	return im;
}

static void begin(struct fnd_snapshot_writer *w)
{
	CHECK(!fnd_snapshot_writer_start(w, memory_file(), &head), "start");
}

static struct image end(struct fnd_snapshot_writer *w)
{
	CHECK(!fnd_snapshot_writer_finish(w, 0, NULL), "finish");
	fnd_snapshot_writer_free(w);
	return take_image(w->fd);
}

static void put(struct fnd_snapshot_writer *w, const void *key, size_t key_bytes, const void *value,
		size_t value_bytes, const struct fnd_owner *owner)
{
	struct fnd_snapshot_record r = { key, key_bytes, value, value_bytes, owner, 0, 0 };

	CHECK(!fnd_snapshot_writer_record(w, &r), "record of %zu + %zu", key_bytes, value_bytes);
}

/* Small, and with one of everything: header, definitions, two blocks of records, footer. */
static struct image small_image(void)
{
	struct fnd_owner o = { 4242, 7, 300, 0 };
	struct fnd_snapshot_writer w;

	begin(&w);
	fnd_snapshot_writer_table(&w, &plain);
	put(&w, "alpha", 5, "one", 3, NULL);
	put(&w, "beta", 4, NULL, 0, NULL);
	fnd_snapshot_writer_table(&w, &empty);
	fnd_snapshot_writer_table(&w, &owned);
	put(&w, "db/primary", 10, "\0\1\2", 3, &o);
	return end(&w);
}

static int parse(const struct image *im, const struct fnd_snapshot_visitor *v,
		 struct fnd_snapshot_info *ret_info, size_t *ret_peak)
{
	struct fnd_snapshot_source src = { .fd = -1, .mem = im->p, .size = im->bytes };
	int err = fnd_snapshot_parse(&src, v, ret_info);

	if (ret_peak)
		*ret_peak = src.peak;
	return err;
}

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

/* Feeds an image through a pipe, in pieces of an odd size. */
static int through_pipe(const struct image *im, struct fnd_snapshot_info *ret_info)
{
	int p[2], status, err;
	pid_t pid;

	if (pipe(p) || (pid = fork()) < 0)
		return -errno;
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		close(p[0]);
		for (size_t off = 0; off < im->bytes;) {
			size_t n = im->bytes - off < 777 ? im->bytes - off : 777;

			if (write(p[1], im->p + off, n) != (ssize_t)n)
				_exit(1);
			off += n;
		}
		_exit(0);
	}
	close(p[1]);
	err = fnd_snapshot_verify(p[0], ret_info);
	close(p[0]);
	waitpid(pid, &status, 0);
	return err;
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

/* Is this how the detail of the last failure begins? */
static bool starts(const char *with)
{
	return !strncmp(fnd_error_detail(), with, strlen(with));
}

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

/* ---- what a hostile writer could make, with every checksum right ---- */

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
	test_hostile_records();
	test_hostile_tables();
	test_hostile_header();
	test_hostile_block();
	test_hostile_footer();
	test_msgpack();
	test_document();
	printf("%lu checks, %u failed\n", checks, failures);
	return failures != 0;
}
