/* SPDX-License-Identifier: MIT */
/* A client: sends an order, prints the answer. A failure that comes back has all the fields it was given there. */
#include "orders.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

static int print_field(const struct fnd_field *f, void *arg)
{
	(void)arg;
	printf("  %.*s: ", (int)f->key_bytes, f->key);
	switch (f->value.type) {
	case FND_VALUE_STR:
		printf("%.*s\n", (int)f->value.bytes, f->value.v.text);
		break;
	case FND_VALUE_UINT:
		printf("%llu\n", (unsigned long long)f->value.v.u);
		break;
	default:
		printf("(type %u)\n", f->value.type);
	}
	return 0;
}

static int print_answer(const char *answer, size_t bytes)
{
	struct fnd_failure failure;

	if (bytes > 0 && answer[0] == ANSWER_DONE) {
		printf("%.*s\n", (int)(bytes - 1), answer + 1);
		return EXIT_FINE;
	}
	if (bytes == 0 || answer[0] != ANSWER_FAILED || fnd_failure_decode(answer + 1, bytes - 1, &failure)) {
		fprintf(stderr, "orders: not an answer\n");
		return EXIT_ATTACH;
	}
	printf("%s: %s (%s, retry %s; pid %u)\n", failure.code, failure.message, fnd_category_name(failure.category),
	       fnd_retry_name(failure.retry), failure.pid);
	fnd_failure_iterate(&failure, print_field, NULL);
	return EXIT_FOUND;
}

static int ask(int fd, const struct settings *s, const char *request)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	struct pollfd wait = { .fd = fd, .events = POLLIN };
	char answer[ANSWER_MAX];
	ssize_t n;

	snprintf(address.sun_path, sizeof(address.sun_path), "%s", s->socket_path);
	/* an address without a name: the kernel gives it one, to which the answer goes */
	if (!s->no_wait && bind(fd, (struct sockaddr *)&address, sizeof(sa_family_t)) != 0)
		return desk_complain("no address", -errno);
	if (sendto(fd, request, strlen(request), 0, (struct sockaddr *)&address, sizeof(address)) < 0)
		return desk_complain(s->socket_path, -errno);
	if (s->no_wait)
		return EXIT_FINE;
	if (poll(&wait, 1, (int)s->timeout_ms) <= 0) {
		fprintf(stderr, "orders: no answer within %u ms\n", s->timeout_ms);
		return EXIT_TIMEOUT;
	}
	n = recv(fd, answer, sizeof(answer), 0);
	return n < 0 ? desk_complain("no answer", -errno) : print_answer(answer, (size_t)n);
}

int send_order(const struct settings *s, const char *id, const char *item, const char *pieces)
{
	char request[REQUEST_MAX];
	int fd, status;

	if ((size_t)snprintf(request, sizeof(request), "%s %s %s %s", id, item, pieces,
			     s->traceparent ? s->traceparent : "-") >= sizeof(request)) {
		fprintf(stderr, "orders: that is too long for a request\n");
		return EXIT_USAGE;
	}
	fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return desk_complain("socket", -errno);
	status = ask(fd, s, request);
	close(fd);
	return status;
}
