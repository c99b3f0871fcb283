/* SPDX-License-Identifier: MIT */
/*
 * Who is who, and who is dead: what a segment makes of pids, threads and programs that come and go.
 *
 * usage: test_identity [CASE]...
 *        test_identity --again NAME       what a victim becomes by exec
 *
 * Where each case is shown; NAME_old is NAME under the rule of kernels before 6.9 (start times):
 *
 *   a pid used again              the kernel's evidence            test_evidence   pid_reused*
 *                                 slots, locks, names              here            pid_reused, namesake
 *   zombies                       evidence                         test_evidence   zombie, unreaped_leader
 *                                 slots, locks, names              here            zombie
 *   exec                          evidence                         test_evidence   exec*, churning, long_maps
 *                                 slots, locks, names              here            exec, exec_again
 *   fork, vfork, raw clone        handles of the parent            test_hostile    after_fork, _clone, _vfork
 *                                 … while another thread attaches  test_hostile    fork_among_threads
 *                                 … with locks held, attaching     here            fork_*, clone_attaches
 *   main thread leaves first      evidence                         test_evidence   leader_left
 *                                 locks, sections, attaching       here            leader_left
 *   a thread ends in a section    or under a shard's lock          here            thread_*
 *   cancellation                  deferred, asynchronous           here            cancel_*
 *   signal handlers               reads and writes in them         here            handler_*
 *   another pid namespace         refused; taken over when empty   test_hostile    pidns, pidns_killed
 *                                 crowds at an abandoned segment   test_hostile    pidns_crowd
 *   everybody has died            slots are full of the dead       test_hostile    full_processes
 *                                 all killed holding everything    here            all_killed
 *   time namespace                evidence                         test_evidence   time_namespace
 *                                 attaching, locks, reports        here            time_namespace
 *   no membarrier(2)              reading, refusals, fenced        here            membarrier_*
 *   no pidfd_open(2), no /proc    evidence                         test_evidence   pidfd_open_refused, proc_*
 */
#define _GNU_SOURCE
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "identity.h"

int world_attach(struct world *w, const char *name)
{
	struct fnd_attach_options o = { .size = sizeof(o), .lock_timeout_ms = 300 };

	w->name = name;
	NEED(fnd_segment_attach(name, &o, &w->seg) == 0);
	NEED(fnd_table_open(w->seg, "a", NULL, &w->t) == 0);
	NEED(fnd_registry_open(w->seg, 0, &w->reg) == 0);
	return 0;
}

int world_make(struct world *w)
{
	struct fnd_table_options o = table_options(0, 64);
	struct fnd_segment *seg;
	struct fnd_table *t;

	w->name = name_new();
	NEED(create_small(w->name, &seg) == 0);
	NEED(fnd_table_open(seg, "a", &o, &t) == 0);
	for (unsigned int i = 0; i < KEYS; i++)
		NEED(put(t, i) == 0);
	fnd_table_close(t);
	TRY(world_attach(w, w->name));
	return fnd_segment_detach(seg); /* the one attachment of this process goes on */
}

int world_leave(struct world *w)
{
	fnd_registry_close(w->reg);
	fnd_table_close(w->t);
	return fnd_segment_detach(w->seg);
}

int world_end(struct world *w)
{
	for (unsigned int i = 0; i < KEYS; i++)
		NEED(check(w->t, i) == 0);
	NEED(fnd_table_check(w->t) == 0);
	TRY(world_leave(w));
	NEED(fnd_segment_destroy(w->name, 0) == 0);
	return 0;
}

int rewrite(struct fnd_table *t, unsigned int i)
{
	uint64_t v = value_of(i);
	char key[32];

	return fnd_table_replace(t, key, key_text(key, i), &v, sizeof(v));
}

/* --- the victim ----------------------------------------------------------------------------------- */

static enum fnd_modify stay(void *arg, const void *old, size_t old_bytes, const void **value, size_t *bytes)
{
	(void)arg, (void)old, (void)old_bytes, (void)value, (void)bytes;
	word_set(&shared->word[READY], 1);
	while (!word_get(&shared->word[GO]))
		nap_us(200);
	return FND_MODIFY_KEEP;
}

int hold_all(struct world *w)
{
	char key[32];
	int err = fnd_registry_register(w->reg, "one", 0, NULL, 0, 0);

	NEED(err == 0 || err == -EEXIST);
	NEED(fnd_read_begin(w->seg) == 0);
	NEED(fnd_table_modify(w->t, key, key_text(key, 1), stay, NULL) == FND_MODIFY_KEEP);
	NEED(fnd_read_end(w->seg) == 0);
	return 0;
}

static int victim(void *arg)
{
	const struct world *outer = arg;
	struct world w;

	TRY(world_attach(&w, outer->name));
	TRY(hold_all(&w));
	return world_leave(&w);
}

pid_t victim_start(struct world *w, struct fnd_participant *ret_who)
{
	pid_t pid;

	word_set(&shared->word[READY], 0);
	word_set(&shared->word[GO], 0);
	pid = child_start(victim, w);
	if (pid < 0 || word_wait(&shared->word[READY], 1) ||
	    fnd_segment_participant(w->seg, (uint32_t)pid, ret_who))
		return -1;
	return pid;
}

/* --- what is left of it --------------------------------------------------------------------------- */

int nothing_taken(struct world *w, const struct fnd_participant *who)
{
	uint64_t recoveries = fnd_counter_read(w->seg, FND_COUNTER_RECOVERIES);
	unsigned int reaped = 9;
	struct fnd_agent a;
	char pid[32];

	snprintf(pid, sizeof(pid), "pid %u (", who->pid);
	NEED(fnd_participant_active(w->seg, who) && !fnd_participant_dead(w->seg, who));
	NEED(refused(rewrite(w->t, 1), ETIMEDOUT, pid));
	NEED(check(w->t, 1) == 0); /* reading goes on */
	NEED(refused(fnd_synchronize(w->seg, 30), ETIMEDOUT, pid));
	NEED(fnd_segment_reap(w->seg, &reaped) == 0 && reaped == 0);
	NEED(fnd_registry_lookup(w->reg, "one", &a) == 0 && a.owner.pid == who->pid);
	NEED(fnd_registry_register(w->reg, "one", 0, NULL, 0, 0) == -EEXIST);
	NEED(fnd_participant_active(w->seg, who) && !fnd_participant_dead(w->seg, who));
	NEED(fnd_counter_read(w->seg, FND_COUNTER_RECOVERIES) == recoveries);
	return 0;
}

int all_taken(struct world *w, const struct fnd_participant *who)
{
	uint64_t recoveries = fnd_counter_read(w->seg, FND_COUNTER_RECOVERIES);
	struct fnd_participant p;
	unsigned int reaped = 0;

	NEED(rewrite(w->t, 1) == 0);
	NEED(fnd_counter_read(w->seg, FND_COUNTER_RECOVERIES) == recoveries + 1);
	NEED(fnd_synchronize(w->seg, 5000) == 0);
	NEED(fnd_participant_dead(w->seg, who));
	NEED(fnd_segment_reap(w->seg, &reaped) == 0);
	NEED(!fnd_participant_active(w->seg, who));
	NEED(fnd_segment_participant(w->seg, who->pid, &p) == -ESRCH);
	NEED(fnd_registry_lookup(w->reg, "one", NULL) == -ENOENT);
	NEED(fnd_registry_register(w->reg, "one", 0, NULL, 0, 0) == 0);
	NEED(fnd_registry_unregister(w->reg, "one", 0) == 0);
	NEED(fnd_table_check(w->t) == 0);
	return 0;
}

/* What a victim becomes by exec: another program of the same process, which attaches again. */
static int again(const char *name)
{
	struct world w;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	TRY(world_attach(&w, name)); /* the slot it had before is nobody's now */
	NEED(fnd_registry_lookup(w.reg, "one", NULL) == -ENOENT);
	NEED(rewrite(w.t, 1) == 0);
	NEED(fnd_counter_read(w.seg, FND_COUNTER_RECOVERIES) == 1);
	NEED(fnd_synchronize(w.seg, 5000) == 0 && fnd_table_check(w.t) == 0);
	NEED(fnd_registry_register(w.reg, "one", 0, NULL, 0, 0) == 0);
	NEED(fnd_registry_unregister(w.reg, "one", 0) == 0);
	return world_leave(&w);
}

int main(int argc, char **argv)
{
	static const struct test_case *const tables[] = { slot_cases, thread_cases, sandbox_cases, NULL };

	if (argc == 3 && strcmp(argv[1], "--again") == 0)
		return again(argv[2]);
	return cases_main(argc, argv, "identity", tables);
}
