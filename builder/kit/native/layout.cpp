#include "layout.h"

#include <algorithm>
#include <cstring>
#include <map>
#include <random>
#include <stdexcept>
#include <utility>

namespace {

const size_t BLOCKS = 2;
const int    CHECKS = 8;

using bytes = std::vector<char>;

bool bit(const bytes & data, size_t index) {
    return data[index / 8] >> (index % 8) & 1;
}

// What becomes of every single bit: where it comes from is told by as many orderings as its number has digits.
std::vector<uint32_t> trace(size_t size, const ordering & order) {
    bytes plain(size), zero(size), ordered(size);
    order(plain.data(), zero.data());
    std::vector<uint32_t> found(size * 8);
    for (uint32_t digit = 0; (size_t) 1 << digit < size * 8; digit++) {
        std::fill(plain.begin(), plain.end(), 0);
        for (size_t i = 0; i < size * 8; i++) {
            plain[i / 8] |= (char) ((i >> digit & 1) << (i % 8));
        }
        order(plain.data(), ordered.data());
        for (size_t i = 0; i < size * 8; i++) {
            found[i] |= (uint32_t) (bit(ordered, i) != bit(zero, i)) << digit;
        }
    }
    for (size_t i = 0; i < size * 8; i++) {
        found[i] = found[i] * 2 + bit(zero, i);
    }
    return found;
}

// The map of one group, if all groups of so many rows and one block a row are ordered alike, each for itself.
std::optional<layout> grouped(const std::vector<uint32_t> & traced, uint32_t type, size_t rows, size_t block) {
    layout l = { type, (uint32_t) rows, (uint32_t) block, std::vector<uint32_t>(rows * block * 8) };
    for (size_t i = 0; i < traced.size(); i++) {
        const size_t chunk = i / l.map.size(), group = chunk / BLOCKS, column = chunk % BLOCKS;
        const size_t source = traced[i] / 2, byte = source / 8, row = byte / (BLOCKS * block), at = byte % (BLOCKS * block);
        if (row / rows != group || at / block != column) {
            return std::nullopt;
        }
        const size_t   inner = (row % rows * block + at % block) * 8 + source % 8;
        const uint32_t value = (uint32_t) (inner * 2 + traced[i] % 2);
        uint32_t & entry = l.map[i % l.map.size()];
        if (chunk && entry != value) {
            return std::nullopt;
        }
        entry = value;
    }
    return l;
}

// Whether orderings of random weights can be undone.
bool is_right(const layout & l, size_t size, const ordering & order) {
    std::mt19937 random(1);
    const unordering undo(l);
    bytes plain(size), ordered(size), again(size);
    for (int i = 0; i < CHECKS; i++) {
        std::generate(plain.begin(), plain.end(), [&] { return (char) random(); });
        order(plain.data(), ordered.data());
        const size_t group = l.size() * BLOCKS;
        for (size_t at = 0; at < size; at += group) {
            undo.undo(ordered.data() + at, again.data() + at, l.block * BLOCKS);
        }
        if (again != plain) {
            return false;
        }
    }
    return true;
}

bool is_plain(const layout & l) {
    for (size_t i = 0; i < l.map.size(); i++) {
        if (l.map[i] != i * 2) {
            return false;
        }
    }
    return true;
}

}  // namespace

std::optional<layout> learn_layout(uint32_t type, size_t block, const ordering & order) {
    const size_t size = LAYOUT_ROWS * BLOCKS * block;
    const std::vector<uint32_t> traced = trace(size, order);
    for (size_t rows = 1; rows <= (size_t) LAYOUT_ROWS; rows *= 2) {
        const std::optional<layout> found = grouped(traced, type, rows, block);
        if (!found) {
            continue;
        }
        try {
            return is_plain(*found) || !is_right(*found, size, order) ? std::nullopt : found;
        } catch (const std::runtime_error &) {
            return std::nullopt;
        }
    }
    return std::nullopt;
}

unordering::unordering(const layout & l) : rows_(l.rows), block_(l.block) {
    if (l.map.size() != l.size() * 8) {
        throw std::runtime_error("a layout has another size than its map");
    }
    // For each plain byte, of which ordered bytes it is made, how far they are turned, and which of its bits they give.
    std::vector<std::map<std::pair<uint32_t, uint8_t>, uint8_t>> sources(l.size());
    std::vector<uint8_t> seen(l.size()), inverted(l.size());
    for (size_t i = 0; i < l.map.size(); i++) {
        const size_t  plain = l.map[i] / 2, byte = plain / 8;
        const uint8_t mask  = (uint8_t) (1 << plain % 8);
        if (byte >= l.size() || seen[byte] & mask) {
            throw std::runtime_error("a layout's map is no permutation");
        }
        seen[byte] |= mask;
        inverted[byte] |= l.map[i] % 2 ? mask : 0;
        sources[byte][{ (uint32_t) (i / 8), (uint8_t) ((plain - i) % 8) }] |= mask;
    }
    const auto is_whole = [&](size_t byte, uint32_t from) {
        const auto & [place, mask] = *sources[byte].begin();
        return place == std::make_pair(from, (uint8_t) 0) && mask == 0xff;
    };
    for (uint32_t byte = 0; byte < sources.size();) {
        const uint32_t row = byte / l.block, at = byte % l.block, from = sources[byte].begin()->first.first;
        uint32_t length = 0;
        while (at + length < l.block && length < 8 && is_whole(byte + length, from + length)) {
            length++;
        }
        if (!length) {
            mixed_.push_back({ row, at, inverted[byte], {} });
            for (const auto & [place, mask] : sources[byte]) {
                mixed_.back().parts.push_back({ place.first, place.second, mask });
            }
            byte++;
            continue;
        }
        const uint32_t size = length == 8 ? 8 : length >= 4 ? 4 : length >= 2 ? 2 : 1;
        moves_.push_back({ row, at, from, size, 0 });
        std::memcpy(&moves_.back().inverted, &inverted[byte], size);
        byte += size;
    }
}

namespace {

template <typename T>
void move_all(const uint8_t * from, size_t from_step, uint8_t * to, size_t to_step, size_t count, uint64_t invert) {
    T mask;
    std::memcpy(&mask, &invert, sizeof mask);
    for (size_t i = 0; i < count; i++) {
        T value;
        std::memcpy(&value, from + i * from_step, sizeof value);
        value = (T) (value ^ mask);
        std::memcpy(to + i * to_step, &value, sizeof value);
    }
}

}  // namespace

void unordering::undo(const char * ordered, char * plain, size_t row_size) const {
    const size_t    step = rows_ * block_, columns = row_size / block_;
    const uint8_t * in   = (const uint8_t *) ordered;
    uint8_t *       out  = (uint8_t *) plain;
    for (const move & m : moves_) {
        const auto move = m.size == 8   ? move_all<uint64_t>
                          : m.size == 4 ? move_all<uint32_t>
                          : m.size == 2 ? move_all<uint16_t>
                                        : move_all<uint8_t>;
        move(in + m.from, step, out + m.row * row_size + m.at, block_, columns, m.inverted);
    }
    for (const mixed & m : mixed_) {
        uint8_t * to = out + m.row * row_size + m.at;
        for (size_t column = 0; column < columns; column++) {
            uint8_t value = m.inverted;
            for (const part & p : m.parts) {
                const uint8_t byte = in[column * step + p.from];
                value ^= (uint8_t) (byte << p.turn | byte >> (8 - p.turn)) & p.mask;
            }
            to[column * block_] = value;
        }
    }
}
