// SPDX-License-Identifier: MIT
/* The state journal: torn tails, flipped bits, appenders that are killed, rotation, disks that refuse. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
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
