/* What comes in (input.c): pieces, pauses, limits. */
#include "net/net_stage_priv.h"

/* An owner that uses whole records only: a length byte and as many bytes. */
static size_t records_on_data(void *ctx, struct handle conn, uint8_t *at, size_t count)
{
    struct host *h = ctx;
    size_t used = 0;
    (void)conn;
    h->calls++;
    while (used < count && count - used > at[used]) {
        size_t whole = 1 + (size_t)at[used];
        memcpy(h->text + h->text_count, at + used, whole);
        h->text_count += whole;
        used += whole;
    }
    return used;
}

static const struct net_owner records_owner = {records_on_data, NULL, host_on_close};

static void any_cut_of_the_bytes_gives_the_same_records(void **state)
{
    (void)state;
    enum { TOTAL = 200000 };
    static uint8_t sent[TOTAL + 256];
    struct rng r;
    size_t total = 0;
    int fd;
    struct host *h = client_open(&fd);
    net_own(stage.net, h->conn, &records_owner, h);
    rng_init(&r, 3);
    while (total < TOTAL) {
        size_t count = (size_t)rng_below(&r, 256);
        sent[total] = (uint8_t)count;
        rng_fill(&r, sent + total + 1, count);
        total += 1 + count;
    }
    uint64_t used = mem_used_bytes();
    for (size_t at = 0; at < total;) {
        uint64_t shape = rng_below(&r, 3);
        size_t cut = shape == 0 ? 1 : (size_t)rng_below(&r, shape == 1 ? 300 : 20000) + 1;
        cut = size_min(cut, total - at);
        client_send(fd, sent + at, cut);
        at += cut;
        engine_step(stage.engine, 0);
    }
    UNTIL(h->text_count == total);
    assert_memory_equal(h->text, sent, total);
    assert_int_equal(mem_used_bytes(), used); /* the borrowed buffer went back */
    close(fd);
}

static void what_is_left_is_shown_in_front_of_what_comes(void **state)
{
    (void)state;
    int fd;
    struct host *h = client_open(&fd);
    h->use_max = 1;
    client_send(fd, "abc", 3);
    UNTIL(h->calls == 1);
    engine_step(stage.engine, 0);
    assert_int_equal(h->calls, 1); /* not again for the same bytes */
    client_send(fd, "d", 1);
    UNTIL(h->calls == 2);
    assert_int_equal(h->shown_max, 3);
    client_send(fd, "e", 1);
    UNTIL(h->calls == 3);
    assert_memory_equal(h->text, "abc", 3);
    close(fd);
}

static void too_much_left_unread_is_an_error(void **state)
{
    (void)state;
    static uint8_t flood[65536];
    int fd;
    struct host *h = client_open(&fd);
    h->use_max = 0;
    for (int i = 0; i < STAGE_STEPS_MAX && h->closes == 0; i++) {
        (void)send(fd, flood, sizeof(flood), MSG_NOSIGNAL); /* as much as goes */
        engine_step(stage.engine, 0);
    }
    assert_int_equal(h->closes, 1);
    assert_int_equal(h->why, NET_ERROR);
    assert_true(h->shown_max >= 65536 + NET_UNREAD_SLACK_BYTES);
    assert_true(h->shown_max <= 65536 + NET_UNREAD_SLACK_BYTES + NET_READ_BYTES);
    close(fd);
}

static void a_paused_connection_shows_nothing_until_it_resumes(void **state)
{
    (void)state;
    int fd;
    struct host *h = client_open(&fd);
    net_read_pause(stage.net, h->conn, true);
    client_send(fd, "abc", 3);
    for (int i = 0; i < 5; i++)
        engine_step(stage.engine, 0);
    assert_int_equal(h->calls, 0);
    engine_step(stage.engine, 2); /* sleeps: the pause does not spin */
    const struct conn *c = pool_get(&stage.net->conns, h->conn);
    assert_true(c->deaf);
    net_read_pause(stage.net, h->conn, false);
    UNTIL(h->text_count == 3);
    close(fd);
}

static void pause_inside(struct host *h, uint8_t *at, size_t count)
{
    (void)at;
    (void)count;
    h->use_max = 1;
    net_read_pause(stage.net, h->conn, true);
}

static void resuming_shows_what_was_left_without_new_bytes(void **state)
{
    (void)state;
    int fd;
    struct host *h = client_open(&fd);
    h->inside = pause_inside;
    client_send(fd, "abc", 3);
    for (size_t call = 1; call <= 3; call++) {
        UNTIL(h->calls == call);
        engine_step(stage.engine, 0);
        assert_int_equal(h->calls, call);
        net_read_pause(stage.net, h->conn, false);
        assert_int_equal(h->calls, call); /* in a later turn */
    }
    assert_memory_equal(h->text, "abc", 3);
    close(fd);
}

static void pause_and_resume_inside(struct host *h, uint8_t *at, size_t count)
{
    (void)at;
    (void)count;
    net_read_pause(stage.net, h->conn, true);
    net_read_pause(stage.net, h->conn, false);
}

static void resuming_inside_on_data_goes_on_while_bytes_are_used(void **state)
{
    (void)state;
    int fd;
    struct host *h = client_open(&fd);
    h->inside = pause_and_resume_inside;
    h->use_max = 2; /* as an HTTP owner that answers pipelined requests at once, one a call */
    client_send(fd, "aabbcc", 6);
    UNTIL(h->text_count == 6);
    assert_int_equal(h->calls, 3);
    h->use_max = 0;
    client_send(fd, "d", 1);
    UNTIL(h->calls == 4);
    for (int i = 0; i < 5; i++)
        engine_step(stage.engine, 0);
    assert_int_equal(h->calls, 4); /* no progress: no endless asking */
    close(fd);
}

static void the_end_waits_for_what_a_resumed_owner_still_uses(void **state)
{
    (void)state;
    int fd;
    struct host *h = client_open(&fd);
    h->inside = pause_inside;
    client_send(fd, "ab", 2);
    UNTIL(h->calls == 1);
    close(fd);
    engine_step(stage.engine, 0);
    net_read_pause(stage.net, h->conn, false); /* shows "b"; on_data pauses again */
    UNTIL(h->calls == 2);
    for (int i = 0; i < 3; i++)
        engine_step(stage.engine, 0);
    assert_int_equal(h->closes, 0);
    net_read_pause(stage.net, h->conn, false);
    UNTIL(h->closes == 1);
    assert_memory_equal(h->text, "ab", 2);
    assert_int_equal(h->why, NET_PEER);
}

static void a_flood_does_not_keep_others_waiting(void **state)
{
    (void)state;
    static uint8_t flood[1 << 20];
    int fds[2];
    struct host *loud = client_open(&fds[0]);
    struct host *quiet = client_open(&fds[1]);
    ssize_t sent = send(fds[0], flood, sizeof(flood), MSG_NOSIGNAL);
    assert_true(sent > 2 * NET_READ_BYTES);
    client_send(fds[1], "x", 1);
    UNTIL(quiet->calls == 1);
    assert_true(loud->calls <= 1 || loud->text_count < (size_t)sent);
    UNTIL(loud->text_count == (size_t)sent);
    assert_true(loud->shown_max <= NET_READ_BYTES);
    close(fds[0]);
    close(fds[1]);
}

static void no_memory_for_the_rest_ends_the_connection(void **state)
{
    (void)state;
    int fd;
    struct host *h = client_open(&fd);
    h->use_max = 1;
    client_send(fd, "abc", 3);
    mem_fail_at(1);
    UNTIL(h->closes == 1);
    mem_fail_at(0);
    assert_int_equal(h->why, NET_ERROR);
    close(fd);

    static uint8_t more[5000];
    h = client_open(&fd);
    h->use_max = 1;
    client_send(fd, "abc", 3);
    UNTIL(h->calls == 1);
    mem_fail_at(1);
    client_send(fd, more, sizeof(more)); /* more than the blob has room for */
    UNTIL(h->closes == 1);
    mem_fail_at(0);
    assert_int_equal(h->why, NET_ERROR);
    close(fd);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, stage_make, stage_unmake)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(any_cut_of_the_bytes_gives_the_same_records),
        TEST(what_is_left_is_shown_in_front_of_what_comes),
        TEST(too_much_left_unread_is_an_error),
        TEST(a_paused_connection_shows_nothing_until_it_resumes),
        TEST(resuming_shows_what_was_left_without_new_bytes),
        TEST(resuming_inside_on_data_goes_on_while_bytes_are_used),
        TEST(the_end_waits_for_what_a_resumed_owner_still_uses),
        TEST(a_flood_does_not_keep_others_waiting),
        TEST(no_memory_for_the_rest_ends_the_connection),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
