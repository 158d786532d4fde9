/* One value: text -> number, flag, text of a field, with the words for what is allowed. */
#include "codec/utf8.h"
#include "config/config_priv.h"

#include <stdio.h>
#include <stdlib.h>

#define SHOWN_BYTES_MAX 64

struct unit {
    const char *of; /* the row's unit */
    const char *suffix;
    int64_t factor;
};

/* Ascending within a unit, so that the last one that divides a number is the shortest to read. */
static const struct unit units[] = {
    {"ms", "ms", 1},        {"ms", "s", 1000},         {"ms", "m", 60000},
    {"ms", "h", 3600000},   {"ms", "d", 86400000},     {"bytes", "B", 1},
    {"bytes", "KiB", 1024}, {"bytes", "MiB", 1048576}, {"bytes", "GiB", 1073741824},
};

bool value_number(struct bytes text, const char *unit, int64_t *out)
{
    int64_t number = 0;
    size_t at = 0;
    for (; at < text.count && text.at[at] >= '0' && text.at[at] <= '9'; at++)
        if (__builtin_mul_overflow(number, 10, &number) ||
            __builtin_add_overflow(number, text.at[at] - '0', &number))
            return false;
    if (at == 0)
        return false;
    struct bytes suffix = {text.at + at, text.count - at};
    if (suffix.count == 0) {
        *out = number;
        return true;
    }
    for (size_t i = 0; i < ARRAY_COUNT(units); i++) {
        if (strcmp(units[i].of, unit) != 0 || !bytes_is(suffix, units[i].suffix))
            continue;
        if (__builtin_mul_overflow(number, units[i].factor, &number))
            return false;
        *out = number;
        return true;
    }
    return false;
}

void value_number_put(struct buf *b, const char *unit, int64_t number)
{
    const struct unit *best = NULL;
    for (size_t i = 0; i < ARRAY_COUNT(units); i++)
        if (strcmp(units[i].of, unit) == 0 && number != 0 && number % units[i].factor == 0)
            best = &units[i];
    buf_i64(b, best == NULL ? number : number / best->factor);
    if (best != NULL && strcmp(best->suffix, "B") != 0)
        buf_text(b, best->suffix);
}

/* The shortest decimal that reads back as the same number. */
void value_double_put(struct buf *b, double number)
{
    char text[40];
    for (int digits = 1; digits <= 17; digits++) {
        (void)snprintf(text, sizeof(text), "%.*g", digits, number);
        double again = strtod(text, NULL);
        if (!(again < number) && !(again > number))
            break;
    }
    buf_text(b, text);
}

const char *value_flag_name(enum config_flag flag)
{
    switch (flag) {
    case CONFIG_FALSE: return "false";
    case CONFIG_TRUE: return "true";
    case CONFIG_AUTO: return "auto";
    }
    return "";
}

void value_range_put(struct buf *b, const struct field *f)
{
    switch (f->kind) {
    case FIELD_NUMBER:
        value_number_put(b, f->unit, f->min);
        if (f->max == INT64_MAX) {
            buf_text(b, " or more");
        } else {
            buf_text(b, " to ");
            value_number_put(b, f->unit, f->max);
        }
        if (strcmp(f->unit, "ms") == 0)
            buf_text(b, " (100ms, 30s, 5m, 2h, 1d, or a number of ms)");
        if (strcmp(f->unit, "bytes") == 0)
            buf_text(b, " (64KiB, 1MiB, 2GiB, or a number of bytes)");
        return;
    case FIELD_DOUBLE: buf_printf(b, "%lld to %lld", (long long)f->min, (long long)f->max); return;
    case FIELD_BOOL: buf_text(b, "true or false"); return;
    case FIELD_FLAG: buf_text(b, "true, false or auto"); return;
    case FIELD_TEXT: buf_printf(b, "text of at most %lld bytes", (long long)f->max); return;
    case FIELD_LIST: buf_printf(b, "a list of at most %zu", f->list->items_max); return;
    case FIELD_LATER: buf_text(b, "anything"); return;
    }
}

void value_default_put(struct buf *b, const struct field *f)
{
    switch (f->kind) {
    case FIELD_NUMBER: value_number_put(b, f->unit, f->number); return;
    case FIELD_DOUBLE:
    case FIELD_LATER: buf_text(b, "not set"); return;
    case FIELD_BOOL:
    case FIELD_FLAG: buf_text(b, value_flag_name((enum config_flag)f->number)); return;
    case FIELD_TEXT: buf_text(b, f->text[0] == '\0' ? "empty" : f->text); return;
    case FIELD_LIST: buf_text(b, "none"); return;
    }
}

static enum err not_allowed(struct load *l, const struct node *n, const struct field *f)
{
    char allowed[160];
    struct buf b;
    buf_init_fixed(&b, allowed, sizeof(allowed) - 1);
    value_range_put(&b, f);
    allowed[b.count] = '\0';
    if (n->kind != NODE_SCALAR)
        return load_fail(l, n, "is %s; allowed: %s", node_kind_name(n), allowed);
    if (node_is_empty(n))
        return load_fail(l, n, "is empty; allowed: %s", allowed);
    return load_fail(l, n, "\"%.*s\"; allowed: %s", (int)size_min(n->text.count, SHOWN_BYTES_MAX),
                     (const char *)n->text.at, allowed);
}

static bool double_parse(struct bytes text, double *out)
{
    char copy[32];
    char *end;
    if (text.count == 0 || text.count >= sizeof(copy))
        return false;
    for (size_t i = 0; i < text.count; i++)
        if ((text.at[i] < '0' || text.at[i] > '9') && text.at[i] != '.')
            return false;
    memcpy(copy, text.at, text.count);
    copy[text.count] = '\0';
    *out = strtod(copy, &end);
    return *end == '\0';
}

static bool flag_parse(struct bytes text, bool may_auto, enum config_flag *out)
{
    for (enum config_flag flag = CONFIG_FALSE; flag <= CONFIG_AUTO; flag++) {
        if (!bytes_is(text, value_flag_name(flag)) || (flag == CONFIG_AUTO && !may_auto))
            continue;
        *out = flag;
        return true;
    }
    return false;
}

/* `roles: [edge, work]` and `roles: edge,work` are the same. */
static enum err list_join(struct load *l, const struct node *n, const struct field *f,
                          struct bytes *out)
{
    struct buf b;
    char block[512];
    buf_init_fixed(&b, block, sizeof(block));
    for (const struct node *item = n->first; item != NULL; item = item->next) {
        if (item->kind != NODE_SCALAR)
            return load_fail(l, item, "is %s; allowed: a word", node_kind_name(item));
        if (b.count > 0)
            buf_byte(&b, ',');
        buf_bytes(&b, item->text);
    }
    if (b.failed)
        return not_allowed(l, n, f);
    const char *kept = arena_string(&l->scratch, buf_view(&b));
    if (kept == NULL)
        return load_full(l);
    *out = bytes_of(kept);
    return ERR_OK;
}

static enum err text_set(struct load *l, const struct node *n, const struct field *f, void *record)
{
    struct bytes text = node_is_empty(n) ? (struct bytes){NULL, 0} : n->text;
    if (n->kind == NODE_LIST && f->joined) {
        enum err err = list_join(l, n, f, &text);
        if (err != ERR_OK)
            return err;
    } else if (n->kind != NODE_SCALAR) {
        return not_allowed(l, n, f);
    }
    if (text.count > (size_t)f->max)
        return load_fail(l, n, "has %zu bytes; allowed: at most %lld", text.count,
                         (long long)f->max);
    if (!utf8_is_valid(text) || (text.count > 0 && memchr(text.at, 0, text.count) != NULL))
        return load_fail(l, n, "holds bytes that are not text; allowed: UTF-8 without U+0000");
    const char *kept = arena_string(&l->config->arena, text);
    if (kept == NULL)
        return load_full(l);
    memcpy((char *)record + f->offset, &kept, sizeof(kept));
    return ERR_OK;
}

/* Numbers, flags and the like: one word, in range. */
static bool plain_set(const struct node *n, const struct field *f, void *record)
{
    int64_t number;
    double real;
    enum config_flag flag;
    char *to = (char *)record + f->offset;
    if (f->kind == FIELD_NUMBER) {
        if (!value_number(n->text, f->unit, &number) || number < f->min || number > f->max)
            return false;
        memcpy(to, &number, sizeof(number));
        return true;
    }
    if (f->kind == FIELD_DOUBLE) {
        if (!double_parse(n->text, &real) || real < (double)f->min || real > (double)f->max)
            return false;
        memcpy(to, &real, sizeof(real));
        return true;
    }
    if (!flag_parse(n->text, f->kind == FIELD_FLAG, &flag))
        return false;
    if (f->kind == FIELD_FLAG)
        memcpy(to, &flag, sizeof(flag));
    else
        memcpy(to, &(bool){flag == CONFIG_TRUE}, sizeof(bool));
    return true;
}

enum err value_set(struct load *l, const struct node *n, const struct field *f, void *record)
{
    switch (f->kind) {
    case FIELD_NUMBER:
    case FIELD_DOUBLE:
    case FIELD_BOOL:
    case FIELD_FLAG:
        if (n->kind == NODE_SCALAR && plain_set(n, f, record))
            return ERR_OK;
        return not_allowed(l, n, f);
    case FIELD_TEXT: return text_set(l, n, f, record);
    case FIELD_LATER:
        load_warn(l, n, "is accepted and not in force in this release");
        return ERR_OK;
    case FIELD_LIST: break; /* config_apply.c takes lists apart */
    }
    return ERR_OK;
}
