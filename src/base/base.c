/* The words for results, and how the process ends when a CHECK fails. */
#include "base/base.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

const char *err_name(enum err e)
{
    switch (e) {
    case ERR_OK: return "ok";
    case ERR_AGAIN: return "again";
    case ERR_PROTO: return "proto";
    case ERR_FULL: return "full";
    case ERR_CONFLICT: return "conflict";
    case ERR_NOT_FOUND: return "not_found";
    case ERR_DENIED: return "denied";
    case ERR_IO: return "io";
    case ERR_UNCERTAIN: return "uncertain";
    case ERR_CLOSED: return "closed";
    }
    return "unknown";
}

static void (*check_hook)(const char *condition, const char *file, int line);
static atomic_flag check_began = ATOMIC_FLAG_INIT;

void check_hook_set(void (*hook)(const char *condition, const char *file, int line))
{
    check_hook = hook;
}

void check_failed(const char *condition, const char *file, int line)
{
    /* A hook that fails itself, or a second thread that fails beside the first, must not dump
     * again: only the first one does. */
    if (!atomic_flag_test_and_set(&check_began)) {
        (void)fprintf(stderr, "event=check_failed at=%s:%d condition=\"%s\"\n", file, line,
                      condition);
        if (check_hook != NULL)
            check_hook(condition, file, line);
    }
    abort();
}
