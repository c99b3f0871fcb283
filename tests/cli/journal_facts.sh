#!/bin/bash
# SPDX-License-Identifier: MIT
# What waits in a segment for its journal: deaths of agents, taken by whichever command comes first; backups.
set -u
bin=${FOUNDATION_BIN:?}
worker=${FOUNDATION_BUILD:?}/tests/agents_worker
work=$(mktemp -d)
export FOUNDATION_STATE_DIR=$work/state FOUNDATION_SEGMENT=facts-$$ LC_ALL=C
export ASAN_OPTIONS=verify_asan_link_order=0
pids=()
fnd() { timeout 60 "$bin/foundation" "$@"; }
# shellcheck disable=SC2317 # the trap calls it
clean_up() {
	[ ${#pids[@]} -eq 0 ] || kill -9 "${pids[@]}" 2>/dev/null
	fnd destroy --force --purge "$FOUNDATION_SEGMENT" 2>/dev/null
	rm -rf "$work"
}
trap clean_up EXIT
trap 'exit 1' INT TERM

status=0
say() {
	echo "FAILED: $*"
	status=1
}
expect() { # exit status, text that must be there or '', command…
	local want=$1 text=$2 out got
	shift 2
	out=$("$@" 2>&1)
	got=$?
	if [ $got -ne "$want" ] || [[ $out != *"$text"* ]]; then
		say "$*: exit $got, $want expected, with '$text': $out"
	fi
}
records() { fnd journal --json --type "$1"; }
count() { records "$1" | wc -l; }

die() { # NAME: a worker registers it and is killed
	local in out pid
	mkfifo "$work/in.$1" "$work/out.$1"
	"$worker" "$FOUNDATION_SEGMENT" <"$work/in.$1" >"$work/out.$1" &
	pid=$!
	pids+=("$pid")
	exec {in}>"$work/in.$1" {out}<"$work/out.$1"
	echo "register $1 ocr 3" >&$in
	for _ in ready registered; do
		read -r -t 60 -u "$out" _ || say "the worker does not answer"
	done
	kill -9 "$pid"
	wait "$pid" 2>/dev/null
	exec {in}>&- {out}<&-
	last=$pid
}

expect 0 '' fnd create "$FOUNDATION_SEGMENT"
expect 0 '' fnd flags stage 2

# whoever looks takes it
die parser
expect 0 'agent.down' fnd journal --type agent.down
records agent.down | jq -e --argjson pid "$last" '.event > 0 and .event_at > 0 and .event_pid > 0 and
	(.source | length == 16) and .data.name == "parser" and .data.pid == $pid and .data.reason != null and
	(.data.contexts | type == "array") and .data.metadata.capability == "ocr"' >"$work/out" ||
	say "the record: $(records agent.down)"

# sync says how many; once each, also when many do it
die loader
expect 0 '1 names removed, 1 records written' fnd journal sync
expect 0 '0 names removed, 0 records written' fnd journal sync
die sorter
for i in 1 2 3 4 5 6 7 8; do
	fnd journal sync --json >"$work/sync.$i" &
	syncs[i]=$!
done
wait "${syncs[@]}" || say "one of eight failed"
[ "$(jq -s 'map(.written) | add' "$work"/sync.?)" = 1 ] || say "eight at once: $(cat "$work"/sync.?)"
[ "$(count agent.down)" = 3 ] || say "three deaths: $(records agent.down)"
[ "$(records agent.down | jq -r .data.name | sort | tr '\n' ' ')" = 'loader parser sorter ' ] || say "their names"

# in passing: who reaps writes, without being asked to
die writer
expect 0 '' fnd reap
grep -q '"name":"writer"' "$FOUNDATION_STATE_DIR/$FOUNDATION_SEGMENT/journal" || say "reap did not write it"
expect 2 'sync, or nothing' fnd journal show

# a journal that cannot be written: a sentence, and the status of what was asked for; caught up later
dir=$FOUNDATION_STATE_DIR/$FOUNDATION_SEGMENT
die mailer
mv "$dir" "$dir.away"
: >"$dir"
expect 0 'not in the journal' fnd reap
[ "$(fnd journal sync >/dev/null 2>&1; echo $?)" -ne 0 ] || say "sync with nowhere to write to"
expect 0 'the backup is not in the journal' "$bin/shmdump" backup "$work/1.snap"
rm "$dir"
mv "$dir.away" "$dir"
expect 0 '' fnd flags list
grep -q '"name":"mailer"' "$dir/journal" || say "not caught up in passing"

# backups, made and failed
expect 0 '' "$bin/shmdump" backup "$work/2.snap"
expect 3 '' "$bin/shmdump" backup "$work/no/where.snap"
records backup | jq -e -s --arg file "$work/2.snap" 'length == 2 and .[0].file == $file and .[0].result == "ok" and
	.[0].tables > 0 and .[0].records >= 0 and .[0].bytes > 0 and .[1].result == "failed" and .[1].status == 3' \
	>"$work/out" || say "backups: $(records backup)"

# destroy takes what is left, and the journal outlives the segment
die keeper
expect 0 '' fnd destroy "$FOUNDATION_SEGMENT"
[ "$(count agent.down)" = 6 ] || say "six deaths: $(records agent.down)"
expect 3 '' fnd journal sync

# flags come back from a journal with other records in it
expect 0 '' fnd create "$FOUNDATION_SEGMENT"
[ "$(fnd flags list --json | jq -r .stage)" = 2 ] || say "the stage"
exit $status
