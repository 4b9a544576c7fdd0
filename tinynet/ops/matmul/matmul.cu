// with gemm.cuh
// Matrix products of a batch, z[b] = x[b] y[b]:
//
//     z[i, k] = sum over j of x[i, j] y[j, k]          x (rows, terms), y (terms, columns), z (rows, columns)
//
// Either matrix may lie transposed in memory; x and y may each be one matrix for several of the batch. z is contiguous.
//
// Versions:
//   1 matmul_naive     one thread per result, the definition. Each number of x is read `columns` times from global memory,
//                      each of y `rows` times; the caches help a little.
//   2 matmul_tiled     a block makes 16 x 16 results, and its threads read x and y together, 16 x 16 numbers at a time,
//                      into shared memory: global memory is read 16 times less. One result per thread, so every
//                      product still needs two numbers from shared memory: that is the limit now.
//   3 matmul_blocked   128 x 64 results per block and 8 x 8 per thread, in registers: one number from shared memory for
//                      four products, the next tiles on their way meanwhile; float4 (see gemm.cuh). float only.
//   4 the same with the macro TF32: tensor cores multiply, factors rounded to 10 bits of mantissa.
//
// Few results of long sums would leave most of the GPU idle: there the sum is cut into chunks, each a block of its own,
// and matmul_add_chunks adds their results up in the order of the chunks, the same in each run.

// Where matrix b of the batch begins: the batch counts through two axes, of which either operand may stay put in one.
__device__ inline size_t matrix_start(size_t b, int inner, size_t outer_stride, size_t inner_stride) {
  return b / inner * outer_stride + b % inner * inner_stride;
}

// x[i, j] lies at i * x_row + j * x_term, y[j, k] at j * y_term + k * y_column.
KERNEL matmul_naive(const real* __restrict__ x, const real* __restrict__ y, real* __restrict__ z, size_t n, int rows,
                    int columns, int terms, size_t x_row, size_t x_term, size_t y_term, size_t y_column, int inner,
                    size_t x_outer, size_t x_inner, size_t y_outer, size_t y_inner) {
  for (size_t at = thread_number(); at < n; at += thread_count()) {
    const size_t k = at % columns, i = at / columns % rows, b = at / columns / rows;
    const real* xs = x + matrix_start(b, inner, x_outer, x_inner) + i * x_row;
    const real* ys = y + matrix_start(b, inner, y_outer, y_inner) + k * y_column;
    real sum = 0;
    for (int j = 0; j < terms; ++j) sum += xs[j * x_term] * ys[j * y_term];
    z[at] = sum;
  }
}

// Threads (TILE, TILE); blockIdx.x counts through the tiles of one matrix, then through the batch.
#define TILE 16
KERNEL matmul_tiled(const real* __restrict__ x, const real* __restrict__ y, real* __restrict__ z, int rows, int columns,
                    int terms, size_t x_row, size_t x_term, size_t y_term, size_t y_column, int inner, size_t x_outer,
                    size_t x_inner, size_t y_outer, size_t y_inner) {
  __shared__ real x_tile[TILE][TILE], y_tile[TILE][TILE];
  const int across = (columns - 1) / TILE + 1, down = (rows - 1) / TILE + 1;
  const size_t b = blockIdx.x / across / down;
  const int tx = threadIdx.x, ty = threadIdx.y;
  const int i = blockIdx.x / across % down * TILE + ty, k = blockIdx.x % across * TILE + tx;
  x += matrix_start(b, inner, x_outer, x_inner) + i * x_row;
  y += matrix_start(b, inner, y_outer, y_inner) + k * y_column;
  real sum = 0;
  for (int first = 0; first < terms; first += TILE) {
    x_tile[ty][tx] = i < rows && tx < terms - first ? x[(first + (size_t)tx) * x_term] : 0;
    y_tile[ty][tx] = k < columns && ty < terms - first ? y[(first + (size_t)ty) * y_term] : 0;
    __syncthreads();  // both tiles are complete
#pragma unroll
    for (int j = 0; j < TILE; ++j) sum += x_tile[ty][j] * y_tile[j][tx];
    __syncthreads();  // everybody is done with them, before the next numbers come
  }
  if (i < rows && k < columns) z[(b * rows + i) * columns + k] = sum;
}

#ifndef X_ALONG_TERMS
#define X_ALONG_TERMS 1  // neighbours in memory are x[i, j], x[i, j + 1]; 0: x[i, j], x[i + 1, j], x lies transposed
#define Y_ALONG_TERMS 0  // neighbours in memory are y[j, k], y[j, k + 1]; 1: y[j, k], y[j + 1, k], y lies transposed
#endif

// A contiguous matrix; lines are rows of x or columns of y, `terms` long.
template <bool ALONG_TERMS>
struct MatrixLoader {
  static constexpr bool ALONG_K = ALONG_TERMS;
  const float* p;   // of the matrix; from `start` on, of the next four
  int lines, terms;
  bool is_vector;
  int width, left;  // from p on: lines, and terms

  __device__ void start(size_t line, size_t k) {
    p += ALONG_K ? line * terms + k : k * lines + line;
    width = line < lines ? (int)(lines - line) : 0;
    left = k < terms ? (int)(terms - k) : 0;
  }
  __device__ float4 fetch() const {
    const bool is_inside = width > 0 && left > 0;
    return load4(p, !is_inside ? 0 : ALONG_K ? left : width, is_vector);
  }
  __device__ void advance(int count) {
    p += ALONG_K ? count : (size_t)count * lines;
    left -= count;
  }
};

struct MatrixStore {
  float* z;
  int rows, columns;
  bool is_vector;
  __device__ void store(size_t row, int column, float4 sums) const {
    if (row < rows) store4(z + row * columns + column, sums, columns - column, is_vector);
  }
};

// blockIdx.x counts through the tiles of one matrix, then through the batch. blockIdx.y is a chunk of the sum, of `steps`
// steps; chunk c leaves its results in z[c], an array of the size of the whole batch.
typedef Product<128, 64> P;
KERNEL __launch_bounds__(GEMM_THREADS)
    matmul_blocked(const float* __restrict__ x, const float* __restrict__ y, float* __restrict__ z, int batch, int rows,
                   int columns, int terms, int inner, size_t x_outer, size_t x_inner, size_t y_outer, size_t y_inner,
                   int steps, int x_is_vector, int y_is_vector, int z_is_vector) {
  __shared__ P::Tiles tiles;
  const int across = (columns - 1) / P::TILE_N + 1, down = (rows - 1) / P::TILE_M + 1;
  const size_t b = blockIdx.x / across / down, size = (size_t)rows * columns;
  const MatrixLoader<X_ALONG_TERMS> a = {x + matrix_start(b, inner, x_outer, x_inner), rows, terms, x_is_vector != 0};
  const MatrixLoader<Y_ALONG_TERMS> c = {y + matrix_start(b, inner, y_outer, y_inner), columns, terms, y_is_vector != 0};
  const MatrixStore results = {z + ((size_t)blockIdx.y * batch + b) * size, rows, columns, z_is_vector != 0};
  gemm<P>(tiles, a, c, results, (size_t)(blockIdx.x / across % down) * P::TILE_M, blockIdx.x % across * P::TILE_N,
          (size_t)blockIdx.y * steps * P::TILE_K, steps);
}

// z[i] = sum over c of chunks[c, i]
KERNEL matmul_add_chunks(const real* __restrict__ chunks, real* __restrict__ z, size_t n, int count) {
  for (size_t i = thread_number(); i < n; i += thread_count()) {
    real sum = 0;
    for (int c = 0; c < count; ++c) sum += chunks[c * n + i];
    z[i] = sum;
  }
}
