/* SPDX-License-Identifier: MIT */
/*
 * The log over several processes: readers that stop, sinks that fail, writers that are killed.
 *
 * usage: test_log [CASE]...
 */
#include "multiproc.h"

#include <foundation/flags.h>
#include <foundation/log.h>

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

extern const struct test_case journal_cases[];

#define LINES 10000
#define GUARD_NS 20000000000u /* against hanging: the lines take some 20 ms */

static const char *directory; /* of this case's files; the runner removes it */

static char *file_of(const char *name)
{
	static char path[4][128];
	static unsigned int n;
	char *p = path[n++ % 4];

	snprintf(p, sizeof(path[0]), "%s/%s", directory, name);
	return p;
}

static struct fnd_sink_options json_sink(void)
{
	struct fnd_sink_options o = FND_SINK_OPTIONS;

	o.form = FND_LOG_JSON;
	return o;
}

static int say(struct fnd_log *log, unsigned int n)
{
	struct fnd_field f = { "n", 0, { FND_VALUE_UINT, 0, { .u = n } } };

	return fnd_log_write(log, FND_LOG_INFO, NULL, "a line of the usual length, as workers write it", &f, 1);
}

/* What was read of a log: whole lines of JSON, others, and what they say was lost. */
struct tally {
	uint64_t whole, bad, announced;
};

static void tally_line(struct tally *t, const char *line, size_t n)
{
	json_t *json = json_loadb(line, n, JSON_REJECT_DUPLICATES, NULL);

	if (json && json_object_get(json, "pid")) {
		t->whole++;
		t->announced += (uint64_t)json_integer_value(json_object_get(json, "log_dropped"));
	} else if (n > 0) {
		/* The beginning of one line, by a victim; behind it at most another process's whole one. */
		const char *last = memrchr(line, '{', n);

		t->bad++;
		json_decref(json);
		json = last && last > line ? json_loadb(last, (size_t)(line + n - last), 0, NULL) : NULL;
		t->whole += json != NULL;
	}
	json_decref(json);
}

/* Reads a descriptor to its end. */
static void tally_fd(struct tally *t, int fd)
{
	static char buf[1 << 20];
	size_t used = 0;
	ssize_t n;

	while ((n = read(fd, buf + used, sizeof(buf) - used)) > 0) {
		char *at = buf, *end;

		used += (size_t)n;
		while ((end = memchr(at, '\n', used - (size_t)(at - buf)))) {
			tally_line(t, at, (size_t)(end - at));
			at = end + 1;
		}
		used -= (size_t)(at - buf);
		memmove(buf, at, used);
	}
	tally_line(t, buf, used);
}

static struct tally tally_file(const char *path)
{
	struct tally t = { 0, 0, 0 };
	int fd = open(path, O_RDONLY);

	if (fd >= 0)
		tally_fd(&t, fd);
	close(fd);
	return t;
}

/* --- pipes ---------------------------------------------------------------------------------------- */

static int pipe_fd[2];

static int pipe_reader(void *arg)
{
	struct tally t = { 0, 0, 0 };

	(void)arg;
	close(pipe_fd[1]);
	word_set(&shared->word[0], 1);
	tally_fd(&t, pipe_fd[0]);
	shared->number[0] = t.whole;
	shared->number[1] = t.bad;
	shared->number[2] = t.announced;
	return 0;
}

static int wait_empty(struct fnd_log *log)
{
	struct fnd_sink_stats s;
	int left = 1;

	for (unsigned int i = 0; i < 100000; i++) {
		if (fnd_log_stats(log, 0, &s) == 0 && s.waiting == 0 && ioctl(pipe_fd[0], FIONREAD, &left) == 0 && !left)
			return 0;
		nap_us(200);
	}
	return 1;
}

/* 10,000 lines into a pipe whose reader is stopped: they return, and none is unaccounted for. */
static int stopped_reader(void *queued)
{
	struct fnd_sink_options o = json_sink();
	struct fnd_sink_stats s;
	struct fnd_log *log;
	uint64_t before, accepted = 0;
	pid_t reader;

	NEED(pipe2(pipe_fd, O_CLOEXEC) == 0);
	reader = child_start(pipe_reader, NULL);
	TRY(word_wait(&shared->word[0], 1));
	NEED(kill(reader, SIGSTOP) == 0 && waitpid(reader, NULL, WUNTRACED) == reader);
	o.queue_bytes = 64 << 10;
	if (queued) /* a pipe of somebody else cannot be opened once more */
		NEED(seteuid(NOBODY) == 0);
	NEED(fnd_log_open(NULL, &log) == 0 && fnd_log_add_fd(log, pipe_fd[1], &o, NULL) == 0);
	if (queued)
		NEED(seteuid(0) == 0);
	NEED(!(fcntl(pipe_fd[1], F_GETFL) & O_NONBLOCK));
	before = now_ns();
	for (unsigned int i = 0; i < LINES; i++)
		accepted += say(log, i) == 0;
	NEED(now_ns() - before < GUARD_NS);
	NEED(fnd_log_stats(log, 0, &s) == 0);
	fprintf(stderr, "%s: written %llu, waiting %llu, dropped %llu, %llu ns a line\n", queued ? "queue" : "direct",
		(unsigned long long)s.written, (unsigned long long)s.waiting, (unsigned long long)s.dropped,
		(unsigned long long)((now_ns() - before) / LINES));
	NEED(s.dropped > 0 && s.dropped + accepted == LINES);
	NEED(s.written + s.waiting == accepted);
	NEED((s.waiting > 0) == (queued != NULL));
	NEED(s.last_error == -EAGAIN && (queued || s.unannounced == s.dropped)); /* a waiting line may tell of some */
	NEED(kill(reader, SIGCONT) == 0 && wait_empty(log) == 0);
	NEED(say(log, LINES) == 0);
	close(pipe_fd[1]);
	fnd_log_close(log);
	NEED(child_wait(reader) == 0);
	NEED(shared->number[1] == 0);
	NEED(shared->number[0] == accepted + 1);
	NEED(shared->number[2] == s.dropped);
	return 0;
}

static int pipe_stopped_reader(void)
{
	return stopped_reader(NULL);
}

static int pipe_stopped_reader_queued(void)
{
	SKIP_UNLESS(geteuid() == 0, "a pipe of another user takes root");
	return stopped_reader(pipe_fd);
}

static int pipe_closed(void)
{
	struct fnd_sink_stats s;
	struct fnd_log *log;
	sigset_t set;

	NEED(pipe2(pipe_fd, O_CLOEXEC) == 0);
	NEED(fnd_log_open(NULL, &log) == 0 && fnd_log_add_fd(log, pipe_fd[1], NULL, NULL) == 0);
	NEED(say(log, 0) == 0);
	close(pipe_fd[0]);
	for (unsigned int i = 0; i < 100; i++)
		NEED(say(log, i) == -EPIPE); /* and SIGPIPE has not ended this process */
	NEED(sigpending(&set) == 0 && !sigismember(&set, SIGPIPE));
	NEED(fnd_log_stats(log, 0, &s) == 0 && s.written == 1 && s.dropped == 100 && s.last_error == -EPIPE);

	/* One that was pending before stays the application's. */
	sigemptyset(&set);
	sigaddset(&set, SIGPIPE);
	NEED(sigprocmask(SIG_BLOCK, &set, NULL) == 0 && raise(SIGPIPE) == 0);
	NEED(say(log, 0) == -EPIPE);
	NEED(sigpending(&set) == 0 && sigismember(&set, SIGPIPE));
	fnd_log_close(log);
	close(pipe_fd[1]);
	return 0;
}

/* --- files ---------------------------------------------------------------------------------------- */

/* The file's size limit stands in for a full disk: the line at the limit is cut, as it would be there. */
static int file_full(void)
{
	const char *path = file_of("full.log");
	struct fnd_sink_options o = json_sink();
	struct rlimit limit = { 1009, RLIM_INFINITY }; /* a prime: no line ends there */
	struct fnd_sink_stats s;
	struct fnd_log *log;
	struct tally t;

	NEED(setrlimit(RLIMIT_FSIZE, &limit) == 0);
	NEED(fnd_log_open(NULL, &log) == 0 && fnd_log_add_file(log, path, &o, NULL) == 0);
	for (unsigned int i = 0; i < 50; i++)
		say(log, i);
	NEED(fnd_log_stats(log, 0, &s) == 0 && s.written + s.dropped == 50 && s.dropped > 30);
	NEED(s.last_error == -EFBIG);
	limit.rlim_cur = RLIM_INFINITY;
	NEED(setrlimit(RLIMIT_FSIZE, &limit) == 0);
	NEED(say(log, 50) == 0 && say(log, 51) == 0);
	t = tally_file(path);
	NEED(t.whole == s.written + 2 && t.bad == 1 && t.announced == s.dropped);
	fnd_log_close(log);

	/* No space at all. */
	NEED(fnd_log_open(NULL, &log) == 0 && fnd_log_add_file(log, "/dev/full", &o, NULL) == 0);
	NEED(say(log, 0) == -ENOSPC && say(log, 1) == -ENOSPC);
	NEED(fnd_log_stats(log, 0, &s) == 0 && s.written == 0 && s.dropped == 2);
	fnd_log_close(log);
	return 0;
}

static int file_writer(void *arg)
{
	struct fnd_sink_options o = json_sink();
	struct fnd_log *log;

	NEED(fnd_log_open(NULL, &log) == 0 && fnd_log_add_file(log, arg, &o, NULL) == 0);
	for (unsigned int i = 0; i < 1000000; i++)
		if (say(log, i) == 0)
			__atomic_fetch_add(&shared->number[0], 1, __ATOMIC_SEQ_CST);
	return 0;
}

/*
 * Eight processes in one file, killed at any instant. A line is whole, or it is the cut last one of a victim (the
 * kernel ends a write for SIGKILL between two pages), which takes nobody else's line with it but by standing
 * before it.
 */
static int file_kills(void)
{
	char *path = file_of("kills.log");
	pid_t writer[8];
	struct tally t;
	unsigned int kills = 0;

	for (unsigned int i = 0; i < 8; i++)
		writer[i] = child_start(file_writer, path);
	for (; kills < 80; kills++) {
		unsigned int i = (unsigned int)(random_u64() % 8);

		nap_us((unsigned int)(random_u64() % 1000));
		child_kill(writer[i]);
		writer[i] = child_start(file_writer, path);
	}
	for (unsigned int i = 0; i < 8; i++)
		child_kill(writer[i]);
	t = tally_file(path);
	fprintf(stderr, "%llu lines whole, %llu cut, of %u kills\n", (unsigned long long)t.whole,
		(unsigned long long)t.bad, kills + 8);
	/* A victim's last line may be there uncounted. */
	NEED(t.whole >= shared->number[0] && t.whole + t.bad <= shared->number[0] + kills + 8);
	return 0;
}

static struct fnd_log *reopened;

static void reopen(int sig)
{
	(void)sig;
	if (fnd_log_reopen(reopened) != 0)
		shared->number[1] = 1;
}

/* Rotation in the manner of logrotate, by a signal handler, beside a writer. */
static int file_rotated(void)
{
	struct fnd_sink_options o = json_sink();
	const char *path = file_of("rotated.log"), *old = file_of("rotated.log.1");
	struct tally now, before;

	NEED(fnd_log_open(NULL, &reopened) == 0 && fnd_log_add_file(reopened, path, &o, NULL) == 0);
	signal(SIGHUP, reopen);
	for (unsigned int i = 0; i < 1000; i++) {
		if (i == 400)
			NEED(rename(path, old) == 0);
		if (i == 600)
			raise(SIGHUP);
		NEED(say(reopened, i) == 0);
	}
	before = tally_file(old);
	now = tally_file(path);
	NEED(before.whole == 600 && now.whole == 400 && before.bad + now.bad == 0 && !shared->number[1]);
	NEED(unlink(path) == 0 && chdir("/") == 0);
	NEED(fnd_log_reopen(reopened) == 0 && say(reopened, 0) == 0);
	NEED(tally_file(path).whole == 1);
	fnd_log_close(reopened);
	return 0;
}

/* --- fork ----------------------------------------------------------------------------------------- */

static struct fnd_log *inherited;

static int child_says(void *raw)
{
	struct fnd_sink_stats s;
	pid_t pid = raw ? (pid_t)syscall(SYS_fork) : 0; /* a fork that the C library does not see */

	if (pid > 0)
		return child_wait(pid);
	NEED(fnd_log_stats(inherited, 1, &s) == 0 && s.written == 0 && s.dropped == 0 && s.waiting == 0);
	shared->number[raw ? 1 : 0] = (uint64_t)getpid();
	NEED(say(inherited, 1) == 0);
	fnd_log_close(inherited);
	return 0;
}

/* A child's lines have its own pid, through a queue too, whose thread the child did not inherit. */
static int fork_goes_on(void)
{
	const char *direct = file_of("direct.log"), *queue = file_of("queue.log");
	struct fnd_sink_options o = json_sink();
	char want[64], line[512];
	FILE *f;

	NEED(fnd_log_open(NULL, &inherited) == 0);
	NEED(fnd_log_add_file(inherited, direct, &o, NULL) == 0);
	o.flags = FND_SINK_QUEUED;
	NEED(fnd_log_add_file(inherited, queue, &o, NULL) == 0);
	NEED(say(inherited, 0) == 0);
	NEED(child_run(child_says, NULL) == 0 && child_run(child_says, inherited) == 0);
	NEED(say(inherited, 2) == 0);
	fnd_log_close(inherited);
	for (unsigned int i = 0; i < 2; i++) {
		struct tally t = tally_file(i ? queue : direct);
		unsigned int found = 0;

		NEED(t.whole == 4 && t.bad == 0);
		NEED((f = fopen(i ? queue : direct, "r")));
		while (fgets(line, sizeof(line), f))
			for (unsigned int c = 0; c < 2; c++) {
				snprintf(want, sizeof(want), "\"pid\":%llu,\"tid\":%llu,",
					 (unsigned long long)shared->number[c], (unsigned long long)shared->number[c]);
				found += strstr(line, want) != NULL;
			}
		fclose(f);
		NEED(found == 2);
	}
	return 0;
}

/* --- syslog and sockets --------------------------------------------------------------------------- */

static int datagram_socket(const char *path)
{
	struct sockaddr_un at = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	unlink(path);
	snprintf(at.sun_path, sizeof(at.sun_path), "%s", path);
	return bind(fd, (struct sockaddr *)&at, sizeof(at)) == 0 ? fd : -1;
}

static int syslog_lines(void)
{
	const char *path = file_of("log");
	struct fnd_log_options o = FND_LOG_OPTIONS;
	struct fnd_sink_stats s;
	struct fnd_log *log;
	char got[FND_LOG_LINE_MAX + 1], want[256];
	int fd = datagram_socket(path), n;
	uint64_t before;

	NEED(fd >= 0);
	o.ident = "mill er[x]";
	NEED(fnd_log_open(&o, &log) == 0 && fnd_log_add_syslog(log, path, NULL, NULL) == 0);
	NEED(fnd_log_write(log, FND_LOG_ERROR, NULL, "first\nsecond", NULL, 0) == 0);
	NEED((n = (int)recv(fd, got, sizeof(got) - 1, 0)) > 0);
	got[n] = '\0';
	snprintf(want, sizeof(want), " level=error message=\"first\\nsecond\" pid=%d tid=%d", (int)getpid(), (int)getpid());
	NEED(strlen(got) > strlen(want) && strcmp(got + strlen(got) - strlen(want), want) == 0);
	snprintf(want, sizeof(want), " mill_er_x_[%d]: time=20", (int)getpid());
	NEED(strncmp(got, "<11>", 4) == 0 && got[7] == ' ' && got[10] == ' ' && got[13] == ':' && got[16] == ':' &&
	     strncmp(got + 19, want, strlen(want)) == 0);

	/* A daemon that does not read, then one that is started again. */
	before = now_ns();
	for (unsigned int i = 0; i < LINES; i++)
		say(log, i);
	NEED(now_ns() - before < GUARD_NS);
	NEED(fnd_log_stats(log, 0, &s) == 0 && s.written + s.dropped == LINES + 1 && s.last_error == -EAGAIN);
	close(fd);
	NEED(say(log, 0) == -ECONNREFUSED);
	fd = datagram_socket(path);
	NEED(say(log, 0) == 0 && (n = (int)recv(fd, got, sizeof(got) - 1, 0)) > 0);
	got[n] = '\0';
	snprintf(want, sizeof(want), " log_dropped=%llu ", (unsigned long long)s.dropped + 1);
	NEED(strstr(got, want));
	fnd_log_close(log);
	close(fd);
	return 0;
}

static int socket_full(void)
{
	struct fnd_sink_options o = json_sink();
	struct fnd_sink_stats s;
	struct fnd_log *log;
	struct tally t = { 0, 0, 0 };
	int fd[2];

	NEED(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fd) == 0);
	NEED(fnd_log_open(NULL, &log) == 0 && fnd_log_add_fd(log, fd[1], &o, NULL) == 0);
	for (unsigned int i = 0; i < LINES; i++)
		say(log, i);
	NEED(fnd_log_stats(log, 0, &s) == 0 && s.dropped > 0 && s.written + s.dropped == LINES);
	fnd_log_close(log);
	close(fd[1]);
	tally_fd(&t, fd[0]);
	NEED(t.whole == s.written && t.bad == 0);
	close(fd[0]);
	return 0;
}

/* --- with flags and context ------------------------------------------------------------------------ */

static bool has(const json_t *object, const char *key, const char *want)
{
	const char *got = json_string_value(json_object_get(object, key));

	if (got && strcmp(got, want) == 0)
		return true;
	fprintf(stderr, "%s is '%s', expected '%s'\n", key, got ? got : "not there", want);
	return false;
}

/* The line of a worker that is at its work: generation, trace, and the merged context. */
static int worker_line(void)
{
	const char *path = file_of("worker.log"), *name = name_new();
	struct fnd_log_options o = FND_LOG_OPTIONS;
	struct fnd_sink_options json = json_sink();
	struct fnd_segment *seg;
	struct fnd_flags *flags;
	struct fnd_context *ctx;
	struct fnd_log *log;
	json_t *line, *context;
	FILE *f;
	char text[4096];

	NEED(setenv("FOUNDATION_STATE_DIR", "/proc/none", 1) == 0 && create_small(name, &seg) == 0);
	NEED(fnd_flags_open(seg, &flags) == 0 && fnd_context_open(seg, flags, NULL, &ctx) == 0);
	o.flags = flags;
	o.context = ctx;
	NEED(fnd_log_open(&o, &log) == 0 && fnd_log_add_file(log, path, &json, NULL) == 0);
	NEED(fnd_flags_stage_set(flags, FND_STAGE_3, NULL) >= 0);
	{
		FND_CONTEXT_SCOPE(ctx, fnd_str("request_id", "r-7"), fnd_str("step", "outer"));
		FND_CONTEXT_SCOPE(ctx, fnd_str("step", "inner"));
		NEED(fnd_context_set(ctx, fnd_str("trace_id", "0af7651916cd43dd8448eb211c80319c")) == 0);
		NEED(fnd_context_set(ctx, fnd_str("span_id", "b7ad6b7169203331")) == 0);
		FND_LOG(log, FND_LOG_ERROR, "it failed", fnd_int("tries", 3));
		FND_LOG(log, FND_LOG_DEBUG, "not written");
	}
	FND_LOG(log, FND_LOG_NOTICE, "over");
	NEED((f = fopen(path, "r")) && fgets(text, sizeof(text), f));
	NEED((line = json_loads(text, JSON_REJECT_DUPLICATES, NULL)));
	NEED(has(line, "level", "error") && has(line, "message", "it failed"));
	NEED(has(line, "trace_id", "0af7651916cd43dd8448eb211c80319c") && has(line, "span_id", "b7ad6b7169203331"));
	NEED(json_integer_value(json_object_get(line, "tries")) == 3);
	NEED(json_integer_value(json_object_get(line, "generation")) == (json_int_t)fnd_flags_generation(flags));
	NEED((context = json_object_get(line, "error_context")));
	NEED(has(context, "request_id", "r-7") && has(context, "step", "inner"));
	json_decref(line);
	NEED(fgets(text, sizeof(text), f) && strstr(text, "\"over\"") && !strstr(text, "error_context"));
	NEED(!fgets(text, sizeof(text), f));
	fclose(f);
	fnd_log_close(log);
	fnd_context_close(ctx);
	fnd_flags_close(flags);
	NEED(fnd_segment_detach(seg) == 0 && fnd_segment_destroy(name, 0) == 0);
	return 0;
}

/* --- the runner ----------------------------------------------------------------------------------- */

static char made[] = "/tmp/test_log.XXXXXX";
static pid_t maker;

static void remove_directory(void)
{
	static const char *const names[] = { "full.log", "kills.log", "rotated.log", "rotated.log.1", "direct.log",
					     "queue.log", "log", "worker.log" };

	if (getpid() != maker)
		return;
	for (unsigned int i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		unlink(file_of(names[i]));
	rmdir(made);
}

static const struct test_case log_cases[] = {
	{ "worker_line", worker_line },
	{ "pipe_stopped_reader", pipe_stopped_reader },
	{ "pipe_stopped_reader_queued", pipe_stopped_reader_queued },
	{ "pipe_closed", pipe_closed },
	{ "file_full", file_full },
	{ "file_kills", file_kills },
	{ "file_rotated", file_rotated },
	{ "fork_goes_on", fork_goes_on },
	{ "syslog_lines", syslog_lines },
	{ "socket_full", socket_full },
	{ NULL, NULL },
};

int main(int argc, char **argv)
{
	static const struct test_case *const tables[] = { log_cases, journal_cases, NULL };

	directory = mkdtemp(made);
	if (!directory)
		return 1;
	maker = getpid();
	atexit(remove_directory);
	return cases_main(argc, argv, "log", tables);
}
