// SPDX-License-Identifier: MIT
/*
 * Rows of the log: a line with three fields of error context, as logfmt into one sink, beside the same line
 * without context, and beside the same text by snprintf() and write(). The sink is a file, or /dev/null: what
 * is left of the cost when the kernel keeps nothing.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <foundation/context.h>
#include <foundation/log.h>

#include "bench_runtime.h"

#define KEEP_BYTES (INT64_C(16) << 20) /* of a file, then it begins anew */

struct sinks {
	struct fnd_context *ctx;
	struct fnd_log *with, *without;
	const struct fnd_flags *flags;
	int fd; /* of the sink all of them write to */
};

static struct sinks sinks;

/* A file that grows for minutes would measure the disk. */
static int shorten(struct runtime_side *side)
{
	uint64_t from = bench_now_ns();
	struct stat st;
	int err = fstat(sinks.fd, &st) != 0 ||
		  (S_ISREG(st.st_mode) && st.st_size > KEEP_BYTES && ftruncate(sinks.fd, 0) != 0) ? -errno : 0;

	side->untimed_ns += bench_now_ns() - from;
	return err;
}

static int lines(struct runtime_side *side, uint64_t count)
{
	struct fnd_log *log = *(struct fnd_log **)side->arg;
	int err = 0;

	for (uint64_t i = 0; i < count && !err; i++) {
		err = fnd_log_write(log, FND_LOG_INFO, NULL, "thumbnail written", NULL, 0);
		if (!err && i % 4096 == 0)
			err = shorten(side);
	}
	return err;
}

static int lines_snprintf(struct runtime_side *side, uint64_t count)
{
	int err = 0;

	for (uint64_t i = 0; i < count && !err; i++) {
		struct timespec t;
		char line[512];
		struct tm tm;
		int n;

		clock_gettime(CLOCK_REALTIME, &t);
		gmtime_r(&t.tv_sec, &tm);
		n = snprintf(line, sizeof(line),
			     "time=%04d-%02d-%02dT%02d:%02d:%02d.%09ldZ level=%s message=\"%s\" pid=%d tid=%d"
			     " generation=%" PRIu64 " error_context.request_id=%s error_context.user=%u"
			     " error_context.route=%s\n",
			     tm.tm_year + 1900, tm.tm_mon + 1, tm.tm_mday, tm.tm_hour, tm.tm_min, tm.tm_sec,
			     t.tv_nsec, "info", "thumbnail written", (int)getpid(), (int)gettid(),
			     fnd_flags_generation(sinks.flags), "7c9e6679-7425-40de", 4711u, "/images/thumbnail");
		err = write(sinks.fd, line, (size_t)n) == n ? 0 : -EIO;
		if (!err && i % 4096 == 0)
			err = shorten(side);
	}
	return err;
}

/* The two of them have to write the same, or they are not to be compared. */
static int compare_lines(const char *path)
{
	struct runtime_side side = { "compare", lines, &sinks.with, 0, 0 };
	off_t ours, theirs;
	int err = lines(&side, 16);

	ours = lseek(sinks.fd, 0, SEEK_END);
	if (!err)
		err = lines_snprintf(&side, 16);
	theirs = lseek(sinks.fd, 0, SEEK_END) - ours;
	if (!err && ours != theirs)
		err = -EBADMSG;
	return err ? runtime_complain(path, "the same line by snprintf()", err) : 0;
}

static int open_log(struct fnd_context *ctx, struct fnd_log **ret_log)
{
	struct fnd_log_options opt = FND_LOG_OPTIONS;
	int err;

	opt.context = ctx;
	opt.flags = sinks.flags;
	err = fnd_log_open(&opt, ret_log);
	return err ? err : fnd_log_add_fd(*ret_log, sinks.fd, NULL, NULL);
}

static int sink_row(const struct runtime_plan *plan, const char *dist, const char *path)
{
	struct runtime_side sides[] = {
		{ "ours", lines, &sinks.with, 0, 0 },
		{ "no-context", lines, &sinks.without, 0, 0 },
		{ "snprintf-write", lines_snprintf, NULL, 0, 0 },
	};
	struct bench_row row = { .bench = "log_line", .dist = dist };
	int err = 0;

	sinks.with = sinks.without = NULL;
	sinks.fd = open(path, O_CREAT | O_RDWR | O_APPEND | O_CLOEXEC, 0600);
	if (sinks.fd < 0)
		return runtime_complain(path, "open", -errno);
	err = open_log(sinks.ctx, &sinks.with);
	if (!err)
		err = open_log(NULL, &sinks.without);
	if (err)
		runtime_complain("log", "open", err);
	if (!err && strcmp(dist, "file") == 0)
		err = compare_lines(path);
	if (!err)
		err = runtime_row(plan, &row, sides, 3);
	fnd_log_close(sinks.with);
	fnd_log_close(sinks.without);
	close(sinks.fd);
	return err;
}

static int in_context(const struct runtime_plan *plan)
{
	char path[128];
	int err;

	FND_CONTEXT_SCOPE(sinks.ctx, fnd_str("request_id", "7c9e6679-7425-40de"), fnd_uint("user", 4711));
	FND_CONTEXT_SCOPE(sinks.ctx, fnd_str("route", "/images/thumbnail"));
	snprintf(path, sizeof(path), "%s/lines.log", runtime_directory());
	err = sink_row(plan, "file", path);
	return err ? err : sink_row(plan, "null", "/dev/null");
}

int runtime_log_rows(const struct runtime_plan *plan)
{
	static const struct fnd_flag_change on[] = { { FND_FLAG_SHARED_ERROR_CONTEXT, 100 } };
	struct runtime_world w;
	int err = runtime_world_make(&w, "log", on, 1, 0);

	if (err)
		return err;
	sinks.flags = w.flags;
	err = fnd_context_open(w.seg, w.flags, NULL, &sinks.ctx);
	if (err)
		runtime_complain("context", "open", err);
	else
		err = in_context(plan);
	fnd_context_close(sinks.ctx);
	runtime_world_end(&w);
	return err;
}
