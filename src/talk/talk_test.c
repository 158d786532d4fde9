/* Conversations from the mailbox to the log and back: a real engine, the mem journal, and this test
 * in place of the sessions and of reply. Covers ask.c, conv.c, run.c, send.c, userbox.c, watch.c.
 */
#include "talk/talk.h"

#include "base/mem.h"
#include "bus/messages.h"
#include "codec/json.h"
#include "diag/diag.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include <cmocka.h>

#define WAIT_S     10
#define TEXT_BYTES 8192

/* The stage: what the rooms around talk were told, in order. */
static struct {
    struct config *config;
    struct journal *journal;
    struct text_terms *terms;
    struct talk *talk;
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t news;
    struct msg *first;
    struct msg *last;
    uint64_t call;
    struct arena arena;
} stage;

static void record(void *ctx, struct msg *m)
{
    (void)ctx;
    m->next = NULL;
    pthread_mutex_lock(&stage.lock);
    if (stage.last == NULL)
        stage.first = m;
    else
        stage.last->next = m;
    stage.last = m;
    pthread_cond_signal(&stage.news);
    pthread_mutex_unlock(&stage.lock);
}

static void *run_engines(void *ctx)
{
    (void)ctx;
    engines_run();
    return NULL;
}

static int set_up(void **state)
{
    struct buf message;
    char *environment[] = {NULL};
    struct config_set sets[] = {{"store=mem"},
                                {"runs.delta=0"},
                                {"limits.user_runs=12"},
                                {"models.0.name=m"},
                                {"models.0.url=http://127.0.0.1:1/v1"}};
    (void)state;
    diag_clock_set(wall_now_ms);
    diag_init("error");
    buf_init(&message, 4096);
    assert_int_equal(
        config_load(NULL, environment, sets, ARRAY_COUNT(sets), &stage.config, &message), ERR_OK);
    assert_int_equal(journal_open(stage.config, &stage.journal, &message), ERR_OK);
    buf_fini(&message);
    stage.terms = text_terms_make(stage.config);
    assert_int_equal(engines_make(1, 7), ERR_OK);
    stage.talk = talk_make(engine_at(0), stage.journal, stage.terms, stage.config);
    assert_non_null(stage.talk);
    engine_listen(engine_at(0), PORT_SESSION, record, NULL);
    engine_listen(engine_at(0), PORT_REPLY, record, NULL);
    pthread_mutex_init(&stage.lock, NULL);
    pthread_cond_init(&stage.news, NULL);
    assert_int_equal(arena_grow_init(&stage.arena, 65536, 16u << 20), ERR_OK);
    assert_int_equal(pthread_create(&stage.thread, NULL, run_engines, NULL), 0);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    engines_stop();
    pthread_join(stage.thread, NULL);
    journal_close(&stage.journal);
    talk_free(&stage.talk);
    while (stage.first != NULL) {
        struct msg *m = stage.first;
        stage.first = m->next;
        msg_free(m);
    }
    text_terms_free(&stage.terms);
    config_free(&stage.config);
    arena_fini(&stage.arena);
    return 0;
}

/* --- waiting for what was said ---------------------------------------------------------------- */

typedef bool matcher(const struct msg *m, const void *want);

/* Takes the first recorded message that fits; those before it stay. Fails after WAIT_S. */
static struct msg *await(matcher *fits, const void *want, const char *what)
{
    struct timespec until = {.tv_sec = wall_now_ms() / 1000 + WAIT_S};
    pthread_mutex_lock(&stage.lock);
    for (;;) {
        struct msg *before = NULL;
        for (struct msg *m = stage.first; m != NULL; before = m, m = m->next) {
            if (!fits(m, want))
                continue;
            if (before == NULL)
                stage.first = m->next;
            else
                before->next = m->next;
            if (stage.last == m)
                stage.last = before;
            pthread_mutex_unlock(&stage.lock);
            return m;
        }
        if (pthread_cond_timedwait(&stage.news, &stage.lock, &until) != 0)
            break;
    }
    pthread_mutex_unlock(&stage.lock);
    fail_msg("nothing came: %s", what);
    return NULL;
}

static bool is_answer(const struct msg *m, const void *want)
{
    return m->kind == BUS_ANSWER &&
           ((const struct bus_answer *)(const void *)m)->to.call == *(const uint64_t *)want;
}

static bool is_subscribed(const struct msg *m, const void *want)
{
    return m->kind == BUS_SUBSCRIBED &&
           ((const struct bus_subscribed *)(const void *)m)->to.call == *(const uint64_t *)want;
}

static bool is_kind(const struct msg *m, const void *want)
{
    return m->kind == *(const enum bus_kind *)want;
}

static bool holds(const struct blob *b, const char *text)
{
    return b != NULL && memmem(b->at, b->count, text, strlen(text)) != NULL;
}

struct want_event {
    const struct id *conv;
    const char *text;
};

/* A publication of a conversation that holds a piece of text. */
static bool is_event(const struct msg *m, const void *want)
{
    const struct want_event *w = want;
    const struct bus_publish *p = (const struct bus_publish *)(const void *)m;
    return m->kind == BUS_PUBLISH && p->key.kind == CHANNEL_CONV &&
           id_equal(&p->key.conv, w->conv) && holds(p->data, w->text);
}

static struct bus_publish *await_event(const struct id *conv, const char *text)
{
    struct want_event w = {conv, text};
    return (struct bus_publish *)(void *)await(is_event, &w, text);
}

static uint64_t expect_event(const struct id *conv, const char *text)
{
    struct bus_publish *p = await_event(conv, text);
    uint64_t offset = p->offset;
    msg_free(&p->msg);
    return offset;
}

/* --- asking ----------------------------------------------------------------------------------- */

static struct who who_of(const char *user)
{
    struct who w;
    memset(&w, 0, sizeof(w));
    assert_int_equal(id_parse(bytes_of("default"), &w.app), ERR_OK);
    assert_int_equal(name_parse(bytes_of(user), &w.user), ERR_OK);
    return w;
}

static struct id id_of(const char *text)
{
    struct id i;
    assert_int_equal(id_parse(bytes_of(text), &i), ERR_OK);
    return i;
}

static struct bus_command *command_new(const char *user, enum command c)
{
    struct bus_command *m = BUS_NEW(COMMAND, bus_command, PORT_TALK);
    m->command = c;
    m->who = who_of(user);
    m->from.port = PORT_SESSION;
    m->from.call = ++stage.call;
    return m;
}

static uint64_t post(struct bus_command *m)
{
    uint64_t call = m->from.call;
    engine_post(engine_at(0), &m->msg);
    return call;
}

struct answer {
    uint32_t code;
    char text[TEXT_BYTES];
};

static struct answer answer_to(uint64_t call)
{
    struct answer a = {0, ""};
    struct bus_answer *m = (struct bus_answer *)(void *)await(is_answer, &call, "an answer");
    a.code = m->code;
    assert_true(m->body->count < TEXT_BYTES);
    memcpy(a.text, m->body->at, m->body->count);
    a.text[m->body->count] = '\0';
    msg_free(&m->msg);
    return a;
}

static struct answer ask(struct bus_command *m)
{
    return answer_to(post(m));
}

/* The string behind "key":" in an answer. */
static struct id field(const struct answer *a, const char *key)
{
    char want[40];
    (void)snprintf(want, sizeof(want), "\"%s\":\"", key);
    const char *at = strstr(a->text, want);
    assert_non_null(at);
    at += strlen(want);
    struct id i;
    assert_int_equal(id_parse(bytes_make(at, (size_t)(strchr(at, '"') - at)), &i), ERR_OK);
    return i;
}

static void expect_in(const struct answer *a, const char *text)
{
    if (strstr(a->text, text) == NULL)
        fail_msg("\"%s\" is not in: %s", text, a->text);
}

/* Each test leaves the stage clean: a start that nobody took would be taken by the next one. */
static void expect_no_start(void)
{
    bool left = false;
    pthread_mutex_lock(&stage.lock);
    for (const struct msg *m = stage.first; m != NULL; m = m->next)
        left |= m->kind == BUS_RUN_START;
    pthread_mutex_unlock(&stage.lock);
    assert_false(left);
}

static struct id create(const char *user)
{
    expect_no_start();
    struct bus_command *m = command_new(user, CMD_CONV_CREATE);
    struct rng r;
    rng_init(&r, stage.call);
    m->args.conv = id_make('c', wall_now_ms(), &r);
    struct answer a = ask(m);
    assert_int_equal(a.code, 0);
    return field(&a, "id");
}

static uint64_t subscribe(const char *user, const struct id *conv, bool recover, uint64_t offset)
{
    struct bus_subscribe *s = BUS_NEW(SUBSCRIBE, bus_subscribe, PORT_TALK);
    s->key.kind = CHANNEL_CONV;
    s->key.conv = *conv;
    s->who = who_of(user);
    s->from.port = PORT_SESSION;
    s->from.call = ++stage.call;
    s->recover = recover;
    s->offset = offset;
    uint64_t call = s->from.call;
    engine_post(engine_at(0), &s->msg);
    return call;
}

static struct bus_subscribed *subscribed(uint64_t call)
{
    return (struct bus_subscribed *)(void *)await(is_subscribed, &call, "a subscription");
}

static void watch(const char *user, const struct id *conv)
{
    struct bus_subscribed *s = subscribed(subscribe(user, conv, false, 0));
    assert_int_equal(s->code, 0);
    msg_free(&s->msg);
}

static struct bus_command *send_new(const char *user, const struct id *conv, const char *cid,
                                    const char *text)
{
    struct bus_command *m = command_new(user, CMD_CHAT_SEND);
    m->args.conv = *conv;
    m->args.cid = id_of(cid);
    m->args.text = blob_copy(bytes_of(text));
    return m;
}

/* --- playing reply ---------------------------------------------------------------------------- */

static struct bus_run_start *await_start(void)
{
    enum bus_kind kind = BUS_RUN_START;
    return (struct bus_run_start *)(void *)await(is_kind, &kind, "a run's start");
}

static struct handle take_start(void)
{
    struct bus_run_start *s = await_start();
    struct handle h = s->talk_run;
    msg_free(&s->msg);
    return h;
}

static void say(struct handle run, const char *text)
{
    struct bus_run_text *m = BUS_NEW(RUN_TEXT, bus_run_text, PORT_TALK);
    m->talk_run = run;
    m->text = blob_copy(bytes_of(text));
    engine_post(engine_at(0), &m->msg);
}

static void end(struct handle run, enum run_end how, const char *why)
{
    struct bus_run_end *m = BUS_NEW(RUN_END, bus_run_end, PORT_TALK);
    m->talk_run = run;
    m->end = how;
    m->why = why;
    engine_post(engine_at(0), &m->msg);
}

/* --- the tests -------------------------------------------------------------------------------- */

static void an_ordinary_turn_is_two_events(void **state)
{
    (void)state;
    struct id c = create("ada");
    watch("ada", &c);
    struct answer a = ask(send_new("ada", &c, "one", "Hi, I am Ada"));
    expect_in(&a, "\"status\":\"accepted\"");
    expect_in(&a, "\"offset\":1");
    struct id run = field(&a, "run");
    struct bus_run_start *s = await_start();
    assert_true(id_equal(&s->run, &run));
    assert_true(id_is_none(&s->from));
    assert_true(bytes_is(blob_bytes(s->question), "Hi, I am Ada"));
    struct handle h = s->talk_run;
    msg_free(&s->msg);
    assert_int_equal(expect_event(&c, "Hi, I am Ada"), 1);
    assert_int_equal(expect_event(&c, "\"thinking\""), 0);
    say(h, "Hello");
    assert_int_equal(expect_event(&c, "\"p\":0,\"s\":\"Hello\""), 0);
    say(h, " \xf0\x9f\x98\x80");
    expect_event(&c, "\"p\":5,\"s\":\" \xf0\x9f\x98\x80\"");
    say(h, "!");
    expect_event(&c, "\"p\":8,\"s\":\"!\""); /* positions count UTF-16 units */
    end(h, RUN_END_COMPLETE, "");
    assert_int_equal(expect_event(&c, "Hello \xf0\x9f\x98\x80!"), 2);
}

static void the_same_cid_is_one_message_and_one_run(void **state)
{
    (void)state;
    struct id c = create("ada");
    struct answer first = ask(send_new("ada", &c, "one", "once"));
    struct answer again = ask(send_new("ada", &c, "one", "once"));
    struct id a = field(&first, "msg");
    struct id b = field(&again, "msg");
    expect_in(&again, "\"status\":\"duplicate\"");
    expect_in(&again, "\"offset\":1");
    assert_true(id_equal(&a, &b));
    struct answer other = ask(send_new("ada", &c, "one", "something else"));
    assert_int_equal(other.code, 409);
    struct bus_command *get = command_new("ada", CMD_RUN_GET);
    get->args.run = field(&first, "run");
    get->args.conv = c;
    struct answer run = ask(get);
    expect_in(&run, "\"st\":\"thinking\"");
    end(take_start(), RUN_END_COMPLETE, "");
}

static void a_second_send_waits_and_follows_the_promised_answer(void **state)
{
    (void)state;
    struct id c = create("ada");
    watch("ada", &c);
    struct answer one = ask(send_new("ada", &c, "one", "first"));
    struct handle h = take_start();
    struct answer two = ask(send_new("ada", &c, "two", "second"));
    struct bus_publish *p = await_event(&c, "\"second\"");
    char parent[100];
    struct id promised = field(&one, "run");
    (void)snprintf(parent, sizeof(parent), "\"parent\":\"m%.*s\"", promised.count - 1,
                   promised.at + 1);
    assert_true(holds(p->data, parent));
    msg_free(&p->msg);
    expect_event(&c, "\"st\":\"queued\",\"pos\":1");
    say(h, "A");
    end(h, RUN_END_COMPLETE, "");
    assert_int_equal(expect_event(&c, "\"text\":\"A\""), 3);
    struct bus_run_start *s =
        await_start(); /* by itself, in the transaction that ended the first */
    struct id run = field(&two, "run");
    assert_true(id_equal(&s->run, &run));
    assert_null(s->question);
    h = s->talk_run;
    msg_free(&s->msg);
    end(h, RUN_END_COMPLETE, "");
    assert_int_equal(expect_event(&c, "\"status\":\"complete\",\"model\""), 4);
}

static void reject_and_cancel(void **state)
{
    (void)state;
    struct id c = create("ada");
    watch("ada", &c);
    ask(send_new("ada", &c, "one", "first"));
    struct handle h = take_start();
    say(h, "partial");
    expect_event(&c, "\"s\":\"partial\"");
    struct bus_command *m = send_new("ada", &c, "two", "second");
    m->args.during = DURING_REJECT;
    struct answer a = ask(m);
    expect_in(&a, "\"refused\"");
    expect_in(&a, "\"busy\"");
    m = send_new("ada", &c, "three", "third");
    m->args.during = DURING_CANCEL;
    a = ask(m);
    expect_in(&a, "\"accepted\"");
    assert_int_equal(expect_event(&c, "\"text\":\"partial\",\"status\":\"stopped\""), 2);
    assert_int_equal(expect_event(&c, "\"text\":\"third\""), 3);
    end(take_start(), RUN_END_COMPLETE, "");
    expect_event(&c, "\"status\":\"complete\",\"model\"");
}

static void a_repeated_cancel_does_not_stop_its_own_answer(void **state)
{
    (void)state;
    struct id c = create("ada");
    struct bus_command *m = send_new("ada", &c, "one", "first");
    m->args.during = DURING_CANCEL;
    ask(m);
    struct handle h = take_start();
    m = send_new("ada", &c, "one", "first");
    m->args.during = DURING_CANCEL;
    struct answer a = ask(m);
    expect_in(&a, "\"duplicate\"");
    watch("ada", &c);
    say(h, "still here");
    expect_event(&c, "still here");
    end(h, RUN_END_COMPLETE, "");
    expect_event(&c, "\"status\":\"complete\"");
}

static void stop_keeps_the_text_and_answers_after_the_commit(void **state)
{
    (void)state;
    struct id c = create("ada");
    watch("ada", &c);
    struct answer sent = ask(send_new("ada", &c, "one", "first"));
    struct handle h = take_start();
    say(h, "so far");
    expect_event(&c, "so far");
    struct bus_command *m = command_new("ada", CMD_RUN_STOP);
    m->args.run = field(&sent, "run");
    struct answer a = ask(m); /* without the conversation: it is found by the run */
    expect_in(&a, "\"accepted\"");
    assert_int_equal(expect_event(&c, "\"text\":\"so far\",\"status\":\"stopped\""), 2);
    enum bus_kind kind = BUS_RUN_CANCEL;
    msg_free(await(is_kind, &kind, "the model's cancel"));
    say(h, " and more"); /* too late: nothing of it is heard */
    m = command_new("ada", CMD_RUN_STOP);
    m->args.run = field(&sent, "run");
    m->args.conv = c;
    a = ask(m); /* the same target state: the same answer */
    expect_in(&a, "\"accepted\"");
}

static void stop_of_everything_ends_those_that_wait_too(void **state)
{
    (void)state;
    struct id c = create("ada");
    watch("ada", &c);
    ask(send_new("ada", &c, "one", "first"));
    msg_free(&await_start()->msg);
    ask(send_new("ada", &c, "two", "second"));
    ask(send_new("ada", &c, "three", "third"));
    struct bus_command *m = command_new("ada", CMD_RUN_STOP);
    m->args.conv = c;
    struct answer a = ask(m);
    expect_in(&a, "\"accepted\"");
    for (int i = 0; i < 3; i++)
        expect_event(&c, "\"status\":\"stopped\"");
    m = command_new("ada", CMD_RUN_STOP);
    m->args.conv = c;
    a = ask(m);
    expect_in(&a, "\"accepted\"");
}

static void a_snapshot_and_the_deltas_after_it_fit(void **state)
{
    (void)state;
    struct id c = create("ada");
    ask(send_new("ada", &c, "one", "first"));
    struct handle h = take_start();
    say(h, "abc");
    struct bus_subscribed *s = NULL;
    for (int i = 0; i < 100; i++) { /* until the text is in: order between threads is not ours */
        s = subscribed(subscribe("ada", &c, false, 0));
        if (holds(s->data, "\"text\":\"abc\",\"p\":3"))
            break;
        msg_free(&s->msg);
        s = NULL;
    }
    assert_non_null(s);
    assert_int_equal(s->offset, 1);
    assert_true(holds(s->data, "\"as_of\":1"));
    msg_free(&s->msg);
    say(h, "def");
    expect_event(&c, "\"p\":3,\"s\":\"def\"");
    end(h, RUN_END_COMPLETE, "");
    expect_event(&c, "abcdef");
}

static void recovery_gives_exactly_what_was_missed(void **state)
{
    (void)state;
    struct id c = create("ada");
    ask(send_new("ada", &c, "one", "first"));
    struct handle h = take_start();
    say(h, "answer");
    end(h, RUN_END_COMPLETE, "");
    struct bus_command *m = send_new("ada", &c, "two", "second");
    m->args.no_answer = true;
    struct answer a = ask(m);
    expect_in(&a, "\"offset\":3");
    struct bus_subscribed *s = subscribed(subscribe("ada", &c, true, 1));
    assert_int_equal(s->code, 0);
    assert_true(s->recovered);
    assert_int_equal(s->offset, 1);
    assert_int_equal(s->publications_count, 2);
    assert_true(holds(s->publications, "\"offset\":2"));
    assert_true(holds(s->publications, "\"offset\":3"));
    assert_false(holds(s->publications, "\"offset\":1,"));
    msg_free(&s->msg);
    s = subscribed(subscribe("ada", &c, true, 99)); /* ahead of the log: never a silent yes */
    assert_false(s->recovered);
    assert_true(s->was_recovering);
    assert_int_equal(s->offset, 3);
    msg_free(&s->msg);
}

static void strangers_see_nothing(void **state)
{
    (void)state;
    struct id c = create("ada");
    struct bus_command *m = command_new("eve", CMD_CONV_OPEN);
    m->args.conv = c;
    struct answer a = ask(m);
    assert_int_equal(a.code, 404);
    a = ask(send_new("eve", &c, "x", "hello"));
    assert_int_equal(a.code, 404);
    struct bus_subscribed *s = subscribed(subscribe("eve", &c, false, 0));
    assert_int_equal(s->code, 103);
    msg_free(&s->msg);
    struct id none = id_of("c_none");
    m = command_new("ada", CMD_CONV_OPEN);
    m->args.conv = none;
    a = ask(m);
    assert_int_equal(a.code, 404);
}

static void regenerate_makes_a_sibling_and_turns_the_path(void **state)
{
    (void)state;
    struct id c = create("ada");
    watch("ada", &c);
    struct answer sent = ask(send_new("ada", &c, "one", "question"));
    struct handle h = take_start();
    say(h, "first answer");
    end(h, RUN_END_COMPLETE, "");
    expect_event(&c, "\"text\":\"first answer\"");
    struct bus_command *m = command_new("ada", CMD_MSG_REGENERATE);
    m->args.msg = field(&sent, "run");
    m->args.msg.at[0] = 'm';
    m->args.cid = id_of("again");
    struct answer a = ask(m); /* without the conversation, too */
    expect_in(&a, "\"accepted\"");
    assert_int_equal(expect_event(&c, "\"cause\":\"regenerate\""), 3);
    assert_int_equal(expect_event(&c, "\"k\":\"head\""), 4);
    struct bus_run_start *s = await_start();
    struct id user_msg = field(&sent, "msg");
    assert_true(id_equal(&s->from, &user_msg));
    h = s->talk_run;
    msg_free(&s->msg);
    say(h, "second answer");
    end(h, RUN_END_COMPLETE, "");
    assert_int_equal(expect_event(&c, "\"text\":\"second answer\""), 5);
    m = command_new("ada", CMD_CONV_OPEN);
    m->args.conv = c;
    a = ask(m);
    expect_in(&a, "second answer");
    expect_in(&a, "\"siblings\"");
    assert_null(strstr(a.text, "first answer"));
}

static void continue_goes_on_from_the_kept_text(void **state)
{
    (void)state;
    struct id c = create("ada");
    watch("ada", &c);
    struct answer sent = ask(send_new("ada", &c, "one", "question"));
    struct handle h = take_start();
    say(h, "Once upon");
    end(h, RUN_END_FAILED, "upstream_closed");
    expect_event(&c, "\"status\":\"failed\",\"why\":\"upstream_closed\"");
    struct bus_command *m = command_new("ada", CMD_MSG_REGENERATE);
    m->args.conv = c;
    m->args.msg = field(&sent, "run");
    m->args.msg.at[0] = 'm';
    m->args.cid = id_of("go-on");
    m->args.go_on = true;
    struct answer a = ask(m);
    expect_in(&a, "\"accepted\"");
    struct bus_run_start *s = await_start();
    assert_true(bytes_is(blob_bytes(s->kept), "Once upon"));
    h = s->talk_run;
    msg_free(&s->msg);
    expect_event(&c, "\"p\":0,\"s\":\"Once upon\"");
    say(h, " a time");
    expect_event(&c, "\"p\":9,\"s\":\" a time\"");
    end(h, RUN_END_COMPLETE, "");
    expect_event(&c, "\"text\":\"Once upon a time\"");
}

static void refusals_are_data_and_the_final_ones_are_kept(void **state)
{
    char *long_text = mem_new((size_t)stage.config->text_bytes_max + 2);
    (void)state;
    memset(long_text, 'x', (size_t)stage.config->text_bytes_max + 1);
    long_text[stage.config->text_bytes_max + 1] = '\0';
    struct id c = create("ada");
    struct answer a = ask(send_new("ada", &c, "long", long_text));
    expect_in(&a, "\"too_long\"");
    assert_null(strstr(a.text, "retry_ms"));
    a = ask(send_new("ada", &c, "long", long_text));
    expect_in(&a, "\"too_long\"");
    a = ask(send_new("ada", &c, "long", "short")); /* another content under that cid */
    assert_int_equal(a.code, 409);
    (void)take_start(); /* begun beside the commit, cancelled with its refusal */
    a = ask(send_new("ada", &c, "white", " \n\t "));
    assert_int_equal(a.code, 107);
    mem_free(long_text);
}

static void the_ninth_that_waits_is_refused_as_busy(void **state)
{
    char cid[16];
    (void)state;
    struct id c = create("ada");
    for (int i = 0; i < 9; i++) {
        (void)snprintf(cid, sizeof(cid), "n%d", i);
        struct answer a = ask(send_new("ada", &c, cid, "more"));
        expect_in(&a, "\"accepted\"");
    }
    msg_free(&await_start()->msg);
    struct answer a = ask(send_new("ada", &c, "n9", "more"));
    expect_in(&a, "\"busy\"");
    expect_in(&a, "\"retry_ms\"");
    struct bus_command *m = command_new("ada", CMD_RUN_STOP);
    m->args.conv = c;
    ask(m);
}

static void an_early_end_is_published_after_its_question(void **state)
{
    (void)state;
    struct id c = create("ada");
    watch("ada", &c);
    journal_pause(stage.journal, true);
    uint64_t call = post(send_new("ada", &c, "one", "question"));
    struct handle h = take_start(); /* the model is asked while the commit is under way */
    say(h, "quick");
    end(h, RUN_END_COMPLETE, "");
    journal_pause(stage.journal, false);
    struct answer a = answer_to(call);
    expect_in(&a, "\"accepted\"");
    struct bus_publish *first = await_event(&c, "\"");
    assert_int_equal(first->offset, 1); /* no byte of the answer before it */
    msg_free(&first->msg);
    assert_int_equal(expect_event(&c, "\"text\":\"quick\""), 2);
}

static void typing_reading_and_renaming_reach_the_others(void **state)
{
    (void)state;
    struct id c = create("ada");
    watch("ada", &c);
    struct bus_command *m = command_new("ada", CMD_TYPING_SET);
    m->args.conv = c;
    m->args.on = true;
    ask(m);
    expect_event(&c, "\"t\":\"typing\",\"u\":\"ada\",\"on\":true");
    m = send_new("ada", &c, "one", "text");
    m->args.no_answer = true;
    ask(m);
    m = command_new("ada", CMD_READ_SET);
    m->args.conv = c;
    m->args.offset = 77; /* above the top: the top counts */
    ask(m);
    expect_event(&c, "\"t\":\"read\",\"u\":\"ada\",\"o\":1");
    m = command_new("ada", CMD_CONV_UPDATE);
    m->args.conv = c;
    m->args.title = blob_copy(bytes_of("New name"));
    struct answer a = ask(m);
    expect_in(&a, "\"title\":\"New name\"");
    assert_int_equal(expect_event(&c, "\"k\":\"title\",\"v\":\"New name\""), 2);
}

static void deleting_ends_everything(void **state)
{
    (void)state;
    struct id c = create("ada");
    watch("ada", &c);
    ask(send_new("ada", &c, "one", "first"));
    msg_free(&await_start()->msg);
    struct bus_command *m = command_new("ada", CMD_CONV_DELETE);
    m->args.conv = c;
    struct answer a = ask(m);
    assert_int_equal(a.code, 0);
    enum bus_kind kind = BUS_KICK;
    struct bus_kick *k = (struct bus_kick *)(void *)await(is_kind, &kind, "the end of watching");
    assert_int_equal(k->code, 2000);
    msg_free(&k->msg);
    kind = BUS_RUN_CANCEL;
    msg_free(await(is_kind, &kind, "the model's cancel"));
    a = ask(send_new("ada", &c, "two", "second"));
    assert_int_equal(a.code, 404);
}

static bool is_inbox_event(const struct msg *m, const void *want)
{
    const struct bus_publish *p = (const struct bus_publish *)(const void *)m;
    return m->kind == BUS_PUBLISH && p->key.kind == CHANNEL_INBOX && holds(p->data, want);
}

static void the_inbox_follows(void **state)
{
    (void)state;
    struct bus_subscribe *s = BUS_NEW(SUBSCRIBE, bus_subscribe, PORT_TALK);
    s->who = who_of("ivy");
    s->key.kind = CHANNEL_INBOX;
    s->key.app = s->who.app;
    s->key.user = s->who.user;
    s->from.port = PORT_SESSION;
    s->from.call = ++stage.call;
    uint64_t call = s->from.call;
    engine_post(engine_at(0), &s->msg);
    struct bus_subscribed *done = subscribed(call);
    assert_int_equal(done->code, 0);
    assert_true(done->epoch_count > 0);
    msg_free(&done->msg);
    struct id c = create("ivy");
    msg_free(await(is_inbox_event, "\"head\":0", "the new conversation"));
    ask(send_new("ivy", &c, "one", "hello list"));
    msg_free(await(is_inbox_event, "\"last\":\"hello list\"", "its first line"));
    msg_free(await(is_inbox_event, "\"on\":true", "a run"));
    end(take_start(), RUN_END_COMPLETE, "");
    msg_free(await(is_inbox_event, "\"on\":false", "its end"));
    struct answer list = ask(command_new("ivy", CMD_CONV_LIST));
    expect_in(&list, "\"head\":2");
    expect_in(&list, "\"unread\":1");
}

static void history_pages_both_ways(void **state)
{
    (void)state;
    struct id c = create("ada");
    for (int i = 0; i < 3; i++) {
        char cid[16];
        (void)snprintf(cid, sizeof(cid), "h%d", i);
        struct bus_command *m = send_new("ada", &c, cid, cid);
        m->args.no_answer = true;
        ask(m);
    }
    struct bus_command *m = command_new("ada", CMD_HISTORY);
    m->args.conv = c;
    m->args.limit = 2;
    struct answer a = ask(m);
    expect_in(&a, "\"offset\":1");
    expect_in(&a, "\"offset\":2}],");
    expect_in(&a, "\"offset\":3}");
    m = command_new("ada", CMD_HISTORY);
    m->args.conv = c;
    m->args.limit = -1;
    m->args.reverse = true;
    m->args.has_since = true;
    m->args.offset = 2;
    a = ask(m);
    expect_in(&a, "\"h0\"");
    assert_null(strstr(a.text, "\"h2\""));
    m = command_new("ada", CMD_HISTORY);
    m->args.conv = c;
    m->args.limit = 1;
    m->args.epoch = blob_copy(bytes_of("other"));
    a = ask(m);
    assert_int_equal(a.code, 112);
}

static void a_conversation_made_twice_under_a_cid_is_one(void **state)
{
    (void)state;
    struct bus_command *m = command_new("ada", CMD_CONV_CREATE);
    m->args.conv = id_of("c_first");
    m->args.cid = id_of("make");
    struct answer a = ask(m);
    m = command_new("ada", CMD_CONV_CREATE);
    m->args.conv = id_of("c_second");
    m->args.cid = id_of("make");
    struct answer b = ask(m);
    expect_in(&a, "\"id\":\"c_first\"");
    expect_in(&b, "\"id\":\"c_first\"");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_ordinary_turn_is_two_events),
        cmocka_unit_test(the_same_cid_is_one_message_and_one_run),
        cmocka_unit_test(a_second_send_waits_and_follows_the_promised_answer),
        cmocka_unit_test(reject_and_cancel),
        cmocka_unit_test(a_repeated_cancel_does_not_stop_its_own_answer),
        cmocka_unit_test(stop_keeps_the_text_and_answers_after_the_commit),
        cmocka_unit_test(stop_of_everything_ends_those_that_wait_too),
        cmocka_unit_test(a_snapshot_and_the_deltas_after_it_fit),
        cmocka_unit_test(recovery_gives_exactly_what_was_missed),
        cmocka_unit_test(strangers_see_nothing),
        cmocka_unit_test(regenerate_makes_a_sibling_and_turns_the_path),
        cmocka_unit_test(continue_goes_on_from_the_kept_text),
        cmocka_unit_test(refusals_are_data_and_the_final_ones_are_kept),
        cmocka_unit_test(the_ninth_that_waits_is_refused_as_busy),
        cmocka_unit_test(an_early_end_is_published_after_its_question),
        cmocka_unit_test(typing_reading_and_renaming_reach_the_others),
        cmocka_unit_test(deleting_ends_everything),
        cmocka_unit_test(the_inbox_follows),
        cmocka_unit_test(history_pages_both_ways),
        cmocka_unit_test(a_conversation_made_twice_under_a_cid_is_one),
    };
    cmocka_set_test_filter(getenv("KITH_TEST"));
    return cmocka_run_group_tests_name("talk", tests, set_up, tear_down);
}
