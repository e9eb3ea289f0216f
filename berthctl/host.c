/* What needs this host instead of the API: images, configuration, backup and restore. */
#include "ctl.h"

#include <dirent.h>
#include <fcntl.h>
#include <spawn.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define IMAGES "/var/lib/berth/images"
#define BLOBS "/var/lib/berth-docserverd"
#define OUTPUT_MAX (64 * KIB)
#define DUMP "runuser -u postgres -- pg_dump -Fc berth >\"$1\""
#define LOAD                                                                                       \
        "runuser -u postgres -- pg_restore --clean --if-exists --exit-on-error -d berth <\"$1\""
#define BUILD_IMAGE BERTH_DATADIR "/images/build"
#define SETUP_DATABASE BERTH_LIBDIR "/setup-database"

static const char every_blob[] = BLOBS "/.", every_setting[] = BERTH_CONFDIR "/.";

static int wait_for(pid_t pid)
{
        int status;

        while (waitpid(pid, &status, 0) < 0) {
                if (errno != EINTR)
                        return -1;
        }
        return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

int run_program(const char *const *argv, struct buf *out, bool quiet)
{
        posix_spawn_file_actions_t actions;
        int pipes[2] = { -1, -1 };
        pid_t pid;
        char text[4096];

        if (out && pipe2(pipes, O_CLOEXEC) < 0)
                return -1;
        (void) posix_spawn_file_actions_init(&actions);
        if (out)
                (void) posix_spawn_file_actions_adddup2(&actions, pipes[1], STDOUT_FILENO);
        if (quiet)
                (void) posix_spawn_file_actions_addopen(&actions, STDERR_FILENO, "/dev/null",
                                                        O_WRONLY, 0);
        int r = posix_spawnp(&pid, argv[0], &actions, NULL, (char *const *) argv, environ);
        (void) posix_spawn_file_actions_destroy(&actions);
        (void) fd_close(pipes[1]);
        if (r != 0) {
                if (!quiet)
                        fprintf(stderr, "berthctl: cannot run %s: %s\n", argv[0], strerror(r));
                (void) fd_close(pipes[0]);
                return -1;
        }
        for (ssize_t n; out && (n = read(pipes[0], text, sizeof(text))) > 0;) {
                if (buf_pending(out) + (size_t) n <= OUTPUT_MAX)
                        buf_put(out, text, (size_t) n);
        }
        (void) fd_close(pipes[0]);
        return wait_for(pid);
}

static bool need_root(const char *what)
{
        if (geteuid() == 0)
                return true;
        fprintf(stderr, "berthctl: %s needs root\n", what);
        return false;
}

/* ---- images ---- */

/* What images/build wrote beside the image: suite, built_at, size_bytes, packages. */
static json_t *image_facts(const char *name)
{
        cleanup_free char *path = xasprintf(IMAGES "/%s.json", name);
        json_t *facts = json_load_file(path, 0, NULL);

        if (!json_is_object(facts)) {
                json_decref(facts);
                facts = json_object();
        }
        json_int_t bytes = json_integer_value(json_object_get(facts, "size_bytes"));
        cleanup_free char *size = xasprintf("%" JSON_INTEGER_FORMAT " MiB", bytes >> 20);
        (void) json_object_set_new(facts, "size", json_string(bytes > 0 ? size : ""));
        return facts;
}

static int image_list(struct ctl *c)
{
        cleanup_json json_t *all = json_array();
        static const char *const columns[] = { "IMAGE:name",  "IN USE AS:current",
                                               "SUITE:suite", "BUILT:built_at",
                                               "SIZE:size",   "PACKAGES:packages",
                                               NULL };
        char target[256] = "";
        ssize_t n = readlink(IMAGES "/desktop", target, sizeof(target) - 1);
        DIR *d = opendir(IMAGES);

        for (struct dirent *e; d && (e = readdir(d));) {
                if (e->d_name[0] == '.' || e->d_type != DT_DIR)
                        continue;
                json_t *one = image_facts(e->d_name);
                (void) json_object_set_new(one, "name", json_string(e->d_name));
                (void) json_object_set_new(
                        one, "current",
                        json_string(n > 0 && streq(target, e->d_name) ? "desktop" : ""));
                (void) json_array_append_new(all, one);
        }
        if (d)
                (void) closedir(d);
        if (c->json)
                show_json(all);
        else
                show_table(all, columns);
        return 0;
}

/* Builds, points the link at the result in one step, and starts the workers that waited for it. */
static int image_build(const char *name)
{
        cleanup_free char *link = xasprintf(IMAGES "/%s", name);
        cleanup_free char *fresh = xasprintf(IMAGES "/.%s.new", name);
        const char *const argv[] = { BUILD_IMAGE, name, IMAGES, NULL };
        const char *const start[] = { "systemctl",    "start",
                                      "berth.target", "berth-workerd@*.service",
                                      "--all",        NULL };
        cleanup_buf struct buf out = BUF_INIT;

        if (!need_root("image build"))
                return 1;
        if (strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789-") != strlen(name)) {
                fprintf(stderr, "berthctl: an image's name has small letters, digits and -\n");
                return 2;
        }
        (void) mkdir(IMAGES, 0755);
        if (run_program(argv, &out, false) != 0 || !buf_pending(&out)) {
                fprintf(stderr, "berthctl: the image was not built; see the lines above\n");
                return 1;
        }
        char *last = strstrip(out.data), *folder = strrchr(last, '/');
        if (!folder || strchr(folder, '\n')) {
                fprintf(stderr, "berthctl: the build did not say where the image is\n");
                return 1;
        }
        (void) unlink(fresh);
        if (symlink(folder + 1, fresh) < 0 || rename(fresh, link) < 0) {
                fprintf(stderr, "berthctl: cannot set %s: %s\n", link, strerror(errno));
                return 1;
        }
        printf("%s\n", last);
        (void) run_program(start, NULL, true);
        return 0;
}

int cmd_image(struct ctl *c, int argc, char **argv)
{
        if (argc == 1 && streq(argv[0], "list"))
                return image_list(c);
        if (argc >= 1 && argc <= 2 && streq(argv[0], "build"))
                return image_build(argc > 1 ? argv[1] : "desktop");
        fprintf(stderr, "usage: berthctl image list | build [NAME]\n");
        return 2;
}

/* ---- configuration ---- */

int cmd_config(struct ctl *c, int argc, char **argv)
{
        static const char *const daemons[] = { "coordinatord", "docserverd", "gatewayd",
                                               "workerd" };
        int bad = 0;

        if (argc < 1 || argc > 2 || !streq(argv[0], "check")) {
                fprintf(stderr, "usage: berthctl config check [FOLDER]\n");
                return 2;
        }
        for (size_t i = 0; i < ARRAY_LEN(daemons); i++) {
                cleanup_free char *program = xasprintf("%s/%s", BERTH_LIBDIR, daemons[i]);
                cleanup_free char *file =
                        xasprintf("%s/%s.conf", argc > 1 ? argv[1] : BERTH_CONFDIR, daemons[i]);
                /* What the units add. */
                bool worker = streq(daemons[i], "workerd");
                const char *const check[] = {
                        program,       "--config", file, "--check-config", worker ? "--set" : NULL,
                        "worker_id=1", NULL
                };
                cleanup_buf struct buf out = BUF_INIT;
                /* A stand-in for the credential that only the unit has. */
                if (worker)
                        (void) setenv("CREDENTIALS_DIRECTORY", BERTH_DATADIR "/no-credentials", 1);
                int r = run_program(check, &out, false);
                printf("%-14s %s\n", daemons[i], r == 0 ? "ok" : "not valid");
                bad |= r != 0;
        }
        return bad;
}

/* ---- backup and restore ---- */

static int step(const char *const *argv, const char *what)
{
        if (run_program(argv, NULL, false) == 0)
                return 0;
        fprintf(stderr, "berthctl: %s failed\n", what);
        return -EIO;
}

/* Documents' bytes never change and are named by their hash: copied before and after the dump, all
 * that the dump names are there, whatever is stored or deleted meanwhile. */
static int copy_blobs(const char *blobs)
{
        const char *const argv[] = { "cp", "-an", "--reflink=auto", every_blob, blobs, NULL };
        return step(argv, "copying the documents");
}

int cmd_backup(struct ctl *c, int argc, char **argv)
{
        if (argc != 1) {
                fprintf(stderr, "usage: berthctl backup DIR\n");
                return 2;
        }
        if (!need_root("backup"))
                return 1;
        cleanup_free char *blobs = xasprintf("%s/documents", argv[0]);
        cleanup_free char *dump = xasprintf("%s/database.dump", argv[0]);
        cleanup_free char *etc = xasprintf("%s/etc", argv[0]);
        const char *const config[] = { "cp", "-a", every_setting, etc, NULL };
        if (mkdir(argv[0], 0700) < 0 || mkdir(blobs, 0700) < 0 || mkdir(etc, 0700) < 0) {
                fprintf(stderr, "berthctl: %s: %s; give a folder that does not exist yet\n",
                        argv[0], strerror(errno));
                return 1;
        }
        /* PostgreSQL's account may not enter the folder: the shell that opens the file is ours. */
        const char *const pg[] = { "sh", "-c", DUMP, "sh", dump, NULL };
        if (copy_blobs(blobs) < 0 || step(pg, "pg_dump") < 0 || copy_blobs(blobs) < 0 ||
            step(config, "copying the configuration") < 0)
                return 1;
        printf("%s\n", argv[0]);
        return 0;
}

int cmd_restore(struct ctl *c, int argc, char **argv)
{
        if (argc != 1 || !c->yes) {
                fprintf(stderr, "usage: berthctl restore DIR --yes   (replaces the database and "
                                "adds the documents)\n");
                return 2;
        }
        if (!need_root("restore"))
                return 1;
        cleanup_free char *blobs = xasprintf("%s/documents/.", argv[0]);
        cleanup_free char *dump = xasprintf("%s/database.dump", argv[0]);
        const char *const stop[] = { "systemctl",
                                     "stop",
                                     "berth.target",
                                     "berth-gatewayd.service",
                                     "berth-coordinatord.service",
                                     "berth-docserverd.service",
                                     "berth-workerd@*.service",
                                     NULL };
        const char *const start[] = { "systemctl", "start", "berth.target", NULL };
        const char *const drop[] = { "runuser",     "-u",      "postgres", "--", "dropdb",
                                     "--if-exists", "--force", "berth",    NULL };
        const char *const setup[] = { SETUP_DATABASE, NULL };
        const char *const pg[] = { "sh", "-c", LOAD, "sh", dump, NULL };
        const char *const copy[] = { "cp", "-an", blobs, BLOBS, NULL };
        const char *const own[] = { "chown", "-R", "berth_docserverd:berth-worker", BLOBS, NULL };
        if (access(dump, R_OK) < 0) {
                fprintf(stderr, "berthctl: %s: %s\n", dump, strerror(errno));
                return 1;
        }
        (void) run_program(stop, NULL, true);
        if (step(drop, "dropdb") < 0 || step(setup, "setup-database") < 0 ||
            step(pg, "pg_restore") < 0 || step(copy, "copying the documents") < 0 ||
            step(own, "chown") < 0)
                return 1;
        return step(start, "starting Berth") < 0;
}
