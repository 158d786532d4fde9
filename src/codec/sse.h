/* sse: a server-sent event stream as a client reads it (upstream models).
 *
 * Thread  : one owner per reader; pure.
 * Memory  : a line that is cut by the network is kept in the reader's blob, borrowed only while
 *           there is a rest.
 * Errors  : ERR_FULL when one event (its data with the line that is being read) is over
 *           event_bytes_max, or mem is out.
 * Source  : WHATWG HTML, 9.2.6 (CR, LF, CRLF; comments; data lines joined by LF; BOM). */
#ifndef CODEC_SSE_H
#define CODEC_SSE_H

#include "base/base.h"
#include "base/buf.h"

struct sse_event {
    struct bytes type; /* empty = message */
    struct bytes data; /* without the final LF */
    struct bytes id;   /* the last one seen, also in an earlier event */
};

struct sse_reader {
    struct buf line;
    struct buf data;
    struct buf type;
    struct buf id;
    size_t event_bytes_max;
    bool after_cr;
    bool begun;
    bool has_data;
    bool is_given;  /* the event was handed out; its bytes go with the next call */
    bool is_broken; /* ERR_FULL was answered, and stays */
};

void sse_reader_init(struct sse_reader *r, size_t event_bytes_max);
void sse_reader_fini(struct sse_reader *r);

/* Consumes bytes until one event is whole: ERR_OK, *used_out consumed, *out views into the reader
 * until the next call. ERR_AGAIN: all consumed, no event yet. ERR_FULL: over the limit, or mem is
 * out; stays so. */
enum err sse_reader_next(struct sse_reader *r, struct bytes input, size_t *used_out,
                         struct sse_event *out) MUST_USE;

#endif
