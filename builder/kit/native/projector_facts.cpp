// `projector FILE`: what a projector is for and takes, by laying it out as the server does, without its weights. One line of JSON
// on standard output: whether it takes pictures and sound, how many numbers it makes of each position (as many as the model
// takes), and the bytes of memory that it takes on the CPU, weights and buffers:
//
//     {"vision":true,"audio":false,"width":4096,"bytes":690000000}
//
// Says on standard error why not, and exits with 1, where the engine cannot use the file.
#include "clip.h"
#include "ggml-backend.h"
#include "mkllm.h"
#include "mtmd-helper.h"
#include "system.h"

#include <cstdio>
#include <memory>

namespace {

using part = std::unique_ptr<clip_ctx, void (*)(clip_ctx *)>;

void errors(ggml_log_level level, const char * text, void *) {
    if (level == GGML_LOG_LEVEL_ERROR) {
        std::fputs(text, stderr);
    }
}

clip_context_params layout_only() {
    clip_context_params params = {};
    params.flash_attn_type  = CLIP_FLASH_ATTN_TYPE_AUTO;
    params.image_min_tokens = -1;
    params.image_max_tokens = -1;
    params.warmup           = true;  // buffers are reckoned then
    params.no_alloc         = true;
    return params;
}

size_t bytes(const clip_ctx * found) {
    size_t sum = 0;
    if (found) {
        for (const auto & [device, size] : clip_get_mem_usage(found)) {
            sum += size;
        }
    }
    return sum;
}

}  // namespace

int mkllm_projector(const char * path) {
    mkllm_binary_output();
    llama_log_set(errors, nullptr);
    mtmd_helper_log_set(errors, nullptr);
    mkllm_backend_init();
    const clip_init_result made = clip_init(path, layout_only());
    const part vision(made.ctx_v, clip_free), audio(made.ctx_a, clip_free), generated(made.ctx_gen_a, clip_free);
    if (!vision && !audio) {
        std::fputs("mkllm-engine: the file holds no projector for pictures or sound\n", stderr);
        return 1;
    }
    const auto yes = [](const part & found) { return found ? "true" : "false"; };
    std::printf("{\"vision\":%s,\"audio\":%s,\"width\":%d,\"bytes\":%zu}\n", yes(vision), yes(audio),
                clip_n_mmproj_embd((vision ? vision : audio).get()),
                bytes(vision.get()) + bytes(audio.get()) + bytes(generated.get()));
    return 0;
}
