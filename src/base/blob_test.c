#include "base/blob.h"
#include "base/mem.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <pthread.h>

static void the_last_reference_frees(void **state)
{
    (void)state;
    uint64_t used = mem_used_bytes();
    struct blob *b = blob_copy(bytes_of("hello"));
    assert_non_null(b);
    assert_int_equal(b->capacity, 5);
    struct blob *second = blob_ref(b);
    assert_ptr_equal(second, b);
    blob_unref(&b);
    assert_null(b);
    assert_true(bytes_is(blob_bytes(second), "hello"));
    blob_unref(&second);
    assert_int_equal(mem_used_bytes(), used);
}

static void null_is_a_blob_without_bytes(void **state)
{
    (void)state;
    struct blob *none = NULL;
    assert_null(blob_ref(NULL));
    blob_unref(&none);
    assert_int_equal(blob_bytes(NULL).count, 0);
    struct blob *empty = blob_copy(bytes_make(NULL, 0));
    assert_non_null(empty);
    assert_int_equal(blob_bytes(empty).count, 0);
    blob_unref(&empty);
}

static void the_limit_holds(void **state)
{
    (void)state;
    assert_null(blob_new((size_t)BLOB_BYTES_MAX + 1));
    struct blob *b = blob_new(BLOB_BYTES_MAX);
    assert_non_null(b);
    assert_int_equal(blob_resize(&b, 16), ERR_OK);
    assert_int_equal(blob_resize(&b, (size_t)BLOB_BYTES_MAX + 1), ERR_FULL);
    assert_int_equal(b->capacity, 16);
    blob_unref(&b);
}

static void resize_moves_the_content_along(void **state)
{
    (void)state;
    struct blob *b = blob_copy(bytes_of("content"));
    assert_non_null(b);
    b->tag = 77;
    assert_int_equal(blob_resize(&b, 200000), ERR_OK);
    assert_int_equal(b->capacity, 200000);
    assert_int_equal(b->tag, 77);
    assert_true(bytes_is(blob_bytes(b), "content"));
    assert_int_equal(blob_resize(&b, 7), ERR_OK);
    assert_true(bytes_is(blob_bytes(b), "content"));
    blob_unref(&b);
}

static void every_allocation_may_fail(void **state)
{
    (void)state;
    mem_fail_at(1);
    assert_null(blob_new(10));
    mem_fail_at(1);
    assert_null(blob_copy(bytes_of("x")));
    struct blob *b = blob_copy(bytes_of("kept"));
    mem_fail_at(1);
    assert_int_equal(blob_resize(&b, 1000), ERR_FULL);
    assert_true(bytes_is(blob_bytes(b), "kept"));
    assert_int_equal(b->capacity, 4);
    blob_unref(&b);
}

static void *thread_of_references(void *ctx)
{
    struct blob *b = ctx;
    for (int i = 0; i < 5000; i++) {
        struct blob *mine = blob_ref(b);
        blob_unref(&mine);
    }
    blob_unref(&b);
    return NULL;
}

static void references_travel_between_threads(void **state)
{
    (void)state;
    uint64_t used = mem_used_bytes();
    struct blob *b = blob_copy(bytes_of("shared"));
    pthread_t threads[3];
    for (size_t i = 0; i < ARRAY_COUNT(threads); i++)
        assert_int_equal(pthread_create(&threads[i], NULL, thread_of_references, blob_ref(b)), 0);
    blob_unref(&b);
    for (size_t i = 0; i < ARRAY_COUNT(threads); i++)
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    assert_int_equal(mem_used_bytes(), used);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_last_reference_frees),
        cmocka_unit_test(null_is_a_blob_without_bytes),
        cmocka_unit_test(the_limit_holds),
        cmocka_unit_test(resize_moves_the_content_along),
        cmocka_unit_test(every_allocation_may_fail),
        cmocka_unit_test(references_travel_between_threads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
