// What the engine does that llama.cpp's own program does not: loads weights that lie inside a larger open file, loads a
// given list of backends, reports how loading goes, and ends with its parent. The calls below take the place of
// llama.cpp's by a rename at compile time (CMakeLists.txt). spec/launch.md, section 3.
//
// It knows nothing of artifacts, zip or manifests: only descriptors, offsets and lengths given by the environment.
#include "ggml-backend.h"
#include "mkllm.h"

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstdarg>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include <fcntl.h>
#include <pthread.h>
#include <sys/stat.h>
#include <unistd.h>

namespace {

const char PREFIX[] = "embedded:";
const int USAGE = 2;

struct settings {
    std::map<std::string, region> embedded;
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
    const char * value = std::getenv(name);
    std::string copy = value ? value : "";
    unsetenv(name);
    return copy;
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

// A descriptor that this process was given; from here on it stays in this process.
int descriptor(const char * variable, long long number) {
    if (number < 0 || number > 1 << 20 || fcntl((int) number, F_SETFD, FD_CLOEXEC) == -1) {
        refuse("%s names the descriptor %lld, which is not open", variable, number);
    }
    return (int) number;
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
        the().embedded[entry.substr(0, equals)] = { descriptor("MKLLM_EMBEDDED", fd), (off_t) offset, (off_t) length, packed };
    }
}

// --- lifeline --------------------------------------------------------------------------------------------------------

void * end_with_parent(void * argument) {
    const int fd = (int) (intptr_t) argument;
    char byte;
    ssize_t n;
    do {
        n = read(fd, &byte, 1);
    } while (n > 0 || (n == -1 && errno == EINTR));
    _exit(0);
}

void hold_lifeline(int fd) {
    if (fd == -1) {
        return;
    }
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    pthread_t thread;
    const int error = pthread_create(&thread, nullptr, end_with_parent, (void *) (intptr_t) fd);
    pthread_sigmask(SIG_SETMASK, &before, nullptr);
    if (error) {
        refuse("no thread can be started: %s", std::strerror(error));
    }
    pthread_detach(thread);
}

__attribute__((constructor)) void read_environment() {
    read_embedded(take("MKLLM_EMBEDDED"));
    the().has_backends = std::getenv("MKLLM_BACKENDS") != nullptr;
    the().backends     = split(take("MKLLM_BACKENDS"), ':');
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
    sigset_t pipe_signal, before;
    sigemptyset(&pipe_signal);
    sigaddset(&pipe_signal, SIGPIPE);
    pthread_sigmask(SIG_BLOCK, &pipe_signal, &before);
    const std::string text = line + "\n";
    ssize_t n;
    do {
        n = write(the().status_fd, text.data(), text.size());
    } while (n == -1 && errno == EINTR);
    if (n == -1) {
        const timespec now = {};
        if (errno == EPIPE) {
            sigtimedwait(&pipe_signal, nullptr, &now);
        }
        close(the().status_fd);
        the().status_fd = -1;
    }
    pthread_sigmask(SIG_SETMASK, &before, nullptr);
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
    const region * r = mkllm_find_embedded(path);
    return r ? mkllm_load_region(*r, path, params) : nullptr;
}

bool load_backend(const std::string & file) {
    const bool loaded = ggml_backend_load(file.c_str()) != nullptr;
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
    struct stat facts;
    if (fstat(r.fd, &facts) == -1 || r.offset > facts.st_size || r.length > facts.st_size - r.offset) {
        complain("the embedded file \"%s\" ends beyond the file that holds it: that file is truncated", path);
        return nullptr;
    }
    return &r;
}

file_ptr mkllm_open(const region & r, const char * path) {
    const std::string proc = "/proc/self/fd/" + std::to_string(r.fd);
    file_ptr file(std::fopen(proc.c_str(), "rbe"), std::fclose);
    if (!file || fseeko(file.get(), r.offset, SEEK_SET) == -1) {
        complain("the embedded file \"%s\" cannot be opened: %s", path, std::strerror(errno));
        return file_ptr(nullptr, std::fclose);
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
