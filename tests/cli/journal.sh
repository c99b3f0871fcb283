#!/bin/bash
# SPDX-License-Identifier: MIT
# foundation journal and destroy --purge: what is shown, torn and damaged files, following.
set -u
bin=${FOUNDATION_BIN:?}
work=$(mktemp -d)
export FOUNDATION_STATE_DIR=$work/state FOUNDATION_SEGMENT=journal-$$ LC_ALL=C
file=$FOUNDATION_STATE_DIR/$FOUNDATION_SEGMENT/journal
follower=
fnd() { "$bin/foundation" "$@"; }
# shellcheck disable=SC2317 # the trap calls it
clean_up() {
	[ -z "$follower" ] || kill "$follower" 2>/dev/null
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
lines() { fnd journal --json "$@" 2>/dev/null | wc -l; }

# none yet; none is made by looking
expect 0 '' fnd journal
[ -e "$FOUNDATION_STATE_DIR" ] && say "looking made $FOUNDATION_STATE_DIR"
expect 2 'FOUNDATION_SEGMENT' env -u FOUNDATION_SEGMENT "$bin/foundation" journal
expect 2 'not a date' fnd journal --since yesterday
expect 2 '' fnd journal --segment '../x'

expect 0 '' fnd create "$FOUNDATION_SEGMENT"
expect 0 '' fnd flags enable shared_spans --reason 'a "quoted" reason'
expect 0 '' fnd flags disable shared_spans
expect 0 '' fnd config set journal.keep 5
before=$(lines)
[ "$(lines --type flag)" -ge 2 ] || say "two changes of a flag: $(lines --type flag)"
[ "$(lines --type config)" = 1 ] || say "one change of a setting"
[ "$(lines --type fla)" = 0 ] || say "part of a word is no type"
[ "$(lines --since 2000-01-01)" = "$before" ] || say "--since long ago shows all"
[ "$(lines --since 2999-01-01T00:00:00)" = 0 ] || say "--since a far day shows none"
fnd journal --json | jq -e -s 'map(.n) == [range(1; length + 1)] and all(.at > 0 and .boot and .type and .pid)' \
	>"$work/out" || say "records with numbers: $(cat "$work/out")"
fnd journal --json --type flag | jq -e -s 'any(.reason == "a \"quoted\" reason")' >/dev/null || say "the reason"
expect 0 'quoted' fnd journal
expect 0 "$before" bash -c "'$bin/foundation' journal --segment '$(id -u)/$FOUNDATION_SEGMENT' --json | wc -l"

# a torn tail: not shown, cut and reported by the next change
printf '00000000 {"n":99,"ty' >>"$file"
expect 0 '' fnd journal
[ "$(lines)" = "$before" ] || say "a torn tail is no record"
expect 0 '' fnd config set journal.keep 6
expect 0 'journal.cut' fnd journal --type journal.cut
[ "$(lines)" = $((before + 2)) ] || say "the cut and the change: $(lines) after $before"

# --follow: what is appended meanwhile, once each
touch "$work/followed"
# not by the function: a kill must reach the command, and not a shell around it
"$bin/foundation" journal --follow --json --type config >"$work/followed" &
follower=$!
for _ in $(seq 100); do
	[ "$(wc -l <"$work/followed")" -ge 2 ] && break
	sleep 0.1
done
expect 0 '' fnd config set journal.keep 7
for _ in $(seq 100); do
	[ "$(wc -l <"$work/followed")" -ge 3 ] && break
	sleep 0.1
done
kill "$follower"
wait "$follower" 2>/dev/null
[ -d "/proc/$follower" ] && say "the follower lives on"
follower=
[ "$(jq -r .after "$work/followed" | tr '\n' ' ')" = '5 6 7 ' ] || say "followed: $(cat "$work/followed")"

# a damaged line: passed over, said, exit 1; what is behind it is shown
whole=$(lines)
printf 'X' | dd of="$file" bs=1 seek=20 conv=notrunc status=none
expect 1 'wrong checksum' fnd journal
[ "$(lines)" = $((whole - 1)) ] || say "one line less: $(lines) of $whole"

# destroy keeps it, a new segment takes from it, --purge removes it
expect 0 '' fnd flags enable shared_spans
expect 0 '' fnd destroy "$FOUNDATION_SEGMENT"
[ -s "$file" ] || say "destroy removed the journal"
expect 0 '' fnd create "$FOUNDATION_SEGMENT"
expect 0 'on' fnd flags get shared_spans
expect 0 '7' fnd config get journal.keep
expect 0 '' fnd destroy --purge "$FOUNDATION_SEGMENT"
[ -e "$FOUNDATION_STATE_DIR/$FOUNDATION_SEGMENT" ] && say "--purge left something"
expect 0 '' fnd destroy --purge "$FOUNDATION_SEGMENT" # the journal may be all that is left; or nothing
expect 0 '' fnd create "$FOUNDATION_SEGMENT"
expect 0 '4' fnd config get journal.keep
exit $status
