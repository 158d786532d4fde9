/* Limits (check.c), the matching form (fold.c), terms on whole and on streaming text (automaton.c,
 * scan.c, terms.c, hold.c), the lists (builtin.c). The model beside the matcher is naive: fold
 * everything, look for " term ". */
#include "base/mem.h"
#include "base/rng.h"
#include "codec/utf8.h"
#include "diag/diag.h"
#include "text/text_priv.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

static struct text_terms *terms_of(const char *const *list, size_t count)
{
    static struct config_term rows[64];
    assert_true(count <= ARRAY_COUNT(rows));
    for (size_t i = 0; i < count; i++)
        rows[i] = (struct config_term){list[i], list[i], "both", true, true};
    struct config c = {.terms = rows, .terms_count = count};
    struct text_terms *t = text_terms_make(&c);
    assert_non_null(t);
    return t;
}

static struct text_terms *builtin(void)
{
    struct config c = {.terms_default = true};
    struct text_terms *t = text_terms_make(&c);
    assert_non_null(t);
    return t;
}

static void limits_are_checked_in_order(void **state)
{
    (void)state;
    assert_int_equal(text_check(bytes_of("a"), 1), TEXT_OK);
    assert_int_equal(text_check(bytes_of("ab"), 1), TEXT_TOO_LONG);
    assert_int_equal(text_check(bytes_of(""), 9), TEXT_EMPTY);
    assert_int_equal(text_check(bytes_of(" \t\r\n"), 9), TEXT_EMPTY);
    assert_int_equal(text_check(bytes_of("\xe2\x80\x8b\xc2\xa0\xe3\x80\x80\xef\xbb\xbf"), 99),
                     TEXT_EMPTY);
    assert_int_equal(text_check(bytes_of(" \xe2\x80\x8b."), 9), TEXT_OK);
    assert_int_equal(text_check(bytes_of("\xf0\x9f\x98\x80"), 9), TEXT_OK);
    assert_int_equal(text_check(bytes_of("a\xff"), 9), TEXT_INVALID);
    assert_int_equal(text_check(bytes_of("\xc3"), 9), TEXT_INVALID);
    assert_int_equal(text_check(bytes_make("a\0b", 3), 9), TEXT_INVALID);
}

static const char *folded(const char *text)
{
    static char block[512];
    struct buf b;
    buf_init_fixed(&b, block, sizeof(block) - 1);
    fold_text(bytes_of(text), &b);
    assert_false(b.failed);
    block[b.count] = '\0';
    return block;
}

static void the_matching_form_is_as_described(void **state)
{
    (void)state;
    assert_int_equal(fold_start(), ERR_OK);
    static const char *const rows[][2] = {
        {"How  to\nmake\xe2\x80\x94"
         "a B\xe2\x80\x8b\xc3\x96MB!",
         " how to make a bomb "},
        {"", ""},
        {"...!", ""},
        {"\xe2\x80\x8b", ""},
        {"a", " a "},
        {"don't", " dont "},
        {"don\xe2\x80\x99t", " dont "},
        {"\xef\xbc\xa1\xef\xbd\x82\xef\xbc\x93", " ab3 "}, /* full width */
        {"e\xcc\x81t\xc3\xa9", " ete "},                   /* both ways to write an accent */
        {"stra\xc3\x9f"
         "e",
         " strasse "},
        {"\xef\xac\x81sh", " fish "},            /* a ligature */
        {"b\xd0\xbem\xd0\xb1", " bom\xd0\xb1 "}, /* Cyrillic o, and be */
        {"\xce\x91\xce\x9f", " ao "},            /* Greek capitals */
        {"a_b-c", " a b c "},
        {"\xe7\x82\xb8\xe5\xbc\xb9", " \xe7\x82\xb8 \xe5\xbc\xb9 "},
        {"x\xe7\x82\xb8y", " x \xe7\x82\xb8 y "},
        {"a\xf0\x9f\x92\xa3"
         "b",
         " a \xf0\x9f\x92\xa3 b "},
        {"b\xcc\xb6o\xcc\xb6m\xcc\xb6"
         "b",
         " bomb "}, /* struck through */
    };
    for (size_t i = 0; i < ARRAY_COUNT(rows); i++)
        assert_string_equal(folded(rows[i][0]), rows[i][1]);
}

static void every_character_folds_within_the_limit(void **state)
{
    (void)state;
    assert_int_equal(fold_start(), ERR_OK);
    for (uint32_t c = 1; c <= 0x10ffff; c += c < 0x3000 || (c > 0xf900 && c < 0x10000) ? 1 : 7) {
        struct fold_part parts[FOLD_PARTS_MAX];
        uint8_t utf8[4];
        size_t bytes;
        if (c >= 0xd800 && c < 0xe000)
            continue;
        (void)fold_character(c, parts);
        size_t count = fold_encode(c, utf8);
        assert_true(utf8_is_valid(bytes_make(utf8, count)));
        assert_int_equal(fold_decode(bytes_make(utf8, count), &bytes), c);
        assert_int_equal(bytes, count);
    }
}

static void match_is(const struct text_terms *t, const char *text, const char *part)
{
    struct text_match m = text_terms_find(t, TEXT_USER, bytes_of(text));
    if (part == NULL) {
        assert_false(m.found);
        return;
    }
    assert_true(m.found);
    assert_int_equal(m.count, strlen(part));
    assert_memory_equal(text + m.at, part, m.count);
}

static void terms_match_whole_words_wherever_they_stand(void **state)
{
    (void)state;
    static const char *const list[] = {"pipe bomb", "caf\xc3\xa9", "\xe7\x82\xb8\xe5\xbc\xb9", "x"};
    struct text_terms *t = terms_of(list, ARRAY_COUNT(list));
    match_is(t, "pipe bomb", "pipe bomb");
    match_is(t, "a PIPE\xe2\x80\x94\n bomb!", "PIPE\xe2\x80\x94\n bomb");
    match_is(t, "(pipe_bomb)", "pipe_bomb");
    match_is(t, "pipe pipe bomb", "pipe bomb");
    match_is(t, "pipe bombs", NULL);
    match_is(t, "bagpipe bomb", NULL);
    match_is(t, "pipe a bomb", NULL);
    match_is(t, "pipebomb", NULL);
    match_is(t, "pi\xe2\x80\x8bpe b\xcc\x88omb.", "pi\xe2\x80\x8bpe b\xcc\x88omb");
    match_is(t, "the cafe is", "cafe");
    match_is(t, "cafes", NULL);
    match_is(t, "\xe6\x88\x91\xe7\x9a\x84\xe7\x82\xb8\xe5\xbc\xb9\xe5\x9c\xa8",
             "\xe7\x82\xb8\xe5\xbc\xb9");
    match_is(t, "x", "x");
    match_is(t, "", NULL);
    match_is(t, "'x'", "x");
    text_terms_free(&t);
    assert_null(t);
}

static void the_category_is_the_longest_terms(void **state)
{
    (void)state;
    static const char *const list[] = {"a b c", "b c", "c"};
    struct text_terms *t = terms_of(list, ARRAY_COUNT(list));
    assert_string_equal(text_terms_find(t, TEXT_USER, bytes_of("a b c d")).category, "a b c");
    assert_string_equal(text_terms_find(t, TEXT_USER, bytes_of("b b c d")).category, "b c");
    assert_string_equal(text_terms_find(t, TEXT_USER, bytes_of("ab c d")).category, "c");
    text_terms_free(&t);
}

/* Reading "x y x z" the first term is hoped for; when it fails, the second is tried in vain and the
 * third is found: two failure links in a row. */
static void failing_goes_on_until_something_fits(void **state)
{
    (void)state;
    static const char *const list[] = {"x y x z q", "y x w", "x z r"};
    struct text_terms *t = terms_of(list, ARRAY_COUNT(list));
    match_is(t, "x y x z r", "x z r");
    match_is(t, "x y x z q", "x y x z q");
    match_is(t, "x y x y x w", "y x w");
    match_is(t, "x y x z", NULL);
    text_terms_free(&t);
}

static void sides_are_kept_apart(void **state)
{
    (void)state;
    static const struct config_term rows[] = {{"one", "u", "user", true, false},
                                              {"two", "a", "ai", false, true}};
    struct config c = {.terms = rows, .terms_count = 2};
    struct text_terms *t = text_terms_make(&c);
    assert_true(text_terms_find(t, TEXT_USER, bytes_of("one")).found);
    assert_false(text_terms_find(t, TEXT_AI, bytes_of("one")).found);
    assert_false(text_terms_find(t, TEXT_USER, bytes_of("two")).found);
    assert_true(text_terms_find(t, TEXT_AI, bytes_of("two")).found);
    text_terms_free(&t);
}

static void terms_without_words_are_left_out(void **state)
{
    (void)state;
    char long_term[200];
    memset(long_term, 'a', sizeof(long_term) - 1);
    long_term[sizeof(long_term) - 1] = '\0';
    const char *list[] = {"...", long_term, "good"};
    int null = open("/dev/null", O_WRONLY);
    diag_output_set(null);
    struct text_terms *t = terms_of(list, ARRAY_COUNT(list));
    diag_output_set(STDERR_FILENO);
    close(null);
    match_is(t, "... good", "good");
    match_is(t, long_term, NULL);
    text_terms_free(&t);
}

static void a_match_spans_at_most_the_hold(void **state)
{
    (void)state;
    static const char *const list[] = {"a b", "b c"};
    struct text_terms *t = terms_of(list, ARRAY_COUNT(list));
    char text[3000];
    memset(text, ' ', sizeof(text));
    text[0] = 'a';
    text[TEXT_HOLD_BYTES_MAX - 1] = 'b';
    text[TEXT_HOLD_BYTES_MAX] = '\0';
    assert_true(text_terms_find(t, TEXT_USER, bytes_of(text)).found);
    /* Too far apart; but what began inside is still seen. */
    text[TEXT_HOLD_BYTES_MAX - 1] = ' ';
    text[TEXT_HOLD_BYTES_MAX] = ' ';
    text[1500] = 'b';
    text[1501] = '\0';
    assert_false(text_terms_find(t, TEXT_USER, bytes_of(text)).found);
    text[1501] = ' ';
    text[1502] = 'c';
    text[1503] = '\0';
    struct text_match m = text_terms_find(t, TEXT_USER, bytes_of(text));
    assert_true(m.found);
    assert_int_equal(m.at, 1500);
    text_terms_free(&t);
}

/* Where the naive model finds the earliest end of a term in the folded text; SIZE_MAX = nowhere. */
static size_t naive_end(const char *text, const char *const *list, size_t count)
{
    char hay[4096];
    struct buf b;
    size_t best = SIZE_MAX;
    buf_init_fixed(&b, hay, sizeof(hay) - 1);
    fold_text(bytes_of(text), &b);
    assert_false(b.failed);
    hay[b.count] = '\0';
    for (size_t i = 0; i < count; i++) {
        const char *at = strstr(hay, folded(list[i]));
        if (at != NULL)
            best = size_min(best, (size_t)(at - hay) + strlen(folded(list[i])));
    }
    return best;
}

static void random_text(struct rng *r, char *to, size_t pieces)
{
    static const char *const parts[] = {"a",
                                        "b",
                                        "ab",
                                        "ba",
                                        " ",
                                        "  ",
                                        "a b",
                                        "b a",
                                        ".",
                                        "'",
                                        "\xe2\x80\x8b",
                                        "\n",
                                        "A",
                                        "\xc3\xa4",
                                        "a\xcc\x88",
                                        "\xd0\xb0",
                                        "\xe7\x82\xb8",
                                        "\xf0\x9f\x92\xa3",
                                        "c",
                                        "aa",
                                        "\xef\xbc\xa1",
                                        "\xef\xac\x81"};
    to[0] = '\0';
    for (size_t i = 0; i < pieces; i++)
        to = stpcpy(to, parts[rng_below(r, ARRAY_COUNT(parts))]);
}

/* Feeds `text` in random cuts; what was released goes to `out`. */
static struct text_match stream(const struct text_terms *t, struct rng *r, const char *text,
                                struct buf *out)
{
    struct text_hold h;
    struct bytes rest = bytes_of(text);
    text_hold_init(&h, t, TEXT_USER);
    while (rest.count > 0) {
        size_t cut = utf8_prefix(rest, rng_below(r, 12));
        text_hold_feed(&h, (struct bytes){rest.at, cut}, out);
        rest.at += cut;
        rest.count -= cut;
        assert_int_equal(h.released_bytes, out->count);
    }
    text_hold_end(&h, out);
    struct text_match match = h.match;
    text_hold_fini(&h);
    return match;
}

static void any_cut_gives_the_whole_verdict(void **state)
{
    (void)state;
    static const char *const list[] = {"a b", "ab a b", "b a b a", "\xe7\x82\xb8", "aa c", "fi fi"};
    struct text_terms *t = terms_of(list, ARRAY_COUNT(list));
    struct rng r;
    size_t found = 0;
    for (uint64_t seed = 1; seed <= 20000; seed++) {
        char text[1024];
        char shown[1024];
        struct buf out;
        rng_init(&r, seed);
        random_text(&r, text, rng_below(&r, 24));
        buf_init_fixed(&out, shown, sizeof(shown));
        struct text_match whole = text_terms_find(t, TEXT_USER, bytes_of(text));
        struct text_match cut = stream(t, &r, text, &out);
        if (whole.found != (naive_end(text, list, ARRAY_COUNT(list)) != SIZE_MAX))
            print_error("seed %llu\n", (unsigned long long)seed);
        assert_int_equal(whole.found, naive_end(text, list, ARRAY_COUNT(list)) != SIZE_MAX);
        assert_int_equal(whole.found, cut.found);
        assert_int_equal(whole.at, cut.at);
        assert_int_equal(whole.count, cut.count);
        if (whole.found) {
            /* The matched part, alone, is a match; nothing of it was shown. */
            found++;
            assert_true(out.count <= whole.at);
            struct text_match again =
                text_terms_find(t, TEXT_USER, bytes_make(text + whole.at, whole.count));
            assert_true(again.found);
            assert_string_equal(again.category, whole.category);
        } else {
            assert_int_equal(out.count, strlen(text));
        }
        assert_memory_equal(shown, text, out.count);
    }
    assert_true(found > 1000 && found < 19000);
    text_terms_free(&t);
}

static void innocent_words_flow_at_once(void **state)
{
    (void)state;
    struct text_terms *t = builtin();
    struct text_hold h;
    char shown[256];
    struct buf out;
    buf_init_fixed(&out, shown, sizeof(shown));
    text_hold_init(&h, t, TEXT_AI);
    text_hold_feed(&h, bytes_of("Hello Ada, zz"), &out);
    assert_int_equal(out.count, strlen("Hello Ada, zz"));
    text_hold_feed(&h, bytes_of(" to build a bo"), &out);
    assert_int_equal(out.count, strlen("Hello Ada, zz "));
    text_hold_feed(&h, bytes_of("at"), &out);
    assert_int_equal(out.count, strlen("Hello Ada, zz to build a boat"));
    text_hold_end(&h, &out);
    assert_int_equal(out.count, strlen("Hello Ada, zz to build a boat"));
    text_hold_fini(&h);
    text_terms_free(&t);
}

static void after_a_match_nothing_comes(void **state)
{
    (void)state;
    static const char *const list[] = {"bad word"};
    struct text_terms *t = terms_of(list, 1);
    struct text_hold h;
    char shown[64];
    struct buf out;
    buf_init_fixed(&out, shown, sizeof(shown));
    text_hold_init(&h, t, TEXT_AI);
    text_hold_feed(&h, bytes_of("a bad wo"), &out);
    text_hold_feed(&h, bytes_of("rd"), &out);
    assert_false(h.match.found);
    text_hold_feed(&h, bytes_of(" more"), &out);
    assert_true(h.match.found);
    assert_int_equal(h.match.at, 2);
    assert_int_equal(h.match.count, 8);
    text_hold_feed(&h, bytes_of(" and more"), &out);
    text_hold_end(&h, &out);
    assert_int_equal(out.count, 2);
    text_hold_fini(&h);
    text_terms_free(&t);
}

static void the_end_of_the_text_ends_a_word(void **state)
{
    (void)state;
    static const char *const list[] = {"bad word"};
    struct text_terms *t = terms_of(list, 1);
    struct text_hold h;
    char shown[64];
    struct buf out;
    buf_init_fixed(&out, shown, sizeof(shown));
    text_hold_init(&h, t, TEXT_AI);
    text_hold_feed(&h, bytes_of("bad word"), &out);
    assert_int_equal(out.count, 0);
    text_hold_end(&h, &out);
    assert_true(h.match.found);
    assert_int_equal(out.count, 0);
    text_terms_free(&t);
}

static void the_hold_stays_within_its_limit(void **state)
{
    (void)state;
    static const char *const list[] = {"a b c d"};
    struct text_terms *t = terms_of(list, 1);
    struct text_hold h;
    struct buf out;
    buf_init(&out, 1 << 20);
    text_hold_init(&h, t, TEXT_AI);
    for (int i = 0; i < 5000; i++) {
        static const char *const pieces[] = {"a", " b ", " ", "\xcc\x88", "\xe2\x80\x8b"};
        text_hold_feed(&h, bytes_of(pieces[i % 700 == 0 ? 0 : i % 701 == 0 ? 1 : 2 + i % 3]), &out);
        assert_true(h.kept_bytes <= TEXT_HOLD_BYTES_MAX);
    }
    buf_fini(&out);
    text_terms_free(&t);
}

static void builtin_terms_are_found_on_their_sides(void **state)
{
    (void)state;
    struct text_terms *t = builtin();
    for (size_t i = 0; i < builtin_terms_count; i++) {
        struct bytes term = bytes_of(builtin_terms[i].term);
        if (builtin_terms[i].user_side)
            assert_true(text_terms_find(t, TEXT_USER, term).found);
        if (builtin_terms[i].ai_side)
            assert_true(text_terms_find(t, TEXT_AI, term).found);
    }
    assert_string_equal(
        text_terms_find(t, TEXT_USER, bytes_of("so, HOW do I build a b\xd0\xbemb?")).category,
        "weapons");
    text_terms_free(&t);
    struct config none = {.terms_default = false};
    t = text_terms_make(&none);
    assert_false(text_terms_find(t, TEXT_USER, bytes_of("how to make a bomb")).found);
    text_terms_free(&t);
}

static void innocent_sentences_pass(void **state)
{
    (void)state;
    struct text_terms *t = builtin();
    static const char *const rows[] = {
        "How do I make a bath bomb for my sister?",
        "That film was the bomb.",
        "I can't help with making a bomb, child safety matters to me.",
        "I won't help with that. If you are in danger, please call your local emergency number.",
        "He smoked a pipe. Bomb disposal came later.",
        "How do I kill a process in Linux?",
        "My phone died; I want to dye my hair.",
        "How to poison a rat humanely is a question for a pest service",
        "The chlorine in the pool is strong",
        "I just killed it at the interview!",
    };
    for (size_t i = 0; i < ARRAY_COUNT(rows); i++) {
        assert_false(text_terms_find(t, TEXT_USER, bytes_of(rows[i])).found);
        assert_false(text_terms_find(t, TEXT_AI, bytes_of(rows[i])).found);
        assert_int_equal(text_question(t, bytes_of(rows[i])), TEXT_QUESTION_NONE);
    }
    text_terms_free(&t);
}

static void questions_of_the_rule_are_seen(void **state)
{
    (void)state;
    struct text_terms *t = builtin();
    static const struct {
        const char *text;
        enum text_question question;
    } rows[] = {
        {"are you a person?", TEXT_QUESTION_ARE_YOU_HUMAN},
        {"Hey... Are you a REAL person??", TEXT_QUESTION_ARE_YOU_HUMAN},
        {"so am I talking to a bot or what", TEXT_QUESTION_ARE_YOU_HUMAN},
        {"r u real", TEXT_QUESTION_ARE_YOU_HUMAN},
        {"are you an AI engineer", TEXT_QUESTION_ARE_YOU_HUMAN},
        {"Write a story in which the hero asks an old robot, are you a person, and it laughs and "
         "tells him a joke.",
         TEXT_QUESTION_NONE},
        {"are you personally fond of tea?", TEXT_QUESTION_NONE},
        {"I took all the pills", TEXT_QUESTION_CRISIS},
        {"i don\xe2\x80\x99t want to live anymore", TEXT_QUESTION_CRISIS},
        {"i dont want to live anymore", TEXT_QUESTION_CRISIS},
        {"I'm suicidal. Are you human?", TEXT_QUESTION_CRISIS},
        {"Are you human? I want to kill myself", TEXT_QUESTION_CRISIS},
        {"how do i kill myself painlessly", TEXT_QUESTION_CRISIS},
        {"I do not want to kill myself", TEXT_QUESTION_NONE},
        {"my plant wants to die", TEXT_QUESTION_NONE},
        {"hello", TEXT_QUESTION_NONE},
        {"", TEXT_QUESTION_NONE},
    };
    for (size_t i = 0; i < ARRAY_COUNT(rows); i++) {
        if (text_question(t, bytes_of(rows[i].text)) != rows[i].question)
            print_error("%s\n", rows[i].text);
        assert_int_equal(text_question(t, bytes_of(rows[i].text)), rows[i].question);
    }
    for (size_t i = 0; i < builtin_crisis_count; i++)
        assert_int_equal(text_question(t, bytes_of(builtin_crisis[i])), TEXT_QUESTION_CRISIS);
    for (size_t i = 0; i < builtin_human_count; i++)
        assert_int_equal(text_question(t, bytes_of(builtin_human[i])), TEXT_QUESTION_ARE_YOU_HUMAN);
    text_terms_free(&t);
}

/* A person in crisis is answered, not refused. */
static void crisis_is_never_a_forbidden_term(void **state)
{
    (void)state;
    struct text_terms *t = builtin();
    for (size_t i = 0; i < builtin_crisis_count; i++)
        assert_false(text_terms_find(t, TEXT_USER, bytes_of(builtin_crisis[i])).found);
    text_terms_free(&t);
}

/* The built-in persona shows the model how to answer: what it says must be allowed to be said. */
static void kit_may_say_what_kit_says(void **state)
{
    (void)state;
    struct config *c = NULL;
    struct buf message;
    char text[256];
    buf_init_fixed(&message, text, sizeof(text));
    assert_int_equal(config_load(NULL, NULL, NULL, 0, &c, &message), ERR_OK);
    struct text_terms *t = text_terms_make(c);
    const struct config_persona *kit = &c->personas[0];
    for (size_t i = 0; i < kit->examples_count; i++)
        assert_false(text_terms_find(t, TEXT_AI, bytes_of(kit->examples[i].assistant)).found);
    for (size_t i = 0; i < kit->suggestions_count; i++)
        assert_false(text_terms_find(t, TEXT_USER, bytes_of(kit->suggestions[i])).found);
    assert_false(text_terms_find(t, TEXT_AI, bytes_of(kit->greeting)).found);
    text_terms_free(&t);
    config_free(&c);
}

static void ten_thousand_terms_are_found(void **state)
{
    (void)state;
    static struct config_term rows[CONFIG_TERMS_MAX];
    static char words[CONFIG_TERMS_MAX][24];
    for (size_t i = 0; i < CONFIG_TERMS_MAX; i++) {
        snprintf(words[i], sizeof(words[i]), "word%zu tail%zu", i, i * 7 % 1000);
        rows[i] = (struct config_term){words[i], "c", "both", true, true};
    }
    struct config c = {.terms = rows, .terms_count = CONFIG_TERMS_MAX};
    struct text_terms *t = text_terms_make(&c);
    for (size_t i = 0; i < CONFIG_TERMS_MAX; i += 97)
        assert_true(text_terms_find(t, TEXT_AI, bytes_of(words[i])).found);
    assert_false(text_terms_find(t, TEXT_AI, bytes_of("word1 tail8")).found);
    text_terms_free(&t);
}

static void memory_may_run_out_anywhere(void **state)
{
    (void)state;
    struct config c = {.terms_default = true};
    uint64_t before = mem_used_bytes();
    struct text_terms *t = NULL;
    for (uint64_t n = 1; t == NULL; n++) {
        assert_true(n < 200);
        mem_fail_at(n);
        t = text_terms_make(&c);
        mem_fail_at(0);
        assert_true(t != NULL || mem_used_bytes() == before);
    }
    text_terms_free(&t);
    assert_true(mem_used_bytes() == before);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(limits_are_checked_in_order),
        cmocka_unit_test(the_matching_form_is_as_described),
        cmocka_unit_test(every_character_folds_within_the_limit),
        cmocka_unit_test(terms_match_whole_words_wherever_they_stand),
        cmocka_unit_test(the_category_is_the_longest_terms),
        cmocka_unit_test(failing_goes_on_until_something_fits),
        cmocka_unit_test(sides_are_kept_apart),
        cmocka_unit_test(terms_without_words_are_left_out),
        cmocka_unit_test(a_match_spans_at_most_the_hold),
        cmocka_unit_test(any_cut_gives_the_whole_verdict),
        cmocka_unit_test(innocent_words_flow_at_once),
        cmocka_unit_test(after_a_match_nothing_comes),
        cmocka_unit_test(the_end_of_the_text_ends_a_word),
        cmocka_unit_test(the_hold_stays_within_its_limit),
        cmocka_unit_test(builtin_terms_are_found_on_their_sides),
        cmocka_unit_test(innocent_sentences_pass),
        cmocka_unit_test(questions_of_the_rule_are_seen),
        cmocka_unit_test(crisis_is_never_a_forbidden_term),
        cmocka_unit_test(kit_may_say_what_kit_says),
        cmocka_unit_test(ten_thousand_terms_are_found),
        cmocka_unit_test(memory_may_run_out_anywhere),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
