// SPDX-License-Identifier: MIT
/*
 * shmlat: the true latency of lookups, over all processes that work on a segment.
 */
#include "shmlat.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "common.h"
#include "shmlat.skel.h"

#define SCAN_NS 500000000u /* new workers are looked for twice a second */

struct options {
	const char *segment;
	double duration; /* seconds, 0: until SIGINT */
	double interval; /* seconds, 0: one report at the end */
	bool json;
	bool verbose;
};

struct run {
	struct options opt;
	struct fnd_observer *observer;
	struct shmlat_bpf *bpf;
	struct cover cover;
	struct tally gone;   /* of processes that have ended */
	struct tally before; /* all there was at the last report */
	uint32_t sample_every;
	uint64_t lost_before;
	double start, reported; /* seconds of the monotonic clock */
	size_t told;            /* workers covered, as last said with -v */
};

static volatile sig_atomic_t stopped;

static void on_signal(int sig)
{
	(void)sig;
	stopped = 1;
}

static double now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

/* --- options -------------------------------------------------------------------------------------- */

static bool seconds(const char *text, double *ret_seconds)
{
	char *end;
	double v = strtod(text, &end);

	if (end == text || *end || !(v >= 0.01 && v <= 1e7))
		return false;
	*ret_seconds = v;
	return true;
}

static error_t parse(int key, char *arg, struct argp_state *state)
{
	struct options *o = state->input;

	switch (key) {
	case 's':
		o->segment = arg;
		return 0;
	case 'd':
		if (!seconds(arg, &o->duration))
			argp_error(state, "--duration: '%s' is not a number of seconds", arg);
		return 0;
	case 'i':
		if (!seconds(arg, &o->interval))
			argp_error(state, "--interval: '%s' is not a number of seconds", arg);
		return 0;
	case 'j':
		o->json = true;
		return 0;
	case 'v':
		o->verbose = true;
		return 0;
	default:
		return ARGP_ERR_UNKNOWN;
	}
}

static const struct argp_option argp_options[] = {
	{ "segment", 's', "NAME", 0, "Segment to look at: NAME or UID/NAME; or FOUNDATION_SEGMENT", 0 },
	{ "duration", 'd', "S", 0, "Stop after S seconds (default: at SIGINT or SIGTERM)", 0 },
	{ "interval", 'i', "S", 0, "Report every S seconds, each time what came since", 0 },
	{ "json", 'j', NULL, 0, "One JSON object a report", 0 },
	{ "verbose", 'v', NULL, 0, "Say when workers are covered, and what libbpf has to say", 0 },
	{ 0 }
};

static const struct argp argp = {
	.options = argp_options,
	.parser = parse,
	.doc = "Latency of table lookups in nanoseconds, over all processes that work on a segment."
	       "\vEach process times one lookup in 1024 itself and reports it to the kernel, where a BPF "
	       "program counts. Needs root.\n\n"
	       "Exit status: 0 fine, 1 a worker was not covered, 2 usage, 3 cannot (no such segment, no "
	       "probe, refused by the kernel), 4 damaged segment, 6 permission.",
};

/* --- each refusal its sentence ---------------------------------------------------------------------- */

__attribute__((format(printf, 2, 3))) static int refuse(int status, const char *fmt, ...)
{
	va_list ap;

	fflush(stdout);
	fprintf(stderr, PROG ": ");
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fprintf(stderr, "\n");
	return status;
}

static int refuse_load(int err)
{
	if (err == EPERM)
		return refuse(TOOL_PERMISSION,
			      "the kernel lets this user load no BPF program: run as root, with "
			      "CAP_SYS_ADMIN (a locked-down kernel refuses root too)");
	if (err == EACCES)
		return refuse(TOOL_CANNOT, "the kernel's verifier refused shmlat's BPF program. That is a "
					   "defect of shmlat: please report what -v prints");
	if (access("/sys/kernel/btf/vmlinux", F_OK))
		return refuse(TOOL_CANNOT,
			      "this kernel has no BTF (/sys/kernel/btf/vmlinux), which shmlat needs: "
			      "it is built without CONFIG_DEBUG_INFO_BTF");
	if (err == ENOSYS)
		return refuse(TOOL_CANNOT, "this kernel has no BPF");
	return refuse(tool_exit_status(err), "cannot load the BPF program: %s (-v shows more)",
		      strerror(err));
}

static int refuse_attach(const struct worker *w)
{
	switch (w->err) {
	case EACCES:
	case EPERM:
		return refuse(TOOL_PERMISSION,
			      "pid %" PRIu32 ": %s. Attaching wants CAP_SYS_ADMIN, looking at another "
			      "user's process CAP_SYS_PTRACE: run as root",
			      w->pid, w->reason);
	case ENOENT:
		return refuse(TOOL_CANNOT,
			      "pid %" PRIu32 ": %s: its libfoundation was built without probes",
			      w->pid, w->reason);
	case ENODEV:
		return refuse(TOOL_CANNOT,
			      "this kernel has no uprobes (CONFIG_UPROBE_EVENTS), which shmlat needs");
	default:
		return refuse(TOOL_CANNOT, "pid %" PRIu32 ": %s", w->pid, w->reason);
	}
}

/* --- one run ---------------------------------------------------------------------------------------- */

static int silent(enum libbpf_print_level level, const char *fmt, va_list ap)
{
	(void)level, (void)fmt, (void)ap;
	return 0;
}

static int open_segment(struct run *r, struct fnd_segment_status *ret_status)
{
	int err = fnd_observer_open(r->opt.segment, &r->observer);

	if (!err)
		err = fnd_observer_status(r->observer, ret_status);
	if (err == -EINVAL)
		return tool_usage(PROG, "'%s' is not a segment's name", r->opt.segment);
	if (err)
		return tool_fail(PROG, r->opt.segment, err);
	r->sample_every = ret_status->sample_always ? ret_status->sample_always
						    : ret_status->sample_every;
	if (r->sample_every == 0)
		r->sample_every = 1024;
	if (r->sample_every < 16)
		fprintf(stderr, PROG ": warning: one lookup in %" PRIu32 " is timed: below 16 the "
				     "timing itself slows the workers down\n",
			r->sample_every);
	return 0;
}

static int load(struct run *r, const struct fnd_segment_status *status)
{
	struct stat ns;
	int err;

	if (!r->opt.verbose)
		libbpf_set_print(silent);
	r->bpf = shmlat_bpf__open();
	if (!r->bpf)
		return tool_fail_errno(PROG, "the BPF program", errno);
	memcpy(&r->bpf->rodata->segment_id, status->uuid, sizeof(uint64_t));
	if (stat("/proc/self/ns/pid", &ns) == 0) {
		r->bpf->rodata->pidns_dev = ns.st_dev;
		r->bpf->rodata->pidns_ino = ns.st_ino;
	}
	err = shmlat_bpf__load(r->bpf);
	return err ? refuse_load(-err) : 0;
}

static size_t covered(struct run *r)
{
	size_t n = 0;

	for (size_t i = 0; i < r->cover.workers; i++)
		n += r->cover.worker[i].covered && r->cover.worker[i].present;
	if (r->opt.verbose && n != r->told)
		fprintf(stderr, PROG ": %zu worker%s covered\n", n, n == 1 ? "" : "s");
	r->told = n;
	return n;
}

/* The first look: a run that could not show anything ends here. */
static int attach(struct run *r, const struct fnd_segment_status *status)
{
	const struct worker *blind = NULL;
	int err;

	r->cover = (struct cover){
		.observer = r->observer,
		.program = r->bpf->progs.on_lookup,
		.other_namespace = !status->same_pid_namespace,
	};
	err = cover_scan(&r->cover);
	if (err)
		return tool_fail(PROG, r->opt.segment, err);
	for (size_t i = 0; i < r->cover.workers; i++) {
		const struct worker *w = &r->cover.worker[i];

		if (!w->covered && w->present)
			blind = w;
	}
	if (covered(r))
		return 0;
	if (blind)
		return refuse_attach(blind);
	fprintf(stderr, PROG ": nobody works on %s yet: waiting\n", r->opt.segment);
	return 0;
}

static int report(struct run *r)
{
	struct tally all = { 0 }, shown = { 0 };
	uint64_t lost = r->bpf->bss->lost;
	double at = now();
	struct report rep = {
		.segment = r->opt.segment,
		.cover = &r->cover,
		.tally = &shown,
		.seconds = at - r->reported,
		.sample_every = r->sample_every,
		.lost = lost - r->lost_before,
	};
	int status, err;

	err = tally_read(&all, r->bpf->maps.hists, NULL);
	if (!err)
		err = tally_add(&all, &r->gone);
	if (!err)
		err = tally_add(&shown, &all);
	if (err) {
		status = tool_fail_errno(PROG, "reading the histograms", -err);
		tally_free(&all);
		tally_free(&shown);
		return status;
	}
	tally_subtract(&shown, &r->before);
	status = r->opt.json ? report_json(&rep) : report_text(&rep);
	if (rep.lost)
		fprintf(stderr, PROG ": warning: %" PRIu64 " samples had no room in the kernel's map\n",
			rep.lost);
	if (r->bpf->bss->foreign)
		fprintf(stderr, PROG ": warning: %" PRIu64 " reports made no sense and were left out: another "
				     "version of the library?\n",
			(uint64_t)r->bpf->bss->foreign);
	tally_free(&shown);
	tally_free(&r->before);
	r->before = all;
	r->lost_before = lost;
	r->reported = at;
	return status;
}

/* Every half second: new workers, and the kernel's map rid of what ended. */
static void look_again(struct run *r)
{
	struct tally alive = { 0 };

	/* an error here is one of the moment: what is covered stays covered */
	(void)cover_scan(&r->cover);
	(void)covered(r);
	(void)tally_read(&alive, r->bpf->maps.hists, &r->gone);
	tally_free(&alive);
}

static int watch(struct run *r)
{
	double end = r->opt.duration > 0 ? r->start + r->opt.duration : 1e300;
	double next = r->opt.interval > 0 ? r->start + r->opt.interval : 1e300;
	int status = 0;

	while (!stopped && !status) {
		double until = end < next ? end : next, left = until - now();
		struct timespec ts = { .tv_nsec = SCAN_NS };

		if (left <= 0 && until == end)
			break;
		if (left <= 0) {
			status = report(r);
			fflush(stdout);
			next += r->opt.interval;
			continue;
		}
		if (left < SCAN_NS / 1e9)
			ts.tv_nsec = (long)(left * 1e9) + 1;
		nanosleep(&ts, NULL);
		look_again(r);
	}
	return status;
}

static int uncovered(const struct run *r)
{
	int status = 0;

	for (size_t i = 0; i < r->cover.workers; i++) {
		const struct worker *w = &r->cover.worker[i];

		if (w->covered || !w->present)
			continue;
		status = TOOL_FOUND;
		fprintf(stderr, PROG ": warning: pid %" PRIu32 " is not covered: %s\n", w->pid,
			w->reason);
	}
	return status;
}

static int run(struct run *r)
{
	struct sigaction sa = { .sa_handler = on_signal };
	struct fnd_segment_status seg;
	int status = open_segment(r, &seg);

	if (!status)
		status = load(r, &seg);
	if (status)
		return status;
	sigaction(SIGINT, &sa, NULL);
	sigaction(SIGTERM, &sa, NULL);
	status = attach(r, &seg);
	if (status)
		return status;
	r->start = r->reported = now();
	status = watch(r);
	if (status)
		return status;
	/* first detached, then read: what is printed is all there was */
	cover_detach(&r->cover);
	status = report(r);
	return status ? status : uncovered(r);
}

int main(int argc, char **argv)
{
	struct run r = { 0 };
	int status;

	argp_program_version = PROG " " FOUNDATION_VERSION;
	status = tool_parse(&argp, PROG, argc, argv, &r.opt);
	if (status)
		return status;
	r.opt.segment = tool_segment(r.opt.segment);
	if (!r.opt.segment)
		return tool_usage(PROG, "no segment: give --segment NAME or set FOUNDATION_SEGMENT");
	status = run(&r);
	cover_free(&r.cover);
	tally_free(&r.gone);
	tally_free(&r.before);
	shmlat_bpf__destroy(r.bpf);
	fnd_observer_close(r.observer);
	return tool_finish(PROG, status);
}
