// SPDX-License-Identifier: MIT
/*
 * The verifier: the directory, and every byte between the first span and brk.
 *
 * Spans lie one behind the other. Each is free or has exactly one thing that refers to it: the directory (root,
 * regions), a shard's index word, or a shard's chain of retired indexes.
 */
#include "verify.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "error.h"
#include "internal.h"


static uint64_t lines(uint64_t n)
{
	return (n + FND_LINE - 1) & ~(uint64_t)(FND_LINE - 1);
}

/* --- the walk ------------------------------------------------------------------------------------- */

static void span_header(struct fnd_verifier *v, uint64_t off, const struct fnd_shm_span *s)
{
	unsigned int kind = fnd_span_kind(s->use);

	fnd_verify_zero(v, &s->pad0, sizeof(s->pad0), off + offsetof(struct fnd_shm_span, pad0), "unused bytes");
	fnd_verify_zero(v, &s->pad1, sizeof(s->pad1), off + offsetof(struct fnd_shm_span, pad1), "unused bytes");
	if (s->bytes / FND_LINE % 2 == 0)
		fnd_verify_note(v, off + offsetof(struct fnd_shm_span, bytes), FND_REMEDY_RESTORE,
				"%" PRIu64 " bytes: an odd number of lines is due", s->bytes);
	if (s->use == FND_SPAN_FREE)
		return; /* the rest is of its last life */
	if (kind < FND_SPAN_ROOT || kind > FND_SPAN_REGION || fnd_span_table(s->use) >= FND_TABLES ||
	    fnd_span_shard(s->use) >= (kind == FND_SPAN_INDEX  ? FND_SHARDS_MAX :
				       kind == FND_SPAN_REGION ? FND_REGIONS :
								 1))
		fnd_verify_note(v, off + offsetof(struct fnd_shm_span, use), FND_REMEDY_RESTORE,
				"used as 0x%016" PRIx64 ": no such kind, table or part", s->use);
	if (kind != FND_SPAN_INDEX &&
	    (s->buckets_log2 || s->overflow || s->overflow_used || s->stamp || s->next))
		fnd_verify_note(v, off + offsetof(struct fnd_shm_span, buckets_log2), FND_REMEDY_UNUSED,
				"no index, and has members of one");
}

static bool span_add(struct fnd_verifier *v, size_t *room, uint64_t off, const struct fnd_shm_span *s)
{
	if (v->spans == *room) {
		size_t more = *room ? *room * 2 : 64;
		struct fnd_met_span *p = realloc(v->span, more * sizeof(*p));

		if (!p) {
			v->err = fnd_fail(ENOMEM, "no memory for %zu spans", more);
			return false;
		}
		v->span = p;
		*room = more;
	}
	v->span[v->spans++] = (struct fnd_met_span){ off, s->bytes, s->use, false };
	return true;
}

static void walk(struct fnd_verifier *v)
{
	uint64_t off = v->o.header.span_off, end = v->hot.brk < v->backed ? v->hot.brk : v->backed;
	struct fnd_shm_span s;
	size_t room = 0;

	for (; off < end && !v->err; off += s.bytes) {
		fnd_verify_where(v, "span");
		if (end - off < sizeof(s) || fnd_observer_read(&v->o, off, &s, sizeof(s)) ||
		    s.magic != FND_SPAN_MAGIC || s.bytes < sizeof(s) || s.bytes % FND_LINE ||
		    s.bytes > end - off) {
			fnd_verify_note(v, off, FND_REMEDY_RESTORE, "no span header here, or one of an "
					"impossible size: the walk of the spans ends");
			break;
		}
		span_header(v, off, &s);
		if (!span_add(v, &room, off, &s))
			return;
	}
	v->walked = off;
}

static struct fnd_met_span *span_find(struct fnd_verifier *v, uint64_t off)
{
	size_t from = 0, to = v->spans;

	while (from < to) {
		size_t mid = from + (to - from) / 2;

		if (v->span[mid].off == off)
			return &v->span[mid];
		if (v->span[mid].off < off)
			from = mid + 1;
		else
			to = mid;
	}
	return NULL;
}

bool fnd_verify_claim(struct fnd_verifier *v, uint64_t off, uint64_t use, uint64_t from, const char *what)
{
	struct fnd_met_span *s = span_find(v, off);

	if (!s) {
		/* past brk as it was at the walk, or past the place where the walk ended */
		if (off >= v->walked && off < v->backed)
			return true;
		fnd_verify_note(v, from, FND_REMEDY_RESTORE, "%s at %" PRIu64 ": no span is there", what, off);
		return false;
	}
	if (s->use != use)
		fnd_verify_note(v, from, FND_REMEDY_RESTORE, "%s at %" PRIu64 ": that span is used as 0x%016"
				PRIx64 ", not 0x%016" PRIx64, what, off, s->use, use);
	else if (s->claimed)
		fnd_verify_note(v, from, FND_REMEDY_RESTORE, "%s at %" PRIu64 ": something else refers to that "
				"span too", what, off);
	s->claimed = true;
	return s->use == use;
}

void fnd_verify_excuse(struct fnd_verifier *v, uint64_t use)
{
	for (size_t i = 0; i < v->spans; i++)
		if (v->span[i].use == use)
			v->span[i].claimed = true;
}

/* --- the directory -------------------------------------------------------------------------------- */

static bool load_owners(struct fnd_verifier *v, struct fnd_verify_table *t)
{
	const struct fnd_shm_table *d = &t->t.d;
	uint64_t n = 0;

	for (uint32_t i = 0; i < d->regions; i++)
		n += d->region_extents[i];
	/* each region fits the segment, but hostile ones may lie over each other */
	if (n > v->backed / FND_LINE) {
		fnd_verify_note(v, v->o.header.table_off + t->t.number * sizeof(*d) +
				offsetof(struct fnd_shm_table, region_extents), FND_REMEDY_RESTORE,
				"%" PRIu64 " extents are more than there is room for", n);
		return false;
	}
	t->owner = malloc((n + 1) * sizeof(*t->owner));
	if (!t->owner) {
		v->err = fnd_fail(ENOMEM, "no memory for %" PRIu64 " extents", n);
		return false;
	}
	t->extents = 0;
	for (uint32_t i = 0; i < d->regions; i++) {
		uint64_t off = d->region_off[i] + sizeof(struct fnd_shm_span);

		t->base[i] = off + lines(4ULL * d->region_extents[i]);
		if (!fnd_verify_read(v, off, t->owner + t->extents, 4ULL * d->region_extents[i]))
			return false;
		for (uint32_t k = 0; k < d->region_extents[i]; k++)
			if (t->owner[t->extents + k] > d->shards)
				fnd_verify_note(v, off + 4ULL * k, FND_REMEDY_RESTORE, "owner of extent %" PRIu32
						" is %" PRIu32 ", there are %" PRIu32 " shards",
						t->extents + k, t->owner[t->extents + k], d->shards);
		t->extents += d->region_extents[i];
	}
	return true;
}

static bool claim_regions(struct fnd_verifier *v, const struct fnd_shm_table *d, uint32_t number)
{
	const uint64_t entry = v->o.header.table_off + (uint64_t)number * sizeof(*d);
	bool sound = true;

	for (uint32_t i = 0; i < d->regions; i++) {
		const uint64_t from = entry + offsetof(struct fnd_shm_table, region_off) + 8ULL * i;
		const uint64_t bytes = fnd_region_bytes(d->region_extents[i], d->extent_bytes);
		const struct fnd_met_span *s = span_find(v, d->region_off[i]);

		if (!fnd_verify_claim(v, d->region_off[i], fnd_span_use(FND_SPAN_REGION, number, i), from,
				      "region"))
			sound = false;
		/* a span that is reused is less than twice as large */
		else if (s && (bytes > s->bytes || s->bytes >= 2 * (bytes + 2 * FND_LINE)))
			fnd_verify_note(v, from, FND_REMEDY_RESTORE, "region %" PRIu32 " with %" PRIu32
					" extents needs %" PRIu64 " bytes, its span has %" PRIu64, i,
					d->region_extents[i], bytes, s->bytes);
	}
	return sound;
}

static void directory_rest(struct fnd_verifier *v, const struct fnd_shm_table *d, uint64_t entry)
{
	fnd_verify_zero(v, &d->pad0, sizeof(d->pad0), entry + offsetof(struct fnd_shm_table, pad0),
			"unused bytes");
	fnd_verify_zero(v, d->pad1, sizeof(d->pad1), entry + offsetof(struct fnd_shm_table, pad1),
			"unused bytes");
	if (d->regions == 0 || d->growths > d->regions)
		fnd_verify_note(v, entry + offsetof(struct fnd_shm_table, regions), FND_REMEDY_RESTORE,
				"%" PRIu32 " regions, grown %" PRIu64 " times", d->regions, d->growths);
}

static void one_table(struct fnd_verifier *v, uint32_t number)
{
	const uint64_t entry = v->o.header.table_off + (uint64_t)number * sizeof(struct fnd_shm_table);
	struct fnd_verify_table t = { 0 };
	int err = fnd_observer_table(&v->o, number, &t.t);

	fnd_verify_where(v, "table directory, entry %" PRIu32, number);
	if (err) {
		if (err == -FND_E_CORRUPT)
			fnd_verify_note(v, entry, FND_REMEDY_RESTORE, "%s", fnd_error_detail());
		else
			v->err = err;
		return;
	}
	fnd_verify_where(v, "table %.31s", t.t.d.name);
	v->result.tables++;
	directory_rest(v, &t.t.d, entry);
	fnd_verify_claim(v, t.t.d.root_off, fnd_span_use(FND_SPAN_ROOT, number, 0),
			 entry + offsetof(struct fnd_shm_table, root_off), "root");
	if (claim_regions(v, &t.t.d, number) && load_owners(v, &t))
		for (uint32_t i = 0; i < t.t.d.shards && !v->err; i++)
			fnd_verify_shard(v, &t, i);
	free(t.owner);
}

static void entry_state(struct fnd_verifier *v, uint32_t number, const struct fnd_shm_table *d)
{
	const uint64_t entry = v->o.header.table_off + (uint64_t)number * sizeof(*d);

	fnd_verify_where(v, "table directory, entry %" PRIu32, number);
	if (d->state > FND_TABLE_READY || (d->state == FND_TABLE_MAKING && v->spans_exact))
		fnd_verify_note(v, entry, FND_REMEDY_RESTORE, "state %" PRIu32 "%s", d->state,
				d->state > FND_TABLE_READY ? ": there is none such" :
							     ": being made, and nobody holds the lock");
}

static void same_names(struct fnd_verifier *v, const struct fnd_shm_table *d)
{
	for (uint32_t i = 0; i < FND_TABLES; i++) {
		for (uint32_t k = 0; k < i; k++) {
			if (d[i].state != FND_TABLE_READY || d[k].state != FND_TABLE_READY ||
			    strncmp(d[i].name, d[k].name, sizeof(d[i].name)) != 0)
				continue;
			fnd_verify_where(v, "table directory, entry %" PRIu32, i);
			fnd_verify_note(v, v->o.header.table_off + i * sizeof(*d), FND_REMEDY_RESTORE,
					"has the name of entry %" PRIu32, k);
		}
	}
}

/* --- what nothing refers to ----------------------------------------------------------------------- */

/* A growth that was cut short leaves an index until the shard is repaired: its lock still says so. */
static bool growth_left(struct fnd_verifier *v, uint64_t use)
{
	struct fnd_observed_table t;
	uint32_t lock;

	if (fnd_span_kind(use) != FND_SPAN_INDEX || fnd_observer_table(&v->o, fnd_span_table(use), &t) ||
	    fnd_span_shard(use) >= t.d.shards)
		return false;
	return fnd_verify_read(v, t.shard_off + fnd_span_shard(use) * sizeof(struct fnd_shm_shard), &lock,
			       sizeof(lock)) && lock;
}

static void unclaimed(struct fnd_verifier *v)
{
	fnd_verify_where(v, "span");
	for (size_t i = 0; i < v->spans; i++) {
		const struct fnd_met_span *s = &v->span[i];

		if (s->use == FND_SPAN_FREE || s->claimed || !v->spans_exact || growth_left(v, s->use))
			continue;
		fnd_verify_note(v, s->off + offsetof(struct fnd_shm_span, use), FND_REMEDY_RESTORE,
				"used as 0x%016" PRIx64 ", and nothing refers to it", s->use);
	}
}

void fnd_verify_space(struct fnd_verifier *v)
{
	struct fnd_shm_table *d = malloc(FND_TABLES * sizeof(*d));

	if (!d)
		v->err = fnd_fail(ENOMEM, "no memory for the directory");
	if (!v->err)
		walk(v);
	if (!v->err && fnd_verify_read(v, v->o.header.table_off, d, FND_TABLES * sizeof(*d))) {
		for (uint32_t i = 0; i < FND_TABLES && !v->err; i++) {
			if (d[i].state == FND_TABLE_READY)
				one_table(v, i);
			else
				entry_state(v, i, &d[i]);
		}
		same_names(v, d);
	}
	if (!v->err)
		unclaimed(v);
	free(d);
}
