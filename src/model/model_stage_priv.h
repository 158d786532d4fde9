/* model_stage: what the tests of this room stand on: engines that are stepped by hand, an asker
 * that writes down what it hears, the scripted upstream (tests/upstream.py) as a process, and its
 * admin calls. For tests only; include it in one file of a program.
 *
 * Owner   : the test program. Thread: one steps all engines. */
#ifndef MODEL_MODEL_STAGE_PRIV_H
#define MODEL_MODEL_STAGE_PRIV_H

#include "base/mem.h"
#include "diag/diag.h"
#include "model/model_priv.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

/* A test program need not use all of it. */
#define STAGE_FN             static __attribute__((unused))
#define STAGE_ASKED_MAX      64
#define STAGE_ENGINES_MAX    2
#define STAGE_TEXT_BYTES_MAX (3u << 20)
#define STAGE_WAIT_MS        120000 /* of real time, for anything that is awaited */

/* What one asker heard. */
struct asked {
    struct handle request;
    uint32_t engine;
    struct buf text;
    struct buf reasoning;
    uint32_t texts;
    uint32_t ends;
    uint32_t states;
    bool queued; /* as of the last MODEL_STATE */
    uint32_t position;
    uint32_t position_max;
    bool went_out;
    struct model_end end; /* the last; its msg is not to be used */
};

struct stage {
    struct config config;
    struct config_model models[4];
    uint32_t engines;
    struct net *nets[STAGE_ENGINES_MAX];
    struct model *rooms[STAGE_ENGINES_MAX];
    struct asked asked[STAGE_ASKED_MAX];
    uint32_t asked_count;
    bool http_done;
    int http_status;
    struct buf http_body;
};

static struct stage stage_block; /* not from mem: its counters show only the room's */
static struct stage *stage;

/* --- the upstream process -------------------------------------------------------------------- */

struct stage_process {
    pid_t pid;
    uint16_t port;
    char url[64];
};

/* Tests run from the repository's root; the other place is for people in the room's folder. */
STAGE_FN const char *stage_path(const char *name, char *out, size_t bytes)
{
    (void)snprintf(out, bytes, "tests/%s", name);
    if (access(out, R_OK) != 0)
        (void)snprintf(out, bytes, "../../tests/%s", name);
    return out;
}

STAGE_FN void stage_process_start(struct stage_process *p)
{
    char script[256];
    int ends[2];
    char line[128];
    assert_int_equal(pipe(ends), 0);
    p->pid = fork();
    assert_true(p->pid >= 0);
    if (p->pid == 0) {
        (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
        (void)dup2(ends[1], STDOUT_FILENO);
        (void)execlp("python3", "python3", stage_path("upstream.py", script, sizeof(script)),
                     (char *)NULL);
        _exit(127);
    }
    (void)close(ends[1]);
    FILE *out = fdopen(ends[0], "r");
    assert_non_null(out);
    assert_non_null(fgets(line, sizeof(line), out));
    (void)fclose(out);
    unsigned port = 0;
    assert_int_equal(sscanf(line, "event=listening port=%u", &port), 1);
    p->port = (uint16_t)port;
    (void)snprintf(p->url, sizeof(p->url), "http://127.0.0.1:%u/v1", port);
}

STAGE_FN void stage_process_stop(struct stage_process *p)
{
    (void)kill(p->pid, SIGKILL);
    (void)waitpid(p->pid, NULL, 0);
}

/* --- the asker ------------------------------------------------------------------------------- */

STAGE_FN void stage_hear_text(struct asked *a, const struct model_text *t)
{
    assert_true(a->went_out);
    assert_int_equal(a->ends, 0);
    assert_true(t->text != NULL || t->reasoning != NULL);
    buf_bytes(&a->text, blob_bytes(t->text));
    buf_bytes(&a->reasoning, blob_bytes(t->reasoning));
    assert_false(a->text.failed || a->reasoning.failed);
    a->texts++;
}

STAGE_FN void stage_hear_state(struct asked *a, const struct model_state *s)
{
    assert_int_equal(a->ends, 0);
    a->states++;
    a->queued = s->queued;
    a->position = s->position;
    a->went_out = a->went_out || !s->queued;
    if (s->position > a->position_max)
        a->position_max = s->position;
}

STAGE_FN void stage_take(void *ctx, struct msg *m)
{
    (void)ctx;
    struct model_msg *head = CONTAINER_OF(m, struct model_msg, msg);
    struct asked *a = &stage->asked[head->asker.slot];
    assert_true(handle_equal(head->request, a->request));
    switch ((enum model_kind)m->kind) {
    case MODEL_STATE: stage_hear_state(a, CONTAINER_OF(head, struct model_state, head)); break;
    case MODEL_TEXT: stage_hear_text(a, CONTAINER_OF(head, struct model_text, head)); break;
    case MODEL_END:
        a->end = *CONTAINER_OF(head, struct model_end, head);
        a->ends++;
        break;
    case MODEL_INTERNAL: fail();
    }
    msg_free(m);
}

STAGE_FN struct asked *stage_ask_on(uint32_t engine, const char *model, const char *text)
{
    struct openai_message messages[] = {{OPENAI_SYSTEM, bytes_of("You are a test.")},
                                        {OPENAI_USER, bytes_of(text)}};
    assert_true(stage->asked_count < STAGE_ASKED_MAX);
    uint32_t slot = stage->asked_count;
    struct asked *a = &stage->asked[slot];
    struct model_ask ask = {.model = bytes_of(model),
                            .messages = messages,
                            .messages_count = ARRAY_COUNT(messages),
                            .max_tokens = 24,
                            .port = PORT_REPLY,
                            .asker = {slot, 1}};
    stage->asked_count++;
    a->engine = engine;
    buf_init(&a->text, STAGE_TEXT_BYTES_MAX);
    buf_init(&a->reasoning, STAGE_TEXT_BYTES_MAX);
    assert_int_equal(model_start(stage->rooms[engine], &ask, &a->request), ERR_OK);
    return a;
}

STAGE_FN struct asked *stage_ask(const char *text)
{
    return stage_ask_on(0, "", text);
}

/* --- time ------------------------------------------------------------------------------------ */

STAGE_FN void stage_step(void)
{
    for (uint32_t i = 0; i < stage->engines; i++)
        engine_step(engine_at(i), stage->engines == 1 ? 50 : 1);
}

/* Steps until `condition`, which may use anything in scope. */
#define STAGE_UNTIL(condition)                                                \
    do {                                                                      \
        int64_t stage_from_ms = wall_now_ms();                                \
        while (!(condition)) {                                                \
            stage_step();                                                     \
            if (wall_now_ms() - stage_from_ms > STAGE_WAIT_MS)                \
                fail_msg("in vain for %d ms: %s", STAGE_WAIT_MS, #condition); \
        }                                                                     \
    } while (0)

STAGE_FN void stage_until_end(struct asked *a)
{
    STAGE_UNTIL(a->ends != 0);
    assert_int_equal(a->ends, 1);
}

/* --- the upstream's admin calls -------------------------------------------------------------- */

STAGE_FN void stage_http_head(void *ctx, uint16_t status, struct bytes content_type,
                              int64_t retry_after_ms)
{
    (void)ctx;
    (void)content_type;
    (void)retry_after_ms;
    stage->http_status = status;
}

STAGE_FN void stage_http_body(void *ctx, struct bytes piece)
{
    (void)ctx;
    buf_bytes(&stage->http_body, piece);
}

STAGE_FN void stage_http_done(void *ctx, enum http_out_error error, const char *detail)
{
    (void)ctx;
    (void)detail;
    if (error != HTTP_OUT_OK)
        stage->http_status = -(int)error;
    stage->http_done = true;
}

/* GET, or POST when `body` is not NULL; the body that came is in stage->http_body, with a NUL. */
STAGE_FN int stage_http(uint16_t port, const char *path, const char *body)
{
    static const struct http_out_owner owner = {stage_http_head, stage_http_body, stage_http_done};
    char url[256];
    struct handle request;
    (void)snprintf(url, sizeof(url), "http://127.0.0.1:%u%s", port, path);
    struct blob *blob = body == NULL ? NULL : blob_copy(bytes_of(body));
    struct http_out_request ask = {.url = url, .body = blob, .connect_ms = 5000};
    stage->http_done = false;
    buf_fini(&stage->http_body);
    buf_init(&stage->http_body, STAGE_TEXT_BYTES_MAX);
    assert_int_equal(http_out_start(stage->nets[0], &ask, &owner, NULL, &request), ERR_OK);
    blob_unref(&blob);
    STAGE_UNTIL(stage->http_done);
    buf_byte(&stage->http_body, 0);
    return stage->http_status;
}

/* The number behind "name": in the body that came last. */
STAGE_FN long stage_number(const char *name)
{
    char key[64];
    (void)snprintf(key, sizeof(key), "\"%s\": ", name);
    const char *at = strstr((const char *)stage->http_body.at, key);
    assert_non_null(at);
    return strtol(at + strlen(key), NULL, 10);
}

/* --- making ---------------------------------------------------------------------------------- */

STAGE_FN void stage_config(struct stage *s)
{
    s->config = (struct config){
#define STAGE_NUMBER(field, key, def, min, max, unit, help) .field = def,
        CONFIG_NUMBERS(STAGE_NUMBER)
#undef STAGE_NUMBER
#define STAGE_TEXT(field, key, def, help) .field = def,
            CONFIG_TEXTS(STAGE_TEXT)
#undef STAGE_TEXT
#define STAGE_FLAG(field, key, def, help) .field = def,
                CONFIG_FLAGS(STAGE_FLAG)
#undef STAGE_FLAG
    };
    s->config.models = s->models;
}

STAGE_FN void stage_model_add(struct stage *s, const char *name, const char *url,
                              int64_t concurrency)
{
    assert_true(s->config.models_count < ARRAY_COUNT(s->models));
    s->models[s->config.models_count] = (struct config_model){.name = name,
                                                              .url = url,
                                                              .model = "",
                                                              .api_key_file = "",
                                                              .api_key = "",
                                                              .concurrency = concurrency,
                                                              .temperature = -1};
    s->config.models_count++;
}

/* Models are added between these two. */
STAGE_FN void stage_open(void)
{
    stage_block = (struct stage){0};
    stage = &stage_block;
    stage_config(stage);
}

STAGE_FN void stage_make(uint32_t engines)
{
    stage->engines = engines;
    assert_int_equal(engines_make(engines, 7), ERR_OK);
    for (uint32_t i = 0; i < engines; i++) {
        stage->nets[i] = net_make(engine_at(i), &stage->config);
        assert_non_null(stage->nets[i]);
        stage->rooms[i] = model_make(engine_at(i), stage->nets[i], &stage->config);
        assert_non_null(stage->rooms[i]);
        engine_listen(engine_at(i), PORT_REPLY, stage_take, NULL);
    }
}

STAGE_FN void stage_close(void)
{
    for (uint32_t i = 0; i < stage->engines; i++)
        model_free(&stage->rooms[i]);
    for (uint32_t i = 0; i < stage->engines; i++)
        net_free(&stage->nets[i]);
    engines_free();
    for (uint32_t i = 0; i < stage->asked_count; i++) {
        buf_fini(&stage->asked[i].text);
        buf_fini(&stage->asked[i].reasoning);
    }
    buf_fini(&stage->http_body);
    stage = NULL;
}

#endif
