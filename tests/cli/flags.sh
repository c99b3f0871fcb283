#!/bin/bash
# SPDX-License-Identifier: MIT
# foundation flags, rollback and journal, as an operator uses them.
set -u
bin=${FOUNDATION_BIN:?}
work=$(mktemp -d)
export FOUNDATION_STATE_DIR=$work/state FOUNDATION_SEGMENT=flags-$$
fnd() { "$bin/foundation" "$@"; }
# shellcheck disable=SC2317 # the trap calls it
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
json() { # filter, value, command…
	local filter=$1 want=$2 got
	shift 2
	got=$("$@" | jq -r "$filter")
	[ "$got" = "$want" ] || {
		printf '%s: %s is "%s", not "%s"\n' "$*" "$filter" "$got" "$want"
		status=1
	}
}

expect 0 '' fnd create "$FOUNDATION_SEGMENT"
json '.schema, .stage, .generation, (.flags | length)' $'foundation.flags/1\n0\n1\n7' fnd flags list --json
json '[.flags[].percent] | add' 0 fnd flags --json

# the runbook's names, each way to change a flag, and what is refused
expect 0 '' fnd flags enable enable_migration_monitoring --reason 'day 1'
expect 0 on fnd flags get migration_monitoring
expect 0 '' fnd flags set use_ets_agent_registry on
expect 0 '' fnd flags percent shared_spans 25
expect 0 '' fnd flags set shared_telemetry 40%
json '.value, .variant, .reason, .percent' $'true\non\nSTATIC\n100' fnd flags get shared_registry --json
json '.reason, .percent' $'SPLIT\n25' fnd flags get shared_spans --identity bob --json
expect 2 '0 and 100 only' fnd flags set shared_registry 50%
expect 2 '' fnd flags set shared_spans 101%
expect 2 '' fnd flags percent shared_spans many
expect 2 '' fnd flags frobnicate
expect 1 'no flag is called' fnd flags get nope
expect 1 'no flag is called' fnd flags enable nope
expect 3 '' fnd flags --segment no-such-segment
expect 0 'deviates' fnd flags
expect 0 'day 1' fnd flags

# the application's own
expect 0 '' fnd flags define billing.v2 25% --description 'new billing'
expect 0 '' fnd flags define billing.v2 25%
expect 3 '' fnd flags define billing.v2 30%
expect 0 '' fnd flags set billing.v2 on
json '.flags[] | select(.name == "billing.v2") | .percent, .default, .changed.after' $'100\n25\n100' fnd flags --json

# stages, and back
expect 0 '' fnd flags stage 4a --reason 'go'
json '.stage, .deviates' $'4a\nfalse' fnd flags --json
expect 2 '' fnd flags stage 4
expect 0 'stage 3' fnd rollback --component spans
json '.stage, .flags.shared_spans, .flags.shared_registry, .durable' $'3\n0\n100\ntrue' \
	fnd rollback --component telemetry --json
expect 2 '' fnd rollback
expect 2 '' fnd rollback --emergency --component registry
expect 2 '' fnd rollback --component everything
json '.stage, ([.flags[]] | add)' $'0\n0' fnd rollback --emergency --reason fire --approved-by cto --json
json '.stage, ([.flags[]] | add)' $'0\n0' fnd rollback --emergency --json
expect 0 on fnd flags get billing.v2 # not a migration flag

# the journal has it all, and a segment made anew takes it from there
expect 0 fire fnd journal --type rollback
json '.approved_by // empty' cto fnd journal --type rollback --json
[ "$(fnd journal --json | wc -l)" -ge 10 ] || { echo 'the journal is short'; status=1; }
expect 0 '' fnd journal --since 2099-01-01
expect 2 '' fnd journal --since yesterday
expect 0 '' fnd flags stage 2
expect 0 '' fnd destroy "$FOUNDATION_SEGMENT"
expect 0 stage.changed fnd journal
expect 0 '' fnd create "$FOUNDATION_SEGMENT"
json '.stage, ([.flags[].percent] | add)' $'2\n300' fnd flags --json

# a torn tail is cut and reported, a damaged line passed over
printf 'deadbeef {"n":' >>"$work/state/$FOUNDATION_SEGMENT/journal"
expect 0 '' fnd flags enable shared_spans
expect 0 journal.cut fnd journal
sed -i '3s/flag/flog/' "$work/state/$FOUNDATION_SEGMENT/journal"
expect 1 'wrong checksum' fnd journal

# no journal to be reached: done all the same, and said
mv "$work/state" "$work/away"
: >"$work/state"
expect 7 'not durable' fnd flags disable shared_spans
expect 0 off fnd flags get shared_spans
expect 7 'not durable' fnd rollback --emergency --reason 'disk full' --approved-by ops
rm "$work/state"
mv "$work/away" "$work/state"
expect 0 '' fnd flags list # writes what was missing
expect 1 '"reason":"disk full","approved_by":"ops"' fnd journal --type rollback # and the damaged line is still there
expect 0 '' fnd destroy "$FOUNDATION_SEGMENT"
expect 0 '' fnd create "$FOUNDATION_SEGMENT"
json .stage 0 fnd flags --json

expect 0 '' fnd destroy --purge "$FOUNDATION_SEGMENT"
[ ! -e "$work/state/$FOUNDATION_SEGMENT" ] || { echo 'purge left the journal'; status=1; }
exit $status
