// How a CPU backend orders weights for its kernels, found out by asking it: the layouts of llama.cpp are permutations of
// bits within a group of rows, some bits inverted. So a layout can be written down, compared with that of another backend,
// and undone, without knowing what it is made of.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <vector>

struct layout {
    uint32_t type  = 0;  // ggml's number of the type
    uint32_t rows  = 0;  // that are ordered together
    uint32_t block = 0;  // bytes of one row that are ordered together
    // For each bit of `rows` * `block` ordered bytes, the lowest of a byte first: which bit of the plain bytes (those of the
    // first row, then those of the next) it is, times two; and one more if it is inverted.
    std::vector<uint32_t> map;

    size_t size() const { return (size_t) rows * block; }
    bool operator==(const layout & other) const {
        return type == other.type && rows == other.rows && block == other.block && map == other.map;
    }
};

const int64_t LAYOUT_ROWS = 64;  // no layout takes more of them together

// Orders LAYOUT_ROWS rows of `blocks` blocks each.
using ordering = std::function<void(const char * plain, char * ordered)>;

// The layout that `order` (of two blocks a row) shows; none when it is no such permutation, or changes nothing.
std::optional<layout> learn_layout(uint32_t type, size_t block, const ordering & order);

// Undoes a layout, a group of rows at a time.
class unordering {
public:
    // A map that is no permutation is refused by std::runtime_error.
    explicit unordering(const layout & l);

    // `ordered`: l.rows rows of `row_size` bytes each; `plain`: as many.
    void undo(const char * ordered, char * plain, size_t row_size) const;

private:
    struct move {  // 1, 2, 4 or 8 bytes that stay together
        uint32_t row, at, from, size;
        uint64_t inverted;
    };

    struct part {  // of a byte: turned to the left, then masked
        uint32_t from;
        uint8_t  turn, mask;
    };

    struct mixed {  // a byte of several parts
        uint32_t          row, at;
        uint8_t           inverted;
        std::vector<part> parts;
    };

    size_t             rows_, block_;
    std::vector<move>  moves_;
    std::vector<mixed> mixed_;
};
