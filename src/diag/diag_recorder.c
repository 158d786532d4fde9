/* The flight recorder. The dump runs in signal handlers, maybe while other threads go on: it uses
 * nothing but its stack, atomics and write(2). */
#include "diag/diag_priv.h"

#include <errno.h>
#include <unistd.h>

struct dump_line {
    char at[256];
    size_t count;
};

void diag_note(struct mono now, const char *what, uint64_t a, uint64_t b)
{
    struct diag_thread *t = diag_thread_mine();
    if (t == NULL)
        return;
    uint64_t count = atomic_load_explicit(&t->notes_count, memory_order_relaxed);
    struct diag_entry *entry = &t->notes[count % DIAG_NOTES_MAX];
    atomic_store_explicit(&entry->ns, now.ns, memory_order_relaxed);
    atomic_store_explicit(&entry->what, what, memory_order_relaxed);
    atomic_store_explicit(&entry->a, a, memory_order_relaxed);
    atomic_store_explicit(&entry->b, b, memory_order_relaxed);
    atomic_store_explicit(&t->notes_count, count + 1, memory_order_release);
}

static void line_text(struct dump_line *l, const char *text)
{
    for (; *text != '\0' && l->count < sizeof(l->at) - 1; text++)
        l->at[l->count++] = *text;
}

static void line_number(struct dump_line *l, uint64_t number)
{
    char digits[21];
    size_t at = sizeof(digits) - 1;
    digits[at] = '\0';
    do {
        digits[--at] = (char)('0' + number % 10);
        number /= 10;
    } while (number > 0);
    line_text(l, digits + at);
}

static void line_write(struct dump_line *l, int fd)
{
    size_t done = 0;
    l->at[l->count++] = '\n';
    while (done < l->count) { /* each write takes something, or it is the last */
        ssize_t wrote = write(fd, l->at + done, l->count - done);
        if (wrote < 0 && errno == EINTR)
            continue;
        if (wrote <= 0)
            break;
        done += (size_t)wrote;
    }
    l->count = 0;
}

static void entry_dump(const struct diag_thread *t, const struct diag_entry *entry, int fd)
{
    struct dump_line l = {.count = 0};
    const char *what = atomic_load_explicit(&entry->what, memory_order_relaxed);
    int64_t ns = atomic_load_explicit(&entry->ns, memory_order_relaxed);
    line_text(&l, "event=note thread=");
    line_text(&l, t->name);
    line_text(&l, " mono_us=");
    line_number(&l, (uint64_t)(ns < 0 ? 0 : ns) / 1000);
    line_text(&l, " what=\"");
    line_text(&l, what == NULL ? "" : what);
    line_text(&l, "\" a=");
    line_number(&l, atomic_load_explicit(&entry->a, memory_order_relaxed));
    line_text(&l, " b=");
    line_number(&l, atomic_load_explicit(&entry->b, memory_order_relaxed));
    line_write(&l, fd);
}

void diag_dump(int fd)
{
    int kept = errno;
    struct diag_thread *t;
    for (uint32_t i = 0; (t = diag_thread_at(i)) != NULL; i++) {
        uint64_t count = atomic_load_explicit(&t->notes_count, memory_order_acquire);
        uint64_t from = count > DIAG_NOTES_MAX ? count - DIAG_NOTES_MAX : 0;
        for (uint64_t n = from; n < count; n++)
            entry_dump(t, &t->notes[n % DIAG_NOTES_MAX], fd);
    }
    errno = kept;
}
