// SPDX-License-Identifier: MIT
/* The state journal: torn tails, flipped bits, appenders that are killed, rotation, disks that refuse. */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <criterion/criterion.h>

#include <foundation/journal.h>

static char state[64], path[128];
static struct fnd_journal *j;

/* Calls of the library that one test each makes go wrong. */
static unsigned int refuse_pread, refuse_sync, lose_lock;

ssize_t __real_pread(int fd, void *buf, size_t bytes, off_t at);
ssize_t __wrap_pread(int fd, void *buf, size_t bytes, off_t at);
int __real_fdatasync(int fd);
int __wrap_fdatasync(int fd);
int __real_flock(int fd, int op);
int __wrap_flock(int fd, int op);

ssize_t __wrap_pread(int fd, void *buf, size_t bytes, off_t at)
{
	if (refuse_pread && refuse_pread-- == 1) {
		errno = EIO;
		return -1;
	}
	return __real_pread(fd, buf, bytes, at);
}

int __wrap_fdatasync(int fd)
{
	if (refuse_sync && refuse_sync-- == 1) {
		errno = EIO;
		return -1;
	}
	return __real_fdatasync(fd);
}

/* A purge between the opening of the lock file and the lock. */
int __wrap_flock(int fd, int op)
{
	char lock[160];

	if (lose_lock && lose_lock-- == 1) {
		snprintf(lock, sizeof(lock), "%s/seg/lock", state);
		unlink(lock);
	}
	return __real_flock(fd, op);
}

static void setup(void)
{
	snprintf(state, sizeof(state), "/tmp/test-journal-XXXXXX");
	cr_assert(mkdtemp(state));
	setenv("FOUNDATION_STATE_DIR", state, 1);
	snprintf(path, sizeof(path), "%s/seg/journal", state);
	cr_assert_eq(fnd_journal_open("seg", NULL, &j), 0);
}

static void teardown(void)
{
	fnd_journal_purge(j);
	fnd_journal_close(j);
	rmdir(state);
}

TestSuite(journal, .init = setup, .fini = teardown, .timeout = 120);

struct seen {
	unsigned int count, cut;
	uint64_t first, last;
	int in_order;
};

static int see(const struct fnd_journal_record *r, void *arg)
{
	struct seen *s = arg;

	s->in_order = s->count == 0 ? 1 : s->in_order && r->n == s->last + 1;
	if (s->count++ == 0)
		s->first = r->n;
	s->last = r->n;
	s->cut += strcmp(r->type, "journal.cut") == 0;
	return 0;
}

static struct seen look(unsigned int *ret_damaged)
{
	struct seen s = { 0 };

	cr_assert_eq(fnd_journal_read(j, see, &s, ret_damaged), 0);
	return s;
}

static void append(unsigned int n)
{
	for (unsigned int i = 0; i < n; i++) {
		int err = fnd_journal_append(j, "test.line", "\"a\":1,\"b\":\"x y\"", NULL);

		cr_assert_eq(err, 0, "append: %s", fnd_error_detail());
	}
}

static size_t file_bytes(void)
{
	struct stat st;

	return stat(path, &st) == 0 ? (size_t)st.st_size : 0;
}

Test(journal, none_yet)
{
	unsigned int damaged = 9;

	cr_assert_eq(look(&damaged).count, 0);
	cr_assert_eq(damaged, 0);
	cr_assert_eq(fnd_journal_writable(j), 0);
	cr_assert_eq(access(path, F_OK), -1, "looking makes nothing");
}

Test(journal, refused_arguments)
{
	struct fnd_journal *other;

	cr_assert_eq(fnd_journal_append(j, "Bad Type", "", NULL), -EINVAL);
	cr_assert_eq(fnd_journal_append(j, "x", "\"a\":", NULL), -EINVAL);
	cr_assert_eq(fnd_journal_append(j, "x", "\"a\":\"\n\"", NULL), -EINVAL);
	cr_assert_eq(fnd_journal_open("", NULL, &other), -EINVAL);
	cr_assert_eq(fnd_journal_open("../x", NULL, &other), -EINVAL);
	cr_assert_eq(file_bytes(), 0);
}

Test(journal, every_torn_tail_is_cut)
{
	size_t whole, last;

	append(3);
	whole = file_bytes();
	append(1);
	last = file_bytes() - whole;
	for (size_t keep = 1; keep < last; keep++) {
		struct seen s;

		cr_assert_eq(truncate(path, (off_t)(whole + keep)), 0);
		s = look(NULL);
		cr_assert_eq(s.count, 3, "%zu bytes of a record are no record", keep);
		append(1);
		s = look(NULL);
		cr_assert_eq(s.count, 5, "three, the cut, and the new one");
		cr_assert_eq(s.cut, 1);
		cr_assert(s.in_order);
		cr_assert_eq(truncate(path, (off_t)(whole + last)), 0);
		cr_assert_eq(truncate(path, (off_t)whole), 0);
		append(1);
	}
}

Test(journal, every_flipped_bit_is_noticed)
{
	unsigned int damaged;
	size_t bytes;
	int fd;

	append(2);
	bytes = file_bytes() / 2;
	fd = open(path, O_RDWR | O_CLOEXEC);
	for (size_t bit = 0; bit < bytes * 8; bit++) {
		unsigned char c;
		struct seen s;

		cr_assert_eq(pread(fd, &c, 1, (off_t)(bit / 8)), 1);
		c ^= (unsigned char)(1u << bit % 8);
		cr_assert_eq(pwrite(fd, &c, 1, (off_t)(bit / 8)), 1);
		s = look(&damaged);
		cr_assert(s.count <= 1 && damaged >= 1, "bit %zu: %u records, %u damaged", bit, s.count, damaged);
		c ^= (unsigned char)(1u << bit % 8);
		cr_assert_eq(pwrite(fd, &c, 1, (off_t)(bit / 8)), 1);
	}
	close(fd);
	cr_assert_eq(look(&damaged).count, 2);
}

/* Appends until it is killed; says on the pipe which numbers are on disk. */
static void appender(int pipe_fd)
{
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	for (;;) {
		uint64_t n;

		if (fnd_journal_append(j, "test.line", "\"who\":1", &n) != 0)
			_exit(1);
		if (write(pipe_fd, &n, sizeof(n)) != sizeof(n))
			_exit(0);
	}
}

static int mark(const struct fnd_journal_record *r, void *arg)
{
	unsigned char *there = arg;

	cr_assert_lt(r->n, 100000);
	cr_assert_eq(there[r->n], 0, "number %llu twice", (unsigned long long)r->n);
	there[r->n] = 1;
	return 0;
}

Test(journal, killed_appenders_lose_nothing)
{
	unsigned char *there = calloc(100000, 1);
	unsigned int claimed = 0, damaged;
	uint64_t n;
	int fd[2];

	cr_assert_eq(pipe2(fd, O_CLOEXEC), 0);
	for (unsigned int round = 0; round < 6; round++) {
		pid_t pid[8];

		for (unsigned int i = 0; i < 8; i++) {
			pid[i] = fork();
			if (pid[i] == 0)
				appender(fd[1]);
		}
		nanosleep(&(struct timespec){ 0, 60000000 }, NULL);
		for (unsigned int i = 0; i < 8; i++)
			kill(pid[i], SIGKILL);
		for (unsigned int i = 0; i < 8; i++)
			waitpid(pid[i], NULL, 0);
	}
	append(1); /* cuts what the last one left */
	cr_assert_eq(fnd_journal_read(j, mark, there, &damaged), 0);
	cr_assert_eq(damaged, 0);
	close(fd[1]);
	while (read(fd[0], &n, sizeof(n)) == sizeof(n)) {
		cr_assert(there[n], "number %llu was on disk", (unsigned long long)n);
		claimed++;
	}
	cr_assert_gt(claimed, 20);
	close(fd[0]);
	free(there);
}

static int first_is_state(const struct fnd_journal_record *r, void *arg)
{
	*(int *)arg = strcmp(r->type, "state") == 0 && strstr(r->json, "\"flags\":{}") != NULL;
	return 1;
}

Test(journal, rotation)
{
	const struct fnd_journal_options opt = { .size = sizeof(opt), .max_bytes = 2000, .keep = 2 };
	struct fnd_journal *fresh;
	int state_first = 0;
	struct seen s;

	fnd_journal_close(j);
	cr_assert_eq(fnd_journal_open("seg", &opt, &j), 0);
	cr_assert_eq(fnd_journal_keep_state(j, "\"flags\":{}"), 0);
	append(200);
	s = look(NULL);
	cr_assert(s.in_order, "numbers run on over rotations");
	cr_assert_geq(s.last, 200);
	cr_assert_gt(s.first, 100, "old files go");
	cr_assert_lt(file_bytes(), 4000);
	cr_assert_eq(fnd_journal_open("seg", &(struct fnd_journal_options){ .size = sizeof(opt), .keep = 1 }, &fresh), 0);
	cr_assert_eq(fnd_journal_read(fresh, first_is_state, &state_first, NULL), 1);
	cr_assert(state_first, "a file can be read without those before it");
	fnd_journal_close(fresh);
}

Test(journal, a_full_disk_leaves_nothing_half)
{
	struct rlimit was, small;
	struct seen s;
	int err;

	append(2);
	getrlimit(RLIMIT_FSIZE, &was);
	small = was;
	small.rlim_cur = file_bytes() + 20; /* the next record does not fit */
	signal(SIGXFSZ, SIG_IGN);
	cr_assert_eq(setrlimit(RLIMIT_FSIZE, &small), 0);
	err = fnd_journal_append(j, "test.line", "\"a\":1", NULL);
	cr_assert_eq(setrlimit(RLIMIT_FSIZE, &was), 0);
	cr_assert_lt(err, 0);
	cr_assert_eq(look(NULL).count, 2);
	append(1);
	s = look(NULL);
	cr_assert_eq(s.count, 3);
	cr_assert_eq(s.cut, 0, "the failed append had cut off its own");
}

Test(journal, held_lock_ends_in_a_timeout)
{
	const struct fnd_journal_options opt = { .size = sizeof(opt), .lock_timeout_ms = 30 };
	int to_child[2], to_us[2];
	char byte = 0;
	pid_t pid;

	append(1);
	cr_assert_eq(pipe2(to_child, O_CLOEXEC), 0);
	cr_assert_eq(pipe2(to_us, O_CLOEXEC), 0);
	pid = fork();
	if (pid == 0) {
		char lock[160];
		int fd;

		prctl(PR_SET_PDEATHSIG, SIGKILL);
		snprintf(lock, sizeof(lock), "%s/seg/lock", state);
		fd = open(lock, O_RDWR | O_CLOEXEC);
		_exit(flock(fd, LOCK_EX) == 0 && write(to_us[1], &byte, 1) == 1 && read(to_child[0], &byte, 1) == 1);
	}
	cr_assert_eq(read(to_us[0], &byte, 1), 1);
	fnd_journal_close(j);
	cr_assert_eq(fnd_journal_open("seg", &opt, &j), 0);
	cr_assert_eq(fnd_journal_append(j, "test.line", "", NULL), -ETIMEDOUT);
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	append(1);
}

Test(journal, purge)
{
	append(2);
	cr_assert_eq(fnd_journal_purge(j), 0);
	cr_assert_eq(look(NULL).count, 0);
	cr_assert_eq(fnd_journal_purge(j), 0);
	append(1);
	cr_assert_eq(look(NULL).first, 1);
}

Test(journal, own_uid_is_no_other_journal)
{
	char own[32], other[32], expect[128];
	struct fnd_journal *k;

	snprintf(own, sizeof(own), "%u/seg", geteuid());
	cr_assert_eq(fnd_journal_open(own, NULL, &k), 0);
	cr_assert_str_eq(fnd_journal_directory(k), fnd_journal_directory(j));
	fnd_journal_close(k);
	snprintf(other, sizeof(other), "%u/seg", geteuid() + 1);
	cr_assert_eq(fnd_journal_open(other, NULL, &k), 0);
	snprintf(expect, sizeof(expect), "%s/%u@seg", state, geteuid() + 1);
	cr_assert_str_eq(fnd_journal_directory(k), expect);
	fnd_journal_close(k);
	cr_assert_eq(fnd_journal_open("1/../x", NULL, &k), -EINVAL);
	cr_assert_eq(fnd_journal_open("/x", NULL, &k), -EINVAL);
	cr_assert_eq(fnd_journal_open("x/", NULL, &k), -EINVAL);
}

Test(journal, damage_longer_than_a_record_stays)
{
	const size_t bytes = 300000;
	char *garbage = malloc(bytes);
	unsigned int damaged;
	struct seen s;
	size_t before;
	int fd;

	append(5);
	memset(garbage, 'z', bytes);
	fd = open(path, O_WRONLY | O_APPEND | O_CLOEXEC);
	cr_assert_eq(write(fd, garbage, bytes), (ssize_t)bytes);
	close(fd);
	free(garbage);
	before = file_bytes();
	append(2);
	s = look(&damaged);
	cr_assert_eq(s.count, 8, "five, the report, two: %u", s.count);
	cr_assert(s.in_order);
	cr_assert_eq(s.last, 8, "numbers go on");
	cr_assert_eq(damaged, 1);
	cr_assert_gt(file_bytes(), before);
}

struct found {
	unsigned int flags, config, order;
	uint64_t last;
};

static int find_state(const struct fnd_journal_record *r, void *arg)
{
	struct found *f = arg;

	f->flags += strstr(r->json, "\"flags\":{\"a\":1}") != NULL;
	f->config += strstr(r->json, "\"config\":{\"b\":\"2\"}") != NULL;
	f->order += r->n <= f->last;
	f->last = r->n;
	return 0;
}

Test(journal, rotation_without_a_state_loses_none)
{
	const struct fnd_journal_options opt = { .size = sizeof(opt), .max_bytes = 1500, .keep = 2 };
	struct found f = { 0 };

	fnd_journal_close(j);
	cr_assert_eq(fnd_journal_open("seg", &opt, &j), 0);
	cr_assert_eq(fnd_journal_append(j, "flag.changed", "\"count\":7,\"flags\":{\"a\":1}", NULL), 0);
	cr_assert_eq(fnd_journal_append(j, "config.set", "\"config\":{\"b\":\"1\"}", NULL), 0);
	cr_assert_eq(fnd_journal_append(j, "config.set", "\"config\":{\"b\":\"2\"}", NULL), 0);
	append(400);
	cr_assert_eq(fnd_journal_read(j, find_state, &f, NULL), 0);
	cr_assert_eq(f.flags, 1, "once, though it is in each file");
	cr_assert_eq(f.config, 1);
	cr_assert_eq(f.order, 0);
	cr_assert_geq(f.last, 403);
	/* one that has a state, but not of the configuration */
	cr_assert_eq(fnd_journal_keep_state(j, "\"flags\":{\"a\":1}"), 0);
	append(200);
	memset(&f, 0, sizeof(f));
	cr_assert_eq(fnd_journal_read(j, find_state, &f, NULL), 0);
	cr_assert_geq(f.flags, 1);
	cr_assert_eq(f.config, 1);
	cr_assert_eq(f.order, 0);
}

/* Appends a number of records with a file so small that it is rotated all the time. */
static void rotator(unsigned int n)
{
	const struct fnd_journal_options opt = { .size = sizeof(opt), .max_bytes = 1500, .keep = 64 };
	struct fnd_journal *mine;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (fnd_journal_open("seg", &opt, &mine) || fnd_journal_keep_state(mine, "\"flags\":{}"))
		_exit(2);
	for (unsigned int i = 0; i < n; i++)
		if (fnd_journal_append(mine, "test.line", "\"a\":1", NULL))
			_exit(3);
	_exit(0);
}

static int count_lines(const struct fnd_journal_record *r, void *arg)
{
	struct seen *s = arg;

	s->in_order &= r->n == s->last + 1;
	s->last = r->n;
	s->count += strcmp(r->type, "test.line") == 0;
	return 0;
}

Test(journal, rotation_under_appenders_and_a_reader)
{
	pid_t pid[4];
	unsigned int alive = 4, damaged = 0;
	struct seen s;

	for (unsigned int i = 0; i < 4; i++) {
		pid[i] = fork();
		if (pid[i] == 0)
			rotator(60);
	}
	while (alive) {
		int status;

		s = (struct seen){ .in_order = 1 };
		cr_assert_eq(fnd_journal_read(j, count_lines, &s, &damaged), 0);
		cr_assert(s.in_order, "a reader beside rotations misses none: up to %lu", (unsigned long)s.last);
		cr_assert_eq(damaged, 0);
		if (waitpid(pid[alive - 1], &status, WNOHANG) > 0) {
			cr_assert(WIFEXITED(status) && WEXITSTATUS(status) == 0, "status %x", (unsigned int)status);
			alive--;
		}
	}
	s = (struct seen){ .in_order = 1 };
	cr_assert_eq(fnd_journal_read(j, count_lines, &s, &damaged), 0);
	cr_assert_eq(s.count, 240);
	cr_assert(s.in_order);
}

/* As `appender`, but with files that rotate under it. */
static void rotating_appender(int pipe_fd)
{
	const struct fnd_journal_options opt = { .size = sizeof(opt), .max_bytes = 65536, .keep = 64 };
	struct fnd_journal *mine;

	if (fnd_journal_open("seg", &opt, &mine) || fnd_journal_keep_state(mine, "\"flags\":{}"))
		_exit(2);
	j = mine;
	appender(pipe_fd);
}

Test(journal, kills_during_rotations_lose_nothing)
{
	unsigned char *there = calloc(100000, 1);
	unsigned int damaged;
	uint64_t n;
	int fd[2];

	cr_assert_eq(pipe2(fd, O_CLOEXEC), 0);
	for (unsigned int round = 0; round < 8; round++) {
		pid_t pid[8];

		for (unsigned int i = 0; i < 8; i++) {
			pid[i] = fork();
			if (pid[i] == 0)
				rotating_appender(fd[1]);
		}
		nanosleep(&(struct timespec){ 0, 50000000 }, NULL);
		for (unsigned int i = 0; i < 8; i++)
			kill(pid[i], SIGKILL);
		for (unsigned int i = 0; i < 8; i++)
			waitpid(pid[i], NULL, 0);
	}
	append(1);
	cr_assert_eq(fnd_journal_read(j, mark, there, &damaged), 0);
	cr_assert_eq(damaged, 0);
	close(fd[1]);
	while (read(fd[0], &n, sizeof(n)) == sizeof(n))
		cr_assert(there[n], "number %llu was on disk", (unsigned long long)n);
	close(fd[0]);
	free(there);
}

Test(journal, purge_beside_an_appender)
{
	pid_t pid = fork();
	int status;

	if (pid == 0)
		rotator(200);
	do {
		int err = fnd_journal_purge(j);

		cr_assert_eq(err, 0, "purge: %s", fnd_error_detail());
	} while (waitpid(pid, &status, WNOHANG) == 0);
	cr_assert(WIFEXITED(status) && WEXITSTATUS(status) == 0, "an append failed: %x", (unsigned int)status);
}

Test(journal, a_fifo_holds_nobody_up)
{
	append(1);
	cr_assert_eq(unlink(path), 0);
	cr_assert_eq(mkfifo(path, 0600), 0);
	cr_assert_eq(fnd_journal_append(j, "test.line", "", NULL), -EINVAL);
	cr_assert_lt(fnd_journal_read(j, see, &(struct seen){ 0 }, NULL), 0);
}

/* A full and a read-only file system, as a mount of our own; skipped without the right to mount. */
static void full_or_read_only(void)
{
	char big[2048];
	struct fnd_journal *mine;
	unsigned int n = 0;
	struct seen s = { 0 };
	int err;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (unshare(CLONE_NEWNS) || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) ||
	    mount("none", state, "tmpfs", 0, "size=64k"))
		_exit(77);
	memset(big, 'x', sizeof(big));
	memcpy(big, "\"a\":\"", 5);
	memcpy(big + sizeof(big) - 2, "\"", 2);
	if (fnd_journal_open("seg", NULL, &mine))
		_exit(1);
	do {
		err = fnd_journal_append(mine, "test.line", big, NULL);
		n += err == 0;
	} while (!err && n < 100);
	if (err != -ENOSPC || !*fnd_error_detail())
		_exit(2);
	if (fnd_journal_read(mine, see, &s, NULL) || s.count != n || s.cut)
		_exit(3);
	if (mount(NULL, state, NULL, MS_REMOUNT | MS_RDONLY, NULL))
		_exit(4);
	if (fnd_journal_append(mine, "test.line", "", NULL) != -EROFS || fnd_journal_writable(mine) != -EROFS)
		_exit(5);
	s = (struct seen){ 0 };
	if (fnd_journal_read(mine, see, &s, NULL) || s.count != n)
		_exit(6);
	_exit(fnd_journal_purge(mine) == -EROFS ? 0 : 7);
}

Test(journal, full_and_read_only_disks)
{
	pid_t pid = fork();
	int status;

	if (pid == 0)
		full_or_read_only();
	cr_assert_eq(waitpid(pid, &status, 0), pid);
	cr_assert(WIFEXITED(status), "status %x", (unsigned int)status);
	if (WEXITSTATUS(status) == 77)
		cr_skip_test("no right to mount");
	cr_assert_eq(WEXITSTATUS(status), 0, "step %d", WEXITSTATUS(status));
}

Test(journal, what_cannot_be_read_is_no_tail)
{
	size_t bytes;
	struct seen s;

	append(5);
	bytes = file_bytes();
	refuse_pread = 1;
	cr_assert_eq(fnd_journal_append(j, "test.line", "", NULL), -EIO);
	cr_assert_eq(file_bytes(), bytes, "nothing was cut");
	refuse_pread = 1;
	cr_assert_eq(fnd_journal_read(j, see, &(struct seen){ 0 }, NULL), -EIO);
	append(1);
	s = look(NULL);
	cr_assert(s.count == 6 && s.cut == 0 && s.in_order);
}

Test(journal, a_failed_sync_is_a_failed_append)
{
	size_t bytes;
	struct seen s;

	append(2);
	bytes = file_bytes();
	refuse_sync = 1;
	cr_assert_eq(fnd_journal_append(j, "test.line", "", NULL), -EIO);
	cr_assert_eq(file_bytes(), bytes, "nothing of it is there");
	append(1);
	s = look(NULL);
	cr_assert(s.count == 3 && s.in_order);
}

Test(journal, a_lock_without_its_name_is_none)
{
	char lock[160];

	append(1);
	lose_lock = 1;
	append(1);
	snprintf(lock, sizeof(lock), "%s/seg/lock", state);
	cr_assert_eq(access(lock, F_OK), 0, "appended under a lock that nobody else can find");
}
