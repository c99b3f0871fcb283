#!/bin/bash
# SPDX-License-Identifier: MIT
# The libraries never print, exit or abort.
set -eu
cd "${FOUNDATION_SOURCE:-$(dirname "$0")/../..}"

calls='v?f?printf|v?dprintf|f?puts|f?putc|putchar|perror|v?syslog|_?exit|_Exit|quick_exit|abort|assert'
# Lines of comments are prose.
if grep -rnE --include='*.[ch]' "\b($calls)[[:blank:]]*\(" shm runtime |
	grep -vE '^[^:]+:[0-9]+:[[:blank:]]*(/?\*|//)'; then
	echo "the libraries print, exit or abort at the places above"
	exit 1
fi
