/* SPDX-License-Identifier: MIT */
/* Leaks on purpose: Criterion calls it passed, the sanitizer's report must not. */
#include <stdlib.h>
#include <criterion/criterion.h>

static void *volatile block;

Test(control, leak)
{
	block = malloc(64);
	cr_assert_not_null(block);
	block = NULL;
}
