/* Any bytes as what a client sends: what is told does not depend on how they were cut. The payloads
 * stay as they are when the mask is zero, so that a dictionary of texts is of use. */
#include "base/mem.h"
#include "codec/websocket.h"

#define MESSAGE_BYTES_MAX 300

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct teller {
    struct ws_reader reader;
    struct buf story;
    struct buf message;
};

static void step_tell(struct teller *t, const struct ws_step *s)
{
    if (s->event == WS_EVENT_NONE)
        return;
    if (s->event == WS_EVENT_DATA || s->event == WS_EVENT_MESSAGE_END) {
        buf_bytes(&t->message, s->data);
        CHECK(t->message.count <= MESSAGE_BYTES_MAX);
        if (s->event == WS_EVENT_DATA)
            return;
        CHECK(s->opcode == WS_BINARY || utf8_is_valid(buf_view(&t->message)));
        buf_byte(&t->story, (uint8_t)s->opcode);
        buf_bytes(&t->story, buf_view(&t->message));
        t->message.count = 0;
        return;
    }
    CHECK(s->data.count <= 125);
    buf_byte(&t->story, (uint8_t)s->opcode);
    buf_u64(&t->story, s->close_code);
    buf_bytes(&t->story, s->data);
    CHECK(s->event != WS_EVENT_CLOSE || utf8_is_valid(s->data));
}

/* True when the stream broke. */
static bool piece_tell(struct teller *t, uint8_t *at, size_t count)
{
    struct ws_step s = {0};
    enum err e = ERR_OK;
    size_t used = 0;
    while (e == ERR_OK) {
        e = ws_reader_step(&t->reader, at + used, count - used, MESSAGE_BYTES_MAX, &s);
        CHECK(e == ERR_OK || e == ERR_AGAIN || e == ERR_PROTO);
        if (e == ERR_PROTO) {
            CHECK(s.close_code == 1002 || s.close_code == 1007 || s.close_code == 1009);
            buf_u64(&t->story, s.close_code);
            return true;
        }
        used += s.used;
        CHECK(used <= count);
        CHECK((e == ERR_AGAIN) == (s.event == WS_EVENT_NONE));
        step_tell(t, &s);
    }
    CHECK(used == count);
    return false;
}

static struct blob *stream_tell(const uint8_t *data, size_t size, size_t step)
{
    struct teller t = {.reader = {.in_frame = false}};
    bool is_broken = false;
    buf_init(&t.story, 1 << 20);
    buf_init(&t.message, 1 << 20);
    for (size_t at = 0; at < size && !is_broken;) {
        size_t piece = size_min(step, size - at);
        uint8_t *copy = mem_new(piece);
        CHECK(copy != NULL);
        memcpy(copy, data + at, piece);
        is_broken = piece_tell(&t, copy, piece);
        mem_free(copy);
        at += piece;
    }
    buf_fini(&t.message);
    struct blob *story = buf_take(&t.story);
    CHECK(story != NULL);
    return story;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const size_t steps[] = {1, 2, 5, 13};
    if (size > 4096)
        return 0;
    struct blob *once = stream_tell(data, size, size_max(size, 1));
    for (size_t i = 0; i < ARRAY_COUNT(steps); i++) {
        struct blob *pieces = stream_tell(data, size, steps[i]);
        CHECK(bytes_equal(blob_bytes(once), blob_bytes(pieces)));
        blob_unref(&pieces);
    }
    blob_unref(&once);
    return 0;
}
