// The block-wide matrix product that all dense kernels share: one block of threads makes one tile of C = A B,
//
//     C[m, n] = sum over k of A[m, k] B[k, n]
//
// A matrix product reads each number many times. The three levels of memory decide how fast:
//
//   global -> shared      A block needs TILE_M rows of A and TILE_N columns of B. They come in steps of TILE_K values of
//                         k. Each number is read once from global memory and used TILE_N or TILE_M times.
//   shared -> registers   A thread makes THREAD_M x THREAD_N results, e.g. 8 x 8: for every k it reads 8 + 8 numbers and
//                         multiplies 64 times. With one result per thread it would read two for each product.
//   double buffering      While step s is multiplied, the numbers of step s + 1 are on their way from global memory to
//                         registers; only then are they put into shared memory. There are two sets of tiles, so that the
//                         threads that are ahead write the one while the others still read the other.
//
// With the macro TF32 the multiplication runs on tensor cores (compute capability 8.0 and later); a kernel is written
// once for both. A kernel looks like this:
//
//     typedef Product<128, 64> P;                                  // the tile of C: TILE_M, TILE_N
//     KERNEL __launch_bounds__(GEMM_THREADS) f(...) {              // always launched with GEMM_THREADS threads
//       __shared__ P::Tiles tiles;
//       gemm<P>(tiles, loader_a, loader_b, output, first_row, first_column, k_begin, steps);
//     }
//
// It computes rows first_row .. first_row + TILE_M - 1 and columns first_column .. + TILE_N - 1 of C, summed over
// steps * TILE_K values of k from k_begin on (fewer than K: one chunk of a sum that is split among blocks). What lies
// outside of the matrices is the loaders' and the output's business: gemm itself knows no sizes. All threads of a
// block must call it; before the same tiles are used again there must be a __syncthreads().
//
// Sizes: TILE_M, TILE_N are 128 x 64, 64 x 64, 128 x 32, 256 x 16, ... with TILE_M * TILE_N / 128 = 16 to 64 results per
// thread. first_column and TILE_N are multiples of 4.
//
// LOADERS deliver four neighbouring numbers of A or B at a time, as the matrix lies in memory. A loader is a struct
// that can be copied; gemm makes one copy for each group of four that a thread loads. `line` is a row m of A or a
// column n of B:
//
//     static constexpr bool ALONG_K      true: the four belong to k, k + 1, k + 2, k + 3 of one line
//                                        false: they belong to line, line + 1, line + 2, line + 3 at one k
//                                        (a plain member where only the launch knows: a little slower)
//     void start(size_t line, size_t k)  where the first four are. Called once: here may be divisions
//     float4 fetch() const               the four at the present k; 0 for those that lie outside of the matrix
//     void advance(int terms)            k += terms, always TILE_K: the line stays, no division is needed
//
// What lies outside must be 0 in A *and* in B, or 0 * inf would be nan. `k` is only a number that both loaders understand
// alike: a convolution may count its taps in whole steps, and leave the rest of a step's channels 0.
//
// THE OUTPUT takes the results, four neighbouring columns at a time:
//
//     void store(size_t row, int column, float4 sums) const      column % 4 == 0; part of it may lie outside of C
//
// The order of every sum is fixed by the sizes alone: results are the same in each run.

constexpr int GEMM_THREADS = 128;
constexpr int GEMM_TILE_K = 8;

// ---------------------------------------------------------------------------------------- four neighbours in memory
// Four neighbours p[0] .. p[3], of which the first `count` exist (none if it is not positive); the others are 0.
// is_vector: p is a multiple of 16 bytes, and all four exist or none.
__device__ inline float4 load4(const float* p, int count, bool is_vector) {
  if (is_vector && count > 0) return *(const float4*)p;
  float4 v = make_float4(0, 0, 0, 0);
  if (count > 0) v.x = p[0];
  if (count > 1) v.y = p[1];
  if (count > 2) v.z = p[2];
  if (count > 3) v.w = p[3];
  return v;
}

// The same for writing.
__device__ inline void store4(float* p, float4 v, int count, bool is_vector) {
  if (is_vector && count > 0) {
    *(float4*)p = v;
    return;
  }
  if (count > 0) p[0] = v.x;
  if (count > 1) p[1] = v.y;
  if (count > 2) p[2] = v.z;
  if (count > 3) p[3] = v.w;
}

// ---------------------------------------------------------------------------------------- two ways to multiply
#ifndef TF32
// Ordinary multiply-adds in float. Thread (tm, tn) makes the rows 4 tm .. 4 tm + 3 of each group of rows, and likewise
// columns: neighbouring threads read neighbouring float4, which takes the fewest accesses to shared memory.
template <int TILE_M_, int TILE_N_>
struct Product {
  static constexpr int TILE_M = TILE_M_, TILE_N = TILE_N_, TILE_K = GEMM_TILE_K;
  static constexpr int THREAD_N = TILE_N >= 64 ? 8 : 4, THREAD_M = TILE_M * TILE_N / GEMM_THREADS / THREAD_N;
  static constexpr int ACROSS = TILE_N / THREAD_N;              // threads side by side
  static constexpr int GROUP_M = 4 * (GEMM_THREADS / ACROSS);  // rows in a group: 4 of each thread
  static constexpr int GROUP_N = 4 * ACROSS;
  static_assert(THREAD_M > 0 && THREAD_M % 4 == 0 && THREAD_N % 4 == 0, "a thread makes blocks of 4 x 4 results");
  // Threads that put four values of k into a tile write four lines; a line longer by 4 puts them in different banks.
  static constexpr int PADDING = 4;
  typedef float Element;
  struct alignas(16) Tiles {
    Element a[2][TILE_K][TILE_M + PADDING];
    Element b[2][TILE_K][TILE_N + PADDING];
  };

  float sums[THREAD_M][THREAD_N];

  __device__ void clear() {
#pragma unroll
    for (int i = 0; i < THREAD_M; ++i)
#pragma unroll
      for (int j = 0; j < THREAD_N; ++j) sums[i][j] = 0;
  }

  __device__ void multiply(const Element (&a)[TILE_K][TILE_M + PADDING], const Element (&b)[TILE_K][TILE_N + PADDING]) {
    const int tm = threadIdx.x / ACROSS, tn = threadIdx.x % ACROSS;
#pragma unroll
    for (int k = 0; k < TILE_K; ++k) {
      float4 rows[THREAD_M / 4], columns[THREAD_N / 4];
#pragma unroll
      for (int i = 0; i < THREAD_M / 4; ++i) rows[i] = *(const float4*)&a[k][i * GROUP_M + 4 * tm];
#pragma unroll
      for (int j = 0; j < THREAD_N / 4; ++j) columns[j] = *(const float4*)&b[k][j * GROUP_N + 4 * tn];
#pragma unroll
      for (int i = 0; i < THREAD_M / 4; ++i)
#pragma unroll
        for (int j = 0; j < THREAD_N / 4; ++j) {
          add_row(4 * i, 4 * j, rows[i].x, columns[j]);
          add_row(4 * i + 1, 4 * j, rows[i].y, columns[j]);
          add_row(4 * i + 2, 4 * j, rows[i].z, columns[j]);
          add_row(4 * i + 3, 4 * j, rows[i].w, columns[j]);
        }
    }
  }

  __device__ void add_row(int i, int j, float a, float4 b) {
    sums[i][j] += a * b.x;
    sums[i][j + 1] += a * b.y;
    sums[i][j + 2] += a * b.z;
    sums[i][j + 3] += a * b.w;
  }

  template <class Output>
  __device__ void deliver(const Output& output, size_t first_row, int first_column) const {
    const int tm = threadIdx.x / ACROSS, tn = threadIdx.x % ACROSS;
#pragma unroll
    for (int i = 0; i < THREAD_M; ++i)
#pragma unroll
      for (int j = 0; j < THREAD_N; j += 4)
        output.store(first_row + i / 4 * GROUP_M + 4 * tm + i % 4, first_column + j / 4 * GROUP_N + 4 * tn,
                       make_float4(sums[i][j], sums[i][j + 1], sums[i][j + 2], sums[i][j + 3]));
  }
};

__device__ inline void put4(float* p, float4 v) { *(float4*)p = v; }
__device__ inline void put1(float* p, float v) { *p = v; }

#else
// Tensor cores: the 32 threads of a warp together multiply 16 x 8 numbers by 8 x 8, with `mma`. The factors are rounded
// to TF32, 10 bits of mantissa for float's 23; the sums are float. PTX ISA, "Warp-level matrix instructions": which
// thread holds which number. With g = lane / 4 and t = lane % 4,
//
//     A (16 x 8)   a0 = A[g, t]   a1 = A[g + 8, t]   a2 = A[g, t + 4]   a3 = A[g + 8, t + 4]
//     B (8 x 8)    b0 = B[t, g]   b1 = B[t + 4, g]
//     D (16 x 8)   d0 = D[g, 2t]  d1 = D[g, 2t + 1]  d2 = D[g + 8, 2t]  d3 = D[g + 8, 2t + 1]
#ifndef CUSIM
__device__ inline u32 to_tf32(float x) {
  u32 bits;
  asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(bits) : "f"(x));
  return bits;
}

// d += a b
__device__ inline void mma_m16n8k8_tf32(float (&d)[4], const u32 (&a)[4], const u32 (&b)[2]) {
  asm volatile(
      "mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}
#endif

template <int TILE_M_, int TILE_N_>
struct Product {
  static constexpr int TILE_M = TILE_M_, TILE_N = TILE_N_, TILE_K = GEMM_TILE_K;
  // The four warps side by side, each with up to 32 columns, then one below the other.
  static constexpr int WARP_N = TILE_N < 32 ? TILE_N : 32, WARPS_ACROSS = TILE_N / WARP_N;
  static constexpr int WARP_M = TILE_M / (GEMM_THREADS / 32 / WARPS_ACROSS);
  static constexpr int COUNT_M = WARP_M / 16, COUNT_N = WARP_N / 8;
  static_assert(COUNT_M > 0 && WARP_M % 16 == 0 && WARP_N % 8 == 0, "a warp makes blocks of 16 x 8 results");
  // The 32 lanes read at t * (TILE + 8) + g: in 32 different banks.
  static constexpr int PADDING = 8;
  typedef u32 Element;
  struct alignas(16) Tiles {
    Element a[2][TILE_K][TILE_M + PADDING];
    Element b[2][TILE_K][TILE_N + PADDING];
  };

  float sums[COUNT_M][COUNT_N][4];

  __device__ void clear() {
#pragma unroll
    for (int i = 0; i < COUNT_M; ++i)
#pragma unroll
      for (int j = 0; j < COUNT_N; ++j)
#pragma unroll
        for (int d = 0; d < 4; ++d) sums[i][j][d] = 0;
  }

  static __device__ int warp_row() { return threadIdx.x / 32 / WARPS_ACROSS * WARP_M; }
  static __device__ int warp_column() { return threadIdx.x / 32 % WARPS_ACROSS * WARP_N; }

  __device__ void multiply(const Element (&a)[TILE_K][TILE_M + PADDING], const Element (&b)[TILE_K][TILE_N + PADDING]) {
    const int g = threadIdx.x % 32 / 4, t = threadIdx.x % 4;
#pragma unroll
    for (int k = 0; k < TILE_K; k += 8) {
      u32 columns[COUNT_N][2];
#pragma unroll
      for (int j = 0; j < COUNT_N; ++j) {
        const int n = warp_column() + 8 * j + g;
        columns[j][0] = b[k + t][n];
        columns[j][1] = b[k + t + 4][n];
      }
#pragma unroll
      for (int i = 0; i < COUNT_M; ++i) {
        const int m = warp_row() + 16 * i + g;
        const u32 rows[4] = {a[k + t][m], a[k + t][m + 8], a[k + t + 4][m], a[k + t + 4][m + 8]};
#pragma unroll
        for (int j = 0; j < COUNT_N; ++j) mma_m16n8k8_tf32(sums[i][j], rows, columns[j]);
      }
    }
  }

  // Two neighbouring lanes hold columns 0, 1 and 2, 3 of two rows. They exchange halves: the even lane gets four columns
  // of the upper row, the odd one four of the lower.
  template <class Output>
  __device__ void deliver(const Output& output, size_t first_row, int first_column) const {
    const int g = threadIdx.x % 32 / 4, t = threadIdx.x % 4;
    const bool is_odd = t % 2;
#pragma unroll
    for (int i = 0; i < COUNT_M; ++i)
#pragma unroll
      for (int j = 0; j < COUNT_N; ++j) {
        const float(&d)[4] = sums[i][j];
        const float got_0 = __shfl_xor_sync(0xffffffffu, is_odd ? d[0] : d[2], 1);
        const float got_1 = __shfl_xor_sync(0xffffffffu, is_odd ? d[1] : d[3], 1);
        output.store(first_row + warp_row() + 16 * i + g + (is_odd ? 8 : 0),
                       first_column + warp_column() + 8 * j + 4 * (t / 2),
                       is_odd ? make_float4(got_0, got_1, d[2], d[3]) : make_float4(d[0], d[1], got_0, got_1));
      }
  }
};

__device__ inline void put4(u32* p, float4 v) {
  *(uint4*)p = make_uint4(to_tf32(v.x), to_tf32(v.y), to_tf32(v.z), to_tf32(v.w));
}
__device__ inline void put1(u32* p, float v) { *p = to_tf32(v); }
#endif

// ---------------------------------------------------------------------------------------- from global to shared memory
// One thread's part in loading a tile of LINES lines x TILE_K values of k: COUNT groups of four.
template <class Loader, int LINES>
struct Staged {
  static constexpr int TILE_K = GEMM_TILE_K, GROUPS = LINES * TILE_K / 4;
  static constexpr int COUNT = (GROUPS + GEMM_THREADS - 1) / GEMM_THREADS;

  Loader loaders[COUNT];
  float4 values[COUNT];

  // Neighbouring threads load what is neighbouring in memory: along k if four of those lie side by side, else along
  // the lines. Tiles of few lines leave some threads without work.
  static __device__ int group(int i) { return threadIdx.x + i * GEMM_THREADS; }
  static __device__ bool exists(int i) { return GROUPS % GEMM_THREADS == 0 || group(i) < GROUPS; }
  static __device__ int line(int i, bool along_k) {
    return along_k ? group(i) / (TILE_K / 4) : group(i) % (LINES / 4) * 4;
  }
  static __device__ int k(int i, bool along_k) {
    return along_k ? group(i) % (TILE_K / 4) * 4 : group(i) / (LINES / 4);
  }

  __device__ void start(const Loader& loader, size_t first_line, size_t k_begin) {
#pragma unroll
    for (int i = 0; i < COUNT; ++i)
      if (exists(i)) {
        loaders[i] = loader;
        loaders[i].start(first_line + line(i, loader.ALONG_K), k_begin + k(i, loader.ALONG_K));
      }
  }

  __device__ void fetch() {
#pragma unroll
    for (int i = 0; i < COUNT; ++i)
      if (exists(i)) {
        values[i] = loaders[i].fetch();
        loaders[i].advance(TILE_K);
      }
  }

  template <class Element, int PITCH>
  __device__ void put(Element (&tile)[TILE_K][PITCH]) const {
#pragma unroll
    for (int i = 0; i < COUNT; ++i)
      if (exists(i)) {
        const bool along_k = loaders[i].ALONG_K;
        const int at_line = line(i, along_k), at_k = k(i, along_k);
        if (along_k) {
          put1(&tile[at_k][at_line], values[i].x);
          put1(&tile[at_k + 1][at_line], values[i].y);
          put1(&tile[at_k + 2][at_line], values[i].z);
          put1(&tile[at_k + 3][at_line], values[i].w);
        } else {
          put4(&tile[at_k][at_line], values[i]);
        }
      }
  }
};

// ---------------------------------------------------------------------------------------- the product
template <class P, class LoaderA, class LoaderB, class Output>
__device__ inline void gemm(typename P::Tiles& tiles, const LoaderA& loader_a, const LoaderB& loader_b,
                            const Output& output, size_t first_row, int first_column, size_t k_begin, int steps) {
  Staged<LoaderA, P::TILE_M> a;
  Staged<LoaderB, P::TILE_N> b;
  P product;
  product.clear();
  a.start(loader_a, first_row, k_begin);
  b.start(loader_b, first_column, k_begin);
  a.fetch();
  b.fetch();
  for (int step = 0; step < steps; ++step) {
    // Who writes these tiles has passed the barrier of the step before; so everybody has finished the one before that,
    // which read them. One barrier for each step is enough.
    a.put(tiles.a[step % 2]);
    b.put(tiles.b[step % 2]);
    __syncthreads();
    if (step + 1 < steps) {
      a.fetch();
      b.fetch();
    }
    product.multiply(tiles.a[step % 2], tiles.b[step % 2]);
  }
  product.deliver(output, first_row, first_column);
}
