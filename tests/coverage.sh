#!/bin/sh
# SPDX-License-Identifier: MIT
# Line and branch coverage of recovery and verification, from the counters of a coverage build.
#
#   tests/coverage.sh [BUILD]
#
# Prints a table. Exit status 1: a branch is uncovered that tests/coverage-exceptions.txt does not list, or one
# listed there is covered by now or gone. A line of that file: file|function|source text|reason; a reason that
# begins with "race" is for what runs now and then.
set -eu

build=${1:-${FOUNDATION_BUILD:?usage: coverage.sh BUILD}}
command -v gcov >/dev/null || exit 77
here=$(cd "$(dirname "$0")" && pwd)
objects=$(cd "$build" && pwd)/shm/CMakeFiles/foundation_shm.dir
whole="recovery verify verify_shard verify_slots verify_space trim"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

for file in $whole lock slot table index; do
	(cd "$work" && gcov -b -c -o "$objects/$file.c.gcda" "$here/../shm/$file.c" >/dev/null 2>&1)
	if [ ! -e "$work/$file.c.gcov" ]; then
		echo "coverage.sh: no counters of shm/$file.c in $build: run its tests first" >&2
		exit 2
	fi
done
cd "$work"
for file in $whole lock slot table index; do
	awk -v file="shm/$file.c" '
	BEGIN {
		# of these only what repairs, reaps or steals
		only["shm/slot.c"] = " reaper_dead identity_of fnd_pid_gone fnd_process_slot_dead reap_namesakes " \
			"thread_reap process_of_thread_dead thread_word_dead fnd_thread_slot_dead " \
			"fnd_thread_reap_dead reap_dead_threads fnd_reap_process fnd_reap_all fnd_segment_reap "
		only["shm/table.c"] = " free_spans region_listed fnd_directory_repair "
		only["shm/index.c"] = " bucket_empty overflow_reclaim fnd_index_retire fnd_index_reclaim "
	}
	/^function / { name = $2; next }
	/^branch / {
		if (!wanted)
			next
		branches++
		if ($0 ~ /never executed|taken 0/)
			missed[line]++
		else
			taken++
		next
	}
	/^ *[-#=0-9]+\*?: *[0-9]+:/ {
		count = $0; sub(/:.*/, "", count); gsub(/[ *]/, "", count)
		text = $0; sub(/^[^:]*: *[0-9]+:/, "", text); gsub(/^[ \t]+|[ \t]+$/, "", text)
		number = $0; sub(/^[^:]*: */, "", number); sub(/:.*/, "", number)
		wanted = !(file in only) || index(only[file], " " name " ")
		line = number + 0
		if (wanted && count != "-") {
			lines++
			run += count ~ /^[0-9]/ && count + 0 > 0
		}
		where[line] = file "|" name "|" text
	}
	END {
		printf "%-22s %5d of %5d lines  %5d of %5d branches\n", file, run, lines, taken, branches
		for (l in missed)
			printf "%s|%d\n", where[l], missed[l] > "missed"
		close("missed")
	}' "$file.c.gcov"
	cat missed >>all 2>/dev/null || :
	rm -f missed
done

awk -F'|' -v exceptions="$here/coverage-exceptions.txt" '
	# the source text may have bars of its own: first two fields and the last are ours
	function key() { k = $0; sub(/\|[^|]*$/, "", k); return k }
	BEGIN {
		while ((getline l < exceptions) > 0)
			if (l !~ /^(#|$)/) {
				race = l ~ /\|race[^|]*$/
				sub(/\|[^|]*$/, "", l)
				allowed[l] = 1
				if (race)
					used[l] = 1
			}
	}
	{
		k = key()
		if (k in allowed)
			used[k] = 1
		else {
			printf "not covered, %d: %s\n", $NF, k
			bad = 1
		}
		n[k in allowed] += $NF
	}
	END {
		for (k in allowed)
			if (!(k in used)) {
				printf "listed, and covered or gone: %s\n", k
				bad = 1
			}
		printf "%d branches are exceptions, %d are not covered\n", n[1], n[0]
		exit bad
	}' all
