// SPDX-License-Identifier: MIT
/* Keys and values of the kill test: every byte of a value follows from its key and sequence. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kills.h"

/* One shard where everybody meets, grown far past its capacity; and several shards of smaller records. */
const struct fnd_table_options table_options[TABLES] = {
	{ .size = sizeof(struct fnd_table_options), .key_max = 24, .value_max = sizeof(struct value),
	  .capacity = 16 },
	{ .size = sizeof(struct fnd_table_options), .key_max = 32, .value_max = sizeof(struct value),
	  .capacity = 4096 },
};
const char *const table_names[TABLES] = { "one-shard", "shards" };

size_t key_make(uint32_t table, uint32_t k, char buf[32])
{
	int n = snprintf(buf, 32, "%u:%u", table, k);
	size_t bytes = 8 + mix(k) % 17;

	for (size_t i = (size_t)n; i < bytes; i++)
		buf[i] = '.';
	return bytes;
}

uint32_t key_number(uint32_t table, const void *key, size_t bytes)
{
	char text[32] = "", same[32];
	unsigned int t, k;

	if (bytes < 8 || bytes > 24)
		return KEYS;
	memcpy(text, key, bytes);
	if (sscanf(text, "%u:%u", &t, &k) != 2 || t != table || k >= KEYS)
		return KEYS;
	return key_make(table, k, same) == bytes && memcmp(key, same, bytes) == 0 ? k : KEYS;
}

size_t value_make(uint32_t table, uint32_t k, uint64_t seq, struct value *v)
{
	uint64_t from = mix((uint64_t)table << 48 | (uint64_t)k << 32 | seq);
	size_t words = 1 + from % VALUE_WORDS;

	v->key = (uint64_t)table << 32 | k;
	v->seq = seq;
	for (size_t i = 0; i < words; i++)
		v->word[i] = mix(from + i);
	return offsetof(struct value, word) + words * sizeof(v->word[0]);
}

bool value_sound(uint32_t table, uint32_t k, const void *value, size_t bytes, uint64_t *ret_seq)
{
	struct value is, want;

	if (bytes < offsetof(struct value, word) || bytes > sizeof(is))
		return false;
	memcpy(&is, value, bytes);
	*ret_seq = is.seq;
	return value_make(table, k, is.seq, &want) == bytes && memcmp(&is, &want, bytes) == 0;
}
