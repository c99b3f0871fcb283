// SPDX-License-Identifier: MIT
/*
 * A bounded queue of lines and the thread that writes them, for sinks that may block.
 *
 * It lives in memory that fork() zeroes: in a child it is an empty queue whose mutex nobody holds, and its
 * first line starts a thread there. The thread belongs to the library: all signals are blocked in it.
 */
#include "log_internal.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#include <foundation/atomic.h>

#define CLOSE_SECONDS 1
#define STACK_BYTES (256u << 10)

struct record {
	uint32_t bytes, pad;
	uint64_t announced; /* lost lines that this one speaks of */
};

/* Bytes at @at of the ring, which may go round its end. */
static void ring_copy(struct fnd_log_sink *s, uint64_t at, void *mine, size_t n, bool in)
{
	size_t from = at & (s->state->queue.size - 1), first = s->state->queue.size - from;
	unsigned char *bytes = mine;

	if (first > n)
		first = n;
	memcpy(in ? s->ring + from : bytes, in ? bytes : s->ring + from, first);
	memcpy(in ? s->ring : bytes + first, in ? bytes + first : s->ring, n - first);
}

static void free_memory(struct fnd_log_sink *s)
{
	struct fnd_log_sink copy = *s;

	munmap(copy.state, copy.mapping_bytes);
}

/* The thread has its own copy of the sink: the handle may be gone before it is. */
struct writer {
	struct fnd_log_sink sink;
	unsigned char line[FND_LOG_LINE_MAX];
};

/* Waits for a line and takes it. False: there will be none. */
static bool take(struct writer *w, struct record *ret)
{
	struct fnd_log_queue *q = &w->sink.state->queue;

	while (q->head == q->tail && !q->closing)
		pthread_cond_wait(&q->more, &q->mutex);
	if (q->head == q->tail || q->orphaned)
		return false;
	ring_copy(&w->sink, q->tail, ret, sizeof(*ret), false);
	ring_copy(&w->sink, q->tail + sizeof(*ret), w->line, ret->bytes, false);
	q->tail += sizeof(*ret) + ret->bytes;
	return true;
}

static void *run(void *arg)
{
	struct writer w;
	struct fnd_log_queue *q;
	struct record r;
	bool mine;

	w.sink = *(struct fnd_log_sink *)arg;
	q = &w.sink.state->queue;
	pthread_mutex_lock(&q->mutex);
	q->running = 2; /* the copy is made */
	pthread_cond_broadcast(&q->gone);
	while (take(&w, &r)) {
		int err;

		pthread_mutex_unlock(&q->mutex);
		err = fnd_log_deliver_waiting(&w.sink, w.line, r.bytes);
		if (err)
			fnd_log_lost(&w.sink, err, r.announced);
		else
			fnd_fetch_add(&w.sink.state->written, 1); /* a sum: nothing is reached through it */
		fnd_fetch_add(&w.sink.state->waiting, UINT64_MAX); /* a sum */
		pthread_mutex_lock(&q->mutex);
	}
	mine = q->orphaned;
	q->running = 0;
	pthread_cond_broadcast(&q->gone);
	pthread_mutex_unlock(&q->mutex);
	if (mine) { /* nobody else knows of it any more */
		fnd_log_sink_close(&w.sink);
		free_memory(&w.sink);
	}
	return NULL;
}

/* Starts the thread and waits until it has looked at the sink. Under the mutex. */
static int start(struct fnd_log_sink *s)
{
	struct fnd_log_queue *q = &s->state->queue;
	pthread_attr_t attr;
	sigset_t all, before;
	pthread_t thread;
	int err;

	if (pthread_attr_init(&attr) != 0)
		return -ENOMEM;
	pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
	pthread_attr_setstacksize(&attr, STACK_BYTES);
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	q->running = 1;
	err = pthread_create(&thread, &attr, run, s);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	pthread_attr_destroy(&attr);
	if (err)
		q->running = 0;
	while (q->running == 1)
		pthread_cond_wait(&q->gone, &q->mutex);
	return -err;
}

int fnd_log_queue_put(struct fnd_log_sink *s, const void *bytes, size_t n, uint64_t announced)
{
	struct fnd_log_queue *q = &s->state->queue;
	struct record r = { (uint32_t)n, 0, announced };
	int err = 0;

	pthread_mutex_lock(&q->mutex);
	q->size = s->queue_bytes;
	if (!q->running)
		err = start(s);
	if (!err && q->size - (q->head - q->tail) < sizeof(r) + n)
		err = -EAGAIN;
	if (!err) {
		ring_copy(s, q->head, &r, sizeof(r), true);
		ring_copy(s, q->head + sizeof(r), (void *)(uintptr_t)bytes, n, true);
		q->head += sizeof(r) + n;
		fnd_fetch_add(&s->state->waiting, 1); /* a sum */
		pthread_cond_signal(&q->more);
	}
	pthread_mutex_unlock(&q->mutex);
	return err;
}

bool fnd_log_queue_close(struct fnd_log_sink *s)
{
	struct fnd_log_queue *q = &s->state->queue;
	struct timespec until;
	bool orphaned;

	clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_sec += CLOSE_SECONDS;
	pthread_mutex_lock(&q->mutex);
	q->closing = 1;
	pthread_cond_broadcast(&q->more);
	while (q->running && pthread_cond_clockwait(&q->gone, &q->mutex, CLOCK_MONOTONIC, &until) == 0)
		;
	orphaned = q->running != 0;
	q->orphaned = orphaned;
	pthread_mutex_unlock(&q->mutex);
	return orphaned;
}
