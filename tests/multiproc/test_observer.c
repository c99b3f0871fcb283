// SPDX-License-Identifier: MIT
/*
 * Observers beside writers, beside the dead, and on damaged bytes.
 *
 * Usage: test_observer [SEED]. The damage is random; the seed is printed.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <foundation/observer.h>

#include "header.h"

#define STABLE 500u /* keys that stay as they are */
#define CHURN 200u  /* keys a writer changes all the time */
#define VALUE_BYTES 96u

static int failures;
static char segment[FND_NAME_MAX + 1];
static char path[128];

#define CHECK(condition, ...)                                                                     \
	do {                                                                                      \
		if (!(condition)) {                                                               \
			printf("%s:%d: %s: ", __func__, __LINE__, #condition);                    \
			printf(__VA_ARGS__);                                                      \
			putchar('\n');                                                            \
			failures++;                                                               \
		}                                                                                 \
	} while (0)

static void name_segment(const char *what)
{
	snprintf(segment, sizeof(segment), "test.observer.%d.%s", (int)getpid(), what);
	snprintf(path, sizeof(path), "/dev/shm/foundation.%u.%s", (unsigned int)geteuid(), segment);
}

static int open_table(struct fnd_segment *seg, struct fnd_table **ret)
{
	const struct fnd_table_options opt = {
		.size = sizeof(opt), .key_max = 32, .value_max = 128, .capacity = 2 * (STABLE + CHURN)
	};

	return fnd_table_open(seg, "things", &opt, ret);
}

/* Every byte of a value is the same: a value put together from two writes shows. */
static int put(struct fnd_table *t, char kind, unsigned int i, unsigned int fill)
{
	char key[32], value[VALUE_BYTES];

	snprintf(key, sizeof(key), "%c%u", kind, i);
	memset(value, (int)(fill & 0xff), sizeof(value));
	return fnd_table_upsert(t, key, strlen(key), value, VALUE_BYTES - fill % 7);
}

static struct fnd_segment *make_segment(const char *what, struct fnd_table **ret_table)
{
	const struct fnd_segment_options opt = { .size = sizeof(opt), .processes = 8, .threads = 16 };
	struct fnd_segment *seg = NULL;
	int err;

	name_segment(what);
	err = fnd_segment_create(segment, &opt, &seg);
	if (!err)
		err = open_table(seg, ret_table);
	for (unsigned int i = 0; i < STABLE && !err; i++)
		err = put(*ret_table, 's', i, i);
	if (err) {
		printf("cannot make %s: %s (%s)\n", segment, fnd_strerror(err), fnd_error_detail());
		exit(1);
	}
	return seg;
}

static void drop_segment(struct fnd_segment *seg, struct fnd_table *t)
{
	fnd_table_close(t);
	CHECK(fnd_segment_detach(seg) == 0, "detach");
	CHECK(fnd_segment_destroy(segment, FND_DESTROY_FORCE) == 0, "%s", fnd_error_detail());
}

static struct fnd_observer *observe(void)
{
	struct fnd_observer *o = NULL;
	int err = fnd_observer_open(segment, &o);

	CHECK(err == 0, "%s (%s)", fnd_strerror(err), fnd_error_detail());
	return o;
}

/* --- records -------------------------------------------------------------------------------------- */

struct seen {
	unsigned char stable[STABLE];
	unsigned char churn[CHURN];
	unsigned int records, torn, odd;
};

static int note_record(const struct fnd_record *r, void *arg)
{
	struct seen *seen = arg;
	const unsigned char *value = r->value;
	char key[33] = "";
	unsigned int i;
	char kind;

	memcpy(key, r->key, r->key_bytes < 32 ? r->key_bytes : 32);
	seen->records++;
	if (sscanf(key, "%c%u", &kind, &i) != 2 || i >= (kind == 's' ? STABLE : CHURN)) {
		seen->odd++;
		return 0;
	}
	(kind == 's' ? seen->stable : seen->churn)[i]++;
	for (size_t k = 1; k < r->value_bytes; k++)
		if (value[k] != value[0]) {
			seen->torn++;
			break;
		}
	return 0;
}

static void check_seen(const struct seen *seen)
{
	unsigned int missing = 0, twice = 0;

	for (unsigned int i = 0; i < STABLE; i++) {
		missing += seen->stable[i] == 0;
		twice += seen->stable[i] > 1;
	}
	for (unsigned int i = 0; i < CHURN; i++)
		twice += seen->churn[i] > 1;
	CHECK(missing == 0, "%u keys that were always there", missing);
	CHECK(twice == 0, "%u keys", twice);
	CHECK(seen->torn == 0, "%u values", seen->torn);
	CHECK(seen->odd == 0, "%u keys", seen->odd);
}

static void test_idle(void)
{
	struct fnd_table *t;
	struct fnd_segment *seg = make_segment("idle", &t);
	struct fnd_observer *o = observe();
	struct seen seen = { 0 };
	int err = fnd_observer_records(o, "things", note_record, &seen);

	CHECK(err == 0, "%s (%s)", fnd_strerror(err), fnd_error_detail());
	CHECK(seen.records == STABLE, "%u records", seen.records);
	check_seen(&seen);
	CHECK(fnd_observer_records(o, "nothing", note_record, &seen) == -ENOENT, "no such table");
	fnd_observer_close(o);
	drop_segment(seg, t);
}

static void test_chains(void)
{
	struct fnd_table *t;
	struct fnd_segment *seg = make_segment("chains", &t);
	struct fnd_observer *o = observe();
	struct fnd_observed_chain c = { 0 };
	char key[32];

	CHECK(fnd_observer_chain(o, "things", &c) == 0, "%s", fnd_error_detail());
	CHECK(c.records >= 1 && c.records <= STABLE, "%llu records", (unsigned long long)c.records);
	CHECK(c.buckets >= 1 && c.records <= 7 * c.buckets, "%llu records in %llu buckets",
	      (unsigned long long)c.records, (unsigned long long)c.buckets);
	for (unsigned int i = 0; i < STABLE; i++) {
		snprintf(key, sizeof(key), "s%u", i);
		CHECK(fnd_table_delete(t, key, strlen(key)) == 0, "%s", fnd_error_detail());
	}
	CHECK(fnd_observer_chain(o, "things", &c) == 0 && c.records == 0, "%llu records",
	      (unsigned long long)c.records);
	CHECK(fnd_observer_chain(o, "nothing", &c) == -ENOENT, "no such table");
	CHECK(fnd_observer_chain(o, "things", NULL) == -EINVAL, "nowhere to put it");
	fnd_observer_close(o);
	drop_segment(seg, t);
}

static int compare_stats(const struct fnd_table_stats *seen, void *arg)
{
	struct fnd_table_stats own;

	CHECK(fnd_table_stats_read(arg, &own) == 0, "%s", fnd_error_detail());
	CHECK(memcmp(seen, &own, sizeof(own)) == 0,
	      "live %llu/%llu retired %llu/%llu free %llu/%llu allocated %llu/%llu reserved %llu/%llu "
	      "bytes %llu/%llu growths %llu/%llu",
	      (unsigned long long)seen->live, (unsigned long long)own.live,
	      (unsigned long long)seen->retired, (unsigned long long)own.retired,
	      (unsigned long long)seen->free_records, (unsigned long long)own.free_records,
	      (unsigned long long)seen->allocated, (unsigned long long)own.allocated,
	      (unsigned long long)seen->reserved, (unsigned long long)own.reserved,
	      (unsigned long long)seen->bytes, (unsigned long long)own.bytes,
	      (unsigned long long)seen->growths, (unsigned long long)own.growths);
	return 7;
}

/* What an observer adds up is what a participant adds up. */
static void test_figures(void)
{
	struct fnd_table *t;
	struct fnd_segment *seg = make_segment("figures", &t);
	struct fnd_segment_status s;
	struct fnd_observer *o;

	for (unsigned int i = 0; i < 5 * STABLE; i++)
		CHECK(put(t, 's', i % STABLE, i) == 0, "%s", fnd_error_detail());
	CHECK(fnd_counter_add(seg, FND_COUNTER_EMITTED, 42) == 0, "add");
	o = observe();
	CHECK(fnd_observer_tables(o, compare_stats, t) == 7, "the walk ends with what the callback said");
	CHECK(fnd_observer_status(o, &s) == 0, "%s", fnd_error_detail());
	CHECK(s.counter[FND_COUNTER_EMITTED] == 42, "emitted");
	CHECK(s.participants_live == 1 && s.participants_dead == 0, "participants");
	CHECK(s.threads == 1 && s.tables == 1, "%u threads, %u tables", s.threads, s.tables);
	CHECK(s.same_boot && s.same_pid_namespace, "home");
	CHECK(s.process_slots == 8 && s.thread_slots == 16, "slots");
	CHECK(s.brk <= s.bytes && s.bytes <= s.max_bytes && s.free_bytes < s.bytes, "sizes");
	CHECK(strcmp(s.name, segment) == 0 && strcmp(s.creator_version, fnd_version()) == 0, "names");
	fnd_observer_close(o);
	drop_segment(seg, t);
}

/* --- other processes ------------------------------------------------------------------------------ */

static void writer(void)
{
	unsigned int random = (unsigned int)getpid();
	struct fnd_segment *seg;
	struct fnd_table *t;
	char key[32];

	if (fnd_segment_attach(segment, NULL, &seg) || open_table(seg, &t))
		_exit(1);
	for (;;) {
		unsigned int i;

		random = random * 1103515245u + 12345u;
		i = random >> 8;
		snprintf(key, sizeof(key), "c%u", i % CHURN);
		if (i / CHURN % 4 == 0)
			fnd_table_delete(t, key, strlen(key));
		else if (put(t, 'c', i % CHURN, i / CHURN))
			_exit(2);
		if (put(t, 's', i % STABLE, i))
			_exit(3);
	}
}

static pid_t start(void (*run)(void))
{
	pid_t parent = getpid();
	pid_t pid = fork();

	if (pid)
		return pid;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent)
		_exit(9);
	run();
	_exit(0);
}

static void stop(pid_t pid)
{
	int status;

	kill(pid, SIGKILL);
	CHECK(waitpid(pid, &status, 0) == pid, "waitpid");
	CHECK(WIFSIGNALED(status), "the writer left by itself: status 0x%x", status);
}

static void test_beside_writers(void)
{
	struct fnd_table *t;
	struct fnd_segment *seg = make_segment("writers", &t);
	struct fnd_observer *o = observe();
	pid_t pid[2];

	fflush(stdout);
	for (int i = 0; i < 2; i++)
		pid[i] = start(writer);
	for (int round = 0; round < 60; round++) {
		struct seen seen = { 0 };
		int err = fnd_observer_records(o, "things", note_record, &seen);

		CHECK(err == 0, "round %d: %s (%s)", round, fnd_strerror(err), fnd_error_detail());
		check_seen(&seen);
		usleep(2000);
	}
	for (int i = 0; i < 2; i++)
		stop(pid[i]);
	fnd_observer_close(o);
	drop_segment(seg, t);
}

static void rest(void)
{
	struct fnd_segment *seg;

	if (fnd_segment_attach(segment, NULL, &seg) || fnd_read_begin(seg))
		_exit(1);
	for (;;)
		pause();
}

struct found {
	uint32_t pid;
	struct fnd_observed_participant p;
	struct fnd_observed_thread t;
};

static int find_participant(const struct fnd_observed_participant *p, void *arg)
{
	struct found *f = arg;

	if (p->pid == f->pid)
		f->p = *p;
	return 0;
}

static int find_thread(const struct fnd_observed_thread *t, void *arg)
{
	struct found *f = arg;

	if (t->pid == f->pid)
		f->t = *t;
	return 0;
}

static void look_for(struct found *f, struct fnd_observer *o)
{
	memset(&f->p, 0, sizeof(f->p));
	memset(&f->t, 0, sizeof(f->t));
	CHECK(fnd_observer_participants(o, find_participant, f) == 0, "%s", fnd_error_detail());
	CHECK(fnd_observer_threads(o, find_thread, f) == 0, "%s", fnd_error_detail());
}

static void test_participants(void)
{
	struct fnd_table *t;
	struct fnd_segment *seg = make_segment("participants", &t);
	struct fnd_observer *o = observe();
	struct found f = { 0 };

	fflush(stdout);
	f.pid = (uint32_t)start(rest);
	for (int i = 0; i < 2000 && f.t.nesting == 0; i++) {
		usleep(5000);
		look_for(&f, o);
	}
	CHECK(f.p.state == FND_PARTICIPANT_ACTIVE && f.p.liveness == FND_LIVENESS_ALIVE, "not alive");
	CHECK(f.p.threads == 1 && f.p.generation && f.p.attached_ns && f.p.comm[0], "its slot");
	CHECK(f.t.nesting == 1 && f.t.epoch && f.t.tid == f.pid && f.t.process == f.p.slot, "its thread");
	stop((pid_t)f.pid);
	look_for(&f, o);
	CHECK(f.p.state == FND_PARTICIPANT_ACTIVE && f.p.liveness == FND_LIVENESS_DEAD, "dead, not reaped");
	CHECK(fnd_segment_reap(seg, NULL) == 0, "reap");
	look_for(&f, o);
	CHECK(f.p.pid == 0 && f.t.pid == 0, "reaped");
	fnd_observer_close(o);
	drop_segment(seg, t);
}

/* --- damage --------------------------------------------------------------------------------------- */

static int touch_record(const struct fnd_record *r, void *arg)
{
	const unsigned char *k = r->key, *v = r->value;
	unsigned int *sum = arg;

	for (size_t i = 0; i < r->key_bytes; i++)
		*sum += k[i];
	for (size_t i = 0; i < r->value_bytes; i++)
		*sum += v[i];
	return 0;
}

static int count_stats(const struct fnd_table_stats *s, void *arg)
{
	*(unsigned int *)arg += s->shards;
	return 0;
}

/* Whatever the bytes are: an answer or an error, and no crash (which ends this program). */
static void look_at_everything(void)
{
	struct found f = { .pid = (uint32_t)getpid() };
	struct fnd_segment_status s;
	struct fnd_observed_chain chain;
	struct fnd_latency latency;
	struct fnd_observer *o;
	unsigned int sum = 0;

	if (fnd_observer_open(segment, &o))
		return;
	fnd_observer_status(o, &s);
	fnd_observer_latency(o, FND_OP_LOOKUP, &latency);
	fnd_observer_participants(o, find_participant, &f);
	fnd_observer_threads(o, find_thread, &f);
	fnd_observer_tables(o, count_stats, &sum);
	fnd_observer_records(o, "things", touch_record, &sum);
	fnd_observer_chain(o, "things", &chain);
	fnd_observer_close(o);
}

static uint64_t next_random(uint64_t *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	*state ^= *state << 17;
	return *state;
}

/* A place worth damaging: the running header, slots, the directory, spans' beginnings, or anywhere. */
static size_t pick(uint64_t *state, const struct fnd_shm_header *h, size_t size)
{
	uint64_t r = next_random(state);

	switch (next_random(state) % 6) {
	case 0:
		return offsetof(struct fnd_shm_header, epoch) + r % 256;
	case 1:
		return h->process_off + r % (h->cell_off - h->process_off);
	case 2:
		return h->table_off + r % sizeof(struct fnd_shm_table);
	case 3:
		return h->span_off + r % 4096;
	default:
		return h->span_off + r % (size - h->span_off);
	}
}

static void test_damage(uint64_t seed)
{
	static const uint64_t values[] = { 0, 1, 0xff, 0x7fffffff, 0xffffffff, UINT64_MAX, 1ULL << 47 };
	struct fnd_table *t;
	struct fnd_segment *seg = make_segment("damage", &t);
	char *good, *bad;
	struct fnd_shm_header h;
	uint64_t state = seed;
	struct stat st;
	int fd = open(path, O_RDWR | O_CLOEXEC);

	fnd_table_close(t);
	CHECK(fnd_segment_detach(seg) == 0, "detach");
	CHECK(fd >= 0 && fstat(fd, &st) == 0, "%s", path);
	good = malloc((size_t)st.st_size);
	bad = malloc((size_t)st.st_size);
	CHECK(pread(fd, good, (size_t)st.st_size, 0) == st.st_size, "read");
	memcpy(&h, good, sizeof(h));
	for (int round = 0; round < 400; round++) {
		memcpy(bad, good, (size_t)st.st_size);
		for (uint64_t n = next_random(&state) % 6 + 1; n; n--) {
			size_t at = pick(&state, &h, (size_t)st.st_size - 8) & ~(size_t)3;
			uint64_t v = next_random(&state);

			v = v % 3 ? values[v % (sizeof(values) / sizeof(values[0]))] : next_random(&state);
			memcpy(bad + at, &v, v & 1 ? 8 : 4);
		}
		CHECK(pwrite(fd, bad, (size_t)st.st_size, 0) == st.st_size, "write");
		look_at_everything();
	}
	CHECK(pwrite(fd, good, (size_t)st.st_size, 0) == st.st_size, "write");
	for (off_t size = st.st_size; size > 0; size = size * 2 / 3) {
		CHECK(ftruncate(fd, size) == 0, "truncate");
		look_at_everything();
	}
	free(good);
	free(bad);
	close(fd);
	CHECK(unlink(path) == 0, "%s", path);
}

int main(int argc, char **argv)
{
	uint64_t seed = argc > 1 ? strtoull(argv[1], NULL, 0) : ((uint64_t)getpid() << 20 | 1);

	printf("seed %llu\n", (unsigned long long)seed);
	test_idle();
	test_chains();
	test_figures();
	test_participants();
	test_beside_writers();
	test_damage(seed);
	printf("%d failures\n", failures);
	return failures != 0;
}
