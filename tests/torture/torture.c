// SPDX-License-Identifier: MIT
#define _GNU_SOURCE
#include "torture.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define PATIENCE_MS 20000

struct torture torture;
struct board *board;
static char program_name[32];

/* --- checks ---------------------------------------------------------------------------------------- */

void check_failed(const char *name, const char *fmt, ...)
{
	char text[512], line[640];
	va_list ap;
	int n;

	if (__atomic_fetch_add(&board->failed, 1, __ATOMIC_SEQ_CST) >= 20)
		return;
	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	n = snprintf(line, sizeof(line), "CHECK %s FAILED\n\t%s: %s [%s]\n", name, program_name, text,
		     fnd_error_detail());
	if (write(STDOUT_FILENO, line, (size_t)n) < 0) /* in one piece, also from a child */
		abort();
	__atomic_store_n(&board->stop, 1, __ATOMIC_RELEASE);
}

#ifdef __SANITIZE_THREAD__
/* Called by the sanitizer for each report: a race is a check like any other. */
FND_API void __tsan_on_report(void *report);
void __tsan_on_report(void *report)
{
	(void)report;
	check_failed("race", "ThreadSanitizer has a report");
}

FND_API const char *__tsan_default_options(void);
const char *__tsan_default_options(void)
{
	return "exitcode=1";
}
#endif

/* --- small things ---------------------------------------------------------------------------------- */

uint64_t now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

static uint64_t mix(uint64_t x)
{
	x ^= x >> 30;
	x *= 0xbf58476d1ce4e5b9ULL;
	x ^= x >> 27;
	x *= 0x94d049bb133111ebULL;
	return x ^ x >> 31;
}

uint64_t draw(uint64_t *random)
{
	*random += 0x9e3779b97f4a7c15ULL;
	return mix(*random);
}

void spin(uint64_t n)
{
	for (uint64_t i = 0; i < n; i++)
		__atomic_signal_fence(__ATOMIC_SEQ_CST);
}

void step_set(unsigned int which, uint32_t value)
{
	__atomic_store_n(&board->step[which], value, __ATOMIC_RELEASE);
}

void step_wait(unsigned int which, uint32_t value)
{
	struct timespec nap = { 0, 100000 };
	uint64_t from = now_ms();

	while (__atomic_load_n(&board->step[which], __ATOMIC_ACQUIRE) != value) {
		if (now_ms() - from > PATIENCE_MS) {
			check_failed("progress", "step %u never became %u", which, value);
			return;
		}
		nanosleep(&nap, NULL);
	}
}

bool stopped(void)
{
	return __atomic_load_n(&board->stop, __ATOMIC_ACQUIRE);
}

size_t value_make(uint64_t key, uint64_t seq, struct value *v)
{
	uint64_t from = mix(key << 32 ^ seq);
	size_t words = 1 + from % 8;

	v->key = key;
	v->seq = seq;
	for (size_t i = 0; i < words; i++)
		v->word[i] = mix(from + i);
	return offsetof(struct value, word) + words * sizeof(v->word[0]);
}

bool value_sound(uint64_t key, const void *value, size_t bytes, uint64_t *ret_seq)
{
	struct value is, want;

	if (bytes < offsetof(struct value, word) || bytes > sizeof(is))
		return false;
	memcpy(&is, value, bytes);
	*ret_seq = is.seq;
	return value_make(key, is.seq, &want) == bytes && memcmp(&is, &want, bytes) == 0;
}

/* --- a crew ---------------------------------------------------------------------------------------- */

static struct fnd_segment *join(void)
{
	struct fnd_attach_options opt = { .size = sizeof(opt), .lock_timeout_ms = 2000 };
	struct fnd_segment *seg = NULL;
	int err = fnd_segment_attach(torture.segment, &opt, &seg);

	CHECK("attach", err == 0, "%s", fnd_strerror(err));
	return seg;
}

static void member_init(struct member *m, unsigned int id)
{
	memset(m, 0, sizeof(*m));
	m->id = id;
	m->random = mix(torture.seed + 1) ^ mix(id + 100);
}

static pid_t start(unsigned int id, const char *name, crew_fn fn)
{
	pid_t pid, parent = getpid();
	struct member m;
	int err;

	fflush(stdout);
	pid = fork();
	if (pid < 0) {
		perror("fork");
		exit(3);
	}
	if (pid)
		return pid;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent)
		_exit(3);
	member_init(&m, id);
	m.seg = join();
	if (!m.seg)
		_exit(1);
	err = fnd_table_open(m.seg, name, NULL, &m.table);
	CHECK("open", err == 0, "%s: %s", name, fnd_strerror(err));
	if (!err)
		fn(&m);
	fnd_table_close(m.table);
	fnd_segment_detach(m.seg);
	_exit(0);
}

pid_t child_start(const char *name, crew_fn fn)
{
	return start(CREW_MAX, name, fn);
}

void child_kill(pid_t pid)
{
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
}

int child_wait(pid_t pid)
{
	int status = -1;

	waitpid(pid, &status, 0);
	return status;
}

struct threaded {
	struct member m;
	crew_fn fn;
	pthread_t thread;
};

static void *thread_main(void *arg)
{
	struct threaded *t = arg;

	t->fn(&t->m);
	return NULL;
}

static void run_threads(unsigned int n, struct fnd_table *table, crew_fn fn)
{
	static struct threaded t[CREW_MAX];

	for (unsigned int i = 0; i < n; i++) {
		member_init(&t[i].m, i);
		t[i].m.seg = torture.seg;
		t[i].m.table = table;
		t[i].fn = fn;
		if (pthread_create(&t[i].thread, NULL, thread_main, &t[i]) != 0)
			abort();
	}
	for (unsigned int i = 0; i < n; i++)
		pthread_join(t[i].thread, NULL);
}

void crew_run(unsigned int n, const char *name, const struct fnd_table_options *opt, crew_fn fn)
{
	struct fnd_table *table;
	pid_t pid[CREW_MAX];
	int err = fnd_table_open(torture.seg, name, opt, &table);

	if (err) {
		check_failed("open", "%s: %s", name, fnd_strerror(err));
		return;
	}
	if (torture.processes) {
		for (unsigned int i = 0; i < n; i++)
			pid[i] = start(i, name, fn);
		for (unsigned int i = 0; i < n; i++) {
			int status = child_wait(pid[i]);

			CHECK("survival", status == 0, "member %u ended with status %#x", i,
			      (unsigned int)status);
		}
	} else {
		run_threads(n, table, fn);
	}
	fnd_table_close(table);
}

/* --- begin and end --------------------------------------------------------------------------------- */

static void options(int argc, char **argv)
{
	torture.seconds = 3;
	torture.seed = mix(now_ms() ^ (uint64_t)getpid() << 40) % 1000000;
	for (int i = 1; i < argc; i++) {
		bool more = i + 1 < argc;

		if (strcmp(argv[i], "--processes") == 0)
			torture.processes = true;
		else if (strcmp(argv[i], "--threads") == 0)
			torture.processes = false;
		else if (strcmp(argv[i], "--seconds") == 0 && more)
			torture.seconds = (unsigned int)atoi(argv[++i]);
		else if (strcmp(argv[i], "--seed") == 0 && more)
			torture.seed = strtoull(argv[++i], NULL, 10);
		else if (strcmp(argv[i], "--only") == 0 && more)
			torture.only = argv[++i];
		else {
			fprintf(stderr, "usage: %s [--threads|--processes] [--seconds S] [--seed N] "
					"[--only PART]\n",
				argv[0]);
			exit(2);
		}
	}
}

void torture_begin(int argc, char **argv, const char *program)
{
	struct fnd_segment_options opt = { .size = sizeof(opt), .processes = 16, .threads = 32,
					   .max_bytes = 256u << 20 };
	int err;

	options(argc, argv);
	snprintf(program_name, sizeof(program_name), "%s", program);
	board = mmap(NULL, sizeof(*board), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (board == MAP_FAILED)
		exit(3);
	snprintf(torture.segment, sizeof(torture.segment), "torture-%d", (int)getpid());
	printf("%s: seed %llu, %s\n", program, (unsigned long long)torture.seed,
	       torture.processes ? "processes" : "threads on one mapping");
	fflush(stdout);
	err = fnd_segment_create(torture.segment, &opt, NULL);
	if (err) {
		fprintf(stderr, "create: %s [%s]\n", fnd_strerror(err), fnd_error_detail());
		exit(3);
	}
	torture.seg = join();
	if (!torture.seg)
		exit(3);
}

int torture_end(void)
{
	int err = fnd_segment_detach(torture.seg);

	CHECK("detach", err == 0, "%s", fnd_strerror(err));
	err = fnd_segment_destroy(torture.segment, FND_DESTROY_FORCE);
	CHECK("destroy", err == 0, "%s", fnd_strerror(err));
	printf("{\"test\":\"%s\",\"seed\":%llu,\"processes\":%s,\"ops\":%llu,\"failed\":%u}\n", program_name,
	       (unsigned long long)torture.seed, torture.processes ? "true" : "false",
	       (unsigned long long)board->ops, board->failed);
	return board->failed != 0;
}

bool torture_part(const char *name)
{
	if (torture.only && strcmp(torture.only, name) != 0)
		return false;
	memset(board->step, 0, sizeof(board->step));
	__atomic_store_n(&board->stop, 0, __ATOMIC_RELEASE);
	return true;
}
