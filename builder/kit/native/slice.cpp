// `slice MEGABYTES`: writes to standard output a GGUF that is the embedded model in small: its first layers, about so many
// megabytes of them, and that share of its vocabulary which the layers are of all layers, so that the time which it takes
// for a token is that same share of the whole model's. It can be run, not talked to: it has no tokenizer.
//
// Says on standard error nothing, or one line when it cannot; exit status 0 or 1.
#include "ggml-cpp.h"
#include "gguf.h"
#include "mkllm.h"
#include "prepacked.h"
#include "system.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <map>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

namespace {

const char    MODEL[]     = "embedded:model.gguf";
const char    BLOCK[]     = "blk.";
const int64_t ROWS        = 256;  // interleaved layouts take rows by the group, K-quants columns by 256
const size_t  BUFFER_SIZE = 1 << 20;

// One of the files that the model lies in, mostly the only one.
struct part {
    explicit part(file_ptr opened) : file(std::move(opened)) {
        ggml_context * found = nullptr;
        header.reset(file ? gguf_init_from_file_ptr(file.get(), { /*.no_alloc =*/ true, /*.ctx =*/ &found }) : nullptr);
        tensors.reset(found);
        if (!header) {
            throw std::runtime_error("the model's header cannot be read");
        }
    }

    file_ptr         file;
    gguf_context_ptr header;
    ggml_context_ptr tensors;
};

std::vector<part> parts_of(const std::string & first) {
    std::vector<part> parts;
    parts.emplace_back(file_ptr(ggml_fopen(first.c_str(), "rb"), std::fclose));
    const int64_t id    = gguf_find_key(parts[0].header.get(), "split.count");
    const int     count = id < 0 ? 1 : gguf_get_val_u16(parts[0].header.get(), id);
    char prefix[4096], path[4096];
    if (!llama_split_prefix(prefix, sizeof prefix, first.c_str(), 0, count)) {
        throw std::runtime_error("the name of the model's file says nothing of its other parts");
    }
    for (int i = 1; i < count; i++) {
        llama_split_path(path, sizeof path, prefix, i, count);
        parts.emplace_back(file_ptr(ggml_fopen(path, "rb"), std::fclose));
    }
    return parts;
}

// A tensor of the slice and where its data begins in the file of that part.
struct piece {
    ggml_tensor * tensor;
    const part *  source;
    size_t        offset;
};

class slice {
public:
    explicit slice(std::vector<part> parts, std::unique_ptr<prepacked> packed = nullptr, size_t start = 0)
        : parts_(std::move(parts)), packed_(std::move(packed)), start_(start) {
        architecture_ = string("general.architecture");
        layers_       = number(architecture_ + ".block_count", 0);
        skipped_      = std::min(number(architecture_ + ".leading_dense_block_count", 0), layers_ - 1);
        const ggml_tensor * embeddings = nullptr;
        for (const part & p : parts_) {
            const ggml_tensor * found = ggml_get_tensor(p.tensors.get(), "token_embd.weight");
            embeddings = found ? found : embeddings;
        }
        if (layers_ < 1 || !embeddings) {
            throw std::runtime_error("the model has no layers, or no embeddings of tokens");
        }
        vocabulary_ = embeddings->ne[1];
    }

    void write(size_t most, int out) {
        choose(most);
        header();
        std::vector<char> meta(gguf_get_meta_size(target_.get()));
        gguf_get_meta_data(target_.get(), meta.data());
        put(out, meta.data(), meta.size());
        for (const piece & p : pieces_) {
            copy(p, out);
        }
    }

private:
    // The layer that a tensor belongs to, -1 for none.
    static int64_t layer_of(const char * name) {
        return std::strncmp(name, BLOCK, sizeof BLOCK - 1) ? -1 : std::strtoll(name + sizeof BLOCK - 1, nullptr, 10);
    }

    void choose(size_t most) {
        std::map<int64_t, size_t> sizes;
        for (const part & p : parts_) {
            ggml_context * all = p.tensors.get();
            for (ggml_tensor * t = ggml_get_first_tensor(all); t; t = ggml_get_next_tensor(all, t)) {
                sizes[layer_of(t->name)] += ggml_nbytes(t);
            }
        }
        size_t total = 0;
        for (count_ = 0; skipped_ + count_ < layers_ && total < most; count_++) {
            total += sizes[skipped_ + count_] + sizes[-1] / layers_;
        }
        rows_ = std::min(vocabulary_, std::max(ROWS, vocabulary_ * count_ / layers_ / ROWS * ROWS));
    }

    // Metadata and tensors of the slice; their data is only noted.
    void header() {
        target_.reset(gguf_init_empty());
        gguf_set_kv(target_.get(), source());
        for (int64_t i = gguf_get_n_kv(source()) - 1; i >= 0; i--) {
            adapt(i);
        }
        gguf_set_val_str(target_.get(), "tokenizer.ggml.model", "no_vocab");
        gguf_set_val_u32(target_.get(), (architecture_ + ".vocab_size").c_str(), (uint32_t) rows_);
        gguf_set_val_u32(target_.get(), (architecture_ + ".block_count").c_str(), (uint32_t) count_);
        size_t number = 0;
        for (const part & p : parts_) {
            number += (size_t) gguf_get_n_tensors(p.header.get());
        }
        made_.reset(ggml_init({ number * ggml_tensor_overhead(), nullptr, /*.no_alloc =*/ true }));
        for (const part & p : parts_) {
            for (int64_t i = 0; i < gguf_get_n_tensors(p.header.get()); i++) {
                add(p, i);
            }
        }
    }

    void adapt(int64_t id) {
        const char * key = gguf_get_key(source(), id);
        const std::string prefix = architecture_ + ".";
        if (!std::strncmp(key, "tokenizer.", 10) || !std::strncmp(key, "split.", 6)) {
            gguf_remove_key(target_.get(), key);
        } else if (key == prefix + "leading_dense_block_count" || key == prefix + "nextn_predict_layers") {
            gguf_set_val_u32(target_.get(), key, 0);
        } else if (gguf_get_kv_type(source(), id) == GGUF_TYPE_ARRAY) {
            adapt_array(id, key);
        }
    }

    // What is said for each layer is said for these.
    void adapt_array(int64_t id, const char * key) {
        const gguf_type type = gguf_get_arr_type(source(), id);
        if ((int64_t) gguf_get_arr_n(source(), id) != layers_ || type == GGUF_TYPE_STRING || type == GGUF_TYPE_ARRAY) {
            return;
        }
        static const std::map<gguf_type, size_t> WIDTHS = {
            { GGUF_TYPE_UINT8, 1 },  { GGUF_TYPE_INT8, 1 },   { GGUF_TYPE_BOOL, 1 },   { GGUF_TYPE_UINT16, 2 },
            { GGUF_TYPE_INT16, 2 },  { GGUF_TYPE_UINT32, 4 }, { GGUF_TYPE_INT32, 4 },  { GGUF_TYPE_FLOAT32, 4 },
            { GGUF_TYPE_UINT64, 8 }, { GGUF_TYPE_INT64, 8 },  { GGUF_TYPE_FLOAT64, 8 },
        };
        const char * data = (const char *) gguf_get_arr_data(source(), id) + WIDTHS.at(type) * skipped_;
        gguf_set_arr_data(target_.get(), key, type, data, (size_t) count_);
    }

    void add(const part & p, int64_t id) {
        const std::string name  = gguf_get_tensor_name(p.header.get(), id);
        const int64_t     layer = layer_of(name.c_str());
        if (layer >= 0 && (layer < skipped_ || layer >= skipped_ + count_)) {
            return;
        }
        const ggml_tensor * old = ggml_get_tensor(p.tensors.get(), name.c_str());
        int64_t shape[GGML_MAX_DIMS];
        std::copy(old->ne, old->ne + GGML_MAX_DIMS, shape);
        if (layer < 0) {  // embeddings, output: the last dimension is the vocabulary's
            int64_t & last = shape[std::max(ggml_n_dims(old) - 1, 0)];
            last = last == vocabulary_ ? rows_ : last;
        }
        ggml_tensor * tensor = ggml_new_tensor(made_.get(), old->type, ggml_n_dims(old), shape);
        const size_t dot = name.find('.', sizeof BLOCK - 1);
        ggml_set_name(tensor, layer < 0 ? name.c_str() : (BLOCK + std::to_string(layer - skipped_) + name.substr(dot)).c_str());
        gguf_add_tensor(target_.get(), tensor);
        const gguf_context * header = p.header.get();
        pieces_.push_back({ tensor, &p, gguf_get_data_offset(header) + gguf_get_tensor_offset(header, id) });
    }

    void copy(const piece & p, int out) const {
        std::vector<char> buffer(BUFFER_SIZE);
        size_t offset = p.offset, left = ggml_nbytes(p.tensor);
        const size_t alignment = gguf_get_alignment(target_.get());
        const size_t padding   = (alignment - left % alignment) % alignment;
        while (left) {
            const size_t n = read(*p.source, offset, std::min(buffer.size(), left), buffer.data());
            put(out, buffer.data(), n);
            offset += n;
            left -= n;
        }
        const std::vector<char> zeros(padding);
        put(out, zeros.data(), padding);
    }

    // Plain weights from `offset` of the file that holds those of the part.
    size_t read(const part & p, size_t offset, size_t size, char * data) const {
        if (packed_) {
            packed_->read(offset - start_, size, data);
            return size;
        }
        const int64_t n = mkllm_read_at(fileno(p.file.get()), data, size, (int64_t) offset);
        if (n <= 0) {
            throw std::runtime_error("the model's weights cannot be read");
        }
        return (size_t) n;
    }

    static void put(int out, const char * data, size_t size) {
        while (size) {
            const int64_t n = mkllm_write(out, data, size);
            if (n < 0) {
                throw std::runtime_error(std::string("the slice cannot be written: ") + std::strerror(errno));
            }
            data += n;
            size -= (size_t) n;
        }
    }

    // The header that says all of the model but where the tensors of other parts are.
    const gguf_context * source() const { return parts_[0].header.get(); }

    std::string string(const std::string & key) const {
        const int64_t id = gguf_find_key(source(), key.c_str());
        if (id < 0 || gguf_get_kv_type(source(), id) != GGUF_TYPE_STRING) {
            throw std::runtime_error("the model does not say its " + key);
        }
        return gguf_get_val_str(source(), id);
    }

    int64_t number(const std::string & key, int64_t otherwise) const {
        const int64_t id = gguf_find_key(source(), key.c_str());
        return id < 0 || gguf_get_kv_type(source(), id) != GGUF_TYPE_UINT32 ? otherwise
                                                                               : gguf_get_val_u32(source(), id);
    }

    std::vector<part>          parts_;
    std::unique_ptr<prepacked> packed_;
    size_t                     start_;  // of the model in its file
    gguf_context_ptr   target_;
    ggml_context_ptr   made_;
    std::string        architecture_;
    int64_t            layers_ = 0, skipped_ = 0, count_ = 0, vocabulary_ = 0, rows_ = 0;
    std::vector<piece> pieces_;
};

}  // namespace

namespace {

slice whole(const region & file, file_ptr opened) {
    std::vector<part> parts;
    parts.emplace_back(std::move(opened));
    return slice(std::move(parts), prepacked::open(file), (size_t) file.offset);
}

}  // namespace

int mkllm_slice(const char * megabytes) {
    const std::string * first = mkllm_find_split(MODEL);
    const region * r = first ? nullptr : mkllm_find_embedded(MODEL);
    file_ptr file    = r ? mkllm_open(*r, MODEL) : file_ptr(nullptr, std::fclose);
    if (!first && !file) {
        return 1;
    }
    mkllm_binary_output();
    try {
        slice made = first ? slice(parts_of(*first)) : whole(*r, std::move(file));
        made.write((size_t) std::strtoull(megabytes, nullptr, 10) << 20, fileno(stdout));
    } catch (const std::exception & error) {
        std::fprintf(stderr, "mkllm-engine: %s\n", error.what());
        return 1;
    }
    return 0;
}
