/* The terms of the config and the built-in ones become automata, one for each side. */
#include "base/mem.h"
#include "diag/diag.h"
#include "text/text_priv.h"

const char question_crisis[] = "crisis";
const char question_human[] = "are_you_human";

#define WHOLE_QUESTION_BYTES_MAX 80

/* A term without words, or one that is too long, is left out and said so: its text may be private,
 * so the line names only where it stands. */
static enum err term_take(struct text_terms *t, const char *term, const char *category, bool user,
                          bool ai, size_t index)
{
    uint8_t block[TEXT_TERM_BYTES_MAX];
    struct buf folded;
    enum err err = ERR_OK;
    buf_init_fixed(&folded, block, sizeof(block));
    fold_text(bytes_of(term), &folded);
    if (folded.failed || folded.count == 0) {
        diag_log(DIAG_WARN, "term_left_out", "index=%zu why=%s", index,
                 folded.failed ? "too_long" : "no_words");
        return ERR_OK;
    }
    if (user)
        err = automaton_add(&t->sides[TEXT_USER], buf_view(&folded), category);
    if (ai && err == ERR_OK)
        err = automaton_add(&t->sides[TEXT_AI], buf_view(&folded), category);
    return err;
}

static enum err phrases_take(struct automaton *a, const char *const *phrases, size_t count,
                             const char *category)
{
    enum err err = ERR_OK;
    for (size_t i = 0; i < count && err == ERR_OK; i++) {
        uint8_t block[TEXT_TERM_BYTES_MAX];
        struct buf folded;
        buf_init_fixed(&folded, block, sizeof(block));
        fold_text(bytes_of(phrases[i]), &folded);
        CHECK(!folded.failed);
        err = automaton_add(a, buf_view(&folded), category);
    }
    return err;
}

static enum err terms_fill(struct text_terms *t, const struct config *c)
{
    enum err err = fold_start();
    struct automaton *all[] = {&t->sides[TEXT_USER], &t->sides[TEXT_AI], &t->questions};
    for (size_t i = 0; i < ARRAY_COUNT(all) && err == ERR_OK; i++)
        err = automaton_init(all[i]);
    for (size_t i = 0; i < c->terms_count && err == ERR_OK; i++)
        err = term_take(t, c->terms[i].term, c->terms[i].category, c->terms[i].user_side,
                        c->terms[i].ai_side, i);
    for (size_t i = 0; c->terms_default && i < builtin_terms_count && err == ERR_OK; i++)
        err = term_take(t, builtin_terms[i].term, builtin_terms[i].category,
                        builtin_terms[i].user_side, builtin_terms[i].ai_side, i);
    if (err == ERR_OK)
        err = phrases_take(&t->questions, builtin_crisis, builtin_crisis_count, question_crisis);
    if (err == ERR_OK)
        err = phrases_take(&t->questions, builtin_human, builtin_human_count, question_human);
    for (size_t i = 0; i < ARRAY_COUNT(all) && err == ERR_OK; i++)
        err = automaton_link(all[i]);
    return err;
}

struct text_terms *text_terms_make(const struct config *c)
{
    struct text_terms *t = mem_new_zero(sizeof(*t));
    if (t != NULL && terms_fill(t, c) != ERR_OK)
        text_terms_free(&t);
    return t;
}

void text_terms_free(struct text_terms **t)
{
    if (*t == NULL)
        return;
    automaton_fini(&(*t)->sides[TEXT_USER]);
    automaton_fini(&(*t)->sides[TEXT_AI]);
    automaton_fini(&(*t)->questions);
    mem_free(*t);
    *t = NULL;
}

struct text_match text_terms_find(const struct text_terms *t, enum text_side side,
                                  struct bytes text)
{
    const struct automaton *a = &t->sides[side];
    struct text_match match = {0};
    struct text_scan scan;
    scan_begin(&scan);
    while (text.count > 0 && !match.found) {
        size_t bytes;
        uint32_t c = fold_decode(text, &bytes);
        scan_character(a, &scan, c, bytes, &match);
        text.at += bytes;
        text.count -= bytes;
    }
    scan_end(a, &scan, &match);
    return match;
}

enum text_question text_question(const struct text_terms *t, struct bytes text)
{
    const struct automaton *a = &t->questions;
    bool is_short = text.count <= WHOLE_QUESTION_BYTES_MAX;
    bool is_human = false;
    struct text_scan scan;
    scan_begin(&scan);
    for (bool is_end = false; !is_end;) { /* a character, or the end, each time */
        struct text_match match = {0};
        is_end = text.count == 0;
        if (is_end) {
            scan_end(a, &scan, &match);
        } else {
            size_t bytes;
            uint32_t c = fold_decode(text, &bytes);
            scan_character(a, &scan, c, bytes, &match);
            text.at += bytes;
            text.count -= bytes;
        }
        if (match.found && match.category == question_crisis)
            return TEXT_QUESTION_CRISIS;
        is_human = is_human || match.found;
    }
    return is_human && is_short ? TEXT_QUESTION_ARE_YOU_HUMAN : TEXT_QUESTION_NONE;
}
