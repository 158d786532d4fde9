/* talk: the live conversations of one engine: order, commit, run buffers, snapshots, fan-out; and
 * the inboxes of the users that live here.
 *
 * Owner   : one `struct talk` per engine. A conversation lives on the engine that the hash of its
 *           id picks (its home), an inbox on that of its user.
 * Thread  : the engine's. Everything comes and goes as messages (bus/messages.h, journal answers).
 * Memory  : a conversation is a slot while somebody watches it or something runs in it, and for
 *           conversations.idle afterwards. Run buffers are grown blobs, capped by runs.text.
 * Errors  : answers carry them; nothing is acknowledged before its commit.
 * Limits  : conversations.loaded, runs.queued_max, limits.user_runs, TALK_LANE_MAX writes that wait
 *           in one conversation.
 * Source  : docs/ARCHITECTURE.md, "The way of a message". */
#ifndef TALK_TALK_H
#define TALK_TALK_H

#include "config/config.h"
#include "engine/engine.h"
#include "journal/journal.h"
#include "text/text.h"

struct talk;

struct talk *talk_make(struct engine *e, struct journal *j, const struct text_terms *terms,
                       const struct config *c);
void talk_free(struct talk **t);

/* Engine 0, once, after all rooms are made: finds the runs that lost their process and has their
 * conversations end or continue them before anything new happens there. */
void talk_recover(struct talk *t);

#endif
