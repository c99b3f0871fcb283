// SPDX-License-Identifier: MIT
/*
 * Files that appear whole or not at all.
 *
 * A backup is written to a file without a name in the directory where it shall be, synced, and only then
 * given its name; so neither a full disk nor a kill leaves half a file or harms the one that was there.
 */
#include "shmdump.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define NAMES_TRIED 100

int input_open(const char *path)
{
	int fd = strcmp(path, "-") ? open(path, O_RDONLY | O_CLOEXEC) : dup(STDIN_FILENO);

	return fd < 0 ? -errno : fd;
}

/*
 * Where the file really is: a symbolic link is followed, so that what it points to is replaced and not the
 * link. Whatever is no regular file is refused: renaming over a device would destroy its name.
 */
static int resolve(const char *path, char **ret_path, const char **ret_why)
{
	struct stat st;

	if (stat(path, &st)) {
		if (errno != ENOENT)
			return -errno;
		*ret_path = strdup(path);
	} else if (!S_ISREG(st.st_mode)) {
		*ret_why = "not a regular file; '-' writes to standard output";
		return -EEXIST;
	} else {
		*ret_path = realpath(path, NULL);
	}
	return *ret_path ? 0 : -errno;
}

/* A name nobody uses, for the moment between the complete file and its rename. */
static int with_temp_name(struct output *out, int (*make)(struct output *out))
{
	int err = -EEXIST;

	for (unsigned int i = 0; i < NAMES_TRIED && err == -EEXIST; i++) {
		snprintf(out->temp, sizeof(out->temp), ".shmdump-%ld-%u", (long)getpid(), i);
		err = make(out);
	}
	if (err)
		out->temp[0] = '\0';
	return err;
}

static int create_named(struct output *out)
{
	out->fd = openat(out->dir_fd, out->temp, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	return out->fd < 0 ? -errno : 0;
}

static int link_as(const struct output *out, const char *name)
{
	char path[64];

	/* By way of /proc, because AT_EMPTY_PATH wants a capability. */
	snprintf(path, sizeof(path), "/proc/self/fd/%d", out->fd);
	return linkat(AT_FDCWD, path, out->dir_fd, name, AT_SYMLINK_FOLLOW) ? -errno : 0;
}

static int link_temp(struct output *out)
{
	return link_as(out, out->temp);
}

static int open_in_directory(struct output *out, const char *path)
{
	char *copy = strdup(path);
	int err;

	if (!copy)
		return -ENOMEM;
	out->dir_fd = open(dirname(copy), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	err = out->dir_fd < 0 ? -errno : 0;
	free(copy);
	if (err)
		return err;
	copy = strdup(path);
	out->base = copy ? strdup(basename(copy)) : NULL;
	free(copy);
	if (!out->base)
		return -ENOMEM;
	out->fd = openat(out->dir_fd, ".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	if (out->fd >= 0)
		return 0;
	if (errno != EOPNOTSUPP && errno != EISDIR && errno != EINVAL)
		return -errno;
	return with_temp_name(out, create_named);
}

int output_open(const char *path, struct output *ret_out, const char **ret_why)
{
	struct output out = { .fd = -1, .dir_fd = -1 };
	char *real = NULL;
	int err;

	*ret_why = NULL;
	if (!strcmp(path, "-")) {
		if (isatty(STDOUT_FILENO)) {
			*ret_why = "standard output is a terminal; redirect it to a file or a pipe";
			return -EINVAL;
		}
		out.fd = dup(STDOUT_FILENO);
		if (out.fd < 0)
			return -errno;
		*ret_out = out;
		return 0;
	}
	err = resolve(path, &real, ret_why);
	if (!err)
		err = open_in_directory(&out, real);
	free(real);
	if (err)
		output_abort(&out);
	else
		*ret_out = out;
	return err;
}

static void output_close(struct output *out)
{
	if (out->fd >= 0)
		close(out->fd);
	if (out->dir_fd >= 0)
		close(out->dir_fd);
	free(out->base);
	*out = (struct output){ .fd = -1, .dir_fd = -1 };
}

void output_abort(struct output *out)
{
	if (out->temp[0])
		unlinkat(out->dir_fd, out->temp, 0);
	output_close(out);
}

static int give_name(struct output *out)
{
	int err;

	if (!out->temp[0]) {
		err = link_as(out, out->base);
		if (err != -EEXIST)
			return err;
		err = with_temp_name(out, link_temp);
		if (err)
			return err;
	}
	if (renameat(out->dir_fd, out->temp, out->dir_fd, out->base))
		return -errno;
	out->temp[0] = '\0';
	return 0;
}

int output_commit(struct output *out)
{
	int err = 0, result = OUTPUT_DURABLE;

	/* A failed fsync is final: the kernel may have dropped the pages, and a second one would succeed. */
	if (fsync(out->fd))
		err = -errno;
	if (out->dir_fd < 0) {
		/* A pipe, a socket or a device like /dev/null cannot be synced, and need not be. */
		output_close(out);
		return err == -EINVAL || err == -EROFS || err == -ENOTSUP ? 0 : err;
	}
	if (!err)
		err = give_name(out);
	if (err) {
		output_abort(out);
		return err;
	}
	if (fsync(out->dir_fd))
		result = OUTPUT_NOT_DURABLE;
	output_close(out);
	return result;
}
