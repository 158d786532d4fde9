/* connect and refresh: who is it, and what the connect result says. */
#include "session/session_priv.h"

#include <stdio.h>

void session_client_text(const struct session *s, char out[37])
{
    const uint8_t *c = s->client;
    (void)snprintf(out, 37,
                   "%02x%02x%02x%02x-%02x%02x-4%01x%02x-%01x%01x%02x-%02x%02x%02x%02x%02x%02x",
                   c[0], c[1], c[2], c[3], c[4], c[5], c[6] & 0xf, c[7], 8 + (c[8] & 3), c[8] >> 4,
                   c[9], c[10], c[11], c[12], c[13], c[14], c[15]);
}

void session_guest_make(struct engine *e, const struct auth *a, struct bytes display,
                        struct who *who, struct buf *token)
{
    struct caller guest = {.guest = true};
    struct id user = id_make('u', engine_wall_ms(e), engine_rng(e));
    memset(who, 0, sizeof(*who));
    CHECK(id_parse(bytes_of("default"), &who->app) == ERR_OK);
    CHECK(name_parse(id_bytes(&user), &who->user) == ERR_OK);
    if (name_parse(display, &who->display) != ERR_OK)
        who->display.count = 0; /* a name that cannot be shown is no name */
    who->guest = true;
    guest.app = who->app;
    guest.user = who->user;
    guest.display = who->display;
    auth_token_make(a, &guest, engine_wall_ms(e), token);
}

/* What a persona's card says to the page. */
static void put_personas(struct buf *b, const struct config *c)
{
    json_key(b, "personas");
    json_array_open(b);
    for (size_t i = 0; i < c->personas_count; i++) {
        const struct config_persona *p = &c->personas[i];
        json_object_open(b);
        json_put_text(b, "id", bytes_of(p->id));
        json_put_text(b, "name", bytes_of(p->name));
        if (p->greeting[0] != '\0')
            json_put_text(b, "greeting", bytes_of(p->greeting));
        if (p->suggestions_count > 0) {
            json_key(b, "suggestions");
            json_array_open(b);
            for (size_t n = 0; n < p->suggestions_count; n++)
                json_text(b, bytes_of(p->suggestions[n]));
            json_array_close(b);
        }
        json_object_close(b);
    }
    json_array_close(b);
}

static void put_data(struct buf *b, const struct session *s, const struct who *who)
{
    const struct config *c = s->all->config;
    json_key(b, "data");
    json_object_open(b);
    json_key(b, "kith");
    json_object_open(b);
    json_put_i64(b, "protocol", KITH_PROTOCOL);
    json_put_text(b, "version", bytes_of(KITH_VERSION));
    json_put_text(b, "user", name_bytes(&who->user));
    json_put_text(b, "name", name_bytes(&who->display));
    json_put_bool(b, "guest", who->guest);
    if (s->token != NULL)
        json_put_text(b, "token", blob_bytes(s->token));
    json_key(b, "limits");
    json_object_open(b);
    json_put_i64(b, "text_bytes", c->text_bytes_max);
    json_put_i64(b, "parts", 0);
    json_put_i64(b, "file_bytes", 0);
    json_object_close(b);
    put_personas(b, c);
    json_object_close(b);
    json_object_close(b);
}

static int64_t ttl_seconds(const struct session *s)
{
    return i64_max((s->expires_ms - engine_wall_ms(s->all->engine)) / 1000, 1);
}

static void send_result(struct session *s, const struct bus_subscribed *inbox)
{
    struct who who;
    struct buf b;
    char client[37];
    const struct config *c = s->all->config;
    session_who(s, &who);
    session_client_text(s, client);
    buf_init(&b, SESSION_SCRATCH_BYTES_MAX);
    json_object_open(&b);
    json_put_text(&b, "client", bytes_of(client));
    json_put_text(&b, "version", bytes_of("kith " KITH_VERSION));
    json_put_i64(&b, "ping", i64_max(c->ping_ms / 1000, 1));
    json_put_bool(&b, "pong", true);
    if (s->expires_ms > 0) {
        json_put_bool(&b, "expires", true);
        json_put_i64(&b, "ttl", ttl_seconds(s));
    }
    json_put_i64(&b, "time", engine_wall_ms(s->all->engine));
    put_data(&b, s, &who);
    if (inbox != NULL) {
        uint8_t room[CHANNEL_KEY_BYTES_MAX];
        json_key(&b, "subs");
        json_object_open(&b);
        buf_byte(&b, '"');
        json_escape(&b, channel_name(&inbox->key, room));
        buf_text(&b, "\":");
        hub_result(&b, inbox);
        json_object_close(&b);
    }
    json_object_close(&b);
    if (b.failed)
        session_close(s, SESSION_END_OVERLOADED);
    else
        session_reply(s, s->connect_id, "connect", buf_view(&b));
    buf_fini(&b);
    blob_unref(&s->token);
}

static void opened(struct session *s, const struct bus_subscribed *inbox)
{
    struct sessions *all = s->all;
    int64_t half = all->config->ping_ms / 2;
    s->connecting = false;
    session_open_enter(s);
    send_result(s, inbox);
    if (s->state != SESSION_OPEN)
        return;
    timer_set(
        all->engine, &s->timer,
        mono_after_ms(engine_now(all->engine),
                      half + (int64_t)rng_below(engine_rng(all->engine), (uint64_t)half + 1)));
    session_resume(s);
}

/* The inbox's place is known: the connect result can be sent. */
void handshake_inbox(struct session *s, const struct bus_subscribed *m)
{
    if (s->connecting && m->code == 0)
        opened(s, m);
    else if (s->connecting)
        session_refuse_connect(s, m->code, m->message, m->temporary);
}

static void become_guest(struct session *s, struct who *who)
{
    struct buf token;
    buf_init(&token, AUTH_TOKEN_BYTES_MAX);
    session_guest_make(s->all->engine, s->all->auth, (struct bytes){NULL, 0}, who, &token);
    s->token = buf_take(&token);
    buf_fini(&token);
}

/* False: the session was refused or closed. */
static bool identify(struct session *s, const struct cf_command *c, struct who *who)
{
    const struct auth *a = s->all->auth;
    struct caller caller;
    enum auth_why why = AUTH_INVALID;
    memset(who, 0, sizeof(*who));
    if (c->token.count > 0) {
        if (auth_token_verify(a, c->token, engine_wall_ms(s->all->engine), &caller, &why) ==
            ERR_OK) {
            who->app = caller.app;
            who->user = caller.user;
            who->display = caller.display;
            who->guest = caller.guest;
            s->expires_ms = caller.expires_ms;
        } else if (why == AUTH_INVALID) {
            session_close(s, SESSION_END_INVALID_TOKEN);
            return false;
        } else {
            session_refuse_connect(s, 109, "token expired", false);
            return false;
        }
    } else if (auth_insecure(a)) {
        CHECK(id_parse(bytes_of("default"), &who->app) == ERR_OK);
    } else if (auth_guests(a)) {
        become_guest(s, who);
    } else {
        session_close(s, SESSION_END_BAD_REQUEST);
        return false;
    }
    who->insecure = auth_insecure(a);
    return true;
}

static void ask_inbox(struct session *s, const struct cf_command *c, const struct channel_key *key)
{
    uint8_t room[CHANNEL_KEY_BYTES_MAX];
    struct bytes epoch = {NULL, 0};
    uint64_t offset = 0;
    bool recover = false;
    struct bytes name = channel_name(key, room);
    for (const struct json *e = c->subs == NULL ? NULL : c->subs->first; e != NULL; e = e->next) {
        if (bytes_equal(e->key, name))
            (void)cf_sub_read(e, &recover, &epoch, &offset);
    }
    struct sub *sub = hub_sub_new(s, key, 0);
    if (sub == NULL)
        session_close(s, SESSION_END_OVERLOADED);
    else
        hub_ask(s, sub, recover, epoch, offset, false);
}

void handshake_connect(struct session *s, const struct cf_command *c)
{
    struct who who;
    if (s->connecting || s->state != SESSION_GREETING) {
        session_close(s, SESSION_END_BAD_REQUEST);
        return;
    }
    s->connect_id = c->id;
    if (!identify(s, c, &who))
        return;
    if (!session_set_person(s, &who)) {
        session_close(s, SESSION_END_OVERLOADED);
        return;
    }
    if (who.user.count == 0) {
        opened(s, NULL);
        return;
    }
    struct channel_key key = {.kind = CHANNEL_INBOX, .app = who.app, .user = who.user};
    s->connecting = true;
    ask_inbox(s, c, &key);
}

void handshake_refresh(struct session *s, const struct cf_command *c)
{
    struct caller caller;
    struct who who;
    struct buf b;
    uint8_t room[256];
    char client[37];
    enum auth_why why = AUTH_INVALID;
    session_who(s, &who);
    if (c->token.count == 0) {
        session_close(s, SESSION_END_BAD_REQUEST);
        return;
    }
    if (auth_token_verify(s->all->auth, c->token, engine_wall_ms(s->all->engine), &caller, &why) !=
            ERR_OK ||
        !name_equal(&caller.user, &who.user) || !id_equal(&caller.app, &who.app)) {
        session_close(s, why == AUTH_EXPIRED ? SESSION_END_EXPIRED : SESSION_END_INVALID_TOKEN);
        return;
    }
    s->expires_ms = caller.expires_ms;
    session_client_text(s, client);
    buf_init_fixed(&b, room, sizeof(room));
    json_object_open(&b);
    json_put_text(&b, "client", bytes_of(client));
    if (s->expires_ms > 0) {
        json_put_bool(&b, "expires", true);
        json_put_i64(&b, "ttl", ttl_seconds(s));
    }
    json_object_close(&b);
    session_reply(s, c->id, "refresh", buf_view(&b));
}
