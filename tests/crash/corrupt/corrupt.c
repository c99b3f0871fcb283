// SPDX-License-Identifier: MIT
/*
 * corrupt SUITE [--count N] [--seed N] [--from N] [--report FILE]
 *
 *   header  every bit of the header's page, before and after attaching
 *   slots   every bit of the process and thread slots
 *   locks   every bit of every lock word: free, a living holder's, a dead one's
 *   data    random flips from the directory on, which pile up until the segment is healed
 *   structure  every bit of structure from the directory on, for the verifier alone to find
 *   control the harness itself: accesses outside and an endless loop, each of which must be caught
 *
 * A suite is a number of steps, each made from the seed and its number alone. `--from N --count 1` does step N
 * again. Exit status: 0, 1 a violation, 3 it could not run.
 */
#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <foundation/verify.h>

#include "../report.h"
#include "corrupt.h"
#include "internal.h"

#define VIOLATIONS_MAX 10
#define BATCH 512 /* steps of one child */
#define CONTROLS 5
#define PILE 127  /* flips before the segment is healed, at most */

struct board *board;
struct image image;

static uint64_t seed;
static uint64_t lock_at[64];
static size_t locks;

/* --- steps ---------------------------------------------------------------------------------------- */

__attribute__((format(printf, 1, 2))) static void name_flip(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(board->flip, sizeof(board->flip), fmt, ap);
	va_end(ap);
}

/* A damaged home is what a takeover in progress looks like: attaching waits a third of a second for its end before
 * it refuses. So that is done with one bit of each byte. */
static bool attach_waits(uint64_t bit)
{
	uint64_t byte = bit / 8;

	return byte >= offsetof(struct fnd_shm_header, boot_id) && byte < offsetof(struct fnd_shm_header, pad0) &&
	       bit % 8 != byte % 8;
}

/* @bit is flipped before anybody looks, then while somebody is attached. @all: everything is done with it. */
static void one_bit(uint64_t bit, uint64_t random, bool all)
{
	struct visitor v;

	flip_bit(bit);
	visit_verify(bit);
	if (all)
		visit_observe();
	if (!attach_waits(bit) && visit_begin(&v)) {
		if (all) {
			visit_all(&v, random);
			visit_verify_any();
		} else {
			visit_quick(&v, random);
		}
		visit_end(&v);
	}
	image_restore();
	board->flips++;
	if (!all)
		return;
	if (!visit_begin(&v)) {
		violation("a sound segment was refused: %s", fnd_error_detail());
		return;
	}
	name_flip("%s, while attached", board->flip);
	flip_bit(bit);
	visit_all(&v, mix(random));
	visit_observe();
	visit_end(&v);
	image_restore();
	board->flips++;
}

static void header_step(uint64_t step)
{
	name_flip("header, byte %" PRIu64 ", bit %" PRIu64, step / 8, step % 8);
	/* behind the running words there is nothing but zeros that nobody reads */
	one_bit(step, mix(seed ^ step), step / 8 < offsetof(struct fnd_shm_header, reserved));
}

static void slots_step(uint64_t step)
{
	const struct fnd_shm_header *h = (const struct fnd_shm_header *)image.bytes;

	name_flip("slots, byte %" PRIu64 ", bit %" PRIu64, h->process_off + step / 8, step % 8);
	one_bit(h->process_off * 8 + step, mix(seed ^ step), true);
}

/* A lock word: who has it, and which bit is flipped; 32: none. */
static void locks_step(uint64_t step)
{
	uint64_t off = lock_at[step / 33 / 3], bit = step % 33;
	uint32_t word[3];
	unsigned int who = step / 33 % 3;

	word[0] = 0;
	word[1] = lock_word(image.peer_slot);
	word[2] = lock_word(image.dead_slot);
	name_flip("lock word at %" PRIu64 " %s, bit %" PRIu64, off,
		  who == 0 ? "free" : who == 1 ? "held by the living" : "held by the dead", bit);
	memcpy(image.bytes + off, &word[who], sizeof(word[who]));
	image_restore();
	if (bit < 32) {
		/* one bit of a free word is no owner, unless it says "given up"; others may be owners that were */
		memset(image.meaning + off, who == 0 && bit ? MEANING_STRUCTURE : MEANING_FIGURE, 4);
		one_bit(off * 8 + bit, mix(seed ^ step), true);
	} else {
		struct visitor v;

		if (visit_begin(&v)) {
			visit_all(&v, mix(seed ^ step));
			visit_observe();
			visit_verify_any();
			visit_end(&v);
		}
	}
	memset(image.bytes + off, 0, sizeof(word[0]));
	image_restore();
}

/* Half of the flips hit structure, which is a small part of the bytes. */
static uint64_t data_bit(uint64_t *random)
{
	const struct fnd_shm_header *h = (const struct fnd_shm_header *)image.bytes;
	uint64_t byte = draw(random) & 1 ? image.structure[draw(random) % image.structures] :
					   h->table_off + draw(random) % (h->brk - h->table_off);

	return byte * 8 + draw(random) % 8;
}

static void structure_step(uint64_t step)
{
	uint64_t bit = image.structure[step / 8] * 8 + step % 8;

	name_flip("structure, byte %" PRIu64 ", bit %" PRIu64, bit / 8, bit % 8);
	flip_bit(bit);
	visit_verify(bit);
	flip_bit(bit);
	board->flips++;
}

static void data_step(uint64_t step)
{
	uint64_t random = mix(seed) ^ mix(step * 2 + 1), n = 1 + draw(&random) % PILE;
	uint64_t bit = data_bit(&random);
	struct visitor v;

	name_flip("data, step %" PRIu64, step);
	if (step & 1)
		flip_bit(bit);
	if (step & 1)
		visit_verify(bit);
	if (!visit_begin(&v)) {
		violation("refused: %s", fnd_error_detail());
		image_restore();
		return;
	}
	for (uint64_t i = step & 1; i < n; i++) {
		bit = data_bit(&random);
		flip_bit(bit);
		name_flip("data, step %" PRIu64 ", flip %" PRIu64 ": byte %" PRIu64 ", bit %" PRIu64, step, i,
			  bit / 8, bit % 8);
		visit_quick(&v, draw(&random));
	}
	visit_all(&v, draw(&random));
	if (!(step & 3)) {
		visit_observe();
		visit_verify_any();
	}
	visit_end(&v);
	image_restore();
	board->flips += n;
}

/* What the harness is there to catch. */
static void control_step(uint64_t step)
{
	struct fnd_segment *seg;
	struct visitor v;
	const volatile char *base;

	if (!visit_begin(&v))
		_exit(0);
	name_flip("control %" PRIu64, step);
	stage("an access outside, or a loop");
	seg = v.seg;
	base = (const volatile char *)seg->base;
	switch (step) {
	case 0:
		(void)base[-1];
		break;
	case 1: /* behind the file's last page */
		(void)base[image.size];
		break;
	case 2:
		(void)base[seg->max_bytes];
		break;
	case 3:
		alarm(1);
		for (;;)
			__asm__ volatile("");
	default: /* a result that no call may have */
		violation("control");
	}
}

/* --- batches -------------------------------------------------------------------------------------- */

static uint64_t violations;

static void report_violation(const char *suite, uint64_t step, const char *how)
{
	violations++;
	fprintf(stderr, "corrupt-%s: %s\n  at: %s\n  doing: %s\n  again: corrupt %s --seed %" PRIu64
		" --from %" PRIu64 " --count 1\n", suite, how, board->flip, board->stage, suite, seed, step);
}

static void child(void (*step)(uint64_t), uint64_t from, uint64_t to)
{
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	for (uint64_t i = from; i < to; i++) {
		alarm(HANG_SECONDS);
		board->violation[0] = '\0';
		step(i);
		if (board->violation[0])
			_exit(1);
		__atomic_store_n(&board->done, i + 1, __ATOMIC_RELEASE);
	}
	_exit(0);
}

/* Steps @from to @to; a child that ends before its last step has found something at the one it was at. */
static void run(const char *suite, void (*step)(uint64_t), uint64_t from, uint64_t to)
{
	board->done = from;
	while (board->done < to && violations < VIOLATIONS_MAX) {
		uint64_t end = board->done + BATCH < to ? board->done + BATCH : to;
		int status;
		pid_t pid = fork();

		if (pid == 0)
			child(step, board->done, end);
		if (pid < 0 || waitpid(pid, &status, 0) != pid)
			exit(3);
		if (status == 0)
			continue;
		if (WIFSIGNALED(status)) {
			char how[64];

			snprintf(how, sizeof(how), "%s", WTERMSIG(status) == SIGALRM ? "no return" :
				 strsignal(WTERMSIG(status)));
			report_violation(suite, board->done, how);
		} else {
			report_violation(suite, board->done,
					 board->violation[0] ? board->violation : "a sanitizer report");
		}
		image_restore();
		board->done++;
	}
}

/* --- suites --------------------------------------------------------------------------------------- */

struct suite {
	const char *name;
	void (*step)(uint64_t);
	uint64_t steps;
};

static uint64_t now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

static void print_share(const char *what, enum meaning m)
{
	if (board->total[m])
		printf("  verify found %" PRIu64 " of %" PRIu64 " single flips in %s (%.2f%%)\n", board->found[m],
		       board->total[m], what, 100.0 * (double)board->found[m] / (double)board->total[m]);
}

static void print_figures(const char *suite)
{
	printf("corrupt-%s: %" PRIu64 " flips; attached %" PRIu64 " times, refused %" PRIu64 "; %" PRIu64
	       " results said damaged, %" PRIu64 " timed out; slowest write %" PRIu64 " ms\n", suite,
	       board->flips, board->attached, board->refused, board->corrupt, board->timeouts,
	       board->slowest_write_ns / 1000000);
	print_share("structure", MEANING_STRUCTURE);
	print_share("figures, where another value may be sound", MEANING_FIGURE);
	print_share("values, padding and free memory, which nothing vouches for", MEANING_NONE);
	for (uint64_t i = 0; i < 8 && i < board->misses; i++) /* structure, and not found: a violation */
		printf("  not found: byte %" PRIu64 ", bit %" PRIu64 "\n", board->missed[i] / 8,
		       board->missed[i] % 8);
	if (board->misses)
		violations++;
}

int main(int argc, char **argv)
{
	uint64_t from = 0, count = 0, wanted, begun;
	const char *suite = argc > 1 ? argv[1] : "", *file = NULL;
	struct suite_result result = { 0 };
	const struct suite *s = NULL;
	char name[48];

	seed = (uint64_t)time(NULL) ^ (uint64_t)getpid() << 20;
	for (int i = 2; i + 1 < argc; i += 2) {
		if (strcmp(argv[i], "--seed") == 0)
			seed = strtoull(argv[i + 1], NULL, 10);
		else if (strcmp(argv[i], "--from") == 0)
			from = strtoull(argv[i + 1], NULL, 10);
		else if (strcmp(argv[i], "--count") == 0)
			count = strtoull(argv[i + 1], NULL, 10);
		else if (strcmp(argv[i], "--report") == 0)
			file = argv[i + 1];
	}
	board = mmap(NULL, sizeof(*board), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (board == MAP_FAILED)
		return 3;
	printf("corrupt-%s: seed %" PRIu64 "\n", suite, seed);
	fflush(stdout);
	begun = now_ms();
	image_make();
	if (fnd_verify(image.name, NULL, NULL, NULL)) {
		fprintf(stderr, "the segment is not sound to begin with: %s\n", fnd_error_detail());
		image_free();
		return 1;
	}
	locks = image_locks(lock_at, sizeof(lock_at) / sizeof(lock_at[0]));
	const struct fnd_shm_header *h = (const struct fnd_shm_header *)image.bytes;
	const struct suite suites[] = {
		{ "header", header_step, FND_HEADER_BYTES * 8 },
		{ "slots", slots_step, (h->cell_off - h->process_off) * 8 },
		{ "locks", locks_step, locks * 3 * 33 },
		{ "data", data_step, UINT64_MAX },
		{ "structure", structure_step, image.structures * 8 },
		{ "control", control_step, CONTROLS },
	};
	for (size_t i = 0; i < sizeof(suites) / sizeof(suites[0]); i++)
		if (strcmp(suites[i].name, suite) == 0)
			s = &suites[i];
	if (!s) {
		image_free();
		return 2;
	}
	/* --count: steps, but flips of suite data, which has no end of its own */
	wanted = count ? count : s->steps == UINT64_MAX ? 1000000 : s->steps;
	if (s->steps != UINT64_MAX)
		run(s->name, s->step, from, wanted > s->steps - from ? s->steps : from + wanted);
	else if (from)
		run(s->name, s->step, from, from + wanted);
	else
		for (uint64_t at = 0; board->flips < wanted && violations < VIOLATIONS_MAX; at += BATCH)
			run(s->name, s->step, at, at + BATCH);
	image_free();
	if (s->step == control_step) {
		printf("corrupt-control: %" PRIu64 " of %d caught\n", violations, CONTROLS);
		return violations == CONTROLS ? 0 : 1;
	}
	print_figures(s->name);
	snprintf(name, sizeof(name), "corrupt-%s", s->name);
	result.suite = name;
	result.goal = wanted;
	result.count = board->flips;
	result.violations = violations;
	result.seed = seed;
	result.seconds = (double)(now_ms() - begun) / 1000;
	report_suite(&result, file);
	return violations ? 1 : 0;
}
