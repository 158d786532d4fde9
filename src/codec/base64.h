/* base64: RFC 4648 sections 4 and 5, strict.
 *
 * Thread  : any; pure.
 * Errors  : ERR_PROTO on a foreign character, wrong padding, or non-zero spare bits (so that one
 *           text has one meaning). */
#ifndef CODEC_BASE64_H
#define CODEC_BASE64_H

#include "base/base.h"

/* URL-safe without padding. `to` holds (count * 4 + 2) / 3 bytes; returns bytes written. */
size_t base64url_encode(struct bytes b, uint8_t *to);
enum err base64url_decode(struct bytes b, uint8_t *to, size_t *count_out) MUST_USE;

/* Standard with padding. `to` holds 4 * ((count + 2) / 3). */
size_t base64_encode(struct bytes b, uint8_t *to);
enum err base64_decode(struct bytes b, uint8_t *to, size_t *count_out) MUST_USE;

#endif
