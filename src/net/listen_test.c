/* Listening and accepting (listen.c). */
#include "net/net_stage_priv.h"

#include <netinet/tcp.h>
#include <sys/resource.h>
#include <sys/wait.h>

static char text[256];

static enum err open_listener(const char *listen, int *fds, uint32_t count, uint16_t *port)
{
    struct buf message;
    memset(text, 0, sizeof(text));
    buf_init_fixed(&message, text, sizeof(text) - 1);
    return net_listen_open(listen, fds, count, port, &message);
}

static void what_is_no_address_is_refused_with_a_message(void **state)
{
    static const char *const bad[] = {"",
                                      "8080",
                                      "127.0.0.1",
                                      "127.0.0.1:",
                                      "127.0.0.1:x",
                                      "localhost:99999",
                                      "127.0.0.1:123456",
                                      "::1:80",
                                      "[::1:80",
                                      "127.0.0.1:-1"};
    (void)state;
    for (size_t i = 0; i < ARRAY_COUNT(bad); i++) {
        int fd = -7;
        uint16_t port = 7;
        assert_int_equal(open_listener(bad[i], &fd, 1, &port), ERR_PROTO);
        assert_int_equal(fd, -7);
        assert_int_equal(port, 7);
        assert_memory_equal(text, "listen: ", 8);
    }
}

static void the_known_forms_are_understood(void **state)
{
    static const char *const good[] = {"127.0.0.1:0", "localhost:0", "[::1]:0", ":0", "0.0.0.0:0"};
    (void)state;
    for (size_t i = 0; i < ARRAY_COUNT(good); i++) {
        int fd = -1;
        uint16_t port = 0;
        enum err err = open_listener(good[i], &fd, 1, &port);
        if (err == ERR_IO && good[i][0] == '[')
            continue; /* this machine has no IPv6 */
        assert_int_equal(err, ERR_OK);
        assert_true(port > 0);
        close(fd);
    }
}

static void all_engines_share_one_port(void **state)
{
    (void)state;
    int fds[4];
    uint16_t port = 0;
    assert_int_equal(open_listener("127.0.0.1:0", fds, 4, &port), ERR_OK);
    for (size_t i = 0; i < 4; i++) {
        struct sockaddr_in at;
        socklen_t bytes = sizeof(at);
        assert_int_equal(getsockname(fds[i], (struct sockaddr *)&at, &bytes), 0);
        assert_int_equal(ntohs(at.sin_port), port);
    }
    for (size_t i = 0; i < 4; i++)
        close(fds[i]);
}

static void a_second_server_does_not_share_silently(void **state)
{
    (void)state;
    char listen[32];
    int fds[2] = {-1, -1};
    uint16_t port = 0;
    assert_true(snprintf(listen, sizeof(listen), "127.0.0.1:%u", stage.port) > 0);
    assert_int_equal(open_listener(listen, fds, 2, &port), ERR_IO);
    assert_non_null(strstr(text, "in use"));
    assert_int_equal(fds[0], -1);
    net_listen_stop(stage.net);
    engine_step(stage.engine, 0);
    assert_int_equal(open_listener(listen, fds, 2, &port), ERR_OK);
    assert_int_equal(port, stage.port);
    close(fds[0]);
    close(fds[1]);
}

static void accepted_sockets_do_not_delay(void **state)
{
    (void)state;
    int fd;
    struct host *h = client_open(&fd);
    const struct conn *c = pool_get(&stage.net->conns, h->conn);
    int no_delay = 0;
    socklen_t bytes = sizeof(no_delay);
    assert_int_equal(getsockopt(c->watch.fd, IPPROTO_TCP, TCP_NODELAY, &no_delay, &bytes), 0);
    assert_int_equal(no_delay, 1);
    assert_true((fcntl(c->watch.fd, F_GETFL) & O_NONBLOCK) != 0);
    assert_true((fcntl(c->watch.fd, F_GETFD) & FD_CLOEXEC) != 0);
    close(fd);
}

static int make_small(void **state)
{
    int failed = stage_make(state);
    stage.net->conns_max = 3;
    return failed;
}

static void a_full_process_closes_at_the_door(void **state)
{
    (void)state;
    uint64_t before = diag_counter_sum(DIAG_C_connections_refused);
    int fds[3];
    for (size_t i = 0; i < 3; i++)
        (void)client_open(&fds[i]);
    int refused = client_connect(0);
    assert_int_equal(client_end(refused), ECONNRESET);
    assert_int_equal(diag_counter_sum(DIAG_C_connections_refused), before + 1);
    close(refused);
    close(fds[0]);
    UNTIL(stage.hosts[0].closes == 1);
    struct host *h = client_open(&fds[0]);
    assert_int_equal(h->closes, 0);
    for (size_t i = 0; i < 3; i++)
        close(fds[i]);
}

static void an_address_that_is_too_fast_is_closed_at_the_door(void **state)
{
    (void)state;
    uint64_t before = diag_counter_sum(DIAG_C_connections_rate_refused);
    stage.net->address_rate = 4;
    int fds[6];
    for (size_t i = 0; i < 6; i++)
        fds[i] = client_connect(0);
    assert_int_equal(client_end(fds[4]), ECONNRESET);
    assert_int_equal(client_end(fds[5]), ECONNRESET);
    assert_int_equal(diag_counter_sum(DIAG_C_connections_rate_refused), before + 2);
    assert_int_equal(net_connections(stage.net), 4);
    engine_clock_skip(250); /* time for one more */
    int late = client_connect(0);
    UNTIL(stage.hosts_count == 5);
    for (size_t i = 0; i < 6; i++)
        close(fds[i]);
    close(late);
}

static void a_stop_takes_those_who_have_connected_and_nobody_later(void **state)
{
    (void)state;
    int fds[5];
    for (size_t i = 0; i < 5; i++)
        fds[i] = client_connect(0); /* the kernel's, not yet accepted */
    net_listen_stop(stage.net);
    net_listen_stop(stage.net);
    assert_int_equal(stage.hosts_count, 0); /* not inside the call */
    engine_step(stage.engine, 0);
    assert_int_equal(stage.hosts_count, 5);
    int late = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_in to = {
        .sin_family = AF_INET, .sin_port = htons(stage.port), .sin_addr = {htonl(INADDR_LOOPBACK)}};
    assert_int_equal(connect(late, (struct sockaddr *)&to, sizeof(to)), -1);
    assert_int_equal(errno, ECONNREFUSED);
    char back[2];
    stage.hosts[4].echo = true;
    client_send(fds[4], "ok", 2);
    client_receive(fds[4], back, 2);
    for (size_t i = 0; i < 5; i++)
        close(fds[i]);
    close(late);
}

/* In a process of its own, which has no more descriptors than it needs. */
static int without_descriptors(void)
{
    int fds[3];
    uint64_t before = diag_counter_sum(DIAG_C_accept_paused);
    for (size_t i = 0; i < 3; i++)
        fds[i] = client_connect(0);
    struct rlimit none = {.rlim_cur = (rlim_t)fds[2] + 1, .rlim_max = (rlim_t)fds[2] + 1};
    if (setrlimit(RLIMIT_NOFILE, &none) != 0)
        return 2;
    for (int i = 0; i < 10; i++)
        engine_step(stage.engine, 0);
    if (stage.hosts_count != 0 || diag_counter_sum(DIAG_C_accept_paused) != before + 1)
        return 3; /* it accepted, or it asked again at once */
    close(fds[0]);
    close(fds[1]);
    engine_clock_skip(NET_ACCEPT_PAUSE_MS);
    for (int i = 0; i < 100 && stage.hosts_count < 2; i++)
        engine_step(stage.engine, 1);
    return stage.hosts_count < 2 ? 4 : 0;
}

static void out_of_descriptors_it_pauses_and_goes_on(void **state)
{
    (void)state;
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0)
        _exit(without_descriptors());
    int status = 0;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
}

static void no_memory_for_a_connection_closes_it_at_the_door(void **state)
{
    (void)state;
    uint64_t before = diag_counter_sum(DIAG_C_connections_refused);
    int fd = client_connect(0);
    mem_fail_at(1); /* the pool's first slab */
    assert_int_equal(client_end(fd), ECONNRESET);
    mem_fail_at(0);
    assert_int_equal(diag_counter_sum(DIAG_C_connections_refused), before + 1);
    close(fd);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, stage_make, stage_unmake)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(what_is_no_address_is_refused_with_a_message),
        TEST(the_known_forms_are_understood),
        TEST(all_engines_share_one_port),
        TEST(a_second_server_does_not_share_silently),
        TEST(accepted_sockets_do_not_delay),
        cmocka_unit_test_setup_teardown(a_full_process_closes_at_the_door, make_small,
                                        stage_unmake),
        TEST(an_address_that_is_too_fast_is_closed_at_the_door),
        TEST(a_stop_takes_those_who_have_connected_and_nobody_later),
        TEST(out_of_descriptors_it_pauses_and_goes_on),
        TEST(no_memory_for_a_connection_closes_it_at_the_door),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
