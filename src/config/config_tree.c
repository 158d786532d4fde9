/* The tree of what the sources say, and the one place where errors get their words. */
#include "config/config_priv.h"

#include <stdarg.h>
#include <stdio.h>

#define DETAIL_BYTES_MAX 512

void place_put(struct buf *b, struct place place)
{
    buf_text(b, place.source);
    if (place.line > 0) {
        buf_byte(b, ':');
        buf_u64(b, place.line);
    }
    buf_text(b, ": ");
}

/* Depth is bounded by the sources' limits, so the chain is walked root first without a stack: for
 * each level the ancestor is looked up anew. */
void node_path_put(struct buf *b, const struct node *n)
{
    size_t depth = 0;
    for (const struct node *at = n; at->parent != NULL; at = at->parent)
        depth++;
    for (size_t level = depth; level > 0; level--) {
        const struct node *at = n;
        for (size_t up = 1; up < level; up++)
            at = at->parent;
        if (level < depth)
            buf_byte(b, '.');
        if (at->parent->kind != NODE_LIST) {
            buf_bytes(b, at->key);
            continue;
        }
        uint64_t index = 0;
        for (const struct node *before = at->parent->first; before != at; before = before->next)
            index++;
        buf_u64(b, index);
    }
}

/* A line stays one line, whatever a key or value holds. */
static void line_put(struct buf *b, const char *text)
{
    for (const char *at = text; *at != '\0'; at++)
        buf_byte(b, (unsigned char)*at < 0x20 || *at == 0x7f ? (uint8_t)'?' : (uint8_t)*at);
}

static void line_write(struct buf *b, struct place place, const struct node *n, const char *format,
                       va_list args)
{
    char detail[DETAIL_BYTES_MAX];
    char path[DETAIL_BYTES_MAX];
    place_put(b, place);
    if (n != NULL && n->parent != NULL) {
        struct buf path_buf;
        buf_init_fixed(&path_buf, path, sizeof(path) - 1);
        node_path_put(&path_buf, n);
        path[path_buf.count] = '\0';
        line_put(b, path);
        buf_text(b, ": ");
    }
    (void)vsnprintf(detail, sizeof(detail), format, args);
    line_put(b, detail);
}

enum err load_fail(struct load *l, const struct node *n, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    line_write(l->message, n->place, n, format, args);
    va_end(args);
    return ERR_PROTO;
}

enum err load_fail_at(struct load *l, struct place place, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    line_write(l->message, place, NULL, format, args);
    va_end(args);
    return ERR_PROTO;
}

enum err load_full(struct load *l)
{
    buf_text(l->message, "configuration: memory is out, or it is larger than kith can hold");
    return ERR_FULL;
}

/* Warnings over the limit, or when memory is out, are left out: they are a courtesy. */
void load_warn(struct load *l, const struct node *n, const char *format, ...)
{
    char block[2 * DETAIL_BYTES_MAX];
    struct buf line;
    struct place nowhere = {"configuration", 0};
    va_list args;
    if (l->warnings_count == CONFIG_WARNINGS_MAX)
        return;
    buf_init_fixed(&line, block, sizeof(block));
    va_start(args, format);
    line_write(&line, n == NULL ? nowhere : n->place, n, format, args);
    va_end(args);
    const char *kept = arena_string(&l->config->arena, buf_view(&line));
    if (kept != NULL)
        l->warnings[l->warnings_count++] = kept;
}

struct node *node_new(struct load *l, enum node_kind kind, struct place place)
{
    if (l->nodes_count == NODES_MAX)
        return NULL;
    struct node *n = arena_new(&l->scratch, struct node, 1);
    if (n == NULL)
        return NULL;
    l->nodes_count++;
    n->kind = kind;
    n->place = place;
    return n;
}

void node_append(struct node *parent, struct node *child)
{
    child->parent = parent;
    child->next = NULL;
    if (parent->last == NULL)
        parent->first = child;
    else
        parent->last->next = child;
    parent->last = child;
    parent->count++;
}

void node_turn(struct node *n, enum node_kind kind, struct place place)
{
    n->kind = kind;
    n->place = place;
    n->text = (struct bytes){NULL, 0};
    n->first = NULL;
    n->last = NULL;
    n->count = 0;
}

struct node *node_member(const struct node *map, struct bytes key)
{
    if (map->kind != NODE_MAP)
        return NULL;
    for (struct node *n = map->first; n != NULL; n = n->next)
        if (bytes_equal(n->key, key))
            return n;
    return NULL;
}

struct node *node_item(const struct node *list, uint64_t index)
{
    if (list->kind != NODE_LIST || index >= list->count)
        return NULL;
    struct node *n = list->first;
    for (uint64_t i = 0; i < index; i++)
        n = n->next;
    return n;
}

bool node_is_empty(const struct node *n)
{
    return n->kind == NODE_SCALAR && n->plain &&
           (n->text.count == 0 || bytes_is(n->text, "~") || bytes_is(n->text, "null"));
}

const char *node_kind_name(const struct node *n)
{
    switch (n->kind) {
    case NODE_SCALAR: return "a single value";
    case NODE_MAP: return "a map of keys";
    case NODE_LIST: return "a list";
    }
    return "";
}

struct bytes path_step(struct bytes *path)
{
    size_t count = 0;
    while (count < path->count && path->at[count] != '.')
        count++;
    struct bytes step = {path->at, count};
    size_t skip = size_min(count + 1, path->count);
    path->at += skip;
    path->count -= skip;
    return step;
}

static bool step_index(struct bytes step, uint64_t *out)
{
    uint64_t index = 0;
    if (step.count == 0 || step.count > 6)
        return false;
    for (size_t i = 0; i < step.count; i++) {
        if (step.at[i] < '0' || step.at[i] > '9')
            return false;
        index = index * 10 + (uint64_t)(step.at[i] - '0');
    }
    *out = index;
    return true;
}

const struct node *tree_find(const struct node *root, const char *path)
{
    struct bytes rest = bytes_of(path);
    const struct node *at = root;
    while (at != NULL && rest.count > 0) {
        struct bytes step = path_step(&rest);
        uint64_t index;
        if (at->kind == NODE_LIST)
            at = step_index(step, &index) ? node_item(at, index) : NULL;
        else
            at = node_member(at, step);
    }
    return at;
}

/* Lengthens a list until it holds `index`: sources need not come in order (the environment has
 * none). Gaps are empty elements, which the table refuses later. */
static enum err list_reach(struct load *l, struct node *list, uint64_t index, struct place place)
{
    if (index >= LIST_ITEMS_MAX)
        return load_fail_at(l, place, "no such element; allowed: 0 to %d", LIST_ITEMS_MAX - 1);
    while (list->count <= index) {
        struct node *item = node_new(l, NODE_SCALAR, place);
        if (item == NULL)
            return load_full(l);
        item->plain = true;
        node_append(list, item);
    }
    return ERR_OK;
}

static enum err map_reach(struct load *l, struct node *map, struct bytes step, struct place place)
{
    if (node_member(map, step) != NULL)
        return ERR_OK;
    if (map->count == NODE_MEMBERS_MAX)
        return load_fail_at(l, place, "too many keys; allowed: %d in one map", NODE_MEMBERS_MAX);
    struct node *child = node_new(l, NODE_SCALAR, place);
    if (child == NULL)
        return load_full(l);
    child->key = step;
    child->plain = true;
    node_append(map, child);
    return ERR_OK;
}

/* The child that `step` names, made when it is missing. */
static enum err step_into(struct load *l, struct node *at, struct bytes step, struct place place,
                          struct node **child_out)
{
    uint64_t index = 0;
    bool is_index = step_index(step, &index);
    /* A value of an earlier source that stands in the way gives way: later wins. */
    if (at->kind == NODE_SCALAR)
        node_turn(at, is_index ? NODE_LIST : NODE_MAP, place);
    if (at->kind == NODE_LIST && !is_index)
        return load_fail_at(l, place, "\"%.*s\" does not name an element; allowed: 0, 1, 2, ...",
                            (int)size_min(step.count, 64), (const char *)step.at);
    enum err err =
        at->kind == NODE_LIST ? list_reach(l, at, index, place) : map_reach(l, at, step, place);
    if (err == ERR_OK)
        *child_out = at->kind == NODE_LIST ? node_item(at, index) : node_member(at, step);
    return err;
}

enum err tree_set(struct load *l, struct bytes path, struct bytes value, struct place place)
{
    struct bytes rest = path;
    struct node *at = l->root;
    for (size_t depth = 0; rest.count > 0; depth++) {
        struct bytes step = path_step(&rest);
        if (step.count == 0 || depth == NODE_DEPTH_MAX)
            return load_fail_at(l, place, "not a key: \"%.*s\"; allowed: words joined by dots",
                                (int)size_min(path.count, 128), (const char *)path.at);
        enum err err = step_into(l, at, step, place, &at);
        if (err != ERR_OK)
            return err;
    }
    if (at == l->root)
        return load_fail_at(l, place, "there is no key; allowed: key=value");
    node_turn(at, NODE_SCALAR, place);
    at->plain = true;
    at->text = value;
    return ERR_OK;
}
