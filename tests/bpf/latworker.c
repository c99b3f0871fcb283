// SPDX-License-Identifier: MIT
/*
 * Workers for shmlat to look at, made of the public interface only.
 *
 *   latworker make NAME EVERY            a segment with two tables; one lookup in EVERY is timed
 *   latworker work NAME DIR PROCS LOOKUPS
 *       forks PROCS workers, and as many again when DIR/fork appears. Each attaches, makes DIR/ready.PID,
 *       waits for DIR/go, does LOOKUPS lookups, makes DIR/done.PID, and leaves when DIR/end appears.
 *   latworker samples NAME               prints how many lookups the segment's cells have counted
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <foundation/table.h>

#define KEYS 100u
#define PATIENCE 12000 /* times 10 ms: nobody waits for ever */

static int fail(const char *what, int err)
{
	fprintf(stderr, "latworker: %s: %s (%s)\n", what, fnd_strerror(err), fnd_error_detail());
	return 1;
}

static int make_tables(struct fnd_segment *seg, void *arg)
{
	struct fnd_table_options opt = {
		.size = sizeof(opt),
		.key_max = 8,
		.value_max = 16,
		.capacity = 1000,
	};
	struct fnd_table *t;
	int err;

	(void)arg;
	err = fnd_table_open(seg, "agents", &opt, &t);
	if (err)
		return err;
	fnd_table_close(t);
	t = NULL;
	err = fnd_table_open(seg, "sessions", &opt, &t);
	for (uint64_t key = 0; !err && key < KEYS; key++)
		err = fnd_table_insert(t, &key, sizeof(key), "sixteen bytes ..", 16);
	fnd_table_close(t);
	return err;
}

static int make(const char *name, const char *every)
{
	struct fnd_segment_options opt = {
		.size = sizeof(opt),
		.sample_every = (uint32_t)strtoul(every, NULL, 10),
		.init = make_tables,
	};
	int err = fnd_segment_create(name, &opt, NULL);

	return err ? fail(name, err) : 0;
}

static void touch(const char *dir, const char *what)
{
	char path[4096];
	int fd;

	snprintf(path, sizeof(path), "%s/%s.%d", dir, what, (int)getpid());
	fd = open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0644);
	if (fd >= 0)
		close(fd);
}

static int appears(const char *dir, const char *what)
{
	struct timespec ts = { .tv_nsec = 10000000 };
	char path[4096];

	snprintf(path, sizeof(path), "%s/%s", dir, what);
	for (int i = 0; i < PATIENCE; i++) {
		if (access(path, F_OK) == 0)
			return 0;
		nanosleep(&ts, NULL);
	}
	return -ETIMEDOUT;
}

static int lookups(struct fnd_table *t, unsigned long n)
{
	char value[16];
	int err = 0;

	for (uint64_t i = 0; !err && i < n; i++) {
		uint64_t key = i % KEYS;

		err = fnd_table_lookup(t, &key, sizeof(key), value, sizeof(value), NULL);
	}
	return err;
}

static int worker(const char *name, const char *dir, unsigned long n)
{
	struct fnd_segment *seg;
	struct fnd_table *t;
	int err = fnd_segment_attach(name, NULL, &seg);

	if (!err)
		err = fnd_table_open(seg, "sessions", NULL, &t);
	if (err)
		return fail("attach", err);
	touch(dir, "ready");
	err = appears(dir, "go");
	if (!err)
		err = lookups(t, n);
	if (err)
		return fail("lookup", err);
	touch(dir, "done");
	err = appears(dir, "end");
	fnd_table_close(t);
	if (!err)
		err = fnd_segment_detach(seg);
	return err ? fail("detach", err) : 0;
}

static int spawn(const char *name, const char *dir, unsigned int procs, unsigned long n)
{
	pid_t parent = getpid();

	for (unsigned int i = 0; i < procs; i++) {
		pid_t pid = fork();

		if (pid < 0)
			return -errno;
		if (pid > 0)
			continue;
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		_exit(getppid() == parent ? worker(name, dir, n) : 1);
	}
	return 0;
}

static int work(const char *name, const char *dir, unsigned int procs, unsigned long n)
{
	int err = spawn(name, dir, procs, n), status, result = 0;

	if (!err)
		err = appears(dir, "fork");
	if (!err)
		err = spawn(name, dir, procs, n);
	if (err)
		return fail("fork", err);
	while (wait(&status) > 0)
		if (!WIFEXITED(status) || WEXITSTATUS(status))
			result = 1;
	return result;
}

static int samples(const char *name)
{
	struct fnd_latency l;
	struct fnd_segment *seg;
	int err = fnd_segment_attach(name, NULL, &seg);

	if (!err)
		err = fnd_latency_read(seg, FND_OP_LOOKUP, &l);
	if (err)
		return fail(name, err);
	printf("%llu\n", (unsigned long long)l.samples);
	return fnd_segment_detach(seg) ? 1 : 0;
}

int main(int argc, char **argv)
{
	if (argc == 4 && !strcmp(argv[1], "make"))
		return make(argv[2], argv[3]);
	if (argc == 6 && !strcmp(argv[1], "work"))
		return work(argv[2], argv[3], (unsigned int)strtoul(argv[4], NULL, 10),
			    strtoul(argv[5], NULL, 10));
	if (argc == 3 && !strcmp(argv[1], "samples"))
		return samples(argv[2]);
	fprintf(stderr, "latworker: see its source\n");
	return 2;
}
