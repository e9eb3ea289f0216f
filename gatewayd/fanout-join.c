/* Events of a session that come in one turn of the loop, joined for all that watch it. */
#include "gatewayd/fanout-internal.h"

#include "gatewayd/gateway.h"
#include "gatewayd/sink.h"

static uint64_t last_seq(const struct joined *j)
{
        return j->first_seq + j->n - 1;
}

static struct span event_json(const struct joined *j, unsigned i)
{
        size_t begin = i == 0 ? 0 : j->ends[i - 1];

        return (struct span){ buf_head(&j->json) + begin, j->ends[i] - begin };
}

/* Borrowed. */
static struct frame *frame_of(struct joined *j, unsigned i, enum sink_kind kind)
{
        struct rendering r = { .json = event_json(j, i),
                               .type = fanout_update_type(j->types[i]),
                               .seq = j->first_seq + i };

        if (!j->one[kind][i])
                j->one[kind][i] = rendering_update(&r, kind);
        return j->one[kind][i];
}

static struct frame *frame_of_all(struct joined *j, enum sink_kind kind)
{
        if (j->n == 1)
                return frame_of(j, 0, kind);
        if (j->all[kind])
                return j->all[kind];
        for (unsigned i = 0; i < j->n; i++)
                (void) frame_of(j, i, kind);
        return j->all[kind] = frame_join(j->one[kind], j->n);
}

static void joined_free(struct joined *j)
{
        list_remove(&j->link);
        for (int kind = 0; kind < 2; kind++) {
                for (unsigned i = 0; i < j->n; i++)
                        (void) frame_unref(j->one[kind][i]);
                (void) frame_unref(j->all[kind]);
        }
        buf_done(&j->json);
        free(j);
}

void topic_forget_joined(struct topic *t)
{
        if (t->joined)
                joined_free(TAKE_PTR(t->joined));
}

/* One after the other: to one that wants some types only, or has some of them already. */
static void push_each(struct subscriber *s, struct joined *j)
{
        for (unsigned i = 0; i < j->n && s->state == SUBSCRIBER_LIVE; i++) {
                if (j->first_seq + i != s->position + 1)
                        continue;
                if (subscriber_wants_type(s, j->types[i]) &&
                    sink_push(s->sink, frame_of(j, i, sink_kind(s->sink))) < 0)
                        return;
                s->position++;
        }
}

void topic_hand_out(struct topic *t)
{
        struct joined *j = TAKE_PTR(t->joined);
        struct subscriber *s, *tmp;

        if (!j)
                return;
        t->known_seq = MAX(t->known_seq, last_seq(j));
        list_foreach_safe (s, tmp, &t->subscribers, link) {
                if (s->state == SUBSCRIBER_LIVE && s->position + 1 == j->first_seq && !s->types) {
                        if (sink_push(s->sink, frame_of_all(j, sink_kind(s->sink))) == 0)
                                s->position = last_seq(j);
                } else {
                        push_each(s, j);
                }
                subscriber_catch_up(s);
        }
        joined_free(j);
}

void topic_join(struct fanout *f, struct topic *t, const struct bus_event *e)
{
        struct joined *j = t->joined;

        if (e->seq <= (j ? last_seq(j) : t->known_seq))
                return;
        if (j && (j->n == JOIN_EVENTS || e->seq != last_seq(j) + 1 ||
                  buf_pending(&j->json) + e->json.len > JOIN_BYTES))
                topic_hand_out(t);
        j = t->joined;
        if (!j) {
                j = t->joined = xnew(struct joined);
                j->topic = t;
                j->first_seq = e->seq;
                list_push_back(&f->joining, &j->link);
                sink_flush_soon(f->gateway->sinks);
        }
        buf_put(&j->json, e->json.data, e->json.len);
        j->ends[j->n] = buf_pending(&j->json);
        j->types[j->n++] = e->event_type;
}

void fanout_hand_out(void *fanout)
{
        struct fanout *f = fanout;
        struct joined *j;

        while ((j = list_first(&f->joining, struct joined, link)))
                topic_hand_out(j->topic);
}
