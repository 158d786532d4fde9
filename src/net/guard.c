/* Which addresses a request that strangers may have a say in (a webhook) can reach: the public
 * internet and nothing else.
 * Source: IANA's special-purpose address registries for IPv4 and IPv6 (RFC 6890). An IPv6
 * address that carries an IPv4 one (mapped, NAT64, 6to4) is judged by both. */
#include "net/net_priv.h"

#include <netinet/in.h>

struct guard_range {
    uint8_t prefix[16];
    uint8_t bits;
};

/* All as IPv4, in the first four bytes. */
static const struct guard_range guard_v4[] = {
    {{0}, 8},             /* this network */
    {{10}, 8},            /* private */
    {{100, 64}, 10},      /* carrier-grade NAT */
    {{127}, 8},           /* loopback */
    {{169, 254}, 16},     /* link-local, clouds' metadata */
    {{172, 16}, 12},      /* private */
    {{192, 0, 0}, 24},    /* protocol assignments */
    {{192, 0, 2}, 24},    /* documentation */
    {{192, 88, 99}, 24},  /* 6to4 relay */
    {{192, 168}, 16},     /* private */
    {{198, 18}, 15},      /* benchmarks */
    {{198, 51, 100}, 24}, /* documentation */
    {{203, 0, 113}, 24},  /* documentation */
    {{224}, 3},           /* multicast, reserved, broadcast */
};

/* Of IPv6 only global unicast is allowed, without these parts of it. */
static const struct guard_range guard_v6_global = {{0x20}, 3};
static const struct guard_range guard_v6[] = {
    {{0x20, 0x01, 0x00}, 23},       /* protocol assignments, Teredo */
    {{0x20, 0x01, 0x0d, 0xb8}, 32}, /* documentation */
    {{0x3f, 0xff, 0x00}, 20},       /* documentation */
};

static bool guard_in(const uint8_t *address, const struct guard_range *range)
{
    size_t whole = range->bits / 8;
    uint8_t mask = (uint8_t)(0xff00u >> (range->bits % 8));
    if (memcmp(address, range->prefix, whole) != 0)
        return false;
    return range->bits % 8 == 0 || ((address[whole] ^ range->prefix[whole]) & mask) == 0;
}

static bool guard_allows_v4(const uint8_t address[4])
{
    for (size_t i = 0; i < ARRAY_COUNT(guard_v4); i++) {
        if (guard_in(address, &guard_v4[i]))
            return false;
    }
    return true;
}

static bool guard_allows_v6(const uint8_t address[16])
{
    static const struct guard_range mapped = {{[10] = 0xff, [11] = 0xff}, 96};
    static const struct guard_range nat64 = {{0x00, 0x64, 0xff, 0x9b}, 96};
    static const struct guard_range six_to_four = {{0x20, 0x02}, 16};
    if (guard_in(address, &mapped) || guard_in(address, &nat64))
        return guard_allows_v4(address + 12);
    if (guard_in(address, &six_to_four))
        return guard_allows_v4(address + 2);
    if (!guard_in(address, &guard_v6_global))
        return false;
    for (size_t i = 0; i < ARRAY_COUNT(guard_v6); i++) {
        if (guard_in(address, &guard_v6[i]))
            return false;
    }
    return true;
}

bool guard_allows(const struct sockaddr *address)
{
    if (address->sa_family == AF_INET) {
        struct sockaddr_in v4;
        memcpy(&v4, address, sizeof(v4));
        return guard_allows_v4((const uint8_t *)&v4.sin_addr);
    }
    if (address->sa_family == AF_INET6) {
        struct sockaddr_in6 v6;
        memcpy(&v6, address, sizeof(v6));
        return guard_allows_v6(v6.sin6_addr.s6_addr);
    }
    return false;
}

void address_from(const struct sockaddr *address, struct net_address *out)
{
    static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};
    static const uint8_t loopback[16] = {[15] = 1};
    memset(out, 0, sizeof(*out));
    if (address->sa_family == AF_INET) {
        struct sockaddr_in v4;
        memcpy(&v4, address, sizeof(v4));
        memcpy(out->bytes, mapped, sizeof(mapped));
        memcpy(out->bytes + 12, &v4.sin_addr, 4);
        out->port = ntohs(v4.sin_port);
    } else if (address->sa_family == AF_INET6) {
        struct sockaddr_in6 v6;
        memcpy(&v6, address, sizeof(v6));
        memcpy(out->bytes, v6.sin6_addr.s6_addr, 16);
        out->port = ntohs(v6.sin6_port);
    }
    bool is_mapped = memcmp(out->bytes, mapped, sizeof(mapped)) == 0;
    out->is_loopback =
        is_mapped ? out->bytes[12] == 127 : memcmp(out->bytes, loopback, sizeof(loopback)) == 0;
}
