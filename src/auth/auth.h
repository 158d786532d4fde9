/* auth: who is it, and what may it do.
 *
 * Owner   : struct auth is made once from the config, which it borrows, and frozen.
 * Thread  : any may read it.
 * Memory  : one block at start; a verification needs only its stack.
 * Errors  : a refused token answers ERR_DENIED and why; no token or key ever reaches a log.
 * Limits  : tokens of at most AUTH_TOKEN_BYTES_MAX, with at most 256 JSON values in a part.
 * Source  : RFC 7519, RFC 7515 (HS256 only), RFC 8725 (algorithm fixed by configuration);
 *           docs/adr/0003-jwt.md. */
#ifndef AUTH_AUTH_H
#define AUTH_AUTH_H

#include "base/base.h"
#include "base/buf.h"
#include "base/id.h"
#include "config/config.h"

#define AUTH_TOKEN_BYTES_MAX 8192
#define AUTH_LEEWAY_MS       5000
#define AUTH_GUEST_MS        (365LL * 24 * 3600 * 1000)

struct caller {
    struct id app;       /* "default" */
    struct name user;    /* empty: auth.insecure's everybody, or a key that names nobody */
    struct name display; /* may be empty */
    bool guest;
    bool is_key;                      /* an API key: acts as its app */
    bool insecure;                    /* auth.insecure: everything is allowed */
    int64_t expires_ms;               /* 0 = never */
    const struct config_api_key *key; /* of is_key: what it may do (auth_may); else NULL */
};

enum auth_why { AUTH_FINE, AUTH_INVALID, AUTH_EXPIRED, AUTH_NOT_YET };

/* "fine", "invalid", "expired", "not_yet": for logs. */
const char *auth_why_name(enum auth_why why);

struct auth;

/* The secret of tokens is auth.hs256_secret. Where none is set and guests are on, it is the file
 * data_dir/secret (mode 0600, made when it is missing), so that a guest survives a restart. With
 * neither, no token is good. ERR_IO, ERR_PROTO and ERR_FULL come with one line in `message`. */
enum err auth_make(const struct config *c, struct auth **out, struct buf *message) MUST_USE;
void auth_free(struct auth **a);

/* People without a token become guests: as auth.guests says; auto = while kith listens on loopback
 * and neither a secret nor keys are configured. */
bool auth_guests(const struct auth *a);
bool auth_insecure(const struct auth *a);

/* Verifies a connection token: HS256, `sub` (the user), `app`, `name`, `guest`, exp, nbf, iat with
 * AUTH_LEEWAY_MS. A token with `channel` is for a subscription and is refused here. ERR_DENIED:
 * *why_out tells; it is AUTH_FINE else. */
enum err auth_token_verify(const struct auth *a, struct bytes token, int64_t now_ms,
                           struct caller *out, enum auth_why *why_out) MUST_USE;

/* A token of app, user, display and guest, good for AUTH_GUEST_MS, appended to `out`. Only where
 * there is a secret: guests are on, or one is configured (CHECK). */
void auth_token_make(const struct auth *a, const struct caller *guest, int64_t now_ms,
                     struct buf *out);

/* An API key: ERR_OK and its app, or ERR_DENIED. Takes the same time for every wrong key. */
enum err auth_key_find(const struct auth *a, struct bytes key, struct caller *out) MUST_USE;

/* True unless the caller is an API key with a list of scopes that lacks this one. */
bool auth_may(const struct caller *c, const char *scope);

/* The value behind "Bearer " in an Authorization header (the scheme in any case, RFC 9110 11.1);
 * at == NULL when there is none. */
struct bytes auth_bearer(struct bytes header);

#endif
