/* sql_text: every statement of the journal, once, in the SQL that SQLite (>= 3.40) and PostgreSQL
 * (>= 15) share.
 *
 * Thread  : any; constants.
 * Memory  : static.
 * Limits  : SQL_COLUMNS_MAX parameters a row and columns a result.
 *
 * Where a text says $ROWS, a driver puts (?, ...), (?, ...) with SQL_MANY, SQL_SOME or one of them:
 * so three prepared statements serve any count. Elsewhere a ? is the next parameter of the one row.
 * `types` has a letter a parameter: i = bigint, t = text, b = bytea; PostgreSQL needs them as
 * casts. In tables $KEY is the type of a row number that the store gives out, $NARROW marks a table
 * that lives in its primary key where the store can do that, and bytea is SQLite's blob. */
#ifndef JOURNAL_SQL_TEXT_PRIV_H
#define JOURNAL_SQL_TEXT_PRIV_H

#include "base/base.h"

#define SQL_MANY        100
#define SQL_SOME        10
#define SQL_COLUMNS_MAX 24

#define SQL_LIST(X)    \
    X(LOOK)            \
    X(LOOK_CREATE)     \
    X(CONV)            \
    X(CONV_CID)        \
    X(META)            \
    X(MEMBERS)         \
    X(HEAD)            \
    X(EVENTS)          \
    X(CID)             \
    X(REFUSAL)         \
    X(RUN_END)         \
    X(RUN_NEXT)        \
    X(RUN)             \
    X(RUN_TAKE)        \
    X(PART)            \
    X(PART_GONE)       \
    X(ABOUT)           \
    X(MEMBER)          \
    X(CONV_GONE)       \
    X(PARTS_GONE)      \
    X(RUNS_GONE)       \
    X(MEMBERS_GONE)    \
    X(USER)            \
    X(DUE_REFUSALS)    \
    X(DUE_CONV)        \
    X(DUE_RUNS)        \
    X(DUE_EVENTS)      \
    X(DUE_CIDS)        \
    X(DUE_KEPT)        \
    X(DUE_META)        \
    X(DUE_END)         \
    X(GET_CONV)        \
    X(GET_MEMBERS)     \
    X(GET_ACTIVE)      \
    X(GET_WAITING)     \
    X(GET_RUN)         \
    X(GET_EVENTS)      \
    X(GET_EVENTS_DOWN) \
    X(GET_NARROW_DOWN) \
    X(GET_LIST)        \
    X(GET_LIST_ONE)    \
    X(GET_UNFINISHED)  \
    X(GET_META)        \
    X(PUT_META)

enum sql_id {
#define SQL_ENUM(name) SQL_##name,
    SQL_LIST(SQL_ENUM)
#undef SQL_ENUM
        SQL_COUNT
};

struct sql_text {
    const char *name;
    const char *types;
    const char *text;
};

const struct sql_text *sql_text(enum sql_id id);

/* The schema's steps: version 1 is sql_migrations[0]. Each is a list of statements, NULL at the
 * end. They are never changed once released, only added to. */
extern const char *const *const sql_migrations[];
extern const uint32_t sql_migrations_count;

/* What every schema has, before any step. */
extern const char sql_version_table[];

#endif
