// SPDX-License-Identifier: MIT
/* A reader that stops in its section, writers beside it, and what must hold then. */
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <foundation/observer.h>

#include "stall.h"

struct board *board;

struct value value_make(uint64_t key, uint64_t seq)
{
	struct value v = { .key = key, .seq = seq };

	for (unsigned int i = 0; i < 6; i++)
		v.sum[i] = (key * 0x9e3779b97f4a7c15ULL ^ seq * 0xc2b2ae3d27d4eb4fULL) + i;
	return v;
}

static bool value_sound(const struct value *v, uint64_t key)
{
	struct value want = value_make(key, v->seq);

	return v->key == key && memcmp(v, &want, sizeof(want)) == 0;
}

int table_make(const char *name, uint32_t flags, struct fnd_segment **ret_seg, struct fnd_table **ret_t)
{
	struct fnd_table_options o = table_options(flags, 512);
	char key[32];

	board = mmap(NULL, sizeof(*board), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	NEED(board != MAP_FAILED);
	board->name = name;
	NEED(create_small(name, ret_seg) == 0);
	NEED(fnd_table_open(*ret_seg, "a", &o, ret_t) == 0);
	for (unsigned int i = 0; i < KEYS; i++) {
		struct value v = value_make(i, 0);

		NEED(fnd_table_insert(*ret_t, key, key_text(key, i), &v, sizeof(v)) == 0);
	}
	return 0;
}

int table_end(struct fnd_segment *seg, struct fnd_table *t)
{
	fnd_table_close(t);
	NEED(fnd_segment_detach(seg) == 0 && fnd_segment_destroy(board->name, 0) == 0);
	return 0;
}

/* --- the reader ----------------------------------------------------------------------------------- */

struct guarded {
	struct fnd_view view[KEYS];
	struct value copy[KEYS];
};

static int guarded_intact(const struct guarded *g)
{
	for (unsigned int i = 0; i < KEYS; i++) {
		NEED(g->view[i].value_bytes == sizeof(struct value));
		NEED(memcmp(g->view[i].value, &g->copy[i], sizeof(struct value)) == 0);
		NEED(value_sound(&g->copy[i], i));
	}
	return 0;
}

static int read_and_hold(struct fnd_segment *seg, struct fnd_table *t)
{
	static struct guarded g;
	char key[32];

	NEED(fnd_read_begin(seg) == 0 && fnd_read_begin(seg) == 0);
	for (unsigned int i = 0; i < KEYS; i++) {
		NEED(fnd_table_get(t, key, key_text(key, i), &g.view[i]) == 0);
		NEED(g.view[i].value_bytes == sizeof(struct value));
		memcpy(&g.copy[i], g.view[i].value, sizeof(struct value));
	}
	word_set(&board->reader_tid, (uint32_t)syscall(SYS_gettid));
	word_add(&board->readers, 1);
	while (!word_get(&board->go)) {
		TRY(guarded_intact(&g));
		nap_us(1000);
	}
	TRY(guarded_intact(&g));
	NEED(fnd_read_end(seg) == 0 && fnd_read_end(seg) == 0);
	return 0;
}

static void *reader_thread(void *arg)
{
	struct fnd_segment *seg = arg;
	struct fnd_table *t;
	int err = 1;

	if (fnd_table_open(seg, "a", NULL, &t) == 0)
		err = read_and_hold(seg, t);
	return (void *)(intptr_t)err;
}

/* In a thread that is not the main one: process and thread id differ. */
static int reader(void *arg)
{
	struct fnd_segment *seg;
	pthread_t thread;
	void *result;

	(void)arg;
	prctl(PR_SET_NAME, COMM);
	NEED(fnd_segment_attach(board->name, NULL, &seg) == 0);
	NEED(pthread_create(&thread, NULL, reader_thread, seg) == 0);
	NEED(pthread_join(thread, &result) == 0 && result == NULL);
	return fnd_segment_detach(seg);
}

pid_t reader_stop(void)
{
	uint32_t before = word_get(&board->readers);
	pid_t pid = child_start(reader, NULL);
	int status;

	if (pid < 0 || word_wait(&board->readers, before + 1))
		return -1;
	kill(pid, SIGSTOP);
	if (waitpid(pid, &status, WUNTRACED) != pid || !WIFSTOPPED(status))
		return -1;
	return pid;
}

/* --- writers -------------------------------------------------------------------------------------- */

static void note_stall(const struct fnd_stall *s, void *arg)
{
	uint32_t n = word_add(&board->said_count, 1) - 1;

	(void)arg;
	if (n >= 8)
		return;
	board->said[n] = *s;
	__atomic_store_n(&board->said_at[n], now_ns(), __ATOMIC_RELEASE);
}

int attach_writer(struct fnd_segment **ret_seg, struct fnd_table **ret_t)
{
	struct fnd_attach_options o = { .size = sizeof(o), .stall = note_stall };

	NEED(fnd_segment_attach(board->name, &o, ret_seg) == 0);
	NEED(fnd_table_open(*ret_seg, "a", NULL, ret_t) == 0);
	return 0;
}

int write_one(struct fnd_table *t, uint64_t seq)
{
	uint64_t i = random_u64() % KEYS;
	struct value v = value_make(i, seq);
	char key[32], who[32];
	int err = fnd_table_replace(t, key, key_text(key, (unsigned int)i), &v, sizeof(v));

	if (err == 0) {
		uint64_t never = 0;

		__atomic_add_fetch(&board->writes, 1, __ATOMIC_RELAXED);
		if (__atomic_load_n(&board->ended_at, __ATOMIC_ACQUIRE))
			__atomic_compare_exchange_n(&board->went_on_at, &never, now_ns(), false,
						    __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
		return 0;
	}
	if (!word_get(&board->go) && !board->ended_at) {
		snprintf(who, sizeof(who), "pid %u (", board->reader_pid);
		NEED(refused(err, FND_E_GARBAGE, who) && refused(err, FND_E_GARBAGE, COMM));
	}
	NEED(err == -FND_E_GARBAGE);
	__atomic_add_fetch(&board->refused, 1, __ATOMIC_RELAXED);
	return 0;
}

int read_one(struct fnd_table *t)
{
	unsigned int i = (unsigned int)(random_u64() % KEYS);
	struct value v;
	char key[32];
	size_t n;

	NEED(fnd_table_lookup(t, key, key_text(key, i), &v, sizeof(v), &n) == 0);
	NEED(n == sizeof(v) && value_sound(&v, i));
	return 0;
}

int writer(void *arg)
{
	struct fnd_segment *seg;
	struct fnd_table *t;

	(void)arg;
	TRY(attach_writer(&seg, &t));
	for (uint64_t seq = 1; !word_get(&board->stop); seq++) {
		TRY(write_one(t, seq));
		if (seq % 8 == 0)
			TRY(read_one(t));
		if (!word_get(&board->pause))
			continue;
		word_add(&board->paused, 1);
		while (word_get(&board->pause) && !word_get(&board->stop))
			nap_us(500);
	}
	fnd_table_close(t);
	return fnd_segment_detach(seg);
}

/* --- what must hold ------------------------------------------------------------------------------- */

uint64_t limit_bytes(const struct fnd_table_stats *s)
{
	uint64_t quarter = s->capacity / 4 * s->record_bytes, least = 8u << 20;

	return (quarter > least ? quarter : least) + 64ULL * s->shards * s->record_bytes;
}

int under_limit(struct fnd_table *t, uint64_t *most)
{
	struct fnd_table_stats s;
	uint64_t bytes;

	NEED(fnd_table_stats_read(t, &s) == 0);
	bytes = s.retired * s.record_bytes;
	NEED(bytes <= limit_bytes(&s));
	if (bytes > *most)
		*most = bytes;
	return 0;
}

struct seen {
	pid_t pid;
	struct fnd_observed_thread thread;
	unsigned int matches;
};

static int note_thread(const struct fnd_observed_thread *t, void *arg)
{
	struct seen *s = arg;

	if (t->pid == (uint32_t)s->pid && t->nesting) {
		s->thread = *t;
		s->matches++;
	}
	return 0;
}

int told(struct fnd_segment *seg, pid_t pid, const struct fnd_stall *said)
{
	struct seen seen = { .pid = pid };
	struct fnd_observer *o;
	struct fnd_stall s;

	NEED(said->pid == (uint32_t)pid && said->tid == board->reader_tid && said->tid != said->pid);
	NEED(strcmp(said->comm, COMM) == 0);
	NEED(said->age_ns >= FND_STALL_NS && said->epoch > 0 && said->held_bytes > 0);
	NEED(fnd_segment_stall(seg, &s) == 0);
	NEED(s.pid == said->pid && s.tid == said->tid && s.epoch == said->epoch);
	NEED(strcmp(s.comm, said->comm) == 0 && s.age_ns >= said->age_ns && s.held_bytes > 0);
	NEED(fnd_observer_open(board->name, &o) == 0);
	NEED(fnd_observer_threads(o, note_thread, &seen) == 0);
	fnd_observer_close(o);
	NEED(seen.matches == 1 && seen.thread.tid == said->tid && seen.thread.epoch == said->epoch);
	NEED(seen.thread.nesting == 2 && seen.thread.behind_ns >= said->age_ns);
	return 0;
}

int wait_told(struct fnd_table *t, unsigned int n, uint64_t *most)
{
	uint64_t until = now_ns() + 20000000000ULL; /* against hanging */

	while (__atomic_load_n(&board->said_at[n - 1], __ATOMIC_ACQUIRE) == 0) {
		TRY(under_limit(t, most));
		NEED(now_ns() < until);
		nap_us(2000);
	}
	return 0;
}

int all_back(struct fnd_segment *seg, struct fnd_table *t)
{
	uint64_t until = now_ns() + 5000000000ULL;
	struct fnd_table_stats s;
	struct fnd_stall stall;

	do {
		NEED(fnd_table_quiesce(t) == 0);
		NEED(fnd_table_stats_read(t, &s) == 0);
		NEED(now_ns() < until);
	} while (s.retired);
	NEED(s.live == KEYS && s.live + s.free_records == s.allocated);
	NEED(fnd_segment_stall(seg, &stall) == -ENOENT);
	NEED(fnd_table_check(t) == 0);
	return 0;
}
