// The block-wide matrix product that all dense kernels share: one block of threads makes one tile of C = A B,
//
//     C[m, n] = sum over k of A[m, k] B[k, n]
//
// A matrix product reads each element many times. How it uses the levels of memory decides how fast it is:
//
//   global -> shared      A block needs TILE_M rows of A and TILE_N columns of B. It loads them in steps of TILE_K values
//                         of k. It reads each element once from global memory and uses it TILE_N or TILE_M times.
//   shared -> registers   A thread computes THREAD_M x THREAD_N results, e.g. 8 x 8: for every k it reads 8 + 8 elements
//                         and multiplies 64 times. With one result per thread it would read two for each product.
//   double buffering      While the threads multiply step s, the elements of step s + 1 travel from global memory to
//                         registers; after that the threads put them into shared memory. There are two sets of tiles, so
//                         fast threads can write one set while the others still read the other.
//
// product.cuh multiplies, with the macro TF32 on tensor cores (compute capability 8.0 and later); a kernel is the same for
// both. A kernel looks like this:
//
//     typedef Product<128, 64> P;                                  // the tile of C: TILE_M, TILE_N
//     KERNEL __launch_bounds__(GEMM_THREADS) f(...) {              // always launched with GEMM_THREADS threads
//       __shared__ P::Tiles tiles;
//       gemm<P>(tiles, loader_a, loader_b, output, first_row, first_column, k_begin, steps);
//     }
//
// It computes rows first_row .. first_row + TILE_M - 1 and columns first_column .. + TILE_N - 1 of C, summed over
// steps * TILE_K values of k from k_begin on (fewer than K: one chunk of a sum that is split among blocks). gemm does not
// know the sizes of the matrices: the loaders and the output handle what lies outside. All threads of a block must call
// gemm; a __syncthreads() must come before the same tiles are used again.
//
// Sizes: TILE_M, TILE_N are 128 x 64, 64 x 64, 128 x 32, 256 x 16, ... with TILE_M * TILE_N / 128 = 16 to 64 results per
// thread. first_column and TILE_N are multiples of 4.
//
// LOADERS return four neighboring elements of A or B at a time, as the matrix lies in memory. A loader is a struct
// that can be copied; gemm makes one copy for each group of four that a thread loads. `line` is a row m of A or a
// column n of B:
//
//     static constexpr bool ALONG_K      true: the four belong to k, k + 1, k + 2, k + 3 of one line
//                                        false: they belong to line, line + 1, line + 2, line + 3 at one k
//                                        (a plain member if only the launch knows: a little slower)
//     void start(size_t line, size_t k)  go to the first four. Called once, so divisions are allowed
//     float4 fetch() const               the four at the present k; 0 for elements outside of the matrix
//     void advance(int terms)            k += terms, always TILE_K: the line stays, so no division is needed
//
// Elements outside must be 0 in A *and* in B, or 0 * inf would be nan. `k` is a number that both loaders must interpret in
// the same way: a convolution may count its taps in whole steps, and leave the rest of a step's channels 0.
//
// THE OUTPUT takes the results, four neighboring columns at a time:
//
//     void store(size_t row, int column, float4 sums) const      column % 4 == 0; part of it may lie outside of C
//
// The order of every sum depends only on the sizes: results are the same in each run.

// ---------------------------------------------------------------------------------------- four neighbors in memory
// Four neighbors p[0] .. p[3], of which the first `count` exist (none if it is not positive); the others are 0.
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

// ---------------------------------------------------------------------------------------- from global to shared memory
// One thread's part in loading a tile of LINES lines x TILE_K values of k: COUNT groups of four.
template <class Loader, int LINES>
struct Staged {
  static constexpr int TILE_K = GEMM_TILE_K, GROUPS = LINES * TILE_K / 4;
  static constexpr int COUNT = (GROUPS + GEMM_THREADS - 1) / GEMM_THREADS;

  Loader loaders[COUNT];
  float4 values[COUNT];

  // Neighboring threads load what is neighboring in memory: along k if four of those lie side by side, else along
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
    // A thread that writes these tiles has passed the barrier of step - 1, so all threads have finished step - 2, which
    // read the same tiles. One barrier for each step is enough.
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
