// SPDX-License-Identifier: MIT
/* Snapshots of real segments: full and grown tables come back whole, refused restores leave nothing. */
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <foundation/segment.h>
#include <foundation/table.h>

#include "snapshot.h"

static unsigned int failures;
static unsigned long checks;

#define CHECK(cond, ...)                                                           \
	do {                                                                       \
		checks++;                                                          \
		if (!(cond)) {                                                     \
			failures++;                                                \
			fprintf(stderr, "%s:%d: %s: ", __FILE__, __LINE__, #cond); \
			fprintf(stderr, __VA_ARGS__);                              \
			fprintf(stderr, " (%s)\n", fnd_error_detail());            \
		}                                                                  \
	} while (0)

static const struct fnd_table_options full = { sizeof(full), FND_TABLE_FIXED, 16, 40, 1000 };
static const struct fnd_table_options small = { sizeof(small), 0, 16, 300, 16 };
static const struct fnd_table_options owned = { sizeof(owned), FND_TABLE_OWNED, 16, 64, 100 };

static const char *name_of(const char *what)
{
	static char name[2][FND_NAME_MAX + 1];
	static unsigned int turn;

	turn = !turn;
	snprintf(name[turn], sizeof(name[turn]), "t-snapshot-%ld-%s", (long)getpid(), what);
	return name[turn];
}

static bool exists(const char *name)
{
	char path[128];

	snprintf(path, sizeof(path), "/dev/shm/foundation.%u.%s", geteuid(), name);
	return access(path, F_OK) == 0;
}

static int memory_file(void)
{
	int fd = memfd_create("snapshot", MFD_CLOEXEC);

	if (fd < 0) {
		perror("memfd_create");
		exit(1);
	}
	return fd;
}

static struct fnd_segment *make(const char *name, uint32_t flags)
{
	struct fnd_segment_options opt = { .size = sizeof(opt), .flags = flags, .processes = 10, .threads = 20 };
	struct fnd_segment *seg = NULL;

	CHECK(!fnd_segment_create(name, &opt, &seg), "%s", name);
	if (!seg)
		exit(1);
	return seg;
}

static struct fnd_table *fill(struct fnd_segment *seg, const char *name, const struct fnd_table_options *opt,
			      unsigned int records)
{
	struct fnd_table *t = NULL;
	char value[300];

	CHECK(!fnd_table_open(seg, name, opt, &t), "%s", name);
	memset(value, 0, sizeof(value));
	for (unsigned int i = 0; t && i < records; i++) {
		snprintf(value + 16, 24, "value %u", i);
		CHECK(!fnd_table_insert(t, &i, sizeof(i), value, 16 + i % (opt->value_max - 15)), "%s %u", name,
		      i);
	}
	return t;
}

/* A restored table holds exactly these records. */
static void check_table(struct fnd_segment *seg, const char *name, const struct fnd_table_options *opt,
			unsigned int records)
{
	struct fnd_table_stats stats;
	struct fnd_table *t = NULL;
	char want[300], got[300];

	CHECK(!fnd_table_open(seg, name, opt, &t), "%s with its own limits", name);
	if (!t)
		return;
	CHECK(!fnd_table_stats_read(t, &stats) && stats.live == records, "%s", name);
	CHECK(!fnd_table_check(t), "%s", name);
	memset(want, 0, sizeof(want));
	for (unsigned int i = 0; i < records; i++) {
		size_t bytes = 0, len = 16 + i % (opt->value_max - 15);

		snprintf(want + 16, 24, "value %u", i);
		CHECK(!fnd_table_lookup(t, &i, sizeof(i), got, sizeof(got), &bytes), "%s %u", name, i);
		CHECK(bytes == len && !memcmp(got, want, len), "%s %u", name, i);
	}
	fnd_table_close(t);
}

/* A table that is full to its last record, and one that has long outgrown its capacity. */
static void test_full_and_grown(void)
{
	struct fnd_segment *seg = make(name_of("a"), FND_SEGMENT_FENCED), *copy = NULL;
	struct fnd_snapshot_info wrote, read;
	struct fnd_snapshot_report report;
	int fd = memory_file();

	fnd_table_close(fill(seg, "full", &full, 1000));
	fnd_table_close(fill(seg, "grown", &small, 20000));
	CHECK(!fnd_snapshot_write(seg, fd, &wrote), "write");
	CHECK(wrote.tables == 2 && wrote.records == 21000, "%llu", (unsigned long long)wrote.records);
	CHECK(!(wrote.flags & FND_SNAPSHOT_WRITES_SEEN), "nobody wrote");
	CHECK(wrote.bytes == (uint64_t)lseek(fd, 0, SEEK_END), "%llu bytes", (unsigned long long)wrote.bytes);
	lseek(fd, 0, SEEK_SET);
	CHECK(!fnd_snapshot_restore(fd, name_of("b"), NULL, &report, &read), "restore");
	CHECK(report.tables == 2 && report.records == 21000 && !report.dropped && !report.orphans, "report");
	CHECK(!memcmp(&wrote, &read, sizeof(read)), "both sides say the same");
	CHECK(read.processes == 10 && read.threads == 20 && read.segment_flags == FND_SEGMENT_FENCED, "options");

	CHECK(!fnd_segment_attach(name_of("b"), NULL, &copy), "attach");
	if (copy) {
		check_table(copy, "full", &full, 1000);
		check_table(copy, "grown", &small, 20000);
		fnd_segment_detach(copy);
	}
	fnd_segment_detach(seg);
	CHECK(!fnd_segment_destroy(name_of("a"), 0) && !fnd_segment_destroy(name_of("b"), 0), "destroy");
	close(fd);
}

static void put_owner(struct fnd_segment *seg)
{
	struct fnd_table *t = fill(seg, "owned", &owned, 0);
	struct fnd_participant me;
	struct fnd_owner o;

	CHECK(!fnd_segment_self(seg, &me), "self");
	o = (struct fnd_owner){ me.pid, me.slot, me.generation, 0 };
	for (unsigned int i = 0; i < 20; i++)
		CHECK(!fnd_table_insert(t, &i, sizeof(i), &o, sizeof(o)), "owned %u", i);
	fnd_table_close(t);
}

static int see_orphan(const struct fnd_record *r, void *arg)
{
	struct fnd_owner o;

	memcpy(&o, r->value, sizeof(o));
	CHECK(r->value_bytes == sizeof(o) && o.pid == (uint32_t)getpid() && !o.slot && !o.generation, "orphan");
	++*(unsigned int *)arg;
	return 0;
}

static void test_owners(void)
{
	struct fnd_segment *seg = make(name_of("a"), 0), *copy = NULL;
	struct fnd_snapshot_restore_options opt = { .size = sizeof(opt), .owners = FND_SNAPSHOT_OWNERS_ALL };
	struct fnd_snapshot_report report;
	struct fnd_table *t = NULL;
	unsigned int orphans = 0;
	int fd = memory_file();

	put_owner(seg);
	CHECK(!fnd_snapshot_write(seg, fd, NULL), "write");
	lseek(fd, 0, SEEK_SET);
	/* The owner lives, but not there. */
	CHECK(!fnd_snapshot_restore(fd, name_of("b"), NULL, &report, NULL), "live");
	CHECK(report.dropped == 20 && !report.records && !report.orphans, "live");
	lseek(fd, 0, SEEK_SET);
	CHECK(!fnd_snapshot_restore(fd, name_of("c"), &opt, &report, NULL), "all");
	CHECK(!report.dropped && report.records == 20 && report.orphans == 20, "all");
	CHECK(!fnd_segment_attach(name_of("c"), NULL, &copy), "attach");
	if (copy) {
		CHECK(!fnd_table_open(copy, "owned", NULL, &t), "open");
		CHECK(!fnd_table_iterate(t, 0, see_orphan, &orphans) && orphans == 20, "%u", orphans);
		fnd_table_close(t);
		fnd_segment_detach(copy);
	}

	/* A name that is taken, by the segment itself. */
	lseek(fd, 0, SEEK_SET);
	CHECK(fnd_snapshot_restore(fd, name_of("a"), NULL, &report, NULL) == -EEXIST, "taken");
	/* Options that are none. */
	opt.owners = 7;
	CHECK(fnd_snapshot_restore(fd, name_of("d"), &opt, &report, NULL) == -EINVAL, "owners");
	opt = (struct fnd_snapshot_restore_options){ .size = 4 };
	CHECK(fnd_snapshot_restore(fd, name_of("d"), &opt, &report, NULL) == -EINVAL, "size");
	CHECK(!exists(name_of("d")), "nothing");

	fnd_segment_detach(seg);
	CHECK(!fnd_segment_destroy(name_of("a"), 0), "destroy");
	CHECK(!fnd_segment_destroy(name_of("b"), 0) && !fnd_segment_destroy(name_of("c"), 0), "destroy");
	close(fd);
}

static void test_no_tables(void)
{
	struct fnd_segment *seg = make(name_of("a"), 0);
	struct fnd_snapshot_info info;
	struct fnd_snapshot_report report;
	int fd = memory_file();

	CHECK(!fnd_snapshot_write(seg, fd, &info) && !info.tables && info.bytes == 256 + 80, "write");
	lseek(fd, 0, SEEK_SET);
	CHECK(!fnd_snapshot_restore(fd, name_of("b"), NULL, &report, NULL) && !report.tables, "restore");
	fnd_segment_detach(seg);
	CHECK(!fnd_segment_destroy(name_of("a"), 0) && !fnd_segment_destroy(name_of("b"), 0), "destroy");
	close(fd);
}

/* Sound files that nobody honest would write. */
static void test_hostile(void)
{
	static const struct fnd_snapshot_info head = { .segment = "0/hostile", .processes = UINT32_MAX };
	static const struct fnd_snapshot_info plain = { .segment = "0/hostile" };
	struct fnd_snapshot_table t = { "t", 0, 255, 65536, INT64_MAX };
	struct fnd_snapshot_record r = { "k", 1, "v", 1, NULL, 0, 0 };
	struct fnd_snapshot_writer w;
	int err;

	for (unsigned int round = 0; round < 3; round++) {
		int fd = memory_file();

		CHECK(!fnd_snapshot_writer_start(&w, fd, round == 2 ? &head : &plain), "start");
		if (round)
			t.capacity = 10;
		CHECK(!fnd_snapshot_writer_table(&w, &t), "table");
		CHECK(!fnd_snapshot_writer_record(&w, &r), "record");
		if (round == 1) /* the same key once more */
			CHECK(!fnd_snapshot_writer_record(&w, &r), "record");
		CHECK(!fnd_snapshot_writer_finish(&w, 0, NULL), "finish");
		fnd_snapshot_writer_free(&w);
		lseek(fd, 0, SEEK_SET);
		err = fnd_snapshot_restore(fd, name_of("h"), NULL, NULL, NULL);
		CHECK(round == 1 ? err == -FND_E_CORRUPT : err < 0, "round %u: %d", round, err);
		CHECK(!exists(name_of("h")), "round %u left a segment", round);
		close(fd);
	}
}

int main(void)
{
	test_full_and_grown();
	test_owners();
	test_no_tables();
	test_hostile();
	printf("%lu checks, %u failed\n", checks, failures);
	return failures != 0;
}
