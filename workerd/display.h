/* The worker's descriptor socket (proto/display.toml, control.toml, terminal.toml): the gateway
 * gets a socket that is connected to the slot's RFB server or to a terminal, or a picture of the
 * screen, for the session that the worker holds; and may set the screen's size and clipboard for
 * whoever drives it. */
#pragma once

#include "common/io/daemon.h"
#include "common/io/fdlink.h"
#include "slot.h"

struct display;
struct display_config {
        sd_event *event;
        const char *path; /* of the socket */
        int mode;         /* of its file, 0 = 0600 */
        const uid_t *uids;
        size_t n_uids;
        bool any_uid;
        unsigned terminals; /* open at a time; 0 = none may be opened */
        /* The slot of that session, or NULL when this worker does not hold it (answered not_found).
         */
        struct slot *(*find)(void *userdata, const char *session_id);
        /* The screen of that slot has another size now; may be NULL. */
        void (*on_resized)(void *userdata);
        void *userdata;
};
int display_new(const struct display_config *c, struct display **ret) mustuse;
struct display *display_free(struct display *d);
/* The session leaves: its terminals end now. */
void display_session_over(struct display *d);
DEFINE_CLEANUP(struct display, display_free)
