/* Any bytes: what parses has a sound tree, is written to a text that parses to the same text again,
 * and still parses without its line breaks. */
#include "base/mem.h"
#include "codec/json.h"
#include "codec/utf8.h"

#define DEPTH_MAX 32

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static bool is_container(const struct json *v)
{
    return v->kind == JSON_OBJECT || v->kind == JSON_ARRAY;
}

static void check_value(const struct json *v, struct bytes input)
{
    CHECK(v->raw.count > 0);
    CHECK(v->raw.at >= input.at && v->raw.at + v->raw.count <= input.at + input.count);
    CHECK(is_container(v) || (v->first == NULL && v->count == 0));
    CHECK(utf8_is_valid(v->text) && utf8_is_valid(v->key));
    uint32_t count = 0;
    for (const struct json *child = v->first; child != NULL; child = child->next)
        count++;
    CHECK(count == v->count);
    int64_t number = 0;
    double real = 0;
    if (json_i64(v, &number)) {
        CHECK(json_double(v, &real));
        CHECK(real == (double)number);
    }
}

/* Writes the tree again and checks each value on the way. */
static void rewrite(struct buf *b, const struct json *root, struct bytes input)
{
    const struct json *open[DEPTH_MAX];
    size_t depth = 0;
    const struct json *v = root;
    do {
        if (v == NULL) {
            depth--;
            if (open[depth]->kind == JSON_OBJECT)
                json_object_close(b);
            else
                json_array_close(b);
            v = open[depth]->next;
            continue;
        }
        check_value(v, input);
        if (depth > 0 && open[depth - 1]->kind == JSON_OBJECT) {
            json_text(b, v->key);
            buf_byte(b, ':');
        }
        if (is_container(v)) {
            if (v->kind == JSON_OBJECT)
                json_object_open(b);
            else
                json_array_open(b);
            CHECK(depth < DEPTH_MAX);
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
    } while (depth > 0);
}

static void check_text(struct bytes text)
{
    static uint8_t block[1 << 16];
    struct arena a;
    struct json *root = NULL;
    struct buf b;
    buf_init(&b, 1 << 20);
    json_text(&b, text);
    CHECK(!b.failed);
    arena_init(&a, block, sizeof(block));
    CHECK(json_parse(&a, buf_view(&b), (struct json_limits){0}, &root, NULL) == ERR_OK);
    CHECK(root->kind == JSON_STRING);
    CHECK(bytes_equal(root->text, text));
    arena_fini(&a);
    buf_fini(&b);
}

static void check_again(const struct json *root, struct bytes input, struct json_limits limits)
{
    struct arena a;
    struct json *again = NULL;
    struct buf first;
    struct buf second;
    CHECK(arena_grow_init(&a, 4096, 64u << 20) == ERR_OK);
    buf_init(&first, 1 << 20);
    buf_init(&second, 1 << 20);
    rewrite(&first, root, input);
    CHECK(!first.failed);
    CHECK(json_parse(&a, buf_view(&first), limits, &again, NULL) == ERR_OK);
    rewrite(&second, again, buf_view(&first));
    CHECK(bytes_equal(buf_view(&first), buf_view(&second)));
    /* The rewritten text has no line breaks, so taking them out of the input must lose nothing. */
    first.count = 0;
    buf_bytes(&first, input);
    first.count = json_unbreak(first.at, first.count);
    arena_reset(&a);
    CHECK(json_parse(&a, buf_view(&first), limits, &again, NULL) == ERR_OK);
    struct buf third;
    buf_init(&third, 1 << 20);
    rewrite(&third, again, buf_view(&first));
    CHECK(bytes_equal(buf_view(&third), buf_view(&second)));
    buf_fini(&first);
    buf_fini(&second);
    buf_fini(&third);
    arena_fini(&a);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct bytes input = {data, size};
    struct json_limits limits = {.depth_max = DEPTH_MAX, .values_max = 5000};
    struct arena a;
    struct json *root = NULL;
    struct json_error error = {.at = SIZE_MAX, .what = NULL};
    if (size > 8192)
        return 0;
    CHECK(arena_grow_init(&a, 4096, 64u << 20) == ERR_OK);
    enum err e = json_parse(&a, input, limits, &root, &error);
    CHECK((e == ERR_OK) == (root != NULL));
    if (e == ERR_OK)
        check_again(root, input, limits);
    else
        CHECK(error.at <= size && error.what != NULL);
    arena_fini(&a);
    if (utf8_is_valid(input))
        check_text(input);
    return 0;
}
