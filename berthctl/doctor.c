/* What is wrong on this host and how to mend it: one line per check. */
#include "ctl.h"

#include <dirent.h>
#include <glob.h>
#include <pwd.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/timex.h>
#include <time.h>
#include <unistd.h>

#define IMAGES "/var/lib/berth/images"
#define IMAGE_OLD_DAYS 60

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

/* What a daemon says of itself in one line; "" = nothing, or systemd does not run here. */
static char *status_of(const char *unit)
{
        const char *const argv[] = { "systemctl", "show", "--property=StatusText",
                                     "--value",   unit,   NULL };
        cleanup_buf struct buf text = BUF_INIT;

        if (access("/run/systemd/system", F_OK) < 0 || run_program(argv, &text, true) != 0)
                return xstrdup("");
        char *line = buf_take(&text, NULL);
        line[strcspn(line, "\n")] = '\0';
        return line;
}

/* The configuration may name a database of another host. */
static bool database_is_elsewhere(void)
{
        cleanup_fclose FILE *f = fopen(BERTH_CONFDIR "/coordinatord.conf", "re");
        char line[1024];

        while (f && fgets(line, sizeof(line), f))
                if (str_starts(line, "database ") && strstr(line, "host=") &&
                    !strstr(line, "host=/"))
                        return true;
        return false;
}

static void check_units(struct doctor *d)
{
        static const char *const units[] = {
                "postgresql.service",    "berth-coordinatord.service", "berth-docserverd.service",
                "berth-gatewayd.socket", "berth-gatewayd.service",     "berth-workerd@1.service"
        };
        bool elsewhere = database_is_elsewhere();

        if (access("/run/systemd/system", F_OK) < 0) {
                tell(d, NOTE, "systemd does not run here", "units cannot be looked at");
                return;
        }
        for (size_t i = elsewhere ? 1 : 0; i < ARRAY_LEN(units); i++) {
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
        cleanup_free char *says = status_of("berth-coordinatord.service");
        cleanup_free char *linked = xasprintf("the coordinator is linked%s%s%s",
                                              *says ? " (it says: " : "", says, *says ? ")" : "");
        check(d, json_is_true(json_object_get(ready, "coordinator")), linked,
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

static void check_database_server(struct doctor *d)
{
        glob_t found = { 0 };

        if (database_is_elsewhere())
                return;
        bool there = glob("/usr/lib/postgresql/*/bin/postgres", 0, NULL, &found) == 0;
        globfree(&found);
        check(d, there, "PostgreSQL is installed",
              "apt-get install postgresql; then " BERTH_LIBDIR "/setup-database");
}

/* A file that others may change is no configuration; one that the daemons cannot read is none
 * either; keys are root's alone. */
static void check_file(struct doctor *d, const char *path, bool secret)
{
        struct stat st;

        if (stat(path, &st) < 0)
                return;
        mode_t open_to = st.st_mode & (secret ? 0077 : 0022);
        bool readable = secret || (st.st_mode & (S_ISDIR(st.st_mode) ? 0005 : 0044)) != 0;
        if (st.st_uid == 0 && !open_to && readable) {
                tell(d, GOOD, path, NULL);
                return;
        }
        cleanup_free char *what = xasprintf("%s: %s (mode %04o)", path,
                                            st.st_uid != 0 ? "does not belong to root"
                                            : !readable    ? "the daemons cannot read it"
                                            : secret       ? "others than root may come to it"
                                                           : "others than root may write to it",
                                            (unsigned) (st.st_mode & 07777));
        cleanup_free char *remedy =
                xasprintf("chown root %s; chmod %s %s", path, secret ? "go=" : "u=rwX,go=rX", path);
        tell(d, BAD, what, remedy);
}

/* A password of the database: libpq takes no notice of one that others may read, and nobody but
 * the daemon itself must. */
static void check_passfile(struct doctor *d, const char *path, const char *daemon)
{
        cleanup_free char *account = xasprintf("berth_%s", daemon);
        const struct passwd *user = getpwnam(account);
        struct stat st;

        if (stat(path, &st) < 0)
                return;
        bool right = user && st.st_uid == user->pw_uid && !(st.st_mode & 0077);
        cleanup_free char *what = xasprintf("%s is %s's alone", path, account);
        cleanup_free char *remedy = xasprintf("chown %s %s; chmod 400 %s", account, path, path);
        check(d, right, what, remedy);
}

static void check_folder(struct doctor *d, const char *path, bool secret)
{
        struct dirent **names = NULL;
        int n = scandir(path, &names, NULL, alphasort);

        check_file(d, path, secret);
        for (int i = 0; i < n; i++) {
                cleanup_free char *name = xasprintf("%s/%s", path, names[i]->d_name);
                if (str_starts(names[i]->d_name, "pgpass-"))
                        check_passfile(d, name, names[i]->d_name + strlen("pgpass-"));
                else if (names[i]->d_name[0] != '.' && !streq(names[i]->d_name, "credentials"))
                        check_file(d, name, secret);
                free(names[i]);
        }
        free(names);
}

static void check_rights(struct doctor *d)
{
        if (access(BERTH_CONFDIR, F_OK) < 0)
                return;
        check_folder(d, BERTH_CONFDIR, false);
        if (geteuid() == 0)
                check_folder(d, BERTH_CONFDIR "/credentials", true);
}

static void check_clock(struct doctor *d)
{
        struct timex t = { .modes = 0 };
        struct stat st;
        int state = adjtimex(&t);

        /* Nothing of this installation is from the future. */
        bool past = stat("/proc/self/exe", &st) == 0 && st.st_mtime > time(NULL) + 24L * 3600;
        check(d, !past, "the clock is not behind what is installed",
              "set it: apt-get install systemd-timesyncd; timedatectl set-ntp true");
        if (state < 0 || past)
                return;
        tell(d, state == TIME_ERROR ? NOTE : GOOD,
             state == TIME_ERROR ? "nothing keeps the clock right" : "the clock is kept right",
             "apt-get install systemd-timesyncd; timedatectl set-ntp true");
}

/* What apt on this host would replace for security's sake, were the image its own system: number,
 * and their names as far as they fit. Negative: nobody can say (another suite, no apt). */
static int missing_updates(const char *image, const json_t *facts, char *names, size_t size)
{
        cleanup_free char *status =
                xasprintf("Dir::State::status=" IMAGES "/%s/var/lib/dpkg/status", image);
        const char *const apt[] = { "apt-get",
                                    "-o",
                                    status,
                                    "-o",
                                    "Dir::Cache::pkgcache=",
                                    "-o",
                                    "Dir::Cache::srcpkgcache=",
                                    "-o",
                                    "Debug::NoLocking=1",
                                    "-qq",
                                    "-s",
                                    "dist-upgrade",
                                    NULL };
        const char *const suite[] = { "sh", "-c", ". /etc/os-release; echo $VERSION_CODENAME",
                                      NULL };
        cleanup_buf struct buf ours = BUF_INIT, out = BUF_INIT;
        char *save = NULL, name[64];
        int n = 0;

        names[0] = '\0';
        if (access(strchr(status, '/'), R_OK) < 0 || run_program(suite, &ours, true) != 0 ||
            !buf_pending(&ours) || !streq(strstrip(ours.data), show_member(facts, "suite")) ||
            run_program(apt, &out, true) != 0)
                return -1;
        for (char *line = buf_pending(&out) ? strtok_r(out.data, "\n", &save) : NULL; line;
             line = strtok_r(NULL, "\n", &save)) {
                if (!strstr(line, "-Security:") || sscanf(line, "Inst %63s", name) != 1)
                        continue;
                size_t at = strlen(names);
                if (at + strlen(name) + 8 < size)
                        (void) snprintf(names + at, size - at, "%s%s", n ? ", " : "", name);
                else if (!str_ends(names, "..."))
                        (void) snprintf(names + at, size - at, ", ...");
                n++;
        }
        return n;
}

static void check_image_age(struct doctor *d, const char *name)
{
        struct tm built = { 0 };
        char target[256] = "", names[128];
        cleanup_free char *link = xasprintf(IMAGES "/%s", name);
        ssize_t n = readlink(link, target, sizeof(target) - 1);

        cleanup_free char *path = xasprintf(IMAGES "/%s.json", target);
        cleanup_json json_t *facts = n > 0 ? json_load_file(path, 0, NULL) : NULL;
        if (!strptime(show_member(facts, "built_at"), "%Y-%m-%dT%H:%M:%SZ", &built))
                return;
        long days = (long) ((time(NULL) - timegm(&built)) / (24L * 3600));
        int missing = missing_updates(target, facts, names, sizeof(names));
        cleanup_free char *lacks = missing > 0 ? xasprintf(" and lacks %d security update%s (%s)",
                                                           missing, missing > 1 ? "s" : "", names)
                                               : xstrdup("");
        cleanup_free char *what =
                xasprintf("the slot image %s is %ld days old%s", target, days, lacks);
        cleanup_free char *remedy =
                xasprintf("its packages have had updates since: mv " IMAGES "/%s{,.old}; berthctl "
                          "image build %s; restart the workers, then remove the old one",
                          target, name);
        tell(d, days > IMAGE_OLD_DAYS || missing > 0 ? NOTE : GOOD, what, remedy);
}

/* Each name that stands for an image. */
static void check_images(struct doctor *d)
{
        struct dirent **names = NULL;

        check(d, access(IMAGES "/desktop/usr", F_OK) == 0, "there is a slot image",
              "berthctl image build desktop (as root; some minutes)");
        int n = scandir(IMAGES, &names, NULL, alphasort);
        for (int i = 0; i < n; i++) {
                if (names[i]->d_type == DT_LNK)
                        check_image_age(d, names[i]->d_name);
                free(names[i]);
        }
        free(names);
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
        check_images(d);
        bool kvm = access("/dev/kvm", F_OK) == 0;
        tell(d, kvm ? GOOD : NOTE, kvm ? "there is KVM" : "there is no KVM",
             "only slots that are machines want it, and are some ten times slower without: enable "
             "virtualization in the firmware, or nested virtualization of the host above");
        if (geteuid() == 0 && access(BERTH_CONFDIR, F_OK) == 0 &&
            access(BERTH_CONFDIR "/credentials/anthropic-key", F_OK) < 0)
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

static bool lies_elsewhere(const char *path, const char *folder)
{
        struct stat a, b;

        return stat(path, &a) == 0 && stat(folder, &b) == 0 && a.st_dev != b.st_dev;
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
        check_database_server(&d);
        check_api(&d);
        check_rights(&d);
        check_clock(&d);
        check_slots(&d);
        check_disk(&d, "/var/lib");
        if (lies_elsewhere("/var/lib/postgresql", "/var/lib"))
                check_disk(&d, "/var/lib/postgresql");
        check_disk(&d, "/tmp");
        if (c->json)
                show_json(checks);
        return d.bad;
}
