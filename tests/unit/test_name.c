// SPDX-License-Identifier: MIT
/* Names and the files behind them: what is accepted, and how each other thing is refused. */
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "error.h"
#include "name.h"

static int parse(const char *name, uint32_t *uid, char base[FND_NAME_MAX + 1])
{
	*uid = 12345;
	strcpy(base, "untouched");
	return fnd_name_parse(name, uid, base);
}

Test(name, accepted)
{
	static const char *const plain[] = { "a", "orders", "a.b_c-d", "0", "..", "-", "x0123456789" };
	char base[FND_NAME_MAX + 1], longest[FND_NAME_MAX + 1];
	uint32_t uid;

	for (size_t i = 0; i < sizeof(plain) / sizeof(plain[0]); i++) {
		cr_expect_eq(parse(plain[i], &uid, base), 0, "%s", plain[i]);
		cr_expect_eq(uid, geteuid());
		cr_expect_str_eq(base, plain[i]);
	}
	memset(longest, 'z', FND_NAME_MAX);
	longest[FND_NAME_MAX] = '\0';
	cr_expect_eq(parse(longest, &uid, base), 0);
	cr_expect_eq(parse("0/x", &uid, base), 0);
	cr_expect_eq(uid, 0);
	cr_expect_eq(parse("1000/svc", &uid, base), 0);
	cr_expect_eq(uid, 1000);
	cr_expect_str_eq(base, "svc");
	cr_expect_eq(parse("4294967294/svc", &uid, base), 0);
	cr_expect_eq(uid, 4294967294u);
}

Test(name, refused)
{
	static const char *const bad[] = { "",	       "A",	     "a b",	   "a\n",	"ä",
					   "/",	       "/a",	     "a/",	   "1/",	"1/2/3",
					   "x/a",      "-1/a",	     "+1/a",	   " 1/a",	"01/a",
					   "00/a",     "4294967295/a", "4294967296/a",
					   "99999999999999999999/a", "1/../a",	   "../a",	"a*",
					   "1000/A" };
	char base[FND_NAME_MAX + 1], too_long[FND_NAME_MAX + 2];
	uint32_t uid;

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		cr_expect_eq(parse(bad[i], &uid, base), -EINVAL, "'%s' was accepted", bad[i]);
		cr_expect_eq(uid, 12345, "'%s': out-parameter touched", bad[i]);
		cr_expect_str_eq(base, "untouched");
	}
	memset(too_long, 'z', sizeof(too_long));
	too_long[FND_NAME_MAX + 1] = '\0';
	cr_expect_eq(parse(too_long, &uid, base), -EINVAL);
	cr_expect_eq(fnd_name_parse(NULL, &uid, base), -EINVAL);
}

Test(name, path)
{
	char longest[FND_NAME_MAX + 1];
	char buf[FND_PATH_BYTES];

	cr_expect_eq(fnd_name_path(1000, "svc", buf, sizeof(buf)), 0);
	cr_expect_str_eq(buf, "/dev/shm/foundation.1000.svc");
	memset(longest, 'z', FND_NAME_MAX);
	longest[FND_NAME_MAX] = '\0';
	cr_expect_eq(fnd_name_path(UINT32_MAX, longest, buf, sizeof(buf)), 0, "a path always fits");
	cr_expect_eq(fnd_name_path(1000, "svc", buf, 10), -ENAMETOOLONG);
}

/* A name of this test's own, and the path it stands for. */
static void own(const char *what, char name[FND_NAME_MAX + 1], char path[FND_PATH_BYTES])
{
	snprintf(name, FND_NAME_MAX + 1, "test.name.%d.%s", (int)getpid(), what);
	cr_assert_eq(fnd_name_path(geteuid(), name, path, FND_PATH_BYTES), 0);
}

/* Opening is refused with @code, the detail says @word, nothing is left open. */
static void refused(const char *name, int flags, int code, const char *word)
{
	struct stat st = { .st_size = 4711 };
	int fd = 4711;
	int err = fnd_segment_open_file(name, flags, &fd, &st);

	cr_expect_eq(err, -code, "%s: %d (%s), expected %d", name, err, fnd_error_detail(), -code);
	cr_expect(strstr(fnd_error_detail(), word), "'%s' does not say %s", fnd_error_detail(), word);
	cr_expect_eq(fd, 4711, "out-parameter touched");
	cr_expect_eq(st.st_size, 4711, "out-parameter touched");
}

static void refused_both(const char *name, int code, const char *word)
{
	refused(name, O_RDONLY, code, word);
	refused(name, O_RDWR, code, word);
}

Test(open, absent)
{
	char name[FND_NAME_MAX + 1], path[FND_PATH_BYTES];

	own("absent", name, path);
	refused_both(name, ENOENT, path);
	refused_both("not a name", EINVAL, "not a name");
}

Test(open, regular)
{
	char name[FND_NAME_MAX + 1], path[FND_PATH_BYTES];
	struct stat st;
	int made, fd = -1;

	own("regular", name, path);
	made = open(path, O_CREAT | O_EXCL | O_RDWR | O_CLOEXEC, 0600);
	cr_assert_geq(made, 0);
	cr_expect_eq(write(made, "x", 1), 1);
	close(made);
	cr_expect_eq(fnd_segment_open_file(name, O_RDWR, &fd, &st), 0, "%s", fnd_error_detail());
	cr_expect_eq(st.st_size, 1);
	cr_expect(fcntl(fd, F_GETFD) & FD_CLOEXEC);
	close(fd);
	cr_expect_eq(chmod(path, 0602), 0);
	refused_both(name, FND_E_FOREIGN, "0602");
	cr_expect_eq(unlink(path), 0);
}

Test(open, symbolic_link)
{
	char name[FND_NAME_MAX + 1], path[FND_PATH_BYTES];

	own("link", name, path);
	cr_assert_eq(symlink("/etc/passwd", path), 0);
	refused_both(name, FND_E_FOREIGN, "symbolic link");
	cr_expect_eq(unlink(path), 0);
}

Test(open, fifo)
{
	char name[FND_NAME_MAX + 1], path[FND_PATH_BYTES];

	own("fifo", name, path);
	cr_assert_eq(mkfifo(path, 0600), 0);
	refused_both(name, FND_E_FOREIGN, "FIFO");
	cr_expect_eq(unlink(path), 0);
}

Test(open, directory)
{
	char name[FND_NAME_MAX + 1], path[FND_PATH_BYTES];

	own("directory", name, path);
	cr_assert_eq(mkdir(path, 0700), 0);
	refused_both(name, FND_E_FOREIGN, "directory");
	cr_expect_eq(rmdir(path), 0);
}

Test(open, socket)
{
	char name[FND_NAME_MAX + 1], path[FND_PATH_BYTES];
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	own("socket", name, path);
	memcpy(address.sun_path, path, sizeof(address.sun_path) - 1);
	cr_assert_lt(strlen(path), sizeof(address.sun_path));
	cr_assert_eq(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	refused_both(name, FND_E_FOREIGN, "socket");
	close(fd);
	cr_expect_eq(unlink(path), 0);
}

/* Somebody else's file under our name. */
Test(open, other_owner)
{
	char name[FND_NAME_MAX + 1], path[FND_PATH_BYTES];
	int fd;

	if (geteuid() != 0)
		cr_skip_test("only root can give a file away");
	own("owner", name, path);
	fd = open(path, O_CREAT | O_EXCL | O_RDWR | O_CLOEXEC, 0600);
	cr_assert_geq(fd, 0);
	cr_expect_eq(fchown(fd, 65534, (gid_t)-1), 0);
	close(fd);
	refused_both(name, FND_E_FOREIGN, "65534");
	cr_expect_eq(unlink(path), 0);
}

static void *drop_lease(void *arg)
{
	usleep(200000);
	fcntl(*(int *)arg, F_SETLEASE, F_UNLCK);
	return NULL;
}

/* Somebody takes the segment over: opening waits until that is done, but not for ever. */
Test(open, lease)
{
	char name[FND_NAME_MAX + 1], path[FND_PATH_BYTES];
	pthread_t thread;
	struct stat st;
	int holder, fd = -1;

	own("lease", name, path);
	holder = open(path, O_CREAT | O_EXCL | O_RDWR | O_CLOEXEC, 0600);
	cr_assert_geq(holder, 0);
	fcntl(holder, F_SETSIG, SIGURG); /* ignored by default, where SIGIO ends the process */
	cr_assert_eq(fcntl(holder, F_SETLEASE, F_WRLCK), 0);
	refused(name, O_RDONLY, EBUSY, path);
	cr_assert_eq(pthread_create(&thread, NULL, drop_lease, &holder), 0);
	cr_expect_eq(fnd_segment_open_file(name, O_RDWR, &fd, &st), 0, "%s", fnd_error_detail());
	pthread_join(thread, NULL);
	close(fd);
	close(holder);
	cr_expect_eq(unlink(path), 0);
}

Test(open, short_header_is_padded_with_zeros)
{
	char name[FND_NAME_MAX + 1], path[FND_PATH_BYTES];
	struct fnd_shm_header h;
	int fd;

	own("short", name, path);
	fd = open(path, O_CREAT | O_EXCL | O_RDWR | O_CLOEXEC, 0600);
	cr_assert_geq(fd, 0);
	cr_expect_eq(write(fd, "FOUNSEG\n", 8), 8);
	memset(&h, 0xff, sizeof(h));
	cr_expect_eq(fnd_header_read(fd, &h), 0);
	cr_expect_eq(h.magic, FND_MAGIC);
	cr_expect_eq(h.layout_major, 0);
	cr_expect_eq(h.checksum, 0);
	close(fd);
	cr_expect_eq(unlink(path), 0);
}
