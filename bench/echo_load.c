/* echo_load: drives a WebSocket echo and counts. Each connection sends `batch` masked messages
 * in one write, waits for as many answers, checks every byte of them, and begins again. Prints
 * "messages seconds cpu_ns": the answers in the measured time, and the CPU time that the
 * server's threads took for them (the kernel's scheduler counts nanoseconds).
 *
 *     gcc -std=c17 -D_GNU_SOURCE -O2 -Isrc bench/echo_load.c libkith.a -pthread
 *     echo_load PORT PID CONNECTIONS BATCH BYTES SECONDS text|binary */
#include "base/base.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { HEAD_MAX = 8, EVENTS = 256, BLOCK = 65536, CONNECTIONS_MAX = 10000 };

struct client {
    int fd;
    size_t have; /* bytes of this batch's answers */
};

static struct {
    uint16_t port;
    long pid;
    size_t connections;
    size_t batch;
    size_t bytes;
    double seconds;
    bool text;
    uint8_t *question; /* a batch of masked frames */
    size_t question_bytes;
    uint8_t *answer; /* what must come back */
    size_t answer_bytes;
    uint64_t messages;
    int epoll_fd;
    struct client clients[CONNECTIONS_MAX];
} load;

static void die(const char *what)
{
    perror(what);
    exit(1);
}

static double now(void)
{
    struct timespec at;
    if (clock_gettime(CLOCK_MONOTONIC, &at) != 0)
        die("clock_gettime");
    return (double)at.tv_sec + (double)at.tv_nsec / 1e9;
}

/* Nanoseconds on a processor, of all threads of the server. */
static uint64_t server_cpu_ns(void)
{
    char path[300];
    uint64_t sum = 0;
    (void)snprintf(path, sizeof(path), "/proc/%ld/task", load.pid);
    DIR *folder = opendir(path);
    if (folder == NULL)
        die(path);
    for (struct dirent *entry = readdir(folder); entry != NULL; entry = readdir(folder)) {
        unsigned long long ns = 0;
        if (entry->d_name[0] == '.')
            continue;
        (void)snprintf(path, sizeof(path), "/proc/%ld/task/%.20s/schedstat", load.pid,
                       entry->d_name);
        FILE *file = fopen(path, "r");
        if (file == NULL || fscanf(file, "%llu", &ns) != 1)
            die(path);
        (void)fclose(file);
        sum += ns;
    }
    (void)closedir(folder);
    return sum;
}

static size_t frame_head(uint8_t *to, bool masked)
{
    to[0] = load.text ? 0x81 : 0x82;
    size_t head = 2;
    if (load.bytes < 126) {
        to[1] = (uint8_t)load.bytes;
    } else {
        to[1] = 126;
        to[2] = (uint8_t)(load.bytes >> 8);
        to[3] = (uint8_t)load.bytes;
        head = 4;
    }
    if (masked)
        to[1] |= 0x80;
    return head;
}

static void frames_make(void)
{
    static const uint8_t mask[4] = {0x12, 0x34, 0x56, 0x78};
    load.question = malloc(load.batch * (HEAD_MAX + load.bytes));
    load.answer = malloc(load.batch * (HEAD_MAX + load.bytes));
    if (load.question == NULL || load.answer == NULL)
        die("malloc");
    for (size_t i = 0; i < load.batch; i++) {
        uint8_t *question = load.question + load.question_bytes;
        uint8_t *answer = load.answer + load.answer_bytes;
        size_t head = frame_head(answer, false);
        (void)frame_head(question, true);
        memcpy(question + head, mask, 4);
        for (size_t j = 0; j < load.bytes; j++) {
            answer[head + j] = (uint8_t)('a' + (i + j) % 26);
            question[head + 4 + j] = answer[head + j] ^ mask[j % 4];
        }
        load.question_bytes += head + 4 + load.bytes;
        load.answer_bytes += head + load.bytes;
    }
}

static void client_ask(const struct client *c)
{
    ssize_t sent = send(c->fd, load.question, load.question_bytes, MSG_NOSIGNAL);
    if (sent != (ssize_t)load.question_bytes)
        die("send");
}

static void client_connect(struct client *c)
{
    static const char request[] =
        "GET /connection/websocket HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n"
        "Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
        "Sec-WebSocket-Version: 13\r\n\r\n";
    struct sockaddr_in at = {
        .sin_family = AF_INET, .sin_port = htons(load.port), .sin_addr = {htonl(INADDR_LOOPBACK)}};
    int one = 1;
    char reply[1024];
    size_t have = 0;
    c->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (c->fd < 0 || connect(c->fd, (struct sockaddr *)&at, sizeof(at)) != 0 ||
        setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one)) != 0 ||
        send(c->fd, request, sizeof(request) - 1, 0) != (ssize_t)sizeof(request) - 1)
        die("connect");
    while (memmem(reply, have, "\r\n\r\n", 4) == NULL) {
        ssize_t got = recv(c->fd, reply + have, sizeof(reply) - have, 0);
        if (got <= 0)
            die("handshake");
        have += (size_t)got;
    }
    if (memmem(reply, have, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=", 28) == NULL) {
        (void)fprintf(stderr, "the handshake was refused\n");
        exit(1);
    }
    struct epoll_event event = {.events = EPOLLIN, .data = {.ptr = c}};
    if (epoll_ctl(load.epoll_fd, EPOLL_CTL_ADD, c->fd, &event) != 0)
        die("epoll_ctl");
}

static void client_take(struct client *c)
{
    static uint8_t block[BLOCK];
    ssize_t got = recv(c->fd, block, sizeof(block), MSG_DONTWAIT);
    if (got < 0 && errno == EAGAIN)
        return;
    if (got <= 0)
        die("recv");
    if (c->have + (size_t)got > load.answer_bytes ||
        memcmp(block, load.answer + c->have, (size_t)got) != 0) {
        (void)fprintf(stderr, "an answer is wrong\n");
        exit(1);
    }
    c->have += (size_t)got;
    if (c->have < load.answer_bytes)
        return;
    c->have = 0;
    load.messages += load.batch;
    client_ask(c);
}

static void run_until(double end)
{
    struct epoll_event events[EVENTS];
    while (now() < end) {
        int count = epoll_wait(load.epoll_fd, events, EVENTS, 100);
        for (int i = 0; i < count; i++)
            client_take(events[i].data.ptr);
    }
}

int main(int count, char **arguments)
{
    if (count != 8) {
        (void)fprintf(stderr,
                      "usage: echo_load PORT PID CONNECTIONS BATCH BYTES SECONDS text|binary\n");
        return 2;
    }
    load.port = (uint16_t)strtoul(arguments[1], NULL, 10);
    load.pid = strtol(arguments[2], NULL, 10);
    load.connections = strtoul(arguments[3], NULL, 10);
    load.batch = strtoul(arguments[4], NULL, 10);
    load.bytes = strtoul(arguments[5], NULL, 10);
    load.seconds = strtod(arguments[6], NULL);
    load.text = strcmp(arguments[7], "text") == 0;
    load.epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (load.connections == 0 || load.connections > CONNECTIONS_MAX || load.batch == 0 ||
        load.bytes == 0 || load.bytes > 60000 || load.epoll_fd < 0)
        return 2;
    frames_make();
    for (size_t i = 0; i < load.connections; i++)
        client_connect(&load.clients[i]);
    for (size_t i = 0; i < load.connections; i++)
        client_ask(&load.clients[i]);
    run_until(now() + load.seconds / 5); /* warm */
    double began = now();
    uint64_t cpu = server_cpu_ns();
    load.messages = 0;
    run_until(began + load.seconds);
    cpu = server_cpu_ns() - cpu;
    (void)printf("%llu %.6f %llu\n", (unsigned long long)load.messages, now() - began,
                 (unsigned long long)cpu);
    return 0;
}
