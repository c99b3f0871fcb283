// SPDX-License-Identifier: MIT
/* The memb flavour by calls into its shared library: what every other program gets. */
#define RCU_MEMBARRIER
#include <urcu.h>

#define PEER bench_lfht_memb_calls
#define PEER_NAME "lfht-memb-calls"
#define PEER_SCHEME "urcu-memb-calls"
#include "bench_peer_lfht.h"
