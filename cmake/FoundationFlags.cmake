# SPDX-License-Identifier: MIT
# Compiler and linker flags of everything in the tree.

set(CMAKE_C_STANDARD 11)
set(CMAKE_C_STANDARD_REQUIRED ON)
set(CMAKE_C_EXTENSIONS ON)
set(CMAKE_C_VISIBILITY_PRESET hidden)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)

add_compile_options(-D_GNU_SOURCE=) # empty, as where a file defines it itself
add_compile_options(-Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes
	-Wpointer-arith -Wvla -fstack-protector-strong)
# The library's calls of its own functions are its own: nobody may put others in their place.
add_compile_options(-fno-semantic-interposition)
if(FOUNDATION_WERROR)
	add_compile_options(-Werror)
endif()
if(CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64|i.86")
	add_compile_options(-fcf-protection)
endif()
# -z now: lazy binding would run the dynamic linker inside the first call of each function.
add_link_options(-Wl,-z,relro,-z,now -Wl,--as-needed)

if(FOUNDATION_SANITIZE STREQUAL "")
	if(NOT CMAKE_BUILD_TYPE STREQUAL "Debug" AND NOT FOUNDATION_COVERAGE)
		add_compile_options(-U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=2)
	endif()
elseif(FOUNDATION_SANITIZE STREQUAL "address")
	set(sanitizers -fsanitize=address,undefined)
elseif(FOUNDATION_SANITIZE STREQUAL "thread")
	set(sanitizers -fsanitize=thread)
elseif(FOUNDATION_SANITIZE STREQUAL "fuzzer")
	if(NOT CMAKE_C_COMPILER_ID STREQUAL "Clang")
		message(FATAL_ERROR "FOUNDATION_SANITIZE=fuzzer needs clang: use the fuzz preset")
	endif()
	set(sanitizers -fsanitize=fuzzer-no-link,address,undefined)
else()
	message(FATAL_ERROR "FOUNDATION_SANITIZE=${FOUNDATION_SANITIZE}: not one of "
		"address, thread, fuzzer")
endif()
if(sanitizers)
	# Without -fno-sanitize-recover undefined behaviour is a line of output and exit status 0.
	add_compile_options(${sanitizers} -fno-sanitize-recover=all -fno-omit-frame-pointer)
	if(CMAKE_C_COMPILER_ID STREQUAL "GNU")
		# Instrumented code confuses gcc about what has been set; that ThreadSanitizer
		# does not see fences is known, the order of the library is on its atomics.
		add_compile_options(-Wno-error=maybe-uninitialized -Wno-tsan)
	endif()
	add_link_options(${sanitizers})
endif()

if(FOUNDATION_COVERAGE)
	add_compile_options(--coverage)
	add_link_options(--coverage)
endif()
