// The inner part of gemm.cuh: the threads of a block multiply two tiles in shared memory and keep the sums in registers.
// There are two structs Product: with multiply-adds, and, with the macro TF32, on tensor cores.

constexpr int GEMM_THREADS = 128;
constexpr int GEMM_TILE_K = 8;

// Two sets of tiles of A and B in shared memory (double buffering, see gemm.cuh).
template <class Element, int PITCH_A, int PITCH_B>
struct alignas(16) TilePairs {
  Element a[2][GEMM_TILE_K][PITCH_A];
  Element b[2][GEMM_TILE_K][PITCH_B];
};

#ifndef TF32
// Ordinary multiply-adds in float. Thread (tm, tn) makes the rows 4 tm .. 4 tm + 3 of each group of rows, and likewise
// columns: neighboring threads read neighboring float4, which takes the fewest accesses to shared memory.
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
  typedef TilePairs<Element, TILE_M + PADDING, TILE_N + PADDING> Tiles;

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
  typedef TilePairs<Element, TILE_M + PADDING, TILE_N + PADDING> Tiles;

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

  // Two neighboring lanes hold columns 0, 1 and 2, 3 of two rows. They exchange halves: the even lane gets four columns
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
