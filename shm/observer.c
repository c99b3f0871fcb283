// SPDX-License-Identifier: MIT
/* Observers: reading, opening, and the segment as a whole. */
#include "observer.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "error.h"
#include "evidence.h"
#include "header.h"
#include "name.h"
#include "segment_map.h"

/* --- reading -------------------------------------------------------------------------------------- */

int fnd_observer_read(const struct fnd_observer *o, uint64_t off, void *buf, size_t bytes)
{
	char *to = buf;
	size_t have = 0;

	if (off > o->header.max_bytes || bytes > o->header.max_bytes - off)
		return fnd_fail(FND_E_CORRUPT, "%zu bytes at offset %" PRIu64 " are outside the segment",
				bytes, off);
	while (have < bytes) {
		ssize_t n = pread(o->fd, to + have, bytes - have, (off_t)(off + have));

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return fnd_fail(errno, "reading at offset %" PRIu64 " failed", off + have);
		if (n == 0)
			return fnd_fail(FND_E_CORRUPT, "the file ends at or before offset %" PRIu64,
					off + have);
		have += (size_t)n;
	}
	return 0;
}

int fnd_observer_backed(const struct fnd_observer *o, uint64_t *ret_bytes)
{
	struct stat st;

	if (fstat(o->fd, &st))
		return fnd_fail(errno, "fstat failed");
	*ret_bytes = (uint64_t)st.st_size < o->header.max_bytes ? (uint64_t)st.st_size :
								   o->header.max_bytes;
	return 0;
}

int fnd_observer_hot(const struct fnd_observer *o, struct fnd_observed_hot *ret_hot)
{
	const size_t from = offsetof(struct fnd_shm_header, epoch);
	const size_t to = offsetof(struct fnd_shm_header, reserved);
	struct fnd_shm_header h;
	int err = fnd_observer_read(o, from, (char *)&h + from, to - from);

	if (err)
		return err;
	ret_hot->epoch = h.epoch;
	ret_hot->safe = h.safe;
	ret_hot->brk = h.brk;
	ret_hot->destroying = h.destroying;
	ret_hot->snapshot_generation = h.snapshot_generation;
	ret_hot->process_high = h.process_high;
	ret_hot->thread_high = h.thread_high;
	ret_hot->sample_every = h.sample_every;
	ret_hot->sample_always = h.sample_always;
	if (ret_hot->process_high > o->header.processes)
		ret_hot->process_high = o->header.processes;
	if (ret_hot->thread_high > o->header.threads)
		ret_hot->thread_high = o->header.threads;
	return 0;
}

/* --- open ----------------------------------------------------------------------------------------- */

/* Where am I, seen from the participants? What cannot be learnt counts as elsewhere: nobody is called
 * dead then. */
static void find_home(struct fnd_observer *o)
{
	int elsewhere = fnd_home_compare(&o->header);

	o->same_boot = elsewhere == 0 || elsewhere == -FND_E_PIDNS;
	o->same_pidns = elsewhere == 0;
}

int fnd_observer_open(const char *name, struct fnd_observer **ret_observer)
{
	struct fnd_observer *o;
	struct stat st;
	int err;

	if (!ret_observer)
		return -EINVAL;
	o = calloc(1, sizeof(*o));
	if (!o)
		return fnd_fail(ENOMEM, "no memory for an observer");
	err = fnd_segment_open_file(name, O_RDONLY, &o->fd, &st);
	if (err) {
		free(o);
		return err;
	}
	err = fnd_header_read(o->fd, &o->header);
	if (!err)
		err = fnd_header_check(&o->header, (uint64_t)st.st_size);
	if (err) {
		close(o->fd);
		free(o);
		return err;
	}
	snprintf(o->name, sizeof(o->name), "%s", name);
	o->uid = st.st_uid;
	o->mode = st.st_mode & 07777;
	find_home(o);
	o->clock_offset_ns = fnd_clock_offset_ns();
	*ret_observer = o;
	return 0;
}

void fnd_observer_close(struct fnd_observer *o)
{
	if (!o)
		return;
	close(o->fd);
	free(o);
}

/* --- the whole segment ---------------------------------------------------------------------------- */

static int sum_counters(const struct fnd_observer *o, uint32_t thread_high, uint64_t ret_sum[FND_COUNTER_MAX])
{
	uint64_t counter[FND_CELL_COUNTERS];
	int err = 0;

	_Static_assert(FND_CELL_COUNTERS == FND_COUNTER_MAX, "one cell counter for each public one");
	memset(ret_sum, 0, FND_COUNTER_MAX * sizeof(*ret_sum));
	for (uint32_t i = 1; i <= thread_high && !err; i++) {
		err = fnd_observer_read(o, o->header.cell_off + (uint64_t)i * sizeof(struct fnd_shm_cell),
					counter, sizeof(counter));
		for (unsigned int k = 0; k < FND_COUNTER_MAX && !err; k++)
			ret_sum[k] += counter[k];
	}
	return err;
}

/* Backed bytes that belong to no table: free spans, and what is behind the last span. */
static int count_free(const struct fnd_observer *o, struct fnd_segment_status *s)
{
	uint64_t off = o->header.span_off;
	uint64_t end = s->brk < s->bytes ? s->brk : s->bytes;

	s->free_bytes = s->bytes - end;
	if (s->brk < off || s->brk > s->max_bytes)
		return fnd_fail(FND_E_CORRUPT, "brk is %" PRIu64 ", spans begin at %" PRIu64, s->brk, off);
	while (off < end) {
		struct fnd_shm_span span;
		int err = fnd_observer_span(o, off, 0, 0, &span);

		if (err)
			return err;
		if (span.use == FND_SPAN_FREE)
			s->free_bytes += span.bytes;
		off += span.bytes; /* at least a line further: bounded by the file */
	}
	return 0;
}

static int count_participant(const struct fnd_observed_participant *p, void *arg)
{
	struct fnd_segment_status *s = arg;

	if (p->liveness == FND_LIVENESS_DEAD)
		s->participants_dead++;
	else if (p->state == FND_PARTICIPANT_CLAIMING)
		s->participants_claiming++;
	else if (p->liveness == FND_LIVENESS_ALIVE)
		s->participants_live++;
	else
		s->participants_unknown++;
	s->threads += p->threads;
	return 0;
}

static void describe_header(const struct fnd_observer *o, const struct fnd_observed_hot *hot,
			    struct fnd_segment_status *s)
{
	const struct fnd_shm_header *h = &o->header;

	memcpy(s->name, o->name, sizeof(s->name));
	s->uid = o->uid;
	s->mode = o->mode;
	memcpy(s->uuid, h->uuid, sizeof(s->uuid));
	s->layout_major = h->layout_major;
	s->layout_minor = h->layout_minor;
	memcpy(s->creator_version, h->creator_version, sizeof(h->creator_version));
	s->feature_compat = h->feature_compat;
	s->feature_ro_compat = h->feature_ro_compat;
	s->feature_incompat = h->feature_incompat;
	s->fenced = !!(h->feature_incompat & FND_INCOMPAT_FENCED);
	s->created_ns = h->created_ns;
	s->max_bytes = h->max_bytes;
	s->default_capacity = h->default_capacity;
	s->process_slots = h->processes;
	s->thread_slots = h->threads;
	s->same_boot = o->same_boot;
	s->same_pid_namespace = o->same_pidns;
	s->identity_rule = (uint32_t)fnd_evidence_rule();
	s->brk = hot->brk;
	s->epoch = hot->epoch;
	s->safe = hot->safe;
	s->snapshot_generation = hot->snapshot_generation;
	s->sample_every = hot->sample_every;
	s->sample_always = hot->sample_always;
	s->destroying = (uint32_t)hot->destroying;
}

int fnd_observer_status(struct fnd_observer *o, struct fnd_segment_status *ret_status)
{
	struct fnd_segment_status s = { 0 };
	struct fnd_observed_table table;
	struct fnd_observed_hot hot;
	int err;

	if (!o || !ret_status)
		return -EINVAL;
	err = fnd_observer_hot(o, &hot);
	if (!err)
		err = fnd_observer_backed(o, &s.bytes);
	if (err)
		return err;
	describe_header(o, &hot, &s);
	err = sum_counters(o, hot.thread_high, s.counter);
	if (!err)
		err = fnd_observer_participants(o, count_participant, &s);
	if (!err)
		err = count_free(o, &s);
	for (uint32_t i = 0; i < FND_TABLES && !err; i++)
		s.tables += fnd_observer_table(o, i, &table) != -ENOENT;
	if (!err)
		*ret_status = s;
	return err;
}
