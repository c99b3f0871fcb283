// SPDX-License-Identifier: MIT
/* What the two kill tests and their workers do alike. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "kills_common.h"

#define STILL_MS 20000

uint64_t now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

/* --- the killer ------------------------------------------------------------------------------------ */

/* Who is given no processor cannot move: the more want one, the longer it may take. */
static uint64_t patience_ms(void)
{
	double load = 0;
	long processors = sysconf(_SC_NPROCESSORS_ONLN);

	if (getloadavg(&load, 1) != 1 || processors < 1)
		return STILL_MS;
	return STILL_MS + (uint64_t)(STILL_MS * load / (double)processors);
}

void pulse_begin(struct pulse *p)
{
	p->since_ms = now_ms();
}

bool pulse_stopped(struct pulse *p, uint64_t beat, uint64_t now)
{
	if (beat != p->beat) {
		p->beat = beat;
		p->since_ms = now;
	}
	return now - p->since_ms > STILL_MS && now - p->since_ms > patience_ms();
}

void *journal_map(size_t bytes)
{
	void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	if (p != MAP_FAILED)
		return p;
	perror("mmap");
	exit(1);
}

const char *kills_arguments(int argc, char **argv, uint64_t *wanted, uint64_t *seed)
{
	const char *report = NULL;
	unsigned int numbers = 0;

	*seed = mix(now_ms() ^ (uint64_t)getpid() << 32) % 1000000;
	for (int i = 1; i < argc; i++) {
		if (strcmp(argv[i], "--report") == 0 && i + 1 < argc)
			report = argv[++i];
		else
			*(numbers++ ? seed : wanted) = strtoull(argv[i], NULL, 10);
	}
	printf("seed %llu\n", (unsigned long long)*seed);
	fflush(stdout);
	return report;
}

/* --- a worker -------------------------------------------------------------------------------------- */

char *failure_text;

void fail(const char *fmt, ...)
{
	va_list ap;
	size_t n;

	va_start(ap, fmt);
	vsnprintf(failure_text, FAILURE_BYTES, fmt, ap);
	va_end(ap);
	n = strlen(failure_text);
	snprintf(failure_text + n, FAILURE_BYTES - n, " [%s]", fnd_error_detail());
	_exit(1);
}

enum fnd_modify answer(void *arg, const void *old, size_t old_bytes, const void **value, size_t *bytes)
{
	struct wish *w = arg;

	(void)old_bytes;
	w->mistaken = (old != NULL) != w->present;
	if (w->keep)
		return FND_MODIFY_KEEP;
	if (!w->value)
		return FND_MODIFY_DELETE;
	*value = w->value;
	*bytes = w->bytes;
	return FND_MODIFY_PUT;
}

int change(struct fnd_table *t, const void *key, size_t key_bytes, struct wish *w, unsigned int how)
{
	int err;

	switch (how % 3) {
	case 0:
		err = fnd_table_modify(t, key, key_bytes, answer, w);
		return err == (w->value ? FND_MODIFY_PUT : FND_MODIFY_DELETE) ? 0 : err > 0 ? -EPROTO : err;
	case 1:
		return w->value ? fnd_table_upsert(t, key, key_bytes, w->value, w->bytes) :
				  fnd_table_delete(t, key, key_bytes);
	default:
		return !w->value  ? fnd_table_delete(t, key, key_bytes) :
		       w->present ? fnd_table_replace(t, key, key_bytes, w->value, w->bytes) :
				    fnd_table_insert(t, key, key_bytes, w->value, w->bytes);
	}
}

/* One of two states, and that is now the truth. */
void inherit_key(struct key_journal *j, const char *what, uint32_t k, int err, uint64_t seq)
{
	uint64_t intent = load(&j->intent), done = load(&j->done);
	uint64_t is = !err ? state_of(seq, true) : intent & 1 ? done : intent; /* whichever is an absence */

	if ((is != done && is != intent) || (is & 1) == (err != 0))
		fail("key %u in %s is %s, sequence %llu; committed %llx, intended %llx", k, what,
		     err ? "absent" : "there", (unsigned long long)seq, (unsigned long long)done,
		     (unsigned long long)intent);
	store(&j->done, is);
	store(&j->intent, is);
}
