#!/bin/bash
# SPDX-License-Identifier: MIT
# long.sh BUILD - all families of the crash suites, for FOUNDATION_CRASH_MINUTES (30), both processors busy.
#
# A family is given time whenever it has had the least of it; a round of it takes some ten seconds and
# has a seed of its own. BUILD/total.jsonl gets a line a suite and round, and outlives the run: killed or
# not, the next one goes on with the next seeds. Whoever is killed loses the rounds he was in; a torn
# line counts for nothing. What a round that did not hold has said is in BUILD/violations/.
#
# Exit status: 1 when anything in the file, of this run or an earlier one, is a violation; 2 usage.
# Waits are there to end what hangs, and long enough for a machine with ten times as much to do.
set -uo pipefail
here=$(cd "$(dirname "$0")" && pwd)
source=$(cd "$here/../.." && pwd)
minutes=${FOUNDATION_CRASH_MINUTES:-30}
if [ $# -ne 1 ] || [ ! -x "$1/tests/stores" ] || ! [ "$minutes" -gt 0 ] 2>/dev/null; then
	echo "usage: [FOUNDATION_CRASH_MINUTES=N] long.sh BUILD (with BUILD/tests/stores there)" >&2
	exit 2
fi
build=$(cd "$1" && pwd)
total=$build/total.jsonl
programs=$build/tests
kept=$build/violations
hang=1800 # seconds after which a round of ten has hung
until=$((SECONDS + minutes * 60))
declare -A round spent running
families=()
lanes=$(nproc)

work=$(mktemp -d)
clean_up() {
	local pid
	trap - EXIT
	trap '' INT TERM
	for pid in "${!running[@]}"; do
		kill -TERM "$pid" 2>/dev/null
	done
	wait
	rm -rf "$work"
	sweep
}
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# Segments of test programs that were killed themselves: the name ends in who made it.
sweep() {
	local path pid
	for path in /dev/shm/foundation."$(id -u)".{stores,instructions,stopped,kills,kills-many,t-corrupt,t-fuzz}-[0-9]*; do
		[[ $path =~ \.[a-z-]+-([0-9]+)(-[0-9]+)?$ ]] || continue
		pid=${BASH_REMATCH[1]}
		[ ! -e "$path" ] || [ -e "/proc/$pid" ] || rm -f "$path"
	done
}

# --- what has been done so far --------------------------------------------------------------------------

whole_lines() {
	jq -Rc 'fromjson? | select(type == "object" and .family != null)' "$total"
}

# A line a family: its next round, and the seconds of a processor it has had.
past() {
	whole_lines | jq -rn 'reduce inputs as $l ({};
		.[$l.family].round |= ([., $l.round] | max) | .[$l.family].seconds += $l.seconds * $l.width) |
		to_entries[] | "\(.key) \(.value.round + 1) \(.value.seconds | floor)"'
}

# Only the last ten minutes of lead count, so that a family that is new does not run alone for hours.
remember() {
	local f r s most=0
	while read -r f r s; do
		round[$f]=$r
		spent[$f]=$s
		[ "$s" -le "$most" ] || most=$s
	done < <(past)
	for f in "${families[@]}"; do
		s=$((${spent[$f]:-0} - most + 600))
		spent[$f]=$((s > 0 ? s : 0))
	done
}

# --- what a round of a family is ------------------------------------------------------------------------

version() { # files... - of what was tested
	sha256sum "$@" | sha256sum | cut -c 1-8
}

cases() { # set... - the lines of tests/models/cases, as model/name
	local pattern
	pattern=$(IFS='|'; echo "$*")
	sed -nE "s,^($pattern) +([a-z]+) +[a-z-]+ +([a-z_]+) .*,\2/\3,p" "$source/tests/models/cases"
}

# A larger case that nobody has searched to its end yet; such a search wants minutes.
case_due() {
	local c done_before
	done_before=$(whole_lines | jq -r --arg v "$models_version" \
		'select(.family == "models" and .build == $v and .verdict == "held") | .case')
	for c in $(cases long); do
		grep -qxF "$c" <<<"$done_before" || {
			echo "$c"
			return
		}
	done
}

# Sets cmd: what round $2 of family $1 is; and tested: what it is a test of.
plan() {
	local r=$2 seed=$(($2 * 1000000 + 1)) c swarms
	local -a damage=(data header data slots data locks data structure)
	tested=$programs_version
	note=
	case $1 in
	stores) cmd=("$programs/stores" --suite "${stores[r % ${#stores[@]}]}" --goal 300000 --seed "$seed") ;;
	stopped-writers) cmd=("$programs/stores" --stopped --goal 100000 --seed "$seed") ;;
	stopped-readers) cmd=("$programs/stopped_readers") ;;
	instructions) cmd=("$programs/instructions" --suite "${steps[r % ${#steps[@]}]}") ;;
	instructions-clang) cmd=("$build/clang/tests/instructions" --suite "${steps[r % ${#steps[@]}]}") ;;
	kills) cmd=("$programs/kills" 1500 $((r + 1))) ;;
	kills-many) cmd=("$programs/kills_many" 15000 $((r + 1))) ;;
	corrupt)
		c=${damage[r % ${#damage[@]}]}
		cmd=("$programs/corrupt$([ "$c" = structure ] && echo _plain)" "$c" --seed "$seed")
		[ "$c" != data ] || cmd+=(--count 150000)
		;;
	litmus) cmd=("$programs/litmus" --only "${shapes[r % ${#shapes[@]}]}" --times 2 --seed $((r + 1))) ;;
	models)
		tested=$models_version
		c=
		[ $((until - SECONDS)) -lt 240 ] || c=$(case_due)
		if [ -n "$c" ]; then
			cmd=(env "MODELS_SECONDS=$hang" "$source/tests/models/run.sh" --case "$c")
		else
			mapfile -t swarms < <(cases swarm)
			c=${swarms[r % ${#swarms[@]}]}
			cmd=("$source/tests/models/run.sh" --case "$c" --swarm $((r + 1)))
		fi
		note=",\"case\":\"$c\""
		;;
	fuzz)
		c=${fuzzers[r % ${#fuzzers[@]}]}
		cmd=(fuzz_round "$c" $((r + 1)))
		;;
	esac
}

width() { # processors a round takes
	[ "$1" = litmus ] && echo 2 || echo 1
}

# --- a round --------------------------------------------------------------------------------------------

# One target of libFuzzer; what it keeps of its inputs is where it begins the next time.
fuzz_round() { # target seed --report FILE
	local began=$SECONDS status=0 n corpus=$build/corpus/$1 seeds=$source/tests/fuzz/corpus/$1
	mkdir -p "$corpus"
	[ -d "$seeds" ] || seeds=
	# shellcheck disable=SC2086 # no directory is no word
	"$build/fuzz/tests/$1" -seed="$2" -max_total_time=15 -timeout=120 -print_final_stats=1 \
		-artifact_prefix="$kept/$1-" "$corpus" $seeds >"$4.fuzz" 2>&1 || status=1
	n=$(sed -nE 's/^stat::number_of_executed_units: *//p' "$4.fuzz")
	[ $status -eq 0 ] || cat "$4.fuzz"
	rm -f "$4.fuzz"
	printf '{"suite":"%s","goal":1,"count":%d,"violations":%d,"seconds":%d,"seed":%d,"verdict":"%s"}\n' \
		"${1/_/-}" "${n:-0}" $status $((SECONDS - began)) "$2" "$([ $status -eq 0 ] && echo held || echo violated)" >"$4"
	return $status
}

# A program that ended badly and did not say of what is a violation as well.
judge() { # family round status file log
	if [ "$3" -ne 0 ] && ! grep -qE '"violations":[1-9]|"verdict":"(short|skipped)"' "$4"; then
		printf '{"suite":"%s-ended","goal":1,"count":0,"violations":1,"seconds":0,"seed":0,"verdict":"status %d"}\n' \
			"$1" "$3" >>"$4"
	fi
	if grep -q '"violations":[1-9]' "$4"; then
		mkdir -p "$kept"
		{
			echo "${cmd[*]}"
			cat "$5"
		} >"$kept/$1-$2.log"
		echo "$1, round $2: a violation; see $kept/$1-$2.log"
	fi
}

# A torn last line stays what it is, and the next one begins on its own.
mend() {
	[ ! -s "$total" ] || [ -z "$(tail -c 1 "$total")" ] || echo >>"$total"
}

# Runs a round to its end and adds its lines to the file, by one write.
run_round() { # family round
	local family=$1 r=$2 file=$work/$1-$2.jsonl log=$work/$1-$2.log status=0 pid
	: >"$file"
	if [ "${cmd[0]}" = fuzz_round ]; then
		"${cmd[@]}" --report "$file" >"$log" 2>&1 &
	else
		"$programs/bounded" $hang "${cmd[@]}" --report "$file" >"$log" 2>&1 &
	fi
	pid=$!
	trap 'kill $pid 2>/dev/null; wait; exit 143' TERM # what was cut off is nobody's fault
	wait $pid || status=$?
	trap '' TERM
	judge "$family" "$r" $status "$file" "$log"
	[ "$family" != instructions-clang ] || sed -i 's/"suite":"instructions-/"suite":"instructions-clang-/' "$file"
	[ -s "$file" ] && sed "s|}\$|,\"family\":\"$family\",\"round\":$r,\"width\":$(width "$family")$note,\"build\":\"$tested\",\"ended\":$(date +%s)}|" \
		"$file" >"$file.new" && mend && cat "$file.new" >>"$total" && show "$file.new"
	rm -f "$file" "$file.new" "$log"
}

show() { # file
	jq -r '"\(.suite)  \(.count)  \(.violations) violations  \(.seconds) s  seed \(.seed)  \(.verdict)"' "$1" |
		while read -r suite count violations no seconds rest; do
			printf '%-32s %10s  %s %s %8.1f %s\n' "$suite" "$count" "$violations" "$no" "$seconds" "$rest"
		done
}

# --- the run --------------------------------------------------------------------------------------------

next_family() {
	local f best=
	for f in "${families[@]}"; do
		if [ -z "$best" ] || [ "${spent[$f]}" -lt "${spent[$best]}" ]; then best=$f; fi
	done
	echo "$best"
}

# Waits for one round to end, or until the time given. 1: it is over.
wait_one() { # SECONDS at which to give up; none: never
	local pid f began
	while :; do
		for pid in "${!running[@]}"; do
			kill -0 "$pid" 2>/dev/null && continue
			wait "$pid"
			read -r f began <<<"${running[$pid]}"
			# what it was given when it began, made true
			spent[$f]=$((spent[$f] - 10 + (SECONDS - began) * $(width "$f")))
			unset "running[$pid]"
			return 0
		done
		[ $# -eq 0 ] || [ "$SECONDS" -lt "$1" ] || return 1
		sleep 0.2
	done
}

start_round() { # family
	local r=${round[$1]:-0}
	round[$1]=$((r + 1))
	plan "$1" "$r"
	run_round "$1" "$r" &
	running[$!]="$1 $SECONDS"
	spent[$1]=$((spent[$1] + 10))
}

run_all() {
	local f
	while [ "$SECONDS" -lt "$until" ]; do
		f=$(next_family)
		if [ "$(width "$f")" -gt 1 ]; then # alone
			while [ ${#running[@]} -gt 0 ]; do wait_one; done
			start_round "$f"
			wait_one
			continue
		fi
		start_round "$f"
		[ ${#running[@]} -lt "$lanes" ] || wait_one "$until"
	done
	# What has begun may end, within reason; the rest is not counted.
	while [ ${#running[@]} -gt 0 ] && wait_one $((until + 90)); do :; done
}

summary() {
	whole_lines | jq -rn '[inputs] |
		(map({a: (.ended - .seconds), b: .ended}) | sort_by(.a) |
		 reduce .[] as $i ({end: 0, sum: 0};
			if $i.b > .end then .sum += $i.b - ([$i.a, .end] | max) | .end = $i.b else . end) |
		 .sum / 3600) as $wall |
		(group_by(.family)[] | [.[0].family, (map(.round) | unique | length), (map(.count) | add),
			(map(.violations) | add), (map(.seconds * .width) | add / 3600), (map(.states // 0) | add)]),
		["all", (map([.family, .round]) | unique | length), (map(.count) | add // 0),
			(map(.violations) | add // 0), $wall, 0] | @tsv' |
		while IFS=$'\t' read -r family rounds count violations hours states; do
			if [ "$family" = all ]; then
				printf '%-20s %6d rounds %14d counted  %d violations  %.2f hours by the clock\n' \
					all "$rounds" "$count" "$violations" "$hours"
				continue
			fi
			printf '%-20s %6d rounds %14d counted  %d violations  %.2f hours%s\n' "$family" "$rounds" \
				"$count" "$violations" "$hours" "$([ "${states%.*}" = 0 ] || echo "  ${states%.*} states")"
		done
}

# Others of clang: fuzz targets, and the instructions that clang makes. Each is left out when it cannot be built.
build_with_clang() { # directory sanitizer targets...
	local dir=$1 sanitize=$2
	shift 2
	command -v clang >/dev/null || return 1
	{
		cmake -S "$source" -B "$build/$dir" -G Ninja -DCMAKE_C_COMPILER=clang \
			-DCMAKE_BUILD_TYPE=RelWithDebInfo -DFOUNDATION_SANITIZE="$sanitize" &&
			cmake --build "$build/$dir" --target "$@"
	} >"$build/$dir.log" 2>&1 && return
	echo "clang: $build/$dir.log says why $dir could not be built; left out"
	return 1
}

# --- beginning ------------------------------------------------------------------------------------------

command -v jq >/dev/null || {
	echo "long.sh: jq is needed" >&2
	exit 2
}
exec 9>>"$total"
if ! flock -n 9; then
	echo "another run is at work on $total, or the last rounds of one that was killed: waiting"
	flock -w $hang 9 || exit 2
fi
mend
sweep
mapfile -t stores < <("$programs/stores" --list)
mapfile -t shapes < <("$programs/litmus" --list)
mapfile -t steps < <("$programs/instructions" --list)
families=(stores stopped-writers stopped-readers instructions kills kills-many corrupt)
[ "$lanes" -lt 2 ] || families+=(litmus)
command -v spin >/dev/null && families+=(models)
build_with_clang clang "" instructions && families+=(instructions-clang)
fuzzers=(fuzz_segment fuzz_snapshot)
build_with_clang fuzz fuzzer "${fuzzers[@]}" && families+=(fuzz)
mkdir -p "$kept"
programs_version=$(version "$programs"/{stores,instructions,kills,kills_many,corrupt,litmus,stopped_readers})
models_version=$(version "$source"/tests/models/{*.pml,cases})
remember
echo "$minutes minutes for ${families[*]}"
until=$((SECONDS + minutes * 60))
run_all
echo
summary
! whole_lines | grep -qE '"violations":[1-9]'
