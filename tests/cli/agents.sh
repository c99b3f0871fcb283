#!/bin/bash
# SPDX-License-Identifier: MIT
# foundation agents, beside workers that live, clash and are killed.
set -u
foundation=$FOUNDATION_BIN/foundation
worker=$FOUNDATION_BUILD/tests/agents_worker
export LC_ALL=C ASAN_OPTIONS=verify_asan_link_order=0
unset FOUNDATION_SEGMENT

name=t-agents-$$
tmp=$(mktemp -d)
export FOUNDATION_STATE_DIR=$tmp/state
failed=0
declare -A pid in said

# shellcheck disable=SC2317 # reached by the trap
cleanup() {
	[ ${#pid[@]} -eq 0 ] || kill -9 "${pid[@]}" 2>/dev/null
	rm -rf "/dev/shm/foundation.$(id -u).$name"* "$tmp"
}
trap cleanup EXIT
trap 'exit 1' INT TERM

say() {
	echo "FAILED: $*"
	failed=1
}

run() { # STATUS word…: foundation agents, output in $tmp/out and $tmp/err
	local want=$1 got
	shift
	timeout 60 "$foundation" agents --segment "$name" "$@" >"$tmp/out" 2>"$tmp/err"
	got=$?
	[ $got -eq "$want" ] || say "exit $got, not $want: agents $*: $(head -n 3 "$tmp/err")"
}

has() { # out or err, text
	grep -qF -- "$2" "$tmp/$1" || say "no '$2' in $1: $(head -c 600 "$tmp/$1")"
}

json() { # SCHEMA EXPRESSION over the document d
	python3 - "$tmp/out" "$@" <<'PYTHON' || say "JSON: $1: $2: $(head -c 900 "$tmp/out")"
import json, sys
d = json.load(open(sys.argv[1]))
assert d["schema"] == sys.argv[2], d["schema"]
names = [a["name"] for a in d.get("agents") or []] if isinstance(d.get("agents"), list) else []
assert eval("(" + sys.argv[3] + ")"), sys.argv[3]
PYTHON
}

start() { # KEY [SEGMENT]: a worker
	mkfifo "$tmp/in.$1" "$tmp/said.$1"
	"$worker" "${2:-$name}" <"$tmp/in.$1" >"$tmp/said.$1" &
	pid[$1]=$!
	exec {fd}>"$tmp/in.$1"
	in[$1]=$fd
	exec {fd}<"$tmp/said.$1"
	said[$1]=$fd
	read -r -t 60 -u "${said[$1]}" word _
	[ "$word" = ready ] || {
		echo "FAILED: the worker $1: $word"
		exit 1
	}
}

tell() { # KEY word…: its answer is in $answer
	local key=$1
	shift
	echo "$*" >&"${in[$key]}"
	answer=
	read -r -t 60 -u "${said[$key]}" answer || say "worker $key does not answer: $*"
}

told() { # ANSWER KEY word…
	local want=$1
	shift
	tell "$@"
	[ "$answer" = "$want" ] || say "worker $*: $answer, not $want"
}

kill_worker() { # KEY
	kill -9 "${pid[$1]}"
	wait "${pid[$1]}" 2>/dev/null
	unset "pid[$1]"
}

[ -x "$worker" ] || exit 77
"$foundation" create --processes 16 --threads 64 --capacity 256 "$name" >/dev/null || exit 1
"$foundation" flags --segment "$name" stage 2 >/dev/null || exit 1 # the shared registry is asked first

# --- words and options that are not ------------------------------------------------------------------

run 2 frobnicate
run 2 get
run 2 list me
run 2 find capability
run 2 query
run 2 query 'capability =='
has err query
run 2 register one
has err "--pid"
run 2 register one --pid nobody
run 2 list --force
run 2 watch --orphans
run 2 watch --timeout soon

# --- no names yet ------------------------------------------------------------------------------------

run 0
has err "no names"
run 0 list --orphans
run 1 get one
has err "no agent is called"
run 1 unregister one
run 1 query 'load > 1'
run 0 clashes
run 0 workers

# --- workers register, the command finds --------------------------------------------------------------

start a
start b
told 0 a register llm/1 llm 10
told 0 a register llm/2 llm 50
told 0 b register ocr/1 ocr 90
told "shared ${pid[a]}" b lookup llm/1
run 0 list
has out BACKEND
has out "llm/2"
run 0 --json
json foundation.agents/1 "names == ['llm/1', 'llm/2', 'ocr/1'] and d['backend'] == 'shared'
	and all(a['backend'] == 'shared' and a['alive'] and not a['orphan'] for a in d['agents'])"
run 0 get llm/1 --json
json foundation.agent/1 "d['pid'] == ${pid[a]} and d['metadata'] == {'capability': 'llm', 'load': 10}
	and d['backend'] == 'shared' and d['alive'] is None" # nobody was asked
run 0 get llm/1 --check --json
json foundation.agent/1 "d['alive'] is True and not d['orphan']"
run 0 get llm/1
has out "pid ${pid[a]}"
run 0 get llm/1 --check
has out alive
run 0 find capability llm --json
json foundation.agents/1 "names == ['llm/1', 'llm/2'] and d['agents'][0]['backend'] == 'shared'"
run 0 find load 90 --json
json foundation.agents/1 "names == ['ocr/1']"
run 1 find load '"90"'
run 1 find capability 'a "quoted" \one'
run 0 query 'capability == llm' 'load > 20' --json
json foundation.agents/1 "names == ['llm/2']"
run 0 query capability in llm,ocr and load '>=' 50 --json
json foundation.agents/1 "names == ['llm/2', 'ocr/1']"
run 0 query 'resources missing' --json
json foundation.agents/1 "len(names) == 3"
run 1 query 'load > 100'

# --- names of other processes, registered from here ----------------------------------------------------

run 0 register service --pid "${pid[b]}" --metadata '{"capability": ["ocr", "mt"], "node": {"zone": "é"}, "n": -1.5}'
[ ! -s "$tmp/err" ] || say "a word about a plain registration: $(cat "$tmp/err")"
told "shared ${pid[b]}" a lookup service # this command has ended, the name is there
run 0 get service --json
json foundation.agent/1 "d['pid'] == ${pid[b]}
	and d['metadata'] == {'capability': ['ocr', 'mt'], 'node': {'zone': 'é'}, 'n': -1.5}"
run 0 find capability mt --json
json foundation.agents/1 "names == ['service']"
run 0 find node.zone é
run 0 register service --pid "${pid[b]}" --json # the same owner again
json foundation.agent/1 "d['metadata'] == {} and d['pid'] == ${pid[b]}"
run 3 register service --pid "${pid[a]}"
has err "held by pid ${pid[b]}"
run 0 register service --pid "${pid[a]}" --take
told "shared ${pid[a]}" b lookup service
run 3 register other --pid $$
has err "process $$ is not attached"
sleep 0 &
gone=$!
wait $gone
run 3 register other --pid $gone
has err "no process $gone"
run 2 register other --pid "${pid[a]}" --metadata '[1]'
run 2 register other --pid "${pid[a]}" --metadata '{"a": 1'
run 2 register other --pid "${pid[a]}" --metadata "{\"a\": \"$(printf '%0600d' 0)\"}"
run 1 get other

run 6 unregister service
has err "--force"
run 0 unregister service --force --json
json foundation.agents.unregister/1 "d['unregistered'] and d['name'] == 'service'"
run 1 unregister service

# --- figures -----------------------------------------------------------------------------------------

run 0 stats
has out "longest chain"
run 0 stats --json
json foundation.agents.stats/1 "d['agents'] == d['records'] == 3 and d['capacity'] == 256 and d['bytes'] > 0
	and d['lookups'] >= d['misses'] >= 1 and d['registered'] >= 5 and d['unregistered'] >= 1
	and 1 <= d['longest_chain'] <= 3 and d['longest_chain_buckets'] == 1 and d['backend'] == 'shared'"

# --- watched -----------------------------------------------------------------------------------------

run 0 watch --from 0 --timeout 0 --json
python3 - "$tmp/out" <<'PYTHON' || say "watch: $(cat "$tmp/out")"
import json, sys
lines = [json.loads(l) for l in open(sys.argv[1])]
assert all(l["schema"] == "foundation.event/1" and l["backend"] == "shared" for l in lines)
seen = [(l["event"], l["data"]["name"]) for l in lines]
assert seen[:3] == [("agent.up", "llm/1"), ("agent.up", "llm/2"), ("agent.up", "ocr/1")], seen
assert seen[3] == ("agent.up", "service") and seen[-1] == ("agent.gone", "service"), seen
assert [l["number"] for l in lines] == sorted(l["number"] for l in lines)
PYTHON
run 5 watch --count 1 --timeout 0.2
run 0 watch --from 0 --count 2
[ "$(wc -l <"$tmp/out")" = 2 ] || say "not two changes: $(cat "$tmp/out")"
timeout 60 "$foundation" agents --segment "$name" watch --count 2 >"$tmp/watched" 2>"$tmp/err" &
watcher=$!
for _ in {1..600}; do # until it takes part, and so reads from here on
	[ "$("$foundation" status --segment "$name" --json | jq .participants_live)" -ge 3 ] && break
	sleep 0.1
done
sleep 0.5
told 0 a register brief llm 1
told 0 a unregister brief
wait $watcher || say "watch --count 2: $?"
for change in up gone; do
	grep -q "agent.$change .*brief" "$tmp/watched" || say "agent.$change not watched: $(cat "$tmp/watched")"
done
"$foundation" agents --segment "$name" watch >/dev/null 2>&1 &
watcher=$!
sleep 0.5
kill -TERM $watcher
wait $watcher || say "watch ended by a signal: exit $?"

# --- killed: orphans until somebody meets them -----------------------------------------------------------

kill_worker a
run 0 --json
json foundation.agents/1 "names == ['ocr/1'] and d['dead'] == 2 and d['orphans'] == 2"
run 1 list --orphans --json
json foundation.agents/1 "names == ['llm/1', 'llm/2'] and all(a['orphan'] and a['alive'] is False for a in d['agents'])"
run 1 list --orphans
has out dead
run 0 list --all --json
json foundation.agents/1 "len(names) == 3"
run 1 get llm/1 --check
has err dead
run 0 register llm/1 --pid "${pid[b]}" # a dead one's name is taken at once
run 1 unregister llm/2		       # or is nobody's: it goes, with its agent.down, and there was none
run 0 list --orphans
[ ! -s "$tmp/out" ] || say "orphans are left: $(cat "$tmp/out")"
run 0 watch --from 0 --timeout 0
has out "agent.down"
grep -q "agent.down .*llm/2  pid [0-9]*  [a-z]" "$tmp/out" || say "no reason: $(grep down "$tmp/out")"

# --- clashes and workers ----------------------------------------------------------------------------------

"$foundation" flags --segment "$name" stage 0 >/dev/null || say "stage 0"
start c
told 0 b register clash ocr 1
told "private ${pid[b]}" b lookup clash
run 0 register elsewhere --pid "${pid[b]}"
if [ "$answer" != "shared ${pid[b]}" ]; then # a build with private backends
	has err "do not ask the shared one"
	told 0 c register clash ocr 2
	"$foundation" flags --segment "$name" enable migration_monitoring >/dev/null || say "monitoring"
	told "private ${pid[b]}" b lookup clash
	told "shared ${pid[b]}" c lookup clash # the one that is published first is everybody's
	run 1 clashes
	has out "clash"
	has out "pid ${pid[c]}"
	run 1 clashes --json
	json foundation.agents.clashes/1 "[(c['name'], c['private_to']['pid'], c['published_by']['pid'])
		for c in d['clashes']] == [('clash', ${pid[c]}, ${pid[b]})]"
	run 0 workers
	has out RECONCILED
	run 0 workers --json
	json foundation.agents.workers/1 "{w['pid'] for w in d['workers']} == {${pid[b]}, ${pid[c]}}
		and [w['clashes'] for w in d['workers'] if w['pid'] == ${pid[c]}] == [1]"
	run 0 watch --from 0 --timeout 0
	has out "registry.conflict"
	kill_worker c
	run 0 clashes # a dead one's is nobody's
	run 0 workers --json
	json foundation.agents.workers/1 "[w['pid'] for w in d['workers']] == [${pid[b]}]"
fi

# --- refused, and gone --------------------------------------------------------------------------------------

timeout 60 "$foundation" agents --segment "$name-none" stats >/dev/null 2>&1
[ $? = 3 ] || say "stats of no segment"
for key in c b; do # the later one has the other's pipe open too
	[ -n "${pid[$key]-}" ] || continue
	fd=${in[$key]}
	exec {fd}>&-
	wait "${pid[$key]}" || say "worker $key: exit $?"
	unset "pid[$key]"
done
exit $failed
