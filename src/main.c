/* kith: the program. Reads the command line and the configuration, makes the rooms from the ground
 * up, runs the engines, drains on SIGTERM. Roles decide which rooms start. */
#include "api/api.h"
#include "auth/auth.h"
#include "bus/messages.h"
#include "command/command.h"
#include "config/config.h"
#include "diag/diag.h"
#include "engine/engine.h"
#include "journal/journal.h"
#include "model/model.h"
#include "net/net.h"
#include "recall/recall.h"
#include "reply/reply.h"
#include "session/session.h"
#include "talk/talk.h"
#include "text/text.h"

#include <fcntl.h>
#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <unistd.h>

#define MAIN_SETS_MAX    256
#define MAIN_TICK_MS     20
#define MAIN_SESSIONS_MS 3000  /* sessions get so long to say goodbye */
#define MAIN_SAVING_MS   10000 /* what the drain's deadline cut may take so long to be stored */

enum { EXIT_USAGE = 2 };

extern char **environ;

enum main_kind { MAIN_STOP_LISTENING = 1 };

/* The rooms of one engine. */
struct house {
    struct engine *engine;
    struct net *net;
    struct model *model;
    struct recall *recall;
    struct reply *reply;
    struct talk *talk;
    struct command_desk *desk;
    struct sessions *sessions;
    struct api *api;
};

/*   SERVING --> FINISHING --> SAVING --> LEAVING      a second signal: at once   */
enum drain_state { SERVING, FINISHING, SAVING, LEAVING };

static struct {
    struct config *config;
    struct journal *journal;
    struct auth *auth;
    struct text_terms *terms;
    struct house houses[ENGINES_MAX];
    int listen_fds[ENGINES_MAX];
    struct watch signals;
    struct timer tick;
    enum drain_state drain;
    struct mono deadline;
    bool journal_paused;
} main_state;

/* --- draining --------------------------------------------------------------------------------- */

static void tell_rooms(enum port port, struct mono deadline)
{
    for (uint32_t i = 0; i < engines_count(); i++) {
        struct bus_drain *m = BUS_NEW(DRAIN, bus_drain, port);
        m->deadline = deadline;
        engine_post(engine_at(i), &m->msg);
    }
}

static void leave(struct engine *e)
{
    main_state.drain = LEAVING;
    main_state.deadline = mono_after_ms(engine_now(e), MAIN_SESSIONS_MS);
    for (uint32_t i = 0; i < engines_count(); i++)
        engine_post(engine_at(i), msg_new(PORT_MAIN, MAIN_STOP_LISTENING, sizeof(struct msg)));
    tell_rooms(PORT_SESSION, main_state.deadline);
}

static void on_tick(void *ctx)
{
    struct engine *e = ctx;
    bool late = mono_reached(main_state.deadline, engine_now(e));
    bool idle = diag_gauge_sum(DIAG_G_runs_active) == 0;
    switch (main_state.drain) {
    case SERVING: return;
    case FINISHING:
        if (!late && !idle)
            break;
        main_state.drain = SAVING;
        main_state.deadline = mono_after_ms(engine_now(e), MAIN_SAVING_MS);
        tell_rooms(PORT_TALK, (struct mono){0});
        break;
    case SAVING:
        if (late || (idle && journal_pending(main_state.journal) == 0))
            leave(e);
        break;
    case LEAVING:
        if (late || diag_gauge_sum(DIAG_G_sessions) == 0) {
            engines_stop();
            return;
        }
        break;
    }
    timer_set(e, &main_state.tick, mono_after_ms(engine_now(e), MAIN_TICK_MS));
}

static void drain_begin(struct engine *e)
{
    if (main_state.drain != SERVING) {
        engines_stop();
        return;
    }
    diag_log(DIAG_INFO, "drain", "deadline_ms=%lld", (long long)main_state.config->drain_ms);
    diag_condition_set(DIAG_COND_DRAINING, "draining", "The server is shutting down.");
    main_state.drain = FINISHING;
    main_state.deadline = mono_after_ms(engine_now(e), main_state.config->drain_ms);
    tell_rooms(PORT_TALK, main_state.deadline);
    timer_set(e, &main_state.tick, engine_now(e));
}

/* --- signals ---------------------------------------------------------------------------------- */

static void on_signal(void *ctx, uint32_t events)
{
    struct signalfd_siginfo info;
    struct engine *e = ctx;
    (void)events;
    while (read(main_state.signals.fd, &info, sizeof(info)) == (ssize_t)sizeof(info)) {
        if (info.ssi_signo == SIGUSR1) {
            diag_dump(STDERR_FILENO);
        } else if (info.ssi_signo == SIGUSR2) {
            if (main_state.config->test_hooks != CONFIG_TRUE)
                continue;
            main_state.journal_paused = !main_state.journal_paused;
            journal_pause(main_state.journal, main_state.journal_paused);
            diag_log(DIAG_WARN, "journal_pause", "on=%d", main_state.journal_paused);
        } else {
            drain_begin(e);
        }
    }
}

static void on_crash(int signal_number)
{
    diag_dump(STDERR_FILENO);
    (void)raise(signal_number); /* SA_RESETHAND: this time the system's way */
}

static void on_check_failed(const char *condition, const char *file, int line)
{
    (void)condition;
    (void)file;
    (void)line;
    diag_dump(STDERR_FILENO);
}

/* Before threads exist, so that all of them inherit the mask. */
static int signals_prepare(void)
{
    sigset_t set;
    struct sigaction crash = {.sa_handler = on_crash, .sa_flags = (int)SA_RESETHAND};
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGUSR1);
    sigaddset(&set, SIGUSR2);
    (void)signal(SIGPIPE, SIG_IGN);
    (void)sigaction(SIGSEGV, &crash, NULL);
    (void)sigaction(SIGBUS, &crash, NULL);
    if (pthread_sigmask(SIG_BLOCK, &set, NULL) != 0)
        return -1;
    return signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
}

/* --- making the house ------------------------------------------------------------------------- */

static void take(void *ctx, struct msg *m)
{
    struct house *h = ctx;
    if (m->kind == MAIN_STOP_LISTENING)
        net_listen_stop(h->net);
    msg_free(m);
}

static bool house_make(struct house *h, struct engine *e, int listen_fd)
{
    const struct config *c = main_state.config;
    struct journal *j = main_state.journal;
    h->engine = e;
    h->net = net_make(e, c);
    if (h->net == NULL)
        return false;
    h->model = model_make(e, h->net, c);
    h->recall = h->model == NULL ? NULL : recall_make(e, j, h->model, c);
    if (h->recall == NULL)
        return false;
    h->reply = reply_make(e, h->recall, h->model, main_state.terms, c);
    h->talk = talk_make(e, j, main_state.terms, c);
    h->desk = command_desk_make(e, c);
    if (h->reply == NULL || h->talk == NULL || h->desk == NULL)
        return false;
    h->sessions = sessions_make(e, h->net, main_state.auth, h->desk, c);
    h->api =
        h->sessions == NULL ? NULL : api_make(e, h->net, h->sessions, main_state.auth, h->desk, c);
    if (h->api == NULL)
        return false;
    engine_listen(e, PORT_MAIN, take, h);
    net_listen(h->net, listen_fd, api_listener(h->api));
    return true;
}

static void house_free(struct house *h)
{
    api_free(&h->api);
    sessions_free(&h->sessions);
    command_desk_free(&h->desk);
    talk_free(&h->talk);
    reply_free(&h->reply);
    recall_free(&h->recall);
    model_free(&h->model);
    net_free(&h->net);
}

static void say(const struct buf *message)
{
    (void)fprintf(stderr, "kith: %.*s\n", (int)message->count, (const char *)message->at);
}

static uint32_t engines_wanted(const struct config *c)
{
    long cores = sysconf(_SC_NPROCESSORS_ONLN);
    if (c->engines > 0)
        return (uint32_t)c->engines;
    return (uint32_t)i64_min(i64_max(cores, 1), ENGINES_MAX);
}

/* Sockets cost descriptors; the hard limit is what the operator allows. */
static void descriptors_raise(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0)
        return;
    limit.rlim_cur = limit.rlim_max;
    (void)setrlimit(RLIMIT_NOFILE, &limit);
}

/* Everything that can be refused before a thread exists. Exit status, or -1 to go on. */
static int open_all(uint16_t *port)
{
    const struct config *c = main_state.config;
    struct buf message;
    int status = -1;
    buf_init(&message, 4096);
    if (auth_make(c, &main_state.auth, &message) != ERR_OK ||
        journal_open(c, &main_state.journal, &message) != ERR_OK ||
        net_listen_open(c->listen, main_state.listen_fds, engines_count(), port, &message) !=
            ERR_OK) {
        say(&message);
        status = EXIT_FAILURE;
    }
    main_state.terms = text_terms_make(c);
    if (status < 0 && main_state.terms == NULL) {
        (void)fprintf(stderr, "kith: out of memory at start\n");
        status = EXIT_FAILURE;
    }
    buf_fini(&message);
    return status;
}

static void close_all(void)
{
    for (uint32_t i = 0; i < engines_count(); i++)
        house_free(&main_state.houses[i]);
    journal_close(&main_state.journal);
    text_terms_free(&main_state.terms);
    auth_free(&main_state.auth);
    config_free(&main_state.config);
}

/* The address without its port, as it was configured, for the line that outside tools wait for. */
static void say_ready(uint16_t port)
{
    const char *listen = main_state.config->listen;
    const char *colon = strrchr(listen, ':');
    int host = colon == NULL ? (int)strlen(listen) : (int)(colon - listen);
    (void)dprintf(STDERR_FILENO, "event=ready listen=%.*s:%u version=%s engines=%u pid=%d\n", host,
                  listen, port, KITH_VERSION, engines_count(), (int)getpid());
}

static int serve(void)
{
    uint16_t port = 0;
    int signal_fd = signals_prepare();
    (void)umask(077); /* what is said here is nobody else's business */
    (void)mallopt(M_ARENA_MAX, 4);
    descriptors_raise();
    if (signal_fd < 0 || engines_make(engines_wanted(main_state.config), 0) != ERR_OK) {
        (void)fprintf(stderr, "kith: cannot make the event loops\n");
        return EXIT_FAILURE;
    }
    int status = open_all(&port);
    for (uint32_t i = 0; i < engines_count() && status < 0; i++) {
        if (!house_make(&main_state.houses[i], engine_at(i), main_state.listen_fds[i])) {
            (void)fprintf(stderr, "kith: out of memory at start\n");
            status = EXIT_FAILURE;
        }
    }
    if (status < 0) {
        struct engine *first = engine_at(0);
        timer_init(&main_state.tick, on_tick, first);
        CHECK(watch_set(first, &main_state.signals, signal_fd, ENGINE_READ, on_signal, first) ==
              ERR_OK);
        model_manager_start(main_state.houses[0].model);
        talk_recover(main_state.houses[0].talk);
        say_ready(port);
        engines_run();
        model_manager_stop(main_state.houses[0].model);
        diag_log(DIAG_INFO, "stopped", "pid=%d", (int)getpid());
        status = EXIT_SUCCESS;
    }
    close_all();
    return status;
}

/* --- the command line ------------------------------------------------------------------------- */

static const char usage[] =
    "usage: kith serve [-c FILE] [--set KEY=VALUE ...]   run the server\n"
    "       kith check [-c FILE] [--set KEY=VALUE ...]   say whether the configuration is right\n"
    "       kith show  [-c FILE] [--set KEY=VALUE ...]   print what is in force, as YAML\n"
    "       kith reference                               print every key, as Markdown\n"
    "       kith version\n";

struct arguments {
    const char *verb;
    const char *file;
    struct config_set sets[MAIN_SETS_MAX];
    size_t sets_count;
};

static bool arguments_read(int argc, char **argv, struct arguments *out)
{
    out->verb = argc > 1 ? argv[1] : "";
    for (int i = 2; i < argc; i++) {
        bool more = i + 1 < argc;
        if ((strcmp(argv[i], "-c") == 0 || strcmp(argv[i], "--config") == 0) && more) {
            out->file = argv[++i];
        } else if (strcmp(argv[i], "--set") == 0 && more && out->sets_count < MAIN_SETS_MAX) {
            out->sets[out->sets_count++].assignment = argv[++i];
        } else {
            (void)fprintf(stderr, "kith: %s: unknown or incomplete argument\n%s", argv[i], usage);
            return false;
        }
    }
    return true;
}

static int print(struct buf *b)
{
    size_t written = fwrite(b->at, 1, b->count, stdout);
    bool whole = written == b->count && fflush(stdout) == 0;
    buf_fini(b);
    return whole ? EXIT_SUCCESS : EXIT_FAILURE;
}

static int run_verb(const struct arguments *a)
{
    struct buf b;
    buf_init(&b, 4u << 20);
    if (strcmp(a->verb, "show") == 0) {
        config_show(main_state.config, &b);
        return print(&b);
    }
    for (size_t i = 0; i < main_state.config->warnings_count; i++)
        (void)fprintf(stderr, "kith: warning: %s\n", main_state.config->warnings[i]);
    if (strcmp(a->verb, "check") == 0) {
        buf_text(&b, "the configuration is right\n");
        return print(&b);
    }
    return serve();
}

int main(int argc, char **argv)
{
    struct arguments a = {.verb = ""};
    struct buf b;
    if (!arguments_read(argc, argv, &a))
        return EXIT_USAGE;
    buf_init(&b, 4u << 20);
    if (strcmp(a.verb, "version") == 0) {
        buf_text(&b, "kith " KITH_VERSION "\n");
        return print(&b);
    }
    if (strcmp(a.verb, "reference") == 0) {
        config_reference(&b);
        return print(&b);
    }
    if (strcmp(a.verb, "serve") != 0 && strcmp(a.verb, "check") != 0 &&
        strcmp(a.verb, "show") != 0) {
        (void)fputs(usage, stderr);
        return EXIT_USAGE;
    }
    diag_clock_set(wall_now_ms);
    diag_init("info");
    check_hook_set(on_check_failed);
    if (config_load(a.file, environ, a.sets, a.sets_count, &main_state.config, &b) != ERR_OK) {
        say(&b);
        buf_fini(&b);
        return EXIT_USAGE;
    }
    diag_init(main_state.config->log_level);
    diag_thread_init("main");
    int status = run_verb(&a);
    config_free(&main_state.config);
    return status;
}
