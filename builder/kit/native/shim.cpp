// What the engine does that llama.cpp's own program does not: loads weights, adapters and projectors that lie inside a
// larger open file, loads a given list of backends, reports how loading goes, and ends with its parent. The calls below
// take the place of llama.cpp's by a rename at compile time (CMakeLists.txt). spec/launch.md, section 3.
//
// It knows nothing of artifacts, zip or manifests: only descriptors, offsets and lengths given by the environment.
#include "ggml-backend.h"
#include "mkllm.h"
#include "system.h"

#include <algorithm>
#include <cerrno>
#include <cstdarg>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include <unistd.h>

namespace {

const char PREFIX[] = "embedded:";
const int USAGE = 2;

struct settings {
    std::map<std::string, region> embedded;
    std::string                   split_name, split_path;
    bool                          has_backends = false;
    std::vector<std::string>      backends;
    int                           status_fd = -1;
    std::mutex                    status_lock;
};

// Never destroyed: the lifeline's thread and late log output may outlive static objects.
settings & the() {
    static settings * instance = new settings;
    return *instance;
}

// One line on stderr in one write, so that no other output comes between.
void say(const char * format, std::va_list args) {
    char line[1024] = "mkllm-engine: ";
    const size_t prefix = std::strlen(line);
    const int    wanted = std::vsnprintf(line + prefix, sizeof(line) - prefix - 1, format, args);
    const size_t length = prefix + std::min((size_t) std::max(wanted, 0), sizeof(line) - prefix - 2);
    line[length] = '\n';
    std::fflush(stderr);
    if (write(STDERR_FILENO, line, length + 1) < 0) {
        return;  // nobody is left to tell
    }
}

__attribute__((format(printf, 1, 2))) void complain(const char * format, ...) {
    std::va_list args;
    va_start(args, format);
    say(format, args);
    va_end(args);
}

__attribute__((format(printf, 1, 2), noreturn)) void refuse(const char * format, ...) {
    std::va_list args;
    va_start(args, format);
    say(format, args);
    va_end(args);
    _exit(USAGE);
}

// --- environment -----------------------------------------------------------------------------------------------------

std::string take(const char * name) {
    return mkllm_take_variable(name).value_or("");
}

std::vector<std::string> split(const std::string & text, char separator) {
    std::vector<std::string> parts;
    for (size_t start = 0; start < text.size();) {
        const size_t end = std::min(text.find(separator, start), text.size());
        if (end > start) {
            parts.push_back(text.substr(start, end - start));
        }
        start = end + 1;
    }
    return parts;
}

int descriptor(const char * variable, long long number) {
    const int fd = mkllm_inherited(number);
    if (fd == -1) {
        refuse("%s names the descriptor %lld, which is not open", variable, number);
    }
    return fd;
}

int descriptor_from(const char * variable) {
    const std::string value = take(variable);
    if (value.empty()) {
        return -1;
    }
    char * end = nullptr;
    const long long number = std::strtoll(value.c_str(), &end, 10);
    if (*end) {
        refuse("%s is \"%s\", not a number of a descriptor", variable, value.c_str());
    }
    return descriptor(variable, number);
}

void read_embedded(const std::string & value) {
    for (const std::string & entry : split(value, ';')) {
        const size_t equals = entry.rfind('=');
        long long fd, offset, length;
        char mark = 0, rest;
        const int found = equals == std::string::npos || equals == 0 ? 0 :
            std::sscanf(entry.c_str() + equals + 1, "%lld@%lld:%lld%c%c", &fd, &offset, &length, &mark, &rest);
        const bool packed = found == 4 && mark == 'p';
        if ((found != 3 && !packed) || offset < 0 || length < 0) {
            refuse("MKLLM_EMBEDDED holds \"%s\", not name=fd@offset:length", entry.c_str());
        }
        the().embedded[entry.substr(0, equals)] = { descriptor("MKLLM_EMBEDDED", fd), offset, length, packed };
    }
}

// One model whose files llama.cpp opens itself: it finds the others by the name of the first.
void read_split(const std::string & value) {
    const size_t equals = value.find('=');
    if (!value.empty() && (equals == std::string::npos || equals == 0)) {
        refuse("MKLLM_SPLIT is \"%s\", not name=path", value.c_str());
    }
    the().split_name = value.substr(0, equals);
    the().split_path = value.empty() ? value : value.substr(equals + 1);
}

// --- lifeline --------------------------------------------------------------------------------------------------------

void end_with_parent(int fd) {
    char byte;
    int  n;
    do {
        n = (int) read(fd, &byte, 1);
    } while (n > 0 || (n == -1 && errno == EINTR));
    _exit(0);
}

void hold_lifeline(int fd) {
    if (fd == -1) {
        return;
    }
    if (const int error = mkllm_start_thread(end_with_parent, fd)) {
        refuse("no thread can be started: %s", std::strerror(error));
    }
}

__attribute__((constructor)) void read_environment() {
    read_embedded(take("MKLLM_EMBEDDED"));
    read_split(take("MKLLM_SPLIT"));
    const std::optional<std::string> backends = mkllm_take_variable("MKLLM_BACKENDS");
    the().has_backends = backends.has_value();
    the().backends     = split(backends.value_or(""), MKLLM_SEPARATOR);
    the().status_fd    = descriptor_from("MKLLM_STATUS_FD");
    hold_lifeline(descriptor_from("MKLLM_LIFELINE_FD"));
}

// --- status ----------------------------------------------------------------------------------------------------------

std::string quoted(const std::string & text) {
    std::string out = "\"";
    for (const unsigned char c : text) {
        char escape[8];
        std::snprintf(escape, sizeof escape, c < 0x20 || c == '"' || c == '\\' ? "\\u%04x" : "%c", c);
        out += escape;
    }
    return out + "\"";
}

// One line of JSON. A reader that went away ends the reports, not the engine.
void report(const std::string & line) {
    std::lock_guard<std::mutex> guard(the().status_lock);
    if (the().status_fd == -1) {
        return;
    }
    const std::string text = line + "\n";
    if (mkllm_write_quietly(the().status_fd, text.data(), text.size()) == -1) {
        close(the().status_fd);
        the().status_fd = -1;
    }
}

// What a load's progress callback needs; chains the one that was set before.
struct progress {
    llama_progress_callback before;
    void *                  before_data;
    std::string             path;
    int                     percent = -1;
};

bool on_progress(float value, void * data) {
    progress & p = *(progress *) data;
    const int percent = (int) (value * 100);
    if (percent > p.percent) {
        p.percent = percent;
        char number[16];
        std::snprintf(number, sizeof number, "%d.%02d", percent / 100, percent % 100);
        report("{\"event\":\"progress\",\"value\":" + std::string(number) + ",\"path\":" + quoted(p.path) + "}");
    }
    return p.before ? p.before(value, p.before_data) : true;
}

// --- embedded files --------------------------------------------------------------------------------------------------

bool is_embedded(const char * path) {
    return std::strncmp(path, PREFIX, sizeof PREFIX - 1) == 0;
}

llama_model * load(const char * path, const llama_model_params & params) {
    if (!is_embedded(path)) {
        return llama_model_load_from_file(path, params);
    }
    if (const std::string * first = mkllm_find_split(path)) {
        return llama_model_load_from_file(first->c_str(), params);
    }
    const region * r = mkllm_find_embedded(path);
    return r ? mkllm_load_region(*r, path, params) : nullptr;
}

FILE * open_projector(const char * path) {
    if (!is_embedded(path)) {
        return ggml_fopen(path, "rb");
    }
    const region * r = mkllm_find_embedded(path);
    return r ? mkllm_open(*r, path).release() : nullptr;
}

__attribute__((constructor)) void set_open_projector() {
    mkllm_open_projector = open_projector;
}

bool load_backend(const std::string & file) {
    const bool loaded = ggml_backend_load(mkllm_module_name(file).c_str()) != nullptr;
    report("{\"event\":\"backend\",\"file\":" + quoted(file) + ",\"loaded\":" + (loaded ? "true" : "false") + "}");
    return loaded;
}

void load_backends() {
    bool any = false;
    for (const std::string & file : the().backends) {
        any = load_backend(file) || any;
    }
    if (!any) {
        refuse("none of the modules of MKLLM_BACKENDS could be loaded");
    }
    mkllm_quicken_repack();
}

}  // namespace

// --- in place of llama.cpp's -----------------------------------------------------------------------------------------

const region * mkllm_find_embedded(const char * path) {
    const auto found = the().embedded.find(path + sizeof PREFIX - 1);
    if (found == the().embedded.end()) {
        complain("there is no embedded file \"%s\": MKLLM_EMBEDDED does not name it", path);
        return nullptr;
    }
    const region & r = found->second;
    const int64_t size = mkllm_file_size(r.fd);
    if (size == -1 || r.offset > size || r.length > size - r.offset) {
        complain("the embedded file \"%s\" ends beyond the file that holds it: that file is truncated", path);
        return nullptr;
    }
    return &r;
}

const std::string * mkllm_find_split(const char * path) {
    return !the().split_path.empty() && the().split_name == path + sizeof PREFIX - 1 ? &the().split_path : nullptr;
}

file_ptr mkllm_open(const region & r, const char * path) {
    file_ptr file(mkllm_reopen(r.fd, r.offset), std::fclose);
    if (!file) {
        complain("the embedded file \"%s\" cannot be opened: %s", path, std::strerror(errno));
    }
    return file;
}

void mkllm_report_weights(const char * how) {
    report("{\"event\":\"weights\",\"how\":" + quoted(how) + "}");
}

extern "C" {

llama_model * mkllm_model_load_from_file(const char * path, llama_model_params params) {
    if (the().status_fd == -1 || params.no_alloc || params.vocab_only) {
        return load(path, params);
    }
    progress p = { params.progress_callback, params.progress_callback_user_data, path };
    params.progress_callback           = on_progress;
    params.progress_callback_user_data = &p;
    llama_model * model = load(path, params);
    if (model) {
        report("{\"event\":\"loaded\",\"path\":" + quoted(path) + "}");
    }
    return model;
}

llama_adapter_lora * mkllm_adapter_lora_init(llama_model * model, const char * path) {
    if (!is_embedded(path)) {
        return llama_adapter_lora_init(model, path);
    }
    const region * r    = mkllm_find_embedded(path);
    const file_ptr file = r ? mkllm_open(*r, path) : file_ptr(nullptr, std::fclose);
    return file ? llama_adapter_lora_init_from_file_ptr(model, file.get()) : nullptr;
}

void mkllm_backend_load_all(void) {
    if (!the().has_backends) {
        ggml_backend_load_all();
        return;
    }
    static std::once_flag once;
    std::call_once(once, load_backends);
}

void mkllm_backend_init(void) {
    mkllm_backend_load_all();
    llama_backend_init();
}

}
