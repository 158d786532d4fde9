#include "codec/websocket.h"

#include "base/mem.h"
#include "base/rng.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <string.h>

#define MESSAGE_BYTES_MAX 70000u

/* A client's frame with all its freedoms: `first` is the whole first byte; `wide` is how many bytes
 * the length takes (0, 2, 8), right or wrong. */
struct frame {
    uint8_t first;
    size_t wide;
    struct bytes payload;
};

static const uint8_t test_mask[4] = {0x37, 0xfa, 0x21, 0x3d};

static void frame_put(struct buf *b, struct frame f)
{
    buf_byte(b, f.first);
    if (f.wide == 0)
        buf_byte(b, (uint8_t)(0x80 | f.payload.count));
    else
        buf_byte(b, f.wide == 2 ? 0x80 | 126 : 0x80 | 127);
    for (size_t i = 0; i < f.wide; i++)
        buf_byte(b, (uint8_t)(f.payload.count >> (8 * (f.wide - 1 - i))));
    buf_put(b, test_mask, 4);
    for (size_t i = 0; i < f.payload.count; i++)
        buf_byte(b, f.payload.at[i] ^ test_mask[i & 3]);
}

static void text_put(struct buf *b, uint8_t first, const char *payload)
{
    struct bytes p = bytes_of(payload);
    frame_put(b, (struct frame){first, p.count > 125 ? 2 : 0, p});
}

static void control_tell(const struct ws_step *s, struct buf *story)
{
    if (s->event == WS_EVENT_CLOSE) {
        buf_text(story, "<c");
        buf_u64(story, s->close_code);
        buf_byte(story, ':');
    } else {
        buf_text(story, s->event == WS_EVENT_PING ? "<p:" : "<o:");
    }
    buf_bytes(story, s->data);
    buf_byte(story, '>');
}

struct teller {
    struct ws_reader reader;
    struct buf message; /* what came of the message in progress */
    uint8_t room[1 << 17];
};

/* Takes all steps of one piece; true when the stream broke. */
static bool piece_tell(struct teller *t, uint8_t *at, size_t count, struct buf *story)
{
    struct ws_step s = {0};
    enum err e = ERR_OK;
    size_t used = 0;
    while (e == ERR_OK) {
        e = ws_reader_step(&t->reader, at + used, count - used, MESSAGE_BYTES_MAX, &s);
        if (e == ERR_PROTO) {
            buf_byte(story, '!');
            buf_u64(story, s.close_code);
            return true;
        }
        used += s.used;
        assert_true(used <= count);
        assert_int_equal(e == ERR_AGAIN, s.event == WS_EVENT_NONE);
        if (s.event == WS_EVENT_DATA || s.event == WS_EVENT_MESSAGE_END) {
            assert_true(s.data.count > 0 || s.event == WS_EVENT_MESSAGE_END);
            buf_bytes(&t->message, s.data);
            if (s.event == WS_EVENT_MESSAGE_END) {
                buf_text(story, s.opcode == WS_TEXT ? "T:" : "B:");
                buf_bytes(story, buf_view(&t->message));
                buf_byte(story, '|');
                t->message.count = 0;
            }
        } else if (s.event != WS_EVENT_NONE) {
            control_tell(&s, story);
        }
    }
    assert_int_equal(used, count);
    return false;
}

/* Reads a whole stream in pieces of `step` bytes and writes down what happened: "T:text|" or
 * "B:bytes|" for a message, "<p:..>" a ping, "<o:..>" a pong, "<c1000:reason>", "!1002" when it
 * breaks. Each piece stands in a block of exactly its size. */
static void stream_read(struct bytes stream, size_t step, struct buf *story)
{
    static struct teller t;
    bool is_broken = false;
    t.reader = (struct ws_reader){0};
    buf_init_fixed(&t.message, t.room, sizeof(t.room));
    for (size_t at = 0; at < stream.count && !is_broken;) {
        size_t piece = size_min(step, stream.count - at);
        uint8_t *copy = mem_new(piece);
        assert_non_null(copy);
        memcpy(copy, stream.at + at, piece);
        at += piece;
        is_broken = piece_tell(&t, copy, piece, story);
        mem_free(copy);
    }
    if (is_broken) {
        struct ws_step s = {0};
        uint8_t more[2] = {0x81, 0x80};
        assert_int_equal(ws_reader_step(&t.reader, more, 2, MESSAGE_BYTES_MAX, &s), ERR_PROTO);
    }
}

/* The story is `wanted` at every size of piece. */
static void check_story(struct bytes stream, const char *wanted)
{
    static uint8_t room[1 << 17];
    for (size_t step = size_max(stream.count, 1); step > 0; step--) {
        struct buf story;
        buf_init_fixed(&story, room, sizeof(room));
        stream_read(stream, step, &story);
        if (!bytes_is(buf_view(&story), wanted))
            fail_msg("in steps of %zu: %.*s, not %s", step, (int)story.count, (char *)room, wanted);
    }
}

struct script {
    struct buf b;
    uint8_t room[4096];
};

static struct script script;

static struct buf *begin(void)
{
    buf_init_fixed(&script.b, script.room, sizeof(script.room));
    return &script.b;
}

static void whole(const char *wanted)
{
    assert_false(script.b.failed);
    check_story(buf_view(&script.b), wanted);
}

static void messages_are_read(void **state)
{
    (void)state;
    struct buf *b = begin();
    text_put(b, 0x81, "Hello");
    text_put(b, 0x82, "\xff\xfe");
    text_put(b, 0x81, "");
    text_put(b, 0x82, "");
    text_put(b, 0x81, "h\xc3\xa9 \xf0\x9f\x98\x80");
    whole("T:Hello|B:\xff\xfe|T:|B:|T:h\xc3\xa9 \xf0\x9f\x98\x80|");
}

static void fragments_are_one_message_with_controls_between(void **state)
{
    (void)state;
    struct buf *b = begin();
    text_put(b, 0x01, "He");
    text_put(b, 0x89, "ping");
    text_put(b, 0x00, "");
    text_put(b, 0x00, "ll");
    text_put(b, 0x8a, "");
    text_put(b, 0x80, "o");
    text_put(b, 0x02, "");
    text_put(b, 0x80, "");
    whole("<p:ping><o:>T:Hello|B:|");
}

static void a_character_may_be_cut_by_fragments(void **state)
{
    (void)state;
    struct buf *b = begin();
    text_put(b, 0x01, "\xf0");
    text_put(b, 0x00, "\x9f\x98");
    text_put(b, 0x89, "x");
    text_put(b, 0x80, "\x80");
    whole("<p:x>T:\xf0\x9f\x98\x80|");
}

static void lengths_have_three_forms(void **state)
{
    (void)state;
    static uint8_t payload[65536];
    static uint8_t stream[70000];
    static const struct {
        size_t count;
        size_t wide;
    } cases[] = {{0, 0}, {125, 0}, {126, 2}, {65535, 2}, {65536, 8}};
    memset(payload, 'x', sizeof(payload));
    for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
        struct buf b;
        struct ws_head head = {0};
        uint16_t code = 0;
        buf_init_fixed(&b, stream, sizeof(stream));
        frame_put(&b, (struct frame){0x81, cases[i].wide, bytes_make(payload, cases[i].count)});
        for (size_t cut = 0; cut < 2 + cases[i].wide + 4; cut++)
            assert_int_equal(ws_head_decode(bytes_make(stream, cut), &head, &code), ERR_AGAIN);
        assert_int_equal(ws_head_decode(buf_view(&b), &head, &code), ERR_OK);
        assert_true(head.fin);
        assert_int_equal(head.opcode, WS_TEXT);
        assert_int_equal(head.length, cases[i].count);
        assert_int_equal(head.head_bytes, 2 + cases[i].wide + 4);
        assert_memory_equal(head.mask, test_mask, 4);
        for (size_t step = 1000; step < 70000; step += 17000) {
            static uint8_t room[70000];
            struct buf story;
            buf_init_fixed(&story, room, sizeof(room));
            stream_read(buf_view(&b), step, &story);
            assert_int_equal(story.count, cases[i].count + 3);
            assert_memory_equal(room + 2, payload, cases[i].count);
        }
    }
}

static void longer_forms_than_needed_are_refused(void **state)
{
    (void)state;
    static uint8_t payload[65536];
    static const struct {
        size_t count;
        size_t wide;
    } cases[] = {{0, 2}, {125, 2}, {0, 8}, {125, 8}, {126, 8}, {65535, 8}};
    for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
        struct buf *b = begin();
        frame_put(b, (struct frame){0x82, cases[i].wide, bytes_make(payload, 0)});
        for (size_t k = 0; k < cases[i].wide; k++)
            b->at[2 + k] = (uint8_t)(cases[i].count >> (8 * (cases[i].wide - 1 - k)));
        whole("!1002");
    }
    struct buf *b = begin();
    buf_put(b, "\x82\xff\x80\x00\x00\x00\x00\x00\x00\x00mask", 14);
    whole("!1002");
}

static void what_a_client_must_not_send_is_refused(void **state)
{
    (void)state;
    /* Every first byte: reserved bits, unknown opcodes, controls in parts, a lone continuation. */
    for (unsigned first = 0; first < 256; first++) {
        struct buf *b = begin();
        unsigned opcode = first & 15;
        bool is_control = opcode >= 8;
        bool is_ok = (first & 0x70) == 0 &&
                     (opcode == 1 || opcode == 2 || (opcode >= 8 && opcode <= 10)) &&
                     (!is_control || (first & 0x80) != 0);
        text_put(b, (uint8_t)first, "");
        struct ws_reader r = {0};
        struct ws_step s = {0};
        enum err e = ws_reader_step(&r, b->at, b->count, MESSAGE_BYTES_MAX, &s);
        assert_int_equal(e == ERR_PROTO, !is_ok);
        if (!is_ok)
            whole("!1002");
    }
    struct buf *b = begin();
    buf_put(b, "\x81\x05Hello", 7); /* without a mask */
    whole("!1002");
    b = begin();
    text_put(b, 0x01, "a");
    text_put(b, 0x81, "b"); /* a new message inside another */
    whole("!1002");
    b = begin();
    text_put(b, 0x81, "a");
    text_put(b, 0x80, "b"); /* nothing to continue */
    whole("T:a|!1002");
    char payload[127] = {0};
    memset(payload, 'p', 126);
    b = begin();
    frame_put(b, (struct frame){0x89, 2, bytes_make(payload, 126)});
    whole("!1002");
    b = begin();
    frame_put(b, (struct frame){0x89, 0, bytes_make(payload, 125)});
    struct ws_reader r = {0};
    struct ws_step s = {0};
    assert_int_equal(ws_reader_step(&r, b->at, b->count, MESSAGE_BYTES_MAX, &s), ERR_OK);
    assert_int_equal(s.event, WS_EVENT_PING);
    assert_int_equal(s.data.count, 125);
}

static void close_codes_are_judged(void **state)
{
    (void)state;
    for (unsigned code = 0; code < 65536; code += code < 5100 ? 1 : 977) {
        uint8_t payload[2] = {(uint8_t)(code >> 8), (uint8_t)code};
        bool is_ok = (code >= 1000 && code <= 1003) || (code >= 1007 && code <= 1014) ||
                     (code >= 3000 && code <= 4999);
        struct buf *b = begin();
        struct ws_reader r = {0};
        struct ws_step s = {0};
        frame_put(b, (struct frame){0x88, 0, bytes_make(payload, 2)});
        enum err e = ws_reader_step(&r, b->at, b->count, MESSAGE_BYTES_MAX, &s);
        assert_int_equal(e, is_ok ? ERR_OK : ERR_PROTO);
        assert_int_equal(s.close_code, is_ok ? code : 1002);
    }
}

static void closing_ends_the_stream(void **state)
{
    (void)state;
    struct buf *b = begin();
    text_put(b, 0x01, "part");
    text_put(b, 0x88,
             "\x03\xe8"
             "bye \xe2\x82\xac");
    text_put(b, 0x81, "ignored");
    buf_put(b, "\xff\xff\xff\xff garbage", 12);
    whole("<c1000:bye \xe2\x82\xac>");
    b = begin();
    frame_put(b, (struct frame){0x88, 0, bytes_make(NULL, 0)});
    whole("<c1005:>");
    b = begin();
    frame_put(b, (struct frame){0x88, 0, bytes_of("\x03")});
    whole("!1002");
}

static void a_close_reason_is_utf8(void **state)
{
    (void)state;
    struct buf *b = begin();
    text_put(b, 0x88, "\x03\xe8 ok \xc3\xa9");
    whole("<c1000: ok \xc3\xa9>");
    b = begin();
    text_put(b, 0x88, "\x03\xe8 cut \xc3");
    whole("!1007");
    b = begin();
    text_put(b, 0x88, "\x03\xe8\xc0\xaf");
    whole("!1007");
    /* The open character of an unfinished message has nothing to do with the reason. */
    b = begin();
    text_put(b, 0x01, "\xf0\x9f");
    text_put(b, 0x88,
             "\x03\xe8"
             "fine");
    whole("<c1000:fine>");
}

/* How many bytes of the stream are needed for the verdict. */
static size_t verdict_at(uint16_t *code_out)
{
    struct ws_reader r = {0};
    struct ws_step s = {0};
    for (size_t i = 0; i < script.b.count; i++) {
        enum err e = ERR_OK;
        size_t used = 0;
        while (e == ERR_OK) {
            e = ws_reader_step(&r, script.b.at + i + used, 1 - used, MESSAGE_BYTES_MAX, &s);
            used += s.used;
        }
        if (e == ERR_PROTO) {
            *code_out = s.close_code;
            return i + 1;
        }
    }
    return 0;
}

static void bad_utf8_is_told_at_its_first_byte(void **state)
{
    (void)state;
    uint16_t code = 0;
    struct buf *b = begin();
    text_put(b, 0x81, "good \xc3\xa9 then \xed\xa0\x80 and more");
    assert_int_equal(verdict_at(&code), 6 + 15);
    assert_int_equal(code, 1007);
    b = begin();
    text_put(b, 0x01, "good \xf4");
    text_put(b, 0x00, "\x90\x80\x80 more");
    assert_int_equal(verdict_at(&code), 12 + 6 + 1);
    assert_int_equal(code, 1007);
    b = begin();
    text_put(b, 0x88, "\x03\xe8 bad \xff and more");
    assert_int_equal(verdict_at(&code), 6 + 2 + 6);
    assert_int_equal(code, 1007);
    b = begin();
    text_put(b, 0x88, "\x03\xed never to be sent");
    assert_int_equal(verdict_at(&code), 6 + 2);
    assert_int_equal(code, 1002);
    b = begin();
    text_put(b, 0x81, "ends too soon \xe2\x82");
    whole("!1007");
}

static void sizes_are_judged_at_the_head(void **state)
{
    (void)state;
    struct ws_reader r = {0};
    struct ws_step s = {0};
    uint8_t head[] = {0x81, 0xfe, 0x03, 0xe9, 1, 2, 3, 4}; /* 1001 bytes */
    assert_int_equal(ws_reader_step(&r, head, sizeof(head), 1000, &s), ERR_PROTO);
    assert_int_equal(s.close_code, 1009);
    r = (struct ws_reader){0};
    assert_int_equal(ws_reader_step(&r, head, sizeof(head), 1001, &s), ERR_AGAIN);
    assert_int_equal(s.used, sizeof(head));
    r = (struct ws_reader){0};
    struct buf *b = begin();
    text_put(b, 0x01, "123456");
    text_put(b, 0x00, "7890");
    text_put(b, 0x80, "1");
    size_t used = 0;
    enum err e = ERR_OK;
    size_t bytes = 0;
    while (e == ERR_OK) {
        e = ws_reader_step(&r, b->at + used, b->count - used, 10, &s);
        used += s.used;
        bytes += s.data.count;
    }
    assert_int_equal(e, ERR_PROTO);
    assert_int_equal(s.close_code, 1009);
    assert_int_equal(bytes, 10);
    uint8_t huge[] = {0x82, 0xff, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1, 2, 3, 4};
    r = (struct ws_reader){.in_message = false};
    assert_int_equal(ws_reader_step(&r, huge, sizeof(huge), UINT64_MAX, &s), ERR_AGAIN);
    r = (struct ws_reader){
        .in_message = true, .message_opcode = WS_BINARY, .message_bytes = UINT64_MAX - 5};
    huge[0] = 0x80;
    assert_int_equal(ws_reader_step(&r, huge, sizeof(huge), UINT64_MAX, &s), ERR_PROTO);
    assert_int_equal(s.close_code, 1009);
}

static void unmasking_is_exclusive_or_at_any_phase_and_place(void **state)
{
    (void)state;
    uint8_t plain[200];
    uint8_t bytes[200];
    struct rng r;
    rng_init(&r, 8);
    rng_fill(&r, plain, sizeof(plain));
    for (size_t from = 0; from < 9; from++) {
        for (size_t count = 0; count < 150; count++) {
            size_t phase = (from * 3 + count) & 7;
            memcpy(bytes, plain, sizeof(bytes));
            ws_unmask(bytes + from, count, test_mask, phase);
            for (size_t i = 0; i < sizeof(bytes); i++) {
                bool inside = i >= from && i < from + count;
                uint8_t key = inside ? test_mask[(i - from + phase) & 3] : 0;
                assert_int_equal(bytes[i], plain[i] ^ key);
            }
        }
    }
}

static void heads_are_written_and_read_back(void **state)
{
    (void)state;
    static const uint64_t lengths[] = {0, 1, 125, 126, 65535, 65536, 1u << 31, INT64_MAX};
    for (size_t i = 0; i < ARRAY_COUNT(lengths); i++) {
        uint8_t bytes[WS_SERVER_HEAD_BYTES_MAX + 4];
        struct ws_head head = {0};
        uint16_t code = 0;
        size_t count = ws_head_encode(bytes, WS_BINARY, lengths[i]);
        assert_int_equal(bytes[1] & 0x80, 0);
        bytes[1] |= 0x80; /* as if a client had sent it */
        memcpy(bytes + count, test_mask, 4);
        assert_int_equal(ws_head_decode(bytes_make(bytes, count + 4), &head, &code), ERR_OK);
        assert_true(head.length == lengths[i]);
        assert_int_equal(head.opcode, WS_BINARY);
        assert_true(head.fin);
    }
}

static void close_frames_are_written(void **state)
{
    (void)state;
    char room[200];
    char reason[201];
    struct buf b;
    buf_init_fixed(&b, room, sizeof(room));
    ws_close_encode(&b, 3500, bytes_of("invalid token"));
    assert_true(bytes_is(buf_view(&b), "\x88\x0f\x0d\xacinvalid token"));
    buf_init_fixed(&b, room, sizeof(room));
    ws_close_encode(&b, 1005, bytes_of("never seen"));
    assert_true(bytes_equal(buf_view(&b), bytes_make("\x88\x00", 2)));
    memset(reason, 'x', sizeof(reason));
    memcpy(reason + 121, "\xe2\x82\xac", 3);
    buf_init_fixed(&b, room, sizeof(room));
    ws_close_encode(&b, 1000, bytes_make(reason, 200));
    assert_int_equal(b.count, 2 + 2 + 121);
    assert_int_equal(b.at[1], 123);
    buf_init_fixed(&b, room, 10);
    ws_close_encode(&b, 1000, bytes_of("too long for it"));
    assert_true(b.failed);
    assert_int_equal(b.count, 0);
}

static void the_accept_value_is_that_of_the_rfc(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "",
        "dGhlIHNhbXBsZSBub25jZQ=",
        "dGhlIHNhbXBsZSBub25jZQ",
        "dGhlIHNhbXBsZSBub25jZQ==x",
        "dGhlIHNhbXBsZSBub25jZSEh",
        "dGhlIHNhbXBsZSBub25jZ!==",
        "dGhlIHNhbXBsZSBub25j ZQ==",
        "dGhlIHNhbXBsZSBub24=",
    };
    char out[29] = "untouched";
    for (size_t i = 0; i < ARRAY_COUNT(bad); i++)
        assert_int_equal(ws_accept_make(bytes_of(bad[i]), out), ERR_PROTO);
    assert_string_equal(out, "untouched");
    assert_int_equal(ws_accept_make(bytes_of("dGhlIHNhbXBsZSBub25jZQ=="), out), ERR_OK);
    assert_string_equal(out, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
}

/* Frames of all kinds, some of them wrong: the story is the same at every size of piece. */
static void random_streams_have_one_story(void **state)
{
    (void)state;
    static const uint8_t firsts[] = {0x81, 0x82, 0x01, 0x02, 0x00, 0x80,
                                     0x89, 0x8a, 0x88, 0xc1, 0x83};
    static const char *const payloads[] = {
        "",
        "a",
        "abc",
        "\xc3\xa9",
        "\xc3",
        "\xf0\x9f",
        "\x98\x80",
        "\x03\xe8",
        "\x03\xe8why",
        "\xff",
        "a payload that is longer than a head is",
    };
    struct rng r;
    rng_init(&r, 77);
    for (int round = 0; round < 1500; round++) {
        static uint8_t once_room[4096];
        struct buf *b = begin();
        struct buf once;
        uint64_t frames = 1 + rng_below(&r, 6);
        for (uint64_t i = 0; i < frames; i++) {
            /* The first six first bytes are data; the wrong ones are rare. */
            uint64_t kind = rng_below(&r, rng_below(&r, 8) == 0 ? ARRAY_COUNT(firsts) : 8);
            uint64_t what = rng_below(&r, ARRAY_COUNT(payloads));
            text_put(b, firsts[kind], payloads[what]);
        }
        buf_init_fixed(&once, once_room, sizeof(once_room) - 1);
        stream_read(buf_view(b), b->count, &once);
        once_room[once.count] = '\0';
        whole((const char *)once_room);
    }
}

static void a_reader_is_small(void **state)
{
    (void)state;
    assert_true(sizeof(struct ws_reader) <= 192);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(messages_are_read),
        cmocka_unit_test(fragments_are_one_message_with_controls_between),
        cmocka_unit_test(a_character_may_be_cut_by_fragments),
        cmocka_unit_test(lengths_have_three_forms),
        cmocka_unit_test(longer_forms_than_needed_are_refused),
        cmocka_unit_test(what_a_client_must_not_send_is_refused),
        cmocka_unit_test(close_codes_are_judged),
        cmocka_unit_test(closing_ends_the_stream),
        cmocka_unit_test(a_close_reason_is_utf8),
        cmocka_unit_test(bad_utf8_is_told_at_its_first_byte),
        cmocka_unit_test(sizes_are_judged_at_the_head),
        cmocka_unit_test(unmasking_is_exclusive_or_at_any_phase_and_place),
        cmocka_unit_test(heads_are_written_and_read_back),
        cmocka_unit_test(close_frames_are_written),
        cmocka_unit_test(the_accept_value_is_that_of_the_rfc),
        cmocka_unit_test(random_streams_have_one_story),
        cmocka_unit_test(a_reader_is_small),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
