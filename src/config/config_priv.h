/* config_priv: how the sources become the struct.
 *
 *     YAML file    \
 *     environment   > one tree of nodes --> fields of the table --> struct config --> checks
 *     --set        /    (later wins)         (config_apply.c)                  (config_check.c)
 *
 * Owner   : one `struct load` on the stack of config_load.
 * Thread  : the one that loads.
 * Memory  : the tree lives in `scratch`, what stays in the config's own arena.
 * Errors  : load_fail writes the one message and answers ERR_PROTO; load_full answers ERR_FULL.
 * Limits  : NODES_MAX nodes, NODE_MEMBERS_MAX keys in one map, NODE_DEPTH_MAX levels. */
#ifndef CONFIG_CONFIG_PRIV_H
#define CONFIG_CONFIG_PRIV_H

#include "base/id.h"
#include "config/config.h"

#define NODES_MAX              300000
#define NODE_MEMBERS_MAX       512
#define NODE_DEPTH_MAX         16
#define LIST_ITEMS_MAX         CONFIG_TERMS_MAX
#define LOAD_SCRATCH_BYTES_MAX (96u << 20)
#define LOAD_CONFIG_BYTES_MAX  (64u << 20)

enum field_kind {
    FIELD_NUMBER, /* int64_t */
    FIELD_DOUBLE, /* double; < 0 = not set */
    FIELD_BOOL,   /* bool */
    FIELD_FLAG,   /* enum config_flag */
    FIELD_TEXT,   /* const char * */
    FIELD_LIST,   /* pointer and count */
    FIELD_LATER   /* a key of a later release: accepted, kept nowhere */
};

/* What one element of a list is: a record of `fields`, or a single text, or either. */
struct list_type {
    size_t item_bytes;
    const struct field *fields;
    size_t fields_count;
    const struct field *lone; /* the field that a bare scalar sets; NULL = a map is wanted */
    size_t items_max;
    bool (*hidden)(const void *item); /* true = `show` leaves this element out */
    const char *hidden_note;
};

struct field {
    const char *key; /* dotted at the top, plain inside a list's element */
    enum field_kind kind;
    size_t offset;       /* in struct config or in the element */
    size_t count_offset; /* of a list's count */
    int64_t number;      /* default of NUMBER, BOOL, FLAG */
    int64_t min;
    int64_t max; /* of TEXT: most bytes */
    const char *unit;
    const char *text; /* default of TEXT */
    const char *help;
    const struct list_type *list;
    bool joined; /* a TEXT that may also be written as a list; joined by commas */
    bool secret; /* never shown */
};

extern const struct field config_fields[];
extern const size_t config_fields_count;

const struct field *field_find(const struct field *fields, size_t count, struct bytes key);
/* The known key nearest to a mistyped one, or NULL when none is near. */
const struct field *field_nearest(const struct field *fields, size_t count, struct bytes key);

enum node_kind { NODE_SCALAR, NODE_MAP, NODE_LIST };

struct place {
    const char *source; /* "kith.yaml", "environment KITH_LISTEN", "--set" */
    uint32_t line;      /* 0 = the source has no lines */
};

struct node {
    enum node_kind kind;
    bool plain; /* a scalar without quotes: nothing, ~ and null then mean "empty" */
    uint32_t count;
    struct bytes key;
    struct bytes text;
    struct place place;
    struct node *parent;
    struct node *first;
    struct node *last;
    struct node *next;
};

struct load {
    struct config *config;
    struct arena scratch;
    struct node *root;
    uint32_t nodes_count;
    struct buf *message;
    bool files_read; /* false = key files are not opened (fuzzing) */
    const char *warnings[CONFIG_WARNINGS_MAX];
    size_t warnings_count;
};

/* config_tree.c */
enum err load_fail(struct load *l, const struct node *n, const char *format, ...) PRINTF_LIKE(3, 4);
enum err load_fail_at(struct load *l, struct place place, const char *format, ...)
    PRINTF_LIKE(3, 4);
enum err load_full(struct load *l);
void load_warn(struct load *l, const struct node *n, const char *format, ...) PRINTF_LIKE(3, 4);
void place_put(struct buf *b, struct place place);
struct node *node_new(struct load *l, enum node_kind kind, struct place place);
void node_append(struct node *parent, struct node *child);
/* Turns a node into an empty one of another kind; what hung below is forgotten. */
void node_turn(struct node *n, enum node_kind kind, struct place place);
struct node *node_member(const struct node *map, struct bytes key);
struct node *node_item(const struct node *list, uint64_t index);
bool node_is_empty(const struct node *n); /* nothing, ~, null */
const char *node_kind_name(const struct node *n);
void node_path_put(struct buf *b, const struct node *n);
/* Takes the part before the next dot off `path`. */
struct bytes path_step(struct bytes *path);
/* The node of a dotted path, or NULL. */
const struct node *tree_find(const struct node *root, const char *path);
/* Sets the scalar at a dotted path, making what is missing on the way. */
enum err tree_set(struct load *l, struct bytes path, struct bytes value, struct place place)
    MUST_USE;

/* config_yaml.c: fills l->root. */
enum err yaml_read(struct load *l, const char *name, struct bytes content) MUST_USE;

/* config_source.c */
enum err source_file(struct load *l, const char *file) MUST_USE;
enum err source_environment(struct load *l, char *const *environment) MUST_USE;
enum err source_sets(struct load *l, const struct config_set *sets, size_t count) MUST_USE;
/* Reads at most `bytes_max`. ERR_IO with errno set; ERR_FULL when it is longer or memory is out. */
enum err file_read(struct arena *a, const char *file, size_t bytes_max, struct bytes *out) MUST_USE;

/* config_value.c */
bool value_number(struct bytes text, const char *unit, int64_t *out);
void value_number_put(struct buf *b, const char *unit, int64_t number);
void value_range_put(struct buf *b, const struct field *f);
void value_default_put(struct buf *b, const struct field *f);
void value_double_put(struct buf *b, double number);
const char *value_flag_name(enum config_flag flag);
enum err value_set(struct load *l, const struct node *n, const struct field *f, void *record)
    MUST_USE;

/* config_apply.c */
void fields_default(const struct field *fields, size_t count, void *record);
enum err apply_tree(struct load *l) MUST_USE;

/* config_check.c */
#define CHECK_PATH_BYTES_MAX 96
enum err check_all(struct load *l) MUST_USE;
enum err check_fail(struct load *l, const char *path, const char *format, ...) PRINTF_LIKE(3, 4);
/* "LIST.INDEX.KEY" in `block` of CHECK_PATH_BYTES_MAX; an empty key ends at the index. */
const char *check_path(char *block, const char *list, size_t index, const char *key);
bool check_is_printable(const char *text);
/* The one word in a key file; `path` is the setting that named the file. */
enum err check_key_read(struct load *l, const char *path, const char *file, const char **out)
    MUST_USE;

/* config_models.c: models, personas, and what is built in. */
enum err check_models(struct load *l) MUST_USE;
enum err check_personas(struct load *l) MUST_USE;

/* config_persona.c: "Kit". */
extern const struct config_persona config_persona_builtin;

/* config.c: the whole load of a text that is already in memory; the fuzzer's door. */
enum err config_load_text(const char *name, struct bytes content, struct config **out,
                          struct buf *message) MUST_USE;

#endif
