// SPDX-License-Identifier: MIT
/*
 * Our own __tsan_*: a log of the stores to the segment, and the functions that copy memory.
 *
 * One thread runs, so an atomic operation is a plain one here. A compare-and-swap that fails stores
 * nothing and is not logged. memcpy() and memset() are several stores of eight bytes, in the order of
 * addresses; the real ones may use wider ones in another order, which the suite that steps through the
 * release build covers.
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>

#include "hooks.h"

#define LOG_MAX (1u << 20)
#define TRAP_FLAG 0x100

char *hooks_base;
uint64_t hooks_bytes;
enum hook_mode hooks_mode;
uint64_t hooks_counted;
uint64_t hooks_loads;

static struct store store_log[LOG_MAX];
static size_t used;
static size_t pending; /* entries below it have their `after` */

static uint64_t peek(uint32_t off, unsigned int bytes)
{
	const char *p = hooks_base + off;

	switch (bytes) {
	case 1:
		return *(const uint8_t *)p;
	case 2:
		return *(const uint16_t *)p;
	case 4:
		return *(const uint32_t *)p;
	default:
		return *(const uint64_t *)p;
	}
}

static void poke(uint32_t off, unsigned int bytes, uint64_t v)
{
	char *p = hooks_base + off;

	switch (bytes) {
	case 1:
		*(volatile uint8_t *)p = (uint8_t)v;
		break;
	case 2:
		*(volatile uint16_t *)p = (uint16_t)v;
		break;
	case 4:
		*(volatile uint32_t *)p = (uint32_t)v;
		break;
	default:
		*(volatile uint64_t *)p = v;
	}
}

/* The stores announced so far have happened by the time the next one is announced. */
static void resolve(void)
{
	for (; pending < used; pending++)
		store_log[pending].after = peek(store_log[pending].off, store_log[pending].bytes);
}

static void log_one(uint32_t off, unsigned int bytes, bool begins, void *where)
{
	struct store *s = &store_log[used];

	if (used == LOG_MAX) {
		fputs("stores: the log is full\n", stderr);
		exit(2);
	}
	s->before = peek(off, bytes);
	s->off = off;
	s->bytes = (uint8_t)bytes;
	s->begins = begins;
	s->where = where;
	used++;
}

static inline void announce(const volatile void *p, size_t bytes, void *where)
{
	uintptr_t off = (uintptr_t)p - (uintptr_t)hooks_base;

	if (off >= hooks_bytes || hooks_mode == HOOKS_OFF)
		return;
	hooks_counted++;
	if (hooks_mode == HOOKS_COUNT)
		return;
	resolve();
	for (size_t at = 0; at < bytes; at += 8)
		log_one((uint32_t)(off + at), bytes - at < 8 ? (unsigned int)(bytes - at) : 8, at == 0, where);
}

size_t hooks_mark(void)
{
	resolve();
	return used;
}

const struct store *hooks_entry(size_t i)
{
	resolve();
	return &store_log[i];
}

void hooks_undo(size_t mark)
{
	while (used > mark)
		store_revert(&store_log[--used]);
	pending = used;
}

void hooks_forget(size_t mark)
{
	used = pending = mark;
}

void store_apply(const struct store *s)
{
	poke(s->off, s->bytes, s->after);
}

void store_revert(const struct store *s)
{
	poke(s->off, s->bytes, s->before);
}

/* --- what the compiler calls ---------------------------------------------------------------------- */

#define HERE __builtin_return_address(0)

void __tsan_init(void);
void __tsan_init(void)
{
}
void __tsan_func_entry(void *pc);
void __tsan_func_entry(void *pc)
{
	(void)pc;
}
void __tsan_func_exit(void *pc);
void __tsan_func_exit(void *pc)
{
	(void)pc;
}
void __tsan_vptr_update(void **p, void *v);
void __tsan_vptr_update(void **p, void *v)
{
	(void)v;
	announce(p, 8, HERE);
}
void __tsan_read_range(void *p, unsigned long n);
void __tsan_read_range(void *p, unsigned long n)
{
	(void)p, (void)n;
}

/* A struct assignment: by whatever instructions. None goes to the segment; one that did would not add up. */
void __tsan_write_range(void *p, unsigned long n);
void __tsan_write_range(void *p, unsigned long n)
{
	for (unsigned long at = 0; at < n; at += 8)
		announce((char *)p + at, n - at < 8 ? n - at : 8, HERE);
}

#define PLAIN(n)                                      \
	void __tsan_read##n(void *p);                 \
	void __tsan_read##n(void *p)                  \
	{                                             \
		(void)p;                              \
		hooks_loads++;                        \
	}                                             \
	void __tsan_unaligned_read##n(const void *p); \
	void __tsan_unaligned_read##n(const void *p)  \
	{                                             \
		(void)p;                              \
		hooks_loads++;                        \
	}                                             \
	void __tsan_write##n(void *p);                \
	void __tsan_write##n(void *p)                 \
	{                                             \
		announce(p, n, HERE);                 \
	}                                             \
	void __tsan_unaligned_write##n(void *p);      \
	void __tsan_unaligned_write##n(void *p)       \
	{                                             \
		announce(p, n, HERE);                 \
	}
PLAIN(1)
PLAIN(2)
PLAIN(4)
PLAIN(8)
PLAIN(16)

#define FETCH(bits, name, op)                                                           \
	uint##bits##_t __tsan_atomic##bits##_fetch_##name(volatile uint##bits##_t *p,   \
							  uint##bits##_t v, int order); \
	uint##bits##_t __tsan_atomic##bits##_fetch_##name(volatile uint##bits##_t *p,   \
							  uint##bits##_t v, int order)  \
	{                                                                               \
		uint##bits##_t was = *p;                                                \
		(void)order;                                                            \
		announce(p, bits / 8, HERE);                                            \
		*p = (uint##bits##_t)(was op v);                                        \
		return was;                                                             \
	}

#define ATOMIC(bits)                                                                               \
	uint##bits##_t __tsan_atomic##bits##_load(const volatile uint##bits##_t *p, int order);    \
	uint##bits##_t __tsan_atomic##bits##_load(const volatile uint##bits##_t *p, int order)     \
	{                                                                                          \
		(void)order;                                                                       \
		hooks_loads++;                                                                     \
		return *p;                                                                         \
	}                                                                                          \
	void __tsan_atomic##bits##_store(volatile uint##bits##_t *p, uint##bits##_t v, int order); \
	void __tsan_atomic##bits##_store(volatile uint##bits##_t *p, uint##bits##_t v, int order)  \
	{                                                                                          \
		(void)order;                                                                       \
		announce(p, bits / 8, HERE);                                                       \
		*p = v;                                                                            \
	}                                                                                          \
	uint##bits##_t __tsan_atomic##bits##_exchange(volatile uint##bits##_t *p,                  \
						      uint##bits##_t v, int order);                \
	uint##bits##_t __tsan_atomic##bits##_exchange(volatile uint##bits##_t *p,                  \
						      uint##bits##_t v, int order)                 \
	{                                                                                          \
		uint##bits##_t was = *p;                                                           \
		(void)order;                                                                       \
		announce(p, bits / 8, HERE);                                                       \
		*p = v;                                                                            \
		return was;                                                                        \
	}                                                                                          \
	FETCH(bits, add, +)                                                                        \
	FETCH(bits, sub, -)                                                                        \
	FETCH(bits, and, &)                                                                        \
	FETCH(bits, or, |)                                                                         \
	FETCH(bits, xor, ^)                                                                        \
	int __tsan_atomic##bits##_compare_exchange_strong(volatile uint##bits##_t *p,              \
							  uint##bits##_t *expected,                \
							  uint##bits##_t v, int order, int fail);  \
	int __tsan_atomic##bits##_compare_exchange_strong(volatile uint##bits##_t *p,              \
							  uint##bits##_t *expected,                \
							  uint##bits##_t v, int order, int fail)   \
	{                                                                                          \
		uint##bits##_t was = *p;                                                           \
		(void)order, (void)fail;                                                           \
		if (was != *expected) {                                                            \
			*expected = was;                                                           \
			return 0;                                                                  \
		}                                                                                  \
		announce(p, bits / 8, HERE);                                                       \
		*p = v;                                                                            \
		return 1;                                                                          \
	}
ATOMIC(8)
ATOMIC(16)
ATOMIC(32)
ATOMIC(64)

void __tsan_atomic_thread_fence(int order);
void __tsan_atomic_thread_fence(int order)
{
	(void)order;
}
void __tsan_atomic_signal_fence(int order);
void __tsan_atomic_signal_fence(int order)
{
	(void)order;
}

/* --- memory functions, wrapped by the linker ------------------------------------------------------ */

void *__real_memcpy(void *to, const void *from, size_t n);
void *__real_memmove(void *to, const void *from, size_t n);
void *__real_memset(void *to, int c, size_t n);
void *__wrap_memcpy(void *to, const void *from, size_t n);
void *__wrap_memmove(void *to, const void *from, size_t n);
void *__wrap_memset(void *to, int c, size_t n);

static bool watched(const void *p)
{
	return (uintptr_t)p - (uintptr_t)hooks_base < hooks_bytes && hooks_mode != HOOKS_OFF;
}

/* One store of up to eight bytes that ends at a multiple of eight or at @n. */
static size_t piece(char *to, const char *from, int c, size_t n, void *where)
{
	uint64_t v = 0x0101010101010101ULL * (uint8_t)c;
	size_t bytes = 8;

	while (bytes > n || (uintptr_t)to % bytes)
		bytes /= 2;
	if (from)
		__real_memcpy(&v, from, bytes);
	announce(to, bytes, where);
	poke((uint32_t)(to - hooks_base), (unsigned int)bytes, v);
	return bytes;
}

void *__wrap_memcpy(void *to, const void *from, size_t n)
{
	if (!watched(to))
		return __real_memcpy(to, from, n);
	for (size_t at = 0; at < n;)
		at += piece((char *)to + at, (const char *)from + at, 0, n - at, HERE);
	return to;
}

void *__wrap_memmove(void *to, const void *from, size_t n)
{
	return watched(to) ? __wrap_memcpy(to, from, n) : __real_memmove(to, from, n);
}

void *__wrap_memset(void *to, int c, size_t n)
{
	if (!watched(to))
		return __real_memset(to, c, n);
	for (size_t at = 0; at < n;)
		at += piece((char *)to + at, NULL, c, n - at, HERE);
	return to;
}

/* --- the control ---------------------------------------------------------------------------------- */

static uint64_t writes;
static struct sigaction old_segv, old_trap;

static void on_fault(int sig, siginfo_t *info, void *context)
{
	ucontext_t *c = context;

	(void)sig;
	if ((uintptr_t)info->si_addr - (uintptr_t)hooks_base >= hooks_bytes) {
		signal(SIGSEGV, SIG_DFL); /* a real one: again, and for good */
		return;
	}
	writes++;
	mprotect(hooks_base, hooks_bytes, PROT_READ | PROT_WRITE);
	c->uc_mcontext.gregs[REG_EFL] |= TRAP_FLAG;
}

static void on_step(int sig, siginfo_t *info, void *context)
{
	ucontext_t *c = context;

	(void)sig, (void)info;
	c->uc_mcontext.gregs[REG_EFL] &= ~(greg_t)TRAP_FLAG;
	mprotect(hooks_base, hooks_bytes, PROT_READ);
}

void hooks_watch_begin(void)
{
	struct sigaction fault = { .sa_sigaction = on_fault, .sa_flags = SA_SIGINFO };
	struct sigaction step = { .sa_sigaction = on_step, .sa_flags = SA_SIGINFO };

	writes = 0;
	hooks_counted = 0;
	hooks_mode = HOOKS_COUNT;
	sigaction(SIGSEGV, &fault, &old_segv);
	sigaction(SIGTRAP, &step, &old_trap);
	mprotect(hooks_base, hooks_bytes, PROT_READ);
}

uint64_t hooks_watch_end(void)
{
	mprotect(hooks_base, hooks_bytes, PROT_READ | PROT_WRITE);
	sigaction(SIGSEGV, &old_segv, NULL);
	sigaction(SIGTRAP, &old_trap, NULL);
	hooks_mode = HOOKS_OFF;
	return writes;
}
