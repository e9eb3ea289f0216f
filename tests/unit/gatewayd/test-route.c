/* Which route a path leads to. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "gatewayd/route.h"

static void handler(struct http_request *req)
{
}

static const struct route table_a[] = {
        { HTTP_GET, "/things", handler },
        { HTTP_POST, "/things", handler },
        { HTTP_GET, "/things/{id}", handler, .listeners = LISTENER_BOTH },
        { HTTP_GET, "/things/tags", handler },
        { HTTP_DELETE, "/things/{id}", handler },
};
static const struct route table_b[] = {
        { HTTP_GET, "/things/{id}/files/{path...}", handler },
        { HTTP_PUT, "/things/{id}/parts/{n}", handler },
        { HTTP_GET, "/only", handler, .listeners = LISTENER_DOCUMENTS },
};
static const struct route_table a = { table_a, ARRAY_LEN(table_a) },
                                b = { table_b, ARRAY_LEN(table_b) };
static const struct route_table *const tables[] = { &a, &b };

static const char *params[HTTP_PARAMS_MAX];
static char scratch[256], allow[64];

static const struct route *find(enum http_method m, const char *path, unsigned listener,
                                enum route_match want)
{
        const struct route *r = NULL;

        assert_int_equal(route_find(tables, ARRAY_LEN(tables), listener, m, path, &r, params,
                                    scratch, allow),
                         want);
        return r;
}

static void test_find(void **state)
{
        assert_ptr_equal(find(HTTP_GET, "/things", LISTENER_MAIN, ROUTE_FOUND), &table_a[0]);
        assert_null(params[0]);
        assert_ptr_equal(find(HTTP_POST, "/things", LISTENER_MAIN, ROUTE_FOUND), &table_a[1]);
        assert_ptr_equal(find(HTTP_GET, "/things/x y", LISTENER_MAIN, ROUTE_FOUND), &table_a[2]);
        assert_string_equal(params[0], "x y");
        assert_ptr_equal(find(HTTP_GET, "/things/tags", LISTENER_MAIN, ROUTE_FOUND), &table_a[3]);
        assert_ptr_equal(find(HTTP_HEAD, "/things/tags", LISTENER_MAIN, ROUTE_FOUND), &table_a[3]);
        assert_ptr_equal(find(HTTP_GET, "/things/1/files/a/b", LISTENER_MAIN, ROUTE_FOUND),
                         &table_b[0]);
        assert_string_equal(params[0], "1");
        assert_string_equal(params[1], "a/b");
        assert_ptr_equal(find(HTTP_GET, "/things/1/files/", LISTENER_MAIN, ROUTE_FOUND),
                         &table_b[0]);
        assert_string_equal(params[1], "");
        assert_ptr_equal(find(HTTP_PUT, "/things/1/parts/2", LISTENER_MAIN, ROUTE_FOUND),
                         &table_b[1]);
        assert_string_equal(params[1], "2");
}

static void test_nothing(void **state)
{
        find(HTTP_GET, "/thing", LISTENER_MAIN, ROUTE_NO_PATH);
        find(HTTP_GET, "/things/", LISTENER_MAIN, ROUTE_NO_PATH);
        find(HTTP_GET, "/things/1/", LISTENER_MAIN, ROUTE_NO_PATH);
        find(HTTP_GET, "/thingsx", LISTENER_MAIN, ROUTE_NO_PATH);
        find(HTTP_GET, "/", LISTENER_MAIN, ROUTE_NO_PATH);
        find(HTTP_PUT, "/things/1/parts/2/3", LISTENER_MAIN, ROUTE_NO_PATH);
        find(HTTP_PATCH, "/things/1", LISTENER_MAIN, ROUTE_NO_METHOD);
        assert_string_equal(allow, "GET, HEAD, DELETE");
        find(HTTP_GET, "/things/1/parts/2", LISTENER_MAIN, ROUTE_NO_METHOD);
        assert_string_equal(allow, "PUT");
}

static void test_listeners(void **state)
{
        find(HTTP_GET, "/only", LISTENER_MAIN, ROUTE_NO_PATH);
        assert_ptr_equal(find(HTTP_GET, "/only", LISTENER_DOCUMENTS, ROUTE_FOUND), &table_b[2]);
        find(HTTP_GET, "/things", LISTENER_DOCUMENTS, ROUTE_NO_PATH);
        assert_ptr_equal(find(HTTP_GET, "/things/1", LISTENER_DOCUMENTS, ROUTE_FOUND), &table_a[2]);
}

/* Every route of the gateway has a pattern that is found by itself. */
static void test_all_routes(void **state)
{
        size_t n = 0;

        for (size_t t = 0; t < n_route_tables; t++)
                for (size_t i = 0; i < route_tables[t]->n; i++) {
                        const struct route *r = &route_tables[t]->routes[i], *found = NULL;
                        char path[256];
                        assert_non_null(r->handle);
                        assert_true(r->pattern[0] == '/' && strlen(r->pattern) < 200);
                        snprintf(path, sizeof(path), "%s", r->pattern);
                        unsigned listener =
                                r->listeners ? r->listeners & -r->listeners : LISTENER_MAIN;
                        if (route_find(route_tables, n_route_tables, listener, r->method, path,
                                       &found, params, scratch, allow) != ROUTE_FOUND ||
                            found != r)
                                fail_msg("%s %s is hidden by another", http_method_name(r->method),
                                         r->pattern);
                        n++;
                }
        assert_true(n > 20);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_find),
                cmocka_unit_test(test_nothing),
                cmocka_unit_test(test_listeners),
                cmocka_unit_test(test_all_routes),
        };

        return cmocka_run_group_tests_name("route", tests, NULL, NULL);
}
