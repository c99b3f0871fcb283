#!/bin/bash
# SPDX-License-Identifier: MIT
# The main job from end to end: what logmill counts and writes is what the oracle finds in the same logs,
# with nobody dying and with workers killed all the time; a run ends in order, and leaves nothing behind.
#
# LOGMILL_RUNS   how often the run with kills is done (default 3)
# FOUNDATION_LOGS  a directory of real logs to run on too
set -eu
# shellcheck disable=SC1091
. "$FOUNDATION_SOURCE/tests/support/oracle.sh"
logmill=$FOUNDATION_BIN/logmill
runs=${LOGMILL_RUNS:-3}
uid=$(id -u)
name=test-logmill-$$
tmp=$(mktemp -d)
export FOUNDATION_STATE_DIR=$tmp/state
child=

shm() { # the file of a segment
	echo "/dev/shm/foundation.$uid.$1"
}

end() {
	[ -z "$child" ] || kill -KILL "$child" 2>/dev/null || true
	rm -rf "$tmp" "$(shm "$name")"
}
trap end EXIT

fail() {
	echo "FAILED: $*"
	exit 1
}

check() { # what, value, operator, value
	test "$2" "$3" "$4" || fail "$1: $2, not $3 $4"
}

figure() { # a number of the last summary
	jq -r ".$1" "$tmp/summary"
}

run() {
	"$logmill" --json --events "$tmp/events" "$@" >"$tmp/summary" ||
		fail "logmill $*: exit status $?"
}

wait_for() { # what, command...
	local what=$1 i
	shift
	for ((i = 0; i < 600; i++)); do
		! "$@" || return 0
		sleep 0.1
	done
	fail "$what: not within a minute"
}

# Sources and templates of a truth file (SOURCE TAB MESSAGE), sorted.
oracle() {
	cut -f1 "$1" | sort -u >"$tmp/sources"
	cut -f2- "$1" | mask | sort -u >"$tmp/templates"
	lines=$(grep -c "" "$1")
	sources=$(wc -l <"$tmp/sources")
	templates=$(wc -l <"$tmp/templates")
}

# The events file holds the oracle's templates, each exactly once.
same_events() {
	sort "$tmp/events" | cmp - "$tmp/templates" || fail "the templates are not the oracle's"
	check agents "$(figure agents)" -eq "$sources"
}

# One truth, and the logs it is the truth of.
prove() {
	local what=$1 i passes

	oracle "$2"
	shift 2
	run --workers 4 --window forever "$@"
	same_events
	check lines "$(figure lines)" -eq "$lines"
	check emitted "$(figure emitted)" -eq "$templates"
	check "emitted + suppressed" $(($(figure emitted) + $(figure suppressed))) -eq "$lines"
	check lookups "$(figure lookup_ns.p50)" -gt 0
	check kills "$(figure kills)" -eq 0

	for ((i = 0; i < runs; i++)); do
		run --workers 4 --window forever --kill-every 1 --kills 200 "$@"
		same_events
		check kills "$(figure kills)" -eq 200
		check emitted "$(figure emitted)" -eq "$templates"
		check "lines of whole passes" $(($(figure lines) % lines)) -eq 0
		passes=$(($(figure lines) / lines))
		check passes "$passes" -ge 1
		check "emitted + suppressed" $(($(figure emitted) + $(figure suppressed))) -ge \
			"$(figure lines)"
		check "emitted + suppressed" $(($(figure emitted) + $(figure suppressed))) -le \
			$(($(figure lines) + 200))
	done
	echo "$what: $lines lines, $sources sources, $templates templates; the same $runs times with" \
		"200 kills ($passes passes, $(figure recoveries) recoveries in the last)"
}

sh "$FOUNDATION_SOURCE/tests/support/make_logs.sh" "$tmp" "${LOGMILL_SEED:-1}" 2000
for form in syslog zookeeper other; do
	prove "$form" "$tmp/$form.truth" "$tmp/$form.log"
done
cat "$tmp"/*.truth >"$tmp/all"
prove "all three" "$tmp/all" "$tmp"/*.log

real_log() { # form, log, sources, templates
	"split_$1" "$2" >"$tmp/truth"
	oracle "$tmp/truth"
	case $2 in
	*_2k.log) # the samples everybody has: what is known of them
		[ "$lines $sources $templates" = "2000 $3 $4" ] ||
			fail "$2: the oracle has $lines $sources $templates"
		;;
	esac
	prove "$(basename "$2")" "$tmp/truth" "$2"
}

if [ -n "${FOUNDATION_LOGS:-}" ]; then
	for log in "$FOUNDATION_LOGS"/*.log; do
		case $(basename "$log") in
		OpenSSH*) real_log syslog "$log" 519 197 ;;
		Zookeeper*) real_log zookeeper "$log" 20 58 ;;
		esac
	done
fi

# More workers than lines, and no line at all.
printf 'a 1\n\nb 2' >"$tmp/few.log"
: >"$tmp/empty.log"
run --workers 16 --window forever --repeat 3 "$tmp/few.log"
check lines "$(figure lines)" -eq 6
check emitted "$(figure emitted)" -eq 1
check agents "$(figure agents)" -eq 2
run "$tmp/empty.log"
check lines "$(figure lines)" -eq 0
check events "$(wc -c <"$tmp/events")" -eq 0

# A window that is over lets everything out again.
run --window 0 --repeat 2 "$tmp/few.log"
check emitted "$(figure emitted)" -eq 4

# What finds no room is counted, not lost from the count.
run --window forever --dedup 20 "$tmp/other.log"
check overflowed "$(figure overflowed)" -gt 0
check "emitted + suppressed, overflowed" $(($(figure emitted) + $(figure suppressed))) -eq 2000
check "templates that found room" "$(wc -l <"$tmp/events")" -ge 20

# Time bounds what is begun, not what is finished.
run --window forever --seconds 0.3 "$tmp/syslog.log"
check "lines of whole passes" $(($(figure lines) % 2000)) -eq 0
check "lines in 0.3 seconds" "$(figure lines)" -ge 2000

# Nothing of all that is left. What another logmill is at, whose pid the name has, is its own.
leftover() {
	find /dev/shm -name "foundation.$uid.logmill-*" -newer "$tmp/few.log" | while read -r file; do
		kill -0 "${file##*-}" 2>/dev/null || [ ! -e "$file" ] || echo "$file"
	done
}
[ -z "$(leftover)" ] || fail "left behind: $(leftover)"
echo "private segments are gone"

# What cannot be opened, and what nobody understands.
status=0
"$logmill" "$tmp/missing.log" 2>"$tmp/err" || status=$?
check "exit status for a missing log" "$status" -eq 3
grep -q 'missing.log: No such file' "$tmp/err" || fail "no sentence for a missing log"
for wrong in --workers=0 --workers=65 --window=soon --kills=-1 --nonsense; do
	status=0
	"$logmill" "$wrong" "$tmp/few.log" 2>/dev/null || status=$?
	check "exit status for $wrong" "$status" -eq 2
done
status=0
"$logmill" --segment 'No Such/Name' "$tmp/few.log" 2>/dev/null || status=$?
check "exit status for a bad name" "$status" -eq 2
status=0
"$logmill" --events /dev/null "$tmp/few.log" 2>/dev/null || status=$?
check "exit status for events that would replace a device" "$status" -eq 3
[ -c /dev/null ] || fail "/dev/null was replaced"

# --keep leaves the segment; who comes later finds what has been emitted, and leaves it there too.
run --window forever --segment "$name" --keep "$tmp/syslog.log"
[ -e "$(shm "$name")" ] || fail "--keep did not keep"
run --window forever --segment "$name" "$tmp/syslog.log"
check "emitted a second time" "$(figure emitted)" -eq 0
check "suppressed a second time" "$(figure suppressed)" -eq 2000
oracle "$tmp/syslog.truth"
same_events
[ -e "$(shm "$name")" ] || fail "a segment that was there before is gone"

# Other logs on the same segment: the file holds all that was ever emitted there, and a template too long
# for an event is read again from the log it came from. When that log has changed, that is said.
cat "$tmp/syslog.truth" "$tmp/other.truth" >"$tmp/both"
run --window forever --segment "$name" "$tmp/other.log"
oracle "$tmp/both"
sort "$tmp/events" | cmp - "$tmp/templates" || fail "not the templates of both runs"
check agents "$(figure agents)" -eq "$(cut -f1 "$tmp/other.truth" | sort -u | wc -l)"
sed -i 's/filling/changed/g' "$tmp/syslog.log"
run --window forever --segment "$name" "$tmp/other.log" 2>"$tmp/err"
grep -q 'their logs have changed' "$tmp/err" || fail "no word about a changed log"
check "templates that can still be read" "$(wc -l <"$tmp/events")" -lt "$templates"
sed -i 's/changed/filling/g' "$tmp/syslog.log"
rm "$(shm "$name")"
oracle "$tmp/syslog.truth"
echo "a segment is kept, found again, and left"

# A summary for people has the same figures.
"$logmill" --window forever "$tmp/syslog.log" >"$tmp/table"
grep -Eq "^agents +$sources  " "$tmp/table" || fail "no agents in the table"

has_summary() {
	[ -s "$tmp/summary" ]
}

is_there() {
	[ -e "$(shm "$name")" ]
}

# The events are written for the first time when the first pass is done.
has_events() {
	[ -s "$tmp/begun" ]
}

# Runs logmill in the background on the named segment.
background() {
	: >"$tmp/summary"
	: >"$tmp/begun"
	"$logmill" --json --events "$tmp/begun" --segment "$name" --window forever "$@" >"$tmp/summary" &
	child=$!
	wait_for "the segment" is_there
}

finish() { # signal
	local status=0

	kill "-$1" "$child"
	wait "$child" || status=$?
	child=
	check "exit status after SIG$1" "$status" -eq 0
	[ ! -e "$(shm "$name")" ] || fail "the segment is there after SIG$1"
	check "lines of whole passes" $(($(figure lines) % 2000)) -eq 0
}

for signal in TERM INT; do
	background --repeat 0 --kill-every 2 "$tmp/syslog.log"
	# a signal while the workers are still starting ends the run before it has begun
	wait_for "the first pass" has_events
	finish $signal
	check "lines until SIG$signal" "$(figure lines)" -gt 0
	background --hold "$tmp/syslog.log"
	wait_for "the summary" has_summary
	kill -0 "$child" || fail "--hold did not hold"
	check lines "$(figure lines)" -eq 2000
	is_there || fail "no segment while held"
	finish $signal
done
echo "SIGTERM and SIGINT end a run and a hold in order"

# Two mills on one segment keep out of each other's way.
background --repeat 0 --kill-every 5 "$tmp/syslog.log"
run --window forever --segment "$name" --kill-every 1 --kills 50 "$tmp/zookeeper.log"
check "lines beside another mill" $(($(figure lines) % 2000)) -eq 0
check "agents beside another mill" "$(figure agents)" -eq \
	"$(cut -f1 "$tmp/zookeeper.truth" | sort -u | wc -l)"
is_there || fail "the guest has taken the segment away"
kill -TERM "$child"
wait "$child" || fail "the host ended with $?"
child=
echo "two mills share a segment"

# The parent is killed: no worker outlives it, and its segment can be used by the next.
background --repeat 0 --workers 6 "$tmp/syslog.log"
has_workers() {
	workers=$(cat "/proc/$child/task/$child/children")
	[ "$(wc -w <<<"$workers")" -eq 6 ]
}
wait_for "six workers" has_workers
kill -KILL "$child"
wait "$child" 2>/dev/null || true
child=
gone() {
	local pid
	for pid in $workers; do
		# A pid that is taken anew, or a zombie nobody has collected yet, is no worker.
		! grep -qs '^State:[[:space:]]*[^ZX]' "/proc/$pid/status" ||
			[ "$(cat "/proc/$pid/comm" 2>/dev/null)" != logmill ] || return 1
	done
}
wait_for "the end of the workers" gone
run --window forever --segment "$name" "$tmp/syslog.log"
check lines "$(figure lines)" -eq 2000
check agents "$(figure agents)" -eq "$sources"
same_events
rm "$(shm "$name")"
echo "no worker outlives a killed parent, and the next one takes over"
