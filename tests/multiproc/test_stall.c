/* SPDX-License-Identifier: MIT */
/*
 * A reader that is stopped in its section while others write.
 *
 * Writers go on until the garbage limit, and are then told who holds their memory back. Within a second of
 * writing the stall is reported: by the callback, by fnd_segment_stall(), in the figures of an observer.
 * Nothing the reader can see changes. When it dies or goes on, everything comes back.
 *
 * The limit of a table is a quarter of its capacity or 8 MB, whichever is more, and up to 64 records a shard.
 *
 * usage: test_stall [CASE]...
 *        test_stall --hold NAME    for a script: a stalled reader until standard input ends, then none
 */
#define _GNU_SOURCE
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

#include "stall.h"

/* --- cases ---------------------------------------------------------------------------------------- */

enum end { KILLED, CONTINUED };

static int end_reader(pid_t pid, enum end end)
{
	if (end == CONTINUED) {
		word_set(&board->go, 1);
		kill(pid, SIGCONT);
	} else {
		kill(pid, SIGKILL); /* and not reaped: a zombie holds nothing back */
	}
	__atomic_store_n(&board->ended_at, now_ns(), __ATOMIC_RELEASE);
	for (unsigned int i = 0; !__atomic_load_n(&board->went_on_at, __ATOMIC_ACQUIRE); i++) {
		NEED(i < 10000);
		nap_us(500);
	}
	word_set(&board->pause, 1);
	return word_wait(&board->paused, WRITERS);
}

static int writers_go_on(void)
{
	uint64_t writes = __atomic_load_n(&board->writes, __ATOMIC_RELAXED);
	uint64_t refusals = __atomic_load_n(&board->refused, __ATOMIC_RELAXED);

	word_set(&board->pause, 0);
	for (unsigned int i = 0; __atomic_load_n(&board->writes, __ATOMIC_RELAXED) < writes + 20000; i++) {
		NEED(i < 20000);
		nap_us(1000);
	}
	NEED(__atomic_load_n(&board->refused, __ATOMIC_RELAXED) == refusals);
	word_set(&board->stop, 1);
	return 0;
}

static int stalled(uint32_t flags, enum end end)
{
	struct fnd_segment *seg;
	struct fnd_table *t;
	uint64_t most = 0, began;
	pid_t pid, crew[WRITERS];
	char who[32];

	TRY(table_make(name_new(), flags, &seg, &t));
	pid = reader_stop();
	NEED(pid > 0);
	board->reader_pid = (uint32_t)pid;
	began = now_ns();
	for (unsigned int i = 0; i < WRITERS; i++)
		crew[i] = child_start(writer, NULL);
	TRY(wait_told(t, 1, &most));
	TRY(told(seg, pid, &board->said[0]));
	snprintf(who, sizeof(who), "pid %d (" COMM ")", (int)pid);
	NEED(refused(fnd_synchronize(seg, 20), ETIMEDOUT, who));
	for (unsigned int i = 0; __atomic_load_n(&board->refused, __ATOMIC_RELAXED) < 2; i++) {
		NEED(i < 10000); /* the limit is reached, sooner or later */
		TRY(under_limit(t, &most));
		nap_us(2000);
	}
	TRY(end_reader(pid, end));
	TRY(all_back(seg, t));
	fprintf(stderr, "told after %.0f ms, most %.1f MB; writers went on after %.1f ms, all back after %.1f ms\n",
		(double)(board->said_at[0] - began) / 1e6, (double)most / 1e6,
		(double)(board->went_on_at - board->ended_at) / 1e6,
		(double)(now_ns() - board->ended_at) / 1e6);
	TRY(writers_go_on());
	for (unsigned int i = 0; i < WRITERS; i++)
		NEED(child_wait(crew[i]) == 0);
	NEED(child_wait(pid) == (end == KILLED ? 128 + SIGKILL : 0));
	NEED(board->said_count >= 1 && board->said_count <= WRITERS); /* once a process and section */
	/* and once by this process, which waited in fnd_synchronize() */
	NEED(fnd_counter_read(seg, FND_COUNTER_STALLS) >= board->said_count);
	NEED(fnd_counter_read(seg, FND_COUNTER_STALLS) <= board->said_count + 1);
	return table_end(seg, t);
}

static int fixed_killed(void)
{
	return stalled(FND_TABLE_FIXED, KILLED);
}

static int fixed_continued(void)
{
	return stalled(FND_TABLE_FIXED, CONTINUED);
}

static int growing_killed(void)
{
	return stalled(0, KILLED);
}

static int growing_continued(void)
{
	return stalled(0, CONTINUED);
}

/* Who writes but little finds it as well: within a second, which at this pace is some fifty writes. */
static int slow_writer(void)
{
	struct fnd_segment *seg, *same_seg;
	struct fnd_table *t, *same;
	uint64_t most = 0, writes = 0;
	pid_t pid;

	TRY(table_make(name_new(), 0, &seg, &t));
	pid = reader_stop();
	NEED(pid > 0);
	board->reader_pid = (uint32_t)pid;
	TRY(attach_writer(&same_seg, &same));
	for (; !board->said_at[0] && writes < 100; writes++) {
		TRY(write_one(same, writes));
		nap_us(20000);
	}
	fprintf(stderr, "told after %llu writes, one in 20 ms\n", (unsigned long long)writes);
	NEED(board->said_at[0]);
	TRY(under_limit(t, &most));
	TRY(told(seg, pid, &board->said[0]));
	child_kill(pid);
	TRY(all_back(seg, t));
	fnd_table_close(same);
	NEED(fnd_segment_detach(same_seg) == 0);
	return table_end(seg, t);
}

/* Two are stopped, in sections of different epochs: the older is told of; when it is dead, the other. */
static int one_after_the_other(void)
{
	struct fnd_segment *seg;
	struct fnd_table *t;
	uint64_t most = 0;
	pid_t pid[2], crew;
	uint32_t tid[2];

	TRY(table_make(name_new(), 0, &seg, &t));
	for (unsigned int i = 0; i < 2; i++) {
		pid[i] = reader_stop();
		NEED(pid[i] > 0);
		tid[i] = board->reader_tid;
		NEED(fnd_synchronize(seg, 1) == -ETIMEDOUT); /* the epoch moves */
	}
	for (unsigned int i = 0; i < 2; i++) {
		board->reader_pid = (uint32_t)pid[i];
		board->reader_tid = tid[i];
		word_set(&board->stop, 0);
		crew = child_start(writer, NULL);
		TRY(wait_told(t, i + 1, &most));
		TRY(told(seg, pid[i], &board->said[i]));
		word_set(&board->stop, 1);
		NEED(child_wait(crew) == 0);
		child_kill(pid[i]);
	}
	NEED(board->said[0].epoch < board->said[1].epoch && board->said_count == 2);
	TRY(all_back(seg, t));
	return table_end(seg, t);
}

static int brief_reader(void *arg)
{
	struct fnd_segment *seg;
	struct fnd_table *t;

	(void)arg;
	NEED(fnd_segment_attach(board->name, NULL, &seg) == 0);
	NEED(fnd_table_open(seg, "a", NULL, &t) == 0);
	while (!word_get(&board->stop)) {
		NEED(fnd_read_begin(seg) == 0);
		nap_us(2000); /* long enough to be met by writers */
		TRY(read_one(t));
		NEED(fnd_read_end(seg) == 0);
	}
	fnd_table_close(t);
	return fnd_segment_detach(seg);
}

/* Sections that end are no stall, however many there are. */
static int no_false_alarm(void)
{
	struct fnd_segment *seg;
	struct fnd_table *t;
	uint64_t most = 0;
	pid_t crew[3];

	TRY(table_make(name_new(), 0, &seg, &t));
	for (unsigned int i = 0; i < 3; i++)
		crew[i] = child_start(i ? brief_reader : writer, NULL);
	for (unsigned int i = 0; i < 300; i++) {
		TRY(under_limit(t, &most));
		nap_us(5000);
	}
	word_set(&board->stop, 1);
	for (unsigned int i = 0; i < 3; i++)
		NEED(child_wait(crew[i]) == 0);
	NEED(board->said_count == 0 && board->refused == 0 && board->writes > 1000);
	NEED(fnd_counter_read(seg, FND_COUNTER_STALLS) == 0);
	TRY(all_back(seg, t));
	return table_end(seg, t);
}

/* A delete needs no memory and is never refused: live records and garbage together stay what they may be. */
static int deletes_go_on(void)
{
	struct fnd_table_stats s;
	struct fnd_segment *seg;
	struct fnd_table *t;
	uint64_t most = 0;
	char key[32];
	pid_t pid;

	TRY(table_make(name_new(), FND_TABLE_FIXED, &seg, &t));
	pid = reader_stop();
	NEED(pid > 0);
	board->reader_pid = (uint32_t)pid;
	while (!board->refused)
		TRY(write_one(t, 1));
	TRY(under_limit(t, &most));
	for (unsigned int i = 0; i < KEYS; i++)
		NEED(fnd_table_delete(t, key, key_text(key, i)) == 0);
	NEED(fnd_table_stats_read(t, &s) == 0 && s.live == 0);
	NEED(s.retired * s.record_bytes <= limit_bytes(&s) + KEYS * (uint64_t)s.record_bytes);
	NEED(fnd_table_check(t) == 0);
	child_kill(pid);
	for (unsigned int i = 0; i < KEYS; i++) {
		struct value v = value_make(i, 9);

		NEED(fnd_table_insert(t, key, key_text(key, i), &v, sizeof(v)) == 0);
	}
	TRY(all_back(seg, t));
	return table_end(seg, t);
}

/* --- for a script --------------------------------------------------------------------------------- */

/* Prints "pid tid" of a reader that has been reported, holds it until standard input ends; then it is
 * dead and everything is back. */
static int hold(const char *name)
{
	struct fnd_segment *seg, *again;
	struct fnd_table *t, *same;
	uint64_t until = now_ns() + 20000000000ULL;
	pid_t pid;
	char c;

	TRY(table_make(name, 0, &seg, &t));
	pid = reader_stop();
	NEED(pid > 0);
	board->reader_pid = (uint32_t)pid;
	TRY(attach_writer(&again, &same));
	for (uint64_t seq = 1; !board->said_at[0] && now_ns() < until; seq++)
		TRY(write_one(t, seq));
	printf("%d %u\n", (int)pid, board->reader_tid);
	fflush(stdout);
	NEED(board->said_count == 1 && read(STDIN_FILENO, &c, 1) == 0);
	child_kill(pid);
	TRY(all_back(seg, t));
	fnd_table_close(same);
	fnd_table_close(t);
	NEED(fnd_segment_detach(again) == 0 && fnd_segment_detach(seg) == 0);
	return 0;
}

int main(int argc, char **argv)
{
	static const struct test_case cases[] = {
		{ "fixed_killed", fixed_killed },
		{ "fixed_continued", fixed_continued },
		{ "growing_killed", growing_killed },
		{ "growing_continued", growing_continued },
		{ "slow_writer", slow_writer },
		{ "one_after_the_other", one_after_the_other },
		{ "no_false_alarm", no_false_alarm },
		{ "deletes_go_on", deletes_go_on },
		{ NULL, NULL },
	};
	static const struct test_case *const tables[] = { cases, NULL };

	if (argc == 3 && strcmp(argv[1], "--hold") == 0)
		return hold(argv[2]);
	return cases_main(argc, argv, "stall", tables);
}
