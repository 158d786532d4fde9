/* Three bytes become four characters of 6 bits, the highest first. One or two bytes at the end
 * leave spare bits, which must be zero. */
#include "codec/base64.h"

static const char base64_standard[] =
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
static const char base64_url[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

static size_t base64_write(struct bytes b, uint8_t *to, const char *alphabet)
{
    size_t written = 0;
    size_t i = 0;
    for (; i + 3 <= b.count; i += 3) {
        uint32_t bits = (uint32_t)b.at[i] << 16 | (uint32_t)b.at[i + 1] << 8 | b.at[i + 2];
        to[written] = (uint8_t)alphabet[bits >> 18];
        to[written + 1] = (uint8_t)alphabet[(bits >> 12) & 63];
        to[written + 2] = (uint8_t)alphabet[(bits >> 6) & 63];
        to[written + 3] = (uint8_t)alphabet[bits & 63];
        written += 4;
    }
    size_t left = b.count - i;
    if (left > 0) {
        uint32_t bits = (uint32_t)b.at[i] << 16 | (left == 2 ? (uint32_t)b.at[i + 1] << 8 : 0);
        to[written] = (uint8_t)alphabet[bits >> 18];
        to[written + 1] = (uint8_t)alphabet[(bits >> 12) & 63];
        written += 2;
        if (left == 2) {
            to[written] = (uint8_t)alphabet[(bits >> 6) & 63];
            written++;
        }
    }
    return written;
}

/* The six bits of a character, or -1. `c62` and `c63` are what the two alphabets differ in. */
static int base64_value(uint8_t c, uint8_t c62, uint8_t c63)
{
    if (c >= 'A' && c <= 'Z')
        return c - 'A';
    if (c >= 'a' && c <= 'z')
        return c - 'a' + 26;
    if (c >= '0' && c <= '9')
        return c - '0' + 52;
    if (c == c62)
        return 62;
    if (c == c63)
        return 63;
    return -1;
}

static enum err base64_read(struct bytes b, uint8_t *to, size_t *count_out, uint8_t c62,
                            uint8_t c63)
{
    uint32_t bits = 0;
    unsigned bits_count = 0;
    size_t written = 0;
    if (b.count % 4 == 1)
        return ERR_PROTO;
    for (size_t i = 0; i < b.count; i++) {
        int value = base64_value(b.at[i], c62, c63);
        if (value < 0)
            return ERR_PROTO;
        bits = bits << 6 | (uint32_t)value;
        bits_count += 6;
        if (bits_count >= 8) {
            bits_count -= 8;
            to[written] = (uint8_t)(bits >> bits_count);
            written++;
            bits &= (1u << bits_count) - 1;
        }
    }
    if (bits != 0)
        return ERR_PROTO;
    *count_out = written;
    return ERR_OK;
}

size_t base64url_encode(struct bytes b, uint8_t *to)
{
    return base64_write(b, to, base64_url);
}

enum err base64url_decode(struct bytes b, uint8_t *to, size_t *count_out)
{
    return base64_read(b, to, count_out, '-', '_');
}

size_t base64_encode(struct bytes b, uint8_t *to)
{
    size_t written = base64_write(b, to, base64_standard);
    while (written % 4 != 0) {
        to[written] = '=';
        written++;
    }
    return written;
}

enum err base64_decode(struct bytes b, uint8_t *to, size_t *count_out)
{
    if (b.count % 4 != 0)
        return ERR_PROTO;
    size_t padding = 0;
    while (padding < 2 && padding < b.count && b.at[b.count - 1 - padding] == '=')
        padding++;
    return base64_read((struct bytes){b.at, b.count - padding}, to, count_out, '+', '/');
}
