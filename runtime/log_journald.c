// SPDX-License-Identifier: MIT
/*
 * systemd's journal, in its native fields. libsystemd waits when the journal does, so lines go through a
 * queue: each as its fields, every one behind its length. The library is loaded by the first sink that wants
 * it: a process that does not log to the journal neither needs it nor carries it.
 */
#include "log_internal.h"

#include <errno.h>
#include <string.h>

#ifdef FND_HAVE_SYSTEMD
#define SD_JOURNAL_SUPPRESS_LOCATION
#include <dlfcn.h>
#include <sys/uio.h>
#include <systemd/sd-journal.h>
#include <unistd.h>

#define SOCKET "/run/systemd/journal/socket"
#define FIELDS_MAX 256
#define NAME_MAX_BYTES 64

/* --- encoding, in the worker ---------------------------------------------------------------------- */

struct encoder {
	struct fnd_log_out o;
	size_t begun; /* where the length of the field on its way stands */
	unsigned int fields;
	size_t value_max;
};

static bool begin(struct encoder *e, const char *name)
{
	static const char length[sizeof(uint32_t)];

	e->begun = e->o.used;
	return e->fields < FIELDS_MAX && fnd_log_put(&e->o, length, sizeof(length)) &&
	       fnd_log_put_text(&e->o, name) && fnd_log_put(&e->o, "=", 1);
}

/* @ok: it was added whole; otherwise it was not added at all. */
static void end(struct encoder *e, bool ok)
{
	uint32_t n;

	if (!ok) {
		e->o.used = e->begun;
		e->o.cut++;
		return;
	}
	n = (uint32_t)(e->o.used - e->begun - sizeof(n));
	memcpy(e->o.at + e->begun, &n, sizeof(n));
	e->fields++;
}

static void text(struct encoder *e, const char *name, const char *s)
{
	end(e, begin(e, name) && fnd_log_put_value(&e->o, s, strlen(s), FND_QUOTE_NONE, e->value_max));
}

static void number(struct encoder *e, const char *name, uint64_t n)
{
	end(e, begin(e, name) && fnd_log_put_u64(&e->o, n));
}

/* The names that the journal or this file gives a meaning of their own. */
static bool is_taken(const char *name)
{
	static const char *const taken[] = { "MESSAGE", "MESSAGE_ID", "PRIORITY", "SYSLOG_IDENTIFIER", "SYSLOG_PID",
					     "SYSLOG_FACILITY", "TID", "CODE_FILE", "CODE_FUNC", "CODE_LINE",
					     "TRACE_ID", "SPAN_ID", "FOUNDATION_TIME", "FOUNDATION_GENERATION",
					     "FOUNDATION_SUPPRESSED", "FOUNDATION_CUT", "ERROR_CONTEXT" };

	for (size_t i = 0; i < sizeof(taken) / sizeof(taken[0]); i++)
		if (strcmp(taken[i], name) == 0)
			return true;
	return strncmp(name, "ERROR_CONTEXT_", 14) == 0;
}

/* Capitals, digits and '_', at most 64, beginning with a capital: the journal ignores any other. */
static void name_of(const char *prefix, const char *key, size_t n, char name[NAME_MAX_BYTES + 1])
{
	size_t used = strlen(prefix);

	memcpy(name, prefix, used);
	for (size_t i = 0; i < n && used < NAME_MAX_BYTES; i++) {
		char c = key[i];

		name[used++] = c >= 'a' && c <= 'z' ? (char)(c - 32) :
			       (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ? c : '_';
	}
	name[used] = '\0';
}

static void value(struct encoder *e, const char *name, const struct fnd_value *v)
{
	struct fnd_log_out o;
	size_t from;
	bool ok = begin(e, name);

	if (ok && v->type == FND_VALUE_STR) {
		end(e, fnd_log_put_value(&e->o, v->v.text, v->bytes, FND_QUOTE_NONE, e->value_max));
		return;
	}
	from = e->o.used;
	o = e->o;
	ok = ok && fnd_log_put_json(&o, v, e->value_max);
	if (ok && o.used - from >= 2 && o.at[from] == '"') { /* JSON's quotes go */
		memmove(o.at + from, o.at + from + 1, o.used - from - 2);
		o.used -= 2;
	}
	if (ok)
		e->o = o;
	end(e, ok);
}

static int context_field(const struct fnd_field *f, void *arg)
{
	char name[NAME_MAX_BYTES + 1];

	name_of("ERROR_CONTEXT_", f->key, f->key_bytes, name);
	value(arg, name, &f->value);
	return 0;
}

static void own_fields(struct encoder *e, const struct fnd_log_line *line)
{
	char name[NAME_MAX_BYTES + 1];

	for (size_t i = 0; i < line->fields_count; i++) {
		const struct fnd_field *f = &line->fields[i];
		size_t n = !f->key ? 0 : f->key_bytes ? f->key_bytes : strlen(f->key);

		if (n == 0) {
			e->o.cut++;
			continue;
		}
		name_of("", f->key, n, name);
		if (is_taken(name) || name[0] == '_' || (name[0] >= '0' && name[0] <= '9'))
			name_of("FIELD_", f->key, n, name);
		value(e, name, &f->value);
	}
}

static void context(struct encoder *e, const struct fnd_log_line *line)
{
	struct fnd_value map = { FND_VALUE_RAW, (uint32_t)line->context_bytes, { .text = line->context } };
	struct fnd_log_out o;
	bool ok;

	if (line->context_bytes == 0 || (line->context_bytes == 1 && *map.v.text == (char)0x80))
		return;
	ok = begin(e, "ERROR_CONTEXT");
	o = e->o;
	ok = ok && fnd_log_put_json(&o, &map, e->value_max);
	if (ok)
		e->o = o;
	end(e, ok);
	if (fnd_map_iterate(line->context, line->context_bytes, context_field, e) != 0)
		e->o.cut++;
}

size_t fnd_log_journald_encode(const struct fnd_log_sink *s, const struct fnd_log_line *line, char *buf,
			       size_t size, unsigned int *ret_cut)
{
	struct encoder e = { { buf, size - 64, 0, 0 }, 0, 0, size / 4 };
	bool ok = begin(&e, "MESSAGE");

	end(&e, ok && fnd_log_put_value(&e.o, line->message, line->message_bytes, FND_QUOTE_NONE, size / 2));
	number(&e, "PRIORITY", line->level);
	text(&e, "SYSLOG_IDENTIFIER", s->ident);
	number(&e, "TID", line->tid);
	ok = begin(&e, "FOUNDATION_TIME");
	end(&e, ok && fnd_log_put_time(&e.o, line->time_ns));
	if (line->has_generation)
		number(&e, "FOUNDATION_GENERATION", line->generation);
	if (line->trace_id && line->trace_id[0])
		text(&e, "TRACE_ID", line->trace_id);
	if (line->span_id && line->span_id[0])
		text(&e, "SPAN_ID", line->span_id);
	if (line->dropped)
		number(&e, "FOUNDATION_SUPPRESSED", line->dropped);
	if (line->code_file) {
		text(&e, "CODE_FILE", line->code_file);
		text(&e, "CODE_FUNC", line->code_func ? line->code_func : "");
		number(&e, "CODE_LINE", line->code_line);
	}
	context(&e, line);
	own_fields(&e, line);
	e.o.limit = size;
	e.fields = e.fields == FIELDS_MAX ? FIELDS_MAX - 1 : e.fields;
	if (e.o.cut)
		number(&e, "FOUNDATION_CUT", e.o.cut);
	*ret_cut = e.o.cut;
	return e.o.used;
}

/* --- sending, in the queue's thread --------------------------------------------------------------- */

static __typeof__(sd_journal_sendv) *sendv; /* set before there is a sink */

static int load(void)
{
	void *library, *symbol;

	if (sendv)
		return 0;
	library = dlopen("libsystemd.so.0", RTLD_NOW | RTLD_LOCAL);
	symbol = library ? dlsym(library, "sd_journal_sendv") : NULL;
	if (!symbol)
		return fnd_error_set(EOPNOTSUPP, "libsystemd.so.0 cannot be loaded: is libsystemd0 installed?");
	memcpy(&sendv, &symbol, sizeof(sendv));
	return 0;
}

int fnd_log_journald_send(unsigned char *bytes, size_t n)
{
	struct iovec iov[FIELDS_MAX + 1];
	uint32_t length;
	int count = 0;

	for (size_t at = 0; at + sizeof(length) <= n && count <= FIELDS_MAX; at += length) {
		memcpy(&length, bytes + at, sizeof(length));
		at += sizeof(length);
		if (length > n - at)
			break;
		iov[count++] = (struct iovec){ bytes + at, length };
	}
	/* libsystemd says nothing when there is no journal: that would count as written. */
	if (access(SOCKET, F_OK) != 0)
		return -errno;
	return sendv(iov, count);
}

int fnd_log_add_journald(struct fnd_log *log, const struct fnd_sink_options *options, unsigned int *ret_sink)
{
	struct fnd_sink_options o;
	struct fnd_log_sink *s;
	int err = fnd_log_sink_new(log, options, &o, &s);

	if (err)
		return err;
	if (access(SOCKET, F_OK) != 0)
		return fnd_error_set(errno, "%s: is systemd-journald running here?", SOCKET);
	err = load();
	if (err)
		return err;
	s->kind = FND_SINK_JOURNALD;
	s->queue_bytes = fnd_log_queue_size(o.queue_bytes);
	return fnd_log_sink_ready(log, s, ret_sink);
}

#else

size_t fnd_log_journald_encode(const struct fnd_log_sink *s, const struct fnd_log_line *line, char *buf,
			       size_t size, unsigned int *ret_cut)
{
	(void)s, (void)line, (void)buf, (void)size;
	*ret_cut = 0;
	return 0;
}

int fnd_log_journald_send(unsigned char *bytes, size_t n)
{
	(void)bytes, (void)n;
	return -EOPNOTSUPP;
}

int fnd_log_add_journald(struct fnd_log *log, const struct fnd_sink_options *options, unsigned int *ret_sink)
{
	(void)log, (void)options, (void)ret_sink;
	return fnd_error_set(EOPNOTSUPP, "this library was built without libsystemd");
}

#endif
