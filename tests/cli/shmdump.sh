#!/bin/bash
# SPDX-License-Identifier: MIT
# shmdump on real segments: there and back, through pipes, refused, out of space, not durable.
set -u
shmdump=$FOUNDATION_BIN/shmdump
fill=$FOUNDATION_BUILD/tests/shmdump_fill
export LC_ALL=C ASAN_OPTIONS=verify_asan_link_order=0
unset FOUNDATION_SEGMENT

uid=$(id -u)
seg=t-shmdump-$$
tmp=$(mktemp -d)
export FOUNDATION_STATE_DIR=$tmp/state
failed=0
made=()

# shellcheck disable=SC2317 # reached by the trap
cleanup() {
	local name
	for name in "${made[@]}"; do
		rm -f "/dev/shm/foundation.$uid.$name"
	done
	rm -rf "$tmp"
}
trap cleanup EXIT

say() {
	echo "FAILED: $*"
	failed=1
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
	grep -qF -- "$2" "$1" || {
		say "no '$2' in: $(head -c 400 "$1")"
	}
}

absent() {
	[ ! -e "/dev/shm/foundation.$uid.$1" ] || say "segment $1 exists"
}

a=$tmp/a.snap
made+=("$seg" "$seg.live" "$seg.all" "$seg.pipe" "$seg.no" "$seg.big" "$seg.killed")
"$fill" "$seg" make 2000 || exit 1

# --- there
expect 0 "$shmdump" backup --segment "$seg" "$a"
has "$tmp/out" '2200 records of 3 tables'
[ "$(stat -c %a "$a")" = 600 ] || say "mode of the backup"
expect 0 "$shmdump" verify "$a"
has "$tmp/out" 'sound: 2200 records of 3 tables'
expect 0 "$shmdump" info "$a"
has "$tmp/out" 'no change was noticed'
expect 0 "$shmdump" info --json "$a"
has "$tmp/out" '"schema": "foundation.shmdump-info/1"'
has "$tmp/out" "\"segment\": \"$uid/$seg\""
has "$tmp/out" '"writes_seen": false'
FOUNDATION_SEGMENT=$seg expect 0 "$shmdump" backup --json "$tmp/env.snap"
has "$tmp/out" '"records": 2200'
expect 0 "$shmdump" diff "$a" "$tmp/env.snap"
has "$tmp/out" 'the same: 2200 records of 3 tables'

# --- what is in it
expect 0 "$shmdump" cat "$a"
cp "$tmp/out" "$tmp/a.json"
[ "$(wc -l <"$tmp/a.json")" -eq 2200 ] || say "lines of cat"
head -n 1 "$tmp/a.json" | grep -qE \
	'^\{"table":"owned","key":"agent/0","value":"state of 0","owner":\{"pid":[0-9]+,"slot":[0-9]+,"generation":[0-9]+\}\}$' ||
	say "first line: $(head -n 1 "$tmp/a.json")"
has "$tmp/a.json" '{"table":"words","key":"word-00000","value":"oka","owner":null}'
has "$tmp/a.json" '{"table":"words","key":"word-00001","value":{"base64":"/wBhgQ=="},"owner":null}'
sed -nE 's/^\{"table":"([^"]*)","key":"([^"]*)".*/\1 \2/p' "$tmp/a.json" >"$tmp/keys"
sort -c "$tmp/keys" || say "cat is not sorted"
[ "$(wc -l <"$tmp/keys")" -eq 2200 ] || say "keys of cat"

# --- and back
expect 0 "$shmdump" restore --segment "$seg.live" "$a"
has "$tmp/out" '2000 records of 3 tables restored'
has "$tmp/out" '200 dropped'
expect 0 "$shmdump" backup --segment "$seg.live" "$tmp/live.snap"
expect 1 "$shmdump" diff "$a" "$tmp/live.snap"
has "$tmp/out" '200 only in '
has "$tmp/out" 'only in '"$a"': owned "agent/0"'
expect 0 "$shmdump" restore --segment "$seg.all" --owners all --json "$a"
has "$tmp/out" '"orphans": 200'
has "$tmp/out" '"dropped": 0'
expect 0 "$shmdump" backup --segment "$seg.all" "$tmp/all.snap"
expect 0 "$shmdump" diff "$a" "$tmp/all.snap"
has "$tmp/out" '200 have another owner'
expect 0 "$shmdump" cat "$tmp/all.snap"
grep -qE '"key":"agent/0".*"owner":\{"pid":[1-9][0-9]*,"slot":0,"generation":0\}' "$tmp/out" ||
	say "an orphan: $(grep -F '"agent/0"' "$tmp/out")"
[ "$(sed 's/,"owner":.*//' "$tmp/out" | cksum)" = "$(sed 's/,"owner":.*//' "$tmp/a.json" | cksum)" ] ||
	say "a restored segment holds something else"
expect 1 "$shmdump" diff --json "$a" "$tmp/live.snap"
has "$tmp/out" '"same": false'

# --- through pipes
"$shmdump" backup --segment "$seg" - 2>"$tmp/err" | "$shmdump" verify - >"$tmp/out" || say "verify of a pipe"
has "$tmp/out" '2200 records'
has "$tmp/err" '2200 records'
"$shmdump" backup --segment "$seg" - 2>"$tmp/err" |
	"$shmdump" restore --segment "$seg.pipe" --owners all - >"$tmp/out" || say "restore from a pipe"
"$shmdump" backup --segment "$seg.pipe" - 2>"$tmp/err" | "$shmdump" diff "$a" - >"$tmp/out" ||
	say "diff with a pipe"
set -o pipefail
"$shmdump" backup --segment "$seg" - 2>"$tmp/err" | true
case $? in 0 | 3) ;; *) say "a broken pipe: $?" ;; esac
set +o pipefail

# --- refused, with everything as it was
before=$("$shmdump" backup --segment "$seg.live" - 2>"$tmp/err" | "$shmdump" cat - | cksum)
expect 3 "$shmdump" restore --segment "$seg.live" --owners all "$a"
has "$tmp/err" 'exists'
after=$("$shmdump" backup --segment "$seg.live" - 2>"$tmp/err" | "$shmdump" cat - | cksum)
[ "$before" = "$after" ] || say "a refused restore changed the segment"
size=$(stat -c %s "$a")
for at in 0 9 100 252 300 5000 $((size / 2)) $((size - 80)) $((size - 1)); do
	cp "$a" "$tmp/bad.snap"
	byte=$(od -An -tu1 -j "$at" -N 1 "$a")
	printf "%b" "\\0$(printf %o $((byte ^ 64)))" |
		dd of="$tmp/bad.snap" bs=1 seek="$at" conv=notrunc status=none
	expect 4 "$shmdump" restore --segment "$seg.no" "$tmp/bad.snap"
	grep -qE 'offset|header' "$tmp/err" || say "no place: $(cat "$tmp/err")"
	expect 4 "$shmdump" verify "$tmp/bad.snap"
	expect 4 "$shmdump" verify --json "$tmp/bad.snap"
	has "$tmp/out" '"sound": false'
	expect 4 "$shmdump" cat "$tmp/bad.snap"
	[ ! -s "$tmp/out" ] || say "cat printed records of a damaged file"
done
for length in 0 1 15 255 256 1000 $((size / 3)) $((size - 1)); do
	head -c "$length" "$a" >"$tmp/bad.snap"
	expect 4 "$shmdump" restore --segment "$seg.no" "$tmp/bad.snap"
	expect 4 "$shmdump" info - <"$tmp/bad.snap"
done
{ cat "$a" && printf x; } >"$tmp/bad.snap"
expect 4 "$shmdump" verify "$tmp/bad.snap"
expect 4 "$shmdump" diff "$a" "$tmp/bad.snap"
expect 4 "$shmdump" restore --segment "$seg.no" /etc/passwd
expect 4 "$shmdump" restore --segment "$seg.no" /dev/zero
head -c 3000 "$a" | expect 4 "$shmdump" restore --segment "$seg.no" -
printf '' | expect 4 "$shmdump" restore --segment "$seg.no" -
absent "$seg.no"

expect 2 "$shmdump"
expect 2 "$shmdump" frobnicate "$a"
expect 2 "$shmdump" backup "$tmp/x"
expect 2 "$shmdump" backup --segment "$seg"
expect 2 "$shmdump" diff "$a"
expect 2 "$shmdump" verify "$a" "$a"
expect 2 "$shmdump" verify --owners all "$a"
expect 2 "$shmdump" verify --segment "$seg" "$a"
expect 2 "$shmdump" restore --segment "$seg.no" --owners some "$a"
expect 2 "$shmdump" restore --segment 'Not A Name' "$a"
expect 3 "$shmdump" backup --segment "$seg.no" "$tmp/x"
expect 3 "$shmdump" verify "$tmp/nowhere"
expect 3 "$shmdump" backup --segment "$seg" "$tmp/no/where"
expect 3 "$shmdump" backup --segment "$seg" "$tmp"
mkfifo "$tmp/fifo"
expect 3 "$shmdump" backup --segment "$seg" "$tmp/fifo"
expect 3 "$shmdump" backup --segment "$seg" /dev/null
[ -c /dev/null ] || say "/dev/null is gone"
[ ! -e "$tmp/x" ] || say "a refused backup left a file"
expect 0 "$shmdump" --help
expect 0 "$shmdump" --version

# --- replaced as a whole; a link stays a link
cp "$tmp/live.snap" "$tmp/old.snap"
ln -s old.snap "$tmp/link.snap"
expect 0 "$shmdump" backup --segment "$seg" "$tmp/link.snap"
[ -L "$tmp/link.snap" ] || say "the link was replaced"
expect 0 "$shmdump" diff "$a" "$tmp/old.snap"

# --- under writes
"$fill" "$seg" churn 2 &
writer=$!
seen=0
while kill -0 "$writer" 2>"$tmp/err"; do
	# The writer may have slept through one backup, hardly through all.
	expect 0 "$shmdump" backup --segment "$seg" "$tmp/busy.snap"
	expect 0 "$shmdump" info --json "$tmp/busy.snap"
	grep -qF '"writes_seen": true' "$tmp/out" && seen=$((seen + 1))
done
[ $seen -gt 0 ] || say "no backup noticed the writer"
wait "$writer" || say "the writer failed"

# --- a sync that fails
if cc -shared -fPIC -o "$tmp/fsync.so" "$FOUNDATION_SOURCE/tests/cli/shmdump_fsync.c"; then
	cp "$a" "$tmp/sync.snap"
	sum=$(cksum <"$tmp/sync.snap")
	expect 3 env LD_PRELOAD="$tmp/fsync.so" FAIL_FSYNC=1 "$shmdump" backup --segment "$seg" "$tmp/sync.snap"
	[ "$sum" = "$(cksum <"$tmp/sync.snap")" ] || say "a failed sync replaced the old backup"
	expect 3 env LD_PRELOAD="$tmp/fsync.so" FAIL_FSYNC=1 "$shmdump" backup --segment "$seg" "$tmp/new.snap"
	[ ! -e "$tmp/new.snap" ] || say "a failed sync left a file"
	expect 7 env LD_PRELOAD="$tmp/fsync.so" FAIL_FSYNC=2 "$shmdump" backup --segment "$seg" "$tmp/sync.snap"
	expect 0 "$shmdump" verify "$tmp/sync.snap"
fi
[ -z "$(find "$tmp" -name '.shmdump-*')" ] || say "temporary files are left"

# --- killed at any moment: the old file or the new one, the whole segment or none
"$fill" "$seg.big" make 4000 || say "a larger segment"
cp "$a" "$tmp/kill.snap"
for i in $(seq 1 30); do
	"$shmdump" backup --segment "$seg.big" "$tmp/kill.snap" >"$tmp/out" 2>&1 &
	child=$!
	sleep "0.00$((i % 10))$((i % 7))"
	kill -9 "$child" 2>"$tmp/err"
	wait "$child" 2>"$tmp/err"
	"$shmdump" verify "$tmp/kill.snap" >"$tmp/out" || say "round $i: $(cat "$tmp/out")"
	"$shmdump" restore --segment "$seg.killed" --owners all "$tmp/kill.snap" >"$tmp/out" 2>&1 &
	child=$!
	sleep "0.0$((i % 3))$((i % 9))"
	kill -9 "$child" 2>"$tmp/err"
	wait "$child" 2>"$tmp/err"
	if [ -e "/dev/shm/foundation.$uid.$seg.killed" ]; then
		"$shmdump" backup --segment "$seg.killed" - 2>"$tmp/err" |
			"$shmdump" diff "$tmp/kill.snap" - >"$tmp/out" || say "round $i: half a segment"
		rm "/dev/shm/foundation.$uid.$seg.killed"
		whole=$((${whole:-0} + 1))
	fi
done
echo "killed restores: ${whole:-0} of 30 were whole, the others nothing"
# Between naming the finished file and renaming it over the old one a kill leaves it: then it is whole.
find "$tmp" -name '.shmdump-*' >"$tmp/left"
while read -r file; do
	"$shmdump" verify "$file" >"$tmp/out" || say "a killed backup left half a file: $(cat "$tmp/out")"
	rm "$file"
done <"$tmp/left"

# --- a full disk, a full /dev/shm: small file systems that only this test sees
cat >"$tmp/full.sh" <<'END'
set -u
mkdir "$tmp/disk" && mount -t tmpfs -o size=128k tmpfs "$tmp/disk" || exit 77
"$shmdump" backup --segment "$seg" "$tmp/disk/new.snap" 2>"$tmp/full.err"
[ $? -eq 3 ] || { echo "a full disk: $(cat "$tmp/full.err")"; exit 1; }
[ -z "$(ls -A "$tmp/disk")" ] || { echo "a full disk: left $(ls -A "$tmp/disk")"; exit 1; }
head -c 100000 "$a" >"$tmp/disk/old.snap"
sum=$(cksum <"$tmp/disk/old.snap")
"$shmdump" backup --segment "$seg" "$tmp/disk/old.snap" 2>>"$tmp/full.err"
[ $? -eq 3 ] || { echo "a full disk with an old file"; exit 1; }
[ "$sum" = "$(cksum <"$tmp/disk/old.snap")" ] && [ "$(ls -A "$tmp/disk")" = old.snap ] ||
	{ echo "a full disk harmed the old file"; exit 1; }
mount -t tmpfs -o size=1m tmpfs /dev/shm || exit 77
"$shmdump" restore --segment "$seg.no" "$a" 2>>"$tmp/full.err"
[ $? -eq 3 ] || { echo "a full /dev/shm: $(cat "$tmp/full.err")"; exit 1; }
[ -z "$(ls -A /dev/shm)" ] || { echo "a full /dev/shm: left $(ls -A /dev/shm)"; exit 1; }
[ "$(df --output=used /dev/shm | tail -n 1)" -eq 0 ] || { echo "a full /dev/shm: not given back"; exit 1; }
END
if [ "$uid" -eq 0 ] && unshare -m true 2>"$tmp/err"; then
	export shmdump seg tmp a
	unshare -m --propagation private bash "$tmp/full.sh"
	case $? in
	0) ;;
	77) echo "no small file system: that part is skipped" ;;
	*) say "out of space" ;;
	esac
else
	echo "not root: out of space is skipped"
fi

[ $failed -eq 0 ] && echo "all held"
exit $failed
