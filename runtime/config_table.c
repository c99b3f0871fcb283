// SPDX-License-Identifier: MIT
/* Which settings there are, and what may be written into each. */
#include "config_internal.h"
#include "utf8.h"

#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#define US UINT64_C(1000)
#define MS (1000 * US)
#define SEC (1000 * MS)
#define HOUR (3600 * SEC)
#define DAY (24 * HOUR)
#define KIB (UINT64_C(1) << 10)
#define MIB (UINT64_C(1) << 20)
#define GIB (UINT64_C(1) << 30)

#define NUMBER(name, fallback, min, max, what) { name, FND_CONFIG_NUMBER, "", fallback, min, max, NULL, what }
#define BYTES(name, fallback, min, max, what) { name, FND_CONFIG_BYTES, "bytes", fallback, min, max, NULL, what }
#define NS(name, fallback, min, max, what) { name, FND_CONFIG_DURATION, "ns", fallback, min, max, NULL, what }
#define PERCENT(name, fallback, max, what) { name, FND_CONFIG_PERCENT, "%", fallback, 0, max, NULL, what }
#define CHOICE(name, fallback, choices, what) { name, FND_CONFIG_CHOICE, "", fallback, 0, 0, choices, what }
#define TEXT(name, what) { name, FND_CONFIG_TEXT, "", "", 0, FND_CONFIG_TEXT_MAX, NULL, what }

/* By name, in order. */
static const struct fnd_config_definition definitions[] = {
	PERCENT("alert.error_rate", "20", 100000, "alert: errors a minute above the baseline's"),
	NS("alert.lookup_p99", "10000000", US, 60 * SEC, "alert: registry lookup, 99th percentile"),
	PERCENT("alert.participants", "50", 100000, "alert: participants above the baseline's"),
	BYTES("alert.tables", "500000000", MIB, 1024 * GIB, "alert: memory of all tables"),
	TEXT("contact.escalation", "whom to call when nobody else answers"),
	TEXT("contact.lead", "who leads the migration"),
	TEXT("contact.on_call", "who is on call"),
	NUMBER("journal.keep", "4", 1, FND_JOURNAL_KEEP_MAX, "rotated files of the state journal that are kept"),
	BYTES("journal.max_bytes", "16777216", 64 * KIB, GIB, "size at which the state journal is rotated"),
	NUMBER(FND_CONFIG_SAMPLING, "0", 0, 1000000,
	       "one lookup in so many is timed, by every worker; 0: only while a tracer is attached"),
	PERCENT("stage.1.lookup_p99", "5", 1000, "lookup, 99th percentile, beside the baseline"),
	NS("stage.1.watch", "14400000000000", 0, 365 * DAY, "how long stage 1 is watched"),
	NS("stage.2.lookup_p99", "5000000", US, 60 * SEC, "registry lookup, 99th percentile"),
	BYTES("stage.2.registry", "10000000", MIB, 32 * GIB, "memory of the registry"),
	NS("stage.2.watch", "86400000000000", 0, 365 * DAY, "how long stage 2 is watched"),
	NS("stage.3.line", "100000", US, SEC, "cost of a log line with its context"),
	NS("stage.3.watch", "86400000000000", 0, 365 * DAY, "how long stage 3 is watched"),
	PERCENT("stage.4a.duration", "1", 100, "how far a span's duration may be off"),
	NS("stage.4a.watch", "86400000000000", 0, 365 * DAY, "how long stage 4a is watched"),
	NUMBER("stage.4b.dropped", "0", 0, 1000000000, "sampled events that may be dropped"),
	NS("stage.4b.watch", "172800000000000", 0, 365 * DAY, "how long stage 4b is watched"),
	NUMBER("stage.5.refusals", "0", 0, 1000000000, "refusals of private state that are let pass"),
	NS("stage.5.watch", "172800000000000", 0, 365 * DAY, "how long stage 5 is watched"),
	NS("warn.context", "100000", US, SEC, "warning: cost of an error context operation"),
	NUMBER("warn.events_dropped", "0", 0, 1000000000, "warning: events dropped"),
	BYTES("warn.growth", "1000000", KIB, 32 * GIB, "warning: growth of all tables in an hour"),
	NUMBER("warn.lock_timeouts", "0", 0, 1000000000, "warning: waits for a lock that took too long"),
	NS("warn.lookup_p99", "5000000", US, 60 * SEC, "warning: registry lookup, 99th percentile"),
	NUMBER("warn.tables_damaged", "0", 0, 1000000000, "warning: tables missing or damaged"),
	PERCENT("warn.throughput", "50", 100, "warning: events a second under this part of the baseline's"),
	NUMBER("warn.versions_refused", "0", 0, 1000000000, "warning: libraries of another version refused"),
	CHOICE("watch.breach", "warn", "off|warn|rollback", "what a breach during a stage's watch time does"),
};

#define DEFINITIONS (sizeof(definitions) / sizeof(definitions[0]))

const struct fnd_config_definition *fnd_config_definition(unsigned int index)
{
	return index < DEFINITIONS ? &definitions[index] : NULL;
}

const struct fnd_config_definition *fnd_config_find(const char *name)
{
	for (size_t i = 0; i < DEFINITIONS; i++)
		if (strcmp(definitions[i].name, name) == 0)
			return &definitions[i];
	return NULL;
}

/* --- values --------------------------------------------------------------------------------------- */

struct suffix {
	const char *text;
	uint64_t factor;
};

static const struct suffix of_bytes[] = { { "", 1 }, { "K", KIB }, { "M", MIB }, { "G", GIB }, { NULL, 0 } };
static const struct suffix of_duration[] = { { "", 1 }, { "ns", 1 }, { "us", US }, { "ms", MS }, { "s", SEC },
					     { "m", 60 * SEC }, { "h", HOUR }, { "d", DAY }, { NULL, 0 } };
static const struct suffix of_percent[] = { { "", 1 }, { "%", 1 }, { NULL, 0 } };
static const struct suffix of_number[] = { { "", 1 }, { NULL, 0 } };

static const struct suffix *suffixes(enum fnd_config_type type)
{
	switch (type) {
	case FND_CONFIG_BYTES:
		return of_bytes;
	case FND_CONFIG_DURATION:
		return of_duration;
	case FND_CONFIG_PERCENT:
		return of_percent;
	default:
		return of_number;
	}
}

static int number(const struct fnd_config_definition *d, const char *text, char *ret_value)
{
	const char *at = text;
	uint64_t n = 0;
	bool over = false;

	for (; *at >= '0' && *at <= '9'; at++) {
		uint64_t digit = (uint64_t)(*at - '0');

		over = over || n > (UINT64_MAX - digit) / 10;
		n = n * 10 + digit;
	}
	if (at == text)
		return fnd_error_set(EINVAL, "config: %s takes a number, not \"%.40s\"", d->name, text);
	for (const struct suffix *s = suffixes(d->type); s->text; s++) {
		if (strcmp(at, s->text) != 0)
			continue;
		if (over || n > UINT64_MAX / s->factor || n * s->factor < d->min || n * s->factor > d->max)
			return fnd_error_set(ERANGE, "config: %s is %" PRIu64 " to %" PRIu64 "%s%s, not %.40s",
					     d->name, d->min, d->max, *d->unit ? " " : "", d->unit, text);
		snprintf(ret_value, FND_CONFIG_TEXT_MAX + 1, "%" PRIu64, n * s->factor);
		return 0;
	}
	return fnd_error_set(EINVAL, "config: %s does not know the unit \"%.20s\"", d->name, at);
}

static int choice(const struct fnd_config_definition *d, const char *text, char *ret_value)
{
	const size_t n = strlen(text);

	for (const char *at = d->choices; at; at = strchr(at, '|') ? strchr(at, '|') + 1 : NULL) {
		if (n == 0 || strcspn(at, "|") != n || memcmp(at, text, n) != 0)
			continue;
		memcpy(ret_value, text, n + 1);
		return 0;
	}
	return fnd_error_set(EINVAL, "config: %s is %s, not \"%.40s\"", d->name, d->choices, text);
}

/* Well-formed UTF-8 without control characters; those of ISO 6429 (U+0080 to U+009F) steer terminals too. */
static bool printable(const char *text)
{
	const unsigned char *p = (const unsigned char *)text, *end = p + strlen(text);
	size_t len;

	for (; p < end; p += len) {
		len = fnd_utf8_length(p, (size_t)(end - p));
		if (len == 0 || *p < ' ' || *p == 0x7f || (*p == 0xc2 && p[1] < 0xa0))
			return false;
	}
	return true;
}

int fnd_config_canonical(const struct fnd_config_definition *d, const char *text,
			 char ret_value[FND_CONFIG_TEXT_MAX + 1])
{
	if (strlen(text) > FND_CONFIG_TEXT_MAX)
		return fnd_error_set(E2BIG, "config: a value has at most %d bytes", FND_CONFIG_TEXT_MAX);
	if (d->type == FND_CONFIG_CHOICE)
		return choice(d, text, ret_value);
	if (d->type != FND_CONFIG_TEXT)
		return number(d, text, ret_value);
	if (!printable(text))
		return fnd_error_set(EINVAL, "config: %s takes UTF-8 without control characters", d->name);
	memcpy(ret_value, text, strlen(text) + 1);
	return 0;
}
