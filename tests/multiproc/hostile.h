/* SPDX-License-Identifier: MIT */
#ifndef FND_TESTS_HOSTILE_H
#define FND_TESTS_HOSTILE_H

#include "multiproc.h"

extern const struct test_case full_cases[];   /* no memory, no place, no slot */
extern const struct test_case file_cases[];   /* another thing under the name, a damaged header */
extern const struct test_case damage_cases[]; /* damage behind the header */
extern const struct test_case home_cases[];   /* pid namespaces, deaths and races around a name */
extern const struct test_case handle_cases[]; /* handles after fork, twice, while others destroy */

#endif
