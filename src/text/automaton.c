/* Aho-Corasick over bytes. Failure links are followed when a step is made, not resolved into a
 * table: most words leave the tree at their first or second letter, and ten thousand terms stay
 * small. */
#include "base/mem.h"
#include "text/text_priv.h"

static uint32_t child_of(const struct automaton *a, uint32_t node, uint8_t byte)
{
    uint32_t child = a->nodes[node].child;
    while (child != 0 && a->nodes[child].byte != byte)
        child = a->nodes[child].sibling;
    return child;
}

static enum err node_add(struct automaton *a, uint32_t parent, uint8_t byte, uint32_t *out)
{
    if (a->nodes_count == a->nodes_capacity) {
        uint32_t capacity = a->nodes_capacity * 2 + 64;
        struct automaton_node *grown = mem_resize(a->nodes, capacity * sizeof(*grown));
        if (grown == NULL)
            return ERR_FULL;
        a->nodes = grown;
        a->nodes_capacity = capacity;
    }
    uint32_t n = a->nodes_count++;
    a->nodes[n] = (struct automaton_node){.byte = byte};
    if (n > 0) { /* the root has no parent */
        a->nodes[n].depth = (uint16_t)(a->nodes[parent].depth + 1);
        a->nodes[n].sibling = a->nodes[parent].child;
        a->nodes[parent].child = n;
    }
    *out = n;
    return ERR_OK;
}

enum err automaton_init(struct automaton *a)
{
    uint32_t node;
    *a = (struct automaton){0};
    enum err err = node_add(a, 0, 0, &node);
    return err == ERR_OK ? node_add(a, 0, ' ', &node) : err;
}

void automaton_fini(struct automaton *a)
{
    mem_free(a->nodes);
    mem_free(a->terms);
    *a = (struct automaton){0};
}

static enum err term_add(struct automaton *a, uint16_t folded_bytes, const char *category)
{
    if (a->terms_count == a->terms_capacity) {
        uint32_t capacity = a->terms_capacity * 2 + 32;
        struct automaton_term *grown = mem_resize(a->terms, capacity * sizeof(*grown));
        if (grown == NULL)
            return ERR_FULL;
        a->terms = grown;
        a->terms_capacity = capacity;
    }
    a->terms[a->terms_count++] = (struct automaton_term){category, folded_bytes};
    return ERR_OK;
}

enum err automaton_add(struct automaton *a, struct bytes folded, const char *category)
{
    uint32_t node = 0;
    CHECK(folded.count > 2 && folded.count <= TEXT_TERM_BYTES_MAX && folded.at[0] == ' ');
    for (size_t i = 0; i < folded.count; i++) {
        uint32_t next = child_of(a, node, folded.at[i]);
        if (next == 0) {
            enum err err = node_add(a, node, folded.at[i], &next);
            if (err != ERR_OK)
                return err;
        }
        node = next;
    }
    if (a->nodes[node].term != 0)
        return ERR_OK;
    enum err err = term_add(a, (uint16_t)folded.count, category);
    if (err == ERR_OK)
        a->nodes[node].term = a->terms_count;
    return err;
}

/* Breadth first, so that a node's failure link, which is shorter, is finished before it. */
enum err automaton_link(struct automaton *a)
{
    uint32_t *queue = mem_new(a->nodes_count * sizeof(*queue));
    uint32_t count = 0;
    if (queue == NULL)
        return ERR_FULL;
    queue[count++] = 0;
    for (uint32_t i = 0; i < count; i++) {
        uint32_t parent = queue[i];
        for (uint32_t n = a->nodes[parent].child; n != 0; n = a->nodes[n].sibling) {
            struct automaton_node *node = &a->nodes[n];
            uint32_t from = a->nodes[parent].fail;
            uint32_t fail = parent == 0 ? 0 : child_of(a, from, node->byte);
            while (parent != 0 && fail == 0 && from != 0) {
                from = a->nodes[from].fail;
                fail = child_of(a, from, node->byte);
            }
            node->fail = fail;
            if (node->term == 0)
                node->term = a->nodes[fail].term;
            queue[count++] = n;
        }
    }
    mem_free(queue);
    for (uint32_t n = a->nodes[AUTOMATON_START].child; n != 0; n = a->nodes[n].sibling)
        a->first[a->nodes[n].byte] = n;
    return ERR_OK;
}

uint32_t automaton_step(const struct automaton *a, uint32_t state, uint8_t byte)
{
    for (;;) { /* one link shorter each time */
        uint32_t next = state == AUTOMATON_START ? a->first[byte] : child_of(a, state, byte);
        if (next != 0 || state == 0)
            return next;
        state = a->nodes[state].fail;
    }
}
