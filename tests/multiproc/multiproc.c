// SPDX-License-Identifier: MIT
#define _GNU_SOURCE
#include "multiproc.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <xxhash.h>

#ifndef CASE_SECONDS
#define CASE_SECONDS 120 /* a guard against hanging, not a measure */
#endif
#define BALLAST "/dev/shm/ballast"

struct shared *shared;

static const char *own_prefix;
static pid_t main_pid;
static unsigned int names;
static uint64_t seed;

/* --- little things -------------------------------------------------------------------------------- */

void complain(const char *file, int line, const char *what)
{
	const char *base = strrchr(file, '/');

	fprintf(stderr, "%s:%d: %s (detail: '%s')\n", base ? base + 1 : file, line, what,
		fnd_error_detail());
}

bool refused(int err, int code, const char *word)
{
	if (err == -code && strstr(fnd_error_detail(), word))
		return true;
	fprintf(stderr, "result %d (%s), expected %d with '%s' in the detail\n", err, fnd_strerror(err),
		-code, word);
	return false;
}

const char *name_new(void)
{
	static char name[8][FND_NAME_MAX + 1];
	char *n = name[names % 8];

	snprintf(n, sizeof(name[0]), "%s.%d.%u", own_prefix, (int)main_pid, names);
	names++;
	return n;
}

const char *path_of(const char *name)
{
	static char path[160];

	snprintf(path, sizeof(path), "/dev/shm/foundation.%u.%s", (unsigned int)geteuid(), name);
	return path;
}

void nap_us(unsigned int us)
{
	struct timespec t = { us / 1000000, (long)(us % 1000000) * 1000 };

	nanosleep(&t, NULL);
}

void spin(uint64_t turns)
{
	for (volatile uint64_t i = 0; i < turns; i++)
		;
}

uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_REALTIME, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

uint64_t random_u64(void)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return seed;
}

void word_set(uint32_t *word, uint32_t value)
{
	__atomic_store_n(word, value, __ATOMIC_SEQ_CST);
}

uint32_t word_get(const uint32_t *word)
{
	return __atomic_load_n(word, __ATOMIC_SEQ_CST);
}

uint32_t word_add(uint32_t *word, uint32_t n)
{
	return __atomic_add_fetch(word, n, __ATOMIC_SEQ_CST);
}

int word_wait(const uint32_t *word, uint32_t value)
{
	for (unsigned int i = 0; i < 100000; i++) {
		if (word_get(word) >= value)
			return 0;
		nap_us(200);
	}
	fprintf(stderr, "waited 20 s in vain\n");
	return 1;
}

/* --- processes ------------------------------------------------------------------------------------ */

/* Under gcov a process that leaves by _exit() has to write its counters itself. */
extern void __gcov_dump(void) __attribute__((weak));

static void leave(int status)
{
	if (__gcov_dump)
		__gcov_dump();
	_exit(status);
}

pid_t child_start(child_fn fn, void *arg)
{
	static unsigned int births;
	pid_t pid = fork();

	births++;
	if (pid != 0)
		return pid;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	seed = (seed ^ births * 0x9e3779b97f4a7c15ULL) | 1; /* the same in each run of that seed */
	leave(fn(arg));
	return 0;
}

int child_wait(pid_t pid)
{
	int status;

	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			return 255;
	return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

int child_run(child_fn fn, void *arg)
{
	return child_wait(child_start(fn, arg));
}

void child_kill(pid_t pid)
{
	kill(pid, SIGKILL);
	child_wait(pid);
}

/* --- cases ---------------------------------------------------------------------------------------- */

/* Removes what this program has left in /dev/shm, and says how much it was. */
static unsigned int leftovers(void)
{
	DIR *dir = opendir("/dev/shm");
	char own[128], path[400];
	unsigned int n = 0;
	struct dirent *d;

	if (!dir)
		return 0;
	snprintf(own, sizeof(own), "foundation.%u.%s.%d.", (unsigned int)geteuid(), own_prefix,
		 (int)main_pid);
	while ((d = readdir(dir))) {
		if (strncmp(d->d_name, own, strlen(own)) != 0)
			continue;
		snprintf(path, sizeof(path), "/dev/shm/%s", d->d_name);
		if (unlink(path) != 0)
			rmdir(path);
		n++;
	}
	closedir(dir);
	return n;
}

static int case_child(void *arg)
{
	const struct test_case *c = arg;

	alarm(CASE_SECONDS);
	return c->run();
}

static int case_run(const struct test_case *c)
{
	uint64_t from = now_ns();
	unsigned int left, ms;
	int status;

	memset(shared, 0, sizeof(*shared));
	fflush(stdout);
	status = child_run(case_child, (void *)(uintptr_t)c);
	names += 1000; /* those of this case are not used again */
	left = leftovers();
	ms = (unsigned int)((now_ns() - from) / 1000000);
	if (status == 0 && left)
		printf("%s: FAILED, %u names left in /dev/shm\n", c->name, left);
	else if (status == 0 || status == SKIP)
		printf("%s: %s (%u ms)\n", c->name, status ? "skipped" : "ok", ms);
	else if (status > 128)
		printf("%s: FAILED by signal %d\n", c->name, status - 128);
	else
		printf("%s: FAILED\n", c->name);
	fflush(stdout);
	return status == 0 && left ? 1 : status;
}

static bool wanted(int argc, char **argv, const char *name)
{
	for (int i = 1; i < argc; i++)
		if (strcmp(argv[i], name) == 0)
			return true;
	return argc == 1;
}

int cases_main(int argc, char **argv, const char *prefix, const struct test_case *const *tables)
{
	const char *given = getenv("FOUNDATION_SEED");
	unsigned int ran = 0, skipped = 0, failed = 0;

	own_prefix = prefix;
	main_pid = getpid();
	seed = given ? strtoull(given, NULL, 0) : now_ns() | 1;
	printf("seed %#llx\n", (unsigned long long)seed);
	shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (shared == MAP_FAILED)
		return 1;
	for (; *tables; tables++) {
		for (const struct test_case *c = *tables; c->name; c++) {
			int status;

			if (!wanted(argc, argv, c->name))
				continue;
			status = case_run(c);
			ran++;
			skipped += status == SKIP;
			failed += status != 0 && status != SKIP;
		}
	}
	if (ran == 0) {
		fprintf(stderr, "no such case\n");
		return 2;
	}
	printf("%u cases, %u skipped, %u failed\n", ran, skipped, failed);
	return failed ? 1 : skipped == ran ? SKIP : 0;
}

/* --- segments ------------------------------------------------------------------------------------- */

struct fnd_segment_options small_options(void)
{
	return (struct fnd_segment_options){
		.size = sizeof(struct fnd_segment_options),
		.processes = 8,
		.threads = 16,
		.max_bytes = 64u << 20,
		.default_capacity = 64,
	};
}

int create_small(const char *name, struct fnd_segment **ret_seg)
{
	struct fnd_segment_options o = small_options();

	return fnd_segment_create(name, &o, ret_seg);
}

struct fnd_table_options table_options(uint32_t flags, uint64_t capacity)
{
	return (struct fnd_table_options){
		.size = sizeof(struct fnd_table_options),
		.flags = flags,
		.key_max = 32,
		.value_max = 64,
		.capacity = capacity,
	};
}

size_t key_text(char key[32], unsigned int i)
{
	return (size_t)snprintf(key, 32, "key number %u", i);
}

uint64_t value_of(unsigned int i)
{
	return (i + 1) * 0x9e3779b97f4a7c15ULL;
}

int put(struct fnd_table *t, unsigned int i)
{
	uint64_t v = value_of(i);
	char key[32];

	return fnd_table_insert(t, key, key_text(key, i), &v, sizeof(v));
}

int check(struct fnd_table *t, unsigned int i)
{
	uint64_t v = 0;
	size_t n = 0;
	char key[32];
	int err = fnd_table_lookup(t, key, key_text(key, i), &v, sizeof(v), &n);

	return err ? err : n == sizeof(v) && v == value_of(i) ? 0 : 1;
}

/* --- files ---------------------------------------------------------------------------------------- */

static uint64_t content_hash(const char *path, const struct stat *st)
{
	uint64_t hash = 0;
	void *p = NULL;
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd >= 0 && st->st_size)
		p = mmap(NULL, (size_t)st->st_size, PROT_READ, MAP_SHARED, fd, 0);
	if (p && p != MAP_FAILED) {
		hash = XXH3_64bits(p, (size_t)st->st_size);
		munmap(p, (size_t)st->st_size);
	}
	close(fd);
	return hash;
}

int fingerprint(const char *path, struct fingerprint *ret)
{
	memset(ret, 0, sizeof(*ret));
	if (lstat(path, &ret->st) != 0)
		return -errno;
	if (S_ISREG(ret->st.st_mode))
		ret->content = content_hash(path, &ret->st);
	if (S_ISLNK(ret->st.st_mode) && readlink(path, ret->link, sizeof(ret->link) - 1) < 0)
		return -errno;
	return 0;
}

bool untouched(const char *path, const struct fingerprint *before)
{
	const struct stat *a = &before->st, *b;
	struct fingerprint now;

	if (fingerprint(path, &now) != 0)
		return false;
	b = &now.st;
	return a->st_ino == b->st_ino && a->st_dev == b->st_dev && a->st_mode == b->st_mode &&
	       a->st_uid == b->st_uid && a->st_gid == b->st_gid && a->st_size == b->st_size &&
	       a->st_nlink == b->st_nlink && a->st_rdev == b->st_rdev &&
	       a->st_blocks == b->st_blocks && before->content == now.content &&
	       strcmp(before->link, now.link) == 0;
}

/* --- a /dev/shm of one's own ---------------------------------------------------------------------- */

static int write_text(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : write(fd, text, strlen(text));

	if (fd >= 0)
		close(fd);
	return n == (ssize_t)strlen(text) ? 0 : -1;
}

/* Without root: root's rights in a user namespace in which the user and group are still themselves. */
static int new_namespaces(void)
{
	unsigned int uid = geteuid(), gid = getegid();
	char map[64];

	if (uid == 0 && unshare(CLONE_NEWNS) == 0)
		return 0;
	if (unshare(CLONE_NEWUSER | CLONE_NEWNS) != 0)
		return -1;
	write_text("/proc/self/setgroups", "deny");
	snprintf(map, sizeof(map), "%u %u 1", gid, gid);
	if (write_text("/proc/self/gid_map", map) != 0)
		return -1;
	snprintf(map, sizeof(map), "%u %u 1", uid, uid);
	return write_text("/proc/self/uid_map", map);
}

int private_shm(const char *options)
{
	SKIP_UNLESS(new_namespaces() == 0, "no mount namespace to be had");
	SKIP_UNLESS(mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0, "mounts stay shared");
	SKIP_UNLESS(mount("tmpfs", "/dev/shm", "tmpfs", MS_NOSUID, options) == 0, "no tmpfs to be had");
	return 0;
}

unsigned int shm_entries(void)
{
	DIR *dir = opendir("/dev/shm");
	unsigned int n = 0;
	struct dirent *d;

	while (dir && (d = readdir(dir)))
		n += strcmp(d->d_name, ".") != 0 && strcmp(d->d_name, "..") != 0;
	if (dir)
		closedir(dir);
	return n;
}

uint64_t shm_free_bytes(void)
{
	struct statfs s;

	return statfs("/dev/shm", &s) == 0 ? (uint64_t)s.f_bfree * (uint64_t)s.f_bsize : 0;
}

int shm_fill(uint64_t spare)
{
	uint64_t left = shm_free_bytes();
	int fd = open(BALLAST, O_RDWR | O_CREAT | O_CLOEXEC, 0600), err = 0;
	off_t end = fd < 0 ? 0 : lseek(fd, 0, SEEK_END);

	if (fd >= 0 && left > spare)
		err = posix_fallocate(fd, end, (off_t)(left - spare));
	if (fd >= 0)
		close(fd);
	return fd < 0 || err ? 1 : 0;
}

void shm_unfill(void)
{
	unlink(BALLAST);
}
