// SPDX-License-Identifier: MIT
/*
 * Error contexts of many threads in many processes: none is mixed up with another, each comes back to its base
 * on every way out, and what a killed thread leaves is the state of its last completed call.
 *
 *   test_context [CASE...]
 *   test_context --hold SEGMENT    three nested scopes; says its pid and tid, ends with its standard input
 */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <foundation/atomic.h>
#include <foundation/failure.h>
#include <foundation/flags.h>

#include "../../runtime/area_layout.h"
#include "multiproc.h"

#define PROCESSES 4u
#define THREADS 50u
#define ROUNDS 1000u
#define DEPTH 10

enum { READY = 0, DONE = 1, STOP = 2, WRONG = 3, CANCELLED = 4 }; /* words */

static char segment[80];
static struct fnd_context *ctx;
static unsigned int rounds = ROUNDS;

static struct fnd_segment_options large_options(void)
{
	return (struct fnd_segment_options){ .size = sizeof(struct fnd_segment_options), .processes = 16,
					     .threads = 400, .max_bytes = 16u << 20 };
}

static int segment_new(struct fnd_segment **ret_seg)
{
	struct fnd_segment_options opt = large_options();

	snprintf(segment, sizeof(segment), "%s", name_new());
	return fnd_segment_create(segment, &opt, ret_seg);
}

static int segment_end(struct fnd_segment *seg)
{
	NEED(fnd_segment_detach(seg) == 0);
	NEED(fnd_segment_destroy(segment, FND_DESTROY_FORCE) == 0);
	return 0;
}

/* A flag without its journal and its handle: the word alone. */
static void flag_set(struct fnd_segment *seg, enum fnd_flag_id id, unsigned int percent)
{
	struct fnd_shm_runtime *a = fnd_segment_area(seg);
	uint64_t w = fnd_load_relaxed(&a->flags); /* relaxed: nobody else changes it */

	w = (w & ~(127ULL << FND_FLAG_SHIFT(id))) | (uint64_t)percent << FND_FLAG_SHIFT(id);
	fnd_store_relaxed(&a->flags, w + 1);
}

/* --- scopes ---------------------------------------------------------------------------------------- */

struct runner {
	unsigned char base[FND_CONTEXT_MAP_MAX];
	int base_bytes;
	char who[32];
	unsigned int seed;
	bool wrong;
};

static bool is_text(const char *key, const char *want)
{
	char buf[64];

	return fnd_context_get_str(ctx, key, buf, sizeof(buf)) >= 0 && strcmp(buf, want) == 0;
}

static bool at_base(const struct runner *r)
{
	unsigned char now[FND_CONTEXT_MAP_MAX];
	int n = fnd_context_capture(ctx, now, sizeof(now));

	return n == r->base_bytes && memcmp(now, r->base, (size_t)n) == 0 && fnd_context_depth(ctx) == 0;
}

static int dive(struct runner *r, int depth)
{
	char here[48];
	struct fnd_value v;

	snprintf(here, sizeof(here), "%s/%d", r->who, depth);
	FND_CONTEXT_SCOPE(ctx, fnd_str("here", here), fnd_int("depth", depth));
	if (rand_r(&r->seed) % 3 == 0)
		fnd_context_set(ctx, fnd_uint("draw", (unsigned int)rand_r(&r->seed)));
	if (rand_r(&r->seed) % 64 == 0)
		pthread_testcancel();
	if (depth < DEPTH && rand_r(&r->seed) % 50 != 0 && dive(r, depth + 1) < 0)
		return -1;
	if (!is_text("who", r->who) || !is_text("here", here) || fnd_context_get(ctx, "depth", &v) ||
	    v.v.i != depth)
		r->wrong = true;
	return r->wrong ? -1 : 0;
}

static int runner_begin(struct runner *r, unsigned int number)
{
	snprintf(r->who, sizeof(r->who), "%d-%u", (int)getpid(), number);
	r->seed = (unsigned int)random_u64() ^ number;
	if (fnd_context_set(ctx, fnd_str("who", r->who)) || fnd_context_set(ctx, fnd_uint("number", number)))
		return -1;
	r->base_bytes = fnd_context_capture(ctx, r->base, sizeof(r->base));
	return r->base_bytes > 0 ? 0 : -1;
}

static void *scopes_thread(void *arg)
{
	struct runner r = { .base_bytes = 0 };
	unsigned int number = (unsigned int)(uintptr_t)arg;

	pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, NULL);
	if (runner_begin(&r, number))
		return "cannot begin";
	for (unsigned int i = 0; i < rounds; i++) {
		if (dive(&r, 1) < 0 || r.wrong)
			return "mixed up";
		if (!at_base(&r))
			return "not back at its base";
		if (rounds > ROUNDS && i % 16 == 0)
			nap_us(20); /* whoever flips has a turn */
	}
	return NULL;
}

static void after_cancel(void *arg)
{
	const struct runner *r = arg;

	if (at_base(r) && is_text("who", r->who))
		word_add(&shared->word[CANCELLED], 1);
	else
		word_add(&shared->word[WRONG], 1);
}

static void *cancelled_thread(void *arg)
{
	struct runner r = { .base_bytes = 0 };

	if (runner_begin(&r, (unsigned int)(uintptr_t)arg))
		return "cannot begin";
	pthread_cleanup_push(after_cancel, &r);
	while (dive(&r, 1) == 0)
		;
	pthread_cleanup_pop(0);
	return "mixed up";
}

static int join_all(pthread_t *thread, unsigned int n, void *want)
{
	const char *bad = NULL;
	void *said;

	for (unsigned int i = 0; i < n; i++) {
		pthread_join(thread[i], &said);
		if (said != want)
			bad = said;
	}
	if (bad)
		fprintf(stderr, "%d: a thread: %s\n", (int)getpid(), bad == PTHREAD_CANCELED ? "cancelled" : bad);
	return bad != NULL;
}

static int scopes_process(void *shared_place)
{
	struct fnd_segment *seg;
	pthread_t thread[THREADS], doomed[10];

	NEED(fnd_segment_attach(segment, NULL, &seg) == 0);
	NEED(fnd_context_open(shared_place ? seg : NULL, NULL, NULL, &ctx) == 0);
	for (unsigned int i = 0; i < THREADS; i++)
		NEED(pthread_create(&thread[i], NULL, scopes_thread, (void *)(uintptr_t)i) == 0);
	for (unsigned int i = 0; i < 10; i++)
		NEED(pthread_create(&doomed[i], NULL, cancelled_thread, (void *)(uintptr_t)(100 + i)) == 0);
	for (unsigned int i = 0; i < 10; i++) {
		nap_us(2000);
		pthread_cancel(doomed[i]);
	}
	NEED(join_all(doomed, 10, PTHREAD_CANCELED) == 0);
	NEED(join_all(thread, THREADS, NULL) == 0);
	fnd_context_close(ctx);
	NEED(fnd_segment_detach(seg) == 0);
	return 0;
}

static int no_remains(const struct fnd_remains *r, void *arg)
{
	(void)r;
	(void)arg;
	return 1;
}

static int case_scopes(void *shared_place)
{
	struct fnd_segment *seg;
	pid_t pid[PROCESSES];

	NEED(segment_new(&seg) == 0);
	for (unsigned int i = 0; i < PROCESSES; i++)
		pid[i] = child_start(scopes_process, shared_place);
	for (unsigned int i = 0; i < PROCESSES; i++)
		NEED(child_wait(pid[i]) == 0);
	NEED(word_get(&shared->word[CANCELLED]) == 10 * PROCESSES && word_get(&shared->word[WRONG]) == 0);
	NEED(fnd_remains_iterate(seg, no_remains, NULL, NULL) == 0); /* all left in order */
	return segment_end(seg);
}

static int scopes_private(void)
{
	return case_scopes(NULL);
}

static int scopes_shared(void)
{
	return case_scopes(shared);
}

/* --- killed ---------------------------------------------------------------------------------------- */

static int hold_inside(void (*wait)(void))
{
	FND_CONTEXT_SCOPE(ctx, fnd_str("request_id", "r-42"), fnd_str("step", "parse"));
	FND_CONTEXT_SCOPE(ctx, fnd_str("operation", "import"), fnd_str("step", "read"));
	FND_CONTEXT_SCOPE(ctx, fnd_uint("line", 17), fnd_str("step", "store"));
	NEED(fnd_context_crumb(ctx, "opened the file") == 0);
	NEED(fnd_context_crumb(ctx, "line 17 is odd") == 0);
	wait();
	return 0;
}

static void wait_to_be_killed(void)
{
	word_set(&shared->word[READY], 1);
	for (;;)
		pause();
}

static int three_scopes(void *arg)
{
	struct fnd_segment *seg;

	(void)arg;
	NEED(fnd_segment_attach(segment, NULL, &seg) == 0);
	NEED(fnd_context_open(seg, NULL, NULL, &ctx) == 0);
	return hold_inside(wait_to_be_killed);
}

static int field_text(const struct fnd_field *f, void *arg)
{
	char *out = (char *)arg + strlen(arg);

	if (f->value.type == FND_VALUE_STR)
		snprintf(out, 100, "%.*s=%.*s ", (int)f->key_bytes, f->key, (int)f->value.bytes, f->value.v.text);
	else
		snprintf(out, 100, "%.*s=%lld ", (int)f->key_bytes, f->key, (long long)f->value.v.i);
	return 0;
}

static const char *view_text(const struct fnd_context_view *v)
{
	static char text[8192];

	text[0] = 0;
	if (fnd_map_iterate(v->map, v->map_bytes, field_text, text))
		return "(no map)";
	return text;
}

#define ALL_THREE "request_id=r-42 step=store operation=import line=17 "

static int slot_of_pid(const struct fnd_observed_thread *t, void *arg)
{
	const uint32_t *pid = arg;

	return t->pid == *pid ? (int)t->slot : 0;
}

static int last_remains(const struct fnd_remains *r, void *arg)
{
	memcpy(arg, r, sizeof(*r));
	return 0;
}

static int killed_inside(void)
{
	struct fnd_context_view v;
	struct fnd_remains *r = calloc(1, sizeof(*r));
	struct fnd_observer *o;
	struct fnd_segment *seg;
	uint64_t dropped = 9;
	uint32_t pid;
	int slot;

	NEED(r && segment_new(&seg) == 0 && fnd_observer_open(segment, &o) == 0);
	pid = (uint32_t)child_start(three_scopes, NULL);
	TRY(word_wait(&shared->word[READY], 1));
	slot = fnd_observer_threads(o, slot_of_pid, &pid);
	NEED(slot > 0 && fnd_context_observe(o, (uint32_t)slot, &v) == 0); /* while it lives */
	NEED(v.depth == 3 && strcmp(view_text(&v), ALL_THREE) == 0);
	child_kill((pid_t)pid);
	NEED(fnd_context_observe(o, (uint32_t)slot, &v) == 0); /* dead, and nobody has reaped it */
	NEED(strcmp(view_text(&v), ALL_THREE) == 0);
	NEED(fnd_segment_reap(seg, NULL) == 0);
	NEED(fnd_observer_remains(o, last_remains, r, &dropped) == 0 && dropped == 0);
	NEED(r->pid == pid && r->tid == pid && r->number == 1);
	NEED(fnd_context_decode_area(r->area, sizeof(r->area), &v) == 0);
	NEED(v.depth == 3 && strcmp(view_text(&v), ALL_THREE) == 0);
	NEED(v.crumbs == 2 && strcmp(v.crumb[1].text, "line 17 is odd") == 0);
	NEED(fnd_context_observe(o, (uint32_t)slot, &v) == -ENOENT);
	fnd_observer_close(o);
	free(r);
	return segment_end(seg);
}

/* Kills at random moments, and a reader all the while: x and y are only ever set together. */
static int pairs(void *arg)
{
	struct fnd_segment *seg;

	(void)arg;
	NEED(fnd_segment_attach(segment, NULL, &seg) == 0);
	NEED(fnd_context_open(seg, NULL, NULL, &ctx) == 0);
	for (uint64_t i = 0;; i++) {
		FND_CONTEXT_SCOPE(ctx, fnd_uint("x", i), fnd_str("text", i % 2 ? "short" : "a longer text than that"),
				  fnd_uint("y", i));
		FND_CONTEXT_SCOPE(ctx, fnd_uint("y", i + 1), fnd_uint("x", i + 1));
		fnd_context_set_all(ctx, (struct fnd_field[]){ fnd_uint("x", i + 2), fnd_uint("y", i + 2) }, 2);
		fnd_context_crumb(ctx, "a breadcrumb");
		word_set(&shared->word[READY], 1);
		if (i % 64 == 0)
			nap_us(20);
	}
}

struct pair {
	uint64_t x, y;
};

static int pair_field(const struct fnd_field *f, void *arg)
{
	struct pair *p = arg;

	if (f->key_bytes == 1 && f->key[0] == 'x')
		p->x = f->value.v.u + 1;
	if (f->key_bytes == 1 && f->key[0] == 'y')
		p->y = f->value.v.u + 1;
	return 0;
}

static int pair_check(int err, const struct fnd_context_view *v)
{
	struct pair p = { 0, 0 };

	if (err == -ENOENT || err == -EAGAIN)
		return 0;
	NEED(err == 0);
	NEED(fnd_map_iterate(v->map, v->map_bytes, pair_field, &p) == 0);
	NEED(p.x == p.y && (v->depth == 0) == (p.x == 0) && v->depth <= 2);
	for (uint32_t i = 0; i < v->crumbs; i++)
		NEED(strcmp(v->crumb[i].text, "a breadcrumb") == 0);
	return 0;
}

static int killed_anywhere(void)
{
	struct fnd_context_view v;
	struct fnd_remains *r = calloc(1, sizeof(*r));
	struct fnd_observer *o;
	struct fnd_segment *seg;
	unsigned int seen = 0;

	NEED(r && segment_new(&seg) == 0 && fnd_observer_open(segment, &o) == 0);
	for (unsigned int round = 0; round < 150; round++) {
		uint32_t pid;
		int slot;

		word_set(&shared->word[READY], 0);
		pid = (uint32_t)child_start(pairs, NULL);
		TRY(word_wait(&shared->word[READY], 1));
		slot = fnd_observer_threads(o, slot_of_pid, &pid);
		NEED(slot > 0);
		for (int i = 0; i < 40; i++) {
			int err = fnd_context_observe(o, (uint32_t)slot, &v);

			TRY(pair_check(err, &v));
			seen += err == 0;
		}
		nap_us((unsigned int)(random_u64() % 300));
		child_kill((pid_t)pid);
		NEED(fnd_segment_reap(seg, NULL) == 0);
		NEED(fnd_observer_remains(o, last_remains, r, NULL) == 0);
		NEED(r->pid == pid); /* its breadcrumbs are kept, whatever scope it was in */
		TRY(pair_check(fnd_context_decode_area(r->area, sizeof(r->area), &v), &v));
	}
	NEED(seen > 1000);
	fnd_observer_close(o);
	free(r);
	return segment_end(seg);
}

/* --- the last 64 ----------------------------------------------------------------------------------- */

static int leaves_number(void *number)
{
	struct fnd_segment *seg;

	NEED(fnd_segment_attach(segment, NULL, &seg) == 0);
	NEED(fnd_context_open(seg, NULL, NULL, &ctx) == 0);
	NEED(fnd_context_set(ctx, fnd_uint("number", (uintptr_t)number)) == 0);
	raise(SIGKILL);
	return 1;
}

static int numbers_in_turn(const struct fnd_remains *r, void *arg)
{
	uint64_t *next = arg;
	struct fnd_context_view v;
	char want[32];

	snprintf(want, sizeof(want), "number=%llu ", (unsigned long long)*next);
	if (r->number != *next || fnd_context_decode_area(r->area, sizeof(r->area), &v) ||
	    strcmp(view_text(&v), want) != 0)
		return 1;
	++*next;
	return 0;
}

static int sixty_four(void)
{
	struct fnd_segment *seg;
	uint64_t dropped = 0, next;

	NEED(segment_new(&seg) == 0);
	for (uintptr_t i = 1; i <= FND_REMAINS_MAX + 6; i++) {
		pid_t pid = child_start(leaves_number, (void *)i);
		int status;

		NEED(waitpid(pid, &status, 0) == pid && WIFSIGNALED(status));
		NEED(fnd_segment_child_died(seg, (uint32_t)pid, status) == 0);
		if (i == FND_REMAINS_MAX) {
			next = 1;
			NEED(fnd_remains_iterate(seg, numbers_in_turn, &next, &dropped) == 0);
			NEED(next == i + 1 && dropped == 0);
		}
	}
	next = 7;
	NEED(fnd_remains_iterate(seg, numbers_in_turn, &next, &dropped) == 0);
	NEED(next == FND_REMAINS_MAX + 7 && dropped == 6);
	return segment_end(seg);
}

/* --- flips ----------------------------------------------------------------------------------------- */

static int flips_process(void *arg)
{
	struct fnd_context_stats stats;
	struct fnd_segment *seg;
	struct fnd_flags *flags;
	pthread_t thread[8];

	(void)arg;
	rounds = 8 * ROUNDS;
	NEED(fnd_segment_attach(segment, NULL, &seg) == 0);
	NEED(fnd_flags_open(seg, &flags) == 0);
	NEED(fnd_context_open(seg, flags, NULL, &ctx) == 0);
	word_add(&shared->word[READY], 1);
	for (unsigned int i = 0; i < 8; i++)
		NEED(pthread_create(&thread[i], NULL, scopes_thread, (void *)(uintptr_t)i) == 0);
	NEED(join_all(thread, 8, NULL) == 0);
	word_add(&shared->word[DONE], 1);
	fnd_context_stats_read(ctx, &stats);
	NEED(stats.flips > 50 && stats.dropped == 0);
	fnd_context_close(ctx);
	fnd_flags_close(flags);
	NEED(fnd_segment_detach(seg) == 0);
	return 0;
}

static int flips(void)
{
	struct fnd_segment *seg;
	struct fnd_flags *flags;
	pid_t pid[2];
	bool on = false;

	NEED(segment_new(&seg) == 0);
	NEED(fnd_flags_open(seg, &flags) == 0);
	pid[0] = child_start(flips_process, NULL);
	pid[1] = child_start(flips_process, NULL);
	TRY(word_wait(&shared->word[READY], 2));
	while (word_get(&shared->word[DONE]) < 2 && kill(pid[0], 0) == 0) {
		flag_set(seg, FND_FLAG_SHARED_ERROR_CONTEXT, (on = !on) ? 100 : 0);
		nap_us((unsigned int)(random_u64() % 200));
		if (waitpid(pid[0], NULL, WNOHANG | WNOWAIT) > 0)
			break;
	}
	NEED(child_wait(pid[0]) == 0 && child_wait(pid[1]) == 0);
	NEED(fnd_remains_iterate(seg, no_remains, NULL, NULL) == 0);
	fnd_flags_close(flags);
	return segment_end(seg);
}

/* --- enforcement ----------------------------------------------------------------------------------- */

static unsigned int reports;

static void reported(const void *site, void *arg)
{
	reports += site != NULL && arg == &reports;
}

static int enforced(void)
{
	struct fnd_context_options opt = { .size = sizeof(opt), .refused = reported, .refused_arg = &reports };
	struct fnd_context_stats stats;
	struct fnd_segment *seg;
	struct fnd_flags *flags;
	struct fnd_scope scope;
	struct fnd_value v;

	NEED(segment_new(&seg) == 0 && fnd_flags_open(seg, &flags) == 0);
	NEED(fnd_context_open(seg, flags, &opt, &ctx) == 0);
	NEED(fnd_context_begin(ctx, &scope, NULL, 0) == 0 && fnd_context_set(ctx, fnd_str("a", "1")) == 0);
	flag_set(seg, FND_FLAG_ENFORCE_SHARED_STATE, 100);
	for (int i = 0; i < 10; i++) {
		struct fnd_scope s;

		NEED(refused(fnd_context_begin(ctx, &s, NULL, 0), EPERM, "enforce_shared_state"));
		NEED(fnd_context_end(&s) == 0);
	}
	for (int i = 0; i < 10; i++) {
		FND_CONTEXT_SCOPE(ctx, fnd_str("never", "seen"));
		NEED(fnd_context_get(ctx, "never", &v) == -ENOENT);
	}
	fnd_context_stats_read(ctx, &stats);
	NEED(stats.refused == 20 && reports == 2);
	NEED(fnd_counter_read(seg, FND_COUNTER_REFUSED) == 20);
	NEED(fnd_context_get(ctx, "a", &v) == 0); /* what is there stays */
	flag_set(seg, FND_FLAG_SHARED_ERROR_CONTEXT, 100);
	for (int i = 0; i < 3; i++) {
		FND_CONTEXT_SCOPE(ctx, fnd_str("again", "seen"));
		NEED(fnd_context_get(ctx, "again", &v) == 0);
	}
	NEED(fnd_context_end(&scope) == 0 && fnd_context_get(ctx, "a", &v) == -ENOENT);
	fnd_context_close(ctx);
	fnd_flags_close(flags);
	return segment_end(seg);
}

/* --- fork, processes ------------------------------------------------------------------------------- */

static struct fnd_segment *parents;

/* What it had at the fork, its own from then on; then in the segment by a handle of its own. */
static int forked(void *raw)
{
	struct fnd_context *own;
	struct fnd_segment *seg;
	struct fnd_value v;

	if (raw)
		NEED(fnd_context_get(ctx, "a", &v) == -ENOENT); /* nobody told it of its birth */
	else
		NEED(is_text("a", "1"));
	NEED(fnd_context_set(ctx, fnd_str("a", "child's")) == 0);
	NEED(fnd_context_set(ctx, fnd_str("b", "child's")) == 0);
	NEED(fnd_segment_attach(segment, NULL, &seg) == 0);
	NEED(fnd_context_open(seg, NULL, NULL, &own) == 0);
	ctx = own;
	NEED(is_text("b", "child's"));
	fnd_context_close(own);
	NEED(fnd_segment_detach(seg) == 0);
	return 0;
}

static int fork_copies(void)
{
	struct fnd_value v;
	pid_t pid;

	NEED(segment_new(&parents) == 0 && fnd_context_open(parents, NULL, NULL, &ctx) == 0);
	NEED(fnd_context_set(ctx, fnd_str("a", "1")) == 0);
	pid = child_start(forked, NULL);
	NEED(fnd_context_set(ctx, fnd_str("a", "2")) == 0);
	NEED(child_wait(pid) == 0);
	NEED(is_text("a", "2") && fnd_context_get(ctx, "b", &v) == -ENOENT);
	pid = (pid_t)syscall(SYS_clone, SIGCHLD, NULL, NULL, NULL, NULL);
	if (pid == 0)
		_exit(forked(shared));
	NEED(child_wait(pid) == 0);
	NEED(is_text("a", "2") && fnd_context_get(ctx, "b", &v) == -ENOENT);
	fnd_context_close(ctx);
	return segment_end(parents);
}

static unsigned char parcel[FND_FAILURE_BYTES_MAX];

static int fails(void *fd)
{
	struct fnd_failure f;
	struct fnd_segment *seg;
	int n;

	NEED(fnd_segment_attach(segment, NULL, &seg) == 0 && fnd_context_open(seg, NULL, NULL, &ctx) == 0);
	FND_CONTEXT_SCOPE(ctx, fnd_str("request_id", "r-42"), fnd_str("step", "outer"));
	NEED(fnd_failure_make(&f, ctx, "import.line", FND_CATEGORY_VALIDATION, "line %d is odd", 17) == 0);
	NEED(fnd_failure_set(&f, fnd_str("step", "own")) == 0);
	NEED(fnd_failure_enrich(&f, ctx) == 0);
	n = fnd_failure_encode(&f, parcel, sizeof(parcel));
	NEED(n > 0 && write((int)(intptr_t)fd, parcel, (size_t)n) == n);
	return 0;
}

static int failure_travels(void)
{
	char text[1024] = "";
	struct fnd_failure f;
	struct fnd_segment *seg;
	int fds[2];
	ssize_t n;

	NEED(segment_new(&seg) == 0 && pipe(fds) == 0);
	NEED(child_run(fails, (void *)(intptr_t)fds[1]) == 0);
	n = read(fds[0], parcel, sizeof(parcel));
	NEED(n > 0 && fnd_failure_decode(parcel, (size_t)n, &f) == 0);
	NEED(strcmp(f.code, "import.line") == 0 && strcmp(f.message, "line 17 is odd") == 0);
	NEED(f.category == FND_CATEGORY_VALIDATION && f.pid != (uint32_t)getpid());
	NEED(fnd_failure_iterate(&f, field_text, text) == 0);
	NEED(strcmp(text, "step=own request_id=r-42 ") == 0);
	NEED(fnd_context_open(seg, NULL, NULL, &ctx) == 0 && fnd_failure_enrich(&f, ctx) == 0);
	NEED(fnd_counter_read(seg, FND_COUNTER_FAILURES) == 1);
	fnd_context_close(ctx);
	close(fds[0]);
	close(fds[1]);
	return segment_end(seg);
}

/* Every thread slot is taken: contexts go on in the threads' own memory, counted. */
static void *without_slot(void *arg)
{
	(void)arg;
	return fnd_context_set(ctx, fnd_str("a", "1")) || !is_text("a", "1") ? "refused" : NULL;
}

static int no_slot(void)
{
	struct fnd_segment_options opt = large_options();
	struct fnd_context_stats stats;
	struct fnd_segment *seg;
	pthread_t thread;
	void *said;

	opt.threads = 1;
	snprintf(segment, sizeof(segment), "%s", name_new());
	NEED(fnd_segment_create(segment, &opt, &seg) == 0);
	NEED(fnd_context_open(seg, NULL, NULL, &ctx) == 0);
	NEED(fnd_context_set(ctx, fnd_str("a", "0")) == 0);
	NEED(pthread_create(&thread, NULL, without_slot, NULL) == 0 && pthread_join(thread, &said) == 0 && !said);
	fnd_context_stats_read(ctx, &stats);
	NEED(stats.fallbacks == 2 && is_text("a", "0"));
	fnd_context_close(ctx);
	return segment_end(seg);
}

/* --- for the script -------------------------------------------------------------------------------- */

static void wait_for_input(void)
{
	char c;

	printf("%d %ld\n", (int)getpid(), (long)syscall(SYS_gettid));
	fflush(stdout);
	while (read(STDIN_FILENO, &c, 1) > 0)
		;
}

static int hold(const char *name)
{
	struct fnd_segment *seg;

	NEED(fnd_segment_attach(name, NULL, &seg) == 0);
	NEED(fnd_context_open(seg, NULL, NULL, &ctx) == 0);
	NEED(hold_inside(wait_for_input) == 0);
	fnd_context_close(ctx);
	return fnd_segment_detach(seg);
}

static const struct test_case cases[] = {
	{ "scopes_private", scopes_private },
	{ "scopes_shared", scopes_shared },
	{ "killed_inside", killed_inside },
	{ "killed_anywhere", killed_anywhere },
	{ "sixty_four", sixty_four },
	{ "flips", flips },
	{ "enforced", enforced },
	{ "fork_copies", fork_copies },
	{ "failure_travels", failure_travels },
	{ "no_slot", no_slot },
	{ NULL, NULL },
};

int main(int argc, char **argv)
{
	const struct test_case *const tables[] = { cases, NULL };
	char dir[] = "/tmp/fnd-context-XXXXXX", command[64];
	int err;

	if (argc == 3 && strcmp(argv[1], "--hold") == 0)
		return hold(argv[2]);
	if (!mkdtemp(dir) || setenv("FOUNDATION_STATE_DIR", dir, 1))
		return 1;
	err = cases_main(argc, argv, "context", tables);
	snprintf(command, sizeof(command), "rm -rf %s", dir);
	return system(command) ? 1 : err;
}
