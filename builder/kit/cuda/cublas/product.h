// C = alpha op(A) op(B) + beta C, tile by tile, and a triangular system: what each thread does between two barriers, and which
// elements it takes. It knows no GPU, so that a processor can run the same steps, one thread after the other, to test them.
// Matrices lie column by column; op(A) is m x k, op(B) is k x n.
#pragma once

#ifdef __CUDACC__
#define MKLLM_STEP __host__ __device__ inline
#else
#define MKLLM_STEP inline
#endif

namespace mkllm {

struct Product {
    int   m, n, k;
    bool  transposed_a, transposed_b;
    int   lda, ldb, ldc;
    float alpha, beta;
};

// Matrices one after the other, `stride` elements apart, or each where `each` says.
template <typename T> struct Batch {
    T *         first;
    long long   stride;
    T * const * each;

    MKLLM_STEP T * at(int index) const { return each ? each[index] : first + stride * index; }
};

template <typename T> MKLLM_STEP T element(const T * matrix, bool transposed, int ld, int row, int column) {
    return transposed ? matrix[column + (long long) row * ld] : matrix[row + (long long) column * ld];
}

template <typename T> MKLLM_STEP void put(const Product & p, T * c, int row, int column, float sum) {
    if (row < p.m && column < p.n) {
        T & place = c[row + (long long) column * p.ldc];
        // What lies there already may be anything, no number even, unless it is asked for.
        place = static_cast<T>(p.alpha * sum + (p.beta == 0.0f ? 0.0f : p.beta * static_cast<float>(place)));
    }
}

// `Stored` elements of a strip of op(A), ROWS x DEPTH, and one of op(B), DEPTH x COLUMNS, with zeros beyond the edges. Both are
// laid out column by column; PAD keeps threads of one warp from waiting for each other's bank of memory.
template <typename Stored, int ROWS, int COLUMNS, int DEPTH, int PAD> struct Strips {
    static constexpr int LD_A = ROWS + PAD;
    static constexpr int LD_B = DEPTH + PAD;

    alignas(32) Stored a[DEPTH * LD_A];
    alignas(32) Stored b[COLUMNS * LD_B];

    // Neighbouring threads take elements that are neighbours in memory.
    template <typename T>
    MKLLM_STEP void load(const Product & p, const T * from_a, const T * from_b, int row0, int column0, int depth0,
                         int thread, int threads) {
        for (int i = thread; i < ROWS * DEPTH; i += threads) {
            const int row = p.transposed_a ? i / DEPTH : i % ROWS, depth = p.transposed_a ? i % DEPTH : i / ROWS;
            const bool inside = row0 + row < p.m && depth0 + depth < p.k;
            a[depth * LD_A + row] =
                inside ? static_cast<Stored>(element(from_a, p.transposed_a, p.lda, row0 + row, depth0 + depth))
                       : static_cast<Stored>(0.0f);
        }
        for (int i = thread; i < DEPTH * COLUMNS; i += threads) {
            const int column = p.transposed_b ? i % COLUMNS : i / DEPTH;
            const int depth = p.transposed_b ? i / COLUMNS : i % DEPTH;
            const bool inside = column0 + column < p.n && depth0 + depth < p.k;
            b[column * LD_B + depth] =
                inside ? static_cast<Stored>(element(from_b, p.transposed_b, p.ldb, depth0 + depth, column0 + column))
                       : static_cast<Stored>(0.0f);
        }
    }
};

// 64 x 64 elements of C by 256 threads, 4 x 4 each, 16 elements of the sums at a time.
struct Plain {
    static constexpr int ROWS = 64, COLUMNS = 64, DEPTH = 16, THREADS = 256, EACH = 4;
    using Memory = Strips<float, ROWS, COLUMNS, DEPTH, 1>;

    float sums[EACH][EACH] = {};

    static MKLLM_STEP int row(int thread, int i) { return thread % 16 + 16 * i; }
    static MKLLM_STEP int column(int thread, int j) { return thread / 16 + 16 * j; }

    MKLLM_STEP void add(const Memory & memory, int thread) {
        for (int depth = 0; depth < DEPTH; depth++) {
            float a[EACH], b[EACH];
            for (int i = 0; i < EACH; i++) {
                a[i] = memory.a[depth * Memory::LD_A + row(thread, i)];
                b[i] = memory.b[column(thread, i) * Memory::LD_B + depth];
            }
            for (int i = 0; i < EACH; i++) {
                for (int j = 0; j < EACH; j++) {
                    sums[i][j] += a[i] * b[j];
                }
            }
        }
    }

    template <typename T> MKLLM_STEP void store(const Product & p, T * c, int row0, int column0, int thread) const {
        for (int j = 0; j < EACH; j++) {
            for (int i = 0; i < EACH; i++) {
                put(p, c, row0 + row(thread, i), column0 + column(thread, j), sums[i][j]);
            }
        }
    }
};

// One row of X in X A = alpha B, A being triangular with nothing below its diagonal; X comes to lie where B was.
MKLLM_STEP void solve_row(int n, float alpha, const float * a, int lda, float * b, int ldb, int row) {
    for (int column = 0; column < n; column++) {
        const float * above = a + (long long) column * lda;
        float         rest  = alpha * b[row + (long long) column * ldb];
        for (int i = 0; i < column; i++) {
            rest -= b[row + (long long) i * ldb] * above[i];
        }
        b[row + (long long) column * ldb] = rest / above[column];
    }
}

} // namespace mkllm
