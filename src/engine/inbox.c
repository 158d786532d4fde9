/* A mailbox for a thread that has nothing to do but wait for it. A mutex is enough: both sides
 * hold it for a few instructions, and the taker takes everything at once. */
#include "base/mem.h"
#include "engine/engine.h"

#include <pthread.h>
#include <stdatomic.h>

struct inbox {
    pthread_mutex_t lock;
    pthread_cond_t filled;
    struct msg *first;
    struct msg *last;
    _Atomic uint32_t count;
    uint32_t messages_max;
    bool closed;
};

struct inbox *inbox_new(uint32_t messages_max)
{
    struct inbox *i = mem_new_zero(sizeof(*i));
    if (i == NULL)
        return NULL;
    i->messages_max = messages_max;
    if (pthread_mutex_init(&i->lock, NULL) != 0) {
        mem_free(i);
        return NULL;
    }
    if (pthread_cond_init(&i->filled, NULL) != 0) {
        (void)pthread_mutex_destroy(&i->lock); /* nobody has seen it */
        mem_free(i);
        return NULL;
    }
    return i;
}

static void inbox_lock(struct inbox *i)
{
    int failed = pthread_mutex_lock(&i->lock);
    CHECK(failed == 0);
}

static void inbox_unlock(struct inbox *i)
{
    int failed = pthread_mutex_unlock(&i->lock);
    CHECK(failed == 0);
}

void inbox_free(struct inbox **i)
{
    struct inbox *mine = *i;
    *i = NULL;
    if (mine == NULL)
        return;
    while (mine->first != NULL) {
        struct msg *m = mine->first;
        mine->first = m->next;
        m->next = NULL;
        msg_free(m);
    }
    (void)pthread_cond_destroy(&mine->filled); /* the threads have ended: it is free */
    (void)pthread_mutex_destroy(&mine->lock);
    mem_free(mine);
}

static enum err inbox_push(struct inbox *i, struct msg *m, bool force)
{
    uint32_t count = atomic_load_explicit(&i->count, memory_order_relaxed);
    if (i->closed)
        return ERR_CLOSED;
    if (count >= i->messages_max && !force)
        return ERR_FULL;
    m->next = NULL;
    if (i->first == NULL)
        i->first = m;
    else
        i->last->next = m;
    i->last = m;
    atomic_store_explicit(&i->count, count + 1, memory_order_relaxed);
    return ERR_OK;
}

enum err inbox_post(struct inbox *i, struct msg *m, bool force)
{
    const struct engine *mine = engine_mine();
    m->from_engine = mine == NULL ? ENGINES_MAX : (uint8_t)engine_index(mine);
    inbox_lock(i);
    bool was_empty = i->first == NULL;
    enum err err = inbox_push(i, m, force);
    inbox_unlock(i);
    if (err == ERR_OK && was_empty)
        (void)pthread_cond_signal(&i->filled); /* cannot fail on a made condition */
    return err;
}

struct msg *inbox_take_all(struct inbox *i)
{
    inbox_lock(i);
    while (i->first == NULL && !i->closed) {
        int failed = pthread_cond_wait(&i->filled, &i->lock);
        CHECK(failed == 0);
    }
    struct msg *all = i->first;
    i->first = NULL;
    i->last = NULL;
    atomic_store_explicit(&i->count, 0, memory_order_relaxed);
    inbox_unlock(i);
    return all;
}

void inbox_close(struct inbox *i)
{
    inbox_lock(i);
    i->closed = true;
    inbox_unlock(i);
    (void)pthread_cond_broadcast(&i->filled);
}

uint32_t inbox_count(const struct inbox *i)
{
    return atomic_load_explicit(&i->count, memory_order_relaxed);
}
