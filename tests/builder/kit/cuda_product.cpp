// Runs the steps of builder/kit/cuda/cublas/, one thread after the other, and compares what they give with sums that are made
// one by one. Prints what differs and ends with 1, or `N products` and `N systems`.
#include "tensor.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

using namespace mkllm;

static unsigned long long state = 7;

static int below(int limit) {
    state = state * 6364136223846793005 + 1442695040888963407;
    return int((state >> 33) % limit);
}
static float value() { return (below(17) - 8) / 4.0f; }

// Two bytes, as halves have, for numbers such as those.
struct Quarters {
    short count;

    Quarters() = default;
    explicit Quarters(float x) : count(short(lrintf(x * 4))) {}
    operator float() const { return count / 4.0f; }
};

// A kind of result that sums must be made into.
struct Result {
    float number;

    Result() = default;
    explicit Result(float x) : number(x) {}
    operator float() const { return number; }
};

template <typename T> struct Array {
    long long size;
    T *       at;

    explicit Array(long long count) : size(count), at(static_cast<T *>(malloc(count * sizeof(T)))) {}
    Array(const Array &) = delete;
    ~Array() { free(at); }
    T & operator[](long long index) {
        if (index < 0 || index >= size) {
            printf("%lld of %lld\n", index, size);
            exit(1);
        }
        return at[index];
    }
};

// What nvcuda::wmma has for a warp, whole matrices here.
template <typename T> struct Fragments {
    struct A { T at[16][16]; };
    struct B { T at[16][16]; };
    struct Sum { float at[16][16]; };

    static void clear(Sum & sum) { sum = {}; }
    template <typename F> static void load(F & to, const T * from, int ld) {
        if (reinterpret_cast<size_t>(from) % 32 || ld * sizeof(T) % 16) {
            puts("a matrix that no tensor core can load");
            exit(1);
        }
        for (int i = 0; i < 256; i++) to.at[i % 16][i / 16] = from[i % 16 + i / 16 * ld];
    }
    static void add(Sum & sum, const A & a, const B & b) {
        for (int i = 0; i < 16; i++)
            for (int j = 0; j < 16; j++)
                for (int l = 0; l < 16; l++) sum.at[i][j] += float(a.at[i][l]) * float(b.at[l][j]);
    }
    static void store(float * to, const Sum & from, int ld) {
        for (int i = 0; i < 256; i++) to[i % 16 + i / 16 * ld] = from.at[i % 16][i / 16];
    }
};

template <typename T, typename C>
static void by_plain(const Product & p, const T * a, const T * b, C * c, int row0, int column0) {
    static Plain::Memory memory;
    Array<Plain>         own(Plain::THREADS);
    for (int t = 0; t < Plain::THREADS; t++) own[t] = Plain();
    for (int depth0 = 0; depth0 < p.k; depth0 += Plain::DEPTH) {
        for (int t = 0; t < Plain::THREADS; t++) memory.load(p, a, b, row0, column0, depth0, t, Plain::THREADS);
        for (int t = 0; t < Plain::THREADS; t++) own[t].add(memory, t);
    }
    for (int t = 0; t < Plain::THREADS; t++) own[t].store(p, c, row0, column0, t);
}

template <typename T, typename C>
static void by_tensors(const Product & p, const T * a, const T * b, C * c, int row0, int column0) {
    using Tile = Tensor<T, Fragments<T>>;
    static typename Tile::Memory memory;
    constexpr int                warps = Tile::THREADS / Tile::WARP;
    Array<Tile>                  own(warps);
    for (int w = 0; w < warps; w++) own[w].clear();
    for (int depth0 = 0; depth0 < p.k; depth0 += Tile::DEPTH) {
        for (int t = 0; t < Tile::THREADS; t++) memory.strips.load(p, a, b, row0, column0, depth0, t, Tile::THREADS);
        for (int w = 0; w < warps; w++) own[w].add(memory.strips, w);
    }
    for (int w = 0; w < warps; w++) own[w].unload(memory.c, w);
    for (int t = 0; t < Tile::THREADS; t++) Tile::store(p, memory.c, c, row0, column0, t);
}

template <typename T> static Batch<T> batch(Array<T> & matrices, long long stride, bool listed, Array<T *> & list) {
    for (int z = 0; z < list.size; z++) list[z] = matrices.at + stride * z;
    return listed ? Batch<T>{nullptr, 0, list.at} : Batch<T>{matrices.at, stride, nullptr};
}

template <typename T, typename C> static bool right(bool tensors) {
    const int  m = 1 + below(150), n = 1 + below(150), k = below(5) ? below(90) : 0, count = 1 + below(3);
    const bool ta = below(2), tb = below(2), listed = below(2);
    const int  lda = (ta ? k : m) + below(3) + (k == 0), ldb = (tb ? n : k) + below(3) + (k == 0), ldc = m + below(3);
    const Product p{m, n, k, ta, tb, lda, ldb, ldc, below(2) ? 1.0f : 0.5f, float(below(3)) / 2};
    const long long stride_a = (long long) lda * (ta ? m : k), stride_b = (long long) ldb * (tb ? k : n);
    const long long stride_c = (long long) ldc * n + 5;

    Array<T> a(stride_a * count + 1), b(stride_b * count + 1);
    Array<C> c(stride_c * count), before(stride_c * count);
    for (long long i = 0; i < a.size; i++) a[i] = T(value());
    for (long long i = 0; i < b.size; i++) b[i] = T(value());
    // What beta is 0 for may be no number.
    for (long long i = 0; i < c.size; i++) before[i] = c[i] = C(p.beta == 0.0f ? NAN : value());

    Array<T *> list_a(count), list_b(count);
    Array<C *> list_c(count);
    const auto batch_a = batch(a, stride_a, listed, list_a), batch_b = batch(b, stride_b, listed, list_b);
    const auto batch_c = batch(c, stride_c, listed, list_c);
    for (int z = 0; z < count; z++) {
        for (int row0 = 0; row0 < m; row0 += Plain::ROWS) {
            for (int column0 = 0; column0 < n; column0 += Plain::COLUMNS) {
                const auto multiply = tensors ? by_tensors<T, C> : by_plain<T, C>;
                multiply(p, batch_a.at(z), batch_b.at(z), batch_c.at(z), row0, column0);
            }
        }
    }
    for (int z = 0; z < count; z++) {
        for (long long place = 0; place < stride_c; place++) {
            const int row = int(place % ldc), column = int(place / ldc);
            const C   found = c[stride_c * z + place], old = before[stride_c * z + place];
            if (row >= m || column >= n) {  // nothing is written between and behind the columns
                if (!(float(found) == float(old)) && !(isnan(float(found)) && isnan(float(old)))) {
                    return printf("%dx%dx%d: written at %lld\n", m, n, k, place), false;
                }
                continue;
            }
            double sum = 0;
            for (int l = 0; l < k; l++) {
                const T x = a[stride_a * z + (ta ? l + (long long) row * lda : row + (long long) l * lda)];
                const T y = b[stride_b * z + (tb ? column + (long long) l * ldb : l + (long long) column * ldb)];
                sum += double(float(x)) * double(float(y));
            }
            const double wanted = p.alpha * sum + (p.beta == 0.0f ? 0.0 : p.beta * double(float(old)));
            if (!(fabs(double(float(found)) - wanted) <= 1e-2 + 1e-3 * fabs(wanted))) {
                return printf("%dx%dx%d ta %d tb %d: %g, not %g\n", m, n, k, ta, tb, double(float(found)), wanted), false;
            }
        }
    }
    return true;
}

static bool solved() {
    const int          m = 1 + below(70), n = 1 + below(100), lda = n + below(3), ldb = m + below(3);
    const float        alpha = below(2) ? 1.0f : 0.5f;
    Array<float>       a(lda * n), x(ldb * n), b(ldb * n);
    for (int i = 0; i < lda * n; i++) a[i] = NAN;
    for (int column = 0; column < n; column++) {
        for (int row = 0; row < column; row++) a[row + column * lda] = value() / n;
        a[column + column * lda] = 1.0f + fabs(value());
    }
    for (int i = 0; i < ldb * n; i++) x[i] = value();
    for (int row = 0; row < m; row++) {
        for (int column = 0; column < n; column++) {
            double sum = 0;
            for (int i = 0; i <= column; i++) sum += double(x[row + i * ldb]) * a[i + column * lda];
            b[row + column * ldb] = float(sum / alpha);
        }
    }
    for (int row = 0; row < m; row++) solve_row(n, alpha, a.at, lda, b.at, ldb, row);
    for (int row = 0; row < m; row++) {
        for (int column = 0; column < n; column++) {
            const float found = b[row + column * ldb], wanted = x[row + column * ldb];
            if (!(fabs(found - wanted) < 1e-3f)) {
                return printf("system %dx%d: %g, not %g\n", m, n, found, wanted), false;
            }
        }
    }
    return true;
}

int main() {
    int products = 0, systems = 0;
    for (int i = 0; i < 60; i++) {
        if (!right<float, float>(false) || !right<Quarters, float>(false) || !right<Quarters, float>(true) ||
            !right<Quarters, Result>(true)) {
            return 1;
        }
        products += 4;
    }
    for (; systems < 40; systems++) {
        if (!solved()) {
            return 1;
        }
    }
    printf("%d products\n%d systems\n", products, systems);
}
