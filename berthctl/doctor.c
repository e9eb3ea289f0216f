/* What is wrong on this host and how to mend it: one line per check. */
#include "ctl.h"

#include <sys/statvfs.h>
#include <unistd.h>

enum verdict { GOOD, NOTE, BAD };

struct doctor {
        struct ctl *c;
        json_t *checks;
        int bad;
};

static void tell(struct doctor *d, enum verdict v, const char *what, const char *remedy)
{
        static const char *const names[] = { "ok", "note", "wrong" };
        static const char *const colours[] = { "32", "33", "31" };

        d->bad |= v == BAD;
        (void) json_array_append_new(d->checks,
                                     json_pack("{s:s, s:s, s:s?}", "result", names[v], "check",
                                               what, "remedy", v == GOOD ? NULL : remedy));
        if (d->c->json)
                return;
        if (d->c->colour)
                printf("\033[%sm%-5s\033[0m %s\n", colours[v], names[v], what);
        else
                printf("%-5s %s\n", names[v], what);
        if (v != GOOD)
                printf("      -> %s\n", remedy);
}

static void check(struct doctor *d, bool good, const char *what, const char *remedy)
{
        tell(d, good ? GOOD : BAD, what, remedy);
}

static bool number_is_zero(const char *path)
{
        cleanup_fclose FILE *f = fopen(path, "re");
        char text[32];

        return f && fgets(text, sizeof(text), f) && streq(strstrip(text), "0");
}

static bool number_is_one(const char *path)
{
        cleanup_fclose FILE *f = fopen(path, "re");
        char text[32];

        return f && fgets(text, sizeof(text), f) && streq(strstrip(text), "1");
}

static void check_units(struct doctor *d)
{
        static const char *const units[] = {
                "postgresql.service",    "berth-coordinatord.service", "berth-docserverd.service",
                "berth-gatewayd.socket", "berth-gatewayd.service",     "berth-workerd@1.service"
        };

        if (access("/run/systemd/system", F_OK) < 0) {
                tell(d, NOTE, "systemd does not run here", "units cannot be looked at");
                return;
        }
        for (size_t i = 0; i < ARRAY_LEN(units); i++) {
                const char *const argv[] = { "systemctl", "is-active", "-q", units[i], NULL };
                cleanup_free char *what = xasprintf("unit %s is active", units[i]);
                cleanup_free char *remedy = xasprintf("systemctl status %s; journalctl -u %s -n 30",
                                                      units[i], units[i]);
                check(d, run_program(argv, NULL, true) == 0, what, remedy);
        }
}

static void check_api(struct doctor *d)
{
        cleanup_json json_t *ready = NULL, *status = NULL, *health = NULL;
        const json_t *one;
        long code = 0;
        size_t i;

        if (ctl_try(d->c, "/health", &code, &health) < 0) {
                cleanup_free char *what = xasprintf("%s answers", d->c->url);
                check(d, false, what, "systemctl start berth.target, or set BERTH_URL");
                return;
        }
        tell(d, GOOD, "the gateway answers", NULL);
        (void) !ctl_try(d->c, "/ready", &code, &ready);
        check(d, json_is_true(json_object_get(ready, "database")), "the database answers",
              "systemctl restart postgresql; then journalctl -u berth-gatewayd");
        check(d, json_is_true(json_object_get(ready, "coordinator")), "the coordinator is linked",
              "systemctl restart berth-coordinatord; journalctl -u berth-coordinatord");
        check(d, json_is_true(json_object_get(ready, "documents")), "the document store is linked",
              "systemctl restart berth-docserverd; journalctl -u berth-docserverd");
        check(d, json_integer_value(json_object_get(ready, "workers")) > 0,
              "at least one worker can take a session",
              "berthctl image list; systemctl enable --now berth-workerd@1; journalctl -u "
              "'berth-workerd@*'");
        if (ctl_try(d->c, "/status", &code, &status) < 0) {
                check(d, false, "the token is accepted",
                      "run as root, or put BERTH_TOKEN= into ~/.config/berth/berth.env");
                return;
        }
        json_array_foreach (json_object_get(status, "daemons"), i, one) {
                const char *version = show_member(one, "version");
                cleanup_free char *what = xasprintf("%s runs version %s", show_member(one, "name"),
                                                    *version ? version : "(unknown)");
                if (*version && !streq(version, BERTH_VERSION))
                        tell(d, NOTE, what,
                             "installed is " BERTH_VERSION
                             ": restart that unit when its session is done");
        }
}

static void check_slots(struct doctor *d)
{
        const char *const as_root[] = { "setpriv",
                                        "--reuid=65534",
                                        "--regid=65534",
                                        "--clear-groups",
                                        "bwrap",
                                        "--unshare-all",
                                        "--ro-bind",
                                        "/",
                                        "/",
                                        "--proc",
                                        "/proc",
                                        "--dev",
                                        "/dev",
                                        "true",
                                        NULL };

        check(d, !number_is_zero("/proc/sys/user/max_user_namespaces"),
              "user namespaces are allowed", "sysctl user.max_user_namespaces=10000");
        check(d, !number_is_zero("/proc/sys/kernel/unprivileged_userns_clone"),
              "user namespaces are allowed to everybody",
              "sysctl kernel.unprivileged_userns_clone=1");
        check(d, !number_is_one("/proc/sys/kernel/apparmor_restrict_unprivileged_userns"),
              "AppArmor lets programs make user namespaces",
              "sysctl kernel.apparmor_restrict_unprivileged_userns=0, or give bwrap a profile");
        check(d, run_program(geteuid() == 0 ? as_root : as_root + 4, NULL, true) == 0,
              "bubblewrap makes a sandbox", "apt-get install bubblewrap; then the checks above");
        check(d, access("/var/lib/berth/images/desktop/usr", F_OK) == 0, "there is a slot image",
              "berthctl image build desktop (as root; some minutes)");
        if (geteuid() == 0 && access("/etc/berth", F_OK) == 0 &&
            access("/etc/berth/credentials/anthropic-key", F_OK) < 0)
                tell(d, NOTE, "no model key is set",
                     "install -m 600 KEYFILE /etc/berth/credentials/anthropic-key; systemctl "
                     "restart 'berth-workerd@*'; or set anthropic_url to a local model");
}

static void check_disk(struct doctor *d, const char *path)
{
        struct statvfs s;

        if (statvfs(path, &s) < 0)
                return;
        uint64_t free_bytes = (uint64_t) s.f_bavail * s.f_frsize;
        cleanup_free char *what =
                xasprintf("%s has %" PRIu64 " GiB free, %.0f %% of its inodes", path,
                          (uint64_t) (free_bytes / GIB),
                          s.f_files ? 100.0 * (double) s.f_favail / (double) s.f_files : 100.0);
        bool low = free_bytes < 2 * GIB || (s.f_files && s.f_favail < s.f_files / 50);
        check(d, !low, what, "free some space: old images, finished sessions, old backups");
}

int cmd_doctor(struct ctl *c, int argc, char **argv)
{
        cleanup_json json_t *checks = json_array();
        struct doctor d = { .c = c, .checks = checks };

        if (argc > 0) {
                fprintf(stderr, "usage: berthctl doctor\n");
                return 2;
        }
        check_units(&d);
        check_api(&d);
        check_slots(&d);
        check_disk(&d, "/var/lib");
        check_disk(&d, "/tmp");
        if (c->json)
                show_json(checks);
        return d.bad;
}
