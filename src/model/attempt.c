/* One exchange with a backend: the request out, and the answer's bytes back in as events for
 * attempt_core. The body is a stream of events, or one JSON value from a backend that does not
 * stream; its first byte tells, because content types lie. */
#include "diag/diag.h"
#include "model/completion_priv.h"
#include "model/model_priv.h"

#include <stdio.h>

static void attempt_reset(struct request *r)
{
    if (r->reading)
        sse_reader_fini(&r->reader);
    r->reading = false;
    buf_fini(&r->held);
    r->sniffed = false;
    r->whole = false;
    r->heard_chunk = false;
    r->heard_bytes = false;
    r->stitch = (struct stitch){0};
}

void attempt_close(struct request *r)
{
    if (r->is_open) {
        r->is_open = false;
        http_out_cancel(r->model->net, r->http);
        DIAG_GAUGE_BY(model_inflight, -1);
    }
    attempt_reset(r);
}

/* --- events of the stream -------------------------------------------------------------------- */

static enum model_end_kind attempt_finish_end(struct bytes finish)
{
    if (bytes_is(finish, "length"))
        return MODEL_END_LENGTH;
    if (bytes_is(finish, "content_filter"))
        return MODEL_END_FILTERED;
    return MODEL_END_OK;
}

static bool attempt_simple(struct request *r, enum attempt_event_kind kind)
{
    struct attempt_event ev = {.kind = kind};
    return request_event(r, &ev);
}

static void attempt_log_error(const struct request *r, struct bytes code)
{
    if (code.count > 64)
        code.count = 64;
    diag_log(DIAG_WARN, "model_error", "model=%s status=%u code=%s",
             diag_quote(bytes_of(r->backend->config->name)), r->core.status, diag_quote(code));
}

/* Puts the chunk's text where the end of the turn will find it. False: no memory for it. */
static bool attempt_keep(struct request *r, const struct openai_chunk *c)
{
    if (r->core.state != ATTEMPT_ASKED && r->core.state != ATTEMPT_WRITING)
        return true; /* after finish_reason nothing more is part of the answer */
    buf_bytes(&r->text, c->text);
    buf_bytes(&r->reasoning, c->reasoning);
    return !r->text.failed && !r->reasoning.failed && request_dirty(r) == ERR_OK;
}

static bool attempt_chunk(struct request *r, const struct openai_chunk *c)
{
    r->heard_chunk = true;
    if (c->is_error) {
        attempt_log_error(r, c->error_code);
        return attempt_simple(r, ATTEMPT_ON_ERROR);
    }
    if (c->has_usage) {
        r->has_usage = true;
        r->tokens_in = c->tokens_in;
        r->tokens_out = c->tokens_out;
    }
    if (c->text.count != 0 || c->reasoning.count != 0) {
        DIAG_COUNT(model_tokens);
        if (!attempt_keep(r, c))
            return attempt_simple(r, ATTEMPT_ON_NO_ROOM);
        if (r->first_token_ms < 0)
            r->first_token_ms = mono_since_ms(r->begun, engine_now(r->model->engine));
        if (!attempt_simple(r, ATTEMPT_ON_TOKEN))
            return false;
    }
    if (c->finish.count != 0) {
        struct attempt_event ev = {.kind = ATTEMPT_ON_FINISH, .end = attempt_finish_end(c->finish)};
        if (!request_event(r, &ev))
            return false;
    }
    if (!c->is_done)
        return true;
    request_learn(r);
    return attempt_simple(r, ATTEMPT_ON_DONE);
}

bool attempt_data(struct request *r, struct bytes data)
{
    struct arena *a = &r->model->scratch;
    arena_reset(a);
    struct openai_chunk c;
    enum err err = stitch_join(&r->stitch, a, data, &data);
    if (err == ERR_OK)
        err = openai_chunk_decode(a, data, &c);
    if (err == ERR_FULL)
        return attempt_simple(r, ATTEMPT_ON_NO_ROOM);
    if (err != ERR_OK)
        return attempt_simple(r, ATTEMPT_ON_GARBAGE);
    return attempt_chunk(r, &c);
}

static void attempt_stream(struct request *r, struct bytes piece)
{
    /* Asked until it has nothing more: only then does the reader give its memory back. */
    for (;;) {
        size_t used = 0;
        struct sse_event event;
        enum err err = sse_reader_next(&r->reader, piece, &used, &event);
        if (err == ERR_AGAIN)
            return;
        if (err != ERR_OK) {
            (void)attempt_simple(r, ATTEMPT_ON_GARBAGE);
            return;
        }
        piece.at += used;
        piece.count -= used;
        if (event.data.count != 0 && !attempt_data(r, event.data))
            return;
        if (r->core.state == ATTEMPT_DRAINING)
            return;
    }
}

/* --- net's callbacks ------------------------------------------------------------------------- */

static void attempt_on_head(void *ctx, uint16_t status, struct bytes content_type,
                            int64_t retry_after_ms)
{
    struct request *r = ctx;
    (void)content_type;
    (void)retry_after_ms;
    if (r->backend->told_refused)
        pool_see(r, false);
    struct attempt_event ev = {.kind = ATTEMPT_ON_HEAD, .status = status};
    (void)request_event(r, &ev); /* a head never ends a request */
}

/* The body of an error, as far as it is wanted. */
static void attempt_refusal(struct request *r, struct bytes piece)
{
    if (!r->heard_bytes)
        buf_init(&r->held, MODEL_REFUSAL_BYTES_MAX);
    r->heard_bytes = true;
    buf_bytes(&r->held, piece);
    if (!r->held.failed)
        return;
    attempt_log_error(r, (struct bytes){NULL, 0}); /* no error object is so long */
    struct attempt_event enough = {.kind = ATTEMPT_ON_ERROR};
    enough.random = (uint32_t)rng_next(engine_rng(r->model->engine));
    (void)request_event(r, &enough);
}

/* Skips what may stand before a body's first character: white space and a byte order mark. */
static struct bytes attempt_skip_blank(struct bytes piece)
{
    static const uint8_t blank[] = {' ', '\t', '\r', '\n', 0xef, 0xbb, 0xbf};
    while (piece.count != 0 && memchr(blank, piece.at[0], sizeof(blank)) != NULL) {
        piece.at++;
        piece.count--;
    }
    return piece;
}

static void attempt_sniff(struct request *r, struct bytes piece)
{
    struct bytes rest = attempt_skip_blank(piece);
    if (rest.count == 0)
        return;
    r->sniffed = true;
    r->whole = rest.at[0] == '{' || rest.at[0] == '[';
    if (r->whole) {
        buf_init(&r->held, MODEL_EVENT_BYTES_MAX);
        return;
    }
    sse_reader_init(&r->reader, MODEL_EVENT_BYTES_MAX);
    r->reading = true;
}

static void attempt_on_body(void *ctx, struct bytes piece)
{
    struct request *r = ctx;
    if (piece.count == 0 || r->core.state == ATTEMPT_DRAINING)
        return;
    if (r->core.state == ATTEMPT_REFUSED) {
        attempt_refusal(r, piece);
        return;
    }
    r->heard_bytes = true;
    if (!r->sniffed)
        attempt_sniff(r, piece);
    if (!r->sniffed)
        return;
    if (!r->whole) {
        attempt_stream(r, piece);
        return;
    }
    buf_bytes(&r->held, piece);
    if (r->held.failed)
        (void)attempt_simple(r, ATTEMPT_ON_GARBAGE);
}

/* A whole completion is a chunk, [DONE] included. */
static bool attempt_whole(struct request *r)
{
    struct arena *a = &r->model->scratch;
    arena_reset(a);
    struct openai_chunk c;
    if (completion_decode(a, buf_view(&r->held), &c) != ERR_OK)
        return attempt_simple(r, ATTEMPT_ON_GARBAGE);
    if (c.is_error)
        return attempt_chunk(r, &c);
    enum model_end_kind end = attempt_finish_end(c.finish);
    c.finish.count = 0;
    if (!attempt_chunk(r, &c))
        return false;
    request_learn(r);
    struct attempt_event done = {.kind = ATTEMPT_ON_DONE, .end = end};
    return request_event(r, &done);
}

static void attempt_refused_code(const struct request *r)
{
    struct arena *a = &r->model->scratch;
    arena_reset(a);
    struct bytes message = {NULL, 0};
    struct bytes code = {NULL, 0};
    if (r->held.count != 0)
        (void)openai_error_decode(a, buf_view(&r->held), &message, &code);
    attempt_log_error(r, code);
}

static void attempt_failed(struct request *r, enum http_out_error error, const char *detail)
{
    diag_log(DIAG_WARN, "model_error", "model=%s error=%s detail=%s",
             diag_quote(bytes_of(r->backend->config->name)), http_out_error_name(error),
             diag_quote(bytes_of(detail == NULL ? "" : detail)));
    bool remote = !r->backend->config->local;
    if (remote && error == HTTP_OUT_REFUSED)
        pool_see(r, true);
}

static void attempt_on_done(void *ctx, enum http_out_error error, const char *detail)
{
    struct request *r = ctx;
    r->is_open = false;
    DIAG_GAUGE_BY(model_inflight, -1);
    if (r->core.state == ATTEMPT_REFUSED) {
        attempt_refused_code(r);
    } else if (error != HTTP_OUT_OK && r->core.state != ATTEMPT_DRAINING) {
        attempt_failed(r, error, detail);
    } else if (r->whole && r->core.state == ATTEMPT_ASKED && !attempt_whole(r)) {
        return;
    }
    struct attempt_event ev = {
        .kind = ATTEMPT_ON_BODY_END, .error = error, .heard = r->heard_bytes && !r->heard_chunk};
    ev.random = (uint32_t)rng_next(engine_rng(r->model->engine));
    if (r->core.state == ATTEMPT_FINISHING)
        request_learn(r);
    attempt_reset(r);
    (void)request_event(r, &ev);
}

/* --- the request out ------------------------------------------------------------------------- */

bool attempt_auth(const struct backend *b, struct buf *out)
{
    const char *key = b->config->local ? manager_key() : b->config->api_key;
    if (key == NULL || key[0] == 0)
        return false;
    buf_text(out, "Authorization: Bearer ");
    buf_text(out, key);
    buf_byte(out, 0);
    return !out->failed;
}

static bool attempt_url(const struct request *r, char *out, size_t bytes)
{
    int length;
    if (r->backend->config->local)
        length = snprintf(out, bytes, "http://127.0.0.1:%u/v1/chat/completions", r->local_port);
    else
        length = snprintf(out, bytes, "%s/chat/completions", r->backend->config->url);
    return length > 0 && (size_t)length < bytes;
}

enum err attempt_start(struct request *r)
{
    static const struct http_out_owner owner = {attempt_on_head, attempt_on_body, attempt_on_done};
    char url[MODEL_URL_BYTES_MAX];
    char auth[MODEL_AUTH_BYTES_MAX];
    struct buf line;
    attempt_reset(r);
    buf_init_fixed(&line, auth, sizeof(auth));
    const char *headers[] = {"Content-Type: application/json",
                             "Accept: text/event-stream, application/json",
                             attempt_auth(r->backend, &line) ? auth : NULL, NULL};
    if (!attempt_url(r, url, sizeof(url)))
        return ERR_FULL;
    struct http_out_request ask = {.url = url,
                                   .headers = headers,
                                   .body = r->body,
                                   .connect_ms = r->model->config->model_connect_ms};
    enum err err = http_out_start(r->model->net, &ask, &owner, r, &r->http);
    explicit_bzero(auth, sizeof(auth));
    if (err != ERR_OK)
        return err;
    r->is_open = true;
    DIAG_GAUGE_BY(model_inflight, 1);
    return ERR_OK;
}
