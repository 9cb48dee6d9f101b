// Prepacked weights: made, used and undone.
//
//     prepack    orders the weights of the embedded model, in its file, as the loaded backend has them; what lies behind it
//                in the file is overwritten. Says {"done":BYTES} as it goes, at last {"size":…,"tensors":…,"bytes":…}: the
//                size of the file now, and what was ordered of it. With no tensor to order nothing is written.
//     in-place   whether the loaded backend uses the weights of the embedded model as they lie there: {"in_place":true}
//     restore    writes the plain GGUF of the embedded model to standard output
//
// Each says on standard error nothing, or one line when it cannot; exit status 0 or 1.
#include "ggml-backend-impl.h"
#include "gguf.h"
#include "ggml-cpp.h"
#include "prepacked.h"
#include "repack.h"
#include "system.h"

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstdint>
#include <cstring>
#include <set>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include <unistd.h>

// llama.cpp's own, of src/llama-model.h: all tensors, those that are there twice too.
const std::vector<std::pair<std::string, ggml_tensor *>> & llama_internal_get_tensor_map(const llama_model * model);

namespace {

const char     MODEL[]   = "embedded:model.gguf";
const char     REPACK[]  = "CPU_REPACK";
const uint64_t ALIGNMENT = 64;

using model_ptr = std::unique_ptr<llama_model, void (*)(llama_model *)>;

const region & embedded() {
    const region * r = mkllm_find_embedded(MODEL);
    if (!r) {
        throw std::runtime_error("there is no model");
    }
    return *r;
}

model_ptr load(const region & r, const char * path, const llama_model_params & params) {
    const file_ptr file = mkllm_open(r, path);
    return model_ptr(file ? llama_model_load_from_file_ptr(file.get(), params) : nullptr, llama_model_free);
}

void write_all(int fd, const char * data, size_t size, int64_t at) {
    while (size) {
        const int64_t n = at < 0 ? mkllm_write(fd, data, size) : mkllm_write_at(fd, data, size, at);
        if (n < 0) {
            throw std::runtime_error(std::string("the weights cannot be written: ") + std::strerror(errno));
        }
        data += n;
        size -= (size_t) n;
        at += at < 0 ? 0 : n;
    }
}

// Looks which tensors the backend orders; nothing is read or written.
class looking : public weight_taker {
public:
    bool take(ggml_backend_buffer_t buffer, ggml_tensor * tensor, const void *) override {
        const layout * l = mkllm_layout(buffer, *tensor);
        if (l && ggml_nrows(tensor) % l->rows == 0) {
            found[tensor->name] = l;
        }
        return true;
    }

    std::map<std::string, const layout *> found;
};

// Writes ordered weights to where they shall lie.
class writing : public weight_taker {
public:
    writing(const region & file, const std::map<std::string, prepacked_tensor> & plan) : file_(file), plan_(plan) {}

    bool take(ggml_backend_buffer_t buffer, ggml_tensor * tensor, const void * data) override {
        const auto found = plan_.find(tensor->name);
        if (found == plan_.end() || failure) {
            return true;
        }
        try {
            if (!mkllm_commit(tensor->data, ggml_nbytes(tensor))) {
                throw std::runtime_error("there is no memory for the weights");
            }
            mkllm_order(buffer, tensor, data);
            const prepacked_tensor & t = found->second;
            write_all(file_.fd, (const char *) tensor->data, t.size, file_.offset + (int64_t) t.at);
            forget(tensor->data, t.size);
            done += t.size;
            std::printf("{\"done\":%llu}\n", (unsigned long long) done);
            std::fflush(stdout);
        } catch (...) {
            failure = std::current_exception();
        }
        return true;
    }

    uint64_t           done = 0;
    std::exception_ptr failure;

private:
    // So that at any time only one tensor takes memory.
    static void forget(void * data, size_t size) {
        const uintptr_t page = mkllm_page(), begin = ((uintptr_t) data + page - 1) / page * page;
        const uintptr_t end = ((uintptr_t) data + size) / page * page;
        if (begin < end) {
            mkllm_forget((void *) begin, end - begin);
        }
    }

    region                                          file_;
    const std::map<std::string, prepacked_tensor> & plan_;
};

// Has tensors use their weights where these are mapped, if they are ordered as the backend would order them.
class using_them : public weight_taker {
public:
    using_them(const prepacked & weights, const region & file, bool lock) : weights_(weights), lock_(lock) {
        const int64_t before = file.offset % (int64_t) mkllm_granularity();
        size_ = (size_t) (file.length + before);
        map_  = mkllm_map(file.fd, file.offset - before, size_);
        base_ = map_ ? (char *) map_ + before : nullptr;
        if (base_) {
            mkllm_wish_huge_pages(map_, size_);
        }
    }

    ~using_them() override {
        if (base_ && !is_kept) {
            mkllm_unmap(map_, size_);
        }
    }

    using_them(const using_them &) = delete;

    bool take(ggml_backend_buffer_t buffer, ggml_tensor * tensor, const void *) override {
        const auto found = weights_.tensors.find(tensor->name);
        if (found == weights_.tensors.end()) {
            return false;
        }
        const prepacked_tensor & t = found->second;
        const layout * l = mkllm_layout(buffer, *tensor);
        if (!base_ || !l || !(*l == weights_.layouts[t.layout]) || t.size != ggml_nbytes(tensor)) {
            is_right_ = false;
            return true;
        }
        tensor->data = base_ + t.at;
        if (lock_) {
            const uintptr_t page = mkllm_page(), begin = (uintptr_t) tensor->data / page * page;
            mkllm_wish_locked((void *) begin, (uintptr_t) tensor->data + t.size - begin);
        }
        taken_.insert(tensor->name);
        return true;
    }

    bool is_kept = false;

    // All that is ordered in the file was taken, so none of it was taken for plain weights.
    bool is_complete() const { return is_right_ && taken_.size() == weights_.tensors.size(); }

private:
    const prepacked &     weights_;
    bool                  lock_, is_right_ = true;
    void *                map_;
    size_t                size_;
    char *                base_;
    std::set<std::string> taken_;
};

// A model that shares the weights of its file, which stays mapped for as long as this process lives. None when the weights
// are not ordered as the backend would order them.
model_ptr load_in_place(const region & r, const prepacked & weights, const char * path, llama_model_params params) {
    const bool lock = params.load_mode == LLAMA_LOAD_MODE_MLOCK || params.load_mode == LLAMA_LOAD_MODE_MMAP_MLOCK;
    params.check_tensors     = false;  // it would take them for plain ones
    params.progress_callback = [](float, void *) { return true; };  // until it is clear that this is the load
    using_them them(weights, r, lock);
    const taking now(them);
    model_ptr model = load(r, path, params);
    them.is_kept = model && them.is_complete();
    if (!them.is_kept) {
        model.reset();
    }
    return model;
}

// A GPU takes weights as they are.
bool has_gpu(const llama_model_params & params) {
    if (params.devices) {
        return params.devices[0] != nullptr;
    }
    for (size_t i = 0; i < ggml_backend_dev_count(); i++) {
        if (ggml_backend_dev_type(ggml_backend_dev_get(i)) != GGML_BACKEND_DEVICE_TYPE_CPU) {
            return true;
        }
    }
    return false;
}

// The plain GGUF in memory; its descriptor is the caller's.
region restored(const prepacked & weights, const llama_model_params & params) {
    const region memory = { mkllm_memory_file(), 0, (int64_t) weights.plain_size };
    if (memory.fd < 0) {
        throw std::runtime_error(std::string("there is no memory for the plain weights: ") + std::strerror(errno));
    }
    try {
        int64_t done = 0;
        weights.restore([&](const char * data, size_t size) {
            write_all(memory.fd, data, size, done);
            done += (int64_t) size;
            if (params.progress_callback) {
                params.progress_callback((float) done / (float) memory.length, params.progress_callback_user_data);
            }
        });
    } catch (...) {
        close(memory.fd);
        throw;
    }
    return memory;
}

// Frees the memory of what the model has a copy of, in another layout or on a GPU.
void forget_copied(const region & memory, const llama_model * model, const gguf_context & header, const ggml_context & shapes) {
    std::set<std::string> mapped;
    for (const auto & [name, tensor] : llama_internal_get_tensor_map(model)) {
        if (tensor->buffer && ggml_backend_buffer_is_host(tensor->buffer)) {
            mapped.insert(name);
        }
    }
    const int64_t page = (int64_t) mkllm_page();
    for (int64_t i = 0; i < gguf_get_n_tensors(&header); i++) {
        const char * name = gguf_get_tensor_name(&header, i);
        if (mapped.count(name)) {
            continue;
        }
        const int64_t at    = (int64_t) (gguf_get_data_offset(&header) + gguf_get_tensor_offset(&header, i));
        const int64_t begin = (at + page - 1) / page * page;
        const int64_t end   = (at + (int64_t) ggml_nbytes(ggml_get_tensor(const_cast<ggml_context *>(&shapes), name))) / page * page;
        if (begin < end) {
            mkllm_punch(memory.fd, begin, end);
        }
    }
}

// A GGUF's header.
struct header {
    header(const region & r, const char * path) {
        const file_ptr file = mkllm_open(r, path);
        ggml_context * context = nullptr;
        if (file) {
            facts.reset(gguf_init_from_file_ptr(file.get(), { /*.no_alloc =*/ true, /*.ctx =*/ &context }));
            shapes.reset(context);
        }
        if (!facts) {
            throw std::runtime_error("the model's header cannot be read");
        }
    }

    gguf_context_ptr facts;
    ggml_context_ptr shapes;
};

// Where there is no room for a second copy in another order, the plain weights are used as they are.
model_ptr load_restored(const prepacked & weights, const char * path, llama_model_params params) {
    const uint64_t room = mkllm_free_memory();
    if (weights.plain_size > room) {
        throw std::runtime_error(
            "the weights are prepacked for other kernels, and to restore them takes " + std::to_string(weights.plain_size >> 20) +
            " MiB of memory, of which " + std::to_string(room >> 20) + " MiB are free: free some, or build without --prepack");
    }
    params.use_extra_bufts = params.use_extra_bufts && weights.plain_size < room / 2;
    const region memory = restored(weights, params);
    model_ptr model = load(memory, path, params);
    if (model) {
        const header h(memory, path);
        forget_copied(memory, model.get(), *h.facts, *h.shapes);
    }
    close(memory.fd);
    return model;
}

llama_model_params quiet_params() {
    llama_model_params params = llama_model_default_params();
    params.load_mode         = LLAMA_LOAD_MODE_MMAP;
    params.progress_callback = [](float, void *) { return true; };
    return params;
}

// Which of the model's tensors to order, and where.
class plan {
public:
    explicit plan(const region & r) : file_(r) {
        looking look;
        std::set<std::string> plain;
        {
            const taking now(look);
            const model_ptr model = load(file_, MODEL, quiet_params());
            if (!model) {
                throw std::runtime_error("the model cannot be loaded, or this kernel orders weights in more ways than can be stored");
            }
            for (const auto & [name, tensor] : llama_internal_get_tensor_map(model.get())) {
                if (std::strcmp(ggml_backend_buffer_name(tensor->buffer), REPACK) != 0) {
                    plain.insert(name);
                }
            }
        }
        end = (uint64_t) file_.length;
        const header h(file_, MODEL);
        for (const auto & [name, l] : look.found) {
            add(*h.facts, *ggml_get_tensor(h.shapes.get(), name.c_str()), *l, plain.count(name) > 0);
        }
    }

    std::map<std::string, prepacked_tensor> tensors;
    std::vector<layout>                     layouts;
    uint64_t                                end = 0, bytes = 0;

private:
    void add(const gguf_context & header, const ggml_tensor & shape, const layout & l, bool is_needed_plain) {
        prepacked_tensor t;
        t.size     = ggml_nbytes(&shape);
        t.row_size = (uint32_t) ggml_row_size(shape.type, shape.ne[0]);
        t.layout   = (uint32_t) (std::find(layouts.begin(), layouts.end(), l) - layouts.begin());
        if (t.layout == layouts.size()) {
            layouts.push_back(l);
        }
        if (is_needed_plain) {
            t.at = end = (end + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
            end += t.size;
        } else {
            const int64_t id = gguf_find_tensor(&header, shape.name);
            t.at = gguf_get_data_offset(&header) + gguf_get_tensor_offset(&header, id) - (uint64_t) file_.offset;
        }
        bytes += t.size;
        tensors[shape.name] = t;
    }

    region file_;
};

void prepack() {
    const region & r = embedded();
    mkllm_backend_load_all();
    const plan p(r);
    uint64_t size = (uint64_t) r.length;
    if (!p.tensors.empty()) {
        writing writer(r, p.tensors);
        {
            const taking now(writer);
            load(r, MODEL, quiet_params());
        }
        if (writer.failure) {
            std::rethrow_exception(writer.failure);
        }
        if (writer.done != p.bytes) {
            throw std::runtime_error("not all of the weights were ordered");
        }
        const std::string index = prepacked::index((uint64_t) r.length, p.layouts, p.tensors);
        write_all(r.fd, index.data(), index.size(), r.offset + (int64_t) p.end);
        size = p.end + index.size();
    }
    std::printf("{\"size\":%llu,\"tensors\":%zu,\"bytes\":%llu}\n", (unsigned long long) size, p.tensors.size(),
                (unsigned long long) p.bytes);
}

void in_place() {
    const region & r = embedded();
    mkllm_backend_load_all();
    const std::unique_ptr<prepacked> weights = prepacked::open(r);
    const bool is = weights && load_in_place(r, *weights, MODEL, quiet_params());
    std::printf("{\"in_place\":%s}\n", is ? "true" : "false");
}

void restore() {
    const region & r = embedded();
    const std::unique_ptr<prepacked> weights = prepacked::open(r);
    if (!weights) {
        throw std::runtime_error("the weights are not prepacked");
    }
    weights->restore([](const char * data, size_t size) { write_all(fileno(stdout), data, size, -1); });
}

int run(void (*command)()) {
    mkllm_binary_output();
    llama_log_set([](ggml_log_level level, const char * text, void *) {
        if (level == GGML_LOG_LEVEL_ERROR) {
            std::fputs(text, stderr);
        }
    }, nullptr);
    try {
        command();
        return 0;
    } catch (const std::exception & error) {
        std::fprintf(stderr, "mkllm-engine: %s\n", error.what());
        return 1;
    }
}

}  // namespace

llama_model * mkllm_load_region(const region & r, const char * path, const llama_model_params & params) {
    try {
        const std::unique_ptr<prepacked> weights = prepacked::open(r);
        if (!weights || params.vocab_only || params.no_alloc) {
            return load(r, path, params).release();
        }
        model_ptr model(nullptr, llama_model_free);
        if (params.use_extra_bufts && !has_gpu(params)) {
            model = load_in_place(r, *weights, path, params);
        }
        mkllm_report_weights(model ? "in place" : "restored");
        return model ? model.release() : load_restored(*weights, path, params).release();
    } catch (const std::exception & error) {
        std::fprintf(stderr, "mkllm-engine: %s\n", error.what());
        return nullptr;
    }
}

int mkllm_prepack() {
    return run(prepack);
}

int mkllm_in_place() {
    return run(in_place);
}

int mkllm_restore() {
    return run(restore);
}
