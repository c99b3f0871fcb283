// SPDX-License-Identifier: MIT
/* Which segments there are. Entries are looked at, never attached to. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "error.h"
#include "header.h"
#include "name.h"

/* Does a file name have the form of ours? What merely begins like it is somebody else's business. */
static bool entry_name(const char *file, struct fnd_segment_entry *ret_entry)
{
	const size_t prefix = sizeof(FND_FILE_PREFIX) - 1;
	char qualified[FND_NAME_MAX + 16];
	char base[FND_NAME_MAX + 1];
	const char *dot;
	uint32_t uid;

	if (strncmp(file, FND_FILE_PREFIX, prefix) != 0)
		return false;
	file += prefix;
	dot = strchr(file, '.');
	if (!dot || dot - file > 10 || strlen(dot + 1) > FND_NAME_MAX)
		return false;
	snprintf(qualified, sizeof(qualified), "%.*s/%.*s", (int)(dot - file), file, FND_NAME_MAX, dot + 1);
	if (fnd_name_parse(qualified, &uid, base))
		return false;
	ret_entry->uid = uid;
	snprintf(ret_entry->name, sizeof(ret_entry->name), "%s", uid == geteuid() ? base : qualified);
	return true;
}

/* The result of looking at it, as attaching would see it. */
static int entry_look(struct fnd_segment_entry *e)
{
	struct fnd_shm_header header;
	struct stat st;
	int fd;
	int err;

	err = fnd_segment_open_file(e->name, O_RDONLY, &fd, &st);
	if (err)
		return err;
	e->bytes = (uint64_t)st.st_size;
	err = fnd_header_read(fd, &header);
	close(fd);
	return err ? err : fnd_header_check(&header, e->bytes);
}

static int compare(const void *a, const void *b)
{
	const struct fnd_segment_entry *x = a;
	const struct fnd_segment_entry *y = b;

	if (x->uid != y->uid)
		return x->uid < y->uid ? -1 : 1;
	return strcmp(x->name, y->name);
}

static int collect(DIR *dir, struct fnd_segment_entry **ret_entries, size_t *ret_count)
{
	struct fnd_segment_entry *entries = NULL;
	size_t count = 0;
	size_t room = 0;
	struct dirent *d;

	while ((d = readdir(dir))) {
		struct fnd_segment_entry e;

		memset(&e, 0, sizeof(e));
		if (!entry_name(d->d_name, &e))
			continue;
		if (count == room) {
			struct fnd_segment_entry *more;

			room = room ? room * 2 : 16;
			more = reallocarray(entries, room, sizeof(*entries));
			if (!more) {
				free(entries);
				return -ENOMEM;
			}
			entries = more;
		}
		entries[count++] = e;
	}
	*ret_entries = entries;
	*ret_count = count;
	return 0;
}

int fnd_segment_list(int (*fn)(const struct fnd_segment_entry *e, void *arg), void *arg)
{
	struct fnd_segment_entry *entries;
	size_t count;
	DIR *dir;
	int err;

	if (!fn)
		return -EINVAL;
	dir = opendir(FND_SHM_DIRECTORY);
	if (!dir)
		return fnd_fail(errno, FND_SHM_DIRECTORY " may not be read");
	err = collect(dir, &entries, &count);
	closedir(dir);
	if (err)
		return err;
	if (count)
		qsort(entries, count, sizeof(*entries), compare);
	for (size_t i = 0; i < count && !err; i++) {
		entries[i].status = entry_look(&entries[i]);
		if (entries[i].status == -ENOENT) /* destroyed since the directory was read */
			continue;
		err = fn(&entries[i], arg);
	}
	free(entries);
	return err;
}
