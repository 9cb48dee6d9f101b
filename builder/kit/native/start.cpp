// What llama.cpp's server finds out by running the model before it is ready, and what its caches tell (CMakeLists.txt).
#include "common.h"
#include "llama-kv-cache-iswa.h"
#include "llama-kv-cache.h"

#include <typeinfo>

// Whether the last tokens of a sequence can be removed from the context, which upstream tries with two tokens: these caches
// keep every token in cells of its own, and refuse no removal.
common_context_seq_rm_type mkllm_context_can_seq_rm(llama_context * context) {
    const llama_memory_t memory = llama_get_memory(context);
    if (memory && !llama_model_has_encoder(llama_get_model(context))) {
        const std::type_info & kind = typeid(*memory);
        if (kind == typeid(llama_kv_cache) || kind == typeid(llama_kv_cache_iswa)) {
            return COMMON_CONTEXT_SEQ_RM_TYPE_PART;
        }
    }
    return common_context_can_seq_rm(context);
}
