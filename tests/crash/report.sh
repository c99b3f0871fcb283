#!/bin/sh
# SPDX-License-Identifier: MIT
# report.sh FILE [SUM] - one line a suite of a report; exit status 1 when one did not hold (a control that
# was seen too rarely is `short`, which is said and is no failure). With SUM, a
# file that outlives the run: each suite's counts are added to it, and its lines are shown instead.
set -eu

[ -s "$1" ] || {
	echo "report.sh: $1: no suite has reported" >&2
	exit 1
}

show() {
	awk '
	function field(name,    s) {
		if (!match($0, "\"" name "\":\"?[^,\"}]*"))
			return ""
		s = substr($0, RSTART, RLENGTH)
		sub("\"" name "\":\"?", "", s)
		return s
	}
	{
		suite = field("suite")
		if (!(suite in count))
			order[n++] = suite
		count[suite] += field("count")
		violations[suite] += field("violations")
		seconds[suite] += field("seconds")
		goal[suite] = field("goal")
		if (verdict[suite] == "" || verdict[suite] == "held")
			verdict[suite] = field("verdict")
	}
	END {
		for (i = 0; i < n; i++) {
			s = order[i]
			printf "%-36s %11d of %11d  %d violations %9.1f s  %s\n", s, count[s],
				goal[s], violations[s], seconds[s], verdict[s]
			bad += verdict[s] != "held" && verdict[s] != "short"
			total += count[s]
			kind = s
			sub("-.*", "", kind)
			if (!(kind in kinds))
				kind_order[k++] = kind
			kinds[kind] += count[s]
		}
		for (i = 0; i < k; i++)
			printf "%s%s %d", i ? ", " : "all: ", kind_order[i], kinds[kind_order[i]]
		printf "; %d suites, %d did not hold\n", n, bad
		exit bad > 0
	}' "$1"
}

if [ $# -gt 1 ]; then
	cat "$1" >>"$2"
	show "$2"
else
	show "$1"
fi
