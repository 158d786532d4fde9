/* The reference page, made of the table (docs/config.md). */
#include "config/config_priv.h"

/* A table cell must not end early. */
static void cell_put(struct buf *b, const char *text)
{
    for (const char *at = text; *at != '\0'; at++) {
        if (*at == '|')
            buf_byte(b, '\\');
        buf_byte(b, (uint8_t)*at);
    }
}

static void row_put(struct buf *b, const struct field *f)
{
    buf_printf(b, "| `%s` | ", f->key);
    if (f->kind == FIELD_TEXT && f->text[0] != '\0')
        buf_printf(b, "`%s`", f->text);
    else
        value_default_put(b, f);
    buf_text(b, " | ");
    value_range_put(b, f);
    buf_text(b, " | ");
    if (f->kind == FIELD_LATER)
        buf_text(b, "a later release; accepted with a warning: ");
    cell_put(b, f->help);
    buf_text(b, " |\n");
}

static void table_put(struct buf *b, const struct field *fields, size_t count)
{
    buf_text(b, "| key | default | allowed | meaning |\n| --- | --- | --- | --- |\n");
    for (size_t i = 0; i < count; i++)
        row_put(b, &fields[i]);
    buf_byte(b, '\n');
}

/* Calls itself along the table only: a list in an element of a list. */
static void lists_put(struct buf *b, const struct field *fields, size_t count, const char *prefix)
{
    for (size_t i = 0; i < count; i++) {
        const struct field *f = &fields[i];
        if (f->kind != FIELD_LIST || f->list->fields == NULL)
            continue;
        buf_printf(b, "## `%s%s[]`\n\n%s.\n\n", prefix, f->key, f->help);
        table_put(b, f->list->fields, f->list->fields_count);
        char block[96];
        struct buf path;
        buf_init_fixed(&path, block, sizeof(block) - 1);
        buf_printf(&path, "%s%s[].", prefix, f->key);
        block[path.count] = '\0';
        lists_put(b, f->list->fields, f->list->fields_count, block);
    }
}

void config_reference(struct buf *out)
{
    buf_text(out,
             "# Configuration\n\n"
             "Settings come from four places; a later one wins: the defaults below, the YAML file\n"
             "(`-c FILE`), the environment, `--set key=value`.\n\n"
             "* YAML: `limits.text` is written `limits: {text: 64KiB}` or `limits.text: 64KiB`.\n"
             "* Environment: `KITH_` and the key in capitals, dots as `_`: `KITH_LIMITS_TEXT`;\n"
             "  elements of lists by number: `KITH_MODELS_0_URL`. An empty variable is not set.\n"
             "* Command line: `--set limits.text=64KiB`, `--set models.0.url=http://...`.\n"
             "* Times: `100ms`, `30s`, `5m`, `2h`, `1d` or a number of milliseconds. Sizes:\n"
             "  `64KiB`, `1MiB`, `2GiB` or a number of bytes.\n\n"
             "`kith check` says what is wrong and where, `kith show` what is in force.\n\n"
             "## Settings\n\n");
    table_put(out, config_fields, config_fields_count);
    lists_put(out, config_fields, config_fields_count, "");
}
