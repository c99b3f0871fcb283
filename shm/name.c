// SPDX-License-Identifier: MIT
#include "name.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "error.h"

#define LEASE_POLL_MS 5
#define LEASE_WAIT_MS 2000

static int name_byte(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '.' || c == '_' || c == '-';
}

/* Decimal without sign, blanks or leading zeros: one user id has one spelling. */
static int parse_uid(const char *text, size_t len, uint32_t *ret_uid)
{
	uint64_t v = 0;

	if (len == 0 || len > 10 || (text[0] == '0' && len > 1))
		return -EINVAL;
	for (size_t i = 0; i < len; i++) {
		if (text[i] < '0' || text[i] > '9')
			return -EINVAL;
		v = v * 10 + (uint64_t)(text[i] - '0');
	}
	if (v >= UINT32_MAX) /* (uid_t)-1 is nobody's */
		return -EINVAL;
	*ret_uid = (uint32_t)v;
	return 0;
}

int fnd_name_parse(const char *name, uint32_t *ret_uid, char ret_name[FND_NAME_MAX + 1])
{
	const char *slash;
	const char *base;
	uint32_t uid = geteuid();
	size_t len;

	if (!name)
		return fnd_fail(EINVAL, "no segment name");
	slash = strchr(name, '/');
	base = slash ? slash + 1 : name;
	if (slash && parse_uid(name, (size_t)(slash - name), &uid))
		return fnd_fail(EINVAL, "segment name '%.80s': what is before '/' is not a user id", name);
	len = strlen(base);
	if (len == 0 || len > FND_NAME_MAX)
		return fnd_fail(EINVAL, "segment name '%.80s' has %zu bytes, not 1 to %d", name, len,
				FND_NAME_MAX);
	for (size_t i = 0; i < len; i++)
		if (!name_byte(base[i]))
			return fnd_fail(EINVAL, "segment name '%.80s': byte %zu is not one of a-z 0-9 . _ -",
					name, (size_t)(base - name) + i + 1);
	memcpy(ret_name, base, len + 1);
	*ret_uid = uid;
	return 0;
}

int fnd_name_path(uint32_t uid, const char *name, char *buf, size_t buf_bytes)
{
	int len = snprintf(buf, buf_bytes, FND_SHM_DIRECTORY "/" FND_FILE_PREFIX "%" PRIu32 ".%s", uid,
			   name);

	return len < 0 || (size_t)len >= buf_bytes ? -ENAMETOOLONG : 0;
}

static const char *type_name(mode_t mode)
{
	switch (mode & S_IFMT) {
	case S_IFDIR:
		return "a directory";
	case S_IFIFO:
		return "a FIFO";
	case S_IFSOCK:
		return "a socket";
	case S_IFLNK:
		return "a symbolic link";
	case S_IFCHR:
	case S_IFBLK:
		return "a device";
	default:
		return "no regular file";
	}
}

static int check_file(const char *path, uint32_t uid, const struct stat *st)
{
	if (!S_ISREG(st->st_mode))
		return fnd_fail(FND_E_FOREIGN, "%s is %s", path, type_name(st->st_mode));
	if (st->st_uid != uid)
		return fnd_fail(FND_E_FOREIGN, "%s: owner is user %u, the name says %" PRIu32, path,
				(unsigned int)st->st_uid, uid);
	if (st->st_mode & S_IWOTH)
		return fnd_fail(FND_E_FOREIGN, "%s: mode is %04o, writable for everybody", path,
				(unsigned int)st->st_mode & 07777);
	return 0;
}

/* Why open(2) failed, in terms of segments. */
static int open_failed(const char *path, int err)
{
	struct stat st;

	switch (err) {
	case ENOENT:
		return fnd_fail(ENOENT, "%s does not exist", path);
	case EACCES:
	case EPERM:
		return fnd_fail(EACCES, "%s may not be opened", path);
	case ELOOP:
		return fnd_fail(FND_E_FOREIGN, "%s is a symbolic link", path);
	case EWOULDBLOCK:
		return fnd_fail(EBUSY, "%s: a lease on it did not end within %d ms", path, LEASE_WAIT_MS);
	case EISDIR:
	case ENXIO:
	case ENODEV:
		if (lstat(path, &st) == 0 && !S_ISREG(st.st_mode))
			return fnd_fail(FND_E_FOREIGN, "%s is %s", path, type_name(st.st_mode));
		return fnd_fail(FND_E_FOREIGN, "%s is no regular file", path);
	default:
		return fnd_fail(err, "%s: open failed with errno %d", path, err);
	}
}

static int open_patiently(const char *path, int flags)
{
	const struct timespec pause = { 0, LEASE_POLL_MS * 1000000L };
	int waited = 0;
	int fd;

	for (;;) {
		fd = open(path, flags | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
		if (fd >= 0)
			return fd;
		if (errno == EINTR)
			continue;
		if (errno != EWOULDBLOCK || waited >= LEASE_WAIT_MS)
			return -errno;
		nanosleep(&pause, NULL);
		waited += LEASE_POLL_MS;
	}
}

int fnd_segment_open_file(const char *name, int flags, int *ret_fd, struct stat *ret_st)
{
	char base[FND_NAME_MAX + 1];
	char path[FND_PATH_BYTES];
	struct stat st;
	uint32_t uid;
	int fd;
	int err;

	err = fnd_name_parse(name, &uid, base);
	if (!err)
		err = fnd_name_path(uid, base, path, sizeof(path));
	if (err)
		return err;
	fd = open_patiently(path, flags);
	if (fd < 0)
		return open_failed(path, -fd);
	err = fstat(fd, &st) == 0 ? check_file(path, uid, &st) : -errno;
	if (err) {
		close(fd);
		return err;
	}
	*ret_fd = fd;
	*ret_st = st;
	return 0;
}

int fnd_header_read(int fd, struct fnd_shm_header *ret_header)
{
	struct fnd_shm_header header;
	size_t have = 0;

	memset(&header, 0, sizeof(header));
	while (have < sizeof(header)) {
		ssize_t n = pread(fd, (char *)&header + have, sizeof(header) - have, (off_t)have);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return fnd_fail(errno, "reading the header failed with errno %d", errno);
		if (n == 0)
			break;
		have += (size_t)n;
	}
	*ret_header = header;
	return 0;
}
