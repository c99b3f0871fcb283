/* SPDX-License-Identifier: MIT */
/* Cases: reused pids, other namespaces, other users, no /proc, nothing left to look with. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "evidence_test.h"

#ifndef CLONE_NEWTIME
#define CLONE_NEWTIME 0x00000080
#endif
#define TICK_US 25000 /* more than two clock ticks */

typedef int (*observer_fn)(void);

/* Runs an observer in a child; its answer becomes this case's. */
static int observe(observer_fn fn)
{
	pid_t pid = fork();
	int status;

	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		_exit(fn());
	}
	if (pid < 0 || waitpid(pid, &status, 0) < 0)
		return 1;
	return WIFEXITED(status) ? WEXITSTATUS(status) : 1;
}

static int become_user(uid_t uid)
{
	if (setgroups(0, NULL) < 0 || setresgid(uid, uid, uid) < 0 || setresuid(uid, uid, uid) < 0)
		return -1;
	prctl(PR_SET_PDEATHSIG, SIGKILL); /* a change of user clears it */
	return 0;
}

/* In the observer only: mounts it changes must not reach the rest of the machine. */
static int own_mounts(void)
{
	if (unshare(CLONE_NEWNS) < 0)
		return -1;
	return mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL);
}

/* ---- a pid used again ---- */

static int pid_reused(void)
{
	int done = 0;

	for (int round = 0; round < 10; round++) {
		pid_t pid = victim_start(victim_wait_for_go), again;
		struct fnd_identity old = page->id;

		nap_us(old_rule ? TICK_US : 0);
		reap(pid);
		set_word(&page->ready, 0);
		again = victim_fork(victim_wait_for_go, pid);
		SKIP_UNLESS(again > 0 || errno != EPERM, "needs root: a pid of one's choice");
		if (again < 0)
			continue; /* somebody else was given it */
		NEED(again == pid && wait_word(&page->ready, 1) == 0);
		NEED(page->id.pid == old.pid);
		done++;
		TRY(DEAD("the first with this pid", &old, ALL));
		TRY(ALIVE("the second with this pid", &page->id, ALL));
		NEED(fnd_evidence_claiming(old.pid) == FND_ALIVE_OR_UNKNOWN);
		reap(again);
		TRY(DEAD("the second with this pid", &page->id, ALL));
	}
	NEED(done > 0);
	return 0;
}

/* The successor is dead as well, and not reaped. */
static int pid_reused_by_zombie(void)
{
	pid_t pid = victim_start(victim_wait_for_go), again;
	struct fnd_identity old = page->id;

	nap_us(old_rule ? TICK_US : 0);
	reap(pid);
	set_word(&page->go, 1);
	again = victim_fork(victim_wait_for_go, pid);
	SKIP_UNLESS(again > 0, "needs root: a pid of one's choice");
	wait_unreaped(again);
	TRY(DEAD("a zombie has its pid", &old, ALL));
	NEED(fnd_evidence_claiming(old.pid) == FND_ALIVE_OR_UNKNOWN);
	reap(again);
	return 0;
}

static void *idle_thread(void *arg)
{
	*(pid_t *)arg = (pid_t)syscall(SYS_gettid);
	set_word(&page->status, 1);
	while (!get_word(&page->leaving))
		nap_us(200);
	return NULL;
}

/* Asks for the next pid by ns_last_pid, which others may snatch away. Returns the thread's id. */
static pid_t thread_with_id(pid_t wanted)
{
	FILE *f = fopen("/proc/sys/kernel/ns_last_pid", "w");
	pthread_t t;
	pid_t got = 0;

	if (!f || fprintf(f, "%d", wanted - 1) < 0 || fclose(f) != 0)
		return -1;
	set_word(&page->status, 0);
	set_word(&page->leaving, 0);
	if (pthread_create(&t, NULL, idle_thread, &got) != 0 || wait_word(&page->status, 1) < 0)
		return -1;
	if (got != wanted) {
		set_word(&page->leaving, 1);
		pthread_join(t, NULL);
	}
	return got;
}

static int pid_reused_by_thread(void)
{
	pid_t pid, got = 0;
	struct fnd_identity old = { 0 };

	for (int i = 0; i < 20; i++) {
		pid = victim_start(victim_wait_for_go);
		old = page->id;
		reap(pid);
		got = thread_with_id(pid);
		SKIP_UNLESS(got > 0, "needs root: /proc/sys/kernel/ns_last_pid");
		if (got == pid)
			break;
	}
	SKIP_UNLESS((uint32_t)got == old.pid, "the pid always went to somebody else");
	if (old_rule)
		TRY(ALIVE("missed: a thread has its pid", &old, ALL));
	else
		TRY(DEAD("a thread has its pid", &old, ALL));
	NEED(fnd_evidence_claiming(old.pid) == FND_ALIVE_OR_UNKNOWN);
	set_word(&page->leaving, 1);
	return 0;
}

/* ---- another user ---- */

static void setuid_victim(void)
{
	if (become_user(NOBODY) < 0)
		_exit(1);
	prctl(PR_SET_DUMPABLE, 0);
	victim_wait_for_go();
}

static int look_as_stranger(void)
{
	if (become_user(NOBODY - 1) < 0)
		return 1;
	if (get_word(&page->status) == 1)
		return DEAD("dead setuid process, from another user", &page->id, ALL);
	for (int i = 0; i < 100; i++)
		TRY(ALIVE("setuid process, from another user", &page->id, ALL));
	return 0;
}

static int setuid_undumpable(void)
{
	pid_t pid;

	SKIP_UNLESS(geteuid() == 0, "needs root: other users");
	pid = victim_start(setuid_victim);
	TRY(observe(look_as_stranger));
	TRY(ALIVE("setuid process", &page->id, ALL));
	kill_unreaped(pid);
	set_word(&page->status, 1);
	TRY(observe(look_as_stranger));
	reap(pid);
	return observe(look_as_stranger);
}

/* An observer that is not dumpable itself may find its own /proc files closed to it. */
static int look_undumpable(void)
{
	if (geteuid() == 0 && become_user(NOBODY) < 0)
		return 1;
	prctl(PR_SET_DUMPABLE, 0);
	if (get_word(&page->status) == 1)
		return DEAD("dead, from an observer that is not dumpable", &page->id, ALL);
	return ALIVE("from an observer that is not dumpable", &page->id, ALL);
}

static int observer_undumpable(void)
{
	pid_t pid = victim_start(victim_wait_for_go);

	TRY(observe(look_undumpable));
	kill_unreaped(pid);
	set_word(&page->status, 1);
	return observe(look_undumpable);
}

/* ---- other namespaces ---- */

static int look_at_foreign(void)
{
	for (int i = 0; i < 20; i++)
		TRY(ALIVE("process of another pid namespace", &page->id, ALL));
	return 0;
}

/* The same number names a stranger in here. */
static int look_at_foreign_with_stranger(void)
{
	struct fnd_identity foreign = page->id;
	pid_t pid;

	set_word(&page->ready, 0);
	pid = victim_fork(victim_wait_for_go, (pid_t)foreign.pid);
	if (pid < 0 || wait_word(&page->ready, 1) < 0)
		return 1;
	NEED(page->id.pid == foreign.pid && page->id.pidns != foreign.pidns);
	TRY(ALIVE("a stranger bears its number", &foreign, ALL));
	kill_unreaped(pid);
	TRY(ALIVE("a dead stranger bears its number", &foreign, ALL));
	TRY(DEAD("the stranger", &page->id, ALL));
	page->id = foreign;
	return 0;
}

static int new_pid_namespace(observer_fn fn)
{
	SKIP_UNLESS(unshare(CLONE_NEWPID) == 0, "needs root: a new pid namespace");
	return observe(fn);
}

static int observe_in_pidns(void)
{
	return new_pid_namespace(look_at_foreign);
}

static int observe_in_pidns_stranger(void)
{
	return new_pid_namespace(look_at_foreign_with_stranger);
}

/* The observer is inside, the process outside. */
static int pidns_inside(void)
{
	pid_t pid = victim_start(victim_wait_for_go);

	TRY(observe(observe_in_pidns));
	TRY(observe(observe_in_pidns_stranger));
	TRY(ALIVE("from outside", &page->id, ALL));
	reap(pid);
	return 0;
}

/* The process is inside, the observer outside: its number is somebody else's here, or nobody's. */
static int pidns_outside(void)
{
	pid_t pid;

	SKIP_UNLESS(unshare(CLONE_NEWPID) == 0, "needs root: a new pid namespace");
	pid = victim_start(victim_wait_for_go);
	NEED(page->id.pid == 1 && pid != 1);
	TRY(ALIVE("process 1 of a namespace", &page->id, ALL));
	page->id.pid = 4194300; /* as good as never taken out here */
	TRY(ALIVE("process 4194300 of a namespace", &page->id, ALL));
	reap(pid);
	return 0;
}

static void exec_sleep(void)
{
	victim_wait_for_go();
	execl("/bin/sleep", "sleep", "20", (char *)NULL);
	_exit(1);
}

/* Observer and process share a namespace, but /proc is still that of the outer one. */
static int look_with_outer_proc(void)
{
	pid_t pid = victim_start(exec_sleep);

	NEED(page->id.pid < 10);
	for (int i = 0; i < 50; i++)
		TRY(ALIVE("with the outer /proc", &page->id, ALL));
	set_word(&page->go, 1);
	TRY(expect_soon("exec, with the outer /proc", &page->id, DEEP));
	TRY(ALIVE("exec, with the outer /proc", &page->id, PLAIN | THREAD));
	kill_unreaped(pid);
	TRY(DEAD("killed, with the outer /proc", &page->id, ALL));
	return 0;
}

static int pidns_outer_proc(void)
{
	return new_pid_namespace(look_with_outer_proc);
}

static int look_from_other_time(void)
{
	FILE *f;

	SKIP_UNLESS(unshare(CLONE_NEWTIME) == 0, "needs root: a new time namespace");
	f = fopen("/proc/self/timens_offsets", "w");
	if (!f || fprintf(f, "boottime 5000 0\n") < 0 || fclose(f) != 0)
		return SKIP;
	return observe(look_at_foreign); /* a child is in the new namespace */
}

/* Start times are shown shifted here. */
static int time_namespace(void)
{
	pid_t pid = victim_start(victim_wait_for_go);

	TRY(observe(look_from_other_time));
	TRY(ALIVE("from its own time namespace", &page->id, ALL));
	reap(pid);
	return 0;
}

/* ---- no /proc ---- */

static int look_without_proc(void)
{
	pid_t pid = victim_start(exec_sleep);

	if (own_mounts() < 0 || umount2("/proc", MNT_DETACH) < 0)
		return SKIP;
	/* Mounts on top of /proc come to light one by one. */
	while (umount2("/proc", MNT_DETACH) == 0)
		;
	NEED(access("/proc/self", F_OK) < 0);
	for (uint32_t mounted = 0; mounted <= 1; mounted++) {
		for (int i = 0; i < 20; i++)
			TRY(ALIVE("without /proc", &page->id, ALL));
		if (mount("none", "/proc", "tmpfs", 0, NULL) < 0)
			return 1;
	}
	set_word(&page->go, 1);
	nap_us(20000);
	TRY(ALIVE("missed: exec without /proc", &page->id, ALL));
	kill_unreaped(pid);
	page->id.pidns = 0; /* where the namespace cannot be learned, the caller has compared */
	TRY(DEAD("zombie without /proc", &page->id, ALL));
	reap(pid);
	TRY(DEAD("reaped without /proc", &page->id, ALL));
	return 0;
}

static int proc_hidden(void)
{
	int r = observe(look_without_proc);

	SKIP_UNLESS(r != SKIP, "needs root: a mount namespace without /proc");
	return r;
}

/* Linux 6.11 on, the observer's pid namespace is known without /proc. */
static int look_dead_without_proc(void)
{
	struct fnd_identity me;

	if (own_mounts() < 0 || umount2("/proc", MNT_DETACH) < 0 || fnd_identity_self(&me) < 0)
		return SKIP;
	SKIP_UNLESS(me.pidns != 0, "a kernel before 6.11 needs /proc to tell the namespace");
	return DEAD("dead, without /proc", &page->id, ALL);
}

static int proc_hidden_dead(void)
{
	int r;

	SKIP_UNLESS(geteuid() == 0, "needs root: a mount namespace without /proc");
	kill_unreaped(victim_start(victim_wait_for_go));
	r = observe(look_dead_without_proc);
	if (r != 0)
		return r;
	reap((pid_t)page->id.pid);
	return observe(look_dead_without_proc);
}

static int look_with_hidepid(void)
{
	int dead = get_word(&page->status) == 1;

	if (own_mounts() < 0 || mount("proc", "/proc", "proc", 0, "hidepid=2") < 0)
		return SKIP;
	if (become_user(NOBODY) < 0)
		return 1;
	if (dead)
		return DEAD("dead and hidden", &page->id, ALL);
	return ALIVE("hidden", &page->id, ALL);
}

static int proc_hidepid(void)
{
	pid_t pid = victim_start(victim_wait_for_go);
	int r = observe(look_with_hidepid);

	SKIP_UNLESS(r != SKIP && geteuid() == 0, "needs root: another /proc");
	TRY(r);
	kill_unreaped(pid);
	set_word(&page->status, 1);
	return observe(look_with_hidepid);
}

/* ---- nothing left to look with ---- */

static void limit_descriptors(int left)
{
	int next = open("/dev/null", O_RDONLY);
	struct rlimit lim;

	getrlimit(RLIMIT_NOFILE, &lim);
	close(next);
	lim.rlim_cur = (rlim_t)(next + left);
	setrlimit(RLIMIT_NOFILE, &lim);
}

static int no_descriptors(void)
{
	struct rlimit before;
	struct fnd_identity me;
	pid_t pid = victim_start(victim_wait_for_go);

	getrlimit(RLIMIT_NOFILE, &before);
	for (int left = 0; left <= 7; left++) {
		limit_descriptors(left);
		TRY(ALIVE("few descriptors", &page->id, ALL));
		setrlimit(RLIMIT_NOFILE, &before);
	}
	kill_unreaped(pid);
	limit_descriptors(0);
	NEED(fnd_identity_self(&me) == -EMFILE);
	TRY(ALIVE("missed: no descriptor left", &page->id, ALL));
	setrlimit(RLIMIT_NOFILE, &before);
	TRY(DEAD("descriptors again", &page->id, ALL));
	return 0;
}

/* A sandbox in which pidfd_open() fails with the given error. */
static int refuse_pidfd_open(unsigned error)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_pidfd_open, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | error),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog prog = { sizeof(code) / sizeof(code[0]), code };

	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return -1;
	return prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &prog);
}

static unsigned refusal;

static int look_refused(void)
{
	if (refuse_pidfd_open(refusal) < 0)
		return SKIP;
	NEED(fnd_evidence_rule() == FND_RULE_NONE);
	TRY(ALIVE("pidfd_open refused", &page->id, ALL));
	kill((pid_t)page->id.pid, SIGKILL);
	nap_us(2000);
	TRY(ALIVE("missed: pidfd_open refused", &page->id, ALL));
	NEED(fnd_evidence_claiming(page->id.pid) == FND_ALIVE_OR_UNKNOWN);
	return 0;
}

static int pidfd_open_refused(void)
{
	static const unsigned errors[] = { ENOSYS, EPERM, ENFILE, ENOMEM, EINVAL, ENOENT };

	for (size_t i = 0; i < sizeof(errors) / sizeof(errors[0]); i++) {
		pid_t pid = victim_start(victim_wait_for_go);

		refusal = errors[i];
		TRY(observe(look_refused));
		reap(pid);
	}
	return 0;
}

const struct test_case space_cases[] = {
	{ "pid_reused", pid_reused },
	{ "pid_reused_by_zombie", pid_reused_by_zombie },
	{ "pid_reused_by_thread", pid_reused_by_thread },
	{ "setuid_undumpable", setuid_undumpable },
	{ "observer_undumpable", observer_undumpable },
	{ "pidns_inside", pidns_inside },
	{ "pidns_outside", pidns_outside },
	{ "pidns_outer_proc", pidns_outer_proc },
	{ "time_namespace", time_namespace },
	{ "proc_hidden", proc_hidden },
	{ "proc_hidden_dead", proc_hidden_dead },
	{ "proc_hidepid", proc_hidepid },
	{ "no_descriptors", no_descriptors },
	{ "pidfd_open_refused", pidfd_open_refused },
	{ NULL, NULL },
};
