// SPDX-License-Identifier: MIT
/*
 * Where lines go. A sink's descriptor keeps its number for its whole life: reopening and reconnecting put
 * another file under the number with dup3(), so writers need no lock beside it.
 */
#include "log_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <syslog.h>
#include <time.h>
#include <unistd.h>

#include <foundation/atomic.h>

#define OPEN_FLAGS (O_WRONLY | O_APPEND | O_NONBLOCK | O_CLOEXEC | O_NOCTTY)
#define QUEUE_BYTES (256u << 10)
#define QUEUE_MIN (16u << 10)
#define QUEUE_MAX (1u << 30)

/* --- making one ----------------------------------------------------------------------------------- */

int fnd_log_sink_new(struct fnd_log *log, const struct fnd_sink_options *options,
		     struct fnd_sink_options *ret_options, struct fnd_log_sink **ret_sink)
{
	struct fnd_sink_options o = FND_SINK_OPTIONS;

	if (!log)
		return fnd_error_set(EINVAL, "no log");
	if (options && options->size < sizeof(o))
		return fnd_error_set(EINVAL, "fnd_sink_options.size is %zu", options->size);
	if (options)
		o = *options;
	if (o.form > FND_LOG_JSON || o.level > FND_LOG_DEBUG || o.flags & ~FND_SINK_QUEUED ||
	    o.queue_bytes > QUEUE_MAX || o.facility & ~(uint32_t)LOG_FACMASK)
		return fnd_error_set(EINVAL, "a member of fnd_sink_options is out of its range");
	if (log->sinks == FND_LOG_SINKS)
		return fnd_error_set(ENOSPC, "a log has at most %u sinks", FND_LOG_SINKS);
	*ret_sink = &log->sink[log->sinks];
	**ret_sink = (struct fnd_log_sink){ .form = o.form, .level = o.level, .facility = o.facility,
					    .mode = o.mode ? o.mode : 0640, .line_max = FND_LOG_LINE_MAX, .fd = -1 };
	memcpy((*ret_sink)->ident, log->ident, sizeof(log->ident));
	*ret_options = o;
	return 0;
}

uint32_t fnd_log_queue_size(uint32_t wanted)
{
	uint32_t size = QUEUE_MIN;

	while (size < (wanted ? wanted : QUEUE_BYTES))
		size *= 2;
	return size;
}

int fnd_log_sink_ready(struct fnd_log *log, struct fnd_log_sink *s, unsigned int *ret_sink)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE);
	void *p;

	s->mapping_bytes = page + (s->queue_bytes + page - 1) / page * page;
	p = mmap(NULL, s->mapping_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (p == MAP_FAILED || madvise(p, s->mapping_bytes, MADV_WIPEONFORK) != 0) {
		if (p != MAP_FAILED)
			munmap(p, s->mapping_bytes);
		fnd_log_sink_close(s);
		free(s->path);
		return fnd_error_set(ENOMEM, "no memory of %zu bytes that a child finds empty", s->mapping_bytes);
	}
	s->state = p;
	s->ring = (unsigned char *)p + page;
	if (ret_sink)
		*ret_sink = log->sinks;
	log->sinks++;
	return 0;
}

void fnd_log_sink_close(struct fnd_log_sink *s)
{
	if (s->fd >= 0)
		close(s->fd);
	s->fd = -1;
}

/* --- descriptors and files ------------------------------------------------------------------------ */

/* What lies under s->fd: 0, or why nobody can log to it. */
static int look(struct fnd_log_sink *s)
{
	struct rlimit limit = { RLIM_INFINITY, RLIM_INFINITY };
	struct stat st;

	if (fstat(s->fd, &st) != 0)
		return -errno;
	if (S_ISDIR(st.st_mode))
		return -EISDIR;
	getrlimit(RLIMIT_FSIZE, &limit);
	s->kind = S_ISREG(st.st_mode) ? FND_SINK_FILE : S_ISSOCK(st.st_mode) ? FND_SINK_SOCKET : FND_SINK_PIPE;
	s->by_send = s->kind == FND_SINK_SOCKET;
	s->guarded = s->kind == FND_SINK_FILE ? limit.rlim_cur != RLIM_INFINITY : S_ISFIFO(st.st_mode);
	if (s->kind == FND_SINK_PIPE)
		s->line_max = PIPE_BUF;
	return 0;
}

int fnd_log_add_fd(struct fnd_log *log, int fd, const struct fnd_sink_options *options, unsigned int *ret_sink)
{
	struct fnd_sink_options o;
	struct fnd_log_sink *s;
	char path[32];
	int err = fnd_log_sink_new(log, options, &o, &s), flags = fcntl(fd, F_GETFL);

	if (err)
		return err;
	if (flags < 0 || (flags & O_ACCMODE) == O_RDONLY || flags & O_PATH)
		return fnd_error_set(EBADF, "descriptor %d is not open for writing", fd);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	s->fd = open(path, OPEN_FLAGS); /* a socket cannot be opened, a pipe of another user may not be */
	if (s->fd < 0)
		s->fd = fcntl(fd, F_DUPFD_CLOEXEC, 3);
	else
		flags = O_NONBLOCK;
	err = s->fd < 0 ? -errno : look(s);
	if (err) {
		fnd_log_sink_close(s);
		return fnd_error_set(err, "descriptor %d", fd);
	}
	/* A second name of what the caller has open: to make it non-blocking would change his. */
	if (o.flags & FND_SINK_QUEUED || (s->kind == FND_SINK_PIPE && !(flags & O_NONBLOCK)))
		s->queue_bytes = fnd_log_queue_size(o.queue_bytes);
	return fnd_log_sink_ready(log, s, ret_sink);
}

int fnd_log_add_file(struct fnd_log *log, const char *path, const struct fnd_sink_options *options,
		     unsigned int *ret_sink)
{
	struct fnd_sink_options o;
	struct fnd_log_sink *s;
	int err = fnd_log_sink_new(log, options, &o, &s);

	if (err)
		return err;
	if (!path || !*path)
		return fnd_error_set(EINVAL, "no path");
	s->fd = open(path, OPEN_FLAGS | O_CREAT, (mode_t)s->mode);
	err = s->fd < 0 ? -errno : look(s);
	if (!err && !(s->path = realpath(path, NULL))) /* another working directory must not mislead reopening */
		err = -errno;
	if (err) {
		fnd_log_sink_close(s);
		return fnd_error_set(err, "%s", path);
	}
	if (o.flags & FND_SINK_QUEUED)
		s->queue_bytes = fnd_log_queue_size(o.queue_bytes);
	return fnd_log_sink_ready(log, s, ret_sink);
}

/* May run in a signal handler: system calls alone. */
int fnd_log_sink_reopen(struct fnd_log_sink *s)
{
	int fd, err = 0;

	if (!s->path)
		return 0;
	fd = open(s->path, OPEN_FLAGS | O_CREAT, (mode_t)s->mode);
	if (fd < 0)
		return -errno;
	if (dup3(fd, s->fd, O_CLOEXEC) < 0)
		err = -errno;
	close(fd);
	return err;
}

/* --- syslog --------------------------------------------------------------------------------------- */

static int syslog_connect(const char *path)
{
	struct sockaddr_un to = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0), err;

	if (fd < 0)
		return -errno;
	strncpy(to.sun_path, path, sizeof(to.sun_path) - 1);
	if (connect(fd, (struct sockaddr *)&to, sizeof(to)) == 0)
		return fd;
	err = -errno;
	close(fd);
	return err;
}

int fnd_log_add_syslog(struct fnd_log *log, const char *path, const struct fnd_sink_options *options,
		       unsigned int *ret_sink)
{
	struct fnd_sink_options o;
	struct fnd_log_sink *s;
	int err = fnd_log_sink_new(log, options, &o, &s);

	if (err)
		return err;
	path = path ? path : "/dev/log";
	if (strlen(path) >= sizeof(((struct sockaddr_un *)0)->sun_path))
		return fnd_error_set(ENAMETOOLONG, "%s", path);
	s->kind = FND_SINK_SYSLOG;
	s->form = FND_LOG_LOGFMT;
	s->by_send = true;
	s->facility = s->facility ? s->facility : LOG_USER;
	err = syslog_connect(path);
	if (err < 0)
		return fnd_error_set(err, "%s", path);
	s->fd = err;
	s->path = strdup(path);
	if (!s->path) {
		fnd_log_sink_close(s);
		return fnd_error_set(ENOMEM, "no memory");
	}
	return fnd_log_sink_ready(log, s, ret_sink);
}

/*
 * "<14>Nov 23 10:39:01 ident[pid]: ", in local time as syslog(3) has it. localtime_r() takes a lock that a fork
 * may have left taken: a child goes on with the offset that its parent saw last.
 */
static size_t syslog_head(struct fnd_log *log, const struct fnd_log_sink *s, const struct fnd_log_line *line,
			  char *buf, size_t size)
{
	time_t t = (time_t)(line->time_ns / 1000000000u);
	char iso[40];
	struct fnd_log_out o = { iso, sizeof(iso), 0, 0 };
	static const char months[] = "JanFebMarAprMayJunJulAugSepOctNovDec";
	struct tm tm;
	int n;

	if (log->opener == (pid_t)line->pid && localtime_r(&t, &tm))
		fnd_store_relaxed(&log->utc_offset, (int32_t)tm.tm_gmtoff); /* each finds the same */
	/* relaxed: a header that is late by a change of the clock */
	fnd_log_put_time(&o, line->time_ns + (uint64_t)((int64_t)fnd_load_relaxed(&log->utc_offset) * 1000000000));
	n = snprintf(buf, size, "<%u>%.3s %c%c %.8s %s[%u]: ", s->facility | line->level,
		     &months[3 * ((iso[5] - '0') * 10 + iso[6] - '1')],
		     iso[8] == '0' ? ' ' : iso[8], iso[9], iso + 11, s->ident, line->pid);
	return (size_t)n;
}

/* --- writing -------------------------------------------------------------------------------------- */

/*
 * A write that may raise SIGPIPE or SIGXFSZ, without the signal: blocked, and taken back if it is ours.
 * One that was pending before stays.
 */
static ssize_t write_guarded(int fd, const void *bytes, size_t n)
{
	const struct timespec at_once = { 0, 0 };
	sigset_t ours, before, pending, taken;
	ssize_t done;
	int err;

	sigemptyset(&ours);
	sigaddset(&ours, SIGPIPE);
	sigaddset(&ours, SIGXFSZ);
	sigpending(&pending);
	pthread_sigmask(SIG_BLOCK, &ours, &before);
	done = write(fd, bytes, n);
	err = errno;
	if (done < 0 && (err == EPIPE || err == EFBIG)) {
		sigemptyset(&taken);
		sigaddset(&taken, err == EPIPE ? SIGPIPE : SIGXFSZ);
		if (!sigismember(&pending, err == EPIPE ? SIGPIPE : SIGXFSZ))
			while (sigtimedwait(&taken, NULL, &at_once) < 0 && errno == EINTR)
				;
	}
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	errno = err;
	return done;
}

static ssize_t write_once(struct fnd_log_sink *s, const void *bytes, size_t n)
{
	ssize_t done;

	do {
		if (s->by_send)
			done = send(s->fd, bytes, n, MSG_DONTWAIT | MSG_NOSIGNAL);
		else
			done = s->guarded ? write_guarded(s->fd, bytes, n) : write(s->fd, bytes, n);
	} while (done < 0 && errno == EINTR);
	return done < 0 ? -errno : done;
}

static bool is_gone(ssize_t err)
{
	return err == -ECONNREFUSED || err == -ENOTCONN || err == -ECONNRESET || err == -EPIPE;
}

/*
 * One line, at once. @bytes has a free byte before it: after a line that was cut short, or may have been by
 * another process on a full disk, a newline goes ahead.
 */
static int deliver(struct fnd_log_sink *s, char *bytes, size_t n)
{
	uint32_t torn = s->kind == FND_SINK_SYSLOG ? 0 : fnd_load_relaxed(&s->state->torn); /* advice */
	ssize_t done;

	if (torn) {
		*--bytes = '\n';
		n++;
	}
	done = write_once(s, bytes, n);
	if (s->kind == FND_SINK_SYSLOG && is_gone(done)) { /* the daemon was started again */
		int fd = syslog_connect(s->path);

		if (fd >= 0) {
			dup3(fd, s->fd, O_CLOEXEC);
			close(fd);
			done = write_once(s, bytes, n);
		}
	}
	if (done == (ssize_t)n) {
		if (torn)
			fnd_store_relaxed(&s->state->torn, 0);
		return 0;
	}
	if (done > (ssize_t)torn || done == -ENOSPC || done == -EDQUOT || done == -EFBIG)
		fnd_store_relaxed(&s->state->torn, 1);
	return done < 0 ? (int)done : s->kind == FND_SINK_FILE ? -ENOSPC : -EAGAIN;
}

/* In the queue's thread: all of it, waiting for a reader until the log is closed and given up. */
int fnd_log_deliver_waiting(struct fnd_log_sink *s, unsigned char *bytes, size_t n)
{
	size_t at = 0;

	if (s->kind == FND_SINK_JOURNALD)
		return fnd_log_journald_send(bytes, n);
	while (at < n) {
		ssize_t done = write_once(s, bytes + at, n - at);
		struct pollfd ready = { s->fd, POLLOUT, 0 };

		if (done >= 0)
			at += (size_t)done;
		else if (done != -EAGAIN)
			return (int)done;
		else if (fnd_load_relaxed(&s->state->queue.orphaned)) /* looked at again soon */
			return -EAGAIN;
		else
			poll(&ready, 1, 100);
	}
	return 0;
}

void fnd_log_lost(struct fnd_log_sink *s, int err, uint64_t announced)
{
	/* sums, all: nothing is reached through them */
	fnd_fetch_add(&s->state->dropped, 1);
	fnd_fetch_add(&s->state->unannounced, announced + 1);
	fnd_store_relaxed(&s->state->last_error, err); /* any of the last ones */
}

/* The line as bytes. Its first byte is buf[1]: deliver() may want one before it. */
static size_t encode(struct fnd_log *log, struct fnd_log_sink *s, const struct fnd_log_line *line,
		     char buf[FND_LOG_LINE_MAX + 1], unsigned int *ret_cut)
{
	char head[128];
	size_t n;

	if (s->kind == FND_SINK_JOURNALD)
		return fnd_log_journald_encode(s, line, buf + 1, s->line_max, ret_cut);
	if (s->kind != FND_SINK_SYSLOG)
		return fnd_log_format_line(line, s->form, buf + 1, s->line_max - 1, ret_cut);
	n = syslog_head(log, s, line, head, sizeof(head));
	memcpy(buf + 1, head, n);
	return n + fnd_log_format_line(line, s->form, buf + 1 + n, s->line_max - n, ret_cut) - 1; /* no newline */
}

int fnd_log_emit(struct fnd_log *log, struct fnd_log_sink *s, struct fnd_log_line *line)
{
	char buf[FND_LOG_LINE_MAX + 1];
	unsigned int cut = 0;
	int err;

	/* relaxed: who misses a loss leaves it to the next line */
	line->dropped = 0;
	if (fnd_load_relaxed(&s->state->unannounced))
		line->dropped = fnd_exchange(&s->state->unannounced, 0); /* a sum: one line takes it */
	if (s->kind == FND_SINK_CALLBACK) {
		err = s->fn(s->arg, line) ? -ECANCELED : 0;
	} else {
		size_t n = encode(log, s, line, buf, &cut);

		err = s->queue_bytes ? fnd_log_queue_put(s, buf + 1, n, line->dropped) : deliver(s, buf + 1, n);
	}
	if (err)
		fnd_log_lost(s, err, line->dropped);
	else if (!s->queue_bytes)
		fnd_fetch_add(&s->state->written, 1); /* a sum */
	if (!err && cut)
		fnd_fetch_add(&s->state->cut, 1); /* a sum */
	return err;
}
