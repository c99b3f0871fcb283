#!/bin/bash
# SPDX-License-Identifier: MIT
# What the documents point at is there: relative links with their headings, and file names in backticks.
# A name with a slash is looked for from the document, from the top, from a layer and its headers, and
# among the system's headers; a bare name anywhere in the tree.
set -eu
cd "${FOUNDATION_SOURCE:-$(dirname "$0")/../..}"

status=0
tick=$'\x60' # around names of files
bad() { # document, line, what, why
	echo "$1:$2: $3: $4"
	status=1
}

# The headings of a document, as the anchors that links use.
anchors() {
	awk '/^```/ { code = !code } !code && /^#+ /' "$1" | LC_ALL=C.UTF-8 sed -E \
		's/^#+ +//; s/\[([^]]*)\]\([^)]*\)/\1/g; s/[^[:alnum:] _-]//g; s/ /-/g; s/.*/\L&/'
}

# "line text" of every match outside of fenced code, which shows pictures and commands.
outside_code() { # document, extended regular expression
	awk -v re="$2" '/^[[:blank:]]*```/ { code = !code; next }
		!code { s = $0; while (match(s, re)) {
			print FNR, substr(s, RSTART, RLENGTH); s = substr(s, RSTART + RLENGTH) } }' "$1"
}

check_link() { # document, line, target
	local path=${3%%#*} anchor=
	case $3 in
	*://* | mailto:*) return ;;
	/*)
		bad "$1" "$2" "$3" "not a relative link"
		return
		;;
	*\#*) anchor=${3#*#} ;;
	esac
	if [ -n "$path" ]; then
		path=$(dirname "$1")/$path
	else
		path=$1
	fi
	if [ ! -e "$path" ]; then
		bad "$1" "$2" "$3" "there is no such file"
	elif [ -n "$anchor" ] && ! anchors "$path" | grep -qxF -- "$anchor"; then
		bad "$1" "$2" "$3" "there is no such heading"
	fi
}

check_file() { # document, line, name
	local root
	for root in "$(dirname "$1")" . shm shm/include runtime runtime/include /usr/include \
		"/usr/include/$(uname -m)-linux-gnu"; do
		# A pattern such as cmd_*.c stands for at least one file.
		if compgen -G "$root/$3" >/dev/null; then
			return
		fi
	done
	case $3 in
	*/*) ;;
	*)
		if grep -qE "/$(sed 's/\./\\./g; s/\*/[^\/]*/g' <<<"$3")\$" <<<"$tree"; then
			return
		fi
		;;
	esac
	bad "$1" "$2" "$3" "there is no such file"
}

mapfile -t documents < <(find . -maxdepth 1 -name '*.md' | sort && find docs -name '*.md' | sort)
tree=$(find shm runtime tools bpf tests docs cmake -type f && find . -maxdepth 1 -type f)

for document in "${documents[@]#./}"; do
	while read -r line match; do
		match=${match#\](}
		match=${match%)}
		check_link "$document" "$line" "${match%% *}"
	done < <(outside_code "$document" '\]\([^)]+\)')
	while read -r line match; do
		check_file "$document" "$line" "${match//$tick/}"
	done < <(outside_code "$document" "${tick}[A-Za-z0-9_.*/-]+[.](c|h|md)$tick")
done
exit $status
