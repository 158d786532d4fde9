/* Read operations, each in one snapshot, made of what every driver can do. */
#include "base/mem.h"
#include "journal/journal_priv.h"

static const struct driver *driver_of(const struct reader *r)
{
    return r->store->driver;
}

static uint32_t bounded(uint32_t asked)
{
    return asked == 0 || asked > JOURNAL_PAGE_MAX ? JOURNAL_PAGE_MAX : asked;
}

/* ERR_NOT_FOUND is an outcome. */
static bool conv_read(struct reader *r, struct journal_op *op, const struct id *conv, int64_t *key,
                      struct conv_row *row)
{
    op->err = driver_of(r)->conv(r, conv, key, row);
    op->outcome = JOURNAL_DONE;
    if (op->err == ERR_NOT_FOUND) {
        op->err = ERR_OK;
        op->outcome = JOURNAL_GONE;
        return false;
    }
    if (op->err == ERR_OK)
        epoch_make(&row->epoch, bytes_make(row->epoch.at, row->epoch.count), r->store->generation);
    return op->err == ERR_OK;
}

static void load_run(struct reader *r, struct journal_conv_load *o)
{
    int64_t key = 0;
    if (!conv_read(r, &o->head, &o->conv, &key, &o->row))
        return;
    o->head.err = driver_of(r)->members(r, key, &o->members, &o->members_count);
    if (o->head.err == ERR_OK)
        o->head.err = driver_of(r)->runs(r, key, &o->conv, &o->runs, &o->runs_count);
}

/* --- events ----------------------------------------------------------------------------------- */

struct events_reading {
    struct journal_events *op;
    uint32_t events_max;
    uint32_t room;
    uint64_t bytes;
};

static bool events_take(void *ctx, const struct event_view *e)
{
    struct events_reading *g = ctx;
    struct journal_events *o = g->op;
    bool over = o->bytes_max > 0 && g->bytes + e->payload.count > o->bytes_max;
    if (o->events_count > 0 && (o->events_count == g->events_max || over)) {
        o->more = true;
        return false;
    }
    if (o->events_count == g->room) {
        uint32_t room = g->room == 0 ? 16 : g->room * 2;
        struct journal_event *grown = mem_resize(o->events, sizeof(*grown) * room);
        if (grown == NULL) {
            o->head.err = ERR_FULL;
            return false;
        }
        o->events = grown;
        g->room = room;
    }
    struct journal_event made = {.offset = e->offset,
                                 .kind = e->kind,
                                 .msg = e->msg,
                                 .parent = e->parent,
                                 .promised = e->promised};
    made.payload = e->shared != NULL ? blob_ref(e->shared) : blob_copy(e->payload);
    if (made.payload == NULL) {
        o->head.err = ERR_FULL;
        return false;
    }
    g->bytes += made.payload->count;
    o->events[o->events_count++] = made;
    return true;
}

static void events_run(struct reader *r, struct journal_events *o)
{
    int64_t key = 0;
    struct conv_row row = {0};
    if (!conv_read(r, &o->head, &o->conv, &key, &row))
        return;
    o->top = row.offset;
    blob_unref(&row.title);
    blob_unref(&row.meta);
    struct events_reading g = {.op = o, .events_max = bounded(o->events_max)};
    struct scan scan = {.after = o->after,
                        .before = o->before,
                        .reverse = o->reverse,
                        .rows_max = g.events_max + 1};
    enum err err = driver_of(r)->events(r, key, &scan, events_take, &g);
    if (err != ERR_OK)
        o->head.err = err;
}

static void path_run(struct reader *r, struct journal_path *o)
{
    int64_t key = 0;
    o->limit = bounded(o->limit);
    if (conv_read(r, &o->head, &o->conv, &key, &o->row))
        o->head.err = path_read(r, key, o);
}

/* --- the list --------------------------------------------------------------------------------- */

/* What an item needs until its unread messages are counted: the list is read first, because a store
 * may not be able to do two things at once. */
struct list_place {
    int64_t key;
    uint64_t read_offset;
};

struct list_reading {
    struct journal_conv_list *op;
    struct list_place *places;
    uint32_t limit;
    enum err err;
};

static bool list_matches(const struct journal_conv_list *o, const struct list_view *v)
{
    if (o->query == NULL || o->query->count == 0)
        return true;
    return search_contains(v->title, blob_bytes(o->query)) ||
           search_contains(bytes_make(v->item.last.at, v->item.last.count), blob_bytes(o->query));
}

static bool list_take(void *ctx, const struct list_view *v)
{
    struct list_reading *g = ctx;
    struct journal_conv_list *o = g->op;
    if (!list_matches(o, v))
        return true;
    if (o->items_count == g->limit) {
        o->more = true;
        return false;
    }
    struct conv_item item = v->item;
    item.title = blob_copy(v->title);
    if (item.title == NULL) {
        g->err = ERR_FULL;
        return false;
    }
    g->places[o->items_count] = (struct list_place){v->conv_key, v->read_offset};
    o->items[o->items_count++] = item;
    return true;
}

static enum err list_read(struct reader *r, struct journal_conv_list *o, struct list_reading *g)
{
    enum err err = driver_of(r)->list(r, o, list_take, g);
    if (err == ERR_OK)
        err = g->err;
    for (uint32_t i = 0; i < o->items_count && err == ERR_OK; i++) {
        struct conv_item *item = &o->items[i];
        if (item->offset <= g->places[i].read_offset)
            continue;
        err = path_unread(r, g->places[i].key, &item->head_msg, &o->user, g->places[i].read_offset,
                          &item->unread);
    }
    return err;
}

static void list_run(struct reader *r, struct journal_conv_list *o)
{
    struct list_reading g = {.op = o, .limit = bounded(o->limit)};
    o->head.outcome = JOURNAL_DONE;
    o->items = mem_new_zero(sizeof(*o->items) * g.limit);
    g.places = mem_new_zero(sizeof(*g.places) * g.limit);
    if (o->items == NULL || g.places == NULL)
        o->head.err = ERR_FULL;
    else
        o->head.err = list_read(r, o, &g);
    mem_free(g.places);
}

/* --- runs ------------------------------------------------------------------------------------- */

static bool final_take(void *ctx, const struct event_view *e)
{
    struct journal_run_get *o = ctx;
    if (e->kind != EVENT_MSG || !id_equal(&e->msg, &o->row.msg))
        return false;
    o->final.offset = e->offset;
    o->final.kind = e->kind;
    o->final.msg = e->msg;
    o->final.parent = e->parent;
    o->final.payload = e->shared != NULL ? blob_ref(e->shared) : blob_copy(e->payload);
    o->head.err = o->final.payload == NULL ? ERR_FULL : ERR_OK;
    return false;
}

static void run_get_run(struct reader *r, struct journal_run_get *o)
{
    int64_t key = 0;
    uint64_t final_offset = 0;
    o->head.outcome = JOURNAL_DONE;
    o->head.err = driver_of(r)->run(r, &o->run, &o->row, &key, &final_offset);
    if (o->head.err == ERR_NOT_FOUND) {
        o->head.err = ERR_OK;
        o->head.outcome = JOURNAL_GONE;
        return;
    }
    if (o->head.err != ERR_OK || o->row.state != RUN_ENDED)
        return;
    struct scan scan = {.after = final_offset - 1, .before = final_offset + 1, .rows_max = 1};
    o->head.err = ERR_IO; /* the final message of an ended run is there, or the store is damaged */
    if (final_offset == 0)
        return;
    enum err err = driver_of(r)->events(r, key, &scan, final_take, o);
    if (err != ERR_OK)
        o->head.err = err;
}

struct unfinished_reading {
    struct journal_unfinished *op;
    uint32_t room;
    enum err err;
};

static bool unfinished_take(void *ctx, const struct id *conv)
{
    struct unfinished_reading *g = ctx;
    struct journal_unfinished *o = g->op;
    if (o->convs_count == g->room) {
        uint32_t room = g->room == 0 ? 16 : g->room * 2;
        struct id *grown = mem_resize(o->convs, sizeof(*grown) * room);
        if (grown == NULL) {
            g->err = ERR_FULL;
            return false;
        }
        o->convs = grown;
        g->room = room;
    }
    o->convs[o->convs_count++] = *conv;
    return true;
}

static void unfinished_run(struct reader *r, struct journal_unfinished *o)
{
    struct unfinished_reading g = {.op = o};
    o->head.outcome = JOURNAL_DONE;
    o->head.err = driver_of(r)->unfinished(r, unfinished_take, &g);
    if (o->head.err == ERR_OK)
        o->head.err = g.err;
}

void read_run(struct reader *r, struct journal_op *op)
{
    void *o = op;
    CHECK(!journal_op_is_write(op->op));
    op->err = driver_of(r)->read_begin(r);
    if (op->err != ERR_OK)
        return;
    switch (op->op) {
    case JOURNAL_CONV_LOAD: load_run(r, o); break;
    case JOURNAL_EVENTS: events_run(r, o); break;
    case JOURNAL_PATH: path_run(r, o); break;
    case JOURNAL_CONV_LIST: list_run(r, o); break;
    case JOURNAL_RUN_GET: run_get_run(r, o); break;
    case JOURNAL_UNFINISHED: unfinished_run(r, o); break;
    case JOURNAL_CONV_CREATE:
    case JOURNAL_APPEND:
    case JOURNAL_REFUSE:
    case JOURNAL_FINISH:
    case JOURNAL_TAKE:
    case JOURNAL_CHECKPOINT:
    case JOURNAL_CONV_UPDATE:
    case JOURNAL_CONV_DELETE:
    case JOURNAL_READ_SET:
    case JOURNAL_USER_SEEN:
    case JOURNAL_OPS_COUNT: break;
    }
    driver_of(r)->read_end(r);
}
