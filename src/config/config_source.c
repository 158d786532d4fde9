/* Where settings come from: the file, the environment, the command line. */
#include "config/config_priv.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#define ENVIRONMENT_PREFIX "KITH_"

/* Folders and programs of the installation: read by the Makefile and by main, not settings. */
static const char *const environment_reserved[] = {"KITH_MODELS", "KITH_SHARE", "KITH_PYTHON"};

static enum err fd_read(struct arena *a, int fd, size_t bytes_max, struct bytes *out)
{
    /* One byte more than allowed shows that the file is too long. */
    uint8_t *at = arena_take(a, bytes_max + 1);
    size_t count = 0;
    if (at == NULL)
        return ERR_FULL;
    while (count <= bytes_max) {
        ssize_t got = read(fd, at + count, bytes_max + 1 - count);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return ERR_IO;
        if (got == 0)
            break;
        count += (size_t)got;
    }
    if (count > bytes_max)
        return ERR_FULL;
    *out = (struct bytes){at, count};
    return ERR_OK;
}

enum err file_read(struct arena *a, const char *file, size_t bytes_max, struct bytes *out)
{
    int fd = open(file, O_RDONLY | O_CLOEXEC | O_NOCTTY);
    if (fd < 0)
        return ERR_IO;
    enum err err = fd_read(a, fd, bytes_max, out);
    int kept = errno;
    (void)close(fd); /* nothing was written */
    errno = kept;
    return err;
}

enum err source_file(struct load *l, const char *file)
{
    struct bytes content;
    struct place place = {file, 0};
    enum err err = file_read(&l->scratch, file, CONFIG_FILE_BYTES_MAX, &content);
    if (err == ERR_IO)
        return load_fail_at(l, place, "cannot be read: %s; allowed: a YAML file",
                            strerrordesc_np(errno));
    if (err == ERR_FULL)
        return load_fail_at(l, place, "is too long; allowed: %u bytes", CONFIG_FILE_BYTES_MAX);
    return yaml_read(l, file, content);
}

/* True when `name` begins with `key` as the environment spells it; `rest_out` is what follows. */
static bool name_begins(struct bytes name, const char *key, struct bytes *rest_out)
{
    size_t count = strlen(key);
    if (name.count < count)
        return false;
    for (size_t i = 0; i < count; i++) {
        uint8_t wanted = (uint8_t)key[i];
        if (wanted == '.')
            wanted = '_';
        else if (wanted >= 'a' && wanted <= 'z')
            wanted = (uint8_t)(wanted - 'a' + 'A');
        if (name.at[i] != wanted)
            return false;
    }
    *rest_out = (struct bytes){name.at + count, name.count - count};
    return true;
}

/* Takes "_12" off the front. */
static bool index_take(struct bytes *rest, struct bytes *index_out)
{
    size_t count = 1;
    if (rest->count < 2 || rest->at[0] != '_')
        return false;
    while (count < rest->count && rest->at[count] >= '0' && rest->at[count] <= '9')
        count++;
    if (count == 1 || (count < rest->count && rest->at[count] != '_'))
        return false;
    *index_out = (struct bytes){rest->at + 1, count - 1};
    rest->at += count;
    rest->count -= count;
    return true;
}

/* One word of the way: which field of `fields` the name goes on with. */
static const struct field *environment_step(const struct field *fields, size_t count,
                                            struct bytes *name, struct bytes *index_out)
{
    for (size_t i = 0; i < count; i++) {
        struct bytes rest;
        if (fields[i].kind == FIELD_LATER || !name_begins(*name, fields[i].key, &rest))
            continue;
        *index_out = (struct bytes){NULL, 0};
        bool is_end = rest.count == 0;
        if (fields[i].kind == FIELD_LIST ? index_take(&rest, index_out) : is_end) {
            *name = rest;
            return &fields[i];
        }
    }
    return NULL;
}

/* KITH_MODELS_0_API_KEY_FILE -> models.0.api_key_file, by the table: '_' alone cannot tell where a
 * word ends. */
static bool environment_path(struct bytes name, struct buf *path)
{
    const struct field *fields = config_fields;
    size_t count = config_fields_count;
    for (;;) { /* as deep as the table is */
        struct bytes index;
        const struct field *f = environment_step(fields, count, &name, &index);
        if (f == NULL)
            return false;
        buf_text(path, f->key);
        if (f->kind != FIELD_LIST)
            return !path->failed;
        buf_byte(path, '.');
        buf_bytes(path, index);
        if (name.count == 0)
            return !path->failed;
        name.at++; /* the '_' */
        name.count--;
        buf_byte(path, '.');
        fields = f->list->fields;
        count = f->list->fields_count;
    }
}

static bool is_reserved(struct bytes name)
{
    for (size_t i = 0; i < ARRAY_COUNT(environment_reserved); i++)
        if (bytes_is(name, environment_reserved[i]))
            return true;
    return false;
}

static enum err environment_set(struct load *l, struct bytes name, struct bytes value)
{
    char path[256];
    struct buf path_buf;
    struct buf source;
    size_t prefix = strlen(ENVIRONMENT_PREFIX);
    char block[300];
    buf_init_fixed(&source, block, sizeof(block));
    buf_text(&source, "environment ");
    buf_put(&source, name.at, size_min(name.count, 200));
    struct place place = {arena_string(&l->scratch, buf_view(&source)), 0};
    if (place.source == NULL)
        return load_full(l);
    buf_init_fixed(&path_buf, path, sizeof(path));
    if (!environment_path((struct bytes){name.at + prefix, name.count - prefix}, &path_buf)) {
        struct node n = {.place = place};
        load_warn(l, &n, "there is no such setting; it is ignored");
        return ERR_OK;
    }
    if (value.count == 0)
        return ERR_OK;
    const char *kept = arena_string(&l->scratch, buf_view(&path_buf));
    if (kept == NULL)
        return load_full(l);
    return tree_set(l, bytes_of(kept), value, place);
}

enum err source_environment(struct load *l, char *const *environment)
{
    enum err err = ERR_OK;
    if (environment == NULL)
        return ERR_OK;
    for (size_t i = 0; err == ERR_OK && environment[i] != NULL; i++) {
        const char *equals = strchr(environment[i], '=');
        if (equals == NULL)
            continue;
        struct bytes name = bytes_make(environment[i], (size_t)(equals - environment[i]));
        if (name.count <= strlen(ENVIRONMENT_PREFIX) ||
            memcmp(name.at, ENVIRONMENT_PREFIX, strlen(ENVIRONMENT_PREFIX)) != 0 ||
            is_reserved(name))
            continue;
        err = environment_set(l, name, bytes_of(equals + 1));
    }
    return err;
}

enum err source_sets(struct load *l, const struct config_set *sets, size_t count)
{
    struct place place = {"--set", 0};
    enum err err = ERR_OK;
    for (size_t i = 0; err == ERR_OK && i < count; i++) {
        const char *equals = strchr(sets[i].assignment, '=');
        if (equals == NULL)
            return load_fail_at(l, place, "\"%.128s\" has no '='; allowed: key=value",
                                sets[i].assignment);
        struct bytes key = bytes_make(sets[i].assignment, (size_t)(equals - sets[i].assignment));
        err = tree_set(l, key, bytes_of(equals + 1), place);
    }
    return err;
}
