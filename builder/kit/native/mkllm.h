// What the files of this folder share.
#pragma once

#include "llama.h"

#include <cstdint>
#include <cstdio>
#include <functional>
#include <memory>
#include <string>

extern "C" {
// In place of llama.cpp's functions of the same names (shim.cpp).
llama_model *        mkllm_model_load_from_file(const char * path, llama_model_params params);
llama_adapter_lora * mkllm_adapter_lora_init(llama_model * model, const char * path);
void                 mkllm_backend_load_all(void);
void                 mkllm_backend_init(void);

// How a projector is opened, placed where its GGUF begins (projector.cpp); null for none.
extern FILE * (*mkllm_open_projector)(const char * path);
}

using file_ptr = std::unique_ptr<FILE, int (*)(FILE *)>;

// A part of an open file: `length` bytes from `offset`. `packed`: it is said to hold prepacked weights.
struct region {
    int     fd;
    int64_t offset;
    int64_t length;
    bool    packed = false;
};

// Where the file "embedded:<name>" lies; null after a complaint (shim.cpp).
const region * mkllm_find_embedded(const char * path);

// The first of the files that "embedded:<name>" is split into; null where it lies in one (shim.cpp).
const std::string * mkllm_find_split(const char * path);

// A file with a description of its own, placed at the start of the region; null after a complaint that names `path` (shim.cpp).
file_ptr mkllm_open(const region & r, const char * path);

// A model whose file lies there, prepacked or plain (prepack.cpp); null after a complaint.
llama_model * mkllm_load_region(const region & r, const char * path, const llama_model_params & params);

// Tells the front how prepacked weights are used: "in place" or "restored" (shim.cpp).
void mkllm_report_weights(const char * how);

// Does parts 0 to `count` of some work by all processors that this process may use; a container's limit does not matter for
// work that waits for memory. Fewer threads do it where no more can be started (repack.cpp).
void mkllm_by_all_processors(size_t count, const std::function<void(size_t)> & work);
unsigned mkllm_processors();

// Have repacked weights written by all processors, into huge pages (repack.cpp). To be called once the modules are loaded.
void mkllm_quicken_repack();

// Commands (measure.cpp, prepack.cpp, projector_facts.cpp, slice.cpp); they return the exit status.
int mkllm_slice(const char * megabytes);
int mkllm_measure();
int mkllm_projector(const char * path);
int mkllm_prepack();
int mkllm_restore();
int mkllm_in_place();
