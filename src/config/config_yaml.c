/* YAML events -> the tree. Only what a settings file needs: one document of maps, lists and plain
 * values. Aliases and tags are refused: a setting then stands where it is read.
 *
 * A key may hold dots: `limits.text: 64KiB` says the same as `limits: {text: 64KiB}`. */
#include "config/config_priv.h"

#include <yaml.h>

/* One open map or list. In a map, `value` is the node that the key just read is waiting to fill. */
struct level {
    struct node *container;
    struct node *value;
};

struct reader {
    struct load *load;
    const char *name;
    struct level levels[NODE_DEPTH_MAX];
    size_t depth;
    uint32_t documents;
    bool done;
};

static struct place reader_place(const struct reader *r, yaml_mark_t mark)
{
    return (struct place){r->name, (uint32_t)size_min(mark.line + 1, UINT32_MAX)};
}

static enum err text_copy(struct reader *r, struct bytes text, struct bytes *out)
{
    const char *copy = arena_string(&r->load->scratch, text);
    if (copy == NULL)
        return load_full(r->load);
    *out = bytes_make(copy, text.count);
    return ERR_OK;
}

/* Finds or makes the map that holds the last word of a dotted key. */
static enum err key_step(struct reader *r, struct node *map, struct bytes step, bool last,
                         struct place place, struct node **child_out)
{
    struct node *child = node_member(map, step);
    if (child != NULL && !last && child->kind == NODE_MAP) {
        *child_out = child;
        return ERR_OK;
    }
    if (child != NULL) {
        struct node at = *child;
        at.place = place;
        return load_fail(r->load, &at, "is set twice (first in line %u); allowed: once",
                         child->place.line);
    }
    if (map->count == NODE_MEMBERS_MAX)
        return load_fail_at(r->load, place, "too many keys; allowed: %d in one map",
                            NODE_MEMBERS_MAX);
    child = node_new(r->load, last ? NODE_SCALAR : NODE_MAP, place);
    if (child == NULL)
        return load_full(r->load);
    child->key = step;
    child->plain = true;
    node_append(map, child);
    *child_out = child;
    return ERR_OK;
}

static enum err on_key(struct reader *r, struct bytes key, struct place place)
{
    struct level *level = &r->levels[r->depth - 1];
    struct node *at = level->container;
    struct bytes rest;
    enum err err = text_copy(r, key, &rest);
    for (size_t steps = 0; err == ERR_OK && (steps == 0 || rest.count > 0); steps++) {
        struct bytes step = path_step(&rest);
        if (step.count == 0 || steps == NODE_DEPTH_MAX)
            return load_fail_at(r->load, place,
                                "not a key: \"%.64s\"; allowed: words, joined by dots or nested",
                                (const char *)key.at);
        err = key_step(r, at, step, rest.count == 0, place, &at);
    }
    if (err == ERR_OK)
        level->value = at;
    return err;
}

/* The node that a value which begins here fills. */
static enum err value_begin(struct reader *r, enum node_kind kind, struct place place,
                            struct node **out)
{
    if (r->depth == 0) {
        *out = r->load->root;
        node_turn(*out, kind, place);
        return ERR_OK;
    }
    struct level *level = &r->levels[r->depth - 1];
    if (level->container->kind == NODE_MAP) {
        if (level->value == NULL)
            return load_fail_at(r->load, place, "a key is %s; allowed: a word",
                                kind == NODE_MAP ? "a map" : "a list");
        *out = level->value;
        level->value = NULL;
        node_turn(*out, kind, (*out)->place); /* where its key stands */
        return ERR_OK;
    }
    struct node *item = node_new(r->load, kind, place);
    if (item == NULL)
        return load_full(r->load);
    node_append(level->container, item);
    *out = item;
    return ERR_OK;
}

static enum err on_open(struct reader *r, enum node_kind kind, const yaml_char_t *tag,
                        struct place place)
{
    struct node *n;
    if (tag != NULL)
        return load_fail_at(r->load, place, "tags are not supported; allowed: plain YAML");
    if (r->depth == NODE_DEPTH_MAX)
        return load_fail_at(r->load, place, "nested too deeply; allowed: %d levels",
                            NODE_DEPTH_MAX);
    enum err err = value_begin(r, kind, place, &n);
    if (err == ERR_OK)
        r->levels[r->depth++] = (struct level){n, NULL};
    return err;
}

static enum err on_scalar(struct reader *r, const yaml_event_t *e, struct place place)
{
    struct bytes text = bytes_make(e->data.scalar.value, e->data.scalar.length);
    struct level *level = r->depth == 0 ? NULL : &r->levels[r->depth - 1];
    if (e->data.scalar.tag != NULL)
        return load_fail_at(r->load, place, "tags are not supported; allowed: plain YAML");
    if (level != NULL && level->container->kind == NODE_MAP && level->value == NULL)
        return on_key(r, text, place);
    struct node *n;
    enum err err = value_begin(r, NODE_SCALAR, place, &n);
    if (err != ERR_OK)
        return err;
    n->plain = e->data.scalar.style == YAML_PLAIN_SCALAR_STYLE;
    return text_copy(r, text, &n->text);
}

static enum err on_event(struct reader *r, const yaml_event_t *e)
{
    struct place place = reader_place(r, e->start_mark);
    switch (e->type) {
    case YAML_NO_EVENT:
    case YAML_STREAM_START_EVENT:
    case YAML_DOCUMENT_END_EVENT: return ERR_OK;
    case YAML_DOCUMENT_START_EVENT:
        r->documents++;
        if (r->documents > 1)
            return load_fail_at(r->load, place, "a second document; allowed: one");
        return ERR_OK;
    case YAML_STREAM_END_EVENT: r->done = true; return ERR_OK;
    case YAML_ALIAS_EVENT:
        return load_fail_at(r->load, place, "aliases are not supported; allowed: plain YAML");
    case YAML_SCALAR_EVENT: return on_scalar(r, e, place);
    case YAML_SEQUENCE_START_EVENT: return on_open(r, NODE_LIST, e->data.sequence_start.tag, place);
    case YAML_MAPPING_START_EVENT: return on_open(r, NODE_MAP, e->data.mapping_start.tag, place);
    case YAML_SEQUENCE_END_EVENT:
    case YAML_MAPPING_END_EVENT: r->depth--; return ERR_OK;
    }
    return ERR_OK;
}

static enum err yaml_broken(struct reader *r, const yaml_parser_t *p)
{
    if (p->error == YAML_MEMORY_ERROR)
        return load_full(r->load);
    /* The reader's errors (bad UTF-8, a control character) know a byte position, not a line. */
    if (p->error == YAML_READER_ERROR)
        return load_fail_at(r->load, (struct place){r->name, (uint32_t)(p->mark.line + 1)},
                            "not YAML: %s (byte %zu); allowed: UTF-8 text", p->problem,
                            p->problem_offset);
    return load_fail_at(r->load, reader_place(r, p->problem_mark),
                        "not YAML: %s%s%s; allowed: keys and values, `key: value`",
                        p->context == NULL ? "" : p->context, p->context == NULL ? "" : ", ",
                        p->problem == NULL ? "unreadable" : p->problem);
}

enum err yaml_read(struct load *l, const char *name, struct bytes content)
{
    yaml_parser_t parser;
    struct reader r = {.load = l, .name = name};
    if (yaml_parser_initialize(&parser) == 0)
        return load_full(l);
    yaml_parser_set_input_string(&parser, content.at, content.count);
    enum err err = ERR_OK;
    while (err == ERR_OK && !r.done) { /* each event takes at least one byte of the input */
        yaml_event_t event;
        if (yaml_parser_parse(&parser, &event) == 0) {
            err = yaml_broken(&r, &parser);
            break;
        }
        err = on_event(&r, &event);
        yaml_event_delete(&event);
    }
    yaml_parser_delete(&parser);
    if (err == ERR_OK && node_is_empty(l->root))
        node_turn(l->root, NODE_MAP, l->root->place);
    if (err == ERR_OK && l->root->kind != NODE_MAP)
        return load_fail(l, l->root, "the file is %s; allowed: keys and values, `key: value`",
                         node_kind_name(l->root));
    return err;
}
