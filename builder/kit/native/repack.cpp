// Weights that a CPU backend wants in another layout are written by one thread in llama.cpp: 11 seconds for a 7B. Here
// each tensor is divided by rows among all processors, and its memory is asked for in huge pages, which are sooner got and
// sooner read. The layouts take rows in groups of at most 64, so a division by 64 cuts through none of them.
#include "repack.h"

#include "ggml-backend-impl.h"
#include "mkllm.h"
#include "system.h"

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <cstring>
#include <map>
#include <optional>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

namespace {

const size_t   SMALL     = 1 << 20;
const unsigned MOST      = 32;
const size_t   HUGE_PAGE = 2 << 20;

decltype(ggml_backend_buffer_type_i::alloc_buffer) original_alloc = nullptr;
decltype(ggml_backend_buffer_i::set_tensor)        original_set   = nullptr;

// Of buffers for weights in yet other orders, such as AMX has.
std::map<ggml_backend_buffer_type_t, decltype(ggml_backend_buffer_type_i::alloc_buffer)> others;

thread_local weight_taker * taker = nullptr;

// Rows `first` to `last` of the tensor, as a tensor of their own.
void set_rows(ggml_backend_buffer_t buffer, const ggml_tensor & tensor, const char * data, int64_t first, int64_t last) {
    const size_t row  = ggml_row_size(tensor.type, tensor.ne[0]);
    ggml_tensor  part = tensor;
    part.ne[1] = last - first;
    part.ne[2] = part.ne[3] = 1;
    part.nb[2] = part.nb[3] = row * (size_t) part.ne[1];
    part.data  = (char *) tensor.data + row * (size_t) first;
    original_set(buffer, &part, data + row * (size_t) first, 0, ggml_nbytes(&part));
}

void set_tensor(ggml_backend_buffer_t buffer, ggml_tensor * tensor, const void * data, size_t offset, size_t size) {
    const bool is_whole = !offset && size == ggml_nbytes(tensor) && ggml_is_contiguous(tensor);
    if (is_whole && taker && taker->take(buffer, tensor, data)) {
        return;
    }
    if (taker && !mkllm_commit(tensor->data, ggml_nbytes(tensor))) {
        GGML_ABORT("there is no memory for the weights");
    }
    if (is_whole) {
        mkllm_order(buffer, tensor, data);
    } else {
        original_set(buffer, tensor, data, offset, size);
    }
}

void give_back(ggml_backend_buffer_t buffer) {
    mkllm_release(buffer->context, buffer->size);
}

// Addresses without memory, which comes to what is written.
ggml_backend_buffer_t reserve(ggml_backend_buffer_type_t type, size_t size) {
    ggml_backend_buffer_t model = original_alloc(type, 1);
    if (!model) {
        return nullptr;
    }
    void * memory = mkllm_reserve(size);
    ggml_backend_buffer_t buffer = memory ? ggml_backend_cpu_buffer_from_ptr(memory, size) : nullptr;
    if (buffer) {
        const auto get_base       = buffer->iface.get_base;
        buffer->buft              = type;
        buffer->iface             = model->iface;
        buffer->iface.get_base    = get_base;
        buffer->iface.free_buffer = give_back;
    }
    ggml_backend_buffer_free(model);
    return buffer;
}

ggml_backend_buffer_t alloc_buffer(ggml_backend_buffer_type_t type, size_t size) {
    ggml_backend_buffer_t buffer = taker && size ? reserve(type, size) : original_alloc(type, size);
    if (buffer) {
        original_set             = buffer->iface.set_tensor;
        buffer->iface.set_tensor = set_tensor;
        const uintptr_t begin = ((uintptr_t) ggml_backend_buffer_get_base(buffer) + HUGE_PAGE - 1) & ~(HUGE_PAGE - 1);
        const uintptr_t end   = ((uintptr_t) ggml_backend_buffer_get_base(buffer) + size) & ~(HUGE_PAGE - 1);
        if (begin < end) {
            mkllm_wish_huge_pages((void *) begin, end - begin);
        }
    }
    return buffer;
}

// What these hold could not be taken: such a load is given up before any memory is.
ggml_backend_buffer_t alloc_other(ggml_backend_buffer_type_t type, size_t size) {
    return taker && size ? nullptr : others.at(type)(type, size);
}

}  // namespace

taking::taking(weight_taker & t) {
    taker = &t;
}

taking::~taking() {
    taker = nullptr;
}

unsigned mkllm_processors() {
    return std::min(mkllm_processors_allowed(), MOST);
}

void mkllm_by_all_processors(size_t count, const std::function<void(size_t)> & work) {
    std::atomic<size_t> next{ 0 };
    const auto share = [&] {
        for (size_t i; (i = next.fetch_add(1)) < count;) {
            work(i);
        }
    };
    std::vector<std::thread> threads;
    for (size_t i = 1; i < std::min<size_t>(mkllm_processors(), count); i++) {
        try {
            threads.emplace_back(share);
        } catch (const std::system_error &) {
            break;  // those that there are do it
        }
    }
    share();
    for (std::thread & thread : threads) {
        thread.join();
    }
}

void mkllm_order(ggml_backend_buffer_t buffer, ggml_tensor * tensor, const void * data) {
    const int64_t rows = ggml_nrows(tensor);
    const size_t  size = ggml_nbytes(tensor);
    if (size < SMALL || rows % LAYOUT_ROWS) {
        original_set(buffer, tensor, data, 0, size);
        return;
    }
    mkllm_by_all_processors((size_t) (rows / LAYOUT_ROWS), [&](size_t i) {
        const int64_t first = (int64_t) i * LAYOUT_ROWS;
        set_rows(buffer, *tensor, (const char *) data, first, first + LAYOUT_ROWS);
    });
}

const layout * mkllm_layout(ggml_backend_buffer_t buffer, const ggml_tensor & tensor) {
    // The backend keeps what it has for a kind of tensor in `extra`.
    static std::map<std::pair<ggml_type, void *>, std::optional<layout>> known;
    const auto [found, is_new] = known.try_emplace({ tensor.type, tensor.extra });
    if (is_new && tensor.extra) {
        const size_t block = ggml_type_size(tensor.type);
        found->second = learn_layout((uint32_t) tensor.type, block, [&](const char * plain, char * ordered) {
            ggml_tensor rows = tensor;
            rows.ne[0] = 2 * ggml_blck_size(tensor.type);
            rows.nb[1] = ggml_row_size(tensor.type, rows.ne[0]);
            rows.data  = ordered;
            set_rows(buffer, rows, plain, 0, LAYOUT_ROWS);
        });
    }
    return found->second ? &*found->second : nullptr;
}

void mkllm_quicken_repack() {
    ggml_backend_dev_t cpu = ggml_backend_dev_by_type(GGML_BACKEND_DEVICE_TYPE_CPU);
    if (!cpu || original_alloc) {
        return;
    }
    const auto list = (ggml_backend_dev_get_extra_bufts_t) ggml_backend_reg_get_proc_address(
        ggml_backend_dev_backend_reg(cpu), "ggml_backend_dev_get_extra_bufts");
    for (ggml_backend_buffer_type_t * type = list ? list(cpu) : nullptr; type && *type; type++) {
        if (std::strcmp(ggml_backend_buft_name(*type), "CPU_REPACK") == 0) {
            original_alloc              = (*type)->iface.alloc_buffer;
            (*type)->iface.alloc_buffer = alloc_buffer;
        } else {
            others[*type]               = (*type)->iface.alloc_buffer;
            (*type)->iface.alloc_buffer = alloc_other;
        }
    }
}
