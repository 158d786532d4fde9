/* Any bytes as an event of a model: the texts that come out are valid UTF-8 without U+0000. */
#include "codec/openai.h"
#include "codec/utf8.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_text(struct bytes text)
{
    CHECK(utf8_is_valid(text));
    CHECK(text.count == 0 || memchr(text.at, 0, text.count) == NULL);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct bytes input = {data, size};
    struct arena a;
    struct openai_chunk c;
    struct bytes message = {NULL, 0};
    struct bytes code = {NULL, 0};
    if (size > 8192)
        return 0;
    CHECK(arena_grow_init(&a, 4096, 16u << 20) == ERR_OK);
    enum err e = openai_chunk_decode(&a, input, &c);
    CHECK(e == ERR_OK || e == ERR_PROTO || e == ERR_FULL);
    if (e == ERR_OK) {
        check_text(c.text);
        check_text(c.reasoning);
        check_text(c.finish);
        check_text(c.error_message);
        check_text(c.error_code);
    }
    if (openai_error_decode(&a, input, &message, &code)) {
        check_text(message);
        check_text(code);
    }
    arena_fini(&a);
    return 0;
}
