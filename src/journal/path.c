/* The shown path of a conversation, read backwards from the top of its log.
 *
 *     offset   1        2             3              4
 *     event    m1 user  m3 user       m2 answer      m5 user        head = m5
 *              (m2 is   child of m2,  of m1, said    child of m2
 *              promised) sent early   late
 *
 * Every event says whose child a message is, but a parent may be said after its child: it was
 * promised before. So what was seen is kept as a graph of nodes, and a path goes from node to node
 * as far as they are known. Along a path towards the root, the place where a message was first
 * *mentioned* (said or promised) falls strictly:
 *
 *     place = 2 * offset of the first mention, + 1 when that was a promise in another's event
 *
 * which gives pages a cursor and the walk an end: after all events down to offset s are seen, what
 * is still to come on the path was mentioned below s, or is an answer whose promise is still to
 * come (pending). */
#include "base/hash.h"
#include "base/mem.h"
#include "journal/journal_priv.h"

#include <stdlib.h>

#define CHUNK_ROWS_MAX 1024
#define NODES_MAX      (4u << 20)
#define UNREAD_MAX     99
#define NO_NODE        UINT32_MAX
#define ROOT           (UINT32_MAX - 1)

uint32_t path_chunk_rows = 64;

struct node {
    uint32_t id_at;     /* in graph.ids: count, bytes */
    uint32_t parent;    /* node, ROOT, or NO_NODE while unknown */
    uint64_t said;      /* offset of its msg event; 0 = not said (yet, or not seen) */
    uint64_t mentioned; /* offset of the lowest event seen that says whose child it is */
    bool promised;      /* ... which was a promise in its parent's own event */
    bool pending;       /* an answer whose promise was not seen yet */
    bool own;           /* said by the user that asks */
};

struct graph {
    struct node *nodes;
    uint32_t nodes_count;
    uint32_t nodes_room;
    uint8_t *ids;
    uint32_t ids_bytes;
    uint32_t ids_room;
    uint32_t *places; /* hash table of node + 1; 0 = empty */
    uint32_t places_mask;
    uint32_t pending_count;
    uint64_t seed[2];
    uint64_t seen_from; /* every event with this offset or a greater one was seen */
    bool seen_all;
    const struct name *user; /* for `own`; may be NULL */
    enum err err;
};

/* --- the graph -------------------------------------------------------------------------------- */

static struct bytes node_id(const struct graph *g, uint32_t n)
{
    const uint8_t *at = g->ids + g->nodes[n].id_at;
    return bytes_make(at + 1, at[0]);
}

static uint32_t *place_of(struct graph *g, struct bytes id)
{
    uint32_t at = (uint32_t)hash_sip(g->seed, id) & g->places_mask;
    while (g->places[at] != 0 && !bytes_equal(node_id(g, g->places[at] - 1), id))
        at = (at + 1) & g->places_mask;
    return &g->places[at];
}

/* Half of the places stay empty, so that every search ends. */
static bool places_grow(struct graph *g)
{
    if (g->places != NULL && g->nodes_count * 2 < g->places_mask)
        return true;
    uint32_t places = g->places == NULL ? 256 : (g->places_mask + 1) * 2;
    uint32_t *made = mem_new_zero(sizeof(*made) * places);
    if (made == NULL)
        return false;
    mem_free(g->places);
    g->places = made;
    g->places_mask = places - 1;
    for (uint32_t n = 0; n < g->nodes_count; n++)
        *place_of(g, node_id(g, n)) = n + 1;
    return true;
}

static bool room_grow(void **array, uint32_t *room, uint32_t need, size_t item_bytes)
{
    if (need <= *room)
        return true;
    uint32_t grown = *room == 0 ? 128 : *room;
    while (grown < need)
        grown *= 2;
    void *made = mem_resize(*array, item_bytes * grown);
    if (made == NULL)
        return false;
    *array = made;
    *room = grown;
    return true;
}

/* The node of `id`, made when it is new. NO_NODE: no memory, or too large a conversation. */
static uint32_t node_of(struct graph *g, const struct id *id)
{
    if (!places_grow(g))
        return NO_NODE;
    uint32_t *place = place_of(g, id_bytes(id));
    if (*place != 0)
        return *place - 1;
    void *nodes = g->nodes;
    void *ids = g->ids;
    bool room = g->nodes_count < NODES_MAX &&
                room_grow(&nodes, &g->nodes_room, g->nodes_count + 1, sizeof(*g->nodes));
    g->nodes = nodes;
    room = room && room_grow(&ids, &g->ids_room, g->ids_bytes + 1 + id->count, 1);
    g->ids = ids;
    if (!room)
        return NO_NODE;
    uint32_t n = g->nodes_count++;
    g->nodes[n] = (struct node){.id_at = g->ids_bytes, .parent = NO_NODE};
    g->ids[g->ids_bytes] = id->count;
    memcpy(g->ids + g->ids_bytes + 1, id->at, id->count);
    g->ids_bytes += 1u + id->count;
    *place = n + 1;
    return n;
}

static void pending_set(struct graph *g, struct node *n, bool pending)
{
    if (n->pending == pending)
        return;
    n->pending = pending;
    if (pending)
        g->pending_count++;
    else
        g->pending_count--;
}

/* `child` was mentioned at `offset` as a child of `parent` (ROOT = of nobody). */
static void mention(struct graph *g, uint32_t child, uint32_t parent, uint64_t offset, bool promise)
{
    struct node *n = &g->nodes[child];
    n->parent = parent;
    n->mentioned = offset;
    n->promised = promise;
}

static bool graph_msg(struct graph *g, const struct event_view *e)
{
    uint32_t parent = id_is_none(&e->parent) ? ROOT : node_of(g, &e->parent);
    uint32_t n = node_of(g, &e->msg);
    if (parent == NO_NODE || n == NO_NODE)
        return false;
    if (g->nodes[n].said == 0) { /* a damaged log could say one twice: the last one counts */
        g->nodes[n].said = e->offset;
        g->nodes[n].own = g->user != NULL && e->has_by && name_equal(&e->by, g->user);
        pending_set(g, &g->nodes[n], e->ends_run);
    }
    mention(g, n, parent, e->offset, false);
    if (id_is_none(&e->promised))
        return true;
    uint32_t promised = node_of(g, &e->promised);
    if (promised == NO_NODE)
        return false;
    mention(g, promised, n, e->offset, true);
    pending_set(g, &g->nodes[promised], false);
    return true;
}

/* An answer that began without a message. */
static bool graph_run(struct graph *g, const struct event_view *e)
{
    uint32_t parent = id_is_none(&e->parent) ? ROOT : node_of(g, &e->parent);
    uint32_t n = node_of(g, &e->msg);
    if (parent == NO_NODE || n == NO_NODE)
        return false;
    mention(g, n, parent, e->offset, false);
    pending_set(g, &g->nodes[n], false);
    return true;
}

static bool graph_take(void *ctx, const struct event_view *e)
{
    struct graph *g = ctx;
    bool fine = true;
    if (e->kind == EVENT_MSG)
        fine = graph_msg(g, e);
    else if (e->kind == EVENT_RUN)
        fine = graph_run(g, e);
    if (!fine) {
        g->err = ERR_FULL;
        return false;
    }
    g->seen_from = e->offset;
    return true;
}

/* The next chunk downwards; chunks grow, so that a long walk makes few of them. */
static enum err graph_more(struct graph *g, struct reader *r, int64_t key, uint32_t *rows)
{
    struct scan scan = {.before = g->seen_from, .reverse = true, .narrow = true, .rows_max = *rows};
    uint64_t from = g->seen_from;
    enum err err = r->store->driver->events(r, key, &scan, graph_take, g);
    if (err != ERR_OK || g->err != ERR_OK)
        return err != ERR_OK ? err : g->err;
    g->seen_all = g->seen_from == from || g->seen_from <= 1;
    *rows = *rows >= CHUNK_ROWS_MAX ? CHUNK_ROWS_MAX : *rows * 2;
    return ERR_OK;
}

static void graph_init(struct graph *g, const struct store *s, const struct name *user)
{
    *g = (struct graph){.user = user, .seed = {s->cid_secret[0], s->cid_secret[1]}};
}

static void graph_fini(struct graph *g)
{
    mem_free(g->nodes);
    mem_free(g->ids);
    mem_free(g->places);
}

static uint64_t place(const struct node *n)
{
    return 2 * n->mentioned + (n->promised ? 1 : 0);
}

/* Its parent is known and nothing below can change it. */
static bool is_settled(const struct graph *g, uint32_t n)
{
    return g->nodes[n].parent != NO_NODE && (g->seen_all || !g->nodes[n].pending);
}

/* --- unread ----------------------------------------------------------------------------------- */

/* True when no message on the rest of the path, from `at` on, can be one that counts. */
static bool unread_is_done(const struct graph *g, uint32_t at, uint64_t read_offset, uint64_t count)
{
    if (at == ROOT || count >= UNREAD_MAX || g->seen_all)
        return true;
    bool begun = g->seen_from != 0;
    return begun && g->seen_from <= read_offset + 1 && g->pending_count == 0;
}

enum err path_unread(struct reader *r, int64_t key, const struct id *head, const struct name *user,
                     uint64_t read_offset, uint64_t *unread_out)
{
    struct graph g;
    uint64_t count = 0;
    uint32_t rows = path_chunk_rows;
    enum err err = ERR_OK;
    *unread_out = 0;
    if (id_is_none(head))
        return ERR_OK;
    graph_init(&g, r->store, user);
    uint32_t at = node_of(&g, head);
    if (at == NO_NODE)
        err = ERR_FULL;
    while (err == ERR_OK && !unread_is_done(&g, at, read_offset, count)) {
        err = graph_more(&g, r, key, &rows);
        while (err == ERR_OK && at != ROOT && is_settled(&g, at)) {
            const struct node *n = &g.nodes[at];
            if (n->said > read_offset && !n->own && count < UNREAD_MAX)
                count++;
            at = n->parent;
        }
    }
    graph_fini(&g);
    if (err == ERR_OK)
        *unread_out = count;
    return err;
}

/* --- a page of the path ----------------------------------------------------------------------- */

struct page {
    struct graph graph;
    uint64_t cut; /* the page holds messages whose place is below */
    bool cut_known;
    uint32_t at;     /* where the walk stands: NODE, ROOT */
    uint32_t *nodes; /* of the page, newest first; one more than `limit` may stand there */
    uint32_t count;
    uint32_t room;
    uint32_t limit;
    uint32_t nodes_said; /* how many of `nodes` */
    bool is_cut;         /* there are older ones */
    bool with_siblings;
};

/* What was said at `before`: the page begins below that message. Anything else: below the offset.
 */
static void page_cut(struct page *p, uint64_t before)
{
    const struct graph *g = &p->graph;
    if (p->cut_known || (g->seen_from > before && !g->seen_all))
        return;
    p->cut = 2 * before;
    for (uint32_t n = 0; n < g->nodes_count; n++) {
        if (g->nodes[n].said != before)
            continue;
        if (!is_settled(g, n))
            return;
        p->cut = place(&g->nodes[n]);
    }
    p->cut_known = true;
}

static enum err page_walk(struct page *p)
{
    const struct graph *g = &p->graph;
    while (p->cut_known && p->at != ROOT && !p->is_cut && is_settled(g, p->at)) {
        const struct node *n = &g->nodes[p->at];
        if (place(n) < p->cut) {
            void *nodes = p->nodes;
            bool room = room_grow(&nodes, &p->room, p->count + 1, sizeof(*p->nodes));
            p->nodes = nodes;
            if (!room)
                return ERR_FULL;
            p->nodes[p->count++] = p->at;
            /* A page of nothing but a promise has no offset to go on from: its parent, too. */
            if (p->count == p->limit && p->nodes_said == 0 && n->said == 0)
                p->limit++;
            p->nodes_said += n->said != 0;
            p->is_cut = p->count > p->limit;
        }
        p->at = n->parent;
    }
    return ERR_OK;
}

static bool page_is_done(const struct page *p)
{
    const struct graph *g = &p->graph;
    if (g->seen_all)
        return true;
    if (p->is_cut) /* the one too many is the oldest's parent, and its children came after it */
        return true;
    return p->at == ROOT && !p->with_siblings; /* roots may stand anywhere */
}

static enum err page_find(struct page *p, struct reader *r, int64_t key, const struct id *from,
                          uint64_t before)
{
    uint32_t rows = path_chunk_rows;
    p->at = node_of(&p->graph, from);
    p->cut = UINT64_MAX;
    p->cut_known = before == 0;
    if (p->at == NO_NODE)
        return ERR_FULL;
    do {
        enum err err = graph_more(&p->graph, r, key, &rows);
        if (err != ERR_OK)
            return err;
        page_cut(p, before);
        err = page_walk(p);
        if (err != ERR_OK)
            return err;
    } while (!page_is_done(p));
    if (p->is_cut)
        p->count--;
    return ERR_OK;
}

/* --- filling the answer ----------------------------------------------------------------------- */

struct payload_found {
    struct path_message *message;
    enum err err;
};

static bool payload_take(void *ctx, const struct event_view *e)
{
    struct payload_found *f = ctx;
    struct path_message *m = f->message;
    if (e->kind != EVENT_MSG || !id_equal(&e->msg, &m->msg))
        return false;
    m->payload = e->shared != NULL ? blob_ref(e->shared) : blob_copy(e->payload);
    f->err = m->payload == NULL ? ERR_FULL : ERR_OK;
    return false;
}

static enum err payload_read(struct reader *r, int64_t key, struct path_message *m)
{
    struct scan scan = {.after = m->offset - 1, .before = m->offset + 1, .rows_max = 1};
    struct payload_found found = {.message = m, .err = ERR_IO};
    enum err err = r->store->driver->events(r, key, &scan, payload_take, &found);
    return err != ERR_OK ? err : found.err;
}

static struct id id_of(const struct graph *g, uint32_t n)
{
    struct id out = {0};
    if (n >= ROOT)
        return out;
    struct bytes b = node_id(g, n);
    out.count = (uint8_t)b.count;
    memcpy(out.at, b.at, b.count);
    return out;
}

/* From the newest on, until the bytes are used up; then turned round. */
static enum err page_payloads(struct page *p, struct reader *r, int64_t key, struct journal_path *o)
{
    uint64_t bytes = 0;
    uint32_t given = 0;
    o->messages = mem_new_zero(sizeof(*o->messages) * (p->count + 1));
    if (o->messages == NULL)
        return ERR_FULL;
    for (uint32_t i = 0; i < p->count; i++) {
        struct path_message *m = &o->messages[i];
        const struct node *n = &p->graph.nodes[p->nodes[i]];
        m->msg = id_of(&p->graph, p->nodes[i]);
        m->parent = id_of(&p->graph, n->parent);
        m->offset = n->said;
        o->messages_count = i + 1;
        enum err err = n->said == 0 ? ERR_OK : payload_read(r, key, m);
        if (err != ERR_OK)
            return err;
        bytes += m->payload == NULL ? 0 : m->payload->count;
        given += m->payload != NULL;
        if (o->bytes_max > 0 && given > 1 && bytes > o->bytes_max) {
            blob_unref(&m->payload);
            *m = (struct path_message){0};
            o->messages_count = i;
            p->count = i;
            p->is_cut = true;
        }
    }
    return ERR_OK;
}

/* A promised message has no offset to go on from: a page that would end with one leaves it to the
 * next page. */
static void page_next(struct page *p, struct journal_path *o)
{
    o->next = 0;
    if (!p->is_cut)
        return;
    while (o->messages_count > 1 && o->messages[o->messages_count - 1].offset == 0) {
        o->messages_count--;
        p->count--;
    }
    const struct node *oldest = &p->graph.nodes[p->nodes[o->messages_count - 1]];
    o->next = oldest->said != 0 ? oldest->said : oldest->mentioned;
}

static void page_turn(struct journal_path *o)
{
    for (uint32_t i = 0; i + 1 < o->messages_count - i; i++) {
        struct path_message other = o->messages[i];
        o->messages[i] = o->messages[o->messages_count - 1 - i];
        o->messages[o->messages_count - 1 - i] = other;
    }
}

static int by_place(const void *a, const void *b, void *ctx)
{
    const struct graph *g = ctx;
    uint64_t left = place(&g->nodes[*(const uint32_t *)a]);
    uint64_t right = place(&g->nodes[*(const uint32_t *)b]);
    return left < right ? -1 : left > right ? 1 : 0;
}

/* Children of every node as chains: first[parent], then next[child]. Roots hang on the last place.
 */
struct families {
    uint32_t *first;
    uint32_t *next;
    uint32_t *sorted; /* scratch */
};

static uint32_t family_of(const struct graph *g, uint32_t parent)
{
    return parent == ROOT ? g->nodes_count : parent;
}

static enum err families_make(const struct graph *g, struct families *f)
{
    size_t bytes = sizeof(uint32_t) * (g->nodes_count + 1);
    f->first = mem_new(bytes);
    f->next = mem_new(bytes);
    f->sorted = mem_new(bytes);
    if (f->first == NULL || f->next == NULL || f->sorted == NULL)
        return ERR_FULL;
    memset(f->first, 0xff, bytes); /* NO_NODE everywhere */
    for (uint32_t n = 0; n < g->nodes_count; n++) {
        if (g->nodes[n].parent == NO_NODE)
            continue;
        uint32_t family = family_of(g, g->nodes[n].parent);
        f->next[n] = f->first[family];
        f->first[family] = n;
    }
    return ERR_OK;
}

/* All children of the message's parent, in the order they were first mentioned. */
static enum err siblings_fill(struct graph *g, struct families *f, uint32_t parent,
                              struct path_message *m)
{
    uint32_t count = 0;
    for (uint32_t n = f->first[family_of(g, parent)]; n != NO_NODE; n = f->next[n])
        f->sorted[count++] = n;
    qsort_r(f->sorted, count, sizeof(*f->sorted), by_place, g);
    m->siblings = mem_new(sizeof(*m->siblings) * (count + 1));
    if (m->siblings == NULL)
        return ERR_FULL;
    m->siblings_count = count;
    for (uint32_t i = 0; i < count; i++)
        m->siblings[i] = id_of(g, f->sorted[i]);
    return ERR_OK;
}

static enum err page_siblings(struct page *p, struct journal_path *o)
{
    struct families f = {0};
    enum err err = families_make(&p->graph, &f);
    for (uint32_t i = 0; i < o->messages_count && err == ERR_OK; i++)
        err = siblings_fill(&p->graph, &f, p->graph.nodes[p->nodes[i]].parent, &o->messages[i]);
    mem_free(f.first);
    mem_free(f.next);
    mem_free(f.sorted);
    return err;
}

enum err path_read(struct reader *r, int64_t key, struct journal_path *o)
{
    struct page p = {.limit = o->limit, .with_siblings = o->with_siblings};
    const struct id *from = id_is_none(&o->from) ? &o->row.head_msg : &o->from;
    if (id_is_none(from))
        return ERR_OK;
    graph_init(&p.graph, r->store, NULL);
    enum err err = page_find(&p, r, key, from, o->before);
    if (err == ERR_OK && p.graph.nodes[0].parent == NO_NODE)
        o->head.outcome = JOURNAL_GONE; /* nobody ever mentioned `from` */
    else if (err == ERR_OK)
        err = page_payloads(&p, r, key, o);
    if (err == ERR_OK && o->messages != NULL) {
        page_next(&p, o);
        if (o->with_siblings)
            err = page_siblings(&p, o);
        page_turn(o);
    }
    mem_free(p.nodes);
    graph_fini(&p.graph);
    return err;
}
