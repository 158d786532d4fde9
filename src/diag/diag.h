/* diag: counters, gauges, histograms, log lines, the flight recorder. Records only; api shows them.
 *
 * Owner   : the process. Each thread registers once (diag_thread_init) and owns its copy.
 * Thread  : counting is plain stores to the thread's own copy, read relaxed by diag_render. Threads
 *           that did not register share one copy (slower, as right).
 * Memory  : fixed; a log line is at most DIAG_LINE_BYTES_MAX and is cut, never split. A thread's
 *           copy outlives it: sums never go down.
 * Errors  : none: what cannot be written is counted (log_lost).
 * Limits  : DIAG_THREADS_MAX copies; threads beyond it share the common one.
 * Rule    : no message text, token or key in a line. Ids are fine.
 * Source  : Prometheus text exposition format 0.0.4. */
#ifndef DIAG_DIAG_H
#define DIAG_DIAG_H

#include "base/base.h"
#include "base/buf.h"
#include "base/time.h"

#ifndef KITH_VERSION
#define KITH_VERSION "0.1.0"
#endif

#define DIAG_LINE_BYTES_MAX  1024
#define DIAG_THREADS_MAX     256
#define DIAG_NOTES_MAX       1024 /* events of one thread that the recorder remembers */
#define DIAG_QUOTE_BYTES_MAX 256

/* X(name, help): Prometheus counters kith_<name>_total. Add rows freely, one per rare branch. */
#define DIAG_COUNTERS(X)                                                            \
    X(connections_accepted, "connections taken")                                    \
    X(connections_refused, "connections closed at the door: process full")          \
    X(connections_rate_refused, "connections closed at the door: address too fast") \
    X(accept_paused, "times accepting paused for want of descriptors")              \
    X(bytes_read, "bytes read from clients")                                        \
    X(bytes_written, "bytes written to clients")                                    \
    X(http_requests, "HTTP requests")                                               \
    X(http_bad, "HTTP requests refused as malformed")                               \
    X(http_timeouts, "HTTP connections closed: head, body or idle too slow")        \
    X(ws_opened, "WebSocket sessions opened")                                       \
    X(ws_bad, "WebSocket sessions closed for a protocol error")                     \
    X(commands, "Centrifuge commands decoded")                                      \
    X(commands_waiting, "commands that waited for an earlier one's answer")         \
    X(memory_refused, "commands and sessions refused: limits.memory")               \
    X(commands_limited, "commands refused: user too fast")                          \
    X(session_slow, "sessions closed as slow (3008)")                               \
    X(session_no_pong, "sessions closed: no pong (3012)")                           \
    X(session_stale, "sessions closed: no connect in time (3502)")                  \
    X(session_bad_request, "sessions closed: bad request (3501)")                   \
    X(session_bad_token, "sessions closed: invalid token (3500)")                   \
    X(deltas_dropped, "deltas left out for slow readers")                           \
    X(publications, "publications handed to sessions")                              \
    X(fanouts, "events handed to an engine for its subscribers")                    \
    X(recoveries, "subscriptions recovered")                                        \
    X(recoveries_failed, "subscriptions that could not be recovered")               \
    X(messages_accepted, "user messages committed")                                 \
    X(messages_duplicate, "sends that repeated a cid")                              \
    X(messages_refused, "sends refused by a rule")                                  \
    X(messages_blocked, "sends refused by policy")                                  \
    X(runs_started, "runs started")                                                 \
    X(runs_complete, "runs ended complete")                                         \
    X(runs_stopped, "runs ended by stop")                                           \
    X(runs_failed, "runs ended failed")                                             \
    X(runs_blocked, "runs ended blocked")                                           \
    X(runs_recovered, "runs found without a process and ended or started again")    \
    X(run_lost, "run endings that found another attempt in charge")                 \
    X(deltas, "deltas published")                                                   \
    X(checkpoints, "checkpoints of running answers stored")                         \
    X(checkpoints_shed, "checkpoints left out: store busy")                         \
    X(journal_commits, "commits")                                                   \
    X(journal_ops, "operations committed")                                          \
    X(journal_reads, "read operations")                                             \
    X(journal_full, "operations refused: too many waiting")                         \
    X(journal_io_errors, "operations that failed: disk")                            \
    X(journal_uncertain, "operations whose outcome was unknown")                    \
    X(journal_reopened, "times the store was reopened after a failure")             \
    X(model_requests, "requests to backends")                                       \
    X(model_retries, "second tries before the first token")                         \
    X(model_errors, "backend attempts that failed")                                 \
    X(model_timeouts, "backend attempts that ran out of time")                      \
    X(model_tokens, "text events received from backends")                           \
    X(model_refused, "requests refused: queue full")                                \
    X(child_started, "local model processes started")                               \
    X(child_died, "local model processes that died")                                \
    X(mailbox_messages, "messages between engines and rooms")                       \
    X(slow_turns, "turns of an event loop over 100 ms")                             \
    X(log_lost, "log lines that could not be written")

/* X(name, help): gauges kith_<name>, added over threads. */
#define DIAG_GAUGES(X)                                 \
    X(connections, "open connections")                 \
    X(sessions, "connected sessions")                  \
    X(subscriptions, "subscriptions of sessions")      \
    X(conversations_loaded, "conversations in memory") \
    X(runs_active, "runs being answered")              \
    X(runs_queued, "runs waiting")                     \
    X(model_inflight, "requests at backends")          \
    X(model_queued, "requests waiting for a backend")  \
    X(journal_pending, "operations waiting for the store")

/* X(name, help): histograms kith_<name>_seconds. */
#define DIAG_HISTOGRAMS(X)                                \
    X(send_to_commit, "chat.send received to its answer") \
    X(commit, "one commit, fsync included")               \
    X(first_token, "run started to its first text")       \
    X(run_time, "run started to its end")                 \
    X(turn, "one turn of an event loop")

enum diag_counter {
#define DIAG_ENUM(name, help) DIAG_C_##name,
    DIAG_COUNTERS(DIAG_ENUM)
#undef DIAG_ENUM
        DIAG_COUNTERS_COUNT
};
enum diag_gauge {
#define DIAG_ENUM(name, help) DIAG_G_##name,
    DIAG_GAUGES(DIAG_ENUM)
#undef DIAG_ENUM
        DIAG_GAUGES_COUNT
};
enum diag_histogram {
#define DIAG_ENUM(name, help) DIAG_H_##name,
    DIAG_HISTOGRAMS(DIAG_ENUM)
#undef DIAG_ENUM
        DIAG_HISTOGRAMS_COUNT
};

#define DIAG_COUNT(name)            diag_add(DIAG_C_##name, 1)
#define DIAG_COUNT_BY(name, n)      diag_add(DIAG_C_##name, (n))
#define DIAG_GAUGE_BY(name, n)      diag_gauge_add(DIAG_G_##name, (n))
#define DIAG_OBSERVE(name, span_ns) diag_observe(DIAG_H_##name, (span_ns))

void diag_init(const char *level); /* before threads; standard error takes the lines */
/* Where the time of a line comes from: only `engine` reads clocks. Without it lines have no ts. */
void diag_clock_set(int64_t (*wall_ms)(void));
void diag_output_set(int fd);            /* another descriptor for the lines (tests) */
void diag_thread_init(const char *name); /* once in each thread; idempotent */

void diag_add(enum diag_counter c, uint64_t n);
void diag_gauge_add(enum diag_gauge g, int64_t n);
void diag_observe(enum diag_histogram h, int64_t span_ns);
uint64_t diag_counter_sum(enum diag_counter c);
int64_t diag_gauge_sum(enum diag_gauge g);

/* Prometheus text format 0.0.4 of everything above and of mem's counters. */
void diag_render(struct buf *out);

enum diag_level { DIAG_DEBUG, DIAG_INFO, DIAG_WARN, DIAG_ERROR };

/* One line, one write(2): `ts=... level=... event=NAME thread=... key=value ...`. `format` makes
 * the key=value part; values that may hold spaces or come from strangers go through diag_quote. */
void diag_log(enum diag_level level, const char *event, const char *format, ...) PRINTF_LIKE(3, 4);
bool diag_enabled(enum diag_level level);

/* `value` as a quoted, escaped token for a log line, in one of eight buffers of the thread; longer
 * ones are cut and end in "...". */
const char *diag_quote(struct bytes value);

/* The flight recorder: the thread's last DIAG_NOTES_MAX events, dumped by diag_dump (crash,
 * SIGUSR1). `what` is a literal. The two numbers mean what `what` says. Threads that did not
 * register have no recorder: theirs are dropped. */
void diag_note(struct mono now, const char *what, uint64_t a, uint64_t b);
void diag_dump(int fd); /* async-signal-safe; an entry that is being written may look torn */

/* Conditions: what keeps the server from being ready, as a word and a sentence for people. Whoever
 * knows sets it; /readyz shows the first that does not hold. Any thread. */
enum diag_condition { DIAG_COND_DRAINING, DIAG_COND_STORE, DIAG_COND_MODEL, DIAG_CONDITIONS_COUNT };
#define DIAG_WORD_BYTES_MAX     32
#define DIAG_SENTENCE_BYTES_MAX 512

/* `word` NULL = it holds. Texts are copied and cut. */
void diag_condition_set(enum diag_condition c, const char *word, const char *sentence);
/* True when all hold; else the first one's word and sentence. */
bool diag_is_ready(char word[DIAG_WORD_BYTES_MAX], char sentence[DIAG_SENTENCE_BYTES_MAX]);

#endif
