/* The local backend's process: found, started, watched and started again, on engine 0.
 *
 *     manager_core decides; this file looks for files, forks, asks for /health and hands the result
 *     to the pool (pool_offer, pool_withdraw, pool_refuse_all) and to /readyz (ready_set).
 *
 * The process gets a key that only it and we know, so that nobody else on this machine can use the
 * model or read what is said to it. Variables of ours that may hold secrets are not handed down. */
#include "base/mem.h"
#include "diag/diag.h"
#include "model/model_priv.h"

#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#define MANAGER_PATH_BYTES_MAX 4096
#define MANAGER_ARGS_MAX       160
#define MANAGER_NUMBER_BYTES   24
#define MANAGER_KEY_HEX_BYTES  64
#define MANAGER_MODEL_FILE     "qwen2.5-coder-1.5b-instruct-q4_k_m.gguf"
#define MANAGER_SCRIPT         "llama_child.py"

struct manager {
    struct model *model;
    struct backend *backend;
    struct manager_core core;
    struct timer timer;
    struct child child;
    uint16_t port;
    bool probing;
    bool probe_good;
    struct mono probe_at;
    struct handle probe_http;
    struct warm warm;
    char script[MANAGER_PATH_BYTES_MAX];
    char python[MANAGER_PATH_BYTES_MAX];
    char file[MANAGER_PATH_BYTES_MAX];
};

/* --- the key --------------------------------------------------------------------------------- */

static char manager_key_hex[MANAGER_KEY_HEX_BYTES + 1];

/* The environment is written here, before threads exist, and never again: getenv in a library's
 * thread must not meet a setenv. */
const char *manager_key(void)
{
    if (manager_key_hex[0] != 0)
        return manager_key_hex;
    uint8_t random[MANAGER_KEY_HEX_BYTES / 2];
    engine_random(random, sizeof(random));
    for (size_t i = 0; i < sizeof(random); i++)
        (void)snprintf(manager_key_hex + 2 * i, 3, "%02x", random[i]);
    int failed = setenv(MODEL_LOCAL_KEY_ENV, manager_key_hex, 1);
    CHECK(failed == 0);
    return manager_key_hex;
}

/* --- where things are ------------------------------------------------------------------------ */

__attribute__((format(printf, 2, 3))) static bool manager_try(char *out, const char *format, ...)
{
    va_list list;
    va_start(list, format);
    int length = vsnprintf(out, MANAGER_PATH_BYTES_MAX, format, list);
    va_end(list);
    return length > 0 && length < MANAGER_PATH_BYTES_MAX && access(out, R_OK) == 0;
}

static const char *manager_env(const char *name)
{
    const char *value = getenv(name);
    return value != NULL && value[0] != 0 ? value : NULL;
}

/* The folder of the running binary, without a slash at its end. */
static bool manager_binary_dir(char *out, size_t bytes)
{
    ssize_t length = readlink("/proc/self/exe", out, bytes - 1);
    if (length <= 0)
        return false;
    out[length] = 0;
    char *slash = strrchr(out, '/');
    if (slash == NULL)
        return false;
    *slash = 0;
    return true;
}

static bool manager_find_script(struct manager *g, const char *dir)
{
    const char *share = manager_env("KITH_SHARE");
    if (share != NULL && manager_try(g->script, "%s/" MANAGER_SCRIPT, share))
        return true;
    return manager_try(g->script, "%s/../share/kith/" MANAGER_SCRIPT, dir) ||
           manager_try(g->script, "%s/../tools/" MANAGER_SCRIPT, dir);
}

/* The last resort is looked for on PATH by env(1). */
static void manager_find_python(struct manager *g, const char *dir)
{
    const char *configured = g->model->config->local_python;
    const char *named = configured[0] != 0 ? configured : manager_env("KITH_PYTHON");
    if (named != NULL) {
        (void)snprintf(g->python, sizeof(g->python), "%s", named);
        return;
    }
    if (!manager_try(g->python, "%s/../.deps/venv/bin/python", dir))
        (void)snprintf(g->python, sizeof(g->python), "python3");
}

static bool manager_find_model(struct manager *g)
{
    const char *configured = g->model->config->local_model;
    if (configured[0] != 0)
        return manager_try(g->file, "%s", configured);
    const char *models = manager_env("KITH_MODELS");
    if (models != NULL)
        return manager_try(g->file, "%s/" MANAGER_MODEL_FILE, models);
    const char *cache = manager_env("XDG_CACHE_HOME");
    if (cache != NULL)
        return manager_try(g->file, "%s/kith/models/" MANAGER_MODEL_FILE, cache);
    const char *home = manager_env("HOME");
    return manager_try(g->file, "%s/.cache/kith/models/" MANAGER_MODEL_FILE,
                       home == NULL ? "" : home);
}

static enum manager_cause manager_find(struct manager *g)
{
    char dir[MANAGER_PATH_BYTES_MAX - 64];
    if (!manager_binary_dir(dir, sizeof(dir)))
        return MANAGER_CAUSE_NO_SCRIPT;
    if (!manager_find_script(g, dir))
        return MANAGER_CAUSE_NO_SCRIPT;
    manager_find_python(g, dir);
    return manager_find_model(g) ? MANAGER_CAUSE_NONE : MANAGER_CAUSE_NO_MODEL;
}

/* --- effects --------------------------------------------------------------------------------- */

static void manager_event(struct manager *g, const struct manager_event *ev);

static void manager_simple(struct manager *g, enum manager_event_kind kind)
{
    struct manager_event ev = {.kind = kind, .busy = g->backend->pool.busy > 0};
    manager_event(g, &ev);
}

static void manager_on_line(void *ctx, struct bytes line)
{
    static const char head[] = "event=listening port=";
    struct manager *g = ctx;
    if (line.count <= sizeof(head) - 1 || memcmp(line.at, head, sizeof(head) - 1) != 0)
        return;
    uint32_t port = 0;
    for (size_t i = sizeof(head) - 1; i < line.count && port <= UINT16_MAX; i++) {
        if (line.at[i] < '0' || line.at[i] > '9')
            break;
        port = port * 10 + (uint32_t)(line.at[i] - '0');
    }
    if (port == 0 || port > UINT16_MAX)
        return;
    g->port = (uint16_t)port;
    manager_simple(g, MANAGER_ON_LINE);
}

static void manager_on_exit(void *ctx, int status)
{
    struct manager *g = ctx;
    int code = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
    DIAG_COUNT(child_died);
    diag_log(g->core.state == MANAGER_OFF ? DIAG_INFO : DIAG_WARN, "local_model_ended",
             "code=%d signal=%d state=%s", code, WIFSIGNALED(status) ? WTERMSIG(status) : 0,
             manager_state_name(g->core.state));
    struct manager_event ev = {.kind = MANAGER_ON_EXIT, .code = code};
    manager_event(g, &ev);
}

struct manager_args {
    char *at[MANAGER_ARGS_MAX];
    size_t count;
    char numbers[6][MANAGER_NUMBER_BYTES];
    size_t numbers_count;
};

/* exec(2) wants pointers to char that it does not write through. */
static void manager_arg(struct manager_args *a, const char *text)
{
    CHECK(a->count + 1 < MANAGER_ARGS_MAX);
    a->at[a->count] = (char *)(uintptr_t)text;
    a->count++;
    a->at[a->count] = NULL;
}

static void manager_arg_number(struct manager_args *a, const char *flag, int64_t number)
{
    CHECK(a->numbers_count < ARRAY_COUNT(a->numbers));
    char *text = a->numbers[a->numbers_count];
    a->numbers_count++;
    (void)snprintf(text, MANAGER_NUMBER_BYTES, "%lld", (long long)number);
    manager_arg(a, flag);
    manager_arg(a, text);
}

/* `-u NAME` for each variable of ours: env(1) takes them away before the process begins. */
static void manager_args_clean(struct manager_args *a, struct arena *turn)
{
    for (char **at = environ; *at != NULL && a->count + 32 < MANAGER_ARGS_MAX; at++) {
        const char *equals = strchr(*at, '=');
        if (equals == NULL || strncmp(*at, "KITH_", 5) != 0)
            continue;
        const char *name = arena_string(turn, bytes_make(*at, (size_t)(equals - *at)));
        CHECK(name != NULL);
        manager_arg(a, "-u");
        manager_arg(a, name);
    }
}

static int64_t manager_threads(const struct config *c)
{
    cpu_set_t set;
    CPU_ZERO(&set);
    if (c->local_threads > 0)
        return c->local_threads;
    if (sched_getaffinity(0, sizeof(set), &set) != 0)
        return 1;
    return i64_max(1, CPU_COUNT(&set));
}

static void manager_spawn(struct manager *g)
{
    const struct config *c = g->model->config;
    struct engine *e = g->model->engine;
    struct manager_args a = {.count = 0};
    manager_arg(&a, "env");
    manager_args_clean(&a, engine_turn(e));
    manager_arg(&a, g->python);
    manager_arg(&a, g->script);
    manager_arg(&a, "--model");
    manager_arg(&a, g->file);
    manager_arg_number(&a, "--port", 0);
    manager_arg_number(&a, "--threads", manager_threads(c));
    manager_arg_number(&a, "--parallel", c->local_slots);
    manager_arg_number(&a, "--ctx", c->local_context);
    manager_arg_number(&a, "--parent", getpid());
    if (child_start(e, &g->child, a.at, manager_on_line, manager_on_exit, g) != ERR_OK) {
        diag_log(DIAG_ERROR, "local_model_not_started", "file=%s", diag_quote(bytes_of(g->file)));
        manager_simple(g, MANAGER_ON_SPAWN_FAILED);
        return;
    }
    DIAG_COUNT(child_started);
    diag_log(DIAG_INFO, "local_model_started", "pid=%ld file=%s", (long)g->child.pid,
             diag_quote(bytes_of(g->file)));
}

static void manager_probe_head(void *ctx, uint16_t status, struct bytes content_type,
                               int64_t retry_after_ms)
{
    (void)content_type;
    (void)retry_after_ms;
    struct manager *g = ctx;
    g->probe_good = status == 200;
}

static void manager_probe_body(void *ctx, struct bytes piece)
{
    (void)ctx; /* the status says it all */
    (void)piece;
}

static void manager_probe_done(void *ctx, enum http_out_error error, const char *detail)
{
    (void)detail;
    struct manager *g = ctx;
    g->probing = false;
    bool good = g->probe_good && error == HTTP_OUT_OK;
    manager_simple(g, good ? MANAGER_ON_HEALTH_OK : MANAGER_ON_HEALTH_BAD);
}

static void manager_probe(struct manager *g)
{
    static const struct http_out_owner owner = {manager_probe_head, manager_probe_body,
                                                manager_probe_done};
    char url[64];
    if (g->probing)
        return;
    g->probe_at = engine_now(g->model->engine);
    (void)snprintf(url, sizeof(url), "http://127.0.0.1:%u/health", g->port);
    struct http_out_request ask = {.url = url, .connect_ms = MANAGER_HEALTH_TIMEOUT_MS};
    g->probe_good = false;
    g->probing = http_out_start(g->model->net, &ask, &owner, g, &g->probe_http) == ERR_OK;
}

static void manager_probe_stop(struct manager *g)
{
    if (g->probing)
        http_out_cancel(g->model->net, g->probe_http);
    g->probing = false;
}

static void manager_tell_ready(const struct manager *g)
{
    if (!g->backend->is_default)
        return;
    switch (g->core.state) {
    case MANAGER_OFF: ready_set(READY_STARTING); break;
    case MANAGER_STARTING:
    case MANAGER_LOADING: ready_set(READY_LOADING); break;
    case MANAGER_READY: ready_set(g->core.dying ? READY_RESTARTING : READY_YES); break;
    case MANAGER_BACKOFF: ready_set(READY_RESTARTING); break;
    case MANAGER_FAILED: ready_set(READY_CAUSE + (uint32_t)g->core.cause); break;
    case MANAGER_STATES_COUNT: break;
    }
}

static void manager_apply(struct manager *g, struct manager_effects effects)
{
    if (effects.withdraw) {
        pool_withdraw(g->backend);
        manager_probe_stop(g);
        warm_stop(&g->warm);
    }
    if (effects.refuse)
        pool_refuse_all(g->backend);
    if (effects.terminate)
        child_signal(&g->child, SIGTERM);
    if (effects.kill) {
        diag_log(DIAG_WARN, "local_model_killed", "pid=%ld", (long)g->child.pid);
        child_signal(&g->child, SIGKILL);
    }
    if (effects.probe)
        manager_probe(g);
    if (effects.offer) {
        diag_log(DIAG_INFO, "local_model_ready", "pid=%ld port=%u", (long)g->child.pid, g->port);
        if (g->backend->is_default && g->backend->pool.waiting_count == 0)
            warm_start(&g->warm, g->model, g->port);
        pool_offer(g->backend, g->port);
    }
    if (effects.spawn)
        manager_spawn(g);
}

static void manager_event(struct manager *g, const struct manager_event *ev)
{
    struct engine *e = g->model->engine;
    struct manager_effects effects = manager_decide(&g->core, ev, engine_now(e));
    /* Before the effects: a spawn that fails decides again, and its word must be the last. */
    manager_tell_ready(g);
    if (g->core.deadline.ns == 0)
        timer_clear(e, &g->timer);
    else
        timer_set(e, &g->timer, g->core.deadline);
    manager_apply(g, effects);
}

/* A look at /health that is not answered in time is a miss, and makes room for the next. */
static void manager_timer(void *ctx)
{
    struct manager *g = ctx;
    struct mono late = mono_after_ms(g->probe_at, MANAGER_HEALTH_TIMEOUT_MS);
    if (g->probing && mono_reached(late, engine_now(g->model->engine))) {
        manager_probe_stop(g);
        manager_simple(g, MANAGER_ON_HEALTH_BAD);
    }
    if (!g->core.dying)
        manager_simple(g, MANAGER_ON_TIMER);
}

/* --- beginning and end ------------------------------------------------------------------------ */

struct backend *manager_backend(struct model *m)
{
    for (uint32_t i = 0; i < m->backends_count; i++) {
        if (m->backends[i].config->local)
            return &m->backends[i];
    }
    return NULL;
}

void model_manager_start(struct model *m)
{
    CHECK(engine_index(m->engine) == 0);
    CHECK(m->manager == NULL);
    struct backend *b = manager_backend(m);
    if (b == NULL)
        return;
    struct manager *g = mem_new_zero(sizeof(*g));
    CHECK(g != NULL);
    g->model = m;
    g->backend = b;
    manager_core_init(&g->core);
    timer_init(&g->timer, manager_timer, g);
    m->manager = g;
    /* The loop may not run yet: a message is the first thing it will see. */
    engine_post(m->engine, msg_new(PORT_MODEL, MODEL_MANAGE, sizeof(struct msg)));
}

void manager_begin(struct model *m)
{
    struct manager *g = m->manager;
    if (g == NULL || g->core.state != MANAGER_OFF)
        return;
    struct manager_event ev = {.kind = MANAGER_ON_START, .cause = manager_find(g)};
    if (ev.cause != MANAGER_CAUSE_NONE) {
        ev.kind = MANAGER_ON_MISSING;
        diag_log(DIAG_WARN, "local_model_missing", "why=%s looked_for=%s",
                 diag_quote(bytes_of(manager_cause_sentence(ev.cause))),
                 diag_quote(bytes_of(g->file[0] != 0 ? g->file : g->script)));
    }
    manager_event(g, &ev);
}

void manager_yield(struct model *m)
{
    if (m->manager != NULL)
        warm_stop(&m->manager->warm);
}

void model_manager_stop(struct model *m)
{
    if (m->manager != NULL)
        manager_simple(m->manager, MANAGER_ON_STOP);
}

/* Without a loop nobody would take the child away. */
static void manager_child_end(struct child *c)
{
    if (c->pid == 0)
        return;
    child_signal(c, SIGKILL);
    watch_clear(c->engine, &c->exit);
    watch_clear(c->engine, &c->out);
    while (waitpid(c->pid, NULL, 0) < 0 && errno == EINTR) {
    }
    (void)close(c->pid_fd); /* both only ever read */
    if (c->out.fd >= 0)
        (void)close(c->out.fd);
    c->pid = 0;
}

void manager_free(struct model *m)
{
    struct manager *g = m->manager;
    if (g == NULL)
        return;
    timer_clear(m->engine, &g->timer);
    manager_probe_stop(g);
    warm_stop(&g->warm);
    manager_child_end(&g->child);
    mem_free(g);
    m->manager = NULL;
}
