/* Tokens (jwt.c), the secret's file (secret.c), keys and guests (auth.c). Tokens are made here from
 * plain JSON, so that each rule is broken alone and under a good signature. */
#include "auth/auth_priv.h"
#include "base/mem.h"
#include "base/rng.h"
#include "codec/base64.h"
#include "diag/diag.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#define NOW_MS 1700000000000
#define SECRET "0123456789abcdef0123456789abcdef"
#define HEADER "{\"alg\":\"HS256\",\"typ\":\"JWT\"}"

static char token_block[32768];

static size_t part_put(char *to, struct bytes part)
{
    return base64url_encode(part, (uint8_t *)to);
}

static struct bytes token_of_bytes(struct bytes header, struct bytes claims)
{
    uint8_t digest[DIGEST_BYTES];
    size_t count = part_put(token_block, header);
    token_block[count++] = '.';
    count += part_put(token_block + count, claims);
    jwt_sign(bytes_of(SECRET), bytes_make(token_block, count), digest);
    token_block[count++] = '.';
    count += part_put(token_block + count, bytes_make(digest, sizeof(digest)));
    return bytes_make(token_block, count);
}

static struct bytes token_of(const char *header, const char *claims)
{
    return token_of_bytes(bytes_of(header), bytes_of(claims));
}

static enum auth_why verify(struct bytes token, struct caller *out)
{
    enum auth_why why = AUTH_FINE;
    enum err err = jwt_verify(bytes_of(SECRET), token, NOW_MS, out, &why);
    assert_int_equal(err == ERR_OK, why == AUTH_FINE);
    assert_true(err == ERR_OK || err == ERR_DENIED);
    return why;
}

static enum auth_why claims_are(const char *claims)
{
    struct caller c;
    return verify(token_of(HEADER, claims), &c);
}

static enum auth_why header_is(const char *header)
{
    struct caller c;
    return verify(token_of(header, "{\"sub\":\"u\"}"), &c);
}

static void a_good_token_names_its_user(void **state)
{
    (void)state;
    struct caller c;
    assert_int_equal(verify(token_of(HEADER, "{\"sub\":\"u \xc3\xa9\",\"app\":\"shop\",\"name\":"
                                             "\"Ada\",\"guest\":true,\"exp\":1700000001,"
                                             "\"info\":{\"a\":[1,2]},\"aud\":\"x\"}"),
                            &c),
                     AUTH_FINE);
    assert_true(bytes_is(name_bytes(&c.user), "u \xc3\xa9"));
    assert_true(bytes_is(id_bytes(&c.app), "shop"));
    assert_true(bytes_is(name_bytes(&c.display), "Ada"));
    assert_true(c.guest);
    assert_false(c.is_key);
    assert_null(c.key);
    assert_true(c.expires_ms == 1700000001000);
}

static void what_is_left_out_has_a_meaning(void **state)
{
    (void)state;
    struct caller c;
    assert_int_equal(verify(token_of("{\"alg\":\"HS256\"}", "{\"sub\":\"u\"}"), &c), AUTH_FINE);
    assert_true(bytes_is(id_bytes(&c.app), "default"));
    assert_int_equal(c.display.count, 0);
    assert_false(c.guest);
    assert_true(c.expires_ms == 0);
}

/* RFC 7515, appendix A.1: their key, their token; its claims lack `sub`, so only the signature is
 * ours to check. */
static void the_rfcs_signature_is_ours(void **state)
{
    (void)state;
    static const char key[] = "AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4"
                              "hcgUuTwjAzZr1Z9CAow";
    static const char input[] =
        "eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQog"
        "Imh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ";
    uint8_t secret[128];
    uint8_t digest[DIGEST_BYTES];
    char text[64];
    size_t count;
    assert_int_equal(base64url_decode(bytes_of(key), secret, &count), ERR_OK);
    jwt_sign(bytes_make(secret, count), bytes_of(input), digest);
    text[part_put(text, bytes_make(digest, sizeof(digest)))] = '\0';
    assert_string_equal(text, "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk");
}

static void another_algorithm_is_refused(void **state)
{
    (void)state;
    static const char *const headers[] = {
        "{\"alg\":\"none\"}",
        "{\"alg\":\"HS384\"}",
        "{\"alg\":\"RS256\"}",
        "{\"alg\":\"hs256\"}",
        "{\"alg\":\"HS256 \"}",
        "{\"alg\":null}",
        "{\"alg\":[\"HS256\"]}",
        "{}",
        "{\"typ\":\"JWT\"}",
        "{\"alg\":\"HS256\",\"alg\":\"HS256\"}",
        "{\"alg\":\"none\",\"alg\":\"HS256\"}",
        "{\"alg\":\"HS256\",\"crit\":[\"exp\"]}",
        "{\"alg\":\"HS256\",\"crit\":null}",
        "{\"alg\":\"HS256\",\"typ\":\"JWS\"}",
        "{\"alg\":\"HS256\",\"typ\":5}",
        "[\"HS256\"]",
        "\"HS256\"",
        "{\"alg\":\"HS256\"} {}",
        "{\"alg\":\"HS256\"",
        "",
    };
    for (size_t i = 0; i < ARRAY_COUNT(headers); i++)
        assert_int_equal(header_is(headers[i]), AUTH_INVALID);
    assert_int_equal(header_is("{\"alg\":\"HS256\",\"typ\":\"jwt\",\"kid\":\"1\"}"), AUTH_FINE);
}

static void claims_are_strict(void **state)
{
    (void)state;
    static const char *const claims[] = {
        "{}",
        "{\"sub\":\"\"}",
        "{\"sub\":5}",
        "{\"sub\":null}",
        "{\"sub\":\"a\\u0000b\"}",
        "{\"sub\":\"a\\nb\"}",
        "{\"sub\":\"u\",\"sub\":\"u\"}",
        "{\"sub\":\"u\",\"exp\":1,\"exp\":9999999999}",
        "{\"sub\":\"u\",\"s\\u0075b\":\"v\"}",
        "{\"sub\":\"u\",\"channel\":\"conv:c\"}",
        "{\"sub\":\"u\",\"channel\":null}",
        "{\"sub\":\"u\",\"app\":\"\"}",
        "{\"sub\":\"u\",\"app\":\"a b\"}",
        "{\"sub\":\"u\",\"app\":7}",
        "{\"sub\":\"u\",\"guest\":\"yes\"}",
        "{\"sub\":\"u\",\"exp\":\"9999999999\"}",
        "{\"sub\":\"u\",\"exp\":-1}",
        "{\"sub\":\"u\",\"exp\":1e300}",
        "{\"sub\":\"u\",\"exp\":1700000000000}", /* milliseconds by mistake */
        "{\"sub\":\"u\",\"exp\":null}",
        "{\"sub\":\"u\",\"nbf\":true}",
        "{\"sub\":\"u\",\"iat\":[]}",
        "{\"sub\":\"\\ud800\"}",
        "[\"sub\",\"u\"]",
        "null",
        "",
        "{\"sub\":\"u\"}x",
        "{\"sub\":\"u\",\"a\":[[[[[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]]]]]}",
    };
    for (size_t i = 0; i < ARRAY_COUNT(claims); i++) {
        if (claims_are(claims[i]) != AUTH_INVALID)
            print_error("%s\n", claims[i]);
        assert_int_equal(claims_are(claims[i]), AUTH_INVALID);
    }
    assert_int_equal(claims_are(" {\"sub\" : \"u\"} "), AUTH_FINE);
}

static void names_have_their_limits(void **state)
{
    (void)state;
    struct caller c;
    char claims[512];
    char name[200];
    memset(name, 'a', sizeof(name));
    snprintf(claims, sizeof(claims), "{\"sub\":\"%.128s\"}", name);
    assert_int_equal(claims_are(claims), AUTH_FINE);
    snprintf(claims, sizeof(claims), "{\"sub\":\"%.129s\"}", name);
    assert_int_equal(claims_are(claims), AUTH_INVALID);
    /* A display name is cut at a character, not refused. */
    snprintf(claims, sizeof(claims), "{\"sub\":\"u\",\"name\":\"%.127s\xc3\xa9\"}", name);
    assert_int_equal(verify(token_of(HEADER, claims), &c), AUTH_FINE);
    assert_int_equal(c.display.count, 127);
    assert_int_equal(verify(token_of(HEADER, "{\"sub\":\"u\",\"name\":\"a\\nb\"}"), &c), AUTH_FINE);
    assert_int_equal(c.display.count, 0);
}

static void times_have_five_seconds_of_leeway(void **state)
{
    (void)state;
    static const struct {
        const char *claims;
        enum auth_why why;
    } rows[] = {
        {"{\"sub\":\"u\",\"exp\":1700000000}", AUTH_FINE},
        {"{\"sub\":\"u\",\"exp\":1699999995}", AUTH_FINE},
        {"{\"sub\":\"u\",\"exp\":1699999994.999}", AUTH_EXPIRED},
        {"{\"sub\":\"u\",\"exp\":0}", AUTH_EXPIRED},
        {"{\"sub\":\"u\",\"nbf\":1700000005}", AUTH_FINE},
        {"{\"sub\":\"u\",\"nbf\":1700000006}", AUTH_NOT_YET},
        {"{\"sub\":\"u\",\"iat\":1700000005.000}", AUTH_FINE},
        {"{\"sub\":\"u\",\"iat\":1700000006}", AUTH_NOT_YET},
        {"{\"sub\":\"u\",\"iat\":1,\"nbf\":2,\"exp\":1.8e9}", AUTH_FINE},
    };
    for (size_t i = 0; i < ARRAY_COUNT(rows); i++) {
        if (claims_are(rows[i].claims) != rows[i].why)
            print_error("%s\n", rows[i].claims);
        assert_int_equal(claims_are(rows[i].claims), rows[i].why);
    }
}

static void any_changed_bit_is_refused(void **state)
{
    (void)state;
    struct caller c = {.expires_ms = 77};
    struct bytes token = token_of(HEADER, "{\"sub\":\"u\"}");
    for (size_t i = 0; i < token.count * 8; i++) {
        token_block[i / 8] = (char)(token_block[i / 8] ^ 1 << i % 8);
        assert_int_equal(verify(token, &c), AUTH_INVALID);
        token_block[i / 8] = (char)(token_block[i / 8] ^ 1 << i % 8);
    }
    assert_true(c.expires_ms == 77); /* untouched */
    assert_int_equal(verify(token, &c), AUTH_FINE);
    for (size_t count = 0; count < token.count; count++)
        assert_int_equal(verify(bytes_make(token.at, count), &c), AUTH_INVALID);
}

static void only_three_strict_parts_are_a_token(void **state)
{
    (void)state;
    struct caller c;
    char text[1024];
    struct bytes token = token_of(HEADER, "{\"sub\":\"u\"}");
    static const char *const formats[] = {"%.*s=", "%.*s.", ".%.*s", " %.*s", "%.*s\n", "%.*sA"};
    for (size_t i = 0; i < ARRAY_COUNT(formats); i++) {
        snprintf(text, sizeof(text), formats[i], (int)token.count, (const char *)token.at);
        assert_int_equal(verify(bytes_of(text), &c), AUTH_INVALID);
    }
    static const char *const others[] = {"", ".", "..", "...", "a.b.c", "\xff"};
    for (size_t i = 0; i < ARRAY_COUNT(others); i++)
        assert_int_equal(verify(bytes_of(others[i]), &c), AUTH_INVALID);
}

static void huge_tokens_are_refused_unread(void **state)
{
    (void)state;
    static char claims[9000];
    struct caller c;
    size_t fits = 6000;
    snprintf(claims, sizeof(claims), "{\"sub\":\"u\",\"x\":\"%0*d\"}", (int)fits, 0);
    struct bytes token = token_of(HEADER, claims);
    assert_true(token.count <= AUTH_TOKEN_BYTES_MAX);
    assert_int_equal(verify(token, &c), AUTH_FINE);
    snprintf(claims, sizeof(claims), "{\"sub\":\"u\",\"x\":\"%0*d\"}", 6200, 0);
    token = token_of(HEADER, claims);
    assert_true(token.count > AUTH_TOKEN_BYTES_MAX);
    assert_int_equal(verify(token, &c), AUTH_INVALID);
    /* Many small values are too many. */
    size_t count = (size_t)snprintf(claims, sizeof(claims), "{\"sub\":\"u\",\"x\":[0");
    for (int i = 0; i < 2000; i++)
        count += (size_t)snprintf(claims + count, sizeof(claims) - count, ",0");
    snprintf(claims + count, sizeof(claims) - count, "]}");
    assert_int_equal(verify(token_of(HEADER, claims), &c), AUTH_INVALID);
}

static void without_a_secret_no_token_is_good(void **state)
{
    (void)state;
    struct caller c;
    enum auth_why why;
    struct bytes token = token_of(HEADER, "{\"sub\":\"u\"}");
    assert_int_equal(jwt_verify((struct bytes){NULL, 0}, token, NOW_MS, &c, &why), ERR_DENIED);
    assert_int_equal(jwt_verify(bytes_of("other"), token, NOW_MS, &c, &why), ERR_DENIED);
}

/* --- the whole room --------------------------------------------------------------------------- */

static char folder[64];

static struct config config_of(const char *listen, const char *secret, enum config_flag guests)
{
    return (struct config){.listen = listen,
                           .auth_hs256_secret = secret,
                           .auth_guests = guests,
                           .auth_insecure = CONFIG_FALSE,
                           .data_dir = folder};
}

static int folder_make(void **state)
{
    (void)state;
    snprintf(folder, sizeof(folder), "/tmp/kith_auth_test_XXXXXX");
    return mkdtemp(folder) == NULL ? -1 : 0;
}

static const char *path_of(const char *name)
{
    static char path[128];
    snprintf(path, sizeof(path), "%s/%s", folder, name);
    return path;
}

static int folder_drop(void **state)
{
    (void)state;
    unlink(path_of("secret"));
    unlink(path_of("deep/er/secret"));
    rmdir(path_of("deep/er"));
    rmdir(path_of("deep"));
    return rmdir(folder);
}

static struct auth *make(const struct config *c)
{
    struct auth *a = NULL;
    struct buf message;
    char text[256];
    buf_init_fixed(&message, text, sizeof(text));
    assert_int_equal(auth_make(c, &a, &message), ERR_OK);
    assert_int_equal(message.count, 0);
    return a;
}

static void guests_come_in_by_the_rule(void **state)
{
    (void)state;
    static const struct config_api_key key = {.key = "k", .key_file = "", .app = "default"};
    static const struct {
        const char *listen;
        const char *secret;
        enum config_flag guests;
        size_t keys;
        bool on;
    } rows[] = {
        {"127.0.0.1:8080", "", CONFIG_AUTO, 0, true},
        {"127.9.9.9:0", "", CONFIG_AUTO, 0, true},
        {"[::1]:0", "", CONFIG_AUTO, 0, true},
        {"localhost:80", "", CONFIG_AUTO, 0, true},
        {"0.0.0.0:8080", "", CONFIG_AUTO, 0, false},
        {"[::]:8080", "", CONFIG_AUTO, 0, false},
        {"10.127.0.1:8080", "", CONFIG_AUTO, 0, false},
        {"localhost.example:80", "", CONFIG_AUTO, 0, false},
        {"127.0.0.1:8080", SECRET, CONFIG_AUTO, 0, false},
        {"127.0.0.1:8080", "", CONFIG_AUTO, 1, false},
        {"127.0.0.1:8080", "", CONFIG_FALSE, 0, false},
        {"0.0.0.0:8080", SECRET, CONFIG_TRUE, 1, true},
    };
    for (size_t i = 0; i < ARRAY_COUNT(rows); i++) {
        struct config c = config_of(rows[i].listen, rows[i].secret, rows[i].guests);
        c.api_keys = &key;
        c.api_keys_count = rows[i].keys;
        struct auth *a = make(&c);
        assert_int_equal(auth_guests(a), rows[i].on);
        assert_false(auth_insecure(a));
        auth_free(&a);
        assert_null(a);
        auth_free(&a);
    }
}

static void a_guest_survives_a_restart(void **state)
{
    (void)state;
    struct config c = config_of("127.0.0.1:0", "", CONFIG_AUTO);
    struct caller guest = {.guest = true};
    struct caller again;
    enum auth_why why;
    char block[2048];
    struct buf token;
    assert_int_equal(id_parse(bytes_of("default"), &guest.app), ERR_OK);
    assert_int_equal(name_parse(bytes_of("u_1"), &guest.user), ERR_OK);
    assert_int_equal(name_parse(bytes_of("A\"da\xc3\xa9"), &guest.display), ERR_OK);
    buf_init_fixed(&token, block, sizeof(block));
    struct auth *a = make(&c);
    auth_token_make(a, &guest, NOW_MS, &token);
    assert_false(token.failed);
    auth_free(&a);
    a = make(&c);
    assert_int_equal(auth_token_verify(a, buf_view(&token), NOW_MS, &again, &why), ERR_OK);
    assert_true(name_equal(&again.user, &guest.user));
    assert_true(name_equal(&again.display, &guest.display));
    assert_true(id_equal(&again.app, &guest.app));
    assert_true(again.guest);
    assert_true(again.expires_ms == NOW_MS + AUTH_GUEST_MS);
    int64_t late = NOW_MS + AUTH_GUEST_MS + AUTH_LEEWAY_MS;
    assert_int_equal(auth_token_verify(a, buf_view(&token), late, &again, &why), ERR_OK);
    assert_int_equal(auth_token_verify(a, buf_view(&token), late + 1, &again, &why), ERR_DENIED);
    assert_int_equal(why, AUTH_EXPIRED);
    auth_free(&a);
}

static void any_name_makes_a_good_token(void **state)
{
    (void)state;
    struct rng r;
    for (uint64_t seed = 1; seed < 300; seed++) {
        struct caller c = {.guest = seed % 2 == 0};
        struct caller again;
        char name[NAME_BYTES_MAX];
        char block[4096];
        struct buf token;
        rng_init(&r, seed);
        size_t count = rng_below(&r, NAME_BYTES_MAX) + 1;
        for (size_t i = 0; i < count; i++)
            name[i] = (char)(' ' + rng_below(&r, 95));
        assert_int_equal(name_parse(bytes_make(name, count), &c.user), ERR_OK);
        assert_int_equal(name_parse(bytes_make(name, count), &c.display), ERR_OK);
        assert_int_equal(id_parse(bytes_of("default"), &c.app), ERR_OK);
        buf_init_fixed(&token, block, sizeof(block));
        jwt_make(bytes_of(SECRET), &c, NOW_MS, NOW_MS + 1000, &token);
        assert_int_equal(verify(buf_view(&token), &again), AUTH_FINE);
        assert_true(name_equal(&again.user, &c.user) && name_equal(&again.display, &c.display));
        assert_int_equal(again.guest, c.guest);
    }
}

static void the_secret_is_for_its_owner_alone(void **state)
{
    (void)state;
    struct config c = config_of("127.0.0.1:0", "", CONFIG_AUTO);
    struct stat about;
    char deep[128];
    snprintf(deep, sizeof(deep), "%s/deep/er", folder);
    c.data_dir = deep;
    struct auth *a = make(&c);
    auth_free(&a);
    assert_int_equal(stat(path_of("deep/er/secret"), &about), 0);
    assert_int_equal(about.st_mode & 0777, 0600);
    assert_int_equal(about.st_size, 44);
    assert_int_equal(about.st_nlink, 1);
    assert_int_equal(stat(deep, &about), 0);
    assert_int_equal(about.st_mode & 0777, 0700);
}

static void file_write(const char *path, const char *text)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, strlen(text)), (ssize_t)strlen(text));
    close(fd);
}

static void a_broken_secret_stops_the_start(void **state)
{
    (void)state;
    struct config c = config_of("127.0.0.1:0", "", CONFIG_AUTO);
    struct auth *a = NULL;
    struct buf message;
    char text[256];
    char wanted[256];
    file_write(path_of("secret"), "short\n");
    buf_init_fixed(&message, text, sizeof(text) - 1);
    assert_int_equal(auth_make(&c, &a, &message), ERR_PROTO);
    text[message.count] = '\0';
    snprintf(wanted, sizeof(wanted),
             "%s: is not a secret; allowed: 16 to 4095 bytes, or no such file", path_of("secret"));
    assert_string_equal(text, wanted);
    assert_null(a);
    unlink(path_of("secret"));
    buf_init_fixed(&message, text, sizeof(text) - 1);
    c.data_dir = "/proc/nowhere";
    assert_int_equal(auth_make(&c, &a, &message), ERR_IO);
    text[message.count] = '\0';
    assert_string_equal(text, "/proc/nowhere: cannot be made: No such file or directory");
}

static void a_secret_of_the_operator_is_taken_and_its_mode_told(void **state)
{
    (void)state;
    uint8_t secret[SECRET_BYTES_MAX];
    size_t count;
    char line[512];
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    diag_output_set(ends[1]);
    file_write(path_of("secret"), SECRET "\n");
    assert_int_equal(chmod(path_of("secret"), 0644), 0);
    assert_int_equal(secret_load(folder, secret, &count, NULL), ERR_OK);
    diag_output_set(STDERR_FILENO);
    ssize_t got = read(ends[0], line, sizeof(line) - 1);
    assert_true(got > 0);
    line[got] = '\0';
    assert_non_null(strstr(line, "event=secret_readable"));
    assert_null(strstr(line, SECRET));
    assert_int_equal(count, strlen(SECRET));
    assert_memory_equal(secret, SECRET, count);
    close(ends[0]);
    close(ends[1]);
    unlink(path_of("secret"));
}

/* Processes that start together agree on one secret. */
static void two_that_make_it_at_once_agree(void **state)
{
    (void)state;
    int ends[2];
    uint8_t first[SECRET_BYTES_MAX];
    size_t first_count = 0;
    assert_int_equal(pipe(ends), 0);
    for (int i = 0; i < 8; i++) {
        pid_t pid = fork();
        assert_true(pid >= 0);
        if (pid == 0) {
            uint8_t mine[SECRET_BYTES_MAX];
            size_t count;
            bool good =
                secret_load(folder, mine, &count, NULL) == ERR_OK && write(ends[1], mine, 43) == 43;
            _exit(good ? 0 : 1);
        }
    }
    for (int i = 0; i < 8; i++) {
        int status;
        assert_true(wait(&status) > 0);
        assert_int_equal(status, 0);
    }
    assert_int_equal(secret_load(folder, first, &first_count, NULL), ERR_OK);
    assert_int_equal(first_count, 43);
    for (int i = 0; i < 8; i++) {
        uint8_t other[43];
        assert_int_equal(read(ends[0], other, sizeof(other)), 43);
        assert_memory_equal(first, other, sizeof(other));
    }
    close(ends[0]);
    close(ends[1]);
}

static void a_configured_secret_needs_no_file(void **state)
{
    (void)state;
    struct config c = config_of("0.0.0.0:80", SECRET, CONFIG_AUTO);
    struct caller who;
    enum auth_why why;
    c.data_dir = "/proc/nowhere";
    c.auth_insecure = CONFIG_TRUE;
    struct auth *a = make(&c);
    struct bytes token = token_of(HEADER, "{\"sub\":\"u\"}");
    assert_int_equal(auth_token_verify(a, token, NOW_MS, &who, &why), ERR_OK);
    assert_true(who.insecure && auth_insecure(a));
    auth_free(&a);
    c = config_of("0.0.0.0:80", "", CONFIG_AUTO);
    c.data_dir = "/proc/nowhere";
    a = make(&c);
    assert_int_equal(auth_token_verify(a, token, NOW_MS, &who, &why), ERR_DENIED);
    assert_int_equal(why, AUTH_INVALID);
    assert_string_equal(auth_why_name(why), "invalid");
    auth_free(&a);
}

static void keys_open_their_app(void **state)
{
    (void)state;
    static const char *const scopes[] = {"chat", "read"};
    static const struct config_api_key keys[] = {
        {.key = "alpha", .key_file = "", .app = "default"},
        {.key = "beta", .key_file = "", .app = "shop", .scopes = scopes, .scopes_count = 2},
    };
    struct config c = config_of("127.0.0.1:0", "", CONFIG_AUTO);
    struct caller who;
    c.api_keys = keys;
    c.api_keys_count = 2;
    struct auth *a = make(&c);
    assert_int_equal(auth_key_find(a, bytes_of("alpha"), &who), ERR_OK);
    assert_true(who.is_key && bytes_is(id_bytes(&who.app), "default") && who.user.count == 0);
    assert_true(auth_may(&who, "anything"));
    assert_int_equal(auth_key_find(a, bytes_of("beta"), &who), ERR_OK);
    assert_true(bytes_is(id_bytes(&who.app), "shop"));
    assert_true(auth_may(&who, "chat") && auth_may(&who, "read") && !auth_may(&who, "admin"));
    static const char *const wrong[] = {"", "alph", "alphaa", "Alpha", "alpha\n"};
    for (size_t i = 0; i < ARRAY_COUNT(wrong); i++)
        assert_int_equal(auth_key_find(a, bytes_of(wrong[i]), &who), ERR_DENIED);
    assert_int_equal(auth_key_find(a, (struct bytes){NULL, 0}, &who), ERR_DENIED);
    auth_free(&a);
    struct caller person = {.guest = true};
    assert_true(auth_may(&person, "anything"));
}

static void the_bearer_is_found(void **state)
{
    (void)state;
    static const char *const rows[][2] = {
        {"Bearer abc", "abc"}, {"bearer abc", "abc"}, {"BEARER  abc ", "abc"}, {"Bearer ", NULL},
        {"Bearer", NULL},      {"Bearer   ", NULL},   {"Basic abc", NULL},     {"", NULL},
        {"Bearerabc", NULL},
    };
    for (size_t i = 0; i < ARRAY_COUNT(rows); i++) {
        struct bytes found = auth_bearer(bytes_of(rows[i][0]));
        if (rows[i][1] == NULL)
            assert_null(found.at);
        else
            assert_true(bytes_is(found, rows[i][1]));
    }
    assert_null(auth_bearer((struct bytes){NULL, 0}).at);
}

static void memory_may_run_out(void **state)
{
    (void)state;
    struct config c = config_of("127.0.0.1:0", SECRET, CONFIG_FALSE);
    struct auth *a = NULL;
    struct buf message;
    char text[64];
    buf_init_fixed(&message, text, sizeof(text));
    mem_fail_at(1);
    assert_int_equal(auth_make(&c, &a, &message), ERR_FULL);
    mem_fail_at(0);
    assert_null(a);
    assert_true(message.count > 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_good_token_names_its_user),
        cmocka_unit_test(what_is_left_out_has_a_meaning),
        cmocka_unit_test(the_rfcs_signature_is_ours),
        cmocka_unit_test(another_algorithm_is_refused),
        cmocka_unit_test(claims_are_strict),
        cmocka_unit_test(names_have_their_limits),
        cmocka_unit_test(times_have_five_seconds_of_leeway),
        cmocka_unit_test(any_changed_bit_is_refused),
        cmocka_unit_test(only_three_strict_parts_are_a_token),
        cmocka_unit_test(huge_tokens_are_refused_unread),
        cmocka_unit_test(without_a_secret_no_token_is_good),
        cmocka_unit_test_setup_teardown(guests_come_in_by_the_rule, folder_make, folder_drop),
        cmocka_unit_test_setup_teardown(a_guest_survives_a_restart, folder_make, folder_drop),
        cmocka_unit_test(any_name_makes_a_good_token),
        cmocka_unit_test_setup_teardown(the_secret_is_for_its_owner_alone, folder_make,
                                        folder_drop),
        cmocka_unit_test_setup_teardown(a_broken_secret_stops_the_start, folder_make, folder_drop),
        cmocka_unit_test_setup_teardown(a_secret_of_the_operator_is_taken_and_its_mode_told,
                                        folder_make, folder_drop),
        cmocka_unit_test_setup_teardown(two_that_make_it_at_once_agree, folder_make, folder_drop),
        cmocka_unit_test(a_configured_secret_needs_no_file),
        cmocka_unit_test(keys_open_their_app),
        cmocka_unit_test(the_bearer_is_found),
        cmocka_unit_test(memory_may_run_out),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
