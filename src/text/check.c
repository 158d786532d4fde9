/* What a text must be before anybody looks at what it says. */
#include "codec/utf8.h"
#include "text/text_priv.h"

#include <unicode/uchar.h>

static bool is_blank(uint32_t c)
{
    return u_isUWhiteSpace((UChar32)c) || u_iscntrl((UChar32)c) ||
           u_hasBinaryProperty((UChar32)c, UCHAR_DEFAULT_IGNORABLE_CODE_POINT);
}

enum text_check text_check(struct bytes text, size_t bytes_max)
{
    if (text.count > bytes_max)
        return TEXT_TOO_LONG;
    if (!utf8_is_valid(text) || (text.count > 0 && memchr(text.at, 0, text.count) != NULL))
        return TEXT_INVALID;
    while (text.count > 0) {
        size_t bytes;
        if (!is_blank(fold_decode(text, &bytes)))
            return TEXT_OK;
        text.at += bytes;
        text.count -= bytes;
    }
    return TEXT_EMPTY;
}
