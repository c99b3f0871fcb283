/* SPDX-License-Identifier: MIT */
/*
 * bounded SECONDS PROGRAM [ARG...] - run a test so that nothing of it outlives its time.
 *
 * Criterion runs each test in a session of its own, so no signal to a process group reaches what a
 * hanging test has forked. This program is the subreaper of everything below it: whoever loses its
 * parent becomes its child, and it kills until there is nobody left. Asked to end (SIGTERM, SIGINT), it does
 * so at once.
 *
 * Exit status: the program's own; 124 when the time was up, 125 when it could not be run, 128 and the
 * signal's number when it was killed.
 */
#include <errno.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static int64_t now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static void kill_children(void)
{
	char path[64];
	int pid;

	snprintf(path, sizeof(path), "/proc/self/task/%d/children", (int)getpid());
	FILE *f = fopen(path, "re");

	if (!f)
		return;
	while (fscanf(f, "%d", &pid) == 1)
		kill(pid, SIGKILL);
	fclose(f);
}

/* Each round kills one generation; its children come to us, and the next round finds them. */
static void kill_everybody(void)
{
	for (int64_t end = now_ms() + 5000; now_ms() < end;) {
		kill_children();
		pid_t pid = waitpid(-1, NULL, WNOHANG);

		if (pid < 0)
			return;
		if (pid == 0)
			usleep(1000);
	}
}

static volatile sig_atomic_t asked;

static void on_signal(int sig)
{
	asked = sig;
}

/* Reaps until @main_child is gone: its wait status, or -1 when the time was up before, or a signal came. */
static int wait_for(pid_t main_child, int64_t end)
{
	struct timespec slice = { .tv_nsec = 50 * 1000000 };
	sigset_t chld;
	int status;

	sigemptyset(&chld);
	sigaddset(&chld, SIGCHLD);
	while (now_ms() < end && !asked) {
		pid_t pid = waitpid(-1, &status, WNOHANG);

		if (pid == main_child)
			return status;
		if (pid == 0)
			sigtimedwait(&chld, NULL, &slice);
		else if (pid < 0 && errno != EINTR)
			return -1;
	}
	return -1;
}

int main(int argc, char **argv)
{
	sigset_t chld, before;

	if (argc < 3 || atoi(argv[1]) < 1) {
		fprintf(stderr, "usage: bounded SECONDS PROGRAM [ARG...]\n");
		return 125;
	}
	sigemptyset(&chld);
	sigaddset(&chld, SIGCHLD);
	sigprocmask(SIG_BLOCK, &chld, &before);
	prctl(PR_SET_CHILD_SUBREAPER, 1);

	int64_t end = now_ms() + atoi(argv[1]) * INT64_C(1000);
	pid_t pid = fork();

	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		sigprocmask(SIG_SETMASK, &before, NULL);
		execvp(argv[2], argv + 2);
		perror(argv[2]);
		_exit(125);
	}
	if (pid < 0) {
		perror("fork");
		return 125;
	}
	signal(SIGTERM, on_signal);
	signal(SIGINT, on_signal);

	int status = wait_for(pid, end);

	if (status < 0 && !asked)
		fprintf(stderr, "bounded: %s: not done after %s s\n", argv[2], argv[1]);
	kill_everybody();
	if (status < 0)
		return asked ? 128 + asked : 124;
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}
