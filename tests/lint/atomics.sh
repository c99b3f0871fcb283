#!/bin/bash
# SPDX-License-Identifier: MIT
# Atomic accesses to the segment go through shm/include/foundation/atomic.h, where sanitizers and store hooks see them.
set -eu
cd "${FOUNDATION_SOURCE:-$(dirname "$0")/../..}"

if grep -rnE --include='*.[ch]' '\b(__atomic_[a-z]|__sync_[a-z]|_Atomic\b|stdatomic\.h|uatomic_)' \
	shm runtime tools docs/examples |
	grep -vE '^shm/include/foundation/(atomic|read)\.h:' | grep -vE '^[^:]+:[0-9]+:[[:blank:]]*(/?\*|//)' |
	grep -v '__ATOMIC_'; then
	echo "atomic accesses outside shm/include/foundation/atomic.h at the places above"
	exit 1
fi
