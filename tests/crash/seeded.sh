#!/bin/bash
# SPDX-License-Identifier: MIT
# seeded.sh [PASSES [BUILD [TSAN_BUILD]]] - every seeded bug against its suite, and every one of these suites
# on the clean tree; PASSES (1) times in a row. Each pass: each bug is caught, each clean suite is silent.
#
# Without directories build/crash and build/tsan are made by their presets. One line a pass; a JSON line a
# pass is added to BUILD/seeded.jsonl. Exit status 1 when a pass was not as it must be, with what ctest said.
set -uo pipefail
passes=${1:-1}
cd "$(dirname "$0")/../.." || exit 2

make_build() { # preset
	{
		cmake --preset "$1" && cmake --build --preset "$1"
	} >"build/seeded-$1.log" 2>&1 && return
	tail -n 20 "build/seeded-$1.log" >&2
	exit 2
}

if [ $# -gt 1 ]; then
	builds=("${@:2}")
else
	mkdir -p build
	make_build crash
	make_build tsan
	builds=(build/crash build/tsan)
fi
out=$(mktemp)
report=${builds[0]}/report.jsonl
kept=$(mktemp)
# shellcheck disable=SC2317 # the trap calls it
clean_up() { # these runs are no part of the report of the preset
	[ ! -s "$kept" ] || cp "$kept" "$report"
	rm -f "$out" "$kept"
}
trap clean_up EXIT
trap 'exit 130' INT TERM
[ ! -f "$report" ] || cp "$report" "$kept"

status=0
for ((pass = 1; pass <= passes; pass++)); do
	began=$SECONDS
	: >"$out"
	for build in "${builds[@]}"; do
		ctest --test-dir "$build" -C seeded -L '^seeded$' -j2 --output-on-failure >>"$out" 2>&1
	done
	caught=$(grep -cE 'Test +#[0-9]+: [a-z].*Passed' "$out")
	silent=$(grep -cE 'Test +#[0-9]+: silent_.*Passed' "$out")
	begins=$(grep -cE 'Test +#[0-9]+: crash_report_begins.*Passed' "$out")
	failed=$(grep -cE 'Test +#[0-9]+: .*\*\*\*' "$out")
	caught=$((caught - silent - begins))
	seconds=$((SECONDS - began))
	verdict=held
	if [ "$failed" -gt 0 ] || [ "$caught" -eq 0 ] || [ "$silent" -eq 0 ]; then
		verdict=violated
		status=1
		grep -vE ' Passed | Start +[0-9]' "$out"
	fi
	printf 'pass %d of %d: %d bugs caught, %d suites silent, %d not as they must be, %d s\n' \
		"$pass" "$passes" "$caught" "$silent" "$failed" "$seconds"
	printf '{"suite":"seeded-pass","goal":%d,"count":%d,"violations":%d,"seconds":%d,"seed":%d,"verdict":"%s","silent":%d}\n' \
		$((caught + failed)) "$caught" "$failed" "$seconds" "$pass" "$verdict" "$silent" \
		>>"${builds[0]}/seeded.jsonl"
done
exit $status
