// with matmul/batch.cuh
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
// and in blocked.cu:
//   3 matmul_blocked   128 x 64 results per block and 8 x 8 per thread, in registers: one number from shared memory for
//                      four products, the next tiles on their way meanwhile; float only.
//   4 the same with the macro TF32: tensor cores multiply, factors rounded to 10 bits of mantissa.

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
