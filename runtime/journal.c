// SPDX-License-Identifier: MIT
/*
 * The state journal: lines on disk, appended by whoever changes something.
 *
 *   <crc32c of the JSON, 8 hex digits> <one JSON object>\n
 *
 * Guarantees.
 *  A. A record whose append returned 0 is on disk, whole, and stays there until it is rotated away or purged.
 *  B. Appenders exclude each other by flock(2): the kernel frees the lock of one that dies.
 *  C. What a dead appender left unfinished is cut off by the next one, which says so in a record of its own.
 *  D. A failed append leaves the file as it was.
 *
 * Rotation makes the next file aside (a `state` record first), then renames the old one away and the new one
 * in: a death in between leaves at worst no current file, and the next appender takes the number to go on
 * with from the newest rotated one.
 */
#include <foundation/journal.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <isa-l/crc.h>

#include "json.h"

#define FILE_NAME "journal"
#define PATH_BYTES 4096
#define CRC_BYTES 9 /* eight digits and a blank */

struct fnd_journal {
	char dir[PATH_BYTES - 64];
	char *state; /* members of the state record, NULL: none */
	uint64_t max_bytes;
	uint32_t keep, lock_timeout_ms;
	char boot[37];
};

static int fail(int err, const char *what, const char *path)
{
	return fnd_error_set(err, "journal: %s %s: %s", what, path, strerror(err));
}

/* --- where ---------------------------------------------------------------------------------------- */

static int find_directory(struct fnd_journal *j, const char *segment)
{
	const char *state = getenv("FOUNDATION_STATE_DIR"), *xdg = getenv("XDG_STATE_HOME"), *home = getenv("HOME");
	char name[96];
	int n;

	n = snprintf(name, sizeof(name), "%s", segment);
	if (n < 1 || n >= (int)sizeof(name) || name[0] == '.')
		return fnd_error_set(EINVAL, "journal: no segment has the name \"%s\"", segment);
	for (char *c = name; *c; c++)
		*c = *c == '/' ? '.' : *c;
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

	if (!segment || !ret_journal || (opt && opt->size != sizeof(*opt)))
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

static void path_of(const struct fnd_journal *j, const char *what, unsigned int number, char path[PATH_BYTES])
{
	if (number)
		snprintf(path, PATH_BYTES, "%s/%s.%u", j->dir, what, number);
	else
		snprintf(path, PATH_BYTES, "%s/%s", j->dir, what);
}

/* The directory and those above it, private to the user. */
static int make_directory(const struct fnd_journal *j)
{
	char path[PATH_BYTES];

	snprintf(path, sizeof(path), "%s", j->dir);
	for (char *c = path + 1;; c++) {
		char end = *c;

		if (end && end != '/')
			continue;
		*c = '\0';
		if (mkdir(path, 0700) != 0 && errno != EEXIST)
			return fail(errno, "making", path);
		*c = end;
		if (!end)
			return 0;
	}
}

static int sync_directory(const struct fnd_journal *j)
{
	int fd = open(j->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC), err = 0;

	if (fd < 0)
		return fail(errno, "opening", j->dir);
	if (fsync(fd) != 0)
		err = fail(errno, "syncing", j->dir);
	close(fd);
	return err;
}

/* --- lines ---------------------------------------------------------------------------------------- */

static uint32_t crc_of(const char *json, size_t bytes)
{
	return ~crc32_iscsi((unsigned char *)(uintptr_t)json, (int)bytes, ~0u);
}

/* Is [line, line + bytes), without its newline, a sound record? */
static bool line_sound(const char *line, size_t bytes)
{
	char digits[CRC_BYTES], *end;
	unsigned long crc;

	if (bytes < CRC_BYTES + 2 || bytes > FND_JOURNAL_RECORD_MAX || line[CRC_BYTES - 1] != ' ')
		return false;
	memcpy(digits, line, CRC_BYTES - 1);
	digits[CRC_BYTES - 1] = '\0';
	if (strspn(digits, "0123456789abcdef") != CRC_BYTES - 1)
		return false;
	crc = strtoul(digits, &end, 16);
	return crc == crc_of(line + CRC_BYTES, bytes - CRC_BYTES) &&
	       fnd_json_valid(line + CRC_BYTES, bytes - CRC_BYTES);
}

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
	struct fnd_json out = { .buf = buf + CRC_BYTES, .size = size - CRC_BYTES - 1 };
	char digits[CRC_BYTES + 1];

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
	if (out.full || out.used + CRC_BYTES > FND_JOURNAL_RECORD_MAX)
		return fnd_error_set(E2BIG, "journal: a record has at most %u bytes", FND_JOURNAL_RECORD_MAX);
	if (!fnd_json_valid(out.buf, out.used))
		return fnd_error_set(EINVAL, "journal: members that are no JSON: %.60s", members);
	snprintf(digits, sizeof(digits), "%08x ", crc_of(out.buf, out.used));
	memcpy(buf, digits, CRC_BYTES);
	buf[CRC_BYTES + out.used] = '\n';
	return (int)(CRC_BYTES + out.used + 1);
}

/* --- under the lock ------------------------------------------------------------------------------- */

struct tail {
	int fd;
	off_t bytes;	 /* of the file */
	off_t sound;	 /* end of its last sound line */
	uint64_t last_n; /* its number, 0: none */
};

/* Reads the end of the file, far enough back for a whole record, and finds the last sound line. */
static int tail_look(struct tail *t)
{
	size_t want = 2 * FND_JOURNAL_RECORD_MAX, got = 0;
	off_t from, line;
	struct stat st;
	char *buf;

	if (fstat(t->fd, &st) != 0)
		return fail(errno, "looking at", FILE_NAME);
	t->bytes = t->sound = st.st_size;
	t->last_n = 0;
	from = st.st_size > (off_t)want ? st.st_size - (off_t)want : 0;
	want = (size_t)(st.st_size - from);
	buf = malloc(want + 1);
	if (!buf)
		return -ENOMEM;
	while (got < want) {
		ssize_t n = pread(t->fd, buf + got, want - got, from + (off_t)got);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			break;
		got += (size_t)n;
	}
	/* from the end, line by line, to one that is sound; what is behind it is a tail that was cut short */
	for (line = (off_t)got; line > 0;) {
		off_t end = line;
		size_t bytes;

		if (buf[end - 1] == '\n')
			end--;
		for (line = end; line > 0 && buf[line - 1] != '\n';)
			line--;
		bytes = (size_t)(end - line);
		if (buf[end] == '\n' && end < (off_t)got && line_sound(buf + line, bytes)) {
			t->sound = from + end + 1;
			fnd_json_get_number(buf + line + CRC_BYTES, bytes - CRC_BYTES, "n", &t->last_n);
			free(buf);
			return 0;
		}
	}
	free(buf);
	t->sound = from; /* nothing sound in two records' length: an empty file, or damage */
	return 0;
}

static int open_file(const struct fnd_journal *j, const char *name, unsigned int number, int flags)
{
	char path[PATH_BYTES];

	path_of(j, name, number, path);
	return open(path, flags | O_CLOEXEC | O_NOFOLLOW, 0600);
}

static uint64_t last_number_of(const struct fnd_journal *j, unsigned int rotated)
{
	struct tail t = { .fd = open_file(j, FILE_NAME, rotated, O_RDONLY) };

	if (t.fd < 0)
		return 0;
	if (tail_look(&t))
		t.last_n = 0;
	close(t.fd);
	return t.last_n;
}

/* All or nothing: a short write or a failed sync takes back what is there. */
static int write_whole(struct tail *t, const char *line, size_t bytes)
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
		return fail(err, "writing, and cutting off again,", FILE_NAME);
	return fail(err, "writing", FILE_NAME);
}

static int append_line(const struct fnd_journal *j, struct tail *t, const char *type, const char *members,
		       char *buf)
{
	int n = line_make(j, t->last_n + 1, type, members, buf, FND_JOURNAL_RECORD_MAX + 2);
	int err = n < 0 ? n : write_whole(t, buf, (size_t)n);

	if (!err)
		t->last_n++;
	return err;
}

/* What an appender that died has left. */
static int tail_cut(const struct fnd_journal *j, struct tail *t, char *buf)
{
	off_t cut = t->bytes - t->sound;
	char members[64];

	if (cut == 0)
		return 0;
	if (ftruncate(t->fd, t->sound) != 0)
		return fail(errno, "cutting the tail of", FILE_NAME);
	snprintf(members, sizeof(members), "\"bytes\":%lld", (long long)cut);
	return append_line(j, t, "journal.cut", members, buf);
}

static int rotate(const struct fnd_journal *j, struct tail *t, char *buf)
{
	struct tail fresh = { .last_n = t->last_n };
	char from[PATH_BYTES], to[PATH_BYTES];
	int err = 0;

	path_of(j, FILE_NAME ".new", 0, from);
	unlink(from);
	fresh.fd = open_file(j, FILE_NAME ".new", 0, O_RDWR | O_CREAT | O_EXCL);
	if (fresh.fd < 0)
		return fail(errno, "making", from);
	if (j->state)
		err = append_line(j, &fresh, "state", j->state, buf);
	if (!err && fsync(fresh.fd) != 0)
		err = fail(errno, "syncing", from);
	for (unsigned int i = j->keep; i > 0 && !err; i--) {
		path_of(j, FILE_NAME, i, to);
		path_of(j, FILE_NAME, i - 1, from);
		if (rename(from, to) != 0 && errno != ENOENT)
			err = fail(errno, "renaming", from);
	}
	path_of(j, FILE_NAME ".new", 0, from);
	path_of(j, FILE_NAME, 0, to);
	if (!err && rename(from, to) != 0)
		err = fail(errno, "renaming", from);
	if (!err)
		err = sync_directory(j);
	if (err) {
		close(fresh.fd);
		return err;
	}
	close(t->fd);
	*t = fresh;
	return 0;
}

/* One lock file for all files, never renamed. 0 and *ret_fd, or an error. */
static int lock_journal(const struct fnd_journal *j, int *ret_fd)
{
	const struct timespec nap = { 0, 2000000 };
	int fd = open_file(j, "lock", 0, O_RDWR | O_CREAT);
	unsigned int waited = 0;

	if (fd < 0)
		return fail(errno, "opening the lock in", j->dir);
	while (flock(fd, LOCK_EX | LOCK_NB) != 0) {
		if (errno != EWOULDBLOCK && errno != EINTR) {
			int err = errno;

			close(fd);
			return fail(err, "locking", j->dir);
		}
		if (waited >= j->lock_timeout_ms) {
			close(fd);
			return fnd_error_set(ETIMEDOUT, "journal: another process holds %s/lock (fuser says who)",
					     j->dir);
		}
		nanosleep(&nap, NULL);
		waited += 2;
	}
	*ret_fd = fd;
	return 0;
}

static int append_locked(const struct fnd_journal *j, const char *type, const char *members, uint64_t *ret_n)
{
	struct tail t = { .fd = open_file(j, FILE_NAME, 0, O_RDWR) };
	char *buf = malloc(FND_JOURNAL_RECORD_MAX + 2);
	bool fresh = t.fd < 0;
	int err = buf ? 0 : -ENOMEM;

	if (!err && fresh) {
		t.fd = errno == ENOENT ? open_file(j, FILE_NAME, 0, O_RDWR | O_CREAT) : -1;
		if (t.fd < 0)
			err = fail(errno, "opening the journal in", j->dir);
	}
	if (!err)
		err = tail_look(&t);
	if (!err && t.last_n == 0)
		t.last_n = last_number_of(j, 1);
	if (!err)
		err = tail_cut(j, &t, buf);
	if (!err && (uint64_t)t.sound >= j->max_bytes)
		err = rotate(j, &t, buf);
	if (!err)
		err = append_line(j, &t, type, members, buf);
	if (!err && fresh)
		err = sync_directory(j);
	if (!err && ret_n)
		*ret_n = t.last_n;
	if (t.fd >= 0)
		close(t.fd);
	free(buf);
	return err;
}

int fnd_journal_append(struct fnd_journal *j, const char *type, const char *members, uint64_t *ret_n)
{
	size_t n = type ? strlen(type) : 0;
	int lock = -1, err;

	if (n < 1 || n > 63 || strspn(type, "abcdefghijklmnopqrstuvwxyz._") != n || !members)
		return fnd_error_set(EINVAL, "journal: a record's type is [a-z._]{1,63}");
	err = make_directory(j);
	if (!err)
		err = lock_journal(j, &lock);
	if (err)
		return err;
	err = append_locked(j, type, members, ret_n);
	close(lock);
	return err;
}

/* --- reading -------------------------------------------------------------------------------------- */

static int hand_out(const char *line, size_t bytes, int (*fn)(const struct fnd_journal_record *r, void *arg),
		    void *arg)
{
	struct fnd_journal_record r = { .json = line + CRC_BYTES, .json_bytes = bytes - CRC_BYTES };
	char type[64] = "";

	fnd_json_get_number(r.json, r.json_bytes, "n", &r.n);
	fnd_json_get_number(r.json, r.json_bytes, "at", &r.at_ns);
	fnd_json_get_text(r.json, r.json_bytes, "type", type, sizeof(type));
	r.type = type;
	return fn(&r, arg);
}

static int read_file(const struct fnd_journal *j, unsigned int number,
		     int (*fn)(const struct fnd_journal_record *r, void *arg), void *arg, unsigned int *damaged)
{
	int fd = open_file(j, FILE_NAME, number, O_RDONLY), err = 0;
	char *line = NULL;
	size_t size = 0;
	ssize_t n;
	FILE *f;

	if (fd < 0)
		return errno == ENOENT ? 0 : fail(errno, "opening the journal in", j->dir);
	f = fdopen(fd, "r");
	if (!f) {
		close(fd);
		return -ENOMEM;
	}
	while (!err && (n = getdelim(&line, &size, '\n', f)) > 0) {
		if (line[n - 1] != '\n')
			break; /* being appended, or a tail for the next appender */
		line[n - 1] = '\0';
		if (line_sound(line, (size_t)n - 1))
			err = hand_out(line, (size_t)n - 1, fn, arg);
		else
			++*damaged;
	}
	if (!err && ferror(f))
		err = fail(EIO, "reading the journal in", j->dir);
	free(line);
	fclose(f);
	return err;
}

int fnd_journal_read(struct fnd_journal *j, int (*fn)(const struct fnd_journal_record *r, void *arg), void *arg,
		     unsigned int *ret_damaged)
{
	unsigned int damaged = 0;
	int err = 0;

	for (unsigned int i = j->keep + 1; i-- > 0 && !err;)
		err = read_file(j, i, fn, arg, &damaged);
	if (ret_damaged)
		*ret_damaged = damaged;
	return err;
}

int fnd_journal_purge(struct fnd_journal *j)
{
	static const char *const names[] = { FILE_NAME ".new", "lock" };
	char path[PATH_BYTES];

	for (unsigned int i = 0; i <= 64; i++) {
		path_of(j, FILE_NAME, i, path);
		if (unlink(path) != 0 && errno != ENOENT && errno != ENOTDIR)
			return fail(errno, "removing", path);
	}
	for (unsigned int i = 0; i < 2; i++) {
		path_of(j, names[i], 0, path);
		if (unlink(path) != 0 && errno != ENOENT && errno != ENOTDIR)
			return fail(errno, "removing", path);
	}
	if (rmdir(j->dir) != 0 && errno != ENOENT)
		return fail(errno, "removing", j->dir);
	return 0;
}

/* As far as can be told without writing: the directory, or the nearest above it that is there. */
int fnd_journal_writable(struct fnd_journal *j)
{
	char path[PATH_BYTES], *slash;

	path_of(j, FILE_NAME, 0, path);
	for (;;) {
		if (faccessat(AT_FDCWD, path, W_OK, AT_EACCESS) == 0)
			return 0;
		if (errno != ENOENT)
			return fail(errno, "writing to", path);
		slash = strrchr(path, '/');
		if (!slash || slash == path)
			return fail(ENOENT, "finding", j->dir);
		*slash = '\0';
	}
}
