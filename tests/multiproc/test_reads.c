// SPDX-License-Identifier: MIT
/*
 * Reads take no lock and no system call. Shown by counting: the reader is traced, and every system call
 * between two markers is counted; and by taking all locks away: they are held by a stopped process.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "internal.h"
#include "multiproc.h"

#define LOOKUPS 100000u
#define STAYING 256u /* keys that are there all the time; writers replace them */
#define LOOSE 2000u  /* … and those that come and go */
#define MARK 0x4d41524bL
#define LIMIT 40000000u /* lookups after which a reader gives up waiting for deaths */

enum { STOP = 0, READY = 1, DEATHS = 2, PARKED = 3 }; /* words */
enum { WRITES = 0, SEEN = 1 };                        /* numbers */

static char segment[80];

/* --- counting -------------------------------------------------------------------------------------- */

/* Ignored by the kernel but for the tracer, who counts from here, or to here. */
static void marker(void)
{
	syscall(SYS_getppid, MARK);
}

struct counted {
	unsigned long calls;  /* system calls between the markers */
	unsigned long fstats; /* of those */
	int status;
};

static bool is_fstat(uint64_t nr)
{
#ifdef SYS_fstat
	if (nr == SYS_fstat)
		return true;
#endif
#ifdef SYS_newfstatat
	if (nr == SYS_newfstatat)
		return true;
#endif
	return false;
}

static int tracee(void *fn)
{
	if (ptrace(PTRACE_TRACEME, 0, NULL, NULL) != 0)
		return SKIP;
	raise(SIGSTOP);
	return (*(child_fn *)fn)(NULL);
}

/* One stop of the tracee: returns the signal to pass on. */
static int look(pid_t pid, int status, bool *counting, struct counted *c)
{
	struct __ptrace_syscall_info info;

	if (WSTOPSIG(status) != (SIGTRAP | 0x80))
		return WSTOPSIG(status) == SIGTRAP || WSTOPSIG(status) == SIGSTOP ? 0 : WSTOPSIG(status);
	if (ptrace(PTRACE_GET_SYSCALL_INFO, pid, sizeof(info), &info) <= 0 ||
	    info.op != PTRACE_SYSCALL_INFO_ENTRY)
		return 0;
	if (info.entry.nr == SYS_getppid && info.entry.args[0] == MARK) {
		*counting = !*counting;
	} else if (*counting) {
		c->calls++;
		c->fstats += is_fstat(info.entry.nr);
	}
	return 0;
}

/* Runs @fn in a traced child. */
static int count_calls(child_fn fn, struct counted *c)
{
	bool counting = false;
	int status = 0;
	pid_t pid;

	memset(c, 0, sizeof(*c));
	pid = child_start(tracee, &fn);
	waitpid(pid, &status, 0);
	if (WIFEXITED(status)) {
		c->status = WEXITSTATUS(status);
		return 0;
	}
	NEED(ptrace(PTRACE_SETOPTIONS, pid, NULL, PTRACE_O_TRACESYSGOOD | PTRACE_O_EXITKILL) == 0);
	while (WIFSTOPPED(status)) {
		int sig = look(pid, status, &counting, c);

		NEED(ptrace(PTRACE_SYSCALL, pid, NULL, (long)sig) == 0);
		NEED(waitpid(pid, &status, 0) == pid);
	}
	c->status = WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
	return 0;
}

/* --- others who write, and die ------------------------------------------------------------------------ */

/* The value of a staying key is always its number twice, then a sequence. */
struct value {
	uint64_t key, again, seq, check;
};

static void value_make(struct value *v, uint64_t key, uint64_t seq)
{
	v->key = v->again = key;
	v->seq = seq;
	v->check = (key ^ seq) * 0x9e3779b97f4a7c15ULL;
}

static bool value_sound(const struct value *v, uint64_t key)
{
	return v->key == key && v->again == key && v->check == (key ^ v->seq) * 0x9e3779b97f4a7c15ULL;
}

static int open_table(const char *name, struct fnd_segment **seg, struct fnd_table **t)
{
	int err = fnd_segment_attach(segment, NULL, seg);

	return err ? err : fnd_table_open(*seg, name, NULL, t);
}

/* Inserts, replaces, deletes; @arg: also new keys without end, so that the table grows. */
static int writer(void *arg)
{
	uint64_t key, n = 0, fresh = (uint64_t)getpid() << 32;
	struct fnd_segment *seg;
	struct fnd_table *t;
	struct value v;

	if (open_table("t", &seg, &t))
		return 1;
	while (!word_get(&shared->word[STOP])) {
		key = random_u64() % STAYING;
		value_make(&v, key, ++n);
		if (fnd_table_replace(t, &key, sizeof(key), &v, sizeof(v)))
			return 1;
		key = STAYING + random_u64() % LOOSE;
		value_make(&v, key, n);
		if (n % 3 == 0)
			fnd_table_delete(t, &key, sizeof(key));
		else
			fnd_table_upsert(t, &key, sizeof(key), &v, sizeof(v));
		if (arg && n % 4 == 0) {
			key = ++fresh;
			fnd_table_insert(t, &key, sizeof(key), &v, sizeof(v));
		}
		__atomic_fetch_add(&shared->number[WRITES], 1, __ATOMIC_RELAXED);
	}
	return 0;
}

/* Kills a writer every few milliseconds, and starts the next. */
static int killer(void *arg)
{
	while (!word_get(&shared->word[STOP])) {
		pid_t pid = child_start(writer, arg);

		nap_us(2000 + (unsigned int)(random_u64() % 3000));
		child_kill(pid);
		word_add(&shared->word[DEATHS], 1);
	}
	return 0;
}

/* --- the reader --------------------------------------------------------------------------------------- */

/* One of each kind. 0, or 1 when something was not as it has to be. */
static int read_once(struct fnd_segment *seg, struct fnd_table *t, uint64_t i)
{
	uint64_t key = i % STAYING, none = UINT64_MAX - i % 1000;
	struct fnd_view view;
	struct value v;
	size_t bytes = 0;

	NEED(fnd_table_lookup(t, &key, sizeof(key), &v, sizeof(v), &bytes) == 0);
	NEED(bytes == sizeof(v) && value_sound(&v, key));
	NEED(fnd_table_lookup(t, &none, sizeof(none), &v, sizeof(v), &bytes) == -ENOENT);
	NEED(fnd_read_begin(seg) == 0);
	NEED(fnd_table_get(t, &key, sizeof(key), &view) == 0);
	memcpy(&v, view.value, sizeof(v));
	NEED(view.value_bytes == sizeof(v) && value_sound(&v, key));
	NEED(fnd_read_end(seg) == 0);
	return 0;
}

static int reader(void *arg)
{
	struct fnd_segment *seg;
	struct fnd_table *t;
	uint64_t i = 0;

	(void)arg;
	NEED(open_table("t", &seg, &t) == 0);
	TRY(read_once(seg, t, 0)); /* the first call takes the thread's slot */
	marker();
	while (i < LOOKUPS || (word_get(&shared->word[DEATHS]) < 40 && i < LIMIT))
		TRY(read_once(seg, t, i++));
	marker();
	shared->number[SEEN] = i;
	fnd_table_close(t);
	return fnd_segment_detach(seg) != 0;
}

/* The same loop with one system call in it: the count is not blind. */
static int reader_that_calls(void *arg)
{
	(void)arg;
	marker();
	syscall(SYS_getpid);
	marker();
	return 0;
}

static int make(uint64_t capacity, struct fnd_segment **ret_seg, struct fnd_table **ret_t)
{
	struct fnd_segment_options opt = { .size = sizeof(opt), .processes = 16, .threads = 64,
					   .max_bytes = 512u << 20 };
	struct fnd_table_options topt = { .size = sizeof(topt), .key_max = 8,
					  .value_max = sizeof(struct value), .capacity = capacity };
	struct value v;

	snprintf(segment, sizeof(segment), "%s", name_new());
	NEED(fnd_segment_create(segment, &opt, ret_seg) == 0);
	NEED(fnd_table_open(*ret_seg, "t", &topt, ret_t) == 0);
	for (uint64_t key = 0; key < STAYING; key++) {
		value_make(&v, key, 0);
		NEED(fnd_table_insert(*ret_t, &key, sizeof(key), &v, sizeof(v)) == 0);
	}
	return 0;
}

static int unmake(struct fnd_segment *seg, struct fnd_table *t)
{
	NEED(fnd_table_check(t) == 0);
	fnd_table_close(t);
	NEED(fnd_segment_detach(seg) == 0);
	NEED(fnd_segment_destroy(segment, 0) == 0);
	return 0;
}

static int count_beside_writers(uint64_t capacity, bool growing, struct counted *c,
				struct fnd_table_stats *ret_stats)
{
	struct fnd_segment *seg;
	struct fnd_table *t;
	pid_t killers[2];

	TRY(make(capacity, &seg, &t));
	for (int i = 0; i < 2; i++)
		killers[i] = child_start(killer, growing ? &killers : NULL);
	TRY(count_calls(reader, c));
	word_set(&shared->word[STOP], 1);
	for (int i = 0; i < 2; i++)
		NEED(child_wait(killers[i]) == 0);
	if (c->status == SKIP)
		return unmake(seg, t);
	NEED(c->status == 0);
	fnd_table_stats_read(t, ret_stats);
	fprintf(stderr, "  %llu rounds of two lookups and a guard beside %llu writes and %u deaths: %lu system "
		"calls, %lu of them fstat, %llu growths\n",
		(unsigned long long)shared->number[SEEN], (unsigned long long)shared->number[WRITES],
		word_get(&shared->word[DEATHS]), c->calls, c->fstats,
		(unsigned long long)ret_stats->growths);
	NEED(shared->number[SEEN] >= LOOKUPS && word_get(&shared->word[DEATHS]) >= 40);
	return unmake(seg, t);
}

/* --- cases --------------------------------------------------------------------------------------------- */

static int the_count_counts(void)
{
	struct counted c;

	TRY(count_calls(reader_that_calls, &c));
	SKIP_UNLESS(c.status != SKIP, "ptrace is refused here");
	NEED(c.status == 0 && c.calls == 1);
	return 0;
}

/* Memory enough from the start: not one call. */
static int no_system_call(void)
{
	struct fnd_table_stats s;
	struct counted c;

	TRY(count_beside_writers(20000, false, &c, &s));
	SKIP_UNLESS(c.status != SKIP, "ptrace is refused here");
	NEED(c.calls == 0);
	return 0;
}

/* A file that becomes larger is looked at once each time, by fstat, and that is all. */
static int growing_file(void)
{
	struct fnd_table_stats s;
	struct counted c;

	TRY(count_beside_writers(16, true, &c, &s));
	SKIP_UNLESS(c.status != SKIP, "ptrace is refused here");
	NEED(c.calls == c.fstats);
	NEED(s.growths >= 4 && c.fstats <= s.growths + FND_REGIONS);
	return 0;
}

/* --- all locks are held, by a process that is stopped ------------------------------------------------------ */

struct holder {
	struct fnd_table *t;
	uint64_t key;
};

static enum fnd_modify park(void *arg, const void *old, size_t old_bytes, const void **value, size_t *bytes)
{
	(void)arg, (void)old, (void)old_bytes, (void)value, (void)bytes;
	word_add(&shared->word[PARKED], 1);
	while (!word_get(&shared->word[STOP]))
		usleep(1000);
	return FND_MODIFY_KEEP;
}

static void *hold(void *arg)
{
	struct holder *h = arg;

	fnd_table_modify(h->t, &h->key, sizeof(h->key), park, NULL);
	return NULL;
}

/* A thread a shard, each inside its callback. */
static int hold_all(void *arg)
{
	static struct holder h[FND_SHARDS_MAX];
	struct fnd_segment *seg;
	struct fnd_table *t;
	pthread_t thread;

	(void)arg;
	NEED(open_table("t", &seg, &t) == 0);
	for (uint32_t i = 0; i < t->shards; i++) {
		h[i].t = t;
		while (fnd_shard_of(t, fnd_table_hash(t, &h[i].key, sizeof(h[i].key))) != i)
			h[i].key++;
		NEED(pthread_create(&thread, NULL, hold, &h[i]) == 0);
	}
	for (;;)
		pause();
	return 0;
}

static int count_record(const struct fnd_record *r, void *arg)
{
	(void)r;
	++*(unsigned int *)arg;
	return 0;
}

/* With a participation of its own and little patience. */
static int refused_writer(void *arg)
{
	struct fnd_attach_options opt = { .size = sizeof(opt), .lock_timeout_ms = 50 };
	struct fnd_segment *seg;
	struct fnd_table *t;
	struct value v;

	(void)arg;
	NEED(fnd_segment_attach(segment, &opt, &seg) == 0 && fnd_table_open(seg, "t", NULL, &t) == 0);
	for (uint64_t key = 0; key < 4; key++) {
		value_make(&v, key, 1);
		NEED(fnd_table_upsert(t, &key, sizeof(key), &v, sizeof(v)) == -ETIMEDOUT);
	}
	return 0;
}

static int no_lock(void)
{
	struct fnd_segment *seg;
	struct fnd_table *t;
	unsigned int n = 0;
	struct value v;
	uint64_t key;
	pid_t pid;
	int status;

	TRY(make(1024, &seg, &t));
	NEED(t->shards > 4);
	pid = child_start(hold_all, NULL);
	NEED(word_wait(&shared->word[PARKED], t->shards) == 0);
	kill(pid, SIGSTOP);
	NEED(waitpid(pid, &status, WUNTRACED) == pid && WIFSTOPPED(status));
	for (uint32_t i = 0; i < t->shards; i++)
		NEED(fnd_load_acquire(&t->shard[i].lock) != 0);
	NEED(child_run(refused_writer, NULL) == 0); /* the locks are locks */
	for (uint64_t i = 0; i < LOOKUPS; i++)
		TRY(read_once(seg, t, i));
	NEED(fnd_table_iterate(t, 0, count_record, &n) == 0 && n == STAYING);
	child_kill(pid);
	for (key = 0; key < STAYING; key++) {
		value_make(&v, key, 2);
		NEED(fnd_table_replace(t, &key, sizeof(key), &v, sizeof(v)) == 0);
	}
	return unmake(seg, t);
}

static const struct test_case read_cases[] = {
	{ "the_count_counts", the_count_counts },
	{ "no_system_call", no_system_call },
	{ "growing_file", growing_file },
	{ "no_lock", no_lock },
	{ NULL, NULL },
};

int main(int argc, char **argv)
{
	static const struct test_case *const tables[] = { read_cases, NULL };

	return cases_main(argc, argv, "reads", tables);
}
