#include "base/base.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

static void every_error_has_its_own_lower_case_word(void **state)
{
    static const enum err all[] = {
#define BASE_TEST_ERR(name, help) ERR_##name,
        BASE_ERRORS(BASE_TEST_ERR)
#undef BASE_TEST_ERR
    };
    (void)state;
    for (size_t i = 0; i < ARRAY_COUNT(all); i++) {
        const char *name = err_name(all[i]);
        assert_true(strlen(name) > 0);
        for (const char *c = name; *c != '\0'; c++)
            assert_true((*c >= 'a' && *c <= 'z') || *c == '_');
        for (size_t k = 0; k < i; k++)
            assert_string_not_equal(name, err_name(all[k]));
    }
    assert_int_equal(ERR_OK, 0);
    assert_string_equal(err_name(ERR_NOT_FOUND), "not_found");
    assert_string_equal(err_name((enum err)99), "unknown");
}

static void bytes_compare_by_content_and_count(void **state)
{
    (void)state;
    assert_true(bytes_equal(bytes_of("abc"), bytes_make("abc", 3)));
    assert_false(bytes_equal(bytes_of("abc"), bytes_of("abd")));
    assert_false(bytes_equal(bytes_of("abc"), bytes_of("ab")));
    assert_true(bytes_equal(bytes_make(NULL, 0), bytes_of("")));
    assert_true(bytes_is(bytes_make("ab\0c", 2), "ab"));
    assert_false(bytes_is(bytes_make("ab\0c", 4), "ab"));
}

static void hook_that_fails_itself(const char *condition, const char *file, int line)
{
    char text[64];
    int count = snprintf(text, sizeof(text), "hook %s %d %d", condition, file != NULL, line > 0);
    if (write(3, text, (size_t)count) != count)
        _exit(9);
    CHECK(1 + 1 == 3);
}

static void a_failed_check_runs_the_hook_once_and_aborts(void **state)
{
    (void)state;
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        (void)signal(SIGABRT, SIG_DFL);
        if (dup2(ends[1], 3) != 3 || freopen("/dev/null", "w", stderr) == NULL)
            _exit(8);
        check_hook_set(hook_that_fails_itself);
        int two = 2;
        CHECK(two == 3);
        _exit(7);
    }
    assert_int_equal(close(ends[1]), 0);
    char text[128] = {0};
    ssize_t count = read(ends[0], text, sizeof(text) - 1);
    assert_true(count > 0);
    assert_string_equal(text, "hook two == 3 1 1");
    assert_int_equal(read(ends[0], text, sizeof(text)), 0);
    assert_int_equal(close(ends[0]), 0);
    int status = 0;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFSIGNALED(status));
    assert_int_equal(WTERMSIG(status), SIGABRT);
}

static void a_true_check_does_nothing(void **state)
{
    (void)state;
    int seen = 0;
    CHECK(++seen == 1);
    assert_int_equal(seen, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_error_has_its_own_lower_case_word),
        cmocka_unit_test(bytes_compare_by_content_and_count),
        cmocka_unit_test(a_failed_check_runs_the_hook_once_and_aborts),
        cmocka_unit_test(a_true_check_does_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
