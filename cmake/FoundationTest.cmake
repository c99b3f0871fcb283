# SPDX-License-Identifier: MIT
# How a test is declared.
#
#   fnd_criterion_test(NAME SOURCES... [LABELS ...] [TIMEOUT s])
#   fnd_program_test(NAME SOURCES... [ARGS ...] [LABELS ...] [TIMEOUT s] [LIBRARY target])
#   fnd_cli_test(NAME SCRIPT [LABELS ...] [TIMEOUT s])
#   fnd_library_variant(NAME [DEFINITIONS ...] [OPTIONS ...])
#
# The first two link the static library and see the internal headers of shm/ and runtime/. Their
# label is `unit` unless given; a script's is `cli`. Exit status 77 means skipped. A variant is the
# static library compiled otherwise: with a seeded bug, or with hooks.

# A leak inside a Criterion test is a line of output and exit status 0, so the output decides.
set(FND_SANITIZER_REPORT
	"ERROR: AddressSanitizer|ERROR: LeakSanitizer|WARNING: ThreadSanitizer|runtime error:")

# Everything a ctest entry has in common. The command is bounded twice: `bounded` ends whatever a
# hanging test has started; ctest's own limit is the net below it.
add_executable(bounded ${PROJECT_SOURCE_DIR}/tests/support/bounded.c)
set_target_properties(bounded PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/tests)

# CONFIGURATIONS name: only where ctest is asked for it, with -C name.
function(fnd_add_bounded_test name)
	cmake_parse_arguments(arg "" "TIMEOUT;CONFIGURATIONS" "LABELS;COMMAND" ${ARGN})
	if(NOT arg_TIMEOUT)
		set(arg_TIMEOUT 60)
	endif()
	if(FOUNDATION_SANITIZE OR FOUNDATION_COVERAGE)
		math(EXPR arg_TIMEOUT "${arg_TIMEOUT} * 4")
	endif()
	math(EXPR outer "${arg_TIMEOUT} + 20")
	if(arg_CONFIGURATIONS)
		set(arg_CONFIGURATIONS CONFIGURATIONS ${arg_CONFIGURATIONS})
	endif()
	add_test(NAME ${name} ${arg_CONFIGURATIONS} COMMAND bounded ${arg_TIMEOUT} ${arg_COMMAND})
	set_tests_properties(${name} PROPERTIES
		LABELS "${arg_LABELS}" TIMEOUT ${outer} SKIP_RETURN_CODE 77
		FAIL_REGULAR_EXPRESSION "${FND_SANITIZER_REPORT}"
		ENVIRONMENT "FOUNDATION_BIN=${CMAKE_BINARY_DIR}/bin;\
FOUNDATION_BUILD=${CMAKE_BINARY_DIR};FOUNDATION_SOURCE=${PROJECT_SOURCE_DIR};\
UBSAN_OPTIONS=print_stacktrace=1")
endfunction()

# The clean tree's side of a seeded bug: the same suite, which has to hold. Run by `ctest -C seeded`.
function(fnd_silent_test name)
	fnd_add_bounded_test(silent_${name} TIMEOUT 300 LABELS seeded CONFIGURATIONS seeded COMMAND ${ARGN})
endfunction()

function(fnd_test_executable name library)
	add_executable(${name} ${ARGN})
	set_target_properties(${name} PROPERTIES
		RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/tests)
	target_include_directories(${name} PRIVATE ${PROJECT_SOURCE_DIR}/shm
		${PROJECT_SOURCE_DIR}/runtime ${PROJECT_SOURCE_DIR}/tests/support
		${FOUNDATION_PUBLIC_INCLUDES})
	target_compile_definitions(${name} PRIVATE XXH_INLINE_ALL=
		FND_VERSION_STRING="${PROJECT_VERSION}")
	target_link_libraries(${name} PRIVATE ${library} ${FOUNDATION_PRIVATE_LIBRARIES})
endfunction()

function(fnd_criterion_test name)
	cmake_parse_arguments(arg "" "TIMEOUT" "LABELS" ${ARGN})
	# Criterion does not start under ThreadSanitizer, and is not built for libFuzzer's runs.
	if(FOUNDATION_SANITIZE MATCHES "thread|fuzzer")
		return()
	endif()
	if(NOT arg_LABELS)
		set(arg_LABELS unit)
	endif()
	fnd_test_executable(${name} foundation_static ${arg_UNPARSED_ARGUMENTS})
	target_link_libraries(${name} PRIVATE PkgConfig::CRITERION)
	fnd_add_bounded_test(${name} TIMEOUT "${arg_TIMEOUT}" LABELS ${arg_LABELS}
		COMMAND $<TARGET_FILE:${name}> --jobs=2)
endfunction()

function(fnd_program_test name)
	cmake_parse_arguments(arg "" "TIMEOUT;LIBRARY" "LABELS;ARGS" ${ARGN})
	if(NOT arg_LABELS)
		set(arg_LABELS unit)
	endif()
	if(FOUNDATION_SANITIZE STREQUAL "thread" AND NOT "tsan" IN_LIST arg_LABELS)
		return()
	endif()
	if(FOUNDATION_SANITIZE STREQUAL "fuzzer")
		return()
	endif()
	if(NOT arg_LIBRARY)
		set(arg_LIBRARY foundation_static)
	endif()
	fnd_test_executable(${name} ${arg_LIBRARY} ${arg_UNPARSED_ARGUMENTS})
	fnd_add_bounded_test(${name} TIMEOUT "${arg_TIMEOUT}" LABELS ${arg_LABELS}
		COMMAND $<TARGET_FILE:${name}> ${arg_ARGS})
endfunction()

function(fnd_cli_test name script)
	cmake_parse_arguments(arg "" "TIMEOUT" "LABELS" ${ARGN})
	if(FOUNDATION_SANITIZE MATCHES "thread|fuzzer")
		return()
	endif()
	if(NOT arg_LABELS)
		set(arg_LABELS cli)
	endif()
	fnd_add_bounded_test(${name} TIMEOUT "${arg_TIMEOUT}" LABELS ${arg_LABELS}
		COMMAND ${CMAKE_CURRENT_SOURCE_DIR}/${script})
endfunction()

function(fnd_library_variant name)
	cmake_parse_arguments(arg "" "" "DEFINITIONS;OPTIONS" ${ARGN})
	if(FOUNDATION_SANITIZE STREQUAL "fuzzer")
		return()
	endif()
	add_library(${name} STATIC EXCLUDE_FROM_ALL ${FOUNDATION_SHM_SOURCES}
		${FOUNDATION_RUNTIME_SOURCES})
	target_include_directories(${name} PUBLIC ${FOUNDATION_PUBLIC_INCLUDES}
		PRIVATE ${PROJECT_SOURCE_DIR}/shm ${PROJECT_SOURCE_DIR}/runtime)
	target_compile_definitions(${name} PRIVATE XXH_INLINE_ALL= STAP_SDT_ARG_CONSTRAINT=nr
		FND_VERSION_STRING="${PROJECT_VERSION}" ${arg_DEFINITIONS})
	target_compile_options(${name} PRIVATE ${arg_OPTIONS})
	target_link_libraries(${name} PUBLIC ${FOUNDATION_PRIVATE_LIBRARIES})
endfunction()

# A program that is asked to fail must be seen to fail. Its exit status is swallowed, so that only
# the report in its output is left to notice, as with a leak in a Criterion test.
function(fnd_positive_control name)
	cmake_parse_arguments(arg "" "" "LABELS" ${ARGN})
	fnd_add_bounded_test(${name} TIMEOUT 30 LABELS ${arg_LABELS}
		COMMAND ${PROJECT_SOURCE_DIR}/tests/controls/swallow.sh $<TARGET_FILE:${name}>)
	set_tests_properties(${name} PROPERTIES WILL_FAIL TRUE)
endfunction()

function(fnd_fuzz_target name)
	if(NOT FOUNDATION_SANITIZE STREQUAL "fuzzer")
		return()
	endif()
	fnd_test_executable(${name} foundation_static ${ARGN})
	target_link_options(${name} PRIVATE -fsanitize=fuzzer)
	# what is found goes into the first directory; the second, when there is one, is where to begin
	file(MAKE_DIRECTORY ${CMAKE_BINARY_DIR}/tests/corpus/${name})
	set(begin ${PROJECT_SOURCE_DIR}/tests/fuzz/corpus/${name})
	if(NOT EXISTS ${begin})
		set(begin)
	endif()
	fnd_add_bounded_test(${name} TIMEOUT 30 LABELS fuzz
		COMMAND $<TARGET_FILE:${name}> -max_total_time=5 -timeout=5 -print_final_stats=1
			${CMAKE_BINARY_DIR}/tests/corpus/${name} ${begin})
endfunction()
