// What the files of this folder share.
#pragma once

#include "llama.h"

#include <cstdio>
#include <memory>

extern "C" {
// In place of llama.cpp's functions of the same names (shim.cpp).
llama_model *        mkllm_model_load_from_file(const char * path, llama_model_params params);
llama_adapter_lora * mkllm_adapter_lora_init(llama_model * model, const char * path);
void                 mkllm_backend_load_all(void);
void                 mkllm_backend_init(void);
}

using file_ptr = std::unique_ptr<FILE, int (*)(FILE *)>;

// The file "embedded:<name>", placed at its start, with a file description of its own; null after a complaint (shim.cpp).
file_ptr mkllm_open_embedded(const char * path);

// Have repacked weights written by all processors, into huge pages (repack.cpp). To be called once the modules are loaded.
void mkllm_quicken_repack();

// Commands (slice.cpp, measure.cpp); they return the exit status.
int mkllm_slice(const char * megabytes);
int mkllm_measure();
