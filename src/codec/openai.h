/* openai: what we say to a chat-completions backend and what it streams back.
 *
 * Thread  : any; pure. Memory: views into the event and the arena.
 * Errors  : ERR_PROTO = not a chunk of a chat completion.
 * Source  : docs of the OpenAI chat completions API; reasoning as `reasoning_content` or
 *           `reasoning` (DeepSeek, vLLM, llama.cpp). */
#ifndef CODEC_OPENAI_H
#define CODEC_OPENAI_H

#include "base/arena.h"
#include "base/base.h"
#include "base/buf.h"

enum openai_role { OPENAI_SYSTEM, OPENAI_USER, OPENAI_ASSISTANT };

struct openai_message {
    enum openai_role role;
    struct bytes text;
};

struct openai_params {
    struct bytes model;
    int32_t max_tokens; /* 0 = not sent */
    double temperature; /* < 0 = not sent */
    double top_p;       /* < 0 = not sent */
    bool stream;        /* asks for usage, too */
};

void openai_request(struct buf *b, const struct openai_params *p,
                    const struct openai_message *messages, size_t messages_count);

struct openai_chunk {
    bool is_done; /* [DONE] */
    bool is_error;
    struct bytes error_message;
    struct bytes error_code; /* code or type, as text */
    struct bytes text;       /* delta.content; valid UTF-8 without U+0000 */
    struct bytes reasoning;
    struct bytes finish; /* finish_reason; empty = none */
    bool has_usage;
    uint64_t tokens_in;
    uint64_t tokens_out;
};

/* `data` is one SSE event's data. Chunks without choices are fine (usage). Invalid UTF-8 in the
 * input is repaired first; escapes of lone surrogates and of U+0000 become U+FFFD. ERR_PROTO when
 * it is no chunk; ERR_FULL when the arena is full or a limit of json is passed. *out is untouched
 * unless ERR_OK. */
enum err openai_chunk_decode(struct arena *a, struct bytes data, struct openai_chunk *out) MUST_USE;

/* A whole (not streamed) error body: its message and code (maybe empty); false when it has none,
 * and the results are untouched. */
bool openai_error_decode(struct arena *a, struct bytes body, struct bytes *message_out,
                         struct bytes *code_out);

#endif
