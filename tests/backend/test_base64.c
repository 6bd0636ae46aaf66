/* base64 against the vectors of RFC 4648, section 10, and there and back with every byte. */
#include "backend/base64.h"

#include "tests/testing.h"

#include <string.h>

static const struct {
    const char *plain, *text;
} vectors[] = {
    {"", ""},
    {"f", "Zg=="},
    {"fo", "Zm8="},
    {"foo", "Zm9v"},
    {"foob", "Zm9vYg=="},
    {"fooba", "Zm9vYmE="},
    {"foobar", "Zm9vYmFy"},
};

START_TEST(vectors_of_the_rfc)
{
    char text[16];
    uint8_t bytes[16];
    size_t n, expected = strlen(vectors[_i].plain);
    ck_assert_uint_eq(ts_base64_encode((const uint8_t *)vectors[_i].plain, expected, text),
                      strlen(vectors[_i].text));
    ck_assert_str_eq(text, vectors[_i].text);
    ck_assert(ts_base64_decode(text, bytes, &n));
    ck_assert_uint_eq(n, expected);
    ck_assert_mem_eq(bytes, vectors[_i].plain, n);
}
END_TEST

START_TEST(every_byte_there_and_back)
{
    uint8_t from[3 * 256], to[sizeof from + 3];
    char text[sizeof from / 3 * 4 + 1];
    size_t n;
    for (size_t i = 0; i < sizeof from; i++) from[i] = (uint8_t)(i * 37 + i / 256);
    for (size_t length = sizeof from - 3; length <= sizeof from; length++) {
        ck_assert_uint_eq(ts_base64_encode(from, length, text), (length + 2) / 3 * 4);
        ck_assert(ts_base64_decode(text, to, &n));
        ck_assert_uint_eq(n, length);
        ck_assert_mem_eq(to, from, n);
    }
}
END_TEST

START_TEST(line_breaks_and_strangers)
{
    uint8_t bytes[16];
    size_t n;
    ck_assert(ts_base64_decode("Zm9v\r\nYmFy\n", bytes, &n));
    ck_assert_uint_eq(n, 6);
    ck_assert_mem_eq(bytes, "foobar", 6);
    static const char *const wrong[] = {"Zm9*", "Zm 9v", "Zm-_", "Zm9v\xC3\xA4"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        ck_assert_msg(!ts_base64_decode(wrong[i], bytes, &n), "%s", wrong[i]);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("base64");
    TCase *tc = tcase_create("base64");
    tcase_add_loop_test(tc, vectors_of_the_rfc, 0, (int)(sizeof vectors / sizeof *vectors));
    tcase_add_test(tc, every_byte_there_and_back);
    tcase_add_test(tc, line_breaks_and_strangers);
    suite_add_tcase(suite, tc);
    return testing_main(suite);
}
