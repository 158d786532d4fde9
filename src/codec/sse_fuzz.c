/* Any bytes as an event stream: the events do not depend on how they were cut, no event is over the
 * limit, and nothing is kept when the reader goes. */
#include "base/mem.h"
#include "codec/sse.h"

#define EVENT_BYTES_MAX 64

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void event_tell(const struct sse_event *event, struct buf *story)
{
    CHECK(event->data.count <= EVENT_BYTES_MAX);
    CHECK(event->id.count == 0 || memchr(event->id.at, 0, event->id.count) == NULL);
    buf_bytes(story, event->type);
    buf_byte(story, 0);
    buf_bytes(story, event->data);
    buf_byte(story, 0);
    buf_bytes(story, event->id);
    buf_byte(story, 0);
}

static struct blob *stream_tell(const uint8_t *data, size_t size, size_t step)
{
    struct sse_reader r;
    struct buf story;
    enum err e = ERR_AGAIN;
    sse_reader_init(&r, EVENT_BYTES_MAX);
    buf_init(&story, 4 << 20);
    for (size_t at = 0; at < size && e != ERR_FULL;) {
        size_t piece = size_min(step, size - at);
        size_t done = 0;
        uint8_t *copy = mem_new(piece);
        CHECK(copy != NULL);
        memcpy(copy, data + at, piece);
        at += piece;
        do {
            struct sse_event event = {0};
            size_t used = 0;
            e = sse_reader_next(&r, (struct bytes){copy + done, piece - done}, &used, &event);
            done += used;
            CHECK(done <= piece);
            if (e == ERR_OK)
                event_tell(&event, &story);
        } while (e == ERR_OK);
        CHECK(e == ERR_FULL || done == piece);
        mem_free(copy);
    }
    buf_u64(&story, (uint64_t)e);
    sse_reader_fini(&r);
    struct blob *told = buf_take(&story);
    CHECK(told != NULL);
    return told;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const size_t steps[] = {1, 2, 7};
    uint64_t used = mem_used_bytes();
    if (size > 4096)
        return 0;
    struct blob *once = stream_tell(data, size, size_max(size, 1));
    for (size_t i = 0; i < ARRAY_COUNT(steps); i++) {
        struct blob *pieces = stream_tell(data, size, steps[i]);
        CHECK(size == 0 || bytes_equal(blob_bytes(once), blob_bytes(pieces)));
        blob_unref(&pieces);
    }
    blob_unref(&once);
    CHECK(mem_used_bytes() == used);
    return 0;
}
