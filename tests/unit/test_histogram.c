// SPDX-License-Identifier: MIT
/* Buckets and percentiles of the latency histograms, in the segment and in shmlat, and the sampling. */
#include <criterion/criterion.h>
#include <errno.h>
#include <stdlib.h>

#include <foundation/clock.h>

#include "histogram.h"
#include "probe.h"

#include "../../bpf/shmlat.h"

static uint64_t seed = 88172645463325252u;

static uint64_t random_next(void)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return seed;
}

/* Any magnitude as likely as any other, as latencies are. */
static uint64_t random_latency(void)
{
	unsigned int bits = random_next() % (FND_HIST_MAX_BITS + 1);

	return bits ? random_next() >> (64 - bits) : 0;
}

Test(histogram, exact_below_32)
{
	for (uint64_t v = 0; v < 32; v++) {
		cr_assert_eq(fnd_hist_index(v), v);
		cr_assert_eq(fnd_hist_lower((unsigned int)v), v);
		cr_assert_eq(fnd_hist_upper((unsigned int)v), v);
	}
}

Test(histogram, buckets_cover_everything_once)
{
	cr_assert_eq(fnd_hist_lower(0), 0);
	for (unsigned int i = 0; i + 1 < FND_HIST_BUCKETS; i++) {
		cr_assert_eq(fnd_hist_upper(i) + 1, fnd_hist_lower(i + 1));
		cr_assert_eq(fnd_hist_index(fnd_hist_lower(i)), i);
		cr_assert_eq(fnd_hist_index(fnd_hist_upper(i)), i);
	}
	cr_assert_eq(fnd_hist_upper(FND_HIST_BUCKETS - 1), (1ULL << FND_HIST_MAX_BITS) - 1);
	cr_assert_eq(fnd_hist_index(1ULL << FND_HIST_MAX_BITS), FND_HIST_BUCKETS - 1);
	cr_assert_eq(fnd_hist_index(UINT64_MAX), FND_HIST_BUCKETS - 1);
}

Test(histogram, within_a_sixteenth_and_monotone)
{
	for (int n = 0; n < 200000; n++) {
		uint64_t v = random_latency();
		unsigned int i = fnd_hist_index(v);

		cr_assert(fnd_hist_lower(i) <= v && v <= fnd_hist_upper(i), "%llu",
			  (unsigned long long)v);
		cr_assert(fnd_hist_upper(i) - fnd_hist_lower(i) <= fnd_hist_lower(i) / 16);
		cr_assert(fnd_hist_index(v + 1) - i <= 1);
	}
}

/* The kernel's side has fewer buckets and no count-leading-zeros, but means the same. */
Test(histogram, shmlat_has_the_same_buckets)
{
	cr_assert_eq(SHMLAT_SLOTS & (SHMLAT_SLOTS - 1), 0, "the mask needs a power of two");
	for (int n = 0; n < 200000; n++) {
		uint64_t v = random_latency();

		if (v >> SHMLAT_MAX_BITS)
			cr_assert_eq(shmlat_slot(v), SHMLAT_SLOTS - 1);
		else
			cr_assert_eq(shmlat_slot(v), fnd_hist_index(v));
	}
	for (uint32_t i = 0; i < SHMLAT_SLOTS; i++) {
		cr_assert_eq(shmlat_lower(i), fnd_hist_lower(i));
		cr_assert_eq(shmlat_upper(i), fnd_hist_upper(i));
	}
}

static int order(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

static void compare_percentiles(size_t count)
{
	static const uint32_t wanted[] = { 1, 500, 950, 990, 999, 1000 };
	uint64_t bucket[FND_HIST_BUCKETS] = { 0 };
	uint64_t *sample = calloc(count, sizeof(*sample));
	unsigned int last = 0;

	cr_assert_not_null(sample);
	for (size_t i = 0; i < count; i++) {
		sample[i] = random_latency();
		bucket[fnd_hist_index(sample[i])]++;
	}
	qsort(sample, count, sizeof(*sample), order);
	for (size_t i = 0; i < sizeof(wanted) / sizeof(wanted[0]); i++) {
		size_t rank = (count * wanted[i] + 999) / 1000;
		unsigned int got = fnd_hist_percentile(bucket, count, wanted[i], 1000);

		cr_assert_eq(got, fnd_hist_index(sample[rank - 1]), "%u of %zu", wanted[i], count);
		cr_assert(got >= last);
		last = got;
	}
	free(sample);
}

Test(histogram, percentiles_as_of_sorted_samples)
{
	for (size_t count = 1; count <= 2000; count = count < 20 ? count + 1 : count * 3 / 2)
		compare_percentiles(count);
	compare_percentiles(100000);
}

Test(histogram, percentile_of_very_many)
{
	uint64_t bucket[FND_HIST_BUCKETS] = { 0 };

	bucket[20] = UINT64_MAX / 2; /* total * 999 would not fit */
	bucket[21] = UINT64_MAX / 2;
	cr_assert_eq(fnd_hist_percentile(bucket, UINT64_MAX - 1, 500, 1000), 20);
	cr_assert_eq(fnd_hist_percentile(bucket, UINT64_MAX - 1, 501, 1000), 21);
	cr_assert_eq(fnd_hist_percentile(bucket, UINT64_MAX - 1, 999, 1000), 21);
}

/* --- cells and sampling, on a segment made of private memory --------------------------------------- */

static struct fnd_shm_header header;
static struct fnd_shm_cell cell[4];
static struct fnd_fork_mark mark = { 1 };
static struct fnd_segment segment = {
	.hdr = &header,
	.cell = cell,
	.threads = 3,
	.fork_mark = &mark,
	.id = 1,
};

Test(cell, latency_is_the_sum_of_all_slots)
{
	struct fnd_latency l = { .samples = 77 };

	cr_assert_eq(fnd_latency_read(&segment, FND_OP_MAX, &l), -EINVAL);
	cr_assert_eq(l.samples, 77, "an out-parameter is untouched on failure");
	cr_assert_eq(fnd_latency_read(&segment, FND_OP_LOOKUP, &l), 0);
	cr_assert_eq(l.samples, 0);
	for (unsigned int i = 1; i <= 3; i++) {
		struct fnd_thread th = { .seg = &segment, .cell = &cell[i] };

		for (uint64_t v = 0; v < 100; v++)
			fnd_cell_record(&th, FND_OP_LOOKUP, i);
		fnd_cell_record(&th, FND_OP_LOOKUP, 1000 * i);
		fnd_cell_count(&th, FND_COUNTER_FULL, i);
	}
	cr_assert_eq(fnd_latency_read(&segment, FND_OP_LOOKUP, &l), 0);
	cr_assert_eq(l.samples, 303);
	cr_assert_eq(l.p50_ns, 2);
	cr_assert_eq(l.p95_ns, 3);
	cr_assert_eq(l.max_ns, 3000);
	cr_assert_eq(l.p999_ns, 3000, "never above the largest sample");
	cr_assert_eq(fnd_counter_read(&segment, FND_COUNTER_FULL), 6);
	cr_assert_eq(fnd_counter_read(&segment, FND_COUNTER_MAX), 0);
	cr_assert_eq(fnd_latency_read(&segment, FND_OP_RECOVERY, &l), 0);
	cr_assert_eq(l.samples, 0);
}

Test(cell, beyond_the_last_bucket)
{
	struct fnd_thread th = { .seg = &segment, .cell = &cell[1] };
	struct fnd_latency l;

	fnd_cell_record(&th, FND_OP_RECOVERY, 1ULL << 40);
	cr_assert_eq(fnd_latency_read(&segment, FND_OP_RECOVERY, &l), 0);
	cr_assert_eq(l.p50_ns, 1ULL << 40, "the maximum stands in for the edge that is not there");
}

Test(sampling, on_and_off)
{
	cr_assert_not(fnd_sampling(&segment));
	cr_assert_eq(fnd_sampling_set(&segment, 5), 0);
	cr_assert(fnd_sampling(&segment));
	mark.mine = 0;
	cr_assert_eq(fnd_sampling_set(&segment, 0), -FND_E_FORKED);
	cr_assert(fnd_sampling(&segment));
}

/* The mean gap is the interval; its standard deviation is about the interval too, so over 20,000 gaps
 * the mean is off by less than 4 % (over five deviations) unless the distribution is wrong. */
Test(sampling, mean_gap_is_the_interval)
{
	static const uint32_t every[] = { 2, 3, 16, 100, 1024 };

	for (size_t i = 0; i < sizeof(every) / sizeof(every[0]); i++) {
		struct fnd_thread th = { .random = 42 };
		uint64_t asked = 0, due = 0;

		fnd_sampling_set(&segment, every[i]);
		for (; due < 20000; asked++)
			due += fnd_sample_due(&segment, &th);
		cr_assert_float_eq((double)asked / (double)due / every[i], 1.0, 0.04,
				   "every %u: mean gap %f", every[i], (double)asked / (double)due);
	}
}

Test(sampling, every_single_one_and_bounds)
{
	struct fnd_thread th = { .countdown = UINT32_MAX };
	uint64_t due = 0;

	fnd_sampling_set(&segment, 1);
	for (int i = 0; i < 100; i++)
		cr_assert(fnd_sample_due(&segment, &th));
	/* what is left of a gap of a longer interval does not keep a shorter one waiting */
	fnd_sampling_set(&segment, 2);
	for (int i = 0; i < 1000; i++)
		due += fnd_sample_due(&segment, &th);
	cr_assert_gt(due, 300);
	/* any value in the segment is survived */
	fnd_sampling_set(&segment, UINT32_MAX);
	for (int i = 0; i < 1000; i++)
		fnd_sample_due(&segment, &th);
	cr_assert_leq(th.countdown, 64u << 20);
}

Test(sampling, timing_lands_in_the_cell)
{
	struct fnd_thread th = { .seg = &segment, .cell = &cell[2] };
	struct fnd_latency l;

	fnd_probe_init();
	for (int i = 0; i < 1000; i++)
		fnd_sample_end(&segment, &th, 0, FND_OP_LOOKUP, fnd_sample_begin());
	cr_assert_eq(fnd_latency_read(&segment, FND_OP_LOOKUP, &l), 0);
	cr_assert_eq(l.samples, 1000);
	cr_assert_gt(fnd_clock_step_ns(), 0);
	cr_assert_geq(fnd_clock_overhead_ns(), 0);
}

/* A known duration measures as itself: the scale is right, whatever the processor's clock. */
Test(sampling, scale)
{
	struct fnd_thread th = { .seg = &segment, .cell = &cell[3] };
	struct fnd_latency l;
	uint64_t begin, from, took;

	fnd_probe_init();
	begin = fnd_sample_begin();
	from = fnd_now_ns();
	while (fnd_now_ns() - from < 20000000)
		;
	took = fnd_now_ns() - from;
	fnd_sample_end(&segment, &th, 0, FND_OP_LOOKUP, begin);
	cr_assert_eq(fnd_latency_read(&segment, FND_OP_LOOKUP, &l), 0);
	cr_assert_float_eq((double)l.max_ns / (double)took, 1.0, 0.5, "%llu ns for %llu",
			   (unsigned long long)l.max_ns, (unsigned long long)took);
}
