/* Messages. The mailbox is a stack that producers push on and the engine takes whole; turned
 * round it is in the order of posting, for each producer and over all.
 *
 *     producer: push, then look whether the engine is asleep         (each step in one order that
 *     engine  : say "asleep", then look whether the mailbox is empty  all threads see: seq_cst)
 *
 * At least one of the two sees the other's step, so no message waits for an engine that sleeps,
 * and an engine that is awake costs its producers no system call. */
#include "base/mem.h"
#include "diag/diag.h"
#include "engine/engine_priv.h"

#include <unistd.h>

void *msg_try_new(enum port port, uint16_t kind, size_t bytes)
{
    CHECK(bytes >= sizeof(struct msg));
    CHECK(bytes <= UINT32_MAX);
    CHECK((unsigned)port < PORTS_COUNT);
    struct msg *m = mem_new_zero(bytes);
    if (m == NULL)
        return NULL;
    m->kind = kind;
    m->port = (uint8_t)port;
    m->bytes = (uint32_t)bytes;
    return m;
}

void *msg_new(enum port port, uint16_t kind, size_t bytes)
{
    CHECK(bytes < 65536);
    void *m = msg_try_new(port, kind, bytes);
    CHECK(m != NULL);
    return m;
}

void msg_free(struct msg *m)
{
    if (m == NULL)
        return;
    if (m->drop != NULL)
        m->drop(m);
    else
        mem_free(m);
}

void engine_wake(struct engine *e)
{
    uint64_t one = 1;
    /* It can fail only with a full counter, and then the engine is being woken anyway. */
    ssize_t written = write(e->wake_fd, &one, sizeof(one));
    (void)written;
}

void engine_post(struct engine *e, struct msg *m)
{
    const struct engine *mine = engine_mine();
    m->from_engine = mine == NULL ? ENGINES_MAX : (uint8_t)mine->index;
    struct msg *top = atomic_load_explicit(&e->mailbox, memory_order_relaxed);
    do {
        m->next = top;
    } while (!atomic_compare_exchange_weak(&e->mailbox, &top, m));
    if (atomic_load(&e->asleep) && atomic_exchange(&e->asleep, false))
        engine_wake(e);
}

bool mailbox_before_sleep(struct engine *e)
{
    atomic_store(&e->asleep, true);
    return atomic_load(&e->mailbox) != NULL;
}

void mailbox_after_sleep(struct engine *e)
{
    atomic_store(&e->asleep, false);
}

/* Moves the mailbox behind what still waits. */
static void mailbox_take(struct engine *e)
{
    if (atomic_load_explicit(&e->mailbox, memory_order_relaxed) == NULL)
        return;
    struct msg *newest = atomic_exchange(&e->mailbox, NULL);
    struct msg *turned = NULL;
    struct msg *at = newest;
    while (at != NULL) {
        struct msg *next = at->next;
        at->next = turned;
        turned = at;
        at = next;
    }
    if (e->waiting_first == NULL)
        e->waiting_first = turned;
    else
        e->waiting_last->next = turned;
    e->waiting_last = newest;
}

static struct msg *mailbox_pop(struct engine *e)
{
    struct msg *m = e->waiting_first;
    if (m == NULL)
        return NULL;
    e->waiting_first = m->next;
    if (m->next == NULL)
        e->waiting_last = NULL;
    m->next = NULL;
    return m;
}

void mailbox_run(struct engine *e)
{
    mailbox_take(e);
    uint64_t taken = 0;
    while (taken < ENGINE_MESSAGES_PER_TURN) {
        struct msg *m = mailbox_pop(e);
        if (m == NULL)
            break;
        taken++;
        const struct engine_port *port = &e->ports[m->port];
        struct engine_culprit what = {.step = STEP_MESSAGE,
                                      .function = (uintptr_t)port->take,
                                      .kind = m->kind,
                                      .port = m->port};
        if (port->take == NULL)
            msg_free(m);
        else
            port->take(port->ctx, m);
        engine_called(e, what);
    }
    if (taken > 0)
        DIAG_COUNT_BY(mailbox_messages, taken);
}

void mailbox_drop(struct engine *e)
{
    mailbox_take(e);
    for (struct msg *m = mailbox_pop(e); m != NULL; m = mailbox_pop(e))
        msg_free(m);
}
