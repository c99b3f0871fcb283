/* SPDX-License-Identifier: MIT */
/*
 * The registry and deduplication over several processes, some of which are killed.
 *
 * usage: test_registry [CASE]...
 */
#include "multiproc.h"

extern const struct test_case registry_cases[], dedup_cases[];

int main(int argc, char **argv)
{
	static const struct test_case *const tables[] = { registry_cases, dedup_cases, NULL };

	return cases_main(argc, argv, "registry", tables);
}
