#!/bin/bash
# SPDX-License-Identifier: MIT
# mutant.sh CHECK PROGRAM [ARG...] - a program built with a seeded bug: exactly that check must fail.
set -u
check=$1
shift
output=$("$@" 2>&1)
status=$?
failed=$(sed -nE 's/^CHECK ([a-z_]+) FAILED$/\1/p' <<<"$output" | sort -u)
if [ "$status" -eq 1 ] && [ "$failed" = "$check" ]; then
	echo "the bug is caught: CHECK $check FAILED, as it has to"
	exit 0
fi
# Not the sanitizer's own words: a report in the output is what fails other tests.
tail -n 40 <<<"${output//ThreadSanitizer/the sanitizer}"
echo "status $status, failed checks: ${failed:-none}; wanted: 1, $check"
exit 1
