# shellcheck shell=sh
# SPDX-License-Identifier: MIT
#
# What the answers of logmill are compared with. Sourced by tests.

export LC_ALL=C

# Messages in, templates out: the definition itself, run by sed.
mask() {
	sed -E 's/[0-9]{1,3}(\.[0-9]{1,3}){3}(:[0-9]+)?/<ip>/g; s/\b(0x[0-9a-fA-F]+|[0-9a-fA-F]{8,})\b/<hex>/g; s/[0-9]+/<n>/g'
}

# A log of syslog's form without blank lines in, SOURCE TAB MESSAGE out.
split_syslog() {
	sed -E 's/\r$//; s/^[A-Z][a-z]{2} [ 0-9][0-9] [0-9:]{8} ([^ ]+) ([^ ]+): /\1\/\2\t/' "$1"
}

# The same for ZooKeeper's form.
split_zookeeper() {
	awk -v file="$(basename "$1")" '{
		sub(/\r$/, "")
		match($0, /@[0-9]+\] - /)
		head = substr($0, 1, RSTART - 1)
		sub(/.*:/, "", head)
		print file "/" head "\t" substr($0, RSTART + RLENGTH)
	}' "$1"
}
