/* SPDX-License-Identifier: MIT */
/* orders: a service of several workers that pack what is ordered. README.md says what to read, and in which order. */
#ifndef ORDERS_H
#define ORDERS_H

#include <signal.h>
#include <stdbool.h>
#include <sys/types.h>

#include <foundation/context.h>
#include <foundation/failure.h>
#include <foundation/log.h>
#include <foundation/runtime.h>

#define WORKERS_MAX 64
#define ID_MAX 63
#define REQUEST_MAX 256 /* bytes of a request: ID, item, pieces, traceparent */
#define ANSWER_MAX 4096
#define TICK_MS 100 /* how long anybody does nothing at all */
#define TIMED_EVERY 4 /* one lookup in so many is timed; in a busy service one in 64 is enough */

/* The first byte of an answer: then text, or a failure as fnd_failure_encode() makes it. */
#define ANSWER_DONE 'D'
#define ANSWER_FAILED 'F'

enum { EXIT_FINE = 0, EXIT_FOUND = 1, EXIT_USAGE = 2, EXIT_ATTACH = 3, EXIT_TIMEOUT = 5 };

struct settings {
	const char *segment, *socket_path, *log_path;
	unsigned int workers;
	enum fnd_log_form form;
	bool no_wait;
	unsigned int timeout_ms;
	const char *traceparent;
};

/* What a process of the service holds. A worker has its own: none of it survives fork() for use. */
struct desk {
	const struct settings *settings;
	char name[FND_AGENT_NAME_MAX + 1]; /* orders/service, orders/worker-1 … */
	int socket;			   /* requests, shared by all workers */
	uint64_t generation;		   /* of the flags that were logged last */
	struct fnd_segment *segment;
	struct fnd_runtime *runtime;
	struct fnd_context *context;
	struct fnd_log *log;
};

extern volatile sig_atomic_t desk_stop; /* SIGTERM or SIGINT has come */

/* desk.c */
int desk_open(struct desk *d, const struct settings *s, const char *name);
void desk_close(struct desk *d);
void desk_tick(struct desk *d);
int desk_complain(const char *what, int err);

/* service.c */
int service_run(const struct settings *s);

/* worker.c */
void worker_run(struct desk *d, unsigned int index, const sigset_t *unblocked) __attribute__((noreturn));

/* send.c */
int send_order(const struct settings *s, const char *id, const char *item, const char *pieces);

#endif
