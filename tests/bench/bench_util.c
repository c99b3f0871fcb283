// SPDX-License-Identifier: MIT
/* Clock, access sequences, order statistics and numbers of the benchmark. */
#define _GNU_SOURCE
#include <errno.h>
#include <math.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "bench_util.h"

#define ZIPF_THETA 0.99
#define SEQUENCE_MIN (UINT64_C(1) << 16) /* short ones are learnt by the branch predictor */
#define SEQUENCE_MAX (UINT64_C(1) << 20) /* 24 MB */

uint64_t bench_now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000 + (uint64_t)ts.tv_nsec;
}

static cpu_set_t allowed;

static void find_allowed(void)
{
	if (sched_getaffinity(0, sizeof(allowed), &allowed) != 0)
		CPU_ZERO(&allowed);
}

static void learn_allowed(void)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;

	pthread_once(&once, find_allowed);
}

void bench_pin(unsigned int number)
{
	cpu_set_t one;

	learn_allowed();
	if (CPU_COUNT(&allowed) < 2)
		return;
	number %= (unsigned int)CPU_COUNT(&allowed);
	CPU_ZERO(&one);
	for (int cpu = 0; cpu < CPU_SETSIZE; cpu++) {
		if (!CPU_ISSET(cpu, &allowed) || number-- > 0)
			continue;
		CPU_SET(cpu, &one);
		break;
	}
	sched_setaffinity(0, sizeof(one), &one);
}

void bench_unpin(void)
{
	learn_allowed();
	if (CPU_COUNT(&allowed) >= 2)
		sched_setaffinity(0, sizeof(allowed), &allowed);
}

static uint64_t next_random(uint64_t *state)
{
	*state += UINT64_C(0x9e3779b97f4a7c15);
	return bench_mix(*state);
}

static double next_unit(uint64_t *state)
{
	return (double)(next_random(state) >> 11) * 0x1p-53;
}

/* Ranks after Gray et al., "Quickly generating billion-record synthetic databases", SIGMOD 1994. */
struct zipf {
	uint64_t n;
	double zetan, alpha, eta;
};

static void zipf_init(struct zipf *z, uint64_t n)
{
	double zeta2 = 1 + pow(0.5, ZIPF_THETA);

	z->n = n;
	z->zetan = 0;
	for (uint64_t i = 1; i <= n; i++)
		z->zetan += pow(1.0 / (double)i, ZIPF_THETA);
	z->alpha = 1 / (1 - ZIPF_THETA);
	z->eta = (1 - pow(2.0 / (double)n, 1 - ZIPF_THETA)) / (1 - zeta2 / z->zetan);
}

static uint64_t zipf_next(const struct zipf *z, uint64_t *state)
{
	double u = next_unit(state);
	double uz = u * z->zetan;
	uint64_t rank;

	if (uz < 1)
		return 0;
	if (uz < 1 + pow(0.5, ZIPF_THETA))
		return 1;
	rank = (uint64_t)((double)z->n * pow(z->eta * u - z->eta + 1, z->alpha));
	return rank < z->n ? rank : z->n - 1;
}

/* Popular keys must not be neighbours in memory; the factor is prime, so no two ranks meet. */
static uint64_t scatter(uint64_t rank, uint64_t n)
{
	return rank * UINT64_C(2654435761) % n;
}

static int sequence_make(struct bench_sequence *seq, uint64_t entries, size_t length,
			 uint64_t seed, const struct zipf *z)
{
	uint64_t state = seed;

	seq->keys = malloc(length * sizeof(*seq->keys));
	seq->coins = malloc(length);
	if (!seq->keys || !seq->coins)
		return -ENOMEM;
	seq->length = length;
	for (size_t i = 0; i < length; i++) {
		uint64_t index = z ? scatter(zipf_next(z, &state), entries)
				   : next_random(&state) % entries;

		seq->keys[i] = bench_key_of(index);
		seq->coins[i] = (uint8_t)(next_random(&state) % 100);
	}
	return 0;
}

/* The keys of odd index. */
static int churn_make(struct bench_data *data)
{
	uint64_t half = data->entries / 2;

	data->churn = malloc(half * sizeof(*data->churn));
	if (!data->churn)
		return -ENOMEM;
	for (uint64_t i = 0; i < half; i++)
		data->churn[i] = bench_key_of(2 * scatter(i, half) + 1);
	data->churn_length = half;
	return 0;
}

int bench_data_make(struct bench_data *data, uint64_t entries, unsigned int workers,
		    bool with_zipf)
{
	uint64_t length = SEQUENCE_MIN;
	struct zipf z;
	int err;

	memset(data, 0, sizeof(*data));
	data->entries = entries;
	err = churn_make(data);
	while (length < 2 * entries && length < SEQUENCE_MAX)
		length *= 2;
	if (with_zipf)
		zipf_init(&z, entries);
	for (unsigned int w = 0; w < workers && !err; w++) {
		err = sequence_make(&data->seq[BENCH_UNIFORM][w], entries, length, 2 * w + 1, NULL);
		if (!err && with_zipf)
			err = sequence_make(&data->seq[BENCH_ZIPF][w], entries, length, 2 * w + 2,
					    &z);
	}
	if (err)
		bench_data_free(data);
	return err;
}

void bench_data_free(struct bench_data *data)
{
	for (unsigned int d = 0; d < BENCH_DISTS; d++) {
		for (unsigned int w = 0; w < BENCH_WORKERS_MAX; w++) {
			free(data->seq[d][w].keys);
			free(data->seq[d][w].coins);
		}
	}
	free(data->churn);
	memset(data, 0, sizeof(*data));
}

static int compare_doubles(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

/* Linear between neighbours: q = 0 is the smallest, 0.5 the median, 1 the largest. */
double bench_quantile(const double *values, size_t count, double q)
{
	double sorted[BENCH_SAMPLES_MAX], at;
	size_t below;

	if (count == 0 || count > BENCH_SAMPLES_MAX)
		return NAN;
	memcpy(sorted, values, count * sizeof(*sorted));
	qsort(sorted, count, sizeof(*sorted), compare_doubles);
	at = q * (double)(count - 1);
	below = (size_t)at;
	if (below + 1 >= count)
		return sorted[count - 1];
	return sorted[below] + (at - (double)below) * (sorted[below + 1] - sorted[below]);
}

int bench_number(const char *text, unsigned long long most, unsigned long long *ret_value)
{
	char *end;

	errno = 0;
	*ret_value = strtoull(text, &end, 10);
	return errno || end == text || *end || *text == '-' || *ret_value < 1 || *ret_value > most
		       ? -EINVAL
		       : 0;
}

bool bench_listed(const char *list, const char *name)
{
	size_t length = strlen(name);

	for (const char *at = list, *comma; at; at = comma ? comma + 1 : NULL) {
		comma = strchr(at, ',');
		if (strcspn(at, ",") == length && strncmp(at, name, length) == 0)
			return true;
	}
	return false;
}
