#!/bin/bash
# SPDX-License-Identifier: MIT
# Spacing inside every C file is what clang-format 14 makes of it, and indentation is by tabs.
# Where a line breaks is the writer's choice, so both sides are compared word by word.
set -eu
cd "${FOUNDATION_SOURCE:-$(dirname "$0")/../..}"

words() {
	sed -E 's/\\$//; s/[({]/&\n/g; s/[)}]/\n&/g' | tr -s '[:space:]' '\n'
}

status=0
while read -r file; do
	diff -U 4 --label "$file" --label "$file, as clang-format has it" \
		<(words <"$file") <(clang-format --style=file "$file" | words) || status=1
	# A block comment's later lines start with one blank and an asterisk.
	if grep -HnE '^( +[^ *]|  )' "$file"; then
		echo "indented with blanks: the lines above"
		status=1
	fi
done < <(find shm runtime tools bpf tests docs -name '*.[ch]' | sort)
exit $status
