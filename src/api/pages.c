/* The page and its parts, out of the binary, compressed ahead and cached well. */
#include "api/api_priv.h"
#include "api/assets.h"

#include <stdio.h>

#define PAGE_COMMON_HEADERS                                               \
    "X-Content-Type-Options: nosniff\r\nReferrer-Policy: no-referrer\r\n" \
    "Cross-Origin-Opener-Policy: same-origin\r\nCross-Origin-Resource-Policy: same-origin\r\n"

static const char without_page[] =
    "<!doctype html><meta charset=utf-8><title>kith</title><p>kith is running. This build carries "
    "no page: build it with <code>make build</code> on a machine with Node.</p>";

static const struct asset *asset_find(struct bytes path)
{
    size_t low = 0;
    size_t high = assets_count;
    while (low < high) {
        size_t middle = (low + high) / 2;
        struct bytes p = bytes_of(assets[middle].path);
        int order = memcmp(p.at, path.at, size_min(p.count, path.count));
        if (order == 0 && p.count == path.count)
            return &assets[middle];
        if (order < 0 || (order == 0 && p.count < path.count))
            low = middle + 1;
        else
            high = middle;
    }
    return NULL;
}

/* Takes the best form the client can read. */
static struct bytes choose(const struct asset *a, const struct http1_request *r,
                           const char **encoding)
{
    if (a->br != NULL && http1_header_has(r, "Accept-Encoding", "br")) {
        *encoding = "Content-Encoding: br\r\n";
        return bytes_make(a->br, a->br_bytes);
    }
    if (a->gzip != NULL && http1_header_has(r, "Accept-Encoding", "gzip")) {
        *encoding = "Content-Encoding: gzip\r\n";
        return bytes_make(a->gzip, a->gzip_bytes);
    }
    *encoding = "";
    return bytes_make(a->raw, a->raw_bytes);
}

void page_respond(struct api_conn *c, const struct http1_request *r)
{
    const struct asset *a = asset_find(r->path);
    const char *encoding = "";
    struct buf h;
    uint8_t room[8192];
    if (a == NULL && assets_count == 0 && bytes_is(r->path, "/")) {
        conn_respond(c, 200, "text/html; charset=utf-8", bytes_of(without_page),
                     PAGE_COMMON_HEADERS "Content-Security-Policy: default-src 'none'\r\n");
        return;
    }
    if (a == NULL) {
        conn_error(c, 404, 404, NULL, bytes_of("nothing is here"), 0);
        return;
    }
    struct bytes body = choose(a, r, &encoding);
    buf_init_fixed(&h, room, sizeof(room) - 1);
    buf_text(&h, PAGE_COMMON_HEADERS "Vary: Accept-Encoding\r\n");
    buf_printf(&h, "Cache-Control: %s\r\nETag: %s\r\n%s", a->cache, a->etag, encoding);
    if (a->csp != NULL)
        buf_printf(&h, "Content-Security-Policy: %s\r\n", a->csp);
    if (h.failed) {
        conn_error(c, 503, 100, NULL, bytes_of("the page's headers are too long"), 1000);
        return;
    }
    room[h.count] = '\0';
    if (http1_header_has(r, "If-None-Match", a->etag))
        conn_respond(c, 304, NULL, (struct bytes){NULL, 0}, (const char *)room);
    else
        conn_respond(c, 200, a->type, body, (const char *)room);
}
