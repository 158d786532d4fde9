/* The first byte sets the cuts, the rest is the text. However it is cut, the verdict is that of the
 * whole, what is shown is a beginning of the text, and nothing of a match is ever shown. */
#include "codec/utf8.h"
#include "text/text_priv.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const struct config_term rows[] = {
    {"a b", "short", "both", true, true},
    {"a b c d a b", "long", "both", true, true},
    {"b c d e", "inside", "both", true, true},
    {"\xe7\x82\xb8\xe5\xbc\xb9", "han", "both", true, true},
    {"caf\xc3\xa9", "accent", "both", true, true},
};

static struct text_terms *terms_get(void)
{
    static struct text_terms *terms;
    struct config c = {.terms = rows, .terms_count = ARRAY_COUNT(rows), .terms_default = true};
    if (terms == NULL)
        terms = text_terms_make(&c);
    CHECK(terms != NULL);
    return terms;
}

static void stream_check(const struct text_terms *t, struct bytes text, size_t step)
{
    struct text_match whole = text_terms_find(t, TEXT_AI, text);
    struct text_hold h;
    struct buf out;
    struct bytes rest = text;
    buf_init(&out, BLOB_BYTES_MAX);
    text_hold_init(&h, t, TEXT_AI);
    while (rest.count > 0) {
        size_t cut = utf8_prefix(rest, step + 4);
        text_hold_feed(&h, (struct bytes){rest.at, cut}, &out);
        CHECK(h.kept_bytes <= TEXT_HOLD_BYTES_MAX);
        CHECK(h.match.found || h.released_bytes + h.kept_bytes + rest.count - cut == text.count);
        rest.at += cut;
        rest.count -= cut;
    }
    text_hold_end(&h, &out);
    CHECK(!out.failed);
    CHECK(h.match.found == whole.found && h.match.at == whole.at && h.match.count == whole.count);
    CHECK(whole.found ? out.count <= whole.at : out.count == text.count);
    CHECK(out.count == 0 || memcmp(out.at, text.at, out.count) == 0);
    CHECK(!whole.found || (whole.at + whole.count <= text.count && whole.count > 0));
    text_hold_fini(&h);
    buf_fini(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const struct text_terms *t = terms_get();
    if (size == 0)
        return 0;
    struct bytes text = {data + 1, size - 1};
    enum text_check check = text_check(text, 1 << 20);
    if (check != TEXT_OK && check != TEXT_EMPTY)
        return 0;
    stream_check(t, text, data[0] % 32);
    (void)text_question(t, text);
    return 0;
}
