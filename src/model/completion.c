/* Reads {"choices": [{"message": {"content": ...}, "finish_reason": ...}], "usage": {...}}. */
#include "model/completion_priv.h"

#include "codec/json.h"

static void completion_usage(const struct json *root, struct openai_chunk *c)
{
    const struct json *usage = json_get(root, "usage");
    int64_t in = 0;
    int64_t out = 0;
    if (!json_get_i64(usage, "prompt_tokens", &in) ||
        !json_get_i64(usage, "completion_tokens", &out))
        return;
    if (in < 0 || out < 0)
        return;
    c->has_usage = true;
    c->tokens_in = (uint64_t)in;
    c->tokens_out = (uint64_t)out;
}

/* Text never holds U+0000: it is replaced, as openai_chunk_decode does. */
static enum err completion_clean(struct arena *a, struct bytes *text)
{
    size_t zeros = 0;
    for (size_t i = 0; i < text->count; i++)
        zeros += text->at[i] == 0;
    if (zeros == 0)
        return ERR_OK;
    uint8_t *out = arena_take(a, text->count + 2 * zeros);
    if (out == NULL)
        return ERR_FULL;
    size_t count = 0;
    for (size_t i = 0; i < text->count; i++) {
        struct bytes c = text->at[i] == 0 ? bytes_of("\xef\xbf\xbd") : bytes_make(text->at + i, 1);
        memcpy(out + count, c.at, c.count);
        count += c.count;
    }
    *text = bytes_make(out, count);
    return ERR_OK;
}

enum err completion_decode(struct arena *a, struct bytes body, struct openai_chunk *out)
{
    struct json *root = NULL;
    enum err err = json_parse(a, body, (struct json_limits){0}, &root, NULL);
    if (err != ERR_OK)
        return err;
    struct openai_chunk c = {0};
    if (openai_error_decode(a, body, &c.error_message, &c.error_code)) {
        c.is_error = true;
        *out = c;
        return ERR_OK;
    }
    const struct json *choices = json_get(root, "choices");
    if (choices == NULL || choices->kind != JSON_ARRAY || choices->first == NULL)
        return ERR_PROTO;
    const struct json *message = json_get(choices->first, "message");
    const struct json *content = json_get(message, "content");
    if (content == NULL || (content->kind != JSON_STRING && content->kind != JSON_NULL))
        return ERR_PROTO;
    (void)json_get_text(message, "content", &c.text); /* null = said nothing */
    if (!json_get_text(message, "reasoning_content", &c.reasoning))
        (void)json_get_text(message, "reasoning", &c.reasoning);
    (void)json_get_text(choices->first, "finish_reason", &c.finish);
    completion_usage(root, &c);
    if (completion_clean(a, &c.text) != ERR_OK || completion_clean(a, &c.reasoning) != ERR_OK)
        return ERR_FULL;
    *out = c;
    return ERR_OK;
}
