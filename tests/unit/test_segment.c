// SPDX-License-Identifier: MIT
/* Creating, attaching, listing, detaching, destroying: the results, and what they leave behind. */
#include <criterion/criterion.h>
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <foundation/segment.h>
#include <foundation/table.h>

static char name[FND_NAME_MAX + 1], path[160];

static void named(const char *what)
{
	snprintf(name, sizeof(name), "test.segment.%d.%s", (int)getpid(), what);
	snprintf(path, sizeof(path), "/dev/shm/foundation.%u.%s", (unsigned int)geteuid(), name);
}

static struct fnd_segment_options small(void)
{
	return (struct fnd_segment_options){ .size = sizeof(struct fnd_segment_options),
					     .processes = 4,
					     .threads = 4,
					     .max_bytes = 16u << 20 };
}

static bool there(void)
{
	return access(path, F_OK) == 0;
}

/* --- options -------------------------------------------------------------------------------------- */

static void refused(struct fnd_segment_options o, const char *word)
{
	struct fnd_segment *seg = NULL;
	int err = fnd_segment_create(name, &o, &seg);

	cr_expect_eq(err, -EINVAL, "%s: result %d", word, err);
	cr_expect(strstr(fnd_error_detail(), word), "'%s' does not say %s", fnd_error_detail(), word);
	cr_expect_null(seg);
	cr_expect(!there());
}

Test(options, refused)
{
	struct fnd_segment_options o;

	named("refused");
	o = small(), o.size = 0;
	refused(o, "version");
	o = small(), o.size = sizeof(o) + 8;
	refused(o, "version");
	o = small(), o.flags = 2;
	refused(o, "version");
	o = small(), o.processes = 4096;
	refused(o, "4095 participant");
	o = small(), o.threads = UINT32_MAX;
	refused(o, "4095 thread");
	o = small(), o.max_bytes = (32ULL << 30) + 1;
	refused(o, "max_bytes");
	o = small(), o.max_bytes = UINT64_MAX;
	refused(o, "max_bytes");
	o = small(), o.max_bytes = 4096;
	refused(o, "max_bytes");
	o = small(), o.mode = 0400;
	refused(o, "mode");
	o = small(), o.mode = 0666;
	refused(o, "mode");
	o = small(), o.mode = 0700;
	refused(o, "mode");
}

Test(options, defaults)
{
	struct fnd_participant self;
	struct fnd_segment *seg;
	struct stat st;

	named("defaults");
	cr_assert_eq(fnd_segment_create(name, NULL, &seg), 0, "%s", fnd_error_detail());
	cr_expect_eq(stat(path, &st), 0);
	cr_expect_eq(st.st_mode & 07777, 0600);
	cr_expect_eq(st.st_uid, geteuid());
	cr_expect_eq(st.st_nlink, 1);
	cr_expect_geq((uint64_t)st.st_blocks * 512, (uint64_t)st.st_size, "backed, not sparse");
	cr_expect_eq(fnd_segment_self(seg, &self), 0);
	cr_expect_eq(self.pid, (uint32_t)getpid());
	cr_expect(self.slot >= 1 && self.slot <= 256);
	cr_expect_eq(fnd_segment_detach(seg), 0);
	cr_expect(there(), "it outlives its creator's attachment");
	cr_expect_eq(fnd_segment_destroy(name, 0), 0);
	cr_expect(!there());
}

/* The mode is what was asked for, whatever the umask says. */
Test(options, mode)
{
	static const mode_t modes[] = { 0600, 0640, 0660 };
	struct stat st;

	umask(077);
	for (size_t i = 0; i < 3; i++) {
		struct fnd_segment_options o = small();

		named("mode");
		o.mode = modes[i];
		cr_assert_eq(fnd_segment_create(name, &o, NULL), 0, "%s", fnd_error_detail());
		cr_expect_eq(stat(path, &st), 0);
		cr_expect_eq(st.st_mode & 07777, modes[i]);
		cr_expect_eq(fnd_segment_destroy(name, 0), 0);
	}
}

Test(options, fenced)
{
	struct fnd_segment_options o = small();
	struct fnd_segment *seg;

	named("fenced");
	o.flags = FND_SEGMENT_FENCED;
	cr_assert_eq(fnd_segment_create(name, &o, &seg), 0, "%s", fnd_error_detail());
	cr_expect_eq(fnd_read_begin(seg), 0);
	cr_expect_eq(fnd_read_end(seg), 0);
	cr_expect_eq(fnd_synchronize(seg, 1000), 0);
	cr_expect_eq(fnd_segment_detach(seg), 0);
	cr_expect_eq(fnd_segment_destroy(name, 0), 0);
}

static int init_tables(struct fnd_segment *seg, void *arg)
{
	struct fnd_table_options o = { .size = sizeof(o), .key_max = 8, .value_max = 8, .capacity = 16 };
	struct fnd_table *t;
	int err = fnd_table_open(seg, "first", &o, &t);

	cr_expect(!there(), "nobody can see it yet");
	if (!err)
		fnd_table_close(t);
	return err ? err : *(int *)arg;
}

Test(options, init)
{
	struct fnd_segment_options o = small();
	struct fnd_segment *seg = NULL;
	char table[FND_TABLE_NAME_MAX + 1];
	int result = -EIO;

	named("init");
	o.init = init_tables;
	o.init_arg = &result;
	cr_expect_eq(fnd_segment_create(name, &o, &seg), -EIO, "what init returned");
	cr_expect(!seg && !there(), "a failure undoes all");
	result = 0;
	cr_assert_eq(fnd_segment_create(name, &o, NULL), 0);
	cr_assert_eq(fnd_segment_attach(name, NULL, &seg), 0);
	cr_expect_eq(fnd_table_name(seg, 0, table), 0);
	cr_expect_str_eq(table, "first");
	cr_expect_eq(fnd_segment_detach(seg), 0);
	cr_expect_eq(fnd_segment_destroy(name, 0), 0);
}

/* --- names ---------------------------------------------------------------------------------------- */

Test(segment, name_forms)
{
	static const char *const bad[] = { "", "A", "a b", "a/b", "../x", "/x", "1/", "01/x", "a\n" };
	struct fnd_segment_options o = small();
	struct fnd_segment *seg = NULL;
	char own[FND_NAME_MAX + 16];

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		cr_expect_eq(fnd_segment_create(bad[i], &o, &seg), -EINVAL, "'%s'", bad[i]);
		cr_expect_eq(fnd_segment_attach(bad[i], NULL, &seg), -EINVAL, "'%s'", bad[i]);
		cr_expect_eq(fnd_segment_destroy(bad[i], 0), -EINVAL, "'%s'", bad[i]);
		cr_expect_eq(fnd_segment_destroy(bad[i], FND_DESTROY_FORCE), -EINVAL, "'%s'", bad[i]);
	}
	cr_expect_eq(fnd_segment_create(NULL, &o, &seg), -EINVAL);
	cr_expect_eq(fnd_segment_create("4294967294/x", &o, &seg), -EINVAL, "another's name space");
	cr_expect(strstr(fnd_error_detail(), "name space"));
	cr_expect_null(seg);

	named("qualified");
	snprintf(own, sizeof(own), "%u/%s", (unsigned int)geteuid(), name);
	cr_assert_eq(fnd_segment_create(own, &o, NULL), 0);
	cr_expect(there());
	cr_expect_eq(fnd_segment_attach(name, NULL, &seg), 0, "one segment, two spellings");
	cr_expect_eq(fnd_segment_detach(seg), 0);
	cr_expect_eq(fnd_segment_destroy(own, 0), 0);
	memset(name, 'z', FND_NAME_MAX); /* the longest */
	name[FND_NAME_MAX] = '\0';
	cr_expect_eq(fnd_segment_create(name, &o, NULL), 0, "%s", fnd_error_detail());
	cr_expect_eq(fnd_segment_destroy(name, 0), 0);
}

/* --- results -------------------------------------------------------------------------------------- */

Test(segment, results)
{
	struct fnd_attach_options a = { .size = sizeof(a) };
	struct fnd_segment_options o = small();
	struct fnd_segment *seg = NULL, *again;

	named("results");
	cr_expect_eq(fnd_segment_attach(name, NULL, &seg), -ENOENT);
	cr_expect(strstr(fnd_error_detail(), path));
	cr_expect_eq(fnd_segment_destroy(name, 0), -ENOENT);
	cr_expect_eq(fnd_segment_destroy(name, 2), -EINVAL);
	cr_assert_eq(fnd_segment_create(name, &o, NULL), 0);
	cr_expect_eq(fnd_segment_create(name, &o, &seg), -EEXIST);
	cr_expect(strstr(fnd_error_detail(), name));
	a.size--;
	cr_expect_eq(fnd_segment_attach(name, &a, &seg), -EINVAL);
	a.size++;
	a.flags = 1;
	cr_expect_eq(fnd_segment_attach(name, &a, &seg), -EINVAL);
	cr_expect_null(seg, "untouched by every refusal");
	a.flags = 0;
	cr_assert_eq(fnd_segment_attach(name, &a, &seg), 0);
	cr_expect_eq(fnd_segment_destroy(name, 0), -EBUSY);
	cr_expect(strstr(fnd_error_detail(), "pid"));
	cr_expect_eq(fnd_segment_destroy(name, FND_DESTROY_FORCE), 0);
	cr_expect_eq(fnd_segment_attach(name, NULL, &again), -ENOENT);
	cr_expect_eq(fnd_counter_add(seg, FND_COUNTER_EMITTED, 2), 0, "the nameless memory goes on");
	cr_expect_eq(fnd_counter_read(seg, FND_COUNTER_EMITTED), 2);
	cr_expect_eq(fnd_segment_detach(seg), 0);
	cr_expect_eq(fnd_segment_detach(NULL), 0);
}

Test(segment, calls)
{
	struct fnd_participant self, other = { 0 };
	struct fnd_segment_options o = small();
	struct fnd_latency latency;
	struct fnd_segment *seg;
	unsigned int n = 99;

	named("calls");
	cr_assert_eq(fnd_segment_create(name, &o, &seg), 0);
	cr_expect_eq(fnd_segment_self(seg, &self), 0);
	cr_expect_eq(fnd_segment_participant(seg, (uint32_t)getpid(), &other), 0);
	cr_expect_eq(memcmp(&self, &other, sizeof(self)), 0);
	cr_expect_eq(fnd_segment_participant(seg, 1, &other), -ESRCH);
	cr_expect(fnd_participant_active(seg, &self) && !fnd_participant_dead(seg, &self));
	other = self;
	other.generation++;
	cr_expect(!fnd_participant_active(seg, &other) && fnd_participant_dead(seg, &other));
	other.slot = 4096;
	cr_expect(!fnd_participant_active(seg, &other) && fnd_participant_dead(seg, &other));
	cr_expect_eq(fnd_segment_reap(seg, &n), 0);
	cr_expect_eq(n, 0, "nobody is dead");
	cr_expect_eq(fnd_counter_add(seg, (enum fnd_counter)FND_COUNTER_MAX, 1), -EINVAL);
	cr_expect_eq(fnd_counter_add(seg, (enum fnd_counter)(FND_COUNTER_MAX + 1), 1), -EINVAL);
	cr_expect_eq(fnd_counter_read(seg, (enum fnd_counter)FND_COUNTER_MAX), 0);
	cr_expect_eq(fnd_latency_read(seg, (enum fnd_op)FND_OP_MAX, &latency), -EINVAL);
	cr_expect_eq(fnd_latency_read(seg, FND_OP_LOOKUP, &latency), 0);
	cr_expect_eq(latency.samples, 0);
	cr_expect_eq(fnd_read_end(seg), 0, "an end without a begin does nothing");
	for (int i = 0; i < 1000; i++)
		cr_assert_eq(fnd_read_begin(seg), 0);
	for (int i = 0; i < 1000; i++)
		cr_assert_eq(fnd_read_end(seg), 0);
	cr_expect_eq(fnd_synchronize(seg, 1000), 0, "all sections have ended");
	cr_expect_eq(fnd_segment_detach(seg), 0);
	cr_expect_eq(fnd_segment_destroy(name, 0), 0);
}

/* --- the list ------------------------------------------------------------------------------------- */

struct seen {
	struct fnd_segment_entry sound, odd;
	unsigned int calls;
	int stop;
};

static int look(const struct fnd_segment_entry *e, void *arg)
{
	struct seen *s = arg;
	char odd[FND_NAME_MAX + 1];

	snprintf(odd, sizeof(odd), "%.60s.odd", name);
	s->calls++;
	if (strcmp(e->name, name) == 0)
		s->sound = *e;
	else if (strcmp(e->name, odd) == 0)
		s->odd = *e;
	return s->stop;
}

Test(segment, list)
{
	struct fnd_segment_options o = small();
	struct seen s = { .calls = 0 };
	char odd[200];
	struct stat st;
	FILE *f;

	named("list");
	cr_expect_eq(fnd_segment_list(NULL, NULL), -EINVAL);
	cr_assert_eq(fnd_segment_create(name, &o, NULL), 0);
	snprintf(odd, sizeof(odd), "%s.odd", path);
	f = fopen(odd, "w");
	cr_assert(f && fputs("no segment", f) >= 0 && fclose(f) == 0);
	cr_expect_eq(fnd_segment_list(look, &s), 0);
	cr_expect_eq(stat(path, &st), 0);
	cr_expect_str_eq(s.sound.name, name);
	cr_expect_eq(s.sound.uid, geteuid());
	cr_expect_eq(s.sound.status, 0);
	cr_expect_eq(s.sound.bytes, (uint64_t)st.st_size);
	cr_expect_eq(s.odd.status, -FND_E_FOREIGN, "what attaching would say");
	s = (struct seen){ .stop = 7 };
	cr_expect_eq(fnd_segment_list(look, &s), 7, "what the callback returned");
	cr_expect_eq(s.calls, 1);
	cr_expect_eq(unlink(odd), 0);
	cr_expect_eq(fnd_segment_destroy(name, 0), 0);
}
