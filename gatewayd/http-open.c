/* Listening sockets: a socket unit's, one that the service manager kept for us, or our own. */
#include "gatewayd/http-private.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netdb.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>

static int open_unix(const char *path)
{
        struct sockaddr_un sa = { .sun_family = AF_UNIX };

        if (strlen(path) >= sizeof(sa.sun_path))
                return -ENAMETOOLONG;
        memcpy(sa.sun_path, path, strlen(path) + 1);
        cleanup_close int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
        if (fd < 0)
                return -errno;
        /* A socket file that nobody answers is a leftover; one that is answered is another
         * gatewayd. */
        if (connect(fd, (struct sockaddr *) &sa, sizeof(sa)) == 0 || errno == EAGAIN)
                return -EADDRINUSE;
        if (errno == ECONNREFUSED && unlink(path) < 0)
                return -errno;
        (void) fd_close(fd);
        fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
        if (fd < 0)
                return -errno;
        mode_t mask = umask(0117);
        int r = bind(fd, (struct sockaddr *) &sa, sizeof(sa)) < 0 ? -errno : 0;
        (void) umask(mask);
        return r < 0 ? r : TAKE_FD(fd);
}

static bool is_loopback(const struct sockaddr *sa)
{
        if (sa->sa_family == AF_INET)
                return (ntohl(((const struct sockaddr_in *) sa)->sin_addr.s_addr) >> 24) == 127;
        return sa->sa_family == AF_INET6 &&
               IN6_IS_ADDR_LOOPBACK(&((const struct sockaddr_in6 *) sa)->sin6_addr);
}

static int parse_inet(const char *address, struct sockaddr_storage *ret, socklen_t *ret_len)
{
        const char *colon = strrchr(address, ':');
        struct addrinfo hints = { .ai_family = AF_UNSPEC,
                                  .ai_socktype = SOCK_STREAM,
                                  .ai_flags = AI_NUMERICHOST | AI_NUMERICSERV | AI_PASSIVE };
        struct addrinfo *ai = NULL;
        char host[64];

        if (!colon || colon == address || (size_t) (colon - address) >= sizeof(host))
                return -EINVAL;
        (void) snprintf(host, sizeof(host), "%.*s", (int) (colon - address), address);
        size_t n = strlen(host);
        if (host[0] == '[' && host[n - 1] == ']') {
                host[n - 1] = '\0';
                memmove(host, host + 1, n - 1);
        }
        if (getaddrinfo(streq(host, "localhost") ? "127.0.0.1" : host, colon + 1, &hints, &ai) != 0)
                return -EINVAL;
        memcpy(ret, ai->ai_addr, ai->ai_addrlen);
        *ret_len = ai->ai_addrlen;
        freeaddrinfo(ai);
        return 0;
}

static int open_inet(const char *address, bool public_ok)
{
        struct sockaddr_storage sa = { 0 };
        cleanup_close int fd = -1;
        socklen_t len;
        int one = 1, r = parse_inet(address, &sa, &len);

        if (r < 0)
                return r;
        if (!public_ok && !is_loopback((struct sockaddr *) &sa))
                return -EADDRNOTAVAIL;
        fd = socket(sa.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
        if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)) < 0 ||
            bind(fd, (struct sockaddr *) &sa, len) < 0)
                return -errno;
        return TAKE_FD(fd);
}

static const char *listener_name(unsigned listener)
{
        return listener == LISTENER_DOCUMENTS ? "documents"
               : listener == LISTENER_METRICS ? "metrics"
                                              : "main";
}

/* A listening socket that the service manager passes under this name. -ENOENT without one. */
static int find_passed(const char *want)
{
        char **names = NULL;
        int n = sd_listen_fds_with_names(0, &names), found = -ENOENT;

        for (int i = 0; i < n; i++) {
                int fd = SD_LISTEN_FDS_START + i;
                if (found == -ENOENT && streq(names[i], want) &&
                    sd_is_socket(fd, AF_UNSPEC, SOCK_STREAM, 1) > 0)
                        found = fcntl(fd, F_DUPFD_CLOEXEC, 3);
                free(names[i]);
        }
        free(names);
        return found == -1 ? -errno : found;
}

/* That of a socket unit: it outlives us, so that a restart refuses nobody. */
static int take_inherited(unsigned listener, bool public_ok)
{
        struct sockaddr_storage sa = { 0 };
        socklen_t len = sizeof(sa);
        int found = find_passed(listener_name(listener));

        if (found < 0)
                return found;
        if (fcntl(found, F_SETFL, O_NONBLOCK) < 0 ||
            getsockname(found, (struct sockaddr *) &sa, &len) < 0 ||
            (sa.ss_family != AF_UNIX && !public_ok && !is_loopback((struct sockaddr *) &sa))) {
                (void) fd_close(found);
                return -EADDRNOTAVAIL;
        }
        return found;
}

/* ---- the service manager's store ----
 * A listener that no socket unit made outlives us there: connections wait in its queue while we are
 * restarted (FileDescriptorStoreMax= in the unit). */

static void store_name(unsigned listener, char out[static 32])
{
        (void) snprintf(out, 32, "stored-%s", listener_name(listener));
}

static void store_drop(unsigned listener)
{
        char name[32];

        store_name(listener, name);
        (void) sd_notifyf(0, "FDSTOREREMOVE=1\nFDNAME=%s", name);
}

/* True when there is somebody who may keep it; whether they do is theirs. */
static bool store_keep(unsigned listener, int fd)
{
        char name[32];
        cleanup_free char *text = NULL;

        if (!getenv("NOTIFY_SOCKET"))
                return false;
        store_name(listener, name);
        text = xasprintf("FDSTORE=1\nFDNAME=%s", name);
        return sd_pid_notify_with_fds(0, 0, text, &fd, 1) > 0;
}

static bool same_address(const struct sockaddr_storage *a, const struct sockaddr_storage *b)
{
        const struct sockaddr_in *a4 = (const struct sockaddr_in *) a,
                                 *b4 = (const struct sockaddr_in *) b;
        const struct sockaddr_in6 *a6 = (const struct sockaddr_in6 *) a,
                                  *b6 = (const struct sockaddr_in6 *) b;

        if (a->ss_family != b->ss_family)
                return false;
        if (a->ss_family == AF_INET)
                return a4->sin_port == b4->sin_port && a4->sin_addr.s_addr == b4->sin_addr.s_addr;
        return a->ss_family == AF_INET6 && a6->sin6_port == b6->sin6_port &&
               memcmp(&a6->sin6_addr, &b6->sin6_addr, sizeof(a6->sin6_addr)) == 0;
}

/* Is it what `address` asks for? A socket file must still be there. */
static bool listens_at(int fd, const char *address)
{
        struct sockaddr_storage is = { 0 }, wanted = { 0 };
        socklen_t len = sizeof(is);

        if (getsockname(fd, (struct sockaddr *) &is, &len) < 0)
                return false;
        if (is.ss_family == AF_UNIX)
                return streq(((const struct sockaddr_un *) &is)->sun_path, address) &&
                       access(address, F_OK) == 0;
        return parse_inet(address, &wanted, &len) == 0 && same_address(&is, &wanted);
}

/* -ENOENT without one, and for one of another address, which is dropped. */
static int take_stored(const char *address, unsigned listener, bool public_ok)
{
        char name[32];
        store_name(listener, name);
        cleanup_close int fd = find_passed(name);

        if (fd < 0)
                return fd;
        struct sockaddr_storage sa = { 0 };
        socklen_t len = sizeof(sa);
        if (!listens_at(fd, address) || fcntl(fd, F_SETFL, O_NONBLOCK) < 0 ||
            getsockname(fd, (struct sockaddr *) &sa, &len) < 0 ||
            (sa.ss_family != AF_UNIX && !public_ok && !is_loopback((struct sockaddr *) &sa))) {
                store_drop(listener);
                return -ENOENT;
        }
        return TAKE_FD(fd);
}

void http_server_listens(unsigned used)
{
        static const unsigned all[] = { LISTENER_MAIN, LISTENER_DOCUMENTS, LISTENER_METRICS };
        char **names = NULL, stored[32];
        int n = sd_listen_fds_with_names(1, &names);

        for (int i = 0; i < n; i++) {
                for (size_t j = 0; j < ARRAY_LEN(all); j++) {
                        store_name(all[j], stored);
                        if (streq(names[i], stored) && !(used & all[j]))
                                store_drop(all[j]);
                }
                (void) close(SD_LISTEN_FDS_START + i); /* copies of those in use were made */
                free(names[i]);
        }
        free(names);
}

int http_open(const char *address, unsigned listener, bool public_ok, bool *ret_ours)
{
        cleanup_close int fd = take_inherited(listener, public_ok);

        *ret_ours = false;
        if (fd >= 0)
                store_drop(listener);
        if (fd == -ENOENT)
                fd = take_stored(address, listener, public_ok);
        if (fd != -ENOENT)
                return fd < 0 ? fd : TAKE_FD(fd);
        fd = address[0] == '/' ? open_unix(address) : open_inet(address, public_ok);
        if (fd < 0)
                return fd;
        if (listen(fd, 4096) < 0)
                return -errno;
        *ret_ours = !store_keep(listener, fd);
        return TAKE_FD(fd);
}
