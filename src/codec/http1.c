/* The head is read strictly from left to right and the first offending byte decides, so that what
 * is answered never depends on how the bytes were cut:
 *
 *     method SP target SP HTTP/1.x CRLF    *( name ":" value CRLF )    CRLF
 *
 * Then the headers are read once more for what they mean together. Everything that two servers
 * in a row could understand differently is refused. */
#include "codec/http1.h"

#define HTTP1_METHOD_BYTES_MAX     32
#define HTTP1_CHUNK_LINE_BYTES_MAX 1024
#define HTTP1_TRAILER_BYTES_MAX    8192

struct http1_cursor {
    const uint8_t *at;
    const uint8_t *end;
    uint16_t status; /* set with ERR_PROTO */
};

static enum err http1_refuse(struct http1_cursor *c, uint16_t status)
{
    c->status = status;
    return ERR_PROTO;
}

static bool http1_is_digit(uint8_t c)
{
    return c >= '0' && c <= '9';
}

static uint8_t http1_lower(uint8_t c)
{
    return c >= 'A' && c <= 'Z' ? (uint8_t)(c | 0x20) : c;
}

static bool http1_is_alnum(uint8_t c)
{
    uint8_t lower = http1_lower(c);
    return http1_is_digit(c) || (lower >= 'a' && lower <= 'z');
}

/* RFC 9110, 5.6.2: what names and methods are made of. */
static bool http1_is_token_char(uint8_t c)
{
    return http1_is_alnum(c) || (c != 0 && strchr("!#$%&'*+-.^_`|~", c) != NULL);
}

static bool http1_is_value_char(uint8_t c)
{
    return (c >= 0x20 && c != 0x7f) || c == '\t';
}

static bool http1_is_blank(uint8_t c)
{
    return c == ' ' || c == '\t';
}

static bool http1_same(struct bytes a, struct bytes b)
{
    if (a.count != b.count)
        return false;
    for (size_t i = 0; i < a.count; i++) {
        if (http1_lower(a.at[i]) != http1_lower(b.at[i]))
            return false;
    }
    return true;
}

static struct bytes http1_trim(struct bytes b)
{
    while (b.count > 0 && http1_is_blank(b.at[0])) {
        b.at++;
        b.count--;
    }
    while (b.count > 0 && http1_is_blank(b.at[b.count - 1]))
        b.count--;
    return b;
}

/* Exactly CR LF. */
static enum err http1_line_end(struct http1_cursor *c)
{
    static const uint8_t wanted[2] = {'\r', '\n'};
    for (size_t i = 0; i < 2; i++) {
        if (c->at == c->end)
            return ERR_AGAIN;
        if (*c->at != wanted[i])
            return http1_refuse(c, 400);
        c->at++;
    }
    return ERR_OK;
}

/* A token that ends with `stop`, which is consumed. */
static enum err http1_token(struct http1_cursor *c, uint8_t stop, struct bytes *out)
{
    const uint8_t *begin = c->at;
    while (c->at < c->end && http1_is_token_char(*c->at))
        c->at++;
    if (c->at == c->end)
        return ERR_AGAIN;
    if (*c->at != stop || c->at == begin)
        return http1_refuse(c, 400);
    *out = (struct bytes){begin, (size_t)(c->at - begin)};
    c->at++;
    return ERR_OK;
}

static enum err http1_method(struct http1_cursor *c, struct bytes *out)
{
    const uint8_t *begin = c->at;
    enum err e = http1_token(c, ' ', out);
    size_t count = e == ERR_OK ? out->count : (size_t)(c->at - begin);
    /* No method is that long; waiting for its end would only wait for the limit of the head. */
    if (count > HTTP1_METHOD_BYTES_MAX)
        return http1_refuse(c, 501);
    return e;
}

static enum err http1_target(struct http1_cursor *c, struct bytes *out)
{
    const uint8_t *begin = c->at;
    for (; c->at < c->end && *c->at != ' '; c->at++) {
        if (*c->at <= 0x20 || *c->at >= 0x7f || *c->at == '#')
            return http1_refuse(c, 400);
        if (c->at - begin == HTTP1_TARGET_BYTES_MAX)
            return http1_refuse(c, 414);
    }
    if (c->at == c->end)
        return ERR_AGAIN;
    if (c->at == begin)
        return http1_refuse(c, 400);
    *out = (struct bytes){begin, (size_t)(c->at - begin)};
    c->at++;
    return ERR_OK;
}

static enum err http1_version(struct http1_cursor *c, uint8_t *minor_out)
{
    static const char pattern[] = "HTTP/0.0";
    uint8_t major = 0;
    for (size_t i = 0; i < sizeof(pattern) - 1; i++, c->at++) {
        if (c->at == c->end)
            return ERR_AGAIN;
        bool fits = pattern[i] == '0' ? http1_is_digit(*c->at) : *c->at == (uint8_t)pattern[i];
        if (!fits)
            return http1_refuse(c, 400);
        if (i == 5)
            major = (uint8_t)(*c->at - '0');
    }
    *minor_out = (uint8_t)(c->at[-1] - '0');
    enum err e = http1_line_end(c);
    if (e == ERR_OK && major != 1)
        return http1_refuse(c, 505);
    return e;
}

/* One "name: value" line. A blank at its front would be obs-fold and is no token. */
static enum err http1_header_line(struct http1_cursor *c, struct http1_header *out)
{
    enum err e = http1_token(c, ':', &out->name);
    if (e != ERR_OK)
        return e;
    const uint8_t *begin = c->at;
    while (c->at < c->end && http1_is_value_char(*c->at))
        c->at++;
    out->value = http1_trim((struct bytes){begin, (size_t)(c->at - begin)});
    return http1_line_end(c);
}

static enum err http1_headers(struct http1_cursor *c, struct http1_request *r)
{
    for (;;) {
        if (c->at == c->end)
            return ERR_AGAIN;
        if (*c->at == '\r')
            return http1_line_end(c);
        if (r->headers_count == HTTP1_HEADERS_MAX)
            return http1_refuse(c, 431);
        enum err e = http1_header_line(c, &r->headers[r->headers_count]);
        if (e != ERR_OK)
            return e;
        r->headers_count++;
    }
}

/* RFC 9112, 2.2: empty lines before a request are skipped; some clients send one after a body. */
static enum err http1_lines_skip(struct http1_cursor *c)
{
    enum err e = ERR_OK;
    while (e == ERR_OK && c->at < c->end && *c->at == '\r')
        e = http1_line_end(c);
    return e;
}

static bool http1_host_char(uint8_t c)
{
    return http1_is_alnum(c) || (c != 0 && strchr("-._~%!$&'()*+;=:", c) != NULL);
}

/* host [":" port], where the host may be an address in brackets. Empty is legal; a comma would be
 * two hosts that somebody joined. */
static bool http1_host_is_ok(struct bytes host)
{
    bool in_brackets = host.count > 0 && host.at[0] == '[';
    size_t i = in_brackets ? 1 : 0;
    while (i < host.count && host.at[i] != '[' && host.at[i] != ']' &&
           (in_brackets || host.at[i] != ':')) {
        if (!http1_host_char(host.at[i]))
            return false;
        i++;
    }
    if (in_brackets) {
        if (i == host.count || host.at[i] != ']')
            return false;
        i++;
    }
    if (i == host.count)
        return true;
    if (host.at[i] != ':' || i == 0)
        return false;
    for (i++; i < host.count; i++) {
        if (!http1_is_digit(host.at[i]))
            return false;
    }
    return true;
}

/* The scheme's length with "://" when the target is in absolute form, else 0. */
static size_t http1_scheme_bytes(struct bytes target)
{
    static const char *const schemes[] = {"http://", "https://"};
    for (size_t i = 0; i < ARRAY_COUNT(schemes); i++) {
        struct bytes scheme = bytes_of(schemes[i]);
        if (target.count >= scheme.count &&
            http1_same((struct bytes){target.at, scheme.count}, scheme))
            return scheme.count;
    }
    return 0;
}

/* Splits the target; false when it has no form that a server answers. */
static bool http1_target_split(struct http1_request *r)
{
    struct bytes rest = r->target;
    size_t scheme_bytes = http1_scheme_bytes(rest);
    if (bytes_is(rest, "*")) {
        r->path = rest;
        return bytes_is(r->method, "OPTIONS");
    }
    if (scheme_bytes > 0) {
        size_t from = scheme_bytes;
        size_t i = from;
        while (i < rest.count && rest.at[i] != '/' && rest.at[i] != '?')
            i++;
        /* RFC 9112, 3.2.2: the target's authority counts, whatever Host says. */
        r->host = (struct bytes){rest.at + from, i - from};
        if (r->host.count == 0 || !http1_host_is_ok(r->host))
            return false;
        rest = (struct bytes){rest.at + i, rest.count - i};
    } else if (rest.at[0] != '/') {
        return false;
    }
    const uint8_t *mark = rest.count == 0 ? NULL : memchr(rest.at, '?', rest.count);
    size_t path_bytes = mark == NULL ? rest.count : (size_t)(mark - rest.at);
    r->path = path_bytes == 0 ? bytes_of("/") : (struct bytes){rest.at, path_bytes};
    if (mark != NULL)
        r->query = (struct bytes){mark + 1, rest.count - path_bytes - 1};
    return true;
}

/* Digits only, and below 2^63: no sign, no list, no blank inside. */
static bool http1_length_read(struct bytes text, uint64_t *out)
{
    uint64_t length = 0;
    for (size_t i = 0; i < text.count; i++) {
        if (!http1_is_digit(text.at[i]) || length > (INT64_MAX - 9) / 10)
            return false;
        length = length * 10 + (uint64_t)(text.at[i] - '0');
    }
    *out = length;
    return text.count > 0;
}

/* What a header alone says. Counts in `hosts` and `codings` what may come only once. */
static uint16_t http1_header_check(struct http1_request *r, const struct http1_header *h,
                                   unsigned *hosts, unsigned *codings)
{
    if (http1_same(h->name, bytes_of("host"))) {
        (*hosts)++;
        if (*hosts > 1 || !http1_host_is_ok(h->value))
            return 400;
        if (r->host.at == NULL)
            r->host = h->value;
    } else if (http1_same(h->name, bytes_of("content-length"))) {
        if (r->has_length || !http1_length_read(h->value, &r->length))
            return 400;
        r->has_length = true;
    } else if (http1_same(h->name, bytes_of("transfer-encoding"))) {
        (*codings)++;
        if (*codings > 1)
            return 400;
        if (!http1_same(h->value, bytes_of("chunked")))
            return 501;
        r->chunked = true;
    } else if (http1_same(h->name, bytes_of("expect")) && r->minor >= 1) {
        if (!http1_same(h->value, bytes_of("100-continue")))
            return 417;
        r->expect_continue = true;
    }
    return 0;
}

/* What the head means as a whole: 0, or the status that refuses it. */
static uint16_t http1_meaning(struct http1_request *r)
{
    unsigned hosts = 0;
    unsigned codings = 0;
    if (bytes_is(r->method, "CONNECT"))
        return 501;
    if (!http1_target_split(r))
        return 400;
    for (uint32_t i = 0; i < r->headers_count; i++) {
        uint16_t status = http1_header_check(r, &r->headers[i], &hosts, &codings);
        if (status != 0)
            return status;
    }
    if (hosts == 0 && r->minor >= 1)
        return 400;
    /* HTTP/1.0 knows no chunks, and a length beside them is how requests are smuggled. */
    if (r->chunked && (r->has_length || r->minor == 0))
        return 400;
    bool close = http1_header_has(r, "connection", "close");
    r->keep_alive = !close && (r->minor >= 1 || http1_header_has(r, "connection", "keep-alive"));
    r->upgrade_websocket = r->minor >= 1 && http1_header_has(r, "connection", "upgrade") &&
                           http1_header_has(r, "upgrade", "websocket");
    return 0;
}

enum err http1_request_decode(struct bytes input, struct http1_request *out, uint16_t *status_out)
{
    size_t window = size_min(input.count, HTTP1_HEAD_BYTES_MAX);
    if (window == 0)
        return ERR_AGAIN;
    struct http1_cursor c = {.at = input.at, .end = input.at + window};
    memset(out, 0, offsetof(struct http1_request, headers));
    out->headers_count = 0;
    enum err e = http1_lines_skip(&c);
    if (e == ERR_OK)
        e = http1_method(&c, &out->method);
    if (e == ERR_OK)
        e = http1_target(&c, &out->target);
    if (e == ERR_OK)
        e = http1_version(&c, &out->minor);
    if (e == ERR_OK)
        e = http1_headers(&c, out);
    if (e == ERR_AGAIN && window == HTTP1_HEAD_BYTES_MAX)
        e = http1_refuse(&c, 431);
    if (e == ERR_OK) {
        c.status = http1_meaning(out);
        if (c.status != 0)
            e = ERR_PROTO;
    }
    if (e == ERR_PROTO)
        *status_out = c.status;
    out->head_bytes = (size_t)(c.at - input.at);
    return e;
}

struct bytes http1_header_get(const struct http1_request *r, const char *name)
{
    struct bytes wanted = bytes_of(name);
    for (uint32_t i = 0; i < r->headers_count; i++) {
        if (http1_same(r->headers[i].name, wanted))
            return r->headers[i].value;
    }
    return (struct bytes){NULL, 0};
}

static bool http1_list_has(struct bytes list, struct bytes token)
{
    while (list.count > 0) {
        const uint8_t *comma = memchr(list.at, ',', list.count);
        size_t count = comma == NULL ? list.count : (size_t)(comma - list.at);
        if (http1_same(http1_trim((struct bytes){list.at, count}), token))
            return true;
        size_t step = comma == NULL ? count : count + 1;
        list = (struct bytes){list.at + step, list.count - step};
    }
    return false;
}

bool http1_header_has(const struct http1_request *r, const char *name, const char *token)
{
    struct bytes wanted = bytes_of(name);
    for (uint32_t i = 0; i < r->headers_count; i++) {
        if (http1_same(r->headers[i].name, wanted) &&
            http1_list_has(r->headers[i].value, bytes_of(token)))
            return true;
    }
    return false;
}

/*     SIZE --hex--> SIZE --;--> EXT --CR--> SIZE_LF --LF--> DATA --> DATA_CR --> DATA_LF --> SIZE
 *                                                 size 0 |
 *          LINE --name:--> NAME --> VALUE --CR--> VALUE_LF --> LINE --CR--> END_LF --LF--> DONE
 */
enum http1_chunked_state {
    CHUNK_SIZE,
    CHUNK_BLANK, /* after the size: only ';' may follow */
    CHUNK_EXT,
    CHUNK_SIZE_LF,
    CHUNK_DATA,
    CHUNK_DATA_CR,
    CHUNK_DATA_LF,
    TRAILER_LINE,
    TRAILER_NAME,
    TRAILER_VALUE,
    TRAILER_LF,
    TRAILER_END_LF,
    CHUNKED_DONE,
    CHUNKED_BAD
};

static int http1_hex(uint8_t c)
{
    if (http1_is_digit(c))
        return c - '0';
    uint8_t lower = http1_lower(c);
    return lower >= 'a' && lower <= 'f' ? lower - 'a' + 10 : -1;
}

/* One byte of the line that begins a chunk. `line_bytes` counts it: 0 means no digit yet. */
static enum http1_chunked_state http1_size_byte(struct http1_chunked *c, uint8_t byte)
{
    int digit = http1_hex(byte);
    c->line_bytes++;
    if (c->line_bytes > HTTP1_CHUNK_LINE_BYTES_MAX)
        return CHUNKED_BAD;
    if (c->state == CHUNK_SIZE && digit >= 0) {
        if (c->left >> 59 != 0)
            return CHUNKED_BAD;
        c->left = c->left << 4 | (uint64_t)digit;
        return CHUNK_SIZE;
    }
    if (c->line_bytes == 1)
        return CHUNKED_BAD;
    if (byte == '\r' && c->state != CHUNK_BLANK)
        return CHUNK_SIZE_LF;
    if (c->state == CHUNK_EXT)
        return http1_is_value_char(byte) ? CHUNK_EXT : CHUNKED_BAD;
    if (byte == ';')
        return CHUNK_EXT;
    return http1_is_blank(byte) ? CHUNK_BLANK : CHUNKED_BAD;
}

static enum http1_chunked_state http1_trailer_byte(struct http1_chunked *c, uint8_t byte)
{
    c->trailer_bytes++;
    if (c->trailer_bytes > HTTP1_TRAILER_BYTES_MAX)
        return CHUNKED_BAD;
    if (c->state == TRAILER_LINE && byte == '\r')
        return TRAILER_END_LF;
    if (c->state == TRAILER_VALUE) {
        if (byte == '\r')
            return TRAILER_LF;
        return http1_is_value_char(byte) ? TRAILER_VALUE : CHUNKED_BAD;
    }
    if (c->state == TRAILER_NAME && byte == ':')
        return TRAILER_VALUE;
    return http1_is_token_char(byte) ? TRAILER_NAME : CHUNKED_BAD;
}

static enum http1_chunked_state http1_chunked_byte(struct http1_chunked *c, uint8_t byte)
{
    switch ((enum http1_chunked_state)c->state) {
    case CHUNK_SIZE:
    case CHUNK_BLANK:
    case CHUNK_EXT: return http1_size_byte(c, byte);
    case CHUNK_SIZE_LF:
        c->line_bytes = 0;
        if (byte != '\n')
            return CHUNKED_BAD;
        return c->left == 0 ? TRAILER_LINE : CHUNK_DATA;
    case CHUNK_DATA_CR: return byte == '\r' ? CHUNK_DATA_LF : CHUNKED_BAD;
    case CHUNK_DATA_LF: return byte == '\n' ? CHUNK_SIZE : CHUNKED_BAD;
    case TRAILER_LINE:
    case TRAILER_NAME:
    case TRAILER_VALUE: return http1_trailer_byte(c, byte);
    case TRAILER_LF: return byte == '\n' ? TRAILER_LINE : CHUNKED_BAD;
    case TRAILER_END_LF: return byte == '\n' ? CHUNKED_DONE : CHUNKED_BAD;
    case CHUNK_DATA:
    case CHUNKED_DONE:
    case CHUNKED_BAD: break;
    }
    return CHUNKED_BAD;
}

enum err http1_chunked_feed(struct http1_chunked *c, struct bytes input, size_t *used_out,
                            struct bytes *data_out)
{
    size_t i = 0;
    enum err e = ERR_AGAIN;
    *data_out = (struct bytes){NULL, 0};
    while (c->state != CHUNKED_DONE && c->state != CHUNKED_BAD && i < input.count) {
        if (c->state == CHUNK_DATA) {
            size_t part = size_min(input.count - i, c->left);
            *data_out = (struct bytes){input.at + i, part};
            c->left -= part;
            if (c->left == 0)
                c->state = CHUNK_DATA_CR;
            i += part;
            break;
        }
        c->state = (uint8_t)http1_chunked_byte(c, input.at[i]);
        i++;
    }
    if (c->state == CHUNKED_DONE)
        e = ERR_OK;
    else if (c->state == CHUNKED_BAD)
        e = ERR_PROTO;
    *used_out = i;
    return e;
}

void http1_response_head(struct buf *b, uint16_t status, const char *content_type,
                         int64_t body_bytes, bool close, const char *headers)
{
    buf_text(b, "HTTP/1.1 ");
    buf_u64(b, status);
    buf_byte(b, ' ');
    buf_text(b, http1_status_text(status));
    buf_text(b, "\r\n");
    if (content_type != NULL) {
        buf_text(b, "Content-Type: ");
        buf_text(b, content_type);
        buf_text(b, "\r\n");
    }
    if (body_bytes >= 0) {
        buf_text(b, "Content-Length: ");
        buf_i64(b, body_bytes);
        buf_text(b, "\r\n");
    }
    if (close)
        buf_text(b, "Connection: close\r\n");
    if (headers != NULL)
        buf_text(b, headers);
    buf_text(b, "\r\n");
}

#define HTTP1_STATUSES(X)                     \
    X(100, "Continue")                        \
    X(101, "Switching Protocols")             \
    X(200, "OK")                              \
    X(201, "Created")                         \
    X(202, "Accepted")                        \
    X(204, "No Content")                      \
    X(206, "Partial Content")                 \
    X(301, "Moved Permanently")               \
    X(302, "Found")                           \
    X(303, "See Other")                       \
    X(304, "Not Modified")                    \
    X(307, "Temporary Redirect")              \
    X(308, "Permanent Redirect")              \
    X(400, "Bad Request")                     \
    X(401, "Unauthorized")                    \
    X(402, "Payment Required")                \
    X(403, "Forbidden")                       \
    X(404, "Not Found")                       \
    X(405, "Method Not Allowed")              \
    X(406, "Not Acceptable")                  \
    X(408, "Request Timeout")                 \
    X(409, "Conflict")                        \
    X(410, "Gone")                            \
    X(411, "Length Required")                 \
    X(412, "Precondition Failed")             \
    X(413, "Content Too Large")               \
    X(414, "URI Too Long")                    \
    X(415, "Unsupported Media Type")          \
    X(416, "Range Not Satisfiable")           \
    X(417, "Expectation Failed")              \
    X(421, "Misdirected Request")             \
    X(422, "Unprocessable Content")           \
    X(425, "Too Early")                       \
    X(426, "Upgrade Required")                \
    X(428, "Precondition Required")           \
    X(429, "Too Many Requests")               \
    X(431, "Request Header Fields Too Large") \
    X(451, "Unavailable For Legal Reasons")   \
    X(499, "Client Closed Request")           \
    X(500, "Internal Server Error")           \
    X(501, "Not Implemented")                 \
    X(502, "Bad Gateway")                     \
    X(503, "Service Unavailable")             \
    X(504, "Gateway Timeout")                 \
    X(505, "HTTP Version Not Supported")      \
    X(507, "Insufficient Storage")

const char *http1_status_text(uint16_t status)
{
    switch (status) {
#define HTTP1_STATUS_CASE(code, text) \
    case code: return text;
        HTTP1_STATUSES(HTTP1_STATUS_CASE)
#undef HTTP1_STATUS_CASE
    default: return "Unknown";
    }
}

enum err http1_percent_decode(struct bytes b, uint8_t *to, size_t *count_out)
{
    size_t written = 0;
    for (size_t i = 0; i < b.count; i++) {
        uint8_t c = b.at[i];
        if (c == '%') {
            int high = i + 2 < b.count ? http1_hex(b.at[i + 1]) : -1;
            int low = i + 2 < b.count ? http1_hex(b.at[i + 2]) : -1;
            if (high < 0 || low < 0)
                return ERR_PROTO;
            c = (uint8_t)(high << 4 | low);
            i += 2;
        }
        if (c == 0)
            return ERR_PROTO;
        to[written] = c;
        written++;
    }
    *count_out = written;
    return ERR_OK;
}

struct bytes http1_query_get(struct bytes query, const char *name)
{
    struct bytes wanted = bytes_of(name);
    while (query.count > 0) {
        const uint8_t *amp = memchr(query.at, '&', query.count);
        size_t count = amp == NULL ? query.count : (size_t)(amp - query.at);
        const uint8_t *equals = count == 0 ? NULL : memchr(query.at, '=', count);
        size_t name_count = equals == NULL ? count : (size_t)(equals - query.at);
        if (bytes_equal((struct bytes){query.at, name_count}, wanted)) {
            size_t skip = equals == NULL ? count : name_count + 1;
            return (struct bytes){query.at + skip, count - skip};
        }
        size_t step = amp == NULL ? count : count + 1;
        query = (struct bytes){query.at + step, query.count - step};
    }
    return (struct bytes){NULL, 0};
}
