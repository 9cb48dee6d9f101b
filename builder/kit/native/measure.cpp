// `measure`: answers each line on standard input with one line of JSON on standard output; what is asked, and what follows
// from the answers, is decided by who asks. Commands are words, each followed by a number:
//
//     load 0|1                the embedded model, without or with its weights repacked: {"seconds":…}
//     context TOKENS BATCH FLASH   room for so many tokens, the physical batch, flash attention (1 on, 0 off): {"seconds":…}
//     threads N               for what follows: {"seconds":…}
//     neighbours N            so many threads that only burn time beside what follows: {"seconds":…}
//     fill TOKENS             so many tokens before what follows: {"seconds":…}
//     times N                 what follows is done so often at the least (3 before this): {"seconds":…}
//     prompt TOKENS MS        read so many tokens at once, again and again for MS milliseconds: {"seconds":[…]}
//     generate MS             one token at a time, for MS milliseconds: {"seconds":[…]}
//     memory MEGABYTES MS     all threads together read so many megabytes of memory, for MS milliseconds: {"seconds":[…]}
//
// What cannot be done is answered {"error":"…"}; a backend that crashes takes this process with it, and no more.
#include "ggml-backend.h"
#include "ggml-cpu.h"
#include "mkllm.h"
#include "system.h"

#include <atomic>
#include <chrono>
#include <cstdio>
#include <functional>
#include <iostream>
#include <map>
#include <sstream>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

namespace {

using clock_type = std::chrono::steady_clock;

double since(clock_type::time_point begin) {
    return std::chrono::duration<double>(clock_type::now() - begin).count();
}

// A thread that burns time, as a busy neighbour would.
class neighbour {
public:
    neighbour() : thread_([this] { while (!done_.load(std::memory_order_relaxed)) { count_ = count_ + 1; } }) {}

    ~neighbour() {
        done_ = true;
        thread_.join();
    }

private:
    std::atomic<bool>  done_{ false };
    volatile long long count_ = 0;
    std::thread        thread_;
};

class bench {
public:
    double load(bool repack) {
        forget_context();
        model_.reset();
        llama_model_params params = llama_model_default_params();
        params.use_extra_bufts = repack;
        const auto begin = clock_type::now();
        model_.reset(mkllm_model_load_from_file("embedded:slice.gguf", params));
        if (!model_) {
            throw std::runtime_error("the slice of the model cannot be loaded");
        }
        return since(begin);
    }

    double context(int tokens, int batch, bool flash) {
        if (!model_) {
            throw std::runtime_error("no model is loaded");
        }
        const auto begin = clock_type::now();
        forget_context();
        llama_context_params params = llama_context_default_params();
        params.n_ctx           = (uint32_t) tokens;
        params.n_batch         = (uint32_t) tokens;
        params.n_ubatch        = (uint32_t) batch;
        params.no_perf         = true;
        params.flash_attn_type = flash ? LLAMA_FLASH_ATTN_TYPE_ENABLED : LLAMA_FLASH_ATTN_TYPE_DISABLED;
        context_.reset(llama_init_from_model(model_.get(), params));
        if (!context_ || !llama_get_memory(context_.get())) {
            throw std::runtime_error("there is no context for this model");
        }
        threads(threads_);
        return since(begin);
    }

    double threads(int number) {
        const auto begin = clock_type::now();
        threads_ = number;
        if (context_) {
            attach();
        }
        return since(begin);
    }

    double neighbours(int number) {
        neighbours_.clear();
        for (int i = 0; i < number; i++) {
            neighbours_.push_back(std::make_unique<neighbour>());
        }
        return 0;
    }

    double fill(int tokens) {
        forget(0);
        const auto begin = clock_type::now();
        decode(tokens, 0);
        filled_ = tokens;
        return since(begin);
    }

    double times(int number) {
        times_ = number;
        return 0;
    }

    std::vector<double> prompt(int tokens, double seconds) {
        return repeat(seconds, [&](int) {
            forget(filled_);
            return timed(tokens, filled_);
        });
    }

    std::vector<double> generate(double seconds) {
        forget(filled_);
        const int room = (int) llama_n_ctx(need()) - filled_;
        const auto samples = repeat(seconds, [&](int i) {
            if (i && i % room == 0) {
                forget(filled_);
            }
            return timed(1, filled_ + i % room);
        });
        forget(filled_);
        return samples;
    }

    // What the machine's memory gives when it is only read: each thread a stretch of its own, which it wrote itself.
    std::vector<double> memory(int megabytes, double seconds) const {
        const size_t words = ((size_t) megabytes << 20) / sizeof(uint64_t) / (size_t) threads_;
        std::vector<std::vector<uint64_t>> stretches((size_t) threads_);
        const auto all = [&](const std::function<void(std::vector<uint64_t> &)> & work) {
            std::vector<std::thread> threads;
            for (auto & stretch : stretches) {
                threads.emplace_back(work, std::ref(stretch));
            }
            for (auto & thread : threads) {
                thread.join();
            }
        };
        all([words](std::vector<uint64_t> & stretch) { stretch.assign(words, 1); });
        std::atomic<uint64_t> total{ 0 };
        return repeat(seconds, [&](int) {
            const auto begin = clock_type::now();
            all([&total](std::vector<uint64_t> & stretch) { total += sum(stretch); });
            return since(begin);
        });
    }

private:
    // In eight sums, so that no addition waits for another.
    static uint64_t sum(const std::vector<uint64_t> & words) {
        uint64_t sums[8] = {};
        for (size_t i = 0; i + 8 <= words.size(); i += 8) {
            for (size_t j = 0; j < 8; j++) {
                sums[j] += words[i + j];
            }
        }
        return sums[0] + sums[1] + sums[2] + sums[3] + sums[4] + sums[5] + sums[6] + sums[7];
    }

    struct free_model { void operator()(llama_model * model) const { llama_model_free(model); } };
    struct free_context { void operator()(llama_context * context) const { llama_free(context); } };

    llama_context * need() const {
        if (!context_) {
            throw std::runtime_error("there is no context yet");
        }
        return context_.get();
    }

    std::vector<double> repeat(double seconds, const std::function<double(int)> & once) const {
        std::vector<double> samples;
        double total = 0;
        while (total < seconds || (int) samples.size() < times_) {
            samples.push_back(once((int) samples.size()));
            total += samples.back();
        }
        return samples;
    }

    double timed(int tokens, int position) {
        const auto begin = clock_type::now();
        decode(tokens, position);
        return since(begin);
    }

    // Tokens that differ, since weights of experts are read by the token; only the last one's logits are asked for.
    void decode(int tokens, int position) {
        const int vocabulary = llama_vocab_n_tokens(llama_model_get_vocab(model_.get()));
        llama_batch batch = llama_batch_init(tokens, 0, 1);
        for (int i = 0; i < tokens; i++) {
            batch.token[i]     = (llama_token) ((position + i) * 7919LL % vocabulary);
            batch.pos[i]       = position + i;
            batch.n_seq_id[i]  = 1;
            batch.seq_id[i][0] = 0;
            batch.logits[i]    = i == tokens - 1;
        }
        batch.n_tokens = tokens;
        const int status = llama_decode(need(), batch);
        llama_batch_free(batch);
        if (status) {
            throw std::runtime_error("the model cannot be run: status " + std::to_string(status));
        }
        llama_synchronize(need());
    }

    // Everything from a position on; a recurrent state can only be forgotten as a whole.
    void forget(int position) {
        llama_memory_t memory = llama_get_memory(need());
        if (!llama_memory_seq_rm(memory, 0, position, -1)) {
            llama_memory_clear(memory, true);
            filled_ = 0;
        }
    }

    void forget_context() {
        context_.reset();
        pools_.clear();
        filled_ = 0;
    }

    // A pool of threads like the one that the server has, one for each number. All live as long as the context: its backend
    // puts the one that it had before to sleep when it is first run with another.
    void attach() {
        auto found = pools_.find(threads_);
        if (found == pools_.end()) {
            found = pools_.emplace(threads_, new_pool()).first;
        }
        llama_set_n_threads(context_.get(), threads_, threads_);
        llama_attach_threadpool(context_.get(), found->second.get(), nullptr);
    }

    using pool = std::unique_ptr<ggml_threadpool, void (*)(ggml_threadpool *)>;

    pool new_pool() const {
        auto * cpu = ggml_backend_dev_by_type(GGML_BACKEND_DEVICE_TYPE_CPU);
        auto * reg = cpu ? ggml_backend_dev_backend_reg(cpu) : nullptr;
        if (!reg) {
            throw std::runtime_error("there is no CPU backend");
        }
        const auto make = (decltype(ggml_threadpool_new) *) ggml_backend_reg_get_proc_address(reg, "ggml_threadpool_new");
        const auto free = (decltype(ggml_threadpool_free) *) ggml_backend_reg_get_proc_address(reg, "ggml_threadpool_free");
        ggml_threadpool_params params;
        ggml_threadpool_params_init(&params, threads_);
        return { make(&params), free };
    }

    std::map<int, pool>                          pools_;  // before the context, so that they outlive it
    std::unique_ptr<llama_model, free_model>     model_;
    std::unique_ptr<llama_context, free_context> context_;
    std::vector<std::unique_ptr<neighbour>>      neighbours_;
    int threads_ = 1, filled_ = 0;
    int times_   = 3;  // so that there is a median
};

std::string json(const std::vector<double> & samples) {
    std::string text = "[";
    for (const double sample : samples) {
        char number[32];
        std::snprintf(number, sizeof number, "%s%.7f", text.size() > 1 ? "," : "", sample);
        text += number;
    }
    return text + "]";
}

std::string answer(bench & b, const std::string & command, const std::vector<int> & n) {
    static const std::map<std::string, size_t> NUMBERS = { { "load", 1 }, { "context", 3 },  { "threads", 1 }, { "neighbours", 1 }, { "times", 1 },
                                                           { "fill", 1 }, { "prompt", 2 }, { "generate", 1 }, { "memory", 2 } };
    const auto known = NUMBERS.find(command);
    if (known == NUMBERS.end() || known->second != n.size()) {
        throw std::runtime_error("this is not a command with its numbers");
    }
    if (command == "prompt") {
        return json(b.prompt(n[0], n[1] / 1e3));
    }
    if (command == "generate") {
        return json(b.generate(n[0] / 1e3));
    }
    if (command == "memory") {
        return json(b.memory(n[0], n[1] / 1e3));
    }
    const double seconds = command == "load"       ? b.load(n[0])
                         : command == "context"    ? b.context(n[0], n[1], n[2])
                         : command == "threads"    ? b.threads(n[0])
                         : command == "neighbours" ? b.neighbours(n[0])
                         : command == "times"      ? b.times(n[0])
                                                   : b.fill(n[0]);
    return std::to_string(seconds);
}

void quiet(ggml_log_level level, const char * text, void *) {
    if (level == GGML_LOG_LEVEL_ERROR) {
        std::fputs(text, stderr);
    }
}

}  // namespace

int mkllm_measure() {
    llama_log_set(quiet, nullptr);
    mkllm_binary_output();
    mkllm_backend_init();
    bench b;
    for (std::string line; std::getline(std::cin, line);) {
        std::istringstream words(line);
        std::string command;
        std::vector<int> numbers;
        words >> command;
        for (int number; words >> number;) {
            numbers.push_back(number);
        }
        try {
            std::cout << "{\"seconds\":" << answer(b, command, numbers) << "}" << std::endl;
        } catch (const std::exception & error) {
            std::cout << "{\"error\":\"" << error.what() << "\"}" << std::endl;
        }
    }
    return 0;
}
