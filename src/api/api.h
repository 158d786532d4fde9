/* api: the doors: HTTP requests, the upgrade to a session, the page.
 *
 * Owner   : one `struct api` per engine.
 * Thread  : the engine's.
 * Memory  : a connection between requests is a slot of its own and owns no buffer; a body is kept
 *           in a buffer until it is whole.
 * Errors  : every refusal is JSON: {"error":{"code","message","field"?}}.
 * Limits  : limits.frame for a body (413), timeouts.head, timeouts.body, timeouts.keep_alive; one
 *           request of a connection at a time, the next ones wait in the socket.
 * Source  : docs/protocol.md, "Over HTTP". */
#ifndef API_API_H
#define API_API_H

#include "auth/auth.h"
#include "command/command.h"
#include "config/config.h"
#include "engine/engine.h"
#include "net/net.h"
#include "session/session.h"

struct api;

struct api *api_make(struct engine *e, struct net *n, struct sessions *s, const struct auth *a,
                     struct command_desk *d, const struct config *c);
void api_free(struct api **a);

/* What net calls for each new connection. */
struct net_listener api_listener(struct api *a);

#endif
