/* SPDX-License-Identifier: MIT */
/*
 * Reading log files and splitting them into lines.
 *
 * Files are read into memory, not mapped: a log that is rotated by truncation while we look at it would
 * kill every process that has it mapped. Children share the bytes by copy-on-write.
 */
#include "lines.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define READ_AT_LEAST 65536

int line_next(struct text *rest, struct text *ret_line)
{
	if (!rest->len)
		return 0;

	const char *lf = memchr(rest->at, '\n', rest->len);
	size_t len = lf ? (size_t)(lf - rest->at) : rest->len;
	size_t taken = lf ? len + 1 : len;

	/* A CR ends a line only together with its LF; anywhere else it is a byte like any other. */
	if (lf && len && rest->at[len - 1] == '\r')
		len--;
	*ret_line = (struct text){ rest->at, len };
	rest->at += taken;
	rest->len -= taken;
	return 1;
}

int line_is_blank(struct text line)
{
	for (size_t i = 0; i < line.len; i++) {
		if (line.at[i] == '\0' || !strchr(" \t\r\v\f", line.at[i]))
			return 0;
	}
	return 1;
}

static int read_all(int fd, char **ret_bytes, size_t *ret_len)
{
	struct stat st;
	char *bytes = NULL;
	size_t len = 0, room = 0;

	if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && st.st_size > 0)
		room = (size_t)st.st_size;
	for (;;) {
		if (!bytes || room - len == 0) {
			size_t more = bytes || !room ? room + room / 2 + READ_AT_LEAST : room + 1;
			char *p = realloc(bytes, more);

			if (!p) {
				free(bytes);
				return -ENOMEM;
			}
			bytes = p;
			room = more;
		}

		ssize_t n = read(fd, bytes + len, room - len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0) {
			int err = -errno;

			free(bytes);
			return err;
		}
		if (n == 0)
			break;
		len += (size_t)n;
	}
	*ret_bytes = bytes;
	*ret_len = len;
	return 0;
}

static int file_read(struct log_file *f, const char *path)
{
	const char *slash = strrchr(path, '/');
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return -errno;

	int err = read_all(fd, &f->bytes, &f->len);

	close(fd);
	if (err)
		return err;
	f->path = realpath(path, NULL);
	if (!f->path)
		f->path = strdup(path);
	if (!f->path) {
		free(f->bytes);
		return -ENOMEM;
	}
	f->name = slash ? slash + 1 : path;
	return 0;
}

static int lines_push(struct logs *logs, struct log_line line)
{
	if (logs->nlines == logs->room) {
		size_t room = logs->room ? logs->room * 2 : 1024;
		struct log_line *p = realloc(logs->lines, room * sizeof(*p));

		if (!p)
			return -ENOMEM;
		logs->lines = p;
		logs->room = room;
	}
	logs->lines[logs->nlines++] = line;
	return 0;
}

static int index_lines(struct logs *logs, const struct log_file *f)
{
	struct text rest = { f->bytes, f->len }, line;

	while (line_next(&rest, &line)) {
		if (line_is_blank(line))
			continue;
		if (line.len > UINT32_MAX)
			return -EFBIG;

		int err = lines_push(logs, (struct log_line){
						   .off = (uint64_t)(line.at - f->bytes),
						   .len = (uint32_t)line.len,
						   .file = (uint32_t)logs->nfiles,
					   });

		if (err)
			return err;
	}
	return 0;
}

int logs_add(struct logs *logs, const char *path)
{
	size_t before = logs->nlines;
	struct log_file *files = realloc(logs->files, (logs->nfiles + 1) * sizeof(*files));

	if (!files)
		return -ENOMEM;
	logs->files = files;

	struct log_file f = { 0 };
	int err = file_read(&f, path);

	if (err)
		return err;
	err = index_lines(logs, &f);
	if (err) {
		logs->nlines = before;
		free(f.bytes);
		free(f.path);
		return err;
	}
	files[logs->nfiles++] = f;
	return 0;
}

void logs_free(struct logs *logs)
{
	for (size_t i = 0; i < logs->nfiles; i++) {
		free(logs->files[i].bytes);
		free(logs->files[i].path);
	}
	free(logs->files);
	free(logs->lines);
	*logs = (struct logs){ 0 };
}
