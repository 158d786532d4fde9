/* The command table: which fields each command takes, how each field is read, where it goes. */
#include "command/command.h"

#include "base/mem.h"
#include "codec/json.h"
#include "codec/utf8.h"
#include "diag/diag.h"
#include "rule/rule.h"
#include <stdio.h>

#define COMMAND_USERS_MAX            65536
#define COMMAND_MEMBERS_MAX          100
#define COMMAND_JSON_FIELD_BYTES_MAX 16384
#define COMMAND_QUERY_BYTES_MAX      256

struct command_desk {
    struct engine *engine;
    const struct config *config;
    struct rate_table rates;
};

/* What a field is in JSON, and how it is read. */
enum field_type {
    FIELD_ID,
    FIELD_NAME,
    FIELD_TEXT,   /* a string; its limit is the caller's */
    FIELD_OBJECT, /* any JSON object, kept as its text */
    FIELD_I64,
    FIELD_U64,
    FIELD_BOOL,
    FIELD_DURING,
    FIELD_MEMBERS,
    FIELD_CURSOR
};

/* X(NAME, json key, type, member of command_args, its `has_` member or none) */
#define FIELDS(X)                                 \
    X(CONV, "conv", FIELD_ID, conv)               \
    X(MSG, "msg", FIELD_ID, msg)                  \
    X(RUN, "run", FIELD_ID, run)                  \
    X(CID, "cid", FIELD_ID, cid)                  \
    X(PARENT, "parent", FIELD_ID, parent)         \
    X(PERSONA, "persona", FIELD_ID, persona)      \
    X(MODEL, "model", FIELD_NAME, model)          \
    X(TEXT, "text", FIELD_TEXT, text)             \
    X(TITLE, "title", FIELD_TEXT, title)          \
    X(QUERY, "query", FIELD_TEXT, query)          \
    X(NAME, "name", FIELD_TEXT, name)             \
    X(META, "meta", FIELD_OBJECT, meta)           \
    X(CONTEXT, "context", FIELD_OBJECT, context)  \
    X(MEMBERS, "members", FIELD_MEMBERS, members) \
    X(OFFSET, "offset", FIELD_U64, offset)        \
    X(LIMIT, "limit", FIELD_I64, limit)           \
    X(BEFORE, "before", FIELD_U64, before)        \
    X(CURSOR, "before", FIELD_CURSOR, before_ms)  \
    X(DURING, "during_run", FIELD_DURING, during) \
    X(ARCHIVED, "archived", FIELD_BOOL, archived) \
    X(ON, "on", FIELD_BOOL, on)                   \
    X(CONTINUE, "continue", FIELD_BOOL, go_on)    \
    X(ANSWER, "answer", FIELD_BOOL, no_answer)

enum field {
#define FIELD_ENUM(name, key, type, member) F_##name,
    FIELDS(FIELD_ENUM)
#undef FIELD_ENUM
        FIELDS_COUNT
};

struct field_spec {
    const char *key;
    enum field_type type;
    size_t at;
};

static const struct field_spec field_specs[FIELDS_COUNT] = {
#define FIELD_SPEC(name, key, type, member) {key, type, offsetof(struct command_args, member)},
    FIELDS(FIELD_SPEC)
#undef FIELD_SPEC
};

#define B(name) (1u << F_##name)

/* Where a command is carried out. */
enum route { ROUTE_CONV, ROUTE_NEW_CONV, ROUTE_USER, ROUTE_DOOR };

struct command_spec {
    uint32_t required;
    uint32_t optional;
    enum route route;
};

static const struct command_spec command_specs[COMMANDS_COUNT] = {
    [CMD_GUEST_CREATE] = {0, B(NAME), ROUTE_DOOR},
    [CMD_CONV_CREATE] = {0, B(CID) | B(TITLE) | B(PERSONA) | B(MEMBERS) | B(META), ROUTE_NEW_CONV},
    [CMD_CONV_LIST] = {0, B(LIMIT) | B(CURSOR) | B(QUERY), ROUTE_USER},
    [CMD_CONV_OPEN] = {B(CONV), B(LIMIT) | B(BEFORE), ROUTE_CONV},
    [CMD_CONV_UPDATE] = {B(CONV), B(TITLE) | B(ARCHIVED) | B(PERSONA), ROUTE_CONV},
    [CMD_CONV_DELETE] = {B(CONV), 0, ROUTE_CONV},
    [CMD_CHAT_SEND] = {B(CONV) | B(CID) | B(TEXT),
                       B(PARENT) | B(PERSONA) | B(MODEL) | B(DURING) | B(ANSWER) | B(CONTEXT),
                       ROUTE_CONV},
    [CMD_MSG_REGENERATE] = {B(MSG) | B(CID), B(CONV) | B(CONTINUE) | B(PERSONA) | B(MODEL),
                            ROUTE_CONV},
    [CMD_RUN_STOP] = {0, B(RUN) | B(CONV), ROUTE_CONV},
    [CMD_RUN_GET] = {B(RUN), B(CONV), ROUTE_CONV},
    [CMD_TYPING_SET] = {B(CONV) | B(ON), 0, ROUTE_CONV},
    [CMD_READ_SET] = {B(CONV) | B(OFFSET), 0, ROUTE_CONV},
    [CMD_HISTORY] = {0, 0, ROUTE_CONV},
};

static enum err refuse(struct command_refusal *no, uint32_t code, const char *field,
                       const char *what)
{
    no->code = code;
    no->temporary = false;
    no->retry_ms = 0;
    no->field = field;
    if (field == NULL)
        (void)snprintf(no->message, sizeof(no->message), "%s", what);
    else
        (void)snprintf(no->message, sizeof(no->message), "%s: %s", field, what);
    return ERR_PROTO;
}

static enum err read_id(const struct json *v, struct id *out, const char *key,
                        struct command_refusal *no)
{
    if (v->kind != JSON_STRING || id_parse(v->text, out) != ERR_OK)
        return refuse(no, 107, key, "must be a string of 1 to 64 of A-Z a-z 0-9 _ -");
    return ERR_OK;
}

static enum err read_name(const struct json *v, struct name *out, const char *key,
                          struct command_refusal *no)
{
    if (v->kind != JSON_STRING || name_parse(v->text, out) != ERR_OK)
        return refuse(no, 107, key, "must be a string of at most 128 bytes, no control characters");
    return ERR_OK;
}

static enum err read_blob(struct bytes content, struct blob **out, const char *key,
                          struct command_refusal *no)
{
    struct blob *b = blob_copy(content);
    if (b == NULL) {
        (void)refuse(no, 100, key, "out of memory; ask again in a moment");
        no->temporary = true;
        return ERR_FULL;
    }
    blob_unref(out);
    *out = b;
    return ERR_OK;
}

static enum err read_text(const struct json *v, struct blob **out, const char *key,
                          struct command_refusal *no)
{
    if (v->kind != JSON_STRING)
        return refuse(no, 107, key, "must be a string");
    if (v->text.count > 0 && memchr(v->text.at, 0, v->text.count) != NULL)
        return refuse(no, 107, key, "must not hold U+0000");
    return read_blob(v->text, out, key, no);
}

static enum err read_object(const struct json *v, struct blob **out, const char *key,
                            struct command_refusal *no)
{
    if (v->kind != JSON_OBJECT)
        return refuse(no, 107, key, "must be an object");
    if (v->raw.count > COMMAND_JSON_FIELD_BYTES_MAX)
        return refuse(no, 107, key, "must be at most 16 KiB of JSON");
    enum err err = read_blob(v->raw, out, key, no);
    if (err == ERR_OK)
        (*out)->count = (uint32_t)json_unbreak((*out)->at, (*out)->count);
    return err;
}

static enum err read_i64(const struct json *v, int64_t least, int64_t *out, const char *key,
                         struct command_refusal *no)
{
    if (v->kind != JSON_NUMBER || !json_i64(v, out) || *out < least)
        return refuse(no, 107, key,
                      least < 0 ? "must be a whole number" : "must be a whole number, 0 or more");
    return ERR_OK;
}

static enum err read_bool(const struct json *v, bool *out, const char *key,
                          struct command_refusal *no)
{
    if (v->kind != JSON_TRUE && v->kind != JSON_FALSE)
        return refuse(no, 107, key, "must be true or false");
    *out = v->kind == JSON_TRUE;
    return ERR_OK;
}

static enum err read_during(const struct json *v, enum during_run *out, const char *key,
                            struct command_refusal *no)
{
    if (v->kind == JSON_STRING && bytes_is(v->text, "queue"))
        *out = DURING_QUEUE;
    else if (v->kind == JSON_STRING && bytes_is(v->text, "cancel"))
        *out = DURING_CANCEL;
    else if (v->kind == JSON_STRING && bytes_is(v->text, "reject"))
        *out = DURING_REJECT;
    else
        return refuse(no, 107, key, "must be one of queue, cancel, reject");
    return ERR_OK;
}

static enum err read_members(const struct json *v, struct command_args *args, const char *key,
                             struct command_refusal *no)
{
    if (v->kind != JSON_ARRAY || v->count > COMMAND_MEMBERS_MAX)
        return refuse(no, 107, key, "must be an array of at most 100 user names");
    if (v->count == 0)
        return ERR_OK;
    args->members = mem_new_zero(sizeof(struct name) * v->count);
    if (args->members == NULL)
        return refuse(no, 100, key, "out of memory; ask again in a moment");
    for (const struct json *m = v->first; m != NULL; m = m->next) {
        struct name *to = &args->members[args->members_count];
        if (read_name(m, to, key, no) != ERR_OK || to->count == 0)
            return refuse(no, 107, key, "must hold user names of 1 to 128 bytes");
        args->members_count++;
    }
    return ERR_OK;
}

/* conv.list's cursor: "<updated ms>.<conv>". */
static enum err read_cursor(const struct json *v, struct command_args *args, const char *key,
                            struct command_refusal *no)
{
    int64_t ms = 0;
    size_t at = 0;
    if (v->kind == JSON_STRING) {
        while (at < v->text.count && at < 16 && v->text.at[at] >= '0' && v->text.at[at] <= '9')
            ms = ms * 10 + (v->text.at[at++] - '0');
        if (at > 0 && at < v->text.count && v->text.at[at] == '.' &&
            id_parse(bytes_make(v->text.at + at + 1, v->text.count - at - 1), &args->before_conv) ==
                ERR_OK) {
            args->before_ms = ms;
            return ERR_OK;
        }
    }
    return refuse(no, 107, key, "must be the `next` of an earlier answer");
}

static enum err read_field(const struct field_spec *f, const struct json *v,
                           struct command_args *args, struct command_refusal *no)
{
    void *to = (uint8_t *)args + f->at;
    int64_t number = 0;
    enum err err = ERR_OK;
    switch (f->type) {
    case FIELD_ID: return read_id(v, to, f->key, no);
    case FIELD_NAME: return read_name(v, to, f->key, no);
    case FIELD_TEXT: return read_text(v, to, f->key, no);
    case FIELD_OBJECT: return read_object(v, to, f->key, no);
    case FIELD_I64: return read_i64(v, 0, to, f->key, no);
    case FIELD_U64:
        err = read_i64(v, 0, &number, f->key, no);
        if (err == ERR_OK)
            *(uint64_t *)to = (uint64_t)number;
        return err;
    case FIELD_BOOL: return read_bool(v, to, f->key, no);
    case FIELD_DURING: return read_during(v, to, f->key, no);
    case FIELD_MEMBERS: return read_members(v, args, f->key, no);
    case FIELD_CURSOR: return read_cursor(v, args, f->key, no);
    }
    return ERR_PROTO;
}

/* What is more than the type of one field. */
static enum err check_whole(const struct config *c, enum command command, struct command_args *args,
                            struct command_refusal *no)
{
    if (args->title != NULL && args->title->count > (size_t)c->title_bytes_max)
        return refuse(no, 107, "title", "is over limits.title");
    if (args->query != NULL && args->query->count > COMMAND_QUERY_BYTES_MAX)
        return refuse(no, 107, "query", "must be at most 256 bytes");
    if (args->name != NULL && args->name->count > NAME_BYTES_MAX)
        return refuse(no, 107, "name", "must be at most 128 bytes");
    if (command == CMD_RUN_STOP && id_is_none(&args->run) && id_is_none(&args->conv))
        return refuse(no, 107, "run", "is missing; give `run` or `conv`");
    if (command == CMD_CONV_UPDATE && args->title == NULL && !args->has_archived &&
        id_is_none(&args->persona))
        return refuse(no, 107, "title", "is missing; give title, archived or persona");
    if (!id_is_none(&args->persona) && config_persona_get(c, id_bytes(&args->persona)) == NULL)
        return refuse(no, 107, "persona", "is not configured; see personas[] of the configuration");
    if (args->model.count > 0 && config_model_get(c, name_bytes(&args->model)) == NULL)
        return refuse(no, 107, "model", "is not configured; see models[] of the configuration");
    return ERR_OK;
}

/* A null stands for "not given", except for `parent`, where it means "the first message". */
static enum err read_fields(const struct command_spec *spec, const struct json *root,
                            struct command_args *args, struct command_refusal *no)
{
    for (uint32_t f = 0; f < FIELDS_COUNT; f++) {
        bool required = (spec->required & (1u << f)) != 0;
        if (!required && (spec->optional & (1u << f)) == 0)
            continue;
        const struct json *v = json_get(root, field_specs[f].key);
        if (v == NULL || v->kind == JSON_NULL) {
            if (required)
                return refuse(no, 107, field_specs[f].key, "is missing");
            args->has_parent |= f == F_PARENT && v != NULL;
            continue;
        }
        enum err err = read_field(&field_specs[f], v, args, no);
        if (err != ERR_OK)
            return err;
        args->has_parent |= f == F_PARENT;
        args->has_title |= f == F_TITLE;
        args->has_archived |= f == F_ARCHIVED;
        if (f == F_ANSWER)
            args->no_answer = !args->no_answer;
    }
    return ERR_OK;
}

enum err command_parse(struct arena *a, const struct config *c, enum command command,
                       struct bytes json, struct command_args *out, struct command_refusal *no)
{
    struct json *root = NULL;
    struct json_error at = {0, ""};
    struct command_args args;
    memset(&args, 0, sizeof(args));
    if (json.count > 0) {
        enum err err = json_parse(a, json, (struct json_limits){16, 4096}, &root, &at);
        if (err != ERR_OK || root->kind != JSON_OBJECT) {
            (void)snprintf(no->message, sizeof(no->message),
                           "the arguments must be a JSON object: byte %zu: %s", at.at,
                           err == ERR_OK ? "not an object" : at.what);
            no->code = 107;
            no->temporary = false;
            no->retry_ms = 0;
            no->field = NULL;
            return ERR_PROTO;
        }
    }
    enum err err = read_fields(&command_specs[command], root, &args, no);
    if (err == ERR_OK)
        err = check_whole(c, command, &args, no);
    if (err != ERR_OK) {
        command_args_free(&args);
        return err;
    }
    *out = args;
    return ERR_OK;
}

struct command_desk *command_desk_make(struct engine *e, const struct config *c)
{
    struct command_desk *d = mem_new_zero(sizeof(*d));
    uint64_t seed[2];
    if (d == NULL)
        return NULL;
    engine_random(seed, sizeof(seed));
    d->engine = e;
    d->config = c;
    if (rate_table_init(&d->rates, COMMAND_USERS_MAX, seed) != ERR_OK) {
        mem_free(d);
        return NULL;
    }
    return d;
}

void command_desk_free(struct command_desk **d)
{
    if (*d == NULL)
        return;
    rate_table_fini(&(*d)->rates);
    mem_free(*d);
    *d = NULL;
}

bool command_find(struct bytes name, enum command *out)
{
    if (name.count == 0)
        return false;
    for (uint32_t c = 0; c < COMMANDS_COUNT; c++) {
        if (bytes_is(name, command_name((enum command)c))) {
            *out = (enum command)c;
            return true;
        }
    }
    return false;
}

bool command_may_hurry(struct command_desk *d, const struct who *who, int64_t *retry_ms_out)
{
    uint8_t room[CHANNEL_KEY_BYTES_MAX];
    struct channel_key key = {.kind = CHANNEL_INBOX, .app = who->app, .user = who->user};
    struct rate *r = rate_table_get(&d->rates, channel_key_bytes(&key, room));
    if (who->insecure || r == NULL)
        return true;
    if (rate_take(r, (uint32_t)d->config->user_commands_rate,
                  (uint32_t)d->config->user_commands_burst, 1, engine_now(d->engine), retry_ms_out))
        return true;
    DIAG_COUNT(commands_limited);
    return false;
}

static struct engine *route_of(struct command_desk *d, const struct who *who, enum command command,
                               struct command_args *args)
{
    switch (command_specs[command].route) {
    case ROUTE_NEW_CONV:
        args->conv = id_make('c', engine_wall_ms(d->engine), engine_rng(d->engine));
        return bus_home_conv(id_bytes(&args->conv));
    case ROUTE_USER: return bus_home_user(id_bytes(&who->app), name_bytes(&who->user));
    case ROUTE_CONV:
    case ROUTE_DOOR: break;
    }
    return id_is_none(&args->conv) ? d->engine : bus_home_conv(id_bytes(&args->conv));
}

static void post(struct engine *to, const struct who *who, const struct address *from,
                 enum command command, struct command_args *args, int64_t asked_ns)
{
    struct bus_command *m = BUS_NEW(COMMAND, bus_command, PORT_TALK);
    m->command = command;
    m->who = *who;
    m->from = *from;
    m->args = *args;
    m->asked_ns = asked_ns;
    engine_post(to, &m->msg);
}

void command_post(const struct who *who, const struct address *from, enum command command,
                  struct command_args *args, int64_t asked_ns)
{
    post(bus_home_conv(id_bytes(&args->conv)), who, from, command, args, asked_ns);
}

bool command_memory_is_short(const struct config *c)
{
    if (c->memory_bytes_max == 0 || mem_used_bytes() <= (uint64_t)c->memory_bytes_max)
        return false;
    DIAG_COUNT(memory_refused);
    return true;
}

enum err command_submit(struct command_desk *d, const struct who *who, const struct address *from,
                        enum command command, struct bytes json, struct command_refusal *no)
{
    struct command_args args;
    int64_t retry_ms = 0;
    if (command_specs[command].route == ROUTE_DOOR)
        return refuse(no, 108, NULL, "this command is available over HTTP only");
    if (who->user.count == 0 && !who->insecure) {
        (void)refuse(no, 103, NULL, "this command needs a user; an API key names one with `as`");
        return ERR_DENIED;
    }
    if (command_memory_is_short(d->config)) {
        (void)refuse(no, 111, NULL, "the server is short of memory; ask again in a moment");
        no->temporary = true;
        no->retry_ms = 1000;
        return ERR_FULL;
    }
    if (!command_may_hurry(d, who, &retry_ms)) {
        (void)refuse(no, 111, NULL, "too many commands; ask again in a moment");
        no->temporary = true;
        no->retry_ms = retry_ms;
        return ERR_FULL;
    }
    enum err err = command_parse(engine_turn(d->engine), d->config, command, json, &args, no);
    if (err != ERR_OK)
        return err;
    post(route_of(d, who, command, &args), who, from, command, &args, engine_now(d->engine).ns);
    return ERR_OK;
}
