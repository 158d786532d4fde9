/* http1: HTTP/1.1 request heads and bodies as a server reads them, and response heads.
 *
 * Thread  : any; pure. Memory: views into the caller's bytes; headers land in the caller's array.
 * Errors  : ERR_AGAIN = more bytes; ERR_PROTO = answer `status_out` and close.
 * Limits  : HTTP1_HEAD_BYTES_MAX for the head (431), HTTP1_HEADERS_MAX, HTTP1_TARGET_BYTES_MAX
 *           (414).
 * Source  : RFC 9112, RFC 9110. Refused: CL with TE, more than one CL, bare LF, obs-fold,
 *           blanks before a colon, missing or double Host, any coding but chunked, chunks in
 *           HTTP/1.0, bad chunk sizes, CONNECT (501). */
#ifndef CODEC_HTTP1_H
#define CODEC_HTTP1_H

#include "base/base.h"
#include "base/buf.h"

#define HTTP1_HEAD_BYTES_MAX   32768
#define HTTP1_TARGET_BYTES_MAX 16384
#define HTTP1_HEADERS_MAX      96

struct http1_header {
    struct bytes name;  /* as sent */
    struct bytes value; /* without surrounding white space */
};

struct http1_request {
    struct bytes method;
    struct bytes target; /* as sent */
    struct bytes path;   /* still percent-encoded, without query; of absolute form: its path */
    struct bytes query;  /* without '?' */
    struct bytes host;
    uint8_t minor; /* HTTP/1.minor */
    bool keep_alive;
    bool chunked;
    bool has_length;
    bool expect_continue;
    bool upgrade_websocket; /* Upgrade: websocket and Connection: upgrade, both */
    uint64_t length;
    size_t head_bytes; /* of the input, incl. the empty line */
    struct http1_header headers[HTTP1_HEADERS_MAX];
    uint32_t headers_count;
};

/* Reads one head from the front of `input` (empty lines before it belong to it). ERR_OK: *out is
 * set; otherwise it is scratch. ERR_PROTO: *status_out is the status to answer (400, 414, 417, 431,
 * 501, 505). It begins anew with each call: of a head that arrives in many small pieces the caller
 * may wait for a line's end before it asks again. */
enum err http1_request_decode(struct bytes input, struct http1_request *out, uint16_t *status_out)
    MUST_USE;

/* The value of the first header of that name (any case), or empty with at == NULL. */
struct bytes http1_header_get(const struct http1_request *r, const char *name);

/* True when the comma list of any header `name` holds `token` (any case). */
bool http1_header_has(const struct http1_request *r, const char *name, const char *token);

/* A body in chunks, as a cursor over arriving bytes. Zeroed = start. */
struct http1_chunked {
    uint64_t left;
    uint8_t state;
    uint32_t line_bytes;
    uint32_t trailer_bytes;
};

/* Consumes from `input`: *used_out bytes were read; *data_out is a run of body bytes inside it
 * (may be empty). ERR_AGAIN: call again with the rest, or with more when there is none. ERR_OK: the
 * body ended after used_out bytes. ERR_PROTO: answer 400 and close; stays so. Trailers are checked
 * and dropped. */
enum err http1_chunked_feed(struct http1_chunked *c, struct bytes input, size_t *used_out,
                            struct bytes *data_out) MUST_USE;

/* Status line and the given headers; ends with the empty line. `headers` is finished text lines
 * "Name: value\r\n..." or NULL, as `content_type` may be. Adds Content-Length when body_bytes >= 0
 * and Connection: close when asked. */
void http1_response_head(struct buf *b, uint16_t status, const char *content_type,
                         int64_t body_bytes, bool close, const char *headers);

const char *http1_status_text(uint16_t status);

/* Percent-decodes; '+' stays. ERR_PROTO on a bad escape or U+0000. `to` holds b.count bytes and may
 * be b.at itself. */
enum err http1_percent_decode(struct bytes b, uint8_t *to, size_t *count_out) MUST_USE;

/* The raw (still encoded) value of query parameter `name`; at == NULL when absent. */
struct bytes http1_query_get(struct bytes query, const char *name);

#endif
