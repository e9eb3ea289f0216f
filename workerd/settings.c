/* The table of the worker's settings and the checks that need more than one of them. */
#include "settings.h"

#define ROW(name_, kind_, member, fallback_, help_, ...)                                           \
        {                                                                                          \
                .name = name_, .kind = (kind_),                                                    \
                .offset = offsetof(struct worker_settings, member), .fallback = (fallback_),       \
                .help = (help_), __VA_ARGS__                                                       \
        }

const struct setting worker_settings_table[] = {
        ROW("worker_id", SETTING_STRING, worker_id, NULL,
            "Name of this worker, the same at each start: letters, digits, - and _."),
        ROW("coordinator_socket", SETTING_PATH, coordinator_socket,
            "/run/berth/workers/worker.sock", "The coordinator's socket for workers."),
        ROW("documents_socket", SETTING_PATH, documents_socket, "/run/berth/documents/docs.sock",
            "The document store's request socket."),
        ROW("documents_descriptor_socket", SETTING_PATH, documents_descriptor_socket,
            "/run/berth/documents/docs-fd.sock", "The document store's descriptor socket."),
        ROW("descriptor_socket", SETTING_PATH, descriptor_socket, "/run/berth/worker.fd.sock",
            "Where this worker hands out its slot's display."),
        ROW("state_dir", SETTING_PATH, state_dir, "/var/lib/berth/worker",
            "The worker's own folder for its slot; the folder is its alone."),
        ROW("image_dir", SETTING_PATH, image_dir, "/var/lib/berth/images/desktop",
            "Root of the slot image; the slot sees it read-only."),
        ROW("guest_helper", SETTING_PATH, guest_helper, "/usr/lib/berth/berth-guest",
            "The helper program that runs inside the slot."),
        ROW("decoder_helper", SETTING_PATH, decoder_helper, "/usr/lib/berth/berth-decoder",
            "The program that reads what the display of the slot sends."),
        ROW("egress_helper", SETTING_STRING, egress_helper, "/usr/lib/berth/berth-egress",
            "The proxy through which slots reach the network; empty: they never do."),
        ROW("egress_credentials", SETTING_STRING, egress_credentials, "",
            "JSON file with credentials that the proxy adds to requests: a list of {host, header, "
            "value} and, to limit them, tenant, agent and paths."),
        ROW("egress_dns", SETTING_STRING, egress_dns, "",
            "Name servers of the proxy, with commas; empty: those of the host."),
        ROW("egress_private", SETTING_STRING, egress_private, "",
            "Ranges of private addresses that slots may reach when a policy names the host, with "
            "commas, for example 10.1.2.0/24."),
        ROW("egress_hosts", SETTING_STRING, egress_hosts, "",
            "Hosts with fixed addresses, name=address with commas, before the name servers."),
        ROW("egress_ca", SETTING_STRING, egress_ca, "",
            "PEM file of authorities, besides the host's, for hosts with credentials."),
        ROW("kind", SETTING_STRING, kind, "desktop",
            "The slot kind that is kept warm: desktop, headless or vm."),
        ROW("kinds", SETTING_STRING, kinds, "desktop,headless",
            "The slot kinds that may be asked of this worker, with commas."),
        ROW("vm_image", SETTING_PATH, vm_image, "/var/lib/berth/images/vm",
            "Folder of the image of virtual machines, for slots of the kind vm."),
        ROW("vm_qemu", SETTING_PATH, vm_qemu, "/usr/bin/qemu-system-x86_64",
            "The program that runs them."),
        ROW("vm_preload", SETTING_PATH, vm_preload, "/usr/lib/berth/berth-vm-ram.so",
            "The library of ours that it loads."),
        ROW("vm_templates", SETTING_PATH, vm_templates, "/var/cache/berth/templates",
            "Folder, shared by the workers of a host, for machines that have started once."),
        ROW("vm_memory", SETTING_SIZE, vm_memory, "2G",
            "Memory of a virtual machine; slot_memory must leave room for it and 512M more.",
            .min = "512M", .max = "64G"),
        ROW("vm_kvm", SETTING_BOOL, vm_kvm, "yes",
            "Use KVM when it proves to work; else machines run slowly, by translation."),
        ROW("width", SETTING_INT, width, "1280",
            "Pixels of a desktop, when a session does not say.", .min = "320", .max = "7680"),
        ROW("height", SETTING_INT, height, "800",
            "Pixels of a desktop, when a session does not say.", .min = "200", .max = "4320"),
        ROW("slot_start", SETTING_DURATION, slot_start, "20s",
            "A desktop or headless slot that is not ready after this is given up and made anew.",
            .min = "1s", .max = "10min"),
        ROW("slot_processes", SETTING_INT, slot_processes, "512",
            "Processes and threads in the slot.", .min = "32", .max = "65536"),
        ROW("slot_open_files", SETTING_INT, slot_open_files, "4096",
            "Open files of one process in the slot.", .min = "256", .max = "1048576"),
        ROW("slot_file_bytes", SETTING_SIZE, slot_file_bytes, "2G", "Size of one file in the slot.",
            .min = "16M"),
        ROW("slot_tmp_bytes", SETTING_SIZE, slot_tmp_bytes, "512M", "Size of /tmp in the slot.",
            .min = "16M"),
        ROW("slot_tmp_files", SETTING_INT, slot_tmp_files, "40000",
            "Files and folders in /tmp of the slot.", .min = "1000", .max = "10000000"),
        ROW("slot_home_bytes", SETTING_SIZE, slot_home_bytes, "2G",
            "Size of the home folder in the slot; it is in memory and counts as such.",
            .min = "16M"),
        ROW("slot_home_files", SETTING_INT, slot_home_files, "200000",
            "Files and folders in the home folder of the slot.", .min = "1000", .max = "100000000"),
        ROW("slot_memory", SETTING_SIZE, slot_memory, "4G",
            "Memory of all programs and files in the slot.", .min = "128M"),
        ROW("slot_cpu_percent", SETTING_INT, slot_cpu_percent, "200",
            "Processor time of the slot, in percent of one processor.", .min = "5",
            .max = "100000"),
        ROW("slot_cgroups", SETTING_BOOL, slot_cgroups, "yes",
            "Limit slots by control groups where the worker may make them; no: without."),
        ROW("slot_userns", SETTING_STRING, slot_userns, "",
            "File at which berth-idmap pinned a user namespace for this worker; empty: newuidmap "
            "with the worker's ranges in /etc/subuid, else the worker's own user id."),
        ROW("terminals", SETTING_INT, terminals, "4",
            "Terminals that people may have open in the slot at a time; 0: none.", .max = "32"),
        ROW("serves", SETTING_STRING, serves, "sessions",
            "sessions: those the coordinator gives; jobs: what docserverd has to be run or asked."),
        ROW("job_calls", SETTING_INT, job_calls, "16",
            "Calls of jobs to models at once, where jobs are served.", .min = "0", .max = "256"),
        ROW("embedding_url", SETTING_STRING, embedding_url, "",
            "Where OpenAI-compatible embeddings are, without /v1/embeddings; empty: no vectors."),
        ROW("embedding_key_file", SETTING_SECRET, embedding_key, "",
            "File with its API key; none for a local model."),
        ROW("embedding_model", SETTING_STRING, embedding_model, "text-embedding-3-small",
            "The model that makes the vectors of documents; another one makes all of them anew."),
        ROW("anthropic_url", SETTING_STRING, anthropic_url, "https://api.anthropic.com",
            "Where the Messages API is, without /v1/messages."),
        ROW("anthropic_key_file", SETTING_SECRET, anthropic_key, "",
            "File with the API key; none for a local model."),
        ROW("openai_url", SETTING_STRING, openai_url, "https://api.openai.com",
            "Where OpenAI-compatible chat completions are, without /v1/chat/completions."),
        ROW("openai_key_file", SETTING_SECRET, openai_key, "",
            "File with the API key; none for a local model."),
        ROW("provider", SETTING_STRING, provider, "anthropic",
            "Who serves models whose name does not begin with anthropic/ or openai/."),
        ROW("model", SETTING_STRING, model, "claude-sonnet-5-5",
            "The model of sessions that name none."),
        ROW("fallback_models", SETTING_STRING, fallback_models, "",
            "Models to go on with, in order and with commas, when the session's own fails."),
        ROW("computer_tool", SETTING_STRING, computer_tool, "",
            "Force this form of the computer tool instead of choosing by model."),
        ROW("thinking", SETTING_STRING, thinking, "auto",
            "auto: models that can decide themselves do; adaptive: always ask for it; off."),
        ROW("prices", SETTING_STRING, prices, "",
            "JSON file with the prices of models; none: costs are not counted."),
        ROW("max_tokens", SETTING_INT, max_tokens, "16384", "Tokens of one answer at most.",
            .min = "256", .max = "1000000"),
        ROW("images_kept", SETTING_INT, images_kept, "5",
            "Screenshots of tool results that stay in the conversation; 0 keeps all.",
            .max = "100"),
        ROW("turns_max", SETTING_INT, turns_max, "100",
            "Model calls for one message before the session waits and asks.", .min = "1",
            .max = "100000"),
        ROW("context_tokens", SETTING_INT, context_tokens, "200000",
            "Tokens that a model reads at most, where the file of prices does not say.",
            .min = "1000", .max = "1000000000"),
        ROW("compact_percent", SETTING_INT, compact_percent, "80",
            "How full of that a conversation may be before a summary takes its place; 0: never.",
            .min = "0", .max = "95"),
        ROW("compact_kept", SETTING_INT, compact_kept, "4",
            "Newest turns that stay as they are when a summary takes the place of the rest.",
            .min = "1", .max = "100"),
        ROW("loop_repeats", SETTING_INT, loop_repeats, "6",
            "The same calls with the same results so many times: the agent asks for help; 0: "
            "never.",
            .min = "0", .max = "64"),
        ROW("retries", SETTING_INT, retries, "8", "How often a failed model call is tried again.",
            .max = "100"),
        ROW("history_max", SETTING_SIZE, history_max, "64M", "Memory for one conversation's text.",
            .min = "1M"),
        ROW("mcp_proxy", SETTING_STRING, mcp_proxy, "",
            "Proxy (URL) for requests to MCP servers; none: they go out directly, to public "
            "addresses "
            "and those of egress_private."),
        ROW("results_files", SETTING_INT, results_files, "1000",
            "Files of /results that are kept of one session with a volume; 0: none.", .min = "0",
            .max = "10000"),
        ROW("results_bytes", SETTING_SIZE, results_bytes, "1G",
            "Bytes of /results that are kept of one session.", .min = "1K"),
        ROW("results_file_bytes", SETTING_SIZE, results_file_bytes, "256M",
            "Size of one result; the worker holds it in memory while it is kept.", .min = "1K",
            .max = "8G"),
        ROW("idle_release", SETTING_DURATION, idle_release, "60s",
            "How long an idle session keeps its slot."),
        ROW("model_stall", SETTING_DURATION, model_stall, "60s",
            "A model that sends nothing for this long has failed.", .min = "1s"),
        ROW("model_traceparent", SETTING_BOOL, model_traceparent, "no",
            "Tell model services where in a trace their calls stand (header traceparent)."),
        ROW("recording", SETTING_BOOL, recording, "yes",
            "Record the desktops of sessions, for replay."),
        ROW("recording_rate", SETTING_INT, recording_rate, "5",
            "Looks at the screen per second while recording.", .min = "1", .max = "30"),
        ROW("recording_piece", SETTING_DURATION, recording_piece, "10s",
            "Length of one piece of a recording; a worker that dies loses the piece it had open.",
            .min = "1s", .max = "5min"),
        ROW("busy_wait", SETTING_DURATION, busy_wait, "30min",
            "How long a session waits for a model that is busy before it fails."),
};
const size_t worker_settings_count = ARRAY_LEN(worker_settings_table);

static bool plain_name(const char *s)
{
        size_t n = strspn(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_");

        return n > 0 && n <= 60 && s[n] == '\0';
}

static int parse_kind(const char *text, enum slot_kind *ret)
{
        int r = slot_kind_parse(text, ret);

        if (r < 0)
                return r;
        return *ret == SLOT_KIND_EXTERNAL ? -EINVAL : 0;
}

int worker_settings_check(const struct worker_settings *s, enum slot_kind *ret_kind,
                          uint32_t *ret_kinds, char **ret_error)
{
        cleanup_free char *list = xstrdup(s->kinds);
        enum slot_kind kind, one;
        uint32_t kinds = 0;
        char *save = NULL;

        if (!plain_name(s->worker_id)) {
                *ret_error = xstrdup("worker_id must be 1 to 60 letters, digits, - and _");
                return -EBADMSG;
        }
        if (!streq(s->serves, "sessions") && !streq(s->serves, "jobs")) {
                *ret_error = xstrdup("serves must be sessions or jobs");
                return -EBADMSG;
        }
        if (parse_kind(s->kind, &kind) < 0) {
                *ret_error = xstrdup("kind must be desktop, headless or vm");
                return -EBADMSG;
        }
        for (char *k = strtok_r(list, ", ", &save); k; k = strtok_r(NULL, ", ", &save)) {
                if (parse_kind(k, &one) < 0) {
                        *ret_error = xasprintf(
                                "kinds must be a list of desktop, headless and vm, not %s", k);
                        return -EBADMSG;
                }
                kinds |= UINT32_C(1) << one;
        }
        kinds |= UINT32_C(1) << kind;
        if ((kinds & UINT32_C(1) << SLOT_KIND_VM) && s->slot_memory < s->vm_memory + 512 * MIB) {
                *ret_error = xstrdup("slot_memory must be at least vm_memory and 512M");
                return -EBADMSG;
        }
        if (!streq(s->thinking, "auto") && !streq(s->thinking, "adaptive") &&
            !streq(s->thinking, "off")) {
                *ret_error = xstrdup("thinking must be auto, adaptive or off");
                return -EBADMSG;
        }
        if (!streq(s->provider, "anthropic") && !streq(s->provider, "openai")) {
                *ret_error = xstrdup("provider must be anthropic or openai");
                return -EBADMSG;
        }
        *ret_kind = kind;
        *ret_kinds = kinds;
        return 0;
}
