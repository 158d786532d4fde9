/* The room (model.c, attempt.c, pool.c, ready.c) on real engines against the scripted upstream:
 * every way an answer can go wrong gives exactly one end of the right kind, permits are kept,
 * nothing is left over. */
#include "codec/json.h"
#include "model/model_stage_priv.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <sys/socket.h>

static struct stage_process upstream;
static uint64_t mem_before;

static int group_make(void **state)
{
    (void)state;
    diag_init("error");
    diag_thread_init("test");
    stage_process_start(&upstream);
    return 0;
}

static int group_free(void **state)
{
    (void)state;
    stage_process_stop(&upstream);
    return 0;
}

static void open_default(uint32_t engines, int64_t concurrency)
{
    mem_before = mem_used_bytes();
    stage_open();
    stage_model_add(stage, "default", upstream.url, concurrency);
    stage_make(engines);
    assert_int_equal(stage_http(upstream.port, "/reset", ""), 200);
}

static int make(void **state)
{
    (void)state;
    open_default(1, 0);
    return 0;
}

static int make_narrow(void **state)
{
    (void)state;
    open_default(1, 1);
    return 0;
}

static int make_two_engines(void **state)
{
    (void)state;
    open_default(2, 2);
    return 0;
}

static int unmake(void **state)
{
    (void)state;
    stage_close();
    assert_int_equal(mem_used_bytes(), mem_before);
    return 0;
}

static void assert_text(const struct asked *a, const char *text)
{
    assert_int_equal(a->text.count, strlen(text));
    assert_memory_equal(a->text.at, text, a->text.count);
}

/* --- answers --------------------------------------------------------------------------------- */

static void an_answer_comes_whole_with_usage(void **state)
{
    (void)state;
    struct asked *a = stage_ask("hello [[words:3]]");
    stage_until_end(a);
    assert_int_equal(a->end.end, MODEL_END_OK);
    assert_text(a, "word0 word1 word2 ");
    assert_true(a->end.has_usage);
    assert_int_equal(a->end.tokens_out, 3);
    assert_true(a->end.tokens_in > 0);
    assert_int_equal(a->end.status, 200);
    assert_int_equal(a->end.attempts, 1);
    assert_true(a->end.first_token_ms >= 0);
    assert_false(a->queued);
}

static void the_request_says_what_was_asked(void **state)
{
    (void)state;
    stage->models[0].api_key = "sk-secret";
    stage->models[0].model = "the/real-one";
    stage->models[0].temperature = 0.5;
    stage_until_end(stage_ask("what \"I\" said \xf0\x9f\x98\x80"));
    assert_int_equal(stage_http(upstream.port, "/requests", NULL), 200);
    const char *seen = (const char *)stage->http_body.at;
    assert_non_null(strstr(seen, "\"authorization\": \"Bearer sk-secret\""));
    assert_non_null(strstr(seen, "\"model\": \"the/real-one\""));
    assert_non_null(strstr(seen, "\"temperature\": 0.5"));
    assert_non_null(strstr(seen, "\"max_tokens\": 24"));
    assert_non_null(strstr(seen, "\"stream\": true"));
    assert_non_null(strstr(seen, "\"include_usage\": true"));
    assert_non_null(strstr(seen, "what \\\"I\\\" said \\ud83d\\ude00"));
    assert_null(strstr(seen, "cache_prompt"));
    assert_null(strstr(seen, "\"expect\""));
}

struct shape {
    const char *ask;
    const char *text;
    const char *reasoning;
    enum model_end_kind end;
};

static void every_shape_of_a_stream_is_read(void **state)
{
    (void)state;
    static const struct shape rows[] = {
        {"[[bytewise]]", "word0 word1 word2 word3 ", "", MODEL_END_OK},
        {"[[crlf]]", "word0 word1 word2 word3 ", "", MODEL_END_OK},
        {"[[comments]]", "word0 word1 word2 word3 ", "", MODEL_END_OK},
        {"[[surrogates]]",
         "a\xf0\x9f\x98\x80"
         "b",
         "", MODEL_END_OK},
        {"[[half]]", "\xe2\x82\xac\xf0\x9f\x98\x80!", "", MODEL_END_OK},
        {"[[think]]", "word2 word3 word4 word5 ", "hm, let me see", MODEL_END_OK},
        {"[[whole]]", "word0 word1 word2 word3", "", MODEL_END_OK},
        {"[[empty]]", "", "", MODEL_END_OK},
        {"[[no_done]]", "word0 word1 word2 word3 ", "", MODEL_END_OK},
        {"[[no_finish]]", "word0 word1 word2 word3 ", "", MODEL_END_OK},
        {"[[length]]", "word0 word1 word2 word3 ", "", MODEL_END_LENGTH},
        {"[[filter]]", "word0 word1 ", "", MODEL_END_FILTERED},
    };
    for (size_t i = 0; i < ARRAY_COUNT(rows); i++) {
        struct asked *a = stage_ask(rows[i].ask);
        print_message("         %s\n", rows[i].ask);
        stage_until_end(a);
        assert_text(a, rows[i].text);
        assert_int_equal(a->reasoning.count, strlen(rows[i].reasoning));
        assert_memory_equal(a->reasoning.at, rows[i].reasoning, a->reasoning.count);
        assert_string_equal(model_end_word(a->end.end), model_end_word(rows[i].end));
    }
}

static void a_line_of_a_megabyte_is_read(void **state)
{
    (void)state;
    struct asked *a = stage_ask("[[bigline:1048576]]");
    stage_until_end(a);
    assert_int_equal(a->end.end, MODEL_END_OK);
    assert_int_equal(a->text.count, 1048576);
}

static void a_line_without_end_is_garbage(void **state)
{
    (void)state;
    struct asked *a = stage_ask("[[bigline:3000000]]");
    stage_until_end(a);
    assert_int_equal(a->end.end, MODEL_END_UPSTREAM_GARBAGE);
    assert_int_equal(a->text.count, 0);
}

static void tokens_of_one_read_are_one_message(void **state)
{
    (void)state;
    static const char event[] = "data: {\"choices\":[{\"delta\":{\"content\":\"ab\"}}]}\n\n";
    char events[50 * sizeof(event)];
    for (size_t i = 0; i < 50; i++)
        memcpy(events + i * (sizeof(event) - 1), event, sizeof(event));
    struct buf script;
    buf_init(&script, 65536);
    buf_text(&script, "{\"match\":\"burst\",\"steps\":[{\"raw\":");
    json_text(&script, bytes_of(events));
    buf_text(&script, "}]}");
    buf_byte(&script, 0);
    assert_int_equal(stage_http(upstream.port, "/script", (const char *)script.at), 200);
    buf_fini(&script);
    struct asked *a = stage_ask("burst");
    stage_until_end(a);
    assert_int_equal(a->end.end, MODEL_END_OK);
    assert_int_equal(a->text.count, 100);
    assert_int_equal(a->texts, 1);
}

/* --- faults ---------------------------------------------------------------------------------- */

struct fault {
    const char *ask;
    enum model_end_kind end;
    uint16_t status;
    uint32_t attempts;
    const char *text;
};

static void every_fault_gives_one_end_and_keeps_the_text(void **state)
{
    (void)state;
    static const char four[] = "word0 word1 word2 word3 ";
    static const struct fault rows[] = {
        {"[[e500]]", MODEL_END_UPSTREAM_STATUS, 500, 2, ""},
        {"[[e503]]", MODEL_END_UPSTREAM_STATUS, 503, 2, ""},
        {"[[e400]]", MODEL_END_UPSTREAM_STATUS, 400, 1, ""},
        {"[[not_found]]", MODEL_END_UPSTREAM_STATUS, 404, 1, ""},
        {"[[busy]]", MODEL_END_UPSTREAM_STATUS, 429, 1, ""},
        {"[[reset_first]]", MODEL_END_UPSTREAM_CUT, 0, 2, ""},
        {"[[cut_first]]", MODEL_END_UPSTREAM_CUT, 200, 2, ""},
        {"[[cut]]", MODEL_END_UPSTREAM_CUT, 200, 1, four},
        {"[[reset]]", MODEL_END_UPSTREAM_CUT, 200, 1, four},
        {"[[no_end]]", MODEL_END_UPSTREAM_CUT, 200, 1, four},
        {"[[garbage]]", MODEL_END_UPSTREAM_GARBAGE, 200, 1, ""},
        {"[[html]]", MODEL_END_UPSTREAM_GARBAGE, 200, 1, ""},
        {"[[bad_http]]", MODEL_END_UPSTREAM_GARBAGE, 0, 1, ""},
        {"[[bad_json]]", MODEL_END_UPSTREAM_GARBAGE, 200, 1, "word0 word1 "},
        {"[[error]]", MODEL_END_UPSTREAM_STATUS, 200, 1, ""},
        {"[[die]]", MODEL_END_UPSTREAM_STATUS, 200, 1, four},
    };
    for (size_t i = 0; i < ARRAY_COUNT(rows); i++) {
        struct asked *a = stage_ask(rows[i].ask);
        print_message("         %s\n", rows[i].ask);
        stage_until_end(a);
        assert_string_equal(model_end_word(a->end.end), model_end_word(rows[i].end));
        assert_int_equal(a->end.status, rows[i].status);
        assert_int_equal(a->end.attempts, rows[i].attempts);
        assert_text(a, rows[i].text);
    }
    /* Nothing comes late. */
    engine_clock_skip(60000);
    for (uint32_t i = 0; i < 20; i++)
        stage_step();
    for (uint32_t i = 0; i < stage->asked_count; i++)
        assert_int_equal(stage->asked[i].ends, 1);
    assert_int_equal(stage->rooms[0]->requests.used_count, 0);
    assert_int_equal(http_out_count(stage->nets[0]), 0);
}

static void a_5xx_before_the_first_token_is_tried_again(void **state)
{
    (void)state;
    assert_int_equal(stage_http(upstream.port, "/script",
                                "{\"match\":\"flaky\",\"times\":1,\"steps\":[{\"status\":502,"
                                "\"body\":\"<html>Bad Gateway</html>\"}]}"),
                     200);
    struct asked *a = stage_ask("flaky [[words:2]]");
    stage_until_end(a);
    assert_int_equal(a->end.end, MODEL_END_OK);
    assert_int_equal(a->end.attempts, 2);
    assert_int_equal(a->end.status, 200);
    assert_text(a, "word0 word1 ");
}

static void no_first_token_in_time(void **state)
{
    (void)state;
    static const char *const asks[] = {"[[hang]]", "[[hang_head]]"};
    for (size_t i = 0; i < ARRAY_COUNT(asks); i++) {
        struct asked *a = stage_ask(asks[i]);
        char path[64];
        (void)snprintf(path, sizeof(path), "/wait?requests=%zu", i + 1);
        assert_int_equal(stage_http(upstream.port, path, NULL), 200);
        engine_clock_skip(29900);
        stage_step();
        assert_int_equal(a->ends, 0);
        engine_clock_skip(200);
        stage_until_end(a);
        assert_int_equal(a->end.end, MODEL_END_FIRST_TOKEN);
        assert_int_equal(a->end.attempts, 1);
    }
    assert_int_equal(stage_http(upstream.port, "/wait?aborts=2&active=0", NULL), 200);
}

static void silence_in_the_middle(void **state)
{
    (void)state;
    static const char *const asks[] = {"[[stall]]", "[[stall_comments]]"};
    for (size_t i = 0; i < ARRAY_COUNT(asks); i++) {
        struct asked *a = stage_ask(asks[i]);
        STAGE_UNTIL(a->text.count == 24);
        engine_clock_skip(19000);
        stage_step();
        assert_int_equal(a->ends, 0);
        engine_clock_skip(2000);
        stage_until_end(a);
        assert_int_equal(a->end.end, MODEL_END_IDLE);
        assert_int_equal(a->text.count, 24);
    }
    assert_int_equal(stage_http(upstream.port, "/wait?aborts=2&active=0", NULL), 200);
}

static void an_unknown_model_is_told(void **state)
{
    (void)state;
    struct asked *a = stage_ask_on(0, "nobody", "hi");
    stage_until_end(a);
    assert_int_equal(a->end.end, MODEL_END_UNKNOWN_MODEL);
    assert_int_equal(a->end.attempts, 0);
}

/* --- cancel ---------------------------------------------------------------------------------- */

static void cancel_closes_the_upstream_at_once_and_says_nothing(void **state)
{
    (void)state;
    struct asked *a = stage_ask("[[stall]]");
    STAGE_UNTIL(a->text.count == 24);
    model_cancel(stage->rooms[0], a->request);
    assert_int_equal(stage_http(upstream.port, "/wait?aborts=1&active=0", NULL), 200);
    assert_int_equal(a->ends, 0);
    model_cancel(stage->rooms[0], a->request); /* stale */
    struct asked *b = stage_ask("[[hang]]");
    model_cancel(stage->rooms[0], b->request); /* before anything was sent */
    for (uint32_t i = 0; i < 5; i++)
        stage_step();
    assert_int_equal(b->ends, 0);
    assert_int_equal(stage->rooms[0]->requests.used_count, 0);
}

static void freeing_the_room_ends_everything(void **state)
{
    (void)state;
    (void)stage_ask("[[endless:1000]]");
    struct asked *a = stage_ask("[[stall]]");
    (void)stage_ask("[[hang]]");
    STAGE_UNTIL(a->text.count == 24);
}

/* --- permits --------------------------------------------------------------------------------- */

static void permits_hold_over_engines(void **state)
{
    (void)state;
    enum { COUNT = 10 };
    struct asked *all[COUNT];
    for (uint32_t i = 0; i < COUNT; i++)
        all[i] = stage_ask_on(i % 2, "", "[[words:20:200]]");
    for (uint32_t i = 0; i < COUNT; i++) {
        stage_until_end(all[i]);
        assert_int_equal(all[i]->end.end, MODEL_END_OK);
    }
    assert_true(all[COUNT - 1]->position_max > 1);
    assert_int_equal(stage_http(upstream.port, "/stats", NULL), 200);
    assert_int_equal(stage_number("requests"), COUNT);
    assert_int_equal(stage_number("active_max"), 2);
}

enum { THREADS = 2, EACH = 6 };
static _Atomic uint32_t threads_ended;

/* In the engine's own thread: asks, and stops everything when the last end was heard. */
static void thread_take(void *ctx, struct msg *m)
{
    uint32_t index = *(const uint32_t *)ctx;
    struct openai_message message = {OPENAI_USER, bytes_of("[[words:20:200]]")};
    for (uint32_t i = 0; i < EACH; i++) {
        uint32_t slot = index * EACH + i;
        struct model_ask ask = {
            .messages = &message, .messages_count = 1, .port = PORT_SESSION, .asker = {slot, 1}};
        assert_int_equal(model_start(stage->rooms[index], &ask, &stage->asked[slot].request),
                         ERR_OK);
    }
    msg_free(m);
}

static void thread_hear(void *ctx, struct msg *m)
{
    (void)ctx;
    if (m->kind == MODEL_END) {
        struct model_end *e = CONTAINER_OF(m, struct model_end, head.msg);
        struct asked *a = &stage->asked[e->head.asker.slot];
        assert_true(handle_equal(e->head.request, a->request));
        a->end = *e;
        a->ends++;
        if (atomic_fetch_add(&threads_ended, 1) + 1 == THREADS * EACH)
            engines_stop();
    }
    msg_free(m);
}

static void permits_hold_over_threads(void **state)
{
    (void)state;
    static uint32_t indexes[THREADS] = {0, 1};
    open_default(THREADS, 3);
    stage->asked_count = THREADS * EACH;
    for (uint32_t i = 0; i < THREADS; i++) {
        engine_listen(engine_at(i), PORT_TALK, thread_take, &indexes[i]);
        engine_listen(engine_at(i), PORT_SESSION, thread_hear, NULL);
        engine_post(engine_at(i), msg_new(PORT_TALK, 1, sizeof(struct msg)));
    }
    engines_run();
    for (uint32_t i = 0; i < THREADS * EACH; i++) {
        assert_int_equal(stage->asked[i].ends, 1);
        assert_int_equal(stage->asked[i].end.end, MODEL_END_OK);
    }
    stage_close();

    stage_open();
    stage_make(1);
    assert_int_equal(stage_http(upstream.port, "/stats", NULL), 200);
    assert_int_equal(stage_number("requests"), THREADS * EACH);
    assert_int_equal(stage_number("active_max"), 3);
    stage_close();
}

static void places_in_the_queue_are_told_again(void **state)
{
    (void)state;
    struct asked *a = stage_ask("[[gate:a]]");
    struct asked *b = stage_ask("[[words:1]]");
    struct asked *c = stage_ask("[[words:1]]");
    struct asked *d = stage_ask("[[words:1]]");
    STAGE_UNTIL(a->text.count != 0 && d->position == 3);
    assert_int_equal(b->position, 1);
    assert_int_equal(c->position, 2);
    model_cancel(stage->rooms[0], b->request);
    STAGE_UNTIL(c->position == 1 && d->position == 2);
    assert_true(c->queued && d->queued);
    assert_int_equal(stage_http(upstream.port, "/release/a", ""), 200);
    stage_until_end(a);
    stage_until_end(c);
    stage_until_end(d);
    assert_int_equal(b->ends, 0);
    assert_false(c->queued);
    STAGE_UNTIL(stage->rooms[0]->waiters.used_count == 0);
}

static void a_cancelled_answer_frees_its_permit(void **state)
{
    (void)state;
    struct asked *a = stage_ask("[[stall]]");
    struct asked *b = stage_ask("[[words:2]]");
    STAGE_UNTIL(a->text.count == 24 && b->queued);
    model_cancel(stage->rooms[0], a->request);
    stage_until_end(b);
    assert_int_equal(b->end.end, MODEL_END_OK);
    assert_int_equal(a->ends, 0);
}

static void failed_answers_free_their_permits(void **state)
{
    (void)state;
    static const char *const asks[] = {"[[e500]]",  "[[cut]]",  "[[reset_first]]", "[[garbage]]",
                                       "[[error]]", "[[e400]]", "[[bad_json]]",    "[[no_done]]"};
    for (size_t i = 0; i < ARRAY_COUNT(asks); i++)
        stage_until_end(stage_ask(asks[i]));
    struct asked *a = stage_ask("[[words:2]]");
    stage_until_end(a);
    assert_int_equal(a->end.end, MODEL_END_OK);
    STAGE_UNTIL(stage->rooms[0]->waiters.used_count == 0);
    assert_int_equal(stage->rooms[0]->backends[0].pool.busy, 0);
}

static void a_full_queue_refuses(void **state)
{
    (void)state;
    stage->config.model_queue_max = 2;
    struct asked *a = stage_ask("[[gate:full]]");
    STAGE_UNTIL(a->went_out);
    struct asked *b = stage_ask("[[words:1]]");
    struct asked *c = stage_ask("[[words:1]]");
    struct asked *d = stage_ask("[[words:1]]");
    stage_until_end(d);
    assert_int_equal(d->end.end, MODEL_END_OVERLOADED);
    assert_int_equal(d->end.attempts, 0);
    assert_int_equal(stage_http(upstream.port, "/release/full", ""), 200);
    stage_until_end(a);
    stage_until_end(b);
    stage_until_end(c);
}

static void waiting_costs_no_first_token_time(void **state)
{
    (void)state;
    struct asked *a = stage_ask("[[gate:slow]]");
    struct asked *b = stage_ask("[[words:2]]");
    STAGE_UNTIL(a->text.count != 0 && b->queued);
    for (uint32_t i = 0; i < 3; i++) {
        /* a would run into its idle time otherwise; only its permit matters here */
        stage->rooms[0]->backends[0].pool.held_ms = 0;
        engine_clock_skip(15000);
        stage_step();
        if (i == 0)
            assert_int_equal(stage_http(upstream.port, "/release/slow", ""), 200);
    }
    stage_until_end(b);
    assert_int_equal(b->end.end, MODEL_END_OK);
    assert_true(b->end.first_token_ms >= 15000);
}

/* --- reachability ---------------------------------------------------------------------------- */

struct closed_port {
    int fd;
    uint16_t port;
    char url[64];
};

/* A port that is ours, on which nobody listens yet. */
static void closed_port_make(struct closed_port *c)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t bytes = sizeof(at);
    c->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    assert_true(c->fd >= 0);
    assert_int_equal(bind(c->fd, (struct sockaddr *)&at, sizeof(at)), 0);
    assert_int_equal(getsockname(c->fd, (struct sockaddr *)&at, &bytes), 0);
    c->port = ntohs(at.sin_port);
    (void)snprintf(c->url, sizeof(c->url), "http://127.0.0.1:%u/v1", c->port);
}

static void a_refused_connection_is_tried_again_and_then_told(void **state)
{
    (void)state;
    struct closed_port closed;
    char sentence[200];
    closed_port_make(&closed);
    mem_before = mem_used_bytes();
    stage_open();
    stage_model_add(stage, "default", closed.url, 0);
    stage_make(1);
    assert_null(model_not_ready(sentence, sizeof(sentence)));
    struct asked *a = stage_ask("hi");
    stage_until_end(a);
    assert_int_equal(a->end.end, MODEL_END_UNAVAILABLE);
    assert_int_equal(a->end.attempts, 2);
    assert_null(model_not_ready(sentence, sizeof(sentence)));
    stage_until_end(stage_ask("hi"));
    STAGE_UNTIL(model_not_ready(sentence, sizeof(sentence)) != NULL);
    assert_string_equal(model_not_ready(sentence, sizeof(sentence)), "unavailable");
    assert_non_null(strstr(sentence, "models[].url"));

    /* Somebody listens again: the look that comes by itself finds out. */
    assert_int_equal(listen(closed.fd, 8), 0);
    engine_clock_skip(MODEL_PROBE_MS);
    int taken = -1;
    STAGE_UNTIL((taken = accept(closed.fd, NULL, NULL)) >= 0);
    char head[1024] = {0};
    STAGE_UNTIL(recv(taken, head, sizeof(head) - 1, MSG_DONTWAIT) > 0);
    assert_non_null(strstr(head, "GET /v1/models HTTP/1.1"));
    static const char answer[] = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}";
    assert_int_equal(write(taken, answer, sizeof(answer) - 1), sizeof(answer) - 1);
    STAGE_UNTIL(model_not_ready(sentence, sizeof(sentence)) == NULL);
    (void)close(taken);
    (void)close(closed.fd);
    stage_close();
    assert_int_equal(mem_used_bytes(), mem_before);
}

static void without_models_it_says_so(void **state)
{
    (void)state;
    char sentence[200];
    stage_open();
    stage_make(1);
    assert_string_equal(model_not_ready(sentence, sizeof(sentence)), "no_model");
    struct asked *a = stage_ask("hi");
    stage_until_end(a);
    assert_int_equal(a->end.end, MODEL_END_UNAVAILABLE);
    stage_close();
}

/* --- estimates ------------------------------------------------------------------------------- */

static void token_estimates_learn_from_usage(void **state)
{
    (void)state;
    struct model *m = stage->rooms[0];
    struct bytes name = {NULL, 0};
    char text[4001];
    memset(text, 'x', sizeof(text) - 1);
    text[4000] = 0;
    uint32_t before = model_tokens_estimate(m, name, bytes_of(text));
    assert_true(before >= 1000 && before < 1400);
    /* The upstream counts words: a word of ten bytes is a token. */
    char ask[2001];
    for (size_t i = 0; i < 200; i++)
        memcpy(ask + 10 * i, "aaaaaaaaa ", 10);
    ask[2000] = 0;
    stage_until_end(stage_ask(ask));
    uint32_t after = model_tokens_estimate(m, name, bytes_of(text));
    assert_true(after < 650 && after > 500);
    assert_true(model_tokens_estimate(m, name, name) > 0);
    assert_false(model_can_prefill(m, name));
}

/* --- memory ---------------------------------------------------------------------------------- */

/* The n-th allocation fails, for every n: the ask is refused whole, or it ends in one way. */
static void memory_may_end_anywhere(void **state)
{
    (void)state;
    bool clean = false;
    for (uint64_t n = 1; n < 60 && !clean; n++) {
        struct openai_message message = {OPENAI_USER, bytes_of("[[words:4]]")};
        struct model_ask ask = {.messages = &message,
                                .messages_count = 1,
                                .port = PORT_REPLY,
                                .asker = {stage->asked_count, 1}};
        struct asked *a = &stage->asked[stage->asked_count];
        buf_init(&a->text, STAGE_TEXT_BYTES_MAX);
        buf_init(&a->reasoning, STAGE_TEXT_BYTES_MAX);
        stage->asked_count++;
        uint64_t failures = mem_failures();
        mem_fail_at(n);
        enum err err = model_start(stage->rooms[0], &ask, &a->request);
        clean = mem_failures() == failures;
        mem_fail_at(0);
        assert_true(err == ERR_OK || (err == ERR_FULL && !clean));
        if (err == ERR_OK)
            model_cancel(stage->rooms[0], a->request);
        stage_step();
        assert_int_equal(stage->rooms[0]->requests.used_count, 0);
    }
    assert_true(clean);
}

/* The same while the answer comes in: one end in any case, and nothing is left over. */
static void memory_may_end_during_the_answer(void **state)
{
    (void)state;
    static char texts[STAGE_ASKED_MAX][256];
    uint32_t fine = 0;
    for (uint64_t n = 1; n <= STAGE_ASKED_MAX; n++) {
        struct openai_message message = {OPENAI_USER, bytes_of("[[think]]")};
        struct model_ask ask = {.messages = &message,
                                .messages_count = 1,
                                .port = PORT_REPLY,
                                .asker = {stage->asked_count, 1}};
        struct asked *a = &stage->asked[stage->asked_count];
        buf_init_fixed(&a->text, texts[stage->asked_count], sizeof(texts[0]));
        buf_init_fixed(&a->reasoning, texts[stage->asked_count] + 128, 128);
        stage->asked_count++;
        a->went_out = true; /* MODEL_STATE may be left out now */
        mem_fail_at(n);
        if (model_start(stage->rooms[0], &ask, &a->request) == ERR_OK)
            stage_until_end(a);
        mem_fail_at(0);
        STAGE_UNTIL(stage->rooms[0]->waiters.used_count == 0);
        STAGE_UNTIL(stage->rooms[0]->requests.used_count == 0);
        fine += a->ends == 1 && a->end.end == MODEL_END_OK;
    }
    assert_true(fine > 0);
}

int main(void)
{
#define TEST_IN(room, name) cmocka_unit_test_setup_teardown(name, room, unmake)
    const struct CMUnitTest tests[] = {
        TEST_IN(make, an_answer_comes_whole_with_usage),
        TEST_IN(make, the_request_says_what_was_asked),
        TEST_IN(make, every_shape_of_a_stream_is_read),
        TEST_IN(make, a_line_of_a_megabyte_is_read),
        TEST_IN(make, a_line_without_end_is_garbage),
        TEST_IN(make, tokens_of_one_read_are_one_message),
        TEST_IN(make, every_fault_gives_one_end_and_keeps_the_text),
        TEST_IN(make, a_5xx_before_the_first_token_is_tried_again),
        TEST_IN(make, no_first_token_in_time),
        TEST_IN(make, silence_in_the_middle),
        TEST_IN(make, an_unknown_model_is_told),
        TEST_IN(make, cancel_closes_the_upstream_at_once_and_says_nothing),
        TEST_IN(make, freeing_the_room_ends_everything),
        TEST_IN(make_two_engines, permits_hold_over_engines),
        cmocka_unit_test(permits_hold_over_threads),
        TEST_IN(make_narrow, places_in_the_queue_are_told_again),
        TEST_IN(make_narrow, a_cancelled_answer_frees_its_permit),
        TEST_IN(make_narrow, failed_answers_free_their_permits),
        TEST_IN(make_narrow, a_full_queue_refuses),
        TEST_IN(make_narrow, waiting_costs_no_first_token_time),
        cmocka_unit_test(a_refused_connection_is_tried_again_and_then_told),
        cmocka_unit_test(without_models_it_says_so),
        TEST_IN(make, token_estimates_learn_from_usage),
        TEST_IN(make, memory_may_end_anywhere),
        TEST_IN(make_narrow, memory_may_end_anywhere),
        TEST_IN(make, memory_may_end_during_the_answer),
        TEST_IN(make_narrow, memory_may_end_during_the_answer),
    };
    return cmocka_run_group_tests(tests, group_make, group_free);
}
