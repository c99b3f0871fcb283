#!/bin/bash
# SPDX-License-Identifier: MIT
# What the documents show works: README's program compiles and runs, the commands beside it do what they say,
# and every test, preset and label that a document names is there.
set -eu

tmp=$(mktemp -d)
export FOUNDATION_STATE_DIR=$tmp/state
name=documents-$$
trap '"$FOUNDATION_BIN/foundation" destroy "$name" --force 2>/dev/null || :; rm -rf "$tmp"' EXIT
cd "$FOUNDATION_SOURCE"

fail() {
	echo "$*"
	exit 1
}

# The fifteen lines of C, with a segment name of their own.
awk '/^```c$/ { on = 1; next } /^```$/ { on = 0 } on' README.md | sed "s/\"demo\"/\"$name\"/g" >"$tmp/demo.c"
DESTDIR='' cmake --install "$FOUNDATION_BUILD" --prefix "$tmp/prefix" >"$tmp/install.log"
pc=$(find "$tmp/prefix" -name foundation.pc)
PKG_CONFIG_PATH=$(dirname "$pc")
export PKG_CONFIG_PATH
LD_LIBRARY_PATH=$(dirname "$PKG_CONFIG_PATH")
export LD_LIBRARY_PATH
# shellcheck disable=SC2046 # the flags are words
cc -Wall -Wextra -Werror -o "$tmp/demo" "$tmp/demo.c" $(pkg-config --cflags --libs foundation)
"$tmp/demo" | grep -q '^worker/1 is pid [0-9]*$' || fail "README's program does not say its pid"
"$FOUNDATION_BIN/foundation" agents --segment "$name" >/dev/null
"$FOUNDATION_BIN/foundation" destroy "$name"

# Names of tests: ctest -R NAME
grep -ohE -- "-R '?[\^(]?[a-z_|)(^]+" README.md docs/*.md | sed "s/-R //; s/'//g" | sort -u >"$tmp/tests"
while read -r pattern; do
	ctest --test-dir "$FOUNDATION_BUILD" -N -R "$pattern" | grep -q 'Total Tests: [1-9]' ||
		fail "no test is called $pattern"
done <"$tmp/tests"

# Presets
grep -ohE -- '--preset [a-z-]+' README.md docs/*.md CONTRIBUTING.md | sed 's/--preset //' | sort -u >"$tmp/presets"
while read -r preset; do
	grep -q "\"name\": \"$preset\"" CMakePresets.json || fail "there is no preset $preset"
done <"$tmp/presets"

# Labels: ctest -L NAME
grep -ohE -- '-L [a-z]+' README.md docs/*.md | sed 's/-L //' | sort -u >"$tmp/labels"
while read -r label; do
	ctest --test-dir "$FOUNDATION_BUILD" -N -L "$label" | grep -q 'Total Tests: [1-9]' ||
		fail "no test has the label $label"
done <"$tmp/labels"
echo "$(wc -l <"$tmp/tests") tests, $(wc -l <"$tmp/presets") presets, $(wc -l <"$tmp/labels") labels are there"
