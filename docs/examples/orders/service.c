/* SPDX-License-Identifier: MIT */
/* The parent: makes the socket, starts the workers, notes how one that died did, and starts another in its place. */
#include "orders.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

struct service {
	struct desk desk;
	pid_t pid;
	pid_t worker[WORKERS_MAX];
};

static void on_stop(int sig)
{
	(void)sig;
	desk_stop = 1;
}

static int open_socket(const char *path)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int fd;

	if (strlen(path) >= sizeof(address.sun_path)) {
		errno = ENAMETOOLONG;
		return -1;
	}
	memcpy(address.sun_path, path, strlen(path) + 1);
	fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -1;
	unlink(path); /* of a service that was killed */
	if (bind(fd, (struct sockaddr *)&address, sizeof(address)) == 0)
		return fd;
	close(fd);
	return -1;
}

static void start_worker(struct service *s, unsigned int i, const sigset_t *unblocked)
{
	pid_t pid = fork();

	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL); /* no worker outlives its parent … */
		if (getppid() != s->pid)	  /* … not even one that died before this line */
			_exit(1);
		worker_run(&s->desk, i + 1, unblocked);
	}
	s->worker[i] = pid > 0 ? pid : 0; /* tried again at the next tick */
}

/* The names of a dead worker go now, with an agent.down each that says how it ended and what it was doing. */
static void bury(struct service *s, pid_t pid, int status)
{
	unsigned int names = 0;

	fnd_segment_child_died(s->desk.segment, (uint32_t)pid, status);
	fnd_registry_reap(fnd_runtime_registry(s->desk.runtime), &names);
	if (desk_stop)
		return;
	FND_LOG(s->desk.log, FND_LOG_ERROR, "worker died", fnd_int("worker_pid", pid),
		WIFSIGNALED(status) ? fnd_int("signal", WTERMSIG(status)) : fnd_int("status", WEXITSTATUS(status)),
		fnd_uint("names", names));
}

static void look_after_workers(struct service *s, const sigset_t *unblocked)
{
	const unsigned int workers = s->desk.settings->workers;
	int status;
	pid_t pid;

	while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
		for (unsigned int i = 0; i < workers; i++)
			if (s->worker[i] == pid)
				s->worker[i] = 0;
		bury(s, pid, status);
	}
	for (unsigned int i = 0; i < workers && !desk_stop; i++)
		if (s->worker[i] == 0)
			start_worker(s, i, unblocked);
}

static void signal_workers(struct service *s, int sig)
{
	for (unsigned int i = 0; i < s->desk.settings->workers; i++)
		if (s->worker[i] > 0)
			kill(s->worker[i], sig);
}

static void end_workers(struct service *s)
{
	int status;
	pid_t pid;

	signal_workers(s, SIGTERM);
	while ((pid = waitpid(-1, &status, 0)) > 0)
		bury(s, pid, status);
}

int service_run(const struct settings *settings)
{
	const struct timespec tick = { .tv_nsec = TICK_MS * 1000000L };
	struct service s = { .pid = getpid() };
	struct sigaction stop = { .sa_handler = on_stop };
	sigset_t waited, unblocked;
	int err;

	s.desk.socket = open_socket(settings->socket_path);
	if (s.desk.socket < 0)
		return desk_complain(settings->socket_path, -errno);
	err = desk_open(&s.desk, settings, "orders/service");
	if (err) {
		desk_complain(settings->segment, err);
		desk_close(&s.desk);
		return EXIT_ATTACH;
	}
	/* Taken by sigtimedwait() alone, so that none is lost between a look and a wait. */
	sigemptyset(&waited);
	sigaddset(&waited, SIGCHLD);
	sigaddset(&waited, SIGHUP);
	sigaddset(&waited, SIGTERM);
	sigaddset(&waited, SIGINT);
	sigprocmask(SIG_BLOCK, &waited, &unblocked);
	sigaction(SIGTERM, &stop, NULL); /* for the workers: they unblock it */
	sigaction(SIGINT, &stop, NULL);
	fnd_sampling_set(s.desk.segment, TIMED_EVERY); /* percentiles for foundation status, also without a tracer */
	FND_LOG(s.desk.log, FND_LOG_NOTICE, "service started", fnd_uint("workers", settings->workers));
	while (!desk_stop) {
		int sig;

		look_after_workers(&s, &unblocked);
		desk_tick(&s.desk);
		sig = sigtimedwait(&waited, NULL, &tick);
		if (sig == SIGTERM || sig == SIGINT)
			desk_stop = 1;
		if (sig == SIGHUP) {
			fnd_log_reopen(s.desk.log);
			signal_workers(&s, SIGHUP);
		}
	}
	end_workers(&s);
	FND_LOG(s.desk.log, FND_LOG_NOTICE, "service ends");
	fnd_agent_unregister(s.desk.runtime, s.desk.name, 0);
	desk_close(&s.desk);
	unlink(settings->socket_path);
	return EXIT_FINE;
}
