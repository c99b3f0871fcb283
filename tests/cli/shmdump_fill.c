// SPDX-License-Identifier: MIT
/*
 * Makes a segment for the tests of shmdump, or writes to it for a while.
 *
 *   shmdump_fill NAME make RECORDS     tables words (plain), owned (owned by this process), empty (fixed)
 *   shmdump_fill NAME churn SECONDS    replaces and deletes in words until the time is over
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <foundation/segment.h>
#include <foundation/table.h>

static const struct fnd_table_options words = { sizeof(words), 0, 32, 200, 4000 };
static const struct fnd_table_options owned = { sizeof(owned), FND_TABLE_OWNED, 64, 80, 1000 };
static const struct fnd_table_options nothing = { sizeof(nothing), FND_TABLE_FIXED, 8, 8, 16 };

static int check(const char *what, int err)
{
	if (err)
		fprintf(stderr, "shmdump_fill: %s: %s (%s)\n", what, fnd_strerror(err), fnd_error_detail());
	return err;
}

static int put_word(struct fnd_table *t, unsigned int i, unsigned int round)
{
	unsigned char value[200];
	char key[32];

	snprintf(key, sizeof(key), "word-%05u", i);
	/* Every third is text, the others are any bytes. */
	memset(value, i % 3 ? (int)(128 + i % 100) : 'a' + (int)(i % 26), sizeof(value));
	memcpy(value, i % 3 ? "\xff\x00" : "ok", 2);
	value[2] = (unsigned char)('a' + round % 26);
	return fnd_table_upsert(t, key, strlen(key), value, 3 + i % 198);
}

static int put_owned(struct fnd_segment *seg, struct fnd_table *t, unsigned int i)
{
	struct {
		struct fnd_owner owner;
		char text[32];
	} v = { .owner = { 0 } };
	struct fnd_participant me;
	char key[32];
	int err = fnd_segment_self(seg, &me);

	if (err)
		return err;
	v.owner = (struct fnd_owner){ me.pid, me.slot, me.generation, 0 };
	snprintf(v.text, sizeof(v.text), "state of %u", i);
	snprintf(key, sizeof(key), "agent/%u", i);
	return fnd_table_upsert(t, key, strlen(key), &v, sizeof(v.owner) + strlen(v.text));
}

static int make(struct fnd_segment *seg, unsigned int records)
{
	struct fnd_table *w = NULL, *o = NULL, *e = NULL;

	if (check("words", fnd_table_open(seg, "words", &words, &w)) ||
	    check("owned", fnd_table_open(seg, "owned", &owned, &o)) ||
	    check("empty", fnd_table_open(seg, "empty", &nothing, &e)))
		return 1;
	for (unsigned int i = 0; i < records; i++)
		if (check("put", put_word(w, i, 0)))
			return 1;
	for (unsigned int i = 0; i < records / 10; i++)
		if (check("put", put_owned(seg, o, i)))
			return 1;
	fnd_table_close(w);
	fnd_table_close(o);
	fnd_table_close(e);
	return 0;
}

static int churn(struct fnd_segment *seg, unsigned int seconds)
{
	struct fnd_table *w;
	time_t end = time(NULL) + seconds;
	unsigned int i = 0;
	char key[32];

	if (check("words", fnd_table_open(seg, "words", NULL, &w)))
		return 1;
	for (; time(NULL) < end; i++) {
		if (check("put", put_word(w, i % 4000, i / 4000)))
			return 1;
		snprintf(key, sizeof(key), "word-%05u", (i * 7u) % 4000);
		fnd_table_delete(w, key, strlen(key));
	}
	fnd_table_close(w);
	return 0;
}

int main(int argc, char **argv)
{
	struct fnd_segment *seg;
	unsigned int n;
	int err;

	if (argc != 4)
		return 2;
	n = (unsigned int)strtoul(argv[3], NULL, 10);
	if (!strcmp(argv[2], "make"))
		err = check("create", fnd_segment_create(argv[1], NULL, &seg));
	else
		err = check("attach", fnd_segment_attach(argv[1], NULL, &seg));
	if (err)
		return 1;
	err = strcmp(argv[2], "make") ? churn(seg, n) : make(seg, n);
	fnd_segment_detach(seg);
	return err;
}
