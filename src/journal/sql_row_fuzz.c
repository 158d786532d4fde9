/* Rows as a damaged file might give them: every decoder of sql_row.c must answer yes or no, give
 * back only what is within its limits, and touch nothing else.
 *
 *     input   decoder (1), then columns: kind (1), then 8 bytes of a number or a length (2) and
 *             that many bytes; what is missing at the end is zero or empty */
#include "journal/sql_priv.h"

enum { DECODERS = 7 };

struct input {
    const uint8_t *at;
    size_t count;
};

static uint64_t input_take(struct input *in, size_t bytes)
{
    uint64_t v = 0;
    for (size_t i = 0; i < bytes; i++) {
        v = v << 8 | (in->count > 0 ? *in->at : 0);
        in->at += in->count > 0;
        in->count -= in->count > 0;
    }
    return v;
}

static uint32_t columns_take(struct input *in, struct value columns[SQL_COLUMNS_MAX])
{
    uint32_t count = 0;
    while (in->count > 0 && count < SQL_COLUMNS_MAX) {
        struct value *v = &columns[count++];
        v->kind = (enum value_kind)(input_take(in, 1) % 4);
        v->bytes = (struct bytes){NULL, 0};
        v->number = 0;
        if (v->kind == VALUE_INT)
            v->number = (int64_t)input_take(in, 8);
        if (v->kind != VALUE_TEXT && v->kind != VALUE_BLOB)
            continue;
        size_t wanted = (size_t)input_take(in, 2);
        v->bytes = bytes_make(in->at, size_min(wanted, in->count));
        in->at += v->bytes.count;
        in->count -= v->bytes.count;
    }
    return count;
}

static void check_id(const struct id *i)
{
    CHECK(i->count <= ID_BYTES_MAX);
}

static void decode_run(struct row *r)
{
    struct run_row run = {0};
    if (!row_run(r, &run))
        return;
    check_id(&run.parent);
    CHECK(run.run.count > 0);
    CHECK(run.msg.count > 0);
    CHECK(run.cause <= RUN_CAUSE_CONTINUE);
    CHECK(run.state <= RUN_ENDED);
}

static void decode_event(struct row *r, bool narrow)
{
    struct event_view e;
    if (!row_event(r, narrow, &e))
        return;
    CHECK(e.offset > 0);
    CHECK(e.kind != EVENT_NONE);
    CHECK(e.kind <= EVENT_STATE);
    CHECK((e.kind != EVENT_MSG && e.kind != EVENT_RUN) || e.msg.count > 0);
    check_id(&e.parent);
    check_id(&e.promised);
}

static void decode_list(struct row *r)
{
    struct list_view v;
    if (!row_list(r, &v))
        return;
    CHECK(v.item.last.count <= JOURNAL_EXCERPT_BYTES_MAX);
    CHECK(v.item.conv.count > 0);
}

static void decode_conv(struct row *r)
{
    int64_t key = 0;
    bool full = false;
    struct conv_row conv = {0};
    if (!row_conv(r, &key, &conv, &full))
        return;
    CHECK(conv.title != NULL);
    CHECK(conv.epoch.count <= EPOCH_RANDOM_BYTES);
    epoch_make(&conv.epoch, bytes_make(conv.epoch.at, conv.epoch.count), GENERATION_MAX);
    blob_unref(&conv.title);
    blob_unref(&conv.meta);
}

static void decode_facts(struct row *r, bool create)
{
    uint32_t index = 0;
    bool full = false;
    struct facts facts = {0};
    if (create ? !row_facts_create(r, 3, &index, &facts) : !row_facts(r, 3, &index, &facts, &full))
        return;
    CHECK(index < 3);
    CHECK(facts.run_state <= RUN_ENDED);
    CHECK((facts.refusal != NULL) == facts.has_refusal);
    facts_fini(&facts);
}

int LLVMFuzzerTestOneInput(const uint8_t *at, size_t count);
int LLVMFuzzerTestOneInput(const uint8_t *at, size_t count)
{
    struct input in = {at, count};
    struct value columns[SQL_COLUMNS_MAX];
    struct conv_member member;
    uint64_t decoder = input_take(&in, 1) % DECODERS;
    struct row r = {.at = columns, .count = columns_take(&in, columns)};
    switch (decoder) {
    case 0: decode_run(&r); break;
    case 1: decode_event(&r, false); break;
    case 2: decode_event(&r, true); break;
    case 3: decode_list(&r); break;
    case 4: decode_conv(&r); break;
    case 5: decode_facts(&r, count % 2 == 0); break;
    case 6: (void)row_member(&r, &member); break; /* no limit of its own to look at */
    }
    return 0;
}
