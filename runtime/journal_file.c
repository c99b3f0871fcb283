// SPDX-License-Identifier: MIT
/*
 * Lines of a journal's files: which are sound, where the last one ends, and reading them beside appenders.
 *
 * Nothing here trusts a file: a line is judged by its checksum, memory is bounded by what a line may have.
 */
#include "journal_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <isa-l/crc.h>

#include "json.h"

#define WINDOW (2 * (FND_JOURNAL_RECORD_MAX + 2))
#define RETRIES 16 /* lines that are read a second time, as an appender may be cutting a tail */
#define FILES (FND_JOURNAL_KEEP_MAX + 1)

uint32_t fnd_journal_crc(const char *json, size_t bytes)
{
	return ~crc32_iscsi((unsigned char *)(uintptr_t)json, (int)bytes, ~0u);
}

/* Is [line, line + bytes), without its newline, a sound record? */
static bool line_sound(const char *line, size_t bytes)
{
	uint32_t crc = 0;

	if (bytes < FND_JOURNAL_CRC + 2 || bytes > FND_JOURNAL_RECORD_MAX || line[FND_JOURNAL_CRC - 1] != ' ')
		return false;
	for (int i = 0; i < FND_JOURNAL_CRC - 1; i++) {
		char c = line[i];

		if (!(c >= '0' && c <= '9') && !(c >= 'a' && c <= 'f'))
			return false;
		crc = crc << 4 | (uint32_t)(c <= '9' ? c - '0' : c - 'a' + 10);
	}
	return crc == fnd_journal_crc(line + FND_JOURNAL_CRC, bytes - FND_JOURNAL_CRC) &&
	       fnd_json_valid(line + FND_JOURNAL_CRC, bytes - FND_JOURNAL_CRC);
}

uint64_t fnd_journal_line_number(const char *line, size_t bytes)
{
	uint64_t n = 0;

	fnd_json_get_number(line + FND_JOURNAL_CRC, bytes - FND_JOURNAL_CRC, "n", &n);
	return n;
}

/* --- the end of a file ---------------------------------------------------------------------------- */

/* @bytes from @at, all of them: what cannot be read is an error, and never taken for a tail. */
static int read_all(int fd, char *buf, size_t bytes, off_t at)
{
	size_t got = 0;

	while (got < bytes) {
		ssize_t n = pread(fd, buf + got, bytes - got, at + (off_t)got);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return fnd_journal_fail(n < 0 ? errno : EIO, "reading", FND_JOURNAL_FILE);
		got += (size_t)n;
	}
	return 0;
}

/* Where the last sound line of [buf, buf + bytes) ends, its newline included, 0: there is none. */
static size_t last_sound(const char *buf, size_t bytes, uint64_t *ret_n)
{
	size_t end = bytes;

	while (end > 0) {
		const char *newline = memrchr(buf, '\n', end);
		const char *before;
		size_t from;

		if (!newline)
			return 0;
		end = (size_t)(newline - buf);
		before = end ? memrchr(buf, '\n', end) : NULL;
		from = before ? (size_t)(before - buf) + 1 : 0;
		if (line_sound(buf + from, end - from)) {
			*ret_n = fnd_journal_line_number(buf + from, end - from);
			return end + 1;
		}
	}
	return 0;
}

int fnd_journal_tail_look(struct fnd_journal_tail *t)
{
	struct stat st;

	if (fstat(t->fd, &st) != 0)
		return fnd_journal_fail(errno, "looking at", FND_JOURNAL_FILE);
	t->bytes = st.st_size;
	t->sound = 0;
	t->last_n = 0;
	/* Two records' length is enough for a tail that was cut short; more is read only of a damaged file. */
	for (off_t want = WINDOW; t->bytes > 0; want *= 4) {
		off_t from = t->bytes > want ? t->bytes - want : 0;
		size_t bytes = (size_t)(t->bytes - from), end = 0;
		char *buf = malloc(bytes);
		int err = buf ? read_all(t->fd, buf, bytes, from) : -ENOMEM;

		if (!err)
			end = last_sound(buf, bytes, &t->last_n);
		free(buf);
		if (err)
			return err;
		if (end)
			t->sound = from + (off_t)end;
		if (end || from == 0)
			break;
	}
	return 0;
}

/* --- reading -------------------------------------------------------------------------------------- */

struct lines {
	int fd;
	off_t at;
	char *buf;
	fnd_journal_line_fn fn;
	void *arg;
	unsigned int *damaged;
	unsigned int retries;
	bool again, skip; /* this line was read before; the rest of a line too long is passed over */
};

static ssize_t fill(struct lines *l)
{
	size_t got = 0;

	while (got < WINDOW) {
		ssize_t n = pread(l->fd, l->buf + got, WINDOW - got, l->at + (off_t)got);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return fnd_journal_fail(errno, "reading", FND_JOURNAL_FILE);
		if (n == 0)
			break;
		got += (size_t)n;
	}
	return (ssize_t)got;
}

/* One whole line. 0 to go on, -EAGAIN: read it anew, else what ends the walk. */
static int take_line(struct lines *l, char *line, size_t bytes)
{
	if (l->skip) {
		l->skip = false;
		return 0;
	}
	line[bytes] = '\0';
	if (line_sound(line, bytes)) {
		l->again = false;
		return l->fn(line, bytes, l->arg);
	}
	if (!l->again && l->retries) {
		l->again = true;
		l->retries--;
		return -EAGAIN;
	}
	l->again = false;
	++*l->damaged;
	return 0;
}

/* The lines of one window. 1: go on with the next one, 0: the end, else what ends the walk. */
static int take_window(struct lines *l)
{
	ssize_t have = fill(l);
	size_t used = 0;
	char *newline;

	if (have < 0)
		return (int)have;
	while ((newline = memchr(l->buf + used, '\n', (size_t)have - used))) {
		size_t bytes = (size_t)(newline - l->buf) - used;
		int err = take_line(l, l->buf + used, bytes);

		if (err == -EAGAIN) {
			l->at += (off_t)used;
			return 1;
		}
		if (err)
			return err;
		used += bytes + 1;
	}
	if (used == 0 && have == WINDOW) { /* no line is as long */
		*l->damaged += !l->skip;
		l->skip = true;
		used = WINDOW;
	}
	l->at += (off_t)used;
	return have == WINDOW;
}

int fnd_journal_lines(int fd, fnd_journal_line_fn fn, void *arg, unsigned int *damaged)
{
	struct lines l = { .fd = fd, .fn = fn, .arg = arg, .damaged = damaged, .retries = RETRIES };
	int go;

	l.buf = malloc(WINDOW);
	if (!l.buf)
		return -ENOMEM;
	do {
		go = take_window(&l);
	} while (go == 1);
	free(l.buf);
	return go;
}

int fnd_journal_search(const struct fnd_journal *j, fnd_journal_line_fn fn, void *arg, const bool *enough)
{
	unsigned int damaged = 0;
	int err = 0;

	for (unsigned int i = 0; i < FILES && !err && !*enough; i++) {
		int fd = fnd_journal_open_file(j, FND_JOURNAL_FILE, i, O_RDONLY);

		if (fd == -ENOENT)
			continue;
		if (fd < 0)
			return fnd_journal_fail(-fd, "opening the journal in", j->dir);
		err = fnd_journal_lines(fd, fn, arg, &damaged);
		close(fd);
	}
	return err;
}

struct reading {
	int (*fn)(const struct fnd_journal_record *r, void *arg);
	void *arg;
	uint64_t last_n;
	bool fresh;  /* no record of this file was new so far: what rotation carried over comes first */
	int result; /* of fn; kept apart, as it may be any number */
};

static int hand_out(const char *line, size_t bytes, void *arg)
{
	struct fnd_journal_record r = { .json = line + FND_JOURNAL_CRC, .json_bytes = bytes - FND_JOURNAL_CRC };
	struct reading *reading = arg;
	char type[64] = "";

	fnd_json_get_number(r.json, r.json_bytes, "n", &r.n);
	if (reading->fresh && r.n <= reading->last_n)
		return 0; /* handed out from the file before */
	reading->fresh = false;
	reading->last_n = r.n;
	fnd_json_get_number(r.json, r.json_bytes, "at", &r.at_ns);
	fnd_json_get_text(r.json, r.json_bytes, "type", type, sizeof(type));
	r.type = type;
	reading->result = reading->fn(&r, reading->arg);
	return reading->result ? -ECANCELED : 0;
}

/* The files, newest first: whatever is renamed meanwhile is met again under the next number, and left out. */
static int open_files(const struct fnd_journal *j, int fd[FILES], unsigned int *ret_count)
{
	dev_t dev = 0;
	ino_t ino = 0;
	unsigned int count = 0;

	for (unsigned int i = 0; i < FILES; i++) {
		int one = fnd_journal_open_file(j, FND_JOURNAL_FILE, i, O_RDONLY);
		struct stat st;

		if (one == -ENOENT || one == -ENOTDIR)
			continue;
		if (one < 0 || fstat(one, &st) != 0) {
			while (count)
				close(fd[--count]);
			return fnd_journal_fail(one < 0 ? -one : errno, "opening the journal in", j->dir);
		}
		if (count && st.st_dev == dev && st.st_ino == ino) {
			close(one); /* its records would be left out anyway, its damaged lines counted twice */
			continue;
		}
		dev = st.st_dev;
		ino = st.st_ino;
		fd[count++] = one;
	}
	*ret_count = count;
	return 0;
}

int fnd_journal_read(struct fnd_journal *j, int (*fn)(const struct fnd_journal_record *r, void *arg), void *arg,
		     unsigned int *ret_damaged)
{
	struct reading reading = { .fn = fn, .arg = arg };
	unsigned int damaged = 0, count = 0;
	int fd[FILES], err = open_files(j, fd, &count);

	if (err)
		return err;
	while (count) {
		count--;
		reading.fresh = true;
		if (!err)
			err = fnd_journal_lines(fd[count], hand_out, &reading, &damaged);
		close(fd[count]);
	}
	if (reading.result)
		err = reading.result;
	if (ret_damaged && (!err || reading.result))
		*ret_damaged = damaged;
	return err;
}
