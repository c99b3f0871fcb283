// SPDX-License-Identifier: MIT
/* Walking a stopped child to an instruction, by breakpoints and single steps. */
#include <stdio.h>
#include <sys/ptrace.h>
#include <sys/user.h>
#include <sys/wait.h>

#include "instructions.h"

#define STEPS_MAX 200000

static uint64_t rip[STEPS_MAX + 1];   /* before each instruction of the operation */
static uint32_t times[STEPS_MAX + 1]; /* how often that one was met, this time included */

__attribute__((noinline)) void finished(void)
{
	__asm__ volatile("nop" ::
				 : "memory");
}

static bool waited(pid_t pid)
{
	int status;

	return waitpid(pid, &status, 0) == pid && WIFSTOPPED(status);
}

static bool step(pid_t pid)
{
	return ptrace(PTRACE_SINGLESTEP, pid, NULL, NULL) == 0 && waited(pid);
}

static uint64_t rip_of(pid_t pid)
{
	struct user_regs_struct regs;

	return ptrace(PTRACE_GETREGS, pid, NULL, &regs) == 0 ? regs.rip : 0;
}

uint64_t trace(pid_t pid)
{
	uint64_t n;

	for (n = 0; n < STEPS_MAX; n++) {
		rip[n] = rip_of(pid);
		times[n] = 1;
		for (uint64_t i = n; i-- > 0;) {
			if (rip[i] == rip[n]) {
				times[n] = times[i] + 1;
				break;
			}
		}
		if (rip[n] == (uintptr_t)finished || !step(pid))
			break;
	}
	return n;
}

/* Lets the child run to the @nth time it meets the instruction at @at. */
static bool run_to(pid_t pid, uint64_t at, uint32_t nth)
{
	struct user_regs_struct regs;
	long text = ptrace(PTRACE_PEEKTEXT, pid, at, NULL);

	for (uint32_t i = 0; i < nth; i++) {
		if (i > 0 && !step(pid))
			return false;
		if (ptrace(PTRACE_POKETEXT, pid, at, (text & ~0xffL) | 0xcc) != 0 ||
		    ptrace(PTRACE_CONT, pid, NULL, NULL) != 0 || !waited(pid) ||
		    ptrace(PTRACE_GETREGS, pid, NULL, &regs) != 0 || regs.rip != at + 1)
			return false;
		regs.rip = at;
		ptrace(PTRACE_POKETEXT, pid, at, text);
		ptrace(PTRACE_SETREGS, pid, NULL, &regs);
	}
	return true;
}

/*
 * Before instruction @k. A step costs a trip into the kernel and back, so the child runs to a breakpoint at
 * an instruction shortly before that is not met often, and is stepped from there.
 */
bool walk(pid_t pid, uint64_t k)
{
	uint64_t from = 0, best = k;

	for (uint64_t j = k; j > 0 && k - j < best; j--) {
		uint64_t costs = k - j + 4ULL * times[j];

		if (costs < best) {
			best = costs;
			from = j;
		}
	}
	if (from && !run_to(pid, rip[from], times[from]))
		return false;
	for (uint64_t j = from; j < k; j++)
		if (!step(pid))
			return false;
	return k == 0 || rip_of(pid) == rip[k];
}
