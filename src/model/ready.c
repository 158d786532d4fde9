/* What /readyz says about the default model: one number that any thread may read. */
#include "diag/diag.h"
#include "model/model_priv.h"

#include <stdatomic.h>
#include <stdio.h>

static _Atomic uint32_t ready_now = READY_STARTING;

static const char *ready_word(uint32_t what, const char **sentence_out)
{
    switch ((enum ready)what) {
    case READY_YES: return NULL;
    case READY_STARTING: *sentence_out = "the server is starting"; return "starting";
    case READY_LOADING:
        *sentence_out = "the local model is loading; messages wait in its queue";
        return "loading";
    case READY_RESTARTING:
        *sentence_out = "the local model ended and is started again in a moment";
        return "restarting";
    case READY_NO_MODELS:
        *sentence_out = "no model is configured: set models[].url to any OpenAI-compatible "
                        "server, or local.enabled to true";
        return "no_model";
    case READY_UNREACHABLE:
        *sentence_out = "the default model's server refuses connections (models[].url)";
        return "unavailable";
    case READY_CAUSE: break;
    }
    enum manager_cause cause = (enum manager_cause)(what - READY_CAUSE);
    *sentence_out = manager_cause_sentence(cause);
    return manager_cause_word(cause);
}

void ready_set(uint32_t what)
{
    const char *sentence = "";
    const char *word = ready_word(what, &sentence);
    atomic_store_explicit(&ready_now, what, memory_order_relaxed);
    diag_condition_set(DIAG_COND_MODEL, word, sentence); /* what /readyz shows */
}

const char *model_not_ready(char *sentence, size_t sentence_bytes)
{
    const char *text = "";
    uint32_t what = atomic_load_explicit(&ready_now, memory_order_relaxed);
    const char *word = ready_word(what, &text);
    if (sentence != NULL && sentence_bytes > 0)
        (void)snprintf(sentence, sentence_bytes, "%s", text); /* cut when the caller has no room */
    return word;
}
