/* Making, freeing and routing the messages of messages.h. */
#include "bus/messages.h"

#include "base/hash.h"
#include "base/mem.h"

const char *run_end_name(enum run_end e)
{
    static const char *const names[] = {"complete", "stopped", "failed", "blocked"};
    return names[e];
}

void command_args_free(struct command_args *a)
{
    blob_unref(&a->text);
    blob_unref(&a->title);
    blob_unref(&a->query);
    blob_unref(&a->name);
    blob_unref(&a->meta);
    blob_unref(&a->context);
    blob_unref(&a->epoch);
    mem_free(a->members);
    a->members = NULL;
    a->members_count = 0;
}

static void run_start_free(struct bus_run_start *s)
{
    blob_unref(&s->question);
    blob_unref(&s->kept);
    blob_unref(&s->context);
}

static void bus_drop(struct msg *m)
{
    switch ((enum bus_kind)m->kind) {
    case BUS_COMMAND: command_args_free(&((struct bus_command *)(void *)m)->args); break;
    case BUS_ANSWER: blob_unref(&((struct bus_answer *)(void *)m)->body); break;
    case BUS_SUBSCRIBED:
        blob_unref(&((struct bus_subscribed *)(void *)m)->publications);
        blob_unref(&((struct bus_subscribed *)(void *)m)->data);
        break;
    case BUS_PUBLISH: blob_unref(&((struct bus_publish *)(void *)m)->data); break;
    case BUS_RUN_START: run_start_free((struct bus_run_start *)(void *)m); break;
    case BUS_RUN_TEXT:
        blob_unref(&((struct bus_run_text *)(void *)m)->text);
        blob_unref(&((struct bus_run_text *)(void *)m)->reasoning);
        break;
    case BUS_SUBSCRIBE:
    case BUS_UNSUBSCRIBE:
    case BUS_KICK:
    case BUS_INBOX:
    case BUS_RUN_CANCEL:
    case BUS_RUN_STATE:
    case BUS_RUN_END:
    case BUS_WAKE:
    case BUS_DRAIN: break;
    }
    mem_free(m);
}

void *bus_new(enum bus_kind kind, size_t bytes, enum port port)
{
    struct msg *m = msg_new(port, (uint16_t)kind, bytes);
    m->drop = bus_drop;
    return m;
}

const char *command_name(enum command c)
{
    static const char *const names[] = {
#define BUS_WORD(name, word) word,
        BUS_COMMANDS(BUS_WORD)
#undef BUS_WORD
    };
    return c < COMMANDS_COUNT ? names[c] : "";
}

struct engine *bus_home_conv(struct bytes conv)
{
    return engine_at(hash_slot(conv) % engines_count());
}

struct engine *bus_home_user(struct bytes app, struct bytes user)
{
    uint8_t room[CHANNEL_KEY_BYTES_MAX];
    struct channel_key key = {.kind = CHANNEL_INBOX};
    CHECK(app.count <= ID_BYTES_MAX && user.count <= NAME_BYTES_MAX);
    key.app.count = (uint8_t)app.count;
    memcpy(key.app.at, app.at, app.count);
    key.user.count = (uint8_t)user.count;
    if (user.count > 0)
        memcpy(key.user.at, user.at, user.count);
    return engine_at(hash_slot(channel_key_bytes(&key, room)) % engines_count());
}

/* Appends; the room is CHANNEL_KEY_BYTES_MAX by the types of its callers, and the longest key is
 * 1 + 64 + 1 + 128 bytes. */
static size_t key_put(uint8_t *room, size_t at, struct bytes b)
{
    if (b.count > 0)
        memcpy(room + at, b.at, b.count);
    return at + b.count;
}

struct bytes channel_key_bytes(const struct channel_key *k, uint8_t room[CHANNEL_KEY_BYTES_MAX])
{
    size_t count = 0;
    switch (k->kind) {
    case CHANNEL_CONV:
        room[count++] = 'c';
        count = key_put(room, count, id_bytes(&k->conv));
        break;
    case CHANNEL_INBOX:
        room[count++] = '#';
        count = key_put(room, count, id_bytes(&k->app));
        room[count++] = 0x1f;
        count = key_put(room, count, name_bytes(&k->user));
        break;
    }
    return (struct bytes){room, count};
}

struct bytes channel_name(const struct channel_key *k, uint8_t room[CHANNEL_KEY_BYTES_MAX])
{
    size_t count = 0;
    switch (k->kind) {
    case CHANNEL_CONV:
        count = key_put(room, 0, bytes_of("conv:"));
        count = key_put(room, count, id_bytes(&k->conv));
        break;
    case CHANNEL_INBOX:
        room[count++] = '#';
        count = key_put(room, count, name_bytes(&k->user));
        break;
    }
    return (struct bytes){room, count};
}

static struct bus_answer *answer_new(const struct address *to)
{
    struct bus_answer *a = BUS_NEW(ANSWER, bus_answer, (enum port)to->port);
    a->to = *to;
    return a;
}

void bus_answer_result(const struct address *to, struct blob *body)
{
    if (body == NULL) {
        bus_answer_error(to, 100, true, NULL, "out of memory; ask again in a moment");
        return;
    }
    struct bus_answer *a = answer_new(to);
    a->body = body;
    engine_post(engine_at(to->engine), &a->msg);
}

void bus_answer_error(const struct address *to, uint32_t code, bool temporary, const char *field,
                      const char *message)
{
    struct bus_answer *a = answer_new(to);
    a->code = code;
    a->temporary = temporary;
    a->field = field;
    a->body = blob_copy(bytes_of(message));
    engine_post(engine_at(to->engine), &a->msg);
}
