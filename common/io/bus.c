/* The bus: published frames go to whoever subscribed; what cannot be sent or read is dropped. */
#include "rpc.h"

#include "common/base/fault.h"
#include "log.h"
#include "zsock.h"

#define QUEUE_MAX 4096 /* messages per subscriber and direction */
#define BATCH 256

struct bus {
        struct zsock z;
        sd_event *event;
        struct buf out;
        struct buf held; /* a frame that comes late (faults) */
        unsigned published;
        struct zsock_budget
                *budget; /* of all subscribers: one that hangs costs the others large frames */
        struct wire_arena *arena;
        const struct wire_msg **types;
        size_t n_types;
        bus_fn fn;
        void *userdata;
        bool busy, freed; /* fn is running; bus_free was called by it */
};

static void destroy(struct bus *b)
{
        zsock_close(&b->z);
        zsock_budget_unref(b->budget);
        buf_done(&b->out);
        buf_done(&b->held);
        wire_arena_free(b->arena);
        free(b->types);
        sd_event_unref(b->event);
        free(b);
}

struct bus *bus_free(struct bus *b)
{
        if (!b)
                return NULL;
        b->freed = true;
        if (!b->busy)
                destroy(b);
        return NULL;
}

static const struct wire_msg *subscribed(const struct bus *b, uint16_t id)
{
        for (size_t i = 0; i < b->n_types; i++)
                if (b->types[i]->id == id)
                        return b->types[i];
        return NULL;
}

static void handle(struct bus *b, struct span frame)
{
        struct wire_envelope e;
        int r = wire_open(frame, &e);
        const struct wire_msg *type = r < 0 ? NULL : subscribed(b, e.id);
        void *msg;
        if (!type || frame.len > type->frame_max || wire_unpack(type, e.body, b->arena, &msg) < 0)
                log_debug("bus: bad frame of %zu bytes dropped", frame.len);
        else
                b->fn(b->userdata, type, msg, frame);
        wire_arena_reset(b->arena);
}

static void on_readable(void *userdata)
{
        struct bus *b = userdata;
        b->busy = true;
        for (int i = 0; i < BATCH && !b->freed; i++) {
                cleanup_zmq_msg zmq_msg_t m;
                zmq_msg_init(&m);
                if (zsock_recv(&b->z, &m) < 0)
                        break;
                handle(b, (struct span){ zmq_msg_data(&m), zmq_msg_size(&m) });
        }
        b->busy = false;
        if (b->freed)
                destroy(b);
}

int bus_publisher_new(sd_event *e, void *zmq, const char *endpoint, int mode, struct bus **ret)
{
        CLEANUP(bus_freep) struct bus *b = xnew(struct bus);
        b->event = sd_event_ref(e);
        b->budget = zsock_budget_new();
        int r = zsock_open(&b->z, zmq, ZMQ_PUB, QUEUE_MAX, WIRE_FRAME_MAX);
        if (r == 0)
                r = zsock_bind(&b->z, endpoint, mode ? mode : 0600);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(b);
        return 0;
}

int bus_subscriber_new(sd_event *e, void *zmq, const char *endpoint,
                       const struct wire_msg *const *types, size_t n_types, bus_fn fn,
                       void *userdata, struct bus **ret)
{
        CLEANUP(bus_freep) struct bus *b = xnew(struct bus);
        *b = (struct bus){
                .event = sd_event_ref(e),
                .arena = wire_arena_new(),
                .types = xnewn(const struct wire_msg *, n_types),
                .n_types = n_types,
                .fn = fn,
                .userdata = userdata,
        };
        int r = zsock_open(&b->z, zmq, ZMQ_SUB, QUEUE_MAX, WIRE_FRAME_MAX);
        for (size_t i = 0; i < n_types && r == 0; i++) {
                uint8_t topic[WIRE_TOPIC_MAX];
                b->types[i] = types[i];
                if (zmq_setsockopt(b->z.sock, ZMQ_SUBSCRIBE, topic, wire_topic(types[i], topic)) <
                    0)
                        r = -errno;
        }
        if (r == 0)
                r = zsock_watch(&b->z, e, on_readable, b);
        if (r == 0)
                r = zsock_connect(&b->z, endpoint);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(b);
        return 0;
}

/* What may happen to a hint: it comes twice, broken, or after those that were said later. */
static int publish_badly(struct bus *b)
{
        cleanup_buf struct buf again = BUF_INIT;
        int r = 0;

        b->published++;
        if (fault_on("bus=dup")) {
                buf_put(&again, b->out.data, b->out.len);
                r = zsock_send(&b->z, (struct span){ NULL, 0 }, &again, b->budget);
        } else if (fault_on("bus=corrupt") && b->published % 3 == 0) {
                /* Cut in its middle, or with a head that is none: its topic stays, so that it is
                 * read. */
                if (b->published % 2)
                        b->out.len -= buf_pending(&b->out) / 2;
                else
                        memset(b->out.data + b->out.off + WIRE_TOPIC_MAX, 0xc1, 8);
        } else if (fault_on("bus=reorder") && b->published % 3 == 0) {
                again = b->held;
                b->held = b->out;
                b->out = again;
                again = BUF_INIT;
                if (buf_pending(&b->out) == 0)
                        return 0;
        }
        return r < 0 ? r : zsock_send(&b->z, (struct span){ NULL, 0 }, &b->out, b->budget);
}

int bus_publish(struct bus *b, const struct wire_msg *type, const void *msg)
{
        static const uint8_t no_correlation[WIRE_CORRELATION];
        buf_clear(&b->out);
        if (fault_on("bus=drop"))
                return 0;
        int r = wire_pack(&b->out, type, msg, 0, no_correlation);
        if (r == 0 && fault_on("bus="))
                return publish_badly(b);
        return r < 0 ? r : zsock_send(&b->z, (struct span){ NULL, 0 }, &b->out, b->budget);
}
