/* The tree -> the struct, by the table. Calls itself only along the table (a list's element may
 * hold lists), so the depth is the table's, never the input's. */
#include "config/config_priv.h"

#define ALLOWED_BYTES_MAX 384

void fields_default(const struct field *fields, size_t count, void *record)
{
    for (size_t i = 0; i < count; i++) {
        const struct field *f = &fields[i];
        char *to = (char *)record + f->offset;
        switch (f->kind) {
        case FIELD_NUMBER: memcpy(to, &f->number, sizeof(f->number)); break;
        case FIELD_DOUBLE: memcpy(to, &(double){(double)f->number}, sizeof(double)); break;
        case FIELD_BOOL: memcpy(to, &(bool){f->number != 0}, sizeof(bool)); break;
        case FIELD_FLAG:
            memcpy(to, &(enum config_flag){(enum config_flag)f->number}, sizeof(enum config_flag));
            break;
        case FIELD_TEXT: memcpy(to, &f->text, sizeof(f->text)); break;
        case FIELD_LIST:
        case FIELD_LATER: break;
        }
    }
}

/* True when an earlier row begins with the same `bytes`: a section is listed once. */
static bool is_listed(const struct field *fields, size_t index, size_t bytes)
{
    for (size_t i = 0; i < index; i++)
        if (strncmp(fields[i].key, fields[index].key, bytes) == 0)
            return true;
    return false;
}

/* "name, url, ..." of an element, or the words below "limits." at the top. */
static void allowed_put(struct buf *b, const struct field *fields, size_t count, const char *prefix)
{
    size_t skip = strlen(prefix);
    for (size_t i = 0; i < count; i++) {
        if (strncmp(fields[i].key, prefix, skip) != 0)
            continue;
        const char *word = fields[i].key + skip;
        size_t bytes = strcspn(word, ".");
        if (word[bytes] == '.' && is_listed(fields, i, skip + bytes + 1))
            continue;
        if (b->count > 0)
            buf_text(b, ", ");
        buf_put(b, word, bytes);
    }
}

static enum err unknown_key(struct load *l, const struct node *n, const struct field *fields,
                            size_t count, const char *prefix, struct bytes full)
{
    char block[ALLOWED_BYTES_MAX];
    struct buf allowed;
    const struct field *near = field_nearest(fields, count, full);
    buf_init_fixed(&allowed, block, sizeof(block) - 4);
    allowed_put(&allowed, fields, count, prefix);
    memcpy(block + allowed.count, allowed.failed ? "..." : "", allowed.failed ? 4 : 1);
    if (near != NULL)
        return load_fail(l, n, "there is no such key, is %s meant?; allowed: %s", near->key, block);
    return load_fail(l, n, "there is no such key; allowed: %s", block);
}

static enum err apply_list(struct load *l, const struct node *n, const struct field *f,
                           void *record);

static enum err apply_value(struct load *l, const struct node *n, const struct field *f,
                            void *record)
{
    return f->kind == FIELD_LIST ? apply_list(l, n, f, record) : value_set(l, n, f, record);
}

static enum err apply_record(struct load *l, const struct node *map, const struct list_type *type,
                             void *record)
{
    for (const struct node *n = map->first; n != NULL; n = n->next) {
        const struct field *f = field_find(type->fields, type->fields_count, n->key);
        enum err err = f == NULL ? unknown_key(l, n, type->fields, type->fields_count, "", n->key)
                                 : apply_value(l, n, f, record);
        if (err != ERR_OK)
            return err;
    }
    return ERR_OK;
}

static enum err apply_item(struct load *l, const struct node *n, const struct list_type *type,
                           void *record)
{
    fields_default(type->fields, type->fields_count, record);
    if (n->kind == NODE_MAP && type->fields != NULL)
        return apply_record(l, n, type, record);
    if (n->kind == NODE_SCALAR && !node_is_empty(n) && type->lone != NULL)
        return value_set(l, n, type->lone, record);
    return load_fail(l, n, "is %s; allowed: %s", node_is_empty(n) ? "empty" : node_kind_name(n),
                     type->fields == NULL ? "a text"
                     : type->lone == NULL ? "a map of keys"
                                          : "a text or a map of keys");
}

static enum err apply_list(struct load *l, const struct node *n, const struct field *f,
                           void *record)
{
    const struct list_type *type = f->list;
    size_t count = n->count;
    if (node_is_empty(n))
        return ERR_OK;
    if (n->kind != NODE_LIST)
        return load_fail(l, n, "is %s; allowed: a list", node_kind_name(n));
    if (count > type->items_max)
        return load_fail(l, n, "has %zu elements; allowed: at most %zu", count, type->items_max);
    /* One more than needed: the checks may add an element of their own (the local model). */
    char *items = arena_take_zero(&l->config->arena, (count + 1) * type->item_bytes);
    if (items == NULL)
        return load_full(l);
    const struct node *item = n->first;
    for (size_t i = 0; i < count; i++, item = item->next) {
        enum err err = apply_item(l, item, type, items + i * type->item_bytes);
        if (err != ERR_OK)
            return err;
    }
    memcpy((char *)record + f->offset, &items, sizeof(items));
    memcpy((char *)record + f->count_offset, &count, sizeof(count));
    return ERR_OK;
}

/* True when `key` is the first part of some dotted key. */
static bool is_section(struct bytes key)
{
    for (size_t i = 0; i < config_fields_count; i++) {
        const char *known = config_fields[i].key;
        if (strlen(known) > key.count && memcmp(known, key.at, key.count) == 0 &&
            known[key.count] == '.')
            return true;
    }
    return false;
}

static enum err apply_section(struct load *l, const struct node *section)
{
    char prefix[128];
    char full[256];
    (void)memcpy(prefix, section->key.at, section->key.count);
    prefix[section->key.count] = '.';
    prefix[section->key.count + 1] = '\0';
    if (node_is_empty(section))
        return ERR_OK;
    if (section->kind != NODE_MAP)
        return load_fail(l, section, "is %s; allowed: a map of keys", node_kind_name(section));
    for (const struct node *n = section->first; n != NULL; n = n->next) {
        struct buf b;
        buf_init_fixed(&b, full, sizeof(full));
        buf_text(&b, prefix);
        buf_put(&b, n->key.at, size_min(n->key.count, 100));
        const struct field *f = field_find(config_fields, config_fields_count, buf_view(&b));
        enum err err =
            f == NULL ? unknown_key(l, n, config_fields, config_fields_count, prefix, buf_view(&b))
                      : apply_value(l, n, f, l->config);
        if (err != ERR_OK)
            return err;
    }
    return ERR_OK;
}

enum err apply_tree(struct load *l)
{
    fields_default(config_fields, config_fields_count, l->config);
    for (const struct node *n = l->root->first; n != NULL; n = n->next) {
        const struct field *f = field_find(config_fields, config_fields_count, n->key);
        enum err err;
        if (f != NULL)
            err = apply_value(l, n, f, l->config);
        else if (n->key.count > 0 && n->key.count < 100 && is_section(n->key))
            err = apply_section(l, n);
        else
            err = unknown_key(l, n, config_fields, config_fields_count, "", n->key);
        if (err != ERR_OK)
            return err;
    }
    return ERR_OK;
}
