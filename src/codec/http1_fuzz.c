/* Any bytes as a head, as a chunked body, as a target: the verdict is the same at every cut that is
 * tried, and what a head says lies inside it. */
#include "base/hash.h"
#include "base/mem.h"
#include "codec/http1.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static bool is_inside(struct bytes part, struct bytes whole)
{
    return part.count == 0 ||
           (part.at >= whole.at && part.at + part.count <= whole.at + whole.count);
}

static void check_request(const struct http1_request *r, struct bytes input)
{
    struct bytes head = {input.at, r->head_bytes};
    CHECK(r->head_bytes <= input.count && r->head_bytes <= HTTP1_HEAD_BYTES_MAX);
    CHECK(r->head_bytes >= 4);
    CHECK(memcmp(input.at + r->head_bytes - 4, "\r\n\r\n", 4) == 0);
    CHECK(is_inside(r->method, head) && is_inside(r->target, head) && is_inside(r->host, head));
    CHECK(is_inside(r->query, head));
    CHECK(is_inside(r->path, head) || bytes_is(r->path, "/"));
    CHECK(r->path.count > 0);
    CHECK(!(r->chunked && r->has_length));
    CHECK(r->length <= INT64_MAX);
    for (uint32_t i = 0; i < r->headers_count; i++) {
        CHECK(is_inside(r->headers[i].name, head) && r->headers[i].name.count > 0);
        CHECK(is_inside(r->headers[i].value, head));
        struct bytes value = r->headers[i].value;
        CHECK(value.count == 0 || memchr(value.at, '\n', value.count) == NULL);
        CHECK(value.count == 0 || memchr(value.at, '\r', value.count) == NULL);
        CHECK(value.count == 0 || memchr(value.at, 0, value.count) == NULL);
    }
}

static void check_head(struct bytes input)
{
    static struct http1_request r;
    uint16_t status = 0;
    enum err e = http1_request_decode(input, &r, &status);
    CHECK((e == ERR_PROTO) == (status >= 400));
    if (e == ERR_OK)
        check_request(&r, input);
    bool is_decided = false;
    for (size_t cut = 0; cut < size_min(input.count, 600); cut++) {
        uint16_t cut_status = 0;
        enum err at_cut = http1_request_decode((struct bytes){input.at, cut}, &r, &cut_status);
        if (at_cut == ERR_AGAIN) {
            CHECK(!is_decided);
            continue;
        }
        is_decided = true;
        CHECK(at_cut == e && cut_status == status);
    }
}

/* The verdict, where it fell, and a hash of the body; they must not depend on `step`. */
static uint64_t unchunk(struct bytes input, size_t step)
{
    static const uint64_t key[2] = {1, 2};
    struct http1_chunked c = {0};
    struct buf body;
    enum err e = ERR_AGAIN;
    size_t at = 0;
    buf_init(&body, 1 << 20);
    while (at < input.count && e == ERR_AGAIN) {
        struct bytes data = {NULL, 0};
        size_t used = 0;
        struct bytes piece = {input.at + at, size_min(step, input.count - at)};
        e = http1_chunked_feed(&c, piece, &used, &data);
        CHECK(used <= piece.count && used > 0);
        CHECK(is_inside(data, piece));
        buf_bytes(&body, data);
        at += used;
    }
    buf_u64(&body, at);
    buf_u64(&body, (uint64_t)e);
    CHECK(!body.failed);
    uint64_t answer = hash_sip(key, buf_view(&body));
    buf_fini(&body);
    return answer;
}

static void check_words(struct bytes input)
{
    uint8_t *to = mem_new(input.count);
    size_t count = 0;
    CHECK(to != NULL);
    if (http1_percent_decode(input, to, &count) == ERR_OK)
        CHECK(count <= input.count);
    mem_free(to);
    CHECK(is_inside(http1_query_get(input, "a"), input));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct bytes input = {data, size};
    check_head(input);
    check_words(input);
    uint64_t once = unchunk(input, size_max(size, 1));
    CHECK(unchunk(input, 1) == once);
    CHECK(unchunk(input, 3) == once);
    return 0;
}
