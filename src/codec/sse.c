/* A stream is lines; a line is a field; an empty line ends an event:
 *
 *     ": comment" LF    "event: delta" LF    "data: {...}" LF    LF
 *
 * A line that lies whole in the input is read where it stands; only a line that the network cut is
 * gathered in `line`. The end of a line is decided by its first end byte, so an event is complete
 * with the CR of a CR LF; the LF is skipped when it comes. */
#include "codec/sse.h"

void sse_reader_init(struct sse_reader *r, size_t event_bytes_max)
{
    memset(r, 0, sizeof(*r));
    r->event_bytes_max = event_bytes_max;
    /* One more than the limit: the LF behind the last data line is not part of the event. */
    size_t cap = event_bytes_max < SIZE_MAX ? event_bytes_max + 1 : SIZE_MAX;
    buf_init(&r->line, cap);
    buf_init(&r->data, cap);
    buf_init(&r->type, cap);
    buf_init(&r->id, cap);
}

void sse_reader_fini(struct sse_reader *r)
{
    buf_fini(&r->line);
    buf_fini(&r->data);
    buf_fini(&r->type);
    buf_fini(&r->id);
}

/* Empties a buf and gives its memory back. */
static void sse_drop(struct buf *b)
{
    size_t cap = b->cap;
    buf_fini(b);
    buf_init(b, cap);
}

static void sse_set(struct buf *b, struct bytes value)
{
    b->count = 0;
    buf_bytes(b, value);
}

/* Takes one whole line; true when it ended an event. */
static bool sse_line(struct sse_reader *r, struct bytes line)
{
    if (!r->begun) {
        r->begun = true;
        if (line.count >= 3 && memcmp(line.at, "\xef\xbb\xbf", 3) == 0)
            line = (struct bytes){line.at + 3, line.count - 3};
    }
    if (line.count == 0) {
        if (r->has_data)
            return true;
        r->type.count = 0;
        return false;
    }
    const uint8_t *colon = memchr(line.at, ':', line.count);
    struct bytes name = {line.at, colon == NULL ? line.count : (size_t)(colon - line.at)};
    struct bytes value = {NULL, 0};
    if (colon != NULL) {
        value = (struct bytes){colon + 1, line.count - name.count - 1};
        if (value.count > 0 && value.at[0] == ' ')
            value = (struct bytes){value.at + 1, value.count - 1};
    }
    if (bytes_is(name, "data")) {
        r->has_data = true;
        buf_bytes(&r->data, value);
        buf_byte(&r->data, '\n');
    } else if (bytes_is(name, "event")) {
        sse_set(&r->type, value);
    } else if (bytes_is(name, "id")) {
        if (value.count == 0 || memchr(value.at, 0, value.count) == NULL)
            sse_set(&r->id, value);
    }
    return false;
}

#define SSE_ONES  0x0101010101010101u
#define SSE_HIGHS 0x8080808080808080u

/* The bytes before the first CR or LF; all when there is none. Eight at a time: a byte that is
 * zero after the exclusive or borrows into its high bit (Mycroft 1987). */
static size_t sse_line_bytes(struct bytes b)
{
    size_t i = 0;
    for (; i + 8 <= b.count; i += 8) {
        uint64_t word;
        memcpy(&word, b.at + i, sizeof(word));
        uint64_t lf = word ^ (SSE_ONES * '\n');
        uint64_t cr = word ^ (SSE_ONES * '\r');
        if ((((lf - SSE_ONES) & ~lf) | ((cr - SSE_ONES) & ~cr)) & SSE_HIGHS)
            break;
    }
    while (i < b.count && b.at[i] != '\n' && b.at[i] != '\r')
        i++;
    return i;
}

static enum err sse_broken(struct sse_reader *r)
{
    r->is_broken = true;
    return ERR_FULL;
}

/* After the last event of the input nothing is kept but what a cut line needs. */
static void sse_rest(struct sse_reader *r)
{
    if (r->line.count == 0)
        sse_drop(&r->line);
    if (!r->has_data)
        sse_drop(&r->data);
    if (r->type.count == 0)
        sse_drop(&r->type);
}

static void sse_event_give(struct sse_reader *r, struct sse_event *out)
{
    r->is_given = true;
    out->type = buf_view(&r->type);
    out->data = (struct bytes){r->data.at, r->data.count - 1};
    out->id = buf_view(&r->id);
}

static void sse_event_forget(struct sse_reader *r)
{
    if (!r->is_given)
        return;
    r->is_given = false;
    r->has_data = false;
    r->data.count = 0;
    r->type.count = 0;
}

enum err sse_reader_next(struct sse_reader *r, struct bytes input, size_t *used_out,
                         struct sse_event *out)
{
    size_t used = 0;
    *used_out = 0;
    if (r->is_broken)
        return ERR_FULL;
    sse_event_forget(r);
    while (used < input.count) {
        if (r->after_cr && input.at[used] == '\n')
            used++;
        r->after_cr = false;
        if (used == input.count)
            break;
        struct bytes rest = {input.at + used, input.count - used};
        size_t part = sse_line_bytes(rest);
        if (r->data.count + r->line.count + part > r->line.cap)
            return sse_broken(r);
        bool is_whole = part < rest.count;
        if (!is_whole || r->line.count > 0)
            buf_put(&r->line, rest.at, part);
        used += is_whole ? part + 1 : part;
        bool ends_event = false;
        if (is_whole) {
            struct bytes line =
                r->line.count > 0 ? buf_view(&r->line) : (struct bytes){rest.at, part};
            r->after_cr = rest.at[part] == '\r';
            ends_event = sse_line(r, line);
            r->line.count = 0;
        }
        if (r->line.failed || r->data.failed || r->type.failed || r->id.failed)
            return sse_broken(r);
        *used_out = used;
        if (ends_event) {
            sse_event_give(r, out);
            return ERR_OK;
        }
    }
    *used_out = used;
    sse_rest(r);
    return ERR_AGAIN;
}
