// SPDX-License-Identifier: MIT
/* What must hold of a segment when all but the caller were killed or have left. */
#include <stdio.h>

#include "kills_common.h"
#include "spans.h"

static const char *before; /* of every complaint */
static int bad;

#define WRONG(...)                                                            \
	do {                                                                  \
		fprintf(stderr, "%s", before);                                \
		fprintf(stderr, __VA_ARGS__);                                 \
		fprintf(stderr, " [%s]\n", fnd_error_detail());               \
		bad = 1;                                                      \
	} while (0)

static void table_adds_up(struct fnd_segment *seg, const char *name)
{
	struct fnd_table_stats s;
	struct fnd_table *t;
	int err = fnd_table_open(seg, name, NULL, &t);

	if (err) {
		WRONG("open of %s: %s", name, fnd_strerror(err));
		return;
	}
	err = fnd_table_check(t);
	if (err)
		WRONG("check of %s: %s", name, fnd_strerror(err));
	err = fnd_table_quiesce(t);
	if (err)
		WRONG("quiesce of %s: %s", name, fnd_strerror(err));
	err = fnd_table_check(t);
	if (err)
		WRONG("second check of %s: %s", name, fnd_strerror(err));
	fnd_table_stats_read(t, &s);
	if (s.allocated != s.live + s.retired + s.free_records)
		WRONG("%s: allocated %llu, live %llu, retired %llu, free %llu", name,
		      (unsigned long long)s.allocated, (unsigned long long)s.live,
		      (unsigned long long)s.retired, (unsigned long long)s.free_records);
	for (uint32_t i = 0; i < t->shards; i++)
		if (t->shard[i].lock)
			WRONG("%s: the lock of shard %u is stuck at %#x", name, i, t->shard[i].lock);
	fnd_table_close(t);
}

static void slots_are_free(struct fnd_segment *seg)
{
	unsigned int processes = 0, threads = 0;

	for (uint32_t i = 1; i <= seg->processes; i++)
		processes += fnd_slot_state(seg->process[i].word) != FND_SLOT_FREE;
	for (uint32_t i = 1; i <= seg->threads; i++) {
		threads += fnd_slot_state(seg->thread[i].word) != FND_SLOT_FREE;
		if (seg->thread[i].epoch)
			WRONG("thread slot %u is left inside a read section", i);
	}
	if (processes != 1 || threads != 1)
		WRONG("%u process slots and %u thread slots are taken, one each is mine", processes, threads);
}

static void span_is_leaked(struct fnd_segment *seg, uint64_t off)
{
	uint64_t use = ((struct fnd_shm_span *)(seg->base + off))->use;

	WRONG("the span at %llu (kind %u, table %u, shard %u) is leaked", (unsigned long long)off,
	      fnd_span_kind(use), fnd_span_table(use), fnd_span_shard(use));
}

int structure_check(struct fnd_segment *seg, const char *prefix)
{
	char name[FND_TABLE_NAME_MAX + 1];
	int err;

	before = prefix;
	bad = 0;
	for (unsigned int i = 0; i < FND_TABLES; i++)
		if (fnd_table_name(seg, i, name) == 0)
			table_adds_up(seg, name);
	err = fnd_segment_reap(seg, NULL);
	if (err)
		WRONG("reap: %s", fnd_strerror(err));
	if (seg->hdr->lock)
		WRONG("the segment's lock is stuck at %#x", seg->hdr->lock);
	slots_are_free(seg);
	err = spans_check(seg, span_is_leaked);
	if (err)
		WRONG("walk of the spans: %s", fnd_strerror(err));
	return bad;
}
