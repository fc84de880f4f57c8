/* ranks: 1
 * safetensors: what is written is read back in every width; each lie of a header is refused in one
 * message that names file and tensor, without memory for what it claims. */
#include "io/safetensors.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#define FILE_NAME "test_safetensors.tmp.safetensors"

static void put(uint64_t claimed, const char *header, size_t header_bytes, const void *data,
                size_t bytes)
{
    FILE *f = fopen(FILE_NAME, "wb");
    assert_non_null(f);
    unsigned char le[8];
    for (int i = 0; i < 8; i++)
        le[i] = (unsigned char)(claimed >> 8 * i);
    assert_int_equal(fwrite(le, 1, 8, f), 8);
    assert_int_equal(fwrite(header, 1, header_bytes, f), header_bytes);
    if (bytes)
        assert_int_equal(fwrite(data, 1, bytes, f), bytes);
    fclose(f);
}

/* Header text and so many zero bytes of data. */
static status open_with(const char *header, size_t bytes, safetensors **s)
{
    static const char zeros[4096];
    put(strlen(header), header, strlen(header), zeros, bytes);
    return safetensors_open(FILE_NAME, s);
}

static void refused(const char *header, size_t bytes, const char *says)
{
    safetensors *s;
    assert_int_equal(open_with(header, bytes, &s), STATUS_DATA);
    assert_null(s);
    const char *text = failure_last()->text;
    if (!strstr(text, says) || !strstr(text, FILE_NAME ": ") || !strstr(text, "; "))
        fail_msg("message does not say \"%s\": %s", says, text);
}

#define W(dtype, shape, offsets)                                                                   \
    "{\"w\":{\"dtype\":\"" dtype "\",\"shape\":" shape ",\"data_offsets\":" offsets "}}"

static void lies(void **state)
{
    (void)state;
    refused("[]", 0, "no JSON object");
    refused("{", 0, "no JSON");
    refused("{\"w\":3}", 0, "w is no object");
    refused(W("F24", "[4]", "[0,12]"), 12, "F24");
    refused(W("F32", "[2,3]", "[0,16]"), 16, "w: its shape");
    refused(W("F32", "[9223372036854775808]", "[0,16]"), 16, "at w: ");
    refused(W("F32", "[4]", "[0,18446744073709551632]"), 16, "at w: ");
    refused(W("F32", "[4]", "[0,16]"), 12, "tensor w ends at byte 16");
    refused(W("F32", "[4]", "[0,16]"), 23, "7 bytes after the last tensor, w");
    refused(W("F32", "[4]", "[8,24]"), 24, "8 bytes before tensor w");
    refused(W("F32", "[4]", "[16,0]"), 16, "tensor w: data_offsets");
    refused(W("F32", "[4]", "[-16,0]"), 16, "tensor w: data_offsets");
    refused(W("F32", "[4]", "[0,16.0]"), 16, "tensor w: data_offsets");
    refused(W("F32", "[4]", "[0,16,16]"), 16, "tensor w: data_offsets");
    refused(W("F32", "[-4]", "[0,16]"), 16, "tensor w: dimension 1");
    refused(W("F32", "[true]", "[0,4]"), 4, "tensor w: dimension 1");
    refused(W("F32", "4", "[0,16]"), 16, "tensor w has no shape");
    refused(W("F32", "[1,1,1,1,1,1,1,1,4]", "[0,16]"), 16, "9 dimensions");
    /* products that wrap to the size of the range */
    refused(W("F32", "[4294967296,4294967296]", "[0,0]"), 0, "tensor w: the product");
    refused(W("F32", "[4611686018427387904]", "[0,0]"), 0, "tensor w");
    refused(W("F64", "[2305843009213693952]", "[0,0]"), 0, "tensor w");
    refused(W("F32", "[1e3]", "[0,4000]"), 4000, "tensor w: dimension 1");
    refused(W("F4", "[3]", "[0,2]"), 2, "tensor w");
    refused(W("F32", "[9223372036854775808]", "[0,16]"), 16, "no JSON");
    refused("{\"a\":{\"dtype\":\"F32\",\"shape\":[4],\"data_offsets\":[0,16]},"
            "\"b\":{\"dtype\":\"F32\",\"shape\":[4],\"data_offsets\":[8,24]}}",
            24, "a [0,16) and b [8,24) overlap");
    refused("{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]},"
            "\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[4,8]}}",
            8, "duplicate");
    refused("{\"__metadata__\":{\"step\":7}}", 0, "step");
    refused("{\"__metadata__\":[]}", 0, "__metadata__");
    refused("{\"w\\u0000\":1}", 0, "no JSON");
}

static void lengths(void **state)
{
    (void)state;
    safetensors *s;
    const uint64_t claims[] = {1000, 1u << 30, UINT64_MAX, UINT64_MAX - 7, (uint64_t)1 << 63};
    for (size_t i = 0; i < sizeof claims / sizeof *claims; i++) {
        put(claims[i], "{}", 2, NULL, 0);
        assert_int_equal(safetensors_open(FILE_NAME, &s), STATUS_DATA);
        assert_non_null(strstr(failure_last()->text, "the header is said to be"));
    }
    FILE *f = fopen(FILE_NAME, "wb");
    fputs("12345", f);
    fclose(f);
    assert_int_equal(safetensors_open(FILE_NAME, &s), STATUS_DATA);
    assert_non_null(strstr(failure_last()->text, "5 bytes"));
    assert_int_equal(safetensors_open(".", &s), STATUS_DATA);
    assert_int_equal(safetensors_open("no-such.safetensors", &s), STATUS_DATA);
    assert_non_null(strstr(failure_last()->text, "no-such.safetensors: "));
}

static void unusual_but_valid(void **state)
{
    (void)state;
    safetensors *s;
    assert_int_equal(open_with("{}      ", 0, &s), STATUS_OK);
    assert_int_equal(s->n, 0);
    safetensors_close(&s);
    assert_int_equal(open_with(W("F32", "[]", "[0,4]"), 4, &s), STATUS_OK);
    assert_int_equal(s->tensors[0].count, 1);
    safetensors_close(&s);
    assert_int_equal(open_with(W("I64", "[3,0]", "[0,0]"), 0, &s), STATUS_OK);
    assert_int_equal(s->tensors[0].count, 0);
    float none;
    assert_int_equal(safetensors_read_f32(s, &s->tensors[0], &none), STATUS_DATA);
    assert_non_null(strstr(failure_last()->text, "I64"));
    safetensors_close(&s);
    /* later tensors first, an unknown key, metadata last */
    assert_int_equal(
        open_with("{\"b\":{\"dtype\":\"U8\",\"shape\":[3],\"data_offsets\":[4,7],\"note\":1},"
                  "\"a\":{\"data_offsets\":[0,4],\"shape\":[1],\"dtype\":\"F32\"},\"__metadata__\":"
                  "{\"k\":\"v\"}}",
                  7, &s),
        STATUS_OK);
    assert_int_equal(s->n, 2);
    assert_string_equal(safetensors_meta(s, "k"), "v");
    assert_null(safetensors_meta(s, "other"));
    assert_string_equal(safetensors_find(s, "a")->name, "a");
    assert_null(safetensors_find(s, "__metadata__"));
    safetensors_close(&s);
}

static void widths(void **state)
{
    (void)state;
    const double d[3] = {1.5, -1e-3, 1e300};
    const uint16_t half[6] = {0x3c00, 0xc000, 0x0001, 0x7c00, 0x7e00, 0x8000};
    const uint16_t bf[2] = {0x3f80, 0xff80};
    const safetensor_out out[] = {
        {"d", {3}, 1, "F64", 8, d}, {"h", {2, 3}, 2, "F16", 2, half}, {"b", {2}, 1, "BF16", 2, bf}};
    const char *key = "who", *value = "\"quoted\"";
    assert_int_equal(safetensors_write(FILE_NAME, out, 3, &key, &value, 1), STATUS_OK);
    safetensors *s;
    assert_int_equal(safetensors_open(FILE_NAME, &s), STATUS_OK);
    assert_string_equal(safetensors_meta(s, "who"), value);
    assert_int_equal(s->data_at % 8, 0);
    float x[6];
    assert_int_equal(safetensors_read_f32(s, safetensors_find(s, "d"), x), STATUS_DATA); /* 1e300 */
    assert_non_null(strstr(failure_last()->text, "beyond fp32"));
    assert_int_equal(safetensors_read_f32(s, safetensors_find(s, "h"), x), STATUS_OK);
    assert_true(x[0] == 1.0f && x[1] == -2.0f && x[2] == 0x1p-24f && isinf(x[3]) && isnan(x[4]) &&
                x[5] == 0.0f);
    assert_int_equal(safetensors_read_f32(s, safetensors_find(s, "b"), x), STATUS_OK);
    assert_true(x[0] == 1.0f && isinf(x[1]) && x[1] < 0);
    int64_t nan, inf;
    assert_int_equal(safetensors_not_finite(s, safetensors_find(s, "h"), &nan, &inf), STATUS_OK);
    assert_true(nan == 1 && inf == 1);
    safetensors_close(&s);
    /* an older file stays where the new one cannot be written */
    assert_int_equal(safetensors_write("no-such-folder/x.safetensors", out, 3, NULL, NULL, 0),
                     STATUS_RESOURCE);
}

static int clean(void **state)
{
    (void)state;
    unlink(FILE_NAME);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(lies), cmocka_unit_test(lengths),
                                       cmocka_unit_test(unusual_but_valid),
                                       cmocka_unit_test(widths)};
    return cmocka_run_group_tests(tests, NULL, clean);
}
