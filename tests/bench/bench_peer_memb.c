// SPDX-License-Identifier: MIT
/* The memb flavour with its read side inlined: what only programs under the LGPL or alike may do. */
#define _LGPL_SOURCE
#define RCU_MEMBARRIER
#include <urcu.h>

#define PEER bench_lfht_memb
#define PEER_NAME "lfht-memb"
#define PEER_SCHEME "urcu-memb"
#include "bench_peer_lfht.h"
