#!/bin/bash
# SPDX-License-Identifier: MIT
# docs/runbook.md, carried out: its sh blocks in order, in one shell that stops at the first command that fails.
# What a block prints is compared with the text block below it; "…" stands for any text within a line, on a line of
# its own for any number of lines, blanks at the end of a line do not count.
set -u
export LC_ALL=C.UTF-8 PATH=$FOUNDATION_BIN:$PATH
runbook=$FOUNDATION_SOURCE/docs/runbook.md

tmp=$(mktemp -d)
export SEGMENT=runbook-$$ WORK=$tmp/work ROUND=0.2 FOUNDATION_STATE_DIR=$tmp/state
mkdir "$tmp/blocks"
shell=

# shellcheck disable=SC2317 # reached by the trap
clean_up() {
	[ -z "$shell" ] || kill "$shell" 2>/dev/null
	wait
	foundation destroy "$SEGMENT" --force --purge >/dev/null 2>&1
	rm -rf "$tmp"
}
trap clean_up EXIT
trap 'exit 1' INT TERM

command -v jq >/dev/null || {
	echo 'jq is not there'
	exit 77
}

# LINE.sh for each sh block, LINE.text for the text block that follows it, LINE being the sh block's.
awk -v dir="$tmp/blocks" '
/^```sh$/ { at = sprintf("%05d", NR + 1); file = dir "/" at ".sh"; printf "" >file; next }
/^```text$/ { file = at ? dir "/" at ".text" : ""; if (file) printf "" >file; at = ""; next }
/^```/ { if (file) close(file); file = ""; next }
file { print >file }' "$runbook"

# One shell for all of them. Its own messages go to the test's output, those of a block to a file.
{
	echo 'set -eu -o pipefail; exec 8>&1; SERVICE='
	# the example service must not outlive the shell, however that ends
	echo "trap '[ -z \"\$SERVICE\" ] || { kill \"\$SERVICE\" || :; wait \"\$SERVICE\" || :; } 2>/dev/null' EXIT"
	echo 'trap "exit 1" INT TERM'
	for block in "$tmp"/blocks/*.sh; do
		echo "echo '$(basename "$block" .sh)' >'$tmp/at'"
		echo "exec >'${block%.sh}.out' 2>&1"
		cat "$block"
	done
	echo "echo whole >'$tmp/at'; exec >&8 2>&1"
} >"$tmp/all.sh"
bash "$tmp/all.sh" </dev/null &
shell=$!
wait $shell
result=$?
shell=

# Does what was printed fit what the document shows?
fits() { # text, output
	awk -v text="$1" -v out="$2" '
	function read_lines(name, into, n, line) {
		while ((getline line <name) > 0) {
			sub(/[ \t]+$/, "", line)
			into[++n] = line
		}
		return n
	}
	# no pattern language: pieces between the dots, each found after the one before
	function line_fits(want, got, piece, n, i, p, rest) {
		n = split(want, piece, "…")
		if (n == 1)
			return want == got
		if (substr(got, 1, length(piece[1])) != piece[1])
			return 0
		rest = substr(got, length(piece[1]) + 1)
		for (i = 2; i < n; i++) {
			p = index(rest, piece[i])
			if (!p)
				return 0
			rest = substr(rest, p + length(piece[i]))
		}
		return length(rest) >= length(piece[n]) && substr(rest, length(rest) - length(piece[n]) + 1) == piece[n]
	}
	function fit(i, j, k) {
		while (i <= wants && want[i] != "…") {
			if (i > furthest) {
				furthest = i
				beside = j
			}
			if (j > gots || !line_fits(want[i], got[j]))
				return 0
			i++
			j++
		}
		if (i > wants)
			return j > gots
		for (k = j; k <= gots + 1; k++)
			if (fit(i + 1, k))
				return 1
		return 0
	}
	BEGIN {
		wants = read_lines(text, want)
		gots = read_lines(out, got)
		if (fit(1, 1))
			exit 0
		print "runbook: " want[furthest]
		print "printed: " (beside <= gots ? got[beside] : "(nothing more)")
		exit 1
	}'
}

at=$(cat "$tmp/at")
status=0 blocks=0 texts=0
for block in "$tmp"/blocks/*.sh; do
	line=$(basename "$block" .sh)
	out=${block%.sh}.out
	[ -e "$out" ] || break
	blocks=$((blocks + 1))
	if [ "$line" = "$at" ]; then
		echo "runbook.md:$((10#$line)): the block ends with exit status $result; it printed"
		cat "$out"
		status=1
	elif [ -e "${block%.sh}.text" ]; then
		texts=$((texts + 1))
		if ! fits "${block%.sh}.text" "$out"; then
			echo "runbook.md:$((10#$line)): the block prints something else than the runbook says"
			cat "$out"
			status=1
		fi
	fi
done
[ "$at" = whole ] && [ $result -eq 0 ] || status=1
# what the service said when it ended, too: ctest looks for these words in a test's output
grep -hE 'Sanitizer|runtime error:' "$tmp"/blocks/*.out && status=1
[ $status -eq 0 ] || tail -n 5 "$WORK/orders.log" 2>/dev/null
for left in /dev/shm/foundation.*."$SEGMENT"; do
	[ ! -e "$left" ] || {
		echo "left behind: $left"
		status=1
	}
done
echo "$blocks blocks run, $texts outputs compared"
exit $status
