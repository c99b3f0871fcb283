/* SPDX-License-Identifier: MIT */
/* A service of one process: it makes a segment, registers an agent and looks it up. */
#include <foundation/read.h>
#include <foundation/registry.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static int fail(const char *what, int err)
{
	fprintf(stderr, "consumer: %s: %s (%s)\n", what, fnd_strerror(err), fnd_error_detail());
	return 1;
}

static int use(struct fnd_segment *seg, struct fnd_registry *reg)
{
	struct fnd_agent agent;
	int err;

	err = fnd_read_begin(seg); /* inline */
	if (!err)
		err = fnd_read_end(seg);
	if (err)
		return fail("read section", err);
	err = fnd_registry_register(reg, "billing", 0, NULL, 0, 0);
	if (err)
		return fail("register", err);
	err = fnd_registry_lookup(reg, "billing", &agent);
	if (err)
		return fail("lookup", err);
	if (agent.owner.pid != (uint32_t)getpid())
		return fail("the agent's owner is another process", 0);
	err = fnd_registry_lookup(reg, "nobody", NULL);
	return err < 0 ? 0 : fail("an agent that was never registered was found", err);
}

int main(int argc, char **argv)
{
	struct fnd_registry *reg;
	struct fnd_segment *seg;
	char name[64];
	int err, status;

	snprintf(name, sizeof(name), "consumer-%s-%d", argc > 1 ? argv[1] : "x", (int)getpid());
	err = fnd_segment_create(name, NULL, &seg);
	if (err)
		return fail("create", err);
	err = fnd_registry_open(seg, 0, &reg);
	if (err) {
		status = fail("open the registry", err);
	} else {
		status = use(seg, reg);
		fnd_registry_close(reg);
	}
	fnd_segment_detach(seg);
	err = fnd_segment_destroy(name, 0);
	if (err)
		status = fail("destroy", err);
	if (!status)
		printf("consumer: foundation %s registered and looked up an agent\n", fnd_version());
	return status;
}
