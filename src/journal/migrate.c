/* The schema, step by step, forward only. Each step and the note that it was made are one
 * transaction, so that a process that dies in the middle leaves a whole earlier schema. */
#include "base/mem.h"
#include "diag/diag.h"
#include "journal/sql_priv.h"

#define STATEMENT_BYTES_MAX 4096

/* `text` with the store's own words where the shared ones stand. */
static bool statement_make(const struct migrate_port *p, const char *text,
                           char out[STATEMENT_BYTES_MAX])
{
    const struct {
        const char *token;
        const char *word;
    } words[] = {{"$KEY", p->key_type}, {"$NARROW", p->narrow_type}};
    struct buf b;
    buf_init_fixed(&b, out, STATEMENT_BYTES_MAX);
    while (*text != '\0') {
        size_t skip = 0;
        for (size_t i = 0; i < ARRAY_COUNT(words) && skip == 0; i++) {
            if (strncmp(text, words[i].token, strlen(words[i].token)) == 0) {
                skip = strlen(words[i].token);
                buf_text(&b, words[i].word);
            }
        }
        if (skip == 0)
            buf_byte(&b, (uint8_t)*text);
        text += skip == 0 ? 1 : skip;
    }
    buf_byte(&b, 0);
    return !b.failed;
}

static enum err step_note(const struct migrate_port *p, int64_t version, int64_t now_ms)
{
    char text[128];
    struct buf b;
    buf_init_fixed(&b, text, sizeof(text));
    buf_text(&b, "insert into schema_version (version, at_ms) values (");
    buf_i64(&b, version);
    buf_text(&b, ", ");
    buf_i64(&b, now_ms);
    buf_text(&b, ")");
    buf_byte(&b, 0);
    CHECK(!b.failed);
    return p->plain(p->ctx, text);
}

static enum err step_run(const struct migrate_port *p, int64_t version, int64_t now_ms)
{
    enum err err = ERR_OK;
    for (const char *const *at = sql_migrations[version - 1]; *at != NULL && err == ERR_OK; at++) {
        char text[STATEMENT_BYTES_MAX];
        CHECK(statement_make(p, *at, text));
        err = p->plain(p->ctx, text);
    }
    return err == ERR_OK ? step_note(p, version, now_ms) : err;
}

/* One step, when one is missing: *done once there is none. */
static enum err step_next(const struct migrate_port *p, int64_t now_ms, bool *done,
                          struct buf *message)
{
    int64_t version = 0;
    enum err err = p->plain(p->ctx, sql_version_table);
    if (err == ERR_OK)
        err = p->number(p->ctx, "select coalesce(max(version), 0) from schema_version", &version);
    if (err != ERR_OK)
        return err;
    if (version < 0 || version > sql_migrations_count) {
        buf_printf(message,
                   "the store has schema version %lld, this binary knows up to %u;"
                   " use the newer binary",
                   (long long)version, sql_migrations_count);
        return ERR_DENIED;
    }
    *done = version == sql_migrations_count;
    if (*done)
        return ERR_OK;
    err = step_run(p, version + 1, now_ms);
    if (err == ERR_OK)
        diag_log(DIAG_INFO, "journal_migrated", "version=%lld", (long long)(version + 1));
    return err;
}

enum err migrate(const struct migrate_port *p, int64_t now_ms, struct buf *message)
{
    bool done = false;
    enum err err = ERR_OK;
    for (uint32_t i = 0; i <= sql_migrations_count && !done && err == ERR_OK; i++) {
        err = p->plain(p->ctx, "begin immediate");
        if (err != ERR_OK)
            return err;
        err = step_next(p, now_ms, &done, message);
        enum err end = p->plain(p->ctx, err == ERR_OK ? "commit" : "rollback");
        err = err == ERR_OK ? end : err;
    }
    return err;
}
