/* HTTP out (http_out.c), against a small server in the same engine that says what it is told to. */
#include "net/net_stage_priv.h"

#include <netinet/tcp.h>
#include <stdlib.h>

enum { SERVER_CONNS = 64, SCRIPTS = 64, REQUEST_BYTES = 3 << 20, BODY_BYTES = 1 << 20 };

enum after { AFTER_KEEP, AFTER_CLOSE, AFTER_RESET };

/* What the server does when the n-th request has come. */
struct script {
    const char *answer;
    size_t answer_bytes; /* 0 = strlen */
    bool byte_by_byte;   /* each in a turn of its own */
    enum after after;
};

struct server_conn {
    struct watch watch;
    struct timer timer;
    char *request;
    size_t request_bytes;
    const struct script *script;
    size_t sent;
    bool ended; /* the client said its end, or reset */
};

static struct server {
    int fd;
    uint16_t port;
    struct watch watch;
    struct server_conn conns[SERVER_CONNS];
    size_t conns_count;
    struct script scripts[SCRIPTS];
    size_t requests;
} server;

struct caller {
    struct handle request;
    uint16_t status;
    char content_type[128];
    int64_t retry_after_ms;
    size_t heads;
    size_t pieces;
    uint8_t *body;
    size_t body_bytes;
    size_t dones;
    enum http_out_error error;
    char detail[256];
    bool cancel_in_head;
    bool cancel_in_body;
    void (*in_done)(struct caller *c);
};

/* ---- the server */

static void server_conn_close(struct server_conn *c)
{
    watch_clear(stage.engine, &c->watch);
    timer_clear(stage.engine, &c->timer);
    if (c->watch.fd >= 0)
        close(c->watch.fd);
    c->watch.fd = -1;
    mem_free(c->request);
    c->request = NULL;
}

static void server_after(struct server_conn *c)
{
    struct linger off = {.l_onoff = 1, .l_linger = 0};
    enum after after = c->script->after;
    c->script = NULL;
    c->sent = 0;
    if (after == AFTER_RESET)
        assert_int_equal(setsockopt(c->watch.fd, SOL_SOCKET, SO_LINGER, &off, sizeof(off)), 0);
    if (after != AFTER_KEEP)
        server_conn_close(c);
}

static void server_answer(void *ctx)
{
    struct server_conn *c = ctx;
    const struct script *s = c->script;
    size_t whole = s->answer_bytes > 0 ? s->answer_bytes : strlen(s->answer);
    size_t count = s->byte_by_byte ? size_min(1, whole - c->sent) : whole - c->sent;
    assert_int_equal(send(c->watch.fd, s->answer + c->sent, count, MSG_NOSIGNAL), (ssize_t)count);
    c->sent += count;
    if (c->sent == whole)
        server_after(c);
    else
        timer_set(stage.engine, &c->timer, (struct mono){0});
}

/* Bytes of a whole request in front, 0 = not there yet. */
static size_t server_request_bytes(const struct server_conn *c)
{
    const char *end = memmem(c->request, c->request_bytes, "\r\n\r\n", 4);
    if (end == NULL)
        return 0;
    size_t head = (size_t)(end - c->request) + 4;
    size_t body = 0;
    const char *length = memmem(c->request, head, "Content-Length: ", 16);
    if (length != NULL)
        body = (size_t)strtoul(length + 16, NULL, 10);
    return c->request_bytes >= head + body ? head + body : 0;
}

static void server_ready(void *ctx, uint32_t events)
{
    struct server_conn *c = ctx;
    (void)events;
    if (c->script == NULL && server_request_bytes(c) > 0)
        c->request_bytes = 0; /* the next one */
    ssize_t got =
        recv(c->watch.fd, c->request + c->request_bytes, REQUEST_BYTES - 1 - c->request_bytes, 0);
    if (got <= 0) {
        assert_true(got == 0 || errno == ECONNRESET);
        c->ended = true;
        server_conn_close(c);
        return;
    }
    c->request_bytes += (size_t)got;
    c->request[c->request_bytes] = '\0';
    if (server_request_bytes(c) == 0)
        return;
    assert_true(server.requests < SCRIPTS);
    c->script = &server.scripts[server.requests];
    server.requests++;
    if (c->script->answer != NULL)
        server_answer(c);
}

static void server_accept(void *ctx, uint32_t events)
{
    int one = 1;
    (void)ctx;
    (void)events;
    assert_true(server.conns_count < SERVER_CONNS);
    struct server_conn *c = &server.conns[server.conns_count];
    server.conns_count++;
    int fd = accept4(server.fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    assert_true(fd >= 0);
    assert_int_equal(setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one)), 0);
    c->request = mem_new(REQUEST_BYTES);
    assert_non_null(c->request);
    timer_init(&c->timer, server_answer, c);
    assert_int_equal(watch_set(stage.engine, &c->watch, fd, ENGINE_READ, server_ready, c), ERR_OK);
}

static int make(void **state)
{
    char text[128];
    struct buf message;
    if (stage_make(state) != 0)
        return -1;
    memset(&server, 0, sizeof(server));
    buf_init_fixed(&message, text, sizeof(text));
    if (net_listen_open("127.0.0.1:0", &server.fd, 1, &server.port, &message) != ERR_OK)
        return -1;
    return watch_set(stage.engine, &server.watch, server.fd, ENGINE_READ, server_accept, NULL) ==
                   ERR_OK
               ? 0
               : -1;
}

static struct caller callers[40];

static int unmake(void **state)
{
    for (size_t i = 0; i < server.conns_count; i++)
        server_conn_close(&server.conns[i]);
    watch_clear(stage.engine, &server.watch);
    close(server.fd);
    for (size_t i = 0; i < ARRAY_COUNT(callers); i++)
        mem_free(callers[i].body);
    memset(callers, 0, sizeof(callers));
    return stage_unmake(state);
}

/* ---- the caller */

static void on_head(void *ctx, uint16_t status, struct bytes content_type, int64_t retry_after_ms)
{
    struct caller *c = ctx;
    assert_int_equal(c->heads, 0);
    assert_int_equal(c->dones, 0);
    assert_true(content_type.count < sizeof(c->content_type));
    c->heads++;
    c->status = status;
    memcpy(c->content_type, content_type.at, content_type.count);
    c->content_type[content_type.count] = '\0';
    c->retry_after_ms = retry_after_ms;
    if (c->cancel_in_head)
        http_out_cancel(stage.net, c->request);
}

static void on_body(void *ctx, struct bytes piece)
{
    struct caller *c = ctx;
    assert_int_equal(c->heads, 1);
    assert_int_equal(c->dones, 0);
    assert_false(c->cancel_in_head);
    if (c->body == NULL)
        c->body = mem_new(BODY_BYTES);
    assert_true(c->body != NULL && c->body_bytes + piece.count <= BODY_BYTES);
    memcpy(c->body + c->body_bytes, piece.at, piece.count);
    c->body_bytes += piece.count;
    c->pieces++;
    if (c->cancel_in_body)
        http_out_cancel(stage.net, c->request);
}

static void on_done(void *ctx, enum http_out_error error, const char *detail)
{
    struct caller *c = ctx;
    assert_false(c->cancel_in_head || c->cancel_in_body);
    c->dones++;
    c->error = error;
    (void)snprintf(c->detail, sizeof(c->detail), "%s", detail);
    assert_true(error == HTTP_OUT_OK || c->detail[0] != '\0');
    if (c->in_done != NULL)
        c->in_done(c);
}

static const struct http_out_owner owner = {on_head, on_body, on_done};

static enum err start(struct caller *c, struct http_out_request r)
{
    char url[64];
    (void)snprintf(url, sizeof(url), "http://127.0.0.1:%u/v1/x", server.port);
    if (r.url == NULL)
        r.url = url;
    r.connect_ms = 5000;
    return http_out_start(stage.net, &r, &owner, c, &c->request);
}

static struct caller *ask(size_t index, struct http_out_request r)
{
    struct caller *c = &callers[index];
    assert_int_equal(start(c, r), ERR_OK);
    assert_int_equal(c->heads + c->dones, 0);
    return c;
}

static struct caller *ask_to_end(struct http_out_request r)
{
    memset(&callers[0], 0, offsetof(struct caller, body));
    callers[0].body_bytes = 0;
    callers[0].dones = 0;
    struct caller *c = ask(0, r);
    UNTIL(c->dones == 1);
    assert_int_equal(http_out_count(stage.net), 0);
    return c;
}

#define GET ((struct http_out_request){.total_ms = 0})
#define LENGTH_ANSWER \
    "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 5\r\n\r\nhello"
#define CHUNKED_ANSWER                                                                         \
    "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n" \
    "5\r\nhello\r\n1;x=y\r\n \r\n5\r\nworld\r\n0\r\nContent-Type: trailer\r\n\r\n"

static void body_is(const struct caller *c, const char *text)
{
    assert_int_equal(c->body_bytes, strlen(text));
    assert_memory_equal(c->body, text, strlen(text));
}

/* ---- answers */

static void an_answer_with_a_length(void **state)
{
    (void)state;
    server.scripts[0] = (struct script){.answer = LENGTH_ANSWER};
    struct caller *c = ask_to_end(GET);
    assert_int_equal(c->error, HTTP_OUT_OK);
    assert_int_equal(c->status, 200);
    assert_string_equal(c->content_type, "text/plain");
    assert_int_equal(c->retry_after_ms, -1);
    body_is(c, "hello");
    assert_non_null(strstr(server.conns[0].request, "GET /v1/x HTTP/1.1\r\n"));
}

static void a_chunked_answer_with_a_trailer(void **state)
{
    (void)state;
    server.scripts[0] = (struct script){.answer = CHUNKED_ANSWER};
    struct caller *c = ask_to_end(GET);
    assert_int_equal(c->error, HTTP_OUT_OK);
    assert_string_equal(c->content_type, "text/event-stream");
    body_is(c, "hello world");
}

static void every_byte_its_own_packet(void **state)
{
    (void)state;
    server.scripts[0] = (struct script){.answer = LENGTH_ANSWER, .byte_by_byte = true};
    server.scripts[1] = (struct script){.answer = CHUNKED_ANSWER, .byte_by_byte = true};
    struct caller *c = ask_to_end(GET);
    assert_int_equal(c->error, HTTP_OUT_OK);
    body_is(c, "hello");
    assert_true(c->pieces >= 2);
    c = ask_to_end(GET);
    assert_int_equal(c->error, HTTP_OUT_OK);
    body_is(c, "hello world");
}

static void an_answer_without_length_ends_with_the_connection(void **state)
{
    (void)state;
    server.scripts[0] =
        (struct script){.answer = "HTTP/1.1 200 OK\r\n\r\nuntil the end", .after = AFTER_CLOSE};
    struct caller *c = ask_to_end(GET);
    assert_int_equal(c->error, HTTP_OUT_OK);
    body_is(c, "until the end");
}

static void heads_before_the_final_one_are_skipped(void **state)
{
    (void)state;
    server.scripts[0] =
        (struct script){.answer = "HTTP/1.1 103 Early Hints\r\nContent-Type: a/b\r\n\r\n"
                                  "HTTP/1.1 100 Continue\r\n\r\n" LENGTH_ANSWER};
    struct caller *c = ask_to_end(GET);
    assert_int_equal(c->status, 200);
    assert_string_equal(c->content_type, "text/plain");
    body_is(c, "hello");
}

static void statuses_and_retry_after_are_told(void **state)
{
    static const struct {
        const char *answer;
        uint16_t status;
        int64_t least_ms;
        int64_t most_ms;
    } cases[] = {
        {"HTTP/1.1 500 Oh\r\nContent-Length: 0\r\n\r\n", 500, -1, -1},
        {"HTTP/1.1 429 Slow\r\nRetry-After: 7\r\nContent-Length: 0\r\n\r\n", 429, 7000, 7000},
        {"HTTP/1.1 503 No\r\nretry-after:   99999999999999999999 \r\nContent-Length: 0\r\n\r\n",
         503, 86400000, 86400000},
        {"HTTP/1.1 503 No\r\nRetry-After: Wed, 21 Oct 2099 07:28:00 GMT\r\nContent-Length: "
         "0\r\n\r\n",
         503, 86400000, 86400000},
        {"HTTP/1.1 503 No\r\nRetry-After: Wed, 21 Oct 2015 07:28:00 GMT\r\nContent-Length: "
         "0\r\n\r\n",
         503, 0, 0},
        {"HTTP/1.1 503 No\r\nRetry-After: soon\r\nContent-Length: 0\r\n\r\n", 503, -1, -1},
        {"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n", 302,
         -1, -1},
        {"HTTP/1.1 204 Empty\r\n\r\n", 204, -1, -1},
    };
    (void)state;
    for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
        server.scripts[i] = (struct script){.answer = cases[i].answer};
        struct caller *c = ask_to_end(GET);
        assert_int_equal(c->error, HTTP_OUT_OK);
        assert_int_equal(c->status, cases[i].status);
        assert_true(c->retry_after_ms >= cases[i].least_ms);
        assert_true(c->retry_after_ms <= cases[i].most_ms);
    }
    assert_int_equal(server.requests, ARRAY_COUNT(cases)); /* no redirect was followed */
}

static void bodies_are_not_decompressed(void **state)
{
    (void)state;
    server.scripts[0] = (struct script){.answer = "HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n"
                                                  "Content-Length: 4\r\n\r\nrawz"};
    struct caller *c = ask_to_end(GET);
    assert_int_equal(c->error, HTTP_OUT_OK);
    body_is(c, "rawz");
    assert_null(strstr(server.conns[0].request, "Accept-Encoding"));
}

/* ---- questions */

static void a_post_carries_headers_and_a_large_body(void **state)
{
    static const char *const headers[] = {"Content-Type: application/json", "X-One: 1", NULL};
    (void)state;
    struct blob *body = blob_new(2 << 20);
    memset(body->at, 'b', body->capacity);
    body->count = body->capacity;
    server.scripts[0] = (struct script){.answer = LENGTH_ANSWER};
    struct caller *c = ask_to_end((struct http_out_request){.headers = headers, .body = body});
    assert_int_equal(c->error, HTTP_OUT_OK);
    assert_int_equal(atomic_load(&body->refs), 1);
    const struct server_conn *s = &server.conns[0];
    assert_int_equal(strncmp(s->request, "POST /v1/x HTTP/1.1\r\n", 21), 0);
    assert_non_null(strstr(s->request, "\r\nContent-Type: application/json\r\n"));
    assert_non_null(strstr(s->request, "\r\nX-One: 1\r\n"));
    assert_null(strstr(s->request, "Expect"));
    const char *at = strstr(s->request, "\r\n\r\n");
    assert_memory_equal(at + 4, body->at, body->count);
    blob_unref(&body);
}

static void the_body_outlives_the_callers_reference(void **state)
{
    (void)state;
    struct blob *body = blob_copy(bytes_of("{\"mine\":1}"));
    server.scripts[0] = (struct script){.answer = LENGTH_ANSWER};
    struct caller *c = ask(0, (struct http_out_request){.body = body});
    blob_unref(&body);
    UNTIL(c->dones == 1);
    assert_non_null(strstr(server.conns[0].request, "\r\n\r\n{\"mine\":1}"));
}

static void proxies_of_the_environment_are_ignored(void **state)
{
    (void)state;
    assert_int_equal(setenv("http_proxy", "http://127.0.0.1:1", 1), 0);
    assert_int_equal(setenv("ALL_PROXY", "http://127.0.0.1:1", 1), 0);
    server.scripts[0] = (struct script){.answer = LENGTH_ANSWER};
    struct caller *c = ask_to_end(GET);
    assert_int_equal(unsetenv("http_proxy"), 0);
    assert_int_equal(unsetenv("ALL_PROXY"), 0);
    assert_int_equal(c->error, HTTP_OUT_OK);
}

static void names_are_resolved_beside_the_loop(void **state)
{
    char url[64];
    (void)state;
    (void)snprintf(url, sizeof(url), "http://localhost:%u/", server.port);
    server.scripts[0] = (struct script){.answer = LENGTH_ANSWER};
    struct caller *c = ask_to_end((struct http_out_request){.url = url});
    assert_int_equal(c->error, HTTP_OUT_OK);
}

static void only_http_is_spoken(void **state)
{
    static const char *const urls[] = {"file:///etc/passwd", "ftp://127.0.0.1/x",
                                       "gopher://127.0.0.1/", "no url at all", ""};
    (void)state;
    for (size_t i = 0; i < ARRAY_COUNT(urls); i++) {
        struct caller *c = ask_to_end((struct http_out_request){.url = urls[i]});
        assert_int_equal(c->error, HTTP_OUT_OTHER);
        assert_int_equal(c->heads, 0);
    }
}

/* ---- failures */

static void a_cut_is_a_reset_wherever_it_happens(void **state)
{
    static const char *const cuts[] = {
        "",
        "HTTP/1.1 200 OK\r\nContent-Le",
        "HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nhello",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhe",
    };
    (void)state;
    for (size_t i = 0; i < ARRAY_COUNT(cuts) * 2; i++) {
        bool reset = i >= ARRAY_COUNT(cuts);
        server.scripts[i] = (struct script){.answer = cuts[i % ARRAY_COUNT(cuts)],
                                            .after = reset ? AFTER_RESET : AFTER_CLOSE};
        struct caller *c = ask_to_end(GET);
        assert_int_equal(c->error, HTTP_OUT_RESET);
        assert_int_equal(c->heads, i % ARRAY_COUNT(cuts) < 2 ? 0 : 1);
    }
    assert_int_equal(server.requests, ARRAY_COUNT(cuts) * 2); /* a fresh one is not tried again */
}

static void nobody_there_is_refused(void **state)
{
    (void)state;
    watch_clear(stage.engine, &server.watch);
    close(server.fd);
    server.fd = -1;
    struct caller *c = ask_to_end(GET);
    assert_int_equal(c->error, HTTP_OUT_REFUSED);
    assert_int_equal(c->heads, 0);
    assert_string_equal(http_out_error_name(c->error), "refused");
}

static void garbage_is_an_error(void **state)
{
    (void)state;
    server.scripts[0] =
        (struct script){.answer = "SSH-2.0-OpenSSH_9.2\r\n\r\n", .after = AFTER_CLOSE};
    struct caller *c = ask_to_end(GET);
    assert_int_equal(c->error, HTTP_OUT_OTHER);
    server.scripts[1] = (struct script){
        .answer = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nhello"};
    c = ask_to_end(GET);
    assert_true(c->error == HTTP_OUT_RESET || c->error == HTTP_OUT_OTHER);
}

static void a_hang_ends_at_the_total_time(void **state)
{
    (void)state;
    struct caller *c = ask_to_end((struct http_out_request){.total_ms = 20});
    assert_int_equal(c->error, HTTP_OUT_TIMEOUT);
    assert_int_equal(server.requests, 1);
}

/* ---- cancelling */

static void cancelling_a_hanging_request_closes_its_connection_in_the_same_turn(void **state)
{
    (void)state;
    server.scripts[0] = (struct script){
        .answer = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n"};
    struct caller *c = ask(0, GET);
    UNTIL(c->body_bytes == 2);
    http_out_cancel(stage.net, c->request);
    http_out_cancel(stage.net, c->request);
    engine_step(stage.engine, 0); /* its end closes */
    assert_int_equal(http_out_count(stage.net), 0);
    engine_step(stage.engine, 0);
    assert_true(server.conns[0].ended);
    http_out_cancel(stage.net, c->request); /* stale */
    assert_int_equal(c->dones, 0);
}

static void cancelling_before_the_start_sends_nothing(void **state)
{
    (void)state;
    struct caller *c = ask(0, GET);
    http_out_cancel(stage.net, c->request);
    for (int i = 0; i < 5; i++)
        engine_step(stage.engine, 0);
    assert_int_equal(server.conns_count, 0);
    assert_int_equal(c->dones, 0);
    assert_int_equal(http_out_count(stage.net), 0);
}

static void cancelling_inside_the_callbacks_is_the_last_call(void **state)
{
    (void)state;
    for (size_t i = 0; i < 2; i++) {
        server.scripts[i] = (struct script){.answer = LENGTH_ANSWER};
        callers[i].cancel_in_head = i == 0;
        callers[i].cancel_in_body = i == 1;
        struct caller *c = ask(i, GET);
        UNTIL(c->heads == 1 && http_out_count(stage.net) == 0);
        assert_int_equal(c->dones, 0);
        assert_int_equal(c->pieces, i);
    }
    server.scripts[2] = (struct script){.answer = LENGTH_ANSWER};
    struct caller *c = ask(2, GET);
    UNTIL(c->dones == 1);
    assert_int_equal(c->error, HTTP_OUT_OK);
}

/* ---- kept connections */

static void a_connection_is_used_again(void **state)
{
    (void)state;
    for (size_t i = 0; i < 3; i++) {
        server.scripts[i] = (struct script){.answer = LENGTH_ANSWER};
        assert_int_equal(ask_to_end(GET)->error, HTTP_OUT_OK);
    }
    assert_int_equal(server.conns_count, 1);
    assert_int_equal(server.requests, 3);
}

static void a_kept_connection_that_closes_in_the_moment_of_reuse_is_replaced(void **state)
{
    struct blob *body = blob_copy(bytes_of("{}"));
    (void)state;
    for (size_t how = 0; how < 2; how++) {
        size_t first = server.requests;
        size_t conns = server.conns_count;
        server.scripts[first] = (struct script){.answer = LENGTH_ANSWER};
        server.scripts[first + 1] =
            (struct script){.answer = "", .after = how == 0 ? AFTER_CLOSE : AFTER_RESET};
        server.scripts[first + 2] = (struct script){.answer = LENGTH_ANSWER, .after = AFTER_CLOSE};
        assert_int_equal(ask_to_end(GET)->error, HTTP_OUT_OK);
        struct caller *c = ask_to_end((struct http_out_request){.body = body});
        assert_int_equal(c->error, HTTP_OUT_OK);
        body_is(c, "hello");
        assert_int_equal(server.requests, first + 3);
        assert_int_equal(server.conns_count, conns + 2);
    }
    blob_unref(&body);
}

static void a_kept_connection_that_closed_while_idle_is_not_used(void **state)
{
    (void)state;
    server.scripts[0] = (struct script){.answer = LENGTH_ANSWER, .after = AFTER_CLOSE};
    server.scripts[1] = (struct script){.answer = LENGTH_ANSWER};
    assert_int_equal(ask_to_end(GET)->error, HTTP_OUT_OK);
    assert_int_equal(ask_to_end(GET)->error, HTTP_OUT_OK);
    assert_int_equal(server.conns_count, 2);
}

/* ---- the guard */

static void a_guarded_request_reaches_no_private_address(void **state)
{
    char url[64];
    (void)state;
    server.scripts[0] = (struct script){.answer = LENGTH_ANSWER};
    assert_int_equal(ask_to_end(GET)->error, HTTP_OUT_OK); /* leaves a kept connection */
    struct caller *c = ask_to_end((struct http_out_request){.guarded = true});
    assert_int_equal(c->error, HTTP_OUT_GUARD);
    (void)snprintf(url, sizeof(url), "http://localhost:%u/", server.port);
    c = ask_to_end((struct http_out_request){.url = url, .guarded = true});
    assert_int_equal(c->error, HTTP_OUT_GUARD);
    (void)snprintf(url, sizeof(url), "http://0x7f000001:%u/", server.port);
    c = ask_to_end((struct http_out_request){.url = url, .guarded = true});
    assert_int_equal(c->error, HTTP_OUT_GUARD);
    assert_int_equal(server.conns_count, 1);
    assert_int_equal(server.requests, 1);
}

/* ---- many, and from inside */

static void start_another(struct caller *c)
{
    struct caller *next = c + 1;
    next->in_done = next < &callers[4] ? start_another : NULL;
    assert_int_equal(start(next, GET), ERR_OK);
}

static void the_next_may_start_inside_on_done(void **state)
{
    (void)state;
    for (size_t i = 0; i < 6; i++)
        server.scripts[i] = (struct script){.answer = LENGTH_ANSWER};
    callers[0].in_done = start_another;
    (void)ask(0, GET);
    UNTIL(callers[4].dones == 1);
    assert_int_equal(server.conns_count, 1);
}

static void many_at_once_end_each_for_itself(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_COUNT(callers); i++) {
        server.scripts[i] = (struct script){.answer = i % 3 == 0 ? CHUNKED_ANSWER : LENGTH_ANSWER,
                                            .byte_by_byte = i % 2 == 0,
                                            .after = i % 5 == 0 ? AFTER_CLOSE : AFTER_KEEP};
        (void)ask(i, GET);
    }
    assert_int_equal(http_out_count(stage.net), ARRAY_COUNT(callers));
    UNTIL(http_out_count(stage.net) == 0);
    for (size_t i = 0; i < ARRAY_COUNT(callers); i++) {
        assert_int_equal(callers[i].dones, 1);
        assert_int_equal(callers[i].error, HTTP_OUT_OK);
        assert_true(callers[i].body_bytes == 5 || callers[i].body_bytes == 11);
    }
}

static void cancel_the_other(struct caller *c)
{
    http_out_cancel(stage.net, callers[c == &callers[0] ? 1 : 0].request);
}

static void one_may_cancel_another_inside_on_done(void **state)
{
    (void)state;
    for (size_t i = 0; i < 2; i++) {
        server.scripts[i] = (struct script){.answer = LENGTH_ANSWER};
        callers[i].in_done = cancel_the_other;
        (void)ask(i, GET);
    }
    UNTIL(http_out_count(stage.net) == 0);
    size_t dones = callers[0].dones + callers[1].dones;
    assert_true(dones == 1 || dones == 2); /* both may have ended before the first was told */
}

static void no_memory_for_a_socket_is_an_error_and_no_hang(void **state)
{
    (void)state;
    struct caller *c = ask(0, GET);
    mem_fail_at(1); /* everything else was made by the start */
    UNTIL(c->dones == 1);
    mem_fail_at(0);
    assert_int_equal(c->error, HTTP_OUT_OTHER);
    assert_int_equal(http_out_count(stage.net), 0);
}

static void no_memory_for_a_request_is_an_answer(void **state)
{
    (void)state;
    mem_fail_at(1);
    assert_int_equal(start(&callers[0], GET), ERR_FULL);
    mem_fail_at(0);
    assert_int_equal(http_out_count(stage.net), 0);
}

static void freeing_ends_what_runs_and_calls_nobody(void **state)
{
    (void)state;
    struct caller *c = ask(0, GET);
    UNTIL(server.requests == 1);
    (void)ask(1, GET);
    http_out_cancel(stage.net, ask(2, GET)->request);
    net_free(&stage.net);
    assert_int_equal(c->dones, 0);
    UNTIL(server.conns[0].ended);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, make, unmake)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(an_answer_with_a_length),
        TEST(a_chunked_answer_with_a_trailer),
        TEST(every_byte_its_own_packet),
        TEST(an_answer_without_length_ends_with_the_connection),
        TEST(heads_before_the_final_one_are_skipped),
        TEST(statuses_and_retry_after_are_told),
        TEST(bodies_are_not_decompressed),
        TEST(a_post_carries_headers_and_a_large_body),
        TEST(the_body_outlives_the_callers_reference),
        TEST(proxies_of_the_environment_are_ignored),
        TEST(names_are_resolved_beside_the_loop),
        TEST(only_http_is_spoken),
        TEST(a_cut_is_a_reset_wherever_it_happens),
        TEST(nobody_there_is_refused),
        TEST(garbage_is_an_error),
        TEST(a_hang_ends_at_the_total_time),
        TEST(cancelling_a_hanging_request_closes_its_connection_in_the_same_turn),
        TEST(cancelling_before_the_start_sends_nothing),
        TEST(cancelling_inside_the_callbacks_is_the_last_call),
        TEST(a_connection_is_used_again),
        TEST(a_kept_connection_that_closes_in_the_moment_of_reuse_is_replaced),
        TEST(a_kept_connection_that_closed_while_idle_is_not_used),
        TEST(a_guarded_request_reaches_no_private_address),
        TEST(the_next_may_start_inside_on_done),
        TEST(many_at_once_end_each_for_itself),
        TEST(one_may_cancel_another_inside_on_done),
        TEST(no_memory_for_a_socket_is_an_error_and_no_hang),
        TEST(no_memory_for_a_request_is_an_answer),
        TEST(freeing_ends_what_runs_and_calls_nobody),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
