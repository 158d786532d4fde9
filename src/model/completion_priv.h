/* completion: a chat completion that came whole, from a backend that does not stream.
 *
 * Thread  : pure. Memory: views into the body and the arena.
 * Errors  : ERR_PROTO = no chat completion; ERR_FULL = the arena is full.
 * Source  : docs of the OpenAI chat completions API. */
#ifndef MODEL_COMPLETION_PRIV_H
#define MODEL_COMPLETION_PRIV_H

#include "base/arena.h"
#include "codec/openai.h"

/* The same struct as for a chunk; an error object in place of an answer sets is_error. */
enum err completion_decode(struct arena *a, struct bytes body, struct openai_chunk *out) MUST_USE;

#endif
