#include "codec/sse.h"

#include "base/mem.h"
#include "base/rng.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

/* Reads a stream in pieces of `step` bytes and writes each event down as "[type|data|id]"; '!' when
 * the reader gives up. Each piece stands in a block of exactly its size. */
static void stream_read(struct bytes stream, size_t step, size_t event_bytes_max, struct buf *story)
{
    struct sse_reader r;
    enum err e = ERR_AGAIN;
    sse_reader_init(&r, event_bytes_max);
    for (size_t at = 0; at < stream.count && e == ERR_AGAIN;) {
        size_t piece = size_min(step, stream.count - at);
        uint8_t *copy = mem_new(piece);
        assert_non_null(copy);
        memcpy(copy, stream.at + at, piece);
        at += piece;
        size_t done = 0;
        do {
            struct sse_event event = {0};
            size_t used = 0;
            e = sse_reader_next(&r, bytes_make(copy + done, piece - done), &used, &event);
            done += used;
            assert_true(done <= piece);
            if (e == ERR_OK) {
                buf_byte(story, '[');
                buf_bytes(story, event.type);
                buf_byte(story, '|');
                buf_bytes(story, event.data);
                buf_byte(story, '|');
                buf_bytes(story, event.id);
                buf_byte(story, ']');
            }
        } while (e == ERR_OK);
        assert_true(e != ERR_AGAIN || done == piece);
        mem_free(copy);
    }
    if (e == ERR_FULL) {
        struct sse_event event = {0};
        size_t used = 0;
        buf_byte(story, '!');
        assert_int_equal(sse_reader_next(&r, bytes_of("\n\n"), &used, &event), ERR_FULL);
        assert_int_equal(used, 0);
    }
    sse_reader_fini(&r);
}

static void check_story(struct bytes stream, size_t event_bytes_max, const char *wanted)
{
    static char room[1 << 14];
    uint64_t used = mem_used_bytes();
    for (size_t step = size_max(stream.count, 1); step > 0; step--) {
        struct buf story;
        buf_init_fixed(&story, room, sizeof(room));
        stream_read(stream, step, event_bytes_max, &story);
        if (!bytes_is(buf_view(&story), wanted))
            fail_msg("in steps of %zu: %.*s, not %s", step, (int)story.count, room, wanted);
        assert_int_equal(mem_used_bytes(), used);
    }
}

static void streams_are_read_at_every_cut(void **state)
{
    static const struct {
        const char *stream;
        const char *story;
    } cases[] = {
        {"", ""},
        {"data: hello\n\n", "[|hello|]"},
        {"data: a\r\n\r\ndata: b\r\rdata: c\n\n", "[|a|][|b|][|c|]"},
        {"data: a\r\n\ndata: b\n\r\n", "[|a|][|b|]"},
        {"\xef\xbb\xbf"
         "data: bom\n\ndata: x\n\n",
         "[|bom|][|x|]"},
        {"\xef\xbb"
         "data: half\n\n",
         ""},
        {"\xef\xbb\xbf\xef\xbb\xbf"
         "data: two\n\n",
         ""},
        {"data: x\n\n\xef\xbb\xbf"
         "data: y\n\n",
         "[|x|]"},
        {": comment\ndata: a\n:\n: x\n\n", "[|a|]"},
        {"data: one\ndata: two\ndata\n\n", "[|one\ntwo\n|]"},
        {"data\n\ndata\ndata\n\ndata:\n\n", "[||][|\n|][||]"},
        {"data:no space\n\ndata:  two\n\ndata:\tt\n\n", "[|no space|][| two|][|\tt|]"},
        {"event: e\ndata: a\n\ndata: b\n\n", "[e|a|][|b|]"},
        {"event: lost\n\ndata: b\n\n", "[|b|]"},
        {"event: x\nevent: y\ndata: a\n\n", "[y|a|]"},
        {"id: 1\ndata: a\n\ndata: b\n\nid\ndata: c\n\n", "[|a|1][|b|1][|c|]"},
        {"retry: 100\nunknown: x\nDATA: no\n data: no\ndata : no\ndata: a\n\n", "[|a|]"},
        {"data: {\"a\":\"b:c\"}\n\ndata: [DONE]\n\n", "[|{\"a\":\"b:c\"}|][|[DONE]|]"},
        {"data: unfinished\n", ""},
        {"data: unfinished", ""},
        {"\n\n\r\n\r\r\n\ndata: a\n\n\n\n\ndata: b\n\n", "[|a|][|b|]"},
        {"data: \xc3\xa9\xff\n\n", "[|\xc3\xa9\xff|]"},
    };
    (void)state;
    for (size_t i = 0; i < ARRAY_COUNT(cases); i++)
        check_story(bytes_of(cases[i].stream), 1000, cases[i].story);
}

static void a_nul_spoils_only_an_id(void **state)
{
    (void)state;
    static char room[64];
    struct buf story;
    buf_init_fixed(&story, room, sizeof(room));
    stream_read(bytes_make("id: a\0b\ndata: x\0y\n\n", 19), 3, 1000, &story);
    assert_true(bytes_equal(buf_view(&story), bytes_make("[|x\0y|]", 7)));
}

static void an_event_has_a_limit(void **state)
{
    (void)state;
    check_story(bytes_of("data: 1234567890\n\ndata: x\n\n"), 16, "[|1234567890|][|x|]");
    check_story(bytes_of("data: x\n\ndata: 12345678901 and more\n\n"), 16, "[|x|]!");
    check_story(bytes_of("data: 123\ndata: 123\ndata: 123\ndata: 123\n\n"), 16, "!");
    check_story(bytes_of(": a comment that is too long for it"), 16, "!");
    check_story(bytes_of("data: 12\n\ndata: 12\n\ndata: 12\n\ndata: 12\n\n"), 16,
                "[|12|][|12|][|12|][|12|]");
}

static void nothing_is_kept_between_events(void **state)
{
    (void)state;
    struct sse_reader r;
    struct sse_event event;
    size_t used = 0;
    uint64_t before = mem_used_bytes();
    sse_reader_init(&r, 1000);
    assert_int_equal(sse_reader_next(&r, bytes_of("event: a\ndata: 1\n\n"), &used, &event), ERR_OK);
    assert_int_equal(sse_reader_next(&r, bytes_make(NULL, 0), &used, &event), ERR_AGAIN);
    assert_int_equal(mem_used_bytes(), before);
    assert_int_equal(sse_reader_next(&r, bytes_of("data: cut"), &used, &event), ERR_AGAIN);
    assert_true(mem_used_bytes() > before);
    assert_int_equal(sse_reader_next(&r, bytes_of(" here\n\n"), &used, &event), ERR_OK);
    assert_true(bytes_is(event.data, "cut here"));
    sse_reader_fini(&r);
    assert_int_equal(mem_used_bytes(), before);
}

static void every_allocation_may_fail(void **state)
{
    (void)state;
    uint64_t used = mem_used_bytes();
    bool done = false;
    for (uint64_t n = 1; !done; n++) {
        struct sse_reader r;
        struct sse_event event;
        enum err e = ERR_AGAIN;
        struct bytes text = bytes_of("id: i\nevent: e\ndata: one\ndata: two\n\n");
        sse_reader_init(&r, 1000);
        mem_fail_at(n);
        for (size_t i = 0; i < text.count && e == ERR_AGAIN; i++) {
            size_t step = 0;
            e = sse_reader_next(&r, bytes_make(text.at + i, 1), &step, &event);
        }
        mem_fail_at(0);
        done = e == ERR_OK;
        assert_true(e == ERR_OK || e == ERR_FULL);
        if (done)
            assert_true(bytes_is(event.data, "one\ntwo") && bytes_is(event.type, "e") &&
                        bytes_is(event.id, "i"));
        sse_reader_fini(&r);
        assert_int_equal(mem_used_bytes(), used);
        assert_true(n < 40);
    }
}

static void random_streams_have_one_story(void **state)
{
    static const char *const parts[] = {"data: x",  "data",  "\n", "\n", "\r",   "\r\n",
                                        "event: e", "id: 7", ":",  "y",  "\n\n", "data:"};
    (void)state;
    struct rng r;
    rng_init(&r, 31);
    for (int round = 0; round < 2000; round++) {
        static char once_room[1 << 14];
        char room[300];
        struct buf stream;
        struct buf once;
        buf_init_fixed(&stream, room, sizeof(room));
        for (uint64_t i = rng_below(&r, 25); i > 0; i--)
            buf_text(&stream, parts[rng_below(&r, ARRAY_COUNT(parts))]);
        buf_init_fixed(&once, once_room, sizeof(once_room) - 1);
        stream_read(buf_view(&stream), size_max(stream.count, 1), 20, &once);
        once_room[once.count] = '\0';
        check_story(buf_view(&stream), 20, once_room);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(streams_are_read_at_every_cut),
        cmocka_unit_test(a_nul_spoils_only_an_id),
        cmocka_unit_test(an_event_has_a_limit),
        cmocka_unit_test(nothing_is_kept_between_events),
        cmocka_unit_test(every_allocation_may_fail),
        cmocka_unit_test(random_streams_have_one_story),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
