/* One frame: its commands in order, each to the one who answers it. */
#include "session/session_priv.h"

/* Stops reading and keeps the rest of the frame until answers have come. */
static void wait_for_answers(struct session *s, struct bytes rest)
{
    struct bytes more = rest;
    s->paused = true;
    net_read_pause(s->all->net, s->conn, true);
    if (cf_frame_next(&more).count == 0)
        return;
    DIAG_COUNT(commands_waiting);
    s->backlog = blob_copy(rest);
    if (s->backlog == NULL)
        session_close(s, SESSION_END_OVERLOADED);
}

static void refuse(struct session *s, uint32_t id, const struct command_refusal *no)
{
    session_reply_error(s, id, no->code, no->message, no->temporary);
}

static struct address address_of(const struct session *s, uint32_t id, enum call_kind kind)
{
    struct address a = {.engine = (uint8_t)engine_index(s->all->engine),
                        .port = PORT_SESSION,
                        .handle = s->self,
                        .call = (uint64_t)kind << 32 | id};
    return a;
}

static bool too_fast(struct session *s, const struct who *who, uint32_t id)
{
    int64_t retry_ms = 0;
    if (command_may_hurry(s->all->desk, who, &retry_ms))
        return false;
    session_reply_error(s, id, 111, "too many commands; ask again in a moment", true);
    return true;
}

static void on_subscribe(struct session *s, const struct cf_command *c)
{
    struct channel_key key;
    struct who who;
    session_who(s, &who);
    if (c->channel.count == 0) {
        session_close(s, SESSION_END_BAD_REQUEST);
        return;
    }
    if (c->channel.count > CF_CHANNEL_BYTES_MAX) {
        session_reply_error(s, c->id, 107, "channel: longer than 255 bytes", false);
        return;
    }
    enum hub_parse parsed = hub_parse(s, c->channel, &key);
    if (parsed == HUB_OK && hub_sub_find(s, &key) != NULL)
        session_reply_error(s, c->id, 105, "already subscribed", false);
    else if (s->subs_count >= (uint32_t)s->all->config->session_channels_max)
        session_reply_error(s, c->id, 106, "limit exceeded: limits.channels", false);
    else if (parsed == HUB_UNKNOWN)
        session_reply_error(s, c->id, 102, "unknown channel", false);
    else if (parsed == HUB_DENIED)
        session_reply_error(s, c->id, 103, "permission denied", false);
    else if (c->has_filter)
        session_reply_error(s, c->id, 107, "tf: filters are not available", false);
    else if (c->type != 0)
        session_reply_error(s, c->id, 108, "this type of subscription is not available", false);
    else if (!too_fast(s, &who, c->id)) {
        struct sub *sub = hub_sub_new(s, &key, c->id);
        if (sub == NULL) {
            session_reply_error(s, c->id, 111, "too much to do; subscribe again", true);
            return;
        }
        s->unanswered++;
        hub_ask(s, sub, c->recover, c->epoch, c->offset, (c->flag & 2) != 0);
    }
}

static void on_unsubscribe(struct session *s, const struct cf_command *c)
{
    struct channel_key key;
    struct sub *sub = NULL;
    if (c->channel.count == 0) {
        session_close(s, SESSION_END_BAD_REQUEST);
        return;
    }
    if (hub_parse(s, c->channel, &key) == HUB_OK)
        sub = hub_sub_find(s, &key);
    if (sub != NULL) {
        uint32_t unanswered_id = sub->live ? 0 : sub->id;
        hub_sub_drop(s->all, sub, true);
        if (unanswered_id != 0) { /* its home's answer will find nobody */
            s->unanswered--;
            session_reply_error(s, unanswered_id, 100, "unsubscribed before the answer came", true);
        }
    }
    session_reply(s, c->id, "unsubscribe", bytes_of("{}"));
}

static void on_publish(struct session *s, const struct cf_command *c)
{
    struct channel_key key;
    if (hub_parse(s, c->channel, &key) == HUB_UNKNOWN)
        session_reply_error(s, c->id, 102, "unknown channel", false);
    else
        session_reply_error(s, c->id, 103, "permission denied; say it with rpc chat.send", false);
}

static void on_history(struct session *s, const struct cf_command *c)
{
    struct channel_key key;
    struct command_args args;
    struct who who;
    session_who(s, &who);
    enum hub_parse parsed = hub_parse(s, c->channel, &key);
    if (parsed == HUB_UNKNOWN) {
        session_reply_error(s, c->id, 102, "unknown channel", false);
        return;
    }
    if (parsed == HUB_DENIED) {
        session_reply_error(s, c->id, 103, "permission denied", false);
        return;
    }
    if (key.kind != CHANNEL_CONV) {
        session_reply_error(s, c->id, 108, "not available", false);
        return;
    }
    if (too_fast(s, &who, c->id))
        return;
    memset(&args, 0, sizeof(args));
    args.conv = key.conv;
    args.limit = c->limit;
    args.has_since = c->has_since;
    args.offset = c->offset;
    args.reverse = c->reverse;
    if (c->epoch.count > 0)
        args.epoch = blob_copy(c->epoch);
    struct address from = address_of(s, c->id, CALL_HISTORY);
    s->unanswered++;
    command_post(&who, &from, CMD_HISTORY, &args, engine_now(s->all->engine).ns);
}

static void on_rpc(struct session *s, const struct cf_command *c)
{
    enum command command;
    struct command_refusal no;
    struct who who;
    if (!command_find(c->rpc_method, &command)) {
        session_reply_error(s, c->id, 108, "no such command", false);
        return;
    }
    session_who(s, &who);
    struct address from = address_of(s, c->id, CALL_RPC);
    if (command_submit(s->all->desk, &who, &from, command, c->data, &no) != ERR_OK)
        refuse(s, c->id, &no);
    else
        s->unanswered++;
}

static void on_command(struct session *s, const struct cf_command *c)
{
    DIAG_COUNT(commands);
    if (c->method == CF_CONNECT) {
        handshake_connect(s, c);
        return;
    }
    if (s->state != SESSION_OPEN) {
        session_close(s, SESSION_END_BAD_REQUEST);
        return;
    }
    switch (c->method) {
    case CF_PONG:
    case CF_SEND: return; /* nothing answers these */
    case CF_SUBSCRIBE: on_subscribe(s, c); return;
    case CF_UNSUBSCRIBE: on_unsubscribe(s, c); return;
    case CF_PUBLISH: on_publish(s, c); return;
    case CF_PRESENCE:
    case CF_PRESENCE_STATS: session_reply_error(s, c->id, 108, "not available", false); return;
    case CF_HISTORY: on_history(s, c); return;
    case CF_PING: session_reply(s, c->id, "ping", bytes_of("{}")); return;
    case CF_RPC: on_rpc(s, c); return;
    case CF_REFRESH: handshake_refresh(s, c); return;
    case CF_SUB_REFRESH: session_reply_error(s, c->id, 103, "permission denied", false); return;
    case CF_CONNECT:
    case CF_UNKNOWN: break;
    }
    session_close(s, SESSION_END_BAD_REQUEST);
}

static bool must_wait(const struct session *s)
{
    return s->connecting || s->unanswered >= (uint32_t)s->all->config->session_unanswered_max;
}

void session_frame(struct session *s, struct bytes text)
{
    struct bytes rest = text;
    struct bytes one;
    if (cf_frame_next(&rest).count == 0) {
        session_close(s, SESSION_END_BAD_REQUEST);
        return;
    }
    rest = text;
    while (s->state != SESSION_DRAINING && (one = cf_frame_next(&rest)).count > 0) {
        struct cf_command c;
        if (cf_command_decode(engine_turn(s->all->engine), one, &c) != ERR_OK) {
            session_close(s, SESSION_END_BAD_REQUEST);
            return;
        }
        on_command(s, &c);
        if (must_wait(s) && s->state != SESSION_DRAINING) {
            wait_for_answers(s, rest);
            return;
        }
    }
}
