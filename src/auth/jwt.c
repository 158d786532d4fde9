/* Connection tokens: JSON Web Tokens signed with HS256.
 *
 *     base64url(header) . base64url(claims) . base64url(HMAC-SHA-256(header . claims))
 *
 * The signature is checked before anything inside is read. The algorithm is ours, not the token's:
 * a header that names another is refused, never obeyed (RFC 8725, 3.1). */
#include "auth/auth_priv.h"
#include "base/arena.h"
#include "codec/base64.h"
#include "codec/json.h"
#include "codec/utf8.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>

#include <strings.h>

#define JWT_VALUES_MAX  256
#define JWT_DEPTH_MAX   16
#define JWT_TREE_BYTES  (JWT_VALUES_MAX * sizeof(struct json) + 8192)
#define JWT_SECONDS_MAX 100e9 /* the year 5138: further is a mistake in units */

struct jwt {
    struct bytes header;
    struct bytes claims;
    struct bytes signature;
    struct bytes signed_part; /* header . claims */
};

void jwt_sign(struct bytes secret, struct bytes input, uint8_t digest[DIGEST_BYTES])
{
    unsigned count = 0;
    const unsigned char *made =
        HMAC(EVP_sha256(), secret.at, (int)secret.count, input.at, input.count, digest, &count);
    CHECK(made != NULL && count == DIGEST_BYTES);
}

/* Exactly three parts; what is in them is not looked at. */
static bool jwt_split(struct bytes token, struct jwt *out)
{
    const uint8_t *end = token.at + token.count;
    const uint8_t *first = memchr(token.at, '.', token.count);
    if (first == NULL)
        return false;
    const uint8_t *second = memchr(first + 1, '.', (size_t)(end - first - 1));
    if (second == NULL || memchr(second + 1, '.', (size_t)(end - second - 1)) != NULL)
        return false;
    out->header = (struct bytes){token.at, (size_t)(first - token.at)};
    out->claims = (struct bytes){first + 1, (size_t)(second - first - 1)};
    out->signature = (struct bytes){second + 1, (size_t)(end - second - 1)};
    out->signed_part = (struct bytes){token.at, (size_t)(second - token.at)};
    return true;
}

static bool signature_is_good(struct bytes secret, const struct jwt *jwt)
{
    uint8_t wanted[DIGEST_BYTES];
    uint8_t given[DIGEST_BYTES + 1];
    size_t count;
    if (jwt->signature.count != (DIGEST_BYTES * 4 + 2) / 3 ||
        base64url_decode(jwt->signature, given, &count) != ERR_OK || count != DIGEST_BYTES)
        return false;
    jwt_sign(secret, jwt->signed_part, wanted);
    return CRYPTO_memcmp(wanted, given, DIGEST_BYTES) == 0;
}

/* An object whose members have different names. The count is at most JWT_VALUES_MAX. */
static bool is_plain_object(const struct json *o)
{
    if (o->kind != JSON_OBJECT)
        return false;
    for (const struct json *a = o->first; a != NULL; a = a->next)
        for (const struct json *b = a->next; b != NULL; b = b->next)
            if (bytes_equal(a->key, b->key))
                return false;
    return true;
}

/* Decodes one part into `text` and reads it. The tree borrows both. */
static const struct json *part_read(struct arena *a, struct bytes part,
                                    uint8_t text[AUTH_TOKEN_BYTES_MAX])
{
    struct json_limits limits = {JWT_DEPTH_MAX, JWT_VALUES_MAX};
    struct json *tree;
    size_t count;
    if (base64url_decode(part, text, &count) != ERR_OK ||
        json_parse(a, bytes_make(text, count), limits, &tree, NULL) != ERR_OK ||
        !is_plain_object(tree))
        return NULL;
    return tree;
}

static bool header_is_good(const struct json *header)
{
    struct bytes text;
    if (!json_get_text(header, "alg", &text) || !bytes_is(text, "HS256"))
        return false;
    /* `crit` lists what a reader must understand; we understand nothing beyond the basics. */
    if (json_get(header, "crit") != NULL)
        return false;
    if (json_get(header, "typ") == NULL)
        return true;
    return json_get_text(header, "typ", &text) && text.count == 3 &&
           strncasecmp((const char *)text.at, "JWT", 3) == 0;
}

/* NumericDate in ms; absent = ERR_OK with *out untouched. Fractions are allowed (RFC 7519, 2). */
static bool time_get(const struct json *claims, const char *key, int64_t *out)
{
    const struct json *v = json_get(claims, key);
    double seconds;
    if (v == NULL)
        return true;
    if (v->kind != JSON_NUMBER || !json_double(v, &seconds) || !(seconds >= 0) ||
        seconds > JWT_SECONDS_MAX)
        return false;
    *out = (int64_t)(seconds * 1000.0);
    return true;
}

static enum auth_why times_check(const struct json *claims, int64_t now_ms, int64_t *expires_out)
{
    int64_t expires_ms = INT64_MAX;
    int64_t not_before_ms = 0;
    int64_t issued_ms = 0;
    if (!time_get(claims, "exp", &expires_ms) || !time_get(claims, "nbf", &not_before_ms) ||
        !time_get(claims, "iat", &issued_ms))
        return AUTH_INVALID;
    if (expires_ms != INT64_MAX && now_ms > expires_ms + AUTH_LEEWAY_MS)
        return AUTH_EXPIRED;
    if (i64_max(not_before_ms, issued_ms) > now_ms + AUTH_LEEWAY_MS)
        return AUTH_NOT_YET;
    *expires_out = expires_ms == INT64_MAX ? 0 : expires_ms;
    return AUTH_FINE;
}

/* A display name is a courtesy: one that is too long is cut, an impossible one is left out. */
static void display_get(const struct json *claims, struct name *out)
{
    struct bytes text;
    if (!json_get_text(claims, "name", &text))
        return;
    text.count = utf8_prefix(text, NAME_BYTES_MAX);
    if (name_parse(text, out) != ERR_OK)
        *out = (struct name){0};
}

static enum auth_why claims_read(const struct json *claims, int64_t now_ms, struct caller *out)
{
    struct bytes text;
    const struct json *guest = json_get(claims, "guest");
    if (json_get(claims, "channel") != NULL)
        return AUTH_INVALID;
    if (!json_get_text(claims, "sub", &text) || text.count == 0 ||
        name_parse(text, &out->user) != ERR_OK)
        return AUTH_INVALID;
    /* U+FFFD stands for what could not be read; two such names must not become one user. */
    if (memmem(text.at, text.count, "\xef\xbf\xbd", 3) != NULL)
        return AUTH_INVALID;
    text = bytes_of("default");
    if (json_get(claims, "app") != NULL && !json_get_text(claims, "app", &text))
        return AUTH_INVALID;
    if (id_parse(text, &out->app) != ERR_OK)
        return AUTH_INVALID;
    if (guest != NULL && !json_get_bool(claims, "guest", &out->guest))
        return AUTH_INVALID;
    display_get(claims, &out->display);
    return times_check(claims, now_ms, &out->expires_ms);
}

static enum auth_why token_read(struct bytes secret, struct bytes token, int64_t now_ms,
                                struct caller *out)
{
    _Alignas(16) uint8_t tree[JWT_TREE_BYTES];
    uint8_t text[AUTH_TOKEN_BYTES_MAX];
    struct arena a;
    struct jwt jwt;
    if (secret.count == 0 || token.count == 0 || token.count > AUTH_TOKEN_BYTES_MAX ||
        !jwt_split(token, &jwt) || !signature_is_good(secret, &jwt))
        return AUTH_INVALID;
    enum auth_why why = AUTH_INVALID;
    arena_init(&a, tree, sizeof(tree));
    const struct json *header = part_read(&a, jwt.header, text);
    if (header != NULL && header_is_good(header)) {
        arena_reset(&a); /* the header's tree is done with, and so is its text */
        const struct json *claims = part_read(&a, jwt.claims, text);
        if (claims != NULL)
            why = claims_read(claims, now_ms, out);
    }
    arena_fini(&a);
    return why;
}

enum err jwt_verify(struct bytes secret, struct bytes token, int64_t now_ms, struct caller *out,
                    enum auth_why *why_out)
{
    struct caller caller = {0};
    enum auth_why why = token_read(secret, token, now_ms, &caller);
    *why_out = why;
    if (why != AUTH_FINE)
        return ERR_DENIED;
    *out = caller;
    return ERR_OK;
}

static void part_put(struct buf *out, struct bytes part)
{
    if (!buf_reserve(out, (part.count * 4 + 2) / 3))
        return;
    out->count += base64url_encode(part, out->at + out->count);
}

void jwt_make(struct bytes secret, const struct caller *c, int64_t now_ms, int64_t expires_ms,
              struct buf *out)
{
    uint8_t block[4096];
    uint8_t digest[DIGEST_BYTES];
    struct buf claims;
    size_t start = out->count;
    buf_init_fixed(&claims, block, sizeof(block));
    json_object_open(&claims);
    json_put_text(&claims, "sub", name_bytes(&c->user));
    json_put_text(&claims, "app", id_bytes(&c->app));
    if (c->guest)
        json_put_bool(&claims, "guest", true);
    if (c->display.count > 0)
        json_put_text(&claims, "name", name_bytes(&c->display));
    json_put_i64(&claims, "iat", now_ms / 1000);
    json_put_i64(&claims, "exp", expires_ms / 1000);
    json_object_close(&claims);
    CHECK(!claims.failed); /* names are short, six times longer when every byte is escaped */
    part_put(out, bytes_of("{\"alg\":\"HS256\",\"typ\":\"JWT\"}"));
    buf_byte(out, '.');
    part_put(out, buf_view(&claims));
    if (out->failed)
        return;
    jwt_sign(secret, bytes_make(out->at + start, out->count - start), digest);
    buf_byte(out, '.');
    part_put(out, bytes_make(digest, sizeof(digest)));
}
