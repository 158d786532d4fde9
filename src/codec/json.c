/* The tree is built without recursion and without a stack: the depth of the input costs nothing
 * but its nodes. While a container is open,
 *
 *     open->next   is the container around it, and
 *     open->first  is its last child so far, whose `next` leads round to the first one:
 *
 *         open --first--> last --next--> first --next--> ... --next--> last
 *
 * so appending is O(1). Closing cuts the ring, and only then is the container hung into the one
 * around it, which gives `next` its lasting meaning. */
#include "codec/json.h"
#include "codec/utf8.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#define JSON_DEPTH_DEFAULT    64
#define JSON_VALUES_DEFAULT   100000
#define JSON_DOUBLE_CHARS_MAX 400

#define ONES  0x0101010101010101u
#define HIGHS 0x8080808080808080u

struct json_parser {
    struct arena *arena;
    const uint8_t *start;
    const uint8_t *at;
    const uint8_t *end;
    struct json *open; /* the innermost open container */
    struct json *root;
    struct bytes key; /* of the member whose value comes next */
    uint32_t depth;
    uint32_t depth_max;
    uint32_t values_left;
    struct json_error error;
};

enum json_want { WANT_ITEM, WANT_ITEM_OR_CLOSE, WANT_COMMA_OR_CLOSE, WANT_END };

static enum err json_fail(struct json_parser *p, enum err e, const uint8_t *at, const char *what)
{
    p->error.at = (size_t)(at - p->start);
    p->error.what = what;
    return e;
}

static enum err json_refuse(struct json_parser *p, const char *what)
{
    return json_fail(p, ERR_PROTO, p->at, what);
}

static void json_skip_space(struct json_parser *p)
{
    while (p->at < p->end && (*p->at == ' ' || *p->at == '\n' || *p->at == '\r' || *p->at == '\t'))
        p->at++;
}

/* Non-zero high bits mark the bytes of `word` that a string may not hold as they are: controls,
 * the quote, the backslash. A mark above the lowest true one may be false (the borrow of a
 * subtraction), so only "none" and "the first" may be believed (Mycroft 1987). */
static inline uint64_t json_special(uint64_t word)
{
    uint64_t quote = word ^ (ONES * '"');
    uint64_t slash = word ^ (ONES * '\\');
    uint64_t marks = (word - ONES * 0x20) & ~word;
    marks |= (quote - ONES) & ~quote;
    marks |= (slash - ONES) & ~slash;
    return marks & HIGHS;
}

/* How many bytes at the front of a string stand for themselves. With `ascii_only` the run also
 * ends before the first byte of 0x80 or more. */
static inline size_t json_plain(const uint8_t *at, size_t count, bool ascii_only)
{
    size_t i = 0;
    for (; i + 8 <= count; i += 8) {
        uint64_t word;
        memcpy(&word, at + i, sizeof(word));
        uint64_t marks = json_special(word) | (ascii_only ? word & HIGHS : 0);
        if (marks != 0)
            break;
    }
    while (i < count && at[i] >= 0x20 && at[i] != '"' && at[i] != '\\' &&
           !(ascii_only && at[i] >= 0x80))
        i++;
    return i;
}

static int json_hex(uint8_t c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return -1;
}

/* The four hex digits at `at`, or -1. */
static int32_t json_hex4(const uint8_t *at, const uint8_t *end)
{
    if (end - at < 4)
        return -1;
    int32_t code = 0;
    for (int i = 0; i < 4; i++) {
        int digit = json_hex(at[i]);
        if (digit < 0)
            return -1;
        code = code * 16 + digit;
    }
    return code;
}

/* Reads an escape whose backslash stands at *at; *at is moved behind it. -1 when it is wrong. */
static int32_t json_escape_read(const uint8_t **at, const uint8_t *end)
{
    const uint8_t *p = *at + 1;
    if (p >= end)
        return -1;
    *at = p + 1;
    switch (*p) {
    case '"':
    case '\\':
    case '/': return *p;
    case 'b': return '\b';
    case 'f': return '\f';
    case 'n': return '\n';
    case 'r': return '\r';
    case 't': return '\t';
    case 'u': break;
    default: return -1;
    }
    int32_t code = json_hex4(p + 1, end);
    if (code < 0)
        return -1;
    *at = p + 5;
    if (code < 0xd800 || code > 0xdfff)
        return code;
    /* Half a pair alone is half a character: JSON.stringify writes it, and it means nothing. */
    if (code > 0xdbff || end - *at < 6 || (*at)[0] != '\\' || (*at)[1] != 'u')
        return 0xfffd;
    int32_t low = json_hex4(*at + 2, end);
    if (low < 0xdc00 || low > 0xdfff)
        return 0xfffd;
    *at += 6;
    return 0x10000 + ((code - 0xd800) << 10) + (low - 0xdc00);
}

static size_t json_utf8_put(uint8_t *to, int32_t code)
{
    uint32_t c = (uint32_t)code;
    if (c < 0x80) {
        to[0] = (uint8_t)c;
        return 1;
    }
    if (c < 0x800) {
        to[0] = (uint8_t)(0xc0 | (c >> 6));
        to[1] = (uint8_t)(0x80 | (c & 0x3f));
        return 2;
    }
    if (c < 0x10000) {
        to[0] = (uint8_t)(0xe0 | (c >> 12));
        to[1] = (uint8_t)(0x80 | ((c >> 6) & 0x3f));
        to[2] = (uint8_t)(0x80 | (c & 0x3f));
        return 3;
    }
    to[0] = (uint8_t)(0xf0 | (c >> 18));
    to[1] = (uint8_t)(0x80 | ((c >> 12) & 0x3f));
    to[2] = (uint8_t)(0x80 | ((c >> 6) & 0x3f));
    to[3] = (uint8_t)(0x80 | (c & 0x3f));
    return 4;
}

/* Decodes the checked inside of a string into the arena. No escape is shorter than what it stands
 * for, so the inside's size is room enough. */
static enum err json_string_decode(struct json_parser *p, struct bytes inside, struct bytes *out)
{
    uint8_t *to = arena_take(p->arena, inside.count);
    if (to == NULL)
        return json_fail(p, ERR_FULL, inside.at, "out of memory");
    const uint8_t *at = inside.at;
    const uint8_t *end = at + inside.count;
    size_t written = 0;
    while (at < end) {
        size_t plain = json_plain(at, (size_t)(end - at), false);
        memcpy(to + written, at, plain);
        written += plain;
        at += plain;
        if (at < end)
            written += json_utf8_put(to + written, json_escape_read(&at, end));
    }
    *out = (struct bytes){to, written};
    return ERR_OK;
}

/* Reads a string whose opening quote stands at p->at. */
static enum err json_string_read(struct json_parser *p, struct bytes *text_out)
{
    p->at++;
    const uint8_t *begin = p->at;
    bool has_escapes = false;
    for (;;) {
        p->at += json_plain(p->at, (size_t)(p->end - p->at), true);
        if (p->at == p->end)
            return json_refuse(p, "string without an end");
        uint8_t c = *p->at;
        if (c == '"')
            break;
        if (c == '\\') {
            const uint8_t *escape = p->at;
            has_escapes = true;
            if (json_escape_read(&p->at, p->end) < 0) {
                p->at = escape;
                return json_refuse(p, "wrong escape");
            }
        } else if (c >= 0x80) {
            bool valid = false;
            size_t step = utf8_char((struct bytes){p->at, (size_t)(p->end - p->at)}, &valid);
            if (!valid)
                return json_refuse(p, "not UTF-8");
            p->at += step;
        } else {
            return json_refuse(p, "control character in a string");
        }
    }
    struct bytes inside = {begin, (size_t)(p->at - begin)};
    p->at++;
    if (has_escapes)
        return json_string_decode(p, inside, text_out);
    *text_out = inside;
    return ERR_OK;
}

static bool json_digits(struct json_parser *p)
{
    const uint8_t *begin = p->at;
    while (p->at < p->end && *p->at >= '0' && *p->at <= '9')
        p->at++;
    return p->at > begin;
}

static enum err json_number_read(struct json_parser *p)
{
    if (*p->at == '-')
        p->at++;
    if (p->at < p->end && *p->at == '0')
        p->at++;
    else if (!json_digits(p))
        return json_refuse(p, "number without digits");
    if (p->at < p->end && *p->at == '.') {
        p->at++;
        if (!json_digits(p))
            return json_refuse(p, "fraction without digits");
    }
    if (p->at < p->end && (*p->at == 'e' || *p->at == 'E')) {
        p->at++;
        if (p->at < p->end && (*p->at == '+' || *p->at == '-'))
            p->at++;
        if (!json_digits(p))
            return json_refuse(p, "exponent without digits");
    }
    return ERR_OK;
}

static enum err json_word_read(struct json_parser *p, const char *word)
{
    size_t count = strlen(word);
    if ((size_t)(p->end - p->at) < count || memcmp(p->at, word, count) != 0)
        return json_refuse(p, "unknown word");
    p->at += count;
    return ERR_OK;
}

/* Hangs a finished value where it belongs and says what comes next. */
static enum json_want json_add(struct json_parser *p, struct json *v)
{
    struct json *open = p->open;
    v->raw.count = (size_t)(p->at - v->raw.at);
    v->next = NULL;
    if (open == NULL) {
        p->root = v;
        return WANT_END;
    }
    if (open->first == NULL) {
        v->next = v;
    } else {
        v->next = open->first->next;
        open->first->next = v;
    }
    open->first = v;
    open->count++;
    return WANT_COMMA_OR_CLOSE;
}

static enum json_want json_close(struct json_parser *p)
{
    struct json *v = p->open;
    p->at++;
    p->open = v->next;
    p->depth--;
    if (v->first != NULL) {
        struct json *last = v->first;
        v->first = last->next;
        last->next = NULL;
    }
    return json_add(p, v);
}

static enum err json_open(struct json_parser *p, struct json *v)
{
    if (p->depth == p->depth_max)
        return json_fail(p, ERR_FULL, p->at, "nested too deep");
    p->at++;
    p->depth++;
    v->next = p->open;
    p->open = v;
    return ERR_OK;
}

static enum err json_key_read(struct json_parser *p)
{
    if (p->at == p->end || *p->at != '"')
        return json_refuse(p, "a key was expected");
    enum err e = json_string_read(p, &p->key);
    if (e != ERR_OK)
        return e;
    json_skip_space(p);
    if (p->at == p->end || *p->at != ':')
        return json_refuse(p, "a colon was expected");
    p->at++;
    json_skip_space(p);
    return ERR_OK;
}

/* Reads what stands at v->raw.at into v; of a container only its opening bracket. */
static enum err json_value_read(struct json_parser *p, struct json *v)
{
    enum err e = ERR_OK;
    switch (*p->at) {
    case '{': v->kind = JSON_OBJECT; return json_open(p, v);
    case '[': v->kind = JSON_ARRAY; return json_open(p, v);
    case '"': v->kind = JSON_STRING; return json_string_read(p, &v->text);
    case 't': v->kind = JSON_TRUE; return json_word_read(p, "true");
    case 'f': v->kind = JSON_FALSE; return json_word_read(p, "false");
    case 'n': v->kind = JSON_NULL; return json_word_read(p, "null");
    case '-':
    case '0':
    case '1':
    case '2':
    case '3':
    case '4':
    case '5':
    case '6':
    case '7':
    case '8':
    case '9':
        v->kind = JSON_NUMBER;
        e = json_number_read(p);
        v->text = (struct bytes){v->raw.at, (size_t)(p->at - v->raw.at)};
        return e;
    default: return json_refuse(p, "a value was expected");
    }
}

/* One value, with its key when inside an object. */
static enum err json_item_read(struct json_parser *p, enum json_want *want)
{
    p->key = (struct bytes){NULL, 0};
    if (p->open != NULL && p->open->kind == JSON_OBJECT) {
        enum err e = json_key_read(p);
        if (e != ERR_OK)
            return e;
    }
    if (p->at == p->end)
        return json_refuse(p, "a value was expected");
    if (p->values_left == 0)
        return json_fail(p, ERR_FULL, p->at, "too many values");
    p->values_left--;
    struct json *v = arena_take(p->arena, sizeof(*v));
    if (v == NULL)
        return json_fail(p, ERR_FULL, p->at, "out of memory");
    *v = (struct json){.raw = {p->at, 0}, .key = p->key};
    enum err e = json_value_read(p, v);
    if (e != ERR_OK)
        return e;
    *want = p->open == v ? WANT_ITEM_OR_CLOSE : json_add(p, v);
    return ERR_OK;
}

static bool json_stands_close(const struct json_parser *p)
{
    if (p->open == NULL || p->at == p->end)
        return false;
    return *p->at == (p->open->kind == JSON_OBJECT ? '}' : ']');
}

static enum err json_run(struct json_parser *p)
{
    enum json_want want = WANT_ITEM;
    for (;;) {
        json_skip_space(p);
        if (want == WANT_END)
            return p->at == p->end ? ERR_OK : json_refuse(p, "something stands behind the value");
        if (want != WANT_ITEM && json_stands_close(p)) {
            want = json_close(p);
        } else if (want == WANT_COMMA_OR_CLOSE) {
            if (p->at == p->end || *p->at != ',')
                return json_refuse(p, "a comma or a closing bracket was expected");
            p->at++;
            want = WANT_ITEM;
        } else {
            enum err e = json_item_read(p, &want);
            if (e != ERR_OK)
                return e;
        }
    }
}

enum err json_parse(struct arena *a, struct bytes input, struct json_limits limits,
                    struct json **out, struct json_error *error_out)
{
    /* A NULL range has no place to point at; an empty text stands in for it. */
    const uint8_t *start = input.count == 0 ? (const uint8_t *)"" : input.at;
    struct json_parser p = {
        .arena = a,
        .start = start,
        .at = start,
        .end = start + input.count,
        .depth_max = limits.depth_max == 0 ? JSON_DEPTH_DEFAULT : limits.depth_max,
        .values_left = limits.values_max == 0 ? JSON_VALUES_DEFAULT : limits.values_max,
    };
    enum err e = json_run(&p);
    if (e == ERR_OK)
        *out = p.root;
    else if (error_out != NULL)
        *error_out = p.error;
    return e;
}

const struct json *json_get(const struct json *o, const char *key)
{
    if (o == NULL || o->kind != JSON_OBJECT)
        return NULL;
    const struct json *found = NULL;
    struct bytes name = bytes_of(key);
    for (const struct json *v = o->first; v != NULL; v = v->next) {
        if (bytes_equal(v->key, name))
            found = v;
    }
    return found;
}

bool json_get_text(const struct json *o, const char *key, struct bytes *out)
{
    const struct json *v = json_get(o, key);
    if (v == NULL || v->kind != JSON_STRING)
        return false;
    *out = v->text;
    return true;
}

bool json_get_i64(const struct json *o, const char *key, int64_t *out)
{
    return json_i64(json_get(o, key), out);
}

bool json_get_bool(const struct json *o, const char *key, bool *out)
{
    const struct json *v = json_get(o, key);
    if (v == NULL || (v->kind != JSON_TRUE && v->kind != JSON_FALSE))
        return false;
    *out = v->kind == JSON_TRUE;
    return true;
}

bool json_i64(const struct json *v, int64_t *out)
{
    if (v == NULL || v->kind != JSON_NUMBER)
        return false;
    bool negative = v->text.at[0] == '-';
    uint64_t limit = negative ? (uint64_t)INT64_MAX + 1 : (uint64_t)INT64_MAX;
    uint64_t size = 0;
    for (size_t i = negative ? 1 : 0; i < v->text.count; i++) {
        uint8_t c = v->text.at[i];
        if (c < '0' || c > '9')
            return false;
        uint64_t digit = (uint64_t)(c - '0');
        if (size > (limit - digit) / 10)
            return false;
        size = size * 10 + digit;
    }
    *out = (int64_t)(negative ? 0 - size : size);
    return true;
}

bool json_double(const struct json *v, double *out)
{
    char text[JSON_DOUBLE_CHARS_MAX + 1];
    if (v == NULL || v->kind != JSON_NUMBER || v->text.count > JSON_DOUBLE_CHARS_MAX)
        return false;
    memcpy(text, v->text.at, v->text.count);
    text[v->text.count] = '\0';
    double number = strtod(text, NULL);
    if (!isfinite(number))
        return false;
    *out = number;
    return true;
}

/* Places the comma that the value or key to come needs. */
static void json_comma(struct buf *b)
{
    if (b->count == 0)
        return;
    uint8_t c = b->at[b->count - 1];
    bool ends_value =
        c == '"' || c == '}' || c == ']' || (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z');
    if (ends_value)
        buf_byte(b, ',');
}

void json_object_open(struct buf *b)
{
    json_comma(b);
    buf_byte(b, '{');
}

void json_object_close(struct buf *b)
{
    buf_byte(b, '}');
}

void json_array_open(struct buf *b)
{
    json_comma(b);
    buf_byte(b, '[');
}

void json_array_close(struct buf *b)
{
    buf_byte(b, ']');
}

static void json_escape_put(struct buf *b, uint8_t c)
{
    static const char hex[] = "0123456789abcdef";
    char text[6] = {'\\', (char)c, '0', '0', hex[c >> 4], hex[c & 15]};
    size_t count = 2;
    switch (c) {
    case '"':
    case '\\': break;
    case '\b': text[1] = 'b'; break;
    case '\f': text[1] = 'f'; break;
    case '\n': text[1] = 'n'; break;
    case '\r': text[1] = 'r'; break;
    case '\t': text[1] = 't'; break;
    default:
        text[1] = 'u';
        count = 6;
        break;
    }
    buf_put(b, text, count);
}

void json_escape(struct buf *b, struct bytes text)
{
    size_t i = 0;
    while (i < text.count) {
        size_t plain = json_plain(text.at + i, text.count - i, false);
        buf_put(b, text.at + i, plain);
        i += plain;
        if (i < text.count) {
            json_escape_put(b, text.at[i]);
            i++;
        }
    }
}

void json_text(struct buf *b, struct bytes text)
{
    json_comma(b);
    buf_byte(b, '"');
    json_escape(b, text);
    buf_byte(b, '"');
}

void json_key(struct buf *b, const char *key)
{
    json_text(b, bytes_of(key));
    buf_byte(b, ':');
}

void json_number_i64(struct buf *b, int64_t v)
{
    json_comma(b);
    buf_i64(b, v);
}

void json_number_double(struct buf *b, double v)
{
    if (!isfinite(v)) {
        json_null(b);
        return;
    }
    char text[32];
    int count = snprintf(text, sizeof(text), "%.15g", v);
    /* Not a test for nearness: 15 digits are kept only when they read back as the same bits. */
    double back = strtod(text, NULL);
    if (memcmp(&back, &v, sizeof(v)) != 0)
        count = snprintf(text, sizeof(text), "%.17g", v);
    json_comma(b);
    buf_put(b, text, (size_t)count);
}

void json_bool(struct buf *b, bool v)
{
    json_comma(b);
    buf_text(b, v ? "true" : "false");
}

void json_null(struct buf *b)
{
    json_comma(b);
    buf_text(b, "null");
}

static bool json_is_space(uint8_t c)
{
    return c == ' ' || c == '\n' || c == '\r' || c == '\t';
}

void json_raw(struct buf *b, struct bytes json)
{
    /* White space at the end would hide from json_comma that a value stands there. */
    while (json.count > 0 && json_is_space(json.at[json.count - 1]))
        json.count--;
    if (json.count == 0) {
        json_null(b);
        return;
    }
    json_comma(b);
    buf_bytes(b, json);
}

void json_put_text(struct buf *b, const char *key, struct bytes text)
{
    json_key(b, key);
    json_text(b, text);
}

void json_put_i64(struct buf *b, const char *key, int64_t v)
{
    json_key(b, key);
    json_number_i64(b, v);
}

void json_put_bool(struct buf *b, const char *key, bool v)
{
    json_key(b, key);
    json_bool(b, v);
}

void json_put_double(struct buf *b, const char *key, double v)
{
    json_key(b, key);
    json_number_double(b, v);
}

void json_put_raw(struct buf *b, const char *key, struct bytes json)
{
    json_key(b, key);
    json_raw(b, json);
}

size_t json_unbreak(uint8_t *at, size_t count)
{
    if (count == 0 || (memchr(at, '\n', count) == NULL && memchr(at, '\r', count) == NULL))
        return count;
    size_t kept = 0;
    for (size_t i = 0; i < count; i++) {
        at[kept] = at[i];
        kept += at[i] != '\n' && at[i] != '\r';
    }
    return kept;
}
