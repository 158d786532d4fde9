/* What decodes must be exactly what encoding gives back: one text has one meaning. */
#include "base/mem.h"
#include "codec/base64.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct bytes input = {data, size};
    size_t room = 4 * ((size + 2) / 3);
    uint8_t *plain = mem_new(size);
    uint8_t *text = mem_new(room);
    CHECK(plain != NULL && text != NULL);
    size_t count = 0;
    if (base64_decode(input, plain, &count) == ERR_OK) {
        size_t text_count = base64_encode((struct bytes){plain, count}, text);
        CHECK(bytes_equal((struct bytes){text, text_count}, input));
    }
    if (base64url_decode(input, plain, &count) == ERR_OK) {
        size_t text_count = base64url_encode((struct bytes){plain, count}, text);
        CHECK(bytes_equal((struct bytes){text, text_count}, input));
    }
    size_t text_count = base64_encode(input, text);
    CHECK(text_count == room);
    CHECK(base64_decode((struct bytes){text, text_count}, plain, &count) == ERR_OK);
    CHECK(bytes_equal((struct bytes){plain, count}, input));
    text_count = base64url_encode(input, text);
    CHECK(text_count == (size * 4 + 2) / 3);
    CHECK(base64url_decode((struct bytes){text, text_count}, plain, &count) == ERR_OK);
    CHECK(bytes_equal((struct bytes){plain, count}, input));
    mem_free(plain);
    mem_free(text);
    return 0;
}
