// SPDX-License-Identifier: MIT
/*
 * Events, deaths and the index of the registry over several processes, most of which are killed.
 *
 * usage: test_agents [CASE]...
 */
#include "multiproc.h"

extern const struct test_case agents_events_cases[], agents_death_cases[], agents_index_cases[];

int main(int argc, char **argv)
{
	static const struct test_case *const tables[] = { agents_events_cases, agents_death_cases,
							  agents_index_cases, NULL };

	return cases_main(argc, argv, "agents", tables);
}
