/* One AI turn (reply.c), from BUS_RUN_START to BUS_RUN_END: the real rooms below it on a real
 * engine that is stepped by hand, over the mem journal; this test in the place of talk, and of the
 * model's server, too, on a socket of the same engine. */
#include "reply/reply.h"

#include "base/mem.h"
#include "bus/messages.h"
#include "diag/diag.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#define STEPS_MAX  5000
#define LINES_MAX  16
#define RUNS_MAX   16
#define TEXT_BYTES 8192

/* A connection to the model's server. */
struct line {
    struct handle conn;
    bool closed;
    bool whole; /* a request is there */
    size_t count;
    char request[TEXT_BYTES * 4];
};

/* What talk heard of one run. */
struct run {
    struct handle talk_run;
    char text[TEXT_BYTES];
    size_t text_count;
    char reasoning[TEXT_BYTES];
    size_t reasoning_count;
    uint32_t texts;
    uint32_t states;
    struct bus_run_state state; /* the last; its msg is not to be used */
    uint32_t ends;
    struct bus_run_end end; /* the last; its msg is not to be used */
};

static struct {
    uint64_t mem_before;
    struct config *config;
    struct journal *journal;
    struct text_terms *terms;
    struct engine *engine;
    struct net *net;
    struct model *model;
    struct recall *recall;
    struct reply *reply;
    uint16_t port;
    struct msg *written;
    uint32_t lines_count;
    uint32_t lines_taken;
    uint32_t runs_count;
} stage;
static struct line lines[LINES_MAX];
static struct run runs[RUNS_MAX];

/* What diag keeps for good of a thread that has ended: of the store's writer, in each test. */
static uint64_t writer_bytes;

#define UNTIL(condition)                                                \
    do {                                                                \
        for (int step_ = 0; step_ < STEPS_MAX && !(condition); step_++) \
            engine_step(stage.engine, 2);                               \
        if (!(condition))                                               \
            fail_msg("in vain: %s", #condition);                        \
    } while (0)

static void idle(void)
{
    for (int i = 0; i < 12; i++)
        engine_step(stage.engine, 0);
}

/* --- the place of talk ------------------------------------------------------------------------ */

static void put(char *to, size_t *count, const struct blob *b)
{
    assert_true(*count + b->count < TEXT_BYTES);
    memcpy(to + *count, b->at, b->count);
    *count += b->count;
    to[*count] = '\0';
}

static struct run *run_of(struct handle h)
{
    assert_true(h.slot < stage.runs_count);
    assert_true(handle_equal(runs[h.slot].talk_run, h));
    assert_int_equal(runs[h.slot].ends, 0); /* nothing follows an end */
    return &runs[h.slot];
}

static void hear_text(const struct bus_run_text *m)
{
    struct run *r = run_of(m->talk_run);
    assert_true(m->text != NULL || m->reasoning != NULL);
    if (m->text != NULL)
        put(r->text, &r->text_count, m->text);
    if (m->reasoning != NULL)
        put(r->reasoning, &r->reasoning_count, m->reasoning);
    r->texts++;
}

static void on_talk(void *ctx, struct msg *m)
{
    (void)ctx;
    const struct bus_run_state *state = (const struct bus_run_state *)(const void *)m;
    const struct bus_run_end *end = (const struct bus_run_end *)(const void *)m;
    struct run *r = NULL;
    switch ((enum bus_kind)m->kind) {
    case BUS_RUN_TEXT: hear_text((const struct bus_run_text *)(const void *)m); break;
    case BUS_RUN_STATE:
        r = run_of(state->talk_run);
        r->state = *state;
        r->states++;
        break;
    case BUS_RUN_END:
        r = run_of(end->talk_run);
        r->end = *end;
        r->ends++;
        break;
    default: fail_msg("kind %u", m->kind);
    }
    msg_free(m);
}

static void on_written(void *ctx, struct msg *m)
{
    (void)ctx;
    assert_null(stage.written);
    stage.written = m;
}

static struct id id_of(const char *text)
{
    struct id out = {0};
    if (text[0] != '\0')
        assert_int_equal(id_parse(bytes_of(text), &out), ERR_OK);
    return out;
}

static struct name name_of(const char *text)
{
    struct name out = {0};
    assert_int_equal(name_parse(bytes_of(text), &out), ERR_OK);
    return out;
}

/* A run of which nothing was posted yet. `question` may be NULL. */
static struct bus_run_start *start_new(const char *from, const char *question)
{
    struct bus_run_start *m = BUS_NEW(RUN_START, bus_run_start, PORT_REPLY);
    assert_true(stage.runs_count < RUNS_MAX);
    uint32_t slot = stage.runs_count++;
    m->talk_run = (struct handle){slot, 5 + slot};
    memset(&runs[slot], 0, sizeof(runs[slot]));
    runs[slot].talk_run = m->talk_run;
    m->conv = id_of("c");
    m->run = id_of("r");
    m->answer = id_of("m");
    m->from = id_of(from);
    m->model = name_of("m");
    if (question != NULL)
        m->question = blob_copy(bytes_of(question));
    return m;
}

static struct run *post(struct bus_run_start *m)
{
    struct run *r = &runs[m->talk_run.slot];
    engine_post(stage.engine, &m->msg);
    return r;
}

static struct run *start(const char *question)
{
    return post(start_new("", question));
}

static void cancel(const struct run *r)
{
    struct bus_run_cancel *m = BUS_NEW(RUN_CANCEL, bus_run_cancel, PORT_REPLY);
    m->talk_run = r->talk_run;
    engine_post(stage.engine, &m->msg);
}

static void expect_end(struct run *r, enum run_end how, const char *why)
{
    UNTIL(r->ends > 0);
    assert_string_equal(run_end_name(r->end.end), run_end_name(how));
    assert_string_equal(r->end.why, why);
    idle(); /* run_of fails when more follows */
}

/* --- the place of the model's server ---------------------------------------------------------- */

static size_t line_on_data(void *ctx, struct handle conn, uint8_t *at, size_t count)
{
    struct line *l = ctx;
    (void)conn;
    assert_true(l->count + count < sizeof(l->request));
    memcpy(l->request + l->count, at, count);
    l->count += count;
    l->request[l->count] = '\0';
    const char *body = strstr(l->request, "\r\n\r\n");
    const char *length = strcasestr(l->request, "\r\nContent-Length:");
    l->whole = body != NULL && length != NULL &&
               strlen(body + 4) >= (size_t)atol(length + strlen("\r\nContent-Length:"));
    return count;
}

static void line_on_close(void *ctx, struct handle conn, enum net_close why)
{
    struct line *l = ctx;
    (void)conn;
    (void)why;
    l->closed = true;
}

static const struct net_owner line_owner = {line_on_data, NULL, line_on_close};

static void on_accept(void *ctx, struct handle conn, const struct net_address *from)
{
    (void)ctx;
    (void)from;
    assert_true(stage.lines_count < LINES_MAX);
    struct line *l = &lines[stage.lines_count++];
    memset(l, 0, sizeof(*l));
    l->conn = conn;
    net_own(stage.net, conn, &line_owner, l);
}

/* The next request to the model's server, whole. */
static struct line *take_line(void)
{
    UNTIL(stage.lines_count > stage.lines_taken && lines[stage.lines_taken].whole);
    return &lines[stage.lines_taken++];
}

static void line_say(struct line *l, const char *text)
{
    assert_true(net_send_copy(stage.net, l->conn, bytes_of(text)));
}

static void line_end(struct line *l)
{
    net_close(stage.net, l->conn, false);
}

static void line_event(struct line *l, const char *json)
{
    char text[TEXT_BYTES + 64];
    (void)snprintf(text, sizeof(text), "data: %s\n\n", json);
    line_say(l, text);
}

/* The next request, with the head of its answer sent. */
static struct line *take_stream(void)
{
    struct line *l = take_line();
    line_say(l, "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n");
    return l;
}

static void line_text(struct line *l, const char *text)
{
    char json[TEXT_BYTES];
    (void)snprintf(json, sizeof(json), "{\"choices\":[{\"delta\":{\"content\":\"%s\"}}]}", text);
    line_event(l, json);
}

static void line_finish(struct line *l, const char *reason)
{
    char json[256];
    (void)snprintf(json, sizeof(json), "{\"choices\":[{\"delta\":{},\"finish_reason\":\"%s\"}]}",
                   reason);
    line_event(l, json);
    line_event(l, "{\"choices\":[],\"usage\":{\"prompt_tokens\":41,\"completion_tokens\":9}}");
    line_event(l, "[DONE]");
    line_end(l);
}

/* No request came, and none comes. */
static void expect_no_request(void)
{
    idle();
    assert_int_equal(stage.lines_count, stage.lines_taken);
}

/* --- making ----------------------------------------------------------------------------------- */

static void stage_config(uint16_t port)
{
    struct buf message;
    char text[512];
    char url[64];
    char *environment[] = {NULL};
    (void)snprintf(url, sizeof(url), "models.0.url=http://127.0.0.1:%u/v1", port);
    struct config_set sets[] = {{"store=mem"},
                                {"models.0.name=m"},
                                {url},
                                {"models.1.name=narrow"},
                                {url},
                                {"models.1.concurrency=1"},
                                {"models.2.name=nobody"},
                                {"models.2.url=http://127.0.0.1:1/v1"},
                                {"runs.text=1024"},
                                {"runs.time=5000"},
                                {"safety.terms.0.term=secret recipe"},
                                {"safety.terms.0.category=recipes"}};
    char narrow_url[64];
    (void)snprintf(narrow_url, sizeof(narrow_url), "models.1.url=http://127.0.0.1:%u/v1", port);
    sets[4].assignment = narrow_url;
    buf_init_fixed(&message, text, sizeof(text) - 1);
    enum err err = config_load(NULL, environment, sets, ARRAY_COUNT(sets), &stage.config, &message);
    text[message.count] = '\0';
    if (err != ERR_OK)
        fail_msg("%s", text);
    assert_int_equal(journal_open(stage.config, &stage.journal, &message), ERR_OK);
}

static int set_up(void **state)
{
    (void)state;
    struct buf message;
    char text[256];
    int fd = -1;
    memset(&stage, 0, sizeof(stage));
    stage.mem_before = mem_used_bytes();
    buf_init_fixed(&message, text, sizeof(text));
    assert_int_equal(net_listen_open("127.0.0.1:0", &fd, 1, &stage.port, &message), ERR_OK);
    stage_config(stage.port);
    stage.terms = text_terms_make(stage.config);
    assert_int_equal(engines_make(1, 7), ERR_OK);
    stage.engine = engine_at(0);
    stage.net = net_make(stage.engine, stage.config);
    stage.model = model_make(stage.engine, stage.net, stage.config);
    stage.recall = recall_make(stage.engine, stage.journal, stage.model, stage.config);
    stage.reply = reply_make(stage.engine, stage.recall, stage.model, stage.terms, stage.config);
    assert_non_null(stage.reply);
    engine_listen(stage.engine, PORT_TALK, on_talk, NULL);
    engine_listen(stage.engine, PORT_MAIN, on_written, NULL);
    net_listen(stage.net, fd, (struct net_listener){on_accept, NULL});
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    journal_close(&stage.journal);
    reply_free(&stage.reply);
    recall_free(&stage.recall);
    model_free(&stage.model);
    net_free(&stage.net);
    if (stage.written != NULL)
        msg_free(stage.written);
    engines_free();
    text_terms_free(&stage.terms);
    config_free(&stage.config);
    return mem_used_bytes() - stage.mem_before == writer_bytes ? 0 : -1;
}

static int measure(void **state)
{
    for (int i = 0; i < 2; i++) { /* the first time libraries settle in, too */
        (void)set_up(state);
        (void)tear_down(state);
        writer_bytes = mem_used_bytes() - stage.mem_before;
    }
    return 0;
}

/* --- a log ------------------------------------------------------------------------------------ */

static void write_down(void *op)
{
    journal_ask(stage.journal, stage.engine, op);
    UNTIL(stage.written != NULL);
    struct journal_op *done = (struct journal_op *)(void *)stage.written;
    assert_int_equal(done->err, ERR_OK);
    assert_int_equal(done->outcome, JOURNAL_DONE);
    msg_free(stage.written);
    stage.written = NULL;
}

/* Conversation c with one message, m1. */
static void log_with(const char *text)
{
    char payload[1024];
    struct journal_conv_create *c = JOURNAL_NEW(CONV_CREATE, journal_conv_create, PORT_MAIN);
    c->app = id_of("default");
    c->user = name_of("ada");
    c->conv = id_of("c");
    c->now_ms = 1000;
    memcpy(c->epoch_random, "abcdefghijk", 12);
    write_down(c);
    struct journal_append *o = JOURNAL_NEW(APPEND, journal_append, PORT_MAIN);
    o->app = id_of("default");
    o->conv = id_of("c");
    o->sender = name_of("ada");
    o->now_ms = 2000;
    o->events_count = 1;
    o->events[0].kind = EVENT_MSG;
    o->events[0].msg = id_of("m1");
    (void)snprintf(payload, sizeof(payload), "{\"by\":{\"kind\":\"user\"},\"text\":\"%s\"}", text);
    o->events[0].payload = blob_copy(bytes_of(payload));
    write_down(o);
}

/* The store's answer to the room's first path, made up; it stands in front of the real one. */
static struct journal_path *made_up_path(enum err err)
{
    struct pool pool;
    struct handle first;
    struct journal_path *p = JOURNAL_NEW(PATH, journal_path, PORT_RECALL);
    assert_int_equal(pool_init(&pool, 16, 1), ERR_OK);
    assert_non_null(pool_new(&pool, &first));
    pool_fini(&pool);
    p->head.handle = first;
    p->head.err = err;
    return p;
}

/* --- an answer -------------------------------------------------------------------------------- */

static void a_question_is_asked_and_answered_piece_by_piece(void **state)
{
    (void)state;
    struct run *r = start("What is \\\"it\\\"?");
    struct line *l = take_stream();
    assert_non_null(strstr(l->request, "POST /v1/chat/completions HTTP/1.1\r\n"));
    assert_non_null(strstr(l->request, "\"max_tokens\":1024"));
    assert_non_null(strstr(l->request, "What is "));
    UNTIL(r->states > 0);
    assert_false(r->state.queued);
    line_text(l, "Hello");
    UNTIL(r->text_count > 0);
    assert_string_equal(r->text, "Hello");
    line_text(l, " \\ud83d\\ude00");
    line_text(l, "!");
    line_finish(l, "stop");
    expect_end(r, RUN_END_COMPLETE, "");
    assert_string_equal(r->text, "Hello \xf0\x9f\x98\x80!");
    assert_true(r->end.has_usage);
    assert_int_equal(r->end.tokens_in, 41);
    assert_int_equal(r->end.tokens_out, 9);
    assert_int_equal(stage.lines_count, 1);
}

static void the_path_of_the_log_is_what_the_model_sees(void **state)
{
    (void)state;
    log_with("said before");
    struct run *r = post(start_new("m1", "and now"));
    struct line *l = take_stream();
    assert_non_null(strstr(l->request, "said before\\n\\nand now"));
    line_text(l, "ok");
    line_finish(l, "stop");
    expect_end(r, RUN_END_COMPLETE, "");
}

static void reasoning_is_passed_on_beside_the_text(void **state)
{
    (void)state;
    struct run *r = start("hi");
    struct line *l = take_stream();
    line_event(l, "{\"choices\":[{\"delta\":{\"reasoning_content\":\"hm\"}}]}");
    UNTIL(r->reasoning_count > 0);
    assert_int_equal(r->text_count, 0);
    line_text(l, "yes");
    line_finish(l, "stop");
    expect_end(r, RUN_END_COMPLETE, "");
    assert_string_equal(r->reasoning, "hm");
    assert_string_equal(r->text, "yes");
}

static void two_runs_do_not_mix(void **state)
{
    (void)state;
    struct run *a = start("question one");
    struct line *first = take_stream();
    struct run *b = start("question two");
    struct line *second = take_stream();
    assert_non_null(strstr(second->request, "question two"));
    line_text(second, "two");
    line_text(first, "one");
    line_finish(second, "stop");
    expect_end(b, RUN_END_COMPLETE, "");
    assert_int_equal(a->ends, 0);
    line_finish(first, "stop");
    expect_end(a, RUN_END_COMPLETE, "");
    assert_string_equal(a->text, "one");
    assert_string_equal(b->text, "two");
}

static void who_waits_for_the_model_is_told_its_place(void **state)
{
    (void)state;
    struct bus_run_start *m = start_new("", "one");
    m->model = name_of("narrow");
    struct run *a = post(m);
    struct line *l = take_stream();
    m = start_new("", "two");
    m->model = name_of("narrow");
    struct run *b = post(m);
    UNTIL(b->states > 0);
    assert_true(b->state.queued);
    assert_int_equal(b->state.position, 1);
    line_text(l, "x");
    line_finish(l, "stop");
    expect_end(a, RUN_END_COMPLETE, "");
    l = take_stream();
    UNTIL(!b->state.queued);
    line_text(l, "y");
    line_finish(l, "stop");
    expect_end(b, RUN_END_COMPLETE, "");
}

/* --- terms ------------------------------------------------------------------------------------ */

static void what_may_become_a_term_is_held_back_until_it_cannot(void **state)
{
    (void)state;
    struct run *r = start("hi");
    struct line *l = take_stream();
    line_text(l, "My secret");
    UNTIL(r->text_count > 0);
    idle();
    assert_string_equal(r->text, "My ");
    line_text(l, " garden");
    UNTIL(r->text_count > 3);
    idle();
    assert_non_null(strstr(r->text, "My secret"));
    line_text(l, ". A secret");
    line_finish(l, "stop"); /* at the end nothing can follow any more */
    expect_end(r, RUN_END_COMPLETE, "");
    assert_string_equal(r->text, "My secret garden. A secret");
}

static void a_term_blocks_once_and_nothing_of_it_is_shown(void **state)
{
    (void)state;
    static const char *const pieces[] = {"Take the Secret", "  re", "cipe", " of my aunt", NULL};
    struct run *r = start("hi");
    struct line *l = take_stream();
    for (size_t i = 0; pieces[i] != NULL && r->ends == 0; i++) {
        line_text(l, pieces[i]);
        idle();
    }
    expect_end(r, RUN_END_BLOCKED, "recipes");
    assert_string_equal(r->text, "Take the ");
    UNTIL(l->closed); /* the model needs not go on */
}

static void a_term_in_the_reasoning_ends_the_reasoning_only(void **state)
{
    (void)state;
    struct run *r = start("hi");
    struct line *l = take_stream();
    line_event(l, "{\"choices\":[{\"delta\":{\"reasoning_content\":\"so. the secret\"}}]}");
    line_event(l, "{\"choices\":[{\"delta\":{\"reasoning_content\":\" recipe is\"}}]}");
    line_text(l, "yes");
    line_event(l, "{\"choices\":[{\"delta\":{\"reasoning_content\":\"more of it\"}}]}");
    line_finish(l, "stop");
    expect_end(r, RUN_END_COMPLETE, "");
    assert_null(strstr(r->reasoning, "secret"));
    assert_null(strstr(r->reasoning, "more"));
    assert_string_equal(r->text, "yes");
}

static void held_reasoning_goes_out_before_the_answer(void **state)
{
    (void)state;
    struct run *r = start("hi");
    struct line *l = take_stream();
    line_event(l, "{\"choices\":[{\"delta\":{\"reasoning_content\":\"a secret\"}}]}");
    line_text(l, "yes");
    line_finish(l, "stop");
    expect_end(r, RUN_END_COMPLETE, "");
    assert_string_equal(r->reasoning, "a secret");
}

static void a_term_that_ends_with_the_text_blocks_too(void **state)
{
    (void)state;
    struct run *r = start("hi");
    struct line *l = take_stream();
    line_text(l, "The secret recipe");
    line_finish(l, "stop");
    expect_end(r, RUN_END_BLOCKED, "recipes");
    assert_string_equal(r->text, "The ");
}

/* All of it in one read: the text, the rest and the end come in one turn. */
static void what_comes_behind_a_block_is_not_heard(void **state)
{
    (void)state;
    struct run *r = start("hi");
    struct line *l = take_stream();
    line_text(l, "a secret recipe here");
    line_text(l, "more");
    line_finish(l, "stop");
    expect_end(r, RUN_END_BLOCKED, "recipes");
    assert_string_equal(r->text, "");
    assert_int_equal(r->texts, 0);
}

static void the_models_own_filter_is_a_block(void **state)
{
    (void)state;
    struct run *r = start("hi");
    struct line *l = take_stream();
    line_text(l, "well");
    line_finish(l, "content_filter");
    expect_end(r, RUN_END_BLOCKED, "content_filter");
    assert_string_equal(r->text, "well");
}

/* --- limits ----------------------------------------------------------------------------------- */

/* `count` times "x", valid until the next call. */
static const char *much(size_t count)
{
    static char text[TEXT_BYTES];
    memset(text, 'x', count);
    text[count] = '\0';
    return text;
}

static void a_long_answer_ends_complete_at_its_limit(void **state)
{
    (void)state;
    struct run *r = start("hi");
    struct line *l = take_stream();
    line_text(l, much(1017));
    line_text(l, " secret"); /* exactly full is not over */
    UNTIL(r->text_count > 900);
    idle();
    assert_int_equal(r->ends, 0);
    line_text(l, "y");
    expect_end(r, RUN_END_COMPLETE, "length");
    assert_int_equal(r->text_count, 1024);
    assert_string_equal(r->text + 1017, " secret"); /* what was held back can become no term now */
    UNTIL(l->closed);
}

static void the_limit_cuts_no_character(void **state)
{
    (void)state;
    struct run *r = start("hi");
    struct line *l = take_stream();
    line_text(l, much(1022));
    line_text(l, "\\u20acy");
    expect_end(r, RUN_END_COMPLETE, "length");
    assert_string_equal(r->text, much(1022));
}

static void kept_text_counts_toward_the_limit(void **state)
{
    (void)state;
    struct bus_run_start *m = start_new("", "go on");
    m->kept = blob_copy(bytes_of(much(1000)));
    struct run *r = post(m);
    struct line *l = take_stream();
    line_text(l, much(100));
    expect_end(r, RUN_END_COMPLETE, "length");
    assert_string_equal(r->text, much(24));
}

/* The limit was made smaller since the kept text was written. */
static void kept_text_over_the_limit_leaves_no_room(void **state)
{
    (void)state;
    struct bus_run_start *m = start_new("", "go on");
    m->kept = blob_copy(bytes_of(much(1500)));
    struct run *r = post(m);
    struct line *l = take_stream();
    line_text(l, "y");
    expect_end(r, RUN_END_COMPLETE, "length");
    assert_string_equal(r->text, "");
    UNTIL(l->closed);
}

static void the_models_limit_is_told(void **state)
{
    (void)state;
    struct run *r = start("hi");
    struct line *l = take_stream();
    line_text(l, "half");
    line_finish(l, "length");
    expect_end(r, RUN_END_COMPLETE, "length");
    assert_string_equal(r->text, "half");
    assert_int_equal(r->end.tokens_out, 9);
}

static void a_slow_answer_ends_complete_when_its_time_is_up(void **state)
{
    (void)state;
    struct run *r = start("hi");
    struct line *l = take_stream();
    idle();
    engine_clock_skip(20000); /* waiting for the first word is not writing */
    idle();
    line_text(l, "a secret");
    UNTIL(r->text_count > 0);
    engine_clock_skip(4900);
    idle();
    assert_int_equal(r->ends, 0);
    engine_clock_skip(200);
    expect_end(r, RUN_END_COMPLETE, "length");
    assert_string_equal(r->text, "a secret"); /* what was held back was no term */
    UNTIL(l->closed);
}

static void a_time_that_is_up_later_is_nobodys(void **state)
{
    (void)state;
    struct run *r = start("hi");
    struct line *l = take_stream();
    line_text(l, "x");
    line_finish(l, "stop");
    expect_end(r, RUN_END_COMPLETE, "");
    engine_clock_skip(10000);
    idle();
    assert_int_equal(r->ends, 1);
}

/* --- cancel ----------------------------------------------------------------------------------- */

static void expect_nothing_more(const struct run *r)
{
    struct run before = *r;
    engine_clock_skip(60000);
    idle();
    assert_int_equal(r->texts, before.texts);
    assert_int_equal(r->states, before.states);
    assert_int_equal(r->ends, before.ends);
}

static void cancelled_before_the_prompt_no_model_is_asked(void **state)
{
    (void)state;
    log_with("hello");
    struct run *r = post(start_new("m1", NULL)); /* the store is asked */
    cancel(r);
    idle();
    UNTIL(journal_pending(stage.journal) == 0);
    expect_no_request();
    assert_int_equal(r->states + r->texts + r->ends, 0);
    struct run *other = start("hi"); /* in the slot of the first: its prompt is its own */
    cancel(other);
    expect_no_request();
    assert_int_equal(other->states + other->texts + other->ends, 0);
}

static void cancelled_while_the_model_thinks_its_line_is_closed(void **state)
{
    (void)state;
    struct run *r = start("hi");
    struct line *l = take_line();
    cancel(r);
    UNTIL(l->closed);
    assert_int_equal(r->texts + r->ends, 0);
    expect_nothing_more(r);
}

static void cancelled_in_the_middle_its_line_is_closed_and_nothing_follows(void **state)
{
    (void)state;
    struct run *r = start("hi");
    struct line *l = take_stream();
    line_text(l, "a secret");
    UNTIL(r->text_count > 0);
    cancel(r);
    line_text(l, " is");
    UNTIL(l->closed);
    assert_int_equal(r->ends, 0);
    expect_nothing_more(r);
}

static void cancelled_in_the_queue_it_leaves_its_place(void **state)
{
    (void)state;
    struct run *three[3];
    for (int i = 0; i < 3; i++) {
        struct bus_run_start *m = start_new("", i == 2 ? "the third" : "hi");
        m->model = name_of("narrow");
        three[i] = post(m);
    }
    struct line *l = take_stream();
    UNTIL(three[2]->states > 0);
    cancel(three[1]);
    line_text(l, "x");
    line_finish(l, "stop");
    expect_end(three[0], RUN_END_COMPLETE, "");
    l = take_stream();
    assert_non_null(strstr(l->request, "the third"));
    line_text(l, "y");
    line_finish(l, "stop");
    expect_end(three[2], RUN_END_COMPLETE, "");
    assert_int_equal(three[1]->texts + three[1]->ends, 0);
}

static void a_cancel_that_comes_too_late_hits_nobody(void **state)
{
    (void)state;
    struct run *r = start("hi");
    struct line *l = take_stream();
    line_text(l, "x");
    line_finish(l, "stop");
    expect_end(r, RUN_END_COMPLETE, "");
    struct run *next = start("again");
    cancel(r);
    cancel(r);
    l = take_stream();
    line_text(l, "y");
    line_finish(l, "stop");
    expect_end(next, RUN_END_COMPLETE, "");
    assert_string_equal(next->text, "y");
}

/* --- by rule ---------------------------------------------------------------------------------- */

static void are_you_human_is_answered_by_rule(void **state)
{
    (void)state;
    struct run *r = start("Are you a real person?");
    expect_end(r, RUN_END_COMPLETE, "");
    assert_non_null(strstr(r->text, "I'm an AI, not a person."));
    assert_false(r->end.has_usage);
    expect_no_request();
}

static void a_crisis_is_answered_by_rule(void **state)
{
    (void)state;
    struct run *r = start("nobody cares, I want to kill myself");
    expect_end(r, RUN_END_COMPLETE, "");
    assert_non_null(strstr(r->text, "988"));
    assert_non_null(strstr(r->text, "findahelpline.com"));
    assert_non_null(strstr(r->text, "until you have reached help?")); /* to its last word */
    expect_no_request();
}

/* Asked again, the question stands in the log and nowhere else. */
static void a_rule_looks_at_the_log_too(void **state)
{
    (void)state;
    log_with("i want to kill myself");
    struct run *r = post(start_new("m1", NULL));
    expect_end(r, RUN_END_COMPLETE, "");
    assert_non_null(strstr(r->text, "988"));
    expect_no_request();
}

/* --- faults ----------------------------------------------------------------------------------- */

static void a_store_that_cannot_be_read_fails_the_run(void **state)
{
    (void)state;
    struct run *r = post(start_new("m1", "hi"));
    engine_post(stage.engine, &made_up_path(ERR_IO)->head.msg);
    expect_end(r, RUN_END_FAILED, "unavailable");
    expect_no_request();
    UNTIL(journal_pending(stage.journal) == 0);
    idle();
    r = post(start_new("m1", "hi")); /* there is no such conversation */
    expect_end(r, RUN_END_FAILED, "unavailable");
    expect_no_request();
}

static void a_store_that_is_too_busy_is_told_apart(void **state)
{
    (void)state;
    struct run *r = post(start_new("m1", "hi"));
    engine_post(stage.engine, &made_up_path(ERR_FULL)->head.msg);
    expect_end(r, RUN_END_FAILED, "overloaded");
    expect_no_request();
}

static void a_refused_request_fails_with_its_reason(void **state)
{
    (void)state;
    struct run *r = start("hi");
    struct line *l = take_line();
    line_say(l, "HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    line_end(l);
    expect_end(r, RUN_END_FAILED, "upstream_error");
    assert_int_equal(r->texts, 0);
}

static void a_cut_answer_keeps_its_text(void **state)
{
    (void)state;
    struct run *r = start("hi");
    struct line *l = take_stream();
    line_text(l, "half a secret");
    UNTIL(r->text_count > 0);
    line_end(l);
    expect_end(r, RUN_END_FAILED, "upstream_closed");
    assert_string_equal(r->text, "half a secret"); /* the held back end of it, too */
}

static void thinking_aloud_does_not_stop_the_clock(void **state)
{
    (void)state;
    struct run *r = start("hi");
    struct line *l = take_stream();
    line_text(l, "well");
    UNTIL(r->text_count > 0);
    for (int i = 0; i < 4; i++) {
        engine_clock_skip(1000);
        line_event(l, "{\"choices\":[{\"delta\":{\"reasoning_content\":\".\"}}]}");
        UNTIL(r->reasoning_count == (size_t)i + 1);
    }
    engine_clock_skip(1100);
    idle(); /* now, not some seconds later */
    assert_int_equal(r->ends, 1);
    expect_end(r, RUN_END_COMPLETE, "length");
}

static void nobody_there_fails_the_run(void **state)
{
    (void)state;
    struct bus_run_start *m = start_new("", "hi");
    m->model = name_of("nobody");
    struct run *r = post(m);
    expect_end(r, RUN_END_FAILED, "model_unavailable");
    m = start_new("", "hi");
    m->model = name_of("taken out since");
    r = post(m);
    expect_end(r, RUN_END_FAILED, "unknown_model");
}

static void freeing_the_room_in_the_middle_of_everything_leaks_nothing(void **state)
{
    (void)state;
    log_with("hello");
    struct run *r = start("hi");
    struct line *l = take_stream();
    line_text(l, "a secret");
    UNTIL(r->text_count > 0);
    (void)start("hi");
    (void)take_line();
    (void)post(start_new("m1", "hi"));
    engine_step(stage.engine, 0);
    reply_free(&stage.reply);
    assert_null(stage.reply);
    reply_free(&stage.reply);
}

#define PLAY(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        PLAY(a_question_is_asked_and_answered_piece_by_piece),
        PLAY(the_path_of_the_log_is_what_the_model_sees),
        PLAY(reasoning_is_passed_on_beside_the_text),
        PLAY(two_runs_do_not_mix),
        PLAY(who_waits_for_the_model_is_told_its_place),
        PLAY(what_may_become_a_term_is_held_back_until_it_cannot),
        PLAY(a_term_blocks_once_and_nothing_of_it_is_shown),
        PLAY(a_term_in_the_reasoning_ends_the_reasoning_only),
        PLAY(held_reasoning_goes_out_before_the_answer),
        PLAY(a_term_that_ends_with_the_text_blocks_too),
        PLAY(what_comes_behind_a_block_is_not_heard),
        PLAY(the_models_own_filter_is_a_block),
        PLAY(a_long_answer_ends_complete_at_its_limit),
        PLAY(the_limit_cuts_no_character),
        PLAY(kept_text_counts_toward_the_limit),
        PLAY(kept_text_over_the_limit_leaves_no_room),
        PLAY(the_models_limit_is_told),
        PLAY(a_slow_answer_ends_complete_when_its_time_is_up),
        PLAY(a_time_that_is_up_later_is_nobodys),
        PLAY(cancelled_before_the_prompt_no_model_is_asked),
        PLAY(cancelled_while_the_model_thinks_its_line_is_closed),
        PLAY(cancelled_in_the_middle_its_line_is_closed_and_nothing_follows),
        PLAY(cancelled_in_the_queue_it_leaves_its_place),
        PLAY(a_cancel_that_comes_too_late_hits_nobody),
        PLAY(are_you_human_is_answered_by_rule),
        PLAY(a_crisis_is_answered_by_rule),
        PLAY(a_rule_looks_at_the_log_too),
        PLAY(a_store_that_cannot_be_read_fails_the_run),
        PLAY(a_store_that_is_too_busy_is_told_apart),
        PLAY(a_refused_request_fails_with_its_reason),
        PLAY(a_cut_answer_keeps_its_text),
        PLAY(thinking_aloud_does_not_stop_the_clock),
        PLAY(nobody_there_fails_the_run),
        PLAY(freeing_the_room_in_the_middle_of_everything_leaks_nothing),
    };
    diag_clock_set(wall_now_ms);
    diag_init("error");
    diag_thread_init("test");
    return cmocka_run_group_tests(tests, measure, NULL);
}
