// SPDX-License-Identifier: MIT
/* The kill test's end: nobody is left, and everything has to add up. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "internal.h"
#include "kills.h"

static int bad;

#define WRONG(...)                                                            \
	do {                                                                  \
		fprintf(stderr, "seed %llu, round %u: ",                      \
			(unsigned long long)journal->seed, journal->round);   \
		fprintf(stderr, __VA_ARGS__);                                 \
		fprintf(stderr, " [%s]\n", fnd_error_detail());               \
		bad = 1;                                                      \
	} while (0)

/* Every committed key, with its last committed value or the one its killed writer was putting in. */
static void keys_are_there(struct fnd_table *t, uint32_t number)
{
	for (uint32_t k = 0; k < KEYS; k++) {
		const struct key_journal *j = &journal->key[number][k];
		uint64_t seq = 0;
		struct value v;
		size_t bytes;
		char key[32];
		size_t n = key_make(number, k, key);
		int err = fnd_table_lookup(t, key, n, &v, sizeof(v), &bytes);

		if (err && err != -ENOENT)
			WRONG("key %u in %s: %s", k, table_names[number], fnd_strerror(err));
		else if (err && (j->done & 1) && (j->intent & 1))
			WRONG("key %u in %s is lost", k, table_names[number]);
		else if (!err && !value_sound(number, k, &v, bytes, &seq))
			WRONG("key %u in %s: torn value", k, table_names[number]);
		else if (!err && state_of(seq, true) != j->done && state_of(seq, true) != j->intent)
			WRONG("key %u in %s: sequence %llu, committed %llx, intended %llx", k,
			      table_names[number], (unsigned long long)seq, (unsigned long long)j->done,
			      (unsigned long long)j->intent);
	}
}

int verdict(struct fnd_segment *seg, struct fnd_table *const table[TABLES])
{
	struct fnd_table_options opt = {
		.size = sizeof(opt), .key_max = 8, .value_max = 8, .capacity = 16
	};
	char prefix[64];
	struct fnd_table *last;
	int err;

	snprintf(prefix, sizeof(prefix), "seed %llu, round %u: ", (unsigned long long)journal->seed,
		 journal->round);
	for (uint32_t t = 0; t < TABLES; t++)
		keys_are_there(table[t], t);
	/* Making a table takes the segment's lock, and puts right what somebody left half made. */
	err = fnd_table_open(seg, "last", &opt, &last);
	if (err)
		WRONG("the last table: %s", fnd_strerror(err));
	else
		fnd_table_close(last);
	bad |= structure_check(seg, prefix);
	for (uint32_t t = 0; t < TABLES; t++)
		keys_are_there(table[t], t);
	return bad;
}
