/* SPDX-License-Identifier: MIT */
/*
 * How far everybody is: a table of our own in the segment.
 *
 * One record a worker and one for the pass, under text keys ("4711/0", "4711/pass") that begin with the
 * parent's pid, as several mills may run on one segment. fnd_table_replace() publishes a whole new record
 * by one store, so there is no half-written progress, and no lock that a killed worker could take along.
 */
#include "mill.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PROGRESS_TABLE "logmill.progress"
#define PROGRESS_KEY_MAX 31
#define PROGRESS_CAPACITY 1024

int progress_open(struct fnd_segment *segment, struct fnd_table **ret_table)
{
	const struct fnd_table_options limits = {
		.size = sizeof(limits),
		.key_max = PROGRESS_KEY_MAX,
		.value_max = sizeof(struct progress),
		.capacity = PROGRESS_CAPACITY,
	};

	return fnd_table_open(segment, PROGRESS_TABLE, &limits, ret_table);
}

static size_t worker_key(char *key, pid_t service, unsigned int worker)
{
	return (size_t)snprintf(key, PROGRESS_KEY_MAX, "%d/%u", (int)service, worker);
}

static size_t pass_key(char *key, pid_t service)
{
	return (size_t)snprintf(key, PROGRESS_KEY_MAX, "%d/pass", (int)service);
}

int progress_set_pass(struct fnd_table *table, pid_t service, struct progress_pass pass)
{
	char key[PROGRESS_KEY_MAX];
	size_t len = pass_key(key, service);

	return fnd_table_upsert(table, key, len, &pass, sizeof(pass));
}

/* Whoever maps the segment can write there: a value of another size is not ours, and not used. */
static int read_record(struct fnd_table *table, const char *key, size_t key_len, void *value,
		       size_t value_len)
{
	size_t len;
	int err = fnd_table_lookup(table, key, key_len, value, value_len, &len);

	if (err == -ENOBUFS || (!err && len != value_len))
		return -FND_E_CORRUPT;
	return err;
}

int progress_get_pass(struct fnd_table *table, pid_t service, struct progress_pass *ret_pass)
{
	char key[PROGRESS_KEY_MAX];
	size_t len = pass_key(key, service);

	return read_record(table, key, len, ret_pass, sizeof(*ret_pass));
}

int progress_begin(struct fnd_table *table, pid_t service, unsigned int worker)
{
	const struct progress nothing = { 0 };
	char key[PROGRESS_KEY_MAX];
	size_t len = worker_key(key, service, worker);

	return fnd_table_upsert(table, key, len, &nothing, sizeof(nothing));
}

int progress_commit(struct fnd_table *table, pid_t service, unsigned int worker,
		    const struct progress *p)
{
	char key[PROGRESS_KEY_MAX];
	size_t len = worker_key(key, service, worker);

	return fnd_table_replace(table, key, len, p, sizeof(*p));
}

int progress_read(struct fnd_table *table, pid_t service, unsigned int worker,
		  struct progress *ret_progress)
{
	char key[PROGRESS_KEY_MAX];
	size_t len = worker_key(key, service, worker);

	return read_record(table, key, len, ret_progress, sizeof(*ret_progress));
}

struct sweep {
	struct fnd_segment *segment;
	struct fnd_table *table;
	pid_t own;
};

static int sweep_record(const struct fnd_record *r, void *arg)
{
	const struct sweep *sweep = arg;
	struct fnd_participant who;
	char key[FND_KEY_MAX + 1];

	memcpy(key, r->key, r->key_bytes);
	key[r->key_bytes] = '\0';

	unsigned long pid = strtoul(key, NULL, 10);

	if ((pid_t)pid != sweep->own &&
	    fnd_segment_participant(sweep->segment, (uint32_t)pid, &who) != -ESRCH)
		return 0;

	int err = fnd_table_delete(sweep->table, r->key, r->key_bytes);

	return err == -ENOENT ? 0 : err;
}

/* Remove the records of @own, and of mills that are no more: a killed parent cannot do it itself. */
int progress_sweep(struct fnd_segment *segment, struct fnd_table *table, pid_t own)
{
	struct sweep sweep = { segment, table, own };

	return fnd_table_iterate(table, 0, sweep_record, &sweep);
}
