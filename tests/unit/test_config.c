// SPDX-License-Identifier: MIT
/* Settings: definitions, values that are taken and refused, what a new segment remembers, damaged records. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <criterion/criterion.h>

#include <foundation/config.h>
#include <foundation/table.h>

static char state[64], name[64];
static struct fnd_segment *seg;
static struct fnd_config *c;

static void make(void)
{
	const struct fnd_segment_options opt = { .size = sizeof(opt), .max_bytes = 64u << 20, .processes = 16, .threads = 32 };

	cr_assert_eq(fnd_segment_create(name, &opt, &seg), 0, "%s", fnd_error_detail());
	cr_assert_eq(fnd_config_open(seg, &c), 0, "%s", fnd_error_detail());
}

static void take_away(void)
{
	fnd_config_close(c);
	fnd_segment_detach(seg);
	fnd_segment_destroy(name, FND_DESTROY_FORCE);
}

static void setup(void)
{
	snprintf(state, sizeof(state), "/tmp/test-config-XXXXXX");
	cr_assert(mkdtemp(state));
	setenv("FOUNDATION_STATE_DIR", state, 1);
	snprintf(name, sizeof(name), "t-config-%ld", (long)getpid());
	make();
}

static void teardown(void)
{
	struct fnd_journal *j;

	take_away();
	if (fnd_journal_open(name, NULL, &j) == 0) {
		fnd_journal_purge(j);
		fnd_journal_close(j);
	}
	rmdir(state);
}

TestSuite(config, .init = setup, .fini = teardown, .timeout = 60);

static const char *get(const char *key)
{
	static char buf[FND_CONFIG_TEXT_MAX + 1];

	cr_assert_geq(fnd_config_get(c, key, buf, sizeof(buf)), 0, "%s", fnd_error_detail());
	return buf;
}

static unsigned int files(void)
{
	char path[200];
	unsigned int n = 0;

	for (unsigned int i = 1; i < FND_JOURNAL_KEEP_MAX; i++) {
		struct fnd_journal *j;

		cr_assert_eq(fnd_journal_open(name, NULL, &j), 0);
		snprintf(path, sizeof(path), "%s/journal.%u", fnd_journal_directory(j), i);
		fnd_journal_close(j);
		n += access(path, F_OK) == 0;
	}
	return n;
}

static void change_flags(struct fnd_flags *f, unsigned int times)
{
	const struct fnd_change_info info = { .reason = "a reason of some length, so that the file fills up soon" };

	for (unsigned int i = 0; i < times; i++) {
		struct fnd_flag_change to = { FND_FLAG_MIGRATION_MONITORING, i % 100 };

		cr_assert_geq(fnd_flags_change(f, &to, 1, -1, &info), 0, "%s", fnd_error_detail());
	}
}

/* What is set of the journal counts for who changes flags; and rotating for flags loses no setting. */
Test(config, limits_of_the_journal)
{
	struct fnd_flags *f;

	cr_assert_eq(fnd_flags_open(seg, &f), 0);
	cr_assert_eq(fnd_config_set(c, "contact.lead", "somebody", NULL), 0);
	change_flags(f, 300);
	cr_assert_eq(files(), 0, "the default is 16 MiB");
	cr_assert_eq(fnd_config_set(c, "journal.max_bytes", "64K", NULL), 0);
	cr_assert_eq(fnd_config_set(c, "journal.keep", "2", NULL), 0);
	change_flags(f, 600);
	cr_assert_eq(files(), 2);
	cr_assert_eq(fnd_config_set(c, "journal.keep", "1", NULL), 0);
	change_flags(f, 300);
	cr_assert_eq(files(), 1);
	fnd_flags_close(f);
	take_away();
	make();
	cr_assert_str_eq(get("contact.lead"), "somebody");
	cr_assert_str_eq(get("journal.keep"), "1");
}

static uint64_t timed(unsigned int lookups)
{
	struct fnd_table_options opt = { .size = sizeof(opt), .key_max = 8, .value_max = 8, .capacity = 8 };
	struct fnd_latency before, after;
	struct fnd_table *t;
	char value[8];

	cr_assert_eq(fnd_table_open(seg, "sampled", &opt, &t), 0);
	cr_assert_eq(fnd_latency_read(seg, FND_OP_LOOKUP, &before), 0);
	for (unsigned int i = 0; i < lookups; i++)
		fnd_table_lookup(t, "k", 1, value, sizeof(value), NULL);
	cr_assert_eq(fnd_latency_read(seg, FND_OP_LOOKUP, &after), 0);
	fnd_table_close(t);
	return after.samples - before.samples;
}

Test(config, sampling)
{
	cr_assert_eq(timed(1000), 0);
	cr_assert_eq(fnd_config_set(c, "lookup.sampling", "1", NULL), 0);
	cr_assert_geq(timed(1000), 900);
	cr_assert_eq(fnd_config_set(c, "lookup.sampling", "100", NULL), 0);
	cr_assert_leq(timed(1000), 50);
	take_away();
	make();
	cr_assert_geq(timed(10000), 20, "it comes back from the journal");
	cr_assert_eq(fnd_config_unset(c, "lookup.sampling", NULL), 0);
	cr_assert_eq(timed(1000), 0);
}

Test(config, definitions_are_sound)
{
	const struct fnd_config_definition *d, *before = NULL;
	unsigned int n = 0;

	for (; (d = fnd_config_definition(n)); n++) {
		char buf[FND_CONFIG_TEXT_MAX + 1];

		cr_assert(!before || strcmp(before->name, d->name) < 0, "%s", d->name);
		cr_assert_eq(fnd_config_find(d->name), d);
		cr_assert_leq(strlen(d->name), 63);
		cr_assert_eq(fnd_config_get(c, d->name, buf, sizeof(buf)), FND_CONFIG_DEFAULT);
		cr_assert_str_eq(buf, d->fallback);
		/* the default is a value it takes, and is stored as it is */
		cr_assert_eq(fnd_config_set(c, d->name, d->fallback, NULL), 0, "%s: %s", d->name, fnd_error_detail());
		cr_assert_str_eq(get(d->name), d->fallback);
		before = d;
	}
	cr_assert_gt(n, 20);
	cr_assert_null(fnd_config_find("nothing"));
}

Test(config, values)
{
	static const struct {
		const char *key, *text, *value;
	} good[] = { { "alert.lookup_p99", "2ms", "2000000" },	 { "alert.lookup_p99", "1500us", "1500000" },
		     { "alert.lookup_p99", "60s", "60000000000" }, { "alert.lookup_p99", "1m", "60000000000" },
		     { "stage.2.watch", "2d", "172800000000000" }, { "journal.max_bytes", "64K", "65536" },
		     { "journal.max_bytes", "1G", "1073741824" },  { "alert.error_rate", "35%", "35" },
		     { "alert.error_rate", "007", "7" },		 { "watch.breach", "rollback", "rollback" },
		     { "contact.on_call", "J\xc3\xbcrgen, +49 30 1", "J\xc3\xbcrgen, +49 30 1" } };
	static const struct {
		const char *key, *text;
		int err;
	} bad[] = { { "nothing", "1", -ENOENT },		{ "contact.nobody", "x", -ENOENT },
		    { "alert.lookup_p99", "", -EINVAL },	{ "alert.lookup_p99", "fast", -EINVAL },
		    { "alert.lookup_p99", "-1", -EINVAL },	{ "alert.lookup_p99", " 2000", -EINVAL },
		    { "alert.lookup_p99", "2K", -EINVAL },	{ "alert.lookup_p99", "61s", -ERANGE },
		    { "alert.lookup_p99", "999", -ERANGE },	{ "alert.lookup_p99", "99999999999999999999", -ERANGE },
		    { "alert.lookup_p99", "18446744073709551615d", -ERANGE },
		    { "journal.max_bytes", "1K", -ERANGE },	{ "journal.keep", "0", -ERANGE },
		    { "journal.keep", "65", -ERANGE },		{ "alert.error_rate", "5%%", -EINVAL },
		    { "watch.breach", "roll", -EINVAL },	{ "watch.breach", "off|warn", -EINVAL },
		    { "watch.breach", "", -EINVAL },		{ "contact.lead", "a\nb", -EINVAL },
		    { "contact.lead", "\xff", -EINVAL },	{ "contact.lead", "\xc2\x9b", -EINVAL } };
	char longest[FND_CONFIG_TEXT_MAX + 2];

	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
		cr_assert_eq(fnd_config_set(c, good[i].key, good[i].text, NULL), 0, "%s", fnd_error_detail());
		cr_assert_str_eq(get(good[i].key), good[i].value);
	}
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		int err = fnd_config_set(c, bad[i].key, bad[i].text, NULL);

		cr_assert_eq(err, bad[i].err, "%s = \"%s\": %d", bad[i].key, bad[i].text, err);
		cr_assert_neq(*fnd_error_detail(), '\0');
	}
	memset(longest, 'x', sizeof(longest) - 1);
	longest[sizeof(longest) - 1] = '\0';
	cr_assert_eq(fnd_config_set(c, "contact.lead", longest, NULL), -E2BIG);
	longest[FND_CONFIG_TEXT_MAX] = '\0';
	cr_assert_eq(fnd_config_set(c, "contact.lead", longest, NULL), 0);
	cr_assert_eq(fnd_config_number(c, "journal.max_bytes"), 1u << 30);
	cr_assert_eq(fnd_config_number(c, "contact.lead"), 0);
	cr_assert_eq(fnd_config_number(NULL, "journal.keep"), 4);
}

Test(config, a_new_segment_remembers)
{
	cr_assert_eq(fnd_config_set(c, "alert.tables", "2G", NULL), 0);
	cr_assert_eq(fnd_config_set(c, "contact.on_call", "a \"quoted\" \\ name", NULL), 0);
	cr_assert_eq(fnd_config_set(c, "journal.keep", "9", NULL), 0);
	cr_assert_eq(fnd_config_unset(c, "journal.keep", NULL), 0);
	take_away();
	make();
	cr_assert_eq(fnd_config_number(c, "alert.tables"), 2ull << 30);
	cr_assert_str_eq(get("contact.on_call"), "a \"quoted\" \\ name");
	cr_assert_eq(fnd_config_number(c, "journal.keep"), 4, "unset stays unset");
	cr_assert_eq(fnd_config_unset(c, "alert.tables", NULL), 0);
	take_away();
	make();
	cr_assert_eq(fnd_config_number(c, "alert.tables"), 500000000);
}

Test(config, not_durable_is_said_and_done)
{
	char file[80];
	FILE *f;

	rmdir(state);
	f = fopen(state, "w"); /* a file where the directory should be */
	cr_assert(f);
	fclose(f);
	cr_assert_eq(fnd_config_set(c, "alert.error_rate", "33", NULL), FND_NOT_DURABLE);
	cr_assert_neq(*fnd_error_detail(), '\0');
	cr_assert_eq(fnd_config_number(c, "alert.error_rate"), 33);
	unlink(state);
	snprintf(file, sizeof(file), "%s", state);
	cr_assert_eq(fnd_config_set(c, "alert.participants", "44", NULL), 0);
	take_away();
	make();
	cr_assert_eq(fnd_config_number(c, "alert.error_rate"), 33, "the next change journals what was missing");
}

Test(config, damaged_records_are_no_values)
{
	struct fnd_table *t;
	char buf[FND_CONFIG_TEXT_MAX + 1] = "untouched";

	cr_assert_eq(fnd_table_open(seg, FND_CONFIG_TABLE, NULL, &t), 0);
	cr_assert_eq(fnd_table_upsert(t, "journal.keep", 12, "99999", 5), 0);
	cr_assert_eq(fnd_config_get(c, "journal.keep", buf, sizeof(buf)), -FND_E_CORRUPT);
	cr_assert_str_eq(buf, "untouched");
	cr_assert_eq(fnd_config_number(c, "journal.keep"), 4);
	cr_assert_eq(fnd_table_upsert(t, "contact.lead", 12, "a\0b", 3), 0);
	cr_assert_eq(fnd_config_get(c, "contact.lead", buf, sizeof(buf)), -FND_E_CORRUPT);
	cr_assert_eq(fnd_config_set(c, "journal.keep", "5", NULL), 0, "is written over");
	cr_assert_eq(fnd_config_number(c, "journal.keep"), 5);
	cr_assert_eq(fnd_config_get(c, "journal.keep", buf, 1), -ENOBUFS);
	fnd_table_close(t);
}

/* Sets numbers from many processes; what is in the segment in the end is what a new one finds. */
Test(config, setters_in_any_order_agree_with_the_journal)
{
	uint64_t keep, rate, both[4];
	pid_t pid[4];
	int status;

	for (unsigned int p = 0; p < 4; p++) {
		pid[p] = fork();
		if (pid[p] == 0) {
			struct fnd_segment *mine;
			struct fnd_config *k;
			char text[16];

			prctl(PR_SET_PDEATHSIG, SIGKILL);
			if (fnd_segment_attach(name, NULL, &mine) || fnd_config_open(mine, &k))
				_exit(1);
			for (unsigned int i = 0; i < 25; i++) {
				snprintf(text, sizeof(text), "%u", 1 + (p * 7 + i) % 60);
				if (fnd_config_set(k, p & 1 ? "journal.keep" : "alert.error_rate", text, NULL))
					_exit(2);
			}
			fnd_config_close(k);
			_exit(fnd_segment_detach(mine) ? 3 : 0);
		}
	}
	for (unsigned int p = 0; p < 4; p++) {
		cr_assert_eq(waitpid(pid[p], &status, 0), pid[p]);
		cr_assert(WIFEXITED(status) && WEXITSTATUS(status) == 0, "status %x", (unsigned int)status);
	}
	both[0] = keep = fnd_config_number(c, "journal.keep");
	both[1] = rate = fnd_config_number(c, "alert.error_rate");
	take_away();
	make();
	both[2] = fnd_config_number(c, "journal.keep");
	both[3] = fnd_config_number(c, "alert.error_rate");
	cr_assert(both[0] == both[2] && both[1] == both[3], "%lu %lu, then %lu %lu", keep, rate, both[2], both[3]);
}
