// SPDX-License-Identifier: MIT
/*
 * The locks of the journal's directory, by flock(2): the kernel frees one when the last descriptor of its open file
 * is closed. A child that fork(2) makes has such a descriptor too, whatever its parent was doing: so a lock is given
 * back by name, not by closing, and the child closes what it was born with, for a parent that is killed meanwhile.
 */
#include <errno.h>
#include <pthread.h>
#include <sys/file.h>
#include <unistd.h>

#include "journal_internal.h"

#define HELD_MAX 64 /* of more threads than this at a time, the child keeps the descriptors */

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_once_t once = PTHREAD_ONCE_INIT;
static int held[HELD_MAX]; /* descriptor + 1, 0: free */

static void before_fork(void)
{
	pthread_mutex_lock(&mutex);
}

static void after_fork_parent(void)
{
	pthread_mutex_unlock(&mutex);
}

static void after_fork_child(void)
{
	for (unsigned int i = 0; i < HELD_MAX; i++) {
		if (held[i])
			close(held[i] - 1);
		held[i] = 0;
	}
	pthread_mutex_unlock(&mutex);
}

static void set_up(void)
{
	pthread_atfork(before_fork, after_fork_parent, after_fork_child); /* without memory: as with too many */
}

static void remember(int from, int to)
{
	for (unsigned int i = 0; i < HELD_MAX; i++) {
		if (held[i] == from) {
			held[i] = to;
			return;
		}
	}
}

int fnd_journal_lock_take(int fd)
{
	int err;

	pthread_once(&once, set_up);
	pthread_mutex_lock(&mutex); /* no fork between the lock and the note of it */
	err = flock(fd, LOCK_EX | LOCK_NB) == 0 ? 0 : -errno;
	if (!err)
		remember(0, fd + 1);
	pthread_mutex_unlock(&mutex);
	return err;
}

void fnd_journal_lock_drop(int fd)
{
	if (fd < 0)
		return;
	pthread_mutex_lock(&mutex);
	remember(fd + 1, 0);
	flock(fd, LOCK_UN);
	close(fd);
	pthread_mutex_unlock(&mutex);
}
