/* The life of the local model's process. The drawing and the policy are in the header. */
#include "model/manager_core_priv.h"

static const struct {
    const char *name;
    uint32_t next;
} manager_table[MANAGER_STATES_COUNT] = {
#define MANAGER_ROW(row_name, help, row_next) [MANAGER_##row_name] = {#row_name, row_next},
    MANAGER_STATES(MANAGER_ROW)
#undef MANAGER_ROW
};

static const struct {
    const char *word;
    const char *sentence;
} manager_causes[] = {
#define MANAGER_ROW(name, word, sentence) [MANAGER_CAUSE_##name] = {word, sentence},
    MANAGER_CAUSES(MANAGER_ROW)
#undef MANAGER_ROW
};

const char *manager_state_name(enum manager_state s)
{
    return manager_table[s].name;
}

const char *manager_cause_word(enum manager_cause c)
{
    return manager_causes[c].word;
}

const char *manager_cause_sentence(enum manager_cause c)
{
    return manager_causes[c].sentence;
}

static void manager_enter(struct manager_core *c, enum manager_state s, struct mono now,
                          int64_t deadline_ms)
{
    CHECK((manager_table[c->state].next & (1u << s)) != 0);
    c->state = s;
    c->entered = now;
    c->misses = 0;
    c->deadline = deadline_ms == 0 ? (struct mono){0} : mono_after_ms(now, deadline_ms);
}

void manager_core_init(struct manager_core *c)
{
    *c = (struct manager_core){.backoff_ms = MANAGER_BACKOFF_MIN_MS};
}

static struct manager_effects manager_fail(struct manager_core *c, enum manager_cause cause,
                                           struct mono now)
{
    manager_enter(c, MANAGER_FAILED, now, 0);
    c->cause = cause;
    return (struct manager_effects){.withdraw = true, .refuse = true};
}

static struct manager_effects manager_spawn(struct manager_core *c, struct mono now)
{
    manager_enter(c, MANAGER_STARTING, now, MANAGER_START_MS);
    return (struct manager_effects){.spawn = true};
}

/* The exit codes are the contract with llama_child.py; 126 and 127 come from env(1). */
static enum manager_cause manager_exit_cause(int code)
{
    if (code == 3)
        return MANAGER_CAUSE_NO_CPU;
    if (code == 4)
        return MANAGER_CAUSE_BAD_MODEL;
    if (code == 126 || code == 127)
        return MANAGER_CAUSE_NO_PYTHON;
    return MANAGER_CAUSE_NONE;
}

static struct manager_effects manager_back_off(struct manager_core *c, struct mono now)
{
    if (c->state == MANAGER_READY) {
        if (mono_since_ms(c->entered, now) >= MANAGER_HEALTHY_MS)
            c->backoff_ms = MANAGER_BACKOFF_MIN_MS;
    } else {
        c->failures++;
    }
    int64_t wait_ms = c->backoff_ms;
    c->backoff_ms = i64_min(2 * c->backoff_ms, MANAGER_BACKOFF_MAX_MS);
    manager_enter(c, MANAGER_BACKOFF, now, wait_ms);
    c->impatient = c->failures >= MANAGER_PATIENCE;
    return (struct manager_effects){.withdraw = true, .refuse = c->impatient};
}

static struct manager_effects manager_exited(struct manager_core *c, const struct manager_event *ev,
                                             struct mono now)
{
    bool runs =
        c->state == MANAGER_STARTING || c->state == MANAGER_LOADING || c->state == MANAGER_READY;
    c->dying = false;
    if (!runs)
        return (struct manager_effects){0};
    enum manager_cause cause = manager_exit_cause(ev->code);
    if (cause != MANAGER_CAUSE_NONE && c->state != MANAGER_READY)
        return manager_fail(c, cause, now);
    return manager_back_off(c, now);
}

static struct manager_effects manager_kill(struct manager_core *c)
{
    c->dying = true;
    c->deadline = (struct mono){0};
    return (struct manager_effects){.withdraw = true, .kill = true};
}

static struct manager_effects manager_healthy(struct manager_core *c, struct mono now)
{
    if (c->dying)
        return (struct manager_effects){0};
    c->misses = 0;
    if (c->state != MANAGER_LOADING)
        return (struct manager_effects){0};
    manager_enter(c, MANAGER_READY, now, MANAGER_HEALTH_TICK_MS);
    c->failures = 0;
    c->impatient = false;
    return (struct manager_effects){.offer = true};
}

static struct manager_effects manager_sick(struct manager_core *c, bool busy, struct mono now)
{
    if (c->dying)
        return (struct manager_effects){0};
    if (c->state == MANAGER_LOADING && mono_since_ms(c->entered, now) >= MANAGER_LOAD_MS)
        return manager_kill(c);
    if (c->state != MANAGER_READY)
        return (struct manager_effects){0};
    c->misses++;
    if (c->misses < (uint32_t)(busy ? MANAGER_MISSES_BUSY_MAX : MANAGER_MISSES_MAX))
        return (struct manager_effects){0};
    return manager_kill(c);
}

static struct manager_effects manager_timer(struct manager_core *c, struct mono now)
{
    switch (c->state) {
    case MANAGER_STARTING: return manager_kill(c);
    case MANAGER_LOADING:
        c->deadline = mono_after_ms(now, MANAGER_LOAD_TICK_MS);
        return (struct manager_effects){.probe = true};
    case MANAGER_READY:
        c->deadline = mono_after_ms(now, MANAGER_HEALTH_TICK_MS);
        return (struct manager_effects){.probe = true};
    case MANAGER_BACKOFF: return manager_spawn(c, now);
    case MANAGER_OFF:
    case MANAGER_FAILED:
    case MANAGER_STATES_COUNT: break;
    }
    return (struct manager_effects){0};
}

static struct manager_effects manager_stop(struct manager_core *c, struct mono now)
{
    bool runs =
        c->state == MANAGER_STARTING || c->state == MANAGER_LOADING || c->state == MANAGER_READY;
    if (c->state == MANAGER_OFF)
        return (struct manager_effects){0};
    manager_enter(c, MANAGER_OFF, now, 0);
    return (struct manager_effects){.withdraw = true, .refuse = true, .terminate = runs};
}

struct manager_effects manager_decide(struct manager_core *c, const struct manager_event *ev,
                                      struct mono now)
{
    switch (ev->kind) {
    case MANAGER_ON_START:
        return c->state == MANAGER_OFF ? manager_spawn(c, now) : (struct manager_effects){0};
    case MANAGER_ON_MISSING: return manager_fail(c, ev->cause, now);
    case MANAGER_ON_SPAWN_FAILED: return manager_back_off(c, now);
    case MANAGER_ON_LINE:
        if (c->state != MANAGER_STARTING || c->dying)
            return (struct manager_effects){0};
        manager_enter(c, MANAGER_LOADING, now, MANAGER_LOAD_TICK_MS);
        return (struct manager_effects){.probe = true};
    case MANAGER_ON_HEALTH_OK: return manager_healthy(c, now);
    case MANAGER_ON_HEALTH_BAD: return manager_sick(c, ev->busy, now);
    case MANAGER_ON_EXIT: return manager_exited(c, ev, now);
    case MANAGER_ON_TIMER: return manager_timer(c, now);
    case MANAGER_ON_STOP: return manager_stop(c, now);
    case MANAGER_EVENTS_COUNT: break;
    }
    return (struct manager_effects){0};
}
