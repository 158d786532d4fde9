/* echo_floor: the least a WebSocket echo can cost: epoll, read, unmask, write. It knows
 * unfragmented frames only and has no limits, timers, owners or counters: the floor that kith's
 * echo is measured against. Prints its port.
 *
 *     gcc -std=c17 -D_GNU_SOURCE -O2 -Isrc bench/echo_floor.c libkith.a -lcrypto -pthread */
#include "codec/websocket.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { BLOCK = 65536, EVENTS = 256, HEAD_MAX = 14 };

struct client {
    int fd;
    bool open; /* the handshake is done */
    size_t count;
    uint8_t bytes[BLOCK];
};

static uint8_t answer[BLOCK];

static void die(const char *what)
{
    perror(what);
    exit(1);
}

static void send_all(int fd, const uint8_t *at, size_t count)
{
    while (count > 0) {
        ssize_t sent = send(fd, at, count, MSG_NOSIGNAL);
        if (sent < 0 && errno == EAGAIN) {
            struct pollfd wait = {.fd = fd, .events = POLLOUT};
            (void)poll(&wait, 1, -1);
            continue;
        }
        if (sent < 0)
            return; /* the next read tells */
        at += sent;
        count -= (size_t)sent;
    }
}

/* Answers how many bytes of the front were the handshake; 0 = not all there. */
static size_t handshake(struct client *c)
{
    static const char name[] = "Sec-WebSocket-Key: ";
    char accept[29];
    char text[256];
    uint8_t *end = memmem(c->bytes, c->count, "\r\n\r\n", 4);
    uint8_t *key = memmem(c->bytes, c->count, name, sizeof(name) - 1);
    if (end == NULL || key == NULL)
        return 0;
    if (ws_accept_make(bytes_make(key + sizeof(name) - 1, 24), accept) != ERR_OK)
        return 0;
    int count = snprintf(text, sizeof(text),
                         "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"
                         "Connection: Upgrade\r\nSec-WebSocket-Accept: %s\r\n\r\n",
                         accept);
    send_all(c->fd, (const uint8_t *)text, (size_t)count);
    c->open = true;
    return (size_t)(end - c->bytes) + 4;
}

/* One frame of the front is echoed behind `out`: its bytes, or 0 when it is not all there. */
static size_t frame_echo(uint8_t *at, size_t count, size_t *out)
{
    if (count < 6)
        return 0;
    size_t length = at[1] & 127u;
    size_t head = 2;
    if (length == 126) {
        length = (size_t)at[2] << 8 | at[3];
        head = 4;
    } else if (length == 127) {
        exit(3); /* no case measures frames of 64 KiB */
    }
    if (count < head + 4 + length)
        return 0;
    const uint8_t *mask = at + head;
    uint8_t *payload = at + head + 4;
    uint8_t *to = answer + *out;
    uint64_t mask8;
    memcpy(&mask8, mask, 4);
    memcpy((uint8_t *)&mask8 + 4, mask, 4);
    to[0] = at[0];
    to[1] = at[1] & 127u;
    if (head == 4)
        memcpy(to + 2, at + 2, 2);
    to += head;
    size_t i = 0;
    for (; i + 8 <= length; i += 8) {
        uint64_t word;
        memcpy(&word, payload + i, 8);
        word ^= mask8;
        memcpy(to + i, &word, 8);
    }
    for (; i < length; i++)
        to[i] = payload[i] ^ mask[i % 4];
    *out += head + length;
    return head + 4 + length;
}

static void client_read(struct client *c)
{
    ssize_t got = read(c->fd, c->bytes + c->count, sizeof(c->bytes) - c->count);
    if (got <= 0) {
        if (got < 0 && errno == EAGAIN)
            return;
        close(c->fd);
        free(c);
        return;
    }
    c->count += (size_t)got;
    size_t used = c->open ? 0 : handshake(c);
    size_t out = 0;
    while (c->open) {
        size_t frame = frame_echo(c->bytes + used, c->count - used, &out);
        if (frame == 0)
            break;
        used += frame;
    }
    if (out > 0)
        send_all(c->fd, answer, out);
    c->count -= used;
    if (c->count > 0 && used > 0)
        memmove(c->bytes, c->bytes + used, c->count);
}

static void client_accept(int epoll_fd, int listen_fd)
{
    int fd = accept4(listen_fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd < 0)
        return;
    struct client *c = calloc(1, sizeof(*c));
    if (c == NULL)
        die("calloc");
    c->fd = fd;
    struct epoll_event event = {.events = EPOLLIN, .data = {.ptr = c}};
    if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &event) != 0)
        die("epoll_ctl");
}

int main(void)
{
    int one = 1;
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    socklen_t bytes = sizeof(at);
    int listen_fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    int epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (listen_fd < 0 || epoll_fd < 0 || bind(listen_fd, (struct sockaddr *)&at, sizeof(at)) != 0 ||
        setsockopt(listen_fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one)) != 0 ||
        listen(listen_fd, 4096) != 0 || getsockname(listen_fd, (struct sockaddr *)&at, &bytes) != 0)
        die("listen");
    struct epoll_event event = {.events = EPOLLIN, .data = {.ptr = NULL}};
    if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, listen_fd, &event) != 0)
        die("epoll_ctl");
    (void)printf("%u\n", ntohs(at.sin_port));
    (void)fflush(stdout);
    for (;;) {
        struct epoll_event events[EVENTS];
        int count = epoll_wait(epoll_fd, events, EVENTS, -1);
        for (int i = 0; i < count; i++) {
            if (events[i].data.ptr == NULL)
                client_accept(epoll_fd, listen_fd);
            else
                client_read(events[i].data.ptr);
        }
    }
}
