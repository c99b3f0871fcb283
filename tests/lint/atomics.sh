#!/bin/bash
# SPDX-License-Identifier: MIT
# Atomic accesses to the segment go through shm/atomic.h, where sanitizers and store hooks see them.
set -eu
cd "${FOUNDATION_SOURCE:-$(dirname "$0")/../..}"

if grep -rnE --include='*.[ch]' '\b(__atomic_[a-z]|__sync_[a-z]|_Atomic\b|stdatomic\.h|uatomic_)' \
	shm runtime tools docs/examples |
	grep -v '^shm/atomic\.h:' | grep -vE '^[^:]+:[0-9]+:[[:blank:]]*(/?\*|//)' |
	grep -v '__ATOMIC_'; then
	echo "atomic accesses outside shm/atomic.h at the places above"
	exit 1
fi
