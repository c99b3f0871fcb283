# SPDX-License-Identifier: MIT
# One library, shared and static, of the objects of shm/ and runtime/; and its installation.

set(FOUNDATION_PUBLIC_INCLUDES ${PROJECT_SOURCE_DIR}/shm/include
	${PROJECT_SOURCE_DIR}/runtime/include)
set(FOUNDATION_PRIVATE_LIBRARIES PkgConfig::ISAL PkgConfig::MSGPACK Threads::Threads
	${CMAKE_DL_LIBS} ${FOUNDATION_URCU_LIBRARIES})
set(FOUNDATION_SYMBOL_MAP ${PROJECT_SOURCE_DIR}/cmake/libfoundation.map)

add_library(foundation SHARED $<TARGET_OBJECTS:foundation_shm>
	$<TARGET_OBJECTS:foundation_runtime>)
set_target_properties(foundation PROPERTIES
	VERSION ${PROJECT_VERSION} SOVERSION ${PROJECT_VERSION_MAJOR} INSTALL_RPATH ""
	LINK_DEPENDS ${FOUNDATION_SYMBOL_MAP})
target_link_options(foundation PRIVATE
	-Wl,--version-script=${FOUNDATION_SYMBOL_MAP} -Wl,-Bsymbolic-functions)
if(FOUNDATION_SANITIZE STREQUAL "")
	target_link_options(foundation PRIVATE -Wl,-z,defs)
endif()
target_link_libraries(foundation PRIVATE ${FOUNDATION_PRIVATE_LIBRARIES})
target_include_directories(foundation INTERFACE ${FOUNDATION_PUBLIC_INCLUDES})

add_library(foundation_static STATIC $<TARGET_OBJECTS:foundation_shm>
	$<TARGET_OBJECTS:foundation_runtime>)
add_library(libfoundation_static ALIAS foundation_static)
set_target_properties(foundation_static PROPERTIES OUTPUT_NAME foundation)
target_link_libraries(foundation_static INTERFACE ${FOUNDATION_PRIVATE_LIBRARIES})
target_include_directories(foundation_static INTERFACE ${FOUNDATION_PUBLIC_INCLUDES})

install(TARGETS foundation foundation_static
	LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR}
	ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR})
install(DIRECTORY ${PROJECT_SOURCE_DIR}/shm/include/foundation
	${PROJECT_SOURCE_DIR}/runtime/include/foundation
	DESTINATION ${CMAKE_INSTALL_INCLUDEDIR} FILES_MATCHING PATTERN "*.h")

file(RELATIVE_PATH FOUNDATION_PC_UP /${CMAKE_INSTALL_LIBDIR}/pkgconfig /)
string(REGEX REPLACE "/$" "" FOUNDATION_PC_UP "${FOUNDATION_PC_UP}")
configure_file(${PROJECT_SOURCE_DIR}/cmake/foundation.pc.in
	${PROJECT_BINARY_DIR}/foundation.pc @ONLY)
install(FILES ${PROJECT_BINARY_DIR}/foundation.pc
	DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)

include(CMakePackageConfigHelpers)
configure_package_config_file(${PROJECT_SOURCE_DIR}/cmake/foundationConfig.cmake.in
	${PROJECT_BINARY_DIR}/foundationConfig.cmake
	INSTALL_DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/foundation
	PATH_VARS CMAKE_INSTALL_LIBDIR CMAKE_INSTALL_INCLUDEDIR)
write_basic_package_version_file(${PROJECT_BINARY_DIR}/foundationConfigVersion.cmake
	COMPATIBILITY SameMinorVersion)
install(FILES ${PROJECT_BINARY_DIR}/foundationConfig.cmake
	${PROJECT_BINARY_DIR}/foundationConfigVersion.cmake
	DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/foundation)
