// SPDX-License-Identifier: MIT
/*
 * The verifier: passes over a segment, and what of their findings stays.
 *
 * A pass reads while participants may write. A shard is judged from two equal looks at its words, so that a
 * shard nobody changes in between is judged exactly. What is left is looked at again after a pause: a defect
 * is what every pass finds.
 */
#include "verify.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#ifndef XXH_INLINE_ALL
#define XXH_INLINE_ALL
#endif
#include <xxhash.h>

#include "error.h"
#include "header.h"
#include "name.h"
#include "segment_map.h"

#define PASSES 4
#define PAUSE_NS 20000000L

/* --- what the other files use --------------------------------------------------------------------- */

void fnd_verify_where(struct fnd_verifier *v, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(v->where, sizeof(v->where), fmt, ap);
	va_end(ap);
}

void fnd_verify_note(struct fnd_verifier *v, uint64_t offset, const char *remedy, const char *fmt, ...)
{
	struct fnd_note *n;
	va_list ap;

	if (v->notes >= FND_VERIFY_NOTES) {
		v->unlisted++;
		return;
	}
	if (v->notes == v->room) {
		size_t room = v->room ? v->room * 2 : 16;

		n = realloc(v->note, room * sizeof(*n));
		if (!n) {
			v->err = fnd_fail(ENOMEM, "no memory for %zu defects", room);
			return;
		}
		v->note = n;
		v->room = room;
	}
	n = &v->note[v->notes++];
	n->offset = offset;
	n->remedy = remedy;
	memcpy(n->where, v->where, sizeof(n->where));
	va_start(ap, fmt);
	vsnprintf(n->what, sizeof(n->what), fmt, ap);
	va_end(ap);
}

static bool read_failed(struct fnd_verifier *v, uint64_t off, size_t bytes, int err)
{
	if (err == -FND_E_CORRUPT)
		fnd_verify_note(v, off, FND_REMEDY_RESTORE, "%zu bytes at %" PRIu64 " are not there: the "
				"file was truncated, or the place is wrong", bytes, off);
	else
		v->err = err;
	return false;
}

bool fnd_verify_read(struct fnd_verifier *v, uint64_t off, void *buf, size_t bytes)
{
	int err = fnd_observer_read(&v->o, off, buf, bytes);

	return err ? read_failed(v, off, bytes, err) : true;
}

static const struct fnd_verify_page *page_at(struct fnd_verifier *v, uint64_t at)
{
	struct fnd_verify_page *p = &v->page[at / FND_VERIFY_PAGE % FND_VERIFY_PAGES];
	uint64_t end = v->backed > at ? v->backed - at : 0;

	if (p->at == at)
		return p;
	p->at = UINT64_MAX;
	p->have = (uint32_t)(end < FND_VERIFY_PAGE ? end : FND_VERIFY_PAGE);
	if (p->have == 0 || fnd_observer_read(&v->o, at, p->bytes, p->have))
		return NULL;
	p->at = at;
	return p;
}

bool fnd_verify_peek(struct fnd_verifier *v, uint64_t off, void *buf, size_t bytes)
{
	char *to = buf;

	for (size_t have = 0; have < bytes;) {
		uint64_t from = off + have, in = from % FND_VERIFY_PAGE;
		const struct fnd_verify_page *p = page_at(v, from - in);
		size_t n;

		if (!p || p->have <= in) /* grown since the pass began, or not there */
			return fnd_verify_read(v, off, buf, bytes);
		n = p->have - in < bytes - have ? p->have - in : bytes - have;
		memcpy(to + have, p->bytes + in, n);
		have += n;
	}
	return true;
}

void fnd_verify_forget(struct fnd_verifier *v)
{
	for (unsigned int i = 0; i < FND_VERIFY_PAGES; i++)
		v->page[i].at = UINT64_MAX;
}

void fnd_verify_zero(struct fnd_verifier *v, const void *bytes, size_t n, uint64_t off, const char *what)
{
	const unsigned char *p = bytes;

	/* a later minor version may have found a use for them */
	if (v->o.header.layout_minor > FND_LAYOUT_MINOR)
		return;
	for (size_t i = 0; i < n; i++) {
		if (!p[i])
			continue;
		fnd_verify_note(v, off + i, FND_REMEDY_UNUSED, "%s: byte %zu is 0x%02x, not 0", what, i, p[i]);
		return;
	}
}

bool fnd_verify_future(struct fnd_verifier *v, uint64_t epoch)
{
	uint64_t now;

	if (epoch <= v->epoch)
		return false;
	if (!fnd_verify_read(v, offsetof(struct fnd_shm_header, epoch), &now, sizeof(now)))
		return false;
	v->epoch = now;
	return epoch > now;
}

/* --- passes --------------------------------------------------------------------------------------- */

/* What a pass is about, in one number: the running words, the directory, and where each shard stands.
 * 0: it could not be read. */
static uint64_t fingerprint(struct fnd_verifier *v)
{
	const size_t from = offsetof(struct fnd_shm_header, epoch);
	struct fnd_shm_table *d = malloc(FND_TABLES * sizeof(*d));
	struct fnd_observed_table t;
	struct fnd_shm_header h;
	XXH3_state_t state;

	XXH3_64bits_reset(&state);
	if (!d || fnd_observer_read(&v->o, v->o.header.table_off, d, FND_TABLES * sizeof(*d)) ||
	    fnd_observer_read(&v->o, from, (char *)&h + from,
			      offsetof(struct fnd_shm_header, reserved) - from)) {
		free(d);
		return 0;
	}
	XXH3_64bits_update(&state, (char *)&h + from, offsetof(struct fnd_shm_header, reserved) - from);
	for (uint32_t i = 0; i < FND_TABLES; i++) {
		struct fnd_shm_shard sh;

		if (d[i].state != FND_TABLE_READY || fnd_observer_table(&v->o, i, &t))
			continue;
		XXH3_64bits_update(&state, &t.d, sizeof(t.d));
		for (uint32_t k = 0; k < t.d.shards; k++)
			if (!fnd_observer_read(&v->o, t.shard_off + k * sizeof(sh), &sh, sizeof(sh)))
				XXH3_64bits_update(&state, &sh, sizeof(sh));
	}
	free(d);
	return XXH3_64bits_digest(&state);
}

static void pass(struct fnd_verifier *v)
{
	v->notes = 0;
	v->unlisted = 0;
	memset(&v->result, 0, sizeof(v->result));
	fnd_verify_forget(v);
	fnd_verify_where(v, "header");
	v->err = fnd_observer_backed(&v->o, &v->backed);
	if (v->err || !fnd_verify_read(v, 0, &v->hot, sizeof(v->hot)))
		return;
	v->epoch = v->hot.epoch;
	fnd_verify_header(v);
	fnd_verify_slots(v);
	fnd_verify_space(v);
	free(v->span);
	v->span = NULL;
	v->spans = 0;
}

/* Of @old, what is in this pass too. Order and texts are of this one. */
static void keep_what_stays(struct fnd_verifier *v, const struct fnd_note *old, size_t olds)
{
	size_t kept = 0;

	for (size_t i = 0; i < v->notes; i++) {
		size_t k = 0;

		while (k < olds && (old[k].offset != v->note[i].offset || old[k].remedy != v->note[i].remedy))
			k++;
		if (k < olds)
			v->note[kept++] = v->note[i];
	}
	v->notes = kept;
}

static void passes(struct fnd_verifier *v)
{
	const struct timespec pause = { 0, PAUSE_NS };
	uint64_t before = fingerprint(v), after;

	pass(v);
	for (int i = 1; i < PASSES && v->notes && !v->err; i++) {
		struct fnd_note *old = v->note;
		size_t olds = v->notes;

		after = fingerprint(v);
		if (before && before == after)
			return; /* nobody wrote meanwhile: that pass was exact */
		nanosleep(&pause, NULL);
		v->note = NULL;
		v->room = 0;
		before = fingerprint(v);
		pass(v);
		keep_what_stays(v, old, olds);
		free(old);
	}
}

/* --- open ----------------------------------------------------------------------------------------- */

/* 0: the walk may go on; 1: the header alone is damage enough; negative: an error. */
static int open_header(struct fnd_verifier *v, const char *name)
{
	struct stat st;
	int err = fnd_segment_open_file(name, O_RDONLY, &v->o.fd, &st);

	if (err)
		return err;
	err = fnd_header_read(v->o.fd, &v->o.header);
	if (!err)
		err = fnd_header_check_fixed(&v->o.header, (uint64_t)st.st_size);
	if (err == -FND_E_CORRUPT) {
		fnd_verify_where(v, "header");
		fnd_verify_note(v, 0, FND_REMEDY_HEADER, "%s", fnd_error_detail());
		return v->err ? v->err : 1;
	}
	if (err) {
		close(v->o.fd);
		return err;
	}
	snprintf(v->o.name, sizeof(v->o.name), "%s", name);
	err = fnd_home_compare(&v->o.header);
	v->o.same_boot = err == 0 || err == -FND_E_PIDNS;
	v->o.same_pidns = err == 0;
	return 0;
}

static int hand_out(const struct fnd_verifier *v, int (*fn)(const struct fnd_defect *d, void *arg), void *arg)
{
	for (size_t i = 0; fn && i < v->notes; i++) {
		const struct fnd_defect d = { v->note[i].where, v->note[i].what, v->note[i].remedy,
					      v->note[i].offset };
		int err = fn(&d, arg);

		if (err)
			return err;
	}
	return 0;
}

int fnd_verify(const char *name, int (*fn)(const struct fnd_defect *d, void *arg), void *arg,
	       struct fnd_verify_result *ret_result)
{
	struct fnd_verifier *v = calloc(1, sizeof(*v));
	int err;

	if (!v)
		return fnd_fail(ENOMEM, "no memory for a verifier");
	err = open_header(v, name);
	if (err < 0) {
		free(v->note);
		free(v);
		return err;
	}
	if (err == 0)
		passes(v);
	close(v->o.fd);
	err = v->err;
	v->result.defects = v->notes + v->unlisted;
	if (!err)
		err = hand_out(v, fn, arg);
	if (!err && v->result.defects)
		err = fnd_fail(FND_E_CORRUPT, "%s: %s", v->note[0].where, v->note[0].what);
	if (ret_result && (!err || err == -FND_E_CORRUPT))
		*ret_result = v->result;
	free(v->note);
	free(v);
	return err;
}
