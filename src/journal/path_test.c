/* The shown path, its pages, siblings and what is unread of it (path.c), and the list that shows
 * the count (read.c, search.c), on every driver. */
#include "base/rng.h"
#include "journal/test_world_priv.h"

static struct journal_path *path_op(const char *from, uint64_t before, uint32_t limit)
{
    struct journal_path *o = OP(PATH, journal_path);
    o->conv = an_id("c_1");
    o->from = an_id(from);
    o->before = before;
    o->limit = limit;
    o->with_siblings = true;
    return o;
}

/* The path as "m1 m2? m3|next": a ? marks a message that is only promised. */
static void assert_path(struct world *w, struct journal_path *o, const char *wanted)
{
    char text[2048];
    struct buf b;
    buf_init_fixed(&b, text, sizeof(text));
    assert_int_equal(outcome(w, o), JOURNAL_DONE);
    for (uint32_t i = 0; i < o->messages_count; i++) {
        const struct path_message *m = &o->messages[i];
        buf_text(&b, i == 0 ? "" : " ");
        buf_bytes(&b, id_bytes(&m->msg));
        buf_text(&b, m->payload == NULL ? "?" : "");
        assert_int_equal(m->payload == NULL, m->offset == 0);
    }
    buf_text(&b, "|");
    buf_u64(&b, o->next);
    buf_byte(&b, 0);
    assert_string_equal(text, wanted);
    drop(o);
}

static void assert_siblings(struct world *w, struct journal_path *o, uint32_t index,
                            const char *wanted)
{
    char text[256];
    struct buf b;
    buf_init_fixed(&b, text, sizeof(text));
    assert_int_equal(outcome(w, o), JOURNAL_DONE);
    assert_true(index < o->messages_count);
    for (uint32_t i = 0; i < o->messages[index].siblings_count; i++) {
        buf_text(&b, i == 0 ? "" : " ");
        buf_bytes(&b, id_bytes(&o->messages[index].siblings[i]));
    }
    buf_byte(&b, 0);
    assert_string_equal(text, wanted);
    drop(o);
}

static void finish(struct world *w, const char *run_id, bool set_head)
{
    struct journal_finish *f = finish_op("c_1", run_id, 1);
    f->set_head = set_head;
    assert_int_equal(finally(w, f), JOURNAL_DONE);
}

static void an_empty_conversation_has_an_empty_path(void **state)
{
    struct world *w = *state;
    create(w, "c_1", "ada");
    assert_path(w, path_op("", 0, 10), "|0");
    struct journal_path *o = path_op("", 0, 10);
    o->conv = an_id("c_2");
    assert_int_equal(outcome(w, o), JOURNAL_GONE);
    assert_true(id_is_none(&o->row.conv));
    drop(o);
}

static void a_path_goes_from_the_head_to_the_root(void **state)
{
    struct world *w = *state;
    create(w, "c_1", "ada");
    (void)say(w, "c_1", "ada", "m1", "", "r1");
    finish(w, "r1", true);
    (void)say(w, "c_1", "ada", "m3", "mr1", "r2");
    finish(w, "r2", true);
    /* an edit of m3 */
    (void)say(w, "c_1", "ada", "m5", "mr1", "r3");
    finish(w, "r3", true);
    assert_path(w, path_op("", 0, 10), "m1 mr1 m5 mr3|0");
    assert_path(w, path_op("mr2", 0, 10), "m1 mr1 m3 mr2|0");
    assert_path(w, path_op("m3", 0, 10), "m1 mr1 m3|0");
    assert_siblings(w, path_op("", 0, 10), 2, "m3 m5");
    assert_siblings(w, path_op("", 0, 10), 0, "m1");
    assert_siblings(w, path_op("", 0, 1), 0, "mr3");
    assert_siblings(w, path_op("", 0, 2), 0, "m3 m5");
    struct journal_path *o = path_op("m9", 0, 10);
    assert_int_equal(outcome(w, o), JOURNAL_GONE);
    assert_id(o->row.conv, "c_1"); /* the conversation is there, the message is not */
    drop(o);
}

static void pages_join_without_gap_or_repeat(void **state)
{
    struct world *w = *state;
    char parent[16] = "";
    create(w, "c_1", "ada");
    for (int i = 1; i <= 7; i++) {
        char msg[16];
        (void)snprintf(msg, sizeof(msg), "m%d", i);
        (void)say(w, "c_1", "ada", msg, parent, NULL);
        memcpy(parent, msg, sizeof(msg));
    }
    assert_path(w, path_op("", 0, 3), "m5 m6 m7|5");
    assert_path(w, path_op("", 5, 3), "m2 m3 m4|2");
    assert_path(w, path_op("", 2, 3), "m1|0");
    assert_path(w, path_op("", 4, 3), "m1 m2 m3|0");
    assert_path(w, path_op("", 0, 7), "m1 m2 m3 m4 m5 m6 m7|0");
    assert_path(w, path_op("", 99, 2), "m6 m7|6");
    struct journal_path *o = path_op("", 0, 7);
    o->bytes_max = 5; /* two bytes each */
    assert_path(w, o, "m6 m7|6");
    o = path_op("", 6, 7);
    o->bytes_max = 1;
    assert_path(w, o, "m5|5");
}

/* m1 (answered by mr1, late), m2 sent below the promise, mr1 said after it. */
static void a_parent_may_be_said_after_its_child(void **state)
{
    struct world *w = *state;
    create(w, "c_1", "ada");
    (void)say(w, "c_1", "ada", "m1", "", "r1");
    assert_path(w, path_op("", 0, 10), "m1|0");
    assert_path(w, path_op("mr1", 0, 10), "m1 mr1?|0");
    (void)say(w, "c_1", "ada", "m2", "mr1", "r2");
    assert_path(w, path_op("", 0, 10), "m1 mr1? m2|0");
    finish(w, "r1", false);
    assert_path(w, path_op("", 0, 10), "m1 mr1 m2|0");
    assert_path(w, path_op("mr2", 0, 10), "m1 mr1 m2 mr2?|0");
    finish(w, "r2", true);
    assert_path(w, path_op("", 0, 10), "m1 mr1 m2 mr2|0");
    assert_path(w, path_op("", 0, 2), "m2 mr2|2");
    assert_path(w, path_op("", 2, 2), "m1 mr1|0");
    assert_path(w, path_op("", 0, 3), "mr1 m2 mr2|3");
    assert_path(w, path_op("", 3, 3), "m1|0");
    assert_path(w, path_op("", 0, 1), "mr2|4");
    assert_path(w, path_op("", 4, 1), "m2|2");
    assert_path(w, path_op("", 2, 1), "mr1|3");
}

static void a_page_never_ends_with_a_promise(void **state)
{
    struct world *w = *state;
    create(w, "c_1", "ada");
    (void)say(w, "c_1", "ada", "m0", "", NULL);
    (void)say(w, "c_1", "ada", "m1", "m0", "r1");
    (void)say(w, "c_1", "ada", "m2", "mr1", "r2");
    assert_path(w, path_op("mr2", 0, 1), "m2 mr2?|3");
    assert_path(w, path_op("mr2", 0, 2), "m2 mr2?|3");
    assert_path(w, path_op("mr2", 0, 3), "m2 mr2?|3");
    assert_path(w, path_op("mr2", 3, 1), "m1 mr1?|2");
    assert_path(w, path_op("mr2", 3, 2), "m1 mr1?|2");
    assert_path(w, path_op("mr2", 2, 2), "m0|0");
    assert_path(w, path_op("mr2", 0, 4), "m1 mr1? m2 mr2?|2");
}

static void an_answer_that_began_again_is_a_sibling(void **state)
{
    struct world *w = *state;
    create(w, "c_1", "ada");
    (void)say(w, "c_1", "ada", "m1", "", "r1");
    finish(w, "r1", true);
    struct journal_append *o = say_op("c_1", "ada", "m1", "", "r2");
    o->events[0].kind = EVENT_RUN;
    o->events[0].msg = an_id("");
    o->run.parent = an_id("m1");
    o->run.cause = RUN_CAUSE_REGENERATE;
    o->head_msg = an_id("mr2");
    assert_int_equal(finally(w, o), JOURNAL_DONE);
    assert_path(w, path_op("", 0, 10), "m1 mr2?|0");
    assert_siblings(w, path_op("", 0, 10), 1, "mr1 mr2");
    assert_path(w, path_op("", 0, 1), "m1 mr2?|0");
    finish(w, "r2", true);
    assert_path(w, path_op("", 0, 10), "m1 mr2|0");
    assert_path(w, path_op("", 0, 1), "mr2|4");
    assert_siblings(w, path_op("", 0, 10), 1, "mr1 mr2");
}

/* --- unread and the list ---------------------------------------------------------------------- */

static struct journal_conv_list *list_op(const char *user, uint32_t limit)
{
    struct journal_conv_list *o = OP(CONV_LIST, journal_conv_list);
    o->app = an_id("default");
    o->user = a_name(user);
    o->limit = limit;
    return o;
}

static uint64_t unread(struct world *w, const char *user)
{
    struct journal_conv_list *o = list_op(user, 10);
    o->only = an_id("c_1");
    assert_int_equal(outcome(w, o), JOURNAL_DONE);
    assert_int_equal(o->items_count, 1);
    uint64_t count = o->items[0].unread;
    drop(o);
    return count;
}

static void reads(struct world *w, const char *user, uint64_t offset)
{
    struct journal_read_set *o = OP(READ_SET, journal_read_set);
    o->conv = an_id("c_1");
    o->user = a_name(user);
    o->offset = offset;
    assert_int_equal(finally(w, o), JOURNAL_DONE);
}

static void unread_counts_what_others_said_on_the_path(void **state)
{
    struct world *w = *state;
    struct journal_conv_create *c = create_op("c_1", "ada");
    c->members_count = 1;
    c->members = mem_new_zero(sizeof(struct name));
    c->members[0] = a_name("bob");
    assert_int_equal(finally(w, c), JOURNAL_DONE);
    assert_int_equal(unread(w, "ada"), 0);
    (void)say(w, "c_1", "ada", "m1", "", "r1");
    assert_int_equal(unread(w, "ada"), 0);
    assert_int_equal(unread(w, "bob"), 1);
    finish(w, "r1", true);
    assert_int_equal(unread(w, "ada"), 1);
    assert_int_equal(unread(w, "bob"), 2);
    (void)say(w, "c_1", "bob", "m3", "mr1", NULL);
    (void)say(w, "c_1", "ada", "m4", "mr1", NULL); /* m3 is not shown any more */
    assert_int_equal(unread(w, "ada"), 1);
    assert_int_equal(unread(w, "bob"), 3);
    reads(w, "bob", 2);
    assert_int_equal(unread(w, "bob"), 1);
    reads(w, "bob", 4);
    assert_int_equal(unread(w, "bob"), 0);
}

static void unread_sees_an_answer_that_came_after_its_child(void **state)
{
    struct world *w = *state;
    create(w, "c_1", "ada");
    (void)say(w, "c_1", "ada", "m1", "", "r1");
    (void)say(w, "c_1", "ada", "m2", "mr1", NULL);
    reads(w, "ada", 2);
    assert_int_equal(unread(w, "ada"), 0);
    finish(w, "r1", false);
    assert_int_equal(unread(w, "ada"), 1);
    reads(w, "ada", 3);
    assert_int_equal(unread(w, "ada"), 0);
}

static void unread_stops_at_ninety_nine(void **state)
{
    struct world *w = *state;
    struct journal_conv_create *c = create_op("c_1", "ada");
    c->members_count = 1;
    c->members = mem_new_zero(sizeof(struct name));
    c->members[0] = a_name("bob");
    assert_int_equal(finally(w, c), JOURNAL_DONE);
    for (int i = 0; i < 300; i++) {
        char msg[16];
        char parent[16];
        (void)snprintf(msg, sizeof(msg), "m%d", i);
        (void)snprintf(parent, sizeof(parent), "m%d", i - 1);
        (void)say(w, "c_1", "ada", msg, i == 0 ? "" : parent, NULL);
        if (i == 97 || i == 98)
            assert_int_equal(unread(w, "bob"), i + 1);
    }
    assert_int_equal(unread(w, "bob"), 99);
    reads(w, "bob", 299);
    assert_int_equal(unread(w, "bob"), 1);
}

static void assert_list(struct world *w, struct journal_conv_list *o, const char *wanted, bool more)
{
    char text[256];
    struct buf b;
    buf_init_fixed(&b, text, sizeof(text));
    assert_int_equal(outcome(w, o), JOURNAL_DONE);
    for (uint32_t i = 0; i < o->items_count; i++) {
        buf_text(&b, i == 0 ? "" : " ");
        buf_bytes(&b, id_bytes(&o->items[i].conv));
    }
    buf_byte(&b, 0);
    assert_string_equal(text, wanted);
    assert_int_equal(o->more, more);
    drop(o);
}

static void create_at(struct world *w, const char *conv, const char *user, int64_t now_ms,
                      const char *title)
{
    struct journal_conv_create *c = create_op(conv, user);
    c->now_ms = now_ms;
    c->title = a_blob(title);
    assert_int_equal(finally(w, c), JOURNAL_DONE);
}

static void the_list_is_newest_first_in_pages(void **state)
{
    struct world *w = *state;
    create_at(w, "c_1", "ada", 10, "one");
    create_at(w, "c_2", "ada", 30, "two");
    create_at(w, "c_3", "ada", 30, "three");
    create_at(w, "c_4", "bob", 40, "four");
    create_at(w, "c_5", "ada", 20, "five");
    struct journal_conv_create *c = create_op("c_6", "ada");
    c->app = an_id("other");
    assert_int_equal(finally(w, c), JOURNAL_DONE);
    assert_list(w, list_op("ada", 10), "c_3 c_2 c_5 c_1", false);
    assert_list(w, list_op("ada", 4), "c_3 c_2 c_5 c_1", false);
    assert_list(w, list_op("ada", 1), "c_3", true);
    struct journal_conv_list *o = list_op("ada", 2);
    o->before_ms = 30;
    o->before_conv = an_id("c_3");
    assert_list(w, o, "c_2 c_5", true);
    o = list_op("ada", 2);
    o->before_ms = 20;
    o->before_conv = an_id("c_5");
    assert_list(w, o, "c_1", false);
    o = list_op("ada", 2);
    o->only = an_id("c_4");
    assert_list(w, o, "", false);
    o = list_op("ada", 2);
    o->only = an_id("c_5");
    assert_list(w, o, "c_5", false);
    (void)say(w, "c_1", "ada", "m1", "", NULL);
    assert_list(w, list_op("ada", 1), "c_1", true);
}

static void the_list_finds_titles_in_any_case(void **state)
{
    static const char *const queries[] = {"ÜBER", "flÜSSE", "σοφία", "Ж", "flusse", "ss", "", "x"};
    static const char *const found[] = {"c_1", "c_1", "c_2", "c_3", "", "c_1", "c_3 c_2 c_1", ""};
    struct world *w = *state;
    create_at(w, "c_1", "ada", 10, "Über Flüsse");
    create_at(w, "c_2", "ada", 20, "ΣΟΦΊΑ");
    create_at(w, "c_3", "ada", 30, "жук");
    for (size_t i = 0; i < ARRAY_COUNT(queries); i++) {
        struct journal_conv_list *o = list_op("ada", 10);
        o->query = a_blob(queries[i]);
        assert_list(w, o, found[i], false);
    }
    struct journal_append *a = say_op("c_2", "ada", "m1", "", NULL);
    memcpy(a->last.at, "Regen", 5);
    a->last.count = 5;
    assert_int_equal(finally(w, a), JOURNAL_DONE);
    struct journal_conv_list *o = list_op("ada", 10);
    o->query = a_blob("REG");
    assert_list(w, o, "c_2", false);
}

static void search_takes_any_bytes(void **state)
{
    (void)state;
    const uint8_t bad[] = {0xff, 0xc3, 'A', 0xe2, 0x82};
    assert_true(search_contains(bytes_make(bad, 5), bytes_make("a", 1)));
    assert_true(search_contains(bytes_make(bad, 5), bytes_make(bad + 3, 2)));
    assert_true(search_contains(bytes_make(bad, 0), bytes_make(bad, 0)));
    assert_false(search_contains(bytes_make(bad, 0), bytes_make("a", 1)));
    assert_false(search_contains(bytes_make("abab", 4), bytes_make("abb", 3)));
    assert_true(search_contains(bytes_make("aaab", 4), bytes_make("AAB", 3)));
}

/* --- every way to fail: the n-th allocation does ---------------------------------------------- */

static void a_path_without_memory_is_full_not_wrong(void **state)
{
    struct world *w = *state;
    create(w, "c_1", "ada");
    for (int i = 0; i < 40; i++) {
        char msg[16];
        char parent[16];
        (void)snprintf(msg, sizeof(msg), "m%d", i);
        (void)snprintf(parent, sizeof(parent), "m%d", i / 2 - 1);
        (void)say(w, "c_1", "ada", msg, i < 2 ? "" : parent, NULL);
    }
    enum err err = ERR_FULL;
    uint64_t n = 0;
    while (err == ERR_FULL) {
        struct journal_path *o = path_op("", 0, 10);
        mem_fail_at(++n);
        run(w, o);
        mem_fail_at(0);
        err = o->head.err;
        assert_true(err == ERR_OK || err == ERR_FULL);
        drop(o);
    }
    assert_true(n > 10);
    err = ERR_FULL;
    for (n = 1; err == ERR_FULL; n++) {
        struct journal_conv_list *o = list_op("ada", 10);
        mem_fail_at(n);
        run(w, o);
        mem_fail_at(0);
        err = o->head.err;
        assert_true(err == ERR_OK || err == ERR_FULL);
        drop(o);
    }
}

#define CASE(name)  \
    {               \
#name, name \
    }
static const struct world_case cases[] = {
    CASE(an_empty_conversation_has_an_empty_path),
    CASE(a_path_goes_from_the_head_to_the_root),
    CASE(pages_join_without_gap_or_repeat),
    CASE(a_parent_may_be_said_after_its_child),
    CASE(a_page_never_ends_with_a_promise),
    CASE(an_answer_that_began_again_is_a_sibling),
    CASE(unread_counts_what_others_said_on_the_path),
    CASE(unread_sees_an_answer_that_came_after_its_child),
    CASE(unread_stops_at_ninety_nine),
    CASE(the_list_is_newest_first_in_pages),
    CASE(the_list_finds_titles_in_any_case),
    CASE(search_takes_any_bytes),
    CASE(a_path_without_memory_is_full_not_wrong),
};

int main(void)
{
    return world_run(cases, ARRAY_COUNT(cases));
}
