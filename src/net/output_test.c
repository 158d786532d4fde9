/* What goes out (output.c): order, joining, back-pressure. */
#include "net/net_stage_priv.h"

static void answers_of_one_turn_are_one_blob(void **state)
{
    (void)state;
    char back[64];
    int fd;
    struct host *h = client_open(&fd);
    for (int i = 0; i < 8; i++)
        assert_true(net_send_copy(stage.net, h->conn, bytes_of("reply.")));
    const struct conn *c = pool_get(&stage.net->conns, h->conn);
    assert_int_equal(c->out->count, 48);
    assert_null(c->out_first);
    assert_int_equal(net_queued_bytes(stage.net, h->conn), 48);
    char byte;
    assert_int_equal(recv(fd, &byte, 1, 0), -1); /* not before the end of the turn */
    engine_step(stage.engine, 0);
    assert_int_equal(recv(fd, back, sizeof(back), 0), 48); /* all at once */
    assert_int_equal(net_queued_bytes(stage.net, h->conn), 0);
    close(fd);
}

static void answers_of_many_sizes_still_are_one_blob(void **state)
{
    (void)state;
    static uint8_t piece[3000];
    static uint8_t back[sizeof(piece) * 5 + 10];
    int fd;
    struct host *h = client_open(&fd);
    for (int i = 0; i < 5; i++) {
        assert_true(net_send_copy(stage.net, h->conn, bytes_of("hd")));
        memset(piece, 'a' + i, sizeof(piece));
        assert_true(net_send_copy(stage.net, h->conn, bytes_make(piece, sizeof(piece))));
    }
    const struct conn *c = pool_get(&stage.net->conns, h->conn);
    assert_int_equal(c->out->count, sizeof(back));
    assert_null(c->out_first);
    client_receive(fd, back, sizeof(back));
    for (size_t i = 0; i < sizeof(back); i++) {
        size_t at = i % (sizeof(piece) + 2);
        char expected = at < 2 ? "hd"[at] : (char)('a' + (char)(i / (sizeof(piece) + 2)));
        assert_int_equal(back[i], expected);
    }
    close(fd);
}

static void a_shared_blob_is_sent_as_it_is_and_let_go(void **state)
{
    (void)state;
    char back[14];
    int fd;
    struct host *h = client_open(&fd);
    struct blob *shared = blob_copy(bytes_of("shared"));
    assert_true(net_send_copy(stage.net, h->conn, bytes_of("a")));
    assert_true(net_send(stage.net, h->conn, shared));
    assert_true(net_send_copy(stage.net, h->conn, bytes_of("b"))); /* not into the shared one */
    assert_true(net_send(stage.net, h->conn, shared));
    assert_int_equal(atomic_load(&shared->refs), 3);
    assert_int_equal(shared->count, 6);
    client_receive(fd, back, 14);
    assert_memory_equal(back, "asharedbshared", 14);
    assert_int_equal(atomic_load(&shared->refs), 1);
    struct blob *empty = blob_new(0);
    assert_true(net_send(stage.net, h->conn, empty));
    assert_true(net_send_copy(stage.net, h->conn, (struct bytes){NULL, 0}));
    assert_int_equal(net_queued_bytes(stage.net, h->conn), 0);
    blob_unref(&empty);
    close(fd);
    UNTIL(h->closes == 1);
    assert_false(net_send(stage.net, h->conn, shared));
    assert_int_equal(atomic_load(&shared->refs), 1);
    blob_unref(&shared);
}

static void a_slow_reader_gets_every_byte_in_order(void **state)
{
    (void)state;
    enum { BYTES = 240000 };
    static uint8_t sent[BYTES];
    static uint8_t got[BYTES];
    struct rng r;
    int fd;
    struct host *h = client_open_narrow(&fd);
    rng_init(&r, 11);
    rng_fill(&r, sent, BYTES);
    size_t given = 0;
    size_t have = 0;
    for (int i = 0; i < 200000 && have < BYTES; i++) {
        size_t count = size_min((size_t)rng_below(&r, i % 50 == 0 ? 9000 : 300) + 1, BYTES - given);
        struct bytes piece = bytes_make(sent + given, count);
        if (given < BYTES && rng_below(&r, 2) == 0) {
            assert_true(net_send_copy(stage.net, h->conn, piece));
            given += count;
        } else if (given < BYTES) {
            struct blob *b = blob_copy(piece);
            assert_true(net_send(stage.net, h->conn, b));
            blob_unref(&b);
            given += count;
        }
        if (rng_below(&r, 3) == 0)
            engine_step(stage.engine, 0);
        ssize_t some =
            recv(fd, got + have, size_min(BYTES - have, (size_t)rng_below(&r, 900) + 1), 0);
        have += some > 0 ? (size_t)some : 0;
    }
    assert_int_equal(have, BYTES);
    assert_memory_equal(got, sent, BYTES);
    assert_int_equal(net_queued_bytes(stage.net, h->conn), 0);
    close(fd);
}

static void too_many_unsent_bytes_close_it_as_slow(void **state)
{
    (void)state;
    static uint8_t piece[4096];
    int fd;
    struct host *h = client_open_narrow(&fd);
    bool taken = true;
    for (int i = 0; i < STAGE_STEPS_MAX && taken; i++) {
        assert_true(net_queued_bytes(stage.net, h->conn) <= stage.net->send_bytes_max);
        taken = net_send_copy(stage.net, h->conn, bytes_make(piece, sizeof(piece)));
        if (taken)
            engine_step(stage.engine, 0);
    }
    assert_false(taken);
    assert_int_equal(h->closes, 0);
    engine_step(stage.engine, 0);
    assert_int_equal(h->closes, 1);
    assert_int_equal(h->why, NET_SLOW);
    assert_int_equal(client_end(fd), ECONNRESET);
    close(fd);
}

static void much_in_one_turn_is_no_fault_of_a_fast_reader(void **state)
{
    (void)state;
    static uint8_t piece[60000];
    int fd;
    struct host *h = client_open(&fd);
    for (int i = 0; i < 20; i++) /* four times limits.send, in one turn */
        assert_true(net_send_copy(stage.net, h->conn, bytes_make(piece, sizeof(piece))));
    static uint8_t back[20 * sizeof(piece)];
    client_receive(fd, back, sizeof(back));
    assert_int_equal(h->closes, 0);
    close(fd);
}

static void one_blob_may_be_larger_than_the_limit(void **state)
{
    (void)state;
    enum { BYTES = 2 << 20 };
    static uint8_t got[BYTES];
    int fd;
    struct host *h = client_open_narrow(&fd);
    struct blob *page = blob_new(BYTES);
    memset(page->at, 'p', BYTES);
    page->count = BYTES;
    assert_true(net_send_copy(stage.net, h->conn, bytes_of("head")));
    assert_true(net_send(stage.net, h->conn, page));
    blob_unref(&page);
    client_receive(fd, got, 4);
    client_receive(fd, got, BYTES);
    assert_int_equal(got[BYTES - 1], 'p');
    assert_int_equal(h->closes, 0);
    close(fd);
}

static void a_stalled_reader_is_closed_as_slow(void **state)
{
    (void)state;
    static uint8_t got[4096];
    int fd;
    struct host *h = client_open_narrow(&fd);
    engine_clock_skip(100000); /* patience begins when there is something to send, not before */
    engine_step(stage.engine, 0);
    host_fill(h, 50000);
    engine_clock_skip(29000);
    engine_step(stage.engine, 0);
    assert_int_equal(h->closes, 0);
    size_t queued = net_queued_bytes(stage.net, h->conn);
    for (int i = 0; i < STAGE_STEPS_MAX && net_queued_bytes(stage.net, h->conn) == queued; i++) {
        (void)recv(fd, got, sizeof(got), 0);
        engine_step(stage.engine, 1);
    }
    assert_true(net_queued_bytes(stage.net, h->conn) < queued); /* progress: patience anew */
    engine_clock_skip(29000);
    engine_step(stage.engine, 0);
    assert_int_equal(h->closes, 0);
    engine_clock_skip(1100);
    UNTIL(h->closes == 1);
    assert_int_equal(h->why, NET_SLOW);
    close(fd);
}

static void patience_begins_when_something_waits(void **state)
{
    (void)state;
    static const uint8_t piece[4096];
    int fd;
    int full[2];
    struct host *h = client_open(&fd);
    const struct conn *c = pool_get(&stage.net->conns, h->conn);
    assert_true(net_send_copy(stage.net, h->conn, bytes_of("progress")));
    engine_step(stage.engine, 0);
    /* A socket that takes nothing at all stands in for the connection's. */
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, full), 0);
    while (send(full[0], piece, sizeof(piece), MSG_NOSIGNAL) > 0) {
    }
    assert_int_equal(dup2(full[0], c->watch.fd), c->watch.fd);
    engine_clock_skip(100000);
    engine_step(stage.engine, 0);
    assert_true(net_send_copy(stage.net, h->conn, bytes_of("waits")));
    for (int i = 0; i < 3; i++)
        engine_step(stage.engine, 1);
    assert_int_equal(h->closes, 0);
    engine_clock_skip(30001);
    UNTIL(h->closes == 1);
    assert_int_equal(h->why, NET_SLOW);
    close(full[0]);
    close(full[1]);
    close(fd);
}

static void the_owner_hears_when_the_queue_has_drained(void **state)
{
    (void)state;
    int fd;
    struct host *h = client_open_narrow(&fd);
    host_fill(h, 50000);
    assert_int_equal(h->drained, 0);
    static uint8_t got[1024];
    for (int i = 0; i < STAGE_STEPS_MAX && h->drained == 0; i++) {
        assert_true(i == 0 || net_queued_bytes(stage.net, h->conn) >= 8192);
        (void)recv(fd, got, sizeof(got), 0);
        engine_step(stage.engine, 1);
    }
    assert_int_equal(h->drained, 1);
    assert_true(net_queued_bytes(stage.net, h->conn) < 8192);
    close(fd);
}

static void no_memory_for_an_answer_ends_the_connection(void **state)
{
    (void)state;
    struct blob *b = blob_copy(bytes_of("shared"));
    for (uint64_t n = 1; n <= 3; n++) {
        int fd;
        struct host *h = client_open(&fd);
        bool taken = true;
        mem_fail_at(n);
        /* The first send makes a blob; the third thing queued needs a chunk, and the copy after it
         * a blob again. */
        taken = taken && net_send_copy(stage.net, h->conn, bytes_of("a"));
        taken = taken && net_send(stage.net, h->conn, b);
        taken = taken && net_send_copy(stage.net, h->conn, bytes_of("b"));
        mem_fail_at(0);
        assert_false(taken);
        UNTIL(h->closes == 1);
        assert_int_equal(h->why, NET_ERROR);
        assert_int_equal(atomic_load(&b->refs), 1);
        close(fd);
    }
    blob_unref(&b);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, stage_make, stage_unmake)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(answers_of_one_turn_are_one_blob),
        TEST(answers_of_many_sizes_still_are_one_blob),
        TEST(a_shared_blob_is_sent_as_it_is_and_let_go),
        TEST(a_slow_reader_gets_every_byte_in_order),
        TEST(too_many_unsent_bytes_close_it_as_slow),
        TEST(much_in_one_turn_is_no_fault_of_a_fast_reader),
        TEST(one_blob_may_be_larger_than_the_limit),
        TEST(a_stalled_reader_is_closed_as_slow),
        TEST(patience_begins_when_something_waits),
        TEST(the_owner_hears_when_the_queue_has_drained),
        TEST(no_memory_for_an_answer_ends_the_connection),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
