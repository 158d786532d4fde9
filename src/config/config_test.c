/* Each kind of mistake names its place and what is allowed; each source wins over the one before;
 * what `show` prints loads to the same. Everything is tested through the two loads, which pass
 * config_source.c and config_yaml.c (sources), config_tree.c, config_table.c, config_value.c and
 * config_apply.c (the way in), config_check.c, config_models.c and config_persona.c (rules), and
 * through config_show.c and config_reference.c (the way out). */
#include "base/mem.h"
#include "config/config_priv.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

struct loaded {
    struct config *config;
    enum err err;
    char message[2048];
};

static struct loaded load_with(const char *file, char *const *environment, const char *const *sets)
{
    struct loaded l = {0};
    struct config_set list[16];
    struct buf message;
    size_t count = 0;
    for (; sets != NULL && sets[count] != NULL; count++)
        list[count].assignment = sets[count];
    buf_init_fixed(&message, l.message, sizeof(l.message) - 1);
    l.err = config_load(file, environment, list, count, &l.config, &message);
    assert_false(message.failed);
    return l;
}

static struct loaded load_text(const char *yaml)
{
    struct loaded l = {0};
    struct buf message;
    buf_init_fixed(&message, l.message, sizeof(l.message) - 1);
    l.err = config_load_text("k.yaml", bytes_of(yaml), &l.config, &message);
    return l;
}

static struct loaded load_set(const char *a, const char *b)
{
    const char *sets[] = {a, b, NULL};
    return load_with(NULL, NULL, sets);
}

static void good(struct loaded *l)
{
    if (l->err != ERR_OK)
        print_error("%s\n", l->message);
    assert_int_equal(l->err, ERR_OK);
    assert_string_equal(l->message, "");
}

/* A refused text: the whole message is compared, so that every word of it is on purpose. */
static void refused(const char *yaml, const char *message)
{
    struct loaded l = load_text(yaml);
    assert_string_equal(l.message, message);
    assert_int_equal(l.err, ERR_PROTO);
    assert_null(l.config);
}

static void refused_set(const char *a, const char *b, const char *message)
{
    struct loaded l = load_set(a, b);
    assert_string_equal(l.message, message);
    assert_int_equal(l.err, ERR_PROTO);
    assert_null(l.config);
}

static bool has_warning(const struct config *c, const char *line)
{
    for (size_t i = 0; i < c->warnings_count; i++)
        if (strcmp(c->warnings[i], line) == 0)
            return true;
    for (size_t i = 0; i < c->warnings_count; i++)
        print_error("warning: %s\n", c->warnings[i]);
    return false;
}

static void nothing_gives_the_defaults(void **state)
{
    (void)state;
    struct loaded l = load_with(NULL, NULL, NULL);
    good(&l);
#define SAME_NUMBER(field, key, def, min, max, unit, help) assert_true(l.config->field == (def));
    CONFIG_NUMBERS(SAME_NUMBER)
#undef SAME_NUMBER
#define SAME_TEXT(field, key, def, help) assert_string_equal(l.config->field, def);
    CONFIG_TEXTS(SAME_TEXT)
#undef SAME_TEXT
#define SAME_FLAG(field, key, def, help) assert_int_equal(l.config->field, def);
    CONFIG_FLAGS(SAME_FLAG)
#undef SAME_FLAG
    assert_true(l.config->terms_default);
    assert_int_equal(l.config->warnings_count, 0);
    config_free(&l.config);
    assert_null(l.config);
    config_free(&l.config);
}

static void defaults_are_within_their_limits(void **state)
{
    (void)state;
    for (size_t i = 0; i < config_fields_count; i++) {
        const struct field *f = &config_fields[i];
        if (f->kind == FIELD_NUMBER)
            assert_true(f->min <= f->number && f->number <= f->max);
        assert_ptr_equal(field_find(config_fields, config_fields_count, bytes_of(f->key)), f);
    }
}

/* `store: sqlite` and `store: {batch: 5}` could not both be written in one file. */
static void no_key_is_also_a_section(void **state)
{
    (void)state;
    for (size_t i = 0; i < config_fields_count; i++)
        for (size_t j = 0; j < config_fields_count; j++) {
            size_t bytes = strlen(config_fields[i].key);
            assert_false(strncmp(config_fields[i].key, config_fields[j].key, bytes) == 0 &&
                         config_fields[j].key[bytes] == '.');
        }
}

static void local_model_and_kit_are_built_in(void **state)
{
    (void)state;
    struct loaded l = load_with(NULL, NULL, NULL);
    good(&l);
    assert_int_equal(l.config->models_count, 1);
    assert_string_equal(l.config->models[0].name, "default");
    assert_string_equal(l.config->models[0].model, CONFIG_LOCAL_MODEL_NAME);
    assert_true(l.config->models[0].local);
    assert_int_equal(l.config->models[0].concurrency, l.config->local_slots);
    assert_int_equal(l.config->models[0].context_tokens, 1536);
    assert_int_equal(l.config->personas_count, 1);
    assert_string_equal(l.config->personas[0].id, "p_default");
    assert_string_equal(l.config->personas[0].name, "Kit");
    assert_int_equal(l.config->personas[0].suggestions_count, 4);
    config_free(&l.config);
}

static void local_prompt_fits_its_slot(void **state)
{
    (void)state;
    struct loaded l = load_set("local.slots=4", "context.answer_tokens=512");
    good(&l);
    assert_int_equal(l.config->models[0].context_tokens, 8192 / 4 - 512);
    config_free(&l.config);
}

static void configured_models_replace_the_local_one(void **state)
{
    (void)state;
    struct loaded l = load_text("models:\n  - {name: big, url: 'http://127.0.0.1:9/v1/'}\n");
    good(&l);
    assert_int_equal(l.config->models_count, 1);
    assert_false(l.config->models[0].local);
    assert_string_equal(l.config->models[0].url, "http://127.0.0.1:9/v1");
    assert_string_equal(l.config->models[0].model, "big");
    assert_true(l.config->models[0].temperature < 0);
    config_free(&l.config);
}

static void local_model_can_stand_beside_others(void **state)
{
    (void)state;
    struct loaded l = load_text("local.enabled: true\nmodels: [{name: big, url: http://a/v1}]\n");
    good(&l);
    assert_int_equal(l.config->models_count, 2);
    assert_string_equal(l.config->models[1].name, "local");
    assert_true(l.config->models[1].local);
    config_free(&l.config);
    refused("local: {enabled: true}\nmodels: [{name: local, url: http://a/v1}]\n",
            "k.yaml:1: local.enabled: a configured model is called \"local\", too; allowed: "
            "another name for it");
}

static void no_model_at_all_is_a_warning(void **state)
{
    (void)state;
    struct loaded l = load_text("local.enabled: false\n");
    good(&l);
    assert_int_equal(l.config->models_count, 0);
    assert_null(config_model_get(l.config, bytes_of("")));
    assert_true(has_warning(l.config, "configuration: local.enabled is false and no models are "
                                      "set: nobody will answer"));
    config_free(&l.config);
}

static void later_sources_win(void **state)
{
    (void)state;
    char file[] = "/tmp/kith_config_test_XXXXXX";
    int fd = mkstemp(file);
    assert_true(fd >= 0);
    static const char yaml[] = "listen: 127.0.0.1:1\nnode: file\nlog: {level: warn}\n"
                               "models:\n- {name: a, url: http://a/v1}\n";
    assert_int_equal(write(fd, yaml, sizeof(yaml) - 1), (ssize_t)sizeof(yaml) - 1);
    close(fd);
    char *environment[] = {(char *)"KITH_LISTEN=127.0.0.1:2", (char *)"KITH_LOG_LEVEL=error",
                           (char *)"KITH_MODELS_0_URL=http://b/v1", (char *)"HOME=/", NULL};
    const char *sets[] = {"listen=127.0.0.1:3", "models.1.name=c", "models.1.url=http://c/v1",
                          NULL};
    struct loaded l = load_with(file, environment, sets);
    unlink(file);
    good(&l);
    assert_string_equal(l.config->node, "file");
    assert_string_equal(l.config->log_level, "error");
    assert_string_equal(l.config->listen, "127.0.0.1:3");
    assert_int_equal(l.config->models_count, 2);
    assert_string_equal(l.config->models[0].name, "a");
    assert_string_equal(l.config->models[0].url, "http://b/v1");
    assert_string_equal(l.config->models[1].url, "http://c/v1");
    config_free(&l.config);
}

static void environment_reaches_every_key(void **state)
{
    (void)state;
    char *environment[] = {(char *)"KITH_MODELS_1_NAME=b", /* out of order on purpose */
                           (char *)"KITH_MODELS_1_URL=http://b/v1",
                           (char *)"KITH_MODELS_0_NAME=a",
                           (char *)"KITH_MODELS_0_URL=http://a/v1",
                           (char *)"KITH_MODELS_0_CONTEXT_TOKENS=99",
                           (char *)"KITH_AUTH_API_KEYS_0=one",
                           (char *)"KITH_AUTH_API_KEYS_1_KEY=two",
                           (char *)"KITH_AUTH_API_KEYS_1_SCOPES_0=chat",
                           (char *)"KITH_PERSONAS_0_ID=p",
                           (char *)"KITH_PERSONAS_0_EXAMPLES_0_USER=u",
                           (char *)"KITH_PERSONAS_0_EXAMPLES_0_ASSISTANT=v",
                           (char *)"KITH_PERSONAS_0_SUGGESTIONS_0=s",
                           (char *)"KITH_LIMITS_USER_COMMANDS=5",
                           (char *)"KITH_LIMITS_USER_COMMANDS_BURST=6",
                           (char *)"KITH_SAFETY_BUILTIN_TERMS=false",
                           (char *)"KITH_AUTH_GUESTS=true",
                           (char *)"KITH_NODE=",
                           NULL};
    struct loaded l = load_with(NULL, environment, NULL);
    good(&l);
    assert_int_equal(l.config->models[0].context_tokens, 99);
    assert_string_equal(l.config->models[1].name, "b");
    assert_string_equal(l.config->api_keys[0].key, "one");
    assert_string_equal(l.config->api_keys[0].app, "default");
    assert_string_equal(l.config->api_keys[1].scopes[0], "chat");
    assert_string_equal(l.config->personas[0].name, "p");
    assert_string_equal(l.config->personas[0].examples[0].assistant, "v");
    assert_string_equal(l.config->personas[0].suggestions[0], "s");
    assert_int_equal(l.config->user_commands_rate, 5);
    assert_int_equal(l.config->user_commands_burst, 6);
    assert_false(l.config->terms_default);
    assert_int_equal(l.config->auth_guests, CONFIG_TRUE);
    assert_int_equal(l.config->warnings_count, 0);
    config_free(&l.config);
}

static void unknown_variables_are_warnings_only(void **state)
{
    (void)state;
    char *environment[] = {(char *)"KITH_LISTN=x", (char *)"KITH_MODELS=/cache",
                           (char *)"KITH_SHARE=/usr/share/kith", (char *)"KITH_PYTHON=python3",
                           NULL};
    struct loaded l = load_with(NULL, environment, NULL);
    good(&l);
    assert_int_equal(l.config->warnings_count, 1);
    assert_true(
        has_warning(l.config, "environment KITH_LISTN: there is no such setting; it is ignored"));
    config_free(&l.config);
}

static void a_bad_variable_is_named(void **state)
{
    (void)state;
    char *environment[] = {(char *)"KITH_ENGINES=many", NULL};
    struct loaded l = load_with(NULL, environment, NULL);
    assert_int_equal(l.err, ERR_PROTO);
    assert_string_equal(l.message, "environment KITH_ENGINES: engines: \"many\"; allowed: 0 to 64");
}

static void units_are_understood(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        const char *unit;
        int64_t number;
    } rows[] = {
        {"0", "ms", 0},
        {"250", "ms", 250},
        {"100ms", "ms", 100},
        {"300s", "ms", 300000},
        {"5m", "ms", 300000},
        {"2h", "ms", 7200000},
        {"1d", "ms", 86400000},
        {"64KiB", "bytes", 65536},
        {"1MiB", "bytes", 1048576},
        {"2GiB", "bytes", 2147483648},
        {"7B", "bytes", 7},
        {"12", "count", 12},
    };
    for (size_t i = 0; i < ARRAY_COUNT(rows); i++) {
        int64_t number = -1;
        assert_true(value_number(bytes_of(rows[i].text), rows[i].unit, &number));
        assert_true(number == rows[i].number);
    }
    static const char *const bad[] = {"",
                                      "-1",
                                      "s",
                                      "1.5s",
                                      "1 s",
                                      "1KB",
                                      "1kib",
                                      "5M",
                                      "1KiB",
                                      "9223372036854775808",
                                      "9223372036854775807s",
                                      "0x10"};
    for (size_t i = 0; i < ARRAY_COUNT(bad); i++) {
        int64_t number;
        assert_false(value_number(bytes_of(bad[i]), "ms", &number));
    }
}

static void numbers_are_shown_as_they_are_read(void **state)
{
    (void)state;
    static const int64_t numbers[] = {0,     1,       999,     1000,       60000,     90000,
                                      65536, 3600000, 1048576, 1073741824, INT64_MAX, 86400000};
    static const char *const names[] = {"ms", "bytes", "count"};
    for (size_t i = 0; i < ARRAY_COUNT(numbers) * ARRAY_COUNT(names); i++) {
        char text[32];
        struct buf b;
        int64_t again = -1;
        const char *unit = names[i % ARRAY_COUNT(names)];
        buf_init_fixed(&b, text, sizeof(text));
        value_number_put(&b, unit, numbers[i / ARRAY_COUNT(names)]);
        assert_true(value_number(buf_view(&b), unit, &again));
        assert_true(again == numbers[i / ARRAY_COUNT(names)]);
    }
}

static void unknown_keys_name_the_nearest(void **state)
{
    (void)state;
    refused("\n\nlimits:\n  txet: 4\n",
            "k.yaml:4: limits.txet: there is no such key, is limits.text meant?; allowed: "
            "connections, connections_per_address, user_commands, user_commands_burst, user_runs, "
            "unanswered, channels, frame, text, title, send_ephemeral, send, send_stall, memory");
    struct loaded l = load_text("lissten: 1\n");
    assert_non_null(strstr(l.message, "k.yaml:1: lissten: there is no such key, is listen meant?"));
    l = load_text("hs256_secret: 1\n");
    assert_non_null(strstr(l.message, "is auth.hs256_secret meant?"));
    l = load_text("walrus: 1\n");
    assert_non_null(strstr(l.message, "k.yaml:1: walrus: there is no such key; allowed: listen, "));
    l = load_text("\nlimitz:\n  text: 1\n"); /* a section is named where it begins */
    assert_non_null(strstr(l.message, "k.yaml:2: limitz: there is no such key"));
    refused("models:\n- name: a\n  ulr: http://a\n",
            "k.yaml:3: models.0.ulr: there is no such key, is url meant?; allowed: name, url, "
            "model, api_key_file, concurrency, context_tokens, temperature, backends, fallback");
    refused_set("models.0.naem=x", NULL,
                "--set: models.0.naem: there is no such key, is name meant?; allowed: name, url, "
                "model, api_key_file, concurrency, context_tokens, temperature, backends, "
                "fallback");
}

static void a_key_is_set_once(void **state)
{
    (void)state;
    refused("listen: 127.0.0.1:1\nnode: a\nlisten: 127.0.0.1:2\n",
            "k.yaml:3: listen: is set twice (first in line 1); allowed: once");
    refused("limits: {text: 100}\nlimits:\n  text: 200\n",
            "k.yaml:2: limits: is set twice (first in line 1); allowed: once");
    refused("limits.text: 100\nlimits.text: 200\n",
            "k.yaml:2: limits.text: is set twice (first in line 1); allowed: once");
    refused("models:\n- {name: a, name: b}\n",
            "k.yaml:2: models.0.name: is set twice (first in line 2); allowed: once");
}

static void dotted_and_nested_keys_are_the_same(void **state)
{
    (void)state;
    struct loaded l = load_text("limits: {text: 1KiB}\nlimits.title: 20\nlog.level: debug\n");
    good(&l);
    assert_int_equal(l.config->text_bytes_max, 1024);
    assert_int_equal(l.config->title_bytes_max, 20);
    assert_string_equal(l.config->log_level, "debug");
    config_free(&l.config);
}

static void wrong_types_say_what_is_allowed(void **state)
{
    (void)state;
    refused("engines: [1]\n", "k.yaml:1: engines: is a list; allowed: 0 to 64");
    refused("engines: {a: 1}\n", "k.yaml:1: engines: is a map of keys; allowed: 0 to 64");
    refused("engines:\n", "k.yaml:1: engines: is empty; allowed: 0 to 64");
    refused("engines: 1.5\n", "k.yaml:1: engines: \"1.5\"; allowed: 0 to 64");
    refused("listen: [a]\n", "k.yaml:1: listen: is a list; allowed: text of at most 4096 bytes");
    refused("models: 3\n", "k.yaml:1: models: is a single value; allowed: a list");
    refused("models:\n- a\n", "k.yaml:2: models.0: is a single value; allowed: a map of keys");
    refused("models:\n-\n", "k.yaml:2: models.0: is empty; allowed: a map of keys");
    refused("auth: {api_keys: [[a]]}\n",
            "k.yaml:1: auth.api_keys.0: is a list; allowed: a text or a map of keys");
    refused("personas: [{id: a, suggestions: [{a: b}]}]\n",
            "k.yaml:1: personas.0.suggestions.0: is a map of keys; allowed: a text");
    refused("limits: 5\n", "k.yaml:1: limits: is a single value; allowed: a map of keys");
    refused("limits: [5]\n", "k.yaml:1: limits: is a list; allowed: a map of keys");
    refused("auth: {guests: maybe}\n",
            "k.yaml:1: auth.guests: \"maybe\"; allowed: true, false or auto");
    refused("safety: {builtin_terms: auto}\n",
            "k.yaml:1: safety.builtin_terms: \"auto\"; allowed: true or false");
    refused("- a\n", "k.yaml:1: the file is a list; allowed: keys and values, `key: value`");
    refused("word\n",
            "k.yaml:1: the file is a single value; allowed: keys and values, `key: value`");
}

static void ranges_are_kept(void **state)
{
    (void)state;
    refused("engines: 65\n", "k.yaml:1: engines: \"65\"; allowed: 0 to 64");
    refused("timeouts: {head: 99ms}\n",
            "k.yaml:1: timeouts.head: \"99ms\"; allowed: 100ms to 10m (100ms, 30s, 5m, 2h, 1d, or "
            "a number of ms)");
    refused("limits: {frame: 1GiB}\n",
            "k.yaml:1: limits.frame: \"1GiB\"; allowed: 4KiB to 64MiB (64KiB, 1MiB, 2GiB, or a "
            "number of bytes)");
    refused("limits: {memory: -1}\n",
            "k.yaml:1: limits.memory: \"-1\"; allowed: 0 or more (64KiB, 1MiB, 2GiB, or a number "
            "of bytes)");
    refused("models: [{name: a, url: http://a, temperature: 2.1}]\n",
            "k.yaml:1: models.0.temperature: \"2.1\"; allowed: 0 to 2");
    refused("models: [{name: a, url: http://a, temperature: nan}]\n",
            "k.yaml:1: models.0.temperature: \"nan\"; allowed: 0 to 2");
    refused("limits: {send: 64KiB, send_ephemeral: 128KiB}\n",
            "k.yaml:1: limits.send_ephemeral: is larger than limits.send; allowed: at most 65536");
    refused("limits: {frame: 4KiB}\n",
            "k.yaml:1: limits.text: is larger than limits.frame; allowed: at most 4096");
}

static void words_with_meaning_are_checked(void **state)
{
    (void)state;
    static const char *const listens[] = {"8080", ":8080",  "a:",   "a:65536",
                                          "a:x",  "::1:80", "a b:1"};
    for (size_t i = 0; i < ARRAY_COUNT(listens); i++) {
        char set[64];
        char wanted[128];
        snprintf(set, sizeof(set), "listen=%s", listens[i]);
        snprintf(wanted, sizeof(wanted),
                 "--set: listen: \"%s\"; allowed: address:port, [address]:port", listens[i]);
        refused_set(set, NULL, wanted);
    }
    struct loaded l = load_set("listen=[::1]:0", NULL);
    good(&l);
    config_free(&l.config);
    refused_set("store=postgresql://x", NULL,
                "--set: store: \"postgresql://x\"; allowed: sqlite, mem");
    refused_set("bus=redis://x", NULL, "--set: bus: \"redis://x\"; allowed: local");
    refused_set("roles=edge,chef", NULL,
                "--set: roles: \"edge,chef\"; allowed: some of edge, reply, work");
    refused_set("roles=", NULL, "--set: roles: \"\"; allowed: some of edge, reply, work");
    refused_set("node=a b", NULL, "--set: node: \"a b\"; allowed: at most 64 of A-Z a-z 0-9 _ -");
    refused_set("log.level=loud", NULL,
                "--set: log.level: \"loud\"; allowed: debug, info, warn, error");
    refused_set("data_dir=", NULL, "--set: data_dir: is empty; allowed: a folder");
}

static void roles_may_be_a_list(void **state)
{
    (void)state;
    struct loaded l = load_text("roles: [edge, work]\n");
    good(&l);
    assert_string_equal(l.config->roles, "edge,work");
    config_free(&l.config);
}

static void models_need_a_name_and_a_url(void **state)
{
    (void)state;
    refused("models: [{url: http://a/v1}]\n",
            "k.yaml:1: models.0.name: is not set; allowed: a name, unique among models");
    refused("models:\n- name: a\n",
            "k.yaml:2: models.0.url: is not set; allowed: http://host:port/v1, https://...");
    refused("models:\n- name: a\n  url: ftp://a\n",
            "k.yaml:3: models.0.url: \"ftp://a\"; allowed: http://host:port/v1, https://...");
    refused("models:\n- name: a\n  url: http://a/v1/chat/completions\n",
            "k.yaml:3: models.0.url: \"http://a/v1/chat/completions\" is too long; allowed: the "
            "base that ends in /v1");
    refused("models:\n- {name: a, url: http://a}\n- {name: a, url: http://b}\n",
            "k.yaml:3: models.1.name: \"a\" is models.0, too; allowed: a unique name");
}

static void personas_are_checked(void **state)
{
    (void)state;
    refused("personas: [{name: A}]\n",
            "k.yaml:1: personas.0.id: is not set; allowed: 1 to 64 of A-Z a-z 0-9 _ -");
    refused("personas: [{id: a b}]\n",
            "k.yaml:1: personas.0.id: is not an id; allowed: 1 to 64 of A-Z a-z 0-9 _ -");
    refused("personas: [{id: a}, {id: a}]\n",
            "k.yaml:1: personas.1.id: \"a\" is personas.0, too; allowed: a unique id");
    refused("personas:\n- id: a\n  model: big\n",
            "k.yaml:3: personas.0.model: \"big\" is not configured; allowed: a name of models");
    refused("personas:\n- id: a\n  examples:\n  - user: hi\n",
            "k.yaml:4: personas.0.examples.0.assistant: is not set; allowed: a text in user and "
            "one in assistant");
}

static void api_keys_come_as_words_or_files(void **state)
{
    (void)state;
    char file[] = "/tmp/kith_config_test_XXXXXX";
    int fd = mkstemp(file);
    assert_int_equal(write(fd, "sesame\n", 7), 7);
    close(fd);
    char set[64];
    snprintf(set, sizeof(set), "auth.api_keys.1.key_file=%s", file);
    const char *sets[] = {"auth.api_keys.0=open", set, "auth.api_keys.1.app=shop", NULL};
    struct loaded l = load_with(NULL, NULL, sets);
    good(&l);
    assert_int_equal(l.config->api_keys_count, 2);
    assert_string_equal(l.config->api_keys[0].key, "open");
    assert_string_equal(l.config->api_keys[1].key, "sesame");
    assert_string_equal(l.config->api_keys[1].app, "shop");
    struct buf shown;
    buf_init(&shown, 1 << 20);
    config_show(l.config, &shown);
    buf_byte(&shown, 0);
    assert_null(strstr((char *)shown.at, "sesame"));
    assert_null(strstr((char *)shown.at, "\"open\""));
    assert_non_null(strstr((char *)shown.at, file));
    buf_fini(&shown);
    config_free(&l.config);
    unlink(file);
    l = load_set("auth.api_keys.0=a", set);
    assert_non_null(strstr(l.message, "cannot be read: No such file or directory; allowed: a file "
                                      "with one key"));
}

static void api_keys_are_checked(void **state)
{
    (void)state;
    refused("auth: {api_keys: [{app: a}]}\n",
            "k.yaml:1: auth.api_keys.0: has no key; allowed: a key or a key_file");
    refused("auth: {api_keys: [{key: a, key_file: b}]}\n",
            "k.yaml:1: auth.api_keys.0: has a key and a key_file; allowed: a key or a key_file");
    refused("auth: {api_keys: ['a b']}\n",
            "k.yaml:1: auth.api_keys.0: is not a key; allowed: one word of visible ASCII");
    refused_set("auth.api_keys.0=a", "auth.api_keys.1=a",
                "--set: auth.api_keys.1: is the same key as auth.api_keys.0; allowed: once");
    refused("auth: {api_keys: [{key: a, app: ''}]}\n",
            "k.yaml:1: auth.api_keys.0.app: is not an id; allowed: 1 to 64 of A-Z a-z 0-9 _ -");
}

static void terms_have_sides(void **state)
{
    (void)state;
    struct loaded l = load_text("safety: {terms: [{term: a}, {term: b, side: ai, category: x}]}\n");
    good(&l);
    assert_true(l.config->terms[0].user_side && l.config->terms[0].ai_side);
    assert_string_equal(l.config->terms[0].category, "custom");
    assert_true(!l.config->terms[1].user_side && l.config->terms[1].ai_side);
    config_free(&l.config);
    refused("safety: {terms: [{term: a, side: left}]}\n",
            "k.yaml:1: safety.terms.0.side: \"left\"; allowed: user, ai, both");
    refused("safety: {terms: [{side: ai}]}\n",
            "k.yaml:1: safety.terms.0.term: is not set; allowed: a word or words");
}

static void keys_of_later_releases_are_warnings(void **state)
{
    (void)state;
    struct loaded l = load_text("namespaces:\n- {name: '', presence: true}\n"
                                "models:\n- name: a\n  backends: [{url: http://b/v1}]\n"
                                "  fallback: [c]\n");
    good(&l);
    assert_true(has_warning(l.config, "k.yaml:1: namespaces: is accepted and not in force in this "
                                      "release"));
    assert_true(has_warning(l.config, "k.yaml:6: models.0.fallback: is accepted and not in force "
                                      "in this release"));
    assert_true(has_warning(l.config, "k.yaml:5: models.0.backends.0.url: is the only backend "
                                      "used: its model has no url of its own"));
    assert_string_equal(l.config->models[0].url, "http://b/v1");
    config_free(&l.config);
}

static void weak_secrets_are_warnings(void **state)
{
    (void)state;
    struct loaded l = load_set("auth.hs256_secret=short", "auth.insecure=true");
    good(&l);
    assert_true(has_warning(l.config, "--set: auth.hs256_secret: has 5 bytes; 32 or more cannot be "
                                      "guessed"));
    assert_true(has_warning(l.config, "--set: auth.insecure: everybody may do everything: for "
                                      "tests only"));
    config_free(&l.config);
}

static void unreadable_files_are_named(void **state)
{
    (void)state;
    struct loaded l = load_with("/nowhere/kith.yaml", NULL, NULL);
    assert_int_equal(l.err, ERR_PROTO);
    assert_string_equal(l.message, "/nowhere/kith.yaml: cannot be read: No such file or directory; "
                                   "allowed: a YAML file");
    l = load_with("/tmp", NULL, NULL);
    assert_string_equal(l.message, "/tmp: cannot be read: Is a directory; allowed: a YAML file");
}

static void broken_yaml_is_placed(void **state)
{
    (void)state;
    refused("a: [1\nb: 2\n", "k.yaml:2: not YAML: while parsing a flow sequence, did not find "
                             "expected ',' or ']'; allowed: keys and values, `key: value`");
    refused("a: *b\n", "k.yaml:1: aliases are not supported; allowed: plain YAML");
    refused("listen: !!str a\n", "k.yaml:1: tags are not supported; allowed: plain YAML");
    refused("node: a\n---\nnode: b\n", "k.yaml:2: a second document; allowed: one");
    refused("? [a]\n: b\n", "k.yaml:1: a key is a list; allowed: a word");
    refused("a..b: 1\n", "k.yaml:1: not a key: \"a..b\"; allowed: words, joined by dots or nested");
    refused("a: \xff\n", "k.yaml:1: not YAML: invalid leading UTF-8 octet (byte 3); allowed: UTF-8 "
                         "text");
    refused("[[[[[[[[[[[[[[[[[[[[\n", "k.yaml:1: nested too deeply; allowed: 16 levels");
    refused("node: \"a\\0b\"\n",
            "k.yaml:1: node: holds bytes that are not text; allowed: UTF-8 without U+0000");
}

static void empty_files_are_fine(void **state)
{
    (void)state;
    static const char *const texts[] = {"",
                                        "\n",
                                        "# nothing\n",
                                        "---\n...\n",
                                        "{}\n",
                                        "limits:\n",
                                        "models:\npersonas: ~\n",
                                        "local: null\n"};
    for (size_t i = 0; i < ARRAY_COUNT(texts); i++) {
        struct loaded l = load_text(texts[i]);
        good(&l);
        config_free(&l.config);
    }
}

static void sets_are_checked(void **state)
{
    (void)state;
    refused_set("listen", NULL, "--set: \"listen\" has no '='; allowed: key=value");
    refused_set("=a", NULL, "--set: there is no key; allowed: key=value");
    refused_set("a..b=a", NULL, "--set: not a key: \"a..b\"; allowed: words joined by dots");
    refused_set("models.x.name=a", NULL, "--set: models: is a map of keys; allowed: a list");
}

static void elements_may_come_in_any_order_but_not_be_missing(void **state)
{
    (void)state;
    refused_set("models.1.name=b", "models.1.url=http://b",
                "--set: models.0: is empty; allowed: a map of keys");
    refused_set("models.10000.name=b", NULL, "--set: no such element; allowed: 0 to 9999");
    refused_set("models.0.name=b", "models.x=1",
                "--set: \"x\" does not name an element; allowed: 0, 1, 2, ...");
}

static void later_values_replace_whole_ones(void **state)
{
    (void)state;
    struct loaded l = load_set("auth.api_keys.0=a", "auth.api_keys.0.key=b");
    good(&l);
    assert_string_equal(l.config->api_keys[0].key, "b");
    config_free(&l.config);
}

static void the_default_is_found(void **state)
{
    (void)state;
    struct loaded l =
        load_text("models: [{name: a, url: http://a}, {name: default, url: http://d}]\n"
                  "personas: [{id: p}, {id: q}]\n");
    good(&l);
    assert_ptr_equal(config_model_get(l.config, bytes_of("")), &l.config->models[1]);
    assert_ptr_equal(config_model_get(l.config, bytes_of("a")), &l.config->models[0]);
    assert_null(config_model_get(l.config, bytes_of("b")));
    assert_ptr_equal(config_persona_get(l.config, bytes_of("")), &l.config->personas[0]);
    assert_ptr_equal(config_persona_get(l.config, bytes_of("q")), &l.config->personas[1]);
    assert_null(config_persona_get(l.config, bytes_of("r")));
    config_free(&l.config);
    l = load_text("models: [{name: a, url: http://a}]\n");
    good(&l);
    assert_ptr_equal(config_model_get(l.config, bytes_of("")), &l.config->models[0]);
    assert_ptr_equal(config_model_get(l.config, bytes_of("default")), &l.config->models[0]);
    config_free(&l.config);
}

static void show_round_trips(const char *yaml)
{
    struct loaded l = load_text(yaml);
    good(&l);
    struct buf first;
    struct buf second;
    buf_init(&first, 1 << 20);
    buf_init(&second, 1 << 20);
    config_show(l.config, &first);
    assert_false(first.failed);
    struct config *again = NULL;
    struct buf message;
    char text[1024];
    buf_init_fixed(&message, text, sizeof(text));
    enum err err = config_load_text("shown", buf_view(&first), &again, &message);
    if (err != ERR_OK)
        print_error("%.*s\n%.*s\n", (int)message.count, text, (int)first.count, first.at);
    assert_int_equal(err, ERR_OK);
    config_show(again, &second);
    assert_true(bytes_equal(buf_view(&first), buf_view(&second)));
    buf_fini(&first);
    buf_fini(&second);
    config_free(&again);
    config_free(&l.config);
}

static void what_is_shown_loads_to_the_same(void **state)
{
    (void)state;
    show_round_trips("");
    show_round_trips(
        "limits: {text: 1000, memory: 9223372036854775807}\ndrain: 0\n"
        "auth: {guests: false, api_keys: [{key_file: k, scopes: [a, b], app: x}]}\n"
        "safety: {builtin_terms: false, terms: [{term: \"x: 'y' \\\"z\\\"\", side: ai}]}\n"
        "local: {enabled: true}\n"
        "models: [{name: 'a: b', url: http://a/v1, temperature: 0.7}]\n"
        "personas:\n- id: p\n  prompt: \"a\\n\\tb \\\\ \\x85 \\u2028 \\uFEFF é\"\n"
        "  examples: [{user: '- a', assistant: '#b'}]\n"
        "  suggestions: ['yes', '~', ' ']\n");
}

static void shown_values_survive(void **state)
{
    (void)state;
    struct loaded l =
        load_text("personas:\n- id: p\n  prompt: \"a\\n\\tb \\x85\\u2028\\uFEFF\\U0001F600\"\n"
                  "models: [{name: a, url: http://a, temperature: 0.7}]\n");
    good(&l);
    struct buf shown;
    buf_init(&shown, 1 << 20);
    config_show(l.config, &shown);
    assert_non_null(memmem(shown.at, shown.count, "\\ufeff", 6));
    struct config *again = NULL;
    struct buf message;
    char text[256];
    buf_init_fixed(&message, text, sizeof(text));
    assert_int_equal(config_load_text("shown", buf_view(&shown), &again, &message), ERR_OK);
    assert_string_equal(again->personas[0].prompt,
                        "a\n\tb \xc2\x85\xe2\x80\xa8\xef\xbb\xbf\xf0\x9f\x98\x80");
    assert_true(again->models[0].temperature > 0.6999 && again->models[0].temperature < 0.7001);
    buf_fini(&shown);
    config_free(&again);
    config_free(&l.config);
}

static void secrets_are_not_shown(void **state)
{
    (void)state;
    struct loaded l = load_set("auth.hs256_secret=xyzzyxyzzyxyzzyxyzzyxyzzyxyzzyxyzzy", NULL);
    good(&l);
    struct buf shown;
    buf_init(&shown, 1 << 20);
    config_show(l.config, &shown);
    buf_byte(&shown, 0);
    assert_null(strstr((char *)shown.at, "xyzzy"));
    assert_non_null(strstr((char *)shown.at, "# hs256_secret: set, not shown\n"));
    buf_fini(&shown);
    config_free(&l.config);
}

static void reference_has_every_key(void **state)
{
    (void)state;
    struct buf page;
    buf_init(&page, 1 << 20);
    config_reference(&page);
    buf_byte(&page, 0);
    assert_false(page.failed);
    for (size_t i = 0; i < config_fields_count; i++) {
        char cell[80];
        snprintf(cell, sizeof(cell), "\n| `%s` | ", config_fields[i].key);
        assert_non_null(strstr((char *)page.at, cell));
    }
    assert_non_null(strstr((char *)page.at, "## `personas[].examples[]`"));
    assert_non_null(strstr((char *)page.at, "| `timeouts.head` | 10s | 100ms to 10m "));
    buf_fini(&page);
}

/* Every allocation fails once: the answer is ERR_FULL with a message, and nothing leaks. */
static void memory_may_run_out_anywhere(void **state)
{
    (void)state;
    static const char yaml[] = "models: [{name: a, url: http://a/}]\nroles: [edge]\n"
                               "personas: [{id: p, suggestions: [a, b]}]\n";
    uint64_t before = mem_used_bytes();
    enum err err = ERR_FULL;
    for (uint64_t n = 1; err == ERR_FULL; n++) {
        struct config *c = NULL;
        struct buf message;
        char text[256];
        assert_true(n < 1000);
        buf_init_fixed(&message, text, sizeof(text));
        mem_fail_at(n);
        err = config_load_text("k.yaml", bytes_of(yaml), &c, &message);
        mem_fail_at(0);
        assert_true(err == ERR_OK || (err == ERR_FULL && c == NULL && message.count > 0));
        config_free(&c);
        assert_true(mem_used_bytes() == before);
    }
    assert_int_equal(err, ERR_OK);
}

static void limits_of_lists_are_kept(void **state)
{
    (void)state;
    struct buf yaml;
    buf_init(&yaml, 1 << 20);
    buf_text(&yaml, "models:\n");
    for (int i = 0; i < CONFIG_MODELS_MAX + 1; i++)
        buf_printf(&yaml, "- {name: m%d, url: http://a}\n", i);
    buf_byte(&yaml, 0);
    refused((char *)yaml.at, "k.yaml:1: models: has 65 elements; allowed: at most 64");
    buf_fini(&yaml);
    buf_init(&yaml, 1 << 20);
    for (int i = 0; i < NODE_MEMBERS_MAX + 1; i++)
        buf_printf(&yaml, "k%d: 1\n", i);
    buf_byte(&yaml, 0);
    refused((char *)yaml.at, "k.yaml:513: too many keys; allowed: 512 in one map");
    buf_fini(&yaml);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_gives_the_defaults),
        cmocka_unit_test(defaults_are_within_their_limits),
        cmocka_unit_test(no_key_is_also_a_section),
        cmocka_unit_test(local_model_and_kit_are_built_in),
        cmocka_unit_test(local_prompt_fits_its_slot),
        cmocka_unit_test(configured_models_replace_the_local_one),
        cmocka_unit_test(local_model_can_stand_beside_others),
        cmocka_unit_test(no_model_at_all_is_a_warning),
        cmocka_unit_test(later_sources_win),
        cmocka_unit_test(environment_reaches_every_key),
        cmocka_unit_test(unknown_variables_are_warnings_only),
        cmocka_unit_test(a_bad_variable_is_named),
        cmocka_unit_test(units_are_understood),
        cmocka_unit_test(numbers_are_shown_as_they_are_read),
        cmocka_unit_test(unknown_keys_name_the_nearest),
        cmocka_unit_test(a_key_is_set_once),
        cmocka_unit_test(dotted_and_nested_keys_are_the_same),
        cmocka_unit_test(wrong_types_say_what_is_allowed),
        cmocka_unit_test(ranges_are_kept),
        cmocka_unit_test(words_with_meaning_are_checked),
        cmocka_unit_test(roles_may_be_a_list),
        cmocka_unit_test(models_need_a_name_and_a_url),
        cmocka_unit_test(personas_are_checked),
        cmocka_unit_test(api_keys_come_as_words_or_files),
        cmocka_unit_test(api_keys_are_checked),
        cmocka_unit_test(terms_have_sides),
        cmocka_unit_test(keys_of_later_releases_are_warnings),
        cmocka_unit_test(weak_secrets_are_warnings),
        cmocka_unit_test(unreadable_files_are_named),
        cmocka_unit_test(broken_yaml_is_placed),
        cmocka_unit_test(empty_files_are_fine),
        cmocka_unit_test(sets_are_checked),
        cmocka_unit_test(elements_may_come_in_any_order_but_not_be_missing),
        cmocka_unit_test(later_values_replace_whole_ones),
        cmocka_unit_test(the_default_is_found),
        cmocka_unit_test(what_is_shown_loads_to_the_same),
        cmocka_unit_test(shown_values_survive),
        cmocka_unit_test(secrets_are_not_shown),
        cmocka_unit_test(reference_has_every_key),
        cmocka_unit_test(memory_may_run_out_anywhere),
        cmocka_unit_test(limits_of_lists_are_kept),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
