/* The counters as Prometheus text: for each name HELP, TYPE, then its samples. */
#include "base/mem.h"
#include "diag/diag_priv.h"

struct row {
    const char *name;
    const char *help;
};

#define DIAG_ROW(name, help) {#name, help},
static const struct row counter_rows[] = {DIAG_COUNTERS(DIAG_ROW)};
static const struct row gauge_rows[] = {DIAG_GAUGES(DIAG_ROW)};
static const struct row histogram_rows[] = {DIAG_HISTOGRAMS(DIAG_ROW)};
#undef DIAG_ROW

#define DIAG_BUCKET_NAME(ns, le) le,
static const char *const bucket_names[] = {DIAG_BUCKETS(DIAG_BUCKET_NAME) "+Inf"};
#undef DIAG_BUCKET_NAME
_Static_assert(ARRAY_COUNT(bucket_names) == DIAG_BUCKETS_COUNT, "one name a bucket");

static void head_put(struct buf *out, const char *name, const char *suffix, const char *help,
                     const char *type)
{
    buf_printf(out, "# HELP kith_%s%s %s\n# TYPE kith_%s%s %s\n", name, suffix, help, name, suffix,
               type);
}

static void number_put(struct buf *out, const char *name, const char *suffix, const char *help,
                       const char *type, uint64_t number)
{
    head_put(out, name, suffix, help, type);
    buf_printf(out, "kith_%s%s ", name, suffix);
    buf_u64(out, number);
    buf_byte(out, '\n');
}

static void histogram_put(struct buf *out, enum diag_histogram h)
{
    const char *name = histogram_rows[h].name;
    uint64_t buckets[DIAG_BUCKETS_COUNT] = {0};
    uint64_t sum_ns = 0;
    uint64_t count = 0;
    struct diag_thread *t;
    for (uint32_t i = 0; (t = diag_thread_at(i)) != NULL; i++) {
        for (size_t b = 0; b < DIAG_BUCKETS_COUNT; b++)
            buckets[b] += atomic_load_explicit(&t->spans[h].buckets[b], memory_order_relaxed);
        sum_ns += atomic_load_explicit(&t->spans[h].sum_ns, memory_order_relaxed);
    }
    head_put(out, name, "_seconds", histogram_rows[h].help, "histogram");
    for (size_t b = 0; b < DIAG_BUCKETS_COUNT; b++) {
        /* The count is the last bucket by construction, so that both always agree. */
        count += buckets[b];
        buf_printf(out, "kith_%s_seconds_bucket{le=\"%s\"} ", name, bucket_names[b]);
        buf_u64(out, count);
        buf_byte(out, '\n');
    }
    buf_printf(out, "kith_%s_seconds_sum %llu.%09llu\n", name,
               (unsigned long long)(sum_ns / 1000000000),
               (unsigned long long)(sum_ns % 1000000000));
    buf_printf(out, "kith_%s_seconds_count ", name);
    buf_u64(out, count);
    buf_byte(out, '\n');
}

void diag_render(struct buf *out)
{
    buf_text(out, "# HELP kith_build_info which kith this is\n# TYPE kith_build_info gauge\n"
                  "kith_build_info{version=\"" KITH_VERSION "\"} 1\n");
    for (size_t i = 0; i < ARRAY_COUNT(counter_rows); i++)
        number_put(out, counter_rows[i].name, "_total", counter_rows[i].help, "counter",
                   diag_counter_sum((enum diag_counter)i));
    for (size_t i = 0; i < ARRAY_COUNT(gauge_rows); i++) {
        head_put(out, gauge_rows[i].name, "", gauge_rows[i].help, "gauge");
        buf_printf(out, "kith_%s ", gauge_rows[i].name);
        buf_i64(out, diag_gauge_sum((enum diag_gauge)i));
        buf_byte(out, '\n');
    }
    for (size_t i = 0; i < ARRAY_COUNT(histogram_rows); i++)
        histogram_put(out, (enum diag_histogram)i);
    number_put(out, "memory_bytes", "", "memory of kith's own structures", "gauge",
               mem_used_bytes());
    number_put(out, "memory_bytes_max", "", "the most memory that was in use at once", "gauge",
               mem_used_bytes_max());
    number_put(out, "memory_failures", "_total", "times memory was refused", "counter",
               mem_failures());
}
