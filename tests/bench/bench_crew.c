// SPDX-License-Identifier: MIT
/* Starting, ordering and ending workers: see bench_crew.h. */
#define _GNU_SOURCE
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bench_crew.h"

#define ANSWER_TIMEOUT_MS 120000 /* guard against a worker that hangs */

ssize_t bench_receive(int fd, void *buf, size_t bytes)
{
	ssize_t n;

	do
		n = recv(fd, buf, bytes, 0);
	while (n < 0 && errno == EINTR);
	return n;
}

static void *thread_main(void *arg)
{
	bench_worker_main(arg);
	return NULL;
}

/* The terminal sends SIGINT to all; the parent ends the crew in order. */
static _Noreturn void process_main(const struct bench_worker *w, pid_t parent)
{
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent)
		_exit(0);
	signal(SIGINT, SIG_IGN);
	signal(SIGTERM, SIG_DFL);
	signal(SIGHUP, SIG_IGN);
	close(w->parent_fd);
	bench_worker_main(w);
	_exit(0);
}

static int worker_start(struct bench_worker *w)
{
	pid_t parent = getpid();
	int fds[2], err = 0;

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds) < 0)
		return -errno;
	w->parent_fd = fds[0];
	w->worker_fd = fds[1];
	if (w->contender->processes) {
		w->pid = fork();
		if (w->pid == 0)
			process_main(w, parent);
		err = w->pid < 0 ? -errno : 0;
		close(w->worker_fd); /* so that a worker's death ends our wait for its answer */
		w->worker_fd = -1;
	} else {
		err = -pthread_create(&w->thread, NULL, thread_main, w);
	}
	w->running = err == 0;
	if (err) {
		close(w->parent_fd);
		if (w->worker_fd >= 0)
			close(w->worker_fd);
	}
	return err;
}

int bench_crew_start(struct bench_crew *crew, const struct bench_contender *contender, void *table,
		     const struct bench_data *data, unsigned int workers)
{
	int err = 0;

	memset(crew, 0, sizeof(*crew));
	for (unsigned int i = 0; i < workers && !err; i++) {
		crew->worker[i] = (struct bench_worker){
			.contender = contender, .table = table, .data = data, .number = i,
			.crew_size = workers,
		};
		err = worker_start(&crew->worker[i]);
		if (!err)
			crew->size++;
	}
	if (!err)
		err = bench_crew_wait(crew, NULL);
	if (err)
		bench_crew_stop(crew);
	return err;
}

int bench_crew_order(struct bench_crew *crew, const struct bench_order *order)
{
	for (unsigned int i = 0; i < crew->size; i++)
		if (send(crew->worker[i].parent_fd, order, sizeof(*order), MSG_NOSIGNAL) < 0)
			return errno == EPIPE ? -ECHILD : -errno;
	return 0;
}

static int worker_wait(const struct bench_worker *w, struct bench_answer *ret_answer)
{
	struct pollfd p = { .fd = w->parent_fd, .events = POLLIN };
	uint64_t deadline = bench_now_ns() + UINT64_C(1000000) * ANSWER_TIMEOUT_MS;
	int n;

	do {
		n = poll(&p, 1, 100);
		if (n <= 0 && bench_now_ns() > deadline)
			return -ETIMEDOUT;
	} while (n <= 0);
	if (bench_receive(w->parent_fd, ret_answer, sizeof(*ret_answer)) != sizeof(*ret_answer))
		return -ECHILD;
	if (ret_answer->err)
		bench_library_note(ret_answer->detail);
	return ret_answer->err;
}

int bench_crew_wait(struct bench_crew *crew, struct bench_answer ret_answers[])
{
	struct bench_answer one;
	int err, first = 0;

	for (unsigned int i = 0; i < crew->size; i++) {
		err = worker_wait(&crew->worker[i], &one);
		if (err && !first)
			first = err;
		if (!err && ret_answers)
			ret_answers[i] = one;
	}
	return first;
}

int bench_crew_do(struct bench_crew *crew, const struct bench_order *order,
		  struct bench_answer ret_answers[])
{
	int err = bench_crew_order(crew, order);

	return err ? err : bench_crew_wait(crew, ret_answers);
}

static void worker_stop(struct bench_worker *w)
{
	struct pollfd p = { .fd = w->parent_fd, .events = POLLIN };
	struct bench_order stop = { .op = BENCH_STOP };

	if (!w->running)
		return;
	send(w->parent_fd, &stop, sizeof(stop), MSG_NOSIGNAL | MSG_DONTWAIT);
	if (w->contender->processes) {
		/* The end of its socket is the end of the worker; one that hangs is ended. */
		while (poll(&p, 1, 10000) > 0) {
			char rest[sizeof(struct bench_answer)];

			if (bench_receive(w->parent_fd, rest, sizeof(rest)) <= 0)
				break;
		}
		kill(w->pid, SIGKILL);
		waitpid(w->pid, NULL, 0);
	} else {
		pthread_join(w->thread, NULL);
		close(w->worker_fd);
	}
	close(w->parent_fd);
	w->running = false;
}

void bench_crew_stop(struct bench_crew *crew)
{
	for (unsigned int i = 0; i < crew->size; i++)
		worker_stop(&crew->worker[i]);
	crew->size = 0;
}
