// SPDX-License-Identifier: MIT
/* Cases: processes that die holding everything, and who comes after them under their pid. */
#define _GNU_SOURCE
#include <errno.h>
#include <linux/sched.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "identity.h"

/* --- a pid used again ----------------------------------------------------------------------------- */

/* A child with a pid of one's choice: -1 where that is not allowed, or somebody else has it. */
static pid_t child_as(pid_t pid, child_fn fn, void *arg)
{
	struct clone_args args = { .exit_signal = SIGCHLD,
				   .set_tid = (uint64_t)(uintptr_t)&pid,
				   .set_tid_size = 1 };
	pid_t child = (pid_t)syscall(SYS_clone3, &args, sizeof(args));

	if (child != 0)
		return child;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	_exit(fn(arg));
}

static int stranger(void *arg)
{
	(void)arg;
	while (pause())
		;
	return 0;
}

/* Kills the victim and gives its pid to @fn. SKIP: not allowed here. */
static int replace_victim(pid_t pid, child_fn fn, void *arg)
{
	pid_t next;

	nap_us(TICK_US);
	child_kill(pid);
	next = child_as(pid, fn, arg);
	SKIP_UNLESS(next > 0 || errno != EPERM, "needs root: a pid of one's choice");
	NEED(next == pid);
	return 0;
}

/* A stranger has its pid, alive and well: all the same, whatever it held is there for the taking. */
static int pid_reused(void)
{
	struct fnd_participant who;
	struct world w;
	pid_t pid;

	TRY(world_make(&w));
	for (unsigned int round = 0; round < 3; round++) {
		pid = victim_start(&w, &who);
		NEED(pid > 0);
		TRY(replace_victim(pid, stranger, NULL));
		NEED(kill(pid, 0) == 0);
		TRY(all_taken(&w, &who));
		child_kill(pid);
	}
	return world_end(&w);
}

struct successor {
	const struct world *world;
	struct fnd_participant old;
};

/* It attaches under the pid of a dead participant, whom nobody has buried yet. */
static int attach_as_namesake(void *arg)
{
	const struct successor *s = arg;
	struct fnd_participant me, found;
	struct world w;

	NEED((uint32_t)getpid() == s->old.pid);
	TRY(world_attach(&w, s->world->name));
	NEED(fnd_segment_self(w.seg, &me) == 0 && me.pid == s->old.pid);
	NEED(me.slot != s->old.slot || me.generation != s->old.generation);
	NEED(!fnd_participant_active(w.seg, &s->old) && fnd_participant_dead(w.seg, &s->old));
	NEED(fnd_segment_participant(w.seg, me.pid, &found) == 0 && memcmp(&me, &found, sizeof(me)) == 0);
	/* its names are not mine, nor is its lock */
	NEED(fnd_registry_lookup(w.reg, "one", NULL) == -ENOENT);
	NEED(rewrite(w.t, 1) == 0);
	NEED(fnd_synchronize(w.seg, 5000) == 0);
	NEED(fnd_registry_register(w.reg, "one", 0, NULL, 0, 0) == 0);
	return hold_all(&w); /* until killed */
}

/* The new one with that pid is a participant itself, and lives: nothing is taken from it. */
static int namesake(void)
{
	struct fnd_participant old, now;
	struct successor s;
	struct world w;
	pid_t pid;

	TRY(world_make(&w));
	pid = victim_start(&w, &old);
	NEED(pid > 0);
	s = (struct successor){ &w, old };
	word_set(&shared->word[READY], 0);
	TRY(replace_victim(pid, attach_as_namesake, &s));
	NEED(word_wait(&shared->word[READY], 1) == 0);
	NEED(fnd_counter_read(w.seg, FND_COUNTER_RECOVERIES) == 1);
	NEED(fnd_segment_participant(w.seg, (uint32_t)pid, &now) == 0);
	NEED(now.generation != old.generation || now.slot != old.slot);
	NEED(fnd_participant_dead(w.seg, &old) && !fnd_participant_dead(w.seg, &now));
	NEED(rewrite(w.t, 1) == -ETIMEDOUT && fnd_synchronize(w.seg, 30) == -ETIMEDOUT);
	NEED(fnd_segment_reap(w.seg, NULL) == 0 && fnd_participant_active(w.seg, &now));
	NEED(fnd_registry_lookup(w.reg, "one", NULL) == 0);
	child_kill(pid);
	TRY(all_taken(&w, &now));
	return world_end(&w);
}

/* --- zombies -------------------------------------------------------------------------------------- */

static int zombie(void)
{
	struct fnd_participant who;
	struct world w;
	siginfo_t info;
	pid_t pid;

	TRY(world_make(&w));
	pid = victim_start(&w, &who);
	NEED(pid > 0);
	TRY(nothing_taken(&w, &who));
	kill(pid, SIGKILL);
	NEED(waitid(P_PID, (id_t)pid, &info, WEXITED | WNOWAIT) == 0);
	NEED(kill(pid, 0) == 0); /* which is why that is not asked */
	TRY(all_taken(&w, &who));
	NEED(child_wait(pid) == 128 + SIGKILL);
	return world_end(&w);
}

/* A stopped process is not dead. */
static int stopped(void)
{
	struct fnd_participant who;
	struct world w;
	int status;
	pid_t pid;

	TRY(world_make(&w));
	pid = victim_start(&w, &who);
	NEED(pid > 0 && kill(pid, SIGSTOP) == 0 && waitpid(pid, &status, WUNTRACED) == pid);
	TRY(nothing_taken(&w, &who));
	word_set(&shared->word[GO], 1);
	kill(pid, SIGCONT);
	NEED(child_wait(pid) == 0);
	NEED(rewrite(w.t, 1) == 0 && fnd_counter_read(w.seg, FND_COUNTER_RECOVERIES) == 0);
	return world_end(&w);
}

/* All die at once, one in the lock, the others in sections and waiting for it. Stopped first: the second to be
 * killed takes nothing over from the first. */
static int all_killed(void)
{
	struct fnd_participant who;
	struct world w, next;
	pid_t pid[7];

	TRY(world_make(&w));
	for (unsigned int i = 0; i < 7; i++) {
		if (i == 0) {
			pid[i] = victim_start(&w, &who);
			continue;
		}
		pid[i] = fork();
		if (pid[i] == 0) {
			prctl(PR_SET_PDEATHSIG, SIGKILL);
			if (world_attach(&next, w.name) == 0 && fnd_read_begin(next.seg) == 0)
				word_add(&shared->word[COUNT], 1);
			for (;;)
				rewrite(next.t, 2);
		}
	}
	NEED(pid[0] > 0 && word_wait(&shared->word[COUNT], 6) == 0);
	NEED(world_leave(&w) == 0);
	for (unsigned int i = 0; i < 7; i++) {
		int status;

		NEED(kill(pid[i], SIGSTOP) == 0 && waitpid(pid[i], &status, WUNTRACED) == pid[i]);
	}
	for (unsigned int i = 0; i < 7; i++)
		child_kill(pid[i]);
	for (unsigned int i = 0; i < 4; i++) { /* more than there are slots left */
		TRY(world_attach(&w, w.name));
		NEED(rewrite(w.t, i) == 0 && fnd_synchronize(w.seg, 5000) == 0);
		NEED(i == 3 || world_leave(&w) == 0);
	}
	NEED(fnd_counter_read(w.seg, FND_COUNTER_RECOVERIES) == 1);
	return world_end(&w);
}

/* --- exec ----------------------------------------------------------------------------------------- */

static void *hold_in_thread(void *arg)
{
	return (void *)(intptr_t)hold_all(arg);
}

struct becoming {
	const char *name;
	char *const *argv;
};

/* While one thread holds everything, another calls exec. */
static int become(void *arg)
{
	const struct becoming *b = arg;
	pthread_t thread;
	struct world w;

	TRY(world_attach(&w, b->name));
	NEED(pthread_create(&thread, NULL, hold_in_thread, &w) == 0);
	NEED(word_wait(&shared->word[OTHER], 1) == 0);
	execv(b->argv[0], b->argv);
	return 9;
}

static int wait_comm(pid_t pid, const char *comm)
{
	char path[64], text[32] = "";

	snprintf(path, sizeof(path), "/proc/%d/comm", (int)pid);
	for (unsigned int i = 0; i < 5000; i++) {
		FILE *f = fopen(path, "re");

		if (f && fgets(text, sizeof(text), f))
			text[strcspn(text, "\n")] = '\0';
		if (f)
			fclose(f);
		if (strcmp(text, comm) == 0)
			return 0;
		nap_us(1000);
	}
	return 1;
}

/* Same pid, same inode, same start time, alive: another program, which does not map the segment. */
static int exec(void)
{
	static char *const argv[] = { "/bin/sleep", "20", NULL };
	struct fnd_participant who;
	struct becoming b;
	struct world w;
	pid_t pid;

	TRY(world_make(&w));
	b = (struct becoming){ w.name, argv };
	pid = child_start(become, &b);
	NEED(pid > 0 && word_wait(&shared->word[READY], 1) == 0);
	NEED(fnd_segment_participant(w.seg, (uint32_t)pid, &who) == 0);
	TRY(nothing_taken(&w, &who));
	word_set(&shared->word[OTHER], 1);
	NEED(wait_comm(pid, "sleep") == 0);
	TRY(all_taken(&w, &who));
	NEED(kill(pid, 0) == 0);
	child_kill(pid);
	return world_end(&w);
}

/* The new program attaches to the same segment, before anybody has looked. */
static int exec_again(void)
{
	char self[] = "/proc/self/exe", option[] = "--again", name[FND_NAME_MAX + 1];
	char *const argv[] = { self, option, name, NULL };
	struct fnd_participant who;
	struct becoming b;
	struct world w;
	pid_t pid;

	TRY(world_make(&w));
	snprintf(name, sizeof(name), "%s", w.name);
	b = (struct becoming){ w.name, argv };
	pid = child_start(become, &b);
	NEED(pid > 0 && word_wait(&shared->word[READY], 1) == 0);
	NEED(fnd_segment_participant(w.seg, (uint32_t)pid, &who) == 0);
	word_set(&shared->word[OTHER], 1);
	NEED(child_wait(pid) == 0);
	NEED(!fnd_participant_active(w.seg, &who));
	return world_end(&w);
}

/* --- fork and clone ------------------------------------------------------------------------------- */

/* In a child of the holder: what its parent holds is not its own, as long as the parent lives. */
static int beside_parent(const char *name, uint32_t parent)
{
	struct fnd_participant me;
	struct world w;
	char who[32];

	prctl(PR_SET_PDEATHSIG, 0); /* it outlives its parent */
	alarm(30);
	TRY(world_attach(&w, name));
	NEED(fnd_segment_self(w.seg, &me) == 0 && me.pid == (uint32_t)getpid() && me.pid != parent);
	snprintf(who, sizeof(who), "pid %u (", parent);
	NEED(refused(rewrite(w.t, 1), ETIMEDOUT, who));
	NEED(refused(fnd_synchronize(w.seg, 30), ETIMEDOUT, who));
	NEED(check(w.t, 1) == 0);
	NEED(fnd_registry_unregister(w.reg, "one", 0) != 0);
	word_set(&shared->word[COUNT], 1);
	NEED(word_wait(&shared->word[STOP], 1) == 0);
	NEED(rewrite(w.t, 1) == 0); /* the parent is dead, this copy of its memory is nobody's evidence */
	NEED(fnd_synchronize(w.seg, 5000) == 0);
	return world_leave(&w);
}

static void report(int status)
{
	word_set(&shared->word[status ? FAILED : COUNT], status ? 1 : 2);
	_exit(status);
}

static int fork_beside_holder(void *arg)
{
	const struct world *outer = arg;
	uint32_t me = (uint32_t)getpid();
	pthread_t thread;
	struct world w;

	TRY(world_attach(&w, outer->name));
	NEED(pthread_create(&thread, NULL, hold_in_thread, &w) == 0);
	NEED(word_wait(&shared->word[READY], 1) == 0);
	if (fork() == 0)
		report(beside_parent(outer->name, me));
	for (;;)
		pause();
}

static enum fnd_modify fork_in_callback(void *arg, const void *old, size_t old_bytes, const void **value,
					size_t *bytes)
{
	uint32_t me = (uint32_t)getpid();

	(void)old, (void)old_bytes, (void)value, (void)bytes;
	if (fork() == 0)
		report(beside_parent(arg, me));
	word_set(&shared->word[READY], 1);
	while (pause())
		;
	return FND_MODIFY_KEEP;
}

static int fork_by_holder_itself(void *arg)
{
	struct world *outer = arg, w;

	TRY(world_attach(&w, outer->name));
	NEED(fnd_registry_register(w.reg, "one", 0, NULL, 0, 0) == 0);
	NEED(fnd_read_begin(w.seg) == 0);
	return fnd_table_modify(w.t, "key number 1", 12, fork_in_callback, (void *)(uintptr_t)outer->name);
}

static int fork_while_locked(child_fn fn)
{
	struct fnd_participant who;
	struct world w;
	pid_t pid;

	TRY(world_make(&w));
	pid = child_start(fn, &w);
	NEED(pid > 0 && word_wait(&shared->word[READY], 1) == 0);
	NEED(fnd_segment_participant(w.seg, (uint32_t)pid, &who) == 0);
	NEED(word_wait(&shared->word[COUNT], 1) == 0);
	TRY(nothing_taken(&w, &who));
	child_kill(pid);
	word_set(&shared->word[STOP], 1);
	NEED(word_wait(&shared->word[COUNT], 2) == 0 && !word_get(&shared->word[FAILED]));
	NEED(fnd_participant_dead(w.seg, &who));
	NEED(fnd_counter_read(w.seg, FND_COUNTER_RECOVERIES) == 1);
	for (int i = 0; i < 2000 && fnd_segment_reap(w.seg, NULL) == 0; i++) {
		if (fnd_registry_lookup(w.reg, "one", NULL) == -ENOENT)
			break;
		nap_us(1000);
	}
	NEED(fnd_registry_lookup(w.reg, "one", NULL) == -ENOENT);
	return world_end(&w);
}

static int fork_by_another(void)
{
	return fork_while_locked(fork_beside_holder);
}

static int fork_by_holder(void)
{
	return fork_while_locked(fork_by_holder_itself);
}

/* Past libc: the child attaches all the same, and is its own participant. */
static int clone_attaches(void)
{
	struct fnd_participant me, other;
	struct world w, mine;

	TRY(world_make(&w));
	NEED(fnd_read_begin(w.seg) == 0 && fnd_segment_self(w.seg, &me) == 0);
	for (unsigned int i = 0; i < 20; i++) {
		pid_t pid = (pid_t)syscall(SYS_clone, SIGCHLD, NULL, NULL, NULL, NULL);

		if (pid == 0) {
			bool fine = world_attach(&mine, w.name) == 0 && rewrite(w.t, 1) == -FND_E_FORKED &&
				    fnd_segment_self(mine.seg, &other) == 0 && other.slot != me.slot &&
				    other.pid == (uint32_t)getpid() && rewrite(mine.t, 1) == 0;

			_exit(fine && (i % 2 || world_leave(&mine) == 0) ? 0 : 1);
		}
		NEED(pid > 0 && child_wait(pid) == 0);
	}
	NEED(fnd_segment_self(w.seg, &other) == 0 && memcmp(&me, &other, sizeof(me)) == 0);
	NEED(fnd_read_end(w.seg) == 0 && rewrite(w.t, 1) == 0);
	return world_end(&w);
}

OLD_RULE(pid_reused)
OLD_RULE(namesake)
OLD_RULE(zombie)
OLD_RULE(stopped)
OLD_RULE(all_killed)
OLD_RULE(exec)
OLD_RULE(fork_by_another)
OLD_RULE(fork_by_holder)

const struct test_case slot_cases[] = {
	BOTH(pid_reused),
	BOTH(namesake),
	BOTH(zombie),
	BOTH(stopped),
	BOTH(all_killed),
	BOTH(exec),
	{ "exec_again", exec_again },
	BOTH(fork_by_another),
	BOTH(fork_by_holder),
	{ "clone_attaches", clone_attaches },
	{ NULL, NULL },
};
