/* SPDX-License-Identifier: MIT */
/* How the library's own files report a failure: the code as result, the place in the detail. */
#ifndef FOUNDATION_SHM_ERROR_H
#define FOUNDATION_SHM_ERROR_H

#include <foundation/error.h>

/* Stores the detail of this thread's failure and returns -err. */
#define fnd_fail fnd_error_set

#endif
