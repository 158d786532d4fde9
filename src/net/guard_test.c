/* Which addresses guarded requests may reach (guard.c). */
#include "net/net_priv.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <cmocka.h>

static struct sockaddr_storage parse(const char *text)
{
    struct sockaddr_storage out = {0};
    struct sockaddr_in v4 = {.sin_family = AF_INET, .sin_port = htons(443)};
    struct sockaddr_in6 v6 = {.sin6_family = AF_INET6, .sin6_port = htons(443)};
    if (inet_pton(AF_INET, text, &v4.sin_addr) == 1) {
        memcpy(&out, &v4, sizeof(v4));
    } else {
        assert_int_equal(inet_pton(AF_INET6, text, &v6.sin6_addr), 1);
        memcpy(&out, &v6, sizeof(v6));
    }
    return out;
}

static void expect(const char *const *texts, size_t count, bool allowed)
{
    for (size_t i = 0; i < count; i++) {
        struct sockaddr_storage at = parse(texts[i]);
        if (guard_allows((const struct sockaddr *)&at) != allowed)
            fail_msg("%s", texts[i]);
    }
}

static void the_inside_is_refused(void **state)
{
    static const char *const inside[] = {
        "0.0.0.0",
        "0.1.2.3",
        "10.0.0.1",
        "10.255.255.255",
        "100.64.0.1",
        "100.127.255.255",
        "127.0.0.1",
        "127.8.9.10",
        "169.254.169.254",
        "172.16.0.1",
        "172.31.255.255",
        "192.0.0.8",
        "192.0.2.1",
        "192.168.0.1",
        "192.168.255.255",
        "198.18.0.1",
        "198.19.255.255",
        "198.51.100.7",
        "203.0.113.9",
        "224.0.0.1",
        "239.1.1.1",
        "240.0.0.1",
        "255.255.255.255",
        "192.88.99.1",
        "::",
        "::1",
        "::2",
        "fe80::1",
        "febf::1",
        "fec0::1",
        "fc00::1",
        "fdff::1",
        "ff02::1",
        "2001:db8::1",
        "2001::1",
        "100::1",
        "3fff::1",
        "::ffff:127.0.0.1",
        "::ffff:10.0.0.1",
        "64:ff9b::10.0.0.1",
        "64:ff9b:1::1",
        "2002:7f00:1::",
        "2002:c0a8:101::",
        "5f00::1",
    };
    (void)state;
    expect(inside, ARRAY_COUNT(inside), false);
}

static void the_outside_is_allowed(void **state)
{
    static const char *const outside[] = {
        "1.1.1.1",          "9.255.255.255",        "11.0.0.0",   "100.63.255.255",
        "100.128.0.0",      "126.255.255.255",      "128.0.0.0",  "169.253.255.255",
        "172.15.255.255",   "172.32.0.0",           "192.0.1.0",  "192.167.255.255",
        "192.169.0.0",      "198.17.255.255",       "198.20.0.0", "223.255.255.255",
        "2606:4700::1",     "2001:4860:4860::8888", "2a00::1",    "::ffff:8.8.8.8",
        "64:ff9b::8.8.8.8", "2002:808:808::1",
    };
    (void)state;
    expect(outside, ARRAY_COUNT(outside), true);
}

static void other_families_are_refused(void **state)
{
    struct sockaddr at = {.sa_family = AF_UNIX};
    (void)state;
    assert_false(guard_allows(&at));
}

static void addresses_become_one_form(void **state)
{
    struct net_address out;
    (void)state;
    struct sockaddr_storage at = parse("127.0.0.1");
    address_from((const struct sockaddr *)&at, &out);
    assert_true(out.is_loopback);
    assert_int_equal(out.port, 443);
    assert_memory_equal(out.bytes, "\0\0\0\0\0\0\0\0\0\0\xff\xff\x7f\0\0\1", 16);
    at = parse("::1");
    address_from((const struct sockaddr *)&at, &out);
    assert_true(out.is_loopback);
    at = parse("::ffff:127.0.0.9");
    address_from((const struct sockaddr *)&at, &out);
    assert_true(out.is_loopback);
    at = parse("2001:4860::1");
    address_from((const struct sockaddr *)&at, &out);
    assert_false(out.is_loopback);
    at = parse("128.0.0.1");
    address_from((const struct sockaddr *)&at, &out);
    assert_false(out.is_loopback);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_inside_is_refused),
        cmocka_unit_test(the_outside_is_allowed),
        cmocka_unit_test(other_families_are_refused),
        cmocka_unit_test(addresses_become_one_form),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
