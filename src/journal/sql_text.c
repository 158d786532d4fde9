/* The statements. What is decided stands in decide.c; here a row that is written carries the same
 * condition once more where that costs nothing, and the count of rows says whether it held. */
#include "journal/sql_text_priv.h"

/* --- the schema ------------------------------------------------------------------------------- */

const char sql_version_table[] =
    "create table if not exists schema_version (version bigint primary key, at_ms bigint not null)";

/* Few trees on the commit path: events go by row number with one unique (conv, n); cids, runs and
 * refusals live in their key. `conv` in them is the conversation's row number: eight bytes at most
 * where its id would be 28. A run's row is found by conversation only while it is unfinished: by
 * the two partial indexes, of which the first is also what makes a second active run impossible. */
static const char *const migration_1[] = {
    "create table meta (name text not null primary key, value text not null) $NARROW",

    "create table users (app text not null, usr text not null, display text not null,"
    " guest bigint not null, made_ms bigint not null, seen_ms bigint not null,"
    " primary key (app, usr)) $NARROW",

    "create table conversations (id $KEY, conv text not null unique, app text not null,"
    " persona text not null, epoch text not null, mode bigint not null, deleted bigint not null,"
    " top bigint not null, head text not null, last_ts bigint not null,"
    " created_ms bigint not null, updated_ms bigint not null, title bytea not null,"
    " last bytea not null)",
    "create index conversations_deleted on conversations (id) where deleted = 1",

    "create table conv_meta (conv bigint not null primary key, meta bytea not null)",
    "create table conv_cids (key bytea not null primary key, conv text not null) $NARROW",

    "create table members (conv bigint not null, usr text not null, owner bigint not null,"
    " archived bigint not null, read_n bigint not null, primary key (conv, usr)) $NARROW",
    "create index members_usr on members (usr, conv)",

    "create table events (conv bigint not null, n bigint not null, kind bigint not null,"
    " msg text, parent text, promised text, by_usr text, run text, payload bytea not null,"
    " primary key (conv, n))",

    "create table cids (conv bigint not null, key bytea not null, content bigint not null,"
    " n bigint not null, msg text, run text, primary key (conv, key)) $NARROW",

    "create table refusals (conv bigint not null, key bytea not null, content bigint not null,"
    " at_ms bigint not null, body bytea not null, primary key (conv, key)) $NARROW",
    "create index refusals_at on refusals (at_ms)",

    "create table runs (run text not null primary key, conv bigint not null, msg text not null,"
    " parent text not null, persona text not null, model text not null, asked_by text not null,"
    " cause bigint not null, continues text not null, state bigint not null,"
    " attempt bigint not null, seq bigint not null, created_ms bigint not null,"
    " node text not null, final_n bigint not null) $NARROW",
    "create unique index runs_active on runs (conv) where state = 1",
    "create index runs_waiting on runs (conv, seq) where state = 0",

    "create table run_parts (run text not null primary key, body bytea not null,"
    " at_ms bigint not null)",
    NULL,
};

const char *const *const sql_migrations[] = {migration_1};
const uint32_t sql_migrations_count = ARRAY_COUNT(sql_migrations);

#define RUN_COLUMNS_OF(r)                                                                   \
    r "run, " r "msg, " r "parent, " r "persona, " r "model, " r "asked_by, " r "cause, " r \
      "continues, " r "state, " r "attempt, " r "seq, " r "created_ms"
#define RUN_COLUMNS   RUN_COLUMNS_OF("r.")
#define EVENT_COLUMNS "n, kind, msg, parent, promised, by_usr, run"
#define LIST_COLUMNS                                                                      \
    "c.id, m.read_n, c.conv, c.persona, c.head, c.top, c.updated_ms, c.mode, m.archived," \
    " c.last, c.title"

/* --- looking ---------------------------------------------------------------------------------- */

/* Left joins keep the order of the tables: each is one look into a key, and a NULL looks nowhere.
 */
#define LOOK                                                                       \
    "with q(i, conv, usr, key, run) as (values $ROWS)"                             \
    " select q.i, c.id, c.app, c.top, c.last_ts, c.updated_ms, m.owner, m.read_n," \
    " k.content, k.n, k.msg, k.run, f.content, f.at_ms, f.body,"                   \
    " r.conv, r.state, r.attempt, r.msg, r.parent, p.at_ms,"                       \
    " (select count(*) from runs a where a.conv = c.id and a.state = 1),"          \
    " (select count(*) from runs w where w.conv = c.id and w.state = 0)"           \
    " from q left join conversations c on c.conv = q.conv and c.deleted = 0"       \
    " left join members m on m.conv = c.id and m.usr = q.usr"                      \
    " left join cids k on k.conv = c.id and k.key = q.key"                         \
    " left join refusals f on f.conv = c.id and f.key = q.key"                     \
    " left join runs r on r.run = q.run"                                           \
    " left join run_parts p on p.run = q.run"

#define LOOK_CREATE                                                                       \
    "with q(i, conv, usr, key) as (values $ROWS)"                                         \
    " select q.i, k.conv, c.conv, c.id, c.app, c.epoch, c.created_ms, c.deleted, m.owner" \
    " from q left join conv_cids k on k.key = q.key"                                      \
    " left join conversations c on c.conv = coalesce(k.conv, q.conv)"                     \
    " left join members m on m.conv = c.id and m.usr = q.usr"

/* --- writing: names of parameters begin with q, so that a column is never meant by accident --- */

#define CONV                                                                                   \
    "insert into conversations (conv, app, persona, epoch, mode, deleted, top, head, last_ts," \
    " created_ms, updated_ms, title, last) values $ROWS"                                       \
    " on conflict do nothing returning id, conv"
#define CONV_CID "insert into conv_cids (key, conv) values $ROWS on conflict do nothing"
#define META     "insert into conv_meta (conv, meta) values $ROWS on conflict do nothing"
#define MEMBERS                                                             \
    "insert into members (conv, usr, owner, archived, read_n) values $ROWS" \
    " on conflict do nothing"

#define HEAD                                                                         \
    "with q(qid, qold, qtop, qhead, qlast, qlast_ts, qupdated) as (values $ROWS)"    \
    " update conversations set top = q.qtop, head = coalesce(q.qhead, head),"        \
    " last = coalesce(q.qlast, last), last_ts = q.qlast_ts, updated_ms = q.qupdated" \
    " from q where id = q.qid and top = q.qold"
#define EVENTS                                                                        \
    "insert into events (conv, n, kind, msg, parent, promised, by_usr, run, payload)" \
    " values $ROWS on conflict do nothing"
#define CID "insert into cids (conv, key, content, n, msg, run) values $ROWS on conflict do nothing"
#define REFUSAL                                                           \
    "insert into refusals (conv, key, content, at_ms, body) values $ROWS" \
    " on conflict (conv, key) do update set content = excluded.content,"  \
    " at_ms = excluded.at_ms, body = excluded.body"

#define RUN_END                                    \
    "with q(qrun, qattempt, qn) as (values $ROWS)" \
    " update runs set state = 2, final_n = q.qn"   \
    " from q where run = q.qrun and attempt = q.qattempt and state <> 2"
#define RUN_NEXT                                                                                \
    "with q(qconv, qnode) as (values $ROWS)"                                                    \
    " update runs set state = 1, attempt = 1, node = q.qnode from q where run ="                \
    " (select w.run from runs w where w.conv = q.qconv and w.state = 0 order by w.seq limit 1)" \
    " returning conv, " RUN_COLUMNS_OF("")
#define RUN                                                                                 \
    "insert into runs (run, conv, msg, parent, persona, model, asked_by, cause, continues," \
    " state, attempt, seq, created_ms, node, final_n) values $ROWS on conflict do nothing"
#define RUN_TAKE                                             \
    "with q(qrun, qattempt, qnode) as (values $ROWS)"        \
    " update runs set attempt = attempt + 1, node = q.qnode" \
    " from q where run = q.qrun and attempt = q.qattempt and state = 1"
#define PART                                                                            \
    "insert into run_parts (run, body, at_ms) values $ROWS on conflict (run) do update" \
    " set body = excluded.body, at_ms = excluded.at_ms"                                 \
    " where length(excluded.body) >= length(run_parts.body)"
#define PART_GONE \
    "with q(qrun) as (values $ROWS) delete from run_parts where run in (select qrun from q)"

#define ABOUT                                                      \
    "with q(qid, qtitle, qpersona) as (values $ROWS)"              \
    " update conversations set title = coalesce(q.qtitle, title)," \
    " persona = coalesce(q.qpersona, persona) from q where id = q.qid"
#define MEMBER                                                        \
    "with q(qconv, qusr, qarchived, qread) as (values $ROWS)"         \
    " update members set archived = coalesce(q.qarchived, archived)," \
    " read_n = coalesce(q.qread, read_n) from q where conv = q.qconv and usr = q.qusr"
#define CONV_GONE                   \
    "with q(qid) as (values $ROWS)" \
    " update conversations set deleted = 1 from q where id = q.qid and deleted = 0"
#define PARTS_GONE                                                       \
    "with q(qconv) as (values $ROWS) delete from run_parts where run in" \
    " (select a.run from q join runs a on a.conv = q.qconv and a.state = 1)"
#define RUNS_GONE                                                           \
    "with q(qconv) as (values $ROWS) delete from runs where run in"         \
    " (select a.run from q join runs a on a.conv = q.qconv and a.state = 1" \
    " union all select w.run from q join runs w on w.conv = q.qconv and w.state = 0)"
#define MEMBERS_GONE \
    "with q(qconv) as (values $ROWS) delete from members where conv in (select qconv from q)"

/* A user who comes again within an hour and has not changed writes nothing. */
#define USER                                                                                    \
    "insert into users (app, usr, display, guest, made_ms, seen_ms) values $ROWS"               \
    " on conflict (app, usr) do update set guest = excluded.guest, seen_ms = excluded.seen_ms," \
    " display = case when excluded.display = '' then users.display else excluded.display end"   \
    " where excluded.seen_ms >= users.seen_ms + 3600000 or excluded.guest <> users.guest"       \
    " or (excluded.display <> '' and excluded.display <> users.display)"

/* --- cleaning up, a bounded piece at a time --------------------------------------------------- */

#define DUE_REFUSALS                            \
    "delete from refusals where (conv, key) in" \
    " (select conv, key from refusals where at_ms < ? order by at_ms limit 500)"
#define DUE_CONV "select id from conversations where deleted = 1 order by id limit 1"
#define DUE_RUNS                                       \
    "delete from runs where run in (select e.run from" \
    " (select run from events where conv = ? order by n limit 500) e where e.run is not null)"
#define DUE_EVENTS                               \
    "delete from events where conv = ? and n in" \
    " (select n from events where conv = ? order by n limit 500)"
#define DUE_CIDS                                 \
    "delete from cids where conv = ? and key in" \
    " (select key from cids where conv = ? order by key limit 500)"
#define DUE_KEPT "delete from refusals where conv = ?"
#define DUE_META "delete from conv_meta where conv = ?"
#define DUE_END  "delete from conversations where id = ?"

/* --- reading ---------------------------------------------------------------------------------- */

#define GET_CONV                                                                              \
    "select c.id, c.app, c.conv, c.persona, c.head, c.epoch, c.top, c.last_ts, c.created_ms," \
    " c.updated_ms, c.mode, c.title, a.meta"                                                  \
    " from conversations c left join conv_meta a on a.conv = c.id"                            \
    " where c.conv = ? and c.deleted = 0"
#define GET_MEMBERS "select usr, owner, archived, read_n from members where conv = ? order by usr"
#define GET_ACTIVE                                                                      \
    "select " RUN_COLUMNS ", p.body from runs r left join run_parts p on p.run = r.run" \
    " where r.conv = ? and r.state = 1"
#define GET_WAITING                                                                     \
    "select " RUN_COLUMNS ", p.body from runs r left join run_parts p on p.run = r.run" \
    " where r.conv = ? and r.state = 0 order by r.seq"
#define GET_RUN                                                           \
    "select " RUN_COLUMNS ", p.body, r.final_n, c.id, c.conv from runs r" \
    " join conversations c on c.id = r.conv and c.deleted = 0"            \
    " left join run_parts p on p.run = r.run where r.run = ?"
#define GET_EVENTS                                  \
    "select " EVENT_COLUMNS ", payload from events" \
    " where conv = ? and n > ? and n < ? order by n limit ?"
#define GET_EVENTS_DOWN                             \
    "select " EVENT_COLUMNS ", payload from events" \
    " where conv = ? and n > ? and n < ? order by n desc limit ?"
#define GET_NARROW_DOWN                    \
    "select " EVENT_COLUMNS " from events" \
    " where conv = ? and n > ? and n < ? order by n desc limit ?"
#define GET_LIST                                                                           \
    "select " LIST_COLUMNS " from members m join conversations c on c.id = m.conv"         \
    " where m.usr = ? and c.app = ? and c.deleted = 0 and (c.updated_ms, c.conv) < (?, ?)" \
    " order by c.updated_ms desc, c.conv desc"
#define GET_LIST_ONE                                                               \
    "select " LIST_COLUMNS " from conversations c join members m on m.conv = c.id" \
    " where m.usr = ? and c.app = ? and c.deleted = 0 and c.conv = ?"
#define GET_UNFINISHED                                          \
    "select c.conv from (select conv from runs where state = 1" \
    " union select conv from runs where state = 0) r"           \
    " join conversations c on c.id = r.conv and c.deleted = 0 order by c.conv"
#define GET_META "select value from meta where name = ?"
#define PUT_META "insert into meta (name, value) values $ROWS on conflict do nothing"

/* --- the table -------------------------------------------------------------------------------- */

#define ROW(name, types) [SQL_##name] = {#name, types, name}

static const struct sql_text texts[SQL_COUNT] = {
    ROW(LOOK, "ittbt"),
    ROW(LOOK_CREATE, "ittb"),
    ROW(CONV, "ttttiiitiiibb"),
    ROW(CONV_CID, "bt"),
    ROW(META, "ib"),
    ROW(MEMBERS, "itiii"),
    ROW(HEAD, "iiitbii"),
    ROW(EVENTS, "iiitttttb"),
    ROW(CID, "ibiitt"),
    ROW(REFUSAL, "ibiib"),
    ROW(RUN_END, "tii"),
    ROW(RUN_NEXT, "it"),
    ROW(RUN, "titttttitiiiiti"),
    ROW(RUN_TAKE, "tit"),
    ROW(PART, "tbi"),
    ROW(PART_GONE, "t"),
    ROW(ABOUT, "ibt"),
    ROW(MEMBER, "itii"),
    ROW(CONV_GONE, "i"),
    ROW(PARTS_GONE, "i"),
    ROW(RUNS_GONE, "i"),
    ROW(MEMBERS_GONE, "i"),
    ROW(USER, "tttiii"),
    ROW(DUE_REFUSALS, "i"),
    ROW(DUE_CONV, ""),
    ROW(DUE_RUNS, "i"),
    ROW(DUE_EVENTS, "ii"),
    ROW(DUE_CIDS, "ii"),
    ROW(DUE_KEPT, "i"),
    ROW(DUE_META, "i"),
    ROW(DUE_END, "i"),
    ROW(GET_CONV, "t"),
    ROW(GET_MEMBERS, "i"),
    ROW(GET_ACTIVE, "i"),
    ROW(GET_WAITING, "i"),
    ROW(GET_RUN, "t"),
    ROW(GET_EVENTS, "iiii"),
    ROW(GET_EVENTS_DOWN, "iiii"),
    ROW(GET_NARROW_DOWN, "iiii"),
    ROW(GET_LIST, "ttit"),
    ROW(GET_LIST_ONE, "ttt"),
    ROW(GET_UNFINISHED, ""),
    ROW(GET_META, "t"),
    ROW(PUT_META, "tt"),
};

const struct sql_text *sql_text(enum sql_id id)
{
    CHECK(id < SQL_COUNT);
    return &texts[id];
}
