/* Operations as values: made, named, and taken apart again with everything they own. */
#include "base/hash.h"
#include "base/mem.h"
#include "journal/journal_priv.h"

static const char *const op_names[] = {
#define OP_NAME(name, thread) #name,
    JOURNAL_OPS(OP_NAME)
#undef OP_NAME
};

static const char op_threads[] = {
#define OP_THREAD(name, thread) #thread[0],
    JOURNAL_OPS(OP_THREAD)
#undef OP_THREAD
};

const char *journal_op_name(enum journal_op_kind k)
{
    CHECK(k < JOURNAL_OPS_COUNT);
    return op_names[k];
}

bool journal_op_is_write(enum journal_op_kind k)
{
    CHECK(k < JOURNAL_OPS_COUNT);
    return op_threads[k] == 'W';
}

const char *run_cause_name(enum run_cause c)
{
    switch (c) {
    case RUN_CAUSE_SEND: return "send";
    case RUN_CAUSE_REGENERATE: return "regenerate";
    case RUN_CAUSE_CONTINUE: return "continue";
    }
    return "unknown";
}

void epoch_make(struct epoch *out, struct bytes random_part, uint64_t generation)
{
    struct epoch made = {0};
    struct buf b;
    buf_init_fixed(&b, made.at, sizeof(made.at));
    buf_bytes(&b, random_part);
    buf_text(&b, ".g");
    buf_u64(&b, generation);
    CHECK(!b.failed);
    made.count = (uint8_t)b.count;
    *out = made; /* the random part may stand in it */
}

static void events_unref(struct journal_event *events, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        blob_unref(&events[i].payload);
}

static void runs_unref(struct run_row *runs, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        blob_unref(&runs[i].partial);
}

static void conv_row_unref(struct conv_row *row)
{
    blob_unref(&row->title);
    blob_unref(&row->meta);
}

static void load_drop(struct journal_conv_load *o)
{
    conv_row_unref(&o->row);
    runs_unref(o->runs, o->runs_count);
    mem_free(o->runs);
    mem_free(o->members);
}

static void path_drop(struct journal_path *o)
{
    conv_row_unref(&o->row);
    for (uint32_t i = 0; i < o->messages_count; i++) {
        blob_unref(&o->messages[i].payload);
        mem_free(o->messages[i].siblings);
    }
    mem_free(o->messages);
}

static void list_drop(struct journal_conv_list *o)
{
    blob_unref(&o->query);
    for (uint32_t i = 0; i < o->items_count; i++)
        blob_unref(&o->items[i].title);
    mem_free(o->items);
}

static void append_drop(struct journal_append *o)
{
    events_unref(o->events, JOURNAL_APPEND_EVENTS_MAX);
    runs_unref(&o->run, 1);
    blob_unref(&o->refusal);
}

static void finish_drop(struct journal_finish *o)
{
    events_unref(&o->event, 1);
    runs_unref(&o->next, 1);
}

static void create_drop(struct journal_conv_create *o)
{
    blob_unref(&o->title);
    blob_unref(&o->meta);
    mem_free(o->members);
}

static void update_drop(struct journal_conv_update *o)
{
    blob_unref(&o->title);
    blob_unref(&o->event);
}

static void events_drop(struct journal_events *o)
{
    events_unref(o->events, o->events_count);
    mem_free(o->events);
}

static void run_get_drop(struct journal_run_get *o)
{
    runs_unref(&o->row, 1);
    events_unref(&o->final, 1);
}

static void op_drop(struct msg *m)
{
    struct journal_op *op = CONTAINER_OF(m, struct journal_op, msg);
    void *o = op;
    switch (op->op) {
    case JOURNAL_CONV_CREATE: create_drop(o); break;
    case JOURNAL_APPEND: append_drop(o); break;
    case JOURNAL_REFUSE: blob_unref(&((struct journal_refuse *)o)->refusal); break;
    case JOURNAL_FINISH: finish_drop(o); break;
    case JOURNAL_CHECKPOINT: blob_unref(&((struct journal_checkpoint *)o)->text); break;
    case JOURNAL_CONV_UPDATE: update_drop(o); break;
    case JOURNAL_CONV_LOAD: load_drop(o); break;
    case JOURNAL_EVENTS: events_drop(o); break;
    case JOURNAL_PATH: path_drop(o); break;
    case JOURNAL_CONV_LIST: list_drop(o); break;
    case JOURNAL_RUN_GET: run_get_drop(o); break;
    case JOURNAL_UNFINISHED: mem_free(((struct journal_unfinished *)o)->convs); break;
    case JOURNAL_TAKE:
    case JOURNAL_CONV_DELETE:
    case JOURNAL_READ_SET:
    case JOURNAL_USER_SEEN:
    case JOURNAL_OPS_COUNT: break;
    }
    mem_free(op);
}

void *journal_op_new(enum journal_op_kind kind, size_t bytes, enum port port)
{
    CHECK(bytes >= sizeof(struct journal_op));
    struct journal_op *op = msg_new(port, JOURNAL_MSG_KIND, bytes);
    op->msg.drop = op_drop;
    op->op = kind;
    return op;
}

/* --- what an operation touches ---------------------------------------------------------------- */

static uint64_t key_hash(char kind, struct bytes a, struct bytes b)
{
    static const uint64_t seed[2] = {0x6a6f75726e616c31, 0x776176652d6b6579};
    uint8_t block[1 + 2 * (NAME_BYTES_MAX + 1)];
    struct buf buf;
    buf_init_fixed(&buf, block, sizeof(block));
    buf_byte(&buf, (uint8_t)kind);
    buf_byte(&buf, (uint8_t)a.count);
    buf_bytes(&buf, a);
    buf_bytes(&buf, b);
    CHECK(!buf.failed);
    return hash_sip(seed, buf_view(&buf));
}

static void touches(struct work *w, char kind, struct bytes a, struct bytes b)
{
    CHECK(w->keys_count < WORK_KEYS_MAX);
    w->keys[w->keys_count++] = key_hash(kind, a, b);
}

/* Lengths stand in front, so that no two triples of names make the same bytes. */
static void cid_key_make(struct work *w, const struct store *s, struct bytes scope,
                         const struct name *user, const struct id *cid)
{
    if (id_is_none(cid))
        return;
    uint8_t block[2 + ID_BYTES_MAX + NAME_BYTES_MAX + ID_BYTES_MAX];
    struct buf b;
    buf_init_fixed(&b, block, sizeof(block));
    buf_byte(&b, (uint8_t)scope.count);
    buf_bytes(&b, scope);
    buf_byte(&b, user->count);
    buf_bytes(&b, name_bytes(user));
    buf_bytes(&b, id_bytes(cid));
    CHECK(!b.failed);
    uint64_t halves[2];
    halves[0] = hash_sip(&s->cid_secret[0], buf_view(&b));
    halves[1] = hash_sip(&s->cid_secret[2], buf_view(&b));
    memcpy(w->cid_key.at, halves, sizeof(halves));
    w->has_cid_key = true;
}

static void in_conv(struct work *w, const struct id *conv)
{
    w->conv = conv;
    touches(w, 'c', id_bytes(conv), (struct bytes){NULL, 0});
}

static void of_run(struct work *w, const struct id *run)
{
    w->run = run;
    touches(w, 'r', id_bytes(run), (struct bytes){NULL, 0});
}

static void create_init(struct work *w, struct journal_conv_create *o, const struct store *s)
{
    w->app = &o->app;
    w->user = &o->user;
    in_conv(w, &o->conv);
    touches(w, 'u', id_bytes(&o->app), name_bytes(&o->user));
    cid_key_make(w, s, id_bytes(&o->app), &o->user, &o->cid);
}

static void append_init(struct work *w, struct journal_append *o, const struct store *s)
{
    w->app = &o->app;
    w->user = &o->sender;
    w->content = o->content_hash;
    in_conv(w, &o->conv);
    cid_key_make(w, s, id_bytes(&o->conv), &o->sender, &o->cid);
    if (o->has_run)
        of_run(w, &o->run.run);
}

static void refuse_init(struct work *w, struct journal_refuse *o, const struct store *s)
{
    w->app = &o->app;
    w->user = &o->sender;
    w->content = o->content_hash;
    in_conv(w, &o->conv);
    cid_key_make(w, s, id_bytes(&o->conv), &o->sender, &o->cid);
}

static void run_init(struct work *w, const struct id *conv, const struct id *run)
{
    in_conv(w, conv);
    of_run(w, run);
}

static void member_init(struct work *w, const struct id *app, const struct id *conv,
                        const struct name *user)
{
    w->app = app;
    w->user = user;
    in_conv(w, conv);
}

static void seen_init(struct work *w, struct journal_user_seen *o)
{
    w->app = &o->app;
    w->user = &o->user;
    touches(w, 'u', id_bytes(&o->app), name_bytes(&o->user));
}

void work_init(struct work *w, struct journal_op *op, const struct store *s)
{
    CHECK(journal_op_is_write(op->op));
    *w = (struct work){.op = op, .generation = s->generation};
    void *o = op;
    struct journal_finish *finish = o;
    struct journal_take *take = o;
    struct journal_checkpoint *checkpoint = o;
    struct journal_conv_update *update = o;
    struct journal_conv_delete *gone = o;
    struct journal_read_set *read = o;
    switch (op->op) {
    case JOURNAL_CONV_CREATE: create_init(w, o, s); break;
    case JOURNAL_APPEND: append_init(w, o, s); break;
    case JOURNAL_REFUSE: refuse_init(w, o, s); break;
    case JOURNAL_FINISH: run_init(w, &finish->conv, &finish->run); break;
    case JOURNAL_TAKE: run_init(w, &take->conv, &take->run); break;
    case JOURNAL_CHECKPOINT: run_init(w, &checkpoint->conv, &checkpoint->run); break;
    case JOURNAL_CONV_UPDATE: member_init(w, &update->app, &update->conv, &update->user); break;
    case JOURNAL_CONV_DELETE: member_init(w, &gone->app, &gone->conv, &gone->user); break;
    case JOURNAL_READ_SET: member_init(w, NULL, &read->conv, &read->user); break;
    case JOURNAL_USER_SEEN: seen_init(w, o); break;
    case JOURNAL_CONV_LOAD:
    case JOURNAL_EVENTS:
    case JOURNAL_PATH:
    case JOURNAL_CONV_LIST:
    case JOURNAL_RUN_GET:
    case JOURNAL_UNFINISHED:
    case JOURNAL_OPS_COUNT: break;
    }
}

void facts_fini(struct facts *f)
{
    blob_unref(&f->refusal);
}
