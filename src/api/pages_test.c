/* The page's files (pages.c): this program carries a table of its own in the place of the built
 * one, so that each form of an asset can be asked for. */
#include "api/api_stage_priv.h"
#include "api/assets.h"

/* Sorted bytewise, as the build does it. */
const struct asset assets[] = {
    {.path = "/",
     .type = "text/html; charset=utf-8",
     .cache = "no-cache",
     .etag = "\"e1\"",
     .csp = "default-src 'self'",
     .raw = (const uint8_t *)"<html>",
     .raw_bytes = 6,
     .gzip = (const uint8_t *)"\x1f\x8b",
     .gzip_bytes = 2,
     .br = (const uint8_t *)"b",
     .br_bytes = 1},
    {.path = "/assets/app-1.js",
     .type = "text/javascript; charset=utf-8",
     .cache = "public, max-age=31536000, immutable",
     .etag = "\"e2\"",
     .raw = (const uint8_t *)"let a",
     .raw_bytes = 5,
     .gzip = (const uint8_t *)"gz",
     .gzip_bytes = 2},
    {.path = "/assets/app.js",
     .type = "text/javascript; charset=utf-8",
     .cache = "no-cache",
     .etag = "\"e3\"",
     .raw = (const uint8_t *)"let b",
     .raw_bytes = 5},
    {.path = "/assets/app.js.map",
     .type = "application/json",
     .cache = "no-cache",
     .etag = "\"e5\"",
     .raw = (const uint8_t *)"{}",
     .raw_bytes = 2},
    {.path = "/favicon.ico",
     .type = "image/x-icon",
     .cache = "no-cache",
     .etag = "\"e4\"",
     .raw = (const uint8_t *)"",
     .raw_bytes = 0},
};
const size_t assets_count = ARRAY_COUNT(assets);

static void every_asset_is_found_and_nothing_between_them(void **state)
{
    (void)state;
    static const char *const missing[] = {
        "/a", "/assets", "/assets/", "/assets/app", "/assets/app.js2", "/favicon.ic", "/zzz", "//"};
    struct client *c = client_open();
    for (size_t i = 0; i < assets_count; i++) {
        char path[128];
        (void)snprintf(path, sizeof(path), "%s?v=%zu", assets[i].path, i);
        assert_int_equal(get(c, path, ""), 200);
        assert_int_equal(c->body_count, assets[i].raw_bytes);
        assert_memory_equal(c->body, assets[i].raw, assets[i].raw_bytes);
        expect_header(c, "Content-Type", assets[i].type);
        expect_header(c, "Cache-Control", assets[i].cache);
        expect_header(c, "ETag", assets[i].etag);
        expect_header(c, "Vary", "Accept-Encoding");
        expect_header(c, "X-Content-Type-Options", "nosniff");
        expect_header(c, "Referrer-Policy", "no-referrer");
        expect_header(c, "Cross-Origin-Opener-Policy", "same-origin");
        assert_null(header(c, "Content-Encoding"));
    }
    for (size_t i = 0; i < ARRAY_COUNT(missing); i++)
        assert_int_equal(get(c, missing[i], ""), 404);
}

static void only_the_page_carries_its_policy(void **state)
{
    (void)state;
    struct client *c = client_open();
    (void)get(c, "/", "");
    expect_header(c, "Content-Security-Policy", "default-src 'self'");
    (void)get(c, "/assets/app.js", "");
    assert_null(header(c, "Content-Security-Policy"));
}

struct choice {
    const char *path;
    const char *accepts;
    const char *encoding; /* NULL = none */
};

static void the_smallest_form_the_client_reads_is_sent(void **state)
{
    (void)state;
    static const struct choice rows[] = {
        {"/", "Accept-Encoding: gzip, deflate, br\r\n", "br"},
        {"/", "Accept-Encoding: gzip\r\n", "gzip"},
        {"/", "Accept-Encoding: deflate\r\n", NULL},
        {"/", "Accept-Encoding: identity\r\n", NULL},
        {"/assets/app-1.js", "Accept-Encoding: br, gzip\r\n", "gzip"},
        {"/assets/app-1.js", "Accept-Encoding: br\r\n", NULL},
        {"/assets/app.js", "Accept-Encoding: br, gzip\r\n", NULL},
    };
    struct client *c = client_open();
    for (size_t i = 0; i < ARRAY_COUNT(rows); i++) {
        assert_int_equal(get(c, rows[i].path, rows[i].accepts), 200);
        const char *is = header(c, "Content-Encoding");
        assert_int_equal(is == NULL, rows[i].encoding == NULL);
        if (is != NULL)
            assert_string_equal(is, rows[i].encoding);
    }
    (void)get(c, "/", "Accept-Encoding: br\r\n");
    assert_string_equal(c->body, "b");
}

static void what_is_known_is_not_sent_again(void **state)
{
    (void)state;
    struct client *c = client_open();
    assert_int_equal(get(c, "/assets/app-1.js", "If-None-Match: \"e2\"\r\n"), 304);
    assert_int_equal(c->body_count, 0);
    expect_header(c, "ETag", "\"e2\"");
    expect_header(c, "Cache-Control", "public, max-age=31536000, immutable");
    assert_int_equal(get(c, "/assets/app-1.js", "If-None-Match: \"x\", \"e2\"\r\n"), 304);
    assert_int_equal(get(c, "/assets/app-1.js", "If-None-Match: \"e1\"\r\n"), 200);
    assert_string_equal(c->body, "let a");
}

static void a_head_of_an_asset_has_its_length(void **state)
{
    (void)state;
    struct client *c = client_open();
    client_say(c, "HEAD /assets/app.js HTTP/1.1\r\n" STAGE_HOST "\r\n");
    assert_int_equal(hear(c, false), 200);
    expect_header(c, "Content-Length", "5");
    expect_silence(c);
}

#define PLAY(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        PLAY(every_asset_is_found_and_nothing_between_them),
        PLAY(only_the_page_carries_its_policy),
        PLAY(the_smallest_form_the_client_reads_is_sent),
        PLAY(what_is_known_is_not_sent_again),
        PLAY(a_head_of_an_asset_has_its_length),
    };
    diag_clock_set(wall_now_ms);
    diag_init("error");
    diag_thread_init("test");
    return cmocka_run_group_tests(tests, NULL, NULL);
}
