#!/bin/bash
# SPDX-License-Identifier: MIT
# foundation rollback when things are bad: tables destroyed, disk full, the journal elsewhere.
set -u
bin=${FOUNDATION_BIN:?}
work=$(mktemp -d)
export FOUNDATION_STATE_DIR=$work/state FOUNDATION_SEGMENT=rollback-$$
file=/dev/shm/foundation.$(id -u).$FOUNDATION_SEGMENT
fnd() { "$bin/foundation" "$@"; }
# shellcheck disable=SC2317 # reached by the trap
clean_up() {
	fnd destroy --force --purge "$FOUNDATION_SEGMENT" 2>/dev/null
	rm -rf "$work"
}
trap clean_up EXIT
trap 'exit 1' INT TERM

status=0
expect() { # exit status, text that must be there or '', command…
	local want=$1 text=$2 out got
	shift 2
	out=$("$@" 2>&1)
	got=$?
	if [ $got -ne "$want" ] || [[ $out != *"$text"* ]]; then
		printf '%s: exit %d, %d expected, with "%s":\n%s\n' "$*" $got "$want" "$text" "$out"
		status=1
	fi
}
all_off() {
	local got
	got=$(fnd flags --json | jq -r '.stage, ([.flags[].percent] | add)')
	[ "$got" = $'0\n0' ] || { echo "$1: stage and sum are $got"; status=1; }
}

# The journal is elsewhere: done, and said where.
expect 0 '' fnd create "$FOUNDATION_SEGMENT"
expect 0 '' fnd flags stage 5
expect 7 "$work/state" env FOUNDATION_STATE_DIR="$work/other" "$bin/foundation" rollback --emergency
[ ! -e "$work/other/$FOUNDATION_SEGMENT/journal" ] || { echo 'a journal that no restart reads'; status=1; }
all_off 'the journal elsewhere' # and what was missing is written now
expect 0 'changed_at' fnd journal --type rollback
expect 0 '' fnd destroy "$FOUNDATION_SEGMENT"
expect 0 '' fnd create "$FOUNDATION_SEGMENT"
all_off 'made anew'

# The disk of the journal is full.
expect 0 '' fnd flags stage 5
full() {
	unshare --mount true 2>/dev/null || return 77 # no mount namespaces here
	unshare --mount bash -c "
		mount -t tmpfs -o size=8k none '$work/state' || exit 77
		mkdir '$work/state/$FOUNDATION_SEGMENT'
		head -c 8192 /dev/zero >'$work/state/ballast' 2>/dev/null
		'$bin/foundation' rollback --emergency"
}
out=$(full 2>&1)
got=$?
if [ $got -ne 7 ] && [ $got -ne 77 ] && [ "$(id -u)" -eq 0 ]; then
	echo "disk full: exit $got: $out"
	status=1
fi
[ $got -ne 7 ] || all_off 'disk full'

# Every table destroyed: all bytes behind the header.
expect 0 '' fnd flags stage 5
bytes=$(stat -c %s "$file")
head -c $((bytes - 4096)) /dev/urandom | dd of="$file" bs=4096 seek=1 conv=notrunc status=none
expect 0 'stage 0' fnd rollback --emergency --reason 'nothing else works'
expect 0 'stage 0' fnd rollback --emergency
expect 3 '' fnd rollback --emergency --segment no-such-segment
expect 0 'nothing else works' fnd journal --type rollback
expect 0 '' fnd destroy --force "$FOUNDATION_SEGMENT"
expect 0 '' fnd create "$FOUNDATION_SEGMENT"
all_off 'after the tables were destroyed'
exit $status
