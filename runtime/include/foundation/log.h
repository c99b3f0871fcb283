/* SPDX-License-Identifier: MIT */
/*
 * Structured log lines that never hold up the worker that writes them.
 *
 * A line has a time, a level, a message, the process and thread that say it, the generation of the feature
 * flags, the trace it belongs to, the thread's error context, and fields of its own. It goes to up to
 * FND_LOG_SINKS sinks. A sink that would block, or fails, loses the line: that is counted, and the first line
 * that gets through again says how many were lost (log_dropped).
 *
 * A line is one write, so lines of many processes in one file or pipe do not mix. What is too long is cut, and
 * marked: "…" ends a text that was cut, log_cut counts what was cut or left out. A cut line is still whole
 * JSON or logfmt.
 *
 * Fork: a child goes on with the log it inherits. Its lines carry its own pid, its counts begin at 0, and
 * what waits in a queue of its parent is written by the parent alone. Not after vfork() or clone(CLONE_VM).
 *
 * Signals: only what says so may be called in a signal handler. To log from one, leave a mark and log later.
 */
#ifndef FOUNDATION_LOG_H
#define FOUNDATION_LOG_H

#include <stddef.h>
#include <stdint.h>

#include <foundation/context.h>

#ifdef __cplusplus
extern "C" {
#endif

struct fnd_flags; /* <foundation/flags.h> */

/* Those of syslog(3). */
enum fnd_log_level {
	FND_LOG_EMERGENCY = 0,
	FND_LOG_ALERT = 1,
	FND_LOG_CRITICAL = 2,
	FND_LOG_ERROR = 3,
	FND_LOG_WARNING = 4,
	FND_LOG_NOTICE = 5,
	FND_LOG_INFO = 6,
	FND_LOG_DEBUG = 7
};

#define FND_LOG_SINKS 8u
#define FND_LOG_LINE_MAX 8192u /* bytes with the newline; 4096 (PIPE_BUF) to pipes and terminals */

/* --- what a line consists of ---------------------------------------------------------------------- */

/* A line as callbacks get it and as fnd_log_format() takes it. */
struct fnd_log_line {
	uint64_t time_ns; /* wall clock, since 1970 */
	uint32_t level;
	uint32_t pid, tid;
	int has_generation; /* 0: this log knows no flags */
	uint64_t generation;
	const char *message;
	size_t message_bytes;
	const char *trace_id, *span_id; /* 32 and 16 hexadecimal digits; NULL or "": none */
	const void *context; /* the merged error context: a msgpack map */
	size_t context_bytes;
	/* Its own: a key that lines have already ("level", say) becomes "field.level". */
	const struct fnd_field *fields;
	size_t fields_count;
	uint64_t dropped; /* lines this sink lost since the last one that got through */
	const char *code_file, *code_func; /* NULL: not known */
	uint32_t code_line;
};

enum fnd_log_form {
	FND_LOG_LOGFMT = 0, /* time=… level=info message="…" error_context.request_id=… */
	FND_LOG_JSON = 1    /* {"time":"…","level":"info","message":"…","error_context":{…}} */
};

/**
 * fnd_log_format - one line with its newline, as sinks write it.
 * @size: of @buf, at least 512; what does not fit is cut or left out, and marked.
 *
 * Control characters, quotes and bytes that are not UTF-8 are escaped: a value cannot begin a line or a
 * field. Returns: bytes of the line, or -EINVAL. Context: any thread. Progress and cost: wait-free, no system
 * call. Ordering: none. If I die: nothing to repair.
 */
FND_API int64_t fnd_log_format(const struct fnd_log_line *line, enum fnd_log_form form, char *buf, size_t size);

/* --- opening -------------------------------------------------------------------------------------- */

struct fnd_log; /* this process's handle */

struct fnd_log_options {
	size_t size; /* sizeof(struct fnd_log_options) */
	uint32_t level; /* lines above it are not written; fnd_log_level_set() changes it */
	uint32_t pad;
	const char *ident; /* of syslog and journald; NULL: the program's name */
	struct fnd_context *context; /* NULL: no error context on the lines; outlives the log */
	const struct fnd_flags *flags; /* NULL: no generation on the lines; outlives the log */
};

#define FND_LOG_OPTIONS { sizeof(struct fnd_log_options), FND_LOG_INFO, 0, 0, 0, 0 }

/**
 * fnd_log_open - a log without sinks yet.
 * @options: NULL: FND_LOG_OPTIONS.
 *
 * Returns: 0, -EINVAL, -ENOMEM, -ENOSYS (madvise(MADV_WIPEONFORK) is refused). Context: any thread, not in a
 * signal handler. Progress and cost: a few system calls. Ordering: none. If I die: nothing to repair.
 */
FND_API int fnd_log_open(const struct fnd_log_options *options, struct fnd_log **ret_log);

/**
 * fnd_log_close - write what waits in queues, for at most a second each, and free the handle. NULL is allowed.
 *
 * A sink with lost lines that were not announced gets a last line that says so, if it takes it.
 * Context: when no other thread uses the log; not in a signal handler. If I die: waiting lines are lost.
 */
FND_API void fnd_log_close(struct fnd_log *log);

struct fnd_sink_options {
	size_t size; /* sizeof(struct fnd_sink_options) */
	uint32_t form; /* enum fnd_log_form, of files and descriptors */
	uint32_t level; /* of this sink, besides the log's */
	uint32_t flags; /* FND_SINK_* */
	uint32_t queue_bytes; /* of a queue, where there is one; 0: 256 KiB */
	uint32_t mode; /* of a file that is made; 0: 0640 */
	uint32_t facility; /* of syslog: LOG_USER …; 0: LOG_USER */
};

#define FND_SINK_OPTIONS { sizeof(struct fnd_sink_options), FND_LOG_LOGFMT, FND_LOG_DEBUG, 0, 0, 0, 0 }

#define FND_SINK_QUEUED 1u /* files: through a queue and a thread of its own, for disks that stall */

/**
 * fnd_log_add_fd - log to an open descriptor: a pipe, a terminal, a socket, a file.
 * @fd: stays the caller's, and keeps its flags: the sink opens what it stands for once more, non-blocking.
 *      Where the kernel refuses that, lines go through a queue and a thread, which may block on it.
 * @options: NULL: FND_SINK_OPTIONS. @ret_sink: NULL, or receives the sink's number.
 *
 * A write to a regular file may wait for the disk as any write does: FND_SINK_QUEUED if that is too long.
 * Returns: 0, -EBADF, -EINVAL, -ENOSPC (FND_LOG_SINKS are there), -ENOMEM, -EMFILE.
 * Context: before other threads use the log. Progress and cost: some system calls. If I die: nothing.
 */
FND_API int fnd_log_add_fd(struct fnd_log *log, int fd, const struct fnd_sink_options *options,
			   unsigned int *ret_sink);

/**
 * fnd_log_add_file - append to a file by name, which fnd_log_reopen() opens again. A fifo needs its reader.
 *
 * Returns: as fnd_log_add_fd, -ENAMETOOLONG, and the errors of open(2). Context, cost: as fnd_log_add_fd.
 * If I die: my last line may be cut, if the kernel was about to write it; what another process writes next
 * then stands behind it, whole.
 */
FND_API int fnd_log_add_file(struct fnd_log *log, const char *path, const struct fnd_sink_options *options,
			     unsigned int *ret_sink);

/**
 * fnd_log_add_journald - log to systemd's journal, in its native fields, from a thread of its own.
 *
 * MESSAGE, PRIORITY, SYSLOG_IDENTIFIER, TID, CODE_*, TRACE_ID, SPAN_ID, FOUNDATION_TIME,
 * FOUNDATION_GENERATION, FOUNDATION_SUPPRESSED (lines lost before this one), ERROR_CONTEXT (JSON) and each of
 * its fields as ERROR_CONTEXT_*, own fields in capitals ("errno" is ERRNO).
 * Returns: as fnd_log_add_fd, -EOPNOTSUPP (no libsystemd: at build, or here), -ENOENT (no journal here).
 * Context, cost: as fnd_log_add_fd. If I die: waiting lines are lost.
 */
FND_API int fnd_log_add_journald(struct fnd_log *log, const struct fnd_sink_options *options,
				 unsigned int *ret_sink);

/**
 * fnd_log_add_syslog - log as syslog(3) does: "<14>Nov 23 10:39:01 ident[pid]: " and the line as logfmt.
 * @path: of the datagram socket; NULL: /dev/log.
 *
 * A daemon that is started again is found again. Returns: as fnd_log_add_fd, -ENAMETOOLONG, and the errors of
 * connect(2). Context, cost: as fnd_log_add_fd. If I die: nothing to repair.
 */
FND_API int fnd_log_add_syslog(struct fnd_log *log, const char *path, const struct fnd_sink_options *options,
			       unsigned int *ret_sink);

/**
 * fnd_log_add_callback - hand lines to the application's own logger, in the thread that writes them.
 * @fn: returns 0: taken; else the line counts as lost. What @line points at is gone when it returns. It may
 *      take as long as it likes: the worker waits. A line that it logs itself goes to the other sinks only.
 *
 * Returns, context, cost: as fnd_log_add_fd.
 */
FND_API int fnd_log_add_callback(struct fnd_log *log, int (*fn)(void *arg, const struct fnd_log_line *line),
				 void *arg, const struct fnd_sink_options *options, unsigned int *ret_sink);

/**
 * fnd_log_reopen - open every file sink by its name again: after logrotate has moved it.
 *
 * A file that cannot be opened goes on as it was. Returns: 0, or the first error of open(2); no detail.
 * Context: any thread, also a signal handler; beside writers, whose lines go to the old or the new file.
 * Progress and cost: three system calls a file. Ordering: none. If I die: nothing to repair.
 */
FND_API int fnd_log_reopen(struct fnd_log *log);

/* --- writing -------------------------------------------------------------------------------------- */

/* The part of the handle that the inlined filter uses; filled by the library alone. */
struct fnd_log_head {
	uint32_t level;
};

/** fnd_log_enabled - is a line of this level written at all? Returns: 1 or 0; NULL: 0. Context: any. */
static inline int fnd_log_enabled(const struct fnd_log *log, enum fnd_log_level level)
{
	/* one word of this process: a stale level is a level that was set */
	return log && (uint32_t)level <= ((const volatile struct fnd_log_head *)(const void *)log)->level;
}

/** fnd_log_level_set - change the filter. Returns: 0, -EINVAL. Context: any, also a signal handler. */
FND_API int fnd_log_level_set(struct fnd_log *log, enum fnd_log_level level);

/** fnd_log_level_name - "emergency" … "debug"; NULL: no such level. Returns: a constant string. Any context. */
FND_API const char *fnd_log_level_name(unsigned int level);

/** fnd_log_level_parse - a level by its name, also "warn", "err", "crit", "emerg", or "0" to "7".
 * Returns: the level, -EINVAL. Context: any. */
FND_API int fnd_log_level_parse(const char *name);

/* Where in the source a line is written. */
struct fnd_log_place {
	const char *file, *func;
	uint32_t line;
};

/**
 * fnd_log_write - one line to every sink.
 * @place: NULL: not known. @fields: NULL and 0: none.
 *
 * Leaves errno and fnd_error_detail() as they are, so that what has just failed can be logged first.
 * Returns: 0 (also: below the level), -EINVAL, or why the last sink that lost it did: -EAGAIN, -ENOSPC, -EPIPE…
 * Context: any thread; not in a signal handler; inside a read section. Not a cancellation point.
 * Progress and cost: one write(2) a sink, 1 to 2 µs; never waits for a reader, a daemon or another process.
 * Ordering: none. If I die: the line is there or not; in a file it may be cut.
 */
FND_API int fnd_log_write(struct fnd_log *log, enum fnd_log_level level, const struct fnd_log_place *place,
			  const char *message, const struct fnd_field *fields, size_t fields_count);

/** fnd_log_printf - one line whose message is formatted as printf's, cut at 4095 bytes. As fnd_log_write.
 * Returns: as fnd_log_write. */
FND_API int fnd_log_printf(struct fnd_log *log, enum fnd_log_level level, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

/* FND_LOG(log, FND_LOG_INFO, "worker started", fnd_int("port", 8080)): below the level nothing is evaluated.
 * In C; from C++ call fnd_log_write() with an array of fields. */
#define FND_LOG(log, level, message, ...)                                                         \
	do {                                                                                      \
		if (fnd_log_enabled((log), (level))) {                                            \
			const struct fnd_log_place fnd_place_ = { __FILE__, __func__, __LINE__ }; \
			const struct fnd_field fnd_field_[] = { fnd_int("", 0), ##__VA_ARGS__ };  \
			fnd_log_write((log), (level), &fnd_place_, (message), fnd_field_ + 1,     \
				      sizeof(fnd_field_) / sizeof(fnd_field_[0]) - 1);            \
		}                                                                                 \
	} while (0)

/* --- counting ------------------------------------------------------------------------------------- */

enum fnd_sink_kind {
	FND_SINK_FILE = 1,
	FND_SINK_PIPE = 2, /* or a terminal */
	FND_SINK_SOCKET = 3,
	FND_SINK_JOURNALD = 4,
	FND_SINK_SYSLOG = 5,
	FND_SINK_CALLBACK = 6
};

/* Since this process opened or inherited the log. Lines given to the sink = written + dropped + waiting. */
struct fnd_sink_stats {
	uint32_t kind; /* enum fnd_sink_kind */
	int32_t last_error; /* of the last line that was lost: negative errno; 0: none was */
	uint64_t written;
	uint64_t dropped;
	uint64_t waiting;     /* in the sink's queue */
	uint64_t unannounced; /* lost, and no line has said so yet */
	uint64_t cut;	      /* lines written or waiting of which something is missing */
};

/**
 * fnd_log_stats - the counts of a sink. Returns: 0, -ENOENT (no such sink: they are numbered from 0).
 * Context: any thread. Progress and cost: wait-free. Ordering: none: exact when nobody writes.
 */
FND_API int fnd_log_stats(struct fnd_log *log, unsigned int sink, struct fnd_sink_stats *ret_stats);

#ifdef __cplusplus
}
#endif
#endif
