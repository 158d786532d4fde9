#include "codec/json.h"

#include "base/mem.h"
#include "base/rng.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <math.h>
#include <stdio.h>

static uint8_t block[1 << 20];

static enum err parse(struct arena *a, struct bytes text, struct json **out)
{
    arena_init(a, block, sizeof(block));
    return json_parse(a, text, (struct json_limits){0}, out, NULL);
}

static struct json *parsed(struct arena *a, const char *text)
{
    struct json *root = NULL;
    assert_int_equal(parse(a, bytes_of(text), &root), ERR_OK);
    return root;
}

static const char *const accepted[] = {
    "null",
    "true",
    "false",
    "0",
    "-0",
    "1",
    "-1",
    "10",
    "1.0",
    "0.5",
    "-0.0",
    "1e1",
    "1E+1",
    "1e-1",
    "0e0",
    "123456789012345678901234567890",
    "1.7976931348623157e308",
    "1e400",
    "\"\"",
    "\"a\"",
    "\"\\\"\\\\\\/\\b\\f\\n\\r\\t\"",
    "\"\\u0000\"",
    "\"\\u00e9\\uD83D\\ude00\"",
    "\"\x7f\"",
    "\"\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80\"",
    "\"\xef\xbb\xbf\"",
    "\"\xe2\x80\xa8\"",
    "[]",
    "[ ]",
    "{}",
    "{ }",
    "[[]]",
    "[{}]",
    "{\"\":{}}",
    "[1,2]",
    " [ 1 , 2 ] ",
    "\t\r\n {\"a\" : 1 , \"b\":[ ] }\n",
    "{\"a\":1,\"a\":2}",
    "[null,true,false]",
    "[[],[]]",
    "\"// no comment\"",
    "\"0123456 89abcdef01234567\"",
};

static const char *const refused[] = {
    "",
    " ",
    "nul",
    "nulll",
    "True",
    "TRUE",
    "NaN",
    "Infinity",
    "-Infinity",
    "undefined",
    "'a'",
    "a",
    "+1",
    "-",
    "--1",
    "01",
    "-01",
    "00",
    "1.",
    ".5",
    "-.5",
    "1.e1",
    "1e",
    "1e+",
    "1e1.5",
    "0x10",
    "1 2",
    "1,",
    ",1",
    "1_000",
    "\"",
    "\"a",
    "a\"",
    "\"\\\"",
    "\"\\x\"",
    "\"\\u\"",
    "\"\\u12\"",
    "\"\\u123g\"",
    "\"\\u 123\"",
    "\"\\ud80\"",
    "\"\\ud800\\u00\"",
    "\"\\U0041\"",
    "\"\n\"",
    "\"\t\"",
    "\"\x01\"",
    "\"\x1f\"",
    "\"\x80\"",
    "\"\xc3\"",
    "\"\xc0\xaf\"",
    "\"\xed\xa0\x80\"",
    "\"\xf4\x90\x80\x80\"",
    "\"\xff\"",
    "\xef\xbb\xbf{}",
    "\xc2\xa0[]",
    "\v1",
    "\f1",
    "[",
    "]",
    "[1",
    "[1,",
    "[1,]",
    "[,1]",
    "[1 2]",
    "[1}",
    "[\"a\":1]",
    "{",
    "}",
    "{\"a\"",
    "{\"a\":",
    "{\"a\":1",
    "{\"a\":1,",
    "{\"a\":1,}",
    "{,}",
    "{a:1}",
    "{'a':1}",
    "{\"a\" 1}",
    "{\"a\"::1}",
    "{\"a\":1 \"b\":2}",
    "{\"a\",1}",
    "{1:1}",
    "{null:1}",
    "{\"a\":1]",
    "[]]",
    "{}}",
    "{} {}",
    "[] x",
    "// c\n1",
    "/* c */1",
    "1 // c",
    "[1,,2]",
    "{\"a\":}",
    "{:1}",
    "[\"a\",\n\"b",
};

static void what_rfc_8259_allows_is_accepted(void **state)
{
    (void)state;
    struct arena a;
    for (size_t i = 0; i < ARRAY_COUNT(accepted); i++) {
        struct json *root = NULL;
        if (parse(&a, bytes_of(accepted[i]), &root) != ERR_OK)
            fail_msg("refused: %s", accepted[i]);
        assert_non_null(root);
    }
}

static void everything_else_is_refused(void **state)
{
    (void)state;
    struct arena a;
    for (size_t i = 0; i < ARRAY_COUNT(refused); i++) {
        struct json *root = NULL;
        if (parse(&a, bytes_of(refused[i]), &root) != ERR_PROTO)
            fail_msg("accepted: %s", refused[i]);
        assert_null(root);
    }
    struct json *root = NULL;
    assert_int_equal(parse(&a, bytes_make("1\0", 2), &root), ERR_PROTO);
    assert_int_equal(parse(&a, bytes_make("\"\0\"", 3), &root), ERR_PROTO);
    assert_int_equal(parse(&a, bytes_make(NULL, 0), &root), ERR_PROTO);
}

/* Each prefix in a block of exactly its size, so that AddressSanitizer sees a step too far. */
static void no_prefix_of_a_document_is_one(void **state)
{
    (void)state;
    static const char text[] = " {\"k\\u00e9\":[1.5e3,\"\xf0\x9f\x98\x80\\ud83d\\ude00\",true,null,"
                               "{\"x\":false}],\"z\":-0}";
    for (size_t cut = 0; cut < sizeof(text) - 1; cut++) {
        struct arena a;
        struct json *root = NULL;
        uint8_t *copy = mem_new(cut);
        assert_non_null(copy);
        memcpy(copy, text, cut);
        assert_int_equal(parse(&a, bytes_make(copy, cut), &root), ERR_PROTO);
        mem_free(copy);
    }
}

static void strings_are_decoded(void **state)
{
    static const struct {
        const char *json;
        const char *text;
    } cases[] = {
        {"\"plain\"", "plain"},
        {"\"\\\"\\\\\\/\\b\\f\\n\\r\\t\"", "\"\\/\b\f\n\r\t"},
        {"\"\\u0041\\u00e9\\u20AC\\uffff\"", "A\xc3\xa9\xe2\x82\xac\xef\xbf\xbf"},
        {"\"x\\ud800\\udc00y\\udbff\\udfff\"", "x\xf0\x90\x80\x80y\xf4\x8f\xbf\xbf"},
        {"\"\\ud800\"", "\xef\xbf\xbd"}, /* half a pair is no character */
        {"\"\\udc00\"", "\xef\xbf\xbd"},
        {"\"\\ud800\\n\"", "\xef\xbf\xbd\n"},
        {"\"\\ud800x\"", "\xef\xbf\xbdx"},
        {"\"\\ud800\\ud800\"", "\xef\xbf\xbd\xef\xbf\xbd"},
        {"\"\\udc00\\ud800\"", "\xef\xbf\xbd\xef\xbf\xbd"},
        {"\"\\ud800\\u0041\"", "\xef\xbf\xbd"
                               "A"},
        {"\"\\ud800\\ud83d\\ude00\"", "\xef\xbf\xbd\xf0\x9f\x98\x80"},
        {"\"long plain part before \\n and a long plain part behind it\"",
         "long plain part before \n and a long plain part behind it"},
        {"\"\\u007f\\u0080\\u07ff\\u0800\"", "\x7f\xc2\x80\xdf\xbf\xe0\xa0\x80"},
    };
    (void)state;
    struct arena a;
    for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
        const struct json *v = parsed(&a, cases[i].json);
        assert_int_equal(v->kind, JSON_STRING);
        assert_true(bytes_is(v->text, cases[i].text));
        assert_true(bytes_is(v->raw, cases[i].json));
    }
    const struct json *nul = parsed(&a, "\"a\\u0000b\"");
    assert_true(bytes_equal(nul->text, bytes_make("a\0b", 3)));
}

static void a_string_without_escapes_lies_in_the_input(void **state)
{
    (void)state;
    struct arena a;
    static const char text[] = "[\"\xc3\xa9 in place\"]";
    const struct json *v = parsed(&a, text)->first;
    assert_ptr_equal(v->text.at, text + 2);
}

static void the_tree_keeps_order_counts_and_raw_text(void **state)
{
    (void)state;
    struct arena a;
    const struct json *o = parsed(&a, " {\"a\":[1, 2 ,[]],\"b\\n\":{\"c\":null},\"d\":\"x\"} ");
    assert_int_equal(o->kind, JSON_OBJECT);
    assert_int_equal(o->count, 3);
    assert_null(o->next);
    const struct json *array = o->first;
    assert_true(bytes_is(array->key, "a"));
    assert_true(bytes_is(array->raw, "[1, 2 ,[]]"));
    assert_int_equal(array->count, 3);
    assert_true(bytes_is(array->first->raw, "1"));
    assert_true(bytes_is(array->first->next->text, "2"));
    assert_int_equal(array->first->next->next->kind, JSON_ARRAY);
    assert_null(array->first->next->next->first);
    assert_null(array->first->next->next->next);
    const struct json *b = array->next;
    assert_true(bytes_is(b->key, "b\n"));
    assert_true(bytes_is(b->raw, "{\"c\":null}"));
    assert_true(bytes_is(b->next->key, "d"));
    assert_null(b->next->next);
    assert_true(bytes_is(o->raw, "{\"a\":[1, 2 ,[]],\"b\\n\":{\"c\":null},\"d\":\"x\"}"));
}

static void of_duplicate_keys_the_last_counts(void **state)
{
    (void)state;
    struct arena a;
    int64_t number = 0;
    const struct json *o = parsed(&a, "{\"a\":1,\"b\":2,\"\\u0061\":3}");
    assert_true(json_get_i64(o, "a", &number));
    assert_int_equal(number, 3);
    assert_int_equal(o->count, 3);
}

static void getting_checks_the_kind(void **state)
{
    (void)state;
    struct arena a;
    struct bytes text = {NULL, 7};
    int64_t number = 7;
    bool yes = true;
    const struct json *o = parsed(&a, "{\"t\":\"x\",\"n\":5,\"f\":false,\"z\":null,\"r\":1.0}");
    assert_true(json_get_text(o, "t", &text));
    assert_true(bytes_is(text, "x"));
    assert_true(json_get_i64(o, "n", &number));
    assert_int_equal(number, 5);
    assert_true(json_get_bool(o, "f", &yes));
    assert_false(yes);
    assert_false(json_get_text(o, "n", &text));
    assert_false(json_get_text(o, "z", &text));
    assert_false(json_get_i64(o, "t", &number));
    assert_false(json_get_i64(o, "r", &number));
    assert_false(json_get_i64(o, "absent", &number));
    assert_false(json_get_bool(o, "n", &yes));
    assert_int_equal(number, 5);
    assert_null(json_get(o->first, "t"));
    assert_null(json_get(NULL, "t"));
    assert_null(json_get(o, "tt"));
}

static void integers_are_exact_or_no(void **state)
{
    static const struct {
        const char *text;
        bool is_exact;
        int64_t value;
    } cases[] = {
        {"0", true, 0},
        {"-0", true, 0},
        {"42", true, 42},
        {"-42", true, -42},
        {"9223372036854775807", true, INT64_MAX},
        {"9223372036854775808", false, 0},
        {"-9223372036854775808", true, INT64_MIN},
        {"-9223372036854775809", false, 0},
        {"18446744073709551616", false, 0},
        {"99999999999999999999999", false, 0},
        {"1.0", false, 0},
        {"1e2", false, 0},
        {"\"1\"", false, 0},
        {"true", false, 0},
    };
    (void)state;
    struct arena a;
    for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
        int64_t value = 99;
        assert_int_equal(json_i64(parsed(&a, cases[i].text), &value), cases[i].is_exact);
        assert_true(value == (cases[i].is_exact ? cases[i].value : 99));
    }
    assert_false(json_i64(NULL, &(int64_t){0}));
}

static void doubles_are_the_nearest_or_no(void **state)
{
    (void)state;
    struct arena a;
    char wide[600];
    double value = 7;
    assert_true(json_double(parsed(&a, "0.1"), &value));
    assert_true(value == 0.1);
    assert_true(json_double(parsed(&a, "-1.5e-3"), &value));
    assert_true(value == -1.5e-3);
    assert_true(json_double(parsed(&a, "1e-999"), &value));
    assert_true(value == 0.0);
    value = 7;
    assert_false(json_double(parsed(&a, "1e999"), &value));
    assert_false(json_double(parsed(&a, "\"1\""), &value));
    assert_false(json_double(NULL, &value));
    memset(wide, '1', sizeof(wide));
    wide[401] = '\0';
    assert_false(json_double(parsed(&a, wide), &value));
    assert_true(value == 7);
    memcpy(wide, "1.", 2);
    wide[400] = '\0';
    assert_true(json_double(parsed(&a, wide), &value));
    assert_true(value > 1.11 && value < 1.12);
}

static void depth_and_values_have_limits(void **state)
{
    (void)state;
    struct arena a;
    struct json *root = NULL;
    struct json_error error = {0};
    arena_init(&a, block, sizeof(block));
    struct json_limits two = {.depth_max = 2, .values_max = 4};
    assert_int_equal(json_parse(&a, bytes_of("[[1,2]]"), two, &root, &error), ERR_OK);
    assert_int_equal(json_parse(&a, bytes_of("[[1,2,3]]"), two, &root, &error), ERR_FULL);
    assert_int_equal(error.at, 6);
    assert_int_equal(json_parse(&a, bytes_of("[{\"a\":[]}]"), two, &root, &error), ERR_FULL);
    assert_int_equal(error.at, 6);
    assert_int_equal(json_parse(&a, bytes_of("[[],[],[]]"), two, &root, &error), ERR_OK);
    char deep[129];
    memset(deep, '[', 64);
    memset(deep + 64, ']', 64);
    assert_int_equal(json_parse(&a, bytes_make(deep, 128), (struct json_limits){0}, &root, NULL),
                     ERR_OK);
    memset(deep, '[', 65);
    assert_int_equal(json_parse(&a, bytes_make(deep, 128), (struct json_limits){0}, &root, NULL),
                     ERR_FULL);
}

static void depth_costs_no_stack(void **state)
{
    (void)state;
    const uint32_t depth = 100000;
    uint8_t *text = mem_new(depth * 2);
    struct arena a;
    struct json *root = NULL;
    struct json_limits limits = {.depth_max = depth, .values_max = depth};
    assert_non_null(text);
    memset(text, '[', depth);
    memset(text + depth, ']', depth);
    assert_int_equal(arena_grow_init(&a, 4096, 64u << 20), ERR_OK);
    assert_int_equal(json_parse(&a, bytes_make(text, depth * 2), limits, &root, NULL), ERR_OK);
    uint32_t seen = 0;
    for (const struct json *v = root; v != NULL; v = v->first)
        seen++;
    assert_int_equal(seen, depth);
    arena_fini(&a);
    mem_free(text);
}

static void errors_name_their_place(void **state)
{
    static const struct {
        const char *text;
        size_t at;
    } cases[] = {
        {"", 0},           {"{\"a\":tru}", 5}, {"[1,]", 3}, {"[1 2]", 3},
        {"\"a\\q\"", 2},   {"\"a\x80\"", 2},   {"1 x", 2},  {"{\"a\" 1}", 5},
        {"[\"a\nb\"]", 3}, {"{\"a\":1,}", 7},
    };
    (void)state;
    for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
        struct arena a;
        struct json *root = NULL;
        struct json_error error = {.at = 999};
        arena_init(&a, block, sizeof(block));
        assert_int_equal(
            json_parse(&a, bytes_of(cases[i].text), (struct json_limits){0}, &root, &error),
            ERR_PROTO);
        assert_int_equal(error.at, cases[i].at);
        assert_non_null(error.what);
    }
}

static void every_size_of_arena_may_be_too_small(void **state)
{
    (void)state;
    static const char text[] = "{\"a\":[1,\"x\\ny\",{}],\"b\":\"\\u0041\"}";
    enum err e = ERR_FULL;
    size_t bytes = 0;
    for (; e == ERR_FULL; bytes++) {
        struct arena a;
        struct json *root = NULL;
        arena_init(&a, block, bytes);
        e = json_parse(&a, bytes_of(text), (struct json_limits){0}, &root, NULL);
        assert_true(e == ERR_OK || (e == ERR_FULL && root == NULL));
        assert_true(bytes < 2000);
    }
    assert_int_equal(e, ERR_OK);
    assert_true(bytes > 6 * sizeof(struct json));
}

static void every_allocation_may_fail(void **state)
{
    (void)state;
    static const char text[] = "[[1,2,3,4,5,6,7,8,9],\"a\\nb\",{\"k\":\"v\"},[[],[],[],[]]]";
    uint64_t used = mem_used_bytes();
    enum err e = ERR_FULL;
    for (uint64_t n = 1; e == ERR_FULL; n++) {
        struct arena a;
        struct json *root = NULL;
        assert_int_equal(arena_grow_init(&a, 64, 1 << 20), ERR_OK);
        mem_fail_at(n);
        e = json_parse(&a, bytes_of(text), (struct json_limits){0}, &root, NULL);
        mem_fail_at(0);
        assert_true((e == ERR_OK) == (root != NULL));
        arena_fini(&a);
        assert_int_equal(mem_used_bytes(), used);
        assert_true(n < 20);
    }
    assert_int_equal(e, ERR_OK);
}

static void the_writer_places_commas(void **state)
{
    (void)state;
    struct buf b;
    buf_init(&b, 1000);
    json_object_open(&b);
    json_put_text(&b, "t", bytes_of("q\"\\\n\x01\x1f\x7f\xc3\xa9"));
    json_put_i64(&b, "n", -5);
    json_put_bool(&b, "y", true);
    json_put_bool(&b, "f", false);
    json_put_raw(&b, "r", bytes_of(" [1, 2] \n"));
    json_put_raw(&b, "e", bytes_make(NULL, 0));
    json_put_double(&b, "d", 0.7);
    json_key(&b, "a");
    json_array_open(&b);
    json_null(&b);
    json_bool(&b, true);
    json_number_i64(&b, 0);
    json_text(&b, bytes_of(""));
    json_array_open(&b);
    json_array_close(&b);
    json_object_open(&b);
    json_object_close(&b);
    json_raw(&b, bytes_of("{}"));
    json_array_close(&b);
    json_object_close(&b);
    assert_false(b.failed);
    assert_true(bytes_is(buf_view(&b), "{\"t\":\"q\\\"\\\\\\n\\u0001\\u001f\x7f\xc3\xa9\",\"n\":-5,"
                                       "\"y\":true,\"f\":false,\"r\": [1, 2],\"e\":null,\"d\":0.7,"
                                       "\"a\":[null,true,0,\"\",[],{},{}]}"));
    buf_byte(&b, '\n');
    size_t before = b.count;
    json_object_open(&b);
    assert_int_equal(b.at[before], '{');
    buf_fini(&b);
}

static void doubles_are_written_short_and_come_back(void **state)
{
    static const double numbers[] = {0.0,     -0.0, 1.0,  0.1,    0.7,
                                     1.0 / 3, 1e21, 1e-7, 5e-324, 1.7976931348623157e308};
    (void)state;
    struct arena a;
    char text[64];
    for (size_t i = 0; i < ARRAY_COUNT(numbers); i++) {
        struct buf b;
        double back = 7;
        buf_init_fixed(&b, text, sizeof(text) - 1);
        json_number_double(&b, numbers[i]);
        text[b.count] = '\0';
        assert_true(json_double(parsed(&a, text), &back));
        assert_memory_equal(&back, &numbers[i], sizeof(back));
    }
    struct buf b;
    buf_init_fixed(&b, text, sizeof(text));
    json_number_double(&b, (double)NAN);
    json_number_double(&b, (double)INFINITY);
    assert_true(bytes_is(buf_view(&b), "null,null"));
}

/* Every byte at every place of a run of eight: the word-wide scan must find what the plain one
 * does, and what is written must be read back. */
static void every_character_survives_at_every_place(void **state)
{
    (void)state;
    for (int c = 0; c < 128; c++) {
        for (size_t place = 0; place < 20; place++) {
            uint8_t text[20];
            uint8_t room[200];
            struct arena a;
            struct buf b;
            struct json *root = NULL;
            memset(text, 'x', sizeof(text));
            text[place] = (uint8_t)c;
            buf_init_fixed(&b, room, sizeof(room));
            json_text(&b, bytes_make(text, sizeof(text)));
            assert_false(b.failed);
            assert_int_equal(parse(&a, buf_view(&b), &root), ERR_OK);
            assert_true(bytes_equal(root->text, bytes_make(text, sizeof(text))));
            bool must = c < 0x20 || c == '"' || c == '\\';
            assert_int_equal(b.count > sizeof(text) + 2, must);
            uint8_t quoted[22] = {'"'};
            memcpy(quoted + 1, text, sizeof(text));
            quoted[21] = '"';
            enum err e = parse(&a, bytes_make(quoted, sizeof(quoted)), &root);
            assert_int_equal(e == ERR_OK, !must);
        }
    }
}

struct maker {
    struct rng r;
    struct buf b;
    uint32_t left;
};

static void make_text(struct maker *m)
{
    static const char *const parts[] = {
        "a", "\"", "\\", "\n", "\xc3\xa9", "\xf0\x9f\x98\x80", "\x01", "plain run of text",
        "/", "{",  ","};
    uint8_t room[256];
    struct buf text;
    buf_init_fixed(&text, room, sizeof(room));
    uint64_t count = rng_below(&m->r, 6);
    for (uint64_t i = 0; i < count; i++)
        buf_text(&text, parts[rng_below(&m->r, ARRAY_COUNT(parts))]);
    json_text(&m->b, buf_view(&text));
}

static void make_scalar(struct maker *m)
{
    switch (rng_below(&m->r, 4)) {
    case 0: json_null(&m->b); break;
    case 1: json_bool(&m->b, rng_below(&m->r, 2) == 1); break;
    case 2: json_number_i64(&m->b, (int64_t)rng_next(&m->r)); break;
    default: make_text(m); break;
    }
}

/* A random document, grown by opening and closing at random; a bit per open container says which
 * kind it is. */
static void make_document(struct maker *m)
{
    uint64_t is_object = 0;
    unsigned depth = 0;
    do {
        if (depth > 0 && (m->left == 0 || rng_below(&m->r, 4) == 0)) {
            if ((is_object & 1) != 0)
                json_object_close(&m->b);
            else
                json_array_close(&m->b);
            is_object >>= 1;
            depth--;
            continue;
        }
        if ((is_object & 1) != 0) {
            make_text(m);
            buf_byte(&m->b, ':');
        }
        m->left -= m->left > 0;
        uint64_t kind = depth < 30 ? rng_below(&m->r, 4) : 3;
        if (kind == 0)
            json_object_open(&m->b);
        else if (kind == 1)
            json_array_open(&m->b);
        else
            make_scalar(m);
        if (kind <= 1) {
            is_object = is_object << 1 | (kind == 0);
            depth++;
        }
    } while (depth > 0);
}

/* Writes the tree again, without recursion: `open` holds the way down. */
static void rewrite(struct buf *b, const struct json *root)
{
    const struct json *open[64];
    unsigned depth = 0;
    const struct json *v = root;
    for (;;) {
        if (v == NULL) {
            depth--;
            if (open[depth]->kind == JSON_OBJECT)
                json_object_close(b);
            else
                json_array_close(b);
            v = open[depth]->next;
        } else {
            if (depth > 0 && open[depth - 1]->kind == JSON_OBJECT) {
                json_text(b, v->key);
                buf_byte(b, ':');
            }
            if (v->kind == JSON_OBJECT || v->kind == JSON_ARRAY) {
                if (v->kind == JSON_OBJECT)
                    json_object_open(b);
                else
                    json_array_open(b);
                open[depth] = v;
                depth++;
                v = v->first;
                continue;
            }
            if (v->kind == JSON_STRING)
                json_text(b, v->text);
            else
                json_raw(b, v->raw);
            v = v->next;
        }
        if (depth == 0)
            return;
    }
}

static void what_is_written_is_read_and_written_again(void **state)
{
    (void)state;
    for (uint64_t seed = 0; seed < 300; seed++) {
        struct maker m = {.left = 60};
        struct arena a;
        struct json *root = NULL;
        struct buf again;
        rng_init(&m.r, seed);
        buf_init(&m.b, 1 << 20);
        buf_init(&again, 1 << 20);
        make_document(&m);
        if (parse(&a, buf_view(&m.b), &root) != ERR_OK)
            fail_msg("seed %d", (int)seed);
        rewrite(&again, root);
        if (!bytes_equal(buf_view(&again), buf_view(&m.b)))
            fail_msg("seed %d", (int)seed);
        buf_fini(&m.b);
        buf_fini(&again);
    }
}

static void unbreak_takes_out_cr_and_lf(void **state)
{
    (void)state;
    char text[] = "\r\n{\n  \"a\\n\": 1\r\n}\n";
    size_t count = json_unbreak((uint8_t *)text, sizeof(text) - 1);
    assert_true(bytes_is(bytes_make(text, count), "{  \"a\\n\": 1}"));
    char whole[] = "{\"a\":1}";
    assert_int_equal(json_unbreak((uint8_t *)whole, 7), 7);
    assert_string_equal(whole, "{\"a\":1}");
    char only[] = "\n\r";
    assert_int_equal(json_unbreak((uint8_t *)only, 2), 0);
    assert_int_equal(json_unbreak(NULL, 0), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_rfc_8259_allows_is_accepted),
        cmocka_unit_test(everything_else_is_refused),
        cmocka_unit_test(no_prefix_of_a_document_is_one),
        cmocka_unit_test(strings_are_decoded),
        cmocka_unit_test(a_string_without_escapes_lies_in_the_input),
        cmocka_unit_test(the_tree_keeps_order_counts_and_raw_text),
        cmocka_unit_test(of_duplicate_keys_the_last_counts),
        cmocka_unit_test(getting_checks_the_kind),
        cmocka_unit_test(integers_are_exact_or_no),
        cmocka_unit_test(doubles_are_the_nearest_or_no),
        cmocka_unit_test(depth_and_values_have_limits),
        cmocka_unit_test(depth_costs_no_stack),
        cmocka_unit_test(errors_name_their_place),
        cmocka_unit_test(every_size_of_arena_may_be_too_small),
        cmocka_unit_test(every_allocation_may_fail),
        cmocka_unit_test(the_writer_places_commas),
        cmocka_unit_test(doubles_are_written_short_and_come_back),
        cmocka_unit_test(every_character_survives_at_every_place),
        cmocka_unit_test(what_is_written_is_read_and_written_again),
        cmocka_unit_test(unbreak_takes_out_cr_and_lf),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
