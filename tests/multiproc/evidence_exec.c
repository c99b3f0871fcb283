/* SPDX-License-Identifier: MIT */
/* Cases: exec and fork, where pid and inode stay and only the maps tell. */
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "evidence_test.h"

static void exec_sleep(void)
{
	set_word(&page->leaving, 1);
	execl("/bin/sleep", "sleep", "20", (char *)NULL);
	_exit(1);
}

static void *exec_sleep_thread(void *arg)
{
	(void)arg;
	exec_sleep();
	return NULL;
}

static void exec_after_go(void)
{
	victim_wait_for_go();
	exec_sleep();
}

static void exec_from_thread(void)
{
	pthread_t t;

	victim_wait_for_go();
	pthread_create(&t, NULL, exec_sleep_thread, NULL);
	for (;;)
		spin_us(1000);
}

static void exec_after_leader_left(void)
{
	pthread_t t;

	victim_wait_for_go();
	pthread_create(&t, NULL, exec_sleep_thread, NULL);
	pthread_exit(NULL);
}

static int exec_as(victim_fn fn)
{
	pid_t pid = victim_start(fn);
	enum fnd_evidence rule_off;

	TRY(ALIVE("before exec", &page->id, ALL));
	set_word(&page->go, 1);
	TRY(expect_soon("after exec", &page->id, DEEP));
	NEED(get_word(&page->leaving) == 1);
	/* Missed on purpose without the deep look, and without the file's numbers. */
	TRY(ALIVE("after exec", &page->id, PLAIN | THREAD));
	rule_off = fnd_evidence_process(&page->id, 0, 0, FND_EVIDENCE_DEEP);
	NEED(rule_off == FND_ALIVE_OR_UNKNOWN);
	/* An observer whose own maps do not bear the numbers out has no evidence. */
	rule_off = fnd_evidence_process(&page->id, seg_dev, seg_ino + 1000000, FND_EVIDENCE_DEEP);
	NEED(rule_off == FND_ALIVE_OR_UNKNOWN);
	kill_unreaped(pid);
	TRY(DEAD("killed after exec", &page->id, ALL));
	reap(pid);
	return 0;
}

static int exec_plain(void)
{
	return exec_as(exec_after_go);
}

static int exec_thread(void)
{
	for (int i = 0; i < 5; i++) {
		TRY(exec_as(exec_from_thread));
		TRY(exec_as(exec_after_leader_left));
	}
	return 0;
}

static unsigned race_delay;
static int race_from_thread;

static void *race_exec(void *arg)
{
	(void)arg;
	spin_us(race_delay);
	set_word(&page->leaving, 1);
	execl("/proc/self/exe", "test_evidence", "--nap", (char *)NULL);
	_exit(1);
}

static void race_victim(void)
{
	pthread_t t;

	set_word(&page->ready, 1);
	if (race_from_thread) {
		pthread_create(&t, NULL, race_exec, NULL);
		for (;;)
			spin_us(1000);
	}
	race_exec(NULL);
}

/* Looked at without pause from before the exec to the death of the new program. */
static int exec_race(void)
{
	int by_maps = 0;

	for (int round = 0; round < 200; round++) {
		siginfo_t info = { 0 };
		int dead = 0;
		pid_t pid;

		race_delay = (unsigned)(round * 7 % 400);
		race_from_thread = round & 1;
		pid = victim_start(race_victim);
		while (!dead) {
			dead = verdict(&page->id, DEEP);
			/* leaving is its last store as the program that has the segment. */
			NEED(!dead || get_word(&page->leaving) == 1);
		}
		waitid(P_PID, (id_t)pid, &info, WEXITED | WNOWAIT | WNOHANG);
		by_maps += info.si_pid == 0;
		reap(pid);
	}
	NEED(by_maps > 0);
	return 0;
}

static void failing_execs(void)
{
	set_word(&page->ready, 1);
	for (;;) {
		execl("/nonexistent/program", "program", (char *)NULL);
		__atomic_fetch_add(&page->beat, 1, __ATOMIC_RELAXED);
	}
}

static int exec_fails(void)
{
	pid_t pid = victim_start(failing_execs);

	for (int i = 0; i < 500; i++)
		TRY(ALIVE("exec failed", &page->id, ALL));
	reap(pid);
	return 0;
}

static void exec_and_map_again(void)
{
	char fd[16];

	victim_wait_for_go();
	snprintf(fd, sizeof(fd), "%d", dup(seg_fd)); /* the copy survives exec */
	execl("/proc/self/exe", "test_evidence", "--hold", fd, (char *)NULL);
	_exit(1);
}

/*
 * The new program has the segment mapped again: nothing tells it from the old one, so nothing is
 * said.
 */
static int exec_maps_again(void)
{
	pid_t pid = victim_start(exec_and_map_again);

	set_word(&page->go, 1);
	NEED(wait_word(&page->go, 2) == 0);
	TRY(ALIVE("mapped again", &page->id, ALL));
	kill_unreaped(pid);
	TRY(DEAD("killed", &page->id, ALL));
	return 0;
}

static void fork_and_exec(void)
{
	pid_t pid = fork();

	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		fnd_identity_self(&page->second);
		victim_beat();
	}
	while (!get_word(&page->go))
		nap_us(200);
	exec_sleep();
}

/* A child that was forked before keeps the mapping, under its own pid. */
static int fork_child_keeps_mapping(void)
{
	pid_t pid = victim_start(fork_and_exec);

	TRY(ALIVE("parent", &page->id, ALL));
	TRY(ALIVE("child", &page->second, ALL));
	set_word(&page->go, 1);
	TRY(expect_soon("parent after exec", &page->id, DEEP));
	TRY(ALIVE("child of the one that left", &page->second, ALL));
	kill((pid_t)page->second.pid, SIGKILL);
	TRY(expect_soon("child killed", &page->second, ALL));
	reap(pid);
	return 0;
}

#define MANY_MAPS 4000

static void many_maps(void)
{
	for (int i = 0; i < MANY_MAPS; i++) {
		int prot = i & 1 ? PROT_READ : PROT_READ | PROT_WRITE;

		if (mmap(NULL, 4096, prot, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == MAP_FAILED)
			_exit(1);
	}
	victim_wait_for_go();
}

/* The segment is far behind in a maps file of several hundred kilobytes. */
static int long_maps(void)
{
	pid_t pid = victim_start(many_maps);

	for (int i = 0; i < 20; i++)
		TRY(ALIVE("thousands of mappings", &page->id, ALL));
	reap(pid);
	return 0;
}

static void *come_and_go(void *arg)
{
	void *a = mmap(NULL, 65536, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	mprotect(a, 4096, PROT_READ | PROT_WRITE);
	munmap(a, 65536);
	__atomic_fetch_add(&page->beat, 1, __ATOMIC_RELAXED);
	return arg;
}

static void churn(void)
{
	pthread_t t[4];

	set_word(&page->ready, 1);
	for (;;) {
		for (int i = 0; i < 4; i++)
			if (pthread_create(&t[i], NULL, come_and_go, NULL) != 0)
				_exit(1);
		for (int i = 0; i < 4; i++)
			pthread_join(t[i], NULL);
	}
}

/* Threads and mappings change all the time while they are listed and read. */
static int churning(void)
{
	pid_t pid = victim_start(churn);

	for (int i = 0; i < 800; i++)
		TRY(ALIVE("threads come and go", &page->id, ALL));
	kill_unreaped(pid);
	TRY(DEAD("killed", &page->id, ALL));
	return 0;
}

const struct test_case exec_cases[] = {
	{ "exec", exec_plain },
	{ "exec_thread", exec_thread },
	{ "exec_race", exec_race },
	{ "exec_fails", exec_fails },
	{ "exec_maps_again", exec_maps_again },
	{ "fork_child_keeps_mapping", fork_child_keeps_mapping },
	{ "long_maps", long_maps },
	{ "churning", churning },
	{ NULL, NULL },
};
