// SPDX-License-Identifier: MIT
/*
 * Who works on the segment, and where their probes are.
 *
 * A probe is attached to a file (an inode), for every process that maps it now or later: processes that
 * run already, that start later and that are forked are all covered by one attachment. But two copies
 * of the library are two files, and so is the one that an upgrade left mapped after it was deleted. So
 * the files come from the workers themselves: whatever each of them maps for execution is tried once.
 */
#include "shmlat.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#define OVERLAYFS_MAGIC 0x794c7630

static struct mapped_file *file_find(struct cover *c, const struct mapped_file *f)
{
	for (size_t i = 0; i < c->files; i++) {
		const struct mapped_file *g = &c->file[i];

		if (g->dev == f->dev && g->ino == f->ino && g->bytes == f->bytes &&
		    g->changed_s == f->changed_s && g->changed_ns == f->changed_ns)
			return &c->file[i];
	}
	return NULL;
}

static void file_attach(struct cover *c, struct mapped_file *f, int fd)
{
	char path[40];

	/* through our own descriptor: the worker, or the file's name, may be gone any moment */
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	errno = 0;
	f->link = bpf_program__attach_usdt(c->program, -1, path, "foundation", "lookup", NULL);
	if (f->link)
		return;
	f->err = errno ? errno : EINVAL;
	if (access("/sys/bus/event_source/devices/uprobe/type", F_OK))
		f->err = ENODEV; /* libbpf says ENOENT for that too */
}

/* The file behind a descriptor, attached to at its first appearance. NULL with errno. */
static struct mapped_file *file_get(struct cover *c, int fd)
{
	struct mapped_file f = { 0 }, *more;
	struct statfs fs;
	struct stat st;

	if (fstat(fd, &st))
		return NULL;
	f.dev = st.st_dev;
	f.ino = st.st_ino;
	f.bytes = (uint64_t)st.st_size;
	f.changed_s = (uint64_t)st.st_ctim.tv_sec;
	f.changed_ns = (uint64_t)st.st_ctim.tv_nsec;
	/* Containers of one image see one and the same file through overlays of different device
	 * numbers. Attaching to it twice would count each sample twice. */
	if (fstatfs(fd, &fs) == 0 && (unsigned long)fs.f_type == OVERLAYFS_MAGIC)
		f.dev = 0;
	more = file_find(c, &f);
	if (more)
		return more;
	more = realloc(c->file, (c->files + 1) * sizeof(*more));
	if (!more)
		return NULL;
	c->file = more;
	file_attach(c, &f, fd);
	c->file[c->files] = f;
	return &c->file[c->files++];
}

/* One mapping of a worker. @range: "START-END" of the maps line. */
static int mapping_open(uint32_t pid, const char *range, const char *path, uint64_t ino)
{
	char name[4200];
	struct stat st;
	int fd, err;

	/* finds deleted files too, but not without privilege */
	snprintf(name, sizeof(name), "/proc/%" PRIu32 "/map_files/%s", pid, range);
	fd = open(name, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
	if (fd >= 0)
		return fd;
	err = errno;
	snprintf(name, sizeof(name), "/proc/%" PRIu32 "/root%s", pid, path);
	fd = open(name, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
	if (fd >= 0 && fstat(fd, &st) == 0 && st.st_ino == ino)
		return fd;
	if (fd >= 0)
		close(fd); /* another file has taken the name */
	errno = err;
	return -1;
}

static void mapping_try(struct cover *c, struct worker *w, const char *line)
{
	char range[64], perms[8];
	const char *path;
	uint64_t ino;
	struct mapped_file *f = NULL;
	int skip = 0, fd;

	if (sscanf(line, "%63s %7s %*s %*s %" SCNu64 " %n", range, perms, &ino, &skip) < 3 ||
	    perms[2] != 'x' || ino == 0)
		return;
	path = line + skip;
	fd = mapping_open(w->pid, range, path, ino);
	if (fd >= 0) {
		f = file_get(c, fd);
		if (!f)
			w->err = errno;
		close(fd);
	} else {
		w->err = errno;
	}
	if (f && f->link)
		w->covered = true;
	else if (f && f->err != ENOENT && f->err != EBADF /* no ELF file */)
		w->err = f->err;
	else if (f)
		return;
	if (!w->covered)
		snprintf(w->reason, sizeof(w->reason), "%s %.120s: %s",
			 f ? "cannot attach to" : "cannot open", path, strerror(w->err));
}

static void worker_scan(struct cover *c, struct worker *w)
{
	char name[40], line[4400];
	FILE *maps;

	w->err = 0;
	w->reason[0] = '\0';
	if (c->other_namespace) {
		snprintf(w->reason, sizeof(w->reason),
			 "lives in another pid namespace: run shmlat inside it");
		w->err = FND_E_PIDNS;
		return;
	}
	snprintf(name, sizeof(name), "/proc/%" PRIu32 "/maps", w->pid);
	maps = fopen(name, "re");
	if (!maps) {
		w->err = errno;
		w->present = errno != ENOENT && errno != ESRCH; /* it died meanwhile */
		snprintf(w->reason, sizeof(w->reason), "cannot read %s: %s", name, strerror(errno));
		return;
	}
	w->present = false; /* a zombie maps nothing */
	while (fgets(line, sizeof(line), maps)) {
		w->present = true;
		line[strcspn(line, "\n")] = '\0';
		mapping_try(c, w, line);
	}
	fclose(maps);
	if (w->covered) {
		w->err = 0;
		w->reason[0] = '\0';
	} else if (!w->err) {
		w->err = ENOENT;
		snprintf(w->reason, sizeof(w->reason),
			 "no file it maps holds the probe foundation:lookup");
	}
}

static int worker_seen(const struct fnd_observed_participant *p, void *arg)
{
	struct cover *c = arg;
	struct worker *w = NULL;

	if (p->liveness == FND_LIVENESS_DEAD || p->state == FND_PARTICIPANT_REAPING || p->pid == 0)
		return 0;
	for (size_t i = 0; i < c->workers && !w; i++)
		if (c->worker[i].pid == p->pid)
			w = &c->worker[i];
	if (!w) {
		w = realloc(c->worker, (c->workers + 1) * sizeof(*w));
		if (!w)
			return -ENOMEM;
		c->worker = w;
		w = &c->worker[c->workers++];
		*w = (struct worker){ .pid = p->pid, .start_time = p->start_time };
	}
	if (w->start_time != p->start_time)
		w->covered = false; /* another process with that number */
	w->start_time = p->start_time;
	w->present = true;
	return 0;
}

int cover_scan(struct cover *c)
{
	int err;

	for (size_t i = 0; i < c->workers; i++)
		c->worker[i].present = false;
	err = fnd_observer_participants(c->observer, worker_seen, c);
	for (size_t i = 0; i < c->workers; i++)
		if (c->worker[i].present && !c->worker[i].covered)
			worker_scan(c, &c->worker[i]);
	return err;
}

void cover_detach(struct cover *c)
{
	for (size_t i = 0; i < c->files; i++) {
		bpf_link__destroy(c->file[i].link);
		c->file[i].link = NULL;
	}
}

void cover_free(struct cover *c)
{
	cover_detach(c);
	free(c->file);
	free(c->worker);
	c->file = NULL;
	c->worker = NULL;
	c->files = c->workers = 0;
}
