// SPDX-License-Identifier: MIT
#include "common.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <msgpack.h>

#include <foundation/error.h>
#include <foundation/facts.h>

#define JSON_DEPTH_MAX 32u
#define JOURNAL_LOCK_MS 500

int tool_exit_status(int err)
{
	switch (err < 0 ? -err : err) {
	case 0:
		return TOOL_FINE;
	case EINVAL:
	case E2BIG:
		return TOOL_USAGE;
	case FND_E_CORRUPT:
		return TOOL_CORRUPT;
	case ETIMEDOUT:
		return TOOL_TIMEOUT;
	case EACCES:
	case EPERM:
	case FND_E_FENCED:
		return TOOL_PERMISSION;
	default:
		return TOOL_CANNOT;
	}
}

int tool_fail(const char *prog, const char *what, int err)
{
	const char *detail = fnd_error_detail();

	fflush(stdout);
	if (detail[0])
		fprintf(stderr, "%s: %s: %s (%s)\n", prog, what, fnd_strerror(err), detail);
	else
		fprintf(stderr, "%s: %s: %s\n", prog, what, fnd_strerror(err));
	return tool_exit_status(err);
}

int tool_fail_errno(const char *prog, const char *what, int saved_errno)
{
	fflush(stdout);
	fprintf(stderr, "%s: %s: %s\n", prog, what, strerror(saved_errno));
	return tool_exit_status(saved_errno);
}

int tool_usage(const char *prog, const char *fmt, ...)
{
	va_list ap;

	fprintf(stderr, "%s: ", prog);
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fprintf(stderr, "\nTry '%s --help'.\n", prog);
	return TOOL_USAGE;
}

int tool_parse(const struct argp *argp, const char *prog, int argc, char **argv, void *input)
{
	char name[64];
	char *saved = argc > 0 ? argv[0] : NULL;
	error_t err;

	if (argc < 1)
		return TOOL_USAGE;
	argp_err_exit_status = TOOL_USAGE;
	snprintf(name, sizeof(name), "%s", prog);
	argv[0] = name; /* what argp calls the program in its messages */
	err = argp_parse(argp, argc, argv, 0, NULL, input);
	argv[0] = saved;
	return err ? TOOL_USAGE : 0;
}

const char *tool_segment(const char *option)
{
	const char *env;

	if (option)
		return option;
	env = getenv("FOUNDATION_SEGMENT");
	return env && env[0] ? env : NULL;
}

bool tool_number(const char *text, uint64_t max, uint64_t *ret_value)
{
	char *end;
	unsigned long long v;
	unsigned int shift = 0;

	if (text[0] < '0' || text[0] > '9') /* strtoull() would take a sign and blanks */
		return false;
	errno = 0;
	v = strtoull(text, &end, 10);
	if (errno)
		return false;
	if (*end == 'K' || *end == 'k')
		shift = 10;
	else if (*end == 'M' || *end == 'm')
		shift = 20;
	else if (*end == 'G' || *end == 'g')
		shift = 30;
	if (shift)
		end++;
	if (*end || v > UINT64_MAX >> shift || (uint64_t)v << shift > max)
		return false;
	*ret_value = (uint64_t)v << shift;
	return true;
}

int tool_finish(const char *prog, int status)
{
	if (fflush(stdout) == 0 && !ferror(stdout))
		return status;
	/* A reader that closed its end early (head) has what it wanted. */
	if (errno == EPIPE)
		return status;
	fprintf(stderr, "%s: standard output: %s\n", prog, strerror(errno));
	return TOOL_CANNOT;
}

void tool_leave(const char *prog, const char *segment, struct fnd_segment *seg)
{
	int err = fnd_facts_sync(seg, JOURNAL_LOCK_MS, NULL);

	/* what is damaged is for those to say who look for it */
	if (err && err != -FND_E_CORRUPT && err != -FND_E_FENCED)
		fprintf(stderr, "%s: %s: deaths of agents are not in the journal yet: %s\n", prog, segment,
			fnd_error_detail()[0] ? fnd_error_detail() : fnd_strerror(err));
	fnd_segment_detach(seg);
}

int tool_print_json(const char *prog, json_t *root)
{
	int err;

	if (!root)
		return tool_fail_errno(prog, "JSON", ENOMEM);
	err = json_dumpf(root, stdout, JSON_INDENT(2) | JSON_PRESERVE_ORDER);
	json_decref(root);
	if (!err)
		putchar('\n');
	return tool_finish(prog, TOOL_FINE);
}

/* Length of the UTF-8 sequence at @s, as RFC 3629 has it, or 0. */
static size_t utf8_sequence(const unsigned char *s, size_t left)
{
	size_t len = s[0] < 0x80 ? 1 : s[0] < 0xc2 ? 0 : s[0] < 0xe0 ? 2 : s[0] < 0xf0 ? 3 : 4;

	if (s[0] > 0xf4 || len == 0 || len > left)
		return 0;
	for (size_t i = 1; i < len; i++)
		if ((s[i] & 0xc0) != 0x80)
			return 0;
	if ((s[0] == 0xe0 && s[1] < 0xa0) || (s[0] == 0xed && s[1] > 0x9f) ||
	    (s[0] == 0xf0 && s[1] < 0x90) || (s[0] == 0xf4 && s[1] > 0x8f))
		return 0;
	return len;
}

json_t *tool_json_text(const void *text, size_t bytes)
{
	static const char replacement[] = "\xef\xbf\xbd";
	const unsigned char *s = text;
	char *out;
	size_t used = 0;
	json_t *ret;

	if (bytes == 0)
		return json_stringn_nocheck("", 0);
	out = malloc(bytes * 3);
	if (!out)
		return NULL;
	for (size_t i = 0; i < bytes;) {
		size_t len = utf8_sequence(s + i, bytes - i);

		memcpy(out + used, len ? (const char *)s + i : replacement, len ? len : 3);
		used += len ? len : 3;
		i += len ? len : 1;
	}
	ret = json_stringn_nocheck(out, used);
	free(out);
	return ret;
}

void tool_hex(const void *data, size_t bytes, char *buf)
{
	const unsigned char *s = data;

	for (size_t i = 0; i < bytes; i++)
		snprintf(buf + 2 * i, 3, "%02x", s[i]);
	buf[2 * bytes] = '\0';
}

static json_t *json_binary(const void *data, size_t bytes)
{
	char *hex = malloc(2 * bytes + 1);
	json_t *ret;

	if (!hex)
		return NULL;
	tool_hex(data, bytes, hex);
	ret = json_pack("{s:s}", "$bin", hex);
	free(hex);
	return ret;
}

static json_t *json_object_of(const msgpack_object *o, unsigned int depth);

static json_t *json_array_of(const msgpack_object_array *a, unsigned int depth)
{
	json_t *ret = json_array();

	for (uint32_t i = 0; ret && i < a->size; i++)
		json_array_append_new(ret, json_object_of(&a->ptr[i], depth + 1));
	return ret;
}

/* JSON has string keys only: any other key is written as its own JSON. */
static json_t *json_map_of(const msgpack_object_map *m, unsigned int depth)
{
	json_t *ret = json_object();

	for (uint32_t i = 0; ret && i < m->size; i++) {
		const msgpack_object *k = &m->ptr[i].key;
		json_t *key = json_object_of(k, depth + 1);
		char *text;

		if (json_is_string(key))
			text = strdup(json_string_value(key));
		else
			text = json_dumps(key, JSON_COMPACT | JSON_ENCODE_ANY);
		json_decref(key);
		if (text)
			json_object_set_new_nocheck(ret, text, json_object_of(&m->ptr[i].val, depth + 1));
		free(text);
	}
	return ret;
}

static json_t *json_object_of(const msgpack_object *o, unsigned int depth)
{
	json_t *ret = NULL;

	if (depth > JSON_DEPTH_MAX)
		return json_null();
	switch (o->type) {
	case MSGPACK_OBJECT_BOOLEAN:
		return json_boolean(o->via.boolean);
	case MSGPACK_OBJECT_POSITIVE_INTEGER:
		if (o->via.u64 <= INT64_MAX)
			return json_integer((json_int_t)o->via.u64);
		return json_real((double)o->via.u64);
	case MSGPACK_OBJECT_NEGATIVE_INTEGER:
		return json_integer(o->via.i64);
	case MSGPACK_OBJECT_FLOAT32:
	case MSGPACK_OBJECT_FLOAT64:
		ret = json_real(o->via.f64);
		return ret ? ret : json_null(); /* JSON knows no NaN */
	case MSGPACK_OBJECT_STR:
		return tool_json_text(o->via.str.ptr, o->via.str.size);
	case MSGPACK_OBJECT_BIN:
		return json_binary(o->via.bin.ptr, o->via.bin.size);
	case MSGPACK_OBJECT_EXT:
		return json_binary(o->via.ext.ptr, o->via.ext.size);
	case MSGPACK_OBJECT_ARRAY:
		return json_array_of(&o->via.array, depth);
	case MSGPACK_OBJECT_MAP:
		return json_map_of(&o->via.map, depth);
	default:
		return json_null();
	}
}

json_t *tool_json_msgpack(const void *data, size_t bytes)
{
	msgpack_unpacked unpacked;
	size_t off = 0;
	json_t *ret = NULL;

	msgpack_unpacked_init(&unpacked);
	if (msgpack_unpack_next(&unpacked, data, bytes, &off) == MSGPACK_UNPACK_SUCCESS && off == bytes)
		ret = json_object_of(&unpacked.data, 0);
	msgpack_unpacked_destroy(&unpacked);
	return ret;
}

char *tool_bytes(uint64_t bytes, char buf[24])
{
	static const char unit[] = "KMGTPE";
	double v = (double)bytes / 1024;
	size_t i = 0;

	if (bytes < 1024) {
		snprintf(buf, 24, "%" PRIu64 " B", bytes);
		return buf;
	}
	for (; v >= 1024 && unit[i + 1]; i++)
		v /= 1024;
	snprintf(buf, 24, "%.1f %ciB", v, unit[i]);
	return buf;
}

char *tool_time(uint64_t wall_ns, char buf[32])
{
	time_t seconds = (time_t)(wall_ns / 1000000000u);
	unsigned int ms = (unsigned int)(wall_ns / 1000000u % 1000u);
	struct tm tm;
	size_t len = 0;

	if (gmtime_r(&seconds, &tm))
		len = strftime(buf, 24, "%Y-%m-%dT%H:%M:%S", &tm);
	if (len)
		snprintf(buf + len, 32 - len, ".%03uZ", ms);
	else
		snprintf(buf, 32, "?");
	return buf;
}

char *tool_printable(const char *text, char *buf, size_t buf_bytes)
{
	const unsigned char *s = (const unsigned char *)text;
	size_t left = strlen(text);
	size_t used = 0;

	if (buf_bytes == 0)
		return buf;
	while (left) {
		size_t len = utf8_sequence(s, left);
		bool plain = len && *s >= 0x20 && *s != 0x7f && !(*s == 0xc2 && s[1] < 0xa0);

		if (used + (plain ? len : 1) >= buf_bytes)
			break;
		if (plain)
			memcpy(buf + used, s, len);
		else
			buf[used] = '?';
		used += plain ? len : 1;
		s += len ? len : 1;
		left -= len ? len : 1;
	}
	buf[used] = '\0';
	return buf;
}
