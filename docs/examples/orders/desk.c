/* SPDX-License-Identifier: MIT */
/* What every process of the service opens, in this order, and closes in the other. */
#include "orders.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

volatile sig_atomic_t desk_stop;

/* A msgpack map: {"capability": "orders", "health": "healthy"}. */
static const char metadata[] = "\x82\xaa"
			       "capability"
			       "\xa6"
			       "orders"
			       "\xa6"
			       "health"
			       "\xa7"
			       "healthy";

int desk_complain(const char *what, int err)
{
	const char *detail = fnd_error_detail();

	fprintf(stderr, "orders: %s: %s%s%s\n", what, fnd_strerror(err), *detail ? ": " : "", detail);
	return EXIT_ATTACH;
}

/* Of all who find no segment one makes it; the others attach to that one. */
static int attach(const char *name, struct fnd_segment **ret_segment)
{
	int err = fnd_segment_attach(name, NULL, ret_segment);

	if (err == -ENOENT)
		err = fnd_segment_create(name, NULL, ret_segment);
	if (err == -EEXIST)
		err = fnd_segment_attach(name, NULL, ret_segment);
	return err;
}

static int open_log(struct desk *d)
{
	struct fnd_log_options options = FND_LOG_OPTIONS;
	struct fnd_sink_options file = FND_SINK_OPTIONS;
	int err;

	options.ident = "orders";
	options.context = d->context; /* what gives each line its error_context */
	options.flags = fnd_runtime_flags(d->runtime);
	file.form = d->settings->form;
	err = fnd_log_open(&options, &d->log);
	return err ? err : fnd_log_add_file(d->log, d->settings->log_path, &file, NULL);
}

static int own_name(struct desk *d)
{
	return fnd_agent_register(d->runtime, d->name, 0, metadata, sizeof(metadata) - 1, 0);
}

int desk_open(struct desk *d, const struct settings *s, const char *name)
{
	struct fnd_runtime_options options = { .size = sizeof(options), .identity = d->name };
	int err;

	d->settings = s;
	d->generation = 0;
	snprintf(d->name, sizeof(d->name), "%s", name);
	err = attach(s->segment, &d->segment);
	if (!err) /* a percentage of a flag is one of names like ours, the same ones after every restart */
		err = fnd_runtime_open(d->segment, &options, &d->runtime);
	if (!err)
		err = fnd_context_open(d->segment, fnd_runtime_flags(d->runtime), NULL, &d->context);
	if (!err)
		err = fnd_context_set(d->context, fnd_str("agent", d->name)); /* on all that is said from here on */
	if (!err)
		err = open_log(d);
	if (!err) /* my predecessor had this name; it is dead, so the name is free */
		err = own_name(d);
	return err;
}

void desk_close(struct desk *d)
{
	fnd_log_close(d->log);
	fnd_context_close(d->context);
	fnd_runtime_close(d->runtime);
	fnd_segment_detach(d->segment);
	d->log = NULL;
	d->context = NULL;
	d->runtime = NULL;
	d->segment = NULL;
}

/*
 * What a process does that has nothing to do. A change of flags is followed by the next call of the facade
 * and of the context, so those who are idle make one of each from time to time.
 */
void desk_tick(struct desk *d)
{
	uint64_t generation = fnd_flags_generation(fnd_runtime_flags(d->runtime));
	struct fnd_flags_view flags;
	int err;

	FND_CONTEXT_SCOPE(d->context, fnd_str("operation", "wait"));
	err = fnd_agent_lookup(d->runtime, d->name, NULL, NULL);
	if (err == -ENOENT)
		err = own_name(d);
	if (err)
		FND_LOG(d->log, FND_LOG_ERROR, "not in the registry", fnd_str("reason", fnd_strerror(err)));
	if (generation == d->generation)
		return;
	d->generation = generation;
	fnd_flags_view(fnd_runtime_flags(d->runtime), &flags);
	FND_LOG(d->log, FND_LOG_NOTICE, "flags met", fnd_str("stage", fnd_stage_name(flags.stage)),
		fnd_str("names", fnd_agent_backend(d->runtime) == FND_BACKEND_SHARED ? "shared" : "private"));
}
