#!/bin/bash
# SPDX-License-Identifier: MIT
# Each option that --help of a tool or of one of its commands shows is in the tool's man page and in its
# completion; each command too.
set -u
cd "${FOUNDATION_SOURCE:-$(dirname "$0")/../..}" || exit 1
bin=${FOUNDATION_BIN:?}
status=0

bad() {
	echo "$*"
	status=1
}

# Options of a help text, one a line: "  -s, --segment=NAME   …" gives -s and --segment.
options() {
	sed -nE 's/^ +((-.),? )? *(--[a-z-]+)?.*/\2 \3/p' | tr ' ' '\n' | grep -E '^-' | sort -u
}

check() { # tool, command or ''
	local tool=$1 command=$2 page=docs/man/$1.1.scd text option
	# shellcheck disable=SC2086 # no command is no argument
	text=$("$bin/$tool" $command --help </dev/null) || bad "$tool $command --help: exit $?"
	for option in $(options <<<"$text"); do
		grep -qF -- "*$option*" "$page" || bad "$page: no *$option* (of '$tool $command')"
		case $option in
		--*) grep -qF -- "$option" "tools/completions/$tool" ||
			bad "tools/completions/$tool: no $option (of '$tool $command')" ;;
		esac
	done
}

for page in docs/man/*.1.scd; do
	tool=$(basename "$page" .1.scd)
	[ -x "$bin/$tool" ] || continue
	check "$tool" ''
	[ "$tool" = foundation ] || continue
	for command in $("$bin/$tool" --help | sed -nE 's/^  ([a-z]+) .*/\1/p'); do
		grep -qE "^\*$command\*" "$page" || bad "$page: no command *$command*"
		grep -qw -- "$command" "tools/completions/$tool" ||
			bad "tools/completions/$tool: no command $command"
		[ "$command" = help ] || check "$tool" "$command"
	done
done

# The other way round: an option in the foundation page that no command has.
if [ -x "$bin/foundation" ]; then
	for option in $(grep -oE '\*--[a-z-]+\*' docs/man/foundation.1.scd | tr -d '*' | sort -u); do
		found=0
		for command in '' $("$bin/foundation" --help | sed -nE 's/^  ([a-z]+) .*/\1/p'); do
			# shellcheck disable=SC2086 # no command is no argument
			"$bin/foundation" $command --help | grep -qF -- "$option" && found=1 && break
		done
		[ $found = 1 ] || bad "docs/man/foundation.1.scd: $option is no option of foundation"
	done
fi
exit $status
