/* Any file loads or is refused with one line of message; what loads is shown as something that
 * loads to the same (keys and secrets apart: those are not shown). */
#include "config/config_priv.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static bool has_secrets(const struct config *c)
{
    for (size_t i = 0; i < c->api_keys_count; i++)
        if (c->api_keys[i].key_file[0] == '\0')
            return true;
    return c->auth_hs256_secret[0] != '\0';
}

static void show_check(const struct config *c)
{
    struct buf first;
    struct buf second;
    struct config *again = NULL;
    buf_init(&first, BLOB_BYTES_MAX);
    buf_init(&second, BLOB_BYTES_MAX);
    config_show(c, &first);
    CHECK(!first.failed);
    char text[2048];
    struct buf message;
    buf_init_fixed(&message, text, sizeof(text));
    CHECK(config_load_text("shown", buf_view(&first), &again, &message) == ERR_OK);
    config_show(again, &second);
    CHECK(has_secrets(c) || bytes_equal(buf_view(&first), buf_view(&second)));
    config_free(&again);
    buf_fini(&first);
    buf_fini(&second);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct config *c = NULL;
    char text[2048];
    struct buf message;
    buf_init_fixed(&message, text, sizeof(text));
    enum err err = config_load_text("fuzz.yaml", bytes_make(data, size), &c, &message);
    CHECK((err == ERR_OK) == (c != NULL));
    CHECK((err == ERR_OK) == (message.count == 0));
    CHECK(!message.failed);
    CHECK(message.count == 0 || memchr(text, '\n', message.count) == NULL);
    if (c != NULL)
        show_check(c);
    config_free(&c);
    return 0;
}
