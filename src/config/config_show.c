/* `kith show`: what is in force, as YAML that loads to the same. Texts are always quoted: then
 * nobody has to know which words YAML reads as something else.
 *
 * Calls itself only along the table, like config_apply.c. */
#include "codec/utf8.h"
#include "config/config_priv.h"

static void indent_put(struct buf *b, size_t indent)
{
    for (size_t i = 0; i < indent; i++)
        buf_byte(b, ' ');
}

/* The code point that starts at text[*at]; the text is valid UTF-8. */
static uint32_t code_point(const char *text, size_t *at)
{
    uint8_t first = (uint8_t)text[*at];
    size_t more = first < 0x80 ? 0 : first < 0xe0 ? 1 : first < 0xf0 ? 2 : 3;
    uint32_t c = more == 0 ? first : first & (0x3fu >> more);
    for (size_t i = 1; i <= more; i++)
        c = c << 6 | ((uint8_t)text[*at + i] & 0x3fu);
    *at += more + 1;
    return c;
}

/* What YAML 1.1 does not count as printable, or reads as the end of a line. */
static bool must_escape(uint32_t c)
{
    return c < 0x20 || (c >= 0x7f && c <= 0xa0) || c == 0x2028 || c == 0x2029 || c == 0xfeff ||
           c == 0xfffe || c == 0xffff;
}

static void text_put(struct buf *b, const char *text)
{
    buf_byte(b, '"');
    for (size_t at = 0; text[at] != '\0';) {
        size_t from = at;
        uint32_t c = code_point(text, &at);
        if (c == '\n')
            buf_text(b, "\\n");
        else if (c == '"' || c == '\\')
            buf_printf(b, "\\%c", (int)c);
        else if (must_escape(c))
            buf_printf(b, "\\u%04x", c);
        else
            buf_put(b, text + from, at - from);
    }
    buf_byte(b, '"');
}

static const char *text_get(const struct field *f, const void *record)
{
    const char *text;
    memcpy(&text, (const char *)record + f->offset, sizeof(text));
    return text;
}

static int64_t number_get(const struct field *f, const void *record)
{
    int64_t number;
    memcpy(&number, (const char *)record + f->offset, sizeof(number));
    return number;
}

static double double_get(const struct field *f, const void *record)
{
    double number;
    memcpy(&number, (const char *)record + f->offset, sizeof(number));
    return number;
}

static size_t list_get(const struct field *f, const void *record, const char **items_out)
{
    size_t count;
    memcpy(items_out, (const char *)record + f->offset, sizeof(*items_out));
    memcpy(&count, (const char *)record + f->count_offset, sizeof(count));
    return count;
}

static void scalar_put(struct buf *b, const struct field *f, const void *record)
{
    const char *at = (const char *)record + f->offset;
    enum config_flag flag;
    bool yes;
    switch (f->kind) {
    case FIELD_NUMBER: value_number_put(b, f->unit, number_get(f, record)); return;
    case FIELD_DOUBLE: value_double_put(b, double_get(f, record)); return;
    case FIELD_BOOL:
        memcpy(&yes, at, sizeof(yes));
        buf_text(b, yes ? "true" : "false");
        return;
    case FIELD_FLAG:
        memcpy(&flag, at, sizeof(flag));
        buf_text(b, value_flag_name(flag));
        return;
    case FIELD_TEXT: text_put(b, text_get(f, record)); return;
    case FIELD_LIST:
    case FIELD_LATER: return;
    }
}

/* Inside an element only what differs from the default is worth a line. */
static bool is_worth(const struct field *f, const void *record)
{
    const char *items;
    switch (f->kind) {
    case FIELD_NUMBER: return number_get(f, record) != f->number;
    case FIELD_DOUBLE: return double_get(f, record) >= 0;
    case FIELD_TEXT: return !f->secret && strcmp(text_get(f, record), f->text) != 0;
    case FIELD_LIST: return list_get(f, record, &items) > 0;
    case FIELD_BOOL:
    case FIELD_FLAG: return true;
    case FIELD_LATER: return false;
    }
    return false;
}

static void list_put(struct buf *b, const struct field *f, const char *key, const void *record,
                     size_t indent);

static void item_put(struct buf *b, const struct list_type *type, const void *item, size_t indent)
{
    bool is_first = true;
    if (type->fields == NULL) {
        indent_put(b, indent);
        buf_text(b, "- ");
        text_put(b, text_get(type->lone, item));
        buf_byte(b, '\n');
        return;
    }
    for (size_t i = 0; i < type->fields_count; i++) {
        const struct field *f = &type->fields[i];
        if (!is_worth(f, item))
            continue;
        if (is_first) {
            indent_put(b, indent);
            buf_text(b, "- ");
        }
        if (f->kind == FIELD_LIST) {
            list_put(b, f, f->key, item, is_first ? 0 : indent + 2);
        } else {
            indent_put(b, is_first ? 0 : indent + 2);
            buf_printf(b, "%s: ", f->key);
            scalar_put(b, f, item);
            buf_byte(b, '\n');
        }
        is_first = false;
    }
    if (is_first) { /* every field has its default: still one element */
        indent_put(b, indent);
        buf_text(b, "- {}\n");
    }
}

static void list_put(struct buf *b, const struct field *f, const char *key, const void *record,
                     size_t indent)
{
    const struct list_type *type = f->list;
    const char *items;
    size_t count = list_get(f, record, &items);
    size_t shown = 0;
    for (size_t i = 0; i < count; i++)
        if (type->hidden == NULL || !type->hidden(items + i * type->item_bytes))
            shown++;
    indent_put(b, indent);
    buf_printf(b, "%s:%s", key, shown == 0 ? " []" : "");
    buf_byte(b, '\n');
    for (size_t i = 0; i < count; i++) {
        const void *item = items + i * type->item_bytes;
        if (type->hidden != NULL && type->hidden(item)) {
            indent_put(b, indent + 2);
            buf_printf(b, "# %s\n", type->hidden_note);
        } else {
            item_put(b, type, item, indent + 2);
        }
    }
}

static void field_put(struct buf *b, const struct field *f, const char *key, const void *record,
                      size_t indent)
{
    if (f->kind == FIELD_LATER)
        return;
    if (f->kind == FIELD_LIST) {
        list_put(b, f, key, record, indent);
        return;
    }
    indent_put(b, indent);
    if (f->secret) {
        buf_printf(b, "# %s: %s\n", key,
                   text_get(f, record)[0] == '\0' ? "not set" : "set, not shown");
        return;
    }
    buf_printf(b, "%s: ", key);
    scalar_put(b, f, record);
    buf_byte(b, '\n');
}

/* A section's fields lie in several places of the table; they are written together where the
 * first of them stands. */
static void section_put(struct buf *b, const struct config *c, size_t first)
{
    size_t bytes = strcspn(config_fields[first].key, ".") + 1;
    buf_put(b, config_fields[first].key, bytes - 1);
    buf_text(b, ":\n");
    for (size_t i = first; i < config_fields_count; i++)
        if (strncmp(config_fields[i].key, config_fields[first].key, bytes) == 0)
            field_put(b, &config_fields[i], config_fields[i].key + bytes, c, 2);
}

static bool is_first_of_section(size_t index)
{
    const char *key = config_fields[index].key;
    size_t bytes = strcspn(key, ".");
    if (key[bytes] != '.')
        return false;
    for (size_t i = 0; i < index; i++)
        if (strncmp(config_fields[i].key, key, bytes + 1) == 0)
            return false;
    return true;
}

void config_show(const struct config *c, struct buf *out)
{
    for (size_t i = 0; i < config_fields_count; i++)
        if (strchr(config_fields[i].key, '.') == NULL && config_fields[i].kind != FIELD_LIST)
            field_put(out, &config_fields[i], config_fields[i].key, c, 0);
    for (size_t i = 0; i < config_fields_count; i++)
        if (is_first_of_section(i))
            section_put(out, c, i);
    for (size_t i = 0; i < config_fields_count; i++)
        if (strchr(config_fields[i].key, '.') == NULL && config_fields[i].kind == FIELD_LIST)
            field_put(out, &config_fields[i], config_fields[i].key, c, 0);
}
