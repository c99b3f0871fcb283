/* SPDX-License-Identifier: MIT */
/*
 * The journald sink against a journal that this test plays: a socket where libsystemd looks for one, in a
 * mount namespace of its own.
 */
#include "multiproc.h"

#include <foundation/log.h>

#include <errno.h>
#include <sched.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define LINES 10000
#define GUARD_NS 20000000000u

/* The journal's socket, at a /run of this process's own: a descriptor, -1, or -2: not possible here. */
static int journal_socket(void)
{
	struct sockaddr_un at = { .sun_family = AF_UNIX, .sun_path = "/run/systemd/journal/socket" };
	int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	if (unshare(CLONE_NEWNS) != 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0 ||
	    mount("tmpfs", "/run", "tmpfs", 0, NULL) != 0)
		return -2;
	if (mkdir("/run/systemd", 0755) != 0 || mkdir("/run/systemd/journal", 0755) != 0)
		return -1;
	return bind(fd, (struct sockaddr *)&at, sizeof(at)) == 0 ? fd : -1;
}

/* Takes "NAME=value\n" and "NAME\n", 8 bytes of length, value, "\n" apart: the value of @name, or NULL. */
static const char *field(const char *datagram, size_t n, const char *name)
{
	static char value[4096];
	size_t at = 0, name_bytes = strlen(name);

	while (at < n) {
		const char *from = datagram + at, *end = memchr(from, '\n', n - at), *is = memchr(from, '=', n - at);
		uint64_t bytes;
		bool ours = n - at > name_bytes && memcmp(from, name, name_bytes) == 0;

		if (!end)
			return NULL;
		if (is && is < end) {
			bytes = (uint64_t)(end - is - 1);
			ours = ours && from + name_bytes == is;
			from = is + 1;
		} else {
			memcpy(&bytes, end + 1, sizeof(bytes));
			ours = ours && from + name_bytes == end;
			from = end + 1 + sizeof(bytes);
		}
		if (ours && bytes < sizeof(value)) {
			memcpy(value, from, bytes);
			value[bytes] = '\0';
			return value;
		}
		at = (size_t)(from - datagram) + bytes + 1;
	}
	return NULL;
}

static bool is(const char *datagram, ssize_t n, const char *name, const char *want)
{
	const char *got = field(datagram, (size_t)n, name);

	if (got && strcmp(got, want) == 0)
		return true;
	fprintf(stderr, "%s is '%s', expected '%s'\n", name, got ? got : "not there", want);
	return false;
}

static int journal_open(struct fnd_log **ret_log, int *ret_fd)
{
	struct fnd_log_options o = FND_LOG_OPTIONS;
	int err;

	*ret_fd = journal_socket();
	SKIP_UNLESS(*ret_fd != -2, "a journal of one's own takes a mount namespace (CAP_SYS_ADMIN)");
	NEED(*ret_fd >= 0);
	o.ident = "miller";
	NEED(fnd_log_open(&o, ret_log) == 0);
	err = fnd_log_add_journald(*ret_log, NULL, NULL);
	SKIP_UNLESS(err != -EOPNOTSUPP, "no libsystemd");
	NEED(err == 0);
	return 0;
}

static int journal_fields(void)
{
	const struct fnd_log_place place = { "mill.c", "grind", 42 };
	const struct fnd_field fields[] = {
		{ "errno", 0, { FND_VALUE_INT, 0, { .i = -5 } } },
		{ "table name", 0, { FND_VALUE_STR, 6, { .text = "agents" } } },
		{ "priority", 0, { FND_VALUE_STR, 1, { .text = "x" } } },
		{ "_pid", 0, { FND_VALUE_STR, 1, { .text = "1" } } },
		{ "bin", 0, { FND_VALUE_BIN, 2, { .text = "\xde\xad" } } },
	};
	struct fnd_log *log;
	char got[FND_LOG_LINE_MAX * 2], tid[16];
	ssize_t n;
	int fd;

	TRY(journal_open(&log, &fd));
	NEED(fnd_log_write(log, FND_LOG_WARNING, &place, "two\nlines\xff", fields, 5) == 0);
	NEED((n = recv(fd, got, sizeof(got), 0)) > 0);
	snprintf(tid, sizeof(tid), "%d", (int)getpid());
	NEED(is(got, n, "MESSAGE", "two\nlines\xef\xbf\xbd") && is(got, n, "PRIORITY", "4"));
	NEED(is(got, n, "SYSLOG_IDENTIFIER", "miller") && is(got, n, "TID", tid));
	NEED(is(got, n, "CODE_FILE", "mill.c") && is(got, n, "CODE_FUNC", "grind") && is(got, n, "CODE_LINE", "42"));
	NEED(is(got, n, "ERRNO", "-5") && is(got, n, "TABLE_NAME", "agents") && is(got, n, "BIN", "dead"));
	NEED(is(got, n, "FIELD_PRIORITY", "x") && is(got, n, "FIELD__PID", "1"));
	NEED(strlen(field(got, (size_t)n, "FOUNDATION_TIME")) == 30);
	fnd_log_close(log);
	close(fd);
	return 0;
}

/* A journal that has stopped reading: lines return, closing gives up, none is unaccounted for. */
static int journal_stopped(void)
{
	struct fnd_sink_stats s;
	struct fnd_log *log;
	uint64_t before = now_ns(), accepted = 0;
	int fd;

	TRY(journal_open(&log, &fd));
	for (unsigned int i = 0; i < LINES; i++)
		accepted += fnd_log_printf(log, FND_LOG_INFO, "line %u of a worker that shall not wait", i) == 0;
	NEED(fnd_log_stats(log, 0, &s) == 0);
	fprintf(stderr, "written %llu, waiting %llu, dropped %llu\n", (unsigned long long)s.written,
		(unsigned long long)s.waiting, (unsigned long long)s.dropped);
	NEED(s.dropped > 0 && s.waiting > 0 && s.dropped + accepted == LINES);
	fnd_log_close(log);
	NEED(now_ns() - before < GUARD_NS);
	close(fd); /* what is left of the sink wakes up, and goes */
	return 0;
}

static int journal_absent(void)
{
	struct fnd_log *log;
	int fd = journal_socket(), err;

	SKIP_UNLESS(fd != -2, "a journal of one's own takes a mount namespace (CAP_SYS_ADMIN)");
	NEED(unlink("/run/systemd/journal/socket") == 0 && fnd_log_open(NULL, &log) == 0);
	err = fnd_log_add_journald(log, NULL, NULL);
	NEED(err == -ENOENT || err == -EOPNOTSUPP);
	fnd_log_close(log);
	close(fd);
	return 0;
}

extern const struct test_case journal_cases[];
const struct test_case journal_cases[] = {
	{ "journal_fields", journal_fields },
	{ "journal_stopped", journal_stopped },
	{ "journal_absent", journal_absent },
	{ NULL, NULL },
};
