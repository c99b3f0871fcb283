/* SPDX-License-Identifier: MIT */
/*
 * Who is dead: kernel evidence, and nothing else.
 *
 * Stealing a lock, reaping a slot and recovering a shard all trust the answer FND_PROVEN_DEAD. One
 * false "dead" voids every other proof of this library, so each doubt (no permission, no descriptor
 * left, no /proc, a line that looks odd) is answered FND_ALIVE_OR_UNKNOWN. Deaths may be missed;
 * the cases where they are missed are listed at the end of this comment.
 *
 * What counts as evidence against a recorded identity:
 *
 *   E1  pidfd_open() says ESRCH: no process and no thread has this number.
 *   E2  poll() on the pidfd says exited: the whole thread group is dead, reaped or not. A main
 *       thread that left while other threads run does not make the pidfd readable. (While a thread
 *       execs, a kernel may say "exited" for an instant: the program that attached is then past
 *       return, so the answer is still right about the owner of the slot.)
 *   E3  the pidfd's inode is not the recorded one: the pid belongs to a later process (Linux 6.9
 *       on, where the inode number is unique until reboot).
 *   E4  before 6.9: the start time is not the recorded one, read in the same time namespace.
 *   E5  with FND_EVIDENCE_DEEP: the process has called exec. Pid, inode and start time stay the
 *       same, so the proof is that its maps are not empty and hold no mapping of the segment, in
 *       any thread.
 *   E6  a thread of a living process: tgkill(pid, tid, 0) says ESRCH, between two checks of the
 *       process.
 *
 * Not evidence, though it looks like it: kill(pid, 0) (succeeds on a zombie, and on whoever has the
 * pid now), the state letter of /proc/PID/stat ('Z' when only the main thread has left), empty maps
 * (the same case), ENOENT on /proc/PID (hidepid), time.
 *
 * What the caller owes:
 *   - the identity was recorded in this boot; compare boot ids first;
 *   - the answer is about the slot's word as it was before the call: act by compare-and-swap from
 *     that word, generation included (a new attachment, or one after exec, looks the same);
 *   - the segment is mapped before a slot becomes active and unmapped after the slot was given
 *     back, for E5 takes "does not map it" as "left by exec";
 *   - a caller that asks for E5 has the segment mapped itself: its own maps are the control that
 *     dev and ino are what the kernel prints for this file;
 *   - a child made by vfork() or clone(CLONE_VM) without CLONE_THREAD uses the parent's memory but
 *     is another process: it must not use the parent's slot, whose owner is dead when the parent
 *     is.
 *
 * Missed deaths (answered "alive or unknown"; most end with the next look, or when the pid is
 * free):
 *   - pidfd_open() is refused or missing (before Linux 5.3, seccomp), or no descriptor or memory is
 *     left;
 *   - exec, when FND_EVIDENCE_DEEP is not given, the caller may not read the maps (other user,
 *     setuid, not dumpable, hidepid), /proc is not mounted, the new program has the segment mapped
 *     again, or threads come and go while the maps are read;
 *   - before 6.9: the pid was taken again within the same clock tick (10 ms), or by a thread (a
 *     thread id is no process: E1 does not apply and its start time is not looked at), or /proc
 *     cannot be read;
 *   - the start time was read in another time namespace (E4 only);
 *   - the observer lives in another pid namespace than the recorded process, or cannot learn its
 *     own (no /proc, and before 6.11);
 *   - E4 and E5, when the observer may not read its own /proc files (not dumpable, other user);
 *   - a thread's id was taken again by a thread of the same process;
 *   - a main thread that left while others run: it stays visible to tgkill() until they end;
 *   - a slot still being claimed whose pid was taken again, or whose owner is a zombie.
 *
 * Outside of the promise: a process restored from a checkpoint (CRIU) has a new inode and start
 * time and is another process for all of these rules; a seccomp filter that answers ESRCH for
 * pidfd_open().
 *
 * All functions: any thread, not from a signal handler; nothing is allocated; errno is kept; no
 * cancellation point. Up to four descriptors are open for the time of a call.
 */
#ifndef FND_SHM_EVIDENCE_H
#define FND_SHM_EVIDENCE_H

#include <stdint.h>

/* pidfd_ino is unique until reboot: recorded on a kernel with pidfs. */
#define FND_IDENTITY_EXACT 1u

/*
 * How a process is told from a later one with its pid. Plain data; copy it out of the segment
 * first.
 */
struct fnd_identity {
	uint32_t pid;
	uint32_t flags;      /* FND_IDENTITY_* */
	uint64_t pidfd_ino;  /* 0 unknown */
	uint64_t start_time; /* field 22 of /proc/PID/stat, clock ticks since boot; 0 unknown */
	uint32_t pidns;      /* inode of the pid namespace; 0: the caller has compared namespaces */
	uint32_t timens;     /* inode of the time namespace of start_time; 0: there is none */
};
_Static_assert(sizeof(struct fnd_identity) == 32, "copied to and from the segment");

enum fnd_evidence {
	FND_ALIVE_OR_UNKNOWN = 0,
	FND_PROVEN_DEAD = 1,
};

enum fnd_evidence_rule {
	FND_RULE_NONE = 0,        /* pidfd_open() does not work here: no death is ever proven */
	FND_RULE_PIDFD_INODE = 1, /* E3 */
	FND_RULE_START_TIME = 2,  /* E4 */
};

/*
 * Also look whether the process has called exec (E5). Reads the maps of every thread of a living
 * process: tens of microseconds to milliseconds. Meant for a lock wait that has become long, a full
 * slot table, a stalled grace period; the plain check is for every wait.
 */
#define FND_EVIDENCE_DEEP 1u

/**
 * fnd_identity_self - the identity of the calling process.
 * @ret_id: filled on success. start_time is 0 where /proc is not there; FND_IDENTITY_EXACT is
 *	missing before Linux 6.9. Record it again in a child after fork().
 *
 * Returns: 0, or -EMFILE, -ENFILE, -ENOMEM when the kernel had no descriptor to look with.
 * Progress and cost: about 35 us. Ordering: none. If I die: nothing to repair.
 */
int fnd_identity_self(struct fnd_identity *ret_id);

/**
 * fnd_evidence_process - is the process with this identity proven dead?
 * @id: private copy of the recorded identity.
 * @dev, @ino: st_dev and st_ino of the segment's file, used with FND_EVIDENCE_DEEP only; 0, 0: no
 *	E5.
 * @flags: 0 or FND_EVIDENCE_DEEP.
 *
 * Progress and cost: a living process costs pidfd_open, poll, fstat, close (3 to 6 us); before
 * Linux 6.9 also four reads in /proc (about 30 us). Ordering: what the dead process stored is
 * visible to a caller that was told FND_PROVEN_DEAD (its exit passes through the kernel's locks).
 * If I die: nothing to repair.
 */
enum fnd_evidence fnd_evidence_process(const struct fnd_identity *id, uint64_t dev, uint64_t ino,
				       unsigned flags);

/**
 * fnd_evidence_claiming - is the owner of a slot that is still being claimed proven dead?
 * @pid: pid or thread id from the claimed word. There is no identity yet: only E1 counts, and the
 *	caller has made sure that the number is of its own pid namespace.
 */
enum fnd_evidence fnd_evidence_claiming(uint32_t pid);

/**
 * fnd_evidence_thread - is this thread of that process proven dead?
 * @tid: thread id; the other parameters and the costs (plus 0.2 us) as for fnd_evidence_process().
 *
 * Dead when the process is, or by E6.
 */
enum fnd_evidence fnd_evidence_thread(const struct fnd_identity *id, uint32_t tid, uint64_t dev,
				      uint64_t ino, unsigned flags);

/**
 * fnd_evidence_status - how a dead process ended, if it is still a zombie.
 * @start_time: of the process meant: another one with its pid is told apart by it.
 * @ret_status: what waitpid(2) would give; untouched when nothing is known.
 *
 * Returns: 1, or 0: nothing is known. Progress and cost: one read in /proc.
 */
int fnd_evidence_status(uint32_t pid, uint64_t start_time, int *ret_status);

/** fnd_evidence_rule - which rule tells a reused pid here: an enum fnd_evidence_rule. */
int fnd_evidence_rule(void);

/** fnd_evidence_force_old_rule - test switch: compare start times as on a kernel before 6.9. */
void fnd_evidence_force_old_rule(int on);

#endif
