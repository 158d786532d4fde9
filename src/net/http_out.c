/* HTTP requests out: libcurl's multi interface, driven by the engine.
 *
 *     start  -> waiting -> (end of turn) added -> curl: sockets and a timer in the engine's loop
 *                            head, body: the owner is called from inside curl  <---|
 *                            end: read from curl's list, never inside it       <---'
 *     cancel -> silent  -> (end of turn) removed
 *
 * The rule that shapes this file: curl must not be called from its own callbacks. So starting
 * and cancelling only mark the request, and the end of the turn carries it out.
 *
 * Guarded requests have a multi handle of their own: a kept connection to a private address,
 * made by an unguarded request, must never be given to a guarded one. */
#include "net/net_priv.h"
#include "base/mem.h"
#include "diag/diag.h"

#include <curl/curl.h>
#include <errno.h>
#include <pthread.h>
#include <strings.h>

#define HTTP_OUT_CONTENT_TYPE_BYTES_MAX 128
#define HTTP_OUT_RECEIVE_BYTES          8192L
#define HTTP_OUT_UPLOAD_BYTES           16384L
#define HTTP_OUT_RETRY_AFTER_MS_MAX     86400000

struct http_multi {
    struct http_out *out;
    CURLM *curl; /* made at the first request */
    struct timer timer;
    bool guarded;
};

/* A socket of curl's in the engine's loop. */
struct http_socket {
    struct watch watch;
    struct http_multi *multi;
};

enum request_state {
    REQUEST_WAITING, /* to be added at the end of this turn */
    REQUEST_ADDED
};

struct request {
    struct http_out *out;
    struct http_multi *multi;
    struct handle self;
    struct request *next; /* of those that the end of the turn must look at */
    CURL *easy;
    struct curl_slist *headers;
    struct blob *body;
    const struct http_out_owner *owner; /* NULL: cancelled, nobody is called any more */
    void *ctx;
    int64_t retry_after_ms;
    uint16_t status;
    uint8_t content_type_bytes;
    uint8_t state;
    bool listed;
    bool head_told;
    bool refused; /* by the guard */
    bool broken;  /* a socket of it could not be watched */
    char content_type[HTTP_OUT_CONTENT_TYPE_BYTES_MAX];
    char detail[CURL_ERROR_SIZE];
};

struct http_out {
    struct net *net;
    struct engine *engine;
    struct pool requests;
    struct http_multi multis[2]; /* plain, guarded */
    struct turn_hook hook;
    struct request *listed_first;
    struct request *listed_last;
};

const char *http_out_error_name(enum http_out_error e)
{
    switch (e) {
    case HTTP_OUT_OK: return "ok";
    case HTTP_OUT_REFUSED: return "refused";
    case HTTP_OUT_RESET: return "reset";
    case HTTP_OUT_TIMEOUT: return "timeout";
    case HTTP_OUT_TLS: return "tls";
    case HTTP_OUT_GUARD: return "guard";
    case HTTP_OUT_OTHER: return "other";
    }
    return "unknown";
}

static enum http_out_error request_error(const struct request *r, CURLcode code)
{
    /* curl calls an answer that ends inside its head a good one. */
    if (code == CURLE_OK)
        return r->head_told ? HTTP_OUT_OK : HTTP_OUT_RESET;
    if (r->refused)
        return HTTP_OUT_GUARD;
    switch ((int)code) { /* as a number: curl has a hundred, most of them of other protocols */
    case CURLE_COULDNT_RESOLVE_HOST:
    case CURLE_COULDNT_CONNECT: return HTTP_OUT_REFUSED;
    case CURLE_OPERATION_TIMEDOUT: return HTTP_OUT_TIMEOUT;
    case CURLE_SEND_ERROR:
    case CURLE_RECV_ERROR:
    case CURLE_GOT_NOTHING:
    case CURLE_PARTIAL_FILE: return HTTP_OUT_RESET;
    case CURLE_SSL_CONNECT_ERROR:
    case CURLE_PEER_FAILED_VERIFICATION:
    case CURLE_SSL_CERTPROBLEM:
    case CURLE_SSL_CIPHER:
    case CURLE_SSL_CACERT_BADFILE:
    case CURLE_SSL_ISSUER_ERROR:
    case CURLE_SSL_INVALIDCERTSTATUS:
    case CURLE_USE_SSL_FAILED: return HTTP_OUT_TLS;
    default: return HTTP_OUT_OTHER;
    }
}

/* ---- the end of a request */

static void request_list(struct request *r)
{
    if (r->listed)
        return;
    r->listed = true;
    r->next = NULL;
    if (r->out->listed_first == NULL)
        r->out->listed_first = r;
    else
        r->out->listed_last->next = r;
    r->out->listed_last = r;
    engine_at_turn_end(r->out->engine, &r->out->hook);
}

static void request_free(struct request *r)
{
    CHECK(!r->listed);
    if (r->easy != NULL) {
        if (r->state == REQUEST_ADDED)
            (void)curl_multi_remove_handle(r->multi->curl, r->easy); /* it was added: cannot fail */
        curl_easy_cleanup(r->easy);
    }
    curl_slist_free_all(r->headers);
    blob_unref(&r->body);
    pool_free(&r->out->requests, r->self);
}

/* Not inside curl. The slot is free before the owner hears of it, so that he may start the next. */
static void request_end(struct request *r, enum http_out_error error, const char *reason)
{
    struct engine *e = r->out->engine;
    const struct http_out_owner *owner = r->owner;
    void *ctx = r->ctx;
    char detail[CURL_ERROR_SIZE];
    struct buf text;
    buf_init_fixed(&text, detail, sizeof(detail) - 1);
    buf_text(&text, r->detail[0] != '\0' ? r->detail : reason);
    detail[text.count] = '\0';
    request_free(r);
    if (owner != NULL)
        owner->on_done(ctx, error, detail);
    arena_reset(engine_turn(e));
}

/* ---- what curl calls */

static size_t request_body(char *at, size_t size, size_t count, void *ctx)
{
    struct request *r = ctx;
    size_t bytes = size * count;
    if (r->owner != NULL && bytes > 0)
        r->owner->on_body(r->ctx, bytes_make(at, bytes));
    /* Less than was offered ends the transfer: nothing more is read for a request that was
     * cancelled in this turn. */
    return r->owner == NULL ? 0 : bytes;
}

/* The value of header line `line` if its name is `name`. */
static bool header_value(struct bytes line, const char *name, struct bytes *out)
{
    size_t count = strlen(name);
    if (line.count <= count || line.at[count] != ':' ||
        strncasecmp((const char *)line.at, name, count) != 0)
        return false;
    struct bytes value = bytes_make(line.at + count + 1, line.count - count - 1);
    while (value.count > 0 && (value.at[0] == ' ' || value.at[0] == '\t')) {
        value.at++;
        value.count--;
    }
    while (value.count > 0 && value.at[value.count - 1] <= ' ')
        value.count--;
    *out = value;
    return true;
}

/* Seconds, or a date, as milliseconds from now; -1 when it is neither. */
static int64_t retry_after_ms(struct bytes value, int64_t wall_ms)
{
    char text[64];
    if (value.count == 0 || value.count >= sizeof(text))
        return -1;
    memcpy(text, value.at, value.count);
    text[value.count] = '\0';
    int64_t ms = 0;
    if (strspn(text, "0123456789") == value.count) {
        for (size_t i = 0; i < value.count && ms < HTTP_OUT_RETRY_AFTER_MS_MAX; i++)
            ms = ms * 10 + (text[i] - '0') * 1000;
    } else {
        int64_t date_s = (int64_t)curl_getdate(text, NULL);
        if (date_s < 0)
            return -1;
        ms = i64_max(date_s * 1000 - wall_ms, 0);
    }
    return i64_min(ms, HTTP_OUT_RETRY_AFTER_MS_MAX);
}

static void request_status_line(struct request *r, struct bytes line)
{
    r->status = 0;
    r->content_type_bytes = 0;
    r->retry_after_ms = -1;
    const uint8_t *blank = memchr(line.at, ' ', line.count);
    if (blank == NULL || line.count - (size_t)(blank - line.at) < 4)
        return;
    for (size_t i = 1; i <= 3; i++) {
        if (blank[i] < '0' || blank[i] > '9')
            return;
        r->status = (uint16_t)(r->status * 10 + (blank[i] - '0'));
    }
}

static void request_head_end(struct request *r)
{
    if (r->status < 200)
        return; /* 100, 103: the answer's own head is still to come */
    r->head_told = true;
    if (r->owner != NULL)
        r->owner->on_head(r->ctx, r->status, bytes_make(r->content_type, r->content_type_bytes),
                          r->retry_after_ms);
}

/* One whole line each time; trailers come here, too. */
static size_t request_header(char *at, size_t size, size_t count, void *ctx)
{
    struct request *r = ctx;
    struct bytes line = bytes_make(at, size * count);
    struct bytes value;
    if (r->owner == NULL)
        return 0;
    if (r->head_told) {
        return line.count;
    } else if (line.count > 5 && memcmp(line.at, "HTTP/", 5) == 0) {
        request_status_line(r, line);
    } else if (line.count <= 2 && (line.at[0] == '\r' || line.at[0] == '\n')) {
        request_head_end(r);
    } else if (header_value(line, "content-type", &value)) {
        r->content_type_bytes = (uint8_t)size_min(value.count, sizeof(r->content_type));
        memcpy(r->content_type, value.at, r->content_type_bytes);
    } else if (header_value(line, "retry-after", &value)) {
        r->retry_after_ms = retry_after_ms(value, engine_wall_ms(r->out->engine));
    }
    return r->owner == NULL ? 0 : line.count;
}

static curl_socket_t request_socket(void *ctx, curlsocktype purpose, struct curl_sockaddr *address)
{
    struct request *r = ctx;
    (void)purpose;
    if (r->multi->guarded && !guard_allows(&address->addr)) {
        r->refused = true;
        return CURL_SOCKET_BAD;
    }
    return socket(address->family, address->socktype | SOCK_CLOEXEC | SOCK_NONBLOCK,
                  address->protocol);
}

static void multi_ended(struct http_multi *m);

static void socket_ready(void *ctx, uint32_t events)
{
    struct http_socket *s = ctx;
    struct http_multi *m = s->multi;
    int mask = 0;
    if ((events & ENGINE_READ) != 0)
        mask |= CURL_CSELECT_IN;
    if ((events & ENGINE_WRITE) != 0)
        mask |= CURL_CSELECT_OUT;
    if ((events & ENGINE_HANGUP) != 0)
        mask |= CURL_CSELECT_ERR;
    int running = 0;
    (void)curl_multi_socket_action(m->curl, s->watch.fd, mask, &running); /* s may be gone now */
    multi_ended(m);
}

static void socket_drop(struct http_multi *m, struct http_socket *s, curl_socket_t fd)
{
    if (s == NULL)
        return;
    watch_clear(m->out->engine, &s->watch);
    (void)curl_multi_assign(m->curl, fd, NULL); /* allowed here; fails for a socket it forgot */
    mem_free(s);
}

/* Without a watch the transfer would hang silently: it is ended at the end of the turn instead. */
static void socket_failed(CURL *easy)
{
    struct request *r = NULL;
    if (curl_easy_getinfo(easy, CURLINFO_PRIVATE, (char **)&r) != CURLE_OK || r == NULL)
        return;
    r->broken = true;
    request_list(r);
}

static int multi_socket(CURL *easy, curl_socket_t fd, int what, void *ctx, void *socket_ctx)
{
    struct http_multi *m = ctx;
    struct http_socket *s = socket_ctx;
    if (what == CURL_POLL_REMOVE) {
        socket_drop(m, s, fd);
        return 0;
    }
    uint32_t wants = 0;
    if ((what & CURL_POLL_IN) != 0)
        wants |= ENGINE_READ;
    if ((what & CURL_POLL_OUT) != 0)
        wants |= ENGINE_WRITE;
    if (s != NULL) {
        watch_change(m->out->engine, &s->watch, wants);
        return 0;
    }
    s = mem_new_zero(sizeof(*s));
    if (s == NULL) {
        socket_failed(easy);
        return 0;
    }
    s->multi = m;
    if (watch_set(m->out->engine, &s->watch, fd, wants, socket_ready, s) != ERR_OK ||
        curl_multi_assign(m->curl, fd, s) != CURLM_OK) {
        watch_clear(m->out->engine, &s->watch);
        mem_free(s);
        socket_failed(easy);
    }
    return 0;
}

static int multi_timer(CURLM *curl, long timeout_ms, void *ctx)
{
    struct http_multi *m = ctx;
    (void)curl;
    if (timeout_ms < 0)
        timer_clear(m->out->engine, &m->timer);
    else /* 0 too: it fires in the next turn, never in here */
        timer_set(m->out->engine, &m->timer, mono_after_ms(mono_now(), timeout_ms));
    return 0;
}

static void multi_timer_fire(void *ctx)
{
    struct http_multi *m = ctx;
    int running = 0;
    (void)curl_multi_socket_action(m->curl, CURL_SOCKET_TIMEOUT, 0,
                                   &running); /* told by messages */
    multi_ended(m);
}

/* Outside of curl: the transfers that have ended. */
static void multi_ended(struct http_multi *m)
{
    int left = 0;
    /* Bounded by the transfers there are: each message is answered once. */
    for (CURLMsg *message = curl_multi_info_read(m->curl, &left); message != NULL;
         message = curl_multi_info_read(m->curl, &left)) {
        struct request *r = NULL;
        if (message->msg != CURLMSG_DONE ||
            curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, (char **)&r) != CURLE_OK)
            continue;
        if (r->listed)
            continue; /* cancelled or broken: the end of the turn has it */
        CURLcode code = message->data.result;
        enum http_out_error error = request_error(r, code);
        bool cut = code == CURLE_OK && error != HTTP_OUT_OK;
        request_end(r, error, cut ? "the answer ended inside its head" : curl_easy_strerror(code));
    }
}

/* ---- the end of the turn */

static void request_add(struct request *r)
{
    CURLMcode code = curl_multi_add_handle(r->multi->curl, r->easy);
    if (code != CURLM_OK) {
        request_end(r, HTTP_OUT_OTHER, curl_multi_strerror(code));
        return;
    }
    r->state = REQUEST_ADDED;
}

static void http_out_turn_end(void *ctx)
{
    struct http_out *o = ctx;
    struct request *r = o->listed_first;
    o->listed_first = NULL;
    o->listed_last = NULL;
    while (r != NULL) {
        struct request *next = r->next;
        r->next = NULL;
        r->listed = false;
        if (r->owner == NULL)
            request_free(r);
        else if (r->broken)
            request_end(r, HTTP_OUT_OTHER, "a socket could not be watched");
        else if (r->state == REQUEST_WAITING)
            request_add(r);
        r = next;
    }
}

/* ---- starting and cancelling */

static bool request_headers(struct request *r, const char *const *headers)
{
    /* An empty value takes curl's own header away: no waiting for 100 Continue. */
    r->headers = curl_slist_append(NULL, "Expect:");
    if (r->headers == NULL)
        return false;
    for (size_t i = 0; headers != NULL && headers[i] != NULL; i++) {
        struct curl_slist *longer = curl_slist_append(r->headers, headers[i]);
        if (longer == NULL)
            return false;
        r->headers = longer;
    }
    return true;
}

#define SET(option, value) (curl_easy_setopt(r->easy, (option), (value)) == CURLE_OK)

/* QUICK_EXIT: else taking a transfer away waits for its resolver thread, and so would the
 * engine. */
static bool request_options(struct request *r, const struct http_out_request *ask)
{
    return SET(CURLOPT_URL, ask->url) && SET(CURLOPT_PRIVATE, (char *)r) &&
           SET(CURLOPT_ERRORBUFFER, r->detail) && SET(CURLOPT_NOSIGNAL, 1L) &&
           SET(CURLOPT_QUICK_EXIT, 1L) && SET(CURLOPT_PROXY, "") && SET(CURLOPT_NETRC, 0L) &&
           SET(CURLOPT_PROTOCOLS_STR, "http,https") && SET(CURLOPT_FOLLOWLOCATION, 0L) &&
           SET(CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1) && SET(CURLOPT_TCP_NODELAY, 1L) &&
           SET(CURLOPT_TCP_KEEPALIVE, 1L) && SET(CURLOPT_BUFFERSIZE, HTTP_OUT_RECEIVE_BYTES) &&
           SET(CURLOPT_UPLOAD_BUFFERSIZE, HTTP_OUT_UPLOAD_BYTES) &&
           SET(CURLOPT_CONNECTTIMEOUT_MS, (long)ask->connect_ms) &&
           SET(CURLOPT_TIMEOUT_MS, (long)ask->total_ms) && SET(CURLOPT_HTTPHEADER, r->headers);
}

static bool request_callbacks(struct request *r)
{
    return SET(CURLOPT_WRITEFUNCTION, request_body) && SET(CURLOPT_WRITEDATA, r) &&
           SET(CURLOPT_HEADERFUNCTION, request_header) && SET(CURLOPT_HEADERDATA, r) &&
           SET(CURLOPT_OPENSOCKETFUNCTION, request_socket) && SET(CURLOPT_OPENSOCKETDATA, r);
}

static bool request_post(struct request *r, struct blob *body)
{
    if (body == NULL)
        return true;
    r->body = blob_ref(body);
    return SET(CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)body->count) &&
           SET(CURLOPT_POSTFIELDS, (char *)body->at) && SET(CURLOPT_POST, 1L);
}

#undef SET

static bool multi_open(struct http_multi *m)
{
    if (m->curl != NULL)
        return true;
    CURLM *curl = curl_multi_init();
    if (curl == NULL)
        return false;
    if (curl_multi_setopt(curl, CURLMOPT_SOCKETFUNCTION, multi_socket) == CURLM_OK &&
        curl_multi_setopt(curl, CURLMOPT_SOCKETDATA, m) == CURLM_OK &&
        curl_multi_setopt(curl, CURLMOPT_TIMERFUNCTION, multi_timer) == CURLM_OK &&
        curl_multi_setopt(curl, CURLMOPT_TIMERDATA, m) == CURLM_OK) {
        m->curl = curl;
        return true;
    }
    (void)curl_multi_cleanup(curl); /* nothing was added to it */
    return false;
}

enum err http_out_start(struct net *n, const struct http_out_request *ask,
                        const struct http_out_owner *owner, void *ctx, struct handle *out)
{
    struct http_out *o = n->out;
    struct handle self;
    struct request *r = pool_new(&o->requests, &self);
    if (r == NULL)
        return ERR_FULL;
    r->out = o;
    r->self = self;
    r->multi = &o->multis[ask->guarded ? 1 : 0];
    r->owner = owner;
    r->ctx = ctx;
    r->retry_after_ms = -1;
    r->easy = curl_easy_init();
    if (r->easy == NULL || !multi_open(r->multi) || !request_headers(r, ask->headers) ||
        !request_options(r, ask) || !request_callbacks(r) || !request_post(r, ask->body)) {
        request_free(r);
        return ERR_FULL;
    }
    request_list(r);
    *out = self;
    return ERR_OK;
}

void http_out_cancel(struct net *n, struct handle request)
{
    struct request *r = pool_get(&n->out->requests, request);
    if (r == NULL)
        return;
    r->owner = NULL;
    request_list(r);
}

uint32_t http_out_count(const struct net *n)
{
    return n->out->requests.used_count;
}

/* ---- the room */

static void http_out_global(void)
{
    CURLcode code = curl_global_init(CURL_GLOBAL_DEFAULT);
    CHECK(code == CURLE_OK);
}

struct http_out *http_out_new(struct net *n)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    (void)pthread_once(&once, http_out_global); /* fails only on a bad control */
    struct http_out *o = mem_new_zero(sizeof(*o));
    if (o == NULL)
        return NULL;
    o->net = n;
    o->engine = n->engine;
    o->hook = (struct turn_hook){.run = http_out_turn_end, .ctx = o};
    for (size_t i = 0; i < ARRAY_COUNT(o->multis); i++) {
        o->multis[i].out = o;
        o->multis[i].guarded = i == 1;
        timer_init(&o->multis[i].timer, multi_timer_fire, &o->multis[i]);
    }
    if (pool_init(&o->requests, sizeof(struct request), HTTP_OUT_MAX) != ERR_OK) {
        mem_free(o);
        return NULL;
    }
    return o;
}

void http_out_free(struct http_out **o)
{
    struct http_out *mine = *o;
    *o = NULL;
    if (mine == NULL)
        return;
    uint32_t index = 0;
    struct handle h;
    for (struct request *r = pool_next(&mine->requests, &index, &h); r != NULL;
         r = pool_next(&mine->requests, &index, &h)) {
        r->listed = false;
        request_free(r);
    }
    for (size_t i = 0; i < ARRAY_COUNT(mine->multis); i++) {
        if (mine->multis[i].curl != NULL)
            (void)curl_multi_cleanup(mine->multis[i].curl); /* empty: closes kept connections */
        timer_clear(mine->engine, &mine->multis[i].timer);
    }
    list_remove(&mine->hook.link);
    pool_fini(&mine->requests);
    mem_free(mine);
}
