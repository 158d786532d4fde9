/*  0                   1                   2                   3
 *  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
 * +-+-+-+-+-------+-+-------------+-------------------------------+
 * |F|R|R|R| opcode|M| Payload len |   2 bytes when len is 126,    |
 * |I|S|S|S|  (4)  |A|     (7)     |   8 bytes when len is 127     |
 * |N|V|V|V|       |S|             |                               |
 * +-+-+-+-+-------+-+-------------+-------------------------------+
 * |  4 bytes of mask (a client always masks), then the payload    |
 *
 * The reader consumes whatever it is given: the few bytes of a head that the network cut are kept
 * in the room for control payloads, which is free while no control frame is open. */
#include "codec/websocket.h"
#include "codec/base64.h"

#include <openssl/evp.h>

#define WS_CLOSE_PROTOCOL    1002
#define WS_CLOSE_NO_CODE     1005
#define WS_CLOSE_NOT_UTF8    1007
#define WS_CLOSE_TOO_BIG     1009
#define WS_CONTROL_BYTES_MAX 125
#define WS_REASON_BYTES_MAX  123
#define WS_HEAD_BYTES_MAX    14

static bool ws_is_control(enum ws_opcode opcode)
{
    return opcode >= WS_CLOSE;
}

static bool ws_opcode_is_known(uint8_t opcode)
{
    return opcode <= WS_BINARY || (opcode >= WS_CLOSE && opcode <= WS_PONG);
}

static uint64_t ws_be(const uint8_t *at, size_t count)
{
    uint64_t number = 0;
    for (size_t i = 0; i < count; i++)
        number = number << 8 | at[i];
    return number;
}

enum err ws_head_decode(struct bytes input, struct ws_head *out, uint16_t *close_code_out)
{
    struct ws_head head = {0};
    if (input.count < 1)
        return ERR_AGAIN;
    uint8_t opcode = input.at[0] & 0x0f;
    head.fin = (input.at[0] & 0x80) != 0;
    head.opcode = (enum ws_opcode)opcode;
    bool is_control = ws_is_control(head.opcode);
    if ((input.at[0] & 0x70) != 0 || !ws_opcode_is_known(opcode) || (is_control && !head.fin))
        goto refuse;
    if (input.count < 2)
        return ERR_AGAIN;
    uint8_t length = input.at[1] & 0x7f;
    bool is_masked = (input.at[1] & 0x80) != 0;
    if (!is_masked || (is_control && length > WS_CONTROL_BYTES_MAX))
        goto refuse;
    size_t wide = length == 127 ? 8 : length == 126 ? 2 : 0;
    if (input.count < 2 + wide)
        return ERR_AGAIN;
    head.length = wide == 0 ? length : ws_be(input.at + 2, wide);
    bool is_shortest =
        wide == 0 || (wide == 2 && head.length > 125) || (wide == 8 && head.length > UINT16_MAX);
    if (!is_shortest || head.length > INT64_MAX)
        goto refuse;
    head.head_bytes = (uint8_t)(2 + wide + 4);
    if (input.count < head.head_bytes)
        return ERR_AGAIN;
    memcpy(head.mask, input.at + 2 + wide, 4);
    *out = head;
    return ERR_OK;
refuse:
    *close_code_out = WS_CLOSE_PROTOCOL;
    return ERR_PROTO;
}

void ws_unmask(uint8_t *at, size_t count, const uint8_t mask[4], size_t phase)
{
    /* The mask turned so that its first byte meets at[0], and repeated to fill a word: the bytes
     * keep their order in memory, so this is right on any machine. */
    uint8_t turned[8];
    for (size_t i = 0; i < sizeof(turned); i++)
        turned[i] = mask[(phase + i) & 3];
    uint64_t key;
    memcpy(&key, turned, sizeof(key));
    size_t i = 0;
    for (; i + 32 <= count; i += 32) {
        uint64_t words[4];
        memcpy(words, at + i, sizeof(words));
        words[0] ^= key;
        words[1] ^= key;
        words[2] ^= key;
        words[3] ^= key;
        memcpy(at + i, words, sizeof(words));
    }
    for (; i + 8 <= count; i += 8) {
        uint64_t word;
        memcpy(&word, at + i, sizeof(word));
        word ^= key;
        memcpy(at + i, &word, sizeof(word));
    }
    for (; i < count; i++)
        at[i] ^= turned[i & 7];
}

static enum err ws_fail(struct ws_reader *r, uint16_t close_code, struct ws_step *out)
{
    r->failed_code = close_code;
    out->event = WS_EVENT_NONE;
    out->data = (struct bytes){NULL, 0};
    out->close_code = close_code;
    return ERR_PROTO;
}

/* What a finished head means for the message it belongs to. */
static enum err ws_frame_begin(struct ws_reader *r, uint64_t message_bytes_max, struct ws_step *out)
{
    const struct ws_head *h = &r->head;
    r->in_frame = true;
    r->frame_left = h->length;
    r->control_count = 0;
    if (ws_is_control(h->opcode)) {
        /* A close abandons the message in progress, so its UTF-8 state is free for the reason. */
        if (h->opcode == WS_CLOSE)
            r->utf8 = (struct utf8){0};
        return h->opcode == WS_CLOSE && h->length == 1 ? ws_fail(r, WS_CLOSE_PROTOCOL, out)
                                                       : ERR_OK;
    }
    if ((h->opcode == WS_CONTINUATION) != r->in_message)
        return ws_fail(r, WS_CLOSE_PROTOCOL, out);
    if (!r->in_message) {
        r->in_message = true;
        r->message_opcode = h->opcode;
        r->message_bytes = 0;
        r->utf8 = (struct utf8){0};
    }
    if (h->length > message_bytes_max || r->message_bytes > message_bytes_max - h->length)
        return ws_fail(r, WS_CLOSE_TOO_BIG, out);
    r->message_bytes += h->length;
    return ERR_OK;
}

/* Reads a head, from the input alone or joined with what an earlier call kept. */
static enum err ws_head_take(struct ws_reader *r, struct bytes rest, uint64_t message_bytes_max,
                             struct ws_step *out)
{
    uint16_t close_code = 0;
    size_t kept = r->control_count;
    size_t part = rest.count;
    struct bytes head = rest;
    if (kept > 0 || rest.count < WS_HEAD_BYTES_MAX) {
        part = size_min(rest.count, WS_HEAD_BYTES_MAX - kept);
        if (part > 0)
            memcpy(r->control + kept, rest.at, part);
        head = (struct bytes){r->control, kept + part};
    }
    enum err e = ws_head_decode(head, &r->head, &close_code);
    if (e == ERR_AGAIN) {
        r->control_count = (uint8_t)head.count;
        out->used += part;
        return ERR_AGAIN;
    }
    if (e != ERR_OK)
        return ws_fail(r, close_code, out);
    out->used += r->head.head_bytes - kept;
    return ws_frame_begin(r, message_bytes_max, out);
}

static bool ws_close_code_is_ok(uint64_t code)
{
    return (code >= 1000 && code <= 1003) || (code >= 1007 && code <= 1014) ||
           (code >= 3000 && code <= 4999);
}

/* Judges a close payload as its bytes come: the code once it is there, then the reason. */
static uint16_t ws_close_check(struct ws_reader *r, size_t before)
{
    if (r->control_count < 2)
        return 0;
    if (!ws_close_code_is_ok(ws_be(r->control, 2)))
        return WS_CLOSE_PROTOCOL;
    size_t from = size_max(before, 2);
    struct bytes reason = {r->control + from, r->control_count - from};
    if (utf8_feed(&r->utf8, reason) != ERR_OK)
        return WS_CLOSE_NOT_UTF8;
    if (r->frame_left == 0 && !utf8_is_whole(&r->utf8))
        return WS_CLOSE_NOT_UTF8;
    return 0;
}

static enum err ws_control_take(struct ws_reader *r, struct bytes rest, struct ws_step *out)
{
    size_t before = r->control_count;
    size_t part = size_min(rest.count, r->frame_left);
    if (part > 0)
        memcpy(r->control + before, rest.at, part);
    ws_unmask(r->control + before, part, r->head.mask, before);
    r->control_count = (uint8_t)(before + part);
    r->frame_left -= part;
    out->used += part;
    uint16_t bad = r->head.opcode == WS_CLOSE ? ws_close_check(r, before) : 0;
    if (bad != 0)
        return ws_fail(r, bad, out);
    if (r->frame_left > 0)
        return ERR_AGAIN;
    out->data = (struct bytes){r->control, r->control_count};
    out->opcode = r->head.opcode;
    r->in_frame = false;
    r->control_count = 0;
    if (r->head.opcode == WS_PING) {
        out->event = WS_EVENT_PING;
    } else if (r->head.opcode == WS_PONG) {
        out->event = WS_EVENT_PONG;
    } else {
        out->event = WS_EVENT_CLOSE;
        out->close_code = WS_CLOSE_NO_CODE;
        if (out->data.count > 0) {
            out->close_code = (uint16_t)ws_be(r->control, 2);
            out->data = (struct bytes){r->control + 2, out->data.count - 2};
        }
        r->is_closed = true;
    }
    return ERR_OK;
}

/* A run of message bytes. ERR_AGAIN also when a frame ended without anything to tell. */
static enum err ws_data_take(struct ws_reader *r, uint8_t *at, size_t count, struct ws_step *out)
{
    size_t part = size_min(count, r->frame_left);
    size_t phase = (size_t)((r->head.length - r->frame_left) & 3);
    ws_unmask(at, part, r->head.mask, phase);
    r->frame_left -= part;
    out->used += part;
    bool frame_ends = r->frame_left == 0;
    bool message_ends = frame_ends && r->head.fin;
    struct bytes data = {at, part};
    if (r->message_opcode == WS_TEXT) {
        if (utf8_feed(&r->utf8, data) != ERR_OK || (message_ends && !utf8_is_whole(&r->utf8)))
            return ws_fail(r, WS_CLOSE_NOT_UTF8, out);
    }
    if (frame_ends)
        r->in_frame = false;
    if (message_ends)
        r->in_message = false;
    if (part == 0 && !message_ends)
        return ERR_AGAIN;
    out->event = message_ends ? WS_EVENT_MESSAGE_END : WS_EVENT_DATA;
    out->data = data;
    out->opcode = r->message_opcode;
    return ERR_OK;
}

enum err ws_reader_step(struct ws_reader *r, uint8_t *at, size_t count, uint64_t message_bytes_max,
                        struct ws_step *out)
{
    memset(out, 0, sizeof(*out));
    if (r->failed_code != 0)
        return ws_fail(r, r->failed_code, out);
    if (r->is_closed) {
        out->used = count; /* RFC 6455, 5.5.1: what follows a close frame is thrown away */
        return ERR_AGAIN;
    }
    for (;;) {
        enum err e = ERR_OK;
        if (!r->in_frame) {
            if (out->used == count)
                return ERR_AGAIN;
            struct bytes rest = {at + out->used, count - out->used};
            e = ws_head_take(r, rest, message_bytes_max, out);
            if (e != ERR_OK)
                return e;
        }
        /* A frame without payload is finished by its head alone. */
        uint8_t *from = count == 0 ? at : at + out->used;
        size_t left = count - out->used;
        if (ws_is_control(r->head.opcode))
            e = ws_control_take(r, (struct bytes){from, left}, out);
        else
            e = ws_data_take(r, from, left, out);
        if (e != ERR_AGAIN || r->in_frame)
            return e;
    }
}

size_t ws_head_encode(uint8_t to[WS_SERVER_HEAD_BYTES_MAX], enum ws_opcode opcode, uint64_t length)
{
    to[0] = (uint8_t)(0x80u | (unsigned)opcode);
    if (length <= 125) {
        to[1] = (uint8_t)length;
        return 2;
    }
    size_t wide = length <= UINT16_MAX ? 2 : 8;
    to[1] = wide == 2 ? 126 : 127;
    for (size_t i = 0; i < wide; i++)
        to[2 + i] = (uint8_t)(length >> (8 * (wide - 1 - i)));
    return 2 + wide;
}

void ws_close_encode(struct buf *b, uint16_t code, struct bytes reason)
{
    uint8_t head[WS_SERVER_HEAD_BYTES_MAX];
    size_t reason_bytes = code == WS_CLOSE_NO_CODE ? 0 : utf8_prefix(reason, WS_REASON_BYTES_MAX);
    size_t payload_bytes = code == WS_CLOSE_NO_CODE ? 0 : 2 + reason_bytes;
    size_t head_bytes = ws_head_encode(head, WS_CLOSE, payload_bytes);
    if (!buf_reserve(b, head_bytes + payload_bytes))
        return;
    buf_put(b, head, head_bytes);
    if (payload_bytes > 0) {
        buf_byte(b, (uint8_t)(code >> 8));
        buf_byte(b, (uint8_t)code);
        buf_put(b, reason.at, reason_bytes);
    }
}

enum err ws_accept_make(struct bytes key, char out[29])
{
    static const char magic[] = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
    uint8_t nonce[18];
    size_t nonce_bytes = 0;
    if (key.count != 24 || base64_decode(key, nonce, &nonce_bytes) != ERR_OK || nonce_bytes != 16)
        return ERR_PROTO;
    uint8_t text[24 + sizeof(magic) - 1];
    memcpy(text, key.at, key.count);
    memcpy(text + key.count, magic, sizeof(magic) - 1);
    uint8_t digest[EVP_MAX_MD_SIZE];
    unsigned digest_bytes = 0;
    if (EVP_Digest(text, sizeof(text), digest, &digest_bytes, EVP_sha1(), NULL) != 1)
        return ERR_IO;
    CHECK(digest_bytes == 20);
    size_t count = base64_encode((struct bytes){digest, digest_bytes}, (uint8_t *)out);
    out[count] = '\0';
    return ERR_OK;
}
