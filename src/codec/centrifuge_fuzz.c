/* Any bytes as a frame: every command decodes or is refused, what it says is valid text, and what
 * we would answer with its words is one line of JSON. */
#include "codec/centrifuge.h"
#include "codec/utf8.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_line(const struct buf *b)
{
    static uint8_t block[1 << 18];
    struct arena a;
    struct json *root = NULL;
    CHECK(!b->failed);
    CHECK(memchr(b->at, '\n', b->count) == NULL);
    arena_init(&a, block, sizeof(block));
    enum err e = json_parse(&a, buf_view(b), (struct json_limits){.depth_max = 80}, &root, NULL);
    CHECK(e == ERR_OK || e == ERR_FULL);
    arena_fini(&a);
}

static void check_answers(const struct cf_command *c)
{
    struct buf b;
    buf_init(&b, 1 << 20);
    cf_reply_error(&b, c->id, 107, c->channel, c->recover);
    check_line(&b);
    b.count = 0;
    cf_push_publication(&b, c->channel, c->data, c->offset, c->epoch);
    check_line(&b);
    b.count = 0;
    cf_reply_result(&b, c->id, "rpc", c->data);
    check_line(&b);
    buf_fini(&b);
}

static void check_command(struct bytes text)
{
    struct arena a;
    struct cf_command c;
    CHECK(arena_grow_init(&a, 4096, 16u << 20) == ERR_OK);
    enum err e = cf_command_decode(&a, text, &c);
    CHECK(e == ERR_OK || e == ERR_PROTO || e == ERR_FULL);
    if (e == ERR_OK) {
        CHECK(utf8_is_valid(c.channel) && utf8_is_valid(c.token) && utf8_is_valid(c.epoch));
        CHECK(utf8_is_valid(c.rpc_method) && utf8_is_valid(c.data) && utf8_is_valid(c.delta));
        CHECK(c.id != 0 || c.method == CF_PONG || c.method == CF_SEND);
        for (const struct json *s = c.subs == NULL ? NULL : c.subs->first; s != NULL; s = s->next) {
            bool recover = false;
            struct bytes epoch = {NULL, 0};
            uint64_t offset = 0;
            if (cf_sub_read(s, &recover, &epoch, &offset))
                CHECK(offset <= INT64_MAX && utf8_is_valid(epoch));
        }
        check_answers(&c);
    }
    arena_fini(&a);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct bytes rest = {data, size};
    if (size > 8192)
        return 0;
    for (struct bytes text = cf_frame_next(&rest); text.count > 0; text = cf_frame_next(&rest)) {
        CHECK(memchr(text.at, '\n', text.count) == NULL);
        check_command(text);
    }
    CHECK(rest.count == 0);
    return 0;
}
