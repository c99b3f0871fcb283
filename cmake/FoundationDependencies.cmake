# SPDX-License-Identifier: MIT
# What the tree needs. quickstart holds the list of Debian packages that bring it.

set(THREADS_PREFER_PTHREAD_FLAG ON)
find_package(Threads REQUIRED)
find_package(PkgConfig REQUIRED)

# The library.
pkg_check_modules(XXHASH REQUIRED libxxhash) # header only: XXH_INLINE_ALL
pkg_check_modules(ISAL REQUIRED IMPORTED_TARGET libisal)
pkg_check_modules(MSGPACK REQUIRED IMPORTED_TARGET msgpack)
pkg_check_modules(SYSTEMD libsystemd) # optional, its header only: the log's journald sink loads it
if(SYSTEMD_FOUND)
	add_compile_definitions(FND_HAVE_SYSTEMD)
	include_directories(SYSTEM ${SYSTEMD_INCLUDE_DIRS})
endif()

# The private backends and the bench. Linked only where used, never seen by a public header.
if(FOUNDATION_PRIVATE_BACKENDS)
	pkg_check_modules(URCU_BP REQUIRED IMPORTED_TARGET liburcu-bp liburcu-cds)
	set(FOUNDATION_URCU_LIBRARIES PkgConfig::URCU_BP)
	set(FOUNDATION_PC_URCU " -lurcu-bp -lurcu-cds -lurcu-common")
	set(FOUNDATION_CONFIG_URCU ";urcu-bp;urcu-cds;urcu-common")
else()
	add_compile_definitions(FND_NO_PRIVATE_BACKENDS)
endif()
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
