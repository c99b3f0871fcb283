// SPDX-License-Identifier: MIT
/*
 * Error context of threads: scopes, fields and breadcrumbs.
 *
 * Guarantees.
 *  A. Entries are appended behind what the word covers; then one store of the word makes them count. So whoever
 *     looks at any instant, also after a kill, finds the map before or after the call.
 *  B. The end of a scope stores a word that covers what was covered at its beginning. Entries below that are
 *     never written again while the scope is open, so it needs nothing of the scopes inside.
 *  C. When there is no room, the innermost scope's entries are packed into the other half, with what lies before
 *     them at the same offsets: B holds in both halves. A call packs once at most, so that the half that counts
 *     is not written.
 *  D. Every store of the word has a new version; a context that was empty and is empty again has word 0, and
 *     leaves no remains.
 */
#include <errno.h>
#include <string.h>
#include <time.h>

#include "context_bytes.h"
#include "context_internal.h"
#include "mp.h"

#define HIDDEN_MAX 5u /* entries hidden in their own scope before they are packed away: lookups walk them */

static int not_here(const struct fnd_context *ctx)
{
	return ctx ? fnd_error_set(ENOMEM, "no memory for this thread's context") : -EINVAL;
}

/* --- entries --------------------------------------------------------------------------------------- */

static size_t key_bytes(const struct fnd_field *f)
{
	size_t n;

	if (!f->key)
		return 0;
	n = f->key_bytes ? f->key_bytes : strnlen(f->key, FND_CONTEXT_KEY_MAX + 1);
	return n <= FND_CONTEXT_KEY_MAX && (!f->key_bytes || !memchr(f->key, 0, n)) ? n : 0;
}

static int key_refused(void)
{
	return fnd_error_set(EINVAL, "a key has 1 to %u bytes, none of them NUL", FND_CONTEXT_KEY_MAX);
}

static int fields_check(const struct fnd_field *fields, size_t count)
{
	for (size_t i = 0; i < count; i++)
		if (key_bytes(&fields[i]) == 0)
			return key_refused();
	return 0;
}

/* Appends behind @s, which nobody sees yet. @value NULL: no value. -ENOSPC, -EINVAL: @s is as it was. */
static int append(struct fnd_context_local *l, struct fnd_context_state *s, const char *k, size_t klen,
		  const struct fnd_value *value)
{
	uint8_t *p = l->at->fields[s->half] + s->used;
	uint32_t room = FND_CONTEXT_BYTES - s->used;
	struct fnd_mp_writer w = { .buf = p + FND_ENTRY_HEAD + klen };
	int err = 0;

	if (s->count >= FND_CONTEXT_FIELDS_MAX || FND_ENTRY_HEAD + klen > room)
		return -ENOSPC;
	w.size = room - FND_ENTRY_HEAD - klen;
	if (value)
		w.used = fnd_put_quick(w.buf, w.size, value);
	if (value && w.used == 0)
		err = fnd_mp_put_value(&w, value);
	if (err || w.full)
		return err ? err : -ENOSPC;
	p[0] = (uint8_t)klen;
	p[1] = (uint8_t)w.used;
	p[2] = (uint8_t)(w.used >> 8);
	fnd_copy_bytes(p + FND_ENTRY_HEAD, k, klen);
	l->entry[s->half][s->count++] = (uint16_t)s->used;
	s->used += (uint32_t)(FND_ENTRY_HEAD + klen + w.used);
	return 0;
}

static inline bool has_key(const struct fnd_entry *e, const void *k, size_t klen)
{
	return e->key_bytes == klen && fnd_same_bytes(e->key, k, klen);
}

/* The last entry at or behind @from that says something of this key: has it, or, without a key, hides it. */
static bool find_last(const struct fnd_context_local *l, const struct fnd_context_state *s, uint32_t from,
		      const void *k, size_t klen, struct fnd_entry *ret_e)
{
	const uint16_t *entry = l->entry[s->half];

	for (uint32_t i = s->count; i > 0 && entry[i - 1] >= from; i--) {
		if (!fnd_entry_at(l->at->fields[s->half], s->used, entry[i - 1], ret_e))
			continue; /* somebody has damaged the segment */
		if (ret_e->key_bytes == 0 || has_key(ret_e, k, klen))
			return true;
	}
	return false;
}

/* Does the innermost scope have an entry of this key? */
static bool set_here(const struct fnd_context_local *l, const struct fnd_context_state *s, const void *k, size_t klen)
{
	struct fnd_entry e;

	return find_last(l, s, l->start, k, klen, &e) && e.key_bytes != 0;
}

/* Is there an entry of this key at or behind @at? */
static bool set_from(const uint8_t *fields, uint32_t used, uint32_t at, const void *k, size_t klen)
{
	struct fnd_entry o;

	for (; fnd_entry_at(fields, used, at, &o); at = o.end)
		if (has_key(&o, k, klen))
			return true;
	return false;
}

/* Into the other half: all before the innermost scope, and of its own what counts, but for one key. */
static void pack(struct fnd_context_local *l, struct fnd_context_state *s, const char *k, size_t klen)
{
	const struct fnd_context_state was = fnd_context_now(l);
	const uint8_t *from = l->at->fields[was.half];
	const uint16_t *entry = l->entry[was.half];
#ifdef FND_MUTANT_PACK_IN_PLACE
	const uint32_t other = was.half;
#else
	const uint32_t other = was.half ^ 1;
#endif
	uint8_t *to = l->at->fields[other];
	struct fnd_entry e;
	uint32_t i;

	*s = was;
	s->half = other;
	s->used = l->start;
	memcpy(to, from, l->start);
	for (i = 0; i < was.count && entry[i] < l->start; i++)
		l->entry[s->half][i] = entry[i];
	s->count = i;
	for (; i < was.count && fnd_entry_at(from, was.used, entry[i], &e); i++) {
		if ((klen && has_key(&e, k, klen)) ||
		    (e.key_bytes && set_from(from, was.used, e.end, e.key, e.key_bytes)))
			continue;
		memcpy(to + s->used, from + entry[i], e.end - entry[i]);
		l->entry[s->half][s->count++] = (uint16_t)s->used;
		s->used += e.end - entry[i];
	}
}

static void commit(struct fnd_context_local *l, const struct fnd_context_state *s)
{
	l->word = l->word >> 32 << 32 | (uint32_t)fnd_context_word(s);
	fnd_context_word_store(l);
}

static void count_dropped(struct fnd_context *ctx, struct fnd_context_local *l, uint32_t n)
{
	if (n == 0)
		return;
	l->dropped += n;
	fnd_store_relaxed(&l->at->dropped, l->dropped); /* relaxed: a count for people */
	fnd_fetch_add(&ctx->dropped, n);
}

static int set_one(struct fnd_context *ctx, const char *k, size_t klen, const struct fnd_value *value)
{
	struct fnd_context_local *l = fnd_context_here(ctx);
	struct fnd_context_state s;
	uint32_t half;
	bool again;
	int err;

	if (!l)
		return not_here(ctx);
	if (klen == 0)
		return key_refused();
	s = fnd_context_now(l);
	half = s.half;
	again = set_here(l, &s, k, klen);
	err = again && l->hidden >= HIDDEN_MAX ? -ENOSPC : append(l, &s, k, klen, value);
	if (err == -ENOSPC) {
		pack(l, &s, k, klen);
		err = append(l, &s, k, klen, value);
	}
	if (err == 0) {
		l->hidden = s.half == half ? l->hidden + again : 0;
		commit(l, &s);
	} else if (err == -ENOSPC) {
		count_dropped(ctx, l, 1);
	}
	return err;
}

static int append_all(struct fnd_context_local *l, struct fnd_context_state *s, const struct fnd_field *fields,
		      size_t count)
{
	int err = 0;

	for (size_t i = 0; i < count && !err; i++)
		err = append(l, s, fields[i].key, key_bytes(&fields[i]), &fields[i].value);
	return err;
}

int fnd_context_set_all(struct fnd_context *ctx, const struct fnd_field *fields, size_t count)
{
	struct fnd_context_local *l = fnd_context_here(ctx);
	struct fnd_context_state s;
	int err = fields_check(fields, count);

	if (!l || err)
		return l ? err : not_here(ctx);
	s = fnd_context_now(l);
	err = append_all(l, &s, fields, count);
	if (err == -ENOSPC) {
		pack(l, &s, NULL, 0);
		err = append_all(l, &s, fields, count);
	}
	if (err == 0)
		commit(l, &s);
	else if (err == -ENOSPC)
		count_dropped(ctx, l, 1);
	return err;
}

int fnd_context_set(struct fnd_context *ctx, struct fnd_field field)
{
	return set_one(ctx, field.key, key_bytes(&field), &field.value);
}

int fnd_context_unset(struct fnd_context *ctx, const char *k)
{
	struct fnd_field f = { .key = k };

	return set_one(ctx, k, key_bytes(&f), NULL);
}

/* --- scopes ---------------------------------------------------------------------------------------- */

/* Enforcement: private state is not begun. The segment and the handle count; each call site is told of once. */
static __attribute__((noinline)) int refuse(struct fnd_context *ctx, const void *site)
{
	uintptr_t h = (uintptr_t)site;
	unsigned int i;

	fnd_fetch_add(&ctx->refused, 1);
	if (ctx->seg)
		fnd_counter_add(ctx->seg, FND_COUNTER_REFUSED, 1);
	h ^= h >> 12;
	for (i = 0; i < FND_CONTEXT_SITES; i++) {
		const void **place = &ctx->site[(h + i) % FND_CONTEXT_SITES];
		const void *known = fnd_load_relaxed(place); /* relaxed: compared, not followed */

		if (known == site)
			break;
		if (!known && fnd_cas(place, (const void *)NULL, site)) {
			if (ctx->opt.refused)
				ctx->opt.refused(site, ctx->opt.refused_arg);
			break;
		}
		if (fnd_load_relaxed(place) == site) /* relaxed: as above */
			break;
	}
	return fnd_error_set(EPERM, "private error contexts are refused: enforce_shared_state is on");
}

struct opening {
	struct fnd_context *ctx;
	struct fnd_context_local *l;
	struct fnd_context_state s;
	const struct fnd_field *fields;
	size_t count;
	const void *map; /* instead of fields */
	size_t map_bytes;
	uint32_t left_out;
	int err;
};

static int open_field(const struct fnd_field *f, void *arg)
{
	struct opening *o = arg;
	size_t n = key_bytes(f);
	int err = n ? append(o->l, &o->s, f->key, n, &f->value) : -ENOSPC;

	if (err == -ENOSPC)
		o->left_out++;
	else if (err)
		o->err = err;
	return 0;
}

/* All that the scope brings along, behind o->s. False: something found no room. */
static bool open_fields(struct opening *o)
{
	o->left_out = 0;
	if (o->map) {
		if (append(o->l, &o->s, NULL, 0, NULL)) { /* hides what is around it */
			o->err = -ENOSPC;
			return false;
		}
		o->err = fnd_map_iterate(o->map, o->map_bytes, open_field, o);
	}
	for (size_t i = 0; i < o->count; i++)
		open_field(&o->fields[i], o);
	return o->left_out == 0;
}

static int scope_open(struct opening *o, struct fnd_scope *scope, const void *site)
{
	const struct fnd_context *ctx = o->ctx;
	struct fnd_context_local *l;
	struct fnd_context_state was;
	uint32_t used;

	memset(scope, 0, sizeof(*scope));
	if (ctx && !ctx->forked && ctx->flags && !fnd_context_wants_shared(ctx) &&
	    fnd_flag_enabled(ctx->flags, FND_FLAG_ENFORCE_SHARED_STATE))
		return refuse(o->ctx, site);
	l = o->l = fnd_context_here(o->ctx);
	if (!l)
		return not_here(ctx);
	was = o->s = fnd_context_now(l);
	if (was.depth >= FND_CONTEXT_DEPTH_MAX)
		return fnd_error_set(EOVERFLOW, "%u scopes are open", was.depth);
	used = o->s.used;
	scope->count = o->s.count;
	if (!open_fields(o) && (o->err == 0 || o->err == -ENOSPC)) {
		o->err = 0;
		pack(l, &o->s, NULL, 0);
		used = o->s.used;
		scope->count = o->s.count;
		open_fields(o);
	}
	if (o->err == -ENOSPC)
		count_dropped(o->ctx, l, 1);
	if (o->err)
		return o->err;
	scope->ctx = o->ctx;
	scope->thread = l;
	scope->used = used;
	scope->depth = was.depth;
	scope->start = l->start;
	scope->hidden = o->s.half == was.half ? l->hidden : 0;
	l->start = used;
	l->hidden = 0;
	o->s.depth = was.depth + 1;
	commit(l, &o->s);
	count_dropped(o->ctx, l, o->left_out);
	return o->left_out ? -ENOSPC : 0;
}

int fnd_context_begin(struct fnd_context *ctx, struct fnd_scope *scope, const struct fnd_field *fields,
		      size_t count)
{
	struct opening o = { .ctx = ctx, .fields = fields, .count = count };

	scope->ctx = NULL;
	scope->result = fields_check(fields, count);
	if (scope->result == 0) {
		int err = scope_open(&o, scope, __builtin_return_address(0));

		scope->result = err;
	}
	return scope->result;
}

struct fnd_scope fnd_scope_enter(struct fnd_context *ctx, const struct fnd_field *fields, size_t count)
{
	struct opening o = { .ctx = ctx, .fields = fields + 1, .count = count - 1 };
	struct fnd_scope scope = { .ctx = NULL };
	int err = fields_check(o.fields, o.count);

	if (!err)
		err = scope_open(&o, &scope, __builtin_return_address(0));
	scope.result = err;
	return scope;
}

int fnd_context_attach(struct fnd_context *ctx, struct fnd_scope *scope, const void *map, size_t map_bytes)
{
	struct opening o = { .ctx = ctx, .map = map, .map_bytes = map_bytes };
	uint32_t pairs;

	scope->ctx = NULL;
	if (!map || map_bytes == 0 || fnd_mp_skip(map, map_bytes) != map_bytes ||
	    !fnd_mp_map(map, map_bytes, &pairs))
		scope->result = fnd_error_set(EINVAL, "not one msgpack map");
	else {
		int err = scope_open(&o, scope, __builtin_return_address(0));

		scope->result = err;
	}
	return scope->result;
}

int fnd_context_end(struct fnd_scope *scope)
{
	struct fnd_context *ctx = scope->ctx;
	struct fnd_context_state s;
	struct fnd_context_local *l;

	if (!ctx)
		return 0;
	if (scope->thread != fnd_context_self)
		return fnd_error_set(EINVAL, "the scope is another thread's");
	scope->ctx = NULL;
	l = fnd_context_here(ctx);
	if (!l)
		return not_here(ctx);
	s = fnd_context_now(l);
	if (scope->depth >= s.depth || scope->used > s.used)
		return 0; /* the end of a scope around it has ended it */
	s.used = scope->used;
	s.count = scope->count;
	s.depth = scope->depth;
	l->start = scope->start;
	l->hidden = scope->hidden;
	commit(l, &s);
	return 0;
}

void fnd_scope_leave(struct fnd_scope *scope)
{
	fnd_context_end(scope);
}

unsigned int fnd_context_depth(struct fnd_context *ctx)
{
	const struct fnd_context_local *l = fnd_context_here(ctx);

	return l ? fnd_context_now(l).depth : 0;
}

/* --- looking --------------------------------------------------------------------------------------- */

int fnd_context_get(struct fnd_context *ctx, const char *k, struct fnd_value *ret_value)
{
	struct fnd_context_local *l = fnd_context_here(ctx);
	struct fnd_field f = { .key = k };
	size_t n = key_bytes(&f);
	struct fnd_context_state s;
	struct fnd_entry e;

	if (!l || n == 0)
		return -ENOENT;
	s = fnd_context_now(l);
	if (!find_last(l, &s, 0, k, n, &e)) /* one without a key has no value either */
		return -ENOENT;
	return fnd_value_read(e.value, e.value_bytes, ret_value) ? 0 : -ENOENT;
}

int fnd_context_get_str(struct fnd_context *ctx, const char *k, char *buf, size_t size)
{
	struct fnd_value v;
	size_t n;
	int err = fnd_context_get(ctx, k, &v);

	if (err)
		return err;
	if (v.type != FND_VALUE_STR)
		return -EINVAL;
	if (size) {
		n = v.bytes < size ? v.bytes : size - 1;
		memcpy(buf, v.v.text, n);
		buf[n] = 0;
	}
	return (int)v.bytes;
}

struct walk {
	int (*fn)(const struct fnd_field *field, void *arg);
	void *arg;
};

static int walk_one(const struct fnd_entry *e, void *arg)
{
	const struct walk *w = arg;
	struct fnd_field f = { .key = (const char *)e->key, .key_bytes = e->key_bytes };

	return fnd_mp_read(e->value, e->value_bytes, &f.value) ? w->fn(&f, w->arg) : 0;
}

int fnd_context_iterate(struct fnd_context *ctx, int (*fn)(const struct fnd_field *field, void *arg), void *arg)
{
	struct fnd_context_local *l = fnd_context_here(ctx);
	struct walk w = { fn, arg };
	struct fnd_context_state s;

	if (!l)
		return 0;
	s = fnd_context_now(l);
	return fnd_context_merge(l->at->fields[s.half], s.used, walk_one, &w);
}

int fnd_context_capture(struct fnd_context *ctx, void *buf, size_t size)
{
	struct fnd_context_local *l = fnd_context_here(ctx);
	struct fnd_context_state s;

	if (!l)
		return fnd_context_merged_map((const uint8_t *)"", 0, buf, size, NULL);
	s = fnd_context_now(l);
	return fnd_context_merged_map(l->at->fields[s.half], s.used, buf, size, NULL);
}

/* --- breadcrumbs ----------------------------------------------------------------------------------- */

/* Bytes of @text that fit, cut before a character rather than inside. */
static size_t crumb_bytes(const char *text)
{
	size_t n = strnlen(text, FND_CRUMB_TEXT_MAX + 1);

	if (n <= FND_CRUMB_TEXT_MAX)
		return n;
	for (n = FND_CRUMB_TEXT_MAX; n > FND_CRUMB_TEXT_MAX - 4 && ((unsigned char)text[n] & 0xc0) == 0x80; n--)
		;
	return n;
}

static void crumbs_store(struct fnd_context_local *l, uint64_t crumbs)
{
	bool first = fnd_context_is_empty(l);

	l->crumbs = crumbs;
	if (first) /* the word is 0, and comes first: what it covers has no breadcrumb yet */
		fnd_context_word_store(l);
	fnd_store_release(&l->at->crumbs, crumbs); /* [CX-1] as the word */
}

int fnd_context_crumb(struct fnd_context *ctx, const char *text)
{
	struct fnd_context_local *l = fnd_context_here(ctx);
	struct fnd_shm_crumb *c;
	struct timespec ts;
	uint64_t total, n;

	if (!l)
		return not_here(ctx);
	total = l->crumbs >> 8;
	n = l->crumbs & 255;
	c = &l->at->crumb[total % FND_CRUMB_PLACES]; /* not one of the last FND_CRUMBS_MAX */
	clock_gettime(CLOCK_REALTIME, &ts);
#ifdef FND_MUTANT_CRUMB_COUNTED_FIRST
	crumbs_store(l, (total + 1) << 8 | (n < FND_CRUMBS_MAX ? n + 1 : n));
#endif
	c->at_ns = (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
	c->bytes = (uint8_t)crumb_bytes(text ? text : "");
	memcpy(c->text, text ? text : "", c->bytes);
#ifndef FND_MUTANT_CRUMB_COUNTED_FIRST
	crumbs_store(l, (total + 1) << 8 | (n < FND_CRUMBS_MAX ? n + 1 : n));
#endif
	return 0;
}

int fnd_context_crumbs_clear(struct fnd_context *ctx)
{
	struct fnd_context_local *l = fnd_context_here(ctx);

	if (!l)
		return not_here(ctx);
	l->crumbs &= ~255ULL;
	fnd_store_release(&l->at->crumbs, l->crumbs); /* [CX-1] */
	if ((l->word & FND_CONTEXT_USED_DEPTH) == 0)
		fnd_context_word_store(l);
	return 0;
}
