/* The table: config.h's rows and the rows of the lists, as data that load, show and reference
 * all read. */
#include "config/config_priv.h"

#define TEXT_MAX       4096
#define NAME_MAX_BYTES 128
#define PROMPT_MAX     65536

#define ITEM_TEXT(type, field, bytes_max, help_text)                                           \
    {                                                                                          \
        .key = #field, .kind = FIELD_TEXT, .offset = offsetof(struct type, field), .text = "", \
        .max = (bytes_max), .help = (help_text)                                                \
    }
#define ITEM_NUMBER(type, field, def, low, high, help_text)                              \
    {                                                                                    \
        .key = #field, .kind = FIELD_NUMBER, .offset = offsetof(struct type, field),     \
        .number = (def), .min = (low), .max = (high), .unit = "count", .help = help_text \
    }
#define ITEM_LIST(type, field, list_name, help_text)                                \
    {                                                                               \
        .key = #field, .kind = FIELD_LIST, .offset = offsetof(struct type, field),  \
        .count_offset = offsetof(struct type, field##_count), .list = &(list_name), \
        .help = (help_text)                                                         \
    }
#define LATER(name, help_text)                                  \
    {                                                           \
        .key = (name), .kind = FIELD_LATER, .help = (help_text) \
    }

static const struct field model_fields[] = {
    ITEM_TEXT(config_model, name, 64, "what callers call it"),
    ITEM_TEXT(config_model, url, TEXT_MAX,
              "base of an OpenAI-compatible server, up to and with /v1"),
    ITEM_TEXT(config_model, model, 256, "the server's own name of it; empty = name"),
    ITEM_TEXT(config_model, api_key_file, TEXT_MAX, "file that holds the server's key"),
    ITEM_NUMBER(config_model, concurrency, 0, 0, 100000, "requests at once; 0 = no limit"),
    ITEM_NUMBER(config_model, context_tokens, 0, 0, 10000000,
                "tokens of a prompt; 0 = context.tokens"),
    {.key = "temperature",
     .kind = FIELD_DOUBLE,
     .offset = offsetof(struct config_model, temperature),
     .number = -1,
     .min = 0,
     .max = 2,
     .help = "randomness of the answers; not sent when not set"},
    LATER("backends", "several servers for one name"),
    LATER("fallback", "models that answer when this one cannot"),
};

static bool model_hidden(const void *item)
{
    const struct config_model *m = item;
    return m->local;
}

static const struct list_type model_list = {
    .item_bytes = sizeof(struct config_model),
    .fields = model_fields,
    .fields_count = ARRAY_COUNT(model_fields),
    .items_max = CONFIG_MODELS_MAX,
    .hidden = model_hidden,
    .hidden_note = "the managed local model, made by local.enabled",
};

static const struct field example_fields[] = {
    ITEM_TEXT(config_example, user, PROMPT_MAX, "what a person says"),
    ITEM_TEXT(config_example, assistant, PROMPT_MAX, "what the persona answers"),
};

static const struct list_type example_list = {
    .item_bytes = sizeof(struct config_example),
    .fields = example_fields,
    .fields_count = ARRAY_COUNT(example_fields),
    .items_max = CONFIG_EXAMPLES_MAX,
};

static const struct field suggestion_field = {
    .key = "", .kind = FIELD_TEXT, .text = "", .max = 512, .help = "one suggestion"};

static const struct list_type suggestion_list = {
    .item_bytes = sizeof(const char *),
    .lone = &suggestion_field,
    .items_max = CONFIG_SUGGESTIONS_MAX,
};

static const struct field persona_fields[] = {
    ITEM_TEXT(config_persona, id, ID_BYTES_MAX, "its id: A-Z a-z 0-9 _ -"),
    ITEM_TEXT(config_persona, name, NAME_MAX_BYTES, "what people see; empty = id"),
    ITEM_TEXT(config_persona, prompt, PROMPT_MAX, "who it is and how it speaks"),
    ITEM_TEXT(config_persona, greeting, TEXT_MAX, "shown above an empty conversation"),
    ITEM_TEXT(config_persona, model, 64, "one of models[].name; empty = the default"),
    ITEM_LIST(config_persona, examples, example_list,
              "exchanges that show the model how the persona answers"),
    ITEM_LIST(config_persona, suggestions, suggestion_list,
              "first messages offered in an empty conversation"),
};

static const struct list_type persona_list = {
    .item_bytes = sizeof(struct config_persona),
    .fields = persona_fields,
    .fields_count = ARRAY_COUNT(persona_fields),
    .items_max = CONFIG_PERSONAS_MAX,
};

static const struct field scope_field = {
    .key = "", .kind = FIELD_TEXT, .text = "", .max = ID_BYTES_MAX, .help = "one scope"};

static const struct list_type scope_list = {
    .item_bytes = sizeof(const char *),
    .lone = &scope_field,
    .items_max = CONFIG_SCOPES_MAX,
};

enum { KEY_FIELD_KEY = 0 };
static const struct field api_key_fields[] = {
    [KEY_FIELD_KEY] = {.key = "key",
                       .kind = FIELD_TEXT,
                       .offset = offsetof(struct config_api_key, key),
                       .text = "",
                       .max = CONFIG_KEY_FILE_BYTES_MAX,
                       .secret = true,
                       .help = "the key itself"},
    ITEM_TEXT(config_api_key, key_file, TEXT_MAX, "file that holds the key"),
    {.key = "app",
     .kind = FIELD_TEXT,
     .offset = offsetof(struct config_api_key, app),
     .text = "default",
     .max = ID_BYTES_MAX,
     .help = "the app it acts for"},
    ITEM_LIST(config_api_key, scopes, scope_list, "what it may do; empty = everything"),
};

static bool api_key_hidden(const void *item)
{
    const struct config_api_key *k = item;
    return k->key_file[0] == '\0';
}

static const struct list_type api_key_list = {
    .item_bytes = sizeof(struct config_api_key),
    .fields = api_key_fields,
    .fields_count = ARRAY_COUNT(api_key_fields),
    .lone = &api_key_fields[KEY_FIELD_KEY],
    .items_max = CONFIG_API_KEYS_MAX,
    .hidden = api_key_hidden,
    .hidden_note = "a key that stands in the configuration: set, not shown",
};

static const struct field term_fields[] = {
    ITEM_TEXT(config_term, term, 256, "word or words; case, width and accents of form are ignored"),
    {.key = "category",
     .kind = FIELD_TEXT,
     .offset = offsetof(struct config_term, category),
     .text = "custom",
     .max = ID_BYTES_MAX,
     .help = "named in the reason of a refusal"},
    {.key = "side",
     .kind = FIELD_TEXT,
     .offset = offsetof(struct config_term, side),
     .text = "both",
     .max = 8,
     .help = "whose text it is looked for in: user, ai or both"},
};

static const struct list_type term_list = {
    .item_bytes = sizeof(struct config_term),
    .fields = term_fields,
    .fields_count = ARRAY_COUNT(term_fields),
    .items_max = CONFIG_TERMS_MAX,
};

/* clang-format off */
#define ROW_LIST(name, field, list_name, help_text)                                      \
    {                                                                                    \
        .key = (name), .kind = FIELD_LIST, .offset = offsetof(struct config, field),     \
        .count_offset = offsetof(struct config, field##_count), .list = &(list_name),    \
        .help = (help_text)                                                              \
    },
#define ROW_TEXT(name, dotted, def, help_text)                                           \
    {.key = (dotted),                                                                    \
     .kind = FIELD_TEXT,                                                                 \
     .offset = offsetof(struct config, name),                                            \
     .text = (def),                                                                      \
     .max = TEXT_MAX,                                                                    \
     .joined = offsetof(struct config, name) == offsetof(struct config, roles),          \
     .secret = offsetof(struct config, name) == offsetof(struct config, auth_hs256_secret), \
     .help = (help_text)},
#define ROW_NUMBER(name, dotted, def, low, high, unit_name, help_text)                   \
    {.key = (dotted),                                                                    \
     .kind = FIELD_NUMBER,                                                               \
     .offset = offsetof(struct config, name),                                            \
     .number = (def),                                                                    \
     .min = (low),                                                                       \
     .max = (high),                                                                      \
     .unit = (unit_name),                                                                \
     .help = (help_text)},
#define ROW_FLAG(name, dotted, def, help_text)                                           \
    {.key = (dotted),                                                                    \
     .kind = FIELD_FLAG,                                                                 \
     .offset = offsetof(struct config, name),                                            \
     .number = (def),                                                                    \
     .help = (help_text)},

const struct field config_fields[] = {
    CONFIG_TEXTS(ROW_TEXT)
    CONFIG_NUMBERS(ROW_NUMBER)
    CONFIG_FLAGS(ROW_FLAG)
    {.key = "safety.builtin_terms",
     .kind = FIELD_BOOL,
     .offset = offsetof(struct config, terms_default),
     .number = true,
     .help = "the built-in term list is in force beside safety.terms"},
    ROW_LIST("safety.terms", terms, term_list, "texts that hold one of these are blocked")
    ROW_LIST("auth.api_keys", api_keys, api_key_list,
             "keys of programs: a string (everything allowed) or a map")
    ROW_LIST("models", models, model_list,
             "language models; `default`, else the first, is the default")
    ROW_LIST("personas", personas, persona_list, "who people talk to; the first is the default")
    LATER("namespaces", "plain channels"),
};
/* clang-format on */
const size_t config_fields_count = ARRAY_COUNT(config_fields);

const struct field *field_find(const struct field *fields, size_t count, struct bytes key)
{
    for (size_t i = 0; i < count; i++)
        if (bytes_is(key, fields[i].key))
            return &fields[i];
    return NULL;
}

#define NEAR_BYTES_MAX 64

/* Levenshtein distance in one row; both are short. Keys over the limit are far from everything. */
static size_t distance(struct bytes a, struct bytes b)
{
    size_t row[NEAR_BYTES_MAX + 1];
    if (a.count > NEAR_BYTES_MAX || b.count > NEAR_BYTES_MAX)
        return SIZE_MAX;
    for (size_t j = 0; j <= b.count; j++)
        row[j] = j;
    for (size_t i = 0; i < a.count; i++) {
        size_t diagonal = row[0];
        row[0] = i + 1;
        for (size_t j = 0; j < b.count; j++) {
            size_t swap = diagonal + (a.at[i] != b.at[j]);
            diagonal = row[j + 1];
            row[j + 1] = size_min(swap, size_min(row[j], row[j + 1]) + 1);
        }
    }
    return row[b.count];
}

/* "hs256_secret" at the top means "auth.hs256_secret": the last word of a dotted key. */
static bool is_last_word(struct bytes key, const char *dotted)
{
    const char *dot = strrchr(dotted, '.');
    return dot != NULL && bytes_is(key, dot + 1);
}

const struct field *field_nearest(const struct field *fields, size_t count, struct bytes key)
{
    const struct field *nearest = NULL;
    size_t best = size_min(3 + key.count / 4, key.count);
    for (size_t i = 0; i < count; i++) {
        size_t far = is_last_word(key, fields[i].key) ? 1 : distance(key, bytes_of(fields[i].key));
        if (far < best) {
            best = far;
            nearest = &fields[i];
        }
    }
    return nearest;
}
