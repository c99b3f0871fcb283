#!/bin/sh
# SPDX-License-Identifier: MIT
# A program outside the tree, built with nothing but what pkg-config says about an installed
# library, registers and looks up an agent; every public header compiles alone as C11 and C++17.
set -eu

tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
prefix=$tmp/prefix

DESTDIR='' cmake --install "$FOUNDATION_BUILD" --prefix "$prefix" >"$tmp/install.log" || {
	cat "$tmp/install.log"
	exit 1
}
pc=$(find "$prefix" -name foundation.pc)
PKG_CONFIG_PATH=$(dirname "$pc")
export PKG_CONFIG_PATH
libdir=$(dirname "$PKG_CONFIG_PATH")

cp "$FOUNDATION_SOURCE/tests/cli/consumer.c" "$tmp/"
cd "$tmp"

# shellcheck disable=SC2046 # the flags are words
cc -Wall -Wextra -Werror -o consumer consumer.c $(pkg-config --cflags --libs foundation)
LD_LIBRARY_PATH=$libdir ./consumer shared

# shellcheck disable=SC2046
cc -o consumer_static consumer.c $(pkg-config --cflags foundation) \
	"$libdir/libfoundation.a" $(pkg-config --static --libs foundation | sed 's/-lfoundation//')
./consumer_static static

# The same by the CMake package, as C and as C++17.
cp consumer.c consumer_cxx.cpp
cat >CMakeLists.txt <<'END'
cmake_minimum_required(VERSION 3.25)
project(consumer C CXX)
set(CMAKE_CXX_STANDARD 17)
find_package(foundation 0.1 REQUIRED)
add_executable(packaged consumer.c)
target_link_libraries(packaged foundation::foundation)
add_executable(packaged_cxx consumer_cxx.cpp)
target_link_libraries(packaged_cxx foundation::static)
END
if ! { cmake -G Ninja -S . -B package -DCMAKE_PREFIX_PATH="$prefix" && cmake --build package; } >package.log 2>&1; then
	cat package.log
	exit 1
fi
./package/packaged package
./package/packaged_cxx package

for header in "$prefix"/include/foundation/*.h; do
	echo "#include <foundation/$(basename "$header")>" >alone.c
	# shellcheck disable=SC2046
	cc -std=c11 -Wall -Wextra -Wpedantic -Werror -fsyntax-only \
		$(pkg-config --cflags foundation) alone.c
	# shellcheck disable=SC2046
	c++ -x c++ -std=c++17 -Wall -Wextra -Wpedantic -Werror -fsyntax-only \
		$(pkg-config --cflags foundation) alone.c
	echo "alone: $(basename "$header")"
done

# Nothing but the interface is exported.
if nm -D --defined-only "$libdir/libfoundation.so.0" |
	awk '{ sub(/@.*/, "", $3) } $2 != "A" && $3 !~ /^fnd_/ && $3 !~ /^FOUNDATION_/ { print; bad = 1 } END { exit !bad }'; then
	echo "the shared library exports the symbols above"
	exit 1
fi
