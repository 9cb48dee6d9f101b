// The program's entry: our own commands, else llama.cpp's (its `main` is renamed at compile time, CMakeLists.txt).
#include "mkllm.h"
#include "system.h"

#include <cstring>

int llama_app_main(int argc, char ** argv);

int main(int argc, char ** argv) {
    mkllm_prepare_process(argc, argv);
    if (argc == 3 && std::strcmp(argv[1], "slice") == 0) {
        return mkllm_slice(argv[2]);
    }
    if (argc == 2 && std::strcmp(argv[1], "measure") == 0) {
        return mkllm_measure();
    }
    if (argc == 2 && std::strcmp(argv[1], "prepack") == 0) {
        return mkllm_prepack();
    }
    if (argc == 2 && std::strcmp(argv[1], "in-place") == 0) {
        return mkllm_in_place();
    }
    if (argc == 2 && std::strcmp(argv[1], "restore") == 0) {
        return mkllm_restore();
    }
    if (argc == 3 && std::strcmp(argv[1], "projector") == 0) {
        return mkllm_projector(argv[2]);
    }
    return llama_app_main(argc, argv);
}
