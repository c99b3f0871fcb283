/* SPDX-License-Identifier: MIT */
/*
 * The parent: the service that owns the sources. It starts the workers, replaces those that die, kills
 * some when asked to, and begins and ends passes. It waits in one place, for whatever comes first: a
 * signal, a worker at the end of its share, the time of the next kill.
 */
#include "mill.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/random.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#define GIVE_UP_AFTER 10 /* deaths in a row of one worker that brought no line forward */
#define NS_PER_S 1000000000ull
#define LAST_WAIT_NS (20 * NS_PER_S) /* for workers to go home */

static int fail(struct mill *mill, int status)
{
	if (!mill->status)
		mill->status = status;
	return -1;
}

static void start_worker(struct mill *mill, unsigned int index)
{
	fflush(NULL); /* or the child would print what is still in our buffers */

	pid_t pid = fork();

	if (pid == 0)
		worker_main(mill, index);
	if (pid < 0)
		fail(mill, complain_system("cannot start a worker", -errno));
	else
		mill->workers[index] = (struct mill_worker){
			.pid = pid,
			.unlucky = mill->workers[index].unlucky,
			.lines_before = mill->workers[index].lines_before,
		};
}

/* Replacing a worker that dies at once, again and again, would help nobody. */
static bool hopeless(struct mill *mill, unsigned int index)
{
	struct mill_worker *w = &mill->workers[index];
	struct progress p;

	if (progress_read(mill->progress, mill->pid, index, &p) || p.lines == w->lines_before)
		return ++w->unlucky >= GIVE_UP_AFTER;
	w->lines_before = p.lines;
	w->unlucky = 0;
	return false;
}

static void worker_died(struct mill *mill, unsigned int index, int how, bool replace)
{
	struct mill_worker *w = &mill->workers[index];
	bool shot = w->shot && WIFSIGNALED(how) && WTERMSIG(how) == SIGKILL;

	if (w->shot)
		mill->kills_under_way--;
	mill->kills += shot;
	w->pid = 0;
	w->shot = false;
	if (WIFEXITED(how) && WEXITSTATUS(how)) { /* it has said why */
		fail(mill, WEXITSTATUS(how));
		return;
	}

	/* It would happen by itself, when somebody meets what the dead left; now it happens at once. */
	int err = fnd_registry_reap(mill->registry, NULL);

	if (err) {
		fail(mill, complain("cannot reap", err));
	} else if (replace && !shot && hopeless(mill, index)) {
		fprintf(stderr, "logmill: worker %u died %d times without serving a line\n", index,
			GIVE_UP_AFTER);
		fail(mill, 3);
	} else if (replace) {
		start_worker(mill, index);
	}
}

static unsigned int collect_children(struct mill *mill, bool replace)
{
	unsigned int alive = 0;
	pid_t pid;
	int how;

	while ((pid = waitpid(-1, &how, WNOHANG)) > 0) {
		for (unsigned int i = 0; i < mill->options.workers; i++) {
			if (mill->workers[i].pid == pid) {
				worker_died(mill, i, how, replace);
				break;
			}
		}
	}
	for (unsigned int i = 0; i < mill->options.workers; i++)
		alive += mill->workers[i].pid != 0;
	return alive;
}

static void kill_somebody(struct mill *mill)
{
	unsigned int candidates[WORKERS_MAX], n = 0, dice = 0;

	for (unsigned int i = 0; i < mill->options.workers; i++) {
		if (mill->workers[i].pid && !mill->workers[i].shot)
			candidates[n++] = i;
	}
	if (!n || getrandom(&dice, sizeof(dice), 0) != sizeof(dice))
		return;

	struct mill_worker *victim = &mill->workers[candidates[dice % n]];

	if (kill(victim->pid, SIGKILL) == 0) {
		victim->shot = true;
		mill->kills_under_way++;
	}
}

static bool time_is_over(const struct mill *mill)
{
	const struct mill_options *o = &mill->options;

	return mill->stop || (o->run_ns && now_ns() - mill->started_ns >= o->run_ns);
}

/* Without a number killing goes on as long as passes are begun; it must not keep the last from ending. */
static bool more_kills(const struct mill *mill)
{
	const struct mill_options *o = &mill->options;

	if (!o->killing || mill->stop)
		return false;
	if (o->kills)
		return mill->kills + mill->kills_under_way < o->kills;
	return !time_is_over(mill);
}

/* Until when to sleep, as ppoll() wants it; kills somebody if it is time. */
static const struct timespec *kill_in_time(struct mill *mill, struct timespec *wait)
{
	if (!more_kills(mill))
		return NULL;

	uint64_t now = now_ns();

	if (now >= mill->next_kill_ns) {
		kill_somebody(mill);
		mill->next_kill_ns = now + mill->options.kill_every_ns;
	}

	uint64_t left = mill->next_kill_ns - now;

	*wait = (struct timespec){ (time_t)(left / NS_PER_S), (long)(left % NS_PER_S) };
	return wait;
}

/* Sleep until something happens. Children that died are dealt with by whoever calls. */
static void wait_for_anything(struct mill *mill, const struct timespec *at_most)
{
	struct pollfd fds[] = {
		{ .fd = mill->signal_fd, .events = POLLIN },
		{ .fd = mill->done_fd, .events = POLLIN },
	};
	struct signalfd_siginfo info;
	eventfd_t ignored;

	if (ppoll(fds, 2, at_most, NULL) <= 0)
		return;
	eventfd_read(mill->done_fd, &ignored);
	while (read(mill->signal_fd, &info, sizeof(info)) == (ssize_t)sizeof(info)) {
		if (info.ssi_signo != SIGCHLD)
			mill->stop = true;
	}
}

static bool pass_is_done(struct mill *mill)
{
	for (unsigned int i = 0; i < mill->options.workers; i++) {
		struct progress p;
		int err = progress_read(mill->progress, mill->pid, i, &p);

		if (err) {
			fail(mill, complain("cannot read the progress", err));
			return false;
		}
		if (p.pass != mill->pass || p.next < mill->logs.nlines)
			return false;
	}
	return true;
}

static bool is_registered(const struct mill *mill, unsigned int worker)
{
	char name[FND_AGENT_NAME_MAX + 1];

	snprintf(name, sizeof(name), "%s/worker-%u", mill->service, worker);
	return fnd_registry_lookup(mill->registry, name, NULL) == 0;
}

/* The first pass begins when all are there, or the figures would be about starting processes. */
static void wait_for_workers(struct mill *mill)
{
	unsigned int there = 0;

	while (!mill->stop && !mill->status && there < mill->options.workers) {
		if (is_registered(mill, there)) {
			there++;
		} else {
			wait_for_anything(mill, NULL);
			collect_children(mill, true);
		}
	}
}

/* Close the gate of the pass after this one, say which pass it is, open its gate: in this order. */
static int begin_pass(struct mill *mill)
{
	eventfd_t ignored;

	mill->pass++;
	eventfd_read(mill->gates[(mill->pass + 1) & 1], &ignored);

	int err = progress_set_pass(mill->progress, mill->pid,
				    (struct progress_pass){ .pass = mill->pass });

	if (err)
		return fail(mill, complain("cannot begin a pass", err));
	eventfd_write(mill->gates[mill->pass & 1], 1);
	return 0;
}

static int run_pass(struct mill *mill)
{
	uint64_t begun = now_ns();

	if (begin_pass(mill))
		return -1;
	while (!mill->status && !pass_is_done(mill)) {
		struct timespec wait;

		wait_for_anything(mill, kill_in_time(mill, &wait));
		collect_children(mill, true);
	}
	mill->busy_ns += now_ns() - begun;
	return mill->status ? -1 : 0;
}

static bool another_pass(const struct mill *mill)
{
	const struct mill_options *o = &mill->options;

	if (mill->stop || mill->status)
		return false;
	if (o->kills && mill->kills < o->kills)
		return true;
	if (time_is_over(mill))
		return false;
	return !o->passes || mill->pass < o->passes;
}

/* Tell the workers to go home, and wait until they have. After a failure they are killed. */
static void end_workers(struct mill *mill)
{
	const struct timespec tick = { .tv_nsec = 100000000 };
	uint64_t until = now_ns() + LAST_WAIT_NS;
	int err = progress_set_pass(mill->progress, mill->pid,
				    (struct progress_pass){ mill->pass, .stop = 1 });

	eventfd_write(mill->gates[0], 1);
	eventfd_write(mill->gates[1], 1);
	while (collect_children(mill, false)) {
		for (unsigned int i = 0; i < mill->options.workers; i++) {
			if ((err || mill->status || now_ns() > until) && mill->workers[i].pid)
				kill(mill->workers[i].pid, SIGKILL);
		}
		wait_for_anything(mill, &tick);
	}
}

/* Before there is a segment: from here on a signal ends the run in order. */
int service_prepare(struct mill *mill)
{
	sigset_t ours;

	signal(SIGPIPE, SIG_IGN); /* a reader of the summary that leaves early must not end us */
	sigemptyset(&ours);
	sigaddset(&ours, SIGCHLD);
	sigaddset(&ours, SIGINT);
	sigaddset(&ours, SIGTERM);
	sigprocmask(SIG_BLOCK, &ours, NULL);
	mill->signal_fd = signalfd(-1, &ours, SFD_CLOEXEC | SFD_NONBLOCK);
	mill->done_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	mill->gates[0] = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	mill->gates[1] = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (mill->signal_fd < 0 || mill->done_fd < 0 || mill->gates[0] < 0 || mill->gates[1] < 0)
		return complain_system("cannot open an eventfd", -errno);
	return 0;
}

int service_run(struct mill *mill)
{
	uint64_t written = UINT64_MAX;
	const struct progress_pass none_yet = { 0 };
	int err = progress_set_pass(mill->progress, mill->pid, none_yet);
	int status;

	for (unsigned int i = 0; i < mill->options.workers && !err; i++)
		err = progress_begin(mill->progress, mill->pid, i);
	if (err)
		return complain("cannot begin", err);
	for (unsigned int i = 0; i < mill->options.workers && !mill->status; i++)
		start_worker(mill, i);
	wait_for_workers(mill);
	mill->started_ns = now_ns();
	mill->next_kill_ns = mill->started_ns + mill->options.kill_every_ns;
	while (another_pass(mill) && run_pass(mill) == 0) {
		uint64_t emitted = fnd_counter_read(mill->segment, FND_COUNTER_EMITTED);

		if (emitted != written) /* nothing new, nothing to write */
			events_write(mill);
		written = emitted;
	}
	end_workers(mill);
	status = events_write(mill);
	return mill->status ? mill->status : status;
}

/* Stay, and with us our agents, until told to go. */
void service_hold(struct mill *mill)
{
	while (!mill->stop)
		wait_for_anything(mill, NULL);
}
