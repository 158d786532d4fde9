/* Reads the path, then builds the prompt and hands it to the asker. */
#include "recall/recall.h"

#include "base/mem.h"
#include "codec/json.h"
#include "diag/diag.h"

#define RECALL_SLOTS_MAX         65536
#define RECALL_ARENA_FIRST_BYTES 16384
#define RECALL_ARENA_BYTES_MAX   (32u << 20)

struct recall {
    struct engine *engine;
    struct journal *journal;
    struct model *model;
    const struct config *config;
    struct pool slots;
};

/* One prompt that waits for its path. */
struct slot {
    struct id persona;
    struct name model;
    struct blob *question;
    struct blob *kept;
    struct blob *context;
    enum port port;
    struct handle asker;
};

struct estimate {
    struct model *model;
    struct bytes name;
};

static uint32_t estimate_tokens(void *ctx, struct bytes text)
{
    struct estimate *e = ctx;
    return model_tokens_estimate(e->model, e->name, text);
}

static void ready_drop(struct msg *m)
{
    struct recall_ready *r = (struct recall_ready *)(void *)m;
    arena_fini(&r->arena);
    mem_free(m);
}

static struct recall_ready *ready_new(const struct slot *s)
{
    struct recall_ready *r = msg_new(s->port, RECALL_READY, sizeof(*r));
    r->msg.drop = ready_drop;
    r->asker = s->asker;
    r->err = arena_grow_init(&r->arena, RECALL_ARENA_FIRST_BYTES, RECALL_ARENA_BYTES_MAX);
    return r;
}

static bool copy_text(struct arena *a, struct bytes from, struct bytes *out)
{
    uint8_t *at = arena_take(a, from.count);
    if (at == NULL)
        return false;
    if (from.count > 0)
        memcpy(at, from.at, from.count);
    *out = bytes_make(at, from.count);
    return true;
}

/* One stored message as a turn. ERR_NOT_FOUND: there is nothing to show, because it is only
 * promised, or its payload cannot be read, which is said in the log. ERR_FULL: no memory; a message
 * that is left out for that would be a gap that nobody sees. */
static enum err read_turn(struct arena *a, const struct path_message *m, struct recall_turn *out)
{
    struct json *root = NULL;
    struct bytes kind;
    struct bytes text;
    if (m->payload == NULL)
        return ERR_NOT_FOUND;
    enum err err = json_parse(a, blob_bytes(m->payload), (struct json_limits){0, 0}, &root, NULL);
    if (err == ERR_FULL)
        return err;
    if (err != ERR_OK || !json_get_text(json_get(root, "by"), "kind", &kind) ||
        !json_get_text(root, "text", &text)) {
        diag_log(DIAG_ERROR, "prompt_message_unreadable", "offset=%llu",
                 (unsigned long long)m->offset);
        return ERR_NOT_FOUND;
    }
    out->by_user = bytes_is(kind, "user");
    return copy_text(a, text, &out->text) ? ERR_OK : ERR_FULL;
}

static enum err read_turns(struct recall_ready *r, const struct slot *s,
                           const struct journal_path *path, struct recall_window *w)
{
    size_t count = path == NULL ? 0 : path->messages_count;
    struct recall_turn *turns = arena_new(&r->arena, struct recall_turn, count + 1);
    if (turns == NULL)
        return ERR_FULL;
    w->turns_count = 0;
    for (size_t i = 0; i < count; i++) {
        enum err err = read_turn(&r->arena, &path->messages[i], &turns[w->turns_count]);
        if (err == ERR_FULL)
            return err;
        w->turns_count += err == ERR_OK;
    }
    if (s->question != NULL) {
        turns[w->turns_count].by_user = true;
        if (!copy_text(&r->arena, blob_bytes(s->question), &turns[w->turns_count].text))
            return ERR_FULL;
        w->turns_count++;
    }
    w->turns = turns;
    for (size_t i = w->turns_count; i > 0 && !r->has_last_user; i--) {
        r->has_last_user = turns[i - 1].by_user;
        r->last_user = turns[i - 1].text;
    }
    return ERR_OK;
}

static uint32_t tokens_max(const struct recall *r, const struct config_model *m)
{
    int64_t most = r->config->context_tokens;
    if (m != NULL && m->context_tokens > 0)
        most = m->context_tokens;
    if (m != NULL && m->local)
        most = i64_min(most, r->config->local_context / r->config->local_slots -
                                 r->config->answer_tokens);
    return (uint32_t)i64_max(most, 256);
}

static void build(struct recall *r, const struct slot *s, const struct journal_path *path,
                  struct recall_ready *ready)
{
    struct estimate e = {r->model, name_bytes(&s->model)};
    struct recall_window w = {
        .persona = config_persona_get(r->config, id_bytes(&s->persona)),
        .tokens = estimate_tokens,
        .ctx = &e,
        .tokens_max = tokens_max(r, config_model_get(r->config, e.name)),
        .prefill = model_can_prefill(r->model, e.name),
    };
    if (w.persona == NULL) /* it was taken out of the configuration since */
        w.persona = &r->config->personas[0];
    if (ready->err == ERR_OK && !copy_text(&ready->arena, blob_bytes(s->kept), &w.kept))
        ready->err = ERR_FULL;
    if (ready->err == ERR_OK && !copy_text(&ready->arena, blob_bytes(s->context), &w.context))
        ready->err = ERR_FULL;
    if (ready->err == ERR_OK)
        ready->err = read_turns(ready, s, path, &w);
    if (ready->err == ERR_OK)
        ready->err = recall_window(&ready->arena, &w, &ready->messages, &ready->messages_count,
                                   &ready->tokens_estimate);
}

static void slot_fini(struct slot *s)
{
    blob_unref(&s->question);
    blob_unref(&s->kept);
    blob_unref(&s->context);
}

static void take(void *ctx, struct msg *m)
{
    struct recall *r = ctx;
    struct journal_path *path = (struct journal_path *)(void *)m;
    CHECK(m->kind == JOURNAL_MSG_KIND && path->head.op == JOURNAL_PATH);
    struct slot *s = pool_get(&r->slots, path->head.handle);
    if (s != NULL) {
        struct recall_ready *ready = ready_new(s);
        if (path->head.err != ERR_OK)
            ready->err = path->head.err;
        else if (path->head.outcome != JOURNAL_DONE)
            ready->err = ERR_NOT_FOUND;
        else
            build(r, s, path, ready);
        engine_post(r->engine, &ready->msg);
        slot_fini(s);
        pool_free(&r->slots, path->head.handle);
    }
    msg_free(m);
}

struct recall *recall_make(struct engine *e, struct journal *j, struct model *m,
                           const struct config *c)
{
    struct recall *r = mem_new_zero(sizeof(*r));
    if (r == NULL)
        return NULL;
    r->engine = e;
    r->journal = j;
    r->model = m;
    r->config = c;
    if (pool_init(&r->slots, sizeof(struct slot), RECALL_SLOTS_MAX) != ERR_OK) {
        mem_free(r);
        return NULL;
    }
    engine_listen(e, PORT_RECALL, take, r);
    return r;
}

void recall_free(struct recall **r)
{
    uint32_t index = 0;
    struct handle h;
    if (*r == NULL)
        return;
    for (struct slot *s = pool_next(&(*r)->slots, &index, &h); s != NULL;
         s = pool_next(&(*r)->slots, &index, &h))
        slot_fini(s);
    pool_fini(&(*r)->slots);
    mem_free(*r);
    *r = NULL;
}

static void ask_path(struct recall *r, struct handle h, const struct recall_ask *ask)
{
    struct journal_path *p = JOURNAL_NEW(PATH, journal_path, PORT_RECALL);
    p->head.handle = h;
    p->conv = ask->conv;
    p->from = ask->from;
    p->limit = (uint32_t)r->config->context_messages_max;
    /* No window is larger than this in bytes; older text would only be thrown away. */
    p->bytes_max = (uint32_t)i64_min(r->config->context_tokens * 16, RECALL_ARENA_BYTES_MAX / 4);
    journal_ask(r->journal, r->engine, p);
}

void recall_start(struct recall *r, const struct recall_ask *ask)
{
    struct slot local = {.persona = ask->persona,
                         .model = ask->model,
                         .question = ask->question,
                         .kept = ask->kept,
                         .context = ask->context,
                         .port = ask->port,
                         .asker = ask->asker};
    struct handle h = {0, 0};
    struct slot *s = id_is_none(&ask->from) ? NULL : pool_new(&r->slots, &h);
    if (s != NULL) {
        *s = local;
        (void)blob_ref(s->question);
        (void)blob_ref(s->kept);
        (void)blob_ref(s->context);
        ask_path(r, h, ask);
        return;
    }
    struct recall_ready *ready = ready_new(&local);
    if (!id_is_none(&ask->from))
        ready->err = ERR_FULL;
    else
        build(r, &local, NULL, ready);
    engine_post(r->engine, &ready->msg);
}
