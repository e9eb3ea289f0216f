/* Joins and sends the live deltas of a session. */
#include "live.h"

#include "utf8.h"

#define PIECE_MAX                                                                                  \
        (8 * KIB) /* of text in one message: escaped it stays under the schema's 64 KiB            \
                   */
#define PENDING_MAX (128 * KIB) /* of one turn of the loop */

static void send_piece(struct live *l, const char *text, size_t n)
{
        cleanup_buf struct buf json = BUF_INIT;
        struct event_live message = { .session_id = l->session_id, .epoch = l->epoch };

        buf_puts(&json, "{\"type\":\"delta\",\"session_id\":");
        buf_put_json_string(&json, l->session_id, strlen(l->session_id));
        buf_puts(&json, l->head);
        buf_puts(&json, ",\"text\":");
        buf_put_json_string(&json, text, n);
        buf_puts(&json, "}");
        message.json = (struct span){ json.data, json.len };
        if (rpc_send(rpc_client_peer(l->link), &wire_event_live, &message) < 0)
                l->dropped += n;
}

static void flush(void *userdata)
{
        struct live *l = userdata;

        while (buf_pending(&l->text) > 0) {
                size_t n = utf8_cut(buf_head(&l->text), buf_pending(&l->text), PIECE_MAX);

                n = n > 0 ? n : buf_pending(&l->text);
                send_piece(l, buf_head(&l->text), n);
                buf_consume(&l->text, n);
        }
}

static void add(struct live *l, char *head, struct span text)
{
        if (!streq(l->head, head)) {
                flush(l);
                free(l->head);
                l->head = head;
        } else {
                free(head);
        }
        if (buf_pending(&l->text) + text.len > PENDING_MAX) {
                l->dropped += text.len;
                return;
        }
        buf_put(&l->text, text.data, text.len);
        loop_task_queue(&l->flush);
}

void live_model(struct live *l, uint64_t turn, size_t block, enum provider_delta kind,
                struct span text)
{
        static const char *const kinds[] = {
                [PROVIDER_DELTA_TEXT] = "text",
                [PROVIDER_DELTA_THINKING] = "thinking",
                [PROVIDER_DELTA_INPUT] = "tool_input",
        };

        add(l,
            xasprintf(",\"turn\":%" PRIu64 ",\"block\":%zu,\"kind\":\"%s\"", turn, block,
                      kinds[kind]),
            text);
}

void live_tool(struct live *l, const char *call_id, int stream, struct span text)
{
        cleanup_buf struct buf head = BUF_INIT;

        buf_puts(&head, ",\"kind\":\"tool_output\",\"tool_call_id\":");
        buf_put_json_string(&head, call_id, strlen(call_id));
        buf_putf(&head, ",\"stream\":\"%s\"", stream == 2 ? "stderr" : "stdout");
        add(l, buf_take(&head, NULL), text);
}

int live_init(struct live *l, sd_event *e, struct rpc_link *link, const char *session_id,
              uint64_t epoch)
{
        *l = (struct live){ .link = link, .session_id = xstrdup(session_id), .epoch = epoch };
        return loop_task_init(&l->flush, e, flush, l);
}

void live_done(struct live *l)
{
        loop_task_done(&l->flush);
        buf_done(&l->text);
        free(l->head);
        free(l->session_id);
        *l = (struct live){ 0 };
}
