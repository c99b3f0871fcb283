#!/bin/bash
# SPDX-License-Identifier: MIT
# shmlat on real workers: everyone is covered, every sample is counted, a latency is nanoseconds; and each
# refusal has its sentence and its exit status. Skipped (77) only where the kernel refuses BPF to root.
set -u
shmlat=$FOUNDATION_BIN/shmlat
worker=$FOUNDATION_BUILD/tests/latworker
static=$FOUNDATION_BUILD/tests/latworker_static
library=$(ldd "$worker" | awk '/libfoundation/ { print $3 }')
export LC_ALL=C ASAN_OPTIONS=verify_asan_link_order=0:detect_leaks=0
unset FOUNDATION_SEGMENT

nobody=65534
name=t-shmlat-$$
tmp=$(mktemp -d)
export FOUNDATION_STATE_DIR=$tmp/state
chmod 755 "$tmp"
failed=0
children=()
lookups=200000

# shellcheck disable=SC2317 # reached by the trap
cleanup() {
	local pid
	for pid in "${children[@]}"; do
		kill -KILL "$pid" 2>/dev/null
	done
	rm -rf "$tmp" "/dev/shm/foundation.$(id -u).$name" "/dev/shm/foundation.$nobody.$name"
}
trap cleanup EXIT

say() {
	echo "FAILED: $*"
	failed=1
}

give_up() {
	say "$@"
	exit 1
}

# expect STATUS COMMAND…: the output is in $tmp/out and $tmp/err
expect() {
	local want=$1 got
	shift
	"$@" >"$tmp/out" 2>"$tmp/err"
	got=$?
	[ $got -eq "$want" ] && return 0
	say "exit $got instead of $want: $*"
	head -n 5 "$tmp/out" "$tmp/err"
	return 1
}

has() { # file, text
	grep -qF -- "$2" "$1" || say "no '$2' in: $(head -c 600 "$1")"
}

# await WHAT COMMAND…: until the command succeeds, 30 s at most
await() {
	local what=$1 i
	shift
	for ((i = 0; i < 300; i++)); do
		"$@" && return 0
		sleep 0.1
	done
	give_up "waited for $what in vain: $(cat "$tmp/lat.err" 2>/dev/null)"
}

# shellcheck disable=SC2317 # called by await()
files() { # DIR PREFIX COUNT: are there so many?
	local found=("$1/$2".*)
	[ "${#found[@]}" -eq "$3" ] && [ -e "${found[0]}" ]
}

work() { # DIR PROGRAM PROCS: workers that tell and are told by files in DIR
	mkdir -p "$1"
	"$2" work "$name" "$1" "$3" $lookups 2>>"$tmp/work.err" &
	children+=($!)
}

figure() { # of the last JSON report
	jq -r "$1" "$tmp/report"
}

# --- the library carries one probe with a semaphore
for file in "$library" "$static"; do
	readelf -n "$file" >"$tmp/notes" 2>/dev/null
	has "$tmp/notes" 'Provider: foundation'
	has "$tmp/notes" 'Name: lookup'
	[ "$(grep -c 'Provider: foundation' "$tmp/notes")" -eq 1 ] || say "several probes in $file"
	grep -A1 'Name: lookup' "$tmp/notes" | grep -q 'Semaphore: 0x0*[1-9a-f]' ||
		say "no semaphore in $file"
done

# --- refused without looking at BPF
expect 2 "$shmlat"
expect 2 "$shmlat" --segment a/b/c
expect 2 "$shmlat" --segment "$name" --duration soon
expect 3 "$shmlat" --segment "$name"

# --- refused for want of privilege
mkdir "$tmp/plain"
cp "$shmlat" "$worker" "$library" "$tmp/plain/" && chmod -R a+rX "$tmp/plain"
plain=(env "LD_LIBRARY_PATH=$tmp/plain")
[ "$(id -u)" -ne 0 ] ||
	plain=(setpriv --reuid "$nobody" --regid "$nobody" --clear-groups "${plain[@]}")
if expect 0 "${plain[@]}" "$tmp/plain/latworker" make "$name" 32; then
	expect 6 "${plain[@]}" "$tmp/plain/shmlat" --segment "$name" --duration 1
	has "$tmp/err" 'lets this user load no BPF program: run as root'
	[ -s "$tmp/out" ] && say "data with a refusal"
fi
if [ "$(id -u)" -eq 0 ]; then
	rm -f "/dev/shm/foundation.$nobody.$name"
	expect 0 "$worker" make "$name" 32
fi

# --- may we at all?
"$shmlat" --segment "$name" --duration 0.1 >"$tmp/out" 2>"$tmp/err"
if [ $? -eq 6 ] && grep -q 'BPF program' "$tmp/err"; then
	[ $failed -eq 0 ] || exit 1
	echo "skipped: $(cat "$tmp/err")"
	exit 77
fi
has "$tmp/err" 'nobody works'

# --- workers of the library, of a copy of it that is then deleted, and with the library linked in
mkdir "$tmp/copy"
cp "$library" "$tmp/copy/"
work "$tmp/shared" "$worker" 2
LD_LIBRARY_PATH=$tmp/copy work "$tmp/copied" "$worker" 1
work "$tmp/static" "$static" 1
await "two workers" files "$tmp/shared" ready 2
await "a worker of a copy" files "$tmp/copied" ready 1
await "a static worker" files "$tmp/static" ready 1
rm -r "$tmp/copy"

: >"$tmp/lat.err" # before anybody waits for it
"$shmlat" --segment "$name" --duration 60 --json -v >"$tmp/report" 2>"$tmp/lat.err" &
lat=$!
children+=("$lat")
await "four covered workers" grep -q ' 4 workers covered' "$tmp/lat.err"

# --- the same number forked afterwards, and then all of them look up
touch "$tmp"/{shared,copied,static}/fork
await "eight covered workers" grep -q ' 8 workers covered' "$tmp/lat.err"
touch "$tmp"/{shared,copied,static}/go
await "the workers of the library" files "$tmp/shared" "done" 4
await "the workers of the copy" files "$tmp/copied" "done" 2
await "the static workers" files "$tmp/static" "done" 2
kill -INT "$lat"
wait "$lat" || say "shmlat left with $?: $(cat "$tmp/lat.err")"

# Nothing was in flight at either end, so the two counts are the same, sample by sample.
cells=$("$worker" samples "$name")
counted=$(figure '[.series[].samples] | add')
[ "$cells" = "$counted" ] || say "$counted samples were counted, the segment's cells have $cells"
[ "$(figure '[.workers[].samples] | add')" = "$cells" ] || say "workers' samples are not the whole"
[ "$(figure '[.series[].buckets[][1]] | add')" = "$cells" ] || say "buckets are not the whole"
[ "$(figure '.lost')" = 0 ] || say "samples were lost"

[ "$(figure '.schema')" = foundation.shmlat/1 ] || say "schema"
[ "$(figure '.workers | length')" -eq 8 ] || say "not eight workers: $(figure .workers)"
[ "$(figure '[.workers[] | select(.covered and .reason == null)] | length')" -eq 8 ] ||
	say "not all are covered: $(figure .workers)"
for dir in shared copied static; do
	for ready in "$tmp/$dir"/ready.*; do
		pid=${ready##*.}
		# one in 32 on average, 6,250 a worker
		figure ".workers[] | select(.pid == $pid) | .samples >= 4000" | grep -q true ||
			say "pid $pid ($dir): $(figure ".workers[] | select(.pid == $pid)")"
	done
done
[ "$(figure '[.series[] | .table + " " + .op] | join(",")')" = "sessions lookup" ] ||
	say "series: $(figure '.series')"
figure '.clock_step_ns > 0' | grep -q true || say "clock step"
figure '.series[0] | .p50_ns > 0 and .p50_ns < 1000 and .p50_ns <= .p95_ns and .p95_ns <= .p99_ns and
	.p99_ns <= .p999_ns' | grep -q true || say "percentiles: $(figure '.series[0]')"
figure '.series[0].buckets | map(.[0]) | . == (sort | unique)' | grep -q true || say "buckets' order"

# --- detached, the workers time nothing any more
touch "$tmp"/{shared,copied,static}/end
for pid in "${children[@]}"; do
	[ "$pid" = "$lat" ] || wait "$pid" || say "a worker failed: $(cat "$tmp/work.err")"
done
children=()
work "$tmp/quiet" "$worker" 1
touch "$tmp"/quiet/{go,fork}
await "workers that nobody traces" files "$tmp/quiet" "done" 2
[ "$("$worker" samples "$name")" = "$cells" ] || say "lookups are timed although nobody traces"
touch "$tmp/quiet/end"
wait

# --- a worker that is killed: its samples stay, and it is said to have been covered
work "$tmp/killed" "$worker" 2
await "two workers" files "$tmp/killed" ready 2
: >"$tmp/lat.err" # before anybody waits for it
"$shmlat" --segment "$name" --duration 60 --json -v >"$tmp/report" 2>"$tmp/lat.err" &
lat=$!
children+=("$lat")
await "two covered workers" grep -q ' 2 workers covered' "$tmp/lat.err"
touch "$tmp/killed/go"
await "two workers" files "$tmp/killed" "done" 2
for victim in "$tmp"/killed/done.*; do
	victim=${victim##*.}
	break
done
kill -KILL "$victim"
await "one covered worker" grep -q ' 1 worker covered' "$tmp/lat.err"
sleep 1
kill -INT "$lat"
wait "$lat" || say "shmlat left with $?: $(cat "$tmp/lat.err")"
figure ".workers[] | select(.pid == $victim) | .covered and .samples >= 4000" | grep -q true ||
	say "the killed worker: $(figure .workers)"
[ $(("$("$worker" samples "$name")" - cells)) = "$(figure '[.series[].samples] | add')" ] ||
	say "samples of the killed worker went missing"
touch "$tmp"/killed/{fork,end}
wait

# --- a worker whose library has no probe: told, and why; alone it is a refusal
mkdir "$tmp/blind"
objcopy --remove-section .note.stapsdt "$library" "$tmp/blind/$(basename "$library")"
LD_LIBRARY_PATH=$tmp/blind work "$tmp/blinded" "$worker" 1
await "a worker without a probe" files "$tmp/blinded" ready 1
expect 3 "$shmlat" --segment "$name" --duration 1
has "$tmp/err" 'no file it maps holds the probe foundation:lookup'
work "$tmp/seeing" "$worker" 1
await "a worker with a probe" files "$tmp/seeing" ready 1
touch "$tmp/seeing/go"
expect 1 "$shmlat" --segment "$name" --duration 0.5 --json
cp "$tmp/out" "$tmp/report"
figure '[.workers[] | select(.covered | not) | .reason] | length == 1 and (.[0] | contains("probe"))' |
	grep -q true || say "the uncovered worker: $(figure .workers)"

# --- for people
expect 1 "$shmlat" --segment "$name" --duration 1.2 --interval 0.5
[ "$(grep -c '^Segment ' "$tmp/out")" -eq 3 ] || say "not three reports: $(cat "$tmp/out")"
has "$tmp/out" 'NOT COVERED: no file'
has "$tmp/err" 'is not covered'
touch "$tmp"/{blinded,seeing}/{go,fork,end}
wait

# --- every lookup timed: done, with a warning
rm -f "/dev/shm/foundation.$(id -u).$name"
expect 0 "$worker" make "$name" 1
expect 0 "$shmlat" --segment "$name" --duration 0.1
has "$tmp/err" 'below 16 the timing itself slows the workers down'
exit $failed
