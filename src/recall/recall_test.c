/* From a path in the log to a prompt: the real room on a real engine that is stepped by hand, over
 * the mem journal. window_test.c has the rules of the window itself. */
#include "recall/recall.h"

#include "base/mem.h"
#include "diag/diag.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#define STEPS_MAX 5000
#define LOCAL     "local" /* what the managed model is called beside others */

static struct {
    uint64_t mem_before;
    struct config *config;
    struct journal *journal;
    struct engine *engine;
    struct net *net;
    struct model *model;
    struct recall *recall;
    struct msg *written; /* answers of the journal to this test */
    struct recall_ready *ready;
    uint32_t readies;
} stage;

/* What diag keeps for good of a thread that has ended: of the store's writer, in each test. */
static uint64_t writer_bytes;

#define UNTIL(condition)                                                \
    do {                                                                \
        for (int step_ = 0; step_ < STEPS_MAX && !(condition); step_++) \
            engine_step(stage.engine, 2);                               \
        if (!(condition))                                               \
            fail_msg("in vain: %s", #condition);                        \
    } while (0)

static void on_written(void *ctx, struct msg *m)
{
    (void)ctx;
    assert_null(stage.written);
    stage.written = m;
}

static void on_ready(void *ctx, struct msg *m)
{
    (void)ctx;
    assert_int_equal(m->kind, RECALL_READY);
    if (stage.ready != NULL)
        msg_free(&stage.ready->msg);
    stage.ready = (struct recall_ready *)(void *)m;
    stage.readies++;
}

static void make_rooms(void)
{
    stage.model = model_make(stage.engine, stage.net, stage.config);
    stage.recall = recall_make(stage.engine, stage.journal, stage.model, stage.config);
    assert_non_null(stage.recall);
}

static int set_up(void **state)
{
    (void)state;
    struct buf message;
    char text[512];
    char *environment[] = {NULL};
    struct config_set sets[] = {{"store=mem"},
                                {"local.enabled=true"},
                                {"models.0.name=m"},
                                {"models.0.url=http://127.0.0.1:1/v1"},
                                {"models.1.name=small"},
                                {"models.1.url=http://127.0.0.1:1/v1"},
                                {"models.1.context_tokens=400"},
                                {"context.messages=6"},
                                {"personas.0.id=p_first"},
                                {"personas.0.prompt=first"},
                                {"personas.1.id=p_second"},
                                {"personas.1.prompt=second"}};
    memset(&stage, 0, sizeof(stage));
    stage.mem_before = mem_used_bytes();
    buf_init_fixed(&message, text, sizeof(text) - 1);
    enum err err = config_load(NULL, environment, sets, ARRAY_COUNT(sets), &stage.config, &message);
    text[message.count] = '\0';
    if (err != ERR_OK)
        fail_msg("%s", text);
    assert_int_equal(engines_make(1, 7), ERR_OK);
    stage.engine = engine_at(0);
    assert_int_equal(journal_open(stage.config, &stage.journal, &message), ERR_OK);
    stage.net = net_make(stage.engine, stage.config);
    make_rooms();
    engine_listen(stage.engine, PORT_MAIN, on_written, NULL);
    engine_listen(stage.engine, PORT_REPLY, on_ready, NULL);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    journal_close(&stage.journal);
    recall_free(&stage.recall);
    model_free(&stage.model);
    net_free(&stage.net);
    if (stage.ready != NULL)
        msg_free(&stage.ready->msg);
    if (stage.written != NULL)
        msg_free(stage.written);
    engines_free();
    config_free(&stage.config);
    return mem_used_bytes() - stage.mem_before == writer_bytes ? 0 : -1;
}

static int measure(void **state)
{
    (void)set_up(state);
    (void)tear_down(state);
    (void)set_up(state);
    (void)tear_down(state);
    writer_bytes = mem_used_bytes() - stage.mem_before;
    return 0;
}

/* --- a conversation --------------------------------------------------------------------------- */

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

static void create(const char *conv)
{
    struct journal_conv_create *o = JOURNAL_NEW(CONV_CREATE, journal_conv_create, PORT_MAIN);
    o->app = id_of("default");
    o->user = name_of("ada");
    o->conv = id_of(conv);
    o->persona = id_of("p_first");
    o->now_ms = 1000;
    memcpy(o->epoch_random, "abcdefghijk", 12);
    write_down(o);
}

/* A message with this payload in conversation c; unless `promised` is empty, an answer of that id
 * is promised. */
static void append(const char *msg, const char *parent, const char *payload, const char *promised)
{
    struct journal_append *o = JOURNAL_NEW(APPEND, journal_append, PORT_MAIN);
    o->app = id_of("default");
    o->conv = id_of("c");
    o->sender = name_of("ada");
    o->now_ms = 2000;
    o->events_count = 1;
    o->events[0].kind = EVENT_MSG;
    o->events[0].msg = id_of(msg);
    o->events[0].parent = id_of(parent);
    o->events[0].payload = blob_copy(bytes_of(payload));
    o->set_head = true;
    o->head_msg = id_of(msg);
    o->queued_max = 8;
    o->node = name_of("n");
    if (promised[0] != '\0') {
        o->has_run = true;
        o->run.run = id_of("r");
        o->run.msg = id_of(promised);
        o->run.parent = id_of(msg);
        o->run.persona = id_of("p_first");
        o->run.model_name = name_of("m");
        o->run.asked_by = name_of("ada");
    }
    write_down(o);
}

static void say(const char *msg, const char *parent, const char *kind, const char *text)
{
    char payload[8192];
    int count = snprintf(payload, sizeof(payload),
                         "{\"t\":\"msg\",\"id\":\"%s\",\"by\":{\"kind\":\"%s\",\"id\":\"x\"},"
                         "\"text\":\"%s\"}",
                         msg, kind, text);
    assert_true(count > 0 && (size_t)count < sizeof(payload));
    append(msg, parent, payload, "");
}

/* m1 user a, m2 ai b, m3 user c */
static void talk_a_little(void)
{
    create("c");
    say("m1", "", "user", "a");
    say("m2", "m1", "ai", "b \\u20ac\\n");
    say("m3", "m2", "user", "c");
}

/* --- asking ----------------------------------------------------------------------------------- */

static struct recall_ask ask_of(const char *from)
{
    return (struct recall_ask){.conv = id_of("c"),
                               .from = id_of(from),
                               .persona = id_of("p_first"),
                               .model = name_of("m"),
                               .port = PORT_REPLY,
                               .asker = {7, 9}};
}

static const struct recall_ready *ready(const struct recall_ask *ask)
{
    uint32_t before = stage.readies;
    recall_start(stage.recall, ask);
    assert_int_equal(stage.readies, before); /* never inside the call */
    UNTIL(stage.readies > before);
    assert_true(handle_equal(stage.ready->asker, ask->asker));
    return stage.ready;
}

/* `text` as "S first|U a|A b": role and text of each message. */
static void expect_prompt(const struct recall_ready *r, const char *text)
{
    static char is[65536];
    size_t at = 0;
    assert_int_equal(r->err, ERR_OK);
    for (size_t i = 0; i < r->messages_count; i++)
        at += (size_t)snprintf(is + at, sizeof(is) - at, "%s%c %.*s", i == 0 ? "" : "|",
                               "SUA"[r->messages[i].role], (int)r -> messages[i].text.count,
                               r->messages[i].text.at);
    assert_true(at < sizeof(is));
    assert_string_equal(is, text);
}

/* --- the tests -------------------------------------------------------------------------------- */

static void the_path_is_shown_in_order(void **state)
{
    (void)state;
    talk_a_little();
    struct recall_ask ask = ask_of("m3");
    const struct recall_ready *r = ready(&ask);
    expect_prompt(r, "S first|U a|A b \xe2\x82\xac\n|U c");
    assert_true(r->has_last_user);
    assert_true(bytes_is(r->last_user, "c"));
    assert_true(r->tokens_estimate > 4 * 4);
    assert_int_equal(stage.readies, 1);
}

static void it_ends_where_it_is_told_to_and_knows_no_other_branch(void **state)
{
    (void)state;
    talk_a_little();
    say("m4", "m3", "ai", "d");
    say("m5", "m1", "ai", "another");
    say("m6", "m5", "user", "e");
    struct recall_ask ask = ask_of("m3");
    expect_prompt(ready(&ask), "S first|U a|A b \xe2\x82\xac\n|U c");
    ask = ask_of("m6");
    expect_prompt(ready(&ask), "S first|U a|A another|U e");
    ask = ask_of("m2"); /* an answer is gone on from: the person's last word is before it */
    expect_prompt(ready(&ask), "S first|U a|A b \xe2\x82\xac\n");
    assert_true(bytes_is(stage.ready->last_user, "a"));
}

static void a_question_that_is_not_stored_yet_comes_last(void **state)
{
    (void)state;
    talk_a_little();
    struct recall_ask ask = ask_of("m2");
    ask.question = blob_copy(bytes_of("what?"));
    recall_start(stage.recall, &ask);
    blob_unref(&ask.question); /* a reference of its own was taken */
    UNTIL(stage.readies == 1);
    expect_prompt(stage.ready, "S first|U a|A b \xe2\x82\xac\n|U what?");
    assert_true(bytes_is(stage.ready->last_user, "what?"));
}

static void a_first_question_needs_no_path(void **state)
{
    (void)state;
    struct recall_ask ask = ask_of(""); /* the conversation is not even there */
    ask.question = blob_copy(bytes_of("hello"));
    expect_prompt(ready(&ask), "S first|U hello");
    assert_true(stage.ready->has_last_user);
    blob_unref(&ask.question);
    ask.question = NULL;
    expect_prompt(ready(&ask), "S first");
    assert_false(stage.ready->has_last_user);
}

static void a_promised_message_is_not_shown(void **state)
{
    (void)state;
    create("c");
    append("m1", "", "{\"by\":{\"kind\":\"user\"},\"text\":\"a\"}", "m2");
    say("m3", "m2", "user", "and");
    struct recall_ask ask = ask_of("m3");
    expect_prompt(ready(&ask), "S first|U a\n\nand");
    ask = ask_of("m2");
    expect_prompt(ready(&ask), "S first|U a");
}

static void a_payload_that_cannot_be_read_is_left_out(void **state)
{
    (void)state;
    static const char *const payloads[] = {
        "{\"by\":{\"kind\":\"user\"},\"text\":\"cut",
        "[]",
        "{\"by\":{\"kind\":\"user\"}}",
        "{\"by\":{\"kind\":\"user\"},\"text\":5}",
        "{\"by\":\"user\",\"text\":\"x\"}",
        "{\"text\":\"x\"}",
        "",
    };
    create("c");
    say("m0", "", "user", "a");
    for (size_t i = 0; i < ARRAY_COUNT(payloads); i++) {
        char bad[16];
        char next[16];
        (void)snprintf(bad, sizeof(bad), "b%zu", i);
        (void)snprintf(next, sizeof(next), "n%zu", i);
        append(bad, "m0", payloads[i], "");
        say(next, bad, "ai", "b");
        struct recall_ask ask = ask_of(next);
        expect_prompt(ready(&ask), "S first|U a|A b");
    }
}

static void what_is_not_there_is_not_found(void **state)
{
    (void)state;
    talk_a_little();
    struct recall_ask ask = ask_of("m3");
    ask.conv = id_of("nope");
    assert_int_equal(ready(&ask)->err, ERR_NOT_FOUND);
    assert_int_equal(stage.ready->messages_count, 0);
}

static void kept_text_is_gone_on_from(void **state)
{
    (void)state;
    talk_a_little();
    struct recall_ask ask = ask_of("m3");
    ask.kept = blob_copy(bytes_of("so far"));
    const struct recall_ready *r = ready(&ask);
    assert_int_equal(r->messages_count, 6);
    assert_true(bytes_is(r->messages[4].text, "so far"));
    assert_int_equal(r->messages[4].role, OPENAI_ASSISTANT);
    assert_int_equal(r->messages[5].role, OPENAI_USER); /* it is asked to */
    assert_true(bytes_is(r->last_user, "c"));
    ask.model = name_of(LOCAL); /* this one does it by itself */
    expect_prompt(ready(&ask), "S first|U a|A b \xe2\x82\xac\n|U c|A so far");
    blob_unref(&ask.kept);
}

static void application_data_stands_before_the_last_question(void **state)
{
    (void)state;
    talk_a_little();
    struct recall_ask ask = ask_of("m3");
    ask.context = blob_copy(bytes_of("{\"order\":5}"));
    const struct recall_ready *r = ready(&ask);
    assert_int_equal(r->messages_count, 5);
    assert_int_equal(r->messages[3].role, OPENAI_SYSTEM);
    struct bytes data = r->messages[3].text;
    assert_true(data.count > 11 && memcmp(data.at + data.count - 11, "{\"order\":5}", 11) == 0);
    assert_true(bytes_is(r->messages[4].text, "c"));
    blob_unref(&ask.context);
}

static void the_persona_is_the_one_that_was_asked_for_or_else_the_first(void **state)
{
    (void)state;
    talk_a_little();
    struct recall_ask ask = ask_of("m1");
    ask.persona = id_of("p_second");
    expect_prompt(ready(&ask), "S second|U a");
    ask.persona = id_of("p_gone"); /* taken out of the configuration since */
    expect_prompt(ready(&ask), "S first|U a");
}

static void only_the_newest_messages_are_looked_at(void **state)
{
    (void)state;
    create("c");
    for (unsigned i = 0; i < 12; i++) { /* context.messages is 6 */
        char msg[8];
        char parent[8] = "";
        char text[8];
        (void)snprintf(msg, sizeof(msg), "m%u", i);
        (void)snprintf(text, sizeof(text), "t%u", i);
        if (i > 0)
            (void)snprintf(parent, sizeof(parent), "m%u", i - 1);
        say(msg, parent, i % 2 == 0 ? "user" : "ai", text);
    }
    struct recall_ask ask = ask_of("m10");
    expect_prompt(ready(&ask), "S first|U t6|A t7|U t8|A t9|U t10");
}

/* A text of `count` times `letter`, valid until the next call. */
static const char *much(char letter, size_t count)
{
    static char text[8192];
    memset(text, letter, count);
    text[count] = '\0';
    return text;
}

static void old_turns_go_where_the_models_window_is_small(void **state)
{
    (void)state;
    create("c");
    say("m1", "", "user", much('a', 900));
    say("m2", "m1", "ai", much('b', 300));
    say("m3", "m2", "user", "middle");
    say("m4", "m3", "ai", "ok");
    say("m5", "m4", "user", "last");
    struct recall_ask ask = ask_of("m5");
    assert_int_equal(ready(&ask)->messages_count, 6);
    ask.model = name_of("small"); /* 400 tokens: m1 does not fit, and m2 alone would be half */
    expect_prompt(ready(&ask), "S first|U middle|A ok|U last");
    assert_true(stage.ready->tokens_estimate <= 400);
    say("m6", "m4", "user", much('z', 4000)); /* what is asked is always whole */
    ask.from = id_of("m6");
    assert_int_equal(ready(&ask)->messages_count, 2);
    assert_int_equal(stage.ready->messages[1].text.count, 4000);
}

/* --- faults ----------------------------------------------------------------------------------- */

/* The answer of a store to the first question of the room, made up. It is in the mailbox before the
 * real one, which finds nobody then. */
static struct journal_path *made_up_answer(void)
{
    struct pool pool;
    struct handle first;
    struct journal_path *p = JOURNAL_NEW(PATH, journal_path, PORT_RECALL);
    assert_int_equal(pool_init(&pool, 16, 1), ERR_OK);
    assert_non_null(pool_new(&pool, &first));
    pool_fini(&pool);
    p->head.handle = first;
    return p;
}

static void an_error_of_the_store_is_handed_on_and_a_late_answer_is_dropped(void **state)
{
    (void)state;
    talk_a_little();
    struct journal_path *p = made_up_answer();
    struct recall_ask ask = ask_of("m3");
    p->head.err = ERR_IO;
    engine_post(stage.engine, &p->head.msg);
    ask.question = blob_copy(bytes_of("q"));
    assert_int_equal(ready(&ask)->err, ERR_IO);
    assert_int_equal(stage.ready->messages_count, 0);
    blob_unref(&ask.question);
    /* The next question's answer comes behind the late one. */
    expect_prompt(ready(&ask), "S first|U a|A b \xe2\x82\xac\n|U c");
    assert_int_equal(stage.readies, 2);
}

/* A message that is left out for want of memory would be a gap that nobody sees. */
static void a_path_that_does_not_fit_into_memory_is_full(void **state)
{
    (void)state;
    static const char head[] = "{\"by\":{\"kind\":\"user\"},\"text\":\"";
    enum { LARGE = 17 << 20 };
    talk_a_little();
    struct journal_path *p = made_up_answer();
    p->messages_count = 2;
    p->messages = mem_new_zero(2 * sizeof(*p->messages));
    struct blob *large = blob_new(LARGE);
    memset(large->at, 'x', LARGE);
    memcpy(large->at, head, sizeof(head) - 1);
    memcpy(large->at + LARGE - 2, "\"}", 2);
    large->count = LARGE;
    p->messages[0].payload = large;
    p->messages[1].payload = blob_ref(large);
    engine_post(stage.engine, &p->head.msg);
    struct recall_ask ask = ask_of("m3");
    assert_int_equal(ready(&ask)->err, ERR_FULL);
}

static void every_allocation_that_fails_is_full(void **state)
{
    (void)state;
    static char text[100000];
    memset(text, 'q', sizeof(text));
    struct recall_ask ask = ask_of("");
    ask.question = blob_copy(bytes_make(text, sizeof(text)));
    ask.context = blob_copy(bytes_make(text, sizeof(text)));
    bool whole = false;
    unsigned failures = 0;
    journal_close(&stage.journal); /* its thread takes memory, too; without a path nobody asks it */
    for (uint64_t n = 2; !whole; n++) { /* the first is the message itself, which may not fail */
        uint32_t before = stage.readies;
        mem_fail_at(n);
        recall_start(stage.recall, &ask);
        mem_fail_at(0);
        UNTIL(stage.readies > before);
        whole = stage.ready->err == ERR_OK;
        failures += !whole;
        if (!whole)
            assert_int_equal(stage.ready->err, ERR_FULL);
    }
    assert_true(failures >= 3);
    assert_int_equal(stage.ready->messages_count, 3);
    blob_unref(&ask.question);
    blob_unref(&ask.context);
}

static void freeing_the_room_between_ask_and_answer_leaks_nothing(void **state)
{
    (void)state;
    talk_a_little();
    struct recall_ask ask = ask_of("m3");
    ask.question = blob_copy(bytes_of("q"));
    ask.kept = blob_copy(bytes_of("k"));
    ask.context = blob_copy(bytes_of("{}"));
    for (int i = 0; i < 3; i++)
        recall_start(stage.recall, &ask);
    blob_unref(&ask.question);
    blob_unref(&ask.kept);
    blob_unref(&ask.context);
    recall_free(&stage.recall);
    assert_null(stage.recall);
    recall_free(&stage.recall);
    /* A new one takes its place: the answers of the old one's questions are none of its. */
    stage.recall = recall_make(stage.engine, stage.journal, stage.model, stage.config);
    ask = ask_of("m1");
    uint32_t before = stage.readies;
    UNTIL(journal_pending(stage.journal) == 0);
    for (int i = 0; i < 5; i++)
        engine_step(stage.engine, 0);
    assert_int_equal(stage.readies, before);
    expect_prompt(ready(&ask), "S first|U a");
}

#define PLAY(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        PLAY(the_path_is_shown_in_order),
        PLAY(it_ends_where_it_is_told_to_and_knows_no_other_branch),
        PLAY(a_question_that_is_not_stored_yet_comes_last),
        PLAY(a_first_question_needs_no_path),
        PLAY(a_promised_message_is_not_shown),
        PLAY(a_payload_that_cannot_be_read_is_left_out),
        PLAY(what_is_not_there_is_not_found),
        PLAY(kept_text_is_gone_on_from),
        PLAY(application_data_stands_before_the_last_question),
        PLAY(the_persona_is_the_one_that_was_asked_for_or_else_the_first),
        PLAY(only_the_newest_messages_are_looked_at),
        PLAY(old_turns_go_where_the_models_window_is_small),
        PLAY(an_error_of_the_store_is_handed_on_and_a_late_answer_is_dropped),
        PLAY(a_path_that_does_not_fit_into_memory_is_full),
        PLAY(every_allocation_that_fails_is_full),
        PLAY(freeing_the_room_between_ask_and_answer_leaks_nothing),
    };
    diag_clock_set(wall_now_ms);
    diag_init("error");
    diag_output_set(open("/dev/null", O_WRONLY | O_CLOEXEC)); /* the faults are meant */
    diag_thread_init("test");
    return cmocka_run_group_tests(tests, measure, NULL);
}
