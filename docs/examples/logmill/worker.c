/* SPDX-License-Identifier: MIT */
/*
 * A worker. It may be killed at any instruction, and whoever takes its place goes on where it stopped.
 *
 * The order within a line is what makes that exact. The source is found, the template claimed, and only
 * then the line committed. Killed before the commit, the line is served again: its source is found, and
 * its template is suppressed, being claimed already. So a kill costs one suppressed claim at most.
 */
#include "mill.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <unistd.h>

/* Metadata are msgpack maps: {"capability": "log-worker"} and {"capability": "log-source"}. */
static const char worker_metadata[] = "\x81\xaa"
				      "capability"
				      "\xaa"
				      "log-worker";
static const char source_metadata[] = "\x81\xaa"
				      "capability"
				      "\xaa"
				      "log-source";

_Static_assert(SOURCE_MAX == FND_AGENT_NAME_MAX, "a source's name is an agent's name");

struct worker {
	struct mill *mill;
	unsigned int index;
	struct fnd_segment *segment;
	struct fnd_registry *registry;
	struct fnd_dedup *dedup;
	struct fnd_table *progress;
	struct progress done;
	struct mask_buffer mask;
};

/* A handle does not survive fork(): the parent's are freed here, and the segment attached anew. */
static void drop_parents_handles(struct mill *mill)
{
	fnd_table_close(mill->progress);
	fnd_dedup_close(mill->dedup);
	fnd_registry_close(mill->registry);
	fnd_segment_detach(mill->segment);
}

static int attach(struct worker *w)
{
	char name[FND_AGENT_NAME_MAX + 1];
	int err = fnd_segment_attach(w->mill->segment_name, NULL, &w->segment);

	if (!err)
		err = fnd_registry_open(w->segment, 0, &w->registry);
	if (!err)
		err = fnd_dedup_open(w->segment, 0, &w->dedup);
	if (!err)
		err = progress_open(w->segment, &w->progress);
	if (err)
		return err;

	/* My predecessor had this name; it is dead, so the name is free. */
	snprintf(name, sizeof(name), "%s/worker-%u", w->mill->service, w->index);
	err = fnd_registry_register(w->registry, name, 0, worker_metadata,
				    sizeof(worker_metadata) - 1, 0);
	if (err)
		return err;
	return progress_read(w->progress, w->mill->pid, w->index, &w->done);
}

static void detach(struct worker *w)
{
	mask_free(&w->mask);
	fnd_table_close(w->progress);
	fnd_dedup_close(w->dedup);
	fnd_registry_close(w->registry);
	fnd_segment_detach(w->segment);
}

/*
 * Look the source up, and register it if it is not there. It belongs to the service, not to me: it stays
 * when I am killed, and goes when the service does.
 */
static int find_source(struct worker *w, const char *name)
{
	for (;;) {
		struct fnd_agent agent;
		int err = fnd_registry_lookup(w->registry, name, &agent);

		w->done.lookups++;
		if (err != -ENOENT)
			return err;
		err = fnd_registry_register(w->registry, name, (uint32_t)w->mill->pid, source_metadata,
					    sizeof(source_metadata) - 1, 0);
		if (err == -ENOSPC) {
			w->done.refused++;
			return 0;
		}
		if (err && err != -EEXIST) /* a sibling was faster: as good */
			return err;
	}
}

static int serve_line(struct worker *w, const struct log_line *line)
{
	const struct logs *logs = &w->mill->logs;
	char source[SOURCE_MAX + 1];
	struct text message, template;

	line_parse(logs->files[line->file].name, logs_text(logs, line), source, &message);

	int err = find_source(w, source);

	if (!err)
		err = mask_message(message, &w->mask, &template);
	if (err)
		return err;

	/* Emitted, suppressed or overflowed: the library counts it. */
	err = events_claim(w->dedup, logs, line, template, w->mill->options.window_ns);
	return err < 0 ? err : 0;
}

static int commit(struct worker *w)
{
	return progress_commit(w->progress, w->mill->pid, w->index, &w->done);
}

/* My share is every workers-th line: long and short lines, busy and quiet hours go to all alike. */
static int work(struct worker *w, uint64_t pass)
{
	const struct mill *mill = w->mill;
	int err = 0;

	if (w->done.pass != pass) {
		w->done.pass = pass;
		w->done.next = w->index;
	}
	while (!err && w->done.next < mill->logs.nlines) {
		err = serve_line(w, &mill->logs.lines[w->done.next]);
		if (err)
			break;
		w->done.next += mill->options.workers;
		w->done.lines++;
		err = commit(w);
	}
	if (!err && w->index >= mill->logs.nlines) /* no share at all: still, the pass is done */
		err = commit(w);
	return err;
}

/* A gate is readable as long as it is open, so that no kill can take a wake-up away from others. */
static void wait_at_gate(const struct worker *w, uint64_t pass)
{
	struct pollfd gate = { .fd = w->mill->gates[pass & 1], .events = POLLIN };

	poll(&gate, 1, -1);
}

static int run(struct worker *w)
{
	eventfd_write(w->mill->done_fd, 1);
	for (;;) {
		struct progress_pass now;
		int err = progress_get_pass(w->progress, w->mill->pid, &now);

		if (err || now.stop)
			return err;
		if (now.pass) {
			err = work(w, now.pass);
			if (err)
				return err;
			eventfd_write(w->mill->done_fd, 1);
		}
		wait_at_gate(w, now.pass + 1);
	}
}

void worker_main(struct mill *mill, unsigned int index)
{
	struct worker w = { .mill = mill, .index = index };
	sigset_t none;
	int status = 0;

	/* No worker outlives its parent, not even when the parent died before this line. */
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != mill->pid)
		_exit(1);

	/* Ctrl-C reaches the whole group, but it is the parent who ends a run, in order. */
	signal(SIGINT, SIG_IGN);
	signal(SIGTERM, SIG_IGN);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	close(mill->signal_fd);

	drop_parents_handles(mill);

	int err = attach(&w);

	if (!err)
		err = run(&w);
	if (err) {
		char what[32];

		snprintf(what, sizeof(what), "worker %u", index);
		status = complain(what, err);
	}
	detach(&w);
	_exit(status);
}
