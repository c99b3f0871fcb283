// SPDX-License-Identifier: MIT
/*
 * Segments on hostile bytes.
 *
 * The input is a list of patches for a small sound segment: {offset 3 bytes, kind 1 byte, operand}. Then the
 * verifier and the observers walk it, and a participant attaches and does a little of everything. Kinds: flip a
 * bit, store a word, add to a word, copy a word from elsewhere; bit 3 of the kind asks for checksums of the
 * header, the home and the directory to be made right at the end.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <foundation/dedup.h>
#include <foundation/observer.h>
#include <foundation/registry.h>
#include <foundation/verify.h>

#include "header.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

#define KEYS 40

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

static char name[64], path[128];
static char *image, *map;
static size_t size;
static volatile unsigned char sink;

/* --- the sound segment ---------------------------------------------------------------------------- */

static void unlink_segment(void)
{
	unlink(path);
}

static int make_tables(struct fnd_segment *seg, void *arg)
{
	struct fnd_table_options o = { sizeof(o), 0, 12, 16, 8 };
	struct fnd_registry *reg;
	struct fnd_dedup *dedup;
	struct fnd_table *t;
	char key[12];
	int err = fnd_table_open(seg, "t", &o, &t);

	(void)arg;
	for (unsigned int i = 0; !err && i < KEYS; i++)
		err = fnd_table_upsert(t, key, (size_t)snprintf(key, sizeof(key), "k%u", i), key, i % 12);
	for (unsigned int i = 0; !err && i < KEYS; i += 3)
		err = fnd_table_upsert(t, key, (size_t)snprintf(key, sizeof(key), "k%u", i), "new", 3);
	if (!err)
		err = fnd_registry_open(seg, 2, &reg);
	if (!err)
		err = fnd_registry_register(reg, "somebody", (uint32_t)getpid(), "\x80", 1, 0);
	if (!err)
		err = fnd_dedup_open(seg, 2, &dedup);
	if (!err)
		err = fnd_dedup_claim(dedup, "k", 1, "e", 1, FND_WINDOW_FOREVER) < 0;
	if (!err) {
		fnd_table_close(t);
		fnd_registry_close(reg);
		fnd_dedup_close(dedup);
	}
	return err;
}

static void make(void)
{
	struct fnd_segment_options o = { .size = sizeof(o), .processes = 2, .threads = 2, .max_bytes = 1 << 19,
					 .default_capacity = 4, .init = make_tables };
	struct stat st;
	int fd;

	snprintf(name, sizeof(name), "t-fuzz-%d", (int)getpid());
	snprintf(path, sizeof(path), "/dev/shm/foundation.%u.%s", (unsigned int)geteuid(), name);
	if (fnd_segment_create(name, &o, NULL)) {
		fprintf(stderr, "create: %s\n", fnd_error_detail());
		exit(1);
	}
	atexit(unlink_segment);
	fd = open(path, O_RDWR | O_CLOEXEC);
	if (fd < 0 || fstat(fd, &st))
		exit(1);
	size = (size_t)st.st_size;
	map = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	image = malloc(size);
	close(fd);
	if (map == MAP_FAILED || !image)
		exit(1);
	memcpy(image, map, size);
}

/* --- patches -------------------------------------------------------------------------------------- */

static void seal(void)
{
	struct fnd_shm_header *h = (struct fnd_shm_header *)map;
	const struct fnd_shm_header *sound = (const struct fnd_shm_header *)image;
	struct fnd_shm_table *d = (struct fnd_shm_table *)(map + sound->table_off);

	h->checksum = fnd_header_checksum(h);
	h->home_checksum = fnd_home_checksum(h);
	for (unsigned int i = 0; i < FND_TABLES; i++)
		d[i].checksum = XXH3_64bits(&d[i].flags, offsetof(struct fnd_shm_table, checksum) -
					    offsetof(struct fnd_shm_table, flags));
}

static void patch(const uint8_t *p, size_t bytes)
{
	int sealed = 0;

	for (; bytes >= 12; p += 12, bytes -= 12) {
		uint64_t at = (p[0] | (uint64_t)p[1] << 8 | (uint64_t)p[2] << 16) % (size - 8) & ~7ULL, operand, word;

		memcpy(&operand, p + 4, sizeof(operand));
		memcpy(&word, map + at, sizeof(word));
		switch (p[3] & 3) {
		case 0:
			word ^= 1ULL << (operand & 63);
			break;
		case 1:
			word = operand;
			break;
		case 2:
			word += (uint64_t)(int8_t)operand * 8;
			break;
		default:
			memcpy(&word, image + (operand % (size - 8) & ~7ULL), sizeof(word));
			break;
		}
		memcpy(map + at, &word, sizeof(word));
		sealed |= p[3] & 8;
	}
	if (sealed)
		seal();
}

/* --- everybody ------------------------------------------------------------------------------------ */

static int touch_record(const struct fnd_record *r, void *arg)
{
	const unsigned char *k = r->key, *v = r->value;

	(void)arg;
	for (size_t i = 0; i < r->key_bytes; i++)
		sink = (unsigned char)(sink + k[i]);
	for (size_t i = 0; i < r->value_bytes; i++)
		sink = (unsigned char)(sink + v[i]);
	return 0;
}

static int touch_defect(const struct fnd_defect *d, void *arg)
{
	(void)arg;
	sink = (unsigned char)(strlen(d->where) + strlen(d->what) + strlen(d->remedy));
	return 0;
}

static int touch_stats(const struct fnd_table_stats *t, void *arg)
{
	(void)arg;
	sink = (unsigned char)t->live;
	return 0;
}

static int touch_agent(const char *agent, const struct fnd_agent *a, void *arg)
{
	(void)arg;
	if (a->metadata_bytes > sizeof(a->metadata))
		__builtin_trap();
	sink = (unsigned char)strlen(agent);
	return 0;
}

static void look(void)
{
	struct fnd_segment_status s;
	struct fnd_observer *o;

	if (fnd_observer_open(name, &o))
		return;
	fnd_observer_status(o, &s);
	fnd_observer_tables(o, touch_stats, NULL);
	fnd_observer_records(o, "t", touch_record, NULL);
	fnd_observer_close(o);
}

static void use_table(struct fnd_table *t)
{
	struct fnd_table_stats s;
	char key[12], buf[16];
	size_t n, got;

	for (unsigned int i = 0; i < KEYS; i++) {
		n = (size_t)snprintf(key, sizeof(key), "k%u", i);
		got = 0;
		if (fnd_table_lookup(t, key, n, buf, sizeof(buf), &got) == 0 && got > sizeof(buf))
			__builtin_trap();
	}
	for (unsigned int i = 0; i < 4; i++) {
		n = (size_t)snprintf(key, sizeof(key), "k%u", i * 7);
		if (fnd_table_delete(t, key, n) == -ETIMEDOUT || fnd_table_upsert(t, key, n, "v", 1) == -ETIMEDOUT)
			break;
	}
	fnd_table_iterate(t, 0, touch_record, NULL);
	fnd_table_stats_read(t, &s);
	fnd_table_check(t);
}

static void use(struct fnd_segment *seg)
{
	struct fnd_registry *reg;
	struct fnd_dedup *dedup;
	struct fnd_table *t;

	if (fnd_table_open(seg, "t", NULL, &t) == 0) {
		use_table(t);
		fnd_table_close(t);
	}
	if (fnd_registry_open(seg, 2, &reg) == 0) {
		fnd_registry_list(reg, FND_AGENTS_ORPHANS, touch_agent, NULL);
		fnd_registry_register(reg, "somebody", 0, "\x80", 1, FND_REGISTER_TAKE);
		fnd_registry_close(reg);
	}
	if (fnd_dedup_open(seg, 2, &dedup) == 0) {
		fnd_dedup_claim(dedup, "k", 1, "e", 1, 1);
		fnd_dedup_close(dedup);
	}
	fnd_segment_reap(seg, NULL);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
	struct fnd_attach_options o = { .size = sizeof(o), .lock_timeout_ms = 5 };
	struct fnd_segment *seg;
	struct stat st;
	int sound;

	if (!map)
		make();
	memcpy(map, image, size);
	if (stat(path, &st) == 0 && (size_t)st.st_size != size && truncate(path, (off_t)size))
		__builtin_trap();
	patch(data, bytes);
	sound = memcmp(map, image, size) == 0;
	if (fnd_verify(name, touch_defect, NULL, NULL) && sound)
		__builtin_trap();
	look();
	if (fnd_segment_attach(name, &o, &seg))
		return 0;
	use(seg);
	if (fnd_segment_detach(seg)) { /* a patch says that it is in a section */
		memcpy(map, image, size);
		if (fnd_segment_detach(seg))
			__builtin_trap();
	}
	return 0;
}
