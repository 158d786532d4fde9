/* The promises of journal.h, one test each, on every driver: what memory answers, SQL answers. They
 * pass through op.c, decide.c, batch.c, read.c, path.c, search.c and a driver each: memstore.c, or
 * sqlite.c with sql_text.c, sql_row.c, sql_read.c, sql_write.c and migrate.c. */
#include "journal/test_world_priv.h"

/* --- conv.create ------------------------------------------------------------------------------ */

static void a_new_conversation_is_empty_and_has_its_owner(void **state)
{
    struct world *w = *state;
    struct journal_conv_create *c = create_op("c_1", "ada");
    c->title = a_blob("Hello");
    c->meta = a_blob("{\"a\":1}");
    c->members_count = 2;
    c->members = mem_new_zero(2 * sizeof(struct name));
    c->members[0] = a_name("bob");
    c->members[1] = a_name("ada"); /* named twice, in it once */
    assert_int_equal(outcome(w, c), JOURNAL_DONE);
    assert_true(bytes_is(bytes_make(c->epoch.at, c->epoch.count), "abcdefghijk.g1"));
    assert_int_equal(c->created_ms, 1000);
    drop(c);
    struct journal_conv_load *o = load(w, "c_1");
    assert_id(o->row.app, "default");
    assert_id(o->row.conv, "c_1");
    assert_id(o->row.persona, "p_default");
    assert_id(o->row.head_msg, "");
    assert_int_equal(o->row.offset, 0);
    assert_int_equal(o->row.mode, 0);
    assert_int_equal(o->row.created_ms, 1000);
    assert_int_equal(o->row.updated_ms, 1000);
    assert_true(bytes_is(bytes_make(o->row.epoch.at, o->row.epoch.count), "abcdefghijk.g1"));
    assert_true(bytes_is(blob_bytes(o->row.title), "Hello"));
    assert_true(bytes_is(blob_bytes(o->row.meta), "{\"a\":1}"));
    assert_int_equal(o->members_count, 2);
    assert_true(bytes_is(name_bytes(&o->members[0].user), "ada") && o->members[0].owner);
    assert_true(bytes_is(name_bytes(&o->members[1].user), "bob") && !o->members[1].owner);
    assert_int_equal(o->runs_count, 0);
    drop(o);
}

static void no_title_is_an_empty_title_and_no_meta_is_none(void **state)
{
    struct world *w = *state;
    create(w, "c_1", "");
    struct journal_conv_load *o = load(w, "c_1");
    assert_non_null(o->row.title);
    assert_int_equal(o->row.title->count, 0);
    assert_null(o->row.meta);
    assert_int_equal(o->members[0].user.count, 0); /* the user "" of insecure tests */
    drop(o);
}

static void create_again_with_its_cid_gives_the_first(void **state)
{
    struct world *w = *state;
    for (int i = 0; i < 2; i++) {
        struct journal_conv_create *c = create_op(i == 0 ? "c_1" : "c_2", "ada");
        c->cid = an_id("cid-1");
        c->now_ms = 1000 + i;
        memcpy(c->epoch_random, i == 0 ? "11111111111" : "22222222222", 12);
        assert_int_equal(outcome(w, c), i == 0 ? JOURNAL_DONE : JOURNAL_DUPLICATE);
        assert_id(c->conv, "c_1");
        assert_int_equal(c->created_ms, 1000);
        assert_true(bytes_is(bytes_make(c->epoch.at, c->epoch.count), "11111111111.g1"));
        drop(c);
    }
    struct journal_conv_load *o = OP(CONV_LOAD, journal_conv_load);
    o->conv = an_id("c_2");
    assert_int_equal(finally(w, o), JOURNAL_GONE);
}

static void a_cid_belongs_to_one_user_of_one_app(void **state)
{
    struct world *w = *state;
    const char *const convs[] = {"c_1", "c_2", "c_3"};
    for (int i = 0; i < 3; i++) {
        struct journal_conv_create *c = create_op(convs[i], i == 1 ? "bob" : "ada");
        c->cid = an_id("cid-1");
        c->app = an_id(i == 2 ? "other" : "default");
        assert_int_equal(finally(w, c), JOURNAL_DONE);
    }
}

static void what_a_cid_made_stays_deleted(void **state)
{
    struct world *w = *state;
    for (int i = 0; i < 2; i++) {
        struct journal_conv_create *c = create_op(i == 0 ? "c_1" : "c_2", "ada");
        c->cid = an_id("cid-1");
        assert_int_equal(finally(w, c), i == 0 ? JOURNAL_DONE : JOURNAL_GONE);
        if (i == 0) {
            struct journal_conv_delete *d = OP(CONV_DELETE, journal_conv_delete);
            d->app = an_id("default");
            d->conv = an_id("c_1");
            d->user = a_name("ada");
            assert_int_equal(finally(w, d), JOURNAL_DONE);
        }
    }
}

static void an_id_is_not_given_away_twice(void **state)
{
    struct world *w = *state;
    create(w, "c_1", "ada");
    assert_int_equal(finally(w, create_op("c_1", "ada")), JOURNAL_DUPLICATE);
    struct journal_conv_create *c = create_op("c_1", "bob");
    run(w, c);
    assert_int_equal(c->head.err, ERR_CONFLICT);
    drop(c);
    c = create_op("c_1", "ada");
    c->app = an_id("other");
    run(w, c);
    assert_int_equal(c->head.err, ERR_CONFLICT);
    drop(c);
}

/* --- append ----------------------------------------------------------------------------------- */

static void offsets_are_contiguous_from_one(void **state)
{
    struct world *w = *state;
    create(w, "c_1", "ada");
    create(w, "c_2", "ada");
    assert_int_equal(say(w, "c_1", "ada", "m_1", "", NULL), 1);
    assert_int_equal(say(w, "c_2", "ada", "m_2", "", NULL), 1);
    struct journal_append *o = say_op("c_1", "ada", "m_3", "m_1", NULL);
    o->events_count = 2;
    o->events[1].kind = EVENT_STATE;
    o->events[1].payload = a_blob("state");
    assert_int_equal(outcome(w, o), JOURNAL_DONE);
    assert_int_equal(o->events[0].offset, 2);
    assert_int_equal(o->events[1].offset, 3);
    assert_int_equal(o->offset, 2);
    drop(o);
    assert_int_equal(say(w, "c_1", "ada", "m_4", "m_3", NULL), 4);
    assert_int_equal(top_of(w, "c_1"), 4);
}

static void an_append_moves_the_conversation(void **state)
{
    struct world *w = *state;
    create(w, "c_1", "ada");
    struct journal_append *o = say_op("c_1", "ada", "m_1", "", NULL);
    memcpy(o->last.at, "Hi", 2);
    o->last.count = 2;
    assert_int_equal(finally(w, o), JOURNAL_DONE);
    o = say_op("c_1", "ada", "m_2", "m_1", NULL);
    o->now_ms = 1500; /* a clock that went back: the log's time does not */
    o->set_head = false;
    assert_int_equal(finally(w, o), JOURNAL_DONE);
    struct journal_conv_load *l = load(w, "c_1");
    assert_id(l->row.head_msg, "m_1");
    assert_int_equal(l->row.last_ts_ms, 2000);
    assert_int_equal(l->row.updated_ms, 2000);
    drop(l);
    struct journal_conv_list *list = OP(CONV_LIST, journal_conv_list);
    list->app = an_id("default");
    list->user = a_name("ada");
    list->limit = 10;
    assert_int_equal(outcome(w, list), JOURNAL_DONE);
    assert_true(bytes_is(bytes_make(list->items[0].last.at, list->items[0].last.count), "Hi"));
    drop(list);
}

static void strangers_and_wrong_places_store_nothing(void **state)
{
    struct world *w = *state;
    create(w, "c_1", "ada");
    assert_int_equal(finally(w, say_op("c_2", "ada", "m_1", "", "r1")), JOURNAL_GONE);
    assert_int_equal(finally(w, say_op("c_1", "bob", "m_1", "", "r1")), JOURNAL_NOT_MEMBER);
    struct journal_append *o = say_op("c_1", "ada", "m_1", "", "r1");
    o->app = an_id("other");
    assert_int_equal(finally(w, o), JOURNAL_GONE);
    assert_int_equal(top_of(w, "c_1"), 0);
    struct journal_run_get *g = OP(RUN_GET, journal_run_get);
    g->run = an_id("r1");
    assert_int_equal(finally(w, g), JOURNAL_GONE);
}

static void the_same_cid_gives_the_first_result(void **state)
{
    struct world *w = *state;
    create(w, "c_1", "ada");
    (void)say(w, "c_1", "ada", "m_0", "", NULL);
    for (int i = 0; i < 3; i++) {
        struct journal_append *o =
            say_op("c_1", "ada", i == 0 ? "m_1" : "m_2", "m_0", i == 0 ? "r1" : "r2");
        o->cid = an_id("cid-1");
        o->content_hash = UINT64_MAX - 1;
        assert_int_equal(outcome(w, o), i == 0 ? JOURNAL_DONE : JOURNAL_DUPLICATE);
        assert_int_equal(o->offset, 2);
        if (i > 0) {
            assert_id(o->first_msg, "m_1");
            assert_id(o->first_run, "r1");
        }
        drop(o);
        if (i == 1)
            world_reopen(w);
    }
    assert_int_equal(top_of(w, "c_1"), 2);
}

static void the_same_cid_with_another_content_is_said_so(void **state)
{
    struct world *w = *state;
    create(w, "c_1", "ada");
    for (uint64_t i = 0; i < 2; i++) {
        struct journal_append *o = say_op("c_1", "ada", i == 0 ? "m_1" : "m_2", "", NULL);
        o->cid = an_id("cid-1");
        o->content_hash = i;
        assert_int_equal(finally(w, o), i == 0 ? JOURNAL_DONE : JOURNAL_CID_OTHER);
    }
    assert_int_equal(top_of(w, "c_1"), 1);
}

static void a_cid_is_unique_per_sender_and_conversation_only(void **state)
{
    struct world *w = *state;
    struct journal_conv_create *c = create_op("c_1", "ada");
    c->members_count = 1;
    c->members = mem_new_zero(sizeof(struct name));
    c->members[0] = a_name("bob");
    assert_int_equal(finally(w, c), JOURNAL_DONE);
    create(w, "c_2", "ada");
    const char *const convs[] = {"c_1", "c_1", "c_2"};
    const char *const users[] = {"ada", "bob", "ada"};
    const char *const msgs[] = {"m_1", "m_2", "m_3"};
    for (int i = 0; i < 3; i++) {
        struct journal_append *o = say_op(convs[i], users[i], msgs[i], "", NULL);
        o->cid = an_id("cid-1");
        assert_int_equal(finally(w, o), JOURNAL_DONE);
    }
}

static void names_that_run_together_are_still_two(void **state)
{
    static const char *const who[] = {"ad", "ada"};
    static const char *const cids[] = {"abc", "bc"};
    struct world *w = *state;
    struct journal_conv_create *c = create_op("c_1", "ada");
    c->members_count = 1;
    c->members = mem_new_zero(sizeof(struct name));
    c->members[0] = a_name("ad");
    assert_int_equal(finally(w, c), JOURNAL_DONE);
    for (int i = 0; i < 2; i++) {
        struct journal_append *o = say_op("c_1", who[i], i == 0 ? "m_1" : "m_2", "", NULL);
        o->cid = an_id(cids[i]);
        assert_int_equal(finally(w, o), JOURNAL_DONE);
    }
}

static void a_cid_stands_for_the_answer_of_a_run_event(void **state)
{
    struct world *w = *state;
    create(w, "c_1", "ada");
    (void)say(w, "c_1", "ada", "m_1", "", NULL);
    for (int i = 0; i < 2; i++) {
        struct journal_append *o = say_op("c_1", "ada", "m_1", "", "r1");
        o->events[0].kind = EVENT_RUN;
        o->events[0].msg = an_id("");
        o->cid = an_id("again");
        assert_int_equal(outcome(w, o), i == 0 ? JOURNAL_DONE : JOURNAL_DUPLICATE);
        if (i == 1) {
            assert_id(o->first_msg, "mr1");
            assert_id(o->first_run, "r1");
        }
        drop(o);
    }
}

static void twice_in_one_batch_is_once(void **state)
{
    struct world *w = *state;
    create(w, "c_1", "ada");
    struct journal_op *ops[3];
    for (int i = 0; i < 3; i++) {
        struct journal_append *o = say_op("c_1", "ada", "m_1", "", "r1");
        o->cid = an_id("cid-1");
        ops[i] = &o->head;
    }
    assert_int_equal(batch_run(w->batch, w->store, ops, 3), ERR_OK);
    for (int i = 0; i < 3; i++) {
        struct journal_append *o = (void *)ops[i];
        assert_int_equal(o->head.outcome, i == 0 ? JOURNAL_DONE : JOURNAL_DUPLICATE);
        assert_int_equal(o->offset, 1);
        drop(o);
    }
    assert_int_equal(top_of(w, "c_1"), 1);
}

/* --- runs ------------------------------------------------------------------------------------- */

static void one_run_is_active_and_the_others_wait(void **state)
{
    struct world *w = *state;
    create(w, "c_1", "ada");
    const char *const runs[] = {"r1", "r2", "r3"};
    const char *const msgs[] = {"m_1", "m_2", "m_3"};
    for (uint32_t i = 0; i < 3; i++) {
        struct journal_append *o =
            say_op("c_1", "ada", msgs[i], i == 0 ? "" : msgs[i - 1], runs[i]);
        assert_int_equal(outcome(w, o), JOURNAL_DONE);
        assert_int_equal(o->run.state, i == 0 ? RUN_ACTIVE : RUN_QUEUED);
        assert_int_equal(o->run.attempt, i == 0 ? 1 : 0);
        assert_int_equal(o->queued_ahead, i);
        assert_id(o->events[0].promised, i == 0 ? "mr1" : i == 1 ? "mr2" : "mr3");
        drop(o);
    }
    struct journal_conv_load *l = load(w, "c_1");
    assert_int_equal(l->runs_count, 3);
    for (uint32_t i = 0; i < 3; i++) {
        assert_id(l->runs[i].run, runs[i]);
        assert_id(l->runs[i].parent, msgs[i]);
        assert_id(l->runs[i].conv, "c_1");
        assert_true(bytes_is(name_bytes(&l->runs[i].asked_by), "ada"));
        assert_true(bytes_is(name_bytes(&l->runs[i].model_name), "default"));
        assert_int_equal(l->runs[i].created_ms, 2000);
        assert_null(l->runs[i].partial);
        assert_true(i == 0 || l->runs[i].seq > l->runs[i - 1].seq);
    }
    drop(l);
}

static void a_full_queue_is_busy_and_takes_no_cid(void **state)
{
    struct world *w = *state;
    create(w, "c_1", "ada");
    const char *const runs[] = {"r1", "r2", "r3"};
    for (uint32_t i = 0; i < 3; i++) {
        struct journal_append *o = say_op("c_1", "ada", runs[i], "", runs[i]);
        o->queued_max = 1;
        o->cid = an_id(runs[i]);
        assert_int_equal(outcome(w, o), i < 2 ? JOURNAL_DONE : JOURNAL_BUSY);
        assert_int_equal(o->queued_ahead, i);
        drop(o);
    }
    assert_int_equal(top_of(w, "c_1"), 2);
    struct journal_append *o = say_op("c_1", "ada", "m_9", "", NULL);
    o->cid = an_id("r3");
    o->content_hash = 77; /* another content: the busy one left nothing behind */
    assert_int_equal(finally(w, o), JOURNAL_DONE);
}

static void reject_is_busy_while_a_run_is_active(void **state)
{
    struct world *w = *state;
    create(w, "c_1", "ada");
    for (int i = 0; i < 3; i++) {
        struct journal_append *o =
            say_op("c_1", "ada", i == 0 ? "m_1" : "m_2", "", i == 0 ? "r1" : "r2");
        o->refuse_when_busy = true;
        assert_int_equal(finally(w, o), i == 1 ? JOURNAL_BUSY : JOURNAL_DONE);
        if (i == 1)
            assert_int_equal(finally(w, finish_op("c_1", "r1", 1)), JOURNAL_DONE);
    }
}

static void a_run_id_that_was_used_is_lost(void **state)
{
    struct world *w = *state;
    create(w, "c_1", "ada");
    create(w, "c_2", "ada");
    (void)say(w, "c_1", "ada", "m_1", "", "r1");
    assert_int_equal(finally(w, say_op("c_2", "ada", "m_2", "", "r1")), JOURNAL_LOST);
    assert_int_equal(top_of(w, "c_2"), 0);
}

static void the_end_of_a_run_is_one_message(void **state)
{
    struct world *w = *state;
    create(w, "c_1", "ada");
    (void)say(w, "c_1", "ada", "m_1", "", "r1");
    struct journal_finish *f = finish_op("c_1", "r1", 1);
    memcpy(f->last.at, "Bye", 3);
    f->last.count = 3;
    assert_int_equal(outcome(w, f), JOURNAL_DONE);
    assert_int_equal(f->event.offset, 2);
    assert_int_equal(f->event.kind, EVENT_MSG);
    assert_id(f->event.msg, "mr1");
    assert_id(f->event.parent, "m_1");
    assert_false(f->has_next);
    drop(f);
    assert_int_equal(finally(w, finish_op("c_1", "r1", 1)), JOURNAL_LOST);
    struct journal_conv_load *l = load(w, "c_1");
    assert_id(l->row.head_msg, "mr1");
    assert_int_equal(l->row.offset, 2);
    assert_int_equal(l->row.updated_ms, 3000);
    assert_int_equal(l->runs_count, 0);
    drop(l);
    struct journal_run_get *g = OP(RUN_GET, journal_run_get);
    g->run = an_id("r1");
    assert_int_equal(outcome(w, g), JOURNAL_DONE);
    assert_int_equal(g->row.state, RUN_ENDED);
    assert_id(g->row.conv, "c_1");
    assert_int_equal(g->final.offset, 2);
    assert_true(bytes_is(blob_bytes(g->final.payload), "r1"));
    drop(g);
}

static void the_end_starts_the_next_in_its_order(void **state)
{
    struct world *w = *state;
    create(w, "c_1", "ada");
    (void)say(w, "c_1", "ada", "m_1", "", "r1");
    struct journal_append *o = say_op("c_1", "ada", "m_2", "mr1", "r2");
    o->run.cause = RUN_CAUSE_CONTINUE;
    o->run.continues = an_id("m_0");
    assert_int_equal(finally(w, o), JOURNAL_DONE);
    (void)say(w, "c_1", "ada", "m_3", "mr2", "r3");
    struct journal_finish *f = finish_op("c_1", "r1", 1);
    assert_int_equal(outcome(w, f), JOURNAL_DONE);
    assert_true(f->has_next);
    assert_id(f->next.run, "r2");
    assert_id(f->next.msg, "mr2");
    assert_id(f->next.parent, "m_2");
    assert_id(f->next.conv, "c_1");
    assert_id(f->next.persona, "p_default");
    assert_id(f->next.continues, "m_0");
    assert_int_equal(f->next.cause, RUN_CAUSE_CONTINUE);
    assert_int_equal(f->next.state, RUN_ACTIVE);
    assert_int_equal(f->next.attempt, 1);
    assert_true(bytes_is(name_bytes(&f->next.asked_by), "ada"));
    drop(f);
    struct journal_conv_load *l = load(w, "c_1");
    assert_int_equal(l->runs_count, 2);
    assert_id(l->runs[0].run, "r2");
    assert_int_equal(l->runs[0].state, RUN_ACTIVE);
    assert_int_equal(l->runs[1].state, RUN_QUEUED);
    drop(l);
}

static void only_the_attempt_in_charge_ends_a_run(void **state)
{
    struct world *w = *state;
    create(w, "c_1", "ada");
    create(w, "c_2", "ada");
    (void)say(w, "c_1", "ada", "m_1", "", "r1");
    assert_int_equal(finally(w, finish_op("c_1", "r1", 2)), JOURNAL_LOST);
    assert_int_equal(finally(w, finish_op("c_1", "r1", 0)), JOURNAL_LOST);
    assert_int_equal(finally(w, finish_op("c_1", "r9", 1)), JOURNAL_LOST);
    assert_int_equal(finally(w, finish_op("c_2", "r1", 1)), JOURNAL_LOST);
    assert_int_equal(finally(w, finish_op("c_9", "r1", 1)), JOURNAL_GONE);
    struct journal_take *t = OP(TAKE, journal_take);
    t->conv = an_id("c_1");
    t->run = an_id("r1");
    t->attempt = 1;
    t->node = a_name("node-2");
    assert_int_equal(outcome(w, t), JOURNAL_DONE);
    assert_int_equal(t->attempt, 2);
    t->attempt = 1;
    assert_int_equal(outcome(w, t), JOURNAL_LOST);
    assert_int_equal(t->attempt, 1);
    drop(t);
    assert_int_equal(finally(w, finish_op("c_1", "r1", 1)), JOURNAL_LOST);
    assert_int_equal(top_of(w, "c_1"), 1);
    assert_int_equal(finally(w, finish_op("c_1", "r1", 2)), JOURNAL_DONE);
}

static void a_waiting_run_ends_without_a_next(void **state)
{
    struct world *w = *state;
    create(w, "c_1", "ada");
    (void)say(w, "c_1", "ada", "m_1", "", "r1");
    (void)say(w, "c_1", "ada", "m_2", "mr1", "r2");
    (void)say(w, "c_1", "ada", "m_3", "mr2", "r3");
    assert_int_equal(finally(w, finish_op("c_1", "r2", 1)), JOURNAL_LOST);
    struct journal_take *t = OP(TAKE, journal_take);
    t->conv = an_id("c_1");
    t->run = an_id("r2");
    assert_int_equal(finally(w, t), JOURNAL_LOST); /* nobody takes what nobody has */
    struct journal_finish *f = finish_op("c_1", "r2", 0);
    assert_int_equal(outcome(w, f), JOURNAL_DONE);
    assert_false(f->has_next);
    drop(f);
    f = finish_op("c_1", "r1", 1);
    assert_int_equal(outcome(w, f), JOURNAL_DONE);
    assert_true(f->has_next);
    assert_id(f->next.run, "r3");
    drop(f);
}

static void ends_and_starts_of_one_batch_follow_their_order(void **state)
{
    struct world *w = *state;
    create(w, "c_1", "ada");
    struct journal_op *ops[6];
    ops[0] = &say_op("c_1", "ada", "m_1", "", "r1")->head;
    ops[1] = &say_op("c_1", "ada", "m_2", "mr1", "r2")->head;
    ops[2] = &finish_op("c_1", "r1", 1)->head;
    ops[3] = &finish_op("c_1", "r2", 1)->head;
    ops[4] = &say_op("c_1", "ada", "m_3", "mr2", "r3")->head;
    ops[5] = &finish_op("c_1", "r1", 1)->head;
    assert_int_equal(batch_run(w->batch, w->store, ops, 6), ERR_OK);
    for (int i = 0; i < 6; i++)
        assert_int_equal(ops[i]->outcome, i == 5 ? JOURNAL_LOST : JOURNAL_DONE);
    assert_true(((struct journal_finish *)(void *)ops[2])->has_next);
    assert_int_equal(((struct journal_append *)(void *)ops[4])->run.state, RUN_ACTIVE);
    assert_int_equal(((struct journal_append *)(void *)ops[4])->offset, 5);
    for (int i = 0; i < 6; i++)
        drop(ops[i]);
}

static struct journal_checkpoint *checkpoint_op(const char *run_id, uint32_t attempt,
                                                const char *text)
{
    struct journal_checkpoint *o = OP(CHECKPOINT, journal_checkpoint);
    o->conv = an_id("c_1");
    o->run = an_id(run_id);
    o->attempt = attempt;
    o->text = a_blob(text);
    o->now_ms = 2500;
    return o;
}

static void a_checkpoint_only_grows_and_ends_with_its_run(void **state)
{
    struct world *w = *state;
    create(w, "c_1", "ada");
    (void)say(w, "c_1", "ada", "m_1", "", "r1");
    (void)say(w, "c_1", "ada", "m_2", "mr1", "r2");
    assert_int_equal(finally(w, checkpoint_op("r1", 1, "Hello")), JOURNAL_DONE);
    assert_int_equal(finally(w, checkpoint_op("r1", 1, "Hello, A")), JOURNAL_DONE);
    assert_int_equal(finally(w, checkpoint_op("r1", 1, "Hel")), JOURNAL_DONE);
    assert_int_equal(finally(w, checkpoint_op("r1", 2, "Hello, Ada")), JOURNAL_LOST);
    assert_int_equal(finally(w, checkpoint_op("r2", 0, "x")), JOURNAL_LOST);
    struct journal_conv_load *l = load(w, "c_1");
    assert_true(bytes_is(blob_bytes(l->runs[0].partial), "Hello, A"));
    drop(l);
    struct journal_run_get *g = OP(RUN_GET, journal_run_get);
    g->run = an_id("r1");
    assert_int_equal(outcome(w, g), JOURNAL_DONE);
    assert_int_equal(g->row.state, RUN_ACTIVE);
    assert_true(bytes_is(blob_bytes(g->row.partial), "Hello, A"));
    assert_null(g->final.payload);
    drop(g);
    assert_int_equal(finally(w, finish_op("c_1", "r1", 1)), JOURNAL_DONE);
    g = OP(RUN_GET, journal_run_get);
    g->run = an_id("r1");
    assert_int_equal(outcome(w, g), JOURNAL_DONE);
    assert_null(g->row.partial);
    drop(g);
    assert_int_equal(finally(w, checkpoint_op("r1", 1, "Hello, Ada")), JOURNAL_LOST);
}

static void unfinished_names_each_conversation_once(void **state)
{
    struct world *w = *state;
    const char *const convs[] = {"c_3", "c_1", "c_2"};
    const char *const runs[] = {"r1", "r2", "r3"};
    const char *const more[] = {"r4", "r5", "r6"};
    for (int i = 0; i < 3; i++) {
        create(w, convs[i], "ada");
        (void)say(w, convs[i], "ada", runs[i], "", runs[i]);
        (void)say(w, convs[i], "ada", more[i], "", more[i]);
    }
    assert_int_equal(finally(w, finish_op("c_1", "r2", 1)), JOURNAL_DONE);
    assert_int_equal(finally(w, finish_op("c_1", "r5", 1)), JOURNAL_DONE);
    struct journal_unfinished *u = OP(UNFINISHED, journal_unfinished);
    assert_int_equal(outcome(w, u), JOURNAL_DONE);
    assert_int_equal(u->convs_count, 2);
    assert_id(u->convs[0], "c_2");
    assert_id(u->convs[1], "c_3");
    drop(u);
}

/* --- refusals --------------------------------------------------------------------------------- */

static struct journal_refuse *refuse_op(const char *cid, uint64_t content, const char *why,
                                        int64_t now_ms)
{
    struct journal_refuse *o = OP(REFUSE, journal_refuse);
    o->app = an_id("default");
    o->conv = an_id("c_1");
    o->sender = a_name("ada");
    o->cid = an_id(cid);
    o->content_hash = content;
    o->refusal = a_blob(why);
    o->now_ms = now_ms;
    return o;
}

static struct journal_append *say_again(const char *cid, uint64_t content, int64_t now_ms)
{
    struct journal_append *o = say_op("c_1", "ada", "m_1", "", "r1");
    o->cid = an_id(cid);
    o->content_hash = content;
    o->now_ms = now_ms;
    return o;
}

static void a_refusal_is_kept_for_a_day(void **state)
{
    struct world *w = *state;
    const int64_t day = JOURNAL_REFUSAL_KEPT_MS;
    create(w, "c_1", "ada");
    assert_int_equal(finally(w, refuse_op("cid-1", 5, "why", 1000)), JOURNAL_DONE);
    struct journal_refuse *r = refuse_op("cid-1", 5, "another why", 2000);
    assert_int_equal(outcome(w, r), JOURNAL_REFUSED);
    assert_true(bytes_is(blob_bytes(r->refusal), "why"));
    drop(r);
    world_reopen(w);
    struct journal_append *o = say_again("cid-1", 5, 1000 + day - 1);
    assert_int_equal(outcome(w, o), JOURNAL_REFUSED);
    assert_true(bytes_is(blob_bytes(o->refusal), "why"));
    drop(o);
    assert_int_equal(finally(w, say_again("cid-1", 6, 2000)), JOURNAL_CID_OTHER);
    assert_int_equal(top_of(w, "c_1"), 0);
    assert_int_equal(finally(w, say_again("cid-1", 6, 1000 + day)), JOURNAL_DONE);
    r = refuse_op("cid-1", 6, "why", 1000 + day);
    assert_int_equal(outcome(w, r), JOURNAL_DUPLICATE);
    assert_int_equal(r->offset, 1);
    assert_id(r->first_msg, "m_1");
    assert_id(r->first_run, "r1");
    drop(r);
    assert_int_equal(finally(w, refuse_op("cid-1", 5, "why", 1000 + day)), JOURNAL_CID_OTHER);
}

static void an_old_refusal_gives_way_to_a_new_one_and_is_swept(void **state)
{
    struct world *w = *state;
    const int64_t day = JOURNAL_REFUSAL_KEPT_MS;
    bool more = true;
    create(w, "c_1", "ada");
    assert_int_equal(finally(w, refuse_op("cid-1", 5, "why", 1000)), JOURNAL_DONE);
    assert_int_equal(finally(w, refuse_op("cid-1", 6, "new", 1000 + day)), JOURNAL_DONE);
    assert_int_equal(finally(w, say_again("cid-1", 6, 1001 + day)), JOURNAL_REFUSED);
    for (int i = 0; i < 100 && more; i++)
        assert_int_equal(w->store->driver->tidy(w->store, 1001 + day, &more), ERR_OK);
    assert_int_equal(finally(w, say_again("cid-1", 6, 1001 + day)), JOURNAL_REFUSED);
    more = true;
    for (int i = 0; i < 100 && more; i++)
        assert_int_equal(w->store->driver->tidy(w->store, 1001 + 2 * day, &more), ERR_OK);
    assert_false(more);
    assert_int_equal(finally(w, say_again("cid-1", 6, 1001 + day)), JOURNAL_DONE);
}

static void strangers_refuse_nothing(void **state)
{
    struct world *w = *state;
    create(w, "c_1", "bob");
    assert_int_equal(finally(w, refuse_op("cid-1", 5, "why", 1000)), JOURNAL_NOT_MEMBER);
    struct journal_refuse *r = refuse_op("cid-1", 5, "why", 1000);
    r->conv = an_id("c_2");
    assert_int_equal(finally(w, r), JOURNAL_GONE);
}

/* --- a conversation's life -------------------------------------------------------------------- */

static struct journal_conv_update *update_op(const char *user)
{
    struct journal_conv_update *o = OP(CONV_UPDATE, journal_conv_update);
    o->app = an_id("default");
    o->conv = an_id("c_1");
    o->user = a_name(user);
    o->now_ms = 5000;
    return o;
}

static void an_update_changes_what_it_names(void **state)
{
    struct world *w = *state;
    create(w, "c_1", "ada");
    (void)say(w, "c_1", "ada", "m_1", "", NULL);
    struct journal_conv_update *o = update_op("ada");
    o->set_title = true;
    o->title = a_blob("Rivers");
    o->event = a_blob("state");
    assert_int_equal(outcome(w, o), JOURNAL_DONE);
    assert_int_equal(o->offset, 2);
    drop(o);
    o = update_op("ada");
    o->set_archived = true;
    o->archived = true;
    assert_int_equal(outcome(w, o), JOURNAL_DONE);
    assert_int_equal(o->offset, 0);
    drop(o);
    o = update_op("ada");
    o->set_persona = true;
    o->persona = an_id("p_2");
    assert_int_equal(finally(w, o), JOURNAL_DONE);
    struct journal_conv_load *l = load(w, "c_1");
    assert_true(bytes_is(blob_bytes(l->row.title), "Rivers"));
    assert_id(l->row.persona, "p_2");
    assert_id(l->row.head_msg, "m_1");
    assert_true(l->members[0].archived);
    assert_int_equal(l->row.last_ts_ms, 5000);
    assert_int_equal(l->row.updated_ms, 2000); /* nothing was said */
    drop(l);
    assert_int_equal(finally(w, update_op("bob")), JOURNAL_NOT_MEMBER);
    struct journal_events *e = OP(EVENTS, journal_events);
    e->conv = an_id("c_1");
    e->after = 1;
    e->events_max = 10;
    assert_int_equal(outcome(w, e), JOURNAL_DONE);
    assert_int_equal(e->events_count, 1);
    assert_int_equal(e->events[0].kind, EVENT_STATE);
    drop(e);
}

static struct journal_conv_delete *delete_op(const char *user)
{
    struct journal_conv_delete *o = OP(CONV_DELETE, journal_conv_delete);
    o->app = an_id("default");
    o->conv = an_id("c_1");
    o->user = a_name(user);
    return o;
}

static void a_deleted_conversation_is_gone_at_once(void **state)
{
    struct world *w = *state;
    struct journal_conv_create *c = create_op("c_1", "ada");
    c->members_count = 1;
    c->members = mem_new_zero(sizeof(struct name));
    c->members[0] = a_name("bob");
    assert_int_equal(finally(w, c), JOURNAL_DONE);
    (void)say(w, "c_1", "ada", "m_1", "", "r1");
    (void)say(w, "c_1", "ada", "m_2", "mr1", "r2");
    assert_int_equal(finally(w, checkpoint_op("r1", 1, "Hello")), JOURNAL_DONE);
    assert_int_equal(finally(w, delete_op("bob")), JOURNAL_NOT_MEMBER);
    assert_int_equal(finally(w, delete_op("ada")), JOURNAL_DONE);
    assert_int_equal(finally(w, delete_op("ada")), JOURNAL_GONE);
    assert_int_equal(finally(w, say_op("c_1", "ada", "m_3", "", NULL)), JOURNAL_GONE);
    assert_int_equal(finally(w, finish_op("c_1", "r1", 1)), JOURNAL_GONE);
    struct journal_conv_load *l = OP(CONV_LOAD, journal_conv_load);
    l->conv = an_id("c_1");
    assert_int_equal(finally(w, l), JOURNAL_GONE);
    struct journal_path *p = OP(PATH, journal_path);
    p->conv = an_id("c_1");
    assert_int_equal(finally(w, p), JOURNAL_GONE);
    struct journal_run_get *g = OP(RUN_GET, journal_run_get);
    g->run = an_id("r1");
    assert_int_equal(finally(w, g), JOURNAL_GONE);
    struct journal_unfinished *u = OP(UNFINISHED, journal_unfinished);
    assert_int_equal(outcome(w, u), JOURNAL_DONE);
    assert_int_equal(u->convs_count, 0);
    drop(u);
    struct journal_conv_list *list = OP(CONV_LIST, journal_conv_list);
    list->app = an_id("default");
    list->user = a_name("bob");
    list->limit = 10;
    assert_int_equal(outcome(w, list), JOURNAL_DONE);
    assert_int_equal(list->items_count, 0);
    drop(list);
}

static void a_deleted_conversation_is_swept_in_pieces(void **state)
{
    struct world *w = *state;
    create(w, "c_1", "ada");
    create(w, "c_2", "ada");
    (void)say(w, "c_2", "ada", "n_1", "", "r0");
    for (int i = 0; i < 1200; i++) {
        char msg[32];
        char run_id[32];
        (void)snprintf(msg, sizeof(msg), "m_%d", i);
        (void)snprintf(run_id, sizeof(run_id), "r_%d", i);
        struct journal_append *o = say_op("c_1", "ada", msg, "", i % 3 == 0 ? run_id : NULL);
        o->cid = an_id(msg);
        assert_int_equal(finally(w, o), JOURNAL_DONE);
        if (i % 3 == 0)
            assert_int_equal(finally(w, finish_op("c_1", run_id, 1)), JOURNAL_DONE);
    }
    assert_int_equal(finally(w, delete_op("ada")), JOURNAL_DONE);
    bool more = true;
    int steps = 0;
    for (; more && steps < 100; steps++)
        assert_int_equal(w->store->driver->tidy(w->store, 1000, &more), ERR_OK);
    assert_false(more);
    assert_true(w->mem != NULL || steps >= 6);
    create(w, "c_1", "bob"); /* even its id is free again */
    assert_int_equal(top_of(w, "c_2"), 1);
    assert_int_equal(finally(w, finish_op("c_2", "r0", 1)), JOURNAL_DONE);
}

static enum journal_outcome read_set(struct world *w, const char *user, uint64_t offset)
{
    struct journal_read_set *o = OP(READ_SET, journal_read_set);
    o->conv = an_id("c_1");
    o->user = a_name(user);
    o->offset = offset;
    return finally(w, o);
}

static uint64_t read_of(struct world *w)
{
    struct journal_conv_load *l = load(w, "c_1");
    uint64_t offset = l->members[0].read_offset;
    drop(l);
    return offset;
}

static void a_read_position_never_goes_back(void **state)
{
    struct world *w = *state;
    create(w, "c_1", "ada");
    (void)say(w, "c_1", "ada", "m_1", "", NULL);
    (void)say(w, "c_1", "ada", "m_2", "m_1", NULL);
    assert_int_equal(read_set(w, "ada", 1), JOURNAL_DONE);
    assert_int_equal(read_of(w), 1);
    assert_int_equal(read_set(w, "ada", 99), JOURNAL_DONE);
    assert_int_equal(read_of(w), 2); /* what is not there cannot have been read */
    assert_int_equal(read_set(w, "ada", 1), JOURNAL_DONE);
    assert_int_equal(read_of(w), 2);
    assert_int_equal(read_set(w, "bob", 1), JOURNAL_NOT_MEMBER);
}

static void users_are_seen_again_and_again(void **state)
{
    struct world *w = *state;
    for (int i = 0; i < 3; i++) {
        struct journal_user_seen *o = OP(USER_SEEN, journal_user_seen);
        o->app = an_id("default");
        o->user = a_name("ada");
        o->display = a_name(i == 1 ? "Ada" : "");
        o->guest = i == 0;
        o->now_ms = 1000 * i;
        assert_int_equal(finally(w, o), JOURNAL_DONE);
    }
}

/* --- events ----------------------------------------------------------------------------------- */

static struct journal_events *events(struct world *w, uint64_t after, uint64_t before, bool reverse,
                                     uint32_t events_max, uint32_t bytes_max)
{
    struct journal_events *o = OP(EVENTS, journal_events);
    o->conv = an_id("c_1");
    o->after = after;
    o->before = before;
    o->reverse = reverse;
    o->events_max = events_max;
    o->bytes_max = bytes_max;
    assert_int_equal(outcome(w, o), JOURNAL_DONE);
    return o;
}

static void check_events(struct journal_events *o, uint64_t first, uint32_t count, bool more)
{
    assert_int_equal(o->events_count, count);
    assert_int_equal(o->more, more);
    assert_int_equal(o->top, 10);
    for (uint32_t i = 0; i < count; i++)
        assert_int_equal(o->events[i].offset, o->reverse ? first - i : first + i);
    drop(o);
}

static void events_come_in_order_and_within_limits(void **state)
{
    struct world *w = *state;
    create(w, "c_1", "ada");
    for (int i = 0; i < 10; i++)
        (void)say(w, "c_1", "ada", "m_1", "", NULL); /* three bytes each */
    check_events(events(w, 0, 0, false, 100, 0), 1, 10, false);
    check_events(events(w, 0, 0, false, 10, 0), 1, 10, false);
    check_events(events(w, 0, 0, false, 9, 0), 1, 9, true);
    check_events(events(w, 4, 0, false, 100, 0), 5, 6, false);
    check_events(events(w, 4, 8, false, 100, 0), 5, 3, false);
    check_events(events(w, 0, 0, false, 100, 9), 1, 3, true);
    check_events(events(w, 0, 0, false, 100, 1), 1, 1, true);
    check_events(events(w, 10, 0, false, 100, 0), 11, 0, false);
    check_events(events(w, UINT64_MAX, 0, false, 100, 0), 11, 0, false);
    check_events(events(w, 0, 0, true, 100, 0), 10, 10, false);
    check_events(events(w, 0, 5, true, 100, 0), 4, 4, false);
    check_events(events(w, 0, 5, true, 2, 0), 4, 2, true);
    check_events(events(w, 2, 5, true, 100, 0), 4, 2, false);
}

static void an_event_keeps_what_it_is(void **state)
{
    struct world *w = *state;
    create(w, "c_1", "ada");
    (void)say(w, "c_1", "ada", "m_1", "", "r1");
    struct journal_finish *f = finish_op("c_1", "r1", 1);
    blob_unref(&f->event.payload);
    f->event.payload = blob_new(300000);
    memset(f->event.payload->at, 'x', 300000);
    f->event.payload->count = 300000;
    assert_int_equal(finally(w, f), JOURNAL_DONE);
    struct journal_events *o = events(w, 0, 0, false, 10, 0);
    assert_int_equal(o->events_count, 2);
    assert_int_equal(o->events[0].kind, EVENT_MSG);
    assert_id(o->events[0].msg, "m_1");
    assert_id(o->events[0].parent, "");
    assert_id(o->events[0].promised, "mr1");
    assert_true(bytes_is(blob_bytes(o->events[0].payload), "m_1"));
    assert_id(o->events[1].msg, "mr1");
    assert_id(o->events[1].parent, "m_1");
    assert_int_equal(o->events[1].payload->count, 300000);
    drop(o);
    struct journal_events *gone = OP(EVENTS, journal_events);
    gone->conv = an_id("c_9");
    assert_int_equal(finally(w, gone), JOURNAL_GONE);
}

/* --- many at once ----------------------------------------------------------------------------- */

static void strangers_in_a_batch_do_not_hurt_each_other(void **state)
{
    struct world *w = *state;
    enum { COUNT = 250 };
    struct journal_op *ops[COUNT];
    for (int i = 0; i < COUNT; i++) {
        char conv[32];
        (void)snprintf(conv, sizeof(conv), "c_%d", i);
        ops[i] = &create_op(conv, "ada")->head;
    }
    assert_int_equal(batch_run(w->batch, w->store, ops, COUNT), ERR_OK);
    for (int i = 0; i < COUNT; i++) {
        char conv[32];
        char run_id[32];
        (void)snprintf(conv, sizeof(conv), "c_%d", i);
        (void)snprintf(run_id, sizeof(run_id), "r_%d", i);
        assert_int_equal(ops[i]->outcome, JOURNAL_DONE);
        drop(ops[i]);
        ops[i] = &say_op(conv, i % 7 == 0 ? "bob" : "ada", run_id, "", run_id)->head;
    }
    assert_int_equal(batch_run(w->batch, w->store, ops, COUNT), ERR_OK);
    for (int i = 0; i < COUNT; i++) {
        struct journal_append *o = (void *)ops[i];
        assert_int_equal(o->head.outcome, i % 7 == 0 ? JOURNAL_NOT_MEMBER : JOURNAL_DONE);
        assert_int_equal(o->offset, i % 7 == 0 ? 0 : 1);
        drop(o);
    }
    struct journal_unfinished *u = OP(UNFINISHED, journal_unfinished);
    assert_int_equal(outcome(w, u), JOURNAL_DONE);
    assert_int_equal(u->convs_count, COUNT - 36);
    drop(u);
}

static void a_conversation_and_its_first_message_fit_in_one_batch(void **state)
{
    struct world *w = *state;
    struct journal_op *ops[3];
    ops[0] = &create_op("c_1", "ada")->head;
    ops[1] = &say_op("c_1", "ada", "m_1", "", "r1")->head;
    ops[2] = &finish_op("c_1", "r1", 1)->head;
    assert_int_equal(batch_run(w->batch, w->store, ops, 3), ERR_OK);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(ops[i]->outcome, JOURNAL_DONE);
        drop(ops[i]);
    }
    assert_int_equal(top_of(w, "c_1"), 2);
}

/* --- every way to fail: the n-th allocation does ---------------------------------------------- */

static void make_some(struct journal_op *ops[6])
{
    struct journal_conv_create *c = create_op("c_2", "ada");
    c->cid = an_id("cid-2");
    c->meta = a_blob("{}");
    ops[0] = &c->head;
    struct journal_append *o = say_op("c_1", "ada", "m_2", "mr1", "r2");
    o->cid = an_id("cid-1");
    ops[1] = &o->head;
    ops[2] = &checkpoint_op("r1", 1, "Hello")->head;
    ops[3] = &refuse_op("cid-9", 1, "why", 1000)->head;
    struct journal_conv_update *u = update_op("ada");
    u->set_title = true;
    u->event = a_blob("state");
    ops[4] = &u->head;
    struct journal_user_seen *s = OP(USER_SEEN, journal_user_seen);
    s->app = an_id("default");
    s->user = a_name("ada");
    ops[5] = &s->head;
}

/* With no memory an operation is full and did not happen; asked again, it happens. */
static void without_memory_nothing_happens(void **state)
{
    struct world *w = *state;
    bool failed = true;
    uint64_t n = 0;
    while (failed) {
        struct journal_op *ops[6];
        assert_int_equal(finally(w, create_op("c_1", "ada")), JOURNAL_DONE);
        (void)say(w, "c_1", "ada", "m_1", "", "r1");
        failed = false;
        make_some(ops);
        mem_fail_at(++n);
        (void)batch_run(w->batch, w->store, ops, 6);
        mem_fail_at(0);
        uint64_t top = 1;
        for (int i = 0; i < 6; i++) {
            assert_true(ops[i]->err == ERR_OK || ops[i]->err == ERR_FULL);
            failed = failed || ops[i]->err == ERR_FULL;
            top += ops[i]->err == ERR_OK && (i == 1 || i == 4);
        }
        assert_int_equal(top_of(w, "c_1"), top);
        for (int i = 0; i < 6; i++) {
            if (ops[i]->err == ERR_FULL)
                assert_int_equal(outcome(w, ops[i]), JOURNAL_DONE);
            drop(ops[i]);
        }
        assert_int_equal(top_of(w, "c_1"), 3);
        const char *driver = w->driver;
        world_free(w);
        w = world_new(driver);
        *state = w;
    }
    assert_true(n > 3);
}

#define CASE(name)  \
    {               \
#name, name \
    }
static const struct world_case cases[] = {
    CASE(a_new_conversation_is_empty_and_has_its_owner),
    CASE(no_title_is_an_empty_title_and_no_meta_is_none),
    CASE(create_again_with_its_cid_gives_the_first),
    CASE(a_cid_belongs_to_one_user_of_one_app),
    CASE(what_a_cid_made_stays_deleted),
    CASE(an_id_is_not_given_away_twice),
    CASE(offsets_are_contiguous_from_one),
    CASE(an_append_moves_the_conversation),
    CASE(strangers_and_wrong_places_store_nothing),
    CASE(the_same_cid_gives_the_first_result),
    CASE(the_same_cid_with_another_content_is_said_so),
    CASE(a_cid_is_unique_per_sender_and_conversation_only),
    CASE(names_that_run_together_are_still_two),
    CASE(a_cid_stands_for_the_answer_of_a_run_event),
    CASE(twice_in_one_batch_is_once),
    CASE(one_run_is_active_and_the_others_wait),
    CASE(a_full_queue_is_busy_and_takes_no_cid),
    CASE(reject_is_busy_while_a_run_is_active),
    CASE(a_run_id_that_was_used_is_lost),
    CASE(the_end_of_a_run_is_one_message),
    CASE(the_end_starts_the_next_in_its_order),
    CASE(only_the_attempt_in_charge_ends_a_run),
    CASE(a_waiting_run_ends_without_a_next),
    CASE(ends_and_starts_of_one_batch_follow_their_order),
    CASE(a_checkpoint_only_grows_and_ends_with_its_run),
    CASE(unfinished_names_each_conversation_once),
    CASE(a_refusal_is_kept_for_a_day),
    CASE(an_old_refusal_gives_way_to_a_new_one_and_is_swept),
    CASE(strangers_refuse_nothing),
    CASE(an_update_changes_what_it_names),
    CASE(a_deleted_conversation_is_gone_at_once),
    CASE(a_deleted_conversation_is_swept_in_pieces),
    CASE(a_read_position_never_goes_back),
    CASE(users_are_seen_again_and_again),
    CASE(events_come_in_order_and_within_limits),
    CASE(an_event_keeps_what_it_is),
    CASE(strangers_in_a_batch_do_not_hurt_each_other),
    CASE(a_conversation_and_its_first_message_fit_in_one_batch),
    CASE(without_memory_nothing_happens),
};

int main(void)
{
    return world_run(cases, ARRAY_COUNT(cases));
}
