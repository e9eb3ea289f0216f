/* What slots of the kind vm need of the host, without one: KVM that is not there, is something else
 * or hangs; parts that are missing; templates, which one makes and all read. */
#include "fixture.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include "workerd/machine.h"

static char *at(const char *name)
{
        return xasprintf("%s/%s", fixture_state_dir(), name);
}

static void make_file(const char *path, const char *text)
{
        cleanup_close int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0755);
        assert_true(fd >= 0);
        assert_int_equal(write(fd, text, strlen(text)), (ssize_t) strlen(text));
}

/* --- KVM -------------------------------------------------------------------------------------- */

static void test_no_kvm(void **state)
{
        cleanup_free char *path = at("device");
        char why[120];
        assert_false(machine_probe_kvm(path, NULL, why, sizeof(why)));
        assert_string_equal(why, "there is no /dev/kvm");
        make_file(path, "");
        assert_false(machine_probe_kvm(path, NULL, why, sizeof(why)));
        assert_string_equal(why, "KVM has another version");
        assert_int_equal(unlink(path), 0);
}

/* It can be there and never answer. What opens a file with a lease waits for its holder. */
static void test_kvm_that_hangs(void **state)
{
        cleanup_free char *path = at("device");
        char why[120];
        (void) signal(SIGIO, SIG_IGN);
        make_file(path, "");
        cleanup_close int fd = open(path, O_RDWR | O_CLOEXEC);
        assert_int_equal(fcntl(fd, F_SETLEASE, F_WRLCK), 0);
        assert_false(machine_probe_kvm(path, NULL, why, sizeof(why)));
        assert_string_equal(why, "KVM hangs");
        assert_int_equal(fcntl(fd, F_SETLEASE, F_UNLCK), 0);
        assert_true(processes_settle(0));
        assert_int_equal(unlink(path), 0);
}

/* --- the parts -------------------------------------------------------------------------------- */

struct host {
        char *image, *qemu, *preload, *templates, *helper;
        struct machine_config config;
};

static int make_host(void **state)
{
        static const char *const parts[] = { "vmlinuz", "initrd", "root.squashfs" };
        struct host *h = xnew(struct host);
        h->image = at("vm-0123456789ab");
        h->qemu = at("qemu");
        h->preload = at("preload.so");
        h->templates = at("templates");
        h->helper = at("helper");
        (void) mkdir(h->image, 0755);
        (void) mkdir(h->templates, 0755);
        for (size_t i = 0; i < ARRAY_LEN(parts); i++) {
                cleanup_free char *path = xasprintf("%s/%s", h->image, parts[i]);
                make_file(path, parts[i]);
        }
        make_file(h->qemu, "#!/bin/sh\necho QEMU emulator version 7.2\n");
        make_file(h->preload, "");
        make_file(h->helper, "helper");
        h->config = (struct machine_config){ .image_dir = h->image,
                                             .qemu = h->qemu,
                                             .preload = h->preload,
                                             .templates = h->templates,
                                             .helper = h->helper,
                                             .memory_bytes = 4 * MIB,
                                             .width = 1280,
                                             .height = 800 };
        *state = h;
        return 0;
}

static int drop_host(void **state)
{
        struct host *h = *state;
        free(h->image);
        free(h->qemu);
        free(h->preload);
        free(h->templates);
        free(h->helper);
        free(h);
        return 0;
}

static struct machine *make_machine(const struct host *h)
{
        struct machine *m = NULL;
        cleanup_free char *why = NULL;
        assert_int_equal(machine_new(&h->config, &m, &why), 0);
        return m;
}

/* Every part that is missing is named, with what to do. */
static void test_missing(void **state)
{
        struct host *h = *state;
        cleanup_free char *disk = xasprintf("%s/root.squashfs", h->image);
        const struct {
                const char *path, *says;
        } parts[] = {
                { disk, "berthctl image build vm" },
                { h->qemu, "apt-get install qemu-system-x86" },
                { h->preload, "preload.so" },
        };
        for (size_t i = 0; i < ARRAY_LEN(parts); i++) {
                struct machine *m = NULL;
                cleanup_free char *why = NULL, *kept = xasprintf("%s.kept", parts[i].path);
                assert_int_equal(rename(parts[i].path, kept), 0);
                assert_int_equal(machine_new(&h->config, &m, &why), -ENOENT);
                assert_non_null(strstr(why, parts[i].says));
                assert_int_equal(rename(kept, parts[i].path), 0);
        }
        struct machine *m = NULL;
        cleanup_free char *why = NULL;
        assert_int_equal(chmod(h->templates, 0500), 0);
        assert_int_equal(machine_new(&h->config, &m, &why), -EACCES);
        assert_non_null(strstr(why, "templates"));
        assert_int_equal(chmod(h->templates, 0755), 0);
}

/* Whatever a machine's memory depends on is part of its template's name. */
static void test_key(void **state)
{
        struct host *h = *state;
        CLEANUP(machine_freep) struct machine *m = make_machine(h), *same = make_machine(h);
        assert_false(m->kvm);
        assert_string_equal(m->kvm_why, "vm_kvm is off");
        assert_string_equal(m->key, same->key);
        assert_true(str_starts(m->key, "vm-0123456789ab-"));
        make_file(h->helper, "another helper");
        CLEANUP(machine_freep) struct machine *helper = make_machine(h);
        assert_string_not_equal(m->key, helper->key);
        make_file(h->qemu, "#!/bin/sh\necho QEMU emulator version 8.0\n");
        CLEANUP(machine_freep) struct machine *qemu = make_machine(h);
        assert_string_not_equal(helper->key, qemu->key);
        h->config.memory_bytes = 8 * MIB;
        CLEANUP(machine_freep) struct machine *memory = make_machine(h);
        assert_string_not_equal(qemu->key, memory->key);
        h->config.width = 1024;
        CLEANUP(machine_freep) struct machine *size = make_machine(h);
        assert_string_not_equal(memory->key, size->key);
}

/* --- templates -------------------------------------------------------------------------------- */

static void test_template(void **state)
{
        CLEANUP(machine_freep) struct machine *m = make_machine(*state);
        struct machine_draft first = MACHINE_DRAFT_NONE, second = MACHINE_DRAFT_NONE;
        struct stat st;
        int ram = -1, devices = -1;
        assert_int_equal(machine_open_template(m, &ram, &devices), -ENOENT);
        assert_int_equal(machine_draft_begin(m, &first), 0);
        assert_int_equal(machine_draft_begin(m, &second), -EAGAIN); /* somebody makes it */
        assert_false(machine_has_template(m));
        machine_draft_done(&first); /* and gives up, as one that is killed does */
        assert_int_equal(machine_open_template(m, &ram, &devices), -ENOENT);
        assert_int_equal(machine_draft_begin(m, &second), 0);
        assert_int_equal(write(second.ram, "memory", 6), 6);
        assert_int_equal(write(second.state, "state", 5), 5);
        assert_int_equal(machine_draft_finish(m, &second), 0);
        assert_true(machine_has_template(m));
        assert_int_equal(machine_draft_begin(m, &first), -EAGAIN); /* it is there: to be opened */
        assert_int_equal(machine_open_template(m, &ram, &devices), 0);
        assert_int_equal(fstat(ram, &st), 0);
        assert_int_equal(st.st_size, m->memory_bytes);
        assert_int_equal(st.st_mode & 0777, 0444);
        assert_int_equal(write(ram, "x", 1), -1); /* no copy can change what all are copies of */
        assert_int_equal(fstat(devices, &st), 0);
        assert_int_equal(st.st_mode & 0777, 0444);
        fd_close(ram);
        fd_close(devices);
}

int main(void)
{
        fixture_begin(false);
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_no_kvm),
                cmocka_unit_test(test_kvm_that_hangs),
                cmocka_unit_test_setup_teardown(test_missing, make_host, drop_host),
                cmocka_unit_test_setup_teardown(test_key, make_host, drop_host),
                cmocka_unit_test_setup_teardown(test_template, make_host, drop_host),
        };
        int r = cmocka_run_group_tests(tests, NULL, NULL);
        fixture_finish();
        return r;
}
