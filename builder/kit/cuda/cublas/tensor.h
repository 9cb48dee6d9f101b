// The same product on tensor cores, whose sums are of floats too: what each warp does between two barriers. A processor can
// test it with matrices of its own in the place of `nvcuda::wmma`.
#pragma once

#include "product.h"

namespace mkllm {

// As many elements of C by as many threads as `Plain` has, in warps that take 32 x 16 each, 32 elements of the sums at a time.
// WMMA has the matrices of one warp.
template <typename Stored, typename WMMA> struct Tensor {
    static constexpr int ROWS = Plain::ROWS, COLUMNS = Plain::COLUMNS, THREADS = Plain::THREADS;
    static constexpr int DEPTH = 32, WARP = 32, SIDE = 16, EACH = 2;
    static constexpr int LD_C = ROWS + 4;

    using Operands = Strips<Stored, ROWS, COLUMNS, DEPTH, 8>;

    // The strips are read for the last time before the sums are written.
    union Memory {
        Operands          strips;
        alignas(32) float c[COLUMNS * LD_C];
    };

    typename WMMA::Sum sums[EACH];

    static MKLLM_STEP int row(int warp, int i) { return (warp % 2 * EACH + i) * SIDE; }
    static MKLLM_STEP int column(int warp) { return warp / 2 * SIDE; }

    MKLLM_STEP void clear() {
        for (int i = 0; i < EACH; i++) {
            WMMA::clear(sums[i]);
        }
    }

    MKLLM_STEP void add(const Operands & memory, int warp) {
        for (int depth = 0; depth < DEPTH; depth += SIDE) {
            typename WMMA::B b;
            WMMA::load(b, memory.b + column(warp) * Operands::LD_B + depth, Operands::LD_B);
            for (int i = 0; i < EACH; i++) {
                typename WMMA::A a;
                WMMA::load(a, memory.a + depth * Operands::LD_A + row(warp, i), Operands::LD_A);
                WMMA::add(sums[i], a, b);
            }
        }
    }

    MKLLM_STEP void unload(float * c, int warp) const {
        for (int i = 0; i < EACH; i++) {
            WMMA::store(c + column(warp) * LD_C + row(warp, i), sums[i], LD_C);
        }
    }

    template <typename T>
    static MKLLM_STEP void store(const Product & p, const float * from, T * c, int row0, int column0, int thread) {
        for (int i = thread; i < ROWS * COLUMNS; i += THREADS) {
            const int row = i % ROWS, column = i / ROWS;
            put(p, c, row0 + row, column0 + column, from[column * LD_C + row]);
        }
    }
};

} // namespace mkllm
