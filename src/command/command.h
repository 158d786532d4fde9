/* command: what can be asked. One table of name, fields, permission, rate class and route; every
 * door (rpc, POST /kith/v1/<command>) goes through command_submit.
 *
 * Owner   : one `struct command_desk` per engine.
 * Thread  : the engine's. The answer is a BUS_ANSWER to `from`, unless command_submit itself says
 *           no.
 * Memory  : arguments are copied out of the JSON into the message.
 * Errors  : struct command_refusal names the code, the field, what was wrong and what to do.
 * Limits  : limits.user_commands (+ _burst) per user on this engine; every field has its own.
 * Source  : docs/protocol.md, "Commands". */
#ifndef COMMAND_COMMAND_H
#define COMMAND_COMMAND_H

#include "base/arena.h"
#include "base/base.h"
#include "bus/messages.h"
#include "config/config.h"
#include "engine/engine.h"

struct command_desk;

#define COMMAND_MESSAGE_BYTES_MAX 200

/* Why a command was not taken: an error of the protocol. */
struct command_refusal {
    uint32_t code;
    bool temporary;
    int64_t retry_ms;  /* 111: when to come again; else 0 */
    const char *field; /* or NULL */
    char message[COMMAND_MESSAGE_BYTES_MAX];
};

struct command_desk *command_desk_make(struct engine *e, const struct config *c);
void command_desk_free(struct command_desk **d);

/* The command of that name (its word); false when there is none. */
bool command_find(struct bytes name, enum command *out);

/* Checks the arguments of `command` in `json` (an object; empty = {}). Pure. ERR_PROTO: *no is
 * filled and *out holds nothing. */
enum err command_parse(struct arena *a, const struct config *c, enum command command,
                       struct bytes json, struct command_args *out, struct command_refusal *no)
    MUST_USE;

/* Permission, rate, arguments, then on its way to the engine that answers. */
enum err command_submit(struct command_desk *d, const struct who *who, const struct address *from,
                        enum command command, struct bytes json, struct command_refusal *no)
    MUST_USE;

/* True, and counted, while kith's own structures hold more than limits.memory: what is new is
 * refused, what runs goes on. */
bool command_memory_is_short(const struct config *c);

/* The rate limit alone, for what is no command of the table (subscribe, history). */
bool command_may_hurry(struct command_desk *d, const struct who *who, int64_t *retry_ms_out);

/* Takes what is already checked (history of the live carrier). Frees nothing of `args` on success:
 * it is moved. */
void command_post(const struct who *who, const struct address *from, enum command command,
                  struct command_args *args, int64_t asked_ns);

#endif
