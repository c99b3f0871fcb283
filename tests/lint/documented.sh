#!/bin/bash
# SPDX-License-Identifier: MIT
# Every public function is introduced by name in a /** comment of its header, and that comment
# says what it returns, or refers to a function whose comment does.
set -eu
cd "${FOUNDATION_SOURCE:-$(dirname "$0")/../..}"

awk '
FNR == 1 { comment = ""; inside = 0 }
/^\/\*\*/ { comment = ""; inside = 1 }
inside { comment = comment "\n" $0 }
/\*\// { inside = 0 }
/^FND_API/ {
	if (!match($0, /fnd_[a-z0-9_]+\(/)) next
	name = substr($0, RSTART, RLENGTH - 1)
	functions++
	if (comment !~ ("(^|[^a-z0-9_])" name "([^a-z0-9_]|$)")) {
		print FILENAME ":" FNR ": " name " is not documented"; bad = 1
	} else if ($0 !~ /FND_API void / && comment !~ /Returns|fnd_[a-z0-9_]+\(\)/) {
		print FILENAME ":" FNR ": " name ": nothing about what it returns"; bad = 1
	}
}
END { print functions + 0 " public functions"; exit bad || !functions }
' shm/include/foundation/*.h runtime/include/foundation/*.h
