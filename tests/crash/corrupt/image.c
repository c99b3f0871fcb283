// SPDX-License-Identifier: MIT
/*
 * The segment that is damaged: four tables, chains, a grown table with retired indexes, free lists, batches, a
 * dead participant inside a read section, a live one. And what each of its bytes means.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "corrupt.h"

#define NEED(condition)                                                                           \
	do {                                                                                      \
		if (!(condition)) {                                                               \
			fprintf(stderr, "%s:%d: %s: %s\n", __FILE__, __LINE__, #condition,        \
				fnd_error_detail());                                              \
			unlink(image.path);                                                       \
			_exit(3);                                                                 \
		}                                                                                 \
	} while (0)

void key_a(unsigned int i, char key[16], size_t *ret_bytes)
{
	*ret_bytes = (size_t)snprintf(key, 16, "key %u", i * 7919 % 100000);
}

void key_b(unsigned int i, char key[16], size_t *ret_bytes)
{
	*ret_bytes = (size_t)snprintf(key, 16, "b%u", i);
}

/* --- making --------------------------------------------------------------------------------------- */

static void fill_a(struct fnd_table *a)
{
	char key[16], value[40];
	size_t n;

	memset(value, 'v', sizeof(value));
	for (unsigned int i = 0; i < KEYS_A + 20; i++) {
		key_a(i, key, &n);
		NEED(fnd_table_upsert(a, key, n, value, i % 41) == 0);
	}
	for (unsigned int i = 0; i < KEYS_A; i += 3) {
		key_a(i, key, &n);
		NEED(fnd_table_replace(a, key, n, value, (i * 5) % 41) == 0);
	}
	for (unsigned int i = KEYS_A; i < KEYS_A + 20; i++) {
		key_a(i, key, &n);
		NEED(fnd_table_delete(a, key, n) == 0);
	}
}

static void fill_b(struct fnd_table *b)
{
	char key[16];
	size_t n;

	for (unsigned int i = 0; i < KEYS_B; i++) {
		key_b(i, key, &n);
		NEED(fnd_table_insert(b, key, n, key, n) == 0);
	}
	for (unsigned int i = 0; i < KEYS_B; i += 4) {
		key_b(i, key, &n);
		NEED(fnd_table_upsert(b, key, n, "x", 1) == 0);
	}
}

static void fill_runtime(struct fnd_segment *seg)
{
	static const unsigned char empty_map[] = { 0x80 };
	struct fnd_registry *reg;
	struct fnd_dedup *dedup;
	char name[16];

	NEED(fnd_registry_open(seg, 8, &reg) == 0);
	NEED(fnd_dedup_open(seg, 8, &dedup) == 0);
	for (unsigned int i = 0; i < NAMES; i++) {
		snprintf(name, sizeof(name), "agent-%u", i);
		NEED(fnd_registry_register(reg, name, (uint32_t)getpid(), empty_map, 1, 0) == 0);
		NEED(fnd_dedup_claim(dedup, name, strlen(name), "event", 5, FND_WINDOW_FOREVER) >= 0);
	}
	fnd_registry_close(reg);
	fnd_dedup_close(dedup);
}

/* Fills it and is gone, with a read section open: what was retired since cannot come back. */
static void live_and_die(void)
{
	struct fnd_table_options oa = { sizeof(oa), 0, 16, 40, 512 }, ob = { sizeof(ob), 0, 16, 16, 4 };
	struct fnd_segment *seg;
	struct fnd_table *a, *b;

	NEED(fnd_segment_attach(image.name, NULL, &seg) == 0);
	NEED(fnd_table_open(seg, "a", &oa, &a) == 0 && fnd_table_open(seg, "b", &ob, &b) == 0);
	fill_runtime(seg);
	fill_a(a);
	NEED(fnd_table_quiesce(a) == 0); /* free lists */
	NEED(fnd_read_begin(seg) == 0);
	fill_a(a);
	fill_b(b);
	for (unsigned int i = 0; i < 3; i++) { /* batches: each later section stamps what came before */
		char key[16];
		size_t n;

		key_a(i, key, &n);
		NEED(fnd_table_upsert(a, key, n, "again", 5) == 0);
	}
	_exit(0);
}

static void live_on(int ready)
{
	struct fnd_segment *seg;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	NEED(fnd_segment_attach(image.name, NULL, &seg) == 0);
	NEED(fnd_read_begin(seg) == 0 && fnd_read_end(seg) == 0); /* takes a thread slot */
	NEED(write(ready, "!", 1) == 1);
	for (;;)
		pause();
}

static uint32_t thread_slot_of(uint32_t tid)
{
	const struct fnd_shm_header *h = (const struct fnd_shm_header *)image.map;
	const struct fnd_shm_thread *t = (const struct fnd_shm_thread *)(image.map + h->thread_off);

	for (uint32_t i = 1; i <= h->threads; i++)
		if (fnd_slot_id(t[i].word) == tid && fnd_slot_state(t[i].word) == FND_SLOT_ACTIVE)
			return i;
	NEED(!"a thread slot");
	return 0;
}

uint32_t lock_word(uint32_t thread_slot)
{
	const struct fnd_shm_header *h = (const struct fnd_shm_header *)image.bytes;
	const struct fnd_shm_thread *t = (const struct fnd_shm_thread *)(image.bytes + h->thread_off);

	return thread_slot << 20 | (fnd_slot_gen(t[thread_slot].word) & 0x3ffff) << 2;
}

/* --- meanings ------------------------------------------------------------------------------------- */

static void mean(uint64_t off, uint64_t bytes, enum meaning m)
{
	NEED(off <= image.size && bytes <= image.size - off);
	memset(image.meaning + off, m, bytes);
}

#define MEAN(base, type, member, m)                                                               \
	mean((base) + offsetof(struct type, member), sizeof(((struct type *)0)->member), m)

static void *at(uint64_t off)
{
	return image.bytes + off;
}

static void mean_header(const struct fnd_shm_header *h)
{
	mean(0, sizeof(*h), MEANING_STRUCTURE);
	MEAN(0, fnd_shm_header, epoch, MEANING_FIGURE);
	MEAN(0, fnd_shm_header, safe, MEANING_FIGURE);
	MEAN(0, fnd_shm_header, lock, MEANING_FIGURE);
	MEAN(0, fnd_shm_header, destroying, MEANING_FIGURE);
	MEAN(0, fnd_shm_header, snapshot_generation, MEANING_FIGURE);
	MEAN(0, fnd_shm_header, process_high, MEANING_FIGURE);
	MEAN(0, fnd_shm_header, thread_high, MEANING_FIGURE);
	MEAN(0, fnd_shm_header, sample_every, MEANING_FIGURE);
	MEAN(0, fnd_shm_header, sample_always, MEANING_FIGURE);
	MEAN(0, fnd_shm_header, remains_head, MEANING_FIGURE);
	MEAN(0, fnd_shm_header, area, MEANING_NONE); /* what it means is for the layer above to check */
	for (uint32_t i = 0; i <= h->processes; i++) {
		uint64_t p = h->process_off + i * sizeof(struct fnd_shm_process);

		MEAN(p, fnd_shm_process, word, MEANING_FIGURE); /* generations of a free slot may be any */
		MEAN(p, fnd_shm_process, pad, MEANING_STRUCTURE);
	}
	for (uint32_t i = 0; i <= h->threads; i++) {
		uint64_t t = h->thread_off + i * sizeof(struct fnd_shm_thread);
		uint64_t word = ((struct fnd_shm_thread *)at(t))->word;

		MEAN(t, fnd_shm_thread, word, MEANING_FIGURE);
		MEAN(t, fnd_shm_thread, process,
		     fnd_slot_state(word) == FND_SLOT_ACTIVE ? MEANING_STRUCTURE : MEANING_NONE);
		MEAN(t, fnd_shm_thread, pad0, MEANING_STRUCTURE);
		MEAN(t, fnd_shm_thread, pad1, MEANING_STRUCTURE);
		MEAN(t, fnd_shm_thread, epoch, MEANING_FIGURE);
	}
}

static void mean_list(uint64_t head)
{
	for (uint64_t off = head; off;) {
		struct fnd_shm_record *r = at(off);

		MEAN(off, fnd_shm_record, next, MEANING_STRUCTURE);
		off = (uint64_t)r->next << 3;
	}
}

static void mean_index(uint64_t word)
{
	uint64_t span = word & ~63ULL, first = span + sizeof(struct fnd_shm_span);
	struct fnd_shm_bucket *b = at(first);
	uint64_t own = 1ULL << (word & 63);

	for (uint64_t i = 0; i < own; i++) {
		for (uint64_t k = i;;) {
			mean(first + k * sizeof(*b), sizeof(*b), MEANING_STRUCTURE);
			for (unsigned int s = 0; s < FND_BUCKET_SLOTS; s++) {
				uint64_t off = b[k].slot[s] & FND_OFF_MASK;
				struct fnd_shm_record *r = at(off);

				if (!b[k].slot[s])
					continue;
				mean(off, sizeof(*r) + (r->lens & 0xff), MEANING_STRUCTURE);
				MEAN(off, fnd_shm_record, next, MEANING_NONE);
				mean(off + offsetof(struct fnd_shm_record, lens) + 1, 3, MEANING_FIGURE);
			}
			if (!b[k].link)
				break;
			k = own + b[k].link - 1;
		}
	}
}

static void mean_shard(uint64_t off, const struct fnd_shm_table *d)
{
	struct fnd_shm_shard *sh = at(off);

	mean(off, sizeof(*sh), MEANING_STRUCTURE);
	MEAN(off, fnd_shm_shard, lock, MEANING_FIGURE);
	MEAN(off, fnd_shm_shard, growths, MEANING_FIGURE);
	MEAN(off, fnd_shm_shard, full, MEANING_FIGURE);
	MEAN(off, fnd_shm_shard, repairs, MEANING_FIGURE);
	if ((uint32_t)sh->bump == d->extent_records) /* used up: it may as well be any other extent that is */
		MEAN(off, fnd_shm_shard, bump, MEANING_FIGURE);
	mean_list(sh->free_head);
	mean_list(sh->open_head);
	for (unsigned int i = 0; i < FND_BATCHES; i++) {
		uint64_t b = off + offsetof(struct fnd_shm_shard, batch) + i * sizeof(struct fnd_shm_batch);

		mean_list(sh->batch[i].head);
		MEAN(b, fnd_shm_batch, stamp, MEANING_FIGURE);
		if (!sh->batch[i].head)
			MEAN(b, fnd_shm_batch, count, MEANING_NONE);
	}
}

static void mean_table(uint64_t off)
{
	struct fnd_shm_table *d = at(off);
	uint64_t index, shard;

	MEAN(off, fnd_shm_table, state, MEANING_STRUCTURE);
	if (d->state != FND_TABLE_READY)
		return;
	mean(off, sizeof(*d), MEANING_STRUCTURE);
	MEAN(off, fnd_shm_table, growths, MEANING_FIGURE);
	mean(off + offsetof(struct fnd_shm_table, region_off) + 8ULL * d->regions,
	     8ULL * (FND_REGIONS - d->regions), MEANING_NONE);
	mean(off + offsetof(struct fnd_shm_table, region_extents) + 4ULL * d->regions,
	     4ULL * (FND_REGIONS - d->regions), MEANING_NONE);
	/* a span may have room for some extents more, which nobody has claimed */
	mean(off + offsetof(struct fnd_shm_table, region_extents), 4ULL * d->regions, MEANING_FIGURE);
	index = d->root_off + sizeof(struct fnd_shm_span);
	shard = index + ((8ULL * d->shards + 63) & ~63ULL);
	mean(index, 8ULL * d->shards, MEANING_STRUCTURE);
	for (uint32_t i = 0; i < d->regions; i++)
		mean(d->region_off[i] + sizeof(struct fnd_shm_span), 4ULL * d->region_extents[i],
		     MEANING_STRUCTURE);
	for (uint32_t i = 0; i < d->shards; i++) {
		mean_index(((uint64_t *)at(index))[i]);
		mean_shard(shard + i * sizeof(struct fnd_shm_shard), d);
	}
}

static void mean_all(void)
{
	const struct fnd_shm_header *h = at(0);

	mean_header(h);
	for (uint64_t off = h->span_off; off < h->brk;) {
		struct fnd_shm_span *s = at(off);

		mean(off, sizeof(*s), s->use ? MEANING_STRUCTURE : MEANING_NONE);
		MEAN(off, fnd_shm_span, magic, MEANING_STRUCTURE);
		MEAN(off, fnd_shm_span, bytes, MEANING_STRUCTURE);
		MEAN(off, fnd_shm_span, use, MEANING_STRUCTURE);
		if (fnd_span_kind(s->use) == FND_SPAN_INDEX)
			MEAN(off, fnd_shm_span, overflow_used, MEANING_FIGURE);
		if (s->stamp) { /* retired: nothing reads its buckets any more, whatever their number */
			MEAN(off, fnd_shm_span, stamp, MEANING_FIGURE);
			MEAN(off, fnd_shm_span, buckets_log2, MEANING_FIGURE);
		}
		off += s->bytes;
	}
	for (uint32_t i = 0; i < FND_TABLES; i++)
		mean_table(h->table_off + i * sizeof(struct fnd_shm_table));
	image.structure = malloc(image.size * sizeof(*image.structure));
	for (uint64_t off = h->table_off; off < h->brk; off++)
		if (image.meaning[off] == MEANING_STRUCTURE)
			image.structure[image.structures++] = off;
}

size_t image_locks(uint64_t off[], size_t room)
{
	const struct fnd_shm_header *h = at(0);
	size_t n = 0;

	off[n++] = offsetof(struct fnd_shm_header, lock);
	for (uint32_t i = 0; i < FND_TABLES; i++) {
		struct fnd_shm_table *d = at(h->table_off + i * sizeof(*d));

		for (uint32_t k = 0; d->state == FND_TABLE_READY && k < d->shards && n < room; k++)
			off[n++] = d->root_off + sizeof(struct fnd_shm_span) + ((8ULL * d->shards + 63) & ~63ULL) +
				   k * sizeof(struct fnd_shm_shard);
	}
	return n;
}

/* --- life ----------------------------------------------------------------------------------------- */

static void map_file(void)
{
	int fd = open(image.path, O_RDWR | O_CLOEXEC);
	struct stat st;

	NEED(fd >= 0 && fstat(fd, &st) == 0);
	image.size = (size_t)st.st_size;
	image.map = mmap(NULL, image.size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	NEED(image.map != MAP_FAILED);
	close(fd);
}

void image_make(void)
{
	struct fnd_segment_options o = { .size = sizeof(o), .processes = 3, .threads = 4,
					 .max_bytes = 1 << 20, .default_capacity = 16 };
	int ready[2], status;
	pid_t dead;
	char c;

	snprintf(image.name, sizeof(image.name), "t-corrupt-%d", (int)getpid());
	snprintf(image.path, sizeof(image.path), "/dev/shm/foundation.%u.%s", (unsigned int)geteuid(),
		 image.name);
	NEED(fnd_segment_create(image.name, &o, NULL) == 0);
	NEED(pipe(ready) == 0);
	dead = fork();
	if (dead == 0)
		live_and_die();
	NEED(waitpid(dead, &status, 0) == dead && status == 0);
	image.peer = fork();
	if (image.peer == 0)
		live_on(ready[1]);
	NEED(read(ready[0], &c, 1) == 1);
	close(ready[0]);
	close(ready[1]);
	map_file();
	image.peer_slot = thread_slot_of((uint32_t)image.peer);
	image.bytes = malloc(image.size);
	image.meaning = calloc(image.size, 1);
	NEED(image.bytes && image.meaning);
	memcpy(image.bytes, image.map, image.size);
	image.dead_slot = image.peer_slot == 1 ? 2 : 1;
	mean_all();
}

void image_free(void)
{
	kill(image.peer, SIGKILL);
	waitpid(image.peer, NULL, 0);
	unlink(image.path);
	munmap(image.map, image.size);
	free(image.bytes);
	free(image.meaning);
	free(image.structure);
}

void image_restore(void)
{
	struct stat st;

	memcpy(image.map, image.bytes, image.size);
	if (stat(image.path, &st) == 0 && (size_t)st.st_size != image.size)
		(void)!truncate(image.path, (off_t)image.size);
}

void flip_bit(uint64_t bit)
{
	image.map[bit / 8] ^= (char)(1 << bit % 8);
}
