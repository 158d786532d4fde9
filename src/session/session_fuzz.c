/* A client that says anything, and a talk that answers in any order: a line of input is one thing
 * that happens, named by its first byte. Whatever it was, nothing is left when the client is gone.
 *
 *     >TEXT  a frame; a tab in it is a newline     [TEXT  -TEXT  ]TEXT  the pieces of a message
 *     !BYTES as they are                           pTEXT  cTEXT  ping and close frames
 *     a e x  the oldest question is answered, refused, forgotten
 *     uN dN iN  a publication at offset N: durable, a delta, to the inbox
 *     k      a kick                                sN     N seconds pass */
#include "session/session_priv.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#define FUZZ_STEPS_MAX 200
#define FUZZ_LINE_MAX  1024

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct {
    struct config *config;
    struct auth *auth;
    struct engine *engine;
    struct net *net;
    struct command_desk *desk;
    struct sessions *sessions;
    uint16_t port;
    struct msg *first;
    struct msg *last;
    struct channel_key inbox;
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

static void on_accept(void *ctx, struct handle conn, const struct net_address *from)
{
    (void)ctx;
    (void)from;
    if (!session_open(world.sessions, conn))
        net_close(world.net, conn, true);
}

static void world_make(void)
{
    struct buf message;
    char text[512];
    int fd = -1;
    char *environment[] = {NULL};
    struct config_set sets[] = {{"store=mem"},
                                {"auth.guests=true"},
                                {"auth.hs256_secret=0123456789abcdef0123456789abcdef"},
                                {"models.0.name=m"},
                                {"models.0.url=http://127.0.0.1:1/v1"},
                                {"limits.connections_per_address=1000000"},
                                {"limits.unanswered=3"},
                                {"limits.channels=4"}};
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
    CHECK(world.sessions != NULL);
    engine_listen(world.engine, PORT_TALK, record, NULL);
    CHECK(net_listen_open("127.0.0.1:0", &fd, 1, &world.port, &message) == ERR_OK);
    net_listen(world.net, fd, (struct net_listener){on_accept, NULL});
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
    for (int i = 0; i < FUZZ_STEPS_MAX && world.sessions->slots.used_count == 0; i++)
        engine_step(world.engine, 1);
}

static void client_bytes(struct bytes b)
{
    (void)send(world.fd, b.at, b.count, MSG_NOSIGNAL); /* it may have been closed */
    step();
}

/* A frame masked with zeros. */
static void client_frame(uint8_t first, struct bytes payload)
{
    uint8_t frame[FUZZ_LINE_MAX + 8] = {first, 0x80 | 126, (uint8_t)(payload.count >> 8),
                                        (uint8_t)payload.count};
    if (payload.count > 0)
        memcpy(frame + 8, payload.at, payload.count);
    for (size_t i = 8; i < 8 + payload.count && (first & 15) <= WS_TEXT; i++)
        frame[i] = frame[i] == '\t' ? '\n' : frame[i];
    if (payload.count < 126) {
        frame[6] = first;
        frame[7] = (uint8_t)(0x80 | payload.count);
        memmove(frame, frame + 6, 2);
        memset(frame + 2, 0, 4);
        memmove(frame + 6, frame + 8, payload.count);
        client_bytes(bytes_make(frame, 6 + payload.count));
    } else {
        client_bytes(bytes_make(frame, 8 + payload.count));
    }
}

static void answer_subscribe(const struct bus_subscribe *q, bool fine)
{
    struct bus_subscribed *a = BUS_NEW(SUBSCRIBED, bus_subscribed, PORT_SESSION);
    a->to = q->from;
    a->key = q->key;
    a->code = fine ? 0 : 103;
    a->message = "permission denied";
    a->epoch_count = 1;
    a->epoch[0] = 'e';
    a->recovered = q->recover;
    a->offset = q->recover ? q->offset : 2;
    if (q->key.kind == CHANNEL_INBOX)
        world.inbox = q->key;
    engine_post(world.engine, &a->msg);
}

/* `how`: a, e or x. What needs no answer is passed over. */
static void answer(uint8_t how)
{
    struct msg *m = world.first;
    if (m == NULL)
        return;
    world.first = m->next;
    if (world.first == NULL)
        world.last = NULL;
    if (how != 'x' && m->kind == BUS_SUBSCRIBE) {
        answer_subscribe((const struct bus_subscribe *)(const void *)m, how == 'a');
    } else if (how != 'x' && m->kind == BUS_COMMAND) {
        const struct bus_command *c = (const struct bus_command *)(const void *)m;
        if (how == 'a')
            bus_answer_result(&c->from, blob_copy(bytes_of("{}")));
        else
            bus_answer_error(&c->from, 404, false, NULL, "no");
    }
    msg_free(m);
    step();
}

static struct channel_key conv_key(void)
{
    struct channel_key k = {.kind = CHANNEL_CONV};
    CHECK(id_parse(bytes_of("c"), &k.conv) == ERR_OK);
    return k;
}

static void publish(uint8_t what, uint64_t offset)
{
    struct bus_publish *p = BUS_NEW(PUBLISH, bus_publish, PORT_SESSION);
    p->key = what == 'i' ? world.inbox : conv_key();
    p->data = blob_copy(bytes_of("{}"));
    p->offset = what == 'd' ? 0 : offset;
    p->droppable = what == 'd';
    engine_post(world.engine, &p->msg);
    step();
}

static void kick(void)
{
    struct bus_kick *k = BUS_NEW(KICK, bus_kick, PORT_SESSION);
    k->key = conv_key();
    k->code = 2000;
    k->reason = "deleted";
    engine_post(world.engine, &k->msg);
    step();
}

static void happen(struct bytes line)
{
    struct bytes rest = {line.at + 1, size_min(line.count - 1, FUZZ_LINE_MAX)};
    uint64_t number = rest.count > 0 ? (uint64_t)(rest.at[0] - '0') & 31 : 0;
    switch (line.at[0]) {
    case '>': client_frame(0x80 | WS_TEXT, rest); break;
    case '[': client_frame(WS_TEXT, rest); break;
    case '-': client_frame(WS_CONTINUATION, rest); break;
    case ']': client_frame(0x80 | WS_CONTINUATION, rest); break;
    case 'p': client_frame(0x80 | WS_PING, rest); break;
    case 'c': client_frame(0x80 | WS_CLOSE, rest); break;
    case '!': client_bytes(rest); break;
    case 'a':
    case 'e':
    case 'x': answer(line.at[0]); break;
    case 'u':
    case 'd':
    case 'i': publish(line.at[0], number); break;
    case 'k': kick(); break;
    case 's':
        engine_clock_skip((int64_t)number * 1000);
        step();
        break;
    default: break;
    }
}

static void everybody_leaves(void)
{
    struct sessions *s = world.sessions;
    close(world.fd);
    for (int i = 0; i < FUZZ_STEPS_MAX && s->slots.used_count > 0; i++)
        engine_step(world.engine, 1);
    CHECK(s->slots.used_count == 0);
    CHECK(s->subs.used_count == 0);
    CHECK(s->channels.used_count == 0);
    CHECK(diag_gauge_sum(DIAG_G_sessions) == 0);
    CHECK(diag_gauge_sum(DIAG_G_subscriptions) == 0);
    while (world.first != NULL)
        answer('a'); /* late answers find nobody */
    CHECK(s->slots.used_count == 0);
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
