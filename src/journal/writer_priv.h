/* writer: the thread that commits, and what it shares with journal.c.
 *
 * Owner   : the journal. Thread: as said. Memory: operations on their way are the journal's. */
#ifndef JOURNAL_WRITER_PRIV_H
#define JOURNAL_WRITER_PRIV_H

#include "journal/journal_priv.h"

#include <pthread.h>
#include <stdatomic.h>

#define JOURNAL_READERS_MAX 8

/* Messages in the writer's inbox that are no operations. */
enum { JOURNAL_MSG_PAUSE = JOURNAL_MSG_KIND + 1, JOURNAL_MSG_GO_ON };

struct journal_reader {
    struct journal *journal;
    struct inbox *inbox;
    struct reader *reader;
    pthread_t thread;
    bool runs;
};

struct journal {
    struct store *store;
    bool own_store;
    struct lock lock;
    uint32_t batch_max;
    uint32_t pending_max;
    struct inbox *inbox; /* of the writer */
    pthread_t writer;
    bool writer_runs;
    struct journal_reader readers[JOURNAL_READERS_MAX];
    uint32_t readers_count;

    /* any thread */
    _Atomic uint32_t pending;
    _Atomic bool healthy;
    _Atomic bool closing;
};

void *writer_main(void *journal);
void *reader_main(void *journal_reader);

#endif
