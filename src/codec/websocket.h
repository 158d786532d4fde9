/* websocket: RFC 6455 frames, server side, as pure functions.
 *
 * Thread  : any; pure. No extension is ever negotiated: reserved bits are refused.
 * Errors  : ERR_AGAIN = more bytes; ERR_PROTO = close with `close_code`.
 * Limits  : the caller's message_bytes_max (1009).
 * Source  : RFC 6455 sections 5 and 7. */
#ifndef CODEC_WEBSOCKET_H
#define CODEC_WEBSOCKET_H

#include "base/base.h"
#include "base/buf.h"
#include "codec/utf8.h"

enum ws_opcode {
    WS_CONTINUATION = 0,
    WS_TEXT = 1,
    WS_BINARY = 2,
    WS_CLOSE = 8,
    WS_PING = 9,
    WS_PONG = 10
};

struct ws_head {
    bool fin;
    enum ws_opcode opcode;
    uint64_t length;
    uint8_t mask[4];
    uint8_t head_bytes;
};

/* Reads one client frame header from the front of `input`; never reads past it, never allocates.
 * ERR_PROTO: *close_code_out = 1002. */
enum err ws_head_decode(struct bytes input, struct ws_head *out, uint16_t *close_code_out) MUST_USE;

/* XORs count bytes in place; `phase` = position in the payload of the first one (mod 4). */
void ws_unmask(uint8_t *at, size_t count, const uint8_t mask[4], size_t phase);

/* What a connection remembers between reads: small, no buffer. Zeroed = start. */
struct ws_reader {
    struct ws_head head;
    uint64_t frame_left;    /* payload bytes of the current frame still to come */
    uint64_t message_bytes; /* of the message so far */
    bool in_frame;
    bool in_message; /* a data message has begun and is not finished */
    enum ws_opcode message_opcode;
    struct utf8 utf8;
    uint16_t failed_code; /* not 0: the stream is broken, and stays so */
    bool is_closed;       /* a close frame was read; what follows is thrown away */
    uint8_t control_count;
    uint8_t control[125]; /* a control payload in parts; between frames, a head in parts */
};

enum ws_event {
    WS_EVENT_NONE,
    WS_EVENT_DATA,
    WS_EVENT_MESSAGE_END,
    WS_EVENT_PING,
    WS_EVENT_PONG,
    WS_EVENT_CLOSE
};

struct ws_step {
    enum ws_event event;
    size_t used;           /* bytes of input consumed */
    struct bytes data;     /* DATA, MESSAGE_END: unmasked payload in place; a control's payload */
    enum ws_opcode opcode; /* of the message */
    uint16_t close_code;   /* WS_EVENT_CLOSE: the peer's code or 1005; after ERR_PROTO: ours */
};

/* Takes the next step over at[0..count) (unmasked in place). Call again with the rest until
 * WS_EVENT_NONE with ERR_AGAIN: then all was consumed (used == count; a head or control payload
 * that was cut is kept inside). DATA is a piece of the current message that is not its end;
 * MESSAGE_END carries the last piece (maybe empty). Views into `at` live as long as it does, a
 * control payload until the next step; CLOSE's data is the reason without the code. Text is checked
 * as it arrives (1007), size at the header (1009). A broken stream stays broken. */
enum err ws_reader_step(struct ws_reader *r, uint8_t *at, size_t count, uint64_t message_bytes_max,
                        struct ws_step *out) MUST_USE;

/* The header of an unmasked server frame; returns its bytes (at most 10). */
#define WS_SERVER_HEAD_BYTES_MAX 10
size_t ws_head_encode(uint8_t to[WS_SERVER_HEAD_BYTES_MAX], enum ws_opcode opcode, uint64_t length);

/* A close frame with code and reason (cut to 123 bytes at a character); 1005 = an empty one. */
void ws_close_encode(struct buf *b, uint16_t code, struct bytes reason);

/* Sec-WebSocket-Accept for a key (SHA-1 and base64; OpenSSL's EVP), with a NUL behind it. ERR_PROTO
 * when the key is not 16 bytes in base64; ERR_IO when OpenSSL has no SHA-1. */
enum err ws_accept_make(struct bytes key, char out[29]) MUST_USE;

#endif
