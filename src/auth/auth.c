/* Who may come in, by what the configuration says: tokens, keys, guests. */
#include "auth/auth_priv.h"
#include "base/mem.h"

#include <openssl/crypto.h>
#include <openssl/sha.h>

#include <strings.h>

struct auth {
    const struct config *config;
    bool guests;
    size_t secret_bytes; /* 0 = no token is good */
    uint8_t secret[SECRET_BYTES_MAX];
    uint8_t key_digests[CONFIG_API_KEYS_MAX][SHA256_DIGEST_LENGTH];
};

const char *auth_why_name(enum auth_why why)
{
    switch (why) {
    case AUTH_FINE: return "fine";
    case AUTH_INVALID: return "invalid";
    case AUTH_EXPIRED: return "expired";
    case AUTH_NOT_YET: return "not_yet";
    }
    return "unknown";
}

/* "127.1.2.3:80", "[::1]:80", "localhost:80". */
static bool is_loopback(const char *listen)
{
    return strncmp(listen, "127.", 4) == 0 || strncmp(listen, "[::1]:", 6) == 0 ||
           strncmp(listen, "localhost:", 10) == 0;
}

static bool guests_are_on(const struct config *c)
{
    switch (c->auth_guests) {
    case CONFIG_FALSE: return false;
    case CONFIG_TRUE: return true;
    case CONFIG_AUTO:
        return is_loopback(c->listen) && c->auth_hs256_secret[0] == '\0' && c->api_keys_count == 0;
    }
    return false;
}

static enum err secret_take(struct auth *a, struct buf *message)
{
    size_t configured = strlen(a->config->auth_hs256_secret);
    if (configured > sizeof(a->secret)) {
        buf_printf(message, "auth.hs256_secret: has %zu bytes; allowed: at most %d", configured,
                   SECRET_BYTES_MAX);
        return ERR_PROTO;
    }
    if (configured > 0) {
        memcpy(a->secret, a->config->auth_hs256_secret, configured);
        a->secret_bytes = configured;
        return ERR_OK;
    }
    if (!a->guests)
        return ERR_OK;
    return secret_load(a->config->data_dir, a->secret, &a->secret_bytes, message);
}

enum err auth_make(const struct config *c, struct auth **out, struct buf *message)
{
    struct auth *a = mem_new_zero(sizeof(*a));
    if (a == NULL) {
        buf_text(message, "auth: memory is out");
        return ERR_FULL;
    }
    a->config = c;
    a->guests = guests_are_on(c);
    for (size_t i = 0; i < c->api_keys_count; i++)
        (void)SHA256((const uint8_t *)c->api_keys[i].key, strlen(c->api_keys[i].key),
                     a->key_digests[i]);
    enum err err = secret_take(a, message);
    if (err == ERR_OK)
        *out = a;
    else
        auth_free(&a);
    return err;
}

void auth_free(struct auth **a)
{
    if (*a == NULL)
        return;
    OPENSSL_cleanse((*a)->secret, sizeof((*a)->secret));
    mem_free(*a);
    *a = NULL;
}

bool auth_guests(const struct auth *a)
{
    return a->guests;
}

bool auth_insecure(const struct auth *a)
{
    return a->config->auth_insecure == CONFIG_TRUE;
}

static struct bytes secret_of(const struct auth *a)
{
    return (struct bytes){a->secret, a->secret_bytes};
}

enum err auth_token_verify(const struct auth *a, struct bytes token, int64_t now_ms,
                           struct caller *out, enum auth_why *why_out)
{
    enum err err = jwt_verify(secret_of(a), token, now_ms, out, why_out);
    if (err == ERR_OK)
        out->insecure = auth_insecure(a);
    return err;
}

void auth_token_make(const struct auth *a, const struct caller *guest, int64_t now_ms,
                     struct buf *out)
{
    CHECK(a->secret_bytes > 0);
    jwt_make(secret_of(a), guest, now_ms, now_ms + AUTH_GUEST_MS, out);
}

/* Digests have one length and every one is compared, so the time tells neither how much of a key
 * was right nor how many keys there are before it. */
enum err auth_key_find(const struct auth *a, struct bytes key, struct caller *out)
{
    uint8_t digest[SHA256_DIGEST_LENGTH];
    const struct config_api_key *found = NULL;
    struct caller caller = {.is_key = true};
    if (key.count > CONFIG_KEY_FILE_BYTES_MAX)
        return ERR_DENIED;
    (void)SHA256(key.count == 0 ? (const uint8_t *)"" : key.at, key.count, digest);
    for (size_t i = 0; i < a->config->api_keys_count; i++)
        if (CRYPTO_memcmp(digest, a->key_digests[i], sizeof(digest)) == 0)
            found = &a->config->api_keys[i];
    if (found == NULL || id_parse(bytes_of(found->app), &caller.app) != ERR_OK)
        return ERR_DENIED;
    caller.key = found;
    caller.insecure = auth_insecure(a);
    *out = caller;
    return ERR_OK;
}

bool auth_may(const struct caller *c, const char *scope)
{
    if (c->key == NULL || c->key->scopes_count == 0)
        return true;
    for (size_t i = 0; i < c->key->scopes_count; i++)
        if (strcmp(c->key->scopes[i], scope) == 0)
            return true;
    return false;
}

struct bytes auth_bearer(struct bytes header)
{
    static const char scheme[] = "Bearer ";
    size_t skip = sizeof(scheme) - 1;
    if (header.count <= skip || strncasecmp((const char *)header.at, scheme, skip) != 0)
        return (struct bytes){NULL, 0};
    while (skip < header.count && header.at[skip] == ' ')
        skip++;
    while (header.count > skip && header.at[header.count - 1] == ' ')
        header.count--;
    if (skip == header.count)
        return (struct bytes){NULL, 0};
    return (struct bytes){header.at + skip, header.count - skip};
}
