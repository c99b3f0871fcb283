// SPDX-License-Identifier: MIT
/* The layout, the table the layout hash is taken over, and docs/segment-format.md say the same. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../runtime/area_layout.h"
#include "../../runtime/context_layout.h"
#include "header.h"

/* The segment's structs, and those that runtime/ lays over the areas: the hash covers the first alone. */
#define M(structure, name)                                                                        \
	{                                                                                         \
		"fnd_shm_" #structure, #name, offsetof(struct fnd_shm_##structure, name),         \
			sizeof(((struct fnd_shm_##structure *)0)->name)                           \
	}
#define S(structure) { "fnd_shm_" #structure, "", sizeof(struct fnd_shm_##structure), 0 }

static const struct fnd_layout_member over_areas[] = {
	M(runtime, flags),	M(runtime, flags_journalled), M(runtime, flags_wake), M(runtime, shared_only),
	M(runtime, flags_life), M(runtime, flags_ahead),      M(runtime, pad0),	      M(runtime, app_root),
	M(runtime, app_journalled), M(runtime, pad1),	      M(runtime, app_flag),   M(runtime, event_head),
	M(runtime, event_wake), M(runtime, agents_indexed), M(runtime, agents_updated),
	M(runtime, agents_repaired_ns), M(runtime, events_journalled), M(runtime, events_source), M(runtime, pad2),	      M(runtime, journal_dir), M(runtime, reserved),
	S(runtime),
	M(context, word),	M(context, crumbs),	      M(context, dropped),    M(context, pad),
	M(context, crumb),	M(context, fields),	      S(context),	      M(crumb, at_ns),	      M(crumb, bytes),
	M(crumb, text),		S(crumb),
};

static struct fnd_layout_member all[512];
static uint32_t all_count;

static __attribute__((constructor)) void join(void)
{
	const uint32_t more = sizeof(over_areas) / sizeof(over_areas[0]);

	memcpy(all, fnd_layout_members, fnd_layout_member_count * sizeof(*all));
	memcpy(all + fnd_layout_member_count, over_areas, sizeof(over_areas));
	all_count = fnd_layout_member_count + more;
}

/* A row of the document: | `struct` | `member` | offset | size | meaning | */
struct row {
	char structure[64];
	char member[64];
	unsigned int offset;
	unsigned int bytes;
};

static FILE *document(void)
{
	const char *source = getenv("FOUNDATION_SOURCE");
	char path[4096];
	FILE *f;

	cr_assert(source, "FOUNDATION_SOURCE is not set");
	snprintf(path, sizeof(path), "%s/docs/segment-format.md", source);
	f = fopen(path, "re");
	cr_assert(f, "%s", path);
	return f;
}

static bool parse_row(const char *line, struct row *row)
{
	int end = 0;

	return sscanf(line, "| `%63[a-z_]` | `%63[a-z0-9_]` | %u | %u | %n", row->structure, row->member,
		      &row->offset, &row->bytes, &end) == 4 &&
	       end > 0 && strlen(line + end) > 3;
}

/* A row looks like a row of a struct: then it must parse. */
static bool is_row(const char *line)
{
	return strncmp(line, "| `fnd_shm_", 11) == 0;
}

static const struct fnd_layout_member *find(const char *structure, const char *member)
{
	for (uint32_t i = 0; i < all_count; i++)
		if (strcmp(all[i].structure, structure) == 0 &&
		    strcmp(all[i].member, member) == 0)
			return &all[i];
	return NULL;
}

Test(layout, each_row_of_the_document_is_true)
{
	FILE *f = document();
	char line[1024];
	struct row row;

	while (fgets(line, sizeof(line), f)) {
		const struct fnd_layout_member *m;

		if (!is_row(line))
			continue;
		cr_expect(parse_row(line, &row), "not a row with a meaning: %s", line);
		m = find(row.structure, row.member);
		cr_expect(m, "no such member: %s.%s", row.structure, row.member);
		if (!m)
			continue;
		cr_expect_eq(m->offset, row.offset, "%s.%s is at %u", row.structure, row.member, m->offset);
		cr_expect_eq(m->bytes, row.bytes, "%s.%s has %u bytes", row.structure, row.member, m->bytes);
	}
	fclose(f);
}

/* The size of each struct is in its heading: ### struct NAME, N bytes */
Test(layout, each_struct_has_its_size_in_the_document)
{
	FILE *f = document();
	unsigned int headings = 0, ends = 0;
	char line[1024], name[64];
	unsigned int bytes;

	while (fgets(line, sizeof(line), f)) {
		const struct fnd_layout_member *m;

		if (sscanf(line, "### struct %63[a-z_], %u bytes", name, &bytes) != 2)
			continue;
		headings++;
		m = find(name, "");
		cr_expect(m && m->offset == bytes, "struct %s has not %u bytes", name, bytes);
	}
	fclose(f);
	for (uint32_t i = 0; i < all_count; i++)
		ends += all[i].member[0] == '\0';
	cr_expect_eq(headings, ends, "%u headings, %u structs", headings, ends);
}

Test(layout, each_member_has_one_row)
{
	unsigned int *seen = calloc(all_count, sizeof(*seen));
	FILE *f = document();
	char line[1024];
	struct row row;

	while (fgets(line, sizeof(line), f)) {
		const struct fnd_layout_member *m = NULL;

		if (is_row(line) && parse_row(line, &row))
			m = find(row.structure, row.member);
		if (m)
			seen[m - all]++;
	}
	fclose(f);
	for (uint32_t i = 0; i < all_count; i++) {
		const struct fnd_layout_member *m = &all[i];

		cr_expect_eq(seen[i], m->member[0] != '\0', "%s.%s has %u rows", m->structure, m->member,
			     seen[i]);
	}
	free(seen);
}

/* Members follow each other without a gap: so the table has them all, and no padding is hidden. */
Test(layout, no_gaps)
{
	const char *structure = "";
	uint32_t end = 0;

	for (uint32_t i = 0; i < all_count; i++) {
		const struct fnd_layout_member *m = &all[i];

		if (strcmp(structure, m->structure) != 0) {
			cr_expect_eq(end, 0, "%s has no end", structure);
			structure = m->structure;
		}
		cr_expect_eq(m->offset, end, "%s.%s is at %u, %u was expected", m->structure, m->member,
			     m->offset, end);
		end = m->member[0] ? m->offset + m->bytes : 0;
	}
	cr_expect_eq(end, 0, "%s has no end", structure);
}

/* Every struct of layout.h is in the table. */
Test(layout, no_struct_is_missing)
{
	const char *source = getenv("FOUNDATION_SOURCE");
	char path[4096], line[1024], name[64];
	unsigned int structs = 0;
	char brace;
	FILE *f;

	cr_assert(source, "FOUNDATION_SOURCE is not set");
	snprintf(path, sizeof(path), "%s/shm/layout.h", source);
	f = fopen(path, "re");
	cr_assert(f, "%s", path);
	while (fgets(line, sizeof(line), f)) {
		if (sscanf(line, "struct %63[a-z_] %c", name, &brace) != 2 || brace != '{')
			continue;
		structs++;
		cr_expect(find(name, ""), "struct %s is not in the table", name);
	}
	fclose(f);
	cr_expect_geq(structs, 11, "only %u structs found", structs);
}
