// SPDX-License-Identifier: MIT
/* Workers of the benchmark: see bench_crew.h. */
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
#define VERIFY_SAMPLE 16384
#define SPIN_CHUNK 1024

/* What a worker knows while it works. */
struct post {
	const struct bench_worker *worker;
	void *self;
	size_t at[BENCH_DISTS];	 /* where to go on in each sequence */
	struct bench_order last; /* the last order that wrote, */
	size_t last_at;		 /* and where it began */
};

static uint64_t expected_sum(const struct bench_work *work)
{
	uint64_t sum = 0;

	for (size_t i = 0; i < work->count; i++)
		if (work->coins[i] >= work->write_percent)
			sum += bench_check_word(&work->keys[i]);
	return sum;
}

static const struct bench_sequence *sequence_of(const struct post *p, enum bench_dist dist)
{
	return &p->worker->data->seq[dist][p->worker->number];
}

/* The stretch that begins at @at and ends with the sequence or the order. */
static struct bench_work stretch(const struct post *p, const struct bench_order *o, size_t at,
				 uint64_t left)
{
	const struct bench_sequence *seq = sequence_of(p, o->dist);
	size_t rest = seq->length - at;

	return (struct bench_work){
		.keys = seq->keys + at,
		.coins = seq->coins + at,
		.count = left < rest ? (size_t)left : rest,
		.write_percent = o->write_percent,
		.generation = o->generation,
	};
}

static int run(struct post *p, const struct bench_order *o, struct bench_answer *answer)
{
	const struct bench_contender *c = p->worker->contender;
	size_t begin = p->at[o->dist], at = begin, length = sequence_of(p, o->dist)->length;
	uint64_t sum = 0, part = 0, expected = 0;
	int err = 0;

	answer->start_ns = bench_now_ns();
	for (uint64_t left = o->count; left > 0 && !err;) {
		struct bench_work work = stretch(p, o, at, left);

		err = c->run(p->self, &work, &part);
		sum += part;
		left -= work.count;
		at = (at + work.count) % length;
	}
	answer->end_ns = bench_now_ns();
	if (c->settle && o->write_percent > 0)
		c->settle(p->self);
	if (err)
		return err;
	for (uint64_t left = o->count, pos = begin; left > 0;) {
		struct bench_work work = stretch(p, o, pos, left);

		expected += expected_sum(&work);
		left -= work.count;
		pos = (pos + work.count) % length;
	}
	if (o->write_percent > 0) {
		p->last = *o;
		p->last_at = begin;
	}
	p->at[o->dist] = at;
	return sum == expected ? 0 : -EBADMSG;
}

static int verify_key(const struct post *p, const struct bench_key *key, uint64_t least,
		      uint64_t most)
{
	struct bench_value found, wanted;
	int err = p->worker->contender->lookup(p->self, key, &found);

	if (err)
		return err;
	if (found.w[0] < least || found.w[0] > most)
		return -EBADMSG;
	bench_value_of(key, found.w[0], &wanted);
	return memcmp(&found, &wanted, sizeof(found)) == 0 ? 0 : -EBADMSG;
}

/*
 * Any entry holds a value that some run wrote, or the first one; what the last run wrote is still there,
 * for both workers of a crew write the same generation.
 */
static int verify(const struct post *p, uint64_t generation)
{
	uint64_t entries = p->worker->data->entries;
	uint64_t step = entries / VERIFY_SAMPLE + 1;
	const struct bench_sequence *seq = sequence_of(p, p->last.dist);
	int err = 0;

	for (uint64_t i = generation % step; i < entries && !err; i += step) {
		struct bench_key key = bench_key_of(i);

		err = verify_key(p, &key, 0, generation);
	}
	step = p->last.count / VERIFY_SAMPLE + 1;
	for (uint64_t i = 0; i < p->last.count && !err; i += step) {
		size_t at = (p->last_at + i) % seq->length;

		if (seq->coins[at] < p->last.write_percent)
			err = verify_key(p, &seq->keys[at], p->last.generation, generation);
	}
	return err;
}

/* A busy reader; looks for the next order every few dozen microseconds. */
static int spin(struct post *p, const struct bench_order *o)
{
	struct bench_order next;
	int err = 0;

	bench_pin(1); /* the main thread, which waits for grace periods, is on the other one */
	while (!err && recv(p->worker->worker_fd, &next, sizeof(next), MSG_PEEK | MSG_DONTWAIT) < 0) {
		struct bench_work work = stretch(p, o, p->at[o->dist], SPIN_CHUNK);
		uint64_t sum;

		if (errno != EAGAIN && errno != EINTR)
			break;
		err = p->worker->contender->run(p->self, &work, &sum);
		p->at[o->dist] = (p->at[o->dist] + work.count) % sequence_of(p, o->dist)->length;
	}
	bench_unpin();
	return err;
}

static int obey(struct post *p, const struct bench_order *o, struct bench_answer *answer)
{
	int err;

	switch (o->op) {
	case BENCH_RUN:
		return run(p, o, answer);
	case BENCH_VERIFY:
		return verify(p, o->generation);
	case BENCH_SECTIONS:
		answer->start_ns = bench_now_ns();
		err = p->worker->contender->sections(p->self, o->count);
		answer->end_ns = bench_now_ns();
		return err;
	default:
		return -EINVAL;
	}
}

static void explain(struct bench_answer *answer)
{
	if (answer->err)
		snprintf(answer->detail, sizeof(answer->detail), "%s", bench_library_detail());
}

static ssize_t receive(int fd, void *buf, size_t bytes)
{
	ssize_t n;

	do
		n = recv(fd, buf, bytes, 0);
	while (n < 0 && errno == EINTR);
	return n;
}

static void worker_main(const struct bench_worker *w)
{
	struct post p = { .worker = w };
	struct bench_order order;
	struct bench_answer answer = { .err = w->contender->join(w->table, &p.self) };
	bool joined = answer.err == 0;
	int spun = 0;

	explain(&answer);
	if (!w->alone)
		bench_pin(w->number);
	while (send(w->worker_fd, &answer, sizeof(answer), MSG_NOSIGNAL) == sizeof(answer) && joined) {
		do {
			if (receive(w->worker_fd, &order, sizeof(order)) != sizeof(order))
				order.op = BENCH_STOP;
			if (order.op == BENCH_SPIN)
				spun = spin(&p, &order);
		} while (order.op == BENCH_SPIN);
		if (order.op == BENCH_STOP)
			break;
		memset(&answer, 0, sizeof(answer));
		answer.err = spun ? spun : obey(&p, &order, &answer);
		explain(&answer);
	}
	if (joined)
		w->contender->leave(p.self);
}

static void *thread_main(void *arg)
{
	worker_main(arg);
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
	worker_main(w);
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
	struct bench_answer answer;
	int err = 0;

	memset(crew, 0, sizeof(*crew));
	for (unsigned int i = 0; i < workers && !err; i++) {
		crew->worker[i] = (struct bench_worker){
			.contender = contender, .table = table, .data = data, .number = i,
			.alone = workers == 1,
		};
		err = worker_start(&crew->worker[i]);
		if (!err)
			crew->size++;
	}
	if (!err)
		err = bench_crew_wait(crew, &answer);
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
	if (receive(w->parent_fd, ret_answer, sizeof(*ret_answer)) != sizeof(*ret_answer))
		return -ECHILD;
	if (ret_answer->err)
		bench_library_note(ret_answer->detail);
	return ret_answer->err;
}

int bench_crew_wait(struct bench_crew *crew, struct bench_answer *ret_answer)
{
	struct bench_answer one, all = { .start_ns = UINT64_MAX };

	for (unsigned int i = 0; i < crew->size; i++) {
		int err = worker_wait(&crew->worker[i], &one);

		if (err) {
			if (all.err == 0)
				all.err = err;
			continue;
		}
		if (one.start_ns < all.start_ns)
			all.start_ns = one.start_ns;
		if (one.end_ns > all.end_ns)
			all.end_ns = one.end_ns;
	}
	*ret_answer = all;
	return all.err;
}

int bench_crew_do(struct bench_crew *crew, const struct bench_order *order,
		  struct bench_answer *ret_answer)
{
	int err = bench_crew_order(crew, order);

	return err ? err : bench_crew_wait(crew, ret_answer);
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

			if (receive(w->parent_fd, rest, sizeof(rest)) <= 0)
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
