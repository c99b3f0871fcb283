// SPDX-License-Identifier: MIT
/* A small segment with its participants, and what stands in for the kernel. */
#include <errno.h>
#include <linux/futex.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "hooks.h"
#include "world.h"

#define PID_BASE 1000u
#define CLOCK_START 1000000000000ULL

struct world w;

static enum who acting;
static uint64_t clock_ns;
static uint64_t random_state;
size_t world_unlinked = SIZE_MAX;

/* Leaves no name behind, however the program ends. */
static void clean_up(void)
{
	char path[128];

	snprintf(path, sizeof(path), "/dev/shm/foundation.%u.%s", (unsigned int)geteuid(), w.name);
	if (w.name[0])
		unlink(path);
}

static void on_term(int sig)
{
	(void)sig;
	clean_up();
	_exit(1);
}

static void must(int err, const char *what)
{
	if (err) {
		fprintf(stderr, "stores: seed %llu: %s: %s [%s]\n", (unsigned long long)w.seed, what,
			fnd_strerror(err), fnd_error_detail());
		exit(2);
	}
}

static uint64_t mix(uint64_t *state)
{
	uint64_t x = *state += 0x9e3779b97f4a7c15ULL;

	x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9ULL;
	x = (x ^ x >> 27) * 0x94d049bb133111ebULL;
	return x ^ x >> 31;
}

uint64_t world_draw(void)
{
	return mix(&w.random);
}

uint32_t world_pid(enum who who)
{
	return PID_BASE + who;
}

/* --- the kernel ----------------------------------------------------------------------------------- */

int __real_clock_gettime(clockid_t clock, struct timespec *ts);
int __wrap_clock_gettime(clockid_t clock, struct timespec *ts);
int __wrap_nanosleep(const struct timespec *ts, struct timespec *rest);
ssize_t __wrap_getrandom(void *buf, size_t n, unsigned int flags);
pid_t __wrap_getpid(void);
long __real_syscall(long number, ...);
long __wrap_syscall(long number, ...);
void *__real_mmap(void *at, size_t n, int prot, int flags, int fd, off_t off);
void *__wrap_mmap(void *at, size_t n, int prot, int flags, int fd, off_t off);
int __real_munmap(void *at, size_t n);
int __wrap_munmap(void *at, size_t n);
bool __wrap_fnd_lease_take(int fd);
void __wrap_fnd_lease_drop(int fd);
int __real_unlink(const char *path);
int __wrap_unlink(const char *path);

int __wrap_clock_gettime(clockid_t clock, struct timespec *ts)
{
	(void)clock;
	clock_ns += 100;
	ts->tv_sec = (time_t)(clock_ns / 1000000000u);
	ts->tv_nsec = (long)(clock_ns % 1000000000u);
	return 0;
}

int __wrap_nanosleep(const struct timespec *ts, struct timespec *rest)
{
	(void)rest;
	clock_ns += (uint64_t)ts->tv_sec * 1000000000u + (uint64_t)ts->tv_nsec;
	return 0;
}

void world_time_pass(uint64_t ns)
{
	clock_ns += ns;
}

uint64_t world_time(void)
{
	return clock_ns;
}

ssize_t __wrap_getrandom(void *buf, size_t n, unsigned int flags)
{
	unsigned char *p = buf;

	(void)flags;
	for (size_t i = 0; i < n; i++)
		p[i] = (unsigned char)mix(&random_state);
	return (ssize_t)n;
}

pid_t __wrap_getpid(void)
{
	return (pid_t)world_pid(acting);
}

long __wrap_syscall(long number, ...)
{
	long a[6];
	va_list ap;

	va_start(ap, number);
	for (int i = 0; i < 6; i++)
		a[i] = va_arg(ap, long);
	va_end(ap);
	if (number == SYS_gettid)
		return (long)world_pid(acting);
	if (number == SYS_membarrier)
		return 0;
	if (number == SYS_futex) {
		if (a[1] != FUTEX_WAIT)
			return 0;
		if (a[3])
			__wrap_nanosleep((const struct timespec *)(uintptr_t)a[3], NULL);
		errno = ETIMEDOUT;
		return -1;
	}
	return __real_syscall(number, a[0], a[1], a[2], a[3], a[4], a[5]);
}

/* The segment is mapped once, whoever asks: so one log has all stores. */
void *__wrap_mmap(void *at, size_t n, int prot, int flags, int fd, off_t off)
{
	void *p;

	if (prot == PROT_NONE)
		return MAP_FAILED; /* room for a place of its choice: there is one place */
	if (!(flags & MAP_SHARED))
		return __real_mmap(at, n, prot, flags, fd, off);
	if (hooks_base)
		return hooks_base;
	p = __real_mmap(at, n, prot, flags, fd, off);
	if (p != MAP_FAILED) {
		hooks_base = p;
		hooks_bytes = n;
	}
	return p;
}

int __wrap_munmap(void *at, size_t n)
{
	return at == hooks_base ? 0 : __real_munmap(at, n);
}

/* Whether nobody has the file open: the harness says who lives, and asks only when that is nobody. */
bool __wrap_fnd_lease_take(int fd)
{
	(void)fd;
	return true;
}

void __wrap_fnd_lease_drop(int fd)
{
	(void)fd;
}

int __wrap_unlink(const char *path)
{
	if (hooks_mode == HOOKS_OFF)
		return __real_unlink(path);
	world_unlinked = hooks_mark();
	return 0;
}

void world_name(bool there)
{
	char path[128], aside[140];

	snprintf(path, sizeof(path), "/dev/shm/foundation.%u.%s", (unsigned int)geteuid(), w.name);
	snprintf(aside, sizeof(aside), "%s.gone", path);
	if (rename(there ? aside : path, there ? path : aside) != 0)
		must(-errno, "the segment's name");
}

/* --- evidence: the harness knows ------------------------------------------------------------------ */

bool world_pid_dead(uint32_t pid)
{
	return pid < PID_BASE || pid >= PID_BASE + WHO_MAX || w.actor[pid - PID_BASE].dead;
}

int fnd_identity_self(struct fnd_identity *ret_id)
{
	*ret_id = (struct fnd_identity){ .pid = world_pid(acting),
					 .flags = FND_IDENTITY_EXACT,
					 .pidfd_ino = world_pid(acting) * 10ULL,
					 .start_time = world_pid(acting) * 100ULL,
					 .pidns = 1 };
	return 0;
}

/* By its pid alone: in another place a stranger has it. */
enum fnd_evidence fnd_evidence_claiming(uint32_t pid)
{
	bool strangers = w.strangers && pid >= PID_BASE && pid != world_pid(VICTIM) &&
			 pid != world_pid(COMER) && pid != world_pid(COMER_2);

	return world_pid_dead(pid) && !strangers ? FND_PROVEN_DEAD : FND_ALIVE_OR_UNKNOWN;
}

enum fnd_evidence fnd_evidence_process(const struct fnd_identity *id, uint64_t dev, uint64_t ino,
				       unsigned flags)
{
	(void)dev, (void)ino, (void)flags;
	return world_pid_dead(id->pid) ? FND_PROVEN_DEAD : FND_ALIVE_OR_UNKNOWN;
}

enum fnd_evidence fnd_evidence_thread(const struct fnd_identity *id, uint32_t tid, uint64_t dev,
				      uint64_t ino, unsigned flags)
{
	(void)tid;
	return fnd_evidence_process(id, dev, ino, flags);
}

/* Killed by signal 9, and its zombie is there. */
int fnd_evidence_status(uint32_t pid, uint64_t start_time, int *ret_status)
{
	(void)start_time;
	if (!world_pid_dead(pid))
		return 0;
	*ret_status = 9;
	return 1;
}

int fnd_evidence_rule(void)
{
	return FND_RULE_PIDFD_INODE;
}

void fnd_evidence_force_old_rule(int on)
{
	(void)on;
}

/* --- actors --------------------------------------------------------------------------------------- */

void world_act(enum who who)
{
	acting = who;
	fnd_reader_self = w.actor[who].th ? &w.actor[who].th->reader : NULL;
}

/* A handle of the actor's own on the founder's mapping. */
static struct fnd_segment *handle_make(enum who who)
{
	static uint64_t id = 1ULL << 32; /* far from those the library gives out */
	struct fnd_segment *seg = malloc(sizeof(*seg));

	if (!seg)
		must(-ENOMEM, "handle");
	memcpy(seg, w.actor[FOUNDER].seg, sizeof(*seg));
	seg->fork_mark = __real_mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	seg->fork_mark->mine = 1;
	seg->id = ++id;
	seg->fd = dup(seg->fd);
	seg->handles = 1;
	seg->self_slot = seg->self_gen = 0;
	seg->thread_list = NULL;
	seg->next = NULL;
	world_act(who);
	fnd_identity_self(&seg->identity);
	return seg;
}

void world_join(enum who who, bool thread)
{
	struct actor *a = &w.actor[who];

	a->seg = handle_make(who);
	a->here = true;
	must(fnd_process_claim(a->seg), "claiming a process slot");
	if (thread) {
		must(fnd_thread_enter(a->seg, &a->th), "claiming a thread slot");
		a->th->next = NULL;
	}
	world_keep(who);
	world_act(FOUNDER);
}

int world_arrive(enum who who)
{
	struct actor *a = &w.actor[who];
	int err = fnd_segment_attach(w.name, NULL, &a->seg);

	if (err)
		return err;
	a->here = true;
	return fnd_thread_enter(a->seg, &a->th);
}

void world_depart(enum who who)
{
	struct actor *a = &w.actor[who];

	if (a->here)
		fnd_segment_detach(a->seg);
	a->seg = NULL;
	a->th = NULL;
	a->here = false;
}

void world_die(enum who who)
{
	w.actor[who].dead = true;
}

void world_keep(enum who who)
{
	struct actor *a = &w.actor[who];

	a->seg_kept = *a->seg;
	if (a->th)
		a->th_kept = *a->th;
}

void world_reset(enum who who)
{
	struct actor *a = &w.actor[who];

	*a->seg = a->seg_kept;
	if (a->th)
		*a->th = a->th_kept;
}

void world_hide(void)
{
	w.actor[FOUNDER].seg->fork_mark->mine = 0;
}

/* --- the segment ---------------------------------------------------------------------------------- */

void world_make(uint64_t seed, const struct shape *shape)
{
	struct fnd_segment_options opt = { .size = sizeof(opt),
					   .processes = shape->processes,
					   .threads = shape->threads,
					   .max_bytes = shape->max_bytes };
	static unsigned int count;

	if (count == 0) {
		atexit(clean_up);
		signal(SIGTERM, on_term);
	}
	memset(&w, 0, sizeof(w));
	world_unlinked = SIZE_MAX;
	w.seed = w.random = random_state = seed;
	w.shape = *shape;
	clock_ns = CLOCK_START;
	/* the real getpid(): the name is this process's among others */
	snprintf(w.name, sizeof(w.name), "stores-%ld-%u", __real_syscall(SYS_getpid), count++);
	hooks_mode = HOOKS_OFF;
	hooks_base = NULL;
	world_act(FOUNDER);
	must(fnd_segment_create(w.name, &opt, &w.actor[FOUNDER].seg), "create");
	w.actor[FOUNDER].here = true;
	if (shape->backed)
		must(fnd_space_back(w.actor[FOUNDER].seg, shape->max_bytes), "backing");
	must(fnd_thread_enter(w.actor[FOUNDER].seg, &w.actor[FOUNDER].th), "founder's thread");
	w.actor[FOUNDER].th->next = NULL;
	world_join(READER, true);
	world_join(RESCUER, true);
	world_join(SECOND, true);
	if (shape->table.size)
		must(fnd_table_open(w.actor[FOUNDER].seg, "main", &shape->table, &w.table), "table");
}

/* The victim's own handle on the main table. */
void world_table(void)
{
	world_act(VICTIM);
	must(fnd_table_open(w.actor[VICTIM].seg, "main", NULL, &w.victims), "the victim's table");
	world_act(FOUNDER);
}

static void handle_free(enum who who)
{
	struct actor *a = &w.actor[who];

	if (!a->here)
		return;
	__real_munmap(a->seg->fork_mark, 4096);
	close(a->seg->fd);
	free(a->th);
	free(a->seg);
}

/* The founder leaves by the front door, so that the library's list of attachments is right. */
void world_end(void)
{
	char *base = hooks_base;
	uint64_t bytes = hooks_bytes;

	fnd_table_close(w.table);
	fnd_table_close(w.victims);
	for (enum who i = FOUNDER + 1; i < WHO_MAX; i++)
		handle_free(i);
	world_act(FOUNDER);
	w.actor[FOUNDER].seg->fork_mark->mine = 1;
	fnd_thread_first()->next = NULL;
	must(fnd_segment_detach(w.actor[FOUNDER].seg), "detach");
	__real_munmap(base, bytes);
	hooks_base = NULL;
	must(fnd_segment_destroy(w.name, FND_DESTROY_FORCE), "destroy");
	__real_munmap(hooks_base, hooks_bytes);
	hooks_base = NULL;
	hooks_bytes = 0;
}
