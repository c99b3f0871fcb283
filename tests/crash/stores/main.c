// SPDX-License-Identifier: MIT
/*
 * stores - a crash at every store of every operation, and at every store of the repair.
 *
 * An operation runs once; the log of its stores is the list of the states its death can leave. Each of
 * them is put in place, repaired by a rescuer, checked, given new work, checked again, and put back. The
 * rescuer's own stores are crash states too: there a second rescuer repairs what both left.
 *
 *   stores [--suite NAME] [--part I/N] [--goal STATES] [--seed S] [--report FILE] [--mutant NAME]
 *          [--stopped]
 *   stores --list
 *
 * --stopped: nobody dies. The victim stands still at each of its stores, and others go about their work.
 * --mutant: a seeded bug is in; the suite must notice it, and is reported under that name.
 */
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "hooks.h"
#include "report.h"
#include "stopped.h"

#define VIOLATIONS_SHOWN 3
#define COSTLY 5 /* a state takes so many times as long: fewer are wanted */

static const struct operation *op;
static const struct state *from;
static struct suite_result total;
static char *image; /* the segment as it was before the operation */
static uint64_t image_bytes;
static bool quiet;
static bool stopped;

int __real_clock_gettime(clockid_t clock, struct timespec *ts);

static double now_s(void)
{
	struct timespec ts;

	__real_clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

/* Where the victims were: store numbers and addresses for addr2line. */
struct place {
	size_t i, n;
	void *at;
};
static struct place victim_at, rescuer_at;

static void violation(const char *what)
{
	total.violations++;
	if (quiet || total.violations > VIOLATIONS_SHOWN)
		return;
	fprintf(stderr, "%s-%s, state %s, seed %llu: store %zu of %zu (%p)",
		stopped ? "stopped-writers" : "stores", op->name, from->name,
		(unsigned long long)w.seed, victim_at.i, victim_at.n, victim_at.at);
	if (rescuer_at.n)
		fprintf(stderr, ", then store %zu of %zu of the repair (%p)", rescuer_at.i, rescuer_at.n,
			rescuer_at.at);
	fprintf(stderr, ":\n  %s\n", what);
}

/* --- one state ------------------------------------------------------------------------------------ */

/* Runs a step of a trial with its stores written down. */
static const char *logged(const char *(*step)(const struct trial *t), const struct trial *t)
{
	const char *err;

	hooks_mode = HOOKS_LOG;
	err = step(t);
	hooks_mode = HOOKS_OFF;
	return err;
}

static const char *arrive(const struct trial *t)
{
	static char text[300];
	int err = world_arrive(t->rescuer);

	if (!err)
		return NULL;
	snprintf(text, sizeof(text), "attaching: %s [%s]", fnd_strerror(err), fnd_error_detail());
	return text;
}

static const char *depart(const struct trial *t)
{
	world_depart(t->rescuer);
	return NULL;
}

/* Repairs and checks the state that is in place. The log ends after the repair's stores, from *ret_from. */
static void trial_run(const struct trial *t, size_t *ret_from)
{
	size_t before = hooks_mark(), after;
	const char *err = NULL;

	total.count++;
	if (!op->abandoned)
		world_reset(t->rescuer);
	world_act(t->rescuer);
	if (op->abandoned)
		err = logged(arrive, t);
	if (!err && op->first)
		err = logged(op->first, t);
	after = hooks_mark();
	if (!err)
		err = logged(check_readers, t);
	hooks_undo(after);
	*ret_from = before;
	if (!err)
		err = logged(recover, t);
	after = hooks_mark();
	if (!err)
		err = logged(check_all, t);
	if (!err && t->thorough)
		err = logged(check_new_work, t);
	if (!err && op->check)
		err = logged(op->check, t);
	if (op->abandoned)
		logged(depart, t);
	hooks_undo(after);
	world_act(FOUNDER);
	if (err)
		violation(err);
}

/* One that wrote what was there already has left the state that was there already: that one has been tried. */
static bool silent(const struct store *s)
{
	return s->before == s->after;
}

/* The rescuer dies at each of its stores; a second one comes. */
static void die_in_repair(size_t mark, size_t n)
{
	struct store *repair = malloc((n + 1) * sizeof(*repair));
	unsigned int turn = (unsigned int)world_draw();
	enum who first = op->abandoned ? COMER : RESCUER;
	struct trial t = { .rescuer = op->abandoned ? COMER_2 : SECOND };
	bool other = true; /* than the state tried last */
	size_t from2;

	for (size_t i = 0; i < n; i++)
		repair[i] = *hooks_entry(mark + i);
	hooks_forget(mark);
	world_die(first);
	for (size_t i = n; i-- > 0;) {
		store_revert(&repair[i]);
		other |= !silent(&repair[i]);
		if (!repair[i].begins || i == 0 || !other) /* before its first store nothing has happened yet */
			continue;
		other = false;
		rescuer_at = (struct place){ i, n, repair[i].where };
		t.order = (turn + (unsigned int)i) % 3;
		t.thorough = (turn + i) % 4 == 0;
		trial_run(&t, &from2);
		hooks_undo(from2);
	}
	rescuer_at = (struct place){ 0 };
	w.actor[first].dead = false;
	free(repair);
}

static void state_explore(bool deep)
{
	struct trial t = { .rescuer = op->abandoned ? COMER : RESCUER, .thorough = true };
	unsigned int last = (unsigned int)(world_draw() % 3);
	size_t mark;

	for (unsigned int i = 1; i <= 3; i++) {
		t.order = (last + i) % 3;
		trial_run(&t, &mark);
		if (i < 3 || !deep)
			hooks_undo(mark);
	}
	if (deep)
		die_in_repair(mark, hooks_mark() - mark);
}

/* The victim stands still. What others do meanwhile is taken back. */
static void state_stopped(void)
{
	size_t mark = hooks_mark();
	const char *err;

	total.count++;
	world_reset(RESCUER);
	world_act(RESCUER);
	hooks_mode = HOOKS_LOG;
	err = check_stopped();
	hooks_mode = HOOKS_OFF;
	hooks_undo(mark);
	world_act(FOUNDER);
	if (err)
		violation(err);
}

/* --- one operation from one state ----------------------------------------------------------------- */

static void prepare(uint64_t seed)
{
	struct shape shape = { .processes = 8,
			       .threads = 8,
			       .max_bytes = 1u << 20,
			       .table = { .size = sizeof(shape.table),
					  .key_max = 8,
					  .value_max = 16,
					  .capacity = 16 },
			       .backed = true };

	if (from->shape)
		from->shape(&shape);
	if (op->shape)
		op->shape(&shape);
	world_make(seed, &shape);
	if (stopped)
		stopped_begin();
	if (!op->outside) {
		world_join(VICTIM, true);
		world_table();
	}
	if (from->prepare)
		from->prepare();
	if (op->prepare)
		op->prepare();
	if (stopped)
		stopped_open(op);
	world_act(FOUNDER);
}

static void image_take(void)
{
	image_bytes = w.actor[RESCUER].seg->hdr->brk;
	image = malloc(image_bytes);
	memcpy(image, hooks_base, image_bytes);
}

static void image_check(const char *when)
{
	if (memcmp(image, hooks_base, image_bytes) != 0)
		violation(when);
}

static void tidy(void)
{
	size_t mark = hooks_mark();

	hooks_mode = HOOKS_LOG;
	world_act(VICTIM);
	if (op->tidy)
		op->tidy();
	world_act(FOUNDER);
	hooks_mode = HOOKS_OFF;
	hooks_undo(mark);
}

/* Runs the operation and takes it back. Returns its stores; *ret_gone: the name was removed before that one. */
static struct store *stores_of_run(size_t *ret_n, size_t *ret_gone)
{
	size_t mark = hooks_mark(), n;
	struct store *s;

	world_act(VICTIM);
	hooks_mode = HOOKS_LOG;
	op->run();
	hooks_mode = HOOKS_OFF;
	world_act(FOUNDER);
	n = hooks_mark() - mark;
	*ret_gone = world_unlinked == SIZE_MAX ? SIZE_MAX : world_unlinked - mark;
	s = malloc((n + 1) * sizeof(*s));
	for (size_t i = 0; i < n; i++)
		s[i] = *hooks_entry(mark + i);
	model_after();
	if (stopped)
		stopped_after();
	tidy();
	hooks_undo(mark);
	*ret_n = n;
	return s;
}

static void name_goes(void)
{
	world_name(false);
	w.name_gone = true;
}

static void explore(uint64_t seed, bool deep)
{
	struct store *s;
	size_t n, gone;
	bool other = true;

	prepare(seed);
	for (enum who i = READER; i <= SECOND; i++)
		world_keep(i);
	world_corruptions();
	model_before();
	if (stopped)
		stopped_before();
	held_take();
	image_take();
	s = stores_of_run(&n, &gone);
	image_check("a store of the operation was not seen");
	if (!stopped)
		world_die(VICTIM);
	w.actor[VICTIM].here = w.actor[VICTIM].here && !op->tidy;
	for (size_t i = 0; i <= n; i++) {
		if (i == gone) {
			name_goes();
			other = true;
		}
		if ((i == n || s[i].begins) && other) {
			other = false;
			victim_at = (struct place){ i, n, i < n ? s[i].where : NULL };
			if (stopped)
				state_stopped();
			else
				state_explore(deep);
		}
		if (i < n) {
			store_apply(&s[i]);
			other |= !silent(&s[i]);
		}
	}
	while (n-- > 0)
		store_revert(&s[n]);
	if (w.name_gone)
		world_name(true);
	image_check("a store of a repair was not seen");
	free(s);
	free(image);
	model_free();
	if (stopped)
		stopped_end();
	world_end();
}

/* The same run again, its writes counted by the processor's faults. */
static void control(uint64_t seed)
{
	uint64_t hooked, written;
	char text[120];

	prepare(seed);
	world_act(VICTIM);
	hooks_watch_begin();
	op->run();
	written = hooks_watch_end();
	hooked = hooks_counted;
	tidy();
	total.control += written;
	if (written != hooked) {
		snprintf(text, sizeof(text), "control: %llu stores seen, %llu made", (unsigned long long)hooked,
			 (unsigned long long)written);
		violation(text);
	}
	world_end();
}

/* --- suites --------------------------------------------------------------------------------------- */

static void suite_round(uint64_t seed, bool first)
{
	for (unsigned int i = 0; i < op->nstates; i++) {
		from = &op->states[i];
		victim_at = rescuer_at = (struct place){ 0 };
		if (first)
			control(seed + i);
		explore(seed + i, true);
		if (quiet && total.violations) /* the seeded bug is noticed */
			return;
	}
}

static void suite_run(uint64_t goal, uint64_t seed)
{
	double start = now_s();

	if (op->costly)
		goal /= COSTLY;
	total = (struct suite_result){ .goal = goal, .seed = seed };
	for (uint64_t round = 0; round == 0 || (total.count < goal && total.violations == 0); round++)
		suite_round(seed + round * 1000, round == 0);
	total.seconds = now_s() - start;
}

/* A seeded bug is one to notice: that is the goal. */
static void report_mutant(const char *name, const char *report)
{
	struct suite_result r = { .suite = name, .goal = 1, .seed = total.seed, .seconds = total.seconds };

	r.count = total.violations > 0;
	report_suite(&r, report);
}

/* Where nobody is left, nobody is there to go on. */
static void stopped_round(uint64_t seed)
{
	for (unsigned int k = 0; k < op->nstates && !op->abandoned && !op->first; k++) {
		from = &op->states[k];
		explore(seed + k, false);
	}
}

/* One suite for all operations. True: it held, or the seeded bug was noticed. */
static bool stopped_suite(const char *suite, uint64_t goal, uint64_t seed, const char *mutant,
			  const char *report)
{
	double start = now_s();
	uint64_t before = 0;

	total = (struct suite_result){ .suite = "stopped-writers", .goal = goal ? goal : 1, .seed = seed };
	for (uint64_t round = 0; round == 0 || (total.count < goal && total.violations == 0 && before < total.count);
	     round++) {
		before = total.count;
		for (unsigned int i = 0; i < noperations; i++) {
			op = &operations[i];
			if (!suite || strcmp(suite, op->name) == 0)
				stopped_round(seed + round * 1000);
		}
	}
	total.seconds = now_s() - start;
	if (mutant) {
		report_mutant(mutant, report);
		return total.violations > 0;
	}
	printf("refused meanwhile: %llu writers\n", (unsigned long long)stopped_refused);
	report_suite(&total, report);
	return total.violations == 0 && total.count > 0 && stopped_refused > 0;
}

static void report_stores(const char *report)
{
	char name[64];

	snprintf(name, sizeof(name), "stores-%s", op->name);
	total.suite = name;
	report_suite(&total, report);
}

/* Stores that were counted by the hooks and by the processor's faults alike. */
static void report_control(uint64_t stores, const char *report)
{
	struct suite_result r = { .suite = "stores-control", .goal = 1, .count = stores };

	report_suite(&r, report);
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{ "suite", required_argument, NULL, 's' },
		{ "part", required_argument, NULL, 'p' },
		{ "goal", required_argument, NULL, 'g' },
		{ "seed", required_argument, NULL, 'e' },
		{ "report", required_argument, NULL, 'r' },
		{ "mutant", required_argument, NULL, 'm' },
		{ "stopped", no_argument, NULL, 'S' },
		{ "list", no_argument, NULL, 'l' },
		{ NULL, 0, NULL, 0 },
	};
	const char *suite = NULL, *report = NULL, *mutant = NULL;
	unsigned int part = 0, parts = 1;
	uint64_t goal = 0, seed = 1, violations = 0, count = 0, controlled = 0;
	int c;

	while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
		switch (c) {
		case 's':
			suite = optarg;
			break;
		case 'p':
			sscanf(optarg, "%u/%u", &part, &parts);
			break;
		case 'g':
			goal = strtoull(optarg, NULL, 10);
			break;
		case 'e':
			seed = strtoull(optarg, NULL, 10);
			break;
		case 'r':
			report = optarg;
			break;
		case 'm':
			mutant = optarg, quiet = true;
			break;
		case 'S':
			stopped = true;
			break;
		case 'l':
			for (unsigned int i = 0; i < noperations; i++)
				puts(operations[i].name);
			return 0;
		default:
			return 2;
		}
	}
	if (stopped)
		return !stopped_suite(suite, goal, seed, mutant, report);
	for (unsigned int i = 0; i < noperations; i++) {
		op = &operations[i];
		if (suite ? strcmp(suite, op->name) != 0 : i % parts != part)
			continue;
		suite_run(goal, seed);
		violations += total.violations;
		count += total.count;
		controlled += total.control;
		if (mutant)
			report_mutant(mutant, report);
		else
			report_stores(report);
	}
	if (mutant)
		return violations == 0;
	if (!suite)
		report_control(controlled, report);
	return violations != 0 || count == 0;
}
