/* What goes into a prompt and what is left out. */
#include "recall/recall.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>

#include <cmocka.h>

/* One token a byte, so that budgets can be counted by hand (and 4 around each message). */
static uint32_t count_bytes(void *ctx, struct bytes text)
{
    (void)ctx;
    return (uint32_t)text.count;
}

static const struct config_example example = {"ping", "pong"};
static const struct config_persona plain = {.id = "p", .name = "K", .prompt = "sys"};
static const struct config_persona taught = {
    .id = "p", .name = "K", .prompt = "sys", .examples = &example, .examples_count = 1};

static uint8_t block[65536];
static struct arena arena;

static struct recall_turn turn(bool by_user, const char *text)
{
    return (struct recall_turn){by_user, bytes_of(text)};
}

static void build(const struct recall_window *w, struct openai_message **m, size_t *count)
{
    uint32_t tokens = 0;
    arena_init(&arena, block, sizeof(block));
    assert_int_equal(recall_window(&arena, w, m, count, &tokens), ERR_OK);
}

static void expect(const struct openai_message *m, enum openai_role role, const char *text)
{
    assert_int_equal(m->role, role);
    assert_true(bytes_is(m->text, text));
}

static void persona_examples_turns_in_order(void **state)
{
    struct recall_turn turns[] = {turn(true, "a"), turn(false, "b"), turn(true, "c")};
    struct recall_window w = {.persona = &taught,
                              .turns = turns,
                              .turns_count = 3,
                              .tokens_max = 1000,
                              .tokens = count_bytes};
    struct openai_message *m = NULL;
    size_t count = 0;
    (void)state;
    build(&w, &m, &count);
    assert_int_equal(count, 6);
    expect(&m[0], OPENAI_SYSTEM, "sys");
    expect(&m[1], OPENAI_USER, "ping");
    expect(&m[2], OPENAI_ASSISTANT, "pong");
    expect(&m[3], OPENAI_USER, "a");
    expect(&m[4], OPENAI_ASSISTANT, "b");
    expect(&m[5], OPENAI_USER, "c");
}

static void the_newest_turns_stay_and_the_window_opens_with_the_person(void **state)
{
    struct recall_turn turns[] = {turn(true, "1111111111"), turn(false, "2222222222"),
                                  turn(true, "3333333333"), turn(false, "4444444444"),
                                  turn(true, "5555555555")};
    struct recall_window w = {
        .persona = &plain, .turns = turns, .turns_count = 5, .tokens = count_bytes};
    struct openai_message *m = NULL;
    size_t count = 0;
    (void)state;
    w.tokens_max = 7 + 4 * 14; /* persona and four turns: the fourth would open with the model */
    build(&w, &m, &count);
    assert_int_equal(count, 4);
    expect(&m[1], OPENAI_USER, "3333333333");
    expect(&m[3], OPENAI_USER, "5555555555");
}

static void persona_and_last_question_are_whole_whatever_the_budget(void **state)
{
    struct recall_turn turns[] = {turn(true, "old"), turn(false, "older"), turn(true, "question")};
    struct recall_window w = {.persona = &taught,
                              .turns = turns,
                              .turns_count = 3,
                              .tokens_max = 1,
                              .tokens = count_bytes};
    struct openai_message *m = NULL;
    size_t count = 0;
    (void)state;
    build(&w, &m, &count);
    assert_int_equal(count, 4);
    expect(&m[0], OPENAI_SYSTEM, "sys");
    expect(&m[3], OPENAI_USER, "question");
}

static void two_in_a_row_become_one_and_empty_answers_are_left_out(void **state)
{
    struct recall_turn turns[] = {turn(true, "one"), turn(false, ""), turn(true, "two")};
    struct recall_window w = {.persona = &plain,
                              .turns = turns,
                              .turns_count = 3,
                              .tokens_max = 1000,
                              .tokens = count_bytes};
    struct openai_message *m = NULL;
    size_t count = 0;
    (void)state;
    build(&w, &m, &count);
    assert_int_equal(count, 2);
    expect(&m[1], OPENAI_USER, "one\n\ntwo");
}

static void continuing_ends_with_the_kept_text_or_asks_for_more(void **state)
{
    struct recall_turn turns[] = {turn(true, "tell")};
    struct recall_window w = {.persona = &plain,
                              .turns = turns,
                              .turns_count = 1,
                              .tokens_max = 1000,
                              .kept = bytes_of("Once upon"),
                              .prefill = true,
                              .tokens = count_bytes};
    struct openai_message *m = NULL;
    size_t count = 0;
    (void)state;
    build(&w, &m, &count);
    assert_int_equal(count, 3);
    expect(&m[2], OPENAI_ASSISTANT, "Once upon");
    w.prefill = false;
    build(&w, &m, &count);
    assert_int_equal(count, 4);
    assert_int_equal(m[3].role, OPENAI_USER);
}

static void application_data_stands_right_before_the_question(void **state)
{
    struct recall_turn turns[] = {turn(true, "a"), turn(false, "b"), turn(true, "c")};
    struct recall_window w = {.persona = &plain,
                              .turns = turns,
                              .turns_count = 3,
                              .tokens_max = 1000,
                              .context = bytes_of("{\"order\":7}"),
                              .tokens = count_bytes};
    struct openai_message *m = NULL;
    size_t count = 0;
    (void)state;
    build(&w, &m, &count);
    assert_int_equal(count, 5);
    assert_int_equal(m[3].role, OPENAI_SYSTEM);
    assert_non_null(memmem(m[3].text.at, m[3].text.count, "{\"order\":7}", 11));
    expect(&m[4], OPENAI_USER, "c");
}

static void every_size_of_memory_gives_a_prompt_or_a_clean_no(void **state)
{
    struct recall_turn turns[] = {turn(true, "one"), turn(true, "two"), turn(false, "b"),
                                  turn(true, "c")};
    struct recall_window w = {.persona = &taught,
                              .turns = turns,
                              .turns_count = 4,
                              .tokens_max = 1000,
                              .context = bytes_of("{}"),
                              .tokens = count_bytes};
    enum err err = ERR_FULL;
    (void)state;
    for (size_t bytes = 0; err == ERR_FULL && bytes < sizeof(block); bytes++) {
        struct openai_message *m = NULL;
        size_t count = 77;
        uint32_t tokens = 0;
        arena_init(&arena, block, bytes);
        err = recall_window(&arena, &w, &m, &count, &tokens);
        assert_true(err == ERR_OK || (err == ERR_FULL && m == NULL && count == 77));
    }
    assert_int_equal(err, ERR_OK);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(persona_examples_turns_in_order),
        cmocka_unit_test(the_newest_turns_stay_and_the_window_opens_with_the_person),
        cmocka_unit_test(persona_and_last_question_are_whole_whatever_the_budget),
        cmocka_unit_test(two_in_a_row_become_one_and_empty_answers_are_left_out),
        cmocka_unit_test(continuing_ends_with_the_kept_text_or_asks_for_more),
        cmocka_unit_test(application_data_stands_right_before_the_question),
        cmocka_unit_test(every_size_of_memory_gives_a_prompt_or_a_clean_no),
    };
    return cmocka_run_group_tests_name("window", tests, NULL, NULL);
}
