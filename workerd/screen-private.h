/* What the parts of the screen share: screen.c (link and frames), screen-input.c (actions),
 * screen-picture.c (waits and captures). */
#pragma once

#include "common/base/list.h"
#include "common/io/daemon.h"
#include "screen-decoder.h"
#include "screen.h"

#define SCREEN_HELD_MAX 32
#define SCREEN_SPARE_KEYS                                                                          \
        12 /* Xvnc has some twenty keys without a symbol, and never takes one back */

enum step_kind { STEP_MOVE, STEP_BUTTON, STEP_KEY, STEP_PAUSE, STEP_PASTE, STEP_SETTLE };
struct step {
        uint8_t kind;
        bool down;
        uint16_t x; /* move */
        uint32_t
                value; /* move: y; button: 1 to 7; key: keysym; pause: microseconds; paste: bytes */
};

struct screen_action {
        struct list link;
        uint64_t number;
        struct step *steps;
        size_t n, room, next;
        struct buf text; /* what is pasted, piece after piece */
        size_t pasted;   /* bytes of it that were */
        screen_done_fn fn;
        void *userdata;
};

struct screen_waiter {
        struct list link;
        uint64_t after; /* the action that must be done first */
        uint64_t quiet_usec, max_usec;
        uint64_t started; /* 0 = still waiting for `after` */
        screen_done_fn fn;
        void *userdata;
};

struct screen_shot {
        struct list link;
        struct screen_region region;
        unsigned width, height;
        screen_picture_fn fn;
        void *userdata;
};

struct screen {
        struct screen_config config;
        struct decoder *decoder;
        struct decoder_order out[DECODER_ORDERS_MAX]; /* not handed over yet */
        unsigned n_out;
        /* What the decoder last said of the frame. */
        unsigned width, height, place;
        uint64_t generation, changed_at;
        bool whole, sizable;
        bool ready, ended, freed, blind, lost;

        struct list actions;
        unsigned n_actions;
        uint64_t last_number, done_number;
        struct loop_timer pace;
        bool paused;             /* the decoder, and so the server, does not read */
        bool pasting;            /* the selections are being set */
        uint64_t settle_started; /* after a paste: until the screen is quiet; 0 = not */
        uint32_t assigned[SCREEN_SPARE_KEYS]; /* characters the server has given a key */
        unsigned n_assigned;
        unsigned x, y, buttons;
        uint32_t held[SCREEN_HELD_MAX]; /* keys that are down */
        unsigned n_held;

        struct list waiters;
        unsigned n_waiters;
        struct loop_timer quiet;

        struct list shots;
        unsigned n_shots;
        struct loop_task shoot;
        uint32_t asked;            /* number of the picture the decoder was last asked for */
        bool waiting;              /* it has not answered */
        struct screen_shot *taken; /* for whom; NULL = who wanted it has gone */
        struct loop_timer answer;  /* how long it may take */
        struct buf picture;        /* the last capture, kept while nothing changes */
        struct screen_shot pictured;
        uint64_t pictured_generation;
};

/* screen.c */
/* -EAGAIN: it must wait until the decoder reads; screen_play is called then. */
int screen_order(struct screen *s, const struct decoder_order *o) mustuse;
int screen_flush(struct screen *s); /* hands over what was ordered; as screen_order */
void screen_end(struct screen *s, const char *why);

/* screen-input.c */
void screen_play(
        struct screen *s); /* plays steps until a pause or the end; calls no callbacks itself */
void screen_actions_end(struct screen *s, int r);
void screen_release_all(struct screen *s);
void screen_on_pace(void *userdata);

/* screen-picture.c */
void screen_look_at_waiters(
        void *userdata); /* ends those whose time has come, arms the timer for the rest */
void screen_waits_end(struct screen *s, int r);
void screen_on_shoot(void *userdata);
void screen_on_answer(void *userdata, const struct decoder_news *n, const void *png);
void screen_on_late(void *userdata); /* no answer in time */
