#!/bin/bash
# SPDX-License-Identifier: MIT
# The foundation command: exit statuses, JSON, and how it refuses what is not a sound segment.
set -u
foundation=$FOUNDATION_BIN/foundation
export LC_ALL=C ASAN_OPTIONS=verify_asan_link_order=0
unset FOUNDATION_SEGMENT

uid=$(id -u)
base=t-cli-$$
tmp=$(mktemp -d)
export FOUNDATION_STATE_DIR=$tmp/state
failed=0
logmill_pid=

# shellcheck disable=SC2317 # reached by the trap
cleanup() {
	if [ -n "$logmill_pid" ]; then
		kill "$logmill_pid" 2>/dev/null
		wait "$logmill_pid" 2>/dev/null
	fi
	rm -rf "/dev/shm/foundation.$uid.$base"* "$tmp"
}
trap cleanup EXIT

say() {
	echo "FAILED: $*"
	failed=1
}

# expect STATUS ARGUMENT…: the output is in $tmp/out and $tmp/err
expect() {
	local want=$1 got
	shift
	timeout 60 "$foundation" "$@" >"$tmp/out" 2>"$tmp/err"
	got=$?
	if [ $got -ne "$want" ]; then
		say "exit $got instead of $want: foundation $*"
		head -n 5 "$tmp/out" "$tmp/err"
	fi
	if [ "$want" -ne 0 ] && [ ! -s "$tmp/err" ]; then
		say "no word on standard error: foundation $*"
	fi
}

has() { # file, text
	grep -qF -- "$2" "$tmp/$1" || say "no '$2' in $1: $(head -c 400 "$tmp/$1")"
}

# json SCHEMA EXPRESSION: the output is one JSON document d of that schema, for which it holds
json() {
	python3 - "$tmp/out" "$@" <<'PYTHON' || say "JSON: $1: $2: $(head -c 600 "$tmp/out")"
import json, sys
d = json.load(open(sys.argv[1]))
assert d["schema"] == sys.argv[2], d["schema"]
assert eval("(" + sys.argv[3] + ")"), sys.argv[3]
PYTHON
}

path() {
	echo "/dev/shm/foundation.$uid.$1"
}

poke() { # file, offset, printf format of the bytes
	# shellcheck disable=SC2059 # the bytes are the format
	printf "$3" | dd of="$1" bs=1 seek="$2" conv=notrunc status=none
}

# --- help and usage ---------------------------------------------------------------------------------

expect 2
expect 0 --help
has out "create"
expect 0 --version
has out "foundation "
expect 0 help
for command in create destroy ls status verify agents reap; do
	expect 0 "$command" --help
	has out "Usage: foundation $command"
	cp "$tmp/out" "$tmp/help"
	expect 0 help "$command"
	cmp -s "$tmp/out" "$tmp/help" || say "help $command is not $command --help"
	expect 2 "$command" --no-such-option
	expect 0 --help
	has out "  $command"
done
expect 2 help nothing
expect 2 nothing
expect 2 --nothing
expect 2 create
expect 2 create "$base" "$base"
expect 2 create "$base" --capacity
for n in 0 -1 x 1x 99999999999999999999 ''; do
	expect 2 create "$base" --capacity "$n"
done
expect 2 create "$base" --threads 4096
expect 2 create "$base" --max-bytes 33G
expect 2 create 'Not a name'
expect 2 status --segment 'Not a name'
expect 2 status
has err FOUNDATION_SEGMENT
expect 2 agents
expect 2 ls something
[ ! -e "$(path "$base")" ] || say "a refused create left a segment"

# --- one life ---------------------------------------------------------------------------------------

expect 3 status --segment "$base"
has err "$(path "$base")"
expect 3 destroy "$base"
expect 0 create "$base" --capacity 500 --agents 100 --dedup 200 --threads 20 --processes 10 \
	--max-bytes 64M
expect 3 create "$base"
has err exists
expect 0 status --segment "$base" --json
json foundation.status/1 "
	sorted(t['name'] for t in d['tables']) == ['agents', 'dedup', 'events', 'flags']
	and [t['capacity'] for t in d['tables'] if t['name'] == 'agents'] == [100]
	and [t['capacity'] for t in d['tables'] if t['name'] == 'dedup'] == [200]
	and d['default_capacity'] == 500 and d['thread_slots'] == 20 and d['process_slots'] == 10
	and d['max_bytes'] >= 64 << 20 and d['participants'] == [] and d['agents'] == 0
	and d['same_pid_namespace'] and not d['fenced'] and d['layout'] == '1.0'
	and not [w for w in d['warnings'] if w['id'] != 'identity-rule']"
expect 0 status --segment "$base"
has out dedup
expect 0 status --segment "$uid/$base"
FOUNDATION_SEGMENT=$base expect 0 status --json
json foundation.status/1 "d['segment'] == '$base'"
FOUNDATION_SEGMENT=$base-other expect 0 status --segment "$base"
expect 0 agents --segment "$base" --json
json foundation.agents/1 "d['agents'] == []"
expect 0 agents --segment "$base" --all
expect 0 ls --json
json foundation.ls/1 "
	[s['state'] for s in d['segments'] if s['name'] == '$base'] == ['fine']"
expect 0 ls
has out "$base"
expect 0 reap --segment "$base" --json
json foundation.reap/1 "d['processes'] == 0 and d['names'] == 0"
expect 0 destroy "$base"
[ ! -e "$(path "$base")" ] || say "destroyed, and still there"
expect 0 create "$base" --fenced
expect 0 status --segment "$base" --json
json foundation.status/1 "d['fenced']"
expect 0 destroy "$uid/$base"

# Tables that do not fit leave nothing.
expect 3 create "$base" --agents 1M --max-bytes 24M
[ ! -e "$(path "$base")" ] || say "a create that failed left a segment"

# --- what is not a sound segment --------------------------------------------------------------------

# refused STATUS WORD: by everything that looks, and nothing of it changes
refused() {
	local name=$base command
	for command in status verify agents; do
		expect "$1" $command --segment "$name"
		has err "$2"
	done
	expect 0 ls --json
	json foundation.ls/1 "all(s['error'] != 0 for s in d['segments'] if s['name'] == '$name')"
	expect "$1" destroy "$name"
	[ -e "$(path "$name")" ] || [ -L "$(path "$name")" ] || say "refused, and gone: $2"
	expect 3 create "$name"
	[ -e "$(path "$name")" ] || [ -L "$(path "$name")" ] || say "refused, and gone: $2"
	rm -rf "$(path "$name")"
}

ln -s /etc/passwd "$(path "$base")"
refused 3 "symbolic link"
ln -s "/dev/shm/foundation.$uid.$base-nowhere" "$(path "$base")"
refused 3 "symbolic link"
mkfifo "$(path "$base")"
refused 3 FIFO
mkdir "$(path "$base")"
refused 3 directory
: >"$(path "$base")"
refused 3 magic
head -c 100000 /dev/urandom >"$(path "$base")"
refused 3 magic
printf 'FOUNSEG\n' >"$(path "$base")"
refused 4 bytes
if [ "$uid" = 0 ]; then
	head -c 8192 /dev/zero >"$(path "$base")"
	chown 65534 "$(path "$base")"
	refused 3 owner
fi

expect 0 create "$base-good" --capacity 100
good=$(path "$base-good")
bad() {
	cp "$good" "$(path "$base")"
	chmod 600 "$(path "$base")"
}
bad && chmod 666 "$(path "$base")"
refused 3 0666
bad && poke "$(path "$base")" 8 '\0'
refused 3 layout_major
bad && poke "$(path "$base")" 8 '\2'
refused 3 layout_major
bad && poke "$(path "$base")" 51 '\200'
refused 3 feature_incompat
bad && poke "$(path "$base")" 16 '\1\2\3\4\5\6\7\10'
refused 3 layout_hash
bad && poke "$(path "$base")" 24 '\1\2\3\4'
refused 3 endian
bad && poke "$(path "$base")" 36 '\0\0\1\0'
refused 3 header_bytes
bad && poke "$(path "$base")" 32 '\200'
refused 3 line_bytes
bad && poke "$(path "$base")" 28 '\1'
refused 3 page_bytes
bad && poke "$(path "$base")" 100 '\77'
refused 4 checksum
bad && truncate -s 8192 "$(path "$base")"
refused 4 truncated
bad && truncate -s 4095 "$(path "$base")"
refused 4 header

# Force removes what is ours though damaged, and never what is not ours.
bad && poke "$(path "$base")" 100 '\77'
expect 0 destroy "$base" --force
[ ! -e "$(path "$base")" ] || say "forced, and still there"
ln -s /etc/passwd "$(path "$base")"
expect 3 destroy "$base" --force
[ -L "$(path "$base")" ] || say "a symbolic link was removed"
rm -f "$(path "$base")"

# Damage behind the header: what is sound is shown, the place is named, the exit status is 4.
bad
table=$(python3 -c "
import struct, sys
print(struct.unpack_from('<Q', open(sys.argv[1], 'rb').read(4096), 152)[0])" "$(path "$base")")
poke "$(path "$base")" $((table + 8)) 'X'
expect 4 status --segment "$base" --json
has err table
json foundation.status/1 "
	len(d['tables']) == 3 and [w for w in d['warnings'] if w['id'] == 'damaged']"
expect 4 agents --segment "$base"

# Every defect of a copy is named with its place and what to do.
expect 4 verify --segment "$base" --json
json foundation.verify/1 "
	d['sound'] is False and d['defects_total'] == len(d['defects']) >= 1
	and all(e['where'] and e['what'] and e['remedy'] for e in d['defects'])
	and $table in [e['offset'] for e in d['defects']]"
bad
expect 0 verify --segment "$base" --json
json foundation.verify/1 "d['sound'] is True and d['tables'] == 4 and not d['defects'] and d['shards'] >= 2"
expect 0 verify --segment "$base"
has out sound
word() { # file, offset: the 8 bytes there as a number
	python3 -c "
import struct, sys
print(struct.unpack_from('<Q', open(sys.argv[1], 'rb').read(), int(sys.argv[2]))[0])" "$1" "$2"
}
span=$(word "$(path "$base")" 160)
# damage OFFSET BYTES WHERE: exactly the place is named
damage() {
	bad && poke "$(path "$base")" "$1" "$2"
	expect 4 verify --segment "$base"
	has out "$3"
	has out "offset"
	has err damaged
}
damage 1024 '\1' "header"
damage 320 '\377' "safe is"
damage 392 '\1\2\3\4' "lock word"
damage $(($(word "$good" 112) + 130)) '\7' "process slot 1"
damage $(($(word "$good" 120) + 2)) '\7' "thread slot 0"
damage "$span" 'X' "no span header"
damage $((span + 64)) '\4' "shard 0"
damage $((table + 100)) '\1' "unused bytes"
rm -f "$(path "$base")"
expect 0 destroy "$base-good"

# Another user: no permission, and a plain NAME is that user's own.
if [ "$uid" = 0 ] && setpriv --reuid=65534 --clear-groups "$foundation" --version >/dev/null 2>&1; then
	expect 0 create "$base" --capacity 100
	for command in "status --segment" "agents --segment" "reap --segment" destroy; do
		# shellcheck disable=SC2086 # a command and its option
		setpriv --reuid=65534 --clear-groups "$foundation" $command "0/$base" >/dev/null 2>"$tmp/err"
		got=$?
		[ $got = 6 ] || say "$command as another user: exit $got"
		has err "$(path "$base")"
	done
	setpriv --reuid=65534 --clear-groups "$foundation" status --segment "$base" >/dev/null 2>"$tmp/err"
	got=$?
	[ $got = 3 ] || say "another user's plain name: exit $got"
	has err "foundation.65534.$base"
	expect 0 destroy "$base"
fi

# --- beside live participants -----------------------------------------------------------------------

if [ -x "$FOUNDATION_BIN/logmill" ]; then
	for i in {1..40}; do
		echo "Dec 10 06:55:46 host prog[$i]: message $i of one kind"
	done >"$tmp/log"
	"$FOUNDATION_BIN/logmill" --workers 2 --segment "$base" --window forever --hold --json \
		"$tmp/log" >"$tmp/summary" 2>"$tmp/logmill.err" &
	logmill_pid=$!
	for _ in {1..200}; do
		[ -s "$tmp/summary" ] && break
		sleep 0.1
	done
	expect 0 agents --segment "$base" --json
	json foundation.agents/1 "
		sorted(a['name'] for a in d['agents'] if a['name'].startswith('host/'))
		== sorted('host/prog[%d]' % i for i in range(1, 41))
		and all(a['alive'] for a in d['agents'])
		and all(a['pid'] == $logmill_pid for a in d['agents'] if a['name'].startswith('host/'))
		and all(isinstance(a['metadata'], dict) for a in d['agents'])"
	expect 0 agents --segment "$base"
	has out 'host/prog[40]'
	expect 0 status --segment "$base" --json
	json foundation.status/1 "
		$logmill_pid in [p['pid'] for p in d['participants'] if p['alive']]
		and d['counters']['suppressed'] + d['counters']['emitted'] == 40"
	expect 0 verify --segment "$base" --json
	json foundation.verify/1 "d['sound'] and d['records'] >= 41"
	expect 3 destroy "$base"
	has err "$logmill_pid"
	[ -e "$(path "$base")" ] || say "destroyed under a live participant"

	# From another pid namespace nobody can be called dead, and nothing can be broken.
	if unshare --pid --fork --mount-proc "$foundation" --version >/dev/null 2>&1; then
		unshare --pid --fork --mount-proc "$foundation" status --segment "$base" --json \
			>"$tmp/out" 2>"$tmp/err" || say "status from another pid namespace"
		json foundation.status/1 "
			not d['same_pid_namespace'] and d['same_boot'] and d['participants_dead'] == 0
			and d['participants_unknown'] >= 1
			and all(p['alive'] is None for p in d['participants'])
			and [w for w in d['warnings'] if w['id'] == 'pid-namespace']"
		unshare --pid --fork --mount-proc "$foundation" agents --segment "$base" --json \
			>"$tmp/out" 2>"$tmp/err" || say "agents from another pid namespace"
		json foundation.agents/1 "
			len(d['agents']) >= 40 and all(a['alive'] is None for a in d['agents'])"
	fi

	# Killed: nobody has reaped it yet, and it is seen to be dead all the same.
	kill -9 "$logmill_pid"
	wait "$logmill_pid" 2>/dev/null
	logmill_pid=
	expect 0 status --segment "$base" --json
	json foundation.status/1 "
		d['participants_dead'] >= 1
		and [w for w in d['warnings'] if w['id'] == 'dead-participants']"
	expect 0 agents --segment "$base" --json
	json foundation.agents/1 "d['agents'] == [] and d['dead'] >= 40"
	expect 0 verify --segment "$base"
	expect 0 agents --segment "$base" --all --json
	json foundation.agents/1 "
		len(d['agents']) >= 40 and not any(a['alive'] for a in d['agents'])"
	expect 0 reap --segment "$base" --json
	json foundation.reap/1 "d['processes'] >= 1 and d['names'] >= 40"
	expect 0 agents --segment "$base" --all --json
	json foundation.agents/1 "d['agents'] == []"
	expect 0 destroy "$base"
fi

# --- past its capacity ------------------------------------------------------------------------------

if [ -x "$FOUNDATION_BIN/logmill" ]; then
	for word in {a..f}{a..f}{a..f}; do
		echo "Dec 10 06:55:46 host $word: say $word"
	done >"$tmp/log"
	expect 0 create "$base" --agents 10 --dedup 10
	"$FOUNDATION_BIN/logmill" --workers 2 --segment "$base" --window forever --json "$tmp/log" \
		>/dev/null 2>"$tmp/err" || say "logmill: $(head -n 3 "$tmp/err")"
	expect 0 status --segment "$base" --json
	json foundation.status/1 "
		{'at-capacity', 'table-full', 'overflowed'} <= {w['id'] for w in d['warnings']}
		and d['counters']['overflowed'] == 216 - 10"
	expect 0 status --segment "$base"
	has out "warning: table dedup"
	expect 0 destroy "$base"
fi

exit $failed
