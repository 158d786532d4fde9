/* Streaming hold-back: what is kept is the longest end of the text that may still become a term. */
#include "text/text_priv.h"

void text_hold_init(struct text_hold *h, const struct text_terms *t, enum text_side side)
{
    *h = (struct text_hold){.terms = t, .side = side};
    scan_begin(&h->scan);
}

void text_hold_fini(struct text_hold *h)
{
    h->kept_bytes = 0;
    h->terms = NULL;
}

/* Releases `count` bytes of what was kept followed by `piece`, and keeps the rest. */
static void release(struct text_hold *h, struct bytes piece, size_t count, struct buf *out)
{
    size_t old = size_min(count, h->kept_bytes);
    buf_put(out, h->kept, old);
    memmove(h->kept, h->kept + old, h->kept_bytes - old);
    h->kept_bytes -= (uint32_t)old;
    buf_put(out, piece.at, count - old);
    h->released_bytes += count;
    size_t rest = piece.count - (count - old);
    CHECK(h->kept_bytes + rest <= sizeof(h->kept));
    if (rest > 0)
        memcpy(h->kept + h->kept_bytes, piece.at + (count - old), rest);
    h->kept_bytes += (uint32_t)rest;
}

void text_hold_feed(struct text_hold *h, struct bytes piece, struct buf *out)
{
    const struct automaton *a = &h->terms->sides[h->side];
    struct bytes rest = piece;
    while (rest.count > 0 && !h->match.found) {
        size_t bytes;
        uint32_t c = fold_decode(rest, &bytes);
        scan_character(a, &h->scan, c, bytes, &h->match);
        rest.at += bytes;
        rest.count -= bytes;
    }
    if (h->match.found) {
        h->kept_bytes = 0;
        return;
    }
    release(h, piece, scan_safe(a, &h->scan) - h->released_bytes, out);
}

void text_hold_end(struct text_hold *h, struct buf *out)
{
    if (!h->match.found)
        scan_end(&h->terms->sides[h->side], &h->scan, &h->match);
    if (h->match.found)
        h->kept_bytes = 0;
    release(h, (struct bytes){NULL, 0}, h->kept_bytes, out);
}
