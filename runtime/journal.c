// SPDX-License-Identifier: MIT
/*
 * The state journal: lines on disk, appended by whoever changes something.
 *
 *   <crc32c of the JSON, 8 hex digits> <one JSON object>\n
 *
 * Guarantees.
 *  A. A record whose append returned 0 is on disk, whole, and stays there until it is rotated away or purged.
 *  B. Appenders exclude each other by flock(2): the kernel frees the lock of one that dies (journal_lock.c).
 *  C. What a dead appender left unfinished is cut off by the next one, which says so in a record of its own.
 *  D. A failed append leaves the file as it was.
 *  E. Several records written under one lock are there whole, as many as came to the disk, in order.
 *
 * Rotation makes the next file aside, then renames the old one away and the new one in: a death in between
 * leaves at worst no current file, and the next appender takes the number to go on with from the newest rotated
 * one. The next file begins with what a segment made anew needs: the caller's `state` record; where the caller
 * has none, the lines that tell flags and stage are carried over as they are, with their numbers. The newest
 * record of the configuration always is.
 */
#include "journal_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "json.h"

#define DIRECTORY_BYTES 4096 /* a file below that may be so new that its name is not on disk */
#define STATELESS 4u /* who has no state record to begin a file with lets it grow to so many times the limit */

int fnd_journal_fail(int err, const char *what, const char *path)
{
	return fnd_error_set(err, "journal: %s %s: %s", what, path, strerror(err));
}

/* --- where ---------------------------------------------------------------------------------------- */

/* The directory's name. One's own UID/NAME is NAME; @ is in no name, so that no two segments share one. */
static int name_of(const char *segment, char *name, size_t size)
{
	const char *slash = strchr(segment, '/'), *bare = slash ? slash + 1 : segment;
	size_t bytes = strlen(bare), digits = slash ? (size_t)(slash - segment) : 0;

	if (bytes < 1 || bytes > FND_JOURNAL_NAME_MAX || bare[0] == '.' || digits > 10 || (slash && !digits) ||
	    strspn(segment, "0123456789") < digits ||
	    strspn(bare, "abcdefghijklmnopqrstuvwxyz0123456789._-") != bytes)
		return fnd_error_set(EINVAL, "journal: no segment has the name \"%.80s\"", segment);
	if (slash && strtoul(segment, NULL, 10) != geteuid())
		snprintf(name, size, "%.*s@%s", (int)digits, segment, bare);
	else
		snprintf(name, size, "%s", bare);
	return 0;
}

static int find_directory(struct fnd_journal *j, const char *segment)
{
	const char *state = getenv("FOUNDATION_STATE_DIR"), *xdg = getenv("XDG_STATE_HOME"), *home = getenv("HOME");
	char name[96];
	int n;

	n = name_of(segment, name, sizeof(name));
	if (n)
		return n;
	if (state && *state)
		n = snprintf(j->dir, sizeof(j->dir), "%s/%s", state, name);
	else if (geteuid() == 0)
		n = snprintf(j->dir, sizeof(j->dir), "/var/lib/foundation/%s", name);
	else if (xdg && *xdg)
		n = snprintf(j->dir, sizeof(j->dir), "%s/foundation/%s", xdg, name);
	else
		n = snprintf(j->dir, sizeof(j->dir), "%s/.local/state/foundation/%s", home && *home ? home : "/", name);
	return n < (int)sizeof(j->dir) ? 0 : fnd_error_set(ENAMETOOLONG, "journal: the state directory's path");
}

static void read_boot(struct fnd_journal *j)
{
	int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : read(fd, j->boot, sizeof(j->boot) - 1);

	j->boot[n == 36 ? 36 : 0] = '\0';
	if (fd >= 0)
		close(fd);
}

int fnd_journal_open(const char *segment, const struct fnd_journal_options *opt, struct fnd_journal **ret_journal)
{
	struct fnd_journal *j;
	int err;

	if (!segment || !ret_journal ||
	    (opt && (opt->size != sizeof(*opt) || opt->keep > FND_JOURNAL_KEEP_MAX)))
		return -EINVAL;
	j = calloc(1, sizeof(*j));
	if (!j)
		return -ENOMEM;
	j->max_bytes = opt && opt->max_bytes ? opt->max_bytes : FND_JOURNAL_MAX_BYTES;
	j->keep = opt && opt->keep ? opt->keep : FND_JOURNAL_KEEP;
	j->lock_timeout_ms = opt && opt->lock_timeout_ms ? opt->lock_timeout_ms : 5000;
	err = find_directory(j, segment);
	if (err) {
		free(j);
		return err;
	}
	read_boot(j);
	*ret_journal = j;
	return 0;
}

void fnd_journal_close(struct fnd_journal *j)
{
	if (!j)
		return;
	free(j->state);
	free(j);
}

const char *fnd_journal_directory(const struct fnd_journal *j)
{
	return j->dir;
}

int fnd_journal_keep_state(struct fnd_journal *j, const char *members)
{
	char *copy;

	if (strlen(members) > FND_JOURNAL_RECORD_MAX - 512)
		return fnd_error_set(E2BIG, "journal: a state of %zu bytes", strlen(members));
	copy = strdup(members);
	if (!copy)
		return -ENOMEM;
	free(j->state);
	j->state = copy;
	return 0;
}

int fnd_journal_limits_set(struct fnd_journal *j, uint64_t max_bytes, uint32_t keep)
{
	if (max_bytes == 0 || keep == 0 || keep > FND_JOURNAL_KEEP_MAX)
		return -EINVAL;
	j->max_bytes = max_bytes;
	j->keep = keep;
	return 0;
}

void fnd_journal_path(const struct fnd_journal *j, const char *what, unsigned int number,
		      char path[FND_JOURNAL_PATH])
{
	if (number)
		snprintf(path, FND_JOURNAL_PATH, "%s/%s.%u", j->dir, what, number);
	else
		snprintf(path, FND_JOURNAL_PATH, "%s/%s", j->dir, what);
}

int fnd_journal_open_file(const struct fnd_journal *j, const char *what, unsigned int number, int flags)
{
	char path[FND_JOURNAL_PATH];
	struct stat st;
	int fd;

	fnd_journal_path(j, what, number, path);
	/* a FIFO in its place must not make anybody wait */
	fd = open(path, flags | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0600);
	if (fd < 0)
		return -errno;
	if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode)) {
		close(fd);
		return -EINVAL;
	}
	return fd;
}

/* So that a directory that was made is there after a power cut. */
static void sync_parent(const char *path)
{
	char parent[FND_JOURNAL_PATH], *slash;
	int fd;

	snprintf(parent, sizeof(parent), "%s", path);
	slash = strrchr(parent, '/');
	if (!slash)
		return;
	slash[slash == parent] = '\0';
	fd = open(parent, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return;
	fsync(fd);
	close(fd);
}

/* The directory and those above it, private to the user. */
static int make_directory(const struct fnd_journal *j)
{
	char path[FND_JOURNAL_PATH];

	snprintf(path, sizeof(path), "%s", j->dir);
	for (char *c = path + 1;; c++) {
		char end = *c;

		if (end && end != '/')
			continue;
		*c = '\0';
		if (mkdir(path, 0700) == 0)
			sync_parent(path);
		else if (errno != EEXIST)
			return fnd_journal_fail(errno, "making", path);
		*c = end;
		if (!end)
			return 0;
	}
}

static int sync_directory(const struct fnd_journal *j)
{
	int fd = open(j->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC), err = 0;

	if (fd < 0)
		return fnd_journal_fail(errno, "opening", j->dir);
	if (fsync(fd) != 0)
		err = fnd_journal_fail(errno, "syncing", j->dir);
	close(fd);
	return err;
}

/* --- lines ---------------------------------------------------------------------------------------- */

static uint64_t wall_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_REALTIME, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

/* A whole line with its newline into @buf. Its length, or -E2BIG. */
static int line_make(const struct fnd_journal *j, uint64_t n, const char *type, const char *members, char *buf,
		     size_t size)
{
	struct fnd_json out = { .buf = buf + FND_JOURNAL_CRC, .size = size - FND_JOURNAL_CRC - 1 };
	char digits[FND_JOURNAL_CRC + 1];

	fnd_json_raw(&out, "{");
	fnd_json_number(&out, "n", n);
	fnd_json_number(&out, "at", wall_ns());
	fnd_json_text(&out, "boot", j->boot);
	fnd_json_text(&out, "type", type);
	fnd_json_number(&out, "pid", (uint64_t)getpid());
	if (*members) {
		fnd_json_key(&out, NULL);
		fnd_json_raw(&out, members);
	}
	fnd_json_raw(&out, "}");
	if (out.full || out.used + FND_JOURNAL_CRC > FND_JOURNAL_RECORD_MAX)
		return fnd_error_set(E2BIG, "journal: a record has at most %u bytes", FND_JOURNAL_RECORD_MAX);
	if (!fnd_json_valid(out.buf, out.used))
		return fnd_error_set(EINVAL, "journal: members that are no JSON: %.60s", members);
	snprintf(digits, sizeof(digits), "%08x ", fnd_journal_crc(out.buf, out.used));
	memcpy(buf, digits, FND_JOURNAL_CRC);
	buf[FND_JOURNAL_CRC + out.used] = '\n';
	return (int)(FND_JOURNAL_CRC + out.used + 1);
}

/* --- under the lock ------------------------------------------------------------------------------- */

static uint64_t last_number_of(const struct fnd_journal *j, unsigned int rotated)
{
	struct fnd_journal_tail t = { .fd = fnd_journal_open_file(j, FND_JOURNAL_FILE, rotated, O_RDONLY) };

	if (t.fd < 0)
		return 0;
	if (fnd_journal_tail_look(&t))
		t.last_n = 0;
	close(t.fd);
	return t.last_n;
}

/* All or nothing: a short write or a failed sync takes back what is there. */
static int write_whole(struct fnd_journal_tail *t, const char *line, size_t bytes)
{
	ssize_t n;
	int err = 0;

	do {
		n = pwrite(t->fd, line, bytes, t->sound);
	} while (n < 0 && errno == EINTR);
	if (n != (ssize_t)bytes)
		err = n < 0 ? errno : ENOSPC;
	else if (fdatasync(t->fd) != 0)
		err = errno; /* a failed sync is a failed append: never tried again */
	if (!err) {
		t->sound += n;
		return 0;
	}
	if (ftruncate(t->fd, t->sound) != 0)
		return fnd_journal_fail(err, "writing, and cutting off again,", FND_JOURNAL_FILE);
	return fnd_journal_fail(err, "writing", FND_JOURNAL_FILE);
}

static int append_line(const struct fnd_journal *j, struct fnd_journal_tail *t, const char *type, const char *members,
		       char *buf)
{
	int n = line_make(j, t->last_n + 1, type, members, buf, FND_JOURNAL_RECORD_MAX + 2);
	int err = n < 0 ? n : write_whole(t, buf, (size_t)n);

	if (!err)
		t->last_n++;
	return err;
}

/*
 * What an appender that died has left. More than a record's length is damage of another kind: it stays where it is,
 * readers pass over it, and a newline keeps the next record clear of it.
 */
static int tail_cut(const struct fnd_journal *j, struct fnd_journal_tail *t, char *buf)
{
	off_t cut = t->bytes - t->sound;
	bool keep = cut > FND_JOURNAL_RECORD_MAX + 1;
	char members[64];

	if (cut == 0)
		return 0;
	if (keep) {
		t->sound = t->bytes;
		errno = 0;
		if (pwrite(t->fd, "\n", 1, t->sound) != 1)
			return fnd_journal_fail(errno ? errno : ENOSPC, "writing", FND_JOURNAL_FILE);
		t->sound++;
	} else if (ftruncate(t->fd, t->sound) != 0) {
		return fnd_journal_fail(errno, "cutting the tail of", FND_JOURNAL_FILE);
	}
	snprintf(members, sizeof(members), "\"bytes\":%lld", (long long)cut);
	return append_line(j, t, keep ? "journal.damaged" : "journal.cut", members, buf);
}

/* --- rotation ------------------------------------------------------------------------------------- */

struct carry {
	bool flags;		 /* the caller has no state record */
	uint64_t state, config; /* numbers of the newest records of the kind */
	struct fnd_journal_tail *to;
};

static int carry_find(const char *line, size_t bytes, void *arg)
{
	struct carry *c = arg;
	char type[64] = "";

	fnd_json_get_text(line + FND_JOURNAL_CRC, bytes - FND_JOURNAL_CRC, "type", type, sizeof(type));
	if (strcmp(type, "state") == 0)
		c->state = fnd_journal_line_number(line, bytes);
	if (strncmp(type, "config.", 7) == 0)
		c->config = fnd_journal_line_number(line, bytes);
	return 0;
}

static int carry_copy(const char *line, size_t bytes, void *arg)
{
	const uint64_t n = fnd_journal_line_number(line, bytes);
	struct carry *c = arg;
	const char *flags;
	size_t len;

	if (n != c->config && !(c->flags && n >= c->state &&
				fnd_json_find(line + FND_JOURNAL_CRC, bytes - FND_JOURNAL_CRC, "flags", &flags, &len)))
		return 0;
	errno = 0;
	if (pwrite(c->to->fd, line, bytes, c->to->sound) != (ssize_t)bytes ||
	    pwrite(c->to->fd, "\n", 1, c->to->sound + (off_t)bytes) != 1)
		return fnd_journal_fail(errno ? errno : ENOSPC, "carrying over to", FND_JOURNAL_FILE ".new");
	c->to->sound += (off_t)bytes + 1;
	return 0;
}

/* The next file, whole, under another name. */
static int next_make(const struct fnd_journal *j, const struct fnd_journal_tail *t, struct fnd_journal_tail *fresh,
		     char *buf)
{
	struct carry c = { .flags = !j->state, .to = fresh };
	unsigned int damaged;
	int err;

	err = fnd_journal_lines(t->fd, carry_find, &c, &damaged);
	if (!err && (c.config || c.flags))
		err = fnd_journal_lines(t->fd, carry_copy, &c, &damaged);
	if (!err && j->state)
		err = append_line(j, fresh, "state", j->state, buf);
	else if (!err) /* the last line has the last number */
		err = append_line(j, fresh, "journal.rotated", "", buf);
	if (!err && fsync(fresh->fd) != 0)
		err = fnd_journal_fail(errno, "syncing", FND_JOURNAL_FILE ".new");
	return err;
}

static int rename_all(const struct fnd_journal *j)
{
	char from[FND_JOURNAL_PATH], to[FND_JOURNAL_PATH];

	for (unsigned int i = j->keep; i > 0; i--) {
		fnd_journal_path(j, FND_JOURNAL_FILE, i, to);
		fnd_journal_path(j, FND_JOURNAL_FILE, i - 1, from);
		if (rename(from, to) != 0 && errno != ENOENT)
			return fnd_journal_fail(errno, "renaming", from);
	}
	for (unsigned int i = j->keep + 1; i <= FND_JOURNAL_KEEP_MAX; i++) { /* of a time when more were kept */
		fnd_journal_path(j, FND_JOURNAL_FILE, i, to);
		unlink(to);
	}
	fnd_journal_path(j, FND_JOURNAL_FILE ".new", 0, from);
	fnd_journal_path(j, FND_JOURNAL_FILE, 0, to);
	if (rename(from, to) != 0)
		return fnd_journal_fail(errno, "renaming", from);
	return sync_directory(j);
}

/* A next file that cannot be made (a full disk) is no failure: the old one goes on. */
static int rotate(const struct fnd_journal *j, struct fnd_journal_tail *t, char *buf)
{
	struct fnd_journal_tail fresh = { .last_n = t->last_n };
	char path[FND_JOURNAL_PATH];
	int err;

	fnd_journal_path(j, FND_JOURNAL_FILE ".new", 0, path);
	unlink(path);
	fresh.fd = fnd_journal_open_file(j, FND_JOURNAL_FILE ".new", 0, O_RDWR | O_CREAT | O_EXCL);
	if (fresh.fd < 0)
		return 0;
	if (next_make(j, t, &fresh, buf)) {
		close(fresh.fd);
		unlink(path);
		return 0;
	}
	err = rename_all(j);
	if (err) {
		close(fresh.fd);
		return err;
	}
	close(t->fd);
	*t = fresh;
	return 0;
}

static bool rotation_due(const struct fnd_journal *j, const struct fnd_journal_tail *t)
{
	uint64_t limit = j->max_bytes;

	if (!j->state)
		limit = limit > UINT64_MAX / STATELESS ? UINT64_MAX : limit * STATELESS;
	return (uint64_t)t->sound >= limit;
}

/* --- the lock ------------------------------------------------------------------------------------- */

/* Has it still got its name? A purge takes it away. */
static bool lock_named(const struct fnd_journal *j, int fd)
{
	char path[FND_JOURNAL_PATH];
	struct stat ours, named;

	fnd_journal_path(j, "lock", 0, path);
	return fstat(fd, &ours) == 0 && lstat(path, &named) == 0 && ours.st_dev == named.st_dev &&
	       ours.st_ino == named.st_ino;
}

static uint64_t clock_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000u + (uint64_t)ts.tv_nsec / 1000000u;
}

/* One lock file for all files, never renamed. 0 and *ret_fd, or an error. */
static int lock_journal(const struct fnd_journal *j, bool make, int *ret_fd)
{
	const struct timespec nap = { 0, 2000000 };
	const uint64_t end = clock_ms() + j->lock_timeout_ms;

	for (;;) {
		int err = make ? make_directory(j) : 0, fd;
		bool held;

		if (err)
			return err;
		fd = fnd_journal_open_file(j, "lock", 0, O_RDWR | O_CREAT);
		if (fd < 0 && !(make && fd == -ENOENT)) /* purged just now */
			return fnd_journal_fail(-fd, "opening the lock in", j->dir);
		held = fd >= 0 && fnd_journal_lock_take(fd) == 0;
		if (held && lock_named(j, fd)) {
			*ret_fd = fd;
			return 0;
		}
		if (held)
			fnd_journal_lock_drop(fd);
		else if (fd >= 0)
			close(fd);
		if (clock_ms() >= end)
			return fnd_error_set(ETIMEDOUT, "journal: another process holds %s/lock (fuser says who)",
					     j->dir);
		nanosleep(&nap, NULL);
	}
}

/* The end of the file as the next record needs it: its tail whole, its size within bounds. */
static int end_open(const struct fnd_journal *j, struct fnd_journal_tail *t, char *buf)
{
	int err;

	t->fd = fnd_journal_open_file(j, FND_JOURNAL_FILE, 0, O_RDWR | O_CREAT);
	if (t->fd < 0)
		return fnd_journal_fail(-t->fd, "opening the journal in", j->dir);
	err = fnd_journal_tail_look(t);
	if (!err && t->last_n == 0)
		t->last_n = last_number_of(j, 1);
	if (!err)
		err = tail_cut(j, t, buf);
	if (!err && rotation_due(j, t))
		err = rotate(j, t, buf);
	return err;
}

int fnd_journal_begin(struct fnd_journal *j, struct fnd_journal_writing *w)
{
	int err;

	*w = (struct fnd_journal_writing){ .j = j, .lock = -1, .tail.fd = -1 };
	w->line = malloc(FND_JOURNAL_RECORD_MAX + 2);
	if (!w->line)
		return -ENOMEM;
	err = lock_journal(j, true, &w->lock);
	if (!err)
		err = end_open(j, &w->tail, w->line);
	if (err)
		fnd_journal_end(w);
	return err;
}

int fnd_journal_flush(struct fnd_journal_writing *w)
{
	int err = w->bytes ? write_whole(&w->tail, w->lines, w->bytes) : 0;

	w->bytes = 0;
	/* the file's name too; whoever made it may have died before that */
	if (!err && w->tail.sound < DIRECTORY_BYTES)
		err = sync_directory(w->j);
	return err;
}

int fnd_journal_add(struct fnd_journal_writing *w, const char *type, const char *members)
{
	int n = line_make(w->j, w->tail.last_n + 1, type, members, w->line, FND_JOURNAL_RECORD_MAX + 2), err = 0;

	if (n < 0)
		return n;
	if (!w->lines)
		w->lines = malloc(FND_JOURNAL_LINES);
	if (!w->lines)
		return -ENOMEM;
	if ((size_t)n > FND_JOURNAL_LINES - w->bytes)
		err = fnd_journal_flush(w);
	if (err)
		return err;
	memcpy(w->lines + w->bytes, w->line, (size_t)n);
	w->bytes += (size_t)n;
	w->tail.last_n++;
	return 0;
}

void fnd_journal_end(struct fnd_journal_writing *w)
{
	if (w->tail.fd >= 0)
		close(w->tail.fd);
	fnd_journal_lock_drop(w->lock);
	free(w->line);
	free(w->lines);
}

int fnd_journal_append(struct fnd_journal *j, const char *type, const char *members, uint64_t *ret_n)
{
	size_t n = type ? strlen(type) : 0;
	struct fnd_journal_writing w;
	int err;

	if (n < 1 || n > 63 || strspn(type, "abcdefghijklmnopqrstuvwxyz._") != n || !members)
		return fnd_error_set(EINVAL, "journal: a record's type is [a-z._]{1,63}");
	err = fnd_journal_begin(j, &w);
	if (err)
		return err;
	err = fnd_journal_add(&w, type, members);
	if (!err)
		err = fnd_journal_flush(&w);
	if (!err && ret_n)
		*ret_n = w.tail.last_n;
	fnd_journal_end(&w);
	return err;
}

/* --- the whole ------------------------------------------------------------------------------------ */

static int remove_one(const struct fnd_journal *j, const char *what, unsigned int number)
{
	char path[FND_JOURNAL_PATH];

	fnd_journal_path(j, what, number, path);
	if (unlink(path) != 0 && errno != ENOENT)
		return fnd_journal_fail(errno, "removing", path);
	return 0;
}

/* Under the lock, which goes last: who waits for it finds that it has lost its name, and begins anew. */
int fnd_journal_purge(struct fnd_journal *j)
{
	int lock, err;

	if (access(j->dir, F_OK) != 0 && (errno == ENOENT || errno == ENOTDIR))
		return 0;
	err = lock_journal(j, false, &lock);
	if (err)
		return err;
	for (unsigned int i = FND_JOURNAL_KEEP_MAX + 1; i-- > 0 && !err;) /* the newest last */
		err = remove_one(j, FND_JOURNAL_FILE, i);
	if (!err)
		err = remove_one(j, FND_JOURNAL_FILE ".new", 0);
	if (!err)
		err = remove_one(j, "lock", 0);
	if (!err && rmdir(j->dir) != 0 && errno != ENOENT && errno != ENOTEMPTY)
		err = fnd_journal_fail(errno, "removing", j->dir);
	if (!err)
		sync_parent(j->dir);
	fnd_journal_lock_drop(lock);
	return err;
}

/* As far as can be told without writing: the directory, or the nearest above it that is there. */
int fnd_journal_writable(struct fnd_journal *j)
{
	char path[FND_JOURNAL_PATH], *slash;

	fnd_journal_path(j, FND_JOURNAL_FILE, 0, path);
	for (;;) {
		if (faccessat(AT_FDCWD, path, W_OK, AT_EACCESS) == 0)
			return 0;
		if (errno != ENOENT)
			return fnd_journal_fail(errno, "writing to", path);
		slash = strrchr(path, '/');
		if (!slash || slash == path)
			return fnd_journal_fail(ENOENT, "finding", j->dir);
		*slash = '\0';
	}
}
