// A model whose weights lie in the file as a CPU backend orders them, so that they are used where they are mapped: the GGUF
// with the weights of these tensors ordered, behind it ordered copies of tensors that are needed plain too, then an index
// (spec/artifact.md, "Prepacked weights"). From it the plain GGUF can be had again, bit for bit.
#pragma once

#include "layout.h"
#include "mkllm.h"

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

struct prepacked_tensor {
    uint64_t at       = 0;  // of the ordered weights, from the beginning of the file
    uint64_t size     = 0;
    uint32_t row_size = 0;
    uint32_t layout   = 0;  // index of its layout
};

class prepacked {
public:
    // None for a file that is said to be plain. Raises std::runtime_error when the index is damaged, or too new.
    static std::unique_ptr<prepacked> open(const region & file);

    // The index of tensors ordered, to be written at the end of the file.
    static std::string index(uint64_t plain_size, const std::vector<layout> & layouts,
                             const std::map<std::string, prepacked_tensor> & tensors);

    // `size` bytes of the plain GGUF from `offset`. Raises std::runtime_error.
    void read(uint64_t offset, size_t size, char * out) const;

    // Hands over the plain GGUF, piece by piece in order, made by all processors. Raises std::runtime_error.
    void restore(const std::function<void(const char * data, size_t size)> & take) const;

    uint64_t                                plain_size = 0;
    std::vector<layout>                     layouts;
    std::map<std::string, prepacked_tensor> tensors;

private:
    explicit prepacked(const region & file) : file_(file) {}

    void parse(const std::string & index);
    void raw(uint64_t offset, size_t size, char * out) const;

    region                                      file_;
    std::vector<unordering>                     unorderings_;
    std::map<uint64_t, const prepacked_tensor *> ordered_;  // those within the GGUF, by their offsets
};
