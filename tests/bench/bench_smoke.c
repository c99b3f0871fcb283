// SPDX-License-Identifier: MIT
/*
 * Does a benchmark print what it promises, and leave nothing behind? No figure is judged.
 *
 * usage: bench_smoke PROGRAM table|runtime
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <jansson.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

struct run {
	pid_t pid;
	FILE *out;
};

static int failures;
static const char *prefix = "bench-table"; /* of the program's segments */
static int goals, goals_reached; /* of the rows so far */

static void check(bool good, const char *what, const char *line)
{
	if (good)
		return;
	failures++;
	fprintf(stderr, "bench_smoke: %s%s%s\n", what, line ? ": " : "", line ? line : "");
}

static bool start(struct run *run, const char *program, const char *mode)
{
	int fds[2];

	if (pipe(fds) != 0)
		return false;
	run->pid = fork();
	if (run->pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		dup2(fds[1], STDOUT_FILENO);
		close(fds[0]);
		close(fds[1]);
		execl(program, program, mode, "--json", (char *)NULL);
		_exit(127);
	}
	close(fds[1]);
	run->out = fdopen(fds[0], "r");
	return run->pid > 0 && run->out;
}

static int finish(struct run *run)
{
	int status = -1;

	fclose(run->out);
	waitpid(run->pid, &status, 0);
	return status;
}

/* Segments that this run made bear its pid. */
static void check_nothing_left(const struct run *run)
{
	char mark[64];
	DIR *dir = opendir("/dev/shm");
	struct dirent *e;

	snprintf(mark, sizeof(mark), ".%s-%d-", prefix, (int)run->pid);
	while (dir && (e = readdir(dir)))
		check(!strstr(e->d_name, mark), "left in /dev/shm", e->d_name);
	if (dir)
		closedir(dir);
}

static bool has_string(const json_t *row, const char *key)
{
	return json_is_string(json_object_get(row, key));
}

static bool positive(const json_t *row, const char *key)
{
	return json_number_value(json_object_get(row, key)) > 0;
}

static void check_machine(const json_t *row, const char *line)
{
	static const char *const keys[] = { "cpu", "kernel", "compiler", "flags", "library",
					    "commit" };

	for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++)
		check(has_string(row, keys[i]), keys[i], line);
	check(positive(row, "cores"), "cores", line);
}

/* A goal is a text with a verdict, or there is none of both. */
static void check_goal(const json_t *row, const char *line)
{
	const json_t *goal = json_object_get(row, "goal"), *reached = json_object_get(row, "reached");

	check(goal && reached, "goal, reached", line);
	check(json_is_string(goal) == json_is_boolean(reached), "a goal without a verdict", line);
	check(json_is_string(goal) == positive(row, "measured"), "a goal without a figure", line);
	if (!json_is_string(goal))
		return;
	goals++;
	goals_reached += json_is_true(reached);
}

static void check_row(const json_t *row, const char *line)
{
	bool bytes = json_object_get(row, "ours_bytes");
	double ratio = json_number_value(json_object_get(row, "ratio"));
	double ours = json_number_value(json_object_get(row, bytes ? "ours_bytes" : "ours_ns"));
	double peer = json_number_value(json_object_get(row, bytes ? "peer_bytes" : "peer_ns"));

	check(has_string(row, "dist") && has_string(row, "mix") && has_string(row, "peer"),
	      "dist, mix, peer", line);
	check(json_is_integer(json_object_get(row, "entries")), "entries", line);
	check(positive(row, "procs") && positive(row, "rounds"), "procs, rounds", line);
	check(ours > 0 && peer > 0, "figures", line);
	check(bytes || (positive(row, "ours_min_ns") && positive(row, "ours_max_ns")), "spread", line);
	/* All three are rounded to two decimals. */
	check(ratio >= (peer - 0.01) / (ours + 0.01) - 0.01 &&
		      (ours <= 0.01 || ratio <= (peer + 0.01) / (ours - 0.01) + 0.01),
	      "ratio is not the peer's figure by ours", line);
	check_goal(row, line);
}

/* At the end: what the rows before it have said. */
static void check_summary(const json_t *row, const char *line)
{
	check(json_integer_value(json_object_get(row, "goals")) == goals &&
		      json_integer_value(json_object_get(row, "reached")) == goals_reached,
	      "the summary is not that of the rows", line);
}

/*
 * How often each kind of row must be there: a line for each peer, of which there are 4 (of one worker's
 * lookups and replaces 5); 2 sizes, 2 distributions, 1 and 2 workers.
 */
static struct kind {
	const char *bench;
	int wanted, seen;
} table_kinds[] = {
	{ "machine", 1, 0 },
	{ "lock", 2, 0 },
	{ "record_bytes", 2 * 2, 0 },
	{ "read_section", 4, 0 },
	{ "section_calls", 1, 0 },
	{ "grace_period", 3, 0 },
	{ "grace_p99", 3, 0 },
	{ "probe_detached", 2, 0 },
	{ "lookup", 2 * 2 * (5 + 4), 0 },
	{ "batch", 2 * 2 * (4 + 4), 0 },
	{ "mixed", 2 * 2 * (5 + 4) * 2, 0 },
	{ "replace", 2 * 2 * (5 + 4), 0 },
	{ "insert", 2 * (4 + 4), 0 },
	{ "delete", 2 * (4 + 4), 0 },
	{ "read_scaling", 2, 0 },
	{ "machine_scaling", 2, 0 },
	{ "growth_reader", 2, 0 },
	{ "growth_writer", 2, 0 },
	{ "summary", 1, 0 },
}, runtime_kinds[] = {
	{ "machine", 1, 0 },
	{ "flag_check", 2 * 2, 0 },
	{ "flag_percent", 1, 0 },
	{ "flag_evaluate", 1, 0 },
	{ "flag_seen", 2 * 2, 0 },
	{ "flag_stale", 2 * 2, 0 },
	{ "flag_emergency", 2, 0 },
	{ "flag_wake", 2, 0 },
	{ "context_set", 2, 0 },
	{ "context_scope", 2, 0 },
	{ "log_line", 2 * 2, 0 },
	{ "agent_lookup", 3, 0 },
	{ "agent_register", 3, 0 },
	{ "agent_find", 3, 0 },
	{ "event", 1, 0 },
	{ "dedup", 2, 0 },
	{ "summary", 1, 0 },
};

/* What the program at hand prints. */
static struct kind *kinds = table_kinds;
static size_t kinds_count = sizeof(table_kinds) / sizeof(table_kinds[0]);

static void check_line(const char *line)
{
	json_t *row = json_loads(line, 0, NULL);
	const char *bench = json_string_value(json_object_get(row, "bench"));
	bool known = false;

	check(row && bench, "not a JSON object with a bench", line);
	for (size_t i = 0; bench && i < kinds_count; i++) {
		if (strcmp(bench, kinds[i].bench) != 0)
			continue;
		kinds[i].seen++;
		known = true;
	}
	check(!bench || known, "unknown bench", line);
	check(row && has_string(row, "schema"), "schema", line);
	if (bench && strcmp(bench, "machine") == 0)
		check_machine(row, line);
	else if (bench && strcmp(bench, "summary") == 0)
		check_summary(row, line);
	else if (bench)
		check_row(row, line);
	json_decref(row);
}

static void test_rows(const char *program)
{
	char line[4096];
	struct run run;
	int status;

	if (!start(&run, program, "--smoke")) {
		check(false, "cannot start", program);
		return;
	}
	while (fgets(line, sizeof(line), run.out))
		check_line(line);
	status = finish(&run);
	check(WIFEXITED(status) && WEXITSTATUS(status) == 0, "exit status of --smoke", NULL);
	for (size_t i = 0; i < kinds_count; i++)
		check(kinds[i].seen == kinds[i].wanted, "rows of this kind", kinds[i].bench);
	check_nothing_left(&run);
}

/* Interrupted in the middle of a row: ends by the signal, and nothing stays. */
static void test_interrupt(const char *program)
{
	char line[4096];
	struct run run;
	int status;

	if (!start(&run, program, "--quick")) {
		check(false, "cannot start", program);
		return;
	}
	/* The machine, the lock's two lines, which are another program's, or those of the flags, and so on until
	 * segments and workers are there. */
	for (int i = 0; i < 6; i++)
		check(fgets(line, sizeof(line), run.out) != NULL, "output before the interrupt",
		      NULL);
	usleep(150000);
	kill(run.pid, SIGINT);
	while (fgets(line, sizeof(line), run.out))
		;
	status = finish(&run);
	check(WIFSIGNALED(status) && WTERMSIG(status) == SIGINT, "end by SIGINT", NULL);
	check_nothing_left(&run);
}

int main(int argc, char **argv)
{
	if (argc != 3 || (strcmp(argv[2], "table") != 0 && strcmp(argv[2], "runtime") != 0)) {
		fprintf(stderr, "usage: bench_smoke PROGRAM table|runtime\n");
		return 2;
	}
	if (strcmp(argv[2], "runtime") == 0) {
		kinds = runtime_kinds;
		kinds_count = sizeof(runtime_kinds) / sizeof(runtime_kinds[0]);
		prefix = "bench-runtime";
	}
	test_rows(argv[1]);
	test_interrupt(argv[1]);
	return failures ? 1 : 0;
}
