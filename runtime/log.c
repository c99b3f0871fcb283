// SPDX-License-Identifier: MIT
/* The log: its handle, who writes a line, and the way of a line to every sink. */
#include "log_internal.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <foundation/atomic.h>
#include <foundation/flags.h>

#define MESSAGE_MAX 4096

/* --- levels --------------------------------------------------------------------------------------- */

static const char *const level_names[] = { "emergency", "alert", "critical", "error",
					   "warning", "notice", "info", "debug" };

const char *fnd_log_level_name(unsigned int level)
{
	return level <= FND_LOG_DEBUG ? level_names[level] : NULL;
}

int fnd_log_level_parse(const char *name)
{
	static const char *const others[] = { "emerg", "", "crit", "err", "warn" };

	if (!name)
		return -EINVAL;
	for (int i = 0; i <= FND_LOG_DEBUG; i++)
		if (strcmp(name, level_names[i]) == 0 || (name[0] == '0' + i && !name[1]) ||
		    (i <= FND_LOG_WARNING && others[i][0] && strcmp(name, others[i]) == 0))
			return i;
	return -EINVAL;
}

int fnd_log_level_set(struct fnd_log *log, enum fnd_log_level level)
{
	if (!log || (unsigned int)level > FND_LOG_DEBUG)
		return -EINVAL;
	fnd_store_relaxed(&log->head.level, (uint32_t)level); /* one word, nothing is reached through it */
	return 0;
}

/* --- who writes ----------------------------------------------------------------------------------- */

/*
 * Process and thread are asked for once: the answer holds until the process's number of births moves. It lies
 * in memory that fork() zeroes, also one that goes round the C library.
 */
static uint64_t *birth;
static uint64_t births;
static pthread_mutex_t birth_mutex = PTHREAD_MUTEX_INITIALIZER;

static __thread struct {
	uint64_t birth;
	uint32_t pid, tid;
} self;

static __thread unsigned int inside; /* a line of this thread is on its way */

static int birth_open(void)
{
	int err = 0;
	void *p;

	pthread_mutex_lock(&birth_mutex);
	if (!birth) {
		p = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		if (p == MAP_FAILED)
			err = -ENOMEM;
		else if (madvise(p, 4096, MADV_WIPEONFORK) != 0)
			err = -ENOSYS;
		if (!err)
			birth = p;
		else if (p != MAP_FAILED)
			munmap(p, 4096);
	}
	pthread_mutex_unlock(&birth_mutex);
	return err;
}

static void identify(struct fnd_log_line *line)
{
	uint64_t now = fnd_load_relaxed(birth); /* changes by fork() alone */

	if (now == 0) { /* the first line in this process: of racing threads one number stays */
		fnd_cas(birth, 0, fnd_fetch_add(&births, 1) + 1); /* no partner: only compared */
		now = fnd_load_relaxed(birth);
	}
	if (self.birth != now) {
		self.pid = (uint32_t)getpid();
		self.tid = (uint32_t)syscall(SYS_gettid);
		self.birth = now;
	}
	line->pid = self.pid;
	line->tid = self.tid;
}

/* --- opening and closing -------------------------------------------------------------------------- */

/* A name that cannot be taken for anything else in syslog's header. */
static void ident_set(struct fnd_log *log, const char *ident)
{
	size_t n = 0;

	if (!ident || !*ident)
		ident = program_invocation_short_name;
	for (; ident[n] && n + 1 < sizeof(log->ident); n++) {
		unsigned char c = (unsigned char)ident[n];

		log->ident[n] = c > ' ' && c < 0x7f && c != '[' && c != ']' && c != ':' ? (char)c : '_';
	}
	log->ident[n] = '\0';
}

int fnd_log_open(const struct fnd_log_options *options, struct fnd_log **ret_log)
{
	struct fnd_log_options o = FND_LOG_OPTIONS;
	time_t now = time(NULL);
	struct fnd_log *log;
	struct tm tm;
	int err;

	if (options && options->size < sizeof(o))
		return fnd_error_set(EINVAL, "fnd_log_options.size is %zu", options->size);
	if (options)
		o = *options;
	if (o.level > FND_LOG_DEBUG)
		return fnd_error_set(EINVAL, "level %u: 0 to 7", o.level);
	err = birth_open();
	if (err)
		return fnd_error_set(err, err == -ENOMEM ? "no memory" : "madvise(MADV_WIPEONFORK) is refused here");
	log = calloc(1, sizeof(*log));
	if (!log)
		return fnd_error_set(ENOMEM, "no memory");
	log->head.level = o.level;
	log->context = o.context;
	log->flags = o.flags;
	log->opener = getpid();
	if (localtime_r(&now, &tm))
		log->utc_offset = (int32_t)tm.tm_gmtoff;
	ident_set(log, o.ident);
	*ret_log = log;
	return 0;
}

static uint64_t wall_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_REALTIME, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* What was lost at the very end shall not go unsaid. */
static void last_line(struct fnd_log *log, struct fnd_log_sink *s)
{
	static const char message[] = "log lines were lost";
	struct fnd_log_line line = { .level = FND_LOG_WARNING, .message = message,
				     .message_bytes = sizeof(message) - 1 };

	if (!fnd_load_relaxed(&s->state->unannounced) || s->level < FND_LOG_WARNING) /* nobody else writes */
		return;
	line.time_ns = wall_ns();
	identify(&line);
	fnd_log_emit(log, s, &line);
}

void fnd_log_close(struct fnd_log *log)
{
	if (!log)
		return;
	for (uint32_t i = 0; i < log->sinks; i++) {
		struct fnd_log_sink *s = &log->sink[i];

		last_line(log, s);
		if (!s->queue_bytes || !fnd_log_queue_close(s)) {
			fnd_log_sink_close(s);
			munmap(s->state, s->mapping_bytes);
		}
		free(s->path);
	}
	free(log);
}

int fnd_log_reopen(struct fnd_log *log)
{
	int before = errno, first = 0;

	for (uint32_t i = 0; log && i < log->sinks; i++) {
		int err = log->sink[i].kind == FND_SINK_SYSLOG ? 0 : fnd_log_sink_reopen(&log->sink[i]);

		if (err && !first)
			first = err;
	}
	errno = before;
	return first;
}

int fnd_log_add_callback(struct fnd_log *log, int (*fn)(void *arg, const struct fnd_log_line *line), void *arg,
			 const struct fnd_sink_options *options, unsigned int *ret_sink)
{
	struct fnd_sink_options o;
	struct fnd_log_sink *s;
	int err = fnd_log_sink_new(log, options, &o, &s);

	if (err)
		return err;
	if (!fn)
		return fnd_error_set(EINVAL, "no callback");
	s->kind = FND_SINK_CALLBACK;
	s->fn = fn;
	s->arg = arg;
	return fnd_log_sink_ready(log, s, ret_sink);
}

/* --- writing -------------------------------------------------------------------------------------- */

struct trace {
	char trace_id[33], span_id[17];
};

/* Two questions cost less than a second pass over the map. */
static void trace_of(struct fnd_context *context, struct trace *t)
{
	struct fnd_value v;

	if (fnd_context_get(context, "trace_id", &v) == 0 && v.type == FND_VALUE_STR && v.bytes == 32)
		memcpy(t->trace_id, v.v.text, 32);
	if (fnd_context_get(context, "span_id", &v) == 0 && v.type == FND_VALUE_STR && v.bytes == 16)
		memcpy(t->span_id, v.v.text, 16);
}

static int write_all(struct fnd_log *log, struct fnd_log_line *line)
{
	unsigned char map[FND_CONTEXT_MAP_MAX];
	struct trace t = { "", "" };
	int err = 0, n = log->context ? fnd_context_capture(log->context, map, sizeof(map)) : 0;

	line->context = map;
	line->context_bytes = n > 0 ? (size_t)n : 0;
	if (n > 1)
		trace_of(log->context, &t);
	line->trace_id = t.trace_id;
	line->span_id = t.span_id;
	if (log->flags) {
		line->has_generation = 1;
		line->generation = fnd_flags_generation(log->flags);
	}
	line->time_ns = wall_ns();
	identify(line);
	for (uint32_t i = 0; i < log->sinks; i++) {
		struct fnd_log_sink *s = &log->sink[i];
		int lost;

		if (line->level > s->level || (s->kind == FND_SINK_CALLBACK && inside > 1))
			continue;
		lost = fnd_log_emit(log, s, line);
		err = lost ? lost : err;
	}
	return err;
}

int fnd_log_write(struct fnd_log *log, enum fnd_log_level level, const struct fnd_log_place *place,
		  const char *message, const struct fnd_field *fields, size_t fields_count)
{
	struct fnd_log_line line = { .level = (uint32_t)level, .message = message, .fields = fields,
				     .fields_count = fields_count };
	int before = errno, cancel, err;

	if (!log || !message || (unsigned int)level > FND_LOG_DEBUG || (fields_count && !fields))
		return -EINVAL;
	if (!fnd_log_enabled(log, level))
		return 0;
	line.message_bytes = strlen(message);
	if (place) {
		line.code_file = place->file;
		line.code_func = place->func;
		line.code_line = place->line;
	}
	/* A thread that is cancelled within write() would leave a lock taken or a count wrong. */
	pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &cancel);
	inside++;
	err = write_all(log, &line);
	inside--;
	pthread_setcancelstate(cancel, NULL);
	errno = before;
	return err;
}

int fnd_log_printf(struct fnd_log *log, enum fnd_log_level level, const char *fmt, ...)
{
	char message[MESSAGE_MAX];
	int before = errno;
	va_list ap;

	if (!log || !fmt || (unsigned int)level > FND_LOG_DEBUG)
		return -EINVAL;
	if (!fnd_log_enabled(log, level))
		return 0;
	va_start(ap, fmt);
	if (vsnprintf(message, sizeof(message), fmt, ap) < 0)
		message[0] = '\0';
	va_end(ap);
	errno = before;
	return fnd_log_write(log, level, NULL, message, NULL, 0);
}

/* --- counting ------------------------------------------------------------------------------------- */

int fnd_log_stats(struct fnd_log *log, unsigned int sink, struct fnd_sink_stats *ret_stats)
{
	struct fnd_log_state *st;

	if (!log || sink >= log->sinks)
		return -ENOENT;
	st = log->sink[sink].state;
	/* relaxed, all: sums on their way */
	*ret_stats = (struct fnd_sink_stats){
		.kind = log->sink[sink].kind,
		.last_error = fnd_load_relaxed(&st->last_error),
		.written = fnd_load_relaxed(&st->written),
		.dropped = fnd_load_relaxed(&st->dropped),
		.waiting = fnd_load_relaxed(&st->waiting),
		.unannounced = fnd_load_relaxed(&st->unannounced),
		.cut = fnd_load_relaxed(&st->cut),
	};
	return 0;
}
