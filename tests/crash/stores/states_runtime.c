// SPDX-License-Identifier: MIT
/* States of the registry and of deduplication. */
#include <stdio.h>
#include <stdlib.h>

#include "stores.h"

static void must(int err, const char *what)
{
	if (err < 0) {
		fprintf(stderr, "stores: seed %llu: preparing: %s: %s [%s]\n", (unsigned long long)w.seed,
			what, fnd_strerror(err), fnd_error_detail());
		exit(2);
	}
}

/* --- registry ------------------------------------------------------------------------------------- */

static const unsigned char one_map[] = { 0x81, 0xa1, 'a', 1 };

static void registry_by(enum who who, const char *name)
{
	struct fnd_registry *reg;

	world_act(who);
	must(fnd_registry_open(w.actor[who].seg, 4, &reg), "registry");
	if (name)
		must(fnd_registry_register(reg, name, 0, one_map, sizeof(one_map), 0), name);
	if (who == VICTIM)
		w.registry = reg;
	else
		fnd_registry_close(reg);
	world_act(FOUNDER);
}

static void names_none(void)
{
	registry_by(VICTIM, NULL);
}

static void names_some(void)
{
	registry_by(FOUNDER, "founder");
	registry_by(READER, "reader");
	registry_by(VICTIM, "mine");
}

static void names_of_dead(void)
{
	names_some();
	world_join(DEAD_1, true);
	registry_by(DEAD_1, "agent");
	registry_by(DEAD_1, "other");
	snprintf(w.dead_name, sizeof(w.dead_name), "agent");
	world_die(DEAD_1);
}

static void names_many(void)
{
	char name[16];

	names_some();
	for (unsigned int i = 0; i < 2 + world_draw() % 6; i++) {
		snprintf(name, sizeof(name), "name-%u", i);
		registry_by(FOUNDER, name);
	}
	if (world_draw() % 2)
		reader_opens();
}

static void names_taken(void)
{
	names_some();
	registry_by(VICTIM, "agent");
}

const struct state registry_states[REGISTRY_STATES] = {
	{ "empty", NULL, names_none },
	{ "typical", NULL, names_some },
	{ "dead-owner", NULL, names_of_dead },
	{ "growing", NULL, names_many },
	{ "registered", NULL, names_taken },
};

/* --- deduplication -------------------------------------------------------------------------------- */

static void claims(unsigned int n, const char *last)
{
	char key[16];

	world_act(VICTIM);
	must(fnd_dedup_open(w.actor[VICTIM].seg, 4, &w.dedup), "dedup");
	for (unsigned int i = 0; i < n; i++) {
		snprintf(key, sizeof(key), "event-%u", i);
		must(fnd_dedup_claim(w.dedup, key, strlen(key), "text", 4, 1000000000), key);
	}
	if (last)
		must(fnd_dedup_claim(w.dedup, last, strlen(last), "text", 4, 1000000000), last);
	world_act(FOUNDER);
}

static void claims_none(void)
{
	claims(0, NULL);
}

static void claims_some(void)
{
	claims(2, NULL);
}

static void claims_seen(void)
{
	claims(2, "event");
}

static void claims_expired(void)
{
	claims(2, "event");
	world_time_pass(2000000000);
}

static void claims_full(void)
{
	claims(4, NULL);
}

static void claims_full_expired(void)
{
	claims(4, NULL);
	world_time_pass(2000000000);
}

const struct state dedup_states[DEDUP_STATES] = {
	{ "empty", NULL, claims_none },
	{ "typical", NULL, claims_some },
	{ "seen", NULL, claims_seen },
	{ "expired", NULL, claims_expired },
	{ "full", NULL, claims_full },
	{ "full-expired", NULL, claims_full_expired },
};
