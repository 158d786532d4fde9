#include "base/map.h"
#include "base/mem.h"
#include "base/rng.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>

static const uint64_t seed[2] = {11, 22};

static void put_get_remove(void **state)
{
    (void)state;
    int one = 1;
    int two = 2;
    uint64_t used = mem_used_bytes();
    struct map m;
    map_init(&m, 10, seed);
    assert_null(map_get(&m, bytes_of("a")));
    assert_null(map_remove(&m, bytes_of("a")));
    assert_int_equal(map_put(&m, bytes_of("a"), &one), ERR_OK);
    assert_int_equal(map_put(&m, bytes_of(""), &two), ERR_OK);
    assert_ptr_equal(map_get(&m, bytes_of("a")), &one);
    assert_ptr_equal(map_get(&m, bytes_make(NULL, 0)), &two);
    assert_int_equal(map_put(&m, bytes_of("a"), &two), ERR_OK);
    assert_int_equal(m.count, 2);
    assert_ptr_equal(map_remove(&m, bytes_of("a")), &two);
    assert_null(map_get(&m, bytes_of("a")));
    assert_int_equal(m.count, 1);
    map_fini(&m);
    assert_int_equal(mem_used_bytes(), used);
}

static void keys_are_copied_at_every_length(void **state)
{
    (void)state;
    uint8_t key[MAP_KEY_BYTES_MAX + 1];
    int value = 0;
    struct map m;
    map_init(&m, 1000, seed);
    for (size_t count = 0; count <= MAP_KEY_BYTES_MAX; count++) {
        memset(key, (int)(count & 0xff), sizeof(key));
        assert_int_equal(map_put(&m, bytes_make(key, count), &value), ERR_OK);
        memset(key, 0xf7, sizeof(key));
    }
    assert_int_equal(m.count, MAP_KEY_BYTES_MAX + 1);
    for (size_t count = 0; count <= MAP_KEY_BYTES_MAX; count++) {
        memset(key, (int)(count & 0xff), sizeof(key));
        assert_ptr_equal(map_get(&m, bytes_make(key, count)), &value);
    }
    assert_int_equal(map_put(&m, bytes_make(key, sizeof(key)), &value), ERR_FULL);
    assert_null(map_get(&m, bytes_make(key, sizeof(key))));
    map_fini(&m);
}

static void the_limit_counts_entries_not_replacements(void **state)
{
    (void)state;
    int value = 0;
    struct map m;
    map_init(&m, 3, seed);
    assert_int_equal(map_put(&m, bytes_of("a"), &value), ERR_OK);
    assert_int_equal(map_put(&m, bytes_of("b"), &value), ERR_OK);
    assert_int_equal(map_put(&m, bytes_of("c"), &value), ERR_OK);
    assert_int_equal(map_put(&m, bytes_of("d"), &value), ERR_FULL);
    assert_int_equal(map_put(&m, bytes_of("b"), &value), ERR_OK);
    assert_non_null(map_remove(&m, bytes_of("a")));
    assert_int_equal(map_put(&m, bytes_of("d"), &value), ERR_OK);
    map_fini(&m);
    map_init(&m, 0, seed);
    assert_int_equal(map_put(&m, bytes_of("a"), &value), ERR_FULL);
    map_fini(&m);
}

#define MODEL_KEYS 300u

/* Keys of both kinds: those that stand in the entry and those that stand outside. */
static struct bytes model_key(uint64_t number, char *room, size_t room_bytes)
{
    int count = snprintf(room, room_bytes, "%llu%s", (unsigned long long)number,
                         number % 3 == 0 ? "-a-key-that-is-too-long-for-its-entry" : "");
    return bytes_make(room, (size_t)count);
}

static void model_compare(const struct map *m, void *const model[MODEL_KEYS])
{
    char room[64];
    uint32_t count = 0;
    for (uint64_t i = 0; i < MODEL_KEYS; i++) {
        assert_ptr_equal(map_get(m, model_key(i, room, sizeof(room))), model[i]);
        count += model[i] != NULL;
    }
    assert_int_equal(m->count, count);
    uint32_t index = 0;
    struct bytes key;
    while (map_next(m, &index, &key) != NULL) {
        assert_non_null(map_get(m, key));
        count--;
    }
    assert_int_equal(count, 0);
}

static void it_behaves_as_a_plain_array_does(void **state)
{
    (void)state;
    static void *model[MODEL_KEYS];
    static char values[4000];
    char room[64];
    struct rng r;
    struct map m;
    rng_init(&r, 4711);
    map_init(&m, MODEL_KEYS, seed);
    for (size_t step = 0; step < sizeof(values); step++) {
        uint64_t number = rng_below(&r, MODEL_KEYS);
        /* Waves of more puts and then more removals, so that it fills and empties. */
        bool puts = rng_below(&r, 10) < (step / 500 % 2 == 0 ? 8u : 2u);
        struct bytes key = model_key(number, room, sizeof(room));
        if (puts) {
            assert_int_equal(map_put(&m, key, &values[step]), ERR_OK);
            model[number] = &values[step];
        } else {
            assert_ptr_equal(map_remove(&m, key), model[number]);
            model[number] = NULL;
        }
        if (step % 97 == 0)
            model_compare(&m, model);
    }
    model_compare(&m, model);
    map_fini(&m);
}

static void every_allocation_may_fail(void **state)
{
    (void)state;
    static char values[40];
    char room[64];
    uint64_t used = mem_used_bytes();
    bool done = false;
    for (uint64_t n = 1; !done; n++) {
        struct map m;
        map_init(&m, 100, seed);
        mem_fail_at(n);
        uint32_t put = 0;
        done = true;
        for (uint64_t i = 0; i < ARRAY_COUNT(values); i++) {
            struct bytes key = model_key(i, room, sizeof(room));
            enum err e = map_put(&m, key, &values[i]);
            put += e == ERR_OK;
            done = done && e == ERR_OK;
            assert_int_equal(m.count, put);
            assert_ptr_equal(map_get(&m, key), e == ERR_OK ? &values[i] : NULL);
        }
        assert_true(put + 1 >= ARRAY_COUNT(values));
        map_fini(&m);
        assert_int_equal(mem_used_bytes(), used);
        assert_true(n < 40);
    }
    mem_fail_at(0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(put_get_remove),
        cmocka_unit_test(keys_are_copied_at_every_length),
        cmocka_unit_test(the_limit_counts_entries_not_replacements),
        cmocka_unit_test(it_behaves_as_a_plain_array_does),
        cmocka_unit_test(every_allocation_may_fail),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
