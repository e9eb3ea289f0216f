/* Signatures of requests to object stores: the examples of the vendor's documentation. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "docserverd/s3-sign.h"

#define EMPTY "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

static void test_examples(void **state)
{
        static const struct {
                const char *query, *signature;
        } cases[] = {
                { "lifecycle=",
                  "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543" },
                { "max-keys=2&prefix=J",
                  "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7" },
        };
        for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
                char date[S3_DATE_MAX];
                const struct s3_to_sign t = {
                        .method = "GET",
                        .host = "examplebucket.s3.amazonaws.com",
                        .path = "/",
                        .query = cases[i].query,
                        .payload = EMPTY,
                        .region = "us-east-1",
                        .access_key = "AKIAIOSFODNN7EXAMPLE",
                        .secret_key = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
                        .time_us = UINT64_C(1369353600) * USEC_PER_SEC,
                };
                cleanup_free char *got = s3_sign(&t, date);
                cleanup_free char *want = xasprintf(
                        "AWS4-HMAC-SHA256 "
                        "Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request,"
                        "SignedHeaders=host;x-amz-content-sha256;x-amz-date,Signature=%s",
                        cases[i].signature);
                assert_string_equal(date, "20130524T000000Z");
                assert_string_equal(got, want);
        }
}

static void test_encoding(void **state)
{
        static const struct {
                const char *text;
                bool slash;
                const char *want;
        } cases[] = {
                { "", false, "" },
                { "a-b._~Z9", false, "a-b._~Z9" },
                { "a/b c+d", true, "a/b%20c%2Bd" },
                { "a/b", false, "a%2Fb" },
                { "\xc3\xa4=&?", true, "%C3%A4%3D%26%3F" },
        };
        for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
                cleanup_free char *got = s3_encode(cases[i].text, cases[i].slash);
                assert_string_equal(got, cases[i].want);
        }
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_examples),
                cmocka_unit_test(test_encoding),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
