// SPDX-License-Identifier: MIT
/* Who changed which flag, for those who ask later (the table) and those who wait (the events). */
#include "flags_internal.h"

#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

#include <msgpack.h>

static void pack_text(msgpack_packer *pk, const char *key, const char *text)
{
	msgpack_pack_str_with_body(pk, key, strlen(key));
	msgpack_pack_str_with_body(pk, text, strlen(text));
}

static void pack_number(msgpack_packer *pk, const char *key, uint64_t n)
{
	msgpack_pack_str_with_body(pk, key, strlen(key));
	msgpack_pack_uint64(pk, n);
}

static void publish(struct fnd_flags *f, const char *name, unsigned int before, unsigned int after,
		    const struct fnd_flags_changed *c)
{
	const char *stage = fnd_stage_name(fnd_word_stage(c->after));
	msgpack_sbuffer buf;
	msgpack_packer pk;

	msgpack_sbuffer_init(&buf);
	msgpack_packer_init(&pk, &buf, msgpack_sbuffer_write);
	msgpack_pack_map(&pk, 6);
	pack_text(&pk, "flag", name);
	pack_number(&pk, "before", before);
	pack_number(&pk, "after", after);
	pack_text(&pk, "stage", stage ? stage : "0");
	pack_number(&pk, "generation", fnd_flags_generation(f));
	pack_text(&pk, "reason", c->info && c->info->reason ? c->info->reason : "");
	fnd_event_publish(f->events, "flag.changed", buf.data, buf.size, NULL);
	msgpack_sbuffer_destroy(&buf);
}

static void note(struct fnd_flags *f, const char *name, unsigned int id, unsigned int before, unsigned int after,
		 const struct fnd_flags_changed *c)
{
	struct fnd_stored_flag s = { .fallback = 0 };
	char command[17] = "";
	struct timespec ts;

	if (f->events)
		publish(f, name, before, after, c);
	if (!f->table)
		return;
	if (fnd_flag_stored(f, name, &s))
		memset(&s, 0, sizeof(s));
	prctl(PR_GET_NAME, command, 0, 0, 0);
	clock_gettime(CLOCK_REALTIME, &ts);
	s.id = id;
	s.changed_ns = (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
	s.uid = (uint32_t)geteuid();
	s.pid = (uint32_t)getpid();
	s.before = before;
	s.after = after;
	memcpy(s.command, command, sizeof(s.command));
	snprintf(s.reason, sizeof(s.reason), "%s", c->info && c->info->reason ? c->info->reason : "");
	fnd_table_upsert(f->table, name, strlen(name), &s, sizeof(s));
}

/* The stage has an event of its own. */
static void publish_stage(struct fnd_flags *f, const struct fnd_flags_changed *c)
{
	const char *from = fnd_stage_name(fnd_word_stage(c->before)), *to = fnd_stage_name(fnd_word_stage(c->after));
	msgpack_sbuffer buf;
	msgpack_packer pk;

	if (!f->events || fnd_word_stage(c->before) == fnd_word_stage(c->after))
		return;
	msgpack_sbuffer_init(&buf);
	msgpack_packer_init(&pk, &buf, msgpack_sbuffer_write);
	msgpack_pack_map(&pk, 4);
	pack_text(&pk, "stage", to ? to : "0");
	pack_text(&pk, "from", from ? from : "0");
	pack_number(&pk, "by", geteuid());
	pack_text(&pk, "reason", c->info && c->info->reason ? c->info->reason : "");
	fnd_event_publish(f->events, "migration.status", buf.data, buf.size, NULL);
	msgpack_sbuffer_destroy(&buf);
}

void fnd_flags_tell(struct fnd_flags *f, const struct fnd_flags_changed *c)
{
	char name[FND_FLAG_NAME_MAX + 1];

	publish_stage(f, c);
	for (unsigned int i = 0; i < FND_FLAG_KNOWN; i++)
		if (fnd_word_percent(c->before, i) != fnd_word_percent(c->after, i))
			note(f, fnd_flag_name(i), i, fnd_word_percent(c->before, i), fnd_word_percent(c->after, i), c);
	for (unsigned int i = 0; i < c->count; i++)
		if (c->application_before[i] != c->application[i].percent &&
		    fnd_app_name(f, c->application[i].id, name))
			note(f, name, c->application[i].id, c->application_before[i], c->application[i].percent, c);
}

void fnd_flags_announce(struct fnd_flags *f, uint64_t before, const struct fnd_change_info *info)
{
	struct fnd_flags_changed c = { .type = "rollback", .before = before, .info = info };
	uint64_t noted = fnd_load_acquire(&f->area->flags_journalled); /* [FL-4] */

	c.after = fnd_word_counted(before) & FND_FLAGS_COUNT_MASK;
	if (((fnd_word_count(c.after) - (uint32_t)noted) & FND_FLAGS_COUNT_MASK) - 1 < FND_FLAGS_COUNT_MASK / 2)
		fnd_flags_remember(f, &c);
	fnd_flags_tell(f, &c);
}
