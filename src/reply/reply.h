/* reply: one AI turn: by rule, or context -> model -> text that may be shown -> the run's talk.
 *
 * Owner   : one `struct reply` per engine; a turn is a slot of it, named by the run.
 * Thread  : the engine's. Talks to talk by messages only: BUS_RUN_START and BUS_RUN_CANCEL in;
 *           BUS_RUN_STATE, BUS_RUN_TEXT and exactly one BUS_RUN_END out, unless cancelled.
 * Memory  : the hold-back's few bytes and the count of what was said; the text itself is talk's.
 * Limits  : runs.text, runs.time: the answer then ends complete with why: length.
 * Source  : docs/ARCHITECTURE.md, "One turn". */
#ifndef REPLY_REPLY_H
#define REPLY_REPLY_H

#include "config/config.h"
#include "engine/engine.h"
#include "model/model.h"
#include "recall/recall.h"
#include "text/text.h"

struct reply;

struct reply *reply_make(struct engine *e, struct recall *r, struct model *m,
                         const struct text_terms *terms, const struct config *c);
void reply_free(struct reply **r);

#endif
