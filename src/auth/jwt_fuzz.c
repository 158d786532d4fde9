/* As it comes: no input is a good token. And signed: the input is `header . claims` in plain bytes,
 * put into base64url and under a good signature, so that the readers behind it are reached. */
#include "auth/auth_priv.h"
#include "codec/base64.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define NOW_MS 1700000000000

static const struct bytes secret = {(const uint8_t *)"a secret that nobody can guess at all", 37};

static size_t sign(struct bytes header, struct bytes claims, uint8_t *to)
{
    uint8_t digest[DIGEST_BYTES];
    size_t count = base64url_encode(header, to);
    to[count++] = '.';
    count += base64url_encode(claims, to + count);
    jwt_sign(secret, bytes_make(to, count), digest);
    to[count++] = '.';
    return count + base64url_encode(bytes_make(digest, sizeof(digest)), to + count);
}

static void caller_check(const struct caller *c)
{
    struct name user;
    struct id app;
    CHECK(c->user.count > 0 && name_parse(name_bytes(&c->user), &user) == ERR_OK);
    CHECK(id_parse(id_bytes(&c->app), &app) == ERR_OK);
    CHECK(name_parse(name_bytes(&c->display), &user) == ERR_OK);
    CHECK(!c->is_key && c->key == NULL && !c->insecure);
    CHECK(c->expires_ms >= 0 && (c->expires_ms == 0 || c->expires_ms + AUTH_LEEWAY_MS >= NOW_MS));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static uint8_t token[16384];
    struct caller c;
    enum auth_why why;
    CHECK(jwt_verify(secret, bytes_make(data, size), NOW_MS, &c, &why) == ERR_DENIED);
    CHECK(why == AUTH_INVALID);
    if (size > 10000)
        return 0;
    struct bytes whole = bytes_make(data, size);
    const uint8_t *dot = size == 0 ? NULL : memchr(data, '.', size);
    struct bytes header = bytes_of("{\"alg\":\"HS256\",\"typ\":\"JWT\"}");
    struct bytes claims = whole;
    if (dot != NULL) {
        header = bytes_make(data, (size_t)(dot - data));
        claims = bytes_make(dot + 1, size - header.count - 1);
    }
    size_t count = sign(header, claims, token);
    if (jwt_verify(secret, bytes_make(token, count), NOW_MS, &c, &why) == ERR_OK)
        caller_check(&c);
    else
        CHECK(why != AUTH_FINE);
    return 0;
}
