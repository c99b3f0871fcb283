// SPDX-License-Identifier: MIT
/*
 * Everything a participant and an observer can do, on a segment that may say anything.
 *
 * Each call must return; with what, is looked at: a result that says what is there, or a code that the
 * interface has for damage, for want of room, or for a wait that was long enough. What a read hands out is
 * touched, byte by byte.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <foundation/observer.h>
#include <foundation/verify.h>

#include "corrupt.h"

static volatile unsigned char sink;

void stage(const char *what)
{
	snprintf(board->stage, sizeof(board->stage), "%s", what);
}

void violation(const char *fmt, ...)
{
	va_list ap;

	if (board->violation[0])
		return;
	va_start(ap, fmt);
	vsnprintf(board->violation, sizeof(board->violation), fmt, ap);
	va_end(ap);
}

static uint64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

static void touch(const void *p, size_t n)
{
	const volatile unsigned char *c = p;
	unsigned char sum = 0;

	for (size_t i = 0; i < n; i++)
		sum = (unsigned char)(sum + c[i]);
	sink = sum;
}

/* Is that a result the call may have? */
static int judge(const char *call, int err)
{
	static const int allowed[] = { ENOENT, EEXIST, ENOBUFS, ETIMEDOUT, FND_E_CORRUPT, FND_E_GARBAGE,
				       ENOSPC, ENOMEM, EDEADLK, ESRCH, EAGAIN, FND_E_NOSLOT, FND_E_LIMITS, EBUSY,
				       EMFILE, EOVERFLOW };

	board->timeouts += err == -ETIMEDOUT;
	board->corrupt += err == -FND_E_CORRUPT;
	if (err >= 0)
		return err;
	for (size_t i = 0; i < sizeof(allowed) / sizeof(allowed[0]); i++)
		if (err == -allowed[i])
			return err;
	violation("%s returned %d: %s [%s]", call, err, fnd_strerror(err), fnd_error_detail());
	return err;
}

/* --- attach and leave ----------------------------------------------------------------------------- */

static bool refusal_known(int err)
{
	static const int known[] = { FND_E_CORRUPT, FND_E_FOREIGN, FND_E_TOO_OLD, FND_E_TOO_NEW, FND_E_LAYOUT,
				     FND_E_DIRTY, FND_E_PIDNS, FND_E_NOSLOT, ENOENT, ENOMEM };

	for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++)
		if (err == -known[i])
			return true;
	return false;
}

bool visit_begin(struct visitor *v)
{
	struct fnd_attach_options o = { .size = sizeof(o), .lock_timeout_ms = LOCK_MS };
	int err;

	memset(v, 0, sizeof(*v));
	stage("attach");
	err = fnd_segment_attach(image.name, &o, &v->seg);
	if (err) {
		if (!refusal_known(err) || v->seg)
			violation("attach returned %d: %s", err, fnd_strerror(err));
		board->refused++;
		return false;
	}
	board->attached++;
	stage("open");
	if (judge("open a", fnd_table_open(v->seg, "a", NULL, &v->a)))
		v->a = NULL;
	if (judge("open b", fnd_table_open(v->seg, "b", NULL, &v->b)))
		v->b = NULL;
	if (judge("open registry", fnd_registry_open(v->seg, 8, &v->reg)))
		v->reg = NULL;
	if (judge("open dedup", fnd_dedup_open(v->seg, 8, &v->dedup)))
		v->dedup = NULL;
	return true;
}

void visit_end(struct visitor *v)
{
	stage("detach");
	fnd_table_close(v->a);
	fnd_table_close(v->b);
	fnd_registry_close(v->reg);
	fnd_dedup_close(v->dedup);
	/* a flip in its own slot may say that it is in a section: it stays attached until it is not */
	if (fnd_segment_detach(v->seg) == 0)
		return;
	image_restore();
	if (fnd_segment_detach(v->seg))
		violation("detach failed on a sound segment");
}

/* --- reads ---------------------------------------------------------------------------------------- */

typedef void (*key_fn)(unsigned int i, char key[16], size_t *ret_bytes);

static void lookups(struct fnd_table *t, key_fn make, unsigned int keys, unsigned int step)
{
	char key[16], buf[64];
	size_t n, bytes;

	stage("lookup");
	for (unsigned int i = 0; i < keys; i += step) {
		make(i, key, &n);
		bytes = 0;
		if (judge("lookup", fnd_table_lookup(t, key, n, buf, sizeof(buf), &bytes)) == 0 &&
		    bytes > sizeof(buf))
			violation("lookup copied %zu bytes into %zu", bytes, sizeof(buf));
	}
}

static void views(struct visitor *v)
{
	struct fnd_view view;
	char key[16];
	size_t n;

	stage("get");
	if (judge("read_begin", fnd_read_begin(v->seg)))
		return;
	for (unsigned int i = 0; v->a && i < KEYS_A; i += 5) {
		key_a(i, key, &n);
		if (judge("get", fnd_table_get(v->a, key, n, &view)) == 0) {
			touch(view.value, view.value_bytes);
			fnd_view_add(&view, 0, 1);
		}
	}
	judge("read_end", fnd_read_end(v->seg));
}

static int touch_record(const struct fnd_record *r, void *arg)
{
	(void)arg;
	touch(r->key, r->key_bytes);
	touch(r->value, r->value_bytes);
	return 0;
}

static int touch_agent(const char *name, const struct fnd_agent *a, void *arg)
{
	(void)arg;
	touch(name, strlen(name));
	if (a->metadata_bytes > sizeof(a->metadata))
		violation("an agent with %zu bytes of metadata", a->metadata_bytes);
	else
		touch(a->metadata, a->metadata_bytes);
	return 0;
}

static int touch_event(const struct fnd_event *e, void *arg)
{
	(void)arg;
	touch(e->key, e->key_bytes);
	touch(e->event, e->event_bytes);
	return 0;
}

/* --- writes --------------------------------------------------------------------------------------- */

/* How many others want a processor: a write may have to wait for its own. */
static uint64_t waiting(void)
{
	double load = 0;

	return getloadavg(&load, 1) == 1 ? (uint64_t)load : 0;
}

/* Judges a write by its result and its time. *skip: no more of them in this series, they wait. */
static void wrote(const char *call, int err, uint64_t from, bool *skip)
{
	uint64_t ns = now_ns() - from;

	judge(call, err);
	if (ns > board->slowest_write_ns)
		board->slowest_write_ns = ns;
	if (ns > WRITE_BOUND_NS && ns > WRITE_BOUND_NS * (1 + waiting()))
		violation("%s took %llu ms: %s", call, (unsigned long long)ns / 1000000, fnd_error_detail());
	if (ns > 15000000) /* not a wait for a processor */
		*skip = true;
}

#define WRITE(skip, call)                                                                         \
	do {                                                                                      \
		uint64_t from_ = now_ns();                                               \
		if (!(skip))                                                                      \
			wrote(#call, call, from_, &(skip));                                       \
	} while (0)

static enum fnd_modify turn(void *arg, const void *old, size_t old_bytes, const void **new_value,
			    size_t *new_bytes)
{
	touch(old, old ? old_bytes : 0);
	*new_value = arg;
	*new_bytes = 8;
	return old_bytes == 8 ? FND_MODIFY_DELETE : FND_MODIFY_PUT;
}

static void writes(struct fnd_table *t, key_fn make, unsigned int keys, bool *skip, uint64_t random)
{
	static char value[16] = "written";
	char key[16];
	size_t n;

	stage("write");
	make(keys + (unsigned int)(random % 8), key, &n);
	WRITE(*skip, fnd_table_insert(t, key, n, value, random >> 8 & 15));
	make((unsigned int)(random >> 16) % keys, key, &n);
	WRITE(*skip, fnd_table_replace(t, key, n, value, random >> 12 & 15));
	make((unsigned int)(random >> 24) % keys, key, &n);
	WRITE(*skip, fnd_table_delete(t, key, n));
	WRITE(*skip, fnd_table_upsert(t, key, n, value, 8));
	make((unsigned int)(random >> 32) % keys, key, &n);
	WRITE(*skip, fnd_table_modify(t, key, n, turn, value));
}

void visit_quick(struct visitor *v, uint64_t random)
{
	unsigned int step = random >> 40 & 7 ? 7 : 1;

	if (v->a) {
		lookups(v->a, key_a, KEYS_A, step);
		writes(v->a, key_a, KEYS_A, &v->skip_a, random);
	}
	if (v->b) {
		lookups(v->b, key_b, KEYS_B, step);
		writes(v->b, key_b, KEYS_B, &v->skip_b, random);
	}
}

static void runtime(struct visitor *v, uint64_t random)
{
	static const unsigned char map[] = { 0x81, 0xa1, 'k', 1 };
	struct fnd_agent a;
	char name[24];

	snprintf(name, sizeof(name), "agent-%u", (unsigned int)(random % (NAMES + 2)));
	stage("registry");
	if (v->reg) {
		judge("registry lookup", fnd_registry_lookup(v->reg, name, &a));
		WRITE(v->skip_reg, fnd_registry_register(v->reg, name, 0, map, sizeof(map), FND_REGISTER_TAKE));
		WRITE(v->skip_reg, fnd_registry_update(v->reg, name, map, sizeof(map)));
		WRITE(v->skip_reg, fnd_registry_unregister(v->reg, name, FND_UNREGISTER_FORCE));
		judge("registry list", fnd_registry_list(v->reg, FND_AGENTS_ORPHANS, touch_agent, NULL));
		fnd_registry_count(v->reg);
		WRITE(v->skip_reg, fnd_registry_reap(v->reg, NULL));
	}
	stage("dedup");
	if (v->dedup) {
		WRITE(v->skip_dedup, fnd_dedup_claim(v->dedup, name, strlen(name), "e", 1, random & 1 ? 0 : 1 << 30));
		WRITE(v->skip_dedup, fnd_dedup_claim(v->dedup, name, strlen(name), "e", 1, FND_WINDOW_FOREVER));
		judge("dedup iterate", fnd_dedup_iterate(v->dedup, touch_event, NULL));
	}
}

static void walk_table(struct fnd_table *t, bool *skip)
{
	struct fnd_table_stats stats;

	stage("iterate");
	judge("iterate", fnd_table_iterate(t, 0, touch_record, NULL));
	judge("stats", fnd_table_stats_read(t, &stats));
	WRITE(*skip, fnd_table_iterate(t, FND_ITERATE_EXACT, touch_record, NULL));
	stage("check");
	WRITE(*skip, fnd_table_check(t));
}

static void segment_calls(struct visitor *v, uint64_t random)
{
	struct fnd_table_options o = { sizeof(o), 0, 8, 8, 4 };
	struct fnd_table *c = NULL;
	struct fnd_participant who;
	struct fnd_latency latency;
	char name[FND_TABLE_NAME_MAX + 1];
	bool skip = false;

	stage("segment");
	for (unsigned int i = 0; i < 64; i++)
		judge("table name", fnd_table_name(v->seg, i, name));
	judge("latency", fnd_latency_read(v->seg, FND_OP_LOOKUP, &latency));
	fnd_counter_read(v->seg, FND_COUNTER_CORRUPT);
	if (judge("participant", fnd_segment_participant(v->seg, (uint32_t)image.peer, &who)) == 0)
		fnd_participant_dead(v->seg, &who);
	judge("reap", fnd_segment_reap(v->seg, NULL));
	judge("synchronize", fnd_synchronize(v->seg, 1));
	if (random & 3)
		return;
	stage("make a table");
	WRITE(skip, fnd_table_open(v->seg, "c", &o, &c));
	if (c)
		WRITE(skip, fnd_table_upsert(c, "k", 1, "v", 1));
	fnd_table_close(c);
}

void visit_all(struct visitor *v, uint64_t random)
{
	visit_quick(v, random);
	views(v);
	runtime(v, random);
	segment_calls(v, random);
	if (v->a)
		walk_table(v->a, &v->skip_a);
	if (v->b)
		walk_table(v->b, &v->skip_b);
	visit_quick(v, mix(random));
}

/* --- from outside --------------------------------------------------------------------------------- */

static int ignore_participant(const struct fnd_observed_participant *p, void *arg)
{
	(void)arg;
	touch(p, sizeof(*p));
	return 0;
}

static int ignore_thread(const struct fnd_observed_thread *t, void *arg)
{
	(void)arg;
	touch(t, sizeof(*t));
	return 0;
}

static int ignore_table(const struct fnd_table_stats *t, void *arg)
{
	(void)arg;
	touch(t, sizeof(*t));
	return 0;
}

void visit_observe(void)
{
	struct fnd_segment_status s;
	struct fnd_latency latency;
	struct fnd_observer *o;

	stage("observe");
	if (fnd_observer_open(image.name, &o))
		return;
	judge("observer status", fnd_observer_status(o, &s));
	judge("observer participants", fnd_observer_participants(o, ignore_participant, NULL));
	judge("observer threads", fnd_observer_threads(o, ignore_thread, NULL));
	judge("observer latency", fnd_observer_latency(o, FND_OP_LOOKUP, &latency));
	judge("observer tables", fnd_observer_tables(o, ignore_table, NULL));
	judge("observer records", fnd_observer_records(o, "a", touch_record, NULL));
	judge("observer records", fnd_observer_records(o, "b", touch_record, NULL));
	fnd_observer_close(o);
}

void visit_verify_any(void)
{
	stage("verify");
	fnd_verify(image.name, NULL, NULL, NULL);
}

void visit_verify(uint64_t bit)
{
	enum meaning m = (enum meaning)image.meaning[bit / 8];
	int err;

	stage("verify");
	err = fnd_verify(image.name, NULL, NULL, NULL);
	board->total[m]++;
	if (err) {
		board->found[m]++;
	} else if (m == MEANING_STRUCTURE) {
		board->missed[board->misses % 8] = bit;
		board->misses++;
	}
}
