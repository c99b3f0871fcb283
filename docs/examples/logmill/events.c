/* SPDX-License-Identifier: MIT */
/*
 * Templates in the segment, and the file they are written to.
 *
 * A claim has a key of at most 255 bytes and an event of at most 1024. A template may be longer than
 * either, or empty, and nothing of it may be lost:
 *
 *   key    the template itself; of an empty or long one, or of one that begins with NUL, a NUL byte and
 *          a digest of 16 bytes
 *   event  the template itself; of a long one, or of one that begins with NUL, a NUL byte and a reference
 *          to the line it comes from: the template is made anew from there, and its digest compared
 *
 * So the first byte tells which it is, and two templates never share a key.
 */
#include "mill.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#define DIGEST_KEY (1 + sizeof(XXH128_canonical_t))

struct reference {
	char nul;
	char reserved[7];
	uint64_t off;
	uint64_t len;
	char path[]; /* to the end of the event, no NUL */
};

static void digest_key(struct text template, char key[DIGEST_KEY])
{
	XXH128_canonical_t digest;

	XXH128_canonicalFromHash(&digest, XXH3_128bits(template.at, template.len));
	key[0] = '\0';
	memcpy(key + 1, &digest, sizeof(digest));
}

static size_t make_reference(const struct logs *logs, const struct log_line *line,
			     char event[FND_DEDUP_EVENT_MAX])
{
	const char *path = logs->files[line->file].path;
	const struct reference ref = { .off = line->off, .len = line->len };
	size_t room = FND_DEDUP_EVENT_MAX - sizeof(ref), len = strlen(path);

	memcpy(event, &ref, sizeof(ref));
	/* Of a path that does not fit the end is kept: enough to know our own file again. */
	if (len > room) {
		path += len - room;
		len = room;
	}
	memcpy(event + sizeof(ref), path, len);
	return sizeof(ref) + len;
}

/* Claim a line's template. Returns an enum fnd_claim or a negative error. */
int events_claim(struct fnd_dedup *dedup, const struct logs *logs, const struct log_line *line,
		 struct text template, uint64_t window_ns)
{
	bool plain = template.len && template.at[0] != '\0';
	struct text key = template, event = template;
	char digest[DIGEST_KEY], reference[FND_DEDUP_EVENT_MAX];

	if (!plain || template.len > FND_DEDUP_KEY_MAX) {
		digest_key(template, digest);
		key = (struct text){ digest, sizeof(digest) };
	}
	if ((template.len && !plain) || template.len > FND_DEDUP_EVENT_MAX)
		event = (struct text){ reference, make_reference(logs, line, reference) };
	return fnd_dedup_claim(dedup, key.at, key.len, event.at, event.len, window_ns);
}

/* What the events file will hold. */
struct collection {
	const struct logs *logs;
	struct text *templates;
	size_t count, room;
	uint64_t unread;
};

static int collect(struct collection *c, struct text template)
{
	if (c->count == c->room) {
		size_t room = c->room ? c->room * 2 : 256;
		struct text *p = realloc(c->templates, room * sizeof(*p));

		if (!p)
			return -ENOMEM;
		c->templates = p;
		c->room = room;
	}

	char *copy = malloc(template.len + 1);

	if (!copy)
		return -ENOMEM;
	if (template.len)
		memcpy(copy, template.at, template.len);
	c->templates[c->count++] = (struct text){ copy, template.len };
	return 0;
}

/* The bytes of a line of one of our own logs, which are in memory; nothing in @ref is trusted. */
static struct text own_line(const struct logs *logs, const struct reference *ref, struct text path)
{
	for (size_t i = 0; i < logs->nfiles; i++) {
		const struct log_file *f = &logs->files[i];
		size_t len = strlen(f->path);

		if (len >= path.len && memcmp(f->path + len - path.len, path.at, path.len) == 0 &&
		    ref->off <= f->len && ref->len <= f->len - ref->off)
			return (struct text){ f->bytes + ref->off, ref->len };
	}
	return (struct text){ 0 };
}

/* The bytes of a line of a log that an earlier run on this segment has read. */
static char *foreign_line(const struct reference *ref, struct text path)
{
	char name[FND_DEDUP_EVENT_MAX + 1];
	struct stat st;
	char *bytes = NULL;

	memcpy(name, path.at, path.len);
	name[path.len] = '\0';

	int fd = name[0] == '/' ? open(name, O_RDONLY | O_CLOEXEC | O_NONBLOCK) : -1;

	if (fd < 0)
		return NULL;
	if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && ref->off <= (uint64_t)st.st_size &&
	    ref->len <= (uint64_t)st.st_size - ref->off)
		bytes = malloc(ref->len + 1);
	if (bytes && pread(fd, bytes, ref->len, (off_t)ref->off) != (ssize_t)ref->len) {
		free(bytes);
		bytes = NULL;
	}
	close(fd);
	return bytes;
}

static int collect_referenced(struct collection *c, const struct fnd_event *e)
{
	struct reference ref;

	if (e->event_bytes < sizeof(ref) || e->key_bytes != DIGEST_KEY) {
		c->unread++;
		return 0;
	}
	memcpy(&ref, e->event, sizeof(ref));

	struct text path = { (const char *)e->event + sizeof(ref), e->event_bytes - sizeof(ref) };
	struct text line = own_line(c->logs, &ref, path), message, template;
	char *foreign = line.at ? NULL : foreign_line(&ref, path);
	char source[SOURCE_MAX + 1], key[DIGEST_KEY];
	struct mask_buffer buffer = { 0 };
	int err = 0;

	if (foreign)
		line = (struct text){ foreign, ref.len };
	line_parse("", line, source, &message);
	err = mask_message(message, &buffer, &template);
	if (!err) {
		digest_key(template, key);
		if (memcmp(key, e->key, DIGEST_KEY) == 0)
			err = collect(c, template);
		else
			c->unread++;
	}
	mask_free(&buffer);
	free(foreign);
	return err;
}

static int collect_event(const struct fnd_event *e, void *arg)
{
	if (e->event_bytes && *(const char *)e->event == '\0')
		return collect_referenced(arg, e);
	return collect(arg, (struct text){ e->event, e->event_bytes });
}

static int count_event(const struct fnd_event *e, void *arg)
{
	(void)e;
	++*(uint64_t *)arg;
	return 0;
}

int events_count(struct fnd_dedup *dedup, uint64_t *ret_count)
{
	uint64_t count = 0;
	int err = fnd_dedup_iterate(dedup, count_event, &count);

	if (!err)
		*ret_count = count;
	return err;
}

static int compare(const void *a, const void *b)
{
	const struct text *x = a, *y = b;
	int order = memcmp(x->at, y->at, x->len < y->len ? x->len : y->len);

	return order ? order : (x->len > y->len) - (x->len < y->len);
}

/* Before any work is done: would the file replace something that is not a file? */
int events_check_target(const char *path)
{
	char copy[PATH_MAX];
	struct stat st;

	if (strlen(path) >= sizeof(copy) - 32)
		return -ENAMETOOLONG;
	if (lstat(path, &st) == 0 && !S_ISREG(st.st_mode))
		return S_ISDIR(st.st_mode) ? -EISDIR : -EEXIST;
	strcpy(copy, path);
	return access(dirname(copy), W_OK) ? -errno : 0;
}

static int sync_directory(const char *path)
{
	char copy[PATH_MAX];

	strcpy(copy, path);

	int fd = open(dirname(copy), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int err = fd < 0 || fsync(fd) ? -errno : 0;

	if (fd >= 0)
		close(fd);
	return err;
}

static int write_templates(const struct collection *c, const char *path)
{
	FILE *f = fopen(path, "we");

	if (!f)
		return -errno;
	for (size_t i = 0; i < c->count; i++) {
		fwrite(c->templates[i].at, 1, c->templates[i].len, f);
		putc('\n', f);
	}

	int err = fflush(f) || ferror(f) || fsync(fileno(f)) ? -errno : 0;

	if (fclose(f) && !err)
		err = -errno;
	return err;
}

/* Whoever reads the file sees the one of an earlier pass or this one, never a part of it. */
static int replace_file(const struct collection *c, const char *path)
{
	char aside[PATH_MAX];

	snprintf(aside, sizeof(aside), "%s.%d.new", path, (int)getpid());

	int err = write_templates(c, aside);

	if (!err && rename(aside, path))
		err = -errno;
	if (err) {
		unlink(aside);
		return err;
	}
	return sync_directory(path);
}

int events_write(struct mill *mill)
{
	const char *path = mill->options.events;
	struct collection c = { .logs = &mill->logs };
	int status = 0, err;

	if (!path)
		return 0;
	err = fnd_dedup_iterate(mill->dedup, collect_event, &c);
	if (err) {
		status = complain("cannot read the events", err);
	} else {
		if (c.count)
			qsort(c.templates, c.count, sizeof(*c.templates), compare);
		err = replace_file(&c, path);
		if (err) {
			complain_system(path, err);
			status = 7; /* the work is done, but not on disk */
		}
		mill->events_unread = c.unread;
	}
	for (size_t i = 0; i < c.count; i++)
		free((char *)c.templates[i].at);
	free(c.templates);
	return status;
}
