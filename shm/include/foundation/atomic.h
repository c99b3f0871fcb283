/* SPDX-License-Identifier: MIT */
/*
 * Every atomic access to the segment goes through this header.
 *
 * They are __atomic_* builtins: visible to ThreadSanitizer and to store hooks, where liburcu's
 * uatomic_* inline assembly is not, and free of _Atomic, which C++ cannot parse. Non-relaxed accesses
 * and fences carry a pair label at the place of use; docs/memory-model.md defines the labels.
 */
#ifndef FOUNDATION_SHM_ATOMIC_H
#define FOUNDATION_SHM_ATOMIC_H

#include <stdint.h>

/* Barrier: none. Staleness must be harmless at the place of use. */
#define fnd_load_relaxed(p) __atomic_load_n((p), __ATOMIC_RELAXED)
#define fnd_store_relaxed(p, v) __atomic_store_n((p), (v), __ATOMIC_RELAXED)

/* Barrier: acquire. */
#define fnd_load_acquire(p) __atomic_load_n((p), __ATOMIC_ACQUIRE)

/* Barrier: release. */
#define fnd_store_release(p, v) __atomic_store_n((p), (v), __ATOMIC_RELEASE)

/* Barrier: full. */
#define fnd_load_seq_cst(p) __atomic_load_n((p), __ATOMIC_SEQ_CST)
#define fnd_fetch_add(p, v) __atomic_fetch_add((p), (v), __ATOMIC_SEQ_CST)
#define fnd_exchange(p, v) __atomic_exchange_n((p), (v), __ATOMIC_SEQ_CST)
#define fnd_fence_full() __atomic_thread_fence(__ATOMIC_SEQ_CST)

/* Barrier: none on the processor; the compiler moves nothing across. */
#define fnd_compiler_barrier() __atomic_signal_fence(__ATOMIC_SEQ_CST)

/* Barrier: full when it succeeds, acquire when it fails. Strong. */
#define fnd_cas(p, expected, desired)                                                             \
	__extension__({                                                                           \
		__typeof__(*(p)) fnd_expected_ = (expected);                                      \
		__atomic_compare_exchange_n((p), &fnd_expected_, (desired), 0, __ATOMIC_SEQ_CST,  \
					    __ATOMIC_ACQUIRE);                                    \
	})

/* Barrier: full. Raises *p to v, never lowers it. */
static inline void fnd_raise_u64(uint64_t *p, uint64_t v)
{
	uint64_t seen = __atomic_load_n(p, __ATOMIC_RELAXED);

	while (seen < v && !__atomic_compare_exchange_n(p, &seen, v, 0, __ATOMIC_SEQ_CST,
							__ATOMIC_RELAXED))
		;
}

static inline void fnd_raise_u32(uint32_t *p, uint32_t v)
{
	uint32_t seen = __atomic_load_n(p, __ATOMIC_RELAXED);

	while (seen < v && !__atomic_compare_exchange_n(p, &seen, v, 0, __ATOMIC_SEQ_CST,
							__ATOMIC_RELAXED))
		;
}

static inline void fnd_pause(void)
{
#if defined(__x86_64__)
	__builtin_ia32_pause();
#endif
}

#endif
