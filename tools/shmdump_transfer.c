// SPDX-License-Identifier: MIT
/* shmdump backup and restore. */
#include "shmdump.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <foundation/facts.h>
#include <foundation/segment.h>

static json_t *backup_json(const struct arguments *a, const struct fnd_snapshot_info *info, bool durable)
{
	json_t *o = json_object();

	json_object_set_new(o, "schema", json_string("foundation.shmdump-backup/1"));
	json_object_set_new(o, "file", json_line(a->file[0]));
	json_object_set_new(o, "segment", json_line(info->segment));
	json_count(o, "tables", info->tables);
	json_count(o, "records", info->records);
	json_count(o, "blocks", info->blocks);
	json_count(o, "bytes", info->bytes);
	json_flag(o, "writes_seen", info->flags & FND_SNAPSHOT_WRITES_SEEN);
	json_flag(o, "durable", durable);
	return o;
}

/* With "-" standard output is the backup itself, so what there is to say goes to standard error. */
static void report_backup(const struct arguments *a, const struct fnd_snapshot_info *info, bool durable)
{
	FILE *to = strcmp(a->file[0], "-") ? stdout : stderr;
	const char *exact = "no change noticed meanwhile";
	char size[24];
	json_t *o;

	if (a->json) {
		o = backup_json(a, info, durable);
		json_dumpf(o, to, JSON_INDENT(2));
		fputc('\n', to);
		json_decref(o);
		return;
	}
	if (info->flags & FND_SNAPSHOT_WRITES_SEEN)
		exact = "tables changed meanwhile";
	fprintf(to, "%s: %llu records of %llu tables, %s; each shard exact, %s\n", a->file[0],
		(unsigned long long)info->records, (unsigned long long)info->tables,
		tool_bytes(info->bytes, size), exact);
}

static const char *outcome(int status)
{
	return status == TOOL_FINE ? "ok" : status == TOOL_NOT_DURABLE ? "not durable" : "failed";
}

/* The journal of the segment says which backups there are. Whether it can is no matter of the backup's. */
static void note_backup(const struct arguments *a, struct fnd_segment *seg, const struct fnd_snapshot_info *info,
			int status)
{
	char *cwd = a->file[0][0] == '/' || !strcmp(a->file[0], "-") ? NULL : getcwd(NULL, 0), *text;
	json_t *o = json_object();
	size_t end;
	int err;

	json_object_set_new(o, "file", json_line(a->file[0]));
	if (cwd)
		json_object_set_new(o, "directory", json_line(cwd));
	json_object_set_new(o, "result", json_string(outcome(status)));
	if (status == TOOL_FINE || status == TOOL_NOT_DURABLE) {
		json_count(o, "tables", info->tables);
		json_count(o, "records", info->records);
		json_count(o, "bytes", info->bytes);
	} else {
		json_count(o, "status", (uint64_t)status);
	}
	json_count(o, "uid", geteuid());
	text = json_dumps(o, JSON_COMPACT | JSON_PRESERVE_ORDER);
	end = text ? strlen(text) - 1 : 0;
	if (end)
		text[end] = '\0'; /* members, without the braces */
	err = end ? fnd_fact_append(seg, "backup", text + 1) : -ENOMEM;
	if (err)
		fprintf(stderr, PROG ": %s: the backup is not in the journal: %s\n", a->segment,
			fnd_error_detail()[0] ? fnd_error_detail() : fnd_strerror(err));
	free(text);
	json_decref(o);
	free(cwd);
}

static int write_backup(const struct arguments *a, struct fnd_segment *seg, struct fnd_snapshot_info *ret_info)
{
	struct fnd_snapshot_info info;
	struct output out;
	const char *why;
	int err = output_open(a->file[0], &out, &why);

	if (err && why) {
		fprintf(stderr, PROG ": %s: %s\n", a->file[0], why);
		return tool_exit_status(err);
	}
	if (err)
		return tool_fail_errno(PROG, a->file[0], -err);
	err = fnd_snapshot_write(seg, out.fd, &info);
	if (err) {
		output_abort(&out);
		return tool_fail(PROG, a->file[0], err);
	}
	err = output_commit(&out);
	if (err < 0)
		return tool_fail_errno(PROG, a->file[0], -err);
	*ret_info = info;
	report_backup(a, &info, err == OUTPUT_DURABLE);
	if (err != OUTPUT_NOT_DURABLE)
		return tool_finish(PROG, TOOL_FINE);
	fprintf(stderr,
		PROG ": %s: the backup is complete, but its directory could not be synced: "
		     "its name may be lost with the power\n",
		a->file[0]);
	return TOOL_NOT_DURABLE;
}

int shmdump_backup(const struct arguments *a)
{
	struct fnd_snapshot_info info = { .tables = 0 };
	struct fnd_segment *seg;
	int err, status;

	if (!a->segment)
		return tool_usage(PROG, "backup: which segment? --segment NAME, or FOUNDATION_SEGMENT");
	err = fnd_segment_attach(a->segment, NULL, &seg);
	if (err)
		return tool_fail(PROG, a->segment, err);
	status = write_backup(a, seg, &info);
	note_backup(a, seg, &info, status);
	tool_leave(PROG, a->segment, seg);
	return status;
}

static int report_restore(const struct arguments *a, const struct fnd_snapshot_report *r)
{
	if (a->json) {
		json_t *o = json_object();

		json_object_set_new(o, "schema", json_string("foundation.shmdump-restore/1"));
		json_object_set_new(o, "file", json_line(a->file[0]));
		json_object_set_new(o, "segment", json_line(a->segment));
		json_count(o, "tables", r->tables);
		json_count(o, "records", r->records);
		json_count(o, "dropped", r->dropped);
		json_count(o, "orphans", r->orphans);
		return tool_print_json(PROG, o);
	}
	printf("%s: %llu records of %llu tables restored\n", a->segment, (unsigned long long)r->records,
	       (unsigned long long)r->tables);
	if (r->dropped)
		printf("%llu dropped: their owners are no live participants of it ('--owners all' keeps them)\n",
		       (unsigned long long)r->dropped);
	if (r->orphans)
		printf("%llu of them are orphans: kept without a living owner\n",
		       (unsigned long long)r->orphans);
	return tool_finish(PROG, TOOL_FINE);
}

int shmdump_restore(const struct arguments *a)
{
	struct fnd_snapshot_restore_options opt = { .size = sizeof(opt) };
	struct fnd_snapshot_report report;
	int fd, err;

	if (!a->segment)
		return tool_usage(PROG, "restore: which segment? --segment NAME, or FOUNDATION_SEGMENT");
	if (a->owners && !strcmp(a->owners, "all"))
		opt.owners = FND_SNAPSHOT_OWNERS_ALL;
	else if (a->owners && strcmp(a->owners, "live"))
		return tool_usage(PROG, "restore: --owners is 'live' or 'all', not '%s'", a->owners);
	fd = input_open(a->file[0]);
	if (fd < 0)
		return tool_fail_errno(PROG, a->file[0], -fd);
	err = fnd_snapshot_restore(fd, a->segment, &opt, &report, NULL);
	close(fd);
	if (err) {
		bool of_file = err == -FND_E_CORRUPT || err == -FND_E_TOO_NEW;

		return tool_fail(PROG, of_file ? a->file[0] : a->segment, err);
	}
	return report_restore(a, &report);
}
