// SPDX-License-Identifier: MIT
/*
 * Something else under our name, a file cut short, a header with any bit turned, a header of another
 * version: attach, create, destroy and destroy by force each say what it is, and touch nothing.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/sysmacros.h>
#include <sys/un.h>
#include <unistd.h>

#include "header.h"
#include "hostile.h"

/* --- other things under the name ------------------------------------------------------------------ */

static int write_file(const char *path, const void *bytes, size_t n, mode_t mode)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, mode);
	int ok = fd >= 0 && write(fd, bytes, n) == (ssize_t)n && fchmod(fd, mode) == 0;

	if (fd >= 0)
		close(fd);
	return ok ? 0 : 1;
}

static int make_random(const char *path)
{
	uint64_t bytes[4096];

	for (size_t i = 0; i < 4096; i++)
		bytes[i] = random_u64();
	return write_file(path, bytes, sizeof(bytes), 0600);
}

static int make_empty(const char *path)
{
	return write_file(path, "", 0, 0600);
}

static int make_text(const char *path)
{
	return write_file(path, "somebody's notes\n", 17, 0600);
}

/* Names are given out by the case; this one's file is renamed to where it is wanted. */
static int make_segment(const char *path)
{
	const char *name = name_new();

	NEED(create_small(name, NULL) == 0);
	return rename(path_of(name), path) == 0 ? 0 : 1;
}

static int make_writable(const char *path)
{
	return make_segment(path) || chmod(path, 0666) ? 1 : 0;
}

static int make_of_another(const char *path)
{
	SKIP_UNLESS(geteuid() == 0, "another owner needs root");
	return make_segment(path) || chown(path, NOBODY, NOBODY) ? 1 : 0;
}

/* To a sound segment: even that is not followed. */
static int make_symlink(const char *path)
{
	const char *name = name_new();

	NEED(create_small(name, NULL) == 0);
	NEED(symlink(path_of(name), path) == 0);
	return 0;
}

static int make_dangling(const char *path)
{
	return symlink("/dev/shm/foundation.nowhere", path) ? 1 : 0;
}

static int make_fifo(const char *path)
{
	return mkfifo(path, 0600) ? 1 : 0;
}

static int make_directory(const char *path)
{
	return mkdir(path, 0700) ? 1 : 0;
}

static int make_socket(const char *path)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), err;

	snprintf(a.sun_path, sizeof(a.sun_path), "%.107s", path);
	err = fd < 0 ? -1 : bind(fd, (struct sockaddr *)&a, sizeof(a));
	if (fd >= 0)
		close(fd);
	return err ? 1 : 0;
}

static int make_device(const char *path)
{
	SKIP_UNLESS(mknod(path, S_IFCHR | 0600, makedev(1, 3)) == 0, "no device may be made");
	return 0;
}

static const struct foreign {
	const char *what;
	int (*make)(const char *path);
	const char *word; /* in the detail */
} foreigns[] = {
	{ "random bytes", make_random, "magic" },
	{ "an empty file", make_empty, "0 bytes" },
	{ "a text file", make_text, "17 bytes" },
	{ "writable for everybody", make_writable, "writable for everybody" },
	{ "another owner", make_of_another, "owner is user 65534" },
	{ "a symbolic link", make_symlink, "is a symbolic link" },
	{ "a dangling link", make_dangling, "is a symbolic link" },
	{ "a FIFO", make_fifo, "is a FIFO" },
	{ "a directory", make_directory, "is a directory" },
	{ "a socket", make_socket, "is a socket" },
	{ "a device", make_device, "is a device" },
};

static int foreign_one(const struct foreign *f)
{
	const char *name = name_new();
	struct fnd_segment *seg = NULL;
	struct fingerprint before;
	char path[160];

	snprintf(path, sizeof(path), "%s", path_of(name));
	TRY(f->make(path));
	NEED(fingerprint(path, &before) == 0);
	NEED(refused(fnd_segment_attach(name, NULL, &seg), FND_E_FOREIGN, f->word));
	NEED(refused(fnd_segment_create(name, NULL, &seg), FND_E_FOREIGN, f->word));
	NEED(refused(fnd_segment_destroy(name, 0), FND_E_FOREIGN, f->word));
	NEED(refused(fnd_segment_destroy(name, FND_DESTROY_FORCE), FND_E_FOREIGN, f->word));
	NEED(seg == NULL && untouched(path, &before));
	if (before.st.st_size > 4096 && S_ISREG(before.st.st_mode))
		chmod(path, 0600); /* nothing of it is kept */
	NEED((S_ISDIR(before.st.st_mode) ? rmdir(path) : unlink(path)) == 0);
	if (S_ISLNK(before.st.st_mode)) /* where it led */
		unlink(before.link);
	return 0;
}

static int foreign(void)
{
	int failed = 0;

	for (size_t i = 0; i < sizeof(foreigns) / sizeof(foreigns[0]); i++) {
		int r = foreign_one(&foreigns[i]);

		if (r && r != SKIP)
			fprintf(stderr, "that was %s\n", foreigns[i].what);
		failed |= r == 1;
	}
	return failed;
}

/* What another user may not read is no segment of ours to judge, and stays what it is. */
static int as_nobody(void *name)
{
	struct fnd_segment *seg = NULL;
	char theirs[FND_NAME_MAX + 16];

	SKIP_UNLESS(setgid(NOBODY) == 0 && setuid(NOBODY) == 0, "no other user to become");
	snprintf(theirs, sizeof(theirs), "0/%s", (const char *)name);
	NEED(refused(fnd_segment_attach(theirs, NULL, &seg), EACCES, name));
	NEED(refused(fnd_segment_destroy(theirs, 0), EACCES, name));
	NEED(refused(fnd_segment_destroy(theirs, FND_DESTROY_FORCE), EACCES, name));
	NEED(refused(fnd_segment_create(theirs, NULL, &seg), EINVAL, "name space"));
	NEED(seg == NULL);
	return 0;
}

static int no_permission(void)
{
	const char *name = name_new();
	struct fingerprint before;
	int status;

	SKIP_UNLESS(geteuid() == 0, "another user needs root");
	NEED(create_small(name, NULL) == 0);
	NEED(fingerprint(path_of(name), &before) == 0);
	status = child_run(as_nobody, (void *)(uintptr_t)name);
	NEED(untouched(path_of(name), &before));
	NEED(fnd_segment_destroy(name, 0) == 0);
	return status;
}

/* --- a segment file as bytes ---------------------------------------------------------------------- */

struct image {
	const char *name;
	char path[160];
	char *bytes;
	size_t size;
	struct fnd_shm_header header;
};

/* A segment with a table and 50 records; everybody has left. */
static int image_make(struct image *im)
{
	struct fnd_table_options o = table_options(0, 64);
	struct fnd_segment *seg;
	struct fnd_table *t;
	struct stat st;
	int fd;

	im->name = name_new();
	snprintf(im->path, sizeof(im->path), "%s", path_of(im->name));
	NEED(create_small(im->name, &seg) == 0);
	NEED(fnd_table_open(seg, "a", &o, &t) == 0);
	for (unsigned int i = 0; i < 50; i++)
		NEED(put(t, i) == 0);
	fnd_table_close(t);
	NEED(fnd_segment_detach(seg) == 0);
	fd = open(im->path, O_RDONLY | O_CLOEXEC);
	NEED(fd >= 0 && fstat(fd, &st) == 0);
	im->size = (size_t)st.st_size;
	im->bytes = malloc(im->size);
	NEED(im->bytes && pread(fd, im->bytes, im->size, 0) == (ssize_t)im->size);
	close(fd);
	memcpy(&im->header, im->bytes, sizeof(im->header));
	return 0;
}

static int image_free(struct image *im)
{
	free(im->bytes);
	return unlink(im->path) == 0 ? 0 : 1;
}

/* The first @n bytes of the image become the file. */
static int image_put(const struct image *im, size_t n)
{
	return write_file(im->path, im->bytes, n, 0600);
}

static int image_header(const struct image *im, const struct fnd_shm_header *h)
{
	int fd = open(im->path, O_WRONLY | O_CLOEXEC);
	int ok = fd >= 0 && pwrite(fd, h, sizeof(*h), 0) == sizeof(*h);

	if (fd >= 0)
		close(fd);
	return ok ? 0 : 1;
}

/* Attaching and destroying are refused with @code, 0: any of its five; the file is not touched. */
static int image_refused(const struct image *im, int code, const char *word)
{
	struct fnd_segment *seg = NULL;
	struct fingerprint before;
	int err;

	NEED(fingerprint(im->path, &before) == 0);
	err = fnd_segment_attach(im->name, NULL, &seg);
	NEED(seg == NULL);
	if (code)
		NEED(refused(err, code, word));
	NEED(err <= -FND_E_CORRUPT && err >= -FND_E_LAYOUT);
	NEED(strlen(fnd_error_detail()) > 10);
	NEED(fnd_segment_destroy(im->name, 0) == err);
	NEED(fnd_segment_create(im->name, NULL, &seg) ==
	     (err == -FND_E_FOREIGN || word == NULL ? -FND_E_FOREIGN : -EEXIST));
	NEED(seg == NULL && untouched(im->path, &before));
	return 0;
}

/* It attaches, and the records are there. */
static int image_works(const struct image *im)
{
	struct fnd_segment *seg;
	struct fnd_table *t;

	NEED(fnd_segment_attach(im->name, NULL, &seg) == 0);
	NEED(fnd_table_open(seg, "a", NULL, &t) == 0);
	for (unsigned int i = 0; i < 50; i++)
		NEED(check(t, i) == 0);
	NEED(put(t, 50) == 0 && check(t, 50) == 0 && fnd_table_check(t) == 0);
	fnd_table_close(t);
	return fnd_segment_detach(seg) == 0 ? 0 : 1;
}

/* --- cut short ------------------------------------------------------------------------------------ */

static int cut_one(const struct image *im, uint64_t n)
{
	char word[32];
	int code = n < 8 ? FND_E_FOREIGN : FND_E_CORRUPT;

	snprintf(word, sizeof(word), "%llu", (unsigned long long)n);
	NEED(image_put(im, n) == 0);
	TRY(image_refused(im, code, word)); /* the detail says how long the file is */
	NEED(fnd_segment_destroy(im->name, FND_DESTROY_FORCE) == (n < 8 ? -FND_E_FOREIGN : 0));
	NEED((access(im->path, F_OK) == 0) == (n < 8));
	return 0;
}

static int cut_short(void)
{
	struct image im;

	TRY(image_make(&im));
	const struct fnd_shm_header *h = &im.header;
	const uint64_t lengths[] = {
		0, 1, 7, 8, 100, 512, 4095, 4096, h->process_off + 64, h->thread_off - 1,
		h->thread_off, h->thread_off + 200, h->cell_off, h->cell_off + 4096,
		h->table_off - 1, h->table_off, h->table_off + 700, h->span_off - 1, h->span_off,
		h->span_off + 64, (h->span_off + h->brk) / 2, h->brk - 4096, h->brk - 1
	};

	for (size_t i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++) {
		if (cut_one(&im, lengths[i])) {
			fprintf(stderr, "that was the length %llu\n", (unsigned long long)lengths[i]);
			return 1;
		}
	}
	NEED(image_put(&im, h->brk) == 0); /* nothing is missing: the rest was slack */
	TRY(image_works(&im));
	return image_free(&im);
}

/* --- any bit turned ------------------------------------------------------------------------------- */

static int flip_and(struct image *im, size_t bit, int (*then)(const struct image *im))
{
	struct fnd_shm_header h = im->header;

	((unsigned char *)&h)[bit / 8] ^= (unsigned char)(1u << bit % 8);
	NEED(image_header(im, &h) == 0);
	if (then(im) == 0)
		return 0;
	fprintf(stderr, "that was bit %zu of byte %zu\n", bit % 8, bit / 8);
	return 1;
}

static int refused_somehow(const struct image *im)
{
	struct fnd_shm_header h;
	int fd = open(im->path, O_RDONLY | O_CLOEXEC);
	int ok = fd >= 0 && pread(fd, &h, sizeof(h), 0) == sizeof(h);

	if (fd >= 0)
		close(fd);
	NEED(ok);
	return image_refused(im, 0, h.magic == FND_MAGIC ? "" : NULL);
}

static int flip_static(void)
{
	struct image im;

	TRY(image_make(&im));
	for (size_t bit = 0; bit < 8 * offsetof(struct fnd_shm_header, boot_id); bit++)
		TRY(flip_and(&im, bit, refused_somehow));
	NEED(image_put(&im, im.size) == 0);
	TRY(image_works(&im));
	return image_free(&im);
}

static int hold(void *name)
{
	struct fnd_segment *seg;

	NEED(fnd_segment_attach(name, NULL, &seg) == 0);
	word_set(&shared->word[0], 1);
	word_wait(&shared->word[1], 1);
	return fnd_segment_detach(seg) == 0 ? 0 : 1;
}

static int dirty(const struct image *im)
{
	struct fnd_segment *seg = NULL;
	struct fingerprint before;

	NEED(fingerprint(im->path, &before) == 0);
	NEED(refused(fnd_segment_attach(im->name, NULL, &seg), FND_E_DIRTY, "takeover"));
	NEED(fnd_segment_destroy(im->name, 0) == -EBUSY);
	NEED(seg == NULL && untouched(im->path, &before));
	return 0;
}

/* Where participants live: with somebody there it is refused, alone it is taken over. */
static int flip_home(void)
{
	const size_t from = 8 * offsetof(struct fnd_shm_header, boot_id);
	const size_t to = 8 * offsetof(struct fnd_shm_header, pad0);
	struct fnd_shm_header now;
	struct image im;
	pid_t holder;
	int fd;

	TRY(image_make(&im));
	for (size_t bit = from; bit < to; bit++) {
		NEED(image_put(&im, im.size) == 0);
		TRY(flip_and(&im, bit, image_works));
	}
	fd = open(im.path, O_RDONLY | O_CLOEXEC);
	NEED(fd >= 0 && pread(fd, &now, sizeof(now), 0) == sizeof(now));
	close(fd);
	NEED(fnd_home_check(&now) == 0); /* the takeover wrote a sound one */
	NEED(image_put(&im, im.size) == 0);
	holder = child_start(hold, (void *)(uintptr_t)im.name);
	NEED(word_wait(&shared->word[0], 1) == 0);
	fd = open(im.path, O_RDONLY | O_CLOEXEC);
	NEED(fd >= 0 && pread(fd, &im.header, sizeof(now), 0) == sizeof(now));
	close(fd);
	for (size_t bit = from; bit < to; bit += 61) /* each refusal takes its time */
		TRY(flip_and(&im, bit, dirty));
	NEED(image_header(&im, &im.header) == 0);
	TRY(image_works(&im));
	word_set(&shared->word[1], 1);
	NEED(child_wait(holder) == 0);
	return image_free(&im);
}

/* Padding and what is reserved mean nothing: any bit of it may be set. */
static int flip_reserved(void)
{
	struct image im;

	TRY(image_make(&im));
	for (size_t i = 0; i < 200; i++) {
		size_t byte = offsetof(struct fnd_shm_header, reserved) +
			      random_u64() % sizeof(im.header.reserved);

		NEED(image_put(&im, im.size) == 0);
		TRY(flip_and(&im, 8 * byte + i % 8, image_works));
	}
	return image_free(&im);
}

/* --- another version ------------------------------------------------------------------------------ */

#define F(member) #member, offsetof(struct fnd_shm_header, member), \
	sizeof(((struct fnd_shm_header *)0)->member)

/* Each member that says what the bytes behind it mean, under a checksum that is right. */
static const struct version {
	const char *member;
	size_t offset, bytes;
	int64_t by; /* added */
	int code;   /* 0: works */
	const char *word; /* the detail names this member, which no longer fits */
} versions[] = {
	{ F(magic), 1, FND_E_FOREIGN, NULL },
	{ F(layout_major), -1, FND_E_TOO_OLD, NULL },
	{ F(layout_major), 1, FND_E_TOO_NEW, NULL },
	{ F(layout_major), 1000, FND_E_TOO_NEW, NULL },
	{ F(layout_minor), 1, 0, NULL }, /* with our hash: nothing we know has moved */
	{ F(layout_hash), 1, FND_E_LAYOUT, NULL },
	{ F(layout_hash), -1, FND_E_LAYOUT, NULL },
	{ F(endian), 1, FND_E_LAYOUT, NULL },
	{ F(endian), 0x03010000, FND_E_LAYOUT, NULL },
	{ F(page_bytes), 12288, FND_E_LAYOUT, NULL },
	{ F(page_bytes), -4096, FND_E_LAYOUT, NULL },
	{ F(line_bytes), 64, FND_E_LAYOUT, NULL },
	{ F(header_bytes), 4096, FND_E_LAYOUT, NULL },
	{ F(header_bytes), -64, FND_E_LAYOUT, NULL },
	{ F(feature_compat), 0x80, 0, NULL },
	{ F(feature_ro_compat), 1, FND_E_TOO_NEW, NULL },
	{ F(feature_ro_compat), 0x80000000, FND_E_TOO_NEW, NULL },
	{ F(feature_incompat), 2, FND_E_TOO_NEW, NULL },
	{ F(feature_incompat), 0x80000000, FND_E_TOO_NEW, NULL },
	{ F(feature_incompat), FND_INCOMPAT_FENCED, 0, NULL },
	{ F(tables), 1, FND_E_CORRUPT, NULL },
	{ F(processes), 1, FND_E_CORRUPT, "thread_off" },
	{ F(processes), 5000, FND_E_CORRUPT, NULL },
	{ F(threads), 1, FND_E_CORRUPT, "cell_off" },
	{ F(threads), -16, FND_E_CORRUPT, NULL },
	{ F(max_bytes), 1LL << 40, FND_E_CORRUPT, NULL },
	{ F(process_off), 64, FND_E_CORRUPT, "thread_off" },
	{ F(thread_off), -64, FND_E_CORRUPT, NULL },
	{ F(cell_off), 1LL << 35, FND_E_CORRUPT, NULL },
	{ F(table_off), 8, FND_E_CORRUPT, NULL },
	{ F(span_off), -64, FND_E_CORRUPT, NULL },
};

static int version_one(const struct image *im, const struct version *v)
{
	struct fnd_shm_header h = im->header;
	uint64_t value = 0;

	memcpy(&value, (char *)&h + v->offset, v->bytes);
	value += (uint64_t)v->by;
	memcpy((char *)&h + v->offset, &value, v->bytes);
	h.checksum = fnd_header_checksum(&h);
	NEED(image_put(im, im->size) == 0 && image_header(im, &h) == 0);
	if (v->code == 0)
		return image_works(im);
	return image_refused(im, v->code, v->word ? v->word : v->member);
}

static int other_version(void)
{
	struct fnd_segment *seg = NULL;
	struct fnd_shm_header h;
	struct image im;
	int failed = 0;

	TRY(image_make(&im));
	for (size_t i = 0; i < sizeof(versions) / sizeof(versions[0]); i++) {
		if (version_one(&im, &versions[i]) == 0)
			continue;
		fprintf(stderr, "that was %s by %lld\n", versions[i].member,
			(long long)versions[i].by);
		failed = 1;
	}
	h = im.header; /* a newer minor version with another structure */
	h.layout_minor++;
	h.layout_hash++;
	h.checksum = fnd_header_checksum(&h);
	NEED(image_header(&im, &h) == 0);
	TRY(image_refused(&im, FND_E_TOO_NEW, "layout_minor"));
	h = im.header;
	h.magic = __builtin_bswap64(h.magic);
	NEED(image_header(&im, &h) == 0);
	NEED(refused(fnd_segment_attach(im.name, NULL, &seg), FND_E_LAYOUT, "byte order"));
	return image_free(&im) ? 1 : failed;
}

const struct test_case file_cases[] = {
	{ "foreign", foreign },
	{ "no_permission", no_permission },
	{ "cut_short", cut_short },
	{ "flip_static", flip_static },
	{ "flip_home", flip_home },
	{ "flip_reserved", flip_reserved },
	{ "other_version", other_version },
	{ NULL, NULL },
};
