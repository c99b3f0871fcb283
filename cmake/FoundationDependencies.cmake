# SPDX-License-Identifier: MIT
# What the tree needs. quickstart holds the list of Debian packages that bring it.

set(THREADS_PREFER_PTHREAD_FLAG ON)
find_package(Threads REQUIRED)
find_package(PkgConfig REQUIRED)

# The library.
pkg_check_modules(XXHASH REQUIRED libxxhash) # header only: XXH_INLINE_ALL
pkg_check_modules(ISAL REQUIRED IMPORTED_TARGET libisal)
pkg_check_modules(MSGPACK REQUIRED IMPORTED_TARGET msgpack)

# The private backends and the bench. Linked only where used, never seen by a public header.
pkg_check_modules(URCU REQUIRED IMPORTED_TARGET liburcu-memb liburcu-qsbr liburcu-cds)

# The tools.
pkg_check_modules(JANSSON REQUIRED IMPORTED_TARGET jansson)
pkg_check_modules(BPF REQUIRED IMPORTED_TARGET libbpf libelf zlib)
find_program(BPF_CLANG NAMES clang clang-14 REQUIRED)
find_program(BPF_STRIP NAMES llvm-strip llvm-strip-14 REQUIRED)
find_program(BPFTOOL NAMES bpftool PATHS /usr/sbin /sbin REQUIRED)

# The tests.
if(FOUNDATION_TESTS)
	pkg_check_modules(CRITERION REQUIRED IMPORTED_TARGET criterion)
endif()
