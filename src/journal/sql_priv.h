/* sql: what the SQL drivers share: values, rows, and the typed operations made of statements.
 *
 * Owner   : a `struct sql_db` is one connection of one thread.
 * Memory  : values are borrowed until the call returns; row callbacks get values lent for the call.
 * Errors  : ERR_FULL no room (disk or memory), ERR_IO anything else. A row that is not what the
 *           tables promise (a damaged file) is ERR_IO, never a crash.
 * Limits  : SQL_COLUMNS_MAX columns. */
#ifndef JOURNAL_SQL_PRIV_H
#define JOURNAL_SQL_PRIV_H

#include "journal/journal_priv.h"
#include "journal/sql_text_priv.h"

enum value_kind { VALUE_NULL, VALUE_INT, VALUE_TEXT, VALUE_BLOB };

struct value {
    enum value_kind kind;
    int64_t number;
    struct bytes bytes;
};

static inline struct value value_null(void)
{
    return (struct value){.kind = VALUE_NULL};
}
static inline struct value value_i64(int64_t v)
{
    return (struct value){.kind = VALUE_INT, .number = v};
}
static inline struct value value_u64(uint64_t v)
{
    return (struct value){.kind = VALUE_INT, .number = (int64_t)v};
}
static inline struct value value_text(struct bytes v)
{
    return (struct value){.kind = VALUE_TEXT, .bytes = v};
}
static inline struct value value_blob(struct bytes v)
{
    return (struct value){.kind = VALUE_BLOB, .bytes = v};
}
static inline struct value value_id(const struct id *v)
{
    return value_text(id_bytes(v));
}
static inline struct value value_name(const struct name *v)
{
    return value_text(name_bytes(v));
}
/* An id that may be none: NULL takes a byte where an empty text takes one, too, but says more. */
static inline struct value value_id_or_null(const struct id *v)
{
    return v == NULL || id_is_none(v) ? value_null() : value_id(v);
}

/* --- a row, read front to back; the first thing that is not as promised sticks ---------------- */

struct row {
    const struct value *at;
    uint32_t count;
    uint32_t next;
    bool bad;
};

bool row_is_null(const struct row *r); /* the next column */
void row_skip(struct row *r, uint32_t columns);
int64_t row_i64(struct row *r);
uint64_t row_u64(struct row *r);  /* not negative */
uint64_t row_bits(struct row *r); /* any 64 bits */
uint32_t row_u32(struct row *r, uint32_t max);
bool row_flag(struct row *r);
struct id row_id(struct row *r);       /* NULL = none */
struct name row_name(struct row *r);   /* NULL = empty */
struct bytes row_bytes(struct row *r); /* NULL = empty */

/* Columns as in sql_text.c. False = damaged. On true the blobs in *out are the caller's; memory
 * that is missing sets *full and answers false. */
bool row_run(struct row *r, struct run_row *out);
bool row_event(struct row *r, bool narrow, struct event_view *out);
bool row_list(struct row *r, struct list_view *out);
bool row_conv(struct row *r, int64_t *key, struct conv_row *out, bool *full);
bool row_member(struct row *r, struct conv_member *out);
bool row_facts(struct row *r, uint32_t works_count, uint32_t *index_out, struct facts *out,
               bool *full);
bool row_facts_create(struct row *r, uint32_t works_count, uint32_t *index_out, struct facts *out);

/* --- a connection ----------------------------------------------------------------------------- */

/* False = enough: the rest of the rows is not fetched. */
typedef bool sql_row_fn(void *ctx, const struct value *columns, uint32_t count);

struct sql_db {
    /* Carries out `id` for `rows` rows of parameters. `changed` (may be NULL) gets the number of
     * rows that were written. */
    enum err (*run)(struct sql_db *db, enum sql_id id, const struct value *params, uint32_t rows,
                    sql_row_fn *take, void *ctx, uint64_t *changed);
};

enum err sql_look(struct sql_db *db, struct arena *scratch, struct work **wave, uint32_t count);
enum err sql_write(struct sql_db *db, struct arena *scratch, struct work **wave, uint32_t count);
/* Inside a transaction of the caller's. */
enum err sql_tidy(struct sql_db *db, int64_t now_ms, bool *more);

enum err sql_get_conv(struct sql_db *db, const struct id *conv, int64_t *key, struct conv_row *out);
enum err sql_get_members(struct sql_db *db, int64_t key, struct conv_member **out, uint32_t *count);
enum err sql_get_runs(struct sql_db *db, int64_t key, const struct id *conv, struct run_row **out,
                      uint32_t *count);
enum err sql_get_run(struct sql_db *db, const struct id *run, struct run_row *out, int64_t *key,
                     uint64_t *final_offset);
enum err sql_get_events(struct sql_db *db, int64_t key, const struct scan *scan,
                        event_take_fn *take, void *ctx);
enum err sql_get_list(struct sql_db *db, const struct journal_conv_list *ask, list_take_fn *take,
                      void *ctx);
enum err sql_get_unfinished(struct sql_db *db, id_take_fn *take, void *ctx);

/* The store's own facts: generation and secret, made when they are missing. */
enum err sql_meta(struct sql_db *db, struct store *s);

/* --- the schema ------------------------------------------------------------------------------- */

/* A connection that can also run a plain statement: for tables and transactions. */
struct migrate_port {
    void *ctx;
    enum err (*plain)(void *ctx, const char *text); /* begin immediate, commit, rollback, DDL */
    enum err (*number)(void *ctx, const char *text, int64_t *out); /* one row, one number */
    const char *key_type;                                          /* for $KEY */
    const char *narrow_type;                                       /* for $NARROW */
};

/* Brings the schema to this binary's version. ERR_DENIED: it is newer; `message` says so. */
enum err migrate(const struct migrate_port *p, int64_t now_ms, struct buf *message) MUST_USE;

#endif
