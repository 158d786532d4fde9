/* echo_kith: the same echo through kith's engine, net and codecs, by their public functions, in one
 * engine. Prints its port.
 *
 *     gcc -std=c17 -D_GNU_SOURCE -O2 -Isrc bench/echo_kith.c libkith.a -lcurl -lcrypto -pthread */
#include "base/mem.h"
#include "codec/http1.h"
#include "codec/websocket.h"
#include "diag/diag.h"
#include "net/net.h"

#include <stdio.h>

enum { MESSAGE_BYTES_MAX = 1 << 20 };

struct client {
    struct net *net;
    bool open; /* the handshake is done */
    struct ws_reader reader;
    struct buf parts; /* pieces of a message that came cut */
};

/* `room` bytes in front of `last` are ours to write: the question's head stood there, and it is
 * longer than the answer's, because it had a mask. */
static void answer(struct client *c, struct handle conn, enum ws_opcode opcode, uint8_t *last_at,
                   size_t last_count, size_t room)
{
    uint8_t head[WS_SERVER_HEAD_BYTES_MAX];
    struct bytes parts = buf_view(&c->parts);
    struct bytes last = bytes_make(last_at, last_count);
    size_t head_bytes = ws_head_encode(head, opcode, parts.count + last.count);
    if (parts.count == 0 && room >= head_bytes) {
        memcpy(last_at - head_bytes, head, head_bytes);
        (void)net_send_copy(c->net, conn,
                            bytes_make(last_at - head_bytes, head_bytes + last_count));
        return;
    }
    (void)net_send_copy(c->net, conn, bytes_make(head, head_bytes)); /* on_close tells the rest */
    if (parts.count > 0)
        (void)net_send_copy(c->net, conn, parts);
    (void)net_send_copy(c->net, conn, last);
    if (parts.count > 0)
        buf_fini(&c->parts);
}

static void pong(struct client *c, struct handle conn, struct bytes payload)
{
    uint8_t head[WS_SERVER_HEAD_BYTES_MAX];
    size_t head_bytes = ws_head_encode(head, WS_PONG, payload.count);
    (void)net_send_copy(c->net, conn, bytes_make(head, head_bytes));
    (void)net_send_copy(c->net, conn, payload);
}

static void close_answer(struct client *c, struct handle conn, uint16_t code)
{
    uint8_t block[WS_SERVER_HEAD_BYTES_MAX + 2];
    struct buf b;
    buf_init_fixed(&b, block, sizeof(block));
    ws_close_encode(&b, code, (struct bytes){NULL, 0});
    (void)net_send_copy(c->net, conn, buf_view(&b));
    net_close(c->net, conn, false);
}

static size_t frames(struct client *c, struct handle conn, uint8_t *at, size_t count)
{
    size_t used = 0;
    struct ws_step step;
    while (used < count) {
        enum err err =
            ws_reader_step(&c->reader, at + used, count - used, MESSAGE_BYTES_MAX, &step);
        if (err == ERR_PROTO) {
            net_close(c->net, conn, true);
            return count;
        }
        uint8_t *data = step.data.count > 0 ? at + (step.data.at - at) : at + used;
        size_t room = (size_t)(data - (at + used));
        used += step.used;
        switch (step.event) {
        case WS_EVENT_NONE: break;
        case WS_EVENT_DATA: buf_bytes(&c->parts, step.data); break;
        case WS_EVENT_MESSAGE_END: answer(c, conn, step.opcode, data, step.data.count, room); break;
        case WS_EVENT_PING: pong(c, conn, step.data); break;
        case WS_EVENT_PONG: break;
        case WS_EVENT_CLOSE: close_answer(c, conn, step.close_code); return count;
        }
        if (err == ERR_AGAIN)
            break;
    }
    return used;
}

static size_t handshake(struct client *c, struct handle conn, uint8_t *at, size_t count)
{
    struct http1_request request;
    uint16_t status = 0;
    char accept[29];
    char text[256];
    enum err err = http1_request_decode(bytes_make(at, count), &request, &status);
    if (err == ERR_AGAIN)
        return 0;
    if (err != ERR_OK || !request.upgrade_websocket ||
        ws_accept_make(http1_header_get(&request, "Sec-WebSocket-Key"), accept) != ERR_OK) {
        net_close(c->net, conn, true);
        return count;
    }
    int bytes = snprintf(text, sizeof(text),
                         "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"
                         "Connection: Upgrade\r\nSec-WebSocket-Accept: %s\r\n\r\n",
                         accept);
    (void)net_send_copy(c->net, conn, bytes_make(text, (size_t)bytes));
    c->open = true;
    return request.head_bytes;
}

static size_t on_data(void *ctx, struct handle conn, uint8_t *at, size_t count)
{
    struct client *c = ctx;
    size_t used = 0;
    if (!c->open)
        used = handshake(c, conn, at, count);
    if (c->open)
        used += frames(c, conn, at + used, count - used);
    return used;
}

static void on_close(void *ctx, struct handle conn, enum net_close why)
{
    struct client *c = ctx;
    (void)conn;
    (void)why;
    buf_fini(&c->parts);
    mem_free(c);
}

static const struct net_owner owner = {.on_data = on_data, .on_close = on_close};

static void on_accept(void *ctx, struct handle conn, const struct net_address *from)
{
    struct net *n = ctx;
    (void)from;
    struct client *c = mem_new_zero(sizeof(*c));
    if (c == NULL) {
        net_close(n, conn, true);
        return;
    }
    c->net = n;
    buf_init(&c->parts, MESSAGE_BYTES_MAX);
    net_own(n, conn, &owner, c);
}

int main(void)
{
    static const struct config config = {.connections_max = 20000,
                                         .connections_address_rate = 1000000,
                                         .frame_bytes_max = MESSAGE_BYTES_MAX,
                                         .send_ephemeral_bytes_max = 65536,
                                         .send_bytes_max = 1 << 20,
                                         .send_stall_ms = 30000};
    char text[256];
    struct buf message;
    int fd;
    uint16_t port;
    diag_init("info");
    buf_init_fixed(&message, text, sizeof(text) - 1);
    if (engines_make(1, 0) != ERR_OK ||
        net_listen_open("127.0.0.1:0", &fd, 1, &port, &message) != ERR_OK)
        return 1;
    struct net *n = net_make(engine_at(0), &config);
    if (n == NULL)
        return 1;
    net_listen(n, fd, (struct net_listener){on_accept, n});
    (void)printf("%u\n", port);
    (void)fflush(stdout);
    engines_run();
    net_free(&n);
    engines_free();
    return 0;
}
