#!/bin/bash
# SPDX-License-Identifier: MIT
# foundation context: the contexts of a living worker, and of one that was killed inside three scopes.
set -u
foundation=$FOUNDATION_BIN/foundation
worker=$FOUNDATION_BUILD/tests/test_context_processes
export LC_ALL=C ASAN_OPTIONS=verify_asan_link_order=0
unset FOUNDATION_SEGMENT

name=t-context-$$
tmp=$(mktemp -d)
export FOUNDATION_STATE_DIR=$tmp/state
failed=0
pids=()

# shellcheck disable=SC2317 # reached by the trap
cleanup() {
	[ ${#pids[@]} -eq 0 ] || kill -9 "${pids[@]}" 2>/dev/null
	rm -rf "/dev/shm/foundation.$(id -u).$name" "$tmp"
}
trap cleanup EXIT

say() {
	echo "FAILED: $*"
	failed=1
}

run() { # STATUS word…: foundation context, output in $tmp/out and $tmp/err
	local want=$1 got
	shift
	timeout 60 "$foundation" context --segment "$name" "$@" >"$tmp/out" 2>"$tmp/err"
	got=$?
	[ $got -eq "$want" ] || say "exit $got, not $want: foundation context $*: $(head -n 3 "$tmp/err")"
}

has() { # TEXT in the output
	grep -qF -- "$1" "$tmp/out" || say "no '$1' in: $(cat "$tmp/out")"
}

json() { # EXPRESSION over the document d
	python3 - "$tmp/out" "$1" <<'PYTHON' || say "JSON: $1: $(tail -c 900 "$tmp/out")"
import json, sys
d = json.load(open(sys.argv[1]))
assert d["schema"] == "foundation.context/1"
c = d["contexts"]
assert eval("(" + sys.argv[2] + ")"), sys.argv[2]
PYTHON
}

start() { # a worker inside three scopes; its pid in $pid
	mkfifo "$tmp/in.$1" "$tmp/said.$1"
	"$worker" --hold "$name" <"$tmp/in.$1" >"$tmp/said.$1" 2>"$tmp/worker.err" &
	pids+=($!)
	exec {fd}>"$tmp/in.$1"
	read -r pid _ <"$tmp/said.$1" || {
		cat "$tmp/worker.err"
		exit 1
	}
}

[ -x "$worker" ] || exit 77
"$foundation" create --processes 8 --threads 16 "$name" >/dev/null || exit 1

run 0 list
[ ! -s "$tmp/out" ] || say "contexts of nobody: $(cat "$tmp/out")"
run 1 show 1
run 2 show
run 2 show nobody
run 2 look 1
run 2 list --thread 3

# --- alive -------------------------------------------------------------------------------------------

start 1
run 0 list
has "request_id=r-42 step=store operation=import line=17"
run 0 show "$pid"
has "pid $pid, thread $pid"
has "  request_id: r-42"
has "  operation: import"
has "  step: store"
has "  line: 17"
has "line 17 is odd"
run 0 show "$pid" --thread "$pid" --json
json "len(c) == 1 and c[0]['alive'] and c[0]['depth'] == 3 and c[0]['found_dead'] is None"
json "c[0]['context'] == {'request_id': 'r-42', 'step': 'store', 'operation': 'import', 'line': 17}"
json "[b['text'] for b in c[0]['breadcrumbs']] == ['opened the file', 'line 17 is odd']"
run 1 show "$pid" --thread 1 --json
json "c == []"

# --- killed ------------------------------------------------------------------------------------------

kill -9 "$pid"
wait "$pid" 2>/dev/null
run 0 show "$pid" --json # its slot is as it left it
json "len(c) == 1 and c[0]['alive'] is False and c[0]['context']['operation'] == 'import'"
"$foundation" reap --segment "$name" >/dev/null || say "reap"
run 0 show "$pid"
has "  request_id: r-42"
has "  operation: import"
has "  step: store"
has "found dead at"
run 0 list --json
json "len(c) == 1 and c[0]['pid'] == $pid and c[0]['found_dead'] and d['written_over'] == 0"
json "c[0]['context'] == {'request_id': 'r-42', 'step': 'store', 'operation': 'import', 'line': 17}"

# --- left in order -----------------------------------------------------------------------------------

first=$pid
start 2
run 0 list --json
json "sorted([x['pid'] for x in c]) == sorted([$first, $pid])"
exec {fd}>&-
wait "$pid" || say "the worker failed: $(cat "$tmp/worker.err")"
pids=()
run 1 show "$pid"
exit $failed
