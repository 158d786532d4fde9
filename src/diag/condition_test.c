/* The board of conditions. */
#include "diag/diag.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>

#include <cmocka.h>

static void ready_when_every_condition_holds(void **state)
{
    char word[DIAG_WORD_BYTES_MAX];
    char sentence[DIAG_SENTENCE_BYTES_MAX];
    (void)state;
    assert_true(diag_is_ready(word, sentence));
    diag_condition_set(DIAG_COND_MODEL, "loading", "The model is loading.");
    assert_false(diag_is_ready(word, sentence));
    assert_string_equal(word, "loading");
    assert_string_equal(sentence, "The model is loading.");
    diag_condition_set(DIAG_COND_DRAINING, "draining", NULL);
    assert_false(diag_is_ready(word, sentence));
    assert_string_equal(word, "draining");
    assert_string_equal(sentence, "");
    diag_condition_set(DIAG_COND_DRAINING, NULL, NULL);
    diag_condition_set(DIAG_COND_MODEL, NULL, NULL);
    assert_true(diag_is_ready(word, sentence));
}

static void long_texts_are_cut(void **state)
{
    char text[2 * DIAG_SENTENCE_BYTES_MAX];
    char word[DIAG_WORD_BYTES_MAX];
    char sentence[DIAG_SENTENCE_BYTES_MAX];
    (void)state;
    memset(text, 'x', sizeof(text) - 1);
    text[sizeof(text) - 1] = '\0';
    diag_condition_set(DIAG_COND_STORE, text, text);
    assert_false(diag_is_ready(word, sentence));
    assert_int_equal(strlen(word), DIAG_WORD_BYTES_MAX - 1);
    assert_int_equal(strlen(sentence), DIAG_SENTENCE_BYTES_MAX - 1);
    diag_condition_set(DIAG_COND_STORE, NULL, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ready_when_every_condition_holds),
        cmocka_unit_test(long_texts_are_cut),
    };
    return cmocka_run_group_tests_name("condition", tests, NULL, NULL);
}
