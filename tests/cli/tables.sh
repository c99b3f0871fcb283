#!/bin/bash
# SPDX-License-Identifier: MIT
# foundation tables: what is listed is what is there, what is made is made once, damage is named.
set -u
foundation=$FOUNDATION_BIN/foundation
worker=$FOUNDATION_BUILD/tests/agents_worker
export LC_ALL=C ASAN_OPTIONS=verify_asan_link_order=0
unset FOUNDATION_SEGMENT

name=t-tables-$$
file=/dev/shm/foundation.$(id -u).$name
tmp=$(mktemp -d)
export FOUNDATION_STATE_DIR=$tmp/state
failed=0
pids=()

# shellcheck disable=SC2317 # reached by the trap
cleanup() {
	[ ${#pids[@]} -eq 0 ] || kill -9 "${pids[@]}" 2>/dev/null
	rm -rf "$file"* "$tmp"
}
trap cleanup EXIT
trap 'exit 1' INT TERM

say() {
	echo "FAILED: $*"
	failed=1
}

run() { # STATUS word…: foundation tables, output in $tmp/out and $tmp/err
	local want=$1 got
	shift
	timeout 60 "$foundation" tables --segment "$name" "$@" >"$tmp/out" 2>"$tmp/err"
	got=$?
	[ $got -eq "$want" ] || say "exit $got, not $want: tables $*: $(head -n 3 "$tmp/err")"
}

has() { # out or err, text
	grep -qF -- "$2" "$tmp/$1" || say "no '$2' in $1: $(head -c 600 "$tmp/$1")"
}

json() { # SCHEMA EXPRESSION over the document d
	python3 - "$tmp/out" "$@" <<'PYTHON' || say "JSON: $1: $2: $(head -c 900 "$tmp/out")"
import json, sys
d = json.load(open(sys.argv[1]))
assert d["schema"] == sys.argv[2], d["schema"]
t = {x["name"]: x for x in d.get("tables", [])}
assert eval("(" + sys.argv[3] + ")"), sys.argv[3]
PYTHON
}

"$foundation" create --processes 8 --threads 32 --capacity 64 --agents 20 --dedup 300 "$name" >/dev/null || exit 1

# --- looking -----------------------------------------------------------------------------------------

run 0
has out RECORDS
has out fine
run 0 list --json
json foundation.tables/1 "
	{'agents', 'dedup', 'events', 'flags'} <= set(t) and not d['damaged']
	and d['bytes'] == sum(x['bytes'] for x in d['tables'])
	and list(t) == sorted(t) and t['agents']['capacity'] == 20 and t['agents']['owned']
	and t['dedup']['capacity'] == 300 and all(x['health'] == 'fine' and x['shards'] for x in d['tables'])"
cp "$tmp/out" "$tmp/listed"
"$foundation" status --segment "$name" --json | jq -S '[.tables[] | {name, bytes, capacity, live}] | sort_by(.name)' \
	>"$tmp/status"
jq -S '[.tables[] | {name, bytes, capacity, live: .records}] | sort_by(.name)' "$tmp/listed" | cmp -s - "$tmp/status" ||
	say "not what status says"
run 0 list --sort bytes --json
json foundation.tables/1 "[x['bytes'] for x in d['tables']] == sorted((x['bytes'] for x in d['tables']), reverse=True)"
run 0 list --sort records --json
json foundation.tables/1 "[x['records'] for x in d['tables']] == sorted((x['records'] for x in d['tables']), reverse=True)"
run 0 --sort name
run 2 --sort colour
run 2 show
run 2 show agents --sort bytes
run 2 polish agents
run 0 show agents
has out "the registry"
has out "of 20"
run 0 show agents --json
json foundation.table/1 "d['name'] == 'agents' and d['defects'] == [] and d['health'] == 'fine' and d['record_bytes'] > 0"
run 1 show nothing
has err "no table is called nothing"
run 1 show registry # shown by its own name

# --- full ---------------------------------------------------------------------------------------------

if [ -x "$worker" ]; then
	"$foundation" flags --segment "$name" stage 2 >/dev/null
	mkfifo "$tmp/in"
	"$worker" "$name" <"$tmp/in" >"$tmp/said" &
	pids+=($!)
	exec 7>"$tmp/in"
	for i in {1..20}; do
		echo "register a/$i x $i" >&7
	done
	for _ in {1..600}; do
		[ "$(grep -cx 0 "$tmp/said")" = 20 ] && break
		sleep 0.1
	done
	run 0 list --json
	json foundation.tables/1 "t['agents']['records'] == 20 and t['agents']['health'] == 'at-capacity'"
	run 0 ensure agents # beside a living worker
	has out "was there"
	kill -9 "${pids[0]}"
	wait "${pids[0]}" 2>/dev/null
	pids=()
	run 0 ensure agents --json
	json foundation.tables.ensure/1 "d['name'] == 'agents' and not d['made'] and d['reaped'] == 20 and d['damaged'] == 0"
	run 0 ensure registry --json
	json foundation.tables.ensure/1 "d['name'] == 'agents' and d['reaped'] == 0"
fi

# --- making ---------------------------------------------------------------------------------------------

run 2 ensure nothing
has err "agents, dedup, events, flags, config"
run 2 ensure agents.index
for table in dedup events flags config; do
	run 0 ensure $table
	run 0 ensure $table --json
	json foundation.tables.ensure/1 "d['name'] == '$table' and not d['made']"
done
run 0 list --json
json foundation.tables/1 "'config' in t"
run 3 ensure agents --segment "$name-none"

# Many at once on a segment that has none: one table, and one who made it or none.
"$foundation" destroy --purge "$name" || say destroy
"$foundation" create --processes 64 --threads 64 --capacity 64 "$name" >/dev/null
for i in {1..20}; do
	timeout 60 "$foundation" tables --segment "$name" ensure config --json >"$tmp/made.$i" 2>&1 || say "ensure $i: $(cat "$tmp/made.$i")"
done &
both=$!
for i in {21..40}; do
	timeout 60 "$foundation" tables --segment "$name" ensure config --json >"$tmp/made.$i" 2>&1 || say "ensure $i: $(cat "$tmp/made.$i")"
done
wait $both
[ "$(cat "$tmp"/made.* | grep -c '"made": true')" -ge 1 ] || say "nobody made config"
run 0 list --json
json foundation.tables/1 "[x['name'] for x in d['tables']].count('config') == 1"

# --- damaged ----------------------------------------------------------------------------------------------

# The first word behind the span of a table that verify misses is one of its shards'.
span=$(python3 -c "
import struct, sys
print(struct.unpack_from('<Q', open(sys.argv[1], 'rb').read(4096), 160)[0])" "$file")
offset=
for word in 64 72 80 88 96 128; do
	cp "$file" "$tmp/good"
	printf '\4' | dd of="$file" bs=1 seek=$((span + word)) conv=notrunc status=none
	"$foundation" verify --segment "$name" >"$tmp/out" 2>/dev/null
	if grep -q 'table agents, shard' "$tmp/out"; then
		offset=$((span + word))
		break
	fi
	cp "$tmp/good" "$file"
done
if [ -n "$offset" ]; then
	run 4 show agents
	has out damaged
	has err damaged
	run 4 show agents --json
	json foundation.table/1 "d['health'] == 'damaged' and d['defects'] and d['defects'][0]['remedy']"
	run 0 show dedup
	run 0 ensure agents
	has out mended
	run 0 show agents --json
	json foundation.table/1 "d['health'] == 'fine'"
	run 0 ensure agents --json
	json foundation.tables.ensure/1 "d['mended'] == 0"
else
	say "no word of table agents to damage"
fi

# Memory whose very headers are damaged: nothing says what it was.
cp "$file" "$tmp/good"
printf '\4' | dd of="$file" bs=1 seek=$((span)) conv=notrunc status=none
printf '\4' | dd of="$file" bs=1 seek=$((span + 64)) conv=notrunc status=none
run 4 ensure agents
has err shmdump
has err "foundation destroy --force"
has err "rollback --component registry"
cp "$tmp/good" "$file"
run 0 ensure agents

# A description that cannot be read: the others are listed, and the exit status says it.
table=$(python3 -c "
import struct, sys
print(struct.unpack_from('<Q', open(sys.argv[1], 'rb').read(4096), 152)[0])" "$file")
printf 'X' | dd of="$file" bs=1 seek=$((table + 8)) conv=notrunc status=none
run 4 list --json
json foundation.tables/1 "d['damaged'] and len(t) >= 3 and 'agents' not in t"
run 4 show agents
run 0 ensure agents # its checksum says what its name was
has out mended
run 0 list --json
json foundation.tables/1 "t['agents']['health'] == 'fine'"
exit $failed
