// SPDX-License-Identifier: MIT
/* The operations whose every store is a place to die. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "hooks.h"
#include "stores.h"

static struct fnd_segment *seg(void)
{
	return w.actor[VICTIM].seg;
}

static struct fnd_thread *thread(void)
{
	return w.actor[VICTIM].th;
}

/* --- the main table ------------------------------------------------------------------------------- */

static char key[16], value[32];
static size_t key_bytes, value_bytes;

static void about(uint32_t k)
{
	w.key = k;
	key_bytes = key_of(k, key);
	value_bytes = value_of(k, 77777, value);
}

static void about_new(void)
{
	about(w.next_key);
}

static void about_old(void)
{
	about(w.nlive ? w.live[world_draw() % w.nlive] : w.next_key);
}

static void about_either(void)
{
	if (world_draw() % 2)
		about_new();
	else
		about_old();
}

static int run_insert(void)
{
	return fnd_table_insert(w.victims, key, key_bytes, value, value_bytes);
}

static int run_replace(void)
{
	return fnd_table_replace(w.victims, key, key_bytes, value, value_bytes);
}

static int run_upsert(void)
{
	return fnd_table_upsert(w.victims, key, key_bytes, value, value_bytes);
}

static int run_delete(void)
{
	return fnd_table_delete(w.victims, key, key_bytes);
}

/* Deletes, keeps or puts, by the key's number. */
static enum fnd_modify decide(void *arg, const void *old, size_t old_bytes, const void **new_value,
			      size_t *new_bytes)
{
	(void)arg, (void)old_bytes;
	if (old && w.key % 4 == 0)
		return FND_MODIFY_DELETE;
	if (w.key % 4 == 1)
		return FND_MODIFY_KEEP;
	*new_value = value;
	*new_bytes = value_bytes;
	return FND_MODIFY_PUT;
}

static int run_modify(void)
{
	return fnd_table_modify(w.victims, key, key_bytes, decide, NULL);
}

/* An index of several shards is too large to fill. */
static void about_growth(void)
{
	if (w.table->shards > 1) {
		about_new();
		return;
	}
	until(index_grows);
	about(w.key);
}

/* Few records of which each takes much room, so that the region is soon used up. */
static void big_records(struct shape *s)
{
	s->table.value_max = 8000;
	s->table.capacity = 4;
	s->max_bytes = 4u << 20;
}

static void about_region(void)
{
	until(region_grows);
	about(w.key);
}

/* Retired, stamped, handed out again. */
static int run_reclaim(void)
{
	int err = fnd_table_quiesce(w.victims);

	return !err || err == -ETIMEDOUT ? run_upsert() : err;
}

static int run_epoch(void)
{
	int err = fnd_epoch_advance(seg());

	return err ? err : fnd_epoch_advance(seg());
}

static int run_lock(void)
{
	int err = fnd_shard_lock(w.victims, thread(), 0);

	if (err)
		return err;
	fnd_unlock(thread(), &w.victims->shard[0].lock);
	err = fnd_space_lock(seg(), thread());
	if (!err)
		fnd_unlock(thread(), &seg()->hdr->lock);
	return err;
}

static int run_read(void)
{
	char buf[64];
	int err = fnd_read_begin(seg());

	if (err)
		return err;
	fnd_table_lookup(w.victims, key, key_bytes, buf, sizeof(buf), NULL);
	return fnd_read_end(seg());
}

static int run_stamp(void)
{
	int err = fnd_shard_lock(w.victims, thread(), 0);

	if (err)
		return err;
	fnd_shard_stamp(w.victims, 0, true);
	fnd_unlock(thread(), &w.victims->shard[0].lock);
	return 0;
}

static int run_trim(void)
{
	fnd_table_trim(w.victims, thread());
	return 0;
}

static int run_make(void)
{
	struct fnd_table_options opt = { .size = sizeof(opt), .key_max = 8, .value_max = 16, .capacity = 8 };
	struct fnd_table *t;
	int err = fnd_table_open(seg(), "made", &opt, &t);

	if (!err)
		fnd_table_close(t);
	return err;
}

/* --- slots ---------------------------------------------------------------------------------------- */

static void handle_only(void)
{
	world_join(VICTIM, false);
	/* as if it had not claimed: the slot is given back before anybody looks */
	world_act(VICTIM);
	fnd_process_release(w.actor[VICTIM].seg);
	world_act(FOUNDER);
}

static int run_claim(void)
{
	int err = fnd_process_claim(seg());

	if (!err)
		err = fnd_thread_enter(seg(), &w.actor[VICTIM].th);
	return err;
}

static int run_leave(void)
{
	fnd_threads_release(seg());
	fnd_process_release(seg());
	return 0;
}

static void th_gone(void)
{
	w.actor[VICTIM].th = NULL; /* freed with its slot */
}

static int run_reap(void)
{
	return fnd_segment_reap(seg(), NULL);
}

static int run_attach(void)
{
	return fnd_segment_attach(w.name, NULL, &w.actor[VICTIM].seg);
}

static void attached(void)
{
	fnd_segment_detach(w.actor[VICTIM].seg);
}

static int run_detach(void)
{
	return fnd_segment_detach(seg());
}

static void detached(void)
{
	w.actor[VICTIM].th = NULL;
	w.actor[VICTIM].here = false;
}

/* --- registry and deduplication ------------------------------------------------------------------- */

static const unsigned char a_map[] = { 0x82, 0xa1, 'a', 2, 0xa1, 'b', 3 };

static int run_register(void)
{
	return fnd_registry_register(w.registry, "agent", 0, a_map, sizeof(a_map), 0);
}

static int run_unregister(void)
{
	return fnd_registry_unregister(w.registry, world_draw() % 2 ? "agent" : "mine", 0);
}

static int run_update(void)
{
	return fnd_registry_update(w.registry, "mine", a_map, sizeof(a_map));
}

static int run_registry_reap(void)
{
	return fnd_registry_reap(w.registry, NULL);
}

static void registry_done(void)
{
	fnd_registry_close(w.registry);
}

static int run_dedup(void)
{
	return fnd_dedup_claim(w.dedup, "event", 5, "something happened", 18, 1000000000);
}

static void dedup_done(void)
{
	fnd_dedup_close(w.dedup);
}

/* A name that goes is marked first. */
static void about_names(void)
{
	w.passing = "agent other mine";
}

/* Where an operation starts from. */
#define TABLE .states = table_states, .nstates = TABLE_STATES
#define SLOTS .states = slot_states, .nstates = SLOT_STATES
#define NAMES .states = registry_states, .nstates = REGISTRY_STATES, .tidy = registry_done, .prepare = about_names
#define AGENTS .states = agents_states, .nstates = AGENTS_STATES, .tidy = agents_done, .shape = roomy, \
	.prepare = about_agents, .check = check_agents
#define ENSURE .states = ensure_states, .nstates = ENSURE_STATES, .tidy = agents_done, .shape = roomy, \
	.prepare = about_ensure, .check = check_ensured, .costly = true
#define RING .states = ring_states, .nstates = RING_STATES, .tidy = agents_done, .shape = roomy, \
	.prepare = about_ring, .check = check_ring
#define FACADE .states = facade_states, .nstates = FACADE_STATES, .tidy = facade_done, .shape = roomy, \
	.costly = true
#define CONFIG .states = config_states, .nstates = CONFIG_STATES, .tidy = config_done, .check = check_config, \
	.costly = true
#define CLAIMS .states = dedup_states, .nstates = DEDUP_STATES, .tidy = dedup_done
#define FLAGS .states = flags_states, .nstates = FLAGS_STATES, .tidy = flags_done, .check = check_flags
#define CONTEXT .states = context_states, .nstates = CONTEXT_STATES, .tidy = context_done, .check = check_context
/* Who acts is no participant yet; nobody at all is. */
#define OUTSIDE SLOTS, .outside = true
#define ABANDONED OUTSIDE, .abandoned = true, .costly = true, .tidy = arrived, .check = check_home
#define DESTROYS OUTSIDE, .costly = true, .prepare = world_hide, .check = check_name

const struct operation operations[] = {
	{ "insert", TABLE, .prepare = about_new, .run = run_insert },
	{ "replace", TABLE, .prepare = about_old, .run = run_replace },
	{ "upsert", TABLE, .prepare = about_either, .run = run_upsert },
	{ "delete", TABLE, .prepare = about_old, .run = run_delete },
	{ "modify", TABLE, .prepare = about_either, .run = run_modify },
	{ "growth", TABLE, .prepare = about_growth, .run = run_insert },
	{ "region-growth", TABLE, .shape = big_records, .prepare = about_region, .run = run_insert },
	{ "reclaim", TABLE, .prepare = about_either, .run = run_reclaim },
	{ "retire-stamp", TABLE, .run = run_stamp },
	{ "trim", TABLE, .run = run_trim },
	{ "epoch-advance", SLOTS, .run = run_epoch },
	{ "lock-unlock", SLOTS, .run = run_lock },
	{ "read-section", SLOTS, .prepare = about_either, .run = run_read },
	{ "stall-note", SLOTS, .prepare = stands_still, .run = run_stall, .check = check_stall },
	{ "table-mend", TABLE, .prepare = about_damage, .run = run_mend, .first = mend_first },
	{ "table-create", TABLE, .run = run_make },
	{ "slot-claim", OUTSIDE, .prepare = handle_only, .run = run_claim },
	{ "slot-release", SLOTS, .run = run_leave, .tidy = th_gone },
	{ "reap", SLOTS, .run = run_reap },
	{ "attach", OUTSIDE, .prepare = world_hide, .run = run_attach, .tidy = attached },
	{ "detach", SLOTS, .run = run_detach, .tidy = detached },
	{ "attach-abandoned", ABANDONED, .prepare = nobody_left, .run = run_arrive },
	{ "takeover-boot", ABANDONED, .prepare = other_boot, .run = run_arrive },
	{ "takeover-pidns", ABANDONED, .prepare = other_pidns, .run = run_arrive },
	{ "destroy", DESTROYS, .run = run_destroy_forced },
	{ "destroy-refused", DESTROYS, .run = run_destroy },
	{ "registry-register", NAMES, .run = run_register },
	{ "registry-unregister", NAMES, .run = run_unregister },
	{ "registry-update", NAMES, .run = run_update },
	{ "registry-reap", NAMES, .run = run_registry_reap },
	{ "event-publish", AGENTS, .run = run_event_publish },
	{ "register-indexed", AGENTS, .run = run_register_indexed },
	{ "unregister-indexed", AGENTS, .run = run_unregister_indexed },
	{ "name-reap", AGENTS, .run = run_name_reap },
	{ "registry-ensure", ENSURE, .run = run_ensure },
	{ "event-sweep", RING, .run = run_event_swept },
	{ "facade-register", FACADE, .prepare = about_facade, .run = run_facade_register, .check = check_facade },
	{ "facade-unregister", FACADE, .prepare = about_common, .run = run_facade_unregister, .check = check_agents },
	{ "facade-update", FACADE, .prepare = about_facade, .run = run_facade_update, .check = check_facade },
	{ "facade-refused", FACADE, .prepare = about_refusal, .run = run_refused, .check = check_facade },
	{ "flip-publish", FACADE, .prepare = about_publish, .run = run_meet, .check = check_flip },
	{ "flip-pull", FACADE, .prepare = about_pull, .run = run_meet, .check = check_flip },
	{ "runtime-open", .states = slot_states, .nstates = 3, .shape = roomy, .run = run_runtime_open,
	  .tidy = facade_done, .check = check_opened, .costly = true },
	{ "runtime-close", FACADE, .prepare = about_facade, .run = run_runtime_close, .check = check_agents },
	{ "config-open", CONFIG, .run = run_config_open },
	{ "config-set", CONFIG, .run = run_config_set },
	{ "config-unset", CONFIG, .run = run_config_unset },
	{ "dedup-claim", CLAIMS, .run = run_dedup },
	{ "flags-change", FLAGS, .prepare = about_change, .run = run_flags_change },
	{ "flags-application-change", FLAGS, .prepare = about_definition, .run = run_flags_application },
	{ "flags-define", FLAGS, .prepare = about_definition, .run = run_flags_define },
	{ "rollback", FLAGS, .prepare = about_rollback, .run = run_rollback },
	{ "rollback-emergency", FLAGS, .prepare = about_emergency, .run = run_emergency },
	{ "context-set", CONTEXT, .prepare = about_context, .run = run_context_set },
	{ "context-begin", CONTEXT, .prepare = about_context, .run = run_context_begin },
	{ "context-end", CONTEXT, .prepare = about_context, .run = run_context_end },
	{ "context-attach", CONTEXT, .prepare = about_context, .run = run_context_attach },
	{ "context-crumb", CONTEXT, .prepare = about_context, .run = run_context_crumb },
	{ "context-share", CONTEXT, .prepare = about_private, .run = run_context_share },
	{ "context-unshare", CONTEXT, .prepare = about_context, .run = run_context_unshare },
};
const unsigned int noperations = sizeof(operations) / sizeof(operations[0]);
