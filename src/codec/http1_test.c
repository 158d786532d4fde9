#include "codec/http1.h"

#include "base/mem.h"
#include "base/rng.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#define HEAD "GET / HTTP/1.1\r\nHost: a\r\n"

static struct http1_request request;

static enum err decode(struct bytes input, uint16_t *status)
{
    *status = 0;
    return http1_request_decode(input, &request, status);
}

static const struct http1_request *decoded(const char *text)
{
    uint16_t status = 0;
    if (decode(bytes_of(text), &status) != ERR_OK)
        fail_msg("%d: %s", status, text);
    return &request;
}

/* The verdict comes at some byte and stays whatever follows. Each prefix stands in a block of
 * exactly its size, so that AddressSanitizer sees a step too far. */
static void check_every_cut(struct bytes text, enum err wanted, uint16_t wanted_status)
{
    bool is_decided = false;
    for (size_t cut = 0; cut <= text.count; cut++) {
        uint16_t status = 0;
        uint8_t *copy = mem_new(cut);
        assert_non_null(copy);
        if (cut > 0)
            memcpy(copy, text.at, cut);
        enum err e = decode(bytes_make(copy, cut), &status);
        mem_free(copy);
        if (e == ERR_AGAIN && !is_decided)
            continue;
        is_decided = true;
        if (e != wanted || status != wanted_status)
            fail_msg("cut %zu of %.*s: %s %d", cut, (int)text.count, (const char *)text.at,
                     err_name(e), status);
    }
    if (is_decided != (wanted != ERR_AGAIN))
        fail_msg("undecided: %.*s", (int)text.count, (const char *)text.at);
}

static void a_plain_request_is_read(void **state)
{
    (void)state;
    const struct http1_request *r = decoded("GET /a/b?x=1&y=%20 HTTP/1.1\r\n"
                                            "Host: example.org:8080\r\n"
                                            "X-Odd:\t two words \t\r\n"
                                            "Empty:\r\n"
                                            "\r\nbody");
    assert_true(bytes_is(r->method, "GET"));
    assert_true(bytes_is(r->target, "/a/b?x=1&y=%20"));
    assert_true(bytes_is(r->path, "/a/b"));
    assert_true(bytes_is(r->query, "x=1&y=%20"));
    assert_true(bytes_is(r->host, "example.org:8080"));
    assert_int_equal(r->minor, 1);
    assert_true(r->keep_alive);
    assert_false(r->chunked);
    assert_false(r->has_length);
    assert_false(r->upgrade_websocket);
    assert_int_equal(r->headers_count, 3);
    assert_true(bytes_is(r->headers[1].name, "X-Odd"));
    assert_true(bytes_is(http1_header_get(r, "x-oDD"), "two words"));
    assert_non_null(http1_header_get(r, "empty").at);
    assert_int_equal(http1_header_get(r, "empty").count, 0);
    assert_null(http1_header_get(r, "absent").at);
    assert_true(bytes_is(bytes_make(r->method.at + r->head_bytes, 4), "body"));
    r = decoded(HEAD "AZ: v\r\n\r\n");
    assert_true(bytes_is(http1_header_get(r, "az"), "v"));
}

static void bodies_have_a_length_or_chunks(void **state)
{
    (void)state;
    const struct http1_request *r = decoded("POST / HTTP/1.1\r\nHost: a\r\n"
                                            "content-LENGTH: 0042\r\n\r\n");
    assert_true(r->has_length);
    assert_int_equal(r->length, 42);
    r = decoded("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: CHUNKED\r\n\r\n");
    assert_true(r->chunked);
    assert_false(r->has_length);
    r = decoded("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9223372036854775799\r\n\r\n");
    assert_int_equal(r->length, INT64_C(9223372036854775799));
    r = decoded("POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-Continue\r\nContent-Length: 1\r\n\r\n");
    assert_true(r->expect_continue);
}

static void keep_alive_follows_version_and_connection(void **state)
{
    (void)state;
    assert_false(decoded("GET / HTTP/1.0\r\n\r\n")->keep_alive);
    assert_true(decoded("GET / HTTP/1.0\r\nConnection: x, Keep-Alive\r\n\r\n")->keep_alive);
    assert_true(decoded("GET / HTTP/1.1\r\nHost:\r\n\r\n")->keep_alive);
    assert_false(decoded("GET / HTTP/1.1\r\nHost:\r\nConnection: CLOSE\r\n\r\n")->keep_alive);
    assert_false(decoded("GET / HTTP/1.1\r\nHost:\r\nConnection: keep-alive\r\n"
                         "Connection: a ,close\r\n\r\n")
                     ->keep_alive);
    assert_true(decoded("GET / HTTP/1.1\r\nHost:\r\nConnection: closed\r\n\r\n")->keep_alive);
    assert_int_equal(decoded("GET / HTTP/1.7\r\nHost:\r\n\r\n")->minor, 7);
}

static void an_upgrade_needs_both_headers(void **state)
{
    (void)state;
    assert_true(decoded("GET /ws HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, Upgrade\r\n"
                        "Upgrade: WebSocket\r\n\r\n")
                    ->upgrade_websocket);
    assert_false(
        decoded("GET /ws HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\n\r\n")->upgrade_websocket);
    assert_false(decoded("GET /ws HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\n"
                         "Upgrade: h2c\r\n\r\n")
                     ->upgrade_websocket);
    assert_false(decoded("GET /ws HTTP/1.0\r\nHost: a\r\nConnection: upgrade\r\n"
                         "Upgrade: websocket\r\n\r\n")
                     ->upgrade_websocket);
}

static void targets_have_four_forms_and_we_answer_three(void **state)
{
    (void)state;
    const struct http1_request *r = decoded("GET http://real.org/p?q HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_true(bytes_is(r->path, "/p"));
    assert_true(bytes_is(r->query, "q"));
    assert_true(bytes_is(r->host, "real.org"));
    r = decoded("GET HTTPS://real.org:1?q HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_true(bytes_is(r->path, "/"));
    assert_true(bytes_is(r->query, "q"));
    assert_true(bytes_is(r->host, "real.org:1"));
    r = decoded("GET http://[::1]:80 HTTP/1.0\r\n\r\n");
    assert_true(bytes_is(r->host, "[::1]:80"));
    assert_true(bytes_is(r->path, "/"));
    r = decoded("OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_true(bytes_is(r->path, "*"));
    r = decoded("GET /? HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_true(bytes_is(r->path, "/"));
    assert_non_null(r->query.at);
    assert_int_equal(r->query.count, 0);
}

static void empty_lines_before_a_request_belong_to_it(void **state)
{
    (void)state;
    const struct http1_request *r = decoded("\r\n\r\nGET / HTTP/1.1\r\nHost: x\r\n\r\nGET");
    assert_int_equal(r->head_bytes, 4 + 16 + 9 + 2);
}

static const char *const good[] = {
    "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET / HTTP/1.0\r\n\r\n",
    "M-SEARCH!#$%&'*+.^_`|~ /x HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET /\"<>\\^`{|} HTTP/1.1\r\nHost: a\r\n\r\n",
    "\r\nGET / HTTP/1.1\r\nHost: [fe80::1]\r\n\r\n",
    HEAD "A: \x80\xff obs-text\r\n\r\n",
    HEAD "A: a\tb\r\nA: c\r\n\r\n",
    HEAD "Content-Length: 0\r\n\r\n",
    HEAD "Transfer-Encoding: chunked\r\n\r\n",
    HEAD "Expect: 100-continue\r\n\r\n",
    "GET / HTTP/1.0\r\nExpect: something\r\n\r\n",
};

/* What two servers in a row could understand differently, or what no client of ours sends. */
static const struct {
    uint16_t status;
    const char *text;
} refused[] = {
    {400, "\n"},
    {400, "\nGET / HTTP/1.1\r\n"},
    {400, "\r\r\nGET"},
    {400, " GET / HTTP/1.1\r\n"},
    {400, "GET\t/ HTTP/1.1\r\n"},
    {400, "GET  / HTTP/1.1\r\n"},
    {400, "GET /  HTTP/1.1\r\n"},
    {400, "GET / HTTP/1.1 \r\n"},
    {400, "GET /\r\n\r\n"},
    {400, "GET / http/1.1\r\n"},
    {400, "GET / HTTP/11\r\n"},
    {400, "GET / HTTP/1.1\nHost: a\n\n"},
    {400, "GET / HTTP/1.1\rHost: a\r\r"},
    {400, "G\x80T / HTTP/1.1\r\n"},
    {400, "GET /a\x80 HTTP/1.1\r\n"},
    {400, "GET /a\x01 HTTP/1.1\r\n"},
    {400, "GET /a\x7f HTTP/1.1\r\n"},
    {400, "GET /a#b HTTP/1.1\r\n"},
    {400, "\x16\x03\x01\x02"},
    {501, "AMETHODTHATISMUCHLONGERTHANANYMETHODIS"},
    {501, "CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n"},
    {505, "GET / HTTP/2.0\r\n"},
    {505, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"},
    {505, "GET / HTTP/0.9\r\n"},
    {400, "GET a HTTP/1.1\r\nHost: a\r\n\r\n"},
    {400, "GET a:80 HTTP/1.1\r\nHost: a\r\n\r\n"},
    {400, "GET * HTTP/1.1\r\nHost: a\r\n\r\n"},
    {400, "GET ftp://a/ HTTP/1.1\r\nHost: a\r\n\r\n"},
    {400, "GET http:///x HTTP/1.1\r\nHost: a\r\n\r\n"},
    {400, "GET http://u@a/x HTTP/1.1\r\nHost: a\r\n\r\n"},
    {400, "GET / HTTP/1.1\r\n\r\n"},
    {400, "GET / HTTP/1.1\r\nHost : a\r\n\r\n"},
    {400, HEAD "Host: a\r\n\r\n"},
    {400, HEAD "Host: b\r\n\r\n"},
    {400, "GET http://a/ HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n"},
    {400, "GET / HTTP/1.0\r\nHost: a\r\nHost: a\r\n\r\n"},
    {400, "GET / HTTP/1.1\r\nHost: a, b\r\n\r\n"},
    {400, "GET / HTTP/1.1\r\nHost: a,b\r\n\r\n"},
    {400, "GET / HTTP/1.1\r\nHost: a/b\r\n\r\n"},
    {400, "GET / HTTP/1.1\r\nHost: u@a\r\n\r\n"},
    {400, "GET / HTTP/1.1\r\nHost: a:b\r\n\r\n"},
    {400, "GET / HTTP/1.1\r\nHost: a:1:2\r\n\r\n"},
    {400, "GET / HTTP/1.1\r\nHost: :80\r\n\r\n"},
    {400, "GET / HTTP/1.1\r\nHost: [::1\r\n\r\n"},
    {400, "GET / HTTP/1.1\r\nHost: [::1]x\r\n\r\n"},
    {400, "GET / HTTP/1.1\r\nHost: \x80\r\n\r\n"},
    {400, "GET / HTTP/1.1\r\n Host: a\r\n\r\n"},
    {400, HEAD " folded: line\r\n\r\n"},
    {400, HEAD "A: b\r\n\tfolded\r\n\r\n"},
    {400, HEAD "A: b\n\r\n"},
    {400, HEAD "A: b\rC: d\r\n\r\n"},
    {400, HEAD "A: b\x0b\r\n\r\n"},
    {400, HEAD "A: b\x7f\r\n\r\n"},
    {400, HEAD "A B: c\r\n\r\n"},
    {400, HEAD "A\r\n\r\n"},
    {400, HEAD ": c\r\n\r\n"},
    {400, HEAD "A\x80: c\r\n\r\n"},
    {400, HEAD "\r\r\n"},
    {400, HEAD "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n"},
    {400, HEAD "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n"},
    {400, HEAD "Content-Length: 5\r\nContent-Length: 6\r\n\r\n"},
    {400, HEAD "Content-Length: 5\r\nContent-Length: 5\r\n\r\n"},
    {400, HEAD "Content-Length: 5, 5\r\n\r\n"},
    {400, HEAD "Content-Length: +5\r\n\r\n"},
    {400, HEAD "Content-Length: -5\r\n\r\n"},
    {400, HEAD "Content-Length: 5 5\r\n\r\n"},
    {400, HEAD "Content-Length: 0x5\r\n\r\n"},
    {400, HEAD "Content-Length: 5a\r\n\r\n"},
    {400, HEAD "Content-Length:\r\n\r\n"},
    {400, HEAD "Content-Length: 18446744073709551617\r\n\r\n"},
    {400, HEAD "Content-Length: 9223372036854775808\r\n\r\n"},
    {400, HEAD "Content-Length : 5\r\n\r\n"},
    {400, HEAD "Transfer-Encoding : chunked\r\n\r\n"},
    {400, HEAD "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n"},
    {400, HEAD "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n"},
    {501, HEAD "Transfer-Encoding: chunked, chunked\r\n\r\n"},
    {501, HEAD "Transfer-Encoding: gzip, chunked\r\n\r\n"},
    {501, HEAD "Transfer-Encoding: identity\r\n\r\n"},
    {501, HEAD "Transfer-Encoding: xchunked\r\n\r\n"},
    {501, HEAD "Transfer-Encoding: \"chunked\"\r\n\r\n"},
    {501, HEAD "Transfer-Encoding:\r\n\r\n"},
    {400, HEAD "Transfer-Encoding: \vchunked\r\n\r\n"},
    {400, "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n"},
    {417, HEAD "Expect: 200-ok\r\n\r\n"},
};

static void good_heads_are_read_at_every_cut(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_COUNT(good); i++)
        check_every_cut(bytes_of(good[i]), ERR_OK, 0);
}

static void bad_heads_are_refused_at_every_cut(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_COUNT(refused); i++)
        check_every_cut(bytes_of(refused[i].text), ERR_PROTO, refused[i].status);
    check_every_cut(bytes_make("GET /\0 HTTP/1.1", 15), ERR_PROTO, 400);
    check_every_cut(bytes_make("GE\0T / HTTP/1.1", 15), ERR_PROTO, 400);
    check_every_cut(bytes_make("GET / HTTP/1.1\r\nHost: a\0\r\n\r\n", 29), ERR_PROTO, 400);
    check_every_cut(bytes_make("GET / HTTP/1.1\r\nHo\0st: a\r\n\r\n", 29), ERR_PROTO, 400);
}

static uint8_t big[HTTP1_HEAD_BYTES_MAX + 100];

/* A head whose one header is so long that the head has `bytes` bytes. */
static struct bytes head_of(size_t bytes)
{
    memset(big, 'x', sizeof(big));
    memcpy(big, HEAD "Long: ", sizeof(HEAD "Long: ") - 1);
    memcpy(big + bytes - 4, "\r\n\r\n", 4);
    return bytes_make(big, bytes);
}

static void the_head_has_a_limit(void **state)
{
    (void)state;
    uint16_t status = 0;
    assert_int_equal(decode(head_of(HTTP1_HEAD_BYTES_MAX), &status), ERR_OK);
    assert_int_equal(request.head_bytes, HTTP1_HEAD_BYTES_MAX);
    assert_int_equal(decode(head_of(HTTP1_HEAD_BYTES_MAX + 1), &status), ERR_PROTO);
    assert_int_equal(status, 431);
    assert_int_equal(decode(bytes_make(big, HTTP1_HEAD_BYTES_MAX), &status), ERR_PROTO);
    assert_int_equal(status, 431);
    assert_int_equal(decode(bytes_make(big, HTTP1_HEAD_BYTES_MAX - 1), &status), ERR_AGAIN);
}

static void the_target_has_a_limit(void **state)
{
    (void)state;
    static const char tail[] = " HTTP/1.1\r\nHost: a\r\n\r\n";
    uint16_t status = 0;
    for (size_t more = 0; more < 2; more++) {
        size_t count = HTTP1_TARGET_BYTES_MAX + more;
        memcpy(big, "GET /", 5);
        memset(big + 5, 'x', count - 1);
        memcpy(big + 4 + count, tail, sizeof(tail) - 1);
        enum err e = decode(bytes_make(big, 4 + count + sizeof(tail) - 1), &status);
        assert_int_equal(e, more == 0 ? ERR_OK : ERR_PROTO);
        assert_int_equal(status, more == 0 ? 0 : 414);
        /* The same without the tail: the verdict does not wait for it. */
        e = decode(bytes_make(big, 4 + count), &status);
        assert_int_equal(e, more == 0 ? ERR_AGAIN : ERR_PROTO);
    }
}

static void headers_have_a_number(void **state)
{
    (void)state;
    uint16_t status = 0;
    for (size_t more = 0; more < 2; more++) {
        struct buf b;
        buf_init_fixed(&b, big, sizeof(big));
        buf_text(&b, HEAD);
        for (size_t i = 1; i < HTTP1_HEADERS_MAX + more; i++)
            buf_text(&b, "A: b\r\n");
        buf_text(&b, "\r\n");
        enum err e = decode(buf_view(&b), &status);
        assert_int_equal(e, more == 0 ? ERR_OK : ERR_PROTO);
        assert_int_equal(status, more == 0 ? 0 : 431);
    }
}

static void lists_are_searched_by_token(void **state)
{
    (void)state;
    const struct http1_request *r = decoded(HEAD "L: a ,\tB,, c d\r\nl: e\r\n\r\n");
    assert_true(http1_header_has(r, "l", "a"));
    assert_true(http1_header_has(r, "L", "b"));
    assert_true(http1_header_has(r, "L", "C D"));
    assert_true(http1_header_has(r, "L", "e"));
    assert_false(http1_header_has(r, "L", "c"));
    assert_false(http1_header_has(r, "M", "a"));
}

/* The body that comes out of `text` when it is fed in pieces of `step` bytes. */
static enum err unchunk(struct bytes text, size_t step, struct buf *body, size_t *used_out)
{
    struct http1_chunked c = {0};
    enum err e = ERR_AGAIN;
    size_t at = 0;
    while (at < text.count && e == ERR_AGAIN) {
        size_t end = size_min(at + step, text.count);
        while (at < end && e == ERR_AGAIN) {
            size_t used = 0;
            struct bytes data = {NULL, 0};
            e = http1_chunked_feed(&c, bytes_make(text.at + at, end - at), &used, &data);
            assert_true(used > 0 && used <= end - at);
            buf_bytes(body, data);
            at += used;
        }
    }
    if (e != ERR_AGAIN) {
        size_t used = 9;
        struct bytes data = {NULL, 7};
        assert_int_equal(http1_chunked_feed(&c, bytes_of("more"), &used, &data), e);
        assert_int_equal(used, 0);
        assert_int_equal(data.count, 0);
    }
    *used_out = at;
    return e;
}

static const struct {
    enum err wanted;
    const char *text;
    const char *body;
} chunked[] = {
    {ERR_OK, "0\r\n\r\n", ""},
    {ERR_OK, "5\r\nhello\r\n0\r\n\r\n", "hello"},
    {ERR_OK, "1\r\na\r\nA\r\n0123456789\r\n0a\r\n\r\n\r\n\r\n\r\n\r\n\r\n000\r\n\r\n",
     "a0123456789\r\n\r\n\r\n\r\n\r\n"},
    {ERR_OK, "3;ext=\"v w\"\r\nabc\r\n0;last\r\nT: v\r\nU:\r\n\r\n", "abc"},
    {ERR_OK, "3 \t;x\r\nabc\r\n0\r\n\r\n", "abc"},
    {ERR_AGAIN, "5\r\nhel", "hel"},
    {ERR_AGAIN, "5\r\nhello\r\n0\r\n", "hello"},
    {ERR_PROTO, "\r\n", ""},
    {ERR_PROTO, "g\r\n", ""},
    {ERR_PROTO, " 5\r\nhello\r\n", ""},
    {ERR_PROTO, "+5\r\nhello\r\n", ""},
    {ERR_PROTO, "0x5\r\nhello\r\n", ""},
    {ERR_PROTO, "5 \r\nhello\r\n", ""},
    {ERR_PROTO, "5 5\r\nhello\r\n", ""},
    {ERR_PROTO, "5\nhello\r\n", ""},
    {ERR_PROTO, "5\r\rhello", ""},
    {ERR_PROTO, ";x\r\n", ""},
    {ERR_PROTO, "5;a\nb\r\nhello", ""},
    {ERR_PROTO, "5;a\x01\r\nhello", ""},
    {ERR_PROTO, "5\r\nhelloX", "hello"},
    {ERR_PROTO, "5\r\nhello\n0\r\n\r\n", "hello"},
    {ERR_PROTO, "5\r\nhello\r0\r\n\r\n", "hello"},
    {ERR_PROTO, "0\r\n\n", ""},
    {ERR_PROTO, "0\r\n T: v\r\n\r\n", ""},
    {ERR_PROTO, "0\r\nT\r\n\r\n", ""},
    {ERR_PROTO, "0\r\nT : v\r\n\r\n", ""},
    {ERR_PROTO, "0\r\n: v\r\n\r\n", ""},
    {ERR_PROTO, "0\r\nT: v\x7f\r\n\r\n", ""},
    {ERR_PROTO, "0\r\nT: v\r\r\n\r\n", ""},
    {ERR_PROTO, "0\r\n\r\r", ""},
    {ERR_PROTO, "8000000000000000\r\n", ""},
    {ERR_PROTO, "10000000000000005\r\nhello", ""},
};

static void chunks_are_joined_at_every_step(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_COUNT(chunked); i++) {
        struct bytes text = bytes_of(chunked[i].text);
        size_t used_once = 0;
        for (size_t step = text.count; step > 0; step--) {
            char room[64];
            struct buf body;
            size_t used = 0;
            buf_init_fixed(&body, room, sizeof(room));
            enum err e = unchunk(text, step, &body, &used);
            if (step == text.count)
                used_once = used;
            if (e != chunked[i].wanted || used != used_once ||
                !bytes_is(buf_view(&body), chunked[i].body))
                fail_msg("step %zu of %s: %s", step, chunked[i].text, err_name(e));
        }
    }
}

static void a_body_ends_where_the_next_request_begins(void **state)
{
    (void)state;
    char room[16];
    struct buf body;
    size_t used = 0;
    buf_init_fixed(&body, room, sizeof(room));
    struct bytes text = bytes_of("1\r\na\r\n0\r\n\r\nGET / HTTP/1.1\r\n");
    assert_int_equal(unchunk(text, text.count, &body, &used), ERR_OK);
    assert_int_equal(used, 11);
}

static void chunk_lines_and_trailers_have_limits(void **state)
{
    (void)state;
    struct buf body;
    size_t used = 0;
    buf_init_fixed(&body, big, 0);
    memset(big, '0', sizeof(big));
    assert_int_equal(unchunk(bytes_make(big, sizeof(big)), 100, &body, &used), ERR_PROTO);
    assert_in_range(used, 100, 4096);
    memset(big, 'x', sizeof(big));
    memcpy(big, "5;", 2);
    assert_int_equal(unchunk(bytes_make(big, sizeof(big)), 100, &body, &used), ERR_PROTO);
    assert_in_range(used, 100, 4096);
    memcpy(big, "0\r\n", 3);
    assert_int_equal(unchunk(bytes_make(big, sizeof(big)), 100, &body, &used), ERR_PROTO);
    assert_in_range(used, 4096, 16384);
}

static void responses_are_written(void **state)
{
    (void)state;
    char room[300];
    struct buf b;
    buf_init_fixed(&b, room, sizeof(room));
    http1_response_head(&b, 200, "text/plain", 12, false, "X: y\r\n");
    assert_true(bytes_is(buf_view(&b), "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n"
                                       "Content-Length: 12\r\nX: y\r\n\r\n"));
    buf_init_fixed(&b, room, sizeof(room));
    http1_response_head(&b, 204, NULL, -1, true, NULL);
    assert_true(bytes_is(buf_view(&b), "HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n"));
    buf_init_fixed(&b, room, sizeof(room));
    http1_response_head(&b, 200, NULL, 0, false, NULL);
    assert_true(bytes_is(buf_view(&b), "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"));
    assert_string_equal(http1_status_text(431), "Request Header Fields Too Large");
    assert_string_equal(http1_status_text(299), "Unknown");
}

static void percent_escapes_are_decoded_strictly(void **state)
{
    static const struct {
        const char *text;
        const char *plain;
    } cases[] = {
        {"", ""},         {"a+b", "a+b"},  {"%41%4a%4A", "AJJ"}, {"%c3%a9", "\xc3\xa9"},
        {"%2525", "%25"}, {"%", NULL},     {"%4", NULL},         {"%4g", NULL},
        {"%g4", NULL},    {"a%00b", NULL}, {"%%41", NULL},       {"%-1", NULL},
    };
    (void)state;
    for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
        uint8_t to[16];
        size_t count = 99;
        enum err e = http1_percent_decode(bytes_of(cases[i].text), to, &count);
        assert_int_equal(e, cases[i].plain == NULL ? ERR_PROTO : ERR_OK);
        if (cases[i].plain == NULL)
            assert_int_equal(count, 99);
        else
            assert_true(bytes_is(bytes_make(to, count), cases[i].plain));
    }
    uint8_t in_place[] = "%41b%43";
    size_t count = 0;
    assert_int_equal(http1_percent_decode(bytes_make(in_place, 7), in_place, &count), ERR_OK);
    assert_true(bytes_is(bytes_make(in_place, count), "AbC"));
    size_t untouched = 5;
    assert_int_equal(http1_percent_decode(bytes_make("a\0b", 3), in_place, &untouched), ERR_PROTO);
    assert_int_equal(untouched, 5);
}

static void query_parameters_are_found(void **state)
{
    (void)state;
    struct bytes q = bytes_of("a=1&bb=2%26&c&=x&a=3&d=&ee");
    assert_true(bytes_is(http1_query_get(q, "a"), "1"));
    assert_true(bytes_is(http1_query_get(q, "bb"), "2%26"));
    assert_true(bytes_is(http1_query_get(q, ""), "x"));
    assert_non_null(http1_query_get(q, "c").at);
    assert_int_equal(http1_query_get(q, "c").count, 0);
    assert_non_null(http1_query_get(q, "d").at);
    assert_non_null(http1_query_get(q, "ee").at);
    assert_int_equal(http1_query_get(q, "ee").count, 0);
    assert_null(http1_query_get(q, "b").at);
    assert_null(http1_query_get(bytes_make(NULL, 0), "a").at);
}

/* Any bytes at all, from an alphabet that meets the grammar often: whatever the verdict is, it is
 * the same at every cut. */
static void random_heads_have_one_verdict(void **state)
{
    static const char *const parts[] = {
        "GET ",
        "/",
        " HTTP/1.1\r\n",
        "Host: a\r\n",
        "\r\n",
        "\r",
        "\n",
        ":",
        " ",
        "x",
        "\t",
        "Content-Length: 1\r\n",
        "Transfer-Encoding: chunked\r\n",
        "\r\n\r\n",
        "HTTP/",
        "0",
    };
    (void)state;
    struct rng r;
    rng_init(&r, 20);
    for (int round = 0; round < 3000; round++) {
        char room[400];
        struct buf b;
        uint16_t status = 0;
        buf_init_fixed(&b, room, sizeof(room));
        buf_text(&b, rng_below(&r, 4) == 0 ? "" : "GET / HTTP/1.1\r\nHost: a\r\n");
        for (uint64_t i = rng_below(&r, 12); i > 0; i--)
            buf_text(&b, parts[rng_below(&r, ARRAY_COUNT(parts))]);
        enum err e = decode(buf_view(&b), &status);
        check_every_cut(buf_view(&b), e, status);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_plain_request_is_read),
        cmocka_unit_test(bodies_have_a_length_or_chunks),
        cmocka_unit_test(keep_alive_follows_version_and_connection),
        cmocka_unit_test(an_upgrade_needs_both_headers),
        cmocka_unit_test(targets_have_four_forms_and_we_answer_three),
        cmocka_unit_test(empty_lines_before_a_request_belong_to_it),
        cmocka_unit_test(good_heads_are_read_at_every_cut),
        cmocka_unit_test(bad_heads_are_refused_at_every_cut),
        cmocka_unit_test(the_head_has_a_limit),
        cmocka_unit_test(the_target_has_a_limit),
        cmocka_unit_test(headers_have_a_number),
        cmocka_unit_test(lists_are_searched_by_token),
        cmocka_unit_test(chunks_are_joined_at_every_step),
        cmocka_unit_test(a_body_ends_where_the_next_request_begins),
        cmocka_unit_test(chunk_lines_and_trailers_have_limits),
        cmocka_unit_test(responses_are_written),
        cmocka_unit_test(percent_escapes_are_decoded_strictly),
        cmocka_unit_test(query_parameters_are_found),
        cmocka_unit_test(random_heads_have_one_verdict),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
