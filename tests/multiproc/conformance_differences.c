// SPDX-License-Identifier: MIT
/*
 * Where private and shared differ: the table in docs/architecture.md, row by row, with another process that
 * owns a name; then what depends on the handle rather than on the flags.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <foundation/journal.h>

#include "conformance.h"

static char segment[64], dir[] = "/dev/shm/conformance.XXXXXX";
static pid_t peer;

int world_begin(struct fnd_segment **ret_seg)
{
	struct fnd_segment_options o = { .size = sizeof(o), .processes = 16, .threads = 32, .max_bytes = 128u << 20 };

	snprintf(segment, sizeof(segment), "conformance-%d", (int)getpid());
	if (!mkdtemp(dir) || setenv("FOUNDATION_STATE_DIR", dir, 1))
		return 1;
	alarm(120);
	return fnd_segment_create(segment, &o, ret_seg) != 0;
}

static void purge(const char *name)
{
	struct fnd_journal *j;

	if (fnd_journal_open(name, NULL, &j) == 0) {
		fnd_journal_purge(j);
		fnd_journal_close(j);
	}
}

int world_end(struct fnd_segment *seg)
{
	int err = fnd_segment_detach(seg);

	if (!err)
		err = fnd_segment_destroy(segment, 0);
	purge(segment);
	rmdir(dir);
	return err;
}

/* --- the table -------------------------------------------------------------------------------------- */

static int show(const char *name, const struct fnd_agent *a, void *arg)
{
	(void)a;
	*(int *)arg += strcmp(name, "theirs") == 0;
	return 0;
}

static int for_another(struct fnd_runtime *rt)
{
	return fnd_agent_register(rt, "new", (uint32_t)peer, NULL, 0, 0);
}

static int for_a_stranger(struct fnd_runtime *rt)
{
	return fnd_agent_register(rt, "new", 1, NULL, 0, 0);
}

static int look(struct fnd_runtime *rt)
{
	return fnd_agent_lookup(rt, "theirs", NULL, NULL);
}

static int also_mine(struct fnd_runtime *rt)
{
	return fnd_agent_register(rt, "theirs", 0, NULL, 0, 0);
}

/* 1 when the owner that everybody sees is this process afterwards. */
static int taken(struct fnd_runtime *rt)
{
	struct fnd_agent a;
	int err = fnd_agent_register(rt, "theirs", 0, NULL, 0, FND_REGISTER_TAKE);

	if (err || fnd_registry_lookup(fnd_runtime_registry(rt), "theirs", &a))
		return err ? err : -EIO;
	return a.owner.pid == (uint32_t)getpid();
}

static int gave_up(struct fnd_runtime *rt)
{
	return fnd_agent_unregister(rt, "theirs", 0);
}

static int forced(struct fnd_runtime *rt)
{
	return fnd_agent_unregister(rt, "theirs", FND_UNREGISTER_FORCE);
}

static int changed(struct fnd_runtime *rt)
{
	return fnd_agent_update(rt, "theirs", "\x81\xa1v\x01", 4);
}

static int listed(struct fnd_runtime *rt)
{
	int n = 0, err = fnd_agent_list(rt, show, &n);

	return err ? err : n;
}

static int counted(struct fnd_runtime *rt)
{
	return (int)fnd_agent_count(rt);
}

static int queried(struct fnd_runtime *rt)
{
	struct fnd_criterion c = { .attribute = "v", .op = FND_CRITERION_MISSING };
	int n = 0, err = fnd_agent_query(rt, &c, 1, show, &n);

	return err ? err : n;
}

static int enforce(struct fnd_runtime *rt, unsigned int percent)
{
	struct fnd_flag_change c = { FND_FLAG_ENFORCE_SHARED_STATE, percent };

	return fnd_flags_change(fnd_runtime_flags(rt), &c, 1, -1, NULL) < 0;
}

static int enforced_register(struct fnd_runtime *rt)
{
	int err = enforce(rt, 100) ? -EIO : fnd_agent_register(rt, "new", 0, NULL, 0, 0);

	return enforce(rt, 0) ? -EIO : err;
}

static int enforced_update(struct fnd_runtime *rt)
{
	int err = fnd_agent_register(rt, "new", 0, NULL, 0, 0);

	if (err || enforce(rt, 100))
		return -EIO;
	err = fnd_agent_update(rt, "new", NULL, 0);
	return enforce(rt, 0) ? -EIO : err;
}

static int enforced_unregister(struct fnd_runtime *rt)
{
	int err = fnd_agent_register(rt, "new", 0, NULL, 0, 0);

	if (err || enforce(rt, 100))
		return -EIO;
	err = fnd_agent_unregister(rt, "new", 0);
	return enforce(rt, 0) ? -EIO : err;
}

static const struct {
	const char *what;
	int (*run)(struct fnd_runtime *rt);
	int private, shared;
} table[] = {
	{ "register a name for another process", for_another, -EOPNOTSUPP, 0 },
	{ "register a name for a process that is no participant", for_a_stranger, -EOPNOTSUPP, -ESRCH },
	{ "look up another's name", look, -ENOENT, 0 },
	{ "register a name that another owns", also_mine, 0, -EEXIST },
	{ "take a name that another owns", taken, 0, 1 },
	{ "unregister another's name", gave_up, -ENOENT, -EPERM },
	{ "unregister another's name by force", forced, -ENOENT, 0 },
	{ "update another's name", changed, -ENOENT, 0 },
	{ "list shows another's name", listed, 0, 1 },
	{ "count counts another's name", counted, 0, 1 },
	{ "query finds another's name", queried, 0, 1 },
	{ "register with enforce_shared_state on", enforced_register, -EPERM, 0 },
	{ "update with enforce_shared_state on", enforced_update, -EPERM, 0 },
	{ "unregister with enforce_shared_state on", enforced_unregister, 0, 0 },
};

#define ROWS (sizeof(table) / sizeof(*table))

static pid_t peer_start(struct fnd_segment *seg)
{
	struct fnd_participant p;
	pid_t parent = getpid(), pid = fork();

	if (pid == 0) {
		struct fnd_segment *own;

		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (getppid() != parent || fnd_segment_attach(segment, NULL, &own))
			_exit(1);
		for (;;)
			pause();
	}
	for (unsigned int ms = 0; fnd_segment_participant(seg, (uint32_t)pid, &p) && ms < 20000; ms++)
		usleep(1000);
	return pid;
}

static int forget(const char *name, const struct fnd_agent *a, void *arg)
{
	(void)a;
	return fnd_registry_unregister(arg, name, FND_UNREGISTER_FORCE);
}

static int row(struct fnd_segment *seg, unsigned int i, const struct setting *s, int want)
{
	struct fnd_registry *reg;
	struct fnd_runtime *rt;
	int got;

	if (fnd_runtime_open(seg, NULL, &rt))
		return 1;
	reg = fnd_runtime_registry(rt);
	if (flags_set(fnd_runtime_flags(rt), s->flags[0]) ||
	    fnd_registry_register(reg, "theirs", (uint32_t)peer, NULL, 0, FND_REGISTER_TAKE))
		return 1;
	got = table[i].run(rt);
	if (got != want)
		fprintf(stderr, "difference %u, %s: %s: %d, not %d\n", i + 1, s->name, table[i].what, got, want);
	fnd_registry_list(reg, 0, forget, reg);
	fnd_runtime_close(rt);
	return got != want;
}

/* --- handles ---------------------------------------------------------------------------------------- */

struct refusals {
	unsigned int events;
};

static int refusal(const struct fnd_published *e, void *arg)
{
	((struct refusals *)arg)->events += strcmp(e->name, "state.refused") == 0;
	return 0;
}

/* Refused often at one call site, once at another: counted all, said twice. */
static int once_a_site(struct fnd_segment *seg)
{
	struct refusals r = { 0 };
	struct fnd_worker_state s;
	struct fnd_runtime *rt;
	uint64_t cursor;
	int err = 0;

	if (fnd_runtime_open(seg, NULL, &rt) || flags_set(fnd_runtime_flags(rt), settings[0].flags[0]) ||
	    enforce(rt, 100))
		return 1;
	cursor = fnd_events_head(fnd_runtime_events(rt));
	for (unsigned int i = 0; i < 5; i++)
		err |= fnd_agent_register(rt, "refused", 0, NULL, 0, 0) != -EPERM;
	err |= fnd_agent_register(rt, "refused", 0, NULL, 0, 0) != -EPERM;
	fnd_events_read(fnd_runtime_events(rt), &cursor, refusal, &r, NULL);
	fnd_runtime_state(rt, &s);
	err |= enforce(rt, 0) || r.events != 2 || s.refused != 6;
	if (err)
		fprintf(stderr, "refusals: %u events, %llu counted\n", r.events, (unsigned long long)s.refused);
	fnd_runtime_close(rt);
	return err;
}

static int shared_only(struct fnd_segment *seg)
{
	struct fnd_runtime_options o = { .size = sizeof(o), .flags = FND_RUNTIME_SHARED };
	struct fnd_runtime *rt = NULL;
	int err;

	fnd_shared_only_set(seg, 1);
	err = fnd_runtime_open(seg, NULL, &rt) != -EPERM || rt || fnd_runtime_open(seg, &o, &rt) != 0;
	fnd_shared_only_set(seg, 0);
	if (err)
		return 1;
	err = fnd_runtime_private(rt) || flags_set(fnd_runtime_flags(rt), settings[0].flags[0]) ||
	      fnd_agent_register(rt, "mine", 0, NULL, 0, 0) ||
	      fnd_registry_lookup(fnd_runtime_registry(rt), "mine", NULL) ||
	      fnd_agent_backend(rt) != FND_BACKEND_SHARED || fnd_agent_unregister(rt, "mine", 0);
	fnd_runtime_close(rt);
	return err;
}

static int forked(struct fnd_segment *seg)
{
	struct fnd_runtime *rt;
	int status = 1;
	pid_t pid;

	if (fnd_runtime_open(seg, NULL, &rt) || fnd_agent_register(rt, "mine", 0, NULL, 0, 0))
		return 1;
	pid = fork();
	if (pid == 0) {
		int err = fnd_agent_lookup(rt, "mine", NULL, NULL);

		fnd_runtime_close(rt);
		_exit(err != -FND_E_FORKED);
	}
	waitpid(pid, &status, 0);
	status |= fnd_agent_lookup(rt, "mine", NULL, NULL) | fnd_agent_unregister(rt, "mine", 0);
	fnd_runtime_close(rt);
	return status != 0;
}

/* Both flags off: what somebody registered for this process is its own, and how many are not is said. */
static int after_the_rollback(struct fnd_segment *seg)
{
	struct fnd_worker_state s;
	struct fnd_runtime *rt;
	int err;

	if (fnd_runtime_open(seg, NULL, &rt) || flags_set(fnd_runtime_flags(rt), settings[3].flags[0]) ||
	    fnd_agent_register(rt, "theirs", (uint32_t)peer, NULL, 0, 0) || fnd_agent_lookup(rt, "theirs", NULL, NULL) ||
	    fnd_registry_register(fnd_runtime_registry(rt), "for me", 0, NULL, 0, 0))
		return 1;
	err = flags_set(fnd_runtime_flags(rt), settings[0].flags[0]) || fnd_agent_lookup(rt, "for me", NULL, NULL) ||
	      fnd_agent_lookup(rt, "theirs", NULL, NULL) != -ENOENT || fnd_runtime_state(rt, &s) || s.uncommon != 1 ||
	      s.names != 1 || s.published != 1;
	fnd_registry_list(fnd_runtime_registry(rt), 0, forget, fnd_runtime_registry(rt));
	fnd_runtime_close(rt);
	return err;
}

static int old_worker(void)
{
	struct fnd_segment *own;
	struct fnd_runtime *rt;

	if (fnd_segment_attach(segment, NULL, &own) || fnd_runtime_open(own, NULL, &rt) ||
	    fnd_agent_register(rt, "worker", 0, "\x81\xa1v\x01", 4, 0))
		return 1;
	raise(SIGKILL);
	return 1;
}

static int count_clash(const struct fnd_clash *c, void *arg)
{
	(void)c;
	++*(int *)arg;
	return 0;
}

/* A worker that was killed while its name was shared, and its successor, whose name is private at first. */
static int after_a_death(struct fnd_segment *seg)
{
	static const int off[2] = { 0, 0 }, to[][2] = { { 0, 100 }, { 100, 0 }, { 100, 100 } };
	struct fnd_runtime *rt;
	struct fnd_agent a;
	int err = 0;

	if (fnd_runtime_open(seg, NULL, &rt))
		return 1;
	for (unsigned int i = 0; i < 3 && !err; i++) {
		int status = 1, clashes = 0;
		pid_t pid;

		if (flags_set(fnd_runtime_flags(rt), to[i]))
			return 1;
		pid = fork();
		if (pid == 0)
			_exit(old_worker());
		waitpid(pid, &status, 0);
		err = !WIFSIGNALED(status) || flags_set(fnd_runtime_flags(rt), off) ||
		      fnd_agent_register(rt, "worker", 0, "\x81\xa1v\x02", 4, 0) ||
		      flags_set(fnd_runtime_flags(rt), to[i]) || fnd_agent_lookup(rt, "worker", &a, NULL) ||
		      a.owner.pid != (uint32_t)getpid() || a.metadata[3] != 2 ||
		      fnd_runtime_clashes(rt, count_clash, &clashes) || clashes ||
		      fnd_agent_unregister(rt, "worker", 0) || flags_set(fnd_runtime_flags(rt), off);
	}
	fnd_runtime_close(rt);
	return err;
}

/* The shared registry has no room for what the private one has taken: the owner reads what it wrote. */
static int refused_for_room(struct fnd_segment *unused)
{
	static const int both[2] = { 0, 100 }, shared[2] = { 100, 100 };
	struct fnd_segment_options o = { .size = sizeof(o), .max_bytes = 8u << 20, .default_capacity = 64,
					 .processes = 16, .threads = 32 };
	struct fnd_runtime_options ro = { .size = sizeof(ro), .registry_capacity = 64 };
	unsigned char big[4 + 250] = { 0x81, 0xa1, 'v', 0xd9, 249 };
	struct fnd_registry *reg;
	struct fnd_segment *seg;
	struct fnd_runtime *rt;
	unsigned int n = 0;
	struct fnd_agent a;
	char name[80], agent[24];
	int err;

	(void)unused;
	snprintf(name, sizeof(name), "%s-full", segment);
	if (fnd_segment_create(name, &o, &seg) || fnd_runtime_open(seg, &ro, &rt))
		return 1;
	reg = fnd_runtime_registry(rt);
	err = flags_set(fnd_runtime_flags(rt), both) || fnd_agent_register(rt, "me", 0, "\x81\xa1v\x01", 4, 0);
	for (; !err && n < 100000; n++) {
		snprintf(agent, sizeof(agent), "other %u", n);
		if (fnd_registry_register(reg, agent, 0, big, sizeof(big), 0))
			break;
	}
	err |= fnd_agent_update(rt, "me", "\x81\xa1v\x02", 4) || flags_set(fnd_runtime_flags(rt), shared) ||
	       fnd_agent_lookup(rt, "me", &a, NULL) || a.metadata[3] != 2;
	while (n-- > 0) {
		snprintf(agent, sizeof(agent), "other %u", n);
		fnd_registry_unregister(reg, agent, 0);
	}
	err |= fnd_agent_lookup(rt, "me", &a, NULL) || a.metadata[3] != 2;
	fnd_runtime_close(rt);
	err |= fnd_segment_detach(seg) || fnd_segment_destroy(name, 0);
	purge(name);
	return err;
}

static const struct {
	const char *what;
	int (*run)(struct fnd_segment *seg);
	bool private; /* means something only where there is a private backend */
} handles[] = {
	{ "refusals are said once a call site", once_a_site, true },
	{ "a segment that is shared only", shared_only, true },
	{ "a child of fork", forked, true },
	{ "after the rollback", after_the_rollback, true },
	{ "a dead predecessor", after_a_death, true },
	{ "no room in the shared registry", refused_for_room, true },
};

#define HANDLES (sizeof(handles) / sizeof(*handles))

unsigned int differences_run(struct fnd_segment *seg, unsigned int *failed)
{
	struct fnd_runtime *rt;
	bool private;

	if (fnd_runtime_open(seg, NULL, &rt)) {
		++*failed;
		return 0;
	}
	private = fnd_runtime_private(rt);
	fnd_runtime_close(rt);
	peer = peer_start(seg);
	for (unsigned int i = 0; i < ROWS; i++) {
		*failed += row(seg, i, &settings[0], private ? table[i].private : table[i].shared);
		*failed += row(seg, i, &settings[1], table[i].shared);
	}
	for (unsigned int i = 0; i < HANDLES; i++) {
		int err = handles[i].private && !private ? 0 : handles[i].run(seg);

		if (err)
			fprintf(stderr, "%s: failed (%s)\n", handles[i].what, fnd_error_detail());
		*failed += err != 0;
	}
	kill(peer, SIGKILL);
	waitpid(peer, NULL, 0);
	return ROWS + HANDLES;
}
