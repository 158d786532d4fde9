/* Any bytes: the verdict is the same at a cut, repair makes valid text and leaves valid text alone,
 * and the arithmetic of units and prefixes agrees with itself. */
#include "base/mem.h"
#include "codec/utf8.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_positions(struct bytes b)
{
    size_t units = utf8_units(b);
    CHECK(utf8_offset(b, units) == b.count);
    for (size_t i = 0; i < units; i++) {
        size_t at = utf8_offset(b, i);
        CHECK(at < b.count);
        CHECK(utf8_prefix(b, at) == at);
        size_t before = utf8_units((struct bytes){b.at, at});
        CHECK(before == i || before + 1 == i);
    }
    for (size_t most = 0; most <= b.count; most++) {
        size_t cut = utf8_prefix(b, most);
        CHECK(cut <= most && most - cut <= 3);
        CHECK(utf8_is_valid((struct bytes){b.at, cut}));
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct bytes b = {data, size};
    if (size > 2048)
        return 0;
    struct utf8 whole = {0};
    enum err e = utf8_feed(&whole, b);
    CHECK(utf8_is_valid(b) == (e == ERR_OK && utf8_is_whole(&whole)));
    struct utf8 pieces = {0};
    enum err last = ERR_OK;
    for (size_t i = 0; i < size; i++)
        last = utf8_feed(&pieces, (struct bytes){data + i, 1});
    CHECK(last == e);
    CHECK(utf8_is_whole(&pieces) == utf8_is_whole(&whole));
    uint8_t *to = mem_new(size * 3);
    CHECK(to != NULL);
    struct bytes repaired = {to, utf8_repair(b, to)};
    CHECK(utf8_is_valid(repaired));
    CHECK(!utf8_is_valid(b) || bytes_equal(repaired, b));
    check_positions(repaired);
    mem_free(to);
    return 0;
}
