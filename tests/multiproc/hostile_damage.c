// SPDX-License-Identifier: MIT
/*
 * Damage behind the checksums: the words that change while a segment is in use, and anything else. What a
 * check can catch is refused; for the rest each call returns, in bounded time, with what is there or with
 * an error, and never crashes.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "header.h"
#include "hostile.h"

#define RECORDS 200u
#ifndef SECONDS_A_VISIT
#define SECONDS_A_VISIT 20 /* a guard: with locks of 100 ms a visit takes well under one */
#endif

/* --- a segment to be damaged ---------------------------------------------------------------------- */

struct patient {
	const char *name;
	char path[160];
	char *bytes; /* as it was */
	size_t size;
	char *map; /* the file */
};

/* Made by a process that has been killed in it, with a read section open and its slots taken. */
static int live_and_die(void *name)
{
	struct fnd_table_options o = table_options(0, RECORDS);
	struct fnd_segment *seg;
	struct fnd_table *t;
	char key[32];

	NEED(fnd_segment_attach(name, NULL, &seg) == 0);
	NEED(fnd_table_open(seg, "a", &o, &t) == 0);
	for (unsigned int i = 0; i < RECORDS; i++)
		NEED(put(t, i) == 0);
	for (unsigned int i = 0; i < 20; i++)
		NEED(fnd_table_delete(t, key, key_text(key, i)) == 0 && put(t, i) == 0);
	NEED(fnd_read_begin(seg) == 0);
	_exit(0);
}

static int patient_make(struct patient *p)
{
	struct stat st;
	int fd;

	p->name = name_new();
	snprintf(p->path, sizeof(p->path), "%s", path_of(p->name));
	NEED(create_small(p->name, NULL) == 0);
	NEED(child_run(live_and_die, (void *)(uintptr_t)p->name) == 0);
	fd = open(p->path, O_RDWR | O_CLOEXEC);
	NEED(fd >= 0 && fstat(fd, &st) == 0);
	p->size = (size_t)st.st_size;
	p->bytes = malloc(p->size);
	p->map = mmap(NULL, p->size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	NEED(p->bytes && p->map != MAP_FAILED);
	close(fd);
	memcpy(p->bytes, p->map, p->size);
	return 0;
}

static int patient_free(struct patient *p)
{
	munmap(p->map, p->size);
	free(p->bytes);
	return unlink(p->path) == 0 ? 0 : 1;
}

/* As it was; a visit may have made the file larger. */
static int patient_heal(struct patient *p)
{
	memcpy(p->map, p->bytes, p->size);
	return truncate(p->path, (off_t)p->size) == 0 ? 0 : 1;
}

static struct fnd_shm_header *header_of(struct patient *p)
{
	return (struct fnd_shm_header *)p->map;
}

/* --- a visitor ------------------------------------------------------------------------------------ */

static int ignore_record(const struct fnd_record *r, void *arg)
{
	*(size_t *)arg += r->key_bytes + r->value_bytes;
	return 0;
}

/* Everything a participant does. @exact: what is found must be right, and writing must work. */
static int use(struct fnd_segment *seg, struct fnd_table *t, bool exact)
{
	struct fnd_table_stats stats;
	struct fnd_latency latency;
	size_t bytes = 0;
	char key[32];
	int err;

	for (unsigned int i = 0; i < RECORDS; i++) {
		err = check(t, i);
		if (exact)
			NEED(err == 0);
	}
	for (unsigned int i = RECORDS; i < RECORDS + 100; i++) {
		err = put(t, i);
		if (err == 0)
			err = check(t, i);
		if (exact)
			NEED(err == 0);
		if (err == -ETIMEDOUT || err == -FND_E_GARBAGE || err == -ENOSPC)
			break; /* it has waited long enough */
	}
	for (unsigned int i = 0; i < RECORDS; i += 3) {
		err = fnd_table_delete(t, key, key_text(key, i));
		if (exact)
			NEED(err == 0);
		if (err == -ETIMEDOUT || err == -FND_E_GARBAGE)
			break;
	}
	err = fnd_table_iterate(t, 0, ignore_record, &bytes);
	if (exact)
		NEED(err == 0 && bytes > 0);
	fnd_table_iterate(t, FND_ITERATE_EXACT, ignore_record, &bytes);
	fnd_table_stats_read(t, &stats);
	fnd_latency_read(seg, FND_OP_LOOKUP, &latency);
	err = exact ? fnd_table_quiesce(t) : 0; /* it waits a second for a damaged reader */
	if (exact)
		NEED(err == 0);
	err = fnd_table_check(t);
	if (exact)
		NEED(err == 0);
	return 0;
}

/* word[0] receives whether it could attach. */
static int visit(void *name, bool exact)
{
	struct fnd_attach_options a = { .size = sizeof(a), .lock_timeout_ms = 100 };
	struct fnd_table_options o = table_options(0, 50);
	char table[FND_TABLE_NAME_MAX + 1];
	struct fnd_table *t = NULL, *b = NULL;
	struct fnd_segment *seg = NULL;
	int err;

	alarm(SECONDS_A_VISIT);
	err = fnd_segment_attach(name, &a, &seg);
	NEED((err == 0) == (seg != NULL));
	if (err) {
		NEED(!exact && strlen(fnd_error_detail()) > 0);
		return 0;
	}
	word_set(&shared->word[0], 1);
	err = fnd_segment_reap(seg, NULL);
	if (exact)
		NEED(err == 0);
	for (unsigned int i = 0; i < 64; i++)
		fnd_table_name(seg, i, table);
	err = fnd_table_open(seg, "a", NULL, &t);
	if (exact)
		NEED(err == 0);
	if (err == 0)
		TRY(use(seg, t, exact));
	err = fnd_table_open(seg, "b", &o, &b); /* allocates */
	if (exact)
		NEED(err == 0);
	if (err == 0)
		TRY(put(b, 0) == 0 || !exact ? 0 : 1);
	fnd_table_close(b);
	fnd_table_close(t);
	err = fnd_segment_detach(seg);
	return exact && err ? 1 : 0;
}

static int visit_exact(void *name)
{
	return visit(name, true);
}

static int visit_any(void *name)
{
	return visit(name, false);
}

static int works(struct patient *p)
{
	return child_run(visit_exact, (void *)(uintptr_t)p->name);
}

static int survives(struct patient *p)
{
	int status;

	word_set(&shared->word[0], 0);
	status = child_run(visit_any, (void *)(uintptr_t)p->name);
	if (status > 128)
		fprintf(stderr, "a visitor was ended by signal %d\n", status - 128);
	return status;
}

/* --- words of the header -------------------------------------------------------------------------- */

static int refuses(struct patient *p, const char *word)
{
	struct fnd_segment *seg = NULL;
	struct fingerprint before;

	NEED(fingerprint(p->path, &before) == 0);
	NEED(refused(fnd_segment_attach(p->name, NULL, &seg), FND_E_CORRUPT, word));
	NEED(seg == NULL && untouched(p->path, &before));
	return patient_heal(p);
}

static int words_refused(void)
{
	const uint64_t brks[] = { 0, 1, 4096, UINT64_MAX, 1ULL << 40, 1ULL << 26 };
	const uint64_t epochs[][2] = { { 0, 1 },	      { 1, 0 },
				       { 0, 0 },	      { 5, 6 },
				       { 5, UINT64_MAX },     { UINT64_MAX, 1 },
				       { 1ULL << 48, 1 },     { UINT64_MAX, UINT64_MAX } };
	struct patient p;

	TRY(patient_make(&p));
	TRY(works(&p));
	NEED(patient_heal(&p) == 0);
	for (size_t i = 0; i < sizeof(brks) / sizeof(brks[0]); i++) {
		header_of(&p)->brk = brks[i];
		TRY(refuses(&p, "brk"));
	}
	header_of(&p)->brk = header_of(&p)->span_off - 64;
	TRY(refuses(&p, "brk"));
	header_of(&p)->brk = p.size + 1;
	TRY(refuses(&p, "brk"));
	for (size_t i = 0; i < sizeof(epochs) / sizeof(epochs[0]); i++) {
		header_of(&p)->epoch = epochs[i][0];
		header_of(&p)->safe = epochs[i][1];
		TRY(refuses(&p, "epoch"));
	}
	return patient_free(&p);
}

static int leave_at_once(void *arg)
{
	(void)arg;
	return 0;
}

/* Hints, and words of the dead: damage there is put right or does not matter. */
static int words_mended(void)
{
	struct fnd_shm_process *process;
	struct fnd_shm_thread *thread;
	struct fnd_shm_header *h;
	struct patient p;

	TRY(patient_make(&p));
	h = header_of(&p);
	process = (struct fnd_shm_process *)(p.map + h->process_off);
	thread = (struct fnd_shm_thread *)(p.map + h->thread_off);
	for (unsigned int round = 0; round < 8; round++) {
		NEED(patient_heal(&p) == 0);
		switch (round) {
		case 0:
			h->process_high = h->thread_high = UINT32_MAX;
			break;
		case 1:
			h->process_high = h->thread_high = 0;
			break;
		case 2: /* slots of the dead: whatever they say, somebody finds out */
			for (unsigned int i = 1; i <= h->processes; i++)
				process[i].word = UINT64_MAX;
			for (unsigned int i = 1; i <= h->threads; i++)
				thread[i].word = UINT64_MAX;
			break;
		case 3: /* reapers that never were */
			for (unsigned int i = 1; i <= h->processes; i++)
				process[i].word = fnd_slot_word(FND_SLOT_REAPING, i, 5u << 19 | 77);
			break;
		case 4: /* the segment's lock */
			h->lock = UINT32_MAX;
			break;
		case 5:
			h->lock = 9u << 20 | 1234u << 2;
			break;
		case 6: /* somebody who is gone was destroying it */
			h->destroying = (uint64_t)child_start(leave_at_once, NULL);
			NEED(child_wait((pid_t)h->destroying) == 0);
			break;
		default: /* no process ever had such a number */
			h->destroying = UINT64_MAX;
			break;
		}
		if (works(&p)) {
			fprintf(stderr, "that was round %u\n", round);
			return 1;
		}
	}
	return patient_free(&p);
}

/* Somebody alive is at it: the detail says who, and the segment stays. */
static int being_destroyed(void)
{
	struct fnd_segment *seg = NULL;
	struct patient p;
	char who[32];

	TRY(patient_make(&p));
	header_of(&p)->destroying = (uint64_t)getppid();
	snprintf(who, sizeof(who), "pid %d", (int)getppid());
	NEED(refused(fnd_segment_attach(p.name, NULL, &seg), ENOENT, who));
	NEED(refused(fnd_segment_destroy(p.name, 0), EBUSY, who));
	NEED(seg == NULL && header_of(&p)->destroying == (uint64_t)getppid());
	header_of(&p)->destroying = 0;
	TRY(works(&p));
	return patient_free(&p);
}

/* Every shard's lock, in every form of nonsense: taken, and the shard repaired. */
static int shard_locks(void)
{
	struct fnd_shm_table *table;
	struct fnd_shm_shard *shard;
	struct fnd_shm_header *h;
	struct patient p;

	TRY(patient_make(&p));
	h = header_of(&p);
	table = (struct fnd_shm_table *)(p.map + h->table_off);
	NEED(table->state == FND_TABLE_READY);
	for (unsigned int round = 0; round < 50; round++) {
		NEED(patient_heal(&p) == 0);
		shard = (struct fnd_shm_shard *)(p.map + table->root_off +
						 sizeof(struct fnd_shm_span) +
						 ((8 * table->shards + 63) & ~63u));
		for (unsigned int i = 0; i < table->shards; i++)
			shard[i].lock = round ? (uint32_t)random_u64() | 1u << 31 : UINT32_MAX;
		TRY(works(&p));
	}
	return patient_free(&p);
}

/* --- anything ------------------------------------------------------------------------------------- */

static uint64_t nonsense(uint64_t old)
{
	switch (random_u64() % 8) {
	case 0:
		return 0;
	case 1:
		return UINT64_MAX;
	case 2:
		return old ^ 1ULL << random_u64() % 64;
	case 3:
		return old + 64;
	case 4:
		return old << 1;
	case 5: /* plausible: an offset somewhere in the file */
		return random_u64() % (1u << 20) & ~63ULL;
	case 6:
		return (old & 0xffffffff00000000ULL) | (uint32_t)random_u64();
	default:
		return random_u64();
	}
}

/* One to sixteen words behind the header's checksums, in the directory and in spans more often. */
static void damage(struct patient *p)
{
	const struct fnd_shm_header *h = (const struct fnd_shm_header *)p->bytes;
	const uint64_t from[] = { offsetof(struct fnd_shm_header, epoch), h->process_off, h->table_off,
				  h->span_off, h->span_off };
	const uint64_t to[] = { offsetof(struct fnd_shm_header, reserved), h->cell_off,
				h->table_off + 1024, h->brk, h->span_off + 4096 };
	unsigned int n = 1 + (unsigned int)(random_u64() % 16);

	while (n--) {
		unsigned int where = (unsigned int)(random_u64() % 5);
		uint64_t at = from[where] + random_u64() % (to[where] - from[where]);
		uint64_t *w = (uint64_t *)(p->map + (at & ~7ULL));

		*w = nonsense(*w);
	}
}

static int random_damage(void)
{
	unsigned int attached = 0;
	struct patient p;

	TRY(patient_make(&p));
	for (unsigned int round = 0; round < 500; round++) {
		NEED(patient_heal(&p) == 0);
		damage(&p);
		if (survives(&p)) {
			fprintf(stderr, "that was round %u\n", round);
			return 1;
		}
		attached += word_get(&shared->word[0]);
	}
	NEED(attached > 100); /* or nothing behind the door was tried */
	return patient_free(&p);
}

/* One word after the other of the table's directory entry and root span. */
static int directory_damage(void)
{
	const uint64_t values[] = { 0, 1, 0xffffffff, UINT64_MAX, 1ULL << 32, 1ULL << 47 };
	struct fnd_shm_header *h;
	struct patient p;
	uint64_t from, root;

	TRY(patient_make(&p));
	h = header_of(&p);
	from = h->table_off;
	root = ((struct fnd_shm_table *)(p.map + from))->root_off;
	for (unsigned int i = 0; i < 2 * 512 / 8; i++) {
		uint64_t at = i < 64 ? from + 8 * i : root + 8 * (i - 64);

		for (unsigned int k = 0; k < sizeof(values) / sizeof(values[0]); k++) {
			NEED(patient_heal(&p) == 0);
			*(uint64_t *)(p.map + at) = values[k];
			if (survives(&p) == 0)
				continue;
			fprintf(stderr, "that was %#llx at %s %u\n", (unsigned long long)values[k],
				i < 64 ? "directory entry" : "root span", 8 * (i % 64));
			return 1;
		}
	}
	return patient_free(&p);
}

const struct test_case damage_cases[] = {
	{ "words_refused", words_refused },
	{ "words_mended", words_mended },
	{ "being_destroyed", being_destroyed },
	{ "shard_locks", shard_locks },
	{ "directory_damage", directory_damage },
	{ "random_damage", random_damage },
	{ NULL, NULL },
};
