/* SPDX-License-Identifier: MIT */
/*
 * A worker: takes a request from the socket that all workers read, packs what it asks for, answers.
 *
 * What it is doing it says in scopes. They reach every log line and every failure made inside, and, while the
 * flag shared_error_context is on, they can be read from outside, also after the worker was killed.
 */
#include "orders.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

struct request {
	char id[ID_MAX + 1], item[ID_MAX + 1], traceparent[FND_TRACEPARENT_MAX + 1];
	unsigned int pieces;
};

/* Which worker keeps the shelf an item is on: worker-1, worker-2 … in turn. */
static const char *const items[] = { "anvil", "chair", "lamp", "table" };

static struct fnd_log *log_of_this_process;

static void on_hangup(int sig)
{
	(void)sig;
	fnd_log_reopen(log_of_this_process); /* allowed in a handler: logrotate has moved the file */
}

static int find_shelf(const char *item)
{
	for (unsigned int i = 0; i < sizeof(items) / sizeof(items[0]); i++)
		if (strcmp(items[i], item) == 0)
			return (int)i;
	return -ENOENT;
}

/* Who keeps the shelf: a text. A worker that is asked about another one's name knows it or not, by the flags. */
static void look_up_keeper(struct desk *d, unsigned int shelf, char *buf, size_t size)
{
	char name[FND_AGENT_NAME_MAX + 1];
	enum fnd_backend backend;
	struct fnd_agent keeper;
	int err;

	snprintf(name, sizeof(name), "orders/worker-%u", shelf % d->settings->workers + 1);
	err = fnd_agent_lookup(d->runtime, name, &keeper, &backend);
	if (err)
		snprintf(buf, size, "%s, unknown here", name);
	else
		snprintf(buf, size, "%s, pid %u, found in the %s registry", name, keeper.owner.pid,
			 backend == FND_BACKEND_SHARED ? "shared" : "private");
	FND_LOG(d->log, FND_LOG_INFO, err ? "keeper unknown" : "keeper found", fnd_str("keeper", buf));
}

/* 10 ms a piece. */
static void pack(struct desk *d, const struct request *r)
{
	FND_CONTEXT_SCOPE(d->context, fnd_str("step", "pack"), fnd_uint("pieces", r->pieces));

	for (unsigned int i = 0; i < r->pieces && !desk_stop; i++) {
		char crumb[FND_CRUMB_TEXT_MAX + 1];

		snprintf(crumb, sizeof(crumb), "piece %u", i + 1);
		fnd_context_crumb(d->context, crumb);
		nanosleep(&(struct timespec){ .tv_nsec = 10000000 }, NULL);
	}
	FND_LOG(d->log, FND_LOG_INFO, "packed");
}

/* Serve one request. Returns 0, or -1 with the failure filled. */
static int serve(struct desk *d, const struct request *r, char *keeper, size_t size, struct fnd_failure *failure)
{
	int shelf;

	FND_CONTEXT_SCOPE(d->context, fnd_str("request_id", r->id), fnd_str("operation", "order"));
	if (r->traceparent[0] && fnd_context_trace_set(d->context, r->traceparent, NULL))
		FND_LOG(d->log, FND_LOG_WARNING, "no such traceparent", fnd_str("traceparent", r->traceparent));
	{
		FND_CONTEXT_SCOPE(d->context, fnd_str("item", r->item), fnd_str("step", "shelf"));
		shelf = find_shelf(r->item);
		if (shelf < 0) {
			fnd_failure_make(failure, d->context, "orders.unknown_item", FND_CATEGORY_VALIDATION,
					 "no shelf has a \"%s\"", r->item);
			fnd_failure_enrich(failure, d->context); /* all scopes around, into the failure */
			FND_LOG(d->log, FND_LOG_ERROR, failure->message, fnd_str("code", failure->code));
			return -1; /* both scopes end here */
		}
		look_up_keeper(d, (unsigned int)shelf, keeper, size);
		pack(d, r);
	}
	FND_LOG(d->log, FND_LOG_INFO, "done");
	return 0;
}

/* "ID ITEM PIECES TRACEPARENT", the last may be "-". */
static int read_request(const char *text, struct request *ret_request)
{
	struct request r;

	if (sscanf(text, "%63s %63s %u %55s", r.id, r.item, &r.pieces, r.traceparent) != 4)
		return -EINVAL;
	if (strcmp(r.traceparent, "-") == 0)
		r.traceparent[0] = 0;
	*ret_request = r;
	return 0;
}

static void answer(struct desk *d)
{
	char keeper[FND_AGENT_NAME_MAX + 64] = "", buf[ANSWER_MAX];
	struct fnd_failure failure;
	struct sockaddr_un from;
	socklen_t from_bytes = sizeof(from);
	char request[REQUEST_MAX + 1];
	struct request r;
	ssize_t n;
	int len;

	n = recvfrom(d->socket, request, REQUEST_MAX, MSG_DONTWAIT, (struct sockaddr *)&from, &from_bytes);
	if (n < 0) /* another worker was quicker */
		return;
	request[n] = 0;
	if (read_request(request, &r)) {
		FND_LOG(d->log, FND_LOG_WARNING, "not a request", fnd_str("request", request));
		return;
	}
	buf[0] = ANSWER_DONE;
	if (serve(d, &r, keeper, sizeof(keeper), &failure) == 0) {
		len = snprintf(buf + 1, sizeof(buf) - 1, "%s: %u x %s by %s, pid %d; shelf of %s", r.id, r.pieces,
			       r.item, d->name, (int)getpid(), keeper);
	} else {
		buf[0] = ANSWER_FAILED;
		len = fnd_failure_encode(&failure, buf + 1, sizeof(buf) - 1);
	}
	if (len >= 0 && from_bytes > sizeof(sa_family_t)) /* who does not wait has no address, or is gone */
		sendto(d->socket, buf, (size_t)len + 1, MSG_DONTWAIT, (struct sockaddr *)&from, from_bytes);
}

void worker_run(struct desk *d, unsigned int index, const sigset_t *unblocked)
{
	struct pollfd requests = { .fd = d->socket, .events = POLLIN };
	const struct settings *s = d->settings;
	char name[FND_AGENT_NAME_MAX + 1];
	int err;

	/* A handle does not survive fork(): the parent's are freed here, and the segment attached anew. */
	desk_close(d);
	snprintf(name, sizeof(name), "orders/worker-%u", index);
	err = desk_open(d, s, name);
	if (err) {
		desk_complain(name, err);
		desk_close(d);
		_exit(EXIT_ATTACH);
	}
	log_of_this_process = d->log;
	signal(SIGHUP, on_hangup);
	sigprocmask(SIG_SETMASK, unblocked, NULL); /* not before there is a handler */
	FND_LOG(d->log, FND_LOG_NOTICE, "worker started");
	while (!desk_stop) {
		if (poll(&requests, 1, TICK_MS) > 0)
			answer(d);
		desk_tick(d);
	}
	FND_LOG(d->log, FND_LOG_NOTICE, "worker ends");
	fnd_agent_unregister(d->runtime, d->name, 0);
	desk_close(d);
	_exit(EXIT_FINE);
}
