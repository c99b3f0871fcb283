// SPDX-License-Identifier: MIT
/*
 * kills [N [SEED]] [--report FILE] - N random kill -9 of four contending writers and readers on one segment.
 *
 * Each victim is replaced at once; its successor first checks what it left behind. The kills come in
 * rounds, each with a segment of its own, so that growth, half-made tables and full slot tables happen
 * again and again; at the end of a round everything has to add up. The last line is JSON.
 */
#define _GNU_SOURCE
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "internal.h"
#include "kills.h"
#include "report.h"

#define KILLS_A_ROUND 250

struct journal *journal;

static struct worker {
	pid_t pid;
	struct pulse pulse;
} worker[WORKERS];

static struct fnd_segment *seg;
static struct fnd_table *table[TABLES];
static uint64_t rnd, lives, orders, wanted = 5000, began_ms;
static const char *report_file;
static struct {
	uint64_t kills, inside, recoveries, reaped, writes, attaches, growths;
} total;

static void report(uint64_t violations)
{
	struct suite_result r = { .suite = "kills-aimed",
				  .goal = wanted,
				  .count = total.kills,
				  .violations = violations,
				  .seed = journal->seed,
				  .seconds = (double)(now_ms() - began_ms) / 1e3 };

	report_suite(&r, report_file);
}

static _Noreturn void give_up(void)
{
	for (unsigned int i = 0; i < WORKERS; i++) {
		if (journal->worker[i].failure[0])
			fprintf(stderr, "seed %llu, round %u, worker %u: %s\n",
				(unsigned long long)journal->seed, journal->round, i,
				journal->worker[i].failure);
		if (worker[i].pid > 0)
			kill(worker[i].pid, SIGKILL);
	}
	fnd_segment_destroy(journal->segment, FND_DESTROY_FORCE);
	report(1);
	exit(1);
}

static void spawn(unsigned int i)
{
	pid_t pid, parent = getpid();

	journal->worker[i].phase &= ~1u;
	journal->worker[i].rare &= ~1u;
	journal->worker[i].order = 0;
	pid = fork();
	if (pid < 0) {
		perror("fork");
		give_up();
	}
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (getppid() != parent)
			_exit(1);
		worker_run(i, lives);
	}
	lives++;
	worker[i].pid = pid;
	pulse_begin(&worker[i].pulse);
}

/* Which shard locks are held, for the report on somebody who stands still. */
static void show_locks(void)
{
	fprintf(stderr, "segment lock %#x\n", seg->hdr->lock);
	for (unsigned int t = 0; t < TABLES; t++) {
		for (uint32_t i = 0; i < table[t]->shards; i++) {
			uint32_t w = table[t]->shard[i].lock;
			char who[96];

			if (!w)
				continue;
			fnd_thread_describe(seg, w >> 20, who, sizeof(who));
			fprintf(stderr, "%s, shard %u: lock %#x, %s\n", table_names[t], i, w, who);
		}
	}
}

/* Nobody may stand still, and nobody may end who was not killed. */
static void look_after(void)
{
	uint64_t now = now_ms();

	for (unsigned int i = 0; i < WORKERS; i++) {
		uint64_t beat = __atomic_load_n(&journal->worker[i].beat, __ATOMIC_RELAXED);
		int status;

		if (worker[i].pid <= 0)
			continue;
		if (waitpid(worker[i].pid, &status, WNOHANG) == worker[i].pid) {
			fprintf(stderr, "seed %llu, round %u: worker %u ended with status %#x\n",
				(unsigned long long)journal->seed, journal->round, i, status);
			worker[i].pid = 0;
			give_up();
		}
		if (pulse_stopped(&worker[i].pulse, beat, now)) {
			fprintf(stderr, "seed %llu, round %u: worker %u stands still\n",
				(unsigned long long)journal->seed, journal->round, i);
			show_locks();
			give_up();
		}
	}
}

/*
 * Wait for the victim to be inside an operation, and a little longer: microseconds, not milliseconds. One
 * kill in six is for the making and growing of a table, which happens when ordered.
 */
static void aim(unsigned int i)
{
	uint32_t kind = draw(&rnd) % 6, *word = &journal->worker[i].phase, was;
	const struct timespec nap = { 0, 50000 };
	uint64_t longest = 3000;

	if (kind < 2) {
		word = &journal->worker[i].rare;
		longest = kind == 0 && draw(&rnd) % 4 ? 400000 : 60000;
	}
	was = __atomic_load_n(word, __ATOMIC_SEQ_CST);
	if (kind == 0)
		__atomic_store_n(&journal->worker[i].order, 1 + orders++ % SPARE_TABLES, __ATOMIC_SEQ_CST);
	for (int tries = 0; tries < 100000; tries++) {
		uint32_t is = __atomic_load_n(word, __ATOMIC_SEQ_CST);

		if (is != was && is & 1)
			break;
		spin(4);
		if (tries % 1024 == 1023)
			nanosleep(&nap, NULL); /* there may be no processor left for the victim */
	}
	spin(draw(&rnd) % longest);
}

static void strike(unsigned int i)
{
	bool zombie = draw(&rnd) % 2;
	pid_t victim = worker[i].pid;
	siginfo_t info = { 0 };

	kill(victim, SIGKILL);
	waitid(P_PID, (id_t)victim, &info, WEXITED | WNOWAIT);
	if (info.si_code != CLD_KILLED) {
		fprintf(stderr, "seed %llu, round %u: worker %u ended by itself\n",
			(unsigned long long)journal->seed, journal->round, i);
		give_up();
	}
	total.kills++;
	total.inside += journal->worker[i].phase & 1;
	if (!zombie)
		waitpid(victim, NULL, 0);
	spawn(i);
	if (zombie)
		waitpid(victim, NULL, 0);
}

/* One kill or two in a row: the second hits who recovers from the first. */
static void kill_some(void)
{
	unsigned int i = (unsigned int)(draw(&rnd) % WORKERS);
	struct timespec nap = { 0, (long)(draw(&rnd) % 1500) * 1000 };

	switch (draw(&rnd) % 8) {
	case 0: /* whatever it does: attaching, most likely, as it is young */
		strike(i);
		nanosleep(&nap, NULL);
		strike(i);
		break;
	case 1:
		aim(i);
		strike(i);
		spin(draw(&rnd) % 20000);
		strike((i + 1) % WORKERS);
		break;
	default:
		nanosleep(&nap, NULL);
		aim(i);
		strike(i);
	}
}

static void round_begin(uint32_t round)
{
	struct fnd_segment_options opt = { .size = sizeof(opt),
					   .processes = 12,
					   .threads = 12,
					   .max_bytes = 64u << 20 };
	int err;

	journal->round = round;
	journal->stop = 0;
	memset(journal->worker, 0, sizeof(journal->worker));
	memset(journal->key, 0, sizeof(journal->key));
	snprintf(journal->segment, sizeof(journal->segment), "kills-%d-%u", (int)getpid(), round);
	err = fnd_segment_create(journal->segment, &opt, &seg);
	for (unsigned int t = 0; !err && t < TABLES; t++)
		err = fnd_table_open(seg, table_names[t], &table_options[t], &table[t]);
	if (err) {
		fprintf(stderr, "making the segment: %s [%s]\n", fnd_strerror(err), fnd_error_detail());
		give_up();
	}
	for (unsigned int i = 0; i < WORKERS; i++)
		spawn(i);
}

static void everybody_leaves(void)
{
	__atomic_store_n(&journal->stop, 1, __ATOMIC_RELAXED);
	for (unsigned int i = 0; i < WORKERS; i++) {
		struct pulse leaving = { .since_ms = now_ms() };
		int status;

		while (waitpid(worker[i].pid, &status, WNOHANG) == 0) {
			struct timespec nap = { 0, 200000 };

			nanosleep(&nap, NULL);
			if (pulse_stopped(&leaving, 0, now_ms())) {
				fprintf(stderr, "worker %u does not leave\n", i);
				show_locks();
				give_up();
			}
		}
		worker[i].pid = 0;
		total.writes += journal->worker[i].writes;
		total.attaches += journal->worker[i].attaches;
		if (status != 0) {
			fprintf(stderr, "worker %u left with status %#x\n", i, status);
			give_up();
		}
	}
}

static void round_end(void)
{
	struct fnd_table_stats s;
	int err;

	everybody_leaves();
	err = verdict(seg, table);
	total.recoveries += fnd_counter_read(seg, FND_COUNTER_RECOVERIES);
	total.reaped += fnd_counter_read(seg, FND_COUNTER_REAPED);
	for (unsigned int t = 0; t < TABLES; t++) {
		fnd_table_stats_read(table[t], &s);
		total.growths += s.growths;
		fnd_table_close(table[t]);
	}
	if (err)
		give_up();
	err = fnd_segment_detach(seg);
	if (!err)
		err = fnd_segment_destroy(journal->segment, 0);
	if (err) {
		fprintf(stderr, "destroy: %s [%s]\n", fnd_strerror(err), fnd_error_detail());
		give_up();
	}
}

int main(int argc, char **argv)
{
	uint32_t round = 0;

	began_ms = now_ms();
	journal = journal_map(sizeof(*journal));
	report_file = kills_arguments(argc, argv, &wanted, &journal->seed);
	rnd = mix(journal->seed);
	for (; total.kills < wanted; round++) {
		round_begin(round);
		for (uint64_t end = total.kills + KILLS_A_ROUND; total.kills < end && total.kills < wanted;) {
			kill_some();
			look_after();
		}
		round_end();
	}
	printf("{\"test\":\"kills\",\"seed\":%llu,\"kills\":%llu,\"inside\":%llu,\"rounds\":%u,"
	       "\"recoveries\":%llu,\"reaped\":%llu,\"writes\":%llu,\"attaches\":%llu,\"growths\":%llu,"
	       "\"ms\":%llu}\n",
	       (unsigned long long)journal->seed, (unsigned long long)total.kills,
	       (unsigned long long)total.inside, round, (unsigned long long)total.recoveries,
	       (unsigned long long)total.reaped, (unsigned long long)total.writes,
	       (unsigned long long)total.attaches, (unsigned long long)total.growths,
	       (unsigned long long)(now_ms() - began_ms));
	report(0);
	return 0;
}
