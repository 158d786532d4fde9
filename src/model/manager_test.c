/* The local backend's process, played by tests/fake_child/llama_child.py, and once for real. */
#include "model/model_stage_priv.h"

#include <sys/stat.h>

static char folder[] = "/tmp/kith-manager-XXXXXX";
static char model_file[128];
static char notes_file[128];
static char fifo_file[128];

static int group_make(void **state)
{
    (void)state;
    char share[256];
    diag_init("error");
    diag_thread_init("test");
    if (mkdtemp(folder) == NULL)
        return -1;
    (void)snprintf(model_file, sizeof(model_file), "%s/model", folder);
    (void)snprintf(notes_file, sizeof(notes_file), "%s/notes", folder);
    (void)snprintf(fifo_file, sizeof(fifo_file), "%s/fifo", folder);
    if (setenv("KITH_SHARE", stage_path("fake_child", share, sizeof(share)), 1) != 0)
        return -1;
    if (setenv("KITH_AUTH_HS256_SECRET", "our-secret", 1) != 0)
        return -1;
    return mkfifo(fifo_file, 0600);
}

static int group_free(void **state)
{
    (void)state;
    (void)unlink(model_file);
    (void)unlink(notes_file);
    (void)unlink(fifo_file);
    return rmdir(folder);
}

static void model_says(const char *how)
{
    FILE *file = fopen(model_file, "w");
    assert_non_null(file);
    (void)fputs(how, file);
    assert_int_equal(fclose(file), 0);
}

static int make(void **state)
{
    (void)state;
    stage_open();
    stage_model_add(stage, "default", "", 0);
    stage->models[0].local = true;
    stage->config.local_model = model_file;
    stage->config.local_python = "python3";
    stage_make(2);
    return 0;
}

static int unmake(void **state)
{
    (void)state;
    stage_close();
    return 0;
}

static void start(const char *how)
{
    model_says(how);
    model_manager_start(stage->rooms[0]);
}

static const char *word(void)
{
    const char *w = model_not_ready(NULL, 0);
    return w == NULL ? "" : w;
}

static struct pool_home *pool(void)
{
    return &stage->rooms[0]->backends[0].pool;
}

static bool until_word(const char *wanted)
{
    STAGE_UNTIL(strcmp(word(), wanted) == 0);
    return true;
}

static void it_starts_and_answers(void **state)
{
    (void)state;
    char how[256];
    (void)snprintf(how, sizeof(how), "{\"arguments\":\"%s\"}", notes_file);
    assert_string_equal(word(), "starting");
    start(how);
    struct asked *a = stage_ask_on(1, "", "[[words:3]]");
    stage_until_end(a);
    assert_int_equal(a->end.end, MODEL_END_OK);
    assert_int_equal(a->text.count, 18);
    assert_string_equal(word(), "");
    assert_true(model_can_prefill(stage->rooms[0], (struct bytes){NULL, 0}));

    assert_int_equal(stage_http(pool()->local_port, "/requests", NULL), 200);
    const char *seen = (const char *)stage->http_body.at;
    assert_non_null(strstr(seen, "\"cache_prompt\": true"));
    char bearer[128];
    (void)snprintf(bearer, sizeof(bearer), "Bearer %s", manager_key());
    assert_non_null(strstr(seen, bearer));

    char notes[16384] = {0};
    FILE *file = fopen(notes_file, "r");
    assert_non_null(file);
    assert_true(fread(notes, 1, sizeof(notes) - 1, file) > 0);
    (void)fclose(file);
    assert_non_null(strstr(notes, "\"--parallel\", \"2\", \"--ctx\", \"8192\""));
    assert_non_null(strstr(notes, MODEL_LOCAL_KEY_ENV));
    assert_null(strstr(notes, "our-secret"));
    assert_null(strstr(notes, "KITH_"));
}

static bool was_asked(const char *text)
{
    assert_int_equal(stage_http(pool()->local_port, "/requests", NULL), 200);
    return strstr((const char *)stage->http_body.at, text) != NULL;
}

/* warm.c */
static void the_persona_is_read_before_anybody_talks(void **state)
{
    static const struct config_example example = {"ping", "pong"};
    static const struct config_persona persona = {.id = "p",
                                                  .name = "P",
                                                  .prompt = "You are kept warm.",
                                                  .examples = &example,
                                                  .examples_count = 1};
    (void)state;
    stage->config.personas = &persona;
    stage->config.personas_count = 1;
    start("{}");
    until_word("");
    STAGE_UNTIL(was_asked("You are kept warm."));
    assert_true(was_asked("\"max_tokens\": 1"));
    assert_true(was_asked("pong"));
}

static void nobody_waits_behind_the_warming(void **state)
{
    static const struct config_persona persona = {.id = "p", .name = "P", .prompt = "[[hang]]"};
    (void)state;
    stage->config.personas = &persona;
    stage->config.personas_count = 1;
    start("{}");
    struct asked *a = stage_ask("[[words:3]]"); /* it waits already: nothing is warmed */
    stage_until_end(a);
    assert_int_equal(a->end.end, MODEL_END_OK);
    assert_false(was_asked("[[hang]]"));
}

static void while_it_loads_requests_wait_visibly(void **state)
{
    (void)state;
    char how[256];
    char sentence[200];
    (void)snprintf(how, sizeof(how), "{\"hold\":\"%s\"}", fifo_file);
    start(how);
    struct asked *a = stage_ask("[[words:3]]");
    STAGE_UNTIL(a->queued);
    assert_int_equal(a->position, 1);
    until_word("loading");
    assert_string_equal(model_not_ready(sentence, sizeof(sentence)), "loading");
    assert_non_null(strstr(sentence, "loading"));
    engine_clock_skip(60000); /* longer than the first-token time */
    stage_step();
    assert_int_equal(a->ends, 0);
    FILE *fifo = fopen(fifo_file, "w"); /* comes back when the child has opened it */
    assert_non_null(fifo);
    (void)fclose(fifo);
    stage_until_end(a);
    assert_int_equal(a->end.end, MODEL_END_OK);
}

static void exits_that_cannot_be_cured_send_everybody_away(void **state)
{
    (void)state;
    start("{\"exit\":3}");
    struct asked *a = stage_ask("hi");
    stage_until_end(a);
    assert_int_equal(a->end.end, MODEL_END_UNAVAILABLE);
    assert_string_equal(word(), "failed");
    struct asked *b = stage_ask_on(1, "", "hi");
    stage_until_end(b);
    assert_int_equal(b->end.end, MODEL_END_UNAVAILABLE);
    engine_clock_skip(3600000);
    stage_step();
    assert_string_equal(word(), "failed");
}

static void a_damaged_model_is_told(void **state)
{
    (void)state;
    char sentence[300];
    start("{\"exit\":4}");
    until_word("failed");
    assert_non_null(model_not_ready(sentence, sizeof(sentence)));
    assert_non_null(strstr(sentence, "models[].url"));
}

static void a_missing_model_is_no_error_of_the_start(void **state)
{
    (void)state;
    char sentence[300];
    stage->config.local_model = "/nonexistent/model.gguf";
    start("{}");
    until_word("no_model");
    assert_non_null(model_not_ready(sentence, sizeof(sentence)));
    assert_non_null(strstr(sentence, "make run"));
    assert_non_null(strstr(sentence, "models[].url"));
    struct asked *a = stage_ask("hi");
    stage_until_end(a);
    assert_int_equal(a->end.end, MODEL_END_UNAVAILABLE);
}

static void a_missing_python_is_told(void **state)
{
    (void)state;
    stage->config.local_python = "/nonexistent/python";
    start("{}");
    until_word("failed");
}

static void another_exit_is_answered_by_a_restart(void **state)
{
    (void)state;
    start("{\"exit\":5}");
    struct asked *a = stage_ask("[[words:1]]");
    until_word("restarting");
    model_says("{}");
    engine_clock_skip(MANAGER_BACKOFF_MIN_MS);
    stage_until_end(a);
    assert_int_equal(a->end.end, MODEL_END_OK);
}

static void starts_in_vain_send_those_who_wait_away(void **state)
{
    (void)state;
    start("{\"exit\":5}");
    struct asked *a = stage_ask("hi");
    STAGE_UNTIL((engine_clock_skip(500), a->ends != 0));
    assert_int_equal(a->end.end, MODEL_END_UNAVAILABLE);
    model_says("{}");
    STAGE_UNTIL((engine_clock_skip(500), strcmp(word(), "") == 0));
    struct asked *b = stage_ask("[[words:1]]");
    stage_until_end(b);
    assert_int_equal(b->end.end, MODEL_END_OK);
}

static void a_crash_in_mid_answer_keeps_the_text_and_others_wait(void **state)
{
    (void)state;
    start("{}");
    until_word("");
    struct asked *a = stage_ask("[[exit:1]]");
    stage_until_end(a);
    assert_int_equal(a->end.end, MODEL_END_UPSTREAM_CUT);
    assert_int_equal(a->text.count, 12);
    struct asked *b = stage_ask("[[words:1]]");
    until_word("restarting");
    engine_clock_skip(MANAGER_BACKOFF_MIN_MS);
    stage_until_end(b);
    assert_int_equal(b->end.end, MODEL_END_OK);
}

static void a_crash_before_the_first_token_is_tried_on_the_next_process(void **state)
{
    (void)state;
    start("{}");
    until_word("");
    struct asked *a = stage_ask("[[exit_first]]");
    STAGE_UNTIL(a->went_out);
    STAGE_UNTIL(a->queued);
    engine_clock_skip(MANAGER_BACKOFF_MIN_MS);
    stage_until_end(a);
    /* Which of the two depends on whether a kept connection was used: libcurl then tries a new one
     * by itself. */
    assert_true(a->end.end == MODEL_END_UPSTREAM_CUT || a->end.end == MODEL_END_UNAVAILABLE);
    assert_int_equal(a->end.attempts, 2);
}

static void a_frozen_process_is_killed_and_replaced(void **state)
{
    (void)state;
    start("{}");
    until_word("");
    struct asked *a = stage_ask("[[freeze]]");
    STAGE_UNTIL(a->text.count == 12);
    model_cancel(stage->rooms[0], a->request);
    STAGE_UNTIL((engine_clock_skip(1000), strcmp(word(), "restarting") == 0));
    struct asked *b = stage_ask("[[words:1]]");
    STAGE_UNTIL((engine_clock_skip(100), b->ends != 0));
    assert_int_equal(b->end.end, MODEL_END_OK);
}

static void local_slots_bound_what_it_gets_at_once(void **state)
{
    (void)state;
    enum { COUNT = 6 };
    struct asked *all[COUNT];
    start("{}");
    for (uint32_t i = 0; i < COUNT; i++)
        all[i] = stage_ask_on(i % 2, "", "[[words:20:200]]");
    for (uint32_t i = 0; i < COUNT; i++)
        stage_until_end(all[i]);
    assert_int_equal(stage_http(pool()->local_port, "/stats", NULL), 200);
    assert_int_equal(stage_number("requests"), COUNT);
    assert_int_equal(stage_number("active_max"), 2);
}

static void stop_ends_the_process(void **state)
{
    (void)state;
    start("{}");
    until_word("");
    uint16_t port = pool()->local_port;
    model_manager_stop(stage->rooms[0]);
    STAGE_UNTIL(stage_http(port, "/health", NULL) != 200);
    struct asked *a = stage_ask("hi");
    stage_until_end(a);
    assert_int_equal(a->end.end, MODEL_END_UNAVAILABLE);
}

/* The small test model, when it is installed: four words of real text. */
static void the_real_model_answers(void **state)
{
    (void)state;
    char file[256];
    const char *models = getenv("KITH_MODELS");
    const char *home = getenv("HOME");
    if (models != NULL)
        (void)snprintf(file, sizeof(file), "%s/smollm2-135m-instruct-q4_1.gguf", models);
    else
        (void)snprintf(file, sizeof(file), "%s/.cache/kith/models/smollm2-135m-instruct-q4_1.gguf",
                       home == NULL ? "" : home);
    char tools[256];
    (void)stage_path("../tools", tools, sizeof(tools));
    const char *python =
        access("../../.deps", F_OK) == 0 ? "../../.deps/venv/bin/python" : ".deps/venv/bin/python";
    if (access(file, R_OK) != 0 || access(tools, R_OK) != 0 || access(python, X_OK) != 0)
        skip();
    char share[256];
    const char *before = getenv("KITH_SHARE");
    (void)snprintf(share, sizeof(share), "%s", before == NULL ? "" : before);
    assert_int_equal(setenv("KITH_SHARE", tools, 1), 0);
    stage->config.local_model = file;
    stage->config.local_python = python;
    stage->config.local_context = 2048;
    model_manager_start(stage->rooms[0]);
    struct asked *a = stage_ask("Say hello and introduce yourself in one sentence.");
    stage_until_end(a);
    assert_int_equal(setenv("KITH_SHARE", share, 1), 0);
    assert_true(a->end.end == MODEL_END_OK || a->end.end == MODEL_END_LENGTH);
    assert_true(a->text.count > 10);
    assert_true(a->end.has_usage);
    assert_true(a->end.tokens_in > 10);
    assert_true(a->texts > 4);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, make, unmake)
    const struct CMUnitTest tests[] = {
        TEST(it_starts_and_answers),
        TEST(the_persona_is_read_before_anybody_talks),
        TEST(nobody_waits_behind_the_warming),
        TEST(while_it_loads_requests_wait_visibly),
        TEST(exits_that_cannot_be_cured_send_everybody_away),
        TEST(a_damaged_model_is_told),
        TEST(a_missing_model_is_no_error_of_the_start),
        TEST(a_missing_python_is_told),
        TEST(another_exit_is_answered_by_a_restart),
        TEST(starts_in_vain_send_those_who_wait_away),
        TEST(a_crash_in_mid_answer_keeps_the_text_and_others_wait),
        TEST(a_crash_before_the_first_token_is_tried_on_the_next_process),
        TEST(a_frozen_process_is_killed_and_replaced),
        TEST(local_slots_bound_what_it_gets_at_once),
        TEST(stop_ends_the_process),
        TEST(the_real_model_answers),
    };
    return cmocka_run_group_tests(tests, group_make, group_free);
}
