/* Events as JSON, and the table of run states (run_state.c). */
#include "codec/json.h"
#include "talk/event_priv.h"
#include "talk/run_state_priv.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>

#include <cmocka.h>

static struct id id_of(const char *text)
{
    struct id i;
    assert_int_equal(id_parse(bytes_of(text), &i), ERR_OK);
    return i;
}

static void expect_json(struct blob *b, const char *text)
{
    assert_non_null(b);
    assert_int_equal(b->count, strlen(text));
    assert_memory_equal(b->at, text, b->count);
    blob_unref(&b);
}

static void a_message_that_starts_an_answer(void **state)
{
    struct event_msg m = {.id = id_of("m_1"),
                          .by = {"user", bytes_of("u_9"), {NULL, 0}},
                          .text = bytes_of("Hi, I am \"Ada\"\n"),
                          .status = "complete",
                          .why = "",
                          .ts_ms = 5,
                          .cid = id_of("7f3a"),
                          .has_answer = true,
                          .answer_run = id_of("r_1"),
                          .answer_msg = id_of("m_2"),
                          .answer_persona = bytes_of("p_1"),
                          .answer_model = bytes_of("default")};
    (void)state;
    expect_json(
        event_msg(&m),
        "{\"t\":\"msg\",\"id\":\"m_1\",\"parent\":null,\"by\":{\"kind\":\"user\",\"id\":\"u_9\"},"
        "\"cid\":\"7f3a\",\"text\":\"Hi, I am \\\"Ada\\\"\\n\",\"status\":\"complete\","
        "\"answer\":{\"run\":\"r_1\",\"msg\":\"m_2\",\"persona\":\"p_1\",\"model\":\"default\"},"
        "\"ts\":5}");
}

static void an_answer_carries_its_run_usage_and_why(void **state)
{
    struct event_msg m = {.id = id_of("m_2"),
                          .parent = id_of("m_1"),
                          .by = {"ai", bytes_of("p_1"), bytes_of("Kit")},
                          .text = bytes_of("Hello"),
                          .status = "stopped",
                          .why = "stopped",
                          .ts_ms = 6,
                          .run = id_of("r_1"),
                          .model = bytes_of("default"),
                          .has_usage = true,
                          .tokens_in = 41,
                          .tokens_out = 9};
    (void)state;
    expect_json(
        event_msg(&m),
        "{\"t\":\"msg\",\"id\":\"m_2\",\"parent\":\"m_1\",\"run\":\"r_1\",\"by\":{\"kind\":\"ai\","
        "\"id\":\"p_1\",\"name\":\"Kit\"},\"text\":\"Hello\",\"status\":\"stopped\","
        "\"why\":\"stopped\",\"model\":\"default\",\"usage\":{\"in\":41,\"out\":9},\"ts\":6}");
}

static void small_events(void **state)
{
    struct id r = id_of("r_1");
    struct id m = id_of("m_2");
    struct event_by by = {"user", bytes_of("u"), {NULL, 0}};
    (void)state;
    expect_json(event_delta(&r, &m, 5, bytes_of(" Ada! "), false),
                "{\"t\":\"d\",\"r\":\"r_1\",\"m\":\"m_2\",\"p\":5,\"s\":\" Ada! \"}");
    expect_json(event_delta(&r, &m, 0, bytes_of("hm"), true),
                "{\"t\":\"d\",\"r\":\"r_1\",\"m\":\"m_2\",\"p\":0,\"s\":\"hm\",\"k\":\"r\"}");
    expect_json(event_status(&r, "queued", 2, 1500),
                "{\"t\":\"st\",\"r\":\"r_1\",\"st\":\"queued\",\"pos\":2,\"eta_ms\":1500}");
    expect_json(event_status(&r, "thinking", 0, -1),
                "{\"t\":\"st\",\"r\":\"r_1\",\"st\":\"thinking\"}");
    expect_json(event_typing(bytes_of("u"), true), "{\"t\":\"typing\",\"u\":\"u\",\"on\":true}");
    expect_json(event_read(bytes_of("u"), 7), "{\"t\":\"read\",\"u\":\"u\",\"o\":7}");
    expect_json(
        event_state("head", bytes_of("m_2"), &by, 9),
        "{\"t\":\"state\",\"k\":\"head\",\"v\":\"m_2\",\"by\":{\"kind\":\"user\",\"id\":\"u\"},"
        "\"ts\":9}");
}

static void a_stored_event_gets_offset_and_siblings(void **state)
{
    struct buf b;
    struct id siblings[2] = {id_of("m_2"), id_of("m_4")};
    (void)state;
    buf_init(&b, 1000);
    event_stored(&b, bytes_of("{\"t\":\"msg\",\"ts\":1}"), 3, siblings, 2);
    expect_json(buf_take(&b),
                "{\"t\":\"msg\",\"ts\":1,\"offset\":3,\"siblings\":[\"m_2\",\"m_4\"]}");
    event_stored(&b, bytes_of("not ours"), 3, NULL, 0);
    assert_true(b.failed);
    buf_fini(&b);
}

static void an_excerpt_is_the_first_line_and_cuts_no_character(void **state)
{
    struct bytes_excerpt e;
    char text[400];
    (void)state;
    event_excerpt(bytes_of("\n\n  first line\nsecond"), &e);
    assert_true(bytes_is(bytes_make(e.at, e.count), "first line"));
    for (size_t i = 0; i + 1 < sizeof(text); i += 2)
        memcpy(text + i, "\xc3\xa9", 2);
    event_excerpt(bytes_make(text, 399), &e);
    assert_int_equal(e.count, JOURNAL_EXCERPT_BYTES_MAX);
    event_excerpt((struct bytes){NULL, 0}, &e);
    assert_int_equal(e.count, 0);
}

static void outcomes_and_reasons(void **state)
{
    struct blob *reason = event_reason("busy", "wait", 1000, NULL);
    struct outcome refused = {.status = "refused", .reason = blob_bytes(reason)};
    struct epoch epoch = {.count = 6, .at = "Xk2.g1"};
    struct outcome o = {.status = "accepted",
                        .msg = id_of("m_1"),
                        .run = id_of("r_1"),
                        .offset = 1,
                        .epoch = &epoch};
    (void)state;
    expect_json(event_outcome(&refused),
                "{\"status\":\"refused\",\"reason\":{\"code\":\"busy\",\"message\":\"wait\","
                "\"retry_ms\":1000}}");
    blob_unref(&reason);
    expect_json(event_outcome(&o), "{\"status\":\"accepted\",\"msg\":\"m_1\",\"run\":\"r_1\","
                                   "\"offset\":1,\"epoch\":\"Xk2.g1\"}");
    expect_json(event_reason("blocked", "no", -1, "weapons"),
                "{\"code\":\"blocked\",\"message\":\"no\",\"category\":\"weapons\"}");
}

static void a_run_ends_once_and_writing_never_goes_back(void **state)
{
    (void)state;
    assert_true(run_st_may(RUN_ST_QUEUED, RUN_ST_THINKING));
    assert_true(run_st_may(RUN_ST_THINKING, RUN_ST_QUEUED));
    assert_true(run_st_may(RUN_ST_WRITING, RUN_ST_ENDING));
    assert_false(run_st_may(RUN_ST_WRITING, RUN_ST_THINKING));
    assert_false(run_st_may(RUN_ST_WRITING, RUN_ST_QUEUED));
    for (int s = RUN_ST_QUEUED; s <= RUN_ST_ENDED; s++)
        assert_false(run_st_may(RUN_ST_ENDED, (enum run_st)s));
    assert_false(run_st_may(RUN_ST_ENDING, RUN_ST_WRITING));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_message_that_starts_an_answer),
        cmocka_unit_test(an_answer_carries_its_run_usage_and_why),
        cmocka_unit_test(small_events),
        cmocka_unit_test(a_stored_event_gets_offset_and_siblings),
        cmocka_unit_test(an_excerpt_is_the_first_line_and_cuts_no_character),
        cmocka_unit_test(outcomes_and_reasons),
        cmocka_unit_test(a_run_ends_once_and_writing_never_goes_back),
    };
    return cmocka_run_group_tests_name("event", tests, NULL, NULL);
}
