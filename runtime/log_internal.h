/* SPDX-License-Identifier: MIT */
/* What the files of the log share: text that is cut rather than overrun, sinks, queues. */
#ifndef FOUNDATION_RUNTIME_LOG_INTERNAL_H
#define FOUNDATION_RUNTIME_LOG_INTERNAL_H

#include <limits.h>
#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <foundation/log.h>

#define FND_LOG_HIDDEN __attribute__((visibility("hidden")))

/* --- text (log_text.c) ---------------------------------------------------------------------------- */

/* Text up to a limit. Whoever adds a part that does not fit takes back what he has added of it. */
struct fnd_log_out {
	char *at;
	size_t limit, used;
	unsigned int cut; /* parts that were cut or left out */
};

enum fnd_log_quoting {
	FND_QUOTE_NONE,	  /* bytes as they are, but for those that are not UTF-8 */
	FND_QUOTE_ESCAPED /* as between the quotes of JSON, and of logfmt */
};

static inline bool fnd_log_put(struct fnd_log_out *o, const char *bytes, size_t n)
{
	if (n > o->limit - o->used)
		return false;
	memcpy(o->at + o->used, bytes, n);
	o->used += n;
	return true;
}

static inline bool fnd_log_put_text(struct fnd_log_out *o, const char *text)
{
	return fnd_log_put(o, text, strlen(text));
}

FND_LOG_HIDDEN bool fnd_log_put_u64(struct fnd_log_out *o, uint64_t n);
FND_LOG_HIDDEN bool fnd_log_put_i64(struct fnd_log_out *o, int64_t n);
FND_LOG_HIDDEN bool fnd_log_put_double(struct fnd_log_out *o, double d);
/* Up to @budget bytes of it; what is cut off leaves "…" and counts. False: not even that fits. */
FND_LOG_HIDDEN bool fnd_log_put_value(struct fnd_log_out *o, const char *s, size_t n,
				      enum fnd_log_quoting quoting, size_t budget);
/* 2026-11-23T10:39:01.123456789Z */
FND_LOG_HIDDEN bool fnd_log_put_time(struct fnd_log_out *o, uint64_t time_ns);
/* A finite number, as JSON has it? */
FND_LOG_HIDDEN bool fnd_log_is_finite(double d);

/* --- msgpack (log_item.c) ------------------------------------------------------------------------- */

/* A field's value as JSON; texts are cut to @budget bytes. False: it does not fit, something may be added. */
FND_LOG_HIDDEN bool fnd_log_put_json(struct fnd_log_out *o, const struct fnd_value *v, size_t budget);

/* --- queue (log_queue.c) -------------------------------------------------------------------------- */

struct fnd_log_sink;

/* Lives in memory that a child finds zeroed: an empty queue without a thread, its mutex free. */
struct fnd_log_queue {
	pthread_mutex_t mutex;
	pthread_cond_t more, gone;
	uint32_t running, closing, orphaned;
	uint32_t size;	   /* of the ring */
	uint64_t head, tail; /* bytes put and taken, ever */
};

/* --- sinks (log_sinks.c, log_journald.c) ---------------------------------------------------------- */

/* What a child must not inherit. The counters are only ever added to or exchanged. */
struct fnd_log_state {
	uint64_t written, dropped, unannounced, waiting, cut;
	int32_t last_error;
	uint32_t torn; /* the last write ended within a line */
	struct fnd_log_queue queue;
};

struct fnd_log_sink {
	uint32_t kind, form, level, facility, mode;
	uint32_t queue_bytes; /* 0: none */
	size_t line_max;
	bool by_send;  /* a socket */
	bool guarded;  /* a write may raise SIGPIPE or SIGXFSZ */
	int fd;	       /* -1: none; its number never changes */
	char *path;
	char ident[48];
	int (*fn)(void *arg, const struct fnd_log_line *line);
	void *arg;
	struct fnd_log_state *state; /* wiped by fork */
	unsigned char *ring;	     /* the same mapping */
	size_t mapping_bytes;
};

struct fnd_log {
	struct fnd_log_head head;
	uint32_t sinks;
	struct fnd_context *context;
	const struct fnd_flags *flags;
	char ident[48];
	pid_t opener;
	int32_t utc_offset; /* seconds, for syslog's header, as the opener saw it last */
	struct fnd_log_sink sink[FND_LOG_SINKS];
};

/* One line to one sink: 0 or why it was lost. Counts. */
FND_LOG_HIDDEN int fnd_log_emit(struct fnd_log *log, struct fnd_log_sink *s, struct fnd_log_line *line);
/* Delivers the bytes of a line from the queue's thread, waiting when it must. 0 or -errno. */
FND_LOG_HIDDEN int fnd_log_deliver_waiting(struct fnd_log_sink *s, unsigned char *bytes, size_t n);
FND_LOG_HIDDEN int fnd_log_sink_reopen(struct fnd_log_sink *s);
FND_LOG_HIDDEN void fnd_log_sink_close(struct fnd_log_sink *s);
FND_LOG_HIDDEN int fnd_log_sink_new(struct fnd_log *log, const struct fnd_sink_options *options,
				    struct fnd_sink_options *ret_options, struct fnd_log_sink **ret_sink);
/* Gives the sink its wiped memory and makes it count. */
FND_LOG_HIDDEN int fnd_log_sink_ready(struct fnd_log *log, struct fnd_log_sink *s, unsigned int *ret_sink);
FND_LOG_HIDDEN uint32_t fnd_log_queue_size(uint32_t wanted); /* a power of two */
FND_LOG_HIDDEN void fnd_log_lost(struct fnd_log_sink *s, int err, uint64_t announced);

/* Puts a line into the queue, starting its thread: 0, -EAGAIN (full), -errno. */
FND_LOG_HIDDEN int fnd_log_queue_put(struct fnd_log_sink *s, const void *bytes, size_t n, uint64_t announced);
/* Waits for at most a second; true: the thread is still inside, and will free the sink's memory itself. */
FND_LOG_HIDDEN bool fnd_log_queue_close(struct fnd_log_sink *s);

/* The fields of journald, each behind its length. */
FND_LOG_HIDDEN size_t fnd_log_journald_encode(const struct fnd_log_sink *s, const struct fnd_log_line *line,
					      char *buf, size_t size, unsigned int *ret_cut);
FND_LOG_HIDDEN int fnd_log_journald_send(unsigned char *bytes, size_t n);

FND_LOG_HIDDEN size_t fnd_log_format_line(const struct fnd_log_line *line, enum fnd_log_form form, char *buf,
					  size_t size, unsigned int *ret_cut);

#endif
