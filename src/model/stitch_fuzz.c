/* Any events in a row: nothing is read or written out of bounds, and no byte of a content string
 * is lost but for half a character at the very end. */
#include "model/stitch_priv.h"

#include "base/base.h"

int LLVMFuzzerTestOneInput(const uint8_t *at, size_t count);

int LLVMFuzzerTestOneInput(const uint8_t *at, size_t count)
{
    static uint8_t block[1 << 20];
    struct stitch s = {0};
    struct arena a;
    size_t in = 0;
    size_t out = 0;
    arena_init(&a, block, sizeof(block));
    while (count > 0) {
        const uint8_t *end = memchr(at, '\n', count);
        size_t line = end == NULL ? count : (size_t)(end - at);
        struct bytes joined;
        if (stitch_join(&s, &a, bytes_make(at, line), &joined) != ERR_OK)
            break;
        in += line;
        out += joined.count;
        CHECK(in == out + s.text.count + s.reasoning.count);
        line = size_min(line + 1, count);
        at += line;
        count -= line;
    }
    arena_fini(&a);
    return 0;
}
