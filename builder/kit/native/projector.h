// Included before clip.cpp, which opens projectors by their paths: one may lie in the middle of a file that is open already.
#pragma once

#include "clip-impl.h"  // first: it defines what is renamed below

#include <cstddef>
#include <cstdio>
#include <ios>
#include <memory>
#include <string>

extern "C" {
// Opens what is at that path, placed where its GGUF begins; null for none. The engine puts its own here (shim.cpp).
extern FILE * (*mkllm_open_projector)(const char * path);

gguf_context * mkllm_projector_header(const char * path, gguf_init_params params);
}

// In place of a std::ifstream, with as much of it as clip.cpp asks for. Positions are those of the file that holds the projector,
// as its header has them. Raises std::runtime_error for what cannot be read.
class mkllm_projector_data {
public:
    explicit mkllm_projector_data(const std::string & path);

    bool operator!() const { return !file_; }
    void seekg(size_t position, std::ios_base::seekdir);
    void read(char * data, size_t size);
    void close() { file_.reset(); }

private:
    std::unique_ptr<FILE, int (*)(FILE *)> file_;
};

#define gguf_init_from_file mkllm_projector_header
#define open_ifstream_binary mkllm_projector_data
