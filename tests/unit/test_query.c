// SPDX-License-Identifier: MIT
/* Criteria: what matches, what does not, what is refused; as text and as structures. */
#include <foundation/query.h>

#include <criterion/criterion.h>
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* {"capability": ["resize", "crop", 7], "health": "healthy", "load": 5, "low": -3, "share": 0.5, "on": true,
 *  "off": false, "none": nil, "empty": "", "resources": {"memory": 2048, "disk": {"free": 10}},
 *  "a.b": "whole", "whole": 2.0, "big": 18446744073709551615, "list": [], "bytes": bin "xy"} */
static const unsigned char agent[] =
	"\x8f"
	"\xaa" "capability" "\x93\xa6" "resize" "\xa4" "crop" "\x07"
	"\xa6" "health" "\xa7" "healthy"
	"\xa4" "load" "\x05"
	"\xa3" "low" "\xfd"
	"\xa5" "share" "\xcb\x3f\xe0\0\0\0\0\0\0"
	"\xa2" "on" "\xc3"
	"\xa3" "off" "\xc2"
	"\xa4" "none" "\xc0"
	"\xa5" "empty" "\xa0"
	"\xa9" "resources" "\x82\xa6" "memory" "\xcd\x08\x00" "\xa4" "disk" "\x81\xa4" "free" "\x0a"
	"\xa3" "a.b" "\xa5" "whole"
	"\xa5" "whole" "\xcb\x40\0\0\0\0\0\0\0"
	"\xa3" "big" "\xcf\xff\xff\xff\xff\xff\xff\xff\xff"
	"\xa4" "list" "\x90"
	"\xa5" "bytes" "\xc4\x02" "xy";
#define AGENT_BYTES (sizeof(agent) - 1)

static int ask(const char *text, const void *map, size_t bytes)
{
	const struct fnd_criterion *c;
	struct fnd_query *q;
	size_t n;
	int r = fnd_query_parse(text, &q);

	if (r)
		return r;
	c = fnd_query_criteria(q, &n);
	r = fnd_query_match(c, n, map, bytes);
	fnd_query_free(q);
	return r;
}

static const struct {
	const char *text;
	int result;
} cases[] = {
	{ "", 1 }, /* no criteria */
	{ "health=healthy", 1 },
	{ "health==healthy", 1 },
	{ "health = healthy", 1 },
	{ "health eq healthy", 1 },
	{ "health=\"healthy\"", 1 },
	{ "health='healthy'", 1 },
	{ "\"health\"=healthy", 1 },
	{ "health=Healthy", 0 },
	{ "health=health", 0 },
	{ "health!=degraded", 1 },
	{ "health!=healthy", 0 },
	{ "health ne degraded", 1 },
	{ "load=5", 1 },
	{ "load=5.0", 1 },
	{ "load=\"5\"", 0 }, /* a text is no number */
	{ "load!=\"5\"", 1 },
	{ "load<5", 0 },
	{ "load<=5", 1 },
	{ "load<5.5", 1 },
	{ "load>4", 1 },
	{ "load>-1", 1 },
	{ "load>=6", 0 },
	{ "load ge 5", 1 },
	{ "load gt 5", 0 },
	{ "load lt 6", 1 },
	{ "load le 4", 0 },
	{ "load<abc", 0 }, /* other types have no order */
	{ "low=-3", 1 },
	{ "low<0", 1 },
	{ "low>-4", 1 },
	{ "low<-3", 0 },
	{ "share=0.5", 1 },
	{ "share<1", 1 },
	{ "share>0", 1 },
	{ "share>=5e-1", 1 },
	{ "whole=2", 1 },
	{ "big=18446744073709551615", 1 },
	{ "big>18446744073709551614", 1 },
	{ "big=18446744073709551614", 0 },
	{ "on=true", 1 },
	{ "on=false", 0 },
	{ "on=1", 0 },
	{ "on='true'", 0 },
	{ "off=false", 1 },
	{ "off!=true", 1 },
	{ "none=nil", 1 },
	{ "none=null", 1 },
	{ "none missing", 0 }, /* it is there, and nil */
	{ "empty=\"\"", 1 },
	{ "empty=''", 1 },
	{ "empty<a", 1 },
	{ "health>a", 1 },
	{ "health<healthyy", 1 },
	{ "capability=resize", 1 },
	{ "capability=7", 1 },
	{ "capability=rotate", 0 },
	{ "capability!=rotate", 1 },
	{ "capability!=crop", 0 },
	{ "capability in rotate,crop", 1 },
	{ "capability in rotate, blur", 0 },
	{ "capability not_in rotate,blur", 1 },
	{ "capability not_in rotate,resize", 0 },
	{ "capability>a", 0 }, /* an array has no order */
	{ "list=x", 0 },
	{ "list!=x", 1 },
	{ "list missing", 0 },
	{ "health in healthy", 1 },
	{ "health in degraded,unhealthy", 0 },
	{ "health not_in degraded,unhealthy", 1 },
	{ "load in 4,5,6", 1 },
	{ "load in '5',4", 0 },
	{ "load not_in 1,2.5,true,nil,x", 1 },
	{ "nothing=x", 0 }, /* an attribute that is missing matches nothing else */
	{ "nothing!=x", 0 },
	{ "nothing not_in x,y", 0 },
	{ "nothing<1", 0 },
	{ "nothing missing", 1 },
	{ "health missing", 0 },
	{ "resources.memory=2048", 1 },
	{ "resources.memory>=2049", 0 },
	{ "resources.disk.free=10", 1 },
	{ "resources.disk.used missing", 1 },
	{ "resources missing", 0 },
	{ "resources=x", 0 },
	{ "resources!=x", 1 },
	{ "health.x missing", 1 },
	{ "a.b=whole", 1 },
	{ "bytes=xy", 0 }, /* bytes are no text */
	{ "health=healthy and load<6", 1 },
	{ "health=healthy and load<5", 0 },
	{ "health=healthy; load<6;capability=crop", 1 },
	{ "health=healthy;", 1 },
	{ "nothing missing and load=5", 1 },
	{ "nothing missing;load=4", 0 },
	{ "health=\"and\"", 0 },
	{ "health=heal\\thy", 1 }, /* the character as it is */
	{ "load=nan", 0 }, /* a text */
	{ "load=0x5", 0 },
	{ "health=-", 0 },
};

Test(query, matches)
{
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		cr_assert_eq(ask(cases[i].text, agent, AGENT_BYTES), cases[i].result, "%s: %d", cases[i].text,
			     ask(cases[i].text, agent, AGENT_BYTES));
}

Test(query, malformed_texts)
{
	static const char *const bad[] = {
		"health", "=x", "health=", "health= and load=5", "health==", "health=\"open", "health='open",
		"health~healthy", "health like x", "health=a b", "health=healthy load=5", "health=healthy and",
		"and", "; health=x", "health in", "health in ,", "health in a,", "health in ,a", "health not_in",
		"health missing x", "missing", "load<true", "load>nil", "load<=false", "health=healthy and and load=1",
		"\"\"=x", "a!x",
		"0123456789012345678901234567890123456789012345678901234567890123=x",
	};
	struct fnd_query *q = (void *)1;

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		cr_assert_eq(fnd_query_parse(bad[i], &q), -EINVAL, "%s", bad[i]);
		cr_assert(fnd_error_detail()[0], "%s", bad[i]);
		cr_assert_eq(q, (void *)1);
	}
	cr_assert_eq(fnd_query_parse(NULL, &q), -EINVAL);
}

Test(query, malformed_structures)
{
	static const struct fnd_value five = { .type = FND_VALUE_UINT, .v.u = 5 };
	static const struct fnd_value truth = { .type = FND_VALUE_BOOL, .v.u = 1 };
	struct fnd_value nan_value = { .type = FND_VALUE_DOUBLE }, raw = { .type = FND_VALUE_RAW };
	struct fnd_value nowhere = { .type = FND_VALUE_STR, .bytes = 3 };
	struct fnd_criterion many[FND_CRITERIA_MAX + 1];
	const struct fnd_criterion bad[] = {
		{ NULL, FND_CRITERION_EQ, 1, &five },
		{ "", FND_CRITERION_EQ, 1, &five },
		{ "a", (enum fnd_criterion_op)9, 1, &five },
		{ "a", (enum fnd_criterion_op)1000000, 1, &five },
		{ "a", FND_CRITERION_EQ, 0, NULL },
		{ "a", FND_CRITERION_EQ, 2, &five },
		{ "a", FND_CRITERION_EQ, 1, NULL },
		{ "a", FND_CRITERION_IN, 0, &five },
		{ "a", FND_CRITERION_IN, FND_CRITERION_VALUES_MAX + 1, &five },
		{ "a", FND_CRITERION_MISSING, 1, &five },
		{ "a", FND_CRITERION_LT, 1, &truth },
		{ "a", FND_CRITERION_EQ, 1, &nan_value },
		{ "a", FND_CRITERION_EQ, 1, &raw },
		{ "a", FND_CRITERION_EQ, 1, &nowhere },
	};

	nan_value.v.d = NAN;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		cr_assert_eq(fnd_query_check(&bad[i], 1), -EINVAL, "%zu", i);
	for (size_t i = 0; i <= FND_CRITERIA_MAX; i++)
		many[i] = (struct fnd_criterion){ "a", FND_CRITERION_EQ, 1, &five };
	cr_assert_eq(fnd_query_check(many, FND_CRITERIA_MAX), 0);
	cr_assert_eq(fnd_query_check(many, FND_CRITERIA_MAX + 1), -EINVAL);
	cr_assert_eq(fnd_query_check(NULL, 1), -EINVAL);
	cr_assert_eq(fnd_query_check(NULL, 0), 0);
}

/* Metadata cut short, or with any byte changed: an answer, and nothing read outside. */
Test(query, hostile_metadata)
{
	for (size_t n = 0; n <= AGENT_BYTES; n++) {
		unsigned char *copy = malloc(n ? n : 1); /* exactly as long: a sanitizer sees a byte too far */

		memcpy(copy, agent, n);
		cr_assert_eq(ask("health=healthy", copy, n), n == AGENT_BYTES);
		cr_assert_eq(ask("nothing missing", copy, n), n == AGENT_BYTES || n == 0);
		free(copy);
	}
	for (size_t i = 0; i < AGENT_BYTES; i++) {
		unsigned char *copy = malloc(AGENT_BYTES);

		memcpy(copy, agent, AGENT_BYTES);
		for (unsigned int b = 0; b < 256; b++) {
			int r;

			copy[i] = (unsigned char)b;
			r = ask("capability in x,crop and resources.disk.free>1 and bytes!=1", copy, AGENT_BYTES);
			cr_assert(r == 0 || r == 1);
		}
		free(copy);
	}
}

/* Texts of all kinds of bytes are parsed or refused. */
Test(query, hostile_texts)
{
	static const char alphabet[] = "a.=!<>;,'\"\\ \tin1-e and";
	uint64_t state = 88172645463325252u;

	for (unsigned int round = 0; round < 100000; round++) {
		char text[33];
		size_t n;

		state ^= state << 13, state ^= state >> 7, state ^= state << 17;
		n = state % sizeof(text);
		for (size_t i = 0; i < n; i++) {
			state ^= state << 13, state ^= state >> 7, state ^= state << 17;
			text[i] = alphabet[state % (sizeof(alphabet) - 1)];
		}
		text[n] = '\0';
		n = (size_t)ask(text, agent, AGENT_BYTES);
		cr_assert((int)n == 0 || (int)n == 1 || (int)n == -EINVAL, "%s", text);
	}
}
