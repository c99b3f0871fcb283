// SPDX-License-Identifier: MIT
/* Tables whose structure is damaged, put right by many at once: every name is found again, by old handles and new. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <foundation/registry.h>

#include "internal.h"
#include "multiproc.h"

#define ENSURERS 8
#define NAMES 600
#define CAPACITY 100 /* and more names than that: a second region */

static struct fnd_segment *seg;
static struct fnd_registry *old;
static const char *segment;

static const char *name_of_agent(unsigned int i)
{
	static char name[32];

	snprintf(name, sizeof(name), "agent-%u", i);
	return name;
}

static struct fnd_shm_table *agents_entry(void)
{
	for (uint32_t i = 0; i < FND_TABLES; i++)
		if (seg->table[i].state == FND_TABLE_READY && strcmp(seg->table[i].name, "agents") == 0)
			return &seg->table[i];
	return NULL;
}

static int begin(void)
{
	struct fnd_segment_options opt = { .size = sizeof(opt), .processes = 16, .threads = 32,
					   .max_bytes = 64u << 20 };

	segment = name_new();
	NEED(fnd_segment_create(segment, &opt, &seg) == 0);
	NEED(fnd_registry_open(seg, CAPACITY, &old) == 0);
	for (unsigned int i = 0; i < NAMES; i++)
		NEED(fnd_registry_register(old, name_of_agent(i), 0, NULL, 0, 0) == 0);
	return 0;
}

static int end(void)
{
	fnd_registry_close(old);
	NEED(fnd_segment_detach(seg) == 0);
	NEED(fnd_segment_destroy(segment, FND_DESTROY_FORCE) == 0);
	return 0;
}

static int ensure_one(void *arg)
{
	struct fnd_registry_repair done = { 0 };
	struct fnd_segment *own;
	int err;

	(void)arg;
	NEED(fnd_segment_attach(segment, NULL, &own) == 0);
	while (!fnd_load_acquire(&shared->word[0]))
		usleep(100);
	err = fnd_registry_ensure(own, 0, &done);
	__atomic_fetch_add(&shared->number[0], done.mended, __ATOMIC_SEQ_CST);
	NEED(fnd_segment_detach(own) == 0);
	if (err)
		fprintf(stderr, "ensure: %s [%s]\n", fnd_strerror(err), fnd_error_detail());
	return err ? 2 : 0;
}

static int ensure_all(int want)
{
	pid_t pid[ENSURERS];

	shared->word[0] = 0;
	shared->number[0] = 0;
	for (unsigned int i = 0; i < ENSURERS; i++)
		pid[i] = child_start(ensure_one, NULL);
	usleep(20000);
	__atomic_store_n(&shared->word[0], 1, __ATOMIC_RELEASE);
	for (unsigned int i = 0; i < ENSURERS; i++)
		NEED(child_wait(pid[i]) == want);
	return 0;
}

/* Every name by the handle of before and by one opened now; what one writes the other sees. */
static int all_there(void)
{
	struct fnd_registry *now;
	struct fnd_table *t;
	struct fnd_agent a;

	NEED(fnd_registry_open(seg, 0, &now) == 0);
	for (unsigned int i = 0; i < NAMES; i++) {
		NEED(fnd_registry_lookup(now, name_of_agent(i), &a) == 0 && a.owner.pid == (uint32_t)getpid());
		NEED(fnd_registry_lookup(old, name_of_agent(i), &a) == 0);
	}
	NEED(fnd_registry_register(old, "by-the-old", 0, NULL, 0, 0) == 0);
	NEED(fnd_registry_lookup(now, "by-the-old", &a) == 0);
	NEED(fnd_registry_unregister(now, "by-the-old", 0) == 0);
	NEED(fnd_registry_lookup(old, "by-the-old", &a) == -ENOENT);
	fnd_registry_close(now);
	NEED(fnd_table_open(seg, "agents", NULL, &t) == 0);
	NEED(fnd_table_check(t) == 0);
	fnd_table_close(t);
	return 0;
}

/* --- one word ------------------------------------------------------------------------------------- */

static int damaged_word(void *word, size_t bytes, const char *what)
{
	unsigned char before[8];

	for (unsigned int bit = 0; bit < 8 * bytes; bit += bytes == 8 ? 7 : 5) {
		memcpy(before, word, bytes);
		((unsigned char *)word)[bit / 8] ^= (unsigned char)(1u << bit % 8);
		if (ensure_all(0) || shared->number[0] == 0 || memcmp(before, word, bytes) != 0 || all_there()) {
			fprintf(stderr, "%s, bit %u: mended %llu\n", what, bit, (unsigned long long)shared->number[0]);
			return 1;
		}
	}
	return 0;
}

#define WORD(member) TRY(damaged_word(&d->member, sizeof(d->member), #member))

static int entries(void)
{
	struct fnd_shm_table *d;

	TRY(begin());
	d = agents_entry();
	NEED(d && d->regions >= 2);
	WORD(checksum);
	WORD(root_off);
	WORD(key_max);
	WORD(value_max);
	WORD(record_bytes);
	WORD(shards);
	WORD(extent_records);
	WORD(extent_bytes);
	WORD(shard_garbage_max);
	return end();
}

/* More than one entry at once: another's that comes first is no end of the search. */
static int several(void)
{
	unsigned int damaged = 0;
	struct fnd_table *t;

	TRY(begin());
	for (unsigned int i = 0; i < FND_TABLES; i++) {
		if (fnd_load_acquire(&seg->table[i].state) != FND_TABLE_READY)
			continue;
		seg->table[i].checksum ^= 1;
		damaged++;
	}
	NEED(damaged >= 2);
	NEED(fnd_table_mend(seg, "events", NULL, NULL) == 0 && fnd_table_open(seg, "events", NULL, &t) == 0);
	fnd_table_close(t);
	TRY(ensure_all(0));
	TRY(all_there());
	return end();
}

static int regions(void)
{
	struct fnd_shm_table *d;

	TRY(begin());
	d = agents_entry();
	NEED(d && d->regions >= 2);
	WORD(region_off[0]);
	WORD(region_off[1]);
	return end();
}

static int indexes(void)
{
	struct fnd_table t;
	struct fnd_shm_table *d;

	TRY(begin());
	d = agents_entry();
	NEED(d && fnd_table_bind(seg, (uint32_t)(d - seg->table), &t) == 0);
	TRY(damaged_word(&t.index[0], 8, "index word"));
	for (uint32_t i = 0; i < t.shards; i++)
		t.index[i] = i % 3 ? 0 : UINT64_MAX; /* all of them */
	TRY(ensure_all(0));
	NEED(shared->number[0] >= t.shards);
	TRY(all_there());
	return end();
}

/* Entry, root, indexes and regions at once. */
static int much(void)
{
	struct fnd_table t;
	struct fnd_shm_table *d;

	TRY(begin());
	d = agents_entry();
	NEED(d && fnd_table_bind(seg, (uint32_t)(d - seg->table), &t) == 0);
	d->root_off = 0;
	d->key_max = 0;
	d->name[1] = '?';
	d->region_off[0] ^= 64;
	t.index[t.shards - 1] = 12345;
	TRY(ensure_all(0));
	TRY(all_there());
	return end();
}

/* A slot that leads nowhere costs its record and no other. */
static int slots(void)
{
	struct fnd_shm_bucket *b;
	unsigned int found = 0;
	struct fnd_table t;
	struct fnd_agent a;
	struct fnd_index ix;

	TRY(begin());
	NEED(fnd_table_bind(seg, (uint32_t)(agents_entry() - seg->table), &t) == 0);
	NEED(fnd_index_open(&t, 0, t.index[0], &ix) == 0);
	for (b = ix.bucket; !b->slot[0]; b++)
		;
	b->slot[0] ^= 1;
	TRY(ensure_all(0));
	NEED(shared->number[0] >= 1);
	for (unsigned int i = 0; i < NAMES; i++)
		found += fnd_registry_lookup(old, name_of_agent(i), &a) == 0;
	NEED(found == NAMES - 1);
	for (unsigned int i = 0; i < NAMES; i++)
		if (fnd_registry_lookup(old, name_of_agent(i), &a))
			NEED(fnd_registry_register(old, name_of_agent(i), 0, NULL, 0, 0) == 0);
	TRY(all_there());
	return end();
}

/* Whoever takes the lock of a dead one while the entry is damaged frees nothing that can be meant. */
static int take_lock_and_die(void *arg)
{
	struct fnd_segment *own;
	struct fnd_thread *th;

	(void)arg;
	NEED(fnd_segment_attach(segment, NULL, &own) == 0);
	NEED(fnd_thread_self(own, &th) == 0);
	NEED(fnd_space_lock(own, th) == 0);
	_exit(0); /* with the lock */
}

static int stolen_lock(void)
{
	struct fnd_shm_table *d;

	TRY(begin());
	d = agents_entry();
	NEED(d);
	d->root_off += FND_LINE;
	d->region_off[1] = 0;
	NEED(child_run(take_lock_and_die, NULL) == 0);
	TRY(ensure_all(0));
	TRY(all_there());
	return end();
}

/* What is said nowhere else is not made up. */
static int beyond(void)
{
	struct fnd_shm_span *root;
	struct fnd_shm_table *d;
	uint64_t magic;

	TRY(begin());
	d = agents_entry();
	NEED(d);
	root = fnd_at(seg, d->root_off, sizeof(*root));
	magic = root->magic;
	d->root_off ^= 64;
	root->magic ^= 2;
	TRY(ensure_all(2));
	root->magic = magic;
	TRY(ensure_all(0));
	TRY(all_there());
	return end();
}

static const struct test_case cases[] = {
	{ "entries", entries }, { "several", several }, { "regions", regions }, { "indexes", indexes }, { "much", much },
	{ "slots", slots }, { "stolen_lock", stolen_lock }, { "beyond", beyond }, { NULL, NULL },
};

int main(int argc, char **argv)
{
	static const struct test_case *const tables[] = { cases, NULL };

	return cases_main(argc, argv, "mend", tables);
}
