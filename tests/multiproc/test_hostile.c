/* SPDX-License-Identifier: MIT */
/*
 * Hostile starts: whatever is wrong with the place, the file or the moment, a call gets the error made
 * for it, the detail says where, and everything stays as it was.
 *
 * usage: test_hostile [CASE]...
 */
#include "hostile.h"

int main(int argc, char **argv)
{
	static const struct test_case *const tables[] = { full_cases,  file_cases, damage_cases,
							  home_cases, handle_cases, NULL };

	return cases_main(argc, argv, "hostile", tables);
}
