// SPDX-License-Identifier: (GPL-2.0-only OR MIT)
/*
 * Counts the timings that programs report through the probe foundation:lookup.
 *
 * Nothing is timed here: the program timed itself, and hands over the nanoseconds. One plain hash map
 * with atomic adds: processes move between processors, so per-processor maps would only cost a sum.
 */
#include <linux/bpf.h>
#include <linux/ptrace.h>
#include <stdbool.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>
#include <bpf/usdt.bpf.h>

#include "shmlat.h"

/* clang must not know what the value is, so that the mask below stays where it is */
#ifndef barrier_var
#define barrier_var(var) asm volatile("" \
				      : "+r"(var))
#endif

const volatile __u64 segment_id = 0; /* first half of the segment's uuid */
const volatile __u64 pidns_dev = 0;
const volatile __u64 pidns_ino = 0;

__u64 lost = 0;    /* samples of series that had no room */
__u64 foreign = 0; /* samples that make no sense: another version's, or somebody's game */

static struct shmlat_hist empty;

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 2048);
	__type(key, struct shmlat_key);
	__type(value, struct shmlat_hist);
} hists SEC(".maps");

/* As the user side names the process; the global number when it lives in another namespace. */
static __u32 current_pid(void)
{
	struct bpf_pidns_info ns = {};

	if (bpf_get_ns_current_pid_tgid(pidns_dev, pidns_ino, &ns, sizeof(ns)) == 0)
		return ns.tgid;
	return bpf_get_current_pid_tgid() >> 32;
}

SEC("usdt")
int BPF_USDT(on_lookup, __u64 segment, __u64 what, __u64 ns)
{
	struct shmlat_key key = {};
	struct shmlat_hist *hist;
	__u32 slot;

	if (segment != segment_id)
		return 0;
	key.table = what >> 32;
	key.op = (__u32)what;
	if (key.table >= SHMLAT_TABLES || key.op >= SHMLAT_OPS) {
		__sync_fetch_and_add(&foreign, 1);
		return 0;
	}
	key.pid = current_pid();
	hist = bpf_map_lookup_elem(&hists, &key);
	if (!hist) {
		/* two threads may both try: one of them makes it, both find it */
		bpf_map_update_elem(&hists, &key, &empty, BPF_NOEXIST);
		hist = bpf_map_lookup_elem(&hists, &key);
	}
	if (!hist) {
		__sync_fetch_and_add(&lost, 1);
		return 0;
	}
	slot = shmlat_slot(ns);
	barrier_var(slot);
	slot &= SHMLAT_SLOTS - 1;
	__sync_fetch_and_add(&hist->slot[slot], 1);
	return 0;
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
