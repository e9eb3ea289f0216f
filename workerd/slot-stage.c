/* Prepares the process that becomes bubblewrap: group, identity, limited file systems. */
#include "slot-stage.h"

#include <fcntl.h>
#include <grp.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

/* A folder that every host has and no program of ours lies in is covered by a tmpfs that holds the
 * mount points; only this slot sees that. */
static const char *find_root(const char *const *used)
{
        static const char *const roots[] = { "/mnt", "/media", "/srv", "/opt", "/tmp" };
        for (size_t i = 0; i < ARRAY_LEN(roots); i++) {
                struct stat st;
                bool taken = lstat(roots[i], &st) < 0 || !S_ISDIR(st.st_mode);
                for (const char *const *u = used; *u && !taken; u++) {
                        size_t n = strlen(roots[i]);
                        taken = strncmp(*u, roots[i], n) == 0 && ((*u)[n] == '/' || !(*u)[n]);
                }
                if (!taken)
                        return roots[i];
        }
        return NULL;
}

static void plan_part(struct stage *s, enum stage_part part, const char *name, const char *mode,
                      uint64_t bytes, uint64_t inodes)
{
        (void) snprintf(s->paths[part], sizeof(s->paths[part]), "%s/%s", s->root, name);
        (void) snprintf(s->options[part], sizeof(s->options[part]),
                        "mode=%s,size=%" PRIu64 ",nr_inodes=%" PRIu64 ",uid=%u,gid=%u", mode, bytes,
                        MAX(inodes, (uint64_t) 32), s->id, s->id);
}

int stage_plan(struct identity *identity, const struct cgroup *cgroup, const struct slot_limits *l,
               const char *const *used, struct stage *ret)
{
        struct stage s = { .root = find_root(used), .userns = -1, .id = 1000 };
        if (!s.root)
                return -ENOENT;
        if (identity && identity->userns >= 0) {
                s.userns = identity->userns;
                s.id = identity_next(identity);
        }
        (void) snprintf(s.uid_map, sizeof(s.uid_map), "%u %u 1", s.id, geteuid());
        (void) snprintf(s.gid_map, sizeof(s.gid_map), "%u %u 1", s.id, getegid());
        (void) snprintf(s.top, sizeof(s.top), "mode=0755,size=65536,nr_inodes=16,uid=%u,gid=%u",
                        s.id, s.id);
        plan_part(&s, STAGE_HOME, "home", "0700", l->home_bytes, l->home_files);
        plan_part(&s, STAGE_TMP, "tmp", "1777", l->tmp_bytes, l->tmp_files);
        plan_part(&s, STAGE_VAR_TMP, "vartmp", "1777", l->tmp_bytes / 8, l->tmp_files / 8);
        plan_part(&s, STAGE_RUN, "run", "0755", l->tmp_bytes / 8, l->tmp_files / 8);
        plan_part(&s, STAGE_SHM, "shm", "1777", l->tmp_bytes / 2, l->tmp_files / 8);
        plan_part(&s, STAGE_DATA, "data", "0755", l->home_bytes, l->home_files);
        plan_part(&s, STAGE_RESULTS, "results", "0755", l->home_bytes, l->home_files);
        for (int k = 0; k < CGROUP_KIND_MAX; k++)
                s.enter[k] = cgroup ? cgroup->enter[k] : -1;
        *ret = s;
        return 0;
}

static int put(const char *path, const char *text)
{
        int fd = open(path, O_WRONLY | O_CLOEXEC);
        int r = fd >= 0 && write(fd, text, strlen(text)) == (ssize_t) strlen(text) ? 0 : -1;
        if (fd >= 0)
                (void) close(fd);
        return r;
}

/* Raw calls: the library's would have every thread of the process, of which there is one, agree. */
int stage_become(uint32_t id)
{
        return syscall(SYS_setgroups, 0, NULL) < 0 || syscall(SYS_setresgid, id, id, id) < 0 ||
                               syscall(SYS_setresuid, id, id, id) < 0
                       ? -1
                       : 0;
}

const char *stage_enter(const struct stage *s)
{
        for (int k = 0; k < CGROUP_KIND_MAX; k++)
                if (s->enter[k] >= 0 && write(s->enter[k], "0", 1) != 1)
                        return "enter the control group";
        if (s->userns >= 0) {
                if (setns(s->userns, CLONE_NEWUSER) < 0)
                        return "enter the user namespace";
                if (stage_become(0) < 0)
                        return "take a user id of the namespace";
                if (unshare(CLONE_NEWNS) < 0)
                        return "make a mount namespace";
        } else {
                if (unshare(CLONE_NEWUSER | CLONE_NEWNS) < 0)
                        return "make a user namespace";
                if (put("/proc/self/setgroups", "deny") < 0 ||
                    put("/proc/self/uid_map", s->uid_map) < 0 ||
                    put("/proc/self/gid_map", s->gid_map) < 0)
                        return "map the user id";
        }
        const unsigned long flags = MS_NOSUID | MS_NODEV;
        if (mount(NULL, "/", NULL, MS_REC | MS_SLAVE, NULL) < 0 ||
            mount("slot", s->root, "tmpfs", flags | MS_NOEXEC, s->top) < 0)
                return "cover a folder for the slot";
        for (int p = 0; p < STAGE_PART_MAX; p++)
                if (mkdir(s->paths[p], 0755) < 0 ||
                    mount("slot", s->paths[p], "tmpfs", flags, s->options[p]) < 0)
                        return "mount a limited file system";
        return s->userns >= 0 && stage_become(s->id) < 0 ? "become the slot's user" : NULL;
}
