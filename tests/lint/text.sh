#!/bin/bash
# SPDX-License-Identifier: MIT
# Sizes and small habits: files up to 700 lines, functions up to 80, lines up to 120 columns
# (100 is the aim), a licence line on top, no trailing blanks, no unfinished business.
set -eu
cd "${FOUNDATION_SOURCE:-$(dirname "$0")/../..}"

report() { # rule, then what a search has found on standard input
	local found
	found=$(cat)
	[ -z "$found" ] && return
	printf '%s:\n%s\n' "$1" "$found"
	status=1
}

status=0
mapfile -t code < <(find shm runtime tools bpf docs/examples -name '*.[ch]' | sort)
mapfile -t files < <(find shm runtime tools bpf docs/examples tests cmake \
	-name '*.[ch]' -o -name '*.sh' -o -name '*.cmake' -o -name CMakeLists.txt | sort)

# A process substitution, not a pipe: report() has to set the status of this shell.
report "more than 700 lines" < <(
	for file in "${code[@]}"; do
		awk -v f="$file" 'END { if (NR > 700) print f ": " NR }' "$file"
	done)
report "a function of more than 80 lines" < <(
	for file in "${code[@]}"; do
		awk -v f="$file" '/^{/ { start = NR } /^}/ && start {
			if (NR - start - 1 > 80) print f ":" start ": " NR - start - 1
			start = 0 }' "$file"
	done)
report "wider than 120 columns" < <(
	for file in "${code[@]}"; do
		expand -t 8 "$file" | LC_ALL=C.UTF-8 awk -v f="$file" \
			'{ sub(/ *\\$/, "") } length($0) > 120 { print f ":" NR ": " length($0) }'
	done)
report "no SPDX line within the first three" < <(
	for file in "${files[@]}"; do
		head -n 3 "$file" | grep -q SPDX-License-Identifier || echo "$file"
	done)
report "blanks at the end of a line" < <(grep -nE '[[:blank:]]+$' "${files[@]}")
report "unfinished business" < <(grep -nE '\b(TO''DO|FIX''ME|XX''X)\b' "${files[@]}")
exit $status
