/* Log lines. One line is one write(2), so that lines of threads and of processes that share the
 * descriptor never mix. */
#include "codec/utf8.h"
#include "diag/diag_priv.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <unistd.h>

#define QUOTE_BUFFERS 8

static const char *const level_names[] = {
    [DIAG_DEBUG] = "debug", [DIAG_INFO] = "info", [DIAG_WARN] = "warn", [DIAG_ERROR] = "error"};

static _Atomic int level_least = DIAG_INFO;
static _Atomic int output = STDERR_FILENO;
static int64_t (*_Atomic clock_wall_ms)(void);

void diag_init(const char *level)
{
    for (size_t i = 0; i < ARRAY_COUNT(level_names); i++)
        if (strcmp(level, level_names[i]) == 0)
            atomic_store(&level_least, (int)i);
}

void diag_clock_set(int64_t (*wall_ms)(void))
{
    atomic_store(&clock_wall_ms, wall_ms);
}

void diag_output_set(int fd)
{
    atomic_store(&output, fd);
}

bool diag_enabled(enum diag_level level)
{
    return (int)level >= atomic_load_explicit(&level_least, memory_order_relaxed);
}

/* Days since 1970 -> year, month, day of the Gregorian calendar, with years that begin in March so
 * that the leap day is the last (Hinnant, "chrono-compatible low-level date algorithms", 2013). */
static void time_put(struct buf *b, int64_t ms)
{
    int64_t seconds = ms / 1000;
    int64_t days = seconds / 86400 + 719468;
    int64_t era = days / 146097;
    int64_t day_of_era = days % 146097;
    int64_t year =
        (day_of_era - day_of_era / 1460 + day_of_era / 36524 - day_of_era / 146096) / 365;
    int64_t day_of_year = day_of_era - (365 * year + year / 4 - year / 100);
    int64_t month = (5 * day_of_year + 2) / 153;
    int64_t day = day_of_year - (153 * month + 2) / 5 + 1;
    month = month < 10 ? month + 3 : month - 9;
    year += era * 400 + (month <= 2);
    buf_printf(b, "ts=%04d-%02d-%02dT%02d:%02d:%02d.%03dZ ", (int)year, (int)month, (int)day,
               (int)(seconds / 3600 % 24), (int)(seconds / 60 % 60), (int)(seconds % 60),
               (int)(ms % 1000));
}

/* Nothing a caller passes may begin a new line or hide what follows. */
static void control_clean(uint8_t *at, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (at[i] < 0x20 || at[i] == 0x7f)
            at[i] = '?';
}

/* A line over the limit ends at a whole character, with its quotes closed, and says so. */
static size_t line_cut(uint8_t *line, size_t count)
{
    static const char mark[] = "\" cut=true";
    count = utf8_prefix(bytes_make(line, count), DIAG_LINE_BYTES_MAX - sizeof(mark) - 1);
    bool is_quoted = false;
    bool is_escaped = false;
    for (size_t i = 0; i < count; i++) {
        if (line[i] == '"' && !is_escaped)
            is_quoted = !is_quoted;
        is_escaped = line[i] == '\\' && !is_escaped;
    }
    if (is_escaped) /* half an escape */
        count--;
    size_t skip = is_quoted ? 0 : 1;
    memcpy(line + count, mark + skip, sizeof(mark) - 1 - skip);
    return count + sizeof(mark) - 1 - skip;
}

static void line_write(const uint8_t *line, size_t count)
{
    ssize_t wrote;
    do
        wrote = write(atomic_load(&output), line, count);
    while (wrote < 0 && errno == EINTR);
    /* A line that went out in part is not finished by a second write: others stand between. */
    if (wrote != (ssize_t)count)
        DIAG_COUNT(log_lost);
}

void diag_log(enum diag_level level, const char *event, const char *format, ...)
{
    uint8_t line[2 * DIAG_LINE_BYTES_MAX];
    struct buf b;
    int64_t (*wall_ms)(void) = atomic_load(&clock_wall_ms);
    const struct diag_thread *t = diag_thread_mine();
    int kept = errno;
    if (!diag_enabled(level))
        return;
    buf_init_fixed(&b, line, DIAG_LINE_BYTES_MAX);
    if (wall_ms != NULL)
        time_put(&b, wall_ms());
    buf_printf(&b, "level=%s event=%s thread=%s", level_names[level], event,
               t == NULL ? "none" : t->name);
    if (format[0] != '\0') {
        buf_byte(&b, ' ');
        va_list args;
        va_start(args, format);
        int wanted = vsnprintf((char *)line + b.count, sizeof(line) - b.count, format, args);
        va_end(args);
        b.count += wanted < 0 ? 0 : size_min((size_t)wanted, sizeof(line) - b.count - 1);
    }
    control_clean(line, b.count);
    size_t count = b.count < DIAG_LINE_BYTES_MAX ? b.count : line_cut(line, b.count);
    line[count] = '\n';
    line_write(line, count + 1);
    errno = kept;
}

/* One character of a quoted token; false when there is no room for it and the end. */
static bool quote_put(char *to, size_t *count, const char *piece, size_t bytes)
{
    if (*count + bytes + sizeof("...\"") > DIAG_QUOTE_BYTES_MAX)
        return false;
    memcpy(to + *count, piece, bytes);
    *count += bytes;
    return true;
}

static bool quote_character(char *to, size_t *count, const uint8_t *at, size_t bytes)
{
    char piece[8];
    if (bytes > 1 || (*at >= 0x20 && *at < 0x7f && *at != '"' && *at != '\\'))
        return quote_put(to, count, (const char *)at, bytes);
    int made = *at == '"' || *at == '\\' ? snprintf(piece, sizeof(piece), "\\%c", *at)
                                         : snprintf(piece, sizeof(piece), "\\x%02x", *at);
    return quote_put(to, count, piece, (size_t)made);
}

/* Bytes of the whole valid character at `at`, or 1 for a byte that belongs to none. */
static size_t character_bytes(struct bytes rest)
{
    size_t bytes = rest.at[0] < 0x80 ? 1 : rest.at[0] < 0xe0 ? 2 : rest.at[0] < 0xf0 ? 3 : 4;
    return bytes <= rest.count && utf8_is_valid((struct bytes){rest.at, bytes}) ? bytes : 1;
}

const char *diag_quote(struct bytes value)
{
    static _Thread_local char buffers[QUOTE_BUFFERS][DIAG_QUOTE_BYTES_MAX];
    static _Thread_local unsigned next;
    char *to = buffers[next++ % QUOTE_BUFFERS];
    size_t count = 1;
    bool fits = true;
    to[0] = '"';
    for (size_t at = 0; at < value.count && fits;) {
        size_t bytes = character_bytes((struct bytes){value.at + at, value.count - at});
        fits = quote_character(to, &count, value.at + at, bytes);
        at += bytes;
    }
    (void)snprintf(to + count, DIAG_QUOTE_BYTES_MAX - count, "%s", fits ? "\"" : "...\"");
    return to;
}
