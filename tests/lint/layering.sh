#!/bin/bash
# SPDX-License-Identifier: MIT
# shm <- runtime <- tools: a quoted include stays in its own directory, tools and examples see
# public headers only, public headers include nothing but each other and the C library.
set -eu
cd "${FOUNDATION_SOURCE:-$(dirname "$0")/../..}"

status=0
bad() { # file, line, why
	echo "$1: $2: $3"
	status=1
}

includes() { # directory: "file include" a line
	find "$1" -name '*.[ch]' -print0 | xargs -0r \
		sed -nE 's,^[[:blank:]]*#[[:blank:]]*include[[:blank:]]+([<"][^>"]+)[>"].*,\1,;T;F;p' |
		paste - -
}

for dir in shm runtime tools bpf docs/examples; do
	while read -r file include; do
		name=${include#[<\"]}
		case $dir$include in
		tools\"../bpf/*.h) ;; # plain data, shared with the kernel's side
		*../*)
			bad "$file" "$name" "climbs out of its directory"
			;;
		*\"*.skel.h) ;; # generated
		*\"*)
			own=$(dirname "$file")/$name
			if [ ! -e "$own" ] && [ ! -e "$dir/$name" ] &&
				{ [ "$dir" != tools ] || [ ! -e "bpf/$name" ]; }; then
				bad "$file" "$name" "is not a header of $dir/"
			fi
			;;
		*\<foundation/*)
			if [ "$dir" = shm ] && [ ! -e "shm/include/$name" ]; then
				bad "$file" "$name" "shm/ looks up into runtime/"
			fi
			;;
		esac
	done < <(includes $dir)
done

while read -r file include; do
	case $include in
	\<foundation/* | \<std*.h | \<sys/types.h | \<limits.h | \<string.h | \<errno.h) ;;
	*) bad "$file" "$include" "does not belong into a public header" ;;
	esac
done < <(
	includes shm/include
	includes runtime/include
)
exit $status
