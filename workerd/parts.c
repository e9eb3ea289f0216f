/* Makes the parts of a worker from its settings. */
#include "parts.h"

#include "common/io/log.h"
#include "provider-anthropic.h"
#include "provider-openai.h"

void parts_slot_config(const struct worker_settings *s, sd_event *e, struct slot_config *ret)
{
        *ret = (struct slot_config){
                .event = e,
                .id = s->worker_id,
                .image_dir = s->image_dir,
                .state_dir = s->state_dir,
                .helper = s->guest_helper,
                .decoder = s->decoder_helper,
                .width = (unsigned) s->width,
                .height = (unsigned) s->height,
                .start_usec = s->slot_start,
                .limits = { .processes = s->slot_processes,
                            .open_files = s->slot_open_files,
                            .file_bytes = s->slot_file_bytes,
                            .tmp_bytes = s->slot_tmp_bytes,
                            .tmp_files = s->slot_tmp_files,
                            .home_bytes = s->slot_home_bytes,
                            .home_files = s->slot_home_files,
                            .memory_bytes = s->slot_memory,
                            .cpu_percent = s->slot_cpu_percent },
                .egress = { .program = s->egress_helper,
                            .credentials = s->egress_credentials,
                            .dns = s->egress_dns,
                            .private_ranges = s->egress_private,
                            .hosts = s->egress_hosts,
                            .ca_file = s->egress_ca },
        };
}

int parts_machine(const struct worker_settings *s, struct slot_host *host, struct machine **ret,
                  char **ret_why)
{
        const struct machine_config c = {
                .image_dir = s->vm_image,
                .qemu = s->vm_qemu,
                .preload = s->vm_preload,
                .templates = s->vm_templates,
                .helper = s->guest_helper,
                .memory_bytes = s->vm_memory,
                .width = (unsigned) s->width,
                .height = (unsigned) s->height,
                .kvm = s->vm_kvm,
                .identity = slot_host_identity(host),
        };
        return machine_new(&c, ret, ret_why);
}

int parts_models(const struct worker_settings *s, sd_event *e, struct httpc **ret_http,
                 struct provider_set *ret_providers, struct prices **ret_prices)
{
        cleanup_free char *error = NULL;
        int r = httpc_new(e, ret_http);

        if (r < 0)
                return log_errno(LOG_ERR, r, "the HTTP client cannot be made");
        r = anthropic_new(&(struct anthropic_config){ .http = *ret_http,
                                                      .url = s->anthropic_url,
                                                      .key = s->anthropic_key,
                                                      .computer_tool = s->computer_tool,
                                                      .thinking = s->thinking,
                                                      .stall_usec = s->model_stall },
                          &ret_providers->anthropic);
        if (r < 0)
                return log_errno(LOG_ERR, r, "computer_tool names no form of the computer tool: %s",
                                 s->computer_tool);
        r = openai_new(&(struct openai_config){ .http = *ret_http,
                                                .url = s->openai_url,
                                                .key = s->openai_key,
                                                .stall_usec = s->model_stall },
                       &ret_providers->openai);
        if (r < 0)
                return r;
        ret_providers->openai_first = streq(s->provider, "openai");
        if (strempty(s->prices))
                return 0;
        r = prices_load(s->prices, ret_prices, &error);
        if (r < 0)
                log_error("%s", error);
        return r;
}

void parts_models_done(struct httpc **http, struct provider_set *providers, struct prices **prices)
{
        if (providers->anthropic)
                providers->anthropic->free(TAKE_PTR(providers->anthropic));
        if (providers->openai)
                providers->openai->free(TAKE_PTR(providers->openai));
        httpc_free(TAKE_PTR(*http));
        prices_free(TAKE_PTR(*prices));
}
