// SPDX-License-Identifier: MIT
#include "recovery_world.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

struct world w;
unsigned int failures;
unsigned long checks;
long refuse_memory, refuse_pread, act_at_pread, act_at_evidence;
bool refuse_on;
void (*act)(void);

#define NEED(condition)                                                                           \
	do {                                                                                      \
		if (!(condition)) {                                                               \
			fprintf(stderr, "%s:%d: %s: %s\n", __FILE__, __LINE__, #condition,        \
				fnd_error_detail());                                              \
			fnd_segment_destroy(w.name, FND_DESTROY_FORCE);                           \
			_exit(3);                                                                 \
		}                                                                                 \
	} while (0)

/* --- calls that can be refused -------------------------------------------------------------------- */

static bool due(long *countdown)
{
	return *countdown > 0 && --*countdown == 0 && (*countdown = -1);
}

void *__real_malloc(size_t n);
void *__real_calloc(size_t n, size_t size);
void *__real_realloc(void *p, size_t n);
ssize_t __real_pread(int fd, void *buf, size_t n, off_t off);
enum fnd_evidence __real_fnd_evidence_process(const struct fnd_identity *id, uint64_t dev, uint64_t ino,
					      unsigned int flags);
enum fnd_evidence __real_fnd_evidence_thread(const struct fnd_identity *id, uint32_t tid, uint64_t dev,
					     uint64_t ino, unsigned int flags);
enum fnd_evidence __real_fnd_evidence_claiming(uint32_t pid);
void *__wrap_malloc(size_t n);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_realloc(void *p, size_t n);
ssize_t __wrap_pread(int fd, void *buf, size_t n, off_t off);
int __wrap_nanosleep(const struct timespec *ts, struct timespec *left);
enum fnd_evidence __wrap_fnd_evidence_process(const struct fnd_identity *id, uint64_t dev, uint64_t ino,
					      unsigned int flags);
enum fnd_evidence __wrap_fnd_evidence_thread(const struct fnd_identity *id, uint32_t tid, uint64_t dev,
					     uint64_t ino, unsigned int flags);
enum fnd_evidence __wrap_fnd_evidence_claiming(uint32_t pid);

void *__wrap_malloc(size_t n)
{
	return due(&refuse_memory) ? NULL : __real_malloc(n);
}

void *__wrap_calloc(size_t n, size_t size)
{
	return due(&refuse_memory) ? NULL : __real_calloc(n, size);
}

void *__wrap_realloc(void *p, size_t n)
{
	return due(&refuse_memory) ? NULL : __real_realloc(p, n);
}

ssize_t __wrap_pread(int fd, void *buf, size_t n, off_t off)
{
	if (due(&act_at_pread))
		act();
	if (due(&refuse_pread) || (refuse_on && refuse_pread < 0)) {
		errno = EIO;
		return -1;
	}
	return __real_pread(fd, buf, n, off);
}

/* The verifier waits for writers to go on; here nothing goes on meanwhile. */
int __wrap_nanosleep(const struct timespec *ts, struct timespec *left)
{
	(void)ts, (void)left;
	return 0;
}

enum fnd_evidence __wrap_fnd_evidence_process(const struct fnd_identity *id, uint64_t dev, uint64_t ino,
					      unsigned int flags)
{
	if (due(&act_at_evidence))
		act();
	return __real_fnd_evidence_process(id, dev, ino, flags);
}

enum fnd_evidence __wrap_fnd_evidence_thread(const struct fnd_identity *id, uint32_t tid, uint64_t dev,
					     uint64_t ino, unsigned int flags)
{
	if (due(&act_at_evidence))
		act();
	return __real_fnd_evidence_thread(id, tid, dev, ino, flags);
}

enum fnd_evidence __wrap_fnd_evidence_claiming(uint32_t pid)
{
	if (due(&act_at_evidence))
		act();
	return __real_fnd_evidence_claiming(pid);
}

/* --- the segment ---------------------------------------------------------------------------------- */

void *at(uint64_t off)
{
	return w.seg->base + off;
}

struct fnd_shm_record *listed(uint64_t head, unsigned int k)
{
	struct fnd_shm_record *r = at(head);

	while (k--)
		r = at((uint64_t)r->next << 3);
	return r;
}

uint32_t lock_word_of(uint32_t thread_slot)
{
	return thread_slot << 20 | (fnd_slot_gen(w.seg->thread[thread_slot].word) & 0x3ffff) << 2;
}

/* Keys of the first bucket, then of any other. */
static void choose_keys(void)
{
	unsigned int n = 0;

	for (unsigned int i = 0; n < KEYS; i++) {
		char key[8];
		uint64_t hash;
		int len = snprintf(key, sizeof(key), "k%u", i);

		hash = fnd_table_hash(w.t, key, (size_t)len);
		if (((hash & ((1u << w.ix.log2) - 1)) == 0) == (n < CHAINED))
			memcpy(w.key[n++], key, sizeof(key));
	}
}

static void fill(void)
{
	char key[16];

	for (unsigned int i = 0; i < KEYS; i++)
		NEED(fnd_table_insert(w.t, w.key[i], strlen(w.key[i]), w.key[i], strlen(w.key[i])) == 0);
	for (unsigned int i = 0; i < 12; i++) {
		snprintf(key, sizeof(key), "gone %u", i);
		NEED(fnd_table_upsert(w.t, key, strlen(key), "x", 1) == 0);
		NEED(fnd_table_upsert(w.two, key, strlen(key), "x", 1) == 0);
		NEED(fnd_table_delete(w.t, key, strlen(key)) == 0);
	}
	NEED(fnd_table_quiesce(w.t) == 0); /* a free list */
	for (unsigned int i = 0; i < 9; i++) {
		if (i == 5) { /* five in a batch, the rest not stamped yet */
			NEED(fnd_trylock(w.me, &w.sh->lock) == 0);
			fnd_shard_stamp(w.t, 0, true);
			fnd_unlock(w.me, &w.sh->lock);
		}
		NEED(fnd_table_replace(w.t, w.key[i], strlen(w.key[i]), w.key[i], strlen(w.key[i])) == 0);
	}
}

static void die_attached(void)
{
	struct fnd_segment *seg;
	struct fnd_thread *th;

	if (fnd_segment_attach(w.name, NULL, &seg) || fnd_thread_enter(seg, &th))
		_exit(1);
	_exit((int)th->index);
}

void world_make(void)
{
	struct fnd_segment_options so = { .size = sizeof(so), .processes = 5, .threads = 6,
					  .max_bytes = 4 << 20 };
	struct fnd_attach_options ao = { .size = sizeof(ao), .lock_timeout_ms = 30 };
	struct fnd_table_options one = { sizeof(one), 0, 16, 16, 40 }, two = { sizeof(two), 0, 16, 16, 250 };
	struct stat st;
	int status;
	pid_t pid;

	snprintf(w.name, sizeof(w.name), "t-recovery-%d", (int)getpid());
	NEED(fnd_segment_create(w.name, &so, NULL) == 0);
	NEED(fnd_segment_attach(w.name, &ao, &w.seg) == 0);
	NEED(fnd_thread_self(w.seg, &w.me) == 0);
	NEED(fnd_table_open(w.seg, "t", &one, &w.t) == 0 && fnd_table_open(w.seg, "two", &two, &w.two) == 0);
	NEED(w.t->shards == 1 && w.two->shards == 2);
	w.sh = w.t->shard;
	NEED(fnd_index_open(w.t, 0, w.t->index[0], &w.ix) == 0);
	choose_keys();
	fill();
	NEED(w.sh->free_head && w.sh->open_head && w.sh->batch[0].head && w.ix.span->overflow_used >= 3);
	pid = fork();
	if (pid == 0)
		die_attached();
	NEED(pid > 0 && waitpid(pid, &status, 0) == pid && WIFEXITED(status));
	w.dead = (uint32_t)WEXITSTATUS(status);
	NEED(w.dead > w.me->index && w.dead <= w.seg->threads);
	NEED(fnd_space_back(w.seg, w.seg->hdr->brk + (512u << 10)) == 0); /* room for spans the tests make */
	NEED(fstat(w.seg->fd, &st) == 0);
	w.bytes = (size_t)st.st_size;
	w.saved = malloc(w.bytes);
	NEED(w.saved);
	memcpy(w.saved, w.seg->base, w.bytes);
}

void world_restore(void)
{
	refuse_memory = refuse_pread = act_at_pread = act_at_evidence = 0;
	refuse_on = false;
	memcpy(w.seg->base, w.saved, w.bytes);
}

int world_end(void)
{
	world_restore();
	free(w.saved);
	fnd_table_close(w.t);
	fnd_table_close(w.two);
	fnd_segment_detach(w.seg);
	fnd_segment_destroy(w.name, FND_DESTROY_FORCE);
	fprintf(stderr, "%lu checks, %u failures\n", checks, failures);
	return failures ? 1 : 0;
}

unsigned int world_present(void)
{
	unsigned int n = 0;
	char value[16];
	size_t bytes;

	for (unsigned int i = 0; i < KEYS; i++)
		n += fnd_table_lookup(w.t, w.key[i], strlen(w.key[i]), value, sizeof(value), &bytes) == 0 &&
		     bytes == strlen(w.key[i]) && memcmp(value, w.key[i], bytes) == 0;
	return n;
}

/* --- verifying ------------------------------------------------------------------------------------ */

struct search {
	const char *text;
	bool found;
	char other[256]; /* the first that was not asked for */
};

static int compare(const struct fnd_defect *d, void *arg)
{
	struct search *s = arg;

	if (strstr(d->what, s->text))
		s->found = true;
	else if (!s->other[0])
		snprintf(s->other, sizeof(s->other), "%s: %s", d->where, d->what);
	return 0;
}

bool verify_says(const char *text)
{
	struct search s = { .text = text };
	struct fnd_verify_result result = { 0 };
	int err = fnd_verify(w.name, compare, &s, &result);

	if (!*text && (err || result.defects))
		fprintf(stderr, "no defect was due: %s\n", fnd_error_detail());
	if (*text && !s.found)
		fprintf(stderr, "'%s' was due, instead: %s\n", text, s.other[0] ? s.other : "nothing");
	return *text ? s.found && err == -FND_E_CORRUPT && result.defects > 0 : err == 0 && result.defects == 0;
}
