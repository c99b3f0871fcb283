#!/bin/sh
# SPDX-License-Identifier: MIT
# long.sh PROGRAMS TOTAL - the crash suites over and over, each time from other states, for
# FOUNDATION_CRASH_MINUTES (30). TOTAL gets a line a suite and round and outlives the run: killed or not,
# the next one goes on with the next seeds. Shows the sums. Exit status 1 when a suite did not hold.
set -eu
here=$(dirname "$0")
programs=$1
total=$2
minutes=${FOUNDATION_CRASH_MINUTES:-30}
until=$(($(date +%s) + minutes * 60))

touch "$total"
round=$(grep -c '"suite":"stores-insert"' "$total" || true)
say() {
	printf 'round %d, %d minutes left\n' "$round" $(((until - $(date +%s)) / 60))
}

# Both halves of the suites at once, one a processor.
both() { # program arguments...
	"$@" --part 0/2 --report "$total" >/dev/null &
	first=$!
	"$@" --part 1/2 --report "$total" >/dev/null || status=1
	wait $first || status=1
}

status=0
while [ "$(date +%s)" -lt $until ] && [ $status -eq 0 ]; do
	say
	both "$programs/stores" --goal 1000000 --seed $((round * 1000000 + 1))
	if [ $((round % 4)) -eq 0 ]; then
		both "$programs/instructions"
	fi
	round=$((round + 1))
done
"$here/report.sh" "$total" || status=1
exit $status
