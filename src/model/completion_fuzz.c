/* Any body: nothing is read out of bounds, and what is answered lies in the body or the arena. */
#include "model/completion_priv.h"

int LLVMFuzzerTestOneInput(const uint8_t *at, size_t count);

int LLVMFuzzerTestOneInput(const uint8_t *at, size_t count)
{
    static uint8_t block[1 << 20];
    struct arena a;
    struct openai_chunk c;
    arena_init(&a, block, sizeof(block));
    if (completion_decode(&a, bytes_make(at, count), &c) == ERR_OK && c.text.count != 0)
        CHECK(memchr(c.text.at, 0, c.text.count) == NULL);
    arena_fini(&a);
    return 0;
}
