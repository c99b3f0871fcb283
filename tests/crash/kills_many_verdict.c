// SPDX-License-Identifier: MIT
/* The end of a round: what was committed is there, and the segment adds up. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "kills_many.h"

static int bad;
static unsigned char seen[CLAIMS];

#define WRONG(...)                                                            \
	do {                                                                  \
		fprintf(stderr, "seed %llu, round %u: ",                      \
			(unsigned long long)journal->seed, journal->round);   \
		fprintf(stderr, __VA_ARGS__);                                 \
		fprintf(stderr, " [%s]\n", fnd_error_detail());               \
		bad = 1;                                                      \
	} while (0)

/* Two tables of one and of four shards, made large enough; the spares grow from 8 records to KEYS. */
void table_describe(uint32_t table, struct fnd_table_options *opt, char name[32])
{
	static const uint64_t capacity[FIXED] = { 32, 1024 };

	*opt = (struct fnd_table_options){ .size = sizeof(*opt),
					   .key_max = 8,
					   .value_max = sizeof(struct value),
					   .capacity = table < FIXED ? capacity[table] : 8 };
	snprintf(name, 32, table < FIXED ? "hot-%u" : "spare-%u", table);
}

bool value_sound(uint64_t key, const void *value, size_t bytes, uint64_t *ret_seq)
{
	struct value is, want;

	if (bytes < offsetof(struct value, word) || bytes > sizeof(is))
		return false;
	memcpy(&is, value, bytes);
	*ret_seq = is.seq;
	return value_make(key, is.seq, &want) == bytes && memcmp(&is, &want, bytes) == 0;
}

void metadata_make(uint64_t key, uint64_t seq, unsigned char buf[METADATA_BYTES])
{
	const uint64_t number[3] = { key, seq, mix(key ^ seq << 24) };

	*buf++ = 0x83; /* msgpack: a map of three, from a small number to one of 64 bits */
	for (unsigned char i = 0; i < 3; i++) {
		*buf++ = i;
		*buf++ = 0xcf;
		for (int shift = 56; shift >= 0; shift -= 8)
			*buf++ = (unsigned char)(number[i] >> shift);
	}
}

bool metadata_sound(uint64_t key, const struct fnd_agent *a, uint64_t *ret_seq)
{
	unsigned char want[METADATA_BYTES];
	uint64_t seq = 0;

	if (a->metadata_bytes != METADATA_BYTES)
		return false;
	for (int i = 0; i < 8; i++)
		seq = seq << 8 | a->metadata[13 + i]; /* behind 0x83, 0, 0xcf, key, 1, 0xcf */
	*ret_seq = seq;
	metadata_make(key, seq, want);
	return memcmp(want, a->metadata, METADATA_BYTES) == 0;
}

static void keys_are_there(struct fnd_table *t, uint32_t number)
{
	for (uint32_t k = 0; k < KEYS; k++) {
		const struct key_journal *j = &journal->key[number][k];
		uint64_t seq = 0, key = key_of(number, k), is;
		struct value v;
		size_t bytes;
		int err = fnd_table_lookup(t, &key, sizeof(key), &v, sizeof(v), &bytes);

		if (err && err != -ENOENT)
			WRONG("key %u in table %u: %s", k, number, fnd_strerror(err));
		else if (!err && !value_sound(key, &v, bytes, &seq))
			WRONG("key %u in table %u: torn value", k, number);
		is = state_of(seq, true);
		if (err ? (j->done & 1) && (j->intent & 1) : is != j->done && is != j->intent)
			WRONG("key %u in table %u is %s, sequence %llu, committed %llx, intended %llx", k,
			      number, err ? "lost" : "there", (unsigned long long)seq,
			      (unsigned long long)j->done, (unsigned long long)j->intent);
	}
}

/* The owners have left or are dead: no name may be found once they are reaped. */
static void names_are_gone(struct fnd_segment *seg)
{
	struct fnd_registry *reg;
	int err = fnd_registry_open(seg, 0, &reg);
	int64_t n;

	if (!err)
		err = fnd_registry_reap(reg, NULL);
	if (err) {
		WRONG("reap of names: %s", fnd_strerror(err));
		return;
	}
	n = fnd_registry_count(reg);
	if (n)
		WRONG("%lld names are left of nobody", (long long)n);
	fnd_registry_close(reg);
}

static int one_event(const struct fnd_event *e, void *arg)
{
	uint64_t key, author;
	struct claim_journal *j;
	uint32_t k, worker;

	(void)arg;
	memcpy(&key, e->key, sizeof(key));
	k = (uint32_t)key;
	if (e->key_bytes != sizeof(key) || key >> 32 != 2000 || k >= CLAIMS || seen[k]++) {
		WRONG("an event whose key is none, or is there twice");
		return 0;
	}
	j = &journal->claim[k];
	if (!value_sound(key, e->event, e->event_bytes, &author))
		WRONG("claim %u: torn event", k);
	worker = (uint32_t)(author >> 48) - 1;
	if (worker >= WORKERS || (j->author ? author != j->author : author != j->intent[worker]))
		WRONG("claim %u: the event is of %llx, it was emitted by %llx", k,
		      (unsigned long long)author, (unsigned long long)j->author);
	return 0;
}

static void events_are_there(struct fnd_segment *seg)
{
	struct fnd_dedup *d;
	int err = fnd_dedup_open(seg, 0, &d);

	memset(seen, 0, sizeof(seen));
	if (!err)
		err = fnd_dedup_iterate(d, one_event, NULL);
	if (err) {
		WRONG("events: %s", fnd_strerror(err));
		return;
	}
	for (uint32_t k = 0; k < CLAIMS; k++)
		if ((journal->claim[k].settled || journal->claim[k].author) && !seen[k])
			WRONG("claim %u was settled and is lost", k);
	fnd_dedup_close(d);
}

int verdict(struct fnd_segment *seg)
{
	struct fnd_table_options opt;
	struct fnd_table *t;
	char name[32], prefix[64];
	int err;

	bad = 0;
	/* Making a table takes the segment's lock, and puts right what somebody left half made. */
	err = fnd_table_open(seg, "last", &(struct fnd_table_options){ .size = sizeof(opt), .key_max = 8,
								       .value_max = 8, .capacity = 8 }, &t);
	if (err)
		WRONG("the last table: %s", fnd_strerror(err));
	else
		fnd_table_close(t);
	for (uint32_t number = 0; number < FIXED + SPARES; number++) {
		table_describe(number, &opt, name);
		err = fnd_table_open(seg, name, &opt, &t);
		if (err) {
			WRONG("open of %s: %s", name, fnd_strerror(err));
			continue;
		}
		keys_are_there(t, number);
		fnd_table_close(t);
	}
	names_are_gone(seg);
	events_are_there(seg);
	snprintf(prefix, sizeof(prefix), "seed %llu, round %u: ", (unsigned long long)journal->seed,
		 journal->round);
	return bad | structure_check(seg, prefix);
}
