// SPDX-License-Identifier: MIT
/* Nothing left: memory, inodes, places in a table, slots. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "hostile.h"

/* --- a full /dev/shm ------------------------------------------------------------------------------ */

/* With more and more room: refused and nothing left behind, until it is enough. */
static int shm_create(void)
{
	struct fnd_segment *seg = NULL;
	const char *name = name_new();
	uint64_t all, room = 0;
	int err;

	TRY(private_shm("size=16m"));
	all = shm_free_bytes();
	do {
		uint64_t before;

		NEED(shm_fill(room) == 0);
		before = shm_free_bytes();
		err = fnd_segment_create(name, NULL, &seg);
		if (err) {
			NEED(refused(err, ENOSPC, "/dev/shm"));
			NEED(seg == NULL);
			NEED(shm_entries() == 1); /* the ballast */
			NEED(shm_free_bytes() == before);
		}
		shm_unfill();
		room += room < 32768 ? 4096 : 1u << 20;
	} while (err && room <= all);
	NEED(err == 0);
	NEED(fnd_segment_detach(seg) == 0);
	NEED(fnd_segment_destroy(name, 0) == 0);
	NEED(shm_entries() == 0 && shm_free_bytes() == all);
	return 0;
}

static int no_inode(void)
{
	struct fnd_segment *seg = NULL;

	TRY(private_shm("size=16m,nr_inodes=1")); /* the root directory has it */
	NEED(refused(create_small(name_new(), &seg), ENOSPC, "inode"));
	NEED(seg == NULL && shm_entries() == 0);
	return 0;
}

static int fill_table(struct fnd_table *t, unsigned int from, unsigned int to)
{
	for (unsigned int i = from; i < to; i++)
		NEED(put(t, i) == 0);
	return 0;
}

static int check_table(struct fnd_table *t, unsigned int from, unsigned int to)
{
	for (unsigned int i = from; i < to; i++)
		NEED(check(t, i) == 0);
	return 0;
}

/* Changes of what is there, with the garbage they make. */
static int churn(struct fnd_table *t, unsigned int n)
{
	char key[32];

	for (unsigned int i = 0; i < 10 * n; i++) {
		uint64_t v = value_of(i % n);
		size_t len = key_text(key, i % n);

		NEED(fnd_table_replace(t, key, len, &v, sizeof(v)) == 0);
		NEED(fnd_table_delete(t, key, len) == 0);
		NEED(put(t, i % n) == 0);
	}
	return 0;
}

/* A newcomer, at a moment when there is no memory: attaches, reads, writes. */
static int newcomer(void *name)
{
	struct fnd_segment *seg;
	struct fnd_table *t;

	NEED(fnd_segment_attach(name, NULL, &seg) == 0);
	NEED(fnd_table_open(seg, "a", NULL, &t) == 0);
	TRY(check_table(t, 0, 100));
	TRY(churn(t, 100));
	fnd_table_close(t);
	NEED(fnd_segment_detach(seg) == 0);
	return 0;
}

static int shm_table(void)
{
	struct fnd_table_options small = table_options(0, 100), large = table_options(0, 200000);
	struct fnd_table_options more = table_options(0, 1000);
	const char *name = name_new();
	struct fingerprint before;
	struct fnd_segment *seg;
	struct fnd_table *t, *b = NULL;
	char table[FND_TABLE_NAME_MAX + 1];

	TRY(private_shm("size=4m"));
	NEED(create_small(name, &seg) == 0);
	NEED(fnd_table_open(seg, "a", &small, &t) == 0);
	NEED(shm_fill(0) == 0);
	NEED(fingerprint(path_of(name), &before) == 0);
	NEED(refused(fnd_table_open(seg, "b", &large, &b), ENOSPC, "/dev/shm"));
	NEED(b == NULL && untouched(path_of(name), &before));
	NEED(fnd_table_name(seg, 0, table) == 0 && strcmp(table, "a") == 0);
	NEED(fnd_table_name(seg, 1, table) == -ENOENT);
	TRY(fill_table(t, 0, 100)); /* the promise of the capacity */
	TRY(check_table(t, 0, 100));
	TRY(churn(t, 100));
	NEED(child_run(newcomer, (void *)(uintptr_t)name) == 0);
	NEED(fnd_table_check(t) == 0);
	shm_unfill();
	NEED(fnd_table_open(seg, "b", &more, &b) == 0);
	fnd_table_close(b);
	fnd_table_close(t);
	NEED(fnd_segment_detach(seg) == 0 && fnd_segment_destroy(name, 0) == 0);
	NEED(shm_entries() == 0);
	return 0;
}

/* Past the capacity: that entry alone is refused, until there is memory again. */
static int grow_in(const char *name, unsigned int capacity)
{
	struct fnd_table_options small = table_options(0, capacity);
	struct fnd_segment *seg;
	struct fnd_table *t;
	unsigned int n = 0;
	char key[32];
	int err;

	NEED(create_small(name, &seg) == 0);
	NEED(fnd_table_open(seg, "a", &small, &t) == 0);
	NEED(shm_fill(random_u64() % 4 * 8192) == 0); /* may do for one growth, but not for the other */
	while ((err = put(t, n)) == 0)
		n++;
	NEED(n >= capacity);
	NEED(refused(err, ENOSPC, strstr(fnd_error_detail(), "table a") ? "" : "/dev/shm"));
	NEED(fnd_counter_read(seg, FND_COUNTER_FULL) == 1);
	NEED(check(t, n) == -ENOENT);
	TRY(check_table(t, 0, n));
	NEED(put(t, n) == -ENOSPC);
	for (unsigned int i = capacity; i < n; i++)
		NEED(fnd_table_delete(t, key, key_text(key, i)) == 0);
	TRY(churn(t, capacity)); /* back at what was promised */
	NEED(fnd_table_check(t) == 0);
	shm_unfill();
	TRY(fill_table(t, capacity, 2000));
	TRY(check_table(t, 0, 2000));
	NEED(fnd_table_check(t) == 0);
	fnd_table_close(t);
	NEED(fnd_segment_detach(seg) == 0 && fnd_segment_destroy(name, 0) == 0);
	return 0;
}

static int shm_growth(void)
{
	TRY(private_shm("size=4m"));
	for (unsigned int round = 0; round < 40; round++) {
		unsigned int capacity = 16 + (unsigned int)(random_u64() % 200);

		if (grow_in(name_new(), capacity)) {
			fprintf(stderr, "that was a capacity of %u\n", capacity);
			return 1;
		}
	}
	return 0;
}

static void *thread_beats(void *seg)
{
	if (fnd_read_begin(seg) == 0 && fnd_counter_add(seg, FND_COUNTER_EMITTED, 1) == 0)
		word_add(&shared->word[0], 1);
	word_wait(&shared->word[1], 1);
	fnd_read_end(seg);
	return NULL;
}

/* Every page that was promised is touched by a process that has touched none yet. */
static int touch_all(void *name)
{
	struct fnd_latency latency;
	struct fnd_segment *seg;
	pthread_t thread[15];
	struct fnd_table *t;

	NEED(fnd_segment_attach(name, NULL, &seg) == 0);
	NEED(fnd_sampling_set(seg, 1) == 0);
	NEED(fnd_table_open(seg, "a", NULL, &t) == 0);
	for (unsigned int i = 0; i < 15; i++)
		NEED(pthread_create(&thread[i], NULL, thread_beats, seg) == 0);
	NEED(word_wait(&shared->word[0], 15) == 0);
	word_set(&shared->word[1], 1);
	for (unsigned int i = 0; i < 15; i++)
		pthread_join(thread[i], NULL);
	TRY(fill_table(t, 0, 1000));
	TRY(churn(t, 1000));
	TRY(check_table(t, 0, 1000));
	NEED(fnd_latency_read(seg, FND_OP_LOOKUP, &latency) == 0 && latency.samples >= 1000);
	NEED(fnd_table_check(t) == 0);
	fnd_table_close(t);
	return fnd_segment_detach(seg) == 0 ? 0 : 1;
}

static int shm_filled_later(void)
{
	struct fnd_table_options o = table_options(0, 1000);
	const char *name = name_new();
	struct fnd_segment *seg;
	struct fnd_table *t;

	TRY(private_shm("size=8m"));
	NEED(create_small(name, &seg) == 0);
	NEED(fnd_table_open(seg, "a", &o, &t) == 0);
	fnd_table_close(t);
	NEED(fnd_segment_detach(seg) == 0);
	NEED(shm_fill(0) == 0);
	NEED(child_run(touch_all, (void *)(uintptr_t)name) == 0);
	shm_unfill();
	NEED(fnd_segment_destroy(name, 0) == 0);
	return 0;
}

/* --- a memory cgroup ------------------------------------------------------------------------------ */

#define CGROUP "/sys/fs/cgroup"

static int cgroup_file(const char *group, const char *file, const char *text)
{
	char path[512];
	int fd, ok;

	snprintf(path, sizeof(path), "%s/%s", group, file);
	fd = open(path, O_WRONLY | O_CLOEXEC);
	ok = fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text);
	if (fd >= 0)
		close(fd);
	return ok ? 0 : -1;
}

static int limited(void *group)
{
	struct fnd_table_options large = table_options(0, 500000);
	const char *name = name_new();
	struct fnd_segment *seg;
	struct fnd_table *t = NULL;
	struct fingerprint before;
	struct fnd_segment_options o = small_options();

	SKIP_UNLESS(cgroup_file(group, "cgroup.procs", "0") == 0, "this process may not change cgroup");
	o.max_bytes = 1u << 30;
	NEED(fnd_segment_create(name, &o, &seg) == 0);
	NEED(fnd_segment_reap(seg, NULL) == 0); /* has its thread slot */
	NEED(fingerprint(path_of(name), &before) == 0);
	NEED(refused(fnd_table_open(seg, "a", &large, &t), ENOMEM, "memory.max"));
	NEED(t == NULL && untouched(path_of(name), &before));
	NEED(fnd_segment_detach(seg) == 0 && fnd_segment_destroy(name, 0) == 0);
	return 0;
}

/* A child of this process's own group, on machines where the memory controller is given to it. */
static int cgroup_limit(void)
{
	char line[256] = "", group[400], limit[450];
	FILE *f = fopen("/proc/self/cgroup", "re");
	bool have = false;
	int status;

	while (f && !have && fgets(line, sizeof(line), f))
		have = strncmp(line, "0::/", 4) == 0;
	if (f)
		fclose(f);
	line[strcspn(line, "\n")] = '\0';
	snprintf(group, sizeof(group), CGROUP "%s", have ? line + 3 : "");
	snprintf(limit, sizeof(limit), "%s/cgroup.subtree_control", group);
	f = fopen(limit, "re");
	have = f && fgets(limit, sizeof(limit), f) && strstr(limit, "memory");
	if (f)
		fclose(f);
	SKIP_UNLESS(have, "no memory controller (version 2) here");
	snprintf(group + strlen(group), sizeof(group) - strlen(group), "/foundation-test-%d",
		 (int)getpid());
	SKIP_UNLESS(mkdir(group, 0755) == 0, "no cgroup may be made");
	status = cgroup_file(group, "memory.max", "67108864") ? SKIP : child_run(limited, group);
	rmdir(group);
	return status;
}

/* --- a full table --------------------------------------------------------------------------------- */

static int full_table(void)
{
	struct fnd_table_options o = table_options(FND_TABLE_FIXED, 1000);
	const char *name = name_new();
	struct fnd_table_stats stats;
	struct fnd_segment *seg;
	struct fnd_table *t;
	char key[32];

	NEED(create_small(name, &seg) == 0);
	NEED(fnd_table_open(seg, "a", &o, &t) == 0);
	TRY(fill_table(t, 0, 1000));
	NEED(refused(put(t, 1000), ENOSPC, "table a is full: 1000 records"));
	NEED(check(t, 1000) == -ENOENT);
	NEED(fnd_counter_read(seg, FND_COUNTER_FULL) == 1);
	TRY(check_table(t, 0, 1000));
	for (unsigned int i = 0; i < 100; i++) { /* one out, one in */
		NEED(fnd_table_delete(t, key, key_text(key, i)) == 0);
		NEED(put(t, 1000 + i) == 0);
		NEED(put(t, 5000) == -ENOSPC);
	}
	TRY(check_table(t, 100, 1100));
	NEED(fnd_table_stats_read(t, &stats) == 0);
	NEED(stats.live == 1000 && stats.capacity == 1000 && stats.full == 101);
	NEED(fnd_table_check(t) == 0);
	fnd_table_close(t);
	NEED(fnd_segment_detach(seg) == 0 && fnd_segment_destroy(name, 0) == 0);
	return 0;
}

/* --- full slot tables, of the default size -------------------------------------------------------- */

static int hold_process(void *name)
{
	struct fnd_segment *seg;

	if (fnd_segment_attach(name, NULL, &seg) != 0)
		return 1;
	word_add(&shared->word[0], 1);
	for (;;)
		pause();
}

static int full_processes(void)
{
	const char *name = name_new();
	struct fnd_segment *seg = NULL, *late = NULL;
	pid_t pid[256];

	NEED(fnd_segment_create(name, NULL, NULL) == 0);
	for (unsigned int i = 0; i < 256; i++)
		pid[i] = child_start(hold_process, (void *)(uintptr_t)name);
	NEED(word_wait(&shared->word[0], 256) == 0);
	NEED(refused(fnd_segment_attach(name, NULL, &seg), FND_E_NOSLOT, "256 participant slots"));
	NEED(seg == NULL);
	for (unsigned int i = 0; i < 256; i++) /* nobody was harmed */
		NEED(kill(pid[i], 0) == 0);
	NEED(refused(fnd_segment_destroy(name, 0), EBUSY, "pid"));
	child_kill(pid[7]);
	child_kill(pid[200]);
	NEED(fnd_segment_attach(name, NULL, &seg) == 0);
	pid[7] = child_start(hold_process, (void *)(uintptr_t)name);
	NEED(word_wait(&shared->word[0], 257) == 0);
	pid[200] = child_start(hold_process, (void *)(uintptr_t)name);
	NEED(child_wait(pid[200]) == 1); /* the third of two places */
	NEED(fnd_segment_detach(seg) == 0);
	for (unsigned int i = 0; i < 256; i++)
		if (i != 200)
			child_kill(pid[i]);
	NEED(fnd_segment_attach(name, NULL, &late) == 0);
	NEED(fnd_segment_detach(late) == 0 && fnd_segment_destroy(name, 0) == 0);
	return 0;
}


static void *hold_thread(void *seg)
{
	if (fnd_counter_add(seg, FND_COUNTER_EMITTED, 1) == 0)
		word_add(&shared->word[0], 1);
	else
		word_add(&shared->word[1], 1);
	for (;;)
		pause();
	return NULL;
}

static int hold_threads(void *name)
{
	struct fnd_segment *seg;
	pthread_attr_t attr;

	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, 128 << 10);
	NEED(fnd_segment_attach(name, NULL, &seg) == 0);
	for (unsigned int i = 0; i < 256; i++) {
		pthread_t thread;

		NEED(pthread_create(&thread, &attr, hold_thread, seg) == 0);
	}
	for (;;)
		pause();
}

static int full_threads(void)
{
	const char *name = name_new();
	struct fnd_segment *seg;
	pid_t pid[4];

	NEED(fnd_segment_create(name, NULL, NULL) == 0);
	NEED(fnd_segment_attach(name, NULL, &seg) == 0);
	for (unsigned int i = 0; i < 4; i++)
		pid[i] = child_start(hold_threads, (void *)(uintptr_t)name);
	NEED(word_wait(&shared->word[0], 1024) == 0);
	NEED(word_get(&shared->word[1]) == 0);
	NEED(fnd_counter_read(seg, FND_COUNTER_EMITTED) == 1024);
	NEED(refused(fnd_read_begin(seg), FND_E_NOSLOT, "1024 thread slots"));
	NEED(refused(fnd_counter_add(seg, FND_COUNTER_EMITTED, 1), FND_E_NOSLOT, "1024 thread slots"));
	child_kill(pid[2]);
	NEED(fnd_read_begin(seg) == 0 && fnd_read_end(seg) == 0);
	NEED(fnd_counter_add(seg, FND_COUNTER_EMITTED, 1) == 0);
	NEED(fnd_counter_read(seg, FND_COUNTER_EMITTED) == 1025);
	for (unsigned int i = 0; i < 4; i++)
		if (i != 2)
			child_kill(pid[i]);
	NEED(fnd_segment_reap(seg, NULL) == 0);
	NEED(fnd_segment_detach(seg) == 0 && fnd_segment_destroy(name, 0) == 0);
	return 0;
}

const struct test_case full_cases[] = {
	{ "shm_create", shm_create },
	{ "shm_no_inode", no_inode },
	{ "shm_table", shm_table },
	{ "shm_growth", shm_growth },
	{ "shm_filled_later", shm_filled_later },
	{ "cgroup_limit", cgroup_limit },
	{ "full_table", full_table },
	{ "full_processes", full_processes },
	{ "full_threads", full_threads },
	{ NULL, NULL },
};
