/* A client that says anything over HTTP, and a talk that answers when it likes: a line of input is
 * one thing that happens, named by its first byte. Whatever it was, nothing is left when the client
 * is gone.
 *
 *     >TEXT  a line, with CRLF behind it          +BYTES  as they are
 *     a e x  the oldest question is answered, refused, forgotten
 *     h      the client says no more              sN      N seconds pass */
#include "api/api_priv.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#define FUZZ_STEPS_MAX 200

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct {
    struct config *config;
    struct auth *auth;
    struct engine *engine;
    struct net *net;
    struct command_desk *desk;
    struct sessions *sessions;
    struct api *api;
    uint16_t port;
    struct msg *first;
    struct msg *last;
    int fd;
} world;

static void record(void *ctx, struct msg *m)
{
    (void)ctx;
    m->next = NULL;
    if (world.last == NULL)
        world.first = m;
    else
        world.last->next = m;
    world.last = m;
}

static void world_make(void)
{
    struct buf message;
    char text[512];
    int fd = -1;
    char *environment[] = {NULL};
    struct config_set sets[] = {{"store=mem"},
                                {"auth.guests=true"},
                                {"auth.insecure=true"},
                                {"auth.hs256_secret=0123456789abcdef0123456789abcdef"},
                                {"auth.api_keys.0=key"},
                                {"models.0.name=m"},
                                {"models.0.url=http://127.0.0.1:1/v1"},
                                {"limits.connections_per_address=1000000"},
                                {"limits.frame=4096"},
                                {"limits.text=4096"}};
    diag_init("error");
    diag_output_set(open("/dev/null", O_WRONLY | O_CLOEXEC));
    buf_init_fixed(&message, text, sizeof(text));
    CHECK(config_load(NULL, environment, sets, ARRAY_COUNT(sets), &world.config, &message) ==
          ERR_OK);
    CHECK(auth_make(world.config, &world.auth, &message) == ERR_OK);
    CHECK(engines_make(1, 7) == ERR_OK);
    world.engine = engine_at(0);
    world.net = net_make(world.engine, world.config);
    world.desk = command_desk_make(world.engine, world.config);
    world.sessions = sessions_make(world.engine, world.net, world.auth, world.desk, world.config);
    world.api =
        api_make(world.engine, world.net, world.sessions, world.auth, world.desk, world.config);
    CHECK(world.api != NULL);
    engine_listen(world.engine, PORT_TALK, record, NULL);
    CHECK(net_listen_open("127.0.0.1:0", &fd, 1, &world.port, &message) == ERR_OK);
    net_listen(world.net, fd, api_listener(world.api));
}

static void step(void)
{
    engine_step(world.engine, 0);
    engine_step(world.engine, 0);
}

static void client_open(void)
{
    struct linger off = {.l_onoff = 1, .l_linger = 0}; /* leaves no port behind */
    struct sockaddr_in to = {
        .sin_family = AF_INET, .sin_port = htons(world.port), .sin_addr = {htonl(INADDR_LOOPBACK)}};
    world.fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    CHECK(connect(world.fd, (struct sockaddr *)&to, sizeof(to)) == 0);
    CHECK(setsockopt(world.fd, SOL_SOCKET, SO_LINGER, &off, sizeof(off)) == 0);
    CHECK(fcntl(world.fd, F_SETFL, O_NONBLOCK) == 0);
    for (int i = 0; i < FUZZ_STEPS_MAX && net_connections(world.net) == 0; i++)
        engine_step(world.engine, 1);
}

static void client_bytes(struct bytes b, bool line)
{
    (void)send(world.fd, b.at, b.count, MSG_NOSIGNAL); /* it may have been closed */
    if (line)
        (void)send(world.fd, "\r\n", 2, MSG_NOSIGNAL);
    step();
}

/* `how`: a, e or x. Sessions that were opened are answered nothing. */
static void answer(uint8_t how)
{
    struct msg *m = world.first;
    if (m == NULL)
        return;
    world.first = m->next;
    if (world.first == NULL)
        world.last = NULL;
    if (how != 'x' && m->kind == BUS_COMMAND) {
        const struct bus_command *c = (const struct bus_command *)(const void *)m;
        if (how == 'a')
            bus_answer_result(&c->from, blob_copy(bytes_of("{}")));
        else
            bus_answer_error(&c->from, 111, true, "text", "later");
    }
    msg_free(m);
    step();
}

static void happen(struct bytes line)
{
    struct bytes rest = {line.at + 1, line.count - 1};
    switch (line.at[0]) {
    case '>': client_bytes(rest, true); break;
    case '+': client_bytes(rest, false); break;
    case 'a':
    case 'e':
    case 'x': answer(line.at[0]); break;
    case 'h':
        (void)shutdown(world.fd, SHUT_WR); /* it may have been closed */
        step();
        break;
    case 's':
        engine_clock_skip(rest.count > 0 ? (rest.at[0] & 127) * 1000 : 0);
        step();
        break;
    default: break;
    }
}

static void everybody_leaves(void)
{
    close(world.fd);
    for (int i = 0; i < FUZZ_STEPS_MAX && net_connections(world.net) > 0; i++)
        engine_step(world.engine, 1);
    CHECK(net_connections(world.net) == 0);
    CHECK(world.api->conns.used_count == 0);
    while (world.first != NULL)
        answer('a'); /* late answers find nobody */
    CHECK(world.api->conns.used_count == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    size_t at = 0;
    if (world.engine == NULL)
        world_make();
    client_open();
    while (at < size) {
        const uint8_t *end = memchr(data + at, '\n', size - at);
        size_t count = end == NULL ? size - at : (size_t)(end - data) - at;
        if (count > 0)
            happen(bytes_make(data + at, count));
        at += count + 1;
    }
    everybody_leaves();
    return 0;
}
