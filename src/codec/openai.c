#include "codec/openai.h"
#include "codec/json.h"
#include "codec/utf8.h"

static const char *openai_role_name(enum openai_role role)
{
    switch (role) {
    case OPENAI_SYSTEM: return "system";
    case OPENAI_USER: return "user";
    case OPENAI_ASSISTANT: return "assistant";
    }
    return "user";
}

void openai_request(struct buf *b, const struct openai_params *p,
                    const struct openai_message *messages, size_t messages_count)
{
    json_object_open(b);
    json_put_text(b, "model", p->model);
    json_key(b, "messages");
    json_array_open(b);
    for (size_t i = 0; i < messages_count; i++) {
        json_object_open(b);
        json_put_text(b, "role", bytes_of(openai_role_name(messages[i].role)));
        json_put_text(b, "content", messages[i].text);
        json_object_close(b);
    }
    json_array_close(b);
    if (p->max_tokens > 0)
        json_put_i64(b, "max_tokens", p->max_tokens);
    if (p->temperature >= 0)
        json_put_double(b, "temperature", p->temperature);
    if (p->top_p >= 0)
        json_put_double(b, "top_p", p->top_p);
    json_put_bool(b, "stream", p->stream);
    if (p->stream) {
        json_key(b, "stream_options");
        json_object_open(b);
        json_put_bool(b, "include_usage", true);
        json_object_close(b);
    }
    json_object_close(b);
}

/* The number of an escape \uXXXX at `at`, or -1 when no such escape stands there. */
static int32_t openai_escape(const uint8_t *at, size_t count)
{
    if (count < 6 || at[0] != '\\' || at[1] != 'u')
        return -1;
    int32_t code = 0;
    for (size_t i = 2; i < 6; i++) {
        uint8_t c = at[i];
        uint8_t lower = (uint8_t)(c | 0x20);
        int digit = c >= '0' && c <= '9'           ? c - '0'
                    : lower >= 'a' && lower <= 'f' ? lower - 'a' + 10
                                                   : -1;
        if (digit < 0)
            return -1;
        code = code * 16 + digit;
    }
    return code;
}

/* Overwrites the escapes that stand for no character we pass on, lone surrogates and U+0000, by
 * \ufffd, which has the same length. Outside strings JSON has no backslash, so no parser is
 * needed. */
static void openai_escapes_repair(uint8_t *at, size_t count)
{
    size_t i = 0;
    while (i < count) {
        const uint8_t *slash = memchr(at + i, '\\', count - i);
        if (slash == NULL)
            return;
        i = (size_t)(slash - at);
        int32_t code = openai_escape(at + i, count - i);
        if (code < 0) {
            i += 2;
            continue;
        }
        int32_t next = openai_escape(at + i + 6, count - i - 6);
        bool is_high = code >= 0xd800 && code <= 0xdbff;
        bool is_low = code >= 0xdc00 && code <= 0xdfff;
        if (is_high && next >= 0xdc00 && next <= 0xdfff) {
            i += 12;
            continue;
        }
        if (is_high || is_low || code == 0)
            memcpy(at + i, "\\ufffd", 6);
        i += 6;
    }
}

/* True when some \uXXXX may need repair. */
static bool openai_has_escapes(struct bytes b)
{
    while (b.count > 0) {
        const uint8_t *slash = memchr(b.at, '\\', b.count);
        if (slash == NULL)
            return false;
        size_t step = (size_t)(slash - b.at) + 1;
        b = (struct bytes){b.at + step, b.count - step};
        if (b.count > 0 && b.at[0] == 'u')
            return true;
    }
    return false;
}

/* The input, or a repaired copy in the arena when it needs one. */
static enum err openai_repair(struct arena *a, struct bytes input, struct bytes *out)
{
    bool is_valid = utf8_is_valid(input);
    bool has_escapes = openai_has_escapes(input);
    *out = input;
    if (is_valid && !has_escapes)
        return ERR_OK;
    if (input.count > SIZE_MAX / 3)
        return ERR_FULL;
    uint8_t *copy = arena_take(a, is_valid ? input.count : input.count * 3);
    if (copy == NULL)
        return ERR_FULL;
    size_t count = input.count;
    if (is_valid)
        memcpy(copy, input.at, count);
    else
        count = utf8_repair(input, copy);
    openai_escapes_repair(copy, count);
    *out = (struct bytes){copy, count};
    return ERR_OK;
}

static const struct json *openai_field(const struct json *o, const char *key)
{
    const struct json *v = json_get(o, key);
    return v == NULL || v->kind == JSON_NULL ? NULL : v;
}

/* A string or a number as text; empty when it is neither. */
static struct bytes openai_word(const struct json *v)
{
    if (v == NULL || (v->kind != JSON_STRING && v->kind != JSON_NUMBER))
        return (struct bytes){NULL, 0};
    return v->text;
}

/* An error has one of these shapes; the last two are what some servers in Python answer:
 *
 *     {"error":{"message":M,"code":C,"type":T}}    {"error":M}
 *     {"object":"error","message":M,"code":C}      {"detail":M}
 */
static bool openai_error_find(const struct json *root, struct bytes *message, struct bytes *code)
{
    struct bytes object = {NULL, 0};
    const struct json *e = openai_field(root, "error");
    const struct json *detail = openai_field(root, "detail");
    if (e == NULL && json_get_text(root, "object", &object) && bytes_is(object, "error"))
        e = root;
    if (e == NULL && detail != NULL && openai_field(root, "choices") == NULL) {
        *message = detail->kind == JSON_STRING ? detail->text : detail->raw;
        *code = (struct bytes){NULL, 0};
        return true;
    }
    if (e == NULL)
        return false;
    if (e->kind != JSON_OBJECT) {
        *message = e->kind == JSON_STRING ? e->text : e->raw;
        *code = (struct bytes){NULL, 0};
        return true;
    }
    *message = openai_word(openai_field(e, "message"));
    *code = openai_word(openai_field(e, "code"));
    if (code->count == 0)
        *code = openai_word(openai_field(e, "type"));
    return true;
}

/* Takes the text of `key`; false when something that is no text stands there. */
static bool openai_text(const struct json *o, const char *key, struct bytes *out)
{
    const struct json *v = openai_field(o, key);
    if (v == NULL)
        return true;
    if (v->kind != JSON_STRING)
        return false;
    *out = v->text;
    return true;
}

static bool openai_choice_read(const struct json *choice, struct openai_chunk *c)
{
    if (choice->kind != JSON_OBJECT || !openai_text(choice, "finish_reason", &c->finish))
        return false;
    const struct json *delta = openai_field(choice, "delta");
    if (delta == NULL)
        return true;
    if (delta->kind != JSON_OBJECT || !openai_text(delta, "content", &c->text))
        return false;
    const char *reasoning =
        openai_field(delta, "reasoning_content") != NULL ? "reasoning_content" : "reasoning";
    return openai_text(delta, reasoning, &c->reasoning);
}

/* A count that is missing or odd is no reason to lose an answer. */
static uint64_t openai_count(const struct json *usage, const char *key)
{
    int64_t count = 0;
    return json_get_i64(usage, key, &count) && count > 0 ? (uint64_t)count : 0;
}

static enum err openai_chunk_read(const struct json *root, struct openai_chunk *c)
{
    if (root->kind != JSON_OBJECT)
        return ERR_PROTO;
    if (openai_error_find(root, &c->error_message, &c->error_code)) {
        c->is_error = true;
        return ERR_OK;
    }
    const struct json *choices = openai_field(root, "choices");
    const struct json *usage = openai_field(root, "usage");
    struct bytes object = {NULL, 0};
    bool is_named =
        json_get_text(root, "object", &object) && bytes_is(object, "chat.completion.chunk");
    if (choices == NULL && usage == NULL && !is_named)
        return ERR_PROTO;
    if (choices != NULL) {
        if (choices->kind != JSON_ARRAY)
            return ERR_PROTO;
        if (choices->first != NULL && !openai_choice_read(choices->first, c))
            return ERR_PROTO;
    }
    if (usage != NULL && usage->kind == JSON_OBJECT) {
        c->has_usage = true;
        c->tokens_in = openai_count(usage, "prompt_tokens");
        c->tokens_out = openai_count(usage, "completion_tokens");
    }
    return ERR_OK;
}

static struct bytes openai_trim(struct bytes b)
{
    while (b.count > 0 && b.at[b.count - 1] <= ' ')
        b.count--;
    while (b.count > 0 && b.at[0] <= ' ')
        b = (struct bytes){b.at + 1, b.count - 1};
    return b;
}

enum err openai_chunk_decode(struct arena *a, struct bytes data, struct openai_chunk *out)
{
    struct openai_chunk c = {0};
    struct bytes text = {NULL, 0};
    struct json *root = NULL;
    if (bytes_is(openai_trim(data), "[DONE]")) {
        c.is_done = true;
        *out = c;
        return ERR_OK;
    }
    enum err e = openai_repair(a, data, &text);
    if (e == ERR_OK)
        e = json_parse(a, text, (struct json_limits){0}, &root, NULL);
    if (e == ERR_OK)
        e = openai_chunk_read(root, &c);
    if (e == ERR_OK)
        *out = c;
    return e;
}

bool openai_error_decode(struct arena *a, struct bytes body, struct bytes *message_out,
                         struct bytes *code_out)
{
    struct bytes text = {NULL, 0};
    struct bytes message = {NULL, 0};
    struct bytes code = {NULL, 0};
    struct json *root = NULL;
    if (openai_repair(a, body, &text) != ERR_OK ||
        json_parse(a, text, (struct json_limits){0}, &root, NULL) != ERR_OK ||
        !openai_error_find(root, &message, &code))
        return false;
    *message_out = message;
    *code_out = code;
    return true;
}
