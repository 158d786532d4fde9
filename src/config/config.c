/* Loading from all sources, and looking things up. */
#include "base/mem.h"
#include "config/config_priv.h"

static enum err load_begin(struct load *l, struct buf *message)
{
    *l = (struct load){.message = message, .files_read = true};
    l->config = mem_new_zero(sizeof(*l->config));
    if (l->config == NULL || arena_grow_init(&l->scratch, 0, LOAD_SCRATCH_BYTES_MAX) != ERR_OK ||
        arena_grow_init(&l->config->arena, 0, LOAD_CONFIG_BYTES_MAX) != ERR_OK)
        return load_full(l);
    l->root = node_new(l, NODE_MAP, (struct place){"configuration", 0});
    return l->root == NULL ? load_full(l) : ERR_OK;
}

static enum err warnings_keep(struct load *l)
{
    struct config *c = l->config;
    const char **kept = arena_new(&c->arena, const char *, l->warnings_count);
    if (kept == NULL)
        return load_full(l);
    memcpy(kept, l->warnings, l->warnings_count * sizeof(*kept));
    c->warnings = kept;
    c->warnings_count = l->warnings_count;
    return ERR_OK;
}

/* The second half, whatever the sources were: the tree becomes the struct, or everything goes. */
static enum err load_end(struct load *l, enum err err, struct config **out)
{
    if (err == ERR_OK)
        err = apply_tree(l);
    if (err == ERR_OK)
        err = check_all(l);
    if (err == ERR_OK)
        err = warnings_keep(l);
    arena_fini(&l->scratch);
    if (err == ERR_OK)
        *out = l->config;
    else
        config_free(&l->config);
    return err;
}

enum err config_load(const char *file, char *const *environment, const struct config_set *sets,
                     size_t sets_count, struct config **out, struct buf *message)
{
    struct load l;
    enum err err = load_begin(&l, message);
    if (err == ERR_OK && file != NULL)
        err = source_file(&l, file);
    if (err == ERR_OK)
        err = source_environment(&l, environment);
    if (err == ERR_OK)
        err = source_sets(&l, sets, sets_count);
    return load_end(&l, err, out);
}

enum err config_load_text(const char *name, struct bytes content, struct config **out,
                          struct buf *message)
{
    struct load l;
    enum err err = load_begin(&l, message);
    l.files_read = false;
    if (err == ERR_OK)
        err = yaml_read(&l, name, content);
    return load_end(&l, err, out);
}

void config_free(struct config **c)
{
    if (*c == NULL)
        return;
    arena_fini(&(*c)->arena);
    mem_free(*c);
    *c = NULL;
}

const struct config_model *config_model_get(const struct config *c, struct bytes name)
{
    if (name.count == 0)
        name = bytes_of("default");
    for (size_t i = 0; i < c->models_count; i++)
        if (bytes_is(name, c->models[i].name))
            return &c->models[i];
    /* Only the default may be called something else: then it is the first. */
    return bytes_is(name, "default") && c->models_count > 0 ? &c->models[0] : NULL;
}

const struct config_persona *config_persona_get(const struct config *c, struct bytes id)
{
    if (id.count == 0)
        return &c->personas[0];
    for (size_t i = 0; i < c->personas_count; i++)
        if (bytes_is(id, c->personas[i].id))
            return &c->personas[i];
    return NULL;
}
