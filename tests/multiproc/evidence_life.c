/* SPDX-License-Identifier: MIT */
/* Cases: ways to live, to stop and to die, of processes and of threads. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "evidence_test.h"

static void *beat_thread(void *arg)
{
	(void)arg;
	set_word(&page->tid, (uint32_t)syscall(SYS_gettid));
	for (;;)
		spin_us(1000);
	return NULL;
}

static void start_beat_thread(void)
{
	pthread_t t;

	set_word(&page->tid, 0);
	if (pthread_create(&t, NULL, beat_thread, NULL) != 0)
		_exit(1);
	while (!get_word(&page->tid))
		nap_us(50);
}

static uint64_t beats(void)
{
	return __atomic_load_n(&page->beat, __ATOMIC_RELAXED);
}

static int running(void)
{
	struct fnd_identity me, one;
	pid_t pid = victim_start(victim_wait_for_go);

	NEED(fnd_identity_self(&me) == 0 && me.pid == (uint32_t)getpid() && me.start_time != 0);
	NEED((me.flags == FND_IDENTITY_EXACT) == !old_rule);
	NEED(fnd_evidence_rule() == (old_rule ? FND_RULE_START_TIME : FND_RULE_PIDFD_INODE));
	TRY(ALIVE("myself", &me, ALL));
	TRY(ALIVE("child", &page->id, ALL));
	/* Nonsense in the segment is no evidence. */
	one = page->id;
	one.pid = 0;
	TRY(ALIVE("pid 0", &one, ALL));
	one.pid = UINT32_MAX;
	TRY(ALIVE("pid -1", &one, ALL));
	kill_unreaped(pid);
	TRY(DEAD("killed", &page->id, ALL));
	reap(pid);
	TRY(DEAD("reaped", &page->id, ALL));
	return 0;
}

static int zombie(void)
{
	pid_t pid = victim_start(victim_wait_for_go);

	set_word(&page->go, 1);
	wait_unreaped(pid);
	TRY(DEAD("zombie", &page->id, ALL));
	NEED(kill(pid, 0) == 0);
	return 0;
}

static void leader_and_thread(void)
{
	start_beat_thread();
	set_word(&page->ready, 1);
	for (;;)
		pause();
}

static int unreaped_leader(void)
{
	pid_t pid = victim_start(leader_and_thread);

	TRY(ALIVE("two threads", &page->id, ALL));
	kill_unreaped(pid);
	TRY(DEAD("unreaped", &page->id, ALL));
	NEED(fnd_evidence_thread(&page->id, page->tid, 0, 0, 0) == FND_PROVEN_DEAD);
	return 0;
}

static void leader_leaves(void)
{
	start_beat_thread();
	victim_wait_for_go();
	pthread_exit(NULL);
}

static int state_of(pid_t pid)
{
	char path[64], buf[512];
	FILE *f;
	size_t n;

	snprintf(path, sizeof(path), "/proc/%d/stat", pid);
	f = fopen(path, "r");
	if (!f)
		return 0;
	n = fread(buf, 1, sizeof(buf) - 1, f);
	fclose(f);
	buf[n] = '\0';
	return strrchr(buf, ')') ? strrchr(buf, ')')[2] : 0;
}

/* Looked at before, while and after the main thread leaves; the other thread keeps writing. */
static int leader_left(void)
{
	for (int round = 0; round < 30; round++) {
		pid_t pid = victim_start(leader_leaves);
		uint64_t before;

		set_word(&page->go, 1);
		for (int i = 0; i < 3000 && state_of(pid) != 'Z'; i++)
			TRY(ALIVE("main thread leaving", &page->id, ALL));
		NEED(state_of(pid) == 'Z');
		before = beats();
		for (int i = 0; i < 10; i++)
			TRY(ALIVE("main thread left", &page->id, ALL));
		NEED(fnd_evidence_thread(&page->id, page->tid, 0, 0, 0) == FND_ALIVE_OR_UNKNOWN);
		for (int i = 0; i < 50000 && beats() == before; i++)
			nap_us(100);
		NEED(beats() != before);
		kill_unreaped(pid);
		TRY(DEAD("all left", &page->id, ALL));
		reap(pid);
	}
	return 0;
}

static int sigstopped(void)
{
	pid_t pid = victim_start(leader_and_thread);
	siginfo_t info;

	kill(pid, SIGSTOP);
	NEED(waitid(P_PID, (id_t)pid, &info, WSTOPPED | WNOWAIT) == 0);
	for (int i = 0; i < 50; i++)
		TRY(ALIVE("stopped", &page->id, ALL));
	kill_unreaped(pid);
	TRY(DEAD("killed while stopped", &page->id, ALL));
	return 0;
}

static int ptrace_stopped(void)
{
	pid_t pid = victim_start(leader_and_thread);
	int status;

	if (ptrace(PTRACE_SEIZE, pid, NULL, PTRACE_O_TRACEEXIT) < 0)
		SKIP_UNLESS(0, "ptrace is not allowed here");
	NEED(ptrace(PTRACE_INTERRUPT, pid, NULL, NULL) == 0);
	NEED(waitpid(pid, &status, __WALL) == pid && WIFSTOPPED(status));
	for (int i = 0; i < 50; i++)
		TRY(ALIVE("ptrace-stopped", &page->id, ALL));
	/* Stopped once more on its way out: not dead before it is. */
	kill(pid, SIGTERM);
	ptrace(PTRACE_CONT, pid, NULL, NULL);
	for (int stops = 0; stops < 4; stops++) {
		NEED(waitpid(pid, &status, __WALL) == pid);
		if (!WIFSTOPPED(status))
			break;
		TRY(ALIVE("stopped at exit", &page->id, ALL));
		ptrace(PTRACE_CONT, pid, NULL, WSTOPSIG(status) == SIGTERM ? SIGTERM : 0);
	}
	NEED(WIFSIGNALED(status));
	TRY(DEAD("exited under ptrace", &page->id, ALL));
	return 0;
}

#define CORE_BYTES (192u << 20)

static char core_dir[] = "/tmp/test_evidence.XXXXXX";

static void dump_core(void)
{
	struct rlimit all = { RLIM_INFINITY, RLIM_INFINITY };
	char *fat = mmap(NULL, CORE_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
			 -1, 0);

	if (fat == MAP_FAILED || chdir(core_dir) < 0 || setrlimit(RLIMIT_CORE, &all) < 0)
		_exit(1);
	for (size_t i = 0; i < CORE_BYTES; i += 4096)
		fat[i] = (char)(i >> 12) | 1;
	start_beat_thread();
	victim_wait_for_go();
	abort();
}

static int is_dumping(pid_t pid)
{
	char path[64], line[256];
	int dumping = 0;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/status", pid);
	f = fopen(path, "r");
	while (f && fgets(line, sizeof(line), f)) {
		if (strncmp(line, "CoreDumping:", 12) == 0)
			dumping = strchr(line, '1') != NULL;
	}
	if (f)
		fclose(f);
	return dumping;
}

static void remove_core_dir(pid_t pid)
{
	char path[128];

	snprintf(path, sizeof(path), "%s/core.%d", core_dir, pid);
	unlink(path);
	snprintf(path, sizeof(path), "%s/core", core_dir);
	unlink(path);
	rmdir(core_dir);
}

static int core_dumping(void)
{
	int seen = 0, dead = 0, failed = 0;
	siginfo_t info = { 0 };
	pid_t pid;

	SKIP_UNLESS(mkdtemp(core_dir), "no temporary directory for a core");
	pid = victim_start(dump_core);
	set_word(&page->go, 1);
	while (seen < 60 && !dead && !failed) {
		dead = verdict(&page->id, seen % 2 ? DEEP : PLAIN);
		if (is_dumping(pid)) {
			seen++;
			failed = dead || ALIVE("dumping core", &page->id, THREAD);
		}
	}
	kill_unreaped(pid);
	failed = failed || DEAD("after the core", &page->id, ALL);
	waitid(P_PID, (id_t)pid, &info, WEXITED);
	remove_core_dir(pid);
	NEED(!failed);
	SKIP_UNLESS(seen > 0, "this machine writes no core, or too fast to look at");
	return 0;
}

static int vfork_child_status;

static void vfork_parent(void)
{
	pid_t pid = vfork();

	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		victim_wait_for_go();
		set_word(&page->leaving, 1);
		execl("/bin/sleep", "sleep", "20", (char *)NULL);
		_exit(1);
	}
	set_word(&page->status, (uint32_t)pid);
	waitpid(pid, &vfork_child_status, 0);
}

static int vfork_child(void)
{
	pid_t pid = victim_start(vfork_parent);

	for (int i = 0; i < 20; i++)
		TRY(ALIVE("waiting for its vfork child", &page->id, ALL));
	set_word(&page->go, 1);
	for (int i = 0; i < 500 && !get_word(&page->status); i++)
		TRY(ALIVE("its vfork child execs", &page->id, ALL));
	NEED(wait_word(&page->leaving, 1) == 0);
	TRY(ALIVE("its vfork child has gone", &page->id, ALL));
	kill_unreaped(pid);
	TRY(DEAD("killed", &page->id, ALL));
	reap(pid);
	/* Killed while its child still runs in its memory: dead all the same. */
	pid = victim_start(vfork_parent);
	kill_unreaped(pid);
	TRY(DEAD("killed in vfork", &page->id, ALL));
	return 0;
}

static int vm_child_body(void *arg)
{
	(void)arg;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	fnd_identity_self(&page->second);
	set_word(&page->ready, 1);
	while (!get_word(&page->go))
		;
	if (get_word(&page->go) == 2)
		execl("/bin/sleep", "sleep", "20", (char *)NULL);
	_exit(0);
}

static void vm_parent(void)
{
	static char stack[65536] __attribute__((aligned(16)));
	pid_t pid = clone(vm_child_body, stack + sizeof(stack), CLONE_VM | SIGCHLD, NULL);

	set_word(&page->status, (uint32_t)pid);
	while (pid > 0)
		;
}

static int clone_vm_child(void)
{
	for (uint32_t end = 1; end <= 2; end++) {
		pid_t pid = victim_start(vm_parent);

		NEED(page->id.pid != page->second.pid);
		for (int i = 0; i < 20; i++) {
			TRY(ALIVE("CLONE_VM parent", &page->id, ALL));
			TRY(ALIVE("CLONE_VM child", &page->second, ALL));
		}
		set_word(&page->go, end);
		TRY(expect_soon("child has left", &page->second, end == 1 ? ALL : DEEP));
		TRY(ALIVE("parent of the one that left", &page->id, ALL));
		kill_unreaped(pid);
		TRY(DEAD("parent killed", &page->id, ALL));
		reap(pid);
	}
	return 0;
}

static void *short_thread(void *arg)
{
	(void)arg;
	set_word(&page->tid, (uint32_t)syscall(SYS_gettid));
	victim_wait_for_go();
	spin_us(50);
	set_word(&page->leaving, 1);
	return NULL;
}

static void with_short_threads(void)
{
	pthread_t t;

	for (;;) {
		if (pthread_create(&t, NULL, short_thread, NULL) != 0)
			_exit(1);
		pthread_join(t, NULL);
		while (!get_word(&page->status))
			nap_us(50);
		set_word(&page->status, 0);
	}
}

static int thread_verdict(void)
{
	return fnd_evidence_thread(&page->id, get_word(&page->tid), seg_dev, seg_ino, 0);
}

/* A thread that ends in a process that lives on: dead only after its last store, then soon. */
static int thread_ends(void)
{
	pid_t pid = victim_start(with_short_threads);
	int gone = 0;

	for (int round = 0; round < 150; round++) {
		int dead = 0;

		NEED(wait_word(&page->ready, 1) == 0);
		NEED(thread_verdict() == FND_ALIVE_OR_UNKNOWN);
		NEED(fnd_evidence_claiming(get_word(&page->tid)) == FND_ALIVE_OR_UNKNOWN);
		set_word(&page->go, 1);
		for (int i = 0; i < 100000 && !dead; i++) {
			dead = thread_verdict();
			NEED(!dead || get_word(&page->leaving));
		}
		NEED(dead);
		TRY(ALIVE("its process", &page->id, ALL));
		gone += fnd_evidence_claiming(get_word(&page->tid)) == FND_PROVEN_DEAD;
		set_word(&page->ready, 0);
		set_word(&page->go, 0);
		set_word(&page->leaving, 0);
		set_word(&page->status, 1);
	}
	NEED(gone > 0); /* not always: somebody else may have been given the id */
	kill_unreaped(pid);
	NEED(thread_verdict() == FND_PROVEN_DEAD);
	return 0;
}

/* Killed at any moment: once it is called dead, nothing is written any more. */
static int kill_race(void)
{
	for (int round = 0; round < 60; round++) {
		pid_t pid = victim_start(leader_and_thread);
		uint64_t before;

		spin_us((unsigned)round * 3);
		kill(pid, SIGKILL);
		while (verdict(&page->id, PLAIN) != FND_PROVEN_DEAD)
			;
		before = beats();
		nap_us(100);
		NEED(beats() == before);
		reap(pid);
	}
	return 0;
}

static int claiming(void)
{
	pid_t pid = victim_start(victim_wait_for_go);

	NEED(fnd_evidence_claiming((uint32_t)pid) == FND_ALIVE_OR_UNKNOWN);
	NEED(fnd_evidence_claiming((uint32_t)getpid()) == FND_ALIVE_OR_UNKNOWN);
	NEED(fnd_evidence_claiming(0) == FND_ALIVE_OR_UNKNOWN);
	NEED(fnd_evidence_claiming(UINT32_MAX) == FND_ALIVE_OR_UNKNOWN);
	kill_unreaped(pid);
	NEED(fnd_evidence_claiming((uint32_t)pid) == FND_ALIVE_OR_UNKNOWN);
	reap(pid);
	NEED(fnd_evidence_claiming((uint32_t)pid) == FND_PROVEN_DEAD);
	return 0;
}

const struct test_case life_cases[] = {
	{ "running", running },
	{ "zombie", zombie },
	{ "unreaped_leader", unreaped_leader },
	{ "leader_left", leader_left },
	{ "sigstopped", sigstopped },
	{ "ptrace_stopped", ptrace_stopped },
	{ "core_dumping", core_dumping },
	{ "vfork_child", vfork_child },
	{ "clone_vm_child", clone_vm_child },
	{ "thread_ends", thread_ends },
	{ "kill_race", kill_race },
	{ "claiming", claiming },
	{ NULL, NULL },
};
