#!/bin/bash
# SPDX-License-Identifier: MIT
# Every shell script passes shellcheck.
set -eu
cd "${FOUNDATION_SOURCE:-$(dirname "$0")/../..}"

mapfile -t scripts < <(find . \( -name .git -o -path ./build \) -prune -o -type f -print0 |
	xargs -0 grep -lE -m1 '^#!/(usr/)?bin/(env )?(ba)?sh' -- | sort)
shellcheck -x -P . "${scripts[@]}"
if [ -d tools/completions ]; then
	find tools/completions -type f -exec shellcheck -s bash {} +
fi
