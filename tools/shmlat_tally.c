// SPDX-License-Identifier: MIT
#include "shmlat.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include <bpf/bpf.h>

static struct series *series_of(struct tally *t, uint32_t table, uint32_t op)
{
	struct series *more;

	for (size_t i = 0; i < t->nseries; i++)
		if (t->series[i].table == table && t->series[i].op == op)
			return &t->series[i];
	more = realloc(t->series, (t->nseries + 1) * sizeof(*more));
	if (!more)
		return NULL;
	t->series = more;
	more = &t->series[t->nseries++];
	*more = (struct series){ .table = table, .op = op };
	return more;
}

static struct pid_samples *samples_of(struct tally *t, uint32_t pid)
{
	struct pid_samples *more;

	for (size_t i = 0; i < t->npids; i++)
		if (t->pid[i].pid == pid)
			return &t->pid[i];
	more = realloc(t->pid, (t->npids + 1) * sizeof(*more));
	if (!more)
		return NULL;
	t->pid = more;
	more = &t->pid[t->npids++];
	*more = (struct pid_samples){ .pid = pid };
	return more;
}

static int add_hist(struct tally *t, uint32_t table, uint32_t op, const struct shmlat_hist *h,
		    uint64_t *ret_samples)
{
	struct series *s = series_of(t, table, op);
	uint64_t samples = 0;

	if (!s)
		return -ENOMEM;
	for (unsigned int i = 0; i < SHMLAT_SLOTS; i++) {
		s->hist.slot[i] += h->slot[i];
		samples += h->slot[i];
	}
	s->samples += samples;
	*ret_samples = samples;
	return 0;
}

static int add_key(struct tally *t, const struct shmlat_key *key, const struct shmlat_hist *h)
{
	struct pid_samples *p = samples_of(t, key->pid);
	uint64_t samples;
	int err;

	if (!p)
		return -ENOMEM;
	err = add_hist(t, key->table, key->op, h, &samples);
	if (!err)
		p->samples += samples;
	return err;
}

static bool process_gone(uint32_t pid)
{
	return kill((pid_t)pid, 0) && errno == ESRCH;
}

int tally_read(struct tally *t, const struct bpf_map *map, struct tally *gone)
{
	struct shmlat_key key, next;
	struct shmlat_hist hist;
	bool more = bpf_map__get_next_key(map, NULL, &key, sizeof(key)) == 0;

	while (more) {
		bool dead = gone && process_gone(key.pid);
		int err;

		/* before the key may be deleted: the walk goes on from it */
		more = bpf_map__get_next_key(map, &key, &next, sizeof(next)) == 0;
		if (bpf_map__lookup_elem(map, &key, sizeof(key), &hist, sizeof(hist), 0) == 0) {
			err = add_key(dead ? gone : t, &key, &hist);
			if (err)
				return err;
			if (dead)
				bpf_map__delete_elem(map, &key, sizeof(key), 0);
		}
		key = next;
	}
	return 0;
}

int tally_add(struct tally *t, const struct tally *more)
{
	for (size_t i = 0; i < more->nseries; i++) {
		const struct series *s = &more->series[i];
		uint64_t samples;
		int err = add_hist(t, s->table, s->op, &s->hist, &samples);

		if (err)
			return err;
	}
	for (size_t i = 0; i < more->npids; i++) {
		struct pid_samples *p = samples_of(t, more->pid[i].pid);

		if (!p)
			return -ENOMEM;
		p->samples += more->pid[i].samples;
	}
	return 0;
}

void tally_subtract(struct tally *t, const struct tally *before)
{
	/* both were read by tally_read(): what is in @before is in @t, with as much or more */
	for (size_t i = 0; i < before->nseries; i++) {
		const struct series *b = &before->series[i];
		struct series *s = series_of(t, b->table, b->op);

		if (!s)
			continue;
		for (unsigned int k = 0; k < SHMLAT_SLOTS; k++)
			s->hist.slot[k] -= b->hist.slot[k];
		s->samples -= b->samples;
	}
	for (size_t i = 0; i < before->npids; i++) {
		struct pid_samples *p = samples_of(t, before->pid[i].pid);

		if (p)
			p->samples -= before->pid[i].samples;
	}
}

uint64_t tally_pid(const struct tally *t, uint32_t pid)
{
	for (size_t i = 0; i < t->npids; i++)
		if (t->pid[i].pid == pid)
			return t->pid[i].samples;
	return 0;
}

void tally_free(struct tally *t)
{
	free(t->series);
	free(t->pid);
	*t = (struct tally){ 0 };
}

uint64_t series_percentile(const struct series *s, uint32_t per_mille)
{
	uint64_t rank = s->samples / 1000 * per_mille + (s->samples % 1000 * per_mille + 999) / 1000;
	uint64_t seen = 0;
	uint32_t i;

	for (i = 0; i < SHMLAT_SLOTS - 1; i++) {
		seen += s->hist.slot[i];
		if (seen >= rank && seen > 0)
			break;
	}
	return shmlat_upper(i);
}
