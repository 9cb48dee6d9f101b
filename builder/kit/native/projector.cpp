// Reading projectors (projector.h). Part of mtmd itself, so that it knows nothing but ggml.
#include "projector.h"

#include <stdexcept>

extern "C" {

FILE * (*mkllm_open_projector)(const char * path) = [](const char * path) { return ggml_fopen(path, "rb"); };

gguf_context * mkllm_projector_header(const char * path, gguf_init_params params) {
    const std::unique_ptr<FILE, int (*)(FILE *)> file(mkllm_open_projector(path), std::fclose);
    return file ? gguf_init_from_file_ptr(file.get(), params) : nullptr;
}

}

mkllm_projector_data::mkllm_projector_data(const std::string & path)
    : file_(mkllm_open_projector(path.c_str()), std::fclose) {}

void mkllm_projector_data::seekg(size_t position, std::ios_base::seekdir) {
#ifdef _WIN32
    const int failed = _fseeki64(file_.get(), (long long) position, SEEK_SET);
#else
    const int failed = fseeko(file_.get(), (off_t) position, SEEK_SET);
#endif
    if (failed) {
        throw std::runtime_error("the projector's weights cannot be found");
    }
}

void mkllm_projector_data::read(char * data, size_t size) {
    if (std::fread(data, 1, size, file_.get()) != size) {
        throw std::runtime_error("the projector's weights cannot be read: its file is truncated");
    }
}
