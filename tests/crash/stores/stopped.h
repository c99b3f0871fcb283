/* SPDX-License-Identifier: MIT */
/* What must hold while a writer stands still between two of its stores, alive. */
#ifndef FND_TESTS_STORES_STOPPED_H
#define FND_TESTS_STORES_STOPPED_H

#include "stores.h"

/* Writers that were refused because the one who stands still holds what they need. */
extern uint64_t stopped_refused;

/* A table nobody is stopped in; before anything else is prepared. */
void stopped_begin(void);
/* The bystander's handles, and what it is answered before the operation and after it. */
void stopped_open(const struct operation *o);
void stopped_before(void);
void stopped_after(void);
void stopped_end(void);
/* NULL, or what is wrong with the state that is in place. With HOOKS_LOG. */
const char *check_stopped(void);

#endif
