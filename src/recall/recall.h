/* recall: what a model is shown: the persona, as much of the path as the window allows, the
 * question.
 *
 * Owner   : one `struct recall` per engine. recall_window is a pure function.
 * Thread  : the engine's; the path is read by the journal's readers and comes back as a message.
 * Memory  : RECALL_READY owns one arena with every text of the prompt; free it with msg_free.
 * Errors  : in recall_ready.err: ERR_IO/ERR_FULL of the journal, ERR_NOT_FOUND.
 * Limits  : context.tokens, context.messages. The persona and the last user message are always
 *           whole.
 * Source  : docs/ARCHITECTURE.md, "The prompt": persona > last user message > application data >
 *           recent turns of the path, newest first. */
#ifndef RECALL_RECALL_H
#define RECALL_RECALL_H

#include "base/arena.h"
#include "base/base.h"
#include "base/blob.h"
#include "base/id.h"
#include "codec/openai.h"
#include "config/config.h"
#include "engine/engine.h"
#include "journal/journal.h"
#include "model/model.h"

struct recall;

enum recall_kind { RECALL_READY = 150 };

struct recall_ready {
    struct msg msg;
    struct handle asker;
    enum err err;
    struct openai_message *messages; /* in `arena` */
    size_t messages_count;
    uint32_t tokens_estimate;
    bool has_last_user;
    struct bytes last_user; /* what is being answered; in `arena` */
    struct arena arena;
};

struct recall_ask {
    struct id conv;
    struct id from;        /* end of the path; empty = nothing said before */
    struct blob *question; /* borrowed for the call (a reference is taken); or NULL */
    struct blob *kept;     /* continue: the answer so far; or NULL */
    struct blob *context;  /* application data; or NULL */
    struct id persona;
    struct name model;
    enum port port;
    struct handle asker;
};

struct recall *recall_make(struct engine *e, struct journal *j, struct model *m,
                           const struct config *c);
void recall_free(struct recall **r);

/* One RECALL_READY follows in a later turn. */
void recall_start(struct recall *r, const struct recall_ask *ask);

/* One message of the path, oldest first. */
struct recall_turn {
    bool by_user;
    struct bytes text;
};

struct recall_window {
    const struct config_persona *persona;
    const struct recall_turn *turns; /* ends with what is to be answered */
    size_t turns_count;
    struct bytes kept;    /* continue: empty = no */
    bool prefill;         /* the backend goes on from a last assistant message */
    struct bytes context; /* empty = none */
    uint32_t tokens_max;
    /* Rough tokens of a text; pure. */
    uint32_t (*tokens)(void *ctx, struct bytes text);
    void *ctx;
};

/* Builds the prompt in `a`. ERR_FULL: the arena is too small; *out untouched. */
enum err recall_window(struct arena *a, const struct recall_window *w, struct openai_message **out,
                       size_t *count_out, uint32_t *tokens_out) MUST_USE;

#endif
