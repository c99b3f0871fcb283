#!/bin/sh
# SPDX-License-Identifier: MIT
# What logmill takes for source and template of a line is what the oracle says: on logs of known truth,
# on real ones when FOUNDATION_LOGS names a directory, and on messages made to confuse a scanner.
set -eu
# shellcheck disable=SC1091
. "$FOUNDATION_SOURCE/tests/support/oracle.sh"
lines_cat=$FOUNDATION_BUILD/tests/lines_cat
seed=${LINES_SEED:-$(date +%N | sed 's/^0*//')}
echo "seed $seed"

tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT

# SOURCE TAB MESSAGE in, SOURCE TAB TEMPLATE out.
mask_messages() {
	cut -f1 "$1" >"$tmp/sources"
	cut -f2- "$1" | mask | paste "$tmp/sources" -
}

sh "$FOUNDATION_SOURCE/tests/support/make_logs.sh" "$tmp" "$seed" 5000
for form in syslog zookeeper other; do
	mask_messages "$tmp/$form.truth" >"$tmp/want"
	"$lines_cat" "$tmp/$form.log" >"$tmp/got"
	cmp "$tmp/want" "$tmp/got"
	echo "$form: $(wc -l <"$tmp/got") lines as the oracle has them"
done

awk -v seed="$seed" 'BEGIN {
	srand(seed)
	n = split("0|1|9|12|255|256|1234|12345678|99999999999|.|.|.|.|:|:|0x|0X|x|a|f|F|deadbeef|DEADBEEF|" \
		"deadbee|g|_|-| |<ip>|<n>|<|>|\r|\200|\377|\303\251|\\|/|&|10.0.0.1|1.2.3.4:80|1.2.3|0x0|0xg|" \
		"abcdef01|\t|\v|\001|[|]|(|)|{3}|^|$|*|+|b", atom, "|")
	for (i = 0; i < 200000; i++) {
		some = 2 + int(rand() * 8)
		for (j = 0; j < some; j++)
			choice[j] = atom[1 + int(rand() * n)]
		len = 1 + int(rand() * rand() * 40)
		s = ""
		for (j = 0; j < len; j++)
			s = s choice[int(rand() * some)]
		if (s ~ /^[ \t\r\v\f]*$/ || s ~ /\r$/)
			s = s "!" # neither a blank line nor a CRLF
		print s
	}
}' >"$tmp/messages"
mask <"$tmp/messages" >"$tmp/want"
"$lines_cat" -m "$tmp/messages" >"$tmp/got"
cmp "$tmp/want" "$tmp/got"
echo "$(wc -l <"$tmp/got") confusing messages as sed has them, $(sort -u "$tmp/got" | wc -l) templates"

if [ -n "${FOUNDATION_LOGS:-}" ]; then
	for log in "$FOUNDATION_LOGS"/*.log; do
		case $(basename "$log") in
		OpenSSH*) split_syslog "$log" >"$tmp/truth" ;;
		Zookeeper*) split_zookeeper "$log" >"$tmp/truth" ;;
		*) continue ;;
		esac
		mask_messages "$tmp/truth" >"$tmp/want"
		"$lines_cat" "$log" >"$tmp/got"
		cmp "$tmp/want" "$tmp/got"
		echo "$(basename "$log"): $(wc -l <"$tmp/got") lines as the oracle has them"
	done
fi
