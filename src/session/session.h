/* session: one connected client, from the WebSocket upgrade to the goodbye: handshake,
 * subscriptions, commands in, replies and publications out.
 *
 * Owner   : one `struct sessions` per engine; a session lives on the engine that accepted it.
 * Thread  : the engine's. Conversations are reached by message (bus/messages.h).
 * Memory  : an idle session is a slot, a packed caller and a slot per subscription; it owns no
 *           buffer. A frame to many is encoded once per engine.
 * Errors  : a session ends with one row of SESSION_ENDS: close code, reason, counter.
 * Limits  : limits.frame, limits.unanswered, limits.channels, limits.user_commands,
 *           limits.send_ephemeral (deltas are left out above it), limits.send (3008),
 *           timeouts.connect (3502), session.pong (3012).
 * Source  : docs/protocol.md (the conversation protocol over the Centrifuge client protocol). */
#ifndef SESSION_SESSION_H
#define SESSION_SESSION_H

#include "auth/auth.h"
#include "command/command.h"
#include "config/config.h"
#include "engine/engine.h"
#include "net/net.h"

#define KITH_PROTOCOL 1

struct sessions;

struct sessions *sessions_make(struct engine *e, struct net *n, const struct auth *a,
                               struct command_desk *d, const struct config *c);
void sessions_free(struct sessions **s);

/* Takes over a connection whose upgrade was answered. False: no room; the caller closes it. */
bool session_open(struct sessions *s, struct handle conn);

/* What a new guest is: name, user id, token; `who` and `token` are filled. */
void session_guest_make(struct engine *e, const struct auth *a, struct bytes display,
                        struct who *who, struct buf *token);

#endif
