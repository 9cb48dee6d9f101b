#include "prepacked.h"

#include "system.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <exception>
#include <stdexcept>

namespace {

const char     MAGIC[]     = "MKPACKED";
const uint32_t VERSION     = 1;
const size_t   TRAILER     = 8 + 4 + 4 + 8 + 4;  // magic, version, length of the index and of the plain GGUF, checksum
const size_t   PIECE       = 4 << 20;
const uint32_t MOST_ROWS   = (uint32_t) LAYOUT_ROWS;
const uint32_t MOST_BLOCK  = 1 << 12;

template <typename T> void put(std::string & out, T value) {
    out.append((const char *) &value, sizeof value);
}

// Takes values off the front of a text; what is missing is an error.
class parser {
public:
    explicit parser(const std::string & text) : text_(text) {}

    template <typename T> T get() {
        T value;
        std::memcpy(&value, take(sizeof value), sizeof value);
        return value;
    }

    std::string text(size_t size) { return std::string(take(size), size); }

    bool is_done() const { return at_ == text_.size(); }

private:
    const char * take(size_t size) {
        if (size > text_.size() - at_) {
            throw std::runtime_error("the index of the prepacked weights is damaged");
        }
        at_ += size;
        return text_.data() + at_ - size;
    }

    const std::string & text_;
    size_t              at_ = 0;
};

// CRC-32, as zip has it.
uint32_t checksum(const std::string & data) {
    uint32_t value = ~0u;
    for (const unsigned char byte : data) {
        value ^= byte;
        for (int i = 0; i < 8; i++) {
            value = value >> 1 ^ (value & 1 ? 0xedb88320u : 0);
        }
    }
    return ~value;
}

void expect(bool condition) {
    if (!condition) {
        throw std::runtime_error("the index of the prepacked weights is damaged");
    }
}

}  // namespace

std::unique_ptr<prepacked> prepacked::open(const region & file) {
    if (!file.packed) {
        return nullptr;
    }
    std::unique_ptr<prepacked> found(new prepacked(file));
    expect((uint64_t) file.length >= TRAILER);
    std::string trailer(TRAILER, '\0');
    found->raw((uint64_t) file.length - TRAILER, TRAILER, trailer.data());
    parser parts(trailer);
    expect(parts.text(8) == MAGIC);
    if (parts.get<uint32_t>() != VERSION) {
        throw std::runtime_error("the weights were prepacked by a newer mkllm");
    }
    const uint32_t length = parts.get<uint32_t>();
    found->plain_size     = parts.get<uint64_t>();
    const uint64_t packed = (uint64_t) file.length - TRAILER;
    expect(length <= packed && found->plain_size <= packed - length);
    std::string index(length, '\0');
    found->raw(packed - length, length, index.data());
    expect(parts.get<uint32_t>() == checksum(index + trailer.substr(0, TRAILER - 4)));
    found->parse(index);
    return found;
}

void prepacked::parse(const std::string & index) {
    parser parts(index);
    const uint64_t end = (uint64_t) file_.length - TRAILER - index.size();
    for (uint32_t count = parts.get<uint32_t>(); count; count--) {
        layout l;
        l.type  = parts.get<uint32_t>();
        l.rows  = parts.get<uint32_t>();
        l.block = parts.get<uint32_t>();
        expect(l.rows && l.rows <= MOST_ROWS && l.block && l.block <= MOST_BLOCK);
        const std::string map = parts.text(l.size() * 8 * sizeof(uint32_t));
        l.map.resize(l.size() * 8);
        std::memcpy(l.map.data(), map.data(), map.size());
        unorderings_.emplace_back(l);
        layouts.push_back(std::move(l));
    }
    for (uint32_t count = parts.get<uint32_t>(); count; count--) {
        const std::string name = parts.text(parts.get<uint32_t>());
        prepacked_tensor t;
        t.at       = parts.get<uint64_t>();
        t.size     = parts.get<uint64_t>();
        t.row_size = parts.get<uint32_t>();
        t.layout   = parts.get<uint32_t>();
        expect(t.layout < layouts.size() && t.size && t.at <= end && t.size <= end - t.at && t.row_size);
        const layout & l = layouts[t.layout];
        expect(t.row_size % l.block == 0 && t.size % ((uint64_t) t.row_size * l.rows) == 0);
        tensors[name] = t;
    }
    expect(parts.is_done());
    uint64_t last = 0;
    for (const auto & [name, t] : tensors) {
        if (t.at < plain_size) {
            expect(t.size <= plain_size - t.at);
            ordered_[t.at] = &t;
        }
    }
    for (const auto & [at, t] : ordered_) {
        expect(at >= last);
        last = at + t->size;
    }
}

std::string prepacked::index(uint64_t plain_size, const std::vector<layout> & layouts,
                             const std::map<std::string, prepacked_tensor> & tensors) {
    std::string out;
    put(out, (uint32_t) layouts.size());
    for (const layout & l : layouts) {
        put(out, l.type);
        put(out, l.rows);
        put(out, l.block);
        out.append((const char *) l.map.data(), l.map.size() * sizeof(uint32_t));
    }
    put(out, (uint32_t) tensors.size());
    for (const auto & [name, t] : tensors) {
        put(out, (uint32_t) name.size());
        out += name;
        put(out, t.at);
        put(out, t.size);
        put(out, t.row_size);
        put(out, t.layout);
    }
    const uint32_t length = (uint32_t) out.size();
    out += MAGIC;
    put(out, VERSION);
    put(out, length);
    put(out, plain_size);
    put(out, checksum(out));
    return out;
}

void prepacked::raw(uint64_t offset, size_t size, char * out) const {
    while (size) {
        const int64_t n = mkllm_read_at(file_.fd, out, size, file_.offset + (int64_t) offset);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n <= 0) {
            throw std::runtime_error(std::string("the weights cannot be read: ") +
                                     (n ? std::strerror(errno) : "the file ends before them"));
        }
        out += n;
        offset += (uint64_t) n;
        size -= (size_t) n;
    }
}

void prepacked::read(uint64_t offset, size_t size, char * out) const {
    std::vector<char> ordered, plain;
    while (size) {
        auto next = ordered_.upper_bound(offset);
        const prepacked_tensor * t = next == ordered_.begin() ? nullptr : std::prev(next)->second;
        if (!t || offset >= t->at + t->size) {
            const size_t n = next == ordered_.end() ? size : (size_t) std::min<uint64_t>(size, next->first - offset);
            raw(offset, n, out);
            out += n;
            offset += n;
            size -= n;
            continue;
        }
        const size_t   group = (size_t) t->row_size * layouts[t->layout].rows;
        const uint64_t begin = t->at + (offset - t->at) / group * group;
        const size_t   skip  = (size_t) (offset - begin), n = std::min(size, group - skip);
        ordered.resize(group);
        raw(begin, group, ordered.data());
        if (n == group) {
            unorderings_[t->layout].undo(ordered.data(), out, t->row_size);
        } else {
            plain.resize(group);
            unorderings_[t->layout].undo(ordered.data(), plain.data(), t->row_size);
            std::memcpy(out, plain.data() + skip, n);
        }
        out += n;
        offset += n;
        size -= n;
    }
}

void prepacked::restore(const std::function<void(const char *, size_t)> & take) const {
    const size_t number = mkllm_processors();
    std::vector<std::vector<char>> pieces(number, std::vector<char>(PIECE));
    for (uint64_t offset = 0; offset < plain_size;) {
        std::vector<size_t>             sizes;
        std::vector<std::exception_ptr> failures(number);
        for (uint64_t at = offset; at < plain_size && sizes.size() < number; at += PIECE) {
            sizes.push_back((size_t) std::min<uint64_t>(PIECE, plain_size - at));
        }
        mkllm_by_all_processors(sizes.size(), [&](size_t i) {
            try {
                read(offset + i * PIECE, sizes[i], pieces[i].data());
            } catch (...) {
                failures[i] = std::current_exception();
            }
        });
        for (size_t i = 0; i < sizes.size(); i++) {
            if (failures[i]) {
                std::rethrow_exception(failures[i]);
            }
            take(pieces[i].data(), sizes[i]);
            offset += sizes[i];
        }
    }
}
