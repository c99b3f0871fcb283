// SPDX-License-Identifier: MIT
/*
 * Does bench_table print what it promises, and leave nothing behind? No figure is judged.
 *
 * usage: bench_smoke PROGRAM
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

	snprintf(mark, sizeof(mark), ".bench-table-%d-", (int)run->pid);
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

static void check_row(const json_t *row, const char *line)
{
	double ratio = json_number_value(json_object_get(row, "ratio"));
	double ours = json_number_value(json_object_get(row, "ours_ns"));
	double peer = json_number_value(json_object_get(row, "peer_ns"));

	check(has_string(row, "dist") && has_string(row, "mix") && has_string(row, "peer"),
	      "dist, mix, peer", line);
	check(json_is_integer(json_object_get(row, "entries")), "entries", line);
	check(positive(row, "procs") && positive(row, "rounds"), "procs, rounds", line);
	check(ours > 0 && peer > 0 && positive(row, "floor_ns"), "times", line);
	check(positive(row, "ours_min_ns") && positive(row, "ours_max_ns"), "spread", line);
	/* All three are rounded to two decimals. */
	check(ratio >= (peer - 0.01) / (ours + 0.01) - 0.01 &&
		      (ours <= 0.01 || ratio <= (peer + 0.01) / (ours - 0.01) + 0.01),
	      "ratio is not peer_ns / ours_ns", line);
}

/* How often each kind of row must be there: 2 sizes, 2 distributions, 1 and 2 workers. */
static struct {
	const char *bench;
	int wanted, seen;
} kinds[] = {
	{ "machine", 1, 0 },	  { "read_section", 2, 0 },   { "grace_period", 1, 0 },
	{ "probe_detached", 1, 0 }, { "lookup", 8, 0 },	      { "replace", 8, 0 },
	{ "mixed", 16, 0 },
};

static void check_line(const char *line)
{
	json_t *row = json_loads(line, 0, NULL);
	const char *bench = json_string_value(json_object_get(row, "bench"));
	bool known = false;

	check(row && bench, "not a JSON object with a bench", line);
	for (size_t i = 0; bench && i < sizeof(kinds) / sizeof(kinds[0]); i++) {
		if (strcmp(bench, kinds[i].bench) != 0)
			continue;
		kinds[i].seen++;
		known = true;
	}
	check(!bench || known, "unknown bench", line);
	if (bench && strcmp(bench, "machine") == 0)
		check_machine(row, line);
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
	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++)
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
	/* The machine, then the first row: tables and workers are there. */
	for (int i = 0; i < 2; i++)
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
	if (argc != 2) {
		fprintf(stderr, "usage: bench_smoke PROGRAM\n");
		return 2;
	}
	test_rows(argv[1]);
	test_interrupt(argv[1]);
	return failures ? 1 : 0;
}
