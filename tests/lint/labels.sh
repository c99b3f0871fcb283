#!/bin/bash
# SPDX-License-Identifier: MIT
# A pair label such as [GP-2] stands on both sides of a pair of memory accesses, and
# docs/memory-model.md says what the pair is for.
set -eu
cd "${FOUNDATION_SOURCE:-$(dirname "$0")/../..}"

model=docs/memory-model.md
label='\[[A-Z]{2,}-[0-9]+\]'
status=0

in_sources=$(grep -rohE --include='*.[ch]' "$label" shm runtime | sort | uniq -c)
in_model=$(grep -ohE "$label" $model | sort -u) || true

while read -r count name; do
	[ -n "$name" ] || continue
	if ! grep -qxF -- "$name" <<<"$in_model"; then
		echo "$name: in the sources, not in $model"
		grep -rnF --include='*.[ch]' -- "$name" shm runtime | head -n 3
		status=1
	elif [ "$count" -lt 2 ]; then
		echo "$name: has one side only"
		grep -rnF --include='*.[ch]' -- "$name" shm runtime
		status=1
	fi
done <<<"$in_sources"

while read -r name; do
	[ -n "$name" ] || continue
	if ! grep -qwF -- "$name" <<<"$in_sources"; then
		echo "$name: in $model, not in the sources"
		status=1
	fi
done <<<"$in_model"
exit $status
