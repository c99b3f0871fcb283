#!/bin/bash
# SPDX-License-Identifier: MIT
# Every C block of docs/developer-guide.md is a program that compiles without a warning against the installed
# library and exits with 0. When a text block follows, it prints that; "…" stands for any text within a line.
# The segment "demo" gets a name of its own, and each program a new segment without a past.
set -eu

tmp=$(mktemp -d)
name=guide-$$
trap 'rm -rf "$tmp"; "$FOUNDATION_BIN/foundation" destroy "$name" --force >/dev/null 2>&1 || :' EXIT
guide=$FOUNDATION_SOURCE/docs/developer-guide.md

# N.c for each C block, N.text for the text block that comes after it before the next C block.
awk -v dir="$tmp" '
/^```c$/ { file = dir "/" ++n ".c"; printf "#line %d \"developer-guide.md\"\n", NR + 1 >file; next }
/^```text$/ { file = n ? dir "/" n ".text" : ""; next }
/^```/ { if (file) close(file); file = ""; next }
file { print >file }
END { if (!n) { print "no C block in the guide"; exit 1 } }' "$guide"

DESTDIR='' cmake --install "$FOUNDATION_BUILD" --prefix "$tmp/prefix" >"$tmp/install.log"
PKG_CONFIG_PATH=$(dirname "$(find "$tmp/prefix" -name foundation.pc)")
LD_LIBRARY_PATH=$(dirname "$PKG_CONFIG_PATH")
export PKG_CONFIG_PATH LD_LIBRARY_PATH FOUNDATION_STATE_DIR=$tmp/state
mkdir "$FOUNDATION_STATE_DIR"

# Does each line of the program's output fit the line of the guide?
fits() { # guide's text, output
	local want got status=0
	exec 3<"$1" 4<"$2"
	while IFS= read -r want <&3; do
		if ! IFS= read -r got <&4; then
			printf 'missing: %s\n' "$want"
			status=1
			continue
		fi
		want=$(printf '%s' "$want" | sed 's/[][\\*?]/\\&/g; s/…/*/g')
		# shellcheck disable=SC2053 # a pattern, on purpose
		if [[ $got != $want ]]; then
			printf 'guide:  %s\nprints: %s\n' "$want" "$got"
			status=1
		fi
	done
	while IFS= read -r got <&4; do
		printf 'not in the guide: %s\n' "$got"
		status=1
	done
	exec 3<&- 4<&-
	return $status
}

status=0 count=0
for source in "$tmp"/*.c; do
	count=$((count + 1))
	program=${source%.c}
	place=$(sed -n '1s/#line \([0-9]*\).*/developer-guide.md:\1/p' "$source")
	sed "s/\"demo\"/\"$name\"/g" "$source" >"$program.real.c"
	# shellcheck disable=SC2046 # the flags are words
	if ! cc -D_GNU_SOURCE -Wall -Wextra -Werror -o "$program" "$program.real.c" \
		$(pkg-config --cflags --libs foundation); then
		echo "$place: does not compile"
		status=1
		continue
	fi
	mkdir "$program.run"
	result=0
	(cd "$program.run" && "$program") >"$program.out" 2>&1 </dev/null || result=$?
	if [ $result -ne 0 ]; then
		echo "$place: exit status $result"
		cat "$program.out"
		status=1
	elif [ -e "$program.text" ] && ! fits "$program.text" "$program.out"; then
		echo "$place: prints something else than the guide says"
		status=1
	fi
	"$FOUNDATION_BIN/foundation" destroy "$name" --force --purge >/dev/null 2>&1 || :
done

# The table of differences stands in two documents; the conformance suite has its rows as cases.
differences() { # document
	awk '/^\| call \| private \| shared \|$/ { on = 1 } !/^\|/ { on = 0 } on' "$FOUNDATION_SOURCE/docs/$1"
}
if [ -z "$(differences architecture.md)" ] || [ "$(differences architecture.md)" != "$(differences developer-guide.md)" ]; then
	echo 'developer-guide.md and architecture.md have different tables of differences'
	status=1
fi
echo "$count programs"
exit $status
