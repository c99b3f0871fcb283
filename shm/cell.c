/* SPDX-License-Identifier: MIT */
/*
 * Cells: counters and latency histograms, one cell a thread slot.
 *
 * A cell has one writer, the owner of its slot, so adding is a load and a store and never a locked
 * instruction. Readers sum over all slots, whoever owns them now: what the dead had counted stays.
 * A signal handler that counts while it interrupts its own thread's counting may lose that one step.
 */
#include <errno.h>
#include <stdio.h>
#include <time.h>

#include "histogram.h"
#include "internal.h"

int fnd_counter_add(struct fnd_segment *seg, enum fnd_counter id, uint64_t n)
{
	struct fnd_thread *th;
	int err;

	if ((unsigned int)id >= FND_CELL_COUNTERS)
		return -EINVAL;
	err = fnd_thread_self(seg, &th);
	if (err)
		return err;
	fnd_cell_count(th, id, n);
	return 0;
}

uint64_t fnd_counter_read(const struct fnd_segment *seg, enum fnd_counter id)
{
	uint64_t sum = 0;

	if ((unsigned int)id >= FND_CELL_COUNTERS)
		return 0;
	for (uint32_t i = 1; i <= seg->threads; i++)
		sum += fnd_load_relaxed(&seg->cell[i].counter[id]); /* relaxed: counts move anyway */
	return sum;
}

/* relaxed, here and below: one writer; a reader takes what it sees */
static void add(uint64_t *p, uint64_t n)
{
	fnd_store_relaxed(p, fnd_load_relaxed(p) + n);
}

void fnd_cell_record(struct fnd_thread *th, enum fnd_op op, uint64_t ns)
{
	struct fnd_shm_histogram *h = &th->cell->op[op];

	/* count first: fnd_latency_read() skips histograms that have none */
	add(&h->count, 1);
	add(&h->sum_ns, ns);
	add(&h->bucket[fnd_hist_index(ns)], 1);
	if (ns > fnd_load_relaxed(&h->max_ns)) /* relaxed: own word */
		fnd_store_relaxed(&h->max_ns, ns);
}

static uint64_t percentile(const uint64_t *bucket, const struct fnd_latency *l, uint32_t per_mille)
{
	unsigned int i = fnd_hist_percentile(bucket, l->samples, per_mille, 1000);
	uint64_t upper = fnd_hist_upper(i);

	/* nothing was larger than the maximum; and the last bucket has no upper edge of its own */
	return i == FND_HIST_BUCKETS - 1 || upper > l->max_ns ? l->max_ns : upper;
}

int fnd_latency_read(const struct fnd_segment *seg, enum fnd_op op, struct fnd_latency *ret_latency)
{
	uint64_t bucket[FND_HIST_BUCKETS] = { 0 };
	struct fnd_latency l = { 0 };

	if ((unsigned int)op >= FND_CELL_OPS)
		return -EINVAL;
	for (uint32_t slot = 1; slot <= seg->threads; slot++) {
		const struct fnd_shm_histogram *h = &seg->cell[slot].op[op];
		uint64_t max_ns = fnd_load_relaxed(&h->max_ns); /* relaxed: as in add() */

		if (fnd_load_relaxed(&h->count) == 0)
			continue;
		if (max_ns > l.max_ns)
			l.max_ns = max_ns;
		for (unsigned int i = 0; i < FND_HIST_BUCKETS; i++)
			bucket[i] += fnd_load_relaxed(&h->bucket[i]);
	}
	/* the buckets' own sum, so that a cell read in the middle of an update still adds up */
	for (unsigned int i = 0; i < FND_HIST_BUCKETS; i++)
		l.samples += bucket[i];
	if (l.samples) {
		l.p50_ns = percentile(bucket, &l, 500);
		l.p95_ns = percentile(bucket, &l, 950);
		l.p99_ns = percentile(bucket, &l, 990);
		l.p999_ns = percentile(bucket, &l, 999);
	}
	*ret_latency = l;
	return 0;
}

int fnd_sampling_set(struct fnd_segment *seg, uint32_t every)
{
	if (fnd_forked(seg))
		return -FND_E_FORKED;
	fnd_store_relaxed(&seg->hdr->sample_always, every); /* relaxed: seen soon enough */
	return 0;
}

static uint64_t clock_ns(clockid_t clock)
{
	struct timespec ts;

	clock_gettime(clock, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

uint64_t fnd_now_ns(void)
{
	return clock_ns(CLOCK_MONOTONIC);
}

int64_t fnd_clock_offset_ns(void)
{
	FILE *f = fopen("/proc/self/timens_offsets", "re");
	long long s, ns;
	char clock[16];
	int64_t offset = 0;

	while (f && fscanf(f, "%15s %lld %lld", clock, &s, &ns) == 3)
		if (strcmp(clock, "monotonic") == 0 || strcmp(clock, "1") == 0)
			offset = s * 1000000000LL + ns;
	if (f)
		fclose(f);
	return offset;
}

uint64_t fnd_wall_ns(void)
{
	return clock_ns(CLOCK_REALTIME);
}
