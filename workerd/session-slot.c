/* A session and its slot: files into it, pictures and results out of it, who drives. */
#include "session-private.h"

bool session_volume_file(const struct session *s, size_t file)
{
        return str_starts(s->files[file].path, VOLUME);
}

static void not_placed(struct session *s, int r)
{
        cleanup_free char *why = xasprintf("The file %s could not be placed into the slot (%s).",
                                           s->files[s->placed].path, strerror(-r));

        session_fail(s, "file_not_placed", why);
}

static void not_opened(struct session *s, const char *why)
{
        cleanup_free char *text = xasprintf("The document %s could not be opened: %s",
                                            s->files[s->placed].document_id, why);

        session_fail(s, "file_not_placed", text);
}

static void on_kept(void *userdata, const char *left_out)
{
        struct session *s = userdata;

        if (left_out)
                session_problem(s, left_out);
        if (s->agent)
                agent_kept(s->agent);
}

bool session_keep(void *userdata)
{
        struct session *s = userdata;

        if (!s->results || !s->host.slot)
                return false;
        results_keep(s->results, on_kept, s);
        return true;
}

static void place_next(struct session *s);

static void on_placed(void *userdata, int r)
{
        struct session *s = userdata;

        if (r < 0) {
                not_placed(s, r);
                return;
        }
        s->placed++;
        place_next(s);
}

static void on_opened(void *userdata, int r, int fd, uint64_t size, const char *why)
{
        struct session *s = userdata;
        struct guest *guest = s->host.slot ? slot_guest(s->host.slot) : NULL;
        const char *path = s->files[s->placed].path;

        if (r < 0) {
                not_opened(s, why);
                return;
        }
        if (!guest || size > s->c.settings->slot_file_bytes) {
                fd_close(fd);
                not_placed(s, guest ? -EFBIG : -ENOTCONN);
                return;
        }
        if (!session_volume_file(s, s->placed))
                r = guest_write_from(guest, s->epoch, path, fd, on_placed, s);
        else if (guest_has_volume(guest))
                r = guest_write_volume(guest, s->epoch, path + strlen(VOLUME), fd, on_placed, s);
        else /* an image from before volumes: beneath home */
                r = guest_write_from(guest, s->epoch, path + 1, fd, on_placed, s);
        if (r < 0)
                not_placed(s, r);
}

static void place_next(struct session *s)
{
        int r;

        if (s->placed == s->n_files) {
                session_prepare(s);
                return;
        }
        r = s->c.documents ? documents_open(s->c.documents, s->tenant,
                                            s->files[s->placed].document_id, on_opened, s)
                           : -ENOTCONN;
        if (r < 0)
                not_opened(s, "the document store cannot be reached");
}

/* No picture of the screen is made while a person types a secret. */
static void blind(struct session *s)
{
        struct screen *screen = s->host.slot ? slot_screen(s->host.slot) : NULL;

        if (screen)
                screen_set_blind(screen, s->control == CONTROL_MODE_SECRET);
}

void session_hold_slot(struct session *s)
{
        if (!s->host.slot)
                return;
        if (!s->paused || s->over || s->control != CONTROL_MODE_AGENT)
                slot_resume(s->host.slot);
        else if (slot_pause(s->host.slot) < 0)
                log_debug("session %s: its slot is not there to be paused", s->id);
}

void session_control(struct session *s, enum control_mode mode, const char *person)
{
        if (person && !streq(person, s->driver)) {
                free(s->driver);
                s->driver = xstrdup(person);
        }
        s->control = mode;
        blind(s);
        session_hold_slot(s);
        if (s->agent)
                agent_drive(s->agent, mode != CONTROL_MODE_AGENT, s->driver);
}

static uint64_t known_seq(void *userdata)
{
        const struct session *s = userdata;

        return loader_seq(s->loader);
}

/* A session without a recording is better than none. */
static void start_recorder(struct session *s)
{
        struct recorder_config c = {
                .recorders = s->c.recorders,
                .tenant = s->tenant,
                .session_id = s->id,
                .epoch = s->epoch,
                .slot = s->host.slot,
                .frames_per_second = (unsigned) s->c.settings->recording_rate,
                .piece_usec = s->c.settings->recording_piece,
                .seq = known_seq,
                .userdata = s,
        };
        int r = s->c.recorders && slot_screen(s->host.slot) ? recorder_new(&c, &s->recorder) : 0;

        if (r < 0)
                (void) log_errno(LOG_WARNING, r, "session %s is not recorded", s->id);
}

/* Sessions with a volume: what they leave in /results belongs to it. */
static void start_results(struct session *s)
{
        const struct results_config c = {
                .event = s->c.event,
                .documents = s->c.documents,
                .slot = s->host.slot,
                .epoch = s->epoch,
                .tenant = s->tenant,
                .session_id = s->id,
                .files_max = s->c.settings->results_files,
                .bytes_max = s->c.settings->results_bytes,
                .file_max = s->c.settings->results_file_bytes,
        };

        for (size_t i = 0; i < s->n_files && !s->results && s->c.documents; i++)
                if (session_volume_file(s, i) && results_new(&c, &s->results) < 0)
                        log_warning("session %s: its results are not kept", s->id);
}

struct results *session_take_results(struct session *s)
{
        results_forget(s->results);
        return s->host.slot ? TAKE_PTR(s->results) : NULL;
}

void session_slot_ready(struct session *s, struct slot *slot)
{
        if (s->over || s->host.slot)
                return;
        s->host.slot = slot;
        network_attach(s->network, slot);
        blind(s);
        start_recorder(s);
        start_results(s);
        place_next(s);
}

void session_slot_failed(struct session *s, const char *why)
{
        cleanup_free char *text = xasprintf("The slot failed: %s", why);

        if (s->over)
                return;
        if (s->agent && agent_state(s->agent) == AGENT_RESTING) {
                session_end(s,
                            SESSION_OVER_IDLE); /* nothing was lost that a new slot does not give */
                return;
        }
        session_fail(s, "slot_failed", text);
        s->recorder = recorder_free(s->recorder);
        s->results = results_free(s->results);
        s->host.slot = NULL;
}

void session_deleted(struct session *s)
{
        recorder_discard(s->recorder);
}
