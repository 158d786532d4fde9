/* event: the JSON of durable and ephemeral events and of answers. Pure: values in, a blob out; NULL
 * when memory is out.
 *
 * Source: docs/protocol.md, sections 3 to 6. */
#ifndef TALK_EVENT_PRIV_H
#define TALK_EVENT_PRIV_H

#include "base/blob.h"
#include "base/buf.h"
#include "base/id.h"
#include "bus/messages.h"
#include "journal/journal.h"

#define EVENT_BYTES_MAX (4u << 20)

struct event_by {
    const char *kind; /* user, ai, agent, system */
    struct bytes id;
    struct bytes name; /* empty = left out */
};

struct event_msg {
    struct id id;
    struct id parent;
    struct event_by by;
    struct bytes text;
    const char *status;
    const char *why; /* "" = left out */
    int64_t ts_ms;
    struct id cid; /* or none */
    /* a message that starts an answer */
    bool has_answer;
    struct id answer_run;
    struct id answer_msg;
    struct bytes answer_persona;
    struct bytes answer_model;
    /* an answer */
    struct id run;
    struct bytes model;
    bool has_usage;
    uint64_t tokens_in;
    uint64_t tokens_out;
};

struct blob *event_msg(const struct event_msg *m) MUST_USE;
struct blob *event_run(const struct run_row *r, const struct event_by *by, int64_t ts_ms) MUST_USE;
/* state k = v, where v is a string. */
struct blob *event_state(const char *k, struct bytes v, const struct event_by *by, int64_t ts_ms)
    MUST_USE;

/* `text` begins at position `at_units`. */
struct blob *event_delta(const struct id *run, const struct id *msg, uint64_t at_units,
                         struct bytes text, bool reasoning) MUST_USE;
/* position 0 and eta < 0 are left out. */
struct blob *event_status(const struct id *run, const char *st, uint32_t position, int64_t eta_ms)
    MUST_USE;
struct blob *event_typing(struct bytes user, bool on) MUST_USE;
struct blob *event_read(struct bytes user, uint64_t offset) MUST_USE;

/* A stored event with its offset and, for messages, siblings: appended to `b` as one object. */
void event_stored(struct buf *b, struct bytes payload, uint64_t offset, const struct id *siblings,
                  uint32_t siblings_count);

/* The first line of a text, at most JOURNAL_EXCERPT_BYTES_MAX bytes, whole characters. */
void event_excerpt(struct bytes text, struct bytes_excerpt *out);

/* chat.send and its kin. */
struct outcome {
    const char *status; /* accepted, duplicate, refused */
    struct id msg;
    struct id run;
    uint64_t offset; /* 0 = left out */
    const struct epoch *epoch;
    struct bytes reason; /* finished JSON object, or empty */
};
struct blob *event_outcome(const struct outcome *o) MUST_USE;
/* A refusal's reason. retry_ms < 0 = final, left out. `category` may be NULL. */
struct blob *event_reason(const char *code, const char *message, int64_t retry_ms,
                          const char *category) MUST_USE;

#endif
