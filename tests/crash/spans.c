// SPDX-License-Identifier: MIT
/* What each span of a segment belongs to. */
#include <errno.h>

#include "spans.h"

/* Is the index span at @off published or waiting for its readers? */
static bool index_accounted(struct fnd_segment *seg, uint64_t use, uint64_t off)
{
	uint32_t shard = fnd_span_shard(use);
	struct fnd_table t;
	uint64_t at;

	if (fnd_table_bind(seg, fnd_span_table(use), &t) || shard >= t.shards)
		return false;
	if ((t.index[shard] & ~63ULL) == off)
		return true;
	at = t.shard[shard].old_index;
	for (int i = 0; at && at != off && i < 64; i++)
		at = ((struct fnd_shm_span *)(seg->base + at))->next;
	return at == off;
}

static bool span_accounted(struct fnd_segment *seg, uint64_t use, uint64_t off)
{
	struct fnd_shm_table *d = &seg->table[fnd_span_table(use) % FND_TABLES];

	if (fnd_span_table(use) >= FND_TABLES || d->state != FND_TABLE_READY)
		return false;
	if (fnd_span_kind(use) == FND_SPAN_ROOT)
		return d->root_off == off;
	if (fnd_span_kind(use) == FND_SPAN_INDEX)
		return index_accounted(seg, use, off);
	for (uint32_t i = 0; i < d->regions && i < FND_REGIONS; i++)
		if (d->region_off[i] == off)
			return true;
	return false;
}

int spans_check(struct fnd_segment *seg, void (*leaked)(struct fnd_segment *seg, uint64_t off))
{
	uint64_t off = 0;
	int err;

	while ((err = fnd_span_next(seg, &off)) == 0) {
		uint64_t use = ((struct fnd_shm_span *)(seg->base + off))->use;

		if (use != FND_SPAN_FREE && !span_accounted(seg, use, off))
			leaked(seg, off);
	}
	return err == -ENOENT ? 0 : err;
}
