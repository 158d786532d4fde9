/* The board of conditions that /readyz reads. */
#include "diag/diag.h"

#include <pthread.h>
#include <stdio.h>

static struct {
    char word[DIAG_WORD_BYTES_MAX]; /* empty = it holds */
    char sentence[DIAG_SENTENCE_BYTES_MAX];
} conditions[DIAG_CONDITIONS_COUNT];

static pthread_mutex_t conditions_lock = PTHREAD_MUTEX_INITIALIZER;

void diag_condition_set(enum diag_condition c, const char *word, const char *sentence)
{
    (void)pthread_mutex_lock(&conditions_lock);
    (void)snprintf(conditions[c].word, sizeof(conditions[c].word), "%s", word == NULL ? "" : word);
    (void)snprintf(conditions[c].sentence, sizeof(conditions[c].sentence), "%s",
                   word == NULL || sentence == NULL ? "" : sentence);
    (void)pthread_mutex_unlock(&conditions_lock);
}

bool diag_is_ready(char word[DIAG_WORD_BYTES_MAX], char sentence[DIAG_SENTENCE_BYTES_MAX])
{
    bool ready = true;
    (void)pthread_mutex_lock(&conditions_lock);
    for (size_t i = 0; i < DIAG_CONDITIONS_COUNT && ready; i++) {
        if (conditions[i].word[0] == '\0')
            continue;
        ready = false;
        memcpy(word, conditions[i].word, DIAG_WORD_BYTES_MAX);
        memcpy(sentence, conditions[i].sentence, DIAG_SENTENCE_BYTES_MAX);
    }
    (void)pthread_mutex_unlock(&conditions_lock);
    return ready;
}
