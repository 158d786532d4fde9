/* centrifuge: the Centrifuge client protocol in JSON: commands in, replies and pushes out.
 *
 * Thread  : any; pure. Memory: a command's views live as long as the frame and the arena.
 * Errors  : ERR_PROTO = close with 3501; ERR_FULL = the arena or a limit of json. Unknown fields
 *           are ignored, null is a field that is absent.
 * Limits  : a frame's size is the carrier's matter. A channel over CF_CHANNEL_BYTES_MAX is handed
 *           on: error 107 is the caller's to answer.
 * Newlines: they separate messages, so no message may hold one. Text is escaped here, but finished
 *           JSON (`data`, `result_json`) goes out as it is: whoever takes JSON in from a place
 *           where it may be pretty-printed passes it through json_unbreak once.
 * Source  : the Centrifuge client protocol; field names of centrifugal/protocol. */
#ifndef CODEC_CENTRIFUGE_H
#define CODEC_CENTRIFUGE_H

#include "base/arena.h"
#include "base/base.h"
#include "base/buf.h"
#include "codec/json.h"

#define CF_CHANNEL_BYTES_MAX 255

enum cf_method {
    CF_PONG, /* the empty command */
    CF_CONNECT,
    CF_SUBSCRIBE,
    CF_UNSUBSCRIBE,
    CF_PUBLISH,
    CF_PRESENCE,
    CF_PRESENCE_STATS,
    CF_HISTORY,
    CF_PING,
    CF_SEND,
    CF_RPC,
    CF_REFRESH,
    CF_SUB_REFRESH,
    CF_UNKNOWN
};

struct cf_command {
    uint32_t id;
    enum cf_method method;
    struct bytes channel;
    struct bytes token;
    struct bytes name; /* connect: client name */
    struct bytes version;
    struct bytes data; /* raw JSON of publish, rpc, send, connect, subscribe; empty = absent */
    struct bytes rpc_method;
    bool recover;
    bool positioned;
    bool recoverable;
    bool join_leave;
    struct bytes epoch; /* subscribe: position; history: since.epoch */
    uint64_t offset;    /* subscribe: position; history: since.offset */
    bool has_since;     /* history */
    int64_t limit;      /* history */
    bool reverse;
    int64_t flag;
    int64_t type;            /* subscribe: 0 = ordinary */
    bool has_filter;         /* subscribe: asks for a tags filter (tf) */
    struct bytes delta;      /* subscribe: the delta encoding it asks for */
    const struct json *subs; /* connect: object channel -> {recover, epoch, offset}; or NULL */
};

/* Splits a frame: the next command's text, or count 0 at the end. `rest` is moved on; empty lines
 * are skipped. A frame without any command is the caller's protocol error. */
struct bytes cf_frame_next(struct bytes *rest);

/* Decodes one command's JSON. Of several methods the first in the order of enum cf_method counts.
 * Without an id all but `send` is a pong; with an id and no known method it is CF_UNKNOWN. */
enum err cf_command_decode(struct arena *a, struct bytes text, struct cf_command *out) MUST_USE;

/* Reads one entry of connect.subs; false when it is no object or a field has the wrong type. */
bool cf_sub_read(const struct json *sub, bool *recover_out, struct bytes *epoch_out,
                 uint64_t *offset_out);

/* Replies. `result_json` is a finished object; empty is written as {}. Each message begins at once:
 * between two of them in one buf the caller puts a newline. */
void cf_reply_result(struct buf *b, uint32_t id, const char *name, struct bytes result_json);
void cf_reply_error(struct buf *b, uint32_t id, uint32_t code, struct bytes message,
                    bool temporary);

/* {"push":{"channel":C,"pub":{"data":D[,"offset":N][,"epoch":E when offset is 1]}}} */
void cf_push_publication(struct buf *b, struct bytes channel, struct bytes data, uint64_t offset,
                         struct bytes epoch);
/* {"data":D[,"offset":N][,"epoch":E when offset is 1]}: one element of publications[]; the comma
 * before it is written when needed. */
void cf_publication(struct buf *b, struct bytes data, uint64_t offset, struct bytes epoch);
void cf_push_unsubscribe(struct buf *b, struct bytes channel, uint32_t code, const char *reason);

#endif
