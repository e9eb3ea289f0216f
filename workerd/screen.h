/* The screen of a desktop slot: a framebuffer kept up to date over RFB, input actions, captures,
 * and waiting until nothing changes. Coordinates are pixels of the screen, 0,0 top left. The
 * server's bytes are read by a process of its own (decoder/decoder.h).
 *
 * Actions are played one after another in the order given (at most SCREEN_ACTIONS_MAX wait, else
 * -EAGAIN); `fn` comes from the loop when the last event of the action was handed to the decoder,
 * which lets some hundred wait when the server does not read: 0, or -ECANCELED (screen_cancel,
 * screen_free), -ECONNRESET (the server ended or broke a rule). fn may be NULL. Actions take the
 * lease epoch: -ESTALE when it is not the current one. -ERANGE: outside the screen. -EINVAL: key
 * name, modifier or text that cannot be typed. The server is untrusted. */
#pragma once

#include <systemd/sd-event.h>

#include "common/base/util.h"
#include "slot-identity.h"

#define SCREEN_ACTIONS_MAX 64
#define SCREEN_WAITERS_MAX 16
#define SCREEN_TEXT_MAX (256 * 1024) /* bytes of one screen_type */
#define SCREEN_SIDE_MAX 8192         /* pixels */
#define SCREEN_SIDE_MIN 200

struct screen;
typedef void (*screen_done_fn)(void *userdata, int r);

struct screen_config {
        sd_event *event;
        int fd;                    /* connected to the RFB server; taken over, also on failure */
        const char *decoder;       /* path of berth-decoder; not kept */
        struct identity *identity; /* the decoder runs under its next id; NULL = the worker's own */
        const uint64_t
                *epoch; /* read at each action; outlives the screen. NULL = actions need epoch 0 */
        void (*on_ready)(void *userdata); /* the first whole frame is there; may be NULL */
        void (*on_end)(void *userdata, const char *why); /* may free the screen */
        /* Puts text into the display's selections (primary and clipboard), then calls fn from the
         * loop, once. The server has room for few characters that are on no key: the rest is
         * pasted. NULL = not done. */
        int (*paste)(void *userdata, const char *text, size_t n, screen_done_fn fn,
                     void *fn_userdata);
        bool no_spare_keys; /* the server types only what is on its keys: all else is pasted */
        uint64_t key_gap;   /* us between two keys' going down or up; 0 = as fast as it reads */
        void *userdata;
};
int screen_new(const struct screen_config *c, struct screen **ret) mustuse;
struct screen *screen_free(struct screen *s);
DEFINE_CLEANUP(struct screen, screen_free)

bool screen_ready(const struct screen *s);
/* After on_end: the decoder broke, and the server may be as good as before. */
bool screen_decoder_lost(const struct screen *s);
void screen_size(const struct screen *s, unsigned *ret_width, unsigned *ret_height);
void screen_cursor(const struct screen *s, unsigned *ret_x,
                   unsigned *ret_y);                /* where we last put the pointer */
uint64_t screen_generation(const struct screen *s); /* grows whenever a pixel changes */

enum screen_button { SCREEN_LEFT = 1, SCREEN_MIDDLE = 2, SCREEN_RIGHT = 3 };
enum screen_scroll {
        SCREEN_UP = 4,
        SCREEN_DOWN = 5,
        SCREEN_SCROLL_LEFT = 6,
        SCREEN_SCROLL_RIGHT = 7
};
struct screen_point {
        unsigned x, y;
};

int screen_move(struct screen *s, uint64_t epoch, struct screen_point to, screen_done_fn fn,
                void *userdata) mustuse;
/* at NULL = where the pointer is. count 1 to 3. modifiers NULL or "ctrl+shift", held meanwhile. */
int screen_click(struct screen *s, uint64_t epoch, enum screen_button button, unsigned count,
                 const struct screen_point *at, const char *modifiers, screen_done_fn fn,
                 void *userdata) mustuse;
int screen_press(struct screen *s, uint64_t epoch, enum screen_button button, screen_done_fn fn,
                 void *userdata) mustuse;
int screen_release(struct screen *s, uint64_t epoch, enum screen_button button, screen_done_fn fn,
                   void *userdata) mustuse;
int screen_drag(struct screen *s, uint64_t epoch, struct screen_point from, struct screen_point to,
                const char *modifiers, screen_done_fn fn, void *userdata) mustuse;
/* amount: wheel clicks, 1 to 100 */
int screen_scroll(struct screen *s, uint64_t epoch, enum screen_scroll direction, unsigned amount,
                  const struct screen_point *at, const char *modifiers, screen_done_fn fn,
                  void *userdata) mustuse;
/* UTF-8; newline is Return, tab is Tab; other control characters are -EINVAL. Lines with more
 * characters of other scripts than the server has spare keys for are pasted with Shift+Insert. */
int screen_type(struct screen *s, uint64_t epoch, const char *text, size_t n, screen_done_fn fn,
                void *userdata) mustuse;
/* xdotool-style names joined by '+': "ctrl+shift+t", "Return", "a"; several combinations separated
 * by spaces are pressed one after another. repeat 1 to 100. */
int screen_key(struct screen *s, uint64_t epoch, const char *keys, unsigned repeat,
               screen_done_fn fn, void *userdata) mustuse;
int screen_hold(struct screen *s, uint64_t epoch, const char *keys, unsigned milliseconds,
                screen_done_fn fn, void *userdata) mustuse;

/* Drops the actions, lets go of every key and button, forgets waits and captures: each fn gets
 * -ECANCELED. */
void screen_cancel(struct screen *s);

/* fn(0) when no pixel changed for quiet_ms (counted from now at the earliest), fn(1) when that did
 * not happen within max_ms. Negative as for actions. Actions given earlier are waited for first. */
int screen_wait_quiet(struct screen *s, unsigned quiet_ms, unsigned max_ms, screen_done_fn fn,
                      void *userdata) mustuse;

struct screen_region {
        unsigned x, y, width, height;
};
/* r < 0: png NULL. The bytes are borrowed in the callback. */
typedef void (*screen_picture_fn)(void *userdata, int r, const void *png, size_t n, unsigned width,
                                  unsigned height);
/* region NULL = all. width, height = size of the picture (area average down, smooth up); 0,0 = as
 * it is; one of them 0 = keep the aspect. -ERANGE when the region leaves the screen or a side is
 * over SCREEN_SIDE_MAX. Needs no lease: looking is not acting. */
int screen_capture(struct screen *s, const struct screen_region *region, unsigned width,
                   unsigned height, screen_picture_fn fn, void *userdata) mustuse;
/* Blind: captures end with -EACCES, those under way too. A person types something secret. */
void screen_set_blind(struct screen *s, bool blind);
bool screen_blind(const struct screen *s);
/* The frame as it is: width * height words 0x00RRGGBB, borrowed until the loop goes on; it may be
 * drawn to meanwhile, and then screen_generation grows later. NULL before the first whole frame,
 * after the end and while blind. */
const uint32_t *screen_pixels(const struct screen *s, unsigned *ret_width, unsigned *ret_height);
/* Asks the server for another size; screen_size shows when it has followed. -EOPNOTSUPP: it cannot.
 * -ERANGE: a side is under SCREEN_SIDE_MIN or over SCREEN_SIDE_MAX. */
int screen_resize(struct screen *s, unsigned width, unsigned height) mustuse;
/* Waits and captures with this userdata end without a call. */
void screen_forget(struct screen *s, void *userdata);
