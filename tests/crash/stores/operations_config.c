// SPDX-License-Identifier: MIT
/*
 * Settings: a record each, and the restoring of all from the journal by whoever comes first.
 *
 * In one state there is a journal, in a directory of its own. It is no memory: what the operation appends stays
 * there while its stores come and go. So the setting that is changed may come back as either.
 */
#include <foundation/config.h>
#include <foundation/journal.h>

#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "stores.h"

#define WRONG(...) (snprintf(wrong, sizeof(wrong), __VA_ARGS__), wrong)
#define CHANGED "journal.keep"

static struct fnd_config *config;
static char dir[] = "/tmp/stores-journal-XXXXXX";
static char wrong[200];
static const char *before; /* what CHANGED is then; NULL: its default */
static bool others; /* are set, or in the journal */

static const char *const other[][2] = { { "contact.lead", "somebody" }, { "warn.growth", "2000000" },
					{ "watch.breach", "rollback" } };
#define OTHERS 3

static void must(int err, const char *what)
{
	if (err < 0) {
		fprintf(stderr, "stores: seed %llu: preparing: %s: %s [%s]\n", (unsigned long long)w.seed, what,
			fnd_strerror(err), fnd_error_detail());
		exit(2);
	}
}

/* --- states --------------------------------------------------------------------------------------- */

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *at)
{
	(void)st, (void)type, (void)at;
	return remove(path);
}

static void journal_gone(void)
{
	nftw(dir, remove_one, 8, FTW_DEPTH | FTW_PHYS);
}

static void journal_here(bool here)
{
	static bool made;

	if (here && !made) {
		made = mkdtemp(dir) != NULL;
		must(made ? 0 : -1, "a directory");
		atexit(journal_gone);
	}
	setenv("FOUNDATION_STATE_DIR", here ? dir : "/proc/no-such-place", 1);
}

static void set_others(const char *changed)
{
	must(fnd_config_open(w.actor[VICTIM].seg, &config), "config");
	for (unsigned int i = 0; i < OTHERS; i++)
		must(fnd_config_set(config, other[i][0], other[i][1], NULL), other[i][0]);
	if (changed)
		must(fnd_config_set(config, CHANGED, changed, NULL), CHANGED);
	before = changed;
	others = true;
}

static void config_new(void)
{
	journal_here(false);
	before = NULL;
	others = false;
}

static void config_typical(void)
{
	journal_here(false);
	world_act(VICTIM);
	set_others(NULL);
	world_act(FOUNDER);
}

static void config_set_before(void)
{
	journal_here(false);
	world_act(VICTIM);
	set_others("9");
	world_act(FOUNDER);
}

static void config_unset_before(void)
{
	config_set_before();
	world_act(VICTIM);
	must(fnd_config_unset(config, CHANGED, NULL), "unset");
	before = NULL;
	world_act(FOUNDER);
}

/* All of it is in the journal alone: the next who opens restores it. */
static void config_journalled(void)
{
	static const char members[] = "\"config\":{\"contact.lead\":\"somebody\",\"journal.keep\":\"9\","
				      "\"warn.growth\":\"2000000\",\"watch.breach\":\"rollback\"}";
	char name[FND_NAME_MAX + 16];
	struct fnd_journal *j;

	journal_here(true);
	w.passing = CHANGED; /* restored, then changed */
	must(fnd_segment_name(w.actor[FOUNDER].seg, name, sizeof(name)), "name");
	must(fnd_journal_open(name, NULL, &j), "journal");
	must(fnd_journal_append(j, "config.set", members, NULL), "append");
	fnd_journal_close(j);
	before = "9";
	others = true;
}

const struct state config_states[CONFIG_STATES] = {
	{ "new", NULL, config_new },		 { "typical", NULL, config_typical },
	{ "set-before", NULL, config_set_before }, { "unset-before", NULL, config_unset_before },
	{ "journalled", NULL, config_journalled },
};

/* --- operations ------------------------------------------------------------------------------------ */

static int opened(void)
{
	return config ? 0 : fnd_config_open(w.actor[VICTIM].seg, &config);
}

int run_config_open(void)
{
	return opened();
}

int run_config_set(void)
{
	int err = opened();

	if (!err)
		err = fnd_config_set(config, CHANGED, "7", NULL);
	return err == FND_NOT_DURABLE ? 0 : err;
}

int run_config_unset(void)
{
	int err = opened();

	if (!err)
		err = fnd_config_unset(config, CHANGED, NULL);
	return err == FND_NOT_DURABLE ? 0 : err;
}

void config_done(void)
{
	fnd_config_close(config);
	config = NULL;
}

/* --- what must hold -------------------------------------------------------------------------------- */

/* By somebody who opens: nothing that was set is lost, and what is changed is as before or as after. */
const char *check_config(const struct trial *t)
{
	char value[FND_CONFIG_TEXT_MAX + 1];
	struct fnd_config *c;
	const char *err = NULL;
	int r = fnd_config_open(w.actor[t->rescuer].seg, &c);

	if (r)
		return WRONG("opening: %s [%s]", fnd_strerror(r), fnd_error_detail());
	for (unsigned int i = 0; others && !err && i < OTHERS; i++)
		if (fnd_config_get(c, other[i][0], value, sizeof(value)) != 0 || strcmp(value, other[i][1]) != 0)
			err = WRONG("%s is lost", other[i][0]);
	r = fnd_config_get(c, CHANGED, value, sizeof(value));
	if (!err && r != FND_CONFIG_DEFAULT && (r || (strcmp(value, "7") != 0 && (!before || strcmp(value, before) != 0))))
		err = WRONG("%s is %s (%d), neither as before nor as after", CHANGED, r ? "?" : value, r);
	fnd_config_close(c);
	return err;
}
