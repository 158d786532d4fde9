/* Reads the default persona's beginning into the local model before anybody talks to it, so that
 * the first person does not wait for some hundred tokens that are the same for everybody. */
#include "diag/diag.h"
#include "model/model_priv.h"

#include <stdio.h>

#define WARM_BODY_BYTES_MAX (1u << 20)
#define WARM_TOTAL_MS       120000
#define WARM_HEADER_BYTES   160

static void on_head(void *ctx, uint16_t status, struct bytes type, int64_t retry_after_ms)
{
    struct warm *w = ctx;
    (void)type;
    (void)retry_after_ms;
    w->good = status == 200;
}

static void on_body(void *ctx, struct bytes piece)
{
    (void)ctx; /* what it says is nobody's */
    (void)piece;
}

static void on_done(void *ctx, enum http_out_error error, const char *detail)
{
    struct warm *w = ctx;
    (void)detail;
    w->on = false;
    diag_log(DIAG_INFO, "local_model_warm", "good=%d ms=%lld", w->good && error == HTTP_OUT_OK,
             (long long)mono_since_ms(w->begun, engine_now(w->model->engine)));
}

/* The beginning that every conversation with this persona has; in the turn arena. */
static struct blob *warm_body(struct engine *e, const struct config *c)
{
    const struct config_persona *p = &c->personas[0];
    size_t count = 0;
    struct openai_params params = {
        .model = bytes_of("default"), .max_tokens = 1, .temperature = 0, .top_p = -1};
    struct openai_message *m =
        arena_new(engine_turn(e), struct openai_message, 2 + 2 * p->examples_count);
    struct buf b;
    if (m == NULL)
        return NULL;
    m[count++] = (struct openai_message){OPENAI_SYSTEM, bytes_of(p->prompt)};
    for (size_t i = 0; i < p->examples_count; i++) {
        m[count++] = (struct openai_message){OPENAI_USER, bytes_of(p->examples[i].user)};
        m[count++] = (struct openai_message){OPENAI_ASSISTANT, bytes_of(p->examples[i].assistant)};
    }
    m[count++] = (struct openai_message){OPENAI_USER, bytes_of("Hello")};
    buf_init(&b, WARM_BODY_BYTES_MAX);
    openai_request(&b, &params, m, count);
    struct blob *body = buf_take(&b);
    buf_fini(&b);
    return body;
}

void warm_start(struct warm *w, struct model *m, uint16_t port)
{
    static const struct http_out_owner owner = {on_head, on_body, on_done};
    char url[64];
    char key[WARM_HEADER_BYTES];
    const char *headers[] = {"Content-Type: application/json", key, NULL};
    if (w->on || m->config->personas_count == 0)
        return;
    struct blob *body = warm_body(m->engine, m->config);
    (void)snprintf(url, sizeof(url), "http://127.0.0.1:%u/v1/chat/completions", port);
    (void)snprintf(key, sizeof(key), "Authorization: Bearer %s", manager_key());
    struct http_out_request ask = {.url = url,
                                   .headers = headers,
                                   .body = body,
                                   .connect_ms = m->config->model_connect_ms,
                                   .total_ms = WARM_TOTAL_MS};
    w->model = m;
    w->good = false;
    w->begun = engine_now(m->engine);
    w->on = body != NULL && http_out_start(m->net, &ask, &owner, w, &w->http) == ERR_OK;
    blob_unref(&body);
}

void warm_stop(struct warm *w)
{
    if (w->on)
        http_out_cancel(w->model->net, w->http);
    w->on = false;
}
