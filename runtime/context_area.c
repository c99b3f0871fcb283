// SPDX-License-Identifier: MIT
/* Reading contexts: entries merged to a map, areas of the dead and of the living. */
#include <foundation/atomic.h>
#include <foundation/context.h>

#include <errno.h>
#include <string.h>
#include <time.h>

#include "context_layout.h"
#include "mp.h"

#define OBSERVE_NS 100000000ULL

static inline int same_key(const struct fnd_entry *a, const struct fnd_entry *b)
{
	return a->key_bytes == b->key_bytes && a->key[0] == b->key[0] && memcmp(a->key, b->key, a->key_bytes) == 0;
}

/*
 * The entries that count: those behind the last one without a key. Taken apart once, since each has to be
 * compared with all. There are no more than FND_CONTEXT_FIELDS_MAX unless the bytes are damaged.
 */
static uint32_t counting(const uint8_t *fields, uint32_t used, struct fnd_entry e[FND_CONTEXT_FIELDS_MAX])
{
	uint32_t n = 0;

	for (uint32_t at = 0; n < FND_CONTEXT_FIELDS_MAX && fnd_entry_at(fields, used, at, &e[n]);) {
		at = e[n].end;
		n = e[n].key_bytes ? n + 1 : 0;
	}
	return n;
}

int fnd_context_merge(const uint8_t *fields, uint32_t used,
		      int (*fn)(const struct fnd_entry *e, void *arg), void *arg)
{
	struct fnd_entry e[FND_CONTEXT_FIELDS_MAX];
	uint32_t n = counting(fields, used, e);
	int err = 0;

	for (uint32_t i = 0; !err && i < n; i++) {
		uint32_t first = 0, last = n - 1;

		while (!same_key(&e[first], &e[i]))
			first++;
		if (first < i)
			continue; /* met before */
		while (!same_key(&e[last], &e[i]))
			last--;
		if (e[last].value_bytes)
			err = fn(&e[last], arg);
	}
	return err;
}

struct writing {
	struct fnd_mp_writer w;
	uint32_t fields;
};

static int write_one(const struct fnd_entry *e, void *arg)
{
	struct writing *g = arg;

	fnd_mp_put_str(&g->w, (const char *)e->key, e->key_bytes);
	fnd_mp_put(&g->w, e->value, e->value_bytes);
	g->fields++;
	return 0;
}

/* How many fields there are is known in the end, and how long the head is with it: it is mostly one byte. */
int fnd_context_merged_map(const uint8_t *fields, uint32_t used, void *buf, size_t size, uint32_t *ret_fields)
{
	struct writing g = { .w = { .buf = buf, .size = size } };
	unsigned char bytes[5];
	struct fnd_mp_writer head = { .buf = bytes, .size = sizeof(bytes) };
	size_t body;

	fnd_mp_put_map(&g.w, 0);
	fnd_context_merge(fields, used, write_one, &g);
	if (g.w.full)
		return -ENOBUFS;
	body = g.w.used - 1;
	fnd_mp_put_map(&head, g.fields);
	if (head.used + body > size)
		return -ENOBUFS;
	memmove((char *)buf + head.used, (char *)buf + 1, body);
	memcpy(buf, bytes, head.used);
	if (ret_fields)
		*ret_fields = g.fields;
	return (int)(head.used + body);
}

/* --- areas ----------------------------------------------------------------------------------------- */

/* The entries are as many as the word says, end where it says, and hold whole values. */
static int entries_check(const uint8_t *fields, const struct fnd_context_state *s)
{
	uint32_t at = 0, n = 0;
	struct fnd_entry e;

	if (s->used > FND_CONTEXT_BYTES || s->count > FND_CONTEXT_FIELDS_MAX)
		return 0;
	for (; fnd_entry_at(fields, s->used, at, &e); at = e.end, n++) {
		if (e.key_bytes > FND_CONTEXT_KEY_MAX || memchr(e.key, 0, e.key_bytes))
			return 0;
		if (e.value_bytes && (e.key_bytes == 0 || fnd_mp_skip(e.value, e.value_bytes) != e.value_bytes))
			return 0;
	}
	return at == s->used && n == s->count;
}

static int crumbs_read(const struct fnd_shm_context *c, struct fnd_context_view *v)
{
	v->crumbs_total = c->crumbs >> 8;
	v->crumbs = c->crumbs & 255;
	if (v->crumbs > FND_CRUMBS_MAX || v->crumbs > v->crumbs_total)
		return 0;
	for (uint32_t i = 0; i < v->crumbs; i++) {
		const struct fnd_shm_crumb *from = &c->crumb[(v->crumbs_total - v->crumbs + i) % FND_CRUMB_PLACES];

		if (from->bytes > FND_CRUMB_TEXT_MAX)
			return 0;
		v->crumb[i].at_ns = from->at_ns;
		memcpy(v->crumb[i].text, from->text, from->bytes);
	}
	return 1;
}

int fnd_context_decode_area(const void *area, size_t bytes, struct fnd_context_view *ret_view)
{
	struct fnd_context_view v;
	struct fnd_context_state s;
	struct fnd_shm_context c;
	int n;

	if (!area || bytes != sizeof(c))
		return -EINVAL;
	memcpy(&c, area, sizeof(c));
	if (c.word == 0)
		return -ENOENT;
	memset(&v, 0, sizeof(v));
	s = fnd_context_state(c.word);
	if (!entries_check(c.fields[s.half], &s) || !crumbs_read(&c, &v))
		return fnd_error_set(FND_E_CORRUPT, "the thread's context does not fit its word %#llx",
				     (unsigned long long)c.word);
	n = fnd_context_merged_map(c.fields[s.half], s.used, v.map, sizeof(v.map), &v.fields);
	if (n < 0)
		return fnd_error_set(FND_E_CORRUPT, "the thread's context is larger than one can be");
	v.map_bytes = (uint32_t)n;
	v.depth = s.depth;
	v.dropped = c.dropped;
	*ret_view = v;
	return 0;
}

static uint64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

/*
 * A copy whose words were the same before it was begun and after it was done: every change moves one of the
 * two words, and neither comes back to what it was.
 */
int fnd_context_observe(struct fnd_observer *o, uint32_t slot, struct fnd_context_view *ret_view)
{
	struct fnd_shm_context copy[3]; /* the newest two, and room for the next */
	uint64_t begun = now_ns();
	unsigned int n = 0;
	int err;

	_Static_assert(sizeof(copy[0]) == FND_THREAD_AREA_BYTES, "one read");
	for (;; n++) {
		struct fnd_shm_context *last = &copy[n % 3], *first = &copy[(n + 1) % 3];

		err = fnd_observer_thread_area(o, slot, (unsigned char *)last);
		if (err)
			return err;
		if (n >= 2 && last->word == first->word && (last->word == 0 || last->crumbs == first->crumbs))
			break;
		if (n >= 2 && now_ns() - begun > OBSERVE_NS)
			return fnd_error_set(EAGAIN, "the thread's context changes faster than it can be read");
		if (n % 16 == 15)
			nanosleep(&(struct timespec){ 0, 50000 }, NULL);
	}
	return fnd_context_decode_area(&copy[(n + 2) % 3], sizeof(copy[0]), ret_view);
}

/* --- a view as one map ----------------------------------------------------------------------------- */

static void pack_crumbs(struct fnd_mp_writer *w, const struct fnd_context_view *v, uint32_t n)
{
	static const char key[] = "breadcrumbs";

	fnd_mp_put_str(w, key, sizeof(key) - 1);
	fnd_mp_put_array(w, n);
	for (uint32_t i = v->crumbs - n; i < v->crumbs; i++)
		fnd_mp_put_str(w, v->crumb[i].text, strnlen(v->crumb[i].text, FND_CRUMB_TEXT_MAX));
}

int fnd_context_pack(const struct fnd_context_view *v, void *buf, size_t size)
{
	uint32_t pairs, crumbs = v->crumbs > FND_CRUMBS_MAX ? FND_CRUMBS_MAX : v->crumbs;
	size_t head;

	if (v->map_bytes > sizeof(v->map))
		return -EINVAL;
	head = fnd_mp_map(v->map, v->map_bytes, &pairs);
	if (head == 0)
		return -EINVAL;
	for (;; crumbs--) {
		struct fnd_mp_writer w = { .buf = buf, .size = size };

		fnd_mp_put_map(&w, pairs + (crumbs > 0));
		fnd_mp_put(&w, v->map + head, v->map_bytes - head);
		if (crumbs)
			pack_crumbs(&w, v, crumbs);
		if (!w.full)
			return (int)w.used;
		if (crumbs == 0)
			return -ENOBUFS;
	}
}
