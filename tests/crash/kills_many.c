// SPDX-License-Identifier: MIT
/*
 * kills_many [N [SEED]] [--report FILE] - N random kill -9 of eight contending processes, as fast as it goes.
 *
 * The killer has next to no memory of its own, so a victim costs little more than its fork; what attaching
 * measures once a process, the killer has measured. Each victim is replaced at once, half of them while
 * they are zombies still, and its successor checks what it left behind. Every 5,000 kills everybody leaves,
 * everything has to add up, and a new segment is begun. The last line is JSON.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "kills_many.h"
#include "report.h"

#define WAIT_MAX_US 300
#define BEHIND 5 /* victims are nicer, so that the killer wakes when it wants to */

struct journal *journal;

static struct worker {
	pid_t pid;
	struct pulse pulse; /* of its operations */
} worker[WORKERS];

static struct fnd_segment *seg;
static uint64_t rnd, lives, kills, wanted = 100000, began_ms;
static uint64_t hit[DOINGS], recoveries, reaped, operations, names_reaped, emitted;
static const char *report_file;
static const char *const doing_names[DOINGS] = { "attach", "check", "write", "read",
						 "name",   "claim", "care",  "between" };

static void report(uint64_t violations)
{
	struct suite_result r = { .suite = "kills-many",
				  .goal = wanted,
				  .count = kills,
				  .violations = violations,
				  .seed = journal->seed,
				  .seconds = (double)(now_ms() - began_ms) / 1e3 };

	report_suite(&r, report_file);
}

static _Noreturn void give_up(const char *why, unsigned int who, int number)
{
	fprintf(stderr, "seed %llu, round %u, worker %u: %s (%#x)\n", (unsigned long long)journal->seed,
		journal->round, who, why, (unsigned int)number);
	for (unsigned int i = 0; i < WORKERS; i++) {
		if (journal->worker[i].failure[0])
			fprintf(stderr, "worker %u: %s\n", i, journal->worker[i].failure);
		if (worker[i].pid > 0)
			kill(worker[i].pid, SIGKILL);
	}
	fnd_segment_destroy(journal->segment, FND_DESTROY_FORCE);
	report(1);
	exit(1);
}

static void spawn(unsigned int i)
{
	pid_t parent = getpid(), pid;

	journal->worker[i].doing = IN_ATTACH;
	pid = fork();
	if (pid < 0)
		give_up("fork", i, errno);
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (getppid() != parent)
			_exit(1);
		setpriority(PRIO_PROCESS, 0, BEHIND);
		worker_run(i, lives);
	}
	lives++;
	worker[i].pid = pid;
}

/*
 * A process has to be given a processor to die, and seven others want it. Ahead of them if that is allowed
 * here; otherwise it takes its turn, which is all that limits the rate of kills then.
 */
static void kill_at_once(pid_t victim)
{
	const struct sched_param first = { .sched_priority = 1 };

	kill(victim, SIGKILL);
	sched_setscheduler(victim, SCHED_FIFO, &first);
}

static void strike(unsigned int i)
{
	bool zombie = draw(&rnd) % 2;
	pid_t victim = worker[i].pid;
	siginfo_t info = { 0 };

	kill_at_once(victim);
	waitid(P_PID, (id_t)victim, &info, zombie ? WEXITED | WNOWAIT : WEXITED);
	if (info.si_code != CLD_KILLED)
		give_up("ended by itself", i, info.si_status);
	kills++;
	hit[journal->worker[i].doing % DOINGS]++;
	__atomic_store_n(&journal->tick, journal->tick + 1, __ATOMIC_RELAXED);
	spawn(i);
	if (zombie)
		waitpid(victim, NULL, 0);
}

/* Half of the young ones are spared, or nearly all would die young. */
static bool idle(unsigned int i)
{
	uint32_t doing = __atomic_load_n(&journal->worker[i].doing, __ATOMIC_RELAXED);

	return doing == BETWEEN || (doing == IN_ATTACH && draw(&rnd) % 2);
}

/* Somebody in an operation, mostly. One, or two in a row: the second may be
 * recovering from the first. */
static void kill_some(void)
{
	struct timespec nap = { 0, (long)(draw(&rnd) % WAIT_MAX_US) * 1000 };
	unsigned int i = (unsigned int)(draw(&rnd) % WORKERS);

	nanosleep(&nap, NULL);
	for (unsigned int n = draw(&rnd) % 8 ? WORKERS : 0; n && idle(i); n--)
		i = (i + 1) % WORKERS;
	strike(i);
	if (draw(&rnd) % 8 == 0)
		strike((i + 1) % WORKERS);
}

/* No worker may be without progress, whoever bears its number meanwhile. */
static void look_after(void)
{
	uint64_t now = now_ms();

	for (unsigned int i = 0; i < WORKERS; i++) {
		uint64_t beat = __atomic_load_n(&journal->worker[i].done, __ATOMIC_RELAXED);

		if (pulse_stopped(&worker[i].pulse, beat, now))
			give_up("stands still", i, (int)journal->worker[i].doing);
	}
}

static void round_begin(uint32_t round)
{
	/* Room for the dying: one killed while it claims a slot counts as alive until its parent has waited
	 * for it, and a third of these kills hit somebody who attaches. */
	struct fnd_segment_options opt = { .size = sizeof(opt),
					   .processes = 32,
					   .threads = 32,
					   .max_bytes = 64u << 20 };
	struct fnd_registry *reg;
	struct fnd_dedup *d;
	int err;

	memset(journal->worker, 0, sizeof(journal->worker));
	memset(journal->key, 0, sizeof(journal->key));
	memset(journal->name, 0, sizeof(journal->name));
	memset(journal->claim, 0, sizeof(journal->claim));
	journal->round = round;
	journal->stop = journal->tick = 0;
	snprintf(journal->segment, sizeof(journal->segment), "kills-many-%d-%u", (int)getpid(), round);
	err = fnd_segment_create(journal->segment, &opt, &seg);
	if (!err)
		err = fnd_registry_open(seg, 64, &reg);
	if (!err)
		err = fnd_dedup_open(seg, CLAIMS, &d);
	if (err)
		give_up(fnd_error_detail(), 0, -err);
	fnd_registry_close(reg);
	fnd_dedup_close(d);
	for (unsigned int i = 0; i < WORKERS; i++) {
		worker[i].pulse.beat = 0;
		pulse_begin(&worker[i].pulse);
		spawn(i);
	}
}

static void round_end(void)
{
	struct timespec nap = { 0, 200000 };
	int status, err;

	__atomic_store_n(&journal->stop, 1, __ATOMIC_RELAXED);
	for (unsigned int i = 0; i < WORKERS; i++) {
		struct pulse leaving = { .since_ms = now_ms() };

		while (waitpid(worker[i].pid, &status, WNOHANG) == 0) {
			nanosleep(&nap, NULL);
			if (pulse_stopped(&leaving, 0, now_ms()))
				give_up("does not leave", i, (int)journal->worker[i].doing);
		}
		worker[i].pid = 0;
		operations += journal->worker[i].done;
		if (status != 0)
			give_up("left with a failure", i, status);
	}
	if (verdict(seg))
		give_up("does not add up", 0, 0);
	recoveries += fnd_counter_read(seg, FND_COUNTER_RECOVERIES);
	reaped += fnd_counter_read(seg, FND_COUNTER_REAPED);
	names_reaped += fnd_counter_read(seg, FND_COUNTER_NAMES_REAPED);
	emitted += fnd_counter_read(seg, FND_COUNTER_EMITTED);
	err = fnd_segment_detach(seg);
	if (!err)
		err = fnd_segment_destroy(journal->segment, 0);
	if (err)
		give_up(fnd_error_detail(), 0, -err);
}

static void summary(uint32_t rounds)
{
	double seconds = (double)(now_ms() - began_ms) / 1e3;

	printf("{\"test\":\"kills-many\",\"seed\":%llu,\"kills\":%llu,\"rounds\":%u,\"operations\":%llu,"
	       "\"recoveries\":%llu,\"reaped\":%llu,\"names_reaped\":%llu,\"emitted\":%llu,"
	       "\"kills_a_second\":%.0f",
	       (unsigned long long)journal->seed, (unsigned long long)kills, rounds,
	       (unsigned long long)operations, (unsigned long long)recoveries, (unsigned long long)reaped,
	       (unsigned long long)names_reaped, (unsigned long long)emitted, (double)kills / seconds);
	for (unsigned int i = 0; i < DOINGS; i++)
		printf(",\"in_%s\":%llu", doing_names[i], (unsigned long long)hit[i]);
	printf("}\n");
}

int main(int argc, char **argv)
{
	uint32_t round = 0;

	began_ms = now_ms();
	journal = journal_map(sizeof(*journal));
	report_file = kills_arguments(argc, argv, &wanted, &journal->seed);
	rnd = mix(journal->seed);
	prctl(PR_SET_TIMERSLACK, 1000UL);
	for (; kills < wanted; round++) {
		uint64_t end = kills + KILLS_A_ROUND < wanted ? kills + KILLS_A_ROUND : wanted;

		round_begin(round);
		while (kills < end) {
			kill_some();
			look_after();
		}
		round_end();
	}
	summary(round);
	report(0);
	return 0;
}
