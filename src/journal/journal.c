/* The door of the room: opens the store and its threads, takes operations or says that there are
 * too many, hands answers back. */
#include "base/mem.h"
#include "diag/diag.h"
#include "journal/writer_priv.h"

#include <signal.h>

/* How full the room may be for an operation to come in, in percent of store.pending: when it gets
 * crowded, checkpoints go first, and what ends a run comes in as long as anything does. */
enum { DOOR_CHECKPOINT = 50, DOOR_OTHERS = 90, DOOR_ENDS = 100 };

static uint32_t door_of(const struct journal *j, enum journal_op_kind k)
{
    uint64_t percent = DOOR_OTHERS;
    if (k == JOURNAL_CHECKPOINT)
        percent = DOOR_CHECKPOINT;
    else if (k == JOURNAL_FINISH || k == JOURNAL_TAKE)
        percent = DOOR_ENDS;
    return (uint32_t)(j->pending_max * percent / 100);
}

static void answer_post(struct journal_op *op)
{
    struct engine *asker = op->asker;
    engine_post(asker, &op->msg); /* from here on it is the asker's */
}

void journal_answer(struct journal *j, struct journal_op *op)
{
    atomic_fetch_sub(&j->pending, 1);
    DIAG_GAUGE_BY(journal_pending, -1);
    if (op->err == ERR_CLOSED) {
        msg_free(&op->msg); /* the process that asked is dead, says the test */
        return;
    }
    answer_post(op);
}

static void refuse(struct journal_op *op, enum err err)
{
    op->err = err;
    if (op->op == JOURNAL_CHECKPOINT)
        DIAG_COUNT(checkpoints_shed);
    DIAG_COUNT(journal_full);
    answer_post(op);
}

/* The reader with less to do. */
static struct inbox *inbox_for(struct journal *j, enum journal_op_kind k)
{
    if (j->readers_count == 0 || journal_op_is_write(k))
        return j->inbox;
    struct inbox *least = j->readers[0].inbox;
    for (uint32_t i = 1; i < j->readers_count; i++) {
        if (inbox_count(j->readers[i].inbox) < inbox_count(least))
            least = j->readers[i].inbox;
    }
    return least;
}

void journal_ask(struct journal *j, struct engine *engine, void *ctx)
{
    struct journal_op *op = ctx;
    op->asker = engine;
    op->asked_ns = mono_now().ns;
    op->err = ERR_OK;
    if (atomic_fetch_add(&j->pending, 1) >= door_of(j, op->op)) {
        atomic_fetch_sub(&j->pending, 1);
        refuse(op, ERR_FULL);
        return;
    }
    DIAG_GAUGE_BY(journal_pending, 1);
    if (inbox_post(inbox_for(j, op->op), &op->msg, true) == ERR_OK)
        return;
    atomic_fetch_sub(&j->pending, 1);
    DIAG_GAUGE_BY(journal_pending, -1);
    refuse(op, ERR_CLOSED);
}

uint32_t journal_pending(const struct journal *j)
{
    return atomic_load(&j->pending);
}

bool journal_is_healthy(const struct journal *j)
{
    return atomic_load(&j->healthy);
}

void journal_pause(struct journal *j, bool paused)
{
    struct msg *m = msg_new(PORT_NONE, paused ? JOURNAL_MSG_PAUSE : JOURNAL_MSG_GO_ON, sizeof(*m));
    if (inbox_post(j->inbox, m, true) != ERR_OK)
        msg_free(m); /* it closes: nothing is paused then */
}

/* --- open and close --------------------------------------------------------------------------- */

static bool thread_start(pthread_t *t, void *(*run)(void *), void *ctx)
{
    sigset_t all;
    sigset_t before;
    (void)sigfillset(&all); /* signals are for the engines' threads */
    (void)pthread_sigmask(SIG_SETMASK, &all, &before);
    int rc = pthread_create(t, NULL, run, ctx);
    (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
    return rc == 0;
}

static enum err reader_start(struct journal *j, struct journal_reader *r)
{
    r->journal = j;
    r->inbox = inbox_new(j->pending_max);
    if (r->inbox == NULL)
        return ERR_FULL;
    enum err err = j->store->driver->reader_open(j->store, &r->reader);
    if (err != ERR_OK)
        return err;
    r->runs = thread_start(&r->thread, reader_main, r);
    return r->runs ? ERR_OK : ERR_FULL;
}

static void reader_stop(struct journal *j, struct journal_reader *r)
{
    if (r->runs) {
        inbox_close(r->inbox);
        (void)pthread_join(r->thread, NULL); /* made by us, joined once */
    }
    if (r->reader != NULL)
        j->store->driver->reader_close(&r->reader);
    inbox_free(&r->inbox);
}

static enum err threads_start(struct journal *j)
{
    j->inbox = inbox_new(j->pending_max);
    if (j->inbox == NULL)
        return ERR_FULL;
    CHECK(j->store->driver->readers_count <= JOURNAL_READERS_MAX);
    for (uint32_t i = 0; i < j->store->driver->readers_count; i++) {
        j->readers_count = i + 1;
        enum err err = reader_start(j, &j->readers[i]);
        if (err != ERR_OK)
            return err;
    }
    j->writer_runs = thread_start(&j->writer, writer_main, j);
    return j->writer_runs ? ERR_OK : ERR_FULL;
}

enum err journal_open_store(const struct config *c, struct store *s, bool own, struct journal **out)
{
    struct journal *j = mem_new_zero(sizeof(*j));
    if (j == NULL)
        return ERR_FULL;
    j->store = s;
    j->lock.fd = -1;
    j->batch_max = (uint32_t)c->journal_batch_max;
    j->pending_max = (uint32_t)c->journal_pending_max;
    atomic_store(&j->healthy, true);
    enum err err = threads_start(j);
    if (err != ERR_OK) {
        journal_close(&j);
        return err;
    }
    j->own_store = own;
    *out = j;
    return ERR_OK;
}

static enum err open_mem(const struct config *c, struct journal **out)
{
    struct memstore *m = memstore_new();
    if (m == NULL)
        return ERR_FULL;
    enum err err = journal_open_store(c, memstore_store(m), true, out);
    if (err != ERR_OK)
        memstore_free(&m);
    return err;
}

static enum err open_sqlite(const struct config *c, struct journal **out, struct buf *message)
{
    struct lock lock = {.fd = -1};
    struct store *s = NULL;
    enum err err = lock_take(c->data_dir, &lock, message);
    if (err == ERR_OK)
        err = sqlite_open(c->data_dir, &s, message);
    if (err == ERR_OK)
        err = journal_open_store(c, s, true, out);
    if (err == ERR_OK) {
        (*out)->lock = lock;
        return ERR_OK;
    }
    if (s != NULL)
        s->driver->close(&s);
    lock_drop(&lock);
    return err;
}

enum err journal_open(const struct config *c, struct journal **out, struct buf *message)
{
    enum err err = ERR_DENIED;
    if (strcmp(c->store, "sqlite") == 0)
        err = open_sqlite(c, out, message);
    else if (strcmp(c->store, "mem") == 0)
        err = open_mem(c, out);
    else
        buf_printf(message, "store %s is not known; allowed: sqlite, mem", c->store);
    if (err != ERR_OK && message->count == 0)
        buf_printf(message, "the store cannot be opened: %s", err_name(err));
    return err;
}

void journal_close(struct journal **out)
{
    struct journal *j = *out;
    *out = NULL;
    if (j == NULL)
        return;
    atomic_store(&j->closing, true);
    if (j->writer_runs) {
        inbox_close(j->inbox);
        (void)pthread_join(j->writer, NULL); /* made by us, joined once */
    }
    for (uint32_t i = 0; i < j->readers_count; i++)
        reader_stop(j, &j->readers[i]);
    inbox_free(&j->inbox);
    if (j->own_store && j->store != NULL)
        j->store->driver->close(&j->store);
    lock_drop(&j->lock);
    mem_free(j);
}
