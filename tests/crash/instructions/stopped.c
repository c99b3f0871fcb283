// SPDX-License-Identifier: MIT
/*
 * stopped-readers - a reader stopped at every instruction, while memory goes round and is poisoned.
 *
 * For each instruction of a read a child attaches, is stepped so far by ptrace, and stands still. The parent
 * replaces, deletes and inserts the keys it reads and others, makes the index larger, hands out again what
 * may be handed out, and fills whatever is free with poison. Then the child goes on. Its result is what each
 * key held before the stop, holds after it, or held when the index it stands in was replaced, byte for
 * byte. Anything else is memory that a grace period should have kept.
 *
 *   stopped_readers [--only READING] [--report FILE] [--mutant NAME]
 *
 * --mutant: a seeded bug is in; the suite must notice it, and is reported under that name.
 */
#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "instructions.h"
#include "report.h"

#define SEGMENT_BYTES (512u << 10)
#define POISON 0xdb
#define VALUE_BYTES 40
#define READ_MAX 6
#define OTHERS 5    /* keys 0 .. 4 are only churned */
#define GROWTH 500u /* … and those from here on make the index larger */

/* What becomes of the keys that are read: they are never out, out for a while, or out in the end. */
enum fate {
	KEPT,
	RENEWED,
	GONE,
	FATES
};

/* A key that is read, and the version it holds before the stop and after: -1, it is not there. */
struct target {
	uint32_t k;
	int before, after;
	int meanwhile; /* when the index was replaced */
};

/* What the child reads into; shared with the parent. */
struct answer {
	int err;
	int result[READ_MAX];
	size_t bytes[READ_MAX];
	char value[READ_MAX][64];
};

struct reading {
	const char *name;
	unsigned int n;   /* keys that are read */
	bool here, chain; /* the first key: there at all; in an overflow bucket */
	void (*run)(void);
};

pid_t parent;
static char name[64];
static struct fnd_segment *ours;
static struct fnd_table *main_table;
static struct fnd_thread *self;
static struct fnd_segment *childs;
static struct fnd_table *read_table;
static struct fnd_segment seg_kept;
static struct fnd_thread th_kept;
static char *image;
static struct target target[READ_MAX];
static unsigned int ntargets;
static enum fate fate;
static char key[READ_MAX][16];
static struct answer *answer;
static const struct reading *reading;
static uint64_t records_poisoned, indexes_poisoned;
static struct suite_result total = { .suite = "stopped-readers" };

void must(int err, const char *what)
{
	if (err >= 0)
		return;
	fprintf(stderr, "stopped_readers: %s: %s [%s]\n", what, fnd_strerror(err), fnd_error_detail());
	if (parent == getpid())
		fnd_segment_destroy(name, FND_DESTROY_FORCE);
	_exit(2);
}

static size_t key_text(uint32_t k, char buf[16])
{
	return (size_t)snprintf(buf, 16, "k%07u", k);
}

/* Every four bytes say whose and which, so that a mixture of two is seen. */
static void value_text(uint32_t k, int version, char buf[VALUE_BYTES])
{
	uint32_t word = k << 16 | (uint32_t)version;

	for (size_t at = 0; at < VALUE_BYTES; at += sizeof(word))
		memcpy(buf + at, &word, sizeof(word));
}

static void put_version(uint32_t k, int version)
{
	char text[16], value[VALUE_BYTES];

	value_text(k, version, value);
	must(fnd_table_upsert(main_table, text, key_text(k, text), value, sizeof(value)), "upsert");
}

static void take_out(uint32_t k)
{
	char text[16];
	int err = fnd_table_delete(main_table, text, key_text(k, text));

	must(err == -ENOENT ? 0 : err, "delete");
}

/* --- what the child does -------------------------------------------------------------------------- */

static void run_get(void)
{
	struct fnd_view view;

	answer->err = fnd_read_begin(childs);
	answer->result[0] = fnd_table_get(read_table, key[0], 8, &view);
	if (answer->result[0] == 0) {
		answer->bytes[0] = view.value_bytes;
		memcpy(answer->value[0], view.value, view.value_bytes < 64 ? view.value_bytes : 64);
	}
	fnd_read_end(childs);
}

static void run_lookup(void)
{
	answer->result[0] = fnd_table_lookup(read_table, key[0], 8, answer->value[0],
					     sizeof(answer->value[0]), &answer->bytes[0]);
}

static void run_batch(void)
{
	struct fnd_lookup batch[READ_MAX];

	for (unsigned int i = 0; i < ntargets; i++)
		batch[i] = (struct fnd_lookup){ .key = key[i],
						.key_bytes = 8,
						.buf = answer->value[i],
						.buf_bytes = sizeof(answer->value[i]) };
	answer->err = fnd_table_lookup_batch(read_table, batch, ntargets);
	if (answer->err > 0)
		answer->err = 0;
	for (unsigned int i = 0; i < ntargets; i++) {
		answer->result[i] = batch[i].result;
		answer->bytes[i] = batch[i].value_bytes;
	}
}

static const struct reading readings[] = {
	{ "get-copy", 1, true, false, run_get },
	{ "get-copy-chain", 1, true, true, run_get },
	{ "lookup-hit", 1, true, false, run_lookup },
	{ "lookup-miss", 1, false, false, run_lookup },
	{ "lookup-chain", 1, true, true, run_lookup },
	{ "lookup-batch", READ_MAX, true, true, run_batch },
};

static _Noreturn void child(void)
{
	char buf[64];

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent || ptrace(PTRACE_TRACEME, 0, NULL, NULL) != 0)
		_exit(3);
	must(fnd_segment_attach(name, NULL, &childs), "child: attach");
	must(fnd_table_open(childs, "main", NULL, &read_table), "child: table");
	fnd_table_lookup(read_table, "nothing", 7, buf, sizeof(buf), NULL); /* takes its slot */
	raise(SIGSTOP);
	reading->run();
	finished();
	_exit(0);
}

static pid_t spawn(void)
{
	pid_t pid;
	int status;

	memset(answer, 0, sizeof(*answer));
	pid = fork();
	if (pid == 0)
		child();
	if (pid < 0 || waitpid(pid, &status, 0) != pid || !WIFSTOPPED(status))
		must(-ECHILD, "a child did not come so far");
	return pid;
}

static void bury(pid_t pid)
{
	kill(pid, SIGKILL);
	while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
		;
}

/* Lets it go on. True: it came to its end by itself, within ten seconds. */
static bool finishes(pid_t pid)
{
	struct timespec nap = { 0, 100000 };
	int status;
	pid_t got = 0;

	ptrace(PTRACE_DETACH, pid, NULL, NULL);
	for (int i = 0; i < 100000 && got == 0; i++) {
		got = waitpid(pid, &status, WNOHANG);
		if (got == 0)
			nanosleep(&nap, NULL);
	}
	if (got == pid)
		return WIFEXITED(status) && WEXITSTATUS(status) == 0;
	bury(pid);
	return false;
}

/* --- what happens meanwhile ----------------------------------------------------------------------- */

/* Key and value of every record on the free list. Its link stays: writers go by it. */
static void poison_records(struct fnd_shm_shard *sh)
{
	uint64_t off = sh->free_head;

	for (uint64_t i = 0; off && i < sh->free_count; i++) {
		struct fnd_shm_record *r = fnd_record_at(main_table, off);

		if (!r)
			must(-FND_E_CORRUPT, "free list");
		off = (uint64_t)r->next << 3;
		memset(&r->hash, POISON, sizeof(r->hash));
		memset(&r->lens, POISON, sizeof(r->lens));
		memset(r + 1, POISON, main_table->record_bytes - sizeof(*r));
		records_poisoned++;
	}
}

static void poison_indexes(void)
{
	uint64_t off = 0;

	while (fnd_span_next(ours, &off) == 0) {
		struct fnd_shm_span *span = (struct fnd_shm_span *)(ours->base + off);

		if (span->use != FND_SPAN_FREE || span->bytes <= sizeof(*span))
			continue;
		memset(span + 1, POISON, span->bytes - sizeof(*span));
		indexes_poisoned++;
	}
}

/* Stamps what is retired, lets a grace period pass if it can, hands back what may be, and poisons that. */
static void recycle(void)
{
	struct fnd_shm_shard *sh = main_table->shard;

	for (int i = 0; i < 2; i++) {
		must(fnd_shard_lock(main_table, self, 0), "lock");
		fnd_shard_stamp(main_table, 0, true);
		fnd_unlock(self, &sh->lock);
		must(fnd_epoch_advance(ours), "advance");
		must(fnd_epoch_advance(ours), "advance");
	}
	must(fnd_shard_lock(main_table, self, 0), "lock");
	fnd_shard_stamp(main_table, 0, true);
	fnd_shard_collect(main_table, sh);
	poison_records(sh);
	fnd_unlock(self, &sh->lock);
	must(fnd_space_lock(ours, self), "the segment's lock");
	poison_indexes();
	fnd_unlock(self, &ours->hdr->lock);
}

/* Each key that is read is replaced, deleted and inserted; records change hands; the index grows. */
static void turn_over(void)
{
	uint64_t growths = main_table->shard[0].growths;

	for (unsigned int i = 0; i < ntargets; i++)
		put_version(target[i].k, 100);
	recycle();
	for (uint32_t k = 0; k < OTHERS; k++)
		put_version(k, 101);
	for (unsigned int i = 0; i < ntargets && fate != KEPT; i++)
		take_out(target[i].k);
	for (uint32_t k = GROWTH; main_table->shard[0].growths == growths && k < GROWTH + 200; k++)
		put_version(k, 102);
	recycle();
	for (unsigned int i = 0; i < ntargets; i++)
		put_version(target[i].k, 103);
	recycle();
	for (unsigned int i = 0; i < ntargets; i++) {
		if (target[i].after < 0)
			take_out(target[i].k);
		else
			put_version(target[i].k, target[i].after);
	}
	recycle();
}

/* --- verdict -------------------------------------------------------------------------------------- */

static bool holds(unsigned int i, int version)
{
	char value[VALUE_BYTES];

	if (version < 0)
		return answer->result[i] == -ENOENT;
	value_text(target[i].k, version, value);
	return answer->result[i] == 0 && answer->bytes[i] == VALUE_BYTES &&
	       memcmp(answer->value[i], value, VALUE_BYTES) == 0;
}

static const char *judge(bool ended, uint64_t at, uint64_t of)
{
	static char text[160];

	if (!ended)
		return "the reader did not come to its end";
	if (answer->err)
		return "the read section or the batch was refused";
	for (unsigned int i = 0; i < ntargets; i++) {
		bool before = at > 0 && holds(i, target[i].before);
		bool after = at < of && holds(i, target[i].after);

		if (before || after || (at > 0 && at < of && holds(i, target[i].meanwhile)))
			continue;
		snprintf(text, sizeof(text), "key %s: result %d, %zu bytes, begins %02x%02x%02x%02x", key[i],
			 answer->result[i], answer->bytes[i], (unsigned char)answer->value[i][0],
			 (unsigned char)answer->value[i][1], (unsigned char)answer->value[i][2],
			 (unsigned char)answer->value[i][3]);
		return text;
	}
	return NULL;
}

static void restore(void)
{
	memcpy(ours->base, image, SEGMENT_BYTES);
	*ours = seg_kept;
	*self = th_kept;
}

static void stop_at(uint64_t at, uint64_t of)
{
	const char *err;
	bool there = false;
	pid_t pid = 0;

	for (unsigned int i = 0; i < ntargets; i++) {
		target[i].meanwhile = fate == KEPT ? 100 : -1;
		target[i].after = fate == GONE ? -1 : 104;
	}
	for (int tries = 0; tries < 4 && !there; tries++) {
		restore();
		pid = spawn();
		there = walk(pid, at);
		if (!there)
			bury(pid);
	}
	if (!there) /* none went the way that was written down: the count will be short */
		return;
	turn_over();
	err = judge(finishes(pid), at, of);
	total.count++;
	if (err && total.violations++ < 3)
		fprintf(stderr, "stopped-readers, %s: stopped after %llu of %llu instructions: %s\n",
			reading->name, (unsigned long long)at, (unsigned long long)of, err);
}

/* --- the segment ---------------------------------------------------------------------------------- */

static uint32_t bucket_of(uint32_t k)
{
	char text[16];
	uint64_t hash = fnd_table_hash(main_table, text, key_text(k, text));

	return (uint32_t)hash & ((1u << (main_table->index[0] & 63)) - 1);
}

/* Keys of one bucket until it overflows; the last is returned. */
static uint32_t overflow(void)
{
	uint32_t full = bucket_of(100), k = 100, last = k;

	for (unsigned int n = 0; n < FND_BUCKET_SLOTS + 1; k++) {
		if (bucket_of(k) != full)
			continue;
		put_version(k, 0);
		last = k;
		n++;
	}
	return last;
}

/* The first key as the reading wants it; of the others every second one is there. */
static void targets_make(void)
{
	ntargets = reading->n;
	for (unsigned int i = 0; i < ntargets; i++) {
		bool here = i == 0 ? reading->here : i % 2;

		target[i] = (struct target){ .k = 50 + i, .before = here ? 1 : -1 };
		if (i == 0 && reading->chain)
			target[i].k = overflow();
		key_text(target[i].k, key[i]);
		if (target[i].before >= 0)
			put_version(target[i].k, target[i].before);
	}
}

static void segment_make(void)
{
	struct fnd_segment_options opt = {
		.size = sizeof(opt), .processes = 8, .threads = 8, .max_bytes = SEGMENT_BYTES
	};
	struct fnd_table_options topt = {
		.size = sizeof(topt), .key_max = 8, .value_max = VALUE_BYTES, .capacity = 16
	};

	snprintf(name, sizeof(name), "stopped-%d", (int)parent);
	must(fnd_segment_create(name, &opt, &ours), "create");
	must(fnd_space_back(ours, SEGMENT_BYTES), "backing");
	must(fnd_table_open(ours, "main", &topt, &main_table), "table");
	must(fnd_thread_self(ours, &self), "thread");
	for (uint32_t k = 0; k < OTHERS; k++)
		put_version(k, 0);
	targets_make();
	put_version(0, 1); /* something is retired before the reader begins */
	must(fnd_table_quiesce(main_table), "quiesce");
	seg_kept = *ours;
	th_kept = *self;
	memcpy(image, ours->base, SEGMENT_BYTES);
}

static void segment_end(void)
{
	fnd_table_close(main_table);
	fnd_segment_detach(ours);
	fnd_segment_destroy(name, FND_DESTROY_FORCE);
}

static double now_s(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

static void read_all(bool mutant)
{
	uint64_t n;
	pid_t pid;

	segment_make();
	pid = spawn();
	n = trace(pid);
	bury(pid);
	total.goal += FATES * (n + 1);
	for (uint64_t at = 0; at <= n && !(mutant && total.violations); at++)
		for (fate = KEPT; fate < FATES; fate++)
			stop_at(at, n);
	restore();
	segment_end();
}

/* A seeded bug is one to notice: that is the goal. */
static void report_mutant(const char *mutant, const char *report)
{
	total.suite = mutant;
	total.goal = 1;
	total.count = total.violations > 0;
	total.violations = 0;
	report_suite(&total, report);
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{ "report", required_argument, NULL, 'r' },
		{ "mutant", required_argument, NULL, 'm' },
		{ "only", required_argument, NULL, 'o' },
		{ NULL, 0, NULL, 0 },
	};
	const char *report = NULL, *mutant = NULL, *only = NULL;
	double start = now_s();
	int c;

	while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
		if (c == 'r')
			report = optarg;
		else if (c == 'm')
			mutant = optarg;
		else if (c == 'o')
			only = optarg;
		else
			return 2;
	}
	parent = getpid();
	image = malloc(SEGMENT_BYTES);
	answer = mmap(NULL, sizeof(*answer), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (!image || answer == MAP_FAILED)
		return 2;
	for (size_t i = 0; i < sizeof(readings) / sizeof(readings[0]); i++) {
		reading = &readings[i];
		if (only && strcmp(only, reading->name) != 0)
			continue;
		read_all(mutant != NULL);
		if (mutant && total.violations)
			break;
	}
	free(image);
	total.seconds = now_s() - start;
	if (mutant) {
		report_mutant(mutant, report);
		return total.count == 0;
	}
	printf("poisoned meanwhile: %llu records, %llu free spans\n", (unsigned long long)records_poisoned,
	       (unsigned long long)indexes_poisoned);
	total.violations += records_poisoned == 0 || indexes_poisoned == 0; /* then it showed nothing */
	report_suite(&total, report);
	return total.violations != 0 || total.count < total.goal;
}
