/* What one value cannot know: rules between values, words with a meaning, files with keys. */
#include "codec/utf8.h"
#include "config/config_priv.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>

#define SECRET_BYTES_GOOD 32

/* The place of `path`, or of what stands nearest above it when it was not written at all. */
static struct place place_near(const struct load *l, const char *path)
{
    char shorter[CHECK_PATH_BYTES_MAX];
    (void)snprintf(shorter, sizeof(shorter), "%s", path);
    for (;;) { /* one dot less each time */
        const struct node *n = tree_find(l->root, shorter);
        if (n != NULL)
            return n->place;
        char *dot = strrchr(shorter, '.');
        if (dot == NULL)
            return (struct place){"configuration", 0};
        *dot = '\0';
    }
}

enum err check_fail(struct load *l, const char *path, const char *format, ...)
{
    char detail[400];
    va_list args;
    va_start(args, format);
    (void)vsnprintf(detail, sizeof(detail), format, args);
    va_end(args);
    return load_fail_at(l, place_near(l, path), "%s: %s", path, detail);
}

const char *check_path(char *block, const char *list, size_t index, const char *key)
{
    (void)snprintf(block, CHECK_PATH_BYTES_MAX, "%s.%zu%s%s", list, index,
                   key[0] == '\0' ? "" : ".", key);
    return block;
}

/* "127.0.0.1:8080", "[::1]:0", "localhost:80". */
static bool listen_is_good(const char *listen)
{
    const char *colon = strrchr(listen, ':');
    int64_t port;
    if (colon == NULL || colon == listen)
        return false;
    if (!value_number(bytes_of(colon + 1), "count", &port) || port > 65535)
        return false;
    struct bytes host = bytes_make(listen, (size_t)(colon - listen));
    bool is_bracketed = host.count > 2 && host.at[0] == '[' && host.at[host.count - 1] == ']';
    for (size_t i = 0; i < host.count; i++)
        if (host.at[i] <= ' ' || host.at[i] > '~' || (host.at[i] == ':' && !is_bracketed))
            return false;
    return true;
}

static bool is_one_of(struct bytes word, const char *const *words, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (bytes_is(word, words[i]))
            return true;
    return false;
}

static bool roles_are_good(const char *roles)
{
    static const char *const known[] = {"edge", "reply", "work"};
    const char *at = roles;
    for (;;) { /* one word of the setting each time */
        size_t bytes = strcspn(at, ",");
        if (!is_one_of(bytes_make(at, bytes), known, ARRAY_COUNT(known)))
            return false;
        if (at[bytes] == '\0')
            return true;
        at += bytes + 1;
    }
}

static enum err check_texts(struct load *l)
{
    static const char *const levels[] = {"debug", "info", "warn", "error"};
    static const char *const stores[] = {"sqlite", "mem"};
    const struct config *c = l->config;
    struct id node;
    if (!listen_is_good(c->listen))
        return check_fail(l, "listen", "\"%.64s\"; allowed: address:port, [address]:port",
                          c->listen);
    if (c->data_dir[0] == '\0')
        return check_fail(l, "data_dir", "is empty; allowed: a folder");
    if (!is_one_of(bytes_of(c->store), stores, ARRAY_COUNT(stores)))
        return check_fail(l, "store", "\"%.64s\"; allowed: sqlite, mem", c->store);
    if (strcmp(c->bus, "local") != 0)
        return check_fail(l, "bus", "\"%.64s\"; allowed: local", c->bus);
    if (!roles_are_good(c->roles))
        return check_fail(l, "roles", "\"%.64s\"; allowed: some of edge, reply, work", c->roles);
    if (c->node[0] != '\0' && id_parse(bytes_of(c->node), &node) != ERR_OK)
        return check_fail(l, "node", "\"%.64s\"; allowed: at most %d of A-Z a-z 0-9 _ -", c->node,
                          ID_BYTES_MAX);
    if (!is_one_of(bytes_of(c->log_level), levels, ARRAY_COUNT(levels)))
        return check_fail(l, "log.level", "\"%.64s\"; allowed: debug, info, warn, error",
                          c->log_level);
    return ERR_OK;
}

static enum err check_numbers(struct load *l)
{
    const struct config *c = l->config;
    if (c->send_ephemeral_bytes_max > c->send_bytes_max)
        return check_fail(l, "limits.send_ephemeral",
                          "is larger than limits.send; allowed: at "
                          "most %lld",
                          (long long)c->send_bytes_max);
    if (c->text_bytes_max > c->frame_bytes_max)
        return check_fail(l, "limits.text", "is larger than limits.frame; allowed: at most %lld",
                          (long long)c->frame_bytes_max);
    return ERR_OK;
}

bool check_is_printable(const char *text)
{
    for (const char *at = text; *at != '\0'; at++)
        if ((unsigned char)*at < ' ' || *at == 0x7f)
            return false;
    return true;
}

/* A key travels in a header line: one visible word. */
static bool key_is_good(const char *key)
{
    if (key[0] == '\0')
        return false;
    for (const char *at = key; *at != '\0'; at++)
        if (*at <= ' ' || *at > '~')
            return false;
    return true;
}

enum err check_key_read(struct load *l, const char *path, const char *file, const char **out)
{
    struct bytes content;
    if (!l->files_read) {
        *out = "unread";
        return ERR_OK;
    }
    enum err err = file_read(&l->scratch, file, CONFIG_KEY_FILE_BYTES_MAX, &content);
    if (err == ERR_IO)
        return check_fail(l, path, "\"%.128s\" cannot be read: %s; allowed: a file with one key",
                          file, strerrordesc_np(errno));
    if (err != ERR_OK)
        return check_fail(l, path, "\"%.128s\" is too long; allowed: at most %d bytes", file,
                          CONFIG_KEY_FILE_BYTES_MAX);
    while (content.count > 0 && content.at[content.count - 1] <= ' ')
        content.count--;
    const char *key = arena_string(&l->config->arena, content);
    if (key == NULL)
        return load_full(l);
    if (strlen(key) != content.count || !key_is_good(key))
        return check_fail(l, path, "\"%.128s\" does not hold a key; allowed: one word", file);
    *out = key;
    return ERR_OK;
}

static enum err check_api_key(struct load *l, struct config_api_key *k, size_t index)
{
    char path[CHECK_PATH_BYTES_MAX];
    struct id id;
    enum err err = ERR_OK;
    (void)check_path(path, "auth.api_keys", index, "");
    if ((k->key[0] == '\0') == (k->key_file[0] == '\0'))
        return check_fail(l, path, "%s; allowed: a key or a key_file",
                          k->key[0] == '\0' ? "has no key" : "has a key and a key_file");
    if (k->key_file[0] != '\0')
        err = check_key_read(l, check_path(path, "auth.api_keys", index, "key_file"), k->key_file,
                             &k->key);
    else if (!key_is_good(k->key))
        return check_fail(l, path, "is not a key; allowed: one word of visible ASCII");
    if (err != ERR_OK)
        return err;
    for (size_t i = 0; l->files_read && i < index; i++)
        if (strcmp(l->config->api_keys[i].key, k->key) == 0)
            return check_fail(l, path, "is the same key as auth.api_keys.%zu; allowed: once", i);
    if (id_parse(bytes_of(k->app), &id) != ERR_OK)
        return check_fail(l, check_path(path, "auth.api_keys", index, "app"),
                          "is not an id; allowed: 1 to %d of A-Z a-z 0-9 _ -", ID_BYTES_MAX);
    for (size_t i = 0; i < k->scopes_count; i++)
        if (!key_is_good(k->scopes[i]))
            return check_fail(l, check_path(path, "auth.api_keys", index, "scopes"),
                              "hold something that is not a word; allowed: a list of words");
    return ERR_OK;
}

static enum err check_auth(struct load *l)
{
    struct config *c = l->config;
    for (size_t i = 0; i < c->api_keys_count; i++) {
        enum err err = check_api_key(l, (struct config_api_key *)&c->api_keys[i], i);
        if (err != ERR_OK)
            return err;
    }
    size_t secret = strlen(c->auth_hs256_secret);
    if (secret > 0 && secret < SECRET_BYTES_GOOD)
        load_warn(l, tree_find(l->root, "auth.hs256_secret"),
                  "has %zu bytes; %d or more cannot be guessed", secret, SECRET_BYTES_GOOD);
    if (c->auth_insecure == CONFIG_TRUE)
        load_warn(l, tree_find(l->root, "auth.insecure"),
                  "everybody may do everything: for tests only");
    return ERR_OK;
}

static enum err check_terms(struct load *l)
{
    char path[CHECK_PATH_BYTES_MAX];
    struct config *c = l->config;
    for (size_t i = 0; i < c->terms_count; i++) {
        struct config_term *t = (struct config_term *)&c->terms[i];
        bool is_both = strcmp(t->side, "both") == 0;
        struct id id;
        t->user_side = is_both || strcmp(t->side, "user") == 0;
        t->ai_side = is_both || strcmp(t->side, "ai") == 0;
        if (t->term[0] == '\0')
            return check_fail(l, check_path(path, "safety.terms", i, "term"),
                              "is not set; allowed: a word or words");
        if (!t->user_side && !t->ai_side)
            return check_fail(l, check_path(path, "safety.terms", i, "side"),
                              "\"%s\"; allowed: user, ai, both", t->side);
        if (id_parse(bytes_of(t->category), &id) != ERR_OK)
            return check_fail(l, check_path(path, "safety.terms", i, "category"),
                              "is not an id; allowed: 1 to %d of A-Z a-z 0-9 _ -", ID_BYTES_MAX);
    }
    return ERR_OK;
}

enum err check_all(struct load *l)
{
    enum err (*const checks[])(struct load *) = {check_texts,    check_numbers, check_models,
                                                 check_personas, check_auth,    check_terms};
    for (size_t i = 0; i < ARRAY_COUNT(checks); i++) {
        enum err err = checks[i](l);
        if (err != ERR_OK)
            return err;
    }
    return ERR_OK;
}
