// SPDX-License-Identifier: MIT
/*
 * The snapshot reader on hostile bytes.
 *
 * The first byte chooses. Even: the rest is a file. Odd: the rest is a list of blocks, {type, records, length 16
 * bits, payload}, which get a header, a footer and every checksum right; without that the fuzzer would never
 * get past the first checksum.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "snapshot.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

static int touch_table(const struct fnd_snapshot_table *t, void *arg)
{
	uint64_t *sum = arg;

	*sum += strlen(t->name) + t->capacity;
	if (t->key_max == 0 || t->key_max > FND_KEY_MAX || t->value_max > FND_VALUE_MAX)
		__builtin_trap();
	return 0;
}

static int touch_record(const struct fnd_snapshot_table *t, const struct fnd_snapshot_record *r, void *arg)
{
	const unsigned char *key = r->key, *value = r->value;
	uint64_t *sum = arg;

	if (r->key_bytes > t->key_max || r->value_bytes > t->value_max || !r->key_bytes)
		__builtin_trap();
	for (size_t i = 0; i < r->key_bytes; i++)
		*sum += key[i];
	for (size_t i = 0; i < r->value_bytes; i++)
		*sum += value[i];
	if (r->owner)
		*sum += r->owner->pid;
	return 0;
}

static void read_image(const uint8_t *p, size_t bytes)
{
	uint64_t sum = 0;
	struct fnd_snapshot_visitor v = { sizeof(v), touch_table, touch_record, &sum };
	struct fnd_snapshot_source src = { .fd = -1, .mem = p, .size = bytes };

	fnd_snapshot_parse(&src, &v, NULL);
	if (src.peak > bytes)
		__builtin_trap();
}

static void read_wrapped(const uint8_t *p, size_t bytes)
{
	static const struct fnd_snapshot_info head = { .segment = "0/fuzz" };
	int fd = memfd_create("fuzz", MFD_CLOEXEC);
	struct fnd_snapshot_writer w;
	uint8_t *image;
	off_t size;

	if (fd < 0 || fnd_snapshot_writer_start(&w, fd, &head))
		__builtin_trap();
	while (bytes >= 4) {
		uint32_t type = p[0], records = p[1], len = p[2] | (uint32_t)p[3] << 8;

		p += 4;
		bytes -= 4;
		if (len > bytes)
			len = (uint32_t)bytes;
		fnd_snapshot_writer_block(&w, type, p, len, records);
		w.tables += type == FND_SNAP_TABLE;
		w.records += type == FND_SNAP_RECORDS ? records : 0;
		p += len;
		bytes -= len;
	}
	if (fnd_snapshot_writer_finish(&w, 0, NULL))
		__builtin_trap();
	fnd_snapshot_writer_free(&w);
	size = lseek(fd, 0, SEEK_END);
	image = malloc((size_t)size);
	if (image && pread(fd, image, (size_t)size, 0) == (ssize_t)size)
		read_image(image, (size_t)size);
	free(image);
	close(fd);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
	if (!bytes)
		return 0;
	if (data[0] & 1)
		read_wrapped(data + 1, bytes - 1);
	else
		read_image(data + 1, bytes - 1);
	return 0;
}
