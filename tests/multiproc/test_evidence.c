/* SPDX-License-Identifier: MIT */
/*
 * Death evidence against real processes in every state in which a check could go wrong.
 *
 * usage: test_evidence [--mutant] [CASE]...
 *
 * Each case runs in a process of its own, under the rule of this kernel and under the start time
 * rule. A victim shares one page of a memfd ("the segment") with its observer. --mutant turns the
 * result round: the program is linked with evidence that is wrong on purpose, and a case has to
 * fail.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "evidence_test.h"

struct page *page;
uint64_t seg_dev, seg_ino;
int seg_fd = -1;
int old_rule;

void nap_us(unsigned us)
{
	struct timespec t = { us / 1000000, (long)(us % 1000000) * 1000 };

	nanosleep(&t, NULL);
}

static uint64_t now_us(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_nsec / 1000;
}

void spin_us(unsigned us)
{
	uint64_t end = now_us() + us;

	while (now_us() < end)
		__atomic_fetch_add(&page->beat, 1, __ATOMIC_RELAXED);
}

uint32_t get_word(const uint32_t *word)
{
	return __atomic_load_n(word, __ATOMIC_SEQ_CST);
}

void set_word(uint32_t *word, uint32_t value)
{
	__atomic_store_n(word, value, __ATOMIC_SEQ_CST);
}

int wait_word(const uint32_t *word, uint32_t value)
{
	uint64_t end = now_us() + 10000000;

	while (get_word(word) != value) {
		if (now_us() > end) {
			fprintf(stderr, "waited 10 s in vain\n");
			return -1;
		}
		nap_us(100);
	}
	return 0;
}

void victim_wait_for_go(void)
{
	set_word(&page->ready, 1);
	while (!get_word(&page->go))
		nap_us(200);
}

void victim_beat(void)
{
	set_word(&page->ready, 1);
	for (;;)
		spin_us(1000);
}

static pid_t fork_as(pid_t set_tid)
{
	struct clone_args args = { .exit_signal = SIGCHLD };

	if (set_tid == 0)
		return fork();
	args.set_tid = (uint64_t)(uintptr_t)&set_tid;
	args.set_tid_size = 1;
	return (pid_t)syscall(SYS_clone3, &args, sizeof(args));
}

pid_t victim_fork(victim_fn fn, pid_t set_tid)
{
	pid_t pid = fork_as(set_tid);

	if (pid != 0)
		return pid;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (fnd_identity_self(&page->id) < 0)
		_exit(9);
	fn();
	_exit(0);
}

pid_t victim_start(victim_fn fn)
{
	pid_t pid;

	set_word(&page->ready, 0);
	set_word(&page->go, 0);
	set_word(&page->leaving, 0);
	pid = victim_fork(fn, 0);
	if (pid < 0 || wait_word(&page->ready, 1) < 0) {
		fprintf(stderr, "the victim did not start\n");
		_exit(1);
	}
	return pid;
}

void wait_unreaped(pid_t pid)
{
	siginfo_t info;

	waitid(P_PID, (id_t)pid, &info, WEXITED | WNOWAIT);
}

void kill_unreaped(pid_t pid)
{
	kill(pid, SIGKILL);
	wait_unreaped(pid);
}

void reap(pid_t pid)
{
	kill(pid, SIGKILL);
	waitpid(pid, NULL, __WALL);
}

int verdict(const struct fnd_identity *id, enum kind kind)
{
	unsigned flags = kind == DEEP ? FND_EVIDENCE_DEEP : 0;
	int v;

	errno = 12345;
	if (kind == THREAD)
		v = fnd_evidence_thread(id, id->pid, 0, 0, 0);
	else
		v = fnd_evidence_process(id, seg_dev, seg_ino, flags);
	if (errno != 12345) {
		fprintf(stderr, "errno was not kept\n");
		_exit(1);
	}
	return v;
}

int expect(const char *where, const struct fnd_identity *id, unsigned kinds,
	   enum fnd_evidence wanted)
{
	static const char *const names[] = {
		[PLAIN] = "plain", [DEEP] = "deep", [THREAD] = "thread"
	};

	for (unsigned k = PLAIN; k <= THREAD; k <<= 1) {
		if (!(kinds & k) || verdict(id, k) == (int)wanted)
			continue;
		fprintf(stderr, "%s: %s look says %s\n", where, names[k],
			wanted ? "alive or unknown, but it is dead" : "dead, and it is not");
		return 1;
	}
	return 0;
}

int expect_soon(const char *where, const struct fnd_identity *id, unsigned kinds)
{
	uint64_t end = now_us() + 5000000;

	for (unsigned k = PLAIN; k <= THREAD; k <<= 1) {
		while ((kinds & k) && verdict(id, k) != FND_PROVEN_DEAD && now_us() < end)
			nap_us(200);
	}
	return DEAD(where, id, kinds);
}

static int make_segment(void)
{
	struct stat st;

	/* A name that would break a parser which does not know how maps shows a newline. */
	seg_fd = memfd_create("segment 1\n00400000-00401000 r--p 00000000 00:00 0 x", MFD_CLOEXEC);
	if (seg_fd < 0 || ftruncate(seg_fd, 4096) < 0 || fstat(seg_fd, &st) < 0)
		return -1;
	page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, seg_fd, 0);
	seg_dev = st.st_dev;
	seg_ino = st.st_ino;
	return page == MAP_FAILED ? -1 : 0;
}

static int run_in_child(const struct test_case *c)
{
	int status;
	pid_t pid;

	fflush(stdout);
	pid = fork();
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		alarm(60); /* only against hanging */
		fnd_evidence_force_old_rule(old_rule);
		if (make_segment() < 0)
			_exit(1);
		_exit(c->run());
	}
	if (pid < 0 || waitpid(pid, &status, 0) < 0)
		return 1;
	return WIFEXITED(status) ? WEXITSTATUS(status) : 1;
}

static int chosen(const char *name, int argc, char **argv)
{
	for (int i = 0; i < argc; i++) {
		if (strcmp(argv[i], name) == 0)
			return 1;
	}
	return argc == 0;
}

static int run_list(const struct test_case *c, int argc, char **argv, int *count)
{
	int failed = 0, r;

	for (; c->name; c++) {
		if (!chosen(c->name, argc, argv))
			continue;
		r = run_in_child(c);
		printf("%-4s %-10s %s\n", r == 0 ? "ok" : r == SKIP ? "SKIP"
								    : "FAIL",
		       old_rule ? "start-time" : "inode", c->name);
		failed += r != 0 && r != SKIP;
		*count += r != SKIP;
	}
	return failed;
}

/* What a victim becomes by exec: --nap ends soon, --hold maps the segment again and stays. */
static int become(const char *what, const char *fd)
{
	if (strcmp(what, "--hold") == 0) {
		page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, atoi(fd), 0);
		if (page == MAP_FAILED)
			return 1;
		set_word(&page->go, 2);
		nap_us(20000000);
	}
	nap_us(1000);
	return 0;
}

int main(int argc, char **argv)
{
	int failed = 0, count = 0, mutant;
	uint64_t start = now_us();

	if (argc > 1 && (strcmp(argv[1], "--nap") == 0 || strcmp(argv[1], "--hold") == 0))
		return become(argv[1], argc > 2 ? argv[2] : "-1");
	mutant = argc > 1 && strcmp(argv[1], "--mutant") == 0;
	argc -= 1 + mutant;
	argv += 1 + mutant;
	for (old_rule = fnd_evidence_rule() == FND_RULE_START_TIME; old_rule <= 1; old_rule++) {
		failed += run_list(life_cases, argc, argv, &count);
		failed += run_list(exec_cases, argc, argv, &count);
		failed += run_list(space_cases, argc, argv, &count);
	}
	printf("%d runs, %d failed, %.1f s\n", count, failed, (double)(now_us() - start) / 1e6);
	if (count == 0)
		return SKIP;
	if (mutant) {
		printf("the mutant was %s\n", failed ? "caught" : "NOT caught");
		return failed == 0;
	}
	return failed != 0;
}
