#!/bin/bash
# SPDX-License-Identifier: MIT
# foundation status --threads beside a reader that is stopped in its section while others write.
set -u
foundation=$FOUNDATION_BIN/foundation
hold=$FOUNDATION_BUILD/tests/test_stall
export LC_ALL=C ASAN_OPTIONS=verify_asan_link_order=0
unset FOUNDATION_SEGMENT

name=t-threads-$$
tmp=$(mktemp -d)
export FOUNDATION_STATE_DIR=$tmp/state
failed=0
holder=

# shellcheck disable=SC2317 # reached by the trap
cleanup() {
	exec 3>&-
	[ -z "$holder" ] || wait "$holder"
	rm -rf "/dev/shm/foundation.$(id -u).$name" "$tmp"
}
trap cleanup EXIT

say() {
	echo "FAILED: $*"
	failed=1
}

status() { # option…: to $tmp/out
	timeout 60 "$foundation" status --segment "$name" "$@" >"$tmp/out" 2>"$tmp/err" ||
		say "exit $?: foundation status $*: $(head -n 3 "$tmp/err")"
}

json() { # EXPRESSION over the document d and the stalled thread's pid and tid
	python3 - "$tmp/out" "$pid" "$tid" "$1" <<'PYTHON' || say "JSON: $1: $(tail -c 900 "$tmp/out")"
import json, sys
d = json.load(open(sys.argv[1]))
pid, tid = int(sys.argv[2]), int(sys.argv[3])
assert d["schema"] == "foundation.status/1"
warned = [w["message"] for w in d["warnings"] if w["id"] == "stalled-reader"]
threads = {t["tid"]: t for t in d.get("threads", [])}
assert eval("(" + sys.argv[4] + ")"), sys.argv[4]
PYTHON
}

[ -x "$hold" ] || exit 77
mkfifo "$tmp/in" "$tmp/said"
"$hold" --hold "$name" <"$tmp/in" >"$tmp/said" 2>"$tmp/hold.err" &
holder=$!
exec 3>"$tmp/in"
read -r pid tid <"$tmp/said" || {
	cat "$tmp/hold.err"
	exit 1
}

# --- stopped ----------------------------------------------------------------------------------------

status --threads --json
json "threads[tid]['pid'] == pid != tid and threads[tid]['comm'] == 'stuck reader'"
json "threads[tid]['alive'] and threads[tid]['state'] == 'active' and threads[tid]['nesting'] == 2"
json "threads[tid]['epochs_behind'] == d['epoch'] - threads[tid]['epoch'] > 0"
json "threads[tid]['age_ns'] >= 500e6 and threads[tid]['held_bytes'] == d['held_bytes'] > 0"
json "d['held_bytes'] == sum(t['retired'] * t['record_bytes'] for t in d['tables'])"
json "len(threads) == d['threads_taken'] == 2"
json "all(t['nesting'] == t['epoch'] == t['age_ns'] == 0 for i, t in threads.items() if i != tid)"
json "len(warned) == 1 and 'process %d (stuck reader), thread %d' % (pid, tid) in warned[0]"
json "'since epoch %d' % threads[tid]['epoch'] in warned[0] and 'iB wait' in warned[0]"
json "d['counters']['stalls'] == 1"

# Without the list the warning is there all the same.
status --json
json "'threads' not in d and len(warned) == 1"
status
grep -q "^warning: process $pid (stuck reader), thread $tid " "$tmp/out" || say "no warning in the text"
grep -q "^ *TID " "$tmp/out" && say "a list of threads nobody asked for"
status -t
grep -qE "^ *$tid +$pid +stuck reader +[0-9]+ +active +2 +[0-9]+ +[0-9]+ +[0-9.]+ [a-z]+ +[0-9.]+ [KMG]iB\$" \
	"$tmp/out" || say "no line of the stopped thread: $(grep -A3 TID "$tmp/out")"
FOUNDATION_SEGMENT=$name timeout 60 "$foundation" status --threads >"$tmp/out" || say "by environment"

# --- dead, and everything back ----------------------------------------------------------------------

exec 3>&-
wait "$holder" || say "the holder: exit $?: $(cat "$tmp/hold.err")"
holder=
status --threads --json
json "threads == {} and warned == [] and d['held_bytes'] == 0 and d['counters']['stalls'] == 1"
"$foundation" destroy "$name" || say "destroy"
exit $failed
