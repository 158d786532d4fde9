/* config: one table of settings -> one frozen struct per generation.
 *
 * Owner   : main loads it and hands out `const struct config *`; nobody changes it afterwards.
 * Thread  : any may read; it outlives every engine.
 * Memory  : one arena inside the struct; config_free gives all of it back.
 * Errors  : ERR_PROTO with a message that names file, line, key and what is allowed. ERR_FULL
 *           when memory is out. What is accepted but odd is a line in `warnings`.
 * Limits  : CONFIG_*_MAX below; a file of CONFIG_FILE_BYTES_MAX.
 * Units   : times in ms unless the row says otherwise; `300s`, `5m`, `100ms`, `2h`, `1d` or a bare
 *           number in the row's unit. Sizes in bytes: `64KiB`, `1MiB` or a bare number.
 * Sources, later wins: the table's defaults, the YAML file, environment KITH_A_B for key a.b (for
 *           lists: KITH_MODELS_0_URL; an empty variable counts as not set), --set key=value (for
 *           lists: models.0.url=...). KITH_MODELS, KITH_SHARE and KITH_PYTHON are folders and
 *           programs of the installation, not settings. */
#ifndef CONFIG_CONFIG_H
#define CONFIG_CONFIG_H

#include "base/arena.h"
#include "base/base.h"
#include "base/buf.h"

/* NUMBERS: X(field, key, default, min, max, unit, help). All int64_t. unit: ms, bytes, count. */
#define CONFIG_NUMBERS(X)                                                                         \
    X(engines, "engines", 0, 0, 64, "count", "event-loop threads; 0 = one per core")              \
    X(connections_max, "limits.connections", 20000, 16, 2000000, "count",                         \
      "connections one process holds; more are not accepted until one ends")                      \
    X(connections_address_rate, "limits.connections_per_address", 200, 1, 1000000, "count",       \
      "new connections a second from one address")                                                \
    X(user_commands_rate, "limits.user_commands", 100, 1, 1000000, "count",                       \
      "commands a second of one user")                                                            \
    X(user_commands_burst, "limits.user_commands_burst", 300, 1, 1000000, "count",                \
      "commands a user may send at once")                                                         \
    X(user_runs_max, "limits.user_runs", 64, 1, 10000, "count",                                   \
      "runs of one user that may be active or queued at once")                                    \
    X(session_unanswered_max, "limits.unanswered", 32, 1, 1024, "count",                          \
      "commands of one connection that are worked on at once; more wait")                         \
    X(session_channels_max, "limits.channels", 128, 1, 10000, "count",                            \
      "subscriptions of one connection")                                                          \
    X(frame_bytes_max, "limits.frame", 1048576, 4096, 67108864, "bytes",                          \
      "one WebSocket message or HTTP body from a client")                                         \
    X(text_bytes_max, "limits.text", 32768, 16, 1048576, "bytes", "text of one message")          \
    X(title_bytes_max, "limits.title", 256, 16, 4096, "bytes", "title of a conversation")         \
    X(send_ephemeral_bytes_max, "limits.send_ephemeral", 65536, 1024, 16777216, "bytes",          \
      "unsent bytes of a connection above which deltas are left out")                             \
    X(send_bytes_max, "limits.send", 1048576, 16384, 67108864, "bytes",                           \
      "unsent bytes of a connection above which it is closed as slow (3008)")                     \
    X(send_stall_ms, "limits.send_stall", 30000, 1000, 600000, "ms",                              \
      "a connection that takes no byte for so long is closed as slow (3008)")                     \
    X(memory_bytes_max, "limits.memory", 0, 0, INT64_MAX, "bytes",                                \
      "memory of kith's own structures above which work is refused; 0 = none")                    \
    X(head_timeout_ms, "timeouts.head", 10000, 100, 600000, "ms", "to send a whole request head") \
    X(body_timeout_ms, "timeouts.body", 30000, 100, 600000, "ms", "to send a whole request body") \
    X(keep_alive_ms, "timeouts.keep_alive", 75000, 100, 3600000, "ms",                            \
      "an HTTP connection may be silent between requests")                                        \
    X(connect_timeout_ms, "timeouts.connect", 15000, 100, 600000, "ms",                           \
      "a WebSocket must send its connect command (3502)")                                         \
    X(ping_ms, "session.ping", 25000, 1000, 3600000, "ms", "between two pings to a session")      \
    X(pong_ms, "session.pong", 10000, 100, 3600000, "ms", "to answer a ping (3012)")              \
    X(recover_events_max, "session.recover_events", 300, 1, 10000, "count",                       \
      "events handed over in one recovery")                                                       \
    X(recover_bytes_max, "session.recover_bytes", 1048576, 4096, 67108864, "bytes",               \
      "bytes handed over in one recovery")                                                        \
    X(runs_queued_max, "runs.queued_max", 8, 0, 1000, "count",                                    \
      "runs that wait in one conversation; the next send is refused as busy")                     \
    X(run_delta_ms, "runs.delta", 30, 0, 5000, "ms", "between two deltas of one run")             \
    X(run_checkpoint_ms, "runs.checkpoint", 2000, 100, 60000, "ms",                               \
      "between two stored checkpoints of a running answer")                                       \
    X(run_checkpoint_bytes, "runs.checkpoint_bytes", 2048, 128, 1048576, "bytes",                 \
      "new text after which a checkpoint is stored earlier")                                      \
    X(run_text_bytes_max, "runs.text", 262144, 1024, 16777216, "bytes",                           \
      "text of one answer; it then ends complete with why: length")                               \
    X(run_ms_max, "runs.time", 300000, 1000, 86400000, "ms",                                      \
      "writing time of one answer; it then ends complete with why: length")                       \
    X(first_token_ms, "model.first_token", 30000, 100, 3600000, "ms",                             \
      "until the first token, all attempts together")                                             \
    X(model_idle_ms, "model.idle", 20000, 100, 3600000, "ms", "between two tokens of an answer")  \
    X(model_connect_ms, "model.connect", 5000, 50, 600000, "ms", "to connect to a backend")       \
    X(model_queue_max, "model.queue", 10000, 1, 1000000, "count",                                 \
      "requests that wait for one model; more are refused as overloaded")                         \
    X(context_tokens, "context.tokens", 3072, 256, 10000000, "count",                             \
      "tokens of a prompt, the answer's room excluded")                                           \
    X(context_messages_max, "context.messages", 200, 2, 100000, "count",                          \
      "messages of the path looked at for a prompt")                                              \
    X(answer_tokens, "context.answer_tokens", 1024, 16, 1000000, "count",                         \
      "most tokens of one answer")                                                                \
    X(journal_batch_max, "journal.batch", 256, 1, 10000, "count", "operations of one commit")     \
    X(journal_pending_max, "journal.pending", 20000, 16, 1000000, "count",                        \
      "operations that wait for the store; more are refused as overloaded")                       \
    X(conversation_idle_ms, "conversations.idle", 300000, 1000, 86400000, "ms",                   \
      "an unwatched conversation leaves memory after this time")                                  \
    X(conversations_max, "conversations.loaded", 200000, 16, 10000000, "count",                   \
      "conversations in memory of one engine")                                                    \
    X(drain_ms, "drain", 30000, 0, 3600000, "ms",                                                 \
      "SIGTERM: running answers may finish for so long")                                          \
    X(local_context, "local.context", 8192, 512, 1048576, "count",                                \
      "context of the local model's server, all slots together")                                  \
    X(local_slots, "local.slots", 2, 1, 64, "count", "answers the local model makes at once")     \
    X(local_threads, "local.threads", 0, 0, 256, "count",                                         \
      "threads of the local model; 0 = the cores of this machine")

/* TEXTS: X(field, key, default, help). const char *, never NULL. */
#define CONFIG_TEXTS(X)                                                                        \
    X(listen, "listen", "127.0.0.1:8080", "address:port to take connections on; port 0 = any") \
    X(data_dir, "data_dir", "data", "where the embedded store and secrets live")               \
    X(store, "store", "sqlite", "sqlite, or mem (loses everything at exit; for tests)")        \
    X(bus, "bus", "local", "local: one process")                                               \
    X(roles, "roles", "edge,reply,work", "which parts this process runs")                      \
    X(node, "node", "", "this process's name; empty = made at start")                          \
    X(auth_hs256_secret, "auth.hs256_secret", "", "secret of HS256 connection tokens")         \
    X(log_level, "log.level", "info", "debug, info, warn or error")                            \
    X(local_model, "local.model", "",                                                          \
      "a GGUF file for the local model; empty = the installed one")                            \
    X(local_python, "local.python", "", "python that has xllamacpp; empty = the installed one")

/* FLAGS: X(field, key, default, help): true, false or auto. */
enum config_flag { CONFIG_FALSE, CONFIG_TRUE, CONFIG_AUTO };
#define CONFIG_FLAGS(X)                                                                            \
    X(auth_guests, "auth.guests", CONFIG_AUTO,                                                     \
      "people without a token become guests; auto = on while kith listens on loopback and "        \
      "neither a secret nor keys are configured")                                                  \
    X(auth_insecure, "auth.insecure", CONFIG_FALSE, "tests only: everything allowed to everybody") \
    X(local_enabled, "local.enabled", CONFIG_AUTO,                                                 \
      "the managed local model; auto = on when no models are configured")                          \
    X(test_hooks, "test.hooks", CONFIG_FALSE, "signals that stop parts of the server, for tests")

#define CONFIG_FILE_BYTES_MAX     (4u << 20)
#define CONFIG_KEY_FILE_BYTES_MAX 4096
#define CONFIG_MODELS_MAX         64
#define CONFIG_PERSONAS_MAX       256
#define CONFIG_EXAMPLES_MAX       64
#define CONFIG_SUGGESTIONS_MAX    16
#define CONFIG_API_KEYS_MAX       256
#define CONFIG_SCOPES_MAX         32
#define CONFIG_TERMS_MAX          10000
#define CONFIG_WARNINGS_MAX       64
#define CONFIG_LOCAL_MODEL_NAME   "Qwen2.5-Coder-1.5B-Instruct (local)"

struct config_model {
    const char *name;
    const char *url;          /* base that ends in /v1; kith appends /chat/completions */
    const char *model;        /* passed on verbatim; empty = name */
    const char *api_key_file; /* or empty */
    const char *api_key;      /* read from the file at load; never shown or logged */
    int64_t concurrency;      /* requests at once; 0 = no limit */
    int64_t context_tokens;   /* 0 = the global setting */
    double temperature;       /* < 0 = not sent */
    bool local;               /* the managed local backend, made by local.enabled; url is empty */
};

struct config_example {
    const char *user;
    const char *assistant;
};

struct config_persona {
    const char *id;
    const char *name;
    const char *prompt;
    const char *greeting;
    const char *model; /* empty = default */
    const struct config_example *examples;
    size_t examples_count;
    const char *const *suggestions;
    size_t suggestions_count;
};

struct config_api_key {
    const char *key;           /* itself, or read from key_file; never shown or logged */
    const char *key_file;      /* where it came from; empty = it stood in the configuration */
    const char *app;           /* "default" */
    const char *const *scopes; /* count 0 = all */
    size_t scopes_count;
};

/* A term list entry of `safety.terms[] {term, side, category}`. */
struct config_term {
    const char *term;
    const char *category;
    const char *side; /* user, ai or both, as the two flags say */
    bool user_side;
    bool ai_side;
};

struct config {
#define CONFIG_FIELD_NUMBER(field, key, def, min, max, unit, help) int64_t field;
    CONFIG_NUMBERS(CONFIG_FIELD_NUMBER)
#undef CONFIG_FIELD_NUMBER
#define CONFIG_FIELD_TEXT(field, key, def, help) const char *field;
    CONFIG_TEXTS(CONFIG_FIELD_TEXT)
#undef CONFIG_FIELD_TEXT
#define CONFIG_FIELD_FLAG(field, key, def, help) enum config_flag field;
    CONFIG_FLAGS(CONFIG_FIELD_FLAG)
#undef CONFIG_FIELD_FLAG
    const struct config_model *models; /* never empty after load unless local is off */
    size_t models_count;
    const struct config_persona *personas; /* the first is the default; never empty */
    size_t personas_count;
    const struct config_api_key *api_keys;
    size_t api_keys_count;
    const struct config_term *terms;
    size_t terms_count;
    bool terms_default;          /* safety.builtin_terms: the built-in list is in force, too */
    const char *const *warnings; /* whole lines: what is accepted and yet should be looked at */
    size_t warnings_count;
    struct arena arena;
};

struct config_set {
    const char *assignment; /* "key=value" from --set */
};

/* Loads and validates. `file` may be NULL. `environment` is environ. On ERR_PROTO `message` holds
 * one line: "FILE:LINE: KEY: what is wrong; allowed: ...". */
enum err config_load(const char *file, char *const *environment, const struct config_set *sets,
                     size_t sets_count, struct config **out, struct buf *message) MUST_USE;
void config_free(struct config **c);

/* What is in force, as YAML that loads to the same; secrets are shown as file names or left out. */
void config_show(const struct config *c, struct buf *out);

/* The reference page of every key, as Markdown (docs/config.md is made of it). */
void config_reference(struct buf *out);

/* NULL when there is no such model or persona. An empty name = the default. */
const struct config_model *config_model_get(const struct config *c, struct bytes name);
const struct config_persona *config_persona_get(const struct config *c, struct bytes id);

#endif
