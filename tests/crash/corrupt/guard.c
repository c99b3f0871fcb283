// SPDX-License-Identifier: MIT
/*
 * Pages nobody may touch before and behind each shared file mapping. Linked with --wrap=mmap,--wrap=munmap: the
 * library needs no switch for it.
 */
#include <sys/mman.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define GUARD ((size_t)256 << 20)

void *__real_mmap(void *addr, size_t length, int prot, int flags, int fd, off_t offset);
int __real_munmap(void *addr, size_t length);
void *__wrap_mmap(void *addr, size_t length, int prot, int flags, int fd, off_t offset);
int __wrap_munmap(void *addr, size_t length);

static struct {
	char *at;
	size_t length;
} guarded[64];

void *__wrap_mmap(void *addr, size_t length, int prot, int flags, int fd, off_t offset)
{
	char *around;

	if (fd < 0 || (flags & MAP_TYPE) != MAP_SHARED || addr)
		return __real_mmap(addr, length, prot, flags, fd, offset);
	for (size_t i = 0; i < sizeof(guarded) / sizeof(guarded[0]); i++) {
		if (guarded[i].at)
			continue;
		around = __real_mmap(NULL, length + 2 * GUARD, PROT_NONE,
				     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
		if (around == MAP_FAILED)
			return MAP_FAILED;
		guarded[i].at = around + GUARD;
		guarded[i].length = length;
		return __real_mmap(around + GUARD, length, prot, flags | MAP_FIXED, fd, offset);
	}
	return MAP_FAILED;
}

int __wrap_munmap(void *addr, size_t length)
{
	for (size_t i = 0; addr && i < sizeof(guarded) / sizeof(guarded[0]); i++) {
		if (guarded[i].at != addr)
			continue;
		guarded[i].at = NULL;
		return __real_munmap((char *)addr - GUARD, guarded[i].length + 2 * GUARD);
	}
	return __real_munmap(addr, length);
}
