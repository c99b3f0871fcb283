/* SPDX-License-Identifier: MIT */
/* Overflows a signed integer on purpose. */
#include <limits.h>

int main(void)
{
	volatile int big = INT_MAX;

	big = big + 1;
	return 0;
}
