/* Counting over threads, the Prometheus text (diag_render.c), log lines (diag_log.c) and the flight
 * recorder (diag_recorder.c). */
#include "diag/diag_priv.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

static int pipe_ends[2];
static char taken[65536];

static void output_open(void)
{
    assert_int_equal(pipe2(pipe_ends, O_CLOEXEC | O_NONBLOCK), 0);
    diag_output_set(pipe_ends[1]);
}

/* What was written so far. */
static const char *output_take(void)
{
    ssize_t count = read(pipe_ends[0], taken, sizeof(taken) - 1);
    taken[count < 0 ? 0 : count] = '\0';
    return taken;
}

static void output_close(void)
{
    diag_output_set(STDERR_FILENO);
    diag_clock_set(NULL);
    close(pipe_ends[0]);
    close(pipe_ends[1]);
}

static void *count_thousand(void *registers)
{
    if (registers != NULL)
        diag_thread_init("counter");
    for (int i = 0; i < 1000; i++) {
        DIAG_COUNT(commands);
        DIAG_GAUGE_BY(sessions, i % 2 == 0 ? 2 : -1);
        DIAG_OBSERVE(turn, 15000);
    }
    return NULL;
}

static void threads_are_added_up_and_outlive_themselves(void **state)
{
    (void)state;
    pthread_t threads[4];
    static int yes;
    uint64_t before = diag_counter_sum(DIAG_C_commands);
    int64_t gauge_before = diag_gauge_sum(DIAG_G_sessions);
    for (size_t i = 0; i < ARRAY_COUNT(threads); i++)
        assert_int_equal(
            pthread_create(&threads[i], NULL, count_thousand, i % 2 == 0 ? &yes : NULL), 0);
    for (size_t i = 0; i < ARRAY_COUNT(threads); i++)
        pthread_join(threads[i], NULL);
    assert_int_equal(diag_counter_sum(DIAG_C_commands) - before, 4000);
    assert_int_equal(diag_gauge_sum(DIAG_G_sessions) - gauge_before, 4 * 500);
}

static void registering_twice_changes_nothing(void **state)
{
    (void)state;
    diag_thread_init("main");
    struct diag_thread *first = diag_thread_mine();
    diag_thread_init("other");
    assert_ptr_equal(diag_thread_mine(), first);
    assert_string_equal(first->name, "main");
}

static const char *render(void)
{
    static char page[1 << 18];
    struct buf b;
    buf_init_fixed(&b, page, sizeof(page) - 1);
    diag_render(&b);
    assert_false(b.failed);
    page[b.count] = '\0';
    return page;
}

static uint64_t sample(const char *page, const char *name)
{
    char line[128];
    unsigned long long number;
    snprintf(line, sizeof(line), "\n%s ", name);
    const char *at = strstr(page, line);
    assert_non_null(at);
    assert_int_equal(sscanf(at + strlen(line), "%llu", &number), 1);
    return number;
}

static void buckets_hold_what_is_at_most_their_limit(void **state)
{
    (void)state;
    const char *page = render();
    uint64_t ten = sample(page, "kith_commit_seconds_bucket{le=\"0.00001\"}");
    uint64_t twenty = sample(page, "kith_commit_seconds_bucket{le=\"0.00002\"}");
    uint64_t minute = sample(page, "kith_commit_seconds_bucket{le=\"60.0\"}");
    uint64_t all = sample(page, "kith_commit_seconds_bucket{le=\"+Inf\"}");
    uint64_t count = sample(page, "kith_commit_seconds_count");
    uint64_t sum = sample(page, "kith_commit_seconds_sum");
    DIAG_OBSERVE(commit, -5);
    DIAG_OBSERVE(commit, 10000);
    DIAG_OBSERVE(commit, 10001);
    DIAG_OBSERVE(commit, 60000000000);
    DIAG_OBSERVE(commit, 60000000001);
    page = render();
    assert_int_equal(sample(page, "kith_commit_seconds_bucket{le=\"0.00001\"}") - ten, 2);
    assert_int_equal(sample(page, "kith_commit_seconds_bucket{le=\"0.00002\"}") - twenty, 3);
    assert_int_equal(sample(page, "kith_commit_seconds_bucket{le=\"60.0\"}") - minute, 4);
    assert_int_equal(sample(page, "kith_commit_seconds_bucket{le=\"+Inf\"}") - all, 5);
    assert_int_equal(sample(page, "kith_commit_seconds_count") - count, 5);
    assert_int_equal(sample(page, "kith_commit_seconds_sum") - sum, 120);
}

/* A line is HELP, TYPE of a name just helped, or a sample of the name just typed. */
static void the_page_is_prometheus_text(void **state)
{
    (void)state;
    char name[128] = "";
    size_t families = 0;
    for (const char *line = render(); *line != '\0'; line = strchr(line, '\n') + 1) {
        char word[128];
        char type[32];
        if (sscanf(line, "# HELP %127s", word) == 1) {
            snprintf(name, sizeof(name), "%s", word);
            families++;
        } else if (sscanf(line, "# TYPE %127s %31s", word, type) == 2) {
            assert_string_equal(word, name);
            size_t count = strlen(word);
            bool ends_total = count > 6 && strcmp(word + count - 6, "_total") == 0;
            assert_int_equal(ends_total, strcmp(type, "counter") == 0);
        } else {
            assert_memory_equal(line, name, strlen(name));
            assert_non_null(strchr(line, ' '));
        }
    }
    assert_int_equal(families, DIAG_COUNTERS_COUNT + DIAG_GAUGES_COUNT + DIAG_HISTOGRAMS_COUNT + 4);
    assert_non_null(strstr(render(), "kith_build_info{version=\"" KITH_VERSION "\"} 1\n"));
}

static int64_t wall(void)
{
    return 1709210096789; /* 2024-02-29 12:34:56.789 UTC */
}

static void a_line_has_its_parts_in_order(void **state)
{
    (void)state;
    output_open();
    diag_clock_set(wall);
    diag_log(DIAG_WARN, "thing_done", "conv=%s n=%d", "c_1", 3);
    assert_string_equal(output_take(), "ts=2024-02-29T12:34:56.789Z level=warn event=thing_done "
                                       "thread=main conv=c_1 n=3\n");
    diag_clock_set(NULL);
    diag_log(DIAG_INFO, "bare", "%s", "");
    assert_string_equal(output_take(), "level=info event=bare thread=main \n");
    output_close();
}

static int64_t wall_ms_now;
static int64_t wall_any(void)
{
    return wall_ms_now;
}

static void days_are_counted_right(void **state)
{
    (void)state;
    static const struct {
        int64_t ms;
        const char *text;
    } rows[] = {{0, "ts=1970-01-01T00:00:00.000Z"},
                {951782400000, "ts=2000-02-29T00:00:00.000Z"},
                {951868800000, "ts=2000-03-01T00:00:00.000Z"},
                {1735689599999, "ts=2024-12-31T23:59:59.999Z"},
                {4107542400000, "ts=2100-03-01T00:00:00.000Z"}};
    output_open();
    diag_clock_set(wall_any);
    for (size_t i = 0; i < ARRAY_COUNT(rows); i++) {
        wall_ms_now = rows[i].ms;
        diag_log(DIAG_ERROR, "t", "a=1");
        assert_memory_equal(output_take(), rows[i].text, strlen(rows[i].text));
    }
    output_close();
}

static void levels_below_are_silent(void **state)
{
    (void)state;
    output_open();
    diag_init("warn");
    diag_log(DIAG_INFO, "quiet", "a=1");
    assert_string_equal(output_take(), "");
    assert_false(diag_enabled(DIAG_INFO));
    assert_true(diag_enabled(DIAG_ERROR));
    diag_init("debug");
    diag_log(DIAG_DEBUG, "loud", "a=1");
    assert_non_null(strstr(output_take(), "event=loud"));
    diag_init("info");
    output_close();
}

static void a_line_stays_one_line(void **state)
{
    (void)state;
    output_open();
    diag_log(DIAG_INFO, "forged", "a=%s", "x\nlevel=error\r\x1b[2J");
    assert_string_equal(output_take(),
                        "level=info event=forged thread=main a=x?level=error??[2J\n");
    output_close();
}

static void long_lines_are_cut_at_a_character(void **state)
{
    (void)state;
    char text[4096];
    output_open();
    for (size_t i = 0; i + 1 < sizeof(text); i += 2)
        memcpy(text + i, "\xc3\xa9", 2);
    text[4094] = '\0';
    for (int shift = 0; shift < 3; shift++) {
        diag_log(DIAG_INFO, "long", "%.*sa=\"%s\"", shift, "zz", text);
        const char *line = output_take();
        size_t count = strlen(line);
        assert_true(count <= DIAG_LINE_BYTES_MAX);
        assert_true(count > DIAG_LINE_BYTES_MAX - 16);
        assert_string_equal(line + count - 13, "\xc3\xa9\" cut=true\n");
    }
    output_close();
}

static void cut_quotes_are_closed_once(void **state)
{
    (void)state;
    char text[2000];
    output_open();
    for (size_t pad = 900; pad < 1100; pad++) {
        memset(text, 'a', sizeof(text));
        snprintf(text + pad, sizeof(text) - pad, "=\"b\\\"\\\\\" c=\"d\"");
        diag_log(DIAG_INFO, "q", "%s%s", text, pad > 1000 ? "" : text);
        const char *line = output_take();
        int quotes = 0;
        for (const char *at = line; *at != '\0'; at++) {
            if (*at == '\\')
                at++;
            else if (*at == '"')
                quotes++;
        }
        assert_int_equal(quotes % 2, 0);
        assert_true(strlen(line) <= DIAG_LINE_BYTES_MAX);
    }
    output_close();
}

static void lost_lines_are_counted(void **state)
{
    (void)state;
    uint64_t before = diag_counter_sum(DIAG_C_log_lost);
    output_open();
    close(pipe_ends[0]);
    signal(SIGPIPE, SIG_IGN);
    errno = 7;
    diag_log(DIAG_INFO, "lost", "a=1");
    assert_int_equal(errno, 7);
    assert_int_equal(diag_counter_sum(DIAG_C_log_lost) - before, 1);
    diag_output_set(STDERR_FILENO);
    close(pipe_ends[1]);
}

static void quotes_escape_what_would_break_the_token(void **state)
{
    (void)state;
    assert_string_equal(diag_quote(bytes_of("a b")), "\"a b\"");
    assert_string_equal(diag_quote(bytes_of("")), "\"\"");
    assert_string_equal(diag_quote(bytes_of("a\"b\\c\nd\x7f")), "\"a\\\"b\\\\c\\x0ad\\x7f\"");
    assert_string_equal(diag_quote(bytes_of("\xc3\xa9\xff\xe2\x82")),
                        "\"\xc3\xa9\\xff\\xe2\\x82\"");
    assert_string_equal(diag_quote(bytes_make("a\0b", 3)), "\"a\\x00b\"");
}

static void quotes_last_for_eight_calls(void **state)
{
    (void)state;
    const char *tokens[8];
    char one[2] = "0";
    for (size_t i = 0; i < 8; i++) {
        one[0] = (char)('0' + i);
        tokens[i] = diag_quote(bytes_of(one));
    }
    for (size_t i = 0; i < 8; i++)
        assert_int_equal(tokens[i][1], '0' + (int)i);
}

static void long_quotes_are_cut_and_closed(void **state)
{
    (void)state;
    char text[400];
    for (int shift = 0; shift < 4; shift++) {
        memset(text, '\n', sizeof(text));
        memset(text, 'a', (size_t)shift);
        const char *token = diag_quote(bytes_make(text, sizeof(text)));
        size_t count = strlen(token);
        assert_true(count < DIAG_QUOTE_BYTES_MAX);
        assert_string_equal(token + count - 8, "\\x0a...\"");
    }
}

static void the_recorder_keeps_the_last(void **state)
{
    (void)state;
    char file[] = "/tmp/kith_diag_test_XXXXXX";
    int fd = mkstemp(file);
    unlink(file);
    for (uint64_t i = 0; i < DIAG_NOTES_MAX + 10; i++)
        diag_note((struct mono){(int64_t)i * 1000}, "step: index, double", i, i * 2);
    diag_dump(fd);
    off_t size = lseek(fd, 0, SEEK_END);
    static char dump[1 << 18];
    assert_true(size > 0 && size < (off_t)sizeof(dump));
    assert_int_equal(pread(fd, dump, (size_t)size, 0), size);
    close(fd);
    assert_memory_equal(
        dump, "event=note thread=main mono_us=10 what=\"step: index, double\" a=10 b=20\n", 71);
    size_t lines = 0;
    for (const char *at = dump; (at = strchr(at, '\n')) != NULL; at++)
        lines++;
    assert_int_equal(lines, DIAG_NOTES_MAX);
    assert_non_null(strstr(dump, "a=1033 b=2066\n"));
}

static void *note_unregistered(void *ctx)
{
    (void)ctx;
    diag_note((struct mono){1}, "nobody", 1, 2);
    diag_log(DIAG_INFO, "stranger", "a=1");
    return NULL;
}

static void threads_without_a_copy_have_no_recorder_but_a_voice(void **state)
{
    (void)state;
    pthread_t thread;
    output_open();
    assert_int_equal(pthread_create(&thread, NULL, note_unregistered, NULL), 0);
    pthread_join(thread, NULL);
    assert_string_equal(output_take(), "level=info event=stranger thread=none a=1\n");
    output_close();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(registering_twice_changes_nothing),
        cmocka_unit_test(threads_are_added_up_and_outlive_themselves),
        cmocka_unit_test(buckets_hold_what_is_at_most_their_limit),
        cmocka_unit_test(the_page_is_prometheus_text),
        cmocka_unit_test(a_line_has_its_parts_in_order),
        cmocka_unit_test(days_are_counted_right),
        cmocka_unit_test(levels_below_are_silent),
        cmocka_unit_test(a_line_stays_one_line),
        cmocka_unit_test(long_lines_are_cut_at_a_character),
        cmocka_unit_test(cut_quotes_are_closed_once),
        cmocka_unit_test(lost_lines_are_counted),
        cmocka_unit_test(quotes_escape_what_would_break_the_token),
        cmocka_unit_test(quotes_last_for_eight_calls),
        cmocka_unit_test(long_quotes_are_cut_and_closed),
        cmocka_unit_test(the_recorder_keeps_the_last),
        cmocka_unit_test(threads_without_a_copy_have_no_recorder_but_a_voice),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
