#!/bin/bash
# SPDX-License-Identifier: MIT
# foundation config, as an operator uses it.
set -u
bin=${FOUNDATION_BIN:?}
work=$(mktemp -d)
export FOUNDATION_STATE_DIR=$work/state FOUNDATION_SEGMENT=config-$$ LC_ALL=C
fnd() { "$bin/foundation" "$@"; }
# shellcheck disable=SC2317 # the trap calls it
clean_up() {
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
holds() { # expression of jq, command…
	local what=$1 out
	shift
	out=$("$@")
	jq -e "$what" <<<"$out" >/dev/null || say "$*: not $what: $out"
}

expect 3 '' fnd config
expect 0 '' fnd create "$FOUNDATION_SEGMENT"
expect 2 'please' fnd config set journal.keep
expect 2 'please' fnd config list something
expect 2 'please' fnd config show
expect 2 'too many' fnd config set a b c

expect 0 'journal.max_bytes' fnd config
expect 0 '16M' fnd config get journal.max_bytes
expect 0 '5ms' fnd config get warn.lookup_p99
expect 0 '4h' fnd config get stage.1.watch
expect 0 '20%' fnd config get alert.error_rate
expect 0 'warn' fnd config get watch.breach
holds '.schema == "foundation.config/1" and (.settings | length > 20) and all(.settings[]; .set == false and .value == .default)' \
	fnd config list --json
holds 'all(.settings[]; .min == null or (.min <= .value and .value <= .max))' fnd config list --json

expect 0 '' fnd config set warn.lookup_p99 2ms --reason 'tighter' --approved-by ops
expect 0 '2ms' fnd config get warn.lookup_p99
holds '.schema == "foundation.setting/1" and .value == 2000000 and .set and .unit == "ns"' \
	fnd config get warn.lookup_p99 --json
holds '.value == "+49 30 1" and .set' fnd config set contact.on_call '+49 30 1' --json
expect 0 '+49 30 1' fnd config get contact.on_call
holds '.type == "config.set" and .key == "warn.lookup_p99" and .before == "5000000" and .after == "2000000"
	and .reason == "tighter" and .approved_by == "ops" and .command and .config["warn.lookup_p99"] == "2000000"' \
	sh -c "'$bin/foundation' journal --json --type config | head -n 1"

# what `get` prints can be given to `set` again
while read -r name _; do
	[[ $name == contact.* ]] && continue
	expect 0 '' fnd config set "$name" "$(fnd config get "$name")"
done < <(fnd config list)
expect 0 '2ms' fnd config get warn.lookup_p99

expect 1 'no setting' fnd config get nothing
expect 1 'journal.keep' fnd config set journal.kept 5
expect 1 'no setting' fnd config unset nothing
expect 2 '1000 to 60000000000' fnd config set warn.lookup_p99 61s
expect 2 'off|warn|rollback' fnd config set watch.breach maybe
expect 2 'unit' fnd config set journal.max_bytes 1T
expect 2 'control' fnd config set contact.lead $'a\033[2J'
expect 0 '2ms' fnd config get warn.lookup_p99

# a new segment remembers; unset goes back, also in the one after
expect 0 '' fnd destroy "$FOUNDATION_SEGMENT"
expect 0 '' fnd create "$FOUNDATION_SEGMENT"
expect 0 '2ms' fnd config get warn.lookup_p99
expect 0 '+49 30 1' fnd config get contact.on_call
expect 0 '' fnd config unset warn.lookup_p99
expect 0 '5ms' fnd config get warn.lookup_p99
expect 0 '' fnd destroy "$FOUNDATION_SEGMENT"
expect 0 '' fnd create "$FOUNDATION_SEGMENT"
expect 0 '5ms' fnd config get warn.lookup_p99

# no journal: done, and said that it is not durable
rm -rf "$FOUNDATION_STATE_DIR"
: >"$FOUNDATION_STATE_DIR"
expect 7 'not durable' fnd config set alert.error_rate 30%
expect 0 '30%' fnd config get alert.error_rate
rm "$FOUNDATION_STATE_DIR"
expect 0 '' fnd config set alert.participants 60%
exit $status
