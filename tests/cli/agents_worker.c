// SPDX-License-Identifier: MIT
/*
 * A worker for the tests of foundation agents: does what it is told on standard input, a line each, and
 * answers with a line.
 *
 *   agents_worker SEGMENT		says "ready PID", then
 *   register NAME [CAPABILITY LOAD]	as a worker does, through the facade: "0", or the error
 *   lookup NAME			"private PID", "shared PID", or the error
 *   unregister NAME
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <foundation/runtime.h>

static size_t put_text(unsigned char *to, const char *text)
{
	size_t n = strlen(text);

	to[0] = (unsigned char)(0xa0 | n); /* fixstr: what the tests use is short */
	memcpy(to + 1, text, n);
	return n + 1;
}

static size_t metadata(unsigned char *map, const char *capability, unsigned int load)
{
	size_t n = 1;

	map[0] = 0x82;
	n += put_text(map + n, "capability");
	n += put_text(map + n, capability);
	n += put_text(map + n, "load");
	map[n++] = (unsigned char)(load & 0x7f);
	return n;
}

static void answer_error(int err)
{
	if (err == 0)
		puts("0");
	else
		printf("%d %s (%s)\n", err, fnd_strerror(err), fnd_error_detail());
}

static void lookup(struct fnd_runtime *rt, const char *name)
{
	enum fnd_backend backend;
	struct fnd_agent a;
	int err = fnd_agent_lookup(rt, name, &a, &backend);

	if (err)
		answer_error(err);
	else
		printf("%s %u\n", backend == FND_BACKEND_PRIVATE ? "private" : "shared", a.owner.pid);
}

static void obey(struct fnd_runtime *rt, const char *line)
{
	unsigned char map[64];
	char verb[16], name[64], capability[16];
	unsigned int load;
	int words = sscanf(line, "%15s %63s %15s %u", verb, name, capability, &load);

	if (words >= 2 && strcmp(verb, "register") == 0)
		answer_error(fnd_agent_register(rt, name, 0, words == 4 ? map : NULL,
						words == 4 ? metadata(map, capability, load) : 0, 0));
	else if (words == 2 && strcmp(verb, "lookup") == 0)
		lookup(rt, name);
	else if (words == 2 && strcmp(verb, "unregister") == 0)
		answer_error(fnd_agent_unregister(rt, name, 0));
	else
		puts("what?");
}

int main(int argc, char **argv)
{
	struct fnd_segment *seg;
	struct fnd_runtime *rt;
	char line[256];
	int err;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	setvbuf(stdout, NULL, _IOLBF, 0);
	if (argc != 2)
		return 2;
	err = fnd_segment_attach(argv[1], NULL, &seg);
	if (!err)
		err = fnd_runtime_open(seg, NULL, &rt);
	if (err) {
		answer_error(err);
		return 1;
	}
	printf("ready %d\n", (int)getpid());
	while (fgets(line, sizeof(line), stdin))
		obey(rt, line);
	fnd_runtime_close(rt);
	fnd_segment_detach(seg);
	return 0;
}
