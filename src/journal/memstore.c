/* The store in memory: the same typed operations on plain structures, for tests, for the simulator,
 * and for people who want to lose everything at exit. It can be hurt on demand.
 *
 * One thread, the writer's, reads and writes, so nothing is locked. An operation takes all memory
 * it needs before it changes anything: it happens or it answers ERR_FULL. */
#include "base/mem.h"
#include "diag/diag.h"
#include "engine/engine.h"
#include "journal/journal_priv.h"

#include <stdlib.h>

#define THINGS_MAX (1u << 28)

struct mem_event {
    struct journal_event event;
    struct name by;
    bool has_by;
    bool ends_run;
};

struct mem_cid {
    uint64_t content;
    uint64_t offset;
    struct id msg;
    struct id run;
};

struct mem_refusal {
    uint64_t content;
    int64_t at_ms;
    struct blob *body;
};

struct mem_run {
    struct mem_run *next; /* in its conversation */
    struct run_row row;
    int64_t conv_key;
    uint64_t final_offset;
    struct name node;
};

struct mem_user {
    struct name display;
    bool guest;
    int64_t seen_ms;
};

struct mem_conv {
    int64_t key;
    struct conv_row row; /* the epoch's random part */
    struct bytes_excerpt last;
    struct conv_member *members; /* by name */
    uint32_t members_count;
    struct mem_event *events; /* events[i] has offset i + 1 */
    uint32_t events_room;
    struct map cids;
    struct map refusals;
    struct mem_run *runs;
};

struct memstore {
    struct store store;
    struct reader reader;
    struct map convs;     /* id -> mem_conv */
    struct map runs;      /* id -> mem_run */
    struct map conv_cids; /* key -> struct id */
    struct map users;
    struct mem_conv **by_key; /* by_key[key - 1]; NULL = deleted */
    uint32_t keys_count;
    uint32_t keys_room;
    enum memstore_fault fault;
    uint32_t fault_after;
    enum memstore_fault now; /* of the running batch */
    bool counted;            /* the running batch was counted */
    bool crashed;
};

static struct memstore *mine(struct store *s)
{
    return CONTAINER_OF(s, struct memstore, store);
}

static struct memstore *read_by(struct reader *r)
{
    return CONTAINER_OF(r, struct memstore, reader);
}

static struct bytes key_bytes(const struct cid_key *k)
{
    return bytes_make(k->at, sizeof(k->at));
}

static struct mem_conv *conv_at(const struct memstore *m, int64_t key)
{
    return key < 1 || key > m->keys_count ? NULL : m->by_key[key - 1];
}

static void map_begin(struct map *m)
{
    static const uint64_t seed[2] = {0x6d656d73746f7265, 0x6a6f75726e616c00};
    map_init(m, THINGS_MAX, seed);
}

/* Everything in the map, and the map. */
static void map_end(struct map *m, void (*drop)(void *value))
{
    uint32_t index = 0;
    void *value;
    while ((value = map_next(m, &index, NULL)) != NULL)
        drop(value);
    map_fini(m);
}

static void refusal_drop(void *value)
{
    struct mem_refusal *r = value;
    blob_unref(&r->body);
    mem_free(r);
}

static void conv_free(struct memstore *m, struct mem_conv *c)
{
    if (c == NULL)
        return;
    while (c->runs != NULL) {
        struct mem_run *run = c->runs;
        c->runs = run->next;
        (void)map_remove(&m->runs, id_bytes(&run->row.run)); /* it is the run itself */
        blob_unref(&run->row.partial);
        mem_free(run);
    }
    for (uint64_t i = 0; i < c->row.offset; i++)
        blob_unref(&c->events[i].event.payload);
    mem_free(c->events);
    mem_free(c->members);
    blob_unref(&c->row.title);
    blob_unref(&c->row.meta);
    map_end(&c->cids, mem_free);
    map_end(&c->refusals, refusal_drop);
    mem_free(c);
}

/* --- looking ---------------------------------------------------------------------------------- */

static const struct conv_member *member_of(const struct mem_conv *c, const struct name *user)
{
    for (uint32_t i = 0; user != NULL && i < c->members_count; i++) {
        if (name_equal(&c->members[i].user, user))
            return &c->members[i];
    }
    return NULL;
}

static void look_member(const struct mem_conv *c, struct work *w)
{
    const struct conv_member *member = member_of(c, w->user);
    w->facts.has_member = member != NULL;
    w->facts.is_owner = member != NULL && member->owner;
    w->facts.read_offset = member == NULL ? 0 : member->read_offset;
}

static void look_cid(const struct mem_conv *c, struct work *w)
{
    if (!w->has_cid_key)
        return;
    struct facts *f = &w->facts;
    const struct mem_cid *cid = map_get(&c->cids, key_bytes(&w->cid_key));
    const struct mem_refusal *refusal = map_get(&c->refusals, key_bytes(&w->cid_key));
    f->has_cid = cid != NULL;
    if (cid != NULL) {
        f->cid_content = cid->content;
        f->cid_offset = cid->offset;
        f->cid_msg = cid->msg;
        f->cid_run = cid->run;
    }
    f->has_refusal = refusal != NULL;
    if (refusal != NULL) {
        f->refusal_content = refusal->content;
        f->refusal_ms = refusal->at_ms;
        f->refusal = blob_ref(refusal->body);
    }
}

static void look_run(const struct memstore *m, struct work *w)
{
    const struct mem_run *run = w->run == NULL ? NULL : map_get(&m->runs, id_bytes(w->run));
    struct facts *f = &w->facts;
    f->has_run = run != NULL;
    if (run == NULL)
        return;
    f->run_conv_key = run->conv_key;
    f->run_state = run->row.state;
    f->run_attempt = run->row.attempt;
    f->run_msg = run->row.msg;
    f->run_parent = run->row.parent;
    f->has_part = run->row.partial != NULL;
}

static void look_one(const struct memstore *m, struct work *w)
{
    struct facts *f = &w->facts;
    struct mem_conv *c = map_get(&m->convs, id_bytes(w->conv));
    look_run(m, w);
    if (c == NULL)
        return;
    f->has_conv = true;
    f->conv_key = c->key;
    f->app = c->row.app;
    f->top = c->row.offset;
    f->last_ts_ms = c->row.last_ts_ms;
    f->updated_ms = c->row.updated_ms;
    look_member(c, w);
    look_cid(c, w);
    for (const struct mem_run *run = c->runs; run != NULL; run = run->next) {
        f->active_count += run->row.state == RUN_ACTIVE;
        f->waiting_count += run->row.state == RUN_QUEUED;
    }
}

static void look_create(const struct memstore *m, struct work *w)
{
    const struct id *first = w->has_cid_key ? map_get(&m->conv_cids, key_bytes(&w->cid_key)) : NULL;
    const struct mem_conv *c = map_get(&m->convs, id_bytes(first != NULL ? first : w->conv));
    struct facts *f = &w->facts;
    f->has_first = first != NULL || c != NULL;
    f->first_conv = first != NULL ? *first : *w->conv;
    f->has_conv = c != NULL;
    if (c == NULL)
        return;
    f->conv_key = c->key;
    f->app = c->row.app;
    f->first_epoch = c->row.epoch;
    f->first_created_ms = c->row.created_ms;
    look_member(c, w);
}

static enum err driver_look(struct store *s, struct work **wave, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        if (wave[i]->op->op == JOURNAL_CONV_CREATE)
            look_create(mine(s), wave[i]);
        else if (wave[i]->conv != NULL)
            look_one(mine(s), wave[i]);
    }
    return ERR_OK;
}

/* --- writing: what can fail first, then what cannot ------------------------------------------- */

static int by_name(const void *a, const void *b)
{
    const struct conv_member *left = a;
    const struct conv_member *right = b;
    size_t shorter = size_min(left->user.count, right->user.count);
    int order = memcmp(left->user.at, right->user.at, shorter);
    return order != 0 ? order : (int)left->user.count - (int)right->user.count;
}

static bool members_fill(struct mem_conv *c, const struct journal_conv_create *o)
{
    c->members = mem_new_zero(sizeof(*c->members) * (o->members_count + 1));
    if (c->members == NULL)
        return false;
    c->members[0] = (struct conv_member){.user = o->user, .owner = true};
    c->members_count = 1;
    for (uint32_t i = 0; i < o->members_count; i++) {
        if (member_of(c, &o->members[i]) == NULL)
            c->members[c->members_count++] = (struct conv_member){.user = o->members[i]};
    }
    qsort(c->members, c->members_count, sizeof(*c->members), by_name);
    return true;
}

static struct mem_conv *conv_make(const struct journal_conv_create *o)
{
    struct mem_conv *c = mem_new_zero(sizeof(*c));
    if (c == NULL)
        return NULL;
    map_begin(&c->cids);
    map_begin(&c->refusals);
    c->row.app = o->app;
    c->row.conv = o->conv;
    c->row.persona = o->persona;
    c->row.created_ms = o->now_ms;
    c->row.updated_ms = o->now_ms;
    struct bytes random_part = bytes_of(o->epoch_random);
    c->row.epoch.count = (uint8_t)random_part.count;
    memcpy(c->row.epoch.at, random_part.at, random_part.count);
    c->row.title = o->title != NULL ? blob_ref(o->title) : blob_new(0);
    c->row.meta = blob_ref(o->meta);
    return c;
}

static bool keys_room(struct memstore *m)
{
    if (m->keys_count < m->keys_room)
        return true;
    uint32_t room = m->keys_room == 0 ? 64 : m->keys_room * 2;
    struct mem_conv **grown = mem_resize(m->by_key, sizeof(*grown) * room);
    if (grown == NULL)
        return false;
    m->by_key = grown;
    m->keys_room = room;
    return true;
}

static enum err write_create(struct memstore *m, struct work *w)
{
    const struct journal_conv_create *o = (const void *)w->op;
    struct mem_conv *c = conv_make(o);
    struct id *named = w->has_cid_key ? mem_new(sizeof(*named)) : NULL;
    bool fine = c != NULL && c->row.title != NULL && (named != NULL || !w->has_cid_key) &&
                members_fill(c, o) && keys_room(m) &&
                map_put(&m->convs, id_bytes(&o->conv), c) == ERR_OK;
    if (fine && named != NULL) {
        *named = o->conv;
        fine = map_put(&m->conv_cids, key_bytes(&w->cid_key), named) == ERR_OK;
        if (!fine)
            (void)map_remove(&m->convs, id_bytes(&o->conv)); /* it is `c` */
    }
    if (!fine) {
        conv_free(m, c);
        mem_free(named);
        return ERR_FULL;
    }
    m->by_key[m->keys_count++] = c;
    c->key = m->keys_count;
    return ERR_OK;
}

static bool events_room(struct mem_conv *c, uint32_t more)
{
    uint64_t need = c->row.offset + more;
    if (need <= c->events_room)
        return true;
    uint32_t room = c->events_room == 0 ? 8 : c->events_room * 2;
    struct mem_event *grown = mem_resize(c->events, sizeof(*grown) * room);
    if (grown == NULL)
        return false;
    c->events = grown;
    c->events_room = room;
    return true;
}

/* The log grows; there is room. */
static void head_moves(struct mem_conv *c, const struct work *w)
{
    for (uint32_t i = 0; i < w->events_count; i++) {
        const struct journal_event *e = &w->events[i];
        struct mem_event *to = &c->events[e->offset - 1];
        *to = (struct mem_event){.event = *e, .ends_run = w->events_run != NULL};
        to->event.payload = blob_ref(e->payload);
        to->has_by = e->kind == EVENT_MSG && w->op->op == JOURNAL_APPEND;
        if (to->has_by)
            to->by = *w->user;
    }
    c->row.offset = w->top;
    c->row.last_ts_ms = w->last_ts_ms;
    c->row.updated_ms = w->updated_ms;
    if (w->head_msg != NULL)
        c->row.head_msg = *w->head_msg;
    if (w->last != NULL)
        c->last = *w->last;
}

static struct mem_cid *cid_make(const struct work *w, const struct journal_append *o)
{
    struct mem_cid *cid = mem_new_zero(sizeof(*cid));
    if (cid == NULL)
        return NULL;
    const struct id *msg = append_first_msg(o);
    cid->content = w->content;
    cid->offset = o->events[0].offset;
    if (msg != NULL)
        cid->msg = *msg;
    if (o->has_run)
        cid->run = o->run.run;
    return cid;
}

static struct mem_run *run_make(const struct journal_append *o, const struct mem_conv *c)
{
    struct mem_run *run = mem_new_zero(sizeof(*run));
    if (run == NULL)
        return NULL;
    run->row = o->run;
    run->row.partial = NULL;
    run->conv_key = c->key;
    if (o->run.state == RUN_ACTIVE)
        run->node = o->node;
    return run;
}

static enum err write_append(struct memstore *m, struct work *w)
{
    struct journal_append *o = (void *)w->op;
    struct mem_conv *c = conv_at(m, w->facts.conv_key);
    struct mem_cid *cid = (w->todo & TODO_CID) ? cid_make(w, o) : NULL;
    struct mem_run *run = (w->todo & TODO_RUN) ? run_make(o, c) : NULL;
    bool fine = events_room(c, w->events_count);
    fine = fine && (cid != NULL || !(w->todo & TODO_CID));
    fine = fine && (run != NULL || !(w->todo & TODO_RUN));
    if (fine && cid != NULL)
        fine = map_put(&c->cids, key_bytes(&w->cid_key), cid) == ERR_OK;
    if (fine && run != NULL && map_put(&m->runs, id_bytes(&run->row.run), run) != ERR_OK) {
        fine = false;
        if (cid != NULL)
            (void)map_remove(&c->cids, key_bytes(&w->cid_key)); /* it is `cid` */
    }
    if (!fine) {
        mem_free(cid);
        mem_free(run);
        return ERR_FULL;
    }
    if (run != NULL) {
        run->next = c->runs;
        c->runs = run;
    }
    head_moves(c, w);
    return ERR_OK;
}

static enum err write_refuse(struct memstore *m, struct work *w)
{
    const struct journal_refuse *o = (const void *)w->op;
    struct mem_conv *c = conv_at(m, w->facts.conv_key);
    struct mem_refusal *old = map_get(&c->refusals, key_bytes(&w->cid_key));
    struct mem_refusal *r = mem_new_zero(sizeof(*r));
    if (r == NULL)
        return ERR_FULL;
    *r = (struct mem_refusal){.content = w->content, .at_ms = o->now_ms};
    r->body = o->refusal != NULL ? blob_ref(o->refusal) : blob_new(0);
    if (r->body == NULL || map_put(&c->refusals, key_bytes(&w->cid_key), r) != ERR_OK) {
        refusal_drop(r);
        return ERR_FULL;
    }
    if (old != NULL)
        refusal_drop(old);
    return ERR_OK;
}

static void next_starts(struct mem_conv *c, struct journal_finish *o)
{
    struct mem_run *next = NULL;
    for (struct mem_run *run = c->runs; run != NULL; run = run->next) {
        if (run->row.state == RUN_QUEUED && (next == NULL || run->row.seq < next->row.seq))
            next = run;
    }
    CHECK(next != NULL); /* decide counted them */
    next->row.state = RUN_ACTIVE;
    next->row.attempt = 1;
    next->node = o->node;
    o->next = next->row;
    o->has_next = true;
}

static enum err write_finish(struct memstore *m, struct work *w)
{
    struct journal_finish *o = (void *)w->op;
    struct mem_conv *c = conv_at(m, w->facts.conv_key);
    struct mem_run *run = map_get(&m->runs, id_bytes(w->run));
    if (!events_room(c, 1))
        return ERR_FULL;
    head_moves(c, w);
    run->row.state = RUN_ENDED;
    run->final_offset = w->top;
    blob_unref(&run->row.partial);
    if (w->todo & TODO_RUN_NEXT)
        next_starts(c, o);
    return ERR_OK;
}

static enum err write_run(struct memstore *m, struct work *w)
{
    struct mem_run *run = map_get(&m->runs, id_bytes(w->run));
    if (w->todo & TODO_RUN_TAKE) {
        const struct journal_take *o = (const void *)w->op;
        run->row.attempt++;
        run->node = o->node;
        return ERR_OK;
    }
    const struct journal_checkpoint *o = (const void *)w->op;
    struct blob *text = o->text != NULL ? blob_ref(o->text) : blob_new(0);
    if (text == NULL)
        return ERR_FULL;
    if (run->row.partial != NULL && run->row.partial->count > text->count) {
        blob_unref(&text);
        return ERR_OK;
    }
    blob_unref(&run->row.partial);
    run->row.partial = text;
    return ERR_OK;
}

static struct conv_member *member_to_change(struct mem_conv *c, const struct name *user)
{
    uint32_t at = 0;
    while (!name_equal(&c->members[at].user, user))
        at++; /* decide saw that it is there */
    return &c->members[at];
}

static enum err write_update(struct memstore *m, struct work *w)
{
    const struct journal_conv_update *o = (const void *)w->op;
    struct mem_conv *c = conv_at(m, w->facts.conv_key);
    struct blob *title = NULL;
    if (o->set_title)
        title = o->title != NULL ? blob_ref(o->title) : blob_new(0);
    if ((o->set_title && title == NULL) || !events_room(c, w->events_count)) {
        blob_unref(&title);
        return ERR_FULL;
    }
    if (w->todo & TODO_HEAD)
        head_moves(c, w);
    if (o->set_title) {
        blob_unref(&c->row.title);
        c->row.title = title;
    }
    if (o->set_persona)
        c->row.persona = o->persona;
    if (o->set_archived)
        member_to_change(c, &o->user)->archived = o->archived;
    return ERR_OK;
}

static enum err write_delete(struct memstore *m, struct work *w)
{
    struct mem_conv *c = conv_at(m, w->facts.conv_key);
    m->by_key[c->key - 1] = NULL;
    (void)map_remove(&m->convs, id_bytes(w->conv)); /* it is `c` */
    conv_free(m, c);
    return ERR_OK;
}

static enum err write_user(struct memstore *m, struct work *w)
{
    const struct journal_user_seen *o = (const void *)w->op;
    uint8_t block[1 + ID_BYTES_MAX + NAME_BYTES_MAX];
    struct buf key;
    buf_init_fixed(&key, block, sizeof(block));
    buf_byte(&key, o->app.count);
    buf_bytes(&key, id_bytes(&o->app));
    buf_bytes(&key, name_bytes(&o->user));
    struct mem_user *user = map_get(&m->users, buf_view(&key));
    if (user == NULL) {
        user = mem_new_zero(sizeof(*user));
        if (user == NULL || map_put(&m->users, buf_view(&key), user) != ERR_OK) {
            mem_free(user);
            return ERR_FULL;
        }
    }
    if (o->display.count > 0)
        user->display = o->display;
    user->guest = o->guest;
    user->seen_ms = o->now_ms;
    return ERR_OK;
}

static enum err write_read(struct memstore *m, struct work *w)
{
    struct mem_conv *c = conv_at(m, w->facts.conv_key);
    member_to_change(c, w->user)->read_offset = w->read_offset;
    return ERR_OK;
}

static enum err write_one(struct memstore *m, struct work *w)
{
    CHECK(journal_op_is_write(w->op->op));
    switch (w->op->op) {
    case JOURNAL_CONV_CREATE: return write_create(m, w);
    case JOURNAL_APPEND: return write_append(m, w);
    case JOURNAL_REFUSE: return write_refuse(m, w);
    case JOURNAL_FINISH: return write_finish(m, w);
    case JOURNAL_TAKE:
    case JOURNAL_CHECKPOINT: return write_run(m, w);
    case JOURNAL_CONV_UPDATE: return write_update(m, w);
    case JOURNAL_CONV_DELETE: return write_delete(m, w);
    case JOURNAL_READ_SET: return write_read(m, w);
    case JOURNAL_USER_SEEN: return write_user(m, w);
    case JOURNAL_CONV_LOAD:
    case JOURNAL_EVENTS:
    case JOURNAL_PATH:
    case JOURNAL_CONV_LIST:
    case JOURNAL_RUN_GET:
    case JOURNAL_UNFINISHED:
    case JOURNAL_OPS_COUNT: break;
    }
    return ERR_IO;
}

/* Whether the running batch is the one that is hurt. */
static void fault_count(struct memstore *m)
{
    if (m->counted)
        return;
    m->counted = true;
    if (m->fault == MEMSTORE_NONE || --m->fault_after > 0)
        return;
    m->now = m->fault;
    m->fault = MEMSTORE_NONE;
}

static bool fault_loses(enum memstore_fault f)
{
    return f == MEMSTORE_FULL || f == MEMSTORE_IO || f == MEMSTORE_UNCERTAIN_LOST ||
           f == MEMSTORE_CRASH_LOST;
}

static enum err driver_write(struct store *s, struct work **wave, uint32_t count)
{
    struct memstore *m = mine(s);
    fault_count(m);
    if (m->now == MEMSTORE_CONFLICT)
        return ERR_CONFLICT;
    if (fault_loses(m->now))
        return ERR_OK; /* what is written now will not have been */
    for (uint32_t i = 0; i < count; i++) {
        if (wave[i]->todo != 0 && wave[i]->err == ERR_OK)
            wave[i]->err = write_one(m, wave[i]);
    }
    return ERR_OK;
}

static enum err driver_begin(struct store *s)
{
    struct memstore *m = mine(s);
    m->now = MEMSTORE_NONE;
    m->counted = false;
    return m->crashed ? ERR_CLOSED : ERR_OK;
}

static enum err driver_commit(struct store *s)
{
    struct memstore *m = mine(s);
    if (m->counted && m->now == MEMSTORE_NONE)
        DIAG_COUNT(journal_commits);
    switch (m->now) {
    case MEMSTORE_NONE:
    case MEMSTORE_CONFLICT: return ERR_OK;
    case MEMSTORE_FULL: return ERR_FULL;
    case MEMSTORE_IO: return ERR_IO;
    case MEMSTORE_UNCERTAIN_STORED:
    case MEMSTORE_UNCERTAIN_LOST: return ERR_UNCERTAIN;
    case MEMSTORE_CRASH_STORED:
    case MEMSTORE_CRASH_LOST: m->crashed = true; return ERR_CLOSED;
    }
    return ERR_IO;
}

static void driver_rollback(struct store *s)
{
    (void)s; /* whatever rolls back has written nothing yet */
}

static enum err driver_recover(struct store *s)
{
    return mine(s)->crashed ? ERR_CLOSED : ERR_OK;
}

static void driver_reserve_release(struct store *s)
{
    (void)s; /* memory holds nothing back */
}

static enum err driver_reserve_take(struct store *s)
{
    (void)s;
    return ERR_OK;
}

static enum err driver_tidy(struct store *s, int64_t now_ms, bool *more)
{
    struct memstore *m = mine(s);
    *more = false;
    for (uint32_t i = 0; i < m->keys_count; i++) {
        uint32_t index = 0;
        struct bytes key;
        struct mem_refusal *r;
        if (m->by_key[i] == NULL)
            continue;
        while ((r = map_next(&m->by_key[i]->refusals, &index, &key)) != NULL) {
            if (now_ms - r->at_ms < JOURNAL_REFUSAL_KEPT_MS)
                continue;
            (void)map_remove(&m->by_key[i]->refusals, key); /* it is `r` */
            refusal_drop(r);
            index = 0; /* the walk's place is no longer good */
        }
    }
    return ERR_OK;
}

/* --- reading ---------------------------------------------------------------------------------- */

static enum err driver_reader_open(struct store *s, struct reader **out)
{
    mine(s)->reader.store = s;
    *out = &mine(s)->reader;
    return ERR_OK;
}

static void driver_reader_close(struct reader **r)
{
    *r = NULL;
}

static enum err driver_read_begin(struct reader *r)
{
    return read_by(r)->crashed ? ERR_CLOSED : ERR_OK;
}

static void driver_read_end(struct reader *r)
{
    (void)r; /* nothing writes meanwhile: everything is a snapshot */
}

static enum err driver_conv(struct reader *r, const struct id *conv, int64_t *key,
                            struct conv_row *out)
{
    struct mem_conv *c = map_get(&read_by(r)->convs, id_bytes(conv));
    if (c == NULL)
        return ERR_NOT_FOUND;
    *key = c->key;
    *out = c->row;
    (void)blob_ref(out->title); /* both are the same blob */
    (void)blob_ref(out->meta);
    return ERR_OK;
}

static enum err driver_members(struct reader *r, int64_t key, struct conv_member **out,
                               uint32_t *count)
{
    const struct mem_conv *c = conv_at(read_by(r), key);
    struct conv_member *members = mem_new(sizeof(*members) * (c->members_count + 1));
    if (members == NULL)
        return ERR_FULL;
    memcpy(members, c->members, sizeof(*members) * c->members_count);
    *out = members;
    *count = c->members_count;
    return ERR_OK;
}

/* Active before waiting, then as they came. */
static int by_turn(const void *a, const void *b)
{
    const struct run_row *left = a;
    const struct run_row *right = b;
    if (left->state != right->state)
        return left->state == RUN_ACTIVE ? -1 : 1;
    return left->seq < right->seq ? -1 : left->seq > right->seq;
}

static enum err driver_runs(struct reader *r, int64_t key, const struct id *conv,
                            struct run_row **out, uint32_t *count)
{
    (void)conv; /* it stands in the rows */
    const struct mem_conv *c = conv_at(read_by(r), key);
    uint32_t unfinished = 0;
    for (const struct mem_run *run = c->runs; run != NULL; run = run->next)
        unfinished += run->row.state != RUN_ENDED;
    struct run_row *rows = mem_new(sizeof(*rows) * (unfinished + 1));
    if (rows == NULL)
        return ERR_FULL;
    uint32_t at = 0;
    for (const struct mem_run *run = c->runs; run != NULL; run = run->next) {
        if (run->row.state == RUN_ENDED)
            continue;
        rows[at] = run->row;
        (void)blob_ref(rows[at].partial); /* both rows name it */
        at++;
    }
    qsort(rows, unfinished, sizeof(*rows), by_turn);
    *out = rows;
    *count = unfinished;
    return ERR_OK;
}

static enum err driver_run(struct reader *r, const struct id *run, struct run_row *out,
                           int64_t *key, uint64_t *final_offset)
{
    const struct mem_run *found = map_get(&read_by(r)->runs, id_bytes(run));
    if (found == NULL)
        return ERR_NOT_FOUND;
    *out = found->row;
    (void)blob_ref(out->partial); /* both rows name it */
    *key = found->conv_key;
    *final_offset = found->final_offset;
    return ERR_OK;
}

static bool event_give(const struct mem_event *e, event_take_fn *take, void *ctx)
{
    struct event_view view = {.offset = e->event.offset,
                              .kind = e->event.kind,
                              .msg = e->event.msg,
                              .parent = e->event.parent,
                              .promised = e->event.promised,
                              .by = e->by,
                              .has_by = e->has_by,
                              .ends_run = e->ends_run,
                              .payload = blob_bytes(e->event.payload),
                              .shared = e->event.payload};
    return take(ctx, &view);
}

static enum err driver_events(struct reader *r, int64_t key, const struct scan *scan,
                              event_take_fn *take, void *ctx)
{
    const struct mem_conv *c = conv_at(read_by(r), key);
    uint64_t top = c->row.offset;
    uint64_t end = scan->before == 0 || scan->before > top ? top + 1 : scan->before; /* < end */
    uint64_t start = scan->after + 1;                                                /* >= start */
    if (scan->after >= top)
        return ERR_OK;
    for (uint64_t i = 0; start + i < end && i < scan->rows_max; i++) {
        uint64_t offset = scan->reverse ? end - 1 - i : start + i;
        if (!event_give(&c->events[offset - 1], take, ctx))
            break;
    }
    return ERR_OK;
}

static int id_order(const struct id *a, const struct id *b)
{
    int order = memcmp(a->at, b->at, size_min(a->count, b->count));
    return order != 0 ? order : (int)a->count - (int)b->count;
}

/* Newest first. */
static int by_update(const void *a, const void *b)
{
    const struct mem_conv *left = *(struct mem_conv *const *)a;
    const struct mem_conv *right = *(struct mem_conv *const *)b;
    if (left->row.updated_ms != right->row.updated_ms)
        return left->row.updated_ms > right->row.updated_ms ? -1 : 1;
    return -id_order(&left->row.conv, &right->row.conv);
}

static bool list_wants(const struct mem_conv *c, const struct journal_conv_list *ask)
{
    if (c == NULL || !id_equal(&c->row.app, &ask->app) || member_of(c, &ask->user) == NULL)
        return false;
    if (!id_is_none(&ask->only))
        return id_equal(&c->row.conv, &ask->only);
    if (id_is_none(&ask->before_conv))
        return true;
    return c->row.updated_ms < ask->before_ms ||
           (c->row.updated_ms == ask->before_ms && id_order(&c->row.conv, &ask->before_conv) < 0);
}

static bool list_give(const struct mem_conv *c, const struct name *user, list_take_fn *take,
                      void *ctx)
{
    const struct conv_member *member = member_of(c, user);
    struct list_view view = {.conv_key = c->key,
                             .read_offset = member->read_offset,
                             .title = blob_bytes(c->row.title),
                             .item = {.conv = c->row.conv,
                                      .persona = c->row.persona,
                                      .head_msg = c->row.head_msg,
                                      .last = c->last,
                                      .offset = c->row.offset,
                                      .updated_ms = c->row.updated_ms,
                                      .mode = c->row.mode,
                                      .archived = member->archived}};
    return take(ctx, &view);
}

static enum err driver_list(struct reader *r, const struct journal_conv_list *ask,
                            list_take_fn *take, void *ctx)
{
    const struct memstore *m = read_by(r);
    uint32_t count = 0;
    struct mem_conv **found = mem_new(sizeof(struct mem_conv *) * (m->keys_count + 1));
    if (found == NULL)
        return ERR_FULL;
    for (uint32_t i = 0; i < m->keys_count; i++) {
        if (list_wants(m->by_key[i], ask))
            found[count++] = m->by_key[i];
    }
    qsort(found, count, sizeof(struct mem_conv *), by_update);
    for (uint32_t i = 0; i < count; i++) {
        if (!list_give(found[i], &ask->user, take, ctx))
            break;
    }
    mem_free(found);
    return ERR_OK;
}

static int by_conv(const void *a, const void *b)
{
    return id_order(a, b);
}

static bool has_unfinished(const struct mem_conv *c)
{
    const struct mem_run *run = c == NULL ? NULL : c->runs;
    while (run != NULL && run->row.state == RUN_ENDED)
        run = run->next;
    return run != NULL;
}

static enum err driver_unfinished(struct reader *r, id_take_fn *take, void *ctx)
{
    const struct memstore *m = read_by(r);
    uint32_t count = 0;
    struct id *found = mem_new(sizeof(*found) * (m->keys_count + 1));
    if (found == NULL)
        return ERR_FULL;
    for (uint32_t i = 0; i < m->keys_count; i++) {
        if (has_unfinished(m->by_key[i]))
            found[count++] = m->by_key[i]->row.conv;
    }
    qsort(found, count, sizeof(*found), by_conv);
    for (uint32_t i = 0; i < count; i++) {
        if (!take(ctx, &found[i]))
            break;
    }
    mem_free(found);
    return ERR_OK;
}

/* --- open and close --------------------------------------------------------------------------- */

static void driver_close(struct store **s)
{
    struct memstore *m = mine(*s);
    memstore_free(&m);
    *s = NULL;
}

static const struct driver driver = {
    .name = "mem",
    .readers_count = 0,
    .close = driver_close,
    .begin = driver_begin,
    .look = driver_look,
    .write = driver_write,
    .commit = driver_commit,
    .rollback = driver_rollback,
    .recover = driver_recover,
    .reserve_release = driver_reserve_release,
    .reserve_take = driver_reserve_take,
    .tidy = driver_tidy,
    .reader_open = driver_reader_open,
    .reader_close = driver_reader_close,
    .read_begin = driver_read_begin,
    .read_end = driver_read_end,
    .conv = driver_conv,
    .members = driver_members,
    .runs = driver_runs,
    .run = driver_run,
    .events = driver_events,
    .list = driver_list,
    .unfinished = driver_unfinished,
};

struct memstore *memstore_new(void)
{
    struct memstore *m = mem_new_zero(sizeof(*m));
    if (m == NULL)
        return NULL;
    m->store.driver = &driver;
    m->store.generation = 1;
    engine_random(m->store.cid_secret, sizeof(m->store.cid_secret));
    map_begin(&m->convs);
    map_begin(&m->runs);
    map_begin(&m->conv_cids);
    map_begin(&m->users);
    return m;
}

void memstore_free(struct memstore **m)
{
    struct memstore *s = *m;
    *m = NULL;
    if (s == NULL)
        return;
    for (uint32_t i = 0; i < s->keys_count; i++)
        conv_free(s, s->by_key[i]);
    mem_free(s->by_key);
    map_fini(&s->convs);
    map_fini(&s->runs);
    map_end(&s->conv_cids, mem_free);
    map_end(&s->users, mem_free);
    mem_free(s);
}

void memstore_inject(struct memstore *m, enum memstore_fault fault, uint32_t after_batches)
{
    CHECK(after_batches >= 1);
    m->fault = fault;
    m->fault_after = after_batches;
}

bool memstore_has_crashed(const struct memstore *m)
{
    return m->crashed;
}

void memstore_restart(struct memstore *m)
{
    m->crashed = false;
    m->fault = MEMSTORE_NONE;
    m->now = MEMSTORE_NONE;
}

struct store *memstore_store(struct memstore *m)
{
    return &m->store;
}
