// SPDX-License-Identifier: MIT
/* What a worker does with an order: see bench_crew.h. */
#define _GNU_SOURCE
#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "bench_crew.h"
#include "bench_pauses.h"

#define VERIFY_SAMPLE 16384
#define ABSENT_SAMPLE 16
#define SPIN_CHUNK 1024
#define FILLED_EVERY 1024
#define READS_EACH 256
#define BEGIN_NS 10000000000ULL /* guard against a reader that does not begin */

/* What a worker knows while it works. */
struct post {
	const struct bench_worker *worker;
	void *self;
	size_t at[BENCH_DISTS];	 /* where to go on in each sequence */
	struct bench_order last; /* the last order that wrote, */
	size_t last_at;		 /* and where it began */
};

static uint64_t expected_sum(const struct bench_work *work)
{
	uint64_t sum = 0;

	for (size_t i = 0; i < work->count; i++)
		if (work->coins[i] >= work->write_percent)
			sum += bench_check_word(&work->keys[i]);
	return sum;
}

static const struct bench_sequence *sequence_of(const struct post *p, enum bench_dist dist)
{
	return &p->worker->data->seq[dist][p->worker->number];
}

/* The stretch that begins at @at and ends with the sequence or the order. */
static struct bench_work stretch(const struct post *p, const struct bench_order *o, size_t at,
				 uint64_t left)
{
	const struct bench_sequence *seq = sequence_of(p, o->dist);
	size_t rest = seq->length - at;

	return (struct bench_work){
		.keys = seq->keys + at,
		.coins = seq->coins + at,
		.count = left < rest ? (size_t)left : rest,
		.write_percent = o->write_percent,
		.generation = o->generation,
	};
}

static int run(struct post *p, const struct bench_order *o, struct bench_answer *answer)
{
	const struct bench_contender *c = p->worker->contender;
	size_t begin = p->at[o->dist], at = begin, length = sequence_of(p, o->dist)->length;
	uint64_t sum = 0, part = 0, expected = 0;
	int err = 0;

	answer->start_ns = bench_now_ns();
	for (uint64_t left = o->count; left > 0 && !err;) {
		struct bench_work work = stretch(p, o, at, left);

		err = o->op == BENCH_RUN_BATCH ? c->batch(p->self, &work, &part)
					       : c->run(p->self, &work, &part);
		sum += part;
		left -= work.count;
		at = (at + work.count) % length;
	}
	answer->end_ns = bench_now_ns();
	if (c->settle && o->write_percent > 0)
		c->settle(p->self);
	if (err)
		return err;
	for (uint64_t left = o->count, pos = begin; left > 0;) {
		struct bench_work work = stretch(p, o, pos, left);

		expected += expected_sum(&work);
		left -= work.count;
		pos = (pos + work.count) % length;
	}
	if (o->write_percent > 0) {
		p->last = *o;
		p->last_at = begin;
	}
	p->at[o->dist] = at;
	return sum == expected ? 0 : -EBADMSG;
}

static int verify_key(const struct post *p, const struct bench_key *key, uint64_t least,
		      uint64_t most)
{
	struct bench_value found, wanted;
	int err = p->worker->contender->lookup(p->self, key, &found);

	if (err)
		return err;
	if (found.w[0] < least || found.w[0] > most)
		return -EBADMSG;
	bench_value_of(key, found.w[0], &wanted);
	return memcmp(&found, &wanted, sizeof(found)) == 0 ? 0 : -EBADMSG;
}

/*
 * Any entry holds a value that some run wrote, or the first one; what the last run wrote is still there,
 * for both workers of a crew write the same generation.
 */
static int verify(const struct post *p, uint64_t generation)
{
	const struct bench_data *data = p->worker->data;
	uint64_t entries = data->grows_to ? data->grows_to : data->entries;
	uint64_t step = entries / VERIFY_SAMPLE + 1;
	const struct bench_sequence *seq = sequence_of(p, p->last.dist);
	int err = 0;

	for (uint64_t i = generation % step; i < entries && !err; i += step) {
		struct bench_key key = bench_key_of(i);

		err = verify_key(p, &key, 0, generation);
	}
	step = p->last.count / VERIFY_SAMPLE + 1;
	for (uint64_t i = 0; i < p->last.count && !err; i += step) {
		size_t at = (p->last_at + i) % seq->length;

		if (seq->coins[at] < p->last.write_percent)
			err = verify_key(p, &seq->keys[at], p->last.generation, generation);
	}
	return err;
}

/* A busy reader; looks for the next order every few dozen microseconds. */
static int spin(struct post *p, const struct bench_order *o)
{
	struct bench_order next;
	int err = 0;

	bench_pin(1); /* the main thread, which waits for grace periods, is on the other one */
	while (!err && recv(p->worker->worker_fd, &next, sizeof(next), MSG_PEEK | MSG_DONTWAIT) < 0) {
		struct bench_work work = stretch(p, o, p->at[o->dist], SPIN_CHUNK);
		uint64_t sum;

		if (errno != EAGAIN && errno != EINTR)
			break;
		err = p->worker->contender->run(p->self, &work, &sum);
		p->at[o->dist] = (p->at[o->dist] + work.count) % sequence_of(p, o->dist)->length;
	}
	bench_unpin();
	return err;
}

/* A few of the keys that were just deleted. */
static int expect_absent(const struct post *p, const struct bench_key *keys, size_t count)
{
	struct bench_value value;
	size_t step = count / ABSENT_SAMPLE + 1;
	int err;

	for (size_t i = 0; i < count; i += step) {
		err = p->worker->contender->lookup(p->self, &keys[i], &value);
		if (err != -ENOENT)
			return err ? err : -EBADMSG;
	}
	return 0;
}

/* Deletes this worker's share of the churning keys and puts them back, so often. */
static int churn(struct post *p, const struct bench_order *o, struct bench_answer *answer)
{
	const struct bench_contender *c = p->worker->contender;
	const struct bench_data *data = p->worker->data;
	size_t share = data->churn_length / p->worker->crew_size;
	const struct bench_key *keys = data->churn + p->worker->number * share;
	uint64_t from;
	int err = 0;

	for (uint64_t i = 0; i < o->count && !err; i++) {
		from = bench_now_ns();
		err = c->remove(p->self, keys, share);
		answer->remove_ns += bench_now_ns() - from;
		if (!err)
			err = expect_absent(p, keys, share);
		from = bench_now_ns();
		if (!err)
			err = c->insert(p->self, keys, share, o->generation);
		answer->insert_ns += bench_now_ns() - from;
	}
	if (c->settle)
		c->settle(p->self);
	return err;
}

static int await_readers(const struct post *p)
{
	uint64_t until = bench_now_ns() + BEGIN_NS, *reading = &p->worker->data->board->reading;

	while (__atomic_load_n(reading, __ATOMIC_ACQUIRE) + 1 < p->worker->crew_size) {
		if (bench_now_ns() > until)
			return -ETIMEDOUT;
		sched_yield();
	}
	return 0;
}

/* The first worker of a crew makes the table grow. */
static int grow_write(struct post *p, struct bench_pauses *pauses)
{
	const struct bench_data *data = p->worker->data;
	int err = await_readers(p);

	bench_pauses_begin(pauses);
	for (uint64_t i = data->entries; i < data->grows_to && !err; i++) {
		struct bench_key key = bench_key_of(i);

		err = p->worker->contender->insert(p->self, &key, 1, 0);
		bench_pauses_tick(pauses);
		if (i % FILLED_EVERY == 0) /* pairs with grow_read(): what it looks for is there */
			__atomic_store_n(&data->board->filled, i, __ATOMIC_RELEASE);
	}
	bench_pauses_end(pauses);
	__atomic_store_n(&data->board->filled, data->grows_to, __ATOMIC_RELEASE);
	return err;
}

/* The others look up what was there before their lookup began: none may be missing, ever. */
static int grow_read(struct post *p, struct bench_pauses *pauses)
{
	const struct bench_data *data = p->worker->data;
	struct bench_value value;
	uint64_t filled, state = 0;
	int err = 0;

	bench_pauses_begin(pauses);
	__atomic_fetch_add(&data->board->reading, 1, __ATOMIC_RELEASE);
	do {
		filled = __atomic_load_n(&data->board->filled, __ATOMIC_ACQUIRE);
		for (unsigned int i = 0; i < READS_EACH && !err; i++) {
			struct bench_key key = bench_key_of(bench_mix(state++) % filled);

			err = p->worker->contender->lookup(p->self, &key, &value);
			if (!err && value.w[7] != bench_check_word(&key))
				err = -EBADMSG;
			bench_pauses_tick(pauses);
		}
	} while (!err && filled < data->grows_to);
	bench_pauses_end(pauses);
	return err;
}

/* What the machine does to a loop that does nothing, for @ns. */
static void idle(struct bench_pauses *pauses, uint64_t ns)
{
	uint64_t until = bench_now_ns() + ns;

	bench_pauses_begin(pauses);
	do {
		for (unsigned int i = 0; i < READS_EACH; i++)
			bench_pauses_tick(pauses);
	} while (bench_now_ns() < until);
	bench_pauses_end(pauses);
}

static int grow(struct post *p, const struct bench_order *o, struct bench_answer *answer)
{
	static __thread struct bench_pauses pauses;
	int err = 0;

	answer->start_ns = bench_now_ns();
	if (o->op == BENCH_IDLE)
		idle(&pauses, o->count);
	else
		err = p->worker->number == 0 ? grow_write(p, &pauses) : grow_read(p, &pauses);
	answer->end_ns = bench_now_ns();
	answer->longest_ns = bench_pauses_quantile(&pauses, 1);
	answer->p9999_ns = bench_pauses_quantile(&pauses, 0.9999);
	return err;
}

static int obey(struct post *p, const struct bench_order *o, struct bench_answer *answer)
{
	int err;

	switch (o->op) {
	case BENCH_RUN:
	case BENCH_RUN_BATCH:
		return run(p, o, answer);
	case BENCH_VERIFY:
		return verify(p, o->generation);
	case BENCH_SECTIONS:
		answer->start_ns = bench_now_ns();
		err = p->worker->contender->sections(p->self, o->count);
		answer->end_ns = bench_now_ns();
		return err;
	case BENCH_CHURN:
		return churn(p, o, answer);
	case BENCH_GROW:
	case BENCH_IDLE:
		return grow(p, o, answer);
	default:
		return -EINVAL;
	}
}

/* Awake for the time of an order only: a grace period does not wait for who rests. */
static int obey_awake(struct post *p, const struct bench_order *o, struct bench_answer *answer)
{
	const struct bench_contender *c = p->worker->contender;
	int err = 0;

	if (c->wake)
		c->wake(p->self);
	if (o->op == BENCH_SPIN)
		err = spin(p, o);
	else
		err = obey(p, o, answer);
	if (c->rest)
		c->rest(p->self);
	return err;
}

static void explain(struct bench_answer *answer)
{
	if (answer->err)
		snprintf(answer->detail, sizeof(answer->detail), "%s", bench_library_detail());
}

void bench_worker_main(const struct bench_worker *w)
{
	struct post p = { .worker = w };
	struct bench_order order;
	struct bench_answer answer = { .err = w->contender->join(w->table, &p.self) };
	bool joined = answer.err == 0;
	int spun = 0;

	explain(&answer);
	if (w->crew_size > 1)
		bench_pin(w->number);
	while (send(w->worker_fd, &answer, sizeof(answer), MSG_NOSIGNAL) == sizeof(answer) && joined) {
		do {
			if (bench_receive(w->worker_fd, &order, sizeof(order)) != sizeof(order))
				order.op = BENCH_STOP;
			if (order.op == BENCH_SPIN)
				spun = obey_awake(&p, &order, &answer);
		} while (order.op == BENCH_SPIN);
		if (order.op == BENCH_STOP)
			break;
		memset(&answer, 0, sizeof(answer));
		answer.err = spun ? spun : obey_awake(&p, &order, &answer);
		explain(&answer);
	}
	if (joined)
		w->contender->leave(p.self);
}
