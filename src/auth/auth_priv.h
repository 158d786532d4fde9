/* auth_priv: JWT and the secret's file, apart from the configuration.
 *
 * Thread  : jwt_*: any; pure but for OpenSSL's own memory. secret_load: at start.
 * Memory  : the stack; jwt_verify takes about 45 KiB of it.
 * Errors  : ERR_DENIED with why; ERR_IO and ERR_PROTO with a message. */
#ifndef AUTH_AUTH_PRIV_H
#define AUTH_AUTH_PRIV_H

#include "auth/auth.h"

#define SECRET_BYTES_MAX 4096
#define SECRET_BYTES_MIN 16
#define DIGEST_BYTES     32

enum err jwt_verify(struct bytes secret, struct bytes token, int64_t now_ms, struct caller *out,
                    enum auth_why *why_out) MUST_USE;
void jwt_make(struct bytes secret, const struct caller *c, int64_t now_ms, int64_t expires_ms,
              struct buf *out);
/* HMAC-SHA-256. */
void jwt_sign(struct bytes secret, struct bytes input, uint8_t digest[DIGEST_BYTES]);

/* Reads data_dir/secret into `out`, or makes it. Processes that start together agree on one. */
enum err secret_load(const char *data_dir, uint8_t out[SECRET_BYTES_MAX], size_t *count_out,
                     struct buf *message) MUST_USE;

#endif
