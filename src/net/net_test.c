/* Connections: owners, states and ends (net.c). */
#include "net/net_stage_priv.h"

static void bytes_come_and_go(void **state)
{
    (void)state;
    char back[5];
    int fd;
    struct host *h = client_open(&fd);
    h->echo = true;
    assert_true(h->from.is_loopback);
    assert_int_not_equal(h->from.port, 0);
    assert_memory_equal(h->from.bytes + 12, "\x7f\x00\x00\x01", 4);
    client_send(fd, "hello", 5);
    client_receive(fd, back, 5);
    assert_memory_equal(back, "hello", 5);
    assert_int_equal(net_connections(stage.net), 1);
    close(fd);
    UNTIL(h->closes == 1);
    assert_int_equal(h->why, NET_PEER);
    UNTIL(net_connections(stage.net) == 0);
}

static void an_idle_connection_owns_no_buffer(void **state)
{
    (void)state;
    char back[3];
    int fd;
    struct host *h = client_open(&fd);
    h->echo = true;
    uint64_t used = mem_used_bytes();
    client_send(fd, "abc", 3);
    client_receive(fd, back, 3);
    UNTIL(net_queued_bytes(stage.net, h->conn) == 0);
    assert_int_equal(mem_used_bytes(), used);
    const struct conn *c = pool_get(&stage.net->conns, h->conn);
    assert_null(c->unread);
    assert_null(c->out);
    assert_null(c->out_first);
    close(fd);
}

static void a_close_sends_what_is_queued_and_then_the_end(void **state)
{
    (void)state;
    char back[4];
    int fd;
    struct host *h = client_open(&fd);
    client_send(fd, "unread by its owner", 19);
    assert_true(net_send_copy(stage.net, h->conn, bytes_of("bye")));
    net_close(stage.net, h->conn, false);
    assert_int_equal(h->closes, 0); /* not inside the call */
    assert_false(net_send_copy(stage.net, h->conn, bytes_of("more")));
    client_receive(fd, back, 3);
    assert_memory_equal(back, "bye", 3);
    assert_int_equal(client_end(fd), 0); /* an end, not a reset */
    assert_int_equal(h->closes, 1);
    assert_int_equal(h->why, NET_LOCAL);
    assert_int_equal(h->text_count, 0);
    assert_int_equal(net_connections(stage.net), 1); /* waits for the client's end */
    assert_null(net_peer(stage.net, h->conn));
    client_send(fd, "still talking", 13);
    close(fd);
    UNTIL(net_connections(stage.net) == 0);
}

static void lingering_ends_after_five_seconds(void **state)
{
    (void)state;
    int fd;
    struct host *h = client_open(&fd);
    net_close(stage.net, h->conn, false);
    UNTIL(h->closes == 1);
    engine_clock_skip(NET_CLOSE_MS - 1000);
    engine_step(stage.engine, 0);
    assert_int_equal(net_connections(stage.net), 1);
    engine_clock_skip(1001);
    UNTIL(net_connections(stage.net) == 0);
    assert_int_equal(h->closes, 1);
    close(fd);
}

static void a_close_now_drops_the_queue_and_resets(void **state)
{
    (void)state;
    int fd;
    struct host *h = client_open(&fd);
    assert_true(net_send_copy(stage.net, h->conn, bytes_of("never sent")));
    net_close(stage.net, h->conn, true);
    net_close(stage.net, h->conn, true);
    assert_int_equal(h->closes, 0);
    engine_step(stage.engine, 0);
    assert_int_equal(h->closes, 1);
    assert_int_equal(h->why, NET_LOCAL);
    assert_int_equal(net_connections(stage.net), 0);
    char byte;
    assert_int_equal(recv(fd, &byte, 1, 0), -1);
    assert_int_equal(errno, ECONNRESET);
    close(fd);
}

static void a_close_may_be_hurried(void **state)
{
    (void)state;
    int fd;
    struct host *h = client_open_narrow(&fd);
    host_fill(h, 20000);
    net_close(stage.net, h->conn, false);
    engine_step(stage.engine, 0);
    assert_int_equal(h->closes, 0);
    net_close(stage.net, h->conn, true);
    engine_step(stage.engine, 0);
    assert_int_equal(h->closes, 1);
    assert_int_equal(net_connections(stage.net), 0);
    close(fd);
}

static void a_close_gives_a_reader_that_sleeps_five_seconds(void **state)
{
    (void)state;
    int fd;
    struct host *h = client_open_narrow(&fd);
    host_fill(h, 20000);
    net_close(stage.net, h->conn, false);
    engine_clock_skip(NET_CLOSE_MS - 100);
    engine_step(stage.engine, 0);
    assert_int_equal(h->closes, 0);
    engine_clock_skip(101);
    UNTIL(h->closes == 1);
    assert_int_equal(h->why, NET_SLOW);
    assert_int_equal(net_connections(stage.net), 0);
    close(fd);
}

static void who_says_its_end_gets_its_answers_first(void **state)
{
    (void)state;
    char back[8];
    int fd;
    struct host *h = client_open(&fd);
    h->echo = true;
    client_send(fd, "question", 8);
    assert_int_equal(shutdown(fd, SHUT_WR), 0);
    client_receive(fd, back, 8);
    assert_memory_equal(back, "question", 8);
    assert_int_equal(client_end(fd), 0);
    assert_int_equal(h->closes, 1);
    assert_int_equal(h->why, NET_PEER);
    assert_int_equal(net_connections(stage.net), 0); /* both ends are said: nothing to wait for */
    close(fd);
}

static void who_says_its_end_is_waited_for_while_its_owner_works(void **state)
{
    (void)state;
    char back[6];
    int fd;
    struct host *h = client_open(&fd);
    client_send(fd, "question", 8);
    UNTIL(h->text_count == 8);
    net_read_pause(stage.net, h->conn, true);
    assert_int_equal(shutdown(fd, SHUT_WR), 0);
    for (int i = 0; i < 5; i++)
        engine_step(stage.engine, 0);
    assert_int_equal(h->closes, 0);
    assert_true(net_send_copy(stage.net, h->conn, bytes_of("answer")));
    net_read_pause(stage.net, h->conn, false);
    client_receive(fd, back, 6);
    assert_int_equal(client_end(fd), 0);
    assert_int_equal(h->why, NET_PEER);
    close(fd);
}

static void a_deadline_passes_once(void **state)
{
    (void)state;
    int fd;
    struct host *h = client_open(&fd);
    struct mono now = engine_now(stage.engine);
    net_deadline(stage.net, h->conn, mono_after_ms(now, 1000));
    net_deadline(stage.net, h->conn, mono_after_ms(now, 5000)); /* later */
    engine_clock_skip(2000);
    engine_step(stage.engine, 0);
    assert_int_equal(h->closes, 0);
    net_deadline(stage.net, h->conn, mono_after_ms(now, 4000)); /* earlier again */
    engine_clock_skip(2100);
    UNTIL(h->closes == 1);
    assert_int_equal(h->why, NET_TIMEOUT);
    assert_int_equal(client_end(fd), 0);
    close(fd);
}

static void a_cleared_deadline_does_not_pass(void **state)
{
    (void)state;
    int fd;
    struct host *h = client_open(&fd);
    net_deadline(stage.net, h->conn, mono_after_ms(engine_now(stage.engine), 1000));
    net_deadline(stage.net, h->conn, (struct mono){0});
    engine_clock_skip(5000);
    for (int i = 0; i < 3; i++)
        engine_step(stage.engine, 0);
    assert_int_equal(h->closes, 0);
    close(fd);
}

/* ---- one owner hands over to another in the middle of what was read, as HTTP does to WebSocket */

static struct host second_owner;

static void hand_over(struct host *h, uint8_t *at, size_t count)
{
    (void)at;
    (void)count;
    h->use_max = 4;
    second_owner = (struct host){.conn = h->conn, .text = h->text + 1000, .use_max = SIZE_MAX};
    net_own(stage.net, h->conn, &host_owner, &second_owner);
    assert_int_equal(second_owner.calls, 0);
}

static void a_new_owner_gets_the_rest_in_the_next_turn(void **state)
{
    (void)state;
    int fd;
    struct host *h = client_open(&fd);
    h->inside = hand_over;
    client_send(fd, "headrest", 8);
    UNTIL(h->calls == 1);
    assert_int_equal(second_owner.calls, 0);
    engine_step(stage.engine, -1);
    assert_int_equal(second_owner.calls, 1);
    assert_memory_equal(second_owner.text, "rest", 4);
    client_send(fd, "more", 4);
    UNTIL(second_owner.text_count == 8);
    assert_memory_equal(second_owner.text, "restmore", 8);
    close(fd);
    UNTIL(second_owner.closes == 1);
    assert_int_equal(h->closes, 0);
    assert_int_equal(h->calls, 1);
}

static void hand_over_all(struct host *h, uint8_t *at, size_t count)
{
    hand_over(h, at, count);
    h->use_max = SIZE_MAX;
}

static void a_new_owner_of_nothing_is_not_called(void **state)
{
    (void)state;
    int fd;
    struct host *h = client_open(&fd);
    h->inside = hand_over_all;
    client_send(fd, "head", 4);
    UNTIL(h->calls == 1);
    for (int i = 0; i < 3; i++)
        engine_step(stage.engine, 0);
    assert_int_equal(second_owner.calls, 0);
    close(fd);
    UNTIL(second_owner.closes == 1);
}

/* ---- whatever state a connection is in, a cut ends it once and leaves nothing */

enum cut_at {
    CUT_IDLE,
    CUT_UNREAD,
    CUT_BLOCKED,
    CUT_PAUSED,
    CUT_FLUSHING,
    CUT_LINGERING,
    CUT_STATES
};

static void state_reach(struct host *h, int fd, enum cut_at at)
{
    switch (at) {
    case CUT_IDLE: break;
    case CUT_UNREAD:
        h->use_max = 1;
        client_send(fd, "abcdef", 6);
        UNTIL(h->calls == 1);
        break;
    case CUT_BLOCKED: host_fill(h, 20000); break;
    case CUT_PAUSED:
        net_read_pause(stage.net, h->conn, true);
        client_send(fd, "abcdef", 6);
        engine_step(stage.engine, 0);
        break;
    case CUT_FLUSHING:
        host_fill(h, 20000);
        net_close(stage.net, h->conn, false);
        engine_step(stage.engine, 0);
        break;
    case CUT_LINGERING:
        net_close(stage.net, h->conn, false);
        UNTIL(h->closes == 1);
        break;
    case CUT_STATES: fail();
    }
}

static void a_cut_in_any_state_ends_it_once(void **state)
{
    (void)state;
    for (int how = 0; how < 2; how++) {
        for (int at = 0; at < CUT_STATES; at++) {
            int fd;
            struct host *h = client_open_narrow(&fd);
            state_reach(h, fd, (enum cut_at)at);
            if (how == 0)
                client_reset(fd);
            else
                close(fd);
            if (how == 1 && at == CUT_PAUSED) {
                /* An end, unlike a reset, waits for its owner. */
                assert_int_equal(h->closes, 0);
                net_read_pause(stage.net, h->conn, false);
            }
            UNTIL(h->closes == 1);
            UNTIL(net_connections(stage.net) == 0);
            assert_int_equal(h->why, at == CUT_LINGERING ? NET_LOCAL : NET_PEER);
        }
    }
}

/* ---- callbacks that do more than they were asked for */

static struct host *other;

static void close_both(struct host *h, uint8_t *at, size_t count)
{
    (void)at;
    (void)count;
    net_close(stage.net, h->conn, true);
    net_close(stage.net, other->conn, true);
}

static void an_owner_may_close_itself_and_others_inside_on_data(void **state)
{
    (void)state;
    int fds[2];
    struct host *h = client_open(&fds[0]);
    other = client_open(&fds[1]);
    h->inside = close_both;
    other->inside = close_both;
    client_send(fds[0], "x", 1);
    client_send(fds[1], "x", 1);
    UNTIL(h->closes == 1 && other->closes == 1);
    engine_step(stage.engine, 0);
    assert_int_equal(h->calls + other->calls, 1);
    assert_int_equal(net_connections(stage.net), 0);
    close(fds[0]);
    close(fds[1]);
}

static void stay_unowned(struct host *h)
{
    struct conn *c = pool_get(&stage.net->conns, h->conn);
    c->owner = NULL; /* as if on_accept had not called net_own */
}

static void a_connection_nobody_owns_is_closed(void **state)
{
    (void)state;
    stage.accepted = stay_unowned;
    int fd = client_connect(0);
    assert_int_equal(client_end(fd), ECONNRESET);
    assert_int_equal(net_connections(stage.net), 0);
    close(fd);
}

static void freeing_closes_everything_and_calls_nobody(void **state)
{
    (void)state;
    int fds[3];
    struct host *hosts[3];
    for (size_t i = 0; i < 3; i++)
        hosts[i] = client_open_narrow(&fds[i]);
    host_fill(hosts[0], 20000);
    hosts[1]->use_max = 0;
    client_send(fds[1], "abc", 3);
    UNTIL(hosts[1]->calls == 1);
    net_close(stage.net, hosts[2]->conn, true); /* on the list for the end of the turn */
    net_free(&stage.net);
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(hosts[i]->closes, 0);
        close(fds[i]);
    }
    engine_step(stage.engine, 0);
}

static void every_reason_has_a_name(void **state)
{
    (void)state;
    assert_string_equal(net_close_name(NET_PEER), "peer");
    assert_string_equal(net_close_name(NET_LOCAL), "local");
    assert_string_equal(net_close_name(NET_SLOW), "slow");
    assert_string_equal(net_close_name(NET_TIMEOUT), "timeout");
    assert_string_equal(net_close_name(NET_ERROR), "error");
}

static void making_fails_cleanly_at_every_allocation(void **state)
{
    (void)state;
    struct net *n = NULL;
    uint64_t used = mem_used_bytes();
    for (uint64_t i = 1; n == NULL; i++) {
        assert_true(i < 100);
        mem_fail_at(i);
        n = net_make(stage.engine, &stage.config);
        mem_fail_at(0);
        if (n == NULL)
            assert_int_equal(mem_used_bytes(), used);
    }
    net_free(&n);
    net_free(&n);
    assert_int_equal(mem_used_bytes(), used);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, stage_make, stage_unmake)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(bytes_come_and_go),
        TEST(an_idle_connection_owns_no_buffer),
        TEST(a_close_sends_what_is_queued_and_then_the_end),
        TEST(lingering_ends_after_five_seconds),
        TEST(a_close_now_drops_the_queue_and_resets),
        TEST(a_close_may_be_hurried),
        TEST(a_close_gives_a_reader_that_sleeps_five_seconds),
        TEST(who_says_its_end_gets_its_answers_first),
        TEST(who_says_its_end_is_waited_for_while_its_owner_works),
        TEST(a_deadline_passes_once),
        TEST(a_cleared_deadline_does_not_pass),
        TEST(a_new_owner_gets_the_rest_in_the_next_turn),
        TEST(a_new_owner_of_nothing_is_not_called),
        TEST(a_cut_in_any_state_ends_it_once),
        TEST(an_owner_may_close_itself_and_others_inside_on_data),
        TEST(a_connection_nobody_owns_is_closed),
        TEST(freeing_closes_everything_and_calls_nobody),
        TEST(every_reason_has_a_name),
        TEST(making_fails_cleanly_at_every_allocation),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
