/* berthctl: the command line of Berth; finds the command and the server, and hands over. */
#include "ctl.h"

#include <fcntl.h>
#include <getopt.h>
#include <locale.h>
#include <poll.h>
#include <signal.h>
#include <unistd.h>

static const struct {
        const char *name;
        int (*run)(struct ctl *c, int argc, char **argv);
        const char *help;
} commands[] = {
        { "status", cmd_status, "status                            how all daemons are" },
        { "sessions", cmd_sessions,
          "sessions list|show|new|send|stop|pause|resume|interrupt|delete|follow\n"
          "                                    sessions list [STATUS]; new [--headless] TEXT; "
          "send ID TEXT" },
        { "attach", cmd_attach, "attach ID                         live transcript; type to send" },
        { "approvals", cmd_approvals, "approvals [allow|deny ID]         what agents ask for" },
        { "agents", cmd_agents,
          "agents list|show|put|enable|disable|delete|versions\n"
          "                                    put FILE: a blueprint in JSON, new or changed" },
        { "budgets", cmd_budgets,
          "budgets [agent=NAME|session=ID] [LIMIT=NUMBER|none ...]\n"
          "                                    what may be spent, and is; with limits: sets them" },
        { "usage", cmd_usage, "usage [day|agent|session|model]   model calls, tokens, money" },
        { "workers", cmd_workers, "workers                           workers and their slots" },
        { "drain", cmd_drain, "drain WORKER                      give it no more sessions" },
        { "documents", cmd_documents,
          "documents list|get|put|tag|delete\n"
          "                                    list [TAGS]; get ID [FILE]; put FILE [TAGS]; tag ID "
          "TAGS" },
        { "recordings", cmd_recordings,
          "recordings show|export|delete     export SESSION FILE.webm|FILE.mp4: a video of its "
          "desktop" },
        { "terminal", cmd_terminal,
          "terminal ID                       a shell in the session's slot; Ctrl-] leaves it" },
        { "tokens", cmd_tokens,
          "tokens list|create|revoke         create NAME [ROLE] [SCOPE...] [user=NAME]" },
        { "users", cmd_users, "users list|create|role|disable|enable|delete" },
        { "tenants", cmd_tenants,
          "tenants list|create|disable|enable|limit\n"
          "                                    limit NAME sessions_live|slots NUMBER|none" },
        { "audit", cmd_audit, "audit [ACTOR] | audit verify      who did what; is the log whole" },
        { "image", cmd_image, "image build|list [NAME]           slot images of this host" },
        { "config", cmd_config, "config check                      is /etc/berth valid" },
        { "doctor", cmd_doctor, "doctor                            what is wrong, how to mend it" },
        { "backup", cmd_backup, "backup DIR                        database and documents" },
        { "restore", cmd_restore, "restore DIR --yes                 the reverse; replaces all" },
};

/* A descriptor 0, 1 or 2 that was closed would be the next socket, and output go into that. */
static void hold_standard_descriptors(void)
{
        int fd;

        do {
                fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
        } while (fd >= 0 && fd <= STDERR_FILENO);
        if (fd >= 0)
                close(fd);
}

/* A reader that has enough (head, less) hears no complaint. */
static int finish_output(int r)
{
        struct pollfd p = { .fd = STDOUT_FILENO };
        bool failed = fflush(stdout) != 0;

        if (!failed && !ferror(stdout))
                return r;
        if (poll(&p, 1, 0) < 1 || !(p.revents & POLLERR))
                fprintf(stderr, "berthctl: the output could not be written%s%s\n",
                        failed ? ": " : "", failed ? strerror(errno) : "");
        return r ? r : 1;
}

static void usage(FILE *f)
{
        fprintf(f, "usage: berthctl [--json] [--url URL] COMMAND ...\n\n");
        for (size_t i = 0; i < ARRAY_LEN(commands); i++)
                fprintf(f, "  %s\n", commands[i].help);
        fprintf(f, "\n  --json      machine-readable output\n"
                   "  --url URL   the server; else BERTH_URL, then this host's\n"
                   "  --yes       do what asks to be confirmed\n"
                   "  --version   --help\n");
}

static int run(struct ctl *c, int argc, char **argv)
{
        if (argc == 0) {
                usage(stderr);
                return 2;
        }
        for (size_t i = 0; i < ARRAY_LEN(commands); i++) {
                if (streq(commands[i].name, argv[0]))
                        return commands[i].run(c, argc - 1, argv + 1);
        }
        fprintf(stderr, "berthctl: unknown command %s; see berthctl --help\n", argv[0]);
        return 2;
}

int main(int argc, char **argv)
{
        static const struct option options[] = {
                { "json", no_argument, NULL, 'j' },
                { "url", required_argument, NULL, 'u' },
                { "yes", no_argument, NULL, 'y' },
                { "version", no_argument, NULL, 'v' },
                { "help", no_argument, NULL, 'h' },
                { "headless", no_argument, NULL, 'H' },
                { 0 },
        };
        CLEANUP(ctl_close) struct ctl c = { 0 };
        bool headless = false;
        int o;

        hold_standard_descriptors();
        if (argc > 0)
                argv[0] = (char *) "berthctl"; /* as getopt's messages name it */
        (void) setlocale(LC_ALL, "");
        (void) signal(SIGPIPE, SIG_IGN);
        while ((o = getopt_long(argc, argv, "hj", options, NULL)) >= 0) {
                if (o == 'j') {
                        c.json = true;
                } else if (o == 'u') {
                        free(c.url);
                        c.url = xstrdup(optarg);
                } else if (o == 'y') {
                        c.yes = true;
                } else if (o == 'H') {
                        headless = true;
                } else if (o == 'v') {
                        printf("berthctl %s\n", BERTH_VERSION);
                        return finish_output(0);
                } else if (o == 'h') {
                        usage(stdout);
                        return finish_output(0);
                } else {
                        fprintf(stderr, "berthctl: see berthctl --help\n");
                        return 2;
                }
        }
        if (headless)
                (void) setenv("BERTHCTL_KIND", "headless", 1);
        c.colour = isatty(STDOUT_FILENO) && !getenv("NO_COLOR");
        ctl_open(&c);
        return finish_output(run(&c, argc - optind, argv + optind));
}
