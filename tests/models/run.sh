#!/bin/bash
# SPDX-License-Identifier: MIT
# run.sh [--long] [--only MODEL] [--case MODEL/NAME [--swarm SEED]] [--report FILE]
# checks the models of the core's protocols with Spin.
#
# Each case must pass, or must fail: by an assertion or an acceptance cycle of the model itself, not by
# a bound of Spin or of the model, and not by running out of time or memory. One line a case; with
# --report one JSON line a model is added to FILE. --long takes the larger bounds as well (about
# ten minutes on one core, up to 5 GB). MODELS_MEMORY: MB a search may take; MODELS_SECONDS: a case.
#
# --case takes that one alone, of whatever set. With --swarm it is searched at random, as far as a fixed
# memory (128 MB, one hash a SEED) and MODELS_SECONDS (20) go: for bounds that no search exhausts. The end
# of the time is then no failure; a run that breaks the model is.
set -u
here=$(cd "$(dirname "$0")" && pwd)
set_wanted=ci
report=
only=
one=
swarm=
while [ $# -gt 0 ]; do
	case $1 in
	--case) one=$2 && set_wanted=long && shift ;;
	--swarm) swarm=$2 && shift ;;
	--long) set_wanted=long ;;
	--only) only=$2 && shift ;;
	--report) report=$(realpath -m "$2") && shift ;;
	*) echo "usage: run.sh [--long] [--only slot|segment|epoch|lock|flip] [--case MODEL/NAME [--swarm SEED]] [--report FILE]" >&2 && exit 2 ;;
	esac
	shift
done
if ! command -v spin >/dev/null || ! command -v gcc >/dev/null; then
	echo "spin and gcc are needed; skipped"
	[ -z "$report" ] || echo '{"suite":"models-all","goal":0,"count":0,"violations":0,"seconds":0,"seed":0,"verdict":"skipped"}' >>"$report"
	exit 77
fi
memory=${MODELS_MEMORY:-5000}
if [ -n "$swarm" ]; then
	limit=${MODELS_SECONDS:-20}
elif [ $set_wanted = long ]; then
	limit=${MODELS_SECONDS:-3600}
else
	limit=${MODELS_SECONDS:-120}
fi
work=$(mktemp -d)
child=
trap 'rm -rf "$work"' EXIT
trap '[ -z "$child" ] || kill "$child" 2>/dev/null; exit 1' INT TERM

# set model kind name flags...   kind: pass, fail; live-pass, live-fail: under weak fairness
cases() {
	sed -e 's/[[:blank:]]*#.*//' -e '/^$/d' "$here/cases"
}

# Prints: outcome seconds states why. outcome: pass, fail, or error, with the reason in why.
check() { # model kind flags...
	local model=$1 kind=$2 begin=$EPOCHREALTIME out=$work/out status depth=2000000
	local -a build=(-DCOLLAPSE "-DMEMLIM=$memory" -DVECTORSZ=2048) pan=("-m$depth" -w22)
	shift 2
	if [[ $kind = live-* ]]; then
		build+=(-DNFAIR=4)
		pan+=(-a -f -N live)
		set -- -DLIVE "$@"
	else
		build+=(-DSAFETY -DNOCLAIM)
	fi
	if [ -n "$swarm" ]; then
		build=("${build[@]/-DCOLLAPSE/-DBITSTATE}" -DT_RAND -DP_RAND)
		pan=("-m$depth" -w29 -k2 "-RS$swarm" "-h$((swarm % 100))")
	fi
	# A case that has to fail ends soon: there compiling is what takes the time.
	if [[ $kind = *pass ]]; then build+=(-O2); else build+=(-O0); fi
	rm -f "$work"/pan* "$work"/model.pml*
	cp "$here/$model.pml" "$work/model.pml"
	if ! (cd "$work" && spin -a "$@" model.pml && gcc -w "${build[@]}" -o pan pan.c) >"$out" 2>&1; then
		echo "error 0 0 cannot be built: $(tail -n 1 "$out")"
		return
	fi
	(cd "$work" && exec timeout -s INT -k 60 "$limit" ./pan "${pan[@]}") >"$out" 2>&1 &
	child=$!
	wait $child
	status=$?
	child=
	local outcome=error why
	why=$(sed -nE 's/^pan:[0-9]+: (.*) \(at depth [0-9]+\)$/\1/p' "$out" | head -n 1)
	if [ $status -eq 124 ] && [ -n "$swarm" ] && [ -z "$why" ]; then
		outcome=pass # so far
	elif [ $status -eq 124 ]; then
		why="not done within $limit s"
	elif grep -qE 'invalid array index|made<=|gen\[s\]<32|too many queues|VECTORSZ' <<<"$why"; then
		why="a bound of the model: $why"
	elif grep -qE '^(assertion violated|acceptance cycle)' <<<"$why"; then
		outcome=fail
	elif [ -n "$why" ]; then
		why="unexpected: $why" # an invalid end state is a deadlock of the model
	elif grep -qE 'out of memory|max search depth too small|reached -DMEMLIM|hint: ' "$out"; then
		why="search not complete: $(grep -E 'out of memory|too small|MEMLIM' "$out" | head -n 1)"
	elif grep -qE 'errors: 0$' "$out" && grep -q 'states, stored' "$out"; then
		outcome=pass
	else
		why="no result: status $status"
	fi
	local states
	states=$(sed -nE 's/^ *([0-9.e+]+) states, stored.*/\1/p' "$out" | head -n 1)
	printf '%s %s %.0f %s\n' $outcome \
		"$(awk -v a="$begin" -v b="$EPOCHREALTIME" 'BEGIN { printf "%.1f", b - a }')" \
		"${states:-0}" "$why"
}

all_bad=0
suite() { # model
	local model=$1 goal=0 good=0 seconds=0 states=0
	local which m kind name flags outcome took n why want mark
	while read -r which m kind name flags; do
		[ "$m" = "$model" ] || continue
		[ "$which" = ci ] || [ $set_wanted = long ] || continue
		[ -n "$one" ] || [ "$which" != swarm ] || continue
		[ -z "$one" ] || [ "$one" = "$model/$name" ] || continue
		goal=$((goal + 1))
		want=${kind#live-}
		# shellcheck disable=SC2086 # flags are words
		read -r outcome took n why < <(check "$model" "$kind" $flags)
		mark=BAD
		if [ "$outcome" = "$want" ]; then
			mark=ok
			good=$((good + 1))
		fi
		printf '%-3s %-8s %-24s must %s: %s, %s states, %s s%s\n' $mark "$model" "$name" "$want" \
			"$outcome" "$n" "$took" "${why:+ ($why)}"
		seconds=$(awk -v a="$seconds" -v b="$took" 'BEGIN { print a + b }')
		states=$((states + n))
	done < <(cases)
	[ $goal -gt 0 ] || return
	local verdict=held
	if [ $good -ne $goal ]; then
		verdict=violated
		all_bad=1
	fi
	printf 'models-%-8s %s: %d cases of %d as they must be, %d states, %s s\n' "$model" $verdict \
		$good $goal $states "$seconds"
	[ -z "$report" ] && return
	mkdir -p "$(dirname "$report")"
	printf '{"suite":"models-%s","goal":%d,"count":%d,"violations":%d,"seconds":%s,"seed":%d,"verdict":"%s","states":%d}\n' \
		"$model" $goal $good $((goal - good)) "$seconds" "${swarm:-0}" $verdict $states >>"$report"
}

for model in slot segment epoch lock flip; do
	if [ -z "$only" ] || [ "$only" = $model ]; then
		suite $model
	fi
done
exit $all_bad
