// The moment at which a CPU backend gets weights that it wants in another layout (repack.cpp).
#pragma once

#include "ggml-backend.h"
#include "layout.h"

// Stands in for the backend while one thread loads a model.
class weight_taker {
public:
    virtual ~weight_taker() = default;

    // Whether it has dealt with this tensor; `data` are its weights as they lie in the file. Until then none of the tensor's
    // memory is in use.
    virtual bool take(ggml_backend_buffer_t buffer, ggml_tensor * tensor, const void * data) = 0;
};

// Within its life, loads of this thread ask `taker`.
class taking {
public:
    explicit taking(weight_taker & taker);
    ~taking();
};

// The layout that the backend has for this tensor; null when there is none that could be written down.
const layout * mkllm_layout(ggml_backend_buffer_t buffer, const ggml_tensor & tensor);

// Have the backend order the tensor's weights into its memory, by all processors.
void mkllm_order(ggml_backend_buffer_t buffer, ggml_tensor * tensor, const void * data);
