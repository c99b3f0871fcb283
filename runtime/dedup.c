// SPDX-License-Identifier: MIT
/*
 * Deduplication: the record of a key is the event that went out for it.
 *
 * Claiming a key is inserting its record, or, when the window has passed, replacing it, decided under the
 * shard's lock: of all who try exactly one stores, and that store is claim and event in one.
 */
#include <foundation/dedup.h>

#include <errno.h>
#include <pthread.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <foundation/read.h>

#define LAG_NS 20000000u /* two ticks of the slowest */
#define SWEEPS_A_WINDOW 10
#define SWEEP_PAUSE_MAX_NS 1000000000u

struct fnd_dedup {
	struct fnd_segment *seg;
	struct fnd_table *table;
	pthread_mutex_t sweeping; /* the next, and one sweep at a time in this process */
	uint64_t swept_ns;
};

/* The value of a record; the event follows. `suppressed` is the one cell of a record that changes after
 * publication. */
struct entry {
	uint64_t first_ns;
	uint64_t suppressed;
	uint64_t expires_ns; /* by the window it was claimed for; UINT64_MAX: never */
	uint32_t event_bytes;
	uint32_t reserved;
};

struct entry_max {
	struct entry e;
	unsigned char event[FND_DEDUP_EVENT_MAX];
};

_Static_assert(sizeof(struct entry) == 32, "part of the segment's format");

static uint64_t wall_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_REALTIME, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

int fnd_dedup_open(struct fnd_segment *seg, uint64_t capacity, struct fnd_dedup **ret_dedup)
{
	struct fnd_table_options opt = { .size = sizeof(opt),
					 .flags = FND_TABLE_FIXED,
					 .key_max = FND_DEDUP_KEY_MAX,
					 .value_max = sizeof(struct entry_max),
					 .capacity = capacity };
	struct fnd_dedup *d = calloc(1, sizeof(*d));
	int err;

	if (!d)
		return -ENOMEM;
	d->seg = seg;
	pthread_mutex_init(&d->sweeping, NULL);
	err = fnd_table_open(seg, FND_DEDUP_TABLE, &opt, &d->table);
	if (err) {
		free(d);
		return err;
	}
	*ret_dedup = d;
	return 0;
}

void fnd_dedup_close(struct fnd_dedup *d)
{
	if (!d)
		return;
	fnd_table_close(d->table);
	free(d);
}

/* Ages are signed: a peer's clock one tick ahead must not make its key look ancient. A window of 0 lets
 * everything out, whoever's clock is ahead. */
static int expired(uint64_t first_ns, uint64_t now_ns, uint64_t window_ns)
{
	int64_t age = (int64_t)(now_ns - first_ns);

	if (window_ns == 0)
		return 1;
	return window_ns != FND_WINDOW_FOREVER && age >= 0 && (uint64_t)age >= window_ns;
}

/* Cheaper by most of what a look at the clock costs, and late by at most LAG_NS. */
static uint64_t wall_coarse_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_REALTIME_COARSE, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

enum { NOT_THERE, SUPPRESSED, EXPIRED };

/* What is there by the time @now, counted when it is SUPPRESSED; or an error. Wait-free. */
static int suppress(struct fnd_dedup *d, const void *key, size_t key_bytes, uint64_t now,
		    uint64_t window_ns)
{
	struct fnd_view v;
	int err = fnd_read_begin(d->seg);

	if (err)
		return err;
	err = fnd_table_get(d->table, key, key_bytes, &v);
	if (!err && v.value_bytes >= sizeof(struct entry)) {
		uint64_t first;

		memcpy(&first, (const char *)v.value + offsetof(struct entry, first_ns), sizeof(first));
		err = expired(first, now, window_ns) ? EXPIRED : SUPPRESSED;
		if (err == SUPPRESSED)
			fnd_view_add(&v, offsetof(struct entry, suppressed), 1); /* [TB-2] */
	} else if (!err || err == -ENOENT) {
		err = NOT_THERE;
	}
	fnd_read_end(d->seg);
	return err;
}

/* Most keys were seen long before their window ends, by however much a clock is late. */
static int suppress_quickly(struct fnd_dedup *d, const void *key, size_t key_bytes, uint64_t window_ns)
{
	uint64_t now = window_ns == FND_WINDOW_FOREVER ? 0 : wall_coarse_ns() + LAG_NS;
	int r = suppress(d, key, key_bytes, now, window_ns);

	return r == EXPIRED ? suppress(d, key, key_bytes, wall_ns(), window_ns) : r;
}

struct claim {
	struct entry_max value;
	uint64_t window_ns;
	int won;
};

static enum fnd_modify decide(void *arg, const void *old, size_t old_bytes, const void **new_value,
			      size_t *new_bytes)
{
	struct claim *c = arg;
	uint64_t first;

	c->won = 0;
	if (old && old_bytes >= sizeof(struct entry)) {
		memcpy(&first, (const char *)old + offsetof(struct entry, first_ns), sizeof(first));
		if (!expired(first, c->value.e.first_ns, c->window_ns)) {
			struct fnd_view v = { old, old_bytes };

			fnd_view_add(&v, offsetof(struct entry, suppressed), 1); /* [TB-2] */
			return FND_MODIFY_KEEP;
		}
	}
	c->won = 1;
	*new_value = &c->value;
	*new_bytes = sizeof(c->value.e) + c->value.e.event_bytes;
	return FND_MODIFY_PUT;
}

/* --- a full table: the expired go ----------------------------------------------------------------- */

struct sweep {
	struct fnd_dedup *d;
	uint64_t now_ns;
	unsigned int removed;
};

static enum fnd_modify drop_expired(void *arg, const void *old, size_t old_bytes, const void **new_value,
				    size_t *new_bytes)
{
	struct sweep *s = arg;
	uint64_t expires;

	(void)new_value, (void)new_bytes;
	if (!old || old_bytes < sizeof(struct entry))
		return FND_MODIFY_KEEP;
	memcpy(&expires, (const char *)old + offsetof(struct entry, expires_ns), sizeof(expires));
	return expires <= s->now_ns ? FND_MODIFY_DELETE : FND_MODIFY_KEEP;
}

static int sweep_one(const struct fnd_record *r, void *arg)
{
	struct sweep *s = arg;
	const void *unused = NULL;
	size_t none = 0;
	int err;

	if (drop_expired(s, r->value, r->value_bytes, &unused, &none) != FND_MODIFY_DELETE)
		return 0;
	err = fnd_table_modify(s->d->table, r->key, r->key_bytes, drop_expired, s);
	s->removed += err == FND_MODIFY_DELETE;
	return err < 0 ? err : 0;
}

/* True when something went. At most a few times a window: a table full of the living stays full. */
static int sweep(struct fnd_dedup *d, uint64_t now, uint64_t window_ns)
{
	const uint64_t pause = window_ns / SWEEPS_A_WINDOW < SWEEP_PAUSE_MAX_NS ?
				       window_ns / SWEEPS_A_WINDOW :
				       SWEEP_PAUSE_MAX_NS;
	struct sweep s = { .d = d, .now_ns = now };

	if (pthread_mutex_trylock(&d->sweeping) != 0)
		return 0;
	if (!d->swept_ns || now - d->swept_ns >= pause) {
		d->swept_ns = now;
		fnd_table_iterate(d->table, 0, sweep_one, &s);
	}
	pthread_mutex_unlock(&d->sweeping);
	return s.removed > 0;
}

/* --- claiming ------------------------------------------------------------------------------------- */

int fnd_dedup_claim(struct fnd_dedup *d, const void *key, size_t key_bytes, const void *event,
		    size_t event_bytes, uint64_t window_ns)
{
	struct claim c;
	int r;

	if (!key || key_bytes < 1 || key_bytes > FND_DEDUP_KEY_MAX || (event_bytes && !event))
		return fnd_error_set(EINVAL, "a key has 1 to %d bytes", FND_DEDUP_KEY_MAX);
	if (event_bytes > FND_DEDUP_EVENT_MAX)
		return fnd_error_set(E2BIG, "an event has %zu bytes, at most %d", event_bytes,
				     FND_DEDUP_EVENT_MAX);
	r = suppress_quickly(d, key, key_bytes, window_ns);
	if (r == SUPPRESSED) {
		fnd_counter_add(d->seg, FND_COUNTER_SUPPRESSED, 1);
		return FND_CLAIM_SUPPRESSED;
	}
	if (r < 0)
		return r;
	c.value.e = (struct entry){ .first_ns = wall_ns(), .event_bytes = (uint32_t)event_bytes };
	c.window_ns = window_ns;
	c.value.e.expires_ns = c.value.e.first_ns + window_ns;
	if (c.value.e.expires_ns < window_ns)
		c.value.e.expires_ns = UINT64_MAX; /* for ever, or as good as */
	if (event_bytes)
		memcpy(c.value.event, event, event_bytes);
	r = fnd_table_modify(d->table, key, key_bytes, decide, &c);
	if (r == -ENOSPC && sweep(d, c.value.e.first_ns, window_ns))
		r = fnd_table_modify(d->table, key, key_bytes, decide, &c);
	if (r == -ENOSPC) {
		fnd_counter_add(d->seg, FND_COUNTER_OVERFLOWED, 1);
		return FND_CLAIM_OVERFLOWED;
	}
	if (r < 0)
		return r;
	fnd_counter_add(d->seg, c.won ? FND_COUNTER_EMITTED : FND_COUNTER_SUPPRESSED, 1);
	return c.won ? FND_CLAIM_EMITTED : FND_CLAIM_SUPPRESSED;
}

/* --- reading -------------------------------------------------------------------------------------- */

struct walk {
	int (*fn)(const struct fnd_event *e, void *arg);
	void *arg;
};

static int hand_out(const struct fnd_record *r, void *arg)
{
	struct walk *w = arg;
	struct fnd_event ev;
	struct entry e;

	if (r->value_bytes < sizeof(e))
		return 0;
	memcpy(&e, r->value, sizeof(e));
	if (e.event_bytes != r->value_bytes - sizeof(e))
		return 0;
	ev.key = r->key;
	ev.key_bytes = r->key_bytes;
	ev.event = (const char *)r->value + sizeof(e);
	ev.event_bytes = e.event_bytes;
	ev.first_ns = e.first_ns;
	ev.suppressed = e.suppressed;
	return w->fn(&ev, w->arg);
}

int fnd_dedup_iterate(struct fnd_dedup *d, int (*fn)(const struct fnd_event *e, void *arg), void *arg)
{
	struct walk w = { .fn = fn, .arg = arg };

	return fnd_table_iterate(d->table, 0, hand_out, &w);
}
