// SPDX-License-Identifier: MIT
/*
 * The quiescent-state flavour, inlined: a read section costs nothing, and in exchange every thread that
 * reads has to say now and then that it does not.
 */
#define _LGPL_SOURCE
#include <urcu-qsbr.h>

#define PEER bench_lfht_qsbr
#define PEER_NAME "lfht-qsbr"
#define PEER_SCHEME "urcu-qsbr"
#include "bench_peer_lfht.h"
