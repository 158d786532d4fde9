/* Descriptors. The kernel's answer of the last sleep lies in e->events while callbacks run; a
 * watch that is cleared meanwhile is struck from it, because by the time its event would come up
 * its memory and its descriptor's number may belong to somebody else. */
#include "engine/engine_priv.h"

#include <errno.h>

static uint32_t watch_wants_epoll(uint32_t wants)
{
    uint32_t events = 0;
    if ((wants & ENGINE_READ) != 0)
        events |= EPOLLIN;
    if ((wants & ENGINE_WRITE) != 0)
        events |= EPOLLOUT;
    return events;
}

static int watch_control(struct engine *e, struct watch *w, int operation)
{
    struct epoll_event event = {.events = watch_wants_epoll(w->wants), .data = {.ptr = w}};
    return epoll_ctl(e->epoll_fd, operation, w->fd, &event);
}

enum err watch_set(struct engine *e, struct watch *w, int fd, uint32_t wants,
                   void (*ready)(void *ctx, uint32_t events), void *ctx)
{
    CHECK(engine_is_mine(e));
    CHECK(!w->added);
    *w = (struct watch){.fd = fd, .wants = (uint16_t)wants, .ready = ready, .ctx = ctx};
    if (watch_control(e, w, EPOLL_CTL_ADD) != 0)
        return errno == ENOMEM || errno == ENOSPC ? ERR_FULL : ERR_IO;
    w->added = true;
    return ERR_OK;
}

void watch_change(struct engine *e, struct watch *w, uint32_t wants)
{
    CHECK(engine_is_mine(e));
    if (!w->added || w->wants == wants)
        return;
    w->wants = (uint16_t)wants;
    int failed = watch_control(e, w, EPOLL_CTL_MOD);
    /* A library may have closed the descriptor and got its number again for a new one, within one
     * call: the kernel forgot the old one then. */
    if (failed != 0 && errno == ENOENT)
        failed = watch_control(e, w, EPOLL_CTL_ADD);
    CHECK(failed == 0);
}

void watch_clear(struct engine *e, struct watch *w)
{
    CHECK(engine_is_mine(e));
    if (!w->added)
        return;
    w->added = false;
    w->wants = 0;
    /* It fails only when a library has closed the descriptor already: then nothing is left to
     * do. */
    (void)epoll_ctl(e->epoll_fd, EPOLL_CTL_DEL, w->fd, NULL);
    for (uint32_t i = e->events_at; i < e->events_count; i++) {
        if (e->events[i].data.ptr == w)
            e->events[i].data.ptr = NULL;
    }
}

void watches_run(struct engine *e)
{
    for (e->events_at = 0; e->events_at < e->events_count; e->events_at++) {
        const struct epoll_event *event = &e->events[e->events_at];
        struct watch *w = event->data.ptr;
        if (w == NULL)
            continue; /* the wake-up, or cleared in this turn */
        uint32_t events = 0;
        if ((event->events & EPOLLIN) != 0)
            events |= ENGINE_READ;
        if ((event->events & EPOLLOUT) != 0)
            events |= ENGINE_WRITE;
        events &= w->wants; /* they may have changed since */
        if ((event->events & (EPOLLHUP | EPOLLERR)) != 0)
            events |= ENGINE_HANGUP;
        if (events == 0)
            continue;
        uintptr_t function = (uintptr_t)w->ready;
        w->ready(w->ctx, events); /* w may be gone after it */
        engine_called(e, (struct engine_culprit){.step = STEP_DESCRIPTOR, .function = function});
    }
    e->events_count = 0;
}
