/* SPDX-License-Identifier: MIT */
/* Lines of the log, byte for byte; what is escaped, cut and left out; the level filter. */
#include <foundation/log.h>

#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/* {"request_id":"r-1","step":-3,"ratio":0.5,"ok":true,"none":nil,"list":[1,"two"],"bin":<de ad>} */
static const char context[] = "\x87\xaarequest_id\xa3r-1\xa4step\xfd\xa5ratio\xcb\x3f\xe0\0\0\0\0\0\0"
			      "\xa2ok\xc3\xa4none\xc0\xa4list\x92\x01\xa3two\xa3"
			      "bin\xc4\x02\xde\xad";

static struct fnd_field text_of(const char *key, const char *text, size_t bytes)
{
	struct fnd_field f = { key, 0, { FND_VALUE_STR, (uint32_t)bytes, { .text = text } } };

	return f;
}

static struct fnd_field field(const char *key, const char *text)
{
	return text_of(key, text, strlen(text));
}

static struct fnd_field integer(const char *key, int64_t i)
{
	struct fnd_field f = { key, 0, { FND_VALUE_INT, 0, { .i = i } } };

	return f;
}

static struct fnd_field number(const char *key, double d)
{
	struct fnd_field f = { key, 0, { FND_VALUE_DOUBLE, 0, { .d = d } } };

	return f;
}

static struct fnd_log_line line_of(const char *message, size_t bytes)
{
	struct fnd_log_line line = { .time_ns = 1795430341123456789u, .level = FND_LOG_INFO, .pid = 12, .tid = 13,
				     .message = message, .message_bytes = bytes };

	return line;
}

#define HEAD_LOGFMT "time=2026-11-23T10:39:01.123456789Z level=info message="
#define HEAD_JSON "{\"time\":\"2026-11-23T10:39:01.123456789Z\",\"level\":\"info\",\"message\":"

/* Formats, and checks that JSON is JSON with no key twice. */
static const char *format(const struct fnd_log_line *line, enum fnd_log_form form, size_t size)
{
	static char buf[FND_LOG_LINE_MAX + 1];
	int64_t n = fnd_log_format(line, form, buf, size);
	json_error_t error;
	json_t *json;

	cr_assert_gt(n, 0);
	cr_assert_leq((size_t)n, size);
	cr_assert_eq(buf[n - 1], '\n');
	cr_assert_null(memchr(buf, '\n', (size_t)n - 1), "a newline within the line");
	buf[n - 1] = '\0';
	for (int64_t i = 0; i < n - 1; i++)
		cr_assert((unsigned char)buf[i] >= ' ' && buf[i] != 0x7f, "a control character within the line");
	if (form == FND_LOG_JSON) {
		json = json_loads(buf, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, &error);
		cr_assert(json, "%s: %s", error.text, buf);
		json_decref(json);
	}
	return buf;
}

static void expect(const struct fnd_log_line *line, const char *logfmt, const char *json)
{
	const char *got = format(line, FND_LOG_LOGFMT, FND_LOG_LINE_MAX);

	cr_expect_str_eq(got, logfmt, "logfmt: %s", got);
	got = format(line, FND_LOG_JSON, FND_LOG_LINE_MAX);
	cr_expect_str_eq(got, json, "JSON: %s", got);
}

Test(log, shortest_line)
{
	struct fnd_log_line line = line_of("started", 7);

	expect(&line, HEAD_LOGFMT "started pid=12 tid=13", HEAD_JSON "\"started\",\"pid\":12,\"tid\":13}");
	line.context = "\x80"; /* the empty map is no context */
	line.context_bytes = 1;
	line.trace_id = line.span_id = "";
	expect(&line, HEAD_LOGFMT "started pid=12 tid=13", HEAD_JSON "\"started\",\"pid\":12,\"tid\":13}");
	line.message_bytes = 0;
	expect(&line, HEAD_LOGFMT "\"\" pid=12 tid=13", HEAD_JSON "\"\",\"pid\":12,\"tid\":13}");
}

Test(log, whole_line)
{
	struct fnd_field fields[] = { field("user", "jo e"), integer("n", INT64_MIN), number("ms", 0.1),
				      number("inf", 1.0 / 0.0) };
	struct fnd_log_line line = line_of("it failed", 9);

	line.level = FND_LOG_ERROR;
	line.has_generation = 1;
	line.generation = 77;
	line.trace_id = "0af7651916cd43dd8448eb211c80319c";
	line.span_id = "b7ad6b7169203331";
	line.dropped = 3;
	line.context = context;
	line.context_bytes = sizeof(context) - 1;
	line.fields = fields;
	line.fields_count = 4;
	expect(&line,
	       "time=2026-11-23T10:39:01.123456789Z level=error message=\"it failed\" pid=12 tid=13 generation=77 "
	       "trace_id=0af7651916cd43dd8448eb211c80319c span_id=b7ad6b7169203331 log_dropped=3 "
	       "error_context.request_id=r-1 error_context.step=-3 error_context.ratio=0.5 error_context.ok=true "
	       "error_context.none=null error_context.list=\"[1,\\\"two\\\"]\" error_context.bin=dead "
	       "user=\"jo e\" n=-9223372036854775808 ms=0.1 inf=Infinity",
	       "{\"time\":\"2026-11-23T10:39:01.123456789Z\",\"level\":\"error\",\"message\":\"it failed\",\"pid\":12,"
	       "\"tid\":13,\"generation\":77,\"trace_id\":\"0af7651916cd43dd8448eb211c80319c\","
	       "\"span_id\":\"b7ad6b7169203331\",\"log_dropped\":3,\"error_context\":{\"request_id\":\"r-1\",\"step\":-3,"
	       "\"ratio\":0.5,\"ok\":true,\"none\":null,\"list\":[1,\"two\"],\"bin\":\"dead\"},\"user\":\"jo e\","
	       "\"n\":-9223372036854775808,\"ms\":0.1,\"inf\":\"Infinity\"}");
}

Test(log, time_is_what_gmtime_says)
{
	struct fnd_log_line line = line_of("m", 1);
	char want[64];

	for (uint64_t t = 0; t < 8000000000u; t += 10000019) {
		time_t seconds = (time_t)t;
		struct tm tm;

		gmtime_r(&seconds, &tm);
		strftime(want, sizeof(want), "time=%Y-%m-%dT%H:%M:%S.000000007Z ", &tm);
		line.time_ns = t * 1000000000u + 7;
		cr_assert_eq(strncmp(format(&line, FND_LOG_LOGFMT, 512), want, strlen(want)), 0, "%s", want);
	}
}

Test(log, what_is_escaped)
{
	static const char nasty[] = "a\"b\\c\nd\re\tf\0g\x1bh\x7fi\xc2\x85j\xe2\x80\xa8k=\xc3\xbc\xf0\x9f\x98\x80";
	static const char shown[] = "\"a\\\"b\\\\c\\nd\\re\\tf\\u0000g\\u001bh\\u007fi\\u0085j\\u2028k=\xc3\xbc\xf0\x9f\x98\x80\"";
	struct fnd_log_line line = line_of(nasty, sizeof(nasty) - 1);
	char logfmt[512], json[512];

	snprintf(logfmt, sizeof(logfmt), HEAD_LOGFMT "%s pid=12 tid=13", shown);
	snprintf(json, sizeof(json), HEAD_JSON "%s,\"pid\":12,\"tid\":13}", shown);
	expect(&line, logfmt, json);
}

Test(log, what_is_no_utf8)
{
	/* a lone continuation, a cut sequence, an overlong one, a surrogate, beyond U+10FFFF, a cut end */
	static const char bad[] = "\x80|\xc3|\xc0\xaf|\xed\xa0\x80|\xf4\x90\x80\x80|\xe2\x82";
#define R "\xef\xbf\xbd"
	static const char shown[] = "\"" R "|" R "|" R R "|" R R R "|" R R R R "|" R R "\"";
	struct fnd_log_line line = line_of(bad, sizeof(bad) - 1);
	char logfmt[512], json[512];

	snprintf(logfmt, sizeof(logfmt), HEAD_LOGFMT "%s pid=12 tid=13", shown);
	snprintf(json, sizeof(json), HEAD_JSON "%s,\"pid\":12,\"tid\":13}", shown);
	expect(&line, logfmt, json);
}

Test(log, keys_cannot_pretend)
{
	struct fnd_field fields[] = { field("level", "x"), field("error_context.a", "x"), field("a b=\"c\"\n", "x"),
				      field("", "x"), { NULL, 0, { FND_VALUE_NIL, 0, { .i = 0 } } } };
	struct fnd_log_line line = line_of("m", 1);

	line.fields = fields;
	line.fields_count = 5;
	expect(&line,
	       HEAD_LOGFMT "m pid=12 tid=13 field.level=x field.error_context.a=x a_b__c__=x _=x log_cut=1",
	       HEAD_JSON "\"m\",\"pid\":12,\"tid\":13,\"field.level\":\"x\",\"field.error_context.a\":\"x\","
			 "\"a b=\\\"c\\\"\\n\":\"x\",\"\":\"x\",\"log_cut\":1}");
}

Test(log, long_message_is_cut_and_marked)
{
	static char message[20000];
	struct fnd_field fields[] = { integer("n", 1) };
	struct fnd_log_line line = line_of(message, sizeof(message));
	const char *got;

	memset(message, 'm', sizeof(message));
	line.fields = fields;
	line.fields_count = 1;
	got = format(&line, FND_LOG_LOGFMT, 1024);
	cr_expect(strstr(got, "mmm\xe2\x80\xa6\" pid=12 tid=13 n=1 log_cut=1"), "%s", got);
	got = format(&line, FND_LOG_JSON, 1024);
	cr_expect(strstr(got, "mmm\xe2\x80\xa6\",\"pid\":12,\"tid\":13,\"n\":1,\"log_cut\":1}"), "%s", got);
	cr_expect_lt(strlen(got), 700);
}

/* Each length of values at each size of lines: whole, parseable, within the size, and marked when cut. */
Test(log, whatever_the_length_the_line_is_whole)
{
	static char value[3000];
	struct fnd_field fields[4];
	struct fnd_log_line line;

	for (size_t i = 0; i < sizeof(value); i++)
		value[i] = "a\"\xc3\xbc\n\xff=b "[i % 9];
	for (size_t length = 0; length <= sizeof(value); length += 37)
		for (size_t size = 512; size <= 4096; size += 509) {
			size_t least;
			const char *got;

			line = line_of(value, length);
			for (unsigned int i = 0; i < 4; i++)
				fields[i] = text_of((const char *[]){ "a", "b", "c", "d" }[i], value + i, length * 3 / 4);
			line.context = context;
			line.context_bytes = sizeof(context) - 1;
			line.fields = fields;
			line.fields_count = 4;
			least = 5 * length / 2; /* what the values have at least */
			for (int form = FND_LOG_LOGFMT; form <= FND_LOG_JSON; form++) {
				got = format(&line, (enum fnd_log_form)form, size);
				cr_assert(least < size || strstr(got, "log_cut"), "%zu in %zu: %s", length, size, got);
			}
		}
}

Test(log, damaged_context_does_no_harm)
{
	struct fnd_log_line line = line_of("m", 1);
	unsigned char bytes[sizeof(context)];
	unsigned int seed = 1;

	for (unsigned int round = 0; round < 20000; round++) {
		size_t n = sizeof(context) - 1;
		unsigned char *exact;

		memcpy(bytes, context, sizeof(context));
		bytes[rand_r(&seed) % n] = (unsigned char)rand_r(&seed);
		n -= (size_t)rand_r(&seed) % 4;
		exact = malloc(n); /* so that a sanitizer sees a byte too far */
		memcpy(exact, bytes, n);
		line.context = exact;
		line.context_bytes = n;
		format(&line, FND_LOG_LOGFMT, 512);
		if (fnd_log_format(&line, FND_LOG_JSON, (char[512]){ 0 }, 512) <= 0)
			cr_assert_fail("not formatted");
		free(exact);
	}
}

Test(log, refusals)
{
	struct fnd_log_line line = line_of("m", 1);
	struct fnd_log_options o = FND_LOG_OPTIONS;
	struct fnd_log *log = NULL;
	char buf[512];

	cr_expect_eq(fnd_log_format(&line, FND_LOG_JSON, buf, 511), -EINVAL);
	cr_expect_eq(fnd_log_format(&line, (enum fnd_log_form)2, buf, 512), -EINVAL);
	o.level = 8;
	cr_expect_eq(fnd_log_open(&o, &log), -EINVAL);
	cr_expect_null(log);
	cr_assert_eq(fnd_log_open(NULL, &log), 0);
	cr_expect_eq(fnd_log_add_fd(log, -1, NULL, NULL), -EBADF);
	cr_expect_eq(fnd_log_add_file(log, "/", NULL, NULL), -EISDIR);
	cr_expect_eq(fnd_log_add_file(log, "/nowhere/at.all", NULL, NULL), -ENOENT);
	cr_expect_eq(fnd_log_add_syslog(log, "/nowhere/log", NULL, NULL), -ENOENT);
	cr_expect_eq(fnd_log_write(log, FND_LOG_INFO, NULL, NULL, NULL, 0), -EINVAL);
	cr_expect_eq(fnd_log_write(log, FND_LOG_INFO, NULL, "nobody listens", NULL, 0), 0);
	for (unsigned int i = 0; i < FND_LOG_SINKS; i++)
		cr_expect_eq(fnd_log_add_fd(log, 1, NULL, NULL), 0);
	cr_expect_eq(fnd_log_add_fd(log, 1, NULL, NULL), -ENOSPC);
	fnd_log_close(log);
	fnd_log_close(NULL);
}

Test(log, level_names)
{
	cr_expect_eq(fnd_log_level_parse("warning"), FND_LOG_WARNING);
	cr_expect_eq(fnd_log_level_parse("warn"), FND_LOG_WARNING);
	cr_expect_eq(fnd_log_level_parse("err"), FND_LOG_ERROR);
	cr_expect_eq(fnd_log_level_parse("7"), FND_LOG_DEBUG);
	cr_expect_eq(fnd_log_level_parse("8"), -EINVAL);
	cr_expect_eq(fnd_log_level_parse(""), -EINVAL);
	cr_expect_eq(fnd_log_level_parse(NULL), -EINVAL);
	for (unsigned int i = 0; i <= FND_LOG_DEBUG; i++)
		cr_expect_eq(fnd_log_level_parse(fnd_log_level_name(i)), (int)i);
	cr_expect_null(fnd_log_level_name(8));
}

struct heard {
	unsigned int lines;
	struct fnd_log *log;
	char last[256];
	int result;
	uint64_t dropped;
};

static int hear(void *arg, const struct fnd_log_line *line)
{
	struct heard *h = arg;

	h->lines++;
	h->dropped = line->dropped;
	memcpy(h->last, line->message, line->message_bytes + 1);
	if (h->log) /* a line from within comes back to nobody */
		fnd_log_write(h->log, FND_LOG_EMERGENCY, NULL, "from within", NULL, 0);
	return h->result;
}

static int evaluated;

static int port(void)
{
	evaluated++;
	return 80;
}

Test(log, level_filter)
{
	struct fnd_sink_options quiet = FND_SINK_OPTIONS;
	struct heard all = { 0 }, errors = { 0 };
	struct fnd_log *log;

	quiet.level = FND_LOG_ERROR;
	cr_assert_eq(fnd_log_open(NULL, &log), 0);
	cr_assert_eq(fnd_log_add_callback(log, hear, &all, NULL, NULL), 0);
	cr_assert_eq(fnd_log_add_callback(log, hear, &errors, &quiet, NULL), 0);
	for (int i = 0; i <= FND_LOG_DEBUG; i++)
		fnd_log_printf(log, (enum fnd_log_level)i, "level %d", i);
	cr_expect_eq(all.lines, 7);
	cr_expect_eq(errors.lines, 4);
	cr_expect_str_eq(all.last, "level 6");
	cr_expect_eq(fnd_log_level_set(log, FND_LOG_DEBUG), 0);
	fnd_log_write(log, FND_LOG_DEBUG, NULL, "now", NULL, 0);
	cr_expect_eq(all.lines, 8);
	cr_expect_eq(fnd_log_level_set(log, (enum fnd_log_level)8), -EINVAL);
	cr_expect_eq(fnd_log_level_set(log, FND_LOG_WARNING), 0);
	if (fnd_log_enabled(log, FND_LOG_INFO))
		port();
	cr_expect_eq(evaluated, 0);
	cr_expect_not(fnd_log_enabled(NULL, FND_LOG_EMERGENCY));
	fnd_log_close(log);
}

Test(log, a_callback_that_refuses_or_logs)
{
	struct heard h = { 0 };
	struct fnd_sink_stats stats;
	struct fnd_log *log;

	cr_assert_eq(fnd_log_open(NULL, &log), 0);
	cr_assert_eq(fnd_log_add_callback(log, hear, &h, NULL, NULL), 0);
	h.result = 1;
	errno = 123;
	for (int i = 0; i < 5; i++)
		cr_expect_eq(fnd_log_write(log, FND_LOG_INFO, NULL, "no", NULL, 0), -ECANCELED);
	cr_expect_eq(errno, 123);
	h.result = 0;
	h.log = log;
	cr_expect_eq(fnd_log_write(log, FND_LOG_INFO, NULL, "yes", NULL, 0), 0);
	cr_expect_eq(h.lines, 6);
	cr_expect_eq(h.dropped, 5);
	fnd_log_stats(log, 0, &stats);
	cr_expect(stats.written == 1 && stats.dropped == 5 && stats.unannounced == 0);
	cr_expect_eq(fnd_log_stats(log, 1, &stats), -ENOENT);
	h.log = NULL;
	fnd_log_close(log);
}
