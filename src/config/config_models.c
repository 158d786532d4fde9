/* Models and personas: what must be there, and what is built in when nothing is configured. */
#include "config/config_priv.h"

#include <stdio.h>

/* What a processor without an accelerator reads within half of model.first_token, about. */
#define LOCAL_PROMPT_TOKENS_MAX 1536
#define LOCAL_TEMPERATURE       0.6

/* `backends` belong to a later release, but a model that has nothing else is served by the first
 * of them. */
static enum err model_backend_use(struct load *l, struct config_model *m, size_t index)
{
    char path[CHECK_PATH_BYTES_MAX];
    const struct node *n = tree_find(l->root, check_path(path, "models", index, "backends.0.url"));
    if (n == NULL)
        n = tree_find(l->root, check_path(path, "models", index, "backends.0"));
    if (n == NULL || n->kind != NODE_SCALAR || node_is_empty(n))
        return ERR_OK;
    m->url = arena_string(&l->config->arena, n->text);
    if (m->url == NULL)
        return load_full(l);
    load_warn(l, n, "is the only backend used: its model has no url of its own");
    return ERR_OK;
}

static bool url_is_good(struct bytes url)
{
    size_t scheme = 0;
    if (url.count > 7 && memcmp(url.at, "http://", 7) == 0)
        scheme = 7;
    if (url.count > 8 && memcmp(url.at, "https://", 8) == 0)
        scheme = 8;
    if (scheme == 0 || url.at[scheme] == '/')
        return false;
    for (size_t i = 0; i < url.count; i++)
        if (url.at[i] <= ' ' || url.at[i] > '~')
            return false;
    return true;
}

/* kith appends /chat/completions itself, so the whole address is a likely mistake. */
static enum err model_url_check(struct load *l, struct config_model *m, size_t index)
{
    static const char whole[] = "/chat/completions";
    char path[CHECK_PATH_BYTES_MAX];
    struct bytes url = bytes_of(m->url);
    while (url.count > 0 && url.at[url.count - 1] == '/')
        url.count--;
    if (url.count != strlen(m->url))
        m->url = arena_string(&l->config->arena, url);
    if (m->url == NULL)
        return load_full(l);
    (void)check_path(path, "models", index, "url");
    if (url.count == 0)
        return check_fail(l, path, "is not set; allowed: http://host:port/v1, https://...");
    if (!url_is_good(url))
        return check_fail(l, path, "\"%.128s\"; allowed: http://host:port/v1, https://...", m->url);
    if (url.count > strlen(whole) &&
        memcmp(url.at + url.count - strlen(whole), whole, strlen(whole)) == 0)
        return check_fail(l, path, "\"%.128s\" is too long; allowed: the base that ends in /v1",
                          m->url);
    return ERR_OK;
}

static enum err check_model(struct load *l, struct config_model *m, size_t index)
{
    char path[CHECK_PATH_BYTES_MAX];
    (void)check_path(path, "models", index, "name");
    m->api_key = "";
    if (m->name[0] == '\0')
        return check_fail(l, path, "is not set; allowed: a name, unique among models");
    if (!check_is_printable(m->name) || !check_is_printable(m->model))
        return check_fail(l, path, "holds control characters; allowed: visible text");
    for (size_t i = 0; i < index; i++)
        if (strcmp(l->config->models[i].name, m->name) == 0)
            return check_fail(l, path, "\"%s\" is models.%zu, too; allowed: a unique name", m->name,
                              i);
    if (m->model[0] == '\0')
        m->model = m->name;
    enum err err = m->url[0] == '\0' ? model_backend_use(l, m, index) : ERR_OK;
    if (err == ERR_OK)
        err = model_url_check(l, m, index);
    if (err == ERR_OK && m->api_key_file[0] != '\0')
        err = check_key_read(l, check_path(path, "models", index, "api_key_file"), m->api_key_file,
                             &m->api_key);
    return err;
}

/* The prompt and the answer share one slot of the local server's context. */
static int64_t local_prompt_tokens(const struct config *c)
{
    int64_t room = c->local_context / c->local_slots - c->answer_tokens;
    int64_t most = i64_min(c->context_tokens, LOCAL_PROMPT_TOKENS_MAX);
    return i64_min(most, i64_max(room, 256));
}

static enum err local_model_add(struct load *l)
{
    struct config *c = l->config;
    struct config_model *models = (struct config_model *)c->models;
    const char *name = c->models_count == 0 ? "default" : "local";
    if (c->local_enabled == CONFIG_FALSE ||
        (c->local_enabled == CONFIG_AUTO && c->models_count > 0))
        return ERR_OK;
    for (size_t i = 0; i < c->models_count; i++)
        if (strcmp(models[i].name, name) == 0)
            return check_fail(l, "local.enabled",
                              "a configured model is called \"%s\", too; "
                              "allowed: another name for it",
                              name);
    if (models == NULL)
        models = arena_new(&c->arena, struct config_model, 1);
    if (models == NULL)
        return load_full(l);
    models[c->models_count] = (struct config_model){
        .name = name,
        .url = "",
        .model = c->local_model[0] == '\0' ? CONFIG_LOCAL_MODEL_NAME : c->local_model,
        .api_key_file = "",
        .api_key = "",
        .concurrency = c->local_slots,
        .context_tokens = local_prompt_tokens(c),
        .temperature = LOCAL_TEMPERATURE,
        .local = true,
    };
    c->models = models;
    c->models_count++;
    return ERR_OK;
}

enum err check_models(struct load *l)
{
    struct config *c = l->config;
    for (size_t i = 0; i < c->models_count; i++) {
        enum err err = check_model(l, (struct config_model *)&c->models[i], i);
        if (err != ERR_OK)
            return err;
    }
    enum err err = local_model_add(l);
    if (err == ERR_OK && c->models_count == 0)
        load_warn(l, NULL, "local.enabled is false and no models are set: nobody will answer");
    return err;
}

static enum err check_examples(struct load *l, const struct config_persona *p, size_t index)
{
    char path[CHECK_PATH_BYTES_MAX];
    char key[48];
    for (size_t i = 0; i < p->examples_count; i++) {
        bool has_user = p->examples[i].user[0] != '\0';
        (void)snprintf(key, sizeof(key), "examples.%zu.%s", i, has_user ? "assistant" : "user");
        if (!has_user || p->examples[i].assistant[0] == '\0')
            return check_fail(l, check_path(path, "personas", index, key),
                              "is not set; allowed: a text in user and one in assistant");
    }
    for (size_t i = 0; i < p->suggestions_count; i++) {
        (void)snprintf(key, sizeof(key), "suggestions.%zu", i);
        if (p->suggestions[i][0] == '\0')
            return check_fail(l, check_path(path, "personas", index, key),
                              "is empty; allowed: a text");
    }
    return ERR_OK;
}

static enum err check_persona(struct load *l, struct config_persona *p, size_t index)
{
    char path[CHECK_PATH_BYTES_MAX];
    struct id id;
    (void)check_path(path, "personas", index, "id");
    if (id_parse(bytes_of(p->id), &id) != ERR_OK)
        return check_fail(l, path, "%s; allowed: 1 to %d of A-Z a-z 0-9 _ -",
                          p->id[0] == '\0' ? "is not set" : "is not an id", ID_BYTES_MAX);
    for (size_t i = 0; i < index; i++)
        if (strcmp(l->config->personas[i].id, p->id) == 0)
            return check_fail(l, path, "\"%s\" is personas.%zu, too; allowed: a unique id", p->id,
                              i);
    if (p->name[0] == '\0')
        p->name = p->id;
    if (!check_is_printable(p->name))
        return check_fail(l, check_path(path, "personas", index, "name"),
                          "holds control characters; allowed: visible text");
    if (p->model[0] != '\0' && config_model_get(l->config, bytes_of(p->model)) == NULL)
        return check_fail(l, check_path(path, "personas", index, "model"),
                          "\"%s\" is not configured; allowed: a name of models", p->model);
    return check_examples(l, p, index);
}

enum err check_personas(struct load *l)
{
    struct config *c = l->config;
    for (size_t i = 0; i < c->personas_count; i++) {
        enum err err = check_persona(l, (struct config_persona *)&c->personas[i], i);
        if (err != ERR_OK)
            return err;
    }
    if (c->personas_count == 0) {
        c->personas = &config_persona_builtin;
        c->personas_count = 1;
    }
    return ERR_OK;
}
