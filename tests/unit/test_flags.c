// SPDX-License-Identifier: MIT
/* Flags, by one process: names, percentages, stages, rollbacks, what a journal brings back. */
#define _GNU_SOURCE
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <criterion/criterion.h>

#include <foundation/area.h>
#include <foundation/flags.h>
#include <foundation/journal.h>
#include <foundation/table.h>

static char name[64], state[64];
static struct fnd_segment *seg;
static struct fnd_flags *f;

static void begin(void)
{
	int err = fnd_segment_create(name, &(struct fnd_segment_options){ .size = sizeof(struct fnd_segment_options),
									   .processes = 8, .threads = 8 }, &seg);

	cr_assert_eq(err, 0, "create: %s [%s]", fnd_strerror(err), fnd_error_detail());
	err = fnd_flags_open(seg, &f);
	cr_assert_eq(err, 0, "open: %s [%s]", fnd_strerror(err), fnd_error_detail());
}

static void end(void)
{
	fnd_flags_close(f);
	cr_assert_eq(fnd_segment_detach(seg), 0);
	cr_assert_eq(fnd_segment_destroy(name, 0), 0);
}

static void setup(void)
{
	static unsigned int births;

	snprintf(name, sizeof(name), "test-flags-%d-%u", (int)getpid(), births++);
	snprintf(state, sizeof(state), "/tmp/test-flags-XXXXXX");
	cr_assert(mkdtemp(state));
	setenv("FOUNDATION_STATE_DIR", state, 1);
	begin();
}

static void teardown(void)
{
	struct fnd_journal *j;

	if (fnd_journal_open(name, NULL, &j) == 0) {
		fnd_journal_purge(j);
		fnd_journal_close(j);
	}
	rmdir(state);
}

TestSuite(flags, .init = setup, .fini = teardown, .timeout = 60);

static int change(unsigned int id, unsigned int percent)
{
	return fnd_flags_change(f, &(struct fnd_flag_change){ id, percent }, 1, -1, NULL);
}

Test(flags, names_and_aliases)
{
	static const char *const alias[] = { "enable_migration_monitoring", "use_ets_agent_registry",
					     "use_logger_error_context", "use_genserver_telemetry",
					     "use_genserver_span_management", "use_ets_sampled_events",
					     "enforce_no_process_dict" };

	for (int i = 0; i < FND_FLAG_KNOWN; i++) {
		cr_assert_eq(fnd_flag_find(f, fnd_flag_name((unsigned int)i)), i);
		cr_assert_eq(fnd_flag_find(f, alias[i]), i);
		cr_assert_eq(fnd_flag_percent(f, (unsigned int)i), 0, "a new segment has all flags off");
	}
	cr_assert_eq(fnd_flag_find(f, "nope"), -ENOENT);
	cr_assert_eq(fnd_flag_find(f, NULL), -ENOENT);
	cr_assert_eq(fnd_flag_percent(f, 100), -ENOENT);
	cr_assert_eq(change(100, 1), -ENOENT);
	end();
}

Test(flags, percentages_that_are_refused)
{
	const struct fnd_flag_change both[] = { { FND_FLAG_SHARED_SPANS, 1 }, { FND_FLAG_SHARED_REGISTRY, 50 } };
	uint64_t generation = fnd_flags_generation(f);

	cr_assert_eq(change(FND_FLAG_SHARED_SPANS, 101), -EINVAL);
	cr_assert_eq(change(FND_FLAG_SHARED_REGISTRY, 50), -EINVAL);
	cr_assert_eq(change(FND_FLAG_SHARED_SAMPLED_EVENTS, 1), -EINVAL);
	cr_assert_eq(fnd_flags_change(f, both, 2, -1, NULL), -EINVAL, "one bad change refuses all");
	cr_assert_eq(fnd_flags_change(f, NULL, 0, -1, NULL), -EINVAL);
	cr_assert_eq(fnd_flags_generation(f), generation);
	cr_assert_eq(fnd_flag_percent(f, FND_FLAG_SHARED_SPANS), 0);
	end();
}

Test(flags, each_percentage_comes_back)
{
	for (unsigned int id = 0; id < FND_FLAG_KNOWN; id++) {
		for (unsigned int p = 0; p <= 100; p += FND_FLAG_BITS(id) == 1 ? 100 : 1) {
			cr_assert_eq(change(id, p), 0);
			cr_assert_eq(fnd_flag_percent(f, id), (int)p);
			for (unsigned int other = 0; other < FND_FLAG_KNOWN; other++)
				if (other != id)
					cr_assert_eq(fnd_flag_percent(f, other), other < id ? 100 : 0);
		}
		cr_assert_eq(fnd_flag_enabled(f, (enum fnd_flag_id)id), 1);
	}
	end();
}

static unsigned int covered(unsigned int id, unsigned int percent, unsigned char in[1000])
{
	unsigned int n = 0;
	char who[16];

	cr_assert_eq(change(id, percent), 0);
	for (unsigned int i = 0; i < 1000; i++) {
		snprintf(who, sizeof(who), "agent-%u", i);
		in[i] = (unsigned char)fnd_flag_for(f, id, who);
		n += in[i];
	}
	return n;
}

Test(flags, percentages_over_identities)
{
	static const unsigned int steps[] = { 0, 25, 50, 75, 100 };
	unsigned char before[1000] = { 0 }, now[1000], other[1000];
	unsigned int same = 0;

	for (unsigned int i = 0; i < 5; i++) {
		unsigned int n = covered(FND_FLAG_SHARED_SPANS, steps[i], now);

		cr_assert(n >= steps[i] * 10 - (steps[i] % 100 ? 50 : 0) && n <= steps[i] * 10 + (steps[i] % 100 ? 50 : 0),
			  "%u %% covers %u of 1000", steps[i], n);
		for (unsigned int k = 0; k < 1000; k++)
			cr_assert(!before[k] || now[k], "raising to %u %% dropped identity %u", steps[i], k);
		memcpy(before, now, sizeof(now));
	}
	for (unsigned int p = 0; p <= 100; p++) { /* each step alone is monotone too */
		covered(FND_FLAG_SHARED_SPANS, p, now);
		for (unsigned int k = 0; p && k < 1000; k++)
			cr_assert(!other[k] || now[k]);
		memcpy(other, now, sizeof(now));
	}
	covered(FND_FLAG_SHARED_SPANS, 50, now);
	covered(FND_FLAG_SHARED_TELEMETRY, 50, other);
	for (unsigned int k = 0; k < 1000; k++)
		same += now[k] == other[k];
	cr_assert(same > 400 && same < 600, "two flags choose alike for %u of 1000", same);
	fnd_flags_close(f); /* a segment made anew chooses the same */
	fnd_segment_detach(seg);
	cr_assert_eq(fnd_segment_destroy(name, 0), 0);
	begin();
	memcpy(before, now, sizeof(now));
	covered(FND_FLAG_SHARED_SPANS, 50, now);
	cr_assert_eq(memcmp(before, now, sizeof(now)), 0);
	end();
}

Test(flags, own_identity)
{
	unsigned int on = 0;

	cr_assert_eq(change(FND_FLAG_SHARED_SPANS, 50), 0);
	for (unsigned int i = 0; i < 200; i++) {
		char who[16];

		snprintf(who, sizeof(who), "w%u", i);
		cr_assert_eq(fnd_flags_identity_set(f, who), 0);
		cr_assert_eq(fnd_flag_enabled(f, FND_FLAG_SHARED_SPANS), fnd_flag_for(f, FND_FLAG_SHARED_SPANS, who));
		on += (unsigned int)fnd_flag_enabled(f, FND_FLAG_SHARED_SPANS);
	}
	cr_assert(on > 60 && on < 140);
	end();
}

Test(flags, stages)
{
	static const unsigned int on[FND_STAGE_MAX] = { 0x00, 0x01, 0x03, 0x07, 0x1f, 0x3f, 0x7f };
	struct fnd_flags_view v;

	for (unsigned int s = 0; s < FND_STAGE_MAX; s++) {
		uint64_t generation = fnd_flags_generation(f);

		cr_assert_eq(fnd_stage_parse(fnd_stage_name(s)), (int)s);
		cr_assert_eq(fnd_flags_stage_set(f, s, NULL), 0);
		cr_assert_eq(fnd_flags_generation(f), generation + 1, "a stage is one step");
		fnd_flags_view(f, &v);
		cr_assert_eq(v.stage, s);
		cr_assert_eq(v.deviates, 0);
		for (unsigned int i = 0; i < FND_FLAG_KNOWN; i++)
			cr_assert_eq(v.percent[i], on[s] >> i & 1 ? 100 : 0, "stage %u, flag %u", s, i);
	}
	cr_assert_eq(change(FND_FLAG_SHARED_SPANS, 0), 0);
	fnd_flags_view(f, &v);
	cr_assert_eq(v.deviates, 1u << FND_FLAG_SHARED_SPANS);
	cr_assert_eq(fnd_stage_parse("4"), -EINVAL);
	end();
}

Test(flags, rollback_by_component)
{
	static const struct {
		const char *component;
		unsigned int off, stage;
	} cases[] = {
		{ "registry", 0x02, FND_STAGE_1 },	  { "error-context", 0x04, FND_STAGE_2 },
		{ "spans", 0x10, FND_STAGE_3 },		  { "sampled-events", 0x20, FND_STAGE_4A },
		{ "telemetry", 0x38, FND_STAGE_3 },	  { "enforcement", 0x40, FND_STAGE_4B },
	};
	struct fnd_flags_view v;

	for (unsigned int c = 0; c < sizeof(cases) / sizeof(cases[0]); c++) {
		int bit = fnd_component_parse(cases[c].component);

		cr_assert(bit > 0);
		cr_assert_eq(fnd_flags_stage_set(f, FND_STAGE_5, NULL), 0);
		cr_assert_eq(fnd_flags_rollback(f, (unsigned int)bit, NULL), 0);
		fnd_flags_view(f, &v);
		cr_assert_eq(v.stage, cases[c].stage, "%s", cases[c].component);
		for (unsigned int i = 0; i < FND_FLAG_KNOWN; i++)
			cr_assert_eq(v.percent[i], cases[c].off >> i & 1 ? 0 : 100, "%s: flag %u", cases[c].component, i);
	}
	cr_assert_eq(fnd_component_parse("everything"), -EINVAL);
	cr_assert_eq(fnd_flags_rollback(f, 0, NULL), -EINVAL);
	cr_assert_eq(fnd_flags_rollback(f, 1u << 20, NULL), -EINVAL);
	end();
}

Test(flags, emergency_twice)
{
	struct fnd_flags_view v;
	uint64_t before;

	cr_assert_eq(fnd_flags_stage_set(f, FND_STAGE_5, NULL), 0);
	cr_assert_geq(fnd_flag_define(f, "app.one", "", 100), 0);
	for (unsigned int i = 0; i < 2; i++) {
		cr_assert_eq(fnd_flags_emergency(name, NULL, &before), 0);
		fnd_flags_view(f, &v);
		cr_assert_eq(v.stage, 0);
		for (unsigned int k = 0; k < FND_FLAG_KNOWN; k++)
			cr_assert_eq(v.percent[k], 0);
		cr_assert_eq(fnd_flag_evaluate(f, "app.one", NULL, 0, NULL), 1, "application flags stay");
	}
	cr_assert_eq(fnd_flags_emergency("no-such-segment", NULL, NULL), -ENOENT);
	end();
}

Test(flags, emergency_without_tables)
{
	struct fnd_observer *o;
	unsigned char area[FND_AREA_BYTES];
	struct fnd_flags_view v;
	char path[128];
	FILE *file;

	cr_assert_eq(fnd_flags_stage_set(f, FND_STAGE_5, NULL), 0);
	snprintf(path, sizeof(path), "/dev/shm/foundation.%u.%s", (unsigned int)geteuid(), name);
	file = fopen(path, "r+");
	cr_assert(file);
	fseek(file, 1 << 16, SEEK_SET); /* slots, directory, tables: all of it */
	for (unsigned int i = 0; i < 1 << 20; i++)
		fputc(0xa5, file);
	fclose(file);
	cr_assert_eq(fnd_flags_emergency(name, NULL, NULL), 0);
	cr_assert_eq(fnd_flag_enabled(f, FND_FLAG_SHARED_REGISTRY), 0);
	cr_assert_eq(fnd_observer_open(name, &o), 0);
	cr_assert_eq(fnd_observer_area(o, area), 0);
	fnd_observer_close(o);
	fnd_flags_view_of_area(area, &v);
	cr_assert_eq(v.stage, 0);
	cr_assert_eq(fnd_segment_destroy(name, FND_DESTROY_FORCE), 0);
	cr_assert_eq(fnd_flag_enabled(f, FND_FLAG_SHARED_REGISTRY), 0, "a segment without a name still answers");
}

Test(flags, damage_reads_off)
{
	uint64_t *word = fnd_segment_area(seg);

	*word = UINT64_MAX; /* 127 % */
	cr_assert_eq(fnd_flag_percent(f, FND_FLAG_SHARED_SPANS), 0);
	cr_assert_eq(fnd_flag_for(f, FND_FLAG_SHARED_SPANS, "x"), 0);
	cr_assert_eq(fnd_flag_enabled(f, FND_FLAG_SHARED_SPANS), 0);
	end();
}

Test(flags, application_flags)
{
	struct fnd_flag_change many[3] = { { .percent = 10 }, { .percent = 20 }, { .percent = 30 } };
	uint64_t generation;
	char flag[16];

	for (unsigned int i = 0; i < 256; i++) {
		snprintf(flag, sizeof(flag), "app.%u", i);
		cr_assert_eq(fnd_flag_define(f, flag, "text", i % 101), FND_FLAG_KNOWN + (int)i);
	}
	cr_assert_eq(fnd_flag_define(f, "app.256", "", 0), -ENOSPC);
	cr_assert_eq(fnd_flag_define(f, "app.7", "again", 7), FND_FLAG_KNOWN + 7);
	cr_assert_eq(fnd_flag_define(f, "app.7", "", 8), -FND_E_LIMITS);
	cr_assert_eq(fnd_flag_define(f, "Not A Name", "", 0), -EINVAL);
	cr_assert_eq(fnd_flag_define(f, "shared_spans", "", 0), -EINVAL);
	for (unsigned int i = 0; i < 3; i++)
		many[i].id = (unsigned int)FND_FLAG_KNOWN + 3 * i;
	generation = fnd_flags_generation(f);
	cr_assert_eq(fnd_flags_change(f, many, 3, -1, NULL), 0);
	cr_assert_eq(fnd_flags_generation(f), generation + 1, "a set of changes is one step");
	for (unsigned int i = 0; i < 256; i++)
		cr_assert_eq(fnd_flag_percent(f, FND_FLAG_KNOWN + i), i % 3 == 0 && i < 9 ? (int)(i / 3 * 10 + 10) : (int)(i % 101));
	many[0].id = FND_FLAG_SHARED_SPANS;
	cr_assert_eq(fnd_flags_change(f, many, 3, -1, NULL), -EINVAL, "not both kinds in one step");
	end();
}

Test(flags, evaluation_never_fails)
{
	struct fnd_flag_details d;

	cr_assert_eq(fnd_flag_evaluate(f, "nope", "x", 1, &d), 1);
	cr_assert_str_eq(d.error_code, "FLAG_NOT_FOUND");
	cr_assert_str_eq(d.reason, "ERROR");
	cr_assert_str_eq(d.variant, "on");
	cr_assert_eq(fnd_flag_evaluate(NULL, "nope", NULL, 0, &d), 0);
	cr_assert_str_eq(d.error_code, "PROVIDER_NOT_READY");
	cr_assert_eq(fnd_flag_evaluate(f, "use_ets_agent_registry", NULL, 1, &d), 0);
	cr_assert_null(d.error_code);
	cr_assert_str_eq(d.reason, "STATIC");
	cr_assert_eq(change(FND_FLAG_SHARED_SPANS, 30), 0);
	fnd_flag_evaluate(f, "shared_spans", "x", 1, &d);
	cr_assert_str_eq(d.reason, "SPLIT");
	cr_assert_eq(d.percent, 30);
	end();
}

Test(flags, a_new_segment_takes_them_from_the_journal)
{
	struct fnd_flag_change app = { .percent = 60 };
	struct fnd_flags_view v;

	cr_assert_eq(fnd_flags_stage_set(f, FND_STAGE_3, NULL), 0);
	cr_assert_eq(change(FND_FLAG_SHARED_SPANS, 25), 0);
	app.id = (unsigned int)fnd_flag_define(f, "app.one", "first", 10);
	cr_assert_eq(fnd_flags_change(f, &app, 1, -1, NULL), 0);
	cr_assert_eq(fnd_flag_define(f, "app.two", "second", 20), FND_FLAG_KNOWN + 1);
	fnd_flags_close(f);
	fnd_segment_detach(seg);
	cr_assert_eq(fnd_segment_destroy(name, 0), 0);
	begin();
	fnd_flags_view(f, &v);
	cr_assert_eq(v.stage, FND_STAGE_3);
	cr_assert_eq(v.percent[FND_FLAG_SHARED_REGISTRY], 100);
	cr_assert_eq(v.percent[FND_FLAG_SHARED_SPANS], 25);
	cr_assert_eq(fnd_flag_percent(f, (unsigned int)fnd_flag_find(f, "app.one")), 60);
	cr_assert_eq(fnd_flag_percent(f, (unsigned int)fnd_flag_find(f, "app.two")), 20);
	cr_assert_eq(fnd_flags_emergency(name, NULL, NULL), 0);
	fnd_flags_close(f);
	fnd_segment_detach(seg);
	cr_assert_eq(fnd_segment_destroy(name, 0), 0);
	begin();
	fnd_flags_view(f, &v);
	cr_assert_eq(v.stage, 0, "a restart does not undo a rollback");
	cr_assert_eq(v.percent[FND_FLAG_SHARED_REGISTRY], 0);
	end();
}

Test(flags, a_killed_changer_is_finished)
{
	uint64_t *area = fnd_segment_area(seg), word;
	struct fnd_flags_view v;

	cr_assert_eq(fnd_flags_stage_set(f, FND_STAGE_5, NULL), 0);
	word = (area[0] & 0xffffff) + 1; /* what an emergency rollback stores, and no more */
	area[0] = word;
	cr_assert_eq(fnd_flags_catch_up(f), 0);
	cr_assert_eq(area[1], word);
	fnd_flags_close(f);
	fnd_segment_detach(seg);
	cr_assert_eq(fnd_segment_destroy(name, 0), 0);
	begin();
	fnd_flags_view(f, &v);
	cr_assert_eq(v.stage, 0);
	end();
}

struct told {
	unsigned int rollbacks, stages, unknown;
	char last[4096];
};

static int told_one(const struct fnd_journal_record *r, void *arg)
{
	struct told *t = arg;

	t->rollbacks += strcmp(r->type, "rollback") == 0;
	t->stages += strcmp(r->type, "stage.changed") == 0;
	t->unknown += strstr(r->json, "\"reason\":\"unknown: ") != NULL;
	snprintf(t->last, sizeof(t->last), "%s", r->json);
	return 0;
}

static struct told told(void)
{
	struct told t = { 0 };
	struct fnd_journal *j;

	cr_assert_eq(fnd_journal_open(name, NULL, &j), 0);
	cr_assert_eq(fnd_journal_read(j, told_one, &t, NULL), 0);
	fnd_journal_close(j);
	return t;
}

/* A handle whose journal is not this segment's, and cannot be written anyway; then one as before. */
static void journal_away(bool away)
{
	fnd_flags_close(f);
	setenv("FOUNDATION_STATE_DIR", away ? "/dev/null/x" : state, 1);
	cr_assert_eq(fnd_flags_open(seg, &f), 0);
}

static const struct fnd_change_info why = { .reason = "it \"burns\"", .approved_by = "the night shift" };

Test(flags, what_could_not_be_journalled_keeps_kind_and_reason)
{
	struct told t;

	cr_assert_eq(fnd_flags_stage_set(f, FND_STAGE_3, NULL), 0);
	t = told();
	journal_away(true);
	cr_assert_eq(fnd_flags_rollback(f, FND_COMPONENT_REGISTRY, &why), FND_NOT_DURABLE);
	cr_assert_eq(fnd_flags_stage_set(f, FND_STAGE_4A, &why), FND_NOT_DURABLE);
	journal_away(false);
	cr_assert_eq(told().rollbacks, 0);
	cr_assert_eq(fnd_flags_catch_up(f), 0);
	cr_assert_eq(fnd_flags_catch_up(f), 0);
	cr_assert_eq(told().rollbacks, 1);
	cr_assert_eq(told().stages, t.stages + 1);
	cr_assert_eq(told().unknown, 0);
	t = told();
	cr_assert(strstr(t.last, "\"type\":\"stage.changed\"") && strstr(t.last, "\"stage\":\"4a\"") &&
		  strstr(t.last, "\"reason\":\"it \\\"burns\\\"\"") &&
		  strstr(t.last, "\"approved_by\":\"the night shift\"") && strstr(t.last, "\"changed_at\":"),
		  "%s", t.last);
	end();
}

/* Whoever changes next writes what is older first. */
Test(flags, what_could_not_be_journalled_comes_before_the_next)
{
	struct told t;

	cr_assert_eq(fnd_flags_stage_set(f, FND_STAGE_3, NULL), 0);
	journal_away(true);
	cr_assert_eq(fnd_flags_rollback(f, FND_COMPONENT_REGISTRY, &why), FND_NOT_DURABLE);
	journal_away(false);
	cr_assert_eq(fnd_flags_rollback(f, FND_COMPONENT_ERROR_CONTEXT, NULL), 0);
	t = told();
	cr_assert_eq(t.rollbacks, 2);
	cr_assert_null(strstr(t.last, "burns"));
	end();
}

/* Killed between the record in the journal and taking it out of the table. */
Test(flags, what_could_not_be_journalled_is_written_once)
{
	uint64_t *area = fnd_segment_area(seg);
	unsigned char kept[1024];
	struct fnd_table *table;
	size_t bytes = 0;
	char key[3];

	journal_away(true);
	cr_assert_eq(fnd_flags_stage_set(f, FND_STAGE_3, NULL), FND_NOT_DURABLE);
	cr_assert_eq(fnd_flags_rollback(f, FND_COMPONENT_REGISTRY, &why), FND_NOT_DURABLE);
	snprintf(key, sizeof(key), "!%u", (unsigned int)(area[0] & 7));
	cr_assert_eq(fnd_table_open(seg, "flags", NULL, &table), 0);
	cr_assert_eq(fnd_table_lookup(table, key, 2, kept, sizeof(kept), &bytes), 0);
	journal_away(false);
	cr_assert_eq(fnd_flags_catch_up(f), 0);
	cr_assert_eq(fnd_table_lookup(table, key, 2, NULL, 0, NULL), -ENOENT);
	cr_assert_eq(fnd_table_insert(table, key, 2, kept, bytes), 0);
	cr_assert_eq(fnd_flags_catch_up(f), 0);
	cr_assert_eq(fnd_table_lookup(table, key, 2, NULL, 0, NULL), -ENOENT);
	cr_assert_eq(told().rollbacks, 1);
	fnd_table_close(table);
	end();
}

Test(flags, an_emergency_that_could_not_be_journalled)
{
	uint64_t before = 0;
	struct told t;

	cr_assert_eq(fnd_flags_stage_set(f, FND_STAGE_3, NULL), 0);
	journal_away(true);
	cr_assert_eq(fnd_flags_emergency(name, &why, &before), FND_NOT_DURABLE);
	fnd_flags_announce(f, before, &why);
	journal_away(false);
	cr_assert_eq(fnd_flags_catch_up(f), 0);
	t = told();
	cr_assert_eq(t.rollbacks, 1);
	cr_assert(strstr(t.last, "burns") && strstr(t.last, "\"changed\":{\"") && strstr(t.last, "\"stage\":\"0\""),
		  "%s", t.last);

	/* nobody has announced it: nobody knows */
	cr_assert_eq(fnd_flags_stage_set(f, FND_STAGE_2, NULL), 0);
	journal_away(true);
	cr_assert_eq(fnd_flags_emergency(name, &why, &before), FND_NOT_DURABLE);
	journal_away(false);
	cr_assert_eq(fnd_flags_catch_up(f), 0);
	t = told();
	cr_assert_eq(t.rollbacks, 1);
	cr_assert_eq(t.unknown, 1);
	cr_assert(strstr(t.last, "\"command\":\"unknown\"") && !strstr(t.last, "\"uid\""), "%s", t.last);
	end();
}

Test(flags, not_durable_is_done_all_the_same)
{
	setenv("FOUNDATION_STATE_DIR", "/dev/null/x", 1);
	fnd_flags_close(f);
	cr_assert_eq(fnd_flags_open(seg, &f), 0);
	cr_assert_eq(change(FND_FLAG_SHARED_REGISTRY, 100), FND_NOT_DURABLE);
	cr_assert_eq(fnd_flag_enabled(f, FND_FLAG_SHARED_REGISTRY), 1);
	cr_assert_eq(fnd_flags_emergency(name, NULL, NULL), FND_NOT_DURABLE);
	cr_assert_eq(fnd_flag_enabled(f, FND_FLAG_SHARED_REGISTRY), 0);
	cr_assert_lt(fnd_flags_durable(f), 0);
	setenv("FOUNDATION_STATE_DIR", state, 1);
	end();
}

static int seen_change(const struct fnd_flag_record *r, void *arg)
{
	if (r->id == FND_FLAG_SHARED_REGISTRY)
		memcpy(arg, r, sizeof(*r));
	return 0;
}

Test(flags, who_when_why)
{
	const struct fnd_change_info info = { "because", "the lead" };
	struct fnd_flag_record r = { .id = 0 };

	cr_assert_eq(fnd_flags_change(f, &(struct fnd_flag_change){ FND_FLAG_SHARED_REGISTRY, 100 }, 1, -1, &info), 0);
	cr_assert_eq(fnd_flags_list(f, seen_change, &r), 0);
	cr_assert_str_eq(r.reason, "because");
	cr_assert_eq(r.pid, (uint32_t)getpid());
	cr_assert_eq(r.uid, (uint32_t)geteuid());
	cr_assert_eq(r.before, 0);
	cr_assert_eq(r.after, 100);
	cr_assert_gt(r.changed_ns, 0);
	end();
}
