/* The tables of docserverd without files or database: claims on checksums and open uploads. */
#include <setjmp.h>
#include <stddef.h>
#include <stdarg.h>
#include <stdint.h>

#include <cmocka.h>

#include "docserverd/claims.h"
#include "docserverd/uploads.h"

/* ---- claims ---- */

struct waiter {
        struct claim_wait wait;
        struct claims *claims;
        const char *key;
        bool granted, give_back;
};

static void on_granted(struct claim_wait *w)
{
        struct waiter *me = container_of(w, struct waiter, wait);
        assert_false(me->granted);
        me->granted = true;
        if (me->give_back)
                claims_unshare(me->claims, me->key);
}

static void test_sharers_keep_owners_out(void **state)
{
        CLEANUP(claims_freep) struct claims *c = claims_new();
        struct claim_wait w = { 0 };
        assert_true(claims_share(c, "a", &w));
        assert_true(claims_share(c, "a", &w));
        assert_false(claims_own(c, "a"));
        assert_true(claims_own(c, "b"));
        claims_unshare(c, "a");
        assert_false(claims_own(c, "a"));
        claims_unshare(c, "a");
        assert_true(claims_own(c, "a"));
        assert_false(claims_own(c, "a"));
        claims_disown(c, "a");
        claims_disown(c, "b");
        assert_int_equal(claims_count(c), 0);
}

static void test_sharers_wait_for_the_owner(void **state)
{
        CLEANUP(claims_freep) struct claims *c = claims_new();
        struct waiter w[3];
        assert_true(claims_own(c, "a"));
        for (size_t i = 0; i < ARRAY_LEN(w); i++) {
                w[i] = (struct waiter){
                        .wait.granted = on_granted, .claims = c, .key = "a", .give_back = i < 2
                };
                assert_false(claims_share(c, "a", &w[i].wait));
        }
        claims_disown(c, "a");
        for (size_t i = 0; i < ARRAY_LEN(w); i++)
                assert_true(w[i].granted);
        assert_false(claims_own(c, "a")); /* the third still holds it */
        claims_unshare(c, "a");
        assert_int_equal(claims_count(c), 0);
}

/* ---- uploads ---- */

struct drops {
        size_t n;
        int last_fd;
};

static void on_drop(void *userdata, struct blob_file *f)
{
        struct drops *d = userdata;
        d->n++;
        d->last_fd = f->fd;
}

static struct upload *begin(struct uploads *u, const char *tenant, uint64_t connection,
                            uint64_t now, int fd)
{
        struct upload *up;
        struct blob_file file = { .fd = fd };
        assert_int_equal(uploads_begin(u, tenant, connection, now, 0, &up), 0);
        assert_true(uploads_opened(u, up, &file));
        assert_int_equal(file.fd, -1);
        return up;
}

static void test_upload_is_used_once(void **state)
{
        struct drops drops = { 0 };
        struct uploads *u = uploads_new(4, on_drop, &drops);
        struct blob_file file;
        char id[UUID_MAX];
        struct upload *up = begin(u, "default", 1, 5, 100);
        strcpy(id, up->id);
        assert_int_equal(uploads_take(u, "other", id, &file), -ENOENT);
        assert_int_equal(uploads_take(u, "default", "nonsense", &file), -ENOENT);
        assert_int_equal(uploads_take(u, "default", id, &file), 0);
        assert_int_equal(file.fd, 100);
        assert_int_equal(uploads_take(u, "default", id, &file), -ENOENT);
        uploads_free(u);
        assert_int_equal(drops.n, 0);
}

static void test_uploads_are_bounded(void **state)
{
        struct drops drops = { 0 };
        struct uploads *u = uploads_new(2, on_drop, &drops);
        struct upload *up;
        begin(u, "default", 1, 5, 100);
        assert_int_equal(uploads_begin(u, "default", 1, 6, 1, &up), -EAGAIN);
        begin(u, "default", 1, 5, 101);
        assert_int_equal(uploads_begin(u, "default", 1, 6, 0, &up), -EAGAIN);
        uploads_free(u);
        assert_int_equal(drops.n, 2);
}

static void test_connection_takes_its_uploads_along(void **state)
{
        struct drops drops = { 0 };
        struct uploads *u = uploads_new(10, on_drop, &drops);
        begin(u, "default", 1, 5, 100);
        begin(u, "default", 2, 5, 200);
        begin(u, "default", 1, 5, 101);
        uploads_drop_connection(u, 1);
        assert_int_equal(drops.n, 2);
        assert_int_equal(uploads_count(u), 1);
        uploads_free(u);
        assert_int_equal(drops.last_fd, 200);
}

static void test_gone_while_opening(void **state)
{
        struct drops drops = { 0 };
        struct uploads *u = uploads_new(10, on_drop, &drops);
        struct upload *a, *b;
        struct blob_file file = { .fd = 100 };
        assert_int_equal(uploads_begin(u, "default", 1, 5, 0, &a), 0);
        assert_int_equal(uploads_take(u, "default", a->id, &file), -ENOENT);
        uploads_drop_connection(u, 1);
        assert_int_equal(uploads_count(u), 0);
        assert_int_equal(drops.n, 0);
        assert_false(uploads_opened(u, a, &file));
        assert_int_equal(drops.n, 1);
        assert_int_equal(drops.last_fd, 100);

        assert_int_equal(uploads_begin(u, "default", 1, 5, 0, &b), 0);
        assert_false(uploads_opened(u, b, NULL));
        assert_int_equal(uploads_count(u), 0);
        uploads_free(u);
}

static void test_drop_by_its_connection_only(void **state)
{
        struct drops drops = { 0 };
        struct uploads *u = uploads_new(10, on_drop, &drops);
        struct upload *up = begin(u, "default", 7, 5, 100);
        assert_int_equal(uploads_drop(u, up->id, 8), -ENOENT);
        assert_int_equal(uploads_drop(u, up->id, 7), 0);
        assert_int_equal(drops.n, 1);
        uploads_free(u);
}

static void test_expiry(void **state)
{
        struct drops drops = { 0 };
        struct uploads *u = uploads_new(10, on_drop, &drops);
        begin(u, "default", 1, 10, 100);
        begin(u, "default", 1, 20, 101);
        assert_int_equal(uploads_expire(u, 10), 10);
        assert_int_equal(uploads_expire(u, 11), 20);
        assert_int_equal(drops.n, 1);
        assert_true(uploads_expire(u, 100) == UINT64_MAX);
        assert_int_equal(uploads_count(u), 0);
        uploads_free(u);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_sharers_keep_owners_out),
                cmocka_unit_test(test_sharers_wait_for_the_owner),
                cmocka_unit_test(test_upload_is_used_once),
                cmocka_unit_test(test_uploads_are_bounded),
                cmocka_unit_test(test_connection_takes_its_uploads_along),
                cmocka_unit_test(test_gone_while_opening),
                cmocka_unit_test(test_drop_by_its_connection_only),
                cmocka_unit_test(test_expiry),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
