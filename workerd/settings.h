/* The worker's settings. */
#pragma once

#include "common/io/settings.h"
#include "proto/wire.h"

struct worker_settings {
        char *worker_id, *coordinator_socket, *documents_socket, *documents_descriptor_socket,
                *descriptor_socket;
        char *state_dir, *image_dir, *guest_helper, *decoder_helper;
        char *egress_helper, *egress_credentials, *egress_dns, *egress_private, *egress_hosts,
                *egress_ca;
        char *kind, *kinds;
        uint64_t width, height;
        uint64_t slot_start, slot_processes, slot_open_files, slot_file_bytes, slot_tmp_bytes,
                slot_tmp_files, slot_home_bytes, slot_home_files, slot_memory, slot_cpu_percent;
        char *vm_image, *vm_qemu, *vm_preload, *vm_templates;
        uint64_t vm_memory;
        bool vm_kvm;
        bool slot_cgroups;
        char *slot_userns;
        uint64_t terminals;
        char *anthropic_url, *anthropic_key, *openai_url, *openai_key, *provider, *model,
                *fallback_models, *computer_tool, *thinking, *prices;
        uint64_t max_tokens, images_kept, turns_max, retries, history_max;
        uint64_t context_tokens, compact_percent, compact_kept, loop_repeats;
        char *mcp_proxy;
        bool recording;
        uint64_t recording_rate, recording_piece;
        uint64_t idle_release, model_stall, busy_wait;
        bool model_traceparent;
        uint64_t results_files, results_bytes, results_file_bytes;
        char *serves;
        uint64_t job_calls;
        char *embedding_url, *embedding_key, *embedding_model;
};
extern const struct setting worker_settings_table[];
extern const size_t worker_settings_count;

/* What the table cannot check: kinds, sizes, names. 0, or -EBADMSG with a sentence (caller frees).
 */
int worker_settings_check(const struct worker_settings *s, enum slot_kind *ret_kind,
                          uint32_t *ret_kinds, char **ret_error) mustuse;
