// SPDX-License-Identifier: MIT
/* The library's own JSON: what it writes a real parser reads, what it accepts a real parser accepts. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <criterion/criterion.h>
#include <jansson.h>

#include "json.h"

TestSuite(json, .timeout = 60);

static bool valid(const char *text)
{
	return fnd_json_valid(text, strlen(text));
}

static bool jansson_reads(const char *text, size_t bytes)
{
	json_t *root = json_loadb(text, bytes, JSON_DECODE_ANY, NULL);

	json_decref(root);
	return root != NULL;
}

Test(json, accepts_and_refuses)
{
	static const char *const good[] = { "{}", "[]", "0", "-1.5e+3", "true", "null", "\"\"", "{\"a\":[1,{\"b\":null}]}",
					    "\"\\u00e9\\ud83d\\ude00\"", "\"\xc3\xa9\"", " { \"a\" : 1 } " };
	static const char *const bad[] = { "", " ", "{", "}", "{\"a\"}", "{\"a\":}", "{\"a\":1,}", "[1,]", "01", "1.", "-",
					   "tru", "nul", "abc", "\"", "\"\\\"", "\"\\x\"", "\"\\u12\"", "\"\\u0000\"",
					   "\"\\ud800\"", "\"\\udc00\"", "\"\xff\"", "\"\xc0\xaf\"", "\"\xed\xa0\x80\"",
					   "\"a\nb\"", "{}{}", "1 2", "{a:1}", "{\"a\":1 \"b\":2}", "[[[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]]]" };

	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
		cr_assert(valid(good[i]), "%s", good[i]);
		cr_assert(jansson_reads(good[i], strlen(good[i])), "%s", good[i]);
	}
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		cr_assert(!valid(bad[i]), "%s", bad[i]);
}

Test(json, any_bytes_come_back_from_a_real_parser)
{
	for (unsigned int c = 0; c < 65536; c++) {
		const char text[3] = { (char)c, (char)(c >> 8), 'z' };
		char buf[128], back[32];
		struct fnd_json j = { .buf = buf, .size = sizeof(buf) };
		json_t *root;

		fnd_json_raw(&j, "{");
		fnd_json_text_n(&j, "k", text, 3);
		fnd_json_raw(&j, "}");
		cr_assert(!j.full && fnd_json_valid(buf, j.used), "%x: %s", c, buf);
		root = json_loadb(buf, j.used, 0, NULL);
		cr_assert(root, "%x: %s", c, buf);
		cr_assert(fnd_json_get_text(buf, j.used, "k", back, sizeof(back)));
		cr_assert_str_eq(back, json_string_value(json_object_get(root, "k")));
		json_decref(root);
	}
}

Test(json, what_is_full_stays_whole)
{
	for (size_t size = 1; size < 40; size++) {
		char buf[48];
		struct fnd_json j = { .buf = buf, .size = size };

		memset(buf, '#', sizeof(buf));
		fnd_json_raw(&j, "{");
		fnd_json_text(&j, "key", "a\"\x01text");
		fnd_json_number(&j, "n", UINT64_MAX);
		for (size_t i = size; i < sizeof(buf); i++)
			cr_assert_eq(buf[i], '#', "byte %zu of %zu", i, size);
		cr_assert(j.full || size == 39);
	}
}

Test(json, members)
{
	static const char text[] = "{\"a\":1,\"b\":{\"a\":2},\"c\":\"x\\n\\u00e9\",\"\\u0064\":18446744073709551615,\"a\":9}";
	const size_t n = sizeof(text) - 1;
	char got[8], key[8];
	const char *at;
	uint64_t v = 7;
	size_t len;

	cr_assert(fnd_json_get_number(text, n, "a", &v) && v == 1, "the first of two");
	cr_assert(fnd_json_find(text, n, "b", &at, &len) && len == 7 && memcmp(at, "{\"a\":2}", 7) == 0);
	cr_assert(fnd_json_get_text(text, n, "c", got, sizeof(got)));
	cr_assert_str_eq(got, "x\n\xc3\xa9");
	cr_assert(fnd_json_get_text(text, n, "c", got, 4), "cut between characters");
	cr_assert_str_eq(got, "x\n");
	cr_assert(fnd_json_get_number(text, n, "d", &v) && v == UINT64_MAX);
	v = 7;
	cr_assert(!fnd_json_get_number(text, n, "c", &v) && v == 7, "untouched");
	cr_assert(!fnd_json_get_number("{\"a\":18446744073709551616}", 26, "a", &v) && v == 7);
	cr_assert(!fnd_json_get_number("{\"a\":-1}", 8, "a", &v));
	cr_assert(!fnd_json_find(text, n, "e", &at, &len));
	cr_assert(fnd_json_member(text, n, 3, key, sizeof(key), &at, &len));
	cr_assert_str_eq(key, "d");
	cr_assert(!fnd_json_member(text, n, 5, key, sizeof(key), &at, &len));
	cr_assert(!fnd_json_member("[1]", 3, 0, key, sizeof(key), &at, &len));
}

/* Every prefix of, and every byte in, a text that ends where memory does. */
Test(json, reads_nothing_past_the_end)
{
	static const char text[] = "{\"a\":[1,2.5e-7,true],\"b\":\"x\\u00e9\\ud83d\\ude00\xc3\xa9\",\"c\":{\"d\":null}}";
	const size_t n = sizeof(text) - 1, page = (size_t)sysconf(_SC_PAGESIZE);
	char *map = mmap(NULL, 2 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), got[16];
	unsigned int accepted = 0;
	const char *at;
	uint64_t v;
	size_t len;

	cr_assert(map != MAP_FAILED && mprotect(map + page, page, PROT_NONE) == 0);
	for (size_t cut = 0; cut <= n; cut++) {
		for (unsigned int c = 0; c < 256 * n; c += cut == n ? 1 : 251) {
			char *from = map + page - cut;
			size_t where = c / 256 % n;

			memcpy(from, text, cut);
			if (where < cut)
				from[where] = (char)c;
			if (fnd_json_valid(from, cut)) {
				accepted++;
				cr_assert(jansson_reads(from, cut), "%.*s", (int)cut, from);
			}
			fnd_json_find(from, cut, "c", &at, &len);
			fnd_json_get_text(from, cut, "b", got, sizeof(got));
			fnd_json_get_number(from, cut, "a", &v);
			fnd_json_member(from, cut, 2, got, sizeof(got), &at, &len);
		}
	}
	cr_assert_gt(accepted, 100);
	munmap(map, 2 * page);
}
