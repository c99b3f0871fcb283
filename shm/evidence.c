/* SPDX-License-Identifier: MIT */
/*
 * Death evidence: see evidence.h for the rules (E1 to E6) and for the deaths that are missed.
 *
 * Every look at a process goes through one pidfd that stays open until the answer is given. The
 * pidfd pins the kernel's struct pid, so "the same process" is a fact, not a comparison of numbers,
 * and /proc is entered only through the number that the pidfd's own fdinfo shows for that mount of
 * /proc: a /proc of another pid namespace, left behind by unshare(), would show a stranger under
 * our number.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "evidence.h"

/* Headers older than the kernels we run on lack these. */
#define MAGIC_PIDFS 0x50494446
#define MAGIC_PROC 0x9fa0
#define MAGIC_NSFS 0x6e736673
#define OPEN_THREAD O_EXCL                   /* PIDFD_THREAD, Linux 6.9 */
#define IOCTL_GET_PID_NAMESPACE _IO(0xFF, 5) /* PIDFD_GET_PID_NAMESPACE, Linux 6.11 */
#define SELF "/proc/thread-self"             /* not /proc/self: its main thread may have left */

enum look {
	LOOK_UNSURE,
	LOOK_SAME, /* it is the recorded process, and it had not exited */
	LOOK_DEAD,
};

enum maps {
	MAPS_NO_EVIDENCE, /* unreadable or odd */
	MAPS_EMPTY,
	MAPS_WITHOUT,
	MAPS_WITH,
};

static int old_rule_forced; /* relaxed: a test switch, set before the calls it is for */
static int pidfs_seen;      /* relaxed: goes from 0 to 1 once, and 0 only costs another fstatfs */

/*
 * What every public function does first and last: errno is kept, no call in between is cancelled.
 */
struct frame {
	int saved_errno;
	int cancel_state;
};

static struct frame enter(void)
{
	struct frame f = { .saved_errno = errno };

	pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &f.cancel_state);
	return f;
}

static void leave(const struct frame *f)
{
	pthread_setcancelstate(f->cancel_state, NULL);
	errno = f->saved_errno;
}

static int open_pidfd(uint32_t pid, unsigned flags)
{
	int fd;

	if (pid == 0 || pid > INT_MAX)
		return -ERANGE; /* a code the kernel does not use here: never evidence */
	fd = (int)syscall(SYS_pidfd_open, (pid_t)pid, flags);
	return fd >= 0 ? fd : -errno;
}

static int on_filesystem(int fd, unsigned long magic)
{
	struct statfs fs;

	return fstatfs(fd, &fs) == 0 && (unsigned long)fs.f_type == magic;
}

/* With a 32-bit ino_t the kernel folds the number, and it is no longer unique. */
static int inode_is_unique(int pidfd)
{
	if (sizeof(long) < 8 || __atomic_load_n(&old_rule_forced, __ATOMIC_RELAXED))
		return 0;
	if (__atomic_load_n(&pidfs_seen, __ATOMIC_RELAXED))
		return 1;
	if (!on_filesystem(pidfd, MAGIC_PIDFS))
		return 0;
	__atomic_store_n(&pidfs_seen, 1, __ATOMIC_RELAXED);
	return 1;
}

/* Opens a path only if it really is procfs: a bind mount or an emulation proves nothing. */
static int proc_open(int dir, const char *path, int flags)
{
	int fd = openat(dir, path, O_RDONLY | O_CLOEXEC | O_NOCTTY | flags);

	if (fd >= 0 && !on_filesystem(fd, MAGIC_PROC)) {
		close(fd);
		return -1;
	}
	return fd;
}

/* The beginning of a small proc file, as a string. Returns its length or -1. */
static ssize_t proc_read(int dir, const char *path, char *buf, size_t size)
{
	int fd = proc_open(dir, path, 0);
	size_t len = 0;
	ssize_t n = -1;

	if (fd < 0)
		return -1;
	while (len < size - 1 && (n = read(fd, buf + len, size - 1 - len)) > 0)
		len += (size_t)n;
	close(fd);
	buf[len] = '\0';
	return n < 0 ? -1 : (ssize_t)len;
}

/* The number /proc shows this pidfd's process under; 0 when there is none (any more, or at all). */
static int number_in_proc(int pidfd)
{
	char path[64], buf[512];
	const char *at;
	long n;

	snprintf(path, sizeof(path), SELF "/fdinfo/%d", pidfd);
	if (proc_read(AT_FDCWD, path, buf, sizeof(buf)) <= 0)
		return 0;
	at = strstr(buf, "\nPid:\t");
	if (!at)
		return 0;
	n = strtol(at + 6, NULL, 10);
	return n > 0 && n <= INT_MAX ? (int)n : 0;
}

/*
 * The /proc directory of a pidfd's process. The number was this process's before and after the
 * open, and a process never gets its number back once it lost it, so the directory is this
 * process's. Opens below it fail once the process is reaped; they never reach a successor.
 */
static int proc_directory(int pidfd)
{
	char path[32];
	int n = number_in_proc(pidfd);
	int dir;

	if (n == 0)
		return -1;
	snprintf(path, sizeof(path), "/proc/%d", n);
	dir = proc_open(AT_FDCWD, path, O_PATH | O_DIRECTORY);
	if (dir >= 0 && number_in_proc(pidfd) != n) {
		close(dir);
		return -1;
	}
	return dir;
}

/*
 * Field 22. The command name before it may hold blanks and parentheses, the fields after it do not.
 */
static uint64_t start_time_in(int dir, const char *path)
{
	char buf[1024];
	char *at, *end;
	unsigned long long v;

	if (proc_read(dir, path, buf, sizeof(buf)) <= 0)
		return 0;
	at = strrchr(buf, ')');
	for (int field = 2; at && field < 22; field++)
		at = strchr(at + 1, ' ');
	if (!at)
		return 0;
	errno = 0;
	v = strtoull(at + 1, &end, 10);
	return errno == 0 && *end == ' ' ? (uint64_t)v : 0;
}

static uint32_t namespace_inode(int fd)
{
	struct stat st;

	if (!on_filesystem(fd, MAGIC_NSFS) || fstat(fd, &st) < 0 || st.st_ino > UINT32_MAX)
		return 0;
	return (uint32_t)st.st_ino;
}

static uint32_t own_namespace(const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	uint32_t ino;

	if (fd < 0)
		return 0;
	ino = namespace_inode(fd);
	close(fd);
	return ino;
}

/*
 * Asked anew each time: a cached answer would be wrong in a child that was forked into a new
 * namespace.
 */
static uint32_t own_pidns(void)
{
	uint32_t ino = own_namespace(SELF "/ns/pid");
	int pidfd, fd;

	if (ino != 0)
		return ino;
	pidfd = open_pidfd((uint32_t)getpid(), 0);
	if (pidfd < 0)
		return 0;
	fd = ioctl(pidfd, IOCTL_GET_PID_NAMESPACE, 0);
	if (fd >= 0) {
		ino = namespace_inode(fd);
		close(fd);
	}
	close(pidfd);
	return ino;
}

/* A number means a process only in its own namespace: a stranger's absence here proves nothing. */
static enum fnd_evidence confirm_namespace(const struct fnd_identity *id)
{
#ifndef FND_MUTANT_EVIDENCE_PIDNS
	if (id->pidns != 0 && id->pidns != own_pidns())
		return FND_ALIVE_OR_UNKNOWN;
#endif
	(void)id;
	return FND_PROVEN_DEAD;
}

/* E4. Start times are shown shifted by the reader's time namespace. */
static enum look look_at_start_time(const struct fnd_identity *id, int pidfd)
{
	uint64_t now = 0;
	int dir;

	if (id->start_time == 0)
		return LOOK_UNSURE;
	dir = proc_directory(pidfd);
	if (dir >= 0) {
		now = start_time_in(dir, "stat");
		close(dir);
	}
	if (now == 0)
		return LOOK_UNSURE;
	if (now == id->start_time)
		return LOOK_SAME;
	return own_namespace(SELF "/ns/time") == id->timens ? LOOK_DEAD : LOOK_UNSURE;
}

/* E2, then E3 or E4. */
static enum look look_at(const struct fnd_identity *id, int pidfd)
{
	struct pollfd p = { .fd = pidfd, .events = POLLIN };
	struct stat st;
	int n = poll(&p, 1, 0);

	if (n < 0 || (p.revents & (POLLNVAL | POLLERR)))
		return LOOK_UNSURE;
	if (p.revents & POLLIN)
		return LOOK_DEAD;
	if (!(id->flags & FND_IDENTITY_EXACT) || !inode_is_unique(pidfd))
		return look_at_start_time(id, pidfd);
	if (fstat(pidfd, &st) < 0)
		return LOOK_UNSURE;
	return (uint64_t)st.st_ino == id->pidfd_ino ? LOOK_SAME : LOOK_DEAD;
}

/*
 * The pid exists, but as a thread's id. A living process keeps its number, so ours is gone; the
 * pidfd of the thread proves it by its inode. Without pidfs there is no such proof.
 */
static enum look look_at_thread_id(const struct fnd_identity *id)
{
	int fd;
	struct stat st;
	enum look look = LOOK_UNSURE;

	if (!(id->flags & FND_IDENTITY_EXACT))
		return LOOK_UNSURE;
	fd = open_pidfd(id->pid, OPEN_THREAD);
	if (fd == -ESRCH)
		return LOOK_DEAD;
	if (fd < 0)
		return LOOK_UNSURE;
	if (inode_is_unique(fd) && fstat(fd, &st) == 0 && (uint64_t)st.st_ino != id->pidfd_ino)
		look = LOOK_DEAD;
	close(fd);
	return look;
}

/* Digits and the character after them; NULL when the line does not look like that. */
static const char *take(const char *at, unsigned base, char after, uint64_t *ret_value)
{
	const char *digits = "0123456789abcdef", *d;
	uint64_t v = 0;
	int n = 0;

	if (!at)
		return NULL;
	for (; *at && (d = memchr(digits, *at, base)); at++, n++) {
		if (v > (UINT64_MAX - (uint64_t)(d - digits)) / base)
			return NULL;
		v = v * base + (uint64_t)(d - digits);
	}
	if (n == 0 || *at != after)
		return NULL;
	*ret_value = v;
	return at + 1;
}

/*
 * One line, or as much of its beginning as fits: "start-end perms offset major:minor inode path".
 */
static enum maps parse_line(const char *line, uint64_t dev, uint64_t ino, uint64_t *below)
{
	uint64_t start, end, offset, maj, min, inode;
	const char *at = take(line, 16, '-', &start);

	at = take(at, 16, ' ', &end);
	if (!at || strnlen(at, 5) < 5 || at[4] != ' ')
		return MAPS_NO_EVIDENCE;
	at = take(at + 5, 16, ' ', &offset);
	at = take(at, 16, ':', &maj);
	at = take(at, 16, ' ', &min);
	at = take(at, 10, ' ', &inode);
	/* The kernel lists mappings by rising address: anything else is not a whole picture. */
	if (!at || start >= end || start < *below)
		return MAPS_NO_EVIDENCE;
	*below = end;
	return inode == ino && maj == major(dev) && min == minor(dev) ? MAPS_WITH : MAPS_WITHOUT;
}

/*
 * Reads a maps file to its end, whatever its length. Paths may be long and are skipped (a newline
 * in a path is shown as \012). A file that ends inside a line is odd. The kernel ends the file
 * early when the memory it shows has lost its last user; that memory then has no thread that could
 * still write.
 */
static enum maps scan_maps(int fd, uint64_t dev, uint64_t ino)
{
	enum maps found = MAPS_EMPTY, line;
	char buf[4096], head[128];
	size_t len = 0;
	uint64_t below = 0;
	ssize_t n;

	while ((n = read(fd, buf, sizeof(buf))) > 0) {
		for (ssize_t i = 0; i < n; i++) {
			if (buf[i] != '\n') {
				if (len < sizeof(head) - 1)
					head[len] = buf[i];
				len++;
				continue;
			}
			head[len < sizeof(head) ? len : sizeof(head) - 1] = '\0';
			line = parse_line(head, dev, ino, &below);
			if (line != MAPS_WITHOUT)
				return line;
			found = MAPS_WITHOUT;
			len = 0;
		}
	}
	return n < 0 || len != 0 ? MAPS_NO_EVIDENCE : found;
}

static enum maps scan_maps_of(int dir, const char *path, uint64_t dev, uint64_t ino)
{
	int fd = proc_open(dir, path, 0);
	enum maps found;

	if (fd < 0)
		return MAPS_NO_EVIDENCE;
	found = scan_maps(fd, dev, ino);
	close(fd);
	return found;
}

/* What getdents64() fills in. */
struct directory_entry {
	uint64_t ino;
	int64_t off;
	uint16_t size;
	uint8_t type;
	char name[];
};

/* One batch of task/ entries. Returns what all of them say together with what was found before. */
static enum maps scan_batch(int dir, const char *buf, size_t bytes, uint64_t dev, uint64_t ino,
			    enum maps found)
{
	const struct directory_entry *e;
	char path[64];

	for (size_t at = 0; at < bytes; at += e->size) {
		e = (const struct directory_entry *)(buf + at);
		if (e->name[0] == '.')
			continue;
		snprintf(path, sizeof(path), "task/%s/maps", e->name);
		switch (scan_maps_of(dir, path, dev, ino)) {
		case MAPS_WITHOUT:
			found = MAPS_WITHOUT;
			break;
		case MAPS_EMPTY: /* this thread has left: says nothing about the others */
			break;
		case MAPS_WITH:
			return MAPS_WITH;
		case MAPS_NO_EVIDENCE:
			return MAPS_NO_EVIDENCE;
		}
	}
	return found;
}

/*
 * All threads of a process share one memory, and exec gives it a new one only after every other
 * thread has ended; so a thread that is not listed because it came or went meanwhile cannot
 * contradict the ones that are, and one that vanishes under our hands is taken as no evidence.
 */
static enum maps scan_threads(int dir, uint64_t dev, uint64_t ino)
{
	char buf[1024] __attribute__((aligned(8)));
	enum maps found = MAPS_EMPTY;
	int task = proc_open(dir, "task", O_DIRECTORY);
	long n = -1;

	if (task < 0)
		return MAPS_NO_EVIDENCE;
	while ((found == MAPS_EMPTY || found == MAPS_WITHOUT) &&
	       (n = syscall(SYS_getdents64, task, buf, sizeof(buf))) > 0)
		found = scan_batch(dir, buf, (size_t)n, dev, ino, found);
	close(task);
	return n < 0 ? MAPS_NO_EVIDENCE : found;
}

/* E5, for a pidfd that was just found to be the recorded, running process. */
static enum look look_for_exec(const struct fnd_identity *id, int pidfd, uint64_t dev, uint64_t ino)
{
	enum maps found;
	int dir;

	if (dev == 0 && ino == 0)
		return LOOK_SAME;
	dir = proc_directory(pidfd);
	if (dir < 0)
		return LOOK_UNSURE;
	found = scan_threads(dir, dev, ino);
#ifdef FND_MUTANT_EVIDENCE_MAIN_MAPS
	found = scan_maps_of(dir, "maps", dev, ino);
	if (found == MAPS_EMPTY)
		found = MAPS_WITHOUT;
#endif
	close(dir);
	if (found != MAPS_WITHOUT)
		return LOOK_SAME;
	/* The control: our own maps do show the segment under these numbers. */
	if (scan_maps_of(AT_FDCWD, SELF "/maps", dev, ino) != MAPS_WITH)
		return LOOK_UNSURE;
	return look_at(id, pidfd) == LOOK_UNSURE ? LOOK_UNSURE : LOOK_DEAD;
}

/*
 * E6. A pid that was reused meanwhile is no matter: then the process is dead, and its threads with
 * it.
 */
static enum look look_for_thread(const struct fnd_identity *id, int pidfd, uint32_t tid)
{
	if (tid == 0 || tid > INT_MAX)
		return LOOK_SAME;
	if (syscall(SYS_tgkill, (pid_t)id->pid, (pid_t)tid, 0) == 0 || errno != ESRCH)
		return LOOK_SAME;
	return look_at(id, pidfd) == LOOK_UNSURE ? LOOK_UNSURE : LOOK_DEAD;
}

#if defined(FND_MUTANT_EVIDENCE_STATE) || defined(FND_MUTANT_EVIDENCE_KILL0)
/* Two wrong ways to do it, for the tests of the tests. */
static enum look look_wrongly(const struct fnd_identity *id)
{
#ifdef FND_MUTANT_EVIDENCE_KILL0
	return kill((pid_t)id->pid, 0) < 0 && errno == ESRCH ? LOOK_DEAD : LOOK_SAME;
#else
	char path[32], buf[1024];
	const char *at;

	snprintf(path, sizeof(path), "/proc/%u/stat", id->pid);
	if (proc_read(AT_FDCWD, path, buf, sizeof(buf)) <= 0 || !(at = strrchr(buf, ')')))
		return LOOK_UNSURE;
	return at[2] == 'Z' || at[2] == 'X' ? LOOK_DEAD : LOOK_UNSURE;
#endif
}
#endif

static enum look look(const struct fnd_identity *id, uint32_t tid, uint64_t dev, uint64_t ino,
		      unsigned flags)
{
	enum look found;
	int pidfd = open_pidfd(id->pid, 0);

	if (pidfd == -ESRCH)
		return LOOK_DEAD;
	if (pidfd == -ENOENT || pidfd == -EINVAL)
		return look_at_thread_id(id);
	if (pidfd < 0)
		return LOOK_UNSURE;
	found = look_at(id, pidfd);
#ifdef FND_MUTANT_EVIDENCE_KILL0
	found = look_wrongly(id);
#elif defined(FND_MUTANT_EVIDENCE_STATE)
	if (look_wrongly(id) == LOOK_DEAD)
		found = LOOK_DEAD;
#endif
	if (found == LOOK_SAME)
		found = look_for_thread(id, pidfd, tid);
	if (found == LOOK_SAME && (flags & FND_EVIDENCE_DEEP))
		found = look_for_exec(id, pidfd, dev, ino);
	close(pidfd);
	return found;
}

enum fnd_evidence fnd_evidence_thread(const struct fnd_identity *id, uint32_t tid, uint64_t dev,
				      uint64_t ino, unsigned flags)
{
	struct frame frame = enter();
	enum fnd_evidence answer = FND_ALIVE_OR_UNKNOWN;

	if (look(id, tid, dev, ino, flags) == LOOK_DEAD)
		answer = confirm_namespace(id);
	leave(&frame);
	return answer;
}

enum fnd_evidence fnd_evidence_process(const struct fnd_identity *id, uint64_t dev, uint64_t ino,
				       unsigned flags)
{
	return fnd_evidence_thread(id, 0, dev, ino, flags);
}

/* Field 52 of a zombie's stat is what its parent will be told. */
int fnd_evidence_status(uint32_t pid, uint64_t start_time, int *ret_status)
{
	struct frame frame = enter();
	char path[32], buf[1024], *at = NULL, *last;
	unsigned long long started = 0;
	int known = 0;

	snprintf(path, sizeof(path), "/proc/%u/stat", pid);
	if (start_time && proc_read(AT_FDCWD, path, buf, sizeof(buf)) > 0)
		at = strrchr(buf, ')');
	last = at ? strrchr(at, ' ') : NULL;
	if (at && at[1] == ' ' && at[2] == 'Z' && last > at + 2) {
		for (int field = 2; at && field < 22; field++)
			at = strchr(at + 1, ' ');
		started = at ? strtoull(at + 1, NULL, 10) : 0;
		known = started == start_time;
		if (known)
			*ret_status = (int)strtol(last + 1, NULL, 10);
	}
	leave(&frame);
	return known;
}

enum fnd_evidence fnd_evidence_claiming(uint32_t pid)
{
	struct frame frame = enter();
	int pidfd = open_pidfd(pid, 0);

	if (pidfd >= 0)
		close(pidfd);
	leave(&frame);
	return pidfd == -ESRCH ? FND_PROVEN_DEAD : FND_ALIVE_OR_UNKNOWN;
}

static int record_self(struct fnd_identity *id)
{
	struct stat st;
	int pidfd = open_pidfd(id->pid, 0);

	if (pidfd == -EMFILE || pidfd == -ENFILE || pidfd == -ENOMEM)
		return pidfd;
	if (pidfd >= 0) {
		if (inode_is_unique(pidfd) && fstat(pidfd, &st) == 0) {
			id->flags |= FND_IDENTITY_EXACT;
			id->pidfd_ino = (uint64_t)st.st_ino;
		}
		close(pidfd);
	}
	id->pidns = own_pidns();
	id->timens = own_namespace(SELF "/ns/time");
	id->start_time = start_time_in(AT_FDCWD, "/proc/self/stat");
	return 0;
}

int fnd_identity_self(struct fnd_identity *ret_id)
{
	struct frame frame = enter();
	struct fnd_identity id = { .pid = (uint32_t)getpid() };
	int r = record_self(&id);

	if (r == 0)
		*ret_id = id;
	leave(&frame);
	return r;
}

int fnd_evidence_rule(void)
{
	struct frame frame = enter();
	int rule = FND_RULE_NONE;
	int pidfd = open_pidfd((uint32_t)getpid(), 0);

	if (pidfd >= 0) {
		rule = inode_is_unique(pidfd) ? FND_RULE_PIDFD_INODE : FND_RULE_START_TIME;
		close(pidfd);
	}
	leave(&frame);
	return rule;
}

void fnd_evidence_force_old_rule(int on)
{
	__atomic_store_n(&old_rule_forced, on != 0, __ATOMIC_RELAXED);
}
