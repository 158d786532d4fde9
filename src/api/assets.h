/* assets: the web page and its parts, carried inside the program.
 *
 * Owner   : read-only data of the binary; tools/embed.py writes the table from build/web.
 * Thread  : any; nothing here ever changes.
 * Memory  : every pointer stays good for the life of the process. Nothing to free.
 * Errors  : none. A build without the page has assets_count == 0, which is legal.
 * Limits  : sorted by path (bytewise), so that a binary search finds a row. X-Content-Type-Options
 *           nosniff, Referrer-Policy no-referrer and Cross-Origin-Opener-Policy same-origin are not
 *           in the rows: the api sends them with every asset.
 * Source  : the list is build/web/manifest.json, written by the page's own build. */
#ifndef KITH_API_ASSETS_H
#define KITH_API_ASSETS_H

#include <stddef.h>
#include <stdint.h>

struct asset {
    const char *path;   /* of the URL: "/", "/assets/index-3f2a.js" */
    const char *type;   /* Content-Type */
    const char *cache;  /* Cache-Control */
    const char *etag;   /* with its quotes, a hash of the raw bytes */
    const char *csp;    /* Content-Security-Policy, or NULL where none is sent */
    const uint8_t *raw; /* as it is; never NULL */
    size_t raw_bytes;
    const uint8_t *gzip; /* the same, compressed ahead; NULL and 0 where that would not pay */
    size_t gzip_bytes;
    const uint8_t *br;
    size_t br_bytes;
};

extern const struct asset assets[];
extern const size_t assets_count;

#endif
