/* One process per data_dir (lock.c). */
#include "engine/engine.h"
#include "journal/test_world_priv.h"

#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>

static enum err take(const char *dir, struct lock *lock, char text[512])
{
    struct buf message;
    memset(text, 0, 512);
    buf_init_fixed(&message, text, 511);
    return lock_take(dir, lock, &message);
}

static int setup(void **state)
{
    static char dir[64];
    world_dir_make(dir);
    *state = dir;
    return 0;
}

static int teardown(void **state)
{
    world_dir_remove(*state);
    return 0;
}

static void folders_are_made_for_their_owner_only(void **state)
{
    char path[128];
    char deeper[160];
    char file[192];
    char text[512];
    struct lock lock;
    struct stat st;
    (void)snprintf(path, sizeof(path), "%s/a", (char *)*state);
    (void)snprintf(deeper, sizeof(deeper), "%s/b", path);
    (void)snprintf(file, sizeof(file), "%s/lock", deeper);
    assert_int_equal(take(deeper, &lock, text), ERR_OK);
    assert_int_equal(stat(deeper, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0700);
    lock_drop(&lock);
    lock_drop(&lock);
    assert_int_equal(unlink(file), 0);
    assert_int_equal(rmdir(deeper), 0);
    assert_int_equal(rmdir(path), 0);
}

static void a_place_that_cannot_be_is_an_error_with_its_name(void **state)
{
    char text[512];
    struct lock lock;
    (void)state;
    assert_int_equal(take("/proc/nowhere/kith", &lock, text), ERR_IO);
    assert_non_null(strstr(text, "/proc/nowhere/kith"));
    assert_int_equal(take("", &lock, text), ERR_IO);
}

/* A child holds the lock until the pipe's other end closes. */
static pid_t holder_start(const char *dir, int *release)
{
    int told[2];
    int hold[2];
    char byte;
    assert_int_equal(pipe(told), 0);
    assert_int_equal(pipe(hold), 0);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        char text[512];
        struct lock lock;
        (void)close(hold[1]);
        if (take(dir, &lock, text) != ERR_OK)
            _exit(1);
        (void)!write(told[1], "x", 1);
        (void)!read(hold[0], &byte, 1); /* until the parent lets go or is gone */
        _exit(0);
    }
    (void)close(told[1]);
    (void)close(hold[0]);
    assert_int_equal(read(told[0], &byte, 1), 1);
    (void)close(told[0]);
    *release = hold[1];
    return child;
}

static void the_second_process_waits_and_names_the_first(void **state)
{
    char text[512];
    char pid[32];
    struct lock lock;
    int release;
    int status;
    pid_t child = holder_start(*state, &release);
    struct mono began = mono_now();
    assert_int_equal(take(*state, &lock, text), ERR_CONFLICT);
    assert_true(mono_since_ms(began, mono_now()) >= 1900);
    (void)snprintf(pid, sizeof(pid), "process %d", (int)child);
    assert_non_null(strstr(text, pid));
    assert_non_null(strstr(text, *state));
    (void)close(release);
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(take(*state, &lock, text), ERR_OK);
    lock_drop(&lock);
}

static void a_holder_that_dies_lets_go(void **state)
{
    char text[512];
    struct lock lock;
    int release;
    int status;
    pid_t child = holder_start(*state, &release);
    assert_int_equal(kill(child, SIGKILL), 0);
    assert_int_equal(take(*state, &lock, text), ERR_OK); /* waited for, if need be */
    lock_drop(&lock);
    (void)close(release);
    assert_int_equal(waitpid(child, &status, 0), child);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(folders_are_made_for_their_owner_only),
        TEST(a_place_that_cannot_be_is_an_error_with_its_name),
        TEST(the_second_process_waits_and_names_the_first),
        TEST(a_holder_that_dies_lets_go),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
